"""The queries of shipped runbooks, in a real promtool: that each reads prod alone, and the shares of failing requests.

Prod and staging may share one Prometheus, as the shipped alert rules and their tests assume.

Without a failing request there is no series of them, and the sum of nothing is nothing: then the share must be 0, not
missing, or no cure ever counts as one. Without requests, and without a scrape, it must be missing.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from responder.runbook import Runbook
from responder.selectors import unscoped
from tests.acceptance.catalogues import loaded
from tests.provision import find

REQUESTS = {
    "nse-equities": 'http_request_duration_seconds_count{platform="nse-equities", env="prod"',
    "multi-market": 'http_requests_total{app="trading-app", platform="multi-market", env="prod"',
}
SHARES = [
    ("nse-equities", "high-error-rate"),
    ("nse-equities", "undo-release"),
    ("multi-market", "deployment-unhealthy"),
]


def series(platform: str, **values: str) -> list[dict[str, str]]:
    """Counters of requests by status (`s200`), as promtool writes them."""
    return [{"series": f'{REQUESTS[platform]}, status="{s[1:]}"}}', "values": v} for s, v in values.items()]


def checked(folder: Path, query: str, inputs: list[dict[str, str]], expected: float | None) -> None:
    """promtool finds that the query is so much at 10 minutes; None: there is no number."""
    found = [] if expected is None else [{"labels": "{}", "value": expected}]
    # Not a number is missing for `prometheus.query`; promtool cannot compare it, so it is filtered.
    one = {"expr": f"({query}) >= 0", "eval_time": "10m", "exp_samples": found}
    case: dict[str, Any] = {"interval": "15s", "input_series": inputs, "promql_expr_test": [one]}
    run_promtool(folder, [case])


def run_promtool(folder: Path, cases: list[dict[str, Any]]) -> None:
    (folder / "test.yml").write_text(json.dumps({"rule_files": [], "tests": cases}))
    ran = subprocess.run(
        [find("promtool"), "test", "rules", folder / "test.yml"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(("platform", "runbook"), SHARES)
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"s200": "0+100x60"}, 0.0),
        ({"s200": "0+75x60", "s503": "0+25x60"}, 25.0),
        # The failing ones have ended, with their pods.
        ({"s200": "0+100x60", "s503": "0+100x10"}, 0.0),
        ({"s200": "7x60"}, None),
        ({"s200": "0+100x10"}, None),
        ({}, None),
    ],
    ids=["none fails", "some fail", "none fails any more", "no requests", "no scrape any more", "no series"],
)
def test_a_share_of_failures_is_0_without_one_and_missing_without_requests(
    tmp_path: Path, platform: str, runbook: str, values: dict[str, str], expected: float | None
) -> None:
    query = str(loaded(platform)[0].runbooks[runbook].checks["errors"].with_["query"])
    checked(tmp_path, query, series(platform, **values), expected)


OF_MACHINE = 'platform="trading-service", env="prod"'
OF_CONTAINER = f'{OF_MACHINE}, container_label_com_docker_compose_service="trademaster-trading-service"'


@pytest.mark.parametrize(
    ("title", "inputs", "expected"),
    [
        # It is gone for five minutes; before, it had grown to its limit.
        (
            "Its memory at the most, in percent of its limit",
            {
                f"container_memory_working_set_bytes{{{OF_CONTAINER}}}": "5e8x10 10e8x10",
                f"container_spec_memory_limit_bytes{{{OF_CONTAINER}}}": "10e8x20",
            },
            100.0,
        ),
        (
            "Its memory at the most, in percent of its limit",
            {
                f"container_memory_working_set_bytes{{{OF_CONTAINER}}}": "5e8x40",
                f"container_spec_memory_limit_bytes{{{OF_CONTAINER}}}": "0x40",
            },
            None,
        ),
        ("OOM kills on its machine in the last 15 minutes", {f"node_vmstat_oom_kill{{{OF_MACHINE}}}": "3x40"}, 0.0),
        (
            "Free memory of its machine, in percent",
            {
                f"node_memory_MemAvailable_bytes{{{OF_MACHINE}}}": "2e9x40",
                f"node_memory_MemTotal_bytes{{{OF_MACHINE}}}": "16e9x40",
            },
            12.5,
        ),
    ],
    ids=["at its limit before it died", "no limit", "no OOM kill", "memory of the machine"],
)
def test_the_evidence_of_a_service_that_is_down(
    tmp_path: Path, title: str, inputs: dict[str, str], expected: float | None
) -> None:
    evidence = loaded("trading-service")[0].runbooks["application-down"].evidence
    query = next(str(one.with_["query"]) for one in evidence if one.title == title)
    checked(tmp_path, query, [{"series": s, "values": v} for s, v in inputs.items()], expected)


@pytest.mark.parametrize(
    ("up", "requests", "expected"),
    [
        ("1x60", {"s200": "0+100x60"}, 1.0),
        ("1x60", {}, 1.0),
        ("1x60", {"s500": "0+1x60"}, None),
        ("0x60", {}, 0.0),
        ("1x10", {}, None),
    ],
    ids=["no failure", "no requests", "failures", "down", "no scrape any more"],
)
def test_the_trading_system_is_up_when_it_answers_and_no_request_fails(
    tmp_path: Path, up: str, requests: dict[str, str], expected: float | None
) -> None:
    query = str(loaded("nse-equities")[0].runbooks["trading-system-down"].checks["up"].with_["query"])
    inputs = [{"series": 'up{job="trading-system", env="prod"}', "values": up}]
    checked(tmp_path, query, [*inputs, *series("nse-equities", **requests)], expected)


# --- every query reads prod alone -------------------------------------------------------------------------------------

PLATFORMS = ("edge-risk", "multi-market", "nse-equities", "trading-service")


def asked(runbook: Runbook) -> Iterator[tuple[str, str]]:
    """Every query and every freshness of a runbook, with where it stands."""
    named = [(f"checks.{name}", check.with_) for name, check in runbook.checks.items()]
    steps = [(f"steps.{step.id}", step.with_) for step in runbook.steps]
    evidence = [(f"evidence.{index}", one.with_) for index, one in enumerate(runbook.evidence)]
    for place, fields in (*named, *steps, *evidence):
        for key in ("query", "freshness"):
            if isinstance(fields.get(key), str):
                yield f"{runbook.runbook}.{place}.{key}", str(fields[key])


PLACES = {
    f"{platform}.{place}": (platform, query)
    for platform in PLATFORMS
    for runbook in loaded(platform)[0].runbooks.values()
    for place, query in asked(runbook)
}
SHIPPED = list(PLACES.values())


def test_there_are_shipped_queries() -> None:
    assert len(SHIPPED) > 50


@pytest.mark.parametrize(("platform", "query"), SHIPPED, ids=PLACES)
def test_a_shipped_query_names_its_env(platform: str, query: str) -> None:
    assert {runbook.env for runbook in loaded(platform)[0].runbooks.values()} == {"prod"}
    assert unscoped(query, "prod") == ()


# Longer than the hour that one query looks back.
GAUGE = "{low}x300"
COUNTER = "0+{low}x300"
TRADING = 'namespace="trading-system-prod", container="trading-system"'
COMPOSED = 'container_label_com_docker_compose_service="trademaster-trading-service"'
MEASURED: dict[str, dict[str, str]] = {
    "edge-risk": {
        "var_pct": GAUGE,
        "circuit_breaker_state": GAUGE,
        "redis_latency_p99": GAUGE,
        "kelly_fraction": GAUGE,
        "volatility_age_seconds": GAUGE,
        'position_size_usd{symbol="BTC-USD"}': GAUGE,
        'edge_blended_bps{symbol="BTC-USD"}': GAUGE,
        'probe_ssl_earliest_cert_expiry{instance="BTC-USD"}': GAUGE,
        "trading_halted": "{halted}x300",
        "model_switch_total": COUNTER,
    },
    "multi-market": {
        "data_feed_last_message_timestamp_seconds": GAUGE,
        'broker_api_requests_total{status="ok"}': "0+100x300",
        'broker_api_requests_total{status="error"}': COUNTER,
        "daily_pnl_percent": GAUGE,
        'database_query_duration_seconds_bucket{le="0.1"}': COUNTER,
        'database_query_duration_seconds_bucket{le="0.5"}': "0+10x300",
        'database_query_duration_seconds_bucket{le="+Inf"}': "0+10x300",
        'order_pending_seconds{order_id="BTC-USD"}': "{low}00x300",
        'up{job="trading-app"}': GAUGE,
        'model_drift_score{strategy="BTC-USD"}': GAUGE,
        'http_requests_total{app="trading-app", status="200"}': "0+100x300",
        'http_requests_total{app="trading-app", status="503"}': COUNTER,
    },
    "nse-equities": {
        'up{job="postgres-primary"}': GAUGE,
        'up{job="trading-system"}': GAUGE,
        f"container_cpu_usage_seconds_total{{{TRADING}}}": COUNTER,
        f"container_spec_cpu_quota{{{TRADING}}}": "{low}00000x300",
        f"container_spec_cpu_period{{{TRADING}}}": "100000x300",
        f'container_memory_working_set_bytes{{{TRADING}, pod="a"}}': "{low}000000000x300",
        'database_query_duration_seconds_bucket{le="0.1"}': COUNTER,
        'database_query_duration_seconds_bucket{le="0.5"}': "0+10x300",
        'database_query_duration_seconds_bucket{le="+Inf"}': "0+10x300",
        "database_query_duration_seconds_count": COUNTER,
        'http_request_duration_seconds_bucket{le="0.1"}': COUNTER,
        'http_request_duration_seconds_bucket{le="0.5"}': "0+10x300",
        'http_request_duration_seconds_bucket{le="+Inf"}': "0+10x300",
        'http_request_duration_seconds_count{status="200"}': "0+100x300",
        'http_request_duration_seconds_count{status="503"}': "0+{failures}x300",
        "trading_open_positions": GAUGE,
        'trading_pnl_total{strategy="a"}': "10000-{low}x300",
        "trading_orders_total": COUNTER,
        "trading_signals_generated": COUNTER,
        "redis_cache_hit_ratio": GAUGE,
        "redis_memory_used_bytes": GAUGE,
        "redis_memory_max_bytes": "10x300",
        'pg_stat_activity_count{job="postgres-primary", state="active"}': GAUGE,
        'pg_settings_max_connections{job="postgres-primary"}': "10x300",
        'alertmanager_notifications_failed_total{integration="pagerduty"}': COUNTER,
        'up{job="BTC-USD", instance="a"}': "0x300",
    },
    "trading-service": {
        'up{job="trademaster-trading-service"}': GAUGE,
        f"container_memory_working_set_bytes{{{COMPOSED}}}": GAUGE,
        f"container_spec_memory_limit_bytes{{{COMPOSED}}}": "10x300",
        "node_vmstat_oom_kill": COUNTER,
        "node_memory_MemAvailable_bytes": GAUGE,
        "node_memory_MemTotal_bytes": "10x300",
        'node_filesystem_avail_bytes{instance="a", mountpoint="/", fstype="ext4"}': GAUGE,
        'node_filesystem_size_bytes{instance="a", mountpoint="/", fstype="ext4"}': "10x300",
        "hikaricp_connections_active": GAUGE,
        "hikaricp_connections_max": "10x300",
        'http_server_requests_seconds_bucket{uri="/a", le="0.1"}': COUNTER,
        'http_server_requests_seconds_bucket{uri="/a", le="5"}': "0+10x300",
        'http_server_requests_seconds_bucket{uri="/a", le="+Inf"}': "0+10x300",
        'http_server_requests_seconds_count{uri="/a", status="200"}': "0+100x300",
        'http_server_requests_seconds_count{uri="/a", status="503"}': COUNTER,
        'resilience4j_circuitbreaker_state{state="open", name="BTC-USD"}': GAUGE,
        'resilience4j_circuitbreaker_failure_rate{name="BTC-USD"}': GAUGE,
        'resilience4j_circuitbreaker_buffered_calls{name="brokerService"}': GAUGE,
        'orders_failed_total{reason="margin"}': COUNTER,
    },
}
"""Selector -> how its series goes on."""


def series_of(selector: str, labels: str, suffix: str = "") -> str:
    """The name of one series, with these labels as well."""
    name, _, inner = selector.partition("{")
    return f"{name}{suffix}{{{labels}{f', {inner}' if inner else '}'}"


def alone(platform: str, query: str) -> str:
    """The same query over the series of prod that stand by themselves."""
    names = "|".join({selector.partition("{")[0] for selector in MEASURED[platform]})
    return re.sub(rf"\b({names})\b(?!=)", r"\1_alone", query)


def beside_staging(platform: str, query: str, prod: int, staging: int) -> dict[str, Any]:
    """A case for promtool: the query answers the same beside staging, and beside what has no env, as without them."""
    # Two runbooks ask only while trading is halted, or is not; one only while no request fails.
    halted = int("== 1" in query)
    here = {"low": prod, "halted": halted, "failures": 0 if "unless" in query else prod}
    there = {"low": staging, "halted": 1 - halted, "failures": staging}
    inputs = []
    for selector, values in MEASURED[platform].items():
        of_prod, of_staging = values.format_map(here), values.format_map(there)
        labels = f'platform="{platform}"'
        inputs += [
            {"series": series_of(selector, f'{labels}, env="prod"'), "values": of_prod},
            {"series": series_of(selector, f'{labels}, env="prod"', "_alone"), "values": of_prod},
            {"series": series_of(selector, f'{labels}, env="staging"'), "values": of_staging},
            {"series": series_of(selector, labels), "values": of_staging},
        ]
    shown = re.sub(r"\{\{.*?\}\}", "BTC-USD", query)
    own = alone(platform, shown)
    # As many elements, and of each the same number; where nothing is found, this finds nothing either.
    same = f"min(({shown}) == bool ({own})) * (count({shown}) == bool count({own}))"
    one = {"expr": same, "eval_time": "70m", "exp_samples": [{"labels": "{}", "value": 1}]}
    return {"interval": "15s", "input_series": inputs, "promql_expr_test": [one]}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(("prod", "staging"), [(2, 9), (9, 2)], ids=["staging is higher", "staging is lower"])
def test_a_series_of_staging_changes_no_shipped_query(tmp_path: Path, platform: str, prod: int, staging: int) -> None:
    queries = {query for of, query in SHIPPED if of == platform}
    run_promtool(tmp_path, [beside_staging(platform, query, prod, staging) for query in sorted(queries)])


def test_a_query_without_its_env_is_seen(tmp_path: Path) -> None:
    """That the comparison above can fail: what the audit played."""
    with pytest.raises(AssertionError, match="postgres-primary"):
        run_promtool(tmp_path, [beside_staging("nse-equities", 'max(up{job="postgres-primary"})', 0, 1)])
