"""Folding what lies between an incident and people: who has it, whom it has told, which of its pages are open.

A part of `journal`, which is where everybody takes it from. Pure and total.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from responder import facts as f
from responder.incident import NAMES_KEPT, WORDS_KEPT, Incident, Override, Run
from responder.recorded import Answer
from responder.words import Person, Snooze


def copy(value: Any, **changes: Any) -> Any:
    """`model_copy` without the keyword noise; the fold's hot path, so values are not validated again."""
    return value.model_copy(update=changes)


def urgent(incident: Incident, why: str) -> Incident:
    """A reason for telling people at once. One that only repeats the last is not told again."""
    if incident.urgent is not None and incident.urgent in why:
        return incident
    return cast(Incident, copy(incident, urgent=why, urgent_number=incident.urgent_number + 1))


def ladder_anew(incident: Incident, event: f.Event) -> dict[str, Any]:
    """The ladder begins again from here, and nobody has the incident."""
    nobody: dict[str, Any] = {"acknowledged": None, "snoozed": None, "still_since": None, "repeats": 0, "stood": 0}
    nobody |= {"answered": _all_pages(incident), "reached": ()}
    return nobody | {"ladder_from": event.at, "ladder_round": incident.ladder_round + 1}


def _all_pages(incident: Incident) -> tuple[str, ...]:
    return tuple(key for _, key in incident.paged)


def _climb_stops(incident: Incident, event: f.Event) -> dict[str, Any]:
    """The climb stands still from now on, if it does not already; the pagers hear of it, so they tell nothing new."""
    since = event.at if incident.still_since is None else incident.still_since
    return {"still_since": since, "answered": _all_pages(incident)}


def _climb_goes_on(incident: Incident, ended: int) -> dict[str, Any]:
    """The ladder moves on by the time for which it stood still, so that what was left of it is left.

    `ended` is when the standing still was over, which may be long before anybody could record it.
    """
    began = incident.still_since
    if began is None and incident.acknowledged is not None:
        began = incident.acknowledged.at  # recorded before the standing still had a time of its own
    if began is None:
        return {"still_since": None}
    prefix = f"{incident.ladder_round}:"
    latest = max((at for key, at in incident.levels_reached.items() if key.startswith(prefix)), default=0)
    stood = max(0, ended - max(began, incident.ladder_from))
    since_level = incident.stood + max(0, ended - max(began, latest))
    return {"still_since": None, "ladder_from": incident.ladder_from + stood, "stood": since_level}


def _acknowledgement_expired(incident: Incident, fact: f.AcknowledgementExpired, event: f.Event) -> Incident:
    ended = event.at if fact.ended is None else fact.ended
    after = cast(Incident, copy(incident, acknowledged=None, **_climb_goes_on(incident, ended)))
    return _paged(after, fact.page, event)


def _unacknowledged(incident: Incident, fact: f.Unacknowledged, event: f.Event) -> Incident:
    return cast(Incident, copy(_heard(incident, fact.word), acknowledged=None, **_climb_goes_on(incident, event.at)))


def _snooze_ended(incident: Incident, fact: f.SnoozeEnded, event: f.Event) -> Incident:
    ended = event.at if incident.snoozed is None else min(event.at, incident.snoozed.until)
    return cast(Incident, copy(incident, snoozed=None, **_climb_goes_on(incident, ended)))


def _acknowledged(incident: Incident, fact: f.Acknowledged, event: f.Event) -> Incident:
    person = Person(actor=event.actor, at=event.at, note=fact.note, via=fact.via, seq=event.seq)
    changes = {"acknowledgements": incident.acknowledgements + 1, "snoozed": None, **_climb_stops(incident, event)}
    return cast(Incident, copy(_heard(incident, fact.word), acknowledged=person, **changes))


def _snoozed(incident: Incident, fact: f.Snoozed, event: f.Event) -> Incident:
    snooze = Snooze(actor=event.actor, at=event.at, until=fact.until, note=fact.note, seq=event.seq)
    changes = {"snoozes": incident.snoozes + 1, "acknowledged": None, **_climb_stops(incident, event)}
    return cast(Incident, copy(incident, snoozed=snooze, **changes))


def _heard(incident: Incident, word: str) -> Incident:
    """A word from outside is remembered by its id."""
    return cast(Incident, copy(incident, heard=(*incident.heard, word)[-WORDS_KEPT:])) if word else incident


def _level_reached(incident: Incident, fact: f.LevelReached, event: f.Event) -> Incident:
    key = f"{fact.round}:{fact.index}"
    reached = {**incident.levels_reached, key: event.at}
    # The first level is told for the reason that is urgent, if there is one.
    told = incident.urgent_number if fact.index == 0 else incident.urgent_told
    changes = {"levels_reached": reached, "urgent_told": told, "hurried": None, "stood": 0}
    return _paged(cast(Incident, copy(incident, **changes)), fact.page, event)


