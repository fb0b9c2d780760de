"""Matchers as Alertmanager reads them, regular expressions as RE2 does, and what two lists have in common."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.errors import BadSyntax
from responder.matchers import Matcher, Op, parse_matcher, parse_matchers, provably_disjoint, provably_overlap
from responder.patterns import compile_pattern


def refused_at(reader: Callable[[str], object], text: str) -> int | None:
    try:
        reader(text)
    except BadSyntax as error:
        return error.column
    return None


def read(text: str) -> list[tuple[str, str, str]]:
    return [(matcher.name, str(matcher.op), matcher.value) for matcher in parse_matchers(text)]


@pytest.mark.parametrize(
    ("text", "matchers"),
    [
        # Read alike by both parsers of Alertmanager.
        ("", []), ("{}", []), (" ", []), ("{foo=bar}", [("foo", "=", "bar")]), ("foo=bar,", [("foo", "=", "bar")]),
        ("{ foo != bar , }", [("foo", "!=", "bar")]), ("foo=~[a-z]+", [("foo", "=~", "[a-z]+")]),
        ("{foo!~[a-z]+}", [("foo", "!~", "[a-z]+")]), ("foo=🙂bar", [("foo", "=", "🙂bar")]),
        ('foo=""', [("foo", "=", "")]),
        ('{a="b",c!~"d"}', [("a", "=", "b"), ("c", "!~", "d")]), ('a="x,y",b=z', [("a", "=", "x,y"), ("b", "=", "z")]),
        (r'a="say: \"hi, you\""', [("a", "=", 'say: "hi, you"')]), (r'a="x\ny\\z"', [("a", "=", "x\ny\\z")]),
        ('{\n  a="b",\n  c="d",\n}', [("a", "=", "b"), ("c", "=", "d")]), ("a_b:c=d", [("a_b:c", "=", "d")]),
        # Read only by the UTF-8 parser.
        ('{"foo"="bar"}', [("foo", "=", "bar")]), ('"a b"=~"c.*",d=e', [("a b", "=~", "c.*"), ("d", "=", "e")]),
        ("foo🙂=bar", [("foo🙂", "=", "bar")]), ("0foo=bar", [("0foo", "=", "bar")]),
        ("k8s.io/app=x", [("k8s.io/app", "=", "x")]),
        (r'"foo"="\xf0\x9f\x99\x82"', [("foo", "=", "🙂")]),
        (r'"foo"="\U0001f642\u00e9\t\101"', [("foo", "=", "🙂é\tA")]),
        (r'"foo"=~"\\d+"', [("foo", "=~", r"\d+")]), ('"}"="{",', [("}", "=", "{")]),
        # Read only by the classic parser.
        ("foo=", [("foo", "=", "")]), ("{foo=,bar=}}", [("foo", "=", ""), ("bar", "=", "}")]),
        ("{foo='}", [("foo", "=", "'")]),
        (r'foo=~"\d+"', [("foo", "=~", r"\d+")]), (r'a=~"\d\",y",b=c', [("a", "=~", r'\d",y'), ("b", "=", "c")]),
        (r"{foo=bar\t}", [("foo", "=", r"bar\t")]),
        (r"foo=bar\n", [("foo", "=", "bar\n")]),
        ("foo=bar\\", [("foo", "=", "bar\\")]), (r"foo=\"", [("foo", "=", '"')]),
        ("tricky=~~~", [("tricky", "=~", "~~")]),
        (r"trickier==\\=\=\"", [("trickier", "=", r'=\=\="')]), ("foo=two words", [("foo", "=", "two words")]),
        (r'a != "\"" , b !~ "x,y" , ', [("a", "!=", '"'), ("b", "!~", "x,y")]),
        ("{foo=bar}},}", [("foo", "=", "bar}}")]),
        ("foo=bar}", [("foo", "=", "bar")]), ("{foo=bar", [("foo", "=", "bar")]), ("{foo=}b", [("foo", "=", "}b")]),
        # Read differently by the two: the classic reading counts.
        (r'foo="\xf0\x9f"', [("foo", "=", r"\xf0\x9f")]), (r'foo="a\tb"', [("foo", "=", r"a\tb")]),
    ],
)  # fmt: skip
def test_matchers_are_read_as_alertmanager_reads_them(text: str, matchers: list[tuple[str, str, str]]) -> None:
    assert read(text) == matchers


@pytest.mark.parametrize(
    ("text", "column", "hint"),
    [
        (",", 1, "name="), ("{,}", 2, "name="), ("foo!bar", 4, "double quotes"), ("=bar", 1, "name="),
        ("foo", 4, "= != =~"),
        ('foo="bar', 5, 'closing "'), ('a="b" c="d"', 7, "comma"), ('{"a"="b"', 9, "comma"), ('"a"="b"}', 8, "add {"),
        ("{{foo=x", 2, "name="), (r'"foo"="bar\w"', 7, "backslash"), (r'"foo"="\xf0\x9f"', 7, "characters themselves"),
        (r'"foo"="\ud800"', 7, "characters themselves"), ('"foo"="a\nb"', 7, "new line"), ('foo="a"b"', 8, "comma"),
        ('""="x"', 4, "name="), ("a" * 16_385, 1, "fewer"), ('foo=~"(a"', 6, "close it"),
        ('"foo"=~"a["', 8, "close it"),
        ("foo=~a**", 6, "(?:...)"),
    ],
)  # fmt: skip
def test_bad_matchers_say_where_and_what_to_write(text: str, column: int, hint: str) -> None:
    with pytest.raises(BadSyntax) as caught:
        parse_matchers(text)
    assert caught.value.column == column
    assert hint in caught.value.hint


def test_one_matcher_is_one() -> None:
    assert parse_matcher("a=b") == Matcher("a", Op.EQUAL, "b")
    for text, found in (("{}", 0), ("a=b,c=d", 2)):
        with pytest.raises(BadSyntax, match=f"found {found}"):
            parse_matcher(text)


@pytest.mark.parametrize(
    ("text", "labels", "verdict"),
    [
        ("a=b", {"a": "b"}, True), ("a=b", {}, False), ('a=""', {}, True), ("a!=b", {}, True),
        ("a!=b", {"a": "b"}, False),
        ("a=~b", {"a": "bb"}, False), ("a=~b.*", {"a": "bb"}, True), ("a!~b.*", {"a": "bb"}, False),
        ("a!~b.+", {}, True),
        ("a=~.*", {}, True), ("a=~.+", {}, False), ("a=~b|c", {"a": "c"}, True), ("a=~b|c", {"a": "bc"}, False),
    ],
)  # fmt: skip
def test_matching_with_missing_as_empty_and_whole_values(text: str, labels: dict[str, str], verdict: bool) -> None:
    assert parse_matcher(text).matches(labels) is verdict


texts = st.text(st.characters(codec="utf-8")) | st.text(alphabet="a0_ {}!=~,\\\"'`\n\t\x1c\x85", max_size=8)


@given(texts.filter(bool), st.sampled_from(["=", "!="]), texts)
def test_matchers_survive_writing_and_reading(name: str, op: str, value: str) -> None:
    matcher = Matcher(name, Op(op), value)
    assert parse_matchers(str(matcher)) == (matcher,)
    assert parse_matchers(f"{{{matcher},{matcher}}}") == (matcher, matcher)


@given(texts | st.text(alphabet='ab{}!=~,\\" ', max_size=20))
def test_any_text_is_matchers_or_a_syntax_error(text: str) -> None:
    column = refused_at(parse_matchers, text)
    assert column is None or 1 <= column <= len(text) + 1
    if column is None:
        matchers = parse_matchers(text)
        assert parse_matchers(",".join(map(str, matchers))) == matchers


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("", "", "a"), ("a|", "", "b"), ("a.c", "abc", "a\nc"), ("(?s)a.c", "a\nc", "ac"), ("a$", "a", "a\n"),
        ("^a$", "a", "^a$"),
        ("(^a|b$)", "b", "ab"), (r"\d+", "42", "٤"), (r"\w", "_", "é"), (r"\s", "\f", "\v"),
        (r"\D\S\W", "aa-", "1a-"),
        ("[^a]", "\n", "a"), ("[]a]", "]", "["), ("[a-]", "-", "b"), ("[a-c-]", "-", "d"),
        (r"[\d.-]+", "1.2-3", "a"), (r"[\D]", "x", "1"),
        ("[[:alpha:]_]+", "a_Z", "1"), ("[[:^digit:]]", "a", "1"), (r"[\]\\]", "\\", "a"),
        ("(?i)btc-[a-f]", "BTC-E", "BTC-G"),
        ("(?i:a)b", "Ab", "AB"), ("a(?i)b|c", "C", "A"), ("(?-i:a)", "a", "A"), ("(?P<n>a)(?<m>b)", "ab", "a"),
        ("a{2,3}", "aaa", "a"),
        ("a{2}", "aa", "aaa"), ("a{2,}", "aaaaa", "a"), ("a{,2}", "a{,2}", "aa"), ("a{x}", "a{x}", "a"),
        ("{", "{", ""), ("a}", "a}", "a"),
        ("(a|b)*?c", "abac", "abd"), (r"\x41\x{1F642}\101\n\.", "A🙂A\n.", "A"), (r"\Aa\z", "a", "a\n"),
        (r"\_\-", "_-", "-"),
        ("(a*)*", "aaa", "b"), ("(|a)+", "aa", "b"), ("(?:)", "", "a"), ("(((a{0}){1000}){1000}){1000}", "", "a"),
        ("$^", "", "a"),
        ("x*", "", "y"), (".*quux.*", "a quux b", "quu"), ("(a+)+$", "aaaa", "aaaa!"),
    ],
)  # fmt: skip
def test_patterns_mean_what_re2_means(pattern: str, yes: str, no: str) -> None:
    compiled = compile_pattern(pattern)
    assert compiled.matches(yes)
    assert not compiled.matches(no)


@pytest.mark.parametrize("pattern", [".$.", ".^.", "[ab]$b+", ".+(^|$)b", "(a$)+b"])
def test_an_anchor_holds_only_at_its_end_of_the_value(pattern: str) -> None:
    assert not any(compile_pattern(pattern).matches(value) for value in ("", "a", "ab", "a\nb", "aab", "a$b"))


@pytest.mark.parametrize("pattern", ["^.b$", "(^a|x).$", "(^)*.b($|x)", ".b$$"])
def test_an_anchor_where_it_belongs_changes_nothing(pattern: str) -> None:
    assert compile_pattern(pattern).matches("ab")


@pytest.mark.parametrize(
    ("pattern", "column"),
    [
        ("(a", 1), ("a)", 2), ("[a", 1), ("[]", 1), ("*a", 1), ("a|*", 3), ("a**", 3), ("a*+", 3), ("a+{2}", 3),
        ("[b-a]", 2),
        ("[[:x:]]", 2), (r"\1", 1), (r"(a)\1", 4), ("(?P=n)", 1), (r"\k<n>", 1), ("a(?=b)", 2), ("(?!a)", 1),
        ("(?<=a)", 1),
        ("(?<!a)", 1), ("(?>a)", 1), ("(?#a)", 1), ("(?m)a", 1), ("(?x)a", 1), ("(?", 1), ("(?P<a-b>c)", 1), (r"\b", 1),
        (r"\pL", 1), (r"\Q.\E", 1), (r"\Z", 1), (r"\y", 1), ("a\\", 2), (r"\xg", 1), (r"\x{110000}", 1), ("a{1001}", 2),
        ("a{3,2}", 2), ("(a{1000}){1000}", 1), ("(" * 101 + ")" * 101, 101), ("a" * 4097, 1),
    ],
)  # fmt: skip
def test_what_re2_refuses_or_we_cannot_do_is_refused_with_a_cure(pattern: str, column: int) -> None:
    with pytest.raises(BadSyntax) as caught:
        compile_pattern(pattern)
    assert (caught.value.column, bool(caught.value.hint)) == (column, True)


shapes = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "", "^", "$", r"\w", "c?"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        ),
    ),
    max_leaves=6,
)


@given(shapes, st.lists(st.text(alphabet="abc", max_size=5), max_size=5))
def test_patterns_agree_with_python_where_the_languages_agree(shape: str, values: list[str]) -> None:
    compiled = compile_pattern(shape)
    for value in values:
        assert compiled.matches(value) is (re.fullmatch(shape, value) is not None)


@given(st.text(alphabet="ab()[]|*+?{}1,^$.\\-:idwxQ<>=!", max_size=25) | st.text(max_size=25))
def test_any_text_is_a_pattern_or_a_syntax_error(text: str) -> None:
    column = refused_at(lambda given: compile_pattern(given).matches("ab1"), text)
    assert column is None or 1 <= column <= len(text) + 1


def test_a_pattern_that_makes_others_explode_is_just_matched() -> None:
    # Python's re needs longer than the universe for any of these; here each character is one step.
    for pattern in ("(a|aa)+b", "(a+)+b", "(.*)*b", "(a?){50}a{50}b", "(.*,){12}b"):
        assert compile_pattern(pattern).matches("a," * 2_000) is False


def test_a_pattern_forgets_what_it_remembered_and_still_matches() -> None:
    pattern = compile_pattern(".*a.{13}")  # has 2**14 states, more than are kept
    values = [f"{number:016b}".replace("0", "b").replace("1", "a") for number in range(0, 2**16, 31)]
    assert [pattern.matches(value) for value in values] == [value[-14] == "a" for value in values]


def test_few_literals_are_known() -> None:
    assert compile_pattern("^(critical|high)$").literals == frozenset({"critical", "high"})
    assert compile_pattern("a[12]?").literals == frozenset({"a", "a1", "a2"})
    assert compile_pattern("a.*").literals is None
    assert compile_pattern("(a|b|c|d|e|f|g|h){5}x").literals is None


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("x=1", "x=2"), ("x=1", 'x=~"2|3"'), ('x=~"1|2"', 'x=~"3|4"'), ("x=1", "x!=1"), ('x=~"1|2"', 'x!~"[12]"'),
        ("x=1", 'x=~"[^1].*"'),
        ("x=1,y=2", "x=1,y=3"), ('x=""', "x=~.+"), ("x=1,x=2", ""),
    ],
)  # fmt: skip
def test_disjoint_lists(a: str, b: str) -> None:
    assert provably_disjoint(parse_matchers(a), parse_matchers(b))
    assert not provably_overlap(parse_matchers(a), parse_matchers(b))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("", ""), ("x=1", "y=2"), ("x=1", "x=1"), ("x=1", 'x=~"1|2"'), ("x=1", "x!=2"), ("x!=1", "x!=2"),
        ("x=~VaR.*", "x=VaRBreach"),
        ("x=~VaR.*", "x=~.*Breach"), ("x=~a+", "x!~b+"), ("x!=another", ""), ('x=~"[^0]+"', ""),
    ],
)  # fmt: skip
def test_overlapping_lists(a: str, b: str) -> None:
    assert provably_overlap(parse_matchers(a), parse_matchers(b))
    assert not provably_disjoint(parse_matchers(a), parse_matchers(b))


def test_what_cannot_be_proven_is_neither() -> None:
    a, b = parse_matchers("x=~[0-9]+"), parse_matchers("x=~[a-z]+")
    assert not provably_overlap(a, b)
    assert not provably_disjoint(a, b)


lists = st.lists(
    st.builds(
        Matcher, st.sampled_from("xy"), st.sampled_from(Op), st.sampled_from(["", "a", "a|b", "a.*", "[ab]", ".+"])
    ),
    max_size=3,
)


@given(lists, lists, st.dictionaries(st.sampled_from("xy"), st.sampled_from(["", "a", "b", "ab"])))
def test_proofs_are_never_wrong(a: list[Matcher], b: list[Matcher], labels: dict[str, str]) -> None:
    both = all(matcher.matches(labels) for matcher in [*a, *b])
    assert not (both and provably_disjoint(a, b))
    assert not (provably_overlap(a, b) and provably_disjoint(a, b))


@pytest.mark.parametrize(
    ("matcher", "value", "why"),
    [
        ('env="prod"', "prod", None),
        ('env="prod"', "test", 'env="test" does not match env="prod"'),
        ('env="prod"', "", 'the alert has no label env, and env="prod" wants one'),
        ('env!=""', "", 'the alert has no label env, and env!="" wants one'),
        ('env!~"t.*"', "test", 'env="test" does not match env!~"t.*"'),
        ('env="prod"', 'a"b', 'env="a\\"b" does not match env="prod"'),
        ('env="prod"', "x" * 100, f'env="{"x" * 59}…" does not match env="prod"'),
    ],
)
def test_a_matcher_says_why_not(matcher: str, value: str, why: str | None) -> None:
    assert parse_matcher(matcher).why_not({"env": value}) == why
