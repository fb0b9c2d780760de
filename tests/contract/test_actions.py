"""What holds for every action: one table of members, run against a small closed world at the wire.

A request that the world does not know fails the test, whatever the action makes of it.
"""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
import yaml

from responder.actions import ACTIONS
from responder.approvals import plan_digest
from responder.demo.platform import PlatformSettings, create_platform
from responder.errors import Permanent, Temporary
from responder.incident import Run
from responder.recorded import Cause, Effect, Mode, Outcome, Plan, ProbeAnswer
from responder.runbook import Step
from responder.timing import SECOND
from tests.contract.action_world import KELLY, MEMBERS, NOW, RUNBOOK, Member, World, act, performer, prepare
from tests.contract.sql_world import TOKEN

every = pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS.keys())
CHANGES = {name: member for name, member in MEMBERS.items() if not member.reads}
changes = pytest.mark.parametrize("member", CHANGES.values(), ids=CHANGES.keys())


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(autouse=True)
def _closed_world(world: World) -> Any:
    yield
    assert world.unexpected == []


def test_every_action_is_a_member() -> None:
    assert {member.action for member in MEMBERS.values()} == set(ACTIONS)


@every
async def test_prepare_changes_nothing_and_tells_the_effect(world: World, member: Member) -> None:
    plan = await prepare(world, member)
    assert plan.effect is member.effect
    assert plan.prepared_at == NOW
    assert world.changes == []
    assert plan.preview


@every
async def test_what_only_moves_with_the_time_is_no_part_of_what_people_approve(world: World, member: Member) -> None:
    """Otherwise a yes that comes a minute later could never be used."""
    first = await prepare(world, member)
    world.aged = 60.0
    later = await prepare(world, member, NOW + 60 * SECOND)
    assert later.prepared_at == NOW + 60 * SECOND
    given: Any = {"runbook": "r", "rules_hash": "h", "target": "t", "actor": "engine", "inputs": {}, "steps": ()}
    run = Run(number=1, cause=Cause.ALERT, mode=Mode.AUTO, started_at=NOW, **given)
    assert plan_digest(run, "it", later) == plan_digest(run, "it", first)


@every
async def test_act_does_it_with_one_changing_request(world: World, member: Member) -> None:
    before = world.state
    ended = await act(world, member, await prepare(world, member))
    assert ended.outcome is Outcome.OK, ended.detail
    assert len(world.changes) == (0 if member.reads else 1)
    assert (world.state == before) is member.reads


@every
async def test_a_plan_survives_the_journal(world: World, member: Member) -> None:
    plan = await prepare(world, member)
    read_back = Plan.model_validate_json(plan.model_dump_json())
    assert read_back == plan
    assert (await act(world, member, read_back)).outcome is Outcome.OK


@changes
async def test_set_and_keyed_and_probed_do_the_same_when_done_twice(world: World, member: Member) -> None:
    plan = await prepare(world, member)
    await act(world, member, plan)
    once = world.state
    ended = await act(world, member, plan)
    assert ended.outcome is Outcome.OK
    # An unsafe one is the counter-example that shows that this world would notice.
    assert (world.state == once) is (member.effect is not Effect.UNSAFE)


@every
async def test_nothing_sent_is_temporary(world: World, member: Member) -> None:
    plan = await prepare(world, member)
    before, world.refuse = world.state, True
    ended = await act(world, member, plan)
    assert ended.outcome is (Outcome.TEMPORARY if member.remote else Outcome.OK)
    assert world.state == before


@changes
async def test_a_lost_answer_is_unknown_and_not_repeated(world: World, member: Member) -> None:
    plan = await prepare(world, member)
    world.lose = True
    ended = await act(world, member, plan)
    assert ended.outcome is Outcome.UNKNOWN
    assert len(world.changes) == 1
    assert "may have happened" in ended.detail


@every
async def test_no_end_in_time_is_unknown_only_for_a_change(world: World, member: Member) -> None:
    if not member.remote:
        return
    plan = await prepare(world, member)
    world.hang = not member.reads
    # A failover looks at everything again before it is sent.
    ended = await act(world, member, plan, timeout_us=200_000 if member.action == "redis.failover" else 1)
    assert ended.outcome is (Outcome.TEMPORARY if member.reads else Outcome.UNKNOWN)
    assert len(world.changes) == (0 if member.reads else 1)


