"""The stories that the demo can tell, and what breaks the platform in each of them.

Only the breaking lives here: what ought to follow is the runbooks' business, and whether it did is the ledger's.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from responder.demo.platform import Stress


class Scenario(StrEnum):
    VAR_BREACH = "var-breach"
    """VaR passes its alert threshold; the emergency cut of the Kelly fraction cures it."""

    VAR_BREACH_UNFIXED = "var-breach-unfixed"
    """The same, but VaR does not follow the cut: trading is halted in the end and people are paged."""

    MODEL_SWITCHING = "model-switching"
    """The model router switches too often and is paused; resuming it is left to people."""

    REDIS_LATENCY = "redis-latency"
    """Redis answers slowly: the likely cause is named, and a person restarts it."""

    HOT_RELOAD_REFUSED = "hot-reload-refused"
    """A person asks for a hot reload while VaR is too high for it."""

    BREAKER_RESET = "breaker-reset"
    """VaR opens the circuit breaker: the cause is treated first, then a person approves the reset."""

    REDIS_FAILOVER = "redis-failover"
    """A Redis master dies, its Sentinels do not elect another one, and one of them is told to. On real servers."""


STRESS: Final[dict[Scenario, Stress]] = {
    # 1.8 puts two of three symbols (2.16 %, 1.98 %) above the alert's 1.8 % and none above the breaker's 2.5 %: one
    # incident of two alerts, and a cut to 0.1 brings the worst to 0.86 %.
    Scenario.VAR_BREACH: Stress(factor=1.8),
    Scenario.VAR_BREACH_UNFIXED: Stress(factor=1.8, responds=False),
    Scenario.MODEL_SWITCHING: Stress(switches_a_minute=60.0),
    Scenario.REDIS_LATENCY: Stress(redis_p99_us=9000.0),
    # The worst symbol at 1.65 %, wobble included: no alert, and no hot reload either, which needs 1.5 %.
    Scenario.HOT_RELOAD_REFUSED: Stress(factor=1.375),
    # The worst symbol at 2.64 %, above the breaker's 2.5 %; the cut brings it to 1.06 %.
    Scenario.BREAKER_RESET: Stress(factor=2.2),
}
"""The body for `POST /demo/stress` that starts each story."""

BREAKS: Final[dict[Scenario, str]] = {
    Scenario.VAR_BREACH: "Now the market gets 1.8 times as risky",
    Scenario.VAR_BREACH_UNFIXED: "Now the market gets 1.8 times as risky",
    Scenario.MODEL_SWITCHING: "Now the router switches once a second, between two models",
    Scenario.REDIS_LATENCY: "Now a slow command holds up Redis again and again",
    Scenario.HOT_RELOAD_REFUSED: "Now it rises to 1.65 %: no alert yet, but above the 1.5 % of a hot reload",
    Scenario.BREAKER_RESET: "Now the market gets 2.2 times as risky, and at 2.5 % the breaker opens",
}
"""What is said when it is broken."""

READS_REDIS: Final = frozenset({Scenario.MODEL_SWITCHING, Scenario.REDIS_LATENCY})
"""The stories that have something to find in Redis."""
