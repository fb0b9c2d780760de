"""Services in a simulation: parameters whose values changes really move, and written answers given out in their order.

The code of `parameter.*` runs as it is against these connections, so that draws, budgets, probes and restores are
real. Nothing here knows a parameter by its name. Not here: what is answered where no file says anything
(`assumptions`), and time, which is the caller's.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from responder.answers import CheckAnswer, Cue, Fate, Phase, Script, StepAnswer, phase_at
from responder.contracts import Parameter
from responder.errors import Permanent, Temporary, Unknown
from responder.http_calls import HttpAnswer, HttpCall
from responder.last_look import Clear, always_clear
from responder.timing import SECOND

Given = TypeVar("Given", CheckAnswer, StepAnswer)
Sleep = Callable[[float], Awaitable[None]]
ASSUMED = "assumed"
"""Stands for the place of an answer that no file gave."""


class NotSimulated(Permanent):
    """A service was asked for something that has no stand-in; whoever asked knows what to say instead."""


def nowhere(service: str) -> Any:
    """The connections of actions that only pretend. Raises NotSimulated."""
    raise NotSimulated(f"service {service} is not asked in a simulation")


# --- attempts ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Attempt:
    """One attempt: how it goes, and `change`, what it does to the world when it takes place."""

    said: StepAnswer
    assumed: bool
    change: Callable[[], None]
    happened: bool = False

    async def made(self, sleep: Sleep, *, reads: bool) -> None:
        """The attempt itself. Raises Temporary, Permanent or Unknown, as a connection would.

        The change comes before the delay: who waits in vain for an answer must reckon that it took place.
        """
        if not reads and self.said.temporary is None and self.said.refused is None:
            self._take_place()
        if self.said.delay:
            await sleep(self.said.delay / SECOND)
        if self.said.temporary is not None:
            raise Temporary(self.said.temporary)
        if self.said.refused is not None:
            raise Permanent(self.said.refused)
        if self.said.lost is not None:
            lost = f"no answer came{', assumed' if self.assumed else ''}"
            raise Temporary(lost) if reads else Unknown(lost)

    def _take_place(self) -> None:
        if self.said.lost in (None, Fate.APPLIED):
            self.happened = True
            self.change()

    @property
    def fate(self) -> Fate:
        """What a probe will find afterwards."""
        if self.happened:
            return Fate.APPLIED
        return Fate.UNCLEAR if self.said.lost is Fate.UNCLEAR else Fate.NOT_APPLIED


# --- parameters -------------------------------------------------------------------------------------------------------


class SimulatedServices:
    """The services that hold parameters. `values` are those in force; an attempt is known by its key."""

    def __init__(self, parameters: Mapping[str, Parameter], values: Mapping[str, float], sleep: Sleep) -> None:
        self.parameters = parameters
        self.values = dict(values)
        self.sleep = sleep
        self.attempts: dict[str, Attempt] = {}

    def connect(self, service: str) -> SimulatedService:
        """As `Connections.connect`."""
        return SimulatedService(self, service)

    def setter(self, parameter: str, value: float) -> Callable[[], None]:
        """What puts `value` in force."""
        return lambda: self.values.update({parameter: value})


@dataclass(frozen=True, slots=True)
class SimulatedService:
    """One service as an action sees it."""

    behind: SimulatedServices
    name: str

    @property
    def keyed(self) -> bool:
        """Whether the service honours idempotency keys; nobody relies on it here."""
        return False

    async def send(self, call: HttpCall, timeout: float, clear: Clear = always_clear) -> HttpAnswer:
        """Answer a request, or raise what a connection raises. The caller keeps the time limit."""
        if call.changes:
            await clear()
            await self.behind.attempts[call.key].made(self.behind.sleep, reads=False)
            return self._answer(call, {})
        return self._answer(call, self._body(call.path))

    def _body(self, path: str) -> dict[str, Any]:
        """What the page at `path` says: the value of every parameter that is read there."""
        body: dict[str, Any] = {}
        for name, spec in self.behind.parameters.items():
            if spec.service == self.name and spec.read.path == path and name in self.behind.values:
                *around, last = spec.read.value.split(".")
                place = body
                for part in around:
                    place = place.setdefault(part, {})
                place[last] = self.behind.values[name]
        if not body:
            raise NotSimulated(f"{self.name}: GET {path} is not asked in a simulation")
        return body

    def _answer(self, call: HttpCall, body: Mapping[str, Any]) -> HttpAnswer:
        place = f"{self.name}: {call.method} {call.path}"
        return HttpAnswer(place, 200, {"content-type": "application/json"}, json.dumps(body), call.changes)


# --- written answers --------------------------------------------------------------------------------------------------


@dataclass
class Prompter:
    """Gives the answers of a script out, each incident hearing every sequence from its beginning. Offsets are µs."""

    script: Script = field(default_factory=Script)
    _asked: dict[tuple[str, str, int], int] = field(default_factory=lambda: defaultdict(int))
    _given: set[tuple[str, int]] = field(default_factory=set)

    def check(self, incident: str, runbook: str, name: str, offset: int) -> Cue[CheckAnswer] | None:
        """The next answer of a check, None where the file says nothing (yet)."""
        key, phases = _named(self.script.checks, runbook, name)
        return self._next(("checks", key, incident), phases, offset)

    def step(self, incident: str, runbook: str, name: str, offset: int) -> Cue[StepAnswer] | None:
        """How the next attempt of a step goes, None where the file says nothing (yet)."""
        key, phases = _named(self.script.steps, runbook, name)
        return self._next(("steps", key, incident), phases, offset)

    def down(self, service: str, offset: int) -> str | None:
        """Why a service does not answer, None where it does."""
        outages = self.script.services.get(service, ())
        return next((f"{service}: {outage.down}" for outage in outages if outage.holds(offset)), None)

    def unasked(self) -> list[Cue[CheckAnswer] | Cue[StepAnswer]]:
        """The answers that nobody asked for, in the order of the file."""
        sections: tuple[tuple[str, Mapping[str, Sequence[Phase[Any]]]], ...] = (
            ("checks", self.script.checks),
            ("steps", self.script.steps),
        )
        return [
            cue
            for section, entries in sections
            for key, phases in entries.items()
            for cue in {cue.number: cue for phase in phases for cue in phase.cues}.values()
            if (f"{section}.{key}", cue.number) not in self._given
        ]

    def _next(self, place: tuple[str, str, str], phases: Sequence[Phase[Given]], offset: int) -> Cue[Given] | None:
        index = phase_at(phases, offset)
        if index is None:
            return None
        section, key, incident = place
        at = (f"{section}.{key}", incident, index)
        cues = phases[index].cues
        cue = cues[min(self._asked[at], len(cues) - 1)]
        self._asked[at] += 1
        self._given.add((f"{section}.{key}", cue.number))
        return cue


def _named(
    entries: Mapping[str, tuple[Phase[Given], ...]], runbook: str, name: str
) -> tuple[str, tuple[Phase[Given], ...]]:
    """The entry of exactly this runbook, else that of the name alone."""
    full = f"{runbook}.{name}"
    return (full, entries[full]) if full in entries else (name, entries.get(name, ()))


@dataclass
class Heard:
    """Where each answer came from: a place in the file, or ASSUMED."""

    checks: dict[tuple[str, str, int], str] = field(default_factory=dict)
    """By incident, check and the time at which it was asked (µs)."""
    attempts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By key, one place for each time that the attempt was sent."""
