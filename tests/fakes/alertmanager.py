"""An Alertmanager's API v2 at the wire: what it lists, whom it has silenced, and when it was started.

It knows the paths that the responder may ask for; any other is remembered in `unexpected`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from responder.alert import fingerprint
from responder.connections import HttpConnection
from responder.contracts import Clock
from responder.services import Endpoint
from responder.timing import DAY, format_time

CONFIG = "route: {receiver: responder}"


class FakeAlertmanager:
    """`name` is its address, `clock` the present (µs). `down`: it answers 503 to everything."""

    def __init__(self, clock: Clock, name: str = "http://am-1", receiver: str = "responder") -> None:
        self.name = name
        self.receiver = receiver
        self.clock = clock
        self.started = clock() - DAY
        self.down = False
        self.config = CONFIG
        self.asked: list[str] = []
        self.unexpected: list[str] = []
        self._alerts: dict[str, dict[str, Any]] = {}
        self._silences: dict[str, dict[str, str]] = {}

    # --- what it holds ------------------------------------------------------------------------------------------------

    def fires(self, *alerts: Mapping[str, str], **status: list[str]) -> None:
        """It hears that these fire; `status` are fields of their status."""
        for labels in alerts:
            known = fingerprint(labels)
            self._alerts[known] = {
                "fingerprint": known,
                "labels": dict(labels),
                "annotations": {},
                "startsAt": format_time(self.clock()),
                "endsAt": format_time(self.clock() + DAY),
                "generatorURL": "",
                "receivers": [{"name": self.receiver}],
                "status": {"state": "active", "silencedBy": [], "inhibitedBy": [], **status},
            }

    def ends(self, *alerts: Mapping[str, str]) -> None:
        """These do not fire any more."""
        for labels in alerts:
            del self._alerts[fingerprint(labels)]

    def silences(self, labels: Mapping[str, str], by: str = "anna", comment: str = "planned work") -> str:
        """Somebody silences an alert. Answers the silence's id."""
        made = f"s{len(self._silences) + 1}"
        self._silences[made] = {"id": made, "createdBy": by, "comment": comment}
        self._status(labels)["silencedBy"] = [made]
        return made

    def ends_silence(self, labels: Mapping[str, str]) -> None:
        """The silence is over."""
        self._status(labels)["silencedBy"] = []

    def inhibits(self, labels: Mapping[str, str]) -> None:
        """Another alert keeps this one from being told."""
        self._status(labels)["inhibitedBy"] = ["0123456789abcdef"]

    def restarts(self) -> None:
        """It has forgotten every alert, and hears of them again from Prometheus only."""
        self._alerts.clear()
        self.started = self.clock()

    def _status(self, labels: Mapping[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = self._alerts[fingerprint(labels)]["status"]
        return found

    # --- how it is asked ----------------------------------------------------------------------------------------------

    def connection(self) -> HttpConnection:
        """A real connection whose transport ends here."""
        return HttpConnection(self.name, Endpoint(kind="alertmanager", url=self.name), lambda _: self.transport())

    def transport(self) -> httpx.AsyncBaseTransport:
        """What an HTTP client speaks through."""
        routes = [
            Route("/api/v2/status", self._answers_status),
            Route("/api/v2/alerts", self._answers_alerts),
            Route("/api/v2/alerts/groups", self._answers_groups),
            Route("/api/v2/silence/{id}", self._answers_silence),
            Route("/{path:path}", self._refuses, methods=["GET", "POST", "PUT", "DELETE"]),
        ]
        return httpx.ASGITransport(Starlette(routes=routes))

    async def _answers_status(self, request: Request) -> Response:
        return self._answer(request, {"uptime": format_time(self.started), "config": {"original": self.config}})

    async def _answers_alerts(self, request: Request) -> Response:
        wanted = [text.removeprefix('alertname="').removesuffix('"') for text in request.query_params.getlist("filter")]
        listed = self._alerts.values()
        return self._answer(request, [a for a in listed if not wanted or a["labels"].get("alertname") in wanted])

    async def _answers_groups(self, request: Request) -> Response:
        held = ("silencedBy", "inhibitedBy", "mutedBy")
        told = [a for a in self._alerts.values() if not any(a["status"].get(name) for name in held)]
        group = {"labels": {}, "receiver": {"name": self.receiver}, "alerts": told}
        return self._answer(request, [group] if told else [])

    async def _answers_silence(self, request: Request) -> Response:
        found = self._silences.get(request.path_params["id"])
        return self._answer(request, found) if found is not None else JSONResponse({}, 404)

    async def _refuses(self, request: Request) -> Response:
        self.unexpected.append(f"{request.method} {request.url.path}")
        return JSONResponse({"error": "nothing is here"}, 404)

    def _answer(self, request: Request, content: Any) -> Response:
        self.asked.append(request.url.path)
        return JSONResponse({"error": "down"}, 503) if self.down else JSONResponse(content)
