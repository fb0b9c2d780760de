"""How far queries look back."""

import pytest

from responder.lookback import lookback
from responder.timing import parse_duration


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("max(var_pct)", "0"),
        ("rate(errors_total[5m])", "5m"),
        ("sum by (desk) (rate(errors_total[5m])) / rate(all_total[1h30m])", "1h30m"),
        ("max_over_time(rate(errors_total[5m])[30m:1m])", "30m"),
        ("max_over_time(latency[10m:])", "10m"),
        ("quantile_over_time(0.99, latency[ 7m ])", "7m"),
        ("increase(errors_total[300])", "5m"),
        ("rate(errors_total[5m] offset 1h)", "1h5m"),
        ("errors_total offset 10m", "10m"),
        ("rate(errors_total[5m] offset -1h)", "5m"),
        ("irate(errors_total[5m])", "0"),
        ("last_over_time(position[1h])", "0"),
        ("(last_over_time(position[1h])) + rate(errors_total[2m])", "2m"),
        ("rate(errors_total{path=\"[9h]\", name='[8h]'}[1m])", "1m"),
        ("rate(errors_total[1m]) # was [5h]", "1m"),
        ("rate(errors_total[$__interval])", "0"),
        (")](rate[", "0"),
    ],
)
def test_a_query_looks_back(query: str, expected: str) -> None:
    assert lookback(query) == parse_duration(expected)
