"""The transactions of schedules: arming them, and beginning the run of one that came due.

A schedule's scope says when it comes due next; its timer only wakes somebody who looks. So a schedule starts one run
however many replicas look, and one that came due while nobody ran starts one run, late.
"""

from __future__ import annotations

from dataclasses import dataclass

from responder import facts as f
from responder.cron import Schedule, next_after
from responder.draft import Book, Draft, Turn, Worker
from responder.guards import closed_hours
from responder.incident import Due
from responder.ingest import open_uncalled
from responder.recorded import LIVE, Trigger
from responder.records import Change, Keys, State, TimerRow, open_key
from responder.runbook import Runbook
from responder.scopes import Scheduled, legible, scheduled_name
from responder.scoping import ScopeChange
from responder.timing import MINUTE

KIND = "schedule"
"""Of the timer."""

STUCK = "its schedule came due again while its last run still goes on: see what that run waits for"

ELSEWHERE = 5 * MINUTE
"""When to look again at a schedule that this process does not know: another replica may have newer rules."""


@dataclass(frozen=True, slots=True)
class ArmSchedules:
    """Arm the schedules of today's rules; one that is armed already stays as it is. Those of `armed` that are not
    among them are forgotten.
    """

    id: str
    book: Book
    armed: frozenset[str] = frozenset()

    def reads(self) -> Keys:
        """Their scopes."""
        return Keys(scopes=frozenset(scheduled_name(r.runbook) for r in self._runbooks()))

    def _runbooks(self) -> list[Runbook]:
        return [r for r in self.book.current.runbooks.values() if r.schedule is not None]

    def apply(self, state: State) -> Change[None]:
        """See the class."""
        draft = Draft(self.id, state, self.book)
        for runbook in self._runbooks():
            assert runbook.schedule is not None
            body = legible(Scheduled, draft.scope(scheduled_name(runbook.runbook)))
            if body is None or (body.cron, body.timezone) != (runbook.schedule.cron, runbook.schedule.timezone):
                arm(draft, runbook.runbook, runbook.schedule, next_after(runbook.schedule, draft.now))
        for name in self.armed - {r.runbook for r in self._runbooks()}:
            disarm(draft, name)
        return Change(draft.writes(), None)


@dataclass(frozen=True, slots=True)
class StartScheduled:
    """A schedule may have come due: its run begins, in the incident that is still open or in a new one."""

    id: str
    runbook: str
    book: Book
    by: Worker | None

    def reads(self) -> Keys:
        """The schedule's scope, and the open incident of the runbook."""
        runbook = self.book.current.runbooks.get(self.runbook)
        keys = () if runbook is None else (_key(runbook),)
        return Keys(scopes=frozenset({scheduled_name(self.runbook)}), open_keys=frozenset(keys))

    def apply(self, state: State) -> Change[Turn | None]:
        """See the class. Answers None when nothing was due, or nothing is scheduled any more."""
        draft = Draft(self.id, state, self.book, self.by)
        runbook = self.book.current.runbooks.get(self.runbook)
        body = legible(Scheduled, draft.scope(scheduled_name(self.runbook)))
        if body is None:
            _forget(draft, self.runbook)
            return Change(draft.writes(), None)
        if runbook is None or runbook.schedule is None:
            _look_again(draft, self.runbook, body)
            return Change(draft.writes(), None)
        if body.next is None or body.next > draft.now:
            arm(draft, self.runbook, runbook.schedule, body.next)
            return Change(draft.writes(), None)
        turn = _begun(draft, runbook, body.next) if _in_its_hours(draft, runbook) else None
        arm(draft, self.runbook, runbook.schedule, next_after(runbook.schedule, draft.now))
        return Change(draft.writes(), turn)


def arm(draft: Draft, runbook: str, schedule: Schedule, due: int | None) -> None:
    """Remember when it comes due next (µs), and set the timer."""
    body = Scheduled(cron=schedule.cron, timezone=schedule.timezone, next=due)
    timer = None if due is None else Due(kind=KIND, round=0, due=due)
    draft.set_scope(ScopeChange(scheduled_name(runbook), body, timer))
    if timer is None:
        _forget(draft, runbook)


def disarm(draft: Draft, runbook: str) -> None:
    """Forget a schedule that the rules do not hold any more."""
    draft.set_scope(ScopeChange(scheduled_name(runbook), None))
    _forget(draft, runbook)


def _look_again(draft: Draft, runbook: str, body: Scheduled) -> None:
    timer = Due(kind=KIND, round=0, due=draft.now + ELSEWHERE)
    draft.set_scope(ScopeChange(scheduled_name(runbook), body, timer))


def _forget(draft: Draft, runbook: str) -> None:
    draft.forget_timer(TimerRow(f"scope:{scheduled_name(runbook)}", Due(kind=KIND, round=0, due=0)))


def _in_its_hours(draft: Draft, runbook: Runbook) -> bool:
    """A schedule that comes due on a holiday, or in a freeze, passes over that day and says nothing."""
    hours = runbook.calendar
    return hours is None or not closed_hours(hours, draft.book.current.calendars, draft.now)[1]


def _begun(draft: Draft, runbook: Runbook, due: int) -> Turn:
    found = draft.open_incident(_key(runbook))
    name = found.id if found is not None else open_uncalled(draft, runbook, runbook.target, {}, Trigger.SCHEDULE)
    late = draft.now - due
    if found is None or found.active_run is None:
        rules, late = draft.book.current, late if late > MINUTE else 0
        policy = rules.policy_for(runbook, None, draft.now)
        draft.record(name, f.ScheduleDue(due=due, late=late, rules_hash=rules.hash, policy=policy))
    elif STUCK not in found.problems:
        draft.record(name, f.ProblemFound(problem=STUCK))
    return draft.advance(name)


def _key(runbook: Runbook) -> str:
    return open_key(LIVE, runbook.runbook, runbook.target, Trigger.SCHEDULE)
