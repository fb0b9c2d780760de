"""GET /api/v1/…: a journal as it was recorded, the shift hand-over, and what is dead.

Reads only. A dead letter's body holds whatever somebody posted, so it is shown to people with a role, as notifications
are (`notifications`); everything else is a reader's.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from responder.errors import BadSyntax
from responder.handover import AHEAD, LONGEST, SINCE, Standing, dead_letter, dead_message, digest
from responder.incident import Incident
from responder.recorded import LIVE, Recorded
from responder.records import DeadLetterRow, MessageRow, ScopeRow
from responder.scopes import PAUSE, SCHEDULE, InForce, Lock, Scheduled, legible, pause_of, unreadable
from responder.security import NEEDED
from responder.timing import DAY, parse_duration, parse_time
from responder.web.access import Refusal, allowed, as_json, known, reader
from responder.web.api import MOST, find, is_id
from responder.web.parts import Parts
from responder.web.shapes import waits_for

LOOK_BACK: Final = 7 * DAY
"""An incident that closed in the shift may have been opened so long before it."""
PAGES: Final = 10
"""Pages of closed incidents that are looked through."""
TIMERS: Final = 2_000
"""Timers that are looked through for reminders."""
DEAD: Final = 200
"""Dead messages in one answer."""
LETTER_BYTES: Final = 16 * 1024 * 1024
"""Of one dead letter's body in an answer."""

_IN_FORCE: Final = "in_force:"
_LOCK: Final = "lock:"
_REMINDS: Final = f"scope:{_IN_FORCE}"
"""What the subject of a reminder's timer begins with."""

Body = TypeVar("Body", bound=Recorded)


