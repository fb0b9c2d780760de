"""Runbook templates: read at load, rendered later, harmless for any value of a label (design.md section 4).

Only the placeholders are Jinja (`sandbox` says how little of it), and where one stands decides how its value is written
(`positions`). Values are data: what they contain is never read as a template. Compiling, ten times dearer than reading,
waits for the first use. Messages to people are `messages`; reading files is the loader's work.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NoReturn, TypeVar

from jinja2 import Template as CompiledTemplate
from jinja2 import TemplateRuntimeError, TemplateSyntaxError, UndefinedError, nodes

from responder.messages import MessageTemplates, TemplateError, TreePath
from responder.positions import SOME, Position, Refused, check_rendered, json_copy, placements
from responder.sandbox import ENVIRONMENT, GRAMMAR, check_placeholder, label_hint

__all__ = [
    "MAX_BYTES",
    "MessageTemplates",
    "Position",
    "Template",
    "TemplateError",
    "has_placeholder",
    "parse_template",
    "parse_tree",
    "render_template",
    "render_tree",
    "template_strings",
]

MAX_BYTES = 16_384
"""Bytes of UTF-8 that one rendered template may have unless the caller says otherwise."""
MAX_SOURCE = 16_384
"""Characters of one template's source."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Template:
    """A template that was read. `names` are the root variables it needs, `paths` the dotted values below them."""

    source: str
    position: Position
    names: frozenset[str]
    paths: frozenset[str]


def has_placeholder(source: str) -> bool:
    """Whether `source` is more than literal text."""
    return "{{" in source or "{%" in source or "{#" in source


# ------------------------------------------------------------------------------------------------------------ reading


@lru_cache(maxsize=2_048)
def parse_template(source: str, position: Position) -> Template:
    """Read `source` as it stands at `position`; raise TemplateError when any value could make it harmful."""
    if not has_placeholder(source):
        _place(source, [source] if source else [], position)
        return Template(source, position, frozenset(), frozenset())
    _refuse_statements(source)
    paths: set[str] = set()
    output = _read(source)
    for ordinal, child in enumerate(child for child in output.nodes if not isinstance(child, nodes.TemplateData)):
        try:
            check_placeholder(child, paths)
        except Refused as refused:
            _fail(source, ordinal, refused)
    _place(source, _pieces(output), position)
    return Template(source, position, frozenset(path.partition(".")[0] for path in paths), frozenset(paths))


def _refuse_statements(source: str) -> None:
    if len(source) > MAX_SOURCE:
        raise TemplateError(f"the template has {len(source)} characters, {MAX_SOURCE} are allowed", "shorten it")
    for mark, message, hint in (
        ("{%", "a template of a runbook has no statements", "use `when` for a condition and `each` for repetition"),
        ("{#", "a template of a runbook has no comments", "write it as a comment of the YAML file"),
        ("{{-", "`{{-` removes text around it", "write `{{` and a space"),
        ("{{+", "`{{+` changes text around it", "write `{{` and a space"),
        ("-}}", "`-}}` removes text around it", "write a space and `}}`"),
    ):
        if mark in source:
            raise TemplateError(message, hint, *_line_column(source, source.index(mark)))


_alerting_label = re.compile(r"\{\{\s*[$.]\w*[Ll]abels\.([A-Za-z_]\w*)")
"""A label as the templates of Prometheus and Alertmanager name it: `$labels.symbol`, `.CommonLabels.symbol`."""


def _read(source: str) -> nodes.Output:
    try:
        body = ENVIRONMENT.parse(source).body
    except TemplateSyntaxError as error:
        start = sum(len(line) for line in source.splitlines(keepends=True)[: error.lineno - 1])
        at = max(source.find("{{", start), start)
        label = _alerting_label.match(source, at)
        hint = GRAMMAR if label is None else label_hint(label[1])
        raise TemplateError(
            f"the placeholder cannot be read: {error.message}", hint, *_line_column(source, at)
        ) from None
    except RecursionError:
        raise TemplateError("the template is nested too deeply", GRAMMAR) from None
    if len(body) != 1 or not isinstance(body[0], nodes.Output):
        raise TemplateError("the template is more than text and placeholders", GRAMMAR)
    return body[0]


