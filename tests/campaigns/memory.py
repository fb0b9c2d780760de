"""A store without SQL, for campaigns of very many small worlds: the same operations over dictionaries.

It keeps what the store keeps, answers what the engine and the checker read, and can be read again as after a restart:
every row as its own JSON. Not here: what only a database can do wrong (tests/contract, tests/crash).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import TypeVar

from responder.errors import Rejected
from responder.facts import Event
from responder.incident import Due, Incident
from responder.recorded import LIVE
from responder.records import (
    HAND_OVER,
    EpisodeRow,
    IncidentRow,
    Keys,
    Lane,
    MessageRow,
    NotLoaded,
    Operation,
    ScopeRow,
    Sending,
    State,
    TimerRow,
    Writes,
)
from responder.store import Committed, Store

Answer = TypeVar("Answer")
LANES = {lane: place for place, lane in enumerate(Lane)}


class Memory(Store):
    """See the module. `now` gives microseconds since the epoch."""

    def __init__(self, now: Callable[[], int]) -> None:
        # Nothing of a database is opened, so the store's own beginning is left out.
        self._clock = now
        self._told: list[Callable[[Committed], None]] = []
        self._state = State(now())
        self._events: dict[str, list[Event]] = {}
        self._timers: dict[tuple[str, str, int], TimerRow] = {}
        self._places: dict[str, int] = {}
        self.order: dict[str, int] = {}
        """Event -> its place among all events, in the order in which they were written."""

    def now(self) -> int:
        """See Store."""
        return self._clock()

    def on_commit(self, callback: Callable[[Committed], None]) -> None:
        """See Store."""
        self._told.append(callback)

    async def submit(self, operation: Operation[Answer]) -> Answer:
        """See Store."""
        self._state.now = self._clock()
        self._load(operation.reads())
        while True:
            try:
                change = operation.apply(self._state)
            except NotLoaded as missing:
                self._load(missing.keys)
                continue
            self._take(change.writes)
            return change.answer

    async def close(self) -> None:
        """See Store."""

    def read_again(self) -> None:
        """What a process finds that starts: incidents as they were written."""
        for name, row in self._state.incidents.items():
            if row is not None:
                fold = Incident.model_validate_json(row.fold.model_dump_json())
                self._state.incidents[name] = replace(row, fold=fold)

    # --- writing ------------------------------------------------------------------------------------------------------

    def _load(self, keys: Keys) -> None:
        state = self._state
        for name in keys.incidents:
            state.incidents.setdefault(name, None)
        for episode in keys.episodes:
            state.episodes.setdefault(episode, None)
        for key in keys.open_keys:
            state.open_keys.setdefault(key, None)
        for name in keys.scopes:
            state.scopes.setdefault(name, None)
        for name in keys.messages:
            state.messages.setdefault(name, None)

    def _take(self, writes: Writes) -> None:
        known = {m.id for m in writes.renewed if self._state.messages.get(m.id) is not None}
        self._state.take(writes)
        for message in (*writes.messages, *writes.renewed):
            self._places.setdefault(message.id, len(self._places))
        self._state.messages.update({m.id: m for m in writes.renewed if m.id not in known})
        for event in writes.events:
            if event.id in self.order:
                raise AssertionError(f"event {event.id} is written twice")
            self.order[event.id] = len(self.order)
            self._events.setdefault(event.incident, []).append(event)
        for timer in writes.timers:
            if timer.gone:
                self._timers.pop(timer.key, None)
            else:
                self._timers[timer.key] = timer
        if writes != Writes():
            self._tell(writes)

    def _tell(self, writes: Writes) -> None:
        pending = bool(writes.renewed) or any(m.state is Sending.PENDING for m in writes.messages)
        due = min((timer.due.due for timer in writes.timers if not timer.gone), default=None)
        committed = Committed(tuple(row.id for row in writes.incidents), pending, due, writes.events)
        for told in self._told:
            told(committed)

    # --- reading ------------------------------------------------------------------------------------------------------

    def _rows(self) -> list[IncidentRow]:
        found = (row for row in self._state.incidents.values() if row is not None)
        return sorted(found, key=lambda row: (row.fold.opened_at, row.id))

    async def incident(self, prefix: str) -> IncidentRow | None:
        """See Store; the whole id alone."""
        return self._state.incidents.get(prefix)

    async def incidents(
        self,
        status: str | None = None,
        target: str | None = None,
        limit: int = 100,
        before: str | None = None,
        namespace: str | None = None,
    ) -> list[IncidentRow]:
        """See Store."""
        if namespace not in (None, LIVE):
            raise Rejected("this store keeps one namespace")
        found = [row for row in reversed(self._rows()) if target in (None, row.fold.target)]
        if before is not None:
            found = found[[row.id for row in found].index(before) + 1 :]
        if status is not None:
            found = [row for row in found if (not row.closed if status == "open" else row.fold.status == status)]
        return found[:limit]

    async def events(self, incident_id: str, after_seq: int = 0) -> list[Event]:
        """See Store."""
        return [event for event in self._events.get(incident_id, []) if event.seq > after_seq]

    async def orphans(self, owner: str) -> list[str]:
        """See Store."""
        return [row.id for row in self._rows() if not row.closed and row.owner not in (None, owner)]

    async def due_timers(self, now: int, owner: str, limit: int) -> list[tuple[str, Due]]:
        """See Store."""
        free = [timer for timer in self._timers.values() if timer.due.due <= now and self._free(timer, now, owner)]
        free.sort(key=lambda timer: (timer.due.due, timer.key))
        return [(timer.subject, timer.due) for timer in free[:limit]]

    async def next_timer_due(self, now: int, owner: str) -> int | None:
        """See Store."""
        ends = [timer.due.due for timer in self._timers.values() if self._free(timer, now, owner)]
        held = (row for row in self._rows() if not row.closed and row.owner not in (None, owner))
        ends += [row.lease_until + 1 for row in held if row.lease_until >= now]
        return min(ends, default=None)

    def _free(self, timer: TimerRow, now: int, owner: str) -> bool:
        row = self._state.incidents.get(timer.subject)
        if row is None or not timer.due.work:
            return True
        return row.owner in (None, owner) or row.lease_until < now

    def _waiting(self) -> Iterable[MessageRow]:
        """What is to be sent and first of its order."""
        first: dict[str, MessageRow] = {}
        pending = [m for m in self._state.messages.values() if m is not None and m.state is Sending.PENDING]
        for message in sorted(pending, key=lambda m: self._places[m.id]):
            first.setdefault(message.order_key, message)
        return first.values()

    async def due_messages(self, now: int, limit: int, held: Collection[str] = ()) -> list[MessageRow]:
        """See Store."""
        due = [m for m in self._waiting() if m.next_at <= now and m.destination not in held]
        return sorted(due, key=lambda m: (LANES[m.lane], -m.rank, m.created_at, self._places[m.id]))[:limit]

    async def unaccepted_pages(self, limit: int) -> list[MessageRow]:
        """See Store."""
        pending = [m for m in self._state.messages.values() if m is not None and m.state is Sending.PENDING]
        pages = [m for m in pending if m.template == "page" and m.next_at < m.created_at + HAND_OVER]
        return sorted(pages, key=lambda m: (m.created_at, self._places[m.id]))[:limit]

    async def next_message_due(self, after: int = -1, held: Collection[str] = ()) -> int | None:
        """See Store."""
        waiting = (m for m in self._waiting() if m.destination not in held)
        return min((m.next_at for m in waiting if m.next_at > after), default=None)

    async def message(self, message_id: str) -> MessageRow | None:
        """See Store."""
        return self._state.messages.get(message_id)

    async def messages_of(self, incident_id: str) -> list[MessageRow]:
        """See Store."""
        found = [m for m in self._state.messages.values() if m is not None and m.incident == incident_id]
        return sorted(found, key=lambda m: self._places[m.id])

    async def firing_episodes(self) -> list[EpisodeRow]:
        """See Store."""
        found = [row for row in self._state.episodes.values() if row is not None and row.firing]
        return sorted(found, key=lambda row: row.fingerprint)

    async def receivers(self, since: int) -> set[str]:
        """See Store; all of a simulated world is told by one."""
        return {"responder"}

    async def scopes(self, prefix: str = "") -> list[ScopeRow]:
        """See Store."""
        found = (row for row in self._state.scopes.values() if row is not None and row.name.startswith(prefix))
        return sorted(found, key=lambda row: row.name)
