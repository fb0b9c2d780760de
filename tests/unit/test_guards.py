"""The gates: each verdict with its reason in numbers, and what a brake passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from responder.guards import INFORMED, LOCAL, Case, judge, why_missing
from responder.incident import Incident
from responder.recorded import Answer, Cause, Observation, Plan
from responder.scopes import Draw, Draws, Lock, Pause, RunCount
from responder.timing import DAY, HOUR, MINUTE, SECOND
from tests.builders import T0, a_plan, a_runbook, fired, opened, rules_of, started, told

TARGET = "risk-api/kelly_fraction"
RUNS = f"runs:cut|{TARGET}"
BUDGET = f"parameter:{TARGET}"
LIMITS = {"cooldown": "10m", "runs": "2 per 6h", "ineffective": "1 per 24h"}


def case(
    scopes: Mapping[str, Any] | None = None, plan: Plan | None = None, seen: Observation | None = None, **parts: Any
) -> Case:
    """The first step of the first run."""
    runbook = rules_of(a_runbook(limits=LIMITS, **parts)).runbooks["cut"]
    bodies = {name: body.model_dump_json() for name, body in (scopes or {}).items()}
    incident: Incident = told(opened(), fired(), started())
    run = incident.runs[0].model_copy(update={"observations": {} if seen is None else {"risk": seen}})
    return Case(incident, run, runbook, runbook.steps[0], plan, bodies.get, lambda name: 0.3, {}, T0)


def last(given: Case) -> tuple[str, Answer, bool]:
    verdict = judge(given, LOCAL)[-1]
    return verdict.gate, verdict.answer, verdict.warn


@pytest.mark.parametrize(
    ("scopes", "gate", "answer", "reason"),
    [
        (
            {"pause:global": Pause(paused=True, actor="al", at=T0, reason="why")},
            "pause",
            Answer.WAIT,
            "paused by al: why",
        ),
        ({"pause:global": Pause(paused=False, actor="al", at=T0)}, "lock", Answer.ALLOW, "is free"),
        ({RUNS: RunCount(ended=T0 - 4 * MINUTE)}, "cooldown", Answer.WAIT, "cooldown of 10m: 6m left"),
        ({RUNS: RunCount(ended=T0 - 10 * MINUTE)}, "lock", Answer.ALLOW, "is free"),
        ({RUNS: RunCount(started=(T0 - HOUR, T0 - 2 * HOUR))}, "runs", Answer.DENY, "2 runs already, limit 2 per 6h"),
        ({RUNS: RunCount(started=(T0 - HOUR, T0 - 7 * HOUR))}, "lock", Answer.ALLOW, "is free"),
        ({RUNS: RunCount(ineffective=(T0 - HOUR,))}, "ineffective", Answer.DENY, "1 runs did not help"),
        (
            {f"lock:{TARGET}": Lock(incident="i9", run=3, since=T0)},
            "lock",
            Answer.WAIT,
            "locked by run 3 of incident i9",
        ),
        ({f"lock:{TARGET}": Lock(incident="i1", run=1, since=T0)}, "lock", Answer.ALLOW, "is free"),
        ({f"lock:{TARGET}": Lock(incident="i9", run=3, since=T0, unknown=True)}, "lock", Answer.DENY, "settle it"),
    ],
)
def test_local_gates(scopes: Mapping[str, Any], gate: str, answer: Answer, reason: str) -> None:
    verdict = judge(case(scopes), LOCAL)[-1]
    assert (verdict.gate, verdict.answer) == (gate, answer)
    assert reason in verdict.reason


def test_a_brake_passes_limits_with_a_warning_and_never_the_pause() -> None:
    busy = {RUNS: RunCount(started=(T0, T0), ended=T0 - MINUTE, ineffective=(T0,))}
    held = {f"lock:{TARGET}": Lock(incident="i9", run=3, since=T0, unknown=True)}
    warned = judge(case({**busy, **held}, brake=True), LOCAL)
    assert [v.gate for v in warned if v.warn] == ["cooldown", "runs", "ineffective", "lock"]
    assert {v.answer for v in warned} == {Answer.ALLOW}
    paused = {"pause:global": Pause(paused=True, actor="al", at=T0)}
    assert last(case(paused, brake=True)) == ("pause", Answer.WAIT, False)


def test_after_a_refusal_nothing_else_is_asked() -> None:
    verdicts = judge(case({"pause:global": Pause(paused=True, actor="al", at=T0)}), LOCAL)
    assert [v.gate for v in verdicts] == ["pause"]


@pytest.mark.parametrize(
    ("used", "amount", "answer"),
    [(0.0, 0.3, Answer.ALLOW), (0.15, 0.15, Answer.ALLOW), (0.15, 0.16, Answer.DENY), (0.3, 0.01, Answer.DENY)],
)
def test_the_budget_of_a_day(used: float, amount: float, answer: Answer) -> None:
    draws = Draws(draws=(Draw(at=T0 - HOUR, amount=used, incident="i9"), Draw(at=T0 - DAY, amount=9, incident="i8")))
    verdict = judge(case({BUDGET: draws}, a_plan(draws={BUDGET: amount}), brake=True), INFORMED)[-1]
    assert (verdict.gate, verdict.answer, verdict.warn) == ("budget", answer, False)


def test_what_a_step_has_drawn_already_does_not_count_against_it_when_it_is_tried_again() -> None:
    def drawn(step: str) -> Draws:
        return Draws(draws=(Draw(at=T0, amount=0.2, incident="i1", run=1, step=step),))

    for step, answer in (("cut", Answer.ALLOW), ("other", Answer.DENY)):
        verdict = judge(case({BUDGET: drawn(step)}, a_plan(draws={BUDGET: 0.2})), INFORMED)[-1]
        assert (verdict.gate, verdict.answer) == ("budget", answer)


def test_putting_back_what_a_brake_did_is_no_brake() -> None:
    held = {f"lock:{TARGET}": Lock(incident="i9", run=3, since=T0, unknown=True)}
    braking = case(held, brake=True)
    restoring = replace(braking, run=braking.run.model_copy(update={"cause": Cause.RESTORE}))
    assert (braking.brake, restoring.brake) == (True, False)
    assert last(braking) == ("lock", Answer.ALLOW, True)
    assert last(restoring) == ("lock", Answer.DENY, False)


def seen(value: object, age: int = 0, error: str | None = None) -> Observation:
    return Observation(check="risk", value=value, observed_at=T0 - age, asked_at=T0, error=error)


@pytest.mark.parametrize(
    ("answer", "expected", "reason"),
    [
        (seen(2.0), Answer.ALLOW, "value 2 > 1.5"),
        (seen(1.0), Answer.DENY, "nothing to do"),
        (seen(float("nan")), Answer.DENY, "nothing to do"),
        (seen(None), Answer.DENY, "no value"),
        (seen(2.0, 61 * SECOND), Answer.DENY, "1m1s old"),
        (seen(2.0, -61 * SECOND), Answer.DENY, "in the future"),
        (seen(None, error="down"), Answer.DENY, "down"),
        (None, Answer.DENY, "was not asked"),
    ],
)
def test_evidence(answer: Observation | None, expected: Answer, reason: str) -> None:
    verdict = judge(case(seen=answer, only_if={"check": "risk", "expect": "value > 1.5"}), INFORMED)[0]
    assert (verdict.answer, reason in verdict.reason) == (expected, True), verdict.reason


def test_missing_evidence_may_let_it_act_and_page() -> None:
    only_if = {"check": "risk", "expect": "value > 1.5", "if_missing": "act_and_page"}
    verdict = judge(case(seen=seen(None, error="down"), only_if=only_if), INFORMED)[0]
    assert (verdict.answer, verdict.warn) == (Answer.ALLOW, True)
    assert judge(case(seen=seen(1.0), only_if=only_if), INFORMED)[0].answer is Answer.DENY


@pytest.mark.parametrize(("age", "missing"), [(60, False), (61, True), (-60, False), (-61, True)])
def test_a_sample_is_fresh_up_to_its_age(age: int, missing: bool) -> None:
    assert (why_missing(seen(1.0, age * SECOND), MINUTE, T0) is not None) is missing
