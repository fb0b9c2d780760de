"""Whether people's words were kept in a simulated world: pauses, stops, take-overs, approvals, and the alert's end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from responder import facts as f
from responder.recorded import Cause, Mode
from responder.runbook import Approval
from responder.timing import SECOND
from tests.campaigns.edge import Paused
from tests.campaigns.intents import BACK, Change, Seen


def pauses(seen: Seen) -> Iterator[str]:
    """Nothing is intended once a pause is written; what a person puts back, or confirmed as a brake, passes it."""
    for change in seen.changes:
        if change.run.cause in (Cause.RESTORE, Cause.PERSON):
            continue
        for scope in ("pause:global", f"pause:runbook:{change.run.runbook}", f"pause:service:{change.service}"):
            since = _since([one for one in seen.paused if one.scope == scope and one.place <= change.place])
            if since is not None:
                yield f"pause: {change} {(change.at - since) / SECOND:g} s after {scope}"


def after_a_pause(seen: Seen) -> Iterator[str]:
    """Nothing leaves more than a second after a pause is written, also when it was intended before it."""
    for change in late(seen):
        yield f"pause: {change} left more than a second after a pause that came after its intent"


def late(seen: Seen) -> Iterator[Change]:
    """What left more than a second after a pause: an action may read, and wait for the answer, before it writes."""
    for call in seen.found.ledger.calls:
        change = seen.by_key.get(call.key)
        if change is None or change.run.cause in (Cause.RESTORE, Cause.PERSON):
            continue
        scopes = ("pause:global", f"pause:runbook:{change.run.runbook}", f"pause:service:{change.service}")
        times = [_since([one for one in seen.paused if one.scope == scope and one.at <= call.at]) for scope in scopes]
        if any(since is not None and call.at > since + SECOND for since in times):
            yield change


def _since(switched: Iterable[Paused]) -> int | None:
    """Since when it is paused after these switches of one scope, None when it is not."""
    since = None
    for one in switched:
        since = (one.at if since is None else since) if one.paused else None
    return since


def stopped(seen: Seen) -> Iterator[str]:
    """Nothing new after a take-over, a stop, the end of the run, or of the incident."""
    for change in seen.changes:
        earlier = [e for e in change.case.events if e.seq < change.event.seq]
        for event in earlier:
            fact = event.fact
            over = isinstance(fact, f.TakenOver) and change.run.cause not in (Cause.RESTORE, Cause.PERSON)
            over |= isinstance(fact, f.Closed) and change.run.cause is not Cause.RESTORE
            over |= isinstance(fact, f.RunStopped | f.RunEnded) and fact.run == change.run.number
            if over:
                yield f"stopped: {change} after {fact.kind}"


def called_for(seen: Seen) -> Iterator[str]:
    """Nothing is changed any more when every alert has resolved, but a sequence that must be finished."""
    for change in seen.changes:
        if change.run.cause in (*BACK, Cause.PERSON):
            continue
        firing: set[str] = set()
        begun = False
        for event in (e for e in change.case.events if e.seq < change.event.seq):
            if isinstance(event.fact, f.AlertFired):
                firing.add(event.fact.fingerprint)
            elif isinstance(event.fact, f.AlertResolved):
                firing.discard(event.fact.fingerprint)
            begun |= isinstance(event.fact, f.AttemptIntended | f.ManualDone) and event.fact.run == change.run.number
        if not firing and not (change.runbook.finish_once_started and begun):
            yield f"resolved: {change} though no alert fires"


def approvals(seen: Seen) -> Iterator[str]:
    """Who must say yes has said it, to exactly this, in time, and nobody no."""
    for change in seen.changes:
        wanted = change.step.approval or (Approval() if change.run.mode is Mode.APPROVE else None)
        if change.run.mode is Mode.OBSERVE:
            yield f"mode: {change} in mode observe"
        if wanted is None or change.run.cause is Cause.RESTORE or change.attempt.number > 1:
            continue
        asked: f.ApprovalAsked | None = None
        yes: set[str] = set()
        for event in (e for e in change.case.events if e.seq < change.event.seq):
            fact = event.fact
            if isinstance(fact, f.ApprovalAsked) and (fact.run, fact.step) == (change.run.number, change.step.id):
                asked, yes = fact, set()
            elif isinstance(fact, f.Approved) and asked is not None and fact.plan == asked.plan:
                yes.add(event.actor)
            elif isinstance(fact, f.Denied):
                asked = None
        yes -= {change.run.actor} if change.run.cause is Cause.PERSON else set()
        if asked is None or len(yes) < wanted.people or change.at >= asked.until:
            yield f"approval: {change}: asked {asked}, yes of {sorted(yes)}"
        elif asked.preview != change.attempt.plan.preview:
            yield f"approval: {change}: {asked.preview} was approved, {change.attempt.plan.preview} was done"
