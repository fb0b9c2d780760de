"""When changes are not sent to a service that does not take them: after failures in a row, for a while.

Pure: time is a parameter (µs). Only changes are held back and only they count. What is read goes through, always: a
verification or probe that is not asked would leave people without the truth, and a status page that is down says
nothing about the door that halts trading.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from responder.contracts import Strict
from responder.timing import SECOND
from responder.written import Duration


class CircuitBreaker(Strict):
    """When a service gets no more changes. Not for a service that a brake needs: a halt would be held back, too."""

    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    """So many changes in a row without an answer, or answered 5xx, open it."""
    open_for: Duration = 30 * SECOND
    """So long none is sent; then one is, and its end decides."""


class Breaker:
    """The state of one service's breaker."""

    def __init__(self, settings: CircuitBreaker) -> None:
        self._settings = settings
        self._failed = 0
        self._until: int | None = None
        self._trying = False

    def waits(self, now: int) -> int:
        """How long nothing is sent (µs); 0 when this change may go, which then must be `ended`."""
        if self._until is None:
            return 0
        if now < self._until:
            return self._until - now
        if self._trying:
            return self._settings.open_for
        self._trying = True
        return 0

    def ended(self, *, answered: bool, now: int) -> None:
        """How a change ended: with an answer that shows a service at work, or not."""
        self._trying = False
        self._failed = 0 if answered else self._failed + 1
        opens = self._failed >= self._settings.failures or (self._until is not None and not answered)
        self._until = now + self._settings.open_for if opens else None

    def dropped(self) -> None:
        """The change was not sent after all: it says nothing."""
        self._trying = False
