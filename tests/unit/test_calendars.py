"""Calendars as people write them, and when they are open."""

import sys
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from responder import exchanges
from responder.calendars import HORIZON, Calendar, Calendars, State, known_until, state_of
from responder.civil_time import WEEKDAYS
from responder.timing import DAY, HOUR, MINUTE, format_time, parse_time

KOLKATA = "Asia/Kolkata"
NEW_YORK = "America/New_York"
LONDON = "Europe/London"
NAME = "session"


def calendar(**written: object) -> Calendar:
    return Calendar.model_validate({key.rstrip("_"): value for key, value in written.items()})


def at(text: str, written: Calendar) -> State:
    return state_of(written, NAME, parse_time(text))


def changes(written: Calendar, after: str, count: int) -> list[str]:
    """The next moments at which it changes, with `+` where it opens."""
    found, now = [], parse_time(after)
    for _ in range(count):
        state = state_of(written, NAME, now)
        assert state.until is not None
        now = state.until
        found.append(("-" if state.open else "+") + format_time(now))
    return found


def mistakes_of(**written: object) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        calendar(**written)
    return [(found["msg"], found.get("ctx", {}).get("hint", "")) for found in caught.value.errors()]


# -------------------------------------------------------------------------------------------------------------- a clock


def test_hours_of_certain_days() -> None:
    deployments = calendar(days="mon-fri", from_="18:00", to="21:00", timezone=KOLKATA)
    friday = ["+2026-11-20T12:30:00Z", "-2026-11-20T15:30:00Z", "+2026-11-23T12:30:00Z"]
    assert changes(deployments, "2026-11-20T07:00:00Z", 3) == friday
    assert at("2026-11-20T12:30:00Z", deployments).why == "session is open until 21:00 Asia/Kolkata"
    assert at("2026-11-20T15:30:00Z", deployments).why == "session is closed until Mon 2026-11-23 18:00 Asia/Kolkata"


def test_hours_over_midnight_belong_to_the_day_on_which_they_began() -> None:
    nights = calendar(days=["fri"], from_="22:00", to="06:00", timezone="UTC")
    assert changes(nights, "2026-11-19T23:00:00Z", 3) == [
        "+2026-11-20T22:00:00Z",
        "-2026-11-21T06:00:00Z",
        "+2026-11-27T22:00:00Z",
    ]


def test_hours_until_midnight_may_be_written_in_two_ways() -> None:
    for to in ("24:00", "00:00"):
        evenings = calendar(days="sun", from_="20:00", to=to, timezone="UTC")
        assert changes(evenings, "2026-11-20T00:00:00Z", 2) == ["+2026-11-22T20:00:00Z", "-2026-11-23T00:00:00Z"]


def test_whole_days_and_stretches_of_days() -> None:
    freeze = calendar(dates=["2026-12-24..2027-01-02", "2027-04-02"], timezone=KOLKATA)
    assert changes(freeze, "2026-11-20T00:00:00Z", 4) == [
        "+2026-12-23T18:30:00Z",
        "-2027-01-02T18:30:00Z",
        "+2027-04-01T18:30:00Z",
        "-2027-04-02T18:30:00Z",
    ]
    over = at("2027-05-01T00:00:00Z", freeze)
    assert (over.open, over.until, over.why) == (False, None, "session is closed, without a change in the next 370d")


def test_a_leap_day() -> None:
    leap = calendar(dates="2028-02-29", timezone="UTC")
    assert changes(leap, "2028-02-01T00:00:00Z", 2) == ["+2028-02-29T00:00:00Z", "-2028-03-01T00:00:00Z"]
    tuesdays = calendar(days="tue", timezone="UTC")
    assert changes(tuesdays, "2028-02-28T00:00:00Z", 2) == ["+2028-02-29T00:00:00Z", "-2028-03-01T00:00:00Z"]


