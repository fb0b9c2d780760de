"""JSON Schemas of the files that people write, for their editors, from the models that the loader validates by.

Draft 7, because that is what every YAML language server understands. Only what can be said of one file alone: whether
a name exists, expressions, templates and matchers are the loader's matter (`responder lint`). A schema refuses two
things on purpose that the loader takes: a key with nothing behind it, and a number or true/false in quotes. Keywords
that editors know and validators ignore: markdownDescription, enumDescriptions, errorMessage, doNotSuggest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Final, get_args

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from responder.contracts import Action, Catalogue, Secret
from responder.docstrings import class_text, field_texts, summary
from responder.mistakes import element_of, said
from responder.recorded import Effect
from responder.runbook import Hours, Input, Promise, Reading, Runbook, Step
from responder.variables import position_of
from responder.written import Duration, RateText

Schema = dict[str, Any]

DIALECT: Final = "http://json-schema.org/draft-07/schema#"
_DEFINED: Final = "defined"
"""Stands for `$ref` while pydantic is at work: it looks for what every reference means."""

_SPAN: Final = "(?=[0-9])" + "".join(f"([0-9]+{unit})?" for unit in ("y", "w", "d", "h", "m", "s", "ms", "us"))
_A_DURATION: Final = "a duration is written like 30s, 5m or 1h30m"
_DURATION: Final[Schema] = {
    "type": ["string", "integer"], "pattern": f"^(0|{_SPAN})$", "errorMessage": _A_DURATION,
    "if": {"type": "integer"}, "then": {"const": 0, "errorMessage": _A_DURATION},
}  # fmt: skip
_RATE: Final[Schema] = {
    "type": "string", "pattern": rf"^\s*[0-9]{{1,6}}\s+per\s+(0|{_SPAN})\s*$",
    "errorMessage": "a limit is written like 3 per 6h",
}  # fmt: skip
_WRITTEN: Final[Mapping[Callable[..., Any], Schema]] = {
    get_args(Duration)[1].func: _DURATION,
    get_args(RateText)[1].func: _RATE,
}
"""Function that reads what people write → what it takes. A model's schema shows only what the function makes of it."""

_PLACEHOLDER: Final = r"\{\{"
_NOT_PLACEHOLDER: Final = "neither of the right type nor a template such as '{{ symbol }}'"
_FLAT: Final = ("string", "integer", "number", "boolean")

_ONE_OF: Final[Mapping[type[Any], tuple[str, ...]]] = {
    Step: ("action", "manual"), Input: ("type", "pattern", "one_of"),
}  # fmt: skip
"""Keys of which there is exactly one. Validators and `references` say so in code, so it is said again here."""
_ANY_OF: Final[Mapping[type[Any], tuple[str, ...]]] = {Hours: ("within", "outside"), Promise: ("page", "run")}
"""Keys of which there is at least one."""


# ---------------------------------------------------------------------------------------------------------------- kinds


def runbook_schema(actions: Mapping[str, type[Action]]) -> Schema:
    """A runbook file, with the `with` of every action."""
    return _whole(_Writer(actions).model(Runbook), _definitions(actions))


def defaults_schema(actions: Mapping[str, type[Action]], keys: Collection[str]) -> Schema:
    """A _defaults.yaml, which holds those `keys` of a runbook and need not hold any."""
    made = _Writer(actions).model(Runbook)
    properties = {key: given for key, given in made["properties"].items() if key in keys}
    text = "What every runbook in this folder begins with; each may say it differently."
    made |= {"title": "Defaults", "description": text, "properties": properties, "required": []}
    return _whole(made, _definitions(actions))


def file_schema(model: type[BaseModel]) -> Schema:
    """Any other file of rules."""
    return _whole(_Writer({}).model(model), {})


def config_schema(model: type[BaseModel], catalogue: Catalogue) -> Schema:
    """responder.yaml: services and notifiers by their kind; any text or number may be a reference instead.

    Every key has a default, and one with nothing behind it counts as not written.
    """
    made = _Writer({}).model(model)
    properties: dict[str, Schema] = dict(made["properties"])
    for key, table in (("services", catalogue.services), ("notifiers", catalogue.notifiers)):
        properties[key] = {**properties[key], "additionalProperties": _by_kind(table)}
    for key, given in properties.items():
        properties[key] = _or_nothing(_mapped(_mapped(given, _named_secret), _or_reference))
    made |= {"description": "The configuration of the responder.", "properties": properties, "required": []}
    return _whole(made, {"Reference": _REFERENCE})


