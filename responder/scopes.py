"""What runs share: locks, run counters, draws on a parameter, the pause, changes still in force.

Each is one row of the table `scopes`, its body the JSON of one model below. The operations lock and rewrite them in
the same transaction as the intent that uses them (design 5.5). Times are integer microseconds since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from pydantic import Field, JsonValue, ValidationError

from responder.recorded import Recorded
from responder.timing import DAY

KEPT = 7 * DAY
"""How long a counter remembers; no limit's window may be longer."""

SCHEDULE = "schedule:"
"""What the scope of a runbook's schedule begins with."""

PAUSE = "pause:global"
"""The scope that stops all automation."""

PAUSES = "pause:"
"""What the scope of every pause begins with."""

OPENINGS = "openings:live"
"""The scope that counts the incidents of alerts, for the storm that holds automation back."""

NOBODY = "responder"
"""Who is named where no person did it."""

STORM = "storm:"
"""What the scope of a policy's storms begins with, and the target of a storm's own incident."""

ENVS_KEPT = 8
"""How many envs one count tells apart: what alerts say of theirs is foreign input."""

ENV_LONGEST = 100
"""Characters of an env by which it is told apart."""

RESULTS_KEPT = 20
"""How many ends of a runbook's runs are remembered (reliability.md S10)."""


Body = TypeVar("Body", bound=Recorded)


class Lock(Recorded):
    """A target's lock. `unknown`: nobody knows whether a change happened; a person settles it or unlocks.

    `beside`: who else holds it. A brake passes the locks of others, and from then on holds the target like them.
    `verifying`: the run changes nothing any more and knows what it has done; one of a higher severity than `severity`
    may supersede it (docs/adr/0022).
    """

    incident: str
    run: int
    since: int
    unknown: bool = False
    verifying: bool = False
    severity: str | None = None
    """Of the incident, as long as the run verifies."""
    beside: tuple[Lock, ...] = ()

    @property
    def holders(self) -> tuple[Lock, ...]:
        """Everybody who holds it."""
        return (self.model_copy(update={"beside": ()}), *self.beside)

    def held_by(self, incident: str, run: int) -> Lock | None:
        """What this run holds of it."""
        return next((held for held in self.holders if (held.incident, held.run) == (incident, run)), None)

    def without(self, incident: str, run: int) -> tuple[Lock, ...]:
        """Everybody else who holds it."""
        return tuple(held for held in self.holders if (held.incident, held.run) != (incident, run))


def lock_of(holders: Iterable[Lock]) -> Lock | None:
    """The lock that these hold together, None of nobody: it says first what nobody knows, then who came first."""
    ordered = sorted(holders, key=lambda held: (not held.unknown, held.since))
    return ordered[0].model_copy(update={"beside": tuple(ordered[1:])}) if ordered else None


class RunCount(Recorded):
    """The runs of one runbook on one target. Cooldown counts from `ended`, the end of the latest run (design 5.4)."""

    started: tuple[int, ...] = ()
    ended: int | None = None
    ineffective: tuple[int, ...] = ()
    fixed: tuple[int, ...] = ()

    def besides(self, own: int | None) -> tuple[int, ...]:
        """The starts without one at `own` (µs), which is that of the run that asks; None: all of them."""
        if own not in self.started:
            return self.started
        at = self.started.index(own)
        return (*self.started[:at], *self.started[at + 1 :])

    def relapsed(self, at: int, within: int) -> bool:
        """Whether a run that starts at `at` comes within `within` µs of one that helped."""
        return any(0 < at - fixed < within for fixed in self.fixed)


class RunEnd(Recorded):
    """How a run that acted ended: whether verification said that it helped."""

    at: int
    good: bool


class Results(Recorded):
    """The latest ends of a runbook's runs on all targets. `began`: when the latest run began that has not ended."""

    ends: tuple[RunEnd, ...] = ()
    began: int | None = None


