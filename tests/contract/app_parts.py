"""An application that is built and not served, under a clock of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from responder.app import CATALOGUE, App, build
from responder.config import load_config
from responder.incident import Incident
from responder.timing import SECOND

START = 1_800_000_000 * SECOND
EXPECT = """heartbeats: {expect: [{name: prometheus-a, match: ['alertname="Watchdog"'], within: 5m}]}"""


class Time:
    """The store's clock, moved by the test."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@asynccontextmanager
async def built(folder: Path, time: Time, more: str = EXPECT) -> AsyncIterator[App]:
    """The program on a file of its own, with no loop running: the test calls each pass."""
    path = folder / "responder.yaml"
    path.write_text(f"store: sqlite:///{folder}/responder.db\n{more}\n")
    app = await build(load_config(path, CATALOGUE, {}), {}, time)
    try:
        yield app
    finally:
        await app.store.close()


async def incidents(app: App) -> list[Incident]:
    return [row.fold for row in await app.store.incidents()]
