"""Schedules: when a runbook is started by the clock, written as the five fields of cron.

The library cronsim reads them, and treats summer time as Debian's cron does: a fixed time that a clock skips comes at
the jump, and one that it shows twice comes once. Refused here: a field of seconds, macros such as @daily, and what
never comes. Not here: any reading of a clock, and what a schedule starts (`schedules`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator

from responder.civil_time import TimeZone, instant, local, mistake
from responder.written import Written

_EXAMPLE: Final = "such as '45 8 * * mon-fri': minute, hour, day of the month, month, day of the week"
_LONGEST: Final = 200
_MACROS: Final = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * sun",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
_FIELDS: Final = {
    "minute": "a minute is 0 to 59, as in 0,30 or */15",
    "hour": "an hour is 0 to 23, as in 8 or 9-17",
    "day-of-month": "a day of the month is 1 to 31, or L for the last one, and must occur in the month",
    "month": "a month is 1 to 12 or jan to dec",
    "day-of-week": "a day of the week is 0 (Sunday) to 6 or sun to sat, as in mon-fri, mon#1 or 5L",
}
# Twenty-eight years hold every date on every day of the week, and cronsim looks ahead for fifty.
_ANY_DAY: Final = datetime(2000, 1, 1, tzinfo=UTC)


def _cron(text: str) -> str:
    fields = text.split()
    if len(text) > _LONGEST:
        raise mistake(f"a schedule is at most {_LONGEST} letters long", "make several runbooks of it")
    if text.strip() in _MACROS:
        raise mistake(f"{text.strip()} is not a schedule", f"write '{_MACROS[text.strip()]}'")
    if len(fields) != len(_FIELDS):
        raise mistake(f"a schedule has {len(_FIELDS)} fields, not {len(fields)}", f"write five fields, {_EXAMPLE}")
    try:
        comes = next(CronSim(text, _ANY_DAY), None)
    except CronSimError as error:
        name = str(error).removeprefix("Bad ")
        raise mistake(_misread(name, fields), _FIELDS.get(name, f"write five fields, {_EXAMPLE}")) from error
    if comes is None:
        raise mistake(f"{text!r} never comes", "correct the days or the month")
    return text


def _misread(name: str, fields: list[str]) -> str:
    field = dict(zip(_FIELDS, fields, strict=True)).get(name, "")
    return f"{field!r} cannot be the {name} of this schedule"


class Schedule(Written):
    """When a runbook is started by the clock."""

    cron: Annotated[str, AfterValidator(_cron)]
    """Minute, hour, day of the month, month and day of the week, as cron reads them: '45 8 * * mon-fri'. Where both
    days are restricted, either one is enough."""
    timezone: TimeZone = "UTC"
    """Whose clock is meant, such as Asia/Kolkata."""


def next_after(schedule: Schedule, now: int) -> int | None:
    """When it comes next, strictly after `now` (both µs since the epoch); None when not within fifty years."""
    times = CronSim(schedule.cron, local(now, ZoneInfo(schedule.timezone)))
    # In the hour that a clock shows for the second time, cronsim begins with what came when it showed it first.
    return next((at for time in times if (at := instant(time)) > now), None)


def described(schedule: Schedule) -> str:
    """For people: `at 08:45 on Monday through Friday, Asia/Kolkata`."""
    sim = CronSim(schedule.cron, _ANY_DAY)
    text = sim.explain()
    restricted = not any(schedule.cron.split()[place].startswith("*") for place in (2, 4))
    either = " (either of the days is enough)" if restricted else ""
    return f"{text[:1].lower()}{text[1:]}{either}, {schedule.timezone}"
