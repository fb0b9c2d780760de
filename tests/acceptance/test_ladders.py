"""The shipped ladders of the four platforms: who is woken at which minute, by severity and by the hour."""

from __future__ import annotations

from functools import cache

import pytest

from responder.config import Config, load_config
from responder.loader import load_rules
from responder.rules import Rules
from responder.sources import Folders, read_sources, shipped_rules
from responder.timing import HOUR, MINUTE, SECOND
from tests.acceptance.stage import CATALOGUE, playing

PLATFORMS = ("edge-risk", "nse-equities", "multi-market", "trading-service")
FRIDAY_AFTERNOON = 0
"""The stage begins on Friday, 14:00 in UTC: office hours in London, the end of the day in Kolkata (19:30)."""
FRIDAY_NIGHT = 8 * HOUR


@cache
def loaded(platform: str) -> tuple[Rules, Config]:
    path = shipped_rules() / platform / "_responder.example.yaml"
    config = load_config(path, CATALOGUE, {"HOME": "/var/ops"}, check_secrets=False)
    sources = read_sources(config.rules, Folders(shipped_rules(), config.folder))
    return load_rules(sources, CATALOGUE, config).rules, config


def woken(platform: str, severity: str, begins: int, lasts: int) -> list[tuple[int, str]]:
    """An alert that nothing and nobody answers: whom it wakes, and after how many minutes."""
    with playing(loaded(platform)) as stage:
        stage.advance(begins)
        opened = stage.clock()
        labels = {"alertname": "Unforeseen", "platform": platform, "env": "prod", "severity": severity}
        stage.fires({name: value for name, value in labels.items() if value})
        stage.advance(lasts)
        pages = [s for s in stage.sent if s.message.kind == "page"]
        return [((s.at - opened + SECOND) // MINUTE, s.destination) for s in pages]


P1 = [(2, "trading-oncall"), (15, "quant"), (30, "pm"), (30, "risk")]
P2 = [(2, "nse-oncall"), (5, "nse-oncall"), (15, "nse-backup"), (30, "nse-lead"), (60, "nse-executives")]
P2_HIGH = [(2, "nse-opsgenie"), (5, "nse-opsgenie"), *P2[2:]]
P4 = [(2, "trademaster-oncall"), (15, "trademaster-lead"), (30, "trademaster-manager"), (60, "trademaster-cto")]


@pytest.mark.parametrize(
    ("platform", "severity", "begins", "expected"),
    [
        ("edge-risk", "critical", FRIDAY_AFTERNOON, [*P1, (60, "cto"), (60, "cro")]),
        ("edge-risk", "critical", FRIDAY_NIGHT, [*P1, (45, "cto"), (45, "cro")]),
        ("edge-risk", "warning", FRIDAY_AFTERNOON, []),
        ("edge-risk", "", FRIDAY_NIGHT, [(0, "trading-oncall"), *P1[1:], (45, "cto"), (45, "cro")]),
        ("nse-equities", "critical", FRIDAY_AFTERNOON, P2),
        ("nse-equities", "high", FRIDAY_AFTERNOON, P2_HIGH),
        ("nse-equities", "info", FRIDAY_AFTERNOON, []),
        ("multi-market", "critical", FRIDAY_NIGHT, [
            (0, "multi-market-oncall"), (0, "multi-market-backup"), (0, "multi-market-lead"),
            (5, "multi-market-executives"),
            (20, "multi-market-oncall"), (20, "multi-market-backup"), (20, "multi-market-lead"),
            (25, "multi-market-executives"),
        ]),
        ("multi-market", "high", FRIDAY_NIGHT, [
            (2, "multi-market-oncall"), (15, "multi-market-backup"), (15, "multi-market-lead"),
        ]),
        ("multi-market", "warning", FRIDAY_AFTERNOON, []),
        ("trading-service", "high", FRIDAY_NIGHT, P4),
        ("trading-service", "warning", FRIDAY_NIGHT, [(60, "trademaster-oncall")]),
    ],
)  # fmt: skip
def test_who_is_woken_when(platform: str, severity: str, begins: int, expected: list[tuple[int, str]]) -> None:
    lasts = 35 * MINUTE if platform == "multi-market" and severity == "critical" else 61 * MINUTE
    assert woken(platform, severity, begins, lasts) == expected


@pytest.mark.parametrize(
    ("platform", "severity", "first"),
    [
        # Kolkata: it is Friday 19:30 at the beginning, and Monday 09:00 after 61 h 30 m.
        ("multi-market", "warning", (3690, "multi-market-oncall")),
        ("multi-market", "info", (3690, "multi-market-oncall")),
        ("trading-service", "info", (3690, "trademaster-oncall")),
    ],
)
def test_what_may_wait_waits_for_monday(platform: str, severity: str, first: tuple[int, str]) -> None:
    assert woken(platform, severity, FRIDAY_AFTERNOON, 62 * HOUR)[0] == first


def test_all_four_can_be_loaded_together() -> None:
    notifiers = {name: n for platform in PLATFORMS for name, n in loaded(platform)[1].notifiers.items()}
    config = loaded("edge-risk")[1].model_copy(update={"notifiers": notifiers})
    sources = read_sources(PLATFORMS, Folders(shipped_rules(), config.folder))
    rules = load_rules(sources, CATALOGUE, config).rules
    for platform in PLATFORMS:
        assert rules.policy_for(None, "critical", 0, platform) in (platform, f"{platform}-nights")
