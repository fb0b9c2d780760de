"""A database that fails at its n-th operation: once, or from there on for a while. Patched from outside, in a child.

An operation is a connection, a BEGIN, a round trip that reads, a COMMIT, or a statement of a reader. Errors are those
that the drivers raise, so that the store's own table says what each of them means.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from responder.store import group
from responder.store.postgres import PostgresDatabase, PostgresSession
from responder.store.sqlite import SqliteDatabase, SqliteSession
from responder.timing import SECOND

LASTS: Final = 90 * SECOND
"""How long a fault that stays is there: longer than a lease, an attempt and the grace of the first page."""

SQLITE: Final = {
    "disk full": sqlite3.SQLITE_FULL,
    "input/output error": sqlite3.SQLITE_IOERR,
    "busy": sqlite3.SQLITE_BUSY,
    "cannot open": sqlite3.SQLITE_CANTOPEN,
    "read-only": sqlite3.SQLITE_READONLY,
}
POSTGRES: Final = {
    "serialization": "40001",
    "shutdown": "57P01",
    "connection failure": "08006",
    "disk full": "53100",
    "gone": "",
}
"""`gone`: the connection ends without a word from the server."""
ANSWER_LOST: Final = "answer lost"
"""The commit is done, and nobody hears of it."""
ENDS_CONNECTION: Final = ("shutdown", "connection failure", "gone", ANSWER_LOST)


def kinds(url: str) -> tuple[str, ...]:
    """Everything that can go wrong with this database."""
    return (*(SQLITE if url.startswith("sqlite") else POSTGRES), ANSWER_LOST)


@dataclass(frozen=True)
class Fault:
    """The `at`-th operation fails, and all within `lasts` µs after it."""

    kind: str
    at: int
    lasts: int = 0


class Faults:
    """What goes wrong in this process. `count` is how many operations there were."""

    def __init__(self, fault: Fault | None, sqlite: bool, clock: Callable[[], int]) -> None:
        self._fault, self._sqlite, self._clock = fault, sqlite, clock
        self._until: int | None = None
        self.count = 0
        self.failed = 0

    def over(self) -> None:
        """From now on nothing fails: who judges reads without faults."""
        self._fault = None

    def strikes(self) -> bool:
        """Another operation: does it fail?"""
        self.count += 1
        fault = self._fault
        if fault is None:
            return False
        if self.count == fault.at:
            self._until = self._clock() + fault.lasts
        hit = self._until is not None and (self.count == fault.at or self._clock() < self._until)
        self.failed += hit
        return hit

    def error(self) -> Exception:
        """As the driver would raise it."""
        assert self._fault is not None
        kind = self._fault.kind
        if self._sqlite:
            broken = sqlite3.OperationalError(f"told to fail: {kind}")
            broken.sqlite_errorcode = SQLITE.get(kind, sqlite3.SQLITE_IOERR)
            return broken
        state = POSTGRES.get(kind, "")
        found = psycopg.errors.lookup(state) if state else psycopg.OperationalError
        return found(f"told to fail: {kind}")

    def install(self) -> None:
        """Patch both databases."""
        group.WAITS = (0.0,) * len(group.WAITS)  # type: ignore[assignment, misc]  # virtual time does not move while it waits
        for session in (SqliteSession, PostgresSession):
            patched: Any = session
            patched.begin = self._before(patched.begin)
            patched.fetch = self._before(patched.fetch)
            patched.commit = self._around(patched.commit)
        for database in (SqliteDatabase, PostgresDatabase):
            opens: Any = database
            opens.session = self._connecting(opens.session)
            opens.reading = self._reading(opens.reading)

    def _broken(self, session: Any) -> Exception:
        if not self._sqlite and self._fault is not None and self._fault.kind in ENDS_CONNECTION:
            session._connection.close()
        return self.error()

    def _before(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def failing(session: Any, *args: Any, **more: Any) -> Any:
            if self.strikes():
                raise self._broken(session)
            return operation(session, *args, **more)

        return failing

    def _around(self, commit: Callable[..., None]) -> Callable[..., None]:
        def failing(session: Any, *args: Any, **more: Any) -> None:
            hit = self.strikes()
            if hit and not (self._fault is not None and self._fault.kind == ANSWER_LOST):
                raise self._broken(session)
            commit(session, *args, **more)
            if hit:
                raise self._broken(session)

        return failing

    def _connecting(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def failing(database: Any) -> Any:
            if self.strikes():
                raise self.error()
            return operation(database)

        return failing

    def _reading(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def made(database: Any) -> Any:
            engine = operation(database)

            @event.listens_for(engine, "before_cursor_execute")
            def _execute(*_: Any) -> None:
                if self.strikes():
                    raise OperationalError("a read", {}, self.error())

            return engine

        return made
