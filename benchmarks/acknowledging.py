"""How fast a notification is durable: at a calm rate, and as fast as sixteen clients get their answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.installation import UNROUTED, Installation
from benchmarks.load import Stream, Told
from benchmarks.processes import floor, send
from benchmarks.report import Figure, percentile

CLIENTS = 16
SIZES = {1: 4_000, 20: 600, 200: 100}
"""Alerts in a notification -> notifications that are sent."""


def calm(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """Five notifications a second to each of both, in turn, one alert without a runbook in each."""
    count = 40 if quick else 200
    installation = Installation(folder / "calm")
    with floor(folder) as bare, installation.running() as ours:
        send(*(Stream(c.port, UNROUTED, "warm", 10, rate=20) for c in (bare, ours)))
        streams = (Stream(c.port, UNROUTED, "calm", count, rate=5) for c in (bare, ours))
        least, found = (_checked(told).latencies for told in send(*streams))
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        lowest = percentile(least, share) * 1000
        value = percentile(found, share) * 1000
        yield Figure(f"durable acknowledgement at 5/s, {name}", value, "ms", lowest, most=1.5 * lowest)


def crowded(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """Sixteen clients without a pause: running episodes told again, and new alerts (each an incident that is told)."""
    for alerts, full in SIZES.items():
        count = full // 10 if quick else full
        with floor(folder) as bare:
            highest = _rate(send(_stream(bare.port, alerts, count, repeated=False))[0])
        installation = Installation(folder / f"crowded-{alerts}")
        with installation.running() as ours:
            again = _rate(send(_stream(ours.port, alerts, count, repeated=True))[0])
            fresh = _rate(send(_stream(ours.port, alerts, max(CLIENTS, count // 10), repeated=False))[0])
        name = f"acknowledged with {CLIENTS} clients, {alerts} alerts each"
        yield Figure(f"{name}, known episodes", again, "/s", highest, least=0.6 * highest)
        yield Figure(f"{name}, all new", fresh, "/s", highest, least=0.6 * highest)


def _stream(port: int, alerts: int, count: int, *, repeated: bool) -> Stream:
    prefix = "again" if repeated else "fresh"
    return Stream(port, UNROUTED, prefix, count, alerts, clients=CLIENTS, repeated=repeated)


def _rate(told: Told) -> float:
    return len(_checked(told).latencies) / told.seconds


def _checked(told: Told) -> Told:
    if set(told.statuses) != {"200"}:
        raise RuntimeError(f"not everything was acknowledged: {told.statuses}")
    return told
