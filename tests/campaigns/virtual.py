"""Where campaigns are played: the engine in virtual time, before destinations that keep a pace, take time and fail.

A stand-in composes as the notifier does whose place it takes, keeps its pace, burst, merging and what it passes over,
and answers after the time that a call takes. What arrives is written down without the incident's state.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import PrivateAttr

from responder.actions import ACTIONS
from responder.config import Config, read_config
from responder.contracts import Bucket, Clock, Message, Notifier
from responder.desk import Desk, Shelf
from responder.draft import Worker
from responder.engine.delivery import Destinations
from responder.environment import Environment
from responder.errors import Temporary
from responder.loader import load_rules
from responder.perform import Performer
from responder.records import IncidentRow, Lane, MessageRow
from responder.rules import Rules
from responder.simulate import Recorder, Scene, Simulation, _Life, sleep
from responder.sources import shipped_rules
from responder.store import Store
from responder.timing import SECOND
from tests.acceptance.stage import CATALOGUE, START, templates
from tests.acceptance.world import World
from tests.invariants import Case, Ledger, Sent, judge, read_found


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that a destination took."""

    at: int
    destination: str
    kind: str
    key: str
    id: str
    incident: str
    channel: str
    severity: str
    created_at: int
    held: bool
    """Somebody had acknowledged, snoozed or taken over the incident when it was sent."""
    closed: bool
    lines: int
    counted: Bucket
    """The limit that counts it."""


@dataclass(slots=True)
class Wire:
    """How a destination behaves: `latency` (µs) of a call; down between two times (µs), refusing after `hangs` µs."""

    latency: int = 0
    down_from: int = 0
    down_until: int = 0
    hangs: int = 0
    refuses: str = ""
    """Of targets that begin so it never takes a message, as a receiver does that breaks over what one says."""
    paced: bool = True
    """It keeps the pace of the notifier whose place it takes."""
    tries: int = 0
    """Calls that failed."""


class Standing(Recorder):
    """See the module; its class variables are those of the notifier whose place it takes."""

    _wire: Wire = PrivateAttr(default_factory=Wire)
    _clock: Clock = PrivateAttr()
    _arrives: Callable[[Message], None] = PrivateAttr()

    @classmethod
    def for_one(cls, notifier: Notifier, wire: Wire, clock: Clock, arrives: Callable[[Message], None]) -> Standing:
        """The stand-in of `notifier`."""
        kept = {
            "pace": notifier.pace if wire.paced else 0,
            "burst": notifier.burst,
            "merges": notifier.merges,
            "__module__": __name__,
        }
        made: Standing = type(cls.__name__, (cls,), kept)()
        made._stands_for, made._wire, made._clock, made._arrives = notifier, wire, clock, arrives
        made._says = lambda key: None
        return made

    def passes_over(self, template: str, sent: bool) -> bool:
        """See Notifier.passes_over."""
        return self._stands_for.passes_over(template, sent)

    def bucket(self, name: str, incident: Any, template: str, *, sent: bool) -> Bucket:
        """See Notifier.bucket."""
        bucket = self._stands_for.bucket(name, incident, template, sent=sent)
        return bucket if self._wire.paced else replace(bucket, pace=0)

    async def send(self, message: Message) -> str:
        """Taken after the wire's latency, or refused as it says."""
        wire = self._wire
        poison = bool(wire.refuses) and message.incident.target.startswith(wire.refuses)
        if poison or wire.down_from <= self._clock() < wire.down_until:
            wire.tries += 1
            if wire.hangs:
                await sleep(wire.hangs / SECOND)
            raise Temporary("it cannot be reached")
        if wire.latency:
            await sleep(wire.latency / SECOND)
        self._arrives(message)
        return '{"simulated": true}'


class Remembered:
    """What delivery reads again at every pass, kept until an operation changes it: else waiting takes hours.

    Stands in for two reads of the store, and looks at what every operation touched. What is read stays the same.
    """

    def __init__(self, store: Store) -> None:
        self._store: Any = store
        self._known: dict[str, dict[str, Any]] = defaultdict(dict)
        reads: Any
        groups: Any
        reads, groups = self._store._reads, self._store._groups
        self._incident, self._message, self._operate = reads.incident, reads.message, groups.run
        reads.incident, reads.message, groups.run = self._one_incident, self._one_message, self._run

    def _one_incident(self, name: str) -> Any:
        known = self._known[name]
        if "" not in known:
            known[""] = self._incident(name)
        return known[""]

    def _one_message(self, name: str) -> Any:
        known = self._known[name.partition(":")[0]]
        if name not in known:
            known[name] = self._message(name)
        return known[name]

    def _run(self, operations: Sequence[Any]) -> Any:
        result = self._operate(operations)
        touched = {name for committed in result.committed for name in committed.incidents}
        for one in operations:
            rows = getattr(one, "messages", None) or (getattr(one, "message", None),)
            touched |= {row.incident for row in rows if row is not None}
        for name in touched:
            self._known.pop(name, None)
        return result


