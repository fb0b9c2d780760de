"""What holds runs back that look at other runs, and the hours: counted anew from journals and from what was written.

Storm, relapse, the share of runs that help, `yields_to`, calendars. Shares no code with the gates.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from responder import facts as f
from responder.automation import Success
from responder.incident import Run
from responder.recorded import Result, Trigger
from responder.runbook import Hours
from responder.timing import SECOND
from tests.campaigns.intents import BACK, Change, Seen
from tests.campaigns.rule_seeds import HOURS

HELPED = {Result.FIXED: True} | dict.fromkeys(
    (Result.INEFFECTIVE, Result.HARMFUL, Result.FAILED, Result.UNKNOWN), False
)
"""What says something about a runbook, and what it says."""


def _begins(seen: Seen) -> Iterator[Change]:
    """First changes of runs that are no brakes and put nothing back: what is held back as a whole."""
    return (c for c in seen.changes if c.first and not c.brake and c.run.cause not in BACK)


def storm(seen: Seen) -> Iterator[str]:
    """Nothing begins while very many incidents of its env begin, and until there were fewer for a while. What says no
    env counts for each, and waits for each."""
    given = seen.automation.storm
    if given is None:
        return
    alerts = [c.incident for c in seen.found.cases if c.incident.trigger is Trigger.ALERT]
    opened = [(i.labels.get("env", ""), i.opened_at) for i in alerts if not i.target.startswith("storm:")]
    every = {env for env, _ in opened}
    groups: dict[str, list[tuple[int, int]]] = {}
    for env in every:
        times = sorted(at for of, at in opened if of in (env, ""))
        groups[env] = list(zip(times, times[given.incidents - 1 :], strict=False))
    for change in _begins(seen):
        own = change.case.incident.labels.get("env", "")
        for first, last in (group for env in (every if own == "" else {own}) for group in groups.get(env, [])):
            if last - first < given.within and last < change.at < first + given.within + given.calm:
                yield f"storm: {change} {(change.at - last) / SECOND:g} s after {given.incidents} incidents began"
                break


def relapse(seen: Seen) -> Iterator[str]:
    """What comes back again and again soon after it was fixed is left to people."""
    given = seen.automation.relapse
    if given is None:
        return
    for change in _begins(seen):
        fixed = [at for at, result, run in _ends(seen) if result is Result.FIXED and _same(run, change.run)]
        begun = [c.at for c in _starts(seen) if c.at < change.at and _same(c.run, change.run)]
        late = [at for at in (*begun, change.at) if any(0 < at - good < given.within for good in fixed)]
        if change.at in late and sum(1 for at in late if at > change.at - given.memory) > given.count - 1:
            yield f"relapse: {change}, relapses at {[(at - change.at) / SECOND for at in late]} s"


def success(seen: Seen) -> Iterator[str]:
    """A runbook that does not help rests; then one run is tried, and not a second one beside it."""
    given = seen.automation.success
    if given is None:
        return
    for change in _begins(seen):
        own = [(at, r) for at, r, run in _ends(seen) if run.runbook == change.run.runbook and at < change.at]
        counted = _since_proved(
            [(at, HELPED[r]) for at, r in own if r in HELPED and at > change.at - given.memory], given
        )
        if not _useless(counted, given):
            continue
        started = [c.at for c in _starts(seen) if c.run.runbook == change.run.runbook and c.at < change.at]
        tried = [at for at in started if at > max(end for end, _ in own) and change.at < at + given.rest]
        if change.at < counted[-1][0] + given.rest or tried:
            yield f"success: {change} though {counted} and tried at {tried}"


def _since_proved(ends: list[tuple[int, bool]], given: Success) -> list[tuple[int, bool]]:
    """Beginning with the latest run that helped after a rest: what was before it is forgiven."""
    start = 0
    for place, (at, good) in enumerate(ends):
        before = ends[start:place]
        if good and _useless(before, given) and at >= before[-1][0] + given.rest:
            start = place
    return ends[start:]


def _useless(ends: list[tuple[int, bool]], given: Success) -> bool:
    return len(ends) >= given.runs and sum(good for _, good in ends) / len(ends) < given.share


def _starts(seen: Seen) -> list[Change]:
    return [c for c in seen.changes if c.first and c.run.cause not in BACK]


def _ends(seen: Seen) -> list[tuple[int, Result, Run]]:
    """The runs that changed something, by when they ended."""
    acted = {(c.case.row.id, c.run.number): c.run for c in _starts(seen)}
    found = [
        (event.at, event.fact.result, acted[case.row.id, event.fact.run])
        for case in seen.found.cases
        for event in case.events
        if isinstance(event.fact, f.RunEnded) and (case.row.id, event.fact.run) in acted
    ]
    return sorted(found, key=lambda end: end[0])


def _same(one: Run, other: Run) -> bool:
    return (one.runbook, one.target) == (other.runbook, other.target)


def yields(seen: Seen) -> Iterator[str]:
    """Nothing begins while the root cause has an open incident; a brake neither."""
    for change in seen.changes:
        names = set(change.runbook.yields_to) if change.first and change.run.cause not in BACK else set()
        if change.runbook.finish_once_started and _done_by_hand(change):
            continue
        for case in seen.found.cases:
            if case.row.id == change.case.row.id or case.incident.runbook not in names:
                continue
            ended = [e.at for e in case.events if isinstance(e.fact, f.Closed)]
            if case.incident.opened_at < change.at < min(ended, default=change.at + 1):
                yield f"yields_to: {change} while {case.row.id} ({case.incident.runbook}) is open"


def _done_by_hand(change: Change) -> bool:
    before = (e.fact for e in change.case.events if e.seq < change.event.seq)
    return any(isinstance(fact, f.ManualDone) and fact.run == change.run.number for fact in before)


def calendar(seen: Seen) -> Iterator[str]:
    """Nothing is changed outside its hours, or only by people's word where they are asked."""
    for change in seen.changes:
        hours = change.runbook.calendar
        finishing = change.runbook.finish_once_started and (not change.first or _done_by_hand(change))
        if hours is None or change.brake or change.run.cause in BACK or finishing:
            continue
        if not _shut(hours, change.at) or _overridden(seen, change):
            continue
        if hours.otherwise == "ask" and (change.attempt.number > 1 or _approved(change)):
            continue
        yield f"calendar: {change} at {_minute(change.at)}, {hours}"