@changes
async def test_a_probe_tells_what_became_of_a_lost_answer(world: World, member: Member) -> None:
    plan = await prepare(world, member)
    assert plan.blind is not member.probes, "what is undone is read back only where that tells something"
    not_yet = await performer(world).probe(member.action, plan, 10 * SECOND)
    world.lose = True
    await act(world, member, plan)
    after = await performer(world).probe(member.action, plan, 10 * SECOND)
    if member.probes:
        # A promotion that was sent may still come as long as nothing is to be seen of it.
        before = ProbeAnswer.UNCLEAR if member.action == "postgres.promote" else ProbeAnswer.NOT_APPLIED
        assert (not_yet.answer, after.answer) == (before, ProbeAnswer.APPLIED)
    elif member.effect is Effect.SET:
        assert after.answer is ProbeAnswer.NOT_APPLIED  # to be sent again, which does the same
    else:
        assert after.answer is ProbeAnswer.UNCLEAR
    assert len(world.changes) == 1


@changes
async def test_a_probe_that_cannot_be_asked_is_unclear(world: World, member: Member) -> None:
    if not member.probes:
        return
    plan = await prepare(world, member)
    world.refuse = True
    assert (await performer(world).probe(member.action, plan, SECOND)).answer is ProbeAnswer.UNCLEAR


@every
def test_pretending_touches_nothing_and_is_of_the_same_effect(world: World, member: Member) -> None:
    action = ACTIONS[member.action].model_validate(member.with_)
    plan, output = action.pretend(NOW)
    assert world.requests == []
    assert plan.effect is (Effect.UNSAFE if member.effect is Effect.KEYED else member.effect)
    assert output.detail
    assert ACTIONS[member.action].model_validate(plan.params) == action


@every
async def test_undo_changes_nothing_by_itself(world: World, member: Member) -> None:
    plan = await prepare(world, member)
    await act(world, member, plan)
    done = list(world.changes)
    if member.undoes:
        back = await performer(world).undo(member.action, plan, SECOND)
        if member.action != "alertmanager.silence":  # it is expired, which is no state that was there before
            assert (back.before, back.target) == (plan.target, plan.before)
    else:
        with pytest.raises(Permanent, match="cannot be undone"):
            await performer(world).undo(member.action, plan, SECOND)
    assert world.changes == done


@every
async def test_no_secret_of_a_service_is_kept(world: World, member: Member) -> None:
    plan = await prepare(world, member)
    ended = await act(world, member, plan)
    assert all(r.headers["authorization"] == f"Bearer {TOKEN}" for r in world.requests)
    assert TOKEN not in f"{plan!r} {ended!r}"


@every
def test_unknown_parameters_are_refused(world: World, member: Member) -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        ACTIONS[member.action].model_validate({**member.with_, "unheard_of": 1})


@pytest.mark.parametrize("name", ACTIONS)
def test_the_reference_page_has_an_example_that_is_valid(name: str) -> None:
    page = re.search(r"```yaml\n(.*?)```", ACTIONS[name].__doc__ or "", re.DOTALL)
    assert page is not None
    for use in _uses(yaml.safe_load(page[1])):
        assert use["action"] == name
        ACTIONS[name].model_validate(use["with"])


def _uses(tree: Any) -> list[dict[str, Any]]:
    if isinstance(tree, list):
        return [use for item in tree for use in _uses(item)]
    if "action" in tree:
        return [tree]
    return [use for item in tree.values() for use in _uses(item)]


# ------------------------------------------------------------------------------------------------- the single members


async def test_reducing_a_value_that_is_low_enough_does_nothing(world: World) -> None:
    world.kelly = 0.08
    plan = await prepare(world, MEMBERS["reduce"])
    assert plan.nothing_to_do == "risk-api/kelly_fraction is already 0.08, not above 0.1"
    assert plan.draws == {}
    assert (await act(world, MEMBERS["reduce"], plan)).output == 0.08
    assert (world.changes, world.kelly) == ([], 0.08)


async def test_reducing_says_what_it_draws(world: World) -> None:
    plan = await prepare(world, MEMBERS["reduce"])
    assert plan.preview == "risk-api/kelly_fraction 0.25 → 0.1"
    assert plan.draws == {f"parameter:{KELLY}": pytest.approx(0.15)}
    assert (plan.before, plan.target, plan.undoable) == (0.25, 0.1, True)


