"""POST /api/v1/replays/{name}/notifications: a notification taken in as if it had come now, in a namespace of its own.

What a replay may never do (act, page, touch what is live) follows from its namespace wherever something is decided;
here is only that nothing gets in without one. Nothing is asked of Alertmanager, and nobody is told about a bad body but
whoever sent it.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from responder.alert import Notification, parse_notification
from responder.errors import BadPayload
from responder.ingest import Doubtful, Ingest, Received
from responder.recorded import LIVE
from responder.records import NotificationRow
from responder.security import NEEDED, Person
from responder.timing import SECOND
from responder.web.access import Refusal, allowed, as_json, known
from responder.web.bodies import Disconnected, TooLarge, drain, packed, read_body
from responder.web.parts import Parts

PREFIX: Final = "replay/"

_name: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay by the name that somebody gave it. Raises Refusal 400 for what is no name."""

    name: str

    def __post_init__(self) -> None:
        if not _name.fullmatch(self.name):
            raise Refusal(
                400, "no name of a replay; use up to 64 letters, digits, `.`, `_` and `-`, as in monday-storm"
            )

    @property
    def namespace(self) -> str:
        """Where all of it lives: never LIVE, whatever the name."""
        return f"{PREFIX}{self.name}"


def is_replay(namespace: str) -> bool:
    """Whether a namespace can be a replay's."""
    return namespace != LIVE and namespace.startswith(PREFIX) and bool(_name.fullmatch(namespace, len(PREFIX)))


class Replays:
    """The handler."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def notification(self, request: Request) -> Response:
        """Take one notification in; answers the counts that the webhook answers."""
        person = known(self._parts, request)
        allowed(self._parts, person, "replay notifications", NEEDED["replay"])
        replay = Replay(request.path_params["name"])
        if self._parts.desk.store.oldest_wait() * SECOND > self._parts.limits.waiting:
            raise Refusal(503, "the store is overloaded, and what is live comes first; send it again", _LATER)
        notification, stored = await self._understood(await self._body(request))
        received = await self._ingested(notification, self._row(notification, stored, replay, person))
        return as_json(_counts(notification, received, replay))

    async def _body(self, request: Request) -> bytes:
        limit = self._parts.limits.body_bytes
        try:
            return await read_body(request.scope, request.receive, limit)
        except TooLarge as error:
            if error.more:
                await drain(request.receive, 4 * limit)
            raise Refusal(413, f"above the limit of {limit} bytes; raise limits.body_bytes, or send less") from None
        except Disconnected:
            raise Refusal(400, "the body did not arrive") from None

    async def _understood(self, body: bytes) -> tuple[Notification, bytes]:
        """In a thread: however large, it stops no live notification."""
        try:
            notification = await asyncio.to_thread(parse_notification, body, self._parts.alert_limits)
        except BadPayload as error:
            raise Refusal(400, f"not understood, and so a dead letter if it were live: {error}") from None
        return notification, await asyncio.to_thread(packed, body)

    def _row(self, notification: Notification, stored: bytes, replay: Replay, person: Person) -> NotificationRow:
        return NotificationRow(
            id=self._parts.desk.new_id(),
            namespace=replay.namespace,
            received_at=self._parts.desk.now(),
            source=f"replay by {person.name}",
            receiver=notification.receiver,
            group_key=notification.group_key,
            alerts=len(notification.alerts),
            truncated=notification.truncated_alerts,
            body=stored,
        )

    async def _ingested(self, notification: Notification, row: NotificationRow) -> Received:
        """Commit it. A firing that looks older than its known end counts as firing: what fires now says nothing."""
        desk, asked = self._parts.desk, frozenset[str]()
        # An unreadable alert would be told as a live problem; here whoever sent it reads the count.
        readable = replace(notification, bad=())
        while True:
            try:
                received = await desk.submit(lambda shelf: Ingest(row.id, readable, row, shelf, desk.worker, asked))  # noqa: B023
            except Doubtful as doubtful:
                asked |= doubtful.fingerprints
                continue
            desk.take(received.turns)
            return received


_LATER: Final = {"retry-after": "1"}


def _counts(notification: Notification, received: Received, replay: Replay) -> dict[str, Any]:
    counts = {name: getattr(received, name) for name in ("opened", "fired", "resolved", "repeated")}
    unreadable = len(notification.bad)
    return {"alerts": len(notification.alerts), **counts, "unreadable": unreadable, "namespace": replay.namespace}
