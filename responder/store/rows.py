"""Between the frozen rows of `records` and the values of the tables: one pair of functions a type, nothing else.

Bodies are written exactly (`model_dump_json`) and read back by the same models. Nothing here knows a database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypeVar

from responder.facts import FACT, Event
from responder.incident import Due, Incident
from responder.records import (
    DeadLetterRow,
    EpisodeRow,
    IncidentRow,
    Lane,
    MessageRow,
    NotificationRow,
    ScopeRow,
    Sending,
    TimerRow,
    Writes,
)

Values = dict[str, Any]
"""Column name -> value as a driver takes it."""


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version of something that a run was begun with (`kind`: `rules` …), kept by its hash."""

    hash: str
    kind: str
    body: bytes
    stored_at: int


@dataclass(frozen=True, slots=True)
class VersionWrites(Writes):
    """`Writes` of the store's own operation that keeps a version."""

    versions: tuple[VersionRow, ...] = ()


Flat = NotificationRow | EpisodeRow | MessageRow | ScopeRow | DeadLetterRow | VersionRow
FlatRow = TypeVar("FlatRow", NotificationRow, EpisodeRow, ScopeRow, DeadLetterRow, VersionRow)

_FIELDS: Final[dict[type[Any], tuple[str, ...]]] = {
    row: tuple(f.name for f in fields(row))
    for row in (NotificationRow, EpisodeRow, MessageRow, ScopeRow, DeadLetterRow, VersionRow)
}


def flat_values(row: Flat) -> Values:
    """The values of a row whose fields are its columns."""
    return {name: getattr(row, name) for name in _FIELDS[type(row)]}


def flat_row(kind: type[FlatRow], values: Mapping[str, Any]) -> FlatRow:
    """The row again; columns that it has no field for are left out."""
    return kind(**{name: values[name] for name in _FIELDS[kind]})


def episode_row(values: Mapping[str, Any]) -> EpisodeRow:
    """An episode; SQLite answers 0 and 1 for booleans."""
    return EpisodeRow(**{**{name: values[name] for name in _FIELDS[EpisodeRow]}, "firing": bool(values["firing"])})


def message_values(row: MessageRow, position: int) -> Values:
    """A message's values; `position` counts only when the row is new."""
    return {**flat_values(row), "lane": row.lane.value, "state": row.state.value, "position": position}


def message_row(values: Mapping[str, Any]) -> MessageRow:
    """A message of the outbox."""
    plain = {name: values[name] for name in _FIELDS[MessageRow]}
    return MessageRow(**{**plain, "lane": Lane(plain["lane"]), "state": Sending(plain["state"])})


def incident_values(row: IncidentRow) -> Values:
    """The fold, and beside it the columns that lists and leases are asked by."""
    fold = row.fold
    return {
        "id": row.id,
        "open_key": row.open_key,
        "namespace": fold.namespace,
        "runbook": fold.runbook,
        "target": fold.target,
        "status": fold.status,
        "result": None if fold.result is None else fold.result.value,
        "severity": fold.severity,
        "policy": fold.policy,
        "rules_hash": fold.rules_hash,
        "opened_at": fold.opened_at,
        "closed_at": fold.closed_at,
        "owner": row.owner,
        "epoch": row.epoch,
        "lease_until": row.lease_until,
        "seq": fold.seq,
        "version": 0,
        "fold": fold.model_dump_json(),
    }


def incident_row(values: Mapping[str, Any]) -> IncidentRow:
    """An incident. Raises pydantic's ValidationError for a fold that cannot be read."""
    return IncidentRow(
        id=values["id"],
        open_key=values["open_key"],
        fold=Incident.model_validate_json(values["fold"]),
        owner=values["owner"],
        epoch=values["epoch"],
        lease_until=values["lease_until"],
    )


def event_values(event: Event) -> Values:
    """An event; `body` is the fact's JSON."""
    return {
        "incident": event.incident,
        "seq": event.seq,
        "id": event.id,
        "at": event.at,
        "kind": event.fact.kind,
        "actor": event.actor,
        "body": FACT.dump_json(event.fact).decode(),
    }


def event_row(values: Mapping[str, Any]) -> Event:
    """An event. Raises pydantic's ValidationError for a fact that this version does not know."""
    return Event(
        id=values["id"],
        incident=values["incident"],
        seq=values["seq"],
        at=values["at"],
        actor=values["actor"],
        fact=FACT.validate_json(values["body"]),
    )


def timer_values(row: TimerRow) -> Values:
    """A timer; a row that is `gone` uses the key only."""
    due = row.due
    return {"subject": row.subject, "kind": due.kind, "round": due.round, "due": due.due, "work": due.work}


def timer_row(values: Mapping[str, Any]) -> tuple[str, Due]:
    """`(subject, due)`."""
    due = Due(kind=values["kind"], round=values["round"], due=values["due"], work=bool(values["work"]))
    return values["subject"], due