@pytest.mark.parametrize(
    ("hours", "zone", "after", "expected"),
    [
        # Spring: the clock shows no time between 02:00 and 03:00 (New York) and 01:00 and 02:00 (London).
        (("02:30", "04:00"), NEW_YORK, "2026-03-08T05:00:00Z", ["+2026-03-08T07:00:00Z", "-2026-03-08T08:00:00Z"]),
        (("00:30", "01:30"), LONDON, "2026-03-29T00:00:00Z", ["+2026-03-29T00:30:00Z", "-2026-03-29T01:00:00Z"]),
        (("01:15", "01:45"), LONDON, "2026-03-29T00:00:00Z", ["+2026-03-30T00:15:00Z", "-2026-03-30T00:45:00Z"]),
        (("22:00", "06:00"), LONDON, "2026-03-28T12:00:00Z", ["+2026-03-28T22:00:00Z", "-2026-03-29T05:00:00Z"]),
        # Autumn: it shows 01:00 to 02:00 twice.
        (("22:00", "06:00"), LONDON, "2026-10-24T12:00:00Z", ["+2026-10-24T21:00:00Z", "-2026-10-25T06:00:00Z"]),
        (("00:00", "03:00"), NEW_YORK, "2026-11-01T03:00:00Z", ["+2026-11-01T04:00:00Z", "-2026-11-01T08:00:00Z"]),
        (("01:15", "01:45"), NEW_YORK, "2026-11-01T05:00:00Z",
         ["+2026-11-01T05:15:00Z", "-2026-11-01T05:45:00Z", "+2026-11-01T06:15:00Z", "-2026-11-01T06:45:00Z"]),
        (("01:30", "03:00"), LONDON, "2026-10-25T00:00:00Z",
         ["+2026-10-25T00:30:00Z", "-2026-10-25T01:00:00Z", "+2026-10-25T01:30:00Z", "-2026-10-25T03:00:00Z"]),
    ],
)  # fmt: skip
def test_it_is_open_while_the_clock_on_the_wall_says_so(
    hours: tuple[str, str], zone: str, after: str, expected: list[str]
) -> None:
    written = calendar(from_=hours[0], to=hours[1], timezone=zone)
    assert changes(written, after, len(expected)) == expected


ZONES = st.sampled_from([LONDON, NEW_YORK, KOLKATA, "Australia/Lord_Howe", "America/Havana", "UTC"])
TIMES = st.integers(0, 24 * 4 - 1).map(lambda quarter: f"{quarter // 4:02d}:{quarter % 4 * 15:02d}")
HOURS = st.tuples(TIMES, TIMES).filter(lambda pair: pair[0] != pair[1])
DAYS = st.sets(st.sampled_from(WEEKDAYS), min_size=1).map(sorted)
# Two days of minutes around the changes of the clock of 2026, and a year's end.
STARTS = st.sampled_from(
    ["2026-03-07", "2026-03-28", "2026-04-04", "2026-10-03", "2026-10-24", "2026-10-31", "2027-12-31"]
)


def shows(days: list[str], hours: tuple[str, str], wall: datetime) -> bool:
    """What the clock on the wall says, in the plainest words."""
    time, today, yesterday = wall.strftime("%H:%M"), WEEKDAYS[wall.weekday()], WEEKDAYS[wall.weekday() - 1]
    if hours[0] < hours[1]:
        return today in days and hours[0] <= time < hours[1]
    return (today in days and time >= hours[0]) or (yesterday in days and time < hours[1])


@settings(max_examples=60, deadline=None)
@given(DAYS, HOURS, ZONES, STARTS, st.integers(0, DAY - 1))
def test_until_is_the_next_change_and_nothing_changes_before(
    days: list[str], hours: tuple[str, str], zone: str, start: str, late: int
) -> None:
    written = calendar(days=days, from_=hours[0], to=hours[1], timezone=zone)
    begin = parse_time(f"{start}T00:00:00Z") + late
    state = state_of(written, NAME, begin)
    for now in range(begin - begin % MINUTE + MINUTE, begin + 2 * DAY, MINUTE):
        wall = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now)).astimezone(ZoneInfo(zone))
        opened = shows(days, hours, wall)
        if opened == state.open:
            assert state.until is None or now < state.until
        else:
            assert state.until == now
            state = state_of(written, NAME, now)
            assert state.open == opened


