"""The values that facts and states are made of, and the closed sets of their words (design 2).

All times are integer microseconds since the epoch, UTC; all durations are microseconds.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, JsonValue

LIVE = "live"
"""The namespace of real notifications. Every other one is a replay: it never acts and never pages (design 5.2)."""


class Recorded(BaseModel):
    """A stored value. Unknown fields are ignored, so that an older replica can read what a newer one wrote."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Effect(StrEnum):
    """What repeating an attempt means (design 2); each member says what follows when the answer was lost."""

    READ = "read"
    """It is read again."""
    SET = "set"
    """It is read: at the target it happened; as before, it is sent again; anything else is unknown."""
    KEYED = "keyed"
    """It is sent again with the same key, which the service honours."""
    PROBED = "probed"
    """The probe is asked: it happened, or it is sent again; no clear answer is unknown."""
    UNSAFE = "unsafe"
    """Unknown."""


class Outcome(StrEnum):
    """How an attempt ended."""

    OK = "ok"
    TEMPORARY = "temporary"
    PERMANENT = "permanent"
    UNKNOWN = "unknown"


class Result(StrEnum):
    """How a run ended."""

    FIXED = "fixed"
    """The check of `verify` held on fresh data."""
    CONTAINED = "contained"
    """The same for a brake that `unless_fixed` started: the risk is held, its cause is not found."""
    INEFFECTIVE = "ineffective"
    """It acted, and the check did not hold in time."""
    UNVERIFIED = "unverified"
    """It acted, and nothing tells whether it helped."""
    HARMFUL = "harmful"
    """The condition `harmful` held."""
    FAILED = "failed"
    """A step failed."""
    UNKNOWN = "unknown"
    """Nobody knows whether a change happened: the target stays locked until a person settles it."""
    CANCELLED = "cancelled"
    """Nothing (more) was changed: a gate refused, the alert resolved, or a person took over."""
    OBSERVED = "observed"
    """Nothing was to be changed: `mode: observe`, or a schedule."""


class Mode(StrEnum):
    """How far automation may go. The order is the order of freedom; a ceiling takes the smaller one."""

    OBSERVE = "observe"
    """Nothing is changed; it is told what would be done."""
    APPROVE = "approve"
    """A person approves each change."""
    AUTO = "auto"
    """It acts."""


class Cause(StrEnum):
    """Why a run was started."""

    ALERT = "alert"
    RELAPSE = "relapse"
    UNLESS_FIXED = "unless_fixed"
    RESTORE = "restore"
    UNDO = "undo"
    SCHEDULE = "schedule"
    PERSON = "person"


class Trigger(StrEnum):
    """What called for an incident."""

    ALERT = "alert"
    SCHEDULE = "schedule"
    PERSON = "person"


def strictest(*modes: Mode) -> Mode:
    """The one that lets least be done."""
    return min(modes, key=list(Mode).index)


class Phase(StrEnum):
    """Where a run is."""

    ACTING = "acting"
    VERIFYING = "verifying"
    ENDED = "ended"


class StepStatus(StrEnum):
    """Where a step is."""

    PENDING = "pending"
    SKIPPED = "skipped"
    ASKED = "asked"  # a manual step that a person has been asked to do
    APPROVAL = "approval"  # people are asked whether it may be done
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


class ProbeAnswer(StrEnum):
    """What a probe found out about an attempt without a known outcome."""

    APPLIED = "applied"
    NOT_APPLIED = "not_applied"
    UNCLEAR = "unclear"


class Answer(StrEnum):
    """A guard's answer."""

    ALLOW = "allow"
    WAIT = "wait"
    ASK = "ask"
    DENY = "deny"


class Verdict(Recorded):
    """One guard's answer with its reason in numbers. `until` is set for WAIT. `warn` marks what a brake passed."""

    gate: str
    answer: Answer
    reason: str
    until: int | None = None
    warn: bool = False
    override: bool = False
    """A person lets it pass (docs/adr/0026)."""


class Observation(Recorded):
    """What a check answered. `observed_at` is the sample's own time (design 5.6); `error`: why there is no value."""

    check: str
    value: JsonValue = None
    observed_at: int | None = None
    asked_at: int
    error: str | None = None

    @property
    def missing(self) -> bool:
        """True when there is no usable value: unreachable, empty, NaN."""
        return self.error is not None or self.value is None


class Plan(Recorded):
    """A step, made ready: targets are absolute and fixed here, so that doing it again does the same (design 5.3)."""

    params: dict[str, JsonValue]
    preview: str
    effect: Effect
    prepared_at: int
    before: JsonValue = None
    target: JsonValue = None
    nothing_to_do: str | None = None
    draws: dict[str, float] = Field(default_factory=dict)
    """What it uses up, by scope name: `{"parameter:risk-api/kelly_fraction": 0.15}`."""
    undoable: bool = False
    blind: bool = True
    """Its action has no probe, so nothing tells afterwards whether it is in force. Plans of before this was kept count
    as such: else a put-back of theirs would be asked about where nothing answers."""
    parts: tuple[str, ...] = ()
    """What a person's yes is bound to, one by one, where `before` or `target` hold what moves with the time. A later
    plan with fewer of them is still approved, one with another is not. Of several, `target` lists them in the same
    order."""


class EvidenceItem(Recorded):
    """One reading for people."""

    title: str
    value: JsonValue = None
    error: str | None = None


class AlertState(StrEnum):
    """What the Alertmanagers say about an alert (contracts.md A6)."""

    FIRING = "firing"
    """At least one lists it as active."""
    SILENCED = "silenced"
    """Somebody has silenced it there, and none lists it as active."""
    INHIBITED = "inhibited"
    """It fires, and another alert keeps it from being told."""
    GONE = "gone"
    """Every one answered, knows everything again since its start, and lists it no more."""
    UNCLEAR = "unclear"
    """None lists it, and not every one can be believed about that."""


class AlertView(Recorded):
    """One alert as the Alertmanagers see it. `why`: the silence, or why it is unclear."""

    fingerprint: str
    state: AlertState
    why: str = ""


class AlertsSeen(Recorded):
    """What the Alertmanagers said about the firing alerts of an incident when they were asked, at `observed_at`."""

    observed_at: int
    asked: int = 0
    """About how many alerts."""
    others: tuple[AlertView, ...] = ()
    """Those of them that do not plainly fire."""
    nobody: str = ""
    """Why nobody was asked."""
