"""PagerDuty's REST API, as far as a page's own incident goes: find it, see who has it, note, move (contracts.md C2).

An incident appears a while after the event that makes it was accepted, and is found by that event's deduplication key.
The vendor's client was rejected here: it is synchronous, and has no limit for a whole question. Nothing is tried twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final
from urllib.parse import urlencode, urlsplit

from pydantic import AfterValidator, JsonValue
from pydantic_core import PydanticCustomError

from responder.connections import HttpConnection, open_transport
from responder.contracts import PagerState, Secret, SecureUrl
from responder.errors import Permanent, Temporary
from responder.http_calls import MAX_RETRY_AFTER, HttpAnswer, HttpCall, retry_after
from responder.positions import clean
from responder.services import HttpService
from responder.wall_clock import wall_clock

CONNECTIONS: Final = 4
MAX_ANSWER: Final = 1_048_576
"""Bytes of an answer; the longest is a list of incidents."""
NEWEST: Final = 10
"""Incidents of one deduplication key that are looked at: a trigger after a resolve makes another one."""
ALERTS: Final = 100
"""Alerts of one incident that are looked at."""

_ACCEPT: Final = "application/vnd.pagerduty+json;version=2"
_STATUSES: Final = ("triggered", "acknowledged", "resolved")
_is_id = re.compile(r"[A-Za-z0-9]{1,40}").fullmatch


def _an_api(url: str) -> str:
    """The message never shows the value: people put passwords into addresses."""
    try:
        HttpService(url=url)
        if urlsplit(url).path.rstrip("/").endswith("/incidents"):
            raise ValueError("the path of the API is added")
    except ValueError:
        hint = "write it like https://api.eu.pagerduty.com, without `/incidents`, user, password, `?` and `#`"
        raise PydanticCustomError("api", "no address of an API", {"hint": hint}) from None
    return url


ApiUrl = Annotated[SecureUrl, AfterValidator(_an_api)]
"""The address of a REST API."""


@dataclass(frozen=True, slots=True)
class Found:
    """An incident of PagerDuty's. `by`: the person who has acknowledged or resolved it, empty where none has."""

    id: str
    status: str
    by: str
    policy: str

    @property
    def open(self) -> bool:
        """Not resolved."""
        return self.status != "resolved"

    @property
    def state(self) -> PagerState | None:
        """What it says about people. An integration that acknowledged or resolved it, ours too, has woken nobody up."""
        if self.by or self.status == "triggered":
            return PagerState(self.status, self.by)
        return PagerState("triggered") if self.open else None


