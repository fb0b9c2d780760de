"""Pages that replace each other, and moves to a level's escalation policy, on their way out of the outbox."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from typing import ClassVar

from pydantic import PrivateAttr

from responder import facts as f
from responder.contracts import Message
from responder.errors import Permanent, Temporary
from responder.records import Lane, MessageRow, Sending
from responder.timing import MINUTE, SECOND
from tests.unit.delivery_parts import (
    CLOSED,
    LEVEL,
    OPENED,
    SECOND_LEVEL,
    T0,
    Bench,
    Pager,
    Put,
)


def another_page(name: str, at: int, **known: int) -> MessageRow:
    row = MessageRow(name, "i1", 0, Lane.PAGE, "pager", "page", name, created_at=at, next_at=at)
    return replace(row, **known)  # type: ignore[arg-type]


async def test_a_page_does_not_wait_for_the_one_that_tries_a_pager_which_is_down() -> None:
    bench = Bench()
    bench.pager._troubles.extend([Temporary("503")] * 4)
    await bench.happens(OPENED, LEVEL)
    await bench.run(6 * SECOND)
    bench.pager._gate = asyncio.Event()
    bench.now += SECOND
    await bench.begun(lambda: bench.pager._tried == 4)
    waiting = another_page("m2", bench.now)
    for row in (replace(waiting, created_at=bench.now - 59 * SECOND), another_page("m3", bench.now)):
        await bench.store.submit(Put(bench.new_id(), row))
    await bench.begun(lambda: bench.delivery.busy == 1)  # word of it is written
    await bench.begun(lambda: bool(bench.last._sent))
    assert (await bench.rows())["m2"].error == "pager takes nothing at the moment"
    assert ([m.id for m in bench.last._sent], bench.pager._tried) == (["m2>last"], 4)
    bench.pager._gate.set()
    await bench.run(20 * SECOND)
    assert "m3" in {m.id for m in bench.pager._sent}
    assert [m.id for m in bench.last._sent] == ["m2>last"], "the others waited for less than a minute"


async def test_what_tried_a_pager_in_vain_keeps_its_place_by_severity_when_that_is_back() -> None:
    """It had a minute to wait for itself, from its last try on."""
    bench = Bench()
    bench.pager._troubles.extend([Temporary("503")] * 12)
    await bench.happens(OPENED)
    await bench.store.submit(Put(bench.new_id(), another_page("severe", bench.now, rank=3)))
    while bench.pager._troubles:
        await bench.run(SECOND)
    assert bench.now - T0 > MINUTE
    await bench.run(16 * SECOND)
    assert "severe" in {m.id for m in bench.pager._sent}


class Paced(Pager):
    pace: ClassVar[int] = 10 * SECOND
    burst: ClassVar[int] = 1


async def test_a_page_that_failed_and_then_waits_for_its_turn_is_handed_over_after_a_minute() -> None:
    bench = Bench(pager=Paced())
    await bench.happens(OPENED)
    for number in range(9):
        row = another_page(f"m{number}", bench.now, attempts=number // 8, rank=-number)
        await bench.store.submit(Put(bench.new_id(), row))
    await bench.run(61 * SECOND)
    assert len(bench.pager._sent) == 6, "the turn of the seventh comes with its minute's end, and later pages tell it"
    assert [m.id for m in bench.last._sent if m.kind == "page"] == ["m7>last", "m8>last"]
    assert (await bench.rows())["m7"].error == "pager takes no more at once"


async def test_a_page_that_lay_while_no_process_ran_needs_no_other_channel() -> None:
    bench = Bench()
    await bench.happens(OPENED)
    await bench.store.submit(Put(bench.new_id(), another_page("m1", bench.now - 10 * MINUTE)))
    await bench.run(SECOND)
    assert (bench.pager.sent, bench.last.sent) == (["page"], [])


async def test_between_two_known_times_nothing_is_looked_at() -> None:
    """The page is tried after 1, 3, 7, 15 and 31 s and then has no minute left; the pager is left alone until 4, 9, 19
    and 39; the root message hears at 34 of the other channel."""
    bench = Bench()
    bench.pager._troubles.extend([Temporary("503")] * 99)
    await bench.happens(OPENED)
    began, looked_at = bench.now, []
    await bench.store.submit(Put(bench.new_id(), another_page("m1", began)))
    while bench.now < began + MINUTE:
        due = await bench.delivery.work(bench.now)
        if bench.delivery.busy:
            await bench.delivery.idle(None)
            continue
        assert due is not None
        looked_at.append((due - began) // SECOND)
        bench.now = due
    assert looked_at == [1, 3, 4, 7, 9, 15, 19, 31, 34, 39, 63]


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
    bench.pager._troubles.extend([Temporary("429")] * 16)
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
