"""The shipped runbooks of databases and feeds, as timelines: what automation does, what it leaves to whom."""

from __future__ import annotations

import pytest

from responder.commands import pending_approval
from responder.recorded import Result
from responder.timing import SECOND
from tests.acceptance.catalogues import alert, loaded
from tests.acceptance.machines import LOOKING
from tests.acceptance.runbook_parts import acted, asked_for
from tests.acceptance.stage import Stage, playing
from tests.fakes.kubernetes_objects import workload

UP = 'max(up{job="postgres-primary", platform="nse-equities", env="prod"})'
P95 = (
    "histogram_quantile(0.95, sum by (le) "
    '(rate(database_query_duration_seconds_bucket{platform="nse-equities", env="prod"}[1m])))'
)
IN_USE = (
    'max(hikaricp_connections_active{platform="trading-service", env="prod"} '
    '/ hikaricp_connections_max{platform="trading-service", env="prod"})'
)
SILENCE = 'time() - max(data_feed_last_message_timestamp_seconds{platform="multi-market", env="prod"})'


# --- the primary is down ----------------------------------------------------------------------------------------------

DOWN = alert("nse-equities", "PostgresPrimaryDown", "critical")


FENCE, PROMOTE = "patch statefulsets/scale postgres-primary", "promote db-replica-2"


def stateful(stage: Stage) -> None:
    cluster = stage.world.cluster
    cluster.namespace = "trading-system-prod"
    cluster.add("statefulsets", workload("StatefulSet", "postgres-primary", replicas=1))


def goes_down(stage: Stage) -> None:
    stateful(stage)
    stage.world.databases.primary = ""
    stage.world.numbers[UP] = lambda: 1.0 if stage.world.databases.primary else 0.0
    stage.fires(DOWN)


@pytest.mark.parametrize(("seen", "result"), [(35, Result.FIXED), (20, Result.CANCELLED)])
def test_a_primary_that_comes_back_by_itself_ends_it_at_once_and_pages_nobody(seen: int, result: Result) -> None:
    """`seen`: when Prometheus sees it, in s; before we have, there is nothing to do."""
    with playing(loaded("nse-equities")) as stage:
        goes_down(stage)
        stage.world.numbers[UP] = lambda: 1.0 if stage.offset >= seen * SECOND else 0.0
        stage.at("0:20")
        stage.world.databases.primary = "db"
        stage.at("0:45")
        assert (stage.did, stage.last_run.result) == ([], result)
        assert any("Pod of the primary" in line for line in stage.thread)
        stage.resolves(DOWN)
        stage.at("10:00")
        assert (stage.pages, stage.incident.closed) == ([], True)


def test_the_most_advanced_replica_is_promoted_when_a_person_says_so_and_the_old_one_is_fenced() -> None:
    with playing(loaded("nse-equities")) as stage:
        goes_down(stage)
        stage.at("2:30")
        assert (stage.did, asked_for(stage)) == ([], "fence")
        stage.approves("lead")
        stage.at("3:00")
        assert (acted(stage), asked_for(stage)) == ([FENCE], "promote")
        assert stage.world.cluster.get("statefulsets", "postgres-primary")["spec"]["replicas"] == 0
        assert any("promote db-replica-2 by pg_promote, which has received most" in line for line in stage.thread)
        stage.world.databases.pointed = False
        stage.approves("lead")
        stage.at("3:15")
        assert acted(stage) == [FENCE, PROMOTE]
        assert any("The promoted replica, named by the step above, is the primary now" in line for line in stage.thread)
        stage.world.databases.pointed = True
        stage.person("done", "lead", note="re-pointed")
        stage.at("4:00")
        assert stage.last_run.result is Result.FIXED


def test_a_fenced_primary_that_is_no_target_any_more_and_whose_alert_resolves_is_replaced_all_the_same() -> None:
    with playing(loaded("nse-equities")) as stage:
        goes_down(stage)
        stage.at("2:30")
        stage.approves("lead")
        stage.at("2:40")
        stage.world.numbers[UP] = lambda: None
        stage.resolves(DOWN)
        stage.at("3:00")
        assert asked_for(stage) == "promote"
        stage.world.databases.pointed = False
        stage.approves("lead")
        stage.at("3:15")
        assert acted(stage) == [FENCE, PROMOTE]
        stage.world.databases.pointed = True
        stage.person("done", "lead", note="re-pointed")
        stage.at("4:00")
        assert stage.last_run.result is Result.FIXED


