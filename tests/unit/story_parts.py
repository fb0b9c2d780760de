"""One fact of every kind, with what is said about it."""

from __future__ import annotations

from responder import facts as f
from responder.incident import Incident
from responder.journal import fold
from responder.recorded import (
    Answer,
    Cause,
    Effect,
    EvidenceItem,
    Mode,
    Observation,
    Outcome,
    Plan,
    ProbeAnswer,
    Result,
    StepStatus,
    Verdict,
)
from responder.timing import MILLISECOND, MINUTE, SECOND

T0 = 1_795_183_351 * SECOND  # 14:02:31 UTC
SOON = T0 + 30 * MINUTE
PLAN = Plan(params={}, preview="Kelly fraction 0.25 → 0.1 (VaR breach)", effect=Effect.SET, prepared_at=T0)
SEEN = Observation(check="var", value=1.92, observed_at=T0 - 4 * SECOND, asked_at=T0)
NO = Verdict(gate="cooldown", answer=Answer.WAIT, reason="cooldown of 10m: 4m left", until=T0 + 4 * MINUTE)
YES = Verdict(gate="lock", answer=Answer.ALLOW, reason="risk-api/kelly_fraction is free")
LABELS = {"alertname": "VaRBreach", "symbol": "BTC-USD", "severity": "critical", "platform": "edge-risk"}

OPENED = f.Opened(
    id="i1",
    runbook="var-breach",
    rules_hash="h",
    policy="edge-risk",
    target="risk-api/kelly_fraction",
    title="VaR above 90 % of its limit",
    impact="At 2.5 % the breaker opens and no new positions can be taken",
    severity="critical",
    mode=Mode.AUTO,
    labels=LABELS,
    inputs={},
    links={"runbook": "https://wiki.example/var", "bad": "javascript:alert(1)"},
)
FIRED = f.AlertFired(
    fingerprint="f1",
    labels=LABELS,
    annotations={"summary": "VaR is 1.92 %"},
    severity="critical",
    starts_at=T0,
    generator_url="https://prometheus.example/graph",
)
STARTED = f.RunStarted(
    number=1,
    runbook="var-breach",
    rules_hash="h",
    target="risk-api/kelly_fraction",
    cause=Cause.ALERT,
    mode=Mode.AUTO,
    inputs={},
    steps=("cut_kelly", "tell_desk"),
)
INTENDED = f.AttemptIntended(
    run=1,
    step="cut_kelly",
    attempt="a1",
    number=1,
    action="parameter.reduce",
    plan=PLAN,
    key="k",
    deadline=T0 + 10 * SECOND,
    epoch=1,
)
ENDED = f.AttemptEnded(attempt="a1", outcome=Outcome.OK)
DONE = f.StepEnded(run=1, step="cut_kelly", status=StepStatus.DONE)

