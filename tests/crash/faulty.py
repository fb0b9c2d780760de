"""`python -m tests.crash.faulty sqlite|URL`: C5, the n-th operation of the database fails; prints its result as JSON.

For each kind of error, once and for a while, n = 1, 2, … until a life ends without the fault (SQLite's own method).
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import sys
from dataclasses import asdict, dataclass, field

from tests.crash.campaign import TOLD, databases_of
from tests.crash.faults import LASTS, Fault, kinds
from tests.crash.forks import Cycle, Databases, Ended
from tests.crash.scenarios import EVERY_EFFECT, TOO_WEAK
from tests.crash.world import World


@dataclass
class Tally:
    """What a campaign counted. `operations`: how many a life without a fault has."""

    cycles: int = 0
    failed: int = 0
    lost: int = 0
    doubled: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def wrong(self, place: str, said: str) -> None:
        """One more failure."""
        self.lost += said.startswith("I1")
        self.doubled += said.startswith("I2")
        if len(self.failures) < TOLD:
            self.failures.append(f"{place}: {said}")


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
    tally.cycles += 1
    struck = ended.report["failed"] > 0
    tally.failed += ended.report["failed"]
    if not struck:
        tally.operations[scenario] = ended.report["operations"]
    _judge(tally, f"{scenario} {fault}", ended)
    return struck


def _judge(tally: Tally, place: str, ended: Ended) -> None:
    for said in ended.report["violations"]:
        tally.wrong(place, said)
    if len(ended.report["incidents"]) != 1:
        tally.wrong(place, f"I1: {ended.report['incidents']}")
        return
    (incident,) = ended.report["incidents"]
    if not incident["closed"]:
        tally.wrong(place, f"not over: {incident}")
    result = str(incident["runs"][0][1])
    tally.ends[result] = tally.ends.get(result, 0) + 1


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
