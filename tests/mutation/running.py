"""Runs the tests of a mutant: a pytest plugin that has collected them once and forks for each mutant.

The child swaps the code of one function (or the value of one constant) and runs the tests that reach the changed line,
the quickest to kill first. Nothing is written to disk, so any number of children run at once. A child that computes for
ever counts as killed, as does one that takes too much memory: both are measured in what it uses, not by the clock. One
that the clock ends was not tried: the machine may be slow.
"""

from __future__ import annotations

import ast
import builtins
import gc
import importlib
import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Final

import pytest
from _pytest.runner import runtestprotocol

from tests.mutation.mutants import Mutant, Source, mutants

AT_LEAST: Final = 4.0
"""Seconds of a processor that a mutant's tests may take in any case, and the factor on what they take otherwise."""
PATIENCE: Final = 5.0
"""So many times as long they may take by the clock."""
MOST: Final = 5.0
"""Seconds of a processor for the tests that are tried on one mutant."""
MEASURING: Final = 0.5
"""The share of the time, where there is a limit, for finding out which test reaches which line."""
MEMORY: Final = 1 << 30
"""Bytes that a mutant may take in addition: one that journals for ever must not take the machine with it."""
BROKEN: Final = 3
"""How a child ends that could not try its mutant."""
HIT: Final = "_mutation_hit"


@dataclass
class Outcome:
    """What became of a mutant: `by` is the test that noticed it, "time" or "crash"; None when nobody did."""

    mutant: Mutant
    by: str | None
    tests: int
    """How many tests reach its line."""
    tried: bool = True
    """False: the clock ended it, or nobody noticed it and there was no time for all tests. Nobody can say."""


@dataclass
class Measured:
    """Which tests reach which lines, and how long each takes. One that fails anyway reaches none."""

    reached: dict[tuple[str, int], list[str]] = field(default_factory=lambda: defaultdict(list))
    seconds: dict[str, float] = field(default_factory=dict)
    """Of a processor."""
    whole: bool = True
    """False when there was no time to run every test, or one fails anyway."""
    failing: list[str] = field(default_factory=list)
    """Tests that fail with nothing changed."""


