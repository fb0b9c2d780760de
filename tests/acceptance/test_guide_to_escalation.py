"""The timelines of docs/escalation.md, played: each below the policy that it belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from responder.config import Config, read_config
from responder.environment import Environment
from responder.loader import load_rules
from responder.rules import Rules
from responder.sources import shipped_rules
from responder.timing import HOUR, MINUTE, SECOND, parse_duration
from tests.acceptance.stage import CATALOGUE, START, Stage, playing

GUIDE = Path(__file__).parents[2] / "docs" / "escalation.md"
SETTINGS = """
notifiers:
  trading-alerts: {kind: slack, token: {env: T}, channel: '#trading-alerts'}
  trading-oncall: {kind: pagerduty, routing_key: {env: T}}
  backup-pager: {kind: opsgenie, key: {env: T}}
  quant: {kind: pagerduty, routing_key: {env: T}}
"""
DAYS = {"Fri": 0, "Sat": 24 * HOUR, "Sun": 48 * HOUR, "Mon": 72 * HOUR}
"""The stage begins on a Friday at 14:00 UTC."""
STARTS_AT = 14 * HOUR

_fires = re.compile(
    r"(?:an?|(?P<many>\d+)) (?P<severity>critical|high|warning|info|alert without a severity)\b.*?"
    r"(?: of env (?P<env>\w+))? fires?"
)
_says = re.compile(r"somebody says (?P<verb>\w+)(?: for (?P<lasts>\w+))?")
_paged = re.compile(r"(?P<who>[\w-]+) is paged(?: (?P<times>\d+) times)?")


class Timeline(NamedTuple):
    """A block of lines `time, what happens`, and the files to play it with. `by` a time: in the minute before."""

    number: int
    policies: str
    calendars: str
    lines: tuple[tuple[str, str], ...]


def timelines() -> Iterator[Timeline]:
    policies = calendars = ""
    for found in re.finditer(
        r"^```(yaml|text)\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    ):
        kind, text = found.groups()
        if kind == "text":
            number = GUIDE.read_text(encoding="utf-8")[: found.start()].count("\n") + 2
            lines = (line.partition("  ") for line in text.splitlines())
            yield Timeline(number, policies, calendars, tuple((when, what.strip()) for when, _, what in lines))
        elif text.startswith("# calendars.yaml"):
            calendars = text
        else:
            policies = text


def offset(when: str) -> int:
    """`15:00` since the beginning, or `Mon 09:00`."""
    day, _, clock = when.removeprefix("by ").rpartition(" ")
    parts = [int(part) for part in clock.split(":")]
    if day:
        return DAYS[day] + parts[0] * HOUR + parts[1] * MINUTE - STARTS_AT
    return sum(part * unit for part, unit in zip(reversed(parts), (SECOND, MINUTE, HOUR), strict=False))


@cache
def loaded(policies: str, calendars: str) -> tuple[Rules, Config]:
    environment = Environment({"HOME": "/var/ops"}, shipped_rules(), check_secrets=False)
    config = read_config("responder.yaml", SETTINGS, CATALOGUE, environment)
    sources = {"policies.yaml": policies, "own/policies.yaml": "default: desk\n"}
    sources |= {"calendars.yaml": calendars} if calendars else {}
    return load_rules(sources, CATALOGUE, config).rules, config


def unforeseen(severity: str, number: int = 0, env: str | None = None) -> dict[str, str]:
    labels = {"alertname": f"Unforeseen{number}", "env": env or "prod"}
    return labels if "without" in severity else {**labels, "severity": severity}


def happens(stage: Stage, what: str) -> bool:
    """Let something happen that the timeline says. False when it is not a deed but what follows from one."""
    if what.endswith(" cannot be reached"):
        stage.refuses(what.partition(" ")[0], for_minutes=24 * 60)
    elif what == "the alert is over":
        (fired,) = stage.incident.firing
        stage.resolves(fired.labels)
    elif (found := _fires.fullmatch(what)) is not None:
        for number in range(int(found["many"] or 1)):
            stage.fires(unforeseen(found["severity"], number, found["env"]))
    elif (found := _says.fullmatch(what)) is not None:
        stage.person(found["verb"], lasts=None if found["lasts"] is None else parse_duration(found["lasts"]))
    else:
        return False
    return True


def follows(what: str) -> list[str]:
    """What the timeline promises, once for each time that it is to happen."""
    if what == "the channel hears how it stands":
        return [what]
    found = _paged.fullmatch(what)
    assert found is not None, f"the guide says what no test understands: {what!r}"
    return [f"{found['who']} is paged"] * int(found["times"] or 1)


def happened(stage: Stage) -> list[tuple[int, str]]:
    """What followed, to the nearest second."""
    found = [(s.at, f"{s.destination} is paged") for s in stage.sent if s.message.kind == "page"]
    events = [event for incident in stage.incidents() for event in stage.events(incident)]
    found += [(e.at, "the channel hears how it stands") for e in events if e.fact.kind == "still_open"]
    return sorted(((at - START + SECOND // 2) // SECOND * SECOND, what) for at, what in found)


TIMELINES = list(timelines())


def test_the_guide_has_a_timeline_for_each_setting_that_has_times() -> None:
    shown = {
        setting for timeline in TIMELINES for setting in re.findall(r"^    (\w+):", timeline.policies, re.MULTILINE)
    }
    assert shown >= {"grace", "chat_only", "by_severity", "hours", "repeat", "remind", "storm", "owner", "levels"}
    levels = {key for timeline in TIMELINES for key in re.findall(r"\b(during|fallback|mention):", timeline.policies)}
    assert levels == {"during", "fallback", "mention"}


@pytest.mark.parametrize("timeline", TIMELINES, ids=lambda timeline: f"line {timeline.number}")
def test_it_happens_as_the_guide_tells(timeline: Timeline) -> None:
    """And nothing else until its last line."""
    exact: list[tuple[int, str]] = []
    by: list[tuple[int, str]] = []
    with playing(loaded(timeline.policies, timeline.calendars)) as stage:
        for when, what in timeline.lines:
            passes(stage, offset(when) - stage.offset)
            if not happens(stage, what):
                (by if when.startswith("by ") else exact).extend((offset(when), one) for one in follows(what))
        stage.advance(2 * SECOND)
        found = happened(stage)
    for latest, what in by:
        early = [one for one in found if one[1] == what and latest - MINUTE < one[0] <= latest]
        assert early, f"{what} by then? {found}"
        found.remove(early[0])
    assert found == sorted(exact)


def passes(stage: Stage, duration: int) -> None:
    """Let time pass; before anything has begun, with no process, so that hours take none."""
    if duration > HOUR and not stage.incidents():
        stage.restart(down=duration)
    elif duration > 0:
        stage.advance(duration)
