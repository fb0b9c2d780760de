"""Destinations that are down, or asked to be left alone: while one takes nothing, a single message at a time tries it.

Without this each of thousands of waiting messages would try a dead destination once a minute for itself, and pass the
whole outage doing so.
"""

from __future__ import annotations

import logging

from responder.timing import SECOND

LOG = logging.getLogger("responder.engine")

FAILED_FROM = 3
"""Failures in a row after which a destination counts as down."""
LONGEST = 15 * SECOND
"""The longest time between two tries of a destination that is down: so late may its return be noticed."""


class Outages:
    """What is known about each destination by name. Times are microseconds since the epoch."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self._down_until: dict[str, int] = {}
        self._asked_until: dict[str, int] = {}
        self._trying: dict[str, str] = {}

    def held(self, now: int) -> dict[str, int]:
        """Destination -> when it is tried again."""
        known = {*self._down_until, *self._asked_until}
        return {name: until for name in known if (until := self.held_until(name)) > now}

    def held_until(self, destination: str) -> int:
        """When it is tried again; what is past holds nothing back."""
        return max(self._down_until.get(destination, 0), self._asked_until.get(destination, 0))

    def tries_another(self, destination: str) -> bool:
        """It is down, and the one message that tries it is under way."""
        return destination in self._trying

    def begins(self, destination: str, message: str) -> None:
        """This message is sent now."""
        if self._failures.get(destination, 0) >= FAILED_FROM:
            self._trying[destination] = message

    def ended(self, destination: str, message: str) -> None:
        """It is under way no more, whatever became of it."""
        if self._trying.get(destination) == message:
            del self._trying[destination]

    def worked(self, destination: str) -> None:
        """It took a message, or refused one for good: it is there."""
        if self._failures.pop(destination, 0) >= FAILED_FROM:
            LOG.info("%s takes messages again", destination)
        self._down_until.pop(destination, None)

    def failed(self, destination: str, now: int) -> None:
        """It did not take a message. Those that began before the others failed count once."""
        if self._down_until.get(destination, 0) > now:
            return
        failures = self._failures[destination] = self._failures.get(destination, 0) + 1
        if failures == FAILED_FROM:
            LOG.warning("%s takes nothing; until it does, one message at a time tries", destination)
        if failures >= FAILED_FROM:
            self._down_until[destination] = now + min(LONGEST, SECOND << min(failures - FAILED_FROM, 10))

    def asked_to_wait(self, destination: str, until: int) -> None:
        """It said when it may be tried again (`Retry-After`)."""
        self._asked_until[destination] = max(until, self._asked_until.get(destination, 0))
