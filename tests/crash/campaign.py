"""`python -m tests.crash.campaign sqlite|URL`: kill at every point, recover, judge; prints its result as JSON.

A process of its own, because only one without threads may fork, and pytest's plugins have some. For each scenario
k = 1, 2, … until a cycle ends without a kill: that is every commit and every outside call, before and after. Then
pairs: the recovery is killed too. What must be unknown is told by the kill points alone: an unsafe attempt whose
intent was committed and whose outcome was not.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from responder.recorded import Result
from tests.crash.forks import Cycle, Databases, Ended, PostgresTables, SqliteFiles
from tests.crash.scenarios import EVERY_EFFECT, TOO_WEAK, UNSAFE_STEP
from tests.crash.world import World

MARKS: Final = ("INTENDED-UNSAFE", "ENDED-UNSAFE")
CHANGES: Final = ("arrived POST risk-api", "arrived POST broker", "arrived PUT risk-api")
"""Points in the middle of an attempt that changes something."""
TOLD: Final = 20
"""Failures of one campaign that are described."""


@dataclass
class Tally:
    """What a campaign counted."""

    cycles: int = 0
    kills: int = 0
    stops: int = 0
    rejected: int = 0
    lost: int = 0
    doubled: int = 0
    unknown: int = 0
    unknown_expected: int = 0
    points: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def failed(self, place: str, said: str) -> None:
        """One more failure; lost and doubled are counted by what the invariants are about."""
        self.lost += said.startswith("I1: alert")
        self.doubled += said.startswith("I2")
        if len(self.failures) < TOLD:
            self.failures.append(f"{place}: {said}")


@dataclass(frozen=True)
class Plan:
    """Where the processes of one cycle die, in order; the last one is not killed."""

    scenario: str
    kills: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.scenario} {list(self.kills)}"


class Campaign:
    """See the module. With an odd `seed` Alertmanager repeats at the points where it does not with an even one."""

    def __init__(self, databases: Databases, seed: int = 0) -> None:
        self._databases = databases
        self._seed = seed
        self.tally = Tally()

    def every(self, scenario: str, first: int, stride: int) -> None:
        """Kill at every `stride`-th point of one life."""
        k = first
        while self.cycle(Plan(scenario, (k,))):
            k += stride

    def counted(self, scenario: str) -> None:
        """How many points there are."""
        self.cycle(Plan(scenario, (10**9,)))

    def pairs(self, scenario: str, chosen: random.Random, count: int) -> None:
        """Kill, and kill the recovery, at points drawn from all."""
        highest = self.tally.points[scenario]
        for _ in range(count):
            self.cycle(Plan(scenario, (chosen.randint(1, highest), chosen.randint(1, highest))))

    def stops(self, scenario: str, first: int, stride: int) -> None:
        """Stop a process at every `stride`-th point where it holds nothing of the database's, and let another go on."""
        self._databases.fresh()
        points = Cycle(self._databases, World(scenario), repeats=False).run().points
        where = [k for k, point in enumerate(points, 1) if point.startswith(("after commit", "arrived"))]
        for k in where[first::stride]:
            self._stop(scenario, k)

    def _stop(self, scenario: str, k: int) -> None:
        self._databases.fresh()
        cycle = Cycle(self._databases, World(scenario), repeats=k % 2 == 0)
        zombie = cycle.run(stop_at=k)
        self.tally.cycles += 1
        self.tally.stops += 1
        for ended in (cycle.meanwhile, zombie):
            for said in ended.report["violations"] if ended is not None else ["I5: nobody took over"]:
                self.tally.failed(f"{scenario} stopped at {k} {zombie.points[k - 1]!r}", said)
        point = zombie.points[k - 1]
        in_attempt = point.startswith(CHANGES) or "attempt_intended" in point
        self.tally.rejected += zombie.report["rejected"]
        if in_attempt and not zombie.report["rejected"]:
            self.tally.failed(f"{scenario} stopped at {k} {point!r}", "its outcome was not refused when it woke")
        if len(zombie.report["incidents"]) != 1:
            self.tally.failed(f"{scenario} stopped at {k}", f"I1: {zombie.report['incidents']}")

    def cycle(self, plan: Plan) -> bool:
        """One world from the first notification to the end. True when the first kill happened."""
        self._databases.fresh()
        world = Cycle(self._databases, World(plan.scenario), repeats=(sum(plan.kills) + self._seed) % 2 == 0)
        lives = [world.run(k) for k in plan.kills]
        if not lives[-1].killed:
            ends = lives[-1]
        else:
            ends = world.run()
            lives.append(ends)
        self.tally.cycles += 1
        self.tally.kills += sum(life.killed for life in lives)
        if not lives[0].killed:
            self.tally.points[plan.scenario] = len(lives[0].points)
        self._judge(plan, lives, ends)
        return lives[0].killed

    def _judge(self, plan: Plan, lives: list[Ended], ends: Ended) -> None:
        died = [life.points[-1] for life in lives if life.killed]
        place = f"{plan} killed at {died}"
        for said in ends.report["violations"]:
            self.tally.failed(place, said)
        wanted = must_be_unknown(lives)
        (incident,) = ends.report["incidents"] or [None]
        if incident is None:
            self.tally.failed(place, "I1: alert is in no incident")
            return
        unknown = [a for a in incident["unsettled"] if f".{UNSAFE_STEP}." in a]
        self.tally.unknown_expected += wanted
        self.tally.unknown += bool(unknown)
        if bool(unknown) != wanted or incident["unsettled"] != unknown:
            self.tally.failed(place, f"unknown: {incident['unsettled']}, expected {wanted}")
        said = expected(plan.scenario, wanted, incident, ends.report["locks"])
        if said is not None:
            self.tally.failed(place, said)


