"""The platform behind the performer: a risk API, a Prometheus, a Redis and a Kubernetes cluster as connections, with
faults to switch on.

The real actions and the real performer run against it; only the wire is missing. Nothing that was not foreseen is
answered: an unknown request ends the test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from responder.contracts import Clock
from responder.errors import Temporary, Unknown
from responder.http_calls import HttpAnswer, HttpCall
from responder.kubernetes_calls import KubernetesCall
from responder.kubernetes_connections import KubernetesConnection
from responder.last_look import Clear, always_clear
from responder.redis_connections import RedisCall
from responder.redis_replies import Reply
from responder.sentinel_connections import SentinelConnection
from responder.services import KubernetesService, RedisSentinelService
from responder.simulate import sleep
from responder.timing import SECOND
from tests.acceptance.machines import Database, Databases, Folder, Scripts
from tests.contract.sentinel_world import NAME, SENTINELS, Watched
from tests.fakes.kubernetes import Cluster
from tests.fakes.kubernetes_way import ClusterWay

Number = float | None


@dataclass
class World:
    """`numbers`: query -> its value now, None for no data. `changes`: what was done, in order, with its time.

    `lost`: the answer to a change is lost, after it was done ("applied") or before ("not applied"). `refused`: statuses
    that the next changes are answered with instead of being done. `slow` is how long a change takes, in seconds.
    """

    clock: Clock
    kelly: float = 0.25
    trading: str = "running"
    router: str = "running"
    breaker: str = "CLOSED"
    volatility_age: float = 5.0
    numbers: dict[str, Callable[[], Number]] = field(default_factory=dict)
    labels: dict[str, Callable[[], dict[str, str]]] = field(default_factory=dict)
    """query -> the labels of its answer now."""
    sample_age: int = 0
    dark: bool = False
    blind: bool = False
    """The status page does not answer, so no probe and no read of a parameter can tell."""
    lost: str = ""
    refused: list[int] = field(default_factory=list)
    slow: float = 0.0
    waits: float = 0.0
    """How long a change waits for a connection before it is sent, in seconds."""
    reads: float = 0.0
    """How long the status page takes to answer, in seconds."""
    thinks: float = 0.0
    """How long Prometheus takes to answer, in seconds."""
    changes: list[tuple[int, str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    watched: Watched = field(default_factory=Watched)
    """The Redis that Sentinels watch over, known as `trading-redis`."""
    replies: dict[tuple[str, ...], Reply] = field(default_factory=dict)
    """What the Redis answers, by the words of the command; any other fails, as if it could not be reached."""
    listening: int = 1
    """How many hear what is published on `param.reload`."""

    databases: Databases = field(default_factory=Databases)
    scripts: Scripts = field(default_factory=Scripts)
    cluster: Cluster = field(default_factory=Cluster)
    answers: dict[str, Any] = field(default_factory=dict)
    """What pages beside the status page answer, by path."""

    def connect(self, service: str) -> Any:
        """As `Connections.connect`."""
        if service in {"db", "trademaster-db"} or service.startswith("db-"):
            return Database(self, service)
        if service in {"scripts", "deploy"}:
            return Folder(self)
        if service == "trading-redis":
            return SentinelConnection(service, WATCHED, lambda server, _patience: Line(self, server.url))
        if service == "cluster":
            way = ClusterWay(self.cluster, self._changed)
            settings = KubernetesService(in_cluster=True, namespaces=(self.cluster.namespace,))
            return KubernetesConnection("cluster", settings, lambda _service: way)
        return Cache(self) if service == "cache" else Connection(self, service)

    def _changed(self, call: KubernetesCall) -> None:
        self.changes.append((self.clock(), f"{call.verb} {call.resource.rbac} {call.name}", call.body))

    @property
    def status(self) -> dict[str, Any]:
        """What `/api/status` says."""
        return {
            "kelly_fraction": self.kelly,
            "trading": self.trading,
            "router": self.router,
            "circuit_breaker": self.breaker,
            "volatility_age_seconds": self.volatility_age,
        }

    @property
    def done(self) -> list[str]:
        """The paths of the changes that happened, in order."""
        return [path for _, path, _ in self.changes]


WATCHED = RedisSentinelService(sentinels=SENTINELS, master=NAME)


@dataclass(frozen=True)
class Line:
    """A connection to a Sentinel, or to a server that the Sentinels watch over."""

    world: World
    url: str
    shook_hands = False

    @property
    def _address(self) -> str:
        return self.url.removeprefix("redis://")

    async def connect(self) -> None:
        """See responder.redis_connections.Wire."""
        self.world.watched.reaches(self._address)

    async def ask(self, words: tuple[str, ...]) -> Any:
        """See responder.redis_connections.Wire."""
        told = len(self.world.watched.told)
        reply = self.world.watched.answer(self._address, words)
        if len(self.world.watched.told) > told:
            self.world.changes.append((self.world.clock(), " ".join(words), self._address))
        return reply

    async def close(self) -> None:
        """See responder.redis_connections.Wire."""


@dataclass(frozen=True)
class Cache:
    """The platform's Redis as an action sees it: it is read, and told to reload."""

    world: World

    async def send(self, call: RedisCall, timeout: float, clear: Clear = always_clear) -> Reply:
        """Answer a command, or raise what a connection raises."""
        if call.changes:
            await clear()
            assert call.words[:2] == ("PUBLISH", "param.reload"), f"nobody foresaw {call.words}"
            self.world.changes.append((self.world.clock(), "PUBLISH param.reload", json.loads(call.words[2])))
            return self.world.listening
        if call.words not in self.world.replies:
            raise Temporary(f"cache: {' '.join(call.words)}: nothing was sent, no connection")
        reply: Reply = self.world.replies[call.words]
        return reply


