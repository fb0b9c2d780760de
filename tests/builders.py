"""What many tests begin with: an alert, a runbook as it is written, a policy. Each takes what matters to the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from responder import facts as f
from responder.config import BUILT_IN_TYPES
from responder.incident import Incident
from responder.journal import fold
from responder.policies import Policy
from responder.recorded import Cause, Effect, Mode, Outcome, Plan
from responder.records import Keys, NotLoaded, Operation, State, Writes
from responder.rules import Rules
from responder.runbook import Runbook
from responder.timing import MINUTE, SECOND
from responder.view import View

ALERT: Mapping[str, str] = {
    "alertname": "VaRBreach",
    "platform": "edge-risk",
    "env": "prod",
    "severity": "critical",
    "symbol": "BTC-USD",
}


def an_alert(**labels: str) -> dict[str, str]:
    """The labels of a breach, with others beside or instead; an empty one is left out."""
    return {name: value for name, value in {**ALERT, **labels}.items() if value}


def a_runbook(**parts: Any) -> dict[str, Any]:
    """A runbook as YAML would hold it: it cuts a parameter and verifies. A part that is None is left out."""
    whole = {
        "runbook": "cut",
        "title": "Too much risk",
        "match": "TooMuchRisk",
        "target": "risk-api/kelly_fraction",
        "mode": "auto",
        "checks": {"risk": {"action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}}},
        "steps": [cut_step()],
        "verify": {"check": "risk", "expect": "value < 1", "within": "2m"},
        "escalation": "ladder",
        **parts,
    }
    return {name: value for name, value in whole.items() if value is not None}


def cut_step(**parts: Any) -> dict[str, Any]:
    """The step that cuts the Kelly fraction."""
    with_ = {"parameter": "risk-api/kelly_fraction", "to": 0.1, "reason": "too much risk"}
    return {"id": "cut", "action": "parameter.reduce", "with": with_, **parts}


def call_step(step: str = "call", path: str = "/api/orders", **parts: Any) -> dict[str, Any]:
    """A step that posts to the risk API, without key or probe: unsafe."""
    service = parts.pop("service", "risk-api")
    more = parts.pop("more", {})
    return {
        "id": step,
        "action": "http.request",
        "with": {"service": service, "method": "POST", "path": path, **more},
        **parts,
    }


def a_policy(**parts: Any) -> dict[str, Any]:
    """Told at once in a chat, the first level after two minutes, the second after fifteen."""
    levels = [
        {"name": "L1", "after": 0, "page": "first"},
        {"name": "L2", "after": "15m", "page": "second"},
    ]
    return {"chat": ["room"], "grace": "2m", "acknowledgement": "30m", "levels": levels, **parts}


# --- states, without a store ------------------------------------------------------------------------------------------

T0 = 1_795_183_200 * SECOND


def rules_of(*runbooks: Mapping[str, Any], **policy: Any) -> Rules:
    """A set of rules, not checked by the loader."""
    books = [Runbook.model_validate(book, by_alias=True) for book in runbooks]
    ladder = Policy.model_validate(a_policy(**policy))
    return Rules("h1", {b.runbook: b for b in books}, {"ladder": ladder}, {}, "ladder", BUILT_IN_TYPES)


def opened(**changes: Any) -> f.Opened:
    """The first fact of an incident of `a_runbook`."""
    known: dict[str, Any] = {
        "id": "i1",
        "runbook": "cut",
        "rules_hash": "h1",
        "policy": "ladder",
        "target": "risk-api/kelly_fraction",
        "title": "Too much risk",
        "severity": "critical",
        "mode": Mode.AUTO,
        "labels": {},
        "inputs": {},
    }
    return f.Opened(**{**known, **changes})


def fired(fingerprint: str = "a", **changes: Any) -> f.AlertFired:
    """An alert begins to fire."""
    known: dict[str, Any] = {
        "fingerprint": fingerprint,
        "labels": {"alertname": "TooMuchRisk"},
        "annotations": {},
        "severity": "critical",
        "starts_at": None,
    }
    return f.AlertFired(**{**known, **changes})


def started(**changes: Any) -> f.RunStarted:
    """The first run."""
    known: dict[str, Any] = {
        "number": 1,
        "runbook": "cut",
        "rules_hash": "h1",
        "target": "risk-api/kelly_fraction",
        "cause": Cause.ALERT,
        "mode": Mode.AUTO,
        "inputs": {},
        "steps": ("cut",),
    }
    return f.RunStarted(**{**known, **changes})


def a_plan(effect: Effect = Effect.SET, **changes: Any) -> Plan:
    """A prepared step."""
    known = {"params": {}, "preview": "kelly 0.25 → 0.1", "effect": effect, "prepared_at": T0, "blind": False}
    return Plan(**{**known, **changes})


def intended(number: int = 1, plan: Plan | None = None, **changes: Any) -> f.AttemptIntended:
    """An attempt of the step `cut`."""
    known: dict[str, Any] = {
        "run": 1,
        "step": "cut",
        "attempt": f"i1.1.cut.{number}",
        "number": number,
        "action": "parameter.reduce",
        "plan": plan or a_plan(),
        "key": f"responder/test/i1.1.cut.{number}",
        "deadline": T0 + MINUTE,
        "epoch": 1,
    }
    return f.AttemptIntended(**{**known, **changes})


def ended(outcome: Outcome, number: int = 1, **changes: Any) -> f.AttemptEnded:
    """Its outcome."""
    return f.AttemptEnded(**{"attempt": f"i1.1.cut.{number}", "outcome": outcome, "detail": "said so", **changes})


def told(*happened: f.Fact | int, actor: str = "responder") -> Incident:
    """The state after these facts from T0 on; a number lets so many µs pass."""
    now = T0
    events: list[f.Event] = []
    for one in happened:
        if isinstance(one, int):
            now += one
        else:
            number = len(events) + 1
            events.append(f.Event(id=f"e{number}", incident="i1", seq=number, at=now, actor=actor, fact=one))
    return fold(events)


PLACES = ("paged_seq", "closed_seq", "ended_seq")


def as_of_before(incident: Incident) -> Incident:
    """As it is read where its fold was written before places of words, pages and ends were kept, or by an older
    replica: that drops every one of them."""

    def without(part: Any) -> Any:
        if isinstance(part, dict):
            return {k: without(v) for k, v in part.items() if k not in PLACES and not (k == "seq" and "actor" in part)}
        return [without(one) for one in part] if isinstance(part, list | tuple) else part

    return Incident.model_validate(without(incident.model_dump()))


def a_view(incident: Incident, rules: Rules, now: int, scopes: Mapping[str, str] | None = None) -> View:
    """What `decide` looks at: no budget is limited, this process is the incident's first owner."""
    known = scopes or {}
    policy = rules.policy(incident.policy)
    return View(
        incident, policy, lambda digest: rules if digest == rules.hash else None, known.get, lambda name: None, now, 1
    )


