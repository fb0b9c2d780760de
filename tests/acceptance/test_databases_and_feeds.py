"""The shipped runbooks of databases and feeds, as timelines: what automation does, what it leaves to whom."""

from __future__ import annotations

from functools import cache

import pytest

from responder.commands import pending_approval
from responder.config import Config, load_config
from responder.loader import load_rules
from responder.recorded import Result
from responder.rules import Rules
from responder.sources import Folders, read_sources, shipped_rules
from tests.acceptance.stage import CATALOGUE, Stage, playing

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


@cache
def loaded(platform: str) -> tuple[Rules, Config]:
    """A shipped catalogue with its example configuration."""
    path = shipped_rules() / platform / "_responder.example.yaml"
    config = load_config(path, CATALOGUE, {"HOME": "/var/ops"}, check_secrets=False)
    sources = read_sources(config.rules, Folders(shipped_rules(), config.folder))
    return load_rules(sources, CATALOGUE, config).rules, config


def alert(platform: str, name: str, severity: str) -> dict[str, str]:
    return {"alertname": name, "platform": platform, "env": "prod", "severity": severity}


# --- the primary is down ----------------------------------------------------------------------------------------------

DOWN = alert("nse-equities", "PostgresPrimaryDown", "critical")


def goes_down(stage: Stage) -> None:
    stage.world.databases.primary = ""
    stage.world.numbers[UP] = lambda: 1.0 if stage.world.databases.primary else 0.0
    stage.fires(DOWN)


def test_a_primary_that_comes_back_by_itself_is_left_alone() -> None:
    with playing(loaded("nse-equities")) as stage:
        goes_down(stage)
        stage.at("1:00")
        stage.world.databases.primary = "db"
        stage.at("3:00")
        assert (stage.did, stage.last_run.result) == ([], Result.FIXED)
        assert not any("Please do by hand" in line for line in stage.thread)


def test_the_most_advanced_replica_is_promoted_when_a_person_says_so() -> None:
    with playing(loaded("nse-equities")) as stage:
        goes_down(stage)
        stage.at("2:10")
        (fence,) = {line for line in stage.thread if "scale statefulset postgres-primary --replicas=0" in line}
        assert "Please do by hand" in fence
        stage.person("done", "lead", note="the pod is gone")
        stage.at("2:30")
        asked = pending_approval(stage.incident)
        assert asked is not None
        assert stage.did == []
        assert any("promote db-replica-2 by pg_promote, which has received most" in line for line in stage.thread)
        stage.world.databases.pointed = False
        stage.approves("lead")
        stage.at("2:45")
        assert [what for _, what in stage.did] == ["promote db-replica-2"]
        assert any("The promoted replica, named by the step above, is the primary now" in line for line in stage.thread)
        stage.world.databases.pointed = True
        stage.person("done", "lead", note="re-pointed")
        stage.at("3:30")
        assert stage.last_run.result is Result.FIXED


def test_a_fenced_primary_that_is_no_target_any_more_and_whose_alert_resolves_is_replaced_all_the_same() -> None:
    with playing(loaded("nse-equities")) as stage:
        goes_down(stage)
        stage.at("2:10")
        stage.world.numbers[UP] = lambda: None
        stage.person("done", "lead", note="scaled to 0, the pod is gone")
        stage.resolves(DOWN)
        stage.at("3:00")
        assert pending_approval(stage.incident) is not None
        stage.world.databases.pointed = False
        stage.approves("lead")
        stage.at("3:15")
        assert [what for _, what in stage.did] == ["promote db-replica-2"]
        stage.world.databases.pointed = True
        stage.person("done", "lead", note="re-pointed")
        stage.at("4:00")
        assert stage.last_run.result is Result.FIXED


def test_without_a_fence_nobody_is_asked_about_a_promotion() -> None:
    with playing(loaded("nse-equities")) as stage:
        goes_down(stage)
        stage.at("1:50")
        stage.world.numbers[UP] = lambda: None
        stage.at("5:00")
        assert (stage.did, pending_approval(stage.incident)) == ([], None)
        assert stage.last_run.result is not Result.FIXED
        assert "nse-oncall" in {who for _, who in stage.pages}


