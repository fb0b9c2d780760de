"""What must be true after every campaign, whatever was killed, lost or repeated (reliability.md 4, I1 to I8).

One checker for all of them: it reads the store through its public reads, compares with what arrived at the fakes, and
answers every violation as a line of text. It judges a quiet system: nothing under way, nothing due.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from responder import facts as f
from responder.incident import Attempt, Due, Incident, Run
from responder.journal import fold
from responder.recorded import Cause, Effect, Outcome, Result, StepStatus
from responder.records import IncidentRow, Lane, MessageRow, ScopeRow, Sending
from responder.scopes import Draws, InForce, Lock, RunCount, in_force_name, lock_name, parsed, runs_name
from responder.store import Store

ALWAYS = 2**62
"""A time after every lease and every timer (µs)."""
SLACK = 2_000_000
"""How much later than its deadline a request may arrive (µs): the grace of a lease."""


@dataclass(frozen=True)
class Call:
    """A request that arrived at a fake service. `key`: its Idempotency-Key; `applied`: it changed something."""

    method: str
    place: str
    key: str
    body: str
    at: int
    applied: bool


@dataclass(frozen=True)
class Sent:
    """A message that arrived. `kind`: root, thread, page or resolve; `id` is the row's."""

    destination: str
    kind: str
    key: str
    id: str
    at: int


@dataclass(frozen=True)
class Accepted:
    """A notification that was answered 200."""

    status: str
    fingerprints: tuple[str, ...]


@dataclass(frozen=True)
class Ledger:
    """What the outside saw. `totals`: scope of a parameter -> how much may be taken off it in a day.

    `paused`: times `(from, until)` in µs during which nothing may have been sent.
    """

    calls: tuple[Call, ...] = ()
    messages: tuple[Sent, ...] = ()
    accepted: tuple[Accepted, ...] = ()
    unexpected: tuple[str, ...] = ()
    totals: Mapping[str, float] = field(default_factory=dict)
    paused: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Case:
    """One incident as stored, with its journal and its messages."""

    row: IncidentRow
    events: tuple[f.Event, ...]
    messages: tuple[MessageRow, ...]

    @property
    def incident(self) -> Incident:
        """Its fold."""
        return self.row.fold

    def facts(self, kind: type[Any]) -> list[Any]:
        """The facts of one kind, in order."""
        return [e.fact for e in self.events if isinstance(e.fact, kind)]


@dataclass(frozen=True)
class Found:
    """Everything that is judged."""

    cases: tuple[Case, ...]
    scopes: Mapping[str, ScopeRow]
    timers: frozenset[tuple[str, Due]]
    ledger: Ledger
    now: int
    order: Mapping[str, int] = field(default_factory=dict)
    """Event -> its place among all events, where the store can tell: a database knows it within one journal only."""

    def before(self, one: f.Event, other: f.Event) -> bool:
        """Whether one was written before the other. Where times alone tell, not in the same microsecond."""
        if self.order:
            return self.order[one.id] < self.order[other.id]
        return one.at < other.at

    def attempts(self) -> Iterator[tuple[Case, Run, Attempt]]:
        """Every attempt of every run."""
        for case in self.cases:
            for run in case.incident.runs:
                for attempt in run.attempts:
                    yield case, run, attempt


async def read_found(store: Store, ledger: Ledger) -> Found:
    """Read everything that is judged."""
    rows = await store.incidents(limit=100_000)
    cases = [
        Case(row, tuple(await store.events(row.id)), tuple(await store.messages_of(row.id))) for row in reversed(rows)
    ]
    timers = await store.due_timers(ALWAYS, "", 1_000_000)
    scopes = {s.name: s for s in await store.scopes()}
    return Found(tuple(cases), scopes, frozenset(timers), ledger, store.now())


async def violations(store: Store, ledger: Ledger) -> list[str]:
    """Every violation, as text; empty when all is well."""
    return judge(await read_found(store, ledger))


