"""Serves an ASGI application in this process and event loop, for as long as a block lasts.

The caller binds the socket, so that the address is known before anything is started and nobody can take the port in
between. Signals stay the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.types import ASGIApp

from responder.errors import Permanent

KEEP_ALIVE = 330
"""Seconds; longer than Alertmanager keeps an idle connection (contracts.md A2)."""
STOP_SECONDS = 2
LOOPBACK = "127.0.0.1"


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which would replace the caller's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bound(port: int = 0) -> socket.socket:
    """A socket that listens on loopback, on a free port for 0. Raises Permanent when that is not possible."""
    try:
        return socket.create_server((LOOPBACK, port), backlog=128)
    except OSError as error:
        said = f"nothing can listen on {LOOPBACK}:{port} ({error.strerror}): try again, or end what uses the port"
        raise Permanent(said) from None


def url_of(listener: socket.socket) -> str:
    """The address of a bound socket, `http://127.0.0.1:PORT`."""
    return f"http://{address_of(listener)}"


def address_of(listener: socket.socket) -> str:
    """`127.0.0.1:PORT` of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"


@contextlib.asynccontextmanager
async def hosted(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """Serves `app` on `listener`, which is closed at the end of the block."""
    config = uvicorn.Config(
        app,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=STOP_SECONDS,
        access_log=False,
        log_config=None,
        lifespan="off",
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name=f"serving {url_of(listener)}")
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait([task], timeout=2 * STOP_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.close()
