"""An index of what waits to be sent, in the order of leaving: a pass of delivery reads what leaves, not all.

And journals hold facts since this schema that an older program cannot read: what an approval is for, what waits for an
answer that is expected.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the index."""
    waits = sa.text("state = 'pending'")
    columns: list[str | sa.TextClause] = ["lane", "destination", sa.text("rank DESC"), "created_at"]
    columns += ["position", "next_at"]
    op.create_index("messages_turn", "messages", columns, sqlite_where=waits, postgresql_where=waits)