class Openings(Recorded):
    """When the latest incidents began, no more than make a storm; `until`: when the storm is over at the earliest.

    `envs`: those of each env. What is of none, or of one too many, stands at the top and counts for every env.
    """

    latest: tuple[int, ...] = ()
    until: int | None = None
    envs: dict[str, Openings] = Field(default_factory=dict)

    def storms(self, envs: Collection[str], now: int) -> dict[str, int]:
        """The storms at `now` (µs) of any of these envs, each with its end: those of all envs for what is of none."""
        names = self.envs if "" in envs else envs
        own = {name: self.envs[name].until for name in names if name in self.envs}
        return {name: until for name, until in {"": self.until, **own}.items() if until is not None and until > now}


class Opens(Recorded):
    """The open incidents of a runbook that others yield to, oldest first."""

    incidents: tuple[str, ...] = ()


class Storming(Recorded):
    """When the latest incidents of a policy began, and the storm that took them in last.

    `envs`: those of each env. What is of none, or of one too many, stands at the top and is a count of its own.
    """

    openings: tuple[int, ...] = ()
    storm: str | None = None
    envs: dict[str, Storming] = Field(default_factory=dict)


class Scheduled(Recorded):
    """When a schedule comes due next (None: never again); its text tells whether it is still the same schedule."""

    cron: str
    timezone: str
    next: int | None


class Draw(Recorded):
    """So much taken off a parameter by one intent; never given back, whatever became of it (reliability S7)."""

    at: int
    amount: float
    incident: str
    run: int = 0
    step: str = ""


class Draws(Recorded):
    """All that was taken off one parameter lately."""

    draws: tuple[Draw, ...] = ()

    def within(self, window: int, now: int) -> float:
        """The sum of the last `window` µs, in the parameter's own unit."""
        return sum(d.amount for d in self.draws if d.at > now - window)

    def own(self, incident: str, run: int, step: str) -> float:
        """What this very step has drawn already: trying it again takes nothing more."""
        return sum(d.amount for d in self.draws if (d.incident, d.run, d.step) == (incident, run, step))

    def besides(self, incident: str, run: int, step: str) -> Draws:
        """What all others have drawn."""
        return Draws(draws=tuple(d for d in self.draws if (d.incident, d.run, d.step) != (incident, run, step)))


class Pause(Recorded):
    """Automation, or what the scope's name says of it, stops acting while this row says so; paging goes on."""

    paused: bool
    actor: str
    at: int
    reason: str = ""
    until: int | None = None
    """When it ends by itself (µs); None: when a person ends it."""

    def holds(self, now: int) -> bool:
        """Whether it stops anything at `now` (µs)."""
        return self.paused and (self.until is None or now < self.until)


class InForce(Recorded):
    """A change that a person should put back. It keeps no incident open (design 4)."""

    incident: str
    attempt: str
    step: str
    target: str
    preview: str
    before: JsonValue
    value: JsonValue
    since: int
    remind: int | None = None
    beneath: InForce | None = None
    """The change that this one went on from; it is in force again when this one is put back."""

    @property
    def depth(self) -> int:
        """How many changes are in force, this one and all beneath."""
        return 1 if self.beneath is None else 1 + self.beneath.depth


def lock_name(target: str) -> str:
    """The scope of a target's lock."""
    return f"lock:{target}"


def runs_name(runbook: str, target: str) -> str:
    """The scope of a runbook's run counter on a target."""
    return f"runs:{runbook}|{target}"


def opens_name(runbook: str) -> str:
    """The scope of the open incidents of a runbook that others yield to."""
    return f"open:{runbook}"


def pause_name(what: str, name: str) -> str:
    """The scope that pauses one `runbook` or one `service`."""
    return f"pause:{what}:{name}"


def paused_what(name: str) -> str:
    """What a pause's scope is about, for people: `automation`, `runbook NAME`, `service NAME`."""
    return "automation" if name == PAUSE else name.removeprefix(PAUSES).replace(":", " ", 1)


