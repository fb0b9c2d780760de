"""What Jinja may do in a runbook's template: the fields of values, comparisons, sums and a short list of filters.

Everything else on the syntax tree is refused at load: no loop, call, multiplication or assignment exists, so the time
and size of a template are bound by its values (design.md section 4). At rendering a second fence stands behind the
first: fields are keys of mappings, never attributes of objects, nothing can be called, and what is undefined ends it.
"""

import math
from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, UndefinedError, nodes
from jinja2.nativetypes import NativeCodeGenerator
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from responder.positions import ENCODERS, MAX_VALUE, Refused, plain

_MAX_DEPTH = 16

# ------------------------------------------------------------------------------------------------------------ filters


def _text_argument(value: object) -> str:
    if not isinstance(value, str):
        raise Refused("a filter for text was given something else", "remove the filter or name a field that is text")
    return plain(value)


def _replace(value: object, old: str, new: str) -> str:
    text = _text_argument(value)
    if len(text) + text.count(old) * (len(new) - len(old)) > MAX_VALUE:
        raise Refused("`replace` makes a value too long", "replace less")
    return text.replace(old, new)


def _round(value: object, digits: int = 0) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused("`round` was given something that is not a number", "apply `float` first")
    return round(value, digits) if digits else round(value)


def _join(value: object, separator: str = "") -> str:
    if not isinstance(value, list | tuple):
        raise Refused("`join` was given something that is not a list", "remove the filter")
    texts = [plain(item) for item in value]
    if sum(len(text) for text in texts) + len(texts) * len(separator) > MAX_VALUE:
        raise Refused("`join` makes a value too long", "name a field instead of the whole list")
    return separator.join(texts)


def _length(value: object) -> int:
    if not isinstance(value, str | list | tuple | Mapping):
        raise Refused("`length` was given something without a length", "remove the filter")
    return len(value)


# Name → the function and the types of its arguments; those from `required` on may be left out.
_FILTERS: Mapping[str, tuple[Any, tuple[type, ...], int]] = {
    "lower": (lambda value: _text_argument(value).lower(), (), 0),
    "upper": (lambda value: _text_argument(value).upper(), (), 0),
    "trim": (lambda value: _text_argument(value).strip(), (), 0),
    "replace": (_replace, (str, str), 2),
    "round": (_round, (int,), 0),
    "int": (lambda value: int(plain(value)) if isinstance(value, str) else int(value), (), 0),
    "float": (lambda value: float(plain(value)), (), 0),
    "join": (_join, (str,), 0),
    "length": (_length, (), 0),
}


# -------------------------------------------------------------------------------------------------------- environment


class _Environment(ImmutableSandboxedEnvironment):
    """Sandboxed twice: fields are keys of mappings, never attributes of objects, and nothing can be called."""

    code_generator_class = NativeCodeGenerator
    intercepted_binops = frozenset({"+", "-"})
    intercepted_unops = frozenset({"-"})

    def getattr(self, obj: object, attribute: str) -> object:
        return self.getitem(obj, attribute)

    def getitem(self, obj: object, argument: object) -> object:
        if isinstance(obj, Mapping) and argument in obj:
            return obj[argument]
        if isinstance(obj, list | tuple) and isinstance(argument, int) and argument < len(obj):
            return obj[argument]
        return self.undefined(obj=obj, name=str(argument))

    def is_safe_callable(self, obj: object) -> bool:
        return False

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        return super().call_binop(context, operator, _summand(left), _summand(right))

    def call_unop(self, context: Context, operator: str, arg: object) -> object:
        return super().call_unop(context, operator, _summand(arg))


