"""`python -m tests.crash.faulty sqlite|URL`: C5, the n-th operation of the database fails; prints its result as JSON.

For each kind of error, once and for a while, n = 1, 2, … until a life ends without the fault (SQLite's own method).
"""

from __future__ import annotations

import gc
import sys

from tests.crash.faults import LASTS, Fault, kinds
from tests.crash.forks import Cycle, Databases
from tests.crash.scenarios import EVERY_EFFECT, TOO_WEAK
from tests.crash.tally import Tally, main
from tests.crash.world import World


def run(databases: Databases, stride: int, seed: int, *, short: bool) -> Tally:
    """Every `stride`-th operation of each kind; the kinds begin at different ones.

    The second scenario has four times as many operations, each of which lasts longer; `short` leaves it out.
    """
    databases.prepare()
    gc.freeze()  # else every child copies the pages that its collector looks at
    tally = Tally()
    for scenario, step in ((EVERY_EFFECT, stride),) if short else ((EVERY_EFFECT, stride), (TOO_WEAK, 16 * stride)):
        for number, kind in enumerate(kinds(databases.url)):
            for lasts in (0, LASTS):
                at = 1 + (seed + 2 * number + bool(lasts)) % step
                while _cycle(databases, tally, scenario, Fault(kind, at, lasts)):
                    at += step
    return tally


def _cycle(databases: Databases, tally: Tally, scenario: str, fault: Fault) -> bool:
    """One world. True when the fault struck."""
    databases.fresh()
    ended = Cycle(databases, World(scenario), repeats=fault.at % 2 == 0).run(fault=fault)
    struck: bool = ended.report["failed"] > 0
    tally.failed += ended.report["failed"]
    if not struck:
        tally.operations[scenario] = ended.report["operations"]
    tally.judge(f"{scenario} {fault}", ended)
    return struck


if __name__ == "__main__":
    sys.exit(main("Fail every operation of the database in turn.", "operations", run))
