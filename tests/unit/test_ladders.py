"""What a policies.yaml names that is not there, and ladders that could never wake anybody: place and cure of each."""

from __future__ import annotations

import pytest

from responder.actions import ACTIONS
from responder.config import Config, read_config
from responder.contracts import Catalogue
from responder.environment import Environment
from responder.errors import BadRules
from responder.loader import Loaded, load_rules
from responder.notifiers import NOTIFIERS
from responder.services import SERVICES
from responder.sources import shipped_rules

CATALOGUE = Catalogue(ACTIONS, NOTIFIERS, SERVICES)
SETTINGS = """
notifiers:
  room: {kind: slack, token: {env: T}, channel: '#room'}
  oncall: {kind: pagerduty, routing_key: {env: T}}
  mover: {kind: pagerduty, routing_key: {env: T}, api_token: {env: T}}
  genie: {kind: opsgenie, key: {env: T}}
"""
BESIDE = {
    "rules/policies.yaml": "policies: {default: {levels: [{name: L1, after: 0, page: oncall}]}}\ndefault: default\n",
    "calendars.yaml": "calendars: {office: {days: mon-fri, from: '09:00', to: '18:00', timezone: UTC}}\n",
}


def configured() -> Config:
    environment = Environment({}, shipped_rules(), check_secrets=False)
    return read_config("responder.yaml", SETTINGS, CATALOGUE, environment)


def load(policies: str) -> Loaded:
    return load_rules({**BESIDE, "policies.yaml": policies}, CATALOGUE, configured())


def told(policies: str) -> list[tuple[str, str, str]]:
    """Line and column, message and cure of every problem."""
    with pytest.raises(BadRules) as raised:
        load(policies)
    return [(f"{p.line}:{p.column}", p.message, p.hint) for p in raised.value.problems]  # type: ignore[attr-defined]


def ladder(*parts: str) -> str:
    """A policy `desk`, each part a line of its own from line 3 on."""
    return "policies:\n  desk:\n" + "".join(f"    {part}\n" for part in parts)


def level(*more: str) -> str:
    return f"levels: [{{{', '.join(('name: L1', 'after: 0', *more))}}}]"


GOOD = ladder(
    "chat: [room]",
    "by_severity: {high: default}",
    "hours: {calendar: office, otherwise: default}",
    "owner: pagerduty",
    "changes: [oncall]",
    level("page: [mover]", "fallback: [genie]", "during: office", "escalation_policy: P123ABC"),
)


def test_what_all_the_settings_name_is_there() -> None:
    assert load(GOOD).rules.policies.keys() == {"default", "desk"}


@pytest.mark.parametrize(
    ("written", "at", "message", "cure"),
    [
        ("chat: [rom]", "rom", "unknown notifier 'rom'", "did you mean 'room'?"),
        ("changes: [onkall]", "onkall", "unknown notifier 'onkall'", "did you mean 'oncall'?"),
        ("changes: onkall", "onkall", "unknown notifier 'onkall'", "did you mean 'oncall'?"),
        (level("page: [oncall, geni]"), "geni", "unknown notifier 'geni'", "did you mean 'genie'?"),
        (level("page: oncall", "fallback: geni"), "geni", "unknown notifier 'geni'", "did you mean 'genie'?"),
        (
            level("page: oncall", "fallback: [genie, oncall]"),
            "oncall]", "'oncall' is paged at this level anyway", "name another notifier",
        ),
        (level("page: oncall", "during: offce"), "offce", "unknown calendar 'offce'", "did you mean 'office'?"),
        (
            "hours: {calendar: offce, otherwise: default}",
            "offce", "unknown calendar 'offce'", "did you mean 'office'?",
        ),
        (
            "hours: {calendar: office, otherwise: defalt}",
            "defalt", "unknown policy 'defalt'", "did you mean 'default'?",
        ),
        (
            "hours: {calendar: office, otherwise: desk}",
            "desk", "policy desk has hours of its own, so that some could have none",
            "name a policy that holds at any hour",
        ),
        ("by_severity: {high: defalt}", "defalt", "unknown policy 'defalt'", "did you mean 'default'?"),
        (
            "chat_only: [warnings]",
            "chat_only", "'warnings' is no severity", "write some of info, warning, high, critical",
        ),
        (
            level("page: oncall", "escalation_policy: P123ABC"),
            "P123ABC", "nobody could move the incident there", "give the level's PagerDuty notifier an `api_token`",
        ),
        (
            level("page: genie", "escalation_policy: P123ABC"),
            "P123ABC", "nobody could move the incident there", "give the level's PagerDuty notifier an `api_token`",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_told_at_its_place_with_its_cure(written: str, at: str, message: str, cure: str) -> None:
    text = ladder(written)
    ((where, said, hint),) = told(text)
    assert (where, said) == (f"3:{text.splitlines()[2].index(at) + 1}", message)
    assert hint.startswith(cure)


@pytest.mark.parametrize("page", ["room", "genie", "[room, genie]"])
def test_pagerduty_climbs_only_what_it_is_told_of(page: str) -> None:
    (problem,) = told(ladder("owner: pagerduty", level(f"page: {page}")))
    hint = "let the first level page a notifier of kind pagerduty, or write `owner: responder`"
    assert problem == ("3:12", "PagerDuty is never told, so nobody would climb", hint)


def test_pagerduty_cannot_own_a_ladder_without_levels() -> None:
    ((place, _, _),) = told(ladder("owner: pagerduty"))
    assert place == "3:12"


def test_a_calendar_that_is_wrong_is_told_once_and_not_as_unknown() -> None:
    calendars = {"calendars.yaml": "calendars: {office: {days: mon-fri, from: '9am', to: '18:00', timezone: UTC}}\n"}
    with pytest.raises(BadRules) as raised:
        load_rules({**BESIDE, **calendars, "policies.yaml": GOOD}, CATALOGUE, configured())
    assert {problem.file for problem in raised.value.problems} == {"calendars.yaml"}  # type: ignore[attr-defined]


def test_all_mistakes_of_a_ladder_are_told_together() -> None:
    written = ladder("chat: [rom]", "hours: {calendar: offce, otherwise: default}", level("page: geni"))
    assert [place for place, _, _ in told(written)] == ["3:12", "4:23", "5:41"]
