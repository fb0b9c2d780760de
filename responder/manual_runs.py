"""The transactions of runs that a person starts: what would be done and what every gate says, and the beginning.

A run by hand is an incident of its own, apart from those of alerts: it begins and ends by a person's word, whatever
alerts do meanwhile, and the target's lock keeps the two from each other's way. Whoever confirms it confirms a plan, by
its digest. Who may, and what the world says to each step, is not decided here (`security`, `planning`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from responder import facts as f
from responder.approvals import approval_wanted
from responder.cases import Case, deny, only_lowers
from responder.commands import OVERRIDE, hours_to_override
from responder.draft import Book, Draft, Turn, Worker, scopes_of
from responder.errors import Rejected
from responder.guards import INFORMED, LOCAL, holds_back, judge
from responder.incident import Incident, Override, Run, StepState
from responder.ingest import open_uncalled
from responder.recorded import LIVE, Answer, Cause, Mode, Observation, Plan, Trigger, Verdict, strictest
from responder.records import Change, Keys, State, Writes, open_key
from responder.rules import Rules
from responder.runbook import Approval, Runbook, Step, target_inputs, target_with

UNPREPARED = "prepare"
"""What stands as the gate where the first step cannot be made ready."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants to be run, by today's rules. The inputs are good: `input_problems` has found nothing."""

    runbook: Runbook
    rules: Rules
    inputs: Mapping[str, str]
    actor: str
    reason: str = ""
    override: str = ""
    """Why it is to act outside its hours (docs/adr/0026); empty where its calendar is to be kept."""

    @property
    def target(self) -> str:
        """What it would touch."""
        return target_with(self.runbook, self.inputs)

    @property
    def mode(self) -> Mode:
        """As far as the configuration lets it go."""
        return strictest(self.runbook.mode, self.rules.ceiling)

    @property
    def key(self) -> str:
        """Of the incident that is open for it, if there is one."""
        return open_key(LIVE, self.runbook.runbook, self.target, Trigger.PERSON)


def input_problems(rules: Rules, runbook: Runbook, given: Mapping[str, str]) -> tuple[str, ...]:
    """What is wrong with the inputs that a person gave: names, missing ones, and values that do not fit their types.

    Values come from the person also where an alert would bring them in a label. What only evidence uses may be left
    out.
    """
    wanted = {name: one.type or one.pattern or " or ".join(one.one_of) for name, one in runbook.inputs.items()}
    known = ", ".join(f"{name} ({kind})" for name, kind in wanted.items()) or "none"
    unknown = [f"there is no input {name!r}; there are: {known}" for name in given if name not in wanted]
    missing = [
        f"say {name} ({wanted[name]}); the target needs it" for name in target_inputs(runbook) if name not in given
    ]
    asked = {name: one.model_copy(update={"label": None}) for name, one in runbook.inputs.items() if name in given}
    bad = (rules.input_problem(name, one, given[name]) for name, one in asked.items())
    return tuple(dict.fromkeys([*unknown, *missing, *(problem for problem in bad if problem is not None)]))


def prospect(wish: Wish, now: int) -> tuple[Incident, Run]:
    """The incident and run as they would begin now (µs), for templates and gates."""
    name, digest, target = wish.runbook.runbook, wish.rules.hash, wish.target
    inputs, policy = dict(wish.inputs), wish.rules.policy_for(wish.runbook, None, now)
    incident = Incident(
        id="", runbook=name, rules_hash=digest, policy=policy, target=target, title=wish.runbook.title, severity=None,
        mode=wish.runbook.mode, inputs=inputs, trigger=Trigger.PERSON, opened_at=now, ladder_from=now, clock_from=now,
    )  # fmt: skip
    run = Run(
        number=1, runbook=name, rules_hash=digest, target=target, cause=Cause.PERSON, mode=wish.mode, inputs=inputs,
        started_at=now, actor=wish.actor, brake=wish.runbook.brake,
        steps=tuple(StepState(id=step.id) for step in wish.runbook.steps),
    )  # fmt: skip
    return incident, run


# --- the plan ---------------------------------------------------------------------------------------------------------


