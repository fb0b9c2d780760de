"""A run that acts: step by step through gates, attempts, retries and recovery, until nothing is left to be changed.

Pure: see `decide`. What is sent again after an unknown outcome, and what never is, stands in `_recover` (design 5.3).
"""

from __future__ import annotations

from dataclasses import replace

from responder import facts as f
from responder.approvals import approval_wanted, covers, narrowed, plan_digest
from responder.cases import Case, allow
from responder.expectations import in_vain, tries, unmet
from responder.expressions import evaluate, parse_expression
from responder.freshness import named, needed, outdated, outlived, recent
from responder.guards import (
    INFORMED,
    LOCAL,
    alerts,
    finishing,
    holds_back,
    judge,
    may_only_read,
    not_approved,
    same_gate,
    wakes_nobody,
)
from responder.incident import Attempt, Run, StepState
from responder.recorded import (
    Answer,
    Cause,
    Effect,
    Mode,
    Outcome,
    Phase,
    Plan,
    ProbeAnswer,
    Result,
    StepStatus,
    Verdict,
)
from responder.render import instruction
from responder.runbook import Runbook, Step
from responder.timing import SECOND, format_duration
from responder.undoing import put_back, to_undo
from responder.view import Ask, Finish, Gather, Next, Perform, Tell, View, WaitUntil, values_of

LOST = 15 * SECOND
"""How long after its deadline an attempt's own process may still record the outcome; after that nobody will."""

PROBES = 5
"""How often a probe is asked that gives no clear answer, with growing patience: half a minute in all."""

HELD_BACK = 60 * SECOND
"""What a promise or a person started and could not begin within this time is for people: what called for it is old."""

SETTLED = (StepStatus.DONE, StepStatus.SKIPPED, StepStatus.FAILED)
"""After these the next step comes; after one that nobody knows about, none does."""


def acting(view: View) -> Next | None:
    run = view.incident.active_run
    if run is None or run.phase is not Phase.ACTING:
        return None
    attempt = run.open_attempt
    if attempt is not None:
        return _in_flight(view, attempt)
    runbook = view.runbook_of(run)
    if runbook is None:
        return _unreadable(run)
    if any(s.status is StepStatus.UNKNOWN for s in run.steps):
        return _acted(view, run, runbook)
    failed = next((s for s in run.steps if s.status is StepStatus.FAILED and _aborts(run, runbook, s)), None)
    if failed is not None:
        return Finish(f.RunEnded(run=run.number, result=Result.FAILED, why=f"step {failed.id}: {failed.why}"))
    state = next((s for s in run.steps if s.status not in SETTLED), None)
    if state is None:
        return _acted(view, run, runbook)
    return _step(view, run, runbook, state)


def _unreadable(run: Run) -> Next:
    """Without its runbook a run can only end."""
    why = f"runbook {run.runbook} of rules {run.rules_hash[:12]} cannot be read"
    lost = given_up(run, why)
    if lost is not None:
        return lost
    result = Result.UNKNOWN if unknown_why(run) else Result.FAILED
    return Finish(f.RunEnded(run=run.number, result=result, why=unknown_why(run) or why))


def given_up(run: Run, why: str) -> Tell | None:
    """When recovery cannot go on: what is not known to have happened is unknown before the run ends."""
    for state in run.steps:
        doubt = _doubt(run, state.id)
        if state.status is StepStatus.RUNNING and doubt is not None:
            lost = f"{_nobody_knows(doubt)}; {why}"
            return Tell(f.StepEnded(run=run.number, step=state.id, status=StepStatus.UNKNOWN, why=lost))
    return None


def _doubt(run: Run, step: str) -> Attempt | None:
    """The latest attempt that may have happened: that a later one was refused says nothing about it."""
    return next((a for a in reversed(run.attempts_of(step)) if a.doubtful), None)


def _nobody_knows(attempt: Attempt) -> str:
    return f"it may or may not have happened: {attempt.detail}"


def _aborts(run: Run, runbook: Runbook, state: StepState) -> bool:
    return run.takes_back or runbook.step(state.id).on_failure == "abort"