def _whole(made: Schema, definitions: Schema) -> Schema:
    """A schema that stands alone. Empty keywords are left out."""
    whole = {"$schema": DIALECT, **made, "definitions": definitions}
    return _mapped({key: value for key, value in whole.items() if value not in ([], {})}, _for_people)


def _definitions(actions: Mapping[str, type[Action]]) -> Schema:
    return {name: _parameters(action) | {"title": name} for name, action in sorted(actions.items())}


# -------------------------------------------------------------------------------------------------------------- actions


def _parameters(action: type[Action]) -> Schema:
    """What stands below `with` for one action."""
    made = _Writer({}).model(action)
    properties = {key: _templated(action, (key,), given) for key, given in made["properties"].items()}
    return made | {"properties": properties}


def _templated(action: type[Action], path: tuple[str, ...], given: Schema) -> Schema:
    """`given` with a placeholder as a further choice wherever one may stand; it is validated after rendering."""
    made = dict(given)
    for key in given.get("properties", {}):
        made["properties"] = {**made["properties"], key: _templated(action, (*path, key), given["properties"][key])}
    for key in ("items", "additionalProperties"):
        if isinstance(given.get(key), dict):
            made[key] = _templated(action, path, given[key])
    if position_of(action, path) is None or "properties" in given or "type" not in given:
        return made
    return _with_placeholder(made)


def _with_placeholder(given: Schema) -> Schema:
    types = _listed(given["type"])
    if "enum" in given or ("string" in types and "pattern" in given):
        said = {key: given[key] for key in ("description",) if key in given}
        return said | {"anyOf": [given, {"type": "string", "pattern": _PLACEHOLDER}]}
    if "string" in types:
        return {key: value for key, value in given.items() if key != "maxLength"}
    return given | {
        "type": [*types, "string"], "pattern": _PLACEHOLDER, "errorMessage": _NOT_PLACEHOLDER,
    }  # fmt: skip


def _reads(action: type[Action]) -> bool:
    """Whether it may stand where only reading is allowed; some do so with certain parameters only."""
    return action.reads_only or action.may_read or action.model_construct().effect(keyed=False) is Effect.READ


def _named_in(actions: Mapping[str, type[Any]], key: str) -> Schema:
    """The names of a table as the value of `key`, each with its first sentence."""
    names = sorted(actions)
    texts = [summary(actions[name]) for name in names]
    return {"type": "string", "enum": names, "enumDescriptions": texts, "markdownEnumDescriptions": texts}


def _when(key: str, name: str, then: Schema) -> Schema:
    return {"if": {"type": "object", "properties": {key: {"const": name}}, "required": [key]}, "then": then}


def _by_kind(table: Mapping[str, type[BaseModel]]) -> Schema:
    """One member of a table that its key `kind` chooses from."""
    kind = _named_in(table, "kind") | {"description": "What it is; the other keys follow from it."}
    members = {name: _Writer({}).model(member) for name, member in sorted(table.items())}
    for name, member in members.items():
        member["properties"] = {"kind": {"const": name, "doNotSuggest": True}} | {
            key: given for key, given in member["properties"].items() if key != "kind"
        }
    chosen = [_when("kind", name, member) for name, member in members.items()]
    return {"type": "object", "properties": {"kind": kind}, "required": ["kind"], "allOf": chosen}


# --------------------------------------------------------------------------------------------------------------- models


