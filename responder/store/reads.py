"""What is read outside transactions: lists for people, and what is due for the engine.

Each call is one statement or a few on pooled connections, blocking; `store` brings it off the event loop. Nothing here
locks or writes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Engine,
    Executable,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from responder.errors import Rejected, StoreUnavailable
from responder.facts import Event
from responder.incident import Due
from responder.recorded import LIVE
from responder.records import (
    HAND_OVER,
    DeadLetterRow,
    EpisodeRow,
    IncidentRow,
    Lane,
    MessageRow,
    NotificationRow,
    ScopeRow,
    Sending,
)
from responder.store import rows
from responder.store import tables as t
from responder.store.database import first_line

Read = Mapping[str, Any]

_LANES: Final = {lane.value: place for place, lane in enumerate(Lane)}

_now: Final[BindParameter[int]] = bindparam("now")
_owner: Final[BindParameter[str]] = bindparam("owner")
_limit: Final[BindParameter[int]] = bindparam("limit")

PAGE_BYTES: Final = 4 * 1024 * 1024
"""Of stored bodies in one answer, but for the first of them: what is compressed grows again when it is read."""

_OPEN: Final = t.incidents.c.open_key.is_not(None)
# A timer that is work waits while another owner's lease on its incident is valid.
_FREE: Final = or_(
    t.timers.c.work.is_(False),
    t.incidents.c.owner.is_(None),
    t.incidents.c.owner == _owner,
    t.incidents.c.lease_until < _now,
)
_TIMERS: Final = t.timers.outerjoin(t.incidents, t.incidents.c.id == t.timers.c.subject)
_DUE_TIMERS: Final = (
    select(t.timers)
    .select_from(_TIMERS)
    .where(t.timers.c.due <= _now, _FREE)
    .order_by(t.timers.c.due, t.timers.c.subject, t.timers.c.kind, t.timers.c.round)
    .limit(_limit)
)
_NEXT_TIMER: Final = select(t.timers.c.due).select_from(_TIMERS).where(_FREE).order_by(t.timers.c.due).limit(1)
_NEXT_LEASE: Final = select(func.min(t.incidents.c.lease_until)).where(
    _OPEN, t.incidents.c.owner != _owner, t.incidents.c.lease_until >= _now
)
_NEXT: Final = select(_NEXT_TIMER.scalar_subquery().label("timer"), _NEXT_LEASE.scalar_subquery().label("lease"))

# Written into the statement, not bound: SQLite takes a partial index only where it can see that it applies.
_WAITS: Final[ColumnElement[str]] = literal_column(f"'{Sending.PENDING.value}'")
_PENDING: Final = t.messages.c.state == _WAITS
_earlier = t.messages.alias("earlier")
_FIRST_IN_ORDER: Final = ~exists().where(
    _earlier.c.order_key == t.messages.c.order_key,
    _earlier.c.state == _WAITS,
    _earlier.c.position < t.messages.c.position,
)
_IN_TURN: Final = (t.messages.c.rank.desc(), t.messages.c.created_at, t.messages.c.position)


# Each lane of each destination for which something waits: a few seeks of `messages_turn`, however many wait.
_QUEUES: Final = text("""
    WITH RECURSIVE queues(lane, destination) AS (
        SELECT lane, (SELECT min(destination) FROM messages WHERE state = 'pending' AND lane = lanes.lane)
        FROM (SELECT 'page' AS lane UNION ALL SELECT 'root' UNION ALL SELECT 'thread') AS lanes
        UNION ALL
        SELECT lane, (SELECT min(destination) FROM messages
                      WHERE state = 'pending' AND lane = queues.lane AND destination > queues.destination)
        FROM queues WHERE destination IS NOT NULL
    )
    SELECT lane, destination FROM queues WHERE destination IS NOT NULL
