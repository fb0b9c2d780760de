"""The outbox in virtual time, on a store in memory: order, lanes, retries, dead rows, the last resort."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from pydantic import JsonValue, PrivateAttr

from responder import facts as f
from responder.contracts import Message, Notifier
from responder.desk import Desk, Shelf
from responder.draft import Draft, Worker
from responder.engine.delivery import Became, Delivery, Destinations
from responder.engine.emergency import AGAIN, Emergency
from responder.errors import Permanent, Temporary, Unknown
from responder.messages import MessageTemplates
from responder.notifiers import message_templates
from responder.policies import Level, Policy
from responder.recorded import Mode
from responder.records import Change, Keys, Lane, MessageRow, Sending, State, Writes
from responder.rules import Rules
from responder.store import open_store
from responder.telling import root_id
from responder.timing import MINUTE, SECOND

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
        """One pass, then the event loop's turns until something is so."""
        await self.delivery.work(self.now)
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


async def test_the_thread_waits_for_its_root_and_keeps_its_order() -> None:
    bench = Bench()
    await bench.happens(OPENED, PROBLEM, f.Acknowledged(note="on it"))
    bench.chat._troubles.append(Temporary("not now"))
    await bench.run(10 * SECOND)
    assert bench.chat.sent[0] == "root"
    assert bench.chat.sent[1] == "no runbook matches"
    assert bench.chat.sent[2].startswith("responder has acknowledged: on it.")
    assert [m.previous for m in bench.chat._sent if m.kind == "thread"] == ['{"ts": "1"}'] * 2
    assert {row.state for row in (await bench.rows()).values()} == {Sending.SENT}


async def test_a_page_never_waits_behind_a_chat() -> None:
    bench = Bench()
    bench.chat._gate = asyncio.Event()
    await bench.happens(OPENED, LEVEL)
    await bench.begun(lambda: bench.pager.sent == ["page"])
    assert bench.delivery.busy
    assert bench.chat.sent == []
    bench.chat._gate.set()
    await bench.run(5 * SECOND)
    assert "root" in bench.chat.sent
    assert "page_accepted" in await bench.kinds()


async def test_a_page_says_why_under_the_incidents_key() -> None:
    bench = Bench()
    await bench.happens(OPENED, LEVEL)
    await bench.run(SECOND)
    [page] = bench.pager._sent
    assert page.key == "responder/main/i1/pager/l0.0"
    assert page.text == "[critical] VaR above its limit: risk-api/kelly_fraction. Nothing was done."
    accepted = [e.fact for e in await bench.store.events("i1") if isinstance(e.fact, f.PageAccepted)]
    assert accepted == [f.PageAccepted(destination="pager", why="nobody has it", key="responder/main/i1/pager/l0.0")]


@pytest.mark.parametrize("trouble", [Temporary("503"), Unknown("no answer"), ValueError("a mistake of the notifier")])
async def test_a_page_is_tried_for_ever_with_growing_waits(trouble: Exception) -> None:
    bench = Bench()
    bench.pager._troubles.extend([trouble] * 15)
    await bench.happens(OPENED, LEVEL)
    await bench.run(30 * SECOND)
    assert bench.pager._tried == 5  # at 0, 1, 3, 7 and 15 s
    await bench.run(15 * MINUTE)
    assert bench.pager.sent == ["page"]


async def test_a_destination_that_asks_to_wait_is_left_alone() -> None:
    bench = Bench()
    bench.pager._troubles.append(Temporary("slow down", retry_after=40))
    await bench.happens(OPENED, LEVEL)
    await bench.run(SECOND)
    another = MessageRow("m2", "i1", 0, Lane.PAGE, "pager", "page", "another key", created_at=T0, next_at=T0)
    await bench.store.submit(Put(bench.new_id(), another))
    await bench.run(38 * SECOND)
    assert bench.pager._tried == 1
    await bench.run(5 * SECOND)
    assert bench.pager.sent == ["page", "page"]
    assert bench.last.sent == []


