"""Two replicas on PostgreSQL: who takes over, who must not change anything any more, and who is first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path

from responder.alert import Limits, parse_notification
from responder.desk import Desk, Shelf
from responder.draft import Worker
from responder.facts import RunStarted
from responder.ingest import Ingest, Received
from responder.records import NotificationRow
from responder.store import open_store
from responder.timing import SECOND
from tests.crash.running import STRIDE, Campaign
from tests.crash.scenarios import EVERY_EFFECT, PARAMETERS, RULES
from tests.crash.world import World
from tests.invariants import Ledger, read_found

T0 = 1_800_000_000 * SECOND


def test_a_stopped_replica_is_taken_over_and_changes_nothing_when_it_wakes(database: str, tmp_path: Path) -> None:
    campaign = Campaign(database, tmp_path, "--stop", "--stride", STRIDE)
    try:
        tally = campaign.tally()
    finally:
        campaign.end()
    counts = f"{tally['doubled']} changes doubled, {tally['rejected']} late answers refused"
    print(f"crash: {tally['stops']} processes stopped and woken, {counts}")  # noqa: T201  what it is for
    assert not tally["failures"], "\n".join(tally["failures"])
    assert tally["stops"] > 5
    assert tally["rejected"] > 0


async def test_a_notification_that_two_replicas_get_at_once_is_one_incident_with_one_run(database: str) -> None:
    clock: Callable[[], int] = lambda: T0  # noqa: E731
    stores = [await asyncio.to_thread(open_store, database, clock) for _ in range(2)]
    ids = count()
    try:
        desks = [
            Desk(store, Shelf(RULES, "crash", PARAMETERS), Worker(f"replica-{n}"), lambda: f"op{next(ids)}", _none)
            for n, store in enumerate(stores)
        ]
        received = await asyncio.gather(*(_ingest(desk) for desk in desks))
        (case,) = (await read_found(stores[0], Ledger())).cases
        events = await stores[1].events(case.row.id)
    finally:
        await asyncio.gather(*(store.close() for store in stores))
    assert sorted(r.opened for r in received) == [0, 1]
    assert sum(t.next is not None for r in received for t in r.turns) <= 1, "both would execute"
    assert len([e for e in events if isinstance(e.fact, RunStarted)]) == 1
    assert case.incident.active_run is not None


async def _ingest(desk: Desk) -> Received:
    body = World(EVERY_EFFECT).notification("firing")
    notification = parse_notification(body, Limits())
    row = NotificationRow(desk.new_id(), "live", 0, "am", "responder", "{}:{}", 1, 0, body)
    return await desk.submit(lambda shelf: Ingest(desk.new_id(), notification, row, shelf, desk.worker))


async def _none(_hash: str) -> None:
    return None
