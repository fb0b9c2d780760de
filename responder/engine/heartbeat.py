"""Heartbeats, both ways: the pass that misses those that must come in, and the pings that tell others that we live.

An outside dead-man's switch hears from us only while the self-audit is clean and a write succeeds at that very moment:
a process that is wedged, or that can record nothing, falls silent, and the switch pages (reliability.md S19). A ping
that fails is logged and counted, and holds nothing up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from responder.connections import HttpConnection, OpenTransport
from responder.desk import Desk
from responder.errors import ResponderError
from responder.heartbeat_settings import DeadMansSwitch, Expected
from responder.heartbeats import FLUSH, SCOPE, Beat, Forgotten, Heard, Hearing, Missed, beats, missing_from
from responder.http_calls import HttpCall
from responder.services import HttpService
from responder.timing import SECOND

LOG = logging.getLogger("responder.engine")

PATIENCE: Final = 10.0
"""Seconds for the answer to a ping."""
AGAIN: Final = 10 * SECOND
"""How soon a ping that was withheld or failed is tried again."""
MAX_ANSWER: Final = 16_384


class Heartbeats:
    """Those that must come in. `beats` is what was known at the last pass, by name."""

    def __init__(self, desk: Desk, hearing: Hearing) -> None:
        self.beats: Mapping[str, Beat] = {}
        self._desk = desk
        self._hearing = hearing
        self._written: dict[str, int] = {}

    async def work(self, now: int) -> int | None:
        """One pass. Answers when to look again (µs)."""
        rows = await self._desk.store.scopes(SCOPE)
        known = dict(beats((row.name, row.body) for row in rows))
        expected = self._hearing.expected
        for name in known.keys() - {e.name for e in expected}:
            await self._forget(name)
        self.beats = {e.name: await self._looked_at(e, known.get(e.name, Beat()), now) for e in expected}
        return now + FLUSH if expected else None

    async def _forget(self, name: str) -> None:
        await self._desk.submit(lambda shelf: Forgotten(self._desk.new_id(), name, shelf))

    async def _looked_at(self, expected: Expected, known: Beat, now: int) -> Beat:
        heard, since = self._hearing.heard(expected.name), self._hearing.since(expected.name)
        beat = known.after(heard)
        if beat != known and self._worth_writing(expected.name, beat, now):
            beat = await self._desk.submit(lambda shelf: Heard(self._desk.new_id(), expected, heard, shelf))
            self._written[expected.name] = now
        if beat.missing is None and now >= missing_from(expected, beat, since):
            turn = await self._desk.submit(lambda shelf: Missed(self._desk.new_id(), expected, heard, since, shelf))
            if turn is not None:
                LOG.error("%s is missing: alerts may not arrive", expected.title)
                self._desk.take((turn,))
        return beat

    def _worth_writing(self, name: str, beat: Beat, now: int) -> bool:
        """At once when it ends or is back, else every few seconds."""
        return beat.resolved or beat.missing is not None or now - self._written.get(name, 0) >= FLUSH


# --- outwards ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pinged:
    """How a switch stands: when it last took a ping, and what is wrong since then ("" for nothing)."""

    taken: int | None = None
    wrong: str = ""


class Pings:
    """See the module. `proven` answers why nothing may be sent now, "" when it may; `counted` is told each result."""

    def __init__(
        self,
        switches: Sequence[DeadMansSwitch],
        proven: Callable[[], Awaitable[str]],
        counted: Callable[[str], None],
        opener: OpenTransport,
    ) -> None:
        self.state: dict[str, Pinged] = {}
        self._proven = proven
        self._counted = counted
        self._opener = opener
        self._switches: tuple[DeadMansSwitch, ...] = ()
        self._due: dict[str, int] = {}
        self.replace(switches)

    def replace(self, switches: Sequence[DeadMansSwitch]) -> None:
        """After a reload: these."""
        self._switches = tuple(switches)
        self.state = {s.name: self.state.get(s.name, Pinged()) for s in switches}
        self._due = {s.name: self._due[s.name] for s in switches if s.name in self._due}

    async def work(self, now: int) -> int | None:
        """One pass. Answers when the next ping is due (µs)."""
        due = [s for s in self._switches if self._due.get(s.name, 0) <= now]
        if due:
            why = await self._proven()
            if why:
                for switch in due:
                    self._is_wrong(switch, f"withheld: {why}", "withheld", now)
            else:
                await asyncio.gather(*(self._pinged(switch, now) for switch in due))
        return min((self._due.get(s.name, 0) for s in self._switches), default=None)

    async def _pinged(self, switch: DeadMansSwitch, now: int) -> None:
        wrong = await self._called(switch)
        if wrong:
            self._is_wrong(switch, wrong, "failed", now)
            return
        if self.state[switch.name].wrong:
            LOG.info("the heartbeat to %s is taken again", switch.name)
        self.state[switch.name] = Pinged(taken=now)
        self._due[switch.name] = now + switch.every
        self._counted("taken")

    async def _called(self, switch: DeadMansSwitch) -> str:
        """Ping it; answers what went wrong. The path of such an address is its secret, so nobody is told of it."""
        parts = urlsplit(switch.url)
        service = HttpService(url=f"{parts.scheme}://{parts.netloc}", connections=1, max_response_bytes=MAX_ANSWER)
        path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        # A connection of its own each time: it proves the whole way, the name and the certificate too.
        connection = HttpConnection("the switch", service, self._opener)
        try:
            answer = await connection.send(HttpCall(switch.method, path, reads=True), PATIENCE)
        except ResponderError as error:
            return str(error).replace(f": {switch.method} {parts.path[:200] or '/'}", "")
        finally:
            await connection.close()
        good = 200 <= answer.status < 300
        return "" if good else f"the switch answers {answer.status}: see its address in heartbeats.send"

    def _is_wrong(self, switch: DeadMansSwitch, said: str, result: str, now: int) -> None:
        before = self.state[switch.name]
        if before.wrong != said:
            LOG.error("the heartbeat to %s: %s", switch.name, said)
        self.state[switch.name] = Pinged(before.taken, said)
        self._due[switch.name] = now + min(switch.every, AGAIN)
        self._counted(result)
