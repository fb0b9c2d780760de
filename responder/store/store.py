"""What the rest of the program holds: one object to write through, read from and be woken by.

It joins a database, its one writer and its reading connections, and adds nothing of its own but the choice of the
thread in which they run. `inline` runs everything at once in the calling thread, for simulations in virtual time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

from responder.errors import BadConfig
from responder.facts import Event
from responder.incident import Due
from responder.records import (
    Change,
    DeadLetterRow,
    EpisodeRow,
    IncidentRow,
    Keys,
    MessageRow,
    NotificationRow,
    Operation,
    ScopeRow,
    State,
)
from responder.store.batch import Committed
from responder.store.database import Clock, Database
from responder.store.group import Groups
from responder.store.migrating import migrate
from responder.store.postgres import PostgresDatabase
from responder.store.reads import Reads
from responder.store.rows import VersionRow, VersionWrites
from responder.store.sqlite import SqliteDatabase
from responder.store.writer import Writer

Answer = TypeVar("Answer")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class _PutVersion:
    """Keep a version; doing it again changes nothing."""

    hash: str
    kind: str
    body: bytes

    @property
    def id(self) -> str:
        return f"version:{self.kind}:{self.hash}"

    def reads(self) -> Keys:
        return Keys()

    def apply(self, state: State) -> Change[None]:
        return Change(VersionWrites(versions=(VersionRow(self.hash, self.kind, self.body, state.now),)), None)


LAST_READS = 5.0
"""Seconds that closing waits for what is being read."""


class Store:
    """Made by `open_store`. Reads raise StoreUnavailable when the database does not answer."""

    def __init__(self, database: Database, clock: Clock, *, inline: bool) -> None:
        self._database = database
        self._clock = clock
        self._inline = inline
        self._engine = database.reading()
        self._reads = Reads(self._engine, database.name)
        self._groups = Groups(database, self.now)
        self._writer = None if inline else Writer(self._groups, self._deliver)
        self._committed: list[Callable[[Committed], None]] = []
        self._woken: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading = 0
        self._read_over = threading.Condition()
        if not inline:
            database.start(self._wake)

    def now(self) -> int:
        """Microseconds since the epoch: the clock's, or on PostgreSQL the database's."""
        return self._clock() + self._database.offset()

    async def submit(self, operation: Operation[Answer]) -> Answer:
        """Commit an operation and answer. Raises what it raises; StoreUnavailable: nothing is known to be written."""
        if self._writer is not None:
            return cast(Answer, await self._writer.submit(operation))
        result = self._groups.run((operation,))
        for committed in result.committed:
            self._deliver(committed)
        outcome = result.outcomes[0]
        if outcome.error is not None:
            raise outcome.error
        return cast(Answer, outcome.answer)

    def oldest_wait(self) -> float:
        """Seconds that the oldest operation without an answer has waited; 0.0 when none waits."""
        return 0.0 if self._writer is None else self._writer.oldest_wait()

    def on_commit(self, callback: Callable[[Committed], None]) -> None:
        """Call it on the event loop after each commit of this process, before the callers go on. It must not raise."""
        self._committed.append(callback)

    def on_wake(self, callback: Callable[[], None]) -> None:
        """Call it on this event loop when another replica committed something; polling stays the truth."""
        self._loop = asyncio.get_running_loop()
        self._woken.append(callback)

    async def close(self) -> None:
        """Write what waits, then release everything."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        else:
            self._groups.close()
        # Whoever asked may be gone; the thread that reads for it is not, and would give its connection back to nobody.
        with self._read_over:
            self._read_over.wait_for(lambda: self._reading == 0, LAST_READS)
        self._engine.dispose()
        self._database.close()

    async def put_version(self, digest: str, kind: str, body: bytes) -> None:
        """Keep `body` under its hash, for runs that began with it."""
        await self.submit(_PutVersion(digest, kind, body))

    async def version(self, digest: str, kind: str) -> bytes | None:
        """The body of a kept version, or None."""
        return await self._read(self._reads.version, digest, kind)

    async def incident(self, prefix: str) -> IncidentRow | None:
        """By id, or by a beginning that only one has. Raises Rejected when several begin so."""
        return await self._read(self._reads.incident, prefix)

    async def incidents(
        self,
        status: str | None = None,
        target: str | None = None,
        limit: int = 100,
        before: str | None = None,
        namespace: str | None = None,
    ) -> list[IncidentRow]:
        """Newest first, of one namespace or of all.

        `status`: `open` (any not closed) or a status word; `before`: the id of the last one seen.
        """
        return await self._read(self._reads.incidents, status, target, limit, before, namespace)

    async def events(self, incident_id: str, after_seq: int = 0) -> list[Event]:
        """A journal, oldest first, from the event behind `after_seq` on."""
        return await self._read(self._reads.events, incident_id, after_seq)

    async def due_timers(self, now: int, owner: str, limit: int) -> list[tuple[str, Due]]:
        """`(subject, due)`, oldest first; work of incidents that another owner holds a valid lease of is left out."""
        return await self._read(self._reads.due_timers, now, owner, limit)

    async def armed(self) -> set[tuple[str, str, int]]:
        """The keys (subject, kind, round) of all timers that are kept."""
        return await self._read(self._reads.armed)

    async def next_timer_due(self, now: int, owner: str) -> int | None:
        """When to look again: the earliest timer that is free for `owner`, or the end of another's lease."""
        return await self._read(self._reads.next_timer_due, now, owner)

    async def due_messages(self, now: int, limit: int, held: Collection[str] = ()) -> list[MessageRow]:
        """What may be sent now: by lane, then the most severe, then the oldest; only the first of each order key.
        Nothing of destinations that are `held`."""
        return await self._read(self._reads.due_messages, now, limit, held)

    async def unaccepted_pages(self, limit: int) -> list[MessageRow]:
        """Pages that their destination has not taken and no other channel has yet, whatever they wait behind: the
        oldest `limit` of each destination."""
        return await self._read(self._reads.unaccepted_pages, limit)

    async def next_message_due(self, after: int = -1, held: Collection[str] = ()) -> int | None:
        """The earliest `next_at` beyond `after` of what waits to be sent and is first of its order key, destinations
        that are `held` left out; None: nothing waits."""
        return await self._read(self._reads.next_message_due, after, held)

    async def message(self, message_id: str) -> MessageRow | None:
        """One message by its id, or None."""
        return await self._read(self._reads.message, message_id)

    async def waiting_messages(self, order_key: str, now: int, limit: int) -> list[MessageRow]:
        """What of one order may be sent now, in its order."""
        return await self._read(self._reads.waiting_messages, order_key, now, limit)

    async def messages_of(self, incident_id: str) -> list[MessageRow]:
        """Every message of an incident, in the order of writing."""
        return await self._read(self._reads.messages_of, incident_id)

    async def scopes(self, prefix: str = "") -> list[ScopeRow]:
        """Scopes whose name begins with `prefix`, by name."""
        return await self._read(self._reads.scopes, prefix)

    async def dead_letters(self, state: str | None = "open") -> list[DeadLetterRow]:
        """Oldest first; `state` None: whatever became of them."""
        return await self._read(self._reads.dead_letters, state)

    async def dead_messages(self, limit: int) -> list[MessageRow]:
        """What a destination refused for good, newest first."""
        return await self._read(self._reads.dead_messages, limit)

    async def stuck_pages(self, before: int) -> set[str]:
        """The destinations that have not accepted a page which was written before then (µs)."""
        return await self._read(self._reads.stuck_pages, before)

    async def notifications(
        self, since: int, until: int, limit: int, after: str | None = None, namespace: str | None = None
    ) -> list[NotificationRow]:
        """Received in `[since, until)`, oldest first, from the one behind `after` (an id) on; of all namespaces or one.

        At most `limit`, fewer where their bodies are large, none only at the end.
        """
        return await self._read(self._reads.notifications, since, until, limit, after, namespace)

    async def receivers(self, since: int) -> set[str]:
        """The receivers by whose name live notifications came since then (µs)."""
        return await self._read(self._reads.receivers, since)

    async def pinned_rules(self) -> set[str]:
        """The rules that open incidents began with, by hash."""
        return await self._read(self._reads.pinned_rules)

    async def firing_episodes(self) -> list[EpisodeRow]:
        """The live ones that have not ended."""
        return await self._read(self._reads.firing_episodes)

    async def orphans(self, owner: str) -> list[str]:
        """Ids of open incidents that another owner holds, oldest first."""
        return await self._read(self._reads.orphans, owner)

    async def open_incidents(self) -> int:
        """How many live incidents are open."""
        return await self._read(self._reads.open_incidents)

    async def ping(self) -> None:
        """Raises StoreUnavailable unless the database answers."""
        await self._read(self._reads.ping)

    async def _read(self, read: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
        if self._inline:
            return read(*args, **kwargs)
        return await asyncio.to_thread(self._counted, partial(read, *args, **kwargs))

    def _counted(self, read: Callable[[], Answer]) -> Answer:
        with self._read_over:
            self._reading += 1
        try:
            return read()
        finally:
            with self._read_over:
                self._reading -= 1
                self._read_over.notify_all()

    def _deliver(self, committed: Committed) -> None:
        for callback in self._committed:
            callback(committed)

    def _wake(self) -> None:
        """From the listener's thread."""
        if self._loop is None:
            return
        try:
            for callback in self._woken:
                self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return  # the loop is closed: nobody is left to wake


def open_store(url: str, clock: Clock, *, inline: bool = False) -> Store:
    """Open and migrate the database of `url`: `sqlite:///PATH`, `sqlite://` (memory, always inline), `postgresql://…`.

    `clock` gives microseconds since the epoch and should be steady. Blocks. Raises BadConfig when the URL is of no use,
    another process has the file, or the schema is of a newer program; StoreUnavailable when it cannot be reached.
    """
    database = _database(url, clock)
    try:
        migrate(database)
        return Store(database, clock, inline=inline or url == "sqlite://")
    except BaseException:
        database.close()
        raise


@cache
def _migrated() -> bytes:
    """A database in memory that is migrated already: short simulations would spend a third of their time on it."""
    database = SqliteDatabase(None)
    try:
        migrate(database)
        return database.image()
    finally:
        database.close()


def _database(url: str, clock: Clock) -> Database:
    scheme, found, rest = url.partition("://")
    if found and scheme == "sqlite":
        if rest and not rest.startswith("/"):
            raise BadConfig(f"store: {url!r} is not a path; write sqlite:///relative/path or sqlite:////absolute/path")
        return SqliteDatabase(Path(rest[1:])) if rest else SqliteDatabase(None, _migrated())
    if found and scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        return PostgresDatabase(f"postgresql://{rest}", clock)
    raise BadConfig("store: the URL must begin with sqlite:/// (one process) or postgresql:// (several replicas)")
