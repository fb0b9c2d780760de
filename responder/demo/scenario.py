"""The stories that the demo can tell, and what breaks the market in each of them.

Only the breaking lives here: what ought to follow is the runbooks' business, and whether it did is the ledger's.
"""

from __future__ import annotations

from enum import StrEnum

from responder.demo.platform import Stress


class Scenario(StrEnum):
    VAR_BREACH = "var-breach"
    """VaR passes its alert threshold; the emergency cut of the Kelly fraction cures it."""

    VAR_BREACH_UNFIXED = "var-breach-unfixed"
    """The same, but VaR does not follow the cut: trading is halted in the end and people are paged."""


STRESS: dict[Scenario, Stress] = {
    # 1.8 puts two of three symbols (2.16 %, 1.98 %) above the alert's 1.8 % and none above the breaker's 2.5 %: one
    # incident of two alerts, and a cut to 0.1 brings the worst to 0.86 %.
    Scenario.VAR_BREACH: Stress(factor=1.8, responds=True),
    Scenario.VAR_BREACH_UNFIXED: Stress(factor=1.8, responds=False),
}
"""The body for `POST /demo/stress` that starts each story."""
