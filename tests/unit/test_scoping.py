"""Locks, counters, draws and changes in force, as facts change them."""

from __future__ import annotations

from typing import Any

import pytest

from responder import facts as f
from responder.recorded import Cause, Effect, Outcome, ProbeAnswer, Recorded, Result, StepStatus
from responder.scopes import Draw, Draws, InForce, Lock, Results, RunCount, RunEnd, lock_of, recent
from responder.scoping import ScopeChange, scopes_after
from responder.timing import DAY, HOUR
from tests.builders import T0, a_plan, a_runbook, cut_step, ended, fired, intended, opened, rules_of, started, told

TARGET = "risk-api/kelly_fraction"
RUNBOOK = rules_of(a_runbook(steps=[cut_step(restore={"approval": "desk", "remind": "4h"})])).runbooks["cut"]
BEGUN: tuple[f.Fact, ...] = (opened(), fired(), started())
OURS, THEIRS = Lock(incident="i1", run=1, since=T0), Lock(incident="i9", run=4, since=T0)
UNKNOWN = f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN)


def after(*facts: f.Fact, **known: Recorded) -> dict[str, Any]:
    """What the last of the facts changes; scopes are given by the kind of their name."""
    event = f.Event(id="e", incident="i1", seq=len(facts), at=T0, actor="responder", fact=facts[-1])
    names = {"lock": f"lock:{TARGET}", "runs": f"runs:cut|{TARGET}", "in_force": f"in_force:{TARGET}",
             "budget": f"parameter:{TARGET}", "results": "results:cut", "changes": "changes:global",
             "of_runbook": "changes:runbook:cut"}  # fmt: skip
    bodies = {names[kind]: body.model_dump_json() for kind, body in known.items()}
    changes: list[ScopeChange] = scopes_after(told(*facts), event, RUNBOOK, bodies.get)
    return {change.name.partition(":")[0]: change.body for change in changes}


def test_an_intent_takes_the_lock_counts_the_run_and_what_it_takes_off() -> None:
    plan = a_plan(draws={f"parameter:{TARGET}": 0.15})
    changed = after(*BEGUN, intended(plan=plan))
    assert changed["lock"] == OURS
    assert changed["runs"] == RunCount(started=(T0,))
    assert changed["parameter"] == Draws(draws=(Draw(at=T0, amount=0.15, incident="i1", run=1, step="cut"),))


def test_a_second_attempt_takes_nothing_twice() -> None:
    plan = a_plan(draws={f"parameter:{TARGET}": 0.15})
    facts = (*BEGUN, intended(plan=plan), ended(Outcome.UNKNOWN), intended(2, plan))
    drawn = Draws(draws=(Draw(at=T0, amount=0.15, incident="i1", run=1, step="cut"),))
    one = drawn.model_copy(update={"draws": (drawn.draws[0].model_copy(update={"amount": 1.0}),)})
    known = {"lock": OURS, "runs": RunCount(started=(T0,)), "budget": drawn}
    assert after(*facts, **known, changes=one, of_runbook=one) == {}


def test_a_retry_whose_plan_takes_more_draws_the_difference() -> None:
    name = f"parameter:{TARGET}"
    drawn = Draws(draws=(Draw(at=T0, amount=0.125, incident="i1", run=1, step="cut"),))
    for amount, more in ((0.375, [0.125, 0.25]), (0.0625, None)):
        second = intended(2, a_plan(draws={name: amount}))
        facts = (*BEGUN, intended(plan=a_plan(draws={name: 0.125})), ended(Outcome.TEMPORARY), second)
        changed = after(*facts, lock=OURS, budget=drawn).get("parameter")
        assert (None if changed is None else [draw.amount for draw in changed.draws]) == more


def test_another_step_run_or_incident_draws_for_itself() -> None:
    plan = a_plan(draws={f"parameter:{TARGET}": 0.125})
    others = (("i9", 1, "cut"), ("i1", 2, "cut"), ("i1", 1, "more"))
    drawn = Draws(draws=tuple(Draw(at=T0, amount=0.5, incident=i, run=r, step=s) for i, r, s in others))
    changed = after(*BEGUN, intended(plan=plan), lock=OURS, budget=drawn)["parameter"]
    assert [draw.amount for draw in changed.draws] == [0.5, 0.5, 0.5, 0.125]


def test_reading_takes_nothing() -> None:
    assert after(*BEGUN, intended(plan=a_plan(Effect.READ))) == {}


def test_a_brake_that_passes_a_lock_holds_it_beside_its_owner() -> None:
    both = lock_of((THEIRS, OURS))
    assert both is not None
    assert after(*BEGUN, intended(), lock=THEIRS)["lock"] == both
    over = f.RunEnded(run=1, result=Result.FIXED, why="")
    assert after(*BEGUN, intended(), ended(Outcome.OK), over, lock=both)["lock"] == THEIRS
    assert "lock" not in after(*BEGUN, intended(), ended(Outcome.OK), over, lock=THEIRS)


