"""Durations and times as text and as microseconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.errors import BadSyntax
from responder.timing import (
    DAY,
    HOUR,
    MILLISECOND,
    MINUTE,
    SECOND,
    backoff,
    format_duration,
    format_time,
    humanize,
    parse_duration,
    parse_time,
)


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("0", 0), ("0s", 0), ("90s", 90 * SECOND), ("1h30m", 90 * MINUTE), ("500ms", 500 * MILLISECOND),
        ("2d", 2 * DAY),
        ("1w", 7 * DAY), ("1y", 365 * DAY), ("1w2d3h4m5s6ms7us", 9 * DAY + 3 * HOUR + 4 * MINUTE + 5_006_007),
    ],
)  # fmt: skip
def test_durations_are_read_as_prometheus_reads_them(text: str, us: int) -> None:
    assert parse_duration(text) == us


@pytest.mark.parametrize(
    ("text", "column", "hint"),
    [
        ("90", 1, "write 90s"), ("1.5h", 1, "write 1h30m"), ("1m1h", 3, "write 1h1m"), ("5 minutes", 1, "write 5m"),
        ("1H", 1, "write 1h"), ("1h1h", 3, "write 2h"), ("", 1, "write a number and a unit, such as 90s or 1h30m"),
        ("-5s", 1, "write a number and a unit, such as 90s or 1h30m"), ("1h\n", 3, "write 1h"),
        ("99999999999999999999y", 1, "write a shorter one"), ("9999999y", 1, "write a shorter one"),
        ("٣s", 1, "write a number and a unit, such as 90s or 1h30m"),
    ],
)  # fmt: skip
def test_a_bad_duration_says_where_and_what_to_write(text: str, column: int, hint: str) -> None:
    with pytest.raises(BadSyntax) as caught:
        parse_duration(text)
    assert (caught.value.column, caught.value.hint) == (column, hint)


@given(st.integers(0, 2**63 - 1))
def test_durations_survive_writing_and_reading(us: int) -> None:
    assert parse_duration(format_duration(us)) == us


@given(st.text(alphabet="0123456789 .ywdhmsuµ-", max_size=30) | st.text(max_size=30))
def test_any_text_is_a_duration_or_a_syntax_error(text: str) -> None:
    try:
        us = parse_duration(text)
    except BadSyntax:
        return
    assert parse_duration(format_duration(us)) == us


def test_canonical_durations() -> None:
    assert [format_duration(us) for us in (0, 90 * SECOND, 7 * DAY, 10 * DAY, 1)] == ["0", "1m30s", "1w", "10d", "1us"]
    with pytest.raises(ValueError, match="never negative"):
        format_duration(-1)


@pytest.mark.parametrize(
    ("us", "shown"),
    [
        (0, "0s"), (5, "under 1ms"), (850 * MILLISECOND, "850ms"), (59 * SECOND, "59s"), (125 * SECOND, "2m 05s"),
        (HOUR - 1, "59m 59s"), (3 * HOUR, "3h 00m"), (DAY, "1d 00h"), (52 * HOUR, "2d 04h"), (-125 * SECOND, "-2m 05s"),
    ],
)  # fmt: skip
def test_durations_for_people(us: int, shown: str) -> None:
    assert humanize(us) == shown


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01T00:00:00Z", 0), ("1970-01-01T00:00:00.3Z", 300_000), ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01t00:00:00.123456789z", 123_456), ("1969-12-31T23:59:59.999999-00:00", -1),
        ("2026-11-20T17:02:42.347382Z", 1_795_194_162_347_382),
    ],
)  # fmt: skip
def test_times_are_read_in_any_offset_and_precision(text: str, us: int) -> None:
    assert parse_time(text) == us


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2026-11-20", "2026-11-20T17:02:42", "2026-11-20 17:02:42Z", "2026-W47-5T17:02:42Z",
        "20261120T170242Z",
        "2026-02-30T00:00:00Z", "2026-11-20T24:00:00Z", "10000-01-01T00:00:00Z", "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+02:00", "9999-12-31T23:59:59-02:00", "2026-11-20T17:02:42+25:00", "2026-11-20T17:02:42Z\n",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadSyntax):
        parse_time(text)


@given(st.integers(parse_time("0001-01-01T00:00:00Z"), parse_time("9999-12-31T23:59:59.999999Z")))
def test_times_survive_writing_and_reading(us: int) -> None:
    assert parse_time(format_time(us)) == us


def test_times_are_written_with_as_many_digits_as_needed() -> None:
    shown = [format_time(us) for us in (0, 300_000, 1)]
    assert shown == ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00.300Z", "1970-01-01T00:00:00.000001Z"]
    with pytest.raises(ValueError, match="outside the years"):
        format_time(2**62)


def test_backoff_grows_to_its_cap() -> None:
    waits = [backoff(attempt, SECOND, 2, 10 * SECOND, 0) for attempt in (1, 2, 3, 4, 5, 100_000)]
    assert waits == [SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND, 10 * SECOND, 10 * SECOND]
    assert backoff(100_000, SECOND, 1.5, 10 * SECOND, 0) == 10 * SECOND


@given(st.integers(1, 60), st.floats(0, 1, exclude_max=True))
def test_jitter_takes_off_at_most_half(attempt: int, jitter: float) -> None:
    whole = backoff(attempt, SECOND, 2, HOUR, 0)
    assert whole / 2 <= backoff(attempt, SECOND, 2, HOUR, jitter) <= whole


@pytest.mark.parametrize(("attempt", "jitter"), [(0, 0.0), (1, 1.0), (1, -0.1)])
def test_backoff_refuses_nonsense(attempt: int, jitter: float) -> None:
    with pytest.raises(ValueError, match="counts from 1"):
        backoff(attempt, SECOND, 2, HOUR, jitter)