async def test_a_page_that_nobody_takes_within_a_minute_goes_to_the_next_channel_once() -> None:
    bench = Bench()
    bench.pager._troubles.extend([Temporary("503")] * 12)
    await bench.happens(OPENED, LEVEL)
    await bench.run(20 * SECOND)
    assert bench.last.sent == []
    await bench.run(10 * MINUTE)
    assert bench.last.sent == ["page"]
    assert bench.pager.sent == ["page"]


async def test_a_refused_page_is_dead_and_told_elsewhere() -> None:
    bench = Bench()
    bench.pager._troubles.append(Permanent("the routing key is unknown"))
    await bench.happens(OPENED, LEVEL)
    await bench.run(20 * SECOND)
    assert bench.pager._tried == 1
    assert bench.last.sent == ["page"]
    assert "pager refuses pages of this incident: the routing key is unknown" in bench.chat.sent
    pages = [r for r in (await bench.rows()).values() if r.lane is Lane.PAGE]
    assert [r.state for r in pages] == [Sending.DEAD, Sending.SENT]


async def test_a_chat_that_refuses_its_root_loses_its_lines_quietly_and_is_reported_once() -> None:
    bench = Bench()
    bench.chat._troubles.extend([Permanent("channel_not_found")] * 20)
    await bench.happens(OPENED, PROBLEM)
    await bench.run(20 * SECOND)
    await bench.happens(f.Acknowledged())
    await bench.run(20 * SECOND)
    assert bench.chat._tried == 2  # the root, once for each time that something happened
    assert (await bench.kinds()).count("message_dead") == 1
    assert {r.state for r in (await bench.rows()).values()} == {Sending.DEAD}


async def test_a_chat_that_is_mended_goes_on() -> None:
    bench = Bench()
    bench.chat._troubles.append(Permanent("channel_not_found"))
    await bench.happens(OPENED)
    await bench.run(5 * SECOND)
    await bench.happens(PROBLEM)
    await bench.run(5 * SECOND)
    assert bench.chat.sent == ["root", "no runbook matches"]


async def test_a_trigger_never_follows_a_resolve() -> None:
    bench = Bench()
    bench.pager._troubles.append(Temporary("503"))
    await bench.happens(OPENED, LEVEL)
    await bench.run(0)
    await bench.happens(CLOSED)
    await bench.run(MINUTE)
    assert bench.pager.sent == ["resolve"]
    assert bench.pager._sent[0].resolves
    assert Became.DROPPED in bench.became


async def test_a_root_that_was_renewed_while_it_was_sent_is_sent_again() -> None:
    bench = Bench()
    await bench.happens(OPENED)
    bench.chat._gate = asyncio.Event()
    await bench.begun(lambda: bench.chat._tried == 1)
    await bench.happens(f.SeverityRose(before="warning", severity="high", policy="p"))  # at the same microsecond
    bench.chat._gate.set()
    await bench.run(5 * SECOND)
    roots = [m for m in bench.chat._sent if m.kind == "root"]
    assert [m.incident.severity for m in roots] == ["critical", "high"]
    assert roots[1].previous == '{"ts": "1"}'
    assert (await bench.rows())[root_id("i1", "chat")].state is Sending.SENT


async def test_root_updates_are_debounced_except_the_last() -> None:
    bench = Bench()
    await bench.happens(OPENED)
    await bench.run(SECOND)
    await bench.happens(f.Verifying(run=1))
    await bench.run(SECOND)
    assert bench.chat.sent == ["root"]
    await bench.run(SECOND)
    assert bench.chat.sent == ["root", "root"]
    await bench.happens(CLOSED)
    await bench.run(0)
    assert bench.chat.sent[2] == "root"


