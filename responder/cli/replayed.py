"""What a replay brought, whether it is good, and who gave each answer. How it is shown is `retelling`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from responder import facts as f
from responder.alert import Alert
from responder.answers import CheckAnswer, Cue, StepAnswer
from responder.assumptions import Assumption
from responder.incident import Incident, Run
from responder.recorded import Plan, Result
from responder.rules import Rules
from responder.runbook import target_inputs
from responder.simulated_services import Heard
from responder.story import alert_text, observations_of
from responder.tales import PUT_BACK, Tale


@dataclass(frozen=True, slots=True)
class Answered:
    """What the rules say about one alert."""

    alert: Alert
    runbook: str | None
    matchers: tuple[str, ...]
    target: str
    inputs: Mapping[str, str]
    each: Mapping[str, str]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Beginning:
    """The value of a parameter when it began, and whether a file said so or it is assumed."""

    value: float
    given: bool


@dataclass(frozen=True, slots=True)
class Unheard:
    """What a person said in vain, with its place in the file; `offset` is µs since the beginning."""

    offset: int
    place: str
    said: str
    why: str


@dataclass(frozen=True, slots=True)
class ComingDue:
    """A runbook that its schedule starts: how the schedule reads, and when it comes due (µs since the epoch)."""

    runbook: str
    said: str
    due: int


@dataclass(frozen=True, slots=True)
class Replay:
    """All that a replay brought. `start` is µs since the epoch, `file` that of the answers ("" without one).

    `people_said`: the file says what people do, so they do nothing else.
    """

    assumption: Assumption
    alerts: tuple[Answered, ...]
    tales: tuple[Tale, ...]
    quiet: bool
    start: int
    file: str = ""
    heard: Heard = field(default_factory=Heard)
    parameters: Mapping[str, Beginning] = field(default_factory=dict)
    unasked: tuple[Cue[CheckAnswer] | Cue[StepAnswer], ...] = ()
    unheard: tuple[Unheard, ...] = ()
    schedule: ComingDue | None = None
    people_said: bool = False

    @property
    def assumed(self) -> str:
        """What is assumed, for people."""
        return self.assumption.said_of("people do what the file says") if self.people_said else self.assumption.said

    @property
    def nothing(self) -> str:
        """Why nothing happens, when nothing does."""
        if self.schedule is None:
            return "nothing happens: no alert fires in it"
        outside = f"the schedule of {self.schedule.runbook} comes due outside its hours (`calendar`)"
        return f"nothing happens: {outside} and passes over that time; --at TIME tries a later one"

    @property
    def good(self) -> bool:
        """Every alert has a runbook, and every incident ended well. When nothing happened, nothing was shown."""
        return not self.faults()

    def faults(self) -> list[str]:
        """Why it is not good, each reason once."""
        return list(dict.fromkeys(self._faults()))

    def _faults(self) -> Iterator[str]:
        if not self.tales:
            yield self.nothing
        for one in self.alerts:
            if one.alert.firing and (one.runbook is None or one.problems):
                yield f"{alert_text(one.alert.labels)}: {'; '.join(one.problems) or 'no runbook'}"
        for tale in self.tales:
            if not ended_well(tale):
                yield f"{tale.incident.runbook or tale.incident.target} {_ending(tale)}"

    @property
    def moved(self) -> dict[str, Beginning]:
        """The parameters that matter here: those that a step was made ready for."""
        plans = (getattr(line.event.fact, "plan", None) for tale in self.tales for line in tale.lines)
        # The plan of a question to people is a digest: what it is about was made ready before.
        names = {plan.params.get("parameter") for plan in plans if isinstance(plan, Plan)}
        return {name: known for name, known in sorted(self.parameters.items()) if name in names}


@dataclass(frozen=True, slots=True)
class Ending:
    """How an incident ended, for people: what the run that answered it came to and why, what became of its change
    when that was to be put back, and how the incident stands.
    """

    word: str
    why: str
    back: str
    stands: str
    stopped: bool
    """A person took over what was under way: neither well nor badly ended."""


def ending(tale: Tale) -> Ending:
    """The end of an incident, as it stands when the story is over."""
    incident = tale.incident
    run = next((run for run in reversed(incident.runs) if not run.takes_back), None)
    stopped = run is not None and stopped_by_person(incident, run.result, run.why)
    word = "stopped" if stopped else "no result" if incident.result is None else incident.result.value
    why = run.why if run is not None and run.result is incident.result else ""
    back = "" if run is None else "; ".join(_back([r for r in incident.runs if r.takes_back and r.number > run.number]))
    stands = f"closed: {incident.closed_why}" if incident.closed else f"still {incident.status}"
    return Ending(word, why, back, stands, stopped)


def stopped_by_person(incident: Incident, result: Result | None, why: str) -> bool:
    """Whether a run that ended like this did so because somebody had taken the incident over."""
    person = incident.taken_over
    return person is not None and result is Result.CANCELLED and why == f"taken over by {person.actor}"


def _back(runs: Sequence[Run]) -> Iterator[str]:
    """What became of each change that was to be put back; the last attempt at it counts."""
    latest = list({run.restores: run for run in runs}.values())
    good = sum(run.result is Result.FIXED for run in latest)
    if good:
        some = "its change was" if good == 1 else "its changes were"
        yield f"{some} put back" if good == len(latest) else f"{good} of its changes put back"
    for run in latest:
        which = "its change" if len(latest) == 1 else "one of its changes"
        if run.active:
            yield f"{which} is being put back"
        elif run.result is Result.UNKNOWN:
            yield f"nobody knows whether {which} was put back: {run.why}"
        elif run.result is not Result.FIXED:
            yield f"{which} was {PUT_BACK.get(run.result or Result.FAILED, 'NOT put back')}: {run.why}"


def _ending(tale: Tale) -> str:
    incident = tale.incident
    if incident.unsettled:
        return "left a change behind of which nobody knows whether it happened"
    if incident.active_run is not None:
        return "is not over"
    if incident.problems:
        return f"needs people: {'; '.join(incident.problems)}"
    return f"ended {incident.result.value}" if incident.result is not None else "ended without a result"


def ended_well(tale: Tale) -> bool:
    """Fixed, only observed, or stopped because there was nothing (more) to do; never what people must settle."""
    incident = tale.incident
    if incident.problems or incident.unsettled or incident.active_run is not None:
        return False
    if incident.result is Result.CANCELLED:
        return incident.urgent is None
    return incident.result in (Result.FIXED, Result.OBSERVED)


def answered(alert: Alert, rules: Rules) -> Answered:
    """Which runbook answers an alert, and why."""
    route = rules.route(alert.labels)
    runbook = route.runbook
    problems = ((route.problem,) if route.problem else ()) + route.each_problems
    return Answered(
        alert=alert,
        runbook=None if runbook is None else runbook.runbook,
        matchers=() if runbook is None else tuple(str(m) for m in runbook.matchers),
        target=route.target,
        inputs=dict(route.inputs),
        each={} if runbook is None else {n: v for n, v in route.each.items() if n not in target_inputs(runbook)},
        problems=problems,
    )


# --- who answered -----------------------------------------------------------------------------------------------------


def sources(tale: Tale, heard: Heard) -> dict[int, tuple[str, ...]]:
    """Where the answers behind an event came from, by the event's number: places in the file, or "assumed"."""
    found: dict[int, tuple[str, ...]] = {}
    attempts = _attempts(tale, heard)
    steps: dict[tuple[int, str], str] = {}
    for line in tale.lines:
        fact = line.event.fact
        places = [heard.checks.get((tale.incident.id, o.check, o.asked_at)) for o in observations_of(fact)]
        if isinstance(fact, f.AttemptIntended):
            steps[fact.run, fact.step] = attempts.get(fact.attempt, "")
        elif isinstance(fact, f.AttemptEnded):
            places.append(attempts.get(fact.attempt))
        elif isinstance(fact, f.StepEnded):
            places.append(steps.get((fact.run, fact.step)))
        known = tuple(dict.fromkeys(place for place in places if place))
        if known:
            found[line.event.seq] = known
    return found


def _attempts(tale: Tale, heard: Heard) -> dict[str, str]:
    """The place for each attempt: one key may have been sent several times."""
    left = {key: list(places) for key, places in heard.attempts.items()}
    intended = [line.event.fact for line in tale.lines if isinstance(line.event.fact, f.AttemptIntended)]
    return {fact.attempt: left[fact.key].pop(0) for fact in intended if left.get(fact.key)}
