"""What several commands take from the command line: which configuration, and whether the answer is JSON."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

DEFAULT_FILE: Final = Path("responder.yaml")

CONFIG: Final[Any] = typer.Option(
    "--config",
    metavar="FILE",
    exists=True,
    dir_okay=False,
    help="The configuration; else responder.yaml here, else the defaults.",
)
Config = Annotated[Path | None, CONFIG]
Json = Annotated[bool, typer.Option("--json", help="Answer with JSON, for programs.")]


def config_file(given: Path | None) -> Path | None:
    """The configuration to use: the one given, else responder.yaml here; None means the defaults."""
    if given is not None:
        return given
    return DEFAULT_FILE if DEFAULT_FILE.is_file() else None


def pairs_of(words: Iterable[str], what: str) -> dict[str, str]:
    """`name=value` words as a dict; `what` is what a name is called. Raises typer.BadParameter."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{word!r} is no {what}: write {what}=value")
        found[name] = value
    return found
