"""How a replay is shown: to people as a story in 80 columns, to programs as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence, Set
from itertools import groupby
from typing import Any, Final

from responder import facts as f
from responder.cli.output import plain
from responder.cli.replayed import Answered, ComingDue, Replay, ended_well, ending, sources
from responder.recorded import Answer, Verdict
from responder.story import alert_text
from responder.tales import Line, Page, Tale
from responder.telling import has_line
from responder.timing import SECOND, format_time

WIDTH: Final = 80
LONGEST: Final = 2_000
"""Characters of one text; the rest of a long label or body is in the JSON."""
SHOWN: Final = frozenset({"opened", "gathered", "attempt_intended", "machine_gathered"})
"""Facts without a line in a thread that a replay tells all the same."""
NAMED: Final = 20
"""Alerts that are told one by one."""
LEFT_OUT: Final = frozenset({"evidence_gathered", "level_reached"})
"""Evidence is not read in a simulation; levels are told with their pages at the end."""


# --- for people -------------------------------------------------------------------------------------------------------


def as_text(replay: Replay) -> str:
    """The story, incident by incident."""
    lines = [*_head(replay)]
    for tale in replay.tales:
        lines += ["", *_heading(tale)]
        lines += [line for _, moment in _moments(tale, replay) for line in moment]
        lines += _pages(tale)
        lines += _wrapped(_end(tale), "", "  ")
    return "\n".join([*lines, *_foot(replay)])


def paced(replay: Replay) -> Iterator[tuple[int, str]]:
    """The same in the order of time, for telling it at its own pace: text, each at an offset in µs."""
    yield 0, "\n".join(_head(replay))
    moments = [(offset, tale, lines) for tale in replay.tales for offset, lines in _moments(tale, replay)]
    latest = 0
    for tale, following in groupby(sorted(moments, key=lambda moment: moment[0]), key=lambda moment: moment[1]):
        yield latest, "\n".join(["", *_heading(tale)])
        for offset, _, lines in following:
            latest = max(latest, offset)
            yield latest, "\n".join(lines)
    for tale in replay.tales:
        last = max([latest, *(page.offset for page in tale.pages)])
        yield last, "\n".join(["", *_heading(tale), *_pages(tale), *_wrapped(_end(tale), "", "  ")])
    yield latest, "\n".join(_foot(replay))


def _heading(tale: Tale) -> Iterator[str]:
    about = tale.incident.runbook or "no runbook"
    yield from _wrapped(f"Incident {tale.incident.id}: {about} on {tale.incident.target}", "", "  ")


def _head(replay: Replay) -> Iterator[str]:
    yield from _wrapped(f"Simulated, nothing is touched and nobody is told. {_said_by(replay)}", "", "")
    began = format_time(replay.start - replay.start % SECOND)
    yield from _wrapped(f"The time begins ({clock(0)}) at {began[:10]} {began[11:19]} UTC.", "", "")
    if replay.schedule is not None:
        yield from _wrapped(due_text(replay.schedule, replay.start), "", "  ")
    for name, begins in replay.moved.items():
        by = f"by {replay.file}" if begins.given else "assumed"
        yield from _wrapped(f"{name} begins at {begins.value:g} ({by}).", "", "  ")
    alerts = _distinct(replay.alerts)
    for one in alerts[:NAMED]:
        yield ""
        yield from _alert(one)
    if len(alerts) > NAMED:
        yield from ("", f"and {len(alerts) - NAMED} more alerts.")


def due_text(coming: ComingDue, start: int) -> str:
    """`The schedule of before-open comes due at 2026-11-23 03:15:00 UTC (+0:01): at 08:45, Asia/Kolkata.`"""
    due = format_time(coming.due)
    when = f"{due[:10]} {due[11:19]} UTC ({clock(coming.due - start)})"
    return f"The schedule of {coming.runbook} comes due at {when}: {coming.said}."


def _distinct(alerts: Sequence[Answered]) -> list[Answered]:
    """Each alert once, however often it was told; as firing when it ever fires."""
    firing = sorted(alerts, key=lambda one: not one.alert.firing)
    known = {one.alert.fingerprint: one for one in reversed(firing)}
    return [known.pop(one.alert.fingerprint) for one in alerts if one.alert.fingerprint in known]


def _said_by(replay: Replay) -> str:
    assumed = f'assumed "{replay.assumption}" ({replay.assumed})'
    if not replay.file:
        return f"What services answer is {assumed}."
    return f"{replay.file} says what services answer; where it says nothing, {assumed}."


def _foot(replay: Replay) -> Iterator[str]:
    yield ""
    for unheard in replay.unheard:
        yield from _wrapped(
            f"{unheard.said} at {clock(unheard.offset)} ({unheard.place}) was refused: {unheard.why}", "", "  "
        )
    if replay.unasked:
        yield from _wrapped(f"Never asked for: {'; '.join(_unasked(replay))}.", "", "  ")
    if not replay.quiet:
        yield "The time is over before it is quiet: a longer --for tells more."
    faults = replay.faults()
    if not faults:
        yield "Good: every alert has a runbook, and every incident ended well."
    for fault in faults:
        yield from _wrapped(f"Not good: {fault}.", "", "  ")


def _unasked(replay: Replay) -> Iterator[str]:
    for name, group in groupby(replay.unasked, key=lambda cue: cue.name):
        cues = list(group)
        numbers = ", ".join(str(cue.number) for cue in cues)
        places = ", ".join(dict.fromkeys(cue.place for cue in cues))
        yield f"{name}, answer{'' if len(cues) == 1 else 's'} {numbers} ({places})"


def _alert(one: Answered) -> Iterator[str]:
    yield from _wrapped(alert_text(one.alert.labels) + ("" if one.alert.firing else " is resolved"), "", "  ")
    because = f", because {', '.join(one.matchers)}" if one.matchers else ""
    yield from _field("runbook", f"{one.runbook or 'none'}{because}")
    yield from _field("target", one.target)
    inputs = [f"{n} = {v}" for n, v in one.inputs.items()]
    inputs += [f"{n} = {v} (for evidence)" for n, v in one.each.items()]
    if inputs:
        yield from _field("inputs", ", ".join(inputs))
    for problem in one.problems:
        yield from _field("problem", problem)


def _field(name: str, text: str) -> Iterator[str]:
    yield from _wrapped(text, f"  {name:<9}", " " * 11)


def _wrapped(text: str, first: str, rest: str) -> Iterator[str]:
    """Labels and answers come from anywhere: nothing of them reaches the terminal as a control sequence."""
    clean = plain(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")
    yield from textwrap.wrap(
        clean, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=True
    ) or [first]


def _moments(tale: Tale, replay: Replay) -> Iterator[tuple[int, list[str]]]:
    """Each event that is told, with its time and its lines. Who answered is said only where a file could have."""
    places = sources(tale, replay.heard) if replay.file else {}
    begun = [line.event.fact for line in tale.lines if isinstance(line.event.fact, f.RunStarted)]
    back = {fact.number for fact in begun if fact.restores is not None}
    for line in tale.lines:
        if _told(line):
            by = places.get(line.event.seq)
            text = f"{line.text} ({', '.join(by)})" if by else line.text
            yield (
                line.offset,
                [*_wrapped(text, f"{clock(line.offset):>9}  ", " " * 11), *_details(line.event.fact, back)],
            )


def _pages(tale: Tale) -> Iterator[str]:
    yield "Pages" if tale.pages else "Pages nobody."
    for (offset, why), pages in groupby(tale.pages, key=lambda page: (page.offset, page.why)):
        whom = ", ".join(page.destination for page in pages)
        yield from _wrapped(f"{whom}: {why}", f"{clock(offset):>9}  ", " " * 11)


def _told(line: Line) -> bool:
    kind = line.event.fact.kind
    return kind not in LEFT_OUT and (has_line(line.event.fact) or kind in SHOWN)


def _details(fact: f.Fact, back: Set[int]) -> Iterator[str]:
    """Parameters and gates. `back`: runs that put something back, whose parameters are those of the way there."""
    if isinstance(fact, f.AttemptIntended) and fact.run not in back:
        for name, value in fact.plan.params.items():
            if value not in (None, [], {}):
                shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                yield from _wrapped(f"{name}: {shown}", " " * 13, " " * 15)
    yield from _gates(getattr(fact, "verdicts", ()))


def _gates(verdicts: tuple[Verdict, ...]) -> Iterator[str]:
    """What simply allows in one breath; whatever holds back, refuses or warns on a line of its own."""
    plain = [v for v in verdicts if v.answer is Answer.ALLOW and not v.warn]
    if plain:
        yield from _wrapped(f"gates allow: {'; '.join(_reason(v) for v in plain)}", " " * 13, " " * 15)
    for verdict in verdicts:
        if verdict not in plain:
            does = "warns" if verdict.warn else _SAYS[verdict.answer]
            yield from _wrapped(f"gate {verdict.gate} {does}: {verdict.reason}", " " * 13, " " * 15)


def _reason(verdict: Verdict) -> str:
    """Its name and its reason, which often begins with the name."""
    return f"{verdict.gate} ({verdict.reason})"


_SAYS: Final = {Answer.ALLOW: "allows", Answer.WAIT: "waits", Answer.ASK: "asks", Answer.DENY: "refuses"}


def _end(tale: Tale) -> str:
    end = ending(tale)
    why = f": {end.why}" if end.stopped else f" ({end.why})" if end.why else ""
    back = f"; {end.back}" if end.back else ""
    return f"The end: {end.word}{why}{back}; {end.stands}."


def clock(offset: int) -> str:
    """`+0:30`, `+1:02:03` for µs."""
    seconds = offset // SECOND
    hours, minutes = divmod(seconds // 60, 60)
    return f"+{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"+{minutes}:{seconds % 60:02}"


# --- for programs -----------------------------------------------------------------------------------------------------


def as_json(replay: Replay) -> dict[str, Any]:
    """Offsets are seconds since `start`; `answered_by` of an event: places in the answers file, or "assumed"."""
    return {
        "simulated": True,
        "start": format_time(replay.start),
        "assume": replay.assumption.value,
        "answers": replay.file or None,
        "schedule": None if replay.schedule is None else _schedule_json(replay.schedule),
        "parameters": {n: {"value": b.value, "assumed": not b.given} for n, b in replay.moved.items()},
        "good": replay.good,
        "faults": replay.faults(),
        "quiet": replay.quiet,
        "alerts": [_alert_json(one) for one in replay.alerts],
        "incidents": [_tale_json(tale, replay) for tale in replay.tales],
        "unasked": [{"name": c.name, "answer": c.number, "at": c.place} for c in replay.unasked],
        "refused": [{"offset": u.offset / SECOND, "at": u.place, "said": u.said, "why": u.why} for u in replay.unheard],
    }


def _schedule_json(coming: ComingDue) -> dict[str, Any]:
    return {"runbook": coming.runbook, "said": coming.said, "due": format_time(coming.due)}


def _alert_json(one: Answered) -> dict[str, Any]:
    return {
        "alertname": one.alert.name,
        "fingerprint": one.alert.fingerprint,
        "labels": dict(one.alert.labels),
        "status": "firing" if one.alert.firing else "resolved",
        "runbook": one.runbook,
        "matchers": list(one.matchers),
        "target": one.target,
        "inputs": {**one.inputs, **one.each},
        "problems": list(one.problems),
    }


def _tale_json(tale: Tale, replay: Replay) -> dict[str, Any]:
    incident, places = tale.incident, sources(tale, replay.heard)
    return {
        "id": incident.id,
        "runbook": incident.runbook,
        "target": incident.target,
        "status": incident.status,
        "result": None if incident.result is None else incident.result.value,
        "good": ended_well(tale),
        "events": [_line_json(line, places.get(line.event.seq, ())) for line in tale.lines],
        "pages": [_page_json(page) for page in tale.pages],
    }


def _line_json(line: Line, by: tuple[str, ...]) -> dict[str, Any]:
    fact = line.event.fact
    shown = {"offset": line.offset / SECOND, "actor": line.event.actor, "kind": fact.kind, "text": line.text}
    verdicts = [v.model_dump(mode="json", include={"gate", "answer", "reason"}) for v in getattr(fact, "verdicts", ())]
    if isinstance(fact, f.AttemptIntended):
        shown |= {"step": fact.step, "action": fact.action, "parameters": fact.plan.params}
    if by:
        shown["answered_by"] = list(by)
    return {**shown, "verdicts": verdicts} if verdicts else shown


def _page_json(page: Page) -> dict[str, Any]:
    return {"offset": page.offset / SECOND, "destination": page.destination, "why": page.why, "text": page.text}
