"""Runbooks and policies as people write them, and which runbook answers an alert.

The models below are the language: the loader validates YAML against them, `responder schema` is generated from them. A
loaded value is frozen; `Rules` is one complete, consistent set, known by its hash. What needs the outside world (do the
services exist?) is checked by the loader, not here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from responder.matchers import Matcher, parse_matchers
from responder.recorded import Mode
from responder.timing import SECOND, parse_duration
from responder.written import Duration, Identifier, Name, Names, RateText, Written

POLL = 5 * SECOND
"""How often verification asks (design 5.6)."""


class Input(Written):
    """A label that steps may use. Its value must match the named type or the pattern, as a whole."""

    label: str
    type: str | None = None
    pattern: str | None = None


class Reading(Written):
    """A use of a reading action."""

    action: str
    with_: dict[str, JsonValue] = Field(default_factory=dict, alias="with")
    timeout: Duration = 10 * SECOND


class Check(Reading):
    """A reading step with a name, for guards and verification. Older answers than `max_age` are refused."""

    max_age: Duration = 60 * SECOND


class Evidence(Reading):
    """A reading for people, once for each value of the input `each`; it never delays or fails a run."""

    each: str | None = None
    title: str | None = None


class OnlyIf(Written):
    """The run goes on only when this holds. `if_missing`: people only, or act and page."""

    check: str
    expect: str
    if_missing: Literal["page", "act_and_page"] = "page"


class Probe(Reading):
    """A reading that tells whether a change happened: it did when `expect` holds."""

    expect: str


class Restore(Written):
    """How a change is put back: by a person of the role `approval`, reminded every `remind` until it is done."""

    approval: str
    remind: Duration | None = None


class Retry(Written):
    """Further attempts after a temporary failure."""

    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    first: Duration = 1 * SECOND
    factor: Annotated[float, Field(ge=1, le=10)] = 2.0
    cap: Duration = 60 * SECOND


class Step(Written):
    """One use of an action, or something that a person does (`manual`)."""

    id: Identifier
    title: str = ""
    action: str | None = None
    with_: dict[str, JsonValue] = Field(default_factory=dict, alias="with")
    manual: str | None = None
    when: str | None = None
    timeout: Duration = 10 * SECOND
    retry: Retry = Retry(attempts=1)
    expect: str | None = None
    on_failure: Literal["abort", "continue"] = "abort"
    restore: Restore | None = None
    brake: bool | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Step:
        if (self.action is None) == (self.manual is None):
            raise ValueError("a step has either 'action' or 'manual'")
        return self


class Limits(Written):
    """How often a runbook may run on one target. They warn and page on a brake, and refuse otherwise."""

    cooldown: Duration = 0
    runs: RateText | None = None
    ineffective: RateText | None = None


class Verify(Written):
    """When the run counts as fixed. All times count from the last outcome; `hold` ends inside `within` (design 5.6)."""

    check: str
    expect: str
    settle: Duration = 0
    within: Duration
    hold: Duration = 0
    if_missing: Literal["page"] = "page"

    @model_validator(mode="after")
    def _fits(self) -> Verify:
        if self.settle + self.hold > self.within:
            raise ValueError("settle and hold together are longer than within, so that it could never succeed")
        return self


class Promise(Written):
    """What follows when it is not fixed by then: whom to page, which runbook to run, announced by a countdown."""

    page: Names = ()
    run: str | None = None
    countdown: Duration = 0


class Runbook(Written):
    """A runbook file, with the defaults of its folder already merged in."""

    runbook: Name
    title: str
    impact: str = ""
    match: Names = ()
    inputs: dict[Identifier, Input] = Field(default_factory=dict)
    target: str
    mode: Mode = Mode.OBSERVE
    brake: bool = False
    env: str | None = None
    channel: str | None = None
    owner: str | None = None
    links: dict[str, str] = Field(default_factory=dict)
    limits: Limits = Limits()
    checks: dict[Identifier, Check] = Field(default_factory=dict)
    only_if: OnlyIf | None = None
    steps: tuple[Step, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    verify: Verify | None = None
    unless_fixed: dict[str, Promise] = Field(default_factory=dict)
    escalation: str | None = None

    @cached_property
    def matchers(self) -> tuple[Matcher, ...]:
        """All must match. A bare word is an alert's name; several bare words are alternatives."""
        return match_list(self.match)

    @cached_property
    def promises(self) -> tuple[tuple[int, Promise], ...]:
        """`unless_fixed` in the order of time: (µs after the clock's start, promise)."""
        return tuple(sorted(((parse_duration(k), v) for k, v in self.unless_fixed.items()), key=lambda p: p[0]))

    def step(self, step_id: str) -> Step:
        """One step by its id. Raises KeyError."""
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)


_BARE = re.compile(r"^[A-Za-z_:][A-Za-z0-9_:]*$")


