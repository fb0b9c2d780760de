"""Connections to the configured PostgreSQL servers: statements with parameters, and what a missing answer means.

A connection lasts for one use and is the use's own: a pool would hold connections of a server that has too few, and a
password that was rotated is the one that is used. Every statement stands on its own (autocommit), is bounded by the
server itself (`statement_timeout`, `lock_timeout`), and is text of this package: values are parameters, always. Nothing
of libpq's own environment (PGHOSTADDR, PGPASSFILE …) decides where it leads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol
from urllib.parse import urlsplit

from responder.certificates import tls_context
from responder.errors import Permanent, ResponderError, Temporary, Unknown
from responder.last_look import Clear, always_clear
from responder.permits import ALL_IN_USE, permit
from responder.redaction import hide_known
from responder.services import ClientCertificate, PostgresService
from responder.timing import MILLISECOND, SECOND

Rows = list[dict[str, Any]]
"""Rows by the names of their columns."""

_UNKNOWN_TO_IT = re.compile(
    r"authentication failed|no pg_hba\.conf entry|database \S+ does not exist|role \S+ does not"
    r"|requires a valid client certificate"
)
"""Refusals of a connection that do not pass by themselves; libpq gives them no code."""
_PASSING = frozenset({"57P03", "53300", "53400", "55P03", "57014", "40001", "40P01", "25006"})
"""Starting up, too many clients, limits, no lock in time, cancelled, conflicts, (still) read-only."""
_BROKEN = frozenset({"57P01", "57P02"})
"""The server ended the connection while it was at work."""


@dataclass(frozen=True, slots=True)
class SqlCall:
    """One statement and its parameters. `changes`: the world may be different afterwards. `what` is told to people."""

    what: str
    statement: str
    params: Mapping[str, Any] = field(default_factory=dict)
    changes: bool = False


class SqlWire(Protocol):
    """One connection; it raises the errors of psycopg."""

    async def connect(self) -> None:
        """Open it, as the service's role, to its one server."""
        ...

    async def ask(self, call: SqlCall) -> Rows:
        """Run one statement and read its rows."""
        ...

    async def close(self) -> None:
        """Close it at once."""
        ...


OpenSql = Callable[[PostgresService, float, str], SqlWire]
"""Makes a connection to a service that is not opened yet: with its patience in seconds, and what it calls itself."""


def load_library() -> None:
    """Load psycopg now: it takes a tenth of a second, which no loop that is running has."""
    import psycopg  # noqa: F401


class PostgresSession:
    """A connection that is open, for one use of an action."""

    def __init__(self, name: str, service: PostgresService, wire: SqlWire) -> None:
        self.name = name
        self._secret = service.password.reveal() if service.password is not None else ""
        self._wire = wire

    async def ask(self, call: SqlCall, clear: Clear = always_clear) -> Rows:
        """Run one statement once; `clear` is asked right before a change. Raises Temporary, Permanent, Unknown."""
        import psycopg

        if call.changes:
            await clear()
        try:
            rows = await self._wire.ask(call)
        except psycopg.Error as error:
            raise _refused(error, f"{self.name}: {call.what}", call.changes) from None
        return [{name: self._shown(value) for name, value in row.items()} for row in rows]

    def _shown(self, value: Any) -> Any:
        return hide_known(value, (self._secret,)) if isinstance(value, str) else value


class PostgresConnection:
    """What an action speaks through to one server. `patroni` is what promotes it, where something does."""

    keyed = False
    """No server honours idempotency keys."""

    def __init__(self, name: str, service: PostgresService, opener: OpenSql, patroni: Any = None) -> None:
        self.name = name
        self.service = service
        self.patroni = patroni
        self._open = opener
        self._permits = asyncio.Semaphore(service.connections)

    @contextlib.asynccontextmanager
    async def session(self, timeout: float, key: str = "", *, long: bool = False) -> AsyncIterator[PostgresSession]:
        """A connection of one's own, whose statements take at most `timeout` seconds each.

        `key`: of the attempt, so that the server's log and pg_stat_activity tell whose it is. `long`: the service's own
        limit does not hold, as for a promotion. Raises Temporary and Permanent: nothing was sent.
        """
        import psycopg

        place = f"{self.name}: nothing was sent"
        named = f"responder/{key}"[:63] if key else "responder"
        patience = timeout if long else min(timeout, self.service.timeout / SECOND)
        async with permit(self._permits, timeout / 3, Temporary(f"{place}: {ALL_IN_USE}")):
            wire = self._open(self.service, patience, named)
            try:
                try:
                    # Connecting may take a third, so that the rest is left for the statements.
                    async with asyncio.timeout(patience / 3):
                        await wire.connect()
                except TimeoutError:
                    said = "no connection in time; check that it runs and its address"
                    raise Temporary(f"{place}: {said}") from None
                except psycopg.Error as error:
                    raise _not_connected(error, place) from None
                yield PostgresSession(self.name, self.service, wire)
            finally:
                await wire.close()

    async def close(self) -> None:
        """Nothing is kept open, but what speaks with Patroni may be."""
        if self.patroni is not None:
            await self.patroni.close()


