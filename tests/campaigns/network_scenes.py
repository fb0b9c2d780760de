"""C9: the servers behind the proxy, what is asked of them, and the ledger of what they have done.

HTTP, Prometheus, Alertmanager and Kubernetes are the world of the contract of actions, served over TCP; Redis, its
Sentinel and PostgreSQL are real, except where somebody takes over (`network_promotions`). Redis tells its own ledger:
whoever listens hears each message and each write. A statement that is ended in PostgreSQL begins again, so a second end
would be seen.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import redis.asyncio
import trustme

from responder.actions import ACTIONS
from responder.connections import Connections, Openers, open_transport
from responder.contracts import Secret, Service
from responder.perform import Performer
from responder.recorded import Effect
from responder.services import (
    AlertmanagerService,
    HttpService,
    KubernetesService,
    PostgresService,
    PrometheusService,
    RedisSentinelService,
    RedisService,
)
from responder.wall_clock import wall_clock
from tests.campaigns import network_promotions as promotions
from tests.campaigns.network_faults import TIMEOUT
from tests.campaigns.network_origin import Origin
from tests.campaigns.network_promotions import FAILOVER, OF_TWO, PLANNED, PROMOTION
from tests.contract.action_world import MEMBERS, NOW, PARAMETERS, Member, World
from tests.contract.sql_world import TOKEN
from tests.fakes.proxy import FaultProxy, Line
from tests.servers import Postgres, Redis, Sentinel, Server

BODY = 64 * 1024
"""Bytes of an answer over HTTP that the services here allow."""
MASTER = "mymaster"
_OVER_HTTP = ("http.", "parameter.", "prometheus.", "alertmanager.", "kubernetes.")
_ABSENT = {"redis.timeseries_range"}
"""Not played: Debian's Redis has no time series module."""
FAILOVER_TIMEOUT = TIMEOUT * 6
"""Seconds that a failover has, whose page asks for 30 s instead of ten. It is twice that in proportion, for some twenty
questions share it."""
_OVER_TLS = ("reduce", "unsafe", "query", "silence", "scale", "restart")


@dataclass(frozen=True)
class Subject:
    """A use of an action, and the protocol that is spoken for it."""

    name: str
    protocol: str
    member: Member
    served: str = ""
    """By what, where that is not the protocol's usual server."""
    timeout: float = TIMEOUT
    """Seconds that its step has."""

    @property
    def unsure(self) -> bool:
        """Whether nobody can tell that a change whose answer was lost did not happen: it may still come."""
        return self.member.action == "postgres.promote"

    @property
    def ends(self) -> bool:
        """Whether it needs somebody whose statement it ends."""
        return self.member.action == "postgres.terminate_queries"


def _subjects() -> dict[str, Subject]:
    found = [Subject(n, "http", m) for n, m in MEMBERS.items() if m.action.startswith(_OVER_HTTP)]
    found += [Subject(f"{n}, TLS", "https", MEMBERS[n]) for n in _OVER_TLS]
    for name, member in MEMBERS.items():
        if member.action.startswith("redis.") and member.with_["service"] == "cache" and member.action not in _ABSENT:
            found.append(Subject(name, "redis", member))
    for name in ("redis get", "redis reload", "redis message", "redis write"):
        member = MEMBERS[name]
        watched = replace(member, with_={**member.with_, "service": "trading-redis"})
        found.append(Subject(f"{name}, Sentinel", "redis", watched))
    found.append(Subject("redis Sentinels", "redis", MEMBERS["redis Sentinels"]))
    readers = ("sql replication", "sql long queries", "sql pool", "sql statements")
    found += [Subject(n, "postgres", MEMBERS[n]) for n in readers]
    ends = MEMBERS["sql terminate"]
    for how in ("cancel", "terminate"):
        ended = replace(ends, with_={**ends.with_, "older_than": "1s", "how": how})
        found.append(Subject(f"sql {how}", "postgres", ended))
    found.append(Subject("failover", "redis", FAILOVER, "sentinels", FAILOVER_TIMEOUT))
    found.append(Subject("failover, planned", "redis", PLANNED, "sentinels", FAILOVER_TIMEOUT))
    found.append(Subject("Patroni, failover", "http", PROMOTION, "patroni"))
    found.append(Subject("Patroni, switchover", "http", PROMOTION, "patroni that leads"))
    found.append(Subject("promote", "postgres", PROMOTION, "standbys"))
    found.append(Subject("promote, one of two", "postgres", OF_TWO, "standbys"))
    return {one.name: one for one in found}


SUBJECTS = _subjects()


@dataclass
class Scene:
    """One case: who acts, and what the server's ledger says.

    `changes`: how many changes were asked of the server. `effects`: how many took place, where a key makes them differ.
    """

    performer: Performer
    member: Member
    changes: Callable[[], Awaitable[int]]
    effects: Callable[[], int | None] = lambda: None
    state: Callable[[], object] = lambda: None
    unexpected: Callable[[], list[str]] = list


