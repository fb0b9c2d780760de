"""Whether it helped: when it is asked, what counts as success, and what closes an incident."""

from __future__ import annotations

from typing import Any

import pytest

from responder import facts as f
from responder.decide import decide
from responder.incident import Incident
from responder.recorded import Cause, Observation, Outcome, Result
from responder.runbook import Runbook
from responder.timing import MINUTE, SECOND
from responder.verification import LINGER, WATCH, holds
from responder.view import Finish, Gather, Next, Tell, WaitUntil
from tests.builders import T0, a_runbook, a_view, ended, fired, intended, opened, rules_of, started, told

VERIFY = {"check": "risk", "expect": "value < 1", "settle": "10s", "within": "1m", "hold": "20s"}
RULES = rules_of(a_runbook(verify=VERIFY), levels=[])
ACTED = (opened(), fired(), started(), intended(), ended(Outcome.OK))
DONE = f.StepEnded(run=1, step="cut", status="done")
CHECKING = (*ACTED, DONE, f.Verifying(run=1))


def seen(value: object, at: int = 0, error: str | None = None) -> Observation:
    at += T0
    return Observation(check="risk", value=value, observed_at=at, asked_at=at, error=error)


def polled(value: object, at: int, **more: Any) -> f.Gathered:
    answer = seen(value, at, **more)
    return f.Gathered(run=1, observations=(answer,), holds=isinstance(value, float) and value < 1)


def following(incident: Incident, at: int) -> Next:
    return decide(a_view(incident, RULES, T0 + at))


def result(incident: Incident, at: int) -> tuple[Result, str]:
    found = following(incident, at)
    assert isinstance(found, Finish), found
    assert isinstance(found.fact, f.RunEnded)
    return found.fact.result, found.fact.why


def test_it_settles_then_asks_every_five_seconds() -> None:
    assert following(told(*CHECKING), 0) == WaitUntil(T0 + 10 * SECOND, "settle")
    assert isinstance(following(told(*CHECKING), 10 * SECOND), Gather)
    once = told(*CHECKING, 10 * SECOND, polled(2.0, 10 * SECOND))
    assert following(once, 10 * SECOND) == WaitUntil(T0 + 15 * SECOND, "verify")


def test_it_must_hold_without_a_gap() -> None:
    good = (*CHECKING, 10 * SECOND, polled(0.5, 10 * SECOND))
    assert following(told(*good), 10 * SECOND) == WaitUntil(T0 + 15 * SECOND, "verify")
    whole = told(*good, 20 * SECOND, polled(0.5, 30 * SECOND))
    assert result(whole, 30 * SECOND) == (Result.FIXED, "value 0.5 < 1 held for 20s")
    gap = told(*good, 10 * SECOND, polled(2.0, 20 * SECOND), 10 * SECOND, polled(0.5, 30 * SECOND))
    assert isinstance(following(gap, 30 * SECOND), WaitUntil)


@pytest.mark.parametrize(
    ("last", "expected", "why"),
    [
        (polled(2.0, MINUTE), Result.INEFFECTIVE, "value 2 < 1 did not hold within 1m"),
        (polled(None, MINUTE, error="down"), Result.UNVERIFIED, "gave no evidence within 1m: down"),
    ],
)
def test_at_the_end_it_did_not_help_or_nobody_can_tell(last: f.Gathered, expected: Result, why: str) -> None:
    found, said = result(told(*CHECKING, MINUTE, last), MINUTE)
    assert (found, why in said) == (expected, True)


def test_holding_too_late_is_not_enough() -> None:
    late = told(*CHECKING, 50 * SECOND, polled(0.5, 50 * SECOND), 10 * SECOND, polled(0.5, MINUTE))
    found, why = result(late, MINUTE)
    assert (found, "held for 10s only" in why) == (Result.INEFFECTIVE, True)


