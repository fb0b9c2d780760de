"""The edge-risk platform (trading-operations.md P1) as a small Starlette application to respond to.

Its interface is the operations' own: paths, bodies and metric names are theirs. `/demo/stress` and `/demo/ledger` are
ours: the one breaks the market, the other shows every changing call received, so that a demo or a test can prove that
nothing was done twice. For the same reason an `Idempotency-Key` is recorded but not honoured: a platform that swallows
repeats would hide what the ledger is there to show. It keeps no state beyond the process and is no model of a real
platform's security.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from responder.demo import market
from responder.demo.market import Breaker, Instrument, Market

LEDGER_ENTRIES = 10_000
BODY_BYTES = 64 * 1024

Clock = Callable[[], float]
Endpoint = Callable[[Request], Awaitable[Response]]
Change = Callable[[Market, object], Market]

BREAKER_NUMBER = {Breaker.CLOSED: 0, Breaker.HALF_OPEN: 1, Breaker.OPEN: 2}


@dataclass(frozen=True, slots=True)
class PlatformSettings:
    """How the platform starts. `time_constant`, `volatility_age`: seconds; without a `token` anyone may POST."""

    token: str | None = field(default=None, repr=False)
    kelly_fraction: float = 0.25
    time_constant: float = 2.0
    volatility_age: float = 0.0
    instruments: tuple[Instrument, ...] = market.INSTRUMENTS


class EmergencyReduce(BaseModel):
    """Body of `POST /api/risk/emergency-reduce`; both names are the operations' own."""

    model_config = ConfigDict(extra="forbid", strict=True)
    kelly_fraction: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
    reason: Annotated[str, Field(min_length=1, max_length=500)]


