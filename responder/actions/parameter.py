"""The action `parameter.reduce`: the one way in which automation touches a trading limit, and it only goes down.

Raising a value back is a person's decision (`restore`). It is reached only through the plan that `undo` makes, whose
target lies above its state before; nothing that a runbook says can produce such a plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field, JsonValue

from responder.contracts import Action, Context, Output, Parameter, Probe, WriteSpec
from responder.errors import Permanent, ResponderError, Unknown
from responder.http_calls import HttpAnswer, HttpCall
from responder.recorded import Effect, Plan, ProbeAnswer
from responder.render import Position, parse_template, render_template, render_tree

_PRETENDED: Final = "the present value is not known in a simulation"


class ParameterReduce(Action):
    """Lower a parameter to an absolute value; never raises it.

    - `parameter`: its name in responder.yaml, where its service, requests, `floor` and `total_per_day` stand.
    - `to`: the value to be in force. Already there or lower: nothing is done, and that is a success. Below the
      parameter's `floor`: refused.
    - `reason`: text that is sent with the change where the parameter's body has `{{ reason }}`.

    Effect class `set`: the value is fixed before acting, and the present value is read right before it is written;
    when somebody has changed it since, nothing is written. Afterwards it is read back. What it takes off counts
    against `total_per_day`.

    Needs of the service's credential: the parameter's requests `read`, `write` and `restore`.

    ```yaml
    - id: cut_kelly
      action: parameter.reduce
      with: {parameter: risk-api/kelly_fraction, to: 0.1, reason: VaR breach}
      restore: {approval: risk-manager, remind: 4h}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {"parameter": "literal", "to": "literal", "reason": "text"}
    kinds: ClassVar[tuple[str, ...]] = ("http",)
    lowers_risk: ClassVar[bool] = True

    parameter: str
    to: Annotated[float, Field(allow_inf_nan=False)]
    reason: Annotated[str, Field(min_length=1, max_length=500)]

    def services(self, parameters: Mapping[str, Parameter]) -> tuple[str, ...]:
        """See Action.services."""
        return (parameters[self.parameter].service,) if self.parameter in parameters else ()

    def effect(self, keyed: bool) -> Effect:
        """See Action.effect."""
        return Effect.SET

    def preview(self) -> str:
        """See Action.preview."""
        return f"{self.parameter} down to {self.to:g}"

    async def prepare(self, context: Context) -> Plan:
        """Read the value and fix the target. Raises Permanent below the floor."""
        spec = context.parameter(self.parameter)
        if self.to < spec.floor:
            cure = "raise `to`, or have the floor lowered in responder.yaml"
            said = f"{self.to:g} is below its floor {spec.floor:g}"
            raise Permanent(f"{self.parameter}: {said}; nothing was changed: {cure}")
        before = await _read(spec, self.parameter, context)
        if before <= self.to + spec.tolerance:
            done = f"{self.parameter} is already {before:g}, not above {self.to:g}"
            return self._plan(context.now(), before, min(before, self.to)).model_copy(update={"nothing_to_do": done})
        drawn = {f"parameter:{self.parameter}": before - self.to}
        return self._plan(context.now(), before, self.to).model_copy(update={"draws": drawn, "undoable": True})

    async def act(self, plan: Plan, context: Context) -> Output:
        """Compare, write, read back. Raises Permanent when somebody changed the value since the plan was made."""
        spec, (before, target) = context.parameter(self.parameter), _bounds(plan)
        raises = target > before
        present = await _read(spec, self.parameter, context)
        if _same(present, target, spec) or (present < target and not raises):
            return Output(present, f"{self.parameter} is already {present:g}", context.now())
        if not _same(present, before, spec):
            said = f"was changed by somebody: it was {before:g} and is {present:g} now; nothing was written"
            raise Permanent(f"{self.parameter} {said}. Look at who changed it, then start again")
        if target < spec.floor - spec.tolerance:
            # Asked again where it is sent: whatever has made the plan, and whatever was configured then.
            said = f"{target:g} is below its floor {spec.floor:g}; nothing was written"
            raise Permanent(f"{self.parameter}: {said}: raise `to`, or have the floor lowered in responder.yaml")
        await self._write(spec, target, raises, context)
        confirmed = await self._confirmed(spec, target, raises, context)
        return Output(confirmed, f"{self.parameter} {before:g} → {confirmed:g}", context.now())

    async def probe(self, plan: Plan, context: Context) -> Probe:
        """Read: the target is in force, the state before is, or neither."""
        spec, (before, target) = context.parameter(self.parameter), _bounds(plan)
        present = await _read(spec, self.parameter, context)
        if _same(present, target, spec):
            return Probe(ProbeAnswer.APPLIED, f"{self.parameter} is {present:g}, as intended")
        if _same(present, before, spec):
            return Probe(ProbeAnswer.NOT_APPLIED, f"{self.parameter} is still {present:g}")
        return Probe(ProbeAnswer.UNCLEAR, f"{self.parameter} is {present:g}, neither {before:g} nor {target:g}")

    async def undo(self, plan: Plan, context: Context) -> Plan:
        """The plan that puts the state before back, as long as the present value is the one that `plan` made."""
        spec, (before, target) = context.parameter(self.parameter), _bounds(plan)
        if before <= target:
            raise Permanent(f"{self.parameter}: there is nothing to put back: it was {before:g} before")
        present = await _read(spec, self.parameter, context)
        if not _same(present, target, spec):
            raise Permanent(f"{self.parameter} is {present:g}, not the {target:g} that was set: settle it by hand")
        return self._plan(context.now(), target, before)

    def pretend(self, now: int) -> tuple[Plan, Output]:
        """See Action.pretend."""
        plan, _ = super().pretend(now)
        plan = plan.model_copy(update={"target": self.to})
        return plan, Output(self.to, f"pretended: {self.preview()} ({_PRETENDED})", now)

    def _plan(self, now: int, before: float, target: float) -> Plan:
        preview = f"{self.parameter} {before:g} → {target:g}"
        params: dict[str, JsonValue] = self.model_dump(mode="json")
        return Plan(params=params, preview=preview, effect=Effect.SET, prepared_at=now, before=before, target=target)

    async def _write(self, spec: Parameter, target: float, raises: bool, context: Context) -> None:
        """Send the change. Raises Temporary, Permanent or Unknown by what was answered."""
        request = spec.restore or spec.write if raises else spec.write
        reason = f"put back after: {self.reason}" if raises else self.reason
        call = _write_call(request, {"value": target, "reason": reason}, context.key)
        answer: HttpAnswer = await context.service(spec.service).send(call, context.timeout, context.clear)
        answer.checked(context.now())

    async def _confirmed(self, spec: Parameter, target: float, raises: bool, context: Context) -> float:
        """The value in force after an accepted write. Raises Unknown when that is not the target: it may still come."""
        try:
            present = await _read(spec, self.parameter, context)
        except ResponderError as error:
            said = f"the change to {target:g} was accepted, but not read back: {error}"
            raise Unknown(f"{self.parameter}: {said}") from None
        if _same(present, target, spec) or (present < target and not raises):
            return present
        raise Unknown(f"{self.parameter}: the change to {target:g} was accepted, but {present:g} is in force")


def _bounds(plan: Plan) -> tuple[float, float]:
    """State before and target of a plan. Raises Permanent for a plan that this action cannot have made."""
    before, target = plan.before, plan.target
    if not isinstance(before, int | float) or not isinstance(target, int | float):
        raise Permanent("the plan has no value before or no target; nothing was changed: start the run again")
    return float(before), float(target)


def _same(one: float, other: float, spec: Parameter) -> bool:
    return abs(one - other) <= spec.tolerance


async def _read(spec: Parameter, name: str, context: Context) -> float:
    """The value in force. Raises Permanent where the answer does not hold a number."""
    answer: HttpAnswer = await context.service(spec.service).send(HttpCall("GET", spec.read.path), context.timeout)
    value = _at(answer.checked(context.now()).body, spec.read.value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        cure = f"check `read.value` of parameter {name}"
        raise Permanent(f"{answer.place}: there is no number at {spec.read.value!r} in the answer: {cure}")
    return float(value)


def _at(body: Any, dotted: str) -> object:
    for part in dotted.split("."):
        if isinstance(body, Mapping):
            body = body.get(part)
        elif isinstance(body, list) and part.isdecimal() and int(part) < len(body):
            body = body[int(part)]
        else:
            return None
    return body


def _write_call(request: WriteSpec, values: Mapping[str, object], key: str) -> HttpCall:
    """Raises TemplateError where the configuration's templates do not fit; nothing was sent."""
    body: Any = render_tree(request.body, Position.JSON, values) if request.body else None
    path = str(render_template(parse_template(request.path, Position.PATH), values))
    return HttpCall(request.method.upper(), path, json=body, key=key)