def judge(found: Found) -> list[str]:
    """The same, over what was read."""
    return [line for rule in RULES for line in rule(found)]


# --- I1: no alert is lost, none is answered twice ---------------------------------------------------------------------


def _alerts(found: Found) -> Iterator[str]:
    told: Counter[str] = Counter()
    for case in found.cases:
        told.update(fact.fingerprint for fact in case.facts(f.AlertFired))
    for accepted in found.ledger.accepted:
        for fingerprint in accepted.fingerprints:
            if accepted.status == "firing" and not told[fingerprint]:
                yield f"I1: alert {fingerprint} was answered 200 and is in no incident"
            if accepted.status == "resolved" and _still_firing(found, fingerprint):
                yield f"I1: the end of alert {fingerprint} was answered 200 and it still fires"
    firing = Counter(e.fingerprint for case in found.cases for e in case.incident.firing)
    yield from (f"I1: alert {name} fires in {count} incidents" for name, count in firing.items() if count > 1)
    keys = Counter(case.row.open_key for case in found.cases if case.row.open_key is not None)
    yield from (f"I1: {count} open incidents of {key!r}" for key, count in keys.items() if count > 1)


def _still_firing(found: Found, fingerprint: str) -> bool:
    """As far as notifications go: what an Alertmanager lists may have begun anew after the end that was told."""
    return any(
        episode.fingerprint == fingerprint and not _last_fired(case, fingerprint).found
        for case in found.cases
        for episode in case.incident.firing
    )


def _last_fired(case: Case, fingerprint: str) -> f.AlertFired:
    fired: list[f.AlertFired] = [fact for fact in case.facts(f.AlertFired) if fact.fingerprint == fingerprint]
    return fired[-1]


def _one_run_per_episode(found: Found) -> Iterator[str]:
    for case in found.cases:
        causes = Counter(run.cause for run in case.facts(f.RunStarted))
        joined = len([x for x in case.facts(f.AlertFired) if not x.joined])
        if case.incident.episodes and joined != 1:
            yield f"I1: incident {case.row.id} was opened by {joined} alerts"
        if causes[Cause.ALERT] > 1 + len(case.facts(f.CalendarOverridden)):
            yield f"I2: incident {case.row.id} answered its alert with {causes[Cause.ALERT]} runs"
        if causes[Cause.RELAPSE] > len(case.facts(f.Relapsed)):
            yield f"I2: incident {case.row.id} has more runs after a relapse than relapses"
        machines = [x.runbook for x in case.facts(f.MachineFired) if x.runbook is not None]
        if causes[Cause.UNLESS_FIXED] > len(machines):
            yield f"I2: incident {case.row.id}: more machine runs than machine timers"


# --- I2: what was done ------------------------------------------------------------------------------------------------


def _effects(found: Found) -> Iterator[str]:
    keyed: dict[str, list[Call]] = defaultdict(list)
    for call in found.ledger.calls:
        if call.method not in ("GET", "HEAD"):
            keyed[call.key].append(call)
    steps: dict[tuple[str, int, str], list[Attempt]] = defaultdict(list)
    for case, run, attempt in found.attempts():
        steps[case.row.id, run.number, attempt.step].append(attempt)
    known = {attempt.key for attempts in steps.values() for attempt in attempts}
    yield from (
        f"I2: a change without an intent: {call}" for key, calls in keyed.items() if key not in known for call in calls
    )
    for (incident, number, step), attempts in steps.items():
        calls = [call for key in {a.key for a in attempts} for call in keyed[key]]
        place = f"{incident} run {number} step {step}"
        yield from _effect(place, attempts, calls)
        yield from _sent_in_time(place, attempts, calls)


