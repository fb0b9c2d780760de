"""A responder of its own in a folder: configuration, rules, database; and what its database says afterwards."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.processes import Child, child, free_port

CONFIG = """\
listen: 127.0.0.1:{port}
store: sqlite:///{folder}/responder.db
rules: [./rules]
# What is measured is a storm of changes, which is what these would stop.
automation: {{changes: null, changes_per_service: null, changes_per_runbook: null, storm: null, success: null}}
services:
  desk: {{kind: http, env: prod, url: 'http://127.0.0.1:{service}', idempotency_keys: true}}
"""

RUNBOOK = """\
runbook: {name}
title: Call the desk about one gateway
match: ['alertname="{alertname}"', 'env="prod"']
env: prod
inputs:
  item: {{label: item, pattern: '[a-z0-9-]{{1,60}}'}}
target: 'desk/{{{{ item }}}}'
mode: auto
steps:
  - id: call
    title: Tell the desk
    action: http.request
    with: {{service: desk, method: POST, path: /act, json: {{item: '{{{{ item }}}}'}}}}
    timeout: 10s
escalation: {policy}
"""

POLICIES = """\
policies:
  nobody: {}
"""

TOLD, SILENT, UNROUTED = "GatewaySlow", "GatewayQuiet", "NoRunbookForThis"
"""Alert names: a run that the console tells and pages, a run that nobody is told about, no runbook at all."""


class Installation:
    """One responder. Its database outlives the process."""

    def __init__(self, folder: Path, service: int = 9) -> None:
        """`service` is the port of the fake service; 9 where nothing calls it."""
        self.folder = folder
        self.port = free_port()
        self.database = folder / "responder.db"
        self.rules = folder / "rules"
        self.rules.mkdir(parents=True)
        self.config = folder / "responder.yaml"
        self.config.write_text(CONFIG.format(port=self.port, folder=folder, service=service))
        (self.rules / "policies.yaml").write_text(POLICIES)
        for alertname, policy in ((TOLD, "default"), (SILENT, "nobody")):
            name = f"call-{policy}"
            text = RUNBOOK.format(name=name, alertname=alertname, policy=policy)
            (self.rules / f"{name}.yaml").write_text(text)

    @contextmanager
    def running(self) -> Iterator[Child]:
        """The server, until the end of the block."""
        with child(self.command, self.port, self.folder / "server.log") as process:
            yield process

    @property
    def command(self) -> list[str]:
        """What starts it."""
        return ["-m", "responder", "serve", "--config", str(self.config)]

    def asked(self, query: str) -> list[tuple[object, ...]]:
        """Rows of its database, beside the running server."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(query).fetchall()

    def number(self, query: str) -> int:
        """The one number that a query answers."""
        found = self.asked(query)[0][0]
        return found if isinstance(found, int) else 0

    def runs_ended(self) -> int:
        """Runs that came to an end."""
        return self.number("SELECT count(*) FROM events WHERE kind = 'run_ended'")

    def untold(self) -> int:
        """Messages that are still to be sent."""
        return self.number("SELECT count(*) FROM messages WHERE state = 'pending'")


def wait_for(done: Callable[[], bool], what: str, patience: float = 120, step: float = 0.05) -> float:
    """Seconds until it is so. Raises TimeoutError."""
    began = time.monotonic()
    while not done():
        if time.monotonic() - began > patience:
            raise TimeoutError(f"{what}: not within {patience:.0f} s")
        time.sleep(step)
    return time.monotonic() - began
