"""Campaigns as processes of their own: only a process without threads may fork, and pytest's plugins have some."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAIRS = os.environ.get("CRASH_PAIRS", "4")
STRIDE = os.environ.get("CRASH_STRIDE", "16")
SEED = os.environ.get("CRASH_SEED", "0")


class Campaign:
    """One that has been started; `folder` keeps what it says. Without a `store` it starts one of its own."""

    def __init__(self, store: str, folder: Path, *more: str, module: str = "tests.crash.campaign") -> None:
        self._out, self._err = folder / "result.json", folder / "errors"
        command = [sys.executable, "-m", module, *([store] if store else []), "--seed", SEED, *more]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err)

    def tally(self) -> dict[str, Any]:
        """Wait for its end; what it counted. Raises RuntimeError when it broke."""
        self._process.wait()
        if not self._out.stat().st_size:
            raise RuntimeError(f"the campaign broke:\n{self._err.read_text(errors='replace')[-3000:]}")
        result: dict[str, Any] = json.loads(self._out.read_bytes())
        return result

    def end(self) -> None:
        """Stop it if it still runs; its children see the end of their line and die with it."""
        self._process.kill()
        self._process.wait()
