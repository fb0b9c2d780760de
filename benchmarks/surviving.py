"""What a death costs: kill -9 in the middle of a storm, and the time until a restarted process answers."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.installation import SILENT, UNROUTED, Installation, wait_for
from benchmarks.load import Stream, Told
from benchmarks.processes import Service, send, sending, service, told
from benchmarks.report import Figure

KILLS = 3


def killed(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """SIGKILL, again and again, while 500 notifications come in; what is not acknowledged is sent again."""
    count = 100 if quick else 500
    with service(folder) as desk:
        installation = Installation(folder / "killed", desk.port)
        sent = _under_fire(installation, desk, count)
        items = {item for item, _, _ in desk.arrivals()}
        keys = Counter(item for item, _ in {(item, key) for item, key, _ in desk.arrivals()})
    episodes = installation.number("SELECT count(*) FROM episodes")
    incidents = installation.number("SELECT count(*) FROM incidents")
    lost = len(set(sent.acknowledged) - items) + (count - episodes)
    doubled = (incidents - episodes) + sum(times - 1 for times in keys.values())
    name = f"kill -9, {KILLS} times in a storm of {count}"
    yield Figure(f"{name}: acknowledged, then lost", lost, "", most=0)
    yield Figure(f"{name}: incidents or changes doubled", doubled, "", most=0)
    yield Figure(f"{name}: runs not ended", count - installation.runs_ended(), "", most=0)


def _under_fire(installation: Installation, desk: Service, count: int) -> Told:
    load = sending(Stream(installation.port, SILENT, "fire", count, clients=16, again=True))
    try:
        return _through_kills(installation, desk, load, count)
    finally:
        load.kill()


def _through_kills(installation: Installation, desk: Service, load: subprocess.Popen[bytes], count: int) -> Told:
    for number in range(KILLS):
        with installation.running() as ours:
            aim = count * (number + 1) // (KILLS + 1)
            wait_for(lambda aim=aim: len(desk.arrivals()) >= aim, "the storm goes on", step=0.002)  # type: ignore[misc]
            ours.kill()
    with installation.running():
        sent = told(load)[0]
        wait_for(lambda: installation.runs_ended() >= count, "every run ends")
    return sent


def restart(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """From starting the process to the first acknowledgement, with open incidents in the database."""
    count = 100 if quick else 500
    installation = Installation(folder / "restart")
    with installation.running() as ours:
        send(Stream(ours.port, UNROUTED, "open", count // 20, alerts=20, clients=4))
        wait_for(lambda: not installation.untold(), "everything is told")
        ours.kill()
    seconds = [_first_answer(installation, number) for number in range(3)]
    yield Figure(f"restart to the first acknowledgement, {count} open incidents", sorted(seconds)[1], "s", most=1.5)


def _first_answer(installation: Installation, number: int) -> float:
    """Until the port takes connections, and then the first request's own time; not the start of the load's process."""
    began = time.monotonic()
    with installation.running() as ours:
        ready = time.monotonic() - began
        found = send(Stream(ours.port, UNROUTED, f"first-{number}", 1))[0]
        ours.kill()
    if found.statuses != {"200": 1}:
        raise RuntimeError(f"the first notification was answered {found.statuses}")
    return ready + found.latencies[0]
