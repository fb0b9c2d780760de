"""What was decided in one incident: its journal without ids, readings, wording and what people or services did.

A `Decision` has a subject that is the same under other rules (the `cut_kelly` step of the run that the alert started),
and details that may differ. What is made of two lists of them is `differences`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from responder import facts as f
from responder.recorded import Answer, Cause, StepStatus, Verdict
from responder.tales import Line, Tale, result_text
from responder.timing import SECOND

Subject = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision. `offset` is µs since the beginning; None for one that stands before anything happens.

    `what` says it to people and `note` gives a reason; neither is compared. A detail without a name speaks for itself.
    """

    offset: int | None
    subject: Subject
    what: str
    details: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def decisions(tale: Tale) -> tuple[Decision, ...]:
    """What was decided, in the order of time; pages are those that were really sent."""
    told = _Told()
    found = [decision for line in tale.lines for decision in told.of(line)]
    found += [Decision(p.offset, ("page", p.destination), f"pages {p.destination}", note=p.why) for p in tale.pages]
    return tuple(sorted(found, key=lambda decision: decision.offset or 0))


# --- what a fact decides ----------------------------------------------------------------------------------------------


class _Told:
    """Tells the lines of one incident; runs are known by why they were started, for another set may start more."""

    def __init__(self) -> None:
        self._runs: dict[int, tuple[str, int]] = {}
        self._books: dict[int, str] = {}

    def of(self, line: Line) -> Iterator[Decision]:
        fact, at = line.event.fact, line.offset
        match fact:
            case f.RunStarted():
                yield self._run(fact, at)
            case f.RunEnded():
                run = self._runs[fact.run]
                result = {"": result_text(Cause(run[0]), fact.result)}
                yield Decision(at, ("result", *run), f"{self._books[fact.run]} ends", result, fact.why)
            case f.AttemptIntended():
                yield self._step("attempt", fact, at, "", {**_params(fact.plan.params), "": fact.action})
                yield from self._gates(fact, at)
            case f.Previewed():
                yield self._step("preview", fact, at, " would do", {"": fact.preview})
                yield from self._gates(fact, at)
            case f.Waiting():
                until = clock(fact.until - (line.event.at - at))
                yield self._step("wait", fact, at, " waits", {**_held(fact.verdicts), "until": until}, fact.verdicts)
            case f.Refused():
                yield self._step("refusal", fact, at, " is refused", _held(fact.verdicts), fact.verdicts)
            case _:
                yield from self._rest(fact, at)

    def _rest(self, fact: f.Fact, at: int) -> Iterator[Decision]:
        match fact:
            case f.StepSkipped():
                yield self._step("skip", fact, at, " is skipped", {"": fact.why})
            case f.StepFailed():
                yield self._step("failure", fact, at, " cannot be tried", {})
            case f.StepEnded(status=StepStatus.FAILED | StepStatus.UNKNOWN as status):
                yield self._step("end", fact, at, " ends", {"": status.value})
            case f.ManualAsked():
                yield self._step("manual", fact, at, " asks a person", {"": fact.instruction})
            case _:
                yield from _about_people(fact, at)

    def _run(self, fact: f.RunStarted, at: int) -> Decision:
        before = sum(cause == fact.cause.value for cause, _ in self._runs.values())
        self._runs[fact.number] = (fact.cause.value, before + 1)
        self._books[fact.number] = fact.runbook
        details = {"": fact.runbook, "on": fact.target, "mode": fact.mode.value, **_params(dict(fact.inputs))}
        return Decision(at, ("run", *self._runs[fact.number]), _STARTS.get(fact.cause, "starts"), details)

    def _step(
        self,
        kind: str,
        fact: _OfStep,
        at: int,
        does: str,
        details: Mapping[str, str],
        verdicts: tuple[Verdict, ...] = (),
    ) -> Decision:
        note = "; ".join(v.reason for v in verdicts if v.answer is not Answer.ALLOW)
        return Decision(at, (kind, *self._runs[fact.run], fact.step), f"{self._name(fact)}{does}", details, note)

    def _gates(self, fact: f.AttemptIntended | f.Previewed, at: int) -> Iterator[Decision]:
        for verdict in fact.verdicts:
            said = "warns" if verdict.warn else SAYS[verdict.answer]
            subject = ("gate", *self._runs[fact.run], fact.step, verdict.gate)
            yield Decision(at, subject, f"{self._name(fact)}: gate {verdict.gate}", {"": said}, verdict.reason)

    def _name(self, fact: _OfStep) -> str:
        return f"{self._books[fact.run]}.{fact.step}"


