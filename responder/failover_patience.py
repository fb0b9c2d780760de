"""Whether a step that fails over is tried for long enough: Sentinels that notice later than it gives up never see it.

Pure. What the Sentinels are configured to is asked by `checkups`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from responder.rights import Use
from responder.runbook import Step
from responder.timing import SECOND, backoff, humanize, parse_duration

ACTION: Final = "redis.failover"
AFTER: Final = 10 * SECOND
"""The action's own `after`, where the step gives none."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A step that replaces a master that is down. µs: `tries` lie between its first and its last attempt; `after` is
    what the Sentinels have for their own failover."""

    runbook: str
    step: str
    tries: int
    after: int


def tried(uses: Iterable[Use], service: str) -> tuple[Tried, ...]:
    """Every such step on this service. One that is `planned` waits for nobody."""
    runbooks = {use.runbook.runbook: use.runbook for use in uses}
    return tuple(
        Tried(runbook.runbook, step.id, _tries(step), _after(step))
        for runbook in runbooks.values()
        for step in runbook.steps
        if step.action == ACTION and step.with_.get("service") == service and not step.with_.get("planned", False)
    )


def _tries(step: Step) -> int:
    retry = step.retry
    return sum(backoff(number, retry.first, retry.factor, retry.cap, 0.0) for number in range(1, retry.attempts))


def _after(step: Step) -> int:
    given = step.with_.get("after")
    return AFTER if given is None else parse_duration(str(given))


def judged(steps: Iterable[Tried], notice: int) -> Iterator[tuple[bool, str]]:
    """What is to say of them, each good or not. `notice`: how long a master is silent until a majority of the Sentinels
    calls it down, µs."""
    told = f"a dead master is called down after {humanize(notice)} (down-after-milliseconds)"
    for one in steps:
        name, needed = f"step {one.step} of {one.runbook}", notice + one.after
        if one.tries >= needed:
            yield True, f"{told}, and {name} tries for {humanize(one.tries)}"
            continue
        needs = f"{told} and the Sentinels have {humanize(one.after)} for their own failover"
        cure = "lower down-after-milliseconds, or raise the step's `retry`"
        yield False, f"{needs}, but {name} tries only for {humanize(one.tries)}: {cure}"
