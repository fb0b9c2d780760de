"""What a run that takes a change back has come to, and which change of a harmful run is undone next.

Pure: see `decide`; the rules stand in docs/adr/0013 and 0025.
"""

from __future__ import annotations

from responder import facts as f
from responder.incident import Attempt, Incident, Run
from responder.recorded import Cause, Effect, Result, StepStatus
from responder.runbook import Runbook


def put_back(run: Run) -> f.RunEnded:
    """How a run ends that takes a change back. An older replica calls a step done that nobody could read back."""
    state = run.steps[0]
    done = Result.UNVERIFIED if run.attempts and run.attempts[-1].doubtful else Result.FIXED
    results = {StepStatus.DONE: done, StepStatus.UNKNOWN: in_doubt(run)}
    return f.RunEnded(run=run.number, result=results.get(state.status, Result.FAILED), why=state.why or "put back")


def in_doubt(run: Run) -> Result:
    """How a run ends one of whose steps is unknown. What the service has accepted, and nobody could read back, was put
    back without evidence; of what was lost nobody knows even that (docs/adr/0025)."""
    doubts = [a for a in run.attempts if a.doubtful]
    return Result.UNVERIFIED if doubts and all(a.accepted for a in doubts) else Result.UNKNOWN


def to_undo(incident: Incident, runbook: Runbook) -> Attempt | None:
    """The latest change of the harmful run that nobody has to approve the undoing of, and that was not tried to be
    undone. What a person had to settle is left to people."""
    harmful = next((r for r in reversed(incident.runs) if not r.takes_back), None)
    tried = {r.restores for r in incident.runs if r.cause is Cause.UNDO}
    if harmful is None:
        return None
    for state in reversed(harmful.steps):
        step = runbook.step(state.id)
        done = [a for a in harmful.attempts_of(state.id) if a.happened and a.plan.effect is not Effect.READ]
        if step.undo is None or step.put_back_by is not None or not done or done[-1].settled:
            continue
        if done[-1].id not in tried:
            return done[-1]
    return None
