"""POST /webhook/slack: what people press in Slack, signed by Slack (contracts.md D2).

Here are only the door and the envelope; what a press does is in `presses`, and the same for Socket Mode.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from responder.contracts import Secret
from responder.web.access import Refusal
from responder.web.bodies import Disconnected, TooLarge, read_body
from responder.web.door import host
from responder.web.parts import Parts

log = logging.getLogger("responder.web")

LARGEST: Final = 262_144
"""Bytes of a body; a payload holds the whole message, and Slack's messages are far smaller."""
FIELDS: Final = 20
"""Of the form; Slack sends one."""
NOT_CONFIGURED: Final = "no notifier of the kind slack has a `signing_secret`; add the one of your Slack app"


class SlackDoor:
    """The handler."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def interaction(self, request: Request) -> Response:
        """200 once what was pressed is committed, or after two seconds; a form that is not taken stays open, and the
        body says why. Raises Refusal."""
        if not self._parts.slack.secrets:
            raise Refusal(404, NOT_CONFIGURED)
        body = await _body(request)
        signer = self._signer(request, body)
        form = _form(body)
        if "ssl_check" in form:
            return Response()
        answer = await self._parts.presses.take(_payload(form), signer)
        return Response() if answer is None else JSONResponse(answer)

    def _signer(self, request: Request, body: bytes) -> Secret:
        """Which secret has signed it. Raises Refusal."""
        given = request.headers.get("x-slack-signature")
        timestamp = request.headers.get("x-slack-request-timestamp")
        signer = self._parts.slack.signer(timestamp, given, body, self._parts.desk.now())
        if isinstance(signer, Secret):
            return signer
        self._parts.metrics.refused("slack", "missing" if given is None else "wrong")
        log.warning("a request for /webhook/slack from %s was refused: %s", host(request.scope), signer)
        raise Refusal(401, f"wrong signature; {signer}")


async def _body(request: Request) -> bytes:
    """Raw: every byte of it was signed. Raises Refusal."""
    try:
        return await read_body(request.scope, request.receive, LARGEST)
    except TooLarge:
        raise Refusal(413, f"a body of more than {LARGEST} bytes; Slack sends none") from None
    except Disconnected:
        raise Refusal(400, "the body did not arrive") from None


def _form(body: bytes) -> Mapping[str, str]:
    """Raises Refusal."""
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=FIELDS, errors="strict")
    except ValueError:
        raise Refusal(400, "this is no form; Slack posts interactions as application/x-www-form-urlencoded") from None
    return {name: values[0] for name, values in fields.items()}


def _payload(form: Mapping[str, str]) -> Mapping[str, Any]:
    """Raises Refusal."""
    try:
        payload = json.loads(form.get("payload", ""))
    except (ValueError, RecursionError):
        payload = None
    if not isinstance(payload, dict):
        raise Refusal(400, "no field `payload` with a JSON object; this address takes Slack's interactions alone")
    return payload
