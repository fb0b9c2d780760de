"""The engine's transactions at their edges: what each answer records, what comes too late, and how long a retry waits.

Each test notices a small change of `operations` that no other unit test does (`python -m tests.mutation operations`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import JsonValue

from responder import facts as f
from responder.contracts import PagerState
from responder.desk import Shelf
from responder.draft import Worker
from responder.errors import Rejected
from responder.incident import Due, Incident
from responder.operations import UNWATCHED, Ended, Learned, Postpone, Readings, Rearm, Remind, Report, Tick, Touch
from responder.recorded import Effect, Observation, Outcome, ProbeAnswer, Result, StepStatus
from responder.records import IncidentRow, Keys, ScopeRow, TimerRow
from responder.scopes import InForce
from responder.timing import HOUR, MINUTE, SECOND
from responder.view import Gather
from tests.builders import (
    T0,
    Ledger,
    a_plan,
    a_runbook,
    cut_step,
    ended,
    fired,
    intended,
    opened,
    rules_of,
    started,
    told,
)

RETRY = {"attempts": 3, "first": "5s", "factor": 2}
CHECK = {"action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}, "max_age": "1m"}


def shelf(**verify: Any) -> Shelf:
    """Rules of one runbook."""
    given = {"check": "risk", "expect": "value < 1", "within": "10m", **verify}
    return Shelf(
        rules_of(a_runbook(steps=[cut_step(retry=RETRY)], checks={"risk": CHECK, "more": CHECK}, verify=given)), "test"
    )


BOOK = shelf()
ONE = Worker("one")


def ledger_of(*facts: f.Fact | int, at: int = 0, **changes: Any) -> Ledger:
    """An incident that the worker `one` has, in its first epoch, so long after T0."""
    incident = told(opened(), fired(), *facts)
    ledger = Ledger()
    ledger.state.incidents["i1"] = IncidentRow(
        "i1", "key", incident.model_copy(update=changes), "one", 1, T0 + 10 * HOUR
    )
    ledger.state.now = T0 + at
    return ledger


def report(ledger: Ledger, *, book: Shelf = BOOK, by: Worker = ONE, epoch: int = 1, **given: Any) -> list[f.Fact]:
    """What an answer records; `given` is of the question where the question has such a field, else of the answer."""
    asked = {k: v for k, v in given.items() if k in ("run", "step", "machine", "watch", "level", "probe")}
    answer = Learned(**{{"tells": "probe"}.get(k, k): v for k, v in given.items() if k not in asked})
    gather = Gather("cut", "h1", **asked)
    ledger.do(Report("r", "i1", gather, answer, epoch, book, by))
    return [e.fact for e in ledger.writes[-1].events]


def seen(value: float | None = 0.5, at: int = 0, check: str = "risk") -> Observation:
    """An answer of that moment."""
    error = None if value is not None else "down"
    return Observation(check=check, value=value, observed_at=T0 + at, asked_at=T0 + at, error=error)


def first(facts: list[f.Fact]) -> f.Fact | None:
    """What was recorded first."""
    return facts[0] if facts else None


# --- who may report, and what is read ---------------------------------------------------------------------------------


def test_what_a_transaction_reads_is_loaded_in_one_round() -> None:
    one, scope = frozenset({"i1"}), frozenset({"lock:x"})
    gather = Gather("cut", "h1")
    assert Tick("t", "i1", BOOK, ONE).reads() == Keys(incidents=one)
    assert Report("r", "i1", gather, Learned(), 1, BOOK, ONE, scope).reads() == Keys(incidents=one, scopes=scope)
    done = Ended("e", "i1", "a", Outcome.OK, "", None, 1, BOOK, ONE, scopes=scope)
    assert done.reads() == Keys(incidents=one, scopes=scope)
    assert Readings("x", "i1", 1, (), BOOK).reads() == Keys(incidents=one)
    assert Remind("m", "lock:x", BOOK).reads() == Keys(scopes=scope)
    assert Touch("t").reads() == Postpone("p", "i1", (), 1).reads() == Keys()


@pytest.mark.parametrize(("by", "epoch"), [(Worker("two"), 1), (ONE, 2), (ONE, 0)])
def test_only_the_owner_of_this_epoch_reports(by: Worker, epoch: int) -> None:
    ledger = ledger_of(started())
    with pytest.raises(Rejected, match="taken over by one"):
        report(ledger, by=by, epoch=epoch, run=1)
    with pytest.raises(Rejected, match="taken over by one"):
        ledger.do(Ended("e", "i1", "i1.1.cut.1", Outcome.OK, "", None, epoch, BOOK, by))


# --- watching ---------------------------------------------------------------------------------------------------------

DONE = (started(), f.RunEnded(run=1, result=Result.INEFFECTIVE, why="no"), f.UrgentTold(number=1, page=(), why=""))


def watched(observation: Observation, **changes: Any) -> bool:
    """Whether a look at the check is a fact; in any case it is remembered when it was."""
    ledger = ledger_of(*DONE, at=MINUTE, **changes)
    facts = report(ledger, watch=True, observations=(observation, seen(5.0, check="more"), seen(check="more")))
    assert ledger.incident().watched_at == T0 + MINUTE
    found = [x for x in facts if isinstance(x, f.Watched)]
    assert found in ([], [f.Watched(observation=observation, holds=observation.value == 0.5)])
    return bool(found)


def test_a_look_that_changes_nothing_is_no_fact() -> None:
    good, bad, missing = seen(0.5, MINUTE), seen(2.0, MINUTE), seen(None, MINUTE)
    assert watched(good, watch=None), "the first look"
    for before, holds in ((good, True), (bad, False), (missing, False)):
        assert watched(good, watch=before, watch_holds=holds) is (before is not good)
        assert watched(missing, watch=before, watch_holds=holds) is (before is not missing)
        assert watched(bad, watch=before, watch_holds=holds) is (before is not bad)
    assert watched(bad, watch=bad, watch_holds=False, recheck=True), "it was wanted at once"


def test_a_promise_reads_its_check_on_the_first_answer() -> None:
    good, other = seen(), seen(5.0, check="more")
    (found, *_) = report(ledger_of(*DONE), machine="0:1", observations=(good, other))
    assert found == f.MachineGathered(round=0, index=1, observation=good, holds=True)


# --- the pagers -------------------------------------------------------------------------------------------------------


def asked(*said: tuple[str, str, str], **changes: Any) -> tuple[list[f.Fact], Incident]:
    """What the pagers said before the second level, and what the incident is after it."""
    ledger = ledger_of(*DONE, **changes)
    pagers = {name: PagerState(status=status, by=by) for name, status, by in said}
    return report(ledger, level=(0, 1), pagers=pagers), ledger.incident()


def test_whoever_answered_at_the_pager_has_it() -> None:
    facts, incident = asked(("first", "triggered", ""), ("second", "acknowledged", "al"), ("third", "resolved", "bo"))
    assert facts[:2] == [
        f.PagerAsked(round=0, index=1, said=("first: triggered", "second: acknowledged", "third: resolved")),
        f.Acknowledged(note="", via="second"),
    ]
    assert incident.acknowledged is not None
    assert incident.acknowledged.actor == "al (second)"
    facts, incident = asked(("first", "resolved", ""))
    assert facts[1] == f.Acknowledged(note="resolved there; the alert still fires", via="first")
    assert incident.acknowledged is not None
    assert incident.acknowledged.actor == "first"


def test_what_the_pagers_say_changes_nothing_where_somebody_has_it() -> None:
    al = {"actor": "al", "at": T0}
    for said, changes in (
        ((("first", "triggered", ""),), {}),
        ((("first", "acknowledged", ""),), {"closed_at": T0}),
        ((("first", "acknowledged", ""),), {"taken_over": _person(al)}),
    ):
        facts, _ = asked(*said, **changes)
        assert facts[0].kind == "pager_asked"
        assert not any(x.kind == "acknowledged" for x in facts)


def _person(known: dict[str, Any]) -> Any:
    taken = told(opened(), f.TakenOver())
    assert taken.taken_over is not None
    return taken.taken_over.model_copy(update=known)


# --- probes -----------------------------------------------------------------------------------------------------------

LOST = (started(), intended(plan=a_plan(Effect.PROBED)), ended(Outcome.UNKNOWN))


def probed(*facts: f.Fact, attempt: str = "i1.1.cut.1", tells: ProbeAnswer | None = None) -> list[f.Fact]:
    """What a probe's answer records."""
    recorded = report(ledger_of(*LOST, *facts), probe=attempt, tells=tells, probe_detail="it says")
    return [x for x in recorded if isinstance(x, f.Probed)]


