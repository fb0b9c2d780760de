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
from responder.demo.cache import Cache, caching, planned_cache
from responder.demo.ending import Course
from responder.demo.imagined import ON_CALL, RISK_MANAGER, Imagined, Wished, wishes_reload
from responder.demo.installation import Addresses, Tokens, installed, write_config
from responder.demo.monitoring import GET_THE_REAL_ONES, Monitoring, Watched
from responder.demo.observer import Observer, Seen, news
from responder.demo.platform import PlatformSettings, Stress, create_platform
from responder.demo.scaled_rules import LADDER_SCALE, SCALE
from responder.demo.scenario import BREAKS, READS_REDIS, STRESS, Scenario
from responder.errors import Permanent
from responder.timing import format_time

LONGEST = 52.0
"""Seconds from the start until what is still open is judged as it is; stopping takes the rest of the minute."""
LOOK_EVERY = 0.2
HIGH_PCT, CALM_PCT = 1.6, 1.3
"""When VaR counts as high and as calm in the story of the hot reload, with room for its wobble."""
MEASURED = 1.5
"""Seconds after which what is so at the platform has been scraped."""
REFUSED = 409
GET_REDIS = "apt install redis-server, or `make servers` in a checkout"
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
    people: Imagined
    redis: bool


async def play(stage: Stage, respond: Respond) -> Course:
    """Plays the scenario, at most `LONGEST` seconds, and tells what was seen. Raises Permanent, BadConfig, BadRules."""
    ends = time.monotonic() + LONGEST
    async with _started(stage, respond) as scene:
        before = await scene.observer.look()
        await _break(stage, scene, before)
        if stage.scenario is Scenario.HOT_RELOAD_REFUSED:
            return await _refused(stage, scene, before, ends)
        return await _watch(stage, scene, before, ends)


@contextlib.asynccontextmanager
async def _started(stage: Stage, respond: Respond) -> AsyncIterator[_Scene]:
    installation = installed(stage.folder)
    platform, responder = hosting.bound(), hosting.bound()
    plan = monitoring.planned(stage.folder, built_in=stage.built_in)
    tokens = installation.tokens
    cache = planned_cache(stage.folder, stage.scenario, (tokens.cache, tokens.cache_owner), built_in=stage.built_in)
    addresses = Addresses(
        hosting.address_of(responder), hosting.url_of(platform), plan.metrics_url, cache.url, plan.alertmanager_url
    )
    write_config(installation, addresses)
    for line in _cast(plan, addresses, _cache_line(stage, cache)):
        stage.say(line)
    watched = Watched(hosting.address_of(platform), addresses.listen, installation.webhook_token_file)
    settings = PlatformSettings(token=tokens.platform, time_constant=LAG)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(hosting.hosted(create_platform(settings, time.monotonic), platform))
        await stack.enter_async_context(caching(cache, stage.scenario))
        await stack.enter_async_context(respond(installation.config, responder))
        await stack.enter_async_context(monitoring.watching(plan, watched, stage.clock))
        stage.say(f"{stamp(stage)} demo: everything is up")
        yield await _scene(stack, stage, tokens, addresses, redis=cache.binary is not None)


