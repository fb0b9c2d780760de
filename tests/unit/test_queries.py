"""Queries that no Prometheus would take are told where they are written."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from responder.actions.prometheus import PrometheusQuery, unbalanced


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("max(feed_lag_ms", "( is not closed"),
        ("max(feed_lag_ms))", ") closes nothing"),
        ("rate(x[5m)", ") closes nothing"),
        ('x{a="b}', 'a text that begins with " does not end'),
        ("x{a='(', b=\"]\", c=`{`} # (", None),
        ('sum(rate(x{a="\\"("}[5m])) by (a)', None),
        ("x > {{ limit }}", None),
    ],
)
def test_what_is_open_must_be_closed(query: str, fault: str | None) -> None:
    assert unbalanced(query) == fault


def test_a_query_that_is_not_whole_is_refused() -> None:
    with pytest.raises(ValidationError, match="is not closed"):
        PrometheusQuery(service="metrics", query="max(x")
