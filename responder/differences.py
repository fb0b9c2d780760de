"""What two sets of rules decide differently about the same notifications, told first in the other's place.

Decisions are compared, not words: who answers, how incidents are cut, gates, steps with their parameters, skips, waits
and refusals, results, pages, levels, promises, closings. Ids, titles, evidence and reasons are not: a reason holds
numbers that were read, and is shown beside its decision. Not here: playing the notifications (`simulate`), and how a
comparison is written (`cli.comparison`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

from responder.decisions import PASSED, Decision, Subject, decisions
from responder.facts import AlertFired
from responder.tales import Tale
from responder.timing import SECOND


@dataclass(frozen=True, slots=True)
class Answering:
    """Which runbook answers an alert, on which target. `alert` is the alert as people are told it."""

    fingerprint: str
    alert: str
    runbook: str | None
    target: str
    problems: tuple[str, ...] = ()

    @property
    def decision(self) -> tuple[object, ...]:
        """What is compared."""
        return (self.runbook, self.target, self.problems)


@dataclass(frozen=True, slots=True)
class Played:
    """What one set of rules made of the notifications; each alert is named once or more."""

    answers: tuple[Answering, ...]
    tales: tuple[Tale, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One decision under the configured rules and under the others; None where there is none."""

    incident: str
    """The target of the incident, empty when it is about none or there is but one."""
    configured: Decision | None
    other: Decision | None

    @property
    def at(self) -> int:
        """When either side decides it first: µs since the beginning; -1 for what is decided before anything happens."""
        offsets = [d.offset for d in (self.configured, self.other) if d is not None]
        return min(-1 if offset is None else offset for offset in offsets)


@dataclass(frozen=True, slots=True)
class Group:
    """Alerts that share incidents on either side, in the order in which they came, and what differs about them."""

    title: str
    alerts: tuple[Answering, ...]
    differences: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        """Nothing is decided differently."""
        return not self.differences


@dataclass(frozen=True, slots=True)
class Comparison:
    """All groups, in the order in which their alerts came."""

    groups: tuple[Group, ...]

    @property
    def same(self) -> bool:
        """Nothing is decided differently about any alert."""
        return all(group.same for group in self.groups)

    def alerts(self, *, same: bool) -> int:
        """How many alerts are decided about the same, or differently."""
        return sum(len(group.alerts) for group in self.groups if group.same is same)


def compare(configured: Played, other: Played) -> Comparison:
    """The difference of decisions. Incidents are matched by their alerts, never by id."""
    answers = ({a.fingerprint: a for a in configured.answers}, {a.fingerprint: a for a in other.answers})
    parties = _Parties()
    for fingerprint in (*answers[0], *answers[1]):
        parties.join([fingerprint])
    for tale in (*configured.tales, *other.tales):
        parties.join(_members(tale))
    return Comparison(tuple(_group(members, answers, (configured.tales, other.tales)) for members in parties.all()))


# --- which alerts belong together -------------------------------------------------------------------------------------


def _members(tale: Tale) -> list[str]:
    """The fingerprints of an incident, each once; the target stands for them where it has none."""
    facts = (line.event.fact for line in tale.lines)
    fired = dict.fromkeys(fact.fingerprint for fact in facts if isinstance(fact, AlertFired))
    return list(fired) or [f"target {tale.incident.target}"]


@dataclass
class _Parties:
    """Members that were ever joined, directly or through others."""

    _parents: dict[str, str] = field(default_factory=dict)

    def join(self, members: Sequence[str]) -> None:
        first = self._root(members[0])
        for member in members[1:]:
            self._parents[self._root(member)] = first

    def _root(self, member: str) -> str:
        while (parent := self._parents.setdefault(member, member)) != member:
            member = parent
        return member

    def all(self) -> list[list[str]]:
        found: dict[str, list[str]] = {}
        for member in list(self._parents):
            found.setdefault(self._root(member), []).append(member)
        return list(found.values())


Answers = tuple[Mapping[str, Answering], Mapping[str, Answering]]
Sides = tuple[Sequence[Tale], Sequence[Tale]]


def _group(members: Sequence[str], answers: Answers, tales: Sides) -> Group:
    known = set(members)
    mine, theirs = ([t for t in side if known.intersection(_members(t))] for side in tales)
    alerts = tuple(a for m in members if (a := answers[0].get(m) or answers[1].get(m)) is not None)
    differences = [*_answering(members, answers), *_cut((mine, theirs), answers)]
    pairs = _pairs(mine, theirs)
    for before, after in pairs:
        told = (before or after).incident.target if len(pairs) > 1 else ""  # type: ignore[union-attr]
        differences += _between(before, after, told)
    known = {problem for alert in (*answers[0].values(), *answers[1].values()) for problem in alert.problems}
    differences = [d for d in differences if not _repeats(d, known)]
    return Group(_title(alerts, members), alerts, tuple(differences))


def _repeats(difference: Difference, known: Set[str]) -> bool:
    """A problem that who answers has told already."""
    told = [d for d in (difference.configured, difference.other) if d is not None]
    return all(d.subject[0] == "problem" and d.details[""] in known for d in told)


