"""`python -m tests.crash.clocks sqlite|URL`: C13, a process dies and the next one finds another time; JSON.

Within a life the process's clock cannot jump (`wall_clock` reads the wall once), so a jump shows at a restart. Forwards
everything must be as if it had only been down for so long. Backwards what is due waits as long as the clock is behind,
and nothing is judged but that no change is lost, doubled or beyond its limits.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

from responder.timing import DAY, HOUR, MINUTE, SECOND
from tests.crash.forks import Cycle, Databases
from tests.crash.scenarios import EVERY_EFFECT, TOO_WEAK
from tests.crash.tally import Tally, main
from tests.crash.world import World

JUMPS: Final = (SECOND, -SECOND, 5 * MINUTE, -5 * MINUTE, HOUR, -HOUR, DAY, -DAY)
"""An hour is also what a daylight saving time that was taken for UTC makes."""
IN_TIME: Final = "sent outside every attempt's time"


def run(databases: Databases, stride: int, seed: int, *, short: bool) -> Tally:
    """Every `stride`-th kill point of both scenarios and each jump. Where replicas share a store, forwards alone.

    A shared store has the database's clock: a lease from its future would hold until then.
    """
    databases.prepare()
    gc.freeze()
    tally = Tally()
    back = databases.url.startswith("sqlite")
    for scenario, step in ((EVERY_EFFECT, stride),) if short else ((EVERY_EFFECT, stride), (TOO_WEAK, 4 * stride)):
        for number, jump in enumerate(j for j in JUMPS if j > 0 or back):
            k = 1 + (seed + 3 * number) % step
            while _cycle(databases, tally, scenario, k, jump):
                k += step
            tally.operations[scenario] = k
    return tally


def _cycle(databases: Databases, tally: Tally, scenario: str, k: int, jump: int) -> bool:
    """One world. True when the process was killed."""
    databases.fresh()
    cycle = Cycle(databases, World(scenario), repeats=k % 2 == 0)
    first = cycle.run(kill_at=k)
    if not first.killed:
        return False
    cycle.now += jump
    ended = cycle.run()
    tally.failed += 1
    place = f"{scenario} killed at {k} {first.points[-1]!r}, then {jump // SECOND} s"
    if jump > -MINUTE:
        tally.judge(place, ended)
    else:
        tally.judge(place, ended, lambda said: said[:2] in ("I1", "I2", "I4", "I8") and IN_TIME not in said, over=False)
    return True


if __name__ == "__main__":
    sys.exit(main("Kill a responder and start it at another time.", "points", run))
