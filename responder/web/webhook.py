"""POST /webhook/alertmanager: a notification is stored with all that follows from it, then acknowledged (design 5.1).

2xx only after the commit; 5xx only when nothing can be stored or the store is overloaded, for Alertmanager repeats
those at once and a 4xx at every group_interval (contracts.md A3). Grafana posts here too, and after any failure sends
nothing before its next group interval (A7). So an authenticated body that cannot be understood, or that our own mistake
stumbles over, is kept as a dead letter, told to people, and answered 200. No exception leaves.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from dataclasses import replace
from time import perf_counter
from typing import Final

from starlette.types import Receive, Scope, Send

from responder.alert import Alert, Dialect, Notification, parse_notification
from responder.alertmanagers import payload
from responder.errors import BadPayload, ResponderError, StoreUnavailable
from responder.ingest import Bury, Doubtful, Ingest, Received
from responder.recorded import LIVE
from responder.records import NotificationRow
from responder.security import Entry
from responder.timing import DAY, MINUTE, SECOND
from responder.web.bodies import Disconnected, TooLarge, answer, drain, packed, read_body
from responder.web.door import THREADED, Answer, Door, host, refusal
from responder.web.parts import Parts

log = logging.getLogger("responder.web")

QUIET: Final = 10 * MINUTE
"""Between two pages about bodies that are too large or a group that cannot be completed (design 5.1)."""
OURS: Final = 7 * DAY
"""A receiver by whose name something came within this time is us; groups of others are not ours to answer."""
LONGEST: Final = 2_000
"""Characters of a dead letter's reason, which may quote what somebody answered."""

_unstorable: Final = re.compile("[\x00\ud800-\udfff]")  # what PostgreSQL refuses in a text


class AlertmanagerWebhook:
    """The ASGI application of the path. Requests of any content type are taken; nothing is ever redirected."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._door = Door(parts)
        self._news = News()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            given = await self._answered(scope, receive)
        except Disconnected:
            return
        except StoreUnavailable as error:
            given = self._unstored(str(error))
        except Exception as error:
            log.exception("a notification could not be taken in")
            given = self._unstored(f"internal error {type(error).__name__}")
        self._parts.metrics.answered(given.status)
        await answer(send, given.status, given.content, given.headers)

    async def _answered(self, scope: Scope, receive: Receive) -> Answer:
        entry = self._door.entry(scope)
        refused = self._door.refused(scope, entry)
        if refused is not None:
            return refused
        if self._parts.desk.store.oldest_wait() * SECOND > self._parts.limits.waiting:
            return refusal(503, "the store is overloaded; send it again", {"retry-after": "1"})
        try:
            body = await read_body(scope, receive, self._parts.limits.body_bytes)
        except TooLarge as error:
            if error.more:
                await drain(receive, 4 * self._parts.limits.body_bytes)
            return self._unread(scope) if entry is Entry.SIGNED else await self._too_large(host(scope))
        if entry is Entry.SIGNED and (wrong := await self._door.wrongly_signed(scope, body)) is not None:
            return wrong
        started = perf_counter()
        taken = await _Delivery(self._parts, host(scope), body, self._news).taken()
        self._parts.metrics.webhook_seconds.observe(perf_counter() - started)
        return taken

    def _unread(self, scope: Scope) -> Answer:
        """Nobody is paged by whom nobody knows: the signature of a body that was not read cannot be checked."""
        limit = self._parts.limits.body_bytes
        said = f"above the limit of {limit} bytes; raise limits.body_bytes, or group by more labels"
        log.error("a signed notification from %s is %s", host(scope), said)
        return refusal(413, said)

    def _unstored(self, why: str) -> Answer:
        self._parts.emergency(why)
        return refusal(503, f"nothing can be stored: {why}", {"retry-after": "1"})

    async def _too_large(self, sender: str) -> Answer:
        limit = self._parts.limits.body_bytes
        said = (
            f"a notification above the limit of {limit} bytes; raise limits.body_bytes, or group by more labels."
            " What fires is fetched from Alertmanager's API, once in ten minutes"
        )
        if self._news.first("size", self._parts.desk.now()):
            await bury(self._parts, _source(sender), f"413: {said}", b"", "size")
            await self._fetch_all(sender)
        return refusal(413, said)

    async def _fetch_all(self, sender: str) -> None:
        """Whatever was in a body that was not read: all that fires for the receivers that we are (design 5.1)."""
        parts = self._parts
        try:
            receivers = await parts.desk.store.receivers(parts.desk.now() - OURS)
            alerts = await parts.alertmanagers.firing(receivers)
            body = payload(Notification("", "413", "", alerts, 0, None, {}, {}, ()))
            await _Delivery(parts, sender, body, self._news).taken()
        except StoreUnavailable:
            raise
        except ResponderError as error:
            await bury(parts, _source(sender), f"413: fetching what fires failed: {error}"[:LONGEST], b"", "size")


class News:
    """What was told lately, so that a sender that repeats itself pages once in QUIET."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def first(self, what: str, now: int) -> bool:
        """Whether it was not told within QUIET; it counts as told from now on. `now` in µs."""
        self._told = {told: at for told, at in self._told.items() if now - at < QUIET}
        if what in self._told:
            return False
        self._told[what] = now
        return True


