"""Carries out what `decide` named: one attempt, one reading, one probe; any ending becomes an outcome.

`classify` is the one table of exceptions. What a request over HTTP came to is already told by `connections` and
`http_calls`, which alone know what was sent. Not here: retries, waiting and giving up (`decide`), recording and
metrics (the engine). No method but `prepare` and `undo` raises anything except cancellation.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import JsonValue, ValidationError

from responder.contracts import Action, Clock, Context, Output, Parameter, Probe
from responder.errors import HeldBack, Permanent, ResponderError, Temporary, Unknown
from responder.positions import UNSEEN
from responder.recorded import Effect, EvidenceItem, Observation, Outcome, Plan, ProbeAnswer
from responder.redaction import hide
from responder.render import Position, has_placeholder, parse_template, render_template, render_tree
from responder.runbook import Check, Evidence, Reading, Runbook, Step
from responder.timing import SECOND

DETAIL_CHARACTERS = 400
TITLE_CHARACTERS = 80
"""Of a step's title in a preview: the line is read on phones, and what is changed stands behind it."""
LITERAL = "literal"
"""The position of fields that hold no placeholder; see Action.positions."""
_log = logging.getLogger(__name__)

T = TypeVar("T")
Held = Callable[[], Awaitable[str | None]]
"""Answers why nothing may be sent any more, or None."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended. `detail` is one line for people; times are µs, `retry_after_us` the wait asked for.
    `held_back`: a pause came before anything was sent."""

    outcome: Outcome
    detail: str
    output: JsonValue = None
    retry_after_us: int | None = None
    observed_at: int | None = None
    held_back: bool = False


