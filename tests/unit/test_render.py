"""Templates of runbooks: each way in is closed, and a value changes nothing but its own place."""

import json
import math
import re
from collections.abc import Mapping
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from responder.render import (
    MAX_BYTES,
    Position,
    TemplateError,
    has_placeholder,
    parse_template,
    parse_tree,
    render_template,
    render_tree,
    template_strings,
)

ANY_POSITION = {
    Position.TEXT: "is {{ x }}.",
    Position.PROMQL: 'up{a="{{ x }}"}',
    Position.JSON: "is {{ x }}.",
    Position.PATH: "/a/{{ x }}",
    Position.HEADER: "is {{ x }}.",
}


def rendered(source: str, position: Position, **values: object) -> object:
    return render_template(parse_template(source, position), values)


def refusal(source: str, position: Position, **values: object) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        rendered(source, position, **values)
    return caught.value


# ------------------------------------------------------------------------------------------------------------ grammar


@pytest.mark.parametrize(
    ("source", "values", "expected"),
    [
        ("plain text, no braces {x} }}", {}, "plain text, no braces {x} }}"),
        ("{{ a.b.c }} of {{ a['b']['d-e'] }}", {"a": {"b": {"c": 1, "d-e": 2}}}, "1 of 2"),
        ("{{ x[1] }}", {"x": ["a", "b"]}, "b"),
        ("{{ x.items }}", {"x": {"items": "a"}}, "a"),
        ("{{ x | trim | upper }}", {"x": " btc "}, "BTC"),
        ("{{ x | lower | replace('-', '_') }}", {"x": "BTC-USD"}, "btc_usd"),
        ("{{ x | round(2) }} {{ x | round }} {{ x | int }}", {"x": 2.718}, "2.72 3 2"),
        ("{{ x | int + 1 }} {{ x | float - 0.5 }} {{ -(x | int) }}", {"x": "4"}, "5 3.5 -4"),
        ("{{ x | join(', ') }} ({{ x | length }})", {"x": ["a", 1]}, "a, 1 (2)"),
        ("{{ 'hot' if x > 1 and not y else 'cold' }}", {"x": 2, "y": False}, "hot"),
        ("{{ x == 'a' or x == 'b' }}", {"x": "b"}, "true"),
        ("{{ 'literal {{ braces }}' }}", {}, "literal {{ braces }}"),
        ("{{ x }}\n", {"x": "a"}, "a\n"),
    ],
)
def test_what_a_placeholder_can_say(source: str, values: Mapping[str, object], expected: str) -> None:
    assert rendered(source, Position.TEXT, **values) == expected


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("{{ ''.__class__ }}", "only names have fields", ""),
        ("{{ x.__class__ }}", "`__class__` is no name", "begin with a letter"),
        ("{{ x['__class__'] }}", "`__class__` is no name", ""),
        ("{{ _x }}", "`_x` is no name", ""),
        ("{{ self }}", "`self` is no name", ""),
        ("{{ x[y] }}", "not constant", ""),
        ("{{ x[1:] }}", "not constant", ""),
        ("{{ x | attr('__class__') }}", "`attr` is not a filter here", "lower"),
        ("{{ '%s' | format(x) }}", "`format` is not a filter here", "lower"),
        ("{{ x | default('a') }}", "`default` is not a filter here", "lower"),
        ("{{ x | tojson }}", "`tojson` is not a filter here", "lower"),
        ("{{ x | replace('', 'aaaa') }}", "wrong arguments", "replace"),
        ("{{ x | replace('a') }}", "wrong arguments", "replace"),
        ("{{ x | replace('a', y) }}", "constants only", "replace"),
        ("{{ x | round(digits=2) }}", "constants only", "round(2)"),
        ("{{ x | round('2') }}", "wrong arguments", "round(2)"),
        ("{{ x | lower(1) }}", "wrong arguments", "x | lower"),
        ("{% for a in b %}x{% endfor %}", "no statements", "`when`"),
        ("{% set a = 1 %}", "no statements", ""),
        ("{% include 'a' %}", "no statements", ""),
        ("{% raw %}{{ x }}{% endraw %}", "no statements", ""),
        ("a {# b #}", "no comments", "YAML"),
        ("a {{- x }}", "removes text", "space"),
        ("{{ x -}} a", "removes text", "space"),
        ("{{ 'a' * 10**9 }}", "`Mul` is not allowed", "query"),
        ("{{ 10 ** 9 }}", "`Pow` is not allowed", "query"),
        ("{{ x / 2 }}", "`Div` is not allowed", "query"),
        ("{{ x ~ y }}", "`Concat` is not allowed", "side by side"),
        ("{{ x() }}", "`Call` is not allowed", "filter"),
        ("{{ x.upper() }}", "`Call` is not allowed", "filter"),
        ("{{ range(10) }}", "`Call` is not allowed", "filter"),
        ("{{ [1, 2] }}", "`List` is not allowed", ""),
        ("{{ {'a': 1} }}", "`Dict` is not allowed", ""),
        ("{{ (1, 2) }}", "`Tuple` is not allowed", ""),
        ("{{ x is defined }}", "`Test` is not allowed", "`when`"),
        ("{{ 'a' in x }}", "this comparison", ""),
        ("{{ 'a' if x }}", "no `else`", "otherwise"),
        ("{{ x", "cannot be read", "write a name"),
        ("{{ x y }}", "cannot be read", "write a name"),
        ("{{ }}", "cannot be read", "write a name"),
        ("{{ 'a }}", "cannot be read", "write a name"),
        ("{{ " + "(" * 5000 + "x" + ")" * 5000 + " }}", "nested", ""),
        ("{{ x" + " + x" * 3000 + " }}", "nested", ""),
        ("{{ x" + ".a" * 3000 + " }}", "not too many", ""),
        ("{{ x" + "|lower" * 2000 + " }}", "nested", ""),
        ("{{ x }}" + "a" * 20_000, "are allowed", "shorten"),
    ],
)
@pytest.mark.parametrize("position", Position)
def test_what_is_refused_at_load(source: str, position: Position, message: str, hint: str) -> None:
    prefix = "/" if position is Position.PATH else ""
    with pytest.raises(TemplateError) as caught:
        parse_template(prefix + source, position)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_names_the_roots_and_the_paths() -> None:
    template = parse_template(
        "{{ a.b['c'] | lower }} {{ 'x' if steps.cut.output.value > y[0].z else 'y' }}", Position.TEXT
    )
    assert template.names == {"a", "steps", "y"}
    assert template.paths == {"a.b.c", "steps.cut.output.value", "y.0.z"}
    assert parse_template("plain", Position.TEXT).names == frozenset()


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [("{{ x.__a__ }}", 1, 1), ("a\nb {{ x }} {{ x() }}", 2, 11), ("é {{ x }} {% if %}", 1, 11), ("a\n\n{{ x", 3, 1)],
)
def test_an_error_at_load_has_its_place(source: str, line: int, column: int) -> None:
    error = refusal(source, Position.TEXT)
    assert (error.line, error.column) == (line, column)
    assert f"(line {line}, column {column})" in str(error)


