"""Who goes first on a target that another run still verifies (docs/adr/0022): the gate, and the mark on the lock."""

from __future__ import annotations

from typing import Any

import pytest

from responder import facts as f
from responder.cases import Case
from responder.guards import lock, superseded
from responder.incident import Incident
from responder.recorded import Answer, Cause, Outcome, Recorded, StepStatus
from responder.scopes import Lock, lock_of
from responder.scoping import scopes_after
from responder.timing import MINUTE, SECOND
from tests.builders import T0, a_runbook, ended, fired, intended, opened, rules_of, started, told

TARGET = "risk-api/kelly_fraction"
LOCK = f"lock:{TARGET}"
RUNBOOK = rules_of(a_runbook()).runbooks["cut"]


def of(severity: str | None = "critical", cause: Cause = Cause.ALERT) -> Incident:
    """An incident that would change the target."""
    return told(opened(severity=severity), fired(), started(cause=cause))


def held(number: int = 9, severity: str | None = "warning", **changes: Any) -> Lock:
    """What another run holds, which only verifies."""
    known = {"incident": f"i{number}", "run": 1, "since": T0 + number, "verifying": True, "severity": severity}
    return Lock.model_validate({**known, **changes})


def goes_over(incident: Incident, *holders: Lock) -> list[str]:
    """Whose verification a change by its run ends."""
    body = lock_of(holders)
    rows = {} if body is None else {LOCK: body.model_dump_json()}
    return [other.incident for other in superseded(incident, incident.runs[0], rows.get)]


def asked(incident: Incident, *holders: Lock) -> Case:
    """The case of its step, while these hold the target."""
    body = lock_of(holders)
    assert body is not None
    rows = {LOCK: body.model_dump_json()}
    run, step = incident.runs[0], RUNBOOK.steps[0]
    return Case(incident, run, RUNBOOK, step, None, rows.get, lambda _: None, {}, T0)


# --- who goes first ---------------------------------------------------------------------------------------------------


def test_a_higher_severity_ends_the_verification_of_a_lower_one() -> None:
    assert goes_over(of("critical"), held(severity="warning")) == ["i9"]
    verdict = lock(asked(of("critical"), held(severity="warning")))
    assert (verdict.answer, verdict.warn) == (Answer.ALLOW, False)
    assert verdict.reason == (f"{TARGET} is only being verified by run 1 of incident i9 (warning): critical goes first")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("critical", "critical"), ("warning", "high"), ("info", "warning"), ("critical", None), ("critical", "urgent"),
        (None, "info"), ("urgent", "info"),
    ],
)  # fmt: skip
def test_an_equal_a_higher_or_an_unknown_severity_is_waited_for(ours: str | None, theirs: str | None) -> None:
    """What nobody has ranked is above nothing and below nothing: it may not end what another run is measuring."""
    assert goes_over(of(ours), held(severity=theirs)) == []
    verdict = lock(asked(of(ours), held(severity=theirs)))
    assert (verdict.answer, verdict.until) == (Answer.WAIT, T0 + 5 * SECOND)


def test_what_is_still_being_changed_or_nobody_knows_about_is_never_ended() -> None:
    assert goes_over(of(), held(verifying=False)) == []
    assert goes_over(of(), held(unknown=True)) == []


def test_all_who_hold_the_target_must_yield() -> None:
    assert goes_over(of(), held(8), held(9)) == ["i8", "i9"]
    assert lock(asked(of(), held(8), held(9))).reason.count("(warning)") == 2
    assert goes_over(of(), held(8), held(9, severity="critical")) == []
    assert goes_over(of(), held(8), held(9, verifying=False)) == []


def test_a_free_target_and_its_own_lock_are_nobody_to_go_over() -> None:
    assert goes_over(of()) == []
    assert goes_over(of(), held(1)) == []
    assert goes_over(of(), held(1), held(9)) == ["i9"]


@pytest.mark.parametrize("cause", [Cause.RESTORE, Cause.UNDO])
def test_what_is_taken_back_never_goes_over_what_came_after_it(cause: Cause) -> None:
    assert goes_over(of("critical", cause), held(severity="info")) == []
    assert superseded(of("critical", cause), of("critical", cause).runs[0], dict[str, str]().get) == ()


# --- the mark on the lock ---------------------------------------------------------------------------------------------

OURS = Lock(incident="i1", run=1, since=T0)
ACTED: tuple[f.Fact, ...] = (opened(severity="high"), fired(), started(), intended())
DONE: tuple[f.Fact, ...] = (*ACTED, ended(Outcome.OK), f.StepEnded(run=1, step="cut", status=StepStatus.DONE))
ROSE = f.SeverityRose(before="high", severity="critical", policy="ladder")


def marked(*facts: f.Fact, body: Recorded | None = OURS) -> Any:
    """The lock after the last of the facts; None when that changes nothing."""
    event = f.Event(id="e", incident="i1", seq=len(facts), at=T0 + MINUTE, actor="responder", fact=facts[-1])
    rows = {} if body is None else {LOCK: body.model_dump_json()}
    found = [change.body for change in scopes_after(told(*facts), event, RUNBOOK, rows.get) if change.name == LOCK]
    return found[0] if found else None


def test_from_the_verification_on_the_lock_says_for_which_severity() -> None:
    assert marked(*DONE, f.Verifying(run=1)) == OURS.model_copy(update={"verifying": True, "severity": "high"})


def test_whoever_holds_it_beside_stays() -> None:
    both = lock_of((OURS, held()))
    mark = OURS.model_copy(update={"verifying": True, "severity": "high"})
    assert marked(*DONE, f.Verifying(run=1), body=both) == lock_of((held(), mark))


def test_a_run_that_does_not_know_what_it_has_done_is_not_marked() -> None:
    unknown = f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN)
    assert marked(*ACTED, ended(Outcome.UNKNOWN), unknown, f.Verifying(run=1)) is None, "its outcome is in doubt"
    assert marked(*ACTED, f.Verifying(run=1)) is None, "an attempt has no outcome yet"
    again = (*ACTED, ended(Outcome.UNKNOWN), intended(2), ended(Outcome.OK, 2), f.Verifying(run=1))
    assert marked(*again) is None, "its first try is in doubt, whatever became of the second"
    assert marked(*DONE, f.Verifying(run=1), body=OURS.model_copy(update={"unknown": True})) is None
    assert marked(*DONE, f.Verifying(run=1), body=None) is None, "it holds nothing"
    assert marked(*DONE, f.Verifying(run=1), body=held()) is None, "somebody else does"


@pytest.mark.parametrize("cause", [Cause.RESTORE, Cause.UNDO])
def test_what_takes_something_back_is_not_marked(cause: Cause) -> None:
    facts = (*DONE[:2], started(cause=cause, restores="a0"), *DONE[3:])
    assert marked(*facts, f.Verifying(run=1)) is None


def test_the_mark_follows_a_severity_that_rises() -> None:
    mark = OURS.model_copy(update={"verifying": True, "severity": "high"})
    verifying = (*DONE, f.Verifying(run=1))
    assert marked(*verifying, ROSE, body=mark) == mark.model_copy(update={"severity": "critical"})
    assert marked(*verifying, ROSE, body=OURS) is None, "it was not marked, and is not now"
    assert marked(*verifying, ROSE, body=None) is None
    assert marked(*DONE, ROSE, body=mark) is None, "it does not verify yet"
    assert marked(opened(severity="high"), fired(), ROSE, body=mark) is None, "there is no run"
