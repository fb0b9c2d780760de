"""Heartbeats both ways, the self-audit and announcements, over a real store, in the test's own time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from responder import facts as f
from responder.alert import Limits, parse_notification
from responder.app import App
from responder.commands import Command
from responder.engine.heartbeat import Heartbeats
from responder.errors import BadConfig
from responder.heartbeats import FLUSH, SCOPE, Hearing
from responder.incident import Incident
from responder.timing import MINUTE, SECOND, format_time
from tests.contract.app_parts import EXPECT, START, Time, built, incidents

WATCHDOG = {"alertname": "Watchdog", "severity": "none"}


def payload(labels: Mapping[str, str], *, firing: bool = True) -> Mapping[str, Any]:
    return {"status": "firing" if firing else "resolved", "labels": labels, "startsAt": format_time(START)}


async def told(app: App, *alerts: Mapping[str, Any]) -> Mapping[str, Any]:
    """A notification, through the front door."""
    body = json.dumps({"version": "4", "receiver": "r", "groupKey": "g", "alerts": alerts}).encode()
    transport = httpx.ASGITransport(app.web)
    async with httpx.AsyncClient(transport=transport, base_url="http://responder") as web:
        answer = await web.post("/webhook/alertmanager", content=body)
    assert answer.status_code == 200
    found: Mapping[str, Any] = answer.json()
    return found


def heard(hearing: Hearing, now: int, *, firing: bool = True) -> None:
    body = {"version": "4", "receiver": "r", "groupKey": "g", "alerts": [payload(WATCHDOG, firing=firing)]}
    hearing.take(parse_notification(json.dumps(body).encode(), Limits()), now)


async def look(app: App, time: Time, after: int) -> None:
    """So much later, one pass."""
    time.now += after
    await app.health.heartbeats.work(time.now)


async def facts(app: App, incident: Incident, kind: type[Any]) -> list[Any]:
    return [e.fact for e in await app.store.events(incident.id) if isinstance(e.fact, kind)]


# --- in: through the webhook ------------------------------------------------------------------------------------------


async def test_a_heartbeat_that_comes_opens_no_incident_and_what_came_with_it_does(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        counts = await told(app, payload(WATCHDOG), payload({"alertname": "Strange", "severity": "warning"}))
        assert (counts["opened"], counts["fired"]) == (1, 1)
        assert [i.labels["alertname"] for i in await incidents(app)] == ["Strange"]
        for _ in range(10):
            await told(app, payload(WATCHDOG))
            await look(app, time, MINUTE)
        assert len(await incidents(app)) == 1


async def test_the_status_and_the_metrics_say_when_it_was_seen_and_what_the_audit_found(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        await told(app, payload(WATCHDOG))
        time.now += 30 * SECOND
        for loop in app.health.loops:
            await loop._pass(time.now)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app.web), base_url="http://responder") as web:
            status = (await web.get("/api/v1/status")).json()
            metrics = (await web.get("/metrics")).text
        assert status["audit"] == {"clean": True, "at": format_time(time.now), "reasons": []}
        (beat,) = status["heartbeats"]
        assert (beat["name"], beat["seen_at"], beat["missing"]) == ("prometheus-a", format_time(START), False)
        assert "responder_audit_clean 1.0" in metrics
        assert 'responder_heartbeat_last_seen_seconds{name="prometheus-a"} 30.0' in metrics


# --- in: missing and back ---------------------------------------------------------------------------------------------


async def test_missing_for_too_long_is_one_urgent_incident_that_says_where_to_look(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        heard(app.health.hearing, time.now)
        await look(app, time, 5 * MINUTE - SECOND)
        assert await incidents(app) == []
        for _ in range(3):
            await look(app, time, SECOND)
        (incident,) = await incidents(app)
        assert incident.title == "Alerts may not arrive: Watchdog of prometheus-a is missing"
        assert incident.severity == "critical"
        assert [name for name, _ in incident.paged] == ["console"], "it pages at once"
        (problem,) = incident.problems
        assert problem.startswith("Watchdog of prometheus-a is missing for 5m, last seen 2027-01-15T08:00:00Z. ")
        assert "silence" in problem


async def test_an_acknowledgement_leaves_it_open_and_its_return_closes_it(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        heard(app.health.hearing, time.now)
        await look(app, time, 5 * MINUTE)
        (incident,) = await incidents(app)
        await app.desk.submit(lambda shelf: Command("c", incident.id, "ack", "anna", shelf, None))
        assert not (await incidents(app))[0].closed
        time.now += 2 * MINUTE
        heard(app.health.hearing, time.now)
        await look(app, time, SECOND)
        (incident,) = await incidents(app)
        assert (incident.closed, incident.closed_why) == (True, "Watchdog of prometheus-a is back after 7m")
        assert (incident.firing, incident.agenda) == ((), ()), "nothing is left to wait for"
        resolves = [m for m in await app.store.messages_of(incident.id) if m.template == "resolve"]
        assert [m.destination for m in resolves] == ["console"]


async def test_after_its_return_it_may_be_missing_again(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        await look(app, time, 5 * MINUTE)
        heard(app.health.hearing, time.now + SECOND)
        await look(app, time, SECOND)
        await look(app, time, 5 * MINUTE)
        assert [i.closed for i in await incidents(app)] == [False, True]


async def test_one_that_is_told_as_resolved_is_missing_at_once(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        heard(app.health.hearing, time.now)
        await look(app, time, SECOND)
        heard(app.health.hearing, time.now, firing=False)
        await look(app, time, 0)
        (incident,) = await incidents(app)
        assert "is told as resolved" in incident.problems[0]


async def test_one_that_never_came_counts_from_the_start(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        await look(app, time, 4 * MINUTE)
        assert await incidents(app) == []
        await look(app, time, MINUTE)
        assert "has not come within 5m" in (await incidents(app))[0].problems[0]


async def test_a_restart_gives_it_time_and_knows_when_it_was_seen(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        heard(app.health.hearing, time.now)
        await look(app, time, SECOND)
    time.now += 20 * MINUTE
    async with built(tmp_path, time) as app:
        await look(app, time, 5 * MINUTE - SECOND)
        assert await incidents(app) == []
        await look(app, time, SECOND)
        assert "is missing for 25m1s, last seen 2027-01-15T08:00:00Z" in (await incidents(app))[0].problems[0]


async def test_a_restart_while_it_is_missing_neither_forgets_nor_repeats_it(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        await look(app, time, 5 * MINUTE)
    async with built(tmp_path, time) as app:
        await look(app, time, 10 * MINUTE)
        assert len(await incidents(app)) == 1
        heard(app.health.hearing, time.now)
        await look(app, time, SECOND)
        assert [i.closed for i in await incidents(app)] == [True]


async def test_of_several_replicas_one_opens_the_incident_and_any_hears_the_return(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        second = Hearing(app.config.heartbeats.expected, time.now)
        replicas = (app.health.heartbeats, Heartbeats(app.desk, second))
        time.now += 4 * MINUTE
        heard(second, time.now)
        await asyncio.gather(*(r.work(time.now) for r in replicas))
        time.now += 4 * MINUTE
        await asyncio.gather(*(r.work(time.now) for r in replicas))
        assert await incidents(app) == [], "the other one has heard it"
        time.now += MINUTE
        await asyncio.gather(*(r.work(time.now) for r in replicas))
        (incident,) = await incidents(app)
        assert len(await facts(app, incident, f.ProblemFound)) == 1
        heard(second, time.now + SECOND)
        time.now += SECOND
        for replica in replicas:
            await replica.work(time.now)
        assert [i.closed for i in await incidents(app)] == [True]


async def test_it_is_written_every_few_seconds_however_often_it_comes(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        written = set()
        for _ in range(20):
            heard(app.health.hearing, time.now)
            await look(app, time, FLUSH // 5)
            written |= {row.body for row in await app.store.scopes(SCOPE)}
        assert len(written) == 4


async def test_one_that_is_not_expected_any_more_is_forgotten_and_its_incident_closed(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        await look(app, time, 5 * MINUTE)
        (tmp_path / "responder.yaml").write_text(f"store: sqlite:///{tmp_path}/responder.db\n")
        await app.reload()
        await look(app, time, SECOND)
        assert [i.closed_why for i in await incidents(app)] == ["the heartbeat prometheus-a is not expected any more"]
        assert [row.body for row in await app.store.scopes(SCOPE)] == [""]


async def test_its_incident_follows_the_policy_that_is_named_and_that_must_exist(tmp_path: Path) -> None:
    time = Time()
    with pytest.raises(BadConfig, match="prometheus-a names the policy 'nobody'; there are "):
        async with built(tmp_path, time, EXPECT.replace("5m", "5m, policy: nobody")):
            pass
    (tmp_path / "mine").mkdir()
    platform = "{chat: [console], levels: [{name: P1, after: 0, page: console}]}"
    (tmp_path / "mine" / "policies.yaml").write_text(f"policies: {{platform: {platform}}}\n")
    more = EXPECT.replace("5m", "5m, policy: platform") + "\nrules: [./mine]"
    async with built(tmp_path, time, more) as app:
        path = tmp_path / "responder.yaml"
        path.write_text(path.read_text().replace("policy: platform", "policy: nobody"))
        with pytest.raises(BadConfig, match="nobody"):
            await app.reload()
        await look(app, time, 5 * MINUTE)
        assert [i.policy for i in await incidents(app)] == ["platform"]