class _Writer(GenerateJsonSchema):
    """Pydantic's generator with what it cannot see: docstrings, forms that validators take, the table of actions."""

    def __init__(self, actions: Mapping[str, type[Action]]) -> None:
        super().__init__(by_alias=True)
        self.actions = actions

    def model(self, model: type[BaseModel]) -> Schema:
        """A model with every model below it in its place: editors show more of that than of references."""
        made = self.generate(TypeAdapter(model).core_schema, mode="validation")
        return _mapped(_inlined(made, made.pop("$defs", {})), _plain)

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        return value  # the order of the models is the order that people read

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        written = _WRITTEN.get(schema["function"]["function"])
        return super().function_before_schema(schema) if written is None else dict(written)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        owner: type[BaseModel] = schema["cls"]
        made = super().model_schema(schema)
        keys = {info.alias or name: info for name, info in owner.model_fields.items() if not info.exclude}
        required = [key for key in made.get("required", ()) if key in keys]
        order = [*required, *(key for key in keys if key not in required)]
        made = {
            "title": owner.__name__, "description": class_text(owner), "type": "object",
            "properties": {key: _field(owner, key, keys[key], made["properties"][key]) for key in order},
            "required": required, "additionalProperties": False, **_chosen(owner),
        }  # fmt: skip
        if {"action", "with"} <= keys.keys():
            self.add_actions(made, owner)
        short = [form for value, form in _SHORT_FORMS if _takes(owner, value, ())]
        return {"anyOf": [*short, made], "description": made["description"]} if short else made

    def add_actions(self, made: Schema, owner: type[BaseModel]) -> None:
        """The names of the actions that may be used here, and what `with` holds for each."""
        usable = {n: a for n, a in self.actions.items() if _reads(a) or not issubclass(owner, Reading)}
        made["properties"]["action"] |= _named_in(usable, "action")
        made["properties"]["with"] = {"type": "object", "doNotSuggest": True}
        made["allOf"] = made.get("allOf", []) + [
            _when("action", name, _with(name, action)) for name, action in sorted(usable.items())
        ]


def _chosen(owner: type[BaseModel]) -> Schema:
    """Which of several keys there must be."""
    keys = _ONE_OF.get(owner) or _ANY_OF.get(owner, ())
    message = f"there is {'exactly' if owner in _ONE_OF else 'at least'} one of {', '.join(keys)}"
    made: Schema = {"anyOf": [{"required": [key], "errorMessage": message} for key in keys]} if keys else {}
    if owner in _ONE_OF:
        others = {key: {other: False for other in keys if other != key} for key in keys[:-1]}
        made["allOf"] = [
            {"if": {"type": "object", "required": [key]}, "then": {"properties": refused, "errorMessage": message}}
            for key, refused in others.items()
        ]  # fmt: skip
    return made


def _with(name: str, action: type[Action]) -> Schema:
    then: Schema = {"properties": {"with": {_DEFINED: name}}}
    needed = any(info.is_required() for info in action.model_fields.values())
    # Apart from the properties: beside them an editor would offer `with` twice.
    return then | {"allOf": [{"required": ["with"]}]} if needed else then


def _field(owner: type[BaseModel], key: str, info: FieldInfo, given: Schema) -> Schema:
    """One key, with what is said about it and with each form in which its value may be written."""
    made = {name: value for name, value in given.items() if name not in ("default", "title")}
    if made.get("type") == "array" and _takes_one(owner, key, info):
        made = {"anyOf": [made["items"], {key: value for key, value in made.items() if key != "description"}]}
    if owner is Runbook and key == "unless_fixed":
        names = {"pattern": _DURATION["pattern"], "errorMessage": _A_DURATION}
        made["propertyNames"] = {"title": "5m", "description": "How long after the opening.", "allOf": [names]}
    if info.annotation == JsonValue:  # any, but something: an editor writes no colon behind a key without a type
        made["type"] = [*_FLAT, "object", "array"]
    text = _said(owner, key, info)
    if "default" not in text.lower():
        text = f"{text} {_default(info)}".strip()
    return made | {"description": text} if text else made


def _said(owner: type[BaseModel], key: str, info: FieldInfo) -> str:
    texts = field_texts(owner)
    return texts.get(key) or next(texts.get(name, "") for name, field in owner.model_fields.items() if field is info)


def _default(info: FieldInfo) -> str:
    """`Default: …` in the form that people write; nothing where there is no plain one."""
    if not isinstance(info.default, str | int | float) or info.default == "":
        return ""
    written_as: Any = Annotated[info.annotation, info, *info.metadata]
    written = TypeAdapter(written_as).dump_python(info.default, mode="json")
    return f"Default: `{json.dumps(written) if isinstance(written, bool) else written}`."


_SHORT_FORMS: Final = (("x", {"type": "string"}), (["x"], {"type": "array", "items": {"type": "string"}}))
_WRONG_TYPES: Final = frozenset({"tuple_type", "model_type", "model_attributes_type"})


def _takes_one(owner: type[BaseModel], key: str, info: FieldInfo) -> bool:
    """Whether a single value may stand where the model has a list."""
    one = Secret("", str) if element_of(info.annotation, tuple) is Secret else "x"
    return _takes(owner, {key: one}, (key,))