def test_nobody_says_yes_so_nothing_is_promoted_and_people_are_woken() -> None:
    with playing(loaded("nse-equities")) as stage:
        goes_down(stage)
        stage.at("2:10")
        stage.person("done", "lead")
        stage.at("14:00")
        assert stage.did == []
        assert {"nse-oncall", "nse-lead"} <= {who for _, who in stage.pages}


def test_a_replica_that_still_hears_from_its_primary_is_not_promoted() -> None:
    with playing(loaded("nse-equities")) as stage:
        stage.world.numbers[UP] = lambda: 0.0  # the exporter is down, the primary is not
        stage.fires(DOWN)
        stage.at("2:10")
        stage.person("done", "lead")
        stage.at("3:00")
        assert stage.did == []
        assert any("still hears from its primary, which is alive" in line for line in stage.thread)


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


@pytest.mark.parametrize("helps", [True, False])
def test_long_statements_are_ended_and_else_people_restart(helps: bool) -> None:
    with playing(loaded("trading-service")) as stage:
        running = stage.world.databases.running
        running.update({100: ("analytics", "cohorts"), 7: ("analytics", "trademaster-orders-1")})
        full = [True]
        stage.world.numbers[IN_USE] = lambda: 1.0 if full[0] and not (helps and 100 not in running) else 0.4
        stage.fires(EXHAUSTED)
        stage.at("1:30")
        assert ([what for _, what in stage.did], list(running)) == (["terminate 100"], [7])
        asked = [line for line in stage.thread if "docker-compose restart trademaster-trading-service" in line]
        assert bool(asked) is not helps
        if not helps:
            full[0] = False
            stage.person("done", "on-call", note="restarted")
        stage.at("4:00")
        assert stage.last_run.result is Result.FIXED


# --- the feed is down -------------------------------------------------------------------------------------------------

NO_PRICES = alert("multi-market", "DataFeedDown", "critical")
SWITCH, HALT = "switch_data_feed.sh --feed backup", "halt_trading.sh --reason data_feed_down"


def silent(stage: Stage, backup: int) -> None:
    """`backup`: what verify_data_feed.sh ends with."""
    exits = {"check_data_feed_health.sh": 1, "check_dependencies.sh": 0, "verify_data_feed.sh": backup}
    stage.world.scripts.exits = {**exits, "switch_data_feed.sh": 0, "halt_trading.sh": 0}
    stage.world.numbers[SILENCE] = lambda: 0.4 if backup == 0 and stage.world.changes else 45.0
    stage.fires(NO_PRICES)


def test_the_backup_feed_is_switched_to_and_trading_goes_on() -> None:
    with playing(loaded("multi-market")) as stage:
        silent(stage, backup=0)
        stage.at("1:00")
        assert stage.did == [("0:00", SWITCH)]
        assert stage.last_run.result is Result.FIXED


@pytest.mark.parametrize("backup", [1, 9])
def test_both_down_or_nobody_can_tell_halts_trading(backup: int) -> None:
    with playing(loaded("multi-market")) as stage:
        silent(stage, backup=backup)
        stage.at("3:00")
        assert stage.did == [("0:00", SWITCH), ("0:05", HALT)]
        assert stage.last_run.result is Result.INEFFECTIVE
        assert "multi-market-oncall" in {who for _, who in stage.pages}


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
        looked = {"check_data_feed_health.sh": 1, "check_dependencies.sh": 0, "verify_data_feed.sh": exit_}
        stage.world.scripts.exits = {**looked, "halt_trading.sh": 0}
        stage.fires(NO_PRICES)
        stage.at("4:00")
        assert [what for _, what in stage.did] == did
        assert "multi-market-oncall" in {who for _, who in stage.pages}
        assert stage.last_run.result is not Result.FIXED


def test_a_storm_holds_nothing_back_on_the_way_to_the_halt() -> None:
    with playing(loaded("multi-market")) as stage:
        stage.world.numbers[SILENCE] = lambda: None
        looked = {"check_data_feed_health.sh": 1, "check_dependencies.sh": 0, "verify_data_feed.sh": 1}
        stage.world.scripts.exits = {**looked, "halt_trading.sh": 0}
        for number in range(12):
            stage.fires(alert("multi-market", f"Symptom{number}", "warning"))
        stage.fires(NO_PRICES)
        stage.at("0:30")
        assert [what for _, what in stage.did] == [HALT]
