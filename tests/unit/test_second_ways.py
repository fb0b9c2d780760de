"""Ladders on which one provider alone wakes people, or that tell nobody: warned of, and not shipped."""

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


# --- policies that tell nobody ----------------------------------------------------------------------------------------

DESK = "desk: {chat: [room], levels: [{name: L1, after: 0, page: oncall, fallback: [genie]}]}"
QUIET = "quiet: {chat: [room]}"


def untold(*policies: str, top: str = "default: desk", settings: str = SETTINGS, shipped: bool = False) -> list[str]:
    """The warnings about policies that tell nobody: file, line, and for which severities."""
    config = read_config("responder.yaml", settings, CATALOGUE, Environment({}, shipped_rules(), check_secrets=False))
    own = "\n".join(["policies:", *(f"  {policy}" for policy in policies), top, ""])
    sources = read_sources([], Folders(shipped_rules(), config.folder)) if shipped else {}
    hours = "calendars: {office: {days: mon-fri, from: '09:00', to: '18:00', timezone: UTC}}\n"
    sources = {**sources, "own/policies.yaml": own, "own/calendars.yaml": hours}
    found = load_rules(sources, CATALOGUE, config).warnings
    return [f"{p.file}:{p.line} {p.message.rpartition(' is ')[2]}" for p in found if p.code == "nobody-told"]


ALL = "info, warning, high, critical, none"


@pytest.mark.parametrize(
    ("policies", "top", "expected"),
    [
        ([DESK], "default: desk", []),
        ([DESK, QUIET], "default: desk", []),
        ([DESK, QUIET], "default: desk\nby_env: {test: quiet}", [ALL]),
        ([DESK, QUIET], "default: desk\nby_platform: {fx: quiet}", [ALL]),
        ([DESK, QUIET], "default: desk\nby_severity: {info: quiet}", ["info"]),
        ([DESK, "quiet: {chat: [room], chat_only: [info, warning]}"], "default: desk\nby_env: {test: quiet}",
         ["high, critical, none"]),
        ([DESK, "quiet: {by_severity: {info: desk, critical: desk}}"], "default: desk\nby_env: {test: quiet}",
         ["warning, high, none"]),
        ([DESK.replace("{chat: [room],", "{chat: [room], by_severity: {info: quiet},"), QUIET], "default: desk",
         ["info"]),
        ([DESK.replace("{chat: [room],", "{chat: [room], hours: {calendar: office, otherwise: quiet},"), QUIET],
         "default: desk", [ALL]),
        ([DESK.replace("{chat: [room],", "{chat_only: [info],")], "default: desk", ["info"]),
        ([DESK, "quiet: {levels: [{name: L1, after: 0, page: room}]}"], "default: desk\nby_env: {test: quiet}", [ALL]),
    ],
)  # fmt: skip
def test_a_policy_that_tells_nobody_of_a_severity_is_warned_of(
    policies: list[str], top: str, expected: list[str]
) -> None:
    line = f"own/policies.yaml:{len(policies) + 1} "
    assert untold(*policies, top=top) == [line + one for one in expected]


def test_a_comment_allows_that_too() -> None:
    meant = f"{QUIET}  # lint: allow nobody-told because test may be broken all night"
    assert untold(DESK, meant, top="default: desk\nby_env: {test: quiet}") == []


def test_what_is_shipped_for_staging_is_warned_of_where_a_service_is_of_staging() -> None:
    assert untold(DESK, shipped=True) == []
    service = "\nservices:\n  api: {kind: http, url: 'http://api', env: staging}\n"
    assert untold(DESK, shipped=True, settings=SETTINGS + service) == [f"rules/policies.yaml:16 {ALL}"]
    own = DESK.replace("desk:", "staging:", 1)
    assert untold(DESK, own, shipped=True, settings=SETTINGS + service) == [], "redefined with a level"
    assert untold(DESK, "staging: {chat: [room]}", shipped=True) == [f"own/policies.yaml:3 {ALL}"]


def test_the_default_that_reaches_the_console_alone_is_told_once() -> None:
    assert untold("desk: {chat: [console]}") == []


@pytest.mark.parametrize("platform", ["edge-risk", "multi-market", "nse-equities", "trading-service"])
def test_no_shipped_policy_tells_nobody(platform: str) -> None:
    path = shipped_rules() / platform / "_responder.example.yaml"
    config = load_config(path, CATALOGUE, {}, check_secrets=False)
    found = load_rules(read_sources(config.rules, Folders(shipped_rules(), config.folder)), CATALOGUE, config).warnings
    assert [p for p in found if p.code == "nobody-told"] == []
