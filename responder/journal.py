"""Folding a journal: `apply` adds one event to an incident's state.

Pure and total: a fact that does not fit the state (a run that is no longer remembered) changes nothing but the sequence
number, so that an old journal always folds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from responder import facts as f
from responder.incident import EPISODES_KEPT, RUNS_KEPT, Attempt, Episode, Incident, MachineTimer, Run, StepState
from responder.people_folds import PEOPLE, copy, ladder_anew, urgent
from responder.recorded import Answer, Cause, Phase, Result, StepStatus, Trigger
from responder.words import Approval, Person


def opened(event: f.Event) -> Incident:
    """The state after the first event of a journal. Raises TypeError when that event is not `Opened`."""
    fact = event.fact
    if not isinstance(fact, f.Opened):
        raise TypeError(f"a journal begins with 'opened', not with '{fact.kind}'")
    given = fact.model_dump(exclude={"kind"})
    return Incident(**given, opened_at=event.at, ladder_from=event.at, clock_from=event.at, seq=event.seq)


def apply(incident: Incident, event: f.Event) -> Incident:
    """The state after one more event. Total: a fact without a rule of its own only moves the sequence number."""
    fold = _FOLDS.get(type(event.fact))
    after = incident if fold is None else fold(incident, event.fact, event)
    return cast(Incident, copy(after, seq=event.seq))


def fold(events: list[f.Event]) -> Incident:
    """Fold a whole journal. Raises TypeError when it does not begin with `Opened`, ValueError when it is empty."""
    if not events:
        raise ValueError("an empty journal has no state")
    state = opened(events[0])
    for event in events[1:]:
        state = apply(state, event)
    return state


def _with_run(incident: Incident, number: int, change: Callable[[Run], Run]) -> Incident:
    runs = tuple(change(r) if r.number == number else r for r in incident.runs)
    return cast(Incident, copy(incident, runs=runs))


def _with_step(run: Run, step_id: str, **changes: Any) -> Run:
    steps = tuple(copy(s, **changes) if s.id == step_id else s for s in run.steps)
    return cast(Run, copy(run, steps=steps, rounds=0))


def _with_attempt(incident: Incident, attempt_id: str, **changes: Any) -> Incident:
    def change(run: Run) -> Run:
        attempts = tuple(copy(a, **changes) if a.id == attempt_id else a for a in run.attempts)
        return cast(Run, copy(run, attempts=attempts))

    found = incident.attempt(attempt_id)
    return incident if found is None else _with_run(incident, found[0].number, change)


def _alert_fired(incident: Incident, fact: f.AlertFired, event: f.Event) -> Incident:
    episode = Episode(
        fingerprint=fact.fingerprint,
        labels=fact.labels,
        annotations=fact.annotations,
        severity=fact.severity,
        firing=True,
        since=event.at,
        generator_url=fact.generator_url,
        elsewhere=fact.elsewhere,
    )
    run = incident.run
    after = copy(incident, episodes={**incident.episodes, fact.fingerprint: episode})
    if not fact.joined or run is None:
        return cast(Incident, after)
    if run.active and run.phase is Phase.VERIFYING:
        # What held for the others must hold for the newcomer too: verification starts again (design 5.2).
        return _with_run(after, run.number, lambda r: copy(r, verify_from=event.at, held_from=None))
    return cast(Incident, after if run.active else copy(after, recheck=True, rejoined=True))


def _alert_resolved(incident: Incident, fact: f.AlertResolved, event: f.Event) -> Incident:
    episode = incident.episodes.get(fact.fingerprint)
    if episode is None:
        return incident
    ended = copy(episode, firing=False, ended=event.at, silenced="")
    episodes = _remembered({**incident.episodes, fact.fingerprint: ended})
    return cast(Incident, copy(incident, episodes=episodes, recheck=True))


def _silenced(incident: Incident, fingerprints: tuple[str, ...], why: str) -> Incident:
    known = [mark for mark in fingerprints if mark in incident.episodes]
    episodes = {mark: copy(incident.episodes[mark], silenced=why) for mark in known}
    return cast(Incident, copy(incident, episodes={**incident.episodes, **episodes}))


def _alerts_unsilenced(incident: Incident, fact: f.AlertsUnsilenced, event: f.Event) -> Incident:
    """What a silence had refused is called for again, as if the alerts had just begun to fire."""
    after, run = _silenced(incident, fact.fingerprints, ""), incident.run
    last = None if run is None or run.active or not run.verdicts else run.verdicts[-1]
    refused = last is not None and (last.gate, last.answer) == ("alerts", Answer.DENY)
    return cast(Incident, copy(after, recheck=True, rejoined=True)) if refused else after


def _remembered(episodes: dict[str, Episode]) -> dict[str, Episode]:
    """Without the oldest of those that ended long ago: alerts that come and go must not make the state grow."""
    over = [e for e in episodes.values() if not e.firing]
    if len(over) <= EPISODES_KEPT:
        return episodes
    oldest = min(over, key=lambda e: e.ended or 0)
    return {k: e for k, e in episodes.items() if e is not oldest}


def _severity_rose(incident: Incident, fact: f.SeverityRose, event: f.Event) -> Incident:
    return cast(
        Incident,
        copy(
            incident,
            severity=fact.severity,
            policy=fact.policy,
            **ladder_anew(incident, event),
            **_clock_anew(incident, event),
        ),
    )


def _schedule_due(incident: Incident, fact: f.ScheduleDue, event: f.Event) -> Incident:
    anew = _stands_for_itself(incident, event)
    rules = {"rules_hash": fact.rules_hash, "policy": fact.policy}
    return cast(Incident, copy(incident, rejoined=False, recheck=False, **anew, **rules))


def _stands_for_itself(incident: Incident, event: f.Event) -> dict[str, Any]:
    """Each time for itself: what was wrong with the last one is told again when it is still wrong."""
    told = {"urgent": None, "urgent_told": incident.urgent_number, "result": None}
    return {**told, **ladder_anew(incident, event)}


def _clock_anew(incident: Incident, event: f.Event) -> dict[str, Any]:
    return {"clock_from": event.at, "clock_round": incident.clock_round + 1}


def _problem_found(incident: Incident, fact: f.ProblemFound, event: f.Event) -> Incident:
    after = cast(
        Incident, copy(incident, problems=(*incident.problems, fact.problem), blocked=incident.blocked or fact.blocks)
    )
    return urgent(after, fact.problem) if fact.urgent else after


def _run_started(incident: Incident, fact: f.RunStarted, event: f.Event) -> Incident:
    run = Run(
        number=fact.number,
        runbook=fact.runbook,
        rules_hash=fact.rules_hash,
        target=fact.target,
        cause=fact.cause,
        mode=fact.mode,
        inputs=fact.inputs,
        started_at=event.at,
        actor=event.actor,
        brake=fact.brake,
        restores=fact.restores,
        reason=fact.reason,
        confirmed=tuple(v.gate for v in fact.confirmed),
        steps=tuple(StepState(id=s) for s in fact.steps),
    )
    asked = fact.cause is Cause.PERSON and bool(incident.runs)
    anew = {**_stands_for_itself(incident, event), **_clock_anew(incident, event)} if asked else {}
    runs = (*incident.runs, run)[-RUNS_KEPT:]
    after = cast(Incident, copy(incident, runs=runs, recheck=False, rejoined=False, **anew))
    return after if fact.machine is None else _machine(after, fact.machine, starts=None)


def _gathered(incident: Incident, fact: f.Gathered, event: f.Event) -> Incident:
    def change(run: Run) -> Run:
        seen = {**run.observations, **{o.check: o for o in fact.observations}}
        changes: dict[str, Any] = {"observations": seen}
        changes["arrived"] = {**run.arrived, **{o.check: event.at for o in fact.observations}}
        if fact.alerts is not None:
            changes["alerts"] = fact.alerts
        if not run.acted and not run.by_hand:
            changes["before"] = {**run.before, **{o.check: o for o in fact.observations}}
        if fact.step is not None:
            changes |= {"plan": fact.plan, "plan_step": fact.step, "planned_at": event.at, "waits_until": None}
        if run.phase is Phase.ACTING and run.waits_until is None:
            changes["rounds"] = run.rounds + 1
        if run.phase is Phase.VERIFYING:
            held = run.held_from if run.held_from is not None and not fact.anew else event.at
            changes |= {"verify_from": event.at} if fact.anew else {}
            changes |= {"held_from": held if fact.holds else None, "polled_at": event.at}
        return cast(Run, copy(run, **changes))

    return _with_run(incident, fact.run, change)


def _attempt_intended(incident: Incident, fact: f.AttemptIntended, event: f.Event) -> Incident:
    attempt = Attempt(
        id=fact.attempt,
        step=fact.step,
        number=fact.number,
        action=fact.action,
        plan=fact.plan,
        key=fact.key,
        intended_at=event.at,
        deadline=fact.deadline,
        epoch=fact.epoch,
    )

    def change(run: Run) -> Run:
        started = _with_step(run, fact.step, status=StepStatus.RUNNING, retry_at=None, why="")
        spent = {"plan": None, "plan_step": None, "waits_until": None, "verdicts": fact.verdicts}
        return cast(Run, copy(started, attempts=(*run.attempts, attempt), **spent))

    after = _with_run(incident, fact.run, change)
    if after.override is not None and any(v.override for v in fact.verdicts):
        after = cast(Incident, copy(after, override=copy(after.override, run=fact.run)))
    confirmed = next((r.confirmed for r in after.runs if r.number == fact.run), ())
    passed = "; ".join(v.reason for v in fact.verdicts if v.warn and v.gate not in confirmed)
    return urgent(after, passed) if passed else after


def _attempt_ended(incident: Incident, fact: f.AttemptEnded, event: f.Event) -> Incident:
    ended = {"outcome": fact.outcome, "detail": fact.detail, "output": fact.output, "ended_at": event.at}
    after = _with_attempt(incident, fact.attempt, **ended, held_back=fact.held_back)
    found = after.attempt(fact.attempt)
    if found is None or fact.retry_at is None:
        return after
    run, attempt = found
    seen = fact.not_yet
    why = "" if seen is None else f"not yet, tried {seen.tried} of {seen.of}: {seen.why}"
    return _with_run(after, run.number, lambda r: _with_step(r, attempt.step, retry_at=fact.retry_at, why=why))


def _step_ended(incident: Incident, fact: f.StepEnded, event: f.Event) -> Incident:
    after = _with_run(incident, fact.run, lambda r: _with_step(r, fact.step, status=fact.status, why=fact.why))
    return urgent(after, fact.why) if fact.status is StepStatus.UNKNOWN else after


def _run_ended(incident: Incident, fact: f.RunEnded, event: f.Event) -> Incident:
    def change(run: Run) -> Run:
        said = {"result": fact.result, "why": fact.why, "superseded": fact.superseded}
        ended = {"ended_at": event.at, "ended_seq": event.seq}
        return cast(Run, copy(run, phase=Phase.ENDED, waits_until=None, **ended, **said))

    after = _with_run(incident, fact.run, change)
    holds = fact.result in (Result.FIXED, Result.CONTAINED)
    ended = next((r for r in after.runs if r.number == fact.run), None)
    if ended is not None and ended.takes_back:
        return after if holds else urgent(after, f"put back: {fact.result.value}: {fact.why}")
    # A promise that looked while this run was verified looks again, now that it has ended.
    machine = {k: m if m.fired else copy(m, gathered=False) for k, m in after.machine.items()}
    changes = {"result": fact.result, "watch_holds": fact.result is Result.FIXED, "machine": machine}
    after = cast(Incident, copy(after, **changes))
    if holds or fact.result in (Result.CANCELLED, Result.OBSERVED):
        return after
    if incident.trigger is not Trigger.ALERT:
        # Who acknowledged the run while it went on has not seen how it ended.
        after = cast(Incident, copy(after, acknowledged=None, snoozed=None, still_since=None))
    return urgent(after, f"{fact.result.value}: {fact.why}")


def _relapsed(incident: Incident, fact: f.Relapsed, event: f.Event) -> Incident:
    anew: dict[str, Any] = {"result": None, "watch_holds": False, "recheck": False, "rejoined": False}
    if fact.restarts:
        anew |= _clock_anew(incident, event)
    if incident.result is Result.FIXED:
        # Only a fix had stopped the climb. Where it goes on, newcomers must not put the next level off again and again.
        # Who had acknowledged it had it until it was fixed.
        anew |= ladder_anew(incident, event)
        anew |= {"urgent": None, "urgent_told": incident.urgent_number}
    return cast(Incident, copy(incident, **anew))


def _machine(incident: Incident, key: str, **changes: Any) -> Incident:
    timer = copy(incident.machine.get(key, MachineTimer()), **changes)
    return cast(Incident, copy(incident, machine={**incident.machine, key: timer}))


def _countdown_held(incident: Incident, fact: f.CountdownHeld, event: f.Event) -> Incident:
    key = f"{fact.round}:{fact.index}"
    holds = incident.machine.get(key, MachineTimer()).holds + 1
    return _machine(incident, key, held_until=fact.until, gathered=False, holds=holds)


def _machine_gathered(incident: Incident, fact: f.MachineGathered, event: f.Event) -> Incident:
    timer = incident.machine.get(f"{fact.round}:{fact.index}", MachineTimer())
    # What was read before a person put it off is old when it comes.
    held = timer.held_until is not None and event.at < timer.held_until
    after = incident if held else _machine(incident, f"{fact.round}:{fact.index}", gathered=True)
    return cast(Incident, copy(after, watch=fact.observation, watch_holds=fact.holds))


def _machine_fired(incident: Incident, fact: f.MachineFired, event: f.Event) -> Incident:
    after = _machine(incident, f"{fact.round}:{fact.index}", fired=True, held=fact.held, starts=fact.runbook)
    if not fact.good or after.active_run is not None:
        return after
    # Good by itself or by people: from here on it counts as fixed, and may relapse.
    return cast(Incident, copy(after, result=Result.FIXED))


def _approval_asked(run: Run, fact: f.ApprovalAsked, event: f.Event) -> Run:
    asked = {"step": fact.step, "plan": fact.plan, "preview": fact.preview, "role": fact.role, "people": fact.people}
    approval = Approval(**asked, asked_at=event.at, until=fact.until, why=fact.why, parts=fact.parts)
    return _with_step(copy(run, approval=approval, waits_until=None), fact.step, status=StepStatus.APPROVAL)


def _answered(run: Run, fact: f.Approved | f.Denied, event: f.Event) -> Run:
    """An answer counts for the plan that it was given to and for no other."""
    asked = run.approval
    if asked is None or (asked.step, asked.plan) != (fact.step, fact.plan):
        return run
    person = Person(actor=event.actor, at=event.at, note=fact.note, seq=event.seq)
    if isinstance(fact, f.Denied):
        return cast(Run, copy(run, approval=copy(asked, denied=person)))
    return cast(Run, copy(run, approval=copy(asked, approved=(*asked.approved, person))))


def _step_failed(incident: Incident, fact: f.StepFailed, event: f.Event) -> Incident:
    def change(run: Run) -> Run:
        tries = run.step(fact.step).tries + 1
        cleared = copy(run, plan=None, plan_step=None)
        if fact.retry_at is not None:
            return _with_step(cleared, fact.step, why=fact.why, retry_at=fact.retry_at, tries=tries)
        return _with_step(cleared, fact.step, status=StepStatus.FAILED, why=fact.why, tries=tries)

    return _with_run(incident, fact.run, change)


def _refused(incident: Incident, fact: f.Refused, event: f.Event) -> Incident:
    after = _with_run(incident, fact.run, lambda r: copy(r, verdicts=fact.verdicts))
    reasons = "; ".join(v.reason for v in fact.verdicts if v.answer is Answer.DENY)
    return urgent(after, f"refused: {reasons}") if fact.urgent else after


def _waiting(incident: Incident, fact: f.Waiting, event: f.Event) -> Incident:
    return _with_run(incident, fact.run, lambda r: copy(r, waits_until=fact.until, verdicts=fact.verdicts, rounds=0))


def _settled(incident: Incident, fact: f.Settled, event: f.Event) -> Incident:
    """What was sent again with the same key is settled with it; the step is known when each of its attempts is."""
    found = incident.attempt(fact.attempt)
    if found is None or not found[1].doubtful:
        return incident
    step, key = found[1].step, found[1].key

    def change(run: Run) -> Run:
        said = {"settled": True, "settled_applied": fact.applied, "probe_detail": fact.reason}
        same = {a.id for a in run.attempts_of(step) if a.doubtful and a.key == key}
        after = cast(Run, copy(run, attempts=tuple(copy(a, **said) if a.id in same else a for a in run.attempts)))
        tried = after.attempts_of(step)
        if run.step(step).status is not StepStatus.UNKNOWN or any(a.doubtful for a in tried):
            return after
        # The question is answered: the run does not say any more that nobody knows.
        became = StepStatus.DONE if any(a.happened for a in tried) else StepStatus.FAILED
        return _with_step(after, step, status=became, why=f"settled: {fact.reason}")

    return _with_run(incident, found[0].number, change)


def _probed(incident: Incident, fact: f.Probed, event: f.Event) -> Incident:
    found = incident.attempt(fact.attempt)
    count = found[1].probes + 1 if found else 1
    changes = {"probe": fact.answer, "probe_detail": fact.detail, "probes": count, "probed_at": event.at}
    return _with_attempt(incident, fact.attempt, **changes)


def _verifying(incident: Incident, fact: f.Verifying, event: f.Event) -> Incident:
    return _with_run(incident, fact.run, lambda r: copy(r, phase=Phase.VERIFYING, verify_from=event.at))


_FOLDS: dict[type[Any], Callable[[Incident, Any, f.Event], Incident]] = {
    **PEOPLE,
    f.AlertFired: _alert_fired,
    f.AlertResolved: _alert_resolved,
    f.AlertsSilenced: lambda i, x, e: _silenced(i, x.fingerprints, x.why),
    f.AlertsUnsilenced: _alerts_unsilenced,
    f.SeverityRose: _severity_rose,
    f.ProblemFound: _problem_found,
    f.ScheduleDue: _schedule_due,
    f.RunStarted: _run_started,
    f.Gathered: _gathered,
    f.EvidenceGathered: lambda i, x, e: _with_run(i, x.run, lambda r: copy(r, evidence=x.items)),
    f.StepSkipped: lambda i, x, e: _with_run(
        i, x.run, lambda r: _with_step(r, x.step, status=StepStatus.SKIPPED, why=x.why)
    ),
    f.StepFailed: _step_failed,
    f.Waiting: _waiting,
    f.Refused: _refused,
    f.Previewed: lambda i, x, e: _with_run(
        i,
        x.run,
        lambda r: _with_step(copy(r, plan=None, plan_step=None), x.step, status=StepStatus.SKIPPED, why=x.preview),
    ),
    f.ManualAsked: lambda i, x, e: _with_run(i, x.run, lambda r: _with_step(r, x.step, status=StepStatus.ASKED)),
    f.ApprovalAsked: lambda i, x, e: _with_run(i, x.run, lambda r: _approval_asked(r, x, e)),
    f.Approved: lambda i, x, e: _with_run(i, x.run, lambda r: _answered(r, x, e)),
    f.Denied: lambda i, x, e: _with_run(i, x.run, lambda r: _answered(r, x, e)),
    f.RunStopped: lambda i, x, e: _with_run(
        i, x.run, lambda r: copy(r, stopped=Person(actor=e.actor, at=e.at, note=x.note, seq=e.seq))
    ),
    f.ManualDone: lambda i, x, e: _with_run(
        i, x.run, lambda r: _with_step(copy(r, by_hand=True), x.step, status=StepStatus.DONE, why=x.note)
    ),
    f.AttemptIntended: _attempt_intended,
    f.AttemptEnded: _attempt_ended,
    f.Probed: _probed,
    f.StepEnded: _step_ended,
    f.Verifying: _verifying,
    f.RunEnded: _run_ended,
    f.Watched: lambda i, x, e: copy(i, watch=x.observation, watch_holds=x.holds, recheck=False),
    f.Relapsed: _relapsed,
    f.MachineAnnounced: lambda i, x, e: _machine(i, f"{x.round}:{x.index}", announced=e.at),
    f.MachineGathered: _machine_gathered,
    f.MachineFired: _machine_fired,
    f.CountdownHeld: _countdown_held,
    f.Settled: _settled,
    f.Closed: lambda i, x, e: copy(i, closed_at=e.at, closed_seq=e.seq, closed_why=x.why),
}
