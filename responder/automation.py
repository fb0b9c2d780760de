"""What responder.yaml says about automation as a whole: how much it may do in an hour, and when it must stop.

Defaults are those of reliability.md S1, S6, S7, S9 and S10. Not here: what follows from them (`fuses`, `guards`).
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from responder.contracts import Strict
from responder.timing import DAY, HOUR, MINUTE
from responder.written import Duration, Rate, RateText


class AutomationStorm(Strict):
    """So many incidents at once have one cause, which no runbook heals: what is no brake waits for people."""

    incidents: Annotated[int, Field(ge=2, le=1_000)] = 10
    """From so many incidents of one `env` on that began within `within`; what says no `env` counts for each."""
    within: Duration = 5 * MINUTE
    """See `incidents`."""
    calm: Duration = 5 * MINUTE
    """How long there must have been fewer before it acts again."""


class Relapse(Strict):
    """What comes back soon after it was fixed is not fixed by doing the same again."""

    within: Duration = 30 * MINUTE
    """So soon after a run that helped, another run of the runbook on the target is a relapse."""
    count: Annotated[int, Field(ge=1, le=100)] = 2
    """With so many relapses within `memory`, the runbook leaves the target to people."""
    memory: Duration = DAY
    """See `count`."""


class Success(Strict):
    """A runbook that does not help any more is left out for a while, whatever its target."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """At least so many of its latest runs must have helped: 0.5 is half of them."""
    runs: Annotated[int, Field(ge=2, le=20)] = 4
    """With fewer runs nothing is concluded."""
    memory: Duration = DAY
    """How long a run counts; at most the latest 20 do."""
    rest: Duration = 60 * MINUTE
    """How long after its last run it is left out; then one run is tried."""


class Automation(Strict):
    """Bounds of all runs together. A brake passes them with a page, for it only lowers risk; a pause stops it too."""

    pause_file: str | None = None
    """While this file exists nothing is changed; its first line tells people why. What cannot be read pauses, too."""
    changes: RateText | None = Rate(30, HOUR, "1h")
    """Changes of all runbooks together."""
    changes_per_service: RateText | None = Rate(10, HOUR, "1h")
    """Changes to one service, by whatever runbook."""
    changes_per_runbook: RateText | None = Rate(10, HOUR, "1h")
    """Changes by one runbook, on all its targets."""
    storm: AutomationStorm | None = AutomationStorm()
    """When very many incidents begin at once."""
    relapse: Relapse | None = Relapse()
    """When the same comes back again and again."""
    success: Success | None = Success()
    """When a runbook has stopped helping."""

    @field_validator("changes", "changes_per_service", "changes_per_runbook")
    @classmethod
    def _remembered(cls, rate: Rate | None) -> Rate | None:
        if rate is not None and rate.window > DAY:
            raise PydanticCustomError(
                "rate", "changes are remembered for a day", {"hint": "write a window of at most 24h, as in 30 per 1h"}
            )
        return rate


UNBOUNDED: Final = Automation(
    changes=None, changes_per_service=None, changes_per_runbook=None, storm=None, relapse=None, success=None
)
"""Nothing but the pause: what a transaction without a configuration goes by."""
