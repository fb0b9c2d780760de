"""What a person's yes covers, whose yes is needed, and what comes of no answer."""

from __future__ import annotations

from typing import Any

import pytest

from responder import facts as f
from responder.approvals import approval_wanted, covers, narrowed, plan_digest
from responder.cases import ask
from responder.decide import decide
from responder.guards import not_approved
from responder.incident import Incident, Run
from responder.recorded import Answer, Cause, Effect, Mode, Plan
from responder.runbook import Approval, Step
from responder.timing import MINUTE
from responder.view import Ask, Finish, Next, Perform, Tell, WaitUntil
from responder.words import Approval as Asked
from responder.words import Person
from tests.builders import T0, a_plan, a_runbook, a_view, cut_step, fired, opened, rules_of, started, told

BEGUN: tuple[f.Fact, ...] = (opened(), fired(), started())
RUN = told(*BEGUN).runs[0]
PODS = a_plan(parts=("a", "b", "c"), target=["pod a", "pod b", "pod c"], preview="restarts 3 pods")


def asked_for(plan: Plan, run: Run = RUN, **changes: Any) -> Asked:
    """What people were asked about a plan of the step `cut`."""
    known = {"step": "cut", "plan": plan_digest(run, "cut", plan), "preview": plan.preview, "role": "desk", "people": 1,
             "parts": plan.parts, "asked_at": T0, "until": T0 + 10 * MINUTE}  # fmt: skip
    return Asked.model_validate({**known, **changes})


def said(*names: str) -> tuple[Person, ...]:
    return tuple(Person(actor=name, at=T0) for name in names)


# --- whose yes is needed ----------------------------------------------------------------------------------------------


def the_step(**parts: Any) -> Step:
    return rules_of(a_runbook(steps=[cut_step(**parts)])).runbooks["cut"].steps[0]


def test_a_step_names_its_own_people() -> None:
    own = the_step(approval={"role": "risk-manager", "people": 2})
    assert approval_wanted(own, (Mode.AUTO, Mode.AUTO), ()) == Approval(role="risk-manager", people=2)
    assert approval_wanted(own, (Mode.APPROVE,), (ask("calendar", "closed"),)) == own.approval


def test_otherwise_the_mode_the_ceiling_or_a_gate_asks_an_operator() -> None:
    step, operator = the_step(), Approval(role="operator", people=1)
    assert approval_wanted(step, (Mode.APPROVE, Mode.AUTO), ()) == operator
    assert approval_wanted(step, (Mode.AUTO, Mode.APPROVE), ()) == operator
    assert approval_wanted(step, (Mode.AUTO, Mode.AUTO), (ask("calendar", "closed"),)) == operator
    assert approval_wanted(step, (Mode.AUTO, Mode.OBSERVE), ()) is None


# --- what it is bound to ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "step", "plan"),
    [
        (RUN, "other", a_plan()),
        (RUN.model_copy(update={"number": 2}), "cut", a_plan()),
        (RUN.model_copy(update={"rules_hash": "h2"}), "cut", a_plan()),
        (RUN, "cut", a_plan(params={"to": 0.2})),
        (RUN, "cut", a_plan(before=0.3)),
        (RUN, "cut", a_plan(target=0.2)),
    ],
    ids=["step", "run", "rules", "parameters", "what it found", "what it would set"],
)
def test_a_yes_holds_for_nothing_else(run: Run, step: str, plan: Plan) -> None:
    yes = asked_for(a_plan())
    assert covers(RUN, "cut", a_plan(), yes)
    assert not covers(run, step, plan, yes)


def test_a_later_look_at_the_same_change_needs_no_second_yes() -> None:
    yes = asked_for(a_plan(before=0.25, target=0.1))
    assert covers(RUN, "cut", a_plan(before=0.25, target=0.1, prepared_at=T0 + MINUTE, preview="in other words"), yes)


def test_the_order_in_which_a_store_gives_fields_back_is_no_other_plan() -> None:
    yes = asked_for(a_plan(params={"to": 0.1, "reason": "risk"}))
    assert covers(RUN, "cut", a_plan(params={"reason": "risk", "to": 0.1}), yes)