def test_has_placeholder() -> None:
    assert [has_placeholder(text) for text in ("a", "{a}", "a {{ b }}", "{% a", "{# a")] == [
        False,
        False,
        True,
        True,
        True,
    ]


# ---------------------------------------------------------------------------------------------------------- positions


@pytest.mark.parametrize(
    ("source", "values", "expected"),
    [
        ('up{a="{{ x }}"}', {"x": 'b"} or vector(1) #'}, r'up{a="b\"} or vector(1) #"}'),
        ('up{a="{{ x }}"}', {"x": "\\"}, r'up{a="\\"}'),
        ('up{a="{{ x }}"}', {"x": 'a\n\r\t\x00"'}, r'up{a="a\n\r\t\u0000\""}'),
        ('up{a="{{ x }}"}', {"x": "Zürich 東京 😀"}, 'up{a="Zürich 東京 😀"}'),
        ('up{a="{{ x }}"}', {"x": "{{ y }}{% z %}"}, 'up{a="{{ y }}{% z %}"}'),
        ('up{a=~"{{ x }}.*"}', {"x": ".*|a-b"}, r'up{a=~"\\.\\*\\|a\\-b.*"}'),
        ('up{a !~ "b|{{ x }}"}', {"x": "("}, r'up{a !~ "b|\\("}'),
        ('up{a="b\\"", c!="{{ x }}"} > {{ n }}', {"x": "d", "n": 1.5}, 'up{a="b\\"", c!="d"} > 1.5'),
        ("rate(up[{{ n }}m]) > -{{ n }}", {"n": 5}, "rate(up[5m]) > -5"),
        ('up{a="it\'s", b="{{ x }}"}', {"x": "c"}, 'up{a="it\'s", b="c"}'),
        (
            "up{a='\"', b=\"{{ x }}\"} # it's\n > {{ n }}",
            {"x": "c", "n": 10**20},
            "up{a='\"', b=\"c\"} # it's\n > 1" + "0" * 20,
        ),
        ('up{a="{{ x }}"}', {"x": True}, 'up{a="true"}'),
    ],
)
def test_promql_values_stay_in_their_strings(source: str, values: Mapping[str, object], expected: str) -> None:
    assert rendered(source, Position.PROMQL, **values) == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("up{a='{{ x }}'}", "single quotes"),
        ("up{a=`{{ x }}`}", "backticks"),
        ("up # {{ x }}", "comment"),
        ('up{a="\\{{ x }}"}', "backslash"),
        ('up{a=~"\\\\{{ x }}"}', "backslash"),
        ("up_{{ x }}", "joined to a name"),
        ("{{ x }}{{ x }}", "joined to a name"),
        ("1.{{ x }}", "joined to a name"),
        ('{"{{ x }}"}', "no label value"),
        ('label_replace(up, "a", "{{ x }}", "b", "c")', "no label value"),
        ('up{a="b" "{{ x }}"}', "no label value"),
        ("up{a={{ x }}}", "among the labels without quotes"),
        ("up{a!={{ x }}}", "among the labels without quotes"),
        ('up{a="b", c =~ {{ x }} }', "among the labels without quotes"),
        ("up{a='b', c=d-{{ x }}}", "among the labels without quotes"),
        ('up{a="b", # a comment\n c={{ x }}}', "among the labels without quotes"),
        ('up{a="b", {{ x }}="c"}', "among the labels without quotes"),
    ],
)
def test_promql_places_where_a_value_would_be_code(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        parse_template(source, Position.PROMQL)


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("up{a={{ x }}}", 'write a="{{ x }}"'),
        ("up{a =~ b-{{ x | lower }}}", 'write a =~ "b-{{ x | lower }}"'),
        ("up{a={{ y }}, b={{ x }}}", 'write a="{{ y }}"'),
        ("max(var_{{ x }})", 'only whole numbers and label values are open, such as var{x="{{ x }}"}'),
        ("max(var_{{ x.y }})", 'only whole numbers and label values are open, such as var{label="{{ x.y }}"}'),
        ("{{ x }}{{ y }}", "only whole numbers and label values are open"),
        ("up{a='{{ x }}'}", 'put it inside double quotes: "{{ x }}"'),
        ('label_replace(up, "a", "{{ x }}", "b", "c")', 'write it as {x="{{ x }}"}'),
    ],
)
def test_the_cure_is_in_the_own_words_of_the_query(source: str, hint: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse_template(source, Position.PROMQL)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    "source",
    [
        'up{a="b"} == {{ n }}',
        'up{a="b"} != {{ n }}',
        "up != bool {{ n }}",
        'sum(up{a="{"}) > {{ n }}',
        "up{a='}', b=\"{{ s }}\"} >= {{ n }}",
    ],
)
def test_a_number_may_be_compared_with(source: str) -> None:
    assert rendered(source, Position.PROMQL, n=1, s="c")


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("{{ $labels.symbol }}", "a label is an input: declare 'symbol' below `inputs:`"),
        ("{{ .Labels.Symbol }}", "declare 'symbol' below `inputs:` and put {{ symbol }} into `target`"),
        ("{{ .CommonLabels.env }}", "declare 'env' below `inputs:`"),
        ("{{ $value }}", "write a name with its fields"),
    ],
)
def test_a_label_as_alerting_rules_write_it(source: str, hint: str) -> None:
    assert hint in refusal(source, Position.TEXT).hint