def _in_flight(view: View, attempt: Attempt) -> Next:
    """Its owner waits longer than others do: its outcome may only wait for the store, and then comes first."""
    if attempt.epoch < view.epoch or view.now >= attempt.deadline + LOST:
        detail = "no outcome was recorded: the process ended, or its answer was lost"
        return Tell(f.AttemptEnded(attempt=attempt.id, outcome=Outcome.UNKNOWN, detail=detail))
    leased = attempt.deadline + 2 * SECOND
    return WaitUntil(leased if view.now < leased else attempt.deadline + LOST, "deadline")


def _acted(view: View, run: Run, runbook: Runbook) -> Next:
    if run.takes_back:
        return _taken_back(view, run, runbook)
    failed = [s.id for s in run.steps if s.status is StepStatus.FAILED]
    if run.cause is Cause.SCHEDULE and failed:
        return Finish(f.RunEnded(run=run.number, result=Result.FAILED, why=f"failed: {', '.join(failed)}"))
    if run.mode is Mode.OBSERVE and run.cause is not Cause.SCHEDULE:
        why = "observe mode: nothing was changed"
        return Finish(f.RunEnded(run=run.number, result=Result.OBSERVED, why=why))
    if runbook.verify is not None:
        return Tell(f.Verifying(run=run.number))
    if any(s.status is StepStatus.UNKNOWN for s in run.steps):
        return Finish(f.RunEnded(run=run.number, result=Result.UNKNOWN, why=unknown_why(run)))
    if not run.acted and not failed:
        well = run.by_hand or run.cause is Cause.SCHEDULE
        why = "every step went well" if well else "there was nothing to change"
        return Finish(f.RunEnded(run=run.number, result=Result.OBSERVED, why=why))
    return Finish(f.RunEnded(run=run.number, result=Result.UNVERIFIED, why="the runbook has no verification"))


def _taken_back(view: View, run: Run, runbook: Runbook) -> Next:
    """After the last change of a harmful run was undone, the check must show that the harm is gone (docs/adr/0025)."""
    ended = put_back(run)
    last = run.cause is Cause.UNDO and runbook.verify is not None and to_undo(view.incident, runbook) is None
    looks = last and ended.result in (Result.FIXED, Result.UNVERIFIED)
    return Tell(f.Verifying(run=run.number)) if looks else Finish(ended)


def unknown_why(run: Run) -> str:
    return "; ".join(f"step {s.id}: {s.why}" for s in run.steps if s.status is StepStatus.UNKNOWN)


def _step(view: View, run: Run, runbook: Runbook, state: StepState) -> Next | None:
    step = runbook.step(state.id)
    step = step.way_back if run.takes_back else step
    if state.status is StepStatus.ASKED:
        return _stopped(view, run, runbook)
    if state.status is StepStatus.APPROVAL:
        return _stopped(view, run, runbook) or _unanswered(view, run, step) or _begin(view, run, runbook, step)
    if state.status is StepStatus.RUNNING:
        return _tried(view, run, step, state)
    if state.retry_at is not None and state.retry_at > view.now:
        return _stopped(view, run, runbook) or WaitUntil(state.retry_at, "retry")
    return _stopped(view, run, runbook) or _begin(view, run, runbook, step)


def _stopped(view: View, run: Run, runbook: Runbook) -> Next | None:
    """Before the next change: a person's word, or an alert that is over, ends the acting (design 5.6, 5.7)."""
    if run.stopped is not None:
        return _leave(run, f"stopped by {run.stopped.actor}")
    if run.cause is Cause.RESTORE:
        return None
    over = view.incident.taken_over
    # Whoever has it may start what they want to have done.
    if over is not None and (run.cause is not Cause.PERSON or over.at > run.started_at):
        return _leave(run, f"taken over by {over.actor}")
    if run.cause is Cause.UNDO:
        # Harm is undone whatever the alert says by now, but not over what people have done about it meanwhile.
        return _held_back(view, run)
    if not view.incident.called and not finishing(run, runbook):
        return _leave(run, "the alert resolved before the next change")
    if run.cause is Cause.PERSON and run.waits_until is None:
        return None
    return _held_back(view, run) if run.cause in (Cause.UNLESS_FIXED, Cause.PERSON) else None


def _held_back(view: View, run: Run) -> Finish | None:
    """What called for it is old by now."""
    begun = run.acted or run.by_hand or run.approval is not None
    if begun or view.now - run.started_at <= HELD_BACK:
        return None
    why = f"held back for {format_duration((view.now - run.started_at) // SECOND * SECOND)}: people decide now"
    return Finish(f.RunEnded(run=run.number, result=Result.FAILED, why=why))