def _pieces(output: nodes.Output) -> list[str | None]:
    """The literal texts with None for each placeholder."""
    return [child.data if isinstance(child, nodes.TemplateData) else None for child in output.nodes]


def _place(source: str, pieces: Sequence[str | None], position: Position) -> list[str]:
    """The encoder of each placeholder; TemplateError at the first that stands where it must not."""
    placed: list[str] = []
    try:
        placed.extend(placements(position, pieces))
    except Refused as refused:
        _fail(source, len(placed), refused)
    return placed


def _fail(source: str, ordinal: int, refused: Refused) -> NoReturn:
    at = -1
    for _ in range(ordinal + 1):
        at = source.find("{{", at + 1)
    place = max(at, 0)
    raise TemplateError(
        refused.message, _in_own_words(refused.hint, source[place:]), *_line_column(source, place)
    ) from None


def _in_own_words(hint: str, source: str) -> str:
    """The hint with the placeholder that `source` begins with where it shows one."""
    own = _own.match(source)
    if own is None:
        return hint
    name = own[1].strip()
    label = name if name.isidentifier() else "label"
    return hint.replace(f'label="{SOME}"', f'{label}="{own[0]}"').replace(SOME, own[0])


_own = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


def _line_column(source: str, at: int) -> tuple[int, int]:
    return source.count("\n", 0, at) + 1, at - source.rfind("\n", 0, at)


# ---------------------------------------------------------------------------------------------------------- rendering


@dataclass(frozen=True, slots=True)
class _Compiled:
    template: CompiledTemplate
    alone: bool
    """Whether the whole template is one JSON placeholder, whose value keeps its type."""


@lru_cache(maxsize=512)
def _compiled(source: str, position: Position) -> _Compiled:
    output = _read(source)
    placed = iter(_place(source, _pieces(output), position))
    output.nodes = [
        child if isinstance(child, nodes.TemplateData) else _written(child, next(placed)) for child in output.nodes
    ]
    tree = nodes.Template([output], lineno=1)
    tree.set_environment(ENVIRONMENT)
    code = ENVIRONMENT.compile(tree)
    template = CompiledTemplate.from_code(ENVIRONMENT, code, {})
    return _Compiled(template, position is Position.JSON and len(output.nodes) == 1)


def _written(child: nodes.Expr, encoder: str) -> nodes.Expr:
    return nodes.Filter(child, f"written as {encoder}", [], [], None, None, lineno=child.lineno)


def instruction(manual: str, values: Mapping[str, object]) -> str:
    """What a person is asked to do; as it is written where something has no value: they are asked all the same."""
    try:
        return str(render_template(parse_template(manual, Position.TEXT), values))
    except TemplateError:
        return manual


def render_template(template: Template, values: Mapping[str, object], limit_bytes: int = MAX_BYTES) -> object:
    """The text of `template` over `values` (a tree of JSON values); a lone JSON placeholder keeps its type.

    Raises TemplateError for what is undefined, of the wrong type, harmful at its position, or over `limit_bytes` of
    UTF-8.
    """
    try:
        if not has_placeholder(template.source):
            return _bounded([template.source], limit_bytes)
        compiled = _compiled(template.source, template.position)
        chunks = compiled.template.root_render_func(compiled.template.new_context(dict(values)))
        if compiled.alone:
            return _bounded_json(next(iter(chunks)), limit_bytes)
        rendered = _bounded(chunks, limit_bytes)
        check_rendered(template.position, rendered)
    except Refused as refused:
        raise TemplateError(refused.message, refused.hint, *_first_placeholder(template.source)) from None
    except _AT_RENDERING as error:
        raise _rendering_error(template, values, error) from None
    return rendered


_AT_RENDERING = (
    TemplateRuntimeError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
)


def _rendering_error(template: Template, values: Mapping[str, object], error: Exception) -> TemplateError:
    """Says what is missing; the text of any other error may hold a value and is left out."""
    if not isinstance(error, UndefinedError):
        message = f"a value does not fit its placeholder ({type(error).__name__})"
        hint = "type the input, or name another field"
        return TemplateError(message, hint, *_first_placeholder(template.source))
    absent = sorted(path for path in template.paths if not _is_present(path, values))
    at = max(template.source.find(absent[0]), 0) if absent else 0
    message = f"{', '.join(absent) or 'a name'} is not defined"
    return TemplateError(
        message, "declare it as an input, or name an earlier step's output", *_line_column(template.source, at)
    )


