"""The transactions that record what became of a message, and the event that it is worth (design 5.8).

Pure, as `operations`: sending is `engine.delivery`, wording is `story`. A row may change while it is being sent: a root
message that was renewed meanwhile stays pending, so that the latest state is shown after all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from responder import facts as f
from responder.draft import Book, Draft
from responder.incident import Incident
from responder.policies import Policy
from responder.records import HAND_OVER, Change, Keys, Lane, MessageRow, ScopeRow, Sending, State, Writes
from responder.words import Person, Snooze

PAGE = "page"
"""Template of a message that wakes a person."""
RESOLVE = "resolve"
"""Template of the message that ends a page."""
ACKNOWLEDGE = "acknowledge"
"""Template of the message by which a pager hears that somebody has it."""
MOVE = "move"
"""Template of the message that gives a pager's incident to a level's escalation policy."""
BEHIND = -2
"""Rank of what ends a replaced page: somebody is awake by the later one, so others' pages go first."""
LEASE = "lease:delivery"
"""Scope of the lease by which one replica sends."""


def _operation_id(message: MessageRow, what: str) -> str:
    """Names one try of one row, so that a result which is recorded twice counts once."""
    return f"{what}:{message.id}:{message.next_at}:{message.attempts}"


def _reads(message: MessageRow) -> Keys:
    return Keys(incidents=frozenset({message.incident}), messages=frozenset({message.id}))


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination took `message`, rendered from the state after event `seq`; `provider` is its answer, or empty."""

    message: MessageRow
    seq: int
    provider: str
    why: str
    """Why the page was sent, for the story."""
    book: Book
    moves: bool = False
    """The pager is to give the page's incident to the level's escalation policy."""

    @property
    def id(self) -> str:
        """See Operation."""
        return _operation_id(self.message, "delivered")

    def reads(self) -> Keys:
        """See Operation."""
        return _reads(self.message)

    def apply(self, state: State) -> Change[bool]:
        """Answers whether the row is done; False when it must be sent once more, or was done already."""
        row = state.message(self.message.id)
        if row is None or row.state is not Sending.PENDING:
            return Change(Writes(), answer=False)
        provider = self.provider or row.provider
        sent = replace(row, sent_at=state.now, provider=provider, error="", attempts=row.attempts + 1)
        incident = state.incident(row.incident)
        if row.lane is Lane.ROOT and incident is not None and incident.fold.seq > self.seq:
            return Change(Writes(messages=(replace(sent, attempts=0),)), answer=False)
        after = replace(sent, state=Sending.SENT)
        if row.lane is not Lane.PAGE or row.template != PAGE or incident is None:
            return Change(Writes(messages=(after,)), answer=True)
        fact = f.PageAccepted(destination=row.destination, why=self.why, key=row.order_key)
        told = _recorded(Draft(self.id, state, self.book), fact, after)
        follow = () if incident.fold.closed else _after_page(incident.fold, row, state.now, moves=self.moves)
        return Change(replace(told, messages=(*told.messages, *follow)), answer=True)


@dataclass(frozen=True, slots=True)
class Merged:
    """The destination took several waiting lines of one thread as one message."""

    messages: tuple[MessageRow, ...]
    provider: str

    @property
    def id(self) -> str:
        """See Operation."""
        return _operation_id(self.messages[0], "merged")

    def reads(self) -> Keys:
        """See Operation."""
        return Keys(messages=frozenset(m.id for m in self.messages))

    def apply(self, state: State) -> Change[bool]:
        """Answers whether any row was still waiting."""
        known = (state.message(m.id) for m in self.messages)
        waiting = [row for row in known if row is not None and row.state is Sending.PENDING]
        done = {"state": Sending.SENT, "sent_at": state.now, "error": "", "provider": self.provider}
        rows = tuple(replace(row, **done, attempts=row.attempts + 1) for row in waiting)  # type: ignore[arg-type]
        return Change(Writes(messages=rows), answer=bool(rows))


@dataclass(frozen=True, slots=True)
class Postponed:
    """It did not work, or must not be tried yet: again at `next_at`. A page that waits too long goes to the next
    channel.

    `last_resort` comes after those that the policy names; None: there is none.
    """

    message: MessageRow
    next_at: int
    error: str
    last_resort: str | None
    book: Book

    @property
    def id(self) -> str:
        """See Operation."""
        return _operation_id(self.message, "postponed")

    def reads(self) -> Keys:
        """See Operation."""
        return _reads(self.message)

    def apply(self, state: State) -> Change[bool]:
        """Answers whether the row still waits."""
        row = state.message(self.message.id)
        if row is None or row.state is not Sending.PENDING:
            return Change(Writes(), answer=False)
        tried = self.message.attempts + 1
        after = replace(row, next_at=max(row.next_at, self.next_at), attempts=tried, error=self.error)
        late = self.next_at - row.created_at >= HAND_OVER
        draft = Draft(self.id, state, self.book)
        extra = _handed_over(draft, after, self.last_resort) if late else ()
        writes = draft.writes()
        return Change(replace(writes, messages=(*writes.messages, after, *extra)), answer=True)


@dataclass(frozen=True, slots=True)
class Dead:
    """Refused for good. It blocks nobody; unless `silent` it is told elsewhere, and a page goes to the next channel."""

    message: MessageRow
    error: str
    last_resort: str | None
    silent: bool
    book: Book

    @property
    def id(self) -> str:
        """See Operation."""
        return _operation_id(self.message, "dead")

    def reads(self) -> Keys:
        """See Operation."""
        return _reads(self.message)

    def apply(self, state: State) -> Change[bool]:
        """Answers whether the row is dead now."""
        row = state.message(self.message.id)
        if row is None or row.state is not Sending.PENDING:
            return Change(Writes(), answer=False)
        after = replace(row, state=Sending.DEAD, error=self.error, attempts=self.message.attempts + 1)
        draft = Draft(self.id, state, self.book)
        extra = _handed_over(draft, after, self.last_resort)
        if self.silent or state.incident(row.incident) is None:
            writes = draft.writes()
            return Change(replace(writes, messages=(*writes.messages, after, *extra)), answer=True)
        by_hand = row.template in (RESOLVE, MOVE)
        fact = f.MessageDead(destination=row.destination, lane=row.lane.value, error=self.error, by_hand=by_hand)
        told = _recorded(draft, fact, after)
        return Change(_not_to(told, after, extra), answer=True)


@dataclass(frozen=True, slots=True)
class Dropped:
    """It has no purpose any more: a trigger after its resolve, a message of a replay, an incident that is gone."""

    message: MessageRow
    why: str

    @property
    def id(self) -> str:
        """See Operation."""
        return _operation_id(self.message, "dropped")

    def reads(self) -> Keys:
        """See Operation."""
        return Keys(messages=frozenset({self.message.id}))

    def apply(self, state: State) -> Change[bool]:
        """Answers whether the row is dropped now."""
        row = state.message(self.message.id)
        if row is None or row.state is not Sending.PENDING:
            return Change(Writes(), answer=False)
        return Change(Writes(messages=(replace(row, state=Sending.DROPPED, error=self.why),)), answer=True)


@dataclass(frozen=True, slots=True)
class TakeDelivery:
    """One replica sends for all while it renews its lease: nothing is posted twice. `asked_at` and `span` are µs."""

    owner: str
    asked_at: int
    span: int

    @property
    def id(self) -> str:
        """See Operation."""
        return f"{LEASE}:{self.owner}:{self.asked_at}"

    def reads(self) -> Keys:
        """See Operation."""
        return Keys(scopes=frozenset({LEASE}))

    def apply(self, state: State) -> Change[int | None]:
        """Answers until when the lease is ours, or None while another replica holds it."""
        row = state.scope(LEASE)
        owner, held_until = json.loads(row.body) if row is not None else ("", 0)
        if owner not in ("", self.owner) and held_until > state.now:
            return Change(Writes(), None)
        until = state.now + self.span
        body = json.dumps([self.owner, until])
        return Change(Writes(scopes=(ScopeRow(LEASE, body, state.now),)), until)


def _after_page(incident: Incident, page: MessageRow, now: int, *, moves: bool) -> tuple[MessageRow, ...]:
    """What an accepted page leaves to do: the pages that it replaces end, so that somebody is paged at every moment,
    and its incident goes to whom the level names. Rows of their own: the page is taken, whatever becomes of them."""
    fresh = replace(page, created_at=now, next_at=now, attempts=0, provider="", error="", sent_at=None)
    ends = (
        replace(fresh, id=f"{page.id}:resolve:{n}", template=RESOLVE, order_key=key, rank=BEHIND)
        for n, key in enumerate(incident.replaced.get(page.order_key, ()))
    )
    key = f"{page.order_key}#move"
    move = replace(fresh, id=f"{page.id}:move", template=MOVE, order_key=key, lane=Lane.THREAD)
    return (*ends, *([move] if moves else ()))


def _recorded(draft: Draft, fact: f.Fact, message: MessageRow) -> Writes:
    """The row with the event that it is worth, and all that follows from the event."""
    draft.record(message.incident, fact)
    writes = draft.writes()
    return replace(writes, messages=(*writes.messages, message))


def _not_to(writes: Writes, dead: MessageRow, extra: tuple[MessageRow, ...]) -> Writes:
    """Without what would tell a destination that it is dead: that could go on for ever."""
    others = tuple(m for m in writes.messages if m.destination != dead.destination or m.lane is Lane.PAGE)
    kept = others if dead in others else (*others, dead)
    renewed = tuple(m for m in writes.renewed if m.destination != dead.destination)
    return replace(writes, messages=(*kept, *extra), renewed=renewed)


def _handed_over(draft: Draft, message: MessageRow, last_resort: str | None) -> tuple[MessageRow, ...]:
    """The same page for the next channel, once; the incident knows of it, so that it is ended there too."""
    row = draft.state.incident(message.incident)
    if message.lane is not Lane.PAGE or message.template != PAGE or row is None:
        return ()
    if row.fold.closed or _answered(row.fold, message) is not None:
        return ()  # nobody need be woken by it any more
    to = next_channel(message, draft.policy_of(row.fold), last_resort)
    copy_id = f"{message.id}>{to}"
    if to is None or draft.state.message(copy_id) is not None:
        return ()
    now, key = draft.now, f"{message.order_key}>{to}"
    fresh = replace(message, id=copy_id, destination=to, order_key=key, attempts=0)
    before = dict(row.fold.paged).get(to, "")
    why = f"{message.destination} did not take it"
    draft.record(row.id, f.Paged(destination=to, key=key, why=why, supersedes=before))
    # Its own minute begins now.
    return (replace(fresh, state=Sending.PENDING, created_at=now, next_at=now, provider="", error="", sent_at=None),)


def _answered(incident: Incident, page: MessageRow) -> Person | Snooze | None:
    """Who has said after this page was decided that they have the incident. The journal's order says what is after:
    clocks of two replicas differ, and one clock may tell the same microsecond twice. Of a word without a place, folded
    before places were kept or by an older replica, the time is all that is known."""
    word = incident.latest_word
    if word is None:
        return None
    after = word.seq > page.event_seq if word.seq else word.at >= page.created_at
    return word if after else None


def _over(incident: Incident, message: MessageRow) -> bool:
    """The incident was closed after this message was decided. A closing without a place was folded before places were
    kept, and follows whatever waits from then."""
    return incident.closed and (incident.closed_seq > message.event_seq or incident.closed_seq == 0)


def next_channel(message: MessageRow, policy: Policy, last_resort: str | None) -> str | None:
    """Where a page goes that its destination does not take: the policy's substitutes in their order, then the last
    resort, each once. The row's id tells whom it has been handed to already."""
    original, *tried = message.id.split(">")
    first = message.destination if not tried else original.rpartition(":")[2]
    known = {first, *tried}
    candidates = (*policy.substitutes(first), *([last_resort] if last_resort is not None else []))
    return next((name for name in candidates if name not in known), None)


def useless(row: MessageRow, incident: Incident, *, replays: bool) -> str | None:
    """Why a row must not be sent any more, or None. `replays`: its destination is told of replays."""
    if not incident.live and not replays:
        return "a replay tells nobody outside"
    if row.template in (PAGE, ACKNOWLEDGE) and _over(incident, row):
        # PagerDuty would open a new page for a trigger that follows its resolve (contracts.md C1).
        return "the incident closed before the page could be sent"
    person = _answered(incident, row)
    if row.template == PAGE and person is not None:
        return f"{person.actor} has it by now"
    if row.template == MOVE and (person is not None or _is_over(incident, row)):
        return "its page is answered, replaced or over"
    return None


def _is_over(incident: Incident, move: MessageRow) -> bool:
    """The page whose incident is to be moved is not the open one of its destination any more."""
    return incident.closed or (move.destination, move.order_key.removesuffix("#move")) not in incident.paged
