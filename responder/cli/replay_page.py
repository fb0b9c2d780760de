"""A replay as one HTML file: what was assumed, who answers, and each incident along its time.

The file loads nothing and runs no script, so it can be attached to a pull request and opened anywhere. Labels are
hostile: every value is escaped by the templates (templates/web). Not here: the strip (`replay_strip`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from responder import facts as f
from responder.cli import replay_rows, replay_strip
from responder.cli.output import count
from responder.cli.replayed import Answered, Replay, ended_well, ending, sources
from responder.cli.retelling import due_text
from responder.decisions import clock
from responder.incident import Incident
from responder.messages import MessageTemplates
from responder.notifiers import shipped_templates, template_sources
from responder.recorded import Result
from responder.story import alert_text
from responder.tales import Tale
from responder.timing import SECOND, format_time, humanize

LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a page; a replay that needs more is one that nobody reads."""
NAMED: Final = 5
"""Alerts and faults that are shown before the rest are folded."""


def page(replay: Replay) -> str:
    """The file, to be written as UTF-8. Raises TemplateError when it would have more than `LARGEST` bytes."""
    templates = MessageTemplates([template_sources(shipped_templates())])
    return templates.render("web/replay.html.j2", _values(replay), LARGEST)


def _values(replay: Replay) -> dict[str, object]:
    scale = replay_strip.scale_of(replay.tales)
    incidents = [_incident(number, tale, replay) for number, tale in enumerate(replay.tales, 1)]
    return {
        "title": _title(replay),
        "verdict": _verdict(replay),
        "assumed": _assumed(replay),
        "counts": _counts(replay, scale.span),
        "incidents": incidents,
        "index": {"rows": [_row(one, tale, scale) for one, tale in zip(incidents, replay.tales, strict=True)],
                  "times": [time for time in scale.times() if not time.minor], "bent": scale.bent},
        "without": [_alert(alert) for alert in _without(replay)],
        "unheard": [{"at": clock(u.offset), "said": u.said, "place": u.place, "why": u.why} for u in replay.unheard],
        "unasked": [f"{cue.name}, answer {cue.number} ({cue.place})" for cue in replay.unasked],
        "quiet": replay.quiet,
        "nothing": replay.nothing,
    }  # fmt: skip


# --- the whole --------------------------------------------------------------------------------------------------------


def _title(replay: Replay) -> str:
    nothing = "nothing that fires" if replay.schedule is None else f"the schedule of {replay.schedule.runbook}"
    names = list(dict.fromkeys(one.alert.name for one in replay.alerts)) or [nothing]
    return f"Replay of {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"


def _verdict(replay: Replay) -> dict[str, object]:
    faults = list(replay.faults())
    said = "Good: every alert has a runbook, and every incident ends well." if not faults else "Not good"
    return {"good": not faults, "said": said, "faults": faults[:NAMED], "more": faults[NAMED:]}


def _assumed(replay: Replay) -> dict[str, object]:
    begins = [
        {"name": name, "value": known.value, "by": replay.file if known.given else "assumed"}
        for name, known in replay.moved.items()
    ]
    began = format_time(replay.start - replay.start % SECOND)
    assumption = {"name": replay.assumption.value, "said": replay.assumed}
    due = "" if replay.schedule is None else due_text(replay.schedule, replay.start)
    return {
        **assumption,
        "file": replay.file,
        "start": f"{began[:10]} {began[11:19]} UTC",
        "begins": begins,
        "due": due,
    }


def _counts(replay: Replay, span: int) -> list[tuple[str, str]]:
    """The replay in four numbers: (number, what)."""
    fingerprints = {one.alert.fingerprint for one in replay.alerts}
    counted = [
        (len(fingerprints), "alert"),
        (len(replay.tales), "incident"),
        (sum(replay_rows.changes(tale) for tale in replay.tales), "change"),
        (sum(len(tale.pages) for tale in replay.tales), "page"),
    ]
    return [(str(n), count(n, word).split(" ", 1)[1]) for n, word in counted] + [(humanize(span), "until the end")]


