"""Policies as people write them in policies.yaml: who is told when. Their times are made in `escalation`."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from itertools import pairwise
from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from responder.timing import MINUTE, SECOND, format_duration
from responder.written import Duration, Name, Names, Written

Mention = Annotated[str, Field(pattern=r"^([SUW][A-Z0-9]{2,20}|here|channel)$")]
"""Whom a chat catches: a Slack user (`U…`), a user group (`S…`), `here` or `channel`."""


class Owner(StrEnum):
    """Whose engine climbs: two that climb at once wake people twice."""

    RESPONDER = "responder"
    """This ladder. A pager that can be asked is asked before each further level whether somebody answered there."""
    PAGERDUTY = "pagerduty"
    """The pager's own escalation policy: only the first level is paged from here, and an acknowledgement never
    expires."""


class Level(Written):
    """Who is told after so much time without an acknowledgement, counted from the opening."""

    name: str
    """What people call it."""
    after: Duration
    """How long after the opening."""
    page: Names = ()
    """Whom to page: notifiers of responder.yaml."""
    fallback: Names = ()
    """Who is paged instead, one after the other, when a pager has not accepted the page within a minute."""
    mention: Annotated[tuple[Mention, ...], Field(max_length=10)] = ()
    """Whom the chat's messages about this level, and what is decided at it, mention: ids such as `S012ABC`."""
    during: str | None = None
    """A calendar: outside its hours the level waits until they begin."""
    escalation_policy: Annotated[str, Field(pattern=r"^P[A-Z0-9]{3,20}$")] | None = None
    """A PagerDuty escalation policy to which the incident there is moved, when the notifier has an `api_token`."""


class Repeat(Written):
    """When every level was told and nobody answered: the ladder begins again."""

    every: Duration
    """How long after the last level."""
    times: Annotated[int, Field(ge=1, le=100)] = 3
    """How often."""


class PolicyHours(Written):
    """A ladder for certain hours: outside of them another policy takes its place, for what begins then."""

    calendar: str
    """A calendar of calendars.yaml."""
    otherwise: str
    """The policy for all other hours."""


class Storm(Written):
    """Many incidents at once are one page: people look at the cause, not at each of them."""

    incidents: Annotated[int, Field(ge=2, le=10_000)]
    """From so many on, of this policy and of one `env` within `within`, the further ones are told by one page."""
    within: Duration = 5 * MINUTE
    """See `incidents`."""


class Policy(Written):
    """Who is told when: `chat` at once, the first level after `grace` (at once when automation cannot help)."""

    chat: tuple[str, ...] = ()
    """Where the story is told, at once: notifiers of responder.yaml."""
    grace: Duration = 0
    """How long automation has before the first level is paged."""
    chat_only: tuple[str, ...] = ()
    """Severities that climb no ladder: they are told in the chat, and page only when something goes wrong with them."""
    acknowledgement: Duration = 1800 * SECOND
    """How long an acknowledgement holds before the same level is paged again; 0: for ever."""
    remind: Duration = 0
    """How often stakeholders are told in the chat how it stands, while it is open; 0: never."""
    owner: Owner = Owner.RESPONDER
    """Whose engine climbs."""
    repeat: Repeat | None = None
    """Whether the ladder begins again when nobody answers."""
    by_severity: dict[str, str] = Field(default_factory=dict)
    """Severities for which another policy takes the place of this one, such as `high: desk-high`."""
    hours: PolicyHours | None = None
    """A ladder for certain hours only."""
    storm: Storm | None = None
    """From how many incidents at once on people get one page for all."""
    changes: Names = ()
    """Where executed changes are recorded: PagerDuty keeps them as change events, other notifiers pass them over."""
    levels: tuple[Level, ...] = ()
    """The ladder, lowest first."""

    def substitutes(self, destination: str) -> Iterator[str]:
        """Who is paged instead of a destination, in order: of one that no level pages, as at the first level."""
        named = [level for level in self.levels if destination in level.page]
        for level in named or self.levels[:1]:
            yield from level.fallback

    @model_validator(mode="after")
    def _in_order(self) -> Policy:
        for index, (before, level) in enumerate(pairwise(self.levels), start=1):
            if level.after < before.after:
                hint = f"write {level.name!r} above {before.name!r}, which comes after {format_duration(before.after)}"
                context = {"hint": hint, "below": ("levels", index, "after")}
                raise PydanticCustomError("order", "levels must stand in the order of their 'after'", context)
        unknown = [s for s in self.chat_only if s not in SEVERITIES]
        if unknown:
            hint = f"write some of {', '.join(SEVERITIES)}; what has no known severity always pages"
            raise PydanticCustomError(
                "severity", f"{unknown[0]!r} is no severity", {"hint": hint, "below": ("chat_only",)}
            )
        return self


class Policies(Written):
    """policies.yaml: the ladders by name, and which one alerts without a runbook get by their severity."""

    policies: dict[Name, Policy] = Field(default_factory=dict)
    """The ladders by name."""
    by_severity: dict[str, str] = Field(default_factory=dict)
    """The policy of alerts without a runbook, by their label `severity`."""
    by_platform: dict[str, str] = Field(default_factory=dict)
    """The policy of alerts without a runbook, by their label `platform`; it comes before `by_severity`."""
    by_env: dict[str, str] = Field(default_factory=dict)
    """The policy of alerts without a runbook, by their label `env`; it comes before both: what breaks in staging is
    told apart, wakes nobody of production, and is not counted in its storms."""
    default: str | None = None
    """For every other alert. One of the files that are loaded together names it, or the packaged one does."""


SEVERITIES = ("info", "warning", "high", "critical")
"""Known severities, rising. An unknown or missing one counts as the highest: it pages (design 5.1)."""


def severity_rank(severity: str | None) -> int:
    """0 … 3 for the known severities; an unknown or missing one ranks with the highest."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES) - 1