async def test_a_channel_gets_a_burst_and_then_a_message_a_second() -> None:
    bench = Bench()
    await bench.happens(OPENED, *(f.ProblemFound(problem=f"p{n}", urgent=False) for n in range(6)))
    await bench.run(0)
    assert len(bench.chat.sent) == 3
    await bench.run(2 * SECOND)
    assert bench.chat.sent == ["root", "p0", "p1", "p2", "p3"]
    await bench.run(10 * SECOND)
    assert bench.chat.sent[1:] == [f"p{n}" for n in range(6)]


async def test_what_is_passed_over_takes_no_turn() -> None:
    bench = Bench(chat=Choosy())
    problems = [f"p{n}" for n in range(6)]
    await bench.happens(OPENED, *(f.ProblemFound(problem=problem, urgent=False) for problem in problems))
    await bench.run(0)
    assert bench.chat.sent == ["root"]
    assert bench.became.count(Became.DROPPED) == 6, "what is passed over is done, and asks nobody"
    await bench.happens(*(f.Acknowledged(note=f"a{n}") for n in range(4)))
    await bench.run(0)
    assert len(bench.chat.sent[1:]) == 2, "the root took one of three turns, the others are left for what is sent"


class Merging(Chat):
    merges: ClassVar[bool] = True


async def test_many_lines_that_wait_leave_as_one_message() -> None:
    bench = Bench(chat=Merging())
    await bench.happens(OPENED, *(f.ProblemFound(problem=f"p{n}", urgent=False) for n in range(6)))
    await bench.run(0)
    assert bench.chat.sent == ["root", "\n".join(f"p{n}" for n in range(6))]
    [_, merged] = bench.chat._sent
    assert [line.sentence for line in merged.lines] == [f"p{n}" for n in range(6)]
    assert {row.state for row in (await bench.rows()).values()} == {Sending.SENT}
    await bench.happens(*(f.ProblemFound(problem=f"q{n}", urgent=False) for n in range(2)))
    await bench.run(10 * SECOND)
    assert sorted(bench.chat.sent[2:]) == ["q0", "q1", "root"], "one or two keep their own"


async def test_after_an_outage_the_latest_page_tells_for_those_before_it() -> None:
    bench = Bench()
    bench.pager._troubles.extend([Temporary("503")] * 9)
    await bench.happens(OPENED, LEVEL)
    await bench.run(3 * MINUTE)
    await bench.happens(f.LevelReached(round=0, index=1, name="L2", page=("pager",), why="not fixed"))
    await bench.run(10 * MINUTE)
    assert [(m.kind, m.key[-4:]) for m in bench.pager._sent] == [("page", "l0.1"), ("resolve", "l0.0")]
    states = {m.order_key[-4:]: m.state for m in await bench.store.messages_of("i1") if m.template == "page"}
    assert states["l0.0"] is Sending.DROPPED


SECOND_LEVEL = f.LevelReached(round=0, index=1, name="L2", page=("pager",), why="not fixed")


async def test_a_page_replaces_the_one_before_it_at_the_same_destination() -> None:
    bench = Bench()
    await bench.happens(OPENED, LEVEL)
    await bench.run(SECOND)
    await bench.happens(SECOND_LEVEL)
    await bench.run(SECOND)
    first, second, ended = bench.pager._sent
    assert [(m.kind, m.key) for m in (second, ended)] == [("page", second.key), ("resolve", first.key)]
    assert ended.text.endswith("goes on: a later page of the same incident has replaced this one")
    await bench.happens(CLOSED)
    await bench.run(SECOND)
    assert [m.key for m in bench.pager._sent if m.kind == "resolve"] == [first.key, second.key]


class HoldsOn(Pager):
    """Takes pages, and will not end the ones before them."""

    async def send(self, message: Message) -> str:
        if message.kind == "resolve" and self._troubles:
            self._tried += 1
            raise self._troubles.popleft()
        self._sent.append(message)
        return ""


