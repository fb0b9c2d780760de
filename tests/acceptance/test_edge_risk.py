"""The shipped edge-risk runbooks beside var-breach, as timelines: what automation does, what it leaves to whom."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from responder.cli import run
from responder.incident import Incident
from responder.recorded import Result
from responder.redis_replies import Reply
from responder.sources import shipped_rules
from responder.timing import DAY, SECOND
from tests.acceptance.stage import ALERT, Stage, breach, playing, shipped
from tests.builders import an_alert

SWITCHES = "max(rate(model_switch_total[1m])) * 60"
P99 = "max(redis_latency_p99)"
DAYS_LEFT = 'min(probe_ssl_earliest_cert_expiry{platform="edge-risk", instance="edge:443"} - time()) / 86400'
VOLATILITY_AGE = "max(volatility_age_seconds)"


def alert(name: str, severity: str, **labels: str) -> dict[str, str]:
    return an_alert(alertname=name, severity=severity, **{"symbol": "", **labels})


SWITCHING = alert("ExcessiveModelSwitching", "warning")
SLOW = alert("RedisLatencyHigh", "warning")
OPENED = alert("CircuitBreakerOpened", "critical")
EXPIRING = alert("TlsCertificateExpiring", "warning", instance="edge:443")


def of(stage: Stage, runbook: str) -> Incident:
    (found,) = [incident for incident in stage.incidents() if incident.runbook == runbook]
    return found


def approves(stage: Stage, runbook: str, who: str = "risk-desk") -> None:
    """Somebody says yes to what an incident of this runbook asks now."""
    incident = of(stage, runbook)
    run = incident.active_run
    assert run is not None
    assert run.approval is not None, "nothing is asked"
    stage.person("approve", who, incident=incident.id, plan=run.approval.plan)


def asked(stage: Stage, runbook: str) -> str | None:
    """The role that is asked for an approval now."""
    run = of(stage, runbook).active_run
    return None if run is None or run.approval is None or not run.approval.waits(stage.clock()) else run.approval.role


# --- model switching --------------------------------------------------------------------------------------------------


def switching(stage: Stage, *, helps: bool = True, rate: float = 31.0) -> None:
    stage.world.numbers[SWITCHES] = lambda: 2.0 if helps and stage.world.router == "paused" else rate


def switches(*entries: tuple[str, str, str]) -> Reply:
    """A stream, newest first: symbol, from, to."""
    return [[f"{n}-0", ["symbol", s, "from", a, "to", b, "ms", "40"]] for n, (s, a, b) in enumerate(entries)]


def test_the_router_is_paused_and_the_quant_desk_resumes_it() -> None:
    with playing(shipped()) as stage:
        switching(stage)
        pairs = [("BTC-USD", "lstm", "tcn"), ("ETH-USD", "tcn", "lstm")] * 10
        stage.world.replies["XREVRANGE", "model.switch.log", "+", "-", "COUNT", "20"] = switches(*pairs)
        stage.fires(SWITCHING)
        stage.at("2:00")
        assert stage.did == [("0:00", "/api/router/pause")]
        assert (stage.incident.result, stage.pages) == (Result.FIXED, [])
        (evidence,) = [line for line in stage.thread if "Evidence" in line]
        assert '{"lstm, tcn": 10, "tcn, lstm": 10}' in evidence
        assert "two that alternate: the routing threshold" in evidence
        stage.resolves(SWITCHING)
        stage.at("10:00")
        stage.person("restore", "quant-desk", note="the routing threshold was widened")
        stage.after("10s")
        assert stage.world.router == "running"


def test_switching_that_has_calmed_down_changes_nothing() -> None:
    with playing(shipped()) as stage:
        switching(stage, rate=12.0)
        stage.fires(SWITCHING)
        stage.at("1:00")
        assert stage.did == []
        assert any("12 > 20 is false" in line for line in stage.thread)


def test_switching_that_goes_on_calls_quant_and_then_the_pm() -> None:
    with playing(shipped()) as stage:
        switching(stage, helps=False)
        stage.fires(SWITCHING)
        stage.at("16:00")
        assert stage.did == [("0:00", "/api/router/pause")]
        assert stage.incident.result is Result.INEFFECTIVE
        assert [page for page in stage.pages if page[1] != "trading-oncall"] == [
            ("5:00", "quant"),
            ("15:00", "pm"),
            ("15:00", "quant"),
        ]
        assert stage.pages[0] == ("3:00", "trading-oncall")


def test_a_redis_that_is_away_does_not_delay_the_pause() -> None:
    with playing(shipped()) as stage:
        switching(stage)
        stage.fires(SWITCHING)
        stage.at("0:05")
        assert stage.did == [("0:00", "/api/router/pause")]
        assert any("not to be had" in line for line in stage.thread)


# --- Redis ------------------------------------------------------------------------------------------------------------

QUIET: dict[tuple[str, ...], Reply] = {
    ("INFO", "memory"): "used_memory:1000\nused_memory_rss:1400\nmaxmemory:0\n",
    ("INFO", "clients"): "connected_clients:12\n",
    ("SLOWLOG", "GET", "100"): [],
}


def slow_redis(stage: Stage, *, until: Callable[[], bool]) -> None:
    """Latency is high until then; the server's own numbers are quiet."""
    stage.world.replies.update(QUIET)
    stage.world.numbers[P99] = lambda: 900.0 if until() else 9000.0


