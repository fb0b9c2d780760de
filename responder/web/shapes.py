"""Incidents, runs, events and scopes as the JSON of the API: times RFC 3339 in UTC, durations in seconds (design 8).

What other programs rely on is written out field by field; a fact is shown as it was recorded. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Final, cast

from pydantic import BaseModel

from responder.commands import pending_approval
from responder.contracts import Render
from responder.facts import Event
from responder.incident import Attempt, Due, Episode, Incident, Run, StepState
from responder.recorded import StepStatus
from responder.story import describe, reasons, state_values
from responder.timing import SECOND, format_time
from responder.words import Person

_ASKED: Final = ("asked_at", "observed_at", "prepared_at", "retry_at", "deadline", "until")
TIMES: Final = frozenset({*_ASKED, "at", "due", "ended", "since", "starts_at", "ends_at"})
"""Fields of facts and scopes that are points in time (µs); those of `DURATIONS` are spans (µs)."""
DURATIONS: Final = frozenset({"late", "lasted", "remind"})


def moment(us: int | None) -> str | None:
    """A point in time."""
    return None if us is None else format_time(us)


def seconds(us: int | None) -> float | None:
    """A span."""
    return None if us is None else us / SECOND


def shown(value: Any, name: str = "") -> Any:
    """A recorded value with its times and durations made readable; what services answered stays as it came."""
    if isinstance(value, BaseModel):
        return {field: shown(getattr(value, field), field) for field in type(value).model_fields}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [shown(item) for item in value]
    if type(value) is int and name in TIMES:
        return moment(value)
    if type(value) is int and name in DURATIONS:
        return seconds(value)
    return value


def overrides(incidents: Iterable[Incident], now: int) -> Iterator[dict[str, Any]]:
    """Who lets which incident act outside its hours, as long as it may. `finishing`: the time is over, and the run that
    began in it is finished under it (docs/adr/0026)."""
    for incident in incidents:
        override, run = incident.override, incident.active_run
        if override is None:
            continue
        over = now >= override.until
        if not over or (run is not None and run.number == override.run):
            yield {**shown(override), "incident": incident.id, "target": incident.target, "finishing": over}


def summary(incident: Incident) -> dict[str, Any]:
    """An incident in a list."""
    return {
        "id": incident.id,
        "runbook": incident.runbook,
        "target": incident.target,
        "status": incident.status,
        "result": None if incident.result is None else incident.result.value,
        "title": incident.title,
        "severity": incident.severity,
        "mode": incident.mode.value,
        "policy": incident.policy,
        "opened_at": moment(incident.opened_at),
        "closed_at": moment(incident.closed_at),
        "firing": len(incident.firing),
        "acknowledged_by": _name(incident.acknowledged),
        "taken_over_by": _name(incident.taken_over),
        "snoozed_by": None if incident.snoozed is None else incident.snoozed.actor,
        "namespace": incident.namespace,
    }


def _name(person: Person | None) -> str | None:
    return None if person is None else person.actor


def details(incident: Incident, now: int) -> dict[str, Any]:
    """An incident with all that is known, without its journal."""
    return {
        **summary(incident),
        "impact": incident.impact,
        "waits_for": waits_for(incident, now),
        "urgent": incident.urgent,
        "problems": list(incident.problems),
        "closed_why": incident.closed_why,
        "channel": incident.channel,
        "rules_hash": incident.rules_hash,
        "labels": dict(incident.labels),
        "inputs": dict(incident.inputs),
        "links": dict(incident.links),
        "acknowledged": shown(incident.acknowledged),
        "taken_over": shown(incident.taken_over),
        "snoozed": shown(incident.snoozed),
        "approval": shown(pending_approval(incident)),
        "storm": incident.storm,
        "unsettled": [a.id for a in incident.unsettled],
        "alerts": [_alert(e) for e in incident.episodes.values()],
        "runs": [_run(r) for r in incident.runs],
        "agenda": [_due(d) for d in sorted(incident.agenda, key=lambda d: d.due)],
    }


def _due(due: Due) -> dict[str, Any]:
    return {"kind": due.kind, "round": due.round, "at": moment(due.due), "what": due.what}


def _alert(episode: Episode) -> dict[str, Any]:
    return {
        "fingerprint": episode.fingerprint,
        "firing": episode.firing,
        "severity": episode.severity,
        "since": moment(episode.since),
        "ended": moment(episode.ended),
        "labels": dict(episode.labels),
        "annotations": dict(episode.annotations),
        "generator_url": episode.generator_url,
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "number": run.number,
        "runbook": run.runbook,
        "target": run.target,
        "cause": run.cause.value,
        "mode": run.mode.value,
        "phase": run.phase.value,
        "result": None if run.result is None else run.result.value,
        "why": run.why,
        "actor": run.actor,
        "started_at": moment(run.started_at),
        "ended_at": moment(run.ended_at),
        "waits_until": moment(run.waits_until),
        "restores": run.restores,
        "rules_hash": run.rules_hash,
        "inputs": dict(run.inputs),
        "verdicts": shown(run.verdicts),
        "checks": [shown(o) for o in run.observations.values()],
        "steps": [_step(run, s) for s in run.steps],
        "evidence": shown(run.evidence),
    }


def _step(run: Run, step: StepState) -> dict[str, Any]:
    return {
        "id": step.id,
        "status": step.status.value,
        "why": step.why,
        "retry_at": moment(step.retry_at),
        "attempts": [_attempt(a) for a in run.attempts_of(step.id)],
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "id": attempt.id,
        "number": attempt.number,
        "action": attempt.action,
        "effect": attempt.plan.effect.value,
        "preview": attempt.plan.preview,
        "before": attempt.plan.before,
        "target": attempt.plan.target,
        "key": attempt.key,
        "intended_at": moment(attempt.intended_at),
        "deadline": moment(attempt.deadline),
        "ended_at": moment(attempt.ended_at),
        "outcome": None if attempt.outcome is None else attempt.outcome.value,
        "detail": attempt.detail,
        "held_back": attempt.held_back,
        "output": attempt.output,
        "probe": None if attempt.probe is None else attempt.probe.value,
        "settled": attempt.settled,
    }


def told(event: Event, incident: Incident, render: Render) -> dict[str, Any]:
    """An event: the sentence that people read in the thread, and the fact behind it."""
    return {
        "seq": event.seq,
        "at": moment(event.at),
        "actor": event.actor,
        "kind": event.fact.kind,
        "text": describe(event, incident, render),
        "fact": shown(event.fact),
    }


def waits_for(incident: Incident, now: int) -> str:
    """What an open incident waits for, in one phrase; "" when it is closed."""
    if incident.closed:
        return ""
    if incident.unsettled:
        return f"a person to settle {', '.join(a.id for a in incident.unsettled)}"
    run = incident.active_run
    return _run_waits_for(run) if run is not None else _coming(incident, now)


def _run_waits_for(run: Run) -> str:
    wanted = run.approval
    if wanted is not None and run.step(wanted.step).status is StepStatus.APPROVAL:
        return f"the role {wanted.role} to approve step {wanted.step}, until {moment(wanted.until)}"
    asked = [s.id for s in run.steps if s.status is StepStatus.ASKED]
    if asked:
        return f"a person to do step {asked[0]}"
    if run.waits_until is not None:
        return reasons(run.verdicts) or f"run {run.number}, until {moment(run.waits_until)}"
    if run.open_attempt is not None:
        return f"step {run.open_attempt.step}, until {moment(run.open_attempt.deadline)}"
    return f"run {run.number}, which is {run.phase.value}"


def _coming(incident: Incident, now: int) -> str:
    coming = cast("Mapping[str, Any] | None", state_values(incident, now)["next"])
    if coming is not None:
        return f"{moment(coming['at'])}: {coming['what']}"
    if not incident.episodes:
        return f"a person who has seen it{f': responder ack {incident.id}' if incident.live else ''}"
    return "its alerts to end" if incident.firing else "the end of verification"
