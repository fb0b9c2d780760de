"""What is next, from a state and the time alone: the order of the rules, and starting runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from responder import facts as f
from responder.decide import decide
from responder.recorded import Cause, Effect, Mode, Outcome, Plan, ProbeAnswer, Result
from responder.timing import MINUTE, SECOND
from responder.view import Finish, Gather, Tell, WaitUntil
from tests.builders import T0, a_runbook, a_view, ended, fired, intended, opened, rules_of, started, told

RULES = rules_of(a_runbook())
PROMISES = rules_of(
    a_runbook(unless_fixed={"5m": {"run": "halt", "page": "boss", "countdown": "1m"}}),
    a_runbook(runbook="halt", match=(), target="trading", brake=True),
)
INEFFECTIVE = f.RunEnded(run=1, result=Result.INEFFECTIVE, why="no")


def test_an_alert_with_a_runbook_starts_a_run() -> None:
    found = decide(a_view(told(opened(), fired()), RULES, T0))
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.RunStarted)
    assert (found.fact.cause, found.fact.mode, found.fact.steps) == (Cause.ALERT, Mode.AUTO, ("cut",))


def test_the_ceiling_and_the_namespace_take_the_smaller_mode() -> None:
    lower = replace(a_view(told(opened(), fired()), RULES, T0), ceiling=Mode.OBSERVE)
    replayed = a_view(told(opened(namespace="replay"), fired()), RULES, T0)
    for view in (lower, replayed):
        found = decide(view)
        assert isinstance(found, Tell)
        assert isinstance(found.fact, f.RunStarted)
        assert found.fact.mode is Mode.OBSERVE


def test_a_problem_of_its_alert_starts_nothing() -> None:
    incident = told(opened(runbook=None), fired(), f.ProblemFound(problem="two runbooks", urgent=False))
    assert decide(a_view(incident, RULES, T0)) == WaitUntil()


def test_rules_that_cannot_be_read_end_the_run_and_do_nothing() -> None:
    found = decide(a_view(told(opened(rules_hash="gone"), fired(), started(rules_hash="gone")), RULES, T0))
    assert isinstance(found, Finish)
    assert isinstance(found.fact, f.RunEnded)
    assert (found.fact.result, "cannot be read" in found.fact.why) == (Result.FAILED, True)


def test_before_a_change_it_asks_what_it_must_know() -> None:
    found = decide(a_view(told(opened(), fired(), started()), RULES, T0))
    assert found == Gather(runbook="cut", rules_hash="h1", run=1, step="cut")


def test_people_come_first() -> None:
    incident = told(opened(), fired(), started())
    found = decide(a_view(incident, RULES, T0 + 2 * MINUTE))
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.LevelReached)
    assert (found.fact.name, found.fact.why, found.fact.late) == ("L1", "not fixed 2m after it began", 0)


@pytest.mark.parametrize(("seconds", "late"), [(5, 0), (6, 6)])
def test_a_level_says_how_late_it_is(seconds: int, late: int) -> None:
    found = decide(a_view(told(opened(), fired(), started()), RULES, T0 + 2 * MINUTE + seconds * SECOND))
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.LevelReached)
    assert found.fact.late == late * SECOND


@pytest.mark.parametrize(
    ("effect", "asks"),
    [(Effect.SET, True), (Effect.PROBED, True), (Effect.UNSAFE, False), (Effect.KEYED, False), (Effect.READ, False)],
)
def test_what_is_unknown_is_probed_only_where_that_can_tell(effect: Effect, asks: bool) -> None:
    attempt = intended(plan=told_plan(effect))
    incident = told(opened(), fired(), started(), attempt, ended(Outcome.UNKNOWN))
    found = decide(a_view(incident, RULES, T0))
    assert (isinstance(found, Gather) and found.probe == "i1.1.cut.1") is asks
    unsafe = isinstance(found, Tell) and isinstance(found.fact, f.StepEnded)
    assert unsafe is (effect is Effect.UNSAFE)


def told_plan(effect: Effect) -> Plan:
    return Plan(params={}, preview="p", effect=effect, prepared_at=T0)


def test_what_a_replaced_owner_left_open_is_unknown() -> None:
    incident = told(opened(), fired(), started(), intended(epoch=1))
    here = a_view(incident, RULES, T0)
    assert decide(here) == WaitUntil(T0 + MINUTE + 2 * SECOND, "deadline")
    found = decide(replace(here, epoch=2))
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.AttemptEnded)
    assert found.fact.outcome is Outcome.UNKNOWN


def test_it_is_sent_again_only_so_often() -> None:
    facts: list[f.Fact] = []
    for number in range(1, 6):
        facts += [intended(number, told_plan(Effect.KEYED)), ended(Outcome.UNKNOWN, number)]
    found = decide(a_view(told(opened(), fired(), started(), *facts), RULES, T0))
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.StepEnded)
    assert found.fact.why.startswith("given up after 4 attempts")


def test_a_machine_is_armed_only_when_a_run_tried() -> None:
    idle = told(opened(), fired(), started(), f.RunEnded(run=1, result=Result.CANCELLED, why="refused"))
    acted = told(opened(), fired(), started(), intended(), ended(Outcome.PERMANENT), INEFFECTIVE)
    for incident, expected in ((idle, False), (acted, True)):
        acknowledged = incident.model_copy(update={"levels_reached": {"0:0": T0}})
        found = decide(a_view(acknowledged, PROMISES, T0 + 4 * MINUTE))
        announced = isinstance(found, Tell) and isinstance(found.fact, f.MachineAnnounced)
        assert announced is expected


def test_a_machine_looks_before_it_acts() -> None:
    incident = told(opened(), fired(), started(), intended(), ended(Outcome.PERMANENT), INEFFECTIVE)
    incident = incident.model_copy(update={"levels_reached": {"0:0": T0}})
    found = decide(a_view(incident, PROMISES, T0 + 5 * MINUTE))
    assert found == Gather(runbook="cut", rules_hash="h1", checks=("risk",), machine="0:0")


def test_a_probe_that_is_unclear_leaves_it_to_people() -> None:
    probed = f.Probed(attempt="i1.1.cut.1", answer=ProbeAnswer.UNCLEAR, detail="no idea")
    found = decide(a_view(told(opened(), fired(), started(), intended(), ended(Outcome.UNKNOWN), probed), RULES, T0))
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.StepEnded)
    assert found.fact.status.value == "unknown"
