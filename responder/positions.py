"""Where a placeholder stands decides how its value is written, so that a label never becomes code (field.md 4.17).

A value reaches a request as the inside of a PromQL string, as a number, as a JSON value, as one percent-encoded part of
a path, as one header line, or as text for people: never as a metric name, an operator, a host, a path of its own or a
second header. For any value, the request differs only in that value's place. This module knows nothing of Jinja.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote

from responder.errors import ResponderError

MAX_VALUE = 65_536
"""Characters of one value before it is written anywhere; a longer one is refused unread, whatever limit follows."""
MAX_JSON_DEPTH = 32
SOME = "{{ … }}"
"""Stands in a hint for the placeholder that was refused; after `label=` the label is called like it."""


class Position(StrEnum):
    """What the text around a placeholder is."""

    TEXT = "text"
    PROMQL = "promql"
    JSON = "json"
    PATH = "path"
    HEADER = "header"


class Refused(ResponderError):
    """A placeholder or a value that must not stand where it stands. The message never shows the value."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


def placements(position: Position, pieces: Sequence[str | None]) -> Iterator[str]:
    """The name in ENCODERS for each placeholder (None) among the literal `pieces`, in order.

    Raises Refused at the first placeholder or literal that must not stand there.
    """
    match position:
        case Position.TEXT:
            return ("text" for piece in pieces if piece is None)
        case Position.JSON:
            return iter(["json"] if list(pieces) == [None] else ["json_text" for piece in pieces if piece is None])
        case Position.HEADER:
            return _header_placements(pieces)
        case Position.PATH:
            return _path_placements(pieces)
        case Position.PROMQL:
            return _promql_placements(pieces)


def check_rendered(position: Position, rendered: str) -> None:
    """Raise Refused when pieces that were fine alone are not fine together (`.` beside `.` in a path)."""
    if position is Position.PATH and any(unquote(part) in {".", ".."} for part in _segments(rendered)):
        raise Refused("a part of the path consists of dots only", "restrict the input with a type or pattern")
    if position is Position.HEADER and rendered != rendered.strip():
        raise Refused("the header value begins or ends with a space", "restrict the input with a type or pattern")


# ------------------------------------------------------------------------------------------------------------ headers


def _header_placements(pieces: Sequence[str | None]) -> Iterator[str]:
    for piece in pieces:
        if piece is None:
            yield "header"
        elif not _PRINTABLE.fullmatch(piece):
            raise Refused("a header value holds printable ASCII only", "remove line breaks and other characters")


# -------------------------------------------------------------------------------------------------------------- paths


def _path_placements(pieces: Sequence[str | None]) -> Iterator[str]:
    literal = "".join("x" if piece is None else piece for piece in pieces)
    _check_path(literal, pieces)
    in_query = False
    for piece in pieces:
        if piece is None:
            yield "path_query" if in_query else "path_part"
        else:
            in_query = in_query or "?" in piece


def _check_path(literal: str, pieces: Sequence[str | None]) -> None:
    first = pieces[0] if pieces else ""
    if not first or not first.startswith("/") or literal.startswith("//"):
        raise Refused("a path begins with one `/`", "write the path only; scheme and host belong to the service")
    if re.search(r"[^!-~]|[#\\]", literal):
        raise Refused("a path holds printable ASCII only, no space, `#` or backslash", "percent-encode the character")
    if any(unquote(part) in {".", ".."} for part in _segments(literal)):
        raise Refused("a part of the path consists of dots only", "write the path that is meant")
    if any(piece and _HALF_ENCODED.search(piece) for piece in pieces[:-1]):
        raise Refused("a placeholder completes a percent-encoding", "write `%25` for a percent sign")


_HALF_ENCODED = re.compile(r"%[0-9A-Fa-f]?$")


def _segments(path: str) -> list[str]:
    return path.partition("?")[0].split("/")


# ------------------------------------------------------------------------------------------------------------- PromQL

_CODE = ""
_OPENING = re.compile(r"[\"'`#]")
_INSIDE: Mapping[str, re.Pattern[str]] = {
    '"': re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL),
    "'": re.compile(r"(?:[^'\\]|\\.)*", re.DOTALL),
    "`": re.compile(r"[^`]*"),
    "#": re.compile(r"[^\n]*"),
}
_PLACES = {"'": "inside single quotes", "`": "inside backticks", "#": "inside a comment"}


@dataclass(frozen=True, slots=True)
class _Place:
    """`open` is the quote or `#` that one stands in, or nothing; `code` ends where that opened.

    Of the code before the last string only an open brace is kept.
    """

    open: str = _CODE
    code: str = ""


def _promql_placements(pieces: Sequence[str | None]) -> Iterator[str]:
    place, before = _Place(), ""
    for piece in pieces:
        if piece is None and before.endswith("\\"):
            raise Refused(
                "a placeholder stands after a backslash", "remove the backslash; values are escaped by themselves"
            )
        before = piece or ""
        if piece is None:
            yield _promql_placement(place)
            # A number was written: another one beside it would make a third.
            place = place if place.open else _Place(code="0")
        else:
            place = _after(piece, place)


def _promql_placement(place: _Place) -> str:
    if place.open in _PLACES:
        raise Refused(f"a placeholder stands {_PLACES[place.open]}", f'put it inside double quotes: "{SOME}"')
    code = place.code.rstrip()
    if place.open == _CODE:
        _check_code(place.code)
        return "promql_number"
    if not code.endswith("=") and not code.endswith(("=~", "!~")):
        raise Refused("a placeholder stands in a string that is no label value", f'write it as {{label="{SOME}"}}')
    return "promql_regex" if code.endswith("~") else "promql_string"


