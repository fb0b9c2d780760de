"""What a simulation assumes of the world: a performer that answers every check and change without asking anybody.

Parameters are rendered and validated as for a real run, so that a bad one is seen. What checks answer is derived from
the runbook's own expectations: a value that makes `only_if` true before the change, and one that makes `verify` true,
or not, after it. Not here: time, and what is made of the answers (`simulate`, `decide`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pydantic import JsonValue

from responder.contracts import Action, Probe, Service
from responder.errors import Permanent
from responder.expressions import Expression, evaluate, parse_expression
from responder.grammar import Comparison, Condition, Constant, Every, Listed, Negation, Operand, Path, Some, Sum, Truth
from responder.perform import Ended, Performer, classify
from responder.recorded import Effect, EvidenceItem, Observation, Outcome, Plan, ProbeAnswer
from responder.runbook import Check, Evidence, Rules, Runbook, Step

TRIES: Final = 20_000
"""Combinations of candidates that are tried for one condition; more means that its check stays without a value."""


class Assumption(StrEnum):
    """How the world answers."""

    FIXED = "fixed"
    UNFIXED = "unfixed"
    MISSING = "missing"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def said(self) -> str:
        """What is assumed, for people."""
        return _SAID[self]


_SAID: Final[Mapping[Assumption, str]] = {
    Assumption.FIXED: "changes work and help, people do their steps, then the alerts resolve",
    Assumption.UNFIXED: "changes work and do not help: checks never satisfy verify",
    Assumption.MISSING: "checks give no data; changes work",
    Assumption.FAILED: "every change is refused for good, so nothing gets better",
    Assumption.UNKNOWN: "the answer to every change is lost, and no probe can tell",
}

Wanted = tuple[Expression, bool]
"""A condition, and whether it is to hold."""


# --- values that satisfy conditions -----------------------------------------------------------------------------------


def solution(wanted: Sequence[Wanted], values: Mapping[str, object], roots: frozenset[str]) -> dict[str, Any] | None:
    """Values of `roots` with which every condition is as wanted, and known to be; None when none were found.

    `values` are the other names that the conditions see. Candidates come from the constants of the conditions.
    """
    paths = sorted({p.parts for condition, _ in wanted for p in condition.marks if p.parts[0] in roots})
    candidates = _candidates([condition for condition, _ in wanted])
    for chosen in itertools.islice(itertools.product(candidates, repeat=len(paths)), TRIES):
        tree = _tree(paths, chosen)
        if tree is not None and all(_is(condition, holds, {**values, **tree}) for condition, holds in wanted):
            return tree
    return None


def _is(condition: Expression, holds: bool, values: Mapping[str, object]) -> bool:
    answer = evaluate(condition, values)
    return answer.holds is holds and not answer.unknown


def _tree(paths: Sequence[tuple[str, ...]], chosen: Sequence[Any]) -> dict[str, Any] | None:
    """The paths with their values as nested objects; None where one path leads through the value of another."""
    tree: dict[str, Any] = {}
    for parts, value in zip(paths, chosen, strict=True):
        place = tree
        for part in parts[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                return None
        place[parts[-1]] = value
    return tree


def _candidates(conditions: Iterable[Expression]) -> list[JsonValue]:
    """Constants, what lies beside and between them, and a few of every kind."""
    constants = [value for condition in conditions for value in _constants(condition.root)]
    # The grammar reads -1 as 0 - 1, so each number is tried with either sign; as it stands first.
    plain = sorted({v for v in constants if isinstance(v, int | float) and not isinstance(v, bool)})
    signed = sorted({*plain, *(-number for number in plain)})
    found: list[JsonValue] = [near for number in (*plain, *signed) for near in _beside(number)]
    found += [round((low + high) / 2, 9) for low, high in itertools.pairwise(signed)]
    for text in (v for v in constants if isinstance(v, str)):
        found += [text, f"not {text}"]
    found += [True, False, 0, 1, *([None] if None in constants else [])]
    return list({(type(value), value): value for value in found}.values())


def _beside(number: int | float) -> tuple[int | float, ...]:
    if isinstance(number, int):
        return number, number + 1, number - 1
    step = abs(number) / 10 or 1.0
    return round(number + step, 9), round(number - step, 9), number


def _constants(condition: Condition) -> Iterator[JsonValue]:
    match condition:
        case Comparison(left=left, right=right):
            yield from _of_operand(left)
            yield from _of_operand(right)
        case Truth(operand):
            yield from _of_operand(operand)
        case Negation(term):
            yield from _constants(term)
        case Every(terms) | Some(terms):
            for term in terms:
                yield from _constants(term)


def _of_operand(operand: Operand) -> Iterator[JsonValue]:
    match operand:
        case Constant(value=value):
            yield value
        case Listed(values=values):
            yield from values
        case Sum(left=left, right=right):
            yield from _of_operand(left)
            yield from _of_operand(right)
        case Path():
            return


def check_value(runbook: Runbook, name: str, *, helped: bool) -> JsonValue:
    """What the check `name` answers: before anything helped, or afterwards. None when no value fits."""
    verify, given = runbook.verify, runbook.only_if
    after = [(parse_expression(verify.expect), helped)] if verify is not None and verify.check == name else []
    before = [(parse_expression(given.expect), True)] if given is not None and given.check == name else []
    # Where the two contradict each other, what starts the run counts until it has helped.
    tries = (after, before) if helped and after else ([*before, *after], before)
    found = next((s for s in (solution(wanted, {}, _VALUE) for wanted in tries if wanted) if s is not None), {})
    value: JsonValue = found.get("value")
    return value


_VALUE: Final = frozenset({"value"})


def output_for(expect: str, values: Mapping[str, object]) -> JsonValue:
    """The output with which a step's `expect` holds: `value` is the output itself, unknown names are fields of it."""
    condition = parse_expression(expect)
    fields = condition.names - values.keys() - _VALUE
    found = solution([(condition, True)], values, fields | _VALUE)
    if found is None or fields:
        return found
    value: JsonValue = found.get("value")
    return value


