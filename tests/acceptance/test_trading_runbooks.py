"""The shipped runbooks of what trades and of what watches it, as timelines: what is done and asked, who is woken."""

from __future__ import annotations

import pytest

from responder.commands import pending_approval
from responder.recorded import Result
from tests.acceptance.catalogues import loaded
from tests.acceptance.machines import COMPOSE_READS
from tests.acceptance.runbook_parts import acted, asked_for, query_of, reads, statuses
from tests.acceptance.stage import Stage, playing

NSE = "nse-equities"


def alert(alertname: str, severity: str = "warning", platform: str = NSE, **labels: str) -> dict[str, str]:
    return {"alertname": alertname, "platform": platform, "env": "prod", "severity": severity, **labels}


def trades(stage: Stage) -> None:
    """Seven strategies, all enabled, and what the API shows of them."""
    answers = stage.world.answers
    answers |= {f"/api/v1/strategies/{n}": {"id": str(n), "enabled": True} for n in range(1, 8)}
    answers["/api/v1/strategies"] = list(answers.values())
    answers |= {f"/api/v1/portfolio/{page}": {"open": 21} for page in ("positions", "summary", "performance")}
    answers["/api/v1/orders"] = []


ALL_SEVEN = [f"/api/v1/strategies/{n}" for n in range(1, 8)]
TOO_MANY = alert("OpenPositionsLimit", "critical")
FALLS = alert("PnLDrop", "critical")


# --- too many positions -----------------------------------------------------------------------------------------------


def test_new_positions_are_stopped_in_every_strategy_and_a_person_is_woken_at_once() -> None:
    with playing(loaded(NSE)) as stage:
        trades(stage)
        reads(stage, NSE, "open-positions-limit", "positions", 21, 19)
        stage.fires(TOO_MANY)
        stage.at("5:00")
        assert acted(stage) == ALL_SEVEN
        assert all(body == {"enabled": False} for _, _, body in stage.world.changes)
        assert stage.incident.result is Result.FIXED
        assert stage.pages[0] == ("0:01", "nse-oncall")


def test_a_strategy_that_is_disabled_already_is_left_alone_and_one_that_refuses_keeps_no_other_back() -> None:
    with playing(loaded(NSE)) as stage:
        trades(stage)
        reads(stage, NSE, "open-positions-limit", "positions", 21)
        stage.world.answers["/api/v1/strategies/3"] = {"id": "3", "enabled": False}
        stage.world.refused = [403]
        stage.fires(TOO_MANY)
        stage.at("1:00")
        assert acted(stage) == [path for path in ALL_SEVEN if path[-1] not in "13"]
        assert any("Disable strategy 1" in line and "403" in line for line in stage.thread)


def test_without_prometheus_new_positions_are_stopped_all_the_same() -> None:
    with playing(loaded(NSE)) as stage:
        trades(stage)
        stage.world.dark = True
        stage.fires(TOO_MANY)
        stage.at("20:00")
        assert acted(stage) == ALL_SEVEN
        assert stage.incident.result is not Result.FIXED


def test_positions_that_do_not_fall_are_no_cure() -> None:
    with playing(loaded(NSE)) as stage:
        trades(stage)
        reads(stage, NSE, "open-positions-limit", "positions", 22)
        stage.fires(TOO_MANY)
        stage.at("17:00")
        assert stage.incident.result is Result.INEFFECTIVE


# --- money is lost ----------------------------------------------------------------------------------------------------


def loses(stage: Stage) -> None:
    trades(stage)
    reads(stage, NSE, "pnl-drop", "change", -2.6)
    reads(stage, NSE, "pnl-drop", "lately", -1.0, 0.1)
    worst = str(loaded(NSE)[0].runbooks["pnl-drop"].steps[0].with_["query"])
    stage.world.numbers[worst] = lambda: -40_000.0
    stage.world.labels[worst] = lambda: {"strategy": "4"}
    stage.fires(FALLS)


def test_the_strategy_that_lost_most_is_disabled_when_a_person_says_so() -> None:
    with playing(loaded(NSE)) as stage:
        loses(stage)
        stage.at("0:30")
        asked = pending_approval(stage.incident)
        assert (acted(stage), stage.pages) == ([], [("0:01", "nse-oncall")])
        assert asked is not None
        assert asked.step == "disable"
        assert any("/api/v1/strategies/4" in line for line in stage.thread), "whoever approves reads which one"
        stage.approves("lead")
        stage.at("4:00")
        assert acted(stage) == ["/api/v1/strategies/4"]
        assert stage.incident.result is Result.FIXED


def test_nobody_answers_so_nothing_is_disabled_and_the_next_level_is_woken() -> None:
    with playing(loaded(NSE)) as stage:
        loses(stage)
        stage.at("16:00")
        assert acted(stage) == []
        assert ("15:00", "nse-backup") in stage.pages


