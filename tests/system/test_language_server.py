"""Writing rules in an editor, with the language server that VS Code, Neovim and others use, on the shipped schemas.

Needs the npm package yaml-language-server: its executable is named by RESPONDER_TEST_YAML_LANGUAGE_SERVER.
"""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from responder.sources import shipped_rules

SERVER = os.environ.get("RESPONDER_TEST_YAML_LANGUAGE_SERVER", "")
PATIENCE = 60.0
SCHEMAS = shipped_rules() / "schema"

pytestmark = pytest.mark.skipif(not SERVER, reason="RESPONDER_TEST_YAML_LANGUAGE_SERVER names no language server")

# No catalogue of schemas from the network: only what the modeline names.
SETTINGS = {"validate": True, "completion": True, "hover": True, "schemaStore": {"enable": False, "url": ""}}


@dataclass
class Editor:
    """A language client over the server's standard streams: one answer at a time, everything else is kept."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    folder: Path
    asked: int = 0
    files: int = 0
    found: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    async def ask(self, method: str, **params: Any) -> Any:
        self.asked += 1
        self.send({"id": self.asked, "method": method, "params": params})
        while True:
            message = await self.read()
            if message.get("id") == self.asked and "method" not in message:
                assert "error" not in message, message
                return message["result"]

    def send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def read(self) -> dict[str, Any]:
        """The next message. What the server asks is answered, what it finds in files is kept."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-len"))
        message: dict[str, Any] = json.loads(await self.reader.readexactly(length))
        if message.get("method") == "textDocument/publishDiagnostics":
            self.found[message["params"]["uri"]] = message["params"]["diagnostics"]
        elif "method" in message and "id" in message:
            self.send({"id": message["id"], "result": self.answer(message)})
        return message

    def answer(self, message: dict[str, Any]) -> Any:
        if message["method"] != "workspace/configuration":
            return None
        return [SETTINGS if item.get("section") == "yaml" else None for item in message["params"]["items"]]

    async def begin(self) -> None:
        markdown = {"documentationFormat": ["markdown", "plaintext"], "snippetSupport": True}
        abilities = {
            "textDocument": {"completion": {"completionItem": markdown}, "hover": {"contentFormat": ["markdown"]}},
            "workspace": {"configuration": True, "didChangeConfiguration": {"dynamicRegistration": True}},
        }
        await self.ask("initialize", processId=None, rootUri=self.folder.as_uri(), capabilities=abilities)
        self.send({"method": "initialized", "params": {}})
        self.send({"method": "workspace/didChangeConfiguration", "params": {"settings": {"yaml": SETTINGS}}})

    async def open(self, kind: str, text: str) -> tuple[str, dict[str, int] | None]:
        """Open a new file of a kind; answers its address and the place of the mark `|` in it."""
        self.files += 1
        before, mark, after = text.partition("|")
        place = {"line": before.count("\n") + 1, "character": len(before.rpartition("\n")[2])} if mark else None
        uri = (self.folder / f"{self.files}.yaml").as_uri()
        modeline = f"# yaml-language-server: $schema={(SCHEMAS / kind).as_posix()}.schema.json\n"
        opened = {"uri": uri, "languageId": "yaml", "version": 1, "text": modeline + before + after}
        self.send({"method": "textDocument/didOpen", "params": {"textDocument": opened}})
        return uri, place

    async def problems(self, kind: str, text: str) -> list[tuple[int, str]]:
        """What is marked: the line (the modeline is line 0) and what is said."""
        uri, _ = await self.open(kind, text)
        while uri not in self.found:
            await self.read()
        return [(found["range"]["start"]["line"], found["message"]) for found in self.found[uri]]

    async def offered(self, kind: str, text: str) -> list[dict[str, Any]]:
        """The completions at the mark."""
        uri, place = await self.open(kind, text)
        answer = await self.ask("textDocument/completion", textDocument={"uri": uri}, position=place)
        items: list[dict[str, Any]] = answer["items"] if isinstance(answer, dict) else answer or []
        return sorted(items, key=lambda item: item.get("sortText") or item["label"])

    async def shown(self, kind: str, text: str) -> str:
        """What is shown over the mark."""
        uri, place = await self.open(kind, text)
        answer = await self.ask("textDocument/hover", textDocument={"uri": uri}, position=place)
        return "" if answer is None else str(answer["contents"]["value"])


@asynccontextmanager
async def editor(folder: Path) -> AsyncIterator[Editor]:
    process = await asyncio.create_subprocess_exec(SERVER, "--stdio", stdin=PIPE, stdout=PIPE, limit=2**24)
    assert process.stdout is not None
    assert process.stdin is not None
    opened = Editor(process.stdout, process.stdin, folder)
    try:
        async with asyncio.timeout(PATIENCE):
            await opened.begin()
            yield opened
            await opened.ask("shutdown")
            opened.send({"method": "exit"})
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
