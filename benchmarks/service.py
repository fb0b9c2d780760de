"""The service that runbooks call: answers at once, or after a delay, and keeps when which change arrived.

A bare asyncio protocol, so that it costs little beside what is measured. `POST /act` is a change; `GET /arrivals` tells
all of them; `POST /delay` with a number of seconds sets the delay and forgets what came before.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

ARRIVALS: list[tuple[str, str, int]] = []
"""Item, Idempotency-Key, monotonic nanoseconds."""
DELAY = [0.0]


class Service(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        arrived = time.monotonic_ns()
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        headers = _headers(head)
        if not found or len(body) < int(headers.get("content-length", "0")):
            return
        self._buffer = b""
        self._serve(head.partition(b"\r\n")[0].decode(), headers, body, arrived)

    def _serve(self, line: str, headers: dict[str, str], body: bytes, arrived: int) -> None:
        if line.startswith("POST /act"):
            ARRIVALS.append((json.loads(body)["item"], headers.get("idempotency-key", ""), arrived))
            asyncio.get_running_loop().call_later(DELAY[0], self._answer, b'{"done": true}')
        elif line.startswith("POST /delay"):
            DELAY[0] = float(body)
            ARRIVALS.clear()
            self._answer(b"{}")
        else:
            self._answer(json.dumps(ARRIVALS).encode())

    def _answer(self, body: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self._transport.write(head.encode() + body)


def _headers(head: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.lower(): value.strip() for name, _, value in pairs}


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
