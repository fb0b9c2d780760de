"""Runbooks as people write them, and which one answers an alert.

The models below are the language: the loader validates YAML against them, `responder schema` is generated from them. A
loaded value is frozen; `Rules` is one complete, consistent set, known by its hash. What needs the outside world (do the
services exist?) is checked by the loader, not here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from responder.civil_time import mistake
from responder.cron import Schedule
from responder.matchers import Matcher, parse_matchers
from responder.recorded import Mode
from responder.timing import MINUTE, SECOND, format_duration, parse_duration
from responder.written import Duration, DurationKey, Identifier, Name, Names, RateText, Written

POLL = 5 * SECOND
"""How often verification asks (design 5.6)."""


class Input(Written):
    """A value that steps may use: of a label, or of the incident that started this runbook when it has no `match`."""

    label: str | None = None
    """The label of the alert that holds the value. Left out only in a runbook without `match`."""
    type: str | None = None
    """A named type of responder.yaml (`types:`), or a built-in one, which the whole value matches."""
    pattern: str | None = None
    """A regular expression (RE2) that the whole value matches."""
    one_of: tuple[str, ...] = ()
    """The only values there are."""


class Reading(Written):
    """A use of a reading action."""

    action: str
    """The name of the action."""
    with_: dict[str, JsonValue] = Field(default_factory=dict, alias="with")
    """The action's own fields."""
    timeout: Duration = 10 * SECOND
    """How long it may take."""


class Check(Reading):
    """A reading step with a name, for guards and verification."""

    max_age: Duration = 60 * SECOND
    """Older samples than this count as missing."""


class Evidence(Reading):
    """A reading for people; it never delays or fails a run."""

    each: str | None = None
    """An input: it is read once for each of its values among the alerts of the incident."""
    title: str | None = None
    """What people read above the answer; may hold `{{ input }}`."""


class OnlyIf(Written):
    """The run changes something only when this holds."""

    check: str
    """One of `checks`."""
    expect: str
    """A condition over its answer, such as `value > 1.8`. What is missing or not a number makes it false."""
    if_missing: Literal["page", "act_and_page"] = "page"
    """Without fresh data: people only, or act all the same and page."""


class Approval(Written):
    """People decide whether the step is done: they see what it would do, and their answer holds for exactly that."""

    role: str = "operator"
    """Whose people may say yes or no."""
    people: Annotated[int, Field(ge=1, le=2)] = 1
    """How many must say yes; one who says no is enough."""
    within: Duration = 10 * MINUTE
    """How long they have. After that nothing is done and people are paged: it never approves itself."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"role": value} if isinstance(value, str) else value


class Restore(Written):
    """The change must be put back later, by a person with `responder restore`."""

    approval: str
    """The role that may do it."""
    remind: Duration | None = None
    """How often people are reminded until it is done."""


class Undo(Written):
    """How the change is taken back when verification finds it harmful, and by a person's `responder restore`."""

    action: str | None = None
    """The action that takes it back; left out: the step's own action, when it can (parameter.reduce can)."""
    with_: dict[str, JsonValue] = Field(default_factory=dict, alias="with")
    """That action's own fields."""
    timeout: Duration = 10 * SECOND
    """How long it may take."""
    approval: str | None = None
    """The role whose people decide. Without it, it is undone at once, so what raises risk needs one."""


class Retry(Written):
    """Further attempts after a temporary failure; of a step that only reads, also until its `expect` holds."""

    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """All attempts together."""
    first: Duration = 1 * SECOND
    """The pause after the first."""
    factor: Annotated[float, Field(ge=1, le=10)] = 2.0
    """By how much each further pause is longer."""
    cap: Duration = 60 * SECOND
    """The longest pause."""
    unless: str | None = None
    """A condition as in `expect`, such as `value.failed`: what only reads has finally failed, and is not read again."""
    in_doubt: Annotated[int, Field(ge=0, le=4)] = 4
    """How often it is sent again after an unknown outcome, where that can do no harm; 0 where what follows must not
    wait for it."""


_PLACEHOLDERS = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_CHECK = re.compile(r"(?<![\w.])checks\.([a-z][a-z0-9_]*)")


