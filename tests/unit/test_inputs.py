"""Which values of labels a runbook takes."""

from __future__ import annotations

import pytest

from responder.rules import Rules
from responder.runbook import Input

RULES = Rules("h", {}, {}, {}, "p", {"day": "[0-9]+", "digits": r"\d+"})


@pytest.mark.parametrize(
    ("given", "value", "told"),
    [
        (Input(label="day", type="day"), "12", None),
        (Input(label="day", type="day"), "12 ", "label day='12 ' is not a day"),
        (Input(label="day", type="digits"), "٣٤", "label day='٣٤' is not a digits"),
        (Input(label="day", pattern="a|b"), "c", "label day='c' is not /a|b/"),
        (Input(label="day", one_of=("a", "b")), "b", None),
        (Input(label="day", one_of=("a", "b")), "", "label day='' is not one of a, b"),
        (Input(one_of=("a",)), "x" * 70, f"input x='{'x' * 57}...' is not one of a"),
    ],
)
def test_a_value_fits_or_it_is_said_why(given: Input, value: str, told: str | None) -> None:
    assert RULES.input_problem("x", given, value) == told


def test_a_value_cannot_stall_the_program() -> None:
    """Python's own `re` would be busy with this one for minutes."""
    assert RULES.input_problem("x", Input(label="desk", pattern="(a+)+b"), "a" * 40) is not None
