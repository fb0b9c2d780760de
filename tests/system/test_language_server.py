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


def labels(items: list[dict[str, Any]]) -> list[str]:
    return [item["label"] for item in items]


def item(items: list[dict[str, Any]], label: str) -> dict[str, Any]:
    """The only completion of that name."""
    (found,) = [each for each in items if each["label"] == label]
    return found


def told(completion: dict[str, Any]) -> str:
    """The documentation beside a completion."""
    text = completion.get("documentation", "")
    return str(text["value"] if isinstance(text, dict) else text)


HEAD = "runbook: cut\ntitle: Cut\ntarget: risk/kelly\nmatch: VaRBreach\n"
STEP = HEAD + "steps:\n  - id: cut\n"
REQUEST = STEP + "    action: http.request\n    with:\n"


async def test_an_empty_file_begins_with_what_a_runbook_needs(tmp_path: Path) -> None:
    async with editor(tmp_path) as ide:
        first, *others = await ide.offered("runbook", "|")
        assert first["insertText"] == "runbook: $1\ntitle: $2\ntarget: $3"
        assert {"match", "steps", "verify", "unless_fixed"} <= set(labels(others))


async def test_keys_are_offered_once_with_what_they_mean_and_what_they_need(tmp_path: Path) -> None:
    async with editor(tmp_path) as ide:
        offers = await ide.offered("runbook", HEAD + "|\n")
        assert len(labels(offers)) == len(set(labels(offers)))
        assert not {"runbook", "title", "match"} & set(labels(offers)), "what stands there already"
        assert all(told(each) for each in offers)
        assert item(offers, "verify")["insertText"] == "verify:\n  check: $1\n  expect: $2\n  within: $3"
        assert item(offers, "steps")["insertText"].startswith("steps:\n  - id: ")


async def test_inside_a_step(tmp_path: Path) -> None:
    async with editor(tmp_path) as ide:
        new = labels(await ide.offered("runbook", HEAD + "steps:\n  - |\n"))
        assert new[0] == "Step"
        assert {"id", "action", "manual", "timeout"} <= set(new)
        assert "with" not in new, "which keys it has depends on the action"
        actions = await ide.offered("runbook", STEP + "    action: |\n")
        assert labels(actions) == sorted(labels(actions))
        assert told(item(actions, "http.request")) == "Send one request to a configured HTTP API."
        chosen = await ide.offered("runbook", STEP + "    action: http.request\n    |\n")
        assert item(chosen, "with")["insertText"] == "with:\n  service: $1\n  path: $2"
        assert "probe: {path: /api/status" in told(item(chosen, "with"))
        assert {each["insertText"].partition(":")[0] for each in chosen} == set(labels(chosen)), "keys and nothing else"


async def test_inside_with_are_the_keys_of_that_action(tmp_path: Path) -> None:
    async with editor(tmp_path) as ide:
        request = await ide.offered("runbook", REQUEST + "      |\n")
        assert labels(request)[0] == "http.request"
        assert set(labels(request)[1:]) == {
            "expect_status", "headers", "json", "method", "params", "path", "probe", "service",
        }  # fmt: skip
        assert told(item(request, "path")).startswith("Below the service's address")
        assert item(request, "probe")["insertText"] == "probe:\n  path: $1\n  expect: $2"
        assert labels(await ide.offered("runbook", REQUEST + "      method: |\n")) == [
            "DELETE", "GET", "HEAD", "PATCH", "POST", "PUT",
        ]  # fmt: skip
        reduce = STEP + "    action: parameter.reduce\n    with:\n      parameter: risk/kelly\n      |\n"
        assert labels(await ide.offered("runbook", reduce)) == ["parameter.reduce", "reason", "to"]


async def test_inside_a_check_only_what_reads_is_offered(tmp_path: Path) -> None:
    async with editor(tmp_path) as ide:
        check = HEAD + "checks:\n  var:\n    |\n"
        assert labels(await ide.offered("runbook", check))[0] == "Check"
        actions = labels(await ide.offered("runbook", check.replace("|", "action: |")))
        assert "prometheus.query" in actions
        assert "parameter.reduce" not in actions


async def test_hovering_shows_what_a_key_means(tmp_path: Path) -> None:
    async with editor(tmp_path) as ide:
        assert "`auto` acts" in await ide.shown("runbook", HEAD + "mo|de: auto\n")
        step = REQUEST + "      service: risk\n      path: /x\n"
        assert "Send one request to a configured HTTP API" in await ide.shown("runbook", step.replace("with", "wi|th"))
        assert "percent-encoded" in await ide.shown("runbook", step.replace("path", "pa|th"))
        assert "Default: `10s`" in await ide.shown("runbook", step + "    time|out: 5s\n")


async def test_mistakes_are_marked_where_they_stand(tmp_path: Path) -> None:
    async with editor(tmp_path) as ide:
        good = REQUEST + "      service: risk\n      path: /x\n"
        assert await ide.problems("runbook", good) == []
        assert await ide.problems("runbook", HEAD + "escalaton: x\n") == [(5, "Property escalaton is not allowed.")]
        assert set(await ide.problems("runbook", good.replace("path", "pth"))) == {
            (8, 'Missing property "path".'),
            (10, "Property pth is not allowed."),
        }
        duration = "a duration is written like 30s, 5m or 1h30m"
        assert await ide.problems("runbook", HEAD + "limits: {cooldown: 10 minutes}\n") == [(5, duration)]
        assert await ide.problems("runbook", HEAD + "limits: {cooldown: 10}\n") == [(5, duration)]
        assert await ide.problems("runbook", STEP) == [(6, "there is exactly one of action, manual")]
        unknown = await ide.problems("runbook", good.replace("http.request", "http.reqest"))
        assert [line for line, _ in unknown] == [7]


async def test_the_configuration_follows_the_kind(tmp_path: Path) -> None:
    async with editor(tmp_path) as ide:
        service = "services:\n  risk-api:\n    |\n"
        assert "kind" in labels(await ide.offered("config", service))
        assert labels(await ide.offered("config", service.replace("|", "kind: |"))) == ["http", "prometheus"]
        keys = await ide.offered("config", service.replace("|", "kind: http\n    |"))
        assert {"url", "bearer", "timeout"} <= set(labels(keys))
        assert all(told(each) for each in keys)
        secret = service.replace("|", "kind: http\n    bearer:\n      |")
        assert labels(await ide.offered("config", secret)) == ["env", "file"]
        plain = "services:\n  risk-api: {kind: http, url: 'http://x', bearer: in plain sight}\n"
        assert {line for line, _ in await ide.problems("config", plain)} == {2}


SHIPPED = {path: path.read_text(encoding="utf-8") for path in sorted(shipped_rules().rglob("*.yaml"))}


@pytest.mark.parametrize(("path", "text"), SHIPPED.items(), ids=[path.name for path in SHIPPED])
async def test_shipped_files_have_no_problems_by_their_own_modelines(path: Path, text: str, tmp_path: Path) -> None:
    async with editor(tmp_path) as ide:
        uri, lines = path.as_uri(), text.splitlines()
        opened = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        ide.send({"method": "textDocument/didOpen", "params": {"textDocument": opened}})
        while uri not in ide.found:
            await ide.read()
        assert ide.found[uri] == []
        line = next(number for number, written in enumerate(lines) if written[:1].isalpha())
        shown = await ide.ask("textDocument/hover", textDocument={"uri": uri}, position={"line": line, "character": 1})
        assert "rules/schema/" in shown["contents"]["value"], "the modeline names a schema that is there"
