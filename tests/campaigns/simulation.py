"""C4 and C21: very many small worlds, each from its seed alone, judged by `invariants` and by `safety`.

C4 spreads what happens over minutes, C21 puts it at the same instants. The same seed gives the same story, byte for
byte, so that one that went wrong is played again alone: `python -m tests.campaigns c4 --only SEED`.
"""

from __future__ import annotations

import gc
import hashlib
import logging
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from responder.recorded import Mode, StepStatus
from responder.timing import SECOND
from tests.acceptance.stage import START
from tests.campaigns.happenings import lot
from tests.campaigns.intents import Seen
from tests.campaigns.rule_seeds import SETS, rule_set
from tests.campaigns.safety import judge_safety
from tests.campaigns.services import KELLY
from tests.campaigns.words import late
from tests.campaigns.worlds import World
from tests.invariants import Accepted, Found, Ledger, judge, read_found

Answer = TypeVar("Answer")
NAMES = ("c4", "c21")
BATCH = 50
"""Worlds that are played one after the other by one process."""


@dataclass(slots=True)
class Tally:
    """What happened in any number of worlds."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    """What was wrong, each with the command that plays it again; the first with its story."""

    def add(self, other: Tally) -> None:
        """Those of another batch."""
        self.counts.update(other.counts)
        self.failures += [line.partition("\n")[0] for line in other.failures] if self.failures else other.failures


@dataclass(frozen=True)
class Played:
    """One world that was played and judged."""

    world: World
    found: Found
    seen: Seen
    violations: tuple[str, ...]

    @property
    def story(self) -> str:
        """What was to happen, what was recorded, sent and told: everything that the same seed gives again."""
        return "\n".join(self._lines())

    @property
    def digest(self) -> str:
        """The story in short."""
        return hashlib.sha256(self.story.encode()).hexdigest()

    def _lines(self) -> Iterator[str]:
        world = self.world
        yield from (f"rules {name}: {book.model_dump_json()}" for name, book in sorted(world.rules.runbooks.items()))
        yield f"automation {world.config.automation.model_dump_json()}"
        yield f"kelly {world.lot.kelly}, faulty {world.lot.faulty}, helps {world.lot.helps}, turns {world.lot.blocks}"
        yield from (str(one) for one in world.lot.happenings)
        for case in self.found.cases:
            for event in case.events:
                at = f"{(event.at - START) / SECOND:9.3f}"
                yield f"{at} {case.row.id} #{event.seq} {event.actor}: {event.fact.model_dump_json()}"
        yield from (f"{(c.at - START) / SECOND:9.3f} {c}" for c in world.platform.calls)
        yield from (f"{(m.at - START) / SECOND:9.3f} {m}" for m in world.sent)
        yield from self.violations


def play(campaign: str, seed: int) -> Played:
    """The world of a seed."""
    rules, config = rule_set(seed % SETS)
    count = sum(1 for name in rules.runbooks if name != "halt")
    return judged(World(rules, config, lot(seed, count, races=campaign == "c21")))


def judged(world: World) -> Played:
    """Play it and judge it."""
    config = world.config
    with _errors(world.failing):
        world.run()
    found = replace(_at_once(read_found(world.store, _ledger(world))), order=world.store.order)
    parameter = config.parameters[KELLY]
    total = parameter.total_per_day
    assert total is not None
    writes, paused = tuple(world.platform.writes), tuple(world.edge.paused)
    watched = tuple(tuple(one.history) for one in world.watchers.all)
    seen = Seen(found, world.rules, config.automation, writes, parameter.floor, total, paused, watched)
    wrong = (*world.failing, *(line for line in judge(found) if _is_wrong(line, found)), *judge_safety(seen))
    return Played(world, found, seen, wrong)


def _at_once(work: Coroutine[Any, Any, Answer]) -> Answer:
    """What never waits, without `asyncio.run`, which writes its result as text when it restores a signal's handler."""
    try:
        work.send(None)
    except StopIteration as done:
        return cast(Answer, done.value)
    raise AssertionError(f"{work} waits")


