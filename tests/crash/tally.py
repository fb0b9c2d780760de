"""What the campaigns of outages count, and how one life is judged."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Protocol

from tests.crash.campaign import TOLD, databases_of
from tests.crash.forks import Databases, Ended


@dataclass
class Tally:
    """`operations`: how many database operations (or kill points) a life without a fault has."""

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

    def judge(self, place: str, ended: Ended, matters: Callable[[str], bool] = bool, over: bool = True) -> None:
        """A life that came to its end. `matters`: which violations count; `over`: the incident must be closed."""
        self.cycles += 1
        for said in ended.report["violations"]:
            if matters(said):
                self.wrong(place, said)
        if len(ended.report["incidents"]) != 1:
            self.wrong(place, f"I1: {ended.report['incidents']}")
            return
        (incident,) = ended.report["incidents"]
        if over and not incident["closed"]:
            self.wrong(place, f"not over: {incident}")
        result = str(incident["runs"][0][1]) if incident["runs"] else "none"
        self.ends[result] = self.ends.get(result, 0) + 1


class Played(Protocol):
    """A campaign on one store: every `stride`-th of its points; `short` leaves the longer scenario out."""

    def __call__(self, databases: Databases, stride: int, seed: int, *, short: bool) -> Tally:
        """What came of it."""
        ...


def main(about: str, points: str, run: Played) -> int:
    """A campaign as a command that prints its tally as JSON. Exit 1 when something was violated."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("store", help="sqlite, or the URL of an empty PostgreSQL database")
    parser.add_argument("--stride", type=int, default=1, help=f"every so many {points}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="the first scenario alone")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)  # what fails on purpose is told by the figures
    with databases_of(given.store) as databases:
        return printed(run(databases, given.stride, given.seed, short=given.short))


def printed(tally: Tally) -> int:
    """Prints it as JSON. Answers the exit status."""
    json.dump(asdict(tally), sys.stdout)
    return 1 if tally.failures else 0
