"""What services and people answer in a replay: the file of `--answers`, read with the place of every answer.

An SRE writes down how an outage went, or should go: values of checks, refusals, lost answers, delays, what people say
and when. Nothing is played here (`simulated_services` gives the answers out in their order), and nothing is assumed
for what the file leaves open (`assumptions`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, Final, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, JsonValue, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from responder.documents import Document, decode, parse_document
from responder.errors import ResponderError
from responder.mistakes import closest, problems_of
from responder.problems import Path, Problem
from responder.rules import Rules
from responder.runbook import Step
from responder.timing import format_duration
from responder.written import Duration, Written


def _number_too(value: Any) -> Any:
    """A bare status such as 422 is a reason too."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Reason = Annotated[
    str, BeforeValidator(_number_too, json_schema_input_type=str | int), Field(min_length=1, max_length=400)
]
Times = Annotated[int, Field(ge=1, le=1000)]
_TOP_HINT: Final = "begin with `checks:`, `steps:`, `parameters:`, `services:` or `people:`"


class BadAnswers(ResponderError):
    """An answers file that must not be used; each of `problems` reads, as str, as one complete finding."""

    exit_status = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("the answers cannot be used\n" + "\n".join(str(problem) for problem in self.problems))


# --- the language -----------------------------------------------------------------------------------------------------


class Fate(StrEnum):
    """What became of a change whose answer was lost, and so what a probe will find."""

    APPLIED = "applied"
    NOT_APPLIED = "not_applied"
    UNCLEAR = "unclear"


class Timed(Written):
    """What both kinds of answers have. An answer holds once, or `times`; the last one stays."""

    delay: Duration = 0
    """How long the service takes. Beyond the timeout it is a timeout."""
    times: Times = 1
    after: Duration | None = None
    """From this time on, since the replay began; what stood before is over then."""


class CheckAnswer(Timed):
    """One answer of a check: a `value`, or why it is `missing`. A bare value means the same, and null means no data."""

    value: JsonValue = None
    missing: Reason | None = None
    age: Duration = 0
    """How old the sample is when it is asked for."""

    @model_validator(mode="after")
    def _one(self) -> CheckAnswer:
        _exactly_one(self, ("value", "missing"))
        return self


class StepAnswer(Timed):
    """How one attempt of a step goes; exactly one of these. A bare `ok` stands for `{ok: true}`.

    `ok`: it is done; the value is the step's output, true an output as the runbook expects it. `temporary`: nothing
    happened, it may be tried again. `refused`: nothing happened, and never will. `lost`: no answer came.
    """

    ok: JsonValue = None
    temporary: Reason | None = None
    refused: Reason | None = None
    lost: Fate | None = None

    @model_validator(mode="after")
    def _one(self) -> StepAnswer:
        _exactly_one(self, ("ok", "temporary", "refused", "lost"))
        return self

    @property
    def output(self) -> JsonValue:
        """What the file says that the step gives; None when it leaves that open."""
        return None if self.ok is True else self.ok


class Outage(Written):
    """A service that does not answer: why, from when, until when (since the replay began; by default always)."""

    down: Reason
    from_: Duration = Field(default=0, alias="from")
    until: Duration | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Outage:
        if self.until is not None and self.until <= self.from_:
            raise ValueError("it is over before it begins: `until` must be later than `from`")
        return self

    def holds(self, offset: int) -> bool:
        """Whether it is down at `offset` µs since the beginning."""
        return self.from_ <= offset and (self.until is None or offset < self.until)


VERBS: Final = ("ack", "takeover", "done", "settle", "unlock", "restore", "pause", "resume")


class Says(Written):
    """What one person says: the verb of the command line with their name, and when (since the replay began).

    It is about the newest incident, or that of `runbook`. `note` is the note or reason; `applied` belongs to settle.
    """

    at: Duration
    ack: Reason | None = None
    takeover: Reason | None = None
    done: Reason | None = None
    settle: Reason | None = None
    unlock: Reason | None = None
    restore: Reason | None = None
    pause: Reason | None = None
    resume: Reason | None = None
    note: str = ""
    applied: bool | None = None
    step: str | None = None
    runbook: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Says:
        _exactly_one(self, VERBS)
        if (self.verb == "settle") != (self.applied is not None):
            raise ValueError("`applied: true` or `applied: false` belongs to settle, which needs it")
        return self

    @property
    def verb(self) -> str:
        """Which of VERBS."""
        return next(verb for verb in VERBS if getattr(self, verb) is not None)

    @property
    def actor(self) -> str:
        """Who says it."""
        return str(getattr(self, self.verb))


def _exactly_one(model: BaseModel, names: Sequence[str]) -> None:
    said = [name for name in names if name in model.model_fields_set]
    if len(said) != 1:
        found = f"{' and '.join(said)} cannot both be" if said else "it says nothing"
        raise ValueError(f"{found}: write exactly one of {', '.join(names)}")