""")
_DUE_IN_QUEUE: Final = (
    select(t.messages)
    .where(_PENDING, t.messages.c.lane == bindparam("lane"), t.messages.c.destination == bindparam("destination"))
    .where(t.messages.c.next_at <= _now, _FIRST_IN_ORDER)
    .order_by(*_IN_TURN)
    .limit(_limit)
)
# What was handed over is not tried again before its minute is over (`outbox.Postponed`).
_UNACCEPTED: Final = (
    select(t.messages)
    .where(_PENDING, t.messages.c.lane == Lane.PAGE.value, t.messages.c.destination == bindparam("destination"))
    .where(t.messages.c.template == "page", t.messages.c.next_at < t.messages.c.created_at + HAND_OVER)
    .order_by(t.messages.c.created_at, t.messages.c.position)
    .limit(_limit)
)
# Not min(): PostgreSQL would join everything that waits with itself before it took the least.
_NEXT_MESSAGE: Final = (
    select(t.messages.c.next_at)
    .where(_PENDING, t.messages.c.next_at > bindparam("after"), _FIRST_IN_ORDER)
    .where(t.messages.c.destination.not_in(bindparam("held", expanding=True)))
    .order_by(t.messages.c.next_at)
    .limit(1)
)


class Reads:
    """Raises StoreUnavailable when the database cannot be asked; `name` is what the message calls it."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name

    def incident(self, prefix: str) -> IncidentRow | None:
        """By id, or by a beginning that only one has. Raises Rejected when several begin so."""
        c = t.incidents.c
        exact = self._rows(select(t.incidents).where(c.id == prefix))
        found = exact or self._rows(select(t.incidents).where(c.id.startswith(prefix, autoescape=True)).limit(6))
        if len(found) > 1:
            named = ", ".join(sorted(row["id"] for row in found)[:5])
            raise Rejected(f"several incidents begin with {prefix!r}: {named}; give more of the id")
        return rows.incident_row(found[0]) if found else None

    def incidents(
        self,
        status: str | None = None,
        target: str | None = None,
        limit: int = 100,
        before: str | None = None,
        namespace: str | None = None,
    ) -> list[IncidentRow]:
        """Newest first. `status`: `open` (any not closed) or a status word; `before`: the id of the last one seen."""
        c = t.incidents.c
        conditions: list[ColumnElement[bool]] = []
        if namespace is not None:
            conditions.append(c.namespace == namespace)
        if status is not None:
            conditions.append(_OPEN if status == "open" else c.status == status)
        if target is not None:
            conditions.append(c.target == target)
        if before is not None:
            last = select(c.opened_at, c.id).where(c.id == before).scalar_subquery()
            conditions.append(tuple_(c.opened_at, c.id) < last)
        asked = select(t.incidents).where(*conditions).order_by(c.opened_at.desc(), c.id.desc())
        return [rows.incident_row(values) for values in self._rows(asked.limit(limit))]

    def events(self, incident_id: str, after_seq: int = 0) -> list[Event]:
        """A journal, oldest first, from the event behind `after_seq` on."""
        c = t.events.c
        asked = select(t.events).where(c.incident == incident_id, c.seq > after_seq).order_by(c.seq)
        return [rows.event_row(values) for values in self._rows(asked)]

    def due_timers(self, now: int, owner: str, limit: int) -> list[tuple[str, Due]]:
        """`(subject, due)`, oldest first; work of incidents that another owner holds a valid lease of is left out."""
        found = self._rows(_DUE_TIMERS, now=now, owner=owner, limit=limit)
        return [rows.timer_row(values) for values in found]

    def armed(self) -> set[tuple[str, str, int]]:
        """The keys (subject, kind, round) of all timers."""
        c = t.timers.c
        return {(v["subject"], v["kind"], v["round"]) for v in self._rows(select(c.subject, c.kind, c.round))}

    def next_timer_due(self, now: int, owner: str) -> int | None:
        """When to look again: the earliest timer that is free for `owner`, or the end of another's lease."""
        found = self._rows(_NEXT, now=now, owner=owner)[0]
        timer, lease = found["timer"], found["lease"]
        return min([*([] if timer is None else [timer]), *([] if lease is None else [lease + 1])], default=None)

    def due_messages(self, now: int, limit: int, held: Collection[str] = ()) -> list[MessageRow]:
        """What may be sent now: pages first, then the most severe; only the first unsent row of each order key, and
        `limit` rows of each lane of a destination. Nothing of destinations that are `held`."""
        found: list[Read] = []
        for queue in self._rows(_QUEUES):
            if queue["destination"] not in held:
                found += self._rows(_DUE_IN_QUEUE, now=now, limit=limit, **queue)
        found.sort(key=lambda m: (_LANES[m["lane"]], -m["rank"], m["created_at"], m["position"]))
        return [rows.message_row(values) for values in found]

    def unaccepted_pages(self, limit: int) -> list[MessageRow]:
        """Pages that their destination has not taken and no other channel has yet, whatever they wait behind: the
        oldest `limit` of each."""
        waiting = [queue["destination"] for queue in self._rows(_QUEUES) if queue["lane"] == Lane.PAGE.value]
        found = (row for name in waiting for row in self._rows(_UNACCEPTED, destination=name, limit=limit))
        return [rows.message_row(values) for values in found]

    def next_message_due(self, after: int = -1, held: Collection[str] = ()) -> int | None:
        """The earliest `next_at` beyond `after` of what waits to be sent, rows behind others and destinations that are
        `held` left out."""
        found = self._rows(_NEXT_MESSAGE, after=after, held=sorted(held))
        return next((values["next_at"] for values in found), None)

    def message(self, message_id: str) -> MessageRow | None:
        """One message by its id."""
        found = self._rows(select(t.messages).where(t.messages.c.id == message_id))
        return rows.message_row(found[0]) if found else None

    def waiting_messages(self, order_key: str, now: int, limit: int) -> list[MessageRow]:
        """What of one order may be sent now, in its order."""
        c = t.messages.c
        asked = select(t.messages).where(c.order_key == order_key, _PENDING, c.next_at <= _now).order_by(c.position)
        return [rows.message_row(values) for values in self._rows(asked.limit(_limit), now=now, limit=limit)]

    def messages_of(self, incident_id: str) -> list[MessageRow]:
        """Every message of an incident, in the order of writing."""
        c = t.messages.c
        found = self._rows(select(t.messages).where(c.incident == incident_id).order_by(c.position))
        return [rows.message_row(values) for values in found]

    def scopes(self, prefix: str = "") -> list[ScopeRow]:
        """Scopes whose name begins with `prefix`, by name."""
        c = t.scopes.c
        asked = select(t.scopes).where(c.name.startswith(prefix, autoescape=True)).order_by(c.name)
        return [rows.flat_row(ScopeRow, values) for values in self._rows(asked)]

    def dead_letters(self, state: str | None = "open") -> list[DeadLetterRow]:
        """Oldest first; `state` None: whatever became of them."""
        c = t.dead_letters.c
        asked = select(t.dead_letters).order_by(c.received_at, c.id)
        found = self._rows(asked if state is None else asked.where(c.state == state))
        return [rows.flat_row(DeadLetterRow, values) for values in found]

    def dead_messages(self, limit: int) -> list[MessageRow]:
        """What a destination refused for good, newest first."""
        c = t.messages.c
        asked = select(t.messages).where(c.state == Sending.DEAD.value).order_by(c.created_at.desc(), c.position.desc())
        return [rows.message_row(values) for values in self._rows(asked.limit(limit))]

    def stuck_pages(self, before: int) -> set[str]:
        """The destinations that have not accepted a page which was written before then (µs)."""
        c = t.messages.c
        asked = select(c.destination).where(_PENDING, c.lane == Lane.PAGE.value, c.template == "page")
        return {values["destination"] for values in self._rows(asked.where(c.created_at < before).distinct())}

    def notifications(
        self, since: int, until: int, limit: int, after: str | None = None, namespace: str | None = None
    ) -> list[NotificationRow]:
        """Received in `[since, until)`, oldest first, from the one behind `after` (an id) on.

        Fewer than `limit` when their bodies together pass PAGE_BYTES, none only at the end.
        """
        c = t.notifications.c
        asked = select(c.id, func.length(c.body).label("size")).where(c.received_at >= since, c.received_at < until)
        if namespace is not None:
            asked = asked.where(c.namespace == namespace)
        if after is not None:
            last = select(c.received_at, c.id).where(c.id == after).scalar_subquery()
            asked = asked.where(tuple_(c.received_at, c.id) > last)
        listed = _affordable(self._rows(asked.order_by(c.received_at, c.id).limit(limit)))
        if not listed:
            return []
        found = self._rows(select(t.notifications).where(c.id.in_(listed)).order_by(c.received_at, c.id))
        return [rows.flat_row(NotificationRow, values) for values in found]

    def receivers(self, since: int) -> set[str]:
        """The receivers by whose name live notifications came since then (µs): a replayed one may name anybody."""
        c = t.notifications.c
        asked = select(c.receiver).where(c.received_at >= since, c.namespace == LIVE)
        return {values["receiver"] for values in self._rows(asked.distinct())}

    def version(self, digest: str, kind: str) -> bytes | None:
        """The body of a kept version."""
        c = t.versions.c
        found = self._rows(select(c.body).where(c.hash == digest, c.kind == kind))
        return bytes(found[0]["body"]) if found else None

    def pinned_rules(self) -> set[str]:
        """The rules that open incidents began with, by hash."""
        c = t.incidents.c
        return {values["rules_hash"] for values in self._rows(select(c.rules_hash).where(_OPEN).distinct())}

    def firing_episodes(self) -> list[EpisodeRow]:
        """The live ones that have not ended."""
        c = t.episodes.c
        found = self._rows(select(t.episodes).where(c.namespace == LIVE, c.firing.is_(True)))
        return [rows.episode_row(values) for values in found]

    def orphans(self, owner: str) -> list[str]:
        """Ids of open incidents that another owner holds, oldest first."""
        c = t.incidents.c
        asked = select(c.id).where(_OPEN, c.owner.is_not(None), c.owner != owner).order_by(c.opened_at, c.id)
        return [values["id"] for values in self._rows(asked)]

    def open_incidents(self) -> int:
        """How many live incidents are open."""
        asked = select(func.count().label("open")).select_from(t.incidents)
        count: int = self._rows(asked.where(_OPEN, t.incidents.c.namespace == LIVE))[0]["open"]
        return count

    def ping(self) -> None:
        """Raises StoreUnavailable unless the database answers."""
        self._rows(select(text("1 AS one")))

    def _rows(self, statement: Executable, **parameters: Any) -> list[Read]:
        """A pooled connection may have died since its last use: asked once more on a new one."""
        try:
            return self._asked(statement, parameters)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise self._unavailable(error) from error
        except SQLAlchemyError as error:
            raise self._unavailable(error) from error
        try:
            return self._asked(statement, parameters)
        except SQLAlchemyError as error:
            raise self._unavailable(error) from error

    def _asked(self, statement: Executable, parameters: Mapping[str, Any]) -> list[Read]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(statement, parameters).mappings()]

    def _unavailable(self, error: SQLAlchemyError) -> StoreUnavailable:
        cause = first_line(getattr(error, "orig", None) or error)
        return StoreUnavailable(f"{self._name} does not answer: {cause}; see that it is up")


def _affordable(sizes: list[Read]) -> list[str]:
    """The ids of the first rows whose bodies fit into a page."""
    total = 0
    listed: list[str] = []
    for values in sizes:
        total += values["size"]
        if listed and total > PAGE_BYTES:
            break
        listed.append(values["id"])
    return listed
