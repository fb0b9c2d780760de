"""The grammar of conditions: what it reads, what it refuses with which cure, and that nothing missing ever holds."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from responder.expressions import Answer, ExpressionError, evaluate, explain, parse_expression
from responder.grammar import MAX_DEPTH, MAX_LENGTH


def holds(source: str, **values: object) -> bool:
    return evaluate(parse_expression(source), values).holds


def missing(source: str, **values: object) -> tuple[str, ...]:
    return evaluate(parse_expression(source), values).missing


@pytest.mark.parametrize(
    ("source", "values", "expected"),
    [
        ("value > 1.8", {"value": 2.13}, True),
        ("value > 1.8", {"value": 1.8}, False),
        ("value >= 1.8", {"value": 1.8}, True),
        ("value < 1.7 and before > 1.8", {"value": 1.6, "before": 2}, True),
        ("value < 1 or before > 1.8", {"value": 1.6, "before": 2}, True),
        ("not value < 1", {"value": 1.6}, True),
        ("not (value < 1 or value > 2)", {"value": 1.6}, True),
        ("1 < value <= 2", {"value": 2}, True),
        ("1 < value <= 2", {"value": 1}, False),
        ("value > before + 0.2", {"value": 2.3, "before": 2.0}, True),
        ("value > before - -0.2", {"value": 2.1, "before": 2.0}, False),
        ("-value < -1", {"value": 2}, True),
        ("+value == 2", {"value": 2.0}, True),
        ("status in [200, 204]", {"status": 204}, True),
        ("status not in [200, -1]", {"status": -1}, False),
        ("steps.cut_kelly.outcome == 'ok'", {"steps": {"cut_kelly": {"outcome": "ok"}}}, True),
        ("body.status != \"a 'quoted' {{ word }} #1\"", {"body": {"status": "up"}}, True),
        ("body.name == 'Zürich → 東京'", {"body": {"name": "Zürich → 東京"}}, True),
        ("body.error == null", {"body": {"error": None}}, True),
        ("body.error != null", {"body": {"error": {"code": 1}}}, True),
        ("body.error in [null, 'none']", {"body": {"error": None}}, True),
        ("ready", {"ready": True}, True),
        ("not ready", {"ready": False}, True),
        ("ready == true and true", {"ready": True}, True),
        ("value == inf_limit", {"value": math.inf, "inf_limit": math.inf}, True),
        ("name < 'b'", {"name": "a"}, True),
        ("\n  value > 1\n  and value < 3\n", {"value": 2}, True),
        ("value > 1e3", {"value": 1001}, True),
        ("value > .5", {"value": 0.6}, True),
    ],
)
def test_answers(source: str, values: Mapping[str, object], expected: bool) -> None:
    assert evaluate(parse_expression(source), values) == Answer(holds=expected)


@pytest.mark.parametrize(
    ("source", "values", "reason"),
    [
        ("value > 1", {}, "value is missing"),
        ("not (value > 1)", {}, "value is missing"),
        ("not not value > 1", {}, "value is missing"),
        ("value != 1", {}, "value is missing"),
        ("value == null", {}, "value is missing"),
        ("value not in [1]", {}, "value is missing"),
        ("value > 1", {"value": math.nan}, "value is NaN"),
        ("not (value > 1)", {"value": math.nan}, "value is NaN"),
        ("value != 1", {"value": math.nan}, "value is NaN"),
        ("value == value", {"value": math.nan}, "value is NaN"),
        ("value != null", {"value": math.nan}, "value is NaN"),
        ("value - value < 1", {"value": math.inf}, "value - value is NaN"),
        ("value + 0.5 > 1", {"value": 10**400}, "value + 0.5 is too large"),
        ("value > 1", {"value": "2"}, "value is text, 1 is a number"),
        ("value != 1", {"value": "2"}, "value is text, 1 is a number"),
        ("value != 1", {"value": None}, "value is null, 1 is a number"),
        ("value != 1", {"value": True}, "value is true or false, 1 is a number"),
        ("value in [1, 2]", {"value": "1"}, "value is text, [1, 2] holds none"),
        ("value not in ['a']", {"value": 1}, "value is a number, ['a'] holds none"),
        ("value + 1 > 1", {"value": "2"}, "value is text, not a number"),
        ("-value < 1", {"value": True}, "value is true or false, not a number"),
        ("value", {"value": 1}, "value is a number, not true or false"),
        ("a < b", {"a": True, "b": False}, "a is true or false, which has no `<`"),
        ("a == b", {"a": [1], "b": [1]}, "a is a list or an object, which has no `==`"),
        ("steps.cut.output.value > 1", {"steps": {"cut": {}}}, "steps.cut.output is missing"),
        ("steps.cut.output > 1", {"steps": "text"}, "steps.cut is missing"),
        ("value.__class__ == 'a'", {"value": "a"}, "value.__class__ is missing"),
    ],
)
def test_what_is_not_known_never_holds_and_says_why(source: str, values: Mapping[str, object], reason: str) -> None:
    assert evaluate(parse_expression(source), values) == Answer(holds=False, missing=(reason,))


def test_an_unknown_part_matters_only_when_it_decides() -> None:
    assert holds("value > 1 or before > 1", before=2)
    assert missing("value > 1 or before > 1", before=2) == ()
    assert missing("value > 1 and before > 1", before=0) == ()
    assert missing("value > 1 and before > 1", before=2) == ("value is missing",)
    assert missing("value > 1 or before > 1") == ("value is missing", "before is missing")
    assert missing("not (value > 1 and value < 3)") == ("value is missing",)
    assert evaluate(parse_expression("value > 1"), {}).unknown
    assert not evaluate(parse_expression("value > 1"), {"value": 0}).unknown


def test_needs_names_the_roots_and_the_paths() -> None:
    expression = parse_expression("steps.cut.outcome == 'ok' and value > before + 0.2 or true")
    assert expression.names == {"steps", "value", "before"}
    assert expression.paths == {"steps.cut.outcome", "value", "before"}
    assert expression == parse_expression(expression.source)


@pytest.mark.parametrize(
    ("source", "column", "message", "hint"),
    [
        ("value = 1", 7, "`=` compares nothing", "write `==`"),
        ("value === 1", 7, "`===` is not an operator", "write `==`"),
        ("value > 1 && before > 2", 11, "`&&` is not an operator", "write `and`"),
        ("value > 1 || before > 2", 11, "`||` is not an operator", "write `or`"),
        ("!ready", 1, "`!` is not an operator", "write `not`"),
        ("value => 1", 7, "`=>` is not an operator", "`>=`"),
        ("value <> 1", 7, "`<>` is not an operator", "`!=`"),
        ("value =~ 'a'", 7, "belongs to matchers", "in [...]"),
        ("value > 1.8%", 9, "`1.8%` has a unit", "plain number"),
        ("value > 1.8 %", 9, "`1.8 %` has a unit", "plain number"),
        ("value > 1.8ms", 9, "`1.8ms` is not a plain number", "digits only"),
        ("value > 30 s", 9, "`30 s` is not a plain number", "digits only"),
        ("value > 5µs", 9, "`5µs` is not a plain number", "digits only"),
        ("value > 0x10", 9, "`0x10` is not a plain number", "digits only"),
        ("value > 1_000", 9, "`1_000` is not a plain number", "digits only"),
        ("value > 1and ready", 9, "a number runs into a word", "a space after `1`"),
        ("value is None", 7, "`is` is not an operator", "what is missing never holds"),
        ("value == None", 10, "`None` is a name of Python", "null"),
        ("value == True", 10, "`True` is a name of Python", "true"),
        ("value > 1 AND ready", 11, "`AND` is not an operator", "small letters"),
        ("value > 1 # high\n and before > 2", 11, "a comment", "YAML"),
        ("{{ value }} > 1", 1, "not a template", "without braces"),
        ("value ≥ 1", 7, "`≥` cannot stand outside quotes", "plain operators"),
        ("value == “up”", 10, "cannot stand outside quotes", "straight quotes"),
        ("value == 'a\\n'", 12, "a backslash has no meaning", "the character itself"),
        ("value == f'{x}'", 10, "cannot follow a letter", "no prefixes"),
        ("value == 'a' 'b'", 10, "side by side", "join"),
        ('value == """a"""', 10, "side by side", "join"),
        ("value == 'a", 10, "cannot be read", "comparison"),
        ("(value > 1", 1, "cannot be read", "comparison"),
        ("value > 1 value", 9, "`1 value` is not a plain number", "digits only"),
        ("value before > 1", 7, "cannot be read", "comparison"),
        ("value >", 7, "cannot be read", "comparison"),
        ("", 1, "empty", "comparison"),
        (" \n", 1, "empty", "comparison"),
        ("value * 2 > 1", 1, "only + and -", "query"),
        ("2 ** 9 > value", 1, "only + and -", "query"),
        ("value > 1 > (2 > 1)", 14, "a condition stands where a value", "and"),
        ("value + 1", 1, "neither true nor false", "comparison"),
        ("1", 1, "neither true nor false", "comparison"),
        ("abs(value) > 1", 1, "`abs(value)` is not part of the grammar", "comparison"),
        ("'a'.upper == 'A'", 1, "only names have fields", "dotted"),
        ("f().x > 1", 1, "only names have fields", "dotted"),
        ("true.x > 1", 1, "only names have fields", "dotted"),
        ("body['a'] > 1", 1, "not part of the grammar", "comparison"),
        ("[1] == value", 1, "can only follow `in`", "in [1, 2]"),
        ("value in (1, 2)", 10, "needs a list", "in [200, 204]"),
        ("value in []", 10, "needs a list", "in [200, 204]"),
        ("'x' in body.message", 8, "needs a list", "in [200, 204]"),
        ("value in [before]", 11, "constants only", "in [200, 204]"),
        ("value if ready else before", 1, "not part of the grammar", "comparison"),
        ("lambda: 1", 1, "not part of the grammar", "comparison"),
        ("(value := 1)", 9, "`=` compares nothing", "write `==`"),
        ("value > null", 9, "`null` has no order", "!="),
        ("value > true", 9, "`true` has no order", "!="),
        ("value > '1.8'", 9, "is text, not a number", "remove the quotes"),
        ("value > 'a' + 1", 9, "is not a number", "added"),
        ("value > 1e999", 9, "not a finite number", "smaller"),
        ("value > -1e999", 10, "not a finite number", "smaller"),
        ("steps.cut-kelly.outcome == 1", 1, "`steps.cut-kelly.outcome` reads as a difference", "spaces"),
        ("  value = 1", 9, "`=` compares nothing", "write `==`"),
        ("  abs(value)", 3, "not part of the grammar", "comparison"),
        ("'東京' == value * 2", 9, "only + and -", "query"),
        ("(" * (MAX_LENGTH + 1), 1, f"{MAX_LENGTH} are allowed", "shorten"),
        ("not " * (MAX_DEPTH + 1) + "a", 4 * MAX_DEPTH + 1, f"deeper than {MAX_DEPTH}", "shorten"),
        ("a < " + "+".join(["1"] * 60), 5, f"deeper than {MAX_DEPTH}", "shorten"),
        ("value > " + "-" * 400 + "1", 9 + MAX_DEPTH - 1, f"deeper than {MAX_DEPTH}", "shorten"),
    ],
)
def test_a_mistake_is_located_and_gets_its_cure(source: str, column: int, message: str, hint: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(source)
    error = caught.value
    assert message in error.message
    assert hint in error.hint
    assert error.column == column
    assert str(error) == f"{error.message} (column {column}); {error.hint}"


@pytest.mark.parametrize(
    ("source", "values", "expected"),
    [
        ("value > 1.8", {"value": 2.13}, "value 2.13 > 1.8"),
        ("value > before + 0.2", {"value": 0.1 + 0.2, "before": 2}, "value 0.3 > before 2 + 0.2"),
        ("steps.cut.outcome == 'ok'", {"steps": {"cut": {"outcome": "ok"}}}, "steps.cut.outcome \"ok\" == 'ok'"),
        ("not value > 1", {}, "not value (missing) > 1"),
        ("value\n  > 1", {"value": math.nan}, "value NaN > 1"),
        ("a == b", {"a": None, "b": True}, "a null == b true"),
        ("a == b", {"a": [1], "b": "x" * 99}, f'a (a list or an object) == b "{"x" * 59}…"'),
        ("a == b", {"a": 10**5000, "b": "\x1b[31m\n"}, 'a inf == b "�[31m�"'),
        ("a == b", {"a": 12345678, "b": 1e300}, "a 12345678 == b 1e+300"),
    ],
)
def test_explains_with_the_values_beside_the_names(source: str, values: Mapping[str, object], expected: str) -> None:
    assert explain(parse_expression(source), values) == expected


# ---------------------------------------------------------------------------------------------------- for any input

numbers = st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner)
)
words = "value a b.c . 1 1.5 1e5 - + * ( ) [ ] , < >= == != = and or not in is if else true null ' \" 'x' \\ # { % é"
fragments = st.sampled_from([*words.split(), " ", "\n", "\0", "\ud800"])
atoms = st.sampled_from(["a", "b", "c.a", "1", "1.5", "'x'", "true", "null", "a + 1", "-b", "a - b"])
comparisons = st.builds("{} {} {}".format, atoms, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), atoms)
conditions = st.recursive(
    comparisons | st.just("a in [1, 'x', null]") | st.just("b"),
    lambda inner: (
        st.builds("({} and {})".format, inner, inner)
        | st.builds("({} or {})".format, inner, inner)
        | st.builds("not {}".format, inner)
    ),
    max_leaves=6,
)


@given(
    st.text(max_size=40)
    | st.lists(fragments, max_size=30).map(" ".join)
    | st.lists(fragments, max_size=30).map("".join)
)
@example("(" * 400)
@example("~" * 499)
@example("a" + ".b" * 240)
@example("'" * 3)
@example("\ud800 > 1")
@example("a == '\ud800'")
def test_any_source_is_read_or_refused(source: str) -> None:
    try:
        expression = parse_expression(source)
    except ExpressionError as error:
        column = error.column
    else:
        column = 1
        evaluate(expression, {"value": 1, "a": "x"})
        explain(expression, {"value": 1, "a": "x"})
    assert 1 <= column <= max(len(source), 1)


def _accepted(source: str) -> bool:
    try:
        parse_expression(source)
    except ExpressionError:
        return False
    return True


@given(conditions.filter(_accepted), st.dictionaries(st.sampled_from("abc"), trees))
def test_evaluation_never_raises_and_negation_never_makes_the_unknown_true(
    source: str, values: dict[str, object]
) -> None:
    answer = evaluate(parse_expression(source), values)
    negated = evaluate(parse_expression(f"not ({source})"), values)
    explain(parse_expression(source), values)
    assert answer.unknown == negated.unknown
    if answer.unknown:
        assert not answer.holds
        assert not negated.holds
    else:
        assert answer.holds is not negated.holds


sums = st.recursive(
    st.sampled_from(["a", "b", "1", "2.5", "0"]),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-"), inner) | st.builds("-{}".format, inner),
    max_leaves=3,
)
calculations = st.recursive(
    st.builds("{} {} {}".format, sums, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), sums)
    | st.builds("{} {} [1, 2.5, -3]".format, st.sampled_from("ab"), st.sampled_from(["in", "not in"])),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner) | st.builds("not {}".format, inner)
    ),
    max_leaves=5,
).filter(lambda source: len(source) <= MAX_LENGTH)


@given(calculations, numbers, numbers)
def test_agrees_with_python_on_numbers(source: str, a: float, b: float) -> None:
    expected = eval(source, {"__builtins__": {}}, {"a": a, "b": b})  # noqa: S307 - the source is made above, of numbers
    assert evaluate(parse_expression(source), {"a": a, "b": b}) == Answer(holds=expected)
