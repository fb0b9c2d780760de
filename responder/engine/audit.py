"""The self-audit: every minute the program looks whether it does what it promises (reliability.md 1.2).

It proves that the store can be written and read, that the loops run, that nothing which is due is left lying, that each
open incident has the timers that it counts on, and that no page waits for ever. Only after a clean one do outside
switches hear from us; what is still wrong at the second look people are told, once for each reason. A timer that was
lost is armed again, and told at once: nobody would hear of that incident any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from responder.desk import Desk
from responder.engine.loops import Loop
from responder.errors import StoreUnavailable
from responder.incident import Incident
from responder.ingest import Announce, News
from responder.operations import Rearm, Touch
from responder.recorded import LIVE, StepStatus
from responder.records import Sending
from responder.scopes import unreadable
from responder.timing import MINUTE, SECOND, format_duration

LOG = logging.getLogger("responder.engine")

LOOP: Final = "audit"
EVERY: Final = MINUTE
FRESH: Final = EVERY + 30 * SECOND
"""How long a clean audit proves something."""
LATE: Final = MINUTE
"""How long something that is due may be left lying."""
STUCK: Final = 5 * MINUTE
"""How long a page may wait to be accepted."""
MOST: Final = 200
"""Open incidents that are read at a time."""

UNCLEAN = News(
    "responder:audit",
    "The responder finds something wrong with itself",
    "Until it is mended, alerts may be answered late or not at all",
)


@dataclass(frozen=True, slots=True)
class Audited:
    """What an audit found: nothing, or the reasons why it is not clean. `at` in µs."""

    at: int
    reasons: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Nothing was found."""
        return not self.reasons


