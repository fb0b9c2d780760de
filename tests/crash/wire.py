"""Between a process that is killed and the parent that is not: one socket, one JSON line each way.

The child's side is synchronous on purpose: a request has reached the fake and its answer is on hand before anything
else happens in the child, so that every kill point lies exactly where its name says. Lines of two threads never mix.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

import httpx
from pydantic import PrivateAttr

from responder.contracts import Message, Notifier

LATENCY: Final = 0.02
"""Virtual seconds between the arrival of a request and its answer: others may run, and be killed, in between."""
LINE: Final = 1 << 16


class Wire:
    """The child's end. `kill_at`: the point (from 1) that kills this process, `stop_at`: that stops it; 0 for none.

    `resumed` is told the time (µs) when a stopped process goes on.
    """

    def __init__(self, end: socket.socket, kill_at: int, stop_at: int, resumed: Callable[[int], None]) -> None:
        self._file = end.makefile("rwb")
        self._lock = threading.Lock()
        self._kill_at = kill_at
        self._stop_at = stop_at
        self._resumed = resumed
        self._points = 0

    def ask(self, **line: Any) -> Any:
        """Send a line and return its answer."""
        with self._lock:
            self._tell(line)
            return json.loads(self._file.readline())

    def point(self, name: str) -> None:
        """A kill point: from here on nothing may happen, if it is its turn."""
        with self._lock:
            self._points += 1
            self._file.write(json.dumps({"point": name}).encode() + b"\n")
            if self._points == self._kill_at:
                self._file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            if self._points == self._stop_at:
                self._tell({"stopping": True})
                os.kill(os.getpid(), signal.SIGSTOP)
                self._tell({"resumed": True})
                self._resumed(json.loads(self._file.readline()))

    def tell(self, **line: Any) -> None:
        """Send a line that has no answer."""
        with self._lock:
            self._tell(line)

    def _tell(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()


class WireTransport(httpx.AsyncBaseTransport):
    """A connection to the fake services, with a kill point before, within and after each request."""

    def __init__(self, wire: Wire, now: Callable[[], int]) -> None:
        self._wire = wire
        self._now = now

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it and wait for the answer."""
        place = f"{request.method} {request.url.host}{request.url.path}"
        self._wire.point(f"before {place}")
        status, body = self._wire.ask(
            call={
                "service": request.url.host,
                "method": request.method,
                "path": request.url.path,
                "key": request.headers.get("idempotency-key", ""),
                "body": request.content.decode(),
                "at": self._now(),
            }
        )
        self._wire.point(f"arrived {place}")
        await asyncio.sleep(LATENCY)
        self._wire.point(f"answered {place}")
        return httpx.Response(status, json=body)


class WireNotifier(Notifier):
    """A destination at the other end of the wire."""

    kind: str = "wire"
    name: str
    _wire: Wire = PrivateAttr()
    _now: Callable[[], int] = PrivateAttr()

    def connected(self, wire: Wire, now: Callable[[], int]) -> WireNotifier:
        """Itself, able to send."""
        self._wire, self._now = wire, now
        return self

    async def send(self, message: Message) -> str:
        """See Notifier.send."""
        place = f"{message.kind} to {self.name}"
        sent = {"destination": self.name, "kind": message.kind, "key": message.key, "id": message.id}
        self._wire.point(f"before {place}")
        answer = self._wire.ask(message={**sent, "at": self._now()})
        self._wire.point(f"arrived {place}")
        await asyncio.sleep(LATENCY)
        self._wire.point(f"answered {place}")
        return str(answer)


class WireChat(WireNotifier):
    """A room."""

    chats = True


class WirePager(WireNotifier):
    """Wakes people."""

    pages = True
