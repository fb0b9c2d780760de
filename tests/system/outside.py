"""What is outside the responder and must not die with it: the demo platform, and the wires of Slack and PagerDuty.

They run in a thread with a loop of its own, so that a test may poll and wait in plain code. What they recorded is read
from the test's thread: lists that only grow.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from responder.demo.ending import HALT, REDUCE
from responder.demo.hosting import address_of, bound, hosted, url_of
from responder.demo.platform import PlatformSettings, create_platform
from responder.demo.scenario import STRESS, Scenario
from tests.fakes.pagerduty import FakePagerDuty
from tests.fakes.slack import FakeSlack

TOKEN = "the-platforms-own-token"
CHANNEL = "trading-alerts"
STARTS_WITHIN = 30.0


class Withholding:
    """The platform, whose answer to a cut can be kept back: it has happened, and nobody has been told."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.released = asyncio.Event()
        self.released.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def late(message: Message) -> None:
            await self.released.wait()
            await send(message)

        await self._app(scope, receive, late if scope.get("path") == REDUCE else send)


class Outside:
    """A context manager; everything listens on loopback."""

    slack: FakeSlack
    pagerduty: FakePagerDuty

    def __init__(self) -> None:
        self._listener = bound()
        self.address = address_of(self._listener)
        self.url = url_of(self._listener)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="outside")
        self._stack = AsyncExitStack()
        self._client = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False)
        self._before = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self.answer()
        self._do(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._platform = Withholding(create_platform(PlatformSettings(token=TOKEN, time_constant=0.5), time.monotonic))
        await self._stack.enter_async_context(hosted(self._platform, self._listener))
        self.slack = await self._stack.enter_async_context(FakeSlack(**{CHANNEL: "C0TRADING"}))
        self.pagerduty = await self._stack.enter_async_context(FakePagerDuty())

    def _do(self, work: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(STARTS_WITHIN)

    # --- the platform -------------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """As on a quiet day, with nothing told and an empty ledger, whatever an earlier test left."""
        self.answer()
        self._post("/demo/stress", {"factor": 1.0, "responds": True})
        self._post(REDUCE, {"kelly_fraction": 0.25, "reason": "as on a quiet day"})
        self._post("/api/start-trading", {})
        self._before = len(self._ledger())
        self.slack.messages.clear()
        self.pagerduty.pages.clear()
        self.pagerduty.events.clear()

    def breach(self, scenario: Scenario = Scenario.VAR_BREACH) -> None:
        """VaR rises above its alert."""
        self._post("/demo/stress", STRESS[scenario].model_dump())

    def withhold(self) -> None:
        """From now on a cut happens, and its answer waits for `answer`."""
        self._loop.call_soon_threadsafe(self._platform.released.clear)

    def answer(self) -> None:
        """Whoever waits for an answer gets it."""
        self._loop.call_soon_threadsafe(self._platform.released.set)

    @property
    def changes(self) -> list[str]:
        """The paths of the changing calls since the quiet day, in their order."""
        return [call["path"] for call in self._ledger()[self._before :]]

    @property
    def status(self) -> dict[str, Any]:
        """The platform's own view."""
        return dict(self._client.get("/api/status").raise_for_status().json())

    def _ledger(self) -> list[dict[str, Any]]:
        return list(self._client.get("/demo/ledger").raise_for_status().json()["calls"])

    def _post(self, path: str, body: dict[str, Any]) -> None:
        self._client.post(path, json=body).raise_for_status()


__all__ = ["CHANNEL", "HALT", "REDUCE", "TOKEN", "Outside"]
