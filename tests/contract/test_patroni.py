"""Behind Patroni a standby is promoted by its API alone, never by pg_promote.

What it answers is what Patroni 4.1.5 answered to tests/system/test_patroni.py.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from responder.actions import ACTIONS
from responder.connections import Connections, Openers
from responder.contracts import Secret
from responder.errors import Permanent
from responder.perform import Ended, Performer
from responder.recorded import Outcome, Plan, ProbeAnswer
from responder.runbook import Step
from responder.services import PatroniApi, PostgresService
from responder.timing import SECOND
from tests.contract.action_world import NOW, RUNBOOK, World

SAID = {
    200: 'Successfully failed over to "pg-2"',
    412: "failover is not possible: no good candidates have been found",
    503: "Failover status unknown",
}
WITH = {"candidates": ["db"], "fencing": "Patroni demotes the old leader"}


class Cluster:
    """A server whose Patroni is asked; `leader`: the state of the member that leads, "" for none. `late`: after so many
    waits the server is primary; by default at once where Patroni says that it is done, else never."""

    def __init__(self, leader: str, status: int = 200, member: str = "pg-2", late: int | None = None) -> None:
        self.world = World()
        self.late = late
        self.leader = leader
        self.status = status
        self.asked: list[tuple[str, Any]] = []
        password = Secret("env P", lambda: "s3cret-password")
        api = PatroniApi(url="http://db-2:8008", member=member)
        service = PostgresService(url="postgresql://db/t", username="r", password=password, patroni=api)
        connections = Connections(
            {"db": service}, lambda _service: httpx.MockTransport(self._answer), Openers(postgres=self.world.sql)
        )
        self.performer = Performer(ACTIONS, connections.connect, {}, lambda: NOW, self._wait)

    async def _wait(self, _seconds: float) -> None:
        self.late = None if self.late is None else self.late - 1
        if self.late == 0:
            self.world.standby = False

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            assert request.url.path == "/cluster"
            first = {"name": "pg-1", "role": "leader", "state": self.leader}
            members = [*([first] if self.leader else []), {"name": "pg-2", "role": "replica", "state": "streaming"}]
            return httpx.Response(200, json={"members": members})
        self.asked.append((request.url.path, json.loads(request.content)))
        self.world.standby = self.status != 200 or self.late is not None
        return httpx.Response(self.status, text=SAID[self.status])

    async def prepared(self) -> Plan:
        step = Step.model_validate({"id": "it", "action": "postgres.promote", "with": WITH})
        return await self.performer.prepare(RUNBOOK, step, {})

    async def done(self) -> Ended:
        return await self.performer.act("postgres.promote", await self.prepared(), "key", 10 * SECOND)


@pytest.mark.parametrize(
    ("leader", "call"),
    [
        ("", ("/failover", {"candidate": "pg-2"})),
        ("crashed", ("/failover", {"candidate": "pg-2"})),
        ("running", ("/switchover", {"leader": "pg-1", "candidate": "pg-2"})),
    ],
)
async def test_its_api_is_asked_once_and_pg_promote_never(leader: str, call: tuple[str, Any]) -> None:
    cluster = Cluster(leader)
    assert "promote db by Patroni" in (await cluster.prepared()).preview
    ended = await cluster.done()
    assert (ended.outcome, ended.output) == (Outcome.OK, {"promoted": "db", "timeline": 2}), ended.detail
    assert cluster.asked == [call]
    assert cluster.world.done == []


@pytest.mark.parametrize(("status", "outcome"), [(412, Outcome.PERMANENT), (503, Outcome.UNKNOWN)])
async def test_what_it_refuses_is_not_forced(status: int, outcome: Outcome) -> None:
    cluster = Cluster("", status)
    plan = await cluster.prepared()
    assert (await cluster.done()).outcome is outcome
    assert (len(cluster.asked), cluster.world.done, cluster.world.standby) == (1, [], True)
    assert (await cluster.performer.probe("postgres.promote", plan, SECOND)).answer is ProbeAnswer.UNCLEAR


@pytest.mark.parametrize("status", [200, 503])
async def test_it_is_looked_at_until_the_server_is_primary_whatever_patroni_says(status: int) -> None:
    """It says "done" before `pre_promote` has run, and "unknown" while the key of a dead leader lasts."""
    cluster = Cluster("", status, late=3)
    ended = await cluster.done()
    assert (ended.outcome, ended.output) == (Outcome.OK, {"promoted": "db", "timeline": 2}), ended.detail
    assert (len(cluster.asked), cluster.late) == (1, 0)


async def test_what_never_comes_is_unknown_and_says_what_patroni_said() -> None:
    ended = await Cluster("", 503).done()
    assert ended.outcome is Outcome.UNKNOWN
    assert "answered 503 (Failover status unknown" in ended.detail
    done = await Cluster("", 200, late=99).done()
    assert (done.outcome, "is still a standby; it may still come" in done.detail) == (Outcome.UNKNOWN, True)


async def test_a_member_that_it_does_not_know_is_told_before_anything() -> None:
    cluster = Cluster("", member="pg-9")
    ended = await cluster.done()
    assert (ended.outcome, cluster.asked) == (Outcome.PERMANENT, [])
    assert "Patroni knows no member 'pg-9', only [\"pg-2\"]" in ended.detail


async def test_without_a_fence_nothing_can_be_prepared() -> None:
    step = Step.model_validate({"id": "it", "action": "postgres.promote", "with": {**WITH, "fencing": "none"}})
    with pytest.raises(Permanent, match="fencing"):
        await Cluster("").performer.prepare(RUNBOOK, step, {})


async def test_a_pause_that_comes_at_the_last_moment_keeps_patroni_from_being_told() -> None:
    cluster = Cluster("")
    plan = await cluster.prepared()

    async def held() -> str | None:
        return "automation is paused by alice"

    ended = await cluster.performer.act("postgres.promote", plan, "key", 10 * SECOND, held)
    assert (ended.outcome, ended.held_back) == (Outcome.TEMPORARY, True), ended.detail
    assert (cluster.asked, cluster.world.done, cluster.world.standby) == ([], [], True)
