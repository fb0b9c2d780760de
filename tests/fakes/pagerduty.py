"""PagerDuty: Events API v2, change events, REST and webhooks, what they refuse, and their limits (contracts.md C).

Written by the vendor's reference and recorded webhooks. An incident is what a deduplication key opened; a trigger after
a resolve opens another one.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fakes.server import FakeServer

KEY = "0123456789abcdef0123456789abcdef"
TOKEN: Final = "u+0123456789abcdefgh"
SENDER: Final = "bot@example.com"
SECRET: Final = "a-secret-of-the-subscription"
PERSON: Final = "Asha Rao"
EVENTS_A_MINUTE: Final = 120
CALLS_A_MINUTE: Final = 960
LARGEST_EVENT: Final = 512 * 1024
REST: Final = "application/vnd.pagerduty+json;version=2"
INTEGRATION: Final = {"id": "PINT001", "type": "inbound_integration_reference", "summary": "Events API V2"}


def person(name: str = PERSON) -> dict[str, str]:
    """A user, as PagerDuty refers to one."""
    return {"id": "PUSER01", "type": "user_reference", "summary": name}


@dataclass
class Page:
    """What one deduplication key opened: an incident. `unseen`: so many looks for it by REST still find nothing."""

    key: str
    open: bool = True
    triggers: list[dict[str, Any]] = field(default_factory=list)
    id: str = ""
    policy: str = "PDEFAULT"
    notes: list[str] = field(default_factory=list)
    acknowledged: list[dict[str, str]] = field(default_factory=list)
    changed_by: dict[str, str] | None = None
    unseen: int = 0

    @property
    def status(self) -> str:
        """As REST says it."""
        if not self.open:
            return "resolved"
        return "acknowledged" if self.acknowledged else "triggered"


class FakePagerDuty(FakeServer):
    """`pages` is what people see, `calls` what REST was asked; `fail` makes the next calls go wrong."""

    def __init__(self) -> None:
        self.pages: list[Page] = []
        self.events: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.account_key = True
        """REST wants `From`, as for the key of an account."""
        self.unseen = 0
        """Of incidents that are opened from now on."""
        self._troubles: deque[tuple[str, Response | None]] = deque()
        self._numbers = itertools.count(1)
        self._clock: Callable[[], float] = time.monotonic
        self._times: deque[float] = deque()
        self._called: deque[float] = deque()
        super().__init__([
            Route("/v2/enqueue", self._enqueue, methods=["POST"]),
            Route("/v2/change/enqueue", self._change, methods=["POST"]),
            Route("/incidents", self._rest(self._list), methods=["GET"]),
            Route("/incidents/{id}", self._rest(self._update), methods=["PUT"]),
            Route("/incidents/{id}/notes", self._rest(self._notes), methods=["GET", "POST"]),
            Route("/incidents/{id}/alerts", self._rest(self._alerts), methods=["GET"]),
        ])  # fmt: skip
        # Without it every answer waits 40 ms for an acknowledgement: asyncio sets it only where the protocol is named.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fail(self, status: int, *, after: int = 0, path: str = "", **headers: str) -> None:
        """The next call (whose path ends so) answers this status; `after` so many calls that go well."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        said = {"status": "failed", "message": "not now", "error": {"message": "not now", "code": 0, "errors": ["why"]}}
        self._troubles.extend([*([(path, None)] * after), (path, JSONResponse(said, status, named))])

    def answer(self, body: bytes, status: int = 200) -> None:
        """The next call answers exactly this."""
        self._troubles.append(("", Response(body, status, media_type="application/json")))

    def limits(self, clock: Callable[[], float]) -> None:
        """The limits hold in any minute of this clock, in seconds, instead of the real one."""
        self._clock = clock

    def page(self, key: str) -> Page:
        """The latest incident of a key."""
        return next(page for page in reversed(self.pages) if page.key == key)

    def _trouble(self, request: Request) -> Response | None:
        for number, (path, answer) in enumerate(self._troubles):
            if request.url.path.endswith(path):
                del self._troubles[number]
                return answer
        return None

    # --- events -------------------------------------------------------------------------------------------------------

    async def _enqueue(self, request: Request) -> Response:
        event = await request.json()
        self.events.append(event)
        refused = self._trouble(request) or await _too_large(request) or self._too_many() or _invalid(problems(event))
        if refused is not None:
            return refused
        self._take(event)
        body = {"status": "success", "message": "Event processed", "dedup_key": event["dedup_key"]}
        return JSONResponse(body, 202)

    def _too_many(self) -> Response | None:
        if _counted(self._times, self._clock(), EVENTS_A_MINUTE):
            return None
        return JSONResponse({"status": "throttle exceeded", "message": "Event rate is too high"}, 429)

    def _take(self, event: dict[str, Any]) -> None:
        page = next((p for p in self.pages if p.key == event["dedup_key"] and p.open), None)
        if event["event_action"] == "trigger":
            page = page or self._opened(event["dedup_key"])
            page.triggers.append(event)
        elif page is not None and event["event_action"] == "resolve":
            page.open, page.changed_by = False, INTEGRATION
        elif page is not None:
            page.acknowledged.append(INTEGRATION)

    def _opened(self, key: str) -> Page:
        page = Page(key, id=f"Q{next(self._numbers):013}", unseen=self.unseen)
        self.pages.append(page)
        return page

    async def _change(self, request: Request) -> Response:
        event = await request.json()
        refused = self._trouble(request) or await _too_large(request) or self._too_many()
        refused = refused or _invalid(_change_problems(event))
        if refused is not None:
            return refused
        self.changes.append(event)
        return JSONResponse({"status": "success", "message": "Change event processed"}, 202)

    # --- REST ---------------------------------------------------------------------------------------------------------

    def _rest(self, do: Callable[[Request, Any], Response]) -> Callable[[Request], Any]:
        async def entry(request: Request) -> Response:
            self.calls.append(f"{request.method} {request.url.path}")
            body = json.loads(await request.body() or b"null")
            return self._trouble(request) or self._stranger(request) or self._too_often() or do(request, body)

        return entry

    def _too_often(self) -> Response | None:
        if _counted(self._called, self._clock(), CALLS_A_MINUTE):
            return None
        refused = _error(429, "Rate Limit Exceeded", 2020)
        refused.headers["ratelimit-reset"] = "60"
        return refused

    def _stranger(self, request: Request) -> Response | None:
        if request.headers.get("authorization") != f"Token token={TOKEN}":
            return _error(401, "Unauthorized", 2006)
        if request.headers.get("accept") != REST:
            return _error(406, "Not Acceptable", 2002)
        if request.method != "GET" and self.account_key and request.headers.get("from") != SENDER:
            return _error(400, "Requester User Not Found", 2100)
        return None

    def _list(self, request: Request, body: Any) -> Response:
        query = request.query_params
        known = {"incident_key", "statuses[]", "date_range", "sort_by", "limit"}
        if query.keys() - known or query.get("date_range") != "all":
            return _error(400, "Invalid Input Provided", 2001)
        wanted = query.getlist("statuses[]")
        found = [page for page in self.pages[::-1] if page.key == query["incident_key"] and page.status in wanted]
        for page in found:
            page.unseen -= 1
        shown = [_incident(page) for page in found if page.unseen < 0]
        return JSONResponse({"incidents": shown[: int(query["limit"])], "more": False})

    def _of(self, request: Request) -> Page | None:
        return next((page for page in self.pages if page.id == request.path_params["id"]), None)

    def _update(self, request: Request, body: Any) -> Response:
        page = self._of(request)
        incident = body["incident"]
        policy = incident["escalation_policy"]
        if page is None or not page.open:
            return _error(404, "Not Found", 2100) if page is None else _error(400, "Incident Already Resolved", 1001)
        if incident["type"] != "incident_reference" or policy["type"] != "escalation_policy_reference":
            return _error(400, "Invalid Input Provided", 2001)
        page.policy = policy["id"]
        return JSONResponse({"incident": _incident(page)})

    def _notes(self, request: Request, body: Any) -> Response:
        page = self._of(request)
        if page is None:
            return _error(404, "Not Found", 2100)
        if request.method == "GET":
            return JSONResponse({"notes": [{"id": "N", "content": note} for note in page.notes]})
        if set(body) != {"note"} or set(body["note"]) != {"content"} or not body["note"]["content"].strip():
            return _error(400, "Invalid Input Provided", 2001)
        page.notes.append(body["note"]["content"])
        return JSONResponse({"note": {"id": "N", "content": page.notes[-1]}}, 201)

    def _alerts(self, request: Request, body: Any) -> Response:
        page = self._of(request)
        if page is None:
            return _error(404, "Not Found", 2100)
        return JSONResponse({"alerts": [{"id": "A", "alert_key": page.key, "status": page.status}], "more": False})

    # --- what people do -----------------------------------------------------------------------------------------------

    def acknowledge(self, page: Page, by: str = PERSON) -> bytes:
        """Somebody has it; answers what the webhook says."""
        page.acknowledged.append(person(by))
        return webhook("incident.acknowledged", page, person(by))

    def resolve(self, page: Page, by: str = PERSON) -> bytes:
        """Somebody ends it; answers what the webhook says."""
        page.open, page.changed_by = False, person(by)
        return webhook("incident.resolved", page, person(by))


