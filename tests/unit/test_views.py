"""What decisions look at: the rules that an incident or a run began with, and the values that texts name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from responder import facts as f
from responder.calendars import Calendar
from responder.incident import Incident
from responder.recorded import Cause, Observation, Outcome, StepStatus
from responder.rules import Rules
from responder.view import View, values_of
from tests.builders import T0, a_runbook, a_view, ended, fired, intended, opened, rules_of, started, told

RULES = rules_of(a_runbook(), a_runbook(runbook="halt"))
NIGHTS = Calendar.model_validate({"days": "sat", "timezone": "UTC"})


def view(*facts: f.Fact, rules: Rules = RULES, **changes: Any) -> View:
    """Of an incident of `h1`; the rules `gone` cannot be read."""
    incident = told(opened(**changes), fired(), *facts)
    return a_view(incident, rules, T0)


def test_an_incident_has_the_rules_that_it_began_with() -> None:
    timed = replace(RULES, calendars={"nights": NIGHTS})
    assert view(rules=timed).rules is timed
    assert view(rules=timed).calendars == {"nights": NIGHTS}
    assert view().runbook is RULES.runbooks["cut"]
    assert view(runbook=None).runbook is None
    assert view(runbook="never").runbook is None
    gone = replace(view(), rules_of=lambda _: None)
    assert (gone.rules, gone.runbook, gone.calendars) == (None, None, {})


def test_a_run_has_the_rules_that_it_began_with() -> None:
    made = view(started(runbook="halt"))
    (run,) = made.incident.runs
    assert made.runbook_of(run) is RULES.runbooks["halt"]
    assert made.runbook_of(run.model_copy(update={"runbook": "never"})) is None
    assert made.runbook_of(run.model_copy(update={"rules_hash": "gone"})) is None


def values(incident: Incident, number: int | None = None) -> dict[str, Any]:
    """Of the run of that number, or of none."""
    return values_of(incident, next((run for run in incident.runs if run.number == number), None))


def test_without_a_run_texts_know_the_incident_and_its_inputs() -> None:
    known = told(opened(inputs={"symbol": "X"}))
    about = {"id": "i1", "severity": "critical", "target": "risk-api/kelly_fraction"}
    assert values(known) == {"symbol": "X", "incident": about}
    assert values(told(opened(severity=None)))["incident"]["severity"] == ""


SEEN = tuple(
    Observation(check=check, value=value, observed_at=T0, asked_at=T0, error=error)
    for check, value, error in (("risk", 2.0, None), ("other", None, "down"))
)
RUN = (
    started(inputs={"symbol": "X"}, steps=("cut", "more")),
    f.Gathered(run=1, observations=SEEN),
    intended(1), ended(Outcome.TEMPORARY, 1, output={"n": 1}), intended(2), ended(Outcome.OK, 2, output={"n": 2}),
    f.StepEnded(run=1, step="cut", status=StepStatus.DONE),
)  # fmt: skip


def test_of_a_run_they_know_its_steps_by_their_last_answer_and_what_was_read() -> None:
    found = values(told(opened(inputs={"symbol": "other"}), fired(), *RUN), 1)
    assert found["symbol"] == "X", "its own inputs"
    assert found["steps"] == {
        "cut": {"status": "done", "output": {"n": 2}}, "more": {"status": "pending", "output": None},
    }  # fmt: skip
    assert found["checks"] == {"risk": 2.0}, "what is missing is no value"
    assert found["run"] == {"number": 1, "runbook": "cut", "cause": "alert"}


def test_what_takes_a_change_back_speaks_of_the_run_that_made_it() -> None:
    back = started(number=2, cause=Cause.UNDO, restores="i1.1.cut.2", steps=("cut",))
    found = values(told(opened(), fired(), *RUN, back), 2)
    assert found["steps"]["cut"]["output"] == {"n": 2}
    assert found["checks"] == {"risk": 2.0}
    assert found["run"] == {"number": 2, "runbook": "cut", "cause": "undo"}
    old = started(number=2, cause=Cause.RESTORE, restores="i1.0.cut.1", steps=("cut",))
    forgotten = values(told(opened(), fired(), *RUN, old), 2)
    assert forgotten["steps"] == {"cut": {"status": "pending", "output": None}}, "that run is remembered no more"
