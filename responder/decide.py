"""What is next for an incident: a pure function of its state, its rules, the shared scopes and the time.

`decide` names one thing at a time, by asking its rules in order: people first, then machines' promises, then the run,
then what follows a run. Nothing is done here, and nothing is remembered between calls.
"""

from __future__ import annotations

from collections.abc import Callable

from responder import escalation
from responder import facts as f
from responder.acting import acting, given_up, unknown_why
from responder.expressions import explain, parse_expression
from responder.guards import finishing, why_missing
from responder.incident import Incident, Run
from responder.people_folds import held_by_calendar
from responder.policies import Level
from responder.recorded import Cause, Mode, Phase, Result, StepStatus, Trigger, strictest
from responder.runbook import Runbook, Verify, target_inputs, target_with
from responder.timing import MINUTE, SECOND, format_duration
from responder.undoing import in_doubt, to_undo
from responder.verification import closing, idle, verifying, watching
from responder.view import Finish, Gather, Next, Tell, View, WaitUntil

ONE_PAGE = 60 * SECOND
"""Pages of one incident within this time are one page (design 5.7)."""


def decide(view: View) -> Next:
    """The next thing. Total: it always names one, at the latest WaitUntil(None)."""
    for rule in _RULES:
        found = rule(view)
        if found is not None:
            return found
    return WaitUntil()


def people(view: View) -> Next | None:
    """Only what people are to be told now; an intent does not wait with it for its outcome."""
    return next((found for rule in _PEOPLE if (found := rule(view)) is not None), None)


# --- people: levels and acknowledgements ------------------------------------------------------------------------------


def _levels(view: View) -> Next | None:
    for entry in escalation.levels(view.incident, view.policy, view.calendars):
        if entry.due > view.now:
            continue  # one that waits for its hours holds up no higher one
        return _asked_first(view, entry) or Tell(_level(view, entry, _unanswered(view)))
    return None


def _asked_first(view: View, entry: escalation.DueLevel) -> Gather | None:
    """Before further people are woken, the pagers are asked whether somebody has answered there (design 5.7)."""
    incident = view.incident
    pages = tuple((to, key) for to, key in incident.paged if to in view.askable and key not in incident.answered)
    asked = f"{entry.round}:{entry.index}" in incident.pagers_asked
    if asked or not pages or incident.hurried is not None or entry.index == 0:
        return None
    return Gather(
        runbook=incident.runbook or "", rules_hash=incident.rules_hash, level=(entry.round, entry.index), pages=pages
    )


def _level(view: View, entry: escalation.DueLevel, why: str) -> f.LevelReached:
    late = view.now - entry.due
    return f.LevelReached(
        round=entry.round,
        index=entry.index,
        name=entry.level.name,
        page=entry.level.page,
        why=why,
        late=late if late > 5 * SECOND else 0,
    )


def _urgency(view: View) -> Next | None:
    """Whatever the ladder says, an acknowledgement and a take-over too: this was not known when they were given."""
    incident = view.incident
    if not incident.live or incident.urgent_number <= incident.urgent_told:
        return None
    first = next(escalation.levels(incident, view.policy, view.calendars), None)
    if first is not None and first.index == 0:
        return Tell(_level(view, first, incident.urgent or ""))
    page = () if _has_heard(view) else escalation.whom(incident, view.policy)
    return Tell(f.UrgentTold(number=incident.urgent_number, page=page, why=incident.urgent or ""))


def _has_heard(view: View) -> bool:
    """Paged a moment ago, or somebody looks after it: the thread tells them. What nobody knows, and harm, still wake
    people; and who has snoozed it does not look."""
    incident = view.incident
    grave = bool(incident.unsettled) or incident.result is Result.HARMFUL
    if incident.storm is not None and not grave:
        return True  # people are paged for all of them at once
    just_paged = incident.last_paged is not None and 0 <= view.now - incident.last_paged < ONE_PAGE
    somebody = incident.acknowledged is not None or incident.taken_over is not None
    return just_paged or (somebody and not grave)


def _unanswered(view: View) -> str:
    """Why the next level is told: a person asked, what was urgent last, else that nothing has helped."""
    if view.incident.hurried is not None:
        return "a person asked for it"
    if view.incident.urgent is not None:
        return view.incident.urgent
    lasted = (view.now - view.incident.clock_from) // SECOND * SECOND
    if lasted == 0:
        return view.incident.problems[0] if view.incident.problems else "it has just begun"
    return f"not fixed {format_duration(lasted)} after it began"


def _acknowledgement(view: View) -> Next | None:
    ends = escalation.acknowledgement_ends(view.incident, view.policy)
    if ends is None or ends > view.now:
        return None
    # Where no level was told yet, the first one comes by itself, with the time that was left of the grace.
    level = escalation.last_reached(view.incident, view.policy)
    page = () if level is None and escalation.goes_on(view.incident, view.policy) else _paged_again(view, level)
    return Tell(f.AcknowledgementExpired(count=view.incident.acknowledgements, page=page, ended=ends))


