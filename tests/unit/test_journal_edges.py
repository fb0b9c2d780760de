"""Folding at its edges: alerts that come and go, who began a run, what a gate let pass, and what people settle.

Each test notices small changes of `journal` that no other unit test does (`python -m tests.mutation journal`).
"""

from __future__ import annotations

import pytest

from responder import facts as f
from responder.incident import EPISODES_KEPT, Incident, MachineTimer
from responder.recorded import (
    Answer,
    Cause,
    Observation,
    Outcome,
    Phase,
    ProbeAnswer,
    Result,
    StepStatus,
    Trigger,
    Verdict,
)
from responder.timing import HOUR, MINUTE, SECOND
from tests.builders import T0, ended, fired, intended, opened, started, told

SEEN = Observation(check="risk", value=0.5, observed_at=T0, asked_at=T0)


def after(*facts: f.Fact | int) -> Incident:
    """The state after these facts, from T0 on; a number lets so many µs pass."""
    return told(opened(), fired(), *facts)


def over(result: Result, run: int = 1) -> f.RunEnded:
    """A run ends so."""
    return f.RunEnded(run=run, result=result, why="why")


# --- alerts -----------------------------------------------------------------------------------------------------------


def test_a_newcomer_to_a_run_that_acts_begins_no_verification() -> None:
    (run,) = after(started(), fired("b", joined=True)).runs
    assert (run.phase, run.verify_from, run.held_from) == (Phase.ACTING, None, None)


REFUSED = Verdict(gate="alerts", answer=Answer.DENY, reason="it is silenced")
OTHER = Verdict(gate="budget", answer=Answer.DENY, reason="used up")


@pytest.mark.parametrize(
    ("verdicts", "again"),
    [
        ((REFUSED,), True),
        ((OTHER, REFUSED), True),
        ((REFUSED, OTHER), False),
        ((REFUSED.model_copy(update={"answer": Answer.ALLOW}),), False),
        ((OTHER,), False),
        ((), False),
    ],
)
def test_what_a_silence_refused_is_called_for_again_when_it_is_over(verdicts: tuple[Verdict, ...], again: bool) -> None:
    refused = (started(), f.Refused(run=1, step="cut", verdicts=verdicts, urgent=False), over(Result.CANCELLED))
    heard = f.AlertsUnsilenced(fingerprints=("a",))
    state = after(f.AlertsSilenced(fingerprints=("a", "never"), why="silence 7"), *refused)
    assert (state.episodes["a"].silenced, set(state.episodes)) == ("silence 7", {"a"})
    found = after(f.AlertsSilenced(fingerprints=("a",), why="silence 7"), *refused, heard)
    assert (found.episodes["a"].silenced, found.recheck, found.rejoined) == ("", again, again)
    under_way = after(*refused[:2], heard)
    assert (under_way.recheck, under_way.rejoined) == (False, False), "it passes its gate itself"
    assert not after(heard).rejoined


def test_of_the_alerts_that_are_over_the_one_that_ended_first_is_forgotten() -> None:
    facts: list[f.Fact | int] = [fired("slow")]
    for number in range(EPISODES_KEPT - 1):
        mark = f"m{number}"
        facts += [fired(mark), SECOND, f.AlertResolved(fingerprint=mark, ends_at=None)]
    facts += [f.AlertResolved(fingerprint="slow", ends_at=None)]
    full = told(opened(), fired("firing"), *facts)
    assert len(full.episodes) == EPISODES_KEPT + 1
    more = (fired("late"), SECOND, f.AlertResolved(fingerprint="late", ends_at=None))
    found = told(opened(), fired("firing"), *facts, *more).episodes
    assert set(found) == {"firing", "slow", "late", *(f"m{n}" for n in range(1, EPISODES_KEPT - 1))}
    assert after(f.AlertResolved(fingerprint="never", ends_at=None)).recheck is False


