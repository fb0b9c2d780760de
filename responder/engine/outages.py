"""Destinations that are down, or asked to be left alone: while one takes nothing, a single message at a time tries it.

Without this each of thousands of waiting messages would try a dead destination once a minute for itself, and pass the
whole outage doing so.
"""

from __future__ import annotations

import logging

from responder.contracts import RECORDS
from responder.records import HAND_OVER, MessageRow
from responder.timing import SECOND

LOG = logging.getLogger("responder.engine")

FAILED_FROM = 3
"""Failures in a row after which a destination counts as down."""
LONGEST = 15 * SECOND
"""The longest time between two tries of a destination that is down: so late may its return be noticed."""
PATIENCE = HAND_OVER - 15 * SECOND
"""How long a page waits for a destination that is down. The rest of its minute is for its turn at the next channel,
which has a pace of its own: after an hour without a pager that has thirty pages at once to take."""


class Outages:
    """What is known about each destination by name. Times are microseconds since the epoch."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self._down_until: dict[str, int] = {}
        self._asked_until: dict[str, int] = {}
        self._trying: dict[str, str] = {}

    def held(self, now: int) -> frozenset[str]:
        """The destinations that are not to be tried now."""
        return frozenset({name for name in self._known if self.held_until(name) > now} | set(self._trying))

    def is_held(self, destination: str, now: int) -> bool:
        """It is left alone now, or one message tries it."""
        return destination in self._trying or self.held_until(destination) > now

    def next_try(self, now: int) -> int | None:
        """When the first of those that are left alone now is tried again (µs)."""
        return min((at for at in map(self.held_until, self._known) if at > now), default=None)

    @property
    def _known(self) -> set[str]:
        return {*self._down_until, *self._asked_until}

    def held_until(self, destination: str) -> int:
        """When it is tried again; what is past holds nothing back."""
        return max(self._down_until.get(destination, 0), self._asked_until.get(destination, 0))

    def down(self, destination: str) -> bool:
        """It takes nothing, as far as is known."""
        return self._failures.get(destination, 0) >= FAILED_FROM

    def patience_ends(self, page: MessageRow) -> int:
        """When it goes to the next channel, unless it was taken (µs): after its minute, or earlier where it is known
        that nothing will come of waiting."""
        minute = page.created_at + HAND_OVER
        if self.held_until(page.destination) >= minute:
            return page.created_at
        return page.created_at + PATIENCE if self.down(page.destination) else minute

    def begins(self, row: MessageRow) -> None:
        """This message is sent now."""
        if self.down(row.destination) and _tells(row):
            self._trying[row.destination] = row.id

    def ended(self, row: MessageRow) -> None:
        """It is under way no more, whatever became of it."""
        if self._trying.get(row.destination) == row.id:
            del self._trying[row.destination]

    def worked(self, row: MessageRow) -> None:
        """The destination took it, or refused it for good: it is there."""
        if not _tells(row):
            return
        if self._failures.pop(row.destination, 0) >= FAILED_FROM:
            LOG.info("%s takes messages again", row.destination)
        self._down_until.pop(row.destination, None)

    def failed(self, row: MessageRow, now: int) -> None:
        """The destination did not take it. Those that began before the others failed count once."""
        name = row.destination
        if not _tells(row) or self._down_until.get(name, 0) > now:
            return
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        if failures == FAILED_FROM:
            LOG.warning("%s takes nothing; until it does, one message at a time tries", name)
        if failures >= FAILED_FROM:
            self._down_until[name] = now + min(LONGEST, SECOND << min(failures - FAILED_FROM, 10))

    def asked_to_wait(self, destination: str, until: int) -> None:
        """It said when it may be tried again (`Retry-After`)."""
        self._asked_until[destination] = max(until, self._asked_until.get(destination, 0))


def _tells(row: MessageRow) -> bool:
    """Records go through another door of a pager, which says nothing about its pages."""
    return row.template not in RECORDS