# --- what only reads --------------------------------------------------------------------------------------------------


def test_a_cold_cache_is_warmed_by_asking_and_nothing_is_changed() -> None:
    with playing(loaded(NSE)) as stage:
        trades(stage)
        query = query_of(NSE, "cache-hit-ratio-low", "hits")
        stage.world.numbers[query] = lambda: 82.0 if stage.offset > 60_000_000 else 50.0
        stage.fires(alert("CacheHitRatioLow"))
        stage.at("4:00")
        assert (stage.did, stage.incident.result) == ([], Result.FIXED)
        assert statuses(stage) == ["done"] * 4


@pytest.mark.parametrize(
    ("name", "runbook", "check", "bad", "good"),
    [
        ("NoOrders", "no-orders", "orders", 0.0, 3.0),
        ("AlertNotificationsFailing", "alert-notifications-failing", "failed", 2.0, 0.0),
        ("RedisMemoryHigh", "redis-memory-high", "used", 95.0, 70.0),
        ("PrometheusTargetMissing", "prometheus-target-missing", "missing", 2.0, 0.0),
    ],
)
def test_what_is_for_people_is_gathered_and_asked_and_seen_to_be_over(
    name: str, runbook: str, check: str, bad: float, good: float
) -> None:
    with playing(loaded(NSE)) as stage:
        trades(stage)
        cluster = stage.world.cluster
        cluster.namespace = "trading-system-prod"
        mended: list[bool] = []
        stage.world.numbers[query_of(NSE, runbook, check, job="node")] = lambda: good if mended else bad
        stage.fires(alert(name, "high", job="node"))
        stage.at("1:00")
        assert stage.did == []
        assert statuses(stage) == ["asked"]
        mended.append(True)
        stage.person("done", "lead", note="mended")
        stage.at("6:00")
        assert (stage.did, stage.incident.result) == ([], Result.FIXED)


def test_notifications_that_fail_are_told_by_both_ways_at_once() -> None:
    with playing(loaded(NSE)) as stage:
        stage.fires(alert("AlertNotificationsFailing", "high"))
        stage.at("0:30")
        assert sorted(stage.pages) == [("0:01", "nse-oncall"), ("0:01", "nse-opsgenie")]


# --- connections of PostgreSQL ----------------------------------------------------------------------------------------


def test_idle_transactions_of_reporting_are_ended_and_order_entry_is_spared() -> None:
    with playing(loaded(NSE)) as stage:
        databases = stage.world.databases
        databases.running = {1: ("reporting", "weekly"), 2: ("reporting", "order-entry"), 3: ("trading", "app")}
        databases.idle = {1, 2, 3}
        reads(stage, NSE, "postgres-connections", "used", 85, 60)
        stage.fires(alert("PostgresTooManyConnections"))
        stage.at("6:00")
        assert sorted(databases.running) == [2, 3]
        assert stage.incident.result is Result.FIXED


def test_connections_that_stay_are_for_people() -> None:
    with playing(loaded(NSE)) as stage:
        stage.world.databases.running = {3: ("trading", "app")}
        reads(stage, NSE, "postgres-connections", "used", 85)
        stage.fires(alert("PostgresTooManyConnections"))
        stage.at("3:00")
        assert stage.did == []
        assert statuses(stage)[-1] == "asked"


# --- the drill --------------------------------------------------------------------------------------------------------


def test_a_drill_goes_the_whole_path_and_changes_nothing() -> None:
    with playing(loaded(NSE)) as stage:
        stage.world.cluster.namespace = "trading-system-prod"
        stage.fires(alert("TrainingTestAlert", "high", service="trading-system"))
        stage.at("0:30")
        assert stage.pages == [("0:01", "nse-opsgenie")]
        stage.person("ack", "on-call")
        stage.person("done", "on-call", note="read")
        stage.at("2:00")
        stage.resolves(alert("TrainingTestAlert", "high", service="trading-system"))
        stage.at("40:00")
        assert stage.did == []
        assert stage.incident.closed
        assert stage.pages == [("0:01", "nse-opsgenie")]


# --- the trading service ----------------------------------------------------------------------------------------------

SERVICE = "trading-service"
ROLLBACK = "blue-green-deploy.sh --environment production --rollback"
SCALE = "docker-compose up -d --no-recreate --scale trademaster-trading-service=3 trademaster-trading-service"
CLOSE = "/actuator/circuitbreakers/brokerService/transition/forceClosed"


def serves(stage: Stage, health: str = "UP") -> None:
    """What the Actuator and the scripts of the service answer."""
    breakers = {"circuitBreakers": {"brokerService": {"state": "OPEN"}}}
    stage.world.answers |= {"/actuator/health": {"status": health}, "/actuator/circuitbreakers": breakers}
    stage.world.answers["/actuator/metrics/jvm.memory.used"] = {"measurements": []}
    stage.world.scripts.exits = dict.fromkeys((*COMPOSE_READS, "docker-compose", "blue-green-deploy.sh"), 0)


