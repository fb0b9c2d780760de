"""What people are told about the program itself where no incident is: it started, stops, was paused, was reloaded.

A line in the chats of the default policy, past the outbox: best effort with three tries, and nothing waits for it but a
stop, for three seconds. What must not be lost is an incident (`ingest.News`); a pause is a committed row before anybody
announces it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from responder.contracts import Message, Notifier
from responder.desk import Desk
from responder.engine.loops import Loop
from responder.errors import StoreUnavailable, Temporary
from responder.incident import Incident
from responder.records import Change, Keys, ScopeRow, State, Writes
from responder.scopes import PAUSE, Pause, pause_of
from responder.timing import SECOND, format_time

LOG = logging.getLogger("responder.engine")

WAITS: Final = (2.0, 10.0)
"""Seconds before the second and the third try."""
FAREWELL: Final = 3.0
"""Seconds that a stop waits until it is told."""
LOOK: Final = 2 * SECOND
"""How often the pause is looked at, which another replica may have set."""
ANNOUNCED: Final = "announced:pause"
"""The scope that says which pause or resumption was announced, so that one replica does it."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """Announce this switch of the pause, unless somebody does already. Answers whether it is the caller's."""

    id: str
    switch: str

    def reads(self) -> Keys:
        return Keys(scopes=frozenset({ANNOUNCED}))

    def apply(self, state: State) -> Change[bool]:
        row = state.scope(ANNOUNCED)
        if row is not None and row.body == self.switch:
            return Change(Writes(), answer=False)
        return Change(Writes(scopes=(ScopeRow(ANNOUNCED, self.switch, state.now),)), answer=True)


class Announcer:
    """See the module. `notifiers` are all that there are; a reload replaces them. Silent until `begin`."""

    def __init__(
        self,
        desk: Desk,
        instance: str,
        notifiers: Mapping[str, Notifier],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.notifiers = notifiers
        self.loop = Loop("announcements", self.watch, desk.now, LOOK)
        self._desk = desk
        self._instance = instance
        self._sleep = sleep
        self._begun = False
        self._switch: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, version: str, mode: str, taken_over: int) -> None:
        """Tell of this start, and from now on of everything else."""
        self._begun, pause = True, None
        with contextlib.suppress(StoreUnavailable):  # the emergency tells of that
            pause = await self.pause()
        if pause is not None and not pause.holds(self._desk.now()):
            pause = None
        self.say(started(version, len(self._desk.shelf.current.runbooks), mode, taken_over, pause))

    def say(self, sentence: str) -> None:
        """Tell the chats of the default policy, without waiting for it. Never raises."""
        if not self._begun:
            return
        rules, now, number = self._desk.shelf.current, self._desk.now(), self._desk.new_id()
        for name in rules.policy(rules.default_policy).chat:
            if name in self.notifiers:
                message = announcement(self._instance, sentence, f"{number}:{name}", now)
                task = asyncio.get_running_loop().create_task(self._sent(name, self.notifiers[name], message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def stop(self, sentence: str = "") -> None:
        """A last word, and at most three seconds for whatever is still to be told."""
        if sentence:
            self.say(sentence)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=FAREWELL)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def watch(self, now: int) -> int | None:
        """One pass: tell a switch of the pause since the last one, once among all replicas."""
        pause = await self.pause()
        switch = "" if pause is None else f"{pause.paused}@{pause.at}"
        before, self._switch = self._switch, switch
        if before is not None and pause is not None and switch != before and await self._mine(switch):
            self.say(switched(pause))
        return now + LOOK

    async def _mine(self, switch: str) -> bool:
        return await self._desk.submit(lambda shelf: _Claim(self._desk.new_id(), switch))

    async def pause(self) -> Pause | None:
        """The pause as it stands, or as it was when it ended."""
        rows = await self._desk.store.scopes(PAUSE)
        return next((pause_of(row.body) for row in rows if row.name == PAUSE), None)

    async def _sent(self, name: str, notifier: Notifier, message: Message) -> None:
        for wait in (*WAITS, None):
            try:
                await notifier.send(message)
                return
            except Temporary as error:
                if wait is None:
                    LOG.warning("an announcement did not reach %s: %s", name, error)
                    return
                await self._sleep(wait)
            except Exception as error:  # noqa: BLE001  a broken chat must not end the program
                LOG.warning("an announcement to %s failed: %s", name, type(error).__name__)
                return


def announcement(instance: str, sentence: str, number: str, now: int) -> Message:
    """A line of chat that belongs to no incident; what notifiers read from one is in no store."""
    incident = Incident(
        id="announcement",
        runbook=None,
        rules_hash="",
        policy="",
        target=f"responder {instance}",
        title=f"Responder {instance}",
        severity="info",
        opened_at=now,
        ladder_from=now,
        clock_from=now,
    )
    return Message(
        id=f"announcement:{number}",
        lane="thread",
        kind="thread",
        key=f"responder/{instance}/announcement",
        text=f"{format_time(now)[11:19]}    Responder {instance}: {sentence}",
        body=None,
        incident=incident,
        event=None,
        previous="",
    )


def started(version: str, runbooks: int, mode: str, taken_over: int, pause: Pause | None) -> str:
    """What is told at a start."""
    words = [f"started: version {version}, {runbooks} runbook{'' if runbooks == 1 else 's'}, mode {mode}"]
    if taken_over:
        words.append(f"goes on with {taken_over} open incident{'' if taken_over == 1 else 's'} of an earlier process")
    if pause is not None and pause.paused:
        words.append(f"automation is paused by {pause.actor} since {format_time(pause.at)[:19]}Z{_why(pause)}")
    return "; ".join(words)


def switched(pause: Pause) -> str:
    """What is told when automation was paused or acts again."""
    if pause.paused:
        return f"{pause.actor} has paused automation{_why(pause)}. People are paged as always"
    return f"{pause.actor} lets automation act again{_why(pause)}"


def _why(pause: Pause) -> str:
    until = f" until {format_time(pause.until)[:19]}Z" if pause.until is not None else ""
    return f"{until}: {pause.reason}" if pause.reason else until