@dataclass(frozen=True)
class Connection:
    """One service as an action sees it."""

    world: World
    service: str

    @property
    def keyed(self) -> bool:
        """Whether the service honours idempotency keys."""
        return self.service == "keyed-api"

    async def send(self, call: HttpCall, timeout: float, clear: Clear = always_clear) -> HttpAnswer:
        """Answer a request, or raise what a connection raises."""
        if self.service == "metrics":
            if self.world.thinks:
                await sleep(self.world.thinks)
            return self._number(call)
        if not call.changes:
            if self.world.reads:
                await sleep(self.world.reads)
            return self._status(call)
        if self.world.waits:
            await sleep(self.world.waits)
        await clear()
        return await self._change(call)

    def _answer(self, call: HttpCall, status: int, body: Any) -> HttpAnswer:
        place = f"{self.service}: {call.method} {call.path}"
        head = {"content-type": "application/json"}
        return HttpAnswer(place, status, head, json.dumps(body), call.changes, self.keyed)

    def _status(self, call: HttpCall) -> HttpAnswer:
        if self.world.blind:
            raise Temporary(f"{self.service}: {call.path}: connection refused")
        if call.path in self.world.answers:
            return self._answer(call, 200, self.world.answers[call.path])
        if call.path == "/api/ready":
            return self._answer(call, 200, {"ready": True})
        if call.path == "/actuator/metrics/hikaricp.connections.active":
            return self._answer(call, 200, {"measurements": [{"statistic": "VALUE", "value": 10}]})
        assert call.path == "/api/status", f"nobody foresaw GET {call.path}"
        return self._answer(call, 200, self.world.status)

    async def _change(self, call: HttpCall) -> HttpAnswer:
        world = self.world
        if world.slow:
            await sleep(world.slow)
        if world.refused:
            return self._answer(call, world.refused.pop(0), {"error": "no"})
        if world.lost != "not applied":
            self._apply(call)
        if world.lost:
            raise Unknown(f"{self.service}: {call.path}: the connection broke after sending")
        return self._answer(call, 200, {"ok": True})

    def _apply(self, call: HttpCall) -> None:
        world = self.world
        if call.key in world.keys and self.keyed:
            return
        world.keys.append(call.key)
        world.changes.append((world.clock(), call.path, call.json))
        body: Mapping[str, Any] = call.json if isinstance(call.json, dict) else {}
        if call.path == "/api/risk/emergency-reduce":
            world.kelly = body["kelly_fraction"]
        for name, value in _EFFECTS.get(call.path, {}).items():
            setattr(world, name, value)
        if call.method == "PATCH" and call.path in world.answers:
            world.answers[call.path] = {**world.answers[call.path], **body}

    def _number(self, call: HttpCall) -> HttpAnswer:
        world, query = self.world, str((call.form or {}).get("query"))
        if world.dark:
            raise Temporary("metrics: connection refused")
        world.asked.append(query)
        now = world.clock() / SECOND
        if query.startswith("min(timestamp("):
            value: Number = now - world.sample_age / SECOND
        else:
            value = world.numbers[query]() if query in world.numbers else 1.0
        labels = world.labels[query]() if query in world.labels else {}
        result = [] if value is None else [{"metric": labels, "value": [now, str(value)]}]
        return self._answer(call, 200, {"status": "success", "data": {"resultType": "vector", "result": result}})


_EFFECTS: Mapping[str, Mapping[str, Any]] = {
    "/api/stop-trading": {"trading": "halted"},
    "/api/start-trading": {"trading": "running"},
    "/api/router/pause": {"router": "paused"},
    "/api/router/resume": {"router": "running"},
    "/api/circuit-breaker/reset": {"breaker": "HALF_OPEN"},
    "/api/risk/refresh-volatility": {"volatility_age": 0.0},
}
