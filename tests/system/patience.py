"""Waiting for what a real server does in its own time: bounded, and telling what was seen last if it does not come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import httpx

Seen = TypeVar("Seen")

EVERY = 0.1
"""Seconds between two looks."""


def eventually(what: str, look: Callable[[], Seen], holds: Callable[[Seen], bool], within: float = 40.0) -> Seen:
    """What `look` gives once it `holds`; fails after `within` seconds, showing `what` was wanted and what was there.

    A server that does not answer at the moment is looked at again.
    """
    deadline = time.monotonic() + within
    last: object = "nothing at all"
    while time.monotonic() < deadline:
        try:
            seen = look()
        except httpx.TransportError as error:
            last = f"no answer ({error!r})"
        else:
            if holds(seen):
                return seen
            last = seen
        time.sleep(EVERY)
    raise AssertionError(f"{what}: not within {within:g} s; seen last: {last}")


def throughout(what: str, look: Callable[[], Seen], holds: Callable[[Seen], bool], seconds: float) -> None:
    """Fails as soon as `look` gives something that does not hold within the next `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen = look()
        assert holds(seen), f"{what}: seen {seen}"
        time.sleep(EVERY)
