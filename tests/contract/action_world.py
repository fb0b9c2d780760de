"""The members of the contract of actions, and the small closed world at the wire that they are run against."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
from redis.exceptions import ConnectionError as RedisConnectionError

from responder import postgres_statements as sql
from responder.actions import ACTIONS
from responder.command_processes import CommandCall, Ran
from responder.connections import Connections, Openers
from responder.contracts import Parameter, ReadSpec, Secret, Service, WriteSpec
from responder.perform import Ended, Performer
from responder.postgres_connections import Rows, SqlCall
from responder.recorded import Effect, Plan
from responder.redis_connections import Wire
from responder.runbook import Runbook, Step
from responder.services import (
    AlertmanagerService,
    CommandService,
    HttpService,
    PostgresService,
    PrometheusService,
    RedisService,
)
from responder.timing import SECOND

NOW = 1_700_000_000 * SECOND
TOKEN = "s3cret-bearer-token"
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
    slow_queries: list[int] = field(default_factory=lambda: [4711])
    """Process ids of statements that may be ended."""
    standby: bool = True
    """The replica follows; its primary is away."""
    feed: str = "main"
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
        return [*(f"{r.method} {r.url.path}" for r in self.requests if self.changing(r)), *self.done]

    @property
    def state(self) -> tuple[object, ...]:
        return (
            self.kelly,
            self.trading,
            dict(self.orders),
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

    def _silence(self, _request: httpx.Request, body: Any) -> httpx.Response:
        self.silences.append({**body, "id": f"silence-{len(self.silences)}", "status": {"state": "active"}})
        return httpx.Response(200, json={"silenceID": self.silences[-1]["id"]})

    def _limit(self, request: httpx.Request, _body: Any) -> httpx.Response:
        self.orders["limit"] = 1 if request.method == "PUT" else 0
        return httpx.Response(204)

    def wire(self, _service: RedisService, _patience: float) -> Wire:
        """A connection to the Redis."""
        return WorldWire(self)

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
    """A connection to the world's Redis, which knows `REPLIES` and nothing else."""

    world: World

    async def connect(self) -> None:
        """See Wire."""
        if self.world.refuse:
            raise RedisConnectionError("refused")

    async def ask(self, words: tuple[str, ...]) -> Any:
        """See Wire."""
        asked = " ".join(words)
        if asked not in REPLIES:
            self.world.unexpected.append(asked)
            raise AssertionError(f"unexpected command {asked}")
        if self.world.hang is False:
            await asyncio.Event().wait()
        return REPLIES[asked]

    async def close(self) -> None:
        """See Wire."""


@dataclass(frozen=True)
class WorldSql:
    """A connection to the world's PostgreSQL, which knows the statements of `_rows` and nothing else."""

    world: World
    url: str

    async def connect(self) -> None:
        """See SqlWire."""
        if self.world.refuse:
            raise psycopg.OperationalError("connection refused")

    async def ask(self, call: SqlCall) -> Rows:
        """See SqlWire."""
        rows = self._rows(call)
        if call.changes:
            self.world.done.append(call.what)
            if self.world.lose:
                raise psycopg.OperationalError("lost")
        if call.changes is self.world.hang:
            await asyncio.Event().wait()
        return rows

    def _rows(self, call: SqlCall) -> Rows:
        asked: dict[str, Callable[[], Rows]] = {
            sql.RIGHTS: lambda: [{"role": "responder", "sees": True, "signals": True}],
            sql.ROLES: lambda: [{"name": name, "super": False} for name in call.params["users"]],
            sql.STANDING: self._standing,
            sql.STANDBYS: list,
            sql.LONG_QUERIES: lambda: [SESSION],
            sql.POOL: lambda: [SESSION],
            sql.ROOM: lambda: [{"most": 100, "kept": 3}],
            sql.STATEMENTS_PLACE: lambda: [{"path": "public", "schema": "public", "usable": True, "role": "responder"}],
            sql.TOP_STATEMENTS: lambda: [STATEMENT],
            sql.ENDABLE: lambda: [{**SESSION, "pid": pid} for pid in self.world.slow_queries],
            sql.STILL_THERE: lambda: [{"number": int(call.params["pid"] in self.world.slow_queries)}],
            sql.CANCEL: lambda: self._cancel(call.params["pid"]),
            sql.PROMOTE: self._promote,
        }
        if call.statement not in asked:
            self.world.unexpected.append(call.statement)
            raise AssertionError(f"unexpected statement {call.statement}")
        return asked[call.statement]()

    def _standing(self) -> Rows:
        recovery = self.world.standby
        standing = {"recovery": recovery, "timeline": 1 if recovery else 2, "received": 5000, "replayed": 5000}
        return [{**standing, "receiver": None, "heard_seconds": None, "behind_seconds": None}]

    def _cancel(self, pid: int) -> Rows:
        if pid not in self.world.slow_queries:
            return []
        self.world.slow_queries = [one for one in self.world.slow_queries if one != pid]
        return [{"gone": True}]

    def _promote(self) -> Rows:
        self.world.standby = False
        return [{"promoted": True}]

    async def close(self) -> None:
        """See SqlWire."""


