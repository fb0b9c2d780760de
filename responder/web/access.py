"""Who may do what over HTTP, and how every refusal and failure is answered: `{"error": "… and the cure"}`.

The webhook has doors of its own (`webhook`), for its errors must obey Alertmanager's rules and not a browser's.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from responder.errors import Rejected, ResponderError, StoreUnavailable
from responder.security import Entry, Person
from responder.web.parts import Parts

log = logging.getLogger("responder.web")

Handler = Callable[[Request], Awaitable[Response]]

NO_CREDENTIAL = "no credential; send `Authorization: Bearer TOKEN` with a token of `auth.people` in responder.yaml"


class Refusal(ResponderError):
    """An answer that is not 2xx; the message is what the caller reads."""

    def __init__(self, status: int, error: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.headers = headers


def as_json(content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer that is never kept by a cache; half surrogate pairs, which no encoding has, become `?`."""
    body = json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"
    return Response(body, status, {"cache-control": "no-store", **(headers or {})}, "application/json")


def guarded(handler: Handler) -> Handler:
    """The handler with every error turned into an answer; what we did not foresee is logged and is 500."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except Refusal as refused:
            return as_json({"error": str(refused)}, refused.status, refused.headers)
        except Rejected as rejected:
            return as_json({"error": rejected.reason}, 409)
        except StoreUnavailable as error:
            return as_json({"error": str(error)}, 503)
        except Exception as error:
            log.exception("%s %s failed", request.method, request.url.path)
            said = f"internal error {type(error).__name__}; it is in the log: please report it"
            return as_json({"error": said}, 500)

    return answered


async def not_served(request: Request, error: Exception) -> Response:
    """What no route answers: unknown paths, wrong methods."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        said = f"{request.method} is not served here; use {allowed}"
    else:
        said = "nothing is served here; the API is below /api/v1, notifications go to /webhook/alertmanager"
    return as_json({"error": said}, error.status_code, error.headers)


def reader(parts: Parts, request: Request) -> None:
    """Let a reader in: anybody known, or anybody at all where nobody is configured. Raises Refusal."""
    if not parts.authenticator.open_reading:
        known(parts, request)


def known(parts: Parts, request: Request) -> Person:
    """Who asks. Raises Refusal: 401 without a credential, 403 with a wrong one."""
    found = parts.authenticator.person(request.headers.get("authorization"))
    if found is Entry.MISSING:
        parts.metrics.refused("api", "missing")
        raise Refusal(401, NO_CREDENTIAL, {"www-authenticate": "Bearer"})
    if not isinstance(found, Person):
        parts.metrics.refused("api", "wrong")
        log.warning("a wrong credential for %s %s", request.method, request.url.path)
        raise Refusal(403, "wrong credential; it must be a token of `auth.people` in responder.yaml")
    return found


def allowed(parts: Parts, person: Person, doing: str, roles: Iterable[str]) -> None:
    """Let somebody do something who has one of the roles. Raises Refusal."""
    if not person.may(roles):
        parts.metrics.refused("api", "role")
        needed = " or ".join(sorted(roles))
        raise Refusal(403, f"{person.name} may not {doing}: it needs the role {needed} in `auth.people`")
