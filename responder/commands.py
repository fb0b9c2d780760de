"""The transactions of people: acknowledge, snooze, take over, approve, settle, restore, pause … (design 8).

Each says who did it, refuses what makes no sense now (`Rejected`, with what would be accepted), and is safe to send
twice. Whether the person may do it is checked by the edge, before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from responder import facts as f
from responder.calendars import Calendar
from responder.choices import HOLD, countdown
from responder.draft import Book, Draft, Turn, Worker
from responder.errors import Rejected
from responder.escalation import next_untold, promises
from responder.guards import closed_hours
from responder.incident import Attempt, Incident
from responder.policies import Owner
from responder.recorded import Cause, Mode, ProbeAnswer, StepStatus, Trigger
from responder.records import Change, Keys, State
from responder.runbook import Runbook
from responder.scopes import PAUSE, InForce, Lock, Pause, in_force_name, legible, lock_name, pause_of
from responder.scoping import ScopeChange
from responder.timing import HOUR, MINUTE, format_duration
from responder.words import Approval


@dataclass(frozen=True, slots=True)
class Command:
    """One thing that a person says about an incident.

    `verb` is one of VERBS. `note` is a note or a reason; `step` names a manual step or one that waits for an approval,
    `plan` the digest of what is approved, `attempt` an unknown change, `applied` what became of it, `lasts` (µs) how
    long a snooze or a held countdown lasts. `via` is the destination at whose side it was said, `word` the id of what
    came from there: what is delivered twice counts once.
    """

    id: str
    incident: str
    verb: str
    actor: str
    book: Book
    by: Worker | None
    note: str = ""
    step: str | None = None
    attempt: str | None = None
    applied: bool | None = None
    plan: str | None = None
    lasts: int | None = None
    via: str = ""
    word: str = ""

    def reads(self) -> Keys:
        """The incident."""
        return Keys(incidents=frozenset({self.incident}))

    def apply(self, state: State) -> Change[Turn]:
        """See the class. Raises Rejected."""
        draft = Draft(self.id, state, self.book, self.by)
        verb = (PAGERS_SAY if self.via else VERBS).get(self.verb)
        if verb is None:
            raise Rejected(f"there is no verb {self.verb}; there are {', '.join(sorted(VERBS))}")
        incident = draft.incident(self.incident)
        fact = None if self.word and self.word in incident.heard else verb(self, draft, incident)
        if fact is not None:
            draft.record(self.incident, fact, self.actor)
        turn = draft.advance(self.incident)
        return Change(draft.writes(), turn)


def _open(incident: Incident) -> None:
    if incident.closed:
        raise Rejected(f"incident {incident.id} is closed: {incident.closed_why}")


def _ack(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    _open(incident)
    already = incident.acknowledged is not None and incident.acknowledged.actor == command.actor
    if already and not incident.unanswered:
        return None
    # Said again after a further page it answers that one too.
    return f.Acknowledged(note=command.note, via=command.via, word=command.word)


def _unack(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    """Said by pagers, whose own acknowledgements run out."""
    if incident.closed or incident.acknowledged is None or incident.acknowledged.via != command.via:
        return None  # what was said elsewhere is not the pager's to take back
    return f.Unacknowledged(why=command.note, via=command.via, word=command.word)


LONGEST_SNOOZE = 24 * HOUR
LONGEST_HOLD = 15 * MINUTE
"""How far a countdown may be put off at once: what was promised is to come."""


MOST_HOLDS = 3
"""How often: what lowers risk must not be put off for ever."""


def _snooze(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    _open(incident)
    if incident.taken_over is not None:
        raise Rejected(f"{incident.taken_over.actor} has taken it over, so nobody is paged")
    lasts = _lasts(command, HOUR, LONGEST_SNOOZE)
    return f.Snoozed(until=draft.now + lasts, note=command.note)


def _lasts(command: Command, usual: int, longest: int) -> int:
    lasts = usual if command.lasts is None else command.lasts
    if not MINUTE <= lasts <= longest:
        raise Rejected(f"say between 1m and {format_duration(longest)}, such as {format_duration(usual)}")
    return lasts


def _escalate(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    _open(incident)
    policy = draft.policy_of(incident)
    if incident.hurried is not None:
        return None
    if policy.owner is Owner.PAGERDUTY:
        raise Rejected(f"policy {incident.policy} is climbed by PagerDuty: escalate it there")
    if incident.storm is not None:
        raise Rejected(f"it is one of many that are paged together: escalate incident {incident.storm}")
    if next_untold(incident, policy) is None:
        raise Rejected("every level has been told already")
    return f.EscalationAsked(note=command.note)


def _hold(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    _open(incident)
    found = countdown(incident)
    if found is None:
        raise Rejected("no countdown runs that could be held")
    (number, index), timer = found
    if timer.holds >= MOST_HOLDS:
        raise Rejected(f"it was held {MOST_HOLDS} times already: take over to stop it")
    runbook = draft.runbook_of(incident, None)
    due = next((p.due for p in promises(incident, runbook) if (p.round, p.index) == (number, index)), draft.now)
    until = max(due, draft.now) + _lasts(command, HOLD, LONGEST_HOLD)
    return f.CountdownHeld(round=number, index=index, until=until, note=command.note)


OVERRIDE = HOUR
LONGEST_OVERRIDE = 12 * HOUR


def _override(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    """One run may act outside its hours; no other gate is touched (docs/adr/0026)."""
    _open(incident)
    if not command.note.strip():
        raise Rejected("say a --reason")
    runbook, hours = shut_hours(draft, incident)
    until = draft.now + _lasts(command, OVERRIDE, LONGEST_OVERRIDE)
    return f.CalendarOverridden(runbook=runbook.runbook, until=until, hours=hours, note=command.note)


def shut_hours(draft: Draft, incident: Incident) -> tuple[Runbook, str]:
    """The runbook whose hours an override would pass, and what its calendar says. Raises Rejected where there is none,
    or where an override would let nothing act."""
    _open(incident)
    if not incident.live:
        raise Rejected("a replay asks no calendar for real")
    if incident.taken_over is not None:
        raise Rejected(f"{incident.taken_over.actor} has taken it over, so nothing is run; act by hand")
    run = incident.active_run
    runbook = draft.runbook_of(incident, run)
    rules = draft.book.rules(incident.rules_hash if run is None else run.rules_hash)
    if runbook is None or rules is None:
        raise Rejected("its runbook has no calendar, so there is nothing to override")
    if run is None and incident.trigger is not Trigger.ALERT and runbook.calendar is not None:
        raise Rejected("it was begun by hand or by a schedule, and nothing starts it again")
    return runbook, hours_to_override(runbook, rules.calendars, draft.now)


def hours_to_override(runbook: Runbook, calendars: Mapping[str, Calendar], now: int) -> str:
    """What the calendar says that a person may override at `now` (µs). Raises Rejected where there is no such thing."""
    if runbook.calendar is None:
        raise Rejected("its runbook has no calendar, so there is nothing to override")
    if runbook.calendar.otherwise == "ask":
        raise Rejected("its calendar asks people: approve what it asks for")
    shut = closed_hours(runbook.calendar, calendars, now)[1]
    if not shut:
        raise Rejected(f"the calendar of {runbook.runbook} lets it act now")
    return "; ".join(state.why for state in shut)


def _cancel(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    run = incident.active_run
    if run is None:
        raise Rejected(f"incident {incident.id} has no run under way")
    return None if run.stopped is not None else f.RunStopped(run=run.number, note=command.note)


def _approve(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    asked = _asked(command, draft, incident)
    if command.plan is None:
        raise Rejected(f"say which plan you approve: {asked.plan}, which is {asked.preview}")
    run = incident.runs[-1]
    if run.cause is Cause.PERSON and run.actor == command.actor:
        raise Rejected(f"{command.actor} started this run, so somebody else with the role {asked.role} must approve it")
    if any(person.actor == command.actor for person in asked.approved):
        raise Rejected(f"{command.actor} has approved already; {asked.people} different people must")
    return f.Approved(run=run.number, step=asked.step, plan=asked.plan, note=command.note)


def _deny(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    asked = _asked(command, draft, incident)
    return f.Denied(run=incident.runs[-1].number, step=asked.step, plan=asked.plan, note=command.note)


def _asked(command: Command, draft: Draft, incident: Incident) -> Approval:
    """The question that is open, which is the one that was answered. Raises Rejected."""
    asked = pending_approval(incident)
    if asked is None or not asked.waits(draft.now):
        raise Rejected(f"incident {incident.id} waits for no approval")
    if command.step not in (None, asked.step):
        raise Rejected(f"step {command.step} waits for no approval; {asked.step} does")
    if command.plan not in (None, asked.plan):
        raise Rejected(f"what would be done has changed since: it is now {asked.preview}")
    return asked


def pending_approval(incident: Incident) -> Approval | None:
    """What people are asked to approve now, or None."""
    run = incident.active_run
    asked = run.approval if run is not None else None
    if run is None or asked is None or run.step(asked.step).status is not StepStatus.APPROVAL:
        return None
    return asked


def _note(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    if not command.note.strip():
        raise Rejected("say the note")
    return f.Noted(text=command.note, via=command.via, word=command.word)


def _takeover(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    _open(incident)
    held = incident.taken_over
    if held is not None and held.actor == command.actor and not incident.unanswered:
        return None
    return f.TakenOver(note=command.note)


def _done(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    run = incident.active_run
    asked = [s.id for s in run.steps if s.status is StepStatus.ASKED] if run else []
    if run is None or not asked:
        raise Rejected(f"incident {incident.id} waits for no manual step")
    if command.step is not None and command.step not in asked:
        raise Rejected(f"step {command.step} is not waiting; {asked[0]} is")
    return f.ManualDone(run=run.number, step=command.step or asked[0], note=command.note)


def _settle(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    if command.applied is None or not command.note:
        raise Rejected("say --applied or --not-applied, and a --reason")
    attempt, open_questions = command.attempt, [a.id for a in incident.unsettled]
    if attempt is None and len(open_questions) == 1:
        attempt = open_questions[0]
    if attempt is not None:
        _doubtful(incident, attempt)
    elif not open_questions:
        raise Rejected(f"incident {incident.id} has no unknown change to settle")
    else:
        raise Rejected(f"say which with --attempt: {', '.join(open_questions)}")
    return f.Settled(attempt=attempt, applied=command.applied, reason=command.note)


def _doubtful(incident: Incident, attempt_id: str) -> None:
    """Only what nobody knows is settled. Raises Rejected with what is known, and what is not."""
    found, left = incident.attempt(attempt_id), ", ".join(a.id for a in incident.unsettled)
    still = f"; what nobody knows is {left}" if left else ""
    if found is None:
        raise Rejected(f"incident {incident.id} has no attempt {attempt_id}{still}")
    run, attempt = found
    if not attempt.doubtful:
        raise Rejected(f"of attempt {attempt_id} it is known: {_known(attempt)}{still}")
    if run.step(attempt.step).status is not StepStatus.UNKNOWN:
        raise Rejected(f"attempt {attempt_id} is still being looked at; people are asked if that tells nothing{still}")


def _known(attempt: Attempt) -> str:
    if attempt.settled:
        word = "happened" if attempt.settled_applied else "did not happen"
        return f"a person said that it {word}: {attempt.probe_detail}"
    if attempt.outcome is None:
        return "it is being done right now"
    if attempt.probe is ProbeAnswer.APPLIED:
        return f"it happened: {attempt.probe_detail}"
    if attempt.probe is ProbeAnswer.NOT_APPLIED:
        return f"it did not happen: {attempt.probe_detail}"
    return f"it ended {attempt.outcome.value}" + (f": {attempt.detail}" if attempt.detail else "")


def _unlock(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    if not command.note:
        raise Rejected("say a --reason")
    if not incident.live:
        raise Rejected("a replay holds no locks")
    run = incident.run
    target = run.target if run is not None else incident.target
    text = draft.scope(lock_name(target))
    if not text:
        raise Rejected(f"{target} is not locked")
    held = legible(Lock, text)
    for holder in held.holders if held is not None else ():
        holding = draft.incident(holder.incident).active_run
        if holding is not None and holding.open_attempt is not None:
            raise Rejected(f"step {holding.open_attempt.step} is being done right now; its lock ends with it")
    return f.Unlocked(target=target, reason=command.note)


def _restore(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    found = restorable(incident, draft.scope)
    if found is None:
        raise Rejected(f"incident {incident.id} has no change in force that could be put back")
    if incident.active_run is not None:
        raise Rejected(
            f"run {incident.active_run.number} is still {incident.active_run.phase}; restore after it has ended"
        )
    origin = incident.attempt(found.attempt)
    if origin is None:
        raise Rejected(
            f"attempt {found.attempt} is too old to be put back automatically; put back {found.preview} by hand"
        )
    run = origin[0]
    return f.RunStarted(
        number=incident.runs[-1].number + 1,
        runbook=run.runbook,
        rules_hash=run.rules_hash,
        target=run.target,
        cause=Cause.RESTORE,
        mode=Mode.AUTO,
        inputs=run.inputs,
        steps=(found.step,),
        restores=found.attempt,
    )


def restorable(incident: Incident, scope: Callable[[str], str | None]) -> InForce | None:
    """The change of this incident that is still in force, or None."""
    for target in dict.fromkeys(r.target for r in reversed(incident.runs)):
        body = legible(InForce, scope(in_force_name(target)))
        if body is not None and body.incident == incident.id:
            return body
    return None


VERBS: dict[str, Callable[[Command, Draft, Incident], f.Fact | None]] = {
    "ack": _ack,
    "takeover": _takeover,
    "snooze": _snooze,
    "escalate": _escalate,
    "hold": _hold,
    "override": _override,
    "cancel": _cancel,
    "approve": _approve,
    "deny": _deny,
    "note": _note,
    "done": _done,
    "settle": _settle,
    "unlock": _unlock,
    "restore": _restore,
}
"""What a person can say about an incident, by the word of CLI and API."""

PAGERS_SAY: dict[str, Callable[[Command, Draft, Incident], f.Fact | None]] = {
    "ack": _ack,
    "unack": _unack,
    "note": _note,
}
"""What a pager's webhook can say. It is verified by its signature; who said it there is only a name."""


@dataclass(frozen=True, slots=True)
class SetPause:
    """Switch automation off or on. Paging goes on either way; runs that wait look again within seconds."""

    id: str
    paused: bool
    actor: str
    reason: str
    book: Book
    scope: str = PAUSE
    """What is paused: see `scopes.pauses_of`."""
    until: int | None = None
    """When the pause ends by itself (µs)."""

    def reads(self) -> Keys:
        """The pause."""
        return Keys(scopes=frozenset({self.scope}))

    def apply(self, state: State) -> Change[Pause]:
        """See the class. Answers the pause as it now is."""
        draft = Draft(self.id, state, self.book)
        known = pause_of(draft.scope(self.scope))
        if known is not None and known.holds(draft.now) == self.paused and known.until == self.until:
            return Change(draft.writes(), known)
        body = Pause(paused=self.paused, actor=self.actor, at=draft.now, reason=self.reason, until=self.until)
        draft.set_scope(ScopeChange(self.scope, body))
        return Change(draft.writes(), body)
