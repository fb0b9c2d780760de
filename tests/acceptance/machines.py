"""The databases and the scripts behind the performer, as connections: what they hold, and what was done to them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from responder import postgres_statements as sql
from responder.command_processes import CommandCall, Ran
from responder.contracts import Clock
from responder.errors import Temporary
from responder.last_look import Clear, always_clear
from responder.postgres_connections import Rows, SqlCall
from responder.simulate import sleep
from responder.timing import SECOND

BEGAN = 1_795_183_158
"""When the statements began, in s: 42 s before a timeline does. Their ages grow while people think."""


class Around(Protocol):
    """What is needed of the world."""

    changes: list[tuple[int, str, Any]]
    databases: Databases
    scripts: Scripts

    @property
    def clock(self) -> Clock:
        """The present time."""
        ...


@dataclass
class Databases:
    """`primary`: which replica is primary, "db" for the first one, "" for none; `running`: user → application of each
    long statement."""

    primary: str = "db"
    pointed: bool = True
    """The address that orders are written to leads to the primary, and the other replica follows it."""
    received: dict[str, int] = field(default_factory=lambda: {"db-replica-1": 5000, "db-replica-2": 6000})
    running: dict[int, tuple[str, str]] = field(default_factory=dict)
    idle: set[int] = field(default_factory=set)
    """Those of them that hold a transaction open and do nothing; all others are active."""


@dataclass(frozen=True)
class Database:
    """One server as an action sees it; a statement that nobody foresaw ends the test."""

    world: Around
    name: str
    patroni: None = None

    @contextlib.asynccontextmanager
    async def session(self, timeout: float, key: str = "", *, long: bool = False) -> AsyncIterator[Database]:
        """See PostgresConnection."""
        databases = self.world.databases
        if self.name == "db" and not (databases.primary and databases.pointed):
            raise Temporary(f"{self.name}: nothing was sent: no connection")
        yield self

    async def ask(self, call: SqlCall, clear: Clear = always_clear) -> Rows:
        """See PostgresSession."""
        if call.changes:
            await clear()
        answers: Mapping[str, Callable[[], Rows]] = {
            sql.RIGHTS: lambda: [{"role": "responder", "sees": True, "signals": True}],
            sql.ROLES: lambda: [{"name": name, "super": False} for name in call.params["users"]],
            sql.STANDING: self._standing,
            sql.STANDBYS: lambda: [
                {"name": "r", "state": "streaming", "sync_state": "async", "lag_bytes": 0, "lag_seconds": None}
            ],
            sql.LONG_QUERIES: self._sessions,
            sql.POOL: self._sessions,
            sql.ROOM: lambda: [{"most": 100, "kept": 3}],
            sql.STATEMENTS_PLACE: list,
            sql.ENDABLE: lambda: self._endable(call),
            sql.STILL_THERE: lambda: [{"number": int(call.params["pid"] in self.world.databases.running)}],
            sql.CANCEL: lambda: self._end(call),
            sql.TERMINATE: lambda: self._end(call),
            sql.PROMOTE: self._promote,
        }
        assert call.statement in answers, f"nobody foresaw {call.statement}"
        return answers[call.statement]()

    def _standing(self) -> Rows:
        databases = self.world.databases
        recovery = self.name not in {"db", databases.primary}
        received = databases.received.get(self.name, 0)
        follows = "streaming" if recovery and databases.primary else None
        told = {"recovery": recovery, "timeline": 1 if recovery else 2, "received": received, "replayed": received}
        return [{**told, "receiver": follows, "heard_seconds": None, "behind_seconds": None}]

    def _sessions(self) -> Rows:
        running = self.world.databases.running
        seconds = self.world.clock() / SECOND - BEGAN
        return [{**_session(pid, user, app, len(running)), "seconds": seconds} for pid, (user, app) in running.items()]

    def _endable(self, call: SqlCall) -> Rows:
        spared = {name.rstrip("%") for name in call.params["spared"]}
        found = [
            row
            for row in self._sessions()
            if row["user"] in call.params["users"]
            and (row["pid"] in self.world.databases.idle) is (call.params["state"] != "active")
            and not any(row["application"].startswith(n) for n in spared)
        ]
        return found[: call.params["count"]]

    def _end(self, call: SqlCall) -> Rows:
        ended = self.world.databases.running.pop(call.params["pid"], None)
        self.world.changes.append((self.world.clock(), call.what, ended))
        return [] if ended is None else [{"gone": True}]

    def _promote(self) -> Rows:
        self.world.databases.primary = self.name
        self.world.changes.append((self.world.clock(), f"promote {self.name}", None))
        return [{"promoted": True}]


def _session(pid: int, user: str, application: str, total: int) -> dict[str, Any]:
    return {
        "pid": pid, "user": user, "application": application, "state": "active", "waits_for": None, "seconds": 42.0,
        "query": "SELECT 'secret 4711'", "total": total, "sessions": 1, "backend_start": 1, "query_start": 2, "hash": 3,
    }  # fmt: skip


COMPOSE_READS = ("docker-compose ps", "docker-compose logs --no-color --tail 20 trademaster-trading-service")
BREAKERS = "check_circuit_breakers.sh"
LOOKING = (
    "verify_data_feed.sh", "check_data_feed_health.sh", "check_dependencies.sh", "review_recent_trades.sh",
    "calculate_pnl.sh", BREAKERS, "test_broker_connection.sh", "check_pending_orders.sh", "analyze_errors.sh",
    "check_slow_queries.sh", "check_drift_scores.sh", "check_dr_readiness.sh", "health_check.sh", "validate_model.sh",
    "verify_failover.sh",
)  # fmt: skip


@dataclass
class Scripts:
    """What each script ends with, by its name or by the whole line; those that change something are noted."""

    exits: dict[str, int] = field(default_factory=dict)
    halts: bool = True
    """Whether halt_trading.sh halts trading; it may end with 0 and not do so."""
    halted: bool = False
    hanging: set[str] = field(default_factory=set)
    """Those that begin and never end."""
    reads: frozenset[str] = frozenset({*LOOKING, *COMPOSE_READS})


@dataclass(frozen=True)
class Folder:
    """The folder of scripts as an action sees it."""

    world: Around

    async def run(self, call: CommandCall, timeout: float, clear: Clear = always_clear) -> Ran:
        """See CommandConnection."""
        if not call.reads:
            await clear()
        scripts = self.world.scripts
        line = " ".join((call.command, *call.args))
        known = line if line in scripts.exits else call.command
        assert known in scripts.exits, f"nobody foresaw {line}"
        if known not in scripts.reads:
            self.world.changes.append((self.world.clock(), line, None))
        if call.command in scripts.hanging:
            await sleep(timeout + 1)
        if call.command == "halt_trading.sh" and scripts.halts:
            scripts.halted = True
        if call.command == "reset_circuit_breaker.sh":
            scripts.halted = False
        return Ran(int(scripts.halted) if call.command == BREAKERS else scripts.exits[known], "", "")
