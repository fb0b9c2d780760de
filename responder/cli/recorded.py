"""Where replayed notifications come from: files, directories, standard input, or what a running server has stored."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from responder.cli.client import Failed, Said, Server, find_server
from responder.errors import BadPayload, BadSyntax

if TYPE_CHECKING:
    from responder.recordings import Recording

SUFFIXES: Final = (".json", ".jsonl")
"""The files of a directory that are looked at; hidden ones are not."""
STDIN: Final = "-"
PAGE: Final = 100
"""Notifications asked for at a time; the server answers fewer when they are large."""


def from_paths(words: list[str]) -> list[Recording]:
    """The recordings of files, directories (all *.json and *.jsonl in them, by name) and `-`, in this order.

    Raises typer.BadParameter, with the file and the cure.
    """
    return [recording for word in words for path in _files(word) for recording in _read(path)]


def from_server(config: Path | None, *, since: str | None, incident: str | None) -> list[Recording]:
    """What the running server has stored, oldest first: since a duration ago or a time (RFC 3339), or of an incident.

    Raises typer.BadParameter for a `since` that is neither, Failed where the server cannot answer.
    """
    server = find_server(Said(config, None, None), os.environ)
    return [recording_of(entry) for entry in stored(server, since=moment_of(since), until=None, incident=incident)]


# --- files ------------------------------------------------------------------------------------------------------------


def _files(word: str) -> list[str]:
    folder = Path(word)
    if word == STDIN or not folder.is_dir():
        return [word]
    try:
        found = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and not p.name.startswith("."))
    except OSError as error:
        raise _unreadable(word, error) from None
    if not found:
        raise typer.BadParameter(f"{word}: no *.json or *.jsonl in it; `responder record --to {word}` writes some")
    return [str(path) for path in found]


def _read(path: str) -> list[Recording]:
    from responder.recordings import read_recordings

    try:
        content = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
        return read_recordings("standard input" if path == STDIN else path, content)
    except OSError as error:
        raise _unreadable(path, error) from None
    except BadPayload as error:
        raise typer.BadParameter(str(error)) from None


def _unreadable(word: str, error: OSError) -> typer.BadParameter:
    hint = "; labels need --alert NAME before them" if "=" in word else "; check its path and permissions"
    return typer.BadParameter(f"{word}: cannot be read ({error.strerror}){hint}")


# --- the server -------------------------------------------------------------------------------------------------------


def stored(server: Server, *, since: int | None, until: int | None, incident: str | None) -> Iterator[dict[str, Any]]:
    """The stored notifications as GET /api/v1/notifications tells them, page after page; times in µs. Raises Failed."""
    after: str | None = None
    while True:
        answer, _ = server.get(
            "/notifications",
            since=_written(since),
            until=_written(until),
            incident=incident,
            after=after,
            limit=str(PAGE),
        )
        yield from answer["notifications"]
        after = answer["next"]
        if after is None:
            return


def recording_of(entry: dict[str, Any]) -> Recording:
    """One stored notification, exactly as it came."""
    import json

    from responder.recordings import Recording
    from responder.timing import parse_time

    return Recording(entry["id"], parse_time(entry["received_at"]), json.dumps(entry["body"]).encode())


def moment_of(text: str | None, option: str = "--since") -> int | None:
    """µs of a time (RFC 3339), or of a duration before now. Raises typer.BadParameter."""
    from responder.timing import parse_duration, parse_time
    from responder.wall_clock import wall_clock

    if text is None:
        return None
    try:
        return parse_time(text)
    except BadSyntax as no_time:
        try:
            return max(0, wall_clock() - parse_duration(text))
        except BadSyntax:
            said = f"{text!r} is neither a duration such as 1h30m nor a time such as 2026-11-20T17:02:42Z"
            raise typer.BadParameter(f"{said} ({no_time.hint})", param_hint=option) from None


def _written(at: int | None) -> str | None:
    from responder.timing import format_time

    return None if at is None else format_time(at)


__all__ = ["Failed", "from_paths", "from_server", "moment_of", "recording_of", "stored"]