class Doing(StrEnum):
    """What would become of a step."""

    CHANGE = "change"
    READ = "read"
    MANUAL = "manual"
    """A person is asked to do it."""
    NOTHING = "nothing_to_do"
    """The world is already so."""
    SKIPPED = "skipped"
    """Its `when` is not true."""
    LATER = "later"
    """It depends on what earlier steps answer."""
    FAILED = "failed"
    """It cannot be made ready as things are now."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One step: what would become of it, in words, and how it was prepared where it could be."""

    step: Step
    doing: Doing
    text: str
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What a gate says about a step."""

    step: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Everything that a person is shown before they confirm a run, and what their yes is bound to."""

    wish: Wish
    steps: tuple[Foreseen, ...]
    checks: Mapping[str, Observation]
    judged: tuple[Judged, ...]
    approvals: Mapping[str, Approval] = field(default_factory=dict)
    """Step -> whose yes it will ask for."""

    @property
    def refused(self) -> tuple[Verdict, ...]:
        """Why it would not go ahead now; empty when it would."""
        return tuple(one.verdict for one in self.judged if holds_back(one.verdict))

    @property
    def warnings(self) -> tuple[Verdict, ...]:
        """What it would pass all the same, one for each gate."""
        return tuple({one.verdict.gate: one.verdict for one in self.judged if one.verdict.warn}.values())

    @property
    def brake(self) -> bool:
        """It can only lower risk."""
        return only_lowers(self.wish.runbook)

    @property
    def digest(self) -> str:
        """Of all that would be done, and of what the gates say; not of their numbers, which change every second."""
        wish = self.wish
        about = [wish.rules.hash, wish.runbook.runbook, wish.target, dict(wish.inputs), wish.mode, bool(wish.override)]
        steps = [[one.step.id, one.doing, one.text, *_bound(one.plan)] for one in self.steps]
        gates = [[one.step, one.verdict.gate, one.verdict.answer, one.verdict.warn] for one in self.judged]
        return hashlib.sha256(json.dumps([about, steps, gates], sort_keys=True).encode()).hexdigest()[:16]


def _bound(plan: Plan | None) -> list[object]:
    return [] if plan is None else [plan.params, plan.before, plan.target, plan.effect, plan.draws]


@dataclass(frozen=True, slots=True)
class JudgeByHand:
    """Ask every gate about every step, and write nothing. Raises Rejected when the rules were reloaded meanwhile."""

    id: str
    wish: Wish
    steps: tuple[Foreseen, ...]
    checks: Mapping[str, Observation]
    book: Book

    def reads(self) -> Keys:
        """What gates look at, and the incident that may be open for it."""
        return _reads(self.wish, self.book)

    def apply(self, state: State) -> Change[RunPlan]:
        """See the class."""
        draft = Draft(self.id, state, self.book)
        _same_rules(self.wish, self.book)
        judged, approvals = list(_before(draft, self.wish)), {}
        for one in self.steps:
            verdicts = tuple(self._verdicts(draft, one))
            judged.extend(Judged(one.step.id, verdict) for verdict in _news(judged, verdicts))
            wanted = approval_wanted(one.step, (self.wish.mode,), verdicts)
            if one.doing in (Doing.CHANGE, Doing.LATER, Doing.FAILED) and wanted is not None:
                approvals[one.step.id] = wanted
        return Change(Writes(), RunPlan(self.wish, self.steps, self.checks, tuple(judged), approvals))

    def _verdicts(self, draft: Draft, one: Foreseen) -> Iterator[Verdict]:
        """All gates, also after one that refuses: a person who plans wants to know everything that is in the way."""
        if one.step.action is None or one.doing is Doing.SKIPPED:
            return
        case = _case(draft, self.wish, one.step, one.plan, self.checks)
        yield from (gate(case) for gate in (*LOCAL, *INFORMED))
        if one.doing is Doing.FAILED and one is self._first:
            yield deny(UNPREPARED, f"step {one.step.id} {one.text}")

    @property
    def _first(self) -> Foreseen | None:
        """The first that would be done: what a later one needs may only come with it."""
        left_out = (Doing.SKIPPED, Doing.MANUAL)
        return next((one for one in self.steps if one.doing not in left_out), None)


def _news(judged: Sequence[Judged], verdicts: Iterable[Verdict]) -> list[Verdict]:
    """What earlier steps have not been told already: most gates say the same about every step."""
    known = [one.verdict for one in judged]
    refusing = {verdict.gate for verdict in known if holds_back(verdict)}
    return [verdict for verdict in verdicts if verdict not in known and verdict.gate not in refusing]


def _reads(wish: Wish, book: Book) -> Keys:
    return Keys(open_keys=frozenset({wish.key}), scopes=scopes_of(book, wish.runbook, wish.target))


def _same_rules(wish: Wish, book: Book) -> None:
    if book.current.hash != wish.rules.hash:
        raise Rejected("the rules were reloaded while you asked: ask again")


