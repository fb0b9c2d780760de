"""`responder record`: what a running server received, as files that `responder replay` reads, without secrets."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from responder.cli.client import Asked, Failed, Server, asks
from responder.cli.output import count, plain, print_json
from responder.cli.recorded import moment_of, stored
from responder.timing import SECOND, format_time, parse_time

if TYPE_CHECKING:
    from responder.recordings import Origin

FOLLOWS: Final = 2.0
"""Seconds between two looks of --follow."""
OVERLAP: Final = 10 * SECOND
"""How far --follow looks back each time: replicas that share a store may commit a little out of order."""
LISTED: Final = 20
"""Redactions that are named one by one."""

_an_id = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch

Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="From when on: a duration ago (1h), or RFC 3339; else from the first."),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Until when, written alike; else until now.")]
Incident = Annotated[str | None, typer.Option(metavar="ID", help="Only those with an alert of this incident.")]
Folder = Annotated[Path, typer.Option("--to", metavar="DIR", help="Where to write; it is made when it is missing.")]
Follow = Annotated[bool, typer.Option("--follow", help="Go on with what comes, until interrupted.")]


@asks
def command(
    asked: Asked,
    since: Since = None,
    until: Until = None,
    incident: Incident = None,
    to: Folder = Path("recordings"),
    follow: Follow = False,
) -> int:
    """Write each notification that the server received into a file, with secrets redacted.

    \b
    responder record --since 1h
    responder record --incident 7d3k --to tests/payloads && responder replay tests/payloads

    The files are readable by you only: what is no secret by its form or name may still be none of others' business.
    Exit status 1 when a file was there already with other content: it is kept.
    """
    if follow and until is not None:
        raise typer.BadParameter("--follow goes on without end: leave --until out", param_hint="--until")
    begin, end = moment_of(since), moment_of(until, "--until")
    written = Written(_made(to))
    written.take(stored(asked.server, since=begin, until=end, incident=incident))
    if follow:
        _follow(asked.server, written, begin, incident)
    if asked.json:
        print_json(written.as_json())
    else:
        print("\n".join(written.told()))
    return 1 if written.conflicts else 0


class Unwritable(Failed):
    """A file that cannot be written: asking again does not help."""


def _follow(server: Server, written: Written, begin: int | None, incident: str | None) -> None:
    """Until interrupted; a server that does not answer now may do so later."""
    said = ""
    try:
        while True:
            time.sleep(FOLLOWS)
            try:
                written.take(stored(server, since=written.from_here(begin), until=None, incident=incident))
                said = ""
            except Failed as failed:
                if failed.exit_status != 1 or isinstance(failed, Unwritable):
                    raise
                if said != str(failed):
                    said = str(failed)
                    print(f"responder: {said}; asking again", file=sys.stderr)
    except KeyboardInterrupt:
        print(file=sys.stderr)


@dataclass(slots=True)
class Written:
    """The files of one command. Raises Failed where one cannot be written."""

    folder: Path
    files: list[str] = field(default_factory=list)
    there: int = 0
    conflicts: list[str] = field(default_factory=list)
    redacted: list[str] = field(default_factory=list)
    latest: int | None = None
    seen: set[str] = field(default_factory=set)

    def take(self, entries: Iterator[dict[str, Any]]) -> None:
        """Write what was not taken yet."""
        for entry in entries:
            self.latest = max(parse_time(entry["received_at"]), self.latest or 0)
            if entry["id"] not in self.seen:
                self.seen.add(entry["id"])
                self._write(entry)

    def from_here(self, begin: int | None) -> int | None:
        """From when on there may be something new."""
        return begin if self.latest is None else max(begin or 0, self.latest - OVERLAP)

    def _write(self, entry: dict[str, Any]) -> None:
        name, content, found = file_of(entry)
        path = self.folder / name
        try:
            new = _create(path, content)
            same = new or path.read_bytes() == content
        except OSError as error:
            raise Failed(
                f"{path}: cannot be written ({error.strerror}): see to it, or name another with --to", 1
            ) from None
        if not same:
            self.conflicts.append(name)
            return
        self.there += not new
        if new:
            self.files.append(name)
            self.redacted += [f"{name}: {what}" for what in found]

    def told(self) -> Iterator[str]:
        """For people."""
        yield f"{count(len(self.files), 'notification')} written to {self.folder}"
        if self.there:
            yield f"{count(self.there, 'notification')} there already"
        if self.redacted:
            yield f"{count(len(self.redacted), 'value')} redacted:"
            yield from (f"  {plain(what)}" for what in self.redacted[:LISTED])
        if len(self.redacted) > LISTED:
            yield f"  and {len(self.redacted) - LISTED} more"
        for name in self.conflicts:
            yield f"{name} is there with other content and was kept: move it away, or name another directory with --to"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "directory": str(self.folder),
            "written": self.files,
            "there_already": self.there,
            "kept": self.conflicts,
            "redacted": self.redacted,
        }


def file_of(entry: dict[str, Any]) -> tuple[str, bytes, tuple[str, ...]]:
    """A stored notification's file: its name, its content without secrets, and what was taken out. Raises Failed."""
    from responder.recordings import with_fingerprints, write_recording
    from responder.redaction import redact

    origin, body = _origin(entry), entry["body"]
    redaction = redact(with_fingerprints(body))
    assert isinstance(redaction.notification, dict)
    return f"{_stamp(origin.at)}-{origin.id}.json", write_recording(origin, redaction.notification), redaction.found


def _stamp(at: int) -> str:
    """`20261120T170242.500000Z`: sorted by name is sorted by time."""
    second = format_time(at - at % SECOND).removesuffix("Z")
    return f"{second.replace('-', '').replace(':', '')}.{at % SECOND:06}Z"


def _origin(entry: dict[str, Any]) -> Origin:
    from responder.recordings import Origin

    if not _an_id(entry["id"]):
        raise Failed(f"the server named a notification {plain(entry['id'])[:80]!r}, which is no id: check --url")
    return Origin(parse_time(entry["received_at"]), entry["id"], entry["source"], entry["receiver"])


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise typer.BadParameter(
            f"{folder}: cannot be made ({error.strerror}): name another", param_hint="--to"
        ) from None
    return folder


def _create(path: Path, content: bytes) -> bool:
    """Write a new file that only its owner can read; False when there is one, or a link of that name."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except BaseException:
        path.unlink(missing_ok=True)  # half a file would be kept for ever as another content
        raise
    return True
