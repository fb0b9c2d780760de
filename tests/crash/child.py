"""What runs in a process that may be killed: the real store, engine, performer and delivery, in virtual time.

Time moves only while nothing can run and the store's thread has nothing to write, so that leases, timeouts and hours of
escalation cost nothing and every campaign finds the same kill points. Patched from outside, for the product has no test
branch: the session's commit (kill points), the writer's turns, and the offset of PostgreSQL's time, which knows nothing
of virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from responder.actions import ACTIONS
from responder.alert import Limits, parse_notification
from responder.connections import Connections
from responder.desk import Desk, Shelf
from responder.draft import Worker
from responder.engine.delivery import Delivery, Destinations
from responder.engine.loops import Loop
from responder.engine.runs import Runs
from responder.engine.timers import Timers
from responder.errors import Rejected, StoreUnavailable
from responder.ingest import Ingest, Received
from responder.notifiers import message_templates
from responder.perform import Performer
from responder.records import NotificationRow
from responder.rules import Rules
from responder.store import Committed, Store, open_store
from responder.store.postgres import PostgresDatabase, PostgresSession
from responder.store.sqlite import SqliteSession
from responder.store.writer import Writer
from responder.timing import MINUTE, SECOND
from responder.virtual_time import VirtualClock, VirtualLoop, _Selector
from tests.crash.faults import Fault, Faults
from tests.crash.scenarios import CHATS, PAGERS, PARAMETERS, RULES, SERVICES
from tests.crash.wire import Wire, WireChat, WirePager, WireTransport
from tests.invariants import Accepted, Call, Ledger, Sent, violations

LEASE: Final = 15 * SECOND
LONGEST: Final = 20 * MINUTE
"""Virtual time after which a process is judged as it stands."""
LOOKS: Final = 5
"""Virtual seconds between two looks whether all is quiet."""
TEMPLATES: Final = message_templates(None)


@dataclass(frozen=True)
class Life:
    """One process: its store, who it is, when (µs) it starts, and at which point it dies or is stopped (0: never)."""

    url: str
    owner: str
    start: int
    kill_at: int = 0
    stop_at: int = 0
    fault: Fault | None = None


class _Turns:
    """The loop and the store's thread take turns: the thread works while the loop can do nothing but wait for it.

    So the same operations share a commit every time, and a kill in one never falls into the middle of the other.
    """

    def __init__(self) -> None:
        self.open = 0
        self.rejected = 0
        self._given = False
        self._turn = threading.Semaphore(0)

    def give(self) -> None:
        """The loop has nothing else to do: the thread may take what waits, once."""
        if not self._given:
            self._given = True
            self._turn.release()

    def install(self) -> None:
        """Patch the writer."""
        submit, taken, resolve = Writer.submit, Writer._taken, Writer._resolve

        async def counted(writer: Writer, operation: Any) -> Any:
            self.open += 1
            try:
                return await submit(writer, operation)
            except Rejected:
                self.rejected += 1
                raise
            finally:
                self.open -= 1

        def in_turn(writer: Writer) -> Any:
            self._turn.acquire()
            return taken(writer)

        def answered(writer: Writer, *args: Any) -> None:
            self._given = False
            resolve(writer, *args)

        patched: Any = Writer
        patched.submit = counted
        patched._taken = in_turn
        patched._resolve = answered


class _Waiting(_Selector):
    """Waits for real while the store's thread works; else time moves."""

    def __init__(self, clock: VirtualClock, turns: _Turns) -> None:
        super().__init__(clock)
        self._turns = turns

    def select(self, timeout: float | None = None) -> list[tuple[Any, int]]:
        if self._turns.open == 0 or (timeout is not None and timeout <= 0):
            return super().select(timeout)
        self._turns.give()
        return self._real.select(None)


class _Loop(VirtualLoop):
    def __init__(self, clock: VirtualClock, turns: _Turns) -> None:
        asyncio.SelectorEventLoop.__init__(self, _Waiting(clock, turns))
        self._virtual = clock


