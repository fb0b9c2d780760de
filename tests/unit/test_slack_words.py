"""What Slack says was pressed, and what the presser is told in each state."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder import facts as f
from responder import slack_words
from responder.choices import choices
from responder.policies import Policy
from responder.recorded import Outcome, Result, StepStatus
from responder.scopes import Pause
from responder.slack_words import Press, old, pressed
from responder.timing import MINUTE
from tests.builders import T0, a_policy, ended, fired, intended, opened, started, told
from tests.hostile_values import HOSTILE
from tests.unit.fact_parts import ANY

POLICY = Policy.model_validate(a_policy())
TOKEN = "i1|ack|0123456789ab"
ASKED = f.ApprovalAsked(
    run=1, step="cut", plan="p1", preview="Kelly 0.25 → 0.1", role="desk", people=2, until=T0 + MINUTE
)
YES, NO = f.Approved(run=1, step="cut", plan="p1"), f.Denied(run=1, step="cut", plan="p1")
UNKNOWN = (started(), intended(), ended(Outcome.UNKNOWN), f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN))
SETTLED = f.Settled(attempt="i1.1.cut.1", applied=True, reason="seen")


def payload(**changes: Any) -> dict[str, Any]:
    actions = [{"type": "button", "value": TOKEN}]
    return {
        "type": "block_actions",
        "user": {"id": "U024BE7LH"},
        "response_url": "https://x",
        "actions": actions,
    } | changes


def test_a_press_is_a_user_and_a_token() -> None:
    assert pressed(payload()) == Press("U024BE7LH", TOKEN, "i1", "https://x")
    menu = payload(actions=[{"type": "overflow", "selected_option": {"value": TOKEN}}])
    assert pressed(menu) == pressed(payload())
    assert Press("U", TOKEN, "i1").verb == "ack"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "i1|ack",
        "i1|ack|0123456789AB",
        "i1|ack|0123456789abc",
        "i|1|ack|0123456789ab",
        "i\x001|ack|0123456789ab",
        " " + TOKEN,
        TOKEN + "\n",
        7,
        None,
    ],
)
def test_what_is_no_token_is_nothing(value: object) -> None:
    assert pressed(payload(actions=[{"value": value}])) is None


@pytest.mark.parametrize("user", ["", "u024be7lh", "B024BE7LH", "U", "U024BE7LH\n", "U0 <!here>", None, {"id": "U1"}])
def test_what_is_no_user_is_nobody(user: object) -> None:
    found = pressed(payload(user={"id": user}))
    assert found is not None
    assert found.user == ""


def test_the_thread_is_that_of_a_reply() -> None:
    def thread(**message: Any) -> str:
        found = pressed(payload(message=message))
        return "" if found is None else found.thread

    assert thread(ts="2.2", thread_ts="1.1") == "1.1"
    assert thread(ts="1.1", thread_ts="1.1") == ""
    assert thread(ts="2.2", thread_ts="<!here>") == ""
    assert thread(ts="2.2") == ""


@pytest.mark.parametrize(
    ("facts", "verb", "said"),
    [
        ((f.Acknowledged(),), "ack", "anna acknowledged it at AT"),
        ((f.Acknowledged(), f.TakenOver()), "ack", "anna took it over at AT"),
        ((f.TakenOver(),), "takeover", "anna took it over at AT"),
        ((f.TakenOver(),), "hold", "anna took it over at AT"),
        ((f.Snoozed(until=T0 + MINUTE),), "snooze", "anna snoozed it at AT, until AT"),
        ((started(), f.RunStopped(run=1)), "cancel", "anna stopped the run at AT"),
        ((started(), f.RunEnded(run=1, result=Result.FIXED, why="x")), "cancel", "the run has ended"),
        ((), "approve", "nothing waits for an approval"),
        ((started(), ASKED), "approve", "it now asks for Kelly 0.25 → 0.1"),
        ((started(), ASKED, YES), "approve",
         "anna approved it at AT, 1 of 2 people have approved, and it waits for more"),
        ((started(), ASKED, YES, YES), "deny", "anna approved it at AT"),
        ((started(), ASKED, NO), "approve", "anna denied it at AT"),
        ((*UNKNOWN, SETTLED), "settle", "what was unknown has been settled"),
        ((), "done", "the step waits for nobody any more"),
        ((), "escalate", "what it was for has changed since; the message shows what can be done now"),
        ((f.Closed(why="over & <!here>"),), "ack", "the incident was closed at AT, over &amp; &lt;!here&gt;"),
    ],
)  # fmt: skip
def test_an_old_button_is_told_by_what_has_become_of_it(facts: tuple[f.Fact, ...], verb: str, said: str) -> None:
    incident = told(opened(), fired(), *facts, actor="anna")
    for presser, who in (("otto", "anna"), ("anna", "you")):
        answer = re.sub(r"<!date\^[0-9]+\^\{time\}\|[0-9:]{5} UTC>", "AT", old(incident, verb, presser))
        assert answer == f"This button is old: {said.replace('anna', who)}. Nothing was done."


def test_what_is_done_is_told_where_the_message_does_not_show_it() -> None:
    before = told(opened(), fired(), started(), ASKED)
    offered = {choice.verb: choice for choice in choices(before, POLICY)}
    half = told(opened(), fired(), started(), ASKED, YES)
    approve = offered["approve"]
    assert slack_words.done(approve, before, half) == (
        "Done: you have approved Kelly 0.25 → 0.1; 1 of 2 people have approved."
    )
    whole = told(opened(), fired(), started(), ASKED, YES, YES)
    assert slack_words.done(approve, half, whole) == "Done: you have approved Kelly 0.25 → 0.1."
    assert "you have denied Kelly" in slack_words.done(offered["deny"], before, before)
    assert slack_words.done(offered["ack"], before, before) == ""
    doubtful = told(opened(), fired(), *UNKNOWN)
    settle = choices(doubtful, POLICY)[:2]
    assert [slack_words.done(choice, doubtful, before) for choice in settle] == [
        "Done: you have settled kelly 0.25 → 0.1: it happened.",
        "Done: you have settled kelly 0.25 → 0.1: it did not happen.",
    ]


def test_a_pause_is_told_as_ones_own_only_when_it_is() -> None:
    pause = Pause(paused=True, actor="otto", at=T0, reason="x")
    assert slack_words.paused(pause, "otto", T0).startswith("Done: all automation is paused.")
    assert "you paused all automation at" in slack_words.paused(pause, "otto", T0 + 1)
    assert "otto paused all automation at" in slack_words.paused(pause, "anna", T0)


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_words_of_others_stay_words_on_one_line(value: str) -> None:
    shown = slack_words.quoted(value * 400)
    assert "\n" not in shown
    assert "<" not in shown
    assert ">" not in shown
    assert not re.search(r"&(?!amp;|lt;|gt;)", shown)


@given(st.lists(st.sampled_from(ANY), max_size=12), st.sampled_from(["ack", "snooze", "approve", "settle", "odd"]))
def test_any_state_can_be_told(facts: list[f.Fact], verb: str) -> None:
    said = old(told(opened(), *facts), verb, "anna")
    assert said.startswith("This button is old: ")
    assert said.endswith(". Nothing was done.")
