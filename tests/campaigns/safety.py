"""What no sequence of alerts, times, deaths, faults and people may lead to, judged from outside (reliability.md I4).

It reads journals, what arrived at the platform and what the runbooks say, and shares no code with the gates: limits are
counted anew from intents. What came first is told by the order of writing, for much comes in one microsecond. A brake
passes what the design says that it passes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from responder import facts as f
from responder.policies import SEVERITIES
from responder.recorded import Answer, Cause, Effect, Outcome, ProbeAnswer, Result, StepStatus
from responder.records import Sending
from responder.timing import DAY, MINUTE, SECOND
from responder.written import Rate
from tests.campaigns import listed, together, words
from tests.campaigns.intents import BACK, Change, Seen, alike
from tests.campaigns.services import KELLY
from tests.invariants import Case

PASSED_BY_BRAKES = frozenset(
    {"calendar", "cooldown", "runs", "ineffective", "lock", "changes", "storm", "relapse", "success"}
)


def judge_safety(seen: Seen) -> list[str]:
    """Every violation, as text; empty when all is well."""
    return [line for rule in RULES for line in rule(seen)]


# --- the parameter ----------------------------------------------------------------------------------------------------


def _parameter(seen: Seen) -> Iterator[str]:
    """Never past the budget of a day, never below the floor, never raised but by a person's word."""
    ours = [write for write in seen.writes if write.key]
    for write in ours:
        change = seen.by_key.get(write.key)
        if change is None:
            yield f"budget: nobody intended {write}"
        elif write.after > write.before and not (change.run.cause in BACK or write.after < _before(change)):
            yield f"raised: {change}: {write}"
        if write.after < seen.floor - 1e-9:
            yield f"floor: {write}"
    down = [w for w in ours if w.after < w.before]
    for last in down:
        spent = sum(w.before - w.after for w in down if last.at - DAY < w.at <= last.at)
        if spent > seen.total + 1e-9:
            yield f"budget: {spent:g} taken off {KELLY} within a day, {seen.total:g} are allowed"


def _before(change: Change) -> float:
    """What was found before: a value that somebody lowered meanwhile may come out higher, never above this one."""
    before = change.attempt.plan.before
    return before if isinstance(before, float | int) else 0.0


# --- limits -----------------------------------------------------------------------------------------------------------


def _runs(seen: Seen) -> Iterator[str]:
    """Cooldown, runs and useless runs of a runbook on a target."""
    for change in seen.changes:
        if change.brake or not change.first or change.run.cause in BACK:
            continue
        limits = change.runbook.limits
        ends = [end for end in seen.ends if end.place < change.place and alike(end.run, change.run)]
        for end in ends:
            if change.at < end.at + limits.cooldown:
                yield f"cooldown: {change} {(change.at - end.at) / SECOND:g} s after the last end"
        starts = [c.at for c in seen.starts if c.place < change.place and alike(c.run, change.run)]
        useless = [end.at for end in ends if end.result in (Result.INEFFECTIVE, Result.HARMFUL)]
        yield from _over(change, "runs", limits.runs, starts)
        yield from _over(change, "ineffective", limits.ineffective, useless)


def _over(change: Change, what: str, rate: Rate | None, times: list[int]) -> Iterator[str]:
    if rate is None:
        return
    count = sum(1 for at in times if change.at - rate.window < at <= change.at)
    if count >= rate.count:
        yield f"{what}: {change} though there were {count}, limit {rate}"


def _changes(seen: Seen) -> Iterator[str]:
    """Changes of all, of a runbook, to a service; a step that is tried again takes no more."""
    counted: dict[str, list[int]] = defaultdict(list)
    known: set[tuple[str, int, str]] = set()
    for change in seen.changes:
        step = (change.case.row.id, change.run.number, change.step.id)
        if step in known:
            continue
        known.add(step)
        for key, rate in _rates(seen, change):
            if not change.brake and change.run.cause not in BACK:
                yield from _over(change, f"changes {key}", rate, counted[key])
            counted[key].append(change.at)


def _rates(seen: Seen, change: Change) -> list[tuple[str, Rate | None]]:
    given = seen.automation
    return [
        ("global", given.changes),
        (change.run.runbook, given.changes_per_runbook),
        (f"service {change.service}", given.changes_per_service),
    ]


# --- one at a time ----------------------------------------------------------------------------------------------------


