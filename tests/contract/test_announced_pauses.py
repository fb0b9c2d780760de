"""A pause that ends by itself is announced like one that a person ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

from responder.app import App
from responder.records import ScopeRow, Writes
from responder.scopes import PAUSE, Pause, pause_name
from responder.timing import HOUR, SECOND
from tests.contract.announcing_parts import Puts, announcing, without_time
from tests.contract.app_parts import Time, built


async def paused(app: App, time: Time, scope: str, until: int | None) -> None:
    body = Pause(paused=True, actor="anna", at=time.now, reason="a drill", until=until).model_dump_json()
    await app.desk.store.submit(Puts(app.desk.new_id(), Writes(scopes=(ScopeRow(scope, body, time.now),))))


async def test_a_pause_that_runs_out_is_told_once_among_replicas(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app, announcing(app) as (one, chat), announcing(app) as (other, second):
        for announcer in (one, other):
            await announcer.begin("1", "auto", 0)
            await announcer.watch(time.now)
        await paused(app, time, PAUSE, time.now + HOUR)
        await paused(app, time, pause_name("runbook", "cut"), None)
        await asyncio.gather(one.watch(time.now), other.watch(time.now))
        assert len(chat._said) + len(second._said) == 4, "two starts, two pauses"
        for _ in range(2):
            time.now += HOUR
            await asyncio.gather(one.watch(time.now), other.watch(time.now))
        await asyncio.gather(one.stop(), other.stop())
        told = [line for line in without_time(chat._said + second._said) if "run out" in line]
        assert told == ["Responder responder: automation acts again: the pause by anna has run out: a drill"]


async def test_a_pause_that_runs_out_and_is_set_again_is_told_each_time(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app, announcing(app) as (announcer, chat):
        await announcer.begin("1", "auto", 0)
        await announcer.watch(time.now)
        for _ in range(2):
            await paused(app, time, PAUSE, time.now + 60 * SECOND)
            await announcer.watch(time.now)
            time.now += 60 * SECOND
            await announcer.watch(time.now)
        await announcer.stop()
        said = [line.split(": ")[1].split(" until")[0] for line in without_time(chat._said[1:])]
        assert said == ["anna has paused automation", "automation acts again"] * 2
