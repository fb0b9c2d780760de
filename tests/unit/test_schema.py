"""JSON Schemas against the loader: what it takes they take, and which mistakes an editor can show."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from pydantic import ValidationError

from responder.actions import ACTIONS
from responder.cli import run
from responder.cli.schema import Kind, text
from responder.config import Config
from responder.contracts import Catalogue
from responder.documents import parse_document
from responder.errors import BadRules, BadSyntax
from responder.loader import DEFAULTS_MAY_HOLD
from responder.notifiers import NOTIFIERS
from responder.policies import Policies
from responder.runbook import Reading, Runbook, Step
from responder.schema import Schema, config_schema, defaults_schema, file_schema, runbook_schema
from responder.services import SERVICES
from responder.sources import Folders, read_sources, shipped_rules
from responder.timing import format_duration, parse_duration
from tests.unit import stand_ins

KEPT = shipped_rules() / "schema"
SHIPPED = sorted([*shipped_rules().rglob("*.yaml"), shipped_rules().parent / "responder.yaml"])
MISTAKES = {path.stem: path for path in sorted((Path(__file__).parent / "mistakes").glob("*.yaml"))}

SAID_IN_CODE = {"approval_of_a_manual_step", "never_succeeds", "schedule_wrong"}
"""What a model refuses by comparing values or reading a text, which no schema can."""
SEEN_TOO = {
    "duration_as_key", "evidence_that_changes", "promise_of_nothing", "type_and_pattern",
    "unknown_action", "unknown_key_in_with",
    "wrong_type_of_a_parameter",
}  # fmt: skip
"""What the models take and `references` refuses, and an editor shows all the same. The rest of what it refuses needs
other files, other parts of the file, or a grammar: names of services, checks, inputs, expressions, templates."""


def refusals(schema: Schema, value: Any) -> list[str]:
    return [error.json_path for error in Draft7Validator(schema).iter_errors(value)]


def read(path: Path) -> Any:
    document = parse_document(path.name, path.read_text(encoding="utf-8"))
    assert document.problems == ()
    return document.value


@pytest.fixture(scope="module")
def small() -> Schema:
    return runbook_schema(stand_ins.CATALOGUE.actions)


# --- the files that are shipped ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_the_kept_schemas_are_those_of_the_models(kind: Kind) -> None:
    kept = (KEPT / f"{kind}.schema.json").read_text(encoding="utf-8")
    assert kept == text(kind), "run `make schema`"
    Draft7Validator.check_schema(json.loads(kept))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_names_its_schema_and_keeps_to_it(path: Path) -> None:
    modeline = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text(encoding="utf-8"))
    assert modeline is not None
    kind = {"_defaults": "defaults", "_responder.example": "config", "responder": "config"}.get(path.stem)
    expected = kind or (path.stem if path.stem in ("policies", "calendars") else "runbook")
    named = (path.parent / modeline[1]).resolve()
    assert named == (KEPT / f"{expected}.schema.json").resolve()
    assert refusals(json.loads(named.read_text(encoding="utf-8")), read(path)) == []


def test_the_folder_of_the_schemas_is_no_catalogue() -> None:
    folders = Folders(shipped_rules(), shipped_rules().parent)
    with pytest.raises(BadRules, match="no shipped catalogue 'schema'"):
        read_sources(["schema"], folders)
    assert not [name for name in read_sources(["./rules"], folders) if "schema" in name]


# --- the mistakes that an editor shows --------------------------------------------------------------------------------


def is_taken(value: Any) -> bool:
    """Whether the models take it."""
    try:
        Runbook.model_validate(value, by_alias=True, by_name=False)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_that_a_schema_can_see_is_refused(name: str, small: Schema) -> None:
    document = parse_document(name, MISTAKES[name].read_text(encoding="utf-8"))
    if document.problems:
        pytest.skip("not YAML as we read it: an editor says so itself")
    seen = name not in SAID_IN_CODE and (name in SEEN_TOO or not is_taken(document.value))
    assert bool(refusals(small, document.value)) == seen


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("defaults", {"steps": []}),
        ("defaults", {"limits": {"cooldown": "10 minutes"}}),
        ("policies", {"policies": {"a": {"levels": [{"name": "L1"}]}}}),
        ("config", {"listn": "x"}),
        ("config", {"file": "x"}),
        ("config", {"services": {"a": {"url": "http://x"}}}),
        ("config", {"services": {"a": {"kind": "http"}}}),
        ("config", {"services": {"a": {"kind": "prometheus", "url": "http://x", "idempotency_keys": True}}}),
        ("config", {"services": {"a": {"kind": "htp", "url": "http://x"}}}),
        ("config", {"services": {"a": {"kind": "http", "url": "http://x", "bearer": "in plain sight"}}}),
        ("config", {"services": {"a": {"kind": "http", "url": "http://x", "bearer": {"env": "A", "file": "b"}}}}),
        ("config", {"limits": {"alerts": "many"}}),
        ("config", {"auth": {"people": {"anna": {"token": "in plain sight"}}}}),
        ("config", {"mode": "automatic"}),
    ],
)
def test_mistakes_in_other_files(kind: str, value: Any) -> None:
    assert refusals(json.loads(text(Kind(kind))), value) != []


# --- what people may write --------------------------------------------------------------------------------------------

HEAD = {"runbook": "cut", "title": "Cut", "target": "risk/kelly"}


COOLDOWN = runbook_schema({})["properties"]["limits"]["properties"]["cooldown"]


@given(st.text("0123456789ywdhmsu ", max_size=6))  # too short for one beyond 64 bits, which no pattern can see
def test_durations_are_those_that_the_loader_reads(written: str) -> None:
    try:
        parse_duration(written)
    except BadSyntax:
        assert refusals(COOLDOWN, written) != []
    else:
        assert refusals(COOLDOWN, written) == []


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [
        ("limits.cooldown", [0, "0", "1h30m"], [5, True, "", "1m1h", None]),
        ("limits.runs", ["3 per 6h", " 3  per 1h30m "], ["3/6h", "3 per", 3]),
        ("match", ["VaRBreach", ["VaRBreach", 'env="prod"'], []], [3, [3], {}]),
        ("yields_to", ["redis-down", ["redis-down"]], [True]),
        (
            "calendar",
            ["nse", ["nse", "mcx"], {"within": "nse"}, {"outside": ["nse"], "otherwise": "wait"}],
            [{"in": 1}],
        ),
        ("mode", ["auto"], ["Auto", True]),
        ("inputs", [{"book": {"label": "book", "one_of": ["a"]}}], [{"Book": {"label": "book", "one_of": ["a"]}}]),
        ("brake", [True], ["yes", 1]),
        ("unless_fixed", [{"1h30m": {"page": "cro"}, "2h": {"run": "halt", "page": ["a"]}}], [{"2min": {"page": "a"}}]),
        ("verify", [{"check": "a", "expect": "value < 1", "within": "2m"}], [{}, None]),
    ],
)
def test_forms_in_which_people_write(path: str, good: list[Any], bad: list[Any], small: Schema) -> None:
    first, _, second = path.partition(".")
    for value, fits in [*((value, True) for value in good), *((value, False) for value in bad)]:
        written = HEAD | {first: {second: value} if second else value}
        assert (refusals(small, written) == []) == fits, value


@pytest.mark.parametrize(
    ("action", "given", "fits"),
    [
        ("api.call", {"path": "/a/{{ book }}"}, True),
        ("api.call", {"path": "/a", "tries": "{{ steps.read.output }}"}, True),
        ("api.call", {"path": "/a", "tries": "three"}, False),
        ("api.call", {"path": "/a", "method": "{{ book }}"}, False),
        ("api.call", {"path": "/a", "json": {"deep": ["{{ book }}", None]}}, True),
        ("parameter.reduce", {"parameter": "risk/kelly", "to": "{{ book }}", "reason": "VaR"}, False),
        ("parameter.reduce", {"parameter": "risk/kelly", "to": 0.1, "reason": "of {{ book }}"}, True),
    ],
)
def test_a_placeholder_may_stand_where_the_action_takes_one(
    action: str, given: Mapping[str, Any], fits: bool, small: Schema
) -> None:
    service = {"service": "risk"} if action == "api.call" else {}
    written = HEAD | {"steps": [{"id": "a", "action": action, "with": service | dict(given)}]}
    assert (refusals(small, written) == []) == fits


def test_any_text_or_number_of_the_configuration_may_be_a_reference() -> None:
    config = {
        "listen": {"env": "LISTEN"},
        "mode": {"env": "MODE"},
        "rules": ["edge-risk", {"env": "RULES"}],
        "limits": {"alerts": {"file": "alerts"}, "stop": {"env": "STOP"}},
        "auth": {"people": {"anna": {"token": {"env": "A"}}, "otto": {"token": [{"env": "B"}, {"file": "c"}]}}},
        "services": None,
        "notifiers": {"chat": {"kind": "slack", "token": {"env": "T"}, "channel": {"env": "CHANNEL"}}},
    }
    assert refusals(config_schema(Config, Catalogue(ACTIONS, NOTIFIERS, SERVICES)), config) == []


# --- a property: what the models take, the schema takes ---------------------------------------------------------------

words = st.text("abcdefgh -{}", min_size=1, max_size=8)
names = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True)
durations = st.integers(0, 10**13).map(format_duration)
spans = st.one_of(st.just(0), durations)
rates = st.builds("{} per {}".format, st.integers(0, 999_999), durations)
several = st.one_of(words, st.lists(words, max_size=3))
how = st.one_of(
    st.fixed_dictionaries(
        {"action": st.just("api.call"), "with": st.fixed_dictionaries({"service": words, "path": words})}
    ),
    st.fixed_dictionaries(
        {
            "action": st.just("parameter.reduce"),
            "with": st.fixed_dictionaries({"parameter": words, "to": st.floats(0, 9), "reason": words}),
        }
    ),
    st.fixed_dictionaries({"manual": words}),
)
reading = st.fixed_dictionaries({"service": words, "query": words}, optional={"freshness": words})
retries = st.fixed_dictionaries(
    {}, optional={"attempts": st.integers(1, 20), "first": spans, "factor": st.integers(1, 10), "cap": spans}
)
steps = st.builds(
    lambda use, rest: {**rest, **use},
    how,
    st.fixed_dictionaries(
        {"id": names},
        optional={
            "title": words, "when": words, "expect": words, "timeout": spans, "retry": retries, "brake": st.booleans(),
            "on_failure": st.sampled_from(["abort", "continue"]),
            "restore": st.fixed_dictionaries({"approval": words}, optional={"remind": spans}),
        },
    ),
)  # fmt: skip
checks = st.fixed_dictionaries(
    {"action": st.just("metrics.query"), "with": reading}, optional={"max_age": spans, "timeout": spans}
)
promises = st.one_of(
    st.fixed_dictionaries({"page": several}, optional={"countdown": spans}),
    st.fixed_dictionaries({"run": words}, optional={"page": several}),
)
runbooks = st.fixed_dictionaries(
    {"runbook": names.map(lambda name: name.replace("_", "-")), "title": words, "target": words},
    optional={
        "impact": words, "match": several, "mode": st.sampled_from(["observe", "auto"]),
        "brake": st.booleans(), "env": words, "links": st.dictionaries(words, words, max_size=2),
        "limits": st.fixed_dictionaries({}, optional={"cooldown": spans, "runs": rates, "ineffective": rates}),
        "inputs": st.dictionaries(names, st.fixed_dictionaries({"label": words, "pattern": words}), max_size=2),
        "checks": st.dictionaries(names, checks, max_size=2), "steps": st.lists(steps, max_size=3),
        "evidence": st.lists(st.fixed_dictionaries({"action": st.just("metrics.query"), "with": reading}), max_size=2),
        "only_if": st.fixed_dictionaries({"check": words, "expect": words}),
        "verify": st.fixed_dictionaries({"check": words, "expect": words, "within": durations}),
        "unless_fixed": st.dictionaries(durations, promises, max_size=2), "escalation": words,
    },
)  # fmt: skip
SMALL = Draft7Validator(runbook_schema(stand_ins.CATALOGUE.actions))


@given(runbooks)
def test_what_the_models_take_the_schema_takes(written: dict[str, Any]) -> None:
    runbook = Runbook.model_validate(written, by_alias=True, by_name=False)
    uses: list[Step | Reading] = [*runbook.steps, *runbook.checks.values(), *runbook.evidence]
    for use in uses:
        if use.action is not None:
            stand_ins.CATALOGUE.actions[use.action].model_validate(use.with_)
    assert [error.message for error in SMALL.iter_errors(written)] == []


# --- what an editor makes of it ---------------------------------------------------------------------------------------


def parts(schema: Any, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema in a schema with the path to it; conditions are not looked into."""
    if not isinstance(schema, dict):
        return
    yield path, schema
    for key in ("properties", "definitions"):
        for name, inner in schema.get(key, {}).items():
            yield from parts(inner, f"{path}/{name}")
    for key in ("items", "additionalProperties", "then"):
        yield from parts(schema.get(key), f"{path}/{key}" if key == "then" else path)
    for key in ("anyOf", "allOf"):
        for inner in schema.get(key, ()):
            yield from parts(inner, path)


