"""Whether the demo ended as its scenario promises, point by point, and the summary that a person reads.

Judged by the platform's ledger and the incident's record, not by trust: a run that says "fixed" while the platform was
changed twice is a failure here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from responder.demo.observer import Seen
from responder.demo.scenario import Scenario

REDUCE = "/api/risk/emergency-reduce"
HALT = "/api/stop-trading"
REDUCED_TO = 0.1
SECOND_LEVEL = "quant"
"""Whom the second level of the edge-risk ladder pages."""
UNFIXED_PAGES = ("pm", SECOND_LEVEL, "cro")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that had to be so, and whether it was; `seen` says what was there instead of it."""

    wanted: str
    good: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Course:
    """What was seen: before the break, at the worst, at the end; `broke_at` in microseconds since the epoch."""

    scenario: Scenario
    before: Seen
    worst_pct: float
    last: Seen
    broke_at: int


def findings(course: Course) -> tuple[Finding, ...]:
    """Everything that the scenario promises."""
    promised = _unfixed if course.scenario is Scenario.VAR_BREACH_UNFIXED else _fixed
    return (*_everywhere(course.last), *promised(course.last))


def _everywhere(last: Seen) -> Iterator[Finding]:
    count = len(last.incidents)
    yield Finding("all alerts became one incident", count == 1, f"{count} incidents")
    incident = last.incident or {}
    status = str(incident.get("status", "never opened"))
    yield Finding("the incident is closed", status == "closed", status)


def _fixed(last: Seen) -> Iterator[Finding]:
    yield _calls(last, "one change reached the platform, and only one", (REDUCE,))
    yield _result(last, "fixed")
    yield Finding("the Kelly fraction is 0.10", last.kelly_fraction == REDUCED_TO, f"{last.kelly_fraction:.2f}")
    yield Finding("VaR is below its alert", last.var_pct < last.alert_pct, f"{last.var_pct:.2f} %")


def _unfixed(last: Seen) -> Iterator[Finding]:
    yield _calls(last, "one cut and one halt reached the platform, each once", (REDUCE, HALT))
    yield _result(last, "contained")
    yield Finding("trading is halted", not last.trading, "trading runs")
    kinds = [event["kind"] for event in _events(last)]
    told = "machine_announced" in kinds and kinds.index("machine_announced") < _first_halt(last)
    yield Finding("the halt was announced before it came", told, "it was not announced")
    people = paged(last)
    missing = [person for person in UNFIXED_PAGES if person not in people]
    wanted = f"{', '.join(UNFIXED_PAGES)} were paged ({SECOND_LEVEL} is the second level)"
    yield Finding(wanted, not missing, f"{', '.join(missing)} not paged")


def _calls(last: Seen, wanted: str, paths: tuple[str, ...]) -> Finding:
    received = tuple(call.path for call in last.calls)
    good = received == paths and all(call.status == 200 for call in last.calls)
    return Finding(wanted, good, f"received {', '.join(received) or 'nothing'}")


def _result(last: Seen, wanted: str) -> Finding:
    result = str((last.incident or {}).get("result"))
    return Finding(f"its result is {wanted}", result == wanted, result)


def _events(last: Seen) -> Sequence[Mapping[str, Any]]:
    events: Sequence[Mapping[str, Any]] = (last.incident or {}).get("events", ())
    return events


def _first_halt(last: Seen) -> int:
    """The place in the journal where the runbook halt-trading began."""
    started = [
        place
        for place, event in enumerate(_events(last))
        if event["kind"] == "run_started" and event["fact"]["runbook"] == "halt-trading"
    ]
    return started[0] if started else 0


def paged(last: Seen) -> tuple[str, ...]:
    """Whose pager took a page, in the order of it."""
    accepted = [event["fact"]["destination"] for event in _events(last) if event["kind"] == "page_accepted"]
    return tuple(dict.fromkeys(accepted))


def seconds(course: Course) -> dict[str, float | None]:
    """When what happened, in seconds since the market broke; None for what did not happen."""
    incident = course.last.incident or {}
    attempts = [a for run in incident.get("runs", ()) for step in run["steps"] for a in step["attempts"]]
    acted = next((attempt["ended_at"] for attempt in attempts if attempt["outcome"] == "ok"), None)
    verified = next((run["ended_at"] for run in incident.get("runs", ()) if run["result"] == incident["result"]), None)
    moments = {
        "fired": incident.get("opened_at"),
        "acted": acted,
        "verified": verified,
        "closed": incident.get("closed_at"),
    }
    return {name: _after(course.broke_at, moment) for name, moment in moments.items()}


def _after(start: int, moment: str | None) -> float | None:
    if moment is None:
        return None
    return round(datetime.fromisoformat(moment).timestamp() - start / 1_000_000, 2)


def as_json(course: Course, monitoring: str, folder: str | None) -> dict[str, object]:
    """The ending for programs; `folder` when it was kept."""
    judged, incident = findings(course), course.last.incident or {}
    return {
        "scenario": course.scenario.value,
        "good": all(finding.good for finding in judged),
        "monitoring": monitoring,
        "findings": [{"wanted": f.wanted, "good": f.good, "seen": None if f.good else f.seen} for f in judged],
        "kelly_fraction": {"before": course.before.kelly_fraction, "after": course.last.kelly_fraction},
        "var_pct": {"worst": round(course.worst_pct, 4), "after": round(course.last.var_pct, 4)},
        "seconds": seconds(course),
        "changes": [{"path": call.path, "status": call.status, "body": call.body} for call in course.last.calls],
        "paged": list(paged(course.last)),
        "incident": {name: incident.get(name) for name in ("id", "status", "result")},
        "folder": folder,
    }


def summary(course: Course) -> Iterator[str]:
    """The ending for people, line by line."""
    last, times = course.last, seconds(course)
    yield f"Kelly fraction  {course.before.kelly_fraction:.2f} → {last.kelly_fraction:.2f}"
    yield f"VaR             {course.worst_pct:.2f} % → {last.var_pct:.2f} %   (alert at {last.alert_pct:.2f} %)"
    shown = " → ".join(f"{name} {at:.1f} s" for name, at in times.items() if at is not None)
    yield f"after the break {shown or 'nothing happened'}"
    yield f"paged           {', '.join(paged(last)) or 'nobody'}"
    for finding in findings(course):
        yield f"✔ {finding.wanted}" if finding.good else f"✘ {finding.wanted}: {finding.seen}"
