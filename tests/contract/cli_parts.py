"""The command line before an application that is served."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from responder import facts as f
from responder.cli import run
from responder.notifiers import message_templates
from responder.web import create_web
from tests.contract.web_parts import Office, alert, notification


@dataclass
class Ran:
    """What one command line did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def words(self) -> str:
        """All of it on one line, however it was laid out."""
        return " ".join(self.out.split())


class Desk:
    """A served application, and the command line as anybody."""

    def __init__(self, office: Office, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.office = office
        self.url = url
        self._capsys = capsys

    async def run(self, *words: str, by: str | None = "otto") -> Ran:
        """A command line; the credential is the person's."""
        token = [] if by is None else ["--token", f"{by}-token"]
        return await self.anyhow(*words, "--url", self.url, *token)

    async def anyhow(self, *words: str) -> Ran:
        self._capsys.readouterr()
        status = await asyncio.to_thread(run, list(words))
        seen = self._capsys.readouterr()
        return Ran(status, seen.out, seen.err)

    async def opened(self, name: str = "VaRBreach", symbol: str = "BTC-USD") -> str:
        await self.office.post(notification(alert(name, symbol=symbol)))
        return self.office.turns[-1].incident.id

    async def facts(self, incident: str) -> list[tuple[str, f.Fact]]:
        return [(event.actor, event.fact) for event in await self.office.store.events(incident)]


@asynccontextmanager
async def served(path: Path, capsys: pytest.CaptureFixture[str], **settings: Any) -> AsyncIterator[Desk]:
    office = Office(settings, [])
    await asyncio.to_thread(office.open, path)
    parts = replace(office.parts(), render=message_templates(None).render)
    options = uvicorn.Config(create_web(parts), log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(options)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        office.client = httpx.AsyncClient(base_url=url, trust_env=False)
        try:
            async with office.client:
                yield Desk(office, url, capsys)
        finally:
            server.should_exit = True
            await serving
            await office.store.close()