@pytest.mark.parametrize("kind", Kind)
def test_every_key_is_explained(kind: Kind) -> None:
    silent = [
        f"{path}/{name}"
        for path, schema in parts(json.loads(text(kind)))
        for name, inner in schema.get("properties", {}).items()
        if isinstance(inner, dict) and not {"description", "$ref", "doNotSuggest"} & inner.keys()
    ]
    assert silent == []


@pytest.mark.parametrize("kind", Kind)
def test_nothing_is_offered_that_nobody_would_write(kind: Kind) -> None:
    top = {f"/{name}" for name in Config.model_fields} if kind is Kind.CONFIG else set()
    for path, schema in parts(json.loads(text(kind))):
        assert "default" not in schema, "editors write defaults into every new block"
        assert path in top or "null" not in (schema.get("type") or ())


def test_required_keys_come_first() -> None:
    assert list(runbook_schema({})["properties"])[:3] == ["runbook", "title", "target"]


def test_an_action_brings_its_page_and_its_keys() -> None:
    schema = runbook_schema(ACTIONS)
    step = schema["properties"]["steps"]["items"]["properties"]["action"]
    assert step["enum"] == sorted(ACTIONS)
    request = step["enum"].index("http.request")
    assert step["enumDescriptions"][request] == "Send one request to a configured HTTP API."
    page = schema["definitions"]["http.request"]
    assert "```yaml\n- id: halt\n  action: http.request\n" in page["markdownDescription"]
    assert page["properties"]["method"]["description"].startswith("GET (default)")
    assert page["required"] == ["service", "path"]