# ---------------------------------------------------------------------------------------------------------- an exchange


def test_an_exchange_has_its_sessions() -> None:
    nse = calendar(exchange="XBOM")
    assert changes(nse, "2026-11-20T02:00:00Z", 3) == [
        "+2026-11-20T03:45:00Z",
        "-2026-11-20T10:00:00Z",
        "+2026-11-23T03:45:00Z",
    ]
    assert at("2026-11-20T03:45:00Z", nse).why == "session is open until 15:30 Asia/Kolkata"
    assert at("2026-11-20T10:00:00Z", nse).why == "session is closed until Mon 2026-11-23 09:15 Asia/Kolkata"


def test_a_holiday_is_named_where_it_has_a_name() -> None:
    eve = at("2026-11-25T22:00:00Z", calendar(exchange="XNYS"))
    assert eve.why == "session is closed until Fri 2026-11-27 09:30 America/New_York (Thanksgiving)"
    assert at("2026-11-24T05:00:00Z", calendar(exchange="XBOM")).why == (
        "session is closed until Wed 2026-11-25 09:15 Asia/Kolkata (a holiday)"
    )


def test_a_session_on_a_saturday_and_one_that_ends_early() -> None:
    assert at("2025-02-01T05:00:00Z", calendar(exchange="XBOM")).open
    assert at("2026-11-27T15:00:00Z", calendar(exchange="XNYS")).why == "session is open until 13:00 America/New_York"


def test_a_lunch_break_is_closed() -> None:
    for exchange, day in (
        ("XTKS", ["+00:00", "-02:30", "+03:30", "-06:30"]),
        ("XHKG", ["+01:30", "-04:00", "+05:00", "-08:00"]),
    ):
        found = changes(calendar(exchange=exchange), "2026-11-19T23:00:00Z", 4)
        assert [change[0] + change[12:17] for change in found] == day


def test_margins_are_around_the_session_and_not_its_break() -> None:
    tokyo = calendar(exchange="XTKS", before="30m", after="15m")
    found = changes(tokyo, "2026-11-19T23:00:00Z", 4)
    assert [change[0] + change[12:17] for change in found] == ["+23:30", "-02:30", "+03:30", "-06:45"]


def test_a_session_that_begins_on_the_day_before_or_never_ends() -> None:
    assert changes(calendar(exchange="us_futures"), "2026-11-20T12:00:00Z", 2) == [
        "-2026-11-20T23:00:00Z",
        "+2026-11-22T23:00:00Z",
    ]
    assert at("2026-11-20T12:00:00Z", calendar(exchange="24/7")) == State(
        open=True, until=None, why="session is open, without a change in the next 370d"
    )


def data_end(exchange: str) -> date:
    last = exchanges.bounds(exchange)[1]
    assert last is not None
    return last


def test_where_the_data_of_an_exchange_end_nothing_is_known() -> None:
    nse, last = calendar(exchange="XBOM"), data_end("XBOM")
    ends = known_until(nse)
    assert ends == parse_time(f"{last}T18:30:00Z")
    before, after = state_of(nse, NAME, ends - 1), state_of(nse, NAME, ends)
    assert (before.open, before.until, before.known) == (False, None, True)
    assert (after.open, after.until, after.known) == (False, None, False)
    assert after.why == (
        f"session counts as closed: the days of XBOM are known only to {last}; update the package exchange-calendars"
    )
    assert not state_of(nse, NAME, ends + 3 * 365 * DAY).known
    assert state_of(nse, NAME, parse_time("1990-01-02T00:00:00Z")) == State(
        open=False,
        until=None,
        why="session counts as closed: the days of XBOM are known only since 1997-01-01",
        known=False,
    )


def test_a_margin_ends_with_the_data() -> None:
    late = calendar(exchange="XBOM", after="12h")
    last_minutes = f"{data_end('XBOM')}T18:00:00Z"
    assert at(last_minutes, late).until == known_until(late)


def test_what_has_no_end_is_known() -> None:
    assert known_until(calendar(exchange="XNYS")) is None
    assert known_until(calendar(days="mon", timezone="UTC")) is None


