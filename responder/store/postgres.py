"""PostgreSQL: one database for several replicas.

Rows that an operation reads are locked, and every group leaves its id in `commits`, so that a commit whose answer was
lost with the connection is asked for and not repeated. Statements go in pipelines: four round trips a group. NOTIFY
takes a lock of the whole database at commit, so it is sent at most once a commit and 20 times a second; the poll is the
truth. Behind a transaction-pooling proxy LISTEN does not work, and the poll alone does.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import Column, Connection, Engine, NullPool, create_engine, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql.elements import TextClause

from responder.store.database import Clock, Database, Failure, Query, Session, Statement

CHANNEL: Final = "responder"
NOTIFY_EVERY: Final = 0.05  # seconds
TIME_KEPT: Final = 30.0  # seconds without a notice; then the database's time is read again
RECONNECT_AFTER: Final = 1.0  # seconds
MIGRATION_LOCK: Final = 0x7265_7370  # any number that only this program uses for an advisory lock
COMMITS_KEPT: Final = 3_600_000_000  # microseconds; far longer than a lost answer is asked for

_OPTIONS: Final[dict[str, Any]] = {
    "application_name": "responder",
    "connect_timeout": 3,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "options": "-c synchronous_commit=on -c lock_timeout=5s -c idle_in_transaction_session_timeout=10s -c timezone=UTC",
}

_BEGIN: Final = "INSERT INTO commits (id, at) VALUES (%(id)s, %(at)s) ON CONFLICT (id) DO NOTHING RETURNING id"
_NOW: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

_AGAIN: Final = {"40001", "40P01", "55P03", "57014"}
"""Serialization failure, deadlock, lock not to be had in time, statement cancelled."""
_LOST: Final = {"25006", "25P03", "57P01", "57P02", "57P03", "57P05"}
"""Read-only (a standby after a failover), idle too long, and the shutdowns."""


class PostgresSession(Session):
    """The writer's connection. Transactions are opened and closed by statement, inside pipelines."""

    def __init__(self, connection: psycopg.Connection[dict[str, Any]], boot: str) -> None:
        self._connection = connection
        self._boot = boot
        self._notified = 0.0

    def begin(self, commit_id: str, now: int) -> bool:
        """The id is inserted first: should an earlier try of it still be committing, this waits for its end."""
        with self._connection.pipeline():
            self._connection.execute("BEGIN")
            claimed = self._connection.execute(_BEGIN, {"id": commit_id, "at": now})
            return claimed.fetchone() is not None

    def fetch(self, queries: Sequence[Query]) -> list[list[Mapping[str, Any]]]:
        if not queries:
            return []
        with self._connection.pipeline():
            cursors = [self._connection.execute(statement.encode(), parameters) for statement, parameters in queries]
            return [list(cursor.fetchall()) for cursor in cursors]

    def commit(self, statements: Sequence[Statement], *, wake: bool) -> None:
        with self._connection.pipeline(), self._connection.cursor() as cursor:
            for statement, rows in statements:
                cursor.executemany(statement.encode(), rows)
            if wake and time.monotonic() - self._notified >= NOTIFY_EVERY:
                cursor.execute("SELECT pg_notify(%s, %s)", (CHANNEL, self._boot))
                self._notified = time.monotonic()
            cursor.execute("COMMIT")

    def rollback(self) -> None:
        if self._connection.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self._connection.close()


class PostgresDatabase(Database):
    """`url` is `postgresql://…`, as libpq takes it. Connecting is left to the first use."""

    shared = True
    insert = staticmethod(postgresql.insert)

    def __init__(self, url: str, clock: Clock) -> None:
        parts = urlsplit(url)
        self.name = f"the store postgresql://{parts.hostname or ''}:{parts.port or 5432}{parts.path}"
        self.dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]
        self._url = url
        self._clock = clock
        self._offset = 0
        self._boot = uuid4().hex
        self._closing = threading.Event()
        self._closed, self._close_listener = socket.socketpair()
        self._listener: threading.Thread | None = None

    def session(self) -> Session:
        connection = psycopg.connect(self._url, autocommit=True, row_factory=dict_row, **_OPTIONS)
        self._read_time(connection)
        connection.execute("DELETE FROM commits WHERE at < %s", (self._clock() + self._offset - COMMITS_KEPT,))
        return PostgresSession(connection, self._boot)

    def reading(self) -> Engine:
        return create_engine("postgresql+psycopg://", creator=self._connect, isolation_level="AUTOCOMMIT")

    def migrating(self) -> Engine:
        return create_engine("postgresql+psycopg://", creator=self._connect, poolclass=NullPool)

    def lock_migration(self, connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": MIGRATION_LOCK})

    def failure(self, error: Exception) -> Failure:
        if not isinstance(error, psycopg.Error):
            return Failure.REFUSED
        state = error.sqlstate
        if state is None:
            lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
            return Failure.LOST if lost else Failure.REFUSED
        if state in _AGAIN:
            return Failure.AGAIN
        if state in _LOST or state.startswith("08"):
            return Failure.LOST
        if state == "23505":
            return Failure.CONFLICT
        return Failure.UNAVAILABLE if state[:2] in ("53", "58", "XX", "28", "3D", "42") else Failure.REFUSED

    def among(self, column: Column[Any], name: str) -> TextClause:
        return text(f"{column.name} = ANY(:{name})")

    def listed(self, values: Sequence[str]) -> list[str]:
        return list(values)

    def offset(self) -> int:
        return self._offset

    def start(self, woken: Callable[[], None]) -> None:
        self._listener = threading.Thread(target=self._listen, args=(woken,), name="responder-listen", daemon=True)
        self._listener.start()

    def close(self) -> None:
        self._closing.set()
        self._close_listener.close()  # which the listener's end sees at once
        if self._listener is not None:
            self._listener.join()
        self._closed.close()

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._url, **_OPTIONS)

    def _read_time(self, connection: psycopg.Connection[Any]) -> None:
        """The database's time against the middle of the round trip that asked for it."""
        before = self._clock()
        with connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
            found = cursor.execute(_NOW).fetchone()
        if found is not None:
            self._offset = found[0] - (before + self._clock()) // 2

    def _listen(self, woken: Callable[[], None]) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(psycopg.Error):
                self._listen_once(woken)
            self._closing.wait(RECONNECT_AFTER)

    def _listen_once(self, woken: Callable[[], None]) -> None:
        """Listen on one connection until it is lost; what was told meanwhile is found by a first call."""
        with psycopg.connect(self._url, autocommit=True, **_OPTIONS) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            woken()
            while not self._closing.is_set():
                readable, _, _ = select.select([connection.fileno(), self._closed.fileno()], [], [], TIME_KEPT)
                if not readable:
                    self._read_time(connection)
                elif any(notice.payload != self._boot for notice in connection.notifies(timeout=0)):
                    woken()
