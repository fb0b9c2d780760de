"""Whether what the Alertmanagers said was heeded: judged by what each of them listed at every instant of the world.

Nothing is changed for alerts that all of them deny; nothing is concluded from one that cannot know; an end that nobody
told is told here only when it is one, and what fires there does not stay unheard.
"""

from __future__ import annotations

from collections.abc import Iterator

from responder import facts as f
from responder.recorded import Answer, Cause, Trigger
from responder.timing import MINUTE, SECOND
from tests.campaigns.intents import Change, Seen
from tests.campaigns.watchers import Look
from tests.invariants import Case

FRESH = 31 * SECOND
"""So old an answer may be by which something is changed."""
LONG = 3 * MINUTE
"""After so long everything that fires there has been taken in: looks, and time to settle."""


def asked(seen: Seen) -> Iterator[str]:
    """A change for an alert comes on a fresh answer, and not when both have denied it or told a silence."""
    for change in seen.changes:
        marks = _calls_for(change)
        if not marks:
            continue
        answers = [e for e in _before(change) if isinstance(e.fact, f.Gathered) and e.fact.alerts is not None]
        last = answers[-1] if answers else None
        if last is None or not isinstance(last.fact, f.Gathered) or last.fact.alerts is None:
            yield f"alerts: {change}: nobody was asked"
            continue
        since = last.fact.alerts.observed_at
        if change.at - since > FRESH:
            yield f"alerts: {change} on an answer of {(change.at - since) / SECOND:g} s ago"
        if any(at > since for at in marks.values()) or _came_in_between(change, last):
            continue  # it was told a moment ago, after the question
        looks = [_looks(history, since, last.at) for history in seen.watched]
        if not any(not look.sure or look.active & marks.keys() for one in looks for look in one):
            yield f"alerts: {change} though every Alertmanager denies it or has it silenced"


def _came_in_between(change: Change, answer: f.Event) -> bool:
    """More fire than were asked about: in the very microsecond of the question one came in after it."""
    assert isinstance(answer.fact, f.Gathered)
    assert answer.fact.alerts is not None
    return len(_firing(change.case, answer.seq)) > answer.fact.alerts.asked


def _calls_for(change: Change) -> dict[str, int]:
    """The alerts by which an alert's run is called for, and since when each fires; none where nobody need be asked."""
    begun = not change.first or any(isinstance(e.fact, f.ManualDone) for e in _before(change))
    by_alert = change.run.cause in (Cause.ALERT, Cause.RELAPSE) and change.case.incident.trigger is Trigger.ALERT
    if not by_alert or (change.runbook.finish_once_started and begun):
        return {}
    return _firing(change.case, change.event.seq)


def _firing(case: Case, until: int) -> dict[str, int]:
    """What fires before the event of this number, and since when."""
    firing: dict[str, int] = {}
    for event in (e for e in case.events if e.seq < until):
        if isinstance(event.fact, f.AlertFired):
            firing[event.fact.fingerprint] = event.at
        elif isinstance(event.fact, f.AlertResolved):
            firing.pop(event.fact.fingerprint, None)
    return firing


def _before(change: Change) -> list[f.Event]:
    own = change.run.number
    return [e for e in change.case.events if e.seq < change.event.seq and getattr(e.fact, "run", None) == own]


def _looks(history: tuple[Look, ...], since: int, until: int) -> list[Look]:
    """Everything that one said from then until then."""
    earlier = [look for look in history if look.at < since]
    return [*earlier[-1:], *(look for look in history if since <= look.at <= until)]


def refused(seen: Seen) -> Iterator[str]:
    """Nothing is held back because of an Alertmanager that has just started, or when one of them says that it fires."""
    for case in seen.found.cases:
        answers: dict[int, tuple[int, int]] = {}
        for event in case.events:
            fact = event.fact
            if isinstance(fact, f.Gathered) and fact.alerts is not None:
                answers[fact.run] = (fact.alerts.observed_at, event.at)
            if not isinstance(fact, f.Refused) or fact.verdicts[-1].gate != "alerts":
                continue
            last = fact.verdicts[-1]
            looks = [_looks(history, *answers[fact.run]) for history in seen.watched]
            marks = {m for m, at in _firing(case, event.seq).items() if at <= answers[fact.run][0]}
            told = f"{case.row.id} run {fact.run}: {last.reason}"
            if last.answer is Answer.DENY and any(all(look.active & marks for look in one) for one in looks):
                yield f"alerts: held back though it fires: {told}"
            if "does not list" in last.reason and any(not any(look.sure for look in one) for one in looks):
                yield f"alerts: held back by one that cannot know: {told}"


def ended(seen: Seen) -> Iterator[str]:
    """An end that nobody told is one: in two looks both knew everything and did not list it."""
    for case in seen.found.cases:
        for event in case.events:
            fact = event.fact
            if not isinstance(fact, f.AlertResolved) or not fact.found:
                continue
            for history in seen.watched:
                before = _looks(history, event.at - MINUTE, event.at)
                if all(fact.fingerprint in look.active | look.silenced or not look.sure for look in before):
                    yield f"reconciliation: {case.row.id} ended without a word of its end: {fact.fingerprint}"


def unheard(seen: Seen) -> Iterator[str]:
    """What has fired for long in one of them that knows everything has come in, though nobody told it."""
    firing = {mark for case in seen.found.cases for mark in _firing(case, len(case.events) + 1)}
    now = seen.found.now
    for history in seen.watched:
        looks = _looks(history, now - LONG, now)
        lasting = frozenset.intersection(*(look.active for look in looks)) if looks else frozenset()
        for mark in sorted(lasting - firing):
            yield f"reconciliation: {mark} fires in Alertmanager, and not here"
