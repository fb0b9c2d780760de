"""Who may post notifications: told by the headers before a body is read, or by its signature after.

Of somebody unknown nothing is read but a signed body, and that within the same limit. Not here: what the credentials
are (`security`), and what becomes of a notification (`webhook`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.types import Scope

from responder.security import Entry, Header
from responder.web.bodies import header
from responder.web.parts import Parts

log = logging.getLogger("responder.web")

THREADED: Final = 1_048_576
"""Bytes from which a body is worked on in a thread, so that it stops nobody else's request."""
METHODS: Final = ("POST", "PUT")
"""Grafana's contact point may be set to either, and the second says nothing different here."""
GET_HELP: Final = (
    "this address takes Alertmanager's POST; in alertmanager.yml name it as the url of a webhook_config, or in Grafana"
    " as the URL of a webhook contact point with the method POST: other methods bring no body. A redirect from http to"
    " https turns a POST into a GET: give the https address there"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and the JSON with it."""

    status: int
    content: Mapping[str, Any]
    headers: Mapping[str, str] | None = None


def refusal(status: int, error: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer that says what is wrong and the cure."""
    return Answer(status, {"error": error}, headers)


class Door:
    """Refuses whom `auth.webhook` does not know; every refusal is counted, and says the cure."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def entry(self, scope: Scope) -> Entry:
        """What its headers say of a request. SIGNED: ask `wrongly_signed` when the body is there."""
        return self._parts.authenticator.webhook_entry(_headers(scope))

    def refused(self, scope: Scope, entry: Entry) -> Answer | None:
        """The answer to a request that is refused before its body is read."""
        if scope["method"] not in METHODS:
            return refusal(405, GET_HELP, {"allow": ", ".join(METHODS)})
        if entry is Entry.MISSING:
            self._parts.metrics.refused("webhook", "missing")
            return refusal(401, self._missing(), {"www-authenticate": "Bearer"})
        if entry is Entry.WRONG:
            self._parts.metrics.refused("webhook", "wrong")
            log.warning("a notification from %s came with a wrong credential", host(scope))
            return refusal(403, "wrong credential; it must be one of `auth.webhook` in responder.yaml")
        if self._parts.authenticator.webhook_open and header(scope, b"origin") is not None:
            # Without credentials any web page that somebody here has open could post alerts.
            return refusal(403, "sent by a web page; configure `auth.webhook` to take notifications from browsers")
        return None

    def _missing(self) -> str:
        said = "no credential; set `authorization` or `basic_auth` in the http_config of the webhook"
        headers = self._parts.authenticator.signature_headers
        return f"{said}, or in Grafana's contact point the HMAC signature in header {headers[0]}" if headers else said

    async def wrongly_signed(self, scope: Scope, body: bytes) -> Answer | None:
        """The answer to a body that no configured key signed; None when one did."""
        check, headers = self._parts.authenticator.signature_fault, _headers(scope)
        fault = check(headers, body) if len(body) < THREADED else await asyncio.to_thread(check, headers, body)
        if fault is None:
            return None
        self._parts.metrics.refused("webhook", "wrong")
        log.warning("a notification from %s came with a wrong signature: %s", host(scope), fault)
        return refusal(401, f"wrong signature; {fault}")


def _headers(scope: Scope) -> Header:
    return lambda name: header(scope, name.encode())


def host(scope: Scope) -> str:
    """The address that a request comes from, as it is logged and stored."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"
