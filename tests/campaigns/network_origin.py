"""The world of the contract of actions on a loopback port: its platform, Prometheus, Alertmanager and API server."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

import httpx

from tests.contract.action_world import World

_REST = b"\r\n\r\n"


class Origin:
    """Serves `world`. `host`: by which of its names it is asked. `lasting`: a connection serves several requests."""

    def __init__(self, world: World, host: str, *, lasting: bool) -> None:
        self.world = world
        self.port = 0
        self.served = 0
        self._host = host
        self._lasting = lasting
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer) and self._lasting:
                pass
        except (asyncio.IncompleteReadError, OSError):
            pass  # the client has gone: what it has not sent whole was not asked
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line, *given = (await reader.readuntil(_REST)).removesuffix(_REST).decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in given)}
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        status, kind, body = await self._answer(method, target, headers, content)
        self.served += 1
        lasts = "keep-alive" if self._lasting else "close"
        head = f"HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: {lasts}"
        writer.write(head.encode() + _REST + body)
        await writer.drain()
        return True

    async def _answer(
        self, method: str, target: str, headers: dict[str, str], content: bytes
    ) -> tuple[int, str, bytes]:
        url = urlsplit(target)
        if "/namespaces/" in url.path:
            answer = self.world.cluster.handle(method, url.path, dict(parse_qsl(url.query)), headers, content)
            kind = "text/plain" if isinstance(answer.body, str) else "application/json"
            return answer.status, kind, answer.content
        request = httpx.Request(method, f"http://{self._host}{target}", headers=headers, content=content)
        try:
            said = await self.world.handle_async_request(request)
        except AssertionError as error:  # closed world: it is kept in `unexpected`
            return 404, "application/json", json.dumps({"error": str(error)}).encode()
        return said.status_code, said.headers.get("content-type", "text/plain"), said.content
