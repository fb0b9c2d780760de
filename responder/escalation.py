"""Who is told when: the levels of a policy and the promises of `unless_fixed`, as times.

Levels are absolute from the ladder's start and each is reached once (design 5.7). Everything here is a function of the
incident's state and its policy; nothing is scheduled, the agenda is simply computed anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from responder.calendars import Calendar, state_of
from responder.incident import Due, Incident
from responder.policies import Level, Owner, Policy
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


Hours = Mapping[str, Calendar]
"""The calendars of the incident's rules, by name."""


def climbs(incident: Incident, policy: Policy) -> bool:
    """True while levels go on being told."""
    stopped = incident.closed or incident.somebody is not None or incident.result is Result.FIXED
    # What a schedule or a person has started calls nobody as long as it goes well.
    quiet = incident.trigger is not Trigger.ALERT and incident.urgent is None
    # Whoever is one of many is told by the storm's own page.
    alone = incident.storm is None and incident.severity not in policy.chat_only
    return incident.live and not stopped and not quiet and alone


def goes_on(incident: Incident, policy: Policy) -> bool:
    """Levels go on being told once nobody has the incident any more."""
    return climbs(incident.model_copy(update={"acknowledged": None, "snoozed": None}), policy)


def owned(incident: Incident, policy: Policy) -> bool:
    """PagerDuty climbs, which it can only once it has accepted the first level's page; until then this ladder does."""
    first = policy.levels[0].page if policy.levels else ()
    return policy.owner is Owner.PAGERDUTY and any(name in incident.reached for name in first)


def levels(incident: Incident, policy: Policy, hours: Hours) -> Iterator[DueLevel]:
    """The levels still to come, lowest first. The first waits for the policy's grace."""
    untold = [i for i in range(len(policy.levels)) if f"{incident.ladder_round}:{i}" not in incident.levels_reached]
    if incident.hurried is not None and untold and not incident.closed:
        # A person asked for it, whoever has the incident by now.
        yield DueLevel(incident.ladder_round, untold[0], policy.levels[untold[0]], incident.hurried)
        untold = untold[1:]
    if not climbs(incident, policy):
        return
    # Who repeats the ladder has waited long enough for automation.
    grace = 0 if incident.repeats else policy.grace
    for index in untold:
        if index and owned(incident, policy):
            return
        level = policy.levels[index]
        due = _within_hours(level, incident.ladder_from + max(level.after, grace), hours)
        yield DueLevel(incident.ladder_round, index, level, due)


def _within_hours(level: Level, due: int, hours: Hours) -> int:
    """The level's time, or the beginning of the hours in which it may be told. What is not known silences nobody."""
    calendar = hours.get(level.during or "")
    if calendar is None:
        return due
    state = state_of(calendar, level.during or "", due)
    return due if state.open or not state.known or state.until is None else state.until


def next_untold(incident: Incident, policy: Policy) -> Level | None:
    """The lowest level of the present round that was not told."""
    for index, level in enumerate(policy.levels):
        if f"{incident.ladder_round}:{index}" not in incident.levels_reached:
            return level
    return None


def repetition(incident: Incident, policy: Policy) -> int | None:
    """When the ladder begins again because every level was told and nobody answered, or None."""
    repeat = policy.repeat
    if repeat is None or incident.repeats >= repeat.times or owned(incident, policy):
        return None
    if not climbs(incident, policy) or not policy.levels or next_untold(incident, policy) is not None:
        return None
    last = max(incident.levels_reached[f"{incident.ladder_round}:{i}"] for i in range(len(policy.levels)))
    return max(last + incident.stood, incident.last_paged or 0) + repeat.every


def reminder(incident: Incident, policy: Policy) -> int | None:
    """When stakeholders are told again how it stands, or None. What was missed while nothing ran is told once."""
    if policy.remind == 0 or incident.closed or not incident.live or incident.storm is not None:
        return None
    return incident.opened_at + (incident.reminders + 1) * policy.remind


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
    quiet = incident.storm is not None or (incident.severity in policy.chat_only and incident.urgent is None)
    others = policy.acknowledgement == 0 or quiet or owned(incident, policy)
    if holds is None or over or not incident.live or others or not policy.levels:
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
        if timer is not None and timer.held_until is not None:
            due = max(due, timer.held_until)
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
    if incident.superseded:
        return False  # it would go over the change of what superseded it (docs/adr/0022)
    tried = (StepStatus.DONE, StepStatus.RUNNING, StepStatus.FAILED, StepStatus.UNKNOWN)
    return any(
        run.mode is Mode.AUTO and (run.acted or any(s.status in tried for s in run.steps)) for run in incident.runs
    )


def agenda(incident: Incident, policy: Policy, runbook: Runbook | None, hours: Hours) -> tuple[Due, ...]:
    """Everything that comes by time alone, for the timer rows."""
    dues = [_level_due(entry) for entry in levels(incident, policy, hours)]
    for entry in promises(incident, runbook):
        if waits_for_run(incident, entry):
            continue
        dues.extend(_promise_dues(incident, entry))
    return (*dues, *_people_dues(incident, policy))


def _people_dues(incident: Incident, policy: Policy) -> Iterator[Due]:
    """What comes because of what people said, or did not say."""
    ends = acknowledgement_ends(incident, policy)
    if ends is not None:
        what = "the acknowledgement runs out, and the same people are paged again"
        yield Due(kind="acknowledgement", round=incident.acknowledgements, due=ends, what=what)
    if incident.snoozed is not None and not incident.closed:
        what = "the snooze ends, and the climb goes on"
        yield Due(kind="snooze", round=incident.snoozes, due=incident.snoozed.until, what=what)
    again = repetition(incident, policy)
    if again is not None:
        what = "the ladder begins again, because nobody has answered"
        yield Due(kind="repeat", round=incident.repeats + 1, due=again, what=what)
    remind = reminder(incident, policy)
    if remind is not None:
        yield Due(kind="still_open", round=incident.reminders + 1, due=remind)


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
