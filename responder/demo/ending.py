"""Whether the demo ended as its scenario promises, point by point, and the summary that a person reads.

Judged by the platform's ledger and the incident's record, not by trust: a run that says "fixed" while the platform was
changed twice is a failure here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from responder.demo.imagined import ON_CALL, RISK_MANAGER, Wished
from responder.demo.observer import REDIS_ALERT_US, Seen
from responder.demo.scenario import READS_REDIS, STRESS, Scenario

REDUCE = "/api/risk/emergency-reduce"
HALT = "/api/stop-trading"
PAUSE = "/api/router/pause"
RESET = "/api/circuit-breaker/reset"
REDUCED_TO = 0.1
SECOND_LEVEL = "quant"
"""Whom the second level of the edge-risk ladder pages."""
RELOAD_VAR_PCT = 1.5
"""Above it nothing is reloaded."""
UNFIXED_PAGES = ("pm", SECOND_LEVEL, "cro")
RUNBOOKS = {
    Scenario.MODEL_SWITCHING: "model-switching",
    Scenario.REDIS_LATENCY: "redis-latency",
    Scenario.BREAKER_RESET: "circuit-breaker",
}
"""Whose incident the story is about, where there may be others."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that had to be so, and whether it was; `seen` says what was there instead of it."""

    wanted: str
    good: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a story ended: every finding, then what changed for people (`lines`) and for programs (`document`)."""

    findings: tuple[Finding, ...]
    lines: tuple[str, ...]
    document: Mapping[str, object]

    @property
    def good(self) -> bool:
        """As it should."""
        return all(finding.good for finding in self.findings)

    def told(self) -> Iterator[str]:
        """For people, line by line."""
        yield from self.lines
        for finding in self.findings:
            yield f"✔ {finding.wanted}" if finding.good else f"✘ {finding.wanted}: {finding.seen}"

    def as_json(self, scenario: Scenario) -> dict[str, object]:
        """For programs."""
        judged = [{"wanted": f.wanted, "good": f.good, "seen": None if f.good else f.seen} for f in self.findings]
        return {"scenario": scenario.value, "good": self.good, "findings": judged, **self.document}


@dataclass(frozen=True, slots=True)
class Course:
    """What was seen: before the break, at the worst, at the end; `broke_at` in microseconds since the epoch.

    `wished`: the runs that people asked for by hand, in their order. `redis`: a real one was there to be read.
    """

    scenario: Scenario
    before: Seen
    worst_pct: float
    last: Seen
    broke_at: int
    wished: tuple[Wished, ...] = ()
    redis: bool = False

    @property
    def incident(self) -> Mapping[str, Any]:
        """The one that the story is about; empty without one."""
        runbook = RUNBOOKS.get(self.scenario)
        return (self.last.incident if runbook is None else self.last.incident_of(runbook)) or {}


def findings(course: Course) -> tuple[Finding, ...]:
    """Everything that the scenario promises."""
    return tuple(_PROMISED[course.scenario](course))


def _one_incident(course: Course) -> Iterator[Finding]:
    count = len(course.last.incidents)
    yield Finding("all alerts became one incident", count == 1, f"{count} incidents")
    yield from _closed(course)


def _closed(course: Course) -> Iterator[Finding]:
    open_ones = [one for one in course.last.incidents if one["status"] != "closed"]
    seen = str(open_ones[0]["status"]) if open_ones else "never opened"
    said = "the incident is closed" if len(course.last.incidents) < 2 else "the incidents are closed"
    yield Finding(said, bool(course.last.incidents) and not open_ones, seen)


def _fixed(course: Course) -> Iterator[Finding]:
    last = course.last
    yield from _one_incident(course)
    yield _calls(last, "one change reached the platform, and only one", (REDUCE,))
    yield _result(course, "fixed")
    yield Finding("the Kelly fraction is 0.10", last.kelly_fraction == REDUCED_TO, f"{last.kelly_fraction:.2f}")
    yield Finding("VaR is below its alert", last.var_pct < last.alert_pct, f"{last.var_pct:.2f} %")


def _unfixed(course: Course) -> Iterator[Finding]:
    last = course.last
    yield from _one_incident(course)
    yield _calls(last, "one cut and one halt reached the platform, each once", (REDUCE, HALT))
    yield _result(course, "contained")
    yield Finding("trading is halted", not last.trading, "trading runs")
    kinds = [event["kind"] for event in events_of(course.incident)]
    told = "machine_announced" in kinds and kinds.index("machine_announced") < _first_halt(course)
    yield Finding("the halt was announced before it came", told, "it was not announced")
    people = paged(last)
    missing = [person for person in UNFIXED_PAGES if person not in people]
    wanted = f"{', '.join(UNFIXED_PAGES)} were paged ({SECOND_LEVEL} is the second level)"
    yield Finding(wanted, not missing, f"{', '.join(missing)} not paged")


def _switching(course: Course) -> Iterator[Finding]:
    yield from _one_incident(course)
    yield _calls(course.last, "one change reached the platform, and only one", (PAUSE,))
    yield _result(course, "fixed")
    yield Finding("the router is paused until a person resumes it", not course.last.routing, "it runs")
    yield from _evidence(course, "the last switches were shown by models", "lstm, tcn")


def _redis(course: Course) -> Iterator[Finding]:
    yield from _one_incident(course)
    yield _calls(course.last, "nothing was changed by a machine", ())
    yield _result(course, "fixed")
    done = [event["actor"] for event in events_of(course.incident) if event["kind"] == "manual_done"]
    yield Finding(f"{ON_CALL} restarted it", done == [ON_CALL], ", ".join(done) or "nobody did")
    below = course.last.redis_p99_us < REDIS_ALERT_US
    yield Finding("Redis answers quickly again", below, f"{course.last.redis_p99_us:.0f} µs")
    if course.redis:
        told = [event["text"] for event in events_of(course.incident) if event["kind"] == "manual_asked"]
        yield Finding("the cause was named: slow commands", any("commands" in text for text in told), "it was not")
        yield from _evidence(course, "the slow log was shown", "EVAL")


def _refused(course: Course) -> Iterator[Finding]:
    yield _calls(course.last, "nothing reached the platform", ())
    yield Finding("no run was begun", not course.last.incidents, f"{len(course.last.incidents)} incidents")
    high = [one for one in course.wished if one.var_pct > RELOAD_VAR_PCT]
    refused = bool(high) and all(not one.goes_ahead and one.status in (None, 409) for one in high)
    yield Finding(f"refused while VaR was above {RELOAD_VAR_PCT} %", refused, f"{len(high)} asked for, one let through")
    numbers = any(f"<= {RELOAD_VAR_PCT} is false" in reason for one in high for reason in one.refused)
    yield Finding("the refusal said its numbers", numbers, "it did not")
    calm = [one for one in course.wished if one.var_pct <= RELOAD_VAR_PCT]
    yield Finding("it would go ahead in a calm market", any(one.goes_ahead for one in calm), "it would not")


def _reset(course: Course) -> Iterator[Finding]:
    count = len(course.last.incidents)
    yield Finding("VaR and the breaker became two incidents", count == 2, f"{count} incidents")
    yield from _closed(course)
    yield _calls(course.last, "the cut came first, then the reset, each once", (REDUCE, RESET))
    yield _result(course, "fixed")
    yield Finding("the breaker is HALF_OPEN", course.last.breaker == "HALF_OPEN", course.last.breaker)
    said = [event["actor"] for event in events_of(course.incident) if event["kind"] == "approved"]
    yield Finding(f"{RISK_MANAGER} approved the reset", said == [RISK_MANAGER], ", ".join(said) or "nobody did")
    cause = course.last.incident_of("var-breach") or {}
    opened = next((e["at"] for e in events_of(course.incident) if e["kind"] == "approval_asked"), None)
    after = opened is not None and cause.get("closed_at") is not None and cause["closed_at"] <= opened
    yield Finding("it was asked for only after the cause was fixed", after, "it was asked for before")


def _evidence(course: Course, wanted: str, part: str) -> Iterator[Finding]:
    """Of Redis, where there was one to be read."""
    if course.redis:
        told = [event["text"] for event in events_of(course.incident) if event["kind"] == "evidence_gathered"]
        yield Finding(wanted, any(part in text for text in told), "; ".join(told)[:80] or "there was none")


_PROMISED: Mapping[Scenario, Callable[[Course], Iterator[Finding]]] = {
    Scenario.VAR_BREACH: _fixed,
    Scenario.VAR_BREACH_UNFIXED: _unfixed,
    Scenario.MODEL_SWITCHING: _switching,
    Scenario.REDIS_LATENCY: _redis,
    Scenario.HOT_RELOAD_REFUSED: _refused,
    Scenario.BREAKER_RESET: _reset,
}


def _calls(last: Seen, wanted: str, paths: tuple[str, ...]) -> Finding:
    received = tuple(call.path for call in last.calls)
    good = received == paths and all(call.status == 200 for call in last.calls)
    return Finding(wanted, good, f"received {', '.join(received) or 'nothing'}")


def _result(course: Course, wanted: str) -> Finding:
    result = str(course.incident.get("result"))
    return Finding(f"its result is {wanted}", result == wanted, result)


def events_of(incident: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Its journal."""
    events: Sequence[Mapping[str, Any]] = incident.get("events", ())
    return events


