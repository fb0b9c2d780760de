"""The closed set of what can be recorded in an incident's journal.

A fact is recorded once and never changed. What facts add up to is `incident`; which one comes next is `decide`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from responder.people_facts import (
    Acknowledged,
    AcknowledgementExpired,
    ApprovalAsked,
    Approved,
    CalendarOverridden,
    CountdownHeld,
    Denied,
    EscalationAsked,
    LadderRepeated,
    LevelReached,
    ManualAsked,
    ManualDone,
    MessageDead,
    Noted,
    PageAccepted,
    Paged,
    PagerAsked,
    RestoreReminded,
    RunStopped,
    Settled,
    Snoozed,
    SnoozeEnded,
    StillOpen,
    StormGrew,
    StormJoined,
    StormShrank,
    TakenOver,
    Unacknowledged,
    Unlocked,
    UrgentTold,
)
from responder.recorded import (
    LIVE,
    AlertsSeen,
    Cause,
    EvidenceItem,
    Mode,
    Observation,
    Outcome,
    Plan,
    ProbeAnswer,
    Recorded,
    Result,
    StepStatus,
    Trigger,
    Verdict,
)

__all__ = [
    "FACT", "Acknowledged", "AcknowledgementExpired", "AlertFired", "AlertResolved", "AlertsSilenced",
    "AlertsUnsilenced", "ApprovalAsked", "Approved", "AttemptEnded", "AttemptIntended",
    "CalendarOverridden", "Closed", "CountdownHeld",
    "Denied", "EscalationAsked", "Event", "EvidenceGathered", "Fact", "Gathered", "LadderRepeated", "LevelReached",
    "MachineAnnounced", "MachineFired", "MachineGathered", "ManualAsked", "ManualDone", "MessageDead", "Noted",
    "Opened", "OwnerChanged", "PageAccepted", "Paged", "PagerAsked", "Previewed", "Probed", "ProblemFound", "Refused",
    "Relapsed", "RestoreReminded", "RunEnded", "RunStarted", "RunStopped", "ScheduleDue", "Settled", "SeverityRose",
    "SnoozeEnded", "Snoozed", "StepEnded", "StepFailed", "StepSkipped", "StillOpen", "StormGrew", "StormJoined",
    "StormShrank", "TakenOver", "Unacknowledged", "Unlocked", "UrgentTold", "Verifying", "Waiting", "Watched",
]  # fmt: skip


class Opened(Recorded):
    """The incident began."""

    kind: Literal["opened"] = "opened"
    id: str
    namespace: str = LIVE
    runbook: str | None
    rules_hash: str
    policy: str
    target: str
    title: str
    impact: str = ""
    severity: str | None
    mode: Mode
    labels: dict[str, str]
    inputs: dict[str, str]
    links: dict[str, str] = Field(default_factory=dict)
    channel: str | None = None
    trigger: Trigger = Trigger.ALERT


class AlertFired(Recorded):
    """An episode began, or a fingerprint joined."""

    kind: Literal["alert_fired"] = "alert_fired"
    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str]
    severity: str | None
    starts_at: int | None
    generator_url: str = ""
    joined: bool = False
    found: bool = False
    """Nobody told us: Alertmanager was asked and has it."""
    elsewhere: bool = False
    """It is not from Alertmanager (Grafana sent it, or we ourselves), so none can be asked about it."""


class AlertResolved(Recorded):
    """Alertmanager says that an episode ended: a hint, not a proof (design 5.6)."""

    kind: Literal["alert_resolved"] = "alert_resolved"
    fingerprint: str
    ends_at: int | None
    found: bool = False
    """Nobody told us: every Alertmanager was asked, twice, and none lists it any more."""


class AlertsSilenced(Recorded):
    """Somebody has silenced alerts of the incident in Alertmanager: told once, for nothing else would tell of it."""

    kind: Literal["alerts_silenced"] = "alerts_silenced"
    fingerprints: tuple[str, ...]
    why: str
    """The silences, with whom made them."""


class AlertsUnsilenced(Recorded):
    """Alerts of the incident fire in Alertmanager again, after a silence."""

    kind: Literal["alerts_unsilenced"] = "alerts_unsilenced"
    fingerprints: tuple[str, ...]


class SeverityRose(Recorded):
    """A higher severity starts its own ladder and clock, also after an acknowledgement (design 5.2)."""

    kind: Literal["severity_rose"] = "severity_rose"
    before: str | None
    severity: str | None
    policy: str


class ProblemFound(Recorded):
    """Something that people must know at once: no runbook, two runbooks, a bad input, a version that cannot be read."""

    kind: Literal["problem_found"] = "problem_found"
    problem: str
    urgent: bool = True
    blocks: bool = False
    """True when no run may start because of it: people alone."""


class ScheduleDue(Recorded):
    """The runbook's schedule came due: a run follows, by the rules of this moment."""

    kind: Literal["schedule_due"] = "schedule_due"
    due: int
    rules_hash: str
    policy: str
    late: int = 0


