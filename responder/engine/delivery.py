"""Sending what the outbox holds: pages before chat, each order key by one sender, no destination waiting for another.

Rows are rendered when they are sent, from the incident's present state; a broken template costs the form, never the
message (design 5.8). What became of a row is recorded by `outbox`. At least once: a process that dies between sending
and recording sends again, which a pager's deduplication key makes one page, and a chat one double line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from responder import story
from responder.choices import Choice, choices
from responder.contracts import Bucket, Line, Message, Notifier, PagerState, Render
from responder.desk import Desk, Shelf
from responder.engine.outages import Outages
from responder.engine.pace import REMEMBERED, Pace
from responder.errors import Permanent, Rejected, StoreUnavailable, Temporary
from responder.facts import Event, LevelReached
from responder.incident import Incident
from responder.messages import TemplateError
from responder.outbox import (
    MOVE,
    PAGE,
    RESOLVE,
    Dead,
    Delivered,
    Dropped,
    Merged,
    Postponed,
    TakeDelivery,
    useless,
)
from responder.policies import Policy
from responder.records import HAND_OVER, Lane, MessageRow, Operation, Sending
from responder.telling import broadcast, instead_of, mentions, root_id
from responder.timing import MINUTE, SECOND, backoff

LOG = logging.getLogger("responder.engine")

AT_ONCE: Mapping[Lane, int] = {Lane.PAGE: 32, Lane.ROOT: 16, Lane.THREAD: 16}
"""Messages under way in each lane: bounded, and no lane can take the room of another."""
LOOKED_AT = 100
"""Rows of one pass, of each lane of a destination: what waits for one must not hide what another could take."""
DEBOUNCE = 3
"""Paces between two updates of one root message; the first and the last one do not wait."""
SPAN = 10 * SECOND
"""How long the lease of the sending replica holds; another one goes on after that."""
MERGED_FROM = 5
"""So many lines of one thread that wait together leave as one message (reliability.md 1.2)."""
MERGED_MOST = 40
"""Lines of one message."""
ASKED_FOR = 2.0
"""Seconds that a pager has to say what it knows, before the next level is told."""


class Became(StrEnum):
    """What became of a message, for metrics."""

    SENT = "sent"
    POSTPONED = "postponed"
    DEAD = "dead"
    DROPPED = "dropped"
    PLAIN = "plain"  # its template is broken, so that plain text is sent


@dataclass(frozen=True, slots=True)
class Destinations:
    """Today's notifiers by name, how to render, and where a page goes that its pager does not take (None: nowhere)."""

    notifiers: Mapping[str, Notifier]
    render: Render
    fallback: str | None


@dataclass(slots=True)
class _Case:
    """One row with what is needed to send it. `waiting`: the further lines of its thread that leave with it."""

    row: MessageRow
    notifier: Notifier
    incident: Incident
    root: MessageRow | None
    waiting: tuple[MessageRow, ...] = ()


