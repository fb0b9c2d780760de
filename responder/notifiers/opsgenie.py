"""Opsgenie and its successor, Jira Service Management: one alert a page, by the API that both have (contracts.md E).

Whatever is written is accepted with 202 and done later; asked at once, both answer that it may not be done yet. So 202
counts as taken: an alert that is dropped afterwards is acknowledged by nobody, and the ladder goes on. The vendor's
package was rejected: it is synchronous and not kept up. What this does not do: heartbeats, incidents, teams.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, JsonValue, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from responder.connections import HttpConnection, open_transport
from responder.contracts import Bucket, Message, Notifier, PagerState, Render, Secret, SecureUrl, Strict
from responder.errors import Permanent, Temporary, Unknown
from responder.http_calls import MAX_RETRY_AFTER, HttpAnswer, HttpCall, retry_after
from responder.incident import Incident
from responder.positions import clean
from responder.services import HttpService
from responder.story import links
from responder.timing import SECOND
from responder.wall_clock import wall_clock

MAX_ALIAS: Final = 250
MAX_MESSAGE: Final = 130
MAX_DESCRIPTION: Final = 15_000
MAX_NOTE: Final = 25_000
MAX_ENTITY: Final = 512
MAX_NAME: Final = 100
"""Characters of a source, of a user, and of the name of a detail."""
MAX_DETAIL: Final = 1_000
MAX_DETAILS: Final = 8_000
"""Characters of all details together; further labels are left out."""
CONNECTIONS: Final = 8
MAX_ANSWER: Final = 131_072
"""Bytes of an answer; the longest is a whole alert."""

_ALERTS: Final = "/v2/alerts"
_BY_ALIAS: Final = {"identifierType": "alias"}
_SOURCE: Final = "responder"
_UNTOLD: Final = "an incident needs people"
"""Where nothing is left of a message: an alert without one is refused."""
_PRIORITIES: Mapping[str | None, str] = {"critical": "P1", "high": "P2", "warning": "P3", "info": "P5"}
_WORDS: Mapping[str, str] = {"resolve": "close", "acknowledge": "acknowledge", "note": "notes"}
"""Kind of message -> what it does to the alert that is there already."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")


class Party(Strict):
    """Somebody whom an alert is routed to: a user by `username`, everything else by `name`."""

    type: Literal["team", "user", "escalation", "schedule"]
    """What it is."""
    name: str | None = Field(default=None, min_length=1, max_length=512)
    """The name of a team, an escalation or a schedule."""
    username: str | None = Field(default=None, min_length=1, max_length=512)
    """The e-mail address of a user."""

    @model_validator(mode="after")
    def _named(self) -> Party:
        wanted, other = ("username", "name") if self.type == "user" else ("name", "username")
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            raise ValueError(f"a {self.type} is named by `{wanted}`")
        return self


def _an_api(url: str) -> str:
    """The message never shows the value: people put passwords into addresses."""
    try:
        HttpService(url=url)
        if urlsplit(url).path.rstrip("/").endswith(("/v2", _ALERTS)):
            raise ValueError("the path of the API is added")
    except ValueError:
        hint = "write it like https://api.eu.opsgenie.com, without `/v2/alerts`, user, password, `?` and `#`"
        raise PydanticCustomError("api", "no address of an API", {"hint": hint}) from None
    return url


