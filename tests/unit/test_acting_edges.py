"""A run that acts, at its edges: lost outcomes, words of people between two steps, what is read, what is sent again.

Each test notices small changes of `acting` that no other unit test does (`python -m tests.mutation acting`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from responder import facts as f
from responder.acting import HELD_BACK, LOST, PROBES, acting, given_up
from responder.recorded import (
    AlertsSeen,
    Answer,
    Cause,
    Effect,
    Mode,
    Observation,
    Outcome,
    ProbeAnswer,
    Result,
    StepStatus,
    Trigger,
)
from responder.scopes import Lock, Pause
from responder.timing import MINUTE, SECOND
from responder.view import Ask, Finish, Gather, Next, Perform, Tell, View, WaitUntil
from tests.builders import (
    T0,
    a_plan,
    a_runbook,
    a_view,
    cut_step,
    ended,
    fired,
    intended,
    opened,
    rules_of,
    started,
    told,
)

BEGUN: tuple[f.Fact, ...] = (opened(), fired(), started())
TARGET = "risk-api/kelly_fraction"
RESOLVED = f.AlertResolved(fingerprint="a", ends_at=None)
TWO = [cut_step(), cut_step(id="more")]
READY = f.Gathered(run=1, plan=a_plan(), step="cut")
HELD = {f"lock:{TARGET}": Lock(incident="i9", run=3, since=T0).model_dump_json()}
PAUSED = {"pause:global": Pause(paused=True, actor="al", at=T0).model_dump_json()}


def view(*facts: f.Fact | int, at: int = 0, scopes: dict[str, str] | None = None, **parts: Any) -> View:
    """So long after T0."""
    return a_view(told(*facts), rules_of(a_runbook(**parts), levels=[]), T0 + at, scopes)


def following(*facts: f.Fact | int, at: int = 0, scopes: dict[str, str] | None = None, **parts: Any) -> Next | None:
    return acting(view(*facts, at=at, scopes=scopes, **parts))


def fact(found: Next | None) -> Any:
    assert isinstance(found, Tell | Ask | Finish), found
    return found.fact


def result(found: Next | None) -> tuple[Result, str]:
    assert isinstance(found, Finish), found
    assert isinstance(found.fact, f.RunEnded)
    assert found.fact.run == 1
    return found.fact.result, found.fact.why


def step_ended(found: Next | None) -> tuple[StepStatus, str]:
    assert isinstance(found, Tell), found
    assert isinstance(found.fact, f.StepEnded)
    assert (found.fact.run, found.fact.step) == (1, "cut")
    return found.fact.status, found.fact.why


def done(step: str = "cut", status: StepStatus = StepStatus.DONE, why: str = "") -> f.StepEnded:
    return f.StepEnded(run=1, step=step, status=status, why=why)


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


def two(*facts: f.Fact | int, **parts: Any) -> Next | None:
    """What follows in a run of two steps."""
    return following(opened(), fired(), started(steps=("cut", "more")), *facts, **{"steps": TWO, **parts})


def test_after_a_step_that_nobody_knows_about_no_further_step_begins() -> None:
    lost = (intended(), ended(Outcome.UNKNOWN), done(status=StepStatus.UNKNOWN, why="nobody knows"))
    assert fact(two(*lost)).kind == "verifying"
    assert result(two(*lost, verify=None)) == (Result.UNKNOWN, "step cut: nobody knows")


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
    """It is not verified: its alert may have been over for hours. And it goes on to nothing when it failed."""
    facts = (opened(), fired(), started(cause=cause, restores="i0.1.cut.1"), done(status=status, why=why))
    assert result(following(*facts, steps=[cut_step(on_failure="continue")])) == expected


# --- between two steps: a person's word, or an alert that is over -----------------------------------------------------

ONE_DONE = (intended(), ended(Outcome.OK), done())


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

CHECK = {"action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}}
CHECKS = {"risk": CHECK, "other": CHECK}
HARMFUL = {"check": "risk", "expect": "value < 1", "within": "2m", "harmful": "value > before"}
ONLY_IF = {"check": "other", "expect": "value > 1"}


def seen(check: str = "risk", value: float = 2.0, at: int = 0) -> Observation:
    return Observation(check=check, value=value, observed_at=T0 + at, asked_at=T0 + at)


def test_evidence_harm_and_plan_are_asked_for_in_one_go() -> None:
    found = following(*BEGUN, checks=CHECKS, verify=HARMFUL, only_if=ONLY_IF)
    assert found == Gather("cut", "h1", run=1, checks=("other", "risk"), step="cut", alerts=True)
    same = following(*BEGUN, checks=CHECKS, verify=HARMFUL, only_if={**ONLY_IF, "check": "risk"})
    assert isinstance(same, Gather)
    assert same.checks == ("risk",), "one check is read once"


def test_only_what_is_old_is_asked_for_again() -> None:
    both = f.Gathered(run=1, observations=(seen("other"), seen()), plan=a_plan(), step="cut")
    parts: dict[str, Any] = {"checks": CHECKS, "verify": HARMFUL, "only_if": ONLY_IF}
    assert isinstance(following(*BEGUN, both, at=30 * SECOND, **parts), Perform)
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


# --- gates and refusals -----------------------------------------------------------------------------------------------


def test_observing_previews_a_change_and_a_schedule_does_what_only_reads() -> None:
    for cause, effect, performed in (
        (Cause.ALERT, Effect.SET, False),
        (Cause.ALERT, Effect.READ, False),
        (Cause.SCHEDULE, Effect.READ, True),
        (Cause.SCHEDULE, Effect.SET, False),
        (Cause.RESTORE, Effect.SET, True),
    ):
        begun = started(cause=cause, mode=Mode.OBSERVE, restores="i0.1.cut.1" if cause is Cause.RESTORE else None)
        found = following(opened(), fired(), begun, f.Gathered(run=1, plan=a_plan(effect), step="cut"))
        assert isinstance(found, Perform) is performed, (cause, effect)
        if not performed:
            assert (fact(found).kind, fact(found).preview) == ("previewed", "kelly 0.25 → 0.1")


def test_a_refusal_that_was_told_ends_it_and_another_one_is_told_first() -> None:
    lock = Lock(incident="i9", run=3, since=T0, unknown=True)
    unknown = {f"lock:{TARGET}": lock.model_dump_json()}
    first = fact(following(*BEGUN, scopes=unknown))
    assert (first.kind, first.urgent) == ("refused", True)
    assert result(following(*BEGUN, first, scopes=unknown)) == (
        Result.CANCELLED,
        f"refused: {first.verdicts[-1].reason}",
    )
    other = {f"lock:{TARGET}": lock.model_copy(update={"run": 4}).model_dump_json()}
    assert fact(following(*BEGUN, first, scopes=other)).kind == "refused"
    acted = two(*ONE_DONE, f.Refused(run=1, step="more", verdicts=first.verdicts), scopes=unknown)
    assert fact(acted).kind == "verifying", "what was changed is verified"


def test_the_check_says_there_is_nothing_to_do_and_nobody_is_woken() -> None:
    low = f.Gathered(run=1, observations=(seen("other", 0.5),), plan=a_plan(), step="cut")
    refused = fact(following(*BEGUN, low, checks=CHECKS, only_if=ONLY_IF))
    assert (refused.kind, refused.urgent) == ("refused", False)


def test_waiting_for_another_gate_is_told_again() -> None:
    first = fact(following(*BEGUN, scopes=PAUSED))
    assert (first.kind, first.until) == ("waiting", T0 + 5 * SECOND)
    assert following(*BEGUN, first, at=5 * SECOND, scopes=PAUSED) == WaitUntil(T0 + 10 * SECOND, "gate")
    other = fact(following(*BEGUN, first, at=5 * SECOND, scopes=HELD))
    assert (other.kind, other.verdicts[-1].gate) == ("waiting", "lock")


# --- what an answer means ---------------------------------------------------------------------------------------------

KEYED, UNSAFE, READ = a_plan(Effect.KEYED), a_plan(Effect.UNSAFE), a_plan(Effect.READ)


def tries(*outcomes: Outcome, plan: Any = None) -> tuple[f.Fact, ...]:
    """So many attempts with these outcomes."""
    return tuple(x for n, o in enumerate(outcomes, 1) for x in (intended(n, plan or a_plan()), ended(o, n)))


def test_an_answer_that_is_good_ends_the_step() -> None:
    assert step_ended(following(*BEGUN, *tries(Outcome.OK))) == (StepStatus.DONE, "said so")
    assert step_ended(following(*BEGUN, *tries(Outcome.PERMANENT))) == (StepStatus.FAILED, "said so")


def test_a_refusal_after_a_lost_answer_leaves_the_doubt() -> None:
    """The first may have happened: a service that refuses the second says nothing about it."""
    for effect in (Effect.KEYED, Effect.UNSAFE):
        found = following(*BEGUN, *tries(Outcome.UNKNOWN, Outcome.PERMANENT, plan=a_plan(effect)))
        assert step_ended(found) == (
            StepStatus.UNKNOWN,
            "it may or may not have happened: said so; then said so",
        )


def test_what_was_refused_for_the_moment_after_a_lost_answer_goes_with_the_key_of_before() -> None:
    found = following(*BEGUN, *tries(Outcome.UNKNOWN, Outcome.TEMPORARY, plan=KEYED), at=MINUTE)
    assert isinstance(found, Perform)
    assert found.again is not None
    assert (found.again.number, found.plan) == (2, KEYED)


def test_attempts_end_where_the_runbook_says_and_the_words_count_them() -> None:
    retry = [cut_step(retry={"attempts": 2})]
    once = following(*BEGUN, *tries(Outcome.TEMPORARY), steps=[cut_step(retry={"attempts": 1})])
    assert step_ended(once) == (StepStatus.FAILED, "said so")
    assert isinstance(following(*BEGUN, *tries(Outcome.TEMPORARY), steps=retry), Gather)
    twice = following(*BEGUN, *tries(Outcome.TEMPORARY, Outcome.TEMPORARY), steps=retry)
    assert step_ended(twice) == (StepStatus.FAILED, "said so after 2 attempts")


def test_a_retry_hears_a_stop_and_waits_for_its_moment() -> None:
    retry = [cut_step(retry={"attempts": 3})]
    again = (*BEGUN, intended(), ended(Outcome.TEMPORARY, retry_at=T0 + 5 * SECOND))
    assert following(*again, steps=retry) == WaitUntil(T0 + 5 * SECOND, "retry")
    assert isinstance(following(*again, at=5 * SECOND, steps=retry), Gather)
    assert fact(following(*again, f.TakenOver(), steps=retry)).kind == "verifying"


# --- recovery ---------------------------------------------------------------------------------------------------------


def test_what_is_unsafe_is_never_sent_again() -> None:
    found = following(*BEGUN, *tries(Outcome.UNKNOWN, plan=UNSAFE))
    assert step_ended(found) == (StepStatus.UNKNOWN, "it may or may not have happened: said so")


@pytest.mark.parametrize("effect", [Effect.READ, Effect.KEYED])
def test_what_may_be_sent_again_is_sent_without_a_probe(effect: Effect) -> None:
    found = following(*BEGUN, *tries(Outcome.UNKNOWN, plan=a_plan(effect)))
    assert isinstance(found, Perform)


def probed(answer: ProbeAnswer, detail: str = "looked") -> f.Probed:
    return f.Probed(attempt="i1.1.cut.1", answer=answer, detail=detail)


def test_what_sets_something_is_looked_at_first() -> None:
    lost = (*BEGUN, *tries(Outcome.UNKNOWN))
    assert following(*lost) == Gather("cut", "h1", run=1, probe="i1.1.cut.1")
    there = following(*lost, probed(ProbeAnswer.APPLIED))
    assert step_ended(there) == (StepStatus.DONE, "it happened: looked")
    assert isinstance(following(*lost, probed(ProbeAnswer.NOT_APPLIED)), Perform)
    unclear = following(*lost, *[probed(ProbeAnswer.UNCLEAR)] * PROBES)
    assert step_ended(unclear) == (StepStatus.UNKNOWN, "it may or may not have happened: said so; looked")
    patient = following(*lost, *[probed(ProbeAnswer.UNCLEAR)] * (PROBES - 1))
    assert isinstance(patient, WaitUntil)
    assert PROBES == 5


def test_sending_again_ends_after_so_many_times() -> None:
    twice = [cut_step(retry={"in_doubt": 1})]
    assert isinstance(following(*BEGUN, *tries(Outcome.UNKNOWN, plan=KEYED), steps=twice), Perform)
    lost = following(*BEGUN, *tries(Outcome.UNKNOWN, Outcome.UNKNOWN, plan=KEYED), at=MINUTE, steps=twice)
    assert step_ended(lost) == (StepStatus.UNKNOWN, "given up after 2 attempts: said so")
    read = following(*BEGUN, *tries(Outcome.UNKNOWN, Outcome.UNKNOWN, plan=READ), at=MINUTE, steps=twice)
    assert step_ended(read) == (StepStatus.FAILED, "given up after 2 attempts: said so"), "it has changed nothing"


@pytest.mark.parametrize("word", [RESOLVED, f.TakenOver(), f.RunStopped(run=1)])
def test_it_is_not_sent_again_when_it_is_wanted_no_more(word: f.Fact) -> None:
    why = "not sent again: the alert resolved or a person took over"
    keyed = following(*BEGUN, *tries(Outcome.UNKNOWN, plan=KEYED), word)
    assert step_ended(keyed) == (StepStatus.UNKNOWN, why)
    not_there = following(*BEGUN, *tries(Outcome.UNKNOWN), probed(ProbeAnswer.NOT_APPLIED), word)
    assert step_ended(not_there) == (StepStatus.SKIPPED, why)


def test_sending_again_passes_the_gates_again() -> None:
    lost = (*BEGUN, *tries(Outcome.UNKNOWN, plan=KEYED))
    waiting = fact(following(*lost, scopes=PAUSED))
    assert (waiting.kind, waiting.verdicts[-1].gate) == ("waiting", "pause")
    ceiling = replace(view(*lost), ceiling=Mode.OBSERVE)
    status, why = step_ended(acting(ceiling))
    assert (status, why) == (StepStatus.UNKNOWN, "not sent again: by now nothing may be changed: mode observe")
    known = replace(view(*BEGUN, *tries(Outcome.UNKNOWN), probed(ProbeAnswer.NOT_APPLIED)), ceiling=Mode.OBSERVE)
    assert step_ended(acting(known))[0] is StepStatus.FAILED


def test_sending_again_waits_for_the_service_s_own_word() -> None:
    """Counted from the end of the last try; a moment that the service itself named is kept."""
    second = (*BEGUN, intended(1, KEYED), ended(Outcome.UNKNOWN, 1), 10 * SECOND, intended(2, KEYED))
    lost = (*second, ended(Outcome.UNKNOWN, 2))
    assert following(*lost, at=11 * SECOND) == WaitUntil(T0 + 12 * SECOND, "retry")
    assert isinstance(following(*lost, at=12 * SECOND), Perform)
    refused = (*second, ended(Outcome.TEMPORARY, 2, retry_at=T0 + 40 * SECOND))
    assert following(*refused, at=12 * SECOND) == WaitUntil(T0 + 40 * SECOND, "retry")
    assert isinstance(following(*refused, at=40 * SECOND), Perform)


def test_what_alertmanager_said_too_long_ago_is_asked_again_before_it_is_sent_again() -> None:
    said = f.Gathered(run=1, plan=KEYED, step="cut", alerts=AlertsSeen(observed_at=T0, nobody="no Alertmanager"))
    lost = (*BEGUN, said, *tries(Outcome.UNKNOWN, plan=KEYED))
    found = following(*lost, at=30 * SECOND)
    assert isinstance(found, Perform)
    assert (found.verdicts[-1].gate, found.verdicts[-1].answer) == ("alerts", Answer.ALLOW)
    assert following(*lost, at=31 * SECOND) == Gather("cut", "h1", run=1, alerts=True)
    by_person = (opened(), fired(), started(cause=Cause.PERSON), said, *tries(Outcome.UNKNOWN, plan=KEYED))
    assert isinstance(following(*by_person, at=31 * SECOND), Perform), "no alert called for it"
