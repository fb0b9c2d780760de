"""An incident: the state that folding its journal gives (`journal` folds, `decide` reads).

All times are integer microseconds since the epoch, UTC.
"""

from __future__ import annotations

from pydantic import Field, JsonValue

from responder.recorded import (
    LIVE,
    AlertsSeen,
    Cause,
    Effect,
    EvidenceItem,
    Mode,
    Observation,
    Outcome,
    Phase,
    Plan,
    ProbeAnswer,
    Recorded,
    Result,
    StepStatus,
    Trigger,
    Verdict,
)
from responder.words import Approval, Person, Snooze

EPISODES_KEPT = 50
"""Episodes that have ended and are still shown; the journal has them all."""

WORDS_KEPT = 100
"""Words from outside that are remembered, so that one which is delivered again counts once."""

NAMES_KEPT = 10
"""Incidents that a storm names; the others it counts."""

RUNS_KEPT = 20
"""Runs that the folded state remembers; older ones stay in the journal."""


class Episode(Recorded):
    """One firing of a fingerprint, as the incident sees it."""

    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str]
    severity: str | None
    firing: bool
    since: int
    ended: int | None = None
    generator_url: str = ""
    elsewhere: bool = False
    """It is not from Alertmanager, so none can be asked about it."""
    silenced: str = ""
    """The silence in Alertmanager, as long as there is one."""


class Attempt(Recorded):
    """One try of a step."""

    id: str
    step: str
    number: int
    action: str
    plan: Plan
    key: str
    intended_at: int
    deadline: int
    epoch: int
    outcome: Outcome | None = None
    detail: str = ""
    output: JsonValue = None
    ended_at: int | None = None
    probe: ProbeAnswer | None = None
    probe_detail: str = ""
    probes: int = 0
    probed_at: int | None = None
    settled: bool = False
    settled_applied: bool = False
    held_back: bool = False
    """A pause came before anything of it was sent."""

    @property
    def open(self) -> bool:
        """An intent without an outcome."""
        return self.outcome is None

    @property
    def happened(self) -> bool:
        """It is known that the change was made, or was accepted; a person's word counts most."""
        if self.settled:
            return self.settled_applied
        return self.outcome is Outcome.OK or self.probe is ProbeAnswer.APPLIED

    @property
    def doubtful(self) -> bool:
        """Nobody knows whether the change was made: its answer was lost, or what was accepted cannot be read back."""
        if self.settled or self.plan.effect is Effect.READ:
            return False
        unclear = self.probe is ProbeAnswer.UNCLEAR
        return (self.outcome is Outcome.UNKNOWN and (unclear or self.probe is None)) or (self.accepted and unclear)

    @property
    def accepted(self) -> bool:
        """The service has answered that it was done."""
        return self.outcome is Outcome.OK


class StepState(Recorded):
    """A step within a run. `retry_at` is when a temporary failure may be tried again."""

    id: str
    status: StepStatus = StepStatus.PENDING
    why: str = ""
    retry_at: int | None = None
    tries: int = 0
    """Failed preparations."""


class Override(Recorded):
    """Who lets one run of `runbook` act outside its hours, and until when; `run` is the one that did."""

    runbook: str
    actor: str
    at: int
    until: int
    note: str
    run: int | None = None

    def lets(self, run: Run, now: int) -> bool:
        """Whether this run passes its calendar by it at `now` (µs): it must begin in time, and is then finished."""
        begins = self.run is None and now < self.until
        return self.runbook == run.runbook and (begins or self.run == run.number)


