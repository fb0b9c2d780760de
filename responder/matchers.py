"""Label matchers in Alertmanager's syntax: `severity=~"critical|high"`, a comma list of them, with or without braces.

One text must mean here what it means in alertmanager.yml, so both of Alertmanager's parsers are followed, with the
choice that its default mode makes since 0.27: where the two differ, or only the classic one can read the text, the
classic one is right; so it is asked first, and the UTF-8 parser reads what is new. Not here: matchers joined by "or".
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product
from typing import Final

from responder.errors import BadSyntax
from responder.patterns import Pattern, compile_pattern, example

_SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_RESERVED: Final = _SPACE + "{}!=~,\\\\\"'`"
_space = re.compile(f"[{_SPACE}]*")
_token = re.compile(
    rf'(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<op>=~|!~|!=|=)|(?P<mark>[{{}},])|(?P<bare>[^{_RESERVED}]+)', re.DOTALL
)
_needs_quotes = re.compile(f"[{_RESERVED}]")
_classic = re.compile(
    r"[\t\n\f\r ]*([a-zA-Z_:][a-zA-Z0-9_:]*)[\t\n\f\r ]*(=~|=|!=|!~)[\t\n\f\r ]*(.*?)[\t\n\f\r ]*", re.DOTALL
)
_classic_escape = re.compile(r'\\([n"\\])')
_escape = re.compile(r'\\(?:([abfnrtv\\"])|x([0-9A-Fa-f]{2})|([0-7]{3})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8}))|[^\\]+')
_ESCAPES: Final = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}
_MAX_TEXT: Final = 16_384
_SHOWN: Final = 60


class Op(StrEnum):
    """How a matcher compares; the two regex forms always compare the whole value."""

    EQUAL = "="
    NOT_EQUAL = "!="
    MATCH = "=~"
    NOT_MATCH = "!~"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One comparison of a label's value; a label that is missing has the value "".

    Raises BadSyntax for an empty name and for a regular expression that RE2 refuses or patterns does not support.
    """

    name: str
    op: Op
    value: str
    pattern: Pattern | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if not self.name:
            raise BadSyntax("a matcher without a label name", str(self), 1, 'write name="value"')
        if self.op in (Op.MATCH, Op.NOT_MATCH):
            object.__setattr__(self, "pattern", compile_pattern(self.value))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels satisfy this matcher."""
        return self.accepts(labels.get(self.name, ""))

    def accepts(self, value: str) -> bool:
        """Whether this value of the label satisfies this matcher."""
        same = value == self.value if self.pattern is None else self.pattern.matches(value)
        return same == (self.op in (Op.EQUAL, Op.MATCH))

    def why_not(self, labels: Mapping[str, str]) -> str | None:
        """Why these labels do not satisfy this matcher, for people; None where they do."""
        if self.matches(labels):
            return None
        value = labels.get(self.name, "")
        if not value:
            return f"the alert has no label {self.name}, and {self} wants one"
        shown = value if len(value) <= _SHOWN else f"{value[: _SHOWN - 1]}…"
        return f'{self.name}="{_escaped(shown)}" does not match {self}'

    def __str__(self) -> str:
        """The text that parse_matcher reads back to an equal matcher."""
        name = f'"{_escaped(self.name)}"' if _needs_quotes.search(self.name) else self.name
        return f'{name}{self.op}"{_escaped(self.value)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def parse_matcher(text: str) -> Matcher:
    """The single matcher in the text; raises BadSyntax when there is none or more than one."""
    matchers = parse_matchers(text)
    if len(matchers) != 1:
        raise BadSyntax(f"expected one matcher, found {len(matchers)}", text, 1, 'write name="value"')
    return matchers[0]


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """The matchers of a comma list, in braces or not; empty for "" and "{}". Raises BadSyntax."""
    if len(text) > _MAX_TEXT:
        raise BadSyntax(f"matchers longer than {_MAX_TEXT} characters", text, 1, "write fewer or shorter ones")
    try:
        return _parse_classic(text)
    except BadSyntax:
        return _Utf8Parser(text).parse()  # whose column and hint are also the better ones


class _Utf8Parser:
    """Alertmanager's parser since 0.27: tokens, so that a name may be quoted and hold anything."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def refuse(self, message: str, hint: str, at: int | None = None) -> BadSyntax:
        return BadSyntax(message, self.text, (self.at if at is None else at) + 1, hint)

    def peek(self) -> re.Match[str] | None:
        """The token that comes next, or None at the end."""
        found = _space.match(self.text, self.at)
        self.at = found.end() if found else self.at
        token = _token.match(self.text, self.at)
        if token is None and self.at < len(self.text):
            closing = self.text[self.at] == '"'
            hint = 'add the closing "' if closing else "put values and unusual names into double quotes"
            raise self.refuse("a quoted text without its end" if closing else "not expected here", hint)
        return token

    def take(self, *marks: str) -> bool:
        token = self.peek()
        found = token is not None and token[0] in marks
        self.at = token.end() if token is not None and found else self.at
        return found

    def parse(self) -> tuple[Matcher, ...]:
        matchers: list[Matcher] = []
        braces = self.take("{")
        while (token := self.peek()) is not None and token[0] != "}":
            matchers.append(self.matcher())
            if not self.take(","):
                break
        if braces and not self.take("}"):
            raise self.refuse("a list that does not go on", "put a comma between matchers and } at the end")
        if (token := self.peek()) is not None:
            hint = "add { at the start" if token[0] == "}" else "put a comma between matchers"
            raise self.refuse("nothing may follow here", hint)
        return tuple(matchers)

    def matcher(self) -> Matcher:
        name = self.operand("a label name")
        token = self.peek()
        if token is None or token["op"] is None:
            raise self.refuse("expected an operator", "write = != =~ or !~ after the label name")
        self.at = token.end()
        self.peek()
        start = self.at
        value = self.operand("a value")
        try:
            return Matcher(name, Op(token["op"]), value)
        except BadSyntax as error:
            where = f" (column {error.column} of the pattern)" if error.text == value else ""
            raise self.refuse(f"{error.message}{where}", error.hint, start) from error

    def operand(self, what: str) -> str:
        token = self.peek()
        if token is None or token.lastgroup not in ("quoted", "bare"):
            raise self.refuse(f"expected {what}", 'write name="value"')
        text = self.unquoted(token) if token.lastgroup == "quoted" else token[0]
        self.at = token.end()
        return text

    def unquoted(self, token: re.Match[str]) -> str:
        """The text between double quotes, by the rules of a Go string literal."""
        inner, at, encoded = token[0][1:-1], 0, bytearray()
        while at < len(inner):
            part = _escape.match(inner, at)
            if part is None or "\n" in part[0]:
                raise self.refuse("an escape that does not exist", "write \\\\ for a backslash and \\n for a new line")
            encoded += _unescaped(part)
            at = part.end()
        try:
            return encoded.decode()
        except UnicodeDecodeError:
            raise self.refuse("escapes that make no UTF-8 text", "write the characters themselves") from None


