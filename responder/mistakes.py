"""What pydantic refuses, said for people who write YAML, at the place where they wrote it.

Serves the loader and the configuration alike. Which keys exist and what stands below them comes from the same classes
that validate.
"""

import difflib
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, JsonValue, ValidationError

from responder.documents import Document
from responder.problems import Path, Problem

_FEW: Final = 14
_SHOWN: Final = 60
_TEXT_CHANGES: Final = "put it into quotes"

_PAIRS: Final = "`key: value` pairs"
_NEEDED: Final[Mapping[str, str]] = {
    "string_type": "text", "is_instance_of": "a secret",
    "int_type": "a whole number", "int_parsing": "a whole number", "int_from_float": "a whole number",
    "float_type": "a number", "float_parsing": "a number",
    "bool_type": "true or false", "bool_parsing": "true or false",
    "dict_type": _PAIRS, "model_type": _PAIRS, "model_attributes_type": _PAIRS,
    "tuple_type": "a list", "list_type": "a list", "set_type": "a list", "frozen_set_type": "a list",
}  # fmt: skip
_HINTS: Final[Mapping[str, str]] = {
    "a list": "write `[a, b]`, or begin each entry with `- `", _PAIRS: "write a `key: value` pair on each line",
    "a number": "write digits, such as 0.1", "a whole number": "write digits, such as 3",
}  # fmt: skip
_HINTS_AT: Final[Mapping[str, str]] = {
    "undo": "write what undoes it, such as undo: {action: …, with: …}",
    "freshness": "write the selector alone, such as var_pct; functions belong to `query:`",
}  # fmt: skip
"""What helps wherever the value of such a key is of the wrong kind."""
_SYNONYMS: Final[Mapping[str, str]] = {
    "body": "json", "data": "json", "payload": "json", "url": "path", "uri": "path", "endpoint": "path",
}  # fmt: skip
"""What other tools call a key → what it is called here, where there is one of that name."""
SECRET_HINT: Final = "write {env: NAME} or {file: PATH}; a secret never stands in a configuration file"
_PATTERNS: Final[Mapping[str, str]] = {
    "^[a-z][a-z0-9-]{0,62}$": "small letters, digits and -, beginning with a letter",
    "^[a-z][a-z0-9_]{0,62}$": "small letters, digits and _, beginning with a letter",
}

