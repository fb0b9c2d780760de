"""Runs a group of operations as one transaction: load, decide in order, flush; and knows what to do when that fails.

An operation that raises fails alone. A flush that fails is done again one operation a transaction. A commit whose
answer was lost is asked for by its id and never done twice. Nothing here waits for more operations (`writer` brings
them), and nothing is ever reported as written that was not committed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from responder.errors import StoreUnavailable
from responder.records import Keys, NotLoaded, Operation, State, renewed
from responder.store.batch import Batch, Committed
from responder.store.database import Database, Failure, Session, first_line
from responder.store.loading import FoldCache, Loaded, Loader
from responder.store.statements import Statements

WAITS: Final = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds before each next try of a transaction: together within the 2 s that a webhook waits (design 5.1)."""
CONFLICTS: Final = 3
"""Times that another replica may be quicker before an operation's rows are taken to be at fault themselves."""
ROUNDS: Final = 64
"""Times that one operation may ask for more rows."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation answers: `error` wins when it is not None."""

    answer: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class GroupResult:
    """The outcomes, in the order of the operations, and what was committed."""

    outcomes: tuple[Outcome, ...]
    committed: tuple[Committed, ...] = ()


@dataclass(slots=True)
class _Job:
    """A group under way. `keys` grows over its tries; `result` is what the try told whose commit was sent."""

    operations: Sequence[Operation[Any]]
    id: str
    keys: Keys = field(default_factory=Keys)
    failed: dict[int, Exception] = field(default_factory=dict)
    result: GroupResult | None = None


class Groups:
    """The only writer of a process; not thread-safe. `now` gives microseconds since the epoch."""

    def __init__(self, database: Database, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now
        self._statements = Statements(database)
        self._cache = FoldCache()
        self._loader = Loader(database, self._statements, self._cache)
        self._session: Session | None = None
        self._unreachable = False
        self._last_position = 0
        self._stopping = threading.Event()

    def run(self, operations: Sequence[Operation[Any]]) -> GroupResult:
        """Run them in order and commit. Never raises: every operation has its outcome, StoreUnavailable among them."""
        job = _Job(operations, uuid4().hex)
        for index, operation in enumerate(operations):
            try:
                job.keys |= operation.reads()
            except Exception as error:  # noqa: BLE001  fails alone, whatever it is
                job.failed[index] = error
        return self._tried(job)

    def close(self) -> None:
        """Give the connection back and stop waiting for lost ones."""
        self._stopping.set()
        self._drop_session()

    def _tried(self, job: _Job) -> GroupResult:
        """Try until it is written, refused, or clear that nothing can be written now."""
        latest, conflicts = Exception("not tried"), 0
        for wait in WAITS[:1] if self._unreachable else WAITS:
            self._stopping.wait(wait)
            try:
                result = self._once(job)
            except Exception as error:  # noqa: BLE001  `failure` decides by what it is
                latest = error
            else:
                self._unreachable = False
                return result
            failure = self._recovered(latest)
            conflicts += failure is Failure.CONFLICT
            if failure in (Failure.REFUSED, Failure.CONFLICT) and len(job.operations) > 1:
                return self._one_by_one(job.operations)
            if failure is Failure.REFUSED or conflicts > CONFLICTS:
                return GroupResult((Outcome(error=latest),))
            if failure is Failure.UNAVAILABLE:
                break
        self._unreachable = self._session is None
        return self._unavailable(job, latest)

    def _once(self, job: _Job) -> GroupResult:
        """One try of the whole transaction. Raises what the driver raises."""
        session = self._opened()
        now = self._now()
        if not session.begin(job.id, now) and job.result is not None:
            session.rollback()
            return job.result
        loaded = Loaded(State(now))
        self._loader.load(session, loaded, job.keys, first=True)
        batch = Batch(self._position)
        outcomes = tuple(self._applied(session, loaded, job, index, batch) for index in range(len(job.operations)))
        statements = batch.statements(self._statements, loaded.absent)
        if not statements:
            session.rollback()
            return GroupResult(outcomes)
        committed = batch.committed()
        job.result = GroupResult(outcomes, (committed,))
        session.commit(statements, wake=bool(committed.messages or committed.timers or committed.incidents))
        self._remember(loaded, batch)
        return job.result

    def _applied(self, session: Session, loaded: Loaded, job: _Job, index: int, batch: Batch) -> Outcome:
        """One operation over the state. What the driver raises while more is loaded passes: it concerns the group."""
        if index in job.failed:
            return Outcome(error=job.failed[index])
        for _ in range(ROUNDS):
            try:
                change = job.operations[index].apply(loaded.state)
            except NotLoaded as missing:
                # Kept in the job, so that a further try of the transaction locks them in order with all others.
                job.keys |= missing.keys
                more = missing.keys
            except Exception as error:  # noqa: BLE001  fails alone, whatever it is
                return Outcome(error=error)
            else:
                batch.add(change.writes)
                loaded.state.take(change.writes)
                absent = [m.id for m in change.writes.renewed if loaded.state.messages.get(m.id, m) is None]
                _show_renewed(loaded.state, batch, absent)
                return Outcome(answer=change.answer)
            unread = [m for m in more.messages if m not in loaded.state.messages]
            self._loader.load(session, loaded, more, first=False)
            _show_renewed(loaded.state, batch, unread)
        return Outcome(error=RuntimeError(f"operation {job.operations[index].id} asked for more rows {ROUNDS} times"))

    def _remember(self, loaded: Loaded, batch: Batch) -> None:
        """Keep the folds just written; a row that was replaced without being read has an unknown version."""
        for incident_id, row in batch.incidents.items():
            before = loaded.versions.get(incident_id)
            self._cache.put(None if before is None else before + 1, row)

    def _one_by_one(self, operations: Sequence[Operation[Any]]) -> GroupResult:
        results = [self.run((operation,)) for operation in operations]
        return GroupResult(
            tuple(outcome for result in results for outcome in result.outcomes),
            tuple(committed for result in results for committed in result.committed),
        )

    def _opened(self) -> Session:
        if self._session is None:
            self._session = self._database.session()
        return self._session

    def _recovered(self, error: Exception) -> Failure:
        """What the error means, with the connection made usable for the next try, or given up."""
        failure = self._database.failure(error)
        if self._session is None:
            return failure
        try:
            self._session.rollback()
        except Exception as lost:  # noqa: BLE001  a connection that cannot even roll back is of no use
            failure = Failure.UNAVAILABLE if failure is Failure.UNAVAILABLE else self._database.failure(lost)
            self._drop_session()
        if failure in (Failure.LOST, Failure.UNAVAILABLE):
            self._drop_session()
        return failure

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _unavailable(self, job: _Job, cause: Exception) -> GroupResult:
        """Nothing of this group is known to be written, and nobody is told that it was."""
        cure = "see that it is up and has space"
        message = f"{self._database.name} cannot record anything now: {first_line(cause)}; {cure}"
        return GroupResult(tuple(Outcome(error=StoreUnavailable(message)) for _ in job.operations))

    def _position(self) -> int:
        self._last_position = max(self._last_position + 1, self._now())
        return self._last_position


def _show_renewed(state: State, batch: Batch, loaded: Sequence[str]) -> None:
    """Messages that were only just loaded, or looked for in vain before, as the group wants them by now."""
    for message_id in loaded:
        fresh, row = batch.renewed.get(message_id), state.messages[message_id]
        if fresh is not None:
            state.messages[message_id] = fresh if row is None else renewed(row, fresh)
