"""What several runbooks of a set do to each other: one name, circles, inputs that are not there, a shared alert.

An overlap is told only when it is certain; one that shows itself at run time runs neither, and pages (design 4).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from responder.documents import Document
from responder.errors import BadSyntax
from responder.matchers import Matcher, Op, provably_disjoint, provably_overlap
from responder.problems import Path, Problem
from responder.runbook import Runbook, target_inputs


@dataclass(frozen=True, slots=True)
class Entry:
    """One runbook with the document it was read from. `whole`: nothing of its shape was wrong."""

    document: Document
    runbook: Runbook
    whole: bool


def conflicts(entries: Sequence[Entry]) -> Iterator[Problem]:
    """What is wrong between runbooks that are each fine alone."""
    yield from _same_names(entries)
    named = {entry.runbook.runbook: entry for entry in entries}
    yield from _circles(named)
    yield from _yielding(named)
    yield from _without_inputs(named)
    yield from _overlaps(entries)


def _same_names(entries: Sequence[Entry]) -> Iterator[Problem]:
    first: dict[str, Entry] = {}
    for entry in entries:
        earlier = first.setdefault(entry.runbook.runbook, entry)
        if earlier is not entry:
            where = f"{earlier.document.file}:{earlier.document.mark(('runbook',)).line}"
            message = f"two runbooks are called {entry.runbook.runbook!r}"
            yield entry.document.at_value(("runbook",), message, f"the other one is {where}")


def _yielding(entries: Mapping[str, Entry]) -> Iterator[Problem]:
    """Runbooks that yield to each other: none of them would ever run."""
    for name, entry in entries.items():
        for index, other in enumerate(entry.runbook.yields_to):
            way = _way(entries, other, name, lambda e: e.runbook.yields_to) if other != name else []
            if way:
                path: Path = ("yields_to", index)
                message = f"these wait for each other: {' → '.join([name, *way])}"
                at = path if path in entry.document.values else ("yields_to",)
                yield entry.document.at_value(at, message, "only a symptom yields to its cause")


def _started(entry: Entry) -> tuple[str, ...]:
    return tuple(promise.run for promise in entry.runbook.unless_fixed.values() if promise.run is not None)


def _without_inputs(entries: Mapping[str, Entry]) -> Iterator[Problem]:
    """A runbook that another one starts gets that one's inputs; the other's target must hold all that it needs."""
    for entry in entries.values():
        given = set(target_inputs(entry.runbook))
        for key, promise in entry.runbook.unless_fixed.items():
            started = entries.get(promise.run or "")
            lacking = sorted(set(target_inputs(started.runbook)) - given) if started is not None else []
            if lacking:
                message = f"{promise.run!r} needs the input {lacking[0]!r}, which the target here does not hold"
                hint = f"put {{{{ {lacking[0]} }}}} into the target here, or take it out of the target there"
                yield entry.document.at_value(("unless_fixed", key, "run"), message, hint)


def _circles(entries: Mapping[str, Entry]) -> Iterator[Problem]:
    """A `run:` that leads back to its own runbook, and one that leads to another env."""
    for name, entry in entries.items():
        for key, promise in entry.runbook.unless_fixed.items():
            if promise.run is None or promise.run not in entries:
                continue
            path: Path = ("unless_fixed", key, "run")
            way = _way(entries, promise.run, name, _started)
            if way:
                message = f"this leads back: {' → '.join([name, *way])}"
                yield entry.document.at_value(path, message, "end it with a page")
            envs = {entry.runbook.env, entries[promise.run].runbook.env}
            if len(envs - {None}) == 2:
                message = f"{promise.run!r} is of another env: {' and '.join(sorted(str(e) for e in envs))}"
                yield entry.document.at_value(path, message, "run one of the same env")


def _way(entries: Mapping[str, Entry], start: str, goal: str, after: Callable[[Entry], Iterable[str]]) -> list[str]:
    """The runbooks from `start` to `goal`, each named by the one before, empty when none leads there."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop()
        if way[-1] == goal:
            return way
        for following in after(entries[way[-1]]) if way[-1] in entries else ():
            if following == goal or following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return []


def _overlaps(entries: Iterable[Entry]) -> Iterator[Problem]:
    """Two runbooks that one alert would match. Only those that share an alert's name, or name none, are compared."""
    by_alert: dict[str, list[tuple[Entry, tuple[Matcher, ...]]]] = defaultdict(list)
    for entry in entries:
        matchers = _matchers(entry.runbook)
        for name in _alert_names(matchers) if matchers else ():
            by_alert[name].append((entry, matchers))
    general = by_alert.pop(_ANY, [])
    pairs = [pair for group in by_alert.values() for pair in combinations(group, 2)]
    pairs += [(one, other) for one in general for group in by_alert.values() for other in group]
    pairs += combinations(general, 2)
    told = set()
    for pair in pairs:
        (one, first), (other, second) = sorted(pair, key=lambda member: member[0].document.file)
        names = (one.runbook.runbook, other.runbook.runbook)
        if names in told or provably_disjoint(first, second) or not provably_overlap(first, second):
            continue
        told.add(names)
        where = f"{one.document.file}:{one.document.mark(('match',)).line}"
        message = f"an alert can match this and {names[0]!r} ({where}), and then neither would run"
        yield other.document.at_key(("match",), message, "match another label in one of them")


_ANY: Final = ""


def _matchers(runbook: Runbook) -> tuple[Matcher, ...]:
    try:
        return runbook.matchers if runbook.match else ()
    except BadSyntax:
        return ()


def _alert_names(matchers: Iterable[Matcher]) -> Iterable[str]:
    for matcher in matchers:
        if matcher.name == "alertname" and matcher.op is Op.EQUAL:
            return (matcher.value,)
        if matcher.name == "alertname" and matcher.pattern is not None and matcher.op is Op.MATCH:
            return matcher.pattern.literals or (_ANY,)
    return (_ANY,)
