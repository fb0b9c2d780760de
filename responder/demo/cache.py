"""The demo's Redis: a real redis-server where there is one, with something in it to find; else none, and it is said.

The responder reads it as the user that the shipped example names, with no more rights than stand there.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from responder.demo.prometheus import START_SECONDS, find_binary, free_port
from responder.demo.redis_processes import client_of, comes_true, log_of, started, stopped
from responder.demo.scenario import READS_REDIS, Scenario
from responder.errors import Permanent

if TYPE_CHECKING:
    from redis.asyncio import Redis

RIGHTS: Final = "resetkeys ~* -@all +xrevrange +hlen +hgetall +info +slowlog|get +latency|history +client|list"
"""Those of `_responder.example.yaml`."""
SLOW: Final = "local n = 0 for i = 1, 1500000 do n = n + i end return n"
"""A script of some ten milliseconds: it stands for a time-series query over too long a range."""
SLOW_COMMANDS: Final = 6
MODELS: Final = ("lstm", "tcn")


@dataclass(frozen=True, slots=True)
class Cache:
    """Where the demo's Redis is going to be; `binary` is None without one. `passwords`: the responder's, the demo's."""

    folder: Path
    binary: Path | None
    port: int
    passwords: tuple[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        """Its address; nobody listens there without a binary."""
        return f"redis://127.0.0.1:{self.port}"


def planned_cache(folder: Path, scenario: Scenario, passwords: tuple[str, str], *, built_in: bool) -> Cache:
    """A real one when the story reads it, a binary is found and `built_in` is not wanted."""
    wanted = scenario in READS_REDIS and not built_in
    return Cache(folder / "redis", find_binary("redis") if wanted else None, free_port(), passwords)


@contextlib.asynccontextmanager
async def caching(plan: Cache, scenario: Scenario) -> AsyncIterator[None]:
    """Runs it, filled for the story, for as long as the block lasts. Raises Permanent when it does not start."""
    if plan.binary is None:
        yield
        return
    plan.folder.mkdir(parents=True, exist_ok=True)
    process = await started(plan.binary, plan.folder, plan.port, _lines(plan))
    try:
        async with client_of(plan.port, plan.passwords[1], START_SECONDS) as client:
            if not await comes_true(client.ping, [process]):
                raise _silent(plan)
            await _fill(client, scenario)
        yield
    finally:
        await stopped([process])


def _lines(plan: Cache) -> Iterator[str]:
    theirs, ours = plan.passwords
    yield from ('save ""', "appendonly no", "slowlog-log-slower-than 5000", "latency-monitor-threshold 5")
    yield f"user default on >{ours} ~* &* +@all"
    yield f"user responder on >{theirs} {RIGHTS}"


def _silent(plan: Cache) -> Permanent:
    said = " | ".join(log_of(plan.folder, plan.port).read_text(errors="replace").strip().splitlines()[-3:])
    return Permanent(
        f"redis-server did not start; it said: {said}\nmend it, or do without it: responder demo --built-in"
    )


async def _fill(client: Redis, scenario: Scenario) -> None:
    """What the story's evidence finds: switches that go to and fro between two models, or slow commands."""
    if scenario is Scenario.MODEL_SWITCHING:
        for number in range(20):
            before, after = MODELS if number % 2 else MODELS[::-1]
            symbol = ("BTC-USD", "ETH-USD")[number % 5 == 0]
            await client.xadd("model.switch.log", {"symbol": symbol, "from": before, "to": after, "ms": "40"})
    else:
        for _ in range(SLOW_COMMANDS):
            await client.eval(SLOW, 1, "ts:var_pct:BTC-USD")
