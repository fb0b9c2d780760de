"""Guides that cannot rot: their files are written, their commands are run, and what is printed must be what they show.

A guide is played in an empty folder from its first line to its last. Fenced blocks that say so take part; GitHub shows
them like all others:

- ``yaml file=my-rules/a.yaml``: the file is written (any language will do);
- ``diff file=my-rules/a.yaml``: the lines with `-` become those with `+`;
- ``console``: each `$ responder …` is run, a line that ends in a backslash goes on, and the lines below are what it
  prints. ``status=1``: the exit status of the last command, 0 when not given. ``show=story``: of a replay, what
  happens, without its details; ``until=Gates:``: the lines before that one.

`python -m tests.documentation` (`make reference`) writes what has changed, the pages made of code included; the test
`tests/contract/test_docs.py` compares. Time stands still, so that every run prints the same.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from responder import wall_clock
from responder.actions import ACTIONS
from responder.app import CATALOGUE
from responder.cli import run
from responder.config import read_config
from responder.environment import Environment
from responder.errors import BadRules
from responder.loader import DEFAULTS_MAY_HOLD, load_rules
from responder.manual import actions_page, language
from responder.risks import Code
from responder.timing import parse_time
from tests.provision import CHECKOUT

NOW: Final = parse_time("2026-11-20T10:00:00Z")
"""A Friday, half past three in the afternoon in Kolkata."""
ENVIRONMENT: Final = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
GUIDES: Final = ("docs/runbooks.md", "docs/cookbook.md")
ANY: Final = "…"
_DETAIL: Final = " " * 13
_fence = re.compile(r"^( *)```(\S*)(.*)$")


class Differs(AssertionError):
    """What a guide shows is not what happens."""


# --- guides -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its lines without the fences, and the number of its first line in the page, from 1."""

    language: str
    options: Mapping[str, str]
    lines: tuple[str, ...]
    begins: int

    @property
    def text(self) -> str:
        """What a file with these lines holds."""
        return "".join(f"{line}\n" for line in self.lines)


def blocks(page: str) -> Iterator[Block]:
    """Every fenced block of a Markdown page that begins at the margin."""
    opened: Block | None = None
    for number, line in enumerate(page.splitlines(), start=1):
        fence = _fence.match(line)
        if fence is None or fence[1]:
            opened = replace(opened, lines=(*opened.lines, line)) if opened is not None else None
        elif opened is None:
            options = dict(part.partition("=")[::2] for part in fence[3].split())
            opened = Block(fence[2], options, (), number + 1)
        else:
            yield opened
            opened = None


def played(page: str) -> str:
    """The page with what its commands really print. Raises Differs where it cannot be played as it stands."""
    lines = page.splitlines()
    shown: list[tuple[Block, list[str]]] = []
    with tempfile.TemporaryDirectory() as folder, _still(Path(folder)):
        for block in blocks(page):
            if block.language == "console":
                shown.append((block, _console(block)))
            elif "file" in block.options:
                (_edit if block.language == "diff" else _write)(block, Path(folder) / block.options["file"])
    for block, real in reversed(shown):
        lines[block.begins - 1 : block.begins - 1 + len(block.lines)] = real
    return "".join(f"{line}\n" for line in lines)


@contextlib.contextmanager
def _still(folder: Path) -> Iterator[None]:
    """In that folder, on a plain narrow terminal, at one moment."""
    clock, environment = wall_clock.wall_clock, dict(os.environ)
    wall_clock.wall_clock = lambda: NOW
    os.environ.update(ENVIRONMENT)
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        wall_clock.wall_clock = clock
        os.environ.clear()
        os.environ.update(environment)


