"""Nothing that a label, an annotation or a service's answer holds changes what is done, other than at its own place.

One table of hostile values against every position and every way in; what reads them back is written from the
receivers' grammars (tests/wire_forms). Either exactly the value stands in its place, or nothing is rendered at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import pytest

from responder.actions.http import HttpRequest
from responder.actions.parameter import ParameterReduce
from responder.alert import Limits, parse_notification
from responder.contracts import Action
from responder.errors import Permanent
from responder.expressions import evaluate, explain, parse_expression
from responder.perform import rendered
from responder.positions import clean
from responder.recorded import Outcome
from responder.render import MAX_BYTES, Position, TemplateError, parse_template, render_template
from responder.runbook import target_with
from responder.view import values_of
from tests.builders import a_runbook, ended, fired, intended, opened, rules_of, started, told
from tests.hostile_values import HOSTILE, REFERENCE
from tests.wire_forms import literals_of, promql, replaced

every_value = pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())


def reading(source: str, position: Position) -> Callable[[str], Any]:
    template = parse_template(source, position)
    return lambda value: render_template(template, {"x": value, "incident": {"id": "secret"}})


def path_form(path: str) -> tuple[list[str], list[list[str]]]:
    """Segments, and the names and values of the query."""
    assert re.fullmatch(r"/[!-~]*", path)
    assert "#" not in path
    before, _, query = path.partition("?")
    pairs = [[unquote(part, errors="strict") for part in pair.split("=")] for pair in query.split("&")]
    return [unquote(part, errors="strict") for part in before.split("/")], pairs


def regex_form(query: str) -> list[tuple[str, str | None]]:
    """The tokens, each string as the text that it matches alone."""
    return [(kind, literals_of(text) if kind == "string" else text) for kind, text in promql(query)]


def line_form(header: str) -> str:
    assert re.fullmatch(r"[ -~]*", header)
    assert header == header.strip()
    return header


def plain_form(text: str) -> str:
    assert "\r" not in text
    text.encode()
    return text


def as_it_is(value: str) -> str:
    return value


Place = tuple[Position, str, Callable[[Any], Any], Callable[[str], str]]
PLACES: Mapping[str, Place] = {
    "promql": (Position.PROMQL, 'max(up{a="{{ x }}", b!="c-{{ x }}"}) > 1 # it\'s', promql, as_it_is),
    "promql regex": (Position.PROMQL, 'up{a=~"{{ x }}", b!~"c{{ x }}"}', regex_form, as_it_is),
    "json": (Position.JSON, "{{ x }}", as_it_is, as_it_is),
    "json text": (Position.JSON, "is {{ x }}.", lambda text: json.loads(json.dumps(text)), as_it_is),
    "path": (Position.PATH, "/v1/{{ x }}/a-{{ x }}?q={{ x }}&n=1", path_form, as_it_is),
    "query": (Position.PATH, "/v1?q={{ x }}&a-{{ x }}=1", path_form, as_it_is),
    "header": (Position.HEADER, "is {{ x }}.", line_form, as_it_is),
    "text": (Position.TEXT, "is {{ x }}.", plain_form, clean),
}


@every_value
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_exactly_the_value_stands_in_its_place_or_nothing_is_rendered(place: Place, value: str) -> None:
    position, source, read, written = place
    render = reading(source, position)
    try:
        found = read(render(value))
    except TemplateError as refusal:
        assert "secret" not in str(refusal)  # noqa: PT017 - both ends are good
        assert len(str(refusal)) < 400  # noqa: PT017
        return
    assert found == replaced(read(render(REFERENCE)), lambda text: text.replace(REFERENCE, written(value)))


@pytest.mark.parametrize("place", ["promql", "promql regex", "json", "json text", "query", "text"])
def test_only_half_a_character_is_refused_where_everything_can_be_written(place: str) -> None:
    position, source, _, _ = PLACES[place]
    short = {name: value for name, value in HOSTILE.items() if len(value) < 5_000}
    refused = {name for name, value in short.items() if _refuses(reading(source, position), value)}
    assert refused == (set() if place == "text" else {"lone surrogate", "swapped surrogates"})


def _refuses(render: Callable[[str], Any], value: str) -> bool:
    try:
        render(value)
    except TemplateError:
        return True
    return False


@every_value
@pytest.mark.parametrize("source", ["up > {{ x }}", "up[{{ x }}m]", "up offset {{ x }}s"])
def test_text_is_never_a_number_in_a_query(source: str, value: str) -> None:
    assert _refuses(reading(source, Position.PROMQL), value)


@every_value
@pytest.mark.parametrize("source", ["up > {{ x | float }}", "up > {{ x | int }}", "up > {{ x | float + 1 }}"])
def test_what_is_made_a_number_is_one_finite_number(source: str, value: str) -> None:
    try:
        tokens = promql(reading(source, Position.PROMQL)(value))
    except TemplateError:
        return
    assert [kind for kind, text in tokens if text != "-"] == ["name", "sign", "number"]


@pytest.mark.parametrize("name", ["infinite", "not a number", "infinity", "hexadecimal", "empty", "spaces", "true"])
@pytest.mark.parametrize(
    ("position", "source"), [(Position.PROMQL, "up > {{ x | float }}"), (Position.JSON, "{{ x | float }}")]
)
def test_words_that_only_look_like_numbers_are_refused(name: str, position: Position, source: str) -> None:
    assert _refuses(reading(source, position), HOSTILE[name])


@pytest.mark.parametrize("value", ["NaN", "1e999", "0x10", "1_000", "true", "null", "-0", "٣"])
def test_a_lone_label_stays_text_in_json(value: str) -> None:
    assert reading("{{ x }}", Position.JSON)(value) == value


# ------------------------------------------------------------------------------------------------- what can be written


PROGRAMS = """
{% macro a() %}{% endmacro %} ¦ {% import 'a' as b %} ¦ {% from 'a' import b %} ¦ {% extends 'a' %}
{% block a %}{% endblock %} ¦ {% filter upper %}a{% endfilter %} ¦ {% call a() %}{% endcall %} ¦ {% do x %}
{% with a = x %}{% endwith %} ¦ {% autoescape false %}{{ x }}{% endautoescape %} ¦ {% set x %}a{% endset %}
{% for a in x %}{% endfor %} ¦ {% set a = 1 %} ¦ {% include 'a' %} ¦ {% raw %}{{ x }}{% endraw %} ¦ {##}
{%- if x %}{% endif %} ¦ {%+ if x %}{% endif %} ¦ {{ '{% set a = 1 %}' }} ¦ {{ x if x }} ¦ {{ 1e999 }}
{{ '%s%s' % x }} ¦ {{ x // 2 }} ¦ {{ x % 2 }} ¦ {{ 2 ** 9 }} ¦ {{ 'a' * 9 }} ¦ {{ [x] * 9 }} ¦ {{ +x }} ¦ {{ x ~ x }}
{{ x and x() }} ¦ {{ (x if x else x.a)() }} ¦ {{ x | map('upper') }} ¦ {{ x | selectattr('a') }} ¦ {{ x.a() }}
{{ x | list }} ¦ {{ x | random }} ¦ {{ x | safe }} ¦ {{ x | string }} ¦ {{ x | format }} ¦ {{ x | center(9999) }}
{{ x | indent(9999) }} ¦ {{ x | batch(2) }} ¦ {{ x | urlize }} ¦ {{ x | replace(x, x) }} ¦ {{ x | join(x) }}
{{ x | replace('a', 'b', 9) }} ¦ {{ x | replace(*x) }} ¦ {{ x | replace(**x) }} ¦ {{ x | round(x) }}
{{ x | written as json }} ¦ {{ x | round(2.5) }} ¦ {{ x | round(true) }} ¦ {{ x | float(0) }} ¦ {{ x | attr('a') }}
{{ x.__init__.__globals__ }} ¦ {{ x['__init__'] }} ¦ {{ x[x] }} ¦ {{ x['a' ~ 'b'] }} ¦ {{ x[0:1] }} ¦ {{ _ }}
{{ x[-1] }} ¦ {{ x[1.5] }} ¦ {{ x[none] }} ¦ {{ 'a'.upper }} ¦ {{ 5.real }} ¦ {{ (x).__class__ }} ¦ {{ self.a }}
{{ x is callable }} ¦ {{ x is eq 1 }} ¦ {{ 'a' in x }} ¦ {{ 'a' not in x }} ¦ {{ {} }} ¦ {{ () }} ¦ {{ [] }}
{{ range(9) }} ¦ {{ namespace() }} ¦ {{ dict() }} ¦ {{ cycler() }} ¦ {{ lipsum() }} ¦ {{ joiner() }} ¦ {{ caller() }}
{{ x -}} ¦ {{- x }} ¦ {{+ x }} ¦ {{ x +}} ¦ {{ x } ¦ {{ x ¦ {{ x; x }} ¦ {{ x = 1 }} ¦ {{ x := 1 }} ¦ {{ lambda: 1 }}
{{ x if ¦ {{ `x` }} ¦ {{ x, x }}
"""
DEEP = (
    "{{" * 4_000, "{{ " + "not " * 3_000 + "x }}", "{{ x" + "[0]" * 3_000 + " }}", "{{ " + "-" * 9_000 + "x }}",
    "{{ x" + " if x else x" * 1_000 + " }}", "{{ '" + "a" * 20_000 + "' }}",
)  # fmt: skip


@pytest.mark.parametrize("source", [*(part.strip() for part in re.split("[¦\n]", PROGRAMS) if part.strip()), *DEEP])
def test_what_would_be_a_program_is_refused_at_load(source: str) -> None:
    for position, before in zip(Position, ("", 'up{a="', "", "/v1/", "is "), strict=True):
        with pytest.raises(TemplateError) as refusal:
            parse_template(before + source, position)
        assert refusal.value.line >= 1
        assert refusal.value.column >= 1


@pytest.mark.parametrize(
    "source",
    [
        'up # a\r`\n,b="{{ x }}"`', "up # a\r '{{ x }}'", 'up{a="\\{{ x }}"}', 'up{a=`"{{ x }}"`}', "{{ x }}{{ x }}",
        'up{a="b" # "\n"{{ x }}"}', "{{ x }}_total{{ x }}", '"{{ x }}"', 'up{"{{ x }}"}', 'up{a ="b"}{{ x }}c{{ x }}',
        'label_replace(up, "{{ x }}", "$1", "a", "b")', 'up{a="b", "c{{ x }}"}',
    ],
)  # fmt: skip
def test_places_of_a_query_where_a_value_would_be_code(source: str) -> None:
    with pytest.raises(TemplateError):
        parse_template(source, Position.PROMQL)


@pytest.mark.parametrize("source", ["/v1/%{{ x }}/a", "/v1/%2{{ x }}", "/v1?a=%{{ x }}", "/v1/%{{ x }}{{ x }}"])
def test_no_value_completes_a_percent_encoding(source: str) -> None:
    with pytest.raises(TemplateError, match="percent"):
        parse_template(source, Position.PATH)


@pytest.mark.parametrize(
    "name", ["items", "upper", "format", "mro", "real", "func_globals", "gi_frame", "count", "f_back"]
)
@pytest.mark.parametrize("value", ["a", 1, 1.5, True, None, ["a"], {"a": 1}])
def test_a_field_is_never_an_attribute(name: str, value: object) -> None:
    with pytest.raises(TemplateError, match="is not defined"):
        render_template(parse_template(f"{{{{ x.{name} }}}}", Position.TEXT), {"x": value})


# --------------------------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize("position", [Position.TEXT, Position.JSON, Position.HEADER])
def test_a_value_repeated_a_thousand_times_is_refused(position: Position) -> None:
    template = parse_template("{{ x }}" * 1_000, position)
    with pytest.raises(TemplateError, match=f"{MAX_BYTES} bytes"):
        render_template(template, {"x": "a" * 4_096})


@pytest.mark.parametrize("character", ['"', "\\", "%", "/", "\n", "\x00", ".", "{", "a", "é", "😀", "\u202e", " "])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_a_megabyte_is_refused_unread_and_less_takes_linear_time(place: Place, character: str) -> None:
    render = reading(place[1], place[0])
    with pytest.raises(TemplateError, match="characters, 65536 are allowed"):
        render(character * 1_000_000)
    for length in (65_536, 16_000, 4_000):
        _refuses(render, character * length)


@pytest.mark.parametrize(
    "part", ['"', "'", "`", "\\", '\\"', "#", "#\n", "%", "%2", "a", "=", '="', "{", "}", "/", ".", " "]
)
def test_reading_a_long_template_takes_linear_time(part: str) -> None:
    for position in Position:
        for source in (part * (15_000 // len(part)) + "{{ x }}", "/" + ("{{ x }}" + part) * 1_500):
            try:
                parse_template(source, position)
            except TemplateError as refusal:
                assert refusal.hint  # noqa: PT017 - both ends are good


def notified(**entry: Any) -> Any:
    body = {"version": "4", "alerts": [{"status": "firing", "labels": {"alertname": "A"}, **entry}]}
    return parse_notification(json.dumps(body).encode(), Limits())


def test_a_label_of_a_megabyte_makes_its_alert_bad_and_an_annotation_is_cut() -> None:
    bad = notified(labels={"alertname": "A", "symbol": "a" * 1_000_000})
    assert (bad.alerts, len(bad.bad)) == ((), 1)
    assert "more than 32768 bytes" in bad.bad[0].message
    (alert,) = notified(annotations={"summary": "a" * 1_000_000}).alerts
    assert len(alert.annotations["summary"]) == 65_536


@pytest.mark.parametrize("value", ["a\x00b", "\ud800", "\udc00\ud800"])
def test_what_no_store_takes_makes_an_alert_bad(value: str) -> None:
    assert len(notified(labels={"alertname": "A", "symbol": value}).bad) == 1
    (alert,) = notified(annotations={"summary": value}).alerts
    assert "\ufffd" in alert.annotations["summary"]


# ---------------------------------------------------------------------------------------------------------- the ways in


@every_value
def test_an_annotation_an_undeclared_label_and_a_services_answer_are_no_variables(value: str) -> None:
    incident = told(
        opened(labels={"team": value}, inputs={"symbol": "A-B"}),
        fired(labels={"alertname": "A", "team": value}, annotations={"summary": value, "symbol": value}),
        started(inputs={"symbol": "A-B"}),
        intended(),
        ended(Outcome.OK, output={"value": value, "incident": value}),
    )
    values = values_of(incident, incident.run)
    assert set(values) == {"symbol", "steps", "incident", "run", "checks"}
    assert values["symbol"] == "A-B"
    assert values["incident"] == {"id": "i1", "severity": "critical", "target": "risk-api/kelly_fraction"}
    assert values["steps"] == {"cut": {"status": "running", "output": {"value": value, "incident": value}}}


@every_value
def test_a_services_answer_is_written_like_any_value(value: str) -> None:
    with_: dict[str, Any] = {
        "service": "risk-api", "method": "POST", "path": "/v1/{{ steps.a.output.name }}/x",
        "json": {"{a}": ["{{ steps.a.output.name }}", {"all": "{{ steps.a.output }}"}]},
    }  # fmt: skip

    def made(text: str) -> dict[str, Any]:
        return rendered(HttpRequest, with_, {"steps": {"a": {"output": {"name": text}}}, "name": "secret"})

    try:
        found = made(value)
    except TemplateError:
        return
    whole, reference = json.dumps(found.pop("json")), made(REFERENCE)
    assert json.loads(whole) == replaced(reference.pop("json"), lambda text: text.replace(REFERENCE, value))
    path, expected = path_form(found.pop("path")), path_form(reference.pop("path"))
    assert path == replaced(expected, lambda text: text.replace(REFERENCE, value))
    assert found == reference


@pytest.mark.parametrize(
    ("action", "place"),
    [
        (HttpRequest, "service"), (HttpRequest, "method"), (HttpRequest, "expect_status"),
        (ParameterReduce, "parameter"), (ParameterReduce, "to"),
    ],
)  # fmt: skip
def test_no_value_chooses_where_or_how_much(action: type[Action], place: str) -> None:
    with pytest.raises(Permanent, match="an alert must not choose it"):
        rendered(action, {place: "{{ x }}"}, {"x": "a"})


@every_value
def test_a_value_in_a_target_names_only_itself(value: str) -> None:
    (runbook,) = rules_of(
        a_runbook(target="risk/{{ x }}/{{ y }}", inputs={n: {"label": n, "pattern": "(?s).*"} for n in "xy"})
    ).runbooks.values()
    assert target_with(runbook, {"x": value, "y": "y"}) == f"risk/{value}/y"


@every_value
def test_a_value_in_a_condition_is_compared_and_never_read(value: str) -> None:
    values = {"symbol": value, "steps": {"a": {"output": value}}}
    assert evaluate(parse_expression("symbol == steps.a.output"), values).holds
    assert not evaluate(parse_expression("symbol == 'BTC-USD' or steps.a.output == 'ETH-USD'"), values).holds
    assert evaluate(parse_expression("symbol > 1"), values).unknown
    assert "\n" not in explain(parse_expression("symbol == 'a'"), values)
