"""The transactions of people: acknowledge, take over, done, settle, unlock, restore, pause, resume (design 8).

Each says who did it, refuses what makes no sense now (`Rejected`, with what would be accepted), and is safe to send
twice. Whether the person may do it is checked by the edge, before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from responder import facts as f
from responder.draft import Book, Draft, Turn, Worker
from responder.errors import Rejected
from responder.incident import Incident
from responder.recorded import Cause, Mode, StepStatus
from responder.records import Change, Keys, State
from responder.scopes import PAUSE, InForce, Lock, Pause, in_force_name, lock_name, parsed
from responder.scoping import ScopeChange


@dataclass(frozen=True, slots=True)
class Command:
    """One thing that a person says about an incident.

    `verb` is one of VERBS. `note` is a note or a reason; `step` names a manual step, `attempt` an unknown change,
    `applied` what became of it.
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

    def reads(self) -> Keys:
        """The incident."""
        return Keys(incidents=frozenset({self.incident}))

    def apply(self, state: State) -> Change[Turn]:
        """See the class. Raises Rejected."""
        draft = Draft(self.id, state, self.book, self.by)
        verb = VERBS.get(self.verb)
        if verb is None:
            raise Rejected(f"there is no verb {self.verb}; there are {', '.join(sorted(VERBS))}")
        fact = verb(self, draft, draft.incident(self.incident))
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
    return None if already else f.Acknowledged(note=command.note)


def _takeover(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    _open(incident)
    held = incident.taken_over
    if held is not None and held.actor == command.actor:
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
    known = {a.id: a for a in incident.unsettled}
    if command.attempt is None and len(known) == 1:
        attempt = next(iter(known))
    elif command.attempt in known:
        attempt = command.attempt or ""
    elif not known:
        raise Rejected(f"incident {incident.id} has no unknown change to settle")
    else:
        raise Rejected(f"say which with --attempt: {', '.join(known)}")
    return f.Settled(attempt=attempt, applied=command.applied, reason=command.note)


def _unlock(command: Command, draft: Draft, incident: Incident) -> f.Fact | None:
    if not command.note:
        raise Rejected("say a --reason")
    if not incident.live:
        raise Rejected("a replay holds no locks")
    run = incident.run
    target = run.target if run is not None else incident.target
    held = parsed(Lock, draft.scope(lock_name(target)))
    if held is None:
        raise Rejected(f"{target} is not locked")
    holding = draft.incident(held.incident).active_run
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
        body = parsed(InForce, scope(in_force_name(target)))
        if body is not None and body.incident == incident.id:
            return body
    return None


VERBS: dict[str, Callable[[Command, Draft, Incident], f.Fact | None]] = {
    "ack": _ack,
    "takeover": _takeover,
    "done": _done,
    "settle": _settle,
    "unlock": _unlock,
    "restore": _restore,
}
"""What a person can say about an incident, by the word of CLI and API."""


@dataclass(frozen=True, slots=True)
class SetPause:
    """Switch automation off or on. Paging goes on either way; runs that wait look again within seconds."""

    id: str
    paused: bool
    actor: str
    reason: str
    book: Book

    def reads(self) -> Keys:
        """The pause."""
        return Keys(scopes=frozenset({PAUSE}))

    def apply(self, state: State) -> Change[Pause]:
        """See the class. Answers the pause as it now is."""
        draft = Draft(self.id, state, self.book)
        known = parsed(Pause, draft.scope(PAUSE))
        if known is not None and known.paused == self.paused:
            return Change(draft.writes(), known)
        body = Pause(paused=self.paused, actor=self.actor, at=draft.now, reason=self.reason)
        draft.set_scope(ScopeChange(PAUSE, body))
        return Change(draft.writes(), body)
