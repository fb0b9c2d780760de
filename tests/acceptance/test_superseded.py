"""A run that only verifies does not keep a more severe incident waiting (docs/adr/0022), told as timelines."""

from __future__ import annotations

from typing import Any

import pytest

from responder import facts as f
from responder.incident import Incident, Run
from responder.recorded import Result
from tests.acceptance.catalogues import loaded
from tests.acceptance.cluster_parts import DOWN, ERRORS, NSE, RESTARTED, measured, of, running
from tests.acceptance.runbook_parts import acted
from tests.acceptance.stage import START, Stage, own, playing, shown, unverified
from tests.builders import an_alert, call_step

LOCK = "lock:risk-api/kelly_fraction"


def fires(stage: Stage, name: str, severity: str) -> None:
    stage.fires({**an_alert(alertname=name, symbol=""), "severity": severity})


def a_verified(name: str, **parts: Any) -> dict[str, Any]:
    """A runbook that calls the risk API and is verified for two minutes, which does not go well."""
    verify = {"check": "risk", "expect": "value < 1", "within": "2m"}
    return unverified(name, **{"verify": verify, **parts})


def the_run(stage: Stage, runbook: str) -> Run:
    run = of(stage, runbook).run
    assert run is not None
    return run


def facts(stage: Stage, incident: Incident, kind: type[Any]) -> list[Any]:
    return [event.fact for event in stage.events(incident) if isinstance(event.fact, kind)]


# --- the shipped runbooks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("helps", [True, False])
def test_a_trading_system_that_is_down_does_not_wait_for_the_verification_of_errors(*, helps: bool) -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system", env={"FORCE_ERROR_RATE": "0.3"})
        measured(stage, "high-error-rate", NSE, 0.5, 30.0, lambda: helps and len(cluster.changes) > 1)
        measured(stage, "trading-system-down", NSE, 1.0, 0.0, lambda: len(cluster.changes) > 1)
        stage.fires(ERRORS)
        stage.at("1:30")
        assert of(stage, "high-error-rate").status == "verifying"
        stage.fires(DOWN)
        stage.at("1:35")
        assert acted(stage) == [RESTARTED, RESTARTED]
        assert [at for at, _ in stage.did][1] == "1:30"

        former, down = of(stage, "high-error-rate"), of(stage, "trading-system-down")
        assert (former.status, former.result, former.superseded) == ("open", Result.UNVERIFIED, down.id)
        lines = [s.message.text for s in stage.sent if s.destination == "nse-alerts" and s.message.kind == "thread"]
        (line,) = [text for text in lines if text.startswith("superseded")]
        said = f"superseded by incident {down.id} (critical: The trading system is down), which changes"
        assert line == f"{said} trading-system/release: nobody can tell whether it helped"
        (line,) = [text for text in lines if text.startswith("Begins: Restart the trading system")]
        assert line.endswith(
            f"; this ends the verification of incident {former.id} (lower severity), which stays unverified"
        )
        (intent,) = facts(stage, down, f.AttemptIntended)[:1]
        (why,) = [verdict.reason for verdict in intent.verdicts if verdict.gate == "lock"]
        assert why == (
            f"trading-system/release is only being verified by run 1 of incident {former.id} (high): "
            "critical goes first"
        )
        assert stage.pages[:2] == [("1:30", "nse-opsgenie"), ("1:31", "nse-oncall")], "of the errors, and of the system"

        stage.at("4:10")
        assert the_run(stage, "trading-system-down").result is Result.FIXED
        assert [run.runbook for run in former.runs] == ["high-error-rate"]
        (fired,) = facts(stage, of(stage, "high-error-rate"), f.MachineFired)
        decides = f"incident {down.id} superseded the run, so undo-release is for people to decide"
        assert fired.held == ("fixed: value 0.5 < 5" if helps else decides)
        assert (fired.page, fired.runbook) == (() if helps else ("nse-oncall",), None)
        assert stage.told("machine_announced") == []
        stage.resolves(ERRORS, DOWN)
        stage.at("5:00")
        assert of(stage, "trading-system-down").closed
        assert of(stage, "high-error-rate").closed is helps


# --- who waits all the same -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("former", "later"),
    [
        ("high", "high"),
        ("critical", "high"),
        ("high", "warning"),
        ("warning", "unheard-of"),
        ("unheard-of", "critical"),
    ],
)
def test_only_what_is_known_to_be_more_severe_goes_first(former: str, later: str) -> None:
    with playing(own(a_verified("One"), unverified("Two"))) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        fires(stage, "One", former)
        stage.at("0:10")
        fires(stage, "Two", later)
        stage.at("1:50")
        assert stage.world.done == ["/api/one"]
        stage.at("2:30")
        assert stage.world.done == ["/api/one", "/api/two"]
        assert the_run(stage, "one").result is Result.INEFFECTIVE


def test_a_severity_that_has_risen_counts_for_whoever_verifies() -> None:
    with playing(own(a_verified("One"), unverified("Two"))) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        fires(stage, "One", "warning")
        stage.at("0:10")
        fires(stage, "One", "critical")
        fires(stage, "Two", "critical")
        stage.at("1:50")
        assert stage.world.done == ["/api/one"]


def test_a_change_under_way_is_waited_for_and_its_verification_is_not() -> None:
    with playing(
        own(a_verified("One", steps=[call_step("one", "/api/one", timeout="1m")]), unverified("Two"))
    ) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        stage.world.slow = 20.0
        fires(stage, "One", "high")
        stage.at("0:07")
        stage.world.slow = 0.0
        fires(stage, "Two", "critical")
        stage.at("0:19")
        assert stage.world.done == []
        stage.at("0:26")
        assert stage.did == [("0:20", "/api/one"), ("0:22", "/api/two")]
        assert the_run(stage, "one").result is Result.UNVERIFIED


