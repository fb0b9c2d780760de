"""The shipped runbooks of multi-market, as timelines: what its scripts are asked, what people decide, who is woken."""

from __future__ import annotations

import pytest

from responder.commands import pending_approval
from responder.incident import Incident
from responder.recorded import Result
from responder.schedules import ArmSchedules
from tests.acceptance.catalogues import loaded
from tests.acceptance.desk import Desk
from tests.acceptance.machines import LOOKING
from tests.acceptance.runbook_parts import acted, asked_for, reads, statuses
from tests.acceptance.stage import Stage, playing

MARKET = "multi-market"
CHANGES = (
    "halt_trading.sh", "reset_circuit_breaker.sh", "close_all_positions.sh", "kill_slow_queries.sh",
    "scale_connection_pool.sh", "cancel_order.sh", "retry_orders.sh", "retrain_model.sh", "deploy_model.sh",
    "emergency_halt.sh", "cancel_all_orders.sh", "disable_auto_restart.sh", "send_emergency_alert.sh",
    "log_emergency_shutdown.sh", "failover_dns.sh",
)  # fmt: skip


def alert(alertname: str, severity: str, **labels: str) -> dict[str, str]:
    return {"alertname": alertname, "platform": MARKET, "env": "prod", "severity": severity, **labels}


def scripted(stage: Stage, **exits: int) -> None:
    """Every script ends with 0, but for those named (without `.sh`)."""
    named = {f"{name}.sh": code for name, code in exits.items()}
    stage.world.scripts.exits = dict.fromkeys((*LOOKING, *CHANGES), 0) | named


# --- the broker -------------------------------------------------------------------------------------------------------


def test_a_broker_that_is_down_halts_trading_and_it_is_seen_to_be_halted() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage, test_broker_connection=1)
        reads(stage, MARKET, "broker-errors", "errors", 80)
        stage.fires(alert("BrokerApiErrors", "high"))
        stage.at("2:00")
        assert stage.did == [("0:10", "halt_trading.sh --reason broker_down")]
        assert statuses(stage) == ["failed", "done", "done"]
        assert ("1:00", "multi-market-oncall") in stage.pages
        stage.at("6:00")
        assert stage.incident.result is Result.INEFFECTIVE, "a halt is no cure"


def test_a_broker_that_answers_halts_nothing() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage)
        reads(stage, MARKET, "broker-errors", "errors", 8)
        stage.fires(alert("BrokerApiErrors", "high"))
        stage.at("2:00")
        assert acted(stage) == []
        assert ("1:00", "multi-market-oncall") in stage.pages


def test_without_prometheus_the_broker_itself_says_whether_trading_is_halted() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage, test_broker_connection=1)
        stage.world.dark = True
        stage.fires(alert("BrokerApiErrors", "high"))
        stage.at("1:00")
        assert acted(stage) == ["halt_trading.sh --reason broker_down"]


# --- halted, losses, errors -------------------------------------------------------------------------------------------


def test_a_breaker_is_reset_when_a_risk_manager_says_so() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage)
        stage.world.scripts.halted = True
        stage.fires(alert("TradingHalted", "critical"))
        stage.at("2:30")
        assert (acted(stage), asked_for(stage)) == ([], "reset")
        assert stage.pages[0][0] in {"0:00", "0:01"}
        stage.approves("risk-desk")
        stage.at("5:00")
        assert (acted(stage), stage.incident.result) == (["reset_circuit_breaker.sh --confirm"], Result.FIXED)


def test_a_trading_that_was_resumed_meanwhile_is_asked_of_nobody() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage)
        stage.fires(alert("TradingHalted", "critical"))
        stage.at("4:00")
        assert (acted(stage), asked_for(stage), stage.incident.result) == ([], "", Result.FIXED)


def test_after_a_large_loss_a_risk_manager_halts_and_then_closes() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage)
        reads(stage, MARKET, "large-loss", "day", -6)
        stage.fires(alert("LargeLoss", "critical"))
        stage.at("0:30")
        assert (acted(stage), asked_for(stage)) == ([], "halt")
        stage.approves("risk-desk")
        stage.after("5s")
        assert asked_for(stage) == "close"
        stage.approves("risk-desk")
        stage.after("5s")
        assert acted(stage) == ["halt_trading.sh --reason large_loss", "close_all_positions.sh --confirm"]


