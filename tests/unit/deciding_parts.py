"""What follows in an incident as a whole: for the tests of `decide`."""

from __future__ import annotations

from typing import Any

from responder import facts as f
from responder.recorded import Result
from responder.rules import Rules
from responder.view import Finish, Next, Tell, View
from tests.builders import (
    T0,
    a_runbook,
    a_view,
    opened,
    rules_of,
    told,
)

RULES = rules_of(a_runbook())


def over(result: Result, run: int = 1, why: str = "no") -> f.RunEnded:
    """A run ends so."""
    return f.RunEnded(run=run, result=result, why=why)


def fact(found: Next | None) -> f.Fact | None:
    """The fact that is told, or that ends something."""
    return found.fact if isinstance(found, Tell | Finish) else None


def view(*facts: f.Fact | int, at: int = 0, rules: Rules = RULES, **changes: Any) -> View:
    """So long after T0, with other state where a test says so."""
    incident = told(opened(), *facts)
    return a_view(incident.model_copy(update=changes) if changes else incident, rules, T0 + at)
