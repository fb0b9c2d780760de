"""What comes due: levels, promises, waits, reminders. Each due subject is looked at once, in its own transaction.

The rows of the table say only *that* something is due; what it is, `decide` sees from the incident's state and the
time. So a timer that is looked at twice, or late, or by another replica does no harm.
"""

from __future__ import annotations

import asyncio
import logging

from responder.desk import Desk
from responder.draft import Turn
from responder.errors import Rejected, StoreUnavailable
from responder.incident import Due
from responder.ingest import Announce, News
from responder.operations import Postpone, Remind, Tick
from responder.schedules import StartScheduled
from responder.scopes import SCHEDULE
from responder.timing import MINUTE

AT_ONCE = 500
"""Timers of one pass. When more are due, the next pass follows at once."""

SCOPE = "scope:"

LATER = MINUTE
"""When to look again at what could not be looked at."""

LOG = logging.getLogger("responder.engine")

STUCK = News("responder:stuck", "An incident cannot be worked on", "Nothing goes on by itself there; people must look")


class Timers:
    """See the module."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def work(self, now: int) -> int | None:
        """One pass. Answers when the next timer is due (µs)."""
        store, owner = self._desk.store, self._desk.worker.id
        due = await store.due_timers(now, owner, AT_ONCE)
        subjects: dict[str, list[Due]] = {}
        for subject, one in due:
            subjects.setdefault(subject, []).append(one)
        await asyncio.gather(*(self._look(subject, tuple(dues)) for subject, dues in subjects.items()))
        return now if len(due) == AT_ONCE else await store.next_timer_due(self._desk.now(), owner)

    async def recover(self) -> int:
        """Look at every open incident that another owner left behind. Answers how many there were."""
        orphans = await self._desk.store.orphans(self._desk.worker.id)
        await asyncio.gather(*(self._look(incident, ()) for incident in orphans))
        return len(orphans)

    async def _look(self, subject: str, dues: tuple[Due, ...]) -> None:
        """One that cannot be looked at is told and tried again later: it must not hold up all others."""
        try:
            await self._advance(subject)
        except StoreUnavailable:
            raise
        except Rejected as gone:
            LOG.warning("a timer of %s is given up: %s", subject, gone)
            await self._postpone(subject, dues)
        except Exception as error:
            LOG.exception("%s cannot be looked at", subject)
            problem = f"{subject} cannot be looked at ({type(error).__name__}): look at it by hand, and at the log"
            await self._desk.submit(lambda shelf: Announce(self._desk.new_id(), STUCK, problem, shelf))
            await self._postpone(subject, dues)

    async def _advance(self, subject: str) -> None:
        desk = self._desk
        if subject.startswith(SCOPE):
            scope = subject.removeprefix(SCOPE)
            if scope.startswith(SCHEDULE):
                await self._scheduled(scope.removeprefix(SCHEDULE))
                return
            await desk.submit(lambda shelf: Remind(desk.new_id(), scope, shelf))
            return
        turn: Turn = await desk.submit(lambda shelf: Tick(desk.new_id(), subject, shelf, desk.worker))
        desk.take((turn,))

    async def _scheduled(self, runbook: str) -> None:
        desk = self._desk
        turn = await desk.submit(lambda shelf: StartScheduled(desk.new_id(), runbook, shelf, desk.worker))
        desk.take(() if turn is None else (turn,))

    async def _postpone(self, subject: str, dues: tuple[Due, ...]) -> None:
        if dues:
            until = self._desk.now() + LATER
            await self._desk.submit(lambda shelf: Postpone(self._desk.new_id(), subject, dues, until))
