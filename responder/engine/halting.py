"""The pause file: while it exists this process changes nothing, whatever the store says (reliability.md S1).

A way to stop automation that needs neither the database nor our API: `touch` it, and at the latest a second later no
step is begun. Only a person removes it. What cannot be read pauses as well.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from responder.desk import Desk
from responder.timing import SECOND

LOG = logging.getLogger("responder.engine")

EVERY: Final = SECOND // 2
PATIENCE: Final = 0.4
"""Seconds within which the file system answers: with `EVERY`, a pause is known within a second (reliability.md S1)."""
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
        self._looking: asyncio.Future[str | None] | None = None

    async def work(self, now: int) -> int | None:
        """One pass. Answers when the next is due (µs)."""
        found = None if self.path is None else await self._look(self.path)
        before = self._desk.shelf.halted
        if found != before:
            self._desk.shelf = replace(self._desk.shelf, halted=found)
            said = found or "automation acts again: the pause file is gone"
            LOG.warning("%s", said)
            if (found is None) != (before is None):
                self._say(f"{said}. People are paged as always" if found else said)
        return now + EVERY

    async def _look(self, path: Path) -> str | None:
        """See `halted_by`; a file system that hangs counts as one that cannot be read, and holds up nothing else."""
        if self._looking is None:
            self._looking = _read_beside(path)
        await asyncio.wait([self._looking], timeout=PATIENCE)
        if not self._looking.done():
            return f"automation is paused: the pause file {path} cannot be read (its file system does not answer)"
        found, self._looking = self._looking.result(), None
        return found


def _read_beside(path: Path) -> asyncio.Future[str | None]:
    """Reads the file in a thread of its own: one of the pool would be waited for when the program ends."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str | None] = loop.create_future()

    def read() -> None:
        found = halted_by(path)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(answer.set_result, found)

    threading.Thread(target=read, name="pause-file", daemon=True).start()
    return answer
