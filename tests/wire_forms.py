"""What stands on the wire, read back the way its receiver reads it: PromQL, paths, queries, headers, bodies.

Written from the receivers' grammars and not from `positions`, so that a mistake there is seen here. Not here: sending.
"""

from __future__ import annotations

import http.client
import io
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import httpx

PUT_BY_THE_CLIENT = frozenset({"content-length"})
"""Headers that follow from the body."""

_TOKEN = re.compile(
    r"""
    (?P<space> [ \t\r\n]+ | \#[^\r\n]* )
  | (?P<raw> `[^`]*` )
  | (?P<quoted> "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' )
  | (?P<number> (?: 0[xX][0-9a-fA-F]+ | (?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)? ) [a-zA-Z0-9_]* )
  | (?P<name> [A-Za-z_:][A-Za-z0-9_:]* )
  | (?P<sign> =~ | !~ | != | == | >= | <= | [-+*/%^=<>(){}\[\],@:] )
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))", re.DOTALL
)
_NAMED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

Token = tuple[str, str]
"""Its kind, and its text; of a string what it means."""


def promql(query: str) -> list[Token]:
    """The tokens of a query as Prometheus' lexer finds them. Raises ValueError where that refuses."""
    tokens, at = [], 0
    while at < len(query):
        found = _TOKEN.match(query, at)
        if found is None or found.lastgroup is None:
            raise ValueError(f"no token begins at {query[at : at + 20]!r}")
        at = found.end()
        if found.lastgroup == "quoted":
            tokens.append(("string", _ESCAPE.sub(_unescaped, found[0][1:-1])))
        elif found.lastgroup == "raw":
            tokens.append(("string", found[0][1:-1]))
        elif found.lastgroup != "space":
            tokens.append((found.lastgroup, found[0]))
    return tokens


def _unescaped(found: re.Match[str]) -> str:
    """One escape of Go's strings."""
    named, hexadecimal, octal, short, long, other = found.groups()
    if other is not None:
        raise ValueError(f"\\{other} is no escape")
    if named is not None:
        return _NAMED.get(named, named)
    code = int(octal, 8) if octal else int(hexadecimal or short or long, 16)
    if 0xD800 <= code <= 0xDFFF or (not (short or long) and code > 0x7F):
        raise ValueError(f"{found[0]} is no character")
    return chr(code)


def literals_of(pattern: str) -> str | None:
    """The text that a regular expression consists of when nothing in it has a meaning, else None."""
    found = re.fullmatch(r"(?:[^\\.+*?()|\[\]{}^$]|\\[^A-Za-z0-9])*", pattern, re.DOTALL)
    return None if found is None else re.sub(r"\\(.)", r"\1", pattern, flags=re.DOTALL)


def request_form(request: httpx.Request) -> dict[str, Any]:
    """A request as its receiver reads it: every part a plain value. Raises ValueError for what it would refuse."""
    target = request.url.raw_path.decode("ascii")
    path, _, query = target.partition("?")
    if not re.fullmatch(r"[!-~]+", target) or "#" in target:
        raise ValueError(f"no request target: {target!r}")
    return {
        "method": request.method,
        "host": [request.url.scheme, request.url.host, request.url.port],
        "path": [_decoded(segment) for segment in path.split("/")],
        "query": _form(query),
        "headers": _headers(request),
        "body": _body(request),
    }


def _decoded(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ValueError("half an encoding")
    return unquote_to_bytes(text).decode()


def _form(text: str) -> list[list[str]]:
    pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")
    return [list(pair) for pair in pairs]


def _headers(request: httpx.Request) -> list[list[str]]:
    """Written as they go out, and read back."""
    written = b"".join(b"%b: %b\r\n" % pair for pair in request.headers.raw) + b"\r\nREST"
    stream = io.BytesIO(written)
    found = http.client.parse_headers(stream)
    if stream.read() != b"REST":
        raise ValueError("the headers end early")
    return sorted([k.lower(), v] for k, v in found.items() if k.lower() not in PUT_BY_THE_CLIENT)


def _body(request: httpx.Request) -> Any:
    text = request.content.decode()
    if "json" in request.headers.get("content-type", ""):
        return json.loads(text)
    return _form(text)


def replaced(form: Any, change: Callable[[str], str]) -> Any:
    """A form with every text in it changed; the names of fields stay."""
    match form:
        case str():
            return change(form)
        case list() | tuple():
            return type(form)(replaced(item, change) for item in form)
        case dict():
            return {name: replaced(item, change) for name, item in form.items()}
    return form
