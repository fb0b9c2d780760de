"""PagerDuty's Events API v2, an event at a time, and what an answer means for a further attempt (contracts.md C1, C4).

The `pagerduty` package is synchronous, so a call runs in a thread. Its retries, endless for 429, are off: the outbox
retries, with order and without holding a thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from responder.contracts import Secret
from responder.errors import Permanent, Temporary

if TYPE_CHECKING:
    from pagerduty import EventsApiV2Client

ROUTING_KEY: Final = 32
RULESET: Final = "R"
"""What the keys of rulesets begin with: PagerDuty takes no change events for them."""

_LIBRARY = logging.getLogger("responder.notifiers.pagerduty.library")
_LIBRARY.setLevel(logging.CRITICAL)  # what it says, delivery says too, with the message's id


class PagerDutyEvents:
    """Events under one routing key, which is read afresh for each. Accepted means 202; an incident follows later.

    All but a change may be sent again: the deduplication key makes them one. Everything raises Temporary or Permanent.
    """

    def __init__(self, routing_key: Secret, base_url: str, timeout: float) -> None:
        self._routing_key = routing_key
        self._base_url = base_url
        self._timeout = timeout
        self._client: EventsApiV2Client | None = None
        self._client_key = ""
        self._making = asyncio.Lock()

    async def close(self) -> None:
        """Close the connection; a further event opens another."""
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.close)

    async def trigger(self, key: str, parts: Mapping[str, Any]) -> None:
        """Open an incident under a deduplication key, or add to the one that is open."""
        await self._sent(lambda client: client.trigger(dedup_key=key, **parts))

    async def acknowledge(self, key: str) -> None:
        """Somebody has it."""
        await self._sent(lambda client: client.acknowledge(key))

    async def resolve(self, key: str) -> None:
        """It is over."""
        await self._sent(lambda client: client.resolve(key))

    async def change(self, parts: Mapping[str, Any]) -> None:
        """Record a change, which wakes nobody. Passed over for the key of a ruleset."""
        if not self.is_ruleset:
            await self._sent(lambda client: client.send_change_event(**parts))

    @property
    def is_ruleset(self) -> bool:
        """The routing key is one for which no changes are taken. Raises BadConfig."""
        return self._routing_key.reveal().strip().startswith(RULESET)

    async def _sent(self, call: Callable[[EventsApiV2Client], object]) -> None:
        key = self._routing_key.reveal().strip()
        if len(key) != ROUTING_KEY:
            raise Permanent(
                f"the routing key of {self._routing_key.named} has {len(key)} characters instead of {ROUTING_KEY}; "
                "copy the integration key of an Events API v2 integration"
            )
        await asyncio.to_thread(_told, call, await self._connection(key), key)

    async def _connection(self, key: str) -> EventsApiV2Client:
        """The one client, made anew when the key was rotated. Making it reads certificates, which takes a while."""
        async with self._making:
            if self._client is None or key != self._client_key:
                await self.close()
                self._client, self._client_key = await asyncio.to_thread(self._connected, key), key
            return self._client

    def _connected(self, key: str) -> EventsApiV2Client:
        from pagerduty import EventsApiV2Client

        client = EventsApiV2Client(key, trust_env=self._base_url.startswith("https://"))
        # Its setter takes https only; SecureUrl lets plain http through for loopback addresses alone.
        client._url = self._base_url
        client.timeout = self._timeout  # type: ignore[assignment]
        client.log = _LIBRARY
        # Without an entry for 429 it would try for ever; a limit below zero is reached before the first retry.
        client.retry = {429: 1}
        client.max_http_attempts = -1
        client.max_network_attempts = 0
        return client


def _told(call: Callable[[EventsApiV2Client], object], client: EventsApiV2Client, key: str) -> None:
    """Blocks."""
    from pagerduty import Error

    try:
        call(client)
    except Error as error:
        raise _classified(error, key) from None


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
