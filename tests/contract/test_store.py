"""What every store does, one table of cases: on a SQLite file and on PostgreSQL."""

import asyncio
import sqlite3
import threading
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from responder.errors import Rejected, StoreUnavailable
from responder.incident import Due
from responder.records import (
    Change,
    DeadLetterRow,
    EpisodeRow,
    Keys,
    NotificationRow,
    ScopeRow,
    Sending,
    State,
    Writes,
)
from responder.store import Committed, Store, open_store
from responder.store.reads import Reads
from tests.contract.store_operations import (
    NOW,
    Does,
    closed,
    counts,
    event,
    in_one_group,
    incident,
    journals,
    loop_turn,
    message,
    opened,
    timer,
    writes,
)

# --- writing ---


async def test_what_is_answered_is_stored(url: str) -> None:
    rows = Writes(
        notifications=(NotificationRow("n1", "live", NOW, "am-1", "responder", "{}:{a=1}", 1, 0, b"\x00\xff"),),
        episodes=(
            EpisodeRow("live", "f1", "i1", firing=True, since=NOW, starts_at=None, ended_at=None, severity="critical"),
        ),
        incidents=(incident("i1"),),
        events=(event("i1", 1), event("i1", 2)),
        timers=(timer("i1", NOW),),
        messages=(message("m1"),),
        scopes=(ScopeRow("lock:a", '{"a": 1}', NOW),),
        dead_letters=(DeadLetterRow("d1", NOW, "am-1", "not JSON", b"{"),),
    )
    async with opened(url) as store:
        await store.submit(Does("op", lambda _: Change(rows, None)))
    async with opened(url) as store:
        assert await store.notifications(NOW, NOW + 1, 10) == list(rows.notifications)
        assert await store.incident("i1") == rows.incidents[0]
        assert await store.events("i1") == list(rows.events)
        assert await store.events("i1", after_seq=1) == [rows.events[1]]
        assert await store.due_timers(NOW, "me", 10) == [("i1", rows.timers[0].due)]
        assert await store.messages_of("i1") == list(rows.messages)
        assert await store.scopes("lock:") == list(rows.scopes)
        assert await store.dead_letters() == list(rows.dead_letters)
        keys = Keys(episodes=frozenset({("live", "f1")}))
        read = Does("read", lambda state: Change(Writes(), (state.episode("live", "f1"), state.incident("i1"))), keys)
        assert await store.submit(read) == (rows.episodes[0], rows.incidents[0])


async def test_operations_that_wait_share_one_commit(url: str) -> None:
    async with opened(url) as store:
        told: list[Committed] = []
        store.on_commit(told.append)
        answers = await in_one_group(store, [counts(f"op{i}", "runs:x") for i in range(20)])
        assert answers == list(range(1, 21))
        assert len(told) == 1


async def test_nothing_is_visible_before_the_commit(url: str) -> None:
    entered, release = threading.Event(), threading.Event()

    def wait(state: State) -> Change[None]:
        entered.set()
        release.wait()
        return Change(Writes(), None)

    async with opened(url) as store:
        group = asyncio.ensure_future(
            in_one_group(store, [writes("op", incidents=(incident("i1"),)), Does("wait", wait)])
        )
        await asyncio.to_thread(entered.wait)
        before = await store.incident("i1")
        release.set()
        await group
        assert before is None
        assert await store.incident("i1") is not None


def _raises(error: Exception) -> Does[None]:
    def apply(state: State) -> Change[None]:
        raise error

    return Does("raises", apply)


async def test_an_operation_that_raises_fails_alone(url: str) -> None:
    refused = Rejected("the gate closed")
    async with opened(url) as store:
        answers = await in_one_group(store, [counts("a", "n"), _raises(refused), counts("b", "n")])
        assert answers == [1, refused, 2]


async def test_rows_that_the_database_refuses_fail_alone_and_the_others_count_once(url: str) -> None:
    async with opened(url) as store:
        await store.submit(journals("first", "i1"))
        again = writes("again", events=(event("i1", 1),))
        answers = await in_one_group(store, [counts("a", "n"), again, counts("b", "n"), journals("second", "i1")])
        assert [answers[0], answers[2], answers[3]] == [1, 2, 2]
        assert isinstance(answers[1], sqlite3.IntegrityError | psycopg.errors.UniqueViolation)
        assert [e.seq for e in await store.events("i1")] == [1, 2]


