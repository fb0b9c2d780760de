"""What a person's yes is bound to: this step, and what its plan would do. Pure.

A plan is made again before it is carried out, since the world may have moved while people thought. So what merely moves
with the time is no part of it: `Plan.parts` says what is, where `before` and `target` hold more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable

from responder.incident import Run
from responder.recorded import Answer, Mode, Plan, Verdict
from responder.runbook import Approval, Step
from responder.words import Approval as Asked


def approval_wanted(step: Step, modes: Collection[Mode], verdicts: Iterable[Verdict]) -> Approval | None:
    """Whose yes a change by this step needs, or None: its own, one of the mode `approve`, or of a gate that asks."""
    if step.approval is not None:
        return step.approval
    return Approval() if Mode.APPROVE in modes or any(v.answer is Answer.ASK for v in verdicts) else None


def plan_digest(run: Run, step: str, plan: Plan) -> str:
    """What an approval is bound to: the step of this run and version, what it will do, and what it found before."""
    found = [plan.parts] if plan.parts else [plan.before, plan.target]
    known = [run.rules_hash, run.number, step, plan.params, *found]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def covers(run: Run, step: str, plan: Plan, asked: Asked) -> bool:
    """Whether what was asked is this plan, or one that did all of this and more."""
    if asked.step != step or not set(plan.parts) <= set(asked.parts):
        return False
    return asked.plan == plan_digest(run, step, plan.model_copy(update={"parts": asked.parts}))


def narrowed(run: Run, step: str, plan: Plan) -> Plan:
    """The plan without the parts that came up after people had said yes; as it is where none that they saw is left."""
    asked, targets = run.approval, plan.target
    if asked is None or asked.step != step or not asked.granted or not isinstance(targets, list):
        return plan
    if not plan.parts or len(plan.parts) != len(targets):
        return plan
    kept = [at for at, part in enumerate(plan.parts) if part in asked.parts]
    if not kept or len(kept) == len(plan.parts):
        return plan
    return plan.model_copy(update={
        "parts": tuple(plan.parts[at] for at in kept),
        "target": [targets[at] for at in kept],
        "preview": f"only the {len(kept)} that were approved: {plan.preview}",
    })  # fmt: skip
