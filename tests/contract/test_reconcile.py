"""Reconciliation over a real store and the webhook: what it takes in, what it says of itself, and that it is once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from responder.alert import Alert
from responder.alertmanagers import Alertmanagers
from responder.config import Reconciling
from responder.engine.reconcile import Reconcile
from responder.incident import Incident
from responder.timing import MINUTE, SECOND
from tests.contract.web_parts import START, Office, alert, notification, serving
from tests.fakes.alertmanager import FakeAlertmanager

BTC, ETH = alert(symbol="BTC-USD"), alert(symbol="ETH-USD")


class Counted:
    """What the metrics are told."""

    def __init__(self) -> None:
        self.fired = self.ended = self.unsure = 0

    def reconciled(self, *, fired: int, ended: int) -> None:
        self.fired += fired
        self.ended += ended

    def alertmanagers_unsure(self, count: int) -> None:
        self.unsure = count


def comparing(office: Office, *peers: FakeAlertmanager, heartbeat: str = "") -> tuple[Reconcile, Counted]:
    def expected(found: Alert) -> bool:
        return found.name == heartbeat

    counted = Counted()
    asked = Alertmanagers([peer.connection() for peer in peers], office.desk.now)
    return Reconcile(office.desk, lambda: asked, Reconciling(), expected, counted), counted


async def passes(office: Office, *comparisons: Reconcile, minutes: int) -> None:
    for _ in range(minutes):
        office.time += MINUTE
        for one in comparisons:
            assert await one.work(office.time) == office.time + MINUTE


async def incidents(office: Office) -> list[Incident]:
    return [row.fold for row in await office.store.incidents()]


def peer(office: Office | None = None, name: str = "http://am-0") -> FakeAlertmanager:
    return FakeAlertmanager(lambda: office.time if office is not None else START, name, receiver="team.risk")


async def test_the_rest_of_a_group_that_could_not_be_completed_comes_later(tmp_path: Path) -> None:
    manager = peer()
    given: Any = manager
    async with serving(tmp_path, given) as office:
        manager.clock = lambda: office.time
        manager.fires(BTC["labels"], ETH["labels"])
        manager.down = True
        answer = await office.post(notification(BTC, truncatedAlerts=1))
        assert (answer.status_code, answer.json()["opened"]) == (200, 1)
        assert len(await office.store.dead_letters()) == 1
        compares, counted = comparing(office, manager)
        manager.down = False
        await passes(office, compares, minutes=4)
        marks = [sorted(i.episodes) for i in await incidents(office) if i.runbook == "cut"]
        assert marks == [sorted((BTC["fingerprint"], ETH["fingerprint"]))]
        assert (counted.fired, counted.ended) == (1, 0)
        (stored,) = [row for row in await office.store.notifications(0, office.time + 1, 9) if not row.receiver]
        assert stored.source == "alertmanager's api"


async def test_two_replicas_tell_it_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        manager = peer(office)
        manager.fires(BTC["labels"], ETH["labels"])
        await office.post(notification(BTC))
        one, other = comparing(office, manager)[0], comparing(office, manager)[0]
        await passes(office, one, other, minutes=1)
        manager.silences(BTC["labels"])
        await passes(office, one, other, minutes=3)
        manager.ends(BTC["labels"], ETH["labels"])
        await passes(office, one, other, minutes=3)
        (incident,) = await incidents(office)
        kinds = [event.fact.kind for event in await office.store.events(incident.id)]
        assert (kinds.count("alert_fired"), kinds.count("alert_resolved"), kinds.count("alerts_silenced")) == (2, 2, 1)
        assert incident.firing == ()


async def test_a_heartbeat_is_no_alert_that_was_missed(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        manager = peer(office)
        manager.fires(BTC["labels"], {"alertname": "Watchdog"})
        await office.post(notification(BTC))
        compares, counted = comparing(office, manager, heartbeat="Watchdog")
        await passes(office, compares, minutes=6)
        assert (len(await incidents(office)), counted.fired) == (1, 0)


async def test_what_cannot_be_taken_in_is_not_tried_for_ever(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        manager = peer(office)
        many = {"alertname": "Huge", **{f"label_{n}": "x" for n in range(300)}}
        manager.fires(BTC["labels"], many)
        await office.post(notification(BTC))
        compares, _ = comparing(office, manager)
        await passes(office, compares, minutes=4)
        asked = manager.asked.count("/api/v2/alerts/groups")
        await passes(office, compares, minutes=4)
        assert manager.asked.count("/api/v2/alerts/groups") == asked == 1
        assert await office.store.dead_letters() == []


async def test_one_that_cannot_be_believed_is_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as office:
        good, bad = peer(office), peer(office, "http://am-1")
        good.fires(BTC["labels"])
        await office.post(notification(BTC))
        compares, counted = comparing(office, good, bad)
        good.ends(BTC["labels"])
        with caplog.at_level(logging.INFO, "responder.engine"):
            bad.restarts()
            await passes(office, compares, minutes=3)
            assert counted.unsure == 1
            bad.down = True
            await passes(office, compares, minutes=3)
            assert (counted.unsure, counted.ended) == (1, 0)
            bad.down = False
            await passes(office, compares, minutes=2)
        assert (counted.unsure, counted.ended) == (0, 1)
        said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("reconciliation:")]
        assert ["started" in said[0], "503" in said[1], said[2]] == [
            True,
            True,
            "reconciliation: every Alertmanager can be believed again",
        ]


async def test_without_an_alertmanager_nothing_is_compared(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        await office.post(notification(BTC))
        compares, counted = comparing(office)
        await passes(office, compares, minutes=9)
        assert (counted.fired, counted.ended, counted.unsure) == (0, 0, 0)
        assert len((await incidents(office))[0].firing) == 1


async def test_an_older_start_than_a_known_end_does_not_keep_it_out(tmp_path: Path) -> None:
    """It is listed as firing now: that is the answer which a notification would have to ask for."""
    async with serving(tmp_path) as office:
        manager = peer(office)
        manager.fires(BTC["labels"])
        await office.post(notification(BTC))
        office.time += SECOND
        await office.post(notification(alert(symbol="BTC-USD", firing=False, ends=office.time + MINUTE)))
        compares, counted = comparing(office, manager)
        await passes(office, compares, minutes=4)
        assert counted.fired == 1
        assert len((await incidents(office))[0].firing) == 1
