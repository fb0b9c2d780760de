"""Whether it helped: verifying a run, watching the check while the incident is open, and closing it.

Pure: see `decide`. "resolved" is a hint; success needs fresh samples that hold, and missing evidence is never success
(design 5.6).
"""

from __future__ import annotations

from pydantic import JsonValue

from responder import facts as f
from responder.acting import unknown_why
from responder.escalation import promises
from responder.expressions import evaluate, explain, parse_expression
from responder.guards import why_missing
from responder.incident import Incident, Run
from responder.recorded import Cause, Observation, Phase, Result, Trigger
from responder.runbook import POLL, Runbook, Verify
from responder.timing import MINUTE, SECOND, format_duration
from responder.undoing import put_back
from responder.view import Finish, Gather, Next, Tell, View, WaitUntil

LINGER = 15 * MINUTE
"""How long an incident that is called fixed may stay open before people are told."""

WATCH = 30 * SECOND
"""How often an open incident without an active run looks at its check."""


def verifying(view: View) -> Next | None:
    run = view.incident.active_run
    if run is None or run.phase is not Phase.VERIFYING or run.verify_from is None:
        return None
    runbook = view.runbook_of(run)
    if runbook is None or runbook.verify is None:
        why = "there is no verification to be made"
        return Finish(f.RunEnded(run=run.number, result=Result.UNVERIFIED, why=why))
    verify, start = runbook.verify, run.verify_from
    if view.now < start + verify.settle:
        return WaitUntil(start + verify.settle, "settle")
    harm = None if run.cause is Cause.UNDO else _harm(view, run, runbook, verify)
    if harm is not None:
        return Finish(f.RunEnded(run=run.number, result=Result.HARMFUL, why=harm))
    if run.held_from is not None and (run.polled_at or 0) - run.held_from >= verify.hold:
        return Finish(_held(view, run, runbook, verify))
    if (run.polled_at or 0) >= start + verify.within:
        return Finish(_not_held(view, run, runbook, verify))
    due = _next_poll(view, run, verify, start)
    if due > view.now:
        return WaitUntil(due, "verify")
    return Gather(runbook=run.runbook, rules_hash=run.rules_hash, run=run.number, checks=(verify.check,))


def _next_poll(view: View, run: Run, verify: Verify, start: int) -> int:
    if run.polled_at is None or run.polled_at < start:
        return view.now
    due = min(run.polled_at + POLL, max(start + verify.within, run.polled_at))
    if run.held_from is not None:
        due = min(due, max(run.held_from + verify.hold, run.polled_at))
    return due


def _harm(view: View, run: Run, runbook: Runbook, verify: Verify) -> str | None:
    """What the runbook itself declares to be harm, on a sample from after the change; what is missing is no harm."""
    seen = run.observations.get(verify.check)
    if verify.harmful is None or seen is None or (seen.observed_at or 0) < (run.verify_from or 0):
        return None
    if why_missing(seen, runbook.checks[verify.check].max_age, view.now) is not None:
        return None
    condition, values = parse_expression(verify.harmful), _harm_values(view.incident, run, verify, seen)
    return explain(condition, values) if evaluate(condition, values).holds else None


def _harm_values(incident: Incident, run: Run, verify: Verify, seen: Observation | None) -> dict[str, JsonValue]:
    """What `harmful` looks at: the answer now, and the one from before the first change; of what is undone, before the
    first change of the run that did it."""
    undone = incident.attempt(run.restores or "")
    before = (run if undone is None else undone[0]).before.get(verify.check)
    values: dict[str, JsonValue] = {} if seen is None else {"value": seen.value}
    return values if before is None or before.missing else {**values, "before": before.value}


def _harm_gone(view: View, run: Run, runbook: Runbook, verify: Verify) -> f.RunEnded:
    """No harm is seen any more; that it was put back is another question, which the harm's end does not answer."""
    seen = run.observations.get(verify.check)
    told = explain(parse_expression(verify.harmful or ""), _harm_values(view.incident, run, verify, seen))
    ended = put_back(run)
    return ended.model_copy(update={"why": f"{ended.why}; no harm is seen any more: {told} is false"})


