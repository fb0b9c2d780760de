"""The PostgreSQL of the world in which every action is tried."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg

from responder import postgres_statements as sql
from responder.postgres_connections import Rows, SqlCall

TOKEN = "s3cret-bearer-token"


class Standing(Protocol):
    """What of the world it looks at and changes."""

    refuse: bool
    lose: bool
    hang: bool | None
    slow_queries: list[int]
    standby: bool
    aged: float
    unexpected: list[str]
    done: list[str]


@dataclass(frozen=True)
class WorldSql:
    """A connection to the world's PostgreSQL, which knows the statements of `_rows` and nothing else."""

    world: Standing
    url: str

    async def connect(self) -> None:
        """See SqlWire."""
        if self.world.refuse:
            raise psycopg.OperationalError("connection refused")

    async def ask(self, call: SqlCall) -> Rows:
        """See SqlWire."""
        rows = self._rows(call)
        if call.changes:
            self.world.done.append(call.what)
            if self.world.lose:
                raise psycopg.OperationalError("lost")
        if call.changes is self.world.hang:
            await asyncio.Event().wait()
        return rows

    def _rows(self, call: SqlCall) -> Rows:
        asked: dict[str, Callable[[], Rows]] = {
            sql.RIGHTS: lambda: [{"role": "responder", "sees": True, "signals": True}],
            sql.ROLES: lambda: [{"name": name, "super": False} for name in call.params["users"]],
            sql.STANDING: self._standing,
            sql.STANDBYS: list,
            sql.LONG_QUERIES: lambda: [SESSION],
            sql.POOL: lambda: [SESSION],
            sql.ROOM: lambda: [{"most": 100, "kept": 3}],
            sql.STATEMENTS_PLACE: lambda: [{"path": "public", "schema": "public", "usable": True, "role": "responder"}],
            sql.TOP_STATEMENTS: lambda: [STATEMENT],
            sql.ENDABLE: self._endable,
            sql.STILL_THERE: lambda: [{"number": int(call.params["pid"] in self.world.slow_queries)}],
            sql.CANCEL: lambda: self._cancel(call.params["pid"]),
            sql.PROMOTE: self._promote,
        }
        if call.statement not in asked:
            self.world.unexpected.append(call.statement)
            raise AssertionError(f"unexpected statement {call.statement}")
        return asked[call.statement]()

    def _standing(self) -> Rows:
        recovery = self.world.standby
        at = 5000 + round(self.world.aged)
        standing = {"recovery": recovery, "timeline": 1 if recovery else 2, "received": at, "replayed": at}
        return [{**standing, "receiver": None, "heard_seconds": None, "behind_seconds": None}]

    def _endable(self) -> Rows:
        seconds = SESSION["seconds"] + self.world.aged
        return [{**SESSION, "pid": pid, "seconds": seconds} for pid in self.world.slow_queries]

    def _cancel(self, pid: int) -> Rows:
        if pid not in self.world.slow_queries:
            return []
        self.world.slow_queries = [one for one in self.world.slow_queries if one != pid]
        return [{"gone": True}]

    def _promote(self) -> Rows:
        self.world.standby = False
        return [{"promoted": True}]

    async def close(self) -> None:
        """See SqlWire."""


SESSION: dict[str, Any] = {
    "pid": 4711, "user": "reporting", "application": "monthly", "state": "active", "waits_for": None,
    "query": f"SELECT '{TOKEN}'", "seconds": 42.0, "total": 1, "sessions": 1, "backend_start": 1, "query_start": 2,
    "hash": 3,
}  # fmt: skip
STATEMENT: dict[str, Any] = {
    "query": "SELECT $1", "user": "reporting", "calls": 1, "rows": 1, "total_ms": 1.0, "mean_ms": 1.0, "max_ms": 1.0,
}  # fmt: skip
