"""redis.failover, answer by answer: what is refused and why, what makes it a success, and what a probe may say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from responder.errors import Permanent, Temporary
from responder.recorded import Effect, Outcome, Plan, ProbeAnswer
from responder.timing import SECOND
from tests.contract.action_world import NOW, Member, World, act, performer, prepare
from tests.contract.sentinel_world import FAR, MASTER, NEAR, SENTINELS, Watched

FAILOVER = Member("redis.failover", {"service": "trading-redis"}, Effect.PROBED)
PLANNED = Member("redis.failover", {"service": "trading-redis", "planned": True}, Effect.PROBED)
ONE, TWO, THREE = SENTINELS


class Clock:
    """The time, moved by what waits."""

    now = NOW


def world(**watched: Any) -> World:
    return World(watched=Watched(**watched))


def sent(at: World) -> list[str]:
    """What was sent that changes something."""
    return [*at.sent, *at.watched.told]


async def probed(at: World, plan: Plan) -> tuple[ProbeAnswer, str]:
    found = await performer(at, at.wire).probe("redis.failover", plan, 10 * SECOND)
    return found.answer, found.detail


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "down for nobody": ({"down": frozenset()}, Temporary, "no Sentinel calls r1:6379 down yet, .* 5s after its last"),
    "down for one only": ({"down": frozenset({ONE})}, Temporary, "only 1 of 3 Sentinels call r1:6379 down, 2 must"),
    "down a moment ago": ({"down_for": 4_000}, Temporary, "the Sentinels have 10s for their own"),
    "two Sentinels away": ({"silent": {TWO, THREE}}, Temporary, "2 of 3 Sentinels must agree"),
    "all Sentinels away": ({"silent": set(SENTINELS)}, Temporary, "none answers"),
    "Sentinels that are not named": ({"others": 6}, Temporary, "4 of 7 Sentinels must agree"),
    "no quorum": ({"quorum": False}, Temporary, "NOQUORUM 1 usable Sentinels.*start those that are down"),
    "a Sentinel that stands still": ({"tilt": True}, Temporary, r"s1:26379 stands still \(TILT\)"),
    "one in progress": ({"progress": frozenset({THREE})}, Temporary, r"in progress \(s3:26379\); wait for its end"),
    "one a short while ago": ({"quiet_for": 60_000}, Temporary, r"may be only 1m 00s old; two are 6m 00s apart"),
    "no replica may": ({"priority": 0}, Temporary, "r3:6379: its replica-priority is 0, r2:6379: its"),
    "no replica was linked": ({"link_down_for": 900}, Temporary, "its link was down 15m 00s"),
    "the replica was cut off first": ({"link_down_for": 60}, Permanent, "cut off 30s before the master went silent"),
    "the replica heard nothing before": ({"link_up_but_quiet_for": 46}, Permanent, "cut off 16s before the master"),
    "we do not reach the replica": ({"silent": {NEAR}}, Temporary, r"trading-redis \(r2:6379\).*nothing was sent"),
}  # fmt: skip


@pytest.mark.parametrize(("watched", "error", "said"), REFUSED.values(), ids=REFUSED.keys())
async def test_it_is_refused_with_the_reason(watched: dict[str, Any], error: type[Exception], said: str) -> None:
    at = world(**watched)
    with pytest.raises(error, match=said):
        await prepare(at, FAILOVER)
    assert sent(at) == []


@pytest.mark.parametrize("watched", [given for given, _, _ in REFUSED.values()], ids=REFUSED.keys())
async def test_what_is_so_only_when_it_is_to_be_sent_is_refused_too(watched: dict[str, Any]) -> None:
    at = world()
    plan = await prepare(at, FAILOVER)
    at.watched = Watched(**watched)
    ended = await act(at, FAILOVER, plan)
    assert ended.outcome in {Outcome.TEMPORARY, Outcome.PERMANENT}, ended.detail
    assert sent(at) == []


async def test_a_master_that_works_leaves_nothing_to_do() -> None:
    at = world(down=frozenset(), alive=True)
    plan = await prepare(at, FAILOVER)
    assert plan.nothing_to_do == f"no Sentinel calls {MASTER} down, and it says that it is the master"
    ended = await act(at, FAILOVER, plan)
    assert (ended.outcome, sent(at)) == (Outcome.OK, [])


@pytest.mark.parametrize("seen", [{"down": frozenset({ONE})}, {"down": frozenset(), "busy": True}])
async def test_a_master_that_may_be_down_is_not_said_to_work(seen: dict[str, Any]) -> None:
    at = world(alive=True, **seen)
    with pytest.raises(Temporary):
        await prepare(at, FAILOVER)
    assert sent(at) == []


async def test_a_master_that_came_back_since_the_plan_is_left_alone() -> None:
    at = world()
    plan = await prepare(at, FAILOVER)
    at.watched.alive, at.watched.down = True, frozenset()
    ended = await act(at, FAILOVER, plan)
    assert (ended.outcome, ended.output, sent(at)) == (Outcome.OK, {"address": MASTER}, [])
    assert f"nothing to do: no Sentinel calls {MASTER} down" in ended.detail


@pytest.mark.parametrize("quiet_for", [30, 40])
async def test_a_master_that_hangs_with_its_links_up_is_replaced(quiet_for: int) -> None:
    """The 30 s for which it has not answered the Sentinels are the outage, and no lag."""
    at = world(link_up_but_quiet_for=quiet_for)
    plan = await prepare(at, FAILOVER)
    assert f"cut off {quiet_for - 30}s before the master went silent" in plan.preview
    assert (await act(at, FAILOVER, plan)).outcome is Outcome.OK


async def test_the_wait_that_is_known_is_asked_for() -> None:
    at = world(quiet_for=60_000)
    with pytest.raises(Temporary) as caught:
        await prepare(at, FAILOVER)
    assert caught.value.retry_after == 300


async def test_a_cluster_that_never_failed_over_needs_no_pause() -> None:
    assert (await prepare(world(epoch=0, quiet_for=1_000), FAILOVER)).before is not None


@pytest.mark.parametrize(("missing", "allowed"), [(100, True), (2000, False)])
async def test_a_replica_of_a_living_master_may_lack_only_so_much(missing: int, allowed: bool) -> None:
    at = world(down=frozenset(), alive=True, converts=False, alive_offset=5_000 + missing)
    limited = Member("redis.failover", {**PLANNED.with_, "max_lag_bytes": 1000}, Effect.PROBED)
    if allowed:
        assert f"{missing} bytes behind the master" in (await prepare(at, limited)).preview
        return
    with pytest.raises(Permanent, match=r"r2:6379 is 2000 bytes behind the master.*1000 bytes and 15s are allowed"):
        await prepare(at, limited)


async def test_planned_is_for_a_master_that_answers() -> None:
    with pytest.raises(Permanent, match="leave `planned` out, it is for a master that works"):
        await prepare(world(), PLANNED)


@pytest.mark.parametrize(
    ("said", "outcome", "cure"),
    [
        ("INPROG Failover already in progress", Outcome.TEMPORARY, "wait for its end"),
        ("NOGOODSLAVE No suitable replica to promote", Outcome.TEMPORARY, "replica-priority"),
        ("No such master with that name", Outcome.PERMANENT, "check the service's `master`"),
        ("NOPERM this user has no permissions", Outcome.PERMANENT, "ACL SETUSER"),
    ],
)
async def test_what_a_sentinel_refuses_did_not_happen(said: str, outcome: Outcome, cure: str) -> None:
    at = world()
    plan = await prepare(at, FAILOVER)
    at.watched.refusal = said
    ended = await act(at, FAILOVER, plan)
    assert (ended.outcome, cure in ended.detail) == (outcome, True), ended.detail
    assert at.watched.state == (MASTER, 3)


# --- what is done -----------------------------------------------------------------------------------------------------


async def test_the_plan_says_what_is_replaced_by_what_and_what_it_costs() -> None:
    plan = await prepare(world(), FAILOVER)
    assert plan.before == {"address": MASTER, "epoch": 3, "via": ONE}
    assert f"{MASTER} → {NEAR} (expected), 0 bytes behind the farthest replica" in plan.preview
    assert "what it had not sent yet is lost and cannot be told" in plan.preview
    assert (plan.undoable, plan.nothing_to_do) == (False, None)


async def test_one_sentinel_is_told_and_the_new_master_is_written_to() -> None:
    at = world()
    ended = await act(at, FAILOVER, await prepare(at, FAILOVER))
    assert ended.output == {"address": NEAR, "before": MASTER}
    assert (at.watched.told, at.watched.written) == ([ONE], [(NEAR, "responder:failover", NEAR)])


async def test_the_stages_are_told_in_their_order() -> None:
    """Looks half a second apart: begun; named by one Sentinel; by most; none fails over any more."""
    at, since = world(), Clock()
    course: list[dict[str, Any]] = [
        {"new": MASTER, "progress": frozenset({ONE})},
        {"new": NEAR, "stale": frozenset({TWO, THREE}), "progress": frozenset({ONE})},
        {"new": NEAR, "stale": frozenset({THREE}), "progress": frozenset({ONE}), "readonly": True},
        {"new": NEAR, "stale": frozenset(), "progress": frozenset(), "readonly": False},
    ]
    plan = await prepare(at, FAILOVER)

    async def passes(seconds: float) -> None:
        since.now += round(seconds * SECOND)
        for name, value in (course.pop(0) if course else {}).items():
            setattr(at.watched, name, value)

    doing = replace(performer(at, at.wire), clock=lambda: since.now, sleep=passes)
    ended = await doing.act("redis.failover", plan, "key", 30 * SECOND)
    assert ended.outcome is Outcome.OK, ended.detail
    assert ended.detail.endswith(
        "written to after 2.0s (begun 0.5s, r2:6379 named as master 1.0s, by most Sentinels 1.5s, ended 2.0s)"
    )


async def test_an_end_that_was_not_seen_tells_how_far_it_came() -> None:
    at = world(promotes=False)
    ended = await act(at, FAILOVER, await prepare(at, FAILOVER))
    assert ended.outcome is Outcome.UNKNOWN
    assert f"has accepted the failover ({NEAR} named as master 0.0s, by most Sentinels 0.0s" in ended.detail


async def test_the_first_sentinel_that_answers_is_told() -> None:
    at = world(silent={ONE})
    ended = await act(at, FAILOVER, await prepare(at, FAILOVER))
    assert (ended.outcome, at.watched.told) == (Outcome.OK, [TWO])


async def test_it_goes_through_no_other_sentinel_than_that_of_the_plan() -> None:
    at = world()
    plan = await prepare(at, FAILOVER)
    at.watched.silent = {ONE}
    ended = await act(at, FAILOVER, plan)
    assert (ended.outcome, at.watched.told) == (Outcome.TEMPORARY, [])
    assert "the Sentinel of the plan does not answer" in ended.detail


async def test_what_the_sentinels_did_meanwhile_is_not_done_again() -> None:
    at = world()
    plan = await prepare(at, FAILOVER)
    at.watched.new, at.watched.epoch = NEAR, 4
    ended = await act(at, FAILOVER, plan)
    assert (ended.outcome, at.watched.told) == (Outcome.OK, [])
    assert f"nothing to do: {NEAR} has become the master since" in ended.detail


async def test_a_failover_that_came_and_went_meanwhile_is_not_overlooked() -> None:
    at = world()
    plan = await prepare(at, FAILOVER)
    at.watched.epoch = 5
    ended = await act(at, FAILOVER, plan)
    assert (ended.outcome, at.watched.told) == (Outcome.PERMANENT, [])
    assert "a failover came in between" in ended.detail


LACKING: dict[str, tuple[dict[str, Any], str]] = {
    "no new address": ({"obeys": False}, "no majority names another master"),
    "too few name it": ({"stale": frozenset({TWO, THREE})}, "no majority names another master"),
    "no master there": ({"promotes": False}, "r2:6379 says that it is slave"),
    "no write there": ({"readonly": True}, "r2:6379 cannot be checked"),
    "an old master that is busy": ({"alive": True, "busy": True}, "the old master r1:6379 cannot be checked"),
    "two masters": ({"alive": True, "converts": False}, "the old master r1:6379 still says that it is master"),
}


@pytest.mark.parametrize(("watched", "said"), LACKING.values(), ids=LACKING.keys())
async def test_what_is_not_seen_to_have_succeeded_is_unknown(watched: dict[str, Any], said: str) -> None:
    at = world(**watched)
    ended = await act(at, FAILOVER, await prepare(at, FAILOVER))
    assert ended.outcome is Outcome.UNKNOWN
    assert said in ended.detail
    assert at.watched.told == [ONE]


WORKS: dict[str, Any] = {"down": frozenset(), "alive": True, "cuts_us_off": True}
"""A master that works, and that we do not reach any more once the failover has begun."""


@pytest.mark.parametrize(
    ("member", "watched", "says"),
    [
        (FAILOVER, {"alive": True, "converts": False, "silent": {MASTER}}, 0),
        (FAILOVER, {"miss_it": frozenset()}, 0),
        (FAILOVER, {"miss_it": frozenset({ONE})}, 1),
        (FAILOVER, {"lost_for": 4_000}, 0),
        (PLANNED, {**WORKS, "converts": False}, 0),
        (FAILOVER, {"behind_tls": True, "miss_it": frozenset({ONE})}, 1),
        (FAILOVER, {"behind_tls": True, "alive": True, "converts": False, "silent": {MASTER}}, 0),
        (PLANNED, {**WORKS, "behind_tls": True, "converts": False}, 0),
    ],
)
async def test_that_we_alone_do_not_reach_the_old_master_proves_nothing(
    member: Member, watched: dict[str, Any], says: int
) -> None:
    at = world(**watched)
    plan = await prepare(at, member)
    ended = await act(at, member, plan)
    assert (ended.outcome, at.watched.told) == (Outcome.UNKNOWN, [ONE])
    assert f"we get no answer from the old master {MASTER}, and only {says} of 3 Sentinels" in ended.detail
    answer, detail = await probed(at, plan)
    assert (answer, f"only {says} of 3 Sentinels" in detail) == (ProbeAnswer.UNCLEAR, True), detail


@pytest.mark.parametrize(
    ("member", "watched"),
    [
        (FAILOVER, {"miss_it": frozenset({ONE, TWO})}),
        (FAILOVER, {"lost_for": 6_000}),
        (FAILOVER, {"stale": frozenset({THREE}), "miss_it": frozenset({ONE})}),
        (FAILOVER, {"alive": True, "silent": {MASTER}}),
        (FAILOVER, {"behind_tls": True, "miss_it": frozenset({ONE, TWO})}),
        (FAILOVER, {"behind_tls": True, "lost_for": 6_000}),
        (PLANNED, WORKS),
        (PLANNED, {**WORKS, "behind_tls": True}),
    ],
)
async def test_where_we_do_not_reach_the_old_master_the_word_of_a_majority_counts(
    member: Member, watched: dict[str, Any]
) -> None:
    at = world(**watched)
    ended = await act(at, member, await prepare(at, member))
    assert (ended.outcome, at.watched.told) == (Outcome.OK, [ONE]), ended.detail


async def test_a_new_master_whose_predecessor_may_still_take_writes_is_not_said_to_be_all() -> None:
    at = world()
    plan = await prepare(at, FAILOVER)
    at.watched.new, at.watched.epoch, at.watched.miss_it = NEAR, 4, frozenset({ONE})
    ended = await act(at, FAILOVER, plan)
    assert (ended.outcome, at.watched.told) == (Outcome.TEMPORARY, []), ended.detail


# --- what a probe may say ---------------------------------------------------------------------------------------------


def _moved(at: World) -> None:
    at.watched.new, at.watched.epoch = NEAR, 4


def _doing(at: World) -> None:
    at.watched.progress = frozenset({TWO})


def _moved_and_back(at: World) -> None:
    at.watched.epoch = 5


def _told_is_silent(at: World) -> None:
    at.watched.silent = {ONE}


def _told_differs(at: World) -> None:
    _moved(at)
    at.watched.stale = frozenset({TWO, THREE})


def _without_role(at: World) -> None:
    _moved(at)
    at.watched.promotes = False


def _nothing(_at: World) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "answer", "said"),
    [
        (_nothing, ProbeAnswer.NOT_APPLIED, "r1:6379 is still the master (epoch 3), and no failover is in progress"),
        (_moved, ProbeAnswer.APPLIED, "r2:6379 is the master in the place of r1:6379"),
        (_doing, ProbeAnswer.UNCLEAR, "a failover is in progress (s2:26379)"),
        (_moved_and_back, ProbeAnswer.UNCLEAR, "epoch rose from 3 to 5"),
        (_told_is_silent, ProbeAnswer.UNCLEAR, "s1:26379, which was told, does not answer"),
        (_told_differs, ProbeAnswer.UNCLEAR, ""),
        (_without_role, ProbeAnswer.UNCLEAR, "r2:6379 says that it is slave"),
    ],
)
async def test_a_probe_tells_only_what_is_certain(
    change: Callable[[World], None], answer: ProbeAnswer, said: str
) -> None:
    at = world()
    plan = await prepare(at, FAILOVER)
    change(at)
    found, detail = await probed(at, plan)
    assert (found, said in detail) == (answer, True), detail
    assert at.watched.told == []


async def test_a_probe_looks_twice_before_it_says_that_nothing_happened() -> None:
    """A Sentinel that was stopped answers the probe first and reads the command that waited afterwards."""
    at = world()
    plan = await prepare(at, FAILOVER)
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        _doing(at)

    doing = performer(at, at.wire)
    found = await type(doing)(doing.actions, doing.connect, doing.parameters, lambda: NOW, sleep).probe(
        "redis.failover", plan, 10 * SECOND
    )
    assert (found.answer, waited) == (ProbeAnswer.UNCLEAR, [1.0])


# --- what is read -----------------------------------------------------------------------------------------------------

READS = Member("redis.sentinel", {"service": "trading-redis"}, Effect.READ)


async def test_what_the_sentinels_say_is_told() -> None:
    at = world(silent={THREE}, quorum=False)
    ended = await act(at, READS, await prepare(at, READS))
    assert isinstance(ended.output, dict)
    silent = ended.output.pop("silent")
    assert list(silent) == [THREE]  # type: ignore[arg-type]
    assert ended.output == {
        "master": MASTER, "agree": 2, "total": 3, "down": 2, "quorum": False, "in_progress": False, "epoch": 3,
        "role": "none", "replicas": 0, "sound": False,
    }  # fmt: skip


async def test_a_master_that_no_majority_names_is_missing() -> None:
    at = world(new=NEAR, stale=frozenset({ONE}), silent={THREE})
    ended = await act(at, READS, await prepare(at, READS))
    assert ended.outcome is Outcome.TEMPORARY
    assert f"2 of 3 Sentinels must agree: {ONE} says {MASTER}, {TWO} says {NEAR}" in ended.detail


@pytest.mark.parametrize(
    ("watched", "outcome"),
    [
        ({"new": NEAR}, Outcome.OK),
        ({"new": NEAR, "silent": {ONE}}, Outcome.OK),
        ({"new": NEAR, "stale": frozenset({ONE, TWO}), "alive": True}, Outcome.OK),
        ({"new": NEAR, "stale": frozenset({ONE}), "silent": {TWO}, "alive": True}, Outcome.TEMPORARY),
        ({"new": FAR, "silent": {FAR}}, Outcome.TEMPORARY),
    ],
)
async def test_a_reader_reads_from_the_master_that_a_majority_names(watched: dict[str, Any], outcome: Outcome) -> None:
    at = world(**watched)
    info = Member("redis.info", {"service": "trading-redis", "section": "replication"}, Effect.READ)
    ended = await act(at, info, await prepare(at, info))
    assert ended.outcome is outcome, ended.detail


# --- messages ---------------------------------------------------------------------------------------------------------


async def test_a_message_answers_how_many_got_it() -> None:
    with_ = {"service": "cache", "channel": "param.reload", "message": "all"}
    at, member = World(), Member("redis.publish", with_, Effect.UNSAFE)
    ended = await act(at, member, await prepare(at, member))
    assert (ended.output, ended.detail) == (2, "2 subscribers of param.reload got it")
    assert at.sent == ["PUBLISH param.reload all"]
