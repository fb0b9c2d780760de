"""The shift hand-over: what the next shift must know, as one digest of values.

Pure: whoever calls reads the store (`web.reports`) and says what each incident waits for. Times are RFC 3339 and spans
seconds, as everywhere in the API; `cli.handover` lays them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from responder.incident import Attempt, Incident
from responder.policies import severity_rank
from responder.records import DeadLetterRow, MessageRow
from responder.scopes import InForce, Lock, Pause, Scheduled
from responder.timing import DAY, HOUR, SECOND, format_time

SINCE: Final = 12 * HOUR
"""How long a shift was, when nobody says."""
LONGEST: Final = 7 * DAY
"""How far a digest looks back at most."""
AHEAD: Final = 12 * HOUR
"""How far it looks ahead."""
TIMERS: Final = 50
"""What comes next, at most."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands, of the live namespace; `since` and `now` are µs.

    `locked`: incidents that are closed and still hold a lock because nobody knows whether a change happened.
    `reminders`: when a person is reminded of a change in force, by its target.
    """

    since: int
    now: int
    open: tuple[Incident, ...] = ()
    closed: tuple[Incident, ...] = ()
    locked: tuple[Incident, ...] = ()
    waits: Mapping[str, str] = field(default_factory=dict)
    pause: Pause | None = None
    unread: tuple[str, ...] = ()
    """The store's rows that hold no body of theirs: what they said is not below."""
    locks: Mapping[str, Lock] = field(default_factory=dict)
    in_force: Mapping[str, InForce] = field(default_factory=dict)
    schedules: Mapping[str, Scheduled] = field(default_factory=dict)
    reminders: Mapping[str, int] = field(default_factory=dict)
    letters: tuple[DeadLetterRow, ...] = ()
    messages: tuple[MessageRow, ...] = ()


def digest(standing: Standing) -> dict[str, Any]:
    """The whole hand-over."""
    now = standing.now
    return {
        "now": format_time(now - now % SECOND),
        "since": format_time(standing.since),
        "pause": None if standing.pause is None else _pause(standing.pause),
        "unreadable": list(standing.unread),
        "open": [{**_incident(i, now), "waits_for": standing.waits.get(i.id, "")} for i in _urgent_first(standing)],
        "unsettled": list(_unsettled(standing)),
        "in_force": [one for target, top in standing.in_force.items() for one in _changes(target, top, now)],
        "locks": [_lock(target, held) for target, lock in standing.locks.items() for held in lock.holders],
        "closed": [_incident(i, now) for i in sorted(standing.closed, key=lambda i: i.closed_at or 0, reverse=True)],
        "timers": sorted(_timers(standing), key=lambda timer: str(timer["at"]))[:TIMERS],
        "dead_letters": [dead_letter(letter) for letter in standing.letters],
        "dead_messages": [dead_message(row) for row in standing.messages],
    }


def _pause(pause: Pause) -> dict[str, Any]:
    return {"actor": pause.actor, "at": format_time(pause.at), "reason": pause.reason}


def _urgent_first(standing: Standing) -> Sequence[Incident]:
    """Open incidents: what nobody has, then the most severe, then the oldest."""
    return sorted(standing.open, key=lambda i: (i.somebody is not None, -severity_rank(i.severity), i.opened_at))


def _incident(incident: Incident, now: int) -> dict[str, Any]:
    closed = incident.closed_at
    return {
        "id": incident.id,
        "title": incident.title,
        "target": incident.target,
        "severity": incident.severity,
        "status": incident.status,
        "result": None if incident.result is None else incident.result.value,
        "urgent": incident.urgent,
        "who": _who(incident),
        "opened_at": format_time(incident.opened_at),
        "closed_at": None if closed is None else format_time(closed),
        "closed_why": incident.closed_why,
        "lasted": _seconds((now if closed is None else closed) - incident.opened_at),
    }


def _who(incident: Incident) -> dict[str, Any] | None:
    """Who has it, and what they said."""
    person = incident.somebody
    if person is None:
        return None
    does = "has taken over" if incident.taken_over else "has acknowledged" if incident.acknowledged else "has snoozed"
    return {"name": person.actor, "does": f"{does} it", "at": format_time(person.at), "note": person.note}


def _unsettled(standing: Standing) -> Iterator[dict[str, Any]]:
    """Changes of which nobody knows whether they happened, oldest first."""
    found = [(i, attempt) for i in (*standing.open, *standing.locked) for attempt in i.unsettled]
    for incident, attempt in sorted(found, key=lambda one: one[1].intended_at):
        yield _attempt(incident, attempt)


def _attempt(incident: Incident, attempt: Attempt) -> dict[str, Any]:
    return {
        "incident": incident.id,
        "attempt": attempt.id,
        "target": incident.target,
        "preview": attempt.plan.preview,
        "since": format_time(attempt.intended_at),
    }


def _changes(target: str, top: InForce, now: int) -> Iterator[dict[str, Any]]:
    """A change in force and those beneath it, the latest first."""
    change: InForce | None = top
    while change is not None:
        yield {
            "target": target,
            "incident": change.incident,
            "preview": change.preview,
            "value": change.value,
            "before": change.before,
            "since": format_time(change.since),
            "lasted": _seconds(now - change.since),
            "beneath_another": change is not top,
        }
        change = change.beneath


def _lock(target: str, lock: Lock) -> dict[str, Any]:
    since = format_time(lock.since)
    held = {"incident": lock.incident, "run": lock.run, "since": since}
    return {"target": target, **held, "unknown": lock.unknown, "verifying": lock.verifying}


def _timers(standing: Standing) -> Iterator[dict[str, Any]]:
    """What comes by itself until AHEAD: of open incidents, of changes in force, of schedules."""
    until = standing.now + AHEAD
    for incident in standing.open:
        dues = (due for due in incident.agenda if due.what and due.due <= until)
        yield from (_timer(due.due, due.what, incident.title, incident.id) for due in dues)
    for target, at in standing.reminders.items():
        change = standing.in_force.get(target)
        if change is not None and at <= until:
            yield _timer(at, f"people are reminded of it: {change.preview}", target, change.incident)
    for runbook, schedule in standing.schedules.items():
        if schedule.next is not None and schedule.next <= until:
            yield _timer(schedule.next, "its schedule starts a run", runbook, None)


def _timer(at: int, what: str, about: str, incident: str | None) -> dict[str, Any]:
    return {"at": format_time(at), "what": what, "about": about, "incident": incident}


def _seconds(us: int) -> float:
    return max(0, us) / SECOND


# --- what is dead -----------------------------------------------------------------------------------------------------


def dead_letter(letter: DeadLetterRow) -> dict[str, Any]:
    """What could not be understood, without its body."""
    return {
        "id": letter.id,
        "received_at": format_time(letter.received_at),
        "source": letter.source,
        "reason": letter.reason,
        "state": letter.state,
        "bytes": len(letter.body),
    }


def dead_message(row: MessageRow) -> dict[str, Any]:
    """A message that its destination refused for good."""
    return {
        "id": row.id,
        "incident": row.incident,
        "destination": row.destination,
        "lane": row.lane.value,
        "template": row.template,
        "error": row.error,
        "since": format_time(row.created_at),
        "attempts": row.attempts,
    }
