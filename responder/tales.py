"""What a simulation leaves to tell: messages that were sent, and each incident as lines and pages with their times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from responder.contracts import Message, Render
from responder.facts import Event, Paged
from responder.incident import Incident
from responder.journal import apply, opened
from responder.recorded import Cause, Result
from responder.story import describe


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was delivered, `at` µs since the epoch."""

    at: int
    destination: str
    message: Message


@dataclass(frozen=True, slots=True)
class Line:
    """One event as it was told; `offset` is µs since the simulation began."""

    offset: int
    event: Event
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page that woke somebody, and why. `text` is what it said."""

    offset: int
    destination: str
    why: str
    text: str


@dataclass(frozen=True, slots=True)
class Tale:
    """One incident: how it stands now, what happened, whom it woke."""

    incident: Incident
    lines: tuple[Line, ...]
    pages: tuple[Page, ...]


PUT_BACK: Final = {
    Result.FIXED: "put back",
    Result.INEFFECTIVE: "put back, but the harm remains",
    Result.UNVERIFIED: "put back, but not verified",
}
"""Results of a run that took a change back, where that was done (docs/adr/0025)."""


def result_text(cause: Cause, result: Result) -> str:
    """The result of a run as people are told it: one that takes a change back fixes nothing."""
    if cause not in (Cause.RESTORE, Cause.UNDO) or result is Result.UNKNOWN:
        return result.value
    return PUT_BACK.get(result, "not put back")


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells incidents of a simulation that began at `start` (µs since the epoch)."""

    start: int
    render: Render

    def tale(self, incident: Incident, events: Sequence[Event], sent: Sequence[Sent]) -> Tale:
        """The tale of one incident: its whole journal, and what was sent about it or anything else."""
        return Tale(incident, tuple(self._lines(events)), tuple(self._pages(incident, events, sent)))

    def _lines(self, events: Sequence[Event]) -> Iterator[Line]:
        """Each event as it was told then: by the state that it led to."""
        state = opened(events[0])
        for event in events:
            state = state if event is events[0] else apply(state, event)
            yield Line(event.at - self.start, event, describe(event, state, self.render))

    def _pages(self, incident: Incident, events: Sequence[Event], sent: Sequence[Sent]) -> Iterator[Page]:
        for one in sent:
            if one.message.kind == "page" and one.message.incident.id == incident.id:
                yield Page(one.at - self.start, one.destination, _why(one, events), one.message.text)


def _why(sent: Sent, events: Sequence[Event]) -> str:
    """The reason that was recorded when the page was put into the outbox."""
    since = 0 if sent.message.event is None else sent.message.event.seq
    for event in events:
        fact = event.fact
        if event.seq > since and isinstance(fact, Paged) and fact.key == sent.message.key:
            return fact.why
    return ""
