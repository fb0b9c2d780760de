"""The one page that needs no store: people hear that nothing can be recorded, and so nothing is done (design 5.9).

From memory, with a static deduplication key, straight through the pagers; once an outage, resolved when the store is
back. Alerts that arrive meanwhile are Alertmanager's to keep; what it pages itself is in the shipped rules.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from responder.contracts import Clock, Message, Notifier
from responder.incident import Incident
from responder.timing import SECOND

LOG = logging.getLogger("responder.engine")

AGAIN = 10 * SECOND
"""How long after a failed try a pager is tried again."""


class Emergency:
    """See the module. `pagers` is replaced by a reload. Never raises."""

    def __init__(self, instance: str, pagers: Mapping[str, Notifier], clock: Clock) -> None:
        self.pagers = pagers
        self._instance = instance
        self._clock = clock
        self._down_since: int | None = None
        self._reason = ""
        self._told: set[str] = set()
        self._tried: dict[str, int] = {}

    @property
    def key(self) -> str:
        """The deduplication key: one page for an outage, however many replicas and restarts see it."""
        return f"responder/{self._instance}/store-down"

    async def store_down(self, reason: str) -> None:
        """The store cannot be used. To be called at every failure; pages each pager once an outage."""
        if self._down_since is None:
            self._down_since, self._reason = self._clock(), reason
            self._tried.clear()
        for name in self.pagers:
            if name not in self._told and await self._sent(name, resolves=False):
                self._told.add(name)

    async def store_back(self) -> None:
        """The store works. To be called until it answers without anything left to resolve (`pending`)."""
        if self._down_since is not None:
            self._down_since = None
            self._tried.clear()
        for name in tuple(self._told):
            if name not in self.pagers or await self._sent(name, resolves=True):
                self._told.discard(name)

    @property
    def pending(self) -> bool:
        """True while the store is down, or a page of the last outage is not resolved."""
        return self._down_since is not None or bool(self._told)

    async def _sent(self, name: str, *, resolves: bool) -> bool:
        now = self._clock()
        if now - self._tried.get(name, now - AGAIN) < AGAIN:
            return False
        self._tried[name] = now
        try:
            await self.pagers[name].send(self._message(name, now, resolves=resolves))
        except Exception as error:  # noqa: BLE001  the other pagers must hear of it all the same
            LOG.error("the emergency page to %s failed: %s", name, type(error).__name__)
            return False
        return True

    def _message(self, name: str, now: int, *, resolves: bool) -> Message:
        said = f"Responder {self._instance} cannot record anything, so it acts on no alert: {self._reason}"
        over = f"Responder {self._instance} records again"
        return Message(
            id=f"{self.key}:{name}",
            lane="page",
            kind="resolve" if resolves else "page",
            key=self.key,
            text=over if resolves else said,
            body=None,
            incident=_incident(said, self._instance, now),
            event=None,
            previous="",
            resolves=resolves,
        )


def _incident(title: str, instance: str, now: int) -> Incident:
    """What a notifier reads the severity and the target from; it is in no store."""
    return Incident(
        id="store-down",
        runbook=None,
        rules_hash="",
        policy="",
        target=f"responder {instance}: store",
        title=title,
        severity="critical",
        opened_at=now,
        ladder_from=now,
        clock_from=now,
    )