def _listed(value: Any) -> Any:
    if value == []:
        raise PydanticCustomError("empty", "an empty list says nothing", {"hint": "write an answer, or remove the key"})
    return value if isinstance(value, list) else [value]


def _check_answer(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value
    return {"missing": "no data"} if value is None else {"value": value}


def _step_answer(value: Any) -> Any:
    if value == "ok":
        return {"ok": True}
    if not isinstance(value, Mapping):
        hint = "write ok, {temporary: why}, {refused: why} or {lost: applied}"
        raise PydanticCustomError("step_answer", "an attempt goes well, fails or is lost", {"hint": hint})
    return value


Scalar = str | int | float | bool | None
_OneCheck = Annotated[CheckAnswer, BeforeValidator(_check_answer, json_schema_input_type=CheckAnswer | Scalar)]
_OneStep = Annotated[StepAnswer, BeforeValidator(_step_answer, json_schema_input_type=StepAnswer | str)]
_Checks = Annotated[
    tuple[_OneCheck, ...],
    BeforeValidator(_listed, json_schema_input_type=list[CheckAnswer | Scalar] | CheckAnswer | Scalar),
]
_Steps = Annotated[
    tuple[_OneStep, ...],
    BeforeValidator(_listed, json_schema_input_type=list[StepAnswer | str] | StepAnswer | str),
]
_Outages = Annotated[tuple[Outage, ...], BeforeValidator(_listed, json_schema_input_type=list[Outage] | Outage)]


class Answers(Written):
    """An answers file. Checks and steps by name, or `runbook.name` where several runbooks have that name."""

    parameters: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=dict)
    """Values at the beginning; changes move them."""
    services: dict[str, _Outages] = Field(default_factory=dict)
    checks: dict[str, _Checks] = Field(default_factory=dict)
    steps: dict[str, _Steps] = Field(default_factory=dict)
    people: tuple[Says, ...] = ()


# --- what is played ---------------------------------------------------------------------------------------------------

A = TypeVar("A", CheckAnswer, StepAnswer, Says)
B = TypeVar("B", CheckAnswer, StepAnswer)


@dataclass(frozen=True, slots=True)
class Cue(Generic[A]):
    """One answer with where it stands: `answers.yaml:4`, and its number among those of `name`, from 1."""

    answer: A
    place: str
    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Phase(Generic[A]):
    """Answers that are given in order from `begins` µs on; each as often as it stands here, the last one stays."""

    begins: int
    cues: tuple[Cue[A], ...]


@dataclass(frozen=True, slots=True)
class Script:
    """An answers file, ready to be played. `people` are in the order of time."""

    file: str = ""
    parameters: Mapping[str, float] = field(default_factory=dict)
    services: Mapping[str, tuple[Outage, ...]] = field(default_factory=dict)
    checks: Mapping[str, tuple[Phase[CheckAnswer], ...]] = field(default_factory=dict)
    steps: Mapping[str, tuple[Phase[StepAnswer], ...]] = field(default_factory=dict)
    people: tuple[Cue[Says], ...] = ()

    @property
    def last_word(self) -> int:
        """The last time (µs since the beginning) from which on anything is answered otherwise than before."""
        phases = [p.begins for entries in (self.checks, self.steps) for found in entries.values() for p in found]
        outages = [o.until or o.from_ for found in self.services.values() for o in found]
        return max([*phases, *outages], default=0)


def phase_at(phases: Sequence[Phase[B]], offset: int) -> int | None:
    """The index of the phase that holds at `offset` µs, None before the first one begins."""
    begun = [index for index, phase in enumerate(phases) if phase.begins <= offset]
    return begun[-1] if begun else None


@dataclass(frozen=True, slots=True)
class Nameable:
    """What an answers file may name: checks and steps (each with `runbook.` before it too), and the configuration's."""

    checks: frozenset[str]
    steps: Mapping[str, Step]
    runbooks: frozenset[str]
    parameters: frozenset[str]
    services: frozenset[str]


def nameable(sets: Iterable[Rules], parameters: Iterable[str], services: Iterable[str]) -> Nameable:
    """What may be named with these sets of rules loaded."""
    runbooks = [runbook for rules in sets for runbook in rules.runbooks.values()]
    steps = {name: s for r in runbooks for s in r.steps for name in (s.id, f"{r.runbook}.{s.id}")}
    checks = frozenset(name for r in runbooks for c in r.checks for name in (c, f"{r.runbook}.{c}"))
    return Nameable(checks, steps, frozenset(r.runbook for r in runbooks), frozenset(parameters), frozenset(services))


def read_answers(file: str, raw: bytes, known: Nameable) -> Script:
    """The answers in a file's bytes. Raises BadAnswers with every mistake at its place."""
    text, unreadable = decode(file, raw)
    document = parse_document(file, text)
    problems = [*unreadable, *document.problems]
    if not problems and not isinstance(document.value, dict):
        problems = [document.at_value((), "answers are written as `key: value` pairs", _TOP_HINT)]
    if problems:
        raise BadAnswers(problems)
    document = _with_lists(document)
    try:
        answers = Answers.model_validate(document.value, by_alias=True, by_name=False)
    except ValidationError as error:
        # Names are checked all the same: they need no more than the keys.
        found = [*problems_of(error, document, (), Answers), *_unknown(document, known)]
        raise BadAnswers(_in_order(found)) from None
    found = [*_unknown(document, known), *_misplaced(answers, document, known)]
    if found:
        raise BadAnswers(_in_order(found))
    return _script(answers, document)


