"""Which messages a fact leaves in the outbox: the root that shows the state, a line in the thread, a page (design 5.8).

The rows are written in the transaction of the event that they tell. What a message says is decided when it is rendered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from responder import facts as f
from responder.escalation import last_reached
from responder.incident import Incident
from responder.policies import Policy, severity_rank
from responder.recorded import Effect, Outcome, ProbeAnswer, Result, StepStatus
from responder.records import Lane, MessageRow

SILENT = frozenset({
    "opened", "gathered", "attempt_intended", "paged", "machine_gathered", "page_accepted", "pager_asked", "verifying",
    "watched", "storm_grew", "storm_shrank",
})  # fmt: skip
"""Facts without a line of their own: the root shows them, or the line of another fact says it."""

NOTED = frozenset({
    "run_ended", "acknowledged", "taken_over", "snoozed", "machine_fired", "approved", "denied", "run_stopped",
    "settled",
    "noted", "closed",
})  # fmt: skip
"""Facts that the pager's own incident hears of as notes, where it takes them."""

CLAIMED = frozenset({"acknowledged", "taken_over", "snoozed"})
"""Facts after which nobody else must be woken at a pager."""

BAD_ENDS = frozenset({Result.INEFFECTIVE, Result.UNKNOWN, Result.HARMFUL, Result.UNVERIFIED, Result.FAILED})
"""Results with which people have to do something."""

AUTHOR = "responder"
"""The actor of everything that the program does by itself."""


@dataclass(frozen=True, slots=True)
class Told:
    """Rows for the outbox, and the facts that say which pages were put there."""

    messages: tuple[MessageRow, ...] = ()
    renewed: tuple[MessageRow, ...] = ()
    paged: tuple[f.Paged, ...] = ()


def told(incident: Incident, event: f.Event, policy: Policy, instance: str) -> Told:
    """What leaves because of this event. A replay tells nobody (design 5.2)."""
    if not incident.live:
        return Told()
    thread = tuple(_line(incident, event, chat) for chat in policy.chat) if has_line(event.fact) else ()
    pages = tuple(_pages(incident, event, instance))
    known = dict(incident.paged)
    keys = tuple(
        f.Paged(
            destination=m.destination,
            key=m.order_key,
            why=_why(event.fact),
            supersedes=known.get(m.destination, ""),
        )
        for m in pages
    )
    resolves = tuple(_resolves(incident, event)) if isinstance(event.fact, f.Closed) else ()
    return Told(
        messages=(*pages, *resolves, *thread, *_records(incident, event, policy)),
        renewed=tuple(_root(incident, event, chat) for chat in policy.chat),
        paged=keys,
    )


def _records(incident: Incident, event: f.Event, policy: Policy) -> Iterator[MessageRow]:
    """What pagers keep beside their pages: who has it, what was changed, what became of it."""
    fact = event.fact
    via = getattr(fact, "via", "")
    for number, (to, key) in enumerate(incident.paged):
        if to == via:
            continue
        if fact.kind in CLAIMED:
            row = _row(incident, event, Lane.PAGE, to, "acknowledge", key)
            yield replace(row, id=f"{event.id}:acknowledge:{number}")
        if fact.kind in NOTED:
            # An order of its own: a note that cannot be left must not hold up the page's own end.
            yield replace(
                _row(incident, event, Lane.THREAD, to, "note", f"{key}#notes"), id=f"{event.id}:note:{number}"
            )
    if _changed(incident, fact):
        for to in policy.changes:
            yield _row(incident, event, Lane.THREAD, to, "change", f"{incident.id}:changes:{to}")


def _changed(incident: Incident, fact: f.Fact) -> bool:
    """A step ended that has changed something."""
    if not isinstance(fact, f.StepEnded) or fact.status is not StepStatus.DONE:
        return False
    run = next((r for r in incident.runs if r.number == fact.run), None)
    attempts = () if run is None else run.attempts_of(fact.step)
    return any(a.happened and a.plan.effect is not Effect.READ for a in attempts)


def broadcast(fact: f.Fact) -> bool:
    """True for a line that the whole channel must see, not only who follows the thread."""
    match fact:
        case f.RunEnded():
            return fact.result in BAD_ENDS
        case f.StepEnded():
            return fact.status is StepStatus.UNKNOWN
        case f.LevelReached() | f.UrgentTold() | f.MachineFired():
            return bool(fact.page)
        case f.ApprovalAsked() | f.ManualAsked() | f.MachineAnnounced() | f.AcknowledgementExpired() | f.StillOpen():
            return True
        case f.Closed():
            return True
        case _:
            return False


