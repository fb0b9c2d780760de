"""What holds runs back that look at other runs, and the hours: counted anew from journals and from what was written.

Storm, relapse, the share of runs that help, `yields_to`, calendars. What came first is told by the order of writing.
Shares no code with the gates.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from responder import facts as f
from responder.automation import Success
from responder.recorded import Result, Trigger
from responder.runbook import Hours
from responder.timing import SECOND
from tests.campaigns.intents import BACK, Change, Seen, alike
from tests.campaigns.rule_seeds import HOURS

HELPED = {Result.FIXED: True} | dict.fromkeys(
    (Result.INEFFECTIVE, Result.HARMFUL, Result.FAILED, Result.UNKNOWN), False
)
"""What says something about a runbook, and what it says."""


def _begins(seen: Seen) -> Iterator[Change]:
    """First changes of runs that are no brakes and put nothing back: what is held back as a whole."""
    return (change for change in seen.starts if not change.brake)


def storm(seen: Seen) -> Iterator[str]:
    """Nothing begins while very many incidents of its env begin, and until there were fewer for a while. What says no
    env counts for each, and waits for each."""
    given = seen.automation.storm
    if given is None:
        return
    opened = [
        (case.incident.labels.get("env", ""), seen.order[event.id], event.at)
        for case in seen.found.cases
        if case.incident.trigger is Trigger.ALERT and not case.incident.target.startswith("storm:")
        for event in case.events[:1]
    ]
    every = {env for env, _, _ in opened}
    groups: dict[str, list[tuple[tuple[int, int], tuple[int, int]]]] = {}
    for env in every:
        begun = sorted((place, at) for of, place, at in opened if of in (env, ""))
        groups[env] = list(zip(begun, begun[given.incidents - 1 :], strict=False))
    for change in _begins(seen):
        own = change.case.incident.labels.get("env", "")
        judged = [group for env in (every if own == "" else {own}) for group in groups.get(env, [])]
        for (_, first), (place, last) in judged:
            if last - first < given.within and place < change.place and change.at < first + given.within + given.calm:
                yield f"storm: {change} {(change.at - last) / SECOND:g} s after {given.incidents} incidents began"
                break


def relapse(seen: Seen) -> Iterator[str]:
    """What comes back again and again soon after it was fixed is left to people."""
    given = seen.automation.relapse
    if given is None:
        return
    for change in _begins(seen):
        fixed = [end for end in seen.ends if end.result is Result.FIXED and alike(end.run, change.run)]
        begun = [c for c in seen.starts if c.place <= change.place and alike(c.run, change.run)]
        late = [c for c in begun if any(e.place < c.place and c.at - e.at < given.within for e in fixed)]
        if change in late and sum(1 for c in late if c.at > change.at - given.memory) > given.count - 1:
            yield f"relapse: {change}, relapses at {[(c.at - change.at) / SECOND for c in late]} s"


def success(seen: Seen) -> Iterator[str]:
    """A runbook that does not help rests; then one run is tried, and not a second one beside it."""
    given = seen.automation.success
    if given is None:
        return
    for change in _begins(seen):
        own = [end for end in seen.ends if end.run.runbook == change.run.runbook and end.place < change.place]
        told = [(e.at, HELPED[e.result]) for e in own if e.result in HELPED and e.at > change.at - given.memory]
        counted = _since_proved(told, given)
        if not _useless(counted, given):
            continue
        begun = [c for c in seen.starts if c.run.runbook == change.run.runbook and c.place < change.place]
        tried = [c.at for c in begun if c.place > own[-1].place and change.at < c.at + given.rest]
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


def yields(seen: Seen) -> Iterator[str]:
    """Nothing begins while the root cause has an open incident; a brake neither."""
    for change in seen.changes:
        names = set(change.runbook.yields_to) if change.first and change.run.cause not in BACK else set()
        if change.runbook.finish_once_started and _done_by_hand(change):
            continue
        for case in seen.found.cases:
            if case.row.id == change.case.row.id or case.incident.runbook not in names:
                continue
            before = [event.fact for event in case.events if seen.order[event.id] < change.place]
            if before and not any(isinstance(fact, f.Closed) for fact in before):
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
