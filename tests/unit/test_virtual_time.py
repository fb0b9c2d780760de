"""Time moves only when nothing can run, and then exactly to what comes next."""

from __future__ import annotations

import asyncio

import pytest

from responder.simulate import sleep
from responder.timing import HOUR, SECOND
from responder.virtual_time import Stuck, VirtualClock, run_virtually

T0 = 1_795_183_200 * SECOND


def test_an_hour_passes_in_a_moment() -> None:
    clock = VirtualClock(T0)
    run_virtually(clock, sleep(3600))
    assert 0 <= clock() - T0 - HOUR <= 2


def test_what_is_due_first_comes_first() -> None:
    clock, came = VirtualClock(T0), []

    async def waits(seconds: float) -> None:
        await sleep(seconds)
        came.append((seconds, (clock() - T0) // SECOND))

    async def all_of_them() -> None:
        await asyncio.gather(*(waits(seconds) for seconds in (30, 5, 60, 5.5)))

    run_virtually(clock, all_of_them())
    assert came == [(5, 5), (5.5, 5), (30, 30), (60, 60)]


def test_while_something_can_run_no_time_passes() -> None:
    clock = VirtualClock(T0)

    async def busy() -> None:
        for _ in range(1000):
            await sleep(0)

    run_virtually(clock, busy())
    assert clock() == T0


def test_waiting_for_what_cannot_come_is_an_error() -> None:
    async def never() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Stuck, match="no time was set"):
        run_virtually(VirtualClock(T0), never())


def test_what_is_left_is_cancelled() -> None:
    ended = []

    async def lasting() -> None:
        try:
            await sleep(1e6)
        finally:
            ended.append(True)

    async def begins() -> None:
        task = asyncio.get_running_loop().create_task(lasting())
        await sleep(1)
        assert not task.done()

    run_virtually(VirtualClock(T0), begins())
    assert ended == [True]


def test_a_moment_is_rounded_up_so_that_nothing_is_early() -> None:
    clock = VirtualClock(T0)
    clock.move(1e-9)
    assert clock() == T0 + 1
