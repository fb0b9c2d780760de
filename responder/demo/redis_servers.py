"""A Redis master with two replicas and three Sentinels, real ones with times of seconds, and what Prometheus scrapes.

One Sentinel is slow to call the master down, and all three would have to before they elect: so a dead master stays dead
until somebody acts, which is what the story is about. The responder's users have the rights of the shipped example, and
no more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from responder.demo.prometheus import find_binary, free_port
from responder.demo.redis_processes import client_of, comes_true, log_of, started, stopped
from responder.errors import Permanent

if TYPE_CHECKING:
    from redis.asyncio import Redis

NAME: Final = "mymaster"
"""The master's name, as in `_responder.example.yaml`."""
SERVER_RIGHTS: Final = "resetkeys ~responder:* -@all +info +role +set"
SENTINEL_RIGHTS: Final = (
    "-@all +info +sentinel|get-master-addr-by-name +sentinel|master +sentinel|replicas +sentinel|ckquorum"
    " +sentinel|failover"
)
"""Both are those of `_responder.example.yaml`."""
GET_THEM: Final = "apt install redis-server redis-sentinel, or `make servers` in a checkout"
REPLICAS: Final = 2
DOWN_AFTER: Final = (1000, 1000, 60_000)
"""Milliseconds without an answer after which each Sentinel calls the master down."""
TOLD: Final = "Executing user requested FAILOVER"
"""What a Sentinel logs of a failover that it was told to do."""
ANSWER_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Group:
    """Where the servers are going to be. `passwords`: the responder's, the demo's own."""

    folder: Path
    server: Path
    sentinel: Path
    ports: tuple[int, ...]
    """The master's first, then the replicas'."""
    sentinel_ports: tuple[int, ...]
    passwords: tuple[str, str] = field(repr=False)

    @property
    def sentinels(self) -> tuple[str, ...]:
        """`host:port` of each."""
        return tuple(f"127.0.0.1:{port}" for port in self.sentinel_ports)


def planned_group(folder: Path, passwords: tuple[str, str]) -> Group:
    """Raises Permanent, with the cure, where Redis or its Sentinel is not installed."""
    server, sentinel = find_binary("redis"), find_binary("sentinel")
    if server is None or sentinel is None:
        missing = " and ".join(
            name for name, path in (("redis-server", server), ("redis-sentinel", sentinel)) if not path
        )
        raise Permanent(f"this story plays on real servers, and there is no {missing} here. For it:\n{GET_THEM}")
    ports = [free_port() for _ in range(1 + REPLICAS + len(DOWN_AFTER))]
    return Group(
        folder / "redis", server, sentinel, tuple(ports[: 1 + REPLICAS]), tuple(ports[1 + REPLICAS :]), passwords
    )


class Running:
    """The servers while they run."""

    def __init__(self, group: Group, master: asyncio.subprocess.Process, clients: tuple[Redis, ...]) -> None:
        self._group = group
        self._master = master
        self._servers, self._sentinels = clients[: len(group.ports)], clients[len(group.ports) :]

    async def kill_master(self) -> None:
        """Ends it as an outage does: at once, nothing said to anybody."""
        self._master.kill()
        await self._master.wait()

    async def masters(self) -> tuple[int, ...]:
        """The ports of the servers that answer, and say that they are a master."""
        from redis.exceptions import RedisError

        found = []
        for port, client in zip(self._group.ports, self._servers, strict=True):
            with contextlib.suppress(RedisError):
                if (await client.role())[0] == b"master":
                    found.append(port)
        return tuple(found)

    async def named(self) -> tuple[int, ...]:
        """The port of the master by each Sentinel."""
        return tuple([int(one["port"]) for one in await self._views()])

    async def written(self, masters: tuple[int, ...]) -> bool:
        """Whether one of these servers has what the responder tries by writing it."""
        clients = [client for port, client in zip(self._group.ports, self._servers, strict=True) if port in masters]
        return any([await client.keys("responder:*") for client in clients])

    def told(self) -> int:
        """How many failovers Sentinels were told to do, by their logs."""
        logs = [log_of(self._group.folder, port) for port in self._group.sentinel_ports]
        return sum(log.read_text(errors="replace").count(TOLD) for log in logs)

    async def settled(self) -> bool:
        """Whether the Sentinels know each other and both replicas."""
        views = await self._views()
        known = {(one["num-other-sentinels"], one["num-slaves"]) for one in views}
        return len(views) == len(DOWN_AFTER) and known == {(len(DOWN_AFTER) - 1, REPLICAS)}

    async def answers(self) -> bool:
        """Whether the server that the Sentinels name answers as a master, as the exporter beside it would say."""
        return bool(set(await self.masters()) & set((await self.named())[:1]))

    async def _views(self) -> list[dict[str, int]]:
        return [await sentinel.sentinel_master(NAME) for sentinel in self._sentinels]  # type: ignore[misc]


