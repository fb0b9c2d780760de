"""C9, as continuous integration runs it; and that its judge notices what it is there for."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from responder import connections
from responder.actions import ACTIONS
from responder.actions.parameter import ParameterReduce
from responder.actions.postgres_changes import PostgresPromote
from responder.connections import HttpConnection
from responder.contracts import Context, Probe
from responder.errors import Temporary, Unknown
from responder.http_calls import HttpAnswer, HttpCall
from responder.last_look import Clear, always_clear
from responder.perform import Ended, Performer
from responder.recorded import Outcome, Plan, ProbeAnswer
from responder.redis_connections import RedisCall, RedisConnection
from responder.redis_replies import Reply
from tests.campaigns import network
from tests.campaigns.network import SLOWEST, Campaign, Case, Played
from tests.campaigns.network_faults import FAULTS, TIMEOUT
from tests.campaigns.network_scenes import SUBJECTS, Ground
from tests.provision import find

LOST, REFUSED = "reset after the request", "reset before the request"


# httpcore 1.0.9 leaves the socket of a TLS handshake that is cancelled to the collector, which warns:
# its `start_tls` closes the stream upon `Exception` alone.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """The warning comes here, where it is looked over, not in whichever test runs next."""
    yield
    gc.collect()


def test_no_fault_makes_a_change_twice_or_a_word_untrue() -> None:
    for program in ("redis-server", "redis-sentinel", "postgres"):
        find(program)
    cases = network.ROUNDS * len(SUBJECTS)
    tally = network.batch(range(1, 1 + cases))
    assert tally.failures == []
    assert tally.counts["cases"] == cases
    assert tally.counts["faults struck"] > cases * 0.4
    assert min(tally.counts[outcome] for outcome in ("ok", "temporary", "permanent", "unknown")) > cases // 100


def test_every_action_on_a_service_is_played() -> None:
    elsewhere = {
        "command.run": "no network",
        "redis.timeseries_range": "no such module in Debian's Redis",
        "wait": "no service",
    }
    assert {one.member.action for one in SUBJECTS.values()} == set(ACTIONS) - set(elsewhere)


async def _one(subject: str, fault: str, at: int) -> Played:
    found = next(one for one in FAULTS["http"] if one.name == fault)
    async with Ground(frozenset()) as ground:
        campaign = Campaign(ground, SLOWEST)  # of a reset, so it takes no longer
        number = list(SUBJECTS).index(subject)
        await campaign.cases([number])
        return await campaign.play(Case(number, SUBJECTS[subject], found, at, lasts=False, lasting=False))


@pytest.mark.parametrize(
    ("subject", "at"),
    [
        ("unsafe", 1), ("probed", 2), ("keyed", 1), ("reduce", 3), ("silence", 3), ("scale", 6), ("failover", 21),
        ("promote", 8), ("promote, one of two", 11),
    ],
)  # fmt: skip
async def test_a_lost_answer_is_unknown_and_what_is_well_is_told_so(subject: str, at: int) -> None:
    played = await _one(subject, LOST, at)
    assert (played.outcome, played.wrong, played.struck) == ("unknown", [], True)


@pytest.mark.parametrize("subject", ["Patroni, failover", "Patroni, switchover"])
async def test_whatever_patroni_answers_the_server_itself_is_looked_at(subject: str) -> None:
    played = await _one(subject, LOST, 2)
    assert (played.outcome, played.wrong, played.struck) == ("ok", [], True)


# --- the judge itself -------------------------------------------------------------------------------------------------


async def test_who_calls_a_lost_answer_temporary_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_failure", lambda _error, _call, place: Temporary(f"{place}: lost"))
    played = await _one("unsafe", LOST, 1)
    assert any("says temporary although it was done" in said for said in played.wrong)
    assert "done 2 times" in played.wrong


async def test_who_sends_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    once = HttpConnection.send

    async def twice(self: HttpConnection, call: HttpCall, timeout: float, clear: Clear = always_clear) -> HttpAnswer:
        try:
            return await once(self, call, timeout, clear)
        except Unknown:
            return await once(self, call, timeout, clear)

    monkeypatch.setattr(HttpConnection, "send", twice)
    played = await _one("unsafe", LOST, 1)
    assert "2 changes were sent by one attempt" in played.wrong


async def test_who_tells_a_sentinel_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    once = RedisConnection.send

    async def twice(self: RedisConnection, call: RedisCall, timeout: float, clear: Clear = always_clear) -> Reply:
        try:
            return await once(self, call, timeout, clear)
        except Unknown:
            return await once(self, call, timeout, clear)

    monkeypatch.setattr(RedisConnection, "send", twice)
    played = await _one("failover", LOST, 21)
    assert "2 changes were sent by one attempt" in played.wrong


async def test_who_says_of_a_standby_that_nothing_will_come_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hasty(_self: PostgresPromote, _plan: Plan, _context: Context) -> Probe:
        return Probe(ProbeAnswer.NOT_APPLIED, "it is a standby still")

    monkeypatch.setattr(PostgresPromote, "probe", hasty)
    played = await _one("promote", LOST, 8)
    assert "the probe says not_applied after 1 changes" in played.wrong


async def test_a_probe_that_does_not_look_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def blind(_self: ParameterReduce, _plan: Plan, _context: Context) -> Probe:
        return Probe(ProbeAnswer.NOT_APPLIED, "surely not")

    monkeypatch.setattr(ParameterReduce, "probe", blind)
    played = await _one("reduce", LOST, 3)
    assert "the probe says not_applied after 1 changes" in played.wrong


async def test_who_believes_in_a_change_that_never_came_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    act = Performer.act

    async def hopeful(self: Performer, *given: Any) -> Ended:
        ended = await act(self, *given)
        return Ended(Outcome.OK, "surely done") if ended.outcome is Outcome.UNKNOWN else ended

    monkeypatch.setattr(Performer, "act", hopeful)
    played = await _one("unsafe", REFUSED, 1)
    assert any("which it was not" in said for said in played.wrong)


async def test_who_waits_too_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    act = Performer.act

    async def patient(self: Performer, *given: Any) -> Ended:
        ended = await act(self, *given)
        if ended.outcome is Outcome.UNKNOWN:
            await asyncio.sleep(TIMEOUT * SLOWEST + network.LATE)  # noqa: TID251
        return ended

    monkeypatch.setattr(Performer, "act", patient)
    assert (await _one("unsafe", LOST, 1)).late > network.LATE
