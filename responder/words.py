"""What people have said, as the state of an incident holds it (`incident`), and what they are asked.

All times are integer microseconds since the epoch, UTC.
"""

from __future__ import annotations

from responder.recorded import Recorded


class Person(Recorded):
    """Who did something, when, and what they said."""

    actor: str
    at: int
    note: str = ""
    via: str = ""
    """The destination at whose side it was said."""
    seq: int = 0
    """The event's place in the journal; 0 where it was folded before places were kept."""


class Snooze(Recorded):
    """Who wants no page until when."""

    actor: str
    at: int
    until: int
    note: str = ""
    seq: int = 0
    """As a Person's."""


class Approval(Recorded):
    """What people are asked about one step: the plan by its digest, who may answer, and who did."""

    step: str
    plan: str
    preview: str
    role: str
    people: int
    asked_at: int
    until: int
    why: str = ""
    parts: tuple[str, ...] = ()
    approved: tuple[Person, ...] = ()
    denied: Person | None = None

    @property
    def granted(self) -> bool:
        """Enough people have said yes, and nobody no."""
        return self.denied is None and len(self.approved) >= self.people

    def waits(self, now: int) -> bool:
        """Nobody has decided yet, and there is time."""
        return self.denied is None and not self.granted and now < self.until
