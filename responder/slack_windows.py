"""The window in which a person lets one run act outside its hours (docs/adr/0026), and what Slack tells of it.

The button opens it, and nothing is done before it is sent; what it was opened for is looked for once more then
(`presses`). Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from responder.block_kit import MAX_KEPT, Field, window
from responder.commands import LONGEST_OVERRIDE, OVERRIDE
from responder.errors import BadSyntax
from responder.incident import Incident
from responder.recorded import StepStatus
from responder.runbook import Runbook, Step
from responder.slack_words import Form, Press, plain, quoted
from responder.timing import MINUTE, format_duration, parse_duration

NAME: Final = "responder:override"
REASON: Final = "reason"
LASTS: Final = "lasts"
STEPS: Final = 10
"""Steps that are named; a runbook of more says how many."""
SPANS: Final = f"1m to {format_duration(LONGEST_OVERRIDE)}, such as {format_duration(OVERRIDE)}"


@dataclass(frozen=True, slots=True)
class Held:
    """What would be let through: the runbook, and what its calendar says."""

    incident: Incident
    runbook: Runbook
    hours: str


def override_window(held: Held, press: Press) -> dict[str, Any]:
    """The window as `views.open` takes it."""
    reason = Field(REASON, "Reason", "It stands in the thread and in the journal, with your name.", lines=True)
    hint = f"{SPANS}. What begins in time is finished; for the next run the hours hold again."
    lasts = Field(LASTS, "It must begin within", hint, value=format_duration(OVERRIDE))
    text = "\n\n".join(_text(held))
    return window(NAME, "Override hours", text, (reason, lasts), ("Let it act", "Not now"), _kept(press))


def _text(held: Held) -> Iterator[str]:
    incident, runbook = held.incident, held.runbook
    yield f"*{quoted(incident.title)}*\n`{quoted(incident.target)}` · `{quoted(incident.id)}`"
    yield f"🗓️ *Its hours hold it back*: {quoted(held.hours)}"
    begins = "the run that waits goes on" if incident.active_run is not None else "a run begins"
    steps = [step for step in runbook.steps if step.id not in _behind(incident)]
    more = f"\nand {len(steps) - STEPS} more" if len(steps) > STEPS else ""
    done = "\n".join(map(_step, steps[:STEPS]))
    yield f"▶️ *If you let it*, {begins} at once, and does what `{quoted(runbook.runbook)}` says:\n{done}{more}"
    yield "-# Once, and for this incident alone. Pause, mode, locks, limits, budgets and approvals are asked as always."


def _behind(incident: Incident) -> set[str]:
    """The steps that the run has behind it."""
    run = incident.active_run
    over = (StepStatus.DONE, StepStatus.SKIPPED)
    return set() if run is None else {state.id for state in run.steps if state.status in over}


def _step(step: Step) -> str:
    how = "by hand" if step.action is None else f"`{quoted(step.action)}`"
    return f"• {quoted(step.title or step.id.replace('_', ' '))} · {how}"


def _kept(press: Press) -> str:
    """What is to come back: the button, and where its presser is answered."""
    kept = {"token": press.token, "thread": press.thread, "answer_to": press.answer_to}
    whole = json.dumps(kept)
    return whole if len(whole) <= MAX_KEPT else json.dumps({**kept, "answer_to": ""})


def lasting(form: Form) -> int | None:
    """How long there is for a run to begin (µs), or None for what no override may last."""
    try:
        lasts = parse_duration(form.lasts)
    except BadSyntax:
        return None
    return lasts if MINUTE <= lasts <= LONGEST_OVERRIDE else None


def wrong(form: Form) -> dict[str, str]:
    """Field -> what is wrong with it; nothing when it can be taken."""
    found = {} if form.reason else {REASON: "Say why: it stands in the journal."}
    return found if lasting(form) is not None else {**found, LASTS: f"Say {SPANS}."}


def kept_open(said: Mapping[str, str]) -> dict[str, Any]:
    """What Slack is answered when the form is not taken: it stays, with these words below its fields."""
    return {"response_action": "errors", "errors": {field: plain(text) for field, text in said.items()}}
