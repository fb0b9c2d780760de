"""Why a runbook answers an alert or does not, and what each gate says about it as far as rules and clock can tell.

Offline: open incidents, counters, locks, the pause and the world's answers are the server's, so a gate that needs them
is said to be unknown, with what will be asked. Nothing is assumed about them: that is what a replay does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from responder import guards
from responder.alert import Alert
from responder.cases import Case
from responder.contracts import Parameter
from responder.incident import Incident, Run
from responder.mistakes import likely
from responder.policies import Policy
from responder.recorded import Answer, Cause, Mode, strictest
from responder.rules import Route, Rules
from responder.runbook import Check, Runbook, target_inputs
from responder.timing import format_duration


class Forecast(StrEnum):
    """What a gate will answer; the words of `recorded.Answer`, and that nobody can know it offline."""

    ALLOW = "allow"
    WAIT = "wait"
    ASK = "ask"
    DENY = "deny"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One gate as far as it can be known, with its reason."""

    gate: str
    answer: Forecast
    reason: str


@dataclass(frozen=True, slots=True)
class Considered:
    """One runbook of the set: whether it answers the alert, and because of what.

    `elsewhere`: it answers alerts of other names, none of them like this one's, so nobody expected it here.
    """

    runbook: str
    matches: bool
    because: tuple[str, ...]
    elsewhere: bool


@dataclass(frozen=True, slots=True)
class Value:
    """One input with its value from the alert. `wanted` is its type, pattern or values; `problem`: why it is bad."""

    name: str
    label: str
    value: str
    wanted: str
    problem: str | None
    in_target: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is known about one alert. `runbook` is the one that answers it, None without one."""

    alert: Alert
    runbook: Runbook | None
    target: str
    problems: tuple[str, ...]
    considered: tuple[Considered, ...]
    values: tuple[Value, ...]
    verdicts: tuple[Foreseen, ...]
    policy_name: str
    policy: Policy

    @property
    def good(self) -> bool:
        """A resolved alert, or one whose runbook goes on as far as known; waiting and asking are going on."""
        if not self.alert.firing:
            return True
        return self.runbook is not None and not any(v.answer is Forecast.DENY for v in self.verdicts)


def explained(alert: Alert, rules: Rules, parameters: Mapping[str, Parameter], now: int) -> Explanation:
    """What the rules say about an alert at `now` (µs since the epoch)."""
    route = rules.route(alert.labels)
    runbook = route.runbook
    policy = rules.policy_for(runbook, alert.severity, now, alert.labels)
    gates = runbook is not None and alert.firing
    return Explanation(
        alert=alert,
        runbook=runbook,
        target=route.target,
        problems=((route.problem,) if route.problem else ()) + route.each_problems,
        considered=tuple(_considered(alert.labels, rules)),
        values=() if runbook is None else tuple(_values(runbook, alert.labels, rules)),
        verdicts=tuple(_verdicts(_Judged(runbook, route, rules, parameters, now))) if gates and runbook else (),
        policy_name=policy,
        policy=rules.policy(policy),
    )


# --- which runbook ----------------------------------------------------------------------------------------------------


def _considered(labels: Mapping[str, str], rules: Rules) -> Iterator[Considered]:
    """Every runbook, those that match first, then the nearest: the right name counts more than any other label."""
    ranked = []
    for name, runbook in rules.runbooks.items():
        missed = [matcher for matcher in runbook.matchers if not matcher.matches(labels)]
        by_name = any(matcher.name == "alertname" for matcher in missed)
        found = _judged_match(runbook, labels, rules)
        ranked.append(((not runbook.match, by_name, len(missed), name), found))
    yield from (found for _, found in sorted(ranked, key=lambda pair: pair[0]))


def _judged_match(runbook: Runbook, labels: Mapping[str, str], rules: Rules) -> Considered:
    if not runbook.match:
        return Considered(
            runbook.runbook, matches=False, because=(_otherwise_started(runbook, rules),), elsewhere=False
        )
    misses = tuple(why for matcher in runbook.matchers if (why := matcher.why_not(labels)) is not None)
    because = misses or tuple(map(str, runbook.matchers))
    return Considered(runbook.runbook, not misses, because, _is_elsewhere(runbook, labels))


def _is_elsewhere(runbook: Runbook, labels: Mapping[str, str]) -> bool:
    """A name that is nearly the alert's is a mistake of spelling, and worth the room."""
    missed = [m for m in runbook.matchers if m.name == "alertname" and not m.matches(labels)]
    names = [name for matcher in missed for name in matcher.value.split("|")]
    return bool(missed) and likely(labels.get("alertname", ""), names, cutoff=0.75) is None


