"""One demo from beginning to end: starts everything, breaks the market, tells what happens, stops everything.

Everything lives on loopback ports that were free, in a folder of its own, and ends with the block that started it,
whatever ends it. The responder itself is handed in: this package stands below the one place that builds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from socket import socket

import httpx

from responder.contracts import Clock
from responder.demo import hosting, monitoring
from responder.demo.ending import Course
from responder.demo.installation import Addresses, Installation, installed, write_config
from responder.demo.monitoring import GET_THE_REAL_ONES, Monitoring, Watched
from responder.demo.observer import Observer, Seen, news
from responder.demo.platform import PlatformSettings, create_platform
from responder.demo.scaled_rules import LADDER_SCALE, SCALE
from responder.demo.scenario import STRESS, Scenario
from responder.errors import Permanent
from responder.timing import format_time

LONGEST = 52.0
"""Seconds from the start until what is still open is judged as it is; stopping takes the rest of the minute."""
LOOK_EVERY = 0.2
LAG = 0.5
"""Seconds by which the platform's VaR lags: short, as everything in the demo."""

Respond = Callable[[Path, socket], AbstractAsyncContextManager[None]]
"""Runs the responder of a configuration file on a listening socket, for as long as the block lasts."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What one demo plays: `folder` is empty, `say` shows a line, `clock` gives µs since the epoch."""

    scenario: Scenario
    folder: Path
    built_in: bool
    say: Callable[[str], None]
    clock: Clock


@dataclass(frozen=True, slots=True)
class _Scene:
    """Everything that has been started."""

    platform: httpx.AsyncClient
    observer: Observer


async def play(stage: Stage, respond: Respond) -> Course:
    """Plays the scenario, at most `LONGEST` seconds, and tells what was seen. Raises Permanent, BadConfig, BadRules."""
    ends = time.monotonic() + LONGEST
    async with _started(stage, respond) as scene:
        before = await scene.observer.look()
        await _break(stage, scene, before)
        return await _watch(stage, scene, before, ends)


@contextlib.asynccontextmanager
async def _started(stage: Stage, respond: Respond) -> AsyncIterator[_Scene]:
    installation = installed(stage.folder)
    platform, responder = hosting.bound(), hosting.bound()
    plan = monitoring.planned(stage.folder, built_in=stage.built_in)
    addresses = Addresses(
        hosting.address_of(responder), hosting.url_of(platform), plan.metrics_url, plan.alertmanager_url
    )
    write_config(installation, addresses)
    for line in _cast(plan, addresses):
        stage.say(line)
    watched = Watched(hosting.address_of(platform), addresses.listen, installation.webhook_token_file)
    settings = PlatformSettings(token=installation.tokens.platform, time_constant=LAG)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(hosting.hosted(create_platform(settings, time.monotonic), platform))
        await stack.enter_async_context(respond(installation.config, responder))
        await stack.enter_async_context(monitoring.watching(plan, watched, stage.clock))
        stage.say(f"{_stamp(stage)} demo: everything is up")
        yield await _scene(stack, installation, addresses)


async def _scene(stack: contextlib.AsyncExitStack, installation: Installation, addresses: Addresses) -> _Scene:
    def client(url: str, token: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.AsyncClient(base_url=url, headers=headers, trust_env=False)

    tokens = installation.tokens
    platform = await stack.enter_async_context(client(addresses.platform, tokens.platform))
    responder = await stack.enter_async_context(client(f"http://{addresses.listen}", tokens.person))
    return _Scene(platform, Observer(platform, responder))


def _cast(plan: Monitoring, addresses: Addresses) -> list[str]:
    """Who takes part, where, and what is not as in production."""
    watching = [f"  Prometheus    {plan.metrics_url}", f"  Alertmanager  {plan.alertmanager_url}"]
    if plan.binaries is None:
        watching = [
            f"  evaluator     {plan.metrics_url}  (built in, instead of Prometheus and",
            "                Alertmanager; it posts the same notifications). For the real ones:",
            f"                {GET_THE_REAL_ONES}",
        ]
    return [
        f"  platform      {addresses.platform}  (Kelly fraction, VaR, changes)",
        *watching,
        f"  responder     http://{addresses.listen}  (SQLite, the shipped rules of edge-risk)",
        f"Times are scaled 1:{SCALE} (2 minutes are 6 seconds), the levels of escalation 1:{LADDER_SCALE}.",
        "Slack channels and pagers are lines on this screen; nobody is really paged.",
        "",
    ]


async def _break(stage: Stage, scene: _Scene, before: Seen) -> None:
    stress = STRESS[stage.scenario]
    answer = await scene.platform.post("/demo/stress", json=stress.model_dump())
    if answer.status_code != 200:
        raise Permanent(f"the demo's platform refuses to be broken ({answer.status_code}): {answer.text}")
    stage.say(
        f"{_stamp(stage)} demo: VaR is {before.var_pct:.2f} %. Now the market gets {stress.factor:g} times as risky"
    )
    if not stress.responds:
        stage.say(f"{_stamp(stage)} demo: and this time a smaller Kelly fraction will not help")


async def _watch(stage: Stage, scene: _Scene, before: Seen, ends: float) -> Course:
    broke_at, worst, last = stage.clock(), before.var_pct, before
    while True:
        seen = await scene.observer.look()
        for line in news(last, seen):
            stage.say(f"{_stamp(stage)} platform: {line}")
        worst, last = max(worst, seen.var_pct), seen
        if seen.over or time.monotonic() >= ends:
            return Course(stage.scenario, before, worst, last, broke_at)
        await asyncio.sleep(LOOK_EVERY)


def _stamp(stage: Stage) -> str:
    return format_time(stage.clock())[11:19]