def _shut(hours: Hours, at: int) -> bool:
    outside = bool(hours.within) and not any(_open(name, at) for name in hours.within)
    return outside or any(_open(name, at) for name in hours.outside)


def _overridden(seen: Seen, change: Change) -> bool:
    """A person has let it act all the same, it began in that time, and no other run has done so since."""
    said = [
        event
        for event in change.case.events
        if isinstance(event.fact, f.CalendarOverridden)
        and event.seq < change.event.seq
        and event.fact.runbook == change.run.runbook
    ]
    last = said[-1] if said else None
    if last is None or not isinstance(last.fact, f.CalendarOverridden) or _begun(change, last.seq) >= last.fact.until:
        return False
    own = [c for c in seen.changes if c.case.row.id == change.case.row.id and c.run.runbook == change.run.runbook]
    since = [c for c in own if last.seq < c.event.seq < change.event.seq]
    return not any(c.run.number != change.run.number and _shut_to(c) for c in since)


def _begun(change: Change, after: int) -> int:
    """When the run of this change intended its first attempt after the event of that number."""
    number = change.run.number
    later = (e for e in change.case.events if e.seq > after)
    return min(
        (e.at for e in later if isinstance(e.fact, f.AttemptIntended) and e.fact.run == number), default=change.at
    )


def _shut_to(change: Change) -> bool:
    hours = change.runbook.calendar
    return hours is not None and _shut(hours, change.at)


def _open(name: str, at: int) -> bool:
    begins, ends = HOURS[name]
    return begins <= _minute(at) < ends


def _minute(at: int) -> str:
    return datetime.fromtimestamp(at // SECOND, UTC).strftime("%H:%M")


def _approved(change: Change) -> bool:
    """Somebody said yes to exactly this."""
    before = [e.fact for e in change.case.events if e.seq < change.event.seq]
    plans = {
        fact.plan
        for fact in before
        if isinstance(fact, f.ApprovalAsked)
        and (fact.run, fact.step) == (change.run.number, change.step.id)
        and fact.preview == change.attempt.plan.preview
    }
    return any(isinstance(fact, f.Approved) and fact.plan in plans for fact in before)
