"""What classes say about themselves and their fields, for editors and the reference: read from their docstrings.

One text serves the reader of the code, the page of the reference and the editor's completion, so that none of them goes
stale. A field is described by the text below it, or by the line of the class's docstring that begins with its name
(``- `path`: …``), which is how actions write their reference page. Nothing is formatted here for a certain reader.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

_source = re.compile(r"\s*\((?:design|contracts\.md|reliability\.md|trading-operations\.md)[^()]*\)")
_named = re.compile(r"(?:^|(?<=\.\s))`(\w+)`: ")
_item = re.compile(r"^- (?=`\w+`: )", re.MULTILINE)
_FENCE: Final = "```"
_OTHERS: Final = frozenset({"builtins", "pydantic"})


def class_text(owner: type[Any]) -> str:
    """The docstring of a class as Markdown, one line a paragraph, without where its rules come from; "" for none."""
    return _flowing(_source.sub("", inspect.cleandoc(owner.__dict__.get("__doc__") or "")))


def summary(owner: type[Any]) -> str:
    """The first paragraph of `class_text`, on one line."""
    return class_text(owner).partition("\n")[0]


def field_texts(owner: type[Any]) -> Mapping[str, str]:
    """Name of an attribute or parameter → what is said about it, in `owner` and the classes that it extends."""
    found: dict[str, str] = {}
    for cls in reversed(owner.__mro__):
        if cls.__module__.partition(".")[0] not in _OTHERS:
            found |= _parameters(class_text(cls)) | _attributes(cls)
    return found


def _parameters(page: str) -> dict[str, str]:
    """What the list at the top of a reference page says: `` - `to`: the value to be in force. ``"""
    found: dict[str, str] = {}
    for entry in _item.split(page)[1:]:
        parts = _named.split(entry.partition("\n")[0])
        found |= {name: _sentence(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    return found


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:]


def _attributes(owner: type[Any]) -> dict[str, str]:
    body = _bodies(owner.__module__).get(owner.__qualname__, ())
    return {name: _flowing(_source.sub("", text)) for name, text in body}


@lru_cache(maxsize=64)
def _bodies(module: str) -> Mapping[str, tuple[tuple[str, str], ...]]:
    """The attributes of every class of a module, with the text below each; none where there is no source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, KeyError):
        return {}
    return {node.name: tuple(_described(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _described(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for statement, below in zip(node.body, node.body[1:], strict=False):
        target = statement.target if isinstance(statement, ast.AnnAssign) else _only_target(statement)
        if isinstance(target, ast.Name) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            yield target.id, inspect.cleandoc(str(below.value.value))


def _only_target(statement: ast.stmt) -> ast.expr | None:
    """What `NAME = …` assigns to, as members of an enumeration are written."""
    return statement.targets[0] if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else None


def _flowing(text: str) -> str:
    """Lines of a paragraph and of a list's entry joined, so that each reader wraps them; code stays as it is."""
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        begins = not lines or not lines[-1] or not line or line.startswith(("- ", _FENCE)) or fenced
        fenced ^= line.startswith(_FENCE)
        if begins or lines[-1].startswith(_FENCE):
            lines.append(line)
        else:
            lines[-1] = f"{lines[-1]} {line.strip()}"
    return "\n".join(lines).strip()
