"""A program that is told incidents by webhook, written by docs/notifiers.md: it checks, keeps, and counts once."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import socket
from collections import deque
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from responder.timing import SECOND
from responder.wall_clock import wall_clock
from tests.fakes.server import FakeServer

WINDOW = 300
"""Seconds that a signed time may differ from ours."""


class FakeReceiver(FakeServer):
    """`documents` holds each one once, by its key. `fail` makes the next calls go wrong."""

    def __init__(self, *, bearer: str = "", key: str = "") -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.calls = 0
        self._bearer, self._key = bearer, key
        self._troubles: deque[Response] = deque()
        super().__init__([Route("/hooks/incidents", self._take, methods=["POST"])])
        # Without it every answer waits 40 ms for an acknowledgement: asyncio sets it only where the protocol is named.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def address(self) -> str:
        """What a notifier is configured with."""
        return f"{self.url}/hooks/incidents"

    def fail(self, status: int, said: object = "not now", **headers: str) -> None:
        """The next call is answered so."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._troubles.append(JSONResponse(said, status, named))

    async def _take(self, request: Request) -> Response:
        self.calls += 1
        body = await request.body()
        if self._troubles:
            return self._troubles.popleft()
        if self._bearer and request.headers.get("authorization") != f"Bearer {self._bearer}":
            return JSONResponse("no such token", 401)
        if self._key and not _is_signed(request, body, self._key):
            return JSONResponse("no such signature", 401)
        document = json.loads(body, parse_constant=_no_constant)
        wrong = problems(document, request.headers.get("idempotency-key", ""))
        if wrong:
            return JSONResponse(wrong, 422)
        known = self.documents.setdefault(document["id"], document)
        return JSONResponse("taken" if known == document else "another document under this key", 202)


def _is_signed(request: Request, body: bytes, key: str) -> bool:
    timestamp = request.headers.get("x-responder-timestamp", "")
    wanted = hmac.new(key.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    fresh = timestamp.isdecimal() and abs(wall_clock() // SECOND - int(timestamp)) < WINDOW
    return fresh and hmac.compare_digest(request.headers.get("x-responder-signature", ""), f"v1={wanted}")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
KEYS = {"version", "type", "id", "key", "text", "event", "incident"}
EVENT = {"seq", "at", "kind", "actor", "sentence"}
INCIDENT = {
    "id", "seq", "labels", "title", "impact", "target", "severity", "runbook", "mode", "status", "light", "opened_at",
    "closed_at", "closed_why", "result", "why", "urgent", "problems", "alerts", "alerts_total", "firing", "runs",
    "next", "coming", "approval", "snoozed", "storm", "storm_of", "unsettled", "owner", "begun", "paged", "replay",
    "urgency", "links",
}  # fmt: skip
RUN = {"number", "runbook", "mode", "cause", "phase", "result", "why", "waits_until", "waits_why", "steps", "evidence"}
STEP = {"id", "status", "text", "why", "took", "attempts", "waits"}
ALERT = {"fingerprint", "labels", "text", "summary", "firing", "since", "ended"}


def problems(document: dict[str, Any], header: str) -> list[str]:
    """Where a document is not what the documentation promises."""
    incident = document.get("incident", {})
    wrong = [] if document.get("id") == header != "" else ["the key of the header is not that of the document"]
    wrong += [] if document.get("version") == 1 else ["version"]
    wrong += [] if document.get("type") in ("state", "event", "page", "resolve") else ["type"]
    for name, found, keys in _objects(document, incident):
        wrong += [] if set(found) == keys else [f"{name}: {sorted(set(found) ^ keys)}"]
    times = [incident.get("opened_at"), *(alert["since"] for alert in incident.get("alerts", ()))]
    wrong += [f"no time: {one!r}" for one in times if not isinstance(one, str) or not TIME.fullmatch(one)]
    return wrong


def _objects(document: dict[str, Any], incident: dict[str, Any]) -> list[tuple[str, dict[str, Any], set[str]]]:
    found = [("document", document, KEYS), ("incident", incident, INCIDENT)]
    found += [("event", document["event"], EVENT)] if document["event"] is not None else []
    found += [("alert", one, ALERT) for one in incident["alerts"]]
    found += [("run", one, RUN) for one in incident["runs"]]
    return found + [("step", step, STEP) for one in incident["runs"] for step in one["steps"]]
