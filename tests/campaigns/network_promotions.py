"""C9: who is the master, or the primary, is changed: by a Sentinel, by Patroni, by pg_promote.

Twice would be the worst that we can do there, so these servers are the worlds of the contract, which count each command
that arrives. Each Sentinel, each server of Redis and each standby has a port of its own, and a proxy before it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx

from responder import redis_connections
from responder.connections import Openers
from responder.contracts import Service
from responder.redis_connections import OpenWire, Wire
from responder.services import PatroniApi, PostgresService, RedisSentinelService, RedisService
from tests.campaigns.network_origin import Origin
from tests.campaigns.network_wires import PostgresServer, RedisServer
from tests.contract.action_world import MEMBERS, Member, World, WorldWire
from tests.contract.sentinel_world import FAR, HELD, MASTER, NAME, NEAR, SENTINELS, Watched
from tests.contract.sql_world import WorldSql
from tests.fakes.proxy import FaultProxy, Line, unheard

TAKES: Final = 0.03
"""Seconds that a Sentinel has for a failover."""
FENCING: Final = "its StatefulSet is scaled to 0"
FAILOVER: Final = MEMBERS["redis failover"]
PLANNED: Final = replace(FAILOVER, with_={**FAILOVER.with_, "planned": True})
PROMOTION: Final = MEMBERS["sql promote"]
OF_TWO: Final = replace(PROMOTION, with_={"candidates": ["db", "db-2"], "fencing": FENCING})


@dataclass(frozen=True)
class Stage:
    """The services of a case, how they are opened, and its ledger: commands that arrived, and which were taken."""

    services: dict[str, Service]
    openers: Openers
    changes: Callable[[], int]
    effects: Callable[[], int]
    unexpected: Callable[[], list[str]]
    busy: Callable[[], bool] = lambda: False
    """Whether what was asked for is still being done."""


# --- Sentinels --------------------------------------------------------------------------------------------------------


@dataclass
class Unhurried(Watched):
    """Sentinels that need a while for a failover and refuse another one meanwhile."""

    def _failover(self, sentinel: str) -> Any:
        self.refusal = "INPROG Failover already in progress" if self.progress else ""
        self.obeys = False
        answer = super()._failover(sentinel)
        self.progress = frozenset({sentinel})
        asyncio.get_running_loop().call_later(TAKES, self._ended)
        return answer

    def _ended(self) -> None:
        self.progress = frozenset()
        self.new, self.epoch, self.quiet_for = NEAR, self.epoch + 1, 0


async def sentinels(member: Member, line: Line, stack: AsyncExitStack) -> Stage:
    """A master that is down, or where the failover is planned works, two replicas and three Sentinels."""
    alive = bool(member.with_.get("planned"))
    watched = Unhurried(alive=True, down=frozenset(), alive_offset=HELD) if alive else Unhurried()
    world, ports = World(watched=watched), dict[str, int]()
    for address in (*SENTINELS, *((MASTER,) if alive else ()), NEAR, FAR):
        server = await stack.enter_async_context(RedisServer(WorldWire(world, address)))
        ports[address] = (await stack.enter_async_context(FaultProxy(line, server.port))).port
    if not alive:
        ports[MASTER] = stack.enter_context(unheard()).getsockname()[1]

    service = RedisSentinelService(sentinels=SENTINELS, master=NAME, timeout="10s")
    openers = Openers(redis=_leading_to(ports))
    return Stage(
        {"trading-redis": service},
        openers,
        lambda: len(world.sent),
        lambda: len(watched.told),
        lambda: world.unexpected,
        lambda: bool(watched.progress),
    )


def _leading_to(ports: dict[str, int]) -> OpenWire:
    """The library's connections, to the ports that stand for these names: Sentinels tell names, and go on doing so."""

    def opened(service: RedisService, patience: float) -> Wire:
        here = f"redis://127.0.0.1:{ports[service.url.removeprefix('redis://')]}"
        return redis_connections.LibraryWire(service.model_copy(update={"url": here}), patience)

    return opened


# --- Patroni ----------------------------------------------------------------------------------------------------------


class PatroniWorld(World):
    """A standby and the API of its Patroni. `leads`: the old primary works, and so this is a switchover."""

    leads = False

    def routes(self) -> dict[tuple[str, str], Callable[[httpx.Request, Any], httpx.Response]]:
        """See World."""
        path = "/switchover" if self.leads else "/failover"
        return {("GET", "/cluster"): lambda _r, _b: self._cluster(), ("POST", path): self._asked}

    def _cluster(self) -> httpx.Response:
        old = {"name": "pg-1", "role": "leader", "state": "running" if self.leads else "crashed"}
        return httpx.Response(200, json={"members": [old, {"name": "pg-2", "role": "replica", "state": "streaming"}]})

    def _asked(self, _request: httpx.Request, body: Any) -> httpx.Response:
        if body != {"candidate": "pg-2", **({"leader": "pg-1"} if self.leads else {})}:
            self.unexpected.append(json.dumps(body))
        if not self.standby:
            return httpx.Response(412, text="it is the leader already")
        self.standby = False
        return httpx.Response(200, text="Successfully failed over")


async def patroni(line: Line, stack: AsyncExitStack, *, leads: bool, lasting: bool) -> Stage:
    """A standby whose Patroni is asked through the proxy; the server itself is asked without one."""
    world = PatroniWorld()
    world.leads = leads
    origin = await stack.enter_async_context(Origin(world, "patroni", lasting=lasting))
    proxy = await stack.enter_async_context(FaultProxy(line, origin.port))
    api = PatroniApi(url=f"http://127.0.0.1:{proxy.port}", member="pg-2")
    service = PostgresService(url="postgresql://db/trading", username="responder", tls="off", patroni=api)
    return Stage(
        {"db": service},
        Openers(postgres=world.sql),
        lambda: len(world.changes),
        lambda: int(not world.standby),
        lambda: [*world.unexpected, *(f"{said} behind its back" for said in world.done)],
    )


# --- pg_promote -------------------------------------------------------------------------------------------------------


async def standbys(member: Member, line: Line, stack: AsyncExitStack) -> Stage:
    """The candidates, each behind a proxy; no two of them may become primary."""
    services: dict[str, Service] = {}
    worlds = [World() for _ in member.with_["candidates"]]
    for name, world in zip(member.with_["candidates"], worlds, strict=True):
        server = await stack.enter_async_context(PostgresServer(WorldSql(world, name)))
        proxy = await stack.enter_async_context(FaultProxy(line, server.port))
        url = f"postgresql://127.0.0.1:{proxy.port}/postgres"
        services[name] = PostgresService(url=url, username="responder", tls="off")
    return Stage(
        services,
        Openers(),
        lambda: sum(len(world.done) for world in worlds),
        lambda: sum(not world.standby for world in worlds),
        lambda: [said for world in worlds for said in world.unexpected],
    )
