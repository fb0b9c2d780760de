"""What a group of operations wants written: the last row of each key, as few statements as there are tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table

from responder.facts import Event
from responder.records import (
    DeadLetterRow,
    EpisodeRow,
    IncidentRow,
    MessageRow,
    NotificationRow,
    ScopeRow,
    Sending,
    TimerRow,
    Writes,
    renewed,
)
from responder.store import rows
from responder.store import tables as t
from responder.store.database import Statement
from responder.store.statements import Statements


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit changed, told after it: reason enough to look again, and the events for metrics and logs."""

    incidents: tuple[str, ...]
    messages: bool
    """True when a message waits to be sent."""
    timers: int | None
    """The earliest due time that was written."""
    events: tuple[Event, ...]
    """Those of live incidents: a replay counts nowhere (design 5.2)."""


class Batch:
    """Collects the writes of a group. `position` gives each new message its place in the order of sending."""

    def __init__(self, position: Callable[[], int]) -> None:
        self._position = position
        self._positions: dict[str, int] = {}
        self._episodes: dict[tuple[str, str], EpisodeRow] = {}
        self.incidents: dict[str, IncidentRow] = {}
        self._timers: dict[tuple[str, str, int], TimerRow] = {}
        self._messages: dict[str, MessageRow] = {}
        self.renewed: dict[str, MessageRow] = {}
        """Messages to show again that nobody of the group read or wrote."""
        self._scopes: dict[str, ScopeRow] = {}
        self._dead_letters: dict[str, DeadLetterRow] = {}
        self._notifications: list[NotificationRow] = []
        self._events: list[Event] = []
        self._versions: dict[tuple[str, str], rows.VersionRow] = {}

    def add(self, writes: Writes) -> None:
        """One operation's writes, after those of the operations before it."""
        self._episodes.update({(e.namespace, e.fingerprint): e for e in writes.episodes})
        self.incidents.update({i.id: i for i in writes.incidents})
        self._timers.update({timer.key: timer for timer in writes.timers})
        self._scopes.update({s.name: s for s in writes.scopes})
        self._dead_letters.update({d.id: d for d in writes.dead_letters})
        self._notifications.extend(writes.notifications)
        self._events.extend(writes.events)
        for message in writes.messages:
            self._placed(message.id)
            self._messages[message.id] = message
            self.renewed.pop(message.id, None)
        for fresh in writes.renewed:
            self._renew(fresh)
        if isinstance(writes, rows.VersionWrites):
            self._versions.update({(v.hash, v.kind): v for v in writes.versions})

    def _placed(self, message_id: str) -> None:
        if message_id not in self._positions:
            self._positions[message_id] = self._position()

    def _renew(self, fresh: MessageRow) -> None:
        """What is known to be in the database or in this group is only shown again."""
        self._placed(fresh.id)
        if fresh.id in self._messages:
            self._messages[fresh.id] = renewed(self._messages[fresh.id], fresh)
        else:
            self.renewed[fresh.id] = renewed(self.renewed.get(fresh.id, fresh), fresh)

    def statements(self, statements: Statements, absent: Mapping[Table, set[Any]]) -> list[Statement]:
        """Everything to run, sorted by key within each table. May raise what making the values raises."""
        write = _Writing(statements, absent)
        write.upsert(t.episodes, self._episodes, rows.flat_values)
        write.upsert(t.incidents, self.incidents, rows.incident_values)
        write.upsert(t.scopes, self._scopes, rows.flat_values)
        write.upsert(t.messages, self._messages, self._message_values)
        write.renew([self._message_values(self.renewed[key]) for key in sorted(self.renewed)])
        write.timers(self._timers)
        write.insert(t.notifications, map(rows.flat_values, self._notifications))
        write.insert(t.events, map(rows.event_values, self._events))
        write.upsert(t.dead_letters, self._dead_letters, rows.flat_values)
        write.upsert(t.versions, self._versions, rows.flat_values)
        return write.run

    def _message_values(self, row: MessageRow) -> rows.Values:
        return rows.message_values(row, self._positions[row.id])

    def committed(self) -> Committed:
        """What to tell after the commit."""
        return Committed(
            incidents=tuple(self.incidents),
            messages=bool(self.renewed) or any(m.state is Sending.PENDING for m in self._messages.values()),
            timers=min((x.due.due for x in self._timers.values() if not x.gone), default=None),
            events=tuple(event for event in self._events if self._live(event)),
        )

    def _live(self, event: Event) -> bool:
        """What an event changes is written with it; whose incident is not here is no replay's."""
        row = self.incidents.get(event.incident)
        return row is None or row.fold.live


class _Writing:
    def __init__(self, statements: Statements, absent: Mapping[Table, set[Any]]) -> None:
        self._statements = statements
        self._absent = absent
        self.run: list[Statement] = []

    def upsert(self, table: Table, written: Mapping[Any, Any], values: Callable[[Any], rows.Values]) -> None:
        """A row that was looked for in vain is inserted: replacing would lose what another replica wrote meanwhile."""
        absent = self._absent.get(table, set())
        keys = sorted(written)
        self.insert(table, [values(written[key]) for key in keys if key in absent])
        self._append(self._statements.upsert[table], [values(written[key]) for key in keys if key not in absent])

    def insert(self, table: Table, values: Iterable[rows.Values]) -> None:
        self._append(self._statements.insert[table], list(values))

    def renew(self, values: list[rows.Values]) -> None:
        self._append(self._statements.renew, values)

    def timers(self, written: Mapping[tuple[str, str, int], TimerRow]) -> None:
        rows_ = [written[key] for key in sorted(written)]
        self._append(self._statements.delete_timer, [rows.timer_values(r) for r in rows_ if r.gone])
        self._append(self._statements.upsert[t.timers], [rows.timer_values(r) for r in rows_ if not r.gone])

    def _append(self, statement: str, values: list[rows.Values]) -> None:
        if values:
            self.run.append((statement, values))
