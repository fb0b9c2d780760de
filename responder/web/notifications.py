"""GET /api/v1/notifications: what was received, exactly as it came, for recordings and replays.

Bodies hold every label and annotation that anybody ever posted, and a wrong configuration's secrets among them: they
are shown to people with a role, never to a reader whom nobody knows. A page is bounded in bytes and in work, so that
the store never has to be read as a whole.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from responder import facts as f
from responder.alert import Limits, parse_notification
from responder.errors import BadPayload, BadSyntax
from responder.recorded import LIVE
from responder.records import NotificationRow
from responder.security import NEEDED
from responder.timing import parse_time
from responder.web.access import Refusal, allowed, known
from responder.web.api import find, is_id, limit_of
from responder.web.bodies import unpacked
from responder.web.parts import Parts
from responder.web.shapes import moment

AT_ONCE: Final = 50
"""Notifications read from the store at a time."""
ANSWER_BYTES: Final = 16 * 1024 * 1024
"""Of bodies in one answer, but for the first of them."""
LOOKED_AT: Final = 1_000
"""Notifications that one request looks at, of which an incident may have few."""
ENDLESS: Final = 2**62

_ALL: Final = Limits(max_alerts=2**31, max_labels=2**31, max_label_bytes=2**31)
"""What was taken in under other limits still holds its alerts."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which notifications: received in `[since, until)` (µs), behind `after`, with one of these alerts (None: any)."""

    since: int
    until: int
    limit: int
    after: str | None
    fingerprints: frozenset[str] | None


class Notifications:
    """The handler."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def notifications(self, request: Request) -> Response:
        """`?since=&until=&incident=&limit=&after=`, oldest first; `next` is the `after` of the next page.

        It is null at the end; before, a page may hold fewer than `limit`, and even none.
        """
        person = known(self._parts, request)
        allowed(self._parts, person, "read notifications", NEEDED["notifications"])
        page, following = await self._page(await self._asked(request.query_params))
        # The bodies are JSON already, and must be told as they came: they are put in and not read.
        body = b'{"notifications": [%b], "next": %b}\n' % (b", ".join(page), json.dumps(following).encode())
        return Response(body, 200, {"cache-control": "no-store"}, "application/json")

    async def _asked(self, query: QueryParams) -> Asked:
        since, until = _time(query, "since", 0), _time(query, "until", ENDLESS)
        limit, after, incident = limit_of(query.get("limit", "100")), query.get("after"), query.get("incident")
        if after is not None and not is_id(after):
            raise Refusal(400, "after is the id of a notification; take it from `next` of an earlier answer")
        if incident is None:
            return Asked(since, until, limit, after, None)
        opened, closed, fingerprints = await self._of_incident(incident)
        return Asked(max(since, opened), min(until, closed), limit, after, fingerprints)

    async def _of_incident(self, prefix: str) -> tuple[int, int, frozenset[str]]:
        """From its opening to its closing, and every alert that its journal names."""
        incident = await find(self._parts, prefix)
        if not incident.live:
            raise Refusal(
                400, f"incident {incident.id} is a replay's; only what was received live is kept to be replayed"
            )
        events = await self._parts.desk.store.events(incident.id)
        fired = frozenset(e.fact.fingerprint for e in events if isinstance(e.fact, f.AlertFired))
        return incident.opened_at, ENDLESS if incident.closed_at is None else incident.closed_at + 1, fired

    async def _page(self, asked: Asked) -> tuple[list[bytes], str | None]:
        store, picked, after = self._parts.desk.store, _Picked(asked), asked.after
        while not picked.full:
            rows = await store.notifications(asked.since, asked.until, AT_ONCE, after, LIVE)
            if not rows:
                return picked.entries, None
            after = await asyncio.to_thread(picked.take, rows)
        more = await store.notifications(asked.since, asked.until, 1, after, LIVE)
        return picked.entries, after if more else None


@dataclass(slots=True)
class _Picked:
    """The entries of one answer, and how much was looked at for them."""

    asked: Asked
    entries: list[bytes] = field(default_factory=list)
    size: int = 0
    looked_at: int = 0

    @property
    def full(self) -> bool:
        return len(self.entries) >= self.asked.limit or self.size >= ANSWER_BYTES or self.looked_at >= LOOKED_AT

    def take(self, rows: Sequence[NotificationRow]) -> str:
        """Look at rows until it is full; answers the id of the last one that was looked at."""
        last = ""
        for row in rows:
            if self.full:
                break
            last = row.id
            self.looked_at += 1
            body = unpacked(row.body)
            if self.asked.fingerprints is None or _holds(body, self.asked.fingerprints):
                self.size += len(body)
                self.entries.append(_entry(row, body))
        return last


def _holds(body: bytes, fingerprints: frozenset[str]) -> bool:
    try:
        alerts = parse_notification(body, _ALL).alerts
    except BadPayload:
        return False  # taken in by a version that understood more
    return any(alert.fingerprint in fingerprints for alert in alerts)


def _entry(row: NotificationRow, body: bytes) -> bytes:
    head: dict[str, Any] = {
        "id": row.id,
        "received_at": moment(row.received_at),
        "source": row.source,
        "receiver": row.receiver,
    }
    return b'%b, "body": %b}' % (json.dumps(head).encode()[:-1], body.removeprefix(b"\xef\xbb\xbf").strip())


def _time(query: QueryParams, name: str, default: int) -> int:
    given = query.get(name)
    if given is None:
        return default
    try:
        return parse_time(given)
    except BadSyntax as error:
        raise Refusal(400, f"{name}: {error}") from None
