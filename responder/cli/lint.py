"""`responder lint [PATH…]`: the loader's checks without a server, for editors, reviews and CI.

Rules mean something only with services and people, so paths are checked with a configuration: the one named, else the
example that stands in the catalogue's folder, else responder.yaml here. What is right or wrong is decided by `loader`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from responder.cli.options import Config, Json, config_file
from responder.cli.output import count, paper, plain, print_json
from responder.errors import BadConfig, BadRules

if TYPE_CHECKING:
    from responder.problems import Problem

EXAMPLE: Final = "_responder.example.yaml"
"""The configuration that a shipped catalogue needs; it stands beside its runbooks."""
_SUFFIXES: Final = (".yaml", ".yml")

Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[PATH]...", help="Files, folders or shipped catalogues; else what the configuration names."
    ),
]


AsErrors = Annotated[
    bool, typer.Option("--warnings-as-errors", help="Exit status 1 for warnings too, for CI and before a merge.")
]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What is checked together: `entries` as in `rules:` of a configuration, None for those it names itself."""

    config: Path | None
    entries: tuple[str, ...] | None


@dataclass(slots=True)
class Findings:
    """What came of it."""

    problems: list[Problem] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Configurations that cannot be used: the file, and every mistake in it as one text."""
    warnings: list[Problem] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    runbooks: set[str] = field(default_factory=set)

    @property
    def bad(self) -> bool:
        """Whether anything must not be loaded."""
        return bool(self.problems or self.refused)


def command(
    paths: Paths = None, config: Config = None, json: Json = False, warnings_as_errors: AsErrors = False
) -> None:
    """Check runbooks and policies, and show every mistake at its place.

    With paths: a folder with its own example configuration is checked with that, all else with the configuration. A
    file of a catalogue is checked together with its folder, since it means nothing without its defaults. Secrets need
    not be there. Exit status 1 when something must not be loaded; warnings are allowed, and a comment says that one is
    meant: `# lint: allow CODE reason`, on its line or on the line above.
    """
    findings = Findings()
    for rules in rule_sets(paths or (), config):
        check(rules, findings)
    if json:
        print_json(as_json(findings))
    else:
        show(findings)
    raise typer.Exit(1 if findings.bad or (warnings_as_errors and findings.warnings) else 0)


# --- what is checked together -----------------------------------------------------------------------------------------


def rule_sets(paths: Sequence[Path], config: Path | None) -> list[RuleSet]:
    """The sets that paths mean; without any, what the configuration names."""
    if not paths:
        return [RuleSet(config_file(config), None)]
    if config is not None:
        return [RuleSet(config, tuple(map(_entry, paths)))]
    found: dict[Path | None, list[str]] = {}
    for path in paths:
        for example, part in _parts(_catalogue_of(path)):
            found.setdefault(example or config_file(None), []).append(_entry(part))
    return [RuleSet(file, tuple(dict.fromkeys(entries))) for file, entries in found.items()]


def _catalogue_of(path: Path) -> Path:
    """The folder that a file belongs to, when it is part of a catalogue."""
    alone = not path.is_file() or not any((path.parent / name).is_file() for name in (EXAMPLE, "_defaults.yaml"))
    return path if alone else path.parent


def _parts(path: Path) -> Iterator[tuple[Path | None, Path]]:
    """A folder of catalogues taken apart: each with its example, and what remains with none."""
    if (path / EXAMPLE).is_file():
        yield path / EXAMPLE, path
        return
    inner = [p for p in sorted(path.iterdir()) if p.name[0] not in "_."] if path.is_dir() else []
    if not any((part / EXAMPLE).is_file() for part in inner):
        yield None, path
        return
    for part in inner:
        if part.suffix in _SUFFIXES or (part.is_dir() and part.name != "tests"):
            yield (part / EXAMPLE if (part / EXAMPLE).is_file() else None), part


def _entry(path: Path) -> str:
    """How `rules:` would say it: what exists here is a path, anything else may be a shipped catalogue."""
    if path.is_absolute() or not path.exists():
        return str(path)
    return f"./{path.as_posix()}"


# --- checking ---------------------------------------------------------------------------------------------------------


def check(rules: RuleSet, findings: Findings) -> None:
    """Load one set as the server would, and add what was found."""
    from responder.actions import ACTIONS
    from responder.config import load_config
    from responder.contracts import Catalogue
    from responder.loader import load_rules
    from responder.notifiers import NOTIFIERS, message_templates
    from responder.services import SERVICES
    from responder.sources import Folders, read_sources, shipped_rules

    catalogue = Catalogue(ACTIONS, NOTIFIERS, SERVICES)
    try:
        config = load_config(rules.config, catalogue, os.environ, check_secrets=False)
        if rules.entries is None and config.templates is not None:
            message_templates(config.folder / config.templates)
        entries, beside = (config.rules, config.folder) if rules.entries is None else (rules.entries, Path.cwd())
        sources = read_sources(entries, Folders(shipped_rules(), beside))
        findings.files.update(sources)
        loaded = load_rules(sources, catalogue, config)
    except BadConfig as error:
        findings.refused.append((str(rules.config or "(defaults)"), str(error)))
    except BadRules as error:
        findings.problems.extend(error.problems)  # type: ignore[arg-type]
    else:
        findings.warnings.extend(loaded.warnings)
        findings.runbooks.update(loaded.rules.runbooks)


# --- telling ----------------------------------------------------------------------------------------------------------


def as_json(findings: Findings) -> dict[str, Any]:
    """`{"ok", "problems": [PROBLEM…], "warnings": [PROBLEM…], "files": […], "runbooks": […]}`.

    A problem is `{"file", "line", "column", "path", "message", "hint", "code"}`; only warnings have a code.
    """
    return {
        "ok": not findings.bad,
        "problems": [
            *({**_UNPLACED, "file": file, "message": text} for file, text in findings.refused),
            *(_problem(problem) for problem in findings.problems),
        ],
        "warnings": [_problem(problem) for problem in findings.warnings],
        "files": sorted(findings.files),
        "runbooks": sorted(findings.runbooks),
    }


_UNPLACED: Final = {"file": "", "line": 1, "column": 1, "path": "", "message": "", "hint": "", "code": ""}


def _problem(problem: Problem) -> dict[str, Any]:
    return {name: value for name, value in asdict(problem).items() if name != "snippet"}


def show(findings: Findings) -> None:
    """Every finding drawn, each one apart from the next, and a line that says how many there are."""
    for _, text in findings.refused:
        _show(text, "red")
    for problem in findings.problems:
        _show(str(problem), "red")
    for warning in findings.warnings:
        _show(str(replace(warning, message=f"warning: {warning.message}")), "yellow")
    paper().print(summary(findings))


def _show(drawn: str, style: str) -> None:
    from rich.text import Text

    first, *rest = drawn.splitlines()
    out = paper()
    out.print(Text(plain(first), style), soft_wrap=True)
    for line in rest:
        out.print(Text(line), soft_wrap=True)
    out.print()


def summary(findings: Findings) -> str:
    """`3 problems in 2 files, 1 warning`."""
    files = {problem.file for problem in findings.problems}
    if findings.refused:
        said = f"{', '.join(file for file, _ in findings.refused)} cannot be used, so its rules were not checked"
        said += f"; {count(len(findings.problems), 'problem')} elsewhere" if files else ""
    elif files:
        said = f"{count(len(findings.problems), 'problem')} in {count(len(files), 'file')}"
    else:
        said = f"no problems in {count(len(findings.files), 'file')}, {count(len(findings.runbooks), 'runbook')}"
    return f"{said}, {count(len(findings.warnings), 'warning')}" if findings.warnings else said