@lru_cache(maxsize=4096)
def match_list(entries: tuple[str, ...]) -> tuple[Matcher, ...]:
    """Matchers of a `match` list. Raises BadSyntax where an entry cannot be read."""
    names = [e for e in entries if _BARE.match(e)]
    rest = [m for e in entries if not _BARE.match(e) for m in parse_matchers(e)]
    if not names:
        return tuple(rest)
    text = f'alertname="{names[0]}"' if len(names) == 1 else 'alertname=~"{}"'.format("|".join(names))
    return (*parse_matchers(text), *rest)


class Level(Written):
    """Who is told after so much time without an acknowledgement, counted from the opening."""

    name: str
    after: Duration
    page: Names = ()


class Policy(Written):
    """Who is told when: `chat` at once, the first level after `grace` (at once when automation cannot help)."""

    chat: tuple[str, ...] = ()
    grace: Duration = 0
    acknowledgement: Duration = 1800 * SECOND
    """How long an acknowledgement holds before the same level is paged again; 0: for ever."""
    levels: tuple[Level, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Policy:
        times = [level.after for level in self.levels]
        if times != sorted(times):
            raise ValueError("levels must stand in the order of their 'after'")
        return self


class Policies(Written):
    """policies.yaml: the ladders by name, and which one alerts without a runbook get by their severity."""

    policies: dict[Name, Policy] = Field(default_factory=dict)
    by_severity: dict[str, str] = Field(default_factory=dict)
    default: str | None = None
    """For every other alert. One of the files that are loaded together names it, or the packaged one does."""


SEVERITIES = ("info", "warning", "high", "critical")
"""Known severities, rising. An unknown or missing one counts as the highest: it pages (design 5.1)."""


def severity_rank(severity: str | None) -> int:
    """0 … 3 for the known severities; an unknown or missing one ranks with the highest."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES) - 1


@dataclass(frozen=True, slots=True)
class Route:
    """Where an alert goes. `problem` says why there is no runbook for it, or why its runbook must not act."""

    runbook: Runbook | None
    target: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    each: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None
    each_problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """One complete set of runbooks and policies, known by its hash."""

    hash: str
    runbooks: Mapping[str, Runbook]
    policies: Mapping[str, Policy]
    by_severity: Mapping[str, str]
    default_policy: str
    types: Mapping[str, str] = field(default_factory=dict)
    ceiling: Mode = Mode.AUTO

    def policy_for(self, runbook: Runbook | None, severity: str | None) -> str:
        """The name of the policy that an incident gets."""
        if runbook is not None and runbook.escalation is not None:
            return runbook.escalation
        return self.by_severity.get(severity or "", self.default_policy)

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
        values = {name: labels.get(i.label, "") for name, i in runbook.inputs.items()}
        bad = {n: p for n, v in values.items() if (p := self._input_problem(runbook.inputs[n], v)) is not None}
        needed = target_inputs(runbook)
        target, missing = runbook.target, [bad[n] for n in needed if n in bad]
        if missing:
            return Route(runbook, f"bad-input:{unrouted_target(labels)}", problem="; ".join(missing))
        for name in needed:
            target = re.sub(r"\{\{\s*" + name + r"\s*\}\}", lambda _, n=name: values[n], target)  # type: ignore[misc]
        good = {n: v for n, v in values.items() if n not in bad}
        return Route(
            runbook,
            target,
            inputs={n: v for n, v in good.items() if n in needed},
            each={n: v for n, v in good.items() if n not in needed},
            each_problems=tuple(p for n, p in bad.items() if n not in needed),
        )

    def _input_problem(self, given: Input, value: str) -> str | None:
        pattern = given.pattern or self.types.get(given.type or "", "")
        if re.fullmatch(pattern, value):
            return None
        shown = value if len(value) <= 60 else value[:57] + "..."
        wanted = given.type or f"/{pattern}/"
        return f"label {given.label}={shown!r} is not a {wanted}"

    def inputs_of(self, runbook: Runbook, labels: Mapping[str, str]) -> Mapping[str, str]:
        """The good values of all inputs of one episode."""
        route = self._route_to(runbook, labels)
        return {**route.inputs, **route.each}


def unrouted_target(labels: Mapping[str, str]) -> str:
    """The target of an alert without a runbook: its name within its platform and environment."""
    place = [labels[n] for n in ("platform", "env", "service") if labels.get(n)]
    return ":".join(["alert", labels.get("alertname", "unnamed"), *place])


_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


def target_inputs(runbook: Runbook) -> Sequence[str]:
    """The inputs that occur in the target: the only ones that steps outside `each` may use (design 4)."""
    return _PLACEHOLDER.findall(runbook.target)


def _alert_names(matchers: Sequence[Matcher]) -> tuple[str, ...]:
    for matcher in matchers:
        if matcher.name == "alertname" and str(matcher.op) == "=":
            return (matcher.value,)
        if matcher.name == "alertname" and str(matcher.op) == "=~" and re.fullmatch(r"[A-Za-z0-9_|]+", matcher.value):
            return tuple(matcher.value.split("|"))
    return ()
