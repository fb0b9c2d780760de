"""The gates that look at all runs together: they trip when automation does too much, or does not help any more.

A brake passes them with a warning that pages, and a run that has begun goes on: half a change is worse than one more.
What a person puts back, and what is taken back because it did harm, passes too (reliability.md S6, S7, S9, S10).
"""

from __future__ import annotations

from collections.abc import Sequence

from responder.automation import Success
from responder.cases import Case, allow, deny, limit, wait
from responder.recorded import Verdict
from responder.scopes import (
    OPENINGS,
    Draws,
    Openings,
    Results,
    RunCount,
    RunEnd,
    changes_name,
    env_of,
    parsed,
    results_name,
    runs_name,
)
from responder.timing import format_duration, format_time
from responder.written import Rate


def changes(case: Case) -> Verdict:
    """Not too many changes within an hour: of all runbooks, of this one, to a service. Reserved, never given back."""
    if case.only_reads or case.run.takes_back:
        return allow("changes", "changes nothing" if case.only_reads else "takes back a change")
    given, told = case.automation, []
    limits = [
        ("of all runbooks", "global", given.changes),
        (f"by {case.run.runbook}", f"runbook:{case.run.runbook}", given.changes_per_runbook),
        *((f"to {name}", f"service:{name}", given.changes_per_service) for name in case.services),
    ]
    for whose, key, rate in limits:
        if rate is None:
            continue
        count = _changes(case, changes_name(key), rate)
        if count >= rate.count:
            return limit(case, deny("changes", f"{count} changes {whose}, limit {rate}"))
        told.append(f"{count} {whose} of {rate}")
    return allow("changes", "; ".join(told) or "no limit")


def _changes(case: Case, name: str, rate: Rate) -> int:
    body = parsed(Draws, case.scope(name)) or Draws()
    return round(body.besides(case.incident.id, case.run.number, case.step.id).within(rate.window, case.now))


def storm(case: Case) -> Verdict:
    """Not very many incidents of its env at once: then the cause is elsewhere, and every runbook would act on a
    symptom. What is of no env waits for the storms of all."""
    given = case.automation.storm
    if given is None or case.begun or case.only_reads:
        return allow("storm", "not asked for")
    body = parsed(Openings, case.scope(OPENINGS)) or Openings()
    storms = body.storms(_envs(case), case.now)
    if not storms:
        return allow("storm", "no storm")
    env, until = max(storms.items(), key=lambda storm: storm[1])
    numbers = f"{given.incidents} incidents or more{f' of env {env}' if env else ''} began"
    calm = f"until there were fewer for {format_duration(given.calm)}"
    within = format_duration(given.within)
    return limit(case, wait("storm", f"{numbers} within {within}: people look for the cause, {calm}", until))


def _envs(case: Case) -> frozenset[str]:
    """The envs of the alerts that called for it; "" where one is of none, or a person started the run."""
    firing = [episode.labels for episode in case.incident.firing]
    return frozenset(env_of(labels) for labels in (case.incident.labels, *firing))


def relapse(case: Case) -> Verdict:
    """It has not come back again and again although it was fixed."""
    given = case.automation.relapse
    if given is None or case.begun or case.only_reads:
        return allow("relapse", "not asked for")
    body = parsed(RunCount, case.scope(runs_name(case.run.runbook, case.run.target))) or RunCount()
    soon = format_duration(given.within)
    if not body.relapsed(case.now, given.within):
        return allow("relapse", f"not fixed within the last {soon}")
    earlier = sum(
        1 for t in body.besides(case.run.reserved_at) if t > case.now - given.memory and body.relapsed(t, given.within)
    )
    most = f"{given.count} within {format_duration(given.memory)} are too many"
    told = f"relapse {earlier + 1} within {soon} of being fixed, {most}"
    return limit(case, deny("relapse", told)) if earlier + 1 >= given.count else allow("relapse", told)


def success(case: Case) -> Verdict:
    """Enough of the runbook's latest runs have helped; after a rest, one run is tried."""
    given = case.automation.success
    if given is None or case.begun or case.only_reads:
        return allow("success", "not asked for")
    body = parsed(Results, case.scope(results_name(case.run.runbook))) or Results()
    ends = _counted(body, given, case.now)
    told = f"{sum(e.good for e in ends)} of {len(ends)} runs of {case.run.runbook} helped"
    if not _poor(ends, given):
        return allow("success", told if ends else "no run lately")
    told = f"{told}, at least {given.share:.0%} must"
    again = ends[-1].at + given.rest
    if case.now < again:
        return limit(case, deny("success", f"{told}: left out until {format_time(again)[:19]}Z"))
    others = None if body.began == case.run.reserved_at else body.began
    if others is not None and case.now < others + given.rest:
        return limit(case, deny("success", f"{told}: one run is being tried since {format_time(others)[:19]}Z"))
    return allow("success", f"{told}: this run is tried")


def _counted(body: Results, given: Success, now: int) -> tuple[RunEnd, ...]:
    """The ends that still count: one that helped after the rest proves it again, and what was before is forgiven."""
    counted: list[RunEnd] = []
    for end in (e for e in body.ends if e.at > now - given.memory):
        tried = bool(counted) and _poor(counted, given) and end.at - counted[-1].at >= given.rest
        counted = [end] if tried and end.good else [*counted, end]
    return tuple(counted)


def _poor(ends: Sequence[RunEnd], given: Success) -> bool:
    return len(ends) >= given.runs and sum(end.good for end in ends) < given.share * len(ends)