def of_service(alertname: str, severity: str, **labels: str) -> dict[str, str]:
    return alert(alertname, severity, SERVICE, **labels)


def test_where_most_endpoints_fail_the_rollback_is_asked_for_and_done_once() -> None:
    with playing(loaded(SERVICE)) as stage:
        serves(stage)
        reads(stage, SERVICE, "service-errors", "errors", 7, 0)
        reads(stage, SERVICE, "service-errors", "spread", 90)
        stage.fires(of_service("HighErrorRate", "high"))
        stage.at("0:30")
        assert (acted(stage), asked_for(stage)) == ([], "rollback")
        stage.approves("lead")
        stage.at("3:00")
        assert (acted(stage), stage.incident.result) == ([ROLLBACK], Result.FIXED)


def test_where_few_endpoints_fail_people_look_and_no_rollback_is_offered() -> None:
    with playing(loaded(SERVICE)) as stage:
        serves(stage)
        reads(stage, SERVICE, "service-errors", "errors", 7)
        reads(stage, SERVICE, "service-errors", "spread", 10)
        stage.fires(of_service("HighErrorRate", "high"))
        stage.at("1:00")
        assert (acted(stage), asked_for(stage)) == ([], "")
        assert statuses(stage)[0] == "asked"


def test_both_latencies_are_one_incident_and_one_scaling_to_three() -> None:
    with playing(loaded(SERVICE)) as stage:
        serves(stage)
        reads(stage, SERVICE, "service-latency", "above", 1.4, 0.5)
        stage.fires(of_service("HighAPILatencyP95", "warning"))
        stage.fires(of_service("CriticalAPILatencyP99", "critical"))
        stage.at("4:00")
        assert (acted(stage), stage.incident.result) == ([SCALE], Result.FIXED)


def test_where_three_instances_run_already_none_is_taken_away() -> None:
    with playing(loaded(SERVICE)) as stage:
        serves(stage)
        reads(stage, SERVICE, "service-latency", "above", 1.4)
        reads(stage, SERVICE, "service-latency", "running", 4)
        stage.fires(of_service("HighAPILatencyP95", "warning"))
        stage.at("1:00")
        assert (acted(stage), statuses(stage)) == ([], ["skipped", "asked"])


def test_a_breaker_that_closes_by_itself_is_awaited_and_nobody_is_asked() -> None:
    with playing(loaded(SERVICE)) as stage:
        serves(stage)
        query = query_of(SERVICE, "service-breaker-open", "state", name="brokerService")
        stage.world.numbers[query] = lambda: 0.0 if stage.offset > 60_000_000 else 1.0
        stage.fires(of_service("CircuitBreakerOpen", "high", name="brokerService"))
        stage.at("5:00")
        assert (acted(stage), stage.incident.result) == ([], Result.FIXED)


def test_a_breaker_that_stays_open_is_forced_closed_when_a_person_says_so() -> None:
    with playing(loaded(SERVICE)) as stage:
        serves(stage)
        reads(stage, SERVICE, "service-breaker-open", "state", 1.0, 0.0, name="brokerService")
        stage.fires(of_service("CircuitBreakerOpen", "high", name="brokerService"))
        stage.at("2:30")
        assert (acted(stage), asked_for(stage)) == ([], "close")
        stage.approves("lead")
        stage.at("5:00")
        assert (acted(stage), stage.incident.result) == ([CLOSE], Result.FIXED)


def test_a_breaker_that_nobody_has_named_is_left_to_people() -> None:
    with playing(loaded(SERVICE)) as stage:
        stage.fires(of_service("CircuitBreakerOpen", "high", name="news"))
        stage.at("5:00")
        assert (acted(stage), asked_for(stage)) == ([], "")
        assert stage.pages[0][1] == "trademaster-oncall"


def test_orders_that_fail_wake_somebody_at_once_and_no_machine_sends_one_again() -> None:
    with playing(loaded(SERVICE)) as stage:
        serves(stage, "DOWN")
        reads(stage, SERVICE, "order-placement-failures", "failed", 30)
        stage.fires(of_service("OrderPlacementFailures", "critical"))
        stage.at("1:00")
        assert (acted(stage), stage.pages) == ([], [("0:01", "trademaster-oncall")])


@pytest.mark.parametrize(("health", "status"), [("UP", "skipped"), ("DOWN", "asked")])
def test_a_release_that_went_back_by_itself_is_left_alone_and_another_is_for_people(health: str, status: str) -> None:
    with playing(loaded(SERVICE)) as stage:
        serves(stage, health)
        stage.fires(of_service("DeploymentFailure", "high"))
        stage.at("3:00")
        assert acted(stage) == []
        assert statuses(stage)[-1] == status