def _before(draft: Draft, wish: Wish) -> Iterator[Judged]:
    """What is to be said before any step."""
    for broken in draft.book.broken:
        if broken.name == wish.runbook.runbook:
            said = f"today's file could not be loaded, this is its last good version: {broken.problem}"
            yield Judged("", Verdict(gate="rules", answer=Answer.ALLOW, reason=said, warn=True))
    found = draft.open_incident(wish.key)
    active = None if found is None else found.active_run
    if found is not None and active is not None:
        said = f"run {active.number}, which {active.actor} started, is {found.status}: responder incident {found.id}"
        yield Judged("", deny("run", said))
    try:
        _overridden(wish, draft.now)
    except Rejected as refused:
        yield Judged("", deny("override", str(refused)))
    if wish.mode is Mode.OBSERVE:
        whose = "its `mode:`" if wish.runbook.mode is Mode.OBSERVE else "`mode:` of responder.yaml"
        yield Judged("", deny("mode", f"mode observe: nothing would be changed; {whose} must say approve or auto"))


def _overridden(wish: Wish, now: int) -> f.CalendarOverridden | None:
    """What stands in the journal of a run that acts outside its hours. Raises Rejected when they need no override."""
    if not wish.override:
        return None
    hours = hours_to_override(wish.runbook, wish.rules.calendars, now)
    return f.CalendarOverridden(runbook=wish.runbook.runbook, until=now + OVERRIDE, hours=hours, note=wish.override)


def _case(draft: Draft, wish: Wish, step: Step, plan: Plan | None, checks: Mapping[str, Observation]) -> Case:
    found, book = draft.open_incident(wish.key), draft.book
    incident, run = prospect(wish, draft.now)
    if found is not None and found.runs:
        incident, run = found, run.model_copy(update={"number": found.runs[-1].number + 1})
    if wish.override:
        said = Override(
            runbook=run.runbook, actor=wish.actor, at=draft.now, until=draft.now + OVERRIDE, note=wish.override
        )
        incident = incident.model_copy(update={"override": said})
    seen = run.model_copy(update={"observations": dict(checks)})
    more = (book.automation, wish.mode, book.touched(step), book.halted)
    calendars = book.current.calendars
    return Case(incident, seen, wish.runbook, step, plan, draft.scope, book.total, calendars, draft.now, *more)


# --- the beginning ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartByHand:
    """Begin the run of a plan that a person has confirmed, in an incident of its own.

    An earlier one that is still open and whose run is over takes the new run in. Raises Rejected when meanwhile the
    rules were reloaded, another run began, or a gate holds it back.
    """

    id: str
    plan: RunPlan
    book: Book
    by: Worker | None

    def reads(self) -> Keys:
        """What gates look at, and the incident that may be open for it."""
        return _reads(self.plan.wish, self.book)

    def apply(self, state: State) -> Change[Turn]:
        """See the class."""
        draft, wish = Draft(self.id, state, self.book, self.by), self.plan.wish
        _same_rules(wish, self.book)
        self._refuse(draft)
        found = draft.open_incident(wish.key)
        if found is not None:
            name = found.id
        else:
            name = open_uncalled(draft, wish.runbook, wish.target, wish.inputs, Trigger.PERSON, wish.actor)
        overridden = _overridden(wish, draft.now)
        if overridden is not None:
            draft.record(name, overridden, wish.actor)
        draft.record(name, self._started(draft.incident(name)), wish.actor)
        turn = draft.advance(name)
        return Change(draft.writes(), turn)

    def _refuse(self, draft: Draft) -> None:
        """The gates that need no answers are asked again over what is loaded now; the others before each step."""
        wish = self.plan.wish
        verdicts = [one.verdict for one in _before(draft, wish)]
        step = next((step for step in wish.runbook.steps if step.action is not None), None)
        if step is not None:
            verdicts.extend(judge(_case(draft, wish, step, None, {}), LOCAL))
        refused = [verdict.reason for verdict in verdicts if holds_back(verdict)]
        if refused:
            raise Rejected(refused[0])

    def _started(self, incident: Incident) -> f.RunStarted:
        wish = self.plan.wish
        return f.RunStarted(
            number=incident.runs[-1].number + 1 if incident.runs else 1,
            runbook=wish.runbook.runbook,
            rules_hash=wish.rules.hash,
            target=wish.target,
            cause=Cause.PERSON,
            mode=wish.mode,
            inputs=dict(wish.inputs),
            steps=tuple(step.id for step in wish.runbook.steps),
            brake=wish.runbook.brake,
            reason=wish.reason,
            confirmed=self.plan.warnings,
        )
