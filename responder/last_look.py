"""The last look: whether a change is held back is asked once more right before its bytes leave (docs/adr/0027).

Between the intent of a change and its first byte it may wait for a permit, a connection and a login: seconds, in which
a person may pause automation. Connections ask behind all of these before they send a change, and never before a
question.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Clear = Callable[[], Awaitable[None]]
"""Raises HeldBack when nothing may be sent any more."""


async def always_clear() -> None:
    """For what no pause holds back: our own messages, and what people ask for at the console."""
