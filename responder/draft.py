"""A transaction in the making: facts are recorded, folded and told, shared scopes follow, and `advance` decides on.

A `Draft` lives for one operation: it reads the loaded `State`, gathers rows, and gives them up as `Writes`. It is the
one place where a fact gets its event, its messages, its timers and its effect on locks and counters, so that no
caller can forget one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from responder import facts as f
from responder.automation import Automation
from responder.cases import Touched
from responder.decide import decide, people
from responder.errors import Rejected
from responder.escalation import agenda
from responder.guards import superseded
from responder.incident import Due, Incident, Run
from responder.journal import apply, opened
from responder.people_folds import copy
from responder.policies import Policy
from responder.recorded import Effect, Mode, Phase, Plan, Trigger, strictest
from responder.records import (
    DeadLetterRow,
    EpisodeRow,
    IncidentRow,
    MessageRow,
    NotificationRow,
    ScopeRow,
    State,
    TimerRow,
    Writes,
    agenda_rows,
    open_key,
)
from responder.rules import Broken, Rules
from responder.runbook import Runbook, Step
from responder.scopes import asked_of
from responder.scoping import ScopeChange, openings_after, opens_after, scopes_after
from responder.telling import AUTHOR, told
from responder.timing import SECOND
from responder.verification import cut_short
from responder.view import Gather, Perform, Tell, View, WaitUntil

TURNS = 200
"""More facts than any turn can give; reaching it is a mistake in this program, and stops the turn loudly."""

GRACE = 2 * SECOND
"""How long after an attempt's deadline its lease still holds (design 5.4)."""

ASKING = 4 * SECOND
"""How long the Alertmanagers' answers may take: what they list, then whose a silence is."""


class UnknownRules(Exception):
    """A set of rules that is not in memory."""

    def __init__(self, rules_hash: str) -> None:
        super().__init__(f"the rules {rules_hash[:12]} must be read from the store")
        self.rules_hash = rules_hash


class Book(Protocol):
    """The rules and settings that a transaction decides by; a value of the moment it was submitted."""

    @property
    def current(self) -> Rules:
        """The set that new incidents get."""
        ...

    @property
    def broken(self) -> Sequence[Broken]:
        """The runbooks of today's files that could not be loaded, while an older set goes on."""
        ...

    @property
    def instance(self) -> str:
        """This installation's name, part of every key."""
        ...

    @property
    def askable(self) -> frozenset[str]:
        """The destinations that answer questions about their own incidents."""
        ...

    @property
    def automation(self) -> Automation:
        """The bounds of all runs together."""
        ...

    @property
    def halted(self) -> str | None:
        """Why this process must change nothing, whatever the store says; None when it may."""
        ...

    def touched(self, step: Step) -> tuple[Touched, ...]:
        """The services that a step uses, as they are configured today."""
        ...

    def rules(self, rules_hash: str) -> Rules | None:
        """A set by its hash; None when it cannot be read any more. Raises UnknownRules."""
        ...

    def total(self, scope: str) -> float | None:
        """How much may be taken off a parameter in 24 hours, by the scope's name; None when it is not configured."""
        ...


def scopes_of(book: Book, runbook: Runbook, target: str) -> frozenset[str]:
    """The scopes that a run of this runbook asks for, so that they are loaded in one round."""
    used = {service.name for step in runbook.steps for service in book.touched(step)}
    return asked_of(runbook.runbook, target, used)


@dataclass(frozen=True, slots=True)
class Worker:
    """Who executes attempts. `alone`: every other owner is known to be dead (a lock file proves it; design 5.4)."""

    id: str
    lease: int = 15 * SECOND
    alone: bool = False
    stopping: bool = False
    """True while the process stops: nothing new is intended, since nobody would do it."""


