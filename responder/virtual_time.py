"""An event loop whose time moves only when nothing can run: an hour of waiting takes no time, and nothing is skipped.

For simulations and tests on one thread without real connections: everything in the loop sees `VirtualLoop.time`, and
`VirtualClock` gives the same instant in microseconds since the epoch.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from responder.timing import SECOND

Result = TypeVar("Result")


class Stuck(RuntimeError):
    """Everything waits, and nothing will ever happen."""


class _Selector(selectors.BaseSelector):
    """Asks the real selector without waiting, and moves the time instead."""

    def __init__(self, clock: VirtualClock) -> None:
        self._real = selectors.DefaultSelector()
        self._clock = clock

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            raise Stuck("nothing can run, and no time was set for anything")
        self._clock.move(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualClock:
    """Microseconds since the epoch, beginning at `start`."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._passed = 0

    def __call__(self) -> int:
        """The present instant."""
        return self._start + self._passed

    def move(self, seconds: float) -> None:
        """Let time pass; rounded up, so that a timer is never found a moment early."""
        self._passed += max(1, -int(-seconds * SECOND // 1))

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return self._passed / SECOND


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(_Selector(clock))
        self._virtual = clock

    def time(self) -> float:
        """Seconds since the clock's beginning."""
        return self._virtual.seconds


def run_virtually(clock: VirtualClock, work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` to its end in virtual time. Raises Stuck when it waits for something that cannot come."""
    loop = VirtualLoop(clock)
    try:
        return loop.run_until_complete(work)
    finally:
        _cancel_rest(loop)
        loop.close()


def _cancel_rest(loop: asyncio.AbstractEventLoop) -> None:
    rest = asyncio.all_tasks(loop)
    for task in rest:
        task.cancel()
    if rest:
        loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
