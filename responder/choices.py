"""What a person can do about an incident now: the buttons of a message, each bound to exactly what it was shown for.

A choice is named by a token that digests everything it depends on: the incident, the verb, the step or change, and the
plan that people saw. Pressing an old button finds no choice with that token, so it does nothing (design 5.7). Nothing
is kept anywhere: the present state tells what is still on offer. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from responder.escalation import goes_on, next_untold
from responder.incident import Incident, MachineTimer, Run
from responder.people_folds import held_by_calendar, waits_for_hours
from responder.policies import Owner, Policy
from responder.recorded import Result, StepStatus, Trigger
from responder.timing import HOUR, MINUTE, SECOND, format_duration, format_time
from responder.words import Approval

SNOOZES: Final = (30 * MINUTE, HOUR, 4 * HOUR)
"""How long a button snoozes."""
HOLD: Final = 5 * MINUTE
"""How much later a countdown ends when somebody holds it."""
LONGEST: Final = 70
"""Characters of a label; Slack takes 75 (contracts.md D1)."""
LONGEST_CONFIRM: Final = 290
"""Characters of what is asked before something that cannot be taken back."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing on offer. `said` are the arguments of the `commands.Command`; `confirm` is asked first, when not empty.

    `style`: "primary", "danger" or "". `token`: `<incident>|<verb>|<12 hex>`, at most 75 characters.
    """

    verb: str
    label: str
    token: str
    style: str = ""
    confirm: str = ""
    said: Mapping[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, str]:
        """What templates and notifiers see."""
        return {
            "verb": self.verb,
            "label": self.label,
            "token": self.token,
            "style": self.style,
            "confirm": self.confirm,
        }


def choices(incident: Incident, policy: Policy) -> tuple[Choice, ...]:
    """What is on offer now, most important first. Nothing for what is over, and nothing for a replay."""
    if incident.closed or not incident.live:
        return ()
    return (*_urgent(incident), *_claims(incident), *_others(incident, policy))


def find_choice(incident: Incident, policy: Policy, token: str) -> Choice | None:
    """The choice with this token, or None: it is not on offer any more, or never was."""
    return next((choice for choice in choices(incident, policy) if choice.token == token), None)


def token_incident(token: str) -> str | None:
    """The incident that a token is about, or None for what is no token."""
    incident, _, rest = token.partition("|")
    return incident if incident and rest.count("|") == 1 and len(token) <= 75 else None


def _choice(incident: Incident, verb: str, label: str, bound: object = None, **more: Any) -> Choice:
    """`bound` is what else it depends on, beside the incident, the verb and what is said."""
    given = json.dumps([incident.id, verb, bound, more.get("said", {})], sort_keys=True, default=str)
    digest = hashlib.sha256(given.encode()).hexdigest()[:12]
    more["confirm"] = _cut(more.get("confirm", ""), LONGEST_CONFIRM)
    return Choice(verb, _cut(label, LONGEST), f"{incident.id}|{verb}|{digest}", **more)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


# --- what cannot wait -------------------------------------------------------------------------------------------------


def _urgent(incident: Incident) -> Iterator[Choice]:
    """What the run waits for, and what nobody knows."""
    run = incident.active_run
    asked = run.approval if run is not None else None
    if run is not None and asked is not None and run.step(asked.step).status is StepStatus.APPROVAL:
        yield from _answers(incident, run.number, asked)
    for state in run.steps if run is not None else ():
        if run is not None and state.status is StepStatus.ASKED:
            label = f"Done: {state.id.replace('_', ' ')}"
            yield _choice(incident, "done", label, run.number, style="primary", said={"step": state.id})
    alone = len(incident.unsettled) == 1
    for attempt in incident.unsettled:
        what = attempt.plan.preview
        # Neither catches the eye: who has just woken up is to look first, not to press what is green.
        for applied, label in ((True, "It happened"), (False, "It did not happen")):
            word = "did" if applied else "did not"
            confirm = f"{what}: have you looked at the service itself, and it {word} happen? Its lock is released."
            said = {"attempt": attempt.id, "applied": applied, "note": f"looked, and it {word} happen"}
            named = label if alone else f"{label}: {what}"
            yield _choice(incident, "settle", named, None, confirm=confirm, said=said)


def _answers(incident: Incident, run: int, asked: Approval) -> Iterator[Choice]:
    more = "" if asked.people == 1 else f" {len(asked.approved)} of {asked.people} people have approved."
    until = f"{format_time(asked.until - asked.until % SECOND)[11:16]} UTC"
    confirm = f"{asked.preview}. Exactly this is done, once. It is asked until {until}.{more}"
    said = {"step": asked.step, "plan": asked.plan}
    for verb, label, style in (("approve", "Approve", "primary"), ("deny", "Deny", "danger")):
        told = confirm if verb == "approve" else f"{asked.preview}: it is not done, and the run ends."
        yield _choice(
            incident, verb, label, (run, asked.asked_at, len(asked.approved)), style=style, confirm=told, said=said
        )


# --- who has it -------------------------------------------------------------------------------------------------------


def _claims(incident: Incident) -> Iterator[Choice]:
    claimed = incident.taken_over is not None
    if incident.acknowledged is None and not claimed:
        yield _choice(incident, "ack", "Acknowledge", incident.ladder_round, style="primary")
    elif incident.unanswered:
        # A press of before the word that is there, told once more, is no answer to what came after it.
        bound = (incident.ladder_round, incident.acknowledgements, incident.paged_seq)
        yield _choice(incident, "ack", "Acknowledge", bound, style="primary")
    if claimed:
        return
    confirm = "Automation stops after the step in flight, and nobody else is paged. You have it until it is over."
    yield _choice(incident, "takeover", "Take over", incident.ladder_round, confirm=confirm)


# --- the rest ---------------------------------------------------------------------------------------------------------


def _others(incident: Incident, policy: Policy) -> Iterator[Choice]:
    yield from _holds(incident)
    run = incident.active_run
    if run is not None and run.stopped is None and not run.takes_back:
        confirm = f"Nothing more is changed by run {run.number} after the step in flight. The incident stays open."
        yield _choice(incident, "cancel", "Stop this run", run.number, style="danger", confirm=confirm)
    level = next_untold(incident, policy)
    if level is not None and incident.hurried is None and policy.owner is Owner.RESPONDER and incident.storm is None:
        whom = f": {', '.join(level.page)}" if level.page else ""
        confirm = f"{level.name} is told now{whom}."
        yield _choice(
            incident, "escalate", f"Escalate to {level.name}", (incident.ladder_round, level.name), confirm=confirm
        )
    if incident.taken_over is None and incident.snoozed is None and policy.levels and goes_on(incident, policy):
        for lasts in SNOOZES:
            bound = (incident.ladder_round, incident.snoozes)
            yield _choice(incident, "snooze", f"Snooze {format_duration(lasts)}", bound, said={"lasts": lasts})
    held = held_by_hours(incident)
    if held is not None:
        # Nothing happens before a form is filled in, so no question is asked.
        before = None if incident.override is None else incident.override.at
        said = held.verdicts[-1].reason
        yield _choice(incident, "override", "Override hours…", (held.number, said, before))
    confirm = (
        "All automation stops, on every incident, until somebody resumes it. Paging goes on; trading is not touched."
    )
    yield _choice(incident, "pause", "Pause all automation", style="danger", confirm=confirm)


def held_by_hours(incident: Incident) -> Run | None:
    """The run that nothing but its hours holds back, where an override would let it act or begin anew, or None.

    The time is not asked: that the hours have come since is told to whoever presses (`commands.shut_hours`).
    """
    run = incident.run
    if run is None or incident.closed or not incident.live or incident.taken_over is not None:
        return None
    if run.active:
        return run if waits_for_hours(run) and run.stopped is None else None
    return run if held_by_calendar(run) and _begins_again(incident, run) else None


def _begins_again(incident: Incident, run: Run) -> bool:
    """Another run of its own runbook follows when its hours are overridden (`decide`)."""
    harmful = any(one.result is Result.HARMFUL for one in incident.runs)
    own = run.runbook == incident.runbook and incident.trigger is Trigger.ALERT
    return own and incident.result is not None and incident.called and not incident.blocked and not harmful


def _holds(incident: Incident) -> Iterator[Choice]:
    found = countdown(incident)
    if found is None:
        return
    (number, index), timer = found
    confirm = f"What was announced comes {format_duration(HOLD)} later. It is not called off: take over for that."
    bound = (number, index, timer.held_until)
    label = f"Hold countdown {format_duration(HOLD)}"
    yield _choice(incident, "hold", label, bound, confirm=confirm, said={"lasts": HOLD})


def countdown(incident: Incident) -> tuple[tuple[int, int], MachineTimer] | None:
    """The machine's next step that was announced and has not come: (round, index) and its state, or None."""
    if incident.closed or incident.taken_over is not None:
        return None
    for key, timer in incident.machine.items():
        number, index = (int(part) for part in key.split(":"))
        if number == incident.clock_round and timer.announced is not None and not timer.fired:
            return (number, index), timer
    return None
