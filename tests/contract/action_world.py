"""The members of the contract of actions, and the small closed world at the wire that they are run against."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from responder.actions import ACTIONS
from responder.connections import Connections
from responder.contracts import Parameter, ReadSpec, Secret, WriteSpec
from responder.perform import Ended, Performer
from responder.recorded import Effect, Plan
from responder.runbook import Runbook, Step
from responder.services import Endpoint, HttpService, PrometheusService
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
    """A platform and a Prometheus, with faults that can be switched on.

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
        return [f"{r.method} {r.url.path}" for r in self.requests if self.changing(r)]

    @property
    def state(self) -> tuple[object, ...]:
        return self.kelly, self.trading, dict(self.orders)

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

    def _limit(self, request: httpx.Request, _body: Any) -> httpx.Response:
        self.orders["limit"] = 1 if request.method == "PUT" else 0
        return httpx.Response(204)

    def _query(self, request: httpx.Request, _body: Any) -> httpx.Response:
        found = {"metric": {}, "value": [NOW / SECOND, "2.13"]}
        return httpx.Response(200, json={"status": "success", "data": {"resultType": "vector", "result": [found]}})


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
    "wait": Member("wait", {"for": "2s"}, Effect.READ),
}


def services() -> dict[str, Endpoint]:
    token = Secret("env RISK_TOKEN", lambda: TOKEN)
    return {
        "risk-api": HttpService(url="http://risk", bearer=token),
        "keyed": HttpService(url="http://keyed", bearer=token, idempotency_keys=True),
        "metrics": PrometheusService(url="http://prometheus", bearer=token),
    }


async def no_wait(_seconds: float) -> None:
    """Virtual time: everything is over at once."""


def performer(transport: httpx.AsyncBaseTransport) -> Performer:
    connections = Connections(services(), lambda _service: transport)
    return Performer(ACTIONS, connections.connect, PARAMETERS, lambda: NOW, no_wait)


async def prepare(world: World, member: Member) -> Plan:
    step = Step.model_validate({"id": "it", "action": member.action, "with": member.with_, "timeout": "10s"})
    return await performer(world).prepare(RUNBOOK, step, {})


async def act(world: World, member: Member, plan: Plan, timeout_us: int = 10 * SECOND) -> Ended:
    return await performer(world).act(member.action, plan, "inc1.run1.it.1", timeout_us)
