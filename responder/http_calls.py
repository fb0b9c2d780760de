"""A request to a service as a value, its answer, and what the answer's status says about the world.

The one table of statuses (`_refusal`) is here because every action over HTTP needs it and actions must not import each
other. Not here: sending (`connections`), and any second try (only `decide` may).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cached_property
from urllib.parse import unquote

from pydantic import JsonValue

from responder.errors import Permanent, Temporary, Unknown
from responder.timing import SECOND

SAFE_METHODS = frozenset({"GET", "HEAD"})
MAX_RETRY_AFTER = 3600.0
"""Seconds: a server that asks for a longer wait is asked again after an hour."""


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One request to a service. `key` is sent with a change, so that a repetition can be recognised."""

    method: str
    path: str
    params: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    json: JsonValue = None
    form: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    reads: bool = False
    """True where a POST only asks, as Prometheus' query does; GET and HEAD always do."""

    @property
    def changes(self) -> bool:
        """Whether the world may be different afterwards."""
        return not self.reads and self.method not in SAFE_METHODS


@dataclass(frozen=True)
class HttpAnswer:
    """What a service answered; secrets of the service are hidden in it. `cut`: the body passed the limit, is not whole.

    `place` names service, method and path for messages; `headers` have lower-case names.
    """

    place: str
    status: int
    headers: Mapping[str, str]
    text: str
    changes: bool
    keyed: bool = False
    cut: bool = False

    @cached_property
    def body(self) -> JsonValue:
        """The JSON of the answer, else its text. JSON with NaN or numbers beyond a float counts as text."""
        if "json" in self.headers.get("content-type", "") or self.text[:1] in {"{", "["}:
            try:
                return _strict_json(self.text)
            except (ValueError, RecursionError):
                return self.text
        return self.text

    def checked(self, now: int, expected: Collection[int] = ()) -> HttpAnswer:
        """This answer when its status is one of `expected` (none given: 2xx). `now` in µs, for dates in Retry-After.

        Raises Temporary, Permanent or Unknown by the status (see `_refusal`); Permanent when an answer to a question is
        not whole, because a cut number may read as a smaller one.
        """
        accepted = self.status in expected if expected else 200 <= self.status < 300
        if not accepted:
            raise _refusal(self, now)
        if self.cut and not self.changes:
            cure = "ask for less, or raise the service's max_response_bytes"
            raise Permanent(f"{self.place}: the answer is too large; {cure}")
        return self


def _strict_json(text: str) -> JsonValue:
    value: JsonValue = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


_ASK_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_HINTS: Mapping[int, str] = {
    401: "check the service's credentials",
    403: "the service's credentials may not do this",
    404: "check the path",
    405: "check the method",
}


def _refusal(answer: HttpAnswer, now: int) -> Temporary | Permanent | Unknown:
    """What a status that was not expected means.

    A question may be asked again where the server only could not answer. For a change, a 4xx or 501 says that nothing
    happened; 425 and 429 that it may be sent again. 408 and the other 5xx say nothing: a proxy gives them also while
    the server behind it goes on. With a key 409 means that the first request is still under way.
    """
    said = f"{answer.place}: answered {answer.status}{_excerpt(answer.text)}"
    if 300 <= answer.status < 400:
        return Permanent(f"{said}; redirects are not followed: configure the address that it leads to")
    if answer.changes:
        return _refused_change(answer, said, now)
    if answer.status in _ASK_AGAIN:
        return Temporary(said, retry_after(answer.headers, now))
    return Permanent(_with_hint(said, answer.status))


def _refused_change(answer: HttpAnswer, said: str, now: int) -> Temporary | Permanent | Unknown:
    if answer.status in {425, 429}:
        return Temporary(f"{said}; nothing was changed", retry_after(answer.headers, now))
    if answer.status == 409 and answer.keyed:
        return Unknown(f"{said}; an earlier request with this key may still be under way")
    if answer.status == 501 or (400 <= answer.status < 500 and answer.status != 408):
        return Permanent(_with_hint(f"{said}; nothing was changed", answer.status))
    return Unknown(f"{said}; the change may have happened")


def _with_hint(said: str, status: int) -> str:
    return f"{said}: {_HINTS[status]}" if status in _HINTS else said


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return f" ({line if len(line) <= 160 else line[:159] + '…'})" if line else ""


def retry_after(headers: Mapping[str, str], now: int) -> float | None:
    """The wait asked for in seconds, from a number or a date (`now` in µs); between 0 and MAX_RETRY_AFTER."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    wait = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now / SECOND
    return min(max(wait, 0.0), MAX_RETRY_AFTER)


def checked_path(path: str) -> str:
    """`path` when it can only lead to the service's own host and below its base path. Raises ValueError."""
    if not path.startswith("/") or path.startswith("//"):
        raise ValueError("a path begins with one `/`; scheme and host belong to the service")
    if not path.isascii() or not path.isprintable() or any(bad in path for bad in " #\\"):
        raise ValueError("a path holds printable ASCII only, no space, `#` or backslash: percent-encode the character")
    if any(unquote(part) in {".", ".."} for part in path.partition("?")[0].split("/")):
        raise ValueError("a part of the path consists of dots only: write the path that is meant")
    return path