def _without(replay: Replay) -> list[Answered]:
    """Alerts that led to no incident, each once."""
    told = {known for tale in replay.tales for known in _fingerprints(tale)}
    return list({a.alert.fingerprint: a for a in replay.alerts if a.alert.fingerprint not in told}.values())


# --- one incident -----------------------------------------------------------------------------------------------------


def _incident(number: int, tale: Tale, replay: Replay) -> dict[str, Any]:
    incident = tale.incident
    alerts = list(
        {a.alert.fingerprint: a for a in replay.alerts if a.alert.fingerprint in _fingerprints(tale)}.values()
    )
    places = sources(tale, replay.heard) if replay.file else {}
    return {
        "number": number,
        "id": incident.id,
        "title": incident.title,
        "impact": incident.impact,
        "severity": incident.severity,
        "runbook": incident.runbook,
        "target": incident.target,
        "alerts": [_alert(one) for one in alerts[:NAMED]],
        "more": [_alert(one) for one in alerts[NAMED:]],
        "answers": [_answer(list(alike)) for _, alike in groupby(alerts, key=lambda a: (a.runbook, a.matchers))],
        "result": _result(tale),
        "changes": replay_rows.changes(tale),
        "pages": [(clock(p.offset), p.destination) for p in tale.pages],
        "strip": replay_strip.strip_of(tale, replay_strip.scale_of([tale])),
        "rows": replay_rows.rows(tale, places),
    }


def _fingerprints(tale: Tale) -> frozenset[str]:
    facts = (line.event.fact for line in tale.lines)
    return frozenset(fact.fingerprint for fact in facts if isinstance(fact, f.AlertFired))


def _alert(one: Answered) -> dict[str, object]:
    inputs: Mapping[str, str] = {**one.inputs, **one.each}
    return {
        "text": alert_text(one.alert.labels),
        "firing": one.alert.firing,
        "labels": sorted(one.alert.labels.items()),
        "inputs": list(inputs.items()),
        "problems": one.problems,
    }


def _answer(alike: Sequence[Answered]) -> dict[str, object]:
    """Which runbook answers alerts that are answered alike, and why."""
    problems = list(dict.fromkeys(problem for one in alike for problem in one.problems))
    return {"runbook": alike[0].runbook, "matchers": alike[0].matchers, "count": len(alike), "problems": problems}


def _result(tale: Tale) -> dict[str, object]:
    """The end in a few words, its tone, why, and how the incident stands then."""
    incident, well, end = tale.incident, ended_well(tale), ending(tale)
    why = "; ".join([*([end.why] if end.why else []), *incident.problems])
    stands = f"{end.back}; {end.stands}" if end.back else end.stands
    if end.stopped and not incident.unsettled:
        return {"word": end.word, "tone": "note", "why": why, "stands": stands}
    tone = "good" if well else "warn" if incident.result is Result.CONTAINED else "bad"
    return {"word": _word(incident, well), "tone": tone, "why": why, "stands": stands}


def _word(incident: Incident, well: bool) -> str:
    if incident.unsettled:
        return Result.UNKNOWN.value
    if incident.active_run is not None:
        return "not over"
    if incident.result is None:
        return "no result"
    trouble = not well and incident.result in (Result.FIXED, Result.OBSERVED)
    return f"{incident.result.value}, yet people needed" if trouble else incident.result.value


def _row(incident: Mapping[str, Any], tale: Tale, scale: replay_strip.Scale) -> dict[str, object]:
    """One line of the index."""
    names = ("number", "title", "runbook", "target", "result", "changes")
    return {
        **{name: incident[name] for name in names},
        "alerts": list(_counted(tale)),
        "pages": len(tale.pages),
        "lasts": humanize(replay_strip.end_of(tale)),
        "lane": replay_strip.summary_of(tale, scale),
    }


def _counted(tale: Tale) -> Iterator[str]:
    """The names of its alerts, with how many there are of each."""
    facts = (line.event.fact for line in tale.lines)
    names = {a.fingerprint: a.labels.get("alertname", "unnamed") for a in facts if isinstance(a, f.AlertFired)}
    for name, alike in groupby(sorted(names.values())):
        number = len(list(alike))
        yield name if number == 1 else f"{number} × {name}"
