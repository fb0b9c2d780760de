"""C11: ten thousand ladders under random words and restarts, each compared with the model of what must be told.

Incidents of one batch share one process, which dies and comes back. Everything follows from the seed and an incident's
number, so that one that went wrong is played again alone: `python -m tests.campaigns c11 --only SEED:NUMBER`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise
from typing import Any

from responder.config import Config
from responder.errors import Rejected
from responder.rules import Rules
from responder.timing import HOUR, MINUTE, SECOND
from tests.acceptance.stage import START, shown
from tests.campaigns.model import Ladder, Model, Told, Word
from tests.campaigns.virtual import Played, Wire, gateway, loaded, spread

BATCH = 100
"""Incidents that share a process."""
OPENING, TALKING, WHOLE = HOUR, 4 * HOUR, 9 * HOUR
"""Until when incidents open, for how long each is talked about, and when it is judged."""
TOLERANCE = SECOND
PAGERS = ("first", "second", "third")
"""Without a pace: levels are judged here, not how many pages a minute a pager takes."""
PEOPLE = ("alice", "bob")
SEVERITIES = ("warning", "high", "critical")

LADDERS: Mapping[str, Ladder] = {
    "warning": Ladder(((0, "first"), (40 * MINUTE, "second")), 10 * MINUTE, 45 * MINUTE),
    "high": Ladder(((0, "first"), (15 * MINUTE, "second"), (30 * MINUTE, "third")), 5 * MINUTE, 30 * MINUTE),
    "critical": Ladder(
        ((0, "first"), (15 * MINUTE, "second"), (30 * MINUTE, "third")),
        2 * MINUTE,
        20 * MINUTE,
        every=45 * MINUTE,
        times=2,
    ),
}


@cache
def rules() -> tuple[Rules, Config]:
    """The same ladders as policies."""
    return loaded({name: _policy(one) for name, one in LADDERS.items()}, {name: name for name in LADDERS})


def _policy(ladder: Ladder) -> dict[str, Any]:
    levels = [{"name": f"L{i}", "after": _text(at), "page": to} for i, (at, to) in enumerate(ladder.levels, 1)]
    whole = {"grace": _text(ladder.grace), "acknowledgement": _text(ladder.acknowledgement), "levels": levels}
    return whole | ({"repeat": {"every": _text(ladder.every), "times": ladder.times}} if ladder.times else {})


def _text(duration: int) -> str:
    return f"{duration // SECOND}s"


# --- what happens -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tale:
    """One incident: when it opens, and what is said about it."""

    number: int
    severity: str
    opened: int
    words: tuple[Word, ...]


def outages(seed: int) -> tuple[tuple[int, int], ...]:
    """From when until when no process runs: up to three times, up to two hours, or only for a moment."""
    chance = random.Random(f"{seed}")
    starts = sorted(chance.randrange(5 * HOUR) for _ in range(chance.randrange(4)))
    found: list[tuple[int, int]] = []
    for start in starts:
        if not found or start > found[-1][1] + MINUTE:
            found.append((start, start + chance.choice((SECOND, chance.randrange(1, 2 * HOUR)))))
    return tuple(found)


def tale(seed: int, number: int, down: Sequence[tuple[int, int]]) -> Tale:
    """Incident `number` of `seed`. Who has something to say while nothing runs says it soon afterwards."""
    chance = random.Random(f"{seed}:{number}")
    severity = chance.choice(SEVERITIES)
    opened = _heard(chance, down, chance.randrange(OPENING))
    times = sorted(
        _heard(chance, down, opened + _moment(chance, LADDERS[severity])) for _ in range(chance.randrange(7))
    )
    words = [_word(chance, at) for at in times]
    kept = [word for before, word in pairwise([Word(opened, ""), *words]) if word.at - before.at > 2 * SECOND]
    return Tale(number, severity, opened, tuple(kept))


def _heard(chance: random.Random, down: Sequence[tuple[int, int]], at: int) -> int:
    for gone, back in down:
        if gone - SECOND <= at <= back + SECOND:
            return back + chance.randrange(2 * SECOND, MINUTE)
    return at


def _moment(chance: random.Random, ladder: Ladder) -> int:
    """Anywhere, or a few seconds before or after a level: that is where mistakes are."""
    if chance.random() < 0.5:
        return chance.randrange(3 * SECOND, TALKING)
    after = max(chance.choice(ladder.levels)[0], ladder.grace)
    return after + chance.choice((-1, 1)) * chance.randrange(2 * SECOND, 30 * SECOND)


def _word(chance: random.Random, at: int) -> Word:
    verb = chance.choices(("ack", "snooze", "escalate", "takeover", "resolve", "rise"), (6, 4, 4, 1, 2, 2))[0]
    lasts = chance.randrange(1, 7_200) * SECOND + MINUTE if verb == "snooze" else 0
    return Word(at, verb, chance.choice(PEOPLE), lasts, chance.choice(SEVERITIES) if verb == "rise" else "")


# --- playing ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """What was compared, over any number of batches."""

    incidents: int = 0
    words: int = 0
    restarts: int = 0
    expected: int = 0
    skipped: int = 0
    doubled: int = 0
    errors: list[int] = field(default_factory=list)
    """How far each page was from its time (µs)."""
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Another batch."""
        for name in ("incidents", "words", "restarts", "expected", "skipped", "doubled"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.errors += other.errors
        self.failures += other.failures

    def figures(self) -> dict[str, Any]:
        """For the table."""
        counts = {n: getattr(self, n) for n in ("incidents", "words", "restarts", "expected", "skipped", "doubled")}
        return counts | {f"error_{name}": value for name, value in spread(self.errors).items()}


class Batch:
    """Some incidents of one seed, in one simulation."""

    def __init__(self, seed: int, numbers: Sequence[int]) -> None:
        self.seed = seed
        self.down = outages(seed)
        self.tales = [tale(seed, number, self.down) for number in numbers]
        self._ids: dict[int, str] = {}
        self._firing: dict[int, list[dict[str, str]]] = {}
        self._refused: dict[int, list[int]] = defaultdict(list)

    def run(self) -> Tally:
        """Play it, and compare."""
        played = Played(*rules(), {name: Wire(paced=False) for name in PAGERS})
        try:
            for at, happens in sorted(self._happens(played), key=lambda one: one[0]):
                played.advance_to(at)
                happens()
            played.advance_to(WHOLE)
            return self._compared(played)
        finally:
            played.close()

    # --- playing ------------------------------------------------------------------------------------------------------

    def _happens(self, played: Played) -> Iterator[tuple[int, Callable[[], None]]]:
        for gone, back in self.down:
            yield gone, partial(played.restart, back - gone)
        for one in self.tales:
            yield one.opened, partial(self._open, played, one)
            for word in one.words:
                yield word.at, partial(self._say, played, one, word)

    def _open(self, played: Played, one: Tale) -> None:
        alert = gateway(f"g{one.number}", one.severity)
        played.fires(alert)
        self._firing[one.number] = [alert]
        self._ids[one.number] = played.incident_of(f"desk/g{one.number}")

    def _say(self, played: Played, one: Tale, word: Word) -> None:
        firing = self._firing[one.number]
        if word.verb == "resolve":
            if firing:
                played.resolves(*firing)
            firing.clear()
        elif word.verb == "rise":
            if firing:
                firing.append(gateway(f"g{one.number}", word.severity, instance=f"{word.at}"))
                played.fires(firing[-1])
        else:
            self._command(played, one, word)

    def _command(self, played: Played, one: Tale, word: Word) -> None:
        more: dict[str, Any] = {"lasts": word.lasts} if word.verb == "snooze" else {}
        try:
            played.person(word.verb, word.actor, incident=self._ids[one.number], **more)
        except Rejected:
            self._refused[one.number].append(word.at)

    # --- comparing ----------------------------------------------------------------------------------------------------

    def _compared(self, played: Played) -> Tally:
        words = sum(len(one.words) for one in self.tales)
        tally = Tally(incidents=len(self.tales), words=words, restarts=len(self.down))
        arrived: dict[str, list[Told]] = defaultdict(list)
        for a in played.arrivals:
            if a.kind == "page":
                arrived[a.incident].append(Told(a.at - START, a.destination, a.key.rpartition("/")[2]))
        for one in self.tales:
            self._compare(one, arrived[self._ids[one.number]], tally)
        tally.failures += [f"seed {self.seed}: {said}" for said in played.violations() + played.failing]
        return tally

    def _compare(self, one: Tale, arrived: list[Told], tally: Tally) -> None:
        model = Model(dict(LADDERS), self.down, one.opened, one.severity)
        model.play(one.words, WHOLE)
        skipped, doubled, errors = matched(model.told, arrived)
        tally.expected += len(model.told)
        tally.skipped += len(skipped)
        tally.doubled += len(doubled)
        tally.errors += errors
        said = [f"was not told: {_shown(t)}" for t in skipped] + [f"was told in vain: {_shown(t)}" for t in doubled]
        if self._refused[one.number] != model.refused:
            said.append(f"refused words at {self._refused[one.number]}, expected at {model.refused}")
        if said:
            tally.failures.append(
                f"--only {self.seed}:{one.number}: {'; '.join(said)}\n{self._timeline(one, model, arrived)}"
            )

    def _timeline(self, one: Tale, model: Model, arrived: list[Told]) -> str:
        lines = [(gone, f"no process until {shown(back)}") for gone, back in self.down]
        lines.append((one.opened, f"opens, {one.severity}"))
        lines += [(w.at, f"{w.verb} {w.actor} {_text(w.lasts) if w.lasts else ''}{w.severity}") for w in one.words]
        lines += [(t.at, f"    model: {t.destination} ({t.why})") for t in model.told]
        lines += [(t.at, f"    page:  {t.destination} ({t.why})") for t in arrived]
        return "\n".join(f"    {shown(at):>8} {what}" for at, what in sorted(lines, key=lambda line: line[0]))


def _shown(told: Told) -> str:
    return f"{told.destination} at {shown(told.at)} ({told.why})"


def matched(expected: Sequence[Told], arrived: Sequence[Told]) -> tuple[list[Told], list[Told], list[int]]:
    """What did not arrive, what arrived in vain, and how far the others were from their times (µs)."""
    skipped: list[Told] = []
    left = sorted(arrived, key=lambda told: told.at)
    errors: list[int] = []
    for told in sorted(expected, key=lambda one: one.at):
        near = [a for a in left if a.destination == told.destination and abs(a.at - told.at) <= TOLERANCE]
        if not near:
            skipped.append(told)
            continue
        left.remove(near[0])
        errors.append(abs(near[0].at - told.at))
    return skipped, left, errors


def play(seed: int, size: int = BATCH) -> Tally:
    """One batch."""
    return Batch(seed, range(size)).run()
