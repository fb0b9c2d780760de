"""What a look at the check says of a run that undoes harm: whether the harm is gone, whatever the alert still says."""

from __future__ import annotations

import pytest

from responder import facts as f
from responder.desk import Shelf
from responder.draft import Worker
from responder.operations import Learned, Report
from responder.recorded import Cause, Observation, Result, StepStatus
from responder.records import IncidentRow
from responder.timing import HOUR, MINUTE, SECOND
from responder.verification import verifying
from responder.view import Finish, Gather
from tests.builders import T0, Ledger, a_runbook, a_view, cut_step, fired, opened, rules_of, started, told

VERIFY = {"check": "risk", "expect": "value < 1", "within": "2m"}
ONE = Worker("one")


def told_of(cause: Cause, value: float | None, harmful: str | None = "value > 5") -> bool | None:
    """What is recorded of the first look: whether it holds. The alert would be content with less than 1."""
    verify = VERIFY if harmful is None else {**VERIFY, "harmful": harmful}
    book = Shelf(rules_of(a_runbook(steps=[cut_step(undo={})], verify=verify)), "test")
    done = f.StepEnded(run=1, step="cut", status=StepStatus.DONE, why="put back")
    incident = told(opened(), fired(), started(cause=cause, restores="i0.1.cut.1"), done, f.Verifying(run=1))
    ledger = Ledger()
    ledger.state.incidents["i1"] = IncidentRow("i1", "key", incident, "one", 1, T0 + HOUR)
    ledger.after(SECOND)
    at, error = T0 + SECOND, None if value is not None else "down"
    seen = Observation(check="risk", value=value, observed_at=at, asked_at=at, error=error)
    gather = Gather("cut", "h1", run=1, checks=("risk",))
    ledger.do(Report("r", "i1", gather, Learned(observations=(seen,)), 1, book, ONE))
    recorded = ledger.writes[-1].events[0].fact
    return recorded.holds if isinstance(recorded, f.Gathered) else None


@pytest.mark.parametrize(("value", "gone"), [(3.0, True), (6.0, False), (None, False)])
def test_what_was_undone_holds_as_soon_as_the_harm_is_gone(value: float | None, gone: bool) -> None:
    assert told_of(Cause.UNDO, value) is gone


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause is not Cause.UNDO])
def test_any_other_run_must_do_what_is_expected_of_it(cause: Cause) -> None:
    assert told_of(cause, 3.0) is False
    assert told_of(cause, 0.5) is True


def test_where_no_harm_is_declared_nothing_shows_that_it_is_gone() -> None:
    assert told_of(Cause.UNDO, 0.5, harmful=None) is False


def test_harm_that_cannot_be_compared_is_not_gone() -> None:
    assert told_of(Cause.UNDO, 3.0, harmful="value > before") is False, "nobody looked before"


def ended_after(cause: Cause, value: float) -> f.RunEnded | f.Closed:
    """How a run ends that was looked at in vain, and of whose step nobody knows whether it was done."""
    rules = rules_of(a_runbook(steps=[cut_step(undo={})], verify={**VERIFY, "harmful": f"value > {value + 1}"}))
    if cause is Cause.UNDO:
        rules = rules_of(a_runbook(steps=[cut_step(undo={})], verify={**VERIFY, "harmful": f"value > {value - 1}"}))
    lost = f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN, why="nobody could read it back")
    begun = (opened(), fired(), started(cause=cause, restores="i0.1.cut.1"), lost, f.Verifying(run=1))
    at = T0 + 2 * MINUTE
    seen = Observation(check="risk", value=value, observed_at=at, asked_at=at)
    looked = f.Gathered(run=1, observations=(seen,), holds=False)
    found = verifying(a_view(told(*begun, 2 * MINUTE, looked), rules, at))
    assert isinstance(found, Finish)
    return found.fact


def test_harm_that_remains_is_told_also_where_nobody_could_read_back_what_was_undone() -> None:
    remains = ended_after(Cause.UNDO, 6.0)
    assert isinstance(remains, f.RunEnded)
    assert remains.result is Result.INEFFECTIVE
    assert remains.why.startswith("nobody could read it back; but 2m later value 6")
    for cause in (Cause.ALERT, Cause.PERSON, Cause.RESTORE):
        unknown = ended_after(cause, 6.0)
        assert isinstance(unknown, f.RunEnded)
        assert (unknown.result, unknown.why) == (Result.UNKNOWN, "step cut: nobody could read it back")
