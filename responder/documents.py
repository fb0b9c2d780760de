"""YAML text as plain values with the place of each.

YAML 1.2's core schema, read from PyYAML's events: its own constructors are YAML 1.1, where `NO` is false and `1:30`
is 90, and give no positions. What makes a file mean something else than it shows (anchors, merge keys, tags, a key
written twice) is refused. This module knows nothing of runbooks or settings, and reads no file.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from pydantic import JsonValue

from responder.problems import Mark, Path, Problem, draw, lines_of, path_text

MAX_BYTES: Final = 1_000_000
"""Bytes of UTF-8 of one file; a larger one is refused before it is parsed."""
MAX_DEPTH: Final = 32
MAX_NODES: Final = 50_000
MAX_PROBLEMS: Final = 50
"""Problems of one file that are told; a file with more has one cause."""

Shown = Callable[[Path], bool]
"""Whether the text at a path may appear in a message; False where a secret might stand."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read. `value` is a tree of JSON values, None for an empty or unreadable file.

    `keys` and `values` lead from a path to the place of a mapping's key and of any value; `texts` holds the text of
    every file that these marks point into (defaults are merged from another one).
    """

    file: str
    value: JsonValue
    keys: Mapping[Path, Mark]
    values: Mapping[Path, Mark]
    texts: Mapping[str, str]
    problems: tuple[Problem, ...] = ()
    shown: Shown = field(default=lambda path: True)

    def at_key(self, path: Path, message: str, hint: str = "") -> Problem:
        """A problem with the key at `path`, or with the value where it has none."""
        return self.problem(self.keys.get(path) or self.mark(path), path, message, hint)

    def at_value(self, path: Path, message: str, hint: str = "") -> Problem:
        """A problem with the value at `path`, or what is nearest to it."""
        return self.problem(self.mark(path), path, message, hint)

    def at_text(self, path: Path, place: tuple[int, int], message: str, hint: str = "") -> Problem:
        """A problem at (line, column) of the text that is the value at `path`, if it stands on one line of the file."""
        mark, source = self.mark(path), self.get(path)
        lines = lines_of(self.texts.get(mark.file, ""))
        if isinstance(source, str) and source and place[0] == 1 and mark.line <= len(lines):
            start = lines[mark.line - 1].find(source, mark.column - 1)
            if start >= 0:
                mark = Mark(mark.file, mark.line, start + place[1])
        return self.problem(mark, path, message, hint)

    def mark(self, path: Path) -> Mark:
        """The place of the value at `path`, of the nearest thing around it where it does not exist."""
        for length in range(len(path), -1, -1):
            found = self.values.get(path[:length])
            if found is not None:
                key = self.keys.get(path[:length])
                around = length < len(path) and isinstance(self.get(path[:length]), dict | list)
                return key if key is not None and around else found
        return Mark(self.file, 1, 1)

    def problem(self, mark: Mark, path: Path, message: str, hint: str = "") -> Problem:
        """A problem at any place of the texts; of a line with something secret only the key is drawn."""
        snippet = draw(mark, self.texts.get(mark.file, ""), hidden=not self.shown(path))
        return Problem(mark.file, mark.line, mark.column, path_text(path), message, hint, snippet)

    def get(self, path: Path) -> JsonValue:
        """The value at `path`, None where there is none."""
        value: Any = self.value
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value  # type: ignore[no-any-return]


def decode(file: str, raw: bytes) -> tuple[str, tuple[Problem, ...]]:
    """The text of a file's bytes, or "" and why it cannot be read."""
    if len(raw) > MAX_BYTES:
        hint = "split it: one runbook a file"
        return "", (Problem(file, 1, 1, "", f"the file is larger than {MAX_BYTES:,} bytes", hint),)
    try:
        return raw.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8 text"
        return "", (Problem(file, line, column, "", message, "save the file as UTF-8"),)


# -------------------------------------------------------------------------------------------------------- plain scalars

_CONSTANTS: Final[Mapping[str, JsonValue]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_integer = re.compile(r"[-+]?[0-9]+").fullmatch
_octal = re.compile(r"0o[0-7]+").fullmatch
_hexadecimal = re.compile(r"0x[0-9a-fA-F]+").fullmatch
_float = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?").fullmatch
_not_finite = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)").fullmatch
_NUMBER_STARTS: Final = frozenset("-+.0123456789")
_LONGEST_NUMBER: Final = 24


