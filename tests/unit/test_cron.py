"""Schedules as people write them, and when they come."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from responder.cron import Schedule, described, next_after
from responder.timing import DAY, MINUTE, SECOND, format_time, parse_time

KOLKATA = "Asia/Kolkata"
NEW_YORK = "America/New_York"
LONDON = "Europe/London"


def times(schedule: Schedule, after: str, count: int) -> list[str]:
    found, now = [], parse_time(after)
    for _ in range(count):
        then = next_after(schedule, now)
        assert then is not None
        found.append(format_time(then))
        now = then
    return found


def hint_of(**written: str) -> tuple[str, str]:
    with pytest.raises(ValidationError) as caught:
        Schedule.model_validate(written)
    (found,) = caught.value.errors()
    return found["msg"], found["ctx"]["hint"]


def test_it_comes_strictly_after_now_by_the_clock_of_its_zone() -> None:
    opening = Schedule(cron="45 8 * * mon-fri", timezone=KOLKATA)
    friday = "2026-11-20T03:14:59.999999Z"
    assert times(opening, friday, 2) == ["2026-11-20T03:15:00Z", "2026-11-23T03:15:00Z"]
    assert times(opening, "2026-11-20T03:15:00Z", 1) == ["2026-11-23T03:15:00Z"]
    assert times(Schedule(cron="30 9 * * *"), "2026-11-20T09:29:00Z", 1) == ["2026-11-20T09:30:00Z"]


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        # 02:00 to 03:00 does not exist: what would come then comes at the jump.
        ("30 2 * * *", NEW_YORK, "2026-03-08T06:00:00Z", ["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]),
        ("30 1 * * *", LONDON, "2026-03-29T00:00:00Z", ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]),
        # 01:00 to 02:00 exists twice: a fixed time comes once, and what runs every so often goes on.
        ("30 1 * * *", NEW_YORK, "2026-11-01T05:00:00Z", ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]),
        ("30 1 * * *", LONDON, "2026-10-25T00:00:00Z", ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
        ("*/30 * * * *", NEW_YORK, "2026-11-01T05:00:00Z",
         ["2026-11-01T05:30:00Z", "2026-11-01T06:00:00Z", "2026-11-01T06:30:00Z", "2026-11-01T07:00:00Z"]),
    ],
)  # fmt: skip
def test_summer_time_is_as_in_debian(cron: str, zone: str, after: str, expected: list[str]) -> None:
    assert times(Schedule(cron=cron, timezone=zone), after, len(expected)) == expected


def test_within_the_repeated_hour_what_came_does_not_come_again() -> None:
    nightly = Schedule(cron="30 1 * * *", timezone=NEW_YORK)
    assert times(nightly, "2026-11-01T06:15:00Z", 1) == ["2026-11-02T06:30:00Z"]


def test_days_that_are_rare() -> None:
    assert times(Schedule(cron="0 0 29 2 *"), "2026-11-20T00:00:00Z", 2) == [
        "2028-02-29T00:00:00Z",
        "2032-02-29T00:00:00Z",
    ]
    assert times(Schedule(cron="0 9 L * *"), "2027-02-01T00:00:00Z", 1) == ["2027-02-28T09:00:00Z"]
    friday_or_thirteenth = Schedule(cron="0 0 13 * fri")
    assert times(friday_or_thirteenth, "2026-12-10T00:00:00Z", 3) == [
        "2026-12-11T00:00:00Z",
        "2026-12-13T00:00:00Z",
        "2026-12-18T00:00:00Z",
    ]


@pytest.mark.parametrize(
    ("cron", "message", "hint"),
    [
        ("61 * * * *", "'61' cannot be the minute", "0 to 59"),
        ("0 25 * * *", "'25' cannot be the hour", "0 to 23"),
        ("0 0 31 2 *", "'31' cannot be the day-of-month", "must occur in the month"),
        ("0 0 * foo *", "'foo' cannot be the month", "jan to dec"),
        ("0 0 * * 8", "'8' cannot be the day-of-week", "mon-fri"),
        ("* * * * * *", "has 5 fields, not 6", "'45 8 * * mon-fri'"),
        ("", "has 5 fields, not 0", "'45 8 * * mon-fri'"),
        ("@daily", "@daily is not a schedule", "write '0 0 * * *'"),
        ("0 0 */31 2 mon#5", "never comes", "correct the days"),
        ("9" * 5000 + " * * * *", "at most 200 letters", "several"),
    ],
)
def test_a_bad_schedule_says_what_to_write(cron: str, message: str, hint: str) -> None:
    said = hint_of(cron=cron)
    assert message in said[0]
    assert hint in said[1]


def test_a_zone_that_does_not_exist_is_refused() -> None:
    assert hint_of(cron="0 0 * * *", timezone="Asia/Kolkatta")[1] == "did you mean 'Asia/Kolkata'?"


def test_people_can_read_it() -> None:
    assert described(Schedule(cron="45 8 * * mon-fri", timezone=KOLKATA)) == (
        "at 08:45 on Monday through Friday, Asia/Kolkata"
    )
    assert described(Schedule(cron="*/15 9-15 * * *")) == "every 15th minute from 09:00 through 15:59, UTC"
    assert described(Schedule(cron="0 0 13 * fri")) == (
        "at 00:00 on the 13th day of month and on Friday (either of the days is enough), UTC"
    )


FIXED = st.builds("{} {} * * {}".format, st.integers(0, 59), st.integers(0, 23), st.sampled_from(["*", "mon-fri", "0"]))
OFTEN = st.builds("*/{} {} * * *".format, st.sampled_from([5, 10, 20]), st.sampled_from(["*", "*/2"]))
# Around both changes of the clock in 2026, to the second.
MOMENTS = st.sampled_from(["2026-03-08", "2026-03-29", "2026-10-25", "2026-11-01"]).flatmap(
    lambda day: st.integers(-2 * DAY // SECOND, 2 * DAY // SECOND).map(
        lambda seconds: parse_time(f"{day}T00:00:00Z") + seconds * SECOND
    )
)


@settings(max_examples=60, deadline=None)
@given(FIXED, MOMENTS, st.sampled_from([NEW_YORK, LONDON, KOLKATA]))
def test_a_fixed_time_comes_once_a_day(cron: str, now: int, zone: str) -> None:
    schedule = Schedule(cron=cron, timezone=zone)
    days, at = [], now
    while (at := next_after(schedule, at) or 0) < now + 8 * DAY:
        assert at > now
        days.append((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).astimezone(ZoneInfo(zone)).date())
    assert len(set(days)) == len(days)
    assert len(days) >= (7 if cron.endswith("* * *") else 1)


@settings(max_examples=60, deadline=None)
@given(OFTEN, MOMENTS, st.sampled_from([NEW_YORK, LONDON, KOLKATA]))
def test_what_runs_often_comes_at_every_minute_that_the_clock_says(cron: str, now: int, zone: str) -> None:
    minutes, hours = (int(field.partition("/")[2] or 1) for field in cron.split()[:2])
    schedule, found, end = Schedule(cron=cron, timezone=zone), [], now + DAY
    at = next_after(schedule, now)
    while at is not None and at <= end:
        found.append(at)
        at = next_after(schedule, at)
    expected = []
    for then in range(now - now % MINUTE + MINUTE, end + 1, MINUTE):
        wall = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=then)).astimezone(ZoneInfo(zone))
        if wall.minute % minutes == 0 and wall.hour % hours == 0:
            expected.append(then)
    assert found == expected