def _paged_again(view: View, level: Level | None) -> tuple[str, ...]:
    return (level or view.policy.levels[0]).page


def _snooze(view: View) -> Next | None:
    snoozed = view.incident.snoozed
    over = snoozed is not None and snoozed.until <= view.now and not view.incident.closed
    return Tell(f.SnoozeEnded()) if over else None


def _repetition(view: View) -> Next | None:
    due = escalation.repetition(view.incident, view.policy)
    return Tell(f.LadderRepeated(number=view.incident.repeats + 1)) if due is not None and due <= view.now else None


def _reminder(view: View) -> Next | None:
    """What came due while nothing ran is told once, as the latest."""
    due = escalation.reminder(view.incident, view.policy)
    if due is None or due > view.now:
        return None
    lasted = view.now - view.incident.opened_at
    return Tell(f.StillOpen(number=lasted // view.policy.remind, lasted=lasted))


# --- machines: unless_fixed -------------------------------------------------------------------------------------------


def _promises(view: View) -> Next | None:
    for entry in escalation.promises(view.incident, view.runbook):
        if entry.announce is not None and entry.announce <= view.now:
            at = max(entry.due, view.now + entry.promise.countdown)
            runbook = entry.promise.run or ""
            return Tell(f.MachineAnnounced(round=entry.round, index=entry.index, runbook=runbook, at=at))
        if entry.due <= view.now and not escalation.waits_for_run(view.incident, entry):
            return _promise_due(view, entry)
    return None


def _promise_due(view: View, entry: escalation.DuePromise) -> Next:
    late = view.now - entry.due
    fired = f.MachineFired(
        round=entry.round, index=entry.index, page=entry.promise.page, late=late if late > 5 * SECOND else 0
    )
    wanted, verify = entry.promise.run, view.runbook.verify if view.runbook else None
    if wanted is None:
        return Tell(fired)
    if not escalation.armed(view.incident) and not view.incident.superseded:
        return Tell(fired.model_copy(update={"held": f"no run acted, so {wanted} is for people to decide"}))
    timer = view.incident.machine.get(entry.key)
    if verify is None or view.runbook is None:
        return Tell(fired.model_copy(update={"held": f"there is no check, so {wanted} is for people to decide"}))
    if timer is None or not timer.gathered:
        return Gather(
            runbook=view.runbook.runbook,
            rules_hash=view.incident.rules_hash,
            checks=(verify.check,),
            machine=entry.key,
        )
    return Tell(_judged_promise(view, fired, wanted, verify))


def _judged_promise(view: View, fired: f.MachineFired, wanted: str, verify: Verify) -> f.MachineFired:
    seen, runbook = view.incident.watch, view.runbook
    max_age = runbook.checks[verify.check].max_age if runbook else 0
    missing = why_missing(seen, max_age, view.now)
    if missing is not None or seen is None:
        held = f"check {verify.check}: {missing}; without evidence {wanted} is for people to decide"
        return fired.model_copy(update={"held": held})
    if view.incident.watch_holds:
        told = explain(parse_expression(verify.expect), {"value": seen.value})
        return fired.model_copy(update={"held": f"fixed: {told}", "good": True, "page": ()})
    by = view.incident.superseded
    if by:
        held = f"incident {by} superseded the run, so {wanted} is for people to decide"
        page = fired.page or escalation.whom(view.incident, view.policy)
        return fired.model_copy(update={"held": held, "page": page})
    return fired.model_copy(update={"runbook": wanted})


# --- runs: starting ---------------------------------------------------------------------------------------------------


def _start(view: View) -> Next | None:
    incident, active = view.incident, view.incident.active_run
    machine = next(((k, m.starts) for k, m in incident.machine.items() if m.starts), None)
    if machine is not None and not incident.closed and not incident.taken_over:
        return _start_machine(view, machine[0], machine[1] or "")
    runbook = view.runbook
    blocked = active is not None or incident.closed or incident.taken_over or incident.blocked
    if blocked or runbook is None or not incident.called:
        return None
    if incident.trigger is Trigger.PERSON:
        return None  # nobody but a person starts it again
    if incident.trigger is Trigger.SCHEDULE:
        return Tell(_started(view, runbook, Cause.SCHEDULE)) if incident.result is None else None
    if not incident.runs:
        return Tell(_started(view, runbook, Cause.ALERT))
    if any(r.result is Result.HARMFUL for r in incident.runs):
        return None  # what did harm is not done again in this incident
    if incident.result is not None:
        return None
    return Tell(_started(view, runbook, Cause.ALERT if _let_go_on(incident) else Cause.RELAPSE))


def _let_go_on(incident: Incident) -> bool:
    """What its hours alone have held back was never begun, so it is no relapse when a person lets it go on."""
    last, override = incident.runs[-1], incident.override
    said = override is not None and override.run is None and override.at >= (last.ended_at or 0)
    return said and held_by_calendar(last)


def _start_machine(view: View, key: str, name: str) -> Next | None:
    active = view.incident.active_run
    if active is not None and active.open_attempt is not None:
        return None  # the step in flight ends first; its outcome comes back as a fact
    if active is not None and _must_finish(view, active):
        return None
    if active is not None:
        why = f"not fixed in time: {name} takes over"
        return given_up(active, why) or _superseded(active, why)
    runbook = view.rules.runbooks.get(name) if view.rules else None
    if runbook is None:
        why = f"runbook {name} cannot be read in the rules that this incident began with: people decide"
        return _held_for_people(view, key, why)
    bad = _bad_inputs(view, runbook)
    if bad:
        return _held_for_people(view, key, f"runbook {name} cannot run: {bad}")
    return Tell(_started(view, runbook, Cause.UNLESS_FIXED, key))


def _held_for_people(view: View, key: str, why: str) -> Tell:
    number, index = (int(part) for part in key.split(":"))
    page = escalation.whom(view.incident, view.policy)
    return Tell(f.MachineFired(round=number, index=index, held=why, page=page))


def _bad_inputs(view: View, runbook: Runbook) -> str:
    """Why a runbook that another one starts must not have its values: they pass its own types too."""
    values, rules = view.incident.inputs, view.rules
    needed = target_inputs(runbook) if rules is not None else ()
    problems = (rules.input_problem(n, runbook.inputs[n], values.get(n, "")) for n in needed if rules is not None)
    return "; ".join(problem for problem in problems if problem is not None)


def _must_finish(view: View, run: Run) -> bool:
    """A sequence that is under way and not to be left half done, or the undoing of harm, which is soon over; whether
    that has helped is only looked at, and waits for nobody.

    A sequence that waits for something is not under way.
    """
    if run.cause is Cause.UNDO:
        return run.phase is Phase.ACTING
    runbook = view.runbook_of(run)
    waits = run.waits_until is not None or any(s.status in (StepStatus.ASKED, StepStatus.APPROVAL) for s in run.steps)
    return run.phase is Phase.ACTING and not waits and runbook is not None and finishing(run, runbook)


def _superseded(run: Run, why: str) -> Finish:
    lost = unknown_why(run)
    result = in_doubt(run) if lost else Result.INEFFECTIVE
    return Finish(f.RunEnded(run=run.number, result=result, why=f"{lost}; {why}" if lost else why))


def _started(view: View, runbook: Runbook, cause: Cause, machine: str | None = None) -> f.RunStarted:
    incident = view.incident
    own = cause is not Cause.UNLESS_FIXED
    inputs = {n: v for n, v in incident.inputs.items() if n in runbook.inputs}
    ceiling = strictest(runbook.mode, view.ceiling)
    return f.RunStarted(
        number=incident.runs[-1].number + 1 if incident.runs else 1,
        runbook=runbook.runbook,
        rules_hash=incident.rules_hash,
        target=incident.target if own else target_with(runbook, inputs),
        cause=cause,
        mode=ceiling if incident.live else Mode.OBSERVE,
        inputs=incident.inputs if own else inputs,
        steps=tuple(s.id for s in runbook.steps),
        brake=runbook.brake,
        machine=machine,
    )


# --- runs: taking back what did harm ----------------------------------------------------------------------------------


UNDONE_WITHIN = 5 * MINUTE
"""After the harm was seen; later than that, undoing could go over what people have done about it."""


def _undoing(view: View) -> Next | None:
    """The changes of a harmful run, latest first: those that nobody has to approve are undone at once (design 5.6)."""
    incident = view.incident
    harmful = next((r for r in reversed(incident.runs) if not r.takes_back), None)
    over = incident.closed or incident.taken_over is not None or incident.active_run is not None
    if over or harmful is None or harmful.result is not Result.HARMFUL or not incident.live:
        return None
    runbook = view.runbook_of(harmful)
    attempt = None if runbook is None else to_undo(incident, runbook)
    if runbook is None or attempt is None:
        return None
    started = _started(view, runbook, Cause.UNDO)
    why = _not_undone(view, harmful, started)
    if why is not None:
        problem = f"step {attempt.step} of run {harmful.number} did harm and is not undone: {why}"
        return None if problem in incident.problems else Tell(f.ProblemFound(problem=problem))
    given = {"steps": (attempt.step,), "restores": attempt.id, "target": harmful.target, "inputs": harmful.inputs}
    return Tell(started.model_copy(update={**given, "rules_hash": harmful.rules_hash}))


def _not_undone(view: View, harmful: Run, started: f.RunStarted) -> str | None:
    if started.mode is Mode.OBSERVE:
        return f"mode {started.mode.value} lets nothing be changed"
    late = view.now - (harmful.ended_at or view.now)
    # Without the time itself: with another text at each look it would be told, and paged, again and again.
    return f"it was seen more than {format_duration(UNDONE_WITHIN)} ago" if late > UNDONE_WITHIN else None


_PEOPLE: tuple[Callable[[View], Next | None], ...] = (_snooze, _urgency, _levels, _acknowledgement, _repetition)

_RULES: tuple[Callable[[View], Next | None], ...] = (
    *_PEOPLE,
    _reminder,
    _promises,
    _undoing,
    _start,
    acting,
    verifying,
    watching,
    closing,
    idle,
)
