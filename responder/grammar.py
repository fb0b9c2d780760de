"""How a condition is read: the syntax of `expect`, `when`, `only_if` and `harmful` (design.md section 4).

`ast.parse` reads the text and every node that is not listed here is refused; nothing of Python's evaluation is used
(field.md 41). Insides of strings are blanked first, so that no text is mistaken for code, Python's escapes and prefixes
do not exist, and a byte of what Python reads is a character of the source. Keywords of Python cannot name a field. What
a condition answers is the matter of `expressions`.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from responder.errors import ResponderError

MAX_LENGTH = 500
"""Characters of source; the longest condition people can still check at night is far shorter."""
MAX_DEPTH = 16
"""Levels of nesting; keeps reading and evaluating away from Python's recursion limit."""
KEPT = 1_024
"""Conditions that were read and are kept: what verifies asks the same one every five seconds."""


class ExpressionError(ResponderError):
    """An expression that cannot be read. `column` counts characters of the source from 1."""

    def __init__(self, message: str, hint: str, column: int) -> None:
        super().__init__(f"{message} (column {column}); {hint}")
        self.message = message
        self.hint = hint
        self.column = column


Scalar = int | float | str | bool | None


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal of the source."""

    text: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class Path:
    """A name with its fields, such as `steps.cut_kelly.outcome`; `end` is the character of the source after it."""

    text: str
    parts: tuple[str, ...]
    end: int


@dataclass(frozen=True, slots=True)
class Sum:
    """Two numbers added; `sign` is -1 for a difference."""

    text: str
    left: Operand
    right: Operand
    sign: int


@dataclass(frozen=True, slots=True)
class Listed:
    """The constants after `in`."""

    text: str
    values: tuple[Scalar, ...]


Operand = Constant | Path | Sum | Listed


@dataclass(frozen=True, slots=True)
class Comparison:
    """One pair: `a < b < c` is two of them."""

    left: Operand
    symbol: str
    right: Operand


@dataclass(frozen=True, slots=True)
class Truth:
    """A value that is itself true or false."""

    operand: Operand


@dataclass(frozen=True, slots=True)
class Every:
    """`and`."""

    terms: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """`or`."""

    terms: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Negation:
    """`not`."""

    term: Condition


Condition = Comparison | Truth | Every | Some | Negation


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed condition. `names` are the root variables it needs, `paths` the dotted values below them."""

    source: str
    names: frozenset[str]
    paths: frozenset[str]
    root: Condition = field(repr=False, compare=False)
    marks: tuple[Path, ...] = field(repr=False, compare=False)


_STRING = re.compile(r"\"[^\"]*\"|'[^']*'")
_NUMBER = r"(?<![\w.])(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][+-]?\d++)?+"
_WORDS = r"(?:and|or|not|in|is|if|else)\b"

# What people write instead, tried in this order on the source with the insides of its strings blanked out.
_MISTAKES: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern), message, hint)
    for pattern, message, hint in (
        (r"\{[{%#]", "an expression is not a template", "write the bare name, without braces"),
        (r"\\", "a backslash has no meaning here", "write the character itself; the other quotes help"),
        (r"&&?", "`{0}` is not an operator", "write `and`"),
        (r"\|\|?", "`{0}` is not an operator", "write `or`"),
        (r"=~|!~", "`{0}` belongs to matchers", "compare with `==`, or with `in [...]`"),
        (r"===", "`===` is not an operator", "write `==`"),
        (r"=>|=<", "`{0}` is not an operator", "write `>=` or `<=`"),
        (r"<>", "`<>` is not an operator", "write `!=`"),
        (r"!(?!=)", "`!` is not an operator", "write `not`"),
        (r"(?<![=<>!])=(?!=)", "`=` compares nothing", "write `==`"),
        (r"(?<![\w.])(?:AND|OR|NOT|IN)\b", "`{0}` is not an operator", "write it in small letters"),
        (_NUMBER + r"\s*%", "`{0}` has a unit", "write the plain number, in the unit that the query returns"),
        (_NUMBER + rf"(?!\s*{_WORDS})\s*[A-Za-zµμ_]\w*", "`{0}` is not a plain number", "write digits only"),
        (_NUMBER + r"(?=[A-Za-z_])", "a number runs into a word", "write a space after `{0}`"),
        (r"(?<![\w.])is\b", "`is` is not an operator", "write `==`; what is missing never holds anyway"),
        (r"(?<![\w.])(?:True|False|None)\b", "`{0}` is a name of Python", "write true, false or null"),
        (r"#", "a comment cannot stand in an expression", "write it as a comment of the YAML file"),
        (r"[^ -~]", "`{0}` cannot stand outside quotes", "write plain operators, names and straight quotes"),
        (r"\w[\"']", "a string cannot follow a letter", "write a space before the quote; there are no prefixes"),
    )
)