def _effect(place: str, attempts: list[Attempt], calls: list[Call]) -> Iterator[str]:
    effect, applied = attempts[0].plan.effect, sum(call.applied for call in calls)
    if effect is Effect.READ and calls:
        yield f"I2: {place} only reads, but sent {calls}"
    refused = sum(a.outcome is Outcome.TEMPORARY for a in attempts)  # it is known that nothing was done
    if effect is Effect.UNSAFE and len(calls) > 1 + refused:
        yield f"I2: {place} is unsafe and was sent {len(calls)} times"
    if effect in (Effect.UNSAFE, Effect.PROBED, Effect.KEYED) and applied > 1:
        yield f"I2: {place} ({effect}) was done {applied} times"
    if len({(c.place, c.body) for c in calls}) > 1:
        yield f"I2: {place} was sent with different contents: {calls}"
    ok = any(a.outcome is Outcome.OK for a in attempts)
    if ok and effect is not Effect.READ and not calls:
        yield f"I2: {place} is told to be done, and nothing arrived"


def _sent_in_time(place: str, attempts: list[Attempt], calls: list[Call]) -> Iterator[str]:
    spans = [(a.intended_at, a.deadline + SLACK) for a in attempts]
    for call in calls:
        if not any(start <= call.at <= end for start, end in spans):
            yield f"I2: {place} was sent outside every attempt's time: {call}"


# --- I3: who was told -------------------------------------------------------------------------------------------------


def _pages(found: Found) -> Iterator[str]:
    arrived = {m.id for m in found.ledger.messages}
    for case in found.cases:
        reached = Counter((x.round, x.index) for x in case.facts(f.LevelReached))
        yield from (f"I3: {case.row.id}: level {key} was reached {n} times" for key, n in reached.items() if n > 1)
        fired = Counter((x.round, x.index) for x in case.facts(f.MachineFired))
        yield from (f"I3: {case.row.id}: promise {key} came due {n} times" for key, n in fired.items() if n > 1)
        rows = [m for m in case.messages if m.lane is Lane.PAGE and m.template == "page"]
        wanted = Counter(to for x in case.facts(f.LevelReached) for to in x.page)
        wanted.update(to for x in case.facts(f.MachineFired) for to in x.page)
        wanted.update(to for x in case.facts(f.AcknowledgementExpired) for to in x.page)
        wanted.update(to for x in case.facts(f.UrgentTold) for to in x.page)
        written = Counter(m.destination for m in rows if ">" not in m.id)
        if case.incident.live and wanted != written:
            yield f"I3: {case.row.id}: pages wanted {dict(wanted)}, rows written {dict(written)}"
        yield from _arrivals(arrived, case)


def _arrivals(arrived: set[str], case: Case) -> Iterator[str]:
    for row in case.messages:
        if row.state is Sending.PENDING:
            yield f"I3: {case.row.id}: {row.lane} message to {row.destination} was never sent: {row.template}"
        if row.state is Sending.SENT and row.id not in arrived:
            yield f"I3: {case.row.id}: message {row.id} is told to be sent, and never arrived"


def _triggers(found: Found) -> Iterator[str]:
    resolved: set[tuple[str, str]] = set()
    for message in found.ledger.messages:
        place = (message.destination, message.key)
        if message.kind == "resolve":
            resolved.add(place)
        elif message.kind == "page" and place in resolved:
            yield f"I3: a trigger of {place} followed its resolve"


def _known_messages(found: Found) -> Iterator[str]:
    rows = {m.id for case in found.cases for m in case.messages}
    yield from (f"I8: a message without a row: {m}" for m in found.ledger.messages if m.id not in rows)


# --- I4: limits -------------------------------------------------------------------------------------------------------