class _AtOnce(ThreadPoolExecutor):
    """Reads of the store run where they are asked for."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  handed to whoever waits
            future.set_exception(error)
        return future


def _kill_around_commits(wire: Wire) -> None:
    for session in (SqliteSession, PostgresSession):
        session.commit = _killing(session.commit, wire)  # type: ignore[method-assign]


def _killing(commit: Callable[..., None], wire: Wire) -> Callable[..., None]:
    def killing(session: Any, statements: Sequence[Any], *, wake: bool) -> None:
        said = _recorded(statements)
        wire.point(f"before commit {said}")
        commit(session, statements, wake=wake)
        wire.point(f"after commit {said}")

    return killing


def _recorded(statements: Sequence[Any]) -> str:
    """The facts of a group: `kind` of each, with the effect class and the step of an intent."""
    rows = [row for _, rows in statements for row in rows]
    kinds = [row["kind"] for row in rows if "actor" in row]
    marks = [m for row in rows if "actor" in row for m in _marks(row)]
    return " ".join([*kinds, *marks])


def _marks(row: Any) -> list[str]:
    if row["kind"] == "attempt_intended" and '"effect":"unsafe"' in row["body"]:
        return ["INTENDED-UNSAFE"]
    return ["ENDED-UNSAFE"] if row["kind"] == "attempt_ended" and ".tell_desk." in row["body"] else []


class Process:
    """A responder without its HTTP edge, with Alertmanager's side of the webhook."""

    def __init__(self, life: Life, wire: Wire, rules: Rules, clock: VirtualClock) -> None:
        self.wire = wire
        self.clock = clock
        self.store = open_store(life.url, clock)
        worker = Worker(life.owner, lease=LEASE, alone=life.url.startswith("sqlite"))
        self.desk = Desk(self.store, Shelf(rules, "crash", PARAMETERS), worker, lambda: uuid4().hex, _no_older)
        transport = WireTransport(wire, self.store.now)
        connections = Connections(SERVICES, lambda _service: transport)
        performer = Performer(ACTIONS, connections.connect, PARAMETERS, self.store.now, asyncio.sleep)
        notifiers = {name: WireChat(name=name).connected(wire, self.store.now) for name in CHATS}
        pagers = {name: WirePager(name=name).connected(wire, self.store.now) for name in PAGERS}
        self.delivery = Delivery(self.desk, Destinations({**notifiers, **pagers}, TEMPLATES.render, None), lambda: 0.5)
        self.runs = Runs(self.desk, performer, self.delivery.ask)
        self.desk.on_turn = self.runs.take
        self.timers = Timers(self.desk)
        self.loops = (
            Loop("timers", self.timers.work, self.store.now, 5 * SECOND),
            Loop("delivery", self.delivery.work, self.store.now, 5 * SECOND),
        )
        self.delivery.wake = self.loops[1].wake
        self.store.on_commit(self._committed)

    def _committed(self, committed: Committed) -> None:
        if committed.timers is not None:
            self.loops[0].due_by(committed.timers)
        if committed.messages:
            self.loops[1].wake()

    async def live(self) -> None:
        """Recover, then work and be told by Alertmanager until all is quiet."""
        while not await self._recovered():
            self.wire.ask(alertmanager=self.store.now())  # in vain, but time goes on for the database that is away
            await asyncio.sleep(LOOKS)
        tasks = [asyncio.create_task(loop.run()) for loop in self.loops]
        told = asyncio.create_task(self._alertmanager())
        end = self.clock() + LONGEST
        while self.clock() < end and not await self._quiet():  # noqa: ASYNC110  from outside, as a test looks
            await asyncio.sleep(LOOKS)
        for task in (*tasks, told):
            task.cancel()

    async def _recovered(self) -> bool:
        try:
            await self.timers.recover()
        except StoreUnavailable:
            return False
        return True

    async def _quiet(self) -> bool:
        try:
            return await self._nothing_left()
        except StoreUnavailable:
            return False

    async def _nothing_left(self) -> bool:
        waits = self.wire.ask(alertmanager=self.store.now())["status"] is not None or self.runs.busy
        if waits or await self.store.next_message_due() is not None:
            return False
        return not await self.store.incidents(status="open")

    async def _alertmanager(self) -> None:
        """Sends what is not acknowledged yet, again and again; also once what was, as its cluster may."""
        again = self.wire.ask(repeated=True)["status"]
        while True:
            status = self.wire.ask(alertmanager=self.store.now())["status"]
            for notified in dict.fromkeys(s for s in (again, status) if s is not None):
                with contextlib.suppress(StoreUnavailable):  # answered 503, so it is sent again
                    await self.ingest(notified)
            again = None
            await asyncio.sleep(10)

    async def ingest(self, status: str) -> Received:
        """What the webhook does with one notification."""
        body = self.wire.ask(notification=status)["body"].encode()
        notification = parse_notification(body, Limits())
        row = NotificationRow(self.desk.new_id(), "live", 0, "am", "responder", "{}:{}", 1, 0, body)
        worker, operation = self.desk.worker, self.desk.new_id()
        self.wire.point(f"before ingest {status}")
        received = await self.desk.submit(lambda shelf: Ingest(operation, notification, row, shelf, worker))
        self.desk.take(received.turns)
        self.wire.point(f"before answer {status}")
        fingerprints = [a.fingerprint for a in notification.alerts]
        self.wire.tell(accepted={"status": status, "fingerprints": fingerprints})
        self.wire.point(f"after answer {status}")
        return received