def _first_halt(course: Course) -> int:
    """The place in the journal where the runbook halt-trading began."""
    started = [
        place
        for place, event in enumerate(events_of(course.incident))
        if event["kind"] == "run_started" and event["fact"]["runbook"] == "halt-trading"
    ]
    return started[0] if started else 0


def paged(last: Seen) -> tuple[str, ...]:
    """Whose pager took a page, in the order of it."""
    return paged_in(last.incidents)


def paged_in(incidents: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Whose pager took a page, in the order of it."""
    events = sorted((event for one in incidents for event in events_of(one)), key=lambda event: str(event.get("at")))
    return tuple(dict.fromkeys(e["fact"]["destination"] for e in events if e["kind"] == "page_accepted"))


def times(incident: Mapping[str, Any], broke_at: int) -> dict[str, float | None]:
    """When what happened, in seconds since `broke_at` (µs since the epoch); None for what did not happen."""
    attempts = [a for run in incident.get("runs", ()) for step in run["steps"] for a in step["attempts"]]
    acted = next((attempt["ended_at"] for attempt in attempts if attempt["outcome"] == "ok"), None)
    verified = next((run["ended_at"] for run in incident.get("runs", ()) if run["result"] == incident["result"]), None)
    moments = {
        "fired": incident.get("opened_at"),
        "acted": acted,
        "verified": verified,
        "closed": incident.get("closed_at"),
    }
    return {name: _after(broke_at, moment) for name, moment in moments.items()}


def _after(start: int, moment: str | None) -> float | None:
    if moment is None:
        return None
    return round(datetime.fromisoformat(moment).timestamp() - start / 1_000_000, 2)


def ended(course: Course, monitoring: str, folder: str | None) -> Ending:
    """The ending for people and for programs; `folder` when it was kept."""
    incident, last = course.incident, course.last
    document = {
        "monitoring": monitoring,
        "kelly_fraction": {"before": course.before.kelly_fraction, "after": course.last.kelly_fraction},
        "var_pct": {"worst": round(course.worst_pct, 4), "after": round(course.last.var_pct, 4)},
        "router": "running" if last.routing else "paused",
        "circuit_breaker": last.breaker,
        "redis_p99_us": {"after": last.redis_p99_us, "read": course.redis},
        "wished": [asdict(one) for one in course.wished],
        "seconds": times(incident, course.broke_at),
        "changes": [{"path": call.path, "status": call.status, "body": call.body} for call in course.last.calls],
        "paged": list(paged(course.last)),
        "incident": {name: incident.get(name) for name in ("id", "status", "result")},
        "folder": folder,
    }
    return Ending(findings(course), tuple(_lines(course)), document)


def _lines(course: Course) -> Iterator[str]:
    last, moments = course.last, times(course.incident, course.broke_at)
    yield from _moved(course)
    shown = " → ".join(f"{name} {at:.1f} s" for name, at in moments.items() if at is not None)
    if last.incidents:
        yield f"after the break {shown or 'nothing happened'}"
    yield f"paged           {', '.join(paged(last)) or 'nobody'}"


def _moved(course: Course) -> Iterator[str]:
    """What of the platform is another than before; VaR and what it hangs on where the story is about them."""
    before, last = course.before, course.last
    if course.scenario not in READS_REDIS:
        yield f"Kelly fraction  {before.kelly_fraction:.2f} → {last.kelly_fraction:.2f}"
        yield f"VaR             {course.worst_pct:.2f} % → {last.var_pct:.2f} %   (alert at {last.alert_pct:.2f} %)"
    if before.routing != last.routing:
        yield "model router    running → paused"
    if course.scenario is Scenario.REDIS_LATENCY:
        yield f"Redis, p99      {STRESS[course.scenario].redis_p99_us:.0f} µs → {last.redis_p99_us:.0f} µs"
    if before.breaker != last.breaker:
        yield f"circuit breaker {before.breaker} → OPEN → {last.breaker}"
