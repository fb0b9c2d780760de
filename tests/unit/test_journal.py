"""Folding: every fact on every state gives a state, and the ones that matter give the right one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder import facts as f
from responder.incident import Override
from responder.journal import fold
from responder.recorded import Effect, Outcome, Plan, ProbeAnswer, Result, StepStatus
from responder.story import KINDS
from responder.timing import MINUTE, SECOND
from tests.builders import T0, a_plan, ended, fired, intended, opened, started, told
from tests.unit.fact_parts import ANY, SEEN


def test_every_kind_of_fact_is_tried() -> None:
    assert {fact.kind for fact in ANY} | {"opened"} == KINDS


@given(st.lists(st.sampled_from(ANY), max_size=12))
def test_an_old_journal_always_folds(facts: list[f.Fact]) -> None:
    state = told(opened(), *facts)
    assert state.seq == len(facts) + 1
    assert state.status


def test_a_journal_begins_with_its_opening() -> None:
    with pytest.raises(ValueError, match="empty"):
        fold([])
    with pytest.raises(TypeError, match="begins with 'opened'"):
        told(fired())


def test_a_newcomer_restarts_verification_and_is_looked_at_after_a_run() -> None:
    verifying = told(opened(), fired(), started(), f.Verifying(run=1), MINUTE, fired("b", joined=True))
    assert verifying.runs[0].verify_from == T0 + MINUTE
    over = told(opened(), fired(), started(), f.RunEnded(run=1, result=Result.FIXED, why=""), fired("b", joined=True))
    assert (over.recheck, over.rejoined) == (True, True)
    acting = told(opened(), fired(), started(), fired("b", joined=True))
    assert (acting.recheck, acting.rejoined) == (False, False)


def test_every_urgent_reason_counts_and_one_that_the_next_repeats_does_not() -> None:
    one, two, repeated = (f.ProblemFound(problem=problem) for problem in ("one", "two", "step x: two"))
    state = told(opened(), one, MINUTE, two)
    assert (state.urgent, state.urgent_number, state.urgent_told) == ("two", 2, 0)
    assert state.problems == ("one", "two")
    assert told(opened(), one, two, repeated).urgent_number == 2
    mild = f.ProblemFound(problem="mild", urgent=False)
    assert told(opened(), one, mild).urgent_number == 1


def test_what_was_urgent_has_been_told_by_a_page_or_by_the_first_level() -> None:
    problem, level = f.ProblemFound(problem="one"), f.LevelReached(round=0, index=0, name="L1", page=("first",), why="")
    by_level = told(opened(), problem, MINUTE, level)
    assert (by_level.urgent_told, by_level.last_paged) == (1, T0 + MINUTE)
    later = told(opened(), problem, f.LevelReached(round=0, index=1, name="L2", page=(), why=""))
    assert (later.urgent_told, later.last_paged) == (0, None)
    by_itself = told(opened(), problem, f.UrgentTold(number=1, page=(), why="one"))
    assert (by_itself.urgent_told, by_itself.last_paged) == (1, None)


@pytest.mark.parametrize(
    ("result", "urgent"),
    [(Result.FIXED, False), (Result.CONTAINED, False), (Result.CANCELLED, False), (Result.OBSERVED, False),
     (Result.INEFFECTIVE, True), (Result.UNVERIFIED, True), (Result.FAILED, True), (Result.UNKNOWN, True)],
)  # fmt: skip
def test_which_results_wake_people_at_once(result: Result, urgent: bool) -> None:
    state = told(opened(), fired(), started(), f.RunEnded(run=1, result=result, why="x"))
    assert (state.urgent is not None) is urgent


def test_holding_begins_anew_after_a_gap() -> None:
    def polled(held: bool) -> f.Gathered:
        return f.Gathered(run=1, observations=(SEEN,), holds=held)

    begun = (opened(), fired(), started(), f.Verifying(run=1))
    state = told(*begun, polled(True), SECOND, polled(False), SECOND, polled(True), SECOND, polled(True))  # noqa: FBT003
    assert state.runs[0].held_from == T0 + 2 * SECOND


def test_what_was_intended_as_a_reading_is_no_act() -> None:
    read = intended(plan=Plan(params={}, preview="", effect=Effect.READ, prepared_at=T0))
    assert not told(opened(), started(), read).runs[0].acted
    assert told(opened(), started(), intended()).runs[0].acted


def test_an_unknown_is_open_until_it_is_settled() -> None:
    unknown = (opened(), started(), intended(), ended(Outcome.UNKNOWN),
               f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN))  # fmt: skip
    assert [a.id for a in told(*unknown).unsettled] == ["i1.1.cut.1"]
    assert told(*unknown, f.Settled(attempt="i1.1.cut.1", applied=False, reason="x")).unsettled == ()


def test_what_was_sent_again_with_its_key_is_settled_with_it() -> None:
    keyed = a_plan(Effect.KEYED)
    both = (opened(), started(), intended(plan=keyed), ended(Outcome.UNKNOWN),
            intended(2, plan=keyed, key="responder/test/i1.1.cut.1"), ended(Outcome.UNKNOWN, 2),
            f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN))  # fmt: skip
    assert [a.id for a in told(*both).unsettled] == ["i1.1.cut.1"]
    state = told(*both, f.Settled(attempt="i1.1.cut.1", applied=True, reason="in the log"))
    assert (state.unsettled, state.runs[0].step("cut").status) == ((), StepStatus.DONE)


def test_what_is_known_is_not_changed_by_a_word_about_it() -> None:
    refused = f.Probed(attempt="i1.1.cut.1", answer=ProbeAnswer.NOT_APPLIED)
    before = (opened(), started(), intended(), ended(Outcome.UNKNOWN), refused, intended(2), ended(Outcome.UNKNOWN, 2),
              f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN))  # fmt: skip
    state = told(*before, f.Settled(attempt="i1.1.cut.1", applied=True, reason="x"))
    assert state.runs == told(*before).runs
    assert [a.id for a in state.unsettled] == ["i1.1.cut.2"]


def test_words_pages_and_ends_keep_their_place_in_the_journal() -> None:
    page = f.Paged(destination="first", key="k", why="")
    over = f.RunEnded(run=1, result=Result.FIXED, why="")
    state = told(opened(), fired(), page, f.Acknowledged(), f.TakenOver(), started(), over, page, f.Closed(why=""))
    assert state.acknowledged is not None
    assert state.taken_over is not None
    assert (state.acknowledged.seq, state.taken_over.seq, state.runs[0].ended_seq) == (4, 5, 7)
    assert (state.paged_seq, state.closed_seq) == (8, 9)
    assert state.latest_word == state.taken_over
    assert state.unanswered
    snoozed = told(opened(), page, f.Snoozed(until=T0))
    assert snoozed.snoozed is not None
    assert snoozed.snoozed.seq == 3
    assert not snoozed.unanswered


def test_only_a_fix_restarts_the_climb() -> None:
    fixed = told(opened(), started(), f.RunEnded(run=1, result=Result.FIXED, why=""), MINUTE, f.Relapsed(why=""))
    assert (fixed.ladder_round, fixed.clock_round, fixed.ladder_from) == (1, 1, T0 + MINUTE)
    useless = f.RunEnded(run=1, result=Result.INEFFECTIVE, why="")
    state = told(opened(), started(), useless, MINUTE, f.Relapsed(why=""))
    assert (state.ladder_round, state.clock_round, state.ladder_from) == (0, 1, T0)
    assert state.urgent is not None


def test_a_plan_of_before_it_was_kept_whether_a_probe_tells_counts_as_one_that_none_tells_of() -> None:
    """Else putting it back after an upgrade would be refused because of a probe that is none."""
    written = a_plan().model_dump(mode="json")
    del written["blind"]
    assert Plan.model_validate(written).blind


@pytest.mark.parametrize(("run", "at", "passes"), [(None, 59, True), (None, 60, False), (1, 90, True), (2, 30, False)])
def test_an_override_is_for_what_begins_in_time_and_lets_that_end(run: int | None, at: int, passes: bool) -> None:
    allowed = Override(runbook="cut", actor="olga", at=T0, until=T0 + 60 * MINUTE, note="agreed", run=run)
    (first,) = told(opened(), started()).runs
    assert allowed.lets(first, T0 + at * MINUTE) is passes
