"""The gates: each verdict with its reason in numbers, and what a brake passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from responder.cases import Case, Touched
from responder.guards import INFORMED, LOCAL, budget, judge, why_missing
from responder.incident import Incident
from responder.recorded import Answer, Cause, Mode, Observation, Outcome, Plan, Verdict
from responder.scopes import Draw, Draws, Lock, Pause, RunCount
from responder.timing import DAY, HOUR, MINUTE, SECOND
from tests.builders import T0, a_plan, a_runbook, ended, fired, intended, opened, rules_of, started, told

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


def by_gate(verdicts: Sequence[Verdict], gate: str) -> Verdict:
    return next(v for v in verdicts if v.gate == gate)


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
    verdicts = judge(case(scopes), LOCAL)
    verdict = next(v for v in verdicts if v.gate == gate)
    assert verdict.answer is answer
    assert reason in verdict.reason
    assert (verdicts[-1] is verdict) is (answer is not Answer.ALLOW), "after a refusal nothing else is asked"


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
    verdict = by_gate(judge(case({BUDGET: draws}, a_plan(draws={BUDGET: amount}), brake=True), INFORMED), "budget")
    assert (verdict.answer, verdict.warn) == (answer, False)


def test_what_a_step_has_drawn_already_does_not_count_against_it_when_it_is_tried_again() -> None:
    def drawn(step: str) -> Draws:
        return Draws(draws=(Draw(at=T0, amount=0.2, incident="i1", run=1, step=step),))

    for step, answer in (("cut", Answer.ALLOW), ("other", Answer.DENY)):
        verdicts = judge(case({BUDGET: drawn(step)}, a_plan(draws={BUDGET: 0.2})), INFORMED)
        assert by_gate(verdicts, "budget").answer is answer


def test_putting_back_what_a_brake_did_is_no_brake() -> None:
    held = {f"lock:{TARGET}": Lock(incident="i9", run=3, since=T0, unknown=True)}
    braking = case(held, brake=True)
    restoring = replace(braking, run=braking.run.model_copy(update={"cause": Cause.RESTORE}))
    assert (braking.brake, restoring.brake) == (True, False)
    passed = by_gate(judge(braking, LOCAL), "lock")
    assert (passed.answer, passed.warn) == (Answer.ALLOW, True)
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
    verdict = by_gate(judge(case(seen=answer, only_if={"check": "risk", "expect": "value > 1.5"}), INFORMED), "only_if")
    assert (verdict.answer, reason in verdict.reason) == (expected, True), verdict.reason


def test_missing_evidence_may_let_it_act_and_page() -> None:
    only_if = {"check": "risk", "expect": "value > 1.5", "if_missing": "act_and_page"}
    verdict = by_gate(judge(case(seen=seen(None, error="down"), only_if=only_if), INFORMED), "only_if")
    assert (verdict.answer, verdict.warn) == (Answer.ALLOW, True)
    assert by_gate(judge(case(seen=seen(1.0), only_if=only_if), INFORMED), "only_if").answer is Answer.DENY


@pytest.mark.parametrize(("age", "missing"), [(60, False), (61, True), (-60, False), (-61, True)])
def test_a_sample_is_fresh_up_to_its_age(age: int, missing: bool) -> None:
    assert (why_missing(seen(1.0, age * SECOND), MINUTE, T0) is not None) is missing


# --- pause, mode and env ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["pause:global", "pause:runbook:cut", "pause:service:risk-api"])
def test_all_automation_a_runbook_or_a_service_is_paused(scope: str) -> None:
    touched = (Touched("risk-api"),)
    paused = {scope: Pause(paused=True, actor="al", at=T0 - MINUTE, reason="why")}
    assert last(replace(case(paused, brake=True), touched=touched))[:2] == ("pause", Answer.WAIT)
    until = {scope: Pause(paused=True, actor="al", at=T0 - MINUTE, until=T0)}
    over = judge(replace(case(until), touched=touched), LOCAL)
    assert by_gate(over, "pause").answer is Answer.ALLOW, "it has run out"
    other = {"pause:runbook:halt": paused[scope], "pause:service:broker": paused[scope]}
    assert by_gate(judge(replace(case(other), touched=touched), LOCAL), "pause").answer is Answer.ALLOW


def test_the_pause_file_stops_brakes_and_not_what_a_person_asked_for() -> None:
    halted = replace(case(brake=True), halted="automation is paused by the file /run/pause")
    assert last(halted) == ("pause", Answer.WAIT, False)
    asked = replace(halted, run=halted.run.model_copy(update={"cause": Cause.RESTORE}))
    assert by_gate(judge(asked, LOCAL), "pause").answer is Answer.ALLOW


@pytest.mark.parametrize(
    ("ceiling", "answer"), [(Mode.OBSERVE, Answer.DENY), (Mode.APPROVE, Answer.ALLOW), (Mode.AUTO, Answer.ALLOW)]
)
def test_a_ceiling_that_was_lowered_since_the_run_began_stops_it(ceiling: Mode, answer: Answer) -> None:
    for brake in (True, False):
        verdicts = judge(replace(case(brake=brake), ceiling=ceiling), LOCAL)
        assert by_gate(verdicts, "mode").answer is answer


@pytest.mark.parametrize(
    ("services", "alerts", "answer"),
    [
        ({"risk-api": "prod"}, "staging", Answer.DENY),
        ({"other": None, "risk-api": "prod"}, "staging", Answer.DENY),
        ({"risk-api": "prod"}, "prod", Answer.ALLOW),
        ({"risk-api": "prod"}, None, Answer.ALLOW),
        ({"risk-api": None}, "staging", Answer.ALLOW),
    ],
)
def test_an_alert_of_one_env_touches_no_service_of_another(
    services: dict[str, str | None], alerts: str | None, answer: Answer
) -> None:
    given = case(brake=True)
    labels = {"alertname": "TooMuchRisk"} | ({} if alerts is None else {"env": alerts})
    episode = given.incident.firing[0].model_copy(update={"labels": labels})
    touched = tuple(Touched(name, env) for name, env in services.items())
    incident = given.incident.model_copy(update={"episodes": {episode.fingerprint: episode}})
    verdict = by_gate(judge(replace(given, incident=incident, touched=touched), LOCAL), "env")
    assert verdict.answer is answer


@pytest.mark.parametrize(
    ("name", "gate", "answer"),
    [
        ("pause:global", "pause", Answer.WAIT),
        (RUNS, "cooldown", Answer.DENY),
        (f"lock:{TARGET}", "lock", Answer.DENY),
    ],
)
def test_what_cannot_be_read_holds_back(name: str, gate: str, answer: Answer) -> None:
    broken = replace(case(), scope={name: "no JSON"}.get)
    verdicts = judge(broken, LOCAL)
    assert (verdicts[-1].gate, verdicts[-1].answer) == (gate, answer)
    assert "cannot be read" in verdicts[-1].reason


def test_the_order_of_the_gates_is_fixed() -> None:
    """The order of the reasons that people see, and of who is asked before anything outside is (design 5.5)."""
    assert [gate.__name__ for gate in LOCAL] == [
        "pause", "mode", "env", "cooldown", "runs", "ineffective", "lock", "storm", "relapse", "success", "calendar",
        "yields_to",
    ]  # fmt: skip
    assert [gate.__name__ for gate in INFORMED] == ["alerts", "only_if", "budget", "changes"]


# --- what was held back -----------------------------------------------------------------------------------------------


def held(given: Case) -> Case:
    """Its only change was intended at T0 and held back."""
    incident = told(opened(), fired(), started(), intended(), ended(Outcome.TEMPORARY, held_back=True))
    return replace(given, incident=incident, run=incident.runs[0])


@pytest.mark.parametrize(
    ("count", "gate"),
    [
        (RunCount(ended=T0 - 4 * MINUTE), "cooldown"),
        (RunCount(started=(T0 - HOUR, T0 - 2 * HOUR, T0)), "runs"),
        (RunCount(started=(T0 - HOUR, T0, T0)), "runs"),
        (RunCount(ineffective=(T0 - HOUR,)), "ineffective"),
        (RunCount(started=(T0 - HOUR, T0)), "yields_to"),
    ],
)
def test_what_was_held_back_has_not_begun_and_its_own_start_is_left_out(count: RunCount, gate: str) -> None:
    given = held(case({RUNS: count}))
    assert last(given)[0] == gate
    sent = told(opened(), fired(), started(), intended(), ended(Outcome.TEMPORARY))
    assert last(replace(given, incident=sent, run=sent.runs[0])) == ("yields_to", Answer.ALLOW, False)


def test_what_a_step_has_drawn_itself_long_ago_is_not_taken_off_what_others_drew() -> None:
    own = Draw(at=T0 - DAY, amount=0.25, incident="i1", run=1, step="cut")
    others = Draw(at=T0 - HOUR, amount=0.25, incident="i9", run=1, step="cut")
    given = case({BUDGET: Draws(draws=(own, others))}, a_plan(draws={BUDGET: 0.1}))
    verdict = budget(given)
    assert (verdict.answer, verdict.reason.partition(": ")[2]) == (
        Answer.DENY,
        "0.25 taken off in 24h, 0.1 more would pass the total of 0.3",
    )
