"""A Redis master with two replicas and three Sentinels, real ones with times of seconds, and the responder's user on
them with the rights that the pages of the actions name, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from responder.actions import ACTIONS
from responder.connections import Connections, Openers, open_transport
from responder.contracts import Secret
from responder.errors import Temporary
from responder.perform import Ended, Performer
from responder.recorded import Plan
from responder.redis_connections import LibraryWire, OpenWire
from responder.runbook import Runbook, Step
from responder.services import RedisSentinelService, RedisService
from responder.timing import SECOND
from responder.wall_clock import wall_clock
from tests.provision import CHECKOUT
from tests.servers import Certificates, Redis, Sentinel, Server, free_port
from tests.system.patience import eventually

NAME: Final = "trading"
PASSWORD: Final = "s3cret-redis-password"
SENTINEL_PASSWORD: Final = "s3cret-sentinel-password"
SERVER_RIGHTS: Final = "resetkeys ~responder:* -@all +info +role +set"
SENTINEL_RIGHTS: Final = (
    "-@all +info +sentinel|master +sentinel|replicas +sentinel|ckquorum +sentinel|failover"
    " +sentinel|get-master-addr-by-name"
)
RUNBOOK: Final = Runbook(runbook="redis-master-down", title="The Redis master is down", target="trading-redis")
TOLD: Final = "Executing user requested FAILOVER"
"""What a Sentinel logs of a failover that it was told to do."""
_FAILOVER_TIMEOUT: Final = 20_000
"""Milliseconds; twice this lies between two failovers."""
_DOWN_AFTER: Final = (500, 500, 60_000)
"""Milliseconds without an answer after which a Sentinel calls the master down."""


class Watched:
    """A context manager. One Sentinel never calls the master down, and all three would have to before they fail over:
    a dead master stays dead until somebody acts."""

    def __init__(self, tls: Certificates | None = None) -> None:
        self._stack = ExitStack()
        self._tls = tls
        user = {"user": f"responder on >{PASSWORD} {SERVER_RIGHTS}", "repl-ping-replica-period": "1"}
        self.master = Redis(settings=user, tls=tls)
        self.replicas = [Redis(replica_of=self.master, settings=user, tls=tls) for _ in range(2)]
        self.sentinels: list[Sentinel] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for server in (self.master, *self.replicas):
                stack.enter_context(server)
            for replica in self.replicas:
                with replica.client() as client:
                    eventually("it follows", lambda c=client: c.info("replication"), _linked)  # type: ignore[misc]
            for down_after in _DOWN_AFTER:
                self.sentinels.append(stack.enter_context(self._sentinel(down_after)))
            eventually("the Sentinels know each other and the replicas", self.seen, _acquainted)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _sentinel(self, down_after: int) -> Sentinel:
        rights = {"user": f"responder on >{SENTINEL_PASSWORD} {SENTINEL_RIGHTS}"}
        return Sentinel(self.master, NAME, 3, down_after, _FAILOVER_TIMEOUT, rights)

    # --- what a test does ---------------------------------------------------------------------------------------------

    def dies(self) -> None:
        """The master is gone, and a majority of the Sentinels knows it."""
        self.master.kill()
        self.is_missed()

    def is_missed(self, sentinels: Sequence[Sentinel] = ()) -> None:
        """The master does not answer, and a majority of the Sentinels knows it, these (by default the first two)."""

        def missing() -> list[bool]:
            return ["down" in one["flags"] for one in self.seen(sentinels or self.sentinels[:2])]

        eventually("two call it down", missing, all)

    def agree_with(self, quorum: int, sentinels: Sequence[Sentinel]) -> None:
        """These begin a failover by themselves as soon as so many of them call the master down."""
        for sentinel in sentinels:
            with sentinel.client() as client:
                client.execute_command("SENTINEL", "SET", NAME, "quorum", quorum, "down-after-milliseconds", 500)

    def promotable(self, priority: int) -> None:
        """The replicas' priority, 0 for never; every Sentinel that calls the master down knows it."""
        for replica in self.replicas:
            with replica.client() as client:
                client.config_set("replica-priority", priority)
        eventually("the Sentinels know it", self._priorities, lambda found: found == {priority})

    def settles(self) -> None:
        """No failover is in progress any more."""
        eventually("it is over", self.seen, lambda seen: not any("failover" in one["flags"] for one in seen))

    # --- what is seen -------------------------------------------------------------------------------------------------

    def seen(self, sentinels: Sequence[Sentinel] = ()) -> list[dict[str, Any]]:
        """The master as each of these Sentinels sees it that runs, by default as all do."""
        found = []
        for sentinel in sentinels or self.sentinels:
            with sentinel.client() as client:
                try:
                    found.append(dict(client.sentinel_master(NAME)))
                except redis.ConnectionError:
                    continue
        return found

    def named(self, sentinels: Sequence[Sentinel] = ()) -> list[str]:
        """The master's address by each of these Sentinels, by default by all."""
        found = []
        for sentinel in sentinels or self.sentinels:
            with sentinel.client() as client:
                host, port = client.sentinel_get_master_addr_by_name(NAME)
                found.append(f"{host}:{port}")
        return found

    def silent_for(self) -> float:
        """Seconds since the master answered the first Sentinel."""
        return float(self.seen()[0]["last-ok-ping-reply"]) / 1000

    def _priorities(self) -> set[int]:
        found = set()
        for sentinel in self.sentinels[:2]:
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
        if self._tls is not None:
            pair = {"cert_file": str(self._tls.cert), "key_file": str(self._tls.key)}
            ours |= {"tls": True, "ca_file": str(self._tls.ca), "client_certificate": pair}
        return RedisSentinelService.model_validate({**ours, **fields})

    def performer(self, opener: OpenWire = LibraryWire, **fields: Any) -> Performer:
        """What does an action in this world."""
        connections = Connections({"trading-redis": self.service(**fields)}, open_transport, Openers(redis=opener))
        return Performer(ACTIONS, connections.connect, {}, wall_clock, asyncio.sleep)