def test_a_schedule_that_is_due_again_begins_for_itself() -> None:
    rejoined = (started(), over(Result.FAILED), fired("b", joined=True))
    before = after(*rejoined)
    assert (before.recheck, before.rejoined, before.result) == (True, True, Result.FAILED)
    state = after(*rejoined, f.ScheduleDue(due=T0, rules_hash="h2", policy="other"))
    assert (state.recheck, state.rejoined, state.result, state.urgent) == (False, False, None, None)
    assert (state.rules_hash, state.policy, state.urgent_told) == ("h2", "other", before.urgent_number)


@pytest.mark.parametrize(("blocks", "blocked"), [((False,), False), ((True,), True), ((True, False), True)])
def test_what_keeps_every_run_from_starting_goes_on_to_do_so(blocks: tuple[bool, ...], blocked: bool) -> None:
    assert after(*[f.ProblemFound(problem="p", blocks=one) for one in blocks]).blocked is blocked


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cause", "anew"), [(Cause.PERSON, True), (Cause.ALERT, False), (Cause.RELAPSE, False)])
def test_what_a_person_starts_again_begins_for_itself(cause: Cause, anew: bool) -> None:
    state = after(started(), over(Result.FAILED), MINUTE, started(number=2, cause=cause))
    assert (state.ladder_round, state.clock_round) == ((1, 1) if anew else (0, 0))
    assert (state.result is None) is anew
    first = after(MINUTE, started(cause=cause))
    assert (first.ladder_round, first.clock_round) == (0, 0)


def test_a_run_that_a_machine_was_to_start_is_started() -> None:
    timer = f.MachineFired(round=0, index=0, runbook="cut")
    assert after(timer).machine["0:0"].starts == "cut"
    assert after(timer, started(machine="0:0")).machine["0:0"].starts is None
    assert after(timer, started()).machine["0:0"].starts == "cut"


PASSED = Verdict(gate="calendar", answer=Answer.ALLOW, reason="amy lets it act", override=True)
ALLOWED = Verdict(gate="pause", answer=Answer.ALLOW, reason="not paused")
LET = f.CalendarOverridden(runbook="cut", until=T0 + HOUR, hours="closed", note="agreed")


def acted_by(*verdicts: Verdict, said: bool = True) -> int | None:
    """The run that the word about its hours was spent on, when an attempt passed by these verdicts."""
    state = after(*([LET] if said else []), started(), intended(verdicts=verdicts))
    return None if state.override is None else state.override.run


def test_the_word_about_its_hours_is_spent_on_the_run_that_passed_by_it() -> None:
    assert acted_by(PASSED) == acted_by(ALLOWED, PASSED) == 1
    assert acted_by(ALLOWED) is None
    assert acted_by(PASSED, said=False) is None
    again = (started(), over(Result.FAILED), started(number=2), intended(2, run=2, verdicts=(PASSED,)))
    state = after(LET, *again)
    assert state.override is not None
    assert state.override.run == 2


WARNED = Verdict(gate="changes", answer=Answer.ALLOW, reason="the limit of changes", warn=True)


def test_what_a_brake_passes_is_urgent_unless_its_starter_has_seen_it() -> None:
    assert after(started(), intended(verdicts=(ALLOWED, WARNED))).urgent == "the limit of changes"
    assert after(started(), intended(verdicts=(ALLOWED,))).urgent is None
    assert after(started(confirmed=(WARNED,)), intended(verdicts=(WARNED, ALLOWED))).urgent is None
    other = Verdict(gate="lock", answer=Answer.ALLOW, reason="the lock", warn=True)
    assert after(started(confirmed=(WARNED,)), intended(verdicts=(WARNED, other))).urgent == "the lock"
    first_only = (started(confirmed=(WARNED,)), over(Result.CANCELLED), started(number=2))
    state = after(*first_only, intended(2, run=2, verdicts=(WARNED,)))
    assert state.urgent == "the limit of changes", "of another run"