def _budgets(found: Found) -> Iterator[str]:
    intended: dict[str, float] = defaultdict(float)
    for _, run, attempt in found.attempts():
        if attempt is run.attempts_of(attempt.step)[0]:
            for name, amount in attempt.plan.draws.items():
                intended[name] += amount
    drawn: dict[str, float] = defaultdict(float)
    for name, row in found.scopes.items():
        if name.startswith("parameter:"):
            drawn[name] = sum(d.amount for d in (parsed(Draws, row.body) or Draws()).draws)
    for name in intended.keys() | drawn.keys():
        if abs(intended[name] - drawn[name]) > 1e-9:
            yield f"I4: {name}: intents draw {intended[name]:g}, the scope says {drawn[name]:g}"
        if name in found.ledger.totals and drawn[name] > found.ledger.totals[name] + 1e-9:
            yield f"I4: {name}: {drawn[name]:g} drawn of {found.ledger.totals[name]:g}"


def _counts(found: Found) -> Iterator[str]:
    started: Counter[str] = Counter()
    for case in found.cases:
        for run in case.incident.runs:
            started[runs_name(run.runbook, run.target)] += run.intended and not run.takes_back
    for name, count in started.items():
        row = found.scopes.get(name)
        counted = parsed(RunCount, row.body if row else None) or RunCount()
        if len(counted.started) != count:
            yield f"I4: {name}: {count} runs acted, {len(counted.started)} were counted"


def _pauses(found: Found) -> Iterator[str]:
    for start, end in found.ledger.paused:
        for call in found.ledger.calls:
            if call.method not in ("GET", "HEAD") and start < call.at < end:
                yield f"I4: sent while paused: {call}"


# --- I5, I6: nothing stays open, an unknown is told -------------------------------------------------------------------


def _quiet(found: Found) -> Iterator[str]:
    for case, run, attempt in found.attempts():
        if attempt.open:
            yield f"I5: {case.row.id} run {run.number}: {attempt.id} has an intent and no outcome"
    for case in found.cases:
        for run in case.incident.runs:
            if run.active:
                yield f"I5: {case.row.id} run {run.number} is still {run.phase}"
    yield from (f"I5: timer {s} {d.kind} is overdue" for s, d in found.timers if d.due < found.now - SLACK)


def _unknowns(found: Found) -> Iterator[str]:
    for case in found.cases:
        unknown = [x for x in case.facts(f.StepEnded) if x.status is StepStatus.UNKNOWN]
        unknown += [x for x in case.facts(f.RunEnded) if x.result is Result.UNKNOWN]
        pages = [m for m in case.messages if m.lane is Lane.PAGE]
        held = case.incident.acknowledged or case.incident.taken_over
        if unknown and case.incident.live and not pages and not held:
            yield f"I6: {case.row.id} has an unknown, and nobody was paged"
        if pages and not held:
            yield from _paged_at_once(case, min(m.created_at for m in pages))
        for run in case.incident.runs:
            if {a.id for a in run.attempts} & {a.id for a in case.incident.unsettled}:
                yield from _kept_lock(found, case, run)


def _paged_at_once(case: Case, first_page: int) -> Iterator[str]:
    for event in case.events:
        unknown = isinstance(event.fact, f.StepEnded) and event.fact.status is StepStatus.UNKNOWN
        if unknown and first_page > event.at:
            yield f"I6: {case.row.id}: people were not paged in the transaction of the unknown {event.fact}"


def _kept_lock(found: Found, case: Case, run: Run) -> Iterator[str]:
    lock = _lock(found, run.target)
    if lock is None and _unlocked(found, case, run):
        return
    if lock is None or ((lock.incident, lock.run) == (case.row.id, run.number) and not lock.unknown):
        yield f"I6: {case.row.id} run {run.number} is unknown, and {run.target} is not locked: {lock}"


def _unlocked(found: Found, case: Case, run: Run) -> bool:
    """A person has released the target since the run began: of an unknown they know by then."""
    begun = next(e for e in case.events if isinstance(e.fact, f.RunStarted) and e.fact.number == run.number)
    return any(
        event.fact.target == run.target and not found.before(event, begun)
        for other in found.cases
        for event in other.events
        if isinstance(event.fact, f.Unlocked)
    )