def test_a_brake_that_a_machine_started_only_contains() -> None:
    rules = rules_of(a_runbook(verify=VERIFY, brake=True), levels=[])
    facts = [x if not isinstance(x, f.RunStarted) else started(cause=Cause.UNLESS_FIXED, brake=True) for x in CHECKING]
    incident = told(*facts, 10 * SECOND, polled(0.5, 0), 20 * SECOND, polled(0.5, 30 * SECOND))
    found = decide(a_view(incident, rules, T0 + 30 * SECOND))
    assert isinstance(found, Finish)
    assert isinstance(found.fact, f.RunEnded)
    assert found.fact.result is Result.CONTAINED


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (seen(0.5), True),
        (seen(1.0), False),
        (seen(None), False),
        (seen(float("nan")), False),
        (seen("0.5"), False),
        (seen(0.5, -61 * SECOND), False),
        (seen(0.5, error="partial"), False),
    ],
)
def test_only_a_fresh_number_that_holds_is_success(answer: Observation, expected: bool) -> None:
    book: Runbook = RULES.runbooks["cut"]
    assert holds(book, answer, T0, None) is expected
    assert holds(book, answer, T0, T0 - MINUTE - SECOND) is expected
    assert not holds(rules_of(a_runbook(verify=None)).runbooks["cut"], answer, T0, None)


def test_a_sample_from_before_the_change_proves_nothing_about_it() -> None:
    book = RULES.runbooks["cut"]
    assert holds(book, seen(0.5), T0 + SECOND, T0)
    assert not holds(book, seen(0.5), T0 + SECOND, T0 + 1)
    slow = {"action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}, "max_age": "5m"}
    rules = rules_of(a_runbook(verify=VERIFY, checks={"risk": slow}), levels=[])
    old = told(*CHECKING, MINUTE, f.Gathered(run=1, observations=(seen(0.5, -1),), holds=False))
    found = decide(a_view(old, rules, T0 + MINUTE))
    assert isinstance(found, Finish)
    assert isinstance(found.fact, f.RunEnded)
    why = "check risk gave no evidence within 1m: its sample is older than the change"
    assert (found.fact.result, found.fact.why) == (Result.UNVERIFIED, why)


def test_after_a_pause_nobody_can_say_that_it_held() -> None:
    good = (*CHECKING, 10 * SECOND, polled(0.5, 10 * SECOND))
    anew = polled(0.5, 40 * SECOND).model_copy(update={"anew": True})
    again = told(*good, 30 * SECOND, anew)
    assert (again.runs[0].verify_from, again.runs[0].held_from) == (T0 + 40 * SECOND, T0 + 40 * SECOND)
    assert isinstance(following(again, 40 * SECOND), WaitUntil)


# --- after a run ------------------------------------------------------------------------------------------------------

FIXED = (*CHECKING, 30 * SECOND, f.RunEnded(run=1, result=Result.FIXED, why="held"))
OVER = f.AlertResolved(fingerprint="a", ends_at=None)
NOW = 30 * SECOND


def watched(value: object, at: int, held: bool, **more: Any) -> f.Watched:
    return f.Watched(observation=seen(value, at, **more), holds=held)


def test_an_open_incident_is_looked_at_again_and_again() -> None:
    assert following(told(*FIXED), NOW) == WaitUntil(T0 + NOW + WATCH, "watch")
    assert isinstance(following(told(*FIXED), NOW + WATCH), Gather)


def test_resolved_it_is_looked_at_once_more_before_it_closes() -> None:
    over = told(*FIXED, OVER)
    assert isinstance(following(over, NOW), Gather)
    found = following(told(*FIXED, OVER, watched(0.5, NOW, held=True)), NOW)
    assert isinstance(found, Finish)
    assert isinstance(found.fact, f.Closed)


def test_resolved_with_a_bad_check_it_stays_open() -> None:
    found = following(told(*FIXED, OVER, watched(2.0, NOW, held=False)), NOW)
    assert isinstance(found, WaitUntil)
    assert found.kind == "watch"


def test_resolved_with_a_missing_check_people_are_told_once() -> None:
    missing = (*FIXED, OVER, watched(None, NOW, held=False, error="down"))
    found = following(told(*missing), NOW)
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.ProblemFound)
    at_once = following(told(*missing, found.fact), NOW)
    assert at_once == Tell(f.UrgentTold(number=1, page=(), why=found.fact.problem))
    assert isinstance(following(told(*missing, found.fact, at_once.fact), NOW), WaitUntil)