def test_a_question_outlives_an_update_of_the_responder() -> None:
    """Its digest stands in the journal: made otherwise, every answer under way would be for nothing."""
    assert plan_digest(RUN, "cut", a_plan(before=0.25, target=0.1)) == "fa3f524c2266a5ad"


def test_a_yes_to_more_covers_less_and_never_more() -> None:
    yes = asked_for(PODS)
    assert covers(RUN, "cut", a_plan(parts=("a", "c"), target=["pod a", "pod c"]), yes)
    assert not covers(RUN, "cut", a_plan(parts=("a", "d"), target=["pod a", "pod d"]), yes)


def test_what_moves_with_the_time_is_not_asked_about_again() -> None:
    """The age of a query grows while people think: what they said yes to is the query."""
    first, later = a_plan(parts=("17",), target=[{"age": 10}]), a_plan(parts=("17",), target=[{"age": 60}])
    assert covers(RUN, "cut", later, asked_for(first))


# --- what came up after the yes ---------------------------------------------------------------------------------------


def approved(run: Run = RUN, **changes: Any) -> Run:
    yes = asked_for(a_plan(parts=("a", "c"), target=["pod a", "pod c"]), **{"approved": said("amy"), **changes})
    return run.model_copy(update={"approval": yes})


def test_what_nobody_saw_is_left_out() -> None:
    left = narrowed(approved(), "cut", PODS)
    assert (left.parts, left.target) == (("a", "c"), ["pod a", "pod c"])
    assert left.preview == "only the 2 that were approved: restarts 3 pods"
    assert covers(approved(), "cut", left, asked_for(a_plan(parts=("a", "c"), target=["pod a", "pod c"])))


def test_where_nothing_that_they_saw_is_left_people_are_asked_about_the_whole() -> None:
    others = a_plan(parts=("x", "y"), target=["pod x", "pod y"])
    assert narrowed(approved(), "cut", others) == others


@pytest.mark.parametrize(
    "run",
    [RUN, approved(step="other"), approved(approved=()), approved(denied=Person(actor="bob", at=T0))],
    ids=["nobody was asked", "about another step", "nobody has answered", "somebody said no"],
)
def test_without_a_yes_the_plan_stays_whole(run: Run) -> None:
    assert narrowed(run, "cut", PODS) == PODS


@pytest.mark.parametrize(
    "plan",
    [
        a_plan(parts=("a", "b"), target="all of them"),
        a_plan(parts=(), target=["pod a"]),
        a_plan(parts=("a", "b"), target=["pod a"]),
        a_plan(parts=("a", "c"), target=["pod a", "pod c"]),
    ],
    ids=["one target", "no parts", "parts that fit no target", "just what was approved"],
)
def test_what_cannot_or_need_not_be_narrowed_stays_whole(plan: Plan) -> None:
    assert narrowed(approved(), "cut", plan) == plan


# --- no answer, too few, no -------------------------------------------------------------------------------------------


def test_a_no_is_told_with_its_reason() -> None:
    denied = not_approved(asked_for(a_plan(), denied=Person(actor="bob", at=T0, note="market opens")))
    assert (denied.gate, denied.answer, denied.reason) == ("approval", Answer.DENY, "denied by bob: market opens")
    assert not_approved(asked_for(a_plan(), denied=Person(actor="bob", at=T0))).reason == "denied by bob"


def test_silence_is_told_with_how_long_and_how_many() -> None:
    nobody = not_approved(asked_for(a_plan()))
    assert (nobody.answer, nobody.reason) == (
        Answer.DENY,
        "nobody with the role desk approved within 10m; 1 must",
    )
    few = not_approved(asked_for(a_plan(), approved=said("amy"), people=2))
    assert few.reason == "only amy with the role desk approved within 10m; 2 must"


# --- a run that asks --------------------------------------------------------------------------------------------------

ASKING = a_runbook(steps=[cut_step(approval={"role": "desk", "within": "10m"})])
READY = f.Gathered(run=1, plan=a_plan(before=0.25, target=0.1), step="cut")


