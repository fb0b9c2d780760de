"""How fast an alert becomes a request of its runbook's step: one by one, and a thousand at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.installation import SILENT, TOLD, Installation, wait_for
from benchmarks.load import NS, Stream
from benchmarks.processes import Child, Service, bare_httpx, floor, send, service
from benchmarks.report import Figure, percentile

CLIENTS = 16
CONNECTIONS = 32
"""Clients of bare httpx, with one connection each."""


def wire(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """From sending the notification to the request's arrival at the service; the intent is on the disk before."""
    count = 40 if quick else 200
    with service(folder) as desk:
        installation = Installation(folder / "wire", desk.port)
        with floor(folder, desk.port) as bare, installation.running() as ours:
            send(*(Stream(c.port, TOLD, f"warm{c.port}", 10, rate=20) for c in (bare, ours)))
            streams = (Stream(c.port, TOLD, f"wire{n}", count, rate=5) for n, c in enumerate((bare, ours)))
            sent = [told.sent for told in send(*streams)]
            wait_for(lambda: len(desk.arrivals()) >= 2 * (count + 10), "every request arrives")
            arrived = {item: at for item, _, at in desk.arrivals()}
    least, found = ([(arrived[item] - at) / NS * 1000 for item, at in one.items()] for one in sent)
    for share, name, most in ((0.5, "p50", 5), (0.99, "p99", 15)):
        yield Figure(
            f"alert to its step's request at 5/s, {name}",
            percentile(found, share),
            "ms",
            percentile(least, share),
            most,
        )


@dataclass(frozen=True, slots=True)
class _Storm:
    """What a storm came to; `cpu` seconds of the server, `seconds` from the first alert to the last run's end."""

    seconds: float
    cpu: float
    told: float
    arrivals: int
    items: int


def _storm(folder: Path, desk: Service, alertname: str, count: int) -> _Storm:
    installation = Installation(folder, desk.port)
    with installation.running() as ours:
        send(Stream(ours.port, alertname, "warm", 32, clients=CLIENTS))
        wait_for(lambda: installation.runs_ended() == 32 and not installation.untold(), "the first runs end")
        before, cpu, seen = _now(installation), ours.cpu, len(desk.arrivals())
        send(Stream(ours.port, alertname, "storm", count, clients=CLIENTS))
        wait_for(lambda: installation.runs_ended() == count + 32, "every run ends")
        seconds = _ended(installation, before)
        return _finished(installation, ours, desk, _Storm(seconds, cpu, 0, seen, 0))


def _finished(installation: Installation, ours: Child, desk: Service, storm: _Storm) -> _Storm:
    told = wait_for(lambda: not installation.untold(), "everything is told")
    arrivals = desk.arrivals()[storm.arrivals :]
    return _Storm(storm.seconds, ours.cpu - storm.cpu, told, len(arrivals), len({item for item, _, _ in arrivals}))


def _now(installation: Installation) -> int:
    """The newest event (µs): everything of the storm is later."""
    return installation.number("SELECT max(at) FROM events")


def _ended(installation: Installation, before: int) -> float:
    opened = f"SELECT min(received_at) FROM notifications WHERE received_at > {before}"
    return (
        installation.number("SELECT max(at) FROM events WHERE kind = 'run_ended'") - installation.number(opened)
    ) / 1e6


def storm(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """A thousand alerts, a thousand targets, a thousand runs: by itself, and with every line told on the console."""
    count = 200 if quick else 1_000
    with service(folder) as desk:
        bare = count / bare_httpx(desk.port, count, CONNECTIONS)["seconds"]
        desk.delay(0)
        quiet = _storm(folder / "quiet", desk, SILENT, count)
        told = _storm(folder / "told", desk, TOLD, count)
    rate, name = count / quiet.seconds, f"storm of {count:,} alerts"
    yield Figure(f"{name}, runs with one HTTP call", rate, "/s", bare, least=max(600, 0.5 * bare))
    yield Figure(f"{name}, CPU a notification", quiet.cpu / count * 1000, "ms", most=1.5)
    yield Figure(f"{name}, calls lost or doubled", abs(quiet.arrivals - count) + count - quiet.items, "", most=0)
    yield Figure(f"{name}, each told and paged on the console", count / told.seconds, "/s", bare)
    yield Figure(f"{name}, told: until the last line is out", told.seconds + told.told, "s")
    yield Figure(f"{name}, told: CPU a notification", told.cpu / count * 1000, "ms")


def slow_service(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """The same with a service that takes 500 ms for each answer."""
    count = 200 if quick else 1_000
    with service(folder) as desk:
        desk.delay(0.5)
        found = _storm(folder / "slow", desk, SILENT, count)
    name = f"storm of {count:,} alerts, a service of 500 ms"
    yield Figure(f"{name}: all done", found.seconds, "s", most=4)
    yield Figure(f"{name}: lost", count - found.items, "", most=0)
