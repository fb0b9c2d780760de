"""`redis.timeseries_range` on the module itself: RESPONDER_TEST_REDIS_TIMESERIES names its file, redistimeseries.so.

Debian has no such package. Redis Stack brings the file; the test's own Redis loads it (docs/redis.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from responder.actions import ACTIONS
from responder.actions.redis import RedisTimeseriesRange
from responder.connections import Connections, open_transport
from responder.perform import Ended, Performer
from responder.recorded import Outcome
from responder.runbook import Step
from responder.timing import MILLISECOND, SECOND
from responder.wall_clock import wall_clock
from tests.contract.redis_parts import PASSWORD, RUNBOOK, user
from tests.servers import Redis

MODULE = os.environ.get("RESPONDER_TEST_REDIS_TIMESERIES", "")
KEY = "var_pct:BTC-USD"
MINUTE_MS = 60_000

pytestmark = pytest.mark.skipif(not MODULE, reason="RESPONDER_TEST_REDIS_TIMESERIES names no redistimeseries.so")


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    """Its user has the right that the page of the action names, and no other."""
    (right,) = RedisTimeseriesRange.commands
    rights = f"on >{PASSWORD} resetkeys ~var_pct:* -@all +{right}"
    with Redis(settings={"loadmodule": MODULE, "user": f"responder {rights}"}) as started:
        yield started


@pytest.fixture
def data(server: Redis) -> Iterator[redis.Redis]:
    with server.client() as client:
        client.flushall()
        yield client


async def read(server: Redis, key: str = KEY, action: str = "redis.timeseries_range", **with_: Any) -> Ended:
    async def no_wait(_seconds: float) -> None:
        raise AssertionError("no reader waits")

    connections = Connections({"cache": user(server)}, open_transport)
    performer = Performer(ACTIONS, connections.connect, {}, wall_clock, no_wait)
    given = {"id": "it", "action": action, "with": {"service": "cache", "key": key, **with_}}
    plan = await performer.prepare(RUNBOOK, Step.model_validate(given), {})
    return await performer.act(action, plan, "key", 5 * SECOND)


def write(data: redis.Redis, samples: dict[int, float], key: str = KEY) -> int:
    """Of so many milliseconds ago (before now: positive). Gives now."""
    now = wall_clock() // MILLISECOND
    for ago, value in samples.items():
        data.ts().add(key, now - ago, value)
    return now


async def test_an_hour_is_drawn_together_on_the_server(server: Redis, data: redis.Redis) -> None:
    now = write(data, {50 * MINUTE_MS: 1.2, 20 * MINUTE_MS: 2.4, 20 * MINUTE_MS - 1: 2.1, 1: 1.9, 90 * MINUTE_MS: 9})
    ended = await read(server, last="1h", samples=12, aggregate="max")
    assert ended.outcome is Outcome.OK, ended.detail
    assert isinstance(ended.output, dict)
    samples: Any = ended.output["samples"]
    assert (ended.output["latest"], ended.output["least"], ended.output["most"]) == (1.9, 1.2, 2.4)
    assert samples[0]["value"] == 1.2
    assert all(one["at"] % 300 == 0 for one in samples), samples
    assert now / 1000 - 300 <= samples[-1]["at"] <= now / 1000


async def test_a_full_window_is_bounded_and_ends_with_the_newest(server: Redis, data: redis.Redis) -> None:
    """Also where the writer's clock runs ahead of ours: its newest sample is what people want to see."""
    write(data, {second * 1000: float(-second) for second in range(900, -180, -30)})
    ended = await read(server, last="15m", samples=15, aggregate="last")
    assert isinstance(ended.output, dict), ended.detail
    samples: Any = ended.output["samples"]
    assert ended.output["latest"] == 150.0
    assert [one["at"] for one in samples] == sorted(one["at"] for one in samples)
    assert len(samples) <= 16


@pytest.mark.parametrize("aggregate", ["avg", "min", "max", "sum", "count", "first", "last"])
async def test_the_server_knows_every_aggregate(server: Redis, data: redis.Redis, aggregate: str) -> None:
    write(data, {1000: 2.0})
    ended = await read(server, aggregate=aggregate)
    assert ended.outcome is Outcome.OK, ended.detail
    assert isinstance(ended.output, dict)
    assert ended.output["latest"] == (1.0 if aggregate == "count" else 2.0)


async def test_what_is_not_there_is_missing(server: Redis, data: redis.Redis) -> None:
    absent = await read(server)
    assert (absent.outcome, absent.output) == (Outcome.TEMPORARY, None)
    assert f"there is no series {KEY}" in absent.detail
    write(data, {3 * 60 * MINUTE_MS: 2.0})
    old = await read(server, last="1h")
    assert (old.outcome, old.output) == (Outcome.TEMPORARY, None)
    assert "has no sample of the last 1h: look whether its writer runs" in old.detail


async def test_another_kind_of_key_and_a_right_that_is_lacking_say_the_cure(server: Redis, data: redis.Redis) -> None:
    data.set(KEY, "1.9")
    wrong = await read(server)
    assert wrong.outcome is Outcome.PERMANENT
    assert "the key is of another kind (WRONGTYPE): read a string by redis.get" in wrong.detail
    denied = await read(server, key="orders:today")
    assert denied.outcome is Outcome.PERMANENT
    assert "its user may not do this" in denied.detail
    data.acl_setuser("responder", commands=["+exists", "+getrange"], enabled=True)
    data.delete(KEY)
    write(data, {1000: 2.0})
    series = await read(server, action="redis.get")
    assert series.outcome is Outcome.PERMANENT
    assert "the key is of another kind (WRONGTYPE)" in series.detail
    assert "a time series by redis.timeseries_range" in series.detail
