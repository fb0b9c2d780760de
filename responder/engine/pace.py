"""How fast messages may go: a token bucket for each limit of a destination."""

from __future__ import annotations

from responder.contracts import Bucket

REMEMBERED = 10_000
"""Limits, or other keys, that a process remembers."""


class Pace:
    """When each limit that is in use has room again."""

    def __init__(self) -> None:
        self._free_at: dict[Bucket, int] = {}

    def wait(self, bucket: Bucket, now: int) -> int:
        """Microseconds until a message may go; 0 where there is no limit."""
        return max(0, self._free_at.get(bucket, 0) - (bucket.burst - 1) * bucket.pace - now) if bucket.pace else 0

    def take(self, bucket: Bucket, now: int) -> None:
        """One message goes now."""
        if len(self._free_at) > REMEMBERED:
            self._free_at = {known: at for known, at in self._free_at.items() if at > now}
        self._free_at[bucket] = max(self._free_at.get(bucket, 0), now) + bucket.pace