def test_a_probe_counts_until_it_is_clear() -> None:
    name = "i1.1.cut.1"
    for tells in (ProbeAnswer.APPLIED, ProbeAnswer.NOT_APPLIED):
        assert probed(tells=tells) == [f.Probed(attempt=name, answer=tells, detail="it says")]
        assert probed(f.Probed(attempt=name, answer=tells), tells=ProbeAnswer.APPLIED) == [], "it is known"
    unclear = f.Probed(attempt=name, answer=ProbeAnswer.UNCLEAR, detail="it says")
    assert probed() == [unclear]
    assert probed(unclear, tells=ProbeAnswer.APPLIED) == [f.Probed(attempt=name, answer="applied", detail="it says")]
    assert probed(attempt="i1.9.cut.1", tells=ProbeAnswer.APPLIED) == []


# --- what a step gathers ----------------------------------------------------------------------------------------------


def gathered(ledger: Ledger, *observations: Observation, **given: Any) -> list[f.Gathered]:
    """What the answers record."""
    facts = report(ledger, run=1, observations=observations, **given)
    return [x for x in facts if isinstance(x, f.Gathered)]


def test_a_sample_older_than_its_check_allows_counts_as_missing() -> None:
    fresh, old, unknown = seen(at=MINUTE), seen(at=-1), seen(at=-HOUR, check="gone")
    empty = Observation(check="risk", asked_at=T0 + MINUTE)
    ledger = ledger_of(started(), at=MINUTE)
    (found,) = gathered(ledger, fresh, old, unknown, seen(None, -1), empty, plan=a_plan(), step="cut")
    assert [(o.check, o.error) for o in found.observations] == [
        ("risk", None),
        ("risk", "its sample is 1m1us old, allowed are 1m"),
        ("gone", None),
        ("risk", "down"),
        ("risk", None),
    ]


