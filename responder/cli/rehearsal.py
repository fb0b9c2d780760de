"""Plays notifications before a set of rules in virtual time: what `responder replay` and its comparison are made of.

Notifications come in when they came in then, people speak when the answers file says so, and what nobody says is
assumed. Not here: the command line (`replay`) and how it is shown (`retelling`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from responder.alert import Limits, parse_notification
from responder.answers import Cue, Says, Script
from responder.assumptions import Assumption, beginning
from responder.cli.replayed import Answered, Beginning, ComingDue, Replay, Unheard, answered
from responder.cron import described, next_after
from responder.errors import BadPayload, Rejected
from responder.mistakes import closest
from responder.pretending import Pretending
from responder.recorded import Result, StepStatus
from responder.simulate import Scene, Simulation, asks, sleep
from responder.simulated_services import Heard, Prompter, SimulatedServices
from responder.timing import SECOND

if TYPE_CHECKING:
    from responder.config import Config
    from responder.contracts import Clock, Render
    from responder.incident import Incident
    from responder.recordings import Recording
    from responder.rules import Rules


@dataclass(frozen=True, slots=True)
class Plot:
    """What is replayed, the same for every set of rules. `start` is µs since the epoch.

    `beyond` is how long to go on after the last notification and the last word of a person, in µs. `values` are those
    of the parameters at the beginning. `schedule` is what the clock starts, if that is rehearsed.
    """

    recordings: tuple[Recording, ...]
    assumption: Assumption
    script: Script
    start: int
    beyond: int
    values: Mapping[str, float]
    schedule: ComingDue | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """Where it is played: the configuration, the message templates, one set of rules."""

    config: Config
    render: Render
    rules: Rules


def stages(file: Path | None, others: Sequence[str]) -> list[Stage]:
    """The configured rules, and beside them those at the paths `others`, if any. Raises BadConfig, BadRules."""
    from responder.app import CATALOGUE
    from responder.config import load_config
    from responder.notifiers import message_templates

    config = load_config(file, CATALOGUE, os.environ, check_secrets=False)
    render = message_templates(None if config.templates is None else config.folder / config.templates).render
    found = [Stage(config, render, _rules(config.rules, config.folder, config))]
    if others:
        found.append(Stage(config, render, _rules([_entry(path) for path in others], Path.cwd(), config)))
    return found


def _rules(entries: Iterable[str], folder: Path, config: Config) -> Rules:
    from responder.app import CATALOGUE
    from responder.loader import load_rules
    from responder.sources import Folders, read_sources, shipped_rules

    return load_rules(read_sources(tuple(entries), Folders(shipped_rules(), folder)), CATALOGUE, config).rules


def _entry(path: str) -> str:
    """How `rules:` would say it: what exists here is a path, anything else may be a shipped catalogue."""
    return f"./{path}" if Path(path).exists() and not Path(path).is_absolute() else path


def plot_of(
    recordings: Sequence[Recording],
    script: Script,
    assumption: Assumption,
    beyond: int,
    before: Sequence[Stage],
    now: int,
) -> Plot:
    """What is played before all these stages; it begins with the first notification that says when, else `now` (µs)."""
    known = sorted((_timed(recording) for recording in recordings), key=lambda recording: recording.at or 0)
    start = min((r.at for r in known if r.at is not None), default=now)
    # The file's values, else assumed ones that suit every set of rules.
    values = {**beginning([stage.rules for stage in before], before[0].config.parameters), **script.parameters}
    return Plot(tuple(known), assumption, script, start, beyond, values)


def placed(recordings: Sequence[Recording], at: int) -> list[Recording]:
    """Those that do not say when they came in come in `at` (µs). Raises Rejected when every one of them says it."""
    known = [_timed(recording) for recording in recordings]
    if all(recording.at is not None for recording in known):
        raise Rejected("every notification says itself when it happened: leave --at out")
    return [replace(recording, at=at) if recording.at is None else recording for recording in known]


def scheduled(plot: Plot, name: str, before: Sequence[Stage]) -> Plot:
    """The plot that begins a second before the schedule of the runbook `name` comes due, at `start` or later.

    Where sets of rules disagree, before the first one. Raises Rejected for what no set starts by the clock.
    """
    known = [book for stage in before if (book := stage.rules.runbooks.get(name)) is not None]
    if not known:
        names = {name for stage in before for name in stage.rules.runbooks}
        raise Rejected(f"no runbook is called {name!r}: {closest(name, names)}")
    schedules = [book.schedule for book in known if book.schedule is not None]
    if not schedules:
        raise Rejected(f"runbook {name} has no schedule: rehearse it with an alert, --alert NAME label=value…")
    dues = [(due, one) for one in schedules if (due := next_after(one, plot.start - 1)) is not None]
    if not dues:
        raise Rejected(f"the schedule of {name} does not come due within fifty years: see its cron")
    due, first = min(dues, key=lambda pair: pair[0])
    return replace(plot, start=due - SECOND, schedule=ComingDue(name, described(first), due))


def _timed(recording: Recording) -> Recording:
    """One that does not say when it came in did so when the last thing that it tells had happened."""
    return replace(recording, at=_told_at(recording.body)) if recording.at is None else recording


def rehearse(plot: Plot, stage: Stage) -> Replay:
    """Play it to its end. Raises BadConfig for templates that cannot be used."""
    making = _Making(plot, stage, Prompter(plot.script), Heard())
    simulation = Simulation(making.scene())
    playing = _Playing(plot, simulation)
    try:
        quiet = playing.play()
        tales = tuple(simulation.tales())
    finally:
        simulation.close()
    given = {name: Beginning(plot.values[name], name in plot.script.parameters) for name in plot.values}
    return Replay(
        assumption=plot.assumption,
        alerts=tuple(a for r in plot.recordings for a in _answered(r.body, stage.rules)),
        tales=tales,
        quiet=quiet,
        start=plot.start,
        file=plot.script.file,
        heard=making.heard,
        parameters=given,
        unasked=tuple(making.prompter.unasked()),
        unheard=tuple(playing.unheard),
        schedule=plot.schedule,
        people_said=bool(plot.script.people),
    )


@dataclass(frozen=True, slots=True)
class _Making:
    """The scene of one rehearsal, and what remembers who answered."""

    plot: Plot
    stage: Stage
    prompter: Prompter
    heard: Heard

    def scene(self) -> Scene:
        """See Scene."""
        config = self.stage.config
        return Scene(
            rules=self.stage.rules,
            parameters=config.parameters,
            notifiers=config.notifiers,
            render=self.stage.render,
            performs=self._performer,
            start=self.plot.start,
            instance=config.name,
            automation=config.automation,
            envs={name: service.env for name, service in config.services.items()},
        )

    def _performer(self, clock: Clock) -> Pretending:
        from responder.actions import ACTIONS

        config = self.stage.config
        simulated = SimulatedServices(config.parameters, self.plot.values, sleep)
        return Pretending(
            ACTIONS,
            simulated.connect,
            config.parameters,
            clock,
            sleep,
            assumption=self.plot.assumption,
            rules=self.stage.rules,
            services=config.services,
            simulated=simulated,
            prompter=self.prompter,
            heard=self.heard,
            started=self.plot.start,
        )


_BEFORE, _POSTED, _AFTER = range(3)
"""At one instant: automation is paused or resumed, then alerts come in, then people speak about them."""


@dataclass(frozen=True, slots=True)
class _Moment:
    offset: int
    rank: int
    do: Callable[[], None]


class _Playing:
    """One simulation under way; `unheard` is what people said in vain."""

    def __init__(self, plot: Plot, simulation: Simulation) -> None:
        self.plot = plot
        self.simulation = simulation
        self.unheard: list[Unheard] = []
        self._resolves = plot.assumption is Assumption.FIXED
        self._by_hand = not plot.script.people

    def play(self) -> bool:
        """Everything at its time, then on until it is quiet. Answers whether it became quiet."""
        posts = [(0 if r.at is None else r.at - self.plot.start, r) for r in self.plot.recordings]
        moments = [_Moment(offset, _POSTED, self._posting(r)) for offset, r in posts]
        moments += [_Moment(offset, _POSTED, _nothing) for offset in self._due()]
        for cue in self.plot.script.people:
            rank = _BEFORE if cue.answer.verb in ("pause", "resume") else _AFTER
            moments.append(_Moment(cue.answer.at, rank, self._saying(cue)))
        last = max((offset for offset, _ in posts), default=0)
        for moment in sorted(moments, key=lambda m: (m.offset, m.rank)):
            if moment.offset > last:  # before that, recorded life says what resolves, and when
                self._settle(moment.offset)
            self.simulation.advance_to(moment.offset)
            moment.do()
        return self._settle(self.simulation.offset + self.plot.beyond)

    def _due(self) -> Iterator[int]:
        """When the rehearsed schedule comes due, if that is within the time."""
        known = self.plot.schedule
        due = None if known is None else self.simulation.arms(known.runbook)
        if due is not None and due - self.plot.start <= self.plot.beyond:
            yield due - self.plot.start

    def _settle(self, until: int) -> bool:
        """Go on until it is quiet, at most to the offset `until`; what is fixed resolves, if that is assumed."""
        simulation = self.simulation
        while simulation.until_quiet(max(until - simulation.offset, 0), self._needs_somebody):
            done = self._by_hand and self._does_by_hand()
            resolved = not done and self._resolves and simulation.resolves_fixed()
            if not (done or resolved or simulation.looks_again(self.plot.script.last_word)):
                return True
        return False

    def _does_by_hand(self) -> bool:
        for incident in self.simulation.incidents():
            self._helps(incident, done=_ends_by_hand(incident))
        return self.simulation.does_by_hand()

    def _helps(self, incident: Incident, *, done: bool) -> None:
        """Steps of people help like changes, once no other step is left: an earlier one leaves the rest its reason."""
        world = self.simulation.performs
        if done and isinstance(world, Pretending):
            world.helps(incident.id)

    def _needs_somebody(self, incident: Incident) -> bool:
        """What is assumed of people and alerts happens to each incident in its time, whatever the others are at."""
        fixed = incident.result is Result.FIXED and bool(incident.firing)
        return (self._by_hand and asks(incident)) or (self._resolves and fixed)

    def _posting(self, recording: Recording) -> Callable[[], None]:
        return lambda: self.simulation.post(recording.body)

    def _saying(self, cue: Cue[Says]) -> Callable[[], None]:
        return lambda: self._say(cue)

    def _say(self, cue: Cue[Says]) -> None:
        says = cue.answer
        if says.verb == "pause":
            self.simulation.pauses(says.actor, says.note)
        elif says.verb == "resume":
            self.simulation.resumes(says.actor)
        else:
            self._tell(cue)

    def _tell(self, cue: Cue[Says]) -> None:
        """About the newest incident for which it makes sense; open ones first."""
        says, reasons = cue.answer, []
        more = {"step": says.step, "applied": says.applied}
        for incident in self._about(says.runbook):
            try:
                self.simulation.person(says.verb, says.actor, says.note, incident=incident.id, **more)
                self._helps(incident, done=says.verb == "done" and _ends_by_hand(incident))
                return
            except Rejected as refused:
                reasons.append(refused.reason)
        why = next(iter(reasons), "there is no such incident yet")
        self.unheard.append(Unheard(self.simulation.offset, cue.place, f"{says.actor}'s {says.verb}", why))

    def _about(self, runbook: str | None) -> list[Incident]:
        newest = reversed(self.simulation.incidents())
        return sorted((i for i in newest if runbook in (None, i.runbook)), key=lambda incident: incident.closed)


def _ends_by_hand(incident: Incident) -> bool:
    """A manual step waits for somebody, and no step comes after it."""
    run = incident.active_run
    return asks(incident) and run is not None and all(step.status is not StepStatus.PENDING for step in run.steps)


def _nothing() -> None:
    """What happens from outside when a schedule comes due: its timer does the rest."""


def _told_at(body: bytes) -> int | None:
    try:
        alerts = parse_notification(body, Limits()).alerts
    except BadPayload:
        return None  # it becomes a dead letter, as it would
    times = [at for a in alerts if (at := a.starts_at if a.firing else a.ends_at) is not None]
    return max(times, default=None)


def _answered(body: bytes, rules: Rules) -> list[Answered]:
    try:
        return [answered(alert, rules) for alert in parse_notification(body, Limits()).alerts]
    except BadPayload:
        return []
