"""`python -m tests.mutation [--changed [BASE]] [MODULE …]`: which small changes of the guards no test notices.

Exit status 1 when fewer than 90 of 100 mutants of a module are killed, when none was tried, when a test fails as it is,
or when a mutant that `survivors.toml` explains is there no more or is killed by now.

`--changed` (`make mutants`, and with it `make test`) tries only the functions that differ from BASE, what is not
committed yet included. BASE is what is named; else `$RESPONDER_BASE`; else where this branch left `origin/main` or
`main`, when that is another commit than this one; else, as in a fresh clone of main, the commit before (of a merge its
first parent). Where git knows none of them (depth 1, the first commit, no git), that is told and nothing is tried.

Its exit status is 1 for one thing alone: so many of them have survived in one of the modules that there are too many
whatever became of the others. A slow machine tries fewer and so can only miss it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from responder import exchanges
from tests.mutation.mutants import Mutant
from tests.mutation.running import Outcome, Plugin

CHECKOUT: Final = Path(__file__).parents[2]
EXPLAINED: Final = Path(__file__).with_name("survivors.toml")
ENOUGH: Final = 0.9
"""The share of mutants that must be killed, those that are explained left aside."""

UNIT: Final = "tests/unit/test_{}.py"
MODULES: Final[dict[str, tuple[str, ...]]] = {
    "guards": ("guards", "guard_edges", "superseding", "approvals", "alerts_gate", "acting", "fuses", "manual_runs"),
    "approvals": ("approvals",),
    "fuses": ("fuses", "storms", "scope_edges", "guards"),
    "scoping": ("scoping", "scope_edges", "fuses", "superseding", "operations", "manual_runs"),
    "scopes": ("scope_edges", "storms", "scoping", "superseding", "guards", "fuses"),
    "automation": ("scope_edges",),
    "cases": ("guards", "guard_edges", "scope_edges", "fuses", "acting"),
    "circuit_breakers": ("circuit_breakers",),
    "calendars": ("calendars", "calendar_edges", "cron"),
    "decide": (
        "decide", "decide_edges", "decide_undoing", "override_decisions", "escalation", "operations", "manual_runs",
    ),
    "commands": ("commands", "command_edges", "words_in_time"),
    "acting": (
        "acting", "acting_answers", "acting_edges", "undo_decisions", "approvals", "operations", "manual_runs",
    ),
    "freshness": ("freshness", "acting_edges", "acting", "acting_answers"),
    "undoing": ("undo_decisions", "decide_undoing", "acting_edges", "operations", "commands"),
    "verification": ("verification", "verification_edges", "undo_reports", "words_in_time", "operations", "decide"),
    "operations": (
        "operations", "operations_edges", "undo_reports", "verification", "acting", "decide", "timers",
    ),
    "expectations": ("expectations", "operations_edges", "operations", "acting", "acting_answers", "acting_edges"),
    "view": ("views",),
    "journal": (
        "journal", "journal_edges", "people_folds", "acting", "acting_answers", "acting_edges", "approvals", "decide",
        "decide_edges", "verification", "verification_edges", "manual_runs", "operations_edges",
    ),
    "people_folds": ("people_folds", "journal", "escalation", "decide", "decide_edges", "override_decisions"),
    "escalation": ("escalation", "escalation_edges", "decide", "decide_edges", "choices", "timers"),
}  # fmt: skip
"""Module of `responder` -> the unit tests that judge it: quick ones, for they run a thousand times."""
UNTRIED: Final = (
    "choices", "draft", "ingest", "outbox", "services", "silences", "storms", "telling",
)  # fmt: skip
"""Modules in the same layers (from `commands` down to `cases`) of which none is tried yet; a new one must be named."""
SESSIONS: Final = (
    ("XBOM", 1996), ("XBOM", 1997), ("XBOM", 2025), ("XBOM", 2026), ("XNYS", 2026), ("XTKS", 2026), ("XHKG", 2026),
    ("us_futures", 2026), ("24/7", 2026),
)  # fmt: skip
"""Exchanges and years of which the quick tests of calendars ask the sessions."""
STORIES: Final = (
    "test_gates", "test_people", "test_hard_cases", "test_escalation", "test_changes", "test_outages",
    "test_by_hand_stories",
)  # fmt: skip
"""Of tests/acceptance, those that judge every module, where there is time for them."""


@dataclass(frozen=True, slots=True)
class Counted:
    """One module. `explained` mutants are neither in `killed` nor in `survived`; `untried` are in none of the three."""

    module: str
    killed: int
    survived: tuple[Outcome, ...]
    explained: int
    untried: int = 0

    @property
    def share(self) -> float | None:
        """Of those that could be killed; None when none was tried."""
        whole = self.killed + len(self.survived)
        return self.killed / whole if whole else None

    @property
    def says(self) -> str:
        """The share, for people."""
        if self.share is not None:
            return f"{self.share:.1%}"
        return "not tried" if self.untried or not self.explained else "explained"

    @property
    def enough(self) -> bool:
        """What was tried is killed, and something was tried where there is something to try."""
        return self.says == "explained" if self.share is None else self.share >= ENOUGH

    @property
    def too_many(self) -> bool:
        """So many have survived that it is not enough even if all that were not tried are killed."""
        whole = self.killed + len(self.survived) + self.untried
        return whole - len(self.survived) < ENOUGH * whole


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Mutation tests of the guards.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of: {', '.join(MODULES)} (default: all)")
    parser.add_argument("--changed", nargs="?", const="", metavar="BASE", help="only functions that differ from BASE")
    parser.add_argument("--seconds", type=float, help="end after so long, and say how many were not tried")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--unit", action="store_true", help="unit tests alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every mutant and what became of it there")
    given = parser.parse_args()
    unknown = sorted(set(given.modules) - set(MODULES))
    if unknown:
        parser.error(f"{', '.join(unknown)}: not among the modules that are mutated: {', '.join(MODULES)}")
    modules: list[str] = given.modules or list(MODULES)
    chosen: Callable[[Mutant], bool] = lambda _: True  # noqa: E731
    if given.changed is not None:
        base = base_of(given.changed)
        if base is None:
            sys.stdout.write(NO_BASE)
            return 0
        lines = changed_lines(base, modules)
        modules = [name for name in modules if lines.get(name)]
        if not modules:
            sys.stdout.write("mutation: nothing that is mutated has changed\n")
            return 0
        chosen = _within(lines)
    return _run(modules, chosen, given)


def _run(modules: list[str], chosen: Callable[[Mutant], bool], given: argparse.Namespace) -> int:
    began = time.monotonic()
    until = None if given.seconds is None else began + given.seconds
    plugin = Plugin([f"responder.{name}" for name in modules], chosen, given.workers, until, lambda: _prepare(modules))
    if given.seconds is not None:
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, given.seconds)  # until the tests are collected
    os.environ["CI"] = "1"  # Hypothesis must find the same each time
    ended = pytest.main([*_options(), *_files(modules, unit=given.unit or given.changed is not None)], [plugin])
    part = ended == pytest.ExitCode.INTERRUPTED  # by hand, or no time was left: told as far as it came
    if part and not plugin.outcomes:
        sys.stdout.write(f"mutation: nothing was tried: the tests were not collected within {given.seconds} s\n")
        return int(given.changed is None)
    if not part and ended != pytest.ExitCode.OK:
        sys.stderr.write("mutation: the tests could not be collected; run them alone first\n")
        return 1
    explained: dict[str, str] = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["survivors"]
    counted = [count(name, plugin.outcomes, explained) for name in modules]
    stale = not_surviving(plugin.outcomes, explained, () if given.changed is not None or part else modules)
    broken = [f"fails as it is, so nobody can say what survives: {test}" for test in plugin.failing]
    sys.stdout.write("\n".join([told(counted, time.monotonic() - began), *stale, *broken]) + "\n")
    if given.json is not None:
        rows = [
            {"mutant": o.mutant.name, "killed_by": o.by, "tests": o.tests, "tried": o.tried} for o in plugin.outcomes
        ]
        given.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if given.changed is not None:
        failed = [one.module for one in counted if one.too_many]
        if failed:
            sys.stdout.write(SURVIVED.format(", ".join(failed)))
        return int(bool(failed))
    return int(bool(stale or broken) or not all(one.enough for one in counted))


def _prepare(modules: list[str]) -> None:
    """The sessions of exchanges, which take a second each to be worked out; what is mutated has no part in them."""
    for exchange, year in SESSIONS if "calendars" in modules else ():
        exchanges.timetable(exchange, year)


def _options() -> list[str]:
    without = ("cacheprovider", "xdist", "pytest_cov")
    return ["-q", "--no-header", "-o", "faulthandler_timeout=0", *(f"-pno:{name}" for name in without)]


def _files(modules: list[str], *, unit: bool) -> list[str]:
    units = {UNIT.format(test) for name in modules for test in MODULES[name]}
    stories = () if unit else (f"tests/acceptance/{name}.py" for name in STORIES)
    return [path for path in [*sorted(units), *stories] if (CHECKOUT / path).exists()]


def count(module: str, outcomes: list[Outcome], explained: dict[str, str]) -> Counted:
    """What became of one module's mutants."""
    own = [o for o in outcomes if o.mutant.module == f"responder.{module}"]
    judged = [o for o in own if o.tried and o.mutant.name not in explained]
    survived = tuple(o for o in judged if o.by is None)
    untried = sum(not o.tried for o in own)
    known = len(own) - untried - len(judged)
    return Counted(module, len(judged) - len(survived), survived, known, untried)


