"""What a run by hand is bound to, what its inputs must be, and that nothing but a person starts it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from responder.decide import decide
from responder.manual_runs import Doing, Foreseen, Judged, RunPlan, Wish, input_problems, prospect
from responder.recorded import Answer, Cause, Mode, Plan, Trigger, Verdict
from responder.view import WaitUntil
from tests.builders import T0, a_plan, a_runbook, a_view, call_step, opened, rules_of, told

RULES = rules_of(a_runbook(steps=[call_step("cut")], inputs={"side": {"one_of": ["buy", "sell"]}}))
CUT = RULES.runbooks["cut"]
WISH = Wish(CUT, RULES, {}, "otto")


def verdict(answer: Answer = Answer.ALLOW, reason: str = "0 runs", **more: Any) -> Judged:
    return Judged("cut", Verdict(gate="runs", answer=answer, reason=reason, **more))


def a_run_plan(plan: Plan | None = None, **changes: Any) -> RunPlan:
    step = Foreseen(CUT.steps[0], Doing.CHANGE, "POST /api/orders", a_plan() if plan is None else plan)
    return replace(RunPlan(WISH, (step,), {}, (verdict(),)), **changes)


@pytest.mark.parametrize(
    "other",
    [
        a_run_plan(a_plan(before=0.2)),
        a_run_plan(a_plan(target=0.2)),
        a_run_plan(a_plan(params={"to": 0.2})),
        a_run_plan(a_plan(draws={"parameter:p": 0.1})),
        a_run_plan(judged=(verdict(Answer.WAIT, until=T0),)),
        a_run_plan(judged=(verdict(warn=True),)),
        a_run_plan(wish=replace(WISH, override="agreed")),
        a_run_plan(wish=replace(WISH, inputs={"side": "buy"})),
        a_run_plan(wish=replace(WISH, rules=replace(RULES, hash="h2"))),
        a_run_plan(wish=replace(WISH, rules=replace(RULES, ceiling=Mode.APPROVE))),
        a_run_plan(steps=()),
    ],
)
def test_what_would_be_done_otherwise_is_another_plan(other: RunPlan) -> None:
    assert other.digest != a_run_plan().digest


@pytest.mark.parametrize(
    "same",
    [
        a_run_plan(a_plan(prepared_at=T0 + 1)),
        a_run_plan(judged=(verdict(reason="1 run"),)),
        a_run_plan(wish=replace(WISH, reason="another")),
        a_run_plan(wish=replace(WISH, actor="anna")),
    ],
)
def test_what_makes_no_difference_keeps_the_plan(same: RunPlan) -> None:
    assert same.digest == a_run_plan().digest


def test_each_gate_that_is_passed_is_warned_of_once() -> None:
    twice = a_run_plan(judged=(verdict(warn=True), verdict(warn=True, reason="again"), verdict(Answer.DENY)))
    assert [one.reason for one in twice.warnings] == ["again"]
    assert [one.answer for one in twice.refused] == [Answer.DENY]


def test_inputs_are_named_typed_and_only_those_of_the_target_needed() -> None:
    assert input_problems(RULES, CUT, {}) == ()
    assert input_problems(RULES, CUT, {"side": "buy"}) == ()
    assert input_problems(RULES, CUT, {"side": "hold"}) == ("input side='hold' is not one of buy, sell",)
    assert input_problems(RULES, CUT, {"sides": "buy"}) == ("there is no input 'sides'; there are: side (buy or sell)",)


def test_the_mode_is_the_smaller_of_runbook_and_configuration() -> None:
    assert replace(WISH, rules=replace(RULES, ceiling=Mode.OBSERVE)).mode is Mode.OBSERVE
    incident, run = prospect(WISH, T0)
    assert (incident.trigger, run.cause, run.mode, run.actor) == (Trigger.PERSON, Cause.PERSON, Mode.AUTO, "otto")


def test_no_run_of_a_person_is_started_but_by_a_person() -> None:
    incident = told(opened(trigger=Trigger.PERSON))
    assert decide(a_view(incident, RULES, T0)) == WaitUntil()