def step(action: str = "redis.failover", **with_: Any) -> Step:
    """A step of `RUNBOOK`; of a failover one that does not wait for the Sentinels' own."""
    given = {"service": "trading-redis", **({"after": "0s"} if action == "redis.failover" else {}), **with_}
    return Step.model_validate({"id": "it", "action": action, "with": given, "timeout": "30s"})


@contextlib.contextmanager
def stopped(server: Server) -> Iterator[None]:
    """It hangs (SIGSTOP) for as long as the block lasts."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def returning(watched: Watched) -> OpenWire:
    """Connections by which the dead master is started again right after a Sentinel is told to replace it."""

    class Returning(LibraryWire):
        async def ask(self, words: tuple[str, ...]) -> Any:
            answer = await super().ask(words)
            if words[:2] == ("SENTINEL", "FAILOVER"):
                await asyncio.to_thread(watched.master.start)
            return answer

    return Returning


def stopping(sentinel: Sentinel) -> OpenWire:
    """Connections by which this Sentinel is stopped (SIGSTOP) right before it is told to fail over."""

    class Stopping(LibraryWire):
        async def ask(self, words: tuple[str, ...]) -> Any:
            if words[:2] == ("SENTINEL", "FAILOVER"):
                os.kill(sentinel.pid, signal.SIGSTOP)
            return await super().ask(words)

    return Stopping


def cut_off(watched: Watched) -> OpenWire:
    """Connections by which the old master is not reached any more once a Sentinel was told, though it works."""
    told = False

    class CutOff(LibraryWire):
        def __init__(self, service: RedisService, patience: float) -> None:
            super().__init__(service, patience)
            self._lost = told and service.url.endswith(watched.master.address)

        async def connect(self) -> None:
            if self._lost:
                raise redis.ConnectionError("the network between")
            await super().connect()

        async def ask(self, words: tuple[str, ...]) -> Any:
            nonlocal told
            told = told or words[:2] == ("SENTINEL", "FAILOVER")
            return await super().ask(words)

    return CutOff


async def prepared(performer: Performer, **with_: Any) -> Plan:
    """The plan of a failover. Raises Temporary and Permanent."""
    return await performer.prepare(RUNBOOK, step(**with_), {})


async def soon_prepared(watched: Watched, **with_: Any) -> Plan:
    """The same, tried again while something speaks against it that passes: a Sentinel asks a replica every ten seconds,
    and promotes none that it has not asked within five."""
    for _ in range(100):
        with contextlib.suppress(Temporary):
            return await prepared(watched.performer(), **with_)
        await asyncio.sleep(0.2)
    return await prepared(watched.performer(), **with_)


async def acted(performer: Performer, plan: Plan) -> Ended:
    """One attempt of it."""
    return await performer.act("redis.failover", plan, "inc1.run1.it.1", 30 * SECOND)


async def sound(watched: Watched) -> dict[str, Any]:
    """What `redis.sentinel` reads once all is well."""
    performer, says = watched.performer(), step("redis.sentinel")
    last: Any = None
    for _ in range(200):
        last = await performer.act("redis.sentinel", await performer.prepare(RUNBOOK, says, {}), "key", 5 * SECOND)
        if isinstance(last.output, dict) and last.output["sound"]:
            return dict(last.output)
        await asyncio.sleep(0.2)
    raise AssertionError(f"never sound; seen last: {last}")


def _linked(info: dict[str, Any]) -> bool:
    return bool(info["master_link_status"] == "up")


def _acquainted(seen: list[dict[str, Any]]) -> bool:
    known = [(one["num-other-sentinels"], one["num-slaves"]) for one in seen]
    return known == [(2, 2)] * 3


# --- the responder as a process ---------------------------------------------------------------------------------------

_RULE: Final = """
runbook: redis-master-down
title: The Redis master is down
match: ['alertname="RedisMasterDown"', 'env="prod"']
env: prod
target: trading-redis/master
mode: auto
checks:
  sentinels: {action: redis.sentinel, with: {service: trading-redis}, max_age: 10s}
steps:
  - id: failover
    action: redis.failover
    with: {service: trading-redis, after: 0s}
    timeout: 30s
    # A Sentinel that has not heard of a replica for 5 s promotes none; it asks every 10 s.
    retry: {attempts: 12, first: 1s, cap: 1s}
