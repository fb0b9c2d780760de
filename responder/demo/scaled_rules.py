"""A copy of shipped rules whose times are seconds, so that a story of an hour is seen within one minute.

What is scaled is what people wait for: settling, verification, countdowns, levels, and how far a query looks back. Time
limits of single calls and pauses between retries stay, as they bound the network and not the story. Everything else is
the shipped text's own content; only comments are lost on the way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from responder.runbook import POLL
from responder.timing import MILLISECOND, SECOND, format_duration, parse_duration

SCALE: Final = 20
"""Two minutes become six seconds."""
LADDER_SCALE: Final = 80
"""For the levels of escalation policies: at 1:20 the second one (15 minutes) would come long after all is over."""
FRESHEST: Final = 5 * SECOND
"""No `max_age` below this: samples are as old as a scrape interval, however short the story is."""

_SHARED: Final = ("_defaults", "policies", "calendars")
"""What runbooks of a catalogue have in common."""
_SCALED: Final = frozenset(
    {"settle", "hold", "countdown", "cooldown", "grace", "acknowledgement", "remind", "runs", "ineffective", "for"}
)
_range = re.compile(r"(?<=\[)[0-9a-z]+(?=\])")
_duration = re.compile(r"\d+(?:y|w|d|h|ms|m|s)(?:\d+(?:y|w|d|h|ms|m|s))*")


def copy_scaled(source: Path, destination: Path, only: Collection[str] | None = None) -> None:
    """Copies the rule files of the catalogue `source` into the new folder `destination`, with scaled times. `only`:
    of its runbooks those of these names, where a story has no use for the others' services."""
    destination.mkdir(parents=True)
    for path in sorted(source.glob("*.yaml")):
        needed = only is None or path.stem in (*only, *_SHARED)
        if needed and (not path.name.startswith("_") or path.stem == "_defaults"):
            (destination / path.name).write_text(scaled_text(path.read_text(encoding="utf-8")), encoding="utf-8")


def scaled_text(text: str) -> str:
    """The rule file `text` (YAML) with every time that belongs to the story scaled."""
    return yaml.safe_dump(_scaled(yaml.safe_load(text)), sort_keys=False, allow_unicode=True, width=120)


def scaled(duration: str, scale: int) -> str:
    """A duration divided by `scale`, to the millisecond: `2m` by 20 is `6s`. What is no duration stays."""
    if _duration.fullmatch(duration) is None:
        return duration
    return format_duration(max(MILLISECOND, parse_duration(duration) // scale // MILLISECOND * MILLISECOND))


def scaled_ranges(query: str) -> str:
    """A query that looks back as much shorter as its story is: `rate(switches[5m])` is `rate(switches[15s])`."""
    return _range.sub(lambda found: scaled(found[0], SCALE), query)


def _scaled(value: Any) -> Any:
    match value:
        case dict():
            changed = {key: _entry(key, inner) for key, inner in value.items()}
            return _roomy(changed) if "within" in changed else changed
        case list():
            return [_scaled(inner) for inner in value]
        case _:
            return value


def _entry(key: object, value: Any) -> Any:
    if key == "unless_fixed":
        return {scaled(after, SCALE): _scaled(promise) for after, promise in value.items()}
    if not isinstance(value, str):
        return _scaled(value)
    if key in _SCALED:
        return _duration.sub(lambda found: scaled(found[0], SCALE), value)
    own: Mapping[object, Callable[[str], str]] = {
        "after": _level,
        "max_age": _age,
        "within": _time,
        "query": scaled_ranges,
    }
    return own[key](value) if key in own else value


def _level(value: str) -> str:
    return scaled(value, LADDER_SCALE)


def _time(value: str) -> str:
    return scaled(value, SCALE)


def _age(value: str) -> str:
    return format_duration(max(FRESHEST, parse_duration(scaled(value, SCALE))))


def _roomy(verify: dict[str, Any]) -> dict[str, Any]:
    """`within` long enough for a second look: verification polls in real time, every few seconds."""
    settle, hold, within = (parse_duration(str(verify.get(key, "0"))) for key in ("settle", "hold", "within"))
    return {**verify, "within": format_duration(max(within, settle + POLL + hold + SECOND))}
