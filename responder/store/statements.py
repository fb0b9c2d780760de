"""The writer's statements, built once for a database and run as text."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Column, Select, Table, bindparam, delete, insert, select

from responder.store import tables as t
from responder.store.database import Database

_WRITTEN: Final = (
    t.episodes,
    t.incidents,
    t.scopes,
    t.messages,
    t.timers,
    t.notifications,
    t.events,
    t.dead_letters,
    t.versions,
)

_KEYED: Final[dict[Table, tuple[Column[Any], ...]]] = {
    t.episodes: (t.episodes.c.namespace, t.episodes.c.fingerprint),
    t.incidents: (t.incidents.c.id,),
    t.scopes: (t.scopes.c.name,),
    t.messages: (t.messages.c.id,),
}

_LOADED: Final[dict[Table, tuple[Column[Any], ...]]] = {
    t.incidents: tuple(t.incidents.c[n] for n in ("id", "open_key", "owner", "epoch", "lease_until", "version", "fold"))
}


class Statements:
    """Text by table. Parameters of `load` are lists, named as the key's columns."""

    def __init__(self, database: Database) -> None:
        self.load = {table: database.compiled(_load(database, table).with_for_update()) for table in _KEYED}
        self.load_unlocked_only = {
            table: database.compiled(_load(database, table).with_for_update(nowait=True)) for table in _KEYED
        }
        self.open_keys = database.compiled(
            select(t.incidents.c.id).where(database.among(t.incidents.c.open_key, "open_key"))
        )
        self.insert = {table: database.compiled(insert(table)) for table in _WRITTEN}
        self.upsert = {table: database.compiled(database.upsert(table)) for table in _WRITTEN}
        self.renew = database.compiled(_renew(database))
        self.delete_timer = database.compiled(
            delete(t.timers).where(*(t.timers.c[name] == bindparam(name) for name in ("subject", "kind", "round")))
        )


def _renew(database: Database) -> Any:
    """As `records.renewed` does to a row that is there: what its destination answered stays."""
    insert = database.insert(t.messages)
    fresh = {name: insert.excluded[name] for name in ("state", "next_at", "event_seq", "rank", "attempts", "error")}
    return insert.on_conflict_do_update(index_elements=[t.messages.c.id], set_=fresh)


def _load(database: Database, table: Table) -> Select[Any]:
    keys = _KEYED[table]
    conditions = [database.among(key, key.name) for key in keys]
    return select(*_LOADED.get(table, tuple(table.c))).where(*conditions).order_by(*keys)
