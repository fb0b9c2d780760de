"""No value of a label changes a message to people other than at its own place: no block, line or detail of its own.

Beside test_injection, which is about what is done. The shipped templates are rendered as for a real incident.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from responder import facts as f
from responder.block_kit import blocks, fallback_text
from responder.incident import Incident
from responder.messages import MessageTemplates
from responder.notifiers import message_templates
from responder.notifiers.pagerduty import details
from responder.positions import clean
from responder.story import alert_text, sentence, state_values
from tests.builders import T0, fired, opened, told
from tests.hostile_values import HOSTILE, REFERENCE

every_value = pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())


def an_incident(value: str) -> Incident:
    labels = {"alertname": "TooMuchRisk", "symbol": value}
    return told(
        opened(target=f"risk/{value}", title="Too much risk", labels=labels),
        fired(labels=labels, annotations={"summary": value}),
        f.ProblemFound(problem=value, urgent=True),
    )


def seen(value: str) -> str:
    """What people see of it where everything stands on one line."""
    line = clean(" ".join(f"<{value}>".split()))
    return line[1:-1]


@pytest.fixture(scope="module")
def messages() -> MessageTemplates:
    return message_templates(None)


short_values = pytest.mark.parametrize(
    "value", [v for v in HOSTILE.values() if len(v) < 400], ids=[n for n, v in HOSTILE.items() if len(v) < 400]
)


@short_values
@pytest.mark.parametrize("kind", ["root", "thread"])
def test_no_value_changes_the_blocks_of_slack(kind: str, value: str, messages: MessageTemplates) -> None:
    def composed(text: str) -> list[dict[str, Any]]:
        incident = an_incident(text)
        values = {**state_values(incident, T0), "kind": "problem_found", "sentence": seen(text)}
        return list(blocks(messages.render(f"slack/{kind}.mrkdwn.j2", values)))

    found, reference = composed(value), composed(REFERENCE)
    assert [block["type"] for block in found] == [block["type"] for block in reference]
    lines = [_lines(block) for block in reference]
    assert [len(_lines(block)) for block in found] == [len(line) for line in lines]
    marks = [re.findall(r"<[^>]*>", line) for block in found for line in _lines(block)]
    assert marks == [re.findall(r"<[^>]*>", line) for block in lines for line in block]


def _lines(block: Mapping[str, Any]) -> list[str]:
    texts = [block["text"]["text"]] if "text" in block else [e["text"] for e in block.get("elements", ())]
    return [line for text in texts for line in text.split("\n")]


@short_values
def test_no_value_adds_or_changes_another_detail_of_a_page(value: str, messages: MessageTemplates) -> None:
    def composed(text: str) -> dict[str, Any]:
        values = {**state_values(an_incident(text), T0), "sentence": "people are needed"}
        return details(messages.render("pagerduty/details.txt.j2", values))

    found, reference = composed(value), composed(REFERENCE)
    assert list(found) == list(reference)
    untouched = {name for name, text in reference.items() if REFERENCE not in str(text)}
    assert {"why you", "impact", "helped", "next", "who has it", "acknowledge"} <= untouched
    assert {name: found[name] for name in untouched} == {name: reference[name] for name in untouched}


@short_values
@pytest.mark.parametrize(
    "name", ["text/root.txt.j2", "text/page.txt.j2", "console/root.txt.j2", "pagerduty/summary.txt.j2"]
)
def test_no_value_begins_a_line_of_a_message(name: str, value: str, messages: MessageTemplates) -> None:
    def composed(text: str) -> list[str]:
        return messages.render(
            name, {**state_values(an_incident(text), T0), "at": T0, "sentence": seen(text)}
        ).splitlines()

    assert len(composed(value)) == len(composed(REFERENCE))


@short_values
def test_a_value_stands_in_a_sentence_as_it_is_seen(value: str, messages: MessageTemplates) -> None:
    labels = {"alertname": "A", "symbol": value}
    incident = told(opened(), fired(labels=labels))
    event = f.Event(id="e", incident="i1", seq=3, at=T0, actor="responder", fact=fired(labels=labels))
    text = sentence(event, incident, messages.render)
    assert text == " ".join(f"{clean(alert_text(labels))} fires".split())
    assert fallback_text(text).count("<") == 0


@short_values
@pytest.mark.parametrize("ending", ["mrkdwn", "html"])
def test_no_value_is_markup(ending: str, value: str) -> None:
    name = f"a.{ending}.j2"
    source = "{{ x }}{% for a in [x] %}{{ a | upper | replace('A', x) }}{% endfor %}{{ [x] | join('') }}"
    text = MessageTemplates([{name: source}]).render(name, {"x": value})
    assert not {"<", ">"} & set(text)
    assert re.sub(r"&(?:amp|lt|gt|quot|#34|#39);", "", text, flags=re.IGNORECASE).count("&") == 0


@every_value
def test_a_value_is_no_template_of_a_message(value: str) -> None:
    text = MessageTemplates([{"a.json.j2": "{{ x | tojson }}"}]).render(
        "a.json.j2", {"x": value, "incident": {"id": "secret"}}
    )
    assert json.loads(text) == value
