"""Brings a database to the schema of this program, or says why it must not be used.

A database of the present schema costs one query; Alembic is imported only when there is something to do. Migrations
only add (design 6), so an older replica goes on with a newer database for as long as its `compatible_from` allows.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, Engine, inspect, select
from sqlalchemy.exc import DBAPIError

from responder.errors import BadConfig, StoreUnavailable
from responder.store.database import Database, first_line
from responder.store.tables import COMPATIBLE_FROM, SCHEMA, meta

MIGRATIONS: Final = "responder.store:migrations"


def migrate(database: Database) -> None:
    """Upgrade when needed. Raises BadConfig for a database of a newer program, StoreUnavailable when unreachable."""
    try:
        _migrate(database.migrating(), database)
    except DBAPIError as error:
        cause = first_line(error.orig or error)
        raise StoreUnavailable(f"{database.name} cannot be opened: {cause}; see that it is up and writable") from error


def _migrate(engine: Engine, database: Database) -> None:
    with engine.begin() as connection:
        if _present(connection) >= SCHEMA:
            return _check(connection, database)
    with engine.begin() as connection:
        database.lock_migration(connection)
        if _present(connection) < SCHEMA:  # another replica may have been quicker
            _upgrade(connection)
            _note(connection)
    return None


def _value(connection: Connection, name: str) -> int:
    found = connection.execute(select(meta.c.value).where(meta.c.name == name)).scalar()
    return int(found) if found is not None else 0


def _present(connection: Connection) -> int:
    """The database's schema; 0 when it is empty."""
    return _value(connection, "schema") if inspect(connection).has_table("meta") else 0


def _check(connection: Connection, database: Database) -> None:
    needed = _value(connection, "compatible_from")
    if needed > SCHEMA:
        raise BadConfig(
            f"{database.name} needs a responder of schema {needed} or newer, and this one has schema {SCHEMA}; "
            "upgrade this replica"
        )


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _note(connection: Connection) -> None:
    connection.execute(meta.delete().where(meta.c.name.in_(("schema", "compatible_from"))))
    noted = {"schema": SCHEMA, "compatible_from": COMPATIBLE_FROM}
    connection.execute(meta.insert(), [{"name": name, "value": str(value)} for name, value in noted.items()])
