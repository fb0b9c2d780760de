"""The strip at the top of a replayed incident: who acts, who verifies, who is paged, drawn along one line of time.

Places are percentages of the width. Long replays are drawn to the square root of time, because most happens early; the
times written below the strip say so honestly. Not here: how it looks (templates/web).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from responder import facts as f
from responder.cli.replayed import stopped_by_person
from responder.decisions import clock
from responder.recorded import Cause, Effect
from responder.tales import Line, Tale, result_text
from responder.timing import DAY, HOUR, MINUTE, SECOND

BENDS: Final = 10 * MINUTE
"""A longer time is not drawn to scale."""
CHARACTER: Final = 1.6
"""Percent of the width that a character of a written time takes at most."""
WIDE_CHARACTER: Final = 3.8
"""The same on a narrow screen, and in the overview."""
LAST: Final = 90.0
"""From here on a time is written at the left of its place (templates/web, `last`)."""
TIMES: Final = tuple(
    [n * SECOND for n in (0, 1, 2, 5, 10, 20, 30)]
    + [n * MINUTE for n in (1, 2, 5, 10, 15, 30)]
    + [n * HOUR for n in (1, 2, 4, 8, 12)]
    + [n * DAY for n in (1, 2, 4, 7, 14, 30)]
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time that something lasts: firing, acting, waiting, verifying, countdown."""

    phase: str
    left: float
    width: float
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """An instant: change, page, level, result. `room` is how much is free at its right."""

    phase: str
    left: float
    room: float
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One row of the strip."""

    name: str
    stretches: tuple[Stretch, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Time:
    """A time that is written, `left` percent from the left; a `minor` one only where there is room."""

    left: float
    text: str
    minor: bool


@dataclass(frozen=True, slots=True)
class Strip:
    """All rows, and the times written below them."""

    lanes: tuple[Lane, ...]
    times: tuple[Time, ...]
    bent: bool


@dataclass(frozen=True, slots=True)
class Scale:
    """Where an offset lies, in percent; `span` is all that is drawn, in µs."""

    span: int

    @property
    def bent(self) -> bool:
        """Drawn to the square root of time."""
        return self.span > BENDS

    def place(self, offset: int) -> float:
        """Percent from the left."""
        share = min(1.0, max(0.0, offset / self.span))
        return round(100 * (math.sqrt(share) if self.bent else share), 2)

    def times(self) -> tuple[Time, ...]:
        """The times that are written, far enough from each other."""
        known = [(self.place(time), clock(time)) for time in TIMES if time <= self.span]
        shown = _apart(known, CHARACTER)
        major = _apart(shown, WIDE_CHARACTER)
        return tuple(Time(left, text, (left, text) not in major) for left, text in shown)


def _apart(known: Sequence[tuple[float, str]], character: float) -> list[tuple[float, str]]:
    """The first one, and from the right as many as fit, at so many percent for each character."""
    found = [known[0]]
    for one in reversed(known[1:]):
        left, right = _written(one, character)
        free = _written(found[-1], character)[0] if len(found) > 1 else math.inf
        if left >= _written(known[0], character)[1] + character and right + character <= free:
            found.append(one)
    return sorted(found)


def _written(time: tuple[float, str], character: float) -> tuple[float, float]:
    """From where to where a time is written, in percent."""
    place, width = time[0], len(time[1]) * character
    left = place - width * (0.85 if place > LAST else 0.5)
    return left, left + width


def scale_of(tales: Iterable[Tale]) -> Scale:
    """One scale for all that happens in these incidents."""
    return Scale(max([SECOND, *(end_of(tale) for tale in tales)]))


def end_of(tale: Tale) -> int:
    """The offset of the last thing that happens in an incident, in µs."""
    return max([line.offset for line in tale.lines] + [page.offset for page in tale.pages], default=0)


def strip_of(tale: Tale, scale: Scale) -> Strip:
    """Alerts, each run, countdowns, levels, pages; a row in which nothing happens is left out."""
    lanes = [_firing(tale, scale), *_runs(tale, scale), _countdowns(tale, scale), _levels(tale, scale)]
    lanes.append(Lane("Pages", (), tuple(pages_of(tale, scale))))
    return Strip(tuple(lane for lane in lanes if lane.stretches or lane.marks), scale.times(), scale.bent)


def summary_of(tale: Tale, scale: Scale) -> Lane:
    """All runs and pages of an incident in one row."""
    runs = list(_runs(tale, scale))
    stretches = [stretch for lane in runs for stretch in lane.stretches]
    results = [mark for lane in runs for mark in lane.marks if mark.phase == "result"]
    return Lane("", tuple(stretches), (*pages_of(tale, scale), *results))


def pages_of(tale: Tale, scale: Scale) -> Iterator[Mark]:
    """Those of one instant are one mark."""
    instants = groupby(tale.pages, key=lambda page: page.offset // SECOND)
    at = [
        (pages[0].offset, ", ".join(p.destination for p in pages)) for pages in (list(group) for _, group in instants)
    ]
    yield from _marks("page", at, scale)


# --- rows -------------------------------------------------------------------------------------------------------------


def _firing(tale: Tale, scale: Scale) -> Lane:
    """From the first firing until nothing fires any more, as often as that happens."""
    firing: set[str] = set()
    since, found = 0, []
    for line in tale.lines:
        fact, before = line.event.fact, bool(firing)
        if isinstance(fact, f.AlertFired):
            firing.add(fact.fingerprint)
            since = since if before else line.offset
        elif isinstance(fact, f.AlertResolved):
            firing.discard(fact.fingerprint)
            if before and not firing:
                found.append(_stretch("firing", since, line.offset, scale, "fires"))
    if firing:
        found.append(_stretch("firing", since, scale.span, scale, "fires"))
    return Lane("Alert fires", tuple(found), ())


def _runs(tale: Tale, scale: Scale) -> Iterator[Lane]:
    """One row a run: acting, waiting for a gate, verifying; its changes and its result."""
    for begun in (line for line in tale.lines if isinstance(line.event.fact, f.RunStarted)):
        number = getattr(begun.event.fact, "number", 0)
        own = [line for line in tale.lines if line is begun or getattr(line.event.fact, "run", None) == number]
        changes = [(line.offset, "") for line in own if _changes(line)]
        marks = (*_marks("change", changes, scale), *_marks("result", _ends(own, tale), scale))
        yield Lane(_name(begun), tuple(_phases(own, scale)), marks)


def _name(begun: Line) -> str:
    """`cut`, `undo of cut`, `restore of cut`."""
    fact = begun.event.fact
    if not isinstance(fact, f.RunStarted):
        return ""
    return f"{fact.cause.value} of {fact.runbook}" if fact.cause in (Cause.UNDO, Cause.RESTORE) else fact.runbook


def _ends(own: Sequence[Line], tale: Tale) -> list[tuple[int, str]]:
    """When the run of these lines ended, and how."""
    causes = {run.number: run.cause for run in tale.incident.runs}
    return [
        (line.offset, _end(fact, causes[fact.run], tale))
        for line in own
        if isinstance(fact := line.event.fact, f.RunEnded)
    ]


def _end(fact: f.RunEnded, cause: Cause, tale: Tale) -> str:
    stopped = stopped_by_person(tale.incident, fact.result, fact.why)
    return "stopped" if stopped else result_text(cause, fact.result)


def _changes(line: Line) -> bool:
    fact = line.event.fact
    return isinstance(fact, f.AttemptIntended) and fact.plan.effect is not Effect.READ


def _phases(lines: Sequence[Line], scale: Scale) -> Iterator[Stretch]:
    """What the run does between each two of its events."""
    over = isinstance(lines[-1].event.fact, f.RunEnded)
    ends = [line.offset for line in lines[1:]] + ([] if over else [scale.span])
    spans = [(phase, line.offset, end) for phase, line, end in zip(_phase_after(lines), lines, ends, strict=False)]
    for phase, group in groupby(spans, key=lambda span: span[0]):
        parts = list(group)
        yield _stretch(phase, parts[0][1], parts[-1][2], scale, phase)


def _phase_after(lines: Sequence[Line]) -> Iterator[str]:
    phase = "acting"
    for line in lines:
        match line.event.fact:
            case f.Verifying():
                phase = "verifying"
            case f.Waiting() | f.ManualAsked():
                phase = "waiting"
            case f.AttemptIntended() | f.ManualDone() | f.StepSkipped():
                phase = "acting"
        yield phase


def _countdowns(tale: Tale, scale: Scale) -> Lane:
    found = [
        _stretch("countdown", line.offset, line.offset + fact.at - line.event.at, scale, fact.runbook)
        for line in tale.lines
        if isinstance(fact := line.event.fact, f.MachineAnnounced)
    ]
    return Lane("Countdown", tuple(found), ())


def _levels(tale: Tale, scale: Scale) -> Lane:
    reached = [(line.offset, fact.name) for line in tale.lines if isinstance(fact := line.event.fact, f.LevelReached)]
    return Lane("Levels", (), tuple(_marks("level", reached, scale)))


def _stretch(phase: str, since: int, until: int, scale: Scale, what: str) -> Stretch:
    left = scale.place(since)
    return Stretch(phase, left, round(scale.place(until) - left, 2), f"{what}, {clock(since)} to {clock(until)}")


def _marks(phase: str, at: Sequence[tuple[int, str]], scale: Scale) -> Iterator[Mark]:
    places = [*(scale.place(offset) for offset, _ in at), 100.0]
    for (offset, text), left, following in zip(at, places[:-1], places[1:], strict=True):
        yield Mark(phase, left, round(following - left, 2), f"{clock(offset)} {text or phase}", text)