class Delivery:
    """See the module. `destinations` is replaced by a reload; `on_end` observes, `wake` asks for another pass."""

    def __init__(self, desk: Desk, destinations: Destinations, chance: Callable[[], float]) -> None:
        """`chance` answers a number in [0, 1), for jitter."""
        self.destinations = destinations
        self.on_end: Callable[[MessageRow, Became], None] = lambda row, became: None
        self.wake: Callable[[], None] = lambda: None
        self._desk = desk
        self._chance = chance
        self._pace = Pace()
        self._lanes: dict[Lane, dict[str, asyncio.Task[None]]] = {lane: {} for lane in Lane}
        self._later: dict[str, int] = {}
        self._ended: set[str] = set()
        self._outages = Outages()
        self._dead: set[tuple[str, str, str]] = set()
        self._lease = 0
        self._began = desk.now()
        self._buckets: dict[tuple[str, str, str, bool], Bucket] = {}
        self._stopping = False

    @property
    def busy(self) -> int:
        """Messages under way."""
        return sum(len(tasks) for tasks in self._lanes.values())

    async def idle(self, patience: float | None) -> None:
        """Wait until nothing is under way, at most `patience` seconds (None: as long as it takes)."""
        tasks = [task for lane in self._lanes.values() for task in lane.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=patience)

    async def stop(self, patience: float) -> None:
        """Begin nothing new and wait up to `patience` seconds; what is not recorded by then is sent again later."""
        self._stopping = True
        await self.idle(patience)
        for task in [task for lane in self._lanes.values() for task in lane.values()]:
            task.cancel()

    async def work(self, now: int) -> int | None:
        """One pass: begin to send what may be sent. Answers when something is due next (µs)."""
        if self._stopping:
            return None
        if not await self._leads(now):
            return now + SPAN // 3
        self._later = {key: at for key, at in self._later.items() if at > now}
        self._ended.clear()
        held = self._outages.held(now)
        rows = await self._desk.store.due_messages(now, LOOKED_AT, held)
        # What tries a destination that is down is what failed least: some messages fail for what they say, always.
        for row in sorted(rows, key=lambda row: row.attempts if self._outages.down(row.destination) else 0):
            await self._consider(row, now)
        return await self._next(now, await self._hand_over(now))

    async def _leads(self, now: int) -> bool:
        """True when this process sends for all. Alone it always does; else it holds the lease, renewed in time."""
        worker = self._desk.worker
        if worker.alone or self._lease - now > SPAN // 2:
            return True
        until = await self._desk.store.submit(TakeDelivery(worker.id, now, SPAN))
        self._lease = until or 0
        return until is not None

    async def _next(self, now: int, handed_over: int | None) -> int | None:
        """The next known time. What waits for another message, a root or one that tries, needs none: `wake` is called
        when a message has ended."""
        due = await self._desk.store.next_message_due(now, self._outages.held(now))
        renew = None if self._desk.worker.alone else self._lease - SPAN // 2
        known = (due, renew, handed_over, self._outages.next_try(now), *self._later.values())
        return min((at for at in known if at is not None), default=None)

    # --- choosing -----------------------------------------------------------------------------------------------------

    async def _consider(self, row: MessageRow, now: int) -> None:
        """Begin to send a row, unless something says later."""
        lane = self._lanes[row.lane]
        if row.order_key in self._ended:
            return  # it was sent while the rows were read: what was read is old
        if row.order_key in lane or row.order_key in self._later or len(lane) >= AT_ONCE[row.lane]:
            return
        if self._outages.is_held(row.destination, now):
            return
        notifier = self.destinations.notifiers.get(row.destination)
        paced = 0 if notifier is None else self._paced(row, notifier, now)
        if paced > 0:
            self._later[row.order_key] = now + paced
            return
        case = None if notifier is None else await self._case(row, notifier)
        if case is None:
            self._start(row, self._give_up(row))
            return
        silent = case.notifier.passes_over(row.template, row.sent_at is not None)
        wait = self._wait(case, now)
        if wait is None:
            return
        if len(self._buckets) > REMEMBERED:
            self._buckets.clear()
        self._buckets[_known_by(row)] = _bucket(case)
        if wait > 0 and not silent:
            self._later[row.order_key] = now + wait
            return
        if not silent:
            self._pace.take(_bucket(case), now)
            self._outages.begins(row)
        self._start(row, self._deliver(case))

    def _paced(self, row: MessageRow, notifier: Notifier, now: int) -> int:
        """Microseconds to wait for the pace, as far as it is known without reading the incident again."""
        bucket = self._buckets.get(_known_by(row))
        if bucket is None or notifier.passes_over(row.template, row.sent_at is not None):
            return 0
        return self._pace.wait(bucket, now)

    async def _hand_over(self, now: int) -> int | None:
        """Pages that have waited long enough go to the next channel too. Answers when the next one will have (µs).

        After sending: what leaves now needs no other channel, however long it lay while no process ran.
        """
        lane, later = self._lanes[Lane.PAGE], []
        for row in await self._desk.store.unaccepted_pages(LOOKED_AT):
            at = self._outages.patience_ends(row)
            if at > now:
                later.append(at)
            elif row.order_key not in lane and row.order_key not in self._ended and len(lane) < AT_ONCE[Lane.PAGE]:
                until = max(row.created_at + HAND_OVER, self._outages.held_until(row.destination))
                takes = "nothing at the moment" if self._outages.down(row.destination) else "no more at once"
                why = row.error or f"{row.destination} takes {takes}"
                self._start(row, self._record(row, self._postponed(row, until, why), Became.POSTPONED))
        return min(later, default=None)

    async def _case(self, row: MessageRow, notifier: Notifier) -> _Case | None:
        found = await self._desk.store.incident(row.incident)
        if found is None:
            return None
        root = row if row.lane is Lane.ROOT else await self._root(row)
        return _Case(row, notifier, found.fold, root)

    async def _root(self, row: MessageRow) -> MessageRow | None:
        if row.lane is Lane.PAGE:
            return None
        return await self._desk.store.message(root_id(row.incident, row.destination))

    def _wait(self, case: _Case, now: int) -> int | None:
        """Microseconds to wait, None for a line whose root message has not been sent."""
        row, root = case.row, case.root
        if row.lane is Lane.THREAD and root is not None and root.sent_at is None and root.state is Sending.PENDING:
            return None
        wait = self._pace.wait(_bucket(case), now)
        if row.lane is Lane.ROOT and row.sent_at is not None and not case.incident.closed:
            wait = max(wait, row.sent_at + DEBOUNCE * case.notifier.pace - now)
        return wait

    def _start(self, row: MessageRow, work: object) -> None:
        assert asyncio.iscoroutine(work)
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._lanes[row.lane][row.order_key] = task
        task.add_done_callback(lambda done: self._done(row, done))

    def _done(self, row: MessageRow, task: asyncio.Task[None]) -> None:
        self._lanes[row.lane].pop(row.order_key, None)
        self._outages.ended(row)
        self._ended.add(row.order_key)
        if not task.cancelled() and task.exception() is not None:
            LOG.error("message %s could not be handled; it is tried again", row.id, exc_info=task.exception())
            self._later[row.order_key] = self._desk.now() + SECOND
        if not self._stopping:
            self.wake()

    # --- sending ------------------------------------------------------------------------------------------------------

    async def _deliver(self, case: _Case) -> None:
        row = case.row
        why = useless(row, case.incident, replays=case.notifier.replays)
        if why is not None:
            await self._record(row, lambda shelf: Dropped(row, why), Became.DROPPED)
            return
        if case.notifier.passes_over(row.template, row.sent_at is not None):
            await self._passed_over(case)
            return
        if row.lane is Lane.THREAD and case.root is not None and case.root.sent_at is None:
            await self._die(row, f"its root message was not taken: {case.root.error or 'no reason kept'}", quiet=True)
            return
        if await self._is_outdated(row):
            await self._record(row, lambda shelf: Dropped(row, "a later page tells it"), Became.DROPPED)
            return
        case.waiting = await self._waiting(case)
        events = await self._events(case)
        message = await self._message(case, events)
        try:
            provider = await case.notifier.send(message)
        except Permanent as refused:
            self._outages.worked(row)
            said = f"a page is still open, resolve it by hand: {refused}" if row.template == RESOLVE else str(refused)
            await self._die(row, said, quiet=False)
        except Exception as error:  # noqa: BLE001  whatever it is, the message is not given up
            self._outages.failed(row, self._desk.now())
            await self._later_on(row, error)
        else:
            self._outages.worked(row)
            await self._sent(case, events[-1] if events else None, provider, moves=bool(message.level))

    async def _sent(self, case: _Case, event: Event | None, provider: str, *, moves: bool = False) -> None:
        row, notifier = case.row, case.notifier
        if case.waiting:
            together = (row, *case.waiting)
            await self._record(row, lambda shelf: Merged(together, provider), Became.SENT)
            return
        why, seq = story.why_of(event), case.incident.seq
        moves = moves and not notifier.passes_over(MOVE, sent=True)
        await self._record(row, lambda shelf: Delivered(row, seq, provider, why, shelf, moves), Became.SENT)

    def _is_doubtful(self, row: MessageRow) -> bool:
        return row.attempts > 0 or row.created_at < self._began

    async def _passed_over(self, case: _Case) -> None:
        """It is not for this destination. A root message stays what was sent once."""
        row = case.row
        if row.lane is Lane.ROOT:
            await self._sent(case, None, row.provider)
        else:
            await self._record(row, lambda shelf: Dropped(row, f"not for {row.destination}"), Became.DROPPED)

    async def _is_outdated(self, row: MessageRow) -> bool:
        """After an outage only the latest page of an incident is worth a person's sleep; it tells the state of now."""
        late = self._desk.now() - row.created_at >= HAND_OVER
        if row.template != PAGE or (row.attempts == 0 and not late):
            return False
        others = await self._desk.store.messages_of(row.incident)
        behind = others[[m.id for m in others].index(row.id) + 1 :]
        telling = (Sending.PENDING, Sending.SENT) if late else (Sending.SENT,)
        return any(m.template == PAGE and m.destination == row.destination and m.state in telling for m in behind)

    async def _waiting(self, case: _Case) -> tuple[MessageRow, ...]:
        """The further lines of a thread that leave in one message: one or two keep their own."""
        row, notifier = case.row, case.notifier
        if not notifier.merges or not row.template.startswith("story/") or self._is_doubtful(row):
            return ()  # what is looked for is one line: others must not count as found with it
        behind = await self._desk.store.waiting_messages(row.order_key, self._desk.now(), MERGED_MOST)
        others = tuple(m for m in behind if m.id != row.id and not notifier.passes_over(m.template, sent=False))
        return others if len(others) >= MERGED_FROM - 1 else ()

    async def _events(self, case: _Case) -> list[Event]:
        """The events that the row, and those which leave with it, tell; none for one that shows the present state."""
        wanted = {m.event_seq for m in (case.row, *case.waiting)} - {0}
        if not wanted:
            return []
        found = await self._desk.store.events(case.row.incident, min(wanted) - 1)
        return [event for event in found if event.seq in wanted]

    async def _message(self, case: _Case, events: list[Event]) -> Message:
        row, incident = case.row, case.incident
        kind = "thread" if row.template.startswith("story/") else row.template
        event = events[-1] if events else None
        policy = await self._desk.policy_of(incident)
        caught = dict.fromkeys(who for one in events for who in mentions(incident, one.fact, policy))
        known = case.root.provider if case.root is not None else row.provider
        message = Message(
            id=row.id,
            lane=row.lane.value,
            kind=kind,
            key=row.order_key.removesuffix("#notes").removesuffix("#move"),
            text="",
            body=None,
            incident=incident,
            event=event,
            previous=known,
            resolves=row.template == RESOLVE,
            attempt=row.attempts + 1,
            mentions=tuple(caught),
            broadcast=any(broadcast(one.fact, policy) for one in events),
            doubtful=self._is_doubtful(row),
            level=_moved_to(event, policy) if row.template in (PAGE, MOVE) else "",
        )
        return self._composed(case, message, events, choices(incident, policy))

    def _composed(self, case: _Case, message: Message, events: list[Event], offered: tuple[Choice, ...]) -> Message:
        """The message with its words; plain ones when a template is broken."""
        incident, event, now, render = case.incident, message.event, self._desk.now(), self.destinations.render
        values = {**story.state_values(incident, now), "destination": case.row.destination}
        values |= {"choices": [choice.values() for choice in offered]}
        values |= {"broadcast": message.broadcast, "mentions": list(message.mentions)}
        values |= {"instead_of": instead_of(case.row.id)}
        try:
            lines = tuple(Line(e.fact.kind, story.sentence(e, incident, render), e.at, e.seq) for e in events)
            said = lines[-1].sentence if lines else ""
            values |= {"sentence": said, "at": now if event is None else event.at}
            values |= {"kind": None if event is None else event.fact.kind}
            values |= {"lines": [{"kind": one.kind, "sentence": one.sentence, "at": one.at} for one in lines]}
            told = message.kind in ("thread", "note", "change", MOVE)
            text = "\n".join(one.sentence for one in lines) if told else render(f"text/{message.kind}.txt.j2", values)
            body = case.notifier.compose(message.kind, values, render)
        except TemplateError as broken:
            LOG.error("message %s goes out as plain text: %s", message.id, broken)
            self.on_end(case.row, Became.PLAIN)
            return replace(message, text=_one_line(_plain(incident, event, message.kind, now)))
        words = "\n".join(_one_line(line) for line in text.splitlines()) if told else _one_line(text)
        return replace(message, text=words, body=body, lines=lines)

    # --- asking pagers ------------------------------------------------------------------------------------------------

    async def ask(self, pages: tuple[tuple[str, str], ...]) -> dict[str, PagerState]:
        """What pagers say about their own incidents of these (destination, key), by destination; those that do not
        answer in time say nothing, and hold nobody up."""
        asked = [(name, self.destinations.notifiers[name], key) for name, key in pages if self._knows(name)]
        answers = await asyncio.gather(*(self._asked(name, notifier, key) for name, notifier, key in asked))
        return {name: state for (name, _, _), state in zip(asked, answers, strict=True) if state is not None}

    def _knows(self, name: str) -> bool:
        return name in self.destinations.notifiers

    async def _asked(self, name: str, notifier: Notifier, key: str) -> PagerState | None:
        try:
            async with asyncio.timeout(ASKED_FOR):
                return await notifier.asked(key)
        except Exception as error:  # noqa: BLE001  whatever it is, the level is told
            LOG.warning("%s could not be asked about %s: %s", name, key, _told_by(error))
            return None

    # --- recording ----------------------------------------------------------------------------------------------------

    def _postponed(self, row: MessageRow, until: int, why: str) -> Callable[[Shelf], Operation[bool]]:
        fallback = self.destinations.fallback
        return lambda shelf: Postponed(row, until, why, fallback, shelf)

    async def _later_on(self, row: MessageRow, error: Exception) -> None:
        """Again after 1 to 60 s, or when the destination said; however often (contracts.md D1, reliability.md 1.3).

        After its minute it waits no longer than for the next try of one that is down, so that it has its place by
        severity when that is back, though it was what tried.
        """
        now = self._desk.now()
        until = now + backoff(min(row.attempts + 1, 12), SECOND, 2, MINUTE, self._chance())
        following = self._outages.held_until(row.destination)
        if following > now and now - row.created_at >= HAND_OVER:
            until = min(until, following)
        if isinstance(error, Temporary) and error.retry_after is not None:
            until = max(until, now + int(error.retry_after * SECOND))
            self._outages.asked_to_wait(row.destination, until)
        LOG.warning("message %s to %s did not get through: %s", row.id, row.destination, _told_by(error))
        self._later[row.order_key] = until
        await self._record(row, self._postponed(row, until, _told_by(error)), Became.POSTPONED)

    async def _give_up(self, row: MessageRow) -> None:
        if row.destination in self.destinations.notifiers:
            await self._record(row, lambda shelf: Dropped(row, "its incident is gone"), Became.DROPPED)
        else:
            why = f"no notifier is called {row.destination}; configure it or change the policy"
            await self._die(row, why, quiet=False)

    async def _die(self, row: MessageRow, why: str, *, quiet: bool) -> None:
        """Dead. The same refusal of the same incident is told once: a root message is tried at every event."""
        known = (row.incident, row.destination, why)
        silent = quiet or known in self._dead
        if len(self._dead) > REMEMBERED:
            self._dead.clear()
        self._dead.add(known)
        LOG.error("message %s to %s is dead: %s", row.id, row.destination, why)
        fallback = self.destinations.fallback
        await self._record(row, lambda shelf: Dead(row, why, fallback, silent, shelf), Became.DEAD)

    async def _record(self, row: MessageRow, make: Callable[[Shelf], Operation[bool]], became: Became) -> None:
        """Offer the result to the store until it is taken; meanwhile nobody else sends under this order key."""
        pause = 0.2
        while True:
            try:
                await self._desk.submit(make)
            except Rejected as refused:
                LOG.warning("the result of message %s is not wanted any more: %s", row.id, refused)
            except StoreUnavailable as down:
                LOG.error("the result of message %s cannot be recorded yet: %s", row.id, down)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
                continue
            self.on_end(row, became)
            return


def _bucket(case: _Case) -> Bucket:
    row = case.row
    return case.notifier.bucket(row.destination, case.incident, row.template, sent=row.sent_at is not None)


def _known_by(row: MessageRow) -> tuple[str, str, str, bool]:
    kind = row.template.partition("/")[0]  # lines of a thread share what counts them
    return row.destination, row.incident, kind, row.sent_at is not None


def _moved_to(event: Event | None, policy: Policy) -> str:
    """Where the pager's incident is to be moved for this level, or nothing."""
    if event is None or not isinstance(event.fact, LevelReached) or event.fact.index >= len(policy.levels):
        return ""
    return policy.levels[event.fact.index].escalation_policy or ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _plain(incident: Incident, event: Event | None, kind: str, now: int) -> str:
    said = "" if event is None else story.plain_sentence(event)
    return said if kind == "thread" else f"{story.plain_state(incident, now)}{'; ' if said else ''}{said}"


def _told_by(error: Exception) -> str:
    """The message of our own errors; of others only the type, because they may hold what must not be shown."""
    return str(error) if type(error).__module__ == Temporary.__module__ else f"{type(error).__name__} in the notifier"