def test_what_was_read_before_a_preparation_failed_is_kept() -> None:
    for observations, count in (((seen(),), 1), ((), 0)):
        ledger = ledger_of(started())
        found = gathered(ledger, *observations, step="cut", failed="it is down")
        assert [x.observations for x in found] == [observations] * count
        state = ledger.incident().runs[0].step("cut")
        assert (state.status, state.why) == (StepStatus.FAILED, "it is down")


def test_answers_for_a_run_whose_rules_are_gone_are_kept_as_they_are() -> None:
    gone = Shelf(rules_of(a_runbook(runbook="other")), "test")
    (found,) = gathered(ledger_of(started(), at=HOUR), seen(), book=gone, plan=a_plan(), step="cut")
    assert found.observations == (seen(),)


# --- polls ------------------------------------------------------------------------------------------------------------

ACTED = (started(), intended(), ended(Outcome.OK), f.StepEnded(run=1, step="cut", status=StepStatus.DONE))
VERIFIES = (*ACTED, f.Verifying(run=1))


def poll(at: int, *facts: f.Fact | int, value: float | None = 2.0, book: Shelf = BOOK, **given: Any) -> Any:
    """What a poll records so long after T0: the fact or None, and the run after it."""
    ledger = ledger_of(*VERIFIES, *facts, at=at)
    found = gathered(ledger, seen(value, at), seen(0.5, at, "more"), book=book, **given)
    return (found[0] if found else None), ledger.incident().runs[0]


def polled(value: float | None = 2.0, at: int = 0, **more: Any) -> f.Gathered:
    """An earlier poll."""
    return f.Gathered(run=1, observations=(seen(value, at),), holds=value == 0.5, **more)