class Played(Simulation):
    """A simulation before wires. `wires`: by the names of notifiers; the others take everything at once."""

    def __init__(self, rules: Rules, config: Config, wires: Mapping[str, Wire]) -> None:
        self.wires = {name: wires.get(name, Wire()) for name in config.notifiers}
        self.arrivals: list[Arrival] = []
        scene = Scene(
            rules=rules,
            parameters=config.parameters,
            notifiers=config.notifiers,
            render=templates().render,
            performs=lambda clock: Performer(ACTIONS, World(clock).connect, config.parameters, clock, sleep),
            start=START,
        )
        super().__init__(scene)
        Remembered(self.store)

    def boot(self) -> None:
        """As in Simulation, with the stand-ins of this module."""
        worker = Worker(f"life-{next(self._numbers)}", alone=True)
        shelf = Shelf(self._rules, self.scene.instance, self.scene.parameters)
        desk = Desk(self.store, shelf, worker, self._new_id, self._read_rules)
        stands = {name: self._standing(name, one) for name, one in self.scene.notifiers.items()}
        life = _Life(desk, self.performs, Destinations(stands, self.scene.render, None), None)
        self._life = life
        self._run(life.begin())
        self._settle()

    def _standing(self, name: str, notifier: Notifier) -> Standing:
        return Standing.for_one(notifier, self.wires[name], self.clock, lambda message: self._arrived(name, message))

    def _arrived(self, name: str, message: Message) -> None:
        incident = message.incident
        self.arrivals.append(
            Arrival(
                at=self.clock(),
                destination=name,
                kind=message.kind,
                key=message.key,
                id=message.id,
                incident=incident.id,
                channel=incident.channel or "",
                severity=incident.severity or "",
                created_at=0 if message.event is None else message.event.at,
                held=bool(incident.acknowledged or incident.snoozed or incident.taken_over),
                closed=incident.closed,
                lines=len(message.lines),
                counted=self.scene.notifiers[name].bucket(name, incident, message.kind, sent=bool(message.previous)),
            )
        )

    @property
    def waits(self) -> bool:
        """Something is still to be sent."""
        return self._run(self.store.next_message_due()) is not None

    def incident_of(self, target: str) -> str:
        """The id of the newest incident of a target."""
        (row,) = self._run(self.store.incidents(None, target, 1))
        return row.id

    def violations(self) -> list[str]:
        """What the one checker says about the store and what arrived."""
        told = tuple(Sent(a.destination, a.kind, a.key, a.id, a.at) for a in self.arrivals)
        found = self._run(read_found(self.store, Ledger(messages=told)))
        arrived = {a.id for a in self.arrivals}
        cases = tuple(
            replace(case, messages=tuple(self._expected(case, arrived)), row=_without_words(case.row))
            for case in found.cases
        )
        return judge(replace(found, cases=cases))

    def _expected(self, case: Case, arrived: set[str]) -> Iterator[MessageRow]:
        """What a destination passes over arrives nowhere; of lines that left together the first arrives."""
        together = {
            (row.order_key, row.sent_at) for row in case.messages if row.id in arrived and row.lane is Lane.THREAD
        }
        for row in case.messages:
            notifier = self.scene.notifiers[row.destination]
            silent = any(notifier.passes_over(row.template, sent) for sent in (False, True))
            merged = row.id not in arrived and (row.order_key, row.sent_at) in together
            if not silent and not merged:
                yield row


def _without_words(row: IncidentRow) -> IncidentRow:
    """What people are told about a timer stands in the agenda alone, not in the timer's row."""
    agenda = tuple(due.model_copy(update={"what": ""}) for due in row.fold.agenda)
    return replace(row, fold=row.fold.model_copy(update={"agenda": agenda}))


SETTINGS = """
mode: auto
notifiers:
  room: {kind: slack, token: {env: T}, channel: '#alerts'}
  first: {kind: pagerduty, routing_key: {env: FIRST}}
  second: {kind: pagerduty, routing_key: {env: SECOND}}
  third: {kind: pagerduty, routing_key: {env: THIRD}}
  other: {kind: opsgenie, key: {env: T}}
"""

DESK: Mapping[str, Any] = {
    "runbook": "desk",
    "title": "A gateway is slow",
    "match": "GatewaySlow",
    "inputs": {"item": {"label": "item", "pattern": "[a-z0-9-]{1,60}"}},
    "target": "desk/{{ item }}",
    "mode": "observe",
    "steps": [],
}
"""Nothing is done, people alone: an incident for every item, and the policy of its severity."""


def loaded(policies: Mapping[str, Mapping[str, Any]], by_severity: Mapping[str, str]) -> tuple[Rules, Config]:
    """DESK with these policies; the first one is the default."""
    environment = Environment({}, shipped_rules(), check_secrets=False)
    config = read_config("responder.yaml", SETTINGS, CATALOGUE, environment)
    written = {"policies": dict(policies), "default": next(iter(policies)), "by_severity": dict(by_severity)}
    sources = {"policies.yaml": json.dumps(written), "desk.yaml": json.dumps(DESK)}
    return load_rules(sources, CATALOGUE, config).rules, config


def gateway(item: str, severity: str, **labels: str) -> dict[str, str]:
    """The labels of an alert that DESK answers."""
    return {"alertname": "GatewaySlow", "env": "prod", "item": item, "severity": severity, **labels}


def spread(values: Sequence[int]) -> dict[str, float]:
    """Median, 99th percentile and maximum, in seconds; empty without values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {
        "p50_s": round(ordered[last // 2] / SECOND, 3),
        "p99_s": round(ordered[min(last, len(ordered) * 99 // 100)] / SECOND, 3),
        "max_s": round(ordered[-1] / SECOND, 3),
    }
