"""The world of the contract of actions on a loopback port: its platform, Prometheus, Alertmanager and API server."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import parse_qsl, urlsplit

import httpx

from tests.campaigns.network_wires import Wired
from tests.contract.action_world import World

_REST = b"\r\n\r\n"


class Origin(Wired):
    """Serves `world`. `host`: by which of its names it is asked. `lasting`: a connection serves several requests."""

    def __init__(self, world: World, host: str, *, lasting: bool) -> None:
        super().__init__()
        self.world = world
        self._host = host
        self._lasting = lasting

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._exchange(reader, writer)
        while self._lasting:
            await self._exchange(reader, writer)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *given = (await reader.readuntil(_REST)).removesuffix(_REST).decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in given)}
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        status, kind, body = await self._answer(method, target, headers, content)
        lasts = "keep-alive" if self._lasting else "close"
        head = f"HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: {lasts}"
        writer.write(head.encode() + _REST + body)
        await writer.drain()

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
