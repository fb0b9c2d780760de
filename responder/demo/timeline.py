"""The timeline on the terminal: what the demo says and what the responder's console says, folded to the width.

It takes the place of standard output while the demo runs, because that is where the console notifier writes; nothing
else in the process prints. Colours only where a terminal shows them.
"""

from __future__ import annotations

import io
import re
import textwrap
from typing import Final, TextIO

WIDTH: Final = 80
"""Columns at most; a narrower terminal gets its own width."""
NARROWEST: Final = 40

_stamp = re.compile(r"(\d\d:\d\d:\d\d) {1,4}").match

_PLAIN: Final = "\033[0m"
_BOLD: Final = "\033[1m"
_DIM: Final = "\033[2m"
_RED: Final = "\033[1;31m"
_GREEN: Final = "\033[1;32m"
_YELLOW: Final = "\033[33m"


class Timeline(io.TextIOBase):
    """Writes whole lines to `output`, each folded under its own text. `columns` is the width of the terminal."""

    def __init__(self, output: TextIO, columns: int, *, colours: bool) -> None:
        super().__init__()
        self._output = output
        self._columns = max(NARROWEST, min(WIDTH, columns))
        self._colours = colours
        self._unfinished = ""

    def write(self, text: str) -> int:
        """Shows every line that `text` completes."""
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            self._output.write(f"{self._painted(line)}\n")
        self._output.flush()
        return len(text)

    def writable(self) -> bool:
        """As any standard output."""
        return True

    def _painted(self, line: str) -> str:
        folded = self._folded(line)
        colour = _colour(line) if self._colours else ""
        return f"{colour}{folded}{_PLAIN}" if colour else folded

    def _folded(self, line: str) -> str:
        if len(line) <= self._columns:
            return line
        stamp = _stamp(line)
        indent = " " * (12 if stamp else len(line) - len(line.lstrip()))
        return textwrap.fill(
            line,
            self._columns,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
        )


def _colour(line: str) -> str:
    """By who speaks: pages red, the platform and the demo in their own, the responder plain."""
    stamp = _stamp(line)
    said = line[stamp.end() :] if stamp else line
    marks = (("PAGE", _RED), ("──", _BOLD), ("platform:", _YELLOW), ("demo:", _DIM), ("✔", _GREEN), ("✘", _RED))
    return next((colour for mark, colour in marks if said.lstrip().startswith(mark)), "")