@pytest.mark.parametrize("value", ["5", "up", True, None, math.nan, math.inf, [1], {"a": 1}, 10**400])
def test_promql_outside_quotes_takes_finite_numbers_only(value: object) -> None:
    assert refusal("up > {{ x }}", Position.PROMQL, x=value).line == 1


@pytest.mark.parametrize(
    ("source", "values", "expected"),
    [
        ("/v1/{{ x }}/limits", {"x": "a/b?c#d e%2f&é"}, "/v1/a%2Fb%3Fc%23d%20e%252f%26%C3%A9/limits"),
        ("/v1?q={{ x }}&n={{ n }}", {"x": "a&b=../c", "n": 5}, "/v1?q=a%26b%3D..%2Fc&n=5"),
        ("/v1?q={{ x }}", {"x": ""}, "/v1?q="),
        ("/v1/{{ x }}", {"x": "...a"}, "/v1/...a"),
        ("/v1/{{ x }}", {"x": "\r\nHost: evil"}, "/v1/%0D%0AHost%3A%20evil"),
    ],
)
def test_path_values_stay_one_part(source: str, values: Mapping[str, object], expected: str) -> None:
    assert rendered(source, Position.PATH, **values) == expected


@pytest.mark.parametrize("value", ["..", ".", "", "../admin", "a/../../b", "..\\b", "%2e%2e/..", "\ud800", None, ["a"]])
def test_path_values_that_climb_or_are_nothing_are_refused(value: object) -> None:
    assert refusal("/v1/{{ x }}/limits", Position.PATH, x=value).column == 5