def test_draws_of_the_day_before_are_forgotten() -> None:
    old = Draws(draws=(Draw(at=T0 - DAY, amount=1, incident="i8"), Draw(at=T0 - HOUR, amount=2, incident="i9")))
    changed = after(*BEGUN, intended(plan=a_plan(draws={f"parameter:{TARGET}": 0.1})), budget=old)
    assert [draw.amount for draw in changed["parameter"].draws] == [2, 0.1]


@pytest.mark.parametrize("result", list(Result))
def test_every_known_end_releases_the_lock_and_starts_the_cooldown(result: Result) -> None:
    changed = after(*BEGUN, intended(), ended(Outcome.OK), f.RunEnded(run=1, result=result, why=""), lock=OURS)
    useless = result in (Result.INEFFECTIVE, Result.HARMFUL)
    fixed = (T0,) if result is Result.FIXED else ()
    assert changed.pop("results").began is None
    assert changed == {"lock": None, "runs": RunCount(ended=T0, ineffective=(T0,) if useless else (), fixed=fixed)}


def test_what_nobody_knows_keeps_it() -> None:
    facts = (*BEGUN, intended(), ended(Outcome.UNKNOWN), UNKNOWN)
    assert after(*facts, lock=OURS)["lock"].unknown
    over = (*facts, f.RunEnded(run=1, result=Result.FIXED, why=""))
    assert after(*over, lock=OURS)["lock"].unknown
    settled = (*over, f.Settled(attempt="i1.1.cut.1", applied=False, reason="x"))
    assert after(*settled, lock=OURS) == {"lock": None}
    assert after(*settled, lock=THEIRS) == {}


def test_what_a_brake_left_unknown_is_locked_over_the_lock_that_it_passed() -> None:
    facts = (*BEGUN, intended(), ended(Outcome.UNKNOWN), UNKNOWN)
    assert after(*facts, lock=THEIRS)["lock"] == OURS.model_copy(update={"unknown": True, "beside": (THEIRS,)})


def test_settling_during_the_run_leaves_the_lock_to_its_end() -> None:
    facts = (*BEGUN, intended(), ended(Outcome.UNKNOWN), UNKNOWN)
    assert after(*facts, f.Settled(attempt="i1.1.cut.1", applied=False, reason="x"), lock=OURS) == {}


@pytest.mark.parametrize("over", [[], [f.RunEnded(run=1, result=Result.UNKNOWN, why="")]], ids=["in it", "after it"])
def test_what_a_person_says_has_happened_is_in_force(over: list[f.Fact]) -> None:
    plan = a_plan(before=0.25, target=0.1)
    facts = (*BEGUN, intended(plan=plan), ended(Outcome.UNKNOWN), UNKNOWN, *over)
    changed = after(*facts, f.Settled(attempt="i1.1.cut.1", applied=True, reason="x"), lock=OURS)
    body = changed["in_force"]
    assert (body.attempt, body.before, body.value, body.remind) == ("i1.1.cut.1", 0.25, 0.1, 4 * HOUR)
    assert ("lock" in changed) is bool(over)


def test_what_was_tried_in_vain_before_is_not_what_is_in_force() -> None:
    done = f.StepEnded(run=1, step="cut", status=StepStatus.DONE)
    probed = f.Probed(attempt="i1.1.cut.1", answer=ProbeAnswer.APPLIED)
    happened = after(*BEGUN, intended(), ended(Outcome.UNKNOWN), probed, done)
    assert happened["in_force"].attempt == "i1.1.cut.1"
    assert "in_force" not in after(*BEGUN, intended(), ended(Outcome.TEMPORARY), done), "nothing was left to do"


def test_a_run_that_changed_nothing_leaves_no_trace() -> None:
    over = f.RunEnded(run=1, result=Result.CANCELLED, why="")
    assert after(*BEGUN, over) == {}
    assert after(*BEGUN, over, results=Results(ends=(RunEnd(at=T0, good=True),))) == {}


def test_a_change_in_force_is_remembered_until_it_is_put_back() -> None:
    done = f.StepEnded(run=1, step="cut", status=StepStatus.DONE)
    plan = a_plan(before=0.25, target=0.1)
    body = after(*BEGUN, intended(plan=plan), ended(Outcome.OK), done)["in_force"]
    assert (body.attempt, body.before, body.value, body.remind) == ("i1.1.cut.1", 0.25, 0.1, 4 * HOUR)
    restore = started(number=2, cause=Cause.RESTORE, restores="i1.1.cut.1")
    back = intended(run=2, attempt="i1.2.cut.1")
    for result, gone in ((Result.FIXED, True), (Result.FAILED, False)):
        changed = after(*BEGUN, restore, back, f.RunEnded(run=2, result=result, why=""), in_force=body)
        assert ("in_force" in changed) is gone
        assert changed.get("in_force") is None
        assert "runs" not in changed, "a person's command counts against no limit"


def test_unlocking_frees_the_target_whoever_holds_it() -> None:
    assert after(*BEGUN, f.Unlocked(target=TARGET, reason="x"), lock=THEIRS) == {"lock": None}