def test_the_end_of_an_attempt_that_is_not_known_changes_nothing() -> None:
    known = after(started(), intended())
    found = after(started(), intended(), ended(Outcome.TEMPORARY, 9, retry_at=T0 + MINUTE))
    assert found.runs == known.runs


@pytest.mark.parametrize("status", list(StepStatus))
def test_only_a_step_that_nobody_knows_about_is_urgent(status: StepStatus) -> None:
    state = after(started(), f.StepEnded(run=1, step="cut", status=status, why="lost"))
    assert state.urgent == ("lost" if status is StepStatus.UNKNOWN else None)


def test_a_step_that_could_not_be_prepared_counts_its_tries() -> None:
    failed = f.StepFailed(run=1, step="cut", why="down", retry_at=T0 + MINUTE)
    step = after(started(), failed, failed).runs[0].step("cut")
    assert (step.tries, step.status, step.retry_at) == (2, StepStatus.PENDING, T0 + MINUTE)
    last = after(started(), failed, f.StepFailed(run=1, step="cut", why="down")).runs[0].step("cut")
    assert (last.tries, last.status) == (2, StepStatus.FAILED)


def test_what_was_left_out_and_what_was_only_shown_is_skipped() -> None:
    for fact in (
        f.StepSkipped(run=1, step="cut", why="shown"),
        f.Previewed(run=1, step="cut", preview="shown", verdicts=()),
    ):
        step = after(started(), fact).runs[0].step("cut")
        assert (step.status, step.why) == (StepStatus.SKIPPED, "shown")


# --- the end of a run, and after it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("result", list(Result))
def test_only_a_fix_shows_that_the_check_holds(result: Result) -> None:
    state = after(started(), over(result))
    assert (state.result, state.watch_holds) == (result, result is Result.FIXED)


@pytest.mark.parametrize("trigger", list(Trigger))
def test_who_acknowledged_a_run_has_not_seen_how_it_ended_badly(trigger: Trigger) -> None:
    begun = (opened(trigger=trigger), started(), f.Acknowledged())
    failed = told(*begun, over(Result.FAILED))
    assert (failed.acknowledged is not None, failed.still_since is not None) == (
        (True, True) if trigger is Trigger.ALERT else (False, False)
    )
    assert told(*begun, over(Result.OBSERVED)).acknowledged is not None


def test_a_relapse_forgets_what_was_seen_and_after_a_fix_what_was_urgent() -> None:
    bad = f.ProblemFound(problem="bad")
    joined = fired("b", joined=True)
    for result, urgent in ((Result.FIXED, None), (Result.CONTAINED, "bad")):
        held = (started(), bad, over(result), joined, f.MachineGathered(round=0, index=0, observation=SEEN, holds=True))
        state = after(*held, f.Relapsed(why=""))
        assert (state.result, state.watch_holds, state.recheck, state.rejoined) == (None, False, False, False)
        assert (state.urgent, state.urgent_told) == (urgent, 1 if urgent is None else 0)


# --- machines ---------------------------------------------------------------------------------------------------------


def test_a_countdown_that_was_held_looks_again_and_counts_how_often() -> None:
    gathered = f.MachineGathered(round=0, index=0, observation=SEEN, holds=False)
    held = f.CountdownHeld(round=0, index=0, until=T0 + MINUTE)
    assert after(gathered).machine["0:0"] == MachineTimer(gathered=True)
    assert after(gathered, held).machine["0:0"] == MachineTimer(held_until=T0 + MINUTE, holds=1)
    assert after(held, held).machine["0:0"].holds == 2
    assert after(held, MINUTE - 1, gathered).machine["0:0"].gathered is False, "old when it comes"
    assert after(held, MINUTE, gathered).machine["0:0"].gathered is True
    assert after(held, gathered).watch == SEEN


