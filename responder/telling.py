"""Which messages a fact leaves in the outbox: the root that shows the state, a line in the thread, a page (design 5.8).

The rows are written in the transaction of the event that they tell. What a message says is decided when it is rendered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from responder import facts as f
from responder.incident import Incident
from responder.policies import Policy, severity_rank
from responder.recorded import Outcome, StepStatus
from responder.records import Lane, MessageRow

SILENT = frozenset(
    {"opened", "gathered", "attempt_intended", "paged", "machine_gathered", "page_accepted", "verifying", "watched"}
)
"""Facts without a line of their own: the root shows them, or the line of another fact says it."""

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
    keys = tuple(f.Paged(destination=m.destination, key=m.order_key, why=_why(event.fact)) for m in pages)
    resolves = tuple(_resolves(incident, event)) if isinstance(event.fact, f.Closed) else ()
    return Told(
        messages=(*pages, *resolves, *thread),
        renewed=tuple(_root(incident, event, chat) for chat in policy.chat),
        paged=keys,
    )


def has_line(fact: f.Fact) -> bool:
    """True for a fact that gets a line in the thread. A success is told by the step's end, not twice."""
    if isinstance(fact, f.AlertFired):
        return fact.joined
    if isinstance(fact, f.AttemptEnded):
        return fact.outcome is not Outcome.OK
    if isinstance(fact, f.UrgentTold):
        return bool(fact.page)
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
        rank=severity_rank(incident.severity),
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
    for number, (to, key) in enumerate(incident.paged):
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
