"""A Redis master with two replicas and three Sentinels, real ones with times of seconds, and the responder's user on
them with the rights that the pages of the actions name, and no more."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, Self

import redis

from responder.actions import ACTIONS
from responder.connections import Connections, open_transport
from responder.contracts import Secret
from responder.perform import Ended, Performer
from responder.recorded import Plan
from responder.runbook import Runbook, Step
from responder.services import RedisSentinelService
from responder.timing import SECOND
from responder.wall_clock import wall_clock
from tests.servers import Redis, Sentinel
from tests.system.patience import eventually

NAME: Final = "trading"
PASSWORD: Final = "s3cret-redis-password"
SENTINEL_PASSWORD: Final = "s3cret-sentinel-password"
SERVER_RIGHTS: Final = "resetkeys ~responder:* -@all +info +role +set"
SENTINEL_RIGHTS: Final = (
    "-@all +sentinel|master +sentinel|replicas +sentinel|ckquorum +sentinel|failover +sentinel|get-master-addr-by-name"
)
RUNBOOK: Final = Runbook(runbook="redis-master-down", title="The Redis master is down", target="trading-redis")
TOLD: Final = "Executing user requested FAILOVER"
"""What a Sentinel logs of a failover that it was told to do."""
_FAILOVER_TIMEOUT: Final = 20_000
"""Milliseconds; the Sentinels try again by themselves only after twice this, which no test waits for."""


class Watched:
    """A context manager. With `promotable` false no replica can be promoted until `allow` says so: then the Sentinels'
    own failover has been tried, and does not come again for 40 s."""

    def __init__(self, *, promotable: bool = True) -> None:
        self._stack = ExitStack()
        user = {"user": f"responder on >{PASSWORD} {SERVER_RIGHTS}", "repl-ping-replica-period": "1"}
        self.master = Redis(settings=user)
        chosen = {**user, "replica-priority": "100" if promotable else "0"}
        self.replicas = [Redis(replica_of=self.master, settings=chosen) for _ in range(2)]
        self.sentinels: list[Sentinel] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for server in (self.master, *self.replicas):
                stack.enter_context(server)
            for replica in self.replicas:
                with replica.client() as client:
                    eventually("it follows", lambda c=client: c.info("replication"), _linked)  # type: ignore[misc]
            rights = {"user": f"responder on >{SENTINEL_PASSWORD} {SENTINEL_RIGHTS}"}
            for _ in range(3):
                watching = Sentinel(self.master, NAME, quorum=2, failover_timeout=_FAILOVER_TIMEOUT, settings=rights)
                self.sentinels.append(stack.enter_context(watching))
            eventually("the Sentinels know each other and the replicas", self.seen, _acquainted)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # --- what a test does ---------------------------------------------------------------------------------------------

    def dies(self) -> None:
        """The master is gone, every Sentinel knows it, and their own failover found no replica that may be promoted."""
        self.master.kill()
        eventually("the Sentinels call it down", self.seen, lambda seen: all("down" in one["flags"] for one in seen))
        eventually("their own failover is given up", self.logs, lambda logs: "-failover-abort-no-good-slave" in logs)
        self.settles()

    def allow(self) -> None:
        """The replicas may be promoted, and every Sentinel knows it."""
        for replica in self.replicas:
            with replica.client() as client:
                client.config_set("replica-priority", 100)
        eventually("the Sentinels know it", self._priorities, lambda found: found == {100})

    def settles(self) -> None:
        """No failover is in progress any more."""
        eventually("it is over", self.seen, lambda seen: not any("failover" in one["flags"] for one in seen))

    # --- what is seen -------------------------------------------------------------------------------------------------

    def seen(self) -> list[dict[str, Any]]:
        """The master as each Sentinel sees it that runs."""
        found = []
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                try:
                    found.append(dict(client.sentinel_master(NAME)))
                except redis.ConnectionError:
                    continue
        return found

    def _priorities(self) -> set[int]:
        found = set()
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                found |= {one["slave-priority"] for one in client.sentinel_slaves(NAME)}
        return found

    def logs(self) -> str:
        """Everything that the Sentinels have logged."""
        return "".join(sentinel.log.read_text() for sentinel in self.sentinels)

    @property
    def told(self) -> int:
        """How many failovers Sentinels were told to do."""
        return self.logs().count(TOLD)

    @property
    def masters(self) -> list[str]:
        """The addresses of the servers that say that they are a master."""
        found = []
        for server in (self.master, *self.replicas):
            try:
                with server.client() as client:
                    if client.role()[0] == "master":
                        found.append(server.address)
            except redis.ConnectionError:
                continue
        return found

    # --- the responder's side -----------------------------------------------------------------------------------------

    def service(self, **fields: Any) -> RedisSentinelService:
        """The service as responder.yaml would have it."""
        ours = {
            "sentinels": [sentinel.address for sentinel in self.sentinels],
            "master": NAME,
            "username": "responder",
            "password": Secret("env REDIS_PASSWORD", lambda: PASSWORD),
            "sentinel_username": "responder",
            "sentinel_password": Secret("env SENTINEL_PASSWORD", lambda: SENTINEL_PASSWORD),
            "timeout": "2s",
        }
        return RedisSentinelService.model_validate({**ours, **fields})

    def performer(self, **fields: Any) -> Performer:
        """What does an action in this world."""
        connections = Connections({"trading-redis": self.service(**fields)}, open_transport)
        return Performer(ACTIONS, connections.connect, {}, wall_clock, asyncio.sleep)


def step(action: str = "redis.failover", **with_: Any) -> Step:
    """A step of `RUNBOOK`; of a failover one that does not wait for the Sentinels' own."""
    given = {"service": "trading-redis", **({"after": "0s"} if action == "redis.failover" else {}), **with_}
    return Step.model_validate({"id": "it", "action": action, "with": given, "timeout": "30s"})


async def prepared(performer: Performer, **with_: Any) -> Plan:
    """The plan of a failover. Raises Temporary and Permanent."""
    return await performer.prepare(RUNBOOK, step(**with_), {})


async def acted(performer: Performer, plan: Plan) -> Ended:
    """One attempt of it."""
    return await performer.act("redis.failover", plan, "inc1.run1.it.1", 30 * SECOND)


def _linked(info: dict[str, Any]) -> bool:
    return bool(info["master_link_status"] == "up")


def _acquainted(seen: list[dict[str, Any]]) -> bool:
    known = [(one["num-other-sentinels"], one["num-slaves"]) for one in seen]
    return known == [(2, 2)] * 3
