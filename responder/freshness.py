"""What is not known, or was learned too long ago, before a step may be judged.

What passes a gate at the intent is as fresh as the gate allows then, however long people, a countdown or another gate
were waited for (design 5.5): a sample as its check's `max_age`, what the Alertmanagers said as `GATHERED_MAX_AGE`.

Pure: see `decide`.
"""

from __future__ import annotations

from collections.abc import Iterable

from responder.guards import GATHERED_MAX_AGE, asks_alerts, under_way, why_missing
from responder.incident import Run
from responder.recorded import Mode
from responder.runbook import Runbook, Step
from responder.timing import format_duration
from responder.view import Gather, View

ROUNDS = 10
"""How often in a row it is asked for what one step needs. Four are common; answers that take nearly as long as they may
be old can outlive each other for ever."""


def named(view: View, run: Run, runbook: Runbook, step: Step) -> Gather | None:
    """What must be asked before `when` is looked at, or a person is asked in words that name checks.

    Once the change is prepared, all checks are read together: in turns, the first is too old when the second comes in.
    """
    names: tuple[str, ...] = tuple(sorted(step.checks_named & runbook.checks.keys()))
    if step.manual is not None:
        names = (*names, *harm_check(run, runbook))
    checks, alerts = unread(view, run, runbook, names), False
    if checks and run.plan_step == step.id and recent(view, run.planned_at):
        checks = tuple(dict.fromkeys((*names, *_wanted(run, runbook))))
        alerts = asks_alerts(view.incident, run, runbook)
    if not checks:
        return None
    return Gather(runbook=run.runbook, rules_hash=run.rules_hash, run=run.number, checks=checks, alerts=alerts)


def outlived(run: Run, runbook: Runbook, gather: Gather) -> str | None:
    """Why this is not asked any more, where it was asked again and again; else None."""
    if run.rounds < ROUNDS:
        return None
    ages = [f"check {name} (max_age {format_duration(runbook.checks[name].max_age)})" for name in gather.checks]
    late = ", ".join(ages) or "what was learned"
    return f"{late} was too old again when everything else was known, {run.rounds} times: give it more time or ask less"


def needed(view: View, run: Run, runbook: Runbook, step: Step) -> Gather | None:
    """What must be asked before this step is judged; None when everything is known."""
    stale = run.plan is None or run.plan_step != step.id or not recent(view, run.planned_at)
    checks = unread(view, run, runbook, _wanted(run, runbook))
    # With every plan, as it costs no question of its own; and by themselves where the plan outlasts their answer.
    alerts = asks_alerts(view.incident, run, runbook) if stale else outdated(view, run, runbook)
    if not (stale or checks or alerts):
        return None
    return Gather(
        runbook=run.runbook,
        rules_hash=run.rules_hash,
        run=run.number,
        checks=checks,
        step=step.id if stale else None,
        restore=run.restores if stale else None,
        alerts=alerts,
    )


def recent(view: View, came: int | None) -> bool:
    """Counted from when an answer came in: a check that answers slowly is not asked for ever, its gate says why.

    One that came in later than now is from before the clock was set back: nobody knows how old it is.
    """
    return came is not None and 0 <= view.now - came <= GATHERED_MAX_AGE


def unread(view: View, run: Run, runbook: Runbook, names: Iterable[str]) -> tuple[str, ...]:
    """Which of these checks must be read (again)."""
    wanted = dict.fromkeys(names)
    return tuple(n for n in wanted if not recent(view, run.arrived.get(n)) or _too_old_by_now(view, run, runbook, n))


def _too_old_by_now(view: View, run: Run, runbook: Runbook, name: str) -> bool:
    """Its sample was fresh enough when it came in, and is no longer. One that came in too old says so at its gate."""
    seen, came, max_age = run.observations.get(name), run.arrived[name], runbook.checks[name].max_age
    return why_missing(seen, max_age, came) is None and why_missing(seen, max_age, view.now) is not None


def outdated(view: View, run: Run, runbook: Runbook) -> bool:
    """What the Alertmanagers said is too old to be acted by. Counted from the question: an answer to it takes seconds
    at most, but it may have come in with that of a slow check."""
    seen = run.alerts
    return seen is not None and asks_alerts(view.incident, run, runbook) and not recent(view, seen.observed_at)


def _wanted(run: Run, runbook: Runbook) -> tuple[str, ...]:
    """The checks that are read before the first change: what must hold, and what harm is measured against."""
    if run.takes_back:
        return ()
    names = []
    if runbook.only_if is not None and not under_way(run, runbook):
        names.append(runbook.only_if.check)
    return (*names, *harm_check(run, runbook))


def harm_check(run: Run, runbook: Runbook) -> tuple[str, ...]:
    """The check that harm is measured by, as long as nothing was changed."""
    begun = run.acted or run.by_hand or run.mode is Mode.OBSERVE
    if begun or runbook.verify is None or runbook.verify.harmful is None:
        return ()
    return (runbook.verify.check,)
