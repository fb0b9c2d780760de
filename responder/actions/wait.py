"""The action `wait`. Pauses beyond a few minutes belong to timers, which survive a restart without starting again."""

from __future__ import annotations

from typing import ClassVar

from pydantic import ConfigDict, Field, field_validator

from responder.contracts import Action, Context, Output
from responder.errors import Permanent
from responder.recorded import Plan
from responder.timing import MINUTE, SECOND, format_duration
from responder.written import Duration

LONGEST = 5 * MINUTE


class Wait(Action):
    """Wait, then go on with the next step.

    - `for`: how long, up to 5m. The step's `timeout` must be longer.

    Effect class `read`: after a crash it waits again. An alert that resolves meanwhile stops the run before its next
    change.

    ```yaml
    - {id: let_it_drain, action: wait, with: {for: 10s}, timeout: 15s}
    ```
    """

    model_config = ConfigDict(populate_by_name=True)
    positions: ClassVar = {"for": "literal"}

    for_: Duration = Field(alias="for")

    @field_validator("for_")
    @classmethod
    def _short(cls, value: int) -> int:
        if not 0 < value <= LONGEST:
            longest = format_duration(LONGEST)
            raise ValueError(f"a wait lasts up to {longest}: split the runbook, or use `settle` of verify")
        return value

    def preview(self) -> str:
        """See Action.preview."""
        return f"wait {format_duration(self.for_)}"

    async def prepare(self, context: Context) -> Plan:
        """Raises Permanent when the step's timeout would cut the wait short."""
        if context.timeout * SECOND <= self.for_:
            limit = format_duration(int(context.timeout * SECOND))
            raise Permanent(f"{self.preview()} does not fit the step's timeout {limit}: set a longer `timeout`")
        return await super().prepare(context)

    async def act(self, plan: Plan, context: Context) -> Output:
        """Wait in the clock of the caller, so that a simulation needs no time."""
        await context.sleep(self.for_ / SECOND)
        return Output(None, f"waited {format_duration(self.for_)}", context.now())
