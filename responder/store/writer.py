"""The one thread that writes: it takes whatever waits, without lingering, and hands it to `group` as one commit.

Callers await a future each; one call into the event loop a group resolves them all. It decides nothing and knows no
table.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from responder.errors import StoreUnavailable
from responder.records import Operation
from responder.store.batch import Committed
from responder.store.group import GroupResult, Groups, Outcome

GROUP: Final = 512
"""Operations in one commit at most."""
WAITING: Final = 20_000
"""Operations that may wait; the next one is refused at once."""

Deliver = Callable[[Committed], None]


@dataclass(frozen=True, slots=True)
class _Waiting:
    operation: Operation[Any]
    future: asyncio.Future[Any]
    since: float


class Writer:
    """Queue and thread. `deliver` is called on the event loop after each commit, before the callers go on."""

    def __init__(self, groups: Groups, deliver: Deliver) -> None:
        self._groups = groups
        self._deliver = deliver
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._oldest_running: float | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="responder-writer", daemon=True)
        self._thread.start()

    async def submit(self, operation: Operation[Any]) -> Any:
        """Answer once it is committed. Raises what the operation raises, or StoreUnavailable."""
        waiting = _Waiting(operation, asyncio.get_running_loop().create_future(), time.monotonic())
        with self._changed:
            if self._closing:
                raise StoreUnavailable("the store is closing; send it again after the restart")
            if len(self._queue) >= WAITING:
                raise StoreUnavailable(f"{WAITING} operations wait for the store already; send it again later")
            self._queue.append(waiting)
            self._changed.notify()
        return await waiting.future

    def oldest_wait(self) -> float:
        """Seconds that the oldest operation without an answer has waited; 0.0 when none waits."""
        with self._changed:
            oldest = self._oldest_running
            if oldest is None and self._queue:
                oldest = self._queue[0].since
        return 0.0 if oldest is None else time.monotonic() - oldest

    def close(self) -> None:
        """Write what waits, then end. Blocks; nothing can be submitted from now on."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._groups.close()

    def _work(self) -> None:
        while group := self._taken():
            result = self._run(group)
            with self._changed:
                self._oldest_running = None
            self._answer(group, result)

    def _run(self, group: Sequence[_Waiting]) -> GroupResult:
        """Whatever goes wrong, this thread lives on and everybody is answered."""
        try:
            return self._groups.run([waiting.operation for waiting in group])
        except Exception as error:  # noqa: BLE001  a writer that ends would leave all callers waiting for ever
            return GroupResult(tuple(Outcome(error=error) for _ in group))

    def _taken(self) -> list[_Waiting]:
        """The next group; empty once the writer is closed and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            group = [self._queue.popleft() for _ in range(min(GROUP, len(self._queue)))]
            self._oldest_running = group[0].since if group else None
            return group

    def _answer(self, group: Sequence[_Waiting], result: GroupResult) -> None:
        try:
            group[0].future.get_loop().call_soon_threadsafe(self._resolve, group, result)
        except RuntimeError:
            return  # the loop is closed, so nobody waits for the answers any more

    def _resolve(self, group: Sequence[_Waiting], result: GroupResult) -> None:
        try:
            for committed in result.committed:
                self._deliver(committed)
        finally:
            _settle(group, result)


def _settle(group: Sequence[_Waiting], result: GroupResult) -> None:
    for waiting, outcome in zip(group, result.outcomes, strict=True):
        if waiting.future.done():
            continue  # cancelled while it was being written
        if outcome.error is None:
            waiting.future.set_result(outcome.answer)
        else:
            waiting.future.set_exception(outcome.error)
