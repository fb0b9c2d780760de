"""What `decide` looks at (`View`) and what it may name (`Next`).

`Tell`, `Ask` and `Finish` are facts that follow from what is known: the operation records them and asks again.
`Gather` and `Perform` need the world: the engine does them and reports facts. `WaitUntil` ends the turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from responder import facts as f
from responder.automation import UNBOUNDED, Automation
from responder.calendars import Calendar
from responder.cases import Touched
from responder.incident import Attempt, Incident, Run, StepState
from responder.policies import Policy
from responder.recorded import Mode, Plan, Verdict
from responder.rules import Rules
from responder.runbook import Runbook, Step
from responder.scopes import ScopeText


@dataclass(frozen=True, slots=True)
class Gather:
    """Read these before anything is decided. `step`: prepare it. `probe`, `restore`: an attempt's id. `machine`: an
    entry.
    """

    runbook: str
    rules_hash: str
    run: int | None = None
    checks: tuple[str, ...] = ()
    step: str | None = None
    probe: str | None = None
    restore: str | None = None
    machine: str | None = None
    watch: bool = False
    level: tuple[int, int] | None = None
    """Round and index of a level that waits for the answer of `pages`."""
    alerts: bool = False
    """Ask the Alertmanagers whether the incident's alerts still fire, and whether they are silenced."""
    pages: tuple[tuple[str, str], ...] = ()
    """Pagers to be asked about their own incidents: (destination, deduplication key)."""


@dataclass(frozen=True, slots=True)
class Perform:
    """Intend this step, then do it. `again` is the attempt that is sent once more, with its plan and key."""

    run: int
    step: str
    action: str
    plan: Plan
    verdicts: tuple[Verdict, ...]
    timeout: int
    again: Attempt | None = None


@dataclass(frozen=True, slots=True)
class Tell:
    """Record this fact (and so tell it to whom it concerns)."""

    fact: f.Fact


@dataclass(frozen=True, slots=True)
class Ask:
    """Record that a person is asked."""

    fact: f.ManualAsked | f.ApprovalAsked


@dataclass(frozen=True, slots=True)
class Finish:
    """A run or the incident is over."""

    fact: f.RunEnded | f.Closed


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Nothing before `due` (None: nothing until a new fact). `kind` names the wait in the timer's row."""

    due: int | None = None
    kind: str = "wait"


Next = Gather | Perform | Tell | Ask | Finish | WaitUntil


@dataclass(frozen=True, slots=True)
class View:
    """All that `decide` may look at. `rules_of` answers the set that a run began with, None when it is unreadable."""

    incident: Incident
    policy: Policy
    rules_of: Callable[[str], Rules | None]
    scope: ScopeText
    totals: Callable[[str], float | None]
    now: int
    epoch: int
    ceiling: Mode = Mode.AUTO
    askable: frozenset[str] = frozenset()
    """The destinations that answer questions about their own incidents."""
    automation: Automation = UNBOUNDED
    halted: str | None = None
    """Why this process must change nothing, whatever the store says."""
    touched: Callable[[Step], tuple[Touched, ...]] = lambda step: ()
    """The services that a step uses, as they are configured today."""

    @property
    def calendars(self) -> Mapping[str, Calendar]:
        """The calendars of the set that the incident began with."""
        return {} if self.rules is None else self.rules.calendars

    @property
    def rules(self) -> Rules | None:
        """The set that the incident began with."""
        return self.rules_of(self.incident.rules_hash)

    @property
    def runbook(self) -> Runbook | None:
        """The incident's runbook."""
        if self.rules is None or self.incident.runbook is None:
            return None
        return self.rules.runbooks.get(self.incident.runbook)

    def runbook_of(self, run: Run) -> Runbook | None:
        """A run's runbook, in the version that it began with."""
        rules = self.rules_of(run.rules_hash)
        return None if rules is None else rules.runbooks.get(run.runbook)


def values_of(incident: Incident, run: Run | None) -> dict[str, object]:
    """The variables of a run: its inputs, `steps.<id>`, `incident`, `run`, and the checks' values."""
    about = {"id": incident.id, "severity": incident.severity or "", "target": incident.target}
    if run is None:
        return {**incident.inputs, "incident": about}
    # What takes a change back speaks of the run that made it.
    origin = incident.attempt(run.restores) if run.restores is not None else None
    told = run if origin is None else origin[0]
    return {
        **run.inputs,
        "steps": {s.id: _step_values(told, s) for s in told.steps},
        "incident": about,
        "run": {"number": run.number, "runbook": run.runbook, "cause": run.cause.value},
        "checks": {name: seen.value for name, seen in told.observations.items() if not seen.missing},
    }


def _step_values(run: Run, state: StepState) -> dict[str, JsonValue]:
    attempts = run.attempts_of(state.id)
    output = attempts[-1].output if attempts else None
    return {"status": state.status.value, "output": output}
