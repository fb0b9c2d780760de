"""Who is told when: the levels of a policy and the promises of `unless_fixed`, as times.

Levels are absolute from the ladder's start and each is reached once (design 5.7). Everything here is a function of the
incident's state and its policy; nothing is scheduled, the agenda is simply computed anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from responder.incident import Due, Incident
from responder.policies import Level, Policy
from responder.recorded import Mode, Phase, Result, StepStatus, Trigger
from responder.runbook import Promise, Runbook


@dataclass(frozen=True, slots=True)
class DueLevel:
    """A level that has not been reached yet."""

    round: int
    index: int
    level: Level
    due: int


@dataclass(frozen=True, slots=True)
class DuePromise:
    """An entry of `unless_fixed` that has not come due yet. `announce` is None without a countdown to tell."""

    round: int
    index: int
    promise: Promise
    due: int
    announce: int | None

    @property
    def key(self) -> str:
        """The entry's key in `Incident.machine`."""
        return f"{self.round}:{self.index}"


def climbs(incident: Incident) -> bool:
    """True while levels go on being told."""
    stopped = incident.closed or incident.acknowledged or incident.taken_over or incident.result is Result.FIXED
    # A scheduled run calls nobody as long as it goes well.
    quiet = incident.trigger is Trigger.SCHEDULE and incident.urgent is None
    return incident.live and not stopped and not quiet


def levels(incident: Incident, policy: Policy) -> Iterator[DueLevel]:
    """The levels still to come, lowest first. The first waits for the policy's grace."""
    if not climbs(incident):
        return
    for index, level in enumerate(policy.levels):
        if f"{incident.ladder_round}:{index}" in incident.levels_reached:
            continue
        due = incident.ladder_from + max(level.after, policy.grace)
        yield DueLevel(incident.ladder_round, index, level, due)


def whom(incident: Incident, policy: Policy) -> tuple[str, ...]:
    """Who is told of something urgent: those who were told last, else the first level."""
    level = last_reached(incident, policy) or next(iter(policy.levels), None)
    return level.page if level is not None else ()


def last_reached(incident: Incident, policy: Policy) -> Level | None:
    """The highest level of the present round that was told."""
    prefix = f"{incident.ladder_round}:"
    reached = [int(k.removeprefix(prefix)) for k in incident.levels_reached if k.startswith(prefix)]
    return policy.levels[max(reached)] if reached and max(reached) < len(policy.levels) else None


def acknowledgement_ends(incident: Incident, policy: Policy) -> int | None:
    """When an acknowledgement runs out, or None."""
    holds = incident.acknowledged
    over = incident.closed or incident.taken_over is not None or incident.result is Result.FIXED
    if holds is None or over or not incident.live or policy.acknowledgement == 0 or not policy.levels:
        return None
    return holds.at + policy.acknowledgement


def promises(incident: Incident, runbook: Runbook | None) -> Iterator[DuePromise]:
    """The entries of `unless_fixed` still to come. An acknowledgement does not stop them, a take-over does."""
    over = incident.closed or incident.taken_over is not None or incident.result is Result.FIXED
    if runbook is None or over or not incident.live:
        return
    for index, (after, promise) in enumerate(runbook.promises):
        timer = incident.machine.get(f"{incident.clock_round}:{index}")
        if timer is not None and timer.fired:
            continue
        due = incident.clock_from + after
        counts = promise.run is not None and promise.countdown > 0
        if counts and timer is not None and timer.announced is not None:
            # Announced late, it comes late: nobody is surprised by a halt (design 5.7).
            due = max(due, timer.announced + promise.countdown)
            counts = False
        announce = due - promise.countdown if counts and armed(incident) else None
        yield DuePromise(incident.clock_round, index, promise, due, announce)


def waits_for_run(incident: Incident, entry: DuePromise) -> bool:
    """It has looked, found it good, and a run is still being verified: that run's end decides, not this moment."""
    timer, run = incident.machine.get(entry.key), incident.active_run
    looked = timer is not None and timer.gathered and incident.watch_holds
    return looked and run is not None and run.phase is Phase.VERIFYING


def armed(incident: Incident) -> bool:
    """A machine's next step arms only when a run acted or failed in auto mode (design 5.7)."""
    if incident.trigger is Trigger.SCHEDULE:
        return False  # what only reads calls for no machine (docs/adr/0011)
    tried = (StepStatus.DONE, StepStatus.RUNNING, StepStatus.FAILED, StepStatus.UNKNOWN)
    return any(
        run.mode is Mode.AUTO and (run.acted or any(s.status in tried for s in run.steps)) for run in incident.runs
    )


def agenda(incident: Incident, policy: Policy, runbook: Runbook | None) -> tuple[Due, ...]:
    """Everything that comes by time alone, for the timer rows."""
    dues = [_level_due(entry) for entry in levels(incident, policy)]
    for entry in promises(incident, runbook):
        if waits_for_run(incident, entry):
            continue
        dues.extend(_promise_dues(incident, entry))
    ends = acknowledgement_ends(incident, policy)
    if ends is not None:
        what = "the acknowledgement runs out, and the same people are paged again"
        dues.append(Due(kind="acknowledgement", round=incident.acknowledgements, due=ends, what=what))
    return tuple(dues)


def _level_due(entry: DueLevel) -> Due:
    whom = f", paging {', '.join(entry.level.page)}" if entry.level.page else ""
    return Due(kind="level", round=_number(entry), due=entry.due, what=f"{entry.level.name} is told{whom}")


def _promise_dues(incident: Incident, entry: DuePromise) -> Iterator[Due]:
    runs, pages = entry.promise.run, ", ".join(entry.promise.page)
    # Before an arming run has acted, people alone are promised: the machine's part may never come.
    sure = runs if armed(incident) else None
    parts = [*([f"{sure} runs"] if sure else []), *([f"{pages} is paged"] if pages else [])]
    what = f"unless fixed, {' and '.join(parts)}" if parts else ""
    # The check is read first, which is work for the incident's owner, when a runbook would start.
    yield Due(kind="unless_fixed", round=_number(entry), due=entry.due, work=runs is not None, what=what)
    if entry.announce is not None:
        yield Due(kind="countdown", round=_number(entry), due=entry.announce)


def _number(entry: DueLevel | DuePromise) -> int:
    """One number for round and index, for the timer's key."""
    return entry.round * 100 + entry.index
