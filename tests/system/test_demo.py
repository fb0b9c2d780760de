"""`responder demo` as a newcomer runs it: a process, its screen, its exit status; and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from responder.demo.ending import PAUSE, RESET
from responder.demo.scenario import READS_REDIS, Scenario
from tests.provision import CHECKOUT, find
from tests.system.outside import HALT, REDUCE

WITHIN = 75.0
"""Seconds for one demo: it ends by itself within a minute, and a busy machine needs longer to start a process."""
AT_ONCE = 3
"""Demos that play at the same time; they mostly wait."""
CHANGES: dict[Scenario, list[str]] = {
    Scenario.VAR_BREACH: [REDUCE],
    Scenario.VAR_BREACH_UNFIXED: [REDUCE, HALT],
    Scenario.MODEL_SWITCHING: [PAUSE],
    Scenario.REDIS_LATENCY: [],
    Scenario.HOT_RELOAD_REFUSED: [],
    Scenario.BREAKER_RESET: [REDUCE, RESET],
}
TELLS = {
    Scenario.VAR_BREACH: "VaR is back",
    Scenario.VAR_BREACH_UNFIXED: "PAGE → pm",
    Scenario.MODEL_SWITCHING: "the router is paused",
    Scenario.REDIS_LATENCY: "imagined-on-call: done restart",
    Scenario.HOT_RELOAD_REFUSED: "<= 1.5 is false",
    Scenario.BREAKER_RESET: "imagined-risk-manager: approve reset",
}
"""A part of each story that no other one has."""


def demo(folder: Path, *words: str) -> subprocess.Popen[str]:
    """The process, whose temporary files are below `folder`."""
    return started(folder, "-m", "responder", "demo", *words)


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    """The same, however Python is told to run it."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(folder), "COLUMNS": "80"}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str], within: float = WITHIN) -> tuple[int, str, str]:
    """Its exit status, what it printed, and what it complained about."""
    try:
        printed, complained = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        process.kill()
        printed, complained = process.communicate()
        pytest.fail(f"the demo did not end within {within:g} s:\n{printed}{complained}")
    return process.returncode, printed, complained


PLAYED = [
    (Scenario.VAR_BREACH, "prometheus"),
    (Scenario.VAR_BREACH_UNFIXED, "prometheus"),
    (Scenario.VAR_BREACH_UNFIXED, "built-in"),  # the other one is what a person sees, below
    (Scenario.MODEL_SWITCHING, "prometheus"),
    (Scenario.REDIS_LATENCY, "prometheus"),
    (Scenario.REDIS_LATENCY, "built-in"),
    (Scenario.HOT_RELOAD_REFUSED, "built-in"),
    (Scenario.BREAKER_RESET, "prometheus"),
]


class Playing:
    """Every one of `PLAYED`, each with its folder; a few play while one is looked at."""

    def __init__(self, made: pytest.TempPathFactory) -> None:
        self._made = made
        self.started: list[tuple[Path, subprocess.Popen[str]]] = []

    def at(self, place: int) -> tuple[Path, subprocess.Popen[str]]:
        """One of them, which is started now if it was not before, and the next ones with it."""
        for scenario, monitoring in PLAYED[len(self.started) : place + AT_ONCE]:
            folder = self._made.mktemp("demo")
            flags = ["--built-in"] if monitoring == "built-in" else []
            self.started.append((folder, demo(folder, "--scenario", scenario.value, "--json", *flags)))
        return self.started[place]


@pytest.fixture(scope="module")
def playing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playing]:
    for server in ("prometheus", "alertmanager", "redis-server"):
        find(server)
    plays = Playing(tmp_path_factory)
    yield plays
    for _, process in plays.started:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=WITHIN)


