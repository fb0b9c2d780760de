"""Bare httpx: so many POSTs over a small set of clients with one connection each, in a process of its own.

The floor of the storm: what the calls alone cost when nothing is stored, decided or told. Prints seconds and CPU seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator

import httpx
import uvloop


async def _caller(url: str, numbers: Iterator[int]) -> None:
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=30) as client:
        for number in numbers:
            answer = await client.post(url, json={"item": f"bare-{number}"})
            answer.raise_for_status()


async def _run(port: int, count: int, clients: int) -> dict[str, float]:
    began, numbers = time.monotonic(), iter(range(count))
    await asyncio.gather(*(_caller(f"http://127.0.0.1:{port}/act", numbers) for _ in range(clients)))
    return {"seconds": time.monotonic() - began, "cpu": time.process_time()}


if __name__ == "__main__":
    json.dump(uvloop.run(_run(*(int(given) for given in sys.argv[1:4]))), sys.stdout)