def test_a_no_ends_it_and_nothing_more_is_asked() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage)
        reads(stage, MARKET, "large-loss", "day", -6)
        stage.fires(alert("LargeLoss", "critical"))
        stage.at("0:30")
        asked = pending_approval(stage.incident)
        assert asked is not None
        stage.person("deny", "risk-desk", plan=asked.plan)
        stage.after("5s")
        assert (acted(stage), asked_for(stage)) == ([], "")


def incident_of(stage: Stage, runbook: str) -> Incident:
    (found,) = [incident for incident in stage.incidents() if incident.runbook == runbook]
    return found


@pytest.mark.parametrize("why", ["LargeLoss", "emergency-shutdown"])
def test_a_halt_that_somebody_decided_is_not_offered_to_be_taken_back(why: str) -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage)
        stage.world.scripts.halted = True
        reads(stage, MARKET, "large-loss", "day", -6)
        if why == "LargeLoss":
            stage.fires(alert("LargeLoss", "critical"))
        else:
            Desk(stage).starts("emergency-shutdown", "somebody has our keys")
        stage.after("1m")
        stage.fires(alert("TradingHalted", "critical"))
        stage.after("20m")
        halted = incident_of(stage, "trading-halted")
        assert pending_approval(halted) is None
        assert "reset_circuit_breaker.sh --confirm" not in acted(stage)


@pytest.mark.parametrize(("exit_", "step"), [(1, "halt"), (0, "")])
def test_errors_ask_for_a_halt_only_where_something_is_down(exit_: int, step: str) -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage, check_dependencies=exit_)
        reads(stage, MARKET, "multi-market-errors", "errors", 4)
        stage.fires(alert("HighErrorRate", "high"))
        stage.at("0:30")
        assert (acted(stage), asked_for(stage)) == ([], step)
        assert statuses(stage)[-1] == ("pending" if step else "asked")


# --- the database, orders, models -------------------------------------------------------------------------------------


def test_slow_queries_are_ended_and_then_the_pool_is_raised_each_when_somebody_says_so() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage)
        reads(stage, MARKET, "database-latency", "p95", 900)
        stage.fires(alert("DatabaseLatencyHigh", "high"))
        stage.at("0:30")
        stage.approves("lead")
        stage.at("3:30")
        assert (acted(stage), asked_for(stage)) == (["kill_slow_queries.sh"], "pool")
        stage.approves("lead")
        stage.at("6:30")
        assert acted(stage) == ["kill_slow_queries.sh", "scale_connection_pool.sh --size 50"]
        assert statuses(stage)[-1] == "asked"


def test_a_stuck_order_is_cancelled_and_then_nothing_is_sent_again() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage)
        reads(stage, MARKET, "orders-stuck", "pending", 1, 0, order="A-17")
        stage.fires(alert("OrdersStuck", "high", order_id="A-17"))
        stage.at("0:30")
        assert (acted(stage), asked_for(stage)) == ([], "cancel")
        stage.approves("lead")
        stage.at("4:00")
        assert (acted(stage), asked_for(stage)) == (["cancel_order.sh A-17"], "")
        assert stage.incident.result is Result.FIXED


def test_where_an_order_cannot_be_cancelled_sending_all_again_is_asked_for_and_never_done_by_itself() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage, cancel_order=64)
        reads(stage, MARKET, "orders-stuck", "pending", 1, order="A-17")
        stage.fires(alert("OrdersStuck", "high", order_id="A-17"))
        stage.at("0:30")
        stage.approves("lead")
        stage.at("1:00")
        assert asked_for(stage) == "retry"
        stage.at("18:00")
        assert acted(stage) == ["cancel_order.sh A-17"]