class Stress(BaseModel):
    """Body of `POST /demo/stress`; without anything in it the platform is at rest again.

    VaR is multiplied by `factor`; `responds` false: cutting Kelly no longer helps. The router switches so often a
    minute, and Redis answers in so many microseconds at the 99th percentile.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    factor: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 1.0
    responds: bool = True
    switches_a_minute: Annotated[float, Field(ge=0, le=6000, allow_inf_nan=False)] = market.SWITCHES_A_MINUTE
    redis_p99_us: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] = market.REDIS_P99_US


def create_platform(settings: PlatformSettings, clock: Clock) -> Starlette:
    """The platform as an ASGI application.

    `clock` gives seconds and only rises (`time.monotonic` in the demo). Every POST needs `Authorization: Bearer
    <token>` when the settings name a token (401 otherwise), and answers 422 to a body that makes no sense, 413 to one
    above 64 KiB.
    """
    return Starlette(routes=_Platform(settings, clock).routes(), max_body_size=BODY_BYTES)


class _Platform:
    """The one place that holds the moving state; every handler first brings the market to the present."""

    def __init__(self, settings: PlatformSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._started = clock()
        calm = market.opened(settings.instruments, settings.kelly_fraction, settings.time_constant, self._started)
        self._market = replace(calm, volatility_since=self._started - settings.volatility_age)
        self._ledger: list[dict[str, object]] = []
        self._registry = CollectorRegistry()
        self._registry.register(_Measurements(self._present))

    def routes(self) -> list[Route]:
        reading: dict[str, Endpoint] = {
            "/health": self._health,
            "/metrics": self._metrics,
            "/api/ready": self._ready,
            "/api/status": self._status,
            "/demo/ledger": self._show_ledger,
        }
        changing = [Route(path, self._changing(change), methods=["POST"]) for path, change in CHANGES.items()]
        stress = Route("/demo/stress", self._stress, methods=["POST"])
        return [Route(path, endpoint) for path, endpoint in reading.items()] + changing + [stress]

    def _present(self) -> Market:
        self._market = market.advanced(self._market, self._clock())
        return self._market

    async def _health(self, _request: Request) -> Response:
        return JSONResponse({"status": "healthy"})

    async def _ready(self, _request: Request) -> Response:
        return JSONResponse({"ready": True})

    async def _metrics(self, _request: Request) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def _status(self, _request: Request) -> Response:
        return JSONResponse(status_of(self._present()))

    async def _show_ledger(self, _request: Request) -> Response:
        return JSONResponse({"calls": self._ledger})

    async def _stress(self, request: Request) -> Response:
        def stressed(present: Market, body: object) -> Market:
            stress = Stress.model_validate(body)
            return replace(
                present,
                stress=stress.factor,
                responds=stress.responds,
                switches_a_minute=stress.switches_a_minute,
                slow_redis_us=stress.redis_p99_us,
            )

        status, answer, _body = self._apply(request, await request.body(), stressed)
        return JSONResponse(answer, status)

    def _changing(self, change: Change) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            status, answer, body = self._apply(request, await request.body(), change)
            self._record(request, body, status)
            return JSONResponse(answer, status)

        return endpoint

    def _apply(self, request: Request, raw: bytes, change: Change) -> tuple[int, dict[str, object], object]:
        """Status, answer and the body as understood; the market is changed only when the status is 200."""
        body = _understood(raw)
        if not self._may_change(request):
            return 401, {"detail": "this platform changes nothing without its bearer token"}, body
        if body is _NONSENSE:
            return 422, {"detail": "the body is no JSON"}, None
        try:
            self._market = market.advanced(change(self._present(), body), self._clock())
        except ValidationError as error:
            return 422, {"detail": error.errors(include_url=False, include_context=False, include_input=False)}, body
        return 200, status_of(self._market), body

    def _may_change(self, request: Request) -> bool:
        token = self._settings.token
        given = request.headers.get("authorization", "")
        return token is None or hmac.compare_digest(given.encode(), f"Bearer {token}".encode())

    def _record(self, request: Request, body: object, status: int) -> None:
        if len(self._ledger) >= LEDGER_ENTRIES:
            raise RuntimeError(f"the demo's ledger is full at {LEDGER_ENTRIES} calls: start the demo again")
        self._ledger.append(
            {
                "time": round(self._clock() - self._started, 6),
                "path": request.url.path,
                "body": None if body is _NONSENSE else body,
                "idempotency_key": request.headers.get("idempotency-key"),
                "status": status,
            }
        )


def status_of(present: Market) -> dict[str, object]:
    """What `GET /api/status` answers: the present parameters, measurements and limits; percent, seconds."""
    return {
        "kelly_fraction": present.kelly_fraction,
        "trading": "running" if present.trading else "halted",
        "router": "running" if present.routing else "paused",
        "circuit_breaker": present.breaker.value,
        "var_pct": {symbol: round(level, 4) for symbol, level in market.reported_var(present).items()},
        "volatility_age_seconds": round(present.at - present.volatility_since, 3),
        "redis_latency_p99_us": round(present.redis_p99_us, 1),
        "limits": {
            "var_pct": market.VAR_LIMIT_PCT,
            "var_alert_pct": market.VAR_ALERT_PCT,
            "circuit_breaker_var_pct": market.BREAKER_VAR_PCT,
        },
    }


def _emergency_reduce(present: Market, body: object) -> Market:
    # A setter, as the operations describe it: that a machine only lowers is the responder's rule, and a person's
    # restore comes through this same door.
    return replace(present, kelly_fraction=EmergencyReduce.model_validate(body).kelly_fraction)


def _refresh_volatility(present: Market, _body: object) -> Market:
    return replace(present, volatility_since=present.at)


def _pause_router(present: Market, _body: object) -> Market:
    return replace(present, routing=False)


def _resume_router(present: Market, _body: object) -> Market:
    return replace(present, routing=True)


def _stop_trading(present: Market, _body: object) -> Market:
    return replace(present, trading=False)


def _start_trading(present: Market, _body: object) -> Market:
    return replace(present, trading=True)


def _reset_breaker(present: Market, _body: object) -> Market:
    # After a manual reset trading is limited; with VaR still above the limit the next reading opens it again.
    return replace(present, breaker=Breaker.HALF_OPEN) if present.breaker is Breaker.OPEN else present


CHANGES: dict[str, Change] = {
    "/api/risk/emergency-reduce": _emergency_reduce,
    "/api/risk/refresh-volatility": _refresh_volatility,
    "/api/router/pause": _pause_router,
    "/api/router/resume": _resume_router,
    "/api/stop-trading": _stop_trading,
    "/api/start-trading": _start_trading,
    "/api/circuit-breaker/reset": _reset_breaker,
}
"""Every call that changes the platform, and what it does to the market."""


class _Nonsense:
    """What a body that is no JSON is understood as."""


_NONSENSE = _Nonsense()


def _understood(raw: bytes) -> object:
    if not raw.strip():
        return None
    try:
        return json.loads(raw, parse_constant=_refuse_constant)
    except ValueError:
        return _NONSENSE


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


class _Measurements:
    """Reads the market when Prometheus asks, instead of setting gauges that would be as old as the last call."""

    def __init__(self, present: Callable[[], Market]) -> None:
        self._present = present

    def collect(self) -> Iterator[Metric]:
        now = self._present()
        yield _by_symbol("var_pct", "Value at risk, percent of equity", market.reported_var(now))
        yield _by_symbol("position_size_usd", "Position in US dollars", market.reported_positions(now))
        yield _by_symbol("edge_blended_bps", "Blended edge in basis points", market.reported_edge(now))
        yield GaugeMetricFamily("kelly_fraction", "Kelly fraction in force", value=now.kelly_fraction)
        yield GaugeMetricFamily("trading_halted", "1 while trading is halted", value=int(not now.trading))
        yield GaugeMetricFamily("router_paused", "1 while the model router is paused", value=int(not now.routing))
        yield GaugeMetricFamily(
            "circuit_breaker_state", "0 CLOSED, 1 HALF_OPEN, 2 OPEN", value=BREAKER_NUMBER[now.breaker]
        )
        yield GaugeMetricFamily(
            "volatility_age_seconds", "Age of the volatility estimates", value=now.at - now.volatility_since
        )
        yield CounterMetricFamily("model_switch", "Switches of the model router", value=now.switches)
        yield GaugeMetricFamily("redis_latency_p99", "Redis latency, microseconds", value=now.redis_p99_us)


def _by_symbol(name: str, documentation: str, levels: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=["symbol"])
    for symbol, level in levels.items():
        family.add_metric([symbol], level)
    return family
