"""A store, a desk, a delivery and three destinations under one clock, for the tests of delivery."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import PrivateAttr

from responder import facts as f
from responder.contracts import Message, Notifier
from responder.desk import Desk, Shelf
from responder.draft import Draft, Worker
from responder.engine.delivery import Became, Delivery, Destinations
from responder.messages import MessageTemplates
from responder.notifiers import message_templates
from responder.policies import Level, Policy
from responder.recorded import Mode
from responder.records import Change, Keys, MessageRow, State, Writes
from responder.rules import Rules
from responder.store import open_store
from responder.timing import SECOND

T0 = 1_795_183_351 * SECOND
TEMPLATES = message_templates(None)
POLICY = Policy(chat=("chat",), levels=(Level(name="L1", after=0, page=("pager",)),))
MOVING = Policy(chat=("chat",), levels=(Level(name="L1", after=0, page=("pager",), escalation_policy="PRISK"),))
RULES = Rules(hash="h", runbooks={}, policies={"p": POLICY, "moving": MOVING}, by_severity={}, default_policy="p")


class Recording(Notifier):
    """A destination that keeps what it was sent; `troubles` are raised first, `gate` holds it up."""

    kind: str = "recording"
    replays: ClassVar[bool] = False
    _sent: list[Message] = PrivateAttr(default_factory=list)
    _tried: int = PrivateAttr(default=0)
    _troubles: deque[Exception] = PrivateAttr(default_factory=deque)
    _gate: asyncio.Event | None = PrivateAttr(default=None)

    @property
    def sent(self) -> list[str]:
        return [m.kind if m.kind != "thread" else m.text for m in self._sent]

    async def send(self, message: Message) -> str:
        self._tried += 1
        if self._gate is not None:
            await self._gate.wait()
        if self._troubles:
            raise self._troubles.popleft()
        self._sent.append(message)
        return '{"ts": "1"}' if message.kind == "root" else ""


class Chat(Recording):
    chats: ClassVar[bool] = True
    pace: ClassVar[int] = SECOND


class Choosy(Chat):
    """Will neither send a root again nor a problem."""

    def passes_over(self, template: str, sent: bool) -> bool:
        return sent if template == "root" else template == "story/problem_found"


class Merging(Chat):
    merges: ClassVar[bool] = True


class Pager(Recording):
    pages: ClassVar[bool] = True


class LastResort(Recording):
    replays: ClassVar[bool] = True


@dataclass(frozen=True)
class Happens:
    """Records facts as the engine does; the first may open the incident."""

    id: str
    facts: Sequence[f.Fact]
    book: Shelf

    def reads(self) -> Keys:
        return Keys()

    def apply(self, state: State) -> Change[None]:
        draft = Draft(self.id, state, self.book)
        for fact in self.facts:
            if isinstance(fact, f.Opened):
                draft.open(fact)
            else:
                draft.record("i1", fact)
        return Change(draft.writes(), None)


@dataclass(frozen=True)
class Put:
    """Writes a row of the outbox directly."""

    id: str
    row: MessageRow

    def reads(self) -> Keys:
        return Keys()

    def apply(self, state: State) -> Change[None]:
        return Change(Writes(messages=(self.row,)), None)


@dataclass
class Bench:
    """A store, a desk, a delivery and three destinations under one clock."""

    chat: Chat = field(default_factory=Chat)
    pager: Pager = field(default_factory=Pager)
    last: LastResort = field(default_factory=LastResort)
    templates: MessageTemplates = TEMPLATES
    now: int = T0
    became: list[Became] = field(default_factory=list)
    numbers: int = 0

    def __post_init__(self) -> None:
        self.store = open_store("sqlite://", lambda: self.now)
        self.desk = self.another_desk(Worker("a", alone=True))
        self.delivery = self.another(self.desk)

    def another_desk(self, worker: Worker) -> Desk:
        async def no_rules(rules_hash: str) -> None:
            return None

        return Desk(self.store, Shelf(RULES, "main"), worker, self.new_id, no_rules)

    def another(self, desk: Desk) -> Delivery:
        notifiers = {"chat": self.chat, "pager": self.pager, "last": self.last}
        delivery = Delivery(desk, Destinations(notifiers, self.templates.render, "last"), lambda: 0.0)
        delivery.on_end = lambda row, became: self.became.append(became)
        return delivery

    def new_id(self) -> str:
        self.numbers += 1
        return f"op{self.numbers}"

    async def happens(self, *facts: f.Fact) -> None:
        await self.desk.submit(lambda shelf: Happens(self.new_id(), facts, shelf))

    async def run(self, span: int) -> None:
        """Pass after pass, time jumping to what is due next, until `span` (µs) is over."""
        end = self.now + span
        while True:
            due = await self.delivery.work(self.now)
            if self.delivery.busy:
                await self.delivery.idle(None)
            elif due is None or due > end:
                break
            else:
                self.now = max(self.now, due)
        self.now = end

    async def begun(self, ready: Callable[[], bool]) -> None:
        """One pass, then the event loop's turns until something is so. Raises TimeoutError when it never is."""
        await self.delivery.work(self.now)
        async with asyncio.timeout(10):
            while not ready():
                await asyncio.wait({asyncio.ensure_future(_nothing())})

    async def rows(self) -> dict[str, MessageRow]:
        return {m.id: m for m in await self.store.messages_of("i1")}

    async def kinds(self) -> list[str]:
        return [e.fact.kind for e in await self.store.events("i1")]


async def _nothing() -> None:
    return None


OPENED = f.Opened(
    id="i1",
    runbook=None,
    rules_hash="h",
    policy="p",
    target="risk-api/kelly_fraction",
    title="VaR above its limit",
    severity="critical",
    mode=Mode.AUTO,
    labels={},
    inputs={},
)
LEVEL = f.LevelReached(round=0, index=0, name="L1", page=("pager",), why="nobody has it")
CLOSED = f.Closed(why="all alerts resolved")
PROBLEM = f.ProblemFound(problem="no runbook matches", urgent=False)
SECOND_LEVEL = f.LevelReached(round=0, index=1, name="L2", page=("pager",), why="not fixed")
