"""`postgres.promote` by a real Patroni, which alone promotes; skipped unless RESPONDER_TEST_PATRONI names its program.

The nodes are started once; each test begins when both are healthy and streaming.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from responder.actions import ACTIONS
from responder.connections import Connections, open_transport
from responder.contracts import Secret
from responder.errors import Unknown
from responder.perform import Ended, Performer
from responder.recorded import Outcome, Plan, ProbeAnswer
from responder.runbook import Step
from responder.services import Basic, PatroniApi, PostgresService
from responder.timing import SECOND
from responder.wall_clock import wall_clock
from tests.contract.postgres_parts import RUNBOOK
from tests.system import patroni_nodes
from tests.system.patroni_nodes import Node

pytestmark = pytest.mark.skipif(not patroni_nodes.PROGRAM, reason="RESPONDER_TEST_PATRONI names no patroni")

ROLE_PASSWORD = "s3cret-role-password"
WITHIN = 90.0
"""Seconds for the cluster to become what a test waits for; generous, for a busy machine."""


@dataclass
class Pair:
    """Two nodes; what is done is done as the responder does it."""

    nodes: tuple[Node, Node]

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for it."""
        deadline = time.monotonic() + WITHIN
        while True:
            with suppress(httpx.HTTPError, KeyError):
                if holds():
                    return
            assert time.monotonic() < deadline, [node.log.read_text()[-800:] for node in self.nodes]
            time.sleep(0.2)

    def settled(self) -> tuple[Node, Node]:
        """The leader and its standby, once that streams."""
        self.until(lambda: sorted(_roles(self.nodes[0])) == [("leader", "running"), ("replica", "streaming")])
        first, second = self.nodes
        return (first, second) if self.nodes[0].cluster()[first.name]["role"] == "leader" else (second, first)

    def doing(self, node: Node, password: str = patroni_nodes.PASSWORD) -> Performer:
        """The way to this node."""
        basic = Basic(username=patroni_nodes.USER, password=Secret("env API", lambda: password))
        api = PatroniApi(url=node.url, member=node.name, basic=basic)
        secret = Secret("env P", lambda: ROLE_PASSWORD)
        url = f"postgresql://{node.address}/postgres"
        service = PostgresService(url=url, username="responder", password=secret, tls="off", patroni=api)
        return Performer(ACTIONS, Connections({"db": service}, open_transport).connect, {}, wall_clock, asyncio.sleep)

    async def prepared(self, node: Node) -> Plan:
        """To promote it."""
        with_ = {"candidates": ["db"], "fencing": "Patroni demotes the old leader"}
        step = Step.model_validate({"id": "it", "action": "postgres.promote", "with": with_, "timeout": "60s"})
        return await self.doing(node).prepare(RUNBOOK, step, {})

    async def done(self, node: Node, plan: Plan, password: str = patroni_nodes.PASSWORD) -> Ended:
        """Do it."""
        return await self.doing(node, password).act("postgres.promote", plan, "inc1.run1.it.1", 60 * SECOND)

    async def probed(self, node: Node, plan: Plan) -> ProbeAnswer:
        """What became of it."""
        return (await self.doing(node).probe("postgres.promote", plan, 10 * SECOND)).answer


def _roles(node: Node) -> list[tuple[str, str]]:
    return [(one["role"], one["state"]) for one in node.cluster().values()]


def _told(node: Node, path: str, body: dict[str, Any]) -> None:
    auth = (patroni_nodes.USER, patroni_nodes.PASSWORD)
    method = "PATCH" if path == "/config" else "POST"
    httpx.request(method, f"{node.url}{path}", json=body, auth=auth, timeout=30).raise_for_status()


@pytest.fixture(scope="module")
def started() -> Iterator[Pair]:
    first, second, vote = patroni_nodes.cluster()
    with ExitStack() as stack:
        for server in (vote, first, second):
            stack.enter_context(server)
        pair = Pair((first, second))
        leader, _ = pair.settled()
        leader.execute(f"CREATE ROLE responder LOGIN PASSWORD '{ROLE_PASSWORD}'")
        leader.execute("GRANT pg_monitor TO responder")
        yield pair