def classify(error: Exception, *, reads: bool) -> Ended:
    """What an exception says about the world. `reads`: the attempt could not have changed anything.

    Whatever is not known to have done nothing is, of a change, Unknown (design 5.3). The texts of foreign exceptions
    are left out: they may hold anything, and so a secret.
    """
    match error:
        case Temporary():
            wait = None if error.retry_after is None else round(error.retry_after * SECOND)
            held = isinstance(error, HeldBack)
            return Ended(Outcome.TEMPORARY, one_line(str(error)), retry_after_us=wait, held_back=held)
        case Unknown():
            return Ended(Outcome.PERMANENT if reads else Outcome.UNKNOWN, one_line(str(error)))
        case ResponderError():
            # Permanent, and whatever is wrong with rules or configuration, which is found before anything is sent.
            return Ended(Outcome.PERMANENT, one_line(str(error)))
        case TimeoutError():
            said = "no end within the timeout: raise the step's `timeout`, or look why it is slow"
            return Ended(Outcome.TEMPORARY, said) if reads else Ended(Outcome.UNKNOWN, f"{said}; it may have happened")
        case ValidationError() if reads:
            return Ended(Outcome.PERMANENT, one_line(_faults(error)))
    _log.error("unexpected %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    said = f"unexpected {type(error).__name__} (the log says where); please report it"
    return Ended(Outcome.TEMPORARY, said) if reads else Ended(Outcome.UNKNOWN, f"{said}; it may have happened")


def one_line(text: str) -> str:
    """`text` for people: one bounded line without invisible characters and without credentials."""
    line = " ".join(UNSEEN.sub(" ", hide(text, "(hidden)")[0]).split())
    return line if len(line) <= DETAIL_CHARACTERS else line[: DETAIL_CHARACTERS - 1] + "…"


def _faults(error: ValidationError) -> str:
    """The findings without the values, which may come from labels."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in found)


class _Budget:
    """How many characters of JSON are still free."""

    def __init__(self, free: int) -> None:
        self.free = free

    def take(self, cost: int) -> bool:
        """Whether `cost` was still there; it is used up in any case."""
        self.free -= cost
        return self.free >= 0


def bounded(value: JsonValue, limit: int) -> JsonValue:
    """`value` cut to about `limit` characters of JSON: what comes first is kept, what is left out is absent, not empty.

    So a condition on something left out is unknown, never false. Lone surrogates, which no store takes, are replaced.
    """
    return _kept(value, _Budget(limit))


def _kept(value: JsonValue, budget: _Budget) -> JsonValue:
    if isinstance(value, str):
        text = value[: max(budget.free, 0)].encode("utf-8", "replace").decode()
        budget.take(len(value) + 2)
        return text if len(text) >= len(value) else text + "… (cut off)"
    if isinstance(value, list):
        return [_kept(item, budget) for item in _while(value, budget)]
    if isinstance(value, dict):
        return {str(_kept(key, budget)): _kept(item, budget) for key, item in _while(value.items(), budget)}
    budget.take(len(str(value)))
    return value


def _while(items: Iterable[T], budget: _Budget) -> Iterable[T]:
    for item in items:
        if not budget.take(2):
            return
        yield item


def rendered(action: type[Action], with_: Mapping[str, JsonValue], values: Mapping[str, object]) -> dict[str, Any]:
    """The `with` of a step over `values`, each string as its position demands. Raises TemplateError, Permanent."""
    return {name: _rendered(action, name, tree, values) for name, tree in with_.items()}


def _rendered(action: type[Action], place: str, tree: JsonValue, values: Mapping[str, object]) -> Any:
    if isinstance(tree, dict) and any(known.startswith(f"{place}.") for known in action.positions):
        return {name: _rendered(action, f"{place}.{name}", item, values) for name, item in tree.items()}
    position = action.positions.get(place, Position.JSON)
    if position != LITERAL:
        return render_tree(tree, Position(position), values)
    if isinstance(tree, str) and has_placeholder(tree):
        raise Permanent(f"`{place}` holds a placeholder: write the value itself, an alert must not choose it")
    return tree


@dataclass(frozen=True)
class Performer:
    """What the engine calls to have things done in the world; a simulation has its own."""

    actions: Mapping[str, type[Action]]
    connect: Callable[[str], Any]
    """Answers the connection to a service by its name."""
    parameters: Mapping[str, Parameter]
    clock: Clock
    sleep: Callable[[float], Awaitable[None]]
    output_characters: int = 16_384
    """JSON of an output that is kept; see `bounded`."""
    readings: int = 8
    """Readings of one evidence item at a time."""

    async def observe(self, name: str, check: Check, values: Mapping[str, object]) -> Observation:
        """Ask a check. Never raises: what cannot be read has no value and an `error`."""
        asked_at = self.clock()
        try:
            output = await self._read(check, values)
        except Exception as error:  # noqa: BLE001  (classify is where every exception ends)
            return Observation(check=name, asked_at=asked_at, error=classify(error, reads=True).detail)
        value = bounded(output.value, self.output_characters)
        observed_at = self.clock() if output.observed_at is None else output.observed_at
        return Observation(check=name, value=value, observed_at=observed_at, asked_at=asked_at)

    async def evidence(self, item: Evidence, values_list: Iterable[Mapping[str, object]]) -> list[EvidenceItem]:
        """Read `item` once for each of the values, a few at a time. Never raises."""
        free = asyncio.Semaphore(self.readings)

        async def one(values: Mapping[str, object]) -> EvidenceItem:
            async with free:
                return await self._evidence(item, values)

        return list(await asyncio.gather(*(one(values) for values in values_list)))

    async def prepare(self, runbook: Runbook, step: Step, values: Mapping[str, object]) -> Plan:
        """Render and check the parameters, read the state before. The plan holds all that `act` needs.

        Raises Permanent for parameters that do not fit and for what will be refused again; Temporary for what may pass.
        """
        try:
            action = self._built(step.action or "", step.with_, values)
            plan = await _within(step.timeout, action.prepare(self._context(step.timeout)))
            return titled(sighted(plan, action), step)
        except Exception as error:
            raise _before_acting(error, f"{runbook.runbook}.{step.id}: ") from error

    async def act(self, action: str, plan: Plan, key: str, timeout_us: int, held: Held | None = None) -> Ended:
        """Do what the plan says, once. Raises only CancelledError. `held` is asked again right before it is sent."""
        if plan.nothing_to_do is not None:
            return Ended(Outcome.OK, one_line(plan.nothing_to_do), plan.before, observed_at=self.clock())
        reads = plan.effect is Effect.READ
        try:
            planned = self._planned(action, plan)
            output = await _within(timeout_us, planned.act(plan, self._context(timeout_us, key, held)))
        except Exception as error:  # noqa: BLE001
            return classify(error, reads=reads)
        value = bounded(output.value, self.output_characters)
        return Ended(Outcome.OK, one_line(output.detail), value, observed_at=output.observed_at)

    async def probe(self, action: str, plan: Plan, timeout_us: int) -> Probe:
        """Find out whether an earlier attempt of this plan happened. Never raises: what cannot be asked is unclear."""
        try:
            planned = self._planned(action, plan)
            found = await _within(timeout_us, planned.probe(plan, self._context(timeout_us)))
        except Exception as error:  # noqa: BLE001
            return Probe(ProbeAnswer.UNCLEAR, classify(error, reads=True).detail)
        return Probe(found.answer, one_line(found.detail))

    async def undo(self, action: str, plan: Plan, timeout_us: int) -> Plan:
        """The plan that restores the state before `plan`. Raises Permanent or Temporary; changes nothing."""
        try:
            planned = self._planned(action, plan)
            back = await _within(timeout_us, planned.undo(plan, self._context(timeout_us)))
            return sighted(back, planned)
        except Exception as error:
            raise _before_acting(error, "") from error

    async def _evidence(self, item: Evidence, values: Mapping[str, object]) -> EvidenceItem:
        title = item.title or item.action
        try:
            title = self._title(item, values)
            output = await self._read(item, values)
        except Exception as error:  # noqa: BLE001
            return EvidenceItem(title=one_line(title), error=classify(error, reads=True).detail)
        return EvidenceItem(title=one_line(title), value=bounded(output.value, self.output_characters))

    def _title(self, item: Evidence, values: Mapping[str, object]) -> str:
        if item.title is not None:
            return str(render_template(parse_template(item.title, Position.TEXT), values))
        return self._built(item.action, item.with_, values).preview()

    async def _read(self, reading: Reading, values: Mapping[str, object]) -> Output:
        action = self._built(reading.action, reading.with_, values)
        if action.effect(keyed=False) is not Effect.READ:
            raise Permanent(f"{reading.action} changes something here: a check or evidence only reads")
        context = self._context(reading.timeout)

        async def asked() -> Output:
            return await action.act(await action.prepare(context), context)

        return await _within(reading.timeout, asked())

    def _built(self, name: str, with_: Mapping[str, JsonValue], values: Mapping[str, object]) -> Action:
        kind = self._kind(name)
        return _valid(kind, name, rendered(kind, with_, values))

    def _planned(self, name: str, plan: Plan) -> Action:
        return _valid(self._kind(name), name, plan.params)

    def _kind(self, name: str) -> type[Action]:
        kind = self.actions.get(name)
        if kind is None:
            raise Permanent(f"there is no action {name!r} (any more): there are {', '.join(sorted(self.actions))}")
        return kind

    def _context(self, timeout_us: int, key: str = "", held: Held | None = None) -> Context:
        context = Context(self.connect, self._parameter, self.clock, timeout_us / SECOND, self.sleep, key)
        return context if held is None else replace(context, held=held)

    def _parameter(self, name: str) -> Parameter:
        if name not in self.parameters:
            known = ", ".join(sorted(self.parameters)) or "none"
            raise Permanent(f"there is no parameter {name!r}: add it under `parameters` (there are: {known})")
        return self.parameters[name]


def sighted(plan: Plan, action: Action) -> Plan:
    """The plan, marked where nothing tells afterwards whether it is in force."""
    return plan.model_copy(update={"blind": action.blind})


def titled(plan: Plan, step: Step) -> Plan:
    """The plan, its preview beginning with the step's title (at most `TITLE_CHARACTERS`) where there is one."""
    title = one_line(step.title)
    if not title:
        return plan
    short = title if len(title) <= TITLE_CHARACTERS else f"{title[: TITLE_CHARACTERS - 1]}…"
    return plan.model_copy(update={"preview": f"{short}: {plan.preview}"})


def _valid(kind: type[Action], name: str, params: Mapping[str, Any]) -> Action:
    try:
        return kind.model_validate(params)
    except ValidationError as error:
        raise Permanent(f"{name}: {_faults(error)}; nothing was done: correct the step's `with`") from None


async def _within(timeout_us: int, work: Awaitable[T]) -> T:
    """Raises TimeoutError."""
    async with asyncio.timeout(timeout_us / SECOND):
        return await work


def _before_acting(error: Exception, place: str) -> Temporary | Permanent:
    """An error of something that changes nothing, as one of the two that the engine knows."""
    ended = classify(error, reads=True)
    detail = one_line(f"{place}{ended.detail}")
    if ended.outcome is not Outcome.TEMPORARY:
        return Permanent(detail)
    return Temporary(detail, None if ended.retry_after_us is None else ended.retry_after_us / SECOND)
