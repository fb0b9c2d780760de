"""The same engine in virtual time: desk, runs, timers and delivery as in `app`, with stand-ins where the world begins.

Time moves only when nothing can run, so two hours take a moment and nothing is skipped. The store is in memory;
messages are chosen, ordered and rendered for real and end in a list. For `replay` and tests. Not here: what the world
answers (`assumptions`, or a test's own), and how it is shown.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, TypeVar

from pydantic import JsonValue, PrivateAttr

from responder.alert import Limits, Notification, fingerprint, parse_notification
from responder.alertmanagers import Alertmanagers
from responder.automation import UNBOUNDED, Automation
from responder.commands import Command, SetPause
from responder.config import Reconciling
from responder.contracts import RECORDS, Clock, Message, Notifier, PagerState, Parameter, Render
from responder.cron import next_after
from responder.desk import Desk, Shelf
from responder.draft import Turn, Worker
from responder.engine.delivery import Became, Delivery, Destinations
from responder.engine.loops import Loop
from responder.engine.reconcile import Reconcile, Uncounted
from responder.engine.runs import Nobody, Performs, Runs
from responder.engine.timers import Timers
from responder.errors import BadPayload
from responder.facts import Event
from responder.incident import Incident
from responder.ingest import Bury, Doubtful, Ingest, Received
from responder.recorded import LIVE, Result, StepStatus
from responder.records import MessageRow, NotificationRow
from responder.rules import Rules
from responder.schedules import ArmSchedules
from responder.scopes import PAUSE
from responder.store import Committed, open_store
from responder.tales import Sent, Tale, Teller
from responder.timing import DAY, HOUR, SECOND, format_time
from responder.verification import LINGER, WATCH
from responder.virtual_time import VirtualClock, VirtualLoop

Answer = TypeVar("Answer")

POLL: Final = DAY
"""Nobody else writes to this store, so a loop need look only when something is due, or was just written."""
LIMITS: Final = Limits()
ENDLESS: Final = frozenset({"watch"})
"""Agenda entries that bring nothing new as long as the world answers the same."""
PATIENCE: Final = LINGER + 2 * WATCH
"""How long an open incident is watched after its last event: so long may what is called fixed stay unnoticed."""


@dataclass(frozen=True)
class Scene:
    """What a simulation begins with. `performs` makes the world's stand-in; `notifiers` lend their names and forms."""

    rules: Rules
    parameters: Mapping[str, Parameter]
    notifiers: Mapping[str, Notifier]
    render: Render
    performs: Callable[[Clock], Performs]
    start: int
    instance: str = "responder"
    fallback: str | None = None
    automation: Automation = UNBOUNDED
    envs: Mapping[str, str | None] = field(default_factory=dict)
    """Service -> whose it is."""
    pagers_say: Callable[[str, str], PagerState | None] | None = None
    """What a pager answers about its own incident (destination, key); None: none of them can be asked."""
    alertmanagers: Callable[[Clock], Alertmanagers] | None = None
    """Who is asked what fires; None: nobody, and what fired is assumed to fire still."""


class Recorder(Notifier):
    """Stands for a destination: composes as that does, and keeps what it would have sent."""

    kind: str = "recorder"
    pace: ClassVar[int] = 0
    _stands_for: Notifier = PrivateAttr()
    _keep: Callable[[Message], None] = PrivateAttr()
    _says: Callable[[str], PagerState | None] = PrivateAttr()

    @classmethod
    def of(
        cls, notifier: Notifier, keep: Callable[[Message], None], says: Callable[[str], PagerState | None]
    ) -> Recorder:
        """The stand-in of `notifier`. `says` answers what it is asked about its own incidents, by key."""
        made = cls()
        made._stands_for, made._keep, made._says = notifier, keep, says
        return made

    def passes_over(self, template: str, sent: bool) -> bool:
        """What goes beside the story only to pagers is kept where the real one takes it."""
        return template in RECORDS and self._stands_for.passes_over(template, sent)

    async def asked(self, key: str) -> PagerState | None:
        """See Notifier.asked."""
        return self._says(key)

    def compose(self, kind: str, values: Mapping[str, object], render: Render) -> JsonValue:
        """See Notifier.compose."""
        return self._stands_for.compose(kind, values, render)

    async def send(self, message: Message) -> str:
        """See Notifier.send. `_keep` may raise as a destination does that does not take it."""
        self._keep(message)
        return '{"simulated": true}'


