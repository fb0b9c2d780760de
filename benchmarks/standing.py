"""What it holds while nothing happens: memory, and a hundred thousand timers."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.installation import UNROUTED, Installation, wait_for
from benchmarks.load import Stream
from benchmarks.processes import send
from benchmarks.report import Figure


def memory(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """Resident memory, fresh and with open incidents whose messages are out."""
    count = 500 if quick else 5_000
    installation = Installation(folder / "memory")
    with installation.running() as ours:
        time.sleep(3)
        yield Figure("memory, idle", ours.memory, "MB", most=110)
        send(Stream(ours.port, UNROUTED, "many", count // 20, alerts=20, clients=4))
        told = wait_for(lambda: not installation.untold(), "everything is told", patience=240)
        time.sleep(3)
        before = ours.cpu
        time.sleep(5)
        yield Figure(f"memory, {count:,} open incidents", ours.memory, "MB", most=200)
        yield Figure(f"idle CPU, {count:,} open incidents", (ours.cpu - before) / 5 * 100, "%")
        yield Figure(f"{count:,} incidents told on the console", told, "s")


def timers(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """Pending timers of targets (`remind` of changes that are no longer in force), all due at one moment.

    They are put into the table while nobody serves. When due, each is one operation: its scope is looked up, and the
    timer forgotten.
    """
    count, calm = (5_000, 3) if quick else (100_000, 10)
    installation = Installation(folder / "timers")
    with installation.running():
        pass
    due = (time.time_ns() // 1000) + (calm + 8) * 1_000_000
    _insert(installation, count, due)
    with installation.running() as ours:
        time.sleep(2)
        before = ours.cpu
        time.sleep(calm)
        yield Figure(f"{count:,} pending timers, idle CPU", (ours.cpu - before) / calm * 100, "%", most=2)
        wait_for(lambda: time.time_ns() // 1000 >= due, "they come due")
        seconds = wait_for(lambda: not installation.number("SELECT count(*) FROM timers"), "all are drained", 200, 0.2)
        yield Figure(f"{count:,} timers due at once, drained in", seconds, "s", most=60)


def _insert(installation: Installation, count: int, due: int) -> None:
    rows = ((f"scope:bench/{number}", "remind", 0, due, False) for number in range(count))
    with closing(sqlite3.connect(installation.database)) as connection:
        connection.executemany("INSERT INTO timers (subject, kind, round, due, work) VALUES (?, ?, ?, ?, ?)", rows)
        connection.commit()
