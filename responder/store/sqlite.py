"""SQLite: one file, one process, every commit on the disk before it is told.

WAL with `synchronous=FULL`; a lock file keeps a second process out. Checkpoints run in a thread of their own, since the
commit that a checkpoint happens to fall on is what others wait for. No network file systems: their locks do not hold.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import Column, Connection, Engine, NullPool, QueuePool, StaticPool, create_engine, event, text
from sqlalchemy.dialects import sqlite as dialect
from sqlalchemy.sql.elements import TextClause

from responder.errors import BadConfig
from responder.store.database import Database, Failure, Query, Session, Statement

READERS: Final = 8
"""Connections for reading; a further reader waits for one."""
BUSY_TIMEOUT: Final = 5.0  # seconds
CHECKPOINT_EVERY: Final = 1.0  # seconds between looks at the log while there are commits
LOG_LIMIT: Final = 64 * 1024 * 1024  # bytes; a log that grew beyond is cut down to this after a full checkpoint
_SETTINGS: Final = ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=0", f"journal_size_limit={LOG_LIMIT}")

_AGAIN: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_REFUSED: Final = {
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_RANGE,
}


class SqliteSession(Session):
    """The only connection that writes."""

    def __init__(self, connection: sqlite3.Connection, written: threading.Event, *, owned: bool) -> None:
        self._connection = connection
        self._written = written
        self._owned = owned

    def begin(self, commit_id: str, now: int) -> bool:
        self._connection.execute("BEGIN IMMEDIATE")
        return True

    def fetch(self, queries: Sequence[Query]) -> list[list[Mapping[str, Any]]]:
        return [self._rows(statement, parameters) for statement, parameters in queries]

    def commit(self, statements: Sequence[Statement], *, wake: bool) -> None:
        for statement, rows in statements:
            self._connection.executemany(statement, rows)
        self._connection.execute("COMMIT")
        self._written.set()

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        if self._owned:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()

    def _rows(self, statement: str, parameters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        cursor = self._connection.cursor()
        cursor.row_factory = sqlite3.Row
        return cast(list[Mapping[str, Any]], cursor.execute(statement, parameters).fetchall())


class SqliteDatabase(Database):
    """`path` None is a database in memory: one connection, gone when closed, for simulations. `image`: what it holds.

    Raises BadConfig when the file is in use by another process or cannot be opened.
    """

    shared = False
    insert = staticmethod(dialect.insert)

    def __init__(self, path: Path | None, image: bytes = b"") -> None:
        self.name = "the store in memory" if path is None else f"the store {path}"
        self.dialect = dialect.dialect(paramstyle="named")
        self._path = path
        self._lock = None if path is None else _locked(path)
        self._memory = self._connect() if path is None else None
        if self._memory is not None and image:
            self._memory.deserialize(image)
        self._written = threading.Event()
        self._closing = threading.Event()
        self._checkpointer: threading.Thread | None = None

    def image(self) -> bytes:
        """What a database in memory holds, for another one to begin with."""
        assert self._memory is not None
        return self._memory.serialize()

    def session(self) -> Session:
        if self._memory is not None:
            return SqliteSession(self._memory, self._written, owned=False)
        return SqliteSession(self._connect(), self._written, owned=True)

    def reading(self) -> Engine:
        if self._memory is not None:
            return self._in_memory()
        # Named: for this URL SQLAlchemy would choose a pool that closes connections which other threads read with.
        pool = {"poolclass": QueuePool, "pool_size": READERS, "max_overflow": 0}
        return create_engine("sqlite://", creator=self._connect_reading, isolation_level="AUTOCOMMIT", **pool)

    def migrating(self) -> Engine:
        engine = self._in_memory() if self._memory is not None else self._on_file()
        event.listen(engine, "begin", _begin_immediate)
        return engine

    def lock_migration(self, connection: Connection) -> None:
        """The lock file is enough."""

    def failure(self, error: Exception) -> Failure:
        if not isinstance(error, sqlite3.Error):
            return Failure.REFUSED
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return Failure.REFUSED
        primary = code & 0xFF
        if primary in _AGAIN:
            return Failure.AGAIN
        return Failure.REFUSED if primary in _REFUSED else Failure.UNAVAILABLE

    def among(self, column: Column[Any], name: str) -> TextClause:
        return text(f"{column.name} IN (SELECT value FROM json_each(:{name}))")  # noqa: S608  both names are ours

    def listed(self, values: Sequence[str]) -> str:
        return json.dumps(values)

    def start(self, woken: Callable[[], None]) -> None:
        """Nobody else commits, so `woken` is never called."""
        if self._path is not None:
            self._checkpointer = threading.Thread(target=self._checkpoint, name="responder-checkpoint", daemon=True)
            self._checkpointer.start()

    def close(self) -> None:
        self._closing.set()
        self._written.set()
        if self._checkpointer is not None:
            self._checkpointer.join()
        if self._memory is not None:
            self._memory.close()
        lock, self._lock = self._lock, None  # the number may be somebody else's file by a second call
        if lock is not None:
            os.close(lock)

    def _connect(self) -> sqlite3.Connection:
        target = ":memory:" if self._path is None else str(self._path)
        connection = sqlite3.connect(target, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        for setting in _SETTINGS:
            connection.execute(f"PRAGMA {setting}")
        return connection

    def _connect_reading(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only=ON")
        return connection

    def _in_memory(self) -> Engine:
        return create_engine("sqlite://", creator=lambda: self._memory, poolclass=StaticPool)

    def _on_file(self) -> Engine:
        return create_engine("sqlite://", creator=self._connect, poolclass=NullPool)

    def _checkpoint(self) -> None:
        """Move the log into the file from time to time, without ever making the writer wait; cut it at the end."""
        connection = self._connect()
        while not self._closing.is_set():
            self._written.wait()
            self._closing.wait(CHECKPOINT_EVERY)
            self._written.clear()
            with contextlib.suppress(sqlite3.Error):  # a full disk is the writer's to tell
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        connection.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _locked(path: Path) -> int:
    """The file descriptor that holds the lock beside the database; closing it, or dying, releases it."""
    beside = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise BadConfig(f"store: cannot open {path}: {error.strerror}; name a file that this user may write") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise BadConfig(
            f"store: {path} is in use by process {owner}; stop that one first, or share a PostgreSQL store"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
