"""Executing: what a turn asks for is read or done in tasks of its own, and comes back as a fact (design 3).

No step delays a timer, a person or another incident. The order never changes: the intent is committed before this
module touches the world, the outcome is committed after, and an outcome is offered to the store until it is taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from responder.alertmanagers import NOBODY
from responder.cases import Case
from responder.contracts import PagerState, Probe
from responder.desk import Desk, Shelf
from responder.draft import Intended, Turn, UnknownRules, scopes_of
from responder.errors import Permanent, Rejected, StoreUnavailable, Temporary
from responder.guards import holds_back, pause
from responder.incident import Attempt, Episode, Incident, Run
from responder.operations import Ended, Learned, Readings, Report
from responder.perform import Ended as Performed
from responder.perform import Held
from responder.recorded import AlertsSeen, EvidenceItem, Observation, Outcome, Plan, ProbeAnswer
from responder.records import Operation
from responder.runbook import Check, Evidence, Runbook, Step
from responder.scopes import PAUSES, asked_of
from responder.timing import SECOND
from responder.view import Gather, values_of

LOG = logging.getLogger("responder.engine")

PROBE_TIMEOUT = 10 * SECOND
"""How long a probe may take; it is asked while people wait to hear whether a change happened."""


Values = Mapping[str, object]
"""What templates see: name -> value."""


class Performs(Protocol):
    """What executing needs of the world; `perform.Performer`, or a simulation's stand-in."""

    async def observe(self, name: str, check: Check, values: Values) -> Observation:
        """Read a check; never raises."""
        ...

    async def evidence(self, item: Evidence, values_list: Iterable[Values]) -> list[EvidenceItem]:
        """Read one entry of evidence for each set of values; never raises."""
        ...

    async def prepare(self, runbook: Runbook, step: Step, values: Values) -> Plan:
        """Make a step ready. Raises Permanent, Temporary."""
        ...

    async def act(self, action: str, plan: Plan, key: str, timeout_us: int, held: Held | None = None) -> Performed:
        """Do it once, within `timeout_us`; never raises. `held` says right before it why it must not be sent."""
        ...

    async def probe(self, action: str, plan: Plan, timeout_us: int) -> Probe:
        """Find out whether it happened; never raises."""
        ...

    async def undo(self, action: str, plan: Plan, timeout_us: int) -> Plan:
        """Prepare the way back. Raises Permanent, Temporary."""
        ...


PAUSE_PATIENCE = 0.5
"""Seconds for which the store is asked for a pause right before a change is sent."""

AskPagers = Callable[[tuple[tuple[str, str], ...]], Awaitable[Mapping[str, PagerState]]]
"""(destination, key) pairs -> what each pager says about its own incident; never raises, and takes 2 s at most."""


class AsksAlerts(Protocol):
    """Who knows which alerts fire; `alertmanagers.Alertmanagers`, or a simulation's stand-in."""

    async def seen(self, alerts: Collection[Episode]) -> AlertsSeen:
        """What is said about these; never raises, and takes a few seconds at most."""
        ...


class Nobody:
    """Answers where nobody is to be asked; `why` is what people read."""

    def __init__(self, desk: Desk, why: str = NOBODY) -> None:
        self._desk = desk
        self._why = why

    async def seen(self, alerts: Collection[Episode]) -> AlertsSeen:
        """See AsksAlerts."""
        return AlertsSeen(observed_at=self._desk.now(), nobody=self._why)


