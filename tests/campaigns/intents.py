"""Every intent of a simulated world to change something, with the run, runbook and journal that it stands in.

What `safety` and `words` judge by. No code is shared with the gates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from responder import facts as f
from responder.automation import Automation
from responder.incident import Attempt, Run
from responder.recorded import Cause, Effect, Result
from responder.rules import Rules
from responder.runbook import Runbook, Step
from tests.campaigns.edge import Paused
from tests.campaigns.services import Write
from tests.campaigns.watchers import Look
from tests.invariants import Case, Found

BACK = (Cause.RESTORE, Cause.UNDO)
"""Causes of runs that put back what another one changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """An intent to change something, with all that is known about it."""

    case: Case
    run: Run
    attempt: Attempt
    event: f.Event
    runbook: Runbook
    step: Step
    place: int
    """Of its intent, among all events."""

    @property
    def at(self) -> int:
        """When it was intended (µs)."""
        return self.event.at

    @property
    def brake(self) -> bool:
        """It can only lower risk."""
        own = self.runbook.brake if self.step.brake is None else self.step.brake
        return own and self.run.cause not in BACK

    @property
    def first(self) -> bool:
        """No attempt of its run was before it."""
        return self.attempt is next(a for a in self.run.attempts if a.plan.effect is not Effect.READ)

    @property
    def service(self) -> str:
        """Whom it changes."""
        made = self.step.way_back if self.run.cause in BACK else self.step
        return str(made.with_.get("service", "risk-api"))

    def __str__(self) -> str:
        """For people."""
        return f"{self.case.row.id} run {self.run.number} ({self.run.runbook}, {self.run.cause}) {self.attempt.id}"


@dataclass(frozen=True, slots=True)
class End:
    """The end of a run that had intended a change; `place`: among all events."""

    at: int
    place: int
    result: Result
    run: Run


@dataclass(frozen=True)
class Seen:
    """Everything that is judged beside what `invariants` judges.

    What came before what is told by the order of writing alone: times say how long something lasted.
    """

    found: Found
    rules: Rules
    automation: Automation
    writes: tuple[Write, ...]
    floor: float
    total: float
    paused: tuple[Paused, ...]
    watched: tuple[tuple[Look, ...], ...]
    """What each Alertmanager said, and from when on."""

    @property
    def order(self) -> Mapping[str, int]:
        """See Found."""
        return self.found.order

    @cached_property
    def changes(self) -> list[Change]:
        """Every intent to change something, in the order in which they were written."""
        made = []
        for case, run, attempt in self.found.attempts():
            if attempt.plan.effect is Effect.READ:
                continue
            event = next(e for e in case.events if getattr(e.fact, "attempt", None) == attempt.id)
            runbook = self.rules.runbooks[run.runbook]
            made.append(Change(case, run, attempt, event, runbook, runbook.step(attempt.step), self.order[event.id]))
        return sorted(made, key=lambda change: change.place)

    @cached_property
    def starts(self) -> list[Change]:
        """The first changes of runs that put nothing back, in the order of writing."""
        return [change for change in self.changes if change.first and change.run.cause not in BACK]

    @cached_property
    def ends(self) -> list[End]:
        """The ends of the runs of `starts`, in the order of writing."""
        acted = {(change.case.row.id, change.run.number): change.run for change in self.starts}
        found = [
            End(event.at, self.order[event.id], event.fact.result, acted[case.row.id, event.fact.run])
            for case in self.found.cases
            for event in case.events
            if isinstance(event.fact, f.RunEnded) and (case.row.id, event.fact.run) in acted
        ]
        return sorted(found, key=lambda end: end.place)

    @cached_property
    def by_key(self) -> Mapping[str, Change]:
        """The intents by what they sent as their key."""
        return {change.attempt.key: change for change in reversed(self.changes)}


def alike(one: Run, other: Run) -> bool:
    """The same runbook on the same target."""
    return (one.runbook, one.target) == (other.runbook, other.target)