def test_a_poll_is_a_fact_when_it_changes_what_is_known() -> None:
    for value in (0.5, 2.0, None):
        found, run = poll(5 * SECOND, value=value)
        assert found == f.Gathered(run=1, observations=(seen(value, 5 * SECOND),), holds=value == 0.5)
        assert run.held_from == (T0 + 5 * SECOND if value == 0.5 else None)
        for before in (0.5, 2.0, None):
            again, run = poll(5 * SECOND, polled(before), value=value)
            assert (again is None) is (before == value)
            assert run.polled_at == T0 + 5 * SECOND
            assert run.observations["risk"].value == value


def test_a_poll_that_is_no_fact_changes_its_own_run_alone() -> None:
    before = (started(), f.RunEnded(run=1, result=Result.INEFFECTIVE, why=""), f.UrgentTold(number=1, page=(), why=""))
    second = (started(number=2, cause="relapse"), f.Verifying(run=2))
    late = polled().model_copy(update={"run": 2})
    ledger = ledger_of(*before, *second, late, at=5 * SECOND)
    report(ledger, run=2, observations=(seen(2.0, 5 * SECOND),))
    assert [r.polled_at for r in ledger.incident().runs] == [None, T0 + 5 * SECOND]


def test_what_was_asked_before_the_run_verified_is_no_poll() -> None:
    found, run = poll(5 * SECOND, step="cut", plan=a_plan())
    assert (found, run.polled_at) == (None, None)
    ledger = ledger_of(*VERIFIES)
    assert gathered(ledger) == []


def test_a_poll_from_before_the_verification_began_is_none_of_it() -> None:
    twice = (polled(), 5 * SECOND, f.Verifying(run=1))
    found, _ = poll(5 * SECOND, *twice)
    assert found is not None, "the first of this verification"
    at_once = (polled(), f.Verifying(run=1))
    assert poll(5 * SECOND, *at_once)[0] is None, "a poll of that very moment counts"


def test_after_a_pause_nobody_can_say_that_it_has_held() -> None:
    timeout = BOOK.current.runbooks["cut"].checks["risk"].timeout
    assert UNWATCHED == 20 * SECOND
    settling = shelf(settle="1m")
    for book, facts, latest in (
        (BOOK, (polled(0.5),), UNWATCHED + timeout),
        (BOOK, (), UNWATCHED + timeout),
        (settling, (), MINUTE + UNWATCHED + timeout),
    ):
        for late in (False, True):
            found, _ = poll(latest + late, *facts, value=0.5, book=book)
            assert (found is not None and found.anew) is late
            assert found is not None or facts


def test_a_poll_without_a_verification_is_always_too_late() -> None:
    blind = Shelf(rules_of(a_runbook(verify=None)), "test")
    found, _ = poll(0, polled(2.0), value=2.0, book=blind)
    assert found is None
    gone = Shelf(rules_of(a_runbook(runbook="other")), "test")
    assert poll(0, polled(2.0), value=2.0, book=gone)[0] is None


# --- outcomes ---------------------------------------------------------------------------------------------------------


def retried(*outcomes: Outcome, after: int | None = None, book: Shelf = BOOK) -> int | None:
    """How long the step waits, when its attempts ended so, the last of them now."""
    facts: list[f.Fact | int] = [started()]
    for number, outcome in enumerate(outcomes, 1):
        facts.append(intended(number))
        if number < len(outcomes):
            facts.append(ended(outcome, number))
    ledger = ledger_of(*facts)
    name = f"i1.1.cut.{len(outcomes)}"
    ledger.do(Ended("e", "i1", name, outcomes[-1], "said", None, 1, book, ONE, after))
    (found,) = [e.fact for e in ledger.writes[-1].events if isinstance(e.fact, f.AttemptEnded)]
    return None if found.retry_at is None else found.retry_at - ledger.state.now


def test_how_long_a_retry_waits() -> None:
    no, unknown, refused = Outcome.TEMPORARY, Outcome.UNKNOWN, Outcome.PERMANENT
    assert retried(no) == 5 * SECOND
    assert retried(no, after=1) == 5 * SECOND, "at least as long as the runbook says"
    assert retried(no, after=HOUR) == HOUR
    assert retried(no, no) == 10 * SECOND
    assert retried(no, no, no) is None, "three attempts are all"
    assert retried(unknown, no, no) == 20 * SECOND, "one whose outcome is unknown is none of the three"
    assert retried(refused, refused, no) == 20 * SECOND
    assert retried(refused) is None
    assert retried(Outcome.OK) is None
    assert retried(no, book=Shelf(rules_of(a_runbook(runbook="other")), "test")) is None