SESSION: dict[str, Any] = {
    "pid": 4711, "user": "reporting", "application": "monthly", "state": "active", "waits_for": None,
    "query": f"SELECT '{TOKEN}'", "seconds": 42.0, "total": 1, "sessions": 1, "backend_start": 1, "query_start": 2,
    "hash": 3,
}  # fmt: skip
STATEMENT: dict[str, Any] = {
    "query": "SELECT $1", "user": "reporting", "calls": 1, "rows": 1, "total_ms": 1.0, "mean_ms": 1.0, "max_ms": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Member:
    """One use of an action, and the effect class that it must have here."""

    action: str
    with_: dict[str, Any]
    effect: Effect

    @property
    def reads(self) -> bool:
        return self.effect is Effect.READ

    @property
    def probes(self) -> bool:
        """Whether the action itself can find out what became of a lost answer."""
        return "probe" in self.with_ or self.action.startswith(("parameter.", "postgres.", "alertmanager."))

    @property
    def remote(self) -> bool:
        return self.action != "wait"


PROBE = {"path": "/api/status", "expect": 'body.trading == "halted"'}
MEMBERS = {
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
    "reduce": Member("parameter.reduce", {"parameter": KELLY, "to": 0.1, "reason": "VaR breach"}, Effect.SET),
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
    "redis info": Member("redis.info", {"service": "cache"}, Effect.READ),
    "redis slow log": Member("redis.slowlog", {"service": "cache"}, Effect.READ),
    "redis latency": Member("redis.latency", {"service": "cache"}, Effect.READ),
    "redis clients": Member("redis.client_list", {"service": "cache"}, Effect.READ),
    "redis cause": Member("redis.diagnose", {"service": "cache"}, Effect.READ),
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
    ),
    "wait": Member("wait", {"for": "2s"}, Effect.READ),
}


def services() -> dict[str, Service]:
    token = Secret("env RISK_TOKEN", lambda: TOKEN)
    return {
        "risk-api": HttpService(url="http://risk", bearer=token),
        "keyed": HttpService(url="http://keyed", bearer=token, idempotency_keys=True),
        "metrics": PrometheusService(url="http://prometheus", bearer=token),
        "db": PostgresService(url="postgresql://db/trading", username="responder", password=token),
        "alertmanager": AlertmanagerService(url="http://alertmanager", bearer=token),
        "scripts": CommandService(folder="/opt/scripts"),
        "cache": RedisService(url="redis://redis", username="responder", password=token),
    }


async def no_wait(_seconds: float) -> None:
    """Virtual time: everything is over at once."""


def performer(transport: httpx.AsyncBaseTransport) -> Performer:
    openers = (
        Openers(redis=transport.wire, postgres=transport.sql, command=transport.launch)
        if isinstance(transport, World)
        else Openers()
    )
    connections = Connections(services(), lambda _service: transport, openers)
    return Performer(ACTIONS, connections.connect, PARAMETERS, lambda: NOW, no_wait)


async def prepare(world: World, member: Member) -> Plan:
    step = Step.model_validate({"id": "it", "action": member.action, "with": member.with_, "timeout": "10s"})
    return await performer(world).prepare(RUNBOOK, step, {})


async def act(world: World, member: Member, plan: Plan, timeout_us: int = 10 * SECOND) -> Ended:
    return await performer(world).act(member.action, plan, "inc1.run1.it.1", timeout_us)
