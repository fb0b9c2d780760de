"""What is changed: one comparison, condition, number, enum member or statement of a function, or a module's constant.

A mutant is an edit of the module's syntax tree. It is made where it is tested, in a process of its own, so nothing
undoes it. Not mutated: docstrings, annotations, assertions (they narrow types), texts that are only said to people,
default arguments and class bodies.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

SWAPS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
CALLED: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
SHOWN: Final = 110
"""So many characters of a changed line name a mutant."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Put `new` at `field` of `holder` (at `index`, where that is a list)."""

    holder: ast.AST
    field: str
    index: int | None
    new: ast.AST

    def apply(self) -> ast.AST:
        """Do it; what stood there before."""
        if self.index is None:
            old = getattr(self.holder, self.field)
            setattr(self.holder, self.field, self.new)
        else:
            place = getattr(self.holder, self.field)
            old, place[self.index] = place[self.index], self.new
        return old  # type: ignore[no-any-return]

    def undo(self, old: ast.AST) -> None:
        """Put back what stood there."""
        Edit(self.holder, self.field, self.index, old).apply()


@dataclass(frozen=True, slots=True)
class Mutant:
    """`function` is its qualified name, or the constant's; `first` the line where the function's code begins, 0 for a
    constant; `last` where it ends. `line` is that of the statement. `name` stays the same when lines move."""

    name: str
    module: str
    function: str
    first: int
    last: int
    line: int
    edit: Edit


@dataclass(frozen=True, slots=True)
class Source:
    """A module that is mutated: its dotted name, path and tree."""

    module: str
    path: str
    tree: ast.Module


def mutants(source: Source, names: Mapping[str, Any]) -> list[Mutant]:
    """All of one module. `names`: its globals, by which enums are known."""
    found: list[Mutant] = []
    for owner, node in _functions(source.tree, ""):
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        found += _named(source.module, owner, (first, node.end_lineno or first), _in_body(node, names))
    for statement in source.tree.body:
        target = _constant(statement)
        if target is not None:
            found += _named(source.module, target, (0, statement.end_lineno or 0), _in_constant(statement, names))
    return found


def _functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions of the module and methods of its classes; what is defined within a function belongs to it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")


def _constant(statement: ast.stmt) -> str | None:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    return targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else None


_Place = tuple[int, ast.AST, Edit]
"""The line of the statement, what is shown of it, and the change."""


def _named(module: str, owner: str, span: tuple[int, int], places: Iterator[_Place]) -> Iterator[Mutant]:
    seen: Counter[str] = Counter()
    short = module.rpartition(".")[2]
    for line, shown, edit in places:
        before = _text(shown)
        old = edit.apply()
        after = _text(edit.new if shown is old else shown)
        edit.undo(old)
        name = f"{short}.{owner}: {before} -> {after if after != before else 'left out'}"
        seen[name] += 1
        again = f" #{seen[name]}" if seen[name] > 1 else ""
        yield Mutant(name + again, module, owner, *span, line, edit)


def _text(node: ast.AST) -> str:
    first, *more = ast.unparse(node).splitlines() or [""]
    return first[:SHOWN] + (" …" if more or len(first) > SHOWN else "")


def _in_body(function: ast.FunctionDef | ast.AsyncFunctionDef, names: Mapping[str, Any]) -> Iterator[_Place]:
    yield from _statements(function, "body", names)


def _statements(holder: ast.AST, field: str, names: Mapping[str, Any], ends: bool = True) -> Iterator[_Place]:
    """Of a block: each statement as a whole, then its parts, then the blocks within. `ends`: the function ends with
    the block, so that a `return` at its end may as well be left out."""
    block: list[ast.stmt] = getattr(holder, field)
    for index, statement in enumerate(block):
        if isinstance(statement, ast.Assert) or _says_nothing(statement):
            continue
        last = ends and index == len(block) - 1
        for new in _instead(statement, last):
            yield statement.lineno, statement, Edit(holder, field, index, ast.copy_location(new, statement))
        yield from _parts(statement, statement.lineno, names)
        for inner in ("body", "orelse", "finalbody"):
            if isinstance(getattr(statement, inner, None), list):
                yield from _statements(statement, inner, names, last and _falls_through(statement, inner))
        for handler in getattr(statement, "handlers", ()):
            yield from _statements(handler, "body", names, last)
        for case in getattr(statement, "cases", ()):
            yield from _statements(case, "body", names, last)


def _falls_through(statement: ast.stmt, inner: str) -> bool:
    """Whether nothing follows that block of a statement which is a function's last: no other round, no `else`."""
    if isinstance(statement, ast.Try):
        return inner == "orelse" or (inner == "body" and not statement.orelse)
    return not isinstance(statement, ast.For | ast.AsyncFor | ast.While)


