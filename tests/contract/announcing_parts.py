"""Announcements to a chat that keeps them, as the audit and a pause make them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import PrivateAttr

from responder.app import App
from responder.contracts import Message, Notifier
from responder.engine.announcer import Announcer
from responder.records import Change, Keys, State, Writes


@dataclass(frozen=True)
class Puts:
    """An operation that writes what the test says."""

    id: str
    writes: Writes

    def reads(self) -> Keys:
        return Keys()

    def apply(self, state: State) -> Change[None]:
        return Change(self.writes, None)


class Chat(Notifier):
    """A chat that keeps what it is told, after it has raised what the test says."""

    kind: str = "chat"
    _said: list[str] = PrivateAttr(default_factory=list)
    _raises: list[Exception] = PrivateAttr(default_factory=list)
    _hangs: bool = PrivateAttr(default=False)

    async def send(self, message: Message) -> str:
        if self._hangs:
            await asyncio.Event().wait()
        if self._raises:
            raise self._raises.pop(0)
        self._said.append(message.text)
        return ""


@asynccontextmanager
async def announcing(app: App, waits: list[float] | None = None) -> AsyncIterator[tuple[Announcer, Chat]]:
    """An announcer whose default policy's one chat is the test's."""

    async def sleep(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)

    chat = Chat()
    announcer = Announcer(app.desk, "responder", {"console": chat}, sleep)
    yield announcer, chat
    await announcer.stop()


def without_time(lines: Iterable[str]) -> list[str]:
    return [line[12:] for line in lines]
