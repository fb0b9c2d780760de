"""What files that people write are made of: strict models, durations, rates and names, each with its own words.

Errors carry the cure as `hint`, which `mistakes` shows at the place. Not here: what a file may say (`runbook`,
`policies.yaml` in `runbook`, `calendars`, `answers`, `config`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_core import PydanticCustomError

from responder.contracts import Strict
from responder.errors import BadSyntax
from responder.timing import format_duration, parse_duration


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        return _read_duration(value)
    if isinstance(value, bool) or not isinstance(value, int) or value != 0:
        hint = f"write {value}s" if type(value) is int and value > 0 else "write a number and a unit"
        raise PydanticCustomError("duration", "a duration is text such as 30s or 1h30m", {"hint": hint})
    return 0


def _read_duration(text: str) -> int:
    try:
        return parse_duration(text)
    except BadSyntax as error:  # pydantic would let it pass through, without its place
        raise PydanticCustomError("duration", "{problem}", {"problem": error.message, "hint": error.hint}) from error


Duration = Annotated[int, BeforeValidator(_duration), PlainSerializer(format_duration, when_used="json")]
"""Microseconds; written as Prometheus writes durations."""


def _duration_key(text: str) -> str:
    """What stands below the time was written in its place: nothing in `page` looks like a duration."""
    if not any(character.isdigit() for character in text):
        hint = "begin with after how long it comes, as in `2m: {page: …}`"
        raise PydanticCustomError("duration", "the time is missing", {"hint": hint})
    _read_duration(text)
    return text


DurationKey = Annotated[str, AfterValidator(_duration_key)]
"""A duration as it is written, such as `2m`."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
_RATE = re.compile(r"^\s*(\d{1,6})\s+per\s+(\S+)\s*$")
_LIKE_A_RATE = re.compile(
    r"^\s*(\d{1,6})\s*(?:x|times)?\s*(?:/|,|per|in|an|a|every|each)\s*(\d*)\s*(ms|us|[ywdhms]|[a-z]{3,7})\s*$"
)
_UNITS = {"sec": "s", "second": "s", "min": "m", "minute": "m", "hr": "h", "hour": "h", "day": "d", "week": "w"}
"""What people call the units of a duration, in the singular."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many within a sliding window (µs). `written` is the window in people's own words: `24h` is not told as 1d."""

    count: int
    window: int
    written: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.count} per {self.written}"


def _guessed_rate(value: Any) -> str:
    found = _LIKE_A_RATE.match(value) if isinstance(value, str) else None
    unit = _UNITS.get(found[3].removesuffix("s"), found[3]) if found else ""
    if found is None or len(unit) > len("ms"):
        return "how often within how long, such as 3 per 6h"
    return f"{found[1]} per {found[2] or 1}{unit}"


def _rate(value: Any) -> Any:
    if isinstance(value, Rate):
        return value
    found = _RATE.match(value) if isinstance(value, str) else None
    if found is None or found[2].isalpha():
        raise PydanticCustomError(
            "rate", "a limit is a number and a duration", {"hint": f"write {_guessed_rate(value)}"}
        )
    return Rate(int(found[1]), _read_duration(found[2]), found[2])


RateText = Annotated[Rate, BeforeValidator(_rate), PlainSerializer(str, when_used="json")]


def _one_or_several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_several)]
"""One text, or a list of them."""


class Written(Strict):
    """A part of a YAML file: unknown keys are refused; `with` is written for `with_`."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, arbitrary_types_allowed=True)