def test_what_lay_beneath_is_in_force_again_and_reminds_again() -> None:
    below = InForce(incident="i0", attempt="i0.1.cut.1", step="cut", target=TARGET, preview="", before=1, value=0.5,
                    since=T0, remind=HOUR)  # fmt: skip
    body = below.model_copy(update={"incident": "i1", "attempt": "i1.1.cut.1", "beneath": below})
    restore = started(number=2, cause=Cause.RESTORE, restores="i1.1.cut.1")
    over = f.RunEnded(run=2, result=Result.FIXED, why="")
    facts = (*BEGUN, restore, intended(run=2, attempt="i1.2.cut.1"), over)
    event = f.Event(id="e", incident="i1", seq=9, at=T0 + HOUR, actor="responder", fact=over)
    names = {f"in_force:{TARGET}": body.model_dump_json()}
    (change,) = [c for c in scopes_after(told(*facts), event, RUNBOOK, names.get) if c.name.startswith("in_force")]
    assert change.body == below
    assert change.remind is not None
    assert change.remind.due == T0 + 2 * HOUR


def test_a_counter_forgets_after_a_week() -> None:
    assert recent((T0 - 8 * DAY, T0 - 6 * DAY), T0) == (T0 - 6 * DAY,)


# --- what was held back -----------------------------------------------------------------------------------------------

EARLIER = T0 - HOUR
HELD = (*BEGUN, intended(), ended(Outcome.TEMPORARY, held_back=True))


def test_what_was_held_back_begins_when_it_is_intended_again() -> None:
    facts = (*BEGUN, intended(), HOUR, ended(Outcome.TEMPORARY, held_back=True))
    incident = told(*facts, intended(2))
    later = T0 + HOUR
    event = f.Event(id="e", incident="i1", seq=9, at=later, actor="responder", fact=intended(2))
    own = Draw(at=T0, amount=1.0, incident="i1", run=1, step="cut")
    other = Draw(at=T0, amount=1.0, incident="i9", run=1, step="cut")
    known = {
        f"runs:cut|{TARGET}": RunCount(started=(T0 - 1, T0, T0)),
        "results:cut": Results(began=T0),
        "changes:runbook:cut": Draws(draws=(own, other)),
    }
    bodies = {name: body.model_dump_json() for name, body in known.items()}
    changed = {c.name: c.body for c in scopes_after(incident, event, RUNBOOK, bodies.get)}
    assert changed[f"runs:cut|{TARGET}"] == RunCount(started=(T0 - 1, T0, later)), "one of two at the same time is its"
    assert changed["results:cut"] == Results(began=later)
    moved = own.model_copy(update={"at": later})
    assert changed["changes:runbook:cut"] == Draws(draws=(other, moved))


@pytest.mark.parametrize(("amount", "reserved"), [(0.0625, 0.125), (0.375, 0.375)])
def test_what_was_reserved_for_it_is_never_given_back(amount: float, reserved: float) -> None:
    drawn = Draws(draws=(Draw(at=EARLIER, amount=0.125, incident="i1", run=1, step="cut"),))
    second = intended(2, a_plan(draws={f"parameter:{TARGET}": amount}))
    changed = after(*HELD, second, lock=OURS, budget=drawn)["parameter"]
    assert [(draw.at, draw.amount) for draw in changed.draws] == [(T0, reserved)]


def test_a_step_that_was_sent_once_keeps_the_time_of_its_draw() -> None:
    drawn = Draws(draws=(Draw(at=EARLIER, amount=1.0, incident="i1", run=1, step="cut"),))
    facts = (*BEGUN, intended(), ended(Outcome.TEMPORARY), intended(2), ended(Outcome.TEMPORARY, 2, held_back=True))
    changed = after(*facts, intended(3), lock=OURS, changes=drawn, of_runbook=drawn, runs=RunCount(started=(EARLIER,)))
    assert changed == {}


def test_a_trial_that_was_never_sent_is_over_and_that_of_another_run_is_not() -> None:
    over = f.RunEnded(run=1, result=Result.CANCELLED, why="")
    bad = RunEnd(at=EARLIER, good=False)
    changed = after(*HELD, over, lock=OURS, results=Results(ends=(bad,), began=T0))
    assert changed == {"lock": None, "results": Results(ends=(bad,))}
    assert after(*HELD, over, lock=OURS, results=Results(ends=(bad,), began=EARLIER)) == {"lock": None}
    assert after(*HELD, over, lock=OURS) == {"lock": None}


def test_what_takes_back_is_counted_for_nothing_when_it_ends() -> None:
    undo = started(number=2, cause=Cause.UNDO, restores="i1.1.cut.1")
    sent = (intended(run=2, attempt="i1.2.cut.1"), ended(Outcome.OK, attempt="i1.2.cut.1"))
    over = f.RunEnded(run=2, result=Result.FIXED, why="")
    first = (*BEGUN, intended(), ended(Outcome.OK), f.RunEnded(run=1, result=Result.HARMFUL, why=""))
    ours = OURS.model_copy(update={"run": 2})
    assert after(*first, undo, *sent, over, lock=ours) == {"lock": None}
