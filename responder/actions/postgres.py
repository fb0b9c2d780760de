"""What can be read of a PostgreSQL server: replication, sessions, statements. Evidence and checks.

Every reader makes sure first that its role sees the sessions of others: without pg_monitor they are NULL, and "no long
query" would be what somebody without eyes says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue

from responder import postgres_statements as sql
from responder.contracts import Action, Context, Output
from responder.errors import Permanent
from responder.postgres_connections import PostgresSession, Rows, SqlCall
from responder.recorded import Plan
from responder.timing import SECOND
from responder.written import Duration

Count = Annotated[int, Field(ge=1, le=sql.MAX_ROWS)]


class Reader(Action):
    """What all readers of a PostgreSQL server share: the service, and a session that sees."""

    reads_only: ClassVar[bool] = True
    kinds: ClassVar[tuple[str, ...]] = ("postgres",)
    grants: ClassVar[tuple[str, ...]] = ("GRANT pg_monitor TO {role}",)

    service: str

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary; Permanent when its role sees nothing of other sessions."""
        async with context.service(self.service).session(context.timeout, context.key) as session:
            (rights,) = await session.ask(SqlCall("what our role may see", sql.RIGHTS))
            if not rights["sees"]:
                cure = f"GRANT pg_monitor TO {rights['role']}"
                raise Permanent(f"{self.service}: its role does not see the sessions of others: {cure}")
            value, detail = await self._read(session)
        return Output(value, detail, context.now())

    async def _read(self, session: PostgresSession) -> tuple[JsonValue, str]:
        raise NotImplementedError

    async def _ask(self, session: PostgresSession, statement: str, **params: Any) -> Rows:
        return await session.ask(SqlCall(type(self).__name__, statement, params))


class PostgresReplicationStatus(Reader):
    """Read what a server is in its cluster: primary or standby, its timeline, and who lags how far behind.

    - `service`: a service of kind `postgres`.

    Effect class `read`. `expect` sees `value.role` (`primary` or `standby`) and `value.timeline`. Of a primary also
    `value.standbys`, a list of `{name, state, sync_state, lag_bytes, lag_seconds}`, `value.streaming` (how many stream)
    and `value.lag_bytes` and `value.lag_seconds`, those of the furthest behind; the second is missing where one of them
    does not tell, or none follows. Of a standby `value.lag_bytes` (received and not replayed yet),
    `value.lag_seconds`, `value.received` (a position in bytes, to compare standbys by), `value.receiver` (`streaming`
    while its primary lives) and `value.heard_seconds`, how long ago it last heard of it.

    A lag in seconds is told only where there is a lag in bytes: the time since the last replayed transaction grows on
    an idle system without any.

    Needs of its role: `GRANT pg_monitor`.

    ```yaml
    evidence:
      - {title: What the replica says, action: postgres.replication_status, with: {service: db-replica-1}}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {"service": "literal"}

    def preview(self) -> str:
        """See Action.preview."""
        return f"replication of {self.service}"

    async def _read(self, session: PostgresSession) -> tuple[JsonValue, str]:
        (standing,) = await self._ask(session, sql.STANDING)
        if standing["recovery"]:
            return self._standby(standing)
        standbys = await self._ask(session, sql.STANDBYS)
        told: list[JsonValue] = [
            {**row, "lag_seconds": sql.rounded(row["lag_seconds"], 3) if row["lag_bytes"] else 0.0} for row in standbys
        ]
        streaming = sum(row["state"] == "streaming" for row in standbys)
        lag = max((row["lag_bytes"] or 0 for row in standbys), default=0)
        seconds = [row["lag_seconds"] for row in told if isinstance(row, dict)]
        known = [s for s in seconds if isinstance(s, float)]
        value: JsonValue = {
            "role": "primary",
            "timeline": standing["timeline"],
            "streaming": streaming,
            "lag_bytes": lag,
            "lag_seconds": max(known) if known and len(known) == len(seconds) else None,
            "standbys": told,
        }
        return value, f"primary on timeline {standing['timeline']}, {streaming} standbys stream, {lag} bytes behind"

    def _standby(self, standing: sql.Row) -> tuple[JsonValue, str]:
        lag = standing["received"] - standing["replayed"]
        value: JsonValue = {
            "role": "standby",
            "timeline": standing["timeline"],
            "lag_bytes": lag,
            "lag_seconds": sql.rounded(standing["behind_seconds"], 3) or 0.0,
            "received": standing["received"],
            "receiver": standing["receiver"] or "none",
            "heard_seconds": sql.rounded(standing["heard_seconds"]),
        }
        receiver = standing["receiver"] or "no receiver: its primary is away"
        return value, f"standby on timeline {standing['timeline']}, {lag} bytes to replay, {receiver}"


class PostgresLongQueries(Reader):
    """Read which statements run for long, and which transactions stand open without one.

    - `service`: a service of kind `postgres`.
    - `older_than`: from which age on. Default 5s.
    - `count`: how many are listed, at most 50, the oldest first. Default 10.

    Effect class `read`. `expect` sees `value.count` (all of them), `value.longest_seconds`, `value.by_user`,
    `value.by_application` and `value.queries`: `{pid, user, application, state, seconds, waits_for, query}`. The values
    in a statement are left out, since they may be anybody's orders.

    Needs of its role: `GRANT pg_monitor`.

    ```yaml
    evidence:
      - {title: Statements over 10 s, action: postgres.long_queries, with: {service: db, older_than: 10s}}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {"service": "literal", "older_than": "literal", "count": "literal"}

    older_than: Duration = 5 * SECOND
    count: Count = 10

    def preview(self) -> str:
        """See Action.preview."""
        return f"statements of {self.service} that run for long"

    async def _read(self, session: PostgresSession) -> tuple[JsonValue, str]:
        rows = await self._ask(session, sql.LONG_QUERIES, older=self.older_than / SECOND, count=sql.MAX_ROWS)
        total = rows[0]["total"] if rows else 0
        longest = sql.rounded(rows[0]["seconds"]) if rows else 0.0
        value: JsonValue = {
            "count": total,
            "longest_seconds": longest,
            "by_user": {**sql.counted(rows, "user")},
            "by_application": {**sql.counted(rows, "application")},
            "queries": [sql.told_query(row) for row in rows[: self.count]],
        }
        return value, f"{total} statements run for long, the longest for {longest} s"


class PostgresPoolUsage(Reader):
    """Read how many connections the server has left, and who holds them.

    - `service`: a service of kind `postgres`.

    Effect class `read`. `expect` sees `value.used`, `value.free` (without those kept for superusers), `value.most`
    (max_connections), `value.used_percent`, `value.by_state`, `value.by_user` and `value.by_application`.

    Needs of its role: `GRANT pg_monitor`. From PostgreSQL 16 on also `GRANT pg_use_reserved_connections`, with
    `reserved_connections` set on the server: then it gets in when nobody else does.

    ```yaml
    evidence:
      - {title: Connections, action: postgres.pool_usage, with: {service: db}}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {"service": "literal"}

    def preview(self) -> str:
        """See Action.preview."""
        return f"connections of {self.service}"

    async def _read(self, session: PostgresSession) -> tuple[JsonValue, str]:
        (room,) = await self._ask(session, sql.ROOM)
        rows = await self._ask(session, sql.POOL)
        used, most = sum(row["sessions"] for row in rows), room["most"]
        value: JsonValue = {
            "used": used,
            "free": max(0, most - room["kept"] - used),
            "most": most,
            "used_percent": round(100 * used / most, 1),
            "by_state": {**sql.counted(rows, "state")},
            "by_user": {**sql.counted(rows, "user")},
            "by_application": {**sql.counted(rows, "application")},
        }
        return value, f"{used} of {most} connections are in use"


