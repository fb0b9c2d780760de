"""What the two databases have in common, and the few points in which they may differ.

`Database` opens connections, says what an error of its driver means and spells the statements that differ; `Session` is
the writer's one connection. All else (which rows, in which order, when to try again) is the same for both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any

from sqlalchemy import Column, Connection, Engine, Table, literal_column
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.elements import TextClause

from responder.store.tables import incidents, messages

Clock = Callable[[], int]
"""Microseconds since the epoch. It should be steady: the wall clock at the start plus the monotonic time since."""

Query = tuple[str, Mapping[str, Any]]
Statement = tuple[str, Sequence[Mapping[str, Any]]]


class Failure(Enum):
    """What to do about an error while writing."""

    AGAIN = auto()
    """Somebody else was in the way: the same transaction may succeed now."""
    CONFLICT = auto()
    """A row was there already: another replica may have been quicker, and deciding again sees its row."""
    LOST = auto()
    """The connection is gone, and with it perhaps the answer to a commit."""
    UNAVAILABLE = auto()
    """Nothing can be written: disk full, read-only, damaged."""
    REFUSED = auto()
    """The rows themselves are at fault."""


class Session(ABC):
    """The writer's connection. The driver's errors pass through."""

    @abstractmethod
    def begin(self, commit_id: str, now: int) -> bool:
        """Open a transaction. False: the one of this id is committed already, so there is nothing to do."""

    @abstractmethod
    def fetch(self, queries: Sequence[Query]) -> list[list[Mapping[str, Any]]]:
        """The rows of each query, all in one round trip."""

    @abstractmethod
    def commit(self, statements: Sequence[Statement], *, wake: bool) -> None:
        """Run each statement over its rows, and commit. `wake`: other replicas should look."""

    @abstractmethod
    def rollback(self) -> None:
        """Undo what is open, if anything is."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection back; never raises."""


class Database(ABC):
    """One database, by its URL."""

    name: str
    """What messages call it; without a password."""
    dialect: Dialect
    shared: bool
    """True when other processes write too: rows are locked, and nothing read earlier is trusted."""
    insert: Callable[[Table], Any]
    """The dialect's `insert`, which knows ON CONFLICT."""

    @abstractmethod
    def session(self) -> Session:
        """Open the writer's connection. Raises the driver's errors."""

    @abstractmethod
    def reading(self) -> Engine:
        """A new pool of reading connections."""

    @abstractmethod
    def migrating(self) -> Engine:
        """A new engine that writes in transactions."""

    @abstractmethod
    def lock_migration(self, connection: Connection) -> None:
        """Until the end of the transaction, nobody else migrates."""

    @abstractmethod
    def failure(self, error: Exception) -> Failure:
        """What an exception means that came from the driver, or while rows were made ready for it."""

    @abstractmethod
    def among(self, column: Column[Any], name: str) -> TextClause:
        """The condition that `column` is one of the list in parameter `name`."""

    @abstractmethod
    def listed(self, values: Sequence[str]) -> Any:
        """`values` as the parameter of `among`."""

    @abstractmethod
    def start(self, woken: Callable[[], None]) -> None:
        """Start what runs in the background; `woken` is called from a thread when another process committed."""

    @abstractmethod
    def close(self) -> None:
        """End the background and release the database."""

    def offset(self) -> int:
        """Microseconds to add to the clock; only a shared database has a time of its own."""
        return 0

    def compiled(self, statement: Any) -> str:
        """The statement's text. Done once each: SQLAlchemy's building costs more than the database's running."""
        return str(statement.compile(dialect=self.dialect))

    def upsert(self, table: Table) -> Any:
        """Insert, or replace what has the same key, but for what only the first writing says."""
        insert = self.insert(table)
        changed: dict[str, Any] = {c.name: insert.excluded[c.name] for c in table.c if not c.primary_key}
        if table is incidents:
            changed["version"] = incidents.c.version + literal_column("1")
        if table is messages:
            del changed["position"]
        return insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)


def first_line(error: BaseException) -> str:
    """What a driver's error says, without the SQL and hints that follow."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