def _one_at_a_time(seen: Seen) -> Iterator[str]:
    """No two changing runs on a target, and none where nobody knows what happened, until a person says so."""
    for number, change in enumerate(seen.changes):
        if change.brake:
            continue
        for other in seen.changes[:number]:
            if other.run is change.run or other.run.target != change.run.target:
                continue
            # A brake may come second, over the lock of a run that goes on; nothing else may begin beside the brake.
            if (change.first or not other.brake) and _holds(seen, other, change.place):
                yield f"two at once: {change} while {other} goes on, or is unknown"


def _holds(seen: Seen, change: Change, place: int) -> bool:
    """Its run is under way at that place among all events, or left something unknown that nobody has settled."""
    run, case = change.run, change.case
    if _unlocked(seen, run.target, change.place, place):
        return False
    if not _over_by(seen, change, place):
        return True
    # A word about one names all that went out with its key: to the service these are one change.
    named = {e.fact.attempt for e in case.events if isinstance(e.fact, f.Settled) and seen.order[e.id] < place}
    settled = {a.key for a in run.attempts if a.id in named}
    unknown = {a.key for a in case.incident.unsettled} | {a.key for a in run.attempts if a.settled}
    return change.attempt.key in unknown - settled


def _over_by(seen: Seen, change: Change, place: int) -> bool:
    """Its run's end is written before the event of that place."""
    return any(
        isinstance(event.fact, f.RunEnded) and event.fact.run == change.run.number and seen.order[event.id] < place
        for event in change.case.events
    )


def _unlocked(seen: Seen, target: str, since: int, until: int) -> bool:
    return any(
        event.fact.target == target and since < seen.order[event.id] < until
        for case in seen.found.cases
        for event in case.events
        if isinstance(event.fact, f.Unlocked)
    )


def _superseded(seen: Seen) -> Iterator[str]:
    """A run that only verified ends for a higher severity alone, with its change, and undoes nothing after that."""
    cases = {case.row.id: case for case in seen.found.cases}
    begun = {(c.at, c.case.row.id, name): c for c in seen.changes for name in c.event.fact.supersedes}  # type: ignore[union-attr]
    ended = {
        (event.at, event.fact.superseded, case.row.id): event
        for case in cases.values()
        for event in case.events
        if isinstance(event.fact, f.RunEnded) and event.fact.superseded
    }
    yield from (f"superseded: {key} stands in one of two journals only" for key in begun.keys() ^ ended.keys())
    for key in begun.keys() & ended.keys():
        yield from (f"superseded: {begun[key]}: {said}" for said in _wrongly(begun[key], cases[key[2]], ended[key]))


def _wrongly(by: Change, case: Case, end: f.Event) -> Iterator[str]:
    assert isinstance(end.fact, f.RunEnded)
    before = [event.fact for event in case.events if event.seq < end.seq]
    number, mine = end.fact.run, _severity(by.case, by.event.seq)
    if mine is None or SEVERITIES.index(mine) <= SEVERITIES.index(_severity(case, end.seq) or SEVERITIES[-1]):
        yield f"{mine} over {_severity(case, end.seq)}"
    if by.run.cause in BACK:
        yield "what takes back goes over nothing"
    if not any(isinstance(fact, f.Verifying) and fact.run == number for fact in before):
        yield "it was not being verified"
    run = next(run for run in case.incident.runs if run.number == number)
    if run.target != by.run.target or run.cause is Cause.RESTORE:  # an undo is looked at like any other (docs/adr/0025)
        yield f"it was run {number} on {run.target}, because of {run.cause}"
    ends = {fact.attempt: fact.outcome for fact in before if isinstance(fact, f.AttemptEnded)}
    probed = {fact.attempt: fact.answer for fact in before if isinstance(fact, f.Probed)}
    for one in run.attempts:
        lost = ends.get(one.id, Outcome.UNKNOWN) is Outcome.UNKNOWN and one.plan.effect is not Effect.READ
        if one.id not in ends or (lost and probed.get(one.id, ProbeAnswer.UNCLEAR) is ProbeAnswer.UNCLEAR):
            yield f"nobody knows what became of {one.id}"
    undone = [r for r in case.incident.runs if r.cause is Cause.UNDO and r.restores in {a.id for a in run.attempts}]
    if end.fact.result is not Result.UNVERIFIED or undone:
        yield f"it ended {end.fact.result}, and was undone {len(undone)} times"


