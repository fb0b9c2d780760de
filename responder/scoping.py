"""What a fact changes in the scopes that runs share: locks are taken and released, runs counted, draws kept (design
5.4).

Each rule looks at one fact and answers the scopes' new bodies; the draft writes them in the fact's own transaction. A
lock is released on every known end of a run and stays when nobody knows what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from responder import facts as f
from responder.automation import AutomationStorm
from responder.incident import Attempt, Due, Incident, Run
from responder.recorded import Effect, Phase, Recorded, Result, StepStatus, Trigger
from responder.runbook import Runbook
from responder.scopes import (
    OPENINGS,
    RESULTS_KEPT,
    STORM,
    Draw,
    Draws,
    InForce,
    Lock,
    Openings,
    Opens,
    Results,
    RunCount,
    RunEnd,
    ScopeText,
    change_keys,
    changes_name,
    env_of,
    in_force_name,
    legible,
    lock_name,
    lock_of,
    opens_name,
    recent,
    results_name,
    runs_name,
    told_apart,
)
from responder.timing import DAY


@dataclass(frozen=True, slots=True)
class ScopeChange:
    """A scope's new body (None: nothing is left of it) and, where it reminds people, when."""

    name: str
    body: Recorded | None
    remind: Due | None = None


def scopes_after(incident: Incident, event: f.Event, runbook: Runbook | None, scope: ScopeText) -> list[ScopeChange]:
    """The scopes that this event changes; `incident` is the state after it, `runbook` the one of its latest run."""
    rule = _RULES.get(type(event.fact))
    return [] if rule is None else list(rule(incident, event, runbook, scope))


def opens_after(incident: Incident, causes: Collection[str], scope: ScopeText) -> list[ScopeChange]:
    """A root cause's open incidents, after one opened or closed. `causes`: the runbooks that its set yields to."""
    if incident.runbook not in causes or not incident.live:
        return []
    name = opens_name(incident.runbook or "")
    body = legible(Opens, scope(name)) or Opens()
    others = tuple(i for i in body.incidents if i != incident.id)
    now = others if incident.closed else (*others, incident.id)
    return [ScopeChange(name, Opens(incidents=now) if now else None)]


def openings_after(incident: Incident, storm: AutomationStorm | None, scope: ScopeText) -> list[ScopeChange]:
    """How many incidents of alerts began lately in each env, after this one has; a storm's own is none of them. The
    storm outlasts its last moment by `calm`. What is of no env counts for each (docs/adr/0034)."""
    if storm is None or not incident.live or incident.trigger is not Trigger.ALERT or is_storm(incident):
        return []
    at, before = incident.opened_at, legible(Openings, scope(OPENINGS)) or Openings()
    env, envs = told_apart(env_of(incident.labels), before.envs, lambda body: _counts(body, storm, at))
    if env:
        own = envs.get(env, Openings())
        envs[env] = _counted((*own.latest, at), before.latest, own, storm)
        return [ScopeChange(OPENINGS, before.model_copy(update={"envs": envs}))]
    after = _counted((*before.latest, at), (), before, storm)
    envs = {name: _counted(own.latest, after.latest, own, storm) for name, own in envs.items()}
    return [ScopeChange(OPENINGS, after.model_copy(update={"envs": envs}))]


def _counts(body: Openings, storm: AutomationStorm, now: int) -> bool:
    return any(at > now - storm.within for at in body.latest) or (body.until is not None and body.until > now)


def _counted(own: tuple[int, ...], others: tuple[int, ...], before: Openings, storm: AutomationStorm) -> Openings:
    together = sorted((*own, *others))[-storm.incidents :]
    storming = len(together) == storm.incidents and together[-1] - together[0] < storm.within
    until = together[0] + storm.within + storm.calm if storming else before.until
    return Openings(latest=own[-storm.incidents :], until=until)


def is_storm(incident: Incident) -> bool:
    """It is the one that pages for many, and not one of them."""
    return incident.runbook is None and incident.target.startswith(STORM)


def _run(incident: Incident, number: int) -> Run | None:
    return next((r for r in incident.runs if r.number == number), None)


def _own(incident: Incident, run: Run, scope: ScopeText) -> Lock | None:
    lock = legible(Lock, scope(lock_name(run.target)))
    return None if lock is None else lock.held_by(incident.id, run.number)


def _held(incident: Incident, run: Run, scope: ScopeText, own: Lock | None) -> ScopeChange:
    """The target's lock, of which this run holds `own` from now on, or nothing."""
    lock = legible(Lock, scope(lock_name(run.target)))
    others = () if lock is None else lock.without(incident.id, run.number)
    return ScopeChange(lock_name(run.target), lock_of((*others, *([own] if own is not None else []))))


