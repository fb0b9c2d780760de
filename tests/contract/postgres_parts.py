"""Sessions of other people on a real PostgreSQL, and the user whom the actions come as."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg

from responder.contracts import Secret
from responder.runbook import Runbook
from responder.services import PostgresService
from tests.servers import Postgres

PASSWORD = "s3cret-sql-password"
RUNBOOK = Runbook(runbook="slow", title="Slow", target="db")


class Sessions:
    """Other people's sessions."""

    def __init__(self, server: Postgres, stack: ExitStack) -> None:
        self.server = server
        self._stack = stack

    def open(self, user: str, application: str, query: str = "SELECT pg_sleep(300) -- 'secret 4711'") -> int:
        """A session that runs `query`; answers its pid, once it is seen to run."""
        return self._stack.enter_context(self._open(user, application, query))

    @contextmanager
    def _open(self, user: str, application: str, query: str) -> Iterator[int]:
        where = {"host": "127.0.0.1", "port": self.server.port, "user": user, "dbname": "postgres"}
        other = psycopg.connect(**where, application_name=application, autocommit=True)  # type: ignore[arg-type]
        pid = other.info.backend_pid
        try:
            other.pgconn.send_query(query.encode())
            self._old(pid)
            yield pid
        finally:
            other.close()
            with psycopg.connect(self.server.url(), autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))

    def _old(self, pid: int) -> None:
        """Waits, in the server, until it is seen to run for a second."""
        found = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND now() - COALESCE(query_start, now()) > '1s'"
        with psycopg.connect(self.server.url(), autocommit=True) as admin:
            while admin.execute(found, (pid,)).fetchone() == (0,):
                admin.execute("SELECT pg_sleep(0.1)")

    def alive(self, pid: int) -> bool:
        """Whether its session is there and runs something."""
        with psycopg.connect(self.server.url(), autocommit=True) as admin:
            found = admin.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone()
        return found == ("active",)


def user(server: Postgres, name: str = "responder", password: str = PASSWORD, **fields: Any) -> PostgresService:
    secret = Secret("env DB_PASSWORD", lambda: password)
    given = {"url": server.url().replace("postgres@", ""), "username": name, "password": secret, "tls": "off"}
    return PostgresService.model_validate({**given, **fields})


async def _no_wait(_seconds: float) -> None:
    raise AssertionError("nothing here waits")