async def test_what_cannot_be_encoded_fails_alone(url: str) -> None:
    async with opened(url) as store:
        bad = writes("bad", scopes=(ScopeRow("lone \ud800", "{}", NOW),))
        answers = await in_one_group(store, [counts("a", "n"), bad, counts("b", "n")])
        assert [answers[0], answers[2]] == [1, 2]
        assert isinstance(answers[1], UnicodeEncodeError)


async def test_rows_that_were_not_named_are_loaded_on_request(url: str) -> None:
    async with opened(url) as store:
        row = incident("i1")
        episode = EpisodeRow("live", "f1", "i1", firing=True, since=NOW, starts_at=None, ended_at=None, severity=None)
        await store.submit(writes("op", incidents=(row,), episodes=(episode,), messages=(message("m1"),)))

        def asks(state: State) -> Change[Any]:
            found = (state.message("m1"), state.open_incident("open-target-i1"), state.episode("live", "f1"))
            return Change(Writes(), (*found, state.episode("live", "f2"), state.incident("i2"), state.scope("s")))

        assert await store.submit(Does("asks", asks)) == (message("m1"), row, episode, None, None, None)


async def test_an_open_key_names_the_open_incident_only(url: str) -> None:
    first, second = incident("i1", target="t"), incident("i2", target="t")

    def found(state: State) -> Change[str | None]:
        row = state.open_incident("open-t")
        return Change(Writes(), None if row is None else row.id)

    async with opened(url) as store:
        looks = Does("looks", found, Keys(open_keys=frozenset({"open-t"})))
        assert await store.submit(looks) is None
        await store.submit(writes("a", incidents=(first,)))
        assert await store.submit(looks) == "i1"
        with pytest.raises((sqlite3.IntegrityError, psycopg.errors.UniqueViolation)):
            await store.submit(writes("b", incidents=(second,)))
        await store.submit(writes("c", incidents=(closed(first),)))
        assert await store.submit(looks) is None
        await store.submit(writes("d", incidents=(second,)))
        assert await store.submit(looks) == "i2"


async def test_the_key_of_an_incident_that_closes_is_free_within_the_same_group(url: str) -> None:
    first, second = incident("i1", target="t"), incident("i2", target="t")
    key = Keys(open_keys=frozenset({"open-t"}))
    ends = Does("ends", lambda s: Change(Writes(incidents=(closed(s.open_incident("open-t") or second),)), None), key)
    begins = Does("begins", lambda s: Change(Writes(incidents=(second,)), s.open_incident("open-t")), key)
    async with opened(url) as store:
        await store.submit(writes("a", incidents=(first,)))
        assert await in_one_group(store, [ends, begins]) == [None, None]
        assert [i.id for i in await store.incidents(status="open")] == ["i2"]


async def test_the_last_row_of_a_key_wins(url: str) -> None:
    async with opened(url) as store:
        operations = [
            writes("a", timers=(timer("i1", NOW), timer("i1", NOW, "hold")), scopes=(ScopeRow("s", "1", NOW),)),
            writes("b", timers=(timer("i1", NOW + 5), timer("i1", NOW, "hold", gone=True))),
            writes("c", scopes=(ScopeRow("s", "3", NOW),), messages=(message("m1"), message("m1", attempts=1))),
        ]
        await in_one_group(store, operations)
        assert await store.due_timers(NOW + 9, "me", 9) == [("i1", timer("i1", NOW + 5).due)]
        assert [s.body for s in await store.scopes()] == ["3"]
        assert await store.messages_of("i1") == [message("m1", attempts=1)]


async def test_a_row_is_the_same_whoever_reads_it(url: str) -> None:
    """Leases change without an event, so the cached fold must not hide them."""
    async with opened(url) as store:
        await store.submit(journals("a", "i1"))

        def leases(state: State) -> Change[None]:
            row = state.incident("i1")
            assert row is not None
            return Change(Writes(incidents=(replace(row, owner="me", epoch=row.epoch + 1, lease_until=NOW),)), None)

        for number in range(3):
            await store.submit(Does(f"lease{number}", leases, Keys(incidents=frozenset({"i1"}))))
        row = await store.incident("i1")
        assert row is not None
        assert (row.owner, row.epoch, row.lease_until, row.fold.seq) == ("me", 3, NOW, 1)


