"""Looks at the demo from outside, as a sceptic would: the platform's status and ledger, the responder's API.

What it sees is the only thing that the ending is judged by; no part of the responder is asked in passing. It also tells
what happens at the platform, which the responder cannot see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from responder.errors import Permanent

TIMEOUT = 5.0
"""Seconds for one answer, on loopback."""
REDIS_ALERT_US = 5000
"""Of the alert RedisLatencyHigh."""


@dataclass(frozen=True, slots=True)
class Call:
    """One changing call that the platform received, in its order."""

    path: str
    status: int
    body: object


@dataclass(frozen=True, slots=True)
class Seen:
    """One look. VaR in percent, the worst symbol's; `incidents` with their journals, newest first."""

    kelly_fraction: float
    var_pct: float
    alert_pct: float
    trading: bool
    calls: tuple[Call, ...]
    incidents: tuple[Mapping[str, Any], ...]
    messages_wait: bool
    routing: bool = True
    breaker: str = "CLOSED"
    redis_p99_us: float = 0.0

    @property
    def incident(self) -> Mapping[str, Any] | None:
        """The newest one."""
        return self.incidents[0] if self.incidents else None

    def incident_of(self, runbook: str) -> Mapping[str, Any] | None:
        """The newest one that began with this runbook."""
        return next((one for one in self.incidents if one.get("runbook") == runbook), None)

    @property
    def over(self) -> bool:
        """Nothing more will happen: every incident is closed, and everybody was told."""
        closed = all(incident["status"] == "closed" for incident in self.incidents)
        return bool(self.incidents) and closed and not self.messages_wait


class Observer:
    """See the module. The clients carry the credentials and base addresses."""

    def __init__(self, platform: httpx.AsyncClient, responder: httpx.AsyncClient) -> None:
        self._platform = platform
        self._responder = responder

    async def look(self) -> Seen:
        """How everything is now. Raises Permanent when the platform or the responder does not answer."""
        status = await _json(self._platform, "/api/status")
        calls = (await _json(self._platform, "/demo/ledger"))["calls"]
        incidents, waiting = await recorded(self._responder)
        return Seen(
            kelly_fraction=status["kelly_fraction"],
            var_pct=max(status["var_pct"].values()),
            alert_pct=status["limits"]["var_alert_pct"],
            trading=status["trading"] == "running",
            calls=tuple(Call(call["path"], call["status"], call["body"]) for call in calls),
            incidents=incidents,
            messages_wait=waiting,
            routing=status["router"] == "running",
            breaker=status["circuit_breaker"],
            redis_p99_us=status["redis_latency_p99_us"],
        )


async def recorded(responder: httpx.AsyncClient) -> tuple[tuple[Mapping[str, Any], ...], bool]:
    """Every incident with its journal, newest first, and whether messages wait. Raises Permanent."""
    listed = (await _json(responder, "/api/v1/incidents"))["incidents"]
    incidents = tuple([await _json(responder, f"/api/v1/incidents/{one['id']}") for one in listed])
    return incidents, (await _json(responder, "/api/v1/status"))["next_message_at"] is not None


def news(before: Seen, now: Seen) -> Iterator[str]:
    """What happened at the platform between two looks, one sentence each."""
    if before.var_pct <= now.alert_pct < now.var_pct:
        yield f"VaR passes the alert's {now.alert_pct:.2f} % and rises"
    for call in now.calls[len(before.calls) :]:
        answered = "" if call.status == 200 else f", answered {call.status}"
        yield f"receives POST {call.path}{answered}"
    if before.kelly_fraction != now.kelly_fraction:
        yield f"Kelly fraction is {now.kelly_fraction:.2f} now, was {before.kelly_fraction:.2f}"
    if before.trading and not now.trading:
        yield "trading is halted"
    if before.routing != now.routing:
        yield "the router is paused" if before.routing else "the router runs again"
    if before.breaker != now.breaker:
        yield f"the circuit breaker is {now.breaker}, was {before.breaker}"
    if before.redis_p99_us <= REDIS_ALERT_US < now.redis_p99_us:
        yield f"Redis' latency passes the alert's {REDIS_ALERT_US} µs and rises"
    if now.redis_p99_us <= REDIS_ALERT_US < before.redis_p99_us:
        yield f"Redis' latency is back below {REDIS_ALERT_US} µs"
    if now.var_pct <= now.alert_pct < before.var_pct:
        yield f"VaR is back below {now.alert_pct:.2f} %"


async def _json(client: httpx.AsyncClient, path: str) -> Any:
    try:
        answer = await client.get(path, timeout=TIMEOUT)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        said = str(error) or type(error).__name__
        raise Permanent(f"{client.base_url}{path.lstrip('/')} of the demo does not answer: {said}") from None
    return answer.json()