class Step(Written):
    """One use of an action, or something that a person does (`manual`)."""

    id: Identifier
    """Its name; later steps see `steps.<id>.status` and `steps.<id>.output`."""
    title: str = ""
    """What people read."""
    action: str | None = None
    """The name of the action."""
    with_: dict[str, JsonValue] = Field(default_factory=dict, alias="with")
    """The action's own fields."""
    manual: str | None = None
    """Instead of an action: what a person is asked to do, with `{{ input }}`. The run waits for `responder done`."""
    when: str | None = None
    """The step is left out unless this condition over inputs, `steps` and `checks` holds."""
    timeout: Duration = 10 * SECOND
    """How long one attempt may take."""
    retry: Retry = Retry(attempts=1)
    """Further attempts after a temporary failure, and of a reading until its `expect` holds; by default there are
    none."""
    approval: Approval | None = None
    """Who must say yes before it is done, as `approval: risk-manager`."""
    expect: str | None = None
    """A condition over its answer (`value`), inputs, `steps` and `checks`; otherwise the step has failed."""
    on_failure: Literal["abort", "continue"] = "abort"
    """What follows when it failed: the run ends, or the next step comes."""
    restore: Restore | None = None
    """The change must be put back by a person."""
    undo: Undo | None = None
    """How the change is taken back when it did harm."""
    brake: bool | None = None
    """As the runbook's, for this step alone."""

    @model_validator(mode="after")
    def _one_way(self) -> Step:
        if self.manual is not None and self.approval is not None:
            raise mistake("a step that a person does needs no approval", "remove `approval:`, or add an `action:`")
        if (self.action is None) == (self.manual is None):
            cure = "add `action:`, or `manual:` for what a person does"
            given = "remove one of them; what a person does is a step of its own"
            raise mistake("a step has either 'action' or 'manual'", cure if self.action is None else given)
        return self

    @cached_property
    def checks_named(self) -> frozenset[str]:
        """What its conditions and placeholders, and those of its undo, call checks: they are read before it begins."""
        templates = json.dumps([self.with_, self.undo.with_ if self.undo is not None else {}], ensure_ascii=False)
        placeholders = _PLACEHOLDERS.findall(f"{templates} {self.manual or ''}")
        texts = (self.when or "", self.expect or "", self.retry.unless or "", *placeholders)
        return frozenset(name for text in texts for name in _CHECK.findall(text))

    @property
    def put_back_by(self) -> str | None:
        """The role whose people put the change back, None when nobody has to."""
        if self.restore is not None:
            return self.restore.approval
        return None if self.undo is None else self.undo.approval

    @property
    def way_back(self) -> Step:
        """The step that takes this one's change back. Without an action of its own it is the same action's `undo`."""
        if self.undo is None or self.undo.action is None:
            return self.model_copy(update={"expect": None})
        # The title speaks of the change, not of its undoing.
        changes = {"title": "", "action": self.undo.action, "with_": self.undo.with_, "timeout": self.undo.timeout}
        return self.model_copy(update={**changes, "expect": None, "retry": Retry(attempts=1)})


class Limits(Written):
    """How often a runbook may run on one target. They warn and page on a brake, and refuse otherwise."""

    cooldown: Duration = 0
    """How long after the end of a run the next one waits."""
    runs: RateText | None = None
    """Runs within a window, such as `3 per 6h`."""
    ineffective: RateText | None = None
    """Runs within a window that did not help."""


class Verify(Written):
    """When the run counts as fixed. All times count from the last outcome; `hold` ends inside `within` (design 5.6)."""

    check: str
    """One of `checks`."""
    expect: str
    """A condition over its answer, such as `value < 1.7`. What is missing or not a number makes it false."""
    settle: Duration = 0
    """How long to wait before looking."""
    within: Duration
    """How long it may take until it has held; then the run was ineffective."""
    hold: Duration = 0
    """How long it must go on holding."""
    harmful: str | None = None
    """A condition over `value` and `before`, the answer before the first change: it did harm, and is undone."""
    if_missing: Literal["page"] = "page"
    """Without fresh data nobody knows: the result is `unverified`, and people decide."""

    @model_validator(mode="after")
    def _fits(self) -> Verify:
        if self.settle + self.hold > self.within:
            needed = format_duration(self.settle + self.hold)
            raise mistake(
                "settle and hold together are longer than within, so that it could never succeed",
                f"write `within:` longer than {needed}, or a shorter `settle:` or `hold:`",
            )
        return self


class Promise(Written):
    """What follows when it is not fixed by then."""

    page: Names = ()
    """Whom to page: notifiers of responder.yaml."""
    run: str | None = None
    """Which runbook to run."""
    countdown: Duration = 0
    """How long before that it is announced."""


