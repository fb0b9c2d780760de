"""What a gate is asked and what it answers: the case of one step, and verdicts with their reasons.

Not here: the gates (`guards`, `fuses`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import dropwhile

from responder.automation import UNBOUNDED, Automation
from responder.calendars import Calendar
from responder.incident import Incident, Run
from responder.recorded import Answer, Cause, Effect, Mode, Plan, Verdict
from responder.runbook import Runbook, Step
from responder.scopes import ScopeText


@dataclass(frozen=True, slots=True)
class Touched:
    """A service that a step uses, and whose it is."""

    name: str
    env: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """What a gate judges. `totals`: parameter name -> how much may be taken off it in 24 hours."""

    incident: Incident
    run: Run
    runbook: Runbook
    step: Step
    plan: Plan | None
    scope: ScopeText
    totals: Callable[[str], float | None]
    calendars: Mapping[str, Calendar]
    now: int
    automation: Automation = UNBOUNDED
    ceiling: Mode = Mode.AUTO
    touched: tuple[Touched, ...] = ()
    """The services that the step uses, as they are configured today."""
    halted: str | None = None
    """Why this process must change nothing, whatever the store says: the pause file."""

    @property
    def brake(self) -> bool:
        """True for a step that can only lower risk. Putting back what a brake did is none."""
        return not self.run.takes_back and _lowers(self.runbook, self.step)

    @property
    def before_brake(self) -> bool:
        """It is no brake itself, and one comes after it in the run."""
        from_here = dropwhile(lambda step: step.id != self.step.id, self.runbook.steps)
        return not self.run.takes_back and not self.brake and any(_lowers(self.runbook, s) for s in from_here)

    @property
    def by_person(self) -> bool:
        """True when a person asked for exactly this."""
        return self.run.cause is Cause.RESTORE

    @property
    def confirmed_brake(self) -> bool:
        """A person started it and confirmed it, and no step of it can raise risk: the pause does not hold it back."""
        return self.run.cause is Cause.PERSON and only_lowers(self.runbook)

    @property
    def begun(self) -> bool:
        """What limits how often something begins has been asked: this run goes on, or takes back what one did.

        One whose changes were all held back has not begun: much may have happened since (docs/adr/0027).
        """
        return self.run.takes_back or self.run.acted

    @property
    def only_reads(self) -> bool:
        """It is known to change nothing."""
        return self.run.cause is Cause.SCHEDULE or (self.plan is not None and self.plan.effect is Effect.READ)

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the services that the step uses."""
        return tuple(service.name for service in self.touched)


def only_lowers(runbook: Runbook) -> bool:
    """No step that a machine does can raise risk."""
    steps = [step for step in runbook.steps if step.action is not None]
    return bool(steps) and all(_lowers(runbook, step) for step in steps)


def _lowers(runbook: Runbook, step: Step) -> bool:
    return runbook.brake if step.brake is None else step.brake


Gate = Callable[[Case], Verdict]


def allow(gate: str, reason: str) -> Verdict:
    """Go on."""
    return Verdict(gate=gate, answer=Answer.ALLOW, reason=reason)


def deny(gate: str, reason: str) -> Verdict:
    """Not at all."""
    return Verdict(gate=gate, answer=Answer.DENY, reason=reason)


def wait(gate: str, reason: str, until: int) -> Verdict:
    """Not yet."""
    return Verdict(gate=gate, answer=Answer.WAIT, reason=reason, until=until)


def ask(gate: str, reason: str) -> Verdict:
    """Only when people say yes to exactly this."""
    return Verdict(gate=gate, answer=Answer.ASK, reason=reason)


def limit(case: Case, verdict: Verdict) -> Verdict:
    """What a limit says to a brake: go on, but tell people (design 4). What only reads on the way to one goes on, too:
    a brake must not wait behind it, and tells people itself (docs/adr/0021)."""
    if case.before_brake and case.only_reads and verdict.answer is not Answer.ALLOW:
        return allow(verdict.gate, f"reads for a brake: {verdict.reason}")
    if not case.brake or verdict.answer is Answer.ALLOW:
        return verdict
    reason = f"brake passes: {verdict.reason}"
    return Verdict(gate=verdict.gate, answer=Answer.ALLOW, reason=reason, warn=True)