SAMPLES: list[tuple[f.Fact, str]] = [
    (OPENED, "VaR above 90 % of its limit: risk-api/kelly_fraction, severity critical. At 2.5 % the breaker opens"),
    (FIRED, "VaRBreach (symbol BTC-USD) fires"),
    (f.AlertResolved(fingerprint="f1", ends_at=T0), "Alertmanager says that VaRBreach (symbol BTC-USD) ended"),
    (f.ScheduleDue(due=0, rules_hash="h", policy="p"), "Its schedule came due"),
    (f.ScheduleDue(due=0, late=7_200_000_000, rules_hash="h", policy="p"), "Its schedule came due, 2h 00m late"),
    (f.SeverityRose(before="warning", severity="critical", policy="p"), "Severity rose from warning to critical"),
    (f.ProblemFound(problem="several runbooks match"), "People are needed: several runbooks match"),
    (STARTED, "Runbook var-breach acts on risk-api/kelly_fraction because of the alert: cut_kelly, tell_desk"),
    (f.Gathered(run=1, observations=(SEEN,), plan=PLAN), "Read: var = 1.92 (4s old); next: Kelly fraction 0.25 → 0.1"),
    (
        f.EvidenceGathered(
            run=1, items=(EvidenceItem(title="position", value={"usd": 5}), EvidenceItem(title="edge", error="timeout"))
        ),
        'Evidence: position: {"usd": 5}; edge: not to be had (timeout)',
    ),
    (f.StepSkipped(run=1, step="cut_kelly", why="when is false"), "cut_kelly skipped: when is false"),
    (f.StepFailed(run=1, step="cut_kelly", why="to is no number"), "cut_kelly could not be tried: to is no number"),
    (
        f.Waiting(run=1, step="cut_kelly", verdicts=(YES, NO), until=T0 + 4 * MINUTE),
        "cut_kelly waits until 14:06:31 UTC: cooldown of 10m: 4m left",
    ),
    (f.Refused(run=1, step="cut_kelly", verdicts=(NO,)), "cut_kelly is refused: cooldown of 10m: 4m left"),
    (
        f.Previewed(run=1, step="cut_kelly", preview="Kelly fraction 0.25 → 0.1", verdicts=(YES,)),
        "Only observing; would do: Kelly fraction 0.25 → 0.1",
    ),
    (
        f.ManualAsked(run=1, step="tell_desk", instruction="Call the desk"),
        "Please do by hand (tell_desk): Call the desk",
    ),
    (f.ManualDone(run=1, step="tell_desk", note="called"), "asha has done tell_desk: called"),
    (INTENDED, "Begins: Kelly fraction 0.25 → 0.1 (VaR breach)"),
    (ENDED, "Kelly fraction 0.25 → 0.1 (VaR breach), accepted in 34ms"),
    (f.Probed(attempt="a1", answer=ProbeAnswer.NOT_APPLIED, detail="it is 0.25"), "it did not happen (it is 0.25)"),
    (DONE, "Kelly fraction 0.25 → 0.1 (VaR breach), accepted in 34ms"),
    (f.Verifying(run=1), "All steps are over; now the check must show that it helped"),
    (f.RunEnded(run=1, result=Result.FIXED, why="1.42 < 1.7 held for 30s"), "1.42 < 1.7 held for 30s: fixed"),
    (f.RunEnded(run=1, result=Result.CANCELLED, why="refused: it is shut"), "refused: it is shut: the run ends"),
    (f.RunEnded(run=1, result=Result.CANCELLED, why="taken over by amy"), "taken over by amy: the run was stopped"),
    (f.Watched(observation=SEEN, holds=False), "The check now: var = 1.92 (4s old); not as expected"),
    (f.Relapsed(why="1.9 < 1.7 does not hold any more"), "It came back: 1.9 < 1.7 does not hold any more"),
    (
        f.LevelReached(round=0, index=1, name="L2", page=("quant",), why="not fixed after 15m", late=2 * MINUTE),
        "Level L2 is told, paging quant: not fixed after 15m (2m 00s late)",
    ),
    (f.UrgentTold(number=2, page=("quant",), why="nobody knows"), "Paging quant at once: nobody knows"),
    (
        f.MachineAnnounced(round=0, index=1, runbook="halt-trading", at=T0 + 2 * MINUTE),
        "halt-trading runs by itself at 14:04:31 UTC, in 1m 59s, unless",
    ),
    (f.MachineGathered(round=0, index=1, observation=SEEN, holds=True), "as expected, so nothing follows"),
    (
        f.MachineFired(round=0, index=1, page=("cro",), runbook="halt-trading"),
        "Not fixed after 34ms: pages cro and starts halt-trading",
    ),
    (f.Acknowledged(note="looking"), "asha has acknowledged: looking."),
    (f.AcknowledgementExpired(count=1, page=("trading-oncall",)), "not fixed in time: pages trading-oncall again"),
    (f.Acknowledged(via="risk-oncall"), "asha has acknowledged in risk-oncall. No further level"),
    (
        f.Unacknowledged(why="reopened", via="risk-oncall"),
        "taken back by asha in risk-oncall: reopened. The climb goes on",
    ),
    (
        f.ApprovalAsked(run=1, step="cut_kelly", plan="d", preview="Kelly 0.25 → 0.1", role="risk-manager", until=SOON),
        "Somebody with the role risk-manager must approve it by 14:32:31 UTC, in 29m 59s, or it is not done: responder",
    ),
    (f.Approved(run=1, step="cut_kelly", plan="d", note="go"), "asha approves cut_kelly: go"),
    (f.Denied(run=1, step="cut_kelly", plan="d"), "asha denies cut_kelly. It is not done, and the run ends"),
    (f.RunStopped(run=1, note="wrong desk"), "asha stops the run: wrong desk. Nothing more is done after the step"),
    (f.Snoozed(until=SOON), "asha wants no page until 14:32:31 UTC, for 29m 59s. What the runbook does"),
    (f.SnoozeEnded(), "The snooze is over, and the climb goes on"),
    (f.EscalationAsked(note="I cannot look"), "asha wants the next level to be told now: I cannot look"),
    (f.CountdownHeld(round=0, index=1, until=SOON), "puts off what was announced to 14:32:31 UTC, in 29m 59s."),
    (
        f.CalendarOverridden(runbook="cut", until=SOON, hours="freeze is open", note="desk agreed"),
        "asha lets one run of cut act outside its hours (freeze is open), if it begins by 14:32:31 UTC: desk agreed.",
    ),
    (f.Noted(text="hedging by hand", via="risk-oncall"), "asha in risk-oncall: hedging by hand"),
    (f.AlertsSilenced(fingerprints=("a",), why="silence s1 by bo"), "1 alert is silenced in Alertmanager (silence s1"),
    (f.AlertsUnsilenced(fingerprints=("a", "b")), "2 alerts are not silenced in Alertmanager any more, and still fire"),
    (f.PagerAsked(round=0, index=1), "Asked before the next level: no pager knows of an answer"),
    (f.PagerAsked(round=0, index=1, said=("oncall: acknowledged by bo",)), "next level: oncall: acknowledged by bo"),
    (
        f.StillOpen(number=1, lasted=60 * MINUTE),
        "can be taken · done: Kelly fraction 0.25 → 0.1 (VaR breach) · next: the run goes on by itself · nobody",
    ),
    (f.LadderRepeated(number=2), "Every level was told and nobody has answered: the ladder begins again"),
    (f.StormJoined(storm="s1"), "One of many that began at once: people are paged for all of them together, see"),
    (f.StormGrew(incident="i2", title="Stale feed", target="md/a"), "Incident i2 is one of them: Stale feed, md/a"),
    (f.StormShrank(incident="i2"), "Incident i2 is over"),
    (f.TakenOver(), "asha takes over. Automation stops here"),
    (f.Settled(attempt="a1", applied=False, reason="it is 0.25"), "(VaR breach) did not happen: it is 0.25"),
    (f.Unlocked(target="risk-api/kelly_fraction", reason="checked"), "asha unlocked risk-api/kelly_fraction: checked"),
    (
        f.RestoreReminded(attempt="a1", step="cut_kelly", preview="Kelly fraction 0.25 → 0.1", since=T0 - 240 * MINUTE),
        "Still in force after 4h 00m: Kelly fraction 0.25 → 0.1",
    ),
    (f.OwnerChanged(owner="b", epoch=2, why="its lease ran out"), "b goes on with this incident: its lease ran out"),
    (f.Paged(destination="quant", key="k", why="level L2"), "Pages quant: level L2"),
    (f.PageAccepted(destination="quant", why="level L2"), "The page to quant was accepted (level L2)"),
    (f.MessageDead(destination="chat", lane="root", error="no such channel"), "chat refuses messages of this incident"),
    (f.Closed(why="all alerts resolved"), "Closed after 34ms: all alerts resolved"),
]


def event(seq: int, at: int, fact: f.Fact, actor: str = "responder") -> f.Event:
    return f.Event(id=f"e{seq}", incident="i1", seq=seq, at=at, actor=actor, fact=fact)


def incident(*further: f.Fact) -> Incident:
    """Opened, fired, cut within 34 ms, and whatever comes next."""
    known: list[f.Fact] = [OPENED, FIRED, STARTED, INTENDED]
    events = [event(n + 1, T0, fact) for n, fact in enumerate(known)]
    events += [event(len(events) + n + 1, T0 + 34 * MILLISECOND, x) for n, x in enumerate([ENDED, DONE, *further])]
    return fold(events)
