"""A trading platform and its Prometheus as connections, whose faults follow from a seed.

A request that arrived goes on although the process that sent it dies. What arrived is written down with its time and
with what it changed. Nothing that was not foreseen is answered: an unknown request is a mistake of the campaign.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from responder.contracts import Clock
from responder.errors import Temporary, Unknown
from responder.http_calls import HttpAnswer, HttpCall
from responder.last_look import Clear, always_clear
from responder.simulate import sleep
from responder.timing import SECOND
from tests.invariants import Call

KELLY = "risk-api/kelly_fraction"
HIGH, LOW, WORSE = 2.0, 0.5, 3.0
"""What a check says: something is wrong, all is well, it was made worse."""


@dataclass(frozen=True, slots=True)
class Write:
    """A change of the parameter that came into force. `key` is empty for a change by somebody else."""

    at: int
    key: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Fault:
    """How one change is answered: after `takes` seconds, done or not, with a status (0: the answer is lost)."""

    takes: float
    status: int = 200
    done: bool = True
    wrong: bool = False
    """Something else is in force than was asked for."""


GOOD = (Fault(0.0), Fault(0.0), Fault(0.05), Fault(1.0), Fault(4.0))
BAD = (
    Fault(0.0, 400, done=False), Fault(0.0, 429, done=False), Fault(0.2, 503, done=False), Fault(0.2, 503),
    Fault(0.5, 0), Fault(0.5, 0, done=False), Fault(0.5, 0), Fault(0.5, 0, done=False),
    Fault(60.0), Fault(60.0, done=False), Fault(0.1, wrong=True),
)  # fmt: skip


@dataclass
class Platform:
    """`helps`: what a change to a target does to the checks that look at it. `faulty`: of a hundred calls."""

    clock: Clock
    chance: random.Random
    faulty: int
    helps: Mapping[str, float]
    watches: Mapping[str, str]
    """Query -> the target whose changes move it."""
    kelly: float = 0.25
    values: dict[str, float | None] = field(default_factory=dict)
    dark: bool = False
    blind: bool = False
    stale: bool = False
    done: set[str] = field(default_factory=set)
    """Paths of changes that a probe sees."""
    calls: list[Call] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def connect(self, service: str) -> Connection:
        """As `Connections.connect`."""
        return Connection(self, service)

    def heal(self) -> None:
        """All goes well from now on."""
        self.faulty, self.dark, self.blind, self.stale = 0, False, False, False

    def by_hand(self, value: float) -> None:
        """Somebody sets the parameter."""
        self.writes.append(Write(self.clock(), "", self.kelly, value))
        self.kelly = value

    # --- reading ------------------------------------------------------------------------------------------------------

    async def number(self, call: HttpCall) -> dict[str, Any]:
        """An instant query."""
        await self._slow()
        if self.dark:
            raise Temporary("metrics: connection refused")
        query = str((call.form or {}).get("query"))
        if query not in self.values:
            self.unexpected.append(f"query {query}")
        value = self.values.get(query)
        now = self.clock() / SECOND - (600 if self.stale else 0)
        result = [] if value is None else [{"metric": {}, "value": [now, str(value)]}]
        return {"status": "success", "data": {"resultType": "vector", "result": result}}

    async def status(self, call: HttpCall) -> dict[str, Any]:
        """The platform's own page."""
        await self._slow()
        if self.blind:
            raise Temporary(f"risk-api: {call.path}: connection refused")
        if call.path != "/api/status":
            self.unexpected.append(f"{call.method} {call.path}")
        return {"kelly_fraction": self.kelly, "done": {path.rpartition("/")[2]: True for path in sorted(self.done)}}

    async def _slow(self) -> None:
        if self.faulty and self.chance.randrange(100) < self.faulty // 2:
            await sleep(self.chance.choice((0.3, 2.0, 30.0)))

    # --- changing -----------------------------------------------------------------------------------------------------

    async def change(self, service: str, call: HttpCall, timeout: float) -> int:
        """What it is answered. Raises Unknown when the answer is lost."""
        fault = self._fault(service, call)
        number, done = len(self.calls), fault.done and not self._repeated(service, call)
        self.calls.append(self._call(service, call, applied=done))
        if done and fault.takes:
            when = min(fault.takes, timeout) / 2
            asyncio.get_running_loop().call_later(when, self._apply, call, fault)
        elif done:
            self._apply(call, fault)
        if fault.takes:
            await sleep(fault.takes)
        if fault.status == 0:
            raise Unknown(f"{service}: {call.path}: the connection broke after sending {number}")
        return fault.status

    def _fault(self, service: str, call: HttpCall) -> Fault:
        chosen = self.chance.choice(BAD if self.chance.randrange(100) < self.faulty else GOOD)
        if chosen.wrong and not call.path.endswith("emergency-reduce"):
            return Fault(0.1)
        return chosen

    def _repeated(self, service: str, call: HttpCall) -> bool:
        return service == "keyed-api" and any(c.key == call.key and c.applied for c in self.calls)

    def _call(self, service: str, call: HttpCall, *, applied: bool) -> Call:
        body = json.dumps(call.json, sort_keys=True)
        return Call(call.method, f"{service} {call.path}", call.key, body, self.clock(), applied)

    def _apply(self, call: HttpCall, fault: Fault) -> None:
        target = KELLY if call.path.endswith("emergency-reduce") else call.path.split("/")[2]
        if target == KELLY and isinstance(call.json, dict):
            asked = float(str(call.json["kelly_fraction"]))
            value = round((asked + self.kelly) / 2, 4) if fault.wrong else asked
            self.writes.append(Write(self.clock(), call.key, self.kelly, value))
            self.kelly = value
        self.done.add(call.path)
        undone = call.path.endswith("undo")
        for query, of in self.watches.items():
            if of == target and target in self.helps:
                self.values[query] = HIGH if undone else self.helps[target]


@dataclass(frozen=True)
class Connection:
    """One service as an action sees it."""

    platform: Platform
    service: str

    @property
    def keyed(self) -> bool:
        """Whether the service honours idempotency keys."""
        return self.service == "keyed-api"

    async def send(self, call: HttpCall, timeout: float, clear: Clear = always_clear) -> HttpAnswer:
        """Answer a request, or raise what a connection raises."""
        status, body = 200, {"ok": True}
        if self.service == "metrics":
            body = await self.platform.number(call)
        elif not call.changes:
            body = await self.platform.status(call)
        else:
            await clear()
            status = await self.platform.change(self.service, call, timeout)
        place = f"{self.service}: {call.method} {call.path}"
        return HttpAnswer(
            place, status, {"content-type": "application/json"}, json.dumps(body), call.changes, self.keyed
        )