def must_be_unknown(lives: list[Ended]) -> bool:
    """An unsafe attempt was intended in a life that ended before its outcome was committed."""
    for life in lives:
        marks = [mark for p in life.points if p.startswith("after commit ") for mark in p.split() if mark in MARKS]
        if life.killed and marks.count(MARKS[0]) > marks.count(MARKS[1]):
            return True
    return False


def expected(scenario: str, unknown: bool, incident: dict[str, Any], locks: dict[str, str]) -> str | None:
    """What is wrong with how the incident ended, or None."""
    results = [run[1] for run in incident["runs"]]
    wanted = {
        (EVERY_EFFECT, False): [Result.FIXED],
        (EVERY_EFFECT, True): [Result.UNKNOWN, Result.CONTAINED],
        (TOO_WEAK, False): [Result.INEFFECTIVE, Result.CONTAINED],
    }.get((scenario, unknown))
    if results != wanted or not incident["closed"]:
        return f"ended as {incident['runs']}, closed: {incident['closed']}; expected {wanted}"
    if bool(locks) != unknown:
        return f"locks {locks}, unknown: {unknown}"
    return None


def run_stops(databases: Databases, stride: int, seed: int) -> Tally:
    """Stop and wake processes instead: for a store that replicas share."""
    databases.prepare()
    gc.freeze()
    campaign = Campaign(databases)
    campaign.stops(EVERY_EFFECT, seed % stride, stride)
    campaign.stops(TOO_WEAK, seed % stride, 3 * stride)
    return campaign.tally


def run(databases: Databases, pairs: int, stride: int, seed: int, *, singles: bool = True) -> Tally:
    """The whole campaign: every point of the first scenario, every `stride`-th of the second, `pairs` of each.

    Without `singles` the pairs alone (C2).
    """
    databases.prepare()
    gc.freeze()  # else every child copies the pages that its collector looks at
    campaign, chosen = Campaign(databases, seed), random.Random(seed)
    for scenario, step in ((EVERY_EFFECT, 1), (TOO_WEAK, stride)):
        if singles:
            campaign.every(scenario, 1 + seed % step, step)
        else:
            campaign.counted(scenario)
        campaign.pairs(scenario, chosen, pairs)
    return campaign.tally


@contextmanager
def databases_of(store: str) -> Iterator[Databases]:
    """`sqlite` is a file in memory where that is to be had: what a killed process has written stays, and no test here
    pulls the plug."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="responder-crash-", dir=memory) as folder:
        yield SqliteFiles(Path(folder)) if store == "sqlite" else PostgresTables(store)


def main() -> int:
    """See the module. Exit 1 when something was violated."""
    parser = argparse.ArgumentParser(description="Kill a responder at every commit and every outside call.")
    parser.add_argument("store", help="sqlite, or the URL of an empty PostgreSQL database")
    parser.add_argument("--pairs", type=int, default=20, help="double kills a scenario")
    parser.add_argument("--stride", type=int, default=4, help="every so many points of the second scenario")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-pairs", action="store_true", help="no single kills")
    parser.add_argument("--stop", action="store_true", help="stop and wake processes instead of killing them")
    given = parser.parse_args()
    with databases_of(given.store) as databases:
        if given.stop:
            tally = run_stops(databases, given.stride, given.seed)
        else:
            more = {"singles": not given.only_pairs}
            tally = run(databases, given.pairs, given.stride, given.seed, **more)
    json.dump(asdict(tally), sys.stdout)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