def resolve(text: str) -> JsonValue:
    """What a scalar without quotes means in YAML 1.2's core schema. Raises ValueError for unusable numbers."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    number = _number(text)
    return text if number is None else number


def _number(text: str) -> int | float | None:
    base = 10 if _integer(text) else 8 if _octal(text) else 16 if _hexadecimal(text) else 0
    if not base and _not_finite(text):
        raise ValueError(f"{text} is not a number that can be used")
    if not base and not _float(text):
        return None
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} characters")
    number = int(text, base) if base else float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large a number")
    return number


# -------------------------------------------------------------------------------------------------------------- reading

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Line breaks that editors do not show would shift every later line number, so they are refused with the controls.
_invisible = re.compile("[^\t\n\r -~\u00a0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]").search
_INVISIBLE_HINT = 'remove it, or write it as an escape in double quotes ("\\u2028")'
_QUOTE_TEMPLATE = "put the whole value into quotes: '{{ symbol }}'"

# What libyaml says, and what people can do about it.
_HINTS: Final = (
    ("found character that cannot start any token", "indent with spaces; text that begins with @ ` or % needs quotes"),
    ("mapping values are not allowed", "put text that contains ': ' into quotes, or check the indentation"),
    ("could not find expected ':'", "write `key: value`, or check the indentation"),
    ("did not find expected key", "check the indentation and the quotes of this line and the one before"),
    ("did not find expected ',' or", "close the bracket, or put text with brackets into quotes"),
    ("did not find expected '-' indicator", "check the indentation: entries of a list stand below each other"),
    ("found unexpected end of stream", "close the quote or bracket that begins here"),
    ("block scalar", "put text that begins with > or | into quotes"),
    ("alias", "put text that begins with * into quotes"),
    ("anchor", "put text that begins with & into quotes"),
    ("escape", "use single quotes, in which a backslash is a backslash"),
)


class _Fatal(Exception):
    """Reading this file cannot go on; its problem is recorded already."""


def parse_document(file: str, text: str, shown: Shown = lambda path: True) -> Document:
    """The values and places of one YAML document; what is wrong with it is in `problems`, never raised.

    Where `shown` is False for a path, neither messages nor snippets repeat the text that stands there.
    """
    text = text.removeprefix("\ufeff")
    reader = _Reader(file, text, shown)
    try:
        value = reader.read()
    except _Fatal:
        value = None
    return Document(file, value, reader.keys, reader.values, {file: text}, tuple(reader.problems), shown)


class _Reader:
    """Turns events into values, noting where each stands."""

    def __init__(self, file: str, text: str, shown: Shown) -> None:
        self.file = file
        self.text = text
        self.shown = shown
        self.keys: dict[Path, Mark] = {}
        self.values: dict[Path, Mark] = {}
        self.problems: list[Problem] = []
        self.nodes = 0

    def read(self) -> JsonValue:
        self.check_text()
        loader = _LOADER(self.text)
        self.next: Callable[[], Any] = loader.get_event
        try:
            return self.stream()
        except yaml.MarkedYAMLError as error:
            raise self.unreadable(error) from None
        finally:
            loader.dispose()

    def check_text(self) -> None:
        if len(self.text) > MAX_BYTES or len(self.text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            message = f"the file is larger than {MAX_BYTES:,} bytes"
            self.problems.append(Problem(self.file, 1, 1, "", message, "split it: one runbook a file"))
            raise _Fatal
        found = _invisible(self.text)
        if found is not None:
            before = lines_of(self.text[: found.start()])
            mark = Mark(self.file, len(before), len(before[-1]) + 1)
            raise self.fatal(mark, (), f"an invisible character, U+{ord(found[0]):04X}", _INVISIBLE_HINT)

    def stream(self) -> JsonValue:
        self.next()
        event = self.next()
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self.node(self.next(), ())
        self.next()
        if not isinstance(event := self.next(), yaml.StreamEndEvent):
            self.tell(self.mark(event), (), "a second document begins here", "write it into a file of its own")
        return value

    def node(self, event: Any, path: Path) -> JsonValue:
        self.nodes += 1
        mark = self.values[path] = self.mark(event)
        if self.nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise self.fatal(
                mark, path, "too much, or nested too deeply", f"at most {MAX_NODES:,} values, {MAX_DEPTH} levels"
            )
        if isinstance(event, yaml.AliasEvent):
            self.tell(
                mark, path, "aliases are not used here", "write the value out; a folder shares its _defaults.yaml"
            )
            return None
        self.refuse_decoration(event, mark, path)
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event, mark, path)
        return self.sequence(path) if isinstance(event, yaml.SequenceStartEvent) else self.mapping(path)

    def refuse_decoration(self, event: Any, mark: Mark, path: Path) -> None:
        if event.anchor is not None:
            self.tell(
                mark, path, "anchors are not used here", "write the value out; a folder shares its _defaults.yaml"
            )
        if event.tag is not None:
            self.tell(mark, path, "tags are not used here", "remove it, or put text that begins with ! into quotes")

    def scalar(self, event: Any, mark: Mark, path: Path) -> JsonValue:
        if event.style or not event.implicit[0]:
            return str(event.value)
        try:
            return resolve(event.value)
        except ValueError as error:
            message = str(error) if self.shown(path) else "not a number that can be used"
            self.tell(mark, path, message, "write a smaller number, or put text into quotes")
            return None

    def sequence(self, path: Path) -> list[JsonValue]:
        items: list[JsonValue] = []
        while not isinstance(event := self.next(), yaml.SequenceEndEvent):
            items.append(self.node(event, (*path, len(items))))
        return items

    def mapping(self, path: Path) -> dict[str, JsonValue]:
        found: dict[str, JsonValue] = {}
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            key = self.key(event, path)
            inner, mark = (*path, key), self.mark(event)
            if key in found:
                self.tell(
                    mark,
                    inner,
                    f"the key {key!r} is written twice",
                    f"first on line {self.keys[inner].line}; remove one",
                )
                self.skip()
                continue
            self.keys[inner] = mark
            found[key] = self.node(self.next(), inner)
        return found

    def key(self, event: Any, path: Path) -> str:
        mark = self.mark(event)
        if not isinstance(event, yaml.ScalarEvent):
            raise self.fatal(mark, path, "a key must be text", _QUOTE_TEMPLATE)
        self.refuse_decoration(event, mark, path)
        if not event.style and event.value == "<<":
            hint = "write the keys out; a folder shares its _defaults.yaml"
            self.tell(mark, path, "merge keys (<<) are not used here", hint)
        elif not event.style and not isinstance(self.scalar(event, mark, path), str):
            self.tell(
                mark,
                path,
                "a key must be text",
                f"put it into quotes: '{event.value}'" if self.shown(path) else "quote it",
            )
        return str(event.value)

    def skip(self) -> None:
        """Pass over the value of a key that is written twice."""
        depth = 0
        while True:
            event = self.next()
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth <= 0:
                return

    def mark(self, event: Any) -> Mark:
        start, end = event.start_mark, event.end_mark
        width = end.column - start.column if end.line == start.line else 1
        return Mark(self.file, start.line + 1, start.column + 1, max(width, 1))

    def tell(self, mark: Mark, path: Path, message: str, hint: str) -> None:
        snippet = draw(mark, self.text, hidden=not self.shown(path))
        self.problems.append(Problem(self.file, mark.line, mark.column, path_text(path), message, hint, snippet))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _Fatal

    def fatal(self, mark: Mark, path: Path, message: str, hint: str) -> _Fatal:
        self.tell(mark, path, message, hint)
        return _Fatal()

    def unreadable(self, error: yaml.MarkedYAMLError) -> _Fatal:
        said = f"{error.problem or ''} {error.context or ''}".strip()
        hint = next(
            (hint for part, hint in _HINTS if part in said), "check the indentation and the quotes of this line"
        )
        place = error.context_mark if "end of stream" in said and error.context_mark else error.problem_mark
        mark = Mark(self.file, place.line + 1, place.column + 1) if place else Mark(self.file, 1, 1)
        if place and _standing_at(self.text, place) == "\t":
            return self.fatal(mark, (), "a tab stands here", "indent with spaces")
        return self.fatal(mark, (), f"this is not YAML: {error.problem or error.context}", hint)


def _standing_at(text: str, place: Any) -> str:
    """The character at a mark of PyYAML, which counts lines as YAML does; "" beyond the end."""
    lines = lines_of(text)
    line = lines[place.line] if place.line < len(lines) else ""
    return line[place.column : place.column + 1]