async def test_reducing_below_the_floor_is_refused(world: World) -> None:
    with pytest.raises(Permanent, match=r"0.01 is below its floor 0.05; nothing was changed"):
        await prepare(world, Member("parameter.reduce", {"parameter": KELLY, "to": 0.01, "reason": "x"}, Effect.SET))


@pytest.mark.parametrize(
    ("present", "outcome"), [(0.3, Outcome.PERMANENT), (0.2, Outcome.PERMANENT), (0.07, Outcome.OK)]
)
async def test_a_value_that_somebody_changed_since_is_left_alone(
    world: World, present: float, outcome: Outcome
) -> None:
    plan = await prepare(world, MEMBERS["reduce"])
    world.kelly = present
    assert (await act(world, MEMBERS["reduce"], plan)).outcome is outcome
    assert (world.changes, world.kelly) == ([], present)


async def test_a_change_that_was_accepted_but_is_not_in_force_is_unknown(world: World) -> None:
    plan = await prepare(world, MEMBERS["reduce"])
    world.ignores = True
    ended = await act(world, MEMBERS["reduce"], plan)
    assert ended.outcome is Outcome.UNKNOWN
    assert "accepted, but 0.25 is in force" in ended.detail


async def test_a_value_is_put_back_only_by_the_plan_of_an_undo(world: World) -> None:
    member = MEMBERS["reduce"]
    plan = await prepare(world, member)
    await act(world, member, plan)
    back = await performer(world).undo(member.action, plan, SECOND)
    assert (back.before, back.target, back.nothing_to_do, back.draws) == (0.1, 0.25, None, {})
    assert (await act(world, member, Plan.model_validate_json(back.model_dump_json()))).outcome is Outcome.OK
    assert world.kelly == 0.25
    up = Member(member.action, {**member.with_, "to": 0.9}, Effect.SET)
    raising = await prepare(world, up)
    assert (await act(world, up, raising)).outcome is Outcome.OK
    assert (await act(world, up, raising.model_copy(update={"nothing_to_do": None}))).outcome is Outcome.OK
    assert world.kelly == 0.25


async def test_a_value_below_its_floor_is_not_written_whoever_planned_it(world: World) -> None:
    plan = await prepare(world, MEMBERS["reduce"])
    ended = await act(world, MEMBERS["reduce"], plan.model_copy(update={"target": 0.001}))
    assert (ended.outcome, world.changes) == (Outcome.PERMANENT, [])
    assert "is below its floor" in ended.detail


async def test_an_undo_never_overwrites_a_later_change(world: World) -> None:
    plan = await prepare(world, MEMBERS["reduce"])
    await act(world, MEMBERS["reduce"], plan)
    world.kelly = 0.12
    with pytest.raises(Permanent, match=r"is 0\.12, not the 0\.1 that was set"):
        await performer(world).undo("parameter.reduce", plan, SECOND)


async def test_a_probe_that_holds_already_leaves_nothing_to_do(world: World) -> None:
    world.trading = "halted"
    plan = await prepare(world, MEMBERS["probed"])
    assert plan.nothing_to_do is not None
    assert (await act(world, MEMBERS["probed"], plan)).outcome is Outcome.OK
    assert world.changes == []


async def test_halting_does_not_depend_on_the_page_that_its_probe_asks(world: World) -> None:
    world.refuse = True
    plan = await prepare(world, MEMBERS["probed"])
    world.refuse = False
    assert (await act(world, MEMBERS["probed"], plan)).outcome is Outcome.OK
    assert world.trading == "halted"


async def test_a_wait_longer_than_the_timeout_of_its_step_is_refused(world: World) -> None:
    with pytest.raises(Permanent, match=r"wait 30s does not fit"):
        await prepare(world, Member("wait", {"for": "30s"}, Effect.READ))


# -------------------------------------------------------------------------------------------- answers of a Prometheus


def _vector(*values: str) -> dict[str, Any]:
    result = [{"metric": {"symbol": f"S{at}"}, "value": [NOW / SECOND - 7, v]} for at, v in enumerate(values)]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


QUERY = Member("prometheus.query", {"service": "metrics", "query": "var_pct"}, Effect.READ)


