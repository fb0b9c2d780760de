"""`python -m tests.crash.restarts`: C6, PostgreSQL ends as `pg_ctl stop -m immediate` does and comes back; JSON.

A server of its own. It ends while the process stands still at one of its points, in the middle of work or of the
recovery after a kill, and comes back at once or after Alertmanager has asked so many times (10 s of virtual time each).
"""

from __future__ import annotations

import argparse
import gc
import logging
import random
import sys
from dataclasses import dataclass
from typing import Any, Final

from tests.crash.forks import Cycle, Ended, PostgresTables
from tests.crash.scenarios import EVERY_EFFECT, TOO_WEAK
from tests.crash.tally import Tally, printed
from tests.crash.world import World
from tests.servers import Postgres

LASTS: Final = (0, 3, 12)
"""How often Alertmanager asks in vain: 0, half a minute, two minutes."""


@dataclass
class Outage(Cycle):
    """A world whose database goes away while the process is stopped."""

    server: Postgres | None = None
    lasts: int = 0
    _left: int = 0

    def replace(self, ended: Ended) -> None:
        """The process is stopped: not another process, but no database."""
        assert self.server is not None
        self.now = max(self.now, ended.last)
        self.server.kill()
        self._left = self.lasts
        if not self.lasts:
            self.server.start()

    def _answer(self, line: dict[str, Any], ended: Ended) -> Any | None:
        if self._left and "alertmanager" in line:
            self._left -= 1
            if not self._left and self.server is not None:
                self.server.start()
        return super()._answer(line, ended)

    def back(self) -> None:
        """Whatever happened, the next world has a database."""
        if self._left and self.server is not None:
            self._left = 0
            self.server.start()


def run(server: Postgres, count: int, seed: int) -> Tally:
    """`count` worlds: half of them in the work, half in the recovery after a kill."""
    databases = PostgresTables(server.database())
    databases.prepare()
    gc.freeze()
    tally, chosen = Tally(), random.Random(seed)
    for scenario in (EVERY_EFFECT, TOO_WEAK)[: 1 if count < 20 else 2]:
        databases.fresh()
        tally.operations[scenario] = len(Cycle(databases, World(scenario), repeats=False).run().points)
    for number in range(count):
        scenario = TOO_WEAK if number % 4 == 3 and TOO_WEAK in tally.operations else EVERY_EFFECT
        most = tally.operations[scenario]
        lasts = LASTS[number % len(LASTS)]
        databases.fresh()
        cycle = Outage(databases, World(scenario), repeats=number % 2 == 0, server=server, lasts=lasts)
        killed, at = (chosen.randint(2, most), chosen.randint(1, 12)) if number % 2 else (0, chosen.randint(1, most))
        if killed:
            cycle.run(kill_at=killed)
        ended = cycle.run(stop_at=at)
        cycle.back()
        tally.failed += cycle.lives > 1 or len(ended.points) >= at
        tally.judge(f"{scenario} killed at {killed}, no database from {at} on for {lasts}", ended)
    return tally


def main() -> int:
    """See the module. Exit 1 when something was violated."""
    parser = argparse.ArgumentParser(description="PostgreSQL is stopped at once and comes back.")
    parser.add_argument("--count", type=int, default=200, help="worlds")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with Postgres() as server:
        return printed(run(server, given.count, given.seed))


if __name__ == "__main__":
    sys.exit(main())