class Run(Recorded):
    """One execution of a runbook within an incident."""

    number: int
    runbook: str
    rules_hash: str
    target: str
    cause: Cause
    mode: Mode
    inputs: dict[str, str]
    started_at: int
    actor: str
    brake: bool = False
    restores: str | None = None
    """The attempt whose change this run puts back (causes `restore` and `undo`)."""
    reason: str = ""
    """Why a person started it."""
    confirmed: tuple[str, ...] = ()
    """The gates whose warnings that person has seen and confirmed."""
    phase: Phase = Phase.ACTING
    steps: tuple[StepState, ...]
    attempts: tuple[Attempt, ...] = ()
    observations: dict[str, Observation] = Field(default_factory=dict)
    before: dict[str, Observation] = Field(default_factory=dict)
    """The checks as they were before the first change, for `harmful`."""
    plan: Plan | None = None
    plan_step: str | None = None
    planned_at: int | None = None
    """When the plan came in; how old it may be before it is made again counts from here."""
    arrived: dict[str, int] = Field(default_factory=dict)
    """Check -> when its last answer came in; how old that may be before it is asked again counts from here."""
    rounds: int = 0
    """How often something came in for the step that comes next, and nothing else has happened since."""
    alerts: AlertsSeen | None = None
    """What the Alertmanagers said last about the alerts that called for it."""
    by_hand: bool = False
    """A person has done a manual step of it."""
    approval: Approval | None = None
    """What people were asked last about one of its steps."""
    stopped: Person | None = None
    """Who stopped it."""
    verdicts: tuple[Verdict, ...] = ()
    waits_until: int | None = None
    verify_from: int | None = None
    held_from: int | None = None
    polled_at: int | None = None
    evidence: tuple[EvidenceItem, ...] | None = None
    result: Result | None = None
    why: str = ""
    superseded: str = ""
    """The incident of a higher severity whose change ended the verification."""
    ended_at: int | None = None
    ended_seq: int = 0
    """The place of its end in the journal."""

    @property
    def takes_back(self) -> bool:
        """It puts back what another run changed, and is no answer to the alert itself."""
        return self.cause in (Cause.RESTORE, Cause.UNDO)

    @property
    def active(self) -> bool:
        """Not ended."""
        return self.phase is not Phase.ENDED

    @property
    def intended(self) -> bool:
        """True when an attempt that changes something was intended: it is counted, and holds its lock."""
        return any(a.plan.effect is not Effect.READ for a in self.attempts)

    @property
    def acted(self) -> bool:
        """True when such an attempt was not held back: it was sent, or may have been."""
        return any(a.plan.effect is not Effect.READ and not a.held_back for a in self.attempts)

    @property
    def reserved_at(self) -> int | None:
        """Where everything so far was held back: when it was counted as begun, by its latest intent (µs)."""
        intents = [a.intended_at for a in self.attempts if a.plan.effect is not Effect.READ]
        return intents[-1] if intents and not self.acted else None

    @property
    def may_have_changed(self) -> bool:
        """True unless it is known that no attempt has changed anything."""
        known = (Outcome.TEMPORARY, Outcome.PERMANENT)
        return any(a.plan.effect is not Effect.READ and a.outcome not in known for a in self.attempts)

    def step(self, step_id: str) -> StepState:
        """The state of one step. Raises KeyError for a step that the run does not have."""
        for state in self.steps:
            if state.id == step_id:
                return state
        raise KeyError(step_id)

    def attempts_of(self, step_id: str) -> tuple[Attempt, ...]:
        """The attempts of one step, oldest first."""
        return tuple(a for a in self.attempts if a.step == step_id)

    @property
    def open_attempt(self) -> Attempt | None:
        """The attempt without an outcome; a run has at most one."""
        return next((a for a in self.attempts if a.open), None)


class Due(Recorded):
    """One thing that must happen at a time. `work` needs the incident's lease; the others any replica may do."""

    kind: str
    round: int
    due: int
    work: bool = False
    what: str = ""
    """What people are told about it; empty for what does not matter to them."""


class MachineTimer(Recorded):
    """One entry of `unless_fixed` in one round of the clock."""

    announced: int | None = None
    """When the countdown was announced."""
    gathered: bool = False
    fired: bool = False
    held: str | None = None
    starts: str | None = None
    """The runbook that it starts, until that run has started."""
    held_until: int | None = None
    """A person has put it off until then."""
    holds: int = 0
    """How often it was put off."""


