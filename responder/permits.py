"""How many uses of a service may be under way at a time, and how long one waits for its turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from responder.errors import Temporary

ALL_IN_USE: Final = "all connections are in use; raise the service's `connections`"


class AllInUse(Temporary):
    """Our own connections are all in use: nothing was sent, and nothing is known of the service."""


@contextlib.asynccontextmanager
async def permit(permits: asyncio.Semaphore, patience: float, busy: Exception) -> AsyncIterator[None]:
    """Holds one of the permits. Raises `busy` when none is free within `patience` seconds; nothing was done then."""
    try:
        async with asyncio.timeout(patience):
            await permits.acquire()
    except TimeoutError:
        raise busy from None
    try:
        yield
    finally:
        permits.release()
