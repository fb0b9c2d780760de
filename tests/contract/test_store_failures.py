"""What a store does when the database fails, when there are two replicas, and when it is opened in the wrong place."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from responder.errors import BadConfig, StoreUnavailable
from responder.records import Change, Keys, Operation, ScopeRow, Sending, State, Writes
from responder.store import Store, open_store
from responder.store.group import Groups
from responder.store.migrating import migrate
from responder.store.sqlite import SqliteDatabase
from responder.store.tables import SCHEMA, metadata
from tests.contract.store_operations import (
    NOW,
    Does,
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
from tests.contract.store_outages import Cut, Proxy, no_space_beyond
from tests.servers import Postgres


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """A SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'responder.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    name = "file_url" if request.param == "sqlite" else "database"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
def proxy(database: str) -> Iterator[Proxy]:
    """Between the store and an empty PostgreSQL database."""
    with closing(Proxy(database)) as between:
        yield between


# --- opening ---


async def test_a_store_opens_twice_with_the_same_schema(url: str) -> None:
    for number in (1, 2):
        async with opened(url) as store:
            assert await store.submit(counts(f"op{number}", "n")) == number


async def test_the_migrations_add_up_to_the_tables(url: str) -> None:
    async with opened(url):
        engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": "schema_versions"})
            found = compare_metadata(context, metadata)
        engine.dispose()
    assert found == []


@pytest.mark.parametrize("needed", [SCHEMA, SCHEMA + 1])
async def test_a_database_of_a_newer_program_is_used_while_it_is_compatible(url: str, needed: int) -> None:
    async with opened(url):
        pass
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE meta SET value = '{SCHEMA + 1}' WHERE name = 'schema'"))
        connection.execute(text(f"UPDATE meta SET value = '{needed}' WHERE name = 'compatible_from'"))
    engine.dispose()
    if needed > SCHEMA:
        with pytest.raises(BadConfig, match=rf"needs a responder of schema {needed} or newer.*upgrade this replica"):
            open_store(url, lambda: NOW)
        return
    async with opened(url) as store:
        await store.ping()


async def test_a_second_process_on_a_file_is_refused(file_url: str) -> None:
    async with opened(file_url):
        with pytest.raises(BadConfig, match=f"is in use by process {os.getpid()}; stop that one first"):
            open_store(file_url, lambda: NOW)
    async with opened(file_url) as store:
        await store.ping()


def test_a_file_that_cannot_be_is_a_bad_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfig, match=r"cannot open .*file/responder.db"):
        open_store(f"sqlite:///{tmp_path / 'file' / 'responder.db'}", lambda: NOW)


@pytest.mark.parametrize("url", ["mysql://localhost/x", "responder.db", "sqlite://host/path"])
def test_a_url_of_no_use_is_a_bad_configuration(url: str) -> None:
    with pytest.raises(BadConfig, match="sqlite:///"):
        open_store(url, lambda: NOW)


def test_an_unreachable_server_is_told_without_its_password() -> None:
    with pytest.raises(StoreUnavailable, match=r"the store postgresql://127\.0\.0\.1:1/x cannot be opened") as raised:
        open_store("postgresql://user:hidden@127.0.0.1:1/x", lambda: NOW)
    assert "hidden" not in str(raised.value)


