"""Alembic's entry: runs the migrations on the connection that `migrating` hands over, within its transaction."""

from __future__ import annotations

from alembic import context

from responder.store.tables import metadata

given = context.config.attributes["connection"]
context.configure(connection=given, target_metadata=metadata, version_table="schema_versions")
with context.begin_transaction():
    context.run_migrations()