def _otherwise_started(runbook: Runbook, rules: Rules) -> str:
    name = runbook.runbook
    starters = [r.runbook for r in rules.runbooks.values() if any(p.run == name for p in r.unless_fixed.values())]
    if runbook.schedule is not None:
        return "answers no alert: its schedule starts it"
    if starters:
        return f"answers no alert: {' and '.join(starters)} may start it"
    return "answers no alert: it has no `match`"


def _values(runbook: Runbook, labels: Mapping[str, str], rules: Rules) -> Iterator[Value]:
    in_target = target_inputs(runbook)
    for name, given in runbook.inputs.items():
        value = labels.get(given.label or "", "")
        wanted = given.type or (f"/{given.pattern}/" if given.pattern else f"one of {', '.join(given.one_of)}")
        problem = rules.input_problem(name, given, value)
        yield Value(name, given.label or "", value, wanted, problem, name in in_target)


# --- gates ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Judged:
    """One runbook before it acts for the first time."""

    runbook: Runbook
    route: Route
    rules: Rules
    parameters: Mapping[str, Parameter]
    now: int

    @property
    def mode(self) -> Mode:
        """As far as the ceiling lets it go."""
        return strictest(self.runbook.mode, self.rules.ceiling)

    @property
    def case(self) -> Case:
        """Its first step, in an incident that has just been opened, before a server that knows nothing else."""
        step = next(s for s in self.runbook.steps if s.action is not None)
        name, digest, target, now = self.runbook.runbook, self.rules.hash, self.route.target, self.now
        inputs = dict(self.route.inputs)
        incident = Incident(
            id="", runbook=name, rules_hash=digest, policy="", target=target, title="", severity=None,
            opened_at=now, ladder_from=now, clock_from=now, inputs=inputs,
        )  # fmt: skip
        run = Run(
            number=1, runbook=name, rules_hash=digest, target=target, cause=Cause.ALERT, mode=self.mode, inputs=inputs,
            started_at=now, actor="", steps=(),
        )  # fmt: skip
        return Case(incident, run, self.runbook, step, None, lambda _: None, lambda _: None, self.rules.calendars, now)


def _verdicts(judged: _Judged) -> Iterator[Foreseen]:
    """Inputs come before anything is begun; the gates are asked before each step with an action."""
    yield _inputs(judged)
    acts = any(step.action is not None for step in judged.runbook.steps)
    for gate in GATES if acts else (_mode, _env):
        yield gate(judged)


def _inputs(judged: _Judged) -> Foreseen:
    if judged.route.problem is not None:
        return _denies("inputs", f"{judged.route.problem}: nothing is done, and people are paged")
    if judged.route.each_problems:
        bad = "; ".join(judged.route.each_problems)
        return _allows("inputs", f"{bad}: only evidence needs it, so people are paged and the run goes on")
    return _allows("inputs", "every value fits its type" if judged.runbook.inputs else "it needs none")


def _mode(judged: _Judged) -> Foreseen:
    own, ceiling = judged.runbook.mode, judged.rules.ceiling
    why = f"mode {own}" if judged.mode is own else f"mode {own}, but responder.yaml allows {ceiling} at most"
    if judged.mode is Mode.AUTO:
        return _allows("mode", f"{why}: it acts")
    if judged.mode is Mode.APPROVE:
        return Foreseen("mode", Forecast.ASK, f"{why}: a person approves each change")
    return _denies("mode", f"{why}: it tells what it would do, and changes nothing")


def _env(judged: _Judged) -> Foreseen:
    env = judged.runbook.env
    return _allows("env", f"its services are of env {env}" if env is not None else "its services belong to no env")


def _pause(judged: _Judged) -> Foreseen:
    return _unknown("pause", "`responder status` says whether automation is paused")