def _ladder_repeated(incident: Incident, fact: f.LadderRepeated, event: f.Event) -> Incident:
    return cast(Incident, copy(incident, **{**ladder_anew(incident, event), "repeats": fact.number}))


def _storm_grew(incident: Incident, fact: f.StormGrew, event: f.Event) -> Incident:
    names = (*incident.member_names, fact.target)[:NAMES_KEPT]
    count = incident.members + 1
    after = copy(incident, members=count, members_open=incident.members_open + 1, member_names=names)
    # Ten times as many are news again, also for somebody who has acknowledged it.
    return urgent(after, f"{count} incidents by now") if count in (100, 1_000, 10_000) else after


def _urgent_told(incident: Incident, fact: f.UrgentTold, event: f.Event) -> Incident:
    return _paged(cast(Incident, copy(incident, urgent_told=fact.number)), fact.page, event)


def _paged(incident: Incident, page: tuple[str, ...], event: f.Event) -> Incident:
    return cast(Incident, copy(incident, last_paged=event.at)) if page else incident


def _put_out(incident: Incident, fact: f.Paged, event: f.Event) -> Incident:
    """One page is open at each destination: the latest, which ends those before it once it is accepted."""
    kept = (one for one in incident.paged if one != (fact.destination, fact.supersedes))
    replaced = dict(incident.replaced)
    if fact.supersedes:
        before = replaced.pop(fact.supersedes, ())
        replaced[fact.key] = (fact.supersedes, *before)[:REPLACED_KEPT]
    paged = tuple(dict.fromkeys((*kept, (fact.destination, fact.key))))
    return cast(Incident, copy(incident, paged=paged, paged_seq=event.seq, replaced=replaced))


def _page_accepted(incident: Incident, fact: f.PageAccepted, event: f.Event) -> Incident:
    replaced = {k: v for k, v in incident.replaced.items() if k != fact.key}
    reached = tuple(dict.fromkeys((*incident.reached, fact.destination)))
    return cast(Incident, copy(incident, replaced=replaced, reached=reached))


REPLACED_KEPT = 20
"""Pages that one page may end; more than an outage of all pagers can pile up at one destination."""


def _calendar_overridden(incident: Incident, fact: f.CalendarOverridden, event: f.Event) -> Incident:
    """A run that its calendar alone held back, and that is over, begins anew; of one that waits for its hours, what
    these said is answered: should they hold it back once more, it is told once more."""
    override = Override(runbook=fact.runbook, actor=event.actor, at=event.at, until=fact.until, note=fact.note)
    after = cast(Incident, copy(incident, override=override))
    run = incident.run
    if run is not None and waits_for_hours(run):
        return cast(Incident, copy(after, runs=(*incident.runs[:-1], copy(run, verdicts=()))))
    if run is None or run.active or run.runbook != incident.runbook or not held_by_calendar(run):
        return after
    return cast(Incident, copy(after, result=None))


def waits_for_hours(run: Run) -> bool:
    """It is under way, and goes on when its hours come."""
    last = run.verdicts[-1] if run.active and run.waits_until is not None and run.verdicts else None
    return last is not None and last.gate == "calendar" and last.answer is Answer.WAIT


def held_by_calendar(run: Run) -> bool:
    """Its hours alone have kept it from acting."""
    last = run.verdicts[-1] if run.verdicts else None
    return last is not None and last.gate == "calendar" and last.answer is Answer.DENY and not run.acted


PEOPLE: dict[type[Any], Callable[[Incident, Any, f.Event], Incident]] = {
    f.UrgentTold: _urgent_told,
    f.LevelReached: _level_reached,
    f.CalendarOverridden: _calendar_overridden,
    f.Acknowledged: _acknowledged,
    f.AcknowledgementExpired: _acknowledgement_expired,
    f.Unacknowledged: _unacknowledged,
    f.Snoozed: _snoozed,
    f.SnoozeEnded: _snooze_ended,
    f.LadderRepeated: _ladder_repeated,
    f.StormGrew: _storm_grew,
    f.Paged: _put_out,
    f.PageAccepted: _page_accepted,
    f.Noted: lambda i, x, e: _heard(i, x.word),
    f.EscalationAsked: lambda i, x, e: copy(i, hurried=e.at),
    f.PagerAsked: lambda i, x, e: copy(i, pagers_asked=(*i.pagers_asked, f"{x.round}:{x.index}")),
    f.StillOpen: lambda i, x, e: copy(i, reminders=x.number),
    f.StormJoined: lambda i, x, e: copy(i, storm=x.storm),
    f.StormShrank: lambda i, x, e: copy(i, members_open=max(0, i.members_open - 1)),
    f.TakenOver: lambda i, x, e: copy(
        i, taken_over=Person(actor=e.actor, at=e.at, note=x.note, seq=e.seq), answered=_all_pages(i)
    ),
}
"""What each of these facts does to the state."""
