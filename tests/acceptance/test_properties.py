"""Whatever happens in whatever order: nothing fails, nothing is forgotten, no limit is passed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from responder.config import Config
from responder.errors import Rejected
from responder.incident import Incident
from responder.recorded import Result, StepStatus
from responder.rules import Rules
from responder.timing import MINUTE, SECOND
from tests.acceptance.stage import Stage, own, playing
from tests.builders import a_runbook, an_alert, call_step, cut_step

EXAMPLES = int(os.environ.get("RESPONDER_EXAMPLES", "60"))
"""More of them before a release: a hundred take about half a minute."""
SYMBOLS = ("AAA-USD", "BBB-USD", "not a pair")
LEVELS = [{"name": "L1", "after": 0, "page": "first"}, {"name": "L2", "after": "5m", "page": "second"}]


@cache
def rules() -> tuple[Rules, Config]:
    """Three runbooks on one target: one halts trading later, one has a step for a person; and the halt itself."""
    symbol = {"symbol": {"label": "symbol", "type": "currency_pair"}}
    cut = a_runbook(
        inputs=symbol,
        brake=True,
        only_if={"check": "risk", "expect": "value > 0.9", "if_missing": "act_and_page"},
        steps=[cut_step(retry={"attempts": 2, "first": "3s"}, restore={"approval": "risk-manager", "remind": "10m"})],
        verify={"check": "risk", "expect": "value < 1", "settle": "5s", "within": "1m", "hold": "20s"},
        unless_fixed={"1m": {"page": "boss"}, "3m": {"run": "halt", "page": "boss", "countdown": "1m"}},
        limits={"cooldown": "2m", "runs": "3 per 1h"},
    )
    halt = a_runbook(
        runbook="halt",
        match=None,
        target="risk-api/trading",
        brake=True,
        steps=[call_step("halt", "/api/stop-trading", more=PROBE, retry={"attempts": 3, "first": "1s"})],
    )
    order = a_runbook(
        runbook="order",
        match="Other",
        steps=[call_step(retry={"attempts": 2, "first": "3s"}), {"id": "look", "manual": "Look"}, call_step("more")],
        limits={"cooldown": "2m", "ineffective": "2 per 1h"},
    )
    more = a_runbook(runbook="more", match="Third", steps=[call_step("more")])
    return own(cut, halt, order, more, levels=LEVELS, acknowledgement="4m")


PROBE = {"probe": {"path": "/api/status", "expect": 'body.trading == "halted"'}}


@dataclass(frozen=True)
class Happening:
    """One thing that happens; its text is what a failing example shows."""

    text: str
    do: Callable[[Stage], object]

    def __repr__(self) -> str:
        return self.text


def labels(name: str, symbol: str, severity: str) -> dict[str, str]:
    return an_alert(alertname=name, symbol=symbol, severity=severity)


def said(verb: str, **more: Any) -> Happening:
    def do(stage: Stage) -> None:
        for incident in stage.incidents():
            try:
                stage.person(verb, "alice", "because", incident=incident.id, **more)
            except Rejected:
                continue  # it made no sense now, and the person was told so

    return Happening(verb, do)


def world(**state: Any) -> Happening:
    def do(stage: Stage) -> None:
        for name, value in state.items():
            setattr(stage.world, name, list(value) if isinstance(value, list) else value)

    return Happening(f"world({state})", do)


def risk(value: float | None) -> Happening:
    return Happening(f"risk({value})", lambda stage: stage.world.numbers.update(risk=lambda: value))


ALERTS = st.builds(
    labels,
    st.sampled_from(["TooMuchRisk", "Other", "Third", "Unknown"]),
    st.sampled_from(SYMBOLS),
    st.sampled_from(["warning", "critical", ""]),
)
HAPPENINGS = st.one_of(
    ALERTS.map(lambda a: Happening(f"fires({a})", lambda stage: stage.fires(a))),
    ALERTS.map(lambda a: Happening(f"fires({a})", lambda stage: stage.fires(a))),
    ALERTS.map(lambda a: Happening(f"resolves({a})", lambda stage: stage.resolves(a))),
    st.integers(1, 400).map(lambda n: Happening(f"after({n}s)", lambda stage: stage.advance(n * SECOND))),
    st.integers(1, 400).map(lambda n: Happening(f"after({n}s)", lambda stage: stage.advance(n * SECOND))),
    st.integers(0, 300).map(lambda n: Happening(f"restart({n}s)", lambda stage: stage.restart(n * SECOND))),
    st.sampled_from(
        [
            said("ack"), said("takeover"), said("done"), said("settle", applied=True), said("settle", applied=False),
            said("restore"),  # not unlock: after it two runs may change one target, because a person said so
            Happening("pauses", lambda stage: stage.pauses()), Happening("resumes", lambda stage: stage.resumes()),
            risk(0.5), risk(0.95), risk(2.0), risk(None),
            world(dark=True), world(dark=False), world(blind=True), world(blind=False),
            world(lost="applied"), world(lost="not applied"), world(lost=""),
            world(refused=[429, 429]), world(refused=[400]), world(slow=7.0), world(slow=30.0), world(slow=0.0),
            world(kelly=0.3), world(kelly=0.45), world(sample_age=10 * MINUTE), world(sample_age=0),
        ]
    ),
)  # fmt: skip


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.sampled_from([0.25, 0.35, 0.45]), st.lists(HAPPENINGS, min_size=1, max_size=15))
def test_whatever_happens(kelly: float, happenings: list[Happening]) -> None:
    with playing(rules()) as stage:
        stage.world.kelly = kelly
        stage.world.numbers["risk"] = lambda: 2.0
        for happening in happenings:
            happening.do(stage)
            assert stage.failing == []
            check(stage)
        in_the_end_everything_closes(stage)


def check(stage: Stage) -> None:
    """What holds at every instant."""
    for incident in stage.incidents():
        assert not asleep(stage, incident), incident.agenda
        if incident.result is Result.FIXED and not incident.firing and incident.watch_holds and not incident.recheck:
            assert incident.closed or incident.active_run is not None
    assert drawn(stage) <= 0.3 + 1e-9
    assert stage.world.kelly >= 0.05
    acting = Counter(
        run.target
        for incident in stage.incidents()
        for run in incident.runs
        if run.active and run.acted and not run.brake
    )
    assert all(count == 1 for count in acting.values()), acting


def asleep(stage: Stage, incident: Incident) -> bool:
    """Open, and nothing will ever look at it again, although it waits for no person alone."""
    if incident.closed or incident.agenda or stage.busy:
        return False
    run = incident.active_run
    asked = run is not None and any(s.status is StepStatus.ASKED for s in run.steps)
    return bool(incident.runs) and not asked


def drawn(stage: Stage) -> float:
    """What was taken off the parameter within a day, as the budget counts it."""
    body = stage.scope("parameter:risk-api/kelly_fraction")
    return sum(draw["amount"] for draw in body["draws"]) if body is not None else 0.0


def in_the_end_everything_closes(stage: Stage) -> None:
    """When all is well again and every alert is resolved, nothing stays open."""
    for repair in (world(dark=False, blind=False, lost="", refused=[], slow=0.0, sample_age=0), risk(0.5)):
        repair.do(stage)
    stage.resumes()
    stage.advance(MINUTE)
    for incident in stage.incidents():
        firing = [dict(episode.labels) for episode in incident.firing]
        if firing:
            stage.resolves(*firing)
    stage.advance(15 * MINUTE)
    check(stage)
    still = [i for i in stage.incidents() if not i.closed]
    assert still == [], [(i.id, i.status, i.agenda) for i in still]
