"""The language reference, docs/language.md, from the models that the loader validates by.

Keys, types, defaults and meanings come from the models and their docstrings, the words around them from `chapters`. A
pure function of the actions that there are; who writes the file is `tests.documentation` (`make reference`).
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, JsonValue, TypeAdapter
from pydantic.fields import FieldInfo

from responder.calendars import Margin
from responder.chapters import ACTIONS, CHAPTERS, OPENING, RESULT_INTRO, WARNINGS, Chapter
from responder.civil_time import DateRange, Days, TimeOfDay, TimeZone
from responder.contracts import Action
from responder.docstrings import class_text, field_texts
from responder.recorded import Effect, Result
from responder.runbook import Check, Evidence, Runbook, Step, Undo
from responder.variables import position_of
from responder.written import Duration, Identifier, Name, Names, RateText

_WORDS: Final[tuple[tuple[Any, str], ...]] = (
    (Duration, "duration"), (Margin, "duration, at most `12h`"), (RateText, "rate"), (Names, "text, or a list"),
    (Days, "days"), (TimeOfDay, "time of day"), (TimeZone, "time zone"), (DateRange, "dates"),
    (JsonValue, "any value"), (str, "text"), (bool, "true or false"), (int, "whole number"), (float, "number"),
)  # fmt: skip
_FIELDS: Final = "the fields of its [action](#actions)"
_SPECIAL: Final[Mapping[tuple[type[BaseModel], str], str]] = {
    (Runbook, "unless_fixed"): "pairs: duration → [promise](#unless_fixed)",
    **{(model, "with"): _FIELDS for model in (Check, Evidence, Step, Undo)},
}
"""Keys whose type says less than the loader does."""
_WIDE: Final = ("key", "type", "default", "meaning")


def language(actions: Mapping[str, type[Action]], defaults_may_hold: Collection[str], warnings: type[StrEnum]) -> str:
    """The whole page as Markdown.

    `defaults_may_hold`: the keys of a _defaults.yaml (`loader`); `warnings`: the codes of `lint`, each described.
    """
    keys = ", ".join(f"`{key}`" for key in defaults_may_hold)
    parts = [_chapter(chapter, keys) for chapter in CHAPTERS]
    parts.append(f"## Results\n\n{RESULT_INTRO}\n{_words_table('result', 'means', Result)}")
    parts.append(f"## Warnings\n\n{WARNINGS}\n{_words_table('code', 'warns of', warnings)}")
    parts.append(f"## Actions\n\n{ACTIONS.format(effects=_words_table('effect', 'what follows', Effect))}")
    parts += [action_page(name, action) for name, action in sorted(actions.items())]
    return "\n\n".join(part.strip() for part in (OPENING, _contents(parts), *parts)) + "\n"


def action_page(name: str, action: type[Action]) -> str:
    """The page of one action: its first sentence, its fields, then the rest of its docstring."""
    first, _, rest = class_text(action).partition("\n\n")
    prose = re.sub(r"\A(?:- `.*(?:\n|\Z))+", "", rest).strip()
    fields = [_action_row(action, (), key, info) for key, info in _keys(action).items()]
    for key, info in _keys(action).items():
        inner = _model_of(info.annotation)
        if inner is not None:
            fields += [_action_row(inner, (key,), k, i, action) for k, i in _keys(inner).items()]
    return (
        f"### {name}\n\n{first}\n\n{_table(('field', 'type', 'default', 'placeholders', 'meaning'), fields)}\n\n{prose}"
    )


def actions_page(actions: Mapping[str, type[Action]]) -> str:
    """docs/actions.md: every action with its services, effect class and least privilege, then what it does."""
    names = sorted(actions)
    rows = [_overview(name, actions[name]) for name in names]
    table = _table(("action", "what it does", "services", "effect class"), rows)
    parts = [_page_of(name, actions[name]) for name in names]
    return "\n\n".join(part.strip() for part in (_ACTIONS_OPENING, table, *parts)) + "\n"


_ACTIONS_OPENING: Final = """\
# Actions