def not_surviving(outcomes: list[Outcome], explained: dict[str, str], modules: list[str] | tuple[()]) -> list[str]:
    """What `survivors.toml` says and is not so: mutants of `modules` that are not there, and any that are killed."""
    found = {o.mutant.name: o for o in outcomes}
    wrong = []
    for name in explained:
        if name not in found and name.split(".")[0] in modules:
            wrong.append(f"survivors.toml explains a mutant that is there no more: take it out: {name}")
        if name in found and found[name].by is not None:
            wrong.append(f"survivors.toml explains a mutant that {found[name].by} kills: take it out: {name}")
    return wrong


def told(counted: list[Counted], seconds: float) -> str:
    """A table, and each survivor."""
    lines = [f"{'module':14}{'killed':>8}{'survived':>10}{'explained':>11}{'not tried':>11}{'share':>11}"]
    lines += [
        f"{c.module:14}{c.killed:8}{len(c.survived):10}{c.explained:11}{c.untried:11}{c.says:>11}" for c in counted
    ]
    for one in counted:
        lines += [f"  {o.mutant.line:4} {o.mutant.name}{'' if o.tests else ' (no test)'}" for o in one.survived]
    untried = sum(one.untried for one in counted)
    more = f"; no time was left for {untried} mutants" if untried else ""
    whole = sum(one.killed + len(one.survived) + one.explained for one in counted)
    lines.append(f"mutation: {whole} mutants in {seconds:.0f} s{more}")
    return "\n".join(lines)


