"""Running the engine's passes: each does what is due and says when it wants to be called again.

A loop sleeps until then, or until somebody says that something is due earlier. An exception in a pass is logged,
counted as unhealthy and tried again soon: a loop never ends by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from responder.contracts import Clock
from responder.timing import SECOND

Pass = Callable[[int], Awaitable[int | None]]
"""`pass(now) -> next due` (µs), or None when nothing is to come."""

LOG = logging.getLogger("responder.engine")


class Loop:
    """One pass, called when it is due. `poll` (µs) bounds the sleep, for what other replicas write."""

    def __init__(self, name: str, work: Pass, clock: Clock, poll: int) -> None:
        self.name = name
        self.failing: str | None = None
        self.busy_since: int | None = None
        """When the pass began that is under way (µs)."""
        self._pass = work
        self._clock = clock
        self._poll = poll
        self._due = 0
        self._early = asyncio.Event()

    def due_by(self, due: int) -> None:
        """Something is due at `due` (µs); wakes the loop when that is earlier than it knew."""
        if due < self._due:
            self._due = due
            self._early.set()

    def wake(self) -> None:
        """Look now."""
        self.due_by(0)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            now = self._clock()
            if now >= self._due:
                await self._once(now)
            await self._sleep()

    async def _once(self, now: int) -> None:
        self._due = now + self._poll
        self.busy_since = now
        try:
            due = await self._pass(now)
            self.failing = None
        except Exception as error:
            LOG.exception("the %s loop failed; it goes on in a second", self.name)
            self.failing, due = f"{type(error).__name__}: {error}", now + SECOND
        finally:
            self.busy_since = None
        if due is not None:
            self._due = min(self._due, due)

    async def _sleep(self) -> None:
        self._early.clear()
        left = (self._due - self._clock()) / SECOND
        if left <= 0:
            await asyncio.sleep(0)
            return
        try:
            # Not `wait_for`: in Python 3.11 it loses a cancellation that comes together with what it waits for.
            async with asyncio.timeout(left):
                await self._early.wait()
        except TimeoutError:
            return