class Incident(Recorded):
    """An incident as the sum of its journal."""

    id: str
    namespace: str = LIVE
    runbook: str | None
    rules_hash: str
    policy: str
    target: str
    title: str
    impact: str = ""
    severity: str | None
    mode: Mode = Mode.OBSERVE
    labels: dict[str, str] = Field(default_factory=dict)
    inputs: dict[str, str] = Field(default_factory=dict)
    links: dict[str, str] = Field(default_factory=dict)
    channel: str | None = None
    trigger: Trigger = Trigger.ALERT
    opened_at: int
    seq: int = 0
    episodes: dict[str, Episode] = Field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    problems: tuple[str, ...] = ()
    blocked: bool = False
    """A problem that keeps every run from starting."""
    urgent: str | None = None
    """Why people are paged at once instead of after the grace (design 5.7)."""
    urgent_number: int = 0
    """How many urgent reasons there were; each is told once."""
    urgent_told: int = 0
    ladder_from: int
    ladder_round: int = 0
    levels_reached: dict[str, int] = Field(default_factory=dict)
    """`"round:index"` -> when the level was reached."""
    clock_from: int
    clock_round: int = 0
    machine: dict[str, MachineTimer] = Field(default_factory=dict)
    """`"round:index"` -> the entry of `unless_fixed`."""
    last_paged: int | None = None
    """When somebody was last paged by the ladder or for something urgent."""
    paged_seq: int = 0
    """The place of the latest page in the journal."""
    paged: tuple[tuple[str, str], ...] = ()
    """Whom a page went to: (destination, deduplication key), one for each destination; closing resolves each."""
    replaced: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Key of a page -> the earlier ones at the same destination that end when it is accepted."""
    answered: tuple[str, ...] = ()
    """Keys of pages that tell nothing new when their pager is asked: acknowledged from here, or from an earlier
    round."""
    reached: tuple[str, ...] = ()
    """Destinations that have accepted a page of this round."""
    acknowledged: Person | None = None
    acknowledgements: int = 0
    snoozed: Snooze | None = None
    snoozes: int = 0
    still_since: int | None = None
    """Since when the climb stands still, because somebody has acknowledged or snoozed it."""
    stood: int = 0
    """For how long it has stood still since the latest level of this round."""
    hurried: int | None = None
    """When a person asked for the next level, until it is told."""
    repeats: int = 0
    """How often the ladder began again because nobody answered."""
    pagers_asked: tuple[str, ...] = ()
    """`"round:index"` of the levels before which the pagers were asked."""
    reminders: int = 0
    """How often stakeholders were told that it is still open."""
    heard: tuple[str, ...] = ()
    """The latest words from outside, by their ids: what is delivered twice counts once."""
    override: Override | None = None
    """The last word of a person that a run may act outside its hours."""
    storm: str | None = None
    """The incident that pages for this one and many others."""
    members: int = 0
    """Of a storm: the incidents that joined it."""
    members_open: int = 0
    member_names: tuple[str, ...] = ()
    """Of a storm: the first of them, for people."""
    taken_over: Person | None = None
    watch: Observation | None = None
    """The verification check as last seen while no run was active."""
    watch_holds: bool = False
    watched_at: int | None = None
    """When the check was last asked while no run was active (bookkeeping: polls that change nothing are no facts)."""
    recheck: bool = False
    """An episode ended, or one joined after a finished run: look at once."""
    rejoined: bool = False
    """A fingerprint fired (again) after a finished run."""
    result: Result | None = None
    closed_at: int | None = None
    closed_seq: int = 0
    """The place of the closing in the journal."""
    closed_why: str = ""
    agenda: tuple[Due, ...] = ()

    @property
    def run(self) -> Run | None:
        """The latest run, active or ended."""
        return self.runs[-1] if self.runs else None

    @property
    def active_run(self) -> Run | None:
        """The run under way, or None."""
        run = self.run
        return run if run is not None and run.active else None

    @property
    def superseded(self) -> str:
        """The incident that ended the verification of the latest run; empty when that run was not superseded."""
        return next((run.superseded for run in reversed(self.runs) if not run.takes_back), "")

    @property
    def firing(self) -> tuple[Episode, ...]:
        """The episodes that still fire."""
        return tuple(e for e in self.episodes.values() if e.firing)

    @property
    def listed(self) -> tuple[Episode, ...]:
        """Those of them that an Alertmanager can be asked about."""
        return tuple(e for e in self.firing if not e.elsewhere)

    @property
    def called(self) -> bool:
        """Something still calls for a run: an alert that fires, or a schedule or person, whom no alert can end."""
        return bool(self.firing) or self.trigger is not Trigger.ALERT

    @property
    def closed(self) -> bool:
        """True after `Closed`."""
        return self.closed_at is not None

    @property
    def live(self) -> bool:
        """False in a replay namespace, where nothing acts and nobody is paged."""
        return self.namespace == LIVE

    def attempt(self, attempt_id: str) -> tuple[Run, Attempt] | None:
        """Find an attempt and its run."""
        for run in self.runs:
            for attempt in run.attempts:
                if attempt.id == attempt_id:
                    return run, attempt
        return None

    @property
    def unsettled(self) -> tuple[Attempt, ...]:
        """Changes of which nobody knows whether they happened, oldest first.

        What was sent again with the same key is one change, and named by the first attempt that nobody knows about.
        """
        found: dict[tuple[int, str, str], Attempt] = {}
        for run in self.runs:
            for attempt in run.attempts:
                if attempt.doubtful and run.step(attempt.step).status is StepStatus.UNKNOWN:
                    found.setdefault((run.number, attempt.step, attempt.key), attempt)
        return tuple(found.values())

    @property
    def status(self) -> str:
        """One word for people and lists: closed, acting, verifying, waiting, snoozed, acknowledged, open."""
        run = self.active_run
        if self.closed:
            return "closed"
        if run is not None:
            waiting = run.phase is Phase.ACTING and (run.waits_until is not None or _asked(run))
            return "waiting" if waiting else run.phase.value
        if self.snoozed is not None and self.taken_over is None:
            return "snoozed"
        return "acknowledged" if self.acknowledged or self.taken_over else "open"

    @property
    def somebody(self) -> Person | Snooze | None:
        """Who has it: whoever took it over, acknowledged or snoozed it."""
        return self.taken_over or self.acknowledged or self.snoozed

    @property
    def latest_word(self) -> Person | Snooze | None:
        """Their latest word, by its place in the journal: clocks of two replicas, or one instant, give no order. One
        without is older than any with a place: an older replica drops every place when it writes."""
        words = (self.taken_over, self.acknowledged, self.snoozed)
        return max((word for word in words if word is not None), key=lambda word: (word.seq, word.at), default=None)

    @property
    def unanswered(self) -> bool:
        """A page was put out that nobody's word has followed; after a word without a place, nobody can tell."""
        word = self.latest_word
        return self.paged_seq > 0 if word is None else word.seq == 0 or self.paged_seq > word.seq


def _asked(run: Run) -> bool:
    return any(s.status in (StepStatus.ASKED, StepStatus.APPROVAL) for s in run.steps)
