"""Webhook: the story as JSON for another program, one POST a message (docs/notifiers.md has the document).

A document is made of the incident's state alone, so it is the same however often and however late it is sent: times
that pass are the reader's to count. What an answer means is `http_calls`' table. It follows no redirect, which would
turn the POST into a GET and call it delivered.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import AfterValidator, Field, JsonValue, PrivateAttr
from pydantic_core import PydanticCustomError

from responder import story
from responder.connections import HttpConnection, open_transport
from responder.contracts import Message, Notifier, Render, Secret, SecureUrl
from responder.http_calls import HttpCall, checked_path
from responder.incident import Incident
from responder.services import HttpService
from responder.timing import SECOND, format_time
from responder.wall_clock import wall_clock

VERSION: Final = 1
"""Of the document. New keys may come without a new number; a key that changes its meaning gets one."""
CONNECTIONS: Final = 8
MAX_ANSWER: Final = 16_384
"""Bytes of an answer that are read; only its status counts, the rest is for the log."""

MAX_ALERTS: Final = 100
"""Alerts in one document; `alerts_total` says how many there are."""

_TYPES: Mapping[str, str] = {"root": "state", "thread": "event", "page": "page", "resolve": "resolve"}
_PASSING: Final = frozenset({"now", "lasted", "left", "put_back"})  # the last one is said by `cause` and `result`
_TIMES: Final = frozenset({"opened_at", "closed_at", "at", "since", "ended", "waits_until", "until"})
_DURATIONS: Final = frozenset({"took"})


def _a_receiver(url: str) -> str:
    """The message never shows the value: people put passwords into addresses."""
    parts = urlsplit(url)
    try:
        checked_path(_path(url))
        HttpService(url=f"{parts.scheme}://{parts.netloc}")
    except ValueError:
        hint = "write it like https://example.com/hooks/incidents, without user, password and `#`"
        raise PydanticCustomError("receiver", "no address that can be posted to", {"hint": hint}) from None
    return url


def _path(url: str) -> str:
    parts = urlsplit(url)
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "") + fragment


class Webhook(Notifier):
    """Posts every message as JSON to one address. A level that names it counts as one that wakes somebody."""

    kind: Literal["webhook"] = "webhook"
    url: Annotated[SecureUrl, AfterValidator(_a_receiver)]
    """Where it is posted. Messages about failures show the path, but nothing after `?`."""
    bearer: Secret | None = None
    """A token, sent as `Authorization: Bearer`."""
    hmac: Secret | None = None
    """A key that signs `TIME.BODY`: the header `X-Responder-Signature: v1=…`, with TIME in `X-Responder-Timestamp`."""
    ca_file: str | None = None
    """PEM file of the authorities that sign its certificate, instead of the well-known ones."""
    timeout: float = Field(default=10, gt=0, le=30)
    """Seconds for one call."""

    pages: ClassVar[bool] = True
    chats: ClassVar[bool] = True
    family: ClassVar[str] = "text"
    pace: ClassVar[int] = SECOND // 10
    _connection: HttpConnection | None = PrivateAttr(default=None)

    async def stop(self) -> None:
        """Close the connections."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def compose(self, kind: str, values: Mapping[str, object], render: Render) -> JsonValue:
        """What the state does not say: the sentence of the event."""
        return {"sentence": str(values["sentence"]), "destination": str(values["destination"])}

    async def send(self, message: Message) -> str:
        """Post it; every 2xx is a receipt. Raises Temporary, Permanent and Unknown as `http.request` would."""
        whole = document(message)
        call = HttpCall("POST", _path(self.url), json=whole, headers=self._signed(whole), key=message_key(message))
        answer = await self._connected().send(call, self.timeout)
        answer.checked(wall_clock())
        return ""

    def _signed(self, whole: JsonValue) -> dict[str, str]:
        if self.hmac is None:
            return {}
        timestamp = str(wall_clock() // SECOND)
        # The connection writes JSON by the same call, so these are the bytes that travel.
        body = httpx.Request("POST", self.url, json=whole).content
        return {
            "X-Responder-Timestamp": timestamp,
            "X-Responder-Signature": f"v1={signature(self.hmac.reveal(), timestamp, body)}",
        }

    def _connected(self) -> HttpConnection:
        """Opened when first needed: a program that is reloaded builds notifiers that may never send."""
        if self._connection is None:
            parts = urlsplit(self.url)
            service = HttpService(
                url=f"{parts.scheme}://{parts.netloc}",
                bearer=self.bearer,
                ca_file=self.ca_file,
                connections=CONNECTIONS,
                max_response_bytes=MAX_ANSWER,
                idempotency_keys=True,
            )
            self._connection = HttpConnection("webhook", service, open_transport)
        return self._connection


def signature(key: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 in hex over `TIMESTAMP.BODY`: an old body cannot be sent as a new one."""
    return hmac.new(key.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def message_key(message: Message) -> str:
    """The same for every try of one message. The state is sent again under its id, so its version belongs to the key.

    Hashed, because a header holds neither every character nor every length.
    """
    version = f"@{message.incident.seq}" if message.kind == "root" else ""
    return hashlib.sha256(f"{message.id}{version}".encode(errors="replace")).hexdigest()[:40]


def document(message: Message) -> dict[str, JsonValue]:
    """The body of the POST: type, keys, text, event and the incident's state. Times RFC 3339, durations in seconds."""
    body = message.body if isinstance(message.body, dict) else {}
    return {
        "version": VERSION,
        "type": _TYPES.get(message.kind, message.kind),
        "id": message_key(message),
        "key": _text(message.key),
        "text": _text(message.text),
        "event": _event(message, str(body.get("sentence", ""))),
        "incident": _incident(message.incident),
    }


def _incident(incident: Incident) -> dict[str, JsonValue]:
    """The state as people see it, with what a program wants beside: the version, all labels, how many alerts."""
    state: dict[str, Any] = story.state_values(incident, incident.opened_at)
    episodes = list(incident.episodes.values())[:MAX_ALERTS]
    shown = zip(state["alerts"], episodes, strict=False)
    alerts = [{"fingerprint": e.fingerprint, **_written_all(told), "labels": _texts(e.labels)} for told, e in shown]
    more: dict[str, JsonValue] = {"alerts": [*alerts], "alerts_total": len(state["alerts"])}
    return {"seq": incident.seq, "labels": _texts(incident.labels), **_written_all(state), **more}


def _texts(labels: Mapping[str, str]) -> dict[str, JsonValue]:
    return {_text(name): _text(value) for name, value in labels.items()}


def _event(message: Message, sentence: str) -> JsonValue:
    if message.event is None:
        return None
    return {
        "seq": message.event.seq,
        "at": format_time(message.event.at),
        "kind": message.event.fact.kind,
        "actor": _text(message.event.actor),
        "sentence": _text(sentence or message.text),
    }


def _written_all(values: Mapping[str, Any]) -> dict[str, JsonValue]:
    """A dictionary of `story` as JSON: without what passes, times and durations as other interfaces write them."""
    return {name: _named(name, value) for name, value in values.items() if name not in _PASSING}


def _named(name: str, value: Any) -> JsonValue:
    if value is None or isinstance(value, bool):
        return value
    if name in _TIMES:
        return format_time(value)
    return value / SECOND if name in _DURATIONS else _written(value)


def _written(value: Any) -> JsonValue:
    match value:
        case dict():
            return _written_all(value)
        case list() | tuple():
            return [_written(one) for one in value]
        case str():
            return _text(value)
        case float() if value != value or value in (float("inf"), float("-inf")):
            return None
    written: JsonValue = value
    return written


def _text(value: str) -> str:
    """Without half characters, which would make the whole document unreadable, or refuse to be written at all."""
    return value.encode(errors="replace").decode()
