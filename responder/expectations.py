"""Whether the answer to a step is the one that it expects, and whether a reading is asked again until it is.

A change is never done again because of its answer: it happened. What only reads may have been asked too early, so it is
tried again as the step's `retry` says, unless its answer says that it has finally failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

from pydantic import JsonValue

from responder import facts as f
from responder.expressions import evaluate, explain, parse_expression
from responder.incident import Attempt, Incident, Run
from responder.recorded import Effect, Outcome
from responder.runbook import Step
from responder.view import values_of


@dataclass(frozen=True, slots=True)
class Judged:
    """What an answer says. `why`: the condition in numbers; `final`: no later answer can be better."""

    holds: bool
    why: str = ""
    final: bool = False


def judged(incident: Incident, run: Run, step: Step, output: JsonValue) -> Judged:
    """An answer by the step's `expect`, and where that does not hold by `unless` of its `retry`."""
    if step.expect is None:
        return Judged(holds=True)
    values = {**values_of(incident, run), **_output_values(output)}
    expected = parse_expression(step.expect)
    if evaluate(expected, values).holds:
        return Judged(holds=True)
    if step.retry.unless is not None:
        hopeless = parse_expression(step.retry.unless)
        if evaluate(hopeless, values).holds:
            return Judged(holds=False, why=explain(hopeless, values), final=True)
    return Judged(holds=False, why=explain(expected, values))


def _output_values(output: JsonValue) -> dict[str, JsonValue]:
    inner = output if isinstance(output, dict) else {}
    return {**inner, "value": inner.get("value", output)}


def tries(run: Run, step_id: str) -> int:
    """How many attempts `retry` has counted: those that told something. An answer that was lost is no attempt of it,
    nor is what a pause held back."""
    told = (Outcome.OK, Outcome.TEMPORARY)
    return sum(1 for a in run.attempts_of(step_id) if a.outcome in told and not a.held_back)


def in_vain(run: Run, step_id: str) -> int:
    """How often a step was sent without a good answer since its last one; a reading that is asked again had one."""
    tried = takewhile(lambda a: a.outcome is not Outcome.OK, reversed(run.attempts_of(step_id)))
    return sum(1 for a in tried if not a.held_back)


def not_yet(incident: Incident, run: Run, step: Step, attempt: Attempt, output: JsonValue) -> f.NotYet | None:
    """What is recorded of a reading that is asked again; None when its answer is the step's last one."""
    count = tries(run, step.id) + 1
    if attempt.plan.effect is not Effect.READ or count >= step.retry.attempts:
        return None
    answer = judged(incident, run, step, output)
    again = not answer.holds and not answer.final
    return f.NotYet(tried=count, of=step.retry.attempts, why=answer.why) if again else None


def unmet(incident: Incident, run: Run, step: Step, attempt: Attempt) -> str | None:
    """Why the step has failed by its last answer; None when that is as expected."""
    answer = judged(incident, run, step, attempt.output)
    if answer.holds:
        return None
    count = tries(run, step.id)
    often = f" within {count} tries" if count > 1 else ""
    seen = f"; last seen: {attempt.detail}" if attempt.plan.effect is Effect.READ and attempt.detail else ""
    why = f"{answer.why}, so it has finally failed" if answer.final else answer.why
    return f"expected {step.expect}{often}, but {why}{seen}"