_OfStep = (
    f.AttemptIntended | f.Previewed | f.Waiting | f.Refused | f.StepSkipped | f.StepFailed | f.StepEnded | f.ManualAsked
)

_STARTS: Final = {
    Cause.RELAPSE: "starts again",
    Cause.UNLESS_FIXED: "starts as promised",
    Cause.RESTORE: "puts a change back",
    Cause.UNDO: "undoes what did harm",
}

SAYS: Final[Mapping[Answer, str]] = {
    Answer.ALLOW: "allows",
    Answer.WAIT: "waits",
    Answer.ASK: "asks",
    Answer.DENY: "refuses",
}
"""A guard's answer as a verb."""
PASSED: Final[Mapping[str, str]] = {"": SAYS[Answer.ALLOW]}
"""The details of a gate that let a step pass."""


def _about_people(fact: f.Fact, at: int) -> Iterator[Decision]:
    """Who is told, what was promised, and the end. Whom a level or a promise pages is told by the pages themselves."""
    match fact:
        case f.Opened():
            chat = {"told in": fact.channel} if fact.channel else {}
            yield Decision(at, ("opened",), "opens", chat)
        case f.ProblemFound():
            yield Decision(at, ("problem",), "people must know", {"": fact.problem})
        case f.LevelReached():
            yield Decision(at, ("level", fact.name), f"level {fact.name} is reached", note=fact.why)
        case f.UrgentTold(page=page) if page:
            yield Decision(at, ("urgent",), "people are needed at once", note=fact.why)
        case f.AcknowledgementExpired():
            yield Decision(at, ("acknowledgement",), "the acknowledgement runs out")
        case f.Relapsed():
            yield Decision(at, ("relapse",), "counts as come back", note=fact.why)
        case f.RestoreReminded():
            yield Decision(at, ("reminder", fact.step), f"reminds that {fact.step} is still in force")
        case f.Closed():
            yield Decision(at, ("closed",), "closes", note=fact.why)
        case f.MachineAnnounced() | f.MachineFired():
            yield from _promise(fact, at)


def _promise(fact: f.MachineAnnounced | f.MachineFired, at: int) -> Iterator[Decision]:
    """A countdown, or a promise that is not kept. One that is kept is told by its page and by its run."""
    if isinstance(fact, f.MachineAnnounced):
        yield Decision(at, ("countdown", fact.runbook), f"the countdown to {fact.runbook} begins")
    elif fact.runbook is not None and (fact.held is not None or fact.good):
        why = "it is fixed" if fact.good else "held back"
        yield Decision(at, ("promise", fact.runbook), f"{fact.runbook} is not started", {"": why}, fact.held or "")


# --- details ----------------------------------------------------------------------------------------------------------


def _held(verdicts: tuple[Verdict, ...]) -> dict[str, str]:
    return {f"gate {v.gate}": SAYS[v.answer] for v in verdicts if v.answer is not Answer.ALLOW}


def _params(params: Mapping[str, JsonValue]) -> dict[str, str]:
    """Parameters as text; those that say nothing are left out."""
    return {name: parameter_text(value) for name, value in params.items() if value not in (None, [], {})}


def parameter_text(value: JsonValue) -> str:
    """A resolved parameter as people read it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def clock(offset: int) -> str:
    """`+0:30`, `+1:02:03` for µs, to the nearest second."""
    seconds = (offset + SECOND // 2) // SECOND
    hours, minutes = divmod(seconds // 60, 60)
    return f"+{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"+{minutes}:{seconds % 60:02}"
