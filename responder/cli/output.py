"""How answers look to a person: words, times, tables and JSON, at 80 columns and without colour as well as with.

What people and services wrote comes from anywhere, so nothing of it reaches the terminal as a control sequence, as
markup or as a line of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from responder.timing import DAY, SECOND, format_time, humanize, parse_time
from responder.wall_clock import wall_clock

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

SHORT: Final = 8
"""Characters of an id in tables: enough to be unique, short enough to be typed."""

_STYLES: Final[Mapping[str, str]] = {
    "critical": "bold red", "unknown": "bold red", "failed": "bold red", "harmful": "bold red", "ineffective": "red",
    "unverified": "red", "high": "red", "warning": "yellow", "acting": "yellow", "verifying": "yellow",
    "waiting": "yellow", "asked": "yellow", "approval": "yellow", "snoozed": "yellow", "running": "yellow",
    "open": "bold", "fixed": "green", "done": "green",
    "ok": "green", "observed": "green", "contained": "yellow", "closed": "dim", "skipped": "dim", "pending": "dim",
}  # fmt: skip
"""Colour repeats what a word says already; nothing is said by colour alone."""

_moment = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


def print_json(content: Any) -> None:
    """Exactly the answer of the API, as ASCII: no terminal makes anything of it."""
    print(json.dumps(content, indent=2))


def paper() -> Console:
    """Where to print: styles only on a terminal that wants them, 80 columns where nobody says otherwise."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def text(value: object, style: str = "") -> Text:
    """Somebody's words, on one line and without control characters; what is appended has a style of its own."""
    from rich.text import Text

    return Text().append(plain(value), style)


def held_by(lock: Mapping[str, Any]) -> str:
    """Which run holds a lock, and whether a higher severity need not wait for it."""
    return f"run {lock['run']}{', verifying' if lock.get('verifying') else ''}"


def word(value: str | None) -> Text:
    """A status, severity, outcome or result, in its colour."""
    return text(value or "-", _STYLES.get(value or "", ""))


def plain(value: object) -> str:
    """One line: line breaks and tabs become spaces, and what is not printable the replacement character."""
    return "".join(" " if c.isspace() else c if c.isprintable() else "�" for c in str(value))


def heading(title: str) -> Text:
    """The line above a section."""
    return text(title.upper(), "bold")


def table(columns: Sequence[str], rows: Iterable[Sequence[RenderableType]]) -> Table:
    """Columns under their names, without lines; only the last one wraps."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(columns))
    for name in columns[:-1]:
        made.add_column(name, no_wrap=True)
    made.add_column(columns[-1], overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def pairs(rows: Iterable[tuple[str, RenderableType]]) -> Table:
    """Names with what each is."""
    return table(("", ""), [(text(name, "dim"), value) for name, value in rows])


# --- times ------------------------------------------------------------------------------------------------------------


def now_of(date: str | None) -> int:
    """The present (µs): the server's by the Date header of its answer, for two clocks may differ; else our own."""
    try:
        return int(parsedate_to_datetime(date or "").timestamp()) * SECOND
    except ValueError:
        return wall_clock()


def moment(written: str | None) -> int | None:
    """The µs of a time of the API."""
    return None if written is None else parse_time(written)


def clock(at: int, now: int) -> str:
    """`17:02:42` in UTC, with the date when it is another day's."""
    written = format_time(at - at % SECOND)
    return written[11:19] if at // DAY == now // DAY else f"{written[:10]} {written[11:19]}"


def ago(at: int, now: int) -> str:
    """`2m 05s ago`, or `in 2m 55s`."""
    return f"in {humanize(at - now)}" if at > now else f"{humanize(now - at)} ago"


def counted_down(phrase: str, now: int) -> str:
    """A sentence of the API whose times are told as the clock shows them, with how long it is until then."""

    def told(found: re.Match[str]) -> str:
        at = parse_time(found[0])
        return f"{clock(at, now)} ({ago(at, now)})"

    return _moment.sub(told, phrase)


def count(number: int, thing: str) -> str:
    """`1 problem`, `3 problems`, `no problems`."""
    return f"{number or 'no'} {thing}{'' if number == 1 else 's'}"