def pauses_of(runbook: str, services: Iterable[str]) -> tuple[str, ...]:
    """The scopes any of which pauses a step of this runbook that uses these services."""
    return (PAUSE, pause_name("runbook", runbook), *(pause_name("service", name) for name in services))


def change_keys(runbook: str, services: Iterable[str]) -> tuple[str, ...]:
    """What a change counts for: see `changes_name`."""
    return ("global", f"runbook:{runbook}", *(f"service:{name}" for name in services))


def changes_name(key: str) -> str:
    """The scope of the changes of late: `global`, `runbook:NAME` or `service:NAME`."""
    return f"changes:{key}"


def results_name(runbook: str) -> str:
    """The scope of how a runbook's runs ended."""
    return f"results:{runbook}"


def storm_name(policy: str) -> str:
    """The scope that counts the incidents of a policy."""
    return f"{STORM}{policy}"


def env_of(labels: Mapping[str, str]) -> str:
    """The env by which an alert's incident is counted; "" where it says none."""
    return labels.get("env", "")[:ENV_LONGEST]


def told_apart(env: str, envs: Mapping[str, Body], counts: Callable[[Body], bool]) -> tuple[str, dict[str, Body]]:
    """As which env one of `env` is counted, and the envs that still count. An env that is counted lately keeps its
    place, whatever others say; one too many is counted with what is of none."""
    kept = {name: body for name, body in envs.items() if counts(body)}
    return (env if env in kept or len(kept) < ENVS_KEPT else ""), kept


def scheduled_name(runbook: str) -> str:
    """The scope of a runbook's schedule."""
    return f"{SCHEDULE}{runbook}"


def in_force_name(target: str) -> str:
    """The scope of the change in force on a target."""
    return f"in_force:{target}"


def asked_of(runbook: str, target: str, services: Collection[str] = ()) -> frozenset[str]:
    """The scopes that the judgement of a run's steps, which use these services, asks for: an operation names them
    beforehand."""
    changes = (changes_name(key) for key in change_keys(runbook, services))
    own = (lock_name(target), runs_name(runbook, target), results_name(runbook))
    return frozenset({*pauses_of(runbook, services), OPENINGS, *own, *changes})


_MODELS: Mapping[str, type[Recorded]] = {
    PAUSES: Pause,
    "lock:": Lock,
    "runs:": RunCount,
    "results:": Results,
    "openings:": Openings,
    "open:": Opens,
    STORM: Storming,
    SCHEDULE: Scheduled,
    "changes:": Draws,
    "parameter:": Draws,
    "in_force:": InForce,
}
"""Prefix of a scope's name -> what its body is."""

ScopeText = Callable[[str], str | None]
"""Scope name -> body, or None. Raises NotLoaded for a scope that the transaction has not read."""


def parsed(model: type[Body], text: str | None) -> Body | None:
    """A scope's body, or None when there is no row (an empty body counts as none). For gates: see `guards.judge`.

    Raises pydantic.ValidationError for what is no body.
    """
    return model.model_validate_json(text) if text else None


def legible(model: type[Body], text: str | None) -> Body | None:
    """The same for whoever records what happened, None also for what cannot be read: the gates refuse for it, and no
    alert, outcome or word of a person may be lost over a counter. What is written next replaces it."""
    try:
        return parsed(model, text)
    except ValidationError:
        return None


def pause_of(text: str | None) -> Pause | None:
    """A pause. What cannot be read pauses until somebody resumes (reliability.md S1)."""
    try:
        return parsed(Pause, text)
    except ValidationError:
        return Pause(paused=True, actor=NOBODY, at=0, reason="its row in the store cannot be read; `resume` mends it")


def unreadable(name: str, text: str) -> bool:
    """Whether a scope's row has a body that its model refuses."""
    model = next((model for prefix, model in _MODELS.items() if name.startswith(prefix)), None)
    return model is not None and bool(text) and legible(model, text) is None


def recent(times: tuple[int, ...], now: int) -> tuple[int, ...]:
    """What a counter still remembers."""
    return tuple(t for t in times if t > now - KEPT)
