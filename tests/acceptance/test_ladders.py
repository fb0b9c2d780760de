"""The shipped ladders of the four platforms: who is woken at which minute, by severity and by the hour."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest

from responder.config import Config, read_config
from responder.environment import Environment
from responder.loader import load_rules
from responder.policies import SEVERITIES
from responder.rules import Rules
from responder.sources import Folders, read_sources, shipped_rules
from responder.timing import HOUR, MINUTE, SECOND
from tests.acceptance.catalogues import loaded
from tests.acceptance.stage import CATALOGUE, START, Stage, playing

PLATFORMS = ("edge-risk", "nse-equities", "multi-market", "trading-service")

# The stage begins on Friday, 14:00 in London and 19:30 in Kolkata. Moments are counted from there.
FRIDAY = 0
LONDON_CLOSES = 6 * HOUR
LONDON_OPENS = 66 * HOUR
KOLKATA_OPENS = 61 * HOUR + 30 * MINUTE
KOLKATA_CLOSES = 7 * 24 * HOUR - 90 * MINUTE
"""18:00 on the Friday after: what comes then waits for the weekend to pass."""
SATURDAY_NIGHT = 36 * HOUR

Woken = list[tuple[int, str]]
"""Minutes after the opening, and who."""


@cache
def packaged() -> tuple[Rules, Config]:
    """What an installation has without any configuration."""
    config = read_config("responder.yaml", "", CATALOGUE, Environment({}, shipped_rules()))
    return load_rules(read_sources([], Folders(shipped_rules(), config.folder)), CATALOGUE, config).rules, config


NONE: Woken = []
AT_ONCE: Woken = [(0, "console")]
IN_GRACE: Woken = [(2, "console")]


@pytest.mark.parametrize(
    ("severity", "expected"),
    [("critical", IN_GRACE), ("high", IN_GRACE), ("sev-9", IN_GRACE), ("", AT_ONCE), ("warning", NONE), ("info", NONE)],
)
def test_without_configuration_what_is_severe_or_unknown_pages_and_a_warning_does_not(
    severity: str, expected: Woken
) -> None:
    with playing(packaged()) as stage:
        stage.fires(unforeseen("anything", severity))
        stage.at("20:00")
        assert pages(stage, START) == expected
        assert "root" in {sent.message.kind for sent in stage.sent}, "it is told in any case"


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_breaks_in_staging_is_told_apart_and_wakes_nobody_of_production(platform: str) -> None:
    with playing(loaded(platform)) as stage:
        for severity in ("critical", ""):
            stage.fires(unforeseen(platform, severity, "staging"))
        stage.at("1:30:00")
        assert {sent.destination for sent in stage.sent} == {"console"}
        assert pages(stage, START) == []
        assert {incident.policy for incident in stage.incidents()} == {"staging"}


def test_staging_makes_no_storm_of_production() -> None:
    rules, _ = loaded("edge-risk")
    assert rules.policy("edge-risk").storm is not None
    with playing(loaded("edge-risk")) as stage:
        stage.fires(*({**unforeseen("edge-risk", "critical", "staging"), "alertname": f"A{n}"} for n in range(30)))
        stage.fires(unforeseen("edge-risk", "critical"))
        stage.at("3:00")
        assert [to for _, to in pages(stage, START)] == ["trading-oncall"]
        assert not [incident.id for incident in stage.incidents() if incident.storm is not None]


def unforeseen(platform: str, severity: str, env: str = "prod") -> dict[str, str]:
    """An alert that no runbook answers; without a severity when it is empty."""
    labels = {"alertname": "Unforeseen", "platform": platform, "env": env, "severity": severity}
    return {name: value for name, value in labels.items() if value}


def pages(stage: Stage, opened: int) -> Woken:
    sent = [s for s in stage.sent if s.message.kind == "page"]
    return [((s.at - opened + SECOND) // MINUTE, s.destination) for s in sent]


@contextmanager
def unanswered(platform: str, severity: str, begins: int) -> Iterator[tuple[Stage, int]]:
    """An alert that nothing and nobody answers, and the time when it comes."""
    with playing(loaded(platform)) as stage:
        stage.restart(down=begins)  # nothing runs until then, so that hours take no time
        opened = stage.clock()
        stage.fires(unforeseen(platform, severity))
        yield stage, opened


def woken(platform: str, severity: str, begins: int, lasts: int) -> Woken:
    """Whom such an alert wakes within `lasts`."""
    with unanswered(platform, severity, begins) as (stage, opened):
        stage.advance(lasts)
        return pages(stage, opened)


def woken_in_the_end(platform: str, severity: str, begins: int) -> Woken:
    """Whom it wakes on the whole ladder, with a process that stands still until a minute before each level."""
    with unanswered(platform, severity, begins) as (stage, opened):
        while dues := [due.due for due in stage.incident.agenda if due.kind == "level"]:
            stage.restart(down=max(0, min(dues) - stage.clock() - MINUTE))
            stage.advance(2 * MINUTE)
        return pages(stage, opened)


UP_TO_L3 = [(15, "quant"), (30, "pm"), (30, "risk")]
DAY = [*UP_TO_L3, (60, "cto"), (60, "cro")]
NIGHT = [*UP_TO_L3, (45, "cto"), (45, "cro")]
NSE = [(15, "nse-backup"), (30, "nse-lead"), (60, "nse-executives")]
TRADEMASTER = [(15, "trademaster-lead"), (30, "trademaster-manager"), (60, "trademaster-cto")]
ALL_HANDS = ("multi-market-oncall", "multi-market-backup", "multi-market-lead")


def p0(start: int) -> Woken:
    return [*((start, name) for name in ALL_HANDS), (start + 5, "multi-market-executives")]


@pytest.mark.parametrize(
    ("platform", "severity", "begins", "expected"),
    [
        # Office hours in London, to the minute, on both sides of the evening and of the weekend.
        ("edge-risk", "critical", FRIDAY, [(2, "trading-oncall"), *DAY]),
        ("edge-risk", "critical", LONDON_CLOSES - MINUTE, [(2, "trading-oncall"), *DAY]),
        ("edge-risk", "critical", LONDON_CLOSES, [(2, "trading-oncall"), *NIGHT]),
        ("edge-risk", "critical", SATURDAY_NIGHT, [(2, "trading-oncall"), *NIGHT]),
        ("edge-risk", "critical", LONDON_OPENS - MINUTE, [(2, "trading-oncall"), *NIGHT]),
        ("edge-risk", "critical", LONDON_OPENS, [(2, "trading-oncall"), *DAY]),
        ("edge-risk", "high", FRIDAY, [(2, "trading-oncall"), *DAY]),
        ("edge-risk", "warning", FRIDAY, []),
        ("edge-risk", "info", SATURDAY_NIGHT, []),
        ("edge-risk", "", FRIDAY, [(0, "trading-oncall"), *DAY]),
        ("edge-risk", "", SATURDAY_NIGHT, [(0, "trading-oncall"), *NIGHT]),
        ("nse-equities", "critical", FRIDAY, [(2, "nse-oncall"), (5, "nse-oncall"), *NSE]),
        ("nse-equities", "critical", SATURDAY_NIGHT, [(2, "nse-oncall"), (5, "nse-oncall"), *NSE]),
        ("nse-equities", "high", FRIDAY, [(2, "nse-opsgenie"), (5, "nse-opsgenie"), *NSE]),
        ("nse-equities", "warning", FRIDAY, []),
        ("nse-equities", "info", FRIDAY, []),
        ("nse-equities", "", FRIDAY, [(0, "nse-oncall"), (5, "nse-oncall"), *NSE]),
        ("multi-market", "high", SATURDAY_NIGHT, [
            (2, "multi-market-oncall"), (15, "multi-market-backup"), (15, "multi-market-lead"),
        ]),
        ("multi-market", "warning", FRIDAY, []),
        ("multi-market", "info", FRIDAY, []),
        ("trading-service", "critical", FRIDAY, [(2, "trademaster-oncall"), *TRADEMASTER]),
        ("trading-service", "high", SATURDAY_NIGHT, [(2, "trademaster-oncall"), *TRADEMASTER]),
        ("trading-service", "", SATURDAY_NIGHT, [(0, "trademaster-oncall"), *TRADEMASTER]),
        ("trading-service", "warning", SATURDAY_NIGHT, [(60, "trademaster-oncall")]),
        ("trading-service", "info", SATURDAY_NIGHT, []),
    ],
)  # fmt: skip
def test_who_is_woken_within_the_hour(platform: str, severity: str, begins: int, expected: Woken) -> None:
    assert woken(platform, severity, begins, 61 * MINUTE) == expected


@pytest.mark.parametrize("severity", ["critical", ""])
@pytest.mark.parametrize("begins", [FRIDAY, SATURDAY_NIGHT])
def test_all_hands_are_called_at_once_and_again_until_somebody_answers(severity: str, begins: int) -> None:
    rounds = [page for start in (0, 20, 40, 60, 80) for page in p0(start)]
    assert woken("multi-market", severity, begins, 3 * HOUR) == rounds


def test_two_hours_are_enough_for_a_warning_of_the_trading_service() -> None:
    expected = [(60, "trademaster-oncall"), (120, "trademaster-lead")]
    assert woken("trading-service", "warning", SATURDAY_NIGHT, 3 * HOUR) == expected


ONCALL, BACKUP = "multi-market-oncall", "multi-market-backup"


@pytest.mark.parametrize(
    ("platform", "severity", "begins", "expected"),
    [
        # Within the hour while somebody is there; the second one an hour after the first, also on a Monday morning.
        ("multi-market", "warning", KOLKATA_OPENS + 2 * HOUR, [(0, ONCALL), (60, BACKUP)]),
        ("multi-market", "warning", KOLKATA_OPENS - MINUTE, [(1, ONCALL), (61, BACKUP)]),
        ("multi-market", "warning", FRIDAY, [(3690, ONCALL), (3750, BACKUP)]),
        ("multi-market", "warning", KOLKATA_CLOSES - MINUTE, [(0, ONCALL), (3841, BACKUP)]),
        ("multi-market", "warning", KOLKATA_CLOSES, [(3780, ONCALL), (3840, BACKUP)]),
        # The next business day: what comes on a Monday at 10:00 on Tuesday at 9:00, what comes on a Friday on Monday.
        ("multi-market", "info", KOLKATA_OPENS + HOUR, [(1380, ONCALL)]),
        ("multi-market", "info", FRIDAY, [(3690, ONCALL)]),
        ("trading-service", "info", KOLKATA_OPENS + HOUR, [(1380, "trademaster-oncall")]),
        ("trading-service", "info", FRIDAY, [(3690, "trademaster-oncall")]),
        ("trading-service", "info", KOLKATA_CLOSES, [(3780, "trademaster-oncall")]),
    ],
)
def test_what_may_wait_waits_for_business_hours(platform: str, severity: str, begins: int, expected: Woken) -> None:
    assert woken_in_the_end(platform, severity, begins) == expected


def test_the_first_engineer_of_the_trading_service_hands_over_after_half_an_hour() -> None:
    with playing(loaded("trading-service")) as stage:
        opened = stage.clock()
        stage.fires(unforeseen("trading-service", "critical"))
        stage.at("3:00")
        stage.person("ack")
        stage.at("50:00")
        assert pages(stage, opened) == [(2, "trademaster-oncall"), (33, "trademaster-oncall"), (45, "trademaster-lead")]


@pytest.mark.parametrize(
    ("platform", "first"),
    [
        ("edge-risk", ["trading-oncall"]), ("nse-equities", ["nse-oncall"]), ("multi-market", list(ALL_HANDS)),
        ("trading-service", ["trademaster-oncall"]),
    ],
)  # fmt: skip
def test_what_was_harmless_climbs_the_ladder_of_its_new_severity(platform: str, first: list[str]) -> None:
    with playing(loaded(platform)) as stage:
        stage.fires(unforeseen(platform, "info"))
        stage.at("20:00")
        assert stage.pages == []
        stage.fires({**unforeseen(platform, "critical"), "instance": "b"})
        stage.at("22:01")
        assert [to for _, to in stage.pages] == first


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_market_day_that_goes_wrong_is_one_page(platform: str) -> None:
    with playing(loaded(platform)) as stage:
        for number in range(30):
            stage.fires({**unforeseen(platform, "critical"), "alertname": f"Unforeseen{number}"})
        stage.at("3:00")
        # Nine came before the storm and keep their own pages, and the storm has one.
        levels = loaded(platform)[0].policy(platform).levels
        assert len(stage.pages) == 10 * len(levels[0].page)


# --- together ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", PLATFORMS)
def test_beside_the_others_a_platform_keeps_its_ladders(platform: str) -> None:
    together, alone = loaded(*PLATFORMS)[0], loaded(platform)[0]
    for severity in (*SEVERITIES, None, "unheard-of"):
        for begins in (FRIDAY, SATURDAY_NIGHT):
            name = together.policy_for(None, severity, START + begins, {"platform": platform})
            assert name == alone.policy_for(None, severity, START + begins, {"platform": platform})
            assert name.startswith(platform)
            assert together.policy(name) == alone.policy(name)


def test_an_alert_of_no_platform_wakes_somebody_where_all_are_loaded() -> None:
    rules = loaded(*PLATFORMS)[0]
    assert rules.policy(rules.policy_for(None, None, START)).levels[0].page == ("trading-oncall",)