_ORDERINGS: Mapping[type[ast.cmpop], str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_SYMBOLS: Mapping[type[ast.cmpop], str] = {
    **_ORDERINGS, ast.Eq: "==", ast.NotEq: "!=", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
_WORD_CONSTANTS: Mapping[str, Scalar] = {"true": True, "false": False, "null": None}
_COMPARE = "write a comparison such as `value < 1.7`, joined by and, or, not"


@lru_cache(maxsize=KEPT)
def parse_expression(source: str) -> Expression:
    """Read `source`; raise ExpressionError with a hint for what people usually mean (design.md section 4)."""
    if len(source) > MAX_LENGTH:
        raise ExpressionError(f"the expression has {len(source)} characters, {MAX_LENGTH} are allowed", "shorten it", 1)
    if not source.strip():
        raise ExpressionError("the expression is empty", _COMPARE, 1)
    blanked = _blank(source)
    _refuse_mistakes(blanked)
    reader = _Reader(source, blanked, len(blanked) - len(blanked.lstrip()))
    root = reader.condition(_parse(blanked), 1)
    marks = tuple(sorted(reader.marks, key=lambda path: path.end))
    names = frozenset(path.parts[0] for path in marks)
    return Expression(source, names, frozenset(path.text for path in marks), root, marks)


def _blank(source: str) -> str:
    """The source on one line with the insides of its strings replaced; every place in it stays where it was."""
    plain = re.sub(r"[\t\r\n]", " ", source)
    return _STRING.sub(lambda found: found[0][0] + re.sub(r"[^\\]", ".", found[0][1:-1]) + found[0][0], plain)


def _refuse_mistakes(blanked: str) -> None:
    for pattern, message, hint in _MISTAKES:
        if found := pattern.search(blanked):
            shown = found[0].strip()
            raise ExpressionError(message.format(shown), hint.format(shown), found.start() + 1)


def _parse(blanked: str) -> ast.expr:
    indent = len(blanked) - len(blanked.lstrip())
    try:
        return ast.parse(blanked.strip(), mode="eval").body
    except SyntaxError as error:
        column = min(max(error.offset or len(blanked), 1) + indent, len(blanked))
        raise ExpressionError("the expression cannot be read", _COMPARE, column) from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError("the expression cannot be read", _COMPARE, 1) from None


class _Reader:
    """Turns Python's syntax tree into ours and refuses every node that is not listed."""

    def __init__(self, source: str, blanked: str, indent: int) -> None:
        self._source = source
        self._blanked = blanked
        self._indent = indent
        self.marks: list[Path] = []

    def condition(self, node: ast.expr, depth: int) -> Condition:
        self._bound(node, depth)
        match node:
            case ast.BoolOp(op=ast.And(), values=terms):
                return Every(tuple(self.condition(term, depth + 1) for term in terms))
            case ast.BoolOp(values=terms):
                return Some(tuple(self.condition(term, depth + 1) for term in terms))
            case ast.UnaryOp(op=ast.Not(), operand=term):
                return Negation(self.condition(term, depth + 1))
            case ast.Compare():
                return self._comparison(node, depth)
        return self._truth(node, depth)

    def _truth(self, node: ast.expr, depth: int) -> Truth:
        operand = self._operand(node, depth)
        if isinstance(operand, Path) or (isinstance(operand, Constant) and isinstance(operand.value, bool)):
            return Truth(operand)
        raise self._error(node, f"`{operand.text}` is neither true nor false", _COMPARE)

    def _comparison(self, node: ast.Compare, depth: int) -> Condition:
        operands = [node.left, *node.comparators]
        pairs = []
        for left, op, right in zip(operands, node.ops, operands[1:], strict=False):
            pairs.append(self._pair(left, op, right, depth + 1))
        return pairs[0] if len(pairs) == 1 else Every(tuple(pairs))

    def _pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr, depth: int) -> Comparison:
        symbol = _SYMBOLS.get(type(op))
        if symbol is None:
            raise self._error(left, "this comparison is not one of < <= > >= == != in", _COMPARE)
        if isinstance(op, ast.In | ast.NotIn):
            return Comparison(self._operand(left, depth), symbol, self._listed(right))
        pair = Comparison(self._operand(left, depth), symbol, self._operand(right, depth))
        if type(op) in _ORDERINGS:
            self._refuse_unordered(left, pair.left)
            self._refuse_unordered(right, pair.right)
        return pair

    def _refuse_unordered(self, node: ast.expr, operand: Operand) -> None:
        if not isinstance(operand, Constant):
            return
        if operand.value is None or isinstance(operand.value, bool):
            raise self._error(node, f"`{operand.text}` has no order", "compare with a number, or use == or !=")
        if isinstance(operand.value, str) and re.fullmatch(r"\s*[-+]?[\d.]+\s*", operand.value):
            raise self._error(node, f"`{operand.text}` is text, not a number", "remove the quotes")

    def _operand(self, node: ast.expr, depth: int) -> Operand:
        self._bound(node, depth)
        match node:
            case ast.Name(id=name) if name in _WORD_CONSTANTS:
                return Constant(name, _WORD_CONSTANTS[name])
            case ast.Name() | ast.Attribute():
                return self._path(node)
            case ast.Constant():
                return self._constant(node)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=inner):
                sign = -1 if isinstance(node.op, ast.USub) else 1
                return Sum(self._text(node), Constant("0", 0), self._number(inner, depth + 1), sign)
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                return self._sum(node, depth)
        raise self._unlisted(node)

    def _sum(self, node: ast.BinOp, depth: int) -> Sum:
        gap = self._blanked[self._end(node.left) : self._start(node.right)]
        if gap == "-" and all(isinstance(side, ast.Name | ast.Attribute) for side in (node.left, node.right)):
            hint = "write spaces around `-`; names have underscores"
            raise self._error(node, f"`{self._text(node)}` reads as a difference", hint)
        sign = 1 if isinstance(node.op, ast.Add) else -1
        return Sum(self._text(node), self._number(node.left, depth + 1), self._number(node.right, depth + 1), sign)

    def _number(self, node: ast.expr, depth: int) -> Operand:
        operand = self._operand(node, depth)
        if isinstance(operand, Constant) and (
            isinstance(operand.value, bool) or not isinstance(operand.value, int | float)
        ):
            raise self._error(node, f"`{operand.text}` is not a number", "only numbers can be added or subtracted")
        return operand

    def _constant(self, node: ast.Constant) -> Constant:
        text = self._text(node)
        if isinstance(node.value, str):
            if {'"', "'"} & set(self._blanked[self._start(node) + 1 : self._end(node) - 1]):
                raise self._error(node, "two strings stand side by side", "join them into one")
            return Constant(text, text[1:-1])
        if not isinstance(node.value, int) and not (isinstance(node.value, float) and math.isfinite(node.value)):
            raise self._error(node, f"`{text}` is not a finite number", "write a smaller number")
        return Constant(text, node.value)

    def _path(self, node: ast.expr) -> Path:
        parts: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name) or inner.id in _WORD_CONSTANTS:
            raise self._error(node, "only names have fields", "write a dotted name such as `steps.cut_kelly.outcome`")
        parts = [inner.id, *reversed(parts)]
        path = Path(".".join(parts), tuple(parts), self._end(node))
        self.marks.append(path)
        return path

    def _listed(self, node: ast.expr) -> Listed:
        if not isinstance(node, ast.List) or not node.elts:
            raise self._error(node, "`in` needs a list of constants", "write it as `in [200, 204]`")
        return Listed(self._text(node), tuple(self._item(item) for item in node.elts))

    def _item(self, node: ast.expr) -> Scalar:
        match node:
            case ast.Name(id=name) if name in _WORD_CONSTANTS:
                return _WORD_CONSTANTS[name]
            case ast.Constant():
                return self._constant(node).value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
        raise self._error(node, "a list holds constants only", "write it as `in [200, 204]`")

    def _unlisted(self, node: ast.expr) -> ExpressionError:
        match node:
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                return self._error(node, "a condition stands where a value must be", "join conditions with and, or")
            case ast.BinOp():
                return self._error(node, "only + and - are calculated here", "let the query calculate the rest")
            case ast.List():
                return self._error(node, "a list can only follow `in`", "write it as `value in [1, 2]`")
        return self._error(node, f"`{self._text(node)}` is not part of the grammar", _COMPARE)

    def _bound(self, node: ast.expr, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self._error(node, f"the expression is nested deeper than {MAX_DEPTH}", "split or shorten it")

    def _error(self, node: ast.expr, message: str, hint: str) -> ExpressionError:
        return ExpressionError(message, hint, self._start(node) + 1)

    def _start(self, node: ast.expr) -> int:
        return node.col_offset + self._indent

    def _end(self, node: ast.expr) -> int:
        return (node.end_col_offset or node.col_offset) + self._indent

    def _text(self, node: ast.expr) -> str:
        return self._source[self._start(node) : self._end(node)]
