"""Facts between the incident and people: whom it told, what they were asked, what they said, what was delivered.

Members of `facts.Fact`, which is where everybody takes them from.
"""

from __future__ import annotations

from typing import Literal

from responder.recorded import Recorded


class ManualAsked(Recorded):
    """A person is asked to do a step."""

    kind: Literal["manual_asked"] = "manual_asked"
    run: int
    step: str
    instruction: str


class ApprovalAsked(Recorded):
    """People are asked whether this step may be done, exactly as `plan` (a digest) says. It never approves itself."""

    kind: Literal["approval_asked"] = "approval_asked"
    run: int
    step: str
    plan: str
    preview: str
    role: str
    people: int = 1
    until: int
    why: str = ""
    parts: tuple[str, ...] = ()
    """Those of the plan (`Plan.parts`)."""


class Approved(Recorded):
    """A person says yes to exactly this plan."""

    kind: Literal["approved"] = "approved"
    run: int
    step: str
    plan: str
    note: str = ""


class Denied(Recorded):
    """A person says no: the run ends, and people have the incident."""

    kind: Literal["denied"] = "denied"
    run: int
    step: str
    plan: str
    note: str = ""


class RunStopped(Recorded):
    """A person stops the run: nothing more is done after the step in flight; what was done is still verified."""

    kind: Literal["run_stopped"] = "run_stopped"
    run: int
    note: str = ""


class ManualDone(Recorded):
    """A person says that the manual step is done."""

    kind: Literal["manual_done"] = "manual_done"
    run: int
    step: str
    note: str = ""


class LevelReached(Recorded):
    """A level of the policy is told."""

    kind: Literal["level_reached"] = "level_reached"
    round: int
    index: int
    name: str
    page: tuple[str, ...]
    why: str
    late: int = 0


class LadderRepeated(Recorded):
    """Every level was told and nobody answered: the ladder begins again (`repeat` of the policy)."""

    kind: Literal["ladder_repeated"] = "ladder_repeated"
    number: int


class EscalationAsked(Recorded):
    """A person wants the next level to be told now."""

    kind: Literal["escalation_asked"] = "escalation_asked"
    note: str = ""


class PagerAsked(Recorded):
    """What the pagers themselves said before a level was told: somebody may have answered there."""

    kind: Literal["pager_asked"] = "pager_asked"
    round: int
    index: int
    said: tuple[str, ...] = ()


class StillOpen(Recorded):
    """Stakeholders hear again how it stands (`remind` of the policy)."""

    kind: Literal["still_open"] = "still_open"
    number: int
    lasted: int


class StormJoined(Recorded):
    """One of many that began at once: people are paged for all of them together, through the incident `storm`."""

    kind: Literal["storm_joined"] = "storm_joined"
    storm: str


class StormGrew(Recorded):
    """The storm has one more incident."""

    kind: Literal["storm_grew"] = "storm_grew"
    incident: str
    title: str
    target: str


class StormShrank(Recorded):
    """One of the storm's incidents is over."""

    kind: Literal["storm_shrank"] = "storm_shrank"
    incident: str


class UrgentTold(Recorded):
    """People are told at once, whatever the ladder says: nobody knows, it failed, it was refused (design 5.7)."""

    kind: Literal["urgent_told"] = "urgent_told"
    number: int
    page: tuple[str, ...]
    why: str


class CountdownHeld(Recorded):
    """A person puts a machine's next step off, to have time to look."""

    kind: Literal["countdown_held"] = "countdown_held"
    round: int
    index: int
    until: int
    note: str = ""


class CalendarOverridden(Recorded):
    """A person lets one run of `runbook` in this incident act outside its hours, if it begins before `until`."""

    kind: Literal["calendar_overridden"] = "calendar_overridden"
    runbook: str
    until: int
    hours: str
    """What the calendar said."""
    note: str


class Acknowledged(Recorded):
    """A person has seen it: the climb stops, what `unless_fixed` promises still comes (design 5.7).

    `via` is the destination at whose side it was said, `word` the id of what came from there.
    """

    kind: Literal["acknowledged"] = "acknowledged"
    note: str = ""
    via: str = ""
    word: str = ""


class Unacknowledged(Recorded):
    """An acknowledgement was taken back: the climb goes on."""

    kind: Literal["unacknowledged"] = "unacknowledged"
    why: str = ""
    via: str = ""
    word: str = ""


class Snoozed(Recorded):
    """A person wants no page until then; the climb goes on after it with the time that was left."""

    kind: Literal["snoozed"] = "snoozed"
    until: int
    note: str = ""


class SnoozeEnded(Recorded):
    """The snooze is over."""

    kind: Literal["snooze_ended"] = "snooze_ended"


class Noted(Recorded):
    """A word for everybody who reads the story."""

    kind: Literal["noted"] = "noted"
    text: str
    via: str = ""
    word: str = ""


class AcknowledgementExpired(Recorded):
    """Acknowledged, and nothing followed: the same level is paged again."""

    kind: Literal["acknowledgement_expired"] = "acknowledgement_expired"
    count: int
    page: tuple[str, ...]
    ended: int | None = None
    """When it ran out; recorded later when nothing ran then."""


class TakenOver(Recorded):
    """A person takes it: automation and its timers stop after the step in flight."""

    kind: Literal["taken_over"] = "taken_over"
    note: str = ""


class Settled(Recorded):
    """A person says whether an unknown change happened."""

    kind: Literal["settled"] = "settled"
    attempt: str
    applied: bool
    reason: str


class Unlocked(Recorded):
    """A person releases a target's lock."""

    kind: Literal["unlocked"] = "unlocked"
    target: str
    reason: str


class RestoreReminded(Recorded):
    """A change is still in force that a person should put back."""

    kind: Literal["restore_reminded"] = "restore_reminded"
    attempt: str
    step: str
    preview: str
    since: int


class Paged(Recorded):
    """A page was put into the outbox, in this same transaction."""

    kind: Literal["paged"] = "paged"
    destination: str
    key: str
    why: str
    supersedes: str = ""
    """The key of the page that this one replaces at the same destination; it ends when this one is accepted."""


class PageAccepted(Recorded):
    """The pager's service took a page."""

    kind: Literal["page_accepted"] = "page_accepted"
    destination: str
    why: str = ""
    key: str = ""


class MessageDead(Recorded):
    """A message was refused for good."""

    kind: Literal["message_dead"] = "message_dead"
    destination: str
    lane: str
    error: str
    by_hand: bool = False
    """A person has to do there what the message was to do."""