# Those whose rules are unlike the others: Orthodox Easter, other weekends, sessions over midnight.
@pytest.mark.parametrize("exchange", ["ASEX", "XTAE", "XSAU", "CMES", "24/5"])
def test_sessions_are_in_order(exchange: str) -> None:
    table = exchanges.timetable(exchange, 2024)
    edges = [edge for session in table.sessions for edge in (session.opens, session.closes)]
    assert edges == sorted(edges)
    assert len(table.sessions) > 700


@lru_cache
def trading_minutes(exchange: str) -> frozenset[int]:
    """Every minute of trading of 2024 and 2025 as the library counts them, µs since the epoch."""
    import exchange_calendars as library

    found = library.get_calendar(exchange, start="2024-01-01", end="2025-12-31").minutes_nanos
    return frozenset(nanos // 1_000 for nanos in found.tolist())


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["XBOM", "XNYS", "XTKS", "XLON"]), st.integers(0, 360 * 24), st.integers(0, 90))
def test_an_exchange_changes_when_it_said(exchange: str, hours: int, margin: int) -> None:
    written, trading = calendar(exchange=exchange, before=f"{margin}m" if margin else 0), trading_minutes(exchange)
    first = {session.opens for session in exchanges.timetable(exchange, 2024).sessions}
    begin = parse_time("2024-06-01T00:00:00Z") + hours * HOUR
    state = state_of(written, NAME, begin)
    for now in range(begin, begin + 2 * DAY, MINUTE):
        early = any(now + minutes * MINUTE in first for minutes in range(1, margin + 1))
        if (now in trading or early) != state.open:
            assert state.until == now
            state = state_of(written, NAME, now)
            assert state.open == (now in trading or early)
        else:
            assert state.until is not None
            assert now < state.until <= now + HORIZON


# ---------------------------------------------------------------------------------------------------------- as written


def test_a_file_of_calendars_survives_writing_and_reading() -> None:
    written: dict[str, dict[str, object]] = {
        "nse-session": {"exchange": "XBOM", "before": "30m"},
        "deployments": {"days": "Mon-Fri", "from": "18:00", "to": "21:00", "timezone": KOLKATA},
        "weekend": {"days": "sat, Sunday", "timezone": "UTC"},
        "around-sunday": {"days": "fri-mon", "timezone": "UTC"},
        "freeze": {"dates": ["2026-12-24..2027-01-02", "2027-04-02"], "timezone": KOLKATA},
    }
    read = Calendars.model_validate({"calendars": written})
    shown = read.model_dump(mode="json", by_alias=True, exclude_defaults=True)["calendars"]
    assert shown["deployments"] == {**written["deployments"], "days": ["mon", "tue", "wed", "thu", "fri"]}
    assert shown["weekend"]["days"] == ["sat", "sun"]
    assert shown["around-sunday"]["days"] == ["mon", "fri", "sat", "sun"]
    assert (shown["freeze"], shown["nse-session"]) == (written["freeze"], written["nse-session"])
    assert Calendars.model_validate({"calendars": shown}) == read


