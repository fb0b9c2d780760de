"""One complete set of runbooks, policies and calendars, and which runbook of it answers an alert.

A set is made by `loader` and known by its hash; what it is made of is in `runbook`, `policies` and `calendars`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from responder.calendars import Calendar, state_of
from responder.errors import BadSyntax
from responder.matchers import Matcher
from responder.patterns import Pattern, compile_pattern
from responder.policies import Policy
from responder.recorded import Mode
from responder.runbook import Input, Runbook, match_list, target_inputs, target_with


@dataclass(frozen=True, slots=True)
class Route:
    """Where an alert goes. `problem` says why there is no runbook for it, or why its runbook must not act."""

    runbook: Runbook | None
    target: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    each: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None
    each_problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """A runbook of today's files that could not be loaded, as far as it can be read: its alerts page (design 4)."""

    file: str
    name: str | None
    match: tuple[str, ...]
    problem: str

    def answers(self, runbook: str | None, labels: Mapping[str, str]) -> bool:
        """Whether it is the runbook of this name, or would have answered an alert with these labels."""
        if self.name is not None and self.name == runbook:
            return True
        try:
            matchers = match_list(self.match)
        except BadSyntax:
            return False
        return bool(matchers) and all(m.matches(labels) for m in matchers)


@dataclass(frozen=True)
class Rules:
    """One complete set of runbooks and policies, known by its hash."""

    hash: str
    runbooks: Mapping[str, Runbook]
    policies: Mapping[str, Policy]
    by_severity: Mapping[str, str]
    default_policy: str
    types: Mapping[str, str] = field(default_factory=dict)
    calendars: Mapping[str, Calendar] = field(default_factory=dict)
    by_platform: Mapping[str, str] = field(default_factory=dict)
    by_env: Mapping[str, str] = field(default_factory=dict)
    ceiling: Mode = Mode.AUTO

    @cached_property
    def causes(self) -> frozenset[str]:
        """The runbooks that others yield to: their open incidents are counted."""
        return frozenset(name for runbook in self.runbooks.values() for name in runbook.yields_to)

    def policy_for(
        self, runbook: Runbook | None, severity: str | None, now: int, labels: Mapping[str, str] | None = None
    ) -> str:
        """The name of the policy that an incident gets which begins at `now` (µs); `labels` are its alert's."""
        if runbook is not None and runbook.escalation is not None:
            return self._at(runbook.escalation, severity, now)
        said = labels or {}
        name = self.by_severity.get(severity or "", self.default_policy)
        name = self.by_platform.get(said.get("platform", ""), name)
        return self._at(self.by_env.get(said.get("env", ""), name), severity, now)

    def _at(self, name: str, severity: str | None, now: int) -> str:
        """The policy for this severity, in its hours itself, and outside of them the other one. Unknown hours are its
        own."""
        name = self.policy(name).by_severity.get(severity or "", name)
        hours = self.policy(name).hours
        calendar = None if hours is None else self.calendars.get(hours.calendar)
        if hours is None or calendar is None:
            return name
        state = state_of(calendar, hours.calendar, now)
        return name if state.open or not state.known else hours.otherwise

    def policy(self, name: str) -> Policy:
        """A policy by name; the default one when the name is gone."""
        return self.policies.get(name) or self.policies[self.default_policy]

    @cached_property
    def _by_alertname(self) -> tuple[Mapping[str, tuple[Runbook, ...]], tuple[Runbook, ...]]:
        exact: dict[str, list[Runbook]] = {}
        others: list[Runbook] = []
        for runbook in self.runbooks.values():
            names = _alert_names(runbook.matchers)
            if runbook.match and names:
                for name in names:
                    exact.setdefault(name, []).append(runbook)
            elif runbook.match:
                others.append(runbook)
        return {k: tuple(v) for k, v in exact.items()}, tuple(others)

    def matching(self, labels: Mapping[str, str]) -> tuple[Runbook, ...]:
        """Every runbook whose matchers all hold."""
        exact, others = self._by_alertname
        candidates = (*exact.get(labels.get("alertname", ""), ()), *others)
        return tuple(r for r in candidates if all(m.matches(labels) for m in r.matchers))

    def route(self, labels: Mapping[str, str]) -> Route:
        """Which runbook answers, on which target, with which inputs. Never raises; see Route.problem."""
        found = self.matching(labels)
        if not found:
            return Route(None, unrouted_target(labels), problem="no runbook matches this alert")
        if len(found) > 1:
            names = ", ".join(sorted(r.runbook for r in found))
            return Route(
                None, unrouted_target(labels), problem=f"several runbooks match this alert: {names}; none runs"
            )
        return self._route_to(found[0], labels)

    def _route_to(self, runbook: Runbook, labels: Mapping[str, str]) -> Route:
        values = {name: labels.get(i.label or "", "") for name, i in runbook.inputs.items()}
        bad = {n: p for n, v in values.items() if (p := self.input_problem(n, runbook.inputs[n], v)) is not None}
        needed = target_inputs(runbook)
        missing = [bad[n] for n in needed if n in bad]
        if missing:
            return Route(runbook, f"bad-input:{unrouted_target(labels)}", problem="; ".join(missing))
        good = {n: v for n, v in values.items() if n not in bad}
        return Route(
            runbook,
            target_with(runbook, values),
            inputs={n: v for n, v in good.items() if n in needed},
            each={n: v for n, v in good.items() if n not in needed},
            each_problems=tuple(p for n, p in bad.items() if n not in needed),
        )

    def input_problem(self, name: str, given: Input, value: str) -> str | None:
        """Why a value must not be used, or None. `value` is "" where the alert has no such label."""
        if given.one_of:
            fits, wanted = value in given.one_of, f"one of {', '.join(given.one_of)}"
        else:
            pattern = given.pattern or self.types.get(given.type or "", "")
            fits, wanted = _compiled(pattern).matches(value), given.type or f"/{pattern}/"
        if fits:
            return None
        shown = value if len(value) <= 60 else value[:57] + "..."
        where = f"label {given.label}" if given.label is not None else f"input {name}"
        return f"{where}={shown!r} is not {'a ' if given.type else ''}{wanted}"

    def inputs_of(self, runbook: Runbook, labels: Mapping[str, str]) -> Mapping[str, str]:
        """The good values of all inputs of one episode."""
        route = self._route_to(runbook, labels)
        return {**route.inputs, **route.each}


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Pattern:
    """In linear time, whatever a label holds: Python's own `re` can be stalled by a value (docs/adr/0006)."""
    return compile_pattern(pattern)


def unrouted_target(labels: Mapping[str, str]) -> str:
    """The target of an alert without a runbook: its name within its platform and environment."""
    place = [labels[n] for n in ("platform", "env", "service") if labels.get(n)]
    return ":".join(["alert", labels.get("alertname", "unnamed"), *place])


def _alert_names(matchers: Sequence[Matcher]) -> tuple[str, ...]:
    for matcher in matchers:
        if matcher.name == "alertname" and str(matcher.op) == "=":
            return (matcher.value,)
        if matcher.name == "alertname" and str(matcher.op) == "=~" and re.fullmatch(r"[A-Za-z0-9_|]+", matcher.value):
            return tuple(matcher.value.split("|"))
    return ()
