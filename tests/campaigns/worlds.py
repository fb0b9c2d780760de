"""One world of a seed: the real engine in virtual time on a store in memory, and everything that happens to it.

Operations wait a few turns of the loop before they are written, so that what comes at the same instant comes in another
order in another world. A death takes every task of the process; what is under way in the world goes on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from pydantic import PrivateAttr

from responder.actions import ACTIONS
from responder.config import Config, Reconciling
from responder.contracts import Message, Notifier
from responder.desk import Desk, Shelf
from responder.draft import Worker
from responder.engine.delivery import Delivery, Destinations
from responder.engine.loops import Loop
from responder.engine.reconcile import Reconcile, Uncounted
from responder.engine.runs import Runs
from responder.engine.timers import Timers
from responder.errors import Temporary
from responder.perform import Performer
from responder.records import Operation
from responder.rules import Rules
from responder.simulate import sleep
from responder.store import Committed
from responder.timing import MINUTE, SECOND
from responder.virtual_time import VirtualClock, VirtualLoop
from tests.acceptance.stage import START
from tests.campaigns.edge import Edge, said
from tests.campaigns.happenings import Happening, Lot
from tests.campaigns.memory import Memory
from tests.campaigns.services import HIGH, LOW, Platform
from tests.campaigns.watchers import Watchers
from tests.invariants import Sent

Answer = TypeVar("Answer")
QUIET = 6 * MINUTE
"""How long nothing happens at the end before the world is judged, at most."""
MOST_OPERATIONS = 5_000
"""Of one world; usual are fewer than a hundred."""
RECONCILING = Reconciling.model_validate({"every": "15s", "settle": "15s"})
"""Two looks come while an Alertmanager that was restarted still knows nothing (`watchers.SETTLED`)."""
PAGERS = ("first", "second", "boss")
FROM_ALERTMANAGER = frozenset({"fires", "resolves", "both", "garbage"})
OF_THE_WATCHERS = frozenset({"silence", "restart", "cut"})
UNTOLD = frozenset({"untold_end", "untold_fire"})
"""Prometheus says it to the Alertmanagers, and no notification of it comes."""
OF_THE_PLATFORM = frozenset({"dark", "blind", "stale", "light", "value", "by_hand"})


class Slowly(Memory):
    """Operations wait as many turns of the loop as `blocks` says, one after the other and again from the first."""

    def __init__(self, now: Callable[[], int], blocks: Sequence[int]) -> None:
        super().__init__(now)
        self._blocks = blocks
        self._asked = count()

    async def submit(self, operation: Operation[Answer]) -> Answer:
        """See Store. So many operations in a small world go round in a circle, in which no time passes."""
        number = next(self._asked)
        if number >= MOST_OPERATIONS:
            asyncio.get_running_loop().stop()
            await asyncio.Event().wait()  # until it is cancelled
        for _ in range(self._blocks[number % len(self._blocks)]):
            await sleep(0)
        return await super().submit(operation)


class Pager(Notifier):
    """Takes everything while it is up."""

    kind: str = "pager"
    _takes: Callable[[Message], None] = PrivateAttr()

    @classmethod
    def of(cls, takes: Callable[[Message], None]) -> Pager:
        """One that gives what it takes to this function, which may raise."""
        made = cls()
        made._takes = takes
        return made

    async def send(self, message: Message) -> str:
        """See Notifier.send."""
        self._takes(message)
        return "{}"


@dataclass(frozen=True)
class Life:
    """One life of the process."""

    desk: Desk
    loops: tuple[Loop, Loop, Loop]
    runs: Runs
    delivery: Delivery

    @property
    def busy(self) -> bool:
        """Something is under way."""
        return self.runs.busy + self.delivery.busy > 0


class World:
    """See the module. `run` plays it, once."""

    def __init__(self, rules: Rules, config: Config, lot: Lot) -> None:
        self.rules, self.config, self.lot = rules, config, lot
        self.clock = VirtualClock(START)
        self.store = Slowly(self.clock, lot.blocks)
        self.store.on_commit(self._committed)
        watches = {f"risk{name[1:]}": book.target for name, book in rules.runbooks.items() if name != "halt"}
        chance = random.Random(f"calls {lot.seed}")
        self.platform = Platform(self.clock, chance, lot.faulty, lot.helps, {**watches, "halted": "trading"}, lot.kelly)
        self.platform.values = dict.fromkeys(("risk0", "risk1", "risk2", "halted"), HIGH)
        self.performer = Performer(ACTIONS, self.platform.connect, config.parameters, self.clock, sleep)
        self.watchers = Watchers(self.clock, self._later)
        self.edge = Edge(self.clock, lambda: self._alive.desk, lambda: len(self.store.order))
        self.sent: list[Sent] = []
        self.failing: list[str] = []
        self.deaths = 0
        self._life: Life | None = None
        self._main: asyncio.Task[Any] | None = None
        self._back_at = self._pagers_up_at = 0
        self._numbers = count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self) -> None:
        """Play it to its end."""
        loop = VirtualLoop(self.clock)
        try:
            loop.run_until_complete(self._play())
        except RuntimeError as error:
            self.failing.append(f"it goes round in a circle: {error}")
        rest = asyncio.all_tasks(loop)
        for task in rest:
            task.cancel()
        if rest:
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        loop.close()

    async def _play(self) -> None:
        loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        self._boot()
        for happening in self.lot.happenings:
            loop.call_at(happening.at / SECOND, self._comes, happening)
        await sleep((self.lot.happenings[-1].at + SECOND) / SECOND)
        await sleep(max(0, self._back_at + 2 * SECOND - self.clock()) / SECOND)
        await self._quiet()
        self._die()
        await sleep(0.001)

    # --- the process --------------------------------------------------------------------------------------------------

    @property
    def _alive(self) -> Life:
        assert self._life is not None
        return self._life

    def _boot(self) -> None:
        self.store.read_again()
        envs = {name: service.env for name, service in self.config.services.items()}
        shelf = Shelf(self.rules, "responder", self.config.parameters, automation=self.config.automation, envs=envs)
        worker = Worker(f"life-{next(self._numbers)}", alone=True)
        desk = Desk(self.store, shelf, worker, lambda: f"op{next(self._numbers)}", self._read_rules)
        pagers: dict[str, Notifier] = {name: Pager.of(self._arriving(name)) for name in PAGERS}
        delivery = Delivery(desk, Destinations(pagers, lambda name, values: "", None), lambda: 0.0)
        runs = Runs(desk, self.performer, delivery.ask)
        runs.alertmanagers = self.watchers.asked()
        reconcile = Reconcile(desk, self.watchers.asked, RECONCILING, lambda alert: False, Uncounted())
        desk.on_turn = runs.take
        timers = Timers(desk)
        loops = (
            Loop("timers", timers.work, desk.now, MINUTE),
            Loop("delivery", delivery.work, desk.now, MINUTE),
            Loop("reconcile", reconcile.work, desk.now, MINUTE),
        )
        delivery.wake = loops[1].wake
        self._life = Life(desk, loops, runs, delivery)
        self._spawn(self._goes_on(timers, loops))

    async def _goes_on(self, timers: Timers, loops: tuple[Loop, ...]) -> None:
        await timers.recover()
        await asyncio.gather(*(loop.run() for loop in loops))

    async def _read_rules(self, rules_hash: str) -> Rules | None:
        return None

    def _die(self) -> None:
        """Everything of the process ends here; what is in the store stays."""
        self.failing += [f"{loop.name}: {loop.failing}" for loop in self._alive.loops if loop.failing is not None]
        self._life = None
        others = asyncio.all_tasks() - {self._main, asyncio.current_task()}
        for task in sorted(others, key=lambda task: int(task.get_name().rpartition("-")[2])):
            task.cancel()

    def _dies(self, down: int) -> None:
        self.deaths += 1
        self._die()
        self._back_at = self.clock() + max(down, 50)
        asyncio.get_running_loop().call_later(max(down, 50) / SECOND, self._boot)

    def _committed(self, committed: Committed) -> None:
        if self._life is None:
            return
        if committed.timers is not None:
            self._life.loops[0].due_by(committed.timers)
        if committed.messages:
            self._life.loops[1].wake()

    def _arriving(self, name: str) -> Callable[[Message], None]:
        def arrives(message: Message) -> None:
            if self.clock() < self._pagers_up_at:
                raise Temporary(f"{name} cannot be reached")
            self.sent.append(Sent(name, message.kind, message.key, message.id, self.clock()))

        return arrives

    # --- what happens -------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failing.append(f"{type(task.exception()).__name__}: {task.exception()}")

    def _later(self, lasts: int, work: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(lasts / SECOND, work)

    def _comes(self, happening: Happening) -> None:
        """What is told twice because nobody took it happens once."""
        what, given = happening.what, happening.given
        if what in OF_THE_WATCHERS:
            self._to_the_watchers(what, given)
            return
        if what in FROM_ALERTMANAGER | UNTOLD and what != "garbage":
            fires, ends = said(what.removeprefix("untold_"), given)
            self.watchers.hear(fires, ends)
        if what not in UNTOLD:
            self._begin(happening)

    def _to_the_watchers(self, what: str, given: dict[str, Any]) -> None:
        lasts = int(given["seconds"]) * SECOND
        if what == "silence":
            self.watchers.silence(given["name"], lasts)
        elif what == "restart":
            self.watchers.restart(given["which"], lasts)
        else:
            self.watchers.cut(given["which"], lasts)

    def _begin(self, happening: Happening) -> None:
        """Alertmanager sends again what nobody took; people who find nobody there go away."""
        if happening.what in OF_THE_PLATFORM:
            self._to_the_platform(happening.what, happening.given)
        elif happening.what == "pagers":
            self._pagers_up_at = self.clock() + int(happening.given["down"])
        elif self._life is not None:
            self._spawn(self._happen(happening))
        elif happening.what in FROM_ALERTMANAGER:
            again = max(0, self._back_at - self.clock()) / SECOND + 1
            asyncio.get_running_loop().call_later(again, self._tell_again, happening)

    def _tell_again(self, happening: Happening) -> None:
        """What has changed since is told as it is now, by what has changed it."""
        fires, ends = ((), ()) if happening.what == "garbage" else said(happening.what, happening.given)
        old = [*(not self.watchers.fires_now(one) for one in fires), *(self.watchers.fires_now(one) for one in ends)]
        if not any(old):
            self._begin(happening)

    async def _happen(self, happening: Happening) -> None:
        for _ in range(happening.turns):
            await sleep(0)
        if happening.what == "dies":
            self._dies(**happening.given)
        else:
            await getattr(self.edge, happening.what)(**happening.given)

    def _to_the_platform(self, what: str, given: dict[str, Any]) -> None:
        platform = self.platform
        if what == "value":
            platform.values[given["check"]] = given["to"]
        elif what == "by_hand":
            platform.by_hand(given["to"])
        elif what == "light":
            platform.dark = platform.blind = platform.stale = False
        else:
            setattr(platform, what, True)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def _quiet(self) -> None:
        """All goes well, nobody says anything any more but what they are asked; mostly the alerts are over too."""
        self.platform.heal()
        self.watchers.heal()
        self._pagers_up_at = 0
        for scope in sorted({paused.scope for paused in self.edge.paused}):
            await self.edge.resume(scope)
        if self.lot.seed % 4:
            self.platform.values = dict.fromkeys(self.platform.values, LOW)
            for watcher in self.watchers.all:
                watcher.ends_all()
            await self.edge.all_resolve()
        end = self.clock() + QUIET
        await sleep(40)
        while (due := await self._next()) is not None and self.clock() < end:
            await sleep(min(max(due - self.clock(), SECOND), MINUTE) / SECOND)
            await self.edge.does_by_hand()
            if self.lot.seed % 3:
                await self.edge.answers()
            if self.lot.seed % 5 > 2:
                await self.edge.settle(applied=self.lot.seed % 2 == 0)
        for _ in range(60):
            if not self._alive.busy:
                return
            await sleep(1)

    async def _next(self) -> int | None:
        """When something new can come, or None."""
        if self._alive.busy or await self.store.next_message_due() is not None or await self.edge.does_by_hand():
            return self.clock()
        rows = await self.store.incidents("open")
        return min((due.due for row in rows for due in row.fold.agenda if due.kind != "watch"), default=None)
