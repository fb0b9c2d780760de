"""`python -m tests.crash.faulty sqlite|URL`: C5, the n-th operation of the database fails; prints its result as JSON.

For each kind of error, once and for a while, n = 1, 2, … until a life ends without the fault (SQLite's own method).
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import sys
from dataclasses import asdict

from tests.crash.campaign import databases_of
from tests.crash.faults import LASTS, Fault, kinds
from tests.crash.forks import Cycle, Databases
from tests.crash.scenarios import EVERY_EFFECT, TOO_WEAK
from tests.crash.tally import Tally
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


def main() -> int:
    """See the module. Exit 1 when something was violated."""
    parser = argparse.ArgumentParser(description="Fail every operation of the database in turn.")
    parser.add_argument("store", help="sqlite, or the URL of an empty PostgreSQL database")
    parser.add_argument("--stride", type=int, default=1, help="every so many operations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="the first scenario alone")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)  # what fails on purpose is told by the figures
    with databases_of(given.store) as databases:
        tally = run(databases, given.stride, given.seed, short=given.short)
    json.dump(asdict(tally), sys.stdout)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
