"""What the store keeps, and the form in which transactions speak to it.

One frozen type per table; `State` is what a group of operations has loaded, `Writes` is what one operation wants
written, and `Operation` is the transaction itself: a pure function of the two. The store's writer loads, runs,
flushes (design 6); it knows nothing about alerts. All times are integer microseconds since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from responder.facts import Event
from responder.incident import Due, Incident
from responder.recorded import Trigger
from responder.timing import SECOND

HAND_OVER = 60 * SECOND
"""A page that nobody has accepted by then goes to the next channel too (design 5.8)."""


class Lane(StrEnum):
    """The order in which messages leave: pages never wait behind chat (design 5.8)."""

    PAGE = "page"
    ROOT = "root"
    THREAD = "thread"


class Sending(StrEnum):
    """Where a message is."""

    PENDING = "pending"
    SENT = "sent"
    DEAD = "dead"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class NotificationRow:
    """One POST, kept exactly as it came (`body` is compressed by whoever makes the row)."""

    id: str
    namespace: str
    received_at: int
    source: str
    receiver: str
    group_key: str
    alerts: int
    truncated: int
    body: bytes


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """The latest episode of a fingerprint: key `(namespace, fingerprint)`.

    `incident` is the one that it belongs to; `firing` is false from its end on. `ended_at` is the end that Alertmanager
    named, by which a late firing of the same episode is recognised (contracts.md A5).
    """

    namespace: str
    fingerprint: str
    incident: str
    firing: bool
    since: int
    starts_at: int | None
    ended_at: int | None
    severity: str | None


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An incident's cached fold with its lease. `open_key` is unique among open incidents and None once closed."""

    id: str
    open_key: str | None
    fold: Incident
    owner: str | None
    epoch: int
    lease_until: int

    @property
    def closed(self) -> bool:
        """True once the incident is over."""
        return self.open_key is None


@dataclass(frozen=True, slots=True)
class TimerRow:
    """One entry of an agenda. `subject` is an incident's id, or `scope:<name>` for what outlives incidents."""

    subject: str
    due: Due
    gone: bool = False
    """True asks for the row to be deleted."""

    @property
    def key(self) -> tuple[str, str, int]:
        """Primary key."""
        return self.subject, self.due.kind, self.due.round


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message of the outbox, rendered only when it is sent (design 5.8).

    `order_key` names what keeps its order: one deduplication key of a pager, one thread of a chat. `event_seq` is the
    event that it tells (0: the present state). `provider` is what the destination answered (JSON), such as Slack's
    channel and ts.
    """

    id: str
    incident: str
    event_seq: int
    lane: Lane
    destination: str
    template: str
    order_key: str
    created_at: int
    next_at: int
    rank: int = 0
    """Severity, for the order after an outage: higher leaves first."""
    state: Sending = Sending.PENDING
    attempts: int = 0
    sent_at: int | None = None
    provider: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class ScopeRow:
    """A shared counter or flag, by name: `lock:…`, `runs:…`, `parameter:…`, `pause:…`. `body` is JSON text."""

    name: str
    body: str
    updated_at: int


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """What could not be understood, kept for a later try."""

    id: str
    received_at: int
    source: str
    reason: str
    body: bytes
    state: str = "open"


@dataclass(frozen=True, slots=True)
class Keys:
    """What an operation reads. An open key brings its incident along; an episode does not: most are only told again."""

    incidents: frozenset[str] = frozenset()
    episodes: frozenset[tuple[str, str]] = frozenset()
    open_keys: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    messages: frozenset[str] = frozenset()

    def __or__(self, other: Keys) -> Keys:
        """Both."""
        return Keys(
            self.incidents | other.incidents,
            self.episodes | other.episodes,
            self.open_keys | other.open_keys,
            self.scopes | other.scopes,
            self.messages | other.messages,
        )

    def __bool__(self) -> bool:
        """False when nothing is asked for."""
        return any((self.incidents, self.episodes, self.open_keys, self.scopes, self.messages))


class NotLoaded(Exception):
    """An operation needs rows that it did not name; the writer loads them and runs it again."""

    def __init__(self, keys: Keys) -> None:
        super().__init__("the operation needs more rows")
        self.keys = keys


@dataclass(frozen=True, slots=True)
class Writes:
    """What one operation wants written; later rows of a key replace earlier ones."""

    notifications: tuple[NotificationRow, ...] = ()
    episodes: tuple[EpisodeRow, ...] = ()
    incidents: tuple[IncidentRow, ...] = ()
    events: tuple[Event, ...] = ()
    timers: tuple[TimerRow, ...] = ()
    messages: tuple[MessageRow, ...] = ()
    renewed: tuple[MessageRow, ...] = ()
    """Inserted; where the id exists already, only made pending again at `next_at` (with `event_seq`, `rank`):
    whatever the
    destination answered before stays. This is a root message's dirty flag, and needs no reading."""
    scopes: tuple[ScopeRow, ...] = ()
    dead_letters: tuple[DeadLetterRow, ...] = ()