async def test_a_commit_is_told_with_what_it_changed(url: str) -> None:
    async with opened(url) as store:
        told: list[Committed] = []
        store.on_commit(told.append)
        await store.submit(
            writes(
                "a",
                incidents=(incident("i1"),),
                events=(event("i1", 1),),
                timers=(timer("i1", NOW + 7), timer("i1", NOW, "hold", gone=True)),
                messages=(message("m1", state=Sending.SENT),),
            )
        )
        await store.submit(writes("b", messages=(message("m2"),)))
        await store.submit(Does("nothing", lambda _: Change(Writes(), None)))
        assert told == [
            Committed(incidents=("i1",), messages=False, timers=NOW + 7, events=(event("i1", 1),)),
            Committed(incidents=(), messages=True, timers=None, events=()),
        ]


def _breaks(_: Committed) -> None:
    raise ZeroDivisionError


async def test_an_observer_that_raises_leaves_nobody_without_an_answer(url: str) -> None:
    async with opened(url) as store:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        store.on_commit(_breaks)
        assert await asyncio.wait_for(store.submit(counts("a", "n")), 30) == 1
        assert [type(context["exception"]) for context in told] == [ZeroDivisionError]


async def test_the_oldest_wait_counts_until_the_answer(url: str) -> None:
    entered, release = threading.Event(), threading.Event()

    def wait(state: State) -> Change[None]:
        entered.set()
        release.wait()
        return Change(Writes(), None)

    async with opened(url) as store:
        assert store.oldest_wait() == 0.0
        waiting = asyncio.ensure_future(store.submit(Does("wait", wait)))
        await asyncio.to_thread(entered.wait)
        assert store.oldest_wait() > 0.0
        release.set()
        await waiting
        assert store.oldest_wait() == 0.0


async def test_closing_writes_what_waits_and_refuses_more(url: str) -> None:
    async with opened(url) as store:
        waiting = [asyncio.ensure_future(store.submit(counts(f"op{i}", "n"))) for i in range(50)]
        await loop_turn()
        await store.close()
        assert await asyncio.gather(*waiting) == list(range(1, 51))
        with pytest.raises(StoreUnavailable, match="closing"):
            await store.submit(counts("late", "n"))
    async with opened(url) as store:
        assert [s.body for s in await store.scopes()] == ["50"]


async def test_closing_waits_for_what_is_being_read_though_nobody_waits_for_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def slow(_reads: Any) -> None:
        begun.set()
        go_on.wait(20)
        over.set()

    monkeypatch.setattr(Reads, "ping", slow)
    store = open_store(url, lambda: NOW)
    asked = asyncio.create_task(store.ping())
    await asyncio.to_thread(begun.wait)
    asked.cancel()
    closing = asyncio.create_task(store.close())
    done, _ = await asyncio.wait({closing}, timeout=0.05)
    assert (done, over.is_set()) == (set(), False)
    go_on.set()
    await closing
    assert over.is_set()


# --- reading ---


async def test_work_of_a_leased_incident_is_left_to_its_owner(url: str) -> None:
    leased = incident("i1", owner="other", lease_until=NOW + 10)
    expired = incident("i2", owner="other", lease_until=NOW - 1)
    rows = [timer("i1", NOW - 3, "level"), timer("scope:x", NOW - 1, "remind", work=True)]
    work = [timer(i, NOW - 2, "step", work=True) for i in ("i1", "i2")]
    async with opened(url) as store:
        await store.submit(writes("a", incidents=(leased, expired), timers=(*rows, *work, timer("i1", NOW + 1))))
        due = await store.due_timers(NOW, "me", 10)
        assert [(s, d.kind) for s, d in due] == [("i2", "step"), ("scope:x", "remind")]
        assert len(await store.due_timers(NOW, "me", 1)) == 1
        mine = await store.due_timers(NOW, "other", 10)
        assert [(s, d.kind) for s, d in mine] == [("i1", "step"), ("i2", "step"), ("scope:x", "remind")]