def test_without_a_pause_a_retry_comes_at_once() -> None:
    none = Shelf(rules_of(a_runbook(steps=[cut_step(retry={"attempts": 2, "first": 0})])), "test")
    assert retried(Outcome.TEMPORARY, book=none) == 0
    failed = first(report(ledger_of(started()), book=none, run=1, step="cut", failed="429", retry=True))
    assert isinstance(failed, f.StepFailed)
    assert failed.retry_at == T0


def answered(*outputs: JsonValue, effect: Effect = Effect.READ, **retry: Any) -> f.AttemptEnded:
    """What is recorded of the last of these answers to a step that waits until it is done."""
    step = cut_step(expect="value.done", retry={"attempts": 3, "first": "5s", "unless": "value.failed", **retry})
    facts: list[f.Fact | int] = [started()]
    for number in range(1, len(outputs) + 1):
        facts.append(intended(number, a_plan(effect)))
        facts += [ended(Outcome.OK, number, retry_at=T0)] if number < len(outputs) else []
    ledger = ledger_of(*facts)
    book = Shelf(rules_of(a_runbook(steps=[step])), "test")
    ledger.do(Ended("e", "i1", f"i1.1.cut.{len(outputs)}", Outcome.OK, "said", outputs[-1], 1, book, ONE))
    (found,) = [e.fact for e in ledger.writes[-1].events if isinstance(e.fact, f.AttemptEnded)]
    return found


def test_a_reading_is_asked_again_until_it_is_as_expected() -> None:
    first = answered({"done": False})
    assert first.not_yet == f.NotYet(tried=1, of=3, why="value.done false")
    assert (first.retry_at or 0) - T0 == 5 * SECOND
    second = answered({}, {})
    assert second.not_yet is not None
    assert (second.not_yet.tried, (second.retry_at or 0) - T0) == (2, 10 * SECOND)
    for last in (
        answered({}, {}, {"done": False}),
        answered({"done": True}),
        answered({"done": False, "failed": True}),
        answered({"done": False}, effect=Effect.SET),
        answered({"done": False}, attempts=1, unless=None),
    ):
        assert (last.not_yet, last.retry_at) == (None, None)


# --- reminders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remind", [HOUR, None])
def test_a_reminder_has_one_row(remind: int | None) -> None:
    ledger = ledger_of()
    name = "in_force:risk-api/kelly_fraction"
    body = InForce(incident="i1", attempt="a", step="cut", target="risk-api/kelly_fraction", preview="cut",
                   before=0.25, value=0.1, since=T0, remind=remind)  # fmt: skip
    ledger.state.scopes[name] = ScopeRow(name, body.model_dump_json(), T0)
    ledger.do(Remind("m", name, BOOK))
    rows = [t for t in ledger.writes[-1].timers if t.subject == f"scope:{name}"]
    expected = Due(kind="remind", round=0, due=0 if remind is None else T0 + HOUR)
    assert [(row.due, row.gone) for row in rows] == [(expected, remind is None)]


# --- timers that were lost --------------------------------------------------------------------------------------------


def rearmed(ledger: Ledger) -> list[TimerRow]:
    """The timers that are written again."""
    ledger.do(Rearm("a", "i1"))
    return list(ledger.writes[-1].timers)


def test_what_an_open_incident_has_to_do_is_on_the_clock_again() -> None:
    agenda = (Due(kind="level", round=0, due=T0 + MINUTE), Due(kind="work", round=0, due=T0, work=True))
    assert Rearm("a", "i1").reads() == Keys(incidents=frozenset({"i1"}))
    assert rearmed(ledger_of(agenda=agenda)) == [TimerRow("i1", due) for due in agenda]


def test_what_is_over_or_unknown_gets_no_timer() -> None:
    over = ledger_of(agenda=(Due(kind="level", round=0, due=T0 + MINUTE),))
    row = over.state.incidents["i1"]
    assert row is not None
    over.state.incidents["i1"] = replace(row, open_key=None)
    assert rearmed(over) == []
    assert rearmed(Ledger()) == []
