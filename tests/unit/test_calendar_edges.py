"""Calendars at their edges: a jump of the clock, the first and last day that an exchange knows, margins at a holiday.

Each test notices a small change of `calendars` that no other quick one does (`python -m tests.mutation calendars`).
"""

from __future__ import annotations

from responder import exchanges
from responder.calendars import Calendar, State, known_until, state_of
from responder.timing import DAY, HOUR, format_time, parse_time


def said(moment: int | str, **written: object) -> State:
    """What a calendar says then."""
    now = parse_time(moment) if isinstance(moment, str) else moment
    calendar = Calendar.model_validate({key.rstrip("_"): value for key, value in written.items()})
    return state_of(calendar, "session", now)


def test_hours_that_the_clock_skips_do_not_come_on_that_day() -> None:
    """In New York it shows no time between 02:00 and 03:00 on 8 March 2026: at the jump it shows 03:00."""
    hours = {"from_": "02:00", "to": "03:00", "timezone": "America/New_York"}
    before = said("2026-03-08T05:00:00Z", **hours)
    assert (before.open, before.until) == (False, parse_time("2026-03-09T06:00:00Z"))
    assert not said("2026-03-08T07:00:00Z", **hours).open
    london = said("2026-03-29T00:00:00Z", from_="01:00", to="02:00", timezone="Europe/London")
    assert (london.open, london.until) == (False, parse_time("2026-03-30T00:00:00Z"))


def test_what_begins_with_the_last_moment_that_is_looked_at_is_not_promised() -> None:
    """A change is looked for within 370 days and not at their end."""
    day = "2027-11-25"
    far = parse_time(f"{day}T00:00:00Z") - 370 * DAY
    assert said(far, dates=day, timezone="UTC").until is None
    assert said(far + 1, dates=day, timezone="UTC").until == parse_time(f"{day}T00:00:00Z")


FIRST = parse_time("1996-12-31T18:30:00Z")
"""With this moment the days of XBOM begin: midnight in Mumbai."""


def test_an_exchange_is_known_from_the_first_day_of_its_data_on() -> None:
    assert said(FIRST, exchange="XBOM").known
    early = said(FIRST - 1, exchange="XBOM")
    assert not early.known
    assert early.why == "session counts as closed: the days of XBOM are known only since 1997-01-01"


def test_with_a_margin_it_is_known_only_after_the_hours_that_a_session_of_before_could_have() -> None:
    assert said(FIRST + 12 * HOUR, exchange="XBOM", after="12h").known
    early = said(FIRST + 12 * HOUR - 1, exchange="XBOM", after="12h")
    assert not early.known
    assert early.why.endswith("the days of XBOM are known only since 1997-01-01")


def test_after_the_last_session_that_is_known_it_says_that_nobody_knows_the_next_one() -> None:
    ends = known_until(Calendar(exchange="XBOM"))
    assert ends is not None
    found = said(ends - 1, exchange="XBOM")
    day = format_time(ends - 1)[:10]
    assert (found.open, found.until, found.known) == (False, None, True)
    assert found.why == f"session is closed; the days of XBOM are known only to {day}; {exchanges.CURE}"


def test_a_holiday_is_named_while_it_is_closed_for_it_and_not_while_it_is_open_before_the_session() -> None:
    """Thanksgiving is Thursday 26 November 2026; with twelve hours before it, Friday's session opens on its evening."""
    new_york = {"exchange": "XNYS", "before": "12h"}
    assert said("2026-11-27T03:00:00Z", **new_york).why == (
        "session is open until Fri 2026-11-27 13:00 America/New_York"
    )
    assert said("2026-11-25T23:00:00Z", **new_york).why == (
        "session is closed until Thu 2026-11-26 21:30 America/New_York"
    )
    assert said("2026-11-26T23:00:00Z", exchange="XNYS").why.endswith("America/New_York (Thanksgiving)")


def test_west_of_greenwich_the_evening_s_hours_are_those_of_today() -> None:
    """In New York it is still 20 March while Greenwich writes the 21st."""
    evening = {"from_": "20:00", "to": "21:00", "timezone": "America/New_York"}
    assert said("2026-03-20T23:30:00Z", **evening).until == parse_time("2026-03-21T00:00:00Z")
