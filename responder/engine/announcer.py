"""What people are told about the program itself where no incident is: it started, stops, was paused, was reloaded.

A line in the chats of all policies, past the outbox: best effort with three tries, and nothing waits for it but a
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
from responder.rules import Rules
from responder.scopes import PAUSES, Pause, pause_of, paused_what
from responder.timing import SECOND, format_time

LOG = logging.getLogger("responder.engine")

WAITS: Final = (2.0, 10.0)
"""Seconds before the second and the third try."""
FAREWELL: Final = 3.0
"""Seconds that a stop waits until it is told."""
LONGEST: Final = 500
"""Characters that are told of why a reload was refused."""
LOOK: Final = 2 * SECOND
"""How often the pause is looked at, which another replica may have set."""
ANNOUNCED: Final = "announced:"
"""What the scope begins with that says which switch of a pause was announced, so that one replica does it."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """Announce this switch of a pause, unless somebody does already. Answers whether it is the caller's."""

    id: str
    pause: str
    switch: str

    @property
    def _scope(self) -> str:
        return f"{ANNOUNCED}{self.pause}"

    def reads(self) -> Keys:
        return Keys(scopes=frozenset({self._scope}))

    def apply(self, state: State) -> Change[bool]:
        row = state.scope(self._scope)
        if row is not None and row.body == self.switch:
            return Change(Writes(), answer=False)
        return Change(Writes(scopes=(ScopeRow(self._scope, self.switch, state.now),)), answer=True)


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
        self._switches: dict[str, str] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, version: str, mode: str, taken_over: int) -> None:
        """Tell of this start, and from now on of everything else."""
        self._begun, known = True, dict[str, Pause]()
        with contextlib.suppress(StoreUnavailable):  # the emergency tells of that
            known = await self.pauses()
        held = {name: pause for name, pause in known.items() if pause.holds(self._desk.now())}
        self.say(started(version, len(self._desk.shelf.current.runbooks), mode, taken_over, held))

    def say(self, sentence: str) -> None:
        """Tell the chats of all policies, without waiting for it. Never raises."""
        if not self._begun:
            return
        now, number = self._desk.now(), self._desk.new_id()
        for name in chats(self._desk.shelf.current, self.notifiers):
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
        """One pass: tell each switch of a pause since the last one, once among all replicas."""
        known = await self.pauses()
        switches = {name: _switch(pause, now) for name, pause in known.items()}
        before, self._switches = self._switches, switches
        for name, switch in switches.items():
            if before is not None and switch != before.get(name, "") and await self._mine(name, switch):
                self.say(switched(paused_what(name), known[name], now))
        return now + LOOK

    async def _mine(self, pause: str, switch: str) -> bool:
        return await self._desk.submit(lambda shelf: _Claim(self._desk.new_id(), pause, switch))

    async def pauses(self) -> dict[str, Pause]:
        """Every pause, of all, a runbook or a service, by its scope: as it stands, or as it was when it ended."""
        found = ((row.name, pause_of(row.body)) for row in await self._desk.store.scopes(PAUSES))
        return {name: pause for name, pause in found if pause is not None}

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


def chats(rules: Rules, notifiers: Mapping[str, Notifier]) -> tuple[str, ...]:
    """Whom announcements go to: the chats of all policies, each place once; the console only where it is alone."""
    named = dict.fromkeys(name for policy in rules.policies.values() for name in policy.chat if name in notifiers)
    places = {notifiers[name].model_dump_json(): name for name in reversed(named)}
    own = tuple(name for name in named if name in places.values())
    return tuple(name for name in own if notifiers[name].kind != "console") or own


def started(version: str, runbooks: int, mode: str, taken_over: int, pauses: Mapping[str, Pause]) -> str:
    """What is told at a start. `pauses`: those that hold, by their scopes."""
    words = [f"started: version {version}, {runbooks} runbook{'' if runbooks == 1 else 's'}, mode {mode}"]
    if taken_over:
        words.append(f"goes on with {taken_over} open incident{'' if taken_over == 1 else 's'} of an earlier process")
    for name, pause in pauses.items():
        since = f"since {format_time(pause.at)[:19]}Z{_why(pause)}"
        words.append(f"{paused_what(name)} is paused by {pause.actor} {since}")
    return "; ".join(words)


def _switch(pause: Pause, now: int) -> str:
    """What a pause is at: nobody writes its row when it ends by itself."""
    ran_out = pause.paused and not pause.holds(now)
    return f"{pause.paused}@{pause.at}{' ran out' if ran_out else ''}"


def switched(what: str, pause: Pause, now: int) -> str:
    """What is told when automation, or what the pause is about, was paused or acts again."""
    if pause.paused and not pause.holds(now):
        return f"{what} acts again: the pause by {pause.actor} has run out{f': {pause.reason}' if pause.reason else ''}"
    if pause.paused:
        return f"{pause.actor} has paused {what}{_why(pause)}. People are paged as always"
    return f"{pause.actor} lets {what} act again{_why(pause)}"


def not_reloaded(error: Exception) -> str:
    """What is told when new rules or a new configuration were refused: the first line, the rest is in the log."""
    first = next(iter(str(error).splitlines()), type(error).__name__)
    return (
        f"a reload was refused, and the rules and settings from before go on: {first[:LONGEST]}; see `responder lint`"
    )


def _why(pause: Pause) -> str:
    until = f" until {format_time(pause.until)[:19]}Z" if pause.until is not None else ""
    return f"{until}: {pause.reason}" if pause.reason else until
