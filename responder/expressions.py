"""The one small language of `expect`, `when`, `only_if` and `harmful`: what a condition answers (design.md section 4).

A guard that is wrong about a missing number acts on nothing, so the logic inside is three-way: what is missing, NaN or
of the wrong type makes its comparison unknown, `not` leaves it unknown, and what is unknown at the end does not hold.
Values are looked up in mappings only, never as attributes of objects. This module does not know what a check or a step
is: the caller hands it a tree of values.
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from responder.grammar import (
    Comparison,
    Condition,
    Constant,
    Every,
    Expression,
    ExpressionError,
    Listed,
    Negation,
    Operand,
    Path,
    Some,
    Sum,
    Truth,
    parse_expression,
)  # fmt: skip

__all__ = ["Answer", "Expression", "ExpressionError", "evaluate", "explain", "parse_expression"]

_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether the condition holds. `missing` says why it could not be known, and is empty whenever it could."""

    holds: bool
    missing: tuple[str, ...] = ()

    @property
    def unknown(self) -> bool:
        """True when a missing value, NaN or a wrong type decided the answer: the case of `if_missing`."""
        return bool(self.missing)


class Kind(StrEnum):
    """What a value is; only values of one kind are compared, so that text never passes for a number."""

    NUMBER = "a number"
    TEXT = "text"
    TRUTH = "true or false"
    NOTHING = "null"
    OTHER = "a list or an object"


@dataclass(frozen=True, slots=True)
class _Missing:
    """Why an operand has no value."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Finding:
    """Kleene's three values: `holds` is None when unknown, and then `reasons` say why."""

    holds: bool | None
    reasons: tuple[str, ...] = ()


_COMPARES: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_CALCULATIONS: Mapping[int, Callable[[Any, Any], object]] = {1: operator.add, -1: operator.sub}


def evaluate(expression: Expression, values: Mapping[str, object]) -> Answer:
    """Answer `expression` over a tree of values with string keys; never raises.

    A missing value, NaN and a wrong type make their comparison unknown, and an unknown answer does not hold, also under
    `not` (design.md section 4).
    """
    finding = _find(expression.root, values)
    if finding.holds is None:
        return Answer(holds=False, missing=tuple(dict.fromkeys(finding.reasons)))
    return Answer(finding.holds)


def _find(condition: Condition, values: Mapping[str, object]) -> _Finding:
    match condition:
        case Comparison():
            return _compare(condition, values)
        case Truth(operand):
            return _truth(operand, values)
        case Negation(term):
            finding = _find(term, values)
            return finding if finding.holds is None else _Finding(not finding.holds)
        case Every(terms):
            return _combine((_find(term, values) for term in terms), decisive=False)
        case Some(terms):
            return _combine((_find(term, values) for term in terms), decisive=True)


def _combine(findings: Iterable[_Finding], *, decisive: bool) -> _Finding:
    """`and` is decided by one false, `or` by one true; otherwise anything unknown leaves the whole unknown."""
    found = tuple(findings)
    if any(finding.holds is decisive for finding in found):
        return _Finding(decisive)
    if any(finding.holds is None for finding in found):
        return _Finding(None, tuple(reason for finding in found for reason in finding.reasons))
    return _Finding(not decisive)


def _truth(operand: Operand, values: Mapping[str, object]) -> _Finding:
    value = _value(operand, values)
    if isinstance(value, _Missing):
        return _Finding(None, value.reasons)
    if isinstance(value, bool):
        return _Finding(value)
    return _Finding(None, (f"{operand.text} is {_kind(value)}, not true or false",))


def _compare(pair: Comparison, values: Mapping[str, object]) -> _Finding:
    left = _value(pair.left, values)
    if isinstance(pair.right, Listed):
        return _membership(pair, left, pair.right)
    right = _value(pair.right, values)
    if isinstance(left, _Missing) or isinstance(right, _Missing):
        return _Finding(None, tuple(_reasons(left, right)))
    if _is_null(pair.left) or _is_null(pair.right):
        return _Finding((left is None and right is None) is (pair.symbol == "=="))
    kind, other = _kind(left), _kind(right)
    if kind is not other or kind not in _comparable(pair.symbol):
        return _Finding(None, (_confusion(pair, kind, other),))
    return _Finding(_COMPARES[pair.symbol](left, right))