class Opsgenie(Notifier):
    """Pages through Opsgenie or Jira Service Management. `key` is the key of an "API" integration."""

    kind: Literal["opsgenie"] = "opsgenie"
    key: Secret
    """The API key of the integration."""
    base_url: Annotated[SecureUrl, AfterValidator(_an_api)] = "https://api.opsgenie.com"
    """The EU region and Jira Service Management have addresses of their own."""
    responders: tuple[Party, ...] = Field(default=(), max_length=50)
    """Whom alerts are routed to; without any, the integration's own."""
    tags: tuple[Annotated[str, Field(min_length=1, max_length=50)], ...] = Field(default=(), max_length=20)
    """The tags of every alert."""
    timeout: float = Field(default=10, gt=0, le=30)
    """Seconds for one call."""

    pages: ClassVar[bool] = True
    family: ClassVar[str] = "opsgenie"
    takes: ClassVar[frozenset[str]] = frozenset({"acknowledge", "note"})
    pace: ClassVar[int] = SECOND // 2
    burst: ClassVar[int] = 10
    _connection: HttpConnection | None = PrivateAttr(default=None)

    @property
    def answers(self) -> bool:
        """False for Jira Service Management, where the keys of integrations read no alerts."""
        return not self.base_url.rstrip("/").endswith("/jsm/ops/integration")

    async def stop(self) -> None:
        """Close the connections."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def compose(self, kind: str, values: Mapping[str, object], render: Render) -> JsonValue:
        """Message and description of an alert, from templates/opsgenie. Closing, acknowledging and notes are text."""
        if kind != "page":
            return None
        return {
            "message": " ".join(render("opsgenie/message.txt.j2", values).split()),
            "description": render("opsgenie/description.txt.j2", values).strip(),
        }

    def bucket(self, name: str, incident: Incident, template: str, *, sent: bool) -> Bucket:
        """Its limits count an account's requests, whatever they are about; a key stands for the account."""
        return Bucket(self.kind, self.key.digest(), self.pace, self.burst)

    async def send(self, message: Message) -> str:
        """Create an alert, or close it, acknowledge it or add a note; answers `{"request": …}` for a page.

        All but a note may be repeated after a lost answer: the alias makes it one. Raises Temporary, Permanent and
        Unknown.
        """
        if message.kind in _WORDS:
            await self._say(_WORDS[message.kind], message.key, message)
            return ""
        if message.kind != "page":
            return ""
        answer = await self._write(HttpCall("POST", _ALERTS, json=alert(message, self.responders, self.tags)))
        _refuse(answer, self.key.named)
        request = answer.body.get("requestId") if isinstance(answer.body, dict) else None
        return json.dumps({"request": request}) if isinstance(request, str) else ""

    async def asked(self, key: str) -> PagerState | None:
        """What Opsgenie says about an alert; None where keys of integrations may not read, or it has none (yet)."""
        if not self.answers:
            return None
        answer = await self._answer(HttpCall("GET", f"{_ALERTS}/{alias(key)}", params=_BY_ALIAS))
        if answer.status in {403, 404}:
            return None
        _refuse(answer, self.key.named)
        return state(answer.body)

    async def _say(self, verb: str, key: str, message: Message) -> None:
        """Do this to an alert. When there is none any more, there is nothing to be done."""
        path, body = f"{_ALERTS}/{alias(key)}/{verb}", word(message)
        answer = await self._write(HttpCall("POST", path, params=_BY_ALIAS, json=body), repeats=verb != "notes")
        if answer.status != 404:
            _refuse(answer, self.key.named)

    async def _write(self, call: HttpCall, *, repeats: bool = True) -> HttpAnswer:
        try:
            return await self._answer(call)
        except Unknown as lost:
            if not repeats:
                raise
            raise Temporary(f"{lost}; it is sent again, and counts once") from None

    async def _answer(self, call: HttpCall) -> HttpAnswer:
        """The answer to one request, whatever it is; the key is not in it."""
        key = self.key.reveal().strip()
        if not key:
            raise Permanent(f"the key of {self.key.named} is empty; put the API key of an integration there")
        signed = replace(call, headers={"Authorization": f"GenieKey {key}"})
        answer = await self._connected().send(signed, self.timeout)
        return replace(answer, text=answer.text.replace(key, "(hidden)"))

    def _connected(self) -> HttpConnection:
        """Opened when first needed: a program that is reloaded builds notifiers that may never send."""
        if self._connection is None:
            service = HttpService(url=self.base_url, connections=CONNECTIONS, max_response_bytes=MAX_ANSWER)
            self._connection = HttpConnection("opsgenie", service, open_transport)
        return self._connection


# --- what is sent -----------------------------------------------------------------------------------------------------


def alert(message: Message, parties: tuple[Party, ...], tags: tuple[str, ...]) -> dict[str, JsonValue]:
    """The body that creates an alert. A missing or unknown severity pages like the highest (design 5.1)."""
    incident = message.incident
    body = message.body if isinstance(message.body, dict) else {}
    whole: dict[str, JsonValue] = {
        "alias": alias(message.key),
        "message": _written(str(body.get("message") or message.text), MAX_MESSAGE) or _UNTOLD,
        "description": _written(str(body.get("description") or message.text), MAX_DESCRIPTION),
        "priority": _PRIORITIES.get(incident.severity, "P1"),
        "details": dict(details(incident)),
        "responders": [party.model_dump(exclude_none=True) for party in parties],
        "tags": [*tags],
        "entity": _written(incident.target, MAX_ENTITY),
        "source": _SOURCE,
    }
    return {name: value for name, value in whole.items() if value}


