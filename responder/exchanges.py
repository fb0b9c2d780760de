"""When an exchange trades: its sessions, breaks and holidays, from the library exchange_calendars.

The library needs pandas (some 70 MB of memory and half a second), so that it is an optional extra and imported by the
first runbook that names an exchange. Everything that leaves this module is plain integers, text and dates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, Final, Protocol

EXTRA: Final = "pip install 'responder[calendars]'"
"""What to do when the library is missing."""
CURE: Final = "update the package exchange-calendars"
"""What to do when its data have come to their end."""

_NANOSECONDS: Final = 1_000
_HOLIDAY: Final = "a holiday"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# A year within the data of every exchange: there is no other way to ask for the bounds than a calendar, and the one
# without dates would read the clock.
_SAMPLE: Final = ("2022-01-03", "2022-12-30")


@dataclass(frozen=True, slots=True)
class Session:
    """One day of trading, µs since the epoch. `pause` is its lunch break, which is no trading."""

    opens: int
    closes: int
    pause: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Timetable:
    """The sessions of an exchange around a year, in order.

    `begins` and `ends` (µs): in between, all sessions are known. `first` and `last`: the days at which the library's
    own data begin and end, None without such a bound. `holidays`: the days without a session that are none by their
    weekday, with their names.
    """

    timezone: str
    sessions: tuple[Session, ...]
    holidays: Mapping[date, str]
    begins: int
    ends: int
    first: date | None
    last: date | None


class _Source(Protocol):
    """What is used of the library's ExchangeCalendar, which has no types of its own. Times are nanoseconds."""

    tz: tzinfo
    open_offset: int
    weekmask: str
    sessions: Any
    regular_holidays: Any
    opens_nanos: Any
    closes_nanos: Any
    break_starts_nanos: Any
    break_ends_nanos: Any

    def bound_min(self) -> datetime | None: ...

    def bound_max(self) -> datetime | None: ...


def known_exchanges() -> frozenset[str]:
    """The names that may be used: MICs, and what else the library calls an exchange. Raises ImportError without it."""
    from exchange_calendars import get_calendar_names

    return frozenset(str(name) for name in get_calendar_names(include_aliases=True))


def bounds(exchange: str) -> tuple[date | None, date | None]:
    """The first and the last day of the library's data, None without a bound. Raises ImportError."""
    about = _about(exchange)
    return about.first, about.last


@dataclass(frozen=True, slots=True)
class _About:
    """What does not depend on the year. `shift`: days by which a session may begin before the day it is named after."""

    zone: tzinfo
    shift: int
    first: date | None
    last: date | None


@lru_cache(maxsize=64)
def _about(exchange: str) -> _About:
    source = _source(exchange, *_SAMPLE)
    first, last = source.bound_min(), source.bound_max()
    return _About(source.tz, max(0, -source.open_offset), first and first.date(), last and last.date())


@lru_cache(maxsize=64)
def timetable(exchange: str, year: int) -> Timetable:
    """The sessions of `year`, the year before and at least 370 days after it, where known. Raises ImportError."""
    about = _about(exchange)
    start, end = date(year - 1, 1, 1), date(year + 2, 1, 31)
    start, end = max(start, about.first or start), min(end, about.last or end)
    begins, ends = _midnight(start, about.zone), _midnight(end + timedelta(days=1 - about.shift), about.zone)
    sessions: tuple[Session, ...] = ()
    holidays: Mapping[date, str] = {}
    if start < end:  # otherwise the data have ended before
        source = _source(exchange, start.isoformat(), end.isoformat())
        sessions, holidays = tuple(_sessions(source)), _holidays(source, start, end)
    return Timetable(str(about.zone), sessions, holidays, begins, ends, about.first, about.last)


def _source(exchange: str, start: str, end: str) -> _Source:
    from exchange_calendars import get_calendar

    found: _Source = get_calendar(exchange, start=start, end=end)
    return found


def _sessions(source: _Source) -> Iterator[Session]:
    times = (source.opens_nanos, source.closes_nanos, source.break_starts_nanos, source.break_ends_nanos)
    for opens, closes, pause, resumes in zip(*(_microseconds(nanos) for nanos in times), strict=True):
        # Not a time is the smallest integer there is.
        yield Session(opens, closes, (pause, resumes) if pause > 0 else None)


def _microseconds(nanos: Any) -> Iterable[int]:
    return [int(value) // _NANOSECONDS for value in nanos.tolist()]


def _holidays(source: _Source, start: date, end: date) -> Mapping[date, str]:
    """Names where the rules of the exchange have them; days that were declared one by one have none."""
    traded = {session.date() for session in source.sessions}
    rules = source.regular_holidays
    named = {} if rules is None else rules.holidays(start.isoformat(), end.isoformat(), return_name=True)
    names = {day.date(): str(name) for day, name in named.items()}
    days = (start + timedelta(days=count) for count in range((end - start).days + 1))
    closed = (day for day in days if source.weekmask[day.weekday()] == "1" and day not in traded)
    return {day: names.get(day, _HOLIDAY) for day in closed}


def _midnight(day: date, zone: tzinfo) -> int:
    moment = datetime(day.year, day.month, day.day, tzinfo=zone)
    return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
