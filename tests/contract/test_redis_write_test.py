"""redis.write_test against a real server that takes no writes: each reason passes, and says what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis

from responder.actions import ACTIONS
from responder.connections import Connections, open_transport
from responder.perform import Ended, Performer
from responder.recorded import Outcome
from responder.redis_connections import LibraryWire, NoAnswer, RedisCall, RedisConnection
from responder.runbook import Runbook, Step
from responder.services import RedisService
from responder.timing import SECOND
from responder.wall_clock import wall_clock
from tests.servers import Redis, free_port
from tests.system.patience import eventually

RUNBOOK = Runbook(runbook="redis-writes", title="Redis takes no writes", target="redis")
STEP = Step.model_validate({"id": "it", "action": "redis.write_test", "with": {"service": "cache"}})


@pytest.fixture
def server() -> Iterator[Redis]:
    with Redis() as started:
        yield started


async def written(server: Redis) -> Ended:
    services = {"cache": RedisService(url=server.url)}
    performer = Performer(ACTIONS, Connections(services, open_transport).connect, {}, wall_clock, _no_wait)
    return await performer.act("redis.write_test", await performer.prepare(RUNBOOK, STEP, {}), "key", 5 * SECOND)


async def test_a_server_that_takes_writes_has_the_key(server: Redis) -> None:
    assert (await written(server)).outcome is Outcome.OK
    with server.client() as client:
        assert client.get("responder:write-test") == "1"


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("min-replicas-to-write", "1", "too few replicas follow it (`min-replicas-to-write`)"),
        ("maxmemory", "1", "its memory is full (`maxmemory`)"),
        ("replicaof", "", "it is a replica"),
        ("save", "1 1", "it cannot save its data"),
    ],
)
async def test_what_refuses_writes_for_now_may_be_tried_again(
    server: Redis, setting: str, value: str, said: str
) -> None:
    with server.client() as client:
        if setting == "replicaof":
            client.replicaof("127.0.0.1", free_port())
        else:
            client.config_set(setting, value)
        if setting == "save":
            # A dump that cannot be written: its name is that of a folder.
            (server.folder / "dump.rdb").mkdir()
            client.bgsave()
            eventually(
                "it failed", lambda: client.info("persistence"), lambda info: info["rdb_last_bgsave_status"] == "err"
            )
        ended = await written(server)
        assert (ended.outcome, said in ended.detail) == (Outcome.TEMPORARY, True), ended.detail
        assert client.dbsize() == 0


async def test_a_server_that_is_busy_answers_and_one_that_is_gone_does_not(server: Redis) -> None:
    """Who decides that an old master is gone must not take "not now" for it."""
    connection = RedisConnection("cache", RedisService(url=server.url), LibraryWire)
    with server.client() as client:
        client.config_set("busy-reply-threshold", "10")
        script = asyncio.create_task(asyncio.to_thread(_busy, server))
        said = "nothing"
        while not said.startswith("cache: ROLE: not now (BUSY"):
            try:
                await connection.send(RedisCall(("ROLE",)), 5)
            except NoAnswer as error:
                pytest.fail(f"it is alive: {error}")
            except Exception as error:  # noqa: BLE001
                said = str(error)
        client.script_kill()
        await script
    server.kill()
    with pytest.raises(NoAnswer, match="check that it runs"):
        await connection.send(RedisCall(("ROLE",)), 5)


def _busy(server: Redis) -> None:
    with server.client() as client, pytest.raises(redis.RedisError):
        client.eval("while true do end", 0)


async def _no_wait(_seconds: float) -> None:
    raise AssertionError("no write test waits")