async def test_a_page_that_was_taken_is_delivered_whatever_becomes_of_the_one_before() -> None:
    bench = Bench(pager=HoldsOn())
    bench.pager._troubles.extend([Temporary("429")] * 9)
    await bench.happens(OPENED, LEVEL)
    await bench.run(SECOND)
    await bench.happens(SECOND_LEVEL)
    await bench.run(3 * MINUTE)
    assert bench.pager.sent == ["page", "page"], "each was triggered once"
    assert bench.last.sent == [], "nobody else is woken"
    await bench.run(10 * MINUTE)
    assert bench.pager.sent == ["page", "page", "resolve"]
    assert (await bench.kinds()).count("page_accepted") == 2


async def test_the_one_before_that_may_not_be_ended_is_told() -> None:
    bench = Bench(pager=HoldsOn())
    bench.pager._troubles.append(Permanent("no"))
    await bench.happens(OPENED, LEVEL)
    await bench.run(SECOND)
    await bench.happens(SECOND_LEVEL)
    await bench.run(MINUTE)
    assert bench.pager.sent == ["page", "page"]
    assert (await bench.kinds()).count("message_dead") == 1
    assert any("a page is still open" in line and line.endswith("no") for line in bench.chat.sent)


async def test_what_ends_a_replaced_page_waits_behind_every_page() -> None:
    bench = Bench()
    await bench.happens(OPENED, LEVEL)
    await bench.run(SECOND)
    await bench.happens(SECOND_LEVEL)
    await bench.begun(lambda: "page" in bench.pager.sent[1:])
    await bench.delivery.idle(None)
    [row] = [m for m in (await bench.rows()).values() if m.template == "resolve"]
    assert (row.lane, row.rank) == (Lane.PAGE, -2)


class Mover(Pager):
    """Gives its incidents to other escalation policies; `_moves` are what becomes of the tries."""

    takes: ClassVar[frozenset[str]] = frozenset({"move"})
    _moves: deque[Exception] = PrivateAttr(default_factory=deque)

    async def send(self, message: Message) -> str:
        if message.kind == "move" and self._moves:
            raise self._moves.popleft()
        return await super().send(message)


async def test_an_incident_is_moved_to_its_level_after_the_page_however_long_it_takes() -> None:
    bench = Bench(pager=Mover())
    bench.pager._troubles.append(Temporary("503"))
    assert isinstance(bench.pager, Mover)
    bench.pager._moves.extend([Temporary("not there yet")] * 4)
    await bench.happens(OPENED.model_copy(update={"policy": "moving"}), LEVEL)
    await bench.run(MINUTE)
    [page, move] = bench.pager._sent
    assert (page.kind, move.kind, move.key, move.level, move.lane) == ("page", "move", page.key, "PRISK", "thread")
    assert move.attempt == 5
    await bench.happens(CLOSED)
    await bench.run(MINUTE)
    assert bench.pager.sent == ["page", "move", "resolve"]


async def test_a_move_that_is_a_persons_to_do_is_told_to_the_whole_channel() -> None:
    bench = Bench(pager=Mover())
    assert isinstance(bench.pager, Mover)
    bench.pager._moves.append(Permanent("move it by hand"))
    await bench.happens(OPENED.model_copy(update={"policy": "moving"}), LEVEL)
    await bench.run(MINUTE)
    [line] = [m for m in bench.chat._sent if m.event is not None and m.event.fact.kind == "message_dead"]
    assert (line.text, line.broadcast) == ("pager: move it by hand", True)
    assert bench.pager.sent == ["page"]


async def test_what_somebody_has_or_a_later_page_tells_is_not_moved() -> None:
    for fact in (f.Acknowledged(note=""), SECOND_LEVEL, CLOSED):
        bench = Bench(pager=Mover())
        assert isinstance(bench.pager, Mover)
        bench.pager._moves.extend([Temporary("not there yet")] * 3)
        await bench.happens(OPENED.model_copy(update={"policy": "moving"}), LEVEL)
        await bench.run(0)
        await bench.happens(fact)
        await bench.run(MINUTE)
        assert "move" not in bench.pager.sent
        [row] = [m for m in (await bench.rows()).values() if m.template == "move"]
        assert (row.state, row.error) == (Sending.DROPPED, "its page is answered, replaced or over")


