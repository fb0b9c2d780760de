"""Which series a PromQL query selects, so that a check of one env is told when it also reads another.

A reader of names and braces, no parser: whether the query is PromQL at all is for Prometheus to say. What it cannot
see: labels that Prometheus never stored (`external_labels` exist only outside of it), labels that `label_replace` makes
or a recording rule has dropped, and that a join `on (env)` binds one side to the env of the other.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

# A placeholder becomes one character that no query holds; a range holds no series.
_placeholder = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_PLACED: Final = "\0"
_token = re.compile(
    r"(?:\s|\#[^\n]*|\[[^\]]*\])+"
    r"""|(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)"""
    r"|(?P<number>\d[\w.]*)|(?P<name>[A-Za-z_:][\w:]*)|(?P<sign>=~|!~|!=|==|.)",
    re.DOTALL,
)
_LISTING: Final = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
"""Words that labels may follow in brackets."""
_WORDS: Final = frozenset({"and", "or", "unless", "atan2", "bool", "offset", "inf", "nan", *_LISTING})

_OPERATORS: Final = frozenset({"=", "!=", "=~", "!~"})

_Token = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric's name, "" without one, and its matchers as (label, operator, value as it is written)."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]

    def demands(self, label: str, value: str) -> bool:
        """Whether every series has that label; a placeholder counts as the value, for nobody knows it yet."""
        return any(
            name == label and (written == value or _PLACED in written) and op in ("=", "=~")
            for name, op, written in self.matchers
        )


def selectors(query: str) -> Iterator[Selector]:
    """Every selector of a PromQL query or template, in order; numbers, `vector()` and `time()` select nothing."""
    tokens = _tokens(query)
    at = 0
    while at < len(tokens):
        (kind, text), after = tokens[at], tokens[at + 1][1] if at + 1 < len(tokens) else ""
        at += 1
        if kind == "sign" and text == "{":
            at, selector = _braced(tokens, at, "")
            yield selector
        elif kind == "name" and text.lower() in _LISTING and after == "(":
            at = _end(tokens, at, ")")
        elif kind == "name" and after == "{":
            at, selector = _braced(tokens, at + 1, text)
            yield selector
        elif kind == "name" and text.lower() not in _WORDS and after != "(" and after.lower() not in ("by", "without"):
            yield Selector(text, ())


def unscoped(query: str, env: str) -> tuple[Selector, ...]:
    """The selectors of a query that may find series of another env than this."""
    return tuple(selector for selector in selectors(query) if not selector.demands("env", env))


def _tokens(query: str) -> list[_Token]:
    found = _token.finditer(_placeholder.sub(_PLACED, query))
    return [(token.lastgroup, token[token.lastgroup]) for token in found if token.lastgroup is not None]


def _end(tokens: Sequence[_Token], at: int, sign: str) -> int:
    """The place after the next of these signs."""
    while at < len(tokens) and tokens[at] != ("sign", sign):
        at += 1
    return at + 1


def _braced(tokens: Sequence[_Token], at: int, name: str) -> tuple[int, Selector]:
    """The place after the braces that have opened, and what they select. Names may be quoted (Prometheus 3)."""
    end = _end(tokens, at, "}")
    inner = tokens[at : end - 1]
    triples = zip(inner, inner[1:], inner[2:], strict=False)
    matchers = [
        (_bare(label), op[1], value[1][1:-1])
        for label, op, value in triples
        if op[1] in _OPERATORS and value[0] == "text"
    ]
    named = {value for label, op, value in matchers if (label, op) == ("__name__", "=")}
    return end, Selector(name or min(named, default=""), tuple(matchers))


def _bare(token: _Token) -> str:
    return token[1][1:-1] if token[0] == "text" else token[1]