def test_path_parts_that_climb_only_together_are_refused() -> None:
    assert rendered("/v1/a{{ x | trim }}/a", Position.PATH, x="b") == "/v1/ab/a"
    with pytest.raises(TemplateError, match="climbs"):
        rendered("/v1/.{{ x }}/a", Position.PATH, x=".")
    with pytest.raises(TemplateError, match="percent-encoding"):
        rendered("/v1/%2{{ x }}%2e", Position.PATH, x="e")


@pytest.mark.parametrize(
    "source",
    [
        "{{ x }}",
        "v1/{{ x }}",
        "//{{ x }}/a",
        "https://{{ x }}/a",
        "/a b",
        "/a#b",
        "/a\\b",
        "/a/../{{ x }}",
        "/%2e%2e/a",
        "",
        "/ä",
    ],
)
def test_path_templates_are_a_path_of_a_fixed_host(source: str) -> None:
    with pytest.raises(TemplateError, match="path"):
        parse_template(source, Position.PATH)


def test_header_values_stay_one_line() -> None:
    assert rendered("Bearer {{ x }}", Position.HEADER, x="a b") == "Bearer a b"
    for value in ("a\r\nb", "a\nb", "a\x00", "é", "\t", "😀"):
        assert "header" in refusal("a {{ x }}", Position.HEADER, x=value).message
    assert "space" in refusal("a {{ x }}", Position.HEADER, x=" b ").message
    with pytest.raises(TemplateError, match="printable"):
        parse_template("a\nb", Position.HEADER)


@pytest.mark.parametrize("value", [1, 0.5, True, None, "a", "1", [1, {"a": None}], {"a": "{{ b }}"}, {}])
def test_a_lone_json_placeholder_keeps_its_type(value: object) -> None:
    result = rendered("{{ x }}", Position.JSON, x=value)
    assert result == value
    assert type(result) is type(value)


def test_json_values() -> None:
    assert rendered("{{ x > 1 }}", Position.JSON, x=2) is True
    assert rendered("n={{ x }}", Position.JSON, x=2) == "n=2"
    assert rendered("{{ x }} ", Position.JSON, x=2) == "2 "
    for value in (math.nan, [math.inf], {"a": {1: 2}}, object(), {1, 2}, b"a"):
        assert refusal("{{ x }}", Position.JSON, x=value).hint
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert "deeper" in refusal("{{ x }}", Position.JSON, x=deep).message
    assert "bytes" in refusal("{{ x }}", Position.JSON, x=["a" * 1000] * 1000).message


