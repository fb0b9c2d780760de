"""`responder schema [KIND]`: the JSON Schema of a kind of file, for editors (docs/editor.md).

Nothing is checked here: what a file may say is the matter of the models, and `responder lint` checks it whole.
"""

from __future__ import annotations

import json as text_of
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from responder.cli.options import Json
from responder.cli.output import print_json

if TYPE_CHECKING:
    from responder.schema import Schema


class Kind(StrEnum):
    """The kinds of files that people write."""

    RUNBOOK = "runbook"
    DEFAULTS = "defaults"
    POLICIES = "policies"
    CALENDARS = "calendars"
    CONFIG = "config"


Named = Annotated[Kind | None, typer.Argument(metavar="KIND", help=f"One of {', '.join(Kind)}; else runbook.")]
Output = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write every kind there as KIND.schema.json, or the named one alone.")
]


def command(kind: Named = None, output: Output = None, json: Json = False) -> None:
    """Print the JSON Schema of a kind of file, or write all of them for an editor.

    Then begin each runbook with `# yaml-language-server: $schema=.schema/runbook.schema.json`: the editor completes
    keys, shows what each means and marks what is wrong.
    """
    if output is None:
        print(text(kind or Kind.RUNBOOK), end="")
        return
    files = [written(output, each) for each in ([kind] if kind is not None else Kind)]
    if json:
        print_json({"files": [str(file) for file in files]})
    else:
        print("\n".join(map(str, files)))


def text(kind: Kind) -> str:
    """The schema of a kind as the text of its file."""
    return text_of.dumps(_schemas()[kind](), indent=1, ensure_ascii=False) + "\n"


def written(folder: Path, kind: Kind) -> Path:
    """Write the file of a kind; answers its path. A folder that cannot be written to is wrong use."""
    path = folder / f"{kind}.schema.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text(kind), encoding="utf-8")
    except OSError as error:
        message = f"{path} cannot be written ({error.strerror}): name another folder"
        raise typer.BadParameter(message, param_hint="--output") from None
    return path


def _schemas() -> Mapping[Kind, Callable[[], Schema]]:
    """How the schema of each kind is made: one line here, and `make schema` keeps it with the shipped rules."""
    from responder.actions import ACTIONS
    from responder.calendars import Calendars
    from responder.config import Config
    from responder.contracts import Catalogue
    from responder.loader import DEFAULTS_MAY_HOLD
    from responder.notifiers import NOTIFIERS
    from responder.policies import Policies
    from responder.schema import config_schema, defaults_schema, file_schema, runbook_schema
    from responder.services import SERVICES

    return {
        Kind.RUNBOOK: lambda: runbook_schema(ACTIONS),
        Kind.DEFAULTS: lambda: defaults_schema(ACTIONS, DEFAULTS_MAY_HOLD),
        Kind.POLICIES: lambda: file_schema(Policies),
        Kind.CALENDARS: lambda: file_schema(Calendars),
        Kind.CONFIG: lambda: config_schema(Config, Catalogue(ACTIONS, NOTIFIERS, SERVICES)),
    }