def _says_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _instead(statement: ast.stmt, last: bool) -> Iterator[ast.stmt]:
    """Other statements in its place."""
    nothing = ast.Pass()
    match statement:
        case ast.Return(value=None) | ast.Return(value=ast.Constant(value=None)):
            if not last:
                yield nothing
        case ast.Return(value=ast.Constant(value=bool())):
            pass
        case ast.Return():
            yield ast.Return(value=ast.Constant(value=None))
        case ast.Continue():
            yield ast.Break()
            yield nothing
        case ast.Break():
            yield ast.Continue()
            yield nothing
        case ast.Expr() | ast.AugAssign() | ast.Raise():
            yield nothing
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield nothing
        case _:
            pass


_BLOCKS: Final = frozenset({"body", "orelse", "finalbody", "handlers", "cases"})
_KEPT: Final = frozenset({"annotation", "returns", "args", "decorator_list", "msg"})


def _parts(node: ast.AST, line: int, names: Mapping[str, Any], compared: bool = False) -> Iterator[_Place]:
    """Of the expressions of a statement, without the blocks in it (the body of a lambda is an expression)."""
    for field, value in ast.iter_fields(node):
        blocks = isinstance(node, ast.stmt) and field in _BLOCKS
        if blocks or (field in _KEPT and not (isinstance(node, ast.Call) and field == "args")):
            continue
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if not isinstance(child, ast.AST):
                continue
            at = index if isinstance(value, list) else None
            inside = isinstance(node, ast.Compare) or (compared and isinstance(node, ast.Tuple | ast.List | ast.Set))
            for new in _other(child, names, field, inside):
                small = isinstance(child, ast.Constant | ast.Attribute) and not isinstance(node, ast.stmt)
                yield line, node if small else child, Edit(node, field, at, ast.copy_location(new, child))
            yield from _parts(child, line, names, inside)


def _other(node: ast.AST, names: Mapping[str, Any], field: str, compared: bool) -> Iterator[ast.expr]:
    """Other expressions in its place."""
    if field in ("test", "ifs") and isinstance(node, ast.expr) and not isinstance(node, ast.Compare | ast.UnaryOp):
        yield ast.UnaryOp(op=ast.Not(), operand=node)
    match node:
        case ast.Compare():
            yield from _comparisons(node)
        case ast.BoolOp():
            other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield ast.BoolOp(op=other_op, values=node.values)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.BinOp() if type(node.op) in ARITHMETIC:
            yield ast.BinOp(left=node.left, op=ARITHMETIC[type(node.op)](), right=node.right)
        case ast.Call(func=ast.Name(id=name)) if name in CALLED:
            yield ast.Call(func=ast.Name(id=CALLED[name], ctx=ast.Load()), args=node.args, keywords=node.keywords)
        case ast.Constant():
            yield from _constants(node.value, compared)
        case ast.Attribute(value=ast.Name(id=name)):
            yield from _members(names.get(name), node)
        case _:
            pass


def _comparisons(node: ast.Compare) -> Iterator[ast.expr]:
    for index, op in enumerate(node.ops):
        for other in SWAPS[type(op)]:
            ops = [*node.ops[:index], other(), *node.ops[index + 1 :]]
            yield ast.Compare(left=node.left, ops=ops, comparators=node.comparators)


def _constants(value: object, compared: bool) -> Iterator[ast.expr]:
    if isinstance(value, bool):
        yield ast.Constant(value=not value)
    elif isinstance(value, int | float):
        yield ast.Constant(value=value + 1)
        yield ast.Constant(value=value - 1)
    elif isinstance(value, str) and compared:
        yield ast.Constant(value=f"{value}?")


def _members(owner: object, node: ast.Attribute) -> Iterator[ast.expr]:
    """The next member of the same enumeration."""
    if isinstance(owner, type) and issubclass(owner, Enum) and node.attr in owner.__members__:
        members = list(owner.__members__)
        other = members[(members.index(node.attr) + 1) % len(members)]
        yield ast.Attribute(value=node.value, attr=other, ctx=ast.Load())


def _in_constant(statement: ast.stmt, names: Mapping[str, Any]) -> Iterator[_Place]:
    """Its expression as in a function, and a sequence without one of its elements."""
    assert isinstance(statement, ast.Assign | ast.AnnAssign)
    value = statement.value
    if isinstance(value, ast.Tuple):
        for index in range(len(value.elts)):
            fewer = ast.Tuple(elts=value.elts[:index] + value.elts[index + 1 :], ctx=ast.Load())
            yield (
                value.elts[index].lineno,
                value.elts[index],
                Edit(statement, "value", None, ast.copy_location(fewer, value)),
            )
    if isinstance(value, ast.BinOp | ast.Constant | ast.Dict):
        yield from _parts(statement, statement.lineno, names)