async def test_a_store_in_memory_is_inline() -> None:
    store = open_store("sqlite://", lambda: NOW)
    assert store.now() == NOW
    assert [await store.submit(counts(f"op{i}", "n")) for i in range(3)] == [1, 2, 3]
    assert [s.body for s in await store.scopes()] == ["3"]
    with pytest.raises(ZeroDivisionError):
        await store.submit(Does("bad", lambda _: Change(Writes(), 1 // 0)))
    await store.close()


# --- failing ---


async def test_a_full_disk_is_told_and_gets_better(file_url: str) -> None:
    async with opened(file_url) as store:
        await store.submit(counts("first", "n"))
        with no_space_beyond(4096):
            answers = await in_one_group(store, [counts("a", "n"), counts("b", "n")])
        assert [type(a) for a in answers] == [StoreUnavailable, StoreUnavailable]
        assert "cannot record anything now" in str(answers[0])
        assert await store.submit(counts("last", "n")) == 2


@pytest.mark.parametrize("cut", Cut)
async def test_a_commit_whose_answer_is_lost_counts_once(proxy: Proxy, cut: Cut) -> None:
    async with opened(proxy.url) as store:
        proxy.cut = cut
        assert await in_one_group(store, [counts("a", "n"), journals("b", "i1"), counts("c", "n")]) == [1, 1, 2]
        assert proxy.cuts == 1
        assert [s.body for s in await store.scopes()] == ["2"]
        assert len(await store.events("i1")) == 1
        assert await store.submit(counts("d", "n")) == 3


async def test_a_server_that_stops_is_told_and_comes_back(postgres: Postgres, database: str) -> None:
    async with opened(database) as store:
        assert await store.submit(counts("a", "n")) == 1
        postgres.kill()
        try:
            for operation in ("b", "c"):
                with pytest.raises(StoreUnavailable, match="cannot record anything now"):
                    await store.submit(counts(operation, "n"))
            with pytest.raises(StoreUnavailable, match="does not answer"):
                await store.scopes()
        finally:
            postgres.start()  # here and not in a thread: the server would end with the thread that started it
        assert await store.submit(counts("d", "n")) == 2
        assert [s.body for s in await store.scopes()] == ["2"]


async def test_a_connection_that_the_server_ends_is_not_noticed(postgres: Postgres, database: str) -> None:
    async with opened(database) as store:
        assert await store.submit(counts("a", "n")) == 1
        assert len(await store.scopes()) == 1
        name = database.rpartition("/")[2]
        postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        assert await store.submit(counts("b", "n")) == 2
        assert [s.body for s in await store.scopes()] == ["2"]


# --- two replicas ---


async def _each(store: Store, name: str, times: int, operation: str) -> list[int]:
    makes = {"scope": lambda i: counts(f"{name}{i}", "n"), "incident": lambda i: journals(f"{name}{i}", "i1")}
    return [await store.submit(makes[operation](number)) for number in range(times)]


@pytest.mark.parametrize("operation", ["scope", "incident"])
async def test_two_replicas_lose_no_update(database: str, operation: str) -> None:
    async with opened(database) as one, opened(database) as two:
        answers = await asyncio.gather(
            *(_each(s, n, 50, operation) for s in (one, two) for n in (f"{id(s)}a", f"{id(s)}b"))
        )
        assert sorted(chain.from_iterable(answers)) == list(range(1, 201))


async def test_a_row_that_another_replica_made_meanwhile_is_not_replaced(database: str) -> None:
    """There is no row to lock yet, so both find none."""
    entered, release = threading.Event(), threading.Event()

    def adds(state: State) -> Change[int]:
        change = counts("slow", "n").apply(state)
        entered.set()
        release.wait()
        return change

    async with opened(database) as one, opened(database) as two:
        slow = asyncio.ensure_future(one.submit(Does("slow", adds, Keys(scopes=frozenset({"n"})))))
        await asyncio.to_thread(entered.wait)
        assert await two.submit(counts("quick", "n")) == 1
        release.set()
        assert await slow == 2


async def test_a_replica_reads_what_another_one_wrote_last(database: str) -> None:
    """What it decoded earlier is remembered, but only for the version of the row that it was."""
    look = Does("looks", lambda state: Change(Writes(), state.incident("i1")), Keys(incidents=frozenset({"i1"})))
    async with opened(database) as one, opened(database) as two:
        for number in range(1, 4):
            await two.submit(journals(f"op{number}", "i1"))
            row = await one.submit(look)
            assert row is not None
            assert row.fold.seq == number


def _adds_in_order(operation_id: str, names: tuple[str, ...]) -> Does[None]:
    """Asks for one scope after the other, so that each is locked when the others are already."""

    def apply(state: State) -> Change[None]:
        found = [(name, state.scope(name)) for name in names]
        added = tuple(ScopeRow(n, str(1 + (0 if row is None else int(row.body))), state.now) for n, row in found)
        return Change(Writes(scopes=added), None)

    return Does(operation_id, apply)


async def test_replicas_that_ask_in_opposite_orders_do_not_block_each_other(database: str) -> None:
    async def adds(store: Store, name: str, names: tuple[str, ...]) -> None:
        for number in range(40):
            await store.submit(_adds_in_order(f"{name}{number}", names))

    async with opened(database) as one, opened(database) as two:
        await asyncio.gather(adds(one, "one", ("a", "b", "c")), adds(two, "two", ("c", "b", "a")))
        assert [s.body for s in await one.scopes()] == ["80", "80", "80"]


async def test_the_other_replica_is_woken(database: str) -> None:
    async with opened(database) as one, opened(database) as two:
        woken, own = asyncio.Event(), asyncio.Event()
        two.on_wake(woken.set)
        await asyncio.wait_for(_until(one, woken), 30)
        one.on_wake(own.set)
        await loop_turn()
        own.clear()
        assert not own.is_set()


async def _until(store: Store, woken: asyncio.Event) -> None:
    """Commit until the other one hears of it: it may not listen yet."""
    number = 0
    while not woken.is_set():
        number += 1
        await store.submit(writes(f"w{number}", timers=(timer("i1", NOW + number),)))


async def test_the_time_is_the_database_s_on_postgresql(database: str) -> None:
    async with opened(database) as store:
        await store.submit(counts("a", "n"))
        found = await store.scopes()
        assert found[0].updated_at == pytest.approx(store.now(), abs=60_000_000)
        assert store.now() != NOW


# --- any sequence, in any groups ---


def _tables(database: SqliteDatabase) -> dict[str, list[dict[str, object]]]:
    """Everything stored, but for what counts writings."""
    uncounted = {"version", "position"}
    with database.reading().connect() as connection:
        return {
            table.name: [
                {k: v for k, v in row.items() if k not in uncounted}
                for row in connection.execute(table.select().order_by(*table.primary_key)).mappings()
            ]
            for table in metadata.sorted_tables
        }


def _operation(number: int, kind: str, name: str) -> Operation[object]:
    operation_id = f"op{number}"
    if kind == "raises":
        return Does(operation_id, lambda _: Change(Writes(), 1 // 0))
    if kind == "refused":
        return writes(
            operation_id, events=(event("other", 1, f"{operation_id}a"), event("other", 1, f"{operation_id}b"))
        )
    if kind == "closes":
        return Does(operation_id, lambda s: _closes(s, name), Keys(incidents=frozenset({name})))
    made: dict[str, Operation[object]] = {
        "counts": counts(operation_id, name),
        "asks": counts(operation_id, name, declared=False),
        "journals": journals(operation_id, name),
        "arms": writes(operation_id, timers=(timer(name, NOW + number),)),
        "disarms": writes(operation_id, timers=(timer(name, NOW, gone=True),)),
        "tells": writes(operation_id, messages=(message(name, attempts=number),)),
        "renews": writes(operation_id, renewed=(message(name, next_at=NOW + number),)),
        "sends": Does(operation_id, lambda s: _sends(s, name), Keys(messages=frozenset({name}))),
    }
    return made[kind]


def _closes(state: State, name: str) -> Change[object]:
    """Closes an incident and opens its successor on the same key, as a relapse would."""
    row = state.incident(name) or incident(name)
    over = type(row)(row.id, None, row.fold, "me", row.epoch + 1, 0)
    return Change(Writes(incidents=(over,)), None)


def _sends(state: State, name: str) -> Change[object]:
    """Marks a message as sent, and answers what it was."""
    row = state.message(name)
    sent = () if row is None else (replace(row, state=Sending.SENT, attempts=row.attempts + 1),)
    return Change(Writes(messages=sent), row)


KINDS = ("counts", "asks", "journals", "closes", "arms", "disarms", "tells", "renews", "sends", "raises", "refused")
OPERATIONS = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from("ab")), max_size=25)


@given(OPERATIONS, st.lists(st.integers(1, 6), max_size=25))
def test_groups_of_any_size_do_what_one_operation_after_the_other_does(
    drawn: list[tuple[str, str]], sizes: list[int]
) -> None:
    operations = [_operation(number, kind, name) for number, (kind, name) in enumerate(drawn)]
    assert _run(operations, sizes) == _run(operations, [1] * len(operations))


def _run(
    operations: list[Operation[object]], sizes: list[int]
) -> tuple[list[object], dict[str, list[dict[str, object]]]]:
    """What was answered, and what is stored then."""
    database = SqliteDatabase(None)
    migrate(database)
    groups, answers, rest = Groups(database, lambda: NOW), [], operations
    for size in [*sizes, len(operations)]:
        outcomes = groups.run(rest[:size]).outcomes if rest[:size] else ()
        answers += [outcome.answer if outcome.error is None else type(outcome.error) for outcome in outcomes]
        rest = rest[size:]
    stored = _tables(database)
    database.close()
    return answers, stored
