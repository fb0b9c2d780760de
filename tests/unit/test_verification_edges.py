"""Whether it helped, at its edges: moments of equality, what counts as harm, and when an incident may end.

Each notices small changes of `verification` that no other unit test does (`python -m tests.mutation verification`).
"""

from __future__ import annotations

from typing import Any

import pytest

from responder import facts as f
from responder.recorded import Cause, Observation, Outcome, Result, StepStatus, Trigger
from responder.timing import MINUTE, SECOND
from responder.verification import LINGER, WATCH, closing, cut_short, harmless, holds, idle, verifying, watching
from responder.view import Finish, Gather, Next, Tell, View, WaitUntil
from tests.builders import T0, a_runbook, a_view, ended, fired, intended, opened, rules_of, started, told

VERIFY: dict[str, Any] = {"check": "risk", "expect": "value < 1", "settle": "10s", "within": "1m", "hold": "20s"}
SLOW = {"risk": {"action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}, "max_age": "5m"}}
DONE = f.StepEnded(run=1, step="cut", status=StepStatus.DONE)
ACTED: tuple[f.Fact, ...] = (opened(), fired(), started(), intended(), ended(Outcome.OK), DONE)
CHECKING: tuple[f.Fact, ...] = (*ACTED, f.Verifying(run=1))
RESOLVED = f.AlertResolved(fingerprint="a", ends_at=None)


def seen(value: object, at: int = 0, error: str | None = None, asked: int | None = None) -> Observation:
    asked_at = at if asked is None else asked
    return Observation(check="risk", value=value, observed_at=T0 + at, asked_at=T0 + asked_at, error=error)


def polled(value: object, at: int = 0, holding: bool = False, **more: Any) -> f.Gathered:
    return f.Gathered(run=1, observations=(seen(value, at, **more),), holds=holding)


def view(*facts: f.Fact | int, at: int = 0, changes: dict[str, Any] | None = None, **parts: Any) -> View:
    """So long after T0; `parts` of the runbook, with other state where a test says so."""
    incident = told(*facts)
    rules = rules_of(a_runbook(**{"verify": VERIFY, "checks": SLOW, **parts}), levels=[])
    return a_view(incident.model_copy(update=changes or {}), rules, T0 + at)


def result(found: Next | None) -> tuple[Result, str]:
    assert isinstance(found, Finish), found
    assert isinstance(found.fact, f.RunEnded)
    assert found.fact.run == 1
    return found.fact.result, found.fact.why


# --- when it is asked -------------------------------------------------------------------------------------------------


def test_only_a_run_that_verifies_is_verified() -> None:
    assert verifying(view(opened(), fired())) is None
    assert verifying(view(*ACTED)) is None
    assert verifying(view(*CHECKING, f.RunEnded(run=1, result=Result.FIXED, why=""))) is None


def test_without_its_runbook_nobody_can_say_that_it_helped() -> None:
    unverified = (Result.UNVERIFIED, "there is no verification to be made")
    assert result(verifying(view(*CHECKING, verify=None))) == unverified
    lost = [x if not isinstance(x, f.RunStarted) else started(rules_hash="gone") for x in CHECKING]
    assert result(verifying(view(*lost))) == unverified


def test_it_is_asked_from_the_end_of_settling_on_and_then_every_five_seconds() -> None:
    assert verifying(view(*CHECKING, at=10 * SECOND - 1)) == WaitUntil(T0 + 10 * SECOND, "settle")
    ask = Gather("cut", "h1", run=1, checks=("risk",))
    assert verifying(view(*CHECKING, at=10 * SECOND)) == ask
    once = (*CHECKING, 10 * SECOND, polled(2.0, 10 * SECOND))
    assert verifying(view(*once, at=15 * SECOND - 1)) == WaitUntil(T0 + 15 * SECOND, "verify")
    assert verifying(view(*once, at=15 * SECOND)) == ask


def test_the_last_look_is_at_the_very_end_of_the_time() -> None:
    late = (*CHECKING, 57 * SECOND, polled(2.0, 57 * SECOND))
    assert verifying(view(*late, at=57 * SECOND)) == WaitUntil(T0 + MINUTE, "verify")
    assert isinstance(verifying(view(*late, at=MINUTE)), Gather), "what was seen before it does not decide"
    over = (*late, 3 * SECOND, polled(2.0, MINUTE))
    assert result(verifying(view(*over, at=MINUTE)))[0] is Result.INEFFECTIVE


def test_the_look_that_ends_the_holding_comes_at_its_moment() -> None:
    good = (*CHECKING, 10 * SECOND, polled(0.5, 10 * SECOND, holding=True))
    later = (*good, 18 * SECOND, polled(0.5, 28 * SECOND, holding=True))
    assert verifying(view(*later, at=28 * SECOND)) == WaitUntil(T0 + 30 * SECOND, "verify")
    held = (*later, 2 * SECOND, polled(0.5, 30 * SECOND, holding=True))
    assert result(verifying(view(*held, at=30 * SECOND))) == (Result.FIXED, "value 0.5 < 1 held for 20s")


def test_an_answer_from_before_the_verification_is_none_of_it() -> None:
    """After a pause the clock begins anew: what was polled before counts no more."""
    made = view(*CHECKING, at=10 * SECOND)
    (run,) = made.incident.runs
    old = run.model_copy(update={"polled_at": T0 - 1})
    stale = view(*CHECKING, at=10 * SECOND, changes={"runs": (old,)})
    assert verifying(stale) == Gather("cut", "h1", run=1, checks=("risk",))


def test_a_look_at_the_first_moment_is_one_of_it() -> None:
    at_once = (*CHECKING, polled(2.0))
    settled = {**VERIFY, "settle": "0s"}
    assert verifying(view(*at_once, verify=settled)) == WaitUntil(T0 + 5 * SECOND, "verify")


# --- harm -------------------------------------------------------------------------------------------------------------

HARM = {**VERIFY, "harmful": "value > before"}


def harmed(after: f.Gathered, before: Observation | None = None, harmful: str = "value > before") -> Next | None:
    """What follows when the check said so before the change and after it."""
    known = () if before is None else (f.Gathered(run=1, observations=(before,)),)
    facts = (*ACTED[:3], *known, MINUTE, *ACTED[3:], f.Verifying(run=1), 10 * SECOND, after)
    return verifying(view(*facts, at=MINUTE + 10 * SECOND, verify={**VERIFY, "harmful": harmful}))


AFTER = MINUTE + 10 * SECOND


def test_what_the_runbook_calls_harm_ends_it_at_once() -> None:
    assert result(harmed(polled(3.0, AFTER), seen(2.0))) == (Result.HARMFUL, "value 3 > before 2")
    assert isinstance(harmed(polled(1.5, AFTER), seen(2.0)), WaitUntil), "less than before"


@pytest.mark.parametrize(
    "after",
    [polled(3.0, MINUTE - 1), polled(None, AFTER, error="down")],
    ids=["a sample from before the change", "no sample"],
)
def test_harm_needs_a_sample_from_after_the_change(after: f.Gathered) -> None:
    assert isinstance(harmed(after, seen(2.0)), WaitUntil)


def test_harm_needs_a_sample_that_is_fresh() -> None:
    quick = {"risk": {**SLOW["risk"], "max_age": "5s"}}
    known = f.Gathered(run=1, observations=(seen(2.0),))
    facts = (*ACTED[:3], known, *ACTED[3:], f.Verifying(run=1), 10 * SECOND, polled(3.0, 4 * SECOND))
    verify = {**VERIFY, "harmful": "value > before"}
    assert isinstance(verifying(view(*facts, at=10 * SECOND, verify=verify, checks=quick)), WaitUntil)
    assert result(verifying(view(*facts, at=10 * SECOND, verify=verify)))[0] is Result.HARMFUL


def test_the_first_moment_of_the_verification_counts() -> None:
    assert result(harmed(polled(3.0, MINUTE), seen(2.0)))[0] is Result.HARMFUL


def test_without_a_value_before_nothing_can_be_worse_than_it() -> None:
    for before in (None, seen(None, error="down")):
        assert isinstance(harmed(polled(3.0, AFTER), before), WaitUntil)
        assert result(harmed(polled(3.0, AFTER), before, harmful="value > 2.5")) == (
            Result.HARMFUL,
            "value 3 > 2.5",
        )


def test_harm_comes_before_success() -> None:
    facts = (*CHECKING, 10 * SECOND, polled(0.5, 10 * SECOND, holding=True), 20 * SECOND)
    both = (*facts, polled(0.5, 30 * SECOND, holding=True))
    found = verifying(view(*both, at=30 * SECOND, verify={**VERIFY, "harmful": "value < 0.9"}))
    assert result(found)[0] is Result.HARMFUL


# --- what it ends with ------------------------------------------------------------------------------------------------


def held(cause: Cause = Cause.ALERT, **parts: Any) -> tuple[Result, str]:
    facts = [x if not isinstance(x, f.RunStarted) else started(cause=cause) for x in CHECKING]
    good = (10 * SECOND, polled(0.5, 10 * SECOND, holding=True), 20 * SECOND, polled(0.5, 30 * SECOND, holding=True))
    return result(verifying(view(*facts, *good, at=30 * SECOND, **parts)))


@pytest.mark.parametrize(
    ("cause", "brake", "expected"),
    [
        (Cause.UNLESS_FIXED, True, Result.CONTAINED),
        (Cause.UNLESS_FIXED, False, Result.FIXED),
        (Cause.ALERT, True, Result.FIXED),
        (Cause.PERSON, True, Result.FIXED),
    ],
)
def test_only_a_brake_of_a_promise_merely_contains(cause: Cause, brake: bool, expected: Result) -> None:
    assert held(cause, brake=brake)[0] is expected


def test_without_holding_once_is_enough_and_no_span_is_told() -> None:
    plain = {**VERIFY, "hold": "0s"}
    facts = (*CHECKING, 10 * SECOND, polled(0.5, 10 * SECOND, holding=True))
    assert result(verifying(view(*facts, at=10 * SECOND, verify=plain))) == (Result.FIXED, "value 0.5 < 1 held")


LOST = f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN, why="nobody knows")
DOUBTFUL: tuple[f.Fact, ...] = (*ACTED[:4], ended(Outcome.UNKNOWN), LOST, f.Verifying(run=1))


def test_what_nobody_knows_about_is_said_with_the_success_and_is_the_result_without_one() -> None:
    good = (10 * SECOND, polled(0.5, 10 * SECOND, holding=True), 20 * SECOND, polled(0.5, 30 * SECOND, holding=True))
    assert result(verifying(view(*DOUBTFUL, *good, at=30 * SECOND))) == (
        Result.FIXED,
        "value 0.5 < 1 held for 20s; still to be settled: step cut: nobody knows",
    )
    bad = (*DOUBTFUL, MINUTE, polled(2.0, MINUTE))
    assert result(verifying(view(*bad, at=MINUTE))) == (Result.UNKNOWN, "step cut: nobody knows")


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (polled(2.0, MINUTE), (Result.INEFFECTIVE, "value 2 < 1 did not hold within 1m")),
        (polled(2.0, 0), (Result.INEFFECTIVE, "value 2 < 1 did not hold within 1m")),
        (
            polled(0.5, -1),
            (Result.UNVERIFIED, "check risk gave no evidence within 1m: its sample is older than the change"),
        ),
        (polled(None, MINUTE, error="down"), (Result.UNVERIFIED, "check risk gave no evidence within 1m: down")),
    ],
    ids=["bad", "bad from the first moment on", "from before", "missing"],
)
def test_without_success_it_says_whether_that_is_known(last: f.Gathered, expected: tuple[Result, str]) -> None:
    assert result(verifying(view(*CHECKING, MINUTE, last, at=MINUTE))) == expected