def _held(view: View, run: Run, runbook: Runbook, verify: Verify) -> f.RunEnded:
    if run.cause is Cause.UNDO:
        return _harm_gone(view, run, runbook, verify)
    told = explain(parse_expression(verify.expect), {"value": _seen_value(run, verify)})
    held = f" for {format_duration(verify.hold)}" if verify.hold else ""
    contained = run.cause is Cause.UNLESS_FIXED and runbook.brake
    result = Result.CONTAINED if contained else Result.FIXED
    open_question = f"; still to be settled: {unknown_why(run)}" if unknown_why(run) else ""
    return f.RunEnded(run=run.number, result=result, why=f"{told} held{held}{open_question}")


def _not_held(view: View, run: Run, runbook: Runbook, verify: Verify) -> f.RunEnded:
    seen = run.observations.get(verify.check)
    within = format_duration(verify.within)
    missing = why_missing(seen, runbook.checks[verify.check].max_age, view.now)
    if missing is None and seen is not None and (seen.observed_at or 0) < (run.verify_from or 0):
        missing = "its sample is older than the change"
    unknown = unknown_why(run)
    if unknown and run.cause is not Cause.UNDO:
        return f.RunEnded(run=run.number, result=Result.UNKNOWN, why=unknown)
    if missing is not None:
        why = f"check {verify.check} gave no evidence within {within}: {missing}"
        why = f"{run.steps[0].why}; but {why}" if run.cause is Cause.UNDO else why
        return f.RunEnded(run=run.number, result=Result.UNVERIFIED, why=why)
    if run.cause is Cause.UNDO:
        told = explain(parse_expression(verify.harmful or ""), _harm_values(view.incident, run, verify, seen))
        why = f"{run.steps[0].why}; but {within} later {told}: the harm remains"
        return f.RunEnded(run=run.number, result=Result.INEFFECTIVE, why=why)
    told = explain(parse_expression(verify.expect), {"value": _seen_value(run, verify)})
    if run.held_from is not None:
        only = format_duration((view.now - run.held_from) // SECOND * SECOND)
        why = f"{told} held for {only} only, {format_duration(verify.hold)} within {within} were wanted"
        return f.RunEnded(run=run.number, result=Result.INEFFECTIVE, why=why)
    return f.RunEnded(run=run.number, result=Result.INEFFECTIVE, why=f"{told} did not hold within {within}")


def cut_short(number: int, by: Incident, change: Run) -> f.RunEnded:
    """How a run ends whose target is changed for a higher severity before it was verified (docs/adr/0022). Nobody can
    tell any more what it did by itself, so it is never harmful and undoes nothing."""
    why = f"superseded by incident {by.id} ({by.severity}: {by.title}), which changes {change.target}"
    return f.RunEnded(run=number, result=Result.UNVERIFIED, why=why, superseded=by.id)


def _seen_value(run: Run, verify: Verify) -> JsonValue:
    seen = run.observations.get(verify.check)
    return None if seen is None else seen.value


# --- after a run: watching and closing --------------------------------------------------------------------------------


def watching(view: View) -> Next | None:
    incident, runbook = view.incident, view.runbook
    if incident.closed or incident.active_run is not None or runbook is None or not incident.runs:
        return None
    if runbook.verify is None:
        again = incident.rejoined and bool(incident.firing)
        return Tell(_relapse(view, "it fired again after the run")) if again else None
    if _went_bad(view, runbook, runbook.verify):
        return Tell(_relapse(view, _bad_why(incident, runbook.verify)))
    last = incident.watched_at or (incident.run.ended_at if incident.run else None) or incident.opened_at
    if not incident.recheck and view.now < last + WATCH:
        return None
    return Gather(runbook=runbook.runbook, rules_hash=incident.rules_hash, checks=(runbook.verify.check,), watch=True)


def _relapse(view: View, why: str) -> f.Relapsed:
    """The clock begins anew when it had stopped or run out; a promise still to come is kept (docs/adr/0010)."""
    incident = view.incident
    return f.Relapsed(why=why, restarts=not any(promises(incident, view.runbook)))


def _went_bad(view: View, runbook: Runbook, verify: Verify) -> bool:
    """Fixed or joined, and a fresh sample says that it does not hold (a missing one is no relapse)."""
    incident = view.incident
    seen = incident.watch
    if not incident.firing or incident.taken_over or incident.result is None or seen is None:
        return False
    ended = incident.run.ended_at if incident.run else None
    if seen.asked_at < (ended or 0) or incident.recheck:
        return False
    if seen.missing:
        return incident.rejoined  # what is not shown to hold is answered again, through the gates
    return not incident.watch_holds and (incident.result is Result.FIXED or incident.rejoined)


def _bad_why(incident: Incident, verify: Verify) -> str:
    if incident.watch is None or incident.watch.missing:
        return f"it fired again, and check {verify.check} gives no evidence"
    value = incident.watch.value
    return f"{explain(parse_expression(verify.expect), {'value': value})} does not hold any more"


def closing(view: View) -> Next | None:
    incident = view.incident
    if incident.closed or incident.firing or incident.active_run is not None:
        return None
    if incident.trigger is not Trigger.ALERT:
        return _uncalled_end(incident)
    if incident.members:
        over = f"all {incident.members} incidents are over"
        return Finish(f.Closed(why=over)) if incident.members_open == 0 else None
    if not incident.episodes:
        # The responder's own news (a dead letter, broken rules) has no alert that could end: a person's word ends it.
        person = incident.acknowledged or incident.taken_over
        return None if person is None else Finish(f.Closed(why=f"seen by {person.actor}"))
    runbook = view.runbook
    if runbook is None or runbook.verify is None or not incident.runs or incident.blocked:
        return Finish(f.Closed(why="all alerts resolved"))
    if incident.watch_holds and not incident.recheck:
        return Finish(f.Closed(why=f"all alerts resolved, and {runbook.verify.expect} holds"))
    seen = incident.watch
    if seen is not None and not incident.recheck and seen.missing and incident.urgent is None:
        problem = f"resolved, but check {runbook.verify.check} gives no evidence: {seen.error}"
        return Tell(f.ProblemFound(problem=problem))
    return None


def _uncalled_end(incident: Incident) -> Next | None:
    """No alert ends it: a run that went well does, and after any other a person's word."""
    run, words = incident.run, (incident.acknowledged, incident.taken_over)
    person = max((word for word in words if word is not None), key=lambda word: word.seq, default=None)
    if incident.result in (Result.FIXED, Result.OBSERVED, Result.CANCELLED) and incident.urgent is None:
        what = "the scheduled run" if incident.trigger is Trigger.SCHEDULE else "the run"
        return Finish(f.Closed(why=f"{what} is over: {run.why if run is not None else ''}"))
    seen = person is not None and incident.result is not None and (run is None or person.seq > run.ended_seq)
    return Finish(f.Closed(why=f"seen by {person.actor}")) if seen and person is not None else None


def idle(view: View) -> Next | None:
    """An open incident looks at its check again and again, and never falls asleep (design 5.2)."""
    incident, runbook = view.incident, view.runbook
    watched = runbook is not None and runbook.verify is not None and bool(incident.runs)
    if incident.closed or incident.active_run is not None or not watched:
        return None
    problem = _lingering(view)
    if problem is not None and problem not in incident.problems:
        return Tell(f.ProblemFound(problem=problem))
    last = incident.watched_at or (incident.run.ended_at if incident.run else None) or incident.opened_at
    return WaitUntil(max(last + WATCH, view.now), "watch")


def _lingering(view: View) -> str | None:
    """Called fixed, and yet it does not end: people look, before everybody forgets it."""
    incident = view.incident
    ended = incident.run.ended_at if incident.run else None
    if incident.result is not Result.FIXED or ended is None or view.now < ended + LINGER:
        return None
    what = "the alert still fires" if incident.firing else "its check does not hold"
    return f"fixed {format_duration(LINGER)} ago, but {what}"


def holds(runbook: Runbook, seen: Observation, now: int, since: int | None) -> bool:
    """Whether the verification's expectation holds on a fresh sample; missing, stale and NaN do not."""
    verify = runbook.verify
    if verify is None or not _proves(runbook, verify, seen, now, since):
        return False
    return evaluate(parse_expression(verify.expect), {"value": seen.value}).holds


def harmless(runbook: Runbook, seen: Observation, now: int, incident: Incident, run: Run) -> bool:
    """Whether a fresh sample shows no harm any more: what is expected of a run that undoes it, whatever the alert does.
    A sample that cannot tell does not show it."""
    verify = runbook.verify
    if verify is None or verify.harmful is None or not _proves(runbook, verify, seen, now, run.verify_from):
        return False
    answer = evaluate(parse_expression(verify.harmful), _harm_values(incident, run, verify, seen))
    return not answer.holds and not answer.unknown


def _proves(runbook: Runbook, verify: Verify, seen: Observation, now: int, since: int | None) -> bool:
    """It is there, fresh, and not from before the change."""
    if since is not None and (seen.observed_at or 0) < since:
        return False
    return why_missing(seen, runbook.checks[verify.check].max_age, now) is None
