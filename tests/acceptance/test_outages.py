"""The program itself fails, or what it relies on is gone: rules, rows, time. People hear of it, the rest goes on."""

from __future__ import annotations

from typing import Any

from responder.recorded import Result, StepStatus
from tests.acceptance.stage import RISK, Stage, alert, halting, own, playing, risky, unverified
from tests.builders import a_runbook, an_alert, call_step, cut_step

LOCK = "lock:risk-api/kelly_fraction"
RESTORE = {"approval": "risk-manager", "remind": "4h"}


def other_rules(stage: Stage, *runbooks: dict[str, Any], **more: Any) -> None:
    """After the next start the rules that everything began with are not to be had."""
    rules, _ = own(*runbooks, **more)
    stage._rules = rules
    stage._sets = {rules.hash: rules}


def test_without_its_rules_an_incident_is_for_people() -> None:
    with playing(own(a_runbook(steps=[call_step()]))) as stage:
        risky(stage, helps=False)
        stage.pauses()
        stage.fires(RISK)
        stage.at("0:30")
        other_rules(stage, a_runbook(steps=[call_step()], title="Other"))
        stage.restart()
        stage.at("20:00")
        assert (stage.last_run.result, "cannot be read" in stage.last_run.why) == (Result.FAILED, True)
        assert stage.pages == [("0:35", "first"), ("15:00", "second")]


def test_without_its_rules_what_is_under_way_stays_unknown() -> None:
    with playing(own(a_runbook(steps=[call_step(timeout="1m")]))) as stage:
        risky(stage, helps=False)
        stage.world.slow = 30
        stage.fires(RISK)
        stage.at("0:05")
        other_rules(stage, a_runbook(title="Other"))
        stage.restart()
        stage.at("0:10")
        assert stage.last_run.result is Result.UNKNOWN
        assert len(stage.incident.unsettled) == 1
        lock = stage.scope(LOCK)
        assert lock is not None
        assert lock["unknown"]
        assert [who for _, who in stage.pages] == ["first"]


def test_without_its_rules_a_promised_halt_is_for_people() -> None:
    first, halt = halting("3m")
    with playing(own({**first, "steps": [call_step(timeout="10m")]}, halt)) as stage:
        risky(stage, helps=False)
        stage.world.slow = 400
        stage.fires(RISK)
        stage.at("3:10")
        other_rules(stage, a_runbook(title="Other"))
        stage.restart()
        stage.at("10:00")
        assert "/api/stop-trading" not in stage.world.done
        assert stage.last_run.result is Result.UNKNOWN
        held = [e.fact.held for e in stage.events(stage.incident) if e.fact.kind == "machine_fired"]
        assert [h for h in held if h] == [
            "runbook halt cannot be read in the rules that this incident began with: people decide"
        ]


def test_set_to_observe_a_runbook_stops_also_where_it_had_begun() -> None:
    with playing(own(a_runbook(steps=[call_step()]))) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        stage.reload(own(a_runbook(steps=[call_step()], mode="observe"))[0])
        stage.world.numbers["risk"] = lambda: 2.0
        stage.at("3:00")
        assert [run.result for run in stage.incident.runs] == [Result.FIXED, Result.OBSERVED]
        assert len(stage.did) == 1


def test_observing_asks_nobody_to_do_anything() -> None:
    with playing(own(a_runbook(mode="observe", steps=[{"id": "hand", "manual": "Stop the desk"}]))) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        stage.at("1:00")
        assert stage.last_run.result is Result.OBSERVED
        assert (stage.told("manual_asked"), stage.told("previewed")) == ([], ["0:00"])


def test_a_process_that_stops_intends_nothing_more() -> None:
    only_if = {"check": "risk", "expect": "value > 1"}
    with playing(own(a_runbook(steps=[call_step()], only_if=only_if))) as stage:
        risky(stage, helps=False)
        stage.world.thinks = 2
        stage.fires(RISK)
        stage.at("0:01")
        stage.winds_down()
        assert stage.told("attempt_intended") == []
        stage.restart()
        stage.at("0:10")
        assert len(stage.did) == 1
        assert stage.last_run.step("call").status is StepStatus.DONE


def test_a_reminder_outlives_the_runs_that_are_remembered() -> None:
    with playing(own(a_runbook(steps=[cut_step(restore=RESTORE)]))) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        for _ in range(21):
            stage.world.numbers["risk"] = lambda: 2.0
            stage.after("1m")
            stage.world.numbers["risk"] = lambda: 0.5
            stage.after("3m")
        assert stage.last_run.number > 20
        stage.at("4:30:00")
        assert stage.told("restore_reminded") == ["4:00:00"]


def test_alerts_that_come_and_go_do_not_make_an_incident_grow() -> None:
    with playing(own(a_runbook())) as stage:
        stage.fires(an_alert(alertname="Unrouted", severity="info", symbol="stays"))
        for number in range(60):
            one = an_alert(alertname="Unrouted", severity="info", symbol=f"p{number}")
            stage.fires(one)
            stage.resolves(one)
        assert len(stage.incident.episodes) == 51
        assert [e.labels["symbol"] for e in stage.incident.firing] == ["stays"]


def test_firing_and_resolved_in_one_body_is_looked_at_rather_than_forgotten() -> None:
    with playing(own(a_runbook())) as stage:
        risky(stage)
        stage.tells((RISK, True), (RISK, False))
        stage.at("1:00")
        assert (stage.incident.result, len(stage.incident.firing)) == (Result.FIXED, 1)
        stage.resolves(RISK)
        stage.at("2:00")
        assert stage.incidents()[0].closed


def test_one_incident_that_cannot_be_read_stops_no_other() -> None:
    with playing(own(a_runbook(), unverified("Healthy", target="other")), errors=2) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("0:10")
        stage.spoils()
        stage.restart()
        stage.fires(alert("Healthy"))
        stage.at("1:00")
        assert "/api/healthy" in stage.world.done
        assert any("An incident cannot be worked on" in text for text in stage.page_texts)
        stage.heals()
        stage.resolves(RISK)
        stage.at("2:00")
        assert [i.closed for i in stage.incidents() if i.runbook == "cut"] == [True]