verify: {check: sentinels, expect: value.down == 0 and value.agree >= 2 and value.role == "master", within: 30s}
"""
_POLICIES: Final = "policies: {default: {levels: [{name: L1, after: 0, page: console}]}}\ndefault: default\n"
_WORDS: Final = {"webhook": "webhook-token-0123456789", "person": "person-token-0123456789"}


class Serving(Server):
    """`responder serve` with one runbook, which fails over; `kill` ends it as an outage does."""

    program = "python"

    def __init__(self, watched: Watched) -> None:
        # Not the base's: it looks for a program that is installed, and this one is the checkout's own.
        self.binary = Path(sys.executable)
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="responder-failover-"))
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        for name, text in {**_WORDS, "redis": PASSWORD, "sentinel": SENTINEL_PASSWORD}.items():
            (self.folder / f"{name}.secret").write_text(text)
        (self.folder / "rules").mkdir()
        (self.folder / "rules" / "redis.yaml").write_text(_RULE)
        (self.folder / "rules" / "policies.yaml").write_text(_POLICIES)
        (self.folder / "responder.yaml").write_text(json.dumps(self._config(watched)))  # is YAML too

    def _config(self, watched: Watched) -> dict[str, Any]:
        service = {
            "kind": "redis_sentinel",
            "env": "prod",
            "sentinels": [sentinel.address for sentinel in watched.sentinels],
            "master": NAME,
            "username": "responder",
            "password": {"file": "redis.secret"},
            "sentinel_username": "responder",
            "sentinel_password": {"file": "sentinel.secret"},
            "timeout": "2s",
        }
        return {
            "listen": self.address,
            "store": f"sqlite:///{self.folder / 'responder.db'}",
            "rules": ["./rules"],
            "services": {"trading-redis": service},
            "notifiers": {"console": {"kind": "console"}},
            "auth": {
                "webhook": [{"bearer": {"file": "webhook.secret"}}],
                "people": {"on-call": {"token": {"file": "person.secret"}, "roles": ["responder", "operator"]}},
            },
        }

    def fires(self) -> None:
        """An Alertmanager tells it that the master is down."""
        labels = {"alertname": "RedisMasterDown", "env": "prod", "severity": "critical"}
        alert = {"status": "firing", "labels": labels, "annotations": {}, "fingerprint": "5f3759df5f3759df"}
        body = {"version": "4", "receiver": "responder", "groupKey": "redis", "alerts": [alert]}
        bearer = {"Authorization": f"Bearer {_WORDS['webhook']}"}
        httpx.post(f"http://{self.address}/webhook/alertmanager", json=body, headers=bearer).raise_for_status()

    def incident(self) -> dict[str, Any]:
        """The only one, with its journal; empty while there is none."""
        listed = self._get("/api/v1/incidents")["incidents"]
        return self._get(f"/api/v1/incidents/{listed[0]['id']}") if listed else {}

    def _get(self, path: str) -> dict[str, Any]:
        bearer = {"Authorization": f"Bearer {_WORDS['person']}"}
        return dict(httpx.get(f"http://{self.address}{path}", headers=bearer).raise_for_status().json())

    def _command(self) -> list[str]:
        return [str(self.binary), "-m", "responder", "serve", "--config", str(self.folder / "responder.yaml")]

    def _is_ready(self) -> bool:
        return httpx.get(f"http://{self.address}/-/ready", timeout=1).status_code == httpx.codes.OK

    def _identity(self) -> dict[str, Any]:
        return {"env": {**os.environ, "PYTHONPATH": str(CHECKOUT)}}


# --- somebody who writes ----------------------------------------------------------------------------------------------


class Writer:
    """An application that goes on writing to the master that the Sentinels name, fifty times a second, on a connection
    that it keeps until it fails. A context manager; `acknowledged` are the numbers that a server said OK to."""

    def __init__(self, watched: Watched) -> None:
        self.acknowledged: list[int] = []
        self.errors = 0
        self._watched = watched
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        eventually("it writes", lambda: len(self.acknowledged), lambda count: count > 10)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._thread.join(5)

    def stopped(self) -> list[int]:
        """Writing is over; the acknowledged numbers that the present master does not have."""
        self.__exit__()
        with self._client() as client:
            kept = {int(number) for number in client.lrange("orders", 0, -1)}
        return [number for number in self.acknowledged if number not in kept]

    def _client(self) -> redis.Redis:
        with self._watched.sentinels[0].client() as sentinel:
            host, port = sentinel.sentinel_get_master_addr_by_name(NAME)
        once = Retry(NoBackoff(), 0)
        return redis.Redis(host=host, port=port, decode_responses=True, socket_timeout=0.5, retry=once)

    def _write(self) -> None:
        number, client = 0, self._client()
        while not self._over.wait(0.02):
            number += 1
            try:
                client.rpush("orders", number)
                self.acknowledged.append(number)
            except redis.RedisError:
                self.errors += 1
                client.close()
                client = self._client()
        client.close()