class Hours(Written):
    """In which hours the runbook may change something, by calendars of calendars.yaml."""

    within: Names = ()
    """One of these calendars is open."""
    outside: Names = ()
    """None of these is open, such as a freeze."""
    otherwise: Literal["deny", "wait", "ask"] = "deny"
    """Otherwise: refuse and page, wait until the hours come (levels of the policy go on), or ask people."""

    @model_validator(mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return {"within": value} if isinstance(value, str | list) else value

    @model_validator(mode="after")
    def _says_something(self) -> Hours:
        if not self.within and not self.outside:
            hint = "add `within:` or `outside:` with the name of a calendar of calendars.yaml"
            raise mistake("these hours name no calendar", hint)
        return self


class Runbook(Written):
    """A runbook file, with the defaults of its folder already merged in."""

    runbook: Name
    """Its name, which no other runbook of the set has."""
    title: str
    """What people read first."""
    impact: str = ""
    """What it means for trading."""
    match: Names = ()
    """An alert's name, a list of names, or matchers: all must hold. Without it, it is started by another runbook's
    `run:`, by its schedule, or by hand."""
    inputs: dict[Identifier, Input] = Field(default_factory=dict)
    """The labels that steps may use, each with a type, a pattern or its values."""
    target: str
    """What is touched, and so locked. Steps may use only the inputs that stand in it."""
    mode: Mode = Mode.OBSERVE
    """`observe` changes nothing and tells what it would do; `approve` asks people before each change; `auto` acts.
    responder.yaml sets a ceiling."""
    brake: bool = False
    """It can only lower risk: cooldown, limits, hours and the locks of others warn and page, but do not stop it."""
    env: str | None = None
    """Whose services it may use."""
    channel: str | None = None
    """The chat channel that its story is told in."""
    owner: str | None = None
    """Whose runbook it is."""
    links: dict[str, str] = Field(default_factory=dict)
    """Where to look: a name and an address each."""
    limits: Limits = Limits()
    """How often it may run on one target."""
    yields_to: Names = ()
    """Runbooks of the root cause: while an incident of one of them is open, this one waits."""
    calendar: Hours | None = None
    """The hours in which it may act."""
    schedule: Schedule | None = None
    """Starts it at these times, to read and to tell; a runbook with a schedule changes nothing. It passes over times at
    which its `calendar` is closed."""
    checks: dict[Identifier, Check] = Field(default_factory=dict)
    """Named readings, for `only_if` and `verify`."""
    only_if: OnlyIf | None = None
    """What must be true before anything is changed."""
    steps: tuple[Step, ...] = ()
    """What is done, in this order."""
    finish_once_started: bool = False
    """A sequence that must not be left half done: after its first change it goes on though the alert has resolved."""
    evidence: tuple[Evidence, ...] = ()
    """Readings for people."""
    verify: Verify | None = None
    """How it is known that it helped."""
    unless_fixed: dict[DurationKey, Promise] = Field(default_factory=dict)
    """What follows after so much time, counted from the opening, unless it is fixed by then."""
    escalation: str | None = None
    """The policy: who is told when."""

    @cached_property
    def matchers(self) -> tuple[Matcher, ...]:
        """All must match. A bare word is an alert's name; several bare words are alternatives."""
        return match_list(self.match)

    @cached_property
    def promises(self) -> tuple[tuple[int, Promise], ...]:
        """`unless_fixed` in the order of time: (µs after the clock's start, promise)."""
        return tuple(sorted(((parse_duration(k), v) for k, v in self.unless_fixed.items()), key=lambda p: p[0]))

    def made(self, step_id: str, back: bool) -> Step:
        """The step as it is done, or where it takes a change back its way back. Raises KeyError."""
        return self.step(step_id).way_back if back else self.step(step_id)

    def step(self, step_id: str) -> Step:
        """One step by its id. Raises KeyError."""
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)


_BARE = re.compile(r"^[A-Za-z_:][A-Za-z0-9_:]*$")


@lru_cache(maxsize=4096)
def match_list(entries: tuple[str, ...]) -> tuple[Matcher, ...]:
    """Matchers of a `match` list. Raises BadSyntax where an entry cannot be read."""
    names = [e for e in entries if _BARE.match(e)]
    rest = [m for e in entries if not _BARE.match(e) for m in parse_matchers(e)]
    if not names:
        return tuple(rest)
    text = f'alertname="{names[0]}"' if len(names) == 1 else 'alertname=~"{}"'.format("|".join(names))
    return (*parse_matchers(text), *rest)


_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


def target_with(runbook: Runbook, inputs: Mapping[str, str]) -> str:
    """The target with its inputs' values. An input without a value stays as it is written."""
    return _PLACEHOLDER.sub(lambda found: inputs.get(found[1], found[0]), runbook.target)


def target_inputs(runbook: Runbook) -> Sequence[str]:
    """The inputs that occur in the target: the only ones that steps outside `each` may use (design 4)."""
    return _PLACEHOLDER.findall(runbook.target)
