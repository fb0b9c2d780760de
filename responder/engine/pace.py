"""How fast messages may go to one channel: a token bucket for each."""

from __future__ import annotations

REMEMBERED = 10_000
"""Channels, or other keys, that a process remembers."""


class Pace:
    """A token bucket for each channel: a burst at once, then one message every so many microseconds."""

    def __init__(self) -> None:
        self._free_at: dict[tuple[str, str], int] = {}

    def wait(self, channel: tuple[str, str], now: int, pace: int, burst: int) -> int:
        """Microseconds until a message may go there."""
        return max(0, self._free_at.get(channel, 0) - (burst - 1) * pace - now)

    def take(self, channel: tuple[str, str], now: int, pace: int) -> None:
        """One message goes now."""
        if len(self._free_at) > REMEMBERED:
            self._free_at = {c: at for c, at in self._free_at.items() if at > now}
        self._free_at[channel] = max(self._free_at.get(channel, 0), now) + pace
