"""`python -m tests.mutation [--changed [BASE]] [MODULE …]`: which small changes of the guards no test notices.

Exit status 1 when fewer than 90 of 100 mutants of a module are killed, or when a mutant that `survivors.toml` explains
is there no more or is killed by now. `--changed` tries only the functions that differ from BASE: `$RESPONDER_BASE`, or
where this branch left the main one, or the commit before.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.mutation.mutants import Mutant
from tests.mutation.running import Outcome, Plugin

CHECKOUT: Final = Path(__file__).parents[2]
EXPLAINED: Final = Path(__file__).with_name("survivors.toml")
ENOUGH: Final = 0.9
"""The share of mutants that must be killed, those that are explained left aside."""

UNIT: Final = "tests/unit/test_{}.py"
MODULES: Final[dict[str, tuple[str, ...]]] = {
    "guards": ("guards", "guard_edges", "alerts_gate", "calendars", "acting", "fuses", "security", "manual_runs"),
    "fuses": ("fuses", "scope_edges", "guards"),
    "scoping": ("scoping", "scope_edges", "operations", "manual_runs"),
    "scopes": ("scope_edges", "scoping", "guards", "fuses", "acting"),
    "automation": ("config", "fuses"),
    "cases": ("guards", "guard_edges", "scope_edges", "fuses", "acting"),
    "calendars": ("calendars", "cron"),
    "decide": ("decide", "escalation", "operations", "manual_runs"),
    "acting": ("acting", "operations", "manual_runs"),
    "verification": ("verification", "operations", "decide"),
    "operations": ("operations", "verification", "acting", "decide", "timers"),
}
"""Module of `responder` -> the unit tests that judge it: quick ones, for they run a thousand times."""
ALONE: Final = ("guards", "fuses", "scoping", "scopes", "cases")
"""Modules whose unit tests alone kill enough. Of the others `--changed` only tells what has survived."""
STORIES: Final = (
    "test_gates", "test_people", "test_hard_cases", "test_escalation", "test_changes", "test_outages",
    "test_by_hand_stories",
)  # fmt: skip
"""Of tests/acceptance, those that judge every module, where there is time for them."""


@dataclass(frozen=True, slots=True)
class Counted:
    """One module. `explained` mutants are neither in `killed` nor in `survived`."""

    module: str
    killed: int
    survived: tuple[Outcome, ...]
    explained: int

    @property
    def share(self) -> float:
        """Of those that could be killed."""
        whole = self.killed + len(self.survived)
        return self.killed / whole if whole else 1.0


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Mutation tests of the guards.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of: {', '.join(MODULES)} (default: all)")
    parser.add_argument("--changed", nargs="?", const="", metavar="BASE", help="only functions that differ from BASE")
    parser.add_argument("--seconds", type=float, help="begin no new mutant after so long, and say how many are left")
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
        lines = changed_lines(given.changed, modules)
        modules = [name for name in modules if lines.get(name)]
        if not modules:
            sys.stdout.write("mutation: nothing that is mutated has changed\n")
            return 0
        chosen = _within(lines)
    return _run(modules, chosen, given)


def _run(modules: list[str], chosen: Callable[[Mutant], bool], given: argparse.Namespace) -> int:
    began = time.monotonic()
    plugin = Plugin([f"responder.{name}" for name in modules], chosen, given.workers, given.seconds)
    os.environ["CI"] = "1"  # Hypothesis must find the same each time
    ended = pytest.main([*_options(), *_files(modules, unit=given.unit or given.changed is not None)], [plugin])
    if ended == pytest.ExitCode.INTERRUPTED and plugin.outcomes:
        plugin.left += 1  # told as far as it came
    elif ended != pytest.ExitCode.OK:
        sys.stderr.write("mutation: the tests could not be collected; run them alone first\n")
        return 1
    explained: dict[str, str] = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["survivors"]
    counted = [count(name, plugin.outcomes, explained) for name in modules]
    stale = not_surviving(plugin.outcomes, explained, () if given.changed is not None or plugin.left else modules)
    sys.stdout.write(
        told(counted, plugin.left, time.monotonic() - began) + "\n" + "\n".join(stale) + "\n" * bool(stale)
    )
    if given.json is not None:
        rows = [{"mutant": o.mutant.name, "killed_by": o.by, "tests": o.tests} for o in plugin.outcomes]
        given.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    judged = [one for one in counted if given.changed is None or one.module in ALONE]
    return int(bool(stale) or any(one.share < ENOUGH for one in judged))


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
    survived = tuple(o for o in own if o.by is None and o.mutant.name not in explained)
    known = sum(o.mutant.name in explained for o in own)
    return Counted(module, sum(o.by is not None and o.mutant.name not in explained for o in own), survived, known)


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


def told(counted: list[Counted], left: int, seconds: float) -> str:
    """A table, and each survivor."""
    lines = [f"{'module':14}{'killed':>8}{'survived':>10}{'explained':>11}{'share':>8}"]
    lines += [f"{c.module:14}{c.killed:8}{len(c.survived):10}{c.explained:11}{c.share:8.1%}" for c in counted]
    for one in counted:
        lines += [f"  {o.mutant.line:4} {o.mutant.name}{'' if o.tests else ' (no test)'}" for o in one.survived]
    more = f"; no time was left for {left} mutants" if left else ""
    whole = sum(one.killed + len(one.survived) + one.explained for one in counted)
    lines.append(f"mutation: {whole} mutants in {seconds:.0f} s{more}")
    return "\n".join(lines)


# --- what has changed -------------------------------------------------------------------------------------------------


def changed_lines(base: str, modules: list[str]) -> dict[str, set[int]]:
    """Module -> the lines of today that differ from `base`; nothing without git or a base."""
    base = base or os.environ.get("RESPONDER_BASE", "") or _base()
    if not base:
        return {}
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


def _base() -> str:
    head = _git("rev-parse", "HEAD").strip()
    for main_branch in ("origin/main", "main"):
        base = _git("merge-base", "HEAD", main_branch).strip()
        if base and base != head:
            return base
    return _git("rev-parse", "--verify", "--quiet", "HEAD^").strip() or head


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