def _title(alerts: Sequence[Answering], members: Sequence[str]) -> str:
    names = [a.alert for a in alerts] or [m.removeprefix("target ") for m in members]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


# --- who answers, and how incidents are cut ---------------------------------------------------------------------------


def _answering(members: Sequence[str], answers: Answers) -> Iterator[Difference]:
    """Alerts that change in the same way are told once."""
    changed: dict[tuple[object, ...], list[tuple[Answering, Answering]]] = {}
    for one, two in ((answers[0].get(m), answers[1].get(m)) for m in members):
        if one is not None and two is not None and one.decision != two.decision:
            changed.setdefault((*one.decision, *two.decision), []).append((one, two))
    for alike in changed.values():
        who = "" if len(alike) == len(members) else _several([one.alert for one, _ in alike])
        yield Difference("", _answers(alike[0][0], who), _answers(alike[0][1], who))


def _answers(one: Answering, who: str) -> Decision:
    said = f"{one.runbook} on {one.target}" if one.runbook is not None else "no runbook"
    return Decision(None, ("answer",), f"{who} answered by".lstrip(), {"": said}, "; ".join(one.problems))


def _cut(tales: Sides, answers: Answers) -> Iterator[Difference]:
    """Which alerts share an incident; two incidents of one alert, one after the other, count too."""
    sizes = [Counter(frozenset(_members(tale)) for tale in side) for side in tales]
    if sizes[0] != sizes[1]:
        names = {**answers[1], **answers[0]}
        yield Difference("", *(_incidents(side, names) for side in tales))


def _incidents(tales: Sequence[Tale], names: Mapping[str, Answering]) -> Decision:
    parts = [_several([names[m].alert if m in names else m for m in _members(t)]) for t in tales]
    count = f"{len(tales) or 'no'} incident{'' if len(tales) == 1 else 's'}"
    return Decision(None, ("cut",), count, {"": " | ".join(parts)} if parts else {})


SHOWN: Final = 3
"""Alerts that are named before the rest are counted."""


def _several(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _pairs(mine: Sequence[Tale], theirs: Sequence[Tale]) -> list[tuple[Tale | None, Tale | None]]:
    """Each incident with the one of the other side that shares most alerts, then its target, then its place."""
    order = sorted(
        ((one, two) for one in range(len(mine)) for two in range(len(theirs))),
        key=lambda pair: (*_unlike(mine[pair[0]], theirs[pair[1]]), abs(pair[0] - pair[1]), pair),
    )
    partner: dict[int, int] = {}
    for one, two in order:
        if one not in partner and two not in partner.values():
            partner[one] = two
    pairs: list[tuple[Tale | None, Tale | None]] = [
        (tale, theirs[partner[number]] if number in partner else None) for number, tale in enumerate(mine)
    ]
    return pairs + [(None, tale) for number, tale in enumerate(theirs) if number not in partner.values()]


def _unlike(one: Tale, two: Tale) -> tuple[int, bool]:
    return -len(set(_members(one)) & set(_members(two))), one.incident.target != two.incident.target


# --- the decisions of two incidents -----------------------------------------------------------------------------------


def _between(before: Tale | None, after: Tale | None, told: str) -> Iterator[Difference]:
    mine, theirs = (_numbered(() if tale is None else decisions(tale)) for tale in (before, after))
    tried = _tried(mine) & _tried(theirs)
    places = [{subject: place for place, subject in enumerate(side)} for side in (mine, theirs)]
    found = []
    for subject in sorted({**mine, **theirs}, key=lambda s: min(side[s] for side in places if s in side)):
        difference = Difference(told, mine.get(subject), theirs.get(subject))
        if not _alike(difference) and (subject[0] != "gate" or _tells(subject, difference, tried)):
            found.append(difference)
    yield from sorted(found, key=lambda difference: difference.at)


def _alike(between: Difference) -> bool:
    """The same within a second: turns of the engine take microseconds, which nobody decides."""
    one, two = between.configured, between.other
    if one is None or two is None:
        return False
    return one.details == two.details and abs((one.offset or 0) - (two.offset or 0)) < SECOND


def _tried(numbered: Iterable[Subject]) -> set[Subject]:
    """The steps that came to their gates, each as often as it did."""
    return {subject[1:] for subject in numbered if subject[0] in ("attempt", "preview")}


def _tells(subject: Subject, gate: Difference, tried: set[Subject]) -> bool:
    """Gates that let a step pass which the other rules do not even try tell nothing beside the step itself."""
    passed = all(d is None or d.details == PASSED for d in (gate.configured, gate.other))
    return not passed or (*subject[1:-2], subject[-1]) in tried


def _numbered(given: Iterable[Decision]) -> dict[Subject, Decision]:
    """Each decision by its subject and how often that came before."""
    times: Counter[Subject] = Counter()
    found = {}
    for decision in given:
        times[decision.subject] += 1
        found[*decision.subject, times[decision.subject]] = decision
    return found
