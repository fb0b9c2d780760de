"""What comes to a simulated process from outside: notifications of Alertmanager, words of people, the pause.

Every method is one request to the process that lives at its moment, and dies with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from responder.alert import Limits, fingerprint, parse_notification
from responder.commands import Command, SetPause, pending_approval
from responder.contracts import Clock
from responder.desk import Desk, Shelf
from responder.errors import Rejected
from responder.facts import ApprovalAsked
from responder.incident import Incident
from responder.ingest import Bury, Doubtful, Ingest
from responder.people_folds import held_by_calendar
from responder.recorded import StepStatus
from responder.records import NotificationRow, Operation
from responder.timing import format_time
from tests.campaigns.rule_seeds import PEOPLE
from tests.invariants import Accepted

BOUNDS = Limits()
NO_TIME = "0001-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Paused:
    """The pause of a scope was switched, on or off. `place`: how many events had been written by then."""

    at: int
    scope: str
    paused: bool
    place: int


class Edge:
    """See the module. `desk` answers that of the process that lives now, `place` how many events are written."""

    def __init__(self, clock: Clock, desk: Callable[[], Desk], place: Callable[[], int]) -> None:
        self.accepted: list[Accepted] = []
        self.paused: list[Paused] = []
        self._clock = clock
        self._desk = desk
        self._place = place
        self._started: dict[str, int] = {}

    # --- alerts -------------------------------------------------------------------------------------------------------

    async def fires(self, truncated: int = 0, **alert: str) -> None:
        """One alert fires."""
        await self._post([self._entry(_labels(alert), firing=True)], truncated)

    async def resolves(self, truncated: int = 0, **alert: str) -> None:
        """One alert resolves, whether it has fired or not."""
        await self._post([self._entry(_labels(alert), firing=False)], truncated)

    async def both(self, truncated: int = 0, **alert: str) -> None:
        """One resolves and another of its name fires, in one notification."""
        fires, ends = said("both", alert)
        entries = [self._entry(labels, firing=False) for labels in ends]
        await self._post([*entries, *(self._entry(labels, firing=True) for labels in fires)], truncated)

    async def all_resolve(self) -> None:
        """Whatever fires in an incident resolves."""
        rows = await self._desk().store.incidents()
        ends = [self._entry(dict(e.labels), firing=False) for row in rows for e in row.fold.firing]
        if ends:
            await self._post(ends, 0)

    async def garbage(self) -> None:
        """A body that nobody can read."""
        await self._submit(lambda desk: lambda shelf: Bury(desk.new_id(), "simulation", "not JSON", b"{", shelf))

    def _entry(self, labels: Mapping[str, str], *, firing: bool) -> dict[str, Any]:
        known, now = fingerprint(labels), self._clock()
        started = self._started.setdefault(known, now)
        if not firing:
            self._started.pop(known)
        times = {"startsAt": format_time(started), "endsAt": NO_TIME if firing else format_time(now)}
        status = "firing" if firing else "resolved"
        return {"status": status, "labels": labels, "annotations": {}, "fingerprint": known, **times}

    async def _post(self, entries: list[dict[str, Any]], truncated: int) -> None:
        head = {"version": "4", "receiver": "responder", "groupKey": "simulated", "truncatedAlerts": truncated}
        body = json.dumps({**head, "alerts": entries}).encode()
        notification, desk = parse_notification(body, BOUNDS), self._desk()
        name = desk.new_id()
        row = NotificationRow(name, "live", 0, "simulation", "responder", "simulated", len(entries), truncated, body)
        try:
            received = await desk.submit(lambda shelf: Ingest(name, notification, row, shelf, desk.worker))
        except Doubtful as doubtful:  # nobody can be asked, so it counts as firing
            asked = doubtful.fingerprints
            received = await desk.submit(lambda shelf: Ingest(name, notification, row, shelf, desk.worker, asked))
        self.accepted += [Accepted(entry["status"], (entry["fingerprint"],)) for entry in entries]
        desk.take(received.turns)

    # --- people -------------------------------------------------------------------------------------------------------

    async def person(self, verb: str, actor: str, which: int, **more: Any) -> None:
        """Somebody says something about one of the incidents; what makes no sense is refused, and they know it."""
        found = [row.fold for row in await self._desk().store.incidents()]
        if not found:
            return
        fitting = [incident for incident in found if _FITS.get(verb, _any)(incident)] or found
        incident = fitting[which % len(fitting)]
        if verb == "approve":
            asked = pending_approval(incident)
            more["plan"] = None if asked is None else asked.plan
        elif verb == "approve_earlier":
            verb, more["plan"] = "approve", await self._first_plan(incident.id)
        await self._says(verb, actor, incident.id, **more)

    async def does_by_hand(self) -> bool:
        """Every manual step that is asked for is done. Answers whether there was one."""
        rows = await self._desk().store.incidents()
        asked = [row.id for row in rows if _asks(row.fold)]
        for name in asked:
            await self._says("done", "alice", name)
        return bool(asked)

    async def answers(self) -> None:
        """Whoever is asked says yes."""
        for row in await self._desk().store.incidents():
            asked = pending_approval(row.fold)
            for actor in PEOPLE if asked is not None else ():
                await self._says("approve", actor, row.id, plan=asked.plan if asked is not None else None)

    async def settle(self, *, applied: bool) -> None:
        """Somebody says of every unknown change whether it happened."""
        for row in await self._desk().store.incidents():
            for attempt in row.fold.unsettled:
                await self._says("settle", "bob", row.id, attempt=attempt.id, applied=applied)

    async def _says(self, verb: str, actor: str, incident: str, **more: Any) -> None:
        try:
            await self._submit(
                lambda desk: (
                    lambda shelf: Command(
                        desk.new_id(), incident, verb, actor, shelf, desk.worker, note="because", **more
                    )
                )
            )
        except Rejected:
            return

    async def _first_plan(self, incident: str) -> str | None:
        events = await self._desk().store.events(incident)
        return next((e.fact.plan for e in events if isinstance(e.fact, ApprovalAsked)), None)

    async def pause(self, scope: str, *, paused: bool = True) -> None:
        """Somebody switches automation off, or a part of it."""
        desk = self._desk()
        await desk.submit(lambda shelf: SetPause(desk.new_id(), paused, "alice", "because", shelf, scope))
        self.paused.append(Paused(self._clock(), scope, paused, self._place()))

    async def resume(self, scope: str) -> None:
        """Somebody switches it on again."""
        await self.pause(scope, paused=False)

    async def _submit(self, make: Callable[[Desk], Callable[[Shelf], Operation[Any]]]) -> None:
        desk = self._desk()
        desk.take((await desk.submit(make(desk)),))


def _any(incident: Incident) -> bool:
    return True


def _asks(incident: Incident) -> bool:
    """A manual step waits for somebody."""
    run = incident.active_run
    return run is not None and any(step.status is StepStatus.ASKED for step in run.steps)


_FITS: Mapping[str, Callable[[Incident], object]] = {
    "approve": pending_approval,
    "approve_earlier": pending_approval,
    "deny": pending_approval,
    "done": _asks,
    "settle": lambda incident: incident.unsettled,
    "cancel": lambda incident: incident.active_run,
    "override": lambda incident: incident.run is not None and held_by_calendar(incident.run),
}
"""Whom a word is about where it makes sense; where it makes none it is said about any."""


Labels = Mapping[str, str]


def said(what: str, alert: Mapping[str, Any]) -> tuple[tuple[Labels, ...], tuple[Labels, ...]]:
    """What fires and what ends when an alert fires, resolves, or both: another one of its name comes instead of it."""
    this = _labels(alert)
    if what == "both":
        return ({**this, "instance": "b" if this["instance"] == "a" else "a"},), (this,)
    return ((this,), ()) if what in ("fires", "fire") else ((), (this,))


def _labels(alert: Mapping[str, str]) -> dict[str, str]:
    return {"alertname": alert["name"], "severity": alert["severity"], "instance": alert["instance"]}
