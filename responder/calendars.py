"""Named calendars: in which hours something may be done, as people write them in calendars.yaml.

A calendar follows either an exchange, with its sessions and holidays, or the clock on a wall: it is open while that
clock shows a time from `from` until before `to`, so that in the hour which a clock repeats in autumn it says the same
twice, and a time that is skipped in spring comes at the jump. (Rejected: one stretch of fixed length a day, which no
look at a clock could confirm.) Not here: what follows from an open calendar (`guards`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from responder import exchanges
from responder.civil_time import Dates, Days, TimeOfDay, TimeZone, local, mistake, offset, shown, stretches, weekday
from responder.mistakes import closest
from responder.timing import DAY, HOUR, format_duration
from responder.written import Duration, Name, Written

HORIZON: Final = 370 * DAY
"""How far ahead a change is looked for: every day of a year, and the holidays around it."""
_LONGEST_MARGIN: Final = 12 * HOUR

_ALIKE: Final = {"NSE": "XBOM", "XNSE": "XBOM"}
"""Exchanges that the library does not list, and the listed one with the same sessions and holidays."""


# ----------------------------------------------------------------------------------------------------- what is written


def _exchange(name: str) -> str:
    try:
        known = exchanges.known_exchanges()
    except ImportError as error:
        raise mistake(f"the sessions of {name[:60]!r} need a package that is not installed", exchanges.EXTRA) from error
    if name in known:
        return name
    alike = _ALIKE.get(name.upper())
    hint = f"write {alike}, which has the same sessions and holidays" if alike else closest(name, known)
    raise mistake(f"unknown exchange {name[:60]!r}", hint)


def _margin(margin: int) -> int:
    if margin > _LONGEST_MARGIN:
        raise mistake("a margin is at most 12h", "give the other hours a calendar of their own")
    return margin


Margin = Annotated[Duration, AfterValidator(_margin)]


class Calendar(Written):
    """When a calendar is open: in the sessions of an `exchange`, or by days and hours of a `timezone`."""

    exchange: Annotated[str, AfterValidator(_exchange)] | None = None
    """An exchange by its MIC, such as XBOM or XNYS: open in its sessions, closed on its holidays and in its breaks."""
    before: Margin = 0
    """With `exchange`: open this long before a session begins."""
    after: Margin = 0
    """With `exchange`: open this long after a session ends."""
    days: Days | None = None
    """Days of the week, such as `mon-fri`; all of them when nothing is said."""
    dates: Dates = ()
    """Instead of `days`: certain days, such as '2027-04-02' or '2026-12-24..2027-01-02'."""
    from_: TimeOfDay | None = Field(default=None, alias="from")
    """The time of the day at which it opens; without it, whole days."""
    to: TimeOfDay | None = None
    """The time at which it closes. One before `from` is of the next day; the hours after midnight belong to the day
    on which they began."""
    timezone: TimeZone | None = None
    """Where that time is shown, such as Asia/Kolkata."""

    @model_validator(mode="after")
    def _one_way(self) -> Calendar:
        by_clock = [key for key in ("days", "dates", "from_", "to", "timezone") if getattr(self, key) not in (None, ())]
        if self.exchange is not None and by_clock:
            key = by_clock[0].rstrip("_")
            raise mistake(f"an exchange brings its own days and hours, so {key!r} cannot be", f"remove `{key}:`")
        if self.exchange is None:
            self._check_clock(by_clock)
        return self

    def _check_clock(self, given: list[str]) -> None:
        if self.before or self.after:
            raise mistake("'before' and 'after' belong to an exchange", "write the hours with `from:` and `to:`")
        if given in ([], ["timezone"]):
            raise mistake("this says nothing", "add `exchange:`, or `days:`, `dates:`, `from:` and `to:`")
        if self.timezone is None:
            raise mistake("the key 'timezone' is missing", "add a place, such as `timezone: Asia/Kolkata`")
        if (self.from_ is None) != (self.to is None):
            raise mistake("'from' and 'to' belong together", "write both; '00:00' and '24:00' for a whole day")
        if self.from_ is not None and (self.from_ == self.to or self.from_ == DAY):
            raise mistake("these hours are empty", "write from '00:00' to '24:00', or leave both away for whole days")
        if self.days is not None and self.dates:
            raise mistake("'days' and 'dates' cannot stand together", "make two calendars")


class Calendars(Written):
    """calendars.yaml: the calendars by name."""

    calendars: dict[Name, Calendar] = Field(default_factory=dict)
    """In which hours something may be done; runbooks use them by their names."""


# ---------------------------------------------------------------------------------------------------- what it says now


@dataclass(frozen=True, slots=True)
class State:
    """What a calendar says at a moment.

    `until`: when that changes (µs since the epoch), None if not within HORIZON. `why` is for people. `known` is False
    where the data of an exchange have ended: then nobody can say, and `open` is False.
    """

    open: bool
    until: int | None
    why: str
    known: bool = True


def state_of(calendar: Calendar, name: str, now: int) -> State:
    """What the calendar `name` says at `now` (µs since the epoch). Never raises."""
    if calendar.exchange is None:
        return _by_clock(calendar, name, now)
    try:
        return _by_exchange(calendar, name, now)
    except ImportError:
        return _unknown(name, f"the sessions of {calendar.exchange} need a package: {exchanges.EXTRA}")


def known_until(calendar: Calendar) -> int | None:
    """When the data of its exchange end (µs since the epoch); None without such an end. Raises ImportError."""
    last = None if calendar.exchange is None else exchanges.bounds(calendar.exchange)[1]
    if calendar.exchange is None or last is None:
        return None
    return exchanges.timetable(calendar.exchange, last.year).ends - calendar.before


def _told(name: str, opened: bool, until: int | None, now: int, timezone: str) -> str:
    word = "open" if opened else "closed"
    if until is None:
        return f"{name} is {word}, without a change in the next {format_duration(HORIZON)}"
    return f"{name} is {word} until {shown(until, now, timezone)}"


def _unknown(name: str, why: str) -> State:
    return State(open=False, until=None, why=f"{name} counts as closed: {why}", known=False)


def _by_clock(calendar: Calendar, name: str, now: int) -> State:
    timezone = calendar.timezone or "UTC"
    zone = ZoneInfo(timezone)
    opened = _shows(calendar, now + offset(now, zone))
    until = next((at for at, wall in _moments(calendar, now, zone) if _shows(calendar, wall) != opened), None)
    return State(opened, until, _told(name, opened, until, now, timezone))


def _hours(calendar: Calendar) -> tuple[int, int]:
    return (0, DAY) if calendar.from_ is None or calendar.to is None else (calendar.from_, calendar.to)


def _shows(calendar: Calendar, wall: int) -> bool:
    """Whether it is open while the clock shows `wall`, in µs since 1970 there."""
    day, time = divmod(wall, DAY)
    begin, end = _hours(calendar)
    if begin < end:
        return begin <= time < end and _on(calendar, day)
    return (time >= begin and _on(calendar, day)) or (time < end and _on(calendar, day - 1))


def _on(calendar: Calendar, day: int) -> bool:
    if calendar.dates:
        return any(dates.includes(day) for dates in calendar.dates)
    return calendar.days is None or weekday(day) in calendar.days


def _moments(calendar: Calendar, now: int, zone: ZoneInfo) -> Iterator[tuple[int, int]]:
    """Everything after `now` at which something may change, in order, and what the clock shows then."""
    times = sorted({time % DAY for time in _hours(calendar)})
    for begin, end, ahead in stretches(now, now + HORIZON, zone):
        yield begin, begin + ahead
        for day in range((begin + ahead) // DAY, (end + ahead) // DAY + 1):
            walls = (day * DAY + time for time in times)
            yield from ((wall - ahead, wall) for wall in walls if begin < wall - ahead < end)


def _by_exchange(calendar: Calendar, name: str, now: int) -> State:
    assert calendar.exchange is not None
    table = exchanges.timetable(calendar.exchange, local(now, ZoneInfo("UTC")).year)
    begins, ends = table.begins + calendar.after, table.ends - calendar.before
    if not begins <= now < ends:
        return _unknown(name, _bounded(calendar.exchange, table, early=now < begins))
    edges = _edges(calendar.exchange, local(now, ZoneInfo("UTC")).year, calendar.before, calendar.after)
    at = bisect_right(edges, now)
    opened = at % 2 == 1
    until = min(edges[at], ends) if at < len(edges) else None
    if until is not None and until - now > HORIZON:
        until = None
    if until is None and not opened and table.last is not None:
        return State(open=False, until=None, why=f"{name} is closed; {_bounded(calendar.exchange, table)}")
    why = _told(name, opened, until, now, table.timezone)
    return State(opened, until, why + ("" if opened or until is None else _holidays(table, now, until)))


@lru_cache(maxsize=64)
def _edges(exchange: str, year: int, before: int, after: int) -> tuple[int, ...]:
    """When it opens and closes, in turn; what touches or overlaps is one stretch."""
    edges: list[int] = []
    for begin, end in _trading(exchanges.timetable(exchange, year).sessions, before, after):
        if edges and begin <= edges[-1]:
            edges[-1] = max(edges[-1], end)
        else:
            edges += (begin, end)
    return tuple(edges)


def _trading(sessions: Iterable[exchanges.Session], before: int, after: int) -> Iterator[tuple[int, int]]:
    """Stretches of trading with their margins; a lunch break stays what it is."""
    for session in sessions:
        begin, end = session.opens - before, session.closes + after
        if session.pause is None:
            yield begin, end
        else:
            yield begin, session.pause[0]
            yield session.pause[1], end


def _bounded(exchange: str, table: exchanges.Timetable, *, early: bool = False) -> str:
    if early:
        return f"the days of {exchange} are known only since {table.first}"
    return f"the days of {exchange} are known only to {table.last}; {exchanges.CURE}"


def _holidays(table: exchanges.Timetable, now: int, until: int) -> str:
    """The holidays before it opens again, in brackets."""
    zone = ZoneInfo(table.timezone)
    first, last = local(now, zone).date(), local(until, zone).date()
    names = dict.fromkeys(name for day, name in table.holidays.items() if first <= day < last)
    return f" ({', '.join(names)})" if names else ""