def test_text_loses_what_people_cannot_see() -> None:
    value = "a\x1b[31m\r\nb\tc\x00\u202ed\u2066\x85\ud800é 😀{{ y }}"
    assert rendered("{{ x }}", Position.TEXT, x=value) == "a[31m\nb cdé 😀{{ y }}"


@pytest.mark.parametrize("position", Position)
def test_a_value_is_never_a_template(position: Position) -> None:
    source = ANY_POSITION[position]
    result = rendered(source, position, x="{{ y }}{% for a in b %}{# c #}", y="secret")
    assert "secret" not in str(result)
    assert "{{ y }}" in unquote(str(result))


@pytest.mark.parametrize("position", Position)
def test_a_value_of_a_megabyte_is_refused(position: Position) -> None:
    error = refusal(ANY_POSITION[position], position, x="a" * 1_000_000)
    assert "1000000 characters" in error.message
    assert len(str(error)) < 300
    assert "bytes" in refusal(ANY_POSITION[position], position, x="a" * MAX_BYTES).message


def test_filters_cannot_multiply_a_value() -> None:
    source = "{{ x" + " | replace('a', 'aaaaaaaaaaaaaaaaaaaa')" * 10 + " }}"
    assert "too long" in refusal(source, Position.TEXT, x="aa").message
    assert "too long" in refusal("{{ x | join('" + "-" * 100 + "') }}", Position.TEXT, x=["a"] * 1000).message


def test_the_limit_counts_bytes() -> None:
    template = parse_template("{{ x }}", Position.TEXT)
    assert render_template(template, {"x": "é" * 5}, 10) == "é" * 5
    with pytest.raises(TemplateError, match="10 bytes"):
        render_template(template, {"x": "é" * 6}, 10)
    with pytest.raises(TemplateError, match="3 bytes"):
        render_template(parse_template("long", Position.TEXT), {}, 3)


@pytest.mark.parametrize(
    ("source", "values", "message"),
    [
        ("{{ x }}", {}, "x is not defined"),
        ("a {{ steps.cut.output }}", {"steps": {"cut": {}}}, "steps.cut.output is not defined"),
        ("{{ x[2] }}", {"x": [1]}, "x.2 is not defined"),
        ("{{ x.upper }}", {"x": "a"}, "x.upper is not defined"),
        ("{{ x.real }}", {"x": 1}, "x.real is not defined"),
        ("{{ x | lower }}", {}, "x is not defined"),
        ("{{ 'a' if x else 'b' }}", {}, "x is not defined"),
        ("{{ x }}", {"x": None}, "null"),
        ("{{ x }}", {"x": {"a": 1}}, "an object"),
        ("{{ x | lower }}", {"x": 5}, "filter for text"),
        ("{{ x | int }}", {"x": "five"}, "ValueError"),
        ("{{ x | int }}", {"x": "9" * 5000}, "ValueError"),
        ("{{ x | float }}", {"x": "nan"}, "NaN"),
        ("{{ x > 1 }}", {"x": "a"}, "TypeError"),
        ("{{ x + x }}", {"x": "a"}, "not a number"),
        ("{{ -x }}", {"x": "a"}, "not a number"),
        ("{{ x + 0.5 }}", {"x": 10**400}, "OverflowError"),
        ("{{ x | join }}", {"x": "ab"}, "not a list"),
        ("{{ x | length }}", {"x": 1}, "length"),
        ("{{ x | round }}", {"x": "1"}, "round"),
    ],
)
def test_what_stops_the_rendering(source: str, values: Mapping[str, object], message: str) -> None:
    assert message in refusal(source, Position.TEXT, **values).message


def test_errors_never_show_a_value() -> None:
    for source in ("{{ x | int }}", "{{ x > 1 }}", "{{ x + 1 }}", "{{ x.a }}", "{{ x | round }}", "{{ x | join }}"):
        assert "hunter2" not in str(refusal(source, Position.TEXT, x="hunter2"))


