"""Runs the measurements that are named, or all, and prints one table."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from benchmarks.acknowledging import calm, crowded
from benchmarks.acting import slow_service, storm, wire
from benchmarks.report import Figure, machine, table, write_json
from benchmarks.standing import memory, timers
from benchmarks.starting import helping, loading
from benchmarks.surviving import killed, restart


class Measurement(Protocol):
    """Measures in a folder of its own, which is removed afterwards."""

    def __call__(self, folder: Path, *, quick: bool) -> Iterator[Figure]: ...


MEASUREMENTS: dict[str, Measurement] = {
    "kill": killed,
    "calm": calm,
    "crowded": crowded,
    "wire": wire,
    "storm": storm,
    "slow": slow_service,
    "restart": restart,
    "memory": memory,
    "help": helping,
    "load": loading,
    "timers": timers,
}


def main() -> int:
    """Exit status 1 when a measurement could not be made; a missed target is not an error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(MEASUREMENTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small numbers, under a minute: does it work at all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(MEASUREMENTS))
    if unknown:
        parser.error(f"there is no measurement {', '.join(unknown)}: there are {', '.join(MEASUREMENTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every process is ended on the way out
    figures, failed = _measured(given.names or list(MEASUREMENTS), quick=given.quick)
    ran_on = machine(len(os.sched_getaffinity(0)))
    print(f"\n{time.strftime('%Y-%m-%d')}, {ran_on}\n\n{table(figures)}")
    if given.json:
        write_json(given.json, ran_on, figures)
    return int(failed)


def _measured(names: list[str], *, quick: bool) -> tuple[list[Figure], bool]:
    figures, failed = [], False
    for name in names:
        began = time.monotonic()
        print(f"{name} …", end=" ", file=sys.stderr, flush=True)
        try:
            with tempfile.TemporaryDirectory(prefix="responder-bench-") as folder:
                figures += list(MEASUREMENTS[name](Path(folder), quick=quick))
        except Exception as error:  # noqa: BLE001  the others are measured all the same
            print(f"failed: {type(error).__name__}: {error}", file=sys.stderr)
            failed = True
            continue
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    return figures, failed


if __name__ == "__main__":
    sys.exit(main())
