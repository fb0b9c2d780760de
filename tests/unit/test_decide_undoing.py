"""Deciding at its edges: taking back what did harm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from responder import facts as f
from responder.decide import decide
from responder.recorded import Cause, Effect, Mode, Outcome, Result, StepStatus
from responder.rules import Rules
from responder.timing import HOUR, MINUTE
from responder.view import Next
from tests.builders import (
    a_plan,
    a_runbook,
    call_step,
    cut_step,
    ended,
    fired,
    intended,
    rules_of,
    started,
)
from tests.unit.deciding_parts import fact, over, view

# --- taking back what did harm ----------------------------------------------------------------------------------------

UNDO: dict[str, Any] = {"undo": {}}


def harmed(*facts: f.Fact | int, rules: Rules | None = None, at: int = 0, **changes: Any) -> Next:
    """A run did harm."""
    done = (fired(), started(inputs={"a": "1"}, target="other"), intended(), ended(Outcome.OK),
            f.StepEnded(run=1, step="cut", status=StepStatus.DONE), over(Result.HARMFUL),
            f.UrgentTold(number=1, page=(), why=""))  # fmt: skip
    made = view(*done, *facts, rules=rules or UNDOES, at=at, **changes)
    return decide(made)


UNDOES = rules_of(a_runbook(steps=[cut_step(**UNDO)]), levels=[])


def undoes(found: Next) -> str | None:
    """The attempt that is undone."""
    made = fact(found)
    return made.restores if isinstance(made, f.RunStarted) and made.cause is Cause.UNDO else None


def test_harm_is_undone_at_once() -> None:
    made = fact(harmed())
    assert isinstance(made, f.RunStarted)
    assert (made.cause, made.number, made.steps, made.restores) == (Cause.UNDO, 2, ("cut",), "i1.1.cut.1")
    assert (made.target, made.inputs, made.mode) == ("other", {"a": "1"}, Mode.AUTO)


def test_what_is_not_undone() -> None:
    assert undoes(harmed(f.TakenOver())) is None
    assert undoes(harmed(f.Closed(why=""))) is None
    assert undoes(harmed(started(number=2, cause=Cause.PERSON))) is None, "a run is under way"
    assert undoes(harmed(namespace="replay")) is None
    assert undoes(harmed(rules=rules_of(a_runbook(steps=[call_step("cut")]), levels=[]))) is None, "no undo"
    assert undoes(harmed(started(number=2, cause=Cause.UNDO, restores="i1.1.cut.1"), over(Result.FAILED, 2))) is None
    asks = rules_of(a_runbook(steps=[cut_step(undo={"approval": "risk-manager"})]), levels=[])
    assert undoes(harmed(rules=asks)) is None, "people decide"
    failed = (started(number=2, cause=Cause.RELAPSE), over(Result.FAILED, 2))
    assert undoes(harmed(*failed)) is None, "a later run was no harm"
    elsewhere = (started(number=2, cause=Cause.RESTORE, restores="x"), over(Result.FIXED, 2))
    assert undoes(harmed(*elsewhere)) == "i1.1.cut.1"


def test_harm_of_a_run_whose_rules_are_gone_is_for_people() -> None:
    done = (fired(), started(rules_hash="gone"), intended(), ended(Outcome.OK), over(Result.HARMFUL))
    assert undoes(decide(view(*done, f.UrgentTold(number=1, page=(), why=""), rules=UNDOES))) is None


def test_why_harm_is_not_undone_is_told_once() -> None:
    for at, late in ((5 * MINUTE, False), (5 * MINUTE + 1, True)):
        found = harmed(at=at)
        assert (undoes(found) is None) is late
    problem = f.ProblemFound(problem="step cut of run 1 did harm and is not undone: it was seen more than 5m ago")
    assert fact(harmed(at=HOUR)) == problem
    assert not isinstance(fact(harmed(problem, f.UrgentTold(number=2, page=(), why=""), at=HOUR)), f.ProblemFound)


@pytest.mark.parametrize(("ceiling", "undone"), [(Mode.OBSERVE, False), (Mode.APPROVE, True), (Mode.AUTO, True)])
def test_the_ceiling_holds_for_undoing_too(ceiling: Mode, undone: bool) -> None:
    done = (fired(), started(), intended(), ended(Outcome.OK), over(Result.HARMFUL))
    made = replace(view(*done, f.UrgentTold(number=1, page=(), why=""), rules=UNDOES), ceiling=ceiling)
    found = decide(made)
    assert (undoes(found) is not None) is undone
    if not undone:
        problem = "step cut of run 1 did harm and is not undone: mode observe lets nothing be changed"
        assert fact(found) == f.ProblemFound(problem=problem)


def steps(*tries: tuple[str, Effect, Outcome], undone: tuple[str, ...] = (), settled: bool = False) -> str | None:
    """The attempt that is undone, of a run of two steps that made these attempts."""
    facts: list[f.Fact | int] = [fired(), started(steps=("cut", "more"))]
    for number, (step, effect, outcome) in enumerate(tries, 1):
        lost = settled and number == len(tries)
        facts += [intended(number, a_plan(effect), step=step), ended(Outcome.UNKNOWN if lost else outcome, number)]
    if settled:
        facts += [f.Settled(attempt=f"i1.1.cut.{len(tries)}", applied=True, reason="")]
    facts += [over(Result.HARMFUL), f.UrgentTold(number=1, page=(), why="")]
    for number, restores in enumerate(undone, 2):
        facts += [started(number=number, cause=Cause.UNDO, restores=restores), over(Result.FIXED, number)]
    two = rules_of(a_runbook(steps=[cut_step(**UNDO), cut_step(id="more", **UNDO)]), levels=[])
    made = view(*facts, rules=two)
    return undoes(decide(made))


def test_the_latest_change_is_undone_first() -> None:
    one, two = ("cut", Effect.SET, Outcome.OK), ("more", Effect.SET, Outcome.OK)
    failed, read = ("more", Effect.SET, Outcome.PERMANENT), ("more", Effect.READ, Outcome.OK)
    assert steps(one, two) == "i1.1.cut.2"
    assert steps(one, two, undone=("i1.1.cut.2",)) == "i1.1.cut.1"
    assert steps(one, two, undone=("i1.1.cut.2", "i1.1.cut.1")) is None
    assert steps(one, failed) == "i1.1.cut.1"
    assert steps(one, read) == "i1.1.cut.1"
    assert steps(one, two, two) == "i1.1.cut.3", "its last attempt that happened"
    assert steps(one, two, two, two) == "i1.1.cut.4"
    assert steps(one, two, two, undone=("i1.1.cut.3",)) == "i1.1.cut.1"
    assert steps(one, two, two, settled=True) == "i1.1.cut.1"
    assert steps(one, two, settled=True) == "i1.1.cut.1", "what a person settled is left to people"
