"""Bodies: read within a limit, answered as JSON, kept compressed.

Written against plain ASGI, since reading and answering are half of what the webhook does.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

from starlette.types import Receive, Scope, Send

LARGE: Final = 4_096
"""Bytes from which a stored body is compressed: below, it costs more than it saves."""


class TooLarge(Exception):
    """A body above the limit; nothing of it was kept. `more`: the rest of it is still to come."""

    def __init__(self, *, more: bool) -> None:
        super().__init__("the body is above the limit")
        self.more = more


class Disconnected(Exception):
    """The sender went away before the body was whole, so nothing was asked."""


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of this lower-case name, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises TooLarge above `limit` bytes, announced or counted, and Disconnected."""
    announced = header(scope, b"content-length")
    if announced is not None and announced.isdigit() and int(announced[:19]) > limit:
        raise TooLarge(more=True)
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise TooLarge(more=message.get("more_body", False))
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def drain(receive: Receive, limit: int) -> None:
    """Read on and keep nothing, up to `limit` bytes.

    A sender that is cut off while it writes sees a broken connection instead of the answer, and sends again at once.
    """
    size, more = 0, True
    while more and size <= limit:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)


async def answer(send: Send, status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
    """Answer with JSON."""
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    given = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    start = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *given]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


def packed(body: bytes) -> bytes:
    """What is stored of a JSON body: itself, or when large its zlib form, which no JSON begins like."""
    return zlib.compress(body, 1) if len(body) >= LARGE else body


def unpacked(stored: bytes) -> bytes:
    """The body exactly as it came."""
    return zlib.decompress(stored) if stored[:1] == b"\x78" else stored
