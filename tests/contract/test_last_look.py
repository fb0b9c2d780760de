"""Right before the bytes of a change leave a pause is looked for: in every action, behind its permit and connection."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from responder import permits
from responder.actions import ACTIONS
from responder.circuit_breakers import CircuitBreaker
from responder.command_processes import CommandCall, CommandConnection, Ran
from responder.connections import HttpConnection, open_transport
from responder.contracts import Secret
from responder.errors import HeldBack, Temporary
from responder.http_calls import HttpCall
from responder.kubernetes_calls import PODS, KubernetesCall
from responder.kubernetes_connections import KubernetesConnection
from responder.kubernetes_connections import LibraryWire as ClusterLibrary
from responder.perform import Ended
from responder.postgres_connections import PostgresConnection, Rows, SqlCall
from responder.recorded import Outcome, Plan
from responder.redis_connections import RedisCall, RedisConnection
from responder.services import CommandService, HttpService, KubernetesService, PostgresService, RedisService
from responder.timing import SECOND
from tests.contract.action_world import MEMBERS, Member, World, performer, prepare

WHY = "automation is paused by alice"
CHANGES = {name: member for name, member in MEMBERS.items() if not member.reads}
READS = {name: member for name, member in MEMBERS.items() if member.reads}
UNDONE = {f"{name}, put back": member for name, member in CHANGES.items() if member.undoes}


@dataclass
class Permits:
    """Stands in for `permits.permit`. `pauses_at`: the number of the permit that has to be waited for, all being taken;
    meanwhile automation is paused. `changed_in`: the number of the one under which the world was changed."""

    world: World
    pauses_at: int = 0
    asked: int = 0
    changed_in: int = 0
    paused: bool = False
    looks: int = 0
    before: int = field(init=False)

    def __post_init__(self) -> None:
        self.before = len(self.world.changes)

    @contextlib.asynccontextmanager
    async def permit(self, free: asyncio.Semaphore, patience: float, busy: Exception) -> AsyncIterator[None]:
        """See permits.permit."""
        self.asked += 1
        mine = self.asked
        if mine == self.pauses_at:
            taken = 0
            while not free.locked():
                await free.acquire()
                taken += 1
            asyncio.get_running_loop().call_soon(self._pause, free, taken)
        async with permits.permit(free, patience, busy):
            yield
        if self.changed and not self.changed_in:
            self.changed_in = mine

    def _pause(self, free: asyncio.Semaphore, taken: int) -> None:
        self.paused = True
        for _ in range(taken):
            free.release()

    async def held(self) -> str | None:
        """The last look, as the engine answers it."""
        self.looks += 1
        return WHY if self.paused else None

    @property
    def changed(self) -> bool:
        """Whether a change has reached the world since."""
        return len(self.world.changes) > self.before


async def acted(monkeypatch: pytest.MonkeyPatch, member: Member, back: bool, pauses_at: int) -> tuple[Ended, Permits]:
    """One act of this member in a world of its own; `back`: of the plan that puts it back."""
    world = World()
    plan = await prepare(world, member)
    if back:
        assert (await performer(world).act(member.action, plan, "first", 10 * SECOND)).outcome is Outcome.OK
        plan = await performer(world).undo(member.action, plan, 10 * SECOND)
    counted, original = Permits(world, pauses_at), permits.permit
    with monkeypatch.context() as patched:
        for name, module in list(sys.modules.items()):
            if name.startswith("responder.") and module is not permits and getattr(module, "permit", None) is original:
                patched.setattr(module, "permit", counted.permit)
        ended = await performer(world).act(member.action, plan, "key", 10 * SECOND, counted.held)
    assert world.unexpected == []
    return ended, counted


def test_every_action_that_can_change_something_is_looked_at() -> None:
    able = {name for name, action in ACTIONS.items() if not action.reads_only and name != "wait"}
    assert {member.action for member in CHANGES.values()} == able


@pytest.mark.parametrize(
    ("member", "back"),
    [*((member, False) for member in CHANGES.values()), *((member, True) for member in UNDONE.values())],
    ids=[*CHANGES, *UNDONE],
)
async def test_a_pause_that_comes_while_a_change_waits_for_its_permit_holds_it_back(
    monkeypatch: pytest.MonkeyPatch, member: Member, back: bool
) -> None:
    ended, undisturbed = await acted(monkeypatch, member, back, pauses_at=0)
    assert (ended.outcome, undisturbed.changed, ended.held_back) == (Outcome.OK, True, False), ended.detail
    assert undisturbed.looks == 1, "once for the change, and for no question"
    ended, paused = await acted(monkeypatch, member, back, pauses_at=undisturbed.changed_in)
    assert paused.paused
    assert (ended.outcome, ended.held_back, paused.changed) == (Outcome.TEMPORARY, True, False), ended.detail
    assert ended.detail == f"nothing was sent: {WHY}"


@pytest.mark.parametrize(
    "member", [m for m in MEMBERS.values() if m.reads], ids=[n for n in MEMBERS if n not in CHANGES]
)
async def test_what_only_reads_is_not_held_back(monkeypatch: pytest.MonkeyPatch, member: Member) -> None:
    ended, asked = await acted(monkeypatch, member, back=False, pauses_at=1)
    assert (ended.outcome, asked.looks) == (Outcome.OK, 0), ended.detail


# --- the connections --------------------------------------------------------------------------------------------------


@dataclass
class Course:
    """What happened in which order; from the look of the number `from_` on it is held back."""

    from_: int = 1
    steps: list[str] = field(default_factory=list)

    async def clear(self) -> None:
        self.steps.append("look")
        if self.steps.count("look") >= self.from_:
            raise HeldBack(WHY)


@dataclass
class Wire:
    """A connection to a Redis or a PostgreSQL."""

    course: Course
    shook_hands: bool = False

    async def connect(self) -> None:
        self.course.steps.append("connect")

    async def ask(self, _asked: Any) -> Any:
        self.course.steps.append("ask")
        return []

    async def close(self) -> None:
        self.course.steps.append("close")


@pytest.mark.parametrize(
    ("changes", "from_", "steps"),
    [
        (True, 1, ["connect", "look", "close"]),
        (True, 2, ["connect", "look", "ask", "close"]),
        (False, 1, ["connect", "ask", "close"]),
    ],
)
async def test_redis_and_postgres_look_behind_the_login(changes: bool, from_: int, steps: list[str]) -> None:
    held = contextlib.suppress(HeldBack)
    redis, sql = Course(from_), Course(from_)
    cache = RedisConnection("cache", RedisService(url="redis://cache"), lambda *_: Wire(redis))
    with held:
        await cache.send(RedisCall(("SET", "a", "1"), changes), 1.0, redis.clear)
    db = PostgresConnection(
        "db", PostgresService(url="postgresql://db/t", username="r", tls="off"), lambda *_: Wire(sql)
    )
    with held:
        async with db.session(1.0) as session:
            rows: Rows = await session.ask(SqlCall("a change", "SELECT 1", changes=changes), sql.clear)
            assert rows == []
    assert (redis.steps, sql.steps) == (steps, steps)


@pytest.mark.parametrize(("reads", "ran"), [(False, []), (True, ["look.sh"])])
async def test_a_program_that_changes_something_is_not_started(reads: bool, ran: list[str], tmp_path: Path) -> None:
    started, course = list[str](), Course()

    async def launch(_service: CommandService, call: CommandCall, _environment: Any) -> Ran:
        started.append(call.command)
        return Ran(0, "", "")

    scripts = CommandConnection("scripts", CommandService(folder=str(tmp_path)), launch)
    with contextlib.suppress(HeldBack):
        await scripts.run(CommandCall("look.sh", reads=reads), 1.0, course.clear)
    assert started == ran


@dataclass
class Listener:
    """A server that takes connections, and answers every request with an empty object. `heard`: what came on each."""

    heard: list[bytes] = field(default_factory=list)
    served: asyncio.Event = field(default_factory=asyncio.Event)

    async def _serves(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = await reader.read(65536)
        self.heard.append(heard.partition(b"\r\n")[0])
        self.served.set()
        if heard:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._serves, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await server.wait_closed()

    async def has_heard(self) -> list[bytes]:
        """Once one connection has been served."""
        async with asyncio.timeout(10):
            await self.served.wait()
        return self.heard


HELD = b""
"""It was connected to, and nothing was said."""


async def test_http_looks_again_once_it_is_connected() -> None:
    """Connecting may take seconds, too: the pause comes meanwhile."""
    for from_, first_line in ((2, HELD), (3, b"POST /stop HTTP/1.1")):
        server, course = Listener(), Course(from_)
        async with server.listening() as url:
            risk = HttpConnection("risk", HttpService(url=url), open_transport)
            with contextlib.suppress(HeldBack):
                await risk.send(HttpCall("POST", "/stop"), 5.0, course.clear)
            assert await server.has_heard() == [first_line]
            assert course.steps == ["look", "look"]
            await risk.close()


async def test_a_question_over_http_is_not_looked_at() -> None:
    server, course = Listener(), Course()
    async with server.listening() as url:
        risk = HttpConnection("risk", HttpService(url=url), open_transport)
        assert (await risk.send(HttpCall("GET", "/status"), 5.0, course.clear)).status == 200
        assert (await risk.send(HttpCall("POST", "/query", reads=True), 5.0, course.clear)).status == 200
        assert course.steps == []
        await risk.close()


@pytest.mark.parametrize(
    ("call", "from_", "first_line"),
    [
        (KubernetesCall("delete", PODS, "trading", "a"), 1, HELD),
        (KubernetesCall("delete", PODS, "trading", "a"), 2, b"DELETE /api/v1/namespaces/trading/pods/a HTTP/1.1"),
        (KubernetesCall("get", PODS, "trading", "a"), 1, b"GET /api/v1/namespaces/trading/pods/a HTTP/1.1"),
        (
            KubernetesCall("delete", PODS, "trading", "a", dry_run=True),
            1,
            b"DELETE /api/v1/namespaces/trading/pods/a?dryRun=All HTTP/1.1",
        ),
    ],
)
async def test_kubernetes_looks_once_it_is_connected(call: KubernetesCall, from_: int, first_line: bytes) -> None:
    """Behind the credential, which an exec plugin may take seconds to give."""
    server, course = Listener(), Course(from_)
    async with server.listening() as url:
        token = Secret("env TOKEN", lambda: "t")
        service = KubernetesService(url=url, token=token, namespaces=("trading",))
        cluster = KubernetesConnection("cluster", service, ClusterLibrary)
        with contextlib.suppress(HeldBack):
            await cluster.send(call, 5.0, course.clear)
        assert await server.has_heard() == [first_line]


async def test_what_was_held_back_says_nothing_of_the_service() -> None:
    server, course = Listener(), Course()
    async with server.listening() as url:
        breaker = CircuitBreaker(failures=1, open_for="1m")
        risk = HttpConnection("risk", HttpService(url=url, circuit_breaker=breaker), open_transport)
        for _ in range(3):
            with pytest.raises(HeldBack, match=f"^nothing was sent: {WHY}$"):
                await risk.send(HttpCall("POST", "/stop"), 5.0, course.clear)
        assert (await risk.send(HttpCall("POST", "/stop"), 5.0)).status == 200
        await risk.close()


# --- statements -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("looks", "ended", "said"),
    [
        (2, {"ended": 1, "ending": 0, "left": 0, "refused": 0, "held": 2}, f"db: 1 ended, 2 held back ({WHY})"),
        (3, {"ended": 2, "ending": 0, "left": 0, "refused": 0, "held": 1}, f"db: 2 ended, 1 held back ({WHY})"),
        (4, {"ended": 3, "ending": 0, "left": 0, "refused": 0, "held": 0}, "db: 3 ended"),
    ],
)
async def test_statements_that_a_pause_left_alone_are_counted(looks: int, ended: dict[str, int], said: str) -> None:
    world, asked = World(slow_queries=[1, 2, 3]), 0
    plan: Plan = await prepare(world, MEMBERS["sql terminate"])

    async def held() -> str | None:
        nonlocal asked
        asked += 1
        return WHY if asked >= looks else None

    done = await performer(world).act("postgres.terminate_queries", plan, "key", 10 * SECOND, held)
    assert (done.outcome, done.output, done.detail) == (Outcome.OK, ended, said)
    assert len(world.slow_queries) == ended["held"]


def test_held_back_is_known_to_have_done_nothing() -> None:
    error = HeldBack(WHY)
    assert (isinstance(error, Temporary), error.why, error.retry_after) == (True, WHY, None)