def _with_lists(document: Document) -> Document:
    """The document with a list around every single answer, so that each has its place at the same path."""
    assert isinstance(document.value, dict)
    value: dict[str, Any] = dict(document.value)
    marks, keys = dict(document.values), dict(document.keys)
    for section in ("services", "checks", "steps"):
        written = value.get(section)
        for name, single in written.items() if isinstance(written, dict) else ():
            if isinstance(single, Mapping):
                value[section] = {**value[section], name: [single]}
                for found in (marks, keys):
                    inner = {p: m for p, m in found.items() if p[:2] == (section, name) and len(p) > 2}
                    found.update({(section, name, 0, *p[2:]): mark for p, mark in inner.items()})
                marks[section, name, 0] = marks[section, name]
    return replace(document, value=value, values=marks, keys=keys)


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column))


def _unknown(document: Document, known: Nameable) -> Iterator[Problem]:
    """Names that nothing has: their answers would never be asked for."""
    sections = {
        "parameters": ("parameter", known.parameters),
        "services": ("service", known.services),
        "checks": ("check", known.checks),
        "steps": ("step", known.steps.keys()),
    }
    for section, (what, names) in sections.items():
        written = document.get((section,))
        for name in written if isinstance(written, dict) else ():
            if name not in names:
                # Without the forms `runbook.name`, unless that is how it was written: they would hide the plain ones.
                likely = [n for n in names if ("." in n) == ("." in name)] if section in ("checks", "steps") else names
                yield document.at_key((section, name), f"no {what} is called {name!r}", closest(name, likely))


def _misplaced(answers: Answers, document: Document, known: Nameable) -> Iterator[Problem]:
    """What is well formed, but can never be as it is written."""
    for section, entries in (("checks", answers.checks), ("steps", answers.steps)):
        for name, sequence in entries.items():
            yield from _out_of_order(document, (section, name), sequence)
    for name, replies in answers.steps.items():
        step = known.steps.get(name)
        if step is not None and step.manual is not None:
            hint = "write under `people:`, such as {at: 5m, done: alice}"
            yield document.at_key(("steps", name), f"step {name!r} is done by a person", hint)
        if step is not None and step.with_.get("parameter") is not None:
            yield from _parameter_outputs(document, ("steps", name), replies)
    for index, says in enumerate(answers.people):
        if says.runbook is not None and says.runbook not in known.runbooks:
            message, hint = f"no runbook is called {says.runbook!r}", closest(says.runbook, known.runbooks)
            yield document.at_value(("people", index, "runbook"), message, hint)


def _parameter_outputs(document: Document, path: Path, replies: Sequence[StepAnswer]) -> Iterator[Problem]:
    for index, reply in enumerate(replies):
        if reply.output is not None:
            hint = "write ok alone; where the parameter begins stands under `parameters:`"
            yield document.at_value((*path, index, "ok"), "the output of this step is the value in force", hint)


def _out_of_order(document: Document, path: Path, sequence: Sequence[Timed]) -> Iterator[Problem]:
    latest = 0
    for index, answer in enumerate(sequence):
        if answer.after is not None and answer.after < latest:
            message = f"this begins before the one above, which holds from {format_duration(latest)}"
            yield document.at_value((*path, index, "after"), message, "write them in the order of time")
        latest = max(latest, answer.after or 0)


def _script(answers: Answers, document: Document) -> Script:
    people = [
        Cue(says, _place(document, ("people", index)), says.verb, index + 1)
        for index, says in enumerate(answers.people)
    ]
    return Script(
        document.file,
        dict(answers.parameters),
        dict(answers.services),
        {name: _phases(name, list_, document, ("checks", name)) for name, list_ in answers.checks.items()},
        {name: _phases(name, list_, document, ("steps", name)) for name, list_ in answers.steps.items()},
        tuple(sorted(people, key=lambda cue: cue.answer.at)),
    )


def _place(document: Document, path: Path) -> str:
    found = next((m for m in (document.values.get(path), document.values.get(path[:-1])) if m), document.mark(path))
    return f"{document.file}:{found.line}"


def _phases(name: str, sequence: Sequence[B], document: Document, path: Path) -> tuple[Phase[B], ...]:
    phases: list[Phase[B]] = []
    for index, answer in enumerate(sequence):
        cues = (Cue(answer, _place(document, (*path, index)), name, index + 1),) * answer.times
        if answer.after is not None or not phases:
            phases.append(Phase(answer.after or 0, cues))
        else:
            phases[-1] = Phase(phases[-1].begins, phases[-1].cues + cues)
    return tuple(phases)
