"""C9: a fault between us and a service, while a step is prepared, acts or reads back; what is told, and what was done.

A case is one step through the real performer, the real connections and the proxy. It ends within its timeout and a
second, in a class that the server's ledger bears out; then the network is well again, the probe is asked, and what the
engine would do next is done, until the step is settled: everything once, or a person is told.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from responder.contracts import Probe
from responder.errors import Permanent, Temporary
from responder.perform import DETAIL_CHARACTERS, Ended
from responder.recorded import Effect, Outcome, Plan, ProbeAnswer
from responder.runbook import Step
from responder.timing import HOUR, SECOND
from tests.campaigns.network_faults import FAULTS
from tests.campaigns.network_scenes import BODY, SUBJECTS, Ground, Scene, Subject
from tests.contract.action_world import RUNBOOK
from tests.fakes.proxy import Fault, How, Line, Point

AT_ONCE: Final = 48
"""Cases that are played at a time, fewer on a busy machine."""
ROUNDS: Final = 19
"""How often continuous integration plays each use of an action, each time with another fault."""
BATCH: Final = 500
"""Cases that share servers, and a process, where there are many."""
LATE: Final = 1.0
"""Seconds beyond its timeout within which everything has ended, on a machine that keeps up."""
SLOWEST: Final = 4.0
"""So many times as long is everything at most on a busy machine."""
UNHURRIED: Final = 30.0
"""Seconds that a step has once the network is well again."""
KEY: Final = "inc1.run1.it.1"
_TRIES: Final = 5
"""A step is tried so often again once the network is well: its machine may stand still meanwhile."""
_REPORTED: Final = "please report it"
_FETCHED: Final = 2 * 1024 * 1024
"""Bytes of an endless answer over HTTP that may be on their way when we close: the kernel's buffers."""


@dataclass(frozen=True)
class Length:
    """How many exchanges and connections a step has where nothing goes wrong: of `prepare`, and in all."""

    exchanges: tuple[int, int]
    connections: tuple[int, int]
    state: object


@dataclass(frozen=True)
class Case:
    """`at`: which connection or exchange meets the fault; `lasting`: connections serve several requests."""

    seed: int
    subject: Subject
    fault: Fault
    at: int
    lasts: bool
    lasting: bool

    def __str__(self) -> str:
        until = " and all later ones" if self.lasts else ""
        what = "connection" if self.fault.point is Point.CONNECTION else "exchange"
        return f"seed {self.seed}, {self.subject.name}, {self.fault.name}, {what} {self.at}{until}"


@dataclass
class Played:
    """What became of a case. `late`: seconds beyond the timeout of the slowest part."""

    case: Case
    outcome: str = ""
    struck: bool = False
    late: float = 0.0
    doubt: bool = False
    """Unknown although nothing had been done."""
    hopeless: bool = False
    """Permanent, though it was the network."""
    wrong: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)


