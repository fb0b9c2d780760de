"""YAML 1.2 as values with places: what scalars mean, what is refused, and that a hostile file costs nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.documents import MAX_BYTES, decode, parse_document, resolve
from responder.problems import Mark, path_text


def problems(text: str) -> list[str]:
    return [f"{p.line}:{p.column} {p.message}" for p in parse_document("a.yaml", text).problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"), ("no", "no"), ("on", "on"), ("yes", "yes"), ("Off", "Off"), ("y", "y"),
        ("true", True), ("False", False), ("tRUE", "tRUE"), ("null", None), ("~", None), ("", None), ("nULL", "nULL"),
        ("17", 17), ("-3", -3), ("+3", 3), ("017", 17), ("0o17", 15), ("0x1F", 31), ("0o8", "0o8"), ("0b1", "0b1"),
        ("1_000", "1_000"), ("1:30", "1:30"), ("190:20:30", "190:20:30"), ("2026-11-20", "2026-11-20"),
        ("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("-1.5E-3", -0.0015), ("1.2.3", "1.2.3"), ("-", "-"),
        ("30s", "30s"), ("<<", "<<"), ("=", "="),
    ],
)  # fmt: skip
def test_a_scalar_without_quotes_means_what_yaml_1_2_says(text: str, value: object) -> None:
    found = resolve(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan", "9" * 30, "1e999"])
def test_numbers_that_json_cannot_hold_are_refused(text: str) -> None:
    assert len(problems(f"a: {text}")) == 1
    assert parse_document("a.yaml", f"a: '{text}'").value == {"a": text}


def test_values_and_their_places() -> None:
    text = "steps:\n  - id: cut\n    with: {to: 0.1, note: 'NO'}\n"
    document = parse_document("rules/a.yaml", text)
    assert document.value == {"steps": [{"id": "cut", "with": {"to": 0.1, "note": "NO"}}]}
    assert document.keys["steps", 0, "with", "to"] == Mark("rules/a.yaml", 3, 12, 2)
    assert document.values["steps", 0, "with", "to"] == Mark("rules/a.yaml", 3, 16, 3)
    assert document.mark(("steps", 0, "with", "gone")) == document.keys["steps", 0, "with"]
    assert document.get(("steps", 0, "id")) == "cut"
    assert document.get(("steps", 7, "id")) is None


def test_a_problem_is_drawn_below_its_line() -> None:
    document = parse_document("rules/edge-risk/var-breach.yaml", "steps:\n  - acton: parameter.reduce\n")
    problem = document.at_key(("steps", 0, "acton"), "unknown key", "did you mean 'action'?")
    assert str(problem).splitlines() == [
        "rules/edge-risk/var-breach.yaml:2:5: steps[0].acton: unknown key",
        "    2 |   - acton: parameter.reduce",
        "      |     ^^^^^",
        "   hint: did you mean 'action'?",
    ]


def test_a_long_line_is_drawn_in_part() -> None:
    document = parse_document("a.yaml", "a: " + "x" * 500 + "\nb: [" + ", ".join(["long"] * 100) + ", bad]\n")
    drawn = document.at_value(("b", 100), "bad").snippet.splitlines()
    assert max(map(len, drawn)) < 125
    caret = drawn[1].index("^")
    assert drawn[0][caret : caret + 3] == "bad"


def test_a_secret_is_never_drawn() -> None:
    text = "notifiers:\n  a: {kind: slack, token: xoxb-1, chanel: '#a'}\n  b:\n    token: xoxb-2\n"
    document = parse_document("responder.yaml", text, lambda path: False)
    told = [str(document.at_key(("notifiers", "a", "chanel"), "unknown key"))]
    told += [str(document.at_value(("notifiers", "b", "token"), "refused"))]
    told += [str(p) for p in parse_document("b", "token: xoxb-3\n  x: [", lambda path: False).problems]
    told += [
        str(p)
        for p in parse_document("b", "- {a: &xoxb-4 1}\n- 1234: xoxb-5\n- a: .inf\n", lambda path: False).problems
    ]
    assert len(told) == 6
    assert "xoxb" not in str(told)
    assert ".inf" not in str(told)
    assert "    2 |   a: …" in told[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", ["3:1 the key 'a' is written twice"]),
        (
            "a: {x: {y: 1}, x: [1, {z: 2}]}\nb: 1\nb: 2",
            ["1:16 the key 'x' is written twice", "3:1 the key 'b' is written twice"],
        ),
        ("a: &x 1\nb: *x\n", ["1:4 anchors are not used here", "2:4 aliases are not used here"]),
        ("a: !!str 1\n", ["1:4 tags are not used here"]),
        ("a: !!python/object:os.system x\n", ["1:4 tags are not used here"]),
        ("<<: {a: 1}\n", ["1:1 merge keys (<<) are not used here"]),
        ("1: a\n", ["1:1 a key must be text"]),
        ("? [a]\n: b\n", ["1:3 a key must be text"]),
        ("q: {{ x }}\n", ["1:5 a key must be text"]),
        ("a: 1\n---\nb: 2\n", ["2:1 a second document begins here"]),
        ("a: \u202eb\n", []),
        ("a: \x1b[31m\n", ["1:4 an invisible character, U+001B"]),
        ("a: b\u2028c\n", ["1:5 an invisible character, U+2028"]),
        ("a: \ud800\n", ["1:4 an invisible character, U+D800"]),
        ("a:\n\t- b\n", ["2:1 a tab stands here"]),
    ],
)
def test_what_is_refused(text: str, expected: list[str]) -> None:
    assert problems(text) == expected


def test_merge_keys_in_quotes_are_ordinary_keys() -> None:
    assert parse_document("a.yaml", "'<<': 1\n").value == {"<<": 1}


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "\ufeff", "---\n"])
def test_an_empty_document_is_nothing(text: str) -> None:
    document = parse_document("a.yaml", text)
    assert (document.value, document.problems) == (None, ())


def test_a_byte_order_mark_moves_nothing() -> None:
    assert parse_document("a.yaml", "\ufeffa: 1\n").keys["a",].column == 1


@pytest.mark.parametrize("text", ["[" * 400_000, "{a: " * 200_000, "- " * 300_000, "a: [" + "1," * 200_000 + "]"])
def test_a_hostile_file_is_refused_early(text: str) -> None:
    assert problems(text)[-1].endswith("too much, or nested too deeply")


def test_a_large_file_is_not_parsed() -> None:
    assert problems("a: 1\n" + "#" * MAX_BYTES) == ["1:1 the file is larger than 1,000,000 bytes"]
    assert decode("a.yaml", b"#" * (MAX_BYTES + 1))[1][0].message == "the file is larger than 1,000,000 bytes"


def test_many_problems_of_one_file_are_cut() -> None:
    assert len(problems("\n".join(f"a{i}: *x" for i in range(500)))) == 50


def test_bytes_that_are_no_text_are_located() -> None:
    text, (problem,) = decode("a.yaml", "a: ü\nb: ö".encode() + b"\xff")
    assert (text, problem.line, problem.column, problem.hint) == ("", 2, 5, "save the file as UTF-8")


def test_paths_are_written_as_people_write_them() -> None:
    assert path_text(("steps", 0, "with", "to")) == "steps[0].with.to"
    assert path_text(("unless_fixed", "2m", "page")) == 'unless_fixed["2m"].page'
    assert path_text(()) == ""


@given(st.text(max_size=200))
def test_any_text_gives_a_tree_or_problems(text: str) -> None:
    document = parse_document("a.yaml", text)
    assert all(1 <= p.line <= text.count("\n") + text.count("\r") + 2 for p in document.problems)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_keep_their_value(number: float) -> None:
    assert math.isclose(float(str(resolve(repr(number)))), number) if len(repr(number)) <= 24 else True