def _intended(incident: Incident, event: f.Event, runbook: Runbook | None, scope: ScopeText) -> Iterator[ScopeChange]:
    fact = event.fact
    assert isinstance(fact, f.AttemptIntended)
    run = _run(incident, fact.run)
    if run is None or fact.plan.effect is Effect.READ:
        return
    if _own(incident, run, scope) is None:
        # Also beside another run, whose lock a brake has passed: nobody else may begin when that one ends first.
        yield _held(incident, run, scope, Lock(incident=incident.id, run=run.number, since=event.at))
    before = run.model_copy(update={"attempts": run.attempts[:-1]})
    if not run.takes_back and not before.acted:
        # It begins when something may be sent: what was counted when it was held back is counted now instead.
        name = runs_name(run.runbook, run.target)
        count = legible(RunCount, scope(name)) or RunCount()
        started = (*recent(count.besides(before.reserved_at), event.at), event.at)
        yield ScopeChange(name, count.model_copy(update={"started": started}))
        results = legible(Results, scope(results_name(run.runbook))) or Results()
        yield ScopeChange(results_name(run.runbook), results.model_copy(update={"began": event.at}))
    counted = {changes_name(key): 1.0 for key in change_keys(run.runbook, fact.services)}
    sent = any(not attempt.held_back for attempt in before.attempts_of(fact.step))
    for name, amount in {**fact.plan.draws, **counted}.items():
        drawn = legible(Draws, scope(name)) or Draws()
        own = drawn.own(incident.id, run.number, fact.step)
        # Never given back: what was reserved when it was held back is drawn again, at the time when it is sent.
        more = amount - own if sent else max(amount, own)
        if more > 0:
            kept = drawn if sent else drawn.besides(incident.id, run.number, fact.step)
            draw = Draw(at=event.at, amount=more, incident=incident.id, run=run.number, step=fact.step)
            yield ScopeChange(name, _drawn(kept, draw))


DRAWS_KEPT = 2_000
"""More in a day are not remembered: brakes pass limits, and a row must stay small."""


def _drawn(before: Draws, draw: Draw) -> Draws:
    return Draws(draws=(*(d for d in before.draws if d.at > draw.at - DAY), draw)[-DRAWS_KEPT:])


def _step_ended(incident: Incident, event: f.Event, runbook: Runbook | None, scope: ScopeText) -> Iterator[ScopeChange]:
    fact = event.fact
    assert isinstance(fact, f.StepEnded)
    run = _run(incident, fact.run)
    if run is None:
        return
    if fact.status is StepStatus.UNKNOWN:
        lock = Lock(incident=incident.id, run=run.number, since=event.at, unknown=True)
        yield _held(incident, run, scope, lock)
    done = [a for a in run.attempts_of(fact.step) if a.happened]
    restore = None if runbook is None else runbook.step(fact.step).restore
    if fact.status is StepStatus.DONE and done and restore is not None and not run.takes_back:
        yield _in_force(event, run, done[-1], legible(InForce, scope(in_force_name(run.target))), restore.remind)


KEPT_BENEATH = 20
"""How many changes of one target are remembered to be put back, one beneath the other."""


def _in_force(event: f.Event, run: Run, attempt: Attempt, beneath: InForce | None, remind: int | None) -> ScopeChange:
    """`remind` is how often people are reminded (µs). What lies too deep is left to people: the journal has it."""
    body = InForce(
        incident=event.incident,
        attempt=attempt.id,
        step=attempt.step,
        target=run.target,
        preview=attempt.plan.preview,
        before=attempt.plan.before,
        value=attempt.plan.target,
        since=event.at,
        remind=remind,
        beneath=beneath.beneath if beneath is not None and beneath.depth >= KEPT_BENEATH else beneath,
    )
    due = Due(kind="remind", round=0, due=event.at + remind) if remind else None
    return ScopeChange(in_force_name(run.target), body, due)


def _harm(event: f.Event, runbook: Runbook, run: Run, scope: ScopeText) -> Iterator[ScopeChange]:
    """Harm that only a person may undo stays in force until one does."""
    beneath, change = legible(InForce, scope(in_force_name(run.target))), None
    for state in run.steps:
        step = runbook.step(state.id)
        done = [a for a in run.attempts_of(state.id) if a.happened and a.plan.effect is not Effect.READ]
        if done and step.restore is None and step.put_back_by is not None:
            change = _in_force(event, run, done[-1], beneath, None)
            beneath = change.body if isinstance(change.body, InForce) else None
    if change is not None:
        yield change


def _put_back(event: f.Event, run: Run, scope: ScopeText) -> Iterator[ScopeChange]:
    """What this run has put back is in force no longer; what lay beneath it is again."""
    body = legible(InForce, scope(in_force_name(run.target)))
    if body is None or body.attempt != run.restores:
        return
    again = body.beneath.remind if body.beneath is not None else None
    remind = Due(kind="remind", round=0, due=event.at + again) if again else None
    yield ScopeChange(in_force_name(run.target), body.beneath, remind)