def webhook(kind: str, page: Page, agent: Mapping[str, str] | None, event: str = "", **data: Any) -> bytes:
    """What PagerDuty posts. `data`: of what is no incident (a note, a status update), or changes of an incident's.

    `incident_key=None` is what it says of an incident that is made of alerts.
    """
    kinds = {"annotated": "incident_note", "responder.added": "incident_responder"}
    kinds |= {"status_update_published": "incident_status_update"}
    about = kinds.get(kind.removeprefix("incident."))
    if about is None:
        shown = {**_incident(page), "type": "incident", "title": "VaR", "service": {"id": "PSERVICE"}, **data}
    else:
        shown = {"id": "PDATA01", "type": about, "incident": {"id": page.id, "type": "incident_reference"}, **data}
    known = event or hashlib.sha256(f"{kind}{shown}{agent}".encode()).hexdigest()[:26].upper()
    told = {
        "id": known,
        "event_type": kind,
        "resource_type": "incident",
        "occurred_at": "2026-11-20T14:03:00.123Z",
        "agent": None if agent is None else dict(agent),
        "client": None,
        "data": shown,
    }
    return json.dumps({"event": told}).encode()


def signed(body: bytes, *secrets: str) -> dict[str, str]:
    """The headers of a webhook; several secrets sign while one is being rotated."""
    made = [f"v1={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}" for secret in secrets or (SECRET,)]
    return {
        "content-type": "application/json",
        "x-pagerduty-signature": ",".join(made),
        "x-webhook-id": hashlib.sha256(body).hexdigest()[:12],
    }


