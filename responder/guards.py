"""The gates before a change: each answers allow, wait, ask or deny, with its reason in numbers.

`LOCAL` need nothing from outside and come first, so that after a local refusal nothing is asked (design 5.5);
`INFORMED` judge the gathered answers. A brake passes cooldown, run limits and other runs' locks with a warning that
pages; hours too. It passes the pause only when a person started and confirmed it, and never a root cause that it
yields to, nor its parameter's floor and total.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pydantic import ValidationError

from responder.calendars import Calendar, State, state_of
from responder.cases import Case, Gate, allow, ask, deny, limit, wait
from responder.expressions import evaluate, explain, parse_expression
from responder.fuses import changes, relapse, storm, success
from responder.incident import Incident, Run
from responder.policies import SEVERITIES, severity_rank
from responder.recorded import AlertState, Answer, Cause, Effect, Mode, Observation, Trigger, Verdict
from responder.runbook import Hours, Runbook
from responder.scopes import (
    Draws,
    Lock,
    Opens,
    RunCount,
    ScopeText,
    lock_name,
    opens_name,
    parsed,
    pause_of,
    paused_what,
    pauses_of,
    runs_name,
)
from responder.timing import DAY, SECOND, format_duration
from responder.words import Approval

RECHECK = 5 * SECOND
"""How often a waiting run looks again."""

YIELD_RECHECK = 30 * SECOND
"""How often a run looks whether the root cause is gone."""

GATHERED_MAX_AGE = 30 * SECOND
"""Answers and preparations that came in longer ago are asked for again: the world may have changed."""

NOTHING_TO_DO = "says there is nothing to do"
"""How `only_if` refuses on good evidence, which wakes nobody."""


def pause(case: Case) -> Verdict:
    """Automation is switched on, for this runbook and these services too.

    What a person puts back passes, and the brake that a person started and confirmed.
    """
    reason = case.halted or _paused(case)
    if reason is None:
        return allow("pause", "automation is on")
    if case.by_person:
        return allow("pause", f"{reason}; a person asked for this")
    held = wait("pause", reason, case.now + RECHECK)
    return limit(case, held) if case.confirmed_brake else held


def _paused(case: Case) -> str | None:
    for name in pauses_of(case.run.runbook, case.services):
        body = pause_of(case.scope(name))
        if body is not None and body.holds(case.now):
            return f"{paused_what(name)} is paused by {body.actor}" + (f": {body.reason}" if body.reason else "")
    return None


def mode(case: Case) -> Verdict:
    """The ceiling still lets it act; a person may have lowered it since the run began."""
    if case.by_person or case.run.mode is Mode.OBSERVE:
        return allow("mode", f"mode {case.run.mode}")
    if case.ceiling is Mode.OBSERVE:
        return deny("mode", "by now nothing may be changed: mode observe")
    return allow("mode", f"mode {case.run.mode}, ceiling {case.ceiling}")


def env(case: Case) -> Verdict:
    """No alert of one env touches a service of another, however the configuration has changed since the load."""
    said = {e.labels["env"] for e in case.incident.firing if "env" in e.labels}
    for service in case.touched:
        others = said - {service.env}
        if service.env is not None and others:
            return deny("env", f"{service.name} is of env {service.env}, an alert of env {', '.join(sorted(others))}")
    named = {service.env for service in case.touched if service.env is not None}
    return allow("env", f"env {', '.join(sorted(named))}" if named else "of no env")


def finishing(run: Run, runbook: Runbook) -> bool:
    """It has begun a sequence that must not be left half done."""
    return runbook.finish_once_started and (run.acted or run.by_hand)


def under_way(run: Run, runbook: Runbook) -> bool:
    """A change may have been made: by us, or by hand in a sequence that must be finished, whose own first step may be
    what takes the numbers away (a fenced primary is no target any more). `only_if` is not asked again."""
    return run.may_have_changed or (runbook.finish_once_started and run.by_hand)


def closed_hours(hours: Hours, calendars: Mapping[str, Calendar], now: int) -> tuple[list[State], list[State]]:
    """The states of all calendars that `hours` names, and those that say: not now (none, when it may act)."""
    inside = [state_of(calendars[name], name, now) for name in hours.within]
    outside = [state_of(calendars[name], name, now) for name in hours.outside]
    shut = inside if inside and not any(state.open for state in inside) else []
    # A freeze that nobody knows of any more still counts: the data of an exchange have an end.
    return [*inside, *outside], [*shut, *(state for state in outside if state.open or not state.known)]


def calendar(case: Case) -> Verdict:
    """The hours in which the runbook may act. A sequence that must be finished is not left at their end."""
    hours = case.runbook.calendar
    if hours is None or case.run.takes_back or finishing(case.run, case.runbook):
        return allow("calendar", "at any hour")
    states, shut = closed_hours(hours, case.calendars, case.now)
    if not shut:
        return allow("calendar", "; ".join(state.why for state in states))
    why = "; ".join(state.why for state in shut)
    override = case.incident.override
    if hours.otherwise != "ask" and override is not None and override.lets(case.run, case.now):
        return Verdict(
            gate="calendar",
            answer=Answer.ALLOW,
            reason=f"{why}; {override.actor} lets this run act all the same: {override.note}",
            override=True,
        )
    changes = [state.until for state in shut if state.until is not None]
    if hours.otherwise == "ask":
        return limit(case, ask("calendar", why))
    if hours.otherwise == "deny" or not changes:
        return limit(case, deny("calendar", why))
    return limit(case, wait("calendar", why, min(changes)))


def yields_to(case: Case) -> Verdict:
    """No runbook of the root cause is at work: what it heals, this one need not."""
    # What has begun goes on: half a change is worse than one that comes late.
    for name in () if case.begun or finishing(case.run, case.runbook) else case.runbook.yields_to:
        body = parsed(Opens, case.scope(opens_name(name)))
        others = () if body is None else [i for i in body.incidents if i != case.incident.id]
        if others:
            reason = f"yields to {name}: incident {others[-1]} is open"
            return wait("yields_to", reason, case.now + YIELD_RECHECK)
    return allow("yields_to", "no incident of a root cause is open")


def cooldown(case: Case) -> Verdict:
    """Enough time since the end of the last run of this runbook on this target."""
    span = case.runbook.limits.cooldown
    body = parsed(RunCount, case.scope(runs_name(case.run.runbook, case.run.target)))
    if span == 0 or case.begun or body is None or body.ended is None:
        return allow("cooldown", "no run lately")
    until = body.ended + span
    if until <= case.now:
        return allow("cooldown", f"the last run ended {format_duration(case.now - body.ended)} ago")
    left = format_duration(until - case.now)
    return limit(case, wait("cooldown", f"cooldown of {format_duration(span)}: {left} left", until))


def runs(case: Case) -> Verdict:
    """Not too many runs within the window."""
    body = parsed(RunCount, case.scope(runs_name(case.run.runbook, case.run.target)))
    rate = case.runbook.limits.runs
    if rate is None or case.begun:
        return allow("runs", "no limit")
    others = () if body is None else body.besides(case.run.reserved_at)
    count = sum(1 for t in others if t > case.now - rate.window)
    if count < rate.count:
        return allow("runs", f"{count} runs, limit {rate}")
    return limit(case, deny("runs", f"{count} runs already, limit {rate}"))


def ineffective(case: Case) -> Verdict:
    """The runbook has not proved useless here lately."""
    body = parsed(RunCount, case.scope(runs_name(case.run.runbook, case.run.target)))
    rate = case.runbook.limits.ineffective
    if rate is None or case.begun:
        return allow("ineffective", "no limit")
    count = 0 if body is None else sum(1 for t in body.ineffective if t > case.now - rate.window)
    if count < rate.count:
        return allow("ineffective", f"{count} ineffective runs, limit {rate}")
    return limit(case, deny("ineffective", f"{count} runs did not help, limit {rate}"))


def lock(case: Case) -> Verdict:
    """Nobody else is changing the target."""
    body = parsed(Lock, case.scope(lock_name(case.run.target)))
    others = () if body is None else body.without(case.incident.id, case.run.number)
    if not others:
        return allow("lock", f"{case.run.target} is free")
    if superseded(case.incident, case.run, case.scope):
        names = ", ".join(f"run {held.run} of incident {held.incident} ({held.severity})" for held in others)
        return allow(
            "lock", f"{case.run.target} is only being verified by {names}: {case.incident.severity} goes first"
        )
    other = next((held for held in others if held.unknown), others[0])
    holder = f"run {other.run} of incident {other.incident}"
    if other.unknown:
        cure = f"settle it or unlock {case.run.target}"
        return limit(
            case, deny("lock", f"{case.run.target} is locked: {holder} may or may not have changed it; {cure}")
        )
    return limit(case, wait("lock", f"{case.run.target} is locked by {holder}", case.now + RECHECK))


def superseded(incident: Incident, run: Run, scope: ScopeText) -> tuple[Lock, ...]:
    """Whose runs hold this one's target only to verify it, all of them for a lower severity than this one's: its
    change ends them. Nobody, where anybody else holds it too. Only a severity that is known is higher than another, and
    what is taken back never goes over what came after it (docs/adr/0022)."""
    body = parsed(Lock, scope(lock_name(run.target)))
    others = () if body is None else body.without(incident.id, run.number)
    if run.takes_back or incident.severity not in SEVERITIES:
        return ()
    rank = severity_rank(incident.severity)
    yielding = all(held.verifying and not held.unknown and severity_rank(held.severity) < rank for held in others)
    return others if yielding else ()


def asks_alerts(incident: Incident, run: Run, runbook: Runbook) -> bool:
    """Whether the Alertmanagers are asked again before a change of this run.

    Only where an alert started it, and it may still be left: what a person, a schedule or a promise began, what takes
    something back and what must be finished goes on whatever an alert does.
    """
    by_alert = run.cause in (Cause.ALERT, Cause.RELAPSE) and incident.trigger is Trigger.ALERT
    return by_alert and incident.live and bool(incident.listed) and not finishing(run, runbook)


def alerts(case: Case) -> Verdict:
    """Something still calls for it: an alert that fires in Alertmanager and is not silenced there.

    A silence is a person's word, as a pause is, and not among what a brake passes (design 3): it holds a brake back
    too, and then people are woken. What nobody can tell, because an Alertmanager is down or has just started, holds
    nothing back. An alert that only another one keeps from being told does fire.
    """
    seen = case.run.alerts
    if seen is None or not asks_alerts(case.incident, case.run, case.runbook):
        return allow("alerts", "not asked for")
    if seen.nobody:
        return allow("alerts", seen.nobody)
    views = {view.fingerprint: view for view in seen.others}
    # One that began after the question was told a moment ago.
    listed = [views.get(e.fingerprint) if e.since <= seen.observed_at else None for e in case.incident.listed]
    counts = Counter(AlertState.FIRING if view is None else view.state for view in listed)
    firing = counts[AlertState.FIRING] + counts[AlertState.INHIBITED]
    if firing:
        return allow("alerts", f"{firing} of {len(listed)} fire in Alertmanager")
    why = "; ".join(dict.fromkeys(view.why for view in listed if view is not None and view.why))
    unclear = counts[AlertState.UNCLEAR]
    if unclear:
        reason = f"nobody can say whether {unclear} of {len(listed)} alerts still fire: {why}"
        warn = not case.brake and not case.only_reads
        return Verdict(gate="alerts", answer=Answer.ALLOW, reason=reason, warn=warn)
    return deny("alerts", _not_called_for(len(listed), counts[AlertState.SILENCED], why))


def _not_called_for(count: int, silenced: int, why: str) -> str:
    said = [f"{silenced} of {count} alerts are silenced: {why}"] if silenced else []
    if silenced < count:
        said.append(f"Alertmanager does not list {count - silenced} of {count} alerts any more")
    return "; ".join(said)


def only_if(case: Case) -> Verdict:
    """`only_if` holds on an answer that is fresh enough."""
    given = case.runbook.only_if
    if given is None or case.run.takes_back or under_way(case.run, case.runbook):
        return allow("only_if", "not asked for")
    seen = case.run.observations.get(given.check)
    max_age = case.runbook.checks[given.check].max_age
    missing = why_missing(seen, max_age, case.now)
    if missing is not None or seen is None:
        reason = f"check {given.check}: {missing}"
        if given.if_missing == "act_and_page":
            return Verdict(gate="only_if", answer=Answer.ALLOW, reason=f"{reason}; acts and pages", warn=True)
        return deny("only_if", f"{reason}; acts only on evidence")
    values = {"value": seen.value}
    expression = parse_expression(given.expect)
    told = explain(expression, values)
    if evaluate(expression, values).holds:
        return allow("only_if", f"check {given.check}: {told}")
    return deny("only_if", f"check {given.check} {NOTHING_TO_DO}: {told} is false")


def why_missing(seen: Observation | None, max_age: int, now: int) -> str | None:
    """Why an observation may not be used, or None. A sample from the future counts as fresh up to its own max_age."""
    if seen is None:
        return "was not asked"
    if seen.missing:
        return seen.error or "no value"
    at = seen.observed_at if seen.observed_at is not None else seen.asked_at
    if now - at > max_age:
        return f"its sample is {format_duration(now - at)} old, allowed are {format_duration(max_age)}"
    if at - now > max_age:
        return f"its sample is {format_duration(at - now)} in the future: check the clocks"
    return None


def budget(case: Case) -> Verdict:
    """What the plan takes off its parameters stays within their totals a day; brakes too."""
    if case.plan is None or case.plan.effect is Effect.READ:
        return allow("budget", "takes nothing")
    for scope, amount in case.plan.draws.items():
        total = case.totals(scope)
        body = parsed(Draws, case.scope(scope)) or Draws()
        used = body.besides(case.incident.id, case.run.number, case.step.id).within(DAY, case.now)
        if total is not None and used + amount > total * (1 + 1e-9):
            name = scope.removeprefix("parameter:")
            numbers = f"{used:g} taken off in 24h, {amount:g} more would pass the total of {total:g}"
            return deny("budget", f"{name}: {numbers}")
    return allow("budget", "within its totals")


LOCAL: tuple[Gate, ...] = (
    pause,
    mode,
    env,
    cooldown,
    runs,
    ineffective,
    lock,
    storm,
    relapse,
    success,
    calendar,
    yields_to,
)
"""In this order; the order of the reasons that people see."""

INFORMED: tuple[Gate, ...] = (alerts, only_if, budget, changes)

LIMITS = frozenset({"cooldown", "runs", "ineffective", "lock", "storm", "relapse", "success", "calendar", "changes"})
"""The gates that a brake passes, and with it what only reads on the way to one."""


def judge(case: Case, gates: tuple[Gate, ...]) -> tuple[Verdict, ...]:
    """The verdicts up to and including the first that holds it back: later gates were not asked."""
    verdicts: list[Verdict] = []
    for gate in gates:
        verdicts.append(_asked(gate, case))
        if holds_back(verdicts[-1]):
            break
    return tuple(verdicts)


def _asked(gate: Gate, case: Case) -> Verdict:
    """A gate's verdict. One whose row in the store cannot be read refuses; where it is a limit, a brake passes it."""
    try:
        return gate(case)
    except ValidationError:
        reason = "what the store holds of it cannot be read; `responder status` names the row"
        refused = deny(gate.__name__, reason)
        return limit(case, refused) if refused.gate in LIMITS else refused