class Runs:
    """See the module. At most one task reads for an incident; every intent is done by a task of its own."""

    def __init__(self, desk: Desk, performer: Performs, ask: AskPagers) -> None:
        self._desk = desk
        self._ask = ask
        self.performer = performer
        self.alertmanagers: AsksAlerts = Nobody(desk)
        """Who is asked whether alerts still fire; the wiring puts the configured ones here."""
        self._reading: set[tuple[str, bool]] = set()
        self._evidence: set[tuple[str, int]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def take(self, turn: Turn) -> None:
        """Start what a turn asks for. Never blocks, never raises."""
        if self._stopping:
            return  # what is only read is read again after the start; an intent is recovered
        self._start_evidence(turn)
        if isinstance(turn.next, Intended):
            self._spawn(self._execute(turn))
        elif isinstance(turn.next, Gather) and _reading(turn) not in self._reading:
            self._reading.add(_reading(turn))
            self._spawn(self._read(turn))

    @property
    def busy(self) -> int:
        """Tasks under way."""
        return len(self._tasks)

    async def stop(self, patience: float) -> None:
        """Take nothing new, and wait up to `patience` seconds for what is under way; the rest is recovered later."""
        self._stopping = True
        self._desk.worker = replace(self._desk.worker, stopping=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            LOG.error("a task of the engine failed; its timer tries again", exc_info=task.exception())

    def _scopes(self, incident: Incident) -> frozenset[str]:
        """What the next judgement of the run under way will ask for. Never raises: no outcome may be lost for it."""
        run = incident.active_run
        if run is None:
            return frozenset()
        try:
            rules = self._desk.shelf.rules(run.rules_hash)
        except UnknownRules:
            rules = None
        runbook = None if rules is None else rules.runbooks.get(run.runbook)
        if runbook is None:
            return asked_of(run.runbook, run.target)
        return scopes_of(self._desk.shelf, runbook, run.target)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self, turn: Turn) -> None:
        incident, gather = turn.incident, turn.next
        assert isinstance(gather, Gather)
        try:
            learned = await self._gather(incident, gather)
        finally:
            self._reading.discard(_reading(turn))
        await self._report(
            lambda shelf: Report(
                self._desk.new_id(),
                incident.id,
                gather,
                learned,
                turn.epoch,
                shelf,
                self._desk.worker,
                self._scopes(incident),
            )
        )

    async def _report(self, make: Callable[[Shelf], Operation[Turn]]) -> None:
        try:
            turn = await self._desk.submit(make)
        except Rejected as refused:
            LOG.info("%s", refused)
            return
        except StoreUnavailable as down:
            LOG.warning("an answer could not be recorded, it is asked again later: %s", down)
            return
        self.take(turn)

    async def _gather(self, incident: Incident, gather: Gather) -> Learned:
        if gather.level is not None:
            return Learned(pagers=await self._ask(gather.pages))
        runbook = self._runbook(gather)
        if runbook is None:
            return Learned(failed=f"runbook {gather.runbook} of rules {gather.rules_hash[:12]} cannot be read")
        # Without a run it is the incident's own check that is read, whatever run was the last.
        run = next((r for r in incident.runs if r.number == gather.run), None)
        if gather.probe is not None:
            return await self._probe(incident, gather.probe)
        values = values_of(incident, run)
        known = [name for name in gather.checks if name in runbook.checks]
        checks = asyncio.gather(*(self.performer.observe(n, runbook.checks[n], values) for n in known))
        prepared, observations, alerts = await asyncio.gather(
            self._prepare(incident, gather, runbook, run), checks, self._alerts(incident, gather)
        )
        return Learned(
            observations=tuple(observations),
            plan=prepared.plan,
            failed=prepared.failed,
            retry=prepared.retry,
            retry_after=prepared.retry_after,
            alerts=alerts,
        )

    async def _alerts(self, incident: Incident, gather: Gather) -> AlertsSeen | None:
        return await self.alertmanagers.seen(incident.listed) if gather.alerts else None

    def _runbook(self, gather: Gather) -> Runbook | None:
        rules = self._desk.shelf.rules(gather.rules_hash)
        return None if rules is None else rules.runbooks.get(gather.runbook)

    async def _prepare(self, incident: Incident, gather: Gather, runbook: Runbook, run: Run | None) -> Learned:
        if gather.step is None or run is None:
            return Learned()
        step = runbook.step(gather.step)
        try:
            if gather.restore is not None:
                return Learned(plan=await self._way_back(incident, runbook, run, gather))
            return Learned(plan=await self.performer.prepare(runbook, step, values_of(incident, run)))
        except Temporary as error:
            wait = None if error.retry_after is None else round(error.retry_after * SECOND)
            return Learned(failed=f"could not be prepared: {error}", retry=True, retry_after=wait)
        except Permanent as error:
            return Learned(failed=f"could not be prepared: {error}")

    async def _way_back(self, incident: Incident, runbook: Runbook, run: Run, gather: Gather) -> Plan:
        """By the action that the step names for it, else as its own action takes it back: never over a later change, as
        far as its probe tells; a change so old that its attempt is not kept is put back by the step's action unseen."""
        step, found = runbook.step(gather.step or ""), incident.attempt(gather.restore or "")
        if step.undo is not None and step.undo.action is not None:
            await self._still_in_force(found[1] if found is not None else None)
            return await self.performer.prepare(runbook, step.way_back, values_of(incident, run))
        if found is None:
            raise Permanent(f"attempt {gather.restore} is too old to be put back automatically")
        return await self.performer.undo(step.action or "", found[1].plan, step.timeout)

    async def _still_in_force(self, attempt: Attempt | None) -> None:
        """Raises Permanent when the change to be taken back is there no more, Temporary when its probe cannot tell."""
        if attempt is None or attempt.plan.blind:
            return
        found = await self.performer.probe(attempt.action, attempt.plan, PROBE_TIMEOUT)
        if found.answer is ProbeAnswer.NOT_APPLIED:
            cure = "nothing was put back: look at who changed it"
            raise Permanent(f"the change is not in force any more ({found.detail}); {cure}")
        if found.answer is ProbeAnswer.UNCLEAR:
            raise Temporary(f"nobody can tell whether the change is still in force ({found.detail})")

    async def _probe(self, incident: Incident, attempt_id: str) -> Learned:
        found = incident.attempt(attempt_id)
        if found is None:
            return Learned()
        answer = await self.performer.probe(found[1].action, found[1].plan, PROBE_TIMEOUT)
        return Learned(probe=answer.answer, probe_detail=answer.detail)

    def _start_evidence(self, turn: Turn) -> None:
        run = turn.incident.active_run
        if run is None or run.evidence is not None or (turn.incident.id, run.number) in self._evidence:
            return
        rules = self._desk.shelf.rules(run.rules_hash)
        runbook = rules.runbooks.get(run.runbook) if rules else None
        if rules is None or runbook is None or not runbook.evidence:
            return
        self._evidence.add((turn.incident.id, run.number))
        self._spawn(self._inform(turn.incident, run, runbook))

    async def _inform(self, incident: Incident, run: Run, runbook: Runbook) -> None:
        values = values_of(incident, run)
        found = await asyncio.gather(
            *(self.performer.evidence(e, self._each(e, incident, values)) for e in runbook.evidence)
        )
        items = tuple(item for items in found for item in items)
        try:
            await self._desk.submit(lambda shelf: Readings(self._desk.new_id(), incident.id, run.number, items, shelf))
        finally:
            self._evidence.discard((incident.id, run.number))

    def _each(self, entry: Evidence, incident: Incident, values: dict[str, object]) -> list[dict[str, object]]:
        if entry.each is None:
            return [values]
        rules = self._desk.shelf.rules(incident.rules_hash)
        runbook = rules.runbooks.get(incident.runbook or "") if rules else None
        if rules is None or runbook is None:
            return []
        told = [rules.inputs_of(runbook, e.labels).get(entry.each) for e in incident.episodes.values()]
        seen = dict.fromkeys([values.get(entry.each), *told])  # the first is what a person gave by hand
        return [{**values, entry.each: value} for value in seen if value is not None]

    # --- doing --------------------------------------------------------------------------------------------------------

    async def _execute(self, turn: Turn) -> None:
        doing = turn.next
        assert isinstance(doing, Intended)
        performed = await self._perform(turn.incident, doing)
        await self._outcome(doing, performed, self._scopes(turn.incident))

    async def _perform(self, incident: Incident, doing: Intended) -> Performed:
        """Never past the deadline, up to which the lease holds: a process that was stopped meanwhile sends nothing."""
        left = doing.deadline - self._desk.now()
        if left < doing.timeout // 2:
            return Performed(Outcome.TEMPORARY, "not sent: this process was held up for too long")
        return await self.performer.act(doing.action, doing.plan, doing.key, left, partial(self._held, incident, doing))

    async def _held(self, incident: Incident, doing: Intended) -> str | None:
        """A pause that came after the intent, as the gate of pauses judges it: what a person asked for, and a brake
        that one confirmed, pass here as they pass there (docs/adr/0027)."""
        scopes = await self._pauses()
        run, shelf = next((r for r in incident.runs if r.number == doing.run), None), self._desk.shelf
        try:
            rules = None if run is None else shelf.rules(run.rules_hash)
        except UnknownRules:
            rules = None
        runbook = None if run is None or rules is None else rules.runbooks.get(run.runbook)
        if run is None or runbook is None:
            return shelf.halted
        step = runbook.made(doing.step, run.takes_back)
        case = Case(
            incident, run, runbook, step, doing.plan, scopes.get, _no_total, {}, self._desk.now(),
            touched=shelf.touched(step), halted=shelf.halted,
        )  # fmt: skip
        verdict = pause(case)
        return verdict.reason if holds_back(verdict) else None

    async def _pauses(self) -> Mapping[str, str]:
        """The pauses by the names of their scopes. A store that does not answer holds nothing back: the intent is
        written, and its gates have been asked."""
        try:
            async with asyncio.timeout(PAUSE_PATIENCE):
                return {row.name: row.body for row in await self._desk.store.scopes(PAUSES)}
        except (StoreUnavailable, TimeoutError):
            return {}

    async def _outcome(self, doing: Intended, performed: Performed, scopes: frozenset[str]) -> None:
        pause = 0.2
        while True:
            try:
                turn = await self._desk.submit(lambda shelf: self._ended(doing, performed, shelf, scopes))
            except Rejected as refused:
                LOG.warning("the outcome of %s came too late: %s", doing.attempt, refused)
                return
            except StoreUnavailable as down:
                LOG.error("the outcome of %s cannot be recorded yet: %s", doing.attempt, down)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
                continue
            self.take(turn)
            return

    def _ended(self, doing: Intended, performed: Performed, shelf: Shelf, scopes: frozenset[str]) -> Operation[Turn]:
        """A new id for each try: the attempt's own state tells whether its outcome is known already."""
        return Ended(
            self._desk.new_id(),
            doing.incident,
            doing.attempt,
            performed.outcome,
            performed.detail,
            performed.output,
            doing.epoch,
            shelf,
            self._desk.worker,
            performed.retry_after_us,
            scopes,
            performed.held_back,
        )


def _no_total(scope: str) -> float | None:
    return None


def _reading(turn: Turn) -> tuple[str, bool]:
    """What is read only once at a time: an incident's checks, and apart from them what its pagers say."""
    return turn.incident.id, isinstance(turn.next, Gather) and turn.next.level is not None
