"""redis.failover against real Sentinels: what is refused, what is done, and that it is done once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from responder.errors import Permanent, Temporary
from responder.recorded import Outcome, ProbeAnswer
from responder.timing import SECOND
from tests.system.sentinels import Watched, acted, prepared


@pytest.fixture(scope="module")
def healthy() -> Iterator[Watched]:
    """A master that works; no test changes it."""
    with Watched() as watched:
        yield watched


async def test_a_healthy_master_is_refused(healthy: Watched) -> None:
    with pytest.raises(Permanent, match=r"nothing was sent: the master 127.0.0.1:\d+ is up for every Sentinel"):
        await prepared(healthy.performer())
    assert healthy.told == 0


async def test_a_dead_master_is_replaced_once() -> None:
    with Watched(promotable=False) as watched:
        watched.dies()
        with pytest.raises(Temporary, match="its replica-priority is 0"):
            await prepared(watched.performer())
        watched.allow()
        performer = watched.performer()
        plan = await prepared(performer)
        assert (await performer.probe("redis.failover", plan, 10 * SECOND)).answer is ProbeAnswer.NOT_APPLIED
        ended = await acted(performer, plan)
        assert ended.outcome is Outcome.OK, ended.detail
        assert watched.told == 1
        assert (await performer.probe("redis.failover", plan, 10 * SECOND)).answer is ProbeAnswer.APPLIED