def _severity(case: Case, seq: int) -> str | None:
    """What it was worth then, None where nobody can say."""
    said: str | None = None
    for event in case.events:
        if event.seq < seq and isinstance(event.fact, f.Opened | f.SeverityRose):
            said = event.fact.severity
    return said if said in SEVERITIES else None


def _kept_waiting(seen: Seen) -> Iterator[str]:
    """What is more severe waits for no run that only verifies, and of which all is known."""
    for case in seen.found.cases:
        runs = {run.number: run for run in case.incident.runs}
        for event in case.events:
            if not isinstance(event.fact, f.Waiting) or event.fact.verdicts[-1].gate != "lock":
                continue
            run, mine, place = runs[event.fact.run], _severity(case, event.seq), seen.order[event.id]
            held = [
                c
                for c in seen.changes
                if c.run is not run and c.run.target == run.target and c.place < place and not _over_by(seen, c, place)
            ]
            if run.cause in BACK or mine is None or not held:
                continue
            if all(_yields(seen, change, place, SEVERITIES.index(mine)) for change in held):
                yield f"kept waiting: {case.row.id} ({mine}) for {held[0]}, which only verifies"


def _yields(seen: Seen, change: Change, place: int, rank: int) -> bool:
    before = [event for event in change.case.events if seen.order[event.id] < place]
    begun = any(isinstance(e.fact, f.Verifying) and e.fact.run == change.run.number for e in before)
    doubt = any(s.status is StepStatus.UNKNOWN for s in change.run.steps) or any(a.settled for a in change.run.attempts)
    # A lost answer stays a doubt, also where the same key was answered later (docs/adr/0022).
    clear = (ProbeAnswer.APPLIED, ProbeAnswer.NOT_APPLIED)
    doubt |= any(a.outcome is Outcome.UNKNOWN and a.probe not in clear for a in change.run.attempts)
    theirs = _severity(change.case, len(before) + 1) or SEVERITIES[-1]
    return begun and not doubt and SEVERITIES.index(theirs) < rank


def _unknowns(seen: Seen) -> Iterator[str]:
    """What may have happened is not told to have failed or to be left out, whatever a later attempt was answered."""
    for change in seen.changes:
        state, one = change.run.step(change.attempt.step), change.attempt
        later = [a for a in change.run.attempts_of(one.step) if a.number > one.number]
        lost = one.outcome is Outcome.UNKNOWN and one.probe is not ProbeAnswer.NOT_APPLIED and not one.settled
        if lost and not any(a.happened or a.settled for a in later) and state.status in _KNOWN:
            yield f"unknown: {change} may have happened, and its step is {state.status}: {state.why}"


_KNOWN = (StepStatus.FAILED, StepStatus.SKIPPED)


# --- brakes, machines, evidence ---------------------------------------------------------------------------------------


def _brakes(seen: Seen) -> Iterator[str]:
    """No limit, and no unknown of others, holds back what can only lower risk."""
    for case in seen.found.cases:
        runs = {run.number: run for run in case.incident.runs}
        for fact in (e.fact for e in case.events if isinstance(e.fact, f.Waiting | f.Refused)):
            run = runs[fact.run]
            runbook = seen.rules.runbooks[run.runbook]
            own = runbook.step(fact.step).brake
            last = fact.verdicts[-1]
            brake = (runbook.brake if own is None else own) and run.cause not in BACK
            if brake and last.gate in PASSED_BY_BRAKES and last.answer is not Answer.ALLOW:
                yield f"brake held back: {case.row.id} run {run.number}: {last.reason}"


def _machines(seen: Seen) -> Iterator[str]:
    """A machine's next step comes only after its countdown, and on evidence that it is not fixed."""
    for case in seen.found.cases:
        announced: dict[tuple[int, int], int] = {}
        gathered: dict[tuple[int, int], f.MachineGathered] = {}
        for event in case.events:
            fact = event.fact
            if isinstance(fact, f.MachineAnnounced):
                announced[fact.round, fact.index] = fact.at
            elif isinstance(fact, f.MachineGathered):
                gathered[fact.round, fact.index] = fact
            elif isinstance(fact, f.MachineFired) and fact.runbook is not None:
                key = (fact.round, fact.index)
                seen_then = gathered.get(key)
                if seen_then is None or seen_then.observation.missing or seen_then.holds:
                    yield f"machine: {case.row.id} starts {fact.runbook} on {seen_then}"
                countdown = seen.rules.runbooks[case.incident.runbook or ""].promises[fact.index][1].countdown
                if countdown and (key not in announced or event.at < announced[key]):
                    yield f"machine: {case.row.id} starts {fact.runbook} before its countdown is over"


