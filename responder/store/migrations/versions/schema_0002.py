"""No table changes: journals hold facts since this schema that an older program cannot read, so it must not work here.

An older replica would drop what it does not know of an incident (a snooze, a storm, an approval) with its next write.
"""

from __future__ import annotations

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Nothing: the number says it."""
