"""Real Redis servers and Sentinels as the demo runs them: one process, one configuration and one log each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from responder.demo.prometheus import POLL_SECONDS, START_SECONDS, STOP_SECONDS

if TYPE_CHECKING:
    from redis.asyncio import Redis


def log_of(folder: Path, port: int) -> Path:
    """What the server on this port says."""
    return folder / f"{port}.log"


async def started(binary: Path, folder: Path, port: int, lines: Iterable[str]) -> asyncio.subprocess.Process:
    """Starts a server in `folder` with these lines of configuration, which only we can read: passwords stand there."""
    config = folder / f"{port}.conf"
    config.touch(mode=0o600)
    config.write_text("".join(f"{line}\n" for line in (f"port {port}", "bind 127.0.0.1", *lines)))
    with log_of(folder, port).open("wb") as log:
        return await asyncio.create_subprocess_exec(
            str(binary), config.name, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
        )


def client_of(port: int, password: str, patience: float) -> Redis:
    """A client of ours, which tries nothing twice; it waits `patience` seconds for an answer."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Redis(port=port, password=password, socket_timeout=patience, retry=Retry(NoBackoff(), 0))


async def comes_true(holds: Callable[[], Awaitable[bool]], processes: Sequence[asyncio.subprocess.Process]) -> bool:
    """Whether it holds within START_SECONDS, while all processes live. A Redis that does not answer is asked again."""
    from redis.exceptions import RedisError

    give_up = asyncio.get_running_loop().time() + START_SECONDS
    while asyncio.get_running_loop().time() < give_up and all(one.returncode is None for one in processes):
        with contextlib.suppress(RedisError):
            if await holds():
                return True
        await asyncio.sleep(POLL_SECONDS)
    return False


async def stopped(processes: Sequence[asyncio.subprocess.Process]) -> None:
    """Ends those that still run."""
    left = [process for process in processes if process.returncode is None]
    for process in left:
        process.terminate()
    for process in left:
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