def _unescaped(part: re.Match[str]) -> bytes:
    letter, hexadecimal, octal, short, long = part.groups()
    if letter:
        return bytes([_ESCAPES[letter]])
    if hexadecimal or octal:
        return bytes([int(hexadecimal, 16) if hexadecimal else int(octal, 8) & 0xFF])
    if short or long:
        code = int(short or long, 16)
        return chr(code).encode("utf-8", "surrogatepass") if code <= 0x10FFFF else b"\xff"
    return part[0].encode("utf-8", "surrogatepass")


def _parse_classic(text: str) -> tuple[Matcher, ...]:
    """Alertmanager's parser before 0.27: one matcher between commas that are outside quotes, hardly any escapes."""
    parts = list(_split_outside_quotes(text.removeprefix("{").removesuffix("}")))
    if not parts[-1].strip():
        parts.pop()
    return tuple(_parse_classic_matcher(part, text) for part in parts)


def _split_outside_quotes(text: str) -> Iterator[str]:
    start, quoted, escaped = 0, False, False
    for at, char in enumerate(text):
        if char == "," and not quoted:
            yield text[start:at]
            start = at + 1
        elif char == '"' and not escaped:
            quoted = not quoted
        escaped = char == "\\" and not escaped
    yield text[start:]


def _parse_classic_matcher(part: str, text: str) -> Matcher:
    found = _classic.fullmatch(part)
    if found is None:
        raise BadSyntax("not a matcher", text, 1, 'write name="value"')
    raw = found[3]
    quoted = raw.startswith('"')
    body = raw[1:-1] if quoted and len(raw) > 1 and raw.endswith('"') else raw
    bare = _classic_escape.sub("", body)
    if '"' in bare or (quoted and (body == raw or _ends_escaped(body))):
        raise BadSyntax("a double quote that is not escaped", text, 1, 'write \\" inside a value')
    return Matcher(found[1], Op(found[2]), _classic_escape.sub(lambda e: "\n" if e[1] == "n" else e[1], body))


def _ends_escaped(body: str) -> bool:
    return (len(body) - len(body.rstrip("\\"))) % 2 == 1


def provably_disjoint(a: Sequence[Matcher], b: Sequence[Matcher]) -> bool:
    """True only if no labels can satisfy both lists: some label has few possible values and none of them passes."""
    for matchers in _by_name([*a, *b]):
        values = _few_values(matchers)
        if values is not None and not any(_all_accept(matchers, value) for value in values):
            return True
    return False


def provably_overlap(a: Sequence[Matcher], b: Sequence[Matcher]) -> bool:
    """True only if labels exist that satisfy both lists: they are made up and tried. False means "not found"."""
    return all(any(_all_accept(matchers, value) for value in _guesses(matchers)) for matchers in _by_name([*a, *b]))


def _by_name(matchers: Iterable[Matcher]) -> list[list[Matcher]]:
    named: dict[str, list[Matcher]] = {}
    for matcher in matchers:
        named.setdefault(matcher.name, []).append(matcher)
    return list(named.values())


def _all_accept(matchers: Iterable[Matcher], value: str) -> bool:
    return all(matcher.accepts(value) for matcher in matchers)


def _few_values(matchers: Iterable[Matcher]) -> frozenset[str] | None:
    """The values that one of the matchers allows, where it allows only a few; None where none does."""
    for matcher in matchers:
        if matcher.op is Op.EQUAL:
            return frozenset({matcher.value})
        if matcher.op is Op.MATCH and matcher.pattern is not None and matcher.pattern.literals is not None:
            return matcher.pattern.literals
    return None


def _guesses(matchers: Sequence[Matcher]) -> Iterator[str]:
    """Values worth trying: the few possible ones, else any text and examples of each regex, also joined."""
    values = _few_values(matchers)
    if values is not None:
        yield from values
        return
    yield from ("another", "")
    examples = [example(m.pattern) for m in matchers if m.op is Op.MATCH and m.pattern is not None]
    yield from examples
    # `VaR.*` and `.*Breach` meet in "VaRBreach".
    yield from (left + right for left, right in product(examples, repeat=2))