class PostgresTopStatements(Reader):
    """Read which statements cost most, by the server's own statistics (pg_stat_statements).

    - `service`: a service of kind `postgres`.
    - `by`: `total` (default), `mean` or `calls`.
    - `count`: how many, at most 50. Default 5.

    Effect class `read`. `expect` sees a list of `{query, user, calls, rows, total_ms, mean_ms, max_ms}`. Where the
    extension is not there, that is said: then nothing is known.

    Needs of its role: `GRANT pg_monitor`; of the database `CREATE EXTENSION pg_stat_statements`, of the server
    `shared_preload_libraries`.

    ```yaml
    evidence:
      - {title: Most expensive statements, action: postgres.top_statements, with: {service: db, count: 5}}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {"service": "literal", "by": "literal", "count": "literal"}

    by: Literal["total", "mean", "calls"] = "total"
    count: Count = 5

    def preview(self) -> str:
        """See Action.preview."""
        return f"most expensive statements of {self.service}"

    async def _read(self, session: PostgresSession) -> tuple[JsonValue, str]:
        found = await self._ask(session, sql.STATEMENTS_PLACE)
        if not found:
            cure = "CREATE EXTENSION pg_stat_statements there, and add it to shared_preload_libraries"
            raise Permanent(f"{self.service}: this database keeps no statistics of statements: {cure}")
        if not found[0]["usable"]:
            cure = f"GRANT USAGE ON SCHEMA {found[0]['schema']} TO {found[0]['role']}"
            raise Permanent(f"{self.service}: its role may not use the schema of pg_stat_statements: {cure}")
        rows = await self._ask(session, sql.TOP_STATEMENTS, by=self.by, count=self.count)
        told: list[JsonValue] = [
            {
                **{name: row[name] for name in ("user", "calls", "rows")},
                **{name: sql.rounded(row[name], 2) for name in ("total_ms", "mean_ms", "max_ms")},
                "query": sql.shape(row["query"]),
            }
            for row in rows
        ]
        return told, f"{len(told)} statements by {self.by}"
