"""The members of the contract of actions, and the small closed world at the wire that they are run against."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import httpx
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from responder.actions import ACTIONS
from responder.command_processes import CommandCall, Ran
from responder.connections import Connections, Openers
from responder.contracts import Parameter, ReadSpec, Secret, Service, WriteSpec
from responder.kubernetes_calls import KubernetesCall
from responder.kubernetes_connections import Reply
from responder.last_look import Clear
from responder.perform import Ended, Performer
from responder.recorded import Effect, Plan
from responder.redis_connections import OpenWire, Wire
from responder.runbook import Runbook, Step
from responder.services import (
    AlertmanagerService,
    CommandService,
    HttpService,
    KubernetesService,
    PostgresService,
    PrometheusService,
    RedisSentinelService,
    RedisService,
)
from responder.timing import SECOND
from tests.contract.sentinel_world import MASTER, NAME, SENTINELS, Watched
from tests.contract.sql_world import TOKEN, WorldSql
from tests.fakes.kubernetes import Cluster
from tests.fakes.kubernetes_objects import budget, config_map, event, workload
from tests.fakes.kubernetes_way import ClusterWay

NOW = 1_700_000_000 * SECOND

KELLY = "risk-api/kelly_fraction"
RUNBOOK = Runbook(runbook="var-breach", title="VaR", target=KELLY)
PARAMETERS = {
    KELLY: Parameter(
        service="risk-api",
        read=ReadSpec(path="/api/status", value="kelly_fraction"),
        write=WriteSpec(
            path="/api/risk/emergency-reduce", body={"kelly_fraction": "{{ value }}", "reason": "{{ reason }}"}
        ),
        floor=0.05,
        total_per_day=0.3,
    )
}


def a_cluster() -> Cluster:
    """One with a workload that has been released twice, whose token is the world's."""
    found = Cluster(token=TOKEN)
    found.add("deployments", workload("Deployment", "trading-app", env={"FORCE_ERROR_RATE": "0.2"}))
    new = {"name": "app", "image": "registry.example/trading:1.1"}
    found.edit("deployments", "trading-app", {"spec": {"template": {"spec": {"containers": [new]}}}})
    found.add("configmaps", config_map("trading-config", {"max_positions": "20"}))
    found.add("poddisruptionbudgets", budget("trading-app", 1))
    pod = _first_pod(found)
    found.add("events", event("e1", pod, "BackOff", f"restarting with {TOKEN}"))
    found.logs[pod] = f"starting with {TOKEN}\nERROR no broker\n"
    return found


def _first_pod(cluster: Cluster) -> str:
    return str(min(tree["metadata"]["name"] for tree in cluster.of("pods")))


POD = _first_pod(a_cluster())