def test_without_the_broker_nothing_is_asked_and_people_are_paged() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage, test_broker_connection=1)
        reads(stage, MARKET, "orders-stuck", "pending", 1, order="A-17")
        stage.fires(alert("OrdersStuck", "high", order_id="A-17"))
        stage.at("3:00")
        assert (acted(stage), asked_for(stage), stage.last_run.result) == ([], "", Result.FAILED)
        assert stage.pages


def test_an_order_whose_number_is_none_reaches_no_script() -> None:
    with playing(loaded(MARKET)) as stage:
        stage.fires(alert("OrdersStuck", "high", order_id="--all"))
        stage.at("5:00")
        assert acted(stage) == []
        assert stage.pages


def test_a_model_is_trained_and_validated_and_deployed_only_when_somebody_says_so() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage)
        reads(stage, MARKET, "model-drift", "score", 0.3, strategy="momentum")
        stage.fires(alert("ModelDrift", "warning", strategy="momentum"))
        stage.at("1:00")
        assert (acted(stage), asked_for(stage)) == (["retrain_model.sh --strategy momentum"], "deploy")
        stage.approves("lead")
        stage.at("2:00")
        assert acted(stage)[1:] == ["deploy_model.sh --strategy momentum"]


def test_a_model_that_is_not_valid_is_never_offered() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage, validate_model=1)
        reads(stage, MARKET, "model-drift", "score", 0.3, strategy="momentum")
        stage.fires(alert("ModelDrift", "warning", strategy="momentum"))
        stage.at("5:00")
        assert (acted(stage), asked_for(stage)) == (["retrain_model.sh --strategy momentum"], "")
        assert stage.last_run.result is Result.FAILED


# --- by hand and by the clock -----------------------------------------------------------------------------------------


def test_the_emergency_shutdown_is_gone_through_in_its_order_and_positions_are_closed_only_when_confirmed() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage, emergency_halt=64)
        Desk(stage).starts("emergency-shutdown", "somebody has our keys")
        stage.after("30s")
        done = [
            "emergency_halt.sh",
            "cancel_all_orders.sh",
            "disable_auto_restart.sh",
            "send_emergency_alert.sh",
            f"log_emergency_shutdown.sh --reason responder {stage.incident.id}",
        ]
        assert (acted(stage), asked_for(stage)) == (done, "close")
        assert sorted(stage.pages) == [("0:01", "multi-market-lead"), ("0:01", "multi-market-oncall")]
        assert statuses(stage)[:2] == ["failed", "failed"], "trading is not halted, and everybody sees it"
        stage.after("11m")
        assert acted(stage) == done, "nobody confirmed: positions are kept"


def test_the_other_region_takes_over_only_when_it_is_ready() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage, check_dr_readiness=1)
        Desk(stage).starts("region-failover", "the region is gone", region="ap-south-2")
        stage.after("2m")
        assert (acted(stage), asked_for(stage), stage.last_run.result) == ([], "", Result.FAILED)


def test_the_other_region_takes_over_when_somebody_else_says_so() -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage)
        Desk(stage).starts("region-failover", "the region is gone", region="ap-south-2")
        stage.after("10s")
        assert asked_for(stage) == "dns"
        stage.approves("lead")
        stage.after("10s")
        assert acted(stage) == ["failover_dns.sh --region ap-south-2"]


# The stage begins on Friday, 19:30 in Kolkata; Monday 8:45 there is 61 hours and a quarter later.
@pytest.mark.parametrize(("feeds", "paged"), [(0, False), (1, True)])
def test_the_checks_before_the_open_page_nobody_while_all_is_well(feeds: int, paged: bool) -> None:
    with playing(loaded(MARKET)) as stage:
        scripted(stage, check_data_feed_health=feeds)
        stage._submit(lambda desk: lambda shelf: ArmSchedules(desk.new_id(), shelf))
        stage.at("61:14:00")
        assert stage.incidents() == []
        stage.at("61:20:00")
        (checks,) = [one for one in stage.incidents() if one.runbook == "before-open"]
        assert len(checks.runs[0].steps) == 6
        assert (bool(stage.pages), checks.closed) == (paged, not paged)
        stage.at("68:20:00")
        assert {one.runbook for one in stage.incidents()} == {"before-open", "end-of-day"}