def _check_code(code: str) -> None:
    """Outside of all strings only a number may stand, and never among the labels, whose values are strings."""
    if _among_labels(code):
        begun = _begun_matcher.search(code)
        shown = f'{begun[1]}"{begun[2]}{SOME}"' if begun else f'label="{SOME}"'
        raise Refused("a placeholder stands among the labels without quotes", f"write {shown}")
    if re.search(r"[\w:.]$", code):
        metric = (re.findall(r"[A-Za-z_:][\w:]*$", code) or [""])[0].rstrip("_:")
        shown = f', such as {metric}{{label="{SOME}"}}' if metric else ""
        raise Refused(
            "a placeholder is joined to a name or number", f"only whole numbers and label values are open{shown}"
        )


_begun_matcher = re.compile(r"([A-Za-z_]\w*\s*(?:=~|!~|!=|=)\s*)([\w.:-]*)$")


def _among_labels(code: str) -> bool:
    return code.rfind("{") > code.rfind("}")


def _after(text: str, place: _Place) -> _Place:
    """The place after `text` when `place` was before it."""
    at = 0
    while at < len(text):
        if place.open == _CODE:
            opening = _OPENING.search(text, at)
            if opening is None:
                return _Place(code=place.code + text[at:])
            place = _Place(opening[0], place.code + text[at : opening.start()])
            at = opening.end()
            continue
        inside = _INSIDE[place.open].match(text, at)
        at = inside.end() if inside else at
        if at < len(text) and text[at] != "\\":  # a backslash here ends the text: what it escapes is refused
            place = _Place(code=("{" if _among_labels(place.code) else "") + text[at])
        at += 1
    return place


# ----------------------------------------------------------------------------------------------------------- encoders

_PRINTABLE = re.compile(r"[ -~]*")
# C0 and C1 controls but line feed, separators that act as line breaks, lone surrogates, marks that turn text round, and
# spaces without width. Joiners stay: emoji and several scripts are written with them.
UNSEEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_PROMQL_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_REGEX_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$-]")
_RESTRICT = "restrict the input with a type or pattern"


def plain(value: object) -> str:
    """One value as text: a string as it is, true and false, a finite number. Raises Refused for anything else."""
    if isinstance(value, str):
        if len(value) > MAX_VALUE:
            raise Refused(f"a value has {len(value)} characters, {MAX_VALUE} are allowed", _RESTRICT)
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _number(value)
    raise Refused(f"a value is {_named(value)}, not text or a number", "name one of its fields")


def clean(text: str) -> str:
    """Text for people without what cannot be seen or turns it round; line feeds stay, tabs become spaces."""
    return UNSEEN.sub("", text.replace("\r\n", "\n").replace("\t", " "))


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(
            f"a value is {_named(value)}, not a number", "put the placeholder inside double quotes, or type the input"
        )
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Refused("a number is NaN or infinite", "test for it in `when` first")
        return repr(float(value))
    if abs(value) > 10**300:
        raise Refused("a number is too large", _RESTRICT)
    return str(int(value))


def _named(value: object) -> str:
    if value is None:
        return "null"
    kinds = {str: "text", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "a list" if isinstance(value, list | tuple) else "an object")


def _promql_string(value: object) -> str:
    text = plain(value)
    if _SURROGATE.search(text):
        raise Refused("a value holds half a character (a lone surrogate)", _RESTRICT)
    return "".join(_promql_character(character) for character in text)


def _promql_character(character: str) -> str:
    if character in _PROMQL_ESCAPES:
        return _PROMQL_ESCAPES[character]
    return character if character.isprintable() or ord(character) > 0xFFFF else f"\\u{ord(character):04x}"


def _promql_regex(value: object) -> str:
    """The value as a literal inside a regular expression: `.*` selects what is called `.*`, not everything."""
    return _promql_string(_REGEX_SPECIAL.sub(r"\\\g<0>", plain(value)))


def _path_part(value: object) -> str:
    text = plain(value)
    if not text:
        raise Refused("an empty value stands in a path", _RESTRICT)
    # Encoded slashes are safe only where nobody decodes them early; a proxy may.
    if {".", ".."} & set(re.split(r"[/\\]", text)):
        raise Refused("a value for a path climbs in it", _RESTRICT)
    return quote(text, safe="")


def _path_query(value: object) -> str:
    return quote(plain(value), safe="")


def _header(value: object) -> str:
    text = plain(value)
    if not _PRINTABLE.fullmatch(text):
        raise Refused("a value for a header holds a line break or a character outside ASCII", _RESTRICT)
    return text


def _text(value: object) -> str:
    return clean(plain(value))


def json_copy(value: object, depth: int = 0) -> object:
    """A plain copy of a JSON value: finite numbers, string keys, bounded depth and strings. Raises Refused."""
    if depth > MAX_JSON_DEPTH:
        raise Refused(f"a value is nested deeper than {MAX_JSON_DEPTH}", "name one of its fields")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, int | float):
        _number(value)
        return value
    if isinstance(value, list | tuple):
        return [json_copy(item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        return {_json_key(key): json_copy(item, depth + 1) for key, item in value.items()}
    raise Refused(f"a value is {_named(value)} that JSON cannot hold", "name one of its fields")


def _json_key(key: object) -> str:
    if not isinstance(key, str):
        raise Refused("a key is not text", "name one of the fields")
    return plain(key)


ENCODERS: Mapping[str, Callable[[object], object]] = {
    "text": _text,
    "json": json_copy,
    "json_text": plain,
    "header": _header,
    "path_part": _path_part,
    "path_query": _path_query,
    "promql_number": _number,
    "promql_string": _promql_string,
    "promql_regex": _promql_regex,
}
"""How the value of one placeholder is written, by the names that `placements` gives."""
