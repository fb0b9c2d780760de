"""Whether an answer is the one that a step expects, and what people are told when it is not."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from responder import facts as f
from responder.expectations import Judged, judged, unmet
from responder.recorded import Effect, Outcome
from responder.runbook import Step
from tests.builders import a_plan, cut_step, ended, fired, intended, opened, started, told


def a_step(expect: str | None, **retry: object) -> Step:
    """With this condition."""
    return Step.model_validate(cut_step(expect=expect, retry={"attempts": 3, **retry}), by_alias=True)


def why(*outputs: JsonValue, expect: str = "value.done", effect: Effect = Effect.READ, detail: str = "") -> str | None:
    """Why the step has failed by the last of these answers."""
    facts: list[f.Fact | int] = [opened(), fired(), started()]
    for number, output in enumerate(outputs, 1):
        facts += [intended(number, a_plan(effect)), ended(Outcome.OK, number, output=output, detail=detail)]
    incident = told(*facts)
    (run,) = incident.runs
    return unmet(incident, run, a_step(expect, unless="value.failed"), run.attempts[-1])


@pytest.mark.parametrize(
    ("output", "expect", "holds"),
    [
        (3, "value > 1", True),
        (3, "value > 5", False),
        ({"value": 3, "state": "up"}, "value > 1", True),
        ({"value": 3, "state": "up"}, "state == 'up'", True),
        ({"value": 3, "state": "down"}, "state == 'up'", False),
        ({"done": True}, "value.done", True),
        ({"done": True}, "done", True),
        (None, "value > 1", False),
        (None, None, True),
    ],
)
def test_an_answer_is_a_value_or_names_with_values(output: JsonValue, expect: str | None, holds: bool) -> None:
    incident = told(opened(), fired(), started())
    assert judged(incident, incident.runs[0], a_step(expect), output).holds is holds


def test_what_has_finally_failed_is_not_as_expected_and_says_by_what() -> None:
    incident = told(opened(), fired(), started())
    step = a_step("value.done", unless="value.failed")
    run = incident.runs[0]
    assert judged(incident, run, step, {"done": True, "failed": True}) == Judged(holds=True)
    failed = judged(incident, run, step, {"done": False, "failed": True})
    assert failed == Judged(holds=False, why="value.failed true", final=True)
    assert judged(incident, run, step, {"done": False, "failed": False}) == Judged(holds=False, why="value.done false")


def test_what_people_are_told_counts_the_tries() -> None:
    no: JsonValue = {"done": False}
    assert why({"done": True}) is None
    assert why(no) == "expected value.done, but value.done false"
    assert why(no, no) == "expected value.done within 2 tries, but value.done false"
    assert why({"done": False, "failed": True}) == (
        "expected value.done, but value.failed true, so it has finally failed"
    )


def test_what_was_read_is_shown_and_what_a_change_answered_is_not() -> None:
    """The answer of a change stands with its attempt; of a reading the last one alone is of interest."""
    said = "expected value.done, but value.done false"
    assert why({"done": False}, detail="3 pods") == f"{said}; last seen: 3 pods"
    assert why({"done": False}, effect=Effect.SET, detail="3 pods") == said
    assert why({"done": False}) == said