def test_where_prometheus_does_not_see_it_down_any_more_nobody_is_asked_to_fence_or_promote() -> None:
    with playing(loaded("nse-equities")) as stage:
        goes_down(stage)
        stage.at("1:30")
        stage.world.numbers[UP] = lambda: None
        stage.at("5:00")
        assert (stage.did, pending_approval(stage.incident)) == ([], None)
        assert stage.last_run.result is not Result.FIXED
        assert "nse-oncall" in {who for _, who in stage.pages}


@pytest.mark.parametrize("fenced", [False, True])
def test_nobody_says_yes_so_nothing_is_promoted_and_people_are_woken(fenced: bool) -> None:
    with playing(loaded("nse-equities")) as stage:
        goes_down(stage)
        stage.at("2:30")
        if fenced:
            stage.approves("lead")
        stage.at("14:00")
        assert acted(stage) == ([FENCE] if fenced else [])
        assert {"nse-oncall", "nse-lead"} <= {who for _, who in stage.pages}


def test_a_primary_that_lives_behind_a_broken_network_is_neither_fenced_nor_replaced() -> None:
    with playing(loaded("nse-equities")) as stage:
        stateful(stage)
        stage.world.databases.pointed = False  # neither Prometheus nor we reach it, its replicas do
        stage.world.numbers[UP] = lambda: 0.0
        stage.fires(DOWN)
        stage.at("8:00")
        assert (stage.did, pending_approval(stage.incident)) == ([], None)
        assert stage.last_run.result is not Result.FIXED
        assert "nse-oncall" in {who for _, who in stage.pages}


# --- slow statements --------------------------------------------------------------------------------------------------

SLOW = alert("nse-equities", "DatabaseQuerySlow", "warning")


def slow(stage: Stage, *users: str) -> None:
    stage.world.databases.running = {100 + n: (user, "monthly") for n, user in enumerate(users)}
    stage.world.databases.running[7] = ("reporting", "order-entry")
    running = stage.world.databases.running
    stage.world.numbers[P95] = lambda: 0.6 if len(running) > 1 else 0.04
    stage.fires(SLOW)


def test_long_reports_are_ended_and_order_entry_goes_on() -> None:
    with playing(loaded("nse-equities")) as stage:
        slow(stage, "reporting", "reporting")
        stage.at("5:00")
        assert [what for _, what in stage.did] == ["cancel 100", "cancel 101"]
        assert stage.world.databases.running == {7: ("reporting", "order-entry")}
        assert (stage.last_run.result, stage.pages) == (Result.FIXED, [])
        assert not any("4711" in line for line in stage.thread)


def test_backtests_are_ended_only_when_somebody_says_so() -> None:
    with playing(loaded("nse-equities")) as stage:
        slow(stage, "backtest")
        stage.at("2:00")
        assert (stage.did, pending_approval(stage.incident) is not None) == ([], True)
        stage.approves("lead")
        stage.at("5:00")
        assert [what for _, what in stage.did] == ["terminate 100"]
        assert stage.last_run.result is Result.FIXED


def test_a_yes_that_comes_late_still_counts_for_the_statements_that_people_saw() -> None:
    """Ages grow, one ends by itself, another comes up: the first is left out, the second is not touched."""
    with playing(loaded("nse-equities")) as stage:
        slow(stage, "backtest", "backtest")
        stage.at("6:00")
        assert pending_approval(stage.incident) is not None
        running = stage.world.databases.running
        del running[100]
        running[200] = ("backtest", "monthly")
        stage.approves("lead")
        stage.at("6:10")
        assert [what for _, what in stage.did] == ["terminate 101"]
        assert 200 in running
        assert any("only the 1 that were approved" in line for line in stage.thread)
        assert len(stage.told("approval_asked")) == 1


def test_when_none_of_the_approved_statements_is_left_people_are_asked_about_the_others() -> None:
    with playing(loaded("nse-equities")) as stage:
        slow(stage, "backtest")
        stage.at("3:00")
        running = stage.world.databases.running
        running[200] = running.pop(100)
        stage.approves("lead")
        stage.at("3:30")
        assert (stage.did, len(stage.told("approval_asked"))) == ([], 2)
        stage.approves("lead")
        stage.at("4:00")
        assert [what for _, what in stage.did] == ["terminate 200"]


