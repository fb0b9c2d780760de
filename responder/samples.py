"""Journals to look at messages with before anything has happened: one was fixed, one was not, one is unknown.

Facts as the responder records them, about the runbook var-breach of the edge-risk catalogue. `responder preview`
renders templates over them. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from responder import facts as f
from responder.recorded import (
    Cause,
    Effect,
    EvidenceItem,
    Mode,
    Observation,
    Outcome,
    Plan,
    Result,
    StepStatus,
)
from responder.timing import HOUR, MINUTE, SECOND, parse_time

BEGAN: Final = parse_time("2026-11-20T17:02:42Z")
INCIDENT: Final = "3f2a9c1d77aa4e0b"
PAGER: Final = "risk-oncall"

_ATTEMPT: Final = f"{INCIDENT}.1.cut_kelly.1"
_LABELS: Final = {
    "alertname": "VaRBreach",
    "platform": "edge-risk",
    "env": "prod",
    "severity": "critical",
    "symbol": "BTC-USD",
}
_OPENED: Final = f.Opened(
    id=INCIDENT,
    runbook="var-breach",
    rules_hash="5d0c1f6a",
    policy="edge-risk",
    target="risk-api/kelly_fraction",
    title="VaR above 90 % of its limit",
    impact="At 2.5 % the breaker opens and no new positions can be taken",
    severity="critical",
    mode=Mode.AUTO,
    labels=_LABELS,
    inputs={"symbol": "BTC-USD"},
    links={"dashboard": "https://grafana.example/d/edge-risk", "runbook": "https://wiki.example/var-breach"},
    channel="#edge-risk-alerts",
)
_FIRED: Final = f.AlertFired(
    fingerprint="a1b2c3d4e5f60718",
    labels=_LABELS,
    annotations={"summary": "VaR is 1.92 % of equity, the limit is 2 %"},
    severity="critical",
    starts_at=BEGAN - 17 * SECOND,
    generator_url="https://prometheus.example/graph?g0.expr=max%28var_pct%29",
)
_RESOLVED: Final = f.AlertResolved(fingerprint=_FIRED.fingerprint, ends_at=None)

Told = tuple[int, str, f.Fact]
"""How long after the opening (µs), by whom, what."""
_ITSELF: Final = "responder"


def _check(value: float, at: int) -> Observation:
    return Observation(check="var", value=value, observed_at=BEGAN + at - 2 * SECOND, asked_at=BEGAN + at)


def _looked(value: float, at: int, *, holds: bool | None = None) -> Told:
    return at, _ITSELF, f.Gathered(run=1, observations=(_check(value, at),), holds=holds)


def _paged(at: int, fact: f.LevelReached, number: int) -> tuple[Told, ...]:
    key, why = f"responder/main/{INCIDENT}/{PAGER}/l0.{number}", f"level {fact.name}: {fact.why}"
    return (
        (at, _ITSELF, fact),
        (at, _ITSELF, f.Paged(destination=PAGER, key=key, why=why)),
        (at + SECOND, _ITSELF, f.PageAccepted(destination=PAGER, why=why)),
    )


def _level(number: int, why: str) -> f.LevelReached:
    return f.LevelReached(round=0, index=number - 1, name=f"L{number}", page=(PAGER,), why=why)


def _cut(outcome: Outcome, detail: str) -> tuple[Told, ...]:
    """The one change: the Kelly fraction from 0.25 to 0.1."""
    plan = Plan(
        params={"parameter": _OPENED.target, "to": 0.1, "reason": "VaR breach"},
        preview="Cut the Kelly fraction to its emergency level: 0.25 → 0.1",
        effect=Effect.SET if outcome is Outcome.OK else Effect.UNSAFE,
        prepared_at=BEGAN + SECOND,
        before=0.25,
        target=0.1,
    )
    intent = f.AttemptIntended(
        run=1,
        step="cut_kelly",
        attempt=_ATTEMPT,
        number=1,
        action="parameter.reduce",
        plan=plan,
        key=f"responder/main/{_ATTEMPT}",
        deadline=BEGAN + 31 * SECOND,
        epoch=1,
    )
    status = StepStatus.DONE if outcome is Outcome.OK else StepStatus.UNKNOWN
    ended = 1_400_000 if outcome is Outcome.OK else 11 * SECOND
    return (
        (SECOND, _ITSELF, intent),
        (ended, _ITSELF, f.AttemptEnded(attempt=_ATTEMPT, outcome=outcome, detail=detail)),
        (ended, _ITSELF, f.StepEnded(run=1, step="cut_kelly", status=status, why="" if status == "done" else detail)),
    )


def _beginning() -> tuple[Told, ...]:
    run = f.RunStarted(
        number=1,
        runbook="var-breach",
        rules_hash=_OPENED.rules_hash,
        target=_OPENED.target,
        cause=Cause.ALERT,
        mode=Mode.AUTO,
        inputs=_OPENED.inputs,
        steps=("cut_kelly",),
        brake=True,
    )
    items = (
        EvidenceItem(title="redis.hgetall BTC-USD", value={"position_usd": "1250000", "side": "long"}),
        EvidenceItem(title="open orders", error="oms: no answer within 5 s"),
    )
    return (
        (0, _ITSELF, _OPENED),
        (0, _ITSELF, _FIRED),
        (0, _ITSELF, run),
        _looked(1.92, 400_000),
        (3 * SECOND, _ITSELF, f.EvidenceGathered(run=1, items=items)),
    )


def _fixed() -> tuple[Told, ...]:
    why = "1.42 < 1.7 held for 30s"
    return (
        *_beginning(),
        *_cut(Outcome.OK, "kelly_fraction is 0.1"),
        (2 * SECOND, _ITSELF, f.Verifying(run=1)),
        _looked(1.42, 33 * SECOND, holds=True),
        (63 * SECOND, _ITSELF, f.RunEnded(run=1, result=Result.FIXED, why=why)),
        (3 * MINUTE, _ITSELF, _RESOLVED),
        (3 * MINUTE, _ITSELF, f.Closed(why="fixed, and nothing fires any more")),
    )


def _unfixed() -> tuple[Told, ...]:
    why = "1.94 < 1.7 did not hold within 2m"
    return (
        *_beginning(),
        *_cut(Outcome.OK, "kelly_fraction is 0.1"),
        (2 * SECOND, _ITSELF, f.Verifying(run=1)),
        _looked(1.94, 33 * SECOND, holds=False),
        (122 * SECOND, _ITSELF, f.RunEnded(run=1, result=Result.INEFFECTIVE, why=why)),
        *_paged(122 * SECOND, _level(1, "the run was ineffective"), 0),
        *_paged(15 * MINUTE, _level(2, "not fixed after 15m"), 1),
        (16 * MINUTE, "asha", f.Acknowledged(note="looking at the hedges")),
        (21 * MINUTE, "asha", f.TakenOver(note="closing the BTC leg by hand")),
        (HOUR, _ITSELF, _RESOLVED),
        (HOUR, _ITSELF, f.Closed(why="taken over, and nothing fires any more")),
    )


def _unknown() -> tuple[Told, ...]:
    detail = "risk-api: POST /api/risk/emergency-reduce: no answer in time; the change may have happened"
    why = "cut_kelly may or may not have happened"
    return (
        *_beginning(),
        *_cut(Outcome.UNKNOWN, detail),
        (12 * SECOND, _ITSELF, f.RunEnded(run=1, result=Result.UNKNOWN, why=why)),
        *_paged(12 * SECOND, _level(1, why), 0),
        (2 * MINUTE, "asha", f.Acknowledged(note="looking at the risk API")),
    )


_SAMPLES: Final[Mapping[str, Callable[[], tuple[Told, ...]]]] = {
    "fixed": _fixed,
    "unfixed": _unfixed,
    "unknown": _unknown,
}
NAMES: Final = tuple(_SAMPLES)


def journal(name: str) -> list[f.Event]:
    """The events of a sample, one of NAMES, in the order of time. Raises KeyError."""
    told = sorted(_SAMPLES[name](), key=lambda one: one[0])
    return [
        f.Event(id=f"{INCIDENT}:{seq}", incident=INCIDENT, seq=seq, at=BEGAN + at, actor=actor, fact=fact)
        for seq, (at, actor, fact) in enumerate(told, start=1)
    ]