def _leave(run: Run, why: str) -> Next:
    if run.acted and not run.takes_back:
        return Tell(f.Verifying(run=run.number))
    return Finish(f.RunEnded(run=run.number, result=Result.CANCELLED, why=why))


def _begin(view: View, run: Run, runbook: Runbook, step: Step) -> Next:
    if run.takes_back:
        return _prepared(view, run, runbook, step)
    if (asked := named(view, run, runbook, step)) is not None:
        return _gathering(run, runbook, step, asked)
    if step.when is not None:
        answer = evaluate(parse_expression(step.when), values_of(view.incident, run))
        if not answer.holds:
            return Tell(f.StepSkipped(run=run.number, step=step.id, why=f"when {step.when} is not true"))
    if step.manual is not None:
        return _asked(view, run, step, step.manual)
    return _prepared(view, run, runbook, step)


def _asked(view: View, run: Run, step: Step, manual: str) -> Next:
    """A person is asked, in words that may name inputs, checks and what earlier steps answered."""
    told = instruction(manual, values_of(view.incident, run))
    if run.mode is Mode.OBSERVE:
        preview = f"a person would be asked: {told}"
        return Tell(f.Previewed(run=run.number, step=step.id, preview=preview, verdicts=()))
    return Ask(f.ManualAsked(run=run.number, step=step.id, instruction=told))


def _prepared(view: View, run: Run, runbook: Runbook, step: Step) -> Next:
    case = _case(view, run, runbook, step, None)
    if case.before_brake and run.plan_step == step.id and recent(view, run.planned_at):
        case = replace(case, plan=run.plan)
    local = judge(case, LOCAL) if run.mode is not Mode.OBSERVE else ()
    if local and holds_back(local[-1]) and not may_only_read(case, local):
        return _refuse(run, step, local)
    if (asked := needed(view, run, runbook, step)) is not None:
        return _gathering(run, runbook, step, asked)
    return _informed(view, run, runbook, step, local)


def _gathering(run: Run, runbook: Runbook, step: Step, asked: Gather) -> Next:
    """The question; a step whose answers are always too old when the last of them comes in fails, and says so."""
    why = outlived(run, runbook, asked)
    return asked if why is None else _ended(run, step, StepStatus.FAILED, why)


def _case(view: View, run: Run, runbook: Runbook, step: Step, plan: Plan | None) -> Case:
    rules = view.rules_of(run.rules_hash)
    calendars = rules.calendars if rules is not None else {}
    more = (view.automation, view.ceiling, view.touched(step), view.halted)
    return Case(view.incident, run, runbook, step, plan, view.scope, view.totals, calendars, view.now, *more)


def _informed(view: View, run: Run, runbook: Runbook, step: Step, local: tuple[Verdict, ...]) -> Next:
    plan = run.plan
    assert plan is not None  # needed would have asked for it
    plan = narrowed(run, step.id, plan)
    case = _case(view, run, runbook, step, plan)
    verdicts = (*local, *judge(case, INFORMED))
    if (
        run.mode is Mode.OBSERVE
        and not run.takes_back
        and not (run.cause is Cause.SCHEDULE and plan.effect is Effect.READ)
    ):
        return Tell(f.Previewed(run=run.number, step=step.id, preview=plan.preview, verdicts=verdicts))
    if holds_back(verdicts[-1]):
        return _refuse(run, step, verdicts)
    if plan.nothing_to_do is not None:
        return Tell(f.StepEnded(run=run.number, step=step.id, status=StepStatus.DONE, why=plan.nothing_to_do))
    asked = _approval(view, run, step, plan, verdicts)
    if isinstance(asked, Ask):
        return asked
    return Perform(run.number, step.id, step.action or "", plan, (*verdicts, *asked), step.timeout)


# --- runs: approvals --------------------------------------------------------------------------------------------------


