"""A run that acts, at its edges: lost outcomes, words of people between two steps, what is read, what is sent again.

Each test notices small changes of `acting` that no other unit test does (`python -m tests.mutation acting`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from responder import facts as f
from responder.acting import HELD_BACK, LOST, acting, given_up
from responder.recorded import (
    Cause,
    Mode,
    Outcome,
    ProbeAnswer,
    Result,
    StepStatus,
    Trigger,
)
from responder.timing import MINUTE, SECOND
from responder.view import Finish, Gather, Perform, Tell, WaitUntil
from tests.builders import (
    T0,
    a_plan,
    cut_step,
    ended,
    fired,
    intended,
    opened,
    started,
    told,
)
from tests.unit.acting_parts import (
    BEGUN,
    CHECKS,
    HELD,
    ONE_DONE,
    ONLY_IF,
    PAUSED,
    READY,
    RESOLVED,
    TWO,
    done,
    fact,
    following,
    result,
    seen,
    step_ended,
    two,
    view,
)

# --- an attempt in flight ---------------------------------------------------------------------------------------------

DEADLINE = MINUTE
"""Of `intended`, after T0."""


def test_its_own_process_has_time_to_record_an_outcome_that_waits_for_the_store() -> None:
    facts = (*BEGUN, intended())
    lease, lost = T0 + DEADLINE + 2 * SECOND, T0 + DEADLINE + LOST
    assert following(*facts) == WaitUntil(lease, "deadline")
    assert following(*facts, at=DEADLINE + 2 * SECOND - 1) == WaitUntil(lease, "deadline")
    assert following(*facts, at=DEADLINE + 2 * SECOND) == WaitUntil(lost, "deadline")
    assert following(*facts, at=DEADLINE + LOST - 1) == WaitUntil(lost, "deadline")
    found = fact(following(*facts, at=DEADLINE + LOST))
    assert (found.attempt, found.outcome) == ("i1.1.cut.1", Outcome.UNKNOWN)
    assert found.detail == "no outcome was recorded: the process ended, or its answer was lost"
    assert LOST == 15 * SECOND


def test_who_takes_the_incident_over_waits_for_no_outcome_of_the_one_before() -> None:
    found = fact(acting(replace(view(*BEGUN, intended()), epoch=2)))
    assert found.outcome is Outcome.UNKNOWN
    same = replace(view(*BEGUN, intended(epoch=2)), epoch=2)
    assert isinstance(acting(same), WaitUntil)


def test_what_does_not_act_is_none_of_its_business() -> None:
    assert following(opened(), fired()) is None
    assert following(*BEGUN, f.RunEnded(run=1, result=Result.FIXED, why="")) is None
    assert following(*BEGUN, f.Verifying(run=1)) is None


# --- a runbook that cannot be read any more ---------------------------------------------------------------------------

GONE = (opened(), fired(), started(rules_hash="0123456789abcdef"))
UNREADABLE = "runbook cut of rules 0123456789ab cannot be read"


def test_without_its_runbook_a_run_ends_and_says_of_which_rules_it_was() -> None:
    assert result(following(*GONE)) == (Result.FAILED, UNREADABLE)
    assert result(following(*GONE, intended(), ended(Outcome.PERMANENT))) == (Result.FAILED, UNREADABLE)


def test_what_may_have_happened_is_unknown_before_such_a_run_ends() -> None:
    facts = (*GONE, intended(), ended(Outcome.UNKNOWN))
    status, why = step_ended(following(*facts))
    assert (status, why) == (
        StepStatus.UNKNOWN,
        f"it may or may not have happened: said so; {UNREADABLE}",
    )
    unknown = done(status=StepStatus.UNKNOWN, why=why)
    assert result(following(*facts, unknown)) == (Result.UNKNOWN, f"step cut: {why}")


def test_a_lost_attempt_counts_though_a_later_one_was_refused() -> None:
    doubt = (intended(1), ended(Outcome.UNKNOWN, 1), intended(2), ended(Outcome.PERMANENT, 2, detail="no"))
    assert step_ended(following(*GONE, *doubt))[0] is StepStatus.UNKNOWN
    settled = f.Settled(attempt="i1.1.cut.1", applied=False, reason="seen")
    assert result(following(*GONE, *doubt, settled)) == (Result.FAILED, UNREADABLE)


def test_giving_up_names_only_what_is_running_and_in_doubt() -> None:
    run = told(*BEGUN, intended(), ended(Outcome.UNKNOWN), done(status=StepStatus.UNKNOWN)).runs[0]
    assert given_up(run, "why") is None, "it is told already"
    assert given_up(told(*BEGUN, intended(), ended(Outcome.OK)).runs[0], "why") is None
    assert given_up(told(*BEGUN).runs[0], "why") is None


# --- the end of the acting --------------------------------------------------------------------------------------------


def test_after_a_step_that_nobody_knows_about_no_further_step_begins() -> None:
    lost = (intended(), ended(Outcome.UNKNOWN), done(status=StepStatus.UNKNOWN, why="nobody knows"))
    assert fact(two(*lost)).kind == "verifying"
    assert result(two(*lost, verify=None)) == (Result.UNKNOWN, "step cut: nobody knows")
    assert result(following(*BEGUN, *lost, verify=None)) == (Result.UNKNOWN, "step cut: nobody knows")


def test_a_step_that_failed_ends_the_run_unless_the_runbook_goes_on() -> None:
    failed = done(status=StepStatus.FAILED, why="refused")
    assert result(two(failed)) == (Result.FAILED, "step cut: refused")
    going_on = two(failed, steps=[cut_step(on_failure="continue"), TWO[1]])
    assert isinstance(going_on, Gather)
    assert going_on.step == "more"


def test_what_a_run_without_verification_ends_with() -> None:
    changed = (intended(), ended(Outcome.OK), done())
    unverified = (Result.UNVERIFIED, "the runbook has no verification")
    assert result(following(*BEGUN, *changed, verify=None)) == unverified
    nothing = (Result.OBSERVED, "there was nothing to change")
    assert result(following(*BEGUN, done(), verify=None)) == nothing
    by_hand = (*BEGUN, f.ManualDone(run=1, step="cut"))
    assert result(following(*by_hand, verify=None)) == (Result.OBSERVED, "every step went well")
    failed = (*BEGUN, done(status=StepStatus.FAILED, why="no"))
    assert result(following(*failed, verify=None, steps=[cut_step(on_failure="continue")])) == unverified


@pytest.mark.parametrize(
    ("mode", "status", "expected"),
    [
        (Mode.OBSERVE, StepStatus.DONE, (Result.OBSERVED, "every step went well")),
        (Mode.AUTO, StepStatus.DONE, (Result.OBSERVED, "every step went well")),
        (Mode.AUTO, StepStatus.FAILED, (Result.FAILED, "failed: cut")),
    ],
)
def test_a_schedule_says_whether_all_went_well(mode: Mode, status: StepStatus, expected: tuple[Result, str]) -> None:
    begun = (opened(trigger=Trigger.SCHEDULE), started(cause=Cause.SCHEDULE, mode=mode), done(status=status, why="no"))
    assert result(following(*begun, verify=None, steps=[cut_step(on_failure="continue")])) == expected


def test_observing_ends_with_nothing_changed_and_verifies_nothing() -> None:
    observing = (opened(), fired(), started(mode=Mode.OBSERVE), done(status=StepStatus.SKIPPED))
    assert result(following(*observing)) == (Result.OBSERVED, "observe mode: nothing was changed")


@pytest.mark.parametrize("cause", [Cause.RESTORE, Cause.UNDO])
@pytest.mark.parametrize(
    ("status", "why", "expected"),
    [
        (StepStatus.DONE, "", (Result.FIXED, "put back")),
        (StepStatus.DONE, "0.1 → 0.25", (Result.FIXED, "0.1 → 0.25")),
        (StepStatus.UNKNOWN, "lost", (Result.UNKNOWN, "lost")),
        (StepStatus.SKIPPED, "over", (Result.FAILED, "over")),
        (StepStatus.FAILED, "refused", (Result.FAILED, "step cut: refused")),
    ],
)
def test_what_putting_back_ends_with(cause: Cause, status: StepStatus, why: str, expected: tuple[Result, str]) -> None:
    """It goes on to nothing when it failed."""
    facts = (opened(), fired(), started(cause=cause, restores="i0.1.cut.1"), done(status=status, why=why))
    assert result(following(*facts, steps=[cut_step(on_failure="continue")], verify=None)) == expected


@pytest.mark.parametrize(
    ("cause", "status", "verified"),
    [
        (Cause.UNDO, StepStatus.DONE, True),
        (Cause.UNDO, StepStatus.UNKNOWN, False),
        (Cause.UNDO, StepStatus.FAILED, False),
        (Cause.RESTORE, StepStatus.DONE, False),
    ],
)
def test_only_what_was_undone_is_looked_at(cause: Cause, status: StepStatus, verified: bool) -> None:
    """The check must show that the harm is gone; what a person puts back may be no business of the alert any more."""
    facts = (opened(), fired(), started(cause=cause, restores="i0.1.cut.1"), done(status=status))
    found = following(*facts)
    assert found == Tell(f.Verifying(run=1)) if verified else isinstance(found, Finish)


UNREAD: tuple[f.Fact, ...] = (
    intended(),
    ended(Outcome.OK),
    f.Probed(attempt="i1.1.cut.1", answer=ProbeAnswer.UNCLEAR),
    done(status=StepStatus.UNKNOWN, why="accepted, but nobody could read it back"),
)


def test_what_was_accepted_and_cannot_be_read_back_is_unverified() -> None:
    """Neither failed nor unknown: it was answered. What was undone is looked at all the same."""
    back = (opened(), fired(), started(cause=Cause.RESTORE, restores="i0.1.cut.1"))
    assert result(following(*back, *UNREAD)) == (Result.UNVERIFIED, "accepted, but nobody could read it back")
    undo = (opened(), fired(), started(cause=Cause.UNDO, restores="i0.1.cut.1"))
    assert following(*undo, *UNREAD) == Tell(f.Verifying(run=1))
    said = (f.RunStopped(run=1), f.Settled(attempt="i1.1.cut.1", applied=True, reason="it is back"))
    assert result(following(*back, *UNREAD, *said)) == (Result.FIXED, "settled: it is back")
    lost = (intended(2), ended(Outcome.UNKNOWN, 2))
    assert result(following(*back, *UNREAD[:3], *lost, UNREAD[3]))[0] is Result.UNKNOWN, "one that nobody has accepted"


# --- between two steps: a person's word, or an alert that is over -----------------------------------------------------


def test_a_stop_ends_it_whoever_began_it() -> None:
    for cause in Cause:
        begun = (opened(), fired(), started(cause=cause, restores="i0.1.cut.1"), f.RunStopped(run=1))
        assert result(following(*begun)) == (Result.CANCELLED, "stopped by responder")
    assert fact(two(*ONE_DONE, f.RunStopped(run=1))).kind == "verifying"


def test_what_was_put_back_in_part_is_not_verified_when_it_is_stopped() -> None:
    """The verification belongs to the change, not to its undoing."""
    begun = (opened(), fired(), started(cause=Cause.UNDO, restores="i0.1.cut.1"), intended())
    sent = (*begun, ended(Outcome.TEMPORARY, retry_at=T0), f.RunStopped(run=1))
    found = following(*sent, steps=[cut_step(retry={"attempts": 3})])
    assert result(found) == (Result.CANCELLED, "stopped by responder")


@pytest.mark.parametrize(
    ("cause", "goes_on"),
    [(Cause.RESTORE, True), (Cause.ALERT, False), (Cause.UNLESS_FIXED, False), (Cause.UNDO, False)],
)
def test_taking_over_stops_every_machine_and_not_what_a_person_asked_for(cause: Cause, goes_on: bool) -> None:
    begun = (opened(), fired(), started(cause=cause, restores="i0.1.cut.1"), f.TakenOver(), READY)
    found = following(*begun)
    if goes_on:
        assert isinstance(found, Perform)
    else:
        assert result(found) == (Result.CANCELLED, "taken over by responder")


def test_whoever_took_over_may_start_what_they_want_to_have_done() -> None:
    by_person = started(cause=Cause.PERSON)
    before = (opened(), fired(), f.TakenOver(), by_person, READY)
    assert isinstance(following(*before), Perform)
    after = (opened(), fired(), by_person, 1, f.TakenOver(), READY)
    assert result(following(*after, at=1)) == (Result.CANCELLED, "taken over by responder")


@pytest.mark.parametrize(
    ("cause", "over"), [(Cause.ALERT, True), (Cause.RELAPSE, True), (Cause.UNDO, False), (Cause.RESTORE, False)]
)
def test_an_alert_that_is_over_ends_what_it_called_for_and_not_the_undoing_of_harm(cause: Cause, over: bool) -> None:
    found = following(opened(), fired(), started(cause=cause, restores="i0.1.cut.1"), RESOLVED, READY)
    if over:
        assert result(found) == (Result.CANCELLED, "the alert resolved before the next change")
    else:
        assert isinstance(found, Perform)


def test_a_sequence_that_was_begun_is_finished_though_the_alert_is_over() -> None:
    assert fact(two(*ONE_DONE, RESOLVED)).kind == "verifying"
    assert isinstance(two(*ONE_DONE, RESOLVED, finish_once_started=True), Gather)
    assert result(two(RESOLVED, finish_once_started=True))[0] is Result.CANCELLED, "it was not begun"


# --- held back too long -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", [Cause.UNLESS_FIXED, Cause.UNDO])
def test_what_a_machine_could_not_begin_within_a_minute_is_for_people(cause: Cause) -> None:
    begun = (opened(), fired(), started(cause=cause, restores="i0.1.cut.1"))
    assert fact(following(*begun, at=HELD_BACK, scopes=PAUSED)).kind == "waiting"
    late = following(*begun, at=HELD_BACK + SECOND + 1, scopes=PAUSED)
    assert result(late) == (Result.FAILED, "held back for 1m1s: people decide now")
    assert HELD_BACK == MINUTE


def test_what_a_person_started_is_given_up_only_while_it_waits() -> None:
    begun = (opened(), fired(), started(cause=Cause.PERSON))
    assert isinstance(following(*begun, at=2 * MINUTE), Gather)
    waiting = fact(following(*begun, scopes=HELD))
    assert result(following(*begun, waiting, at=HELD_BACK + 1, scopes=HELD))[0] is Result.FAILED
    alert = (*BEGUN, fact(following(*BEGUN, scopes=HELD)))
    assert isinstance(following(*alert, at=2 * MINUTE, scopes=HELD), WaitUntil), "an alert waits as long as it fires"


def test_what_was_begun_or_asked_about_is_not_given_up() -> None:
    begun = (opened(), fired(), started(cause=Cause.UNLESS_FIXED, steps=("cut", "more")))
    late = 2 * HELD_BACK
    assert isinstance(following(*begun, *ONE_DONE, at=late, steps=TWO), Gather)
    by_hand = f.ManualDone(run=1, step="cut")
    assert isinstance(following(*begun, by_hand, at=late, steps=TWO), Gather)
    asking = [cut_step(approval="desk"), TWO[1]]
    question = fact(following(*begun, READY, steps=asking))
    assert question.kind == "approval_asked"
    assert isinstance(following(*begun, READY, question, at=late, steps=asking), WaitUntil)
    assert result(following(*begun, at=late, steps=TWO))[0] is Result.FAILED


# --- what is read before a step ---------------------------------------------------------------------------------------

HARMFUL = {"check": "risk", "expect": "value < 1", "within": "2m", "harmful": "value > before"}


def test_evidence_harm_and_plan_are_asked_for_in_one_go() -> None:
    found = following(*BEGUN, checks=CHECKS, verify=HARMFUL, only_if=ONLY_IF)
    assert found == Gather("cut", "h1", run=1, checks=("other", "risk"), step="cut", alerts=True)
    same = following(*BEGUN, checks=CHECKS, verify=HARMFUL, only_if={**ONLY_IF, "check": "risk"})
    assert isinstance(same, Gather)
    assert same.checks == ("risk",), "one check is read once"


def test_only_what_is_old_is_asked_for_again() -> None:
    both = f.Gathered(run=1, observations=(seen("other"), seen()), plan=a_plan(), step="cut")
    parts: dict[str, Any] = {"checks": CHECKS, "verify": HARMFUL, "only_if": ONLY_IF}
    found = following(*BEGUN, both, at=30 * SECOND, **parts)
    assert isinstance(found, Perform)
    assert (found.run, found.step, found.action, found.timeout) == (1, "cut", "parameter.reduce", 10 * SECOND)
    plan_anew = f.Gathered(run=1, plan=a_plan(), step="cut")
    again = following(*BEGUN, both, 20 * SECOND, plan_anew, at=31 * SECOND, **parts)
    assert again == Gather("cut", "h1", run=1, checks=("other", "risk"))
    checks_anew = f.Gathered(run=1, observations=(seen("other"), seen()))
    again = following(*BEGUN, both, 20 * SECOND, checks_anew, at=31 * SECOND, **parts)
    assert again == Gather("cut", "h1", run=1, step="cut", alerts=True)


def test_an_answer_from_before_the_clock_was_set_back_is_asked_for_again() -> None:
    assert following(*BEGUN, READY, at=-1) == Gather("cut", "h1", run=1, step="cut", alerts=True)


def test_the_plan_of_another_step_is_no_plan() -> None:
    other = f.Gathered(run=1, plan=a_plan(), step="more")
    found = two(other)
    assert isinstance(found, Gather)
    assert found.step == "cut"


def test_harm_is_measured_against_what_was_before_the_first_change() -> None:
    parts: dict[str, Any] = {"checks": CHECKS, "verify": HARMFUL, "steps": TWO}
    begun = (opened(), fired(), started(steps=("cut", "more")))
    for happened, checks in (
        ((), ("risk",)),
        (ONE_DONE, ()),
        ((f.ManualDone(run=1, step="cut"),), ()),
    ):
        found = following(*begun, *happened, **parts)
        assert isinstance(found, Gather)
        assert found.checks == checks
    plain = following(*begun, checks=CHECKS, steps=TWO)
    assert isinstance(plain, Gather)
    assert plain.checks == (), "the verification declares no harm"
    observing = following(opened(), fired(), started(mode=Mode.OBSERVE), checks=CHECKS, verify=HARMFUL)
    assert isinstance(observing, Gather)
    assert observing.checks == (), "nothing will be changed"
    unverified = following(*BEGUN, verify=None)
    assert isinstance(unverified, Gather)
    assert unverified.checks == ()


def test_putting_back_asks_for_its_plan_alone() -> None:
    begun = (opened(), fired(), started(cause=Cause.RESTORE, restores="i0.1.cut.1"))
    found = following(*begun, checks=CHECKS, verify=HARMFUL, only_if=ONLY_IF, steps=[cut_step(when="checks.other > 9")])
    assert found == Gather("cut", "h1", run=1, step="cut", restore="i0.1.cut.1")
    fresh = following(*begun, READY, checks=CHECKS, verify=HARMFUL)
    assert isinstance(fresh, Perform)


# --- conditions and what people do ------------------------------------------------------------------------------------


def test_a_step_reads_the_checks_that_its_condition_names_and_is_left_out() -> None:
    parts: dict[str, Any] = {"checks": CHECKS, "steps": [cut_step(when="checks.other > 3")]}
    assert following(*BEGUN, **parts) == Gather("cut", "h1", run=1, checks=("other",))
    low = f.Gathered(run=1, observations=(seen("other", 2.0),))
    skipped = fact(following(*BEGUN, low, **parts))
    assert (skipped.kind, skipped.run, skipped.step) == ("step_skipped", 1, "cut")
    assert skipped.why == "when checks.other > 3 is not true"
    high = f.Gathered(run=1, observations=(seen("other", 4.0),))
    assert following(*BEGUN, high, **parts) == Gather("cut", "h1", run=1, step="cut", alerts=True)


def test_before_a_person_changes_something_harm_is_measured_too() -> None:
    manual = [{"id": "cut", "manual": "Restart it"}]
    parts: dict[str, Any] = {"checks": CHECKS, "verify": HARMFUL, "steps": manual}
    assert following(*BEGUN, **parts) == Gather("cut", "h1", run=1, checks=("risk",))
    known = f.Gathered(run=1, observations=(seen(),))
    assert fact(following(*BEGUN, known, **parts)).kind == "manual_asked"


def test_while_a_person_does_it_a_stop_is_heard_and_nothing_else_is_due() -> None:
    manual = [{"id": "cut", "manual": "Restart it"}]
    asked = (*BEGUN, f.ManualAsked(run=1, step="cut", instruction="Restart it"))
    assert following(*asked, steps=manual) is None
    assert result(following(*asked, RESOLVED, steps=manual))[0] is Result.CANCELLED


def test_a_retry_waits_for_its_moment() -> None:
    steps = [cut_step(retry={"attempts": 3})]
    facts = (*BEGUN, f.StepFailed(run=1, step="cut", why="down", retry_at=T0 + 5 * SECOND))
    assert following(*facts, at=5 * SECOND - 1, steps=steps) == WaitUntil(T0 + 5 * SECOND, "retry")
    assert isinstance(following(*facts, at=5 * SECOND, steps=steps), Gather)
    assert result(following(*facts, RESOLVED, steps=steps))[0] is Result.CANCELLED


@pytest.mark.parametrize("when", [None, "checks.risk > 0"])
def test_what_is_asked_again_and_again_in_vain_fails_its_step(when: str | None) -> None:
    step = cut_step() if when is None else cut_step(when=when)
    rounds = [f.Gathered(run=1, observations=(seen(),), plan=a_plan(), step="cut")] * 10
    status, why = step_ended(following(*BEGUN, *rounds, at=31 * SECOND, steps=[step], checks=CHECKS))
    assert status is StepStatus.FAILED
    assert why.endswith("10 times: give it more time or ask less")
