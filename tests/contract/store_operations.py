"""Rows and operations for the tests of the store: small, and open about what they read, write and raise."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from responder.facts import Event, ProblemFound
from responder.incident import Due, Incident
from responder.records import (
    Change,
    IncidentRow,
    Keys,
    Lane,
    MessageRow,
    Operation,
    ScopeRow,
    State,
    TimerRow,
    Writes,
)
from responder.store import Store, open_store

A = TypeVar("A")
NOW = 1_800_000_000_000_000


@dataclass(frozen=True)
class Does(Generic[A]):
    """An operation that is a function."""

    id: str
    apply: Callable[[State], Change[A]]
    keys: Keys = field(default_factory=Keys)

    def reads(self) -> Keys:
        return self.keys


def writes(operation_id: str, **rows: Any) -> Does[None]:
    """Writes rows without reading."""
    return Does(operation_id, lambda _: Change(Writes(**rows), None))


def incident(incident_id: str, **changes: Any) -> IncidentRow:
    """An open incident; `changes` are those of the row, or of its fold under `fold`."""
    target = changes.pop("target", f"target-{incident_id}")
    fold = Incident(
        id=incident_id,
        runbook="var-breach",
        rules_hash="rules-1",
        policy="edge-risk",
        target=target,
        title="VaR above its limit",
        severity="critical",
        opened_at=NOW,
        ladder_from=NOW,
        clock_from=NOW,
    ).model_copy(update=changes.pop("fold", {}))
    row = IncidentRow(incident_id, f"open-{target}", fold, owner=None, epoch=0, lease_until=0)
    return replace(row, **changes)


def closed(row: IncidentRow) -> IncidentRow:
    """The same incident, over."""
    return replace(row, open_key=None, fold=row.fold.model_copy(update={"closed_at": NOW}))


def event(incident_id: str, seq: int, event_id: str = "") -> Event:
    """A fact of a journal."""
    fact = ProblemFound(problem=f"ünusual {seq}\u2028")
    return Event(id=event_id or f"{incident_id}-{seq}", incident=incident_id, seq=seq, at=NOW, actor="test", fact=fact)


def timer(subject: str, due: int, kind: str = "level", *, work: bool = False, gone: bool = False) -> TimerRow:
    """A timer of round 0."""
    return TimerRow(subject, Due(kind=kind, round=0, due=due, work=work), gone)


def message(message_id: str, **changes: Any) -> MessageRow:
    """A message that may leave now, in an order of its own."""
    row = MessageRow(
        id=message_id,
        incident="i1",
        event_seq=1,
        lane=Lane.THREAD,
        destination="slack",
        template="opened",
        order_key=f"order-{message_id}",
        created_at=NOW,
        next_at=NOW,
    )
    return replace(row, **changes)


def counts(operation_id: str, name: str, *, declared: bool = True) -> Does[int]:
    """Adds one to the number in scope `name` and answers it."""

    def apply(state: State) -> Change[int]:
        row = state.scope(name)
        number = 1 + (0 if row is None else int(row.body))
        return Change(Writes(scopes=(ScopeRow(name, str(number), state.now),)), number)

    return Does(operation_id, apply, Keys(scopes=frozenset({name})) if declared else Keys())


def journals(operation_id: str, incident_id: str) -> Does[int]:
    """Appends one event to an incident, which it opens when there is none, and answers its number."""

    def apply(state: State) -> Change[int]:
        row = state.incident(incident_id) or incident(incident_id)
        seq = row.fold.seq + 1
        after = replace(row, fold=row.fold.model_copy(update={"seq": seq}))
        return Change(Writes(incidents=(after,), events=(event(incident_id, seq, operation_id),)), seq)

    return Does(operation_id, apply, Keys(incidents=frozenset({incident_id})))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """A store for one test, closed at its end."""
    store = await asyncio.to_thread(open_store, url, lambda: NOW)
    try:
        yield store
    finally:
        await store.close()


async def in_one_group(store: Store, operations: Sequence[Operation[Any]]) -> list[Any]:
    """Submit while the writer is held, so that they are one group; answers or exceptions, in order."""
    entered, release = threading.Event(), threading.Event()

    def hold(state: State) -> Change[None]:
        entered.set()
        release.wait()
        return Change(Writes(), None)

    held = asyncio.ensure_future(store.submit(Does("hold", hold)))
    await asyncio.to_thread(entered.wait)
    waiting = [asyncio.ensure_future(store.submit(operation)) for operation in operations]
    await loop_turn()
    release.set()
    await held
    return list(await asyncio.gather(*waiting, return_exceptions=True))


async def loop_turn() -> None:
    """Let every task that was made before run until it waits."""
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)
