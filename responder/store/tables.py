"""The tables of the store, one for each row type of `records` and a few of the store's own.

Times are integer microseconds (BIGINT), journal bodies exact TEXT, raw bodies bytes. There are no foreign keys: rows
are written in groups by one writer that knows their order, and old rows are pruned table by table. Changes of shape
belong in a new file of `migrations/versions`; this one says what the newest looks like.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, Table, Text

SCHEMA: Final = 4
"""The schema that this version of the program writes (`meta` row `schema`)."""
COMPATIBLE_FROM: Final = 4
"""The oldest program, by its schema, that may work with a database of this one (`meta` row `compatible_from`)."""

metadata = MetaData()


def _text(name: str, *, key: bool = False, null: bool = False) -> Column[str]:
    return Column(name, Text, primary_key=key, nullable=null)


def _int(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null, autoincrement=False)


def _bytes(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


meta = Table("meta", metadata, _text("name", key=True), _text("value"))

notifications = Table(
    "notifications",
    metadata,
    _text("id", key=True),
    _text("namespace"),
    _int("received_at"),
    _text("source"),
    _text("receiver"),
    _text("group_key"),
    Column("alerts", Integer, nullable=False),
    Column("truncated", Integer, nullable=False),
    _bytes("body"),
    Index("notifications_received", "received_at"),
)

episodes = Table(
    "episodes",
    metadata,
    _text("namespace", key=True),
    _text("fingerprint", key=True),
    _text("incident"),
    Column("firing", Boolean, nullable=False),
    _int("since"),
    _int("starts_at", null=True),
    _int("ended_at", null=True),
    _text("severity", null=True),
)

incidents = Table(
    "incidents",
    metadata,
    _text("id", key=True),
    Column("open_key", Text, nullable=True, unique=True),
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
    _int("version"),  # rises with every write, by which a decoded fold is known to be the present one
    _text("fold"),
    Index("incidents_opened", "opened_at", "id"),
    Index("incidents_target", "target", "opened_at"),
)
Index("incidents_lease", incidents.c.lease_until, postgresql_where=incidents.c.open_key.is_not(None),
      sqlite_where=incidents.c.open_key.is_not(None))  # fmt: skip

events = Table(
    "events",
    metadata,
    _text("incident", key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False, unique=True),
    _int("at"),
    _text("kind"),
    _text("actor"),
    _text("body"),
)

timers = Table(
    "timers",
    metadata,
    _text("subject", key=True),
    _text("kind", key=True),
    Column("round", BigInteger, primary_key=True, autoincrement=False),
    _int("due"),
    Column("work", Boolean, nullable=False),
    Index("timers_due", "due"),
)

messages = Table(
    "messages",
    metadata,
    _text("id", key=True),
    _text("incident"),
    _int("event_seq"),
    _text("lane"),
    _text("destination"),
    _text("template"),
    _text("order_key"),
    _int("created_at"),
    _int("next_at"),
    Column("rank", Integer, nullable=False),
    _text("state"),
    Column("attempts", Integer, nullable=False),
    _int("sent_at", null=True),
    _text("provider"),
    _text("error"),
    _int("position"),  # order of first writing: messages of one transaction share their `created_at`
    Index("messages_incident", "incident"),
)
Index("messages_due", messages.c.next_at, postgresql_where=messages.c.state == "pending",
      sqlite_where=messages.c.state == "pending")  # fmt: skip
# Each queue in the order of leaving; the times are there so that what is not due is passed over without being read.
Index("messages_turn", messages.c.lane, messages.c.destination, messages.c.rank.desc(), messages.c.created_at,
      messages.c.position, messages.c.next_at, postgresql_where=messages.c.state == "pending",
      sqlite_where=messages.c.state == "pending")  # fmt: skip
Index("messages_order", messages.c.order_key, messages.c.position, postgresql_where=messages.c.state == "pending",
      sqlite_where=messages.c.state == "pending")  # fmt: skip

scopes = Table("scopes", metadata, _text("name", key=True), _text("body"), _int("updated_at"))

approvals = Table(
    "approvals",
    metadata,
    _text("id", key=True),
    _text("incident"),
    _text("state"),
    _text("body"),
    _int("updated_at"),
    Index("approvals_incident", "incident"),
)

versions = Table(
    "versions",
    metadata,
    _text("hash", key=True),
    _text("kind", key=True),
    _bytes("body"),
    _int("stored_at"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    _text("id", key=True),
    _int("received_at"),
    _text("source"),
    _text("reason"),
    _bytes("body"),
    _text("state"),
)

nonces = Table("nonces", metadata, _text("nonce", key=True), _int("expires_at"), Index("nonces_expiry", "expires_at"))

commits = Table("commits", metadata, _text("id", key=True), _int("at"), Index("commits_at", "at"))