@dataclass
class Victim:
    """A session whose statement is to be ended; `role` is its own. It begins another one, as reports do that are tried
    again."""

    role: str
    ended: int = 0


@dataclass
class Ground:
    """The servers that all cases share. Start it with `async with`."""

    servers: frozenset[str] = frozenset({"redis", "postgres"})
    """Which of the real ones are wanted."""
    heard: dict[str, int] = field(default_factory=dict)
    _victims: list[Victim] = field(default_factory=list)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _synced: int = 0

    async def __aenter__(self) -> Self:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="responder-campaign-")))
        authority, other = trustme.CA(), trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        self.trust, self.stranger = _certified(authority), _certified(other)
        if "redis" in self.servers:
            await self._start_redis()
        if "postgres" in self.servers:
            settings = {"max_connections": "400", "shared_preload_libraries": "pg_stat_statements"}
            self.postgres = await self._started(Postgres(settings=settings))
            grants = ACTIONS["postgres.terminate_queries"].grants
            for statement in ("CREATE ROLE responder LOGIN", "CREATE EXTENSION pg_stat_statements", *grants):
                self.postgres.execute(statement.format(role="responder"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def _started(self, server: Any) -> Any:
        assert isinstance(server, Server)
        await asyncio.to_thread(server.__enter__)
        self._stack.push(server.__exit__)
        return server

    # --- Redis --------------------------------------------------------------------------------------------------------

    async def _start_redis(self) -> None:
        self.redis = await self._started(Redis(settings={"notify-keyspace-events": "K$"}))
        self.sentinel = await self._started(Sentinel(self.redis, MASTER))
        self.client = redis.asyncio.Redis(port=self.redis.port, decode_responses=True)
        self._stack.push_async_callback(self.client.aclose)
        await self.client.set("var_pct:BTC-USD", "2.13")
        await self.client.hset("volatility_estimates", "BTC-USD", "4.8")
        await self.client.xadd("model.switch.log", {"from": "a", "to": "b"})
        listener = self.client.pubsub()
        self._stack.push_async_callback(listener.aclose)
        await listener.psubscribe("*")
        self._tasks.append(asyncio.create_task(self._listen(listener)))

    async def _listen(self, listener: Any) -> None:
        async for said in listener.listen():
            if said["type"] == "pmessage":
                self.heard[said["channel"]] = self.heard.get(said["channel"], 0) + 1

    async def _heard(self, channel: str) -> int:
        """How often something was said there, all that was done before this call among it."""
        self._synced += 1
        marker = f"synced-{self._synced}"
        await self.client.publish(marker, "")
        async with asyncio.timeout(30):
            while marker not in self.heard:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        return self.heard.get(channel, 0)

    # --- PostgreSQL ---------------------------------------------------------------------------------------------------

    async def victims(self, count: int) -> None:
        """So many sessions with a statement that has run for a second."""
        fresh = [Victim(f"victim_{len(self._tasks)}_{n}") for n in range(count)]
        for one in fresh:
            self.postgres.execute(f"CREATE ROLE {one.role} LOGIN")
            self._tasks.append(asyncio.create_task(self._suffer(one)))
        self._victims += fresh
        old = "SELECT count(*) FROM pg_stat_activity WHERE usename = ANY(%s) AND now() - query_start > '1.1s'"
        async with await psycopg.AsyncConnection.connect(self.postgres.url(), autocommit=True) as admin:
            while True:
                found = await (await admin.execute(old, ([one.role for one in fresh],))).fetchone()
                if found == (count,):
                    return
                await asyncio.sleep(0.1)

    async def _suffer(self, victim: Victim) -> None:
        while True:
            await self._session(victim)

    async def _session(self, victim: Victim) -> None:
        where = f"postgresql://{victim.role}@{self.postgres.address}/postgres?application_name=monthly"
        async with await psycopg.AsyncConnection.connect(where, autocommit=True) as session:
            while True:
                try:
                    await session.execute("SELECT pg_sleep(600)")
                except psycopg.errors.QueryCanceled:
                    victim.ended += 1
                except psycopg.errors.AdminShutdown:
                    victim.ended += 1
                    return

    # --- scenes -------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def scene(self, subject: Subject, line: Line, seed: int, *, lasting: bool) -> AsyncIterator[Scene]:
        """The servers, the proxies and the services of one case. `lasting`: connections serve several requests."""
        async with AsyncExitStack() as stack:
            made = {"redis": self._on_redis, "postgres": self._on_postgres}.get(subject.protocol)
            if subject.served:
                yield await _promoted(subject, line, stack, lasting=lasting)
            elif made is not None:
                yield await made(subject, line, seed, stack)
            else:
                yield await self._over_http(subject, line, stack, lasting=lasting)

    async def _over_http(self, subject: Subject, line: Line, stack: AsyncExitStack, *, lasting: bool) -> Scene:
        member, world = subject.member, World()
        host = str(member.with_.get("service", "risk-api"))
        origin = await stack.enter_async_context(Origin(world, host, lasting=lasting))
        tls = subject.protocol == "https"
        proxy = FaultProxy(line, origin.port, self.trust if tls else None, self.stranger)
        await stack.enter_async_context(proxy)
        url = f"http{'s' if tls else ''}://127.0.0.1:{proxy.port}"
        performer = await _performer(_http_services(url, self.ca_file), stack, line, lambda: NOW)

        async def changes() -> int:
            await asyncio.sleep(0.02)  # what was passed on at the last moment is being done
            return len(world.changes)

        keyed = (lambda: world.orders.get("orders", 0)) if member.effect is Effect.KEYED else (lambda: None)
        unexpected = [world.unexpected, world.cluster.unexpected]
        return Scene(
            performer, member, changes, keyed, lambda: world.state[:3], lambda: [*unexpected[0], *unexpected[1]]
        )

    async def _on_redis(self, subject: Subject, line: Line, seed: int, stack: AsyncExitStack) -> Scene:
        proxy = await stack.enter_async_context(FaultProxy(line, self.redis.port))
        watch = await stack.enter_async_context(FaultProxy(line, self.sentinel.port))
        real, ours = str(self.redis.port).encode(), str(proxy.port).encode()
        assert len(real) == len(ours)
        watch.replaced = {b"\r\n" + real + b"\r\n": b"\r\n" + ours + b"\r\n"}
        services: dict[str, Service] = {
            "cache": RedisService(url=f"redis://127.0.0.1:{proxy.port}"),
            "trading-redis": RedisSentinelService(sentinels=(f"127.0.0.1:{watch.port}",), master=MASTER),
        }
        with_, said = dict(subject.member.with_), ""
        if subject.member.action == "redis.publish":
            said = with_["channel"] = f"{with_['channel']}-{seed}-{proxy.port}"
        elif subject.member.action == "redis.write_test":
            with_["key"] = f"written-{seed}-{proxy.port}"
            said = f"__keyspace@0__:{with_['key']}"
        performer = await _performer(services, stack, line, wall_clock)
        return Scene(performer, replace(subject.member, with_=with_), lambda: self._heard(said))

    async def _on_postgres(self, subject: Subject, line: Line, seed: int, stack: AsyncExitStack) -> Scene:
        proxy = await stack.enter_async_context(FaultProxy(line, self.postgres.port))
        url = f"postgresql://127.0.0.1:{proxy.port}/postgres"
        services: dict[str, Service] = {
            "db": PostgresService(url=url, username="responder", tls="off", timeout="10s"),
        }
        performer = await _performer(services, stack, line, wall_clock)
        if subject.member.reads:
            return Scene(performer, subject.member, _nothing)
        victim = self._victims.pop(0)
        member = replace(subject.member, with_={**subject.member.with_, "users": [victim.role]})

        async def changes() -> int:
            await asyncio.sleep(0.05)  # the victim has to hear of it
            return victim.ended

        return Scene(performer, member, changes)


async def _promoted(subject: Subject, line: Line, stack: AsyncExitStack, *, lasting: bool) -> Scene:
    member = subject.member
    if subject.served == "sentinels":
        stage = await promotions.sentinels(member, line, stack)
    elif subject.served == "standbys":
        stage = await promotions.standbys(member, line, stack)
    else:
        leads = subject.served == "patroni that leads"
        stage = await promotions.patroni(line, stack, leads=leads, lasting=lasting)
    performer = await _performer(stage.services, stack, line, wall_clock, stage.openers)

    async def changes() -> int:
        await asyncio.sleep(0.02)  # what was passed on at the last moment is being done
        while stage.busy():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return stage.changes()

    return Scene(performer, member, changes, stage.effects, unexpected=stage.unexpected)


async def _nothing() -> int:
    return 0


def _http_services(url: str, ca_file: str) -> dict[str, Service]:
    token = Secret("env RISK_TOKEN", lambda: TOKEN)
    tls: dict[str, Any] = {"ca_file": ca_file} if url.startswith("https") else {}
    same: dict[str, Any] = {"url": url, "bearer": token, "max_response_bytes": BODY, **tls}
    cluster: dict[str, Any] = {"url": url, "token": token, "max_response_bytes": BODY, "ca_file": ca_file}
    return {
        "risk-api": HttpService(**same),
        "keyed": HttpService(**same, idempotency_keys=True),
        "metrics": PrometheusService(**same),
        "alertmanager": AlertmanagerService(**same),
        "cluster": KubernetesService(**cluster, namespaces=("trading",)),
    }


async def _performer(
    services: Mapping[str, Service],
    stack: AsyncExitStack,
    line: Line,
    clock: Callable[[], int],
    openers: Openers | None = None,
) -> Performer:
    connections = Connections(services, open_transport, openers or Openers())
    stack.push_async_callback(_closed, connections)

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds * line.pace * TIMEOUT / 10)  # in proportion, as the timeouts are

    return Performer(ACTIONS, connections.connect, PARAMETERS, clock, sleep)


async def _closed(connections: Connections) -> None:
    with suppress(OSError):
        await connections.close()


def _certified(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context
