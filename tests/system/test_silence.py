"""Silences in a real Alertmanager: made once, found again, extended, expired; and what is silenced is still watched."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from responder.actions import ACTIONS
from responder.alertmanagers import Alertmanagers, judged
from responder.connections import Connections, open_transport
from responder.perform import Ended, Performer
from responder.recorded import AlertState, Outcome, Plan, ProbeAnswer
from responder.runbook import Runbook, Step
from responder.services import AlertmanagerService
from responder.timing import MINUTE, SECOND
from responder.wall_clock import wall_clock
from tests.servers import Alertmanager

CONFIG = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"
RUNBOOK = Runbook(runbook="lag", title="Lag", target="db")
LAG = {"alertname": "PostgresReplicationLag", "env": "prod"}


@pytest.fixture
def server() -> Iterator[Alertmanager]:
    with Alertmanager(CONFIG) as started:
        yield started


class Silencing:
    def __init__(self, server: Alertmanager, clock: Callable[[], int] = wall_clock) -> None:
        self.server = server
        services = {"alertmanager": AlertmanagerService(url=server.url)}
        self.connections = Connections(services, open_transport)
        self.performer = Performer(ACTIONS, self.connections.connect, {}, clock, _no_wait)

    async def prepare(self, **with_: Any) -> Plan:
        given = {"service": "alertmanager", "matchers": LAG, "for": "15m", "comment": "rebuilding", **with_}
        step = Step.model_validate({"id": "it", "action": "alertmanager.silence", "with": given})
        return await self.performer.prepare(RUNBOOK, step, {})

    async def act(self, plan: Plan) -> Ended:
        read_back = Plan.model_validate_json(plan.model_dump_json())
        return await self.performer.act("alertmanager.silence", read_back, "inc1.run1.it.1", 5 * SECOND)

    async def probe(self, plan: Plan) -> ProbeAnswer:
        return (await self.performer.probe("alertmanager.silence", plan, 5 * SECOND)).answer

    def silences(self, state: str = "active") -> list[dict[str, Any]]:
        return [s for s in self.server.get("/api/v2/silences") if s["status"]["state"] == state]


@asynccontextmanager
async def silencing(server: Alertmanager, clock: Callable[[], int] = wall_clock) -> AsyncIterator[Silencing]:
    doing = Silencing(server, clock)
    try:
        yield doing
    finally:
        await doing.connections.close()


async def _no_wait(_seconds: float) -> None:
    raise AssertionError("nothing here waits")


async def test_a_silence_is_made_once_and_expired(server: Alertmanager) -> None:
    async with silencing(server) as doing:
        plan = await doing.prepare()
        assert await doing.probe(plan) is ProbeAnswer.NOT_APPLIED
        for _ in range(2):
            ended = await doing.act(plan)
            assert ended.outcome is Outcome.OK, ended.detail
        (made,) = doing.silences()
        assert (made["createdBy"], made["comment"].startswith("rebuilding [responder ")) == ("responder", True)
        assert {m["name"]: m["value"] for m in made["matchers"]} == LAG
        assert await doing.probe(plan) is ProbeAnswer.APPLIED
        back = await doing.performer.undo("alertmanager.silence", plan, 5 * SECOND)
        assert await doing.probe(back) is ProbeAnswer.NOT_APPLIED
        assert (await doing.act(back)).outcome is Outcome.OK
        assert await doing.probe(back) is ProbeAnswer.APPLIED
        assert (doing.silences(), len(doing.silences("expired"))) == ([], 1)
        assert (await doing.performer.undo("alertmanager.silence", plan, SECOND)).nothing_to_do is not None


async def test_ours_is_extended_and_a_longer_one_left(server: Alertmanager) -> None:
    async with silencing(server) as doing:
        first = await doing.act(await doing.prepare())
        longer = await doing.prepare(**{"for": "30m"})
        assert "extends" in longer.preview
        second = await doing.act(longer)
        assert isinstance(first.output, dict)
        assert isinstance(second.output, dict)
        assert first.output["id"] == second.output["id"]
        assert await doing.probe(longer) is ProbeAnswer.APPLIED
        assert len(server.get("/api/v2/silences")) == 1
        shorter = await doing.prepare(**{"for": "5m"})
        assert "holds until" in str(shorter.nothing_to_do)


async def test_an_undone_extension_leaves_what_held_before_until_its_own_end(server: Alertmanager) -> None:
    async with silencing(server) as doing:
        await doing.act(await doing.prepare())
        (first,) = doing.silences()
        longer = await doing.prepare(**{"for": "30m"})
        await doing.act(longer)
        assert doing.silences()[0]["endsAt"] > first["endsAt"]
        back = await doing.performer.undo("alertmanager.silence", longer, 5 * SECOND)
        assert f"let silence {first['id']} end at" in back.preview
        assert await doing.probe(back) is ProbeAnswer.NOT_APPLIED
        assert (await doing.act(back)).outcome is Outcome.OK
        assert await doing.probe(back) is ProbeAnswer.APPLIED
        (now,) = doing.silences()
        assert (now["id"], now["startsAt"], now["endsAt"][:19]) == (
            first["id"], first["startsAt"], first["endsAt"][:19],
        )  # fmt: skip


def made(server: Alertmanager, silence: dict[str, Any]) -> None:
    httpx.post(f"{server.url}/api/v2/silences", json=silence).raise_for_status()


async def test_a_silence_of_a_person_is_neither_extended_nor_expired(server: Alertmanager) -> None:
    matchers = [{"name": n, "value": v, "isRegex": False, "isEqual": True} for n, v in LAG.items()]
    theirs = {"matchers": matchers, "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z"}
    made(server, {**theirs, "createdBy": "anna", "comment": "mine [responder 0123456789abcdef]"})
    async with silencing(server) as doing:
        plan = await doing.prepare()
        assert (plan.nothing_to_do, plan.before) == (None, None)
        assert (await doing.act(plan)).outcome is Outcome.OK
        back = await doing.performer.undo("alertmanager.silence", plan, SECOND)
        assert (await doing.act(back)).outcome is Outcome.OK
        assert [s["createdBy"] for s in doing.silences()] == ["anna"]


async def test_a_silence_that_would_be_over_is_not_made(server: Alertmanager) -> None:
    late = [0]
    async with silencing(server, lambda: wall_clock() + late[0]) as doing:
        plan = await doing.prepare()
        late[0] = 16 * MINUTE
        assert (await doing.act(plan)).outcome is Outcome.PERMANENT
        assert server.get("/api/v2/silences") == []


async def test_what_is_silenced_by_us_is_still_watched(server: Alertmanager) -> None:
    server.post_alerts([{"labels": LAG}])
    (held,) = server.alerts()
    async with silencing(server) as doing:
        await doing.act(await doing.prepare())
        asking = Alertmanagers([doing.connections.connect("alertmanager")], wall_clock, settled=0)  # type: ignore[list-item]
        peers = await asking.peers()
        view = judged(peers, held["fingerprint"])
        assert view.state is AlertState.SILENCED
        (named,) = (await asking.silences(peers, [view])).values()
        assert "by responder: rebuilding [responder " in named
        server.post_alerts([{"labels": LAG, "endsAt": "2026-01-01T00:00:00Z"}])
        assert judged(await asking.peers(), held["fingerprint"]).state is AlertState.GONE