def _write(block: Block, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")


def _edit(block: Block, path: Path) -> None:
    before = "".join(f"{line[1:]}\n" for line in block.lines if line[0] in " -")
    after = "".join(f"{line[1:]}\n" for line in block.lines if line[0] in " +")
    text = path.read_text(encoding="utf-8")
    if text.count(before) != 1:
        raise Differs(f"line {block.begins}: these lines do not stand in {block.options['file']} once:\n{before}")
    path.write_text(text.replace(before, after), encoding="utf-8")


def _console(block: Block) -> list[str]:
    """The block's lines as they really are; what it leaves out with `…` stays left out."""
    found: list[str] = []
    status = 0
    for command in _commands(block.lines):
        status, real = ran(" ".join(line.rstrip("\\") for line in command)[2:])
        found += [*command, *_shown(real, block.options)]
    if status != int(block.options.get("status", "0")):
        raise Differs(f"line {block.begins}: the last command ended with status {status}:\n" + "\n".join(found))
    return found


def _commands(lines: Sequence[str]) -> Iterator[list[str]]:
    """Each command, as many lines as it goes on; what it printed is left out."""
    command: list[str] = []
    for line in lines:
        if line.startswith("$ ") or command:
            command.append(line)
        if command and not line.endswith("\\"):
            yield command
            command = []


def _shown(lines: Sequence[str], options: Mapping[str, str]) -> list[str]:
    """What the page shows of the lines; `…` for what it leaves out."""
    if "until" in options:
        return [*itertools.takewhile(lambda line: line.strip() != options["until"], lines), ANY]
    if options.get("show") != "story":
        return list(lines)
    story = itertools.dropwhile(lambda line: not line.startswith("Incident "), lines)
    details = itertools.groupby(story, key=lambda line: line.startswith(_DETAIL))
    return [ANY, *(line for left_out, part in details for line in ([f"{_DETAIL}{ANY}"] if left_out else part))]


def ran(command: str) -> tuple[int, list[str]]:
    """Exit status and printed lines of a command line, which begins with `responder`."""
    program, *words = shlex.split(command)
    if program != "responder":
        raise Differs(f"only responder is run here, not {program}")
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = run(words)
    return status, [line.rstrip() for line in out.getvalue().rstrip("\n").splitlines()]


# --- pages that are made ----------------------------------------------------------------------------------------------

MISTAKES: Final = CHECKOUT / "tests" / "unit" / "mistakes"
TWENTY: Final[Mapping[str, str]] = {
    "unknown_key": "A key is spelled wrong",
    "fields_beside_with": "The fields of an action do not stand below `with`",
    "missing_key_in_a_part": "Something is missing",
    "duration_without_unit": "A duration without its unit",
    "not_text": "Text that looks like a number",
    "colon_in_text": "Text with a colon in it",
    "query_with_braces": "A query with braces, not in quotes",
    "template_not_quoted": "A template that is not in quotes",
    "key_twice": "A key stands twice",
    "tab": "A line is indented with a tab",
    "label_not_declared": "A label is used that no input declares",
    "input_outside_the_target": "An input is used that does not stand in `target`",
    "template_outside_quotes": "A template outside the quotes of a query",
    "expression": "An operator that does not exist",
    "expression_with_unknown_name": "A condition names the check, not its value",
    "unknown_service": "A name that nothing has",
    "no_env": "The runbook does not say whose services it may use",
    "alerts_of_any_env": "Staging alerts would reach prod",
    "never_succeeds": "Verification that has no time to succeed",
}
"""File in tests/unit/mistakes → what went wrong, in the order of the page; two runbooks for one alert come last."""

_OPENING: Final = """\
# The twenty most likely mistakes

What `responder lint` says about each. Every message has the same form: the file with line and column, where in the
runbook that is, what is wrong, the line itself, and the cure. All mistakes of all files are told at once.

This page is made by `make reference` from the files that the tests check each message with.
"""
_NOTES: Final = {
    "label_not_declared": "A label reaches a step only as an input that stands in `target`: "
    "`inputs: {symbol: {label: symbol, type: currency_pair}}`, then `{{ symbol }}`.",
    "template_outside_quotes": 'A placeholder is a label\'s value in double quotes, `var_pct{book="{{ book }}"}`, or a '
    "number; never a part of a name.",
}
"""What a message has no room for."""
_SETTINGS: Final = """
services:
  risk: {kind: http, env: prod, url: 'http://risk:8080'}
  metrics: {kind: prometheus, url: 'http://metrics:9090'}
parameters:
  risk/kelly: {service: risk, read: {path: /k, value: k}, write: {path: /k}, floor: 0.05, total_per_day: 1}
notifiers:
  oncall: {kind: pagerduty, routing_key: {env: KEY}}
"""
_NAMES: Final = {"api.call": "http.request", "metrics.query": "prometheus.query"}
"""The tests have actions of their own; people see the real ones."""
_POLICIES: Final = "policies: {default: {levels: [{name: L1, after: 0, page: oncall}]}}\ndefault: default\n"
_TWO: Final = "runbook: {}\ntitle: Too much risk\nmatch: {}\ntarget: risk/kelly\n"


def mistakes() -> str:
    """docs/mistakes.md: each mistake with the message that it gets."""
    parts = [_OPENING]
    for number, (name, title) in enumerate(TWENTY.items(), start=1):
        text = (MISTAKES / f"{name}.yaml").read_text(encoding="utf-8")
        kept = "".join(f"{line}\n" for line in text.splitlines() if not line.startswith("#>"))
        for stand_in, real in _NAMES.items():
            kept = kept.replace(stand_in, real)
        parts.append(_mistake(f"{number}. {title}", refused({"my-rules/cut.yaml": kept}), _NOTES.get(name, "")))
    both = {
        "my-rules/a.yaml": _TWO.format("a", "VaRBreach"),
        "my-rules/b.yaml": _TWO.format("b", "'alertname=~\"VaR.*\"'"),
    }
    parts.append(_mistake(f"{len(TWENTY) + 1}. Two runbooks answer one alert", refused(both)))
    return "\n".join(parts)


def _mistake(title: str, message: str, note: str = "") -> str:
    return f"## {title}\n\n```text\n{message}\n```\n" + (f"\n{note}\n" if note else "")


def refused(files: Mapping[str, str]) -> str:
    """What loading these files says. Raises Differs when they load."""
    config = read_config("responder.yaml", _SETTINGS, CATALOGUE, Environment({}, CHECKOUT, check_secrets=False))
    try:
        load_rules({"rules/policies.yaml": _POLICIES, **files}, CATALOGUE, config)
    except BadRules as error:
        return "\n".join(line.rstrip() for line in str(error).splitlines())
    raise Differs(f"{', '.join(files)} can be loaded: there is no mistake any more")


def reference() -> str:
    """docs/language.md."""
    return language(ACTIONS, DEFAULTS_MAY_HOLD, Code)


def actions() -> str:
    """docs/actions.md."""
    return actions_page(ACTIONS)


MADE: Final[Mapping[str, Callable[[], str]]] = {
    "docs/actions.md": actions,
    "docs/language.md": reference,
    "docs/mistakes.md": mistakes,
}


def current(name: str) -> str:
    """What a page must say today."""
    return MADE[name]() if name in MADE else played((CHECKOUT / name).read_text(encoding="utf-8"))


def main() -> None:
    """Write every page that has changed, and say which."""
    for name in (*MADE, *GUIDES):
        path = CHECKOUT / name
        text = current(name)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