async def _scene(
    stack: contextlib.AsyncExitStack, stage: Stage, tokens: Tokens, addresses: Addresses, *, redis: bool
) -> _Scene:
    async def client(url: str, token: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"}
        return await stack.enter_async_context(httpx.AsyncClient(base_url=url, headers=headers, trust_env=False))

    responder = f"http://{addresses.listen}"
    platform = await client(addresses.platform, tokens.platform)
    people = {
        ON_CALL: await client(responder, tokens.on_call),
        RISK_MANAGER: await client(responder, tokens.risk_manager),
    }
    imagined = Imagined(people, lambda line: stage.say(f"{stamp(stage)} {line}"))
    return _Scene(platform, Observer(platform, await client(responder, tokens.person)), imagined, redis)


def _cache_line(stage: Stage, cache: Cache) -> list[str]:
    """Where Redis is, where the story reads it."""
    if stage.scenario not in READS_REDIS:
        return []
    if cache.binary is not None:
        return [f"  Redis         {cache.url}  (a real one, with something to find)"]
    return [
        "  Redis         not here, so what is read of it is not to be had. For a real one:",
        f"                {GET_REDIS}",
    ]


def _cast(plan: Monitoring, addresses: Addresses, cache: list[str]) -> list[str]:
    """Who takes part, where, and what is not as in production."""
    return [
        f"  platform      {addresses.platform}  (Kelly fraction, VaR, changes)",
        *evaluating(plan),
        *cache,
        f"  responder     http://{addresses.listen}  (SQLite, the shipped rules of edge-risk)",
        f"Times are scaled 1:{SCALE} (2 minutes are 6 seconds), the levels of escalation 1:{LADDER_SCALE}.",
        "Slack channels and pagers are lines on this screen; nobody is really paged, and",
        "people who answer are called imagined-….",
        "",
    ]


def evaluating(plan: Monitoring) -> list[str]:
    """What raises the alerts, and where."""
    if plan.binaries is not None:
        return [f"  Prometheus    {plan.metrics_url}", f"  Alertmanager  {plan.alertmanager_url}"]
    return [
        f"  evaluator     {plan.metrics_url}  (built in, instead of Prometheus and",
        "                Alertmanager; it posts the same notifications). For the real ones:",
        f"                {GET_THE_REAL_ONES}",
    ]


async def _break(stage: Stage, scene: _Scene, before: Seen) -> None:
    stress = STRESS[stage.scenario]
    await _stress(scene, stress)
    stage.say(f"{stamp(stage)} demo: VaR is {before.var_pct:.2f} %. {BREAKS[stage.scenario]}")
    if not stress.responds:
        stage.say(f"{stamp(stage)} demo: and this time a smaller Kelly fraction will not help")


async def _stress(scene: _Scene, stress: Stress) -> None:
    answer = await scene.platform.post("/demo/stress", json=stress.model_dump())
    if answer.status_code != 200:
        raise Permanent(f"the demo's platform refuses to be changed ({answer.status_code}): {answer.text}")


async def _watch(stage: Stage, scene: _Scene, before: Seen, ends: float) -> Course:
    broke_at, worst, last = stage.clock(), before.var_pct, before
    while True:
        seen = await _looked(stage, scene, last)
        worst, last = max(worst, seen.var_pct), seen
        for answer in await scene.people.answer(seen, time.monotonic()):
            if answer.verb == "done":
                await _stress(scene, Stress())  # what was done by hand has helped
        if seen.over or time.monotonic() >= ends:
            return Course(stage.scenario, before, worst, last, broke_at, redis=scene.redis)
        await asyncio.sleep(LOOK_EVERY)


async def _looked(stage: Stage, scene: _Scene, last: Seen) -> Seen:
    """A look, and the news since the last one."""
    seen = await scene.observer.look()
    for line in news(last, seen):
        stage.say(f"{stamp(stage)} platform: {line}")
    return seen


async def _refused(stage: Stage, scene: _Scene, before: Seen, ends: float) -> Course:
    """Somebody asks for a hot reload while VaR is high, wants it all the same, and asks again in a calm market."""
    broke_at, client = stage.clock(), scene.people.clients[ON_CALL]
    high = await _until(stage, scene, before, lambda seen: seen.var_pct > HIGH_PCT, ends)
    wished = [await _wished(stage, client, high, tries=True)]
    stage.say(f"{stamp(stage)} demo: Now the market calms down")
    await _stress(scene, Stress())
    calm = await _until(stage, scene, high, lambda seen: seen.var_pct < CALM_PCT, ends)
    wished.append(await _wished(stage, client, calm, tries=False))
    last = await scene.observer.look()
    return Course(stage.scenario, before, high.var_pct, last, broke_at, tuple(wished))


async def _until(stage: Stage, scene: _Scene, last: Seen, holds: Callable[[Seen], bool], ends: float) -> Seen:
    """The look at which it holds, once what is seen has been measured, too."""
    while not holds(last) and time.monotonic() < ends:
        await asyncio.sleep(LOOK_EVERY)
        last = await _looked(stage, scene, last)
    await asyncio.sleep(MEASURED)
    return await _looked(stage, scene, last)


async def _wished(stage: Stage, client: httpx.AsyncClient, seen: Seen, *, tries: bool) -> Wished:
    asks = "wants a hot reload of risk_harmoniser" if tries else "asks for the plan of the same reload again"
    stage.say(f"{stamp(stage)} {ON_CALL}: VaR is {seen.var_pct:.2f} %; {asks}")
    wished = await wishes_reload(client, seen.var_pct, tries=tries)
    for reason in wished.refused:
        stage.say(f"{stamp(stage)} responder: refused: {reason}")
    if wished.goes_ahead:
        stage.say(f"{stamp(stage)} responder: it would go ahead. (The demo leaves it at that)")
    if wished.status is not None:
        stage.say(f"{stamp(stage)} {ON_CALL}: tries to begin it all the same")
        said = "not begun, nothing was changed" if wished.status == REFUSED else "this went wrong"
        stage.say(f"{stamp(stage)} responder: answered {wished.status}: {said}")
    return wished


def stamp(stage: Stage) -> str:
    """The time of day, as every line of the timeline begins."""
    return format_time(stage.clock())[11:19]