def following(incident: Incident, at: int = 0, **parts: Any) -> Next:
    return decide(a_view(incident, rules_of({**ASKING, **parts}, levels=[]), T0 + at))


def question() -> f.ApprovalAsked:
    found = following(told(*BEGUN, READY))
    assert isinstance(found, Ask)
    assert isinstance(found.fact, f.ApprovalAsked)
    return found.fact


def test_people_are_asked_about_exactly_this_change_and_have_so_long() -> None:
    fact = question()
    assert (fact.run, fact.step, fact.preview, fact.role, fact.people) == (1, "cut", "kelly 0.25 → 0.1", "desk", 1)
    assert (fact.until, fact.why) == (T0 + 10 * MINUTE, "")
    assert following(told(*BEGUN, READY, fact), MINUTE) == WaitUntil(T0 + 10 * MINUTE, "approval")


def test_nothing_is_done_without_an_answer_and_people_are_paged() -> None:
    late = following(told(*BEGUN, READY, question()), 10 * MINUTE)
    assert isinstance(late, Tell)
    assert isinstance(late.fact, f.Refused)
    assert (late.fact.urgent, late.fact.verdicts[-1].gate) == (True, "approval")
    assert "nobody with the role desk" in late.fact.verdicts[-1].reason


def answered(*facts: f.Fact, **asked: Any) -> tuple[f.Fact | int, ...]:
    """The run, the question, a minute later the answers, and the plan that was made anew after them."""
    fact = question().model_copy(update=asked)
    given = [one.model_copy(update={"plan": fact.plan}) for one in facts]
    return (*BEGUN, READY, fact, MINUTE, *given, READY)


YES, NO = f.Approved(run=1, step="cut", plan=""), f.Denied(run=1, step="cut", plan="", note="wait")


def test_after_the_yes_it_is_done_and_says_who_approved() -> None:
    found = following(told(*answered(YES), actor="amy"), MINUTE)
    assert isinstance(found, Perform)
    assert (found.verdicts[-1].gate, found.verdicts[-1].reason) == ("approval", "approved by amy")


def test_of_two_people_one_is_not_enough() -> None:
    assert following(told(*answered(YES, people=2)), MINUTE) == WaitUntil(T0 + 10 * MINUTE, "approval")
    assert isinstance(following(told(*answered(YES, YES, people=2)), MINUTE), Perform)


def test_a_yes_that_came_and_was_not_used_in_time_is_asked_for_again() -> None:
    late = (*answered(YES), 9 * MINUTE, READY)
    assert isinstance(following(told(*late), 10 * MINUTE), Ask)


def test_a_no_ends_it_without_a_page_for_a_person_knows() -> None:
    found = following(told(*answered(NO), actor="bob"), MINUTE)
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.Refused)
    assert (found.fact.urgent, found.fact.verdicts[-1].reason) == (False, "denied by bob: wait")
    assert found.fact.verdicts[-1].gate == "approval"


def test_what_has_changed_since_the_yes_is_asked_about_anew_and_says_so() -> None:
    moved = f.Gathered(run=1, plan=a_plan(before=0.2, target=0.1), step="cut")
    found = following(told(*answered(YES)[:-1], moved), MINUTE)
    assert isinstance(found, Ask)
    assert isinstance(found.fact, f.ApprovalAsked)
    assert found.fact.why == "what would be done now is not what was asked before"
    assert found.fact.until == T0 + 11 * MINUTE


def test_a_stop_is_heard_while_people_are_asked() -> None:
    found = following(told(*answered(f.RunStopped(run=1), YES)), MINUTE)
    assert isinstance(found, Finish)
    assert isinstance(found.fact, f.RunEnded)
    assert found.fact.why == "stopped by responder"


def test_reading_and_putting_back_what_a_person_asked_for_ask_nobody() -> None:
    reads = f.Gathered(run=1, plan=a_plan(Effect.READ), step="cut")
    assert isinstance(following(told(*BEGUN, reads)), Perform)
    back = started(cause=Cause.RESTORE, restores="i0.1.cut.1")
    assert isinstance(following(told(opened(), fired(), back, READY)), Perform)
