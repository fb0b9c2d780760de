"""Slack's Web API, as far as a notifier needs it: messages, threads, files, history, scopes and pace (contracts.md D).

Written by Slack's reference; what it refuses stands in `slack_limits`.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.fakes.server import FakeServer
from tests.fakes.slack_limits import POST, UPDATE, mentioned, refusal

TOKEN = "xoxb-a-bot-token-of-the-fake"
NEEDED: Final = {"chat": "chat:write", "files": "files:write", "conversations": "channels:history"}
"""Family of methods -> the scope that it needs."""
LISTING: Final = {"public_channel": "channels:read", "private_channel": "groups:read"}
"""Kind of channel -> the scope by which an app may list those."""
CHANGES: Final = 50
"""Messages that an app may change within a minute (tier 3)."""
LISTED: Final = 999
"""The most channels that Slack lists at once."""
BURST: Final = 3
"""Messages to one channel that Slack lets through at once, when the channel has been quiet."""


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
    broadcast: bool = False
    parse: str = ""
    file: str | None = None
    """The content of a file that was shared here."""
    title: str = ""

    def shown(self, *, metadata: bool) -> dict[str, Any]:
        """As the reading methods answer it."""
        found: dict[str, Any] = {"type": "message", "ts": self.ts, "text": self.text, "blocks": self.blocks}
        found |= {"thread_ts": self.thread_ts} if self.thread_ts else {}
        return {**found, "metadata": self.metadata} if metadata and self.metadata else found


@dataclass
class _Trouble:
    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    method: str = ""
    done: bool = False
    """What was asked for is done, and the answer alone goes wrong."""


class FakeSlack(FakeServer):
    """Channels are given as name -> id. `fail` makes the next calls go wrong, `limits` holds to the pace of Slack."""

    def __init__(self, **channels: str) -> None:
        self.channels = {f"#{name}": channel for name, channel in channels.items()}
        self.messages: list[Posted] = []
        self.calls: list[str] = []
        self.scopes: frozenset[str] = frozenset({*NEEDED.values(), *LISTING.values()})
        self.private: frozenset[str] = frozenset()
        """Ids of the channels that are private."""
        self.upload_at = ""
        """Where files are to be sent, when not to this server."""
        self.listed_at_once = LISTED
        self._changed_at: list[float] = []
        self._troubles: deque[_Trouble] = deque()
        self._files: dict[str, bytes | None] = {}
        self._numbers = count()
        self._clock: Callable[[], float] | None = None
        self._free_at: dict[str, float] = {}
        posts = {
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "files.completeUploadExternal": self._complete,
        }
        reads = {
            "conversations.history": self._history,
            "conversations.replies": self._replies,
            "conversations.list": self._list,
        }
        super().__init__([
            *(Route(f"/api/{name}", self._entry(name, do, _body), methods=["POST"]) for name, do in posts.items()),
            *(Route(f"/api/{name}", self._entry(name, do, _query), methods=["GET"]) for name, do in reads.items()),
            Route("/api/files.getUploadURLExternal", self._entry("files.getUploadURLExternal", self._give, _query),
                  methods=["GET", "POST"]),
            Route("/upload/{id}", self._take, methods=["POST"]),
        ])  # fmt: skip
        # Without it every answer waits 40 ms for an acknowledgement: asyncio sets it only where the protocol is named.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def base_url(self) -> str:
        """What a client is configured with."""
        return f"{self.url}/api/"

    def fail(self, error: str, status: int = 200, method: str = "", *, done: bool = False, **headers: str) -> None:
        """The next call (of this method) answers `ok: false` with this error; `done`: after doing what it was asked."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._troubles.append(_Trouble(status, {"ok": False, "error": error}, named, method, done))

    def limits(self, clock: Callable[[], float]) -> None:
        """From now on at most one message a second to one channel, by this clock in seconds, which stamps them too."""
        self._clock = clock

    def thread(self, ts: str) -> list[str]:
        """The texts of a thread, oldest first; files have none."""
        return [m.text for m in self.messages if m.thread_ts == ts and m.file is None]

    @property
    def roots(self) -> list[Posted]:
        """The messages that are no replies."""
        return [m for m in self.messages if m.thread_ts is None]

    @property
    def caught(self) -> list[str]:
        """Whom all messages together have mentioned: ids, `here` and `channel`."""
        return [who for message in self.messages for who in mentioned(message.text, message.blocks, message.parse)]

    # --- calls --------------------------------------------------------------------------------------------------------

    def _entry(self, name: str, do: Any, read: Any) -> Any:
        async def called(request: Request) -> Response:
            self.calls.append(name)
            trouble = self._trouble(name)
            if trouble is not None and not trouble.done:
                return JSONResponse(trouble.body, trouble.status, trouble.headers)
            answer = await self._answered(name, do, read, request)
            return answer if trouble is None else JSONResponse(trouble.body, trouble.status, trouble.headers)

        return called

    def _trouble(self, method: str) -> _Trouble | None:
        if not self._troubles or self._troubles[0].method not in ("", method):
            return None
        return self._troubles.popleft()

    async def _answered(self, name: str, do: Any, read: Any, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _refused("invalid_auth")
        needed = NEEDED[name.partition(".")[0]]
        if needed not in self.scopes and name != "conversations.list":
            return JSONResponse({"ok": False, "error": "missing_scope", "needed": needed})
        answer: dict[str, Any] | str | float = do(await read(request))
        if isinstance(answer, float):
            return JSONResponse({"ok": False, "error": "ratelimited"}, 429, {"Retry-After": str(int(answer) + 1)})
        return _refused(answer) if isinstance(answer, str) else JSONResponse({"ok": True, **answer})

    # --- messages -----------------------------------------------------------------------------------------------------

    def _post(self, body: dict[str, Any]) -> dict[str, Any] | str | float:
        channel = self.channels.get(body["channel"]) or body["channel"]
        if channel not in self.channels.values():
            return "channel_not_found"
        thread = body.get("thread_ts")
        if thread is not None and self._standing(channel, thread) is None:
            return "thread_not_found"
        wrong = refusal(body, POST)
        if wrong is not None:
            return wrong
        wait = self._busy(channel)
        if wait > 0:
            return wait
        posted = Posted(channel, self._ts(), thread, body["text"], body.get("blocks", []), body.get("metadata", {}))
        posted.broadcast, posted.parse = bool(body.get("reply_broadcast")), body.get("parse", "")
        self.messages.append(posted)
        return {"channel": channel, "ts": posted.ts, "message": posted.shown(metadata=True)}

    def _busy(self, channel: str) -> float:
        """Seconds until the channel takes another message."""
        if self._clock is None:
            return 0.0
        now = self._clock()
        free_at = max(self._free_at.get(channel, now), now)
        if free_at - now > BURST - 1:
            return free_at - now - (BURST - 1)
        self._free_at[channel] = free_at + 1
        return 0.0

    def _ts(self) -> str:
        """Rising, and unlike any other, also when a test has forgotten the messages."""
        number = next(self._numbers)
        return f"{4_000_000_000 if self._clock is None else int(self._clock())}.{number:06d}"

    def _standing(self, channel: str, ts: str) -> Posted | None:
        return next((m for m in self.messages if (m.channel, m.ts) == (channel, ts)), None)

    def _hurried(self) -> float:
        """Seconds until the app may change another message: so many within any minute, whatever the channel."""
        if self._clock is None:
            return 0.0
        now = self._clock()
        self._changed_at = [at for at in self._changed_at if at > now - 60]
        if len(self._changed_at) >= CHANGES:
            return self._changed_at[0] + 60 - now
        self._changed_at.append(now)
        return 0.0

    def _update(self, body: dict[str, Any]) -> dict[str, Any] | str | float:
        if body["channel"] not in self.channels.values():
            return "channel_not_found"  # an update takes the id, never the name
        found = self._standing(body["channel"], body["ts"])
        wrong = refusal(body, UPDATE)
        if found is None or wrong is not None:
            return wrong or "message_not_found"
        wait = self._hurried()
        if wait > 0:
            return wait
        found.text, found.blocks, found.metadata = body["text"], body.get("blocks", []), body.get("metadata", {})
        found.updates, found.parse = found.updates + 1, body.get("parse", "")
        return {"channel": found.channel, "ts": found.ts}

    # --- reading ------------------------------------------------------------------------------------------------------

    def _history(self, query: dict[str, str]) -> dict[str, Any] | str:
        """The newest first; replies only when the channel was shown them."""
        found = [m for m in self.messages if m.channel == query["channel"] and (m.thread_ts is None or m.broadcast)]
        return self._page(query, found[::-1])

    def _list(self, query: dict[str, str]) -> dict[str, Any] | str:
        """The channels of the kinds that are asked for; some pages are shorter than wanted, as Slack warns."""
        if query.keys() - {"types", "limit", "cursor", "exclude_archived"} or int(query["limit"]) > LISTED:
            return "invalid_arguments"
        kinds = query.get("types", "public_channel").split(",")
        if any(LISTING[kind] not in self.scopes for kind in kinds):
            return "missing_scope"
        known = [
            {"id": id_, "name": name.removeprefix("#"), "is_private": id_ in self.private}
            for name, id_ in self.channels.items()
            if ("private_channel" if id_ in self.private else "public_channel") in kinds
        ]
        begins, most = int(query.get("cursor") or 0), min(int(query["limit"]), self.listed_at_once)
        following = str(begins + most) if begins + most < len(known) else ""
        return {"channels": known[begins : begins + most], "response_metadata": {"next_cursor": following}}

    def _replies(self, query: dict[str, str]) -> dict[str, Any] | str:
        """The root, whatever is asked for, and its replies, the oldest first."""
        if self._standing(query["channel"], query["ts"]) is None:
            return "thread_not_found" if query["channel"] in self.channels.values() else "channel_not_found"
        return self._page(query, [m for m in self.messages if query["ts"] in (m.ts, m.thread_ts)])

    def _page(self, query: dict[str, str], found: list[Posted]) -> dict[str, Any] | str:
        if query["channel"] not in self.channels.values():
            return "channel_not_found"
        if query.keys() - {"channel", "ts", "oldest", "limit", "cursor", "include_all_metadata"}:
            return "invalid_arguments"
        metadata = query.get("include_all_metadata") in ("1", "true")
        asked = [m for m in found if float(m.ts) > float(query.get("oldest", "0")) or m.ts == query.get("ts")]
        begins, most = int(query.get("cursor") or 0), int(query.get("limit", "100"))
        more = begins + most < len(asked)
        shown = [m.shown(metadata=metadata) for m in asked[begins : begins + most]]
        following = {"next_cursor": str(begins + most)} if more else {}
        return {"messages": shown, "has_more": more, "response_metadata": following}

    # --- files --------------------------------------------------------------------------------------------------------

    def _give(self, query: dict[str, str]) -> dict[str, Any] | str:
        if not query.get("filename") or int(query.get("length", "0")) <= 0:
            return "invalid_arguments"
        file = f"F{next(self._numbers):06d}"
        self._files[file] = None
        return {"file_id": file, "upload_url": self.upload_at or f"{self.url}/upload/{file}"}

    async def _take(self, request: Request) -> Response:
        """Without credentials: the address itself is the permission."""
        self.calls.append("upload")
        trouble = self._trouble("upload")
        file = request.path_params["id"]
        if trouble is not None or file not in self._files or "authorization" in request.headers:
            return PlainTextResponse("no", 400 if trouble is None else trouble.status)
        self._files[file] = await request.body()
        return PlainTextResponse("OK")

    def _complete(self, body: dict[str, Any]) -> dict[str, Any] | str:
        channel, thread = body.get("channel_id", ""), body.get("thread_ts")
        if channel not in self.channels.values():
            return "channel_not_found"
        if thread is not None and self._standing(channel, thread) is None:
            return "invalid_thread_ts"
        for one in body["files"]:
            content = self._files.get(one["id"])
            if content is None:
                return "file_not_found"
            shared = Posted(channel, self._ts(), thread, "", [], {}, file=content.decode(), title=one.get("title", ""))
            self.messages.append(shared)
        return {"files": body["files"]}


async def _body(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(await request.body())
    return body


async def _query(request: Request) -> dict[str, str]:
    """The older reading methods take no JSON."""
    assert not await request.body(), "these arguments go into the query"
    return dict(request.query_params)


def _refused(error: str) -> Response:
    return JSONResponse({"ok": False, "error": error})
