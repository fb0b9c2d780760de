"""Messages: written as their ending says, strict about what is undefined, and no label can mention a channel."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.messages import MessageTemplates, TemplateError, number

HOSTILE = '<!channel> & <script>"x"</script>'


def rendered(name: str, source: str, **context: object) -> str:
    return MessageTemplates([{name: source}]).render(name, context)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.mrkdwn.j2", '<b> &lt;!channel&gt; &amp; &lt;script&gt;"x"&lt;/script&gt;'),
        ("a.html.j2", "<b> &lt;!channel&gt; &amp; &lt;script&gt;&#34;x&#34;&lt;/script&gt;"),
        ("a.txt.j2", f"<b> {HOSTILE}"),
        ("a.json.j2", f"<b> {HOSTILE}"),
    ],
)
def test_the_ending_decides_how_values_are_written(name: str, expected: str) -> None:
    assert rendered(name, "<b> {{ label }}", label=HOSTILE) == expected


def test_json_is_written_by_its_filter() -> None:
    assert rendered("a.json.j2", '{"a": {{ x | tojson }}}', x='"\n<') == '{"a": "\\"\\n\\u003c"}'


def test_mrkdwn_is_escaped_once_through_loops_filters_includes_and_macros() -> None:
    folder = {
        "row.mrkdwn.j2": "• {{ row }}",
        "a.mrkdwn.j2": "{% macro bold(x) %}*{{ x }}*{% endmacro %}"
        "{% for row in rows %}{% include 'row.mrkdwn.j2' %}{% endfor %} "
        "{{ bold(rows[0]) }} {{ rows | join(', ') | upper }}",
    }
    text = MessageTemplates([folder]).render("a.mrkdwn.j2", {"rows": ["<@U1>", "&"]})
    assert text == "• &lt;@U1&gt;• &amp; *&lt;@U1&gt;* &lt;@U1&gt;, &amp;"


@pytest.mark.parametrize("name", ["a.mrkdwn.j2", "a.txt.j2", "a.html.j2"])
def test_people_never_get_what_cannot_be_seen(name: str) -> None:
    assert rendered(name, "{{ x }}", x="a\x1b[2J\u202eb\nc{{ y }}") == "a[2Jb\nc{{ y }}"


def test_an_earlier_folder_wins() -> None:
    templates = MessageTemplates(
        [{"a.txt.j2": "mine"}, {"a.txt.j2": "theirs", "b.txt.j2": "{% include 'a.txt.j2' %}!"}]
    )
    assert templates.names() == {"a.txt.j2", "b.txt.j2"}
    assert templates.render("b.txt.j2", {}) == "mine!"


def test_values_are_shown_as_people_write_them() -> None:
    source = "{{ n }} {{ none }} {{ yes }} {{ took | duration }} {{ at | time }} {{ 1.80000001 | number }}"
    text = rendered("a.txt.j2", source, n=0.100000001, none=None, yes=True, took=125_000_000, at=1_700_000_000_999_999)
    assert text == "0.1  true 2m 05s 22:13:20 UTC 1.8"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1, "0.1"),
        (0.1 + 0.2, "0.3"),
        (2.0, "2"),
        (100.0, "100"),
        (0.0, "0"),
        (-1.25, "-1.25"),
        (7, "7"),
        (1234567.891, "1234568"),
        (999999.96, "1000000"),
        (1e-9, "1e-09"),
        (1e20, "1e+20"),
        (math.nan, "NaN"),
        (-math.inf, "-inf"),
    ],
)
def test_numbers(value: float, expected: str) -> None:
    assert number(value) == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ missing }}", "'missing' is undefined"),
        ("{{ x.missing }}", "missing"),
        ("a\n{{ x }", "unexpected '}'"),
        ("{% include 'gone.txt.j2' %}", "gone.txt.j2"),
        ("{{ 'a' * 10**9 }}", "`**` is not allowed"),
        ("{{ 'a' * 1000000000 }}", "`*` is not allowed"),
        ("{{ [0] * x }}", "`*` is not allowed"),
        ("{{ x.__class__.__mro__ }}", "unsafe"),
        ("{{ x | attr('__class__') }}", "attr"),
        ("{{ '%s' | format(x) }}", "format"),
        ("{{ x | safe }}", "safe"),
        ("{% for i in range(9) %}{% endfor %}", "range"),
        ("{{ lipsum() }}", "lipsum"),
        ("{{ x | number }}", "TypeError"),
        ("{% for a in rows %}{% for b in rows %}{{ x }}{% endfor %}{% endfor %}", "bytes"),
        ("{{ rows.append(1) }}", "unsafe"),
    ],
)
def test_what_stops_a_message(source: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        rendered("a.txt.j2", source, x="secret", rows=list(range(200)))
    assert message in caught.value.message
    assert "a.txt.j2: " in caught.value.message
    assert "secret" not in str(caught.value)


def test_an_error_has_its_line() -> None:
    with pytest.raises(TemplateError) as caught:
        rendered("a.txt.j2", "a\nb\n{{ c }}")
    assert caught.value.line == 3


def test_check_compiles_all_and_a_name_says_how_it_is_written() -> None:
    with pytest.raises(TemplateError, match=r"b\.txt\.j2"):
        MessageTemplates([{"a.txt.j2": "fine", "b.txt.j2": "{% for %}"}]).check()
    with pytest.raises(TemplateError, match="does not say how values are written"):
        MessageTemplates([{"a.md": "x"}])
    with pytest.raises(TemplateError, match="no message template is called"):
        MessageTemplates([{}]).render("a.txt.j2", {})


@given(st.text())
def test_no_value_opens_markup_in_slack(text: str) -> None:
    result = rendered("a.mrkdwn.j2", "{{ x }}", x=text)
    assert "<" not in result
    assert ">" not in result
    assert "&" not in result.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
