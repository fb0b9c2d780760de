"""GET /api/v1/…: incidents, one incident with its journal, and what the whole program is at.

Reads only, each a few statements outside transactions. What changes something is in `verbs`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from responder import __version__
from responder.incident import Incident
from responder.recorded import LIVE, Recorded
from responder.records import ScopeRow
from responder.scopes import PAUSE, PAUSES, InForce, Lock, legible, pause_of, paused_what, unreadable
from responder.web.access import Refusal, as_json, reader
from responder.web.parts import Parts
from responder.web.replays import is_replay
from responder.web.shapes import details, moment, overrides, shown, summary, told, waits_for

MOST: Final = 500
"""Incidents in one answer."""
STATUSES: Final = ("open", "closed", "acting", "verifying", "waiting", "snoozed", "acknowledged")
UPCOMING: Final = 20
"""Timers that the status names."""

_id: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def is_id(text: str) -> bool:
    """Whether this can be the id of an incident or a notification, or its beginning."""
    return _id.fullmatch(text) is not None


class Api:
    """The reading handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def incidents(self, request: Request) -> Response:
        """`?limit=&status=&target=&before=&namespace=`, newest first; `next` is the `before` of the next page.

        Those of a replay only when `namespace` names it: nobody is to take them for real.
        """
        reader(self._parts, request)
        query = request.query_params
        limit = limit_of(query.get("limit", "100"))
        status, target, before = query.get("status"), query.get("target"), query.get("before")
        namespace = query.get("namespace", LIVE)
        if status is not None and status not in STATUSES:
            raise Refusal(400, f"unknown status; there are {', '.join(STATUSES)}")
        if "\0" in (target or "") or (before is not None and not is_id(before)):
            raise Refusal(400, "target or before is no name; take them from an earlier answer")
        if namespace != LIVE and not is_replay(namespace):
            raise Refusal(400, f"no namespace; there are {LIVE} and replay/NAME, where NAME was given to a replay")
        found = await self._parts.desk.store.incidents(status, target, limit + 1, before, namespace)
        more = found[limit - 1].id if len(found) > limit else None
        return as_json({"incidents": [summary(row.fold) for row in found[:limit]], "next": more})

    async def incident(self, request: Request) -> Response:
        """One incident by its id or a beginning that only one has; `?after=SEQ` leaves out earlier events."""
        reader(self._parts, request)
        incident = await find(self._parts, request.path_params["id"])
        after = request.query_params.get("after", "0")
        if not re.fullmatch(r"[0-9]{1,9}", after):
            raise Refusal(400, "after is the seq of an event, such as after=12")
        events = await self._parts.desk.store.events(incident.id, int(after))
        journal = [told(event, incident, self._parts.render) for event in events]
        return as_json({**details(incident, self._parts.desk.now()), "events": journal})

    async def status(self, request: Request) -> Response:
        """What is open and what each waits for, locks, changes in force, the pause, what comes next, what is loaded."""
        reader(self._parts, request)
        desk = self._parts.desk
        opened = [row.fold for row in await desk.store.incidents("open", None, MOST, namespace=LIVE)]
        now = desk.now()
        scopes = await desk.store.scopes()
        unread = [f"the store's row {row.name} cannot be read" for row in scopes if unreadable(row.name, row.body)]
        return as_json(
            {
                "version": __version__,
                "now": moment(now),
                "rules": {"hash": desk.shelf.current.hash, "runbooks": len(desk.shelf.current.runbooks)},
                **_pauses(scopes, now),
                "halted": desk.shelf.halted,
                "open": await desk.store.open_incidents(),
                "incidents": [{**summary(i), "waits_for": waits_for(i, now)} for i in opened],
                "locks": _bodies(scopes, "lock:", Lock),
                "overrides": list(overrides(opened, now)),
                "in_force": _bodies(scopes, "in_force:", InForce),
                "timers": _upcoming(opened),
                "next_timer_at": moment(await desk.store.next_timer_due(now, desk.worker.id)),
                "next_message_at": moment(await desk.store.next_message_due()),
                "store": {"oldest_wait": desk.store.oldest_wait()},
                "unready": [*self._parts.unready(), *unread],
                **self._parts.health(),
            }
        )


def _pauses(scopes: Iterable[ScopeRow], now: int) -> dict[str, Any]:
    """The pause of everything, and those of single runbooks and services."""
    pauses = ((row.name, pause_of(row.body)) for row in scopes if row.name.startswith(PAUSES))
    held = {name: shown(pause) for name, pause in pauses if pause is not None and pause.holds(now)}
    single = [{**held[name], "what": paused_what(name)} for name in held if name != PAUSE]
    return {"pause": held.get(PAUSE), "paused": single}


def _bodies(scopes: Iterable[ScopeRow], prefix: str, model: type[Recorded]) -> list[dict[str, Any]]:
    """The scopes of one kind, each with the target that its name ends in."""
    rows = (row for row in scopes if row.name.startswith(prefix))
    bodies = ((row.name.removeprefix(prefix), legible(model, row.body)) for row in rows)
    return [{**shown(body), "target": target} for target, body in bodies if body is not None]


async def find(parts: Parts, prefix: str) -> Incident:
    """The incident of an id or beginning. Raises Refusal 404, and Rejected when several begin so."""
    row = await parts.desk.store.incident(prefix) if is_id(prefix) else None
    if row is None:
        raise Refusal(404, "there is no such incident; GET /api/v1/incidents lists them")
    return row.fold


def limit_of(text: str) -> int:
    """How many of something in one answer. Raises Refusal."""
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MOST:
        raise Refusal(400, f"limit is a number from 1 to {MOST}")
    return int(text)


def _upcoming(incidents: list[Incident]) -> list[dict[str, Any]]:
    dues = sorted((d.due, i.id, d.kind, d.round, d.what) for i in incidents for d in i.agenda)
    return [
        {"incident": i, "kind": kind, "round": number, "at": moment(at), "what": what}
        for at, i, kind, number, what in dues[:UPCOMING]
    ]