async def _no_older(_hash: str) -> None:
    return None


def ledger_of(told: dict[str, Any]) -> Ledger:
    """The parent's ledger again."""
    return Ledger(
        calls=tuple(Call(**c) for c in told["calls"]),
        messages=tuple(Sent(**m) for m in told["messages"]),
        accepted=tuple(Accepted(a["status"], tuple(a["fingerprints"])) for a in told["accepted"]),
        unexpected=tuple(told["unexpected"]),
        totals=told["totals"],
    )


async def _report(store: Store, wire: Wire, rejected: int) -> None:
    found = await violations(store, ledger_of(wire.ask(ledger=True)))
    rows = await store.incidents()
    runs = [
        {
            "incident": row.id,
            "closed": row.closed,
            "runs": [[r.runbook, r.result and r.result.value, r.why] for r in row.fold.runs],
            "unsettled": [a.id for a in row.fold.unsettled],
            "urgent": row.fold.urgent,
        }
        for row in rows
    ]
    locks = {s.name: s.body for s in await store.scopes("lock:") if s.body}
    journal = [[e.seq, e.at, e.fact.model_dump_json()] for r in rows for e in await store.events(r.id)]
    wire.tell(report={"violations": found, "incidents": runs, "locks": locks, "journal": journal, "rejected": rejected})


def in_child(work: Callable[[_Turns], Coroutine[Any, Any, None]], clock: VirtualClock) -> None:
    """Run it on a loop of virtual time that waits for the store's thread."""
    turns = _Turns()
    turns.install()
    PostgresDatabase.offset = lambda self: 0  # type: ignore[method-assign]
    loop = _Loop(clock, turns)
    loop.set_default_executor(_AtOnce(1))
    loop.run_until_complete(work(turns))


def main(end: socket.socket, life: Life) -> None:
    """Live, and report if that comes to an end by itself."""
    clock = VirtualClock(life.start)
    wire = Wire(end, life.kill_at, life.stop_at, lambda now: clock.move(max(0, now - clock()) / SECOND))
    _kill_around_commits(wire)
    faults = Faults(life.fault, life.url.startswith("sqlite"), clock)
    faults.install()

    async def work(turns: _Turns) -> None:
        process = Process(life, wire, RULES, clock)
        await process.live()
        faults.over()
        wire.tell(report={"operations": faults.count, "failed": faults.failed})
        await _report(process.store, wire, turns.rejected)

    in_child(work, clock)
    os._exit(0)