def _lock(found: Found, target: str) -> Lock | None:
    row = found.scopes.get(lock_name(target))
    return parsed(Lock, row.body) if row else None


def _locks(found: Found) -> Iterator[str]:
    cases = {case.row.id: case for case in found.cases}
    for name in found.scopes:
        if not name.startswith("lock:"):
            continue
        lock = _lock(found, name.removeprefix("lock:"))
        case = cases.get(lock.incident) if lock else None
        if lock is None:
            continue
        run = next((r for r in case.incident.runs if r.number == lock.run), None) if case else None
        if case is None or run is None:
            yield f"I5: {name} is held by nobody: {lock}"
        elif not run.active and not {a.id for a in run.attempts} & {a.id for a in case.incident.unsettled}:
            yield f"I5: {name} is still held by the ended run {run.number} of {case.row.id}"


def _in_force(found: Found) -> Iterator[str]:
    cases = {case.row.id: case for case in found.cases}
    for name, row in found.scopes.items():
        body = parsed(InForce, row.body) if name.startswith(in_force_name("")) else None
        if body is not None and body.incident not in cases:
            yield f"I5: {name} names an incident that is not there"


# --- I7: the journal --------------------------------------------------------------------------------------------------


def _journals(found: Found) -> Iterator[str]:
    ids: Counter[str] = Counter()
    for case in found.cases:
        ids.update(e.id for e in case.events)
        if [e.seq for e in case.events] != list(range(1, len(case.events) + 1)):
            yield f"I7: {case.row.id}: the sequence has gaps: {[e.seq for e in case.events]}"
            continue
        times = [e.at for e in case.events]
        if times != sorted(times):
            yield f"I7: {case.row.id}: times run backwards"
        folded = fold(list(case.events))
        if told(folded) != told(case.incident):
            yield f"I7: {case.row.id}: folding gives {_difference(told(folded), told(case.incident))}"
        if case.row.closed != case.incident.closed:
            yield f"I7: {case.row.id}: open key {case.row.open_key!r}, closed {case.incident.closed}"
    yield from (f"I7: event {name} stands {n} times" for name, n in ids.items() if n > 1)


def told(incident: Incident) -> dict[str, Any]:
    """A fold without what is no fact: the agenda, when a check was last asked, and what silent polls saw."""
    body = incident.model_dump(mode="json", exclude={"agenda", "watched_at"})
    for run in body["runs"]:
        run["polled_at"] = None
        run["observations"] = sorted(run["observations"])
    return body


def _difference(folded: Mapping[str, Any], stored: Mapping[str, Any]) -> str:
    return "; ".join(f"{k}: {folded[k]!r}, stored {stored[k]!r}" for k in folded if folded[k] != stored.get(k))


def _timers(found: Found) -> Iterator[str]:
    agendas = {(case.row.id, due) for case in found.cases for due in case.incident.agenda}
    timers = {(subject, due) for subject, due in found.timers if not subject.startswith("scope:")}
    yield from (f"I7: {s}: {d.kind} is in the agenda and no timer" for s, d in agendas - timers)
    yield from (f"I7: {s}: {d.kind} is a timer and not in the agenda" for s, d in timers - agendas)
    closed = {case.row.id for case in found.cases if case.incident.closed}
    yield from (f"I5: closed incident {s} still has a timer: {d.kind}" for s, d in timers if s in closed)


def _unexpected(found: Found) -> Iterable[str]:
    return (f"I8: unexpected at a fake: {said}" for said in found.ledger.unexpected)


RULES: tuple[Callable[[Found], Iterable[str]], ...] = (
    _alerts,
    _one_run_per_episode,
    _effects,
    _pages,
    _triggers,
    _known_messages,
    _budgets,
    _counts,
    _pauses,
    _quiet,
    _unknowns,
    _locks,
    _in_force,
    _journals,
    _timers,
    _unexpected,
)
