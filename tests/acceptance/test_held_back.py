"""A pause that comes between the intent of a change and its first byte: it is not sent, waits for the end of the pause
as what was never begun does, and uses up no attempt, while what a person confirmed passes."""

from __future__ import annotations

from typing import Any

import pytest

from responder import facts as f
from responder.recorded import Outcome, Result
from responder.timing import SECOND
from tests.acceptance.stage import RISK, Stage, alert, bounded, each_symbol, own, playing, risky, unverified
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


# --- what limits how often something begins is asked again ------------------------------------------------------------


def test_it_yields_to_a_root_cause_that_opened_while_it_was_held_back() -> None:
    symptom = a_runbook(steps=[call_step()], yields_to="cause")
    with playing(own(symptom, unverified("Cause", target="router"))) as stage:
        held(stage)
        stage.fires(alert("Cause"))
        stage.at("1:00")
        stage.resumes()
        stage.at("3:00")
        assert [path for _, path in stage.did] == ["/api/cause"]
        assert any("yields to cause" in line for line in stage.thread)


def test_a_storm_that_began_while_it_was_held_back_holds_it_as_well() -> None:
    storm = {"storm": {"incidents": 3, "within": "5m", "calm": "5m"}}
    others = each_symbol(runbook="orders", match="OrdersStuck", verify=None)
    with playing(bounded(a_runbook(steps=[call_step()]), others, automation=storm)) as stage:
        held(stage)
        for name in "ABC":
            stage.fires({**RISK, "alertname": "OrdersStuck", "symbol": name})
        stage.at("1:00")
        stage.resumes()
        stage.at("5:00")
        assert stage.did == []
        assert any("people look for the cause" in line for line in stage.thread)
        stage.at("12:00")
        assert len(stage.did) == 4


LATER = "1:30:00"
"""Longer than the windows of the limits: what was counted at the intent would be forgotten by then."""


@pytest.mark.parametrize(
    ("limits", "automation", "refused"),
    [
        ({"runs": "1 per 1h"}, {}, "1 runs already, limit 1 per 1h"),
        ({}, {"changes_per_runbook": "1 per 1h"}, "1 changes by cut, limit 1 per 1h"),
    ],
)
def test_it_is_counted_when_it_is_sent_and_not_when_it_was_held_back(
    limits: dict[str, Any], automation: dict[str, Any], refused: str
) -> None:
    runbook = a_runbook(steps=[call_step()], limits=limits, verify=None)
    with playing(bounded(runbook, automation=automation)) as stage:
        held(stage)
        stage.at(LATER)
        stage.resumes()
        stage.after("2m")
        assert len(stage.did) == 1
        stage.resolves(RISK)
        stage.after("10m")
        risky(stage)
        stage.fires(RISK)
        stage.after("10m")
        assert len(stage.did) == 1
        assert any(refused in line for line in stage.thread)


def test_what_others_changed_meanwhile_counts_against_it_in_full() -> None:
    """Its own reservation is long over: it must not be taken off the changes of others."""
    other = unverified("Other", target="router")
    with playing(bounded(a_runbook(steps=[call_step()]), other, automation={"changes": "1 per 1h"})) as stage:
        held(stage)
        stage.pauses(scope="pause:runbook:cut")
        stage.resumes()
        stage.at(LATER)
        stage.fires(alert("Other"))
        stage.after("1m")
        assert [path for _, path in stage.did] == ["/api/other"]
        stage.resumes(scope="pause:runbook:cut")
        stage.after("5m")
        assert [path for _, path in stage.did] == ["/api/other"]
        assert any("1 changes of all runbooks, limit 1 per 1h" in line for line in stage.thread)


def test_its_own_start_is_no_relapse_of_its_own() -> None:
    relapse = {"relapse": {"within": "30m", "count": 2}}
    with playing(bounded(a_runbook(steps=[call_step()]), automation=relapse)) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("4:00")
        stage.resolves(RISK)
        stage.at("10:00")
        risky(stage)
        stage.world.numbers["risk"] = lambda: 0.5 if len(stage.world.changes) > 1 else 2.0
        stage.world.waits = 3.0
        stage.fires(RISK)
        stage.at("10:01")
        stage.pauses()
        stage.at("11:00")
        stage.resumes()
        stage.at("13:00")
        assert len(stage.did) == 2


def poor(stage: Stage) -> None:
    """Four runs that did not help, and then the rest of an hour."""
    risky(stage, helps=False)
    for number, name in enumerate("ABCD"):
        stage.at(f"{number * 10}:00")
        stage.fires({**RISK, "symbol": name})
    stage.at("1:50:00")
    assert len(stage.did) == 4
    stage.world.waits = 3.0
    stage.fires({**RISK, "symbol": "E"})
    stage.after("1s")
    stage.pauses()
    stage.after("30s")
    assert len(stage.did) == 4


UNBOUND: dict[str, Any] = {"storm": None, "changes_per_service": None, "changes_per_runbook": None}


def test_a_trial_that_was_held_back_is_no_other_run_that_is_being_tried() -> None:
    with playing(bounded(each_symbol(), automation=UNBOUND)) as stage:
        poor(stage)
        stage.resumes()
        stage.after("2m")
        assert [path for _, path in stage.did[4:]] == ["/api/orders/E"]


def test_a_trial_that_was_held_back_and_left_lets_the_next_one_be_tried() -> None:
    with playing(bounded(each_symbol(), automation=UNBOUND)) as stage:
        poor(stage)
        stage.resolves({**RISK, "symbol": "E"})
        stage.after("1m")
        stage.resumes()
        stage.after("1m")
        stage.fires({**RISK, "symbol": "F"})
        stage.after("2m")
        assert [path for _, path in stage.did[4:]] == ["/api/orders/F"]


def test_a_trial_that_is_tried_late_is_the_one_that_others_wait_for() -> None:
    with playing(bounded(each_symbol(), automation=UNBOUND)) as stage:
        poor(stage)
        stage.after("2h")
        stage.resumes()
        stage.after("1m")
        stage.fires({**RISK, "symbol": "F"})
        stage.after("1m")
        assert [path for _, path in stage.did[4:]] == ["/api/orders/E"]
        assert any("one run is being tried since" in line for line in stage.thread)
