"""How a replay is shown: to people as a story in 80 columns, to programs as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from responder import facts as f
from responder.alert import Alert
from responder.assumptions import Assumption
from responder.recorded import Result, Verdict
from responder.runbook import Rules, target_inputs
from responder.story import alert_text
from responder.tales import Line, Page, Tale
from responder.telling import has_line
from responder.timing import SECOND

WIDTH: Final = 80
SHOWN: Final = frozenset({"opened", "gathered", "attempt_intended", "machine_gathered"})
"""Facts without a line in a thread that a replay tells all the same."""
LEFT_OUT: Final = frozenset({"evidence_gathered", "level_reached"})
"""Evidence is not read in a simulation; levels are told with their pages at the end."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the rules say about one alert."""

    alert: Alert
    runbook: str | None
    matchers: tuple[str, ...]
    target: str
    inputs: Mapping[str, str]
    each: Mapping[str, str]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """All that a replay brought."""

    assumption: Assumption
    alerts: tuple[Answered, ...]
    tales: tuple[Tale, ...]
    quiet: bool

    @property
    def good(self) -> bool:
        """Every alert has a runbook, and every incident ended well. When nothing happened, nothing was shown."""
        known = all(a.runbook is not None and not a.problems for a in self.alerts if a.alert.firing)
        return bool(self.tales) and known and all(ended_well(tale) for tale in self.tales)


def ended_well(tale: Tale) -> bool:
    """Fixed, only observed, or stopped because there was nothing (more) to do; never what people must settle."""
    incident = tale.incident
    if incident.problems or incident.unsettled or incident.active_run is not None:
        return False
    if incident.result is Result.CANCELLED:
        return incident.urgent is None
    return incident.result in (Result.FIXED, Result.OBSERVED)


def answered(alert: Alert, rules: Rules) -> Answered:
    """Which runbook answers an alert, and why."""
    route = rules.route(alert.labels)
    runbook = route.runbook
    problems = ((route.problem,) if route.problem else ()) + route.each_problems
    return Answered(
        alert=alert,
        runbook=None if runbook is None else runbook.runbook,
        matchers=() if runbook is None else tuple(str(m) for m in runbook.matchers),
        target=route.target,
        inputs=dict(route.inputs),
        each={} if runbook is None else {n: v for n, v in route.each.items() if n not in target_inputs(runbook)},
        problems=problems,
    )


# --- for people -------------------------------------------------------------------------------------------------------


def as_text(replay: Replay) -> str:
    """The story."""
    assumed = f'assumed "{replay.assumption}" ({replay.assumption.said})'
    lines = list(_wrapped(f"Simulated, nothing is touched and nobody is told; {assumed}.", "", ""))
    for one in replay.alerts:
        lines += ["", *_alert(one)]
    for tale in replay.tales:
        lines += ["", *_tale(tale)]
    if not replay.tales:
        lines += ["", "Nothing happens: no alert fires in it."]
    if not replay.quiet:
        lines += ["", "The time is over before it is quiet: a longer --for tells more."]
    return "\n".join(lines)


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
    yield from textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=True
    ) or [first]


def _tale(tale: Tale) -> Iterator[str]:
    yield f"Incident {tale.incident.id}"
    for line in tale.lines:
        if _told(line):
            yield from _wrapped(line.text, f"  {clock(line.offset):>7}  ", " " * 11)
            yield from _details(line)
    yield "Pages" if tale.pages else "Pages nobody."
    for page in tale.pages:
        yield from _wrapped(f"{page.destination}: {page.why}", f"  {clock(page.offset):>7}  ", " " * 11)
    yield from _wrapped(_end(tale), "", "  ")


def _told(line: Line) -> bool:
    kind = line.event.fact.kind
    return kind not in LEFT_OUT and (has_line(line.event.fact) or kind in SHOWN)


def _details(line: Line) -> Iterator[str]:
    fact = line.event.fact
    if isinstance(fact, f.AttemptIntended):
        for name, value in fact.plan.params.items():
            if value not in (None, [], {}):
                shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                yield from _wrapped(f"{name}: {shown}", " " * 13, " " * 15)
    for verdict in getattr(fact, "verdicts", ()):
        yield from _wrapped(_verdict(verdict), " " * 13, " " * 15)


def _verdict(verdict: Verdict) -> str:
    return f"gate {verdict.gate} {'warns' if verdict.warn else _SAYS[verdict.answer.value]}: {verdict.reason}"


_SAYS: Final = {"allow": "allows", "wait": "waits", "ask": "asks", "deny": "refuses"}


def _end(tale: Tale) -> str:
    incident = tale.incident
    result = "no result" if incident.result is None else incident.result.value
    why = "" if incident.run is None or not incident.run.why else f" ({incident.run.why})"
    state = f"closed: {incident.closed_why}" if incident.closed else f"still {incident.status}"
    return f"The end: {result}{why}; {state}."


def clock(offset: int) -> str:
    """`+0:30`, `+1:02:03` for µs."""
    seconds = offset // SECOND
    hours, minutes = divmod(seconds // 60, 60)
    return f"+{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"+{minutes}:{seconds % 60:02}"


# --- for programs -----------------------------------------------------------------------------------------------------


def as_json(replay: Replay) -> dict[str, Any]:
    """Offsets are seconds since the beginning."""
    return {
        "simulated": True,
        "assume": replay.assumption.value,
        "good": replay.good,
        "quiet": replay.quiet,
        "alerts": [_alert_json(one) for one in replay.alerts],
        "incidents": [_tale_json(tale) for tale in replay.tales],
    }


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


def _tale_json(tale: Tale) -> dict[str, Any]:
    incident = tale.incident
    return {
        "id": incident.id,
        "runbook": incident.runbook,
        "target": incident.target,
        "status": incident.status,
        "result": None if incident.result is None else incident.result.value,
        "good": ended_well(tale),
        "events": [_line_json(line) for line in tale.lines],
        "pages": [_page_json(page) for page in tale.pages],
    }


def _line_json(line: Line) -> dict[str, Any]:
    fact = line.event.fact
    shown = {"offset": line.offset / SECOND, "actor": line.event.actor, "kind": fact.kind, "text": line.text}
    verdicts = [v.model_dump(mode="json", include={"gate", "answer", "reason"}) for v in getattr(fact, "verdicts", ())]
    if isinstance(fact, f.AttemptIntended):
        shown |= {"step": fact.step, "action": fact.action, "parameters": fact.plan.params}
    return {**shown, "verdicts": verdicts} if verdicts else shown


def _page_json(page: Page) -> dict[str, Any]:
    return {"offset": page.offset / SECOND, "destination": page.destination, "why": page.why, "text": page.text}
