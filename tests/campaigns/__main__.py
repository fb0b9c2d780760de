"""`python -m tests.campaigns [--small] [--seed N] [--progress FILE] [NAME …]`: plays them, prints a table.

Exit status 1 when something was wrong; the first failures are told with how to play them again alone. Batches of C4,
C9, C11 and C21 and settings of C10 run in as many processes as there are cores.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from itertools import repeat
from pathlib import Path
from typing import Any

from responder.timing import HOUR, MINUTE, SECOND
from tests.campaigns import escalation, network, outage, simulation, timers
from tests.campaigns.network_scenes import SUBJECTS
from tests.campaigns.report import Result, as_json, table
from tests.crash.running import Campaign as Crash
from tests.provision import CHECKOUT
from tests.servers import Postgres

CORES = len(os.sched_getaffinity(0))
TOLD = 20
"""Failures of a campaign that are described."""


def outages(seed: int, *, small: bool) -> list[outage.Setting]:
    """C10: refused and hanging calls, each with and without a storm. The large ones are for pagers alone."""
    few: dict[str, Any] = {"incidents": 6, "lasts": 35 * MINUTE, "opening": 2 * MINUTE}
    size = few if small else {"incidents": 5_000}
    limit = 3 if small else 10
    return [
        outage.Setting(**size, storm=storm, hangs=hangs, seed=seed, chat=small)
        for hangs in (0, 10 * SECOND)
        for storm in (0, limit)
    ]


def c9(seed: int, seeds: int | None, *, small: bool) -> Iterator[Result]:
    """`seeds`: another number of cases than 5,000. Each process has servers of its own."""
    count = network.ROUNDS * len(SUBJECTS) if small else seeds or 5_000
    began, whole = time.monotonic(), network.Tally()
    size = min(network.BATCH, -(-count // CORES))
    last = seed + count
    with ProcessPoolExecutor(CORES) as pool:
        for tally in pool.map(network.batch, (range(n, min(n + size, last)) for n in range(seed, last, size))):
            whole.merge(tally)
    yield Result("C9", f"{count:,} cases", seed, time.monotonic() - began, whole.figures(), whole.failures)


def c10(seed: int, incidents: int | None, *, small: bool) -> Iterator[Result]:
    """`incidents`: another number of them than 5,000, in two hours instead of six."""
    settings = outages(seed, small=small)
    if incidents is not None:
        fewer: dict[str, Any] = {"incidents": incidents, "lasts": 2 * HOUR, "opening": HOUR}
        settings = [outage.Setting(**fewer, storm=s.storm, hangs=s.hangs, seed=seed) for s in settings]
    elif not small:
        settings += [replace(s, incidents=500, lasts=2 * HOUR, opening=HOUR, chat=True) for s in settings]
    with ProcessPoolExecutor(CORES) as pool:
        yield from pool.map(play_outage, settings)


def play_outage(setting: outage.Setting) -> Result:
    """One setting of C10."""
    began = time.monotonic()
    judged = outage.Outage(setting).run()
    return Result("C10", str(setting), setting.seed, time.monotonic() - began, judged.figures, judged.failures)


def c11(seed: int, incidents: int | None, *, small: bool) -> Iterator[Result]:
    """`incidents`: another number of them than 10,000."""
    batches = 1 if small else max(1, (incidents or 10_000) // escalation.BATCH)
    size = 20 if small else escalation.BATCH
    began = time.monotonic()
    whole = escalation.Tally()
    with ProcessPoolExecutor(CORES) as pool:
        for tally in pool.map(escalation.play, range(seed, seed + batches), repeat(size)):
            whole.add(tally)
    yield Result(
        "C11", f"{batches} x {size} incidents", seed, time.monotonic() - began, whole.figures(), whole.failures
    )


def c12(seed: int, incidents: int | None, *, small: bool) -> Iterator[Result]:
    """`incidents`: another number of open ones than 500."""
    setting = timers.Setting(5_000, 40, 0) if small else timers.Setting(incidents=incidents or 500)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="responder-campaign-") as folder:
        figures, failures = timers.run(setting, Path(folder))
    yield Result("C12", f"{setting.timers:,} timers", seed, time.monotonic() - began, figures, failures)


def simulated(
    name: str, seed: int, seeds: int | None, *, small: bool, progress: Path | None = None
) -> Iterator[Result]:
    """C4 or C21. `seeds`: another number of them than 1,000,000. What `progress` has already is not played again."""
    count, began, whole = seeds or (60 if small else 1_000_000), time.monotonic(), simulation.Tally()
    last = seed + count
    batches = [range(first, min(first + simulation.BATCH, last)) for first in range(seed, last, simulation.BATCH)]
    known = resumed(progress, name)
    for done in batches:
        if (done.start, done.stop) in known:
            whole.add(known[done.start, done.stop])
    waiting = [one for one in batches if (one.start, one.stop) not in known]
    with ProcessPoolExecutor(CORES) as pool:
        for played, tally in zip(waiting, pool.map(simulation.batch, repeat(name), waiting), strict=True):
            whole.add(tally)
            remember(progress, name, played, tally)
    figures = simulation.figures(whole)
    yield Result(name.upper(), f"{count:,} seeds", seed, time.monotonic() - began, figures, whole.failures)


@cache
def sources() -> str:
    """What the worlds of today depend on: a result of other sources is not taken for one of these."""
    files = sorted(path for folder in ("responder", "tests") for path in (CHECKOUT / folder).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def remember(progress: Path | None, name: str, played: range, tally: simulation.Tally) -> None:
    """Write down, a line a batch, what a run that is broken off need not play again."""
    if progress is None:
        return
    line = {"sources": sources(), "campaign": name, "first": played.start, "last": played.stop}
    with progress.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, "counts": tally.counts, "failures": tally.failures}) + "\n")


def resumed(progress: Path | None, name: str) -> dict[tuple[int, int], simulation.Tally]:
    """The batches that an earlier run of the same sources has played. A line that was cut by a crash counts as none."""
    found: dict[tuple[int, int], simulation.Tally] = {}
    if progress is None or not progress.exists():
        return found
    today = sources()
    for text in progress.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if (line["sources"], line["campaign"]) == (today, name):
            found[line["first"], line["last"]] = simulation.Tally(Counter(line["counts"]), line["failures"])
    return found


def c15(seed: int, examples: int | None, *, small: bool) -> Iterator[Result]:
    """The state machine. `examples`: another number of them than 2,000."""
    count, began = examples or (30 if small else 2_000), time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--hypothesis-seed={seed}", C15]
    given = {**os.environ, "RESPONDER_EXAMPLES": str(count)}
    ran = subprocess.run(command, cwd=CHECKOUT, env=given, capture_output=True, text=True, check=False)
    said = ran.stdout.strip().splitlines() or [ran.stderr.strip()]
    failures = [] if ran.returncode == 0 else ["\n".join(said)]
    yield Result("C15", f"{count:,} examples", seed, time.monotonic() - began, {"pytest": said[-1]}, failures)


C15 = "tests/acceptance/test_state_machine.py"
KILLS = 20
"""Seeds of C1 when it is large: some 15,000 kills on both stores together."""

CRASHES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "c1": ("campaign", ("--pairs", "4", "--stride", "16"), ("--pairs", "0", "--stride", "1")),
    "c2": ("campaign", ("--pairs", "4", "--only-pairs"), ("--pairs", "1250", "--only-pairs")),
    "c5": ("faulty", ("--stride", "120", "--short"), ("--stride", "1")),
    "c6": ("restarts", ("--count", "8"), ("--count", "200")),
    "c13": ("clocks", ("--stride", "40", "--short"), ("--stride", "1")),
}
"""Name -> module of tests.crash, its options when small, and when large."""


def crashed(name: str, seed: int, seeds: int | None, *, small: bool) -> Iterator[Result]:
    """C1, C2, C5, C6 and C13, on each store. `seeds`: so many of them, one after the other."""
    module, few, many = CRASHES[name]
    many_seeds = KILLS if name == "c1" else 1
    for number in range(seed, seed + (1 if small else seeds or many_seeds)):
        with Postgres() as server, tempfile.TemporaryDirectory(prefix="responder-campaign-") as folder:
            stores = {"PostgreSQL": ""} if name == "c6" else {"SQLite": "sqlite", "PostgreSQL": server.database()}
            for store, url in stores.items():
                began = time.monotonic()
                options = (*(few if small else many), "--seed", str(number))
                campaign = Crash(url, Path(folder), *options, module=f"tests.crash.{module}")
                try:
                    tally = campaign.tally()
                finally:
                    campaign.end()
                failures = tally.pop("failures")
                yield Result(name.upper(), store, number, time.monotonic() - began, tally, failures)


CAMPAIGNS: dict[str, Callable[..., Iterator[Result]]] = {
    **{name: partial(crashed, name) for name in CRASHES},
    "c4": partial(simulated, "c4"),
    "c9": c9,
    "c10": c10,
    "c11": c11,
    "c12": c12,
    "c15": c15,
    "c21": partial(simulated, "c21"),
}


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns", description="Reliability campaigns.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(CAMPAIGNS)} (default: all)")
    parser.add_argument("--small", action="store_true", help="as continuous integration runs them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--incidents", type=int, help="another number of incidents")
    parser.add_argument(
        "--seeds",
        type=int,
        help="another number of worlds of C4 and C21, cases of C9, examples of C15; seeds of C1, C2, C5, C6, C13",
    )
    parser.add_argument(
        "--only", metavar="SEED[:NUMBER]", help="the world or case of a seed, or one incident of C11, alone"
    )
    parser.add_argument(
        "--progress", type=Path, metavar="FILE", help="keep the batches of C4 and C21 there, and go on from it"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(CAMPAIGNS))
    if unknown:
        parser.error(f"there is no campaign {', '.join(unknown)}: there are {', '.join(CAMPAIGNS)}")
    logging.disable(logging.CRITICAL)
    if given.only:
        return _alone(given.names[0] if given.names else "c11", given.only)
    results: list[Result] = []
    for name in given.names or list(CAMPAIGNS):
        size = given.seeds if name in (*simulation.NAMES, *CRASHES, "c9", "c15") else given.incidents
        more = {"progress": given.progress} if name in simulation.NAMES else {}
        results += CAMPAIGNS[name](given.seed, size, small=given.small, **more)
    return _told(results, given.json)


def _alone(name: str, which: str) -> int:
    seed, _, number = which.partition(":")
    if name == "c9":
        case = asyncio.run(network.alone(int(seed)))
        sys.stdout.write("\n".join([f"{case.case}: {case.outcome}", *case.story, *case.wrong]) + "\n")
        return bool(case.wrong)
    if name in simulation.NAMES:
        played = simulation.play(name, int(seed))
        sys.stdout.write(f"{played.story}\n{played.digest}\n")
        return bool(played.violations)
    tally = escalation.Batch(int(seed), [int(number)]).run()
    sys.stdout.write("\n".join(tally.failures or ["as it must be"]) + "\n")
    return bool(tally.failures)


def _told(results: list[Result], path: Path | None) -> int:
    sys.stdout.write(table(results) + "\n")
    for one in results:
        for said in one.failures[:TOLD]:
            sys.stderr.write(f"{one.campaign}, {one.setting}: {said}\n")
    if path is not None:
        path.write_text(as_json(results, CORES) + "\n")
    return int(any(one.failures for one in results))


if __name__ == "__main__":
    sys.exit(main())