@pytest.mark.parametrize(
    ("status", "body", "outcome", "said"),
    [
        (200, _vector("1.5"), Outcome.OK, "1.5"),
        (200, {"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}}, Outcome.OK, "3"),
        (200, _vector(), Outcome.TEMPORARY, "no data for var_pct"),
        (200, _vector("NaN"), Outcome.TEMPORARY, "NaN or infinite"),
        (200, _vector("+Inf"), Outcome.TEMPORARY, "NaN or infinite"),
        (200, _vector("1", "2"), Outcome.PERMANENT, 'gives 2 elements ({symbol="S0"}, {symbol="S1"})'),
        (200, {"status": "success", "data": {"resultType": "matrix", "result": []}}, Outcome.PERMANENT, "a matrix"),
        (200, {**_vector("1"), "warnings": ["store gone"]}, Outcome.TEMPORARY, "store gone"),
        (400, {"status": "error", "errorType": "bad_data", "error": "parse error"}, Outcome.PERMANENT, "parse error"),
        (503, {"status": "error", "errorType": "timeout", "error": "slow"}, Outcome.TEMPORARY, "503"),
        (200, "<html>", Outcome.PERMANENT, "check that the service is a Prometheus"),
    ],
)
async def test_answers_of_a_prometheus(status: int, body: Any, outcome: Outcome, said: str) -> None:
    wire = httpx.MockTransport(lambda _request: httpx.Response(status, json=body))
    plan = Plan(params=QUERY.with_, preview="", effect=Effect.READ, prepared_at=NOW)
    ended = await performer(wire).act(QUERY.action, plan, "key", SECOND)
    assert (ended.outcome, said in ended.detail) == (outcome, True), ended.detail


async def test_a_number_is_as_old_as_its_oldest_sample() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        query = httpx.QueryParams(request.content.decode())["query"]
        asked.append(query)
        return httpx.Response(200, json=_vector("1699999940.5" if "timestamp" in query else "2.1"))

    plan = Plan(params={**QUERY.with_, "freshness": "var_pct"}, preview="", effect=Effect.READ, prepared_at=NOW)
    ended = await performer(httpx.MockTransport(answer)).act(QUERY.action, plan, "key", SECOND)
    assert asked == ["min(timestamp(var_pct))", "var_pct"]
    assert (ended.output, ended.observed_at) == (2.1, 1_699_999_940_500_000)


async def test_evidence_may_take_the_whole_vector() -> None:
    wire = httpx.MockTransport(lambda _request: httpx.Response(200, json=_vector("1", "NaN")))
    plan = Plan(params={**QUERY.with_, "all": True}, preview="", effect=Effect.READ, prepared_at=NOW)
    ended = await performer(wire).act(QUERY.action, plan, "key", SECOND)
    assert ended.output == [{"labels": {"symbol": "S0"}, "value": 1}, {"labels": {"symbol": "S1"}, "value": None}]


# ------------------------------------------------------------------------------------------------- the demo platform


async def test_the_demo_platform_is_cut_halted_and_put_back() -> None:
    settings = PlatformSettings(token=TOKEN)
    platform = httpx.ASGITransport(create_platform(settings, lambda: 1000.0))
    doing = performer(platform)
    cut, halt = (Step.model_validate({"id": "it", "action": m.action, "with": m.with_}) for m in
                 (MEMBERS["reduce"], MEMBERS["probed"]))  # fmt: skip
    for step in (cut, halt):
        plan = await doing.prepare(RUNBOOK, step, {})
        ended = await doing.act(step.action or "", plan, f"key-{step.action}", SECOND)
        assert ended.outcome is Outcome.OK, ended.detail
        assert (await doing.probe(step.action or "", plan, SECOND)).answer is ProbeAnswer.APPLIED
        assert (await doing.prepare(RUNBOOK, step, {})).nothing_to_do is not None
    async with httpx.AsyncClient(transport=platform, base_url="http://platform") as client:
        calls = (await client.get("/demo/ledger")).json()["calls"]
    assert [(c["path"], c["idempotency_key"], c["status"]) for c in calls] == [
        ("/api/risk/emergency-reduce", "key-parameter.reduce", 200),
        ("/api/stop-trading", "key-http.request", 200),
    ]
    assert calls[0]["body"] == {"kelly_fraction": 0.1, "reason": "VaR breach"}


async def test_prepare_raises_only_the_two_that_the_engine_knows(world: World) -> None:
    world.refuse = True
    with pytest.raises(Temporary, match=r"var-breach.it: risk-api: GET /api/status: nothing was sent"):
        await prepare(world, MEMBERS["reduce"])