def holds_back(verdict: Verdict) -> bool:
    """It is not done now. What asks people goes on to the other gates: they are asked for what can be done."""
    return verdict.answer in (Answer.WAIT, Answer.DENY)


def wakes_nobody(run: Run, last: Verdict) -> bool:
    """There is nothing to do, or people have said that they know; a brake that a silence holds back is another thing.

    Whoever has to hear of it in time does by the policy's levels: the incident stays open.
    """
    if last.gate == "alerts":
        return not run.brake
    # What follows the colon may be a service's own words.
    return last.gate == "only_if" and last.reason.partition(": ")[0].endswith(NOTHING_TO_DO)


def same_gate(before: tuple[Verdict, ...], now: tuple[Verdict, ...]) -> bool:
    """The same gate holds it back, whatever the numbers say by now: told once is enough."""
    return bool(before) and (before[-1].gate, before[-1].answer) == (now[-1].gate, now[-1].answer)


def may_only_read(case: Case, local: tuple[Verdict, ...]) -> bool:
    """A limit holds it back, and whether it leads to a brake by reading only is not known before it is prepared.

    What waits for this gate already was prepared, and does change something.
    """
    waits = case.run.waits_until is not None and same_gate(case.run.verdicts, local)
    return case.before_brake and case.plan is None and local[-1].gate in LIMITS and not waits


def not_approved(asked: Approval) -> Verdict:
    """Why a change was not approved: who said no, or how few said yes in time."""
    if asked.denied is not None:
        said = f": {asked.denied.note}" if asked.denied.note else ""
        return deny("approval", f"denied by {asked.denied.actor}{said}")
    within = format_duration(asked.until - asked.asked_at)
    who = "nobody" if not asked.approved else f"only {' and '.join(p.actor for p in asked.approved)}"
    return deny("approval", f"{who} with the role {asked.role} approved within {within}; {asked.people} must")