SURVIVED: Final = (
    "mutation: too many small changes of what you have changed in {} go unnoticed. Write a test that notices each of "
    "those above, or name it in tests/mutation/survivors.toml and say why none can\n"
)


# --- what has changed -------------------------------------------------------------------------------------------------


NO_BASE: Final = (
    "mutation: nothing is tried: git knows no commit to compare with. Name one that this clone has, "
    "RESPONDER_BASE=COMMIT, or fetch the history (in CI: the full depth)\n"
)


def changed_lines(base: str, modules: list[str]) -> dict[str, set[int]]:
    """Module -> the lines of today that differ from `base`."""
    paths = [f"responder/{name}.py" for name in modules]
    said = _git("diff", "--unified=0", "--no-color", base, "--", *paths)
    lines: dict[str, set[int]] = {}
    module = ""
    for line in said.splitlines():
        if line.startswith("+++ "):
            module = Path(line[4:]).stem
        if (hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line)) is not None:
            first, size = int(hunk[1]), int(hunk[2] or 1)
            lines.setdefault(module, set()).update(range(first, first + max(size, 1)))
    return lines


def base_of(given: str) -> str | None:
    """The commit to compare with; None without git, and where the history is not there (a clone of depth 1)."""
    named = given or os.environ.get("RESPONDER_BASE", "")
    if named:
        return _commit(named)
    head = _commit("HEAD")
    for main_branch in ("origin/main", "main"):
        base = _git("merge-base", "HEAD", main_branch).strip()
        if base and base != head:
            return base
    return _commit("HEAD^")


def _commit(name: str) -> str | None:
    return _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip() or None


def _git(*arguments: str) -> str:
    """What it says; nothing where there is no git or no such commit."""
    try:
        return subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def _within(lines: dict[str, set[int]]) -> Callable[[Mutant], bool]:
    """Whether a mutant's statement, or its function, has changed."""
    return lambda mutant: _touched(mutant, lines)


def _touched(mutant: Mutant, lines: dict[str, set[int]]) -> bool:
    changed = lines.get(mutant.module.rpartition(".")[2], set())
    return not changed.isdisjoint(range(mutant.first or mutant.line, mutant.last + 1))


if __name__ == "__main__":
    sys.exit(main())
