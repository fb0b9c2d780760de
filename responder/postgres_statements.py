"""The statements that PostgreSQL is asked, and what their rows say. Pure; asking is `postgres_connections`.

They are constants: whatever comes from a step is a parameter. Times travel as whole microseconds, so that a backend is
known again to the instant that it began: a pid alone is used again by the next one (contracts.md H).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import JsonValue

MAX_QUERY: Final = 200
"""Characters of a statement that are told."""
MAX_ROWS: Final = 50

Row = Mapping[str, Any]

RIGHTS: Final = """
SELECT current_user AS role,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees,
       pg_has_role(current_user, 'pg_signal_backend', 'USAGE') AS signals
"""
"""What our role may do. Without the first it sees NULLs where others' sessions are, and so would find nothing."""

CHECKUP: Final = """
SELECT current_user AS role, pg_is_in_recovery() AS recovery,
       (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS now
"""
"""Whose session it is, and the server's clock in µs."""

HAS_ROLE: Final = "SELECT pg_has_role(current_user, %(right)s, 'USAGE') AS has"
MAY_EXECUTE: Final = "SELECT has_function_privilege(current_user, %(right)s, 'EXECUTE') AS has"

ROLES: Final = "SELECT rolname AS name, rolsuper AS super FROM pg_roles WHERE rolname = ANY(%(users)s)"

STANDING: Final = """
SELECT recovery, timeline, received, replayed, receiver, heard_seconds,
       CASE WHEN recovery AND received > replayed
            THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END AS behind_seconds
FROM (
  SELECT pg_is_in_recovery() AS recovery,
         CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id::bigint FROM pg_control_checkpoint())
              ELSE ('x' || lpad(substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), 16, '0'))::bit(64)::bigint
         END AS timeline,
         CASE WHEN pg_is_in_recovery()
              THEN pg_wal_lsn_diff(GREATEST(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')::bigint
              ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint END AS received,
         CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint END AS replayed,
         (SELECT status FROM pg_stat_wal_receiver LIMIT 1) AS receiver,
         (SELECT extract(epoch FROM clock_timestamp() - last_msg_receipt_time)::float8
          FROM pg_stat_wal_receiver LIMIT 1) AS heard_seconds
) AS now
"""
"""What a server is. After a restart a standby has received nothing yet, or as it says from the begin of a segment on,
while it has replayed more of its own files: the further of the two is what it has. How long ago it replayed a
transaction tells of a lag only while something waits to be replayed: on an idle system it grows without any
(contracts.md H)."""

STANDBYS: Final = """
SELECT application_name AS name, state, sync_state,
       pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS lag_bytes,
       extract(epoch FROM replay_lag)::float8 AS lag_seconds
FROM pg_stat_replication ORDER BY application_name, pid LIMIT 50
"""
"""On a primary, who follows it. `replay_lag` is NULL on an idle system."""

LONG_QUERIES: Final = """
SELECT pid, usename AS user, application_name AS application, state, left(query, 2000) AS query,
       wait_event_type AS waits_for, extract(epoch FROM clock_timestamp() - since)::float8 AS seconds,
       count(*) OVER () AS total
FROM (
  SELECT *, CASE WHEN state = 'active' THEN query_start ELSE xact_start END AS since FROM pg_stat_activity
  WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND (state = 'active' OR state LIKE 'idle in transaction%%')
) AS busy
WHERE since < clock_timestamp() - make_interval(secs => %(older)s)
ORDER BY since LIMIT %(count)s
"""

POOL: Final = """
SELECT usename AS user, application_name AS application, COALESCE(state, 'starting') AS state, count(*) AS sessions
FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
GROUP BY 1, 2, 3 ORDER BY 4 DESC
"""

ROOM: Final = """
SELECT current_setting('max_connections')::int AS most,
       current_setting('superuser_reserved_connections')::int
         + COALESCE(current_setting('reserved_connections', true)::int, 0) AS kept
"""

STATEMENTS_PLACE: Final = """
SELECT set_config('search_path', quote_ident(n.nspname) || ', pg_catalog', false) AS path,
       quote_ident(n.nspname) AS schema, has_schema_privilege(n.oid, 'USAGE') AS usable, current_user AS role
FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'
"""
"""The server itself says in which schema its extension is, and quotes it."""

TOP_STATEMENTS: Final = """
SELECT left(query, 2000) AS query, pg_get_userbyid(userid) AS user, calls, rows,
       total_exec_time AS total_ms, mean_exec_time AS mean_ms, max_exec_time AS max_ms
FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY CASE %(by)s WHEN 'mean' THEN mean_exec_time WHEN 'calls' THEN calls ELSE total_exec_time END DESC
LIMIT %(count)s
"""

