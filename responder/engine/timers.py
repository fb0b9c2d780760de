"""What comes due: levels, promises, waits, reminders. Each due subject is looked at once, in its own transaction.

The rows of the table say only *that* something is due; what it is, `decide` sees from the incident's state and the
time. So a timer that is looked at twice, or late, or by another replica does no harm.
"""

from __future__ import annotations

import asyncio

from responder.desk import Desk
from responder.draft import Turn
from responder.errors import Rejected
from responder.operations import Remind, Tick

AT_ONCE = 500
"""Timers of one pass. When more are due, the next pass follows at once."""

SCOPE = "scope:"


class Timers:
    """See the module."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def work(self, now: int) -> int | None:
        """One pass. Answers when the next timer is due (µs)."""
        store, owner = self._desk.store, self._desk.worker.id
        due = await store.due_timers(now, owner, AT_ONCE)
        subjects = dict.fromkeys(subject for subject, _ in due)
        await asyncio.gather(*(self._look(subject) for subject in subjects))
        return now if len(due) == AT_ONCE else await store.next_timer_due(self._desk.now(), owner)

    async def recover(self) -> int:
        """Look at every open incident that another owner left behind. Answers how many there were."""
        orphans = await self._desk.store.orphans(self._desk.worker.id)
        await asyncio.gather(*(self._look(incident) for incident in orphans))
        return len(orphans)

    async def _look(self, subject: str) -> None:
        desk = self._desk
        if subject.startswith(SCOPE):
            scope = subject.removeprefix(SCOPE)
            await desk.submit(lambda shelf: Remind(desk.new_id(), scope, shelf))
            return
        try:
            turn: Turn = await desk.submit(lambda shelf: Tick(desk.new_id(), subject, shelf, desk.worker))
        except Rejected:
            return  # it is gone: an old timer of a journal that was removed
        desk.take((turn,))
