"""How the demo platform behaves: VaR that follows the Kelly fraction, a breaker, a router that switches, its Redis.

A pure model, apart from HTTP, so that its story ("stress, cut, relief") is tested with numbers instead of waiting. It
moves between two instants exactly: targets only change by a call, so every level is a first-order lag towards a
constant, and any number of readings in between changes nothing. It does not price anything: VaR is one volatility a
symbol times exposure times stress, which is enough for an alert to fire and to end.

Thresholds and the breaker's states: trading-operations.md P1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

VAR_LIMIT_PCT = 2.0
VAR_ALERT_PCT = 1.8
BREAKER_VAR_PCT = 2.5

SWITCHES_A_MINUTE = 6.0
"""Of a router at rest; the alert's limit is 20."""
REDIS_P99_US = 900.0
"""Microseconds; the alert's limit is 5000."""

WOBBLE = 0.01
"""Share by which a reported level swings around the model's. Bounded, and a function of time alone: a threshold that
is passed by more than this is passed in every run."""

WOBBLE_RATE = 1.7
"""Radians a second: no multiple of a scrape interval, so that consecutive scrapes differ."""


class Breaker(StrEnum):
    CLOSED = "CLOSED"
    HALF_OPEN = "HALF_OPEN"
    OPEN = "OPEN"


@dataclass(frozen=True, slots=True)
class Instrument:
    """One symbol: `volatility` is VaR in percent at a Kelly fraction of 1, `position_usd` the position held there."""

    symbol: str
    volatility: float
    position_usd: float
    edge_bps: float


INSTRUMENTS = (
    Instrument("BTC-USD", volatility=4.8, position_usd=2_400_000.0, edge_bps=12.0),
    Instrument("ETH-USD", volatility=4.4, position_usd=1_500_000.0, edge_bps=9.0),
    Instrument("SOL-USD", volatility=3.2, position_usd=600_000.0, edge_bps=7.0),
)


@dataclass(frozen=True, slots=True)
class Market:
    """The platform at the instant `at` (seconds of an arbitrary clock that only rises).

    `exposure` and `var_pct` (one level an instrument, in percent) lag behind what the parameters ask for by
    `time_constant` seconds. `responds` false is the fault that the emergency cut cannot cure: VaR then follows
    `normal_kelly` whatever the Kelly fraction is, until trading is halted.
    """

    instruments: tuple[Instrument, ...]
    normal_kelly: float
    time_constant: float
    at: float
    kelly_fraction: float
    exposure: float
    var_pct: tuple[float, ...]
    volatility_since: float
    stress: float = 1.0
    responds: bool = True
    trading: bool = True
    routing: bool = True
    breaker: Breaker = Breaker.CLOSED
    switches_a_minute: float = SWITCHES_A_MINUTE
    switches: float = 0.0
    """So many since the start; not whole, or a rate over seconds would jump."""
    slow_redis_us: float = REDIS_P99_US
    """Where Redis' latency is going, as VaR does."""
    redis_p99_us: float = REDIS_P99_US


def opened(instruments: tuple[Instrument, ...], kelly: float, time_constant: float, now: float) -> Market:
    """A calm market at rest: every level at what `kelly` asks for."""
    return Market(
        instruments=instruments,
        normal_kelly=kelly,
        time_constant=time_constant,
        at=now,
        kelly_fraction=kelly,
        exposure=kelly,
        var_pct=tuple(instrument.volatility * kelly for instrument in instruments),
        volatility_since=now,
    )


def advanced(market: Market, now: float) -> Market:
    """The market at `now`; levels nearer to their targets, the breaker open if VaR passed its limit on the way.

    Between two calls VaR moves in one direction, so its two ends are enough to see whether the limit was passed.
    """
    remaining = math.exp(-max(0.0, now - market.at) / market.time_constant)
    passed = max(0.0, now - market.at)
    moved = replace(
        market,
        at=max(now, market.at),
        switches=market.switches + (market.switches_a_minute / 60 * passed if market.routing else 0.0),
        redis_p99_us=_lagged(market.redis_p99_us, market.slow_redis_us, remaining),
        exposure=_lagged(market.exposure, _exposure_target(market), remaining),
        var_pct=tuple(
            _lagged(level, target, remaining)
            for level, target in zip(market.var_pct, _var_targets(market), strict=True)
        ),
    )
    return replace(moved, breaker=_breaker(moved))


def wobble(now: float, place: int) -> float:
    """The factor (1 ± WOBBLE) by which the instrument at `place` is reported off its level at `now`."""
    return 1.0 + WOBBLE * math.sin(WOBBLE_RATE * now + place)


def reported_var(market: Market) -> dict[str, float]:
    """VaR in percent by symbol, as a measurement would give it."""
    return {
        instrument.symbol: level * wobble(market.at, place)
        for place, (instrument, level) in enumerate(zip(market.instruments, market.var_pct, strict=True))
    }


def reported_positions(market: Market) -> dict[str, float]:
    """Position in USD by symbol: follows the exposure, not VaR, so a cut shows here even when VaR does not move."""
    return {instrument.symbol: instrument.position_usd * market.exposure for instrument in market.instruments}


def reported_edge(market: Market) -> dict[str, float]:
    """Blended edge in basis points by symbol; stress eats it."""
    return {
        instrument.symbol: instrument.edge_bps / market.stress * wobble(market.at, place)
        for place, instrument in enumerate(market.instruments)
    }


def _lagged(level: float, target: float, remaining: float) -> float:
    return target + (level - target) * remaining


def _exposure_target(market: Market) -> float:
    return market.kelly_fraction if market.trading else 0.0


def _var_targets(market: Market) -> tuple[float, ...]:
    exposure = _exposure_target(market)
    if market.trading and not market.responds:
        exposure = market.normal_kelly
    return tuple(instrument.volatility * exposure * market.stress for instrument in market.instruments)


def _breaker(market: Market) -> Breaker:
    return Breaker.OPEN if max(market.var_pct, default=0.0) > BREAKER_VAR_PCT else market.breaker
