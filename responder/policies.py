"""Policies as people write them in policies.yaml: who is told when. Their times are made in `escalation`."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from responder.timing import SECOND, format_duration
from responder.written import Duration, Name, Names, Written


class Level(Written):
    """Who is told after so much time without an acknowledgement, counted from the opening."""

    name: str
    """What people call it."""
    after: Duration
    """How long after the opening."""
    page: Names = ()
    """Whom to page: notifiers of responder.yaml."""


class Policy(Written):
    """Who is told when: `chat` at once, the first level after `grace` (at once when automation cannot help)."""

    chat: tuple[str, ...] = ()
    """Where the story is told, at once: notifiers of responder.yaml."""
    grace: Duration = 0
    """How long automation has before the first level is paged."""
    acknowledgement: Duration = 1800 * SECOND
    """How long an acknowledgement holds before the same level is paged again; 0: for ever."""
    levels: tuple[Level, ...] = ()
    """The ladder, lowest first."""

    @model_validator(mode="after")
    def _in_order(self) -> Policy:
        for index, (before, level) in enumerate(pairwise(self.levels), start=1):
            if level.after < before.after:
                hint = f"write {level.name!r} above {before.name!r}, which comes after {format_duration(before.after)}"
                context = {"hint": hint, "below": ("levels", index, "after")}
                raise PydanticCustomError("order", "levels must stand in the order of their 'after'", context)
        return self


class Policies(Written):
    """policies.yaml: the ladders by name, and which one alerts without a runbook get by their severity."""

    policies: dict[Name, Policy] = Field(default_factory=dict)
    """The ladders by name."""
    by_severity: dict[str, str] = Field(default_factory=dict)
    """The policy of alerts without a runbook, by their label `severity`."""
    default: str | None = None
    """For every other alert. One of the files that are loaded together names it, or the packaged one does."""


SEVERITIES = ("info", "warning", "high", "critical")
"""Known severities, rising. An unknown or missing one counts as the highest: it pages (design 5.1)."""


def severity_rank(severity: str | None) -> int:
    """0 … 3 for the known severities; an unknown or missing one ranks with the highest."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES) - 1