@dataclass
class World(httpx.AsyncBaseTransport):
    """A platform, a Prometheus, a Redis and a PostgreSQL, with faults that can be switched on.

    `refuse`: no connection. `lose`: a change is done, its answer lost. `hang`: questions (False) or changes, once done
    (True), are never answered. `ignores`: the Kelly fraction is accepted and stays as it was.
    """

    kelly: float = 0.25
    trading: str = "running"
    orders: dict[str, int] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    refuse: bool = False
    lose: bool = False
    hang: bool | None = None
    ignores: bool = False
    keys: set[str] = field(default_factory=set)
    heard: dict[str, int] = field(default_factory=dict)
    """By channel: how often services have done what a message says. Reading settings again is done once."""
    watched: Watched = field(default_factory=Watched)
    sent: list[str] = field(default_factory=list)
    """Commands that change something; the trial write on an own key is none."""
    cluster: Cluster = field(default_factory=a_cluster)
    slow_queries: list[int] = field(default_factory=lambda: [4711])
    """Process ids of statements that may be ended."""
    standby: bool = True
    """The replica follows; its primary is away."""
    feed: str = "main"
    aged: float = 0.0
    """Seconds that have passed for statements and positions since the world began."""
    silences: list[dict[str, Any]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """Changes that are no HTTP requests."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        changing = self.changing(request)
        if self.refuse:
            raise httpx.ConnectError("refused")
        answer = self._answer(request, json.loads(request.content) if changing and request.content else None)
        if changing and self.lose:
            raise httpx.ReadTimeout("lost")
        if changing is self.hang:
            await asyncio.Event().wait()
        return answer

    @staticmethod
    def changing(request: httpx.Request) -> bool:
        return request.method not in {"GET", "HEAD"} and request.url.path != "/api/v1/query"

    @property
    def changes(self) -> list[str]:
        http = [f"{r.method} {r.url.path}" for r in self.requests if self.changing(r)]
        cluster = (f"{one.verb} {one.resource} {one.name}" for one in self.cluster.changes)
        return [*http, *self.sent, *self.done, *cluster]

    @property
    def state(self) -> tuple[object, ...]:
        return (
            self.kelly,
            self.trading,
            dict(self.orders),
            dict(self.heard),
            self.watched.state,
            self.cluster.state,
            tuple(self.slow_queries),
            self.standby,
            self.feed,
            len(self.silences),
        )

    def _answer(self, request: httpx.Request, body: Any) -> httpx.Response:
        route = self.routes().get((request.method, request.url.path))
        if route is None:
            self.unexpected.append(f"{request.method} {request.url}")
            raise AssertionError(f"unexpected request {request.method} {request.url}")
        return route(request, body)

    def routes(self) -> dict[tuple[str, str], Callable[[httpx.Request, Any], httpx.Response]]:
        return {
            ("GET", "/api/status"): lambda _r, _b: self._status(),
            ("POST", "/api/risk/emergency-reduce"): self._reduce,
            ("POST", "/api/stop-trading"): self._stop,
            ("POST", "/api/orders"): self._order,
            ("PUT", "/api/limit"): self._limit,
            ("DELETE", "/api/limit"): self._limit,
            ("POST", "/api/v1/query"): self._query,
            ("GET", "/api/v2/silences"): lambda _r, _b: httpx.Response(200, json=self.silences),
            ("POST", "/api/v2/silences"): self._silence,
            ("DELETE", "/api/v2/silence/silence-0"): self._silence,
        }

    def _status(self) -> httpx.Response:
        return httpx.Response(200, json={"kelly_fraction": self.kelly, "trading": self.trading, "token": TOKEN})

    def _reduce(self, _request: httpx.Request, body: Any) -> httpx.Response:
        self.kelly = self.kelly if self.ignores else body["kelly_fraction"]
        return self._status()

    def _stop(self, _request: httpx.Request, _body: Any) -> httpx.Response:
        self.trading = "halted"
        return self._status()

    def _order(self, request: httpx.Request, _body: Any) -> httpx.Response:
        key = request.headers["idempotency-key"]
        if request.url.host != "keyed" or key not in self.keys:
            self.orders["orders"] = self.orders.get("orders", 0) + 1
        self.keys.add(key)
        return self._status()

    def _silence(self, request: httpx.Request, body: Any) -> httpx.Response:
        if request.method == "DELETE":
            self.silences.clear()
            return httpx.Response(200)
        self.silences.append({**body, "id": f"silence-{len(self.silences)}", "status": {"state": "active"}})
        return httpx.Response(200, json={"silenceID": self.silences[-1]["id"]})

    def _limit(self, request: httpx.Request, _body: Any) -> httpx.Response:
        self.orders["limit"] = 1 if request.method == "PUT" else 0
        return httpx.Response(204)

    def wire(self, service: RedisService, _patience: float) -> Wire:
        """A connection to a Redis server or a Sentinel."""
        address = service.url.removeprefix("redis://")
        return WorldWire(self, address, self.watched.behind_tls and address == MASTER)

    def publish(self, channel: str) -> int:
        """Two services listen."""
        self.heard[channel] = 1 if channel == "param.reload" else self.heard.get(channel, 0) + 1
        return 2

    def way(self, _service: KubernetesService) -> WorldCluster:
        """The way to the cluster."""
        return WorldCluster(self)

    async def launch(self, _service: CommandService, call: CommandCall, _environment: Mapping[str, str]) -> Ran:
        """The folder of scripts."""
        if self.refuse:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        if call.command == "verify_data_feed.sh":
            if self.hang is False:
                await asyncio.Event().wait()
            return Ran(0 if self.feed == "backup" else 1, "", "")
        if call.command != "switch_data_feed.sh":
            self.unexpected.append(call.command)
            raise AssertionError(f"unexpected program {call.command}")
        self.done.append(call.command)
        self.feed = call.args[1]
        if self.hang:
            await asyncio.Event().wait()
        return Ran(-9 if self.lose else 0, "", "")

    def sql(self, service: PostgresService, _patience: float, _named: str) -> WorldSql:
        """A connection to the PostgreSQL."""
        return WorldSql(self, service.url)

    def _query(self, request: httpx.Request, _body: Any) -> httpx.Response:
        found = {"metric": {}, "value": [NOW / SECOND, "2.13"]}
        return httpx.Response(200, json={"status": "success", "data": {"resultType": "vector", "result": [found]}})


INFO = b"# Clients\r\nconnected_clients:12\r\n# Memory\r\nused_memory:1000\r\nused_memory_rss:1500\r\nmaxmemory:0\r\n"
SLOW = [7, NOW // SECOND - 20, 12000, [b"TS.RANGE", b"var_pct:BTC-USD", TOKEN.encode()], b"10.0.0.7:40000", b"web"]
REPLIES: dict[str, Any] = {
    "EXISTS var_pct:BTC-USD": 1,
    "GETRANGE var_pct:BTC-USD 0 500": b"2.13",
    "HLEN volatility_estimates": 2,
    "HGETALL volatility_estimates": [b"BTC-USD", b"4.8", b"said", f"the {TOKEN}".encode()],
    "XREVRANGE model.switch.log + - COUNT 20": [[b"2-0", [b"from", b"a", b"to", b"b"]]],
    f"TS.RANGE var_pct:BTC-USD {NOW // 1000 - 60_000} {NOW // 1000 + 60_000} COUNT 5 AGGREGATION avg 30000": [
        [NOW // 1000 - 30_000, b"2.13"]
    ],
    "INFO stats": b"# Stats\r\nevicted_keys:3\r\n",
    "INFO clients": INFO,
    "INFO memory": INFO,
    "SLOWLOG GET 10": [SLOW],
    "SLOWLOG GET 100": [SLOW],
    "LATENCY HISTORY command": [[NOW // SECOND, 12]],
    "CLIENT LIST": b"id=1 addr=10.0.0.7:40000 name=web tot-mem=2048 cmd=get\n",
}


@dataclass(frozen=True)
class WorldWire:
    """A connection to the server at this address: the cache knows `REPLIES` and PUBLISH, others `Watched`."""

    world: World
    address: str
    shook_hands: bool = False

    async def connect(self) -> None:
        """See Wire."""
        if self.world.refuse:
            raise RedisConnectionError("refused")
        if self.address != "redis":
            self.world.watched.reaches(self.address)

    async def ask(self, words: tuple[str, ...]) -> Any:
        """See Wire."""
        # The trial write of a failover is no change of its own.
        changing = words[:2] == ("SENTINEL", "FAILOVER") or (self.address == "redis" and words[0] in {"PUBLISH", "SET"})
        if changing:
            self.world.sent.append(" ".join(words))
        try:
            reply = self._answer(words)
        except KeyError:
            self.world.unexpected.append(f"{self.address}: {' '.join(words)}")
            raise AssertionError(f"unexpected command {words}") from None
        if changing and self.world.lose:
            raise RedisTimeoutError("lost")
        if changing is self.world.hang:
            await asyncio.Event().wait()
        return reply

    def _answer(self, words: tuple[str, ...]) -> Any:
        if self.address != "redis":
            return self.world.watched.answer(self.address, words)
        if words[0] == "PUBLISH":
            return self.world.publish(words[1])
        if words == ("SET", "responder:write-test", "1", "EX", "60"):
            self.world.heard["written"] = 1
            return b"OK"
        return REPLIES[" ".join(words)]

    async def close(self) -> None:
        """See Wire."""


@dataclass(frozen=True)
class WorldCluster:
    """The way to the world's cluster."""

    world: World

    async def ask(self, call: KubernetesCall, patience: float, clear: Clear) -> Reply:
        """See Wire."""
        if self.world.refuse:
            raise aiohttp.ConnectionTimeoutError("refused")
        reply = await ClusterWay(self.world.cluster).ask(call, patience, clear)
        if call.changes and self.world.lose:
            raise aiohttp.SocketTimeoutError("lost")
        if call.changes is self.world.hang:
            await asyncio.Event().wait()
        return reply


@dataclass(frozen=True)
class Member:
    """One use of an action, and the effect class that it must have here."""

    action: str
    with_: dict[str, Any]
    effect: Effect
    undoes: bool = False
    """Whether it can be put back to the state before."""

    @property
    def reads(self) -> bool:
        return self.effect is Effect.READ

    @property
    def probes(self) -> bool:
        """Whether the action itself can find out what became of a lost answer."""
        families = ("parameter.", "postgres.", "alertmanager.", "kubernetes.")
        return "probe" in self.with_ or self.action == "redis.failover" or self.action.startswith(families)

    @property
    def remote(self) -> bool:
        return self.action != "wait"


PROBE = {"path": "/api/status", "expect": 'body.trading == "halted"'}


def _cluster(action: str, effect: Effect, undoes: bool = False, **with_: Any) -> Member:
    whole = {"service": "cluster", "namespace": "trading", **with_}
    return Member(f"kubernetes.{action}", whole, effect, undoes)


APP = "deployment/trading-app"
MEMBERS = {
    "restart": _cluster("rollout_restart", Effect.PROBED, workload=APP),
    "rollout": _cluster("rollout_status", Effect.READ, workload=APP),
    "undo a release": _cluster("rollout_undo", Effect.SET, undoes=True, workload=APP),
    "scale": _cluster("scale", Effect.SET, undoes=True, workload=APP, replicas=5, min=2, max=10),
    "delete a pod": _cluster("delete_pod", Effect.SET, pod=POD),
    "evict a pod": _cluster("evict", Effect.SET, pod=POD),
    "set a variable": _cluster("set_env", Effect.SET, undoes=True, workload=APP, remove=["FORCE_ERROR_RATE"]),
    "set a key": _cluster(
        "configmap_patch", Effect.SET, undoes=True, configmap="trading-config", set={"max_positions": "10"}
    ),
    "pods": _cluster("pods", Effect.READ, workload=APP),
    "events": _cluster("events", Effect.READ, workload=APP),
    "logs": _cluster("logs", Effect.READ, pod=POD),
    "workload": _cluster("workload", Effect.READ, workload=APP),
    "get": Member("http.request", {"service": "risk-api", "path": "/api/status"}, Effect.READ),
    "put": Member(
        "http.request", {"service": "risk-api", "method": "PUT", "path": "/api/limit", "json": {"to": 1}}, Effect.SET
    ),
    "delete": Member("http.request", {"service": "risk-api", "method": "DELETE", "path": "/api/limit"}, Effect.SET),
    "keyed": Member("http.request", {"service": "keyed", "method": "POST", "path": "/api/orders"}, Effect.KEYED),
    "probed": Member(
        "http.request",
        {"service": "risk-api", "method": "POST", "path": "/api/stop-trading", "probe": PROBE},
        Effect.PROBED,
    ),
    "unsafe": Member("http.request", {"service": "risk-api", "method": "POST", "path": "/api/orders"}, Effect.UNSAFE),
    "reduce": Member(
        "parameter.reduce", {"parameter": KELLY, "to": 0.1, "reason": "VaR breach"}, Effect.SET, undoes=True
    ),
    "query": Member(
        "prometheus.query", {"service": "metrics", "query": "max(var_pct)", "freshness": "var_pct"}, Effect.READ
    ),
    "sql replication": Member("postgres.replication_status", {"service": "db"}, Effect.READ),
    "sql long queries": Member("postgres.long_queries", {"service": "db"}, Effect.READ),
    "sql pool": Member("postgres.pool_usage", {"service": "db"}, Effect.READ),
    "sql statements": Member("postgres.top_statements", {"service": "db"}, Effect.READ),
    "sql terminate": Member(
        "postgres.terminate_queries",
        {"service": "db", "users": ["reporting"], "spared": ["order-entry"], "older_than": "30s"},
        Effect.PROBED,
    ),
    "sql promote": Member(
        "postgres.promote", {"candidates": ["db"], "fencing": "its StatefulSet is scaled to 0"}, Effect.PROBED
    ),
    "redis get": Member("redis.get", {"service": "cache", "key": "var_pct:BTC-USD"}, Effect.READ),
    "redis hash": Member("redis.hgetall", {"service": "cache", "key": "volatility_estimates"}, Effect.READ),
    "redis stream": Member("redis.xrevrange", {"service": "cache", "stream": "model.switch.log"}, Effect.READ),
    "redis time series": Member(
        "redis.timeseries_range",
        {"service": "cache", "key": "var_pct:BTC-USD", "last": "1m", "samples": 2},
        Effect.READ,
    ),
    "redis info": Member("redis.info", {"service": "cache"}, Effect.READ),
    "redis slow log": Member("redis.slowlog", {"service": "cache"}, Effect.READ),
    "redis latency": Member("redis.latency", {"service": "cache"}, Effect.READ),
    "redis clients": Member("redis.client_list", {"service": "cache"}, Effect.READ),
    "redis cause": Member("redis.diagnose", {"service": "cache"}, Effect.READ),
    "redis Sentinels": Member("redis.sentinel", {"service": "trading-redis"}, Effect.READ),
    "redis failover": Member("redis.failover", {"service": "trading-redis"}, Effect.PROBED),
    "redis reload": Member(
        "redis.publish",
        {"service": "cache", "channel": "param.reload", "message": "all", "repeatable": True},
        Effect.SET,
    ),
    "redis message": Member("redis.publish", {"service": "cache", "channel": "orders", "message": "x"}, Effect.UNSAFE),
    "redis write": Member("redis.write_test", {"service": "cache"}, Effect.SET),
    "command": Member(
        "command.run",
        {
            "service": "scripts",
            "command": "switch_data_feed.sh",
            "args": ["--feed"],
            "values": ["backup"],
            "probe": {"command": "verify_data_feed.sh"},
        },
        Effect.PROBED,
    ),
    "command again": Member(
        "command.run",
        {"service": "scripts", "command": "switch_data_feed.sh", "args": ["--feed", "x"], "repeatable": True},
        Effect.SET,
    ),
    "command reads": Member(
        "command.run",
        {"service": "scripts", "command": "verify_data_feed.sh", "reads": True, "ok": [0, 1]},
        Effect.READ,
    ),
    "silence": Member(
        "alertmanager.silence",
        {"service": "alertmanager", "matchers": {"alertname": "A"}, "for": "15m", "comment": "rebuilt"},
        Effect.PROBED,
        undoes=True,
    ),
    "wait": Member("wait", {"for": "2s"}, Effect.READ),
}


def services() -> dict[str, Service]:
    token = Secret("env RISK_TOKEN", lambda: TOKEN)
    return {
        "risk-api": HttpService(url="http://risk", bearer=token),
        "keyed": HttpService(url="http://keyed", bearer=token, idempotency_keys=True),
        "metrics": PrometheusService(url="http://prometheus", bearer=token),
        "cluster": KubernetesService(url="https://cluster", token=token, namespaces=("trading",)),
        "db": PostgresService(url="postgresql://db/trading", username="responder", password=token),
        "alertmanager": AlertmanagerService(url="http://alertmanager", bearer=token),
        "scripts": CommandService(folder="/opt/scripts"),
        "cache": RedisService(url="redis://redis", username="responder", password=token),
        "trading-redis": RedisSentinelService(
            sentinels=SENTINELS, master=NAME, password=token, sentinel_password=token, timeout="2s"
        ),
    }


async def no_wait(_seconds: float) -> None:
    """Virtual time: everything is over at once."""


def performer(transport: httpx.AsyncBaseTransport, open_wire: OpenWire | None = None, now: int = NOW) -> Performer:
    """With the libraries where the transport is not a world. `open_wire`: to another Redis than the world's."""
    openers = Openers()
    if isinstance(transport, World):
        openers = Openers(transport.wire, transport.way, transport.sql, transport.launch)
    if open_wire is not None:
        openers = replace(openers, redis=open_wire)
    connections = Connections(services(), lambda _service: transport, openers)
    return Performer(ACTIONS, connections.connect, PARAMETERS, lambda: now, no_wait)


async def prepare(world: World, member: Member, now: int = NOW) -> Plan:
    step = Step.model_validate({"id": "it", "action": member.action, "with": member.with_, "timeout": "10s"})
    return await performer(world, now=now).prepare(RUNBOOK, step, {})


async def act(world: World, member: Member, plan: Plan, timeout_us: int = 10 * SECOND) -> Ended:
    return await performer(world).act(member.action, plan, "inc1.run1.it.1", timeout_us)
