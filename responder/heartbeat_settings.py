"""What responder.yaml says about heartbeats, both ways, and what cannot be meant by it.

Not here: what becomes of them (`heartbeats`, `engine.heartbeat`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, field_validator

from responder.contracts import SecureUrl, Strict
from responder.errors import BadSyntax
from responder.matchers import Matcher, Op, parse_matchers
from responder.problems import Path
from responder.timing import MINUTE, SECOND
from responder.written import Duration, Name

Mistake = tuple[Path, tuple[int, int], str, str]
"""Where it is, line and column within that text, what it is, and the cure."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A heartbeat that must come: any alert that all `matchers` accept, at least every `within` µs."""

    name: str
    matchers: tuple[Matcher, ...]
    within: int
    policy: str | None = None
    """The policy of its incident; None for the default one."""

    @property
    def alertname(self) -> str:
        """The one name of alert that it is: everything else is passed over without a further look."""
        return next(m.value for m in self.matchers if m.name == "alertname" and m.op is Op.EQUAL)

    @property
    def title(self) -> str:
        """How people call it."""
        return f"{self.alertname} of {self.name}"


class Expectation(Strict):
    """A heartbeat that must come in: an alert that always fires, told again and again."""

    name: Name
    """Which it is, such as the Prometheus that sends it."""
    match: Annotated[tuple[str, ...], Field(min_length=1)]
    """Matchers in Alertmanager's syntax, of which one names the alert: `alertname="Watchdog"`."""
    within: Duration = 5 * MINUTE
    """It must come at least this often: longer than the `group_interval` or `repeat_interval` of its route."""
    policy: Name | None = None
    """The policy of the incident when it is missing; by default that of alerts without a runbook."""

    @field_validator("within")
    @classmethod
    def _not_too_short(cls, within: int) -> int:
        if within < 30 * SECOND:
            raise ValueError("a heartbeat cannot be missed within less than 30s")
        return within


class DeadMansSwitch(Strict):
    """A service outside that pages when it does not hear from this responder."""

    name: Name
    """Which it is, for messages: they never show the address."""
    url: Annotated[SecureUrl, Field(repr=False)]
    """The address that is called, often a secret itself: `{env: NAME}` or `{file: PATH}`, read again by a reload."""
    every: Duration = MINUTE
    """How often; the service should wait for three times as long."""
    method: Literal["GET", "POST"] = "GET"
    """How the service wants to be called."""

    @field_validator("every")
    @classmethod
    def _not_too_often(cls, every: int) -> int:
        if every < 10 * SECOND:
            raise ValueError("a service outside is called every 10s at most")
        return every


class HeartbeatSettings(Strict):
    """Heartbeats, both ways: what must come in, and who hears that this responder is well."""

    expect: tuple[Expectation, ...] = ()
    """Alerts that always fire; one that is missing pages."""
    send: tuple[DeadMansSwitch, ...] = ()
    """Services outside that are called after each clean self-audit."""

    @property
    def expected(self) -> tuple[Expected, ...]:
        """What `heartbeats` takes of it."""
        return tuple(
            Expected(e.name, tuple(m for text in e.match for m in parse_matchers(text)), e.within, e.policy)
            for e in self.expect
        )


def heartbeat_problems(given: HeartbeatSettings) -> Iterator[Mistake]:
    """Each has a name of its own, and what is expected names one alert: anything wider would swallow alerts."""
    for kind, names in (("expect", [e.name for e in given.expect]), ("send", [s.name for s in given.send])):
        for number, name in enumerate(names):
            if name in names[:number]:
                yield ("heartbeats", kind, number, "name"), (1, 1), f"{name} stands here twice", "choose another name"
    for number, expected in enumerate(given.expect):
        yield from _unmatched(("heartbeats", "expect", number, "match"), expected)


def _unmatched(path: Path, expected: Expectation) -> Iterator[Mistake]:
    found: list[Matcher] = []
    for place, text in enumerate(expected.match):
        try:
            found.extend(parse_matchers(text))
        except BadSyntax as error:
            yield (*path, place), (1, error.column), error.message, error.hint
            return
    if not any(m.name == "alertname" and m.op is Op.EQUAL and m.value for m in found):
        hint = """add 'alertname="Watchdog"': whatever matches opens no incident"""
        yield path, (1, 1), "no matcher says which alert it is", hint