async def bury(parts: Parts, source: str, reason: str, body: bytes, kind: str) -> str:
    """Keep a dead letter and page about it; answers its id. Raises StoreUnavailable."""
    letter, said = parts.desk.new_id(), _unstorable.sub("\ufffd", reason)[:LONGEST]
    turn = await parts.desk.submit(lambda shelf: Bury(letter, source, said, body, shelf))
    parts.desk.take([turn])
    parts.metrics.buried(kind)
    log.error("dead letter %s from %s: %s", letter, source, said)
    return letter


def _source(sender: str, dialect: Dialect = Dialect.ALERTMANAGER) -> str:
    return f"{dialect} {sender}"


class _Delivery:
    """One body on its way into the store."""

    def __init__(self, parts: Parts, sender: str, body: bytes, news: News) -> None:
        self._parts = parts
        self._sender = sender
        self._source = _source(sender)
        self._body = body
        self._news = news

    async def taken(self) -> Answer:
        """Store it, whatever it is. Raises StoreUnavailable."""
        try:
            notification, stored = await self._understood()
            self._source = _source(self._sender, notification.dialect)
            received = await self._whole_or_each(notification, stored)
        except StoreUnavailable:
            raise
        except BadPayload as error:
            return await self._dead(str(error), "body")
        except Exception as error:
            log.exception("a notification from %s could not be taken in", self._source)
            return await self._dead(f"internal error {type(error).__name__}; report it with this body", "internal")
        self._parts.metrics.received(notification)
        content = _counts(notification, received)
        if notification.truncated_alerts:
            content = _counts(notification, [*received, *await self._completed(notification)])
        return Answer(200, content)

    async def _whole_or_each(self, notification: Notification, stored: bytes) -> list[Received]:
        """One transaction for the batch; where a mistake of ours stumbles over one alert, the others go on without."""
        try:
            return [await self._ingested(notification, self._row(notification, stored))]
        except StoreUnavailable:
            raise
        except Exception:
            if len(notification.alerts) < 2:
                raise
            log.exception("a notification from %s could not be taken in as a whole", self._source)
        received = []
        for alert in notification.alerts:
            alone = replace(notification, alerts=(alert,), bad=())
            try:
                received.append(await self._ingested(alone, self._row(alone, stored)))
            except StoreUnavailable:
                raise
            except Exception as error:
                log.exception("an alert from %s could not be taken in", self._source)
                said = f"internal error {type(error).__name__} with alert {alert.fingerprint}; report it with this body"
                await bury(self._parts, self._source, said, payload(alone), "internal")
        return received

    async def _understood(self) -> tuple[Notification, bytes]:
        limits = self._parts.alert_limits
        if len(self._body) < THREADED:
            return parse_notification(self._body, limits), packed(self._body)
        notification = await asyncio.to_thread(parse_notification, self._body, limits)
        return notification, await asyncio.to_thread(packed, self._body)

    def _row(self, notification: Notification, stored: bytes) -> NotificationRow:
        return NotificationRow(
            id=self._parts.desk.new_id(),
            namespace=LIVE,
            received_at=self._parts.desk.now(),
            source=self._source,
            receiver=_asked_for(notification),
            group_key=notification.group_key,
            alerts=len(notification.alerts),
            truncated=notification.truncated_alerts,
            body=stored,
        )

    async def _ingested(self, notification: Notification, row: NotificationRow) -> Received:
        """Commit it; firings that look older than their known end are asked about first (design 5.2)."""
        notification = self._parts.heard(notification)
        asked: frozenset[str] = frozenset()
        gone: frozenset[str] = frozenset()
        while True:
            try:
                received = await self._submitted(notification, row, asked, gone)
            except Doubtful as doubtful:
                # Asked about twice only when another replica ended more of them meanwhile.
                alerts = [a for a in notification.alerts if a.fingerprint in doubtful.fingerprints - asked]
                gone |= await self._gone(notification, alerts)
                asked |= doubtful.fingerprints
                continue
            self._parts.desk.take(received.turns)
            return received

    async def _gone(self, notification: Notification, alerts: list[Alert]) -> frozenset[str]:
        """Which of them no Alertmanager knows; of Grafana's none knows any, and that means nothing."""
        if notification.dialect is Dialect.GRAFANA:
            return frozenset()
        return await self._parts.alertmanagers.gone(alerts)

    async def _submitted(
        self, notification: Notification, row: NotificationRow, asked: frozenset[str], gone: frozenset[str]
    ) -> Received:
        desk = self._parts.desk
        return await desk.submit(lambda shelf: Ingest(row.id, notification, row, shelf, desk.worker, asked, gone))

    async def _completed(self, notification: Notification) -> list[Received]:
        """The alerts that were left out, from the API; where that fails, people are told (contracts.md A5)."""
        if notification.dialect is Dialect.GRAFANA:
            # An Alertmanager may have a receiver and a group of the same names, with other alerts.
            await self._incomplete(notification, _GRAFANA_CUT)
            return []
        try:
            return await self._fetched(notification)
        except StoreUnavailable:
            raise
        except ResponderError as error:
            await self._incomplete(notification, _CUT.format(error))
        except Exception as error:
            log.exception("the rest of a notification could not be taken in")
            await self._incomplete(notification, _CUT.format(f"internal error {type(error).__name__}"))
        return []

    async def _fetched(self, notification: Notification) -> list[Received]:
        listed = {a.fingerprint for a in notification.alerts}
        rest = [a for a in await self._parts.alertmanagers.group(notification) if a.fingerprint not in listed]
        if not rest:
            return []
        # Read like every other body, so that the same limits hold and nothing comes in that cannot be stored.
        body = payload(replace(notification, alerts=tuple(rest)))
        fetched = parse_notification(body, self._parts.alert_limits)
        return [await self._ingested(fetched, self._row(fetched, packed(body)))]

    async def _incomplete(self, notification: Notification, why: str) -> None:
        group = f"{notification.dialect} {notification.receiver} {notification.group_key}"
        if not self._news.first(f"truncated {group}", self._parts.desk.now()):
            return
        said = f"{notification.truncated_alerts} alerts of group {notification.group_key} were left out by {why}"
        await bury(self._parts, self._source, said, b"", "truncated")

    async def _dead(self, reason: str, kind: str) -> Answer:
        letter = await bury(self._parts, self._source, reason, self._body, kind)
        return Answer(200, {"dead_letter": letter, "reason": reason})


_CUT: Final = "max_alerts, and fetching them failed: {}. Set max_alerts: 0 in alertmanager.yml"
_GRAFANA_CUT: Final = (
    "Max Alerts of Grafana's contact point, and nobody can be asked for them. Set Max Alerts to 0 there"
)


def _asked_for(notification: Notification) -> str:
    """The receiver by whose name Alertmanager's groups are fetched; a contact point's name means another there."""
    return "" if notification.dialect is Dialect.GRAFANA else notification.receiver


def _counts(notification: Notification, taken: list[Received]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for received in taken:
        for name in ("opened", "fired", "resolved", "repeated"):
            total[name] += getattr(received, name)
    counts = {name: total[name] for name in ("opened", "fired", "resolved", "repeated")}
    return {"alerts": len(notification.alerts), **counts, "unreadable": len(notification.bad)}
