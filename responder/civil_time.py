"""Civil time as people write it: days of the week, times of the day, dates, time zones, and what a clock there shows.

Abbreviations of zones are refused: they mean several places, or a place without its summer time. Not here: any reading
of a clock; the rules of the zones come from the tz database of the machine or of the package tzdata.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from responder.mistakes import closest
from responder.timing import DAY, HOUR, MINUTE, SECOND

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FULL: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL: Final = _EPOCH.toordinal()

_DAY_EXAMPLE: Final = "write mon-fri, or a list such as [sat, sun]"
_DATE_EXAMPLE: Final = "write '2026-12-24', or '2026-12-24..2027-01-02' with the last day included"
_time_of_day = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")
_guessed_time = re.compile(r"\s*([0-9]{1,2})(?:[:.h]?([0-5][0-9]))?\s*(am|pm)?\s*")
_date = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

# `localtime` and `Factory` mean the machine, `posix/` and `right/` another count of seconds, and the abbreviations are
# fixed offsets: whoever writes EST for New York would be an hour off from March to November.
_NOT_A_PLACE: Final = frozenset({"localtime", "Factory", "posixrules", "EST", "MST", "HST"})
_OTHER_COUNTS: Final = ("posix/", "right/")


def mistake(problem: str, hint: str) -> PydanticCustomError:
    """What is wrong with something written, and the cure."""
    return PydanticCustomError("written", "{problem}", {"problem": problem, "hint": hint})


# ---------------------------------------------------------------------------------------------- days, times and dates


def _read_days(value: Any) -> Any:
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, list) and parts and all(isinstance(part, str) for part in parts):
        return tuple(sorted({day for part in parts for day in _day_range(part)}))
    if isinstance(value, tuple) and value and all(type(day) is int and 0 <= day < len(WEEKDAYS) for day in value):
        return value
    raise mistake("days are text such as mon-fri, or a list of days", _DAY_EXAMPLE)


def _day_range(text: str) -> Iterator[int]:
    """The days of `mon`, or of `fri-mon`, which goes over the weekend."""
    first, dash, last = text.partition("-")
    start = _day(first)
    end = _day(last) if dash else start
    return ((start + count) % 7 for count in range((end - start) % 7 + 1))


def _day(text: str) -> int:
    word = text.strip().lower()
    full = next((i for i, name in enumerate(_FULL) if word in (name, name[:3])), None)
    if full is None:
        raise mistake(f"{text.strip()[:60]!r} is not a day of the week", closest(word, WEEKDAYS))
    return full


Days = Annotated[
    tuple[int, ...],
    BeforeValidator(_read_days),
    PlainSerializer(lambda days: [WEEKDAYS[day] for day in days], when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
"""Days of the week, 0 for Monday; written as `mon-fri`, `sat, sun` or a list."""


def _read_time(value: Any) -> Any:
    if isinstance(value, str) and _time_of_day.fullmatch(value):
        return int(value[:2]) * HOUR + int(value[3:]) * MINUTE
    raise mistake(f"{str(value)[:60]!r} is not a time of the day", f"write {_time_hint(value)}")


def _time_hint(value: Any) -> str:
    found = _guessed_time.fullmatch(str(value).lower())
    hour = int(found[1]) + (12 if found[3] == "pm" and int(found[1]) < 12 else 0) if found else 24
    return f"'{hour:02d}:{found[2] or '00'}'" if found and hour < 24 else "hours and minutes such as '09:15' or '18:00'"


def _time_text(time: int) -> str:
    return f"{time // HOUR:02d}:{time % HOUR // MINUTE:02d}"


TimeOfDay = Annotated[
    int,
    BeforeValidator(_read_time),
    PlainSerializer(_time_text, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"}),
]
"""µs since midnight as the clock on the wall shows it; written as `'18:00'`."""


@dataclass(frozen=True, slots=True)
class DateRange:
    """Days from `first` to `last`, both included."""

    first: date
    last: date

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}..{self.last}"

    def includes(self, day: int) -> bool:
        """Whether it includes a day counted from 1970-01-01."""
        return day_number(self.first.toordinal()) <= day <= day_number(self.last.toordinal())


def _read_dates(value: Any) -> Any:
    if isinstance(value, DateRange):
        return value
    first, dots, last = value.partition("..") if isinstance(value, str) else ("", "", "")
    start = _read_date(first, value)
    end = _read_date(last, value) if dots else start
    if end < start:
        raise mistake(f"{value!r} ends before it begins", f"write '{end}..{start}'")
    return DateRange(start, end)


def _read_date(text: str, whole: object) -> date:
    if _date.fullmatch(text.strip()) is None:
        raise mistake(f"{str(whole)[:60]!r} is not a date", _DATE_EXAMPLE)
    try:
        return date.fromisoformat(text.strip())
    except ValueError as error:
        raise mistake(f"{text.strip()!r} is a day that does not exist", f"correct it ({error})") from error


_DateText = Annotated[
    DateRange,
    BeforeValidator(_read_dates),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}(\.\.\d{4}-\d{2}-\d{2})?$"}),
]

Dates = Annotated[tuple[_DateText, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
"""Days or stretches of them, one or a list; written as `2027-04-02` or `2026-12-24..2027-01-02`."""


# ------------------------------------------------------------------------------------------------------------- zones


def _time_zone(name: str) -> str:
    if name in _NOT_A_PLACE or name.startswith(_OTHER_COUNTS) or not _exists(name):
        raise mistake(f"unknown time zone {name[:60]!r}", _hint(name))
    return name


def _exists(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # OSError: the name of a folder of the database
        return False
    return True


def _hint(name: str) -> str:
    places = _places()
    if not places:
        return "this machine has no tz database; pip install tzdata"
    if name.isalpha() and name.isupper() and len(name) <= 5:
        return "write a place, such as Asia/Kolkata or UTC; an abbreviation means several"
    return closest(name, places)


@lru_cache(maxsize=1)
def _places() -> frozenset[str]:
    return frozenset(available_timezones() - _NOT_A_PLACE)


TimeZone = Annotated[str, AfterValidator(_time_zone)]
"""A place of the tz database, such as Asia/Kolkata, or UTC."""


def local(at: int, zone: ZoneInfo) -> datetime:
    """What the clock in `zone` shows at `at` (µs since the epoch)."""
    return (_EPOCH + timedelta(microseconds=at)).astimezone(zone)


def instant(moment: datetime) -> int:
    """µs since the epoch of an aware datetime; one that its zone skips is as long after the jump as it says."""
    return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


def day_number(ordinal: int) -> int:
    """Days since 1970-01-01 of a `date.toordinal()`."""
    return ordinal - _EPOCH_ORDINAL


def weekday(day: int) -> int:
    """0 (Monday) … 6 of a day counted from 1970-01-01, which was a Thursday."""
    return (day + 3) % 7


def offset(at: int, zone: ZoneInfo) -> int:
    """µs by which the clock on the wall is ahead of UTC at `at`."""
    ahead = local(at, zone).utcoffset()
    assert ahead is not None
    return ahead // timedelta(microseconds=1)


def stretches(start: int, end: int, zone: ZoneInfo) -> Iterator[tuple[int, int, int]]:
    """`start` to `end` (µs) cut into (begin, end, offset) of at most a day, in which the clock runs without a jump."""
    ahead = offset(start, zone)
    while start < end:
        following = min(start + DAY, end)
        if (then := offset(following, zone)) != ahead:
            jump = _jump(start, following, zone)
            yield start, jump, ahead
            start, ahead = jump, then
        if start < following:
            yield start, following, ahead
        start = following


def _jump(start: int, end: int, zone: ZoneInfo) -> int:
    """When the clock jumps; it does so once in between, at a whole second."""
    before = offset(start, zone)
    low, high = start // SECOND, -(-end // SECOND)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset(middle * SECOND, zone) == before else (low, middle)
    return high * SECOND


def shown(at: int, now: int, timezone: str) -> str:
    """A moment for people who read it at `now`: `15:30 Asia/Kolkata`, with its day when that is another one."""
    zone = ZoneInfo(timezone)
    moment = local(at, zone)
    time = moment.strftime("%H:%M:%S" if moment.second else "%H:%M")
    if moment.date() == local(now, zone).date():
        return f"{time} {timezone}"
    # Not %a, which speaks the language of the machine.
    return f"{WEEKDAYS[moment.weekday()].title()} {moment.date()} {time} {timezone}"
