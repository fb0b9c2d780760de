"""What a simulation assumes of the world: values of checks, outputs and parameters that fit the runbook's own words.

What a check answers is derived from the runbook's expectations: a value that makes `only_if` true before the change,
and one that makes `verify` true, or not, after it. Not here: who gives these answers (`pretending`), and what is made
of them (`simulate`, `decide`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from pydantic import JsonValue

from responder.contracts import Parameter
from responder.expressions import Expression, evaluate, parse_expression
from responder.grammar import Comparison, Condition, Constant, Every, Listed, Negation, Operand, Path, Some, Sum, Truth
from responder.rules import Rules
from responder.runbook import Runbook

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
        """What is assumed, for people, where nobody says what people do."""
        return self.said_of("people do their steps")

    def said_of(self, people: str) -> str:
        """The same with another word about people."""
        return _SAID[self].format(people=people)


_SAID: Final[Mapping[Assumption, str]] = {
    Assumption.FIXED: "changes work and help, {people}, then the alerts resolve",
    Assumption.UNFIXED: "changes work and do not help: checks never satisfy verify; {people}",
    Assumption.MISSING: "checks give no data; changes work, {people}",
    Assumption.FAILED: "every change is refused for good, so nothing gets better; {people}",
    Assumption.UNKNOWN: "the answer to every change is lost, and no probe can tell; {people}",
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
    after = verify.expect if verify is not None and verify.check == name else None
    before = given.expect if given is not None and given.check == name else None
    return _fitting(after, before, helped=helped)


@lru_cache(maxsize=1024)  # a replay asks for the same answer every few seconds of hours
def _fitting(verify: str | None, only_if: str | None, *, helped: bool) -> JsonValue:
    """The value that fits both expectations, as `check_value` says."""
    after = [] if verify is None else [(parse_expression(verify), helped)]
    before = [] if only_if is None else [(parse_expression(only_if), True)]
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


def beginning(sets: Iterable[Rules], parameters: Mapping[str, Parameter]) -> dict[str, float]:
    """A value for each parameter to begin with where nobody says one: high enough to be lowered, within its total.

    It lies above the highest value that any step sets by half of what may be taken off a day.
    """
    steps = [step for rules in sets for runbook in rules.runbooks.values() for step in runbook.steps]
    found = {}
    for name, spec in parameters.items():
        wanted = [step.with_.get("to") for step in steps if step.with_.get("parameter") == name]
        highest = max([float(to) for to in wanted if isinstance(to, int | float)], default=spec.floor)
        found[name] = round(highest + (spec.total_per_day / 2 or abs(highest) or 1.0), 9)
    return found
