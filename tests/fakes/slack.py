"""Slack's Web API, as far as chat goes: channels, messages, threads, and its limits (contracts.md D1)."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fakes.server import FakeServer

TOKEN = "xoxb-a-bot-token-of-the-fake"


@dataclass
class Posted:
    """A message as people see it now, with how often it was changed."""

    channel: str
    ts: str
    thread_ts: str | None
    text: str
    blocks: list[dict[str, Any]]
    metadata: dict[str, Any]
    updates: int = 0


@dataclass
class _Trouble:
    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


class FakeSlack(FakeServer):
    """Channels are given as name -> id. `fail` makes the next calls go wrong."""

    def __init__(self, **channels: str) -> None:
        self.channels = {f"#{name}": channel for name, channel in channels.items()}
        self.messages: list[Posted] = []
        self.calls: list[str] = []
        self._troubles: deque[_Trouble] = deque()
        methods = {"chat.postMessage": self._post, "chat.update": self._update}
        super().__init__(
            [Route(f"/api/{name}", self._entry(name, do), methods=["POST"]) for name, do in methods.items()]
        )

    @property
    def base_url(self) -> str:
        """What a client is configured with."""
        return f"{self.url}/api/"

    def fail(self, error: str, status: int = 200, **headers: str) -> None:
        """The next call answers `ok: false` with this error."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._troubles.append(_Trouble(status, {"ok": False, "error": error}, named))

    def thread(self, ts: str) -> list[str]:
        """The texts of a thread, oldest first."""
        return [m.text for m in self.messages if m.thread_ts == ts]

    @property
    def roots(self) -> list[Posted]:
        """The messages that are no replies."""
        return [m for m in self.messages if m.thread_ts is None]

    def _entry(self, name: str, do: Any) -> Any:
        async def called(request: Request) -> Response:
            self.calls.append(name)
            if self._troubles:
                trouble = self._troubles.popleft()
                return JSONResponse(trouble.body, trouble.status, trouble.headers)
            if request.headers.get("authorization") != f"Bearer {TOKEN}":
                return JSONResponse({"ok": False, "error": "invalid_auth"})
            body = json.loads(await request.body())
            wrong = refusal(body)
            return JSONResponse({"ok": False, "error": wrong} if wrong else do(body))

        return called

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        channel = self.channels.get(body["channel"]) or body["channel"]
        if channel not in self.channels.values():
            return {"ok": False, "error": "channel_not_found"}
        thread = body.get("thread_ts")
        if thread is not None and not any(m.ts == thread and m.channel == channel for m in self.messages):
            return {"ok": False, "error": "thread_not_found"}
        ts = f"1700000000.{len(self.messages):06d}"
        posted = Posted(channel, ts, thread, body["text"], body.get("blocks", []), body.get("metadata", {}))
        self.messages.append(posted)
        return {"ok": True, "channel": channel, "ts": ts}

    def _update(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["channel"] not in self.channels.values():
            return {"ok": False, "error": "channel_not_found"}  # an update takes the id, never the name
        found = next((m for m in self.messages if (m.channel, m.ts) == (body["channel"], body["ts"])), None)
        if found is None:
            return {"ok": False, "error": "message_not_found"}
        found.text, found.blocks = body["text"], body.get("blocks", [])
        found.updates += 1
        return {"ok": True, "channel": found.channel, "ts": found.ts}


_TEXT_LIMITS = {"section": 3_000, "header": 150}


def refusal(body: dict[str, Any]) -> str | None:
    """The error that Slack answers to a message of this form, or None."""
    blocks = body.get("blocks", [])
    if not body.get("text") and not blocks:
        return "no_text"
    if len(body.get("text", "")) > 40_000:
        return "msg_too_long"
    if len(blocks) > 50 or any(not _good(block) for block in blocks):
        return "invalid_blocks"
    return "msg_blocks_too_long" if len(json.dumps(blocks, ensure_ascii=False)) > 13_000 else None


def _good(block: dict[str, Any]) -> bool:
    kind = block["type"]
    if kind == "divider":
        return set(block) == {"type"}
    if kind == "context":
        texts = block["elements"]
        return 0 < len(texts) <= 10 and all(t["type"] == "mrkdwn" and t["text"] for t in texts)
    wanted = "plain_text" if kind == "header" else "mrkdwn"
    text = block.get("text", {})
    return kind in _TEXT_LIMITS and text.get("type") == wanted and 0 < len(text["text"]) <= _TEXT_LIMITS[kind]