def _approval(view: View, run: Run, step: Step, plan: Plan, verdicts: tuple[Verdict, ...]) -> Ask | tuple[Verdict, ...]:
    """The question to people, or the verdict that this change needs no answer any more. What only reads asks nobody."""
    asking = [v.reason for v in verdicts if v.answer is Answer.ASK]
    wanted = approval_wanted(step, (run.mode, view.ceiling), verdicts)
    if wanted is None or plan.effect is Effect.READ or run.cause is Cause.RESTORE:
        return ()
    asked = run.approval
    known = asked is not None and asked.step == step.id
    if asked is not None and covers(run, step.id, plan, asked) and asked.granted and view.now < asked.until:
        return (allow("approval", f"approved by {' and '.join(p.actor for p in asked.approved)}"),)
    why = "; ".join(asking) if not known else "what would be done now is not what was asked before"
    until = view.now + wanted.within
    return Ask(
        f.ApprovalAsked(
            run=run.number,
            step=step.id,
            plan=plan_digest(run, step.id, plan),
            parts=plan.parts,
            preview=plan.preview,
            role=wanted.role,
            people=wanted.people,
            until=until,
            why=why,
        )
    )


def _unanswered(view: View, run: Run, step: Step) -> Next | None:
    """While people are asked: wait, or end the run; an approval never gives itself. None once they have said yes."""
    asked = run.approval
    assert asked is not None  # the step's status says so
    if asked.waits(view.now):
        return WaitUntil(asked.until, "approval")
    if asked.granted:
        return None
    return _refuse(run, step, (not_approved(asked),), urgent=asked.denied is None)


def _refuse(run: Run, step: Step, verdicts: tuple[Verdict, ...], *, urgent: bool = True) -> Next:
    last = verdicts[-1]
    if last.answer is Answer.WAIT and last.until is not None:
        if run.waits_until is not None and same_gate(run.verdicts, verdicts):
            return WaitUntil(last.until, "gate")
        return Tell(f.Waiting(run=run.number, step=step.id, verdicts=verdicts, until=last.until))
    if run.verdicts and run.verdicts[-1] == last:
        return _leave(run, f"refused: {last.reason}")
    quiet = wakes_nobody(run, last)
    return Tell(f.Refused(run=run.number, step=step.id, verdicts=verdicts, urgent=urgent and not quiet))


# --- runs: after an attempt -------------------------------------------------------------------------------------------


def _tried(view: View, run: Run, step: Step, state: StepState) -> Next:
    attempt = run.attempts_of(step.id)[-1]
    if attempt.outcome is Outcome.OK:
        return _answered(view, run, step, attempt, state)
    if attempt.outcome is Outcome.UNKNOWN:
        return _recover(view, run, step, attempt)
    doubt = _doubt(run, step.id)
    if attempt.outcome is Outcome.TEMPORARY:
        # In doubt with the plan and key of before: new ones would do it twice, if it has happened.
        return _retry(view, run, step, attempt, state) if doubt is None else _send_again(view, run, step, attempt)
    if doubt is None:
        return _ended(run, step, StepStatus.FAILED, attempt.detail)
    return _ended(run, step, StepStatus.UNKNOWN, f"{_nobody_knows(doubt)}; then {attempt.detail}")


def _answered(view: View, run: Run, step: Step, attempt: Attempt, state: StepState) -> Next:
    """Whether a reading is asked again was recorded with its answer: a check that is read anew does not judge it."""
    if attempt.plan.effect is Effect.READ and state.retry_at is not None:
        return _again(view, run, step, state.retry_at)
    if run.takes_back:
        return _read_back(view, run, step, attempt)
    why = unmet(view.incident, run, step, attempt)
    return _ended(run, step, StepStatus.DONE if why is None else StepStatus.FAILED, why or attempt.detail)


def _read_back(view: View, run: Run, step: Step, attempt: Attempt) -> Next:
    """What was put back is looked at again, where its action can look (docs/adr/0025)."""
    if attempt.plan.blind or attempt.plan.effect is Effect.READ:
        return _ended(run, step, StepStatus.DONE, attempt.detail)
    if (asked := _probing(view, run, attempt)) is not None:
        return asked
    if attempt.probe is ProbeAnswer.NOT_APPLIED:
        why = f"{attempt.detail}; accepted, but it is not in force: {attempt.probe_detail}"
        return _ended(run, step, StepStatus.FAILED, why)
    if attempt.probe is ProbeAnswer.APPLIED:
        return _ended(run, step, StepStatus.DONE, f"{attempt.detail}; read back: {attempt.probe_detail}")
    # Its target stays locked until a person has looked: a lock guards against an unknown state.
    why = f"{attempt.detail}; accepted, but nobody could read it back: {attempt.probe_detail}"
    return _ended(run, step, StepStatus.UNKNOWN, why)


