"""redis.failover against real Sentinels: what is refused, what is done, that it is done once, and what is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from responder.errors import Temporary
from responder.recorded import Outcome, ProbeAnswer
from responder.timing import SECOND
from tests.servers import Certificates
from tests.system.patience import eventually
from tests.system.sentinels import (
    NAME,
    RUNBOOK,
    Serving,
    Watched,
    Writer,
    acted,
    cut_off,
    prepared,
    returning,
    soon_prepared,
    sound,
    step,
    stopped,
    stopping,
)
from tests.system.serving import told


@pytest.fixture(scope="module")
def healthy() -> Iterator[Watched]:
    """A master that works; what a test changes it puts back."""
    with Watched() as watched:
        yield watched


@pytest.fixture
def dying() -> Iterator[Watched]:
    """A master that is dead, and Sentinels that do nothing about it."""
    with Watched() as watched:
        watched.dies()
        yield watched


async def probed(watched: Watched, plan: Any, timeout: str = "300ms") -> ProbeAnswer:
    return (await watched.performer(timeout=timeout).probe("redis.failover", plan, 10 * SECOND)).answer


# --- what is refused --------------------------------------------------------------------------------------------------


async def test_a_healthy_master_is_left_alone(healthy: Watched) -> None:
    plan = await prepared(healthy.performer())
    said = f"no Sentinel calls {healthy.master.address} down, and it says that it is the master"
    assert (plan.nothing_to_do, healthy.told) == (said, 0)


async def test_what_the_sentinels_say_is_read_and_the_master_is_found_through_them(healthy: Watched) -> None:
    performer, address = healthy.performer(), healthy.master.address
    says, info = step("redis.sentinel"), step("redis.info", section="replication", only=["role"])
    said, role = [
        await performer.act(one.action or "", await performer.prepare(RUNBOOK, one, {}), "key", 5 * SECOND)
        for one in (says, info)
    ]
    assert said.output == {
        "master": address, "agree": 3, "total": 3, "down": 0, "quorum": True, "in_progress": False, "epoch": 0,
        "role": "master", "replicas": 2, "sound": True, "silent": {},
    }  # fmt: skip
    assert role.output == {"role": "master"}


async def test_without_a_quorum_it_is_refused(healthy: Watched) -> None:
    for sentinel in healthy.sentinels[1:]:
        sentinel.kill()
    try:
        with pytest.raises(Temporary, match="2 of 3 Sentinels must agree"):
            await prepared(healthy.performer(), planned=True)
    finally:
        for sentinel in healthy.sentinels[1:]:
            sentinel.start()
    # All three answer, and still they could not authorize one by themselves.
    for sentinel in healthy.sentinels:
        with sentinel.client() as client:
            client.sentinel_set(NAME, "quorum", 4)
    with pytest.raises(Temporary, match="NOQUORUM"):
        await prepared(healthy.performer(), planned=True)
    assert healthy.told == 0
    assert healthy.masters == [healthy.master.address]


# --- what is done -----------------------------------------------------------------------------------------------------


async def test_a_dead_master_is_replaced_once_there_is_a_replica(dying: Watched) -> None:
    dying.promotable(0)
    with pytest.raises(Temporary, match="its replica-priority is 0"):
        await prepared(dying.performer())
    dying.promotable(100)
    plan = await prepared(dying.performer())
    assert await probed(dying, plan) is ProbeAnswer.NOT_APPLIED
    ended = await acted(dying.performer(), plan)
    assert ended.outcome is Outcome.OK, ended.detail
    assert await probed(dying, plan) is ProbeAnswer.APPLIED
    # A second one of a master that has just come is refused: its predecessor may be back at any moment.
    with pytest.raises(Temporary, match=r"two are 40s apart|in progress"):
        await prepared(dying.performer(), planned=True)
    assert (dying.told, len(dying.masters)) == (1, 1)


async def test_a_master_that_hangs_is_replaced_and_is_a_replica_when_it_goes_on() -> None:
    """It hangs for longer than `max_lag`, its links still up: the outage is no lag. What a client had sent it is
    acknowledged when it goes on, and lost."""
    with Watched() as watched:
        with stopped(watched.master):
            watched.is_missed()
            eventually("it hangs for 6 s", watched.silent_for, lambda seconds: seconds > 6)
            with watched.replicas[0].client() as replica:
                assert replica.info("replication")["master_link_status"] == "up"
            plan = await soon_prepared(watched, max_lag="3s")
            with socket.create_connection(("127.0.0.1", watched.master.port), 20) as late:
                late.sendall(b"SET late 1\r\n")
                ended = await acted(watched.performer(), plan)
                assert ended.outcome is Outcome.OK, ended.detail
                (new,) = set(watched.named())
                os.kill(watched.master.pid, signal.SIGCONT)
                assert late.recv(100) == b"+OK\r\n"
        eventually("the old one follows", lambda: watched.masters, lambda masters: masters == [new])
        assert watched.told == 1
        assert (await sound(watched))["agree"] == 3


async def test_a_master_that_comes_back_in_the_middle_becomes_a_replica(dying: Watched) -> None:
    plan = await prepared(dying.performer())
    ended = await acted(dying.performer(opener=returning(dying)), plan)
    assert ended.outcome is Outcome.OK, ended.detail
    assert (dying.told, dying.masters) == (1, [str(ended.output["address"])])  # type: ignore[index, call-overload]
    said = await sound(dying)
    assert (said["agree"], said["replicas"]) == (3, 2)
    assert (await prepared(dying.performer())).nothing_to_do is not None


async def test_a_master_that_we_alone_do_not_reach_is_replaced_only_once_it_is_a_replica() -> None:
    """Until the Sentinels have told it, about ten seconds, it takes writes that are lost."""
    with Watched() as watched:
        plan = await prepared(watched.performer(), planned=True)
        ended = await acted(watched.performer(opener=cut_off(watched)), plan)
        assert (ended.outcome, watched.masters) == (Outcome.OK, list(set(watched.named()))), ended.detail
        with watched.master.client() as client:
            assert client.role()[0] == "slave"
        assert watched.told == 1


async def test_a_master_that_came_back_before_is_not_replaced(dying: Watched) -> None:
    plan = await prepared(dying.performer())
    dying.master.start()
    eventually("nobody calls it down", dying.seen, lambda seen: not any("down" in one["flags"] for one in seen))
    ended = await acted(dying.performer(), plan)
    assert (ended.outcome, dying.told) == (Outcome.OK, 0), ended.detail
    assert f"nothing to do: no Sentinel calls {dying.master.address} down" in ended.detail


async def test_two_at_once_make_one_failover(dying: Watched) -> None:
    one, other = dying.performer(), dying.performer()
    plans = await asyncio.gather(prepared(one), prepared(other))
    ended = await asyncio.gather(acted(one, plans[0]), acted(other, plans[1]))
    assert sorted(e.outcome for e in ended) == [Outcome.OK, Outcome.TEMPORARY], [e.detail for e in ended]
    assert "in progress" in next(e.detail for e in ended if e.outcome is Outcome.TEMPORARY)
    dying.settles()
    assert (dying.told, len(dying.masters)) == (1, 1)
    assert {seen["config-epoch"] for seen in dying.seen()} == {dying.seen()[0]["config-epoch"]}


async def test_a_sentinel_that_stops_when_it_is_told_is_not_told_again(dying: Watched) -> None:
    """The answer is lost while the command waits in its buffer, so nobody may say that nothing happened."""
    plan = await prepared(dying.performer())
    first = dying.sentinels[0]
    ended = await acted(dying.performer(opener=stopping(first), timeout="300ms"), plan)
    try:
        assert ended.outcome is Outcome.UNKNOWN, ended.detail
        assert (await probed(dying, plan), dying.told) == (ProbeAnswer.UNCLEAR, 0)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    answer = ProbeAnswer.UNCLEAR
    for _ in range(100):
        answer = await probed(dying, plan)
        if answer is not ProbeAnswer.UNCLEAR:
            break
        await asyncio.sleep(0.2)
    assert (answer, dying.told) == (ProbeAnswer.APPLIED, 1), "it read what waited, and it happened"


def test_a_responder_that_is_killed_meanwhile_finds_out_and_does_it_once(dying: Watched) -> None:
    with Serving(dying) as serving:
        serving.fires()
        eventually("a Sentinel is told", lambda: dying.told, lambda count: count == 1)
        serving.kill()
        serving.start()
        incident = eventually("it is over", serving.incident, lambda seen: bool(seen) and seen["result"] is not None)
        assert incident["result"] == "fixed", told(incident)
        assert "it happened" in told(incident)
    assert (dying.told, len(dying.masters)) == (1, 1)


# --- TLS --------------------------------------------------------------------------------------------------------------


async def test_over_tls_with_certificates_of_both_sides_a_group_is_read_and_failed_over(tmp_path: Path) -> None:
    """Everybody asks everybody for a certificate, as Redis does unless it is told otherwise."""
    with Watched(Certificates.made(tmp_path)) as watched:
        assert (await sound(watched))["replicas"] == 2
        with pytest.raises(Temporary, match=r"2 of 3 Sentinels must agree: none answers"):
            await prepared(watched.performer(client_certificate=None))
        watched.dies()
        ended = await acted(watched.performer(), await soon_prepared(watched))
        assert ended.outcome is Outcome.OK, ended.detail
        assert (watched.told, watched.masters) == (1, [str(ended.output["address"])])  # type: ignore[index, call-overload]


# --- what is lost -----------------------------------------------------------------------------------------------------


async def test_a_master_that_dies_takes_with_it_what_it_had_not_sent() -> None:
    with Watched() as watched, Writer(watched) as writer:
        watched.dies()
        before = len(writer.acknowledged)
        ended = await acted(watched.performer(), await prepared(watched.performer()))
        assert ended.outcome is Outcome.OK, ended.detail
        eventually("it writes again", lambda: len(writer.acknowledged), lambda count: count > before + 25)
        lost = writer.stopped()
        sys.stdout.write(f"\nlost {len(lost)} of {len(writer.acknowledged)} acknowledged, {writer.errors} errors")
        assert all(number in writer.acknowledged[:before] for number in lost)


async def test_a_planned_failover_loses_what_the_old_master_still_accepts() -> None:
    with Watched() as watched, Writer(watched) as writer:
        plan = await prepared(watched.performer(), planned=True)
        assert "what the old master accepts until it is told is lost as well" in plan.preview
        ended = await acted(watched.performer(), plan)
        assert ended.outcome is Outcome.OK, ended.detail
        there = len(writer.acknowledged)
        eventually("it goes on", lambda: len(writer.acknowledged), lambda count: count > there + 25)
        lost = writer.stopped()
        sys.stdout.write(f"\nlost {len(lost)} of {len(writer.acknowledged)} acknowledged, {writer.errors} errors")
        # One stretch, which ends when the old master is told: nothing is lost any more when the step says done.
        assert lost == list(range(lost[0], lost[-1] + 1)) if lost else True
        assert not set(lost) & set(writer.acknowledged[there:])
        assert (watched.told, len(watched.masters)) == (1, 1)