@pytest.mark.parametrize(
    ("written", "message", "hint"),
    [
        ({"exchange": "xbom"}, "unknown exchange 'xbom'", "did you mean 'XBOM'?"),
        ({"exchange": "XNSE"}, "unknown exchange 'XNSE'", "write XBOM, which has the same"),
        ({"exchange": "XBOM", "timezone": "UTC"}, "'timezone' cannot be", "remove `timezone:`"),
        ({"exchange": "XBOM", "from": "09:00"}, "'from' cannot be", "remove `from:`"),
        ({"exchange": "XBOM", "before": "13h"}, "at most 12h", "a calendar of their own"),
        ({"days": "mon", "before": "1h", "timezone": "UTC"}, "belong to an exchange", "`from:` and `to:`"),
        ({}, "says nothing", "add `exchange:`"),
        ({"timezone": "UTC"}, "says nothing", "add `exchange:`"),
        ({"days": "mon"}, "'timezone' is missing", "Asia/Kolkata"),
        ({"days": "mon", "timezone": "IST"}, "unknown time zone 'IST'", "an abbreviation means several"),
        ({"days": "mon", "timezone": "EST"}, "unknown time zone 'EST'", "an abbreviation means several"),
        ({"days": "mon", "timezone": "Asia/Kolkatta"}, "unknown time zone", "did you mean 'Asia/Kolkata'?"),
        ({"days": "mon", "timezone": "../etc/passwd"}, "unknown time zone", "there are"),
        ({"days": "mon", "timezone": "America"}, "unknown time zone", "did you mean"),
        ({"days": "mon", "timezone": "localtime"}, "unknown time zone", "there are"),
        ({"days": "mon-frii", "timezone": "UTC"}, "'frii' is not a day", "did you mean 'fri'?"),
        ({"days": [], "timezone": "UTC"}, "days are text", "mon-fri"),
        ({"days": 5, "timezone": "UTC"}, "days are text", "mon-fri"),
        ({"from": 18, "to": "21:00", "timezone": "UTC"}, "'18' is not a time", "write '18:00'"),
        ({"from": "9:15", "to": "21:00", "timezone": "UTC"}, "'9:15' is not a time", "write '09:15'"),
        ({"from": "09:00", "to": "9pm", "timezone": "UTC"}, "'9pm' is not a time", "write '21:00'"),
        ({"from": "09:00", "to": "soon", "timezone": "UTC"}, "'soon' is not a time", "'09:15'"),
        ({"from": "09:00", "timezone": "UTC"}, "belong together", "write both"),
        ({"from": "09:00", "to": "09:00", "timezone": "UTC"}, "are empty", "'24:00'"),
        ({"from": "24:00", "to": "09:00", "timezone": "UTC"}, "are empty", "'24:00'"),
        ({"dates": ["2026-02-29"], "timezone": "UTC"}, "does not exist", "correct it"),
        ({"dates": ["2026-12-24..2026-12-01"], "timezone": "UTC"}, "ends before", "'2026-12-01..2026-12-24'"),
        ({"dates": ["20261224"], "timezone": "UTC"}, "is not a date", "'2026-12-24'"),
        ({"dates": [7], "timezone": "UTC"}, "is not a date", "'2026-12-24'"),
        ({"dates": "2026-12-24", "days": "mon", "timezone": "UTC"}, "cannot stand together", "two calendars"),
    ],
)
def test_a_mistake_says_what_to_write(written: dict[str, object], message: str, hint: str) -> None:
    ((said, cure),) = mistakes_of(**written)
    assert message in said
    assert hint in cure


def test_of_an_endless_name_the_beginning_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ((said, _),) = mistakes_of(exchange="X" * 70)
    assert said == f"unknown exchange '{'X' * 60}'"
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    ((said, _),) = mistakes_of(exchange="X" * 70)
    assert said == f"the sessions of '{'X' * 60}' need a package that is not installed"


def test_of_several_keys_that_cannot_be_the_first_is_named() -> None:
    ((said, cure),) = mistakes_of(exchange="XBOM", days="mon", timezone="UTC")
    assert ("'days'" in said, cure) == (True, "remove `days:`")


def test_what_is_open_before_a_session_is_known_as_much_shorter() -> None:
    """The session after the last known day may begin with its margin on that day."""
    plain, early = known_until(calendar(exchange="XBOM")), known_until(calendar(exchange="XBOM", before="30m"))
    assert plain is not None
    assert early == plain - 30 * MINUTE
    late = calendar(exchange="XBOM", before="30m")
    assert [state_of(late, NAME, early + shift).known for shift in (-1, 0)] == [True, False]


def test_without_the_library_an_exchange_is_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    nse = calendar(exchange="XLIS")
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    ((said, cure),) = mistakes_of(exchange="XLIS")
    assert said == "the sessions of 'XLIS' need a package that is not installed"
    assert cure == "pip install 'responder[calendars]'"
    state = at("2026-11-20T12:00:00Z", nse)
    assert (state.open, state.known) == (False, False)
    assert "pip install 'responder[calendars]'" in state.why
    assert calendar(days="mon", timezone="UTC").days == (0,)