@pytest.fixture
def pair(started: Pair) -> Pair:
    started.settled()
    return started


async def test_a_leader_that_works_is_switched_over(pair: Pair) -> None:
    leader, standby = pair.settled()
    plan = await pair.prepared(standby)
    assert "promote db by Patroni" in plan.preview
    before = leader.cluster()[leader.name]["timeline"]
    ended = await pair.done(standby, plan)
    assert (ended.outcome, ended.output) == (Outcome.OK, {"promoted": "db", "timeline": before + 1}), ended.detail
    assert await pair.probed(standby, plan) is ProbeAnswer.APPLIED
    assert pair.settled() == (standby, leader)


async def test_the_leader_of_today_needs_nothing(pair: Pair) -> None:
    leader, _ = pair.settled()
    assert "db is the primary already, on timeline" in str((await pair.prepared(leader)).nothing_to_do)


async def test_a_wrong_credential_and_a_barred_candidate_change_nothing(pair: Pair) -> None:
    leader, standby = pair.settled()
    plan = await pair.prepared(standby)
    wrong = await pair.done(standby, plan, "another")
    assert wrong.outcome is Outcome.PERMANENT
    assert "answered 401" in wrong.detail
    assert "check the service's credentials" in wrong.detail
    standby.tagged(nofailover=True)
    try:
        barred = await pair.done(standby, plan)
    finally:
        standby.tagged()
    assert barred.outcome is Outcome.PERMANENT
    assert "answered 412 (switchover is not possible: no good candidates have been found" in barred.detail
    assert pair.settled() == (leader, standby)


async def test_what_was_sent_before_we_died_is_found_by_the_probe(pair: Pair) -> None:
    leader, standby = pair.settled()
    plan = await pair.prepared(standby)
    lines = standby.log.read_text().count("received switchover request")
    doing = asyncio.create_task(pair.done(standby, plan))
    while standby.log.read_text().count("received switchover request") == lines:
        await asyncio.sleep(0.01)
        assert not doing.done(), doing.result()
    # As SIGKILL leaves it: the connection is cut, and nobody reads the answer.
    doing.cancel()
    with suppress(asyncio.CancelledError, Unknown):
        await doing
    answers = [await pair.probed(standby, plan)]
    deadline = time.monotonic() + WITHIN
    while answers[-1] is ProbeAnswer.UNCLEAR and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        answers.append(await pair.probed(standby, plan))
    assert answers[-1] is ProbeAnswer.APPLIED
    assert ProbeAnswer.NOT_APPLIED not in answers
    assert pair.settled() == (standby, leader)


async def test_a_leader_that_died_is_replaced_once_its_key_is_gone(pair: Pair) -> None:
    """Until then Patroni tells that it runs, and answers nobody: the step needs a timeout beyond its `ttl`."""
    leader, standby = pair.settled()
    leader.crash()
    try:
        pair.until(lambda: standby.cluster()[standby.name]["state"] != "streaming")
        assert standby.cluster()[leader.name]["state"] == "running"
        plan = await pair.prepared(standby)
        ended = await pair.done(standby, plan)
        assert ended.outcome is Outcome.OK, ended.detail
        assert _roles(standby) == [("leader", "running")]
    finally:
        leader.start()
    assert pair.settled() == (standby, leader)


async def test_where_patroni_is_paused_a_dead_leader_is_failed_over(pair: Pair) -> None:
    """It elects nobody by itself then; who may be asked is asked for a failover, since nobody leads."""
    leader, standby = pair.settled()
    _told(standby, "/config", {"pause": True})
    try:
        pair.until(lambda: leader.cluster()[leader.name]["role"] == "leader")
        time.sleep(3)  # noqa: ASYNC251  Until each node has read it: a loop of Patroni is a second.
        leader.crash()
        pair.until(lambda: leader.name not in standby.cluster())
        plan = await pair.prepared(standby)
        assert plan.nothing_to_do is None
        ended = await pair.done(standby, plan)
        assert ended.outcome is Outcome.OK, ended.detail
    finally:
        _told(standby, "/config", {"pause": False})
        leader.start()
    assert pair.settled() == (standby, leader)
