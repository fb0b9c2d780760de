"""Facts that may come in any order."""

from __future__ import annotations

from responder import facts as f
from responder.recorded import Observation, Outcome, Result, StepStatus
from tests.builders import T0, a_plan, ended, fired, intended, started

SEEN = Observation(check="risk", value=0.5, observed_at=T0, asked_at=T0)
ANY: list[f.Fact] = [
    fired(), fired("b", joined=True), f.AlertResolved(fingerprint="a", ends_at=None),
    f.AlertResolved(fingerprint="never", ends_at=None), f.SeverityRose(before=None, severity="critical", policy="p"),
    f.ScheduleDue(due=T0, rules_hash="h", policy="p"),
    f.ProblemFound(problem="p"), started(), started(number=2), f.Gathered(run=1, observations=(SEEN,), holds=True),
    f.Gathered(run=1, plan=a_plan(), step="cut"), f.Gathered(run=7, observations=(SEEN,)),
    f.EvidenceGathered(run=1, items=()), f.StepSkipped(run=1, step="cut", why=""),
    f.StepSkipped(run=1, step="no", why=""),
    f.StepFailed(run=1, step="cut", why=""), f.Waiting(run=1, step="cut", verdicts=(), until=T0),
    f.Refused(run=1, step="cut", verdicts=()), f.Previewed(run=1, step="cut", preview="", verdicts=()),
    f.ManualAsked(run=1, step="cut", instruction=""), f.ManualDone(run=1, step="cut"), intended(), intended(2),
    ended(Outcome.OK), ended(Outcome.UNKNOWN, 2), ended(Outcome.OK, 9), f.Probed(attempt="none", answer="unclear"),
    f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN), f.Verifying(run=1), f.Verifying(run=9),
    f.RunEnded(run=1, result=Result.FIXED, why=""), f.RunEnded(run=3, result=Result.FAILED, why=""),
    f.Watched(observation=SEEN, holds=True), f.Relapsed(why=""),
    f.LevelReached(round=0, index=0, name="L1", page=(), why=""), f.UrgentTold(number=1, page=("first",), why=""),
    f.MachineAnnounced(round=0, index=0, runbook="x", at=T0),
    f.MachineGathered(round=0, index=0, observation=SEEN, holds=False), f.MachineFired(round=0, index=0, runbook="x"),
    f.Acknowledged(), f.AcknowledgementExpired(count=1, page=()), f.TakenOver(),
    f.Settled(attempt="i1.1.cut.2", applied=True, reason=""), f.Unlocked(target="t", reason=""),
    f.OwnerChanged(owner="o", epoch=2, why=""), f.RestoreReminded(attempt="a", step="s", preview="", since=T0),
    f.Paged(destination="first", key="k", why=""), f.PageAccepted(destination="first"),
    f.MessageDead(destination="room", lane="thread", error=""), f.Closed(why=""),
    f.ApprovalAsked(run=1, step="cut", plan="p", preview="", role="r", until=T0),
    f.Approved(run=1, step="cut", plan="p"),
    f.Denied(run=1, step="cut", plan="p"), f.Denied(run=5, step="cut", plan="p"), f.RunStopped(run=1),
    f.Noted(text="x"),
    f.Snoozed(until=T0), f.SnoozeEnded(), f.Unacknowledged(why=""), f.EscalationAsked(), f.LadderRepeated(number=1),
    f.PagerAsked(round=0, index=1), f.StillOpen(number=1, lasted=1), f.StormJoined(storm="s"),
    f.StormShrank(incident="c"),
    f.AlertsSilenced(fingerprints=("a", "none"), why="s1"), f.AlertsUnsilenced(fingerprints=("a",)),
    f.StormGrew(incident="c", title="", target="t"), f.CountdownHeld(round=0, index=0, until=T0),
    f.CalendarOverridden(runbook="var-breach", until=T0, hours="", note=""),
]  # fmt: skip
