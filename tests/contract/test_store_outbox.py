"""What waits in the outbox, as every store keeps and orders it: on a SQLite file and on PostgreSQL."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from responder.records import HAND_OVER, Change, Keys, Lane, Sending, State, Writes
from tests.contract.store_operations import NOW, Does, in_one_group, message, opened, writes


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'responder.db'}"
    database: str = request.getfixturevalue("database")
    return database


async def test_messages_leave_by_lane_then_severity_then_age(url: str) -> None:
    async with opened(url) as store:
        rows = (
            message("thread", lane=Lane.THREAD, rank=9),
            message("root", lane=Lane.ROOT),
            message("low page", lane=Lane.PAGE, rank=1),
            message("old page", lane=Lane.PAGE, rank=5, created_at=NOW - 1),
            message("page", lane=Lane.PAGE, rank=5),
            message("later", lane=Lane.PAGE, next_at=NOW + 1),
            message("sent", lane=Lane.PAGE, state=Sending.SENT),
        )
        await store.submit(writes("a", messages=rows))
        due = [m.id for m in await store.due_messages(NOW, 10)]
        assert due == ["old page", "page", "low page", "root", "thread"]
        first = [m.id for m in await store.due_messages(NOW, 1)]
        assert first == ["old page", "root", "thread"], "so many of each lane of a destination"
        assert await store.next_message_due() == NOW


async def test_what_waits_for_one_destination_hides_nothing_of_another(url: str) -> None:
    async with opened(url) as store:
        many = tuple(message(f"slow {n}", lane=Lane.PAGE, rank=9, destination="slow") for n in range(5))
        await store.submit(writes("a", messages=(*many, message("other", lane=Lane.PAGE, destination="quick"))))
        assert [m.id for m in await store.due_messages(NOW, 2)] == ["slow 0", "slow 1", "other"]
        assert await store.next_message_due() == NOW


async def test_of_a_destination_that_is_down_nothing_is_due(url: str) -> None:
    async with opened(url) as store:
        rows = (
            message("thread", lane=Lane.THREAD, destination="down"),
            message("page", lane=Lane.PAGE, destination="down"),
            message("other", lane=Lane.THREAD, next_at=NOW + 3),
        )
        await store.submit(writes("a", messages=rows))
        assert [m.id for m in await store.due_messages(NOW + 3, 10, {"down"})] == ["other"]
        assert len(await store.due_messages(NOW + 3, 10, {"another"})) == 3
        assert await store.next_message_due(held={"down"}) == NOW + 3
        assert await store.next_message_due(held={"other"}) == NOW
        assert [await store.next_message_due(after) for after in (NOW - 1, NOW, NOW + 3)] == [NOW, NOW + 3, None]


async def test_pages_that_nobody_has_yet_are_found_the_oldest_first(url: str) -> None:
    """However severe the later ones are, and though they are not to be tried now: their minute is looked at."""
    async with opened(url) as store:
        pages = (
            message("new", lane=Lane.PAGE, template="page", rank=9),
            message("old", lane=Lane.PAGE, template="page", created_at=NOW - 9, next_at=NOW + 9),
            message("older", lane=Lane.PAGE, template="page", created_at=NOW - 10, destination="slow"),
            message("handed over", lane=Lane.PAGE, template="page", created_at=NOW - HAND_OVER),
            message("sent", lane=Lane.PAGE, template="page", state=Sending.SENT),
            message("resolve", lane=Lane.PAGE, template="resolve"),
            message("line", lane=Lane.THREAD, template="page"),
            message("first", lane=Lane.PAGE, template="resolve", order_key="dedup", destination="third"),
            message("behind", lane=Lane.PAGE, template="page", order_key="dedup", destination="third"),
        )
        await store.submit(writes("a", messages=pages))
        assert {m.id for m in await store.unaccepted_pages(9)} == {"old", "new", "older", "behind"}
        assert {m.id for m in await store.unaccepted_pages(1)} == {"old", "older", "behind"}, "one of each"


async def test_behind_an_unsent_message_of_its_order_key_a_message_waits(url: str) -> None:
    async with opened(url) as store:
        trigger = message("z trigger", order_key="dedup", next_at=NOW + 50)
        resolve = message("a resolve", order_key="dedup", rank=9)
        await store.submit(writes("a", messages=(trigger, resolve)))
        assert await store.due_messages(NOW, 10) == []
        assert await store.next_message_due() == NOW + 50
        await store.submit(writes("b", messages=(replace(trigger, attempts=3),)))
        assert [m.id for m in await store.due_messages(NOW + 50, 10)] == ["z trigger"]
        await store.submit(writes("c", messages=(replace(trigger, state=Sending.DEAD),)))
        assert [m.id for m in await store.due_messages(NOW, 10)] == ["a resolve"]


async def test_a_renewed_message_is_pending_again_and_keeps_what_was_answered(url: str) -> None:
    sent = message("root", state=Sending.SENT, attempts=2, sent_at=NOW, provider='{"ts": "1"}', error="slow")
    fresh = message("root", next_at=NOW + 9, event_seq=4, rank=2)
    again = replace(sent, state=Sending.PENDING, attempts=0, error="", next_at=NOW + 9, event_seq=4, rank=2)
    async with opened(url) as store:
        await store.submit(writes("new", renewed=(fresh,)))
        assert await store.messages_of("i1") == [fresh]
        await store.submit(writes("sent", messages=(sent,)))
        await store.submit(writes("again", renewed=(fresh,)))
        assert await store.messages_of("i1") == [again]


async def test_a_renewed_message_is_seen_by_whoever_reads_it_in_the_same_group(url: str) -> None:
    sent, fresh = message("root", state=Sending.SENT, provider="{}"), message("root", next_at=NOW + 9)

    def looks(state: State) -> Change[Any]:
        return Change(Writes(), (state.message("root"), state.message("other")))

    async with opened(url) as store:
        await store.submit(writes("sent", messages=(sent,)))
        renews = writes("renews", renewed=(fresh, message("other")))
        answers = await in_one_group(store, [renews, Does("looks", looks)])
        assert answers[1] == (message("root", next_at=NOW + 9, provider="{}"), message("other"))


async def test_a_message_that_was_looked_for_in_vain_and_then_renewed_is_seen(url: str) -> None:
    fresh, key = message("root"), Keys(messages=frozenset({"root"}))
    looks = [Does(f"looks{n}", lambda state: Change(Writes(), state.message("root")), key) for n in range(2)]
    async with opened(url) as store:
        assert await in_one_group(store, [looks[0], writes("renews", renewed=(fresh,)), looks[1]]) == [
            None,
            None,
            fresh,
        ]


async def test_dead_messages_are_listed_newest_first(url: str) -> None:
    rows = tuple(replace(message(f"m{n}"), created_at=NOW + n // 2, state=Sending.DEAD) for n in range(4))
    async with opened(url) as store:
        await store.submit(writes("a", messages=(*rows, message("m9"))))
        assert [m.id for m in await store.dead_messages(10)] == ["m3", "m2", "m1", "m0"]
        assert await store.dead_messages(1) == [rows[3]]
