"""What queries select, and which of it may be of another env."""

import pytest

from responder.selectors import selectors, unscoped


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("max(var_pct)", ["var_pct"]),
        ('max(var_pct{env="prod"})', []),
        ('max(var_pct{ platform = "edge-risk" , env = "prod", })', []),
        ("max(var_pct{env='prod'})", []),
        ("max(var_pct{env=`prod`})", []),
        ('max(var_pct{env=~"prod"})', []),
        ('max(var_pct{env=~"prod|staging"})', ["var_pct"]),
        ('max(var_pct{env=~".*"})', ["var_pct"]),
        ('max(var_pct{env!="prod"})', ["var_pct"]),
        ('max(var_pct{env!=""})', ["var_pct"]),
        ('max(var_pct{env="staging"})', ["var_pct"]),
        ('max(var_pct{environment="prod"})', ["var_pct"]),
        ("max(var_pct{a='env=\"prod\"'})", ["var_pct"]),
        ('max(var_pct) # {env="prod"}', ["var_pct"]),
        ("var_pct{}", ["var_pct"]),
        ('{__name__="var_pct"}', ["var_pct"]),
        ('{"var.pct", "env"="prod"}', []),
        ('{__name__=~"var_.*", env="prod"}', []),
        ('x{env="{{ env }}"} > {{ limit }}', []),
        ('x{symbol="{{ symbol }}"}', ["x"]),
        ('x{env!="{{ env }}"}', ["x"]),
        ('a{env="prod"} / b', ["b"]),
        ('a{env="prod"} / on (env, pod) group_left (zone) a{env="prod"}', []),
        ('sum by (le, env) (rate(a_bucket{env="prod"}[5m:1m] offset 1h))', []),
        ("SUM(a) BY (env)", ["a"]),
        ("sum without (pod) (a) unless on () b", ["a", "b"]),
        ("a offset 5m > bool 1e-3 or b @ start()", ["a", "b"]),
        ('histogram_quantile(0.95, sum by (le) (rate(job:a:rate5m{env="prod"}[5m])))', []),
        ("vector(1)", []),
        ("time() - 300 > 0x1F", []),
        ("-Inf < NaN", []),
        ("1", []),
        ("", []),
        ("max(x{", ["x"]),
        (")}](", []),
    ],
)
def test_what_may_be_of_another_env(query: str, names: list[str]) -> None:
    assert [selector.name for selector in unscoped(query, "prod")] == names


def test_a_selector_has_its_matchers_as_they_are_written() -> None:
    (found,) = selectors('up{job="a,b}", env=~"p\\\\.d", pod!~"x"}')
    assert found.name == "up"
    assert found.matchers == (("job", "=", "a,b}"), ("env", "=~", "p\\\\.d"), ("pod", "!~", "x"))
