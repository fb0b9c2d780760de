"""PagerDuty's Events API v2: deduplication keys, what it refuses, and its rate limit (contracts.md C1)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fakes.server import FakeServer

KEY = "0123456789abcdef0123456789abcdef"


@dataclass
class Page:
    """What one deduplication key opened. A trigger after a resolve opens a new one."""

    key: str
    open: bool = True
    triggers: list[dict[str, Any]] = field(default_factory=list)


class FakePagerDuty(FakeServer):
    """`pages` is what people see; `fail` makes the next calls go wrong."""

    def __init__(self) -> None:
        self.pages: list[Page] = []
        self.events: list[dict[str, Any]] = []
        self._troubles: deque[tuple[int, dict[str, str]]] = deque()
        super().__init__([Route("/v2/enqueue", self._enqueue, methods=["POST"])])

    def fail(self, status: int, **headers: str) -> None:
        """The next call answers this status."""
        self._troubles.append((status, {name.replace("_", "-"): value for name, value in headers.items()}))

    async def _enqueue(self, request: Request) -> Response:
        event = await request.json()
        self.events.append(event)
        if self._troubles:
            status, headers = self._troubles.popleft()
            return JSONResponse({"status": "failed", "message": "not now"}, status, headers)
        wrong = problems(event)
        if wrong:
            body = {"status": "invalid event", "message": "Event object is invalid", "errors": wrong}
            return JSONResponse(body, 400)
        self._take(event)
        body = {"status": "success", "message": "Event processed", "dedup_key": event["dedup_key"]}
        return JSONResponse(body, 202)

    def _take(self, event: dict[str, Any]) -> None:
        page = next((p for p in self.pages if p.key == event["dedup_key"] and p.open), None)
        if event["event_action"] == "resolve":
            if page is not None:
                page.open = False
            return
        if page is None:
            page = Page(event["dedup_key"])
            self.pages.append(page)
        page.triggers.append(event)


def problems(event: dict[str, Any]) -> list[str]:
    """What PagerDuty finds wrong with an event."""
    wrong = []
    if event.get("routing_key") != KEY:
        wrong.append(f"'routing_key' {event.get('routing_key')} is invalid")
    if not 0 < len(event.get("dedup_key", "")) <= 255:
        wrong.append("Length of 'dedup_key' is incorrect (should be at most 255)")
    if event.get("event_action") not in ("trigger", "acknowledge", "resolve"):
        wrong.append("'event_action' is invalid")
    if event.get("event_action") == "trigger":
        wrong += _payload_problems(event.get("payload", {}))
    return wrong


def _payload_problems(payload: dict[str, Any]) -> list[str]:
    wrong = []
    if not 0 < len(payload.get("summary", "")) <= 1_024:
        wrong.append("'payload.summary' is missing or too long")
    if payload.get("severity") not in ("critical", "error", "warning", "info"):
        wrong.append("'payload.severity' is invalid")
    if not payload.get("source"):
        wrong.append("'payload.source' is missing or blank")
    return wrong
