"""The language reference says all that can be written, every link leads somewhere, and every example can be loaded."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from responder.actions import ACTIONS
from responder.app import CATALOGUE
from responder.chapters import CHAPTERS, TEMPLATES, VALUES, Chapter
from responder.config import Config, read_config
from responder.docstrings import class_text
from responder.environment import Environment
from responder.loader import DEFAULTS_MAY_HOLD, Loaded, load_rules
from responder.manual import action_page, actions_page, kind_of, language, slug
from responder.recorded import Effect, Mode, Result
from responder.risks import Code
from responder.runbook import Promise, Runbook
from responder.sandbox import ENVIRONMENT
from responder.timing import parse_duration
from responder.written import Duration, Identifier, Names

PAGE = language(ACTIONS, DEFAULTS_MAY_HOLD, Code)
EXAMPLE = "rules/edge-risk/_responder.example.yaml"
AROUND = """\
runbook: around
title: What stands around an example
match: [Example, 'env="prod"']
env: prod
target: risk-api/kelly_fraction
checks:
  var: {action: prometheus.query, with: {service: metrics, query: max(var_pct), freshness: var_pct}}
"""
HALT = "runbook: halt-trading\ntitle: Halt\ntarget: risk-api/trading\nenv: prod\n"
STEPS = "steps: [{id: look, manual: Look}]\n"
OTHERS = """\
  alertmanager: {kind: alertmanager, env: prod, url: 'http://alertmanager:9093'}
  scripts: {kind: command, env: prod, folder: /opt/trading/scripts}
  db: {kind: postgres, env: prod, url: 'postgresql://db/trading', username: responder}
  db-replica-1: {kind: postgres, env: prod, url: 'postgresql://db-1/trading', username: responder}
  db-replica-2: {kind: postgres, env: prod, url: 'postgresql://db-2/trading', username: responder}