def _evidence(seen: Seen) -> Iterator[str]:
    """The first change of a run comes on the evidence that `only_if` asks for, if it asks."""
    for change in seen.changes:
        given = change.runbook.only_if
        if given is None or not change.first or change.run.cause in BACK:
            continue
        got = [
            (e.at, o)
            for e in change.case.events
            if e.seq < change.event.seq and isinstance(e.fact, f.Gathered) and e.fact.run == change.run.number
            for o in e.fact.observations
            if o.check == given.check
        ]
        at, last = got[-1] if got else (0, None)
        missing = last is None or last.missing
        if missing and given.if_missing == "act_and_page":
            continue
        old = change.at - at > MINUTE
        if missing or old or last is None or not isinstance(last.value, float | int) or last.value <= 1:
            yield f"only_if: {change} on {last}"


# --- nobody is forgotten ----------------------------------------------------------------------------------------------


def _heard_of(seen: Seen) -> Iterator[str]:
    """An open incident was told to somebody, somebody has it, or something will come by itself."""
    for case in seen.found.cases:
        incident = case.incident
        if incident.closed or incident.somebody is not None or not incident.live:
            continue
        told = any(m.template == "page" and m.state is Sending.SENT for m in case.messages)
        comes = any(due.kind == "level" for due in incident.agenda) or incident.result is Result.FIXED
        if not told and not comes:
            yield f"unheard: {case.row.id} ({incident.runbook}) is open: {incident.status}, agenda {incident.agenda}"


def _promises(seen: Seen) -> Iterator[str]:
    """What `unless_fixed` promises comes, unless it was fixed, closed or taken over before."""
    over = f.TakenOver | f.Closed | f.Relapsed | f.SeverityRose
    for case in seen.found.cases:
        runbook = seen.rules.runbooks.get(case.incident.runbook or "")
        good = [e.at for e in case.events if isinstance(e.fact, f.RunEnded) and e.fact.result is Result.FIXED]
        ends = [*good, *(e.at for e in case.events if isinstance(e.fact, over)), seen.found.now - 3 * MINUTE]
        held = any(isinstance(e.fact, f.CountdownHeld) for e in case.events)
        fired = {(x.round, x.index) for x in case.facts(f.MachineFired)}
        for index, (after, _) in enumerate(runbook.promises if runbook is not None and not held else ()):
            if _due(case, index, case.incident.opened_at + after) < min(ends) and (0, index) not in fired:
                yield f"promise: {case.row.id}: nothing came of {after // SECOND} s"


def _due(case: Case, index: int, due: int) -> int:
    """A promise whose check is good when it comes due waits for the end of the run that is being verified then."""
    gathered = [e for e in case.events if isinstance(e.fact, f.MachineGathered) and e.fact.round == 0]
    looks = [(e.seq, e.fact.holds) for e in gathered if isinstance(e.fact, f.MachineGathered) and e.fact.index == index]
    if not looks or not looks[-1][1]:
        return due
    seq = looks[-1][0]
    verified = [e.fact.run for e in case.events if isinstance(e.fact, f.Verifying) and e.seq < seq]
    ends = [e for e in case.events if isinstance(e.fact, f.RunEnded) and e.fact.run in verified[-1:] and e.seq > seq]
    return max([due, *(event.at for event in ends)])


RULES: tuple[Callable[[Seen], Iterable[str]], ...] = (
    _parameter,
    _runs,
    _changes,
    _one_at_a_time,
    _superseded,
    _kept_waiting,
    _unknowns,
    words.pauses,
    words.after_a_pause,
    words.stopped,
    words.called_for,
    words.approvals,
    together.storm,
    together.relapse,
    together.success,
    together.yields,
    together.calendar,
    listed.asked,
    listed.refused,
    listed.ended,
    listed.unheard,
    _brakes,
    _machines,
    _evidence,
    _heard_of,
    _promises,
)