@dataclass(frozen=True, slots=True)
class Intended:
    """An intent that this transaction recorded: the engine must now do it, and report how it ended."""

    incident: str
    run: int
    step: str
    attempt: str
    action: str
    plan: Plan
    key: str
    timeout: int
    deadline: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Turn:
    """Where an incident stands after a transaction: `next` is what this worker has to do now, or None."""

    incident: Incident
    next: Gather | Intended | None
    epoch: int


@dataclass(slots=True)
class _Sheet:
    row: IncidentRow
    before: tuple[Due, ...]


@dataclass(slots=True)
class Draft:
    """See the module. `by` is the worker for whom it claims, None for a transaction that must not claim."""

    id: str
    state: State
    book: Book
    by: Worker | None = None
    _sheets: dict[str, _Sheet] = field(default_factory=dict)
    _opened: dict[str, str] = field(default_factory=dict)
    _events: list[f.Event] = field(default_factory=list)
    _messages: dict[str, MessageRow] = field(default_factory=dict)
    _renewed: dict[str, MessageRow] = field(default_factory=dict)
    _scopes: dict[str, ScopeRow] = field(default_factory=dict)
    _timers: list[TimerRow] = field(default_factory=list)
    _episodes: list[EpisodeRow] = field(default_factory=list)
    _notifications: list[NotificationRow] = field(default_factory=list)
    _dead_letters: list[DeadLetterRow] = field(default_factory=list)

    @property
    def now(self) -> int:
        """The transaction's time (µs)."""
        return self.state.now

    # --- reading ------------------------------------------------------------------------------------------------------

    def incident(self, incident_id: str) -> Incident:
        """The incident as it stands in this draft. Raises Rejected when there is none."""
        return self._sheet(incident_id).row.fold

    def row(self, incident_id: str) -> IncidentRow:
        """The incident's row as it stands in this draft. Raises Rejected when there is none."""
        return self._sheet(incident_id).row

    def open_incident(self, key: str) -> Incident | None:
        """The open incident of this key, whether it stood before or was opened in this draft."""
        found = self._opened.get(key)
        if found is None:
            row = self.state.open_incident(key)
            found = None if row is None else row.id
        if found is None:
            return None
        row = self._sheet(found).row
        return row.fold if row.open_key == key else None

    def scope(self, name: str) -> str | None:
        """A shared scope's body as it stands in this draft."""
        if name in self._scopes:
            return self._scopes[name].body
        row = self.state.scope(name)
        return None if row is None else row.body

    def runbook_of(self, incident: Incident, run: Run | None) -> Runbook | None:
        """A run's runbook, or the incident's own when there is no run."""
        rules = self.book.rules(run.rules_hash if run else incident.rules_hash)
        name = run.runbook if run else incident.runbook
        return None if rules is None or name is None else rules.runbooks.get(name)

    def policy_of(self, incident: Incident) -> Policy:
        """The policy that the incident began with; today's when that one cannot be read."""
        return (self.book.rules(incident.rules_hash) or self.book.current).policy(incident.policy)

    def _sheet(self, incident_id: str) -> _Sheet:
        sheet = self._sheets.get(incident_id)
        if sheet is None:
            row = self.state.incident(incident_id)
            if row is None:
                raise Rejected(f"there is no incident {incident_id}; `responder incidents` lists them")
            sheet = self._sheets[incident_id] = _Sheet(row, row.fold.agenda)
        return sheet

    # --- recording ----------------------------------------------------------------------------------------------------

    def open(self, fact: f.Opened, actor: str = AUTHOR) -> None:
        """Begin an incident."""
        event = self._event(fact.id, 1, fact, actor)
        key = open_key(fact.namespace, fact.runbook, fact.target, fact.trigger)
        self._opened[key] = fact.id
        self._sheets[fact.id] = _Sheet(IncidentRow(fact.id, key, opened(event), None, 0, 0), ())
        self._follow(event)

    def record(self, incident_id: str, fact: f.Fact, actor: str = AUTHOR) -> None:
        """Append one fact, with all that follows from it."""
        sheet = self._sheet(incident_id)
        event = self._event(incident_id, sheet.row.fold.seq + 1, fact, actor)
        over = isinstance(fact, f.Closed)
        sheet.row = replace(sheet.row, fold=apply(sheet.row.fold, event), open_key=None if over else sheet.row.open_key)
        self._follow(event)

    def _event(self, incident_id: str, seq: int, fact: f.Fact, actor: str) -> f.Event:
        return f.Event(
            id=f"{self.id}:{len(self._events)}", incident=incident_id, seq=seq, at=self.now, actor=actor, fact=fact
        )

    def _follow(self, event: f.Event) -> None:
        self._events.append(event)
        incident = self.incident(event.incident)
        # What is settled may be of an earlier run, and another runbook, than the latest.
        settled = incident.attempt(event.fact.attempt) if isinstance(event.fact, f.Settled) else None
        run = incident.run if settled is None else settled[0]
        for change in scopes_after(incident, event, self.runbook_of(incident, run), self.scope):
            self.set_scope(change)
        if isinstance(event.fact, f.Opened):
            for change in openings_after(incident, self.book.automation.storm, self.scope):
                self.set_scope(change)
        if isinstance(event.fact, f.Opened | f.Closed):
            for change in opens_after(incident, self._causes(incident), self.scope):
                self.set_scope(change)
        found = told(incident, event, self.policy_of(incident), self.book.instance)
        self._messages.update({m.id: m for m in found.messages})
        self._renewed.update({m.id: m for m in found.renewed})
        for paged in found.paged:
            self.record(event.incident, paged, event.actor)
        if isinstance(event.fact, f.Closed) and incident.storm is not None:
            self.record(incident.storm, f.StormShrank(incident=incident.id))
            self.advance(incident.storm)

    def _causes(self, incident: Incident) -> frozenset[str]:
        """By the set that the incident began with, so that what its opening counted its closing takes away.

        A schedule's incident goes with the rules of each run, so it is counted in any case.
        """
        if incident.trigger is Trigger.SCHEDULE:
            return frozenset({incident.runbook or ""})
        rules = self.book.rules(incident.rules_hash)
        return rules.causes if rules is not None else frozenset({incident.runbook or ""})

    def set_scope(self, change: ScopeChange) -> None:
        """Rewrite a shared scope, and its reminder."""
        body = "" if change.body is None else change.body.model_dump_json()
        self._scopes[change.name] = ScopeRow(change.name, body, self.now)
        subject = f"scope:{change.name}"
        if change.remind is not None:
            self._timers.append(TimerRow(subject, change.remind))
        elif change.name.startswith("in_force:"):
            self._timers.append(TimerRow(subject, Due(kind="remind", round=0, due=0), gone=True))

    def bookkeep(self, incident_id: str, **changes: object) -> None:
        """Change what is no fact (when a check was last polled)."""
        sheet = self._sheet(incident_id)
        sheet.row = replace(sheet.row, fold=copy(sheet.row.fold, **changes))

    def keep(
        self,
        episode: EpisodeRow | None = None,
        notification: NotificationRow | None = None,
        dead_letter: DeadLetterRow | None = None,
    ) -> None:
        """Add rows that belong to no journal."""
        self._episodes.extend([episode] if episode else [])
        self._notifications.extend([notification] if notification else [])
        self._dead_letters.extend([dead_letter] if dead_letter else [])

    def forget_timer(self, row: TimerRow) -> None:
        """Delete a timer that outlives incidents."""
        self._timers.append(replace(row, gone=True))

    # --- deciding -----------------------------------------------------------------------------------------------------

    def advance(self, incident_id: str) -> Turn:
        """Record all that follows without the outside world, and answer what its owner must do next."""
        self._take_over(incident_id)
        for _ in range(TURNS):
            following = decide(self._view(incident_id))
            if isinstance(following, WaitUntil):
                return self._rest(incident_id, None, following.due, following.kind)
            if isinstance(following, Gather) and following.level is not None and not self._claim(incident_id):
                # Another worker's lease must not keep people asleep: the level is told without asking.
                number, index = following.level
                self.record(incident_id, f.PagerAsked(round=number, index=index))
                continue
            if isinstance(following, Gather | Perform):
                return self._work(incident_id, following)
            self.record(incident_id, following.fact)
        raise RuntimeError(f"incident {incident_id}: no end after {TURNS} facts in one turn")

    def _view(self, incident_id: str) -> View:
        row, book = self.row(incident_id), self.book
        return View(
            row.fold,
            self.policy_of(row.fold),
            book.rules,
            self.scope,
            book.total,
            self.now,
            row.epoch,
            self._ceiling(row.fold),
            book.askable,
            book.automation,
            book.halted,
            book.touched,
        )

    def _ceiling(self, incident: Incident) -> Mode:
        """No run goes further than today's configuration and today's version of the runbook."""
        today = self.book.current.runbooks.get(incident.runbook or "")
        return strictest(self.book.current.ceiling, *([today.mode] if today else []))

    def _work(self, incident_id: str, following: Gather | Perform) -> Turn:
        if not self._claim(incident_id):
            return self._rest(incident_id, None, self.now, "work")
        if isinstance(following, Gather):
            self._hold_for(incident_id, following)
            # While its lease holds, the answers come from this worker; after that, anybody may ask again.
            return self._rest(incident_id, following, self.row(incident_id).lease_until, "gather")
        if self.by is not None and self.by.stopping:
            return self._rest(incident_id, None, self.now, "work")
        return self._intend(incident_id, following)

    def _intend(self, incident_id: str, perform: Perform) -> Turn:
        sheet = self._sheet(incident_id)
        run = next(r for r in sheet.row.fold.runs if r.number == perform.run)
        number = len(run.attempts_of(perform.step)) + 1
        attempt = f"{incident_id}.{run.number}.{perform.step}.{number}"
        key = perform.again.key if perform.again else f"responder/{self.book.instance}/{attempt}"
        deadline = self.now + perform.timeout
        supersedes = self._supersede(sheet.row.fold, run) if perform.plan.effect is not Effect.READ else ()
        self.record(
            incident_id,
            f.AttemptIntended(
                run=perform.run,
                step=perform.step,
                attempt=attempt,
                number=number,
                action=perform.action,
                plan=perform.plan,
                key=key,
                deadline=deadline,
                epoch=sheet.row.epoch,
                verdicts=perform.verdicts,
                services=self._services(sheet.row.fold, run, perform.step),
                supersedes=supersedes,
            ),
        )
        sheet.row = replace(sheet.row, lease_until=max(sheet.row.lease_until, deadline + GRACE))
        self._tell_people(incident_id)
        doing = Intended(
            incident_id,
            perform.run,
            perform.step,
            attempt,
            perform.action,
            perform.plan,
            key,
            perform.timeout,
            deadline,
            sheet.row.epoch,
        )
        return self._rest(incident_id, doing, deadline + GRACE, "deadline")

    def _supersede(self, incident: Incident, run: Run) -> tuple[str, ...]:
        """End the runs that only verify this one's target, in the transaction of the intent (docs/adr/0022)."""
        others = superseded(incident, run, self.scope)
        for held in others:
            other = self.incident(held.incident).active_run
            assert other is not None, "who holds a lock to verify has a run"
            assert (other.number, other.phase) == (held.run, Phase.VERIFYING), "only what verifies is marked so"
            self.record(held.incident, cut_short(held.run, incident, run))
            self._tell_people(held.incident)
            self._rest(held.incident, None, self.now, "work")  # all else is for its own worker, at once
        return tuple(held.incident for held in others)

    def _tell_people(self, incident_id: str) -> None:
        while isinstance(told_now := people(self._view(incident_id)), Tell):
            self.record(incident_id, told_now.fact)

    def _services(self, incident: Incident, run: Run, step: str) -> tuple[str, ...]:
        runbook = self.runbook_of(incident, run)
        if runbook is None:
            return ()
        made = runbook.step(step)
        return tuple(one.name for one in self.book.touched(made.way_back if run.takes_back else made))

    def _rest(self, incident_id: str, doing: Gather | Intended | None, due: int | None, kind: str) -> Turn:
        sheet = self._sheet(incident_id)
        fold = sheet.row.fold
        rules = self.book.rules(fold.rules_hash)
        hours = {} if rules is None else rules.calendars
        dues = agenda(fold, self.policy_of(fold), self.runbook_of(fold, None), hours)
        if due is not None:
            # What is due already waits for this work, which looks again; a row of its own would come up without end.
            dues = (*(d for d in dues if d.due > self.now), Due(kind=kind, round=0, due=due, work=True))
        if dues != fold.agenda:
            sheet.row = replace(sheet.row, fold=copy(fold, agenda=dues))
        return Turn(sheet.row.fold, doing, sheet.row.epoch)

    # --- owning -------------------------------------------------------------------------------------------------------

    def _claim(self, incident_id: str) -> bool:
        """Take or renew the lease. False when there is no worker, or another one holds it."""
        row = self.row(incident_id)
        if self.by is None or not self._free(row):
            return False
        epoch = row.epoch if row.owner == self.by.id else row.epoch + 1
        until = max(self.now + self.by.lease, row.lease_until if row.owner == self.by.id else 0)
        self._sheets[incident_id].row = replace(row, owner=self.by.id, epoch=epoch, lease_until=until)
        return True

    def _hold_for(self, incident_id: str, gather: Gather) -> None:
        """Hold the lease as long as the readings may take, or another owner would ask the same again and again."""
        sheet, rules = self._sheet(incident_id), self.book.rules(gather.rules_hash)
        runbook = rules.runbooks.get(gather.runbook) if rules else None
        if runbook is None:
            return
        spans = [runbook.checks[name].timeout for name in gather.checks if name in runbook.checks]
        step = runbook.step(gather.step) if gather.step else None
        spans.extend([step.timeout, step.way_back.timeout] if step is not None else [])
        spans.extend([ASKING] if gather.alerts else [])
        until = self.now + max(spans, default=0) + GRACE
        sheet.row = replace(sheet.row, lease_until=max(sheet.row.lease_until, until))

    def _free(self, row: IncidentRow) -> bool:
        assert self.by is not None
        return row.owner in (None, self.by.id) or self.by.alone or row.lease_until < self.now

    def _take_over(self, incident_id: str) -> None:
        """A dead owner's run is taken over before anything is decided, so that its open attempt is seen as lost."""
        row = self.row(incident_id)
        active = row.fold.active_run
        if active is None or self.by is None or row.owner in (None, self.by.id) or not self._free(row):
            return
        self._claim(incident_id)
        if active.open_attempt is not None:
            why = f"{row.owner} ended, or its lease ran out, during step {active.open_attempt.step}"
            epoch = self.row(incident_id).epoch
            self.record(incident_id, f.OwnerChanged(owner=self.by.id, epoch=epoch, why=why))

    # --- giving up ----------------------------------------------------------------------------------------------------

    def writes(self) -> Writes:
        """Everything that this draft wants written."""
        timers = [t for i, s in self._sheets.items() for t in agenda_rows(i, s.before, s.row.fold.agenda)]
        changed = (s.row for i, s in self._sheets.items() if s.row != self.state.incidents.get(i))
        return Writes(
            notifications=tuple(self._notifications),
            episodes=tuple(self._episodes),
            incidents=tuple(changed),
            events=tuple(self._events),
            timers=(*self._timers, *timers),
            messages=tuple(self._messages.values()),
            renewed=tuple(self._renewed.values()),
            scopes=tuple(self._scopes.values()),
            dead_letters=tuple(self._dead_letters),
        )