class Plugin:
    """`chosen` says which mutants of a module are tried. `until` (`time.monotonic`): then everything has ended.

    `before` is done once, so that no child has to do it for each mutant.
    """

    def __init__(
        self,
        modules: Iterable[str],
        chosen: Callable[[Mutant], bool],
        workers: int,
        until: float | None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._modules, self._chosen, self._workers, self._until = tuple(modules), chosen, workers, until
        self._before = before
        self.outcomes: list[Outcome] = []
        """Of every mutant, as soon as the tests are collected; interrupted by hand, of those so far."""
        self.failing: list[str] = []
        """Tests that fail with nothing changed: then what no other test notices counts as not tried."""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running the tests."""
        if session.testsfailed:
            raise session.Interrupted(f"{session.testsfailed} errors while the tests were collected")
        if self._until is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)  # it was for the collecting
        items = {item.nodeid: item for item in session.items}
        sources = [_source(name) for name in self._modules]
        functions = _functions({source.path for source in sources})
        self._before()
        gc.collect()
        gc.freeze()
        measured = _measured(items, sources, functions, self._time_left())
        self.failing = measured.failing
        waiting = [
            (source, mutant)
            for source in sources
            for mutant in mutants(source, vars(sys.modules[source.module]))
            if self._chosen(mutant)
        ]
        if self._until is not None:
            random.Random(0).shuffle(waiting)  # what there is time for shall speak for all
        self._all(waiting, items, functions, measured)
        return True

    def _time_left(self) -> float | None:
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    def _all(
        self,
        waiting: list[tuple[Source, Mutant]],
        items: dict[str, pytest.Item],
        functions: dict[tuple[str, str, int], list[FunctionType]],
        measured: Measured,
    ) -> None:
        began = time.monotonic()
        running: dict[int, _Running] = {}
        killers: dict[str, Counter[str]] = defaultdict(Counter)
        for number, (source, mutant) in enumerate(waiting):
            if len(running) == self._workers:
                self._ended(running, killers)
            left = self._time_left()
            if left is not None and left <= 0:
                self.outcomes += [Outcome(mutant, None, 0, tried=False) for _, mutant in waiting[number:]]
                break
            tests, whole = _tests(mutant, measured, killers[f"{mutant.module}.{mutant.function}"])
            if tests:
                reads, writes = os.pipe()
                uses = AT_LEAST * (1 + sum(measured.seconds[test] for test in tests))
                limits = Limits(uses, PATIENCE * uses if left is None else min(left, PATIENCE * uses))
                pid = _forked(lambda: _try(source, mutant, functions, [items[t] for t in tests]), writes, limits)  # noqa: B023  run at once
                os.close(writes)
                running[pid] = _Running(mutant, reads, len(tests), whole)
            else:
                self.outcomes.append(Outcome(mutant, None, 0, tried=whole))
            if (number + 1) % 100 == 0:
                sys.stderr.write(f"{number + 1} of {len(waiting)} after {time.monotonic() - began:.0f} s\n")
        while running:
            self._ended(running, killers)

    def _ended(self, running: dict[int, _Running], killers: dict[str, Counter[str]]) -> None:
        pid, status = os.wait()
        one = running.pop(pid)
        with os.fdopen(one.reads) as said:
            told = said.read()
        by: str | None = None
        tried = True
        if os.WIFSIGNALED(status):
            tried = os.WTERMSIG(status) != signal.SIGALRM
            by = {signal.SIGALRM: None, signal.SIGPROF: "time"}.get(signal.Signals(os.WTERMSIG(status)), "crash")
        elif os.WEXITSTATUS(status) == 1:
            by = told or "crash"
            killers[f"{one.mutant.module}.{one.mutant.function}"][by] += 1
        elif os.WEXITSTATUS(status) == BROKEN:
            raise RuntimeError(f"the mutant could not be tried: {one.mutant.name}")
        else:
            tried = one.whole
        self.outcomes.append(Outcome(one.mutant, by, one.tests, tried))


@dataclass(frozen=True, slots=True)
class _Running:
    """A child and what it tries. `whole`: all tests that reach the line."""

    mutant: Mutant
    reads: int
    tests: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds of a processor and seconds by the clock, after which a child is ended."""

    uses: float
    lasts: float


def _source(name: str) -> Source:
    path = importlib.import_module(name).__file__ or ""
    return Source(name, path, ast.parse(Path(path).read_text(encoding="utf-8"), path))


def _functions(paths: set[str]) -> dict[tuple[str, str, int], list[FunctionType]]:
    """Every function object of these files, wherever it is held: in a table, a property, a validator."""
    found: dict[tuple[str, str, int], list[FunctionType]] = defaultdict(list)
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__.co_filename in paths:
            code = one.__code__
            found[code.co_filename, code.co_qualname, code.co_firstlineno].append(one)
    return found


def _codes(code: CodeType) -> Iterator[CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner
            yield from _codes(inner)


def _swap(
    source: Source, functions: dict[tuple[str, str, int], list[FunctionType]], only: tuple[str, int] | None = None
) -> int:
    """Give functions the code that the tree says now; how many. `only`: the qualified name and first line."""
    count = 0
    for code in _codes(compile(ast.fix_missing_locations(source.tree), source.path, "exec")):
        if only is None or (code.co_qualname, code.co_firstlineno) == only:
            for function in functions.get((code.co_filename, code.co_qualname, code.co_firstlineno), ()):
                function.__code__ = code
                count += 1
    return count


def _forked(work: Callable[[], tuple[int, str]], writes: int, limits: Limits | None) -> int:
    """A child that does it, says its text, and ends with its number."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = BROKEN
    try:
        if limits is not None:
            for name, timer, seconds in (
                (signal.SIGALRM, signal.ITIMER_REAL, limits.lasts),
                (signal.SIGPROF, signal.ITIMER_PROF, limits.uses),
            ):
                signal.signal(name, signal.SIG_DFL)
                signal.setitimer(timer, seconds)
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        if limits is not None:
            os.dup2(nothing, 2)
        status, said = work()
        data = said.encode()
        while data:
            data = data[os.write(writes, data) :]
    finally:
        os._exit(status)


def _failed(item: pytest.Item) -> bool:
    return any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))


def _try(
    source: Source,
    mutant: Mutant,
    functions: dict[tuple[str, str, int], list[FunctionType]],
    tests: list[pytest.Item],
) -> tuple[int, str]:
    mutant.edit.apply()
    if mutant.first:
        swapped = _swap(source, functions, (mutant.function, mutant.first))
        assert swapped, f"{mutant.name}: its function is nowhere"
    else:
        try:
            _set_constant(source, mutant.function)
        except Exception:  # noqa: BLE001  a constant that cannot be made is noticed by whoever imports it
            return 1, "import"
    for item in tests:
        if _failed(item):
            return 1, item.nodeid
    return 0, ""


def _set_constant(source: Source, name: str) -> None:
    """Everywhere it was imported to. Raises what its expression raises."""
    for statement in source.tree.body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        if isinstance(target, ast.Name) and target.id == name:
            value = getattr(statement, "value")  # noqa: B009  an assignment of either kind
            expression = ast.fix_missing_locations(ast.Expression(body=value))
            home = vars(sys.modules[source.module])
            old, new = home[name], eval(compile(expression, source.path, "eval"), home)  # noqa: S307  our own source
            for module in list(sys.modules.values()):
                if getattr(module, "__dict__", {}).get(name) is old:
                    setattr(module, name, new)


def _tests(mutant: Mutant, measured: Measured, killers: Counter[str]) -> tuple[list[str], bool]:
    """Those that reach its line: what killed in the same function first, then the quickest, as long as time is left.
    And whether these are all."""
    if mutant.first:
        tests = measured.reached.get((mutant.module, mutant.line), [])
    else:
        tests = sorted({t for (module, _), found in measured.reached.items() if module == mutant.module for t in found})
    chosen: list[str] = []
    spent = 0.0
    for test in sorted(tests, key=lambda t: (-killers[t], measured.seconds[t], t)):
        spent += measured.seconds[test]
        if chosen and spent > MOST:
            break
        chosen.append(test)
    return chosen, measured.whole and len(chosen) == len(tests)


# --- which test reaches which line ------------------------------------------------------------------------------------


class _Marking(ast.NodeTransformer):
    """Says before each statement of a function that it is reached."""

    def __init__(self, module: str) -> None:
        self._module = module

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for block in ("body", "orelse", "finalbody"):
            statements = getattr(node, block, None)
            if isinstance(statements, list) and not isinstance(node, ast.Module | ast.ClassDef):
                marked = [part for s in statements for part in (self._mark(s), s)]
                setattr(node, block, marked)
        return node

    def _mark(self, statement: ast.stmt) -> ast.stmt:
        call = ast.Call(
            func=ast.Name(id=HIT, ctx=ast.Load()),
            args=[ast.Constant(value=self._module), ast.Constant(value=statement.lineno)],
            keywords=[],
        )
        return ast.fix_missing_locations(ast.copy_location(ast.Expr(value=call), statement))


def _measured(
    items: dict[str, pytest.Item],
    sources: list[Source],
    functions: dict[tuple[str, str, int], list[FunctionType]],
    left: float | None,
) -> Measured:
    """In a child, for the tests must find nothing that an earlier run of them has left. `left`: seconds."""
    reads, writes = os.pipe()
    until = None if left is None else time.monotonic() + MEASURING * left
    # A test that hangs ends the child, and then nothing is known; it ends by itself before the next test.
    limits = None if left is None else Limits(1e6, max(left, 0.001))
    pid = _forked(lambda: (0, json.dumps(_look(items, sources, functions, until))), writes, limits)
    os.close(writes)
    with os.fdopen(reads) as said:
        told = said.read()
    os.waitpid(pid, 0)
    measured = Measured()
    found = json.loads(told) if told else {}
    measured.failing = [test for test, (seconds, _) in found.items() if seconds is None]
    measured.whole = len(found) == len(items) and not measured.failing
    for test, (seconds, lines) in found.items():
        measured.seconds[test] = seconds or 0.0
        for module, line in lines:
            measured.reached[module, line].append(test)
    return measured


def _look(
    items: dict[str, pytest.Item],
    sources: list[Source],
    functions: dict[tuple[str, str, int], list[FunctionType]],
    until: float | None,
) -> dict[str, tuple[float | None, list[tuple[str, int]]]]:
    """Of each test that was run: what it takes, and the lines that it reaches; None and none when it fails as it is."""
    reached: set[tuple[str, int]] = set()
    setattr(builtins, HIT, lambda module, line: reached.add((module, line)))
    for source in sources:
        marked = _Marking(source.module).visit(ast.parse(Path(source.path).read_text(encoding="utf-8"), source.path))
        _swap(Source(source.module, source.path, marked), functions)
    found: dict[str, tuple[float | None, list[tuple[str, int]]]] = {}
    for name, item in items.items():
        if until is not None and time.monotonic() > until:
            break
        reached.clear()
        began = time.process_time()
        if _failed(item):
            found[name] = (None, [])
        else:
            found[name] = (time.process_time() - began, sorted(reached))
    return found