# --- the performer ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Promise:
    """What a prepared plan will answer when it is done, and for which incident."""

    incident: str
    output: JsonValue


def nowhere(service: str) -> Any:
    """The connections of a simulation. Raises Permanent: whatever asks for one is not simulated yet."""
    raise Permanent(f"service {service} is not asked in a simulation")


@dataclass(frozen=True)
class Pretending(Performer):
    """See the module. An action that uses no service touches nothing, and is really done: a `wait` takes its time."""

    assumption: Assumption = Assumption.FIXED
    rules: Rules | None = None
    services: Mapping[str, Service] = field(default_factory=dict)
    _helped: set[str] = field(default_factory=set)
    _promised: dict[str, _Promise] = field(default_factory=dict)

    async def observe(self, name: str, check: Check, values: Mapping[str, object]) -> Observation:
        """The check's value under the assumption; what cannot be rendered is missing, as it would be."""
        now = self.clock()
        try:
            self._built(check.action, check.with_, values)
        except Exception as error:  # noqa: BLE001  (classify is where every exception ends)
            return Observation(check=name, asked_at=now, error=classify(error, reads=True).detail)
        runbook = self._runbook_of(name, check, values)
        helped = self.assumption is Assumption.FIXED and _incident_of(values) in self._helped
        value = None if runbook is None else check_value(runbook, name, helped=helped)
        if self.assumption is Assumption.MISSING or value is None:
            return Observation(check=name, asked_at=now, error="no data (assumed)")
        return Observation(check=name, value=value, observed_at=now, asked_at=now)

    async def evidence(self, item: Evidence, values_list: Iterable[Mapping[str, object]]) -> list[EvidenceItem]:
        """Titles are rendered; there is nothing to read."""
        return [self._unread(item, values) for values in values_list]

    def _unread(self, item: Evidence, values: Mapping[str, object]) -> EvidenceItem:
        try:
            self._built(item.action, item.with_, values)
            return EvidenceItem(title=self._title(item, values), error="simulated")
        except Exception as error:  # noqa: BLE001
            return EvidenceItem(title=item.title or item.action, error=classify(error, reads=True).detail)

    async def prepare(self, runbook: Runbook, step: Step, values: Mapping[str, object]) -> Plan:
        """Render and validate for real, then let the action pretend. Raises Permanent, Temporary."""
        try:
            action = self._built(step.action or "", step.with_, values)
        except Exception as error:
            raise Permanent(f"{runbook.runbook}.{step.id}: {classify(error, reads=True).detail}") from error
        if not action.services(self.parameters):
            return await super().prepare(runbook, step, values)
        plan, output = action.pretend(self.clock())
        plan = plan.model_copy(update={"effect": action.effect(self._keyed(action))})
        value = output.value if step.expect is None else output_for(step.expect, values)
        self._promised[_key(plan)] = _Promise(_incident_of(values), value)
        return plan

    async def act(self, action: str, plan: Plan, key: str, timeout_us: int) -> Ended:
        """Nothing is done. What it would come to is the assumption."""
        promise = self._promised.get(_key(plan))
        if promise is None or not self._planned(action, plan).services(self.parameters):
            return await super().act(action, plan, key, timeout_us)
        if plan.effect is not Effect.READ:
            if self.assumption is Assumption.FAILED:
                return Ended(Outcome.PERMANENT, "refused (assumed)")
            if self.assumption is Assumption.UNKNOWN:
                return Ended(Outcome.UNKNOWN, "no answer came (assumed)")
            self._helped.add(promise.incident)
        return Ended(Outcome.OK, "simulated", promise.output, observed_at=self.clock())

    async def probe(self, action: str, plan: Plan, timeout_us: int) -> Probe:
        """Nobody can tell."""
        return Probe(ProbeAnswer.UNCLEAR, "the probe does not tell (assumed)")

    async def undo(self, action: str, plan: Plan, timeout_us: int) -> Plan:
        """Raises Permanent: the state before is not known in a simulation."""
        raise Permanent("the value before is not known in a simulation")

    def _keyed(self, action: Action) -> bool:
        service = self.services.get(str(getattr(action, "service", "")))
        return bool(getattr(service, "idempotency_keys", False))

    def _runbook_of(self, name: str, check: Check, values: Mapping[str, object]) -> Runbook | None:
        """Whose check it is; the runbook of the present run when several have the same."""
        runbooks = self.rules.runbooks if self.rules is not None else {}
        owners = [r for r in runbooks.values() if r.checks.get(name) == check]
        run = values.get("run")
        own = run.get("runbook") if isinstance(run, Mapping) else None
        return next((r for r in owners if r.runbook == own), owners[0] if owners else None)


def _incident_of(values: Mapping[str, object]) -> str:
    incident = values.get("incident")
    return str(incident.get("id", "")) if isinstance(incident, Mapping) else ""


def _key(plan: Plan) -> str:
    return plan.model_dump_json()
