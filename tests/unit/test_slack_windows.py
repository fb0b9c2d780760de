"""The window of an override, as it is made and as it comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from responder import facts as f
from responder.incident import Incident
from responder.recorded import Answer, StepStatus, Verdict
from responder.runbook import Runbook
from responder.slack_windows import NAME, STEPS, Held, override_window
from responder.slack_words import Form, Press, sent
from responder.timing import MINUTE
from tests.builders import T0, a_runbook, call_step, fired, opened, started, told
from tests.fakes.slack_limits import view_refusal
from tests.hostile_values import HOSTILE

TOKEN = "i1|override|0123456789ab"
PRESS = Press("U1", TOKEN, "i1", "https://hooks.slack.com/actions/T0/1", "1800000000.000100", "1.2.3")
LATER = Verdict(gate="calendar", answer=Answer.WAIT, reason="session is closed", until=T0 + MINUTE)


def made(incident: Incident, *steps: Any, press: Press = PRESS) -> dict[str, Any]:
    runbook = Runbook.model_validate(a_runbook(steps=list(steps)))
    view = override_window(Held(incident, runbook, "session is closed"), press)
    assert view_refusal({"trigger_id": "1.2.3", "view": view}) is None
    return view


def named(view: dict[str, Any]) -> list[str]:
    """The steps of it."""
    texts = [block["text"]["text"] for block in view["blocks"] if block["type"] == "section"]
    return [line for line in texts[-1].splitlines() if not line.startswith("▶️")]


def test_what_is_done_already_is_not_said_to_be_let_through() -> None:
    steps = [{**call_step("first"), "title": "First of all"}, {"id": "look_on", "manual": "Look"}, call_step("last")]
    runbook = Runbook.model_validate(a_runbook(steps=steps))
    begun = started(steps=tuple(step.id for step in runbook.steps))
    assert named(made(told(opened(), fired()), *steps)) == [
        "• First of all · `http.request`", "• look on · by hand", "• last · `http.request`"
    ]  # fmt: skip
    done = f.StepEnded(run=1, step="first", status=StepStatus.DONE)
    waits = f.Waiting(run=1, step="look_on", verdicts=(LATER,), until=T0 + MINUTE)
    assert named(made(told(opened(), fired(), begun, done, waits), *steps))[0] == "• look on · by hand"


def test_of_very_many_steps_the_first_are_named() -> None:
    steps = [call_step(f"s{n}") for n in range(STEPS + 2)]
    said = named(made(told(opened(), fired()), *steps))
    assert (len(said), said[-1]) == (STEPS + 1, "and 2 more")
    assert named(made(told(opened(), fired()), *steps[:STEPS]))[-1] == f"• s{STEPS - 1} · `http.request`"


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_whatever_an_incident_is_called_slack_takes_its_window(value: str) -> None:
    made(told(opened(title=value * 50, target=value or "x"), fired()), call_step())


def test_what_it_was_opened_for_comes_back_with_what_was_written() -> None:
    view = made(told(opened(), fired()), call_step())
    values = {"reason": {"reason": {"value": " agreed \n"}}, "lasts": {"lasts": {"value": "1h"}}}
    payload = {"type": "view_submission", "user": {"id": "U024BE7LH"}, "view": {**view, "state": {"values": values}}}
    assert sent(payload, NAME) == Press(
        "U024BE7LH", TOKEN, "i1", PRESS.answer_to, PRESS.thread, form=Form("agreed", "1h")
    )
    assert sent({**payload, "user": {"id": "<x>"}}, NAME) == Press(
        "", TOKEN, "i1", PRESS.answer_to, PRESS.thread, form=Form("agreed", "1h")
    )


def test_an_address_that_a_window_cannot_keep_is_left_out_and_the_token_is_kept() -> None:
    view = made(told(opened(), fired()), call_step(), press=Press("U1", TOKEN, "i1", "https://x/" + "y" * 3_000))
    assert json.loads(view["private_metadata"]) == {"token": TOKEN, "thread": "", "answer_to": ""}
