"""A pause that comes between the intent of a change and its first byte: it is not sent, waits for the end of the pause
as what was never begun does, and uses up no attempt, while what a person confirmed passes."""

from __future__ import annotations

from typing import Any

import pytest

from responder import facts as f
from responder.recorded import Outcome, Result
from responder.timing import SECOND
from tests.acceptance.stage import RISK, Stage, own, playing, risky
from tests.builders import a_runbook, call_step, cut_step

KEYED = call_step("keyed", service="keyed-api")


def held(stage: Stage) -> None:
    """A change that waits for a connection from 0:00 to 0:03, and a pause of everything from 0:01 on."""
    risky(stage)
    stage.world.waits = 3.0
    stage.fires(RISK)
    stage.at("0:01")
    assert stage.last_run.open_attempt is not None
    stage.pauses()
    stage.at("0:20")


def under_way(stage: Stage) -> None:
    """Until the next attempt waits for its connection: the gates are asked again once a minute at the latest."""
    for _ in range(90):
        stage.after("1s")
        if stage.last_run.open_attempt is not None:
            return
    raise AssertionError("it is not tried again")


@pytest.mark.parametrize("step", [cut_step(), call_step(), KEYED, cut_step(retry={"attempts": 2, "first": "1s"})])
def test_it_is_not_sent_until_the_pause_is_over_and_uses_up_no_attempt(step: dict[str, Any]) -> None:
    with playing(own(a_runbook(steps=[step], limits={"runs": "1 per 1h"}))) as stage:
        held(stage)
        (attempt,) = stage.last_run.attempts
        assert (stage.world.done, attempt.outcome, attempt.held_back) == ([], Outcome.TEMPORARY, True)
        assert attempt.detail == "nothing was sent: automation is paused by alice: maintenance"
        (line,) = [text for text in stage.thread if "held back" in text]
        assert line.endswith(f"held back ({attempt.detail}); its gates are asked again")
        (ended,) = [e.fact for e in stage.events(stage.incident) if isinstance(e.fact, f.AttemptEnded)]
        assert ended.retry_at == (attempt.ended_at or 0) + SECOND, "never at once, should gate and look disagree"
        stage.at("2:00")
        assert (len(stage.last_run.attempts), stage.last_run.acted) == (1, False)
        assert len(stage.told("waiting")) == 1
        stage.resumes()
        stage.at("5:00")
        assert (len(stage.world.done), len(stage.last_run.attempts)) == (1, 2), "its own start counts once"
        assert stage.last_run.acted


@pytest.mark.parametrize("attempts", [1, 2])
def test_what_was_held_back_again_and_again_still_has_its_attempts(attempts: int) -> None:
    with playing(own(a_runbook(steps=[call_step(retry={"attempts": attempts, "first": "1s"})]))) as stage:
        held(stage)
        for _ in range(3):
            stage.resumes()
            under_way(stage)
            stage.pauses()
            stage.after("30s")
        assert (stage.world.done, [a.held_back for a in stage.last_run.attempts]) == ([], [True] * 4)
        stage.world.refused = [429] * 5
        stage.resumes()
        stage.at("20:00")
        sent = [a for a in stage.last_run.attempts if not a.held_back]
        assert (len(sent), stage.last_run.result) == (attempts, Result.FAILED)


def test_an_answer_that_was_lost_is_sent_again_after_the_pause_with_its_own_key() -> None:
    with playing(own(a_runbook(steps=[KEYED]))) as stage:
        risky(stage)
        stage.world.waits, stage.world.lost = 3.0, "not applied"
        stage.fires(RISK)
        stage.at("0:04")
        assert stage.last_run.open_attempt is not None
        stage.world.lost = ""
        for _ in range(5):
            stage.pauses()
            stage.after("30s")
            stage.resumes()
            under_way(stage)
        first, *others = stage.last_run.attempts
        assert (first.outcome, [a.held_back for a in others[:-1]]) == (Outcome.UNKNOWN, [True] * 5)
        assert stage.world.done == []
        stage.after("3m")
        assert len(stage.world.done) == 1
        assert len({attempt.key for attempt in stage.last_run.attempts}) == 1


def test_an_alert_that_ends_meanwhile_is_over_and_nobody_calls_it_fixed() -> None:
    with playing(own(a_runbook(steps=[call_step()]))) as stage:
        held(stage)
        stage.resolves(RISK)
        stage.at("5:00")
        assert (stage.world.done, stage.last_run.result) == ([], Result.CANCELLED)
        stage.resumes()
        stage.at("6:00")
        assert stage.world.done == []
        stage.fires(RISK)
        stage.at("8:00")
        assert len(stage.world.done) == 1, "its lock is free"