@dataclass
class Tally:
    """What many cases came to."""

    counts: Counter[str] = field(default_factory=Counter)
    late: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, one: Played) -> None:
        """Count a case."""
        self.counts["cases"] += 1
        self.counts["faults struck"] += one.struck
        self.counts[one.outcome] += 1
        self.counts["unknown, but nothing was done"] += one.doubt
        self.counts["permanent, after a fault"] += one.hopeless
        self.late.append(one.late)
        self.failures += [f"{one.case}: {said}" for said in one.wrong]

    def merge(self, other: Tally) -> None:
        """Add what others have counted."""
        self.counts += other.counts
        self.late += other.late
        self.failures += other.failures

    def figures(self) -> dict[str, Any]:
        """For the table."""
        late = sorted(self.late)
        beyond = {"p99": late[len(late) * 99 // 100], "most": late[-1]} if late else {}
        told = {f"seconds beyond the timeout, {name}": round(value, 3) for name, value in beyond.items()}
        return {**{name: self.counts[name] for name in sorted(self.counts)}, **told}


def case_of(seed: int, lengths: dict[tuple[str, bool], Length]) -> Case:
    """The case of a seed: neighbours have other subjects, and each round of subjects has other faults."""
    subjects = list(SUBJECTS.values())
    subject = subjects[seed % len(subjects)]
    chance = random.Random(seed)
    faults = FAULTS[subject.protocol]
    fault = faults[(seed // len(subjects) + seed % len(subjects) * 7) % len(faults)]
    connects = fault.point is Point.CONNECTION
    lasting = not connects and subject.protocol == "http" and chance.random() < 0.5
    length = lengths[subject.name, lasting]
    first, whole = length.connections if connects else length.exchanges
    at = chance.randint(1, first) if first and chance.random() < 0.3 else chance.randint(min(first + 1, whole), whole)
    return Case(seed, subject, fault, at, chance.random() < 0.4, lasting)


class Campaign:
    """Plays cases on one ground. `paced`: how many times as long everything is, by default what `pace` says."""

    def __init__(self, ground: Ground, paced: float = 0.0) -> None:
        self._ground = ground
        self._pace = paced or pace()
        self._lengths: dict[tuple[str, bool], Length] = {}

    async def seeds(self, seeds: Iterable[int]) -> list[Played]:
        """Those of these seeds, many at a time; who seems late is played again alone, before it counts."""
        cases = await self.cases(seeds)
        free, door = asyncio.Semaphore(round(AT_ONCE / self._pace)), asyncio.Lock()

        async def one(case: Case) -> Played:
            async with free:
                async with door:
                    await _calm(self._pace)
                return await self.play(case)

        played = await asyncio.gather(*(one(case) for case in cases))
        return [await self._again(p) if p.late > LATE * self._pace else p for p in played]

    async def cases(self, seeds: Iterable[int]) -> list[Case]:
        """The cases, with all that they need."""
        seeds = list(seeds)
        await self._measure(sorted({seed % len(SUBJECTS) for seed in seeds}))
        cases = [case_of(seed, self._lengths) for seed in seeds]
        changes = sum(c.subject.ends for c in cases)
        if changes:
            await self._ground.victims(changes)
        return cases

    async def _again(self, late: Played) -> Played:
        if late.case.subject.ends:
            await self._ground.victims(1)
        played = await self.play(late.case)
        if played.late > LATE * self._pace:
            played.wrong.append(f"ended {played.late:.2f} s after its timeout")
        return played

    async def _measure(self, numbers: Iterable[int]) -> None:
        subjects = list(SUBJECTS.values())
        wanted = [subjects[number] for number in numbers if (subjects[number].name, False) not in self._lengths]
        victims = sum(s.ends for s in wanted)
        if victims:
            await self._ground.victims(victims)
        for subject in wanted:
            for lasting in (False, True) if subject.protocol == "http" else (False,):
                self._lengths[subject.name, lasting] = await self._length(subject, lasting=lasting)

    async def _length(self, subject: Subject, *, lasting: bool) -> Length:
        line = Line()
        async with self._ground.scene(subject, line, -1, lasting=lasting) as scene:
            plan = await _prepare(scene, UNHURRIED)
            first = line.exchanges, line.connections
            ended = await _act(scene, plan, UNHURRIED)
            done = await scene.changes()
            assert ended.outcome is Outcome.OK, f"{subject.name}, without any fault: {ended}"
            assert done == (0 if plan.effect is Effect.READ else 1), (
                f"{subject.name}, without any fault: {done} changes, {ended}, {plan}"
            )
            whole = line.exchanges, line.connections
            return Length((first[0], whole[0]), (first[1], whole[1]), scene.state())

    # --- one case -----------------------------------------------------------------------------------------------------

    async def play(self, case: Case) -> Played:
        """Play and judge it."""
        line = Line(case.fault, case.at, case.lasts, self._pace)
        played = Played(case, story=line.told)
        async with self._ground.scene(case.subject, line, case.seed, lasting=case.lasting) as scene:
            plan = await self._prepared(scene, line, played)
            if plan is None:
                played.outcome = "refused when prepared"
                await line.heal()
                plan = await self._prepared(scene, line, played)
                if plan is None:
                    played.wrong.append("it cannot be prepared although all is well again")
                    return played
            await self._acted(scene, line, plan, played)
            played.struck = line.struck > 0
            over_http = case.subject.protocol.startswith("http")
            if over_http and case.fault.how is How.ENDLESS and line.sent > BODY + _FETCHED:
                played.wrong.append(f"{line.sent:,} bytes of an endless answer were taken")
            played.wrong += [f"nobody foresaw {said}" for said in scene.unexpected()]
        return played

    async def _prepared(self, scene: Scene, line: Line, played: Played) -> Plan | None:
        began = asyncio.get_running_loop().time()
        patience = played.case.subject.timeout * line.pace if line.at else UNHURRIED
        plan, said = None, "prepared"
        try:
            plan = await _prepare(scene, patience)
        except (Temporary, Permanent) as error:
            said = f"{type(error).__name__} {error}"
            played.hopeless |= isinstance(error, Permanent)
        played.late = max(played.late, asyncio.get_running_loop().time() - began - patience)
        line.told.append(f"  prepare: {said}")
        if _REPORTED in said:
            played.wrong.append(f"when prepared: {said}")
        changes = await scene.changes()
        if changes:
            played.wrong.append(f"{changes} changes before it has acted")
        return plan

    async def _acted(self, scene: Scene, line: Line, plan: Plan, played: Played) -> None:
        began = asyncio.get_running_loop().time()
        patience = played.case.subject.timeout * line.pace if line.at else UNHURRIED
        ended = await _act(scene, plan, patience)
        played.late = max(played.late, asyncio.get_running_loop().time() - began - patience)
        line.told.append(f"  act: {ended.outcome} {ended.detail}")
        await line.heal()
        changes = await scene.changes()
        line.told.append(f"  the server: {changes} changes, {scene.effects()} effects")
        played.outcome = played.outcome or ended.outcome.value
        played.doubt = ended.outcome is Outcome.UNKNOWN and not changes
        played.hopeless |= ended.outcome is Outcome.PERMANENT
        played.wrong += judged(ended, plan, changes, scene.effects())
        await self._settled(scene, line, plan, ended, played)

    async def _settled(self, scene: Scene, line: Line, plan: Plan, ended: Ended, played: Played) -> None:
        """What the engine does next, by effect class, until it is settled."""
        before = await scene.changes()
        probe = await _probed(scene, plan)
        line.told.append(f"  probe: {probe.answer} {probe.detail}")
        tells = scene.member.probes and not scene.member.reads and plan.nothing_to_do is None
        # What was prepared from a lie may be unclear for good; it must not be called clear. Nor can anybody tell of a
        # standby that a promotion will not come.
        open_ = played.case.fault.lies or (played.case.subject.unsure and not before)
        if tells and not (open_ and probe.answer is ProbeAnswer.UNCLEAR):
            played.wrong += untrue(probe.answer, before)
        for _ in range(_TRIES):
            if ended.outcome is Outcome.TEMPORARY or (
                ended.outcome is Outcome.UNKNOWN and _repeats(plan, probe.answer)
            ):
                ended = await _act(scene, plan, UNHURRIED)
                line.told.append(f"  act again: {ended.outcome} {ended.detail}")
        changes, effects = await scene.changes(), scene.effects()
        line.told.append(f"  the server: {changes} changes, {effects} effects")
        happened = ended.outcome is Outcome.OK or probe.answer is ProbeAnswer.APPLIED
        if plan.effect in {Effect.PROBED, Effect.UNSAFE} and changes > 1:
            played.wrong.append(f"done {changes} times")
        if effects is not None and effects > 1:
            played.wrong.append(f"took place {effects} times, under one key")
        clean = self._lengths[played.case.subject.name, played.case.lasting].state
        if plan.effect is Effect.SET and happened and plan.nothing_to_do is None and scene.state() != clean:
            played.wrong.append("the state in the end is another one than without a fault")
        if tells and happened and not played.case.fault.lies:
            again = await _probed(scene, plan)
            if again.answer is not ProbeAnswer.APPLIED:
                played.wrong.append(f"done, but in the end the probe says {again.answer}")
        told = plan.effect is Effect.UNSAFE or (open_ and ended.outcome is Outcome.UNKNOWN)  # a person, for good
        if ended.outcome in {Outcome.TEMPORARY, Outcome.UNKNOWN} and not happened and not told:
            played.wrong.append(f"not settled although all is well again: {ended.outcome} {ended.detail}")


def judged(ended: Ended, plan: Plan, changes: int, effects: int | None) -> list[str]:
    """What is wrong with how an attempt ended, beside the ledger."""
    wrong: list[str] = []
    if changes > 1 or (effects or 0) > 1:
        wrong.append(f"{changes} changes were sent by one attempt")
    if ended.outcome in {Outcome.TEMPORARY, Outcome.PERMANENT} and changes:
        wrong.append(f"says {ended.outcome} although it was done: {ended.detail}")
    if ended.outcome is Outcome.OK and not changes and plan.effect is not Effect.READ and plan.nothing_to_do is None:
        wrong.append(f"says that it was done, which it was not: {ended.detail}")
    if ended.outcome is Outcome.UNKNOWN and plan.effect is Effect.READ:
        wrong.append(f"a reading is unknown: {ended.detail}")
    if _REPORTED in ended.detail:
        wrong.append(f"an exception that nobody foresaw: {ended.detail}")
    if len(ended.detail) > DETAIL_CHARACTERS or len(json.dumps(ended.output)) > 2 * 16_384:
        wrong.append("the answer that is kept is too long")
    if ended.retry_after_us is not None and not 0 <= ended.retry_after_us <= HOUR:
        wrong.append(f"waits {ended.retry_after_us} µs because the server says so")
    return wrong


def untrue(answer: ProbeAnswer, changes: int) -> list[str]:
    """What is wrong with the answer of a probe, once all is well again."""
    if answer is ProbeAnswer.UNCLEAR:
        return ["the probe does not tell although all is well again"]
    if (answer is ProbeAnswer.APPLIED) != (changes > 0):
        return [f"the probe says {answer} after {changes} changes"]
    return []


def _repeats(plan: Plan, answer: ProbeAnswer) -> bool:
    """Whether the engine sends a change again whose answer was lost."""
    if plan.effect in {Effect.READ, Effect.KEYED}:
        return True
    return plan.effect is not Effect.UNSAFE and answer is ProbeAnswer.NOT_APPLIED


async def _prepare(scene: Scene, seconds: float) -> Plan:
    member = scene.member
    timeout = f"{round(seconds * 1000)}ms"
    step = Step.model_validate({"id": "it", "action": member.action, "with": member.with_, "timeout": timeout})
    return await scene.performer.prepare(RUNBOOK, step, {})


async def _act(scene: Scene, plan: Plan, seconds: float) -> Ended:
    return await scene.performer.act(scene.member.action, plan, KEY, round(seconds * SECOND))


async def _probed(scene: Scene, plan: Plan) -> Probe:
    """Asked twice where it is not told at first: it may be a machine that stood still."""
    timeout = round(UNHURRIED * SECOND)
    probe = await scene.performer.probe(scene.member.action, plan, timeout)
    if probe.answer is ProbeAnswer.UNCLEAR:
        probe = await scene.performer.probe(scene.member.action, plan, timeout)
    return probe


def pace() -> float:
    """How many times as long everything is here and now: 1, or more on a machine that has more to do than cores for it.
    Otherwise the steps there would run out of time before they meet the fault."""
    return min(SLOWEST, max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)) - 1))


async def _calm(pace: float) -> None:
    """Returns once the loop keeps up: what a case measures is the network's delay, not that of too many cases."""
    clock = asyncio.get_running_loop().time
    while True:
        began = clock()
        await asyncio.sleep(0.004)
        if clock() - began < 0.03 * pace:
            return


async def campaign(seeds: range, servers: frozenset[str] = frozenset({"redis", "postgres"})) -> Tally:
    """Play the cases of these seeds."""
    tally = Tally()
    async with Ground(servers) as ground:
        for one in await Campaign(ground).seeds(seeds):
            tally.add(one)
    return tally


def batch(seeds: range) -> Tally:
    """The cases of these seeds, in a loop and on servers of their own."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # what fails on purpose is told by the figures
    try:
        return asyncio.run(campaign(seeds))
    finally:
        logging.disable(before)


async def alone(seed: int) -> Played:
    """The case of one seed, with its story."""
    protocol = list(SUBJECTS.values())[seed % len(SUBJECTS)].protocol
    async with Ground(frozenset({protocol} & {"redis", "postgres"})) as ground:
        (played,) = await Campaign(ground).seeds([seed])
    return played