def _not_connected(error: Exception, place: str) -> ResponderError:
    """libpq tells why in words only; they hold addresses and names, no password."""
    said = " ".join(str(error).split())[:200]
    if _UNKNOWN_TO_IT.search(said):
        cure = "check the service's `username`, `password`, `client_certificate` and database, and its pg_hba.conf"
        return Permanent(f"{place}: it does not let us in ({said}); {cure}")
    return Temporary(f"{place}: no connection ({said}); check that it runs, its address and its certificate")


def _refused(error: Any, place: str, changes: bool) -> ResponderError:
    """What an error says about the world. `changes`: a lost answer leaves it open whether the statement was done."""
    code, said = error.sqlstate, _primary(error)
    if code is None or code in _BROKEN or code.startswith("08"):
        if changes:
            return Unknown(f"{place}: the connection was lost; the change may have happened")
        return Temporary(f"{place}: the connection was lost ({type(error).__name__}); check the server")
    if code == "42501":
        return Permanent(
            f"{place}: the role may not do this ({said}); the action's page names the grants that it needs"
        )
    if code == "57014" and changes:
        return Unknown(f"{place}: it took longer than its timeout ({said}); the change may have happened")
    if code in _PASSING or code.startswith("53"):
        return Temporary(f"{place}: not now ({said})")
    return Permanent(f"{place}: refused ({code}: {said})")


def _primary(error: Any) -> str:
    """The first line of what the server says, without the statement and its context."""
    diag = getattr(error, "diag", None)
    return " ".join(str(getattr(diag, "message_primary", None) or type(error).__name__).split())[:200]


@cache
def _abandoning() -> Any:
    """The class of connections that end at once when whoever waits is cancelled.

    psycopg's own would ask the server to cancel the statement, over a second connection, and wait for both up to five
    seconds each: a step whose server does not answer would outlive its timeout. The server ends the statement itself
    (`statement_timeout`).
    """
    from psycopg import AsyncConnection

    class Abandoning(AsyncConnection[Any]):
        async def cancel_safe(self, *, timeout: float = 30.0) -> None:
            self.pgconn.finish()

    return Abandoning


class LibraryWire:
    """A connection of psycopg."""

    def __init__(self, service: PostgresService, patience: float, named: str) -> None:
        self._service = service
        self._patience = patience
        self._named = named
        self._connection: Any = None

    async def connect(self) -> None:
        """See SqlWire."""
        from psycopg.rows import dict_row

        service = self._service
        if service.tls != "off" and (service.ca_file or service.client_certificate):
            tls_context(service.ca_file, service.client_certificate)  # says what is wrong with a file; libpq hardly
        settings = _settings(service, self._patience, self._named)
        self._connection = await _abandoning().connect(**settings, autocommit=True, row_factory=dict_row)

    async def ask(self, call: SqlCall) -> Rows:
        """See SqlWire."""
        cursor = await self._connection.execute(call.statement.encode(), call.params, prepare=False)
        rows: Rows = await cursor.fetchall()
        return rows

    async def close(self) -> None:
        """See SqlWire."""
        if self._connection is not None:
            await self._connection.close()


def _settings(service: PostgresService, patience: float, named: str) -> dict[str, Any]:
    """What libpq is told; everything that its environment variables could fill in is said here."""
    url = urlsplit(service.url)
    limits = {
        "statement_timeout": max(1, round(patience * SECOND / MILLISECOND)),
        "lock_timeout": max(1, service.lock_timeout // MILLISECOND),
        "search_path": "pg_catalog",
    }
    return {
        "host": url.hostname,
        "hostaddr": "",
        "port": url.port or 5432,
        "dbname": url.path[1:],
        "user": service.username,
        "password": service.password.reveal() if service.password is not None else "",
        "passfile": f"{os.devnull}/none",  # cannot exist; the device itself makes libpq print a warning each time
        "sslmode": "disable" if service.tls == "off" else "verify-full",
        "sslrootcert": "" if service.tls == "off" else service.ca_file or "system",
        **_shown(service.client_certificate),
        "gssencmode": "disable",
        "channel_binding": "prefer",
        "target_session_attrs": service.session,
        "application_name": named,
        "connect_timeout": max(2, round(patience / 3)),
        "client_encoding": "utf8",
        "options": " ".join(f"-c {name}={value}" for name, value in limits.items()),
    }


def _shown(given: ClientCertificate | None) -> dict[str, str]:
    """Our certificate, and never the one that libpq would find in the home of its user."""
    if given is None:
        return {"sslcertmode": "disable", "sslcert": "", "sslkey": ""}
    return {"sslcertmode": "allow", "sslcert": given.cert_file, "sslkey": given.key_file, "sslpassword": ""}
