"""Opsgenie's Alert API, and that of Jira Service Management: aliases, what it refuses, and its limits (contracts.md E).

Written by the vendor's reference. `OPSGENIE` may read alerts; `JSM` has integration events only, below a base path.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fakes.server import FakeServer

KEY: Final = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9"
OPSGENIE: Final = ""
JSM: Final = "/jsm/ops/integration"

LIMITS: Final = {
    "message": 130, "alias": 250, "description": 15_000, "entity": 512, "source": 100, "user": 100, "note": 25_000
}  # fmt: skip
CREATES: Final = {
    "message", "alias", "description", "responders", "tags", "details", "entity", "source", "priority", "user", "note"
}  # fmt: skip
SAYS: Final = {"user", "source", "note"}
NAMED_BY: Final = {"team": "name", "escalation": "name", "schedule": "name", "user": "username"}


@dataclass
class Alert:
    """What people see under one alias; creating it again while it is open only counts."""

    alias: str
    open: bool = True
    created: list[dict[str, Any]] = field(default_factory=list)
    acknowledged: dict[str, Any] | None = None
    closed: dict[str, Any] | None = None
    notes: list[dict[str, Any]] = field(default_factory=list)


class FakeOpsgenie(FakeServer):
    """`alerts` is what people see, `calls` what was asked for; `fail` makes the next calls go wrong."""

    def __init__(self, base: str = OPSGENIE) -> None:
        self.alerts: list[Alert] = []
        self.calls: list[str] = []
        self._base = base
        self._troubles: deque[Response | None] = deque()
        routes = [
            Route(f"{base}/v2/alerts", self._create, methods=["POST"]),
            Route(f"{base}/v2/alerts/{{alias}}/{{verb}}", self._say, methods=["POST"]),
        ]
        reading = [Route(f"{base}/v2/alerts/{{alias}}", self._read, methods=["GET"])]
        super().__init__([*routes, *(reading if base == OPSGENIE else ())])
        # Without it every answer waits 40 ms for an acknowledgement: asyncio sets it only where the protocol is named.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def base_url(self) -> str:
        """What a notifier is configured with."""
        return f"{self.url}{self._base}"

    def fail(self, status: int, said: object = "not now", *, after: int = 0, **headers: str) -> None:
        """The next call answers this; `after` so many calls that go well."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._troubles.extend([*([None] * after), JSONResponse({"message": said, "requestId": "r0"}, status, named)])

    def _refused(self, request: Request) -> Response | None:
        self.calls.append(request.url.path.removeprefix(f"{self._base}/v2/"))
        trouble = self._troubles.popleft() if self._troubles else None
        if trouble is None and request.headers.get("authorization") != f"GenieKey {KEY}":
            return JSONResponse({"message": "Could not authenticate", "took": 0.0, "requestId": "r0"}, 401)
        return trouble

    def _open(self, alias: str) -> Alert | None:
        return next((one for one in self.alerts if one.alias == alias and one.open), None)

    async def _create(self, request: Request) -> Response:
        refused = self._refused(request)
        if refused is not None:
            return refused
        body = json.loads(await request.body())
        wrong = problems(body, CREATES) | _problems_of_an_alert(body)
        if wrong:
            return _unprocessable(wrong)
        found = self._open(body["alias"])
        if found is None:
            found = Alert(body["alias"])
            self.alerts.append(found)
        found.created.append(body)
        return self._accepted()

    async def _say(self, request: Request) -> Response:
        """Accepted whether there is such an alert or not: that is looked at later."""
        refused = self._refused(request)
        if refused is not None:
            return refused
        body = json.loads(await request.body())
        wrong = problems(body, SAYS) | _problems_of_an_identifier(request)
        verb = request.path_params["verb"]
        if verb == "notes" and not body.get("note"):
            wrong |= {"note": "Note can not be empty."}
        if wrong:
            return _unprocessable(wrong)
        return self._done(verb, self._open(request.path_params["alias"]), body)

    def _done(self, verb: str, alert: Alert | None, body: dict[str, Any]) -> Response:
        if verb not in ("close", "acknowledge", "notes"):
            return JSONResponse({"message": "No such handler"}, 404)
        if alert is not None and verb == "close":
            alert.open, alert.closed = False, body
        if alert is not None and verb == "acknowledge":
            alert.acknowledged = body
        if alert is not None and verb == "notes":
            alert.notes.append(body)
        return self._accepted()

    async def _read(self, request: Request) -> Response:
        refused = self._refused(request)
        if refused is not None:
            return refused
        if _problems_of_an_identifier(request):
            return _unprocessable(_problems_of_an_identifier(request))
        found = next((one for one in self.alerts[::-1] if one.alias == request.path_params["alias"]), None)
        if found is None:
            return JSONResponse({"message": "Alert not found", "requestId": "r0"}, 404)
        report = {
            "acknowledgedBy": (found.acknowledged or {}).get("user"),
            "closedBy": (found.closed or {}).get("user"),
        }
        data = {
            "alias": found.alias,
            "status": "open" if found.open else "closed",
            "acknowledged": found.acknowledged is not None,
            "report": {name: by for name, by in report.items() if by},
            **found.created[-1],
        }
        return JSONResponse({"data": data, "took": 0.01, "requestId": "r0"})

    def _accepted(self) -> Response:
        body = {"result": "Request will be processed", "took": 0.1, "requestId": f"r{len(self.calls)}"}
        return JSONResponse(body, 202)


def _unprocessable(errors: Mapping[str, str]) -> Response:
    said = "Request body is not processable. Please check the errors."
    return JSONResponse({"message": said, "errors": dict(errors), "took": 0.0, "requestId": "r0"}, 422)


def problems(body: dict[str, Any], known: set[str]) -> dict[str, str]:
    """What is wrong with any body: unknown fields, texts that are no texts or too long."""
    wrong = dict.fromkeys(body.keys() - known, "Unknown field.")
    for name in body.keys() & LIMITS.keys():
        if not isinstance(body[name], str) or len(body[name].encode("utf-16-le")) > 2 * LIMITS[name]:
            wrong[name] = f"Must be a text of at most {LIMITS[name]} characters."
    return wrong


def _problems_of_an_identifier(request: Request) -> dict[str, str]:
    given = dict(request.query_params)
    return {} if given == {"identifierType": "alias"} else {"identifierType": f"Should be alias, not {given}."}


def _problems_of_an_alert(body: dict[str, Any]) -> dict[str, str]:
    wrong = {name: "Can not be empty." for name in ("message", "alias", "source") if not body.get(name)}
    if body.get("priority") not in ("P1", "P2", "P3", "P4", "P5"):
        wrong["priority"] = "Should be one of [ P1, P2, P3, P4, P5 ]."
    tags = body.get("tags", [])
    if len(tags) > 20 or any(not 0 < len(tag) <= 50 for tag in tags):
        wrong["tags"] = "At most 20 of at most 50 characters."
    found = body.get("details", {})
    if not all(isinstance(value, str) for value in found.values()):
        wrong["details"] = "Values should be texts."
    if sum(len(f"{name}{value}".encode("utf-16-le")) // 2 for name, value in found.items()) > 8_000:
        wrong["details"] = "At most 8000 characters."
    parties = body.get("responders", [])
    if len(parties) > 50 or any(set(one) != {"type", NAMED_BY.get(one.get("type"), "?")} for one in parties):
        wrong["responders"] = "Type should be one of [ user, team, escalation, schedule ], named by name or username."
    return wrong