def test_what_held_too_late_says_for_how_long() -> None:
    late = (*CHECKING, 50 * SECOND, polled(0.5, 50 * SECOND, holding=True))
    end = (*late, 10 * SECOND + 1, polled(0.5, MINUTE, holding=True))
    assert result(verifying(view(*end, at=MINUTE + SECOND // 2))) == (
        Result.INEFFECTIVE,
        "value 0.5 < 1 held for 10s only, 20s within 1m were wanted",
    )


def test_a_superseded_run_names_what_came_before_it() -> None:
    by = told(opened(id="i1", severity="critical", title="All down"), fired(), started())
    fact = cut_short(4, by, by.runs[0])
    assert (fact.run, fact.result, fact.superseded) == (4, Result.UNVERIFIED, "i1")
    assert fact.why == "superseded by incident i1 (critical: All down), which changes risk-api/kelly_fraction"


# --- after harm was undone (docs/adr/0025) ----------------------------------------------------------------------------

WORSE = {**VERIFY, "harmful": "value > before", "hold": "0s"}
HARMFUL: tuple[f.Fact | int, ...] = (
    opened(), fired(), started(), f.Gathered(run=1, observations=(seen(2.0),)), intended(), ended(Outcome.OK), DONE,
    f.RunEnded(run=1, result=Result.HARMFUL, why="worse"),
    started(number=2, cause=Cause.UNDO, restores="i1.1.cut.1"), intended(run=2, attempt="i1.2.cut.1"),
    ended(Outcome.OK, attempt="i1.2.cut.1"), f.StepEnded(run=2, step="cut", status=StepStatus.DONE, why="0.1 → 0.25"),
    f.Verifying(run=2),
)  # fmt: skip


def shows_no_harm(sample: Observation, **verify: Any) -> bool:
    made = view(*HARMFUL, at=10 * SECOND, verify={**WORSE, **verify})
    assert made.runbook is not None
    return harmless(made.runbook, sample, made.now, made.incident, made.incident.runs[1])


def test_harm_is_gone_when_a_fresh_sample_is_no_worse_than_before_the_first_change() -> None:
    assert shows_no_harm(seen(2.0))
    assert not shows_no_harm(seen(2.5))
    assert not shows_no_harm(seen(1.0, -1)), "a sample from before the undoing"
    assert not shows_no_harm(seen(None, error="down"))
    assert not shows_no_harm(seen("many")), "it cannot tell"
    assert not shows_no_harm(seen(2.0), harmful=None)


def test_what_was_undone_ends_fixed_when_no_harm_is_seen_whatever_the_alert_does() -> None:
    last = f.Gathered(run=2, observations=(seen(2.0, 10 * SECOND),), holds=True)
    found = verifying(view(*HARMFUL, 10 * SECOND, last, at=10 * SECOND, verify=WORSE))
    assert isinstance(found, Finish)
    assert isinstance(found.fact, f.RunEnded)
    assert (found.fact.run, found.fact.result) == (2, Result.FIXED)
    assert found.fact.why == "0.1 → 0.25; no harm is seen any more: value 2 > before 2 is false"


def test_harm_that_does_not_go_is_for_people() -> None:
    for sample, expected in ((seen(9.0, MINUTE), Result.INEFFECTIVE), (seen(None, MINUTE, "down"), Result.UNVERIFIED)):
        last = f.Gathered(run=2, observations=(sample,), holds=False)
        found = verifying(view(*HARMFUL, MINUTE, last, at=MINUTE, verify=WORSE))
        assert isinstance(found, Finish)
        assert isinstance(found.fact, f.RunEnded)
        assert (found.fact.run, found.fact.result) == (2, expected)
        assert found.fact.why.startswith("0.1 → 0.25; ")


def test_undoing_is_never_harmful_itself() -> None:
    """It would be undone in its turn."""
    worse = f.Gathered(run=2, observations=(seen(9.0, 10 * SECOND),), holds=False)
    found = verifying(view(*HARMFUL, 10 * SECOND, worse, at=10 * SECOND, verify=WORSE))
    assert isinstance(found, WaitUntil)


# --- after the run: a relapse -----------------------------------------------------------------------------------------

END = 30 * SECOND
FIXED: tuple[f.Fact | int, ...] = (*CHECKING, END, f.RunEnded(run=1, result=Result.FIXED, why="held"))
USELESS: tuple[f.Fact | int, ...] = (*CHECKING, END, f.RunEnded(run=1, result=Result.INEFFECTIVE, why="no"))


def watched(value: object, at: int = END, held: bool = False, error: str | None = None) -> f.Watched:
    return f.Watched(observation=seen(value, at, error), holds=held)


def relapses(*facts: f.Fact | int, at: int = END, **parts: Any) -> str | None:
    """Why it counts as come back; None when it does not."""
    found = watching(view(*facts, at=at, **parts))
    assert found is None or isinstance(found, Tell | Gather)
    if not isinstance(found, Tell):
        return None
    assert isinstance(found.fact, f.Relapsed)
    return found.fact.why


def test_what_was_fixed_and_is_bad_again_has_come_back() -> None:
    assert relapses(*FIXED, watched(2.0)) == "value 2 < 1 does not hold any more"
    assert relapses(*FIXED, watched(0.5, held=True)) is None
    assert relapses(*USELESS, watched(2.0)) is None, "it never helped"
    assert relapses(*FIXED, watched(2.0), RESOLVED) is None, "nothing fires"
    assert relapses(*FIXED, watched(2.0), f.TakenOver()) is None, "a person has it"
    assert relapses(*FIXED) is None, "nobody has looked"


def test_a_look_from_before_the_end_of_the_run_proves_no_relapse() -> None:
    assert relapses(*FIXED, watched(2.0, END - 1)) is None
    assert relapses(*FIXED, watched(2.0, END)) is not None


def test_what_joins_is_answered_again_also_after_a_run_that_did_not_help() -> None:
    joined = fired("b", joined=True)
    assert relapses(*USELESS, joined, watched(2.0)) is not None
    assert relapses(*USELESS, joined, watched(0.5, held=True)) is None
    assert relapses(*USELESS, joined, watched(None, error="down")) == (
        "it fired again, and check risk gives no evidence"
    )
    assert relapses(*FIXED, watched(None, error="down")) is None, "what is missing is no relapse by itself"
    assert relapses(*USELESS, watched(2.0), joined) is None, "it is looked at anew first"


def test_without_verification_it_comes_back_with_an_alert_that_fires_again() -> None:
    joined = fired("b", joined=True)
    assert relapses(*FIXED, joined, verify=None) == "it fired again after the run"
    assert relapses(*FIXED, verify=None) is None
    gone = (joined, RESOLVED, RESOLVED.model_copy(update={"fingerprint": "b"}))
    assert relapses(*FIXED, *gone, verify=None) is None


# --- watching and idling ----------------------------------------------------------------------------------------------


def test_an_open_incident_is_looked_at_every_half_minute() -> None:
    look = Gather("cut", "h1", checks=("risk",), watch=True)
    assert watching(view(*FIXED, at=END + WATCH - 1)) is None
    assert watching(view(*FIXED, at=END + WATCH)) == look
    seen_at = {"watched_at": T0 + END + WATCH}
    assert watching(view(*FIXED, at=END + 2 * WATCH - 1, changes=seen_at)) is None
    assert watching(view(*FIXED, at=END + 2 * WATCH, changes=seen_at)) == look
    assert watching(view(*FIXED, RESOLVED, at=END)) == look, "what is over is looked at at once"
    assert WATCH == 30 * SECOND


def test_nothing_is_watched_without_a_run_or_during_one_or_after_the_end() -> None:
    late = END + WATCH
    for found in (watching, idle):
        assert found(view(opened(), fired(), at=late)) is None
        assert found(view(*CHECKING, at=late)) is None
        assert found(view(*FIXED, f.Closed(why="over"), at=late)) is None
        assert found(view(*FIXED, at=late, changes={"runbook": None})) is None
        assert found(view(*FIXED, at=late, verify=None)) is None


def test_between_two_looks_it_sleeps_until_the_next_one() -> None:
    assert idle(view(*FIXED, at=END)) == WaitUntil(T0 + END + WATCH, "watch")
    assert idle(view(*FIXED, at=END + WATCH + 1)) == WaitUntil(T0 + END + WATCH + 1, "watch"), "never in the past"
    assert idle(view(*FIXED, at=END, changes={"watched_at": T0 + END + 1})) == WaitUntil(T0 + END + 1 + WATCH, "watch")


@pytest.mark.parametrize(("over", "what"), [((), "the alert still fires"), ((RESOLVED,), "its check does not hold")])
def test_what_is_called_fixed_and_does_not_end_is_told_after_a_quarter_of_an_hour(
    over: tuple[f.Fact, ...], what: str
) -> None:
    assert isinstance(idle(view(*FIXED, *over, at=END + LINGER - 1)), WaitUntil)
    problem = f.ProblemFound(problem=f"fixed 15m ago, but {what}")
    assert idle(view(*FIXED, *over, at=END + LINGER)) == Tell(problem)
    assert isinstance(idle(view(*FIXED, *over, problem, at=END + LINGER)), WaitUntil), "told once"
    assert isinstance(idle(view(*USELESS, *over, at=END + LINGER)), WaitUntil), "people have it anyway"
    assert LINGER == 15 * MINUTE


# --- closing ----------------------------------------------------------------------------------------------------------


def closes(*facts: f.Fact | int, changes: dict[str, Any] | None = None, **parts: Any) -> str | None:
    """Why it ends; None when it does not."""
    found = closing(view(*facts, at=END, changes=changes, **parts))
    if not isinstance(found, Finish):
        return None
    assert isinstance(found.fact, f.Closed)
    return found.fact.why


def test_an_incident_ends_when_its_alerts_are_over_and_the_check_holds() -> None:
    good = watched(0.5, held=True)
    assert closes(*FIXED, RESOLVED, good) == "all alerts resolved, and value < 1 holds"
    assert closes(*FIXED, good) is None, "an alert fires"
    assert closes(*FIXED, good, RESOLVED) is None, "it is looked at once more first"
    assert closes(*FIXED, RESOLVED, watched(2.0)) is None
    assert closes(*CHECKING, RESOLVED) is None, "a run is under way"
    assert closes(*FIXED, RESOLVED, good, f.Closed(why="over")) is None, "it has ended"


def test_without_anything_to_look_at_the_end_of_the_alerts_is_enough() -> None:
    over = "all alerts resolved"
    assert closes(opened(), fired(), RESOLVED) == over
    assert closes(*FIXED, RESOLVED, verify=None) == over
    assert closes(*FIXED, RESOLVED, changes={"runbook": None}) == over
    assert closes(*FIXED, RESOLVED, changes={"blocked": True}) == over


def test_over_and_yet_without_evidence_people_are_told() -> None:
    missing = watched(None, error="down")
    problem = "resolved, but check risk gives no evidence: down"
    assert closing(view(*FIXED, RESOLVED, missing, at=END)) == Tell(f.ProblemFound(problem=problem))
    told_them = {"urgent": "something else"}
    assert closing(view(*FIXED, RESOLVED, missing, at=END, changes=told_them)) is None
    assert closing(view(*FIXED, missing, RESOLVED, at=END)) is None, "it is looked at once more first"
    assert closing(view(*FIXED, RESOLVED, watched(2.0), at=END)) is None, "there is evidence: it is bad"


def test_a_storm_ends_with_the_last_of_its_incidents() -> None:
    assert closes(opened(), changes={"members": 3, "members_open": 1}) is None
    assert closes(opened(), changes={"members": 3, "members_open": 0}) == "all 3 incidents are over"


def test_news_of_its_own_end_on_a_person_s_word() -> None:
    assert closes(opened(runbook=None)) is None
    for word in (f.Acknowledged(), f.TakenOver()):
        assert closes(opened(runbook=None), word) == "seen by responder"


# --- what no alert can end --------------------------------------------------------------------------------------------


def uncalled(result: Result, *more: f.Fact | int, trigger: Trigger = Trigger.PERSON, **changes: Any) -> str | None:
    over = f.RunEnded(run=1, result=result, why="well")
    return closes(opened(trigger=trigger), started(), MINUTE, over, *more, changes=changes)


@pytest.mark.parametrize("good", [Result.FIXED, Result.OBSERVED, Result.CANCELLED])
def test_a_run_that_went_well_ends_its_incident(good: Result) -> None:
    assert uncalled(good) == "the run is over: well"
    assert uncalled(good, trigger=Trigger.SCHEDULE) == "the scheduled run is over: well"
    assert uncalled(good, urgent="a brake passed a lock") is None, "somebody was paged"


@pytest.mark.parametrize("bad", sorted(set(Result) - {Result.FIXED, Result.OBSERVED, Result.CANCELLED}))
def test_any_other_end_waits_for_a_person_who_has_seen_it(bad: Result) -> None:
    assert uncalled(bad) is None
    for word in (f.Acknowledged(), f.TakenOver()):
        assert uncalled(bad, word) == "seen by responder"
        assert uncalled(bad, 1, word) == "seen by responder"


def test_whoever_takes_it_over_after_the_end_has_seen_it_though_another_acknowledged_before() -> None:
    over = f.RunEnded(run=1, result=Result.FIXED, why="well")
    early = (opened(trigger=Trigger.PERSON), started(), f.Acknowledged(), MINUTE, over)
    paged = {"urgent": "a brake passed a lock"}
    assert closes(*early, changes=paged) is None
    assert closes(*early, f.TakenOver(), changes=paged) == "seen by responder"
    assert closes(*early, f.Acknowledged(), changes=paged) == "seen by responder"


def test_a_word_before_the_end_has_not_seen_it_though_it_bears_a_later_time() -> None:
    over = f.RunEnded(run=1, result=Result.UNKNOWN, why="well")
    for late in (1, -1, 0):
        before = (opened(trigger=Trigger.PERSON), started(), f.TakenOver(), late, over)
        assert closes(*before) is None
        after = (opened(trigger=Trigger.PERSON), started(), over, late, f.TakenOver())
        assert closes(*after) == "seen by responder"


def test_who_acknowledged_the_run_before_it_ended_has_not_seen_its_end() -> None:
    over = f.RunEnded(run=1, result=Result.FAILED, why="no")
    early = (opened(trigger=Trigger.PERSON), started(), f.TakenOver(), MINUTE, over)
    assert closes(*early) is None
    assert closes(opened(trigger=Trigger.PERSON), f.Acknowledged()) is None, "nothing has been done yet"


# --- what holds -------------------------------------------------------------------------------------------------------


def test_it_holds_on_a_sample_of_that_moment_or_later() -> None:
    book = rules_of(a_runbook(verify=VERIFY, checks=SLOW)).runbooks["cut"]
    assert holds(book, seen(0.5, 5), T0 + MINUTE, T0 + 5)
    assert not holds(book, seen(0.5, 4), T0 + MINUTE, T0 + 5)
    untimed = Observation(check="risk", value=0.5, asked_at=T0)
    assert holds(book, untimed, T0, None)
    assert not holds(book, untimed, T0, T0), "nobody knows when it was seen"
