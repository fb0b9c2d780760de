"""The floor: a bare Starlette application that stores each body durably and does nothing else.

SQLite in WAL with `synchronous=FULL`, one thread that writes what arrived during the commit before, uvicorn as
`responder serve` has it. With `--forward PORT` it then posts to the fake service: the least that "stored, then acted"
can cost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import threading
import time
from collections import deque
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


class Writer:
    """Groups waiting bodies into one commit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: deque[tuple[bytes, asyncio.Future[None]]] = deque()
        self._changed = threading.Condition()
        threading.Thread(target=self._work, daemon=True).start()

    async def store(self, body: bytes) -> None:
        """Returns once it is on the disk."""
        stored = asyncio.get_running_loop().create_future()
        with self._changed:
            self._queue.append((body, stored))
            self._changed.notify()
        await stored

    def _work(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        for setting in ("journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute("CREATE TABLE bodies (id INTEGER PRIMARY KEY, at INTEGER, body BLOB)")
        while True:
            group = self._taken()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO bodies (at, body) VALUES (?, ?)", [(time.time_ns(), body) for body, _ in group]
            )
            connection.execute("COMMIT")
            group[0][1].get_loop().call_soon_threadsafe(_resolve, [stored for _, stored in group])

    def _taken(self) -> list[tuple[bytes, asyncio.Future[None]]]:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._queue))
            return [self._queue.popleft() for _ in range(min(512, len(self._queue)))]


def _resolve(stored: list[asyncio.Future[None]]) -> None:
    for one in stored:
        one.set_result(None)


class Floor:
    """The application."""

    def __init__(self, writer: Writer, forward: int | None) -> None:
        self._writer = writer
        self._url = f"http://127.0.0.1:{forward}/act" if forward else None
        self._client = httpx.AsyncClient(limits=httpx.Limits(max_connections=1), trust_env=False)
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, request: Request) -> JSONResponse:
        """POST /webhook/alertmanager."""
        body = await request.body()
        await self._writer.store(body)
        if self._url is not None:
            task = asyncio.get_running_loop().create_task(self._act(self._url, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return JSONResponse({"stored": True})

    async def _act(self, url: str, body: bytes) -> None:
        item = json.loads(body)["alerts"][0]["labels"]["item"]
        await self._client.post(url, json={"item": item})


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--forward", type=int)
    given = parser.parse_args()
    floor = Floor(Writer(given.database), given.forward)
    app = Starlette(routes=[Route("/webhook/alertmanager", floor.take, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=given.port, access_log=False, log_level="error", lifespan="off")


if __name__ == "__main__":
    main()