"""
"""Services of the examples that edge-risk does not have."""
BESIDE = {
    "policies.yaml": "policies: {edge-risk: {}}\ndefault: edge-risk\n",
    "calendars.yaml": "calendars:\n"
    "  session: {days: mon-fri, timezone: UTC}\n"
    "  freeze: {dates: ['2026-12-24'], timezone: UTC}\n",
    "halt.yaml": HALT + STEPS,
}


def configured() -> Config:
    checkout = Path(__file__).parents[2]
    environment = Environment({}, checkout / "rules" / "edge-risk", check_secrets=False)
    config = yaml.safe_load((checkout / EXAMPLE).read_text(encoding="utf-8"))
    # An action's example names a service as the platform that has one calls it.
    for path in sorted((checkout / "rules").glob("*/_responder.example.yaml")):
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        config["services"] = {**found.get("services", {}), **config["services"]}
    config["services"]["cluster"]["namespaces"] = ["trading-system-prod", "multi-market"]
    config["services"]["alertmanager"] = {"kind": "alertmanager", "env": "prod", "url": "http://alertmanager:9093"}
    return read_config(EXAMPLE, yaml.safe_dump(config), CATALOGUE, environment)


def load(name: str, text: str) -> Loaded:
    return load_rules({**BESIDE, name: text}, CATALOGUE, configured())


def surrounded(parts: str) -> str:
    """Keys of a runbook with the rest of one around them."""
    given = yaml.safe_load(parts)
    rest = {key: value for key, value in yaml.safe_load(AROUND).items() if key not in given}
    return str(yaml.safe_dump(rest, sort_keys=False)) + parts


EXAMPLES = [pytest.param(chapter, id=chapter.title) for chapter in CHAPTERS if chapter.example]


@pytest.mark.parametrize("chapter", EXAMPLES)
def test_the_example_of_a_chapter_can_be_loaded(chapter: Chapter) -> None:
    if chapter.file == "runbook":
        load("example.yaml", surrounded(chapter.example))
    elif chapter.file == "_defaults.yaml":
        load("folder/_defaults.yaml", chapter.example)
    elif chapter.file == "policies.yaml":
        load("folder/policies.yaml", chapter.example.replace("default: desk\n", ""))
    elif chapter.file == "calendars.yaml":
        load("calendars.yaml", chapter.example)
    else:
        load("example.yaml", chapter.example)


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_the_example_of_an_action_can_be_loaded(name: str) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", class_text(ACTIONS[name]), re.DOTALL)
    parts = "steps:\n" + re.sub("^", "  ", example, flags=re.MULTILINE) if example.startswith("- ") else example
    assert name in parts
    load("example.yaml", surrounded(parts))


def test_every_key_of_a_runbook_stands_in_the_page() -> None:
    for key in Runbook.model_fields:
        assert f"| `{key}` |" in PAGE


def test_every_row_says_what_it_means() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| `", line)]
    assert len(rows) > 90
    assert [row for row in rows if not row.rsplit(" | ", 1)[1].strip(" |")] == []


def test_every_link_of_the_page_leads_to_a_heading() -> None:
    anchors = {slug(title) for title in re.findall(r"^##+ (.+)$", PAGE, re.MULTILINE)}
    links = set(re.findall(r"\]\(#([^)]+)\)", PAGE))
    assert len(links) > 25
    assert links - anchors == set()


@pytest.mark.parametrize("words", [Result, Effect, Code])
def test_every_word_is_told(words: type[StrEnum]) -> None:
    assert [word for word in words if not re.search(rf"^\| `{word}` \| [A-Z`].+\. \|$", PAGE, re.MULTILINE)] == []


def test_the_filters_that_are_told_are_those_that_there_are() -> None:
    filters = {name for name in ENVIRONMENT.filters if not name.startswith("written as ")}
    (told,) = re.findall(r"the filters (.*?);", TEMPLATES, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", told)) == filters


def test_the_durations_of_the_page_are_durations() -> None:
    (cell,) = re.findall(r"^\| duration \| (.*?) \|", VALUES, re.MULTILINE)
    assert all(parse_duration(text) >= 0 for text in re.findall(r"`(.*?)`", cell))


def test_fields_are_told_once_and_with_the_position_of_their_placeholders() -> None:
    page = action_page("http.request", ACTIONS["http.request"])
    assert "| `path` | text | **needed** | path | " in page
    assert "| `service` | text | **needed** | no | " in page
    assert "| `probe.expect` | text | **needed** | no | " in page
    assert "- `service`:" not in page
    assert "Redirects are never followed." in page


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        (Duration, "duration"),
        (Duration | None, "duration"),
        (Names, "text, or a list"),
        (Identifier, "identifier"),
        (dict[str, Promise], "pairs: text → [promise](#unless_fixed)"),
        (tuple[str, ...], "list of text"),
        (str | int | float, "text or number"),
        (Literal["page", "act_and_page"], "`page`, `act_and_page`"),
        (Mode, "`observe`, `approve`, `auto`"),
    ],
)
def test_types_are_told_in_words(annotation: Any, told: str) -> None:
    assert kind_of(annotation) == told


def test_a_part_without_a_chapter_is_not_forgotten() -> None:
    with pytest.raises(AssertionError, match="no chapter tells what"):
        kind_of(Config)


@pytest.mark.parametrize(
    ("title", "anchor"),
    [("only_if", "only_if"), ("_defaults.yaml", "_defaultsyaml"), ("How to read", "how-to-read"), ("a, b", "a-b")],
)
def test_anchors_are_those_of_github(title: str, anchor: str) -> None:
    assert slug(title) == anchor


def test_every_action_has_its_services_effect_class_and_least_privilege_on_its_page() -> None:
    page = actions_page(ACTIONS)
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| [`")]
    assert len(rows) == len(ACTIONS)
    assert [row[0] for row in rows if "`" not in row[3]] == [], "write a paragraph `Effect class …`"
    sections = {part.partition("\n")[0]: part for part in page.split("\n## ")[1:]}
    lacking = [name for name, action in ACTIONS.items() if action.kinds and "\nNeeds of " not in sections[name]]
    assert lacking == [], "write a paragraph `Needs of …`: the rights that the user of its service must have"
    assert "- `service`" not in page, "its fields stand in the language reference"
