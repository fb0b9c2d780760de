"""The rows of an incident's timeline: what happened when, with what a reader can unfold.

Gaps between rows grow with the logarithm of the time between them, for seconds and hours must both be seen; each gap
that matters says how long it is. Not here: words (templates/story) and looks (templates/web).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from responder import facts as f
from responder.cli.replayed import stopped_by_person
from responder.cli.retelling import SHOWN
from responder.decisions import SAYS, clock, parameter_text
from responder.recorded import Answer, Effect, Outcome, Plan, Result, StepStatus, Verdict
from responder.tales import Line, Page, Tale, result_text
from responder.telling import AUTHOR, has_line
from responder.timing import SECOND, humanize

LEFT_OUT: Final = frozenset({"evidence_gathered", "paged", "page_accepted"})
"""Evidence is not read in a simulation; pages have rows of their own."""
SPOKEN: Final = 5
"""Seconds: a shorter gap is not spoken of."""
UNFOLDED: Final = 3
"""So many alerts of one second have rows of their own."""
STEP: Final = 9.0
"""Pixels for each doubling of a gap."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a row is marked, never by colour alone: a word, an icon of the template, a tone."""

    tag: str
    icon: str
    tone: str = "plain"


@dataclass(frozen=True, slots=True)
class Gate:
    """One verdict as it is shown."""

    name: str
    says: str
    reason: str
    tone: str


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that happened. `gap` is what passed before it, `pixels` how far that moves it down."""

    offset: int
    time: str
    look: Look
    text: str
    by: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    gates: tuple[Gate, ...] = ()
    gated: str = ""
    said: str = ""
    again: str = ""
    alike: str = ""
    """What alerts do; those that do it in one second are folded into one row."""
    more: tuple[str, ...] = ()
    gap: str = ""
    pixels: int = 0
    along: bool = False
    """Within the second of the row before it."""


def changes(tale: Tale) -> int:
    """How many attempts change something."""
    facts = (line.event.fact for line in tale.lines)
    return sum(isinstance(fact, f.AttemptIntended) and fact.plan.effect is not Effect.READ for fact in facts)


def rows(tale: Tale, places: Mapping[int, tuple[str, ...]]) -> tuple[Row, ...]:
    """Events and pages in the order of time. `places`: who gave the answers behind an event, by its number."""
    events = [_row(line, places.get(line.event.seq, ()), _look(line, tale)) for line in tale.lines if _told(line)]
    found = sorted([*events, *_pages(tale.pages)], key=lambda row: (row.offset + SECOND // 2) // SECOND)
    return tuple(_spaced(_folded(_once(found))))


def _told(line: Line) -> bool:
    fact = line.event.fact
    if isinstance(fact, f.Opened):
        return False  # the heading says it
    return fact.kind not in LEFT_OUT and (has_line(fact) or fact.kind in SHOWN or isinstance(fact, f.AlertFired))


def _row(line: Line, places: tuple[str, ...], marked: Look) -> Row:
    fact, actor = line.event.fact, line.event.actor
    by = ", ".join([*([f"by {actor}"] if actor != AUTHOR and actor not in line.text else []), *places])
    gates = tuple(_gate(v) for v in getattr(fact, "verdicts", ()))
    return Row(
        offset=line.offset,
        time=clock(line.offset),
        look=marked,
        text=line.text,
        by=by,
        fields=_fields(fact) if isinstance(fact, f.AttemptIntended) else (),
        gates=gates,
        gated=_gated(gates),
        alike=fact.kind if isinstance(fact, f.AlertFired | f.AlertResolved) else "",
    )


def _fields(fact: f.AttemptIntended) -> tuple[tuple[str, str], ...]:
    params = [(n, parameter_text(v)) for n, v in fact.plan.params.items() if v not in (None, [], {})]
    return (("step", fact.step), ("action", fact.action), *params)


def _pages(pages: Iterable[Page]) -> list[Row]:
    """Those of one instant with one text and one reason are one row."""
    alike = groupby(pages, key=lambda page: (page.offset // SECOND, page.why, page.text))
    return [_page(list(group)) for _, group in alike]


def _page(pages: list[Page]) -> Row:
    first = pages[0]
    who = ", ".join(page.destination for page in pages)
    text = f"{who}{': ' if first.why else ''}{first.why}"
    return Row(first.offset, clock(first.offset), Look("Page", "page", "page"), text, said=first.text)


def _once(found: list[Row]) -> Iterator[Row]:
    """Rows that say the same, one after the other, as one."""
    for _, group in groupby(found, key=lambda row: (row.look, row.text, row.fields, row.gates)):
        alike = list(group)
        last = f"{len(alike)} times, the last at {alike[-1].time}" if len(alike) > 1 else ""
        yield replace(alike[0], again=last)


def _folded(found: Iterable[Row]) -> Iterator[Row]:
    """Many alerts that begin or end in one second as one row, with the others to unfold."""
    for (alike, _), group in groupby(found, key=lambda row: (row.alike, row.time if row.alike else "")):
        several = list(group)
        if alike and len(several) > UNFOLDED:
            yield replace(several[0], more=tuple(row.text for row in several[1:]))
        else:
            yield from several


def _spaced(found: Iterable[Row]) -> list[Row]:
    spaced, before = [], -1
    for row in found:
        at = (row.offset + SECOND // 2) // SECOND
        passed = at - max(before, 0)
        gap = f"{humanize(passed * SECOND)} later" if passed >= SPOKEN else ""
        pixels = round(STEP * math.log2(1 + passed))
        spaced.append(replace(row, gap=gap, pixels=pixels, along=at == before))
        before = at
    return spaced


# --- gates ------------------------------------------------------------------------------------------------------------


def _gate(verdict: Verdict) -> Gate:
    tones = {Answer.ALLOW: "good", Answer.WAIT: "warn", Answer.ASK: "warn", Answer.DENY: "bad"}
    if verdict.warn:
        return Gate(verdict.gate, "warns", verdict.reason, "warn")
    return Gate(verdict.gate, SAYS[verdict.answer], verdict.reason, tones[verdict.answer])


def _gated(gates: tuple[Gate, ...]) -> str:
    """`9 gates allow`, `8 gates allow, budget refuses`."""
    plain = sum(gate.tone == "good" for gate in gates)
    parts = [f"{plain} gate{'s' if plain > 1 else ''} allow{'s' if plain == 1 else ''}"] if plain else []
    return ", ".join([*parts, *(f"{gate.name} {gate.says}" for gate in gates if gate.tone != "good")])


# --- how a fact is marked ---------------------------------------------------------------------------------------------


def _look(line: Line, tale: Tale) -> Look:
    """The mark of a fact in its incident: what a result means depends on why its run was started."""
    fact = line.event.fact
    if not isinstance(fact, f.RunEnded):
        return look(fact)
    run = next((run for run in tale.incident.runs if run.number == fact.run), None)
    if stopped_by_person(tale.incident, fact.result, fact.why):
        return Look("Stopped", "note")
    if run is None or not run.takes_back or fact.result is Result.UNKNOWN:
        return look(fact)
    good = fact.result is Result.FIXED
    text = result_text(run.cause, fact.result)
    return Look(f"{text[:1].upper()}{text[1:]}", "good" if good else "bad", "good" if good else "bad")


def look(fact: f.Fact) -> Look:
    """The mark of a fact."""
    match fact:
        case f.Gathered(observations=(), plan=Plan()):
            return Look("Plan", "note")
        case f.AttemptIntended():
            reads = fact.plan.effect is Effect.READ
            return Look("Step", "read") if reads else Look("Change", "change", "change")
        case f.AttemptEnded() if fact.outcome is not Outcome.OK:
            return Look("Problem", "bad", "warn")
        case f.StepEnded():
            return Look("Done", "good", "good") if fact.status is StepStatus.DONE else Look("Problem", "bad", "bad")
        case f.RunEnded():
            return result_look(fact.result)
        case f.ProblemFound(urgent=False):
            return Look("Note", "note")
    return _LOOKS.get(fact.kind, Look("Note", "note"))


def result_look(result: Result) -> Look:
    """The mark of a run's result."""
    if result in (Result.FIXED, Result.OBSERVED):
        return Look("Result", "good", "good")
    mild = result in (Result.CONTAINED, Result.CANCELLED)
    return Look("Result", "wait" if mild else "bad", "warn" if mild else "bad")