class RunStarted(Recorded):
    """A run began."""

    kind: Literal["run_started"] = "run_started"
    number: int
    runbook: str
    rules_hash: str
    target: str
    cause: Cause
    mode: Mode
    inputs: dict[str, str]
    steps: tuple[str, ...]
    brake: bool = False
    restores: str | None = None
    machine: str | None = None
    """The `"round:index"` of the `unless_fixed` entry that started it."""
    reason: str = ""
    """Why a person started it."""
    confirmed: tuple[Verdict, ...] = ()
    """What the gates warned of when that person confirmed it."""


class Gathered(Recorded):
    """Answers to what `decide` had to know, with the plan of the step that comes next."""

    kind: Literal["gathered"] = "gathered"
    run: int
    observations: tuple[Observation, ...] = ()
    plan: Plan | None = None
    step: str | None = None
    holds: bool | None = None
    """During verification: whether the expectation held."""
    anew: bool = False
    """During verification: nobody looked for a while, so that settling is over and holding begins again."""
    alerts: AlertsSeen | None = None
    """What the Alertmanagers said about the alerts that called for the run."""


class EvidenceGathered(Recorded):
    """Readings for people."""

    kind: Literal["evidence_gathered"] = "evidence_gathered"
    run: int
    items: tuple[EvidenceItem, ...]


class StepSkipped(Recorded):
    """A step whose `when` is not true."""

    kind: Literal["step_skipped"] = "step_skipped"
    run: int
    step: str
    why: str


class StepFailed(Recorded):
    """A step that could not even be tried: bad parameters after rendering, a preparation that failed."""

    kind: Literal["step_failed"] = "step_failed"
    run: int
    step: str
    why: str
    retry_at: int | None = None
    """Set when the preparation may be tried again then."""


class Waiting(Recorded):
    """A gate said: not yet."""

    kind: Literal["waiting"] = "waiting"
    run: int
    step: str
    verdicts: tuple[Verdict, ...]
    until: int


class Refused(Recorded):
    """A gate said no; the run ends and people are told (design 5.5: refusing is never silent)."""

    kind: Literal["refused"] = "refused"
    run: int
    step: str
    verdicts: tuple[Verdict, ...]
    urgent: bool = True
    """False when fresh evidence says that there is nothing to do."""


class Previewed(Recorded):
    """Observe mode: what the step would have done."""

    kind: Literal["previewed"] = "previewed"
    run: int
    step: str
    preview: str
    verdicts: tuple[Verdict, ...]


class AttemptIntended(Recorded):
    """The intent, committed before the world is touched (design 5.3)."""

    kind: Literal["attempt_intended"] = "attempt_intended"
    run: int
    step: str
    attempt: str
    number: int
    action: str
    plan: Plan
    key: str
    deadline: int
    epoch: int
    verdicts: tuple[Verdict, ...] = ()
    services: tuple[str, ...] = ()
    """The services that it uses, whose changes are counted."""
    supersedes: tuple[str, ...] = ()
    """The incidents whose runs only verified this target, and end with this intent (docs/adr/0022)."""


class NotYet(Recorded):
    """A reading did not answer what its step expects, and is asked again: which try it was, of how many, and why."""

    tried: int
    of: int
    why: str


