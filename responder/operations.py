"""The transactions of the engine: what was learned, how an attempt ended, what came due (design 6).

Each is a frozen value with a pure `apply`; all of them record facts through a `Draft` and let it advance. Whoever
submits one gets back the `Turn`: what this worker has to do next. What people say is in `commands`, what the edge
says in `ingest`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from responder import facts as f
from responder.contracts import PagerState
from responder.draft import Book, Draft, Turn, Worker
from responder.errors import Rejected
from responder.expectations import not_yet, tries
from responder.guards import why_missing
from responder.incident import Attempt, Due, Incident, Run
from responder.recorded import AlertsSeen, Cause, EvidenceItem, Observation, Outcome, Phase, Plan, ProbeAnswer
from responder.records import Change, Keys, ScopeRow, State, TimerRow, Writes
from responder.runbook import POLL, Step
from responder.scopes import InForce, legible
from responder.scoping import ScopeChange
from responder.timing import backoff
from responder.verification import harmless, holds
from responder.view import Gather

UNWATCHED = 4 * POLL
"""A pause between two polls after which nobody can say that it has held."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Something may be due: look again."""

    id: str
    incident: str
    book: Book
    by: Worker | None

    def reads(self) -> Keys:
        """The incident."""
        return Keys(incidents=frozenset({self.incident}))

    def apply(self, state: State) -> Change[Turn]:
        """See the class."""
        draft = Draft(self.id, state, self.book, self.by)
        turn = draft.advance(self.incident)
        return Change(draft.writes(), turn)


