"""Acting at its edges: gates, what an answer means, and recovery."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from responder import facts as f
from responder.acting import PROBES, acting
from responder.calendars import Calendar
from responder.recorded import (
    AlertsSeen,
    Answer,
    Cause,
    Effect,
    Mode,
    Outcome,
    ProbeAnswer,
    Result,
    StepStatus,
)
from responder.runbook import Hours
from responder.scopes import Lock
from responder.timing import MINUTE, SECOND
from responder.view import Gather, Perform, WaitUntil
from tests.builders import (
    T0,
    a_plan,
    cut_step,
    ended,
    fired,
    intended,
    opened,
    started,
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
    TARGET,
    fact,
    following,
    result,
    seen,
    step_ended,
    two,
    view,
)

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


SOON = Calendar.model_validate({"dates": "2099-01-01", "timezone": "UTC"})


@pytest.mark.parametrize(("otherwise", "kind"), [("deny", "refused"), ("ask", "approval_asked")])
def test_outside_its_hours_it_refuses_or_asks_people_and_says_why(otherwise: str, kind: str) -> None:
    made = view(*BEGUN, READY)
    rules = made.rules
    assert rules is not None
    hours = Hours.model_validate({"within": "soon", "otherwise": otherwise})
    book = rules.runbooks["cut"].model_copy(update={"calendar": hours})
    timed = replace(rules, runbooks={"cut": book}, calendars={"soon": SOON})
    found = fact(acting(replace(made, rules_of=lambda _: timed)))
    assert found.kind == kind
    why = found.why if kind == "approval_asked" else found.verdicts[-1].reason
    assert why == "soon is closed, without a change in the next 370d"


def test_on_the_way_to_a_brake_an_old_plan_says_nothing_about_what_is_only_read() -> None:
    begun = (opened(), fired(), started(steps=("cut", "halt")), READY)
    steps = [cut_step(), cut_step(id="halt", brake=True)]
    assert fact(following(*begun, at=30 * SECOND, scopes=HELD, steps=steps)).kind == "waiting"
    again = following(*begun, at=31 * SECOND, scopes=HELD, steps=steps)
    assert again == Gather("cut", "h1", run=1, step="cut", alerts=True)


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


# --- what was put back is looked at again (docs/adr/0025) ------------------------------------------------------------


def test_what_was_put_back_is_read_back() -> None:
    back = (opened(), fired(), started(cause=Cause.RESTORE, restores="i0.1.cut.1"))
    sent = (*back, *tries(Outcome.OK))
    assert following(*sent) == Gather("cut", "h1", run=1, probe="i1.1.cut.1")
    for answer, status, said in (
        (ProbeAnswer.APPLIED, StepStatus.DONE, "said so; read back: looked"),
        (ProbeAnswer.NOT_APPLIED, StepStatus.FAILED, "said so; accepted, but it is not in force: looked"),
    ):
        assert step_ended(following(*sent, probed(answer))) == (status, said)
    unclear = probed(ProbeAnswer.UNCLEAR)
    assert following(*sent, unclear) == WaitUntil(T0 + 2 * SECOND, "probe")
    assert isinstance(following(*sent, unclear, at=2 * SECOND), Gather)
    found = step_ended(following(*sent, *[unclear] * PROBES))
    assert found == (StepStatus.UNKNOWN, "said so; accepted, but nobody could read it back: looked")
    for plan in (a_plan(blind=True), READ):
        assert step_ended(following(*back, *tries(Outcome.OK, plan=plan))) == (StepStatus.DONE, "said so")


# --- recovery ---------------------------------------------------------------------------------------------------------


def test_what_is_unsafe_is_never_sent_again() -> None:
    found = following(*BEGUN, *tries(Outcome.UNKNOWN, plan=UNSAFE))
    assert step_ended(found) == (StepStatus.UNKNOWN, "it may or may not have happened: said so")


@pytest.mark.parametrize("effect", [Effect.READ, Effect.KEYED])
def test_what_may_be_sent_again_is_sent_without_a_probe(effect: Effect) -> None:
    found = following(*BEGUN, *tries(Outcome.UNKNOWN, plan=a_plan(effect)))
    assert isinstance(found, Perform)
    assert (found.run, found.step, found.action, found.timeout) == (1, "cut", "parameter.reduce", 10 * SECOND)


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
    for scopes, gate in ((PAUSED, "pause"), (HELD, "lock")):
        waiting = fact(following(*lost, scopes=scopes))
        assert (waiting.kind, waiting.verdicts[-1].gate) == ("waiting", gate)
    unknown = {f"lock:{TARGET}": Lock(incident="i9", run=3, since=T0, unknown=True).model_dump_json()}
    status, why = step_ended(following(*lost, scopes=unknown))
    assert (status, why.startswith(f"not sent again: {TARGET} is locked")) == (StepStatus.UNKNOWN, True)
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