class AttemptEnded(Recorded):
    """The outcome."""

    kind: Literal["attempt_ended"] = "attempt_ended"
    attempt: str
    outcome: Outcome
    detail: str = ""
    output: JsonValue = None
    retry_at: int | None = None
    not_yet: NotYet | None = None
    """Of a reading: why it is asked again at `retry_at`."""
    held_back: bool = False
    """A pause came before anything was sent; `detail` says which. No attempt of `retry`."""


class Probed(Recorded):
    """What a probe found about an attempt without a known outcome."""

    kind: Literal["probed"] = "probed"
    attempt: str
    answer: ProbeAnswer
    detail: str = ""


class StepEnded(Recorded):
    """The step's own end, after retries, `expect` and recovery."""

    kind: Literal["step_ended"] = "step_ended"
    run: int
    step: str
    status: StepStatus
    why: str = ""


class Verifying(Recorded):
    """All steps are over; verification counts from here."""

    kind: Literal["verifying"] = "verifying"
    run: int


class RunEnded(Recorded):
    """A run's result."""

    kind: Literal["run_ended"] = "run_ended"
    run: int
    result: Result
    why: str
    superseded: str = ""
    """The incident of a higher severity whose change ended the verification."""


class Watched(Recorded):
    """The verification check changed while no run was active."""

    kind: Literal["watched"] = "watched"
    observation: Observation
    holds: bool


class Relapsed(Recorded):
    """The check went bad again after a finished run: the clock starts anew."""

    kind: Literal["relapsed"] = "relapsed"
    why: str
    restarts: bool = True
    """The clock of `unless_fixed` begins anew. Not while a promise is still to come: newcomers must not put it off."""


class MachineAnnounced(Recorded):
    """A machine timer's countdown began."""

    kind: Literal["machine_announced"] = "machine_announced"
    round: int
    index: int
    runbook: str
    at: int


class MachineGathered(Recorded):
    """The check, read when a machine timer came due."""

    kind: Literal["machine_gathered"] = "machine_gathered"
    round: int
    index: int
    observation: Observation
    holds: bool


class MachineFired(Recorded):
    """An entry of `unless_fixed` came due: whom it pages, which runbook it starts, or why it holds back."""

    kind: Literal["machine_fired"] = "machine_fired"
    round: int
    index: int
    page: tuple[str, ...] = ()
    runbook: str | None = None
    held: str | None = None
    good: bool = False
    """True when the check said that it is fixed."""
    late: int = 0


class OwnerChanged(Recorded):
    """Another process took the incident over."""

    kind: Literal["owner_changed"] = "owner_changed"
    owner: str
    epoch: int
    why: str


class Closed(Recorded):
    """The incident is over."""

    kind: Literal["closed"] = "closed"
    why: str


Fact = Annotated[
    Opened
    | AlertFired
    | AlertResolved
    | AlertsSilenced
    | AlertsUnsilenced
    | SeverityRose
    | ProblemFound
    | ScheduleDue
    | RunStarted
    | Gathered
    | EvidenceGathered
    | StepSkipped
    | StepFailed
    | Waiting
    | Refused
    | Previewed
    | ManualAsked
    | ApprovalAsked
    | Approved
    | Denied
    | RunStopped
    | ManualDone
    | AttemptIntended
    | AttemptEnded
    | Probed
    | StepEnded
    | Verifying
    | RunEnded
    | Watched
    | Relapsed
    | LevelReached
    | LadderRepeated
    | EscalationAsked
    | PagerAsked
    | StillOpen
    | StormJoined
    | StormGrew
    | StormShrank
    | UrgentTold
    | MachineAnnounced
    | CountdownHeld
    | CalendarOverridden
    | MachineGathered
    | MachineFired
    | Acknowledged
    | AcknowledgementExpired
    | Unacknowledged
    | Snoozed
    | SnoozeEnded
    | Noted
    | TakenOver
    | Settled
    | Unlocked
    | OwnerChanged
    | RestoreReminded
    | Paged
    | PageAccepted
    | MessageDead
    | Closed,
    Field(discriminator="kind"),
]

FACT: TypeAdapter[Fact] = TypeAdapter(Fact)
"""Parses and writes a fact's journal body (JSON)."""


class Event(Recorded):
    """A recorded fact: the `seq`-th of its incident, at `at`, by `actor`."""

    id: str
    incident: str
    seq: int
    at: int
    actor: str
    fact: Fact