class PagerDutyRest:
    """Calls with one token. `sender` is the `From` of what is changed, which the key of an account needs."""

    def __init__(self, token: Secret, sender: str | None, url: str, timeout: float) -> None:
        self._token = token
        self._sender = sender
        self._url = url
        self._timeout = timeout
        self._connection: HttpConnection | None = None

    async def close(self) -> None:
        """Close the connections."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def incident(self, key: str) -> Found | None:
        """The open incident of a deduplication key, else its latest; None where there is none, or none yet."""
        wanted = [("incident_key", key), *(("statuses[]", status) for status in _STATUSES)]
        shown = [("date_range", "all"), ("sort_by", "created_at:desc"), ("limit", str(NEWEST))]
        query = urlencode([*wanted, *shown], errors="replace")
        body = (await self._done(HttpCall("GET", f"/incidents?{query}"))).body
        known = [one for row in _rows(body, "incidents") if (one := found(row)) is not None]
        return next((one for one in known if one.open), next(iter(known), None))

    async def keys(self, incident: str) -> tuple[str, ...]:
        """The deduplication keys of an incident's alerts; several where alerts are grouped."""
        if not _is_id(incident):
            return ()
        answer = await self._answer(HttpCall("GET", f"/incidents/{incident}/alerts", params={"limit": ALERTS}))
        if answer.status == 404:
            return ()
        alerts = _rows(self._checked(answer).body, "alerts")
        return tuple(dict.fromkeys(k for alert in alerts if isinstance(k := alert.get("alert_key"), str)))

    async def note(self, incident: str, content: str, marker: str) -> None:
        """Leave a note that ends with `marker`, unless one is there that does: notes cannot be taken back."""
        path = f"/incidents/{incident}/notes"
        notes = _rows((await self._done(HttpCall("GET", path))).body, "notes")
        if any(str(note.get("content")).rstrip().endswith(marker) for note in notes):
            return
        await self._done(HttpCall("POST", path, json={"note": {"content": f"{content} {marker}"}}))

    async def move(self, incident: str, policy: str) -> None:
        """Give the incident to another escalation policy."""
        reference = {"id": policy, "type": "escalation_policy_reference"}
        body: JsonValue = {"incident": {"type": "incident_reference", "escalation_policy": {**reference}}}
        await self._done(HttpCall("PUT", f"/incidents/{incident}", json=body))

    async def _done(self, call: HttpCall) -> HttpAnswer:
        return self._checked(await self._answer(call))

    def _checked(self, answer: HttpAnswer) -> HttpAnswer:
        """The answer when it is 2xx. Raises what any other means."""
        said = f"PagerDuty's REST API answers {answer.status}: {_reason(answer.body)}"
        if answer.status == 429:
            raise Temporary(said, _wait(answer.headers))
        if 400 <= answer.status < 500 and answer.status not in (408, 425):
            raise Permanent(f"{said}; {self._cure(answer.status)}")
        return answer.checked(wall_clock())

    def _cure(self, status: int) -> str:
        if status == 400 and self._sender is None:
            return "the key of an account needs `from_email`, the address of a user"
        return {
            400: "check `from_email`: it is the address of a user of this account",
            401: f"check that {self._token.named} holds a REST API key, and api_url: each region has its own",
            403: f"{self._token.named} may not do this: give it the right to write",
            404: "check api_url, and the id of the escalation policy",
        }.get(status, "check the notifier's api_token and api_url")

    async def _answer(self, call: HttpCall) -> HttpAnswer:
        """The answer to one request, whatever it is; the token is not in it."""
        token = self._token.reveal().strip()
        if not token:
            raise Permanent(f"the token of {self._token.named} is empty; put a REST API key there")
        headers = {"Authorization": f"Token token={token}", "Accept": _ACCEPT}
        if call.changes and self._sender is not None:
            headers["From"] = self._sender
        answer = await self._connected().send(replace(call, headers=headers), self._timeout)
        return replace(answer, text=answer.text.replace(token, "(hidden)"))

    def _connected(self) -> HttpConnection:
        """Opened when first needed: a program that is reloaded builds notifiers that may never send."""
        if self._connection is None:
            service = HttpService(url=self._url, connections=CONNECTIONS, max_response_bytes=MAX_ANSWER)
            self._connection = HttpConnection("pagerduty", service, open_transport)
        return self._connection


def found(row: Mapping[str, Any]) -> Found | None:
    """An incident of a list; None for what cannot be told."""
    ident, status = row.get("id"), row.get("status")
    if not isinstance(ident, str) or not _is_id(ident) or status not in _STATUSES:
        return None
    policy = row.get("escalation_policy")
    return Found(ident, status, _person(row, status), str(policy.get("id")) if isinstance(policy, dict) else "")


def _person(row: Mapping[str, Any], status: str) -> str:
    if status == "resolved":
        return _named([row.get("last_status_change_by")])
    given = row.get("acknowledgements")
    acknowledged = (
        [one.get("acknowledger") for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    )
    return _named(acknowledged[::-1]) if status == "acknowledged" else ""


def _named(agents: Iterable[Any]) -> str:
    """The first person among them."""
    for agent in agents:
        if isinstance(agent, dict) and agent.get("type") in ("user_reference", "user"):
            return " ".join(clean(str(agent.get("summary") or "somebody")).split())[:100] or "somebody"
    return ""


def _rows(body: JsonValue, name: str) -> list[dict[str, Any]]:
    rows = body.get(name) if isinstance(body, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _reason(body: JsonValue) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return "no reason given"
    given = error.get("errors")
    named = [str(one) for one in given] if isinstance(given, list) else []
    return " ".join(clean(", ".join([str(error.get("message") or "no reason given"), *named])).split())[:400]


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds until requests are counted anew."""
    asked = retry_after(headers, wall_clock())
    reset = headers.get("ratelimit-reset", "").strip()
    if asked is None and reset.isascii() and reset.isdigit():
        return min(float(reset[:9]), MAX_RETRY_AFTER)
    return asked