def _ledger(world: World) -> Ledger:
    """What the outside saw; of an alert that was told several times the last word counts."""
    last: dict[tuple[str, ...], Accepted] = {accepted.fingerprints: accepted for accepted in world.edge.accepted}
    fired = [accepted for accepted in world.edge.accepted if accepted.status == "firing"]
    ended = [accepted for accepted in last.values() if accepted.status == "resolved"]
    parameter = world.config.parameters[KELLY]
    return Ledger(
        calls=tuple(world.platform.calls),
        messages=tuple(world.sent),
        accepted=(*fired, *ended),
        unexpected=(*world.platform.unexpected, *(path for one in world.watchers.all for path in one.unexpected)),
        totals={f"parameter:{KELLY}": parameter.total_per_day or 0.0},
    )


def _is_wrong(line: str, found: Found) -> bool:
    """What may be in these worlds: a run that waits for a gate or an answer has not ended, and need not; and somebody
    else may have lowered the parameter already.
    """
    waiting = (
        f"I5: {case.row.id} run {run.number} is still {run.phase}"
        for case in found.cases
        for run in case.incident.runs
        if run.waits_until is not None or any(s.status is StepStatus.APPROVAL for s in run.steps)
    )
    by_others = (
        f"I2: {case.row.id} run {run.number} step {attempt.step} is told to be done, and nothing arrived"
        for case, run, attempt in found.attempts()
        if "is already" in attempt.detail
    )
    return line not in waiting and line not in by_others


class _Heard(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        why = f" {record.exc_info[1]!r}" if record.exc_info else ""
        self._said.append(f"error: {record.getMessage()}{why}")


@contextmanager
def _errors(said: list[str]) -> Iterator[None]:
    """What the program logs as an error is wrong here, and nothing else is logged."""
    logger, before, heard = logging.getLogger("responder"), logging.root.manager.disable, _Heard(said)
    logger.addHandler(heard)
    propagates, logger.propagate = logger.propagate, False
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        logger.propagate = propagates
        logger.removeHandler(heard)


# --- very many --------------------------------------------------------------------------------------------------------


def batch(campaign: str, seeds: Sequence[int]) -> Tally:
    """The worlds of these seeds."""
    tally = Tally()
    gc.freeze()  # what is loaded need not be looked at again and again
    gc.disable()
    try:
        for number, seed in enumerate(seeds):
            played = play(campaign, seed)
            tally.add(_told(campaign, seed, played))
            if number % 20 == 0:
                gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()
    return tally


def _told(campaign: str, seed: int, played: Played) -> Tally:
    command = f"python -m tests.campaigns {campaign} --only {seed}"
    failures = [f"{said}  ({command})" for said in played.violations]
    if failures:
        failures[0] = f"{failures[0]}\n{played.story}"
    return Tally(Counter(_counted(played)), failures)


def _counted(played: Played) -> Iterator[str]:
    """Words for the table, once for each time."""
    world, found = played.world, played.found
    yield "worlds"
    yield from ("happenings" for _ in world.lot.happenings)
    yield from ("deaths" for _ in range(world.deaths))
    yield from ("changes sent" for call in world.platform.calls if call.method not in ("GET", "HEAD"))
    yield from ("changes that left late after a pause" for _ in late(played.seen))
    for case in found.cases:
        yield "incidents"
        yield from ("facts" for _ in case.events)
        for event in case.events:
            kind = event.fact.kind
            if kind in ("refused", "waiting", "approved", "settled", "taken_over", "machine_fired"):
                yield kind.replace("_", " ")
            if getattr(event.fact, "superseded", ""):
                yield "runs superseded"
        yield from (f"runs {run.result}" for run in case.incident.runs if run.mode is not Mode.OBSERVE)


def figures(tally: Tally) -> dict[str, int]:
    """For the table."""
    return dict(sorted(tally.counts.items()))