def _is_present(path: str, values: Mapping[str, object]) -> bool:
    found: object = values
    for part in path.split("."):
        if isinstance(found, list | tuple) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, Mapping) and part in found:
            found = found[part]
        else:
            return False
    return True


def _first_placeholder(source: str) -> tuple[int, int]:
    return _line_column(source, max(source.find("{{"), 0))


def _bounded(chunks: Iterable[object], limit_bytes: int) -> str:
    """The chunks joined, given up at the first that passes the limit."""
    kept, size = [], 0
    for chunk in chunks:
        text = str(chunk)
        size += _bytes_of(text)
        if size > limit_bytes:
            raise _too_long(limit_bytes)
        kept.append(text)
    return "".join(kept)


def _bytes_of(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise Refused("a value holds half a character (a lone surrogate)", "restrict the input with a type") from None


def _too_long(limit_bytes: int) -> Refused:
    return Refused(
        f"the rendered template has more than {limit_bytes} bytes", "restrict the input, or name a field of it"
    )


def _bounded_json(value: object, limit_bytes: int) -> object:
    """`value` when its JSON text fits the limit; the text is counted as it is made."""
    _bounded(json.JSONEncoder(ensure_ascii=False).iterencode(value), limit_bytes)
    return value


# -------------------------------------------------------------------------------------------------------------- trees


def template_strings(tree: object) -> Iterator[tuple[TreePath, str]]:
    """Every string of a JSON tree with its path, for a caller that wants all errors at once; keys are left out."""
    if isinstance(tree, str):
        yield (), tree
    elif isinstance(tree, Mapping):
        for key, item in tree.items():
            yield from (((str(key), *path), text) for path, text in template_strings(item))
    elif isinstance(tree, list | tuple):
        for index, item in enumerate(tree):
            yield from (((index, *path), text) for path, text in template_strings(item))


def parse_tree(tree: object, position: Position) -> tuple[Template, ...]:
    """The templates of a JSON tree whose strings all stand at `position`.

    Raises TemplateError, with its path, for the first that is bad; template_strings serves who wants them all.
    Keys are never templates: one with a placeholder is refused rather than sent as it is.
    """
    _refuse_keys(tree)
    return tuple(_at(path, partial(parse_template, text, position)) for path, text in template_strings(tree))


def render_tree(tree: object, position: Position, values: Mapping[str, object], limit_bytes: int = MAX_BYTES) -> object:
    """A copy of `tree` with every string rendered; TemplateError, also when the whole passes `limit_bytes`."""
    rendered = _rendered(tree, (), lambda text: render_template(parse_template(text, position), values, limit_bytes))
    try:
        return _bounded_json(json_copy(rendered), limit_bytes)
    except Refused as refused:
        raise TemplateError(refused.message, refused.hint) from None


def _rendered(tree: object, path: TreePath, render: Callable[[str], object]) -> object:
    if isinstance(tree, str):
        return _at(path, partial(render, tree))
    if isinstance(tree, Mapping):
        return {key: _rendered(item, (*path, str(key)), render) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return [_rendered(item, (*path, index), render) for index, item in enumerate(tree)]
    return tree


def keys_with_placeholders(tree: object) -> Iterator[TreePath]:
    """The paths of keys that hold a placeholder, which is never rendered."""
    items: Iterable[tuple[str | int, object]] = ()
    if isinstance(tree, Mapping):
        items = ((str(key), item) for key, item in tree.items())
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    for key, item in items:
        if isinstance(key, str) and has_placeholder(key):
            yield (key,)
        yield from ((key, *path) for path in keys_with_placeholders(item))


def _refuse_keys(tree: object) -> None:
    for path in keys_with_placeholders(tree):
        hint = "write the key itself; only values are rendered"
        raise TemplateError("a key holds a placeholder", hint, path=path[:-1])


def _at(path: TreePath, work: Callable[[], T]) -> T:
    try:
        return work()
    except TemplateError as error:
        raise error.below(path) from None