def test_only_what_can_read_is_offered_for_checks() -> None:
    check = runbook_schema(ACTIONS)["properties"]["checks"]["additionalProperties"]
    assert "parameter.reduce" not in check["properties"]["action"]["enum"]
    assert {"prometheus.query", "http.request"} <= set(check["properties"]["action"]["enum"])


def test_defaults_are_told_as_people_write_them() -> None:
    step = runbook_schema({})["properties"]["steps"]["items"]["properties"]
    assert step["timeout"]["description"].endswith("Default: `10s`.")
    assert step["on_failure"]["description"].endswith("Default: `abort`.")


def test_defaults_hold_some_keys_and_need_none() -> None:
    schema = defaults_schema(ACTIONS, DEFAULTS_MAY_HOLD)
    assert set(schema["properties"]) <= set(DEFAULTS_MAY_HOLD)
    assert refusals(schema, {}) == []


def test_policies_may_be_empty() -> None:
    assert refusals(file_schema(Policies), {"by_severity": {}}) == []


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_runbooks_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Runbook"
    assert run(["schema", "policies", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Policies"


def test_the_command_writes_every_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "--output", str(tmp_path / "new"), "--json"]) == 0
    files = [str(tmp_path / "new" / f"{kind}.schema.json") for kind in Kind]
    assert json.loads(capsys.readouterr().out) == {"files": files}
    assert [path.name for path in sorted((tmp_path / "new").iterdir())] == sorted(Path(file).name for file in files)


def test_wrong_use_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run(["schema", "runbok"]) == 2
    assert "'policies'" in capsys.readouterr().err
    assert run(["schema", "--output", str(tmp_path / "file")]) == 2
    assert "name another folder" in " ".join(capsys.readouterr().err.split())
