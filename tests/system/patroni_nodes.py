"""A real Patroni: two nodes with PostgreSQL below them, and a third vote, agreed by raft in Patroni itself.

RESPONDER_TEST_PATRONI names the program (`pip install 'patroni[raft]' 'psycopg[binary]'` in an environment of its own,
which the unprivileged user may enter). No package of it is needed here.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg

from tests.provision import find
from tests.servers import Server, free_port, unprivileged

PROGRAM: Final = os.environ.get("RESPONDER_TEST_PATRONI", "")
USER: Final = "patroni-api"
PASSWORD: Final = "s3cret-patroni-password"
TTL: Final = 20
"""Seconds for which a leader that is dead holds its key; Patroni allows none shorter."""


class Voter(Server):
    """The third vote, without data."""

    program = "patroni_raft_controller"

    def __init__(self, raft: int, partners: tuple[int, ...]) -> None:
        super().__init__()
        self.raft = raft
        self._settings: dict[str, Any] = {
            "scope": "trading",
            "raft": {
                "data_dir": str(self.folder / "raft"),
                "self_addr": f"127.0.0.1:{raft}",
                "partner_addrs": [f"127.0.0.1:{port}" for port in partners],
            },
        }

    def _found(self) -> Path:
        return Path(PROGRAM).with_name(self.program)

    def start(self) -> None:
        """See Server."""
        (self.folder / "patroni.json").write_text(json.dumps(self._settings))
        _given_away(self)
        super().start()

    def _identity(self) -> dict[str, Any]:
        return unprivileged()

    def _command(self) -> list[str]:
        return [str(self.binary), str(self.folder / "patroni.json")]

    def _is_ready(self) -> bool:
        return True


class Node(Voter):
    """Patroni with the PostgreSQL that it starts. `port` is PostgreSQL's."""

    program = "patroni"

    def __init__(self, name: str, raft: int, partners: tuple[int, ...]) -> None:
        super().__init__(raft, partners)
        self.name = name
        self.api = free_port()
        postgres = find("postgres").resolve()
        self._settings |= {
            "name": name,
            "restapi": {
                "listen": f"127.0.0.1:{self.api}",
                "connect_address": f"127.0.0.1:{self.api}",
                "authentication": {"username": USER, "password": PASSWORD},
            },
            "bootstrap": {
                "dcs": {
                    "ttl": TTL,
                    "loop_wait": 1,
                    "retry_timeout": 3,
                    "postgresql": {"use_pg_rewind": True, "parameters": {"max_connections": 50}},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
            },
            "postgresql": {
                "listen": self.address,
                "connect_address": self.address,
                "data_dir": str(self.folder / "data"),
                "bin_dir": str(postgres.parent),
                "pgpass": str(self.folder / "pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres"},
                    "replication": {"username": "replicator", "password": PASSWORD},
                },
                "pg_hba": [
                    "host all all 127.0.0.1/32 trust",
                    "host replication all 127.0.0.1/32 trust",
                ],
                # As a fence of the operators' own: Patroni says that it is done before this has run.
                "pre_promote": "sleep 2",
                "parameters": {"unix_socket_directories": "", "fsync": "off", "jit": "off"},
            },
        }  # fmt: skip

    @property
    def url(self) -> str:
        """Of its REST API."""
        return f"http://127.0.0.1:{self.api}"

    def cluster(self) -> dict[str, dict[str, Any]]:
        """Its members by name, as it tells them."""
        body = httpx.get(f"{self.url}/cluster", timeout=5).json()
        return {one["name"]: one for one in body["members"]}

    def tagged(self, **tags: bool) -> None:
        """Give it these tags and no others."""
        (self.folder / "patroni.json").write_text(json.dumps({**self._settings, "tags": tags}))
        httpx.post(f"{self.url}/reload", auth=(USER, PASSWORD), timeout=5).raise_for_status()
        time.sleep(2)  # It reads the file in its next loop, which is a second.

    def crash(self) -> None:
        """Patroni and its PostgreSQL die at once, as with their machine."""
        self.kill()
        self._end_postgres()

    def stop(self) -> None:
        """Patroni ends its PostgreSQL with it."""
        super().stop()
        self._end_postgres()

    def execute(self, statement: str) -> None:
        """As the superuser."""
        with psycopg.connect(f"postgresql://postgres@{self.address}/postgres", autocommit=True) as connection:
            connection.execute(statement.encode())

    def _end_postgres(self) -> None:
        with suppress(OSError, ValueError):
            pid = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
            os.kill(pid, signal.SIGQUIT)
            while Path(f"/proc/{pid}").exists():
                time.sleep(0.02)

    def _is_ready(self) -> bool:
        return httpx.get(f"{self.url}/health", timeout=1).status_code == httpx.codes.OK


def _given_away(server: Server) -> None:
    identity = unprivileged()
    if identity:
        for path in (server.folder, *server.folder.iterdir()):
            os.chown(path, identity["user"], identity["group"])


def cluster() -> tuple[Node, Node, Voter]:
    """Two nodes and a vote that know of each other, not started yet."""
    one, two, three = (free_port() for _ in range(3))
    return (Node("pg-1", one, (two, three)), Node("pg-2", two, (one, three)), Voter(three, (one, two)))