_LOOKS: Final[Mapping[str, Look]] = {
    "alert_fired": Look("Alert", "alert", "warn"),
    "alert_resolved": Look("Alert", "good"),
    "severity_rose": Look("Alert", "alert", "warn"),
    "relapsed": Look("Alert", "alert", "warn"),
    "problem_found": Look("Problem", "bad", "bad"),
    "run_started": Look("Run", "run"),
    "schedule_due": Look("Run", "run"),
    "gathered": Look("Check", "read"),
    "machine_gathered": Look("Check", "read"),
    "probed": Look("Check", "read"),
    "step_skipped": Look("Skipped", "note"),
    "step_failed": Look("Problem", "bad", "bad"),
    "waiting": Look("Waits", "wait", "warn"),
    "refused": Look("Refused", "bad", "bad"),
    "previewed": Look("Would do", "note"),
    "manual_asked": Look("Person", "person", "warn"),
    "manual_done": Look("Person", "person"),
    "level_reached": Look("Level", "level"),
    "urgent_told": Look("Level", "level"),
    "machine_announced": Look("Countdown", "wait", "warn"),
    "machine_fired": Look("Promise", "wait", "warn"),
    "acknowledged": Look("Person", "person"),
    "acknowledgement_expired": Look("Level", "level", "warn"),
    "taken_over": Look("Person", "person"),
    "settled": Look("Person", "person"),
    "unlocked": Look("Person", "person"),
    "calendar_overridden": Look("Person", "person"),
    "message_dead": Look("Problem", "bad", "bad"),
    "closed": Look("Closed", "good", "good"),
}