@dataclass
class Ledger:
    """A store's memory: what operations wrote is there for the next one, and what nobody wrote is not there."""

    state: State = field(default_factory=lambda: State(T0))
    writes: list[Writes] = field(default_factory=list)

    def do(self, operation: Operation[Any]) -> Any:
        """Apply an operation as the writer does, and answer what it answers. Raises what it raises."""
        while True:
            try:
                change = operation.apply(self.state)
            except NotLoaded as missing:
                self._load(missing.keys)
                continue
            self.state.take(change.writes)
            self.writes.append(change.writes)
            return change.answer

    def _load(self, keys: Keys) -> None:
        for table, wanted in (
            (self.state.incidents, keys.incidents), (self.state.episodes, keys.episodes),
            (self.state.open_keys, keys.open_keys), (self.state.scopes, keys.scopes),
            (self.state.messages, keys.messages),
        ):  # fmt: skip
            known: dict[Any, Any] = table
            for key in wanted:
                known.setdefault(key, None)

    def after(self, duration: int) -> None:
        """Let time pass (µs)."""
        self.state.now += duration

    @property
    def kinds(self) -> list[str]:
        """The kinds of all facts, in the order of writing."""
        return [event.fact.kind for writes in self.writes for event in writes.events]

    def incident(self, incident_id: str | None = None) -> Incident:
        """One incident as it stands; the only one when none is named."""
        rows = [row for row in self.state.incidents.values() if row is not None]
        (found,) = [row.fold for row in rows if incident_id in (None, row.id)]
        return found
