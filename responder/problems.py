"""A finding in a file that people wrote, drawn below the line where it stands.

Only the form: what counts as a problem is decided by whoever reads the file.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

Path = tuple[str | int, ...]
"""The way from the top of a file to one value: keys and indices."""

_SNIPPET = 110
_simple = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*").fullmatch


class Mark(NamedTuple):
    """A place in a file; `line` and `column` count from 1, `width` is the number of characters to underline."""

    file: str
    line: int
    column: int
    width: int = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `snippet` is the drawn line, "" where it must not be shown; str(problem) is complete.

    `code` names the kind of a warning, so that a comment can allow it; "" for what must not be loaded.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""
    snippet: str = ""
    code: str = ""

    def __str__(self) -> str:
        at = f"{self.path}: " if self.path else ""
        lines = [f"{self.file}:{self.line}:{self.column}: {at}{self.message}" + (f" [{self.code}]" * bool(self.code))]
        lines += self.snippet.splitlines()
        lines += [f"   hint: {self.hint}"] if self.hint else []
        return "\n".join(lines)


def path_text(path: Path) -> str:
    """`steps[0].with.to`."""
    parts = []
    for part in path:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        else:
            parts.append(f".{part}" if _simple(part) else f'["{_visible(part)[:80]}"]')
    return "".join(parts).removeprefix(".")


_key_alone = re.compile(r"\s*(?:- )*(?:[A-Za-z_][\w-]*:(?= |$))?").match


def draw(mark: Mark, text: str, *, hidden: bool = False) -> str:
    """The line of a mark with carets below the place, a window of it when it is long; "" where there is no text.

    `hidden`: only a key at its beginning is shown, because a secret may stand on it.
    """
    lines = lines_of(text)
    if mark.line > len(lines) or not lines[mark.line - 1].strip():
        return ""
    full, column, width = lines[mark.line - 1], mark.column - 1, mark.width
    if hidden:
        key = _key_alone(full)
        full = f"{key[0].rstrip() if key and key[0].strip() else key[0] if key else ''} …"
        column, width = min(column, len(full) - 1), width if column + width < len(full) else 1
    start = max(0, column - _SNIPPET // 2) if len(full) > _SNIPPET else 0
    line = _visible(full[start : start + _SNIPPET]).rstrip()
    carets = "^" * max(1, min(width, len(line) - column + start))
    return f"{mark.line:>5} | {line}\n{'':5} | {'':{column - start}}{carets}"


def lines_of(text: str) -> list[str]:
    """The lines of a text, however they end."""
    return re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff"))


def _visible(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text.replace("\t", " "))
