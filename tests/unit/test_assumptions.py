"""Values that make conditions true or false, found from the conditions themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.assumptions import Assumption, beginning, check_value, output_for, solution
from responder.contracts import Parameter, ReadSpec, WriteSpec
from responder.expressions import evaluate, parse_expression
from tests.builders import a_runbook, cut_step, rules_of

VALUE = frozenset({"value"})


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "value > 1.8",
        "value == 1",
        "value != 0",
        "1 < value < 1.05",
        "value <= -3 or value == 7",
        'value in ["CLOSED", "HALF_OPEN"]',
        'value.state == "ok" and value.count >= 3',
        "not value.halted",
        "value.before - value.after > 10",
        "value == null",
    ],
)
def test_a_value_for_either_answer(text: str, holds: bool) -> None:
    condition = parse_expression(text)
    found = solution([(condition, holds)], {}, VALUE)
    assert found is not None
    answer = evaluate(condition, found)
    assert (answer.holds, answer.unknown) == (holds, False)


def test_what_cannot_be_is_not_found() -> None:
    assert solution([(parse_expression("value > 2 and value < 1"), True)], {}, VALUE) is None


@given(
    st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), st.booleans()
)
def test_any_threshold_has_a_value_on_both_sides(number: float, symbol: str, holds: bool) -> None:
    condition = parse_expression(f"value {symbol} {number:f}")
    found = solution([(condition, holds)], {}, VALUE)
    assert found is not None
    assert evaluate(condition, found).holds is holds


def test_a_check_says_one_thing_before_it_helped_and_another_after() -> None:
    book = rules_of(a_runbook(only_if={"check": "risk", "expect": "value > 0.9"})).runbooks["cut"]
    before, after = check_value(book, "risk", helped=False), check_value(book, "risk", helped=True)
    assert isinstance(before, int | float)
    assert isinstance(after, int | float)
    assert before > 0.9
    assert not before < 1
    assert after < 1


def test_where_start_and_end_contradict_each_other_what_starts_it_counts() -> None:
    book = rules_of(a_runbook(only_if={"check": "risk", "expect": "value < 0.5"})).runbooks["cut"]
    before = check_value(book, "risk", helped=False)
    assert isinstance(before, int | float)
    assert before < 0.5


@pytest.mark.parametrize(
    ("expect", "values", "wanted"),
    [
        ("value.status == 200", {}, {"status": 200}),
        ('body.state == "ok" and status == 200', {}, {"body": {"state": "ok"}, "status": 200}),
        ("value > limit", {"limit": -5}, True),
    ],
)
def test_an_output_that_is_as_expected(expect: str, values: dict[str, object], wanted: object) -> None:
    found = output_for(expect, values)
    assert found == wanted or (wanted is True and isinstance(found, int | float))


def test_every_assumption_is_said() -> None:
    assert all("people do their steps" in assumption.said for assumption in Assumption)


def test_a_parameter_begins_high_enough_to_be_lowered_within_its_total() -> None:
    steps = [cut_step(), {**cut_step(), "id": "less", "with": {**cut_step()["with"], "to": 0.2}}]
    found = beginning(
        [rules_of(a_runbook(steps=steps))], {"risk-api/kelly_fraction": a_parameter(0.3), "x": a_parameter(0)}
    )
    assert found == {"risk-api/kelly_fraction": 0.35, "x": 0.1}


def a_parameter(total: float) -> Parameter:
    write = WriteSpec(path="/set")
    return Parameter(service="s", read=ReadSpec(path="/", value="v"), write=write, floor=0.05, total_per_day=total)
