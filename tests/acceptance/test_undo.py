"""Undoing what did harm is verified: what was put back is read again, and the check must show that the harm is gone."""

from __future__ import annotations

from typing import Any

import pytest

from responder.recorded import Cause, Result, StepStatus
from tests.acceptance.stage import RISK, Stage, own, playing
from tests.builders import a_runbook, call_step

HARM = {"check": "risk", "expect": "value < 1", "within": "1m", "harmful": "value > before + 0.2"}
PAUSED = {"path": "/api/status", "expect": 'body.router == "paused"'}
HALT = a_runbook(
    runbook="halt-trading",
    title="Halt",
    match=None,
    target="trading",
    brake=True,
    verify={"check": "risk", "expect": "value == 1", "within": "1m"},
    steps=[call_step("halt", "/api/stop-trading")],
)
RUNS = {"path": "/api/status", "expect": 'body.router == "running"'}


def resuming(**more: Any) -> dict[str, Any]:
    """An `undo` that resumes the router."""
    request = {"service": "risk-api", "method": "POST", "path": "/api/router/resume", **more}
    return {"action": "http.request", "with": request}


def pausing(undo: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A step that pauses the router."""
    return call_step("pause", "/api/router/pause", undo=undo, more=more)


def stage_of(step: dict[str, Any], **parts: Any) -> Any:
    return playing(own(a_runbook(steps=[step], verify=HARM, **parts), HALT))


def harming(stage: Stage, after: float | None = 2.0) -> None:
    """The change makes it worse; once it is undone the check says `after`."""
    stage.world.numbers["risk"] = lambda: (3.0, after)[min(1, len(stage.world.done) - 1)] if stage.world.done else 2.0


def undone(stage: Stage) -> tuple[Result | None, str]:
    run = stage.last_run
    assert run.cause is Cause.UNDO
    return run.result, run.why


def test_what_was_undone_is_read_back_and_the_harm_is_seen_to_be_gone() -> None:
    with stage_of(pausing(resuming(probe=RUNS), probe=PAUSED)) as stage:
        harming(stage)
        stage.fires(RISK)
        stage.at("0:30")
        assert stage.world.done == ["/api/router/pause", "/api/router/resume"]
        result, why = undone(stage)
        assert result is Result.FIXED
        assert 'the probe says body.router "running" == "running"' in why
        assert "risk" in why
        assert "no harm" in why
        assert stage.pages == [("0:00", "first")], "nobody is woken again for what is in order"


def test_an_undo_that_is_not_in_force_is_told_and_paged() -> None:
    with stage_of(pausing(resuming(probe={**RUNS, "expect": 'body.trading == "resumed"'}), probe=PAUSED)) as stage:
        harming(stage)
        stage.fires(RISK)
        stage.at("3:00")
        result, why = undone(stage)
        assert result is Result.FAILED
        assert "accepted, but it is not in force" in why
        assert str(stage.incident.urgent).startswith("put back: failed")
        assert any("accepted, but it is not in force" in line for line in stage.thread)


def test_an_undo_that_nobody_can_read_back_is_unverified_and_its_target_locked_until_a_person_has_looked() -> None:
    """Also when no harm is seen any more: that may be for another reason."""
    with stage_of(pausing(resuming(probe=RUNS), probe=PAUSED)) as stage:
        harming(stage)
        stage.world.slow = 4.0
        stage.fires(RISK)
        stage.at("0:06")
        assert stage.world.done == ["/api/router/pause"], "the undo is under way"
        stage.world.blind = True
        stage.at("2:00")
        assert stage.world.done == ["/api/router/pause", "/api/router/resume"]
        result, why = undone(stage)
        assert result is Result.UNVERIFIED
        assert "accepted, but nobody could read it back" in why
        assert "no harm is seen any more" in why
        assert "nobody could read it back" in str(stage.incident.urgent)
        assert any("nobody could read it back" in line for line in stage.thread)
        lock = stage.scope(f"lock:{stage.last_run.target}")
        assert lock is not None
        assert lock["unknown"] is True
        stage.person("settle", "carol", applied=True, note="the router runs")
        assert stage.scope(f"lock:{stage.last_run.target}") is None
        assert stage.last_run.steps[0].status is StepStatus.DONE


def test_when_nothing_can_be_read_back_the_check_decides() -> None:
    with stage_of(pausing(resuming())) as stage:
        harming(stage)
        stage.fires(RISK)
        stage.at("1:00")
        assert undone(stage)[0] is Result.FIXED


def test_harm_that_remains_is_told_and_paged() -> None:
    with stage_of(pausing(resuming(probe=RUNS), probe=PAUSED)) as stage:
        harming(stage, after=2.9)
        stage.fires(RISK)
        stage.at("3:00")
        result, why = undone(stage)
        assert result is Result.INEFFECTIVE
        assert "the harm remains" in why
        assert str(stage.incident.urgent).startswith("put back: ineffective")
        assert [when for when, _ in stage.pages][:2] == ["0:00", "1:00"]
        assert [r.cause for r in stage.incident.runs] == [Cause.ALERT, Cause.UNDO], "it is not undone twice"


def test_without_an_answer_of_the_check_nobody_calls_it_undone() -> None:
    with stage_of(pausing(resuming())) as stage:
        harming(stage, after=None)
        stage.fires(RISK)
        stage.at("3:00")
        assert undone(stage)[0] is Result.UNVERIFIED
        assert str(stage.incident.urgent).startswith("put back: unverified")


def test_what_a_person_has_changed_since_is_left_as_it_is() -> None:
    with stage_of(pausing(resuming(probe=RUNS), probe=PAUSED)) as stage:

        def worse() -> float:
            """A person has switched it to something else the moment that the harm is seen."""
            if stage.world.done:
                stage.world.router = "drained"
            return 3.0 if stage.world.done else 2.0

        stage.world.numbers["risk"] = worse
        stage.fires(RISK)
        stage.at("3:00")
        assert stage.world.done == ["/api/router/pause"]
        result, why = undone(stage)
        assert result is Result.FAILED
        assert "is not in force any more" in why
        assert stage.world.router == "drained"


def test_a_promise_does_not_wait_for_the_verification_of_an_undo() -> None:
    promise = {"30s": {"run": "halt-trading"}}
    with stage_of(pausing(resuming(probe=RUNS), probe=PAUSED), unless_fixed=promise) as stage:
        harming(stage, after=2.9)
        stage.fires(RISK)
        stage.at("0:35")
        assert [path for _, path in stage.did][-1] == "/api/stop-trading"


@pytest.mark.parametrize(("blind", "result"), [(False, Result.FIXED), (True, Result.UNVERIFIED)])
def test_what_a_person_puts_back_is_read_back_too(blind: bool, result: Result) -> None:
    with stage_of(pausing({**resuming(probe=RUNS), "approval": "risk-manager"}, probe=PAUSED)) as stage:
        harming(stage)
        stage.fires(RISK)
        stage.at("1:00")
        stage.world.slow = 4.0
        stage.person("restore", "carol")
        stage.after("2s")
        stage.world.blind = blind
        stage.at("3:00")
        assert stage.world.done == ["/api/router/pause", "/api/router/resume"]
        assert (stage.last_run.cause, stage.last_run.result) == (Cause.RESTORE, result)