async def test_a_pager_that_moves_nothing_is_not_asked_to() -> None:
    bench = Bench()
    await bench.happens(OPENED.model_copy(update={"policy": "moving"}), LEVEL)
    await bench.run(MINUTE)
    assert "move" not in {m.template for m in (await bench.rows()).values()}


async def test_a_broken_template_costs_the_form_not_the_message() -> None:
    broken = {"story/problem_found.txt.j2": "{{ no_such }}", "text/root.txt.j2": "{{ no_such }}"}
    bench = Bench(templates=MessageTemplates([broken]))
    await bench.happens(OPENED, PROBLEM)
    await bench.run(5 * SECOND)
    assert bench.chat.sent == ["root", "problem found: problem no runbook matches"]
    assert bench.chat._sent[0].text.startswith("[critical] VaR above its limit: risk-api/kelly_fraction is open")
    assert bench.became.count(Became.PLAIN) == 2


async def test_a_replay_is_told_only_where_nobody_is_reached() -> None:
    bench = Bench()
    await bench.happens(OPENED.model_copy(update={"namespace": "replay-1"}))
    for name in ("pager", "last"):
        row = MessageRow(name, "i1", 0, Lane.PAGE, name, "page", name, created_at=T0, next_at=T0)
        await bench.store.submit(Put(bench.new_id(), row))
    await bench.run(SECOND)
    assert (bench.pager.sent, bench.last.sent) == ([], ["page"])


async def test_a_destination_without_a_notifier_blocks_nobody() -> None:
    bench = Bench()
    await bench.happens(OPENED, LEVEL.model_copy(update={"page": ("gone", "pager")}))
    await bench.run(10 * SECOND)
    assert bench.pager.sent == ["page"]
    assert bench.last.sent == ["page"]
    assert any("no notifier is called gone" in said for said in bench.chat.sent)


async def test_one_replica_sends_for_all_and_another_goes_on_when_it_is_gone() -> None:
    bench = Bench()
    first, second = (bench.another(bench.another_desk(Worker(name))) for name in ("a", "b"))
    assert await first.work(bench.now) is not None
    await bench.happens(OPENED)
    await second.work(bench.now)
    assert second.busy == 0
    bench.now += 11 * SECOND
    await second.work(bench.now)
    await second.idle(None)
    assert bench.chat.sent == ["root"]


async def test_nothing_new_is_begun_after_a_stop() -> None:
    bench = Bench()
    await bench.happens(OPENED)
    await bench.delivery.stop(0)
    assert await bench.delivery.work(bench.now) is None
    assert bench.chat.sent == []


async def test_the_emergency_page_is_sent_once_an_outage_and_resolved() -> None:
    now = T0
    pager = Pager()
    pager._troubles.append(Temporary("503"))
    emergency = Emergency("main", {"pager": pager}, lambda: now)
    await emergency.store_down("disk full")
    await emergency.store_down("disk full")
    assert pager._tried == 1
    now += AGAIN
    await emergency.store_down("disk full")
    now += AGAIN
    await emergency.store_down("disk full")
    [page] = pager._sent
    assert page.key == "responder/main/store-down"
    assert page.text == "Responder main cannot record anything, so it acts on no alert: disk full"
    await emergency.store_back()
    await emergency.store_back()
    assert pager.sent == ["page", "resolve"]
    assert not emergency.pending


def test_messages_carry_no_body_unless_the_notifier_makes_one() -> None:
    body: JsonValue = Pager().compose("page", {}, TEMPLATES.render)
    assert body is None
