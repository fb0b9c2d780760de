"""PagerDuty by Events API v2: trigger and resolve under our deduplication key (contracts.md C1, C4).

The `pagerduty` package is synchronous, so a call runs in a thread. Its retries, endless for 429, are off: the outbox
retries, with order and without holding a thread. What it does not do: acknowledging, notes, change events, REST.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, JsonValue, PrivateAttr

from responder.contracts import Message, Notifier, Render, Secret, SecureUrl
from responder.errors import Permanent, Temporary
from responder.story import links

if TYPE_CHECKING:
    from pagerduty import EventsApiV2Client

MAX_SUMMARY = 1_024
MAX_KEY = 255
MAX_DETAIL = 4_000
"""Characters of one custom detail, which keeps the whole event far below 512 KB."""
ROUTING_KEY = 32

_SEVERITIES: Mapping[str | None, str] = {"critical": "critical", "high": "error", "warning": "warning", "info": "info"}
_LOG = logging.getLogger("responder.notifiers.pagerduty.library")
_LOG.setLevel(logging.CRITICAL)  # what it says, delivery says too, with the message's id


class PagerDuty(Notifier):
    """Pages through a PagerDuty service. `routing_key` is the integration key of an "Events API v2" integration."""

    kind: Literal["pagerduty"] = "pagerduty"
    routing_key: Secret
    """The integration key."""
    base_url: SecureUrl = "https://events.pagerduty.com"
    """The EU region has a host of its own."""
    timeout: float = Field(default=10, gt=0, le=30)
    """Seconds for one call."""

    pages: ClassVar[bool] = True
    family: ClassVar[str] = "pagerduty"
    _client: EventsApiV2Client | None = PrivateAttr(default=None)
    _client_key: str = PrivateAttr(default="")
    _making: asyncio.Lock = PrivateAttr(default_factory=asyncio.Lock)

    async def stop(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.close)

    def compose(self, kind: str, values: Mapping[str, object], render: Render) -> JsonValue:
        """Summary and details of a trigger, from templates/pagerduty. A resolve says nothing."""
        if kind != "page":
            return None
        summary = " ".join(render("pagerduty/summary.txt.j2", values).split())
        return {"summary": summary, "details": details(render("pagerduty/details.txt.j2", values))}

    async def send(self, message: Message) -> str:
        """Trigger or resolve; accepted means 202. Both may be repeated: the deduplication key makes them one."""
        key = self.routing_key.reveal().strip()
        if len(key) != ROUTING_KEY:
            raise Permanent(
                f"the routing key of {self.routing_key.named} has {len(key)} characters instead of {ROUTING_KEY}; "
                "copy the integration key of an Events API v2 integration"
            )
        return await asyncio.to_thread(_call, await self._connection(key), message, key)

    async def _connection(self, key: str) -> EventsApiV2Client:
        """The one client, made anew when the key was rotated. Making it reads certificates, which takes a while."""
        async with self._making:
            if self._client is None or key != self._client_key:
                await self.stop()
                self._client, self._client_key = await asyncio.to_thread(self._connected, key), key
            return self._client

    def _connected(self, key: str) -> EventsApiV2Client:
        from pagerduty import EventsApiV2Client

        client = EventsApiV2Client(key, trust_env=self.base_url.startswith("https://"))
        # Its setter takes https only; SecureUrl lets plain http through for loopback addresses alone.
        client._url = self.base_url
        client.timeout = self.timeout  # type: ignore[assignment]
        client.log = _LOG
        # Without an entry for 429 it would try for ever; a limit below zero is reached before the first retry.
        client.retry = {429: 1}
        client.max_http_attempts = -1
        client.max_network_attempts = 0
        return client


def _call(client: EventsApiV2Client, message: Message, key: str) -> str:
    from pagerduty import Error

    dedup = dedup_key(message.key)
    try:
        if message.resolves:
            client.resolve(dedup)
        else:
            client.trigger(dedup_key=dedup, **event(message))
    except Error as error:
        raise _classified(error, key) from None
    return ""


def _classified(error: Exception, key: str) -> Exception:
    """What PagerDuty's answer means for a further attempt; the routing key is in no message."""
    response: Any = getattr(error, "response", None)
    if response is None:
        cause = type(error.__cause__).__name__ if error.__cause__ else type(error).__name__
        return Temporary(f"PagerDuty cannot be reached ({cause})")
    status = int(response.status_code)
    if status == 429 or status >= 500 or status < 400:
        after = str(response.headers.get("Retry-After", ""))
        return Temporary(f"PagerDuty answers {status}", float(after) if after.isdecimal() else None)
    said = _explained(response).replace(key, "(routing key)")
    return Permanent(f"PagerDuty refuses the event with {status}: {said}; see the notifier's routing key and templates")


def _explained(response: Any) -> str:
    try:
        body = response.json()
    except ValueError:
        return "no reason given"
    if not isinstance(body, dict):
        return "no reason given"
    errors = [str(e) for e in body.get("errors") or ()]
    return ", ".join([str(body.get("message", "no reason given")), *errors])[:500]


def event(message: Message) -> dict[str, Any]:
    """The parts of a trigger. A missing or unknown severity pages like the highest (design 5.1)."""
    incident = message.incident
    body = message.body if isinstance(message.body, dict) else {}
    names = {e.labels.get("alertname", "") for e in incident.episodes.values()} - {""}
    payload = {
        "component": incident.target,
        "group": incident.labels.get("platform", "") or "responder",
        "class": ", ".join(sorted(names)) or incident.runbook or "incident",
    }
    return {
        "summary": _cut(str(body.get("summary") or message.text), MAX_SUMMARY),
        "source": incident.target or "responder",
        "severity": _SEVERITIES.get(incident.severity, "critical"),
        "payload": payload,
        "custom_details": body.get("details") or {"why you": message.text},
        "links": [{"href": link["url"], "text": link["title"]} for link in links(incident)],
    }


def details(rendered: str) -> dict[str, JsonValue]:
    """The lines `name: value` of a rendered template; a line without a name belongs to the one before it."""
    found: dict[str, str] = {}
    name = ""
    for line in rendered.splitlines():
        head, colon, rest = line.partition(": ")
        if colon and head == head.strip() and len(head) <= 40:
            name = head
            found[name] = rest.strip()
        elif name and line.strip():
            found[name] = f"{found[name]} {line.strip()}"
    return {k: _cut(v, MAX_DETAIL) for k, v in found.items()}


def dedup_key(key: str) -> str:
    """The key itself, or what stands for it when PagerDuty would refuse its length."""
    if len(key) <= MAX_KEY:
        return key
    return f"{key[:180]}#{hashlib.sha256(key.encode()).hexdigest()}"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