def _membership(pair: Comparison, left: object, listed: Listed) -> _Finding:
    if isinstance(left, _Missing):
        return _Finding(None, left.reasons)
    kind = _kind(left)
    alike = [item for item in listed.values if _kind(item) is kind]
    if not alike or kind is Kind.OTHER:
        return _Finding(None, (f"{pair.left.text} is {kind}, {listed.text} holds none",))
    return _Finding((left in alike) is (pair.symbol == "in"))


def _comparable(symbol: str) -> frozenset[Kind]:
    ordered = frozenset({Kind.NUMBER, Kind.TEXT})
    return ordered | {Kind.TRUTH} if symbol in {"==", "!="} else ordered


def _confusion(pair: Comparison, kind: Kind, other: Kind) -> str:
    if kind is other:
        return f"{pair.left.text} is {kind}, which has no `{pair.symbol}`"
    return f"{pair.left.text} is {kind}, {pair.right.text} is {other}"


def _is_null(operand: Operand) -> bool:
    return isinstance(operand, Constant) and operand.value is None


def _reasons(*found: object) -> Iterator[str]:
    for value in found:
        if isinstance(value, _Missing):
            yield from value.reasons


def _value(operand: Operand, values: Mapping[str, object]) -> object:
    match operand:
        case Constant(value=value):
            return value
        case Path(text=text, parts=parts):
            return _checked(_lookup(parts, values), text)
        case Sum():
            return _added(operand, values)
        case Listed(values=items):
            return items


def _lookup(parts: tuple[str, ...], values: Mapping[str, object]) -> object:
    found: object = values
    for at, part in enumerate(parts, start=1):
        if not isinstance(found, Mapping) or part not in found:
            return _Missing((f"{'.'.join(parts[:at])} is missing",))
        found = found[part]
    return found


def _checked(value: object, text: str) -> object:
    if isinstance(value, float) and math.isnan(value):
        return _Missing((f"{text} is NaN",))
    return value


def _added(operand: Sum, values: Mapping[str, object]) -> object:
    left, right = _value(operand.left, values), _value(operand.right, values)
    if isinstance(left, _Missing) or isinstance(right, _Missing):
        return _Missing(tuple(_reasons(left, right)))
    for side, value in ((operand.left, left), (operand.right, right)):
        if _kind(value) is not Kind.NUMBER:
            return _Missing((f"{side.text} is {_kind(value)}, not a number",))
    try:
        return _checked(_CALCULATIONS[operand.sign](left, right), operand.text)
    except OverflowError:
        return _Missing((f"{operand.text} is too large",))


def _kind(value: object) -> Kind:
    match value:
        case None:
            return Kind.NOTHING
        case bool():
            return Kind.TRUTH
        case int() | float():
            return Kind.NUMBER
        case str():
            return Kind.TEXT
    return Kind.OTHER


def _as_float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def explain(expression: Expression, values: Mapping[str, object]) -> str:
    """The condition with each value beside its name, for journals and messages: `value 2.13 > 1.8`; never raises."""
    pieces, start = [], 0
    for path in expression.marks:
        pieces += [expression.source[start : path.end], f" {_shown(_lookup(path.parts, values))}"]
        start = path.end
    return " ".join("".join([*pieces, expression.source[start:]]).split())


def _shown(value: object) -> str:
    match value:
        case _Missing():
            return "(missing)"
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case int() | float():
            return _shown_number(value)
        case str():
            cut = value if len(value) <= _SHOWN_CHARACTERS else value[: _SHOWN_CHARACTERS - 1] + "…"
            return '"' + "".join(character if character.isprintable() else "�" for character in cut) + '"'
    return f"({Kind.OTHER})"


def _shown_number(value: int | float) -> str:
    if isinstance(value, int) and abs(value) < 10**15:
        return str(int(value))
    number = _as_float(value)
    if math.isnan(number):
        return "NaN"
    # Six digits are what people read; large numbers are not put into powers of ten.
    return f"{number:.6g}" if abs(number) < 10**6 else f"{number:.10g}"
