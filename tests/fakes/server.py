"""A Starlette application on a loopback port in the test's own event loop, stopped with it."""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


class HangsUp:
    """Takes connections, reads what comes, and closes without an answer: nobody knows what happened."""

    def __init__(self) -> None:
        self.connections = 0
        self.url = ""
        self._server: asyncio.Server | None = None

    async def _close(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._close, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()


class FakeServer:
    """Serves `routes`; whatever else is asked for is unexpected."""

    def __init__(self, routes: list[Route]) -> None:
        self.unexpected: list[str] = []
        everything = Route("/{path:path}", self._refuse, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
        app = Starlette(routes=[*routes, everything])
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(app, log_level="critical", lifespan="off", access_log=False)
        self._server = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None

    async def _refuse(self, request: Request) -> Response:
        self.unexpected.append(f"{request.method} {request.url.path}")
        return PlainTextResponse("nothing is here", 404)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        if self._task is not None:
            await self._task
        if error is None:
            assert not self.unexpected, f"nobody expected these calls: {self.unexpected}"