async def test_the_next_look_is_at_the_first_free_timer_or_the_end_of_a_lease(url: str) -> None:
    async with opened(url) as store:
        assert await store.next_timer_due(NOW, "me") is None
        work = timer("i1", NOW - 5, "step", work=True)
        leased = incident("i1", owner="other", lease_until=NOW + 10)
        await store.submit(writes("a", incidents=(leased,), timers=(work, timer("i2", NOW + 20))))
        assert await store.next_timer_due(NOW, "me") == NOW + 11
        assert await store.next_timer_due(NOW, "other") == NOW - 5
        await store.submit(writes("b", timers=(timer("i3", NOW + 3),)))
        assert await store.next_timer_due(NOW, "me") == NOW + 3


async def _listed(store: Store, **asked: Any) -> list[str]:
    return [row.id for row in await store.incidents(**asked)]


async def test_incidents_are_listed_newest_first_in_pages(url: str) -> None:
    rows = [incident(f"i{n}", fold={"opened_at": NOW + n // 2}) for n in range(6)]
    rows[2] = closed(rows[2])
    async with opened(url) as store:
        await store.submit(writes("a", incidents=tuple(rows)))
        assert await _listed(store) == ["i5", "i4", "i3", "i2", "i1", "i0"]
        assert await _listed(store, limit=2, before="i4") == ["i3", "i2"]
        assert await _listed(store, status="closed") == ["i2"]
        assert await _listed(store, status="open", target="target-i3") == ["i3"]


async def test_an_incident_is_found_by_the_beginning_of_its_id(url: str) -> None:
    async with opened(url) as store:
        await store.submit(writes("a", incidents=(incident("ab1"), incident("ab2"), incident("ab"), incident("c%d"))))
        found = [await store.incident(prefix) for prefix in ("ab1", "ab", "c", "c%", "d", "%")]
        assert [row and row.id for row in found] == ["ab1", "ab", "c%d", "c%d", None, None]
        with pytest.raises(Rejected, match="several incidents begin with 'a'"):
            await store.incident("a")


async def test_versions_are_kept_by_hash(url: str) -> None:
    async with opened(url) as store:
        assert await store.version("h", "rules") is None
        await store.put_version("h", "rules", b"body")
        await store.put_version("h", "rules", b"body")
        assert await store.version("h", "rules") == b"body"
        rows = (incident("i1"), closed(incident("i2", fold={"rules_hash": "old"})))
        await store.submit(writes("a", incidents=rows))
        assert await store.pinned_rules() == {"rules-1"}


async def test_orphans_are_what_another_owner_holds_open(url: str) -> None:
    rows = (
        incident("i1", owner="dead"),
        incident("i2", owner="me"),
        incident("i3"),
        closed(incident("i4", owner="dead")),
    )
    async with opened(url) as store:
        await store.submit(writes("a", incidents=rows))
        assert await store.orphans("me") == ["i1"]


async def test_a_dead_letter_that_was_understood_is_no_longer_listed(url: str) -> None:
    letter = DeadLetterRow("d1", NOW, "am-1", "not JSON", b"{")
    async with opened(url) as store:
        await store.submit(writes("a", dead_letters=(letter,)))
        await store.submit(writes("b", dead_letters=(replace(letter, state="done"),)))
        assert await store.dead_letters() == []
        assert [d.state for d in await store.dead_letters(None)] == ["done"]


async def test_a_timer_keeps_its_round_and_kind_apart(url: str) -> None:
    rows = tuple(timer("i1", NOW, kind) for kind in ("level", "hold"))
    second = replace(rows[0], due=Due(kind="level", round=1, due=NOW))
    async with opened(url) as store:
        await store.submit(writes("a", timers=(*rows, second)))
        await store.submit(writes("b", timers=(replace(second, gone=True),)))
        due = await store.due_timers(NOW, "me", 10)
        assert [(d.kind, d.round) for _, d in due] == [("hold", 0), ("level", 0)]


async def test_many_readers_at_once_do_not_take_each_other_s_connections(url: str) -> None:
    """With the pool that SQLAlchemy chooses by itself for SQLite, this ended the process."""
    async with opened(url) as store:
        await store.submit(Does("write", lambda state: Change(Writes(scopes=(ScopeRow("a", "{}", NOW),)), None)))
        found = await asyncio.gather(*(store.scopes("a") for _ in range(400)))
        assert {len(rows) for rows in found} == {1}