def word(message: Message) -> dict[str, JsonValue]:
    """The body of everything that is said about an alert: the text as a note, and whose word it is."""
    user = "" if message.event is None else _written(message.event.actor, MAX_NAME)
    known: dict[str, JsonValue] = {"note": _written(message.text, MAX_NOTE), "user": user, "source": _SOURCE}
    return {name: value for name, value in known.items() if value}


def details(incident: Incident) -> dict[str, str]:
    """What Opsgenie's policies can route by: ours, which no label takes the place of, then links and labels."""
    ours = {"incident": incident.id, "severity": incident.severity or "", "runbook": incident.runbook or ""}
    others = {**incident.labels, **{link["title"]: link["url"] for link in links(incident)}}
    pairs = {**ours, **{name: value for name, value in others.items() if name not in ours}}
    found: dict[str, str] = {}
    left = MAX_DETAILS
    for name, value in ((_written(n, MAX_NAME), _written(v, MAX_DETAIL)) for n, v in pairs.items()):
        left -= _length(name) + _length(value)
        if name and value and left >= 0:
            found.setdefault(name, value)
    return found


def alias(key: str) -> str:
    """What an alert is found by, as a part of a path: many a gateway refuses an encoded slash, so no other character
    than these stands there, and a hash keeps what was changed or cut its own."""
    plain = _UNSAFE.sub("-", key)
    if plain == key and len(key) <= MAX_ALIAS:
        return key
    return f"{plain[:180]}-{hashlib.sha256(key.encode(errors='replace')).hexdigest()[:32]}"


def _written(text: str, longest: int) -> str:
    """Text for people, cut. Opsgenie reads HTML, so nothing begins a tag; a character beyond 16 bits counts as two."""
    shown = _TAG.sub("‹", clean(text))
    if _length(shown) <= longest:
        return shown
    units = shown.encode("utf-16-le")[: 2 * (longest - 1)]
    return units.decode("utf-16-le", "ignore") + "…"


def _length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


# --- what an answer means ---------------------------------------------------------------------------------------------

_AGAIN: Final = frozenset({408, 425, 429})
_CURES: Mapping[int, str] = {
    401: "check that {key} holds the key of an API integration that is on, and base_url: each region has its own",
    402: "the plan of the account does not allow it",
    403: "give the integration of {key} the right to create and update alerts",
    404: "check base_url",
    422: "check the notifier's responders and tags, and templates/opsgenie",
}


def _refuse(answer: HttpAnswer, key: str) -> None:
    """Raises what an answer other than 2xx means; `key` is where the key comes from."""
    if 200 <= answer.status < 300:
        return
    said = f"Opsgenie answers {answer.status}: {_reason(answer.body)}"
    if answer.status in _AGAIN or answer.status >= 500:
        raise Temporary(said, _wait(answer.headers))
    if answer.status < 400:
        raise Permanent(f"{said}; redirects are not followed: configure the address that it leads to as base_url")
    cure = _CURES.get(answer.status, "check the notifier's settings and templates/opsgenie").format(key=key)
    raise Permanent(f"{said}; {cure}")


def _reason(body: JsonValue) -> str:
    if not isinstance(body, dict):
        return "no reason given"
    errors = body.get("errors")
    named = [f"{name}: {said}" for name, said in errors.items()] if isinstance(errors, dict) else []
    said = str(body.get("message") or "no reason given")
    return " ".join(clean(f"{said} ({', '.join(named)})" if named else said).split())[:400]


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds: as asked for, else the span in which requests are counted."""
    asked = retry_after(headers, wall_clock())
    period = headers.get("x-ratelimit-period-in-sec", "").strip()
    if asked is None and period.isascii() and period.isdigit():
        return min(float(period[:9]), MAX_RETRY_AFTER)
    return asked


def state(body: JsonValue) -> PagerState | None:
    """How an alert stands, by whom; None when the answer does not say it."""
    data: Any = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict) or data.get("status") not in ("open", "closed"):
        return None
    given = data.get("report")
    report: dict[str, Any] = given if isinstance(given, dict) else {}
    if data["status"] == "closed":
        return PagerState("resolved", str(report.get("closedBy") or ""))
    if data.get("acknowledged") is True:
        return PagerState("acknowledged", str(report.get("acknowledgedBy") or data.get("owner") or ""))
    return PagerState("triggered")
