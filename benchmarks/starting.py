"""What a person at the keyboard waits for: the command's own help, and the check of a large set of runbooks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.installation import Installation
from benchmarks.processes import ROOT
from benchmarks.report import Figure

LOADING = """
import json, os, sys, time
from pathlib import Path
from responder.app import CATALOGUE
from responder.config import load_config
from responder.loader import load_rules
from responder.sources import Folders, read_sources, shipped_rules
began = time.monotonic()
config = load_config(Path(sys.argv[1]), CATALOGUE, os.environ)
loaded = load_rules(read_sources(config.rules, Folders(shipped_rules(), config.folder)), CATALOGUE, config)
json.dump({"seconds": time.monotonic() - began, "runbooks": len(loaded.rules.runbooks)}, sys.stdout)
"""


def helping(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """`responder --help`, the median of five."""
    seconds = sorted(_timed(["-m", "responder", "--help"]) for _ in range(5))
    yield Figure("responder --help", seconds[2], "s", most=0.3)


def _timed(command: list[str]) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    return time.monotonic() - began


def loading(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """Configuration and rules read, parsed and checked, without the program's own start."""
    count = 100 if quick else 1_000
    installation = Installation(folder / "loading")
    pattern = (installation.rules / "call-default.yaml").read_text()
    for number in range(count):
        text = pattern.replace("call-default", f"call-{number}").replace('"GatewaySlow"', f'"Gateway{number}"')
        (installation.rules / f"call-{number}.yaml").write_text(text.replace("'desk/", f"'desk-{number}/"))
    command = [sys.executable, "-c", LOADING, str(installation.config)]
    found = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    yield Figure(f"load and check {found['runbooks']:,} runbooks", found["seconds"], "s", most=3)
