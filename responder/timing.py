"""Durations, points in time and backoff as plain integers of microseconds, which is what the store keeps.

Durations are written the way Prometheus writes them (`1h30m`, `500ms`, `2d`), because the people who write rules know
that form from their alert rules; `us` is added so that every stored value can be written down. Times are RFC 3339.
Not here: clocks, time zones, calendars, and randomness (jitter is a parameter).
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from responder.errors import BadSyntax

MICROSECOND: Final = 1
MILLISECOND: Final = 1_000
SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

# A year is 365 days and a week 7, as in Prometheus; neither is a calendar unit.
_UNITS: Final = {
    "y": 365 * DAY, "w": 7 * DAY, "d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND, "ms": MILLISECOND, "us": MICROSECOND,
}  # fmt: skip
_SPELLINGS: Final = {
    "sec": "s", "secs": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
    "hr": "h", "hrs": "h", "hour": "h", "hours": "h", "day": "d", "days": "d", "week": "w", "weeks": "w",
    "year": "y", "years": "y", "µs": "us",
}  # fmt: skip
_LONGEST: Final = 2**63 - 1  # what a 64-bit integer column holds

_part = re.compile(r"([0-9]+)(ms|us|[ywdhms])")
_loose_part = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([a-zµ]*)[\s,]*")
_time: Callable[[str], re.Match[str] | None] = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
).fullmatch
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = -62_135_596_800 * SECOND  # 0001-01-01T00:00:00Z
_LAST: Final = 253_402_300_800 * SECOND - 1  # 9999-12-31T23:59:59.999999Z


def parse_duration(text: str) -> int:
    """Microseconds of a duration such as `1h30m`, `500ms`, `2d`, `1w` or `0`.

    Each unit (y w d h m s ms us) at most once, largest first, whole numbers only, never negative: the grammar of
    Prometheus plus `us`. Raises BadSyntax.
    """
    if text == "0":
        return 0
    total, at, ceiling = 0, 0, _LONGEST
    while at < len(text) or not text:
        part = _part.match(text, at)
        if part is None or _UNITS[part[2]] >= ceiling:
            raise BadSyntax("not a duration", text, at + 1, _duration_hint(text))
        ceiling = _UNITS[part[2]]
        if len(part[1]) > 19 or (total := total + int(part[1]) * ceiling) > _LONGEST:
            raise BadSyntax("a duration longer than 292,000 years", text, at + 1, "write a shorter one")
        at = part.end()
    return total


def _duration_hint(text: str) -> str:
    if text.isdecimal() and text.isascii():
        return f"write {text}s"
    guess = _guess_duration(text.strip().lower())
    return f"write {format_duration(guess)}" if guess is not None else "write a number and a unit, such as 90s or 1h30m"


def _guess_duration(text: str) -> int | None:
    """What was probably meant by `90`, `1.5h`, `1m1h` or `5 minutes`; a bare number means seconds."""
    total, at = 0.0, 0
    while at < len(text):
        part = _loose_part.match(text, at)
        unit = _UNITS.get(_SPELLINGS.get(part[2], part[2] or "s")) if part else None
        if part is None or unit is None:
            return None
        total += float(part[1]) * unit
        at = part.end()
    return round(total) if 0 < total <= _LONGEST else None


def format_duration(us: int) -> str:
    """The one canonical text of a duration in microseconds, read back by parse_duration to the same number.

    Weeks only when nothing remains, as in Prometheus: 10d rather than 1w3d. Raises ValueError below zero.
    """
    if us < 0:
        raise ValueError(f"a duration is never negative, got {us} microseconds")
    if us and us % _UNITS["w"] == 0:
        return f"{us // _UNITS['w']}w"
    parts = []
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, us = divmod(us, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0"


def humanize(us: int) -> str:
    """A duration for people: the two largest units, `2m 05s`, `3h 00m`, `2d 04h`; below a second `850ms`."""
    if us < 0:
        return "-" + humanize(-us)
    if us < SECOND:
        return f"{us // MILLISECOND}ms" if us >= MILLISECOND else ("under 1ms" if us else "0s")
    if us < MINUTE:
        return f"{us // SECOND}s"
    for (large, large_size), (small, small_size) in ((("m", MINUTE), ("s", SECOND)), (("h", HOUR), ("m", MINUTE))):
        if us < large_size * (60 if large == "m" else 24):
            return f"{us // large_size}{large} {us % large_size // small_size:02d}{small}"
    return f"{us // DAY}d {us % DAY // HOUR:02d}h"


def parse_time(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 time with any offset; digits beyond microseconds are cut.

    Raises BadSyntax, also for years that do not fit (0000 and above 9999) and for a time without an offset.
    """
    if _time(text) is None:
        raise BadSyntax("not a time", text, 1, "write RFC 3339 with an offset, such as 2026-11-20T17:02:42Z")
    try:
        since = datetime.fromisoformat(text.upper()) - _EPOCH
    except (ValueError, OverflowError) as error:
        raise BadSyntax("a time that does not exist", text, 1, f"correct it ({error})") from error
    us = (since.days * 86_400 + since.seconds) * SECOND + since.microseconds
    if not _FIRST <= us <= _LAST:  # an offset pushed it over the edge, and format_time could not show it
        raise BadSyntax("a time outside the years 1 to 9999", text, 1, "correct the year or the offset")
    return us


def format_time(us: int) -> str:
    """RFC 3339 in UTC with `Z` and as many digits as needed (0, 3 or 6); ValueError outside the years 1 to 9999."""
    try:
        moment = _EPOCH + timedelta(microseconds=us)
    except OverflowError as error:
        raise ValueError(f"{us} microseconds since 1970 is outside the years 1 to 9999") from error
    digits = "seconds" if us % SECOND == 0 else "milliseconds" if us % MILLISECOND == 0 else "microseconds"
    return moment.replace(tzinfo=None).isoformat(timespec=digits) + "Z"


def backoff(attempt: int, first: int, factor: float, cap: int, jitter: float) -> int:
    """Microseconds to wait after failed attempt number `attempt` (from 1): first x factor^(attempt-1), at most `cap`.

    `jitter` in [0, 1) takes off up to half of it, so that many waiters spread out and none comes much too early.
    Raises ValueError for an attempt below 1 or a jitter outside its range.
    """
    if attempt < 1 or not 0 <= jitter < 1:
        raise ValueError(f"attempt counts from 1 and jitter lies in [0, 1), got {attempt} and {jitter}")
    try:
        wait = min(cap, int(first * factor ** (attempt - 1)))
    except OverflowError:
        wait = cap
    return wait - int(wait * jitter / 2)
