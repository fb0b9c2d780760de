"""A primary and its standby, both real: what they say, what a promotion needs; order entry is never touched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from responder.actions import ACTIONS, postgres_changes
from responder.connections import Connections, open_transport
from responder.contracts import Context
from responder.errors import Permanent, Temporary
from responder.perform import Ended, Performer
from responder.recorded import Outcome, Plan, ProbeAnswer
from responder.runbook import Step
from responder.services import PostgresService
from responder.timing import SECOND
from responder.wall_clock import wall_clock
from tests.contract.postgres_parts import PASSWORD, RUNBOOK, Sessions, _no_wait, user
from tests.servers import Postgres, free_port

FENCING = "the test has stopped the primary for good"


class Pair:
    """A primary and a standby that follows it; the role has the grants of the pages, given on the primary."""

    def __init__(self, primary: Postgres, standby: Postgres) -> None:
        self.primary = primary
        self.standby = standby
        self.other = standby

    def doing(self, action: str, role: str = "responder", **with_: Any) -> tuple[Performer, Step]:
        services: dict[str, PostgresService] = {
            "primary": user(self.primary, role),
            "replica": user(self.standby, role),
            "other": user(self.other, role),
            "refusing": user(self.standby, "reporting"),
            "away": user(self.standby, role, url=f"postgresql://127.0.0.1:{free_port()}/postgres"),
        }
        connections = Connections(services, open_transport)
        step = Step.model_validate({"id": "it", "action": action, "with": with_, "timeout": "30s"})
        return Performer(ACTIONS, connections.connect, {}, wall_clock, _no_wait), step

    async def prepared(self, action: str, role: str = "responder", **with_: Any) -> Plan:
        performer, step = self.doing(action, role, **with_)
        return await performer.prepare(RUNBOOK, step, {})

    async def done(self, action: str, plan: Plan, role: str = "responder") -> Ended:
        performer, _ = self.doing(action, role)
        return await performer.act(action, plan, "inc1.run1.it.1", 30 * SECOND)

    async def read(self, service: str) -> Any:
        ended = await self.done(
            "postgres.replication_status", await self.prepared("postgres.replication_status", service=service)
        )
        assert ended.outcome is Outcome.OK, ended.detail
        return ended.output

    async def until(self, service: str, key: str, wanted: Any) -> Any:
        """What a server says once it says that; replication takes a moment."""
        deadline = time.monotonic() + 30
        while (said := await self.read(service))[key] != wanted:
            assert time.monotonic() < deadline, said
            time.sleep(0.1)  # noqa: ASYNC251
        return said

    def wait_until_followed(self) -> None:
        with psycopg.connect(self.primary.url(), autocommit=True) as admin:
            streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
            while admin.execute(streaming).fetchone() == (0,):
                admin.execute("SELECT pg_sleep(0.1)")


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Postgres() as primary:
        for name in ("responder", "poor", "reporting"):
            primary.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        for action in ("postgres.terminate_queries", "postgres.promote"):
            for right in ACTIONS[action].grants:
                primary.execute(right.format(role="responder"))
        primary.execute("GRANT pg_monitor TO poor")
        with primary.standby() as standby:
            both = Pair(primary, standby)
            both.wait_until_followed()
            yield both


async def test_what_primary_and_standby_say_of_each_other(pair: Pair) -> None:
    of_primary = await pair.until("primary", "lag_bytes", 0)
    assert (of_primary["role"], of_primary["timeline"], of_primary["streaming"]) == ("primary", 1, 1)
    (standby,) = of_primary["standbys"]
    assert (standby["name"], standby["state"], standby["lag_seconds"]) == ("standby", "streaming", 0.0)
    of_replica = await pair.until("replica", "lag_bytes", 0)
    assert (of_replica["role"], of_replica["receiver"], of_replica["lag_seconds"]) == ("standby", "streaming", 0.0)


async def test_a_lag_is_told_in_bytes_and_only_then_in_seconds(pair: Pair) -> None:
    pair.standby.execute("SELECT pg_wal_replay_pause()")
    pair.primary.execute("CREATE TABLE filled AS SELECT generate_series(1, 10000) AS n")
    with psycopg.connect(pair.standby.url(), autocommit=True) as admin:
        waits = "SELECT pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn() > 100000"
        while admin.execute(waits).fetchone() != (True,):
            admin.execute("SELECT pg_sleep(0.1)")
    behind = await pair.read("replica")
    assert behind["lag_bytes"] > 100_000
    assert (await pair.read("primary"))["lag_bytes"] > 100_000
    pair.standby.execute("SELECT pg_wal_replay_resume()")
    assert (await pair.until("replica", "lag_bytes", 0))["lag_seconds"] == 0.0


async def test_the_long_query_is_ended_and_order_entry_goes_on(pair: Pair) -> None:
    with ExitStack() as stack:
        sessions = Sessions(pair.primary, stack)
        slow, orders = sessions.open("reporting", "monthly"), sessions.open("reporting", "order-entry")
        limits: dict[str, Any] = {
            "users": ["reporting"],
            "spared": ["order-entry"],
            "older_than": "1s",
            "how": "terminate",
        }
        plan = await pair.prepared("postgres.terminate_queries", service="primary", **limits)
        ended = await pair.done("postgres.terminate_queries", plan)
        assert ended.output == {"ended": 1, "ending": 0, "left": 0, "refused": 0, "held": 0}
        assert (sessions.alive(slow), sessions.alive(orders)) == (False, True)


async def test_a_standby_is_promoted_once_its_primary_is_gone(pair: Pair) -> None:
    asked: dict[str, Any] = {"candidates": ["away", "replica"], "fencing": FENCING}
    with pytest.raises(Permanent, match="replica still hears from its primary, which is alive: stop it first"):
        await pair.prepared("postgres.promote", **asked)
    pair.primary.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    await pair.until("primary", "lag_bytes", 0)
    pair.primary.stop()
    await pair.until("replica", "receiver", "none")
    plan = await pair.prepared("postgres.promote", **asked)
    assert plan.target == "replica"
    assert plan.preview.startswith("promote replica by pg_promote, which has received most (0 bytes still to be rep")
    assert FENCING in plan.preview
    assert "not asked, and perhaps ahead: away: nothing was sent" in plan.preview
    performer, step = pair.doing("postgres.promote", **asked)
    assert (await performer.probe("postgres.promote", plan, 10 * SECOND)).answer is ProbeAnswer.UNCLEAR
    poor = await pair.done("postgres.promote", plan, role="poor")
    assert poor.outcome is Outcome.PERMANENT
    assert "permission denied for function pg_promote" in poor.detail
    began = time.monotonic()
    ended = await pair.done("postgres.promote", plan)
    took = time.monotonic() - began
    assert (ended.outcome, ended.output) == (Outcome.OK, {"promoted": "replica", "timeline": 2}), ended.detail
    assert took < 30
    assert (await performer.probe("postgres.promote", plan, 10 * SECOND)).answer is ProbeAnswer.APPLIED
    with psycopg.connect(pair.standby.url(), autocommit=True) as written:
        assert written.execute("UPDATE kept SET answer = 43 RETURNING answer").fetchone() == (43,)
    again = await pair.done("postgres.promote", plan)
    assert (again.outcome, again.output) == (Outcome.OK, {"promoted": "replica", "timeline": 2})
    assert (await performer.prepare(RUNBOOK, step, {})).nothing_to_do == (
        "replica is the primary already, on timeline 2"
    )


async def test_a_restarted_standby_that_has_more_is_chosen_before_one_that_was_left_behind(pair: Pair) -> None:
    """With its primary gone it says that it has received no more than the begin of the segment."""
    with pair.primary.standby() as behind:
        pair.other = behind
        await pair.until("primary", "streaming", 2)
        await pair.until("primary", "lag_bytes", 0)
        behind.stop()
        behind._settings["primary_conninfo"] = ""
        behind.start()
        await pair.until("primary", "streaming", 1)
        pair.primary.execute("CREATE TABLE kept AS SELECT generate_series(1, 10000) AS n")
        await pair.until("primary", "lag_bytes", 0)
        pair.primary.stop()
        pair.standby.stop()
        pair.standby.start()
        with psycopg.connect(pair.standby.url(), autocommit=True) as admin:
            older = "SELECT pg_last_wal_receive_lsn() < pg_last_wal_replay_lsn()"
            while admin.execute(older).fetchone() != (True,):
                admin.execute("SELECT pg_sleep(0.1)")
        plan = await pair.prepared("postgres.promote", candidates=["other", "replica"], fencing=FENCING)
        assert plan.target == "replica"
        assert "(0 bytes still to be replayed)" in plan.preview
        assert (await pair.read("replica"))["lag_bytes"] == 0


async def test_a_candidate_that_refuses_our_role_is_told_and_left_out(pair: Pair) -> None:
    pair.primary.stop()
    await pair.until("replica", "receiver", "none")
    plan = await pair.prepared("postgres.promote", candidates=["refusing", "replica"], fencing=FENCING)
    assert plan.target == "replica"
    assert "not asked, and perhaps ahead: refusing: its role does not see the replication" in plan.preview
    with pytest.raises(Permanent, match="no candidate can be asked: refusing: its role does not see"):
        await pair.prepared("postgres.promote", candidates=["refusing"], fencing=FENCING)


async def test_one_that_somebody_promoted_between_look_and_act_is_looked_at_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.primary.stop()
    await pair.until("replica", "receiver", "none")
    plan = await pair.prepared("postgres.promote", candidates=["replica"], fencing=FENCING)
    looked = postgres_changes._standing
    calls: list[str] = []

    async def standing(name: str, context: Context, timeout: float) -> postgres_changes.Standing:
        said = await looked(name, context, timeout)
        if not calls:
            pair.standby.execute("SELECT pg_promote()")
        calls.append(name)
        return said

    monkeypatch.setattr(postgres_changes, "_standing", standing)
    ended = await pair.done("postgres.promote", plan)
    assert (ended.outcome, ended.output) == (Outcome.OK, {"promoted": "replica", "timeline": 2}), ended.detail
    assert len(calls) == 3


async def test_without_any_standby_that_answers_nothing_is_promoted(pair: Pair) -> None:
    with pytest.raises(Temporary, match="no candidate can be asked: away: nothing was sent"):
        await pair.prepared("postgres.promote", candidates=["away"], fencing=FENCING)