def test_a_relapse_needs_a_bad_sample_not_a_missing_one() -> None:
    bad = following(told(*FIXED, watched(2.0, NOW, held=False)), NOW)
    assert isinstance(bad, Tell)
    assert isinstance(bad.fact, f.Relapsed)
    missing = following(told(*FIXED, watched(None, NOW, held=False, error="down")), NOW)
    assert isinstance(missing, WaitUntil)


def test_one_that_joins_without_evidence_is_answered_again() -> None:
    joined = (*FIXED, fired("b", joined=True), watched(None, NOW, held=False, error="down"))
    found = following(told(*joined), NOW)
    assert found == Tell(f.Relapsed(why="it fired again, and check risk gives no evidence", restarts=True))


def test_a_promise_still_to_come_is_not_put_off_by_a_newcomer() -> None:
    promised = rules_of(a_runbook(verify=VERIFY, unless_fixed={"5m": {"page": "boss"}}), levels=[])
    useless = (*CHECKING, 30 * SECOND, f.RunEnded(run=1, result=Result.CANCELLED, why="x"))
    spent = f.MachineFired(round=0, index=0, page=("boss",))
    for before, restarts in ((useless, False), (FIXED, True), ((*useless, spent), True)):
        joined = told(*before, fired("b", joined=True), watched(2.0, NOW, held=False))
        found = decide(a_view(joined, promised, T0 + NOW))
        assert isinstance(found, Tell)
        assert isinstance(found.fact, f.Relapsed)
        assert found.fact.restarts is restarts


@pytest.mark.parametrize(("over", "what"), [([], "the alert still fires"), ([OVER], "its check does not hold")])
def test_what_is_called_fixed_and_does_not_end_is_told_once(over: list[f.Fact], what: str) -> None:
    bad = (*FIXED, *over, watched(0.5 if not over else 2.0, NOW + LINGER, held=not over))
    assert isinstance(following(told(*bad), NOW + LINGER - 1), WaitUntil | Gather)
    found = following(told(*bad), NOW + LINGER)
    assert isinstance(found, Gather), "it looks first"
    looked = told(*bad).model_copy(update={"watched_at": T0 + NOW + LINGER})
    problem = following(looked, NOW + LINGER)
    assert problem == Tell(f.ProblemFound(problem=f"fixed 15m ago, but {what}"))
    after = told(*bad, problem.fact, f.UrgentTold(number=1, page=(), why=""))
    once = after.model_copy(update={"watched_at": T0 + NOW + LINGER})
    assert following(once, NOW + LINGER) == WaitUntil(T0 + NOW + LINGER + WATCH, "watch")


def test_what_was_taken_over_does_not_relapse() -> None:
    found = following(told(*FIXED, f.TakenOver(), watched(2.0, NOW, held=False)), NOW)
    assert isinstance(found, WaitUntil)


def test_our_own_news_close_on_a_word() -> None:
    news = (opened(runbook=None, target="responder:unreadable"), f.ProblemFound(problem="dead letter"))
    at_once = following(told(*news), NOW)
    assert at_once == Tell(f.UrgentTold(number=1, page=(), why="dead letter"))
    heard = (*news, at_once.fact)
    assert following(told(*heard), NOW) == WaitUntil()
    assert isinstance(following(told(*heard, f.Acknowledged()), NOW), Finish)