def test_the_cause_is_named_to_the_person_who_restarts() -> None:
    with playing(shipped()) as stage:
        restarted = False
        slow_redis(stage, until=lambda: restarted)
        entry: Reply = [1, stage.clock() // SECOND - 30, 12_000, ["TS.RANGE", "var_pct:BTC-USD"], "10.0.0.7:4", "web"]
        stage.world.replies["SLOWLOG", "GET", "100"] = [entry]
        stage.fires(SLOW)
        stage.at("0:30")
        (told,) = [line for line in stage.thread if "Please do by hand" in line]
        assert "Likely cause: commands (1 slow commands in 10 minutes, TS.RANGE most, up to 12000 µs)" in told
        restarted = True
        stage.person("done", "on-call", note="retention of var_pct shortened")
        stage.at("2:30")
        assert (stage.incident.result, stage.did) == (Result.FIXED, [])
        assert stage.pages == [("1:00", "trading-oncall")]


def test_a_redis_that_does_not_answer_is_restarted_all_the_same() -> None:
    with playing(shipped()) as stage:
        slow_redis(stage, until=lambda: False)
        stage.world.replies.clear()
        stage.fires(SLOW)
        stage.at("0:30")
        (told,) = [line for line in stage.thread if "Please do by hand" in line]
        assert "Redis does not tell why it is slow" in told


def test_what_a_restart_does_not_cure_is_re_pointed_by_approval_only() -> None:
    with playing(shipped()) as stage:
        pointed = False
        slow_redis(stage, until=lambda: pointed)
        stage.fires(SLOW)
        stage.at("1:30")
        stage.person("done", "on-call")
        stage.at("5:30")
        assert asked(stage, "redis-latency") == "risk-manager"
        assert stage.did == []
        assert any("redis-repoint runs by itself" in line for line in stage.thread)
        approves(stage, "redis-latency")
        stage.at("6:00")
        assert (stage.world.trading, stage.did) == ("halted", [("5:30", "/api/stop-trading")])
        pointed = True
        stage.person("done", "on-call")
        stage.at("6:30")
        approves(stage, "redis-latency")
        stage.at("9:00")
        assert stage.world.done == ["/api/stop-trading", "/api/start-trading"]
        assert stage.last_run.result is Result.FIXED


def test_trading_is_not_stopped_for_redis_when_nobody_approves() -> None:
    with playing(shipped()) as stage:
        slow_redis(stage, until=lambda: False)
        stage.fires(SLOW)
        stage.at("1:30")
        stage.person("done", "on-call")
        stage.at("17:00")
        assert stage.did == []
        assert {"trading-oncall", "devops", "cto"} <= {who for _, who in stage.pages}
        assert any("nobody with the role risk-manager approved within 10m" in line for line in stage.thread)


def test_a_restart_that_does_not_come_is_no_reason_to_re_point_unasked() -> None:
    with playing(shipped()) as stage:
        slow_redis(stage, until=lambda: False)
        stage.fires(SLOW)
        stage.at("11:00")
        assert (asked(stage, "redis-latency"), stage.did) == ("risk-manager", [])
        assert [who for _, who in stage.pages] == ["trading-oncall", "devops", "trading-oncall", "devops", "cto"]


# --- the circuit breaker ----------------------------------------------------------------------------------------------


def opened(stage: Stage, var: float = 2.6) -> None:
    """VaR opened the breaker, and falls with the cut."""
    breach(stage, var=var)
    stage.world.breaker = "OPEN"
    stage.world.numbers["max(circuit_breaker_state)"] = lambda: {"OPEN": 2.0, "HALF_OPEN": 1.0}[stage.world.breaker]


@pytest.mark.parametrize("first", [OPENED, ALERT], ids=["the breaker", "VaR"])
def test_the_breaker_is_reset_after_its_cause_and_by_approval_only(first: dict[str, str]) -> None:
    with playing(shipped()) as stage:
        opened(stage)
        stage.fires(first)
        stage.at("0:15")
        stage.fires(ALERT if first is OPENED else OPENED)
        stage.at("4:00")
        assert stage.world.kelly == 0.1
        assert asked(stage, "circuit-breaker") is None, "it yields to var-breach"
        stage.resolves(ALERT)
        stage.at("7:00")
        assert asked(stage, "circuit-breaker") == "risk-manager"
        assert stage.world.breaker == "OPEN"
        approves(stage, "circuit-breaker")
        stage.resolves(OPENED)
        stage.at("9:00")
        assert stage.world.breaker == "HALF_OPEN"
        assert stage.world.done == ["/api/risk/emergency-reduce", "/api/circuit-breaker/reset"]
        assert (of(stage, "circuit-breaker").result, of(stage, "circuit-breaker").closed) == (Result.FIXED, True)


def test_nobody_is_asked_to_reset_while_var_is_high() -> None:
    with playing(shipped()) as stage:
        opened(stage, var=1.9)
        stage.fires(OPENED)
        stage.at("2:30")
        assert asked(stage, "circuit-breaker") is None
        assert any("expected value < 1.8 within 3 tries, but value 1.9 < 1.8" in line for line in stage.thread)
        assert [who for _, who in stage.pages] == ["trading-oncall"]
        assert stage.did == []


def test_a_yes_that_comes_when_var_is_high_again_resets_nothing() -> None:
    with playing(shipped()) as stage:
        opened(stage, var=1.0)
        stage.fires(OPENED)
        stage.at("5:00")
        breach(stage, var=2.0)
        approves(stage, "circuit-breaker")
        stage.at("10:00")
        assert (stage.world.breaker, stage.did) == ("OPEN", [])
        assert stage.incident.result is Result.INEFFECTIVE


def test_without_data_nothing_is_reset() -> None:
    with playing(shipped()) as stage:
        opened(stage, var=1.0)
        stage.world.dark = True
        stage.fires(OPENED)
        stage.at("3:00")
        assert (asked(stage, "circuit-breaker"), stage.did) == (None, [])
        assert stage.pages != []


def test_an_approval_that_nobody_gives_resets_nothing_and_climbs() -> None:
    with playing(shipped()) as stage:
        opened(stage, var=1.0)
        stage.fires(OPENED)
        stage.at("33:00")
        assert stage.world.breaker == "OPEN"
        assert {"trading-oncall", "quant", "pm", "risk"} <= {who for _, who in stage.pages}


def test_a_breaker_that_opens_again_is_ineffective() -> None:
    with playing(shipped()) as stage:
        opened(stage, var=1.0)
        stage.world.numbers["max(circuit_breaker_state)"] = lambda: 2.0
        stage.fires(OPENED)
        stage.at("2:30")
        approves(stage, "circuit-breaker")
        stage.at("6:00")
        assert stage.incident.result is Result.INEFFECTIVE
        assert stage.world.done == ["/api/circuit-breaker/reset"]


# --- the certificate --------------------------------------------------------------------------------------------------


def test_a_certificate_is_renewed_by_people_and_looked_at() -> None:
    with playing(shipped()) as stage:
        stage.world.numbers[DAYS_LEFT] = lambda: 29.4
        stage.fires(EXPIRING)
        stage.at("1:00")
        (told,) = [line for line in stage.thread if "Please do by hand" in line]
        assert "edge:443 has 29.4 days left" in told
        stage.world.numbers[DAYS_LEFT] = lambda: 90.0
        stage.person("done", "on-call")
        stage.at("3:00")
        assert (stage.incident.result, stage.pages) == (Result.FIXED, [])


@pytest.mark.parametrize(
    ("days", "woken"), [(13, []), (15, ["trading-oncall"]), (24, ["trading-oncall", "devops", "cto"])]
)
def test_the_nearer_the_day_the_more_people_hear_of_it(days: int, woken: list[str]) -> None:
    with playing(shipped()) as stage:
        stage.world.numbers[DAYS_LEFT] = lambda: 29.4
        stage.fires(EXPIRING)
        stage.at("1:00")
        stage.restart(down=days * DAY)
        stage.after("1m")
        assert [who for _, who in stage.pages] == woken


# --- stale volatility -------------------------------------------------------------------------------------------------


def test_stale_volatility_is_refreshed_after_the_cut() -> None:
    with playing(shipped()) as stage:
        breach(stage)
        stage.world.volatility_age = 900.0
        stage.world.numbers[VOLATILITY_AGE] = lambda: stage.world.volatility_age
        stage.fires(ALERT)
        stage.at("2:00")
        assert stage.world.done == ["/api/risk/emergency-reduce", "/api/risk/refresh-volatility"]
        assert stage.incident.result is Result.FIXED


@pytest.mark.parametrize("age", [300.0, 5.0, None])
def test_fresh_or_unknown_volatility_is_left_alone(age: float | None) -> None:
    with playing(shipped()) as stage:
        breach(stage)
        stage.world.numbers[VOLATILITY_AGE] = lambda: age
        stage.fires(ALERT)
        stage.at("2:00")
        assert stage.world.done == ["/api/risk/emergency-reduce"]
        assert (stage.incident.result, stage.pages) == (Result.FIXED, [])


def test_a_refresh_that_is_refused_is_in_the_way_of_nothing() -> None:
    with playing(shipped()) as stage:
        breach(stage)
        stage.world.volatility_age = 900.0
        stage.world.numbers[VOLATILITY_AGE] = lambda: 900.0

        def after_the_cut() -> float:
            if stage.world.changes:
                stage.world.refused = [422]
            return 900.0

        stage.world.numbers[VOLATILITY_AGE] = after_the_cut
        stage.fires(ALERT)
        stage.at("2:00")
        assert stage.world.done == ["/api/risk/emergency-reduce"]
        assert stage.incident.result is Result.FIXED


# --- by replay --------------------------------------------------------------------------------------------------------

EXAMPLE = str(shipped_rules() / "edge-risk" / "_responder.example.yaml")


@pytest.mark.parametrize(
    ("labels", "runbook"), [(SWITCHING, "model-switching"), (SLOW, "redis-latency"), (EXPIRING, "tls-certificate")]
)
def test_a_replay_of_what_helps_ends_well(
    labels: dict[str, str], runbook: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"{name}={value}" for name, value in labels.items() if name != "alertname" and value]
    assert run(["replay", "--config", EXAMPLE, "--json", "--alert", labels["alertname"], *words]) == 0
    told = json.loads(capsys.readouterr().out)
    (incident,) = told["incidents"]
    assert (incident["runbook"], incident["result"], told["good"]) == (runbook, "fixed", True)


def test_a_replay_of_switching_that_goes_on_tells_whom_it_wakes(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["platform=edge-risk", "env=prod", "severity=warning"]
    replay = ["replay", "--config", EXAMPLE, "--json", "--assume", "unfixed"]
    assert run([*replay, "--alert", "ExcessiveModelSwitching", *words]) == 1
    (incident,) = json.loads(capsys.readouterr().out)["incidents"]
    pages = [(round(page["offset"]), page["destination"]) for page in incident["pages"]]
    assert pages == [
        (180, "trading-oncall"), (240, "trading-oncall"), (300, "quant"), (900, "pm"), (900, "quant"),
    ]  # fmt: skip