async def post(client: httpx.AsyncClient, body: bytes, *secrets: str) -> httpx.Response:
    """Deliver a webhook, as PagerDuty does."""
    return await client.post("/webhook/pagerduty", content=body, headers=signed(body, *secrets))


# --- forms ------------------------------------------------------------------------------------------------------------


def _incident(page: Page) -> dict[str, Any]:
    acknowledgers = [{**by, "type": by["type"].replace("inbound_integration", "service")} for by in page.acknowledged]
    return {
        "id": page.id,
        "type": "incident",
        "status": page.status,
        "incident_key": page.key,
        "escalation_policy": {"id": page.policy, "type": "escalation_policy_reference", "summary": "Trading"},
        "acknowledgements": [{"at": "2026-11-20T14:03:00Z", "acknowledger": by} for by in acknowledgers],
        "last_status_change_by": page.changed_by,
        "assignees": [person()],
    }


def _counted(times: deque[float], now: float, most: int) -> bool:
    """One more of any 60 seconds, not of a minute by the clock; False when it is one too many."""
    while times and times[0] <= now - 60:
        times.popleft()
    if len(times) >= most:
        return False
    times.append(now)
    return True


async def _too_large(request: Request) -> Response | None:
    if len(await request.body()) <= LARGEST_EVENT:
        return None
    return JSONResponse({"status": "invalid event", "message": "Event object is too large", "errors": []}, 413)


def _error(status: int, message: str, code: int) -> Response:
    return JSONResponse({"error": {"message": message, "code": code, "errors": ["see the message"]}}, status)


def _invalid(wrong: list[str]) -> Response | None:
    body = {"status": "invalid event", "message": "Event object is invalid", "errors": wrong}
    return JSONResponse(body, 400) if wrong else None


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


def _change_problems(event: dict[str, Any]) -> list[str]:
    payload = event.get("payload", {})
    wrong = [f"'{name}' is not known" for name in event.keys() - {"routing_key", "payload", "links", "images"}]
    wrong += [
        f"'{name}' is not known" for name in payload.keys() - {"summary", "timestamp", "source", "custom_details"}
    ]
    if event.get("routing_key") != KEY:
        wrong.append("'routing_key' is invalid")
    if not 0 < len(payload.get("summary", "")) <= 1_024:
        wrong.append("'payload.summary' is missing or too long")
    return wrong