@dataclass(slots=True)
class State:
    """What is loaded: for each key asked for, the row or None. Asking for another key raises `NotLoaded`."""

    now: int
    incidents: dict[str, IncidentRow | None] = field(default_factory=dict)
    episodes: dict[tuple[str, str], EpisodeRow | None] = field(default_factory=dict)
    open_keys: dict[str, str | None] = field(default_factory=dict)
    """Open key -> incident id."""
    scopes: dict[str, ScopeRow | None] = field(default_factory=dict)
    messages: dict[str, MessageRow | None] = field(default_factory=dict)

    def incident(self, incident_id: str) -> IncidentRow | None:
        """The incident's row, or None when there is none."""
        if incident_id not in self.incidents:
            raise NotLoaded(Keys(incidents=frozenset({incident_id})))
        return self.incidents[incident_id]

    def episode(self, namespace: str, fingerprint: str) -> EpisodeRow | None:
        """The fingerprint's latest episode, or None."""
        key = (namespace, fingerprint)
        if key not in self.episodes:
            raise NotLoaded(Keys(episodes=frozenset({key})))
        return self.episodes[key]

    def open_incident(self, open_key: str) -> IncidentRow | None:
        """The open incident of a runbook and target, or None."""
        if open_key not in self.open_keys:
            raise NotLoaded(Keys(open_keys=frozenset({open_key})))
        found = self.open_keys[open_key]
        return None if found is None else self.incident(found)

    def scope(self, name: str) -> ScopeRow | None:
        """The scope's row, or None."""
        if name not in self.scopes:
            raise NotLoaded(Keys(scopes=frozenset({name})))
        return self.scopes[name]

    def message(self, message_id: str) -> MessageRow | None:
        """The outbox row, or None."""
        if message_id not in self.messages:
            raise NotLoaded(Keys(messages=frozenset({message_id})))
        return self.messages[message_id]

    def want(self, keys: Keys) -> None:
        """Raise NotLoaded for all of these that are not loaded, in one request instead of one after another."""
        missing = Keys(
            keys.incidents - self.incidents.keys(),
            keys.episodes - self.episodes.keys(),
            keys.open_keys - self.open_keys.keys(),
            keys.scopes - self.scopes.keys(),
            keys.messages - self.messages.keys(),
        )
        if missing:
            raise NotLoaded(missing)

    def take(self, writes: Writes) -> None:
        """Make one operation's writes visible to the next of the group."""
        for incident in writes.incidents:
            before = self.incidents.get(incident.id)
            if before is not None and before.open_key is not None and before.open_key != incident.open_key:
                self.open_keys[before.open_key] = None
            self.incidents[incident.id] = incident
            if incident.open_key is not None:
                self.open_keys[incident.open_key] = incident.id
        self.episodes.update({(e.namespace, e.fingerprint): e for e in writes.episodes})
        self.scopes.update({s.name: s for s in writes.scopes})
        self.messages.update({m.id: m for m in writes.messages})
        for fresh in writes.renewed:
            known = self.messages.get(fresh.id)
            if known is not None:
                self.messages[fresh.id] = renewed(known, fresh)


Answer_co = TypeVar("Answer_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Change(Generic[Answer_co]):
    """What an operation wants written and what it answers its caller after the commit."""

    writes: Writes
    answer: Answer_co


class Operation(Protocol[Answer_co]):
    """A transaction: pure, so that it may run twice. `id` makes its events' ids, so that it counts once."""

    @property
    def id(self) -> str:
        """Unique for ever."""
        ...

    def reads(self) -> Keys:
        """The rows that it surely needs; others are loaded when it asks for them."""
        ...

    def apply(self, state: State) -> Change[Answer_co]:
        """Decide over what is loaded. May raise NotLoaded, or Rejected: then nothing of it is written."""
        ...


def open_key(namespace: str, runbook: str | None, target: str, trigger: Trigger = Trigger.ALERT) -> str:
    """The identity of an open incident: one runbook on one target (design 2), and alerts apart from schedules."""
    apart = "" if trigger is Trigger.ALERT else f"{trigger.value}:"
    return f"{namespace}\n{apart}{runbook or ''}\n{target}"


def agenda_rows(subject: str, before: tuple[Due, ...], after: tuple[Due, ...]) -> Iterator[TimerRow]:
    """The timer rows that change an agenda into another."""
    had = {(d.kind, d.round): d for d in before}
    has = {(d.kind, d.round): d for d in after}
    for key, due in had.items():
        if key not in has:
            yield TimerRow(subject, due, gone=True)
    for key, due in has.items():
        if had.get(key) != due:
            yield TimerRow(subject, due)


def renewed(message: MessageRow, fresh: MessageRow) -> MessageRow:
    """A message that must be shown again, keeping what its destination answered."""
    return replace(
        message,
        state=Sending.PENDING,
        next_at=fresh.next_at,
        event_seq=fresh.event_seq,
        rank=fresh.rank,
        attempts=0,
        error="",
    )