# --- the pool is exhausted --------------------------------------------------------------------------------------------

EXHAUSTED = alert("trading-service", "DatabaseConnectionPoolExhaustion", "high")


RESTARTED = "docker-compose restart trademaster-trading-service"


def exhausted(stage: Stage, until: str, *, idle: bool = True) -> None:
    """The pool is full until so much has been done. Its slots are held by the service's own sessions alone."""
    databases = stage.world.databases
    databases.running = {
        90: ("analytics", "cohorts"), 100: ("trademaster", "trademaster-reports"),
        7: ("trademaster", "trademaster-orders-1"), 8: ("trademaster", "PostgreSQL JDBC Driver"),
        101: ("trademaster", "trademaster-reports"),
    }  # fmt: skip
    databases.idle = {101} if idle else set()
    if not idle:
        del databases.running[101]
    stage.world.scripts.exits[RESTARTED] = 0
    stage.world.numbers[IN_USE] = lambda: 0.4 if until in [what for _, what in stage.did] else 1.0
    stage.fires(EXHAUSTED)


def test_long_statements_of_the_service_itself_are_ended_and_order_entry_is_spared() -> None:
    with playing(loaded("trading-service")) as stage:
        exhausted(stage, until="terminate 100")
        stage.at("4:00")
        assert [what for _, what in stage.did] == ["terminate 100"]
        assert set(stage.world.databases.running) == {90, 7, 8, 101}
        assert (stage.last_run.result, pending_approval(stage.incident)) == (Result.FIXED, None)


def test_idle_transactions_are_ended_when_that_does_not_help() -> None:
    with playing(loaded("trading-service")) as stage:
        exhausted(stage, until="terminate 101")
        stage.at("4:00")
        assert stage.did == [("0:00", "terminate 100"), ("0:30", "terminate 101")]
        assert set(stage.world.databases.running) == {90, 7, 8}
        assert stage.last_run.result is Result.FIXED


@pytest.mark.parametrize("idle", [True, False])
def test_a_pool_that_stays_full_is_emptied_by_a_restart_when_somebody_says_so(idle: bool) -> None:
    with playing(loaded("trading-service")) as stage:
        exhausted(stage, until=RESTARTED, idle=idle)
        stage.at("2:00")
        asked = pending_approval(stage.incident)
        assert asked is not None
        assert (asked.step, RESTARTED in [what for _, what in stage.did]) == ("restart", False)
        stage.approves("lead")
        stage.at("2:30")
        assert [what for _, what in stage.did] == ["terminate 100", *(["terminate 101"] if idle else []), RESTARTED]
        stage.at("7:00")
        assert stage.last_run.result is Result.FIXED


def test_a_pool_that_fills_again_after_the_restart_is_for_people_to_enlarge() -> None:
    with playing(loaded("trading-service")) as stage:
        exhausted(stage, until="never")
        stage.at("2:00")
        stage.approves("lead")
        stage.at("4:00")
        assert [what for _, what in stage.did][-1] == RESTARTED
        assert any("Raise maximum-pool-size from 10 to 20" in line for line in stage.thread)


# --- the feed is down -------------------------------------------------------------------------------------------------

NO_PRICES = alert("multi-market", "DataFeedDown", "critical")
SWITCH, HALT = "switch_data_feed.sh --feed backup", "halt_trading.sh --reason data_feed_down"


LOOKED = {**dict.fromkeys(LOOKING, 0), "check_data_feed_health.sh": 1}


def silent(stage: Stage, backup: int) -> None:
    """`backup`: what verify_data_feed.sh ends with."""
    stage.world.scripts.exits = {
        **LOOKED,
        "verify_data_feed.sh": backup,
        "switch_data_feed.sh": 0,
        "halt_trading.sh": 0,
    }
    stage.world.numbers[SILENCE] = lambda: 0.4 if backup == 0 and stage.world.changes else 45.0
    stage.fires(NO_PRICES)


def test_the_backup_feed_is_switched_to_and_trading_goes_on() -> None:
    with playing(loaded("multi-market")) as stage:
        silent(stage, backup=0)
        stage.at("1:00")
        assert stage.did == [("0:00", SWITCH)]
        assert stage.last_run.result is Result.FIXED