def mentions(incident: Incident, fact: f.Fact, policy: Policy) -> tuple[str, ...]:
    """Whom a line catches: the people of the level that it tells, or of the one that was told last."""
    if isinstance(fact, f.LevelReached):
        level = policy.levels[fact.index] if fact.index < len(policy.levels) else None
    elif broadcast(fact) and not isinstance(fact, f.Closed | f.StillOpen):
        level = last_reached(incident, policy) or next(iter(policy.levels), None)
    else:
        level = None
    return () if level is None else level.mention


def has_line(fact: f.Fact) -> bool:
    """True for a fact that gets a line in the thread. A success is told by the step's end, not twice."""
    if isinstance(fact, f.AlertFired):
        return fact.joined
    if isinstance(fact, f.AttemptIntended):
        return bool(fact.supersedes)
    if isinstance(fact, f.AttemptEnded):
        first = fact.not_yet is not None and fact.not_yet.tried == 1  # the root shows how it goes on
        return fact.outcome is not Outcome.OK or first
    if isinstance(fact, f.UrgentTold):
        return bool(fact.page)
    if isinstance(fact, f.Probed):
        return fact.answer is not ProbeAnswer.UNCLEAR  # asked again, and in the end the step says so
    if isinstance(fact, f.StepEnded):
        return fact.status is not StepStatus.FAILED
    return fact.kind not in SILENT


def _line(incident: Incident, event: f.Event, chat: str) -> MessageRow:
    return _row(incident, event, Lane.THREAD, chat, f"story/{event.fact.kind}", f"{incident.id}:{chat}")


def root_id(incident: str, destination: str) -> str:
    """The id of the one root message of an incident at a chat destination."""
    return f"{incident}:root:{destination}"


def _root(incident: Incident, event: f.Event, chat: str) -> MessageRow:
    own = root_id(incident.id, chat)
    return replace(_row(incident, event, Lane.ROOT, chat, "root", own), id=own, event_seq=0)


def _row(incident: Incident, event: f.Event, lane: Lane, to: str, template: str, order_key: str) -> MessageRow:
    return MessageRow(
        id=f"{event.id}:{template}:{to}",
        incident=incident.id,
        event_seq=event.seq,
        lane=lane,
        destination=to,
        template=template,
        order_key=order_key,
        created_at=event.at,
        next_at=event.at,
        # Of many at once people look at the storm: its own messages do not wait behind theirs.
        rank=severity_rank(incident.severity) if incident.storm is None else -1,
    )


def _pages(incident: Incident, event: f.Event, instance: str) -> Iterator[MessageRow]:
    fact = event.fact
    if not isinstance(fact, f.LevelReached | f.MachineFired | f.AcknowledgementExpired | f.UrgentTold):
        return
    for to in dict.fromkeys(fact.page):
        yield _row(incident, event, Lane.PAGE, to, "page", f"responder/{instance}/{incident.id}/{to}/{_occasion(fact)}")


def _occasion(fact: f.LevelReached | f.MachineFired | f.AcknowledgementExpired | f.UrgentTold) -> str:
    """What makes a page's key its own: a pager appends to an open key without waking anybody (contracts.md C1)."""
    match fact:
        case f.LevelReached():
            return f"l{fact.round}.{fact.index}"
        case f.MachineFired():
            return f"m{fact.round}.{fact.index}"
        case f.AcknowledgementExpired():
            return f"a{fact.count}"
        case f.UrgentTold():
            return f"u{fact.number}"


def _resolves(incident: Incident, event: f.Event) -> Iterator[MessageRow]:
    open_pages = [(to, one) for to, key in incident.paged for one in (key, *incident.replaced.get(key, ()))]
    for number, (to, key) in enumerate(open_pages):
        row = _row(incident, event, Lane.PAGE, to, "resolve", key)
        # Several keys may have gone to one destination: the number tells their rows apart.
        yield replace(row, id=f"{event.id}:resolve:{number}")


def _why(fact: f.Fact) -> str:
    if isinstance(fact, f.LevelReached):
        return f"level {fact.name}: {fact.why}"
    if isinstance(fact, f.AcknowledgementExpired):
        return "acknowledged, and nothing followed"
    if isinstance(fact, f.UrgentTold):
        return fact.why
    return "not fixed in time"