# -------------------------------------------------------------------------------------------------------------- trees


def test_trees() -> None:
    tree = {"a": ["{{ x }}", {"b": "n={{ y.z }}"}], "c": 1, "d": None}
    assert rendered_tree(tree, x=5, y={"z": "w"}) == {"a": [5, {"b": "n=w"}], "c": 1, "d": None}
    assert {name for template in parse_tree(tree, Position.JSON) for name in template.names} == {"x", "y"}
    assert list(template_strings(tree)) == [(("a", 0), "{{ x }}"), (("a", 1, "b"), "n={{ y.z }}")]


def rendered_tree(tree: object, **values: object) -> object:
    return render_tree(tree, Position.JSON, values)


def test_an_error_in_a_tree_has_its_path() -> None:
    with pytest.raises(TemplateError) as caught:
        parse_tree({"a": ["b", {"c": "{{ x() }}"}]}, Position.JSON)
    assert caught.value.path == ("a", 1, "c")
    assert str(caught.value).startswith("a[1].c: ")
    with pytest.raises(TemplateError, match=re.escape("a[0]: x is not defined")):
        rendered_tree({"a": ["{{ x }}"]})
    with pytest.raises(TemplateError, match="a key holds a placeholder"):
        parse_tree([{"{{ x }}": 1}], Position.JSON)
    with pytest.raises(TemplateError, match="bytes"):
        rendered_tree(["{{ x }}"] * 100, x="a" * 1000)


# ---------------------------------------------------------------------------------------------------- for any input

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
hostile = st.lists(
    st.sampled_from(['"', "'", "\\", "\n", "`", "#", "}", "{{ x }}", "/", "..", "?", "a", " or ", "\r", "é"])
)


@given(st.sampled_from(list(Position)), st.text(max_size=60))
@example(Position.PROMQL, '{{ x }}"')
@example(Position.JSON, "{{ 1e999 }}")
@example(Position.TEXT, "{{ '\\ud800' }}")
@example(Position.TEXT, "{{ x.0 }}")
@example(Position.TEXT, "{{ 1_0 }}{{ None }}")
def test_any_source_is_read_or_refused(position: Position, body: str) -> None:
    for source in (body, "{{" + body + "}}", "/{{ x " + body + " }}"):
        try:
            render_template(parse_template(source, position), {"x": "a"})
        except TemplateError as error:
            assert error.line >= 1  # noqa: PT017 - both ends are good
            assert error.column >= 1  # noqa: PT017


@given(st.sampled_from(list(Position)), values)
def test_any_value_is_written_or_refused(position: Position, value: object) -> None:
    for source in (ANY_POSITION[position], "/{{ x }}", "{{ x.a | lower }}", "{{ x | int + 1 }}", "{{ x[0] > 1 }}"):
        try:
            template = parse_template(source, position)
        except TemplateError:
            continue
        try:
            render_template(template, {"x": value})
        except TemplateError as error:
            assert error.hint  # noqa: PT017


@given(texts | hostile.map("".join))
def test_a_promql_string_is_read_back_as_the_value(text: str) -> None:
    result = str(rendered('up{a="{{ x }}"} > 1', Position.PROMQL, x=text))
    literal = result.removeprefix('up{a="').removesuffix('"} > 1')
    assert re.fullmatch(r'(?:[^"\\\n]|\\["\\nrt]|\\u[0-9a-f]{4})*', literal)
    assert json.loads(f'"{literal}"', strict=False) == text


@given(texts | hostile.map("".join))
def test_a_path_part_is_read_back_as_the_value(text: str) -> None:
    try:
        result = str(rendered("/a/{{ x }}/b?c={{ x }}", Position.PATH, x=text))
    except TemplateError:
        return
    path, _, query = result.partition("?")
    assert [unquote(part) for part in path.split("/")] == ["", "a", text, "b"]
    assert unquote(query) == f"c={text}"
    assert re.fullmatch(r"[!-~]+", result)
    assert "&" not in query
