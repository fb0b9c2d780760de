"""The queries of shipped runbooks that verify by a share of failing requests, in a real promtool.

Without a failing request there is no series of them, and the sum of nothing is nothing: then the share must be 0, not
missing, or no cure ever counts as one. Without requests, and without a scrape, it must be missing.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_ladders import loaded
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
    (folder / "test.yml").write_text(json.dumps({"rule_files": [], "tests": [case]}))
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