@pytest.mark.parametrize("backup", [1, 9])
def test_both_down_or_nobody_can_tell_halts_trading_and_it_is_seen_to_be_halted(backup: int) -> None:
    with playing(loaded("multi-market")) as stage:
        silent(stage, backup=backup)
        stage.at("0:10")
        assert stage.did == [("0:00", SWITCH), ("0:05", HALT)]
        assert [step.status.value for step in stage.last_run.steps][-1] == "done"
        stage.at("4:00")
        assert len(stage.did) == 2, "halted already is not halted again"
        assert (stage.last_run.runbook, stage.incident.result) == ("halt-multi-market", Result.CONTAINED)
        assert "multi-market-oncall" in {who for _, who in stage.pages}
        stage.at("6:00")
        assert stage.pages[-1] == ("5:00", "multi-market-executives")
        said = "trading halted (done). halt-multi-market is contained, the cause remains"
        assert said in stage.page_texts[-1]
        assert "ineffective" not in stage.page_texts[-1]
        assert "Strategies trade on old prices" not in stage.page_texts[-1]


def test_a_halt_that_does_not_hold_is_told_at_once_and_sent_again() -> None:
    with playing(loaded("multi-market")) as stage:
        silent(stage, backup=1)
        stage.world.scripts.halts = False
        stage.at("0:40")
        assert stage.last_run.result is Result.FAILED
        assert any("step halted: expected value.exit == 1" in line for line in stage.thread)
        stage.world.scripts.halts = True
        stage.at("2:00")
        assert stage.did == [("0:00", SWITCH), ("0:05", HALT), ("1:00", HALT)]
        assert stage.incident.result is Result.CONTAINED


def test_a_backup_feed_that_promises_prices_and_sends_none_halts_trading() -> None:
    with playing(loaded("multi-market")) as stage:
        silent(stage, backup=0)
        stage.world.numbers[SILENCE] = lambda: 45.0
        stage.at("2:00")
        assert [what for _, what in stage.did] == [SWITCH, HALT]
        assert stage.incident.result is Result.CONTAINED


def test_a_switch_that_fails_halts_trading_too() -> None:
    with playing(loaded("multi-market")) as stage:
        stage.world.scripts.exits["switch_data_feed.sh"] = 64
        silent(stage, backup=1)
        stage.world.scripts.exits["switch_data_feed.sh"] = 64
        stage.at("1:00")
        assert [what for _, what in stage.did] == [SWITCH, HALT]


@pytest.mark.parametrize(
    ("hanging", "halted"),
    [
        ({"switch_data_feed.sh"}, "0:05"),
        ({"switch_data_feed.sh", "verify_data_feed.sh"}, "0:05"),
        ({"verify_data_feed.sh"}, "0:10"),
        ({"check_data_feed_health.sh", "check_dependencies.sh"}, "0:05"),
    ],
)
def test_whatever_hangs_the_halt_is_sent_within_twenty_seconds(hanging: set[str], halted: str) -> None:
    with playing(loaded("multi-market")) as stage:
        stage.world.scripts.hanging = hanging
        silent(stage, backup=1)
        stage.at("3:00")
        assert stage.did == [("0:00", SWITCH), (halted, HALT)]


@pytest.mark.parametrize(("exit_", "did"), [(0, []), (1, [HALT]), (9, [HALT])])
def test_without_data_a_machine_switches_nothing_and_halts_only_where_the_feed_says_no(
    exit_: int, did: list[str]
) -> None:
    with playing(loaded("multi-market")) as stage:
        stage.world.numbers[SILENCE] = lambda: None
        stage.world.scripts.exits = {**LOOKED, "verify_data_feed.sh": exit_, "halt_trading.sh": 0}
        stage.fires(NO_PRICES)
        stage.at("4:00")
        assert [what for _, what in stage.did] == did
        assert "multi-market-oncall" in {who for _, who in stage.pages}
        assert stage.last_run.result is not Result.FIXED


def test_a_storm_holds_nothing_back_on_the_way_to_the_halt() -> None:
    with playing(loaded("multi-market")) as stage:
        stage.world.numbers[SILENCE] = lambda: None
        stage.world.scripts.exits = {**LOOKED, "verify_data_feed.sh": 1, "halt_trading.sh": 0}
        for number in range(12):
            stage.fires(alert("multi-market", f"Symptom{number}", "warning"))
        stage.fires(NO_PRICES)
        stage.at("0:30")
        assert [what for _, what in stage.did] == [HALT]
