"""The performer of a simulation: it answers every check and change without asking anybody.

Parameters are rendered and validated as for a real run, so that a bad one is seen. What an answers file says comes
first (`answers`), an assumption fills the rest (`assumptions`). Not here: time, and what is made of the answers
(`simulate`, `decide`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import JsonValue

from responder.answers import CheckAnswer, Fate, StepAnswer
from responder.assumptions import Assumption, check_value, output_for
from responder.contracts import Action, Probe, Service
from responder.errors import Permanent, Temporary
from responder.perform import Ended, Held, Performer, classify, sighted, titled
from responder.recorded import Effect, EvidenceItem, Observation, Outcome, Plan, ProbeAnswer
from responder.rules import Rules
from responder.runbook import Check, Evidence, Runbook, Step
from responder.simulated_services import ASSUMED, Attempt, Heard, NotSimulated, Prompter, SimulatedServices, nowhere
from responder.timing import SECOND


@dataclass(frozen=True, slots=True)
class _Promise:
    """What a prepared plan will answer when it is done, and whose it is."""

    incident: str
    runbook: str
    step: str
    output: JsonValue


_OK: Final = StepAnswer(ok=True)
_ATTEMPTS: Final[Mapping[Assumption, StepAnswer]] = {
    Assumption.FAILED: StepAnswer(refused="assumed"),
    Assumption.UNKNOWN: StepAnswer(lost=Fate.UNCLEAR),
}
"""How changes go under an assumption; they work under every other one. Readings always do."""


@dataclass(frozen=True)
class Pretending(Performer):
    """See the module. An action that uses no service touches nothing, and is really done: a `wait` takes its time.

    So is one that moves a parameter: `simulated` stands for its service. `prompter` knows what a file says.
    """

    assumption: Assumption = Assumption.FIXED
    rules: Rules | None = None
    services: Mapping[str, Service] = field(default_factory=dict)
    simulated: SimulatedServices | None = None
    prompter: Prompter = field(default_factory=Prompter)
    heard: Heard = field(default_factory=Heard)
    started: int = 0
    """When the simulation began (µs), for the times in the file."""
    _helped: set[str] = field(default_factory=set)
    _promised: dict[str, _Promise] = field(default_factory=dict)
    _fates: dict[str, Fate] = field(default_factory=dict)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def observe(self, name: str, check: Check, values: Mapping[str, object]) -> Observation:
        """What the file says, else the check's value under the assumption; what cannot be rendered is missing."""
        now, incident = self.clock(), _incident_of(values)
        try:
            action = self._built(check.action, check.with_, values)
        except Exception as error:  # noqa: BLE001  (classify is where every exception ends)
            return Observation(check=name, asked_at=now, error=classify(error, reads=True).detail)
        down = self._down(action)
        if down is not None:
            return Observation(check=name, asked_at=now, error=down)
        runbook = self._runbook_of(name, check, values)
        cue = self.prompter.check(incident, runbook.runbook, name, self._offset) if runbook is not None else None
        self.heard.checks[incident, name, now] = ASSUMED if cue is None else cue.place
        if cue is not None:
            return await self._written(name, check, cue.answer)
        value = self._assumed(name, runbook, incident)
        if value is None:
            return Observation(check=name, asked_at=now, error="no data (assumed)")
        return Observation(check=name, value=value, observed_at=now, asked_at=now)

    def _assumed(self, name: str, runbook: Runbook | None, incident: str) -> JsonValue:
        if self.assumption is Assumption.MISSING or runbook is None:
            return None
        helped = self.assumption is Assumption.FIXED and incident in self._helped
        return check_value(runbook, name, helped=helped)

    def helps(self, incident: str) -> None:
        """What people have done by hand is all that there was to do, so it counts as a change that happened."""
        self._helped.add(incident)

    async def _written(self, name: str, check: Check, said: CheckAnswer) -> Observation:
        asked_at = self.clock()
        try:
            async with asyncio.timeout(check.timeout / SECOND):
                if said.delay:
                    await self.sleep(said.delay / SECOND)
        except TimeoutError as error:
            return Observation(check=name, asked_at=asked_at, error=classify(error, reads=True).detail)
        if said.missing is not None:
            return Observation(check=name, asked_at=asked_at, error=said.missing)
        return Observation(check=name, value=said.value, observed_at=self.clock() - said.age, asked_at=asked_at)

    async def evidence(self, item: Evidence, values_list: Iterable[Mapping[str, object]]) -> list[EvidenceItem]:
        """Titles are rendered; there is nothing to read."""
        return [self._unread(item, values) for values in values_list]

    def _unread(self, item: Evidence, values: Mapping[str, object]) -> EvidenceItem:
        try:
            self._built(item.action, item.with_, values)
            return EvidenceItem(title=self._title(item, values), error="simulated")
        except Exception as error:  # noqa: BLE001
            return EvidenceItem(title=item.title or item.action, error=classify(error, reads=True).detail)

    # --- doing --------------------------------------------------------------------------------------------------------

    async def prepare(self, runbook: Runbook, step: Step, values: Mapping[str, object]) -> Plan:
        """Render and validate for real, then let the action pretend. Raises Permanent, Temporary."""
        try:
            action = self._built(step.action or "", step.with_, values)
        except Exception as error:
            raise Permanent(f"{runbook.runbook}.{step.id}: {classify(error, reads=True).detail}") from error
        down = self._down(action)
        if down is not None:
            raise Temporary(f"{runbook.runbook}.{step.id}: {down}")
        if not action.services(self.parameters):
            return await super().prepare(runbook, step, values)
        if self._moves(action):
            plan, output = await super().prepare(runbook, step, values), None
        else:
            plan, given = action.pretend(self.clock())
            plan = plan.model_copy(update={"effect": action.effect(self._keyed(action))})
            plan = titled(sighted(plan, action), step)
            output = given.value if step.expect is None else output_for(step.expect, values)
        return self._remember(plan, _Promise(_incident_of(values), runbook.runbook, step.id, output))

    def _remember(self, plan: Plan, promise: _Promise) -> Plan:
        """Two incidents may prepare the same at the same instant; a moment tells their plans apart."""
        while self._promised.setdefault(_key(plan), promise) != promise:
            plan = plan.model_copy(update={"prepared_at": plan.prepared_at - 1})
        return plan

    async def act(self, action: str, plan: Plan, key: str, timeout_us: int, held: Held | None = None) -> Ended:
        """What the file says, else the assumption; only a parameter's value is really changed."""
        promise, planned = self._promised.get(_key(plan)), self._planned(action, plan)
        if promise is None:
            return await super().act(action, plan, key, timeout_us, held)
        down = self._down(planned)
        if down is not None:
            return Ended(Outcome.TEMPORARY, f"{down}; nothing was sent")
        attempt = self._attempt(promise, planned, plan, key)
        ended = await self._made(action, plan, key, attempt, self._patience(planned, timeout_us))
        if ended.outcome is Outcome.OK and not self._moves(planned):
            output = attempt.said.output
            ended = replace(ended, output=promise.output if output is None else output)
        if self._fates.get(_key(plan)) is not Fate.APPLIED:
            self._fates[_key(plan)] = attempt.fate
        if attempt.happened:
            self._helped.add(promise.incident)
        return ended

    def _attempt(self, promise: _Promise, planned: Action, plan: Plan, key: str) -> Attempt:
        cue = self.prompter.step(promise.incident, promise.runbook, promise.step, self._offset)
        self.heard.attempts[key].append(ASSUMED if cue is None else cue.place)
        assumed = _OK if plan.effect is Effect.READ else _ATTEMPTS.get(self.assumption, _OK)
        change = _nothing
        if self._moves(planned) and self.simulated is not None and isinstance(plan.target, int | float):
            change = self.simulated.setter(str(plan.params["parameter"]), float(plan.target))
        return Attempt(assumed if cue is None else cue.answer, cue is None, change)

    async def _made(self, action: str, plan: Plan, key: str, attempt: Attempt, timeout_us: int) -> Ended:
        if self.simulated is not None and self._moves(self._planned(action, plan)):
            self.simulated.attempts[key] = attempt
            return await super().act(action, plan, key, timeout_us)
        reads = plan.effect is Effect.READ
        try:
            async with asyncio.timeout(timeout_us / SECOND):
                await attempt.made(self.sleep, reads=reads)
        except Exception as error:  # noqa: BLE001
            return classify(error, reads=reads)
        return Ended(Outcome.OK, "simulated", observed_at=self.clock())

    async def probe(self, action: str, plan: Plan, timeout_us: int) -> Probe:
        """What became of the change, where anything can tell: a declared probe, or the parameter itself."""
        planned, fate = self._planned(action, plan), self._fates.get(_key(plan), Fate.UNCLEAR)
        down = self._down(planned)
        if down is not None or fate is Fate.UNCLEAR:
            return Probe(ProbeAnswer.UNCLEAR, down or "the probe does not tell")
        if self._moves(planned):
            return await super().probe(action, plan, timeout_us)
        try:
            return await planned.probe(plan, replace(self._context(timeout_us), service=nowhere))
        except NotSimulated:
            return Probe(ProbeAnswer(fate.value), f"the probe says {fate.value.replace('_', ' ')}")

    async def undo(self, action: str, plan: Plan, timeout_us: int) -> Plan:
        """As it would be for a parameter. Raises Permanent for all else: nobody knows the state before."""
        planned, promise = self._planned(action, plan), self._promised.get(_key(plan))
        down = self._down(planned)
        if down is not None:
            raise Temporary(down)
        if promise is None or not self._moves(planned):
            raise Permanent("this is not taken back in a simulation, which knows the state before of parameters only")
        return self._remember(await super().undo(action, plan, timeout_us), promise)

    # --- what is known ------------------------------------------------------------------------------------------------

    @property
    def _offset(self) -> int:
        return self.clock() - self.started

    def _moves(self, action: Action) -> bool:
        """Whether it moves a parameter, whose value the simulation keeps."""
        return self.simulated is not None and getattr(action, "parameter", None) in self.parameters

    def _down(self, action: Action) -> str | None:
        """Why a service that the action needs does not answer now."""
        reasons = (self.prompter.down(service, self._offset) for service in action.services(self.parameters))
        return next((reason for reason in reasons if reason is not None), None)

    def _patience(self, action: Action, timeout_us: int) -> int:
        """No request waits longer than its service allows."""
        used = [self.services.get(name) for name in action.services(self.parameters)]
        return min([timeout_us, *(getattr(service, "timeout", timeout_us) for service in used)])

    def _keyed(self, action: Action) -> bool:
        service = self.services.get(str(getattr(action, "service", "")))
        return bool(getattr(service, "idempotency_keys", False))

    def _runbook_of(self, name: str, check: Check, values: Mapping[str, object]) -> Runbook | None:
        """Whose check it is; the runbook of the present run when several have the same."""
        runbooks = self.rules.runbooks if self.rules is not None else {}
        owners = [r for r in runbooks.values() if r.checks.get(name) == check]
        run = values.get("run")
        own = run.get("runbook") if isinstance(run, Mapping) else None
        return next((r for r in owners if r.runbook == own), owners[0] if owners else None)


def _nothing() -> None:
    """What a change does to a world that only answers."""


def _incident_of(values: Mapping[str, object]) -> str:
    incident = values.get("incident")
    return str(incident.get("id", "")) if isinstance(incident, Mapping) else ""


def _key(plan: Plan) -> str:
    return plan.model_dump_json()