@dataclass(frozen=True, slots=True)
class Learned:
    """The answers to a Gather. `failed`: why the step could not be prepared; `retry`: it may be tried again,
    `retry_after` (µs) later at the earliest, where a service asked for that. `pagers`: what they say about their own
    incidents, by destination."""

    observations: tuple[Observation, ...] = ()
    plan: Plan | None = None
    failed: str | None = None
    retry: bool = False
    retry_after: int | None = None
    probe: ProbeAnswer | None = None
    probe_detail: str = ""
    alerts: AlertsSeen | None = None
    pagers: Mapping[str, PagerState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """What a Gather brought, from the worker of `epoch`. An owner that was replaced changes nothing: Rejected.

    `scopes` are those that it will ask for; naming them saves the writer from running it again.
    """

    id: str
    incident: str
    gather: Gather
    learned: Learned
    epoch: int
    book: Book
    by: Worker
    scopes: frozenset[str] = frozenset()

    def reads(self) -> Keys:
        """The incident, and the scopes that it was told of."""
        return Keys(incidents=frozenset({self.incident}), scopes=self.scopes)

    def apply(self, state: State) -> Change[Turn]:
        """See the class."""
        draft = Draft(self.id, state, self.book, self.by)
        _owned(draft, self.incident, self.by, self.epoch)
        self._record(draft)
        turn = draft.advance(self.incident)
        return Change(draft.writes(), turn)

    def _record(self, draft: Draft) -> None:
        incident = draft.incident(self.incident)
        if self.gather.watch:
            self._watched(draft, incident)
        elif self.gather.machine is not None:
            self._machine(draft, incident, self.gather.machine)
        elif self.gather.level is not None:
            self._asked(draft, incident, *self.gather.level)
        elif self.gather.probe is not None:
            self._probed(draft, incident, self.gather.probe)
        else:
            self._gathered(draft, incident)

    def _held(self, draft: Draft, incident: Incident, run: Run | None) -> bool:
        runbook = draft.runbook_of(incident, run)
        seen, since = self.learned.observations[0], None if run is None else run.verify_from
        if runbook is not None and run is not None and run.cause is Cause.UNDO:
            return harmless(runbook, seen, draft.now, incident, run)
        return runbook is not None and holds(runbook, seen, draft.now, since)

    def _watched(self, draft: Draft, incident: Incident) -> None:
        held, seen = self._held(draft, incident, None), self.learned.observations[0]
        same = incident.watch is not None and incident.watch.missing == seen.missing and incident.watch_holds == held
        draft.bookkeep(self.incident, watched_at=draft.now)
        if incident.recheck or not same:
            draft.record(self.incident, f.Watched(observation=seen, holds=held))

    def _machine(self, draft: Draft, incident: Incident, key: str) -> None:
        number, index = (int(part) for part in key.split(":"))
        seen, held = self.learned.observations[0], self._held(draft, incident, None)
        draft.record(self.incident, f.MachineGathered(round=number, index=index, observation=seen, holds=held))

    def _asked(self, draft: Draft, incident: Incident, number: int, index: int) -> None:
        """What the pagers said. Somebody who answered there has it, whoever's webhook did not arrive."""
        said = tuple(f"{name}: {state.status}" for name, state in self.learned.pagers.items())
        draft.record(self.incident, f.PagerAsked(round=number, index=index, said=said))
        answered = [(name, s) for name, s in self.learned.pagers.items() if s.status in ("acknowledged", "resolved")]
        if not answered or incident.somebody is not None or incident.closed:
            return
        name, state = answered[0]
        note = "" if state.status == "acknowledged" else "resolved there; the alert still fires"
        who = f"{state.by} ({name})" if state.by else name
        draft.record(self.incident, f.Acknowledged(note=note, via=name), who)

    def _probed(self, draft: Draft, incident: Incident, attempt_id: str) -> None:
        found = incident.attempt(attempt_id)
        if found is None or found[1].probe in (ProbeAnswer.APPLIED, ProbeAnswer.NOT_APPLIED):
            return
        answer = self.learned.probe or ProbeAnswer.UNCLEAR
        draft.record(self.incident, f.Probed(attempt=attempt_id, answer=answer, detail=self.learned.probe_detail))

    def _gathered(self, draft: Draft, incident: Incident) -> None:
        run = incident.active_run
        if run is None or run.number != self.gather.run or run.open_attempt is not None:
            return  # the run went on while it was asked: the answers are nobody's
        if run.phase is Phase.VERIFYING:
            self._polled(draft, incident, run)
            return
        seen, step, failed = self._judged(draft, incident, run), self.gather.step, self.learned.failed
        if failed is None:
            learned = {"observations": seen, "plan": self.learned.plan, "step": step, "alerts": self.learned.alerts}
            draft.record(self.incident, f.Gathered(run=run.number, **learned))
            return
        if seen:
            draft.record(self.incident, f.Gathered(run=run.number, observations=seen))
        draft.record(self.incident, self._unprepared(draft, run, step or "", failed))

    def _judged(self, draft: Draft, incident: Incident, run: Run) -> tuple[Observation, ...]:
        """Samples older than their check allows count as missing, wherever they are used."""
        runbook = draft.runbook_of(incident, run)
        checks = runbook.checks if runbook is not None else {}
        judged = []
        for seen in self.learned.observations:
            missing = why_missing(seen, checks[seen.check].max_age, draft.now) if seen.check in checks else None
            judged.append(seen if seen.missing or missing is None else seen.model_copy(update={"error": missing}))
        return tuple(judged)

    def _polled(self, draft: Draft, incident: Incident, run: Run) -> None:
        """A poll is a fact when it changes what is known: whether it holds, whether there is a value at all."""
        if self.gather.step is not None or not self.learned.observations:
            return  # asked before the run began to verify
        held, seen = self._held(draft, incident, run), self.learned.observations[0]
        before = run.observations.get(seen.check)
        first = run.polled_at is None or run.polled_at < (run.verify_from or 0)
        anew = draft.now > self._wanted_by(draft, incident, run, first)
        if anew or first or before is None or before.missing != seen.missing or (run.held_from is not None) != held:
            fact = f.Gathered(run=run.number, observations=(seen,), holds=held, anew=anew)
            draft.record(self.incident, fact)
            return
        known = run.model_copy(update={"observations": {**run.observations, seen.check: seen}, "polled_at": draft.now})
        draft.bookkeep(self.incident, runs=tuple(known if r.number == run.number else r for r in incident.runs))

    def _wanted_by(self, draft: Draft, incident: Incident, run: Run, first: bool) -> int:
        """When this poll should have come at the latest; after that, what was not watched cannot be judged."""
        runbook = draft.runbook_of(incident, run)
        verify = runbook.verify if runbook is not None else None
        if runbook is None or verify is None:
            return draft.now
        start = (run.verify_from or 0) + verify.settle if first else run.polled_at or 0
        return start + UNWATCHED + runbook.checks[verify.check].timeout

    def _unprepared(self, draft: Draft, run: Run, step_id: str, why: str) -> f.StepFailed:
        step, tries = _step_of(draft, self.incident, run, step_id), run.step(step_id).tries + 1
        again = self.learned.retry and step is not None and tries < step.retry.attempts
        wait = max(_backoff(step, tries), self.learned.retry_after or 0) if step is not None and again else None
        retry_at = None if wait is None else draft.now + wait
        return f.StepFailed(run=run.number, step=step_id, why=why, retry_at=retry_at)


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended, from the worker that intended it. `retry_after` (µs) is what the service asked for.

    `scopes` as in `Report`. `held_back`: a pause came before anything was sent; then its `retry` is not used up.
    """

    id: str
    incident: str
    attempt: str
    outcome: Outcome
    detail: str
    output: JsonValue
    epoch: int
    book: Book
    by: Worker
    retry_after: int | None = None
    scopes: frozenset[str] = frozenset()
    held_back: bool = False

    def reads(self) -> Keys:
        """The incident, and the scopes that it was told of."""
        return Keys(incidents=frozenset({self.incident}), scopes=self.scopes)

    def apply(self, state: State) -> Change[Turn]:
        """See the class."""
        draft = Draft(self.id, state, self.book, self.by)
        _owned(draft, self.incident, self.by, self.epoch)
        found = draft.incident(self.incident).attempt(self.attempt)
        if found is not None and found[1].open:
            draft.record(self.incident, self._fact(draft, *found))
        turn = draft.advance(self.incident)
        return Change(draft.writes(), turn)

    def _fact(self, draft: Draft, run: Run, attempt: Attempt) -> f.AttemptEnded:
        step, seen, retry_at = _step_of(draft, self.incident, run, attempt.step), None, None
        if step is not None and self.outcome is Outcome.OK and not run.takes_back:
            seen = not_yet(draft.incident(self.incident), run, step, attempt, self.output)
        left = step is not None and (self.held_back or tries(run, attempt.step) + 1 < step.retry.attempts)
        if step is not None and (seen is not None or (self.outcome is Outcome.TEMPORARY and left)):
            pause = _backoff(step, len(run.attempts_of(attempt.step)))
            retry_at = draft.now + max(pause, self.retry_after or 0)
        return f.AttemptEnded(
            attempt=self.attempt,
            outcome=self.outcome,
            detail=self.detail,
            output=self.output,
            retry_at=retry_at,
            not_yet=seen,
            held_back=self.held_back,
        )


@dataclass(frozen=True, slots=True)
class Readings:
    """The evidence of a run, for people. Anybody may have read it; what comes twice is not told twice."""

    id: str
    incident: str
    run: int
    items: tuple[EvidenceItem, ...]
    book: Book

    def reads(self) -> Keys:
        """The incident."""
        return Keys(incidents=frozenset({self.incident}))

    def apply(self, state: State) -> Change[None]:
        """See the class."""
        draft = Draft(self.id, state, self.book)
        run = next((r for r in draft.incident(self.incident).runs if r.number == self.run), None)
        if run is not None and run.evidence is None:
            draft.record(self.incident, f.EvidenceGathered(run=self.run, items=self.items))
        return Change(draft.writes(), None)


@dataclass(frozen=True, slots=True)
class Remind:
    """A change in force has waited long enough: tell people again, as long as it is in force."""

    id: str
    scope: str
    book: Book

    def reads(self) -> Keys:
        """The scope; its incident is loaded when it is known."""
        return Keys(scopes=frozenset({self.scope}))

    def apply(self, state: State) -> Change[None]:
        """See the class."""
        draft = Draft(self.id, state, self.book)
        body = legible(InForce, draft.scope(self.scope))
        if body is not None:
            fact = f.RestoreReminded(attempt=body.attempt, step=body.step, preview=body.preview, since=body.since)
            draft.record(body.incident, fact)
        # The row is written in any case: one that stayed due would be looked at for ever.
        row = TimerRow(f"scope:{self.scope}", Due(kind="remind", round=0, due=0))
        if body is not None and body.remind:
            remind = Due(kind="remind", round=0, due=draft.now + body.remind)
            draft.set_scope(ScopeChange(self.scope, body, remind))
        else:
            draft.forget_timer(row)
        return Change(draft.writes(), None)


@dataclass(frozen=True, slots=True)
class Touch:
    """A write that means nothing: it shows that the store can be written."""

    id: str

    def reads(self) -> Keys:
        """Nothing."""
        return Keys()

    def apply(self, state: State) -> Change[None]:
        """See the class."""
        return Change(Writes(scopes=(ScopeRow("store:touched", "", state.now),)), None)


@dataclass(frozen=True, slots=True)
class Postpone:
    """Look at these timers later: looking at them failed, and must not keep others from being looked at."""

    id: str
    subject: str
    dues: tuple[Due, ...]
    until: int

    def reads(self) -> Keys:
        """Nothing."""
        return Keys()

    def apply(self, state: State) -> Change[None]:
        """See the class."""
        rows = (TimerRow(self.subject, due.model_copy(update={"due": self.until})) for due in self.dues)
        return Change(Writes(timers=tuple(rows)), None)


@dataclass(frozen=True, slots=True)
class Rearm:
    """Write the timers of an open incident again, as its agenda says: rows have been lost."""

    id: str
    incident: str

    def reads(self) -> Keys:
        """The incident."""
        return Keys(incidents=frozenset({self.incident}))

    def apply(self, state: State) -> Change[None]:
        """See the class. What is there is written as it is."""
        row = state.incident(self.incident)
        agenda = () if row is None or row.closed else row.fold.agenda
        return Change(Writes(timers=tuple(TimerRow(self.incident, due) for due in agenda)), None)


def _owned(draft: Draft, incident_id: str, by: Worker, epoch: int) -> None:
    row = draft.row(incident_id)
    if row.owner != by.id or row.epoch != epoch:
        raise Rejected(f"incident {incident_id} was taken over by {row.owner}: this worker's answer is not used")


def _step_of(draft: Draft, incident_id: str, run: Run, step_id: str) -> Step | None:
    runbook = draft.runbook_of(draft.incident(incident_id), run)
    return None if runbook is None else runbook.step(step_id)


def _backoff(step: Step, tries: int) -> int:
    return backoff(tries, step.retry.first, step.retry.factor, step.retry.cap, 0.0)