def _storm(judged: _Judged) -> Foreseen:
    return _limit(judged, "storm", "whether very many incidents of its env began lately")


def _relapse(judged: _Judged) -> Foreseen:
    return _limit(judged, "relapse", "whether it came back again and again after it was fixed")


def _success(judged: _Judged) -> Foreseen:
    return _limit(judged, "success", "whether its latest runs helped")


def _changes(judged: _Judged) -> Foreseen:
    return _limit(judged, "changes", "the changes of the last hour, by `automation:` of responder.yaml")


def _calendar(judged: _Judged) -> Foreseen:
    said = guards.calendar(judged.case)
    return Foreseen("calendar", _FORESEEN[said.answer], said.reason)


def _yields(judged: _Judged) -> Foreseen:
    causes = judged.runbook.yields_to
    if not causes:
        return _allows("yields_to", "it yields to nothing")
    return _unknown("yields_to", f"it waits while an incident of {' or '.join(causes)} is open")


def _cooldown(judged: _Judged) -> Foreseen:
    span = judged.runbook.limits.cooldown
    return _limit(judged, "cooldown", f"cooldown of {format_duration(span)} after its last run" if span else None)


def _runs(judged: _Judged) -> Foreseen:
    rate = judged.runbook.limits.runs
    return _limit(judged, "runs", None if rate is None else f"limit of {rate}")


def _ineffective(judged: _Judged) -> Foreseen:
    rate = judged.runbook.limits.ineffective
    return _limit(judged, "ineffective", None if rate is None else f"limit of {rate} that did not help")


def _lock(judged: _Judged) -> Foreseen:
    return _limit(judged, "lock", f"whether another run has locked {judged.route.target}")


def _limit(judged: _Judged, gate: str, limit: str | None) -> Foreseen:
    """What limits refuse is the server's to know; a brake passes them whatever they say (design 4)."""
    if limit is None:
        return _allows(gate, "no limit")
    if judged.case.brake:
        return _allows(gate, f"{limit}; a brake passes it, and pages")
    return _unknown(gate, limit)


def _alerts(judged: _Judged) -> Foreseen:
    return _unknown("alerts", "an Alertmanager lists the alert as firing and not silenced, or none can say")


def _only_if(judged: _Judged) -> Foreseen:
    given = judged.runbook.only_if
    if given is None:
        return _allows("only_if", "it acts on the alert alone")
    blind = "acts and pages" if given.if_missing == "act_and_page" else "pages and does not act"
    asked = question(judged.runbook.checks[given.check])
    return _unknown("only_if", f"check {given.check} ({asked}) must say {given.expect}; without data it {blind}")


def question(check: Check) -> str:
    """What a check asks, in short: its query, or its action with the service."""
    query = check.with_.get("query") or check.with_.get("path")
    return str(query) if query is not None else check.action


def _budget(judged: _Judged) -> Foreseen:
    names = dict.fromkeys(str(s.with_["parameter"]) for s in judged.runbook.steps if "parameter" in s.with_)
    totals = [f"at most {judged.parameters[n].total_per_day:g} in 24h off {n}" for n in names if n in judged.parameters]
    return _unknown("budget", "; ".join(totals)) if totals else _allows("budget", "it lowers no parameter")


GATES: Final[Sequence[Callable[[_Judged], Foreseen]]] = (
    _pause, _mode, _env, _cooldown, _runs, _ineffective, _lock, _storm, _relapse, _success, _calendar, _yields,
    _alerts, _only_if, _budget, _changes,
)  # fmt: skip
"""As `guards.LOCAL` and `guards.INFORMED`, in their order."""

_FORESEEN: Final[Mapping[Answer, Forecast]] = {answer: Forecast(answer.value) for answer in Answer}


def _allows(gate: str, reason: str) -> Foreseen:
    return Foreseen(gate, Forecast.ALLOW, reason)


def _denies(gate: str, reason: str) -> Foreseen:
    return Foreseen(gate, Forecast.DENY, reason)


def _unknown(gate: str, reason: str) -> Foreseen:
    return Foreseen(gate, Forecast.UNKNOWN, f"asked when it runs: {reason}")
