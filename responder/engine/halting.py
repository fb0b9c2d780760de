"""The pause file: while it exists this process changes nothing, whatever the store says (reliability.md S1).

A way to stop automation that needs neither the database nor our API: `touch` it, and at the latest a second later no
step is begun. Only a person removes it. What cannot be read pauses as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from responder.desk import Desk
from responder.timing import SECOND

LOG = logging.getLogger("responder.engine")

EVERY: Final = SECOND // 2
LONGEST: Final = 200
"""Characters of the file's first line that people are told."""


def halted_by(path: Path) -> str | None:
    """Why nothing may be changed, None when the file is not there. Never raises."""
    try:
        with path.open("rb") as file:
            line = file.readline(4 * LONGEST).decode(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"automation is paused: the pause file {path} cannot be read ({error.strerror})"
    why = "".join(c if c.isprintable() else "\ufffd" for c in line)[:LONGEST]
    return f"automation is paused by the file {path}" + (f": {why}" if why else "")


class Halting:
    """Looks at the file twice a second; `say` tells people of a change."""

    def __init__(self, desk: Desk, path: Path | None, say: Callable[[str], None]) -> None:
        self.path = path
        self._desk = desk
        self._say = say

    async def work(self, now: int) -> int | None:
        """One pass. Answers when the next is due (µs)."""
        # In a thread: a file system that hangs must hold up nothing else.
        found = None if self.path is None else await asyncio.to_thread(halted_by, self.path)
        before = self._desk.shelf.halted
        if found != before:
            self._desk.shelf = replace(self._desk.shelf, halted=found)
            said = found or "automation acts again: the pause file is gone"
            LOG.warning("%s", said)
            if (found is None) != (before is None):
                self._say(f"{said}. People are paged as always" if found else said)
        return now + EVERY