class _Life:
    """One life of the process: everything that a restart forgets."""

    def __init__(
        self, desk: Desk, performs: Performs, destinations: Destinations, alertmanagers: Alertmanagers | None
    ) -> None:
        self.desk = desk
        self.delivery = Delivery(desk, destinations, lambda: 0.0)
        self.runs = Runs(desk, performs, self.delivery.ask)
        desk.on_turn = self.runs.take
        self.timers = Timers(desk)
        self._loops = [
            Loop("timers", self.timers.work, desk.now, POLL),
            Loop("delivery", self.delivery.work, desk.now, POLL),
        ]
        self.runs.alertmanagers = alertmanagers or Nobody(desk, "assumed to fire")
        if alertmanagers is not None:
            given = alertmanagers
            reconcile = Reconcile(desk, lambda: given, Reconciling(), lambda alert: False, Uncounted())
            self._loops.append(Loop("reconcile", reconcile.work, desk.now, DAY))
        self.delivery.wake = self._loops[1].wake

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return self.runs.busy + self.delivery.busy > 0

    @property
    def failing(self) -> list[str]:
        """Loops whose last pass raised."""
        return [f"{loop.name}: {loop.failing}" for loop in self._loops if loop.failing is not None]

    def committed(self, committed: Committed) -> None:
        """Wake whom the commit concerns."""
        if committed.timers is not None:
            self._loops[0].due_by(committed.timers)
        if committed.messages:
            self._loops[1].wake()

    async def begin(self) -> list[asyncio.Task[None]]:
        """As `App.start`. Answers the tasks of the loops, for the caller to hold."""
        await self.timers.recover()
        return [asyncio.get_running_loop().create_task(loop.run()) for loop in self._loops]


@dataclass
class _Alerts:
    """The alerts that were sent, for their start times."""

    started: dict[str, int] = field(default_factory=dict)

    def entry(self, labels: Mapping[str, str], annotations: Mapping[str, str], now: int, *, firing: bool) -> Any:
        """One alert of a payload."""
        known = fingerprint(labels)
        started = self.started.setdefault(known, now)
        if not firing:
            self.started.pop(known)
        return {
            "status": "firing" if firing else "resolved",
            "labels": dict(labels),
            "annotations": dict(annotations),
            "startsAt": format_time(started),
            "endsAt": "0001-01-01T00:00:00Z" if firing else format_time(now),
            "generatorURL": "",
            "fingerprint": known,
        }


