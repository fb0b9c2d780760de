"""The console script: one table of commands, each in a file that is imported only when its name is on the command line.

Everything but the named command is a line of help, so that `responder --help` loads no rules, no web and no database
driver (design 9: within 0.3 s). Here is also the one place where an expected error becomes a sentence and an exit
status: 0 good, 1 the thing checked is bad, 2 wrong use.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from responder import __version__
from responder.cli.options import CONFIG
from responder.errors import ResponderError


class Entry(NamedTuple):
    """Where a command is (`module:function`), and the line that the list of commands says about it."""

    place: str
    says: str


COMMANDS: Final[dict[str, Entry]] = {
    "serve": Entry("serve:command", "Answer alerts: the server that Alertmanager posts to."),
    "demo": Entry("demo:command", "Watch a VaR breach being answered on a small trading platform."),
    "doctor": Entry("doctor:command", "Find out whether all would work: configuration, server, services, notifiers."),
    "lint": Entry("lint:command", "Check runbooks and policies; show every mistake at its place."),
    "schema": Entry("schema:command", "Print the JSON Schema of runbooks and other files, for editors."),
    "rbac": Entry("rbac:command", "Print the least rights that the runbooks need: Roles, GRANTs, ACL users."),
    "replay": Entry("replay:command", "Show what would be done about an alert, without doing it."),
    "record": Entry("record:command", "Keep what a running server received as files for replay."),
    "explain": Entry("explain:command", "Say which runbook answers an alert and why, gate by gate."),
    "status": Entry("status:command", "What is open and what it waits for, locks, changes in force."),
    "incidents": Entry("incidents:command", "List incidents, newest first."),
    "incident": Entry("incident:command", "Tell one incident: what happened, what is next, who has it."),
    "run": Entry("run:command", "Start a runbook by hand: show its plan, ask, begin."),
    "handover": Entry("handover:command", "What the next shift must know: open, unsettled, in force, due."),
    "dead-letters": Entry("dead_letters:command", "What could not be understood, and what nobody took."),
    "preview": Entry("preview:command", "Render a message template over an incident or a sample."),
    "ack": Entry("verbs:ack", "Say that you have seen an incident: the climb of its policy stops."),
    "takeover": Entry("verbs:takeover", "Take an incident over: automation stops acting on it."),
    "snooze": Entry("verbs:snooze", "Let nobody be woken by an incident for a while."),
    "escalate": Entry("verbs:escalate", "Tell the next level of an incident's policy now."),
    "override": Entry("verbs:override", "Let one run act outside the hours of its runbook."),
    "hold": Entry("verbs:hold", "Put off what a countdown has announced."),
    "cancel": Entry("verbs:cancel", "Stop an incident's run after the step in flight."),
    "approve": Entry("verbs:approve", "Say yes to what a run asks."),
    "deny": Entry("verbs:deny", "Say no to what a run asks."),
    "note": Entry("verbs:note", "Leave a word in an incident's story."),
    "done": Entry("verbs:done", "Say that a manual step is done: the run goes on."),
    "settle": Entry("verbs:settle", "Say whether a change of unknown outcome happened."),
    "unlock": Entry("verbs:unlock", "Release the lock on an incident's target."),
    "restore": Entry("verbs:restore", "Put back the change that an incident has in force."),
    "pause": Entry("verbs:pause", "Stop all automation; paging goes on."),
    "resume": Entry("verbs:resume", "Let automation act again."),
}

_ABOUT: Final = """Answers Prometheus alerts with runbooks: acts within limits, verifies, tells people.

Begin with `responder demo`, or with `responder serve` and a responder.yaml.
"""
_SETTINGS: Final = {"help_option_names": ["-h", "--help"]}


def main() -> None:
    """Run what the command line says, and exit with its status."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Run a command line (without the program's name); answers the exit status."""
    try:
        typer.main.get_command(_commands(words)).main(list(words), prog_name="responder")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except ResponderError as error:
        print(f"responder: {error}", file=sys.stderr)
        return int(getattr(error, "exit_status", 1))
    return 0


def _commands(words: Sequence[str]) -> typer.Typer:
    """All commands by name; those whose name is among the words are real, the others have their line of help only."""
    commands = typer.Typer(
        name="responder",
        help=_ABOUT,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=_SETTINGS,
    )
    commands.callback()(_everywhere)
    for name, entry in COMMANDS.items():
        function = _loaded(entry.place) if name in words else _not_named
        commands.command(name, short_help=entry.says, context_settings=_SETTINGS)(function)
    return commands


def _loaded(place: str) -> Callable[..., Any]:
    module, _, function = place.partition(":")
    return getattr(import_module(f"responder.cli.{module}"), function)  # type: ignore[no-any-return]


def _not_named() -> None:
    """Stands for a command that this command line does not name, so nothing calls it."""
    raise AssertionError("a command ran whose name is not on the command line")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"responder {__version__}")
        raise typer.Exit


def _everywhere(
    context: typer.Context,
    config: Annotated[Path | None, CONFIG] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    if config is not None:  # before the command's name or behind it: it means the same
        context.default_map = {name: {"config": str(config)} for name in COMMANDS}
