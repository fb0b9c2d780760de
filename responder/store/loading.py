"""Fills a group's `State` from the database: one query a table, in the order in which every replica locks.

Open keys come first because they name incidents. What the state holds already is never read again: it may
carry what an earlier operation of the group wants written.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Table

from responder.records import IncidentRow, Keys, ScopeRow, State
from responder.store import rows
from responder.store import tables as t
from responder.store.database import Database, Query, Session
from responder.store.statements import Statements

CACHED: Final = 2_000
"""Incidents whose decoded fold is remembered; decoding costs more than anything else in a small group."""


class FoldCache:
    """The latest incidents that this process wrote or read, each with the version of its row."""

    def __init__(self) -> None:
        self._rows: OrderedDict[str, tuple[int | None, IncidentRow]] = OrderedDict()

    def get(self, incident_id: str) -> tuple[int | None, IncidentRow] | None:
        """`(version, row)`; the version is None when it is not known (written without being read)."""
        found = self._rows.get(incident_id)
        if found is not None:
            self._rows.move_to_end(incident_id)
        return found

    def put(self, version: int | None, row: IncidentRow) -> None:
        """Remember a committed row."""
        self._rows[row.id] = version, row
        self._rows.move_to_end(row.id)
        if len(self._rows) > CACHED:
            self._rows.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()


@dataclass(slots=True)
class Loaded:
    """A group's state and what loading it told."""

    state: State
    absent: dict[Table, set[Any]] = field(default_factory=dict)
    """Keys that were asked for and not there: writing them must not replace another replica's row."""
    versions: dict[str, int | None] = field(default_factory=dict)
    """Incident id -> version of the row that was read."""


class Loader:
    """Loads rows within one transaction. The driver's errors pass through."""

    def __init__(self, database: Database, statements: Statements, cache: FoldCache) -> None:
        self._database = database
        self._statements = statements
        self._cache = cache

    def load(self, session: Session, loaded: Loaded, keys: Keys, *, first: bool) -> None:
        """Add rows to the state. After the `first` time locks come out of order: then a locked row is an error."""
        state = loaded.state
        load = self._statements.load if first else self._statements.load_unlocked_only
        open_keys = sorted(key for key in keys.open_keys if key not in state.open_keys)
        named = self._names(session, loaded, load[t.episodes], keys, open_keys)
        wanted = sorted(i for i in keys.incidents | named if i not in state.incidents)
        scopes = sorted(name for name in keys.scopes if name not in state.scopes)
        messages = sorted(m for m in keys.messages if m not in state.messages)
        asked = [i for i in wanted if not self._remembered(loaded, i)]
        found = session.fetch(
            [
                *self._query(load[t.incidents], "id", asked),
                *self._query(load[t.scopes], "name", scopes),
                *self._query(load[t.messages], "id", messages),
            ]
        )
        answers = iter(found)
        if asked:
            self._take_incidents(loaded, asked, next(answers))
        if scopes:
            state.scopes.update({r["name"]: rows.flat_row(ScopeRow, r) for r in next(answers)})
            _note_absent(loaded, t.scopes, state.scopes, scopes)
        if messages:
            state.messages.update({r["id"]: rows.message_row(r) for r in next(answers)})
            _note_absent(loaded, t.messages, state.messages, messages)
        _take_open_keys(state, wanted, open_keys)

    def _names(self, session: Session, loaded: Loaded, load: str, keys: Keys, open_keys: Sequence[str]) -> set[str]:
        """Load the episodes; answer the incidents that the open keys name."""
        episodes = loaded.state.episodes
        asked = sorted(key for key in keys.episodes if key not in episodes)
        namespaces = self._database.listed(sorted({namespace for namespace, _ in asked}))
        fingerprints = self._database.listed(sorted({fingerprint for _, fingerprint in asked}))
        queries: list[Query] = [(load, {"namespace": namespaces, "fingerprint": fingerprints})] if asked else []
        queries += self._query(self._statements.open_keys, "open_key", open_keys)
        answers = iter(session.fetch(queries))
        for values in next(answers) if asked else ():
            # The lists ask for every namespace with every fingerprint: what nobody named may be in the state, changed.
            episode = rows.episode_row(values)
            episodes.setdefault((episode.namespace, episode.fingerprint), episode)
        _note_absent(loaded, t.episodes, episodes, asked)
        return {values["id"] for values in (next(answers) if open_keys else ())}

    def _query(self, statement: str, name: str, keys: Sequence[str]) -> list[Query]:
        return [(statement, {name: self._database.listed(keys)})] if keys else []

    def _remembered(self, loaded: Loaded, incident_id: str) -> bool:
        """Take it from the cache when nobody else can have changed it."""
        found = None if self._database.shared else self._cache.get(incident_id)
        if found is None:
            return False
        loaded.versions[incident_id], loaded.state.incidents[incident_id] = found
        return True

    def _take_incidents(self, loaded: Loaded, asked: Sequence[str], answer: Iterable[Mapping[str, Any]]) -> None:
        for values in answer:
            row = self._decoded(values)
            loaded.state.incidents[row.id] = row
            loaded.versions[row.id] = values["version"]
        _note_absent(loaded, t.incidents, loaded.state.incidents, asked)

    def _decoded(self, values: Mapping[str, Any]) -> IncidentRow:
        found = self._cache.get(values["id"])
        if found is not None and found[0] == values["version"]:
            return found[1]
        row = rows.incident_row(values)
        self._cache.put(values["version"], row)
        return row


def _note_absent(loaded: Loaded, table: Table, held: dict[Any, Any], asked: Iterable[Any]) -> None:
    for key in asked:
        if key not in held:
            held[key] = None
            loaded.absent.setdefault(table, set()).add(key)


def _take_open_keys(state: State, loaded: Iterable[str], asked: Iterable[str]) -> None:
    """The locked rows say which keys are open: before an incident is locked, another replica may close it."""
    for incident_id in loaded:
        row = state.incidents[incident_id]
        if row is not None and row.open_key is not None:
            state.open_keys.setdefault(row.open_key, row.id)
    for key in asked:
        state.open_keys.setdefault(key, None)
