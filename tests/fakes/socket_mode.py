"""A Slack app as its owner's program meets it: Socket Mode, addresses for answers, and windows (contracts.md D2, D3).

A ticket opens one connection, once. An envelope that was not acknowledged before its connection ended is delivered
again on another one, as Slack does.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from itertools import count
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import WSMsgType, web

from tests.fakes.slack_limits import view_refusal

APP_TOKEN: Final = "xapp-an-app-level-token-of-the-fake"
BOT: Final = "xoxb-bot"
USUAL: Final = {"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A0"}}
WITHIN: Final = 20.0
"""Seconds that a test waits for what must come."""


class FakeSlackApp:
    """`answers` are what pressers were told. What nobody expects is refused, and fails the test at its end."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = set(tokens or (APP_TOKEN,))
        self.bots = {BOT}
        self.unexpected: list[str] = []
        self.opened: list[str] = []
        """The token of each connection that was asked for, refused ones too."""
        self.links: list[web.WebSocketResponse] = []
        """The connections that stand, the newest last."""
        self.ended = 0
        """Connections that the program has closed."""
        self.acknowledged: list[str] = []
        self.payloads: dict[str, Any] = {}
        """Envelope -> what was said with its acknowledgement, None for nothing."""
        self.answers: list[dict[str, Any]] = []
        self.answer_status = 200
        self.views: list[dict[str, Any]] = []
        """The windows that have opened, as they were given."""
        self.asked: list[str] = []
        """The token of each window that was asked for, refused ones too."""
        self.url = ""
        self.held: asyncio.Event | None = None
        """Windows open when it is set."""
        self._triggers: dict[str, str] = {}
        self._view_troubles: deque[str] = deque()
        self._refusals: deque[str] = deque()
        self._nonsense: deque[str] = deque()
        self._tickets: set[str] = set()
        self._waiting: dict[str, tuple[dict[str, Any], web.WebSocketResponse]] = {}
        self._numbers = count(1)
        self._news = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        """What a notifier is configured with."""
        return f"{self.url}/api/"

    @property
    def answer_to(self) -> str:
        """A new `response_url`."""
        return f"{self.url}/actions/T0/{next(self._numbers)}"

    def trigger(self, token: str = BOT) -> str:
        """The `trigger_id` of a press: the app of this bot token can open one window by it."""
        name = f"{next(self._numbers)}.2.3"
        self._triggers[name] = token
        return name

    def refuse_view(self, error: str) -> None:
        """The next window that is asked for is refused; "cut" breaks the connection when it has opened."""
        self._view_troubles.append(error)

    def filled(self, by: str, answer_to: str = "", **values: str) -> dict[str, Any]:
        """What is sent when a person fills in the newest window: what stood there already, or these values."""
        view, state = self.views[-1], {}
        for block in view["blocks"]:
            if block["type"] == "input":
                element = block["element"]
                value = values.pop(block["block_id"], element.get("initial_value"))
                state[block["block_id"]] = {element["action_id"]: {"type": element["type"], "value": value}}
        assert not values, f"the window has no {sorted(values)}"
        return {
            "type": "view_submission",
            "team": {"id": "T0", "domain": "desk"},
            "user": {"id": by, "username": "otto", "name": "otto", "team_id": "T0"},
            "api_app_id": "A0",
            "token": "a-deprecated-verification-token",
            "trigger_id": self.trigger(),
            "view": {**view, "id": "V1", "team_id": "T0", "state": {"values": state}, "hash": "1.abc", "app_id": "A0"},
            "response_urls": [],
            "is_enterprise_install": False,
        }

    def said(self, answer: Any) -> dict[str, str]:
        """What stands below the fields of the newest window when a form is answered so; nothing: it has closed."""
        if answer is None:
            return {}
        fields = {block["block_id"] for block in self.views[-1]["blocks"] if block["type"] == "input"}
        assert set(answer) == {"response_action", "errors"}
        assert answer["response_action"] == "errors"
        assert answer["errors"].keys() <= fields, "Slack shows errors below fields alone"
        found: dict[str, str] = answer["errors"]
        assert all(found.values())
        return found

    def refuse(self, error: str, times: int = 1) -> None:
        """The next connections that are asked for are refused; none for 0 `times`, whatever was said before."""
        self._refusals = deque([*self._refusals, *[error] * times] if times else ())

    def mislead(self, body: str) -> None:
        """The next connection that is asked for is answered with this, as by a proxy that stands before Slack."""
        self._nonsense.append(body)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for it, within a time that no sound program needs."""
        async with asyncio.timeout(WITHIN), self._news:
            await self._news.wait_for(true)

    # --- what Slack does ----------------------------------------------------------------------------------------------

    async def press(self, payload: Mapping[str, Any], kind: str = "interactive") -> str:
        """Deliver on the newest connection; answers the envelope's id."""
        name = f"envelope-{next(self._numbers)}"
        takes = payload.get("type") == "view_submission"
        envelope = {"envelope_id": name, "type": kind, "payload": payload, "accepts_response_payload": takes}
        await self._deliver(name, envelope)
        return name

    async def again(self, name: str, payload: Mapping[str, Any]) -> None:
        """Deliver one once more, as after an acknowledgement that was lost."""
        await self._deliver(name, {"envelope_id": name, "type": "interactive", "payload": payload})

    async def _deliver(self, name: str, envelope: dict[str, Any]) -> None:
        self._waiting[name] = envelope, self.links[-1]
        await self.links[-1].send_json(envelope)

    async def _deliver_again(self) -> None:
        """What nobody has acknowledged on a connection that is over."""
        for name, (envelope, link) in list(self._waiting.items()):
            if self.links and link not in self.links:
                await self._deliver(name, {**envelope, "retry_attempt": 1})

    async def say(self, text: str) -> None:
        """Send what is no envelope."""
        await self.links[-1].send_str(text)

    async def recycle(self, reason: str = "refresh_requested") -> None:
        """Ask for another connection in the place of the newest."""
        await self.links[-1].send_json({"type": "disconnect", "reason": reason, "debug_info": {}})

    def cut(self) -> None:
        """Break every connection, as a network does: nobody says so."""
        for link in self.links:
            transport = link._req.transport if link._req is not None else None
            if transport is not None:
                transport.abort()

    # --- serving ------------------------------------------------------------------------------------------------------

    async def _open(self, request: web.Request) -> web.Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        await self._note(lambda: self.opened.append(token))
        if self._nonsense:
            return web.Response(text=self._nonsense.popleft(), content_type="application/json")
        if self._refusals:
            return web.json_response({"ok": False, "error": self._refusals.popleft()})
        if token not in self.tokens:
            return web.json_response({"ok": False, "error": "invalid_auth"})
        ticket = f"ticket-{next(self._numbers)}"
        self._tickets.add(ticket)
        return web.json_response({"ok": True, "url": f"{self.url.replace('http', 'ws')}/link?ticket={ticket}"})

    async def _view(self, request: web.Request) -> web.Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        await self._note(lambda: self.asked.append(token))
        body = await request.json()
        if self.held is not None:
            await self.held.wait()
        trouble = self._view_troubles.popleft() if self._view_troubles else ""
        own = self._triggers.get(body.get("trigger_id", ""))
        wrong = view_refusal(body) or self._not_to_be_opened(token, own)
        if trouble not in ("", "cut") or wrong:
            return web.json_response({"ok": False, "error": wrong or trouble})
        self._triggers[body["trigger_id"]] = ""
        await self._note(lambda: self.views.append(body["view"]))
        if trouble and request.transport is not None:
            request.transport.abort()
        return web.json_response({"ok": True, "view": body["view"]})

    def _not_to_be_opened(self, token: str, own: str | None) -> str:
        if token not in self.bots:
            return "invalid_auth"
        if own == "":
            return "exchanged_trigger_id"
        return "" if own == token else "invalid_trigger_id"

    async def _link(self, request: web.Request) -> web.StreamResponse:
        ticket = request.query.get("ticket", "")
        if ticket not in self._tickets:
            self.unexpected.append("a connection without a fresh ticket")
            return web.Response(status=403)
        self._tickets.discard(ticket)
        link = web.WebSocketResponse()
        await link.prepare(request)
        await link.send_json(USUAL)
        await self._note(lambda: self.links.append(link))
        await self._deliver_again()
        try:
            async for message in link:
                await self._said(message.type, message.data)
        finally:
            await self._note(lambda: self._over(link))
            await self._deliver_again()
        return link

    def _over(self, link: web.WebSocketResponse) -> None:
        self.links.remove(link)
        self.ended += 1

    async def _said(self, kind: WSMsgType, data: str) -> None:
        said = json.loads(data)
        name = said["envelope_id"]
        envelope, _ = self._waiting.pop(name, (None, None))
        if envelope is None or said.keys() - {"envelope_id", "payload"}:
            self.unexpected.append(f"an acknowledgement of {name}")
        elif "payload" in said and not envelope.get("accepts_response_payload"):
            self.unexpected.append(f"an answer to {name}, which takes none")
        await self._note(lambda: self._took(name, said.get("payload")))

    def _took(self, name: str, payload: Any) -> None:
        self.acknowledged.append(name)
        self.payloads[name] = payload

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.keys() - {"response_type", "replace_original", "text", "thread_ts"} or not body["text"]:
            self.unexpected.append(f"an answer of {sorted(body)}")
        await self._note(lambda: self.answers.append(body))
        moved = {"location": f"{self.url}/elsewhere"} if 300 <= self.answer_status < 400 else {}
        return web.Response(status=self.answer_status, text="ok", headers=moved)

    async def _refuse(self, request: web.Request) -> web.Response:
        self.unexpected.append(f"{request.method} {request.path}")
        return web.Response(status=404)

    async def _note(self, done: Callable[[], None]) -> None:
        async with self._news:
            done()
            self._news.notify_all()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/api/apps.connections.open", self._open)
        app.router.add_post("/api/views.open", self._view)
        app.router.add_get("/link", self._link)
        app.router.add_post("/actions/T0/{number}", self._answer)
        app.router.add_route("*", "/{path:.*}", self._refuse)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
        if error is None:
            assert not self.unexpected, f"nobody expected this: {self.unexpected}"
