"""Ladders on which one provider alone wakes people: warned of, and not shipped."""

from __future__ import annotations

import pytest

from responder.app import CATALOGUE
from responder.config import load_config, read_config
from responder.environment import Environment
from responder.ladders import one_way
from responder.loader import load_rules
from responder.notifiers.slack import Slack
from responder.sources import Folders, read_sources, shipped_rules

SETTINGS = """
notifiers:
  oncall: {kind: pagerduty, routing_key: {env: A}}
  lead: {kind: pagerduty, routing_key: {env: B}}
  genie: {kind: opsgenie, key: {env: C}}
  sms: {kind: webhook, url: 'https://sms.example.com'}
  room: {kind: slack, token: {env: D}, channel: C024BE91L}
"""


def warned(level: str, comment: str = "") -> list[str]:
    """The warnings about a ladder of one level."""
    config = read_config("responder.yaml", SETTINGS, CATALOGUE, Environment({}, shipped_rules(), check_secrets=False))
    text = f"policies:\n  desk:{comment}\n    levels:\n      - {{name: L1, after: 0, {level}}}\ndefault: desk\n"
    return [f"{p.line} {p.code}" for p in load_rules({"policies.yaml": text}, CATALOGUE, config).warnings]


@pytest.mark.parametrize(
    "level",
    [
        "page: oncall",
        "page: [oncall, lead]",
        "page: oncall, fallback: [lead]",
        "page: oncall, fallback: [room, console]",
    ],
)
def test_one_provider_alone_is_warned_of(level: str) -> None:
    assert warned(level) == ["2 one-way"]


@pytest.mark.parametrize(
    "level", ["page: oncall, fallback: [genie]", "page: [oncall, sms]", "mention: [S012DESK]", "page: room"]
)
def test_two_providers_and_levels_that_wake_nobody_are_not(level: str) -> None:
    assert "2 one-way" not in warned(level)


def test_a_comment_allows_it() -> None:
    assert warned("page: oncall", "  # lint: allow one-way because nothing else is bought") == []


@pytest.mark.parametrize("platform", ["edge-risk", "multi-market", "nse-equities", "trading-service"])
def test_every_shipped_level_has_a_second_way_and_ends_in_a_chat_of_its_own(platform: str) -> None:
    path = shipped_rules() / platform / "_responder.example.yaml"
    config = load_config(path, CATALOGUE, {}, check_secrets=False)
    sources = read_sources(config.rules, Folders(shipped_rules(), config.folder))
    rules = load_rules(sources, CATALOGUE, config).rules
    assert list(one_way(rules.policies, config.notifiers)) == []
    paging = [level for policy in rules.policies.values() for level in policy.levels if level.page != ("console",)]
    assert paging
    assert [level.name for level in paging if not config.notifiers[level.fallback[-1]].chats] == []
    assert [n.channel for n in config.notifiers.values() if isinstance(n, Slack) and not n.hears] == []
