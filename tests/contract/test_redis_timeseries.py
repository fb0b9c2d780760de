"""`redis.timeseries_range`: the module's replies, as tests/system/test_time_series.py has seen them, and a real server
without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from redis.exceptions import ResponseError

from responder.actions import ACTIONS
from responder.connections import Connections, Openers, open_transport
from responder.perform import Ended, Performer
from responder.recorded import Outcome
from responder.redis_connections import LibraryWire, OpenWire
from responder.runbook import Runbook, Step
from responder.services import RedisService
from responder.timing import SECOND
from tests.servers import Redis

NOW = 1_795_000_000 * SECOND
RUNBOOK = Runbook(runbook="var-breach", title="VaR is high", target="risk")
HOUR = f"TS.RANGE var_pct:BTC-USD {NOW // 1000 - 3_600_000} {NOW // 1000 + 3_600_000} COUNT 25 AGGREGATION max 300000"
ASKED: Mapping[str, Any] = {"key": "var_pct:BTC-USD", "last": "1h", "samples": 12, "aggregate": "max"}


def answering(replies: Mapping[str, Any]) -> OpenWire:
    """A server that knows these commands, and no other."""

    class Wire(LibraryWire):
        async def connect(self) -> None:
            pass

        async def ask(self, words: tuple[str, ...]) -> Any:
            reply = replies[" ".join(words)]
            if isinstance(reply, Exception):
                raise reply
            return reply

        async def close(self) -> None:
            pass

    return Wire


async def read(opener: OpenWire, url: str = "redis://redis", **with_: Any) -> Ended:
    async def no_wait(_seconds: float) -> None:
        raise AssertionError("no reader waits")

    connections = Connections({"cache": RedisService(url=url)}, open_transport, Openers(redis=opener))
    performer = Performer(ACTIONS, connections.connect, {}, lambda: NOW, no_wait)
    given = {"id": "it", "action": "redis.timeseries_range", "with": {"service": "cache", **with_}}
    plan = await performer.prepare(RUNBOOK, Step.model_validate(given), {})
    return await performer.act("redis.timeseries_range", plan, "key", 5 * SECOND)


async def test_the_time_is_drawn_together_on_the_server_and_bounded() -> None:
    at = NOW // 1000 - 600_000
    reply = [[at, b"1.86"], [at + 300_000, b"2.130000000000000001"], [at + 600_000, b"1e-05"]]
    ended = await read(answering({HOUR: reply}), **ASKED)
    assert ended.outcome is Outcome.OK, ended.detail
    assert ended.output == {
        "latest": 1e-05,
        "least": 1e-05,
        "most": 2.13,
        "samples": [
            {"at": at / 1000, "value": 1.86},
            {"at": at / 1000 + 300, "value": 2.13},
            {"at": at / 1000 + 600, "value": 1e-05},
        ],
    }


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ([], "has no sample of the last 1h: look whether its writer runs"),
        ([[1, b"NaN"]], "has no sample of the last 1h"),
        (ResponseError("TSDB: the key does not exist"), "there is no series var_pct:BTC-USD"),
    ],
)
async def test_what_is_not_there_is_missing_and_never_zero(reply: Any, said: str) -> None:
    ended = await read(answering({HOUR: reply}), **ASKED)
    assert (ended.outcome, ended.output) == (Outcome.TEMPORARY, None)
    assert said in ended.detail


async def test_another_refusal_is_told_as_it_stands() -> None:
    refused = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
    ended = await read(answering({HOUR: refused}), **ASKED)
    assert ended.outcome is Outcome.PERMANENT
    assert "WRONGTYPE" in ended.detail


async def test_a_server_without_the_module_says_what_to_do() -> None:
    with Redis() as server:
        ended = await read(LibraryWire, server.url, key="var_pct:BTC-USD")
    assert ended.outcome is Outcome.PERMANENT
    assert "no time series: load RedisTimeSeries" in ended.detail


@pytest.mark.parametrize("wrong", [{"last": "8d"}, {"last": "0s"}, {"samples": 101}, {"aggregate": "twa; FLUSHALL"}])
async def test_more_than_the_bounds_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ACTIONS["redis.timeseries_range"].model_validate({"service": "cache", "key": "k", **wrong})