class Simulation:
    """See the module. Methods are called from outside any event loop, and return when nothing more happens then.

    Times given are durations in µs; `close` it at the end.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.clock = VirtualClock(scene.start)
        self.sent: list[Sent] = []
        self.plain: list[MessageRow] = []
        """Messages whose template was broken."""
        self.performs = scene.performs(self.clock)
        self._loop = VirtualLoop(self.clock)
        self.store = open_store("sqlite://", self.clock, inline=True)
        self.store.on_commit(self._committed)
        self._sets = {scene.rules.hash: scene.rules}
        self._rules = scene.rules
        self._alerts = _Alerts()
        self._numbers = itertools.count(1)
        self._life: _Life | None = None
        self.boot()

    # --- the process --------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start the engine on whatever the store holds."""
        worker = Worker(f"life-{next(self._numbers)}", alone=True)
        asks = self.scene.pagers_say
        askable = frozenset(n for n, one in self.scene.notifiers.items() if one.pages) if asks else frozenset[str]()
        shelf = Shelf(
            self._rules,
            self.scene.instance,
            self.scene.parameters,
            askable=askable,
            automation=self.scene.automation,
            envs=self.scene.envs,
        )
        desk = Desk(self.store, shelf, worker, self._new_id, self._read_rules)
        notifiers = {
            name: Recorder.of(n, self._keeping(name), self._answering(name)) for name, n in self.scene.notifiers.items()
        }
        asked = self.scene.alertmanagers
        destinations = Destinations(notifiers, self.scene.render, self.scene.fallback)
        life = _Life(desk, self.performs, destinations, None if asked is None else asked(self.clock))
        life.delivery.on_end = self._ended
        self._life = life
        self._run(life.begin())
        self._settle()

    def stop(self) -> None:
        """End like a killed process: whatever is under way is dropped, the store stays."""
        self._life = None
        rest = asyncio.all_tasks(self._loop)
        for task in rest:
            task.cancel()
        if rest:
            self._run(_ended(rest))

    def restart(self, down: int = 0) -> None:
        """Stop, let `down` pass, and start again."""
        self.stop()
        if down:
            self._run(_sleep(down))
        self.boot()

    def reload(self, rules: Rules) -> None:
        """Another set of rules for what comes; runs keep theirs."""
        self._sets[rules.hash] = self._rules = rules
        desk = self._alive.desk
        desk.shelf = desk.shelf.replaced(rules, self.scene.parameters)

    def close(self) -> None:
        """Release everything."""
        self.stop()
        self._loop.close()
        asyncio.run(self.store.close())

    # --- what comes from outside --------------------------------------------------------------------------------------

    def fires(self, *alerts: Mapping[str, str], namespace: str = LIVE, **annotations: str) -> None:
        """One notification with these alerts (labels) firing."""
        self._post([self._alerts.entry(a, annotations, self.clock(), firing=True) for a in alerts], namespace)

    def resolves(self, *alerts: Mapping[str, str], namespace: str = LIVE) -> None:
        """One notification with these alerts resolved."""
        self._post([self._alerts.entry(a, {}, self.clock(), firing=False) for a in alerts], namespace)

    def resolves_fixed(self) -> bool:
        """Every alert of a fixed incident resolves. Answers whether there was one."""
        firing = [e for i in self.incidents() if i.result is Result.FIXED for e in i.firing]
        now = format_time(self.clock())
        common = {"status": "resolved", "startsAt": format_time(self.scene.start), "endsAt": now}
        if firing:
            self._post([{**common, "labels": e.labels, "fingerprint": e.fingerprint} for e in firing], LIVE)
        return bool(firing)

    def does_by_hand(self, actor: str = "somebody") -> bool:
        """Every manual step that is asked for is done. Answers whether there was one."""
        asked = [i.id for i in self.incidents() if asks(i)]
        for incident in asked:
            self.person("done", actor, incident=incident)
        return bool(asked)

    def _post(self, entries: list[Any], namespace: str) -> None:
        head = {"version": "4", "receiver": "responder", "groupKey": "simulated"}
        self.post(json.dumps({**head, "alerts": entries}).encode(), namespace)

    def post(self, body: bytes, namespace: str = LIVE) -> None:
        """A webhook body, as it would come from Alertmanager. What cannot be understood becomes a dead letter."""
        try:
            notification = parse_notification(body, LIMITS)
        except BadPayload as error:
            reason = str(error)
            turn = self._submit(lambda desk: lambda shelf: Bury(desk.new_id(), "simulation", reason, body, shelf))
            self._took((turn,))
            return
        self._took(self._run(self._ingest(notification, body, namespace)).turns)

    async def _ingest(self, notification: Notification, body: bytes, namespace: str) -> Received:
        """A firing that looks older than its known end counts as firing: there is no Alertmanager to ask."""
        desk, asked = self._alive.desk, frozenset[str]()
        count = len(notification.alerts)
        name = desk.new_id()
        row = NotificationRow(name, namespace, 0, "simulation", "responder", notification.group_key, count, 0, body)
        while True:
            try:
                return await desk.submit(lambda shelf: Ingest(name, notification, row, shelf, desk.worker, asked))  # noqa: B023
            except Doubtful as doubtful:
                asked |= doubtful.fingerprints

    def arms(self, runbook: str) -> int | None:
        """Arm the schedule of this runbook and no other. Answers when it comes due (µs since the epoch), if it does."""
        book = self._rules.runbooks.get(runbook)
        if book is None or book.schedule is None:
            return None
        alone, parameters = replace(self._rules, runbooks={runbook: book}), self.scene.parameters
        self._submit(lambda desk: lambda shelf: ArmSchedules(desk.new_id(), shelf.replaced(alone, parameters)))
        return next_after(book.schedule, self.clock())

    def person(
        self, verb: str, actor: str = "alice", note: str = "", *, incident: str | None = None, **said: Any
    ) -> None:
        """A verb of `commands`; about the newest incident when none is named. Raises Rejected."""
        about = incident or self.incidents()[-1].id
        turn = self._submit(
            lambda desk: lambda shelf: Command(desk.new_id(), about, verb, actor, shelf, desk.worker, note=note, **said)
        )
        self._took((turn,))

    def pauses(self, actor: str = "alice", reason: str = "maintenance", scope: str = PAUSE) -> None:
        """Automation is switched off, or what the scope says of it."""
        self._switch(actor, reason, scope, paused=True)

    def resumes(self, actor: str = "alice", scope: str = PAUSE) -> None:
        """Automation is switched on again."""
        self._switch(actor, "", scope, paused=False)

    def _switch(self, actor: str, reason: str, scope: str, *, paused: bool) -> None:
        self._submit(lambda desk: lambda shelf: SetPause(desk.new_id(), paused, actor, reason, shelf, scope))
        self._settle()

    def advance(self, duration: int) -> None:
        """Let so much time pass."""
        self._run(_sleep(duration))
        self._settle()

    def advance_to(self, offset: int) -> None:
        """Let time pass until `offset` after the beginning."""
        self.advance(max(0, self.scene.start + offset - self.clock()))

    def until_quiet(
        self, horizon: int = 2 * HOUR, or_when: Callable[[Incident], bool] = lambda incident: False
    ) -> bool:
        """Let time pass until nothing new can come, at most `horizon` from now. Answers whether it became quiet.

        An incident for which `or_when` is true ends it too: somebody outside has something to do about it.
        """
        end = self.clock() + horizon
        while self.clock() < end:
            following = self._next()
            if following is None or any(map(or_when, self.incidents())):
                return True
            self.advance(min(max(following - self.clock(), SECOND), end - self.clock()))
        return False

    def looks_again(self, at_least: int = 0) -> bool:
        """Let time pass until an open incident looks at its check once more. Answers False when that brings nothing.

        That is when nothing has happened for as long as an incident may linger, and `at_least` (an offset) is over.
        """
        open_ones = [i for i in self.incidents() if not i.closed]
        looks = [d.due for i in open_ones for d in i.agenda if d.kind in ENDLESS]
        latest = max((self.events(i)[-1].at for i in open_ones), default=0)
        if not looks or min(looks) > max(latest + PATIENCE, self.scene.start + at_least + WATCH):
            return False
        self.advance(max(min(looks) - self.clock(), SECOND))
        return True

    def _next(self) -> int | None:
        """When something new can come, or None."""
        if self._alive.busy or self._run(self.store.next_message_due()) is not None:
            return self.clock()
        dues = [d.due for i in self.incidents() if not i.closed for d in i.agenda if d.kind not in ENDLESS]
        return min(dues, default=None)

    # --- what happened ------------------------------------------------------------------------------------------------

    @property
    def offset(self) -> int:
        """µs since the beginning."""
        return self.clock() - self.scene.start

    @property
    def failing(self) -> list[str]:
        """Loops whose last pass raised."""
        return self._alive.failing

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return self._alive.busy

    def incidents(self) -> list[Incident]:
        """All, oldest first."""
        rows = self._run(self.store.incidents(limit=10_000))
        return [row.fold for row in reversed(rows)]

    def events(self, incident: Incident) -> list[Event]:
        """The journal of one."""
        return self._run(self.store.events(incident.id))

    def tales(self) -> list[Tale]:
        """Every incident as it would be told."""
        teller = Teller(self.scene.start, self.scene.render)
        return [teller.tale(incident, self.events(incident), self.sent) for incident in self.incidents()]

    # --- machinery ----------------------------------------------------------------------------------------------------

    @property
    def _alive(self) -> _Life:
        if self._life is None:
            raise RuntimeError("the simulated process is stopped: boot() it first")
        return self._life

    def _new_id(self) -> str:
        return f"op{next(self._numbers)}"

    async def _read_rules(self, rules_hash: str) -> Rules | None:
        return self._sets.get(rules_hash)

    def _committed(self, committed: Committed) -> None:
        if self._life is not None:
            self._life.committed(committed)

    def _keeping(self, name: str) -> Callable[[Message], None]:
        return lambda message: self.sent.append(Sent(self.clock(), name, message))

    def _answering(self, name: str) -> Callable[[str], PagerState | None]:
        asks = self.scene.pagers_say
        return lambda key: None if asks is None else asks(name, key)

    def _ended(self, row: MessageRow, became: Became) -> None:
        if became is Became.PLAIN:
            self.plain.append(row)

    def _submit(self, make: Callable[[Desk], Callable[[Shelf], Any]]) -> Any:
        desk = self._alive.desk
        return self._run(desk.submit(make(desk)))

    def _took(self, turns: tuple[Turn, ...]) -> None:
        self._run(_call(lambda: self._alive.desk.take(turns)))
        self._settle()

    def _settle(self) -> None:
        """Let everything run that can run now: a timer of the loop comes only after it."""
        self._run(_sleep(1))

    def _run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self._loop.run_until_complete(work)


def asks(incident: Incident) -> bool:
    """A manual step waits for somebody."""
    run = incident.active_run
    return run is not None and any(step.status is StepStatus.ASKED for step in run.steps)


async def sleep(seconds: float) -> None:
    """Wait in virtual time."""
    await asyncio.sleep(seconds)


async def _sleep(duration: int) -> None:
    await sleep(duration / SECOND)


async def _call(function: Callable[[], None]) -> None:
    function()


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
