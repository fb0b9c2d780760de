"""The first schema. It repeats what `tables` said then, so that a later change of `tables` does not change history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table."""
    op.create_table("meta", _text("name", key=True), _text("value"))
    _incidents()
    _journal()
    _messages()
    _edges()
    _kept()


def _text(name: str, *, key: bool = False, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), primary_key=key, nullable=null)


def _int(name: str, *, key: bool = False, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), primary_key=key, nullable=null, autoincrement=False)


def _small(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _incidents() -> None:
    op.create_table(
        "incidents",
        _text("id", key=True),
        sa.Column("open_key", sa.Text(), nullable=True, unique=True),
        _text("namespace"),
        _text("runbook", null=True),
        _text("target"),
        _text("status"),
        _text("result", null=True),
        _text("severity", null=True),
        _text("policy"),
        _text("rules_hash"),
        _int("opened_at"),
        _int("closed_at", null=True),
        _text("owner", null=True),
        _int("epoch"),
        _int("lease_until"),
        _int("seq"),
        _int("version"),
        _text("fold"),
    )
    op.create_index("incidents_opened", "incidents", ["opened_at", "id"])
    op.create_index("incidents_target", "incidents", ["target", "opened_at"])
    _partial_index("incidents_lease", "incidents", ["lease_until"], "open_key IS NOT NULL")


def _journal() -> None:
    op.create_table(
        "events",
        _text("incident", key=True),
        _int("seq", key=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        _int("at"),
        _text("kind"),
        _text("actor"),
        _text("body"),
    )
    keys = (_text("subject", key=True), _text("kind", key=True), _int("round", key=True))
    op.create_table("timers", *keys, _int("due"), _flag("work"))
    op.create_index("timers_due", "timers", ["due"])
    op.create_table("scopes", _text("name", key=True), _text("body"), _int("updated_at"))


def _messages() -> None:
    op.create_table(
        "messages",
        _text("id", key=True),
        _text("incident"),
        _int("event_seq"),
        _text("lane"),
        _text("destination"),
        _text("template"),
        _text("order_key"),
        _int("created_at"),
        _int("next_at"),
        _small("rank"),
        _text("state"),
        _small("attempts"),
        _int("sent_at", null=True),
        _text("provider"),
        _text("error"),
        _int("position"),
    )
    op.create_index("messages_incident", "messages", ["incident"])
    _partial_index("messages_due", "messages", ["next_at"], "state = 'pending'")
    _partial_index("messages_order", "messages", ["order_key", "position"], "state = 'pending'")


def _edges() -> None:
    op.create_table(
        "notifications",
        _text("id", key=True),
        _text("namespace"),
        _int("received_at"),
        _text("source"),
        _text("receiver"),
        _text("group_key"),
        _small("alerts"),
        _small("truncated"),
        _bytes("body"),
    )
    op.create_index("notifications_received", "notifications", ["received_at"])
    op.create_table(
        "episodes",
        _text("namespace", key=True),
        _text("fingerprint", key=True),
        _text("incident"),
        _flag("firing"),
        _int("since"),
        _int("starts_at", null=True),
        _int("ended_at", null=True),
        _text("severity", null=True),
    )
    op.create_table(
        "dead_letters",
        _text("id", key=True),
        _int("received_at"),
        _text("source"),
        _text("reason"),
        _bytes("body"),
        _text("state"),
    )


def _kept() -> None:
    op.create_table(
        "approvals", _text("id", key=True), _text("incident"), _text("state"), _text("body"), _int("updated_at")
    )
    op.create_index("approvals_incident", "approvals", ["incident"])
    op.create_table("versions", _text("hash", key=True), _text("kind", key=True), _bytes("body"), _int("stored_at"))
    op.create_table("nonces", _text("nonce", key=True), _int("expires_at"))
    op.create_index("nonces_expiry", "nonces", ["expires_at"])
    op.create_table("commits", _text("id", key=True), _int("at"))
    op.create_index("commits_at", "commits", ["at"])