def test_what_was_good_by_itself_counts_as_fixed_once_no_run_is_under_way() -> None:
    good, bad = (f.MachineFired(round=0, index=0, good=one, held="why") for one in (True, False))
    ineffective = (started(), over(Result.INEFFECTIVE))
    assert after(*ineffective, good).result is Result.FIXED
    assert after(*ineffective, bad).result is Result.INEFFECTIVE
    assert after(started(), good).result is None
    fired_timer = after(good).machine["0:0"]
    assert (fired_timer.fired, fired_timer.held, fired_timer.starts) == (True, "why", None)


# --- people -----------------------------------------------------------------------------------------------------------

ASKED = f.ApprovalAsked(run=1, step="cut", plan="p1", preview="", role="desk", until=T0 + HOUR)


def test_an_answer_counts_for_the_plan_that_it_was_given_to_and_for_no_other() -> None:
    for step, plan, counts in (("cut", "p1", True), ("cut", "p2", False), ("more", "p1", False)):
        yes = after(started(), ASKED, f.Approved(run=1, step=step, plan=plan)).runs[0].approval
        no = after(started(), ASKED, f.Denied(run=1, step=step, plan=plan)).runs[0].approval
        assert yes is not None
        assert no is not None
        assert (len(yes.approved), no.denied is not None) == (int(counts), counts)
    assert after(started(), f.Approved(run=1, step="cut", plan="p1")).runs[0].approval is None


@pytest.mark.parametrize(("applied", "status"), [(True, StepStatus.DONE), (False, StepStatus.FAILED)])
def test_what_a_person_settles_is_known(applied: bool, status: StepStatus) -> None:
    lost = (started(), intended(), ended(Outcome.UNKNOWN))
    unknown = f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN, why="lost")
    settled = f.Settled(attempt="i1.1.cut.1", applied=applied, reason="seen")
    state = after(*lost, unknown, settled)
    (attempt,) = state.runs[0].attempts
    assert (attempt.settled, attempt.settled_applied, attempt.probe_detail) == (True, applied, "seen")
    assert (state.runs[0].step("cut").status, state.runs[0].step("cut").why) == (status, "settled: seen")
    done = f.StepEnded(run=1, step="cut", status=StepStatus.DONE, why="it happened")
    assert after(*lost, done, settled).runs[0].step("cut").why == "it happened", "nobody asks any more"
    assert after(*lost, f.Settled(attempt="never", applied=applied, reason="seen")).runs == after(*lost).runs


def test_what_was_sent_again_with_one_key_is_settled_together_and_nothing_else_is() -> None:
    unknown = f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN, why="lost")
    lost = (intended(1, key="k"), ended(Outcome.UNKNOWN, 1), intended(2, key="k"), ended(Outcome.UNKNOWN, 2))
    refused = (intended(3, key="k"), ended(Outcome.PERMANENT, 3))
    settled = f.Settled(attempt="i1.1.cut.2", applied=True, reason="seen")
    (run,) = after(started(), *lost, *refused, unknown, settled).runs
    assert [attempt.settled for attempt in run.attempts] == [True, True, False], "what was refused is known"
    assert run.step("cut").status is StepStatus.DONE
    other = (intended(4, key="another"), ended(Outcome.UNKNOWN, 4))
    (run,) = after(started(), *lost, *other, unknown, settled).runs
    assert [attempt.settled for attempt in run.attempts] == [True, True, False]
    assert run.step("cut").status is StepStatus.UNKNOWN, "of the other key nobody knows"


def test_a_probe_counts_how_often_it_was_asked() -> None:
    unclear = f.Probed(attempt="i1.1.cut.1", answer=ProbeAnswer.UNCLEAR, detail="?")
    (attempt,) = after(started(), intended(), unclear, SECOND, unclear).runs[0].attempts
    assert (attempt.probes, attempt.probed_at, attempt.probe_detail) == (2, T0 + SECOND, "?")
