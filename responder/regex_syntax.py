"""The syntax tree of a regular expression in the language of Go's RE2, which is what Alertmanager's matchers speak.

Parsed here and not handed to Python's `re`, because the two differ where it hurts (`$` before a last newline, Unicode
digits, lookaround, possessive repetition): whatever is accepted means what Alertmanager takes it to mean, all else is
refused with what to write instead. Refused although RE2 knows it: word boundaries, Unicode classes, multi-line mode and
quoting with \\Q. Matching is in patterns.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from responder.errors import BadSyntax

Ranges = tuple[tuple[int, int], ...]
"""Inclusive code point ranges."""

_MAX_TEXT: Final = 4_096
_MAX_DEPTH: Final = 100
_MAX_COUNT: Final = 1_000  # as RE2
_TOP: Final = 0x10FFFF

_DIGIT: Final[Ranges] = ((48, 57),)
_SPACE: Final[Ranges] = ((9, 10), (12, 13), (32, 32))
_WORD: Final[Ranges] = ((48, 57), (65, 90), (95, 95), (97, 122))
_PERL: Final = {"d": _DIGIT, "s": _SPACE, "w": _WORD}
_POSIX: Final[dict[str, Ranges]] = {
    "alnum": ((48, 57), (65, 90), (97, 122)), "alpha": ((65, 90), (97, 122)), "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)), "cntrl": ((0, 31), (127, 127)), "digit": _DIGIT, "graph": ((33, 126),),
    "lower": ((97, 122),), "print": ((32, 126),), "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)), "upper": ((65, 90),), "word": _WORD, "xdigit": ((48, 57), (65, 70), (97, 102)),
}  # fmt: skip
_braces = re.compile(r"\{(0|[1-9][0-9]*)(,?)((?:0|[1-9][0-9]*)?)\}")
_number = re.compile(r"\\(?:(0[0-7]{0,2}|[1-7][0-7]{1,2})|x([0-9A-Fa-f]{2})|x\{([0-9A-Fa-f]{1,8})\})")
_CONTROL: Final = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_REFUSED_ESCAPES: Final = {
    "b": "a word boundary, which is not supported: write out what may stand beside it",
    "B": "a word boundary, which is not supported: write out what may stand beside it",
    "p": "a Unicode class, which is not supported: write a range such as [a-zA-Z]",
    "P": "a Unicode class, which is not supported: write a range such as [^a-zA-Z]",
    "Q": "literal quoting, which is not supported: escape each special character with a backslash",
    "Z": "unknown to RE2: the end of the value is \\z or $",
}
_REFUSED_GROUPS: Final = {
    "?=": "lookahead, which RE2 does not have: use a second matcher on the same label",
    "?!": "negative lookahead, which RE2 does not have: use a second matcher with !~ on the same label",
    "?<=": "lookbehind, which RE2 does not have: use a second matcher on the same label",
    "?<!": "negative lookbehind, which RE2 does not have: use a second matcher with !~ on the same label",
    "?>": "an atomic group, which RE2 does not have: write (?:...)",
    "?#": "a comment, which RE2 does not have: remove it",
    "?(": "a condition, which RE2 does not have: write an alternation a|b",
    "?P=": "a backreference, which RE2 does not have: write the text out",
}


class Anchor(Enum):
    """A place that matches no character."""

    START = "^"
    END = "$"


@dataclass(frozen=True, slots=True)
class Chars:
    """One character out of (or, negated, outside of) the ranges; `fold` ignores the case."""

    ranges: Ranges
    negated: bool = False
    fold: bool = False

    def accepts(self, char: str) -> bool:
        """Whether this one character may stand here."""
        spellings = {char, char.lower(), char.upper()} if self.fold else {char}
        codes = [ord(spelling) for spelling in spellings if len(spelling) == 1]
        return any(low <= code <= high for code in codes for low, high in self.ranges) != self.negated


@dataclass(frozen=True, slots=True)
class Sequence:
    """One part after the other; empty matches the empty text."""

    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Choice:
    """Any one of the parts."""

    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Repeat:
    """The part `low` to `high` times, or without an end when `high` is None."""

    part: "Node"
    low: int
    high: int | None


Node = Chars | Anchor | Sequence | Choice | Repeat


def parse_regex(text: str) -> Node:
    """The tree of a regular expression; raises BadSyntax with column and cure."""
    return _Parser(text).whole()


class _Parser:
    """Recursive descent over RE2's grammar; `fold` and `dotall` are the flags in force at `at`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.fold = False
        self.dotall = False

    def refuse(self, message: str, hint: str, at: int | None = None) -> BadSyntax:
        return BadSyntax(message, self.text, (self.at if at is None else at) + 1, hint)

    def rest(self, prefix: str) -> bool:
        return self.text.startswith(prefix, self.at)

    def take(self, prefix: str) -> bool:
        found = self.rest(prefix)
        self.at += len(prefix) if found else 0
        return found

    def whole(self) -> Node:
        if len(self.text) > _MAX_TEXT:
            raise self.refuse(f"a pattern longer than {_MAX_TEXT} characters", "split it into several matchers")
        node = self.choice()
        if self.at < len(self.text):
            raise self.refuse("a ) without its (", "remove it, or write \\) for the character itself")
        return node

    def choice(self) -> Node:
        parts = [self.sequence()]
        while self.take("|"):
            parts.append(self.sequence())
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def sequence(self) -> Node:
        parts: list[Node] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            start = self.at
            part = self.single()
            if part is not None:
                parts.append(self.repeated(part))
            elif self.text[self.at : self.at + 1] in ("*", "+", "?"):
                raise self.refuse("nothing to repeat", "put a character, class or group before it", start)
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def repeated(self, part: Node) -> Node:
        counts = self.counts()
        if counts is None:
            return part
        self.take("?")  # reluctant: the same texts match as a whole
        start = self.at
        if self.counts() is not None:
            raise self.refuse("a repetition of a repetition", "RE2 has no possessive form; group with (?:...)", start)
        return Repeat(part, *counts)

    def counts(self) -> tuple[int, int | None] | None:
        for sign, found in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.take(sign):
                return found
        return self.braces() if self.rest("{") else None

    def braces(self) -> tuple[int, int | None] | None:
        found = _braces.match(self.text, self.at)
        if found is None:
            return None  # as in RE2, any other brace is the character itself
        least = int(found[1])
        most = (int(found[3]) if found[3] else None) if found[2] else least
        if max(least, most or 0) > _MAX_COUNT or (most is not None and most < least):
            raise self.refuse("a repetition that cannot be", f"write {{low,high}} with low <= high <= {_MAX_COUNT}")
        self.at = found.end()
        return least, most

    def single(self) -> Node | None:
        """The next part, or None where only flags were set or a repetition sign stands."""
        char = self.text[self.at]
        match char:
            case "*" | "+" | "?":
                return None
            case "(":
                return self.group()
            case "[":
                return self.bracket()
            case "\\":
                return self.escaped()
        self.at += 1
        if char == ".":
            return Chars(() if self.dotall else ((10, 10),), negated=True)
        return Anchor(char) if char in "^$" else self.literal(ord(char))

    def literal(self, code: int) -> Chars:
        return Chars(((code, code),), fold=self.fold)

    def group(self) -> Node | None:
        start = self.at
        self.at += 1
        for sign, why in _REFUSED_GROUPS.items():
            if self.rest(sign):
                raise self.refuse(f"({sign} is {why.partition(':')[0]}", why.partition(": ")[2], start)
        saved = self.fold, self.dotall
        if self.take("?P<") or self.take("?<"):
            self.group_name(start)
        elif self.take("?") and self.flags(start) == ")":
            return None  # (?i) holds to the end of the group it stands in
        if self.depth >= _MAX_DEPTH:
            raise self.refuse(f"groups nested deeper than {_MAX_DEPTH}", "write it flatter", start)
        self.depth += 1
        node = self.choice()
        self.depth -= 1
        if not self.take(")"):
            raise self.refuse("a ( without its )", "close it, or write \\( for the character itself", start)
        self.fold, self.dotall = saved
        return node

    def group_name(self, start: int) -> None:
        name, close, _ = self.text[self.at :].partition(">")
        if not close or not name.isascii() or not name.replace("_", "a").isalnum():
            raise self.refuse("a group name that RE2 refuses", "use (?:...), a name has no effect here", start)
        self.at += len(name) + 1

    def flags(self, start: int) -> str:
        on = True
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char in ":)":
                return char
            if char == "-":
                on = False
            elif char == "i":
                self.fold = on
            elif char == "s":
                self.dotall = on
            elif char != "U":  # U swaps greedy and reluctant, which decides nothing here
                break
        raise self.refuse("group flags that are not supported", "of RE2's flags use i, s, U and -", start)

    def escaped(self) -> Node:
        start, char = self.at, self.text[self.at + 1 : self.at + 2]
        if char in ("A", "z"):
            self.at += 2
            return Anchor.START if char == "A" else Anchor.END
        if char.lower() in _PERL and char:
            self.at += 2
            return Chars(_PERL[char.lower()], negated=char.isupper(), fold=self.fold)
        return self.literal(self.code(start))

    def code(self, start: int) -> int:
        """The code point of an escape, with `at` on its backslash."""
        char = self.text[self.at + 1 : self.at + 2]
        self.at += 2
        if char in _CONTROL:
            return _CONTROL[char]
        number = _number.match(self.text, start)
        if number is not None and (code := int(number[number.lastindex or 1], 8 if number[1] else 16)) <= _TOP:
            self.at = number.end()
            return code
        if char == "x":
            raise self.refuse("not a character number", "write \\x41 or \\x{1F600}", start)
        if char and char.isascii() and not char.isalnum():
            return ord(char)
        if char.isdigit() or char == "k":
            raise self.refuse("a backreference, which RE2 does not have", "write the text out", start)
        why = _REFUSED_ESCAPES.get(char, "unknown to RE2: write two backslashes for a backslash")
        raise self.refuse(f"\\{char} is {why.partition(':')[0]}", why.partition(": ")[2], start)

    def bracket(self) -> Chars:
        start = self.at
        self.at += 1
        negated = self.take("^")
        ranges: list[tuple[int, int]] = []
        first = True
        while first or not self.rest("]"):
            if self.at >= len(self.text):
                raise self.refuse("a [ without its ]", "close it, or write \\[ for the character itself", start)
            ranges.extend(self.bracket_item())
            first = False
        self.at += 1
        return Chars(tuple(ranges), negated, self.fold)

    def bracket_item(self) -> Ranges:
        start = self.at
        if self.rest("[:"):
            return self.posix(start)
        if self.rest("\\") and self.text[self.at + 1 : self.at + 2].lower() in ("d", "s", "w"):
            name = self.text[self.at + 1]
            self.at += 2
            return _PERL[name] if name.islower() else _outside(_PERL[name.lower()])
        low = self.bracket_code(start)
        if not self.rest("-") or self.text[self.at + 1 : self.at + 2] in ("]", ""):
            return ((low, low),)
        self.at += 1
        high = self.bracket_code(start)
        if high < low:
            raise self.refuse("a range that ends before it begins", "write the lower character first", start)
        return ((low, high),)

    def bracket_code(self, start: int) -> int:
        if self.rest("\\"):
            return self.code(start)
        self.at += 1
        return ord(self.text[self.at - 1])

    def posix(self, start: int) -> Ranges:
        name, close, _ = self.text[self.at + 2 :].partition(":]")
        ranges = _POSIX.get(name.removeprefix("^"))
        if not close or ranges is None:
            raise self.refuse("an unknown character class", f"known are {', '.join(_POSIX)}", start)
        self.at += len(name) + 4
        return _outside(ranges) if name.startswith("^") else ranges


def _outside(ranges: Ranges) -> Ranges:
    edges = [-1, *(edge for low, high in ranges for edge in (low, high)), _TOP + 1]
    return tuple((low + 1, high - 1) for low, high in zip(edges[::2], edges[1::2], strict=True) if low + 1 < high)