_ENDABLE: Final = """
  datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
  AND usename = ANY(%(users)s) AND application_name <> '' AND NOT application_name ILIKE ANY(%(spared)s)
  AND state = %(state)s
  AND NOT EXISTS (SELECT FROM pg_roles WHERE oid = usesysid AND rolsuper)
  AND query !~* ('^([[:space:]]|/[*].*[*]/|--[^\\n]*\\n)*'
    || '(vacuum|analyze|create|alter|drop|reindex|cluster|truncate|refresh)')
  AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum UNION ALL SELECT pid FROM pg_stat_progress_analyze
    UNION ALL SELECT pid FROM pg_stat_progress_create_index UNION ALL SELECT pid FROM pg_stat_progress_cluster)
"""
"""Whom a step may ever end: sessions of users that it allows, never of a superuser, of an application that it spares or
that has no name, of maintenance; walsenders and autovacuum are no client backends."""

_THE_SAME: Final = """
  pid = %(pid)s AND (extract(epoch FROM backend_start) * 1000000)::bigint = %(backend_start)s
  AND (extract(epoch FROM query_start) * 1000000)::bigint = %(query_start)s
  AND hashtextextended(query, 0) = %(hash)s
"""
"""The very statement that was found: the same process (a pid is used again), the same start, the same text."""

ENDABLE: Final = f"""
SELECT pid, (extract(epoch FROM backend_start) * 1000000)::bigint AS backend_start,
       (extract(epoch FROM query_start) * 1000000)::bigint AS query_start, hashtextextended(query, 0) AS hash,
       usename AS user, application_name AS application, left(query, 2000) AS query,
       extract(epoch FROM clock_timestamp() - since)::float8 AS seconds, count(*) OVER () AS total
FROM (SELECT *, CASE WHEN state = 'active' THEN query_start ELSE state_change END AS since FROM pg_stat_activity) AS a
WHERE {_ENDABLE} AND since < clock_timestamp() - make_interval(secs => %(older)s)
ORDER BY since LIMIT %(count)s
"""  # noqa: S608  (its parts are constants of this module)

TERMINATE: Final = f"""
SELECT pg_terminate_backend(pid, %(wait)s) AS gone FROM pg_stat_activity WHERE {_THE_SAME} AND {_ENDABLE}
"""  # noqa: S608
"""One session: an error about one would take back none of the signals that were sent before it."""

CANCEL: Final = f"""
SELECT pg_cancel_backend(pid) AS gone FROM pg_stat_activity WHERE {_THE_SAME} AND {_ENDABLE}
"""  # noqa: S608

STILL_THERE: Final = f"""
SELECT count(*) AS number FROM pg_stat_activity WHERE {_THE_SAME} AND state = %(state)s
"""  # noqa: S608

PROMOTE: Final = "SELECT pg_promote(true, %(wait)s) AS promoted"


def identifier(name: str) -> str:
    """An identifier of SQL, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


def counted(rows: Iterable[Row], column: str) -> dict[str, int]:
    """How many sessions by the value of a column, most first."""
    found: Counter[str] = Counter()
    for row in rows:
        found[str(row[column] or "(none)")[:80]] += int(row.get("sessions", 1))
    return dict(found.most_common(10))


_LITERAL: Final = re.compile(
    r"(?P<text>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|[eE]?'(?:[^']|'')*(?:'|\Z))|(?<![\w$])\d+(?:\.\d+)?", re.DOTALL
)


def shape(query: str) -> str:
    """A statement on one line without its values, which may be anybody's orders: `… WHERE id = ?`."""
    line = " ".join(_LITERAL.sub("?", query).split())
    return line if len(line) <= MAX_QUERY else line[: MAX_QUERY - 1] + "…"


def rounded(value: Any, digits: int = 1) -> float | None:
    """A number for people; NULL stays missing."""
    return None if value is None else round(float(value), digits)


def told_query(row: Row) -> dict[str, JsonValue]:
    """One running statement, as evidence shows it."""
    return {
        "pid": row["pid"],
        "user": row["user"],
        "application": row["application"],
        "state": row["state"],
        "seconds": rounded(row["seconds"]),
        "waits_for": row["waits_for"],
        "query": shape(row["query"]),
    }


def named_session(row: Row) -> str:
    """`reports (report-runner, 42 s): SELECT …` for a preview."""
    return f"{row['user']} ({row['application']}, {row['seconds']:.0f} s): {shape(row['query'])[:60]}"


def like(pattern: str) -> str:
    """An application's name as LIKE takes it; `*` stands for anything, and nothing else does."""
    escaped = re.sub(r"([\\%_])", r"\\\1", pattern)
    return escaped.replace("*", "%")
