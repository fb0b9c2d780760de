"""What a run by hand would do, asked of the world: every check it needs, every step made ready, nothing changed.

The same reads as a run makes (`perform`), each with a limit, since somebody sits before it and waits. What the gates
say of the answers, and the beginning of the run, are transactions (`manual_runs`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from responder.desk import Desk
from responder.draft import Turn
from responder.errors import Permanent, Temporary
from responder.expressions import evaluate, parse_expression
from responder.guards import why_missing
from responder.incident import Incident, Run
from responder.manual_runs import Doing, Foreseen, JudgeByHand, RunPlan, StartByHand, Wish, prospect
from responder.recorded import Effect, Observation, Plan
from responder.render import has_placeholder, instruction, template_strings
from responder.runbook import Check, Runbook, Step
from responder.timing import SECOND, format_duration
from responder.view import values_of

Answer = TypeVar("Answer")

PATIENCE = 6 * SECOND
"""How long one answer may take (µs); what is slower is shown as not answered."""

Values = Mapping[str, object]
"""What templates see: name -> value."""


class Prepares(Protocol):
    """What planning needs of the world; `perform.Performer`, or a simulation's stand-in."""

    async def observe(self, name: str, check: Check, values: Values) -> Observation:
        """Read a check; never raises."""
        ...

    async def prepare(self, runbook: Runbook, step: Step, values: Values) -> Plan:
        """Make a step ready. Raises Permanent, Temporary."""
        ...


@dataclass(frozen=True, slots=True)
class Started:
    """What became of a confirmed plan. Without a turn nothing began: `plan` is not the one that was confirmed, or a
    gate refuses it."""

    plan: RunPlan
    turn: Turn | None


class Planner:
    """See the module. `performs` answers today's performer: a reload brings another one."""

    def __init__(self, desk: Desk, performs: Callable[[], Prepares]) -> None:
        self._desk = desk
        self._performs = performs

    async def plan(self, wish: Wish) -> RunPlan:
        """What would be done now, and what every gate says. Raises Rejected when the rules were reloaded meanwhile."""
        incident, run = prospect(wish, self._desk.now())
        checks = await self._checks(wish, incident, run)
        seen = run.model_copy(update={"observations": checks})
        values = values_of(incident, seen)
        steps = _in_order(await asyncio.gather(*(self._foreseen(wish, step, values) for step in wish.runbook.steps)))
        name = self._desk.new_id()
        return await self._desk.submit(lambda shelf: JudgeByHand(name, wish, steps, checks, shelf))

    async def start(self, wish: Wish, digest: str) -> Started:
        """Begin the run when its plan is still the confirmed one and no gate refuses it. Raises Rejected as `plan`."""
        plan = await self.plan(wish)
        if plan.digest != digest or plan.refused:
            return Started(plan, None)
        desk, name = self._desk, self._desk.new_id()
        turn = await desk.submit(lambda shelf: StartByHand(name, plan, shelf, desk.worker))
        desk.take([turn])
        return Started(plan, turn)

    # --- checks -------------------------------------------------------------------------------------------------------

    async def _checks(self, wish: Wish, incident: Incident, run: Run) -> dict[str, Observation]:
        runbook, values = wish.runbook, values_of(incident, run)
        named = [name for name in _checks_of(runbook) if name in runbook.checks]
        seen = await asyncio.gather(*(self._observed(name, runbook.checks[name], values) for name in named))
        return {one.check: one for one in seen}

    async def _observed(self, name: str, check: Check, values: Values) -> Observation:
        asked_at = self._desk.now()
        try:
            seen = await _soon(self._performs().observe(name, check, values))
        except TimeoutError:
            return Observation(check=name, asked_at=asked_at, error=_SLOW)
        old = None if seen.missing else why_missing(seen, check.max_age, self._desk.now())
        return seen if old is None else seen.model_copy(update={"error": old})

    # --- steps --------------------------------------------------------------------------------------------------------

    async def _foreseen(self, wish: Wish, step: Step, values: Values) -> Foreseen:
        if step.when is not None:
            if _speaks_of_steps(step.when):
                return Foreseen(step, Doing.LATER, f"only when {step.when}, which earlier steps decide")
            if not evaluate(parse_expression(step.when), values).holds:
                return Foreseen(step, Doing.SKIPPED, f"left out: {step.when} is not true")
        if step.manual is not None:
            return Foreseen(step, Doing.MANUAL, instruction(step.manual, values))
        if any(_speaks_of_steps(text) for _, text in template_strings(step.with_) if has_placeholder(text)):
            return Foreseen(step, Doing.LATER, f"{step.action}, with what earlier steps answer")
        return await self._prepared(wish, step, values)

    async def _prepared(self, wish: Wish, step: Step, values: Values) -> Foreseen:
        try:
            plan = await _soon(self._performs().prepare(wish.runbook, step, values))
        except TimeoutError:
            return Foreseen(step, Doing.FAILED, f"could not be prepared: {_SLOW}")
        except (Temporary, Permanent) as error:
            return Foreseen(step, Doing.FAILED, f"could not be prepared: {error}")
        if plan.nothing_to_do is not None:
            return Foreseen(step, Doing.NOTHING, f"{plan.preview}: {plan.nothing_to_do}", plan)
        return Foreseen(step, Doing.READ if plan.effect is Effect.READ else Doing.CHANGE, plan.preview, plan)


_SLOW = f"no answer within {format_duration(PATIENCE)}"


async def _soon(work: Awaitable[Answer]) -> Answer:
    async with asyncio.timeout(PATIENCE / SECOND):
        return await work


def _checks_of(runbook: Runbook) -> list[str]:
    """All that are asked before a change, and the one that tells afterwards whether it helped: people want to know."""
    named = [given.check for given in (runbook.only_if, runbook.verify) if given is not None]
    return list(dict.fromkeys([*named, *(name for step in runbook.steps for name in sorted(step.checks_named))]))


def _in_order(steps: Iterable[Foreseen]) -> tuple[Foreseen, ...]:
    """What is already so may not be so any more when its turn comes: trading runs until the first step stops it."""
    found: list[Foreseen] = []
    for one in steps:
        changed = any(before.doing in _MAY_CHANGE for before in found)
        later = replace(one, doing=Doing.LATER, text=f"{one.text}, as things are now")
        found.append(later if changed and one.doing is Doing.NOTHING else one)
    return tuple(found)


_MAY_CHANGE = (Doing.CHANGE, Doing.MANUAL, Doing.LATER, Doing.FAILED)


def _speaks_of_steps(text: str) -> bool:
    return "steps." in text