class Reports:
    """The handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def journal(self, request: Request) -> Response:
        """The events of an incident as they were recorded (times in µs), from which its state can be folded again."""
        reader(self._parts, request)
        incident = await find(self._parts, request.path_params["id"])
        events = await self._parts.desk.store.events(incident.id)
        agenda = [due.model_dump(mode="json") for due in incident.agenda]
        recorded = [event.model_dump(mode="json") for event in events]
        return as_json({"id": incident.id, "now": self._parts.desk.now(), "agenda": agenda, "events": recorded})

    async def handover(self, request: Request) -> Response:
        """`?since=12h`, or an RFC 3339 time: what the next shift must know."""
        reader(self._parts, request)
        now = self._parts.desk.now()
        return as_json(digest(await self._standing(_since(request.query_params.get("since"), now), now)))

    async def _standing(self, since: int, now: int) -> Standing:
        store = self._parts.desk.store
        rows = await store.incidents("open", None, MOST, namespace=LIVE)
        opened = tuple(row.fold for row in rows)
        scopes = await store.scopes()
        locks = _bodies(scopes, _LOCK, Lock)
        pause = next((pause_of(row.body) for row in scopes if row.name == PAUSE), None)
        return Standing(
            since=since,
            now=now,
            open=opened,
            closed=tuple([one async for one in self._closed(since)]),
            locked=await self._locked(locks, frozenset(i.id for i in opened)),
            waits={i.id: waits_for(i, now) for i in opened},
            pause=pause if pause is not None and pause.holds(now) else None,
            unread=tuple(row.name for row in scopes if unreadable(row.name, row.body)),
            locks=locks,
            in_force=_bodies(scopes, _IN_FORCE, InForce),
            schedules=_bodies(scopes, SCHEDULE, Scheduled),
            reminders=await self._reminders(now),
            letters=tuple(await store.dead_letters()),
            messages=tuple(row for row in await store.dead_messages(DEAD) if row.created_at >= since),
        )

    async def _closed(self, since: int) -> AsyncIterator[Incident]:
        before: str | None = None
        for _ in range(PAGES):
            rows = await self._parts.desk.store.incidents("closed", None, MOST, before, LIVE)
            for row in rows:
                if (row.fold.closed_at or 0) >= since:
                    yield row.fold
            if len(rows) < MOST or rows[-1].fold.opened_at < since - LOOK_BACK:
                return
            before = rows[-1].id

    async def _locked(self, locks: dict[str, Lock], opened: frozenset[str]) -> tuple[Incident, ...]:
        """The closed incidents whose change is still to be settled."""
        wanted = dict.fromkeys(
            held.incident
            for lock in locks.values()
            for held in lock.holders
            if held.unknown and held.incident not in opened
        )
        rows = [await self._parts.desk.store.incident(one) for one in wanted]
        return tuple(row.fold for row in rows if row is not None)

    async def _reminders(self, now: int) -> dict[str, int]:
        """Target -> when people are reminded of the change in force on it."""
        desk = self._parts.desk
        dues = await desk.store.due_timers(now + AHEAD, desk.worker.id, TIMERS)
        return {subject.removeprefix(_REMINDS): due.due for subject, due in dues if subject.startswith(_REMINDS)}

    async def dead_letters(self, request: Request) -> Response:
        """`?state=open` or `all`: what could not be understood, and the messages that nobody took."""
        reader(self._parts, request)
        state = request.query_params.get("state", "open")
        if state not in ("open", "all"):
            raise Refusal(400, "unknown state; there are open and all")
        letters, messages = await self._dead(state)
        found = {"dead_letters": [dead_letter(one) for one in letters]}
        return as_json({**found, "messages": [dead_message(row) for row in messages]})

    async def _dead(self, state: str) -> tuple[list[DeadLetterRow], list[MessageRow]]:
        """Of messages, those of open incidents or all of the latest."""
        store = self._parts.desk.store
        letters = await store.dead_letters(None if state == "all" else "open")
        messages = await store.dead_messages(DEAD)
        if state == "open":
            opened = {row.id for row in await store.incidents("open", None, MOST, namespace=LIVE)}
            messages = [row for row in messages if row.incident in opened]
        return letters, messages

    async def dead_letter(self, request: Request) -> Response:
        """One dead letter by its id or a beginning that only one has, with its body as it came."""
        person = known(self._parts, request)
        allowed(self._parts, person, "read dead letters", NEEDED["notifications"])
        letter = await self._letter(request.path_params["id"])
        return as_json({**dead_letter(letter), **await asyncio.to_thread(_body, letter.body[:LETTER_BYTES])})

    async def _letter(self, prefix: str) -> DeadLetterRow:
        rows = await self._parts.desk.store.dead_letters(None) if is_id(prefix) else []
        found = [row for row in rows if row.id == prefix] or [row for row in rows if row.id.startswith(prefix)]
        if not found:
            raise Refusal(404, "there is no such dead letter; GET /api/v1/dead-letters?state=all lists them")
        if len(found) > 1:
            named = ", ".join(row.id for row in found[:5])
            raise Refusal(409, f"several dead letters begin with {prefix!r}: {named}; give more of the id")
        return found[0]


def _bodies(scopes: Iterable[ScopeRow], prefix: str, model: type[Body]) -> dict[str, Body]:
    rows = (row for row in scopes if row.name.startswith(prefix))
    bodies = ((row.name.removeprefix(prefix), legible(model, row.body)) for row in rows)
    return {name: body for name, body in bodies if body is not None}


def _since(text: str | None, now: int) -> int:
    """A duration ago, or a time. Raises Refusal 400."""
    if text is None:
        return now - SINCE
    try:
        since = parse_time(text) if "T" in text.upper() else now - parse_duration(text)
    except BadSyntax as error:
        raise Refusal(400, f"since is a duration ago such as 12h, or an RFC 3339 time: {error}") from None
    if not now - LONGEST <= since <= now:
        raise Refusal(400, "since lies at most 7d back, and not in the future")
    return since


def _body(body: bytes) -> dict[str, Any]:
    """Text as it came; what is no UTF-8 in base64."""
    try:
        return {"encoding": "utf-8", "body": body.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "body": base64.b64encode(body).decode()}
