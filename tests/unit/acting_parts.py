"""A run that acts, and what follows: for the tests of `acting`."""

from __future__ import annotations

from typing import Any

from responder import facts as f
from responder.acting import acting
from responder.recorded import (
    Observation,
    Outcome,
    Result,
    StepStatus,
)
from responder.scopes import Lock, Pause
from responder.view import Ask, Finish, Next, Tell, View
from tests.builders import (
    T0,
    a_plan,
    a_runbook,
    a_view,
    cut_step,
    ended,
    fired,
    intended,
    opened,
    rules_of,
    started,
    told,
)

BEGUN: tuple[f.Fact, ...] = (opened(), fired(), started())
TARGET = "risk-api/kelly_fraction"
RESOLVED = f.AlertResolved(fingerprint="a", ends_at=None)
TWO = [cut_step(), cut_step(id="more")]
READY = f.Gathered(run=1, plan=a_plan(), step="cut")
HELD = {f"lock:{TARGET}": Lock(incident="i9", run=3, since=T0).model_dump_json()}
PAUSED = {"pause:global": Pause(paused=True, actor="al", at=T0).model_dump_json()}


def view(*facts: f.Fact | int, at: int = 0, scopes: dict[str, str] | None = None, **parts: Any) -> View:
    """So long after T0."""
    return a_view(told(*facts), rules_of(a_runbook(**parts), levels=[]), T0 + at, scopes)


def following(*facts: f.Fact | int, at: int = 0, scopes: dict[str, str] | None = None, **parts: Any) -> Next | None:
    return acting(view(*facts, at=at, scopes=scopes, **parts))


def fact(found: Next | None) -> Any:
    assert isinstance(found, Tell | Ask | Finish), found
    return found.fact


def result(found: Next | None) -> tuple[Result, str]:
    assert isinstance(found, Finish), found
    assert isinstance(found.fact, f.RunEnded)
    assert found.fact.run == 1
    return found.fact.result, found.fact.why


def step_ended(found: Next | None) -> tuple[StepStatus, str]:
    assert isinstance(found, Tell), found
    assert isinstance(found.fact, f.StepEnded)
    assert (found.fact.run, found.fact.step) == (1, "cut")
    return found.fact.status, found.fact.why


def done(step: str = "cut", status: StepStatus = StepStatus.DONE, why: str = "") -> f.StepEnded:
    return f.StepEnded(run=1, step=step, status=status, why=why)


def two(*facts: f.Fact | int, **parts: Any) -> Next | None:
    """What follows in a run of two steps."""
    return following(opened(), fired(), started(steps=("cut", "more")), *facts, **{"steps": TWO, **parts})


ONE_DONE = (intended(), ended(Outcome.OK), done())
CHECK = {"action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}}
CHECKS = {"risk": CHECK, "other": CHECK}
ONLY_IF = {"check": "other", "expect": "value > 1"}


def seen(check: str = "risk", value: float = 2.0, at: int = 0) -> Observation:
    return Observation(check=check, value=value, observed_at=T0 + at, asked_at=T0 + at)