def test_what_nobody_knows_of_keeps_its_lock_though_it_verifies() -> None:
    with playing(own(a_verified("One"), unverified("Two"))) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        stage.world.lost = "applied"
        fires(stage, "One", "high")
        stage.at("0:30")
        stage.world.lost = ""
        fires(stage, "Two", "critical")
        stage.at("1:00")
        assert of(stage, "one").status == "verifying"
        assert stage.world.done == ["/api/one"]
        assert the_run(stage, "two").result is Result.CANCELLED
        stage.at("3:00")
        assert the_run(stage, "one").result is Result.UNKNOWN
        lock = stage.scope(LOCK)
        assert lock is not None
        assert lock["unknown"]


def test_an_answer_of_people_is_awaited_while_the_verification_goes_on() -> None:
    asks = unverified("Two", steps=[call_step("two", "/api/two", approval={"role": "operator", "within": "10m"})])
    with playing(own(a_verified("One"), asks)) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        fires(stage, "One", "high")
        stage.at("0:10")
        fires(stage, "Two", "critical")
        stage.at("0:40")
        assert of(stage, "one").status == "verifying"
        asked = the_run(stage, "two").approval
        assert asked is not None
        stage.person("approve", "desk", plan=asked.plan, incident=of(stage, "two").id)
        stage.at("0:45")
        assert stage.world.done == ["/api/one", "/api/two"]
        assert the_run(stage, "one").result is Result.UNVERIFIED


def test_the_pause_holds_the_more_severe_back_and_the_verification_goes_on() -> None:
    with playing(own(a_verified("One"), unverified("Two"))) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        fires(stage, "One", "high")
        stage.at("0:10")
        stage.pauses()
        fires(stage, "Two", "critical")
        stage.at("2:30")
        assert stage.world.done == ["/api/one"]
        assert the_run(stage, "one").result is Result.INEFFECTIVE


# --- what the former can do no more -----------------------------------------------------------------------------------


def test_what_was_superseded_undoes_nothing_over_the_change_of_what_came_after_it() -> None:
    back = {"action": "http.request", "with": {"service": "risk-api", "method": "POST", "path": "/api/back"}}
    first = a_verified(
        "One",
        steps=[call_step("one", "/api/one", undo=back)],
        verify={"check": "risk", "expect": "value < 1", "within": "2m", "harmful": "value > 3"},
    )
    with playing(own(first, a_verified("Two"))) as stage:
        stage.world.numbers["risk"] = lambda: 9.0 if "/api/two" in stage.world.done else 2.0
        fires(stage, "One", "high")
        stage.at("0:20")
        fires(stage, "Two", "critical")
        stage.at("10:00")
        assert stage.world.done == ["/api/one", "/api/two"]
        assert [run.result for run in of(stage, "one").runs] == [Result.UNVERIFIED]


def test_a_brake_that_holds_the_target_beside_is_superseded_with_it_and_an_acting_one_is_not() -> None:
    manual = {"id": "hand", "manual": "look"}
    slow = unverified("Slow", steps=[call_step("slow", "/api/slow"), manual], verify=None)
    with playing(own(slow, a_verified("Brake", brake=True), unverified("Two"))) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        fires(stage, "Slow", "warning")
        stage.at("0:10")
        fires(stage, "Brake", "warning")
        stage.at("0:20")
        fires(stage, "Two", "critical")
        stage.at("1:00")
        assert stage.world.done == ["/api/slow", "/api/brake"], "one of the two still acts"
        stage.person("done", incident=of(stage, "slow").id)
        stage.at("1:10")
        assert stage.world.done == ["/api/slow", "/api/brake", "/api/two"]
        assert the_run(stage, "brake").result is Result.UNVERIFIED


# --- deaths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["0:10", "0:11", "0:12", "0:13", "0:14", "0:16", "0:18"])
@pytest.mark.parametrize("down", [1, 40])
def test_a_death_loses_neither_of_the_two(at: str, down: int) -> None:
    with playing(
        own(a_verified("One"), a_verified("Two", steps=[call_step("two", "/api/two", timeout="20s")]))
    ) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        stage.world.thinks, stage.world.slow = 1.0, 2.0
        fires(stage, "One", "high")
        stage.at("0:10")
        fires(stage, "Two", "critical")
        stage.at(at)
        stage.restart(down)
        stage.at("6:00")
        one, two = the_run(stage, "one"), the_run(stage, "two")
        assert (one.result, one.superseded) == (Result.UNVERIFIED, of(stage, "two").id)
        # What died in the middle of its call is unknown, for nobody may do it again.
        arrived = stage.world.done == ["/api/one", "/api/two"]
        assert two.result is (Result.INEFFECTIVE if arrived and not two.attempts[0].doubtful else Result.UNKNOWN)
        paged = [s.message.incident.id for s in stage.sent if s.message.kind == "page"]
        assert {of(stage, "one").id, of(stage, "two").id} <= set(paged)
        ended = [shown(e.at - START) for e in stage.events(of(stage, "one")) if isinstance(e.fact, f.RunEnded)]
        begun = [shown(e.at - START) for e in stage.events(of(stage, "two")) if isinstance(e.fact, f.AttemptIntended)]
        assert ended == begun[:1], "in one transaction"
