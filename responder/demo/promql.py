"""As much of PromQL as the shipped runbooks ask, over what the built-in evaluator has scraped. Pure.

Selectors with `=`, ranges under `avg_over_time` and `rate`, arithmetic, comparisons that filter, `and` with and without
`on()`, `max min sum avg count`, `abs`, `scalar` and `timestamp`. Whatever else is asked is refused with its place, so
that a check fails loudly instead of being told something made up. Semantics are Prometheus' own: a comparison keeps the
left side's samples, arithmetic drops names, an aggregate of nothing is nothing.
"""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from responder.errors import BadSyntax
from responder.timing import SECOND, parse_duration

COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}

LOOKBACK: Final = 300 * SECOND
"""How old a sample may be and still answer, in microseconds: Prometheus' own default."""
DEEPEST: Final = 30
"""Nested brackets of one query."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value; `labels` without its name."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Scrape:
    """What one scrape brought, at `at` microseconds since the epoch. A failed one brings only `up` 0, as a stale marker
    ends every other series at once."""

    at: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """What a query is evaluated against: every scrape, oldest first, and the instant in microseconds."""

    scrapes: Sequence[Scrape]
    at: int

    @property
    def latest(self) -> Scrape | None:
        """The newest scrape that the instant sees and that is not too old."""
        seen = next((scrape for scrape in reversed(self.scrapes) if scrape.at <= self.at), None)
        return seen if seen is not None and self.at - seen.at < LOOKBACK else None


Vector = tuple[Sample, ...]
Value = float | Vector
Node = Callable[[Moment], Value]

_token = re.compile(
    r'\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<name>[a-zA-Z_:][\w:]*)|(?P<text>"(?:[^"\\]|\\["\\])*")'
    r"|(?P<sign>>=|<=|==|!=|=~|[-+*/(){},=<>])|(?P<range>\[[0-9a-z]+\])|(?P<end>$))"
)

_words = re.compile(r'"[\w-]*(?:\|[\w-]*)*"')
"""What `=~` may say here: some words, one of which it is."""

_AGGREGATES: Final[Mapping[str, Callable[[list[float]], float]]] = {
    "max": lambda values: max((v for v in values if not math.isnan(v)), default=math.nan),
    "min": lambda values: min((v for v in values if not math.isnan(v)), default=math.nan),
    "sum": math.fsum,
    "avg": lambda values: math.fsum(values) / len(values),
    "count": lambda values: float(len(values)),
}
_ARITHMETIC: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: a / b if b else math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a * b or a),
}
_RANGED: Final = ("avg_over_time", "rate")
"""Functions of a range."""
_FUNCTIONS: Final = frozenset({*_AGGREGATES, *_RANGED, "abs", "scalar", "timestamp"})


def parse(query: str) -> Node:
    """The query as a function of the moment. Raises BadSyntax for what is not supported."""
    return _Parser(query).whole()


class _Parser:
    """Recursive descent; each method reads one level of precedence and answers its node."""

    def __init__(self, query: str) -> None:
        self._query = query
        self._depth = 0
        self._at = 0
        self._kind = self._text = ""
        self._place = 0
        self._step()

    def whole(self) -> Node:
        node = self._conjunction()
        if self._kind != "end":
            raise self._refusal()
        return node

    def _step(self) -> str:
        """Moves on; answers what was there."""
        before, found = self._text, _token.match(self._query, self._at)
        if found is None:
            self._place = self._at
            raise self._refusal()
        self._kind = found.lastgroup or "end"
        self._text, self._place, self._at = found[self._kind], found.start(self._kind), found.end()
        return before

    def _refusal(self) -> BadSyntax:
        hint = "it knows what the shipped runbooks ask; put prometheus on PATH for the rest"
        return BadSyntax("the built-in evaluator cannot evaluate this", self._query, self._place + 1, hint)

    def _is(self, *signs: str) -> bool:
        return self._kind in ("sign", "name") and self._text in signs

    def _expect(self, sign: str) -> None:
        if not self._is(sign):
            raise self._refusal()
        self._step()

    def _conjunction(self) -> Node:
        left = self._comparison()
        while self._is("and"):
            self._step()
            on = self._on() if self._is("on") else None
            left = _and(left, self._comparison(), on)
        return left

    def _on(self) -> tuple[str, ...]:
        self._step()
        self._expect("(")
        names = []
        while self._kind == "name":
            names.append(self._step())
            if not self._is(")"):
                self._expect(",")
        self._expect(")")
        return tuple(names)

    def _comparison(self) -> Node:
        left = self._sum()
        while self._is(*COMPARISONS):
            sign = self._step()
            left = _filtered(left, COMPARISONS[sign], self._sum())
        return left

    def _sum(self) -> Node:
        left = self._product()
        while self._is("+", "-"):
            left = _calculated(left, _ARITHMETIC[self._step()], self._product())
        return left

    def _product(self) -> Node:
        left = self._one()
        while self._is("*", "/"):
            left = _calculated(left, _ARITHMETIC[self._step()], self._one())
        return left

    def _one(self) -> Node:
        if self._kind == "number":
            number = float(self._step())
            return lambda _: number
        if self._is("("):
            return self._bracketed()
        if self._kind != "name":
            raise self._refusal()
        place, name = self._place, self._step()
        if not self._is("("):
            return _selecting(self._selector(name))
        if name not in _FUNCTIONS:
            self._place = place
            raise self._refusal()
        return self._ranged(name) if name in _RANGED else _applied(name, self._bracketed())

    def _bracketed(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._refusal()
        self._expect("(")
        inner = self._conjunction()
        self._expect(")")
        self._depth -= 1
        return inner

    def _ranged(self, function: str) -> Node:
        self._expect("(")
        if self._kind != "name":
            raise self._refusal()
        chosen = self._selector(self._step())
        if self._kind != "range":
            raise self._refusal()
        span = parse_duration(self._step()[1:-1])
        self._expect(")")
        reduce = _average if function == "avg_over_time" else _rate
        return lambda moment: _over_time(chosen, span, moment, reduce)

    def _selector(self, name: str) -> _Selector:
        wanted: dict[str, frozenset[str]] = {}
        if self._is("{"):
            self._step()
            while not self._is("}"):
                if self._kind != "name":
                    raise self._refusal()
                label = self._step()
                several = self._is("=~")
                self._expect("=~" if several else "=")
                if self._kind != "text" or (several and not _words.fullmatch(self._text)):
                    raise self._refusal()
                text = re.sub(r"\\(.)", r"\1", self._step()[1:-1])
                wanted[label] = frozenset(text.split("|") if several else (text,))
                if not self._is("}"):
                    self._expect(",")
            self._step()
        return _Selector(name, wanted)


@dataclass(frozen=True, slots=True)
class _Selector:
    """A metric's name and the labels that it must have, each with one of its values; `""` is a missing one."""

    name: str
    labels: Mapping[str, frozenset[str]]

    def chosen(self, scrape: Scrape) -> Vector:
        """Its samples of one scrape."""
        labels = self.labels.items()
        return tuple(
            s for s in scrape.samples if s.name == self.name and all(s.labels.get(k, "") in v for k, v in labels)
        )