def _summand(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused("something that is not a number is added or subtracted", "apply `float` first")
    return value


class _Stop(StrictUndefined):
    """Stricter than strict: naming what does not exist ends the rendering before a filter makes something of it."""

    def __init__(self, *_: object, name: str | None = None, **__: object) -> None:
        raise UndefinedError(f"{name!r} is undefined")


def _environment() -> _Environment:
    environment = _Environment(undefined=_Stop, keep_trailing_newline=True, cache_size=0)
    environment.globals.clear()
    environment.tests.clear()
    environment.filters.clear()
    environment.filters.update({name: function for name, (function, _, _) in _FILTERS.items()})
    environment.filters.update({f"written as {name}": encoder for name, encoder in ENCODERS.items()})
    return environment


ENVIRONMENT = _environment()

# ------------------------------------------------------------------------------------------------------- syntax tree

_ALLOWED = (
    nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem, nodes.Filter, nodes.Compare, nodes.Operand, nodes.And,
    nodes.Or, nodes.Not, nodes.CondExpr, nodes.Add, nodes.Sub, nodes.Neg,
)  # fmt: skip
_COMPARISONS = frozenset({"eq", "ne", "gt", "gteq", "lt", "lteq"})
GRAMMAR = "write a name with its fields, such as {{ steps.cut_kelly.output.value }}"


def label_hint(label: str) -> str:
    """How a label of the alert comes into a template: the cure for `{{ labels.symbol }}` and all its spellings."""
    name = label.lower()
    return f"a label is an input: declare {name!r} below `inputs:` and put {{{{ {name} }}}} into `target`"


_FILTER_HINT = f"the filters are {', '.join(sorted(_FILTERS))}"
_HINTS: Mapping[type[nodes.Node], str] = {
    nodes.Call: "nothing can be called; use a filter, such as `x | lower`",
    nodes.Mul: "let the query calculate",
    nodes.Div: "let the query calculate",
    nodes.Pow: "let the query calculate",
    nodes.Concat: "write two placeholders side by side",
    nodes.Test: "an undefined value stops the run by itself; use `when` for conditions",
}


def check_placeholder(node: nodes.Node, paths: set[str], depth: int = 1) -> None:
    """Raise Refused for what is not allowed in a placeholder; adds the dotted paths it needs to `paths`."""
    if depth > _MAX_DEPTH:
        raise Refused("the placeholder is nested too deeply", GRAMMAR)
    if not isinstance(node, _ALLOWED):
        raise Refused(f"`{type(node).__name__}` is not allowed in a placeholder", _HINTS.get(type(node), GRAMMAR))
    if isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem):
        paths.add(_path(node, depth))
        return
    _check_parts(node)
    for child in node.iter_child_nodes():
        check_placeholder(child, paths, depth + 1)


def _check_parts(node: nodes.Node) -> None:
    if isinstance(node, nodes.Filter):
        _check_filter(node)
    if isinstance(node, nodes.Const) and isinstance(node.value, float) and not math.isfinite(node.value):
        raise Refused("a number is not finite", "write a smaller one")
    if isinstance(node, nodes.CondExpr) and node.expr2 is None:
        raise Refused("`if` has no `else`", "say what stands there otherwise")
    if isinstance(node, nodes.Operand) and node.op not in _COMPARISONS:
        raise Refused("this comparison is not one of < <= > >= == !=", GRAMMAR)


def _path(node: nodes.Node, depth: int) -> str:
    """The dotted path of a name with constant fields; nothing else has fields."""
    if isinstance(node, nodes.Name):
        return _field(node.name)
    if depth > _MAX_DEPTH or not isinstance(node, nodes.Getattr | nodes.Getitem):
        raise Refused("only names have fields, and not too many", GRAMMAR)
    if isinstance(node, nodes.Getattr):
        return f"{_path(node.node, depth + 1)}.{_field(node.attr)}"
    if not isinstance(node.arg, nodes.Const) or isinstance(node.arg.value, bool | float) or node.arg.value is None:
        raise Refused("a field is named by something that is not constant", GRAMMAR)
    return f"{_path(node.node, depth + 1)}.{_field(str(node.arg.value))}"


def _field(name: str) -> str:
    if name.startswith(("_", "-")) or name == "self":
        raise Refused(f"`{name[:40]}` is no name of a value", "names begin with a letter")
    return name


def _check_filter(node: nodes.Filter) -> None:
    if node.node is None or node.name not in _FILTERS:
        raise Refused(f"`{node.name}` is not a filter here", _FILTER_HINT)
    _, types, required = _FILTERS[node.name]
    constants = all(isinstance(argument, nodes.Const) for argument in node.args)
    if node.kwargs or node.dyn_args or node.dyn_kwargs or not constants:
        raise Refused(f"`{node.name}` takes constants only", f"write {_usage(node.name)}")
    values = [argument.value for argument in node.args if isinstance(argument, nodes.Const)]
    typed = all(type(value) is expected for value, expected in zip(values, types, strict=False))
    if not required <= len(values) <= len(types) or not typed or (node.name == "replace" and not values[0]):
        raise Refused(f"`{node.name}` was given the wrong arguments", f"write {_usage(node.name)}")


def _usage(name: str) -> str:
    return {"replace": "`x | replace('-', '')`", "round": "`x | round(2)`", "join": "`x | join(',')`"}.get(
        name, f"`x | {name}`"
    )