def _run_ended(incident: Incident, event: f.Event, runbook: Runbook | None, scope: ScopeText) -> Iterator[ScopeChange]:
    fact = event.fact
    assert isinstance(fact, f.RunEnded)
    run = _run(incident, fact.run)
    if run is None:
        return
    if run.takes_back and _was_put_back(run, fact.result):
        yield from _put_back(event, run, scope)
    if fact.result is Result.HARMFUL and runbook is not None:
        yield from _harm(event, runbook, run, scope)
    if not run.intended:
        return
    yield from _released(incident, run, scope)
    if run.takes_back:
        return
    if not run.acted:
        yield from _never_sent(run, scope)
        return
    name = runs_name(run.runbook, run.target)
    count = legible(RunCount, scope(name)) or RunCount()
    useless = (event.at,) if fact.result in (Result.INEFFECTIVE, Result.HARMFUL) else ()
    helped = (event.at,) if fact.result is Result.FIXED else ()
    ends = {
        "ended": event.at,
        "ineffective": (*recent(count.ineffective, event.at), *useless),
        "fixed": (*recent(count.fixed, event.at), *helped),
    }
    yield ScopeChange(name, count.model_copy(update=ends))
    yield _result(run, fact.result, event.at, scope)


def _never_sent(run: Run, scope: ScopeText) -> Iterator[ScopeChange]:
    """All of it was held back: it is no run that is being tried. That it was counted as one stays (docs/adr/0027)."""
    name = results_name(run.runbook)
    results = legible(Results, scope(name))
    if results is not None and results.began == run.reserved_at:
        yield ScopeChange(name, results.model_copy(update={"began": None}))


def _was_put_back(run: Run, result: Result) -> bool:
    """Also when it is not fixed: what was put back is in force no longer, though harm remains or nobody could look."""
    seen = result in (Result.INEFFECTIVE, Result.UNVERIFIED)
    return result is Result.FIXED or (seen and all(one.status is StepStatus.DONE for one in run.steps))


def _result(run: Run, result: Result, at: int, scope: ScopeText) -> ScopeChange:
    """What was not verified, or ended by a person's word, says nothing about the runbook."""
    before = legible(Results, scope(results_name(run.runbook))) or Results()
    good = _PROVES.get(result)
    ends = before.ends if good is None else (*before.ends, RunEnd(at=at, good=good))[-RESULTS_KEPT:]
    return ScopeChange(results_name(run.runbook), Results(ends=ends))


_PROVES = {
    Result.FIXED: True,
    Result.INEFFECTIVE: False,
    Result.HARMFUL: False,
    Result.FAILED: False,
    Result.UNKNOWN: False,
}
"""Whether a run with this result has helped."""


def _released(incident: Incident, run: Run, scope: ScopeText) -> Iterator[ScopeChange]:
    own = _own(incident, run, scope)
    if own is None:
        return
    unsettled = {a.id for a in incident.unsettled}
    open_questions = any(a.open or a.id in unsettled for a in run.attempts)
    yield _held(incident, run, scope, own.model_copy(update={"unknown": True}) if open_questions else None)


def _verifying(incident: Incident, event: f.Event, runbook: Runbook | None, scope: ScopeText) -> Iterator[ScopeChange]:
    """From here on a run of a higher severity may supersede it, unless anything of it is not known (docs/adr/0022)."""
    run = incident.active_run
    own = None if run is None else _own(incident, run, scope)
    if run is None or own is None or own.unknown or any(a.open or a.doubtful for a in run.attempts):
        return
    yield _held(incident, run, scope, own.model_copy(update={"verifying": True, "severity": incident.severity}))


def _severity_rose(
    incident: Incident, event: f.Event, runbook: Runbook | None, scope: ScopeText
) -> Iterator[ScopeChange]:
    """What it is verified for is worth more by now."""
    run = incident.active_run
    own = None if run is None or run.phase is not Phase.VERIFYING else _own(incident, run, scope)
    if run is not None and own is not None and own.verifying:
        yield _held(incident, run, scope, own.model_copy(update={"severity": incident.severity}))


def _settled(incident: Incident, event: f.Event, runbook: Runbook | None, scope: ScopeText) -> Iterator[ScopeChange]:
    fact = event.fact
    assert isinstance(fact, f.Settled)
    found = incident.attempt(fact.attempt)
    if found is None:
        return
    run, attempt = found
    if not run.active:
        yield from _released(incident, run, scope)
    if not fact.applied:
        return
    if run.takes_back:
        yield from _put_back(event, run, scope)
        return
    restore = None if runbook is None else runbook.step(attempt.step).restore
    if restore is not None:
        yield _in_force(event, run, attempt, legible(InForce, scope(in_force_name(run.target))), restore.remind)


def _unlocked(incident: Incident, event: f.Event, runbook: Runbook | None, scope: ScopeText) -> Iterator[ScopeChange]:
    fact = event.fact
    assert isinstance(fact, f.Unlocked)
    yield ScopeChange(lock_name(fact.target), None)


_RULES: dict[type[Any], Callable[[Incident, f.Event, Runbook | None, ScopeText], Iterator[ScopeChange]]] = {
    f.AttemptIntended: _intended,
    f.StepEnded: _step_ended,
    f.Verifying: _verifying,
    f.SeverityRose: _severity_rose,
    f.RunEnded: _run_ended,
    f.Settled: _settled,
    f.Unlocked: _unlocked,
}
