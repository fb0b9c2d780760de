"""Bare httpx: so many POSTs over a small set of clients with one connection each, in a process of its own.

The floor of the storm: what the calls alone cost when nothing is stored, decided or told. Prints seconds, and seconds
of CPU.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator

import httpx
import uvloop


async def _call(client: httpx.AsyncClient, numbers: Iterator[int]) -> None:
    for number in numbers:
        answer = await client.post("/act", json={"item": f"bare-{number}"})
        answer.raise_for_status()


async def _run(port: int, count: int, clients: int) -> dict[str, float]:
    """The clients are connected before the time runs."""
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    trust, url = httpx.create_ssl_context(), f"http://127.0.0.1:{port}"
    made = [
        httpx.AsyncClient(base_url=url, limits=limits, verify=trust, trust_env=False, timeout=30)
        for _ in range(clients)
    ]
    await asyncio.gather(*(_call(client, iter((-1,))) for client in made))
    began, used, numbers = time.monotonic(), time.process_time(), iter(range(count))
    await asyncio.gather(*(_call(client, numbers) for client in made))
    return {"seconds": time.monotonic() - began, "cpu": time.process_time() - used}


if __name__ == "__main__":
    json.dump(uvloop.run(_run(*(int(given) for given in sys.argv[1:4]))), sys.stdout)