def exporter(running: Running) -> Starlette:
    """What Prometheus scrapes as the job `redis-master`: it fails while no master answers, as the sidecar of a pod that
    is gone does, and follows the master as a Kubernetes service does."""

    async def metrics(_request: Request) -> Response:
        if not await running.answers():
            return PlainTextResponse("the master does not answer\n", 503)
        return PlainTextResponse("redis_up 1\n")

    return Starlette(routes=[Route("/metrics", metrics)])


@contextlib.asynccontextmanager
async def running(group: Group) -> AsyncIterator[Running]:
    """Runs them all for as long as the block lasts. Raises Permanent when they do not come up."""
    group.folder.mkdir(parents=True)
    processes: list[asyncio.subprocess.Process] = []
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(stopped, processes)
        for number, port in enumerate(group.ports):
            processes.append(await started(group.server, group.folder, port, _server_lines(group, number)))
        clients = [
            await stack.enter_async_context(client_of(port, group.passwords[1], ANSWER_SECONDS)) for port in group.ports
        ]
        for client in clients:
            await _until(group, lambda client=client: _linked(client), processes)  # type: ignore[misc]
        for number, port in enumerate(group.sentinel_ports):
            processes.append(await started(group.sentinel, group.folder, port, _sentinel_lines(group, number)))
            clients.append(await stack.enter_async_context(client_of(port, group.passwords[1], ANSWER_SECONDS)))
        made = Running(group, processes[0], tuple(clients))
        await _until(group, made.settled, processes)
        yield made


def _server_lines(group: Group, number: int) -> Iterator[str]:
    theirs, ours = group.passwords
    yield from ('save ""', "appendonly no", "repl-diskless-sync-delay 0", "repl-ping-replica-period 1")
    yield f"user default on >{ours} ~* &* +@all"
    yield f"user responder on >{theirs} {SERVER_RIGHTS}"
    yield f"masterauth {ours}"
    if number:
        yield f"replicaof 127.0.0.1 {group.ports[0]}"


def _sentinel_lines(group: Group, number: int) -> Iterator[str]:
    theirs, ours = group.passwords
    yield f"user default on >{ours} ~* &* +@all"
    yield f"user responder on >{theirs} {SENTINEL_RIGHTS}"
    yield f"sentinel sentinel-pass {ours}"
    yield f"sentinel monitor {NAME} 127.0.0.1 {group.ports[0]} {len(DOWN_AFTER)}"
    yield f"sentinel auth-pass {NAME} {ours}"
    yield f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER[number]}"
    yield f"sentinel failover-timeout {NAME} 10000"


async def _linked(client: Redis) -> bool:
    info = await client.info("replication")
    return bool(info["role"] == "master" or info["master_link_status"] == "up")


async def _until(
    group: Group, holds: Callable[[], Awaitable[bool]], processes: Sequence[asyncio.subprocess.Process]
) -> None:
    if await comes_true(holds, processes):
        return
    words = [
        line for log in sorted(group.folder.glob("*.log")) for line in log.read_text(errors="replace").splitlines()[-1:]
    ]
    raise Permanent(f"the Redis servers did not come up; they said: {' | '.join(words)}\ntry again: responder demo")