def _selecting(selector: _Selector) -> Node:
    return lambda moment: selector.chosen(moment.latest) if moment.latest else ()


Window = Sequence[tuple[int, float]]
"""The samples of one series within a range: time in microseconds and value, oldest first."""


def _over_time(
    selector: _Selector, span: int, moment: Moment, reduce: Callable[[Window, int, int], float | None]
) -> Vector:
    """`reduce` over each series' samples within `span` before the moment; a series that it answers None for is none."""
    series: dict[tuple[tuple[str, str], ...], list[tuple[int, float]]] = {}
    for scrape in moment.scrapes:
        if moment.at - span < scrape.at <= moment.at:
            for sample in selector.chosen(scrape):
                series.setdefault(_key(sample), []).append((scrape.at, sample.value))
    found = ((labels, reduce(window, moment.at - span, moment.at)) for labels, window in series.items())
    return tuple(Sample("", dict(labels), value) for labels, value in found if value is not None)


def _average(window: Window, _begins: int, _ends: int) -> float:
    return math.fsum(value for _, value in window) / len(window)


def _rate(window: Window, begins: int, ends: int) -> float | None:
    """Per second, as Prometheus does: resets are added up, and what is near the edges of the range is extrapolated."""
    if len(window) < 2:
        return None
    (first_at, first), (last_at, last) = window[0], window[-1]
    resets = math.fsum(before for (_, before), (_, after) in itertools.pairwise(window) if after < before)
    increase, sampled = last - first + resets, last_at - first_at
    between = sampled / (len(window) - 1)
    before, after = (
        float(edge) if edge < between * 1.1 else between / 2 for edge in (first_at - begins, ends - last_at)
    )
    if increase > 0 and first >= 0:
        # A counter is never below zero, so it cannot have begun longer ago than this.
        before = min(before, sampled * first / increase)
    return increase * (sampled + before + after) / sampled / ((ends - begins) / SECOND)


def _applied(name: str, inner: Node) -> Node:
    def apply(moment: Moment) -> Value:
        vector = _vector(inner(moment))
        if name == "scalar":
            return vector[0].value if len(vector) == 1 else math.nan
        if name == "timestamp":
            at = moment.latest.at if moment.latest else 0
            return tuple(replace(sample, name="", value=at / SECOND) for sample in vector)
        if name == "abs":
            return tuple(replace(sample, name="", value=abs(sample.value)) for sample in vector)
        return (Sample("", {}, _AGGREGATES[name]([sample.value for sample in vector])),) if vector else ()

    return apply


def _calculated(left: Node, calculate: Callable[[float, float], float], right: Node) -> Node:
    def apply(moment: Moment) -> Value:
        a, b = left(moment), right(moment)
        if isinstance(a, float) and isinstance(b, float):
            return calculate(a, b)
        return tuple(replace(s, name="", value=calculate(x, y)) for s, x, y in _pairs(a, b))

    return apply


def _filtered(left: Node, compare: Callable[[float, float], bool], right: Node) -> Node:
    return lambda moment: tuple(s for s, x, y in _pairs(left(moment), right(moment)) if compare(x, y))


def _and(left: Node, right: Node, on: tuple[str, ...] | None) -> Node:
    def apply(moment: Moment) -> Value:
        known = {_key(sample, on) for sample in _vector(right(moment))}
        return tuple(sample for sample in _vector(left(moment)) if _key(sample, on) in known)

    return apply


def _pairs(a: Value, b: Value) -> list[tuple[Sample, float, float]]:
    """The samples that a binary operator works on, each with its left and right value; the left one's labels win."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        others = {_key(sample): sample.value for sample in b}
        return [(s, s.value, others[_key(s)]) for s in a if _key(s) in others]
    if isinstance(a, tuple):
        return [(s, s.value, b) for s in a if isinstance(b, float)]
    return [(s, a, s.value) for s in _vector(b)]


def _key(sample: Sample, on: tuple[str, ...] | None = None) -> tuple[tuple[str, str], ...]:
    chosen = sample.labels.items() if on is None else [(name, sample.labels.get(name, "")) for name in on]
    return tuple(sorted(chosen))


def _vector(value: Value) -> Vector:
    return value if isinstance(value, tuple) else (Sample("", {}, value),)
