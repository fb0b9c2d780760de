"""When the story of the Redis master counts as good: every promise fails it by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from responder.demo.failover import Failover, Sight, ended, findings
from responder.demo.redis_servers import NAME, SENTINEL_RIGHTS, SERVER_RIGHTS
from responder.demo.scenario import Scenario
from responder.sources import shipped_rules
from responder.timing import parse_time

EXAMPLE = shipped_rules() / "nse-equities" / "_responder.example.yaml"
CLOSED = {"id": "a1", "status": "closed", "result": "fixed", "events": [], "runs": []}
GOOD = Sight(masters=(7002,), named=(7002,) * 3, told=1, written=True, incidents=(CLOSED,), messages_wait=False)
BROKE = parse_time("2026-11-20T17:00:00Z")


def bad(sight: Sight) -> list[str]:
    return [finding.wanted for finding in findings(Failover(7001, BROKE, sight)) if not finding.good]


def test_as_promised_it_is_good() -> None:
    ending = ended(Failover(7001, BROKE, GOOD), "built-in", None)
    assert (bad(GOOD), ending.good) == ([], True)
    assert ending.as_json(Scenario.REDIS_FAILOVER)["master"] == {"before": 7001, "after": [7002]}
    assert "master          7001 → 7002" in ending.told()


@pytest.mark.parametrize(
    ("sight", "broken"),
    [
        (replace(GOOD, incidents=(CLOSED, CLOSED)), ["the alert became one incident"]),
        (replace(GOOD, incidents=({**CLOSED, "status": "acting"},)), ["the incident is closed"]),
        (replace(GOOD, incidents=({**CLOSED, "result": "not_fixed"},)), ["its result is fixed"]),
        (replace(GOOD, told=2), ["one Sentinel was told to promote, and once"]),
        (replace(GOOD, told=0), ["one Sentinel was told to promote, and once"]),
        (replace(GOOD, masters=(7001, 7002)), ["one replica is the master, and nobody else"]),
        (replace(GOOD, named=(7002, 7002, 7001)), ["all three Sentinels name it"]),
        (replace(GOOD, named=(7002, 7002)), ["all three Sentinels name it"]),
        (replace(GOOD, written=False), ["it took a write"]),
    ],
)
def test_every_promise_counts(sight: Sight, broken: list[str]) -> None:
    assert bad(sight) == broken


def test_nothing_that_happened_is_not_good() -> None:
    nothing = Sight(masters=(), named=(), told=0, written=False, incidents=(), messages_wait=False)
    ending = ended(Failover(7001, BROKE, nothing), "built-in", None)
    assert not ending.good
    assert "after the kill  nothing happened" in ending.told()


def test_the_users_and_the_name_are_those_of_the_example() -> None:
    text = Path(EXAMPLE).read_text()
    written = " ".join(line.strip().lstrip("# ") for line in text.splitlines())
    assert SERVER_RIGHTS in written
    assert SENTINEL_RIGHTS in written
    assert yaml.safe_load(text)["services"]["trading-redis"]["master"] == NAME