def _probing(view: View, run: Run, attempt: Attempt) -> Next | None:
    """Ask the attempt's probe, again and again while it gives no clear answer; None when it need not be asked."""
    unclear = attempt.probe is ProbeAnswer.UNCLEAR and attempt.probes < PROBES
    if attempt.probe is not None and not unclear:
        return None
    again = None if attempt.probed_at is None else attempt.probed_at + SECOND * 2**attempt.probes
    if again is not None and again > view.now:
        return WaitUntil(again, "probe")
    return Gather(runbook=run.runbook, rules_hash=run.rules_hash, run=run.number, probe=attempt.id)


def _ended(run: Run, step: Step, status: StepStatus, why: str) -> Tell:
    return Tell(f.StepEnded(run=run.number, step=step.id, status=status, why=why))


def _retry(view: View, run: Run, step: Step, attempt: Attempt, state: StepState) -> Next:
    count = len(run.attempts_of(step.id))
    if tries(run, step.id) >= step.retry.attempts:
        again = f" after {count} attempts" if count > 1 else ""
        return _ended(run, step, StepStatus.FAILED, f"{attempt.detail}{again}")
    return _again(view, run, step, state.retry_at)


def _again(view: View, run: Run, step: Step, at: int | None) -> Next:
    runbook = view.runbook_of(run)
    assert runbook is not None  # _acting has looked
    stopped = _stopped(view, run, runbook)
    if stopped is not None:
        return stopped
    if at is not None and at > view.now:
        return WaitUntil(at, "retry")
    return _begin(view, run, runbook, step)


def _recover(view: View, run: Run, step: Step, attempt: Attempt) -> Next:
    """An intent without a known outcome: by effect class (design 5.3)."""
    effect = attempt.plan.effect
    if effect in (Effect.READ, Effect.KEYED):
        # Reading again changes nothing, and the service honours the same key.
        return _send_again(view, run, step, attempt)
    if effect is Effect.UNSAFE:
        return _ended(run, step, StepStatus.UNKNOWN, _nobody_knows(attempt))
    if (asked := _probing(view, run, attempt)) is not None:
        return asked
    if attempt.probe is ProbeAnswer.APPLIED:
        return _ended(run, step, StepStatus.DONE, f"it happened: {attempt.probe_detail}")
    if attempt.probe is ProbeAnswer.NOT_APPLIED:
        return _send_again(view, run, step, attempt)
    return _ended(run, step, StepStatus.UNKNOWN, f"{_nobody_knows(attempt)}; {attempt.probe_detail}")


def _send_again(view: View, run: Run, step: Step, attempt: Attempt) -> Next:
    """Sending again passes pause, locks and the alert's state again, with the plan and key of the first time."""
    runbook = view.runbook_of(run)
    known = _doubt(run, step.id) is None
    give_up = StepStatus.FAILED if known else StepStatus.UNKNOWN
    sent = in_vain(run, step.id)
    if sent > step.retry.in_doubt or runbook is None:
        return _ended(run, step, give_up, f"given up after {sent} attempts: {attempt.detail}")
    if _stopped(view, run, runbook) is not None:
        status = StepStatus.SKIPPED if known else StepStatus.UNKNOWN
        return _ended(run, step, status, "not sent again: the alert resolved or a person took over")
    patience = (attempt.ended_at or view.now) + (SECOND * 2 ** (sent - 1) if sent > 1 else 0)
    patience = max(patience, run.step(step.id).retry_at or 0)
    if patience > view.now:
        return WaitUntil(patience, "retry")  # the first time at once; a service that is in trouble gets time after that
    case = _case(view, run, runbook, step, attempt.plan)
    verdicts = judge(case, LOCAL)
    if not holds_back(verdicts[-1]):
        if outdated(view, run, runbook):
            return Gather(runbook=run.runbook, rules_hash=run.rules_hash, run=run.number, alerts=True)
        verdicts = (*verdicts, alerts(case))
    if verdicts[-1].answer is Answer.WAIT and verdicts[-1].until is not None:
        return _refuse(run, step, verdicts)
    if holds_back(verdicts[-1]):
        return _ended(run, step, give_up, f"not sent again: {verdicts[-1].reason}")
    return Perform(run.number, step.id, step.action or "", attempt.plan, verdicts, step.timeout, again=attempt)