def _takes(owner: type[BaseModel], value: Any, path: tuple[str, ...]) -> bool:
    """Whether the form of the value at `path` is one that the validators take: they are asked, nothing else says it."""
    try:
        owner.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        return all(found["loc"] != path or found["type"] not in _WRONG_TYPES for found in error.errors())
    return True


# ---------------------------------------------------------------------------------------------------- turning one about


def _mapped(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """The schema with `change` made to every schema in it but conditions, the innermost first."""

    def changed(inner: Any) -> Any:
        return _mapped(inner, change) if isinstance(inner, dict) else inner

    made = dict(schema)
    for key, value in schema.items():
        if key in ("properties", "patternProperties", "definitions"):
            made[key] = {name: changed(inner) for name, inner in value.items()}
        elif key in ("anyOf", "oneOf", "allOf"):
            made[key] = [changed(inner) for inner in value]
        elif key in ("items", "additionalProperties", "propertyNames", "then"):
            made[key] = changed(value)
    return change(made)


def _inlined(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    def resolved(node: Schema) -> Schema:
        name = str(node.get("$ref", "")).removeprefix("#/$defs/")
        if name not in definitions:
            return node
        return {**_mapped(definitions[name], resolved), **{k: v for k, v in node.items() if k != "$ref"}}

    return _mapped(schema, resolved)


def _plain(node: Schema) -> Schema:
    """As few keywords as say the same, since editors make most of the simple ones."""
    if _DEFINED in node:
        return {"$ref": f"#/definitions/{node[_DEFINED]}"}
    made = {key: value for key, value in node.items() if value not in ([], "")}
    if "enum" in made:
        made.pop("title", None)
    if "pattern" in made and "errorMessage" not in made and (hint := _pattern_hint(made["pattern"])):
        made["errorMessage"] = hint
    if "patternProperties" in made:  # with them alone, any other name would be allowed
        ((pattern, inner),) = made.pop("patternProperties").items()
        names = _plain({"pattern": pattern})
        made |= {"propertyNames": {"title": "name", "allOf": [names]}, "additionalProperties": inner}
    return _simple_choice(made) if "anyOf" in made else made


def _simple_choice(node: Schema) -> Schema:
    """Alternatives without null: the only one itself, and plain types as one list."""
    choices = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
    made = {key: value for key, value in node.items() if key != "anyOf"}
    if all(choice.keys() == {"type"} for choice in choices):
        types = list(dict.fromkeys(choice["type"] for choice in choices))
        return {"type": types[0] if len(types) == 1 else types, **made}
    return {**choices[0], **made} if len(choices) == 1 else {"anyOf": choices, **made}


def _pattern_hint(pattern: str) -> str:
    """What the loader says of the pattern, "" where it has nothing that people would understand."""
    found = {"type": "string_pattern_mismatch", "ctx": {"pattern": pattern}, "input": "", "msg": ""}
    return said(found, shown=False)[1]


_REFERENCE: Final[Schema] = {"title": "Reference", **TypeAdapter(Secret).json_schema()}
_TO_REFERENCE: Final[Schema] = {"$ref": "#/definitions/Reference"}


def _named_secret(node: Schema) -> Schema:
    """A secret as what it is: a reference and nothing else."""
    if node.get("properties") != _REFERENCE["properties"]:
        return node
    return _TO_REFERENCE | {key: node[key] for key in ("description",) if key in node}


def _or_reference(node: Schema) -> Schema:
    """A text or number that may also be `{env: NAME}` or `{file: PATH}`."""
    if not set(_listed(node.get("type"))) <= set(_FLAT) or "enumDescriptions" in node:
        return node
    inner = {key: value for key, value in node.items() if key != "description"}
    outer = {key: value for key, value in node.items() if key == "description"}
    return {"anyOf": [inner, _TO_REFERENCE], **outer}


def _or_nothing(node: Schema) -> Schema:
    if "type" in node:
        return {**node, "type": [*_listed(node["type"]), "null"]}
    return {**node, "anyOf": [*node["anyOf"], {"type": "null"}]}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _for_people(node: Schema) -> Schema:
    """What it means first; as Markdown too where it is more than a line of plain text."""
    text = node.get("description", "")
    first = {key: node[key] for key in _FIRST if key in node}
    return first | ({"markdownDescription": text} if set(text) & {"`", "\n"} else {}) | node


_FIRST: Final = ("$schema", "$comment", "title", "description", "type")
