"""The fork server: it has imported everything and opened nothing; every process of a cycle is a fork of it.

While a child lives, its lines are answered from the world; when they end, so did the child, and the kernel says how.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from responder.store import open_store
from responder.timing import SECOND
from tests.crash import child
from tests.crash.faults import Fault
from tests.crash.scenarios import TOTALS
from tests.crash.world import World
from tests.invariants import Accepted

T0 = 1_800_000_000 * SECOND
RESTART = 2 * SECOND
"""Virtual time between a death and the next start (µs)."""


class Broken(AssertionError):
    """A child that ended in a way that it must not."""


@dataclass
class Ended:
    """How a child's life ended. `points`: the kill points that it passed, the last of which may have killed it."""

    killed: bool
    points: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    last: int = 0


def fork(work: Callable[[socket.socket], None], answer: Callable[[dict[str, Any], Ended], Any | None]) -> Ended:
    """Run `work` in a child and answer its lines until it is gone. Raises Broken unless it was killed or ended well.

    A child that stops itself is woken after its line `stopping` was answered: what happens meanwhile happens there.
    """
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _in_child(work, theirs)
    theirs.close()
    ended = Ended(killed=False)
    with ours, ours.makefile("rwb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break
            told = json.loads(line)
            if "stopping" in told:
                os.waitpid(pid, os.WUNTRACED)
            said = answer(told, ended)
            if "stopping" in told:
                os.kill(pid, signal.SIGCONT)
            if said is not None:
                try:
                    lines.write(json.dumps(said).encode() + b"\n")
                    lines.flush()
                except BrokenPipeError:
                    break
    _, status = os.waitpid(pid, 0)
    ended.killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not ended.killed and status != 0:
        raise Broken(f"a process ended with status {status} after {ended.points[-3:]}")
    return ended


def _in_child(work: Callable[[socket.socket], None], end: socket.socket) -> None:
    try:
        work(end)
    except BaseException:  # noqa: BLE001  nothing of the parent may run in a child
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)
    os._exit(0)


class Databases(ABC):
    """Where the children keep their store. Migrated once, by a child, for opening is not the parent's business."""

    url: str

    @abstractmethod
    def fresh(self) -> None:
        """An empty store at `url`."""

    def prepare(self) -> None:
        """Once, before the first cycle."""
        url = self.url
        fork(lambda _end: _migrate(url), lambda _line, _ended: None)


def _migrate(url: str) -> None:
    store = open_store(url, lambda: T0, inline=True)
    store._close()


class SqliteFiles(Databases):
    """A file, copied from a migrated one."""

    def __init__(self, folder: Path) -> None:
        self._path, self._empty = folder / "responder.db", folder / "empty.db"
        self.url = f"sqlite:///{self._path}"

    def prepare(self) -> None:
        """See Databases."""
        super().prepare()
        shutil.copy(self._path, self._empty)

    def fresh(self) -> None:
        """See Databases."""
        for path in self._path.parent.glob(self._path.name + "*"):
            path.unlink()
        shutil.copy(self._empty, self._path)


class PostgresTables(Databases):
    """One database, emptied."""

    def __init__(self, url: str) -> None:
        self.url = url

    def fresh(self) -> None:
        """The connection of a killed process may still hold locks; then this waits for its end."""
        tables = ("notifications", "episodes", "incidents", "events", "timers", "messages", "scopes")
        more = ("dead_letters", "versions", "commits")
        with psycopg.connect(self.url) as connection:
            for table in tables + more:
                connection.execute(f"DELETE FROM {table}".encode())


@dataclass
class Cycle:
    """One world with its store, over the lives of several processes."""

    databases: Databases
    world: World
    repeats: bool
    """Alertmanager also sends again what was acknowledged."""
    now: int = T0
    lives: int = 0

    meanwhile: Ended | None = None
    """The life of the other replica while one was stopped."""

    def run(self, kill_at: int = 0, stop_at: int = 0, fault: Fault | None = None) -> Ended:
        """The next process, up to its end; while it is stopped another one lives."""
        self.lives += 1
        life = child.Life(self.databases.url, f"process-{self.lives}", self.now, kill_at, stop_at, fault)
        ended = fork(lambda end: child.main(end, life), self._answer)
        self.now = max(self.now, ended.last) + RESTART
        return ended

    def _answer(self, line: dict[str, Any], ended: Ended) -> Any | None:
        (kind, said), *_ = line.items()
        if isinstance(said, dict) and "at" in said:
            ended.last = max(ended.last, said["at"])
        if kind == "alertmanager":
            ended.last = max(ended.last, said)
        handler = _ANSWERS[kind]
        return handler(self, said, ended)

    def accepted(self, said: dict[str, Any]) -> None:
        """A notification was answered."""
        self.world.accepted.append(Accepted(said["status"], tuple(said["fingerprints"])))

    def replace(self, ended: Ended) -> None:
        """A process is stopped: another one takes over."""
        self.now = max(self.now, ended.last)
        self.meanwhile = self.run()

    def repeated(self) -> dict[str, Any]:
        """What a restarted process is sent once more although it was acknowledged."""
        known = self.world.accepted[-1].status if self.world.accepted else None
        return {"status": known if self.repeats else None}


_ANSWERS: dict[str, Callable[[Cycle, Any, Ended], Any | None]] = {
    "point": lambda _c, said, ended: ended.points.append(said),
    "call": lambda c, said, _e: list(c.world.call(said)),
    "message": lambda c, said, _e: c.world.message(said),
    "alertmanager": lambda c, _s, _e: {"status": c.world.unacknowledged()},
    "repeated": lambda c, _s, _e: c.repeated(),
    "notification": lambda c, said, _e: {"body": c.world.notification(said).decode()},
    "accepted": lambda c, said, _e: c.accepted(said),
    "stopping": lambda c, _s, ended: c.replace(ended),
    "resumed": lambda c, _s, _e: c.now,
    "ledger": lambda c, _s, _e: asdict(c.world.ledger(TOTALS)),
    "report": lambda _c, said, ended: ended.report.update(said),
}