What a step, a check or evidence can do: of each action its services, its effect class (what follows when the answer
is lost, see [the language](language.md#actions)) and the least privilege that its user needs. The fields of each stand
in [the language reference](language.md#actions).

This page is made by `make reference` from the docstrings of the actions.
"""


def _overview(name: str, action: type[Action]) -> tuple[str, ...]:
    first = " ".join(class_text(action).partition("\n\n")[0].split())
    kinds = ", ".join(f"`{kind}`" for kind in action.kinds) or "none"
    effects = dict.fromkeys(re.findall(r"`(read|set|keyed|probed|unsafe)`", _said_of(action, "Effect class")))
    return f"[`{name}`](#{slug(name)})", first, kinds, ", ".join(f"`{effect}`" for effect in effects)


def _page_of(name: str, action: type[Action]) -> str:
    """Its docstring, the list of its fields left out: that is a table in the language reference."""
    first, _, rest = class_text(action).partition("\n\n")
    prose = re.sub(r"\A- `(?:.|\n)*?(?:\n\n|\Z)", "", rest).strip()
    return f"## {name}\n\n{first} [Its fields](language.md#{slug(name)}).\n\n{prose}"


def _said_of(action: type[Action], what: str) -> str:
    """The paragraph of its docstring that begins with these words, "" without one."""
    return next((part for part in class_text(action).split("\n\n") if part.startswith(what)), "")


# --- parts of the page ------------------------------------------------------------------------------------------------


def _contents(parts: Iterable[str]) -> str:
    headings = [found for part in parts for found in re.findall(r"^(##+) (.+)$", part, re.MULTILINE)]
    return "\n".join(f"{'  ' * (len(marks) - 2)}- [{_shown(title)}](#{slug(title)})" for marks, title in headings)


def _shown(title: str) -> str:
    return f"`{title}`" if re.search(r"[._]", title) or title.islower() else title


def slug(title: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _chapter(chapter: Chapter, keys: str) -> str:
    text = chapter.text.replace("{keys}", keys)
    tables = [_model_table(model, several=len(chapter.models) > 1) for model in chapter.models]
    example = f"```yaml\n{chapter.example}```" if chapter.example else ""
    return "\n\n".join(part.strip() for part in (f"## {chapter.title}", text, *tables, example) if part)


def _model_table(model: type[BaseModel], *, several: bool) -> str:
    rows = [_row(model, key, info) for key, info in _keys(model).items()]
    table = _table(_WIDE, rows)
    return f"**{model.__name__}.** {class_text(model)}\n\n{table}" if several else table


def _words_table(head: str, meaning: str, words: type[StrEnum]) -> str:
    texts = field_texts(words)
    return _table((head, meaning), [(f"`{word}`", texts.get(word.name, "")) for word in words])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --- keys -------------------------------------------------------------------------------------------------------------


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys that people write, the needed ones first."""
    found = {info.alias or name: info for name, info in model.model_fields.items() if not info.exclude}
    return dict(sorted(found.items(), key=lambda entry: not entry[1].is_required()))


def _row(model: type[BaseModel], key: str, info: FieldInfo) -> tuple[str, ...]:
    kind = _SPECIAL.get((model, key)) or kind_of(_annotation(info))
    return f"`{key}`", kind, _default(info), _meaning(model, key, info)


def _action_row(
    model: type[BaseModel], above: tuple[str, ...], key: str, info: FieldInfo, action: type[Action] | None = None
) -> tuple[str, ...]:
    """`above` is the key that holds `model`, a part of `action`; without it `model` is the action itself."""
    owner = action or model
    assert issubclass(owner, Action)
    name, meaning = f"`{'.'.join((*above, key))}`", _meaning(model, key, info)
    if _model_of(info.annotation) is not None:
        return name, "pairs", _default(info), "", meaning
    position = position_of(owner, (*above, key))
    return name, kind_of(_annotation(info)), _default(info), "no" if position is None else position.value, meaning


def _meaning(model: type[BaseModel], key: str, info: FieldInfo) -> str:
    texts = field_texts(model)
    said = texts.get(key) or next(texts.get(name, "") for name, field in model.model_fields.items() if field is info)
    return " ".join(said.split())


def _default(info: FieldInfo) -> str:
    """The default in the form that people write; nothing where there is none, or nothing to be seen."""
    if info.is_required():
        return "**needed**"
    if not isinstance(info.default, str | int | float) or info.default == "":
        return ""
    written: Any = TypeAdapter(_annotation(info)).dump_python(info.default, mode="json")
    return f"`{json.dumps(written) if isinstance(written, bool) else written}`"


def _annotation(info: FieldInfo) -> Any:
    return Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation


# --- types ------------------------------------------------------------------------------------------------------------


def kind_of(annotation: Any) -> str:
    """A type in the words of the chapter Values, with a link to the part that it is written as."""
    known = next((word for known, word in _WORDS if annotation == known), None)
    if known is not None:
        return known
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _PATTERNS.get(_said(arguments[1:], "pattern")) or _bounded(kind_of(arguments[0]), arguments[1:])
    if origin in (Union, types.UnionType):
        return _either([part for part in arguments if part is not type(None)])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is dict:
        return f"pairs: {kind_of(arguments[0])} → {kind_of(arguments[1])}"
    if origin is tuple:
        return f"list of {kind_of(arguments[0])}"
    return _named(annotation)


def _named(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return ", ".join(f"`{word}`" for word in annotation)
    chapter = next((c for c in CHAPTERS if annotation in c.models), None)
    if chapter is None:
        raise AssertionError(f"no chapter tells what {annotation} is: add it to `chapters`")
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", annotation.__name__).lower()
    return f"[{name}](#{slug(chapter.title)})"


def _either(parts: Sequence[Any]) -> str:
    kinds = [kind_of(part) for part in parts if not (part is int and float in parts)]
    return " or ".join(dict.fromkeys(kinds))


def _bounded(kind: str, metadata: Sequence[Any]) -> str:
    """Bounds that the type alone tells; validators say theirs in the meaning."""
    low, high = _said(metadata, "ge"), _said(metadata, "le")
    return kind if low is None or high is None else f"{kind}, {low} to {high}"


def _said(metadata: Sequence[Any], what: str) -> Any:
    """A constraint of an annotated type, in either of the forms that pydantic gives it; None without it."""
    entries = [inner for entry in metadata for inner in (entry, *getattr(entry, "metadata", ()))]
    return next((found for entry in entries if (found := getattr(entry, what, None)) is not None), None)


_PATTERNS: Final[Mapping[Any, str]] = {
    _said(get_args(Name)[1:], "pattern"): "name", _said(get_args(Identifier)[1:], "pattern"): "identifier",
}  # fmt: skip


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model in `M` or `M | None`."""
    parts: Iterator[Any] = iter((annotation, *get_args(annotation)))
    return next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), None)
