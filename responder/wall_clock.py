"""The process's clock: wall time that never runs backwards and never jumps, because only its beginning is read."""

from __future__ import annotations

import time

_START = time.time_ns() - time.monotonic_ns()


def wall_clock() -> int:
    """Microseconds since the epoch, UTC: the wall time at the process's start, carried on by the monotonic clock."""
    return (_START + time.monotonic_ns()) // 1000
