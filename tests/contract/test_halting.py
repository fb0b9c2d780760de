"""The pause file, read by a running pass: there, gone, and on a file system that hangs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from responder.app import App
from responder.engine.halting import EVERY
from responder.timing import SECOND
from tests.contract.app_parts import Time, built


async def looked(app: App, time: Time) -> str | None:
    """After one pass."""
    assert await app.halting.work(time.now) == time.now + EVERY
    return app.desk.shelf.halted


async def test_the_file_pauses_while_it_is_there(tmp_path: Path) -> None:
    time, path = Time(), tmp_path / "pause"
    async with built(tmp_path, time, f"automation: {{pause_file: {path}}}") as app:
        assert await looked(app, time) is None
        path.write_text("a release\nmore")
        assert await looked(app, time) == f"automation is paused by the file {path}: a release"
        path.unlink()
        assert await looked(app, time) is None


async def test_a_file_system_that_hangs_pauses_within_a_second_and_holds_up_nothing(tmp_path: Path) -> None:
    """A pipe that nobody writes to hangs whoever opens it, as a network file system that has gone does."""
    time, path = Time(), tmp_path / "pause"
    async with built(tmp_path, time, f"automation: {{pause_file: {path}}}") as app:
        os.mkfifo(path)
        for _ in range(3):
            halted = await looked(app, time)
            assert halted is not None
            assert halted.endswith("cannot be read (its file system does not answer)")
        path.open("w").close()  # it answers, and says nothing
        path.unlink()
        async with asyncio.timeout(30):
            while await looked(app, time) is not None:
                pass
        assert await looked(app, time) is None
    assert EVERY < SECOND
