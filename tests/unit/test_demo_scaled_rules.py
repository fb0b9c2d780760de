"""The demo's copy of the rules: what is scaled, what stays, and that the whole shipped catalogue survives it."""

from __future__ import annotations

import pytest
import yaml

from responder.demo.scaled_rules import scaled, scaled_text
from responder.policies import Policies
from responder.runbook import POLL, Runbook
from responder.sources import shipped_rules
from responder.timing import SECOND

CATALOGUE = shipped_rules() / "edge-risk"


@pytest.mark.parametrize(
    ("duration", "scale", "expected"),
    [("2m", 20, "6s"), ("30s", 20, "1s500ms"), ("1h30m", 20, "4m30s"), ("10ms", 20, "1ms"), ("soon", 20, "soon")],
)
def test_a_duration_is_divided(duration: str, scale: int, expected: str) -> None:
    assert scaled(duration, scale) == expected


def test_the_story_is_scaled_and_the_limits_of_calls_are_not() -> None:
    text = """
limits: {cooldown: 10m, runs: 3 per 6h}
checks: {var: {max_age: 30s, timeout: 10s}}
steps: [{timeout: 10s, retry: {attempts: 5, first: 1s, cap: 10s}, restore: {remind: 4h}}]
verify: {settle: 30s, within: 20m, hold: 30s, expect: value < 1.7}
unless_fixed: {2m: {page: pm}, 5m: {run: halt-trading, countdown: 1m}}
policies: {desk: {grace: 2m, acknowledgement: 30m, levels: [{name: L2, after: 15m}]}}
"""
    assert yaml.safe_load(scaled_text(text)) == {
        "limits": {"cooldown": "30s", "runs": "3 per 18m"},
        "checks": {"var": {"max_age": "5s", "timeout": "10s"}},
        "steps": [
            {
                "timeout": "10s",
                "retry": {"attempts": 5, "first": "1s", "cap": "10s"},
                "restore": {"remind": "12m"},
            }
        ],
        "verify": {"settle": "1s500ms", "within": "1m", "hold": "1s500ms", "expect": "value < 1.7"},
        "unless_fixed": {"6s": {"page": "pm"}, "15s": {"run": "halt-trading", "countdown": "3s"}},
        "policies": {
            "desk": {"grace": "6s", "acknowledgement": "1m30s", "levels": [{"name": "L2", "after": "11s250ms"}]}
        },
    }


def test_a_query_looks_back_less_far_and_a_wait_is_shorter() -> None:
    text = """
checks: {a: {with: {query: 'max(rate(a{b="x"}[1m])) * 60', freshness: a}}}
steps: [{action: wait, with: {for: 2m}, timeout: 130s}]
"""
    assert yaml.safe_load(scaled_text(text)) == {
        "checks": {"a": {"with": {"query": 'max(rate(a{b="x"}[3s])) * 60', "freshness": "a"}}},
        "steps": [{"action": "wait", "with": {"for": "6s"}, "timeout": "130s"}],
    }


VERIFIED = [path.name for path in sorted(CATALOGUE.glob("*.yaml")) if "\nverify:" in path.read_text()]


@pytest.mark.parametrize("name", VERIFIED)
def test_a_scaled_runbook_leaves_time_for_a_second_look(name: str) -> None:
    merged = yaml.safe_load((CATALOGUE / name).read_text())
    verify = Runbook.model_validate(yaml.safe_load(scaled_text(yaml.safe_dump(merged)))).verify
    assert verify is not None
    assert verify.within >= verify.settle + POLL + verify.hold


def test_the_second_level_comes_before_trading_is_halted() -> None:
    policies = Policies.model_validate(yaml.safe_load(scaled_text((CATALOGUE / "policies.yaml").read_text())))
    runbook = Runbook.model_validate(yaml.safe_load(scaled_text((CATALOGUE / "var-breach.yaml").read_text())))
    halt = next(after for after, promise in runbook.promises if promise.run)
    second = policies.policies["edge-risk"].levels[1].after
    assert second < halt - SECOND, "an incident that the halt has closed climbs no further"