class Audit:
    """See the module. `last` is the latest one; `told` hears of each."""

    def __init__(self, desk: Desk, loops: Callable[[], Sequence[Loop]], told: Callable[[Audited], None]) -> None:
        self.last: Audited | None = None
        self._desk = desk
        self._loops = loops
        self._told = told
        self._known: frozenset[str] = frozenset()
        self._lost: frozenset[str] = frozenset()

    async def work(self, now: int) -> int | None:
        """One pass. Answers when the next is due (µs)."""
        try:
            reasons = await self._found(now)
        except StoreUnavailable as error:
            reasons = (str(error),)
        before, self.last = self.last, Audited(now, reasons)
        if before is None or before.reasons != reasons:
            LOG.log(logging.ERROR if reasons else logging.INFO, "audit: %s", "; ".join(reasons) or "clean")
        self._told(self.last)
        await self._tell(frozenset(reasons), frozenset(before.reasons if before is not None else ()))
        return now + EVERY

    async def proven(self) -> str:
        """Why nobody may hear that we are well, "" when they may: the last audit was clean, and a write succeeds."""
        last, now = self.last, self._desk.now()
        if last is None:
            return "nothing was audited yet"
        if not last.clean:
            return f"the audit is not clean: {last.reasons[0]}"
        if now - last.at > FRESH:
            return f"the last audit is {format_duration((now - last.at) // SECOND * SECOND)} old"
        try:
            await self._desk.submit(lambda shelf: Touch(self._desk.new_id()))
        except StoreUnavailable as error:
            return str(error)
        return ""

    async def _tell(self, now: frozenset[str], before: frozenset[str]) -> None:
        """What was found twice in succession, once while it lasts; what was mended, at once. Without a store the
        emergency tells it."""
        self._known &= now
        for reason in sorted((now & (before | self._lost)) - self._known):
            try:
                await self._announce(reason)
            except StoreUnavailable as error:
                LOG.error("nobody could be told that %s: %s", reason, error)
                return
            self._known |= {reason}

    async def _announce(self, reason: str) -> None:
        turn = await self._desk.submit(lambda shelf: Announce(self._desk.new_id(), UNCLEAN, reason, shelf))
        self._desk.take((turn,))

    # --- what is looked at --------------------------------------------------------------------------------------------

    async def _found(self, now: int) -> tuple[str, ...]:
        await self._desk.submit(lambda shelf: Touch(self._desk.new_id()))
        opened = await self._opened()
        self._lost = frozenset(await self._rearmed(opened))
        return (
            *self._loops_said(now),
            *await self._left_lying(now),
            *await self._stuck(now),
            *sorted(self._lost),
            *await self._stranded(opened),
            *await self._unread(),
        )

    def _loops_said(self, now: int) -> Iterator[str]:
        for loop in self._others():
            if loop.failing is not None:
                yield f"the {loop.name} loop fails: {loop.failing}"
            elif loop.busy_since is not None and now - loop.busy_since > LATE:
                yield f"the {loop.name} loop has hung for more than {format_duration(LATE)}: see the log, and restart"

    def _others(self) -> Sequence[Loop]:
        """All loops but the one that looks: it knows of itself when it is done."""
        return [loop for loop in self._loops() if loop.name != LOOP]

    async def _left_lying(self, now: int) -> Sequence[str]:
        due = await self._desk.store.next_timer_due(now, self._desk.worker.id)
        late = format_duration(LATE)
        return () if due is None or now - due <= LATE else (f"a timer is due for more than {late} and nobody looks",)

    async def _stuck(self, now: int) -> Sequence[str]:
        stuck = await self._desk.store.stuck_pages(now - STUCK)
        waited = format_duration(STUCK)
        return [
            f"{name} has not accepted a page for more than {waited}: see the log, and `responder doctor --only {name}`"
            for name in sorted(stuck)
        ]

    async def _opened(self) -> list[Incident]:
        """Every open incident."""
        found: list[Incident] = []
        while True:
            last = found[-1].id if found else None
            rows = await self._desk.store.incidents("open", None, MOST, before=last, namespace=LIVE)
            found += [row.fold for row in rows]
            if len(rows) < MOST:
                return found

    async def _rearmed(self, opened: Sequence[Incident]) -> list[str]:
        """Arm what an incident counts on and the store has lost; says for which."""
        armed = await self._desk.store.armed()
        found = []
        for one in (incident for incident in opened if not _armed(incident, armed)):
            # It may have gone on between the two reads.
            row, armed = await self._desk.store.incident(one.id), await self._desk.store.armed()
            if row is None or row.closed or _armed(row.fold, armed):
                continue
            await self._rearm(one.id)
            found.append(f"the store had lost timers of incident {one.id} on {one.target}; they are armed again")
        return found

    async def _rearm(self, incident: str) -> None:
        await self._desk.submit(lambda shelf: Rearm(self._desk.new_id(), incident))

    async def _unread(self) -> Sequence[str]:
        rows = await self._desk.store.scopes()
        cure = "`responder resume` or `unlock` writes it anew, or restore it from a backup"
        return [f"the store's row {r.name} cannot be read: {cure}" for r in rows if unreadable(r.name, r.body)]

    async def _stranded(self, opened: Sequence[Incident]) -> Sequence[str]:
        """Open incidents that nothing moves: no timer, no message on its way, no alert and no person to wait for."""
        return [
            f"incident {one.id} on {one.target} is open and waits for nothing: look at it with `responder incident`"
            for one in (incident for incident in opened if not any(_waits_for(incident)))
            if not await self._on_its_way(one)
        ]

    async def _on_its_way(self, incident: Incident) -> bool:
        return any(m.state is Sending.PENDING for m in await self._desk.store.messages_of(incident.id))


def _armed(incident: Incident, armed: Collection[tuple[str, str, int]]) -> bool:
    """Whether every entry of its agenda is a row of the timers."""
    return all((incident.id, due.kind, due.round) in armed for due in incident.agenda)


def _waits_for(incident: Incident) -> Iterator[object]:
    """What may move an open incident, the cheapest to see first."""
    yield incident.agenda
    yield incident.firing
    yield incident.members_open
    yield incident.unsettled
    yield incident.acknowledged or incident.taken_over or incident.snoozed
    # Its own news, and what a schedule began, wait for a person's word.
    yield not incident.episodes
    run = incident.active_run
    yield run is not None and any(s.status in (StepStatus.ASKED, StepStatus.APPROVAL) for s in run.steps)
