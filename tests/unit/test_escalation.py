"""Levels, acknowledgements and promises as times."""

from __future__ import annotations

import pytest

from responder import facts as f
from responder.escalation import (
    acknowledgement_ends,
    agenda,
    armed,
    last_reached,
    levels,
    promises,
    waits_for_run,
    whom,
)
from responder.incident import Incident
from responder.policies import Policy
from responder.recorded import Mode, Observation, Outcome, Result
from responder.timing import MINUTE
from tests.builders import T0, a_policy, a_runbook, ended, fired, intended, opened, rules_of, started, told

POLICY = Policy.model_validate(a_policy())
RUNBOOK = rules_of(a_runbook(unless_fixed={"5m": {"run": "halt", "countdown": "1m"}, "2m": {"page": "boss"}})).runbooks[
    "cut"
]
FIXED = f.RunEnded(run=1, result=Result.FIXED, why="")
L1 = f.LevelReached(round=0, index=0, name="L1", page=("first",), why="")


def due(incident: Incident) -> list[int]:
    return [(level.due - T0) // MINUTE for level in levels(incident, POLICY, {})]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([], [2, 15]),
        ([f.ProblemFound(problem="bad", urgent=True)], [2, 15]),
        ([L1], [15]),
        ([f.Acknowledged()], []),
        ([f.TakenOver()], []),
        ([started(), FIXED], []),
        ([f.Acknowledged(), 30 * MINUTE, f.AcknowledgementExpired(count=1, page=())], [32, 45]),
        ([5 * MINUTE, f.Acknowledged(), 5 * MINUTE, f.Acknowledged(), 30 * MINUTE,
          f.AcknowledgementExpired(count=2, page=())], [37, 50]),
        ([L1, 4 * MINUTE, f.SeverityRose(before="high", severity="critical", policy="ladder")], [6, 19]),
        ([started(), FIXED, 9 * MINUTE, f.Relapsed(why="")], [11, 24]),
        ([f.Acknowledged(), started(), FIXED, 9 * MINUTE, f.Relapsed(why="")], [11, 24]),
        ([started(), f.RunEnded(run=1, result=Result.CANCELLED, why=""), 9 * MINUTE, f.Relapsed(why="")], [2, 15]),
        ([f.Closed(why="")], []),
    ],
)  # fmt: skip
def test_levels(facts: list[f.Fact | int], expected: list[int]) -> None:
    assert due(told(opened(), fired(), *facts)) == expected


def test_a_replay_has_none() -> None:
    assert due(told(opened(namespace="replay"), fired())) == []


def test_an_acknowledgement_runs_out() -> None:
    held = told(opened(), fired(), 3 * MINUTE, f.Acknowledged())
    assert acknowledgement_ends(held, POLICY) == T0 + 33 * MINUTE
    assert acknowledgement_ends(held, Policy.model_validate(a_policy(acknowledgement=0))) is None
    assert acknowledgement_ends(told(opened(), started(), f.Acknowledged(), FIXED), POLICY) is None
    assert acknowledgement_ends(told(opened(), f.Acknowledged(), f.TakenOver()), POLICY) is None


def test_the_last_level_that_was_told_is_told_again() -> None:
    found = last_reached(told(opened(), fired(), L1), POLICY)
    assert found is not None
    assert found.name == "L1"
    assert last_reached(told(opened(), fired()), POLICY) is None


def test_something_urgent_is_for_whom_was_told_last_else_for_the_first_level() -> None:
    second = f.LevelReached(round=0, index=1, name="L2", page=("second",), why="")
    assert whom(told(opened(), fired()), POLICY) == ("first",)
    assert whom(told(opened(), fired(), L1, second), POLICY) == ("second",)
    assert whom(told(opened(), fired(), L1, second), Policy()) == ()


def test_announced_late_it_comes_late() -> None:
    late = f.MachineAnnounced(round=0, index=1, runbook="halt", at=T0 + 8 * MINUTE)
    incident = told(opened(), fired(), started(), intended(), ended(Outcome.OK), 7 * MINUTE, late)
    halt = list(promises(incident, RUNBOOK))[-1]
    assert (halt.due, halt.announce) == (T0 + 8 * MINUTE, None)


def test_one_that_waits_for_a_run_is_not_on_the_agenda() -> None:
    seen = Observation(check="risk", value=0.5, observed_at=T0, asked_at=T0)
    good = f.MachineGathered(round=0, index=1, observation=seen, holds=True)
    begun = (opened(), fired(), started(), intended(), ended(Outcome.OK))
    verified = told(*begun, f.Verifying(run=1), good)
    halt = list(promises(verified, RUNBOOK))[-1]
    assert waits_for_run(verified, halt)
    assert not waits_for_run(told(*begun, good), halt), "only while it is verified"
    assert [d.due for d in agenda(verified, POLICY, RUNBOOK, {}) if d.kind == "unless_fixed"] == [T0 + 2 * MINUTE]


def acted(mode: Mode = Mode.AUTO) -> Incident:
    return told(opened(), fired(), started(mode=mode), intended(), ended(Outcome.OK))


def test_promises_come_in_the_order_of_time() -> None:
    found = list(promises(acted(), RUNBOOK))
    assert [(p.due - T0) // MINUTE for p in found] == [2, 5]
    assert [None if p.announce is None else (p.announce - T0) // MINUTE for p in found] == [None, 4]


@pytest.mark.parametrize(
    ("fact", "left"),
    [(f.Acknowledged(), 2), (f.TakenOver(), 0), (FIXED, 0), (f.MachineFired(round=0, index=0), 1)],
)
def test_what_stops_them(fact: f.Fact, left: int) -> None:
    incident = told(opened(), fired(), started(), intended(), ended(Outcome.OK), fact)
    assert len(list(promises(incident, RUNBOOK))) == left


def test_they_arm_only_when_something_was_tried_in_auto_mode() -> None:
    assert armed(acted())
    assert not armed(acted(Mode.OBSERVE))
    assert not armed(told(opened(), fired(), started()))
    failed = f.StepFailed(run=1, step="cut", why="bad")
    assert armed(told(opened(), fired(), started(), failed))


def test_the_agenda_holds_everything_that_comes_by_time() -> None:
    kinds = [(d.kind, (d.due - T0) // MINUTE, d.work) for d in agenda(acted(), POLICY, RUNBOOK, {})]
    assert kinds == [
        ("level", 2, False), ("level", 15, False),
        ("unless_fixed", 2, False), ("unless_fixed", 5, True), ("countdown", 4, False),
    ]  # fmt: skip