@pytest.mark.parametrize("place", range(len(PLAYED)), ids=[" ".join(played) for played in PLAYED])
def test_it_ends_as_the_scenario_promises(place: int, playing: Playing) -> None:
    (scenario, monitoring), (folder, process) = PLAYED[place], playing.at(place)
    status, printed, timeline = finished(process)
    assert status == 0, f"{timeline}\n{printed}"
    ending: dict[str, Any] = json.loads(printed)
    assert (ending["good"], ending["monitoring"]) == (True, monitoring)
    assert [change["path"] for change in ending["changes"]] == CHANGES[scenario]
    cut = 0.1 if REDUCE in CHANGES[scenario] else 0.25
    assert ending["kelly_fraction"] == {"before": 0.25, "after": cut}
    assert ending["redis_p99_us"]["read"] == (scenario in READS_REDIS and monitoring == "prometheus")
    assert TELLS[scenario] in timeline
    assert ("PAGE → pm" in timeline) == (scenario is Scenario.VAR_BREACH_UNFIXED)
    assert max(len(line) for line in timeline.splitlines()) <= 80
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("monitoring", ["prometheus", "built-in"])
def test_a_redis_master_that_dies_is_replaced_once(monitoring: str, tmp_path: Path) -> None:
    for server in ("prometheus", "alertmanager", "redis-server", "redis-sentinel"):
        find(server)
    flags = ["--built-in"] if monitoring == "built-in" else []
    process = demo(tmp_path, "--scenario", "redis-failover", "--json", *flags)
    # The servers are real, and so are the pauses between retries: a busy machine needs several.
    status, printed, timeline = finished(process, within=2 * WITHIN)
    assert status == 0, f"{timeline}\n{printed}"
    ending: dict[str, Any] = json.loads(printed)
    assert (ending["good"], ending["monitoring"]) == (True, monitoring)
    before, (after,) = ending["master"]["before"], ending["master"]["after"]
    assert after != before
    assert ending["sentinels"] == {"name": [after] * 3, "told": 1}
    assert ending["incident"]["result"] == "fixed"
    assert any(f"{after} is the master in the place of" in step for step in ending["steps"])
    for part in (f"{before} is the master. Now it is killed", "no server answers as a master", "PAGE → nse-oncall"):
        assert part in timeline
    assert max(len(line) for line in timeline.splitlines()) <= 80
    assert list(tmp_path.iterdir()) == []


def test_sentinels_that_notice_long_after_the_alert_are_waited_for(tmp_path: Path) -> None:
    """As on a slow machine, or with the 30 s that are Redis' default: the alert comes before they call it down."""
    for server in ("redis-server", "redis-sentinel"):
        find(server)
    code = (
        "import responder.demo.redis_servers as servers; servers.DOWN_AFTER = (8000, 8000, 60_000)\n"
        "from responder.__main__ import main; main()"
    )
    words = ("-c", code, "demo", "--scenario", "redis-failover", "--json", "--built-in")
    status, printed, timeline = finished(started(tmp_path, *words), within=2 * WITHIN)
    assert status == 0, f"{timeline}\n{printed}"
    ending: dict[str, Any] = json.loads(printed)
    assert (ending["sentinels"]["told"], ending["incident"]["result"]) == (1, "fixed")
    assert ending["seconds"]["closed"] > 8


def test_without_sentinels_the_failover_says_what_to_install(tmp_path: Path) -> None:
    # Neither on PATH nor among what a checkout has unpacked.
    code = (
        "import responder.demo.prometheus as servers; servers.UNPACKED = servers.Path('/nowhere')\n"
        "from responder.__main__ import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", code, "demo", "--scenario", "redis-failover"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    assert ended.returncode == 1
    assert "no redis-server and redis-sentinel here" in ended.stderr
    assert "apt install redis-server redis-sentinel" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_person_sees_the_story_within_80_columns(tmp_path: Path) -> None:
    status, printed, complaints = finished(demo(tmp_path, "--built-in", "--keep"))
    assert status == 0, f"{printed}\n{complaints}"
    assert max(len(line) for line in printed.splitlines()) <= 80
    for part in ("Times are scaled", "the market gets", "acts on", "0.25 → 0.1", "VaR is back", "Closed", "Next:"):
        assert part in printed
    kept = re.search(r"kept: (\S+)", complaints)
    assert kept is not None
    assert {"responder.yaml", "rules", "responder.log"} <= {path.name for path in Path(kept[1]).iterdir()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(number: signal.Signals, tmp_path: Path) -> None:
    find("prometheus")
    process = demo(tmp_path)
    deadline = time.monotonic() + WITHIN
    while not _children(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    children = _children(process.pid)
    assert children, "the servers never started"
    process.send_signal(number)
    status, printed, complaints = finished(process)
    assert status == 130, f"{printed}\n{complaints}"
    assert [child for child in children if Path(f"/proc/{child}").exists()] == []
    assert list(tmp_path.iterdir()) == []


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def test_a_server_that_does_not_start_is_shown_with_its_last_words(tmp_path: Path) -> None:
    broken = tmp_path / "bin"
    broken.mkdir()
    for name in ("prometheus", "alertmanager"):
        (broken / name).write_text("#!/bin/sh\necho 'opening storage failed: no space left' >&2\nexit 3\n")
        (broken / name).chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PATH": f"{broken}:{os.environ['PATH']}"}
    ended = subprocess.run(
        [sys.executable, "-m", "responder", "demo"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    assert ended.returncode == 1
    assert "ended with code 3" in ended.stderr
    assert "no space left" in ended.stderr
    assert "--built-in" in ended.stderr
