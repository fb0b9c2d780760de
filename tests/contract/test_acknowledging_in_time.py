"""Somebody acknowledges about when a level comes due: the journal's order decides and no clock, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from responder import facts as f
from responder.commands import Command
from responder.desk import Shelf
from responder.draft import Worker
from responder.operations import Tick
from responder.outbox import PAGE, useless
from responder.policies import Policy
from responder.rules import Rules
from responder.store import Store, open_store
from responder.timing import MINUTE, SECOND
from tests.builders import fired
from tests.contract.store_operations import in_one_group
from tests.unit.delivery_parts import OPENED, T0, Happens

WRITTEN = [{"name": "L1", "after": 0, "page": "pager"}, {"name": "L2", "after": "15m", "page": "second"}]
POLICY = Policy.model_validate({"levels": WRITTEN})
RULES = Rules(hash="h", runbooks={}, policies={"p": POLICY}, by_severity={}, default_policy="p")
SHELF = Shelf(RULES, "main")
LEVEL, ACK, ESCALATE = "level", "ack", "escalate"


class Clock:
    """Stands still in the instant of the level. On PostgreSQL a store adds to it what its database is ahead."""

    now = T0

    def __call__(self) -> int:
        return self.now


def operation(kind: str, number: int) -> Any:
    if kind == LEVEL:
        return Tick(f"tick-{number}", "i1", SHELF, Worker(f"replica-{number}"))
    return Command(f"{kind}-{number}", "i1", kind, f"person-{number}", SHELF, None, note="on it")


async def begun(store: Store, clock: Clock) -> None:
    """An incident whose first level was told, seen at the instant of its second."""
    clock.now = T0
    await store.submit(Happens("open", (OPENED, fired()), SHELF))
    await store.submit(operation(LEVEL, 99))
    clock.now = T0 + 15 * MINUTE


async def story(store: Store) -> tuple[list[str], list[str]]:
    """What happened after the first level, and the pages of it that would still wake somebody."""
    happened = [event.fact for event in await store.events("i1")]
    kinds = [str(fact.kind) for fact in happened if isinstance(fact, f.LevelReached | f.Acknowledged)]
    row = await store.incident("i1")
    assert row is not None
    pages = [m for m in await store.messages_of("i1") if m.template == PAGE and m.destination == "second"]
    return kinds[1:], [m.id for m in pages if useless(m, row.fold, replays=False) is None]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ([ACK, LEVEL], ["acknowledged"]),
        ([LEVEL, ACK], ["level_reached", "acknowledged"]),
        ([LEVEL, LEVEL, ACK, LEVEL], ["level_reached", "acknowledged"]),
        ([ACK, LEVEL, ACK, LEVEL], ["acknowledged"]),
    ],
)
async def test_in_one_commit_the_earlier_of_the_two_decides(
    url: str, order: Sequence[str], expected: list[str]
) -> None:
    clock = Clock()
    store = await asyncio.to_thread(open_store, url, clock)
    try:
        await begun(store, clock)
        answers = await in_one_group(store, [operation(kind, number) for number, kind in enumerate(order)])
        assert not [one for one in answers if isinstance(one, BaseException)]
        kinds, waking = await story(store)
        assert [kind for n, kind in enumerate(kinds) if kind not in kinds[:n]] == expected
        assert kinds.count("level_reached") == expected.count("level_reached"), "told once, or not at all"
        assert waking == [], "who has it in that instant has it: a page that has not left wakes nobody"
        clock.now += MINUTE
        await store.submit(operation(LEVEL, 50))
        levels = [e for e in await store.events("i1") if isinstance(e.fact, f.LevelReached)]
        assert len(levels) == 1 + kinds.count("level_reached"), "and nothing comes later"
    finally:
        await store.close()


async def test_of_two_replicas_one_comes_first_and_the_other_sees_it(database: str) -> None:
    clock = Clock()
    one, other = [await asyncio.to_thread(open_store, database, clock) for _ in "12"]
    try:
        await begun(one, clock)
        await asyncio.gather(*(one.submit(operation(LEVEL, n)) for n in range(5)), other.submit(operation(ACK, 7)))
        kinds, waking = await story(other)
        assert kinds in (["acknowledged"], ["level_reached", "acknowledged"])
        # Two replicas tell the time from their own connections: the later of the two may bear the earlier time.
        assert waking == []
    finally:
        await one.close()
        await other.close()


async def two_clocks(url: str, first: str, second: str, ahead: int) -> tuple[list[str], list[str]]:
    """Two words of two replicas at the second level; the clock of the replica that comes second is `ahead` (µs).
    SQLite has one process, whose clock is set."""
    clocks = (Clock(), Clock())
    one = await asyncio.to_thread(open_store, url, clocks[0])
    other = await asyncio.to_thread(open_store, url, clocks[1]) if url.startswith("postgresql") else one
    try:
        await begun(one, clocks[0])
        clocks[1].now = clocks[0].now + ahead
        await one.submit(operation(first, 1))
        if other is one:
            clocks[0].now = clocks[1].now
        await other.submit(operation(second, 2))
        return await story(one)
    finally:
        await one.close()
        if other is not one:
            await other.close()


@pytest.mark.parametrize("ahead", [-5 * SECOND, 0, 5 * SECOND])
async def test_escalate_now_wakes_the_next_though_an_acknowledgement_before_it_bears_a_later_time(
    url: str, ahead: int
) -> None:
    kinds, waking = await two_clocks(url, ACK, ESCALATE, ahead)
    assert kinds == ["acknowledged", "level_reached"]
    assert len(waking) == 1, "a person wants it told now, whoever had it before"


@pytest.mark.parametrize("ahead", [-5 * SECOND, 0, 5 * SECOND])
async def test_who_acknowledges_after_the_level_has_it_though_the_clock_says_before(url: str, ahead: int) -> None:
    kinds, waking = await two_clocks(url, LEVEL, ACK, ahead)
    assert kinds == ["level_reached", "acknowledged"]
    assert waking == []
