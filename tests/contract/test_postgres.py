"""The PostgreSQL actions against a real server, as the role with no more rights than their pages ask for."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from responder.actions import ACTIONS
from responder.connections import Connections, open_transport
from responder.errors import Permanent, Temporary, Unknown
from responder.perform import Ended, Performer
from responder.postgres_connections import LibraryWire, PostgresConnection, SqlCall, _settings
from responder.recorded import Effect, Outcome, Plan, ProbeAnswer
from responder.runbook import Step
from responder.services import PostgresService
from responder.timing import SECOND
from responder.wall_clock import wall_clock
from tests.contract.postgres_parts import PASSWORD, RUNBOOK, Sessions, _no_wait, user
from tests.fakes.proxy import Fault, FaultProxy, How, Line, Point
from tests.servers import Postgres, free_port

LIMITS = {"users": ["reporting"], "spared": ["order-entry", "oms*"], "older_than": "1s"}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres(settings={"shared_preload_libraries": "pg_stat_statements"}) as started:
        for name in ("responder", "blind", "seeing", "reporting", "trader"):
            started.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        for right in ACTIONS["postgres.terminate_queries"].grants:
            started.execute(right.format(role="responder"))
        started.execute("GRANT pg_signal_backend TO blind")
        started.execute("GRANT pg_monitor TO seeing")
        yield started


@pytest.fixture
def sessions(server: Postgres) -> Iterator[Sessions]:
    with ExitStack() as stack:
        yield Sessions(server, stack)


class Doing:
    """The whole way of a step, as the responder goes it."""

    def __init__(self, service: PostgresService, action: str, **with_: Any) -> None:
        connections = Connections({"db": service}, open_transport)
        self.performer = Performer(ACTIONS, connections.connect, {}, wall_clock, _no_wait)
        self.action = action
        given = {"id": "it", "action": action, "with": {"service": "db", **with_}}
        self.step = Step.model_validate(given)

    async def prepare(self) -> Plan:
        return await self.performer.prepare(RUNBOOK, self.step, {})

    async def act(self, plan: Plan) -> Ended:
        return await self.performer.act(self.action, plan, "inc1.run1.it.1", 10 * SECOND)

    async def probe(self, plan: Plan) -> ProbeAnswer:
        return (await self.performer.probe(self.action, plan, 10 * SECOND)).answer


async def read(service: PostgresService, action: str, **with_: Any) -> Ended:
    doing = Doing(service, action, **with_)
    return await doing.act(await doing.prepare())


async def value(server: Postgres, action: str, **with_: Any) -> Any:
    ended = await read(user(server), action, **with_)
    assert ended.outcome is Outcome.OK, ended.detail
    return ended.output


READERS = [f"postgres.{name}" for name in ("replication_status", "long_queries", "pool_usage", "top_statements")]

# --- what is read -----------------------------------------------------------------------------------------------------


async def test_long_statements_are_told_without_their_values(server: Postgres, sessions: Sessions) -> None:
    pid = sessions.open("reporting", "monthly", "SELECT pg_sleep(300), 'secret 4711', 4711")
    told = await value(server, "postgres.long_queries", older_than="1s")
    assert (told["count"], told["by_user"], told["by_application"]) == (1, {"reporting": 1}, {"monthly": 1})
    (one,) = told["queries"]
    assert (one["pid"], one["query"], one["state"]) == (pid, "SELECT pg_sleep(?), ?, ?", "active")
    assert one["seconds"] >= 1
    assert (await value(server, "postgres.long_queries", older_than="1h"))["queries"] == []


async def test_connections_are_counted_by_whose_they_are(server: Postgres, sessions: Sessions) -> None:
    sessions.open("reporting", "monthly")
    told = await value(server, "postgres.pool_usage")
    assert (told["most"], told["used"], told["free"]) == (50, 1, 46)
    assert (told["by_user"], told["by_state"]) == ({"reporting": 1}, {"active": 1})


async def test_the_most_expensive_statements_or_that_nothing_is_known(server: Postgres) -> None:
    ended = await read(user(server), "postgres.top_statements")
    assert ended.outcome is Outcome.PERMANENT
    assert "CREATE EXTENSION pg_stat_statements" in ended.detail
    server.execute('CREATE SCHEMA "odd "" name"')
    server.execute('CREATE EXTENSION pg_stat_statements SCHEMA "odd "" name"')
    server.execute("SELECT count(*) FROM generate_series(1, 200000)")
    try:
        ended = await read(user(server), "postgres.top_statements")
        assert 'GRANT USAGE ON SCHEMA "odd "" name" TO responder' in ended.detail
        server.execute('GRANT USAGE ON SCHEMA "odd "" name" TO responder')
        told = await value(server, "postgres.top_statements", count=50)
        assert "SELECT count(*) FROM generate_series($1, $2)" in [one["query"] for one in told]
        assert [one["total_ms"] for one in told] == sorted((one["total_ms"] for one in told), reverse=True)
    finally:
        server.execute("DROP EXTENSION pg_stat_statements")


async def test_a_primary_alone_has_no_standbys(server: Postgres) -> None:
    told = await value(server, "postgres.replication_status")
    nobody: dict[str, Any] = {"streaming": 0, "lag_bytes": 0, "lag_seconds": None, "standbys": []}
    assert told == {"role": "primary", "timeline": 1, **nobody}


@pytest.mark.parametrize("action", READERS)
async def test_a_role_that_sees_nothing_is_told_so_and_nothing_counts_as_read(server: Postgres, action: str) -> None:
    ended = await read(user(server, "blind"), action)
    assert ended.outcome is Outcome.PERMANENT
    assert "GRANT pg_monitor TO blind" in ended.detail


# --- statements that are ended ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "terminate"])
async def test_an_allowed_statement_is_ended_and_nothing_else(server: Postgres, sessions: Sessions, how: str) -> None:
    slow = sessions.open("reporting", "monthly", "SELECT pg_sleep(300), 'secret 4711'")
    others = [
        sessions.open("reporting", "order-entry"),
        sessions.open("reporting", "OMS-gateway"),
        sessions.open("reporting", ""),
        sessions.open("reporting", "pg_dump"),
        sessions.open("trader", "monthly"),
        sessions.open("reporting", "monthly", "/* nightly */ create temp table made as select 1 from pg_sleep(300)"),
    ]
    doing = Doing(user(server), "postgres.terminate_queries", how=how, **LIMITS)
    plan = await doing.prepare()
    assert plan.effect is Effect.PROBED
    assert [one["pid"] for one in plan.target] == [slow]  # type: ignore[union-attr, index, call-overload]
    assert "monthly" in plan.preview
    assert "4711" not in plan.model_dump_json()
    assert await doing.probe(plan) is ProbeAnswer.NOT_APPLIED
    ended = await doing.act(Plan.model_validate_json(plan.model_dump_json()))
    assert (ended.outcome, ended.output) == (Outcome.OK, {"ended": 1, "ending": 0, "left": 0, "refused": 0, "held": 0})
    assert await doing.probe(plan) is ProbeAnswer.APPLIED
    assert [sessions.alive(pid) for pid in (slow, *others)] == [False, *[True] * len(others)]
    again = await doing.act(plan)
    assert (again.outcome, again.output) == (Outcome.OK, {"ended": 0, "ending": 0, "left": 1, "refused": 0, "held": 0})
    assert (await doing.prepare()).nothing_to_do is not None


@pytest.mark.parametrize("field", ["backend_start", "query_start", "hash"])
async def test_a_pid_that_was_used_again_is_left_alone(server: Postgres, sessions: Sessions, field: str) -> None:
    pid = sessions.open("reporting", "monthly")
    doing = Doing(user(server), "postgres.terminate_queries", **LIMITS)
    plan = await doing.prepare()
    one: Any = plan.target[0]  # type: ignore[index]
    earlier = plan.model_copy(update={"target": [{**one, field: one[field] - 1}]})
    ended = await doing.act(earlier)
    assert (ended.outcome, ended.output) == (Outcome.OK, {"ended": 0, "ending": 0, "left": 1, "refused": 0, "held": 0})
    assert sessions.alive(pid)


async def test_a_session_whose_application_became_order_entry_is_left_alone(
    server: Postgres, sessions: Sessions
) -> None:
    pid = sessions.open("reporting", "monthly", "SET application_name = 'order-entry'; SELECT pg_sleep(300)")
    doing = Doing(user(server), "postgres.terminate_queries", **LIMITS)
    assert (await doing.prepare()).nothing_to_do is not None
    assert sessions.alive(pid)


async def test_the_oldest_come_first_and_no_more_than_allowed(server: Postgres, sessions: Sessions) -> None:
    pids = [sessions.open("reporting", "monthly") for _ in range(3)]
    doing = Doing(user(server), "postgres.terminate_queries", at_most=2, **LIMITS)
    plan = await doing.prepare()
    assert [one["pid"] for one in plan.target] == pids[:2]  # type: ignore[union-attr, index, call-overload]
    assert "cancel 2 statements, of 3" in plan.preview
    await doing.act(plan)
    assert [sessions.alive(pid) for pid in pids] == [False, False, True]


async def test_an_idle_transaction_is_terminated(server: Postgres, sessions: Sessions) -> None:
    pid = sessions.open("reporting", "monthly", "BEGIN")
    doing = Doing(user(server), "postgres.terminate_queries", **LIMITS, state="idle in transaction", how="terminate")
    ended = await doing.act(await doing.prepare())
    assert ended.output == {"ended": 1, "ending": 0, "left": 0, "refused": 0, "held": 0}
    assert not sessions.alive(pid)


@pytest.mark.parametrize(
    ("role", "users", "said"),
    [
        ("blind", ["reporting"], "GRANT pg_monitor TO blind"),
        ("seeing", ["reporting"], "GRANT pg_signal_backend TO seeing"),
        ("responder", ["postgres"], "user 'postgres' is a superuser, whose sessions are never ended"),
        ("responder", ["reportnig"], "user 'reportnig' does not exist there; correct `users`"),
    ],
)
async def test_what_would_find_nothing_is_refused_and_no_success(
    server: Postgres, role: str, users: list[str], said: str
) -> None:
    doing = Doing(user(server, role), "postgres.terminate_queries", **{**LIMITS, "users": users})
    with pytest.raises(Permanent) as caught:
        await doing.prepare()
    assert said in str(caught.value)


async def test_a_grant_that_is_gone_by_now_is_told_and_nothing_is_ended(server: Postgres, sessions: Sessions) -> None:
    pid = sessions.open("reporting", "monthly")
    plan = await Doing(user(server), "postgres.terminate_queries", **LIMITS).prepare()
    ended = await Doing(user(server, "seeing"), "postgres.terminate_queries", **LIMITS).act(plan)
    assert ended.outcome is Outcome.PERMANENT
    assert "the action's page names the grants" in ended.detail
    assert sessions.alive(pid)


def test_an_idle_transaction_has_nothing_to_cancel() -> None:
    with pytest.raises(ValueError, match="write `how: terminate`"):
        ACTIONS["postgres.terminate_queries"].model_validate(
            {"service": "db", **LIMITS, "state": "idle in transaction"}
        )


# --- connections ------------------------------------------------------------------------------------------------------


async def test_no_server_is_temporary_and_nothing_was_sent(server: Postgres) -> None:
    away = user(server, url=f"postgresql://127.0.0.1:{free_port()}/postgres")
    ended = await read(away, "postgres.pool_usage")
    assert ended.outcome is Outcome.TEMPORARY
    assert "nothing was sent" in ended.detail


async def test_the_wrong_kind_of_server_is_not_spoken_to(server: Postgres) -> None:
    ended = await read(user(server, session="standby"), "postgres.pool_usage")
    assert ended.outcome is Outcome.TEMPORARY
    assert "not in hot standby mode" in ended.detail


async def test_an_unknown_database_and_tls_that_is_not_there(server: Postgres) -> None:
    gone = await read(user(server, url=f"postgresql://{server.address}/gone"), "postgres.pool_usage")
    assert gone.outcome is Outcome.PERMANENT
    assert "check the service's `username`, `password`, `client_certificate` and database" in gone.detail
    plain = await read(user(server, tls="verify-full"), "postgres.pool_usage")
    assert plain.outcome is Outcome.TEMPORARY
    assert "nothing was sent" in plain.detail


async def test_a_server_that_never_answers_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        service = PostgresService(url=f"postgresql://127.0.0.1:{port}/postgres", username="responder", tls="off")
        connection = PostgresConnection("db", service, LibraryWire)
        with pytest.raises(Temporary, match="nothing was sent: no connection in time"):
            async with connection.session(0.3):
                raise AssertionError


async def test_a_server_that_falls_silent_is_not_waited_for(server: Postgres) -> None:
    """psycopg would ask it, over a second connection, to cancel the statement: ten seconds more."""
    line = Line(Fault("silent", Point.BEFORE, How.HANG), at=2, lasts=True)
    async with FaultProxy(line, server.port) as proxy:
        url = f"postgresql://127.0.0.1:{proxy.port}/postgres"
        doing = Doing(user(server, url=url), "postgres.pool_usage")
        plan, began = await doing.prepare(), time.monotonic()
        ended = await doing.performer.act(doing.action, plan, "inc1.run1.it.1", SECOND // 2)
    assert (ended.outcome, line.struck) == (Outcome.TEMPORARY, 1)
    assert time.monotonic() - began < 1.5


async def test_libpq_has_nothing_to_complain_of(server: Postgres, capfd: pytest.CaptureFixture[str]) -> None:
    """It writes to the standard error where a file of passwords is named that is no file."""
    await value(server, "postgres.pool_usage")
    connection = PostgresConnection("db", user(server).model_copy(update={"password": None}), LibraryWire)
    async with connection.session(5.0):
        pass
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("changes", "meant"), [(False, Temporary), (True, Unknown)])
async def test_a_connection_that_breaks_leaves_a_change_open(
    server: Postgres, changes: bool, meant: type[Exception]
) -> None:
    connection = PostgresConnection("db", user(server), LibraryWire)
    async with connection.session(5.0) as session:
        with pytest.raises(meant, match="the connection was lost"):
            await session.ask(SqlCall("x", "SELECT pg_terminate_backend(pg_backend_pid())", {}, changes))


@pytest.mark.parametrize(("changes", "meant"), [(False, Temporary), (True, Unknown)])
async def test_the_server_itself_ends_what_takes_too_long(
    server: Postgres, changes: bool, meant: type[Exception]
) -> None:
    connection = PostgresConnection("db", user(server), LibraryWire)
    with pytest.raises(meant, match="statement timeout"):
        async with connection.session(0.3) as session:
            await session.ask(SqlCall("x", "SELECT pg_sleep(30)", {}, changes))


async def test_our_session_has_a_name_and_limits_and_an_echoed_password_is_hidden(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=0")
    connection = PostgresConnection("db", user(server), LibraryWire)
    asked = {name: f"current_setting('{name}') AS {name}" for name in ("statement_timeout", "lock_timeout")}
    statement = (
        f"SELECT current_setting('application_name') AS name, {', '.join(asked.values())}, %(said)s::text AS said"
    )
    async with connection.session(60.0, "inc1.run1.it.1") as session:
        (row,) = await session.ask(SqlCall("x", statement, {"said": f"it is {PASSWORD}"}))
    assert row == {
        "name": "responder/inc1.run1.it.1",
        "statement_timeout": "10s",
        "lock_timeout": "2s",
        "said": "it is (hidden)",
    }


def test_without_a_choice_a_certificate_is_verified() -> None:
    service = PostgresService(url="postgresql://db.example/trading", username="responder")
    settings = _settings(service, 9.0, "responder")
    assert (settings["sslmode"], settings["sslrootcert"], settings["target_session_attrs"]) == (
        "verify-full", "system", "any",
    )  # fmt: skip