_capital: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def likely(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name that was probably meant, if any; `cutoff` is how alike they must be, up to 1."""
    folded = {name.lower().replace("-", "_"): name for name in sorted(known, reverse=True)}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def closest(word: str, known: Iterable[str]) -> str:
    """The hint for an unknown name: the one that was probably meant, else all there are when they are few."""
    names = sorted(known)
    meant = likely(word, names)
    if meant is not None:
        return f"did you mean {meant!r}?"
    if not names:
        return "there is none"
    if len(names) == 1:
        return f"there is only {names[0]!r}"
    return f"there are {', '.join(names)}" if len(names) <= _FEW else f"there are {len(names)}, such as {names[0]}"


def closest_runbook(name: str, known: Iterable[str], own: str) -> str:
    """The hint for an unknown runbook that the runbook `own` names; people write the name of an alert there."""
    others = [other for other in known if other != own]
    if name == name.lower():
        return closest(name, others) if others else "there is no other runbook"
    meant = likely(_capital.sub("-", name), others)
    return "these are names of runbooks, not of alerts" + ("" if meant is None else f"; did you mean {meant!r}?")


def unquoted(name: str, source: str) -> str:
    """The hint for a bare word that a condition compares with, as in `body.state == paused`; "" for other names."""
    compared = re.search(rf"[=!]=\s*{re.escape(name)}(?![\w.])", source) is not None
    return f'text stands in quotes: "{name}"' if compared and "." not in name else ""


def named(value: JsonValue) -> str:
    """What a value is, for people."""
    if value is None:
        return "nothing"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return kinds.get(type(value), _PAIRS)


def told(value: object) -> str:
    """A value within a message."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def problems_of(error: ValidationError, document: Document, base: Path, model: type[BaseModel]) -> Iterator[Problem]:
    """Every finding of `error`, which validating the value at `base` of `document` as `model` raised."""
    found = error.errors(include_url=False)
    keys = {entry["loc"][:-1] for entry in found if entry["loc"][-1:] == ("[key]",)}
    for entry in found:
        loc = entry["loc"]
        if loc[-1:] == ("[key]",) or not any(loc[: len(key)] == key for key in keys):  # what a wrong key holds is moot
            yield problem_of(entry, document, base, model)


def problem_of(found: Any, document: Document, base: Path, model: type[BaseModel]) -> Problem:
    """One entry of `ValidationError.errors()` at its place."""
    loc: Path = found["loc"]
    if found["type"] == "extra_forbidden":
        torn = found["input"] is None and " " in str(loc[-1])
        hint = "text with a comma needs quotes" if torn else unknown_key(str(loc[-1]), model, loc[:-1])
        return document.at_key((*base, *loc), "unknown key", hint)
    if found["type"] == "missing":
        return document.at_key((*base, *loc[:-1]), f"the key {loc[-1]!r} is missing", f"add `{loc[-1]}:`")
    if loc and loc[-1] == "[key]":
        message, hint = said(found, shown=True)
        return document.at_key((*base, *loc[:-1]), message, hint)
    path = _written((*base, *loc, *found.get("ctx", {}).get("below", ())), document)
    message, hint = said(found, shown=document.shown(path))
    hint = _hint_at((*base, *loc), found) or hint
    return (document.at_key if isinstance(found["input"], dict) else document.at_value)(path, message, hint)


def _written(path: Path, document: Document) -> Path:
    """The path without the index that a single value written where a list may stand got from pydantic or defaults."""
    marks = document.values
    while path and isinstance(path[-1], int):
        listed = marks.get(path) not in (None, marks.get(path[:-1]))
        if listed or (path in marks and isinstance(document.get(path), dict)):
            break
        path = path[:-1]
    return path


def _hint_at(path: Path, found: Any) -> str:
    """The hint that depends on the key whose value is wrong, "" where none does."""
    value, kind = found["input"], found["type"]
    keys = [part for part in path if isinstance(part, str)]
    if keys == ["match"] and kind in _NEEDED:
        pairs = value if isinstance(value, dict) else {}
        matchers = [f"'{key}=\"{inner}\"'" for key, inner in pairs.items() if isinstance(inner, str)]
        return f"write a list of matchers: [{', '.join(matchers)}]" if matchers else "write the name of an alert"
    return _HINTS_AT.get(str(path[-1]), "") if path and kind in (*_NEEDED, "value_error") else ""


def said(found: Any, *, shown: bool) -> tuple[str, str]:
    """Message and hint of one error; the value is repeated only where it may be shown."""
    kind, context, value = found["type"], found.get("ctx", {}), found["input"]
    if kind == "is_instance_of":
        return f"a secret is needed here, not {named(value)}", SECRET_HINT
    if kind in _NEEDED:
        quotes = kind == "string_type" and isinstance(value, bool | int | float)
        verb = "are" if _NEEDED[kind] == _PAIRS else "is"
        hint = _TEXT_CHANGES if quotes else _HINTS.get(_NEEDED[kind], "")
        return f"{_NEEDED[kind]} {verb} needed here, not {_named_value(value, shown)}", hint
    if kind in ("enum", "literal_error"):
        words = _words(context["expected"])
        meant = likely(str(value), words)
        hint = "write one of them" if meant is None else f"did you mean {meant!r}?"
        return f"{told(value) if shown else 'this'} is not one of {', '.join(words)}", hint
    if kind == "string_pattern_mismatch":
        return f"{told(value) if shown else 'this'} is not allowed here", _PATTERNS.get(
            context["pattern"], found["msg"]
        )
    message = str(found["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:], str(context.get("hint", ""))


def _words(expected: str) -> list[str]:
    """The words of an enumeration."""
    return [word.strip("' ") for word in expected.replace(" or ", ", ").split(", ")]


def _named_value(value: JsonValue, shown: bool) -> str:
    scalar = isinstance(value, str | int | float) and shown
    return f"{named(value)} ({told(value)})" if scalar and not isinstance(value, bool) else named(value)


def unknown_key(key: str, model: type[BaseModel], path: Path) -> str:
    """The hint for a key that the model at `path` below `model` does not have."""
    inner = model_in(annotation_at(model, path))
    if inner is None:
        return ""
    known = keys_of(inner)
    if _SYNONYMS.get(key.lower()) in known:
        return f"did you mean {_SYNONYMS[key.lower()]!r}?"
    if "with" in known and likely(key, known, cutoff=0.75) is None:
        return "what belongs to the action stands below `with:`"
    return closest(key, known)


def keys_of(model: type[BaseModel]) -> tuple[str, ...]:
    """The keys that people may write, in the order of the model."""
    return tuple(info.alias or name for name, info in model.model_fields.items() if not info.exclude)


def annotation_at(annotation: Any, path: Path) -> Any:
    """The type of what stands at `path` below a value of the type `annotation`; None where that is open."""
    for part in path:
        inner = model_in(annotation)
        if inner is not None and isinstance(part, str) and not _is_container(annotation):
            annotation = next((i.annotation for n, i in inner.model_fields.items() if (i.alias or n) == part), None)
        else:
            annotation = _element(annotation)
    return annotation


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model of a type such as `M`, `M | None`, `tuple[M, ...]` or `dict[str, M]`, else None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is Literal:
        return None
    return next((found for part in get_args(annotation) if (found := model_in(part)) is not None), None)


def holds_type(annotation: Any, wanted: type) -> bool:
    """Whether a value itself, not what it contains, may be of the type `wanted`."""
    if annotation is wanted:
        return True
    return get_origin(annotation) in _CHOICES and any(holds_type(part, wanted) for part in get_args(annotation))


_CHOICES: Final = (typing.Union, types.UnionType, typing.Annotated)


def element_of(annotation: Any, container: type) -> Any:
    """The type of the elements of `container[E, ...]`, None for any other type."""
    found = _container(annotation)
    return _element(annotation) if found is not None and get_origin(found) is container else None


def _is_container(annotation: Any) -> bool:
    return _container(annotation) is not None


def _container(annotation: Any) -> Any:
    if get_origin(annotation) in (tuple, list, dict, Mapping):
        return annotation
    if get_origin(annotation) in _CHOICES:
        return next((found for part in get_args(annotation) if (found := _container(part)) is not None), None)
    return None


def _element(annotation: Any) -> Any:
    container = _container(annotation)
    if container is None:
        return None
    arguments = [part for part in get_args(container) if part is not Ellipsis]
    return arguments[-1] if arguments else None
