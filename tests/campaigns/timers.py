"""C12: a hundred thousand durable timers in a real file; the process is killed, comes back, and all are due at once.

They are reminders of targets that are no longer held: looked up and forgotten, one operation each, which is the least
that a timer costs. Beside them stand the levels of open incidents, which came due while nobody ran.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.installation import UNROUTED, Installation, wait_for
from benchmarks.load import Stream
from benchmarks.processes import send
from responder.timing import SECOND
from responder.wall_clock import wall_clock

STEP = 0.05
"""Seconds between two looks at what is left: how exact lateness is."""
OWN = "SELECT id FROM incidents WHERE target LIKE 'responder:%'"
"""Incidents about the responder itself."""
LADDER = """\
policies:
  nobody: {}
  levels:
    levels:
      - {name: L1, after: {after}s, page: console}
default: levels
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """How many timers; how many open incidents with a level; seconds between the restart and the moment all are due."""

    timers: int = 100_000
    incidents: int = 500
    calm: int = 30


def run(setting: Setting, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Figures, and what was lost or done twice."""
    installation = Installation(folder / "timers")
    after = setting.calm + 5 + setting.incidents // 20
    (installation.rules / "policies.yaml").write_text(LADDER.replace("{after}", str(after)))
    with installation.running() as before:
        if setting.incidents:
            send(Stream(before.port, UNROUTED, "many", setting.incidents // 20, alerts=20, clients=4))
    due = wall_clock() + (setting.calm + 10) * SECOND
    _insert(installation, setting.timers, due)
    with installation.running() as armed:
        armed.kill()
    began = time.monotonic()
    with installation.running() as again:
        figures: dict[str, Any] = {"timers": setting.timers, "incidents": setting.incidents}
        figures |= {"ready, s": round(time.monotonic() - began, 2)}
        wait_for(lambda: wall_clock() >= due - 2 * SECOND, "they come due")
        figures |= {"memory before, MB": round(again.memory, 1)}
        left = _drained(installation, due)
        figures |= {"memory after, MB": round(again.memory, 1), **_lateness(left, setting.timers)}
        wait_for(lambda: _told(installation) >= setting.incidents, "every level is told")
        figures |= {"incidents about itself": installation.number(f"SELECT count(*) FROM ({OWN})")}
    return figures, _wrong(installation, setting)


def _insert(installation: Installation, count: int, due: int) -> None:
    rows = ((f"scope:campaign/{number}", "remind", 0, due, False) for number in range(count))
    with closing(sqlite3.connect(installation.database)) as connection:
        connection.executemany("INSERT INTO timers (subject, kind, round, due, work) VALUES (?, ?, ?, ?, ?)", rows)
        connection.commit()


def _drained(installation: Installation, due: int) -> list[tuple[float, int]]:
    """(seconds after they came due, how many were left), until none is."""
    seen: list[tuple[float, int]] = []

    def over() -> bool:
        left = installation.number("SELECT count(*) FROM timers WHERE kind = 'remind'")
        seen.append(((wall_clock() - due) / SECOND, left))
        return left == 0

    wait_for(over, "all are drained", 300, STEP)
    return seen


def _lateness(seen: list[tuple[float, int]], count: int) -> dict[str, float]:
    """By when half, 99 of a hundred and all of them were done."""
    shares = {"lateness p50, s": 0.5, "lateness p99, s": 0.01, "drained, s": 0.0}
    return {name: round(next(at for at, left in seen if left <= count * share), 2) for name, share in shares.items()}


def _told(installation: Installation) -> int:
    """Levels of the incidents of alerts; what the responder had to say about itself is told, too, and counts apart."""
    return installation.number(f"SELECT count(*) FROM events WHERE kind = 'level_reached' AND incident NOT IN ({OWN})")


def _wrong(installation: Installation, setting: Setting) -> list[str]:
    """Once each, and nothing is left."""
    twice = (
        "SELECT count(*) FROM (SELECT 1 FROM events WHERE kind = 'level_reached' GROUP BY incident HAVING count(*) > 1)"
    )
    left = installation.number("SELECT count(*) FROM timers WHERE kind = 'remind'")
    said = {
        f"{left} timers are left": left,
        f"{_told(installation)} levels of {setting.incidents}": _told(installation) != setting.incidents,
        f"{installation.number(twice)} levels were told twice": installation.number(twice),
    }
    return [text for text, wrong in said.items() if wrong]
