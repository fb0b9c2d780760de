"""What Redis answers, read: numbers, INFO, entries of streams and of the slow log, and what they say together.

Pure. Asking is `redis_connections`, and what a step may ask is `actions.redis`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import JsonValue

MAX_ENTRIES: Final = 100
"""Elements that one reading gives."""
MAX_TEXT: Final = 500
"""Characters of one value."""
RECENT: Final = 600
"""Seconds for which an entry of the slow log tells about now."""
_SWAPPED: Final = 0.9
"""Resident share of the memory in use below which part of it is swapped out; just started, a server has above 1."""
_ROOM: Final = 0.05
"""Share of `maxmemory` that is left when it counts as full."""

_number = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,12})?")

Reply = str | int | float | list["Reply"] | None
"""What a command answers, texts decoded."""


def typed(text: str) -> JsonValue:
    """A number where the text is one as people write it (`007` is none), else the text, cut."""
    if _number.fullmatch(text):
        return float(text) if "." in text else int(text)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def parsed_info(text: str) -> dict[str, JsonValue]:
    """The fields of INFO; what stands in one line (`calls=1,usec=2`) stays a text."""
    lines = (line.partition(":") for line in text.splitlines() if ":" in line and not line.startswith("#"))
    return {name: typed(value.strip()) for name, _, value in lines}


def slow_entries(reply: Reply) -> list[dict[str, JsonValue]]:
    """The entries of SLOWLOG GET; of the arguments only the key, which is the first."""
    return [
        {"at": whole(one[1]), "us": whole(one[2]), **_command(list_of(one[3])), "client": _named(one)}
        for one in list_of(reply)
        if isinstance(one, list) and len(one) >= 4
    ]


def _command(words: list[Reply]) -> dict[str, JsonValue]:
    texts = [text_of(word) for word in words]
    return {"command": (texts[0] if texts else "?").upper()[:40], "key": texts[1][:60] if len(texts) > 1 else ""}


def _named(entry: list[Reply]) -> str:
    """The name of the client, else its address; servers before 4.0 tell neither."""
    told = [text_of(one) for one in entry[4:6]]
    return next((text for text in reversed(told) if text), "")


def stream_entry(one: list[Reply]) -> dict[str, JsonValue]:
    """An entry of a stream: its id and its fields."""
    fields = {text_of(name): typed(text_of(text)) for name, text in list(pairs_of(list_of(one[1])))[:MAX_ENTRIES]}
    return {"id": text_of(one[0]), **fields}


def measured(reply: Reply) -> list[tuple[int, float]]:
    """The samples of TS.RANGE, oldest first: milliseconds since the epoch and the value. What is no finite number
    (a NaN stands for nothing) is left out."""
    read = [(whole(one[0]), _float(one[1])) for one in list_of(reply) if isinstance(one, list) and len(one) == 2]
    return [(at, value) for at, value in read if math.isfinite(value)]


def _float(value: Reply) -> float:
    try:
        return float(text_of(value))
    except ValueError:
        return math.nan


def client_of(line: str) -> dict[str, JsonValue]:
    """A line of CLIENT LIST."""
    pairs = (part.partition("=") for part in line.split(" "))
    return {name: typed(text) for name, _, text in pairs}


def counted(entries: Iterable[Mapping[str, JsonValue]], by: tuple[str, ...]) -> dict[str, JsonValue]:
    """How often each combination occurs, most frequent first."""
    counted = Counter(", ".join(str(entry.get(name, "?")) for name in by)[:200] for entry in entries)
    return dict(counted.most_common(MAX_ENTRIES))


def slowest(entries: Iterable[Mapping[str, JsonValue]]) -> int:
    """How long the slowest took, in microseconds; 0 without one."""
    return max((whole(entry["us"]) for entry in entries), default=0)


def pairs_of(flat: list[Reply]) -> Iterable[tuple[Reply, Reply]]:
    """Names and values of a list in which they take turns."""
    return zip(flat[::2], flat[1::2], strict=False)


def list_of(reply: Reply) -> list[Reply]:
    """The list that a reply is; empty for anything else."""
    return reply if isinstance(reply, list) else []


def text_of(reply: Reply) -> str:
    """The text that a reply is; empty for nil."""
    return "" if reply is None else str(reply)


def whole(value: object) -> int:
    """The whole number that a value is; 0 for anything else."""
    return int(value) if isinstance(value, int | float) else 0


# --- what they say together -------------------------------------------------------------------------------------------


def named_cause(info: Mapping[str, JsonValue], slow: list[dict[str, JsonValue]], many: int) -> tuple[str, str]:
    """The likely cause of a slow server and why, in numbers. `info`: memory and clients; `slow`: lately slow
    commands; `many`: from how many clients on there are too many."""
    memory = _memory(info)
    if memory:
        return "memory", memory
    if slow:
        often = next(iter(counted(slow, ("command",))))
        return "commands", f"{len(slow)} slow commands in 10 minutes, {often} most, up to {slowest(slow)} µs"
    connected = whole(info.get("connected_clients", 0))
    if connected >= many:
        return "clients", f"{connected} clients are connected, {many} are many"
    return "network", f"no slow command, memory is free, {connected} clients: look between the clients and it"


def _memory(info: Mapping[str, JsonValue]) -> str:
    """What is wrong with the memory, "" when nothing is."""
    used, resident = whole(info.get("used_memory", 0)), whole(info.get("used_memory_rss", 0))
    limit = whole(info.get("maxmemory", 0))
    if used and resident < used * _SWAPPED:
        return f"{resident} bytes of {used} in use are resident: the rest is swapped out"
    if limit and limit - used < limit * _ROOM:
        return f"{used} bytes of {limit} are in use: it is full"
    return ""
