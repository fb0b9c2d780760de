"""What people read in Slack, and what they can press; that no label says or wakes more than it should."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from responder import facts as f
from responder.choices import choices
from responder.contracts import Message
from responder.incident import Due
from responder.notifiers.slack import Slack
from responder.recorded import Answer, Effect, Outcome, Result, StepStatus, Verdict
from responder.timing import MINUTE, SECOND
from tests.builders import T0, a_plan, ended, fired, intended, opened, told
from tests.contract.slack_parts import (
    APPROVED,
    ASKED,
    CLOSED,
    LEVEL,
    NOTED,
    NOW,
    POLICY,
    PREVIEW,
    TEMPLATES,
    a_room,
    approving,
    beginning,
    fixed,
    hostile,
    reply,
    root,
    secret,
    shown,
    unfixed,
    unknown,
    values,
)
from tests.fakes.slack import TOKEN
from tests.fakes.slack_limits import mentioned, refusal
from tests.hostile_values import HOSTILE

POLICYS = {"S012DESK", "here"}
"""Whom the policy names: the question for an approval catches them, and nothing else may catch anybody."""


def read(room: Slack, message: Message) -> str:
    assert isinstance(message.body, list)
    return shown(message.body)  # type: ignore[arg-type]


# --- what the root says -----------------------------------------------------------------------------------------------


async def test_a_step_that_waits_says_for_what_and_how_often_it_has_looked() -> None:
    seen = f.NotYet(tried=3, of=9, why="value.done false")
    asked = intended(plan=a_plan(Effect.READ, preview="rollout of deployment/oms in prod"))
    again = ended(Outcome.OK, output={"done": False}, retry_at=T0 + MINUTE, not_yet=seen)
    async with a_room() as (server, room):
        await room.send(root(room, told(*beginning(), asked, again)))
        assert "⏳ rollout of deployment/oms in prod · not yet, tried 3 of 9: value.done false" in shown(
            server.roots[0].blocks
        )


async def test_what_its_hours_refuse_is_said_to_be_refused_and_not_to_be_stopped_by_somebody() -> None:
    refused = f.RunEnded(run=1, result=Result.CANCELLED, why="refused: session is closed until 17:00 UTC")
    stopped = f.RunEnded(run=1, result=Result.CANCELLED, why="stopped by anna")
    async with a_room() as (_, room):
        assert "⛔ *Refused*: session is closed until 17:00 UTC" in read(room, root(room, told(*beginning(), refused)))
        said = read(room, root(room, told(*beginning(), stopped)))
        assert "⏹️ *Stopped*: stopped by anna" in said
        assert "▫️ cut · not reached" in said


async def test_where_there_are_no_buttons_the_command_that_lets_it_act_is_named() -> None:
    shut = Verdict(gate="calendar", answer=Answer.WAIT, reason="session is closed", until=NOW + MINUTE)
    waits = f.Waiting(run=1, step="cut", verdicts=(shut,), until=NOW + MINUTE)
    async with a_room(signing_secret=None) as (_, room):
        assert "`responder override i1 --reason …` · " in read(room, root(room, told(*beginning(), waits)))
        assert "responder override" not in read(room, root(room, told(*beginning())))
    async with a_room() as (_, room):
        said = read(room, root(room, told(*beginning(), waits)))
        assert "Override hours…" in said
        assert "responder override" not in said


async def test_a_step_that_will_not_be_reached_any_more_is_not_said_to_be_to_do() -> None:
    async with a_room() as (_, room):
        assert "▫️ cut · to do" in read(room, root(room, told(*beginning())))
        verified = told(*beginning(), f.Verifying(run=1))
        assert "▫️ cut · not reached" in read(room, root(room, verified))
        asked = told(*beginning(), ASKED, f.RunEnded(run=1, result=Result.CANCELLED, why="refused: nobody approved"))
        assert "✋ cut · not reached" in read(room, root(room, asked))


async def test_who_opens_the_channel_sees_what_it_is_whether_it_helped_who_has_it_and_what_comes() -> None:
    async with a_room() as (server, room):
        await room.send(root(room, unfixed()))
        said = shown(server.roots[0].blocks).splitlines()
        assert said[0] == "🔴 VaR above 90 % of its limit"
        assert said[1] == "*CRITICAL* · open for 3m 00s · `risk-api/kelly_fraction`"
        assert said[2] == "*Impact* At 2.5 % the breaker opens"
        assert said[3] == "❌ *It did not help*: 1.94 &lt; 1.7 did not hold within 2m"
        assert said[4] == "👤 *Nobody has it yet* · paged: first"
        due = (T0 + 15 * MINUTE) // SECOND
        assert said[5].startswith(f"⏭️ *Next* <!date^{due}^{{time_secs}}|")
        assert said[5].endswith(">, *in 12m 00s*: L2 is told, paging second")
        assert said[6].startswith("[Acknowledge] [Take over] [Escalate to L2] […Snooze 30m|")
        assert "✅ Kelly fraction 0.25 → 0.1 (VaR breach) · done in 1s" in said
        assert "🔥 VaRBreach (symbol BTC-USD): VaR is 1.92 %" in said
        assert "<https://grafana.example/d/edge-risk?a=1&amp;b=2|dashboard>" in said[-1]
        assert server.caught == []


async def test_a_closed_incident_shows_how_it_ended_and_has_no_buttons() -> None:
    async with a_room() as (server, room):
        await room.send(root(room, fixed()))
        said = shown(server.roots[0].blocks)
        assert "🟢 VaR above" in said
        assert "closed after 2m 01s" in said
        assert "✅ *Fixed*: 1.42 &lt; 1.7 held for 30s" in said
        assert "fixed, and nothing fires any more" in said
        assert "Next" not in said
        assert all(block["type"] != "actions" for block in server.roots[0].blocks)


async def test_what_nobody_knows_is_asked_first() -> None:
    async with a_room() as (server, room):
        await room.send(root(room, unknown()))
        said = shown(server.roots[0].blocks)
        assert (
            f"❓ *Nobody knows whether this was done*: {PREVIEW}. Look at the service itself, then say so below" in said
        )
        assert f"❓ {PREVIEW} · nobody knows whether it happened: no answer in time" in said
        row = next(line for line in said.splitlines() if line.startswith("["))
        assert row.startswith("[It happened] [It did not happen] [Acknowledge] […Snooze 30m|")


async def test_the_approval_that_is_wanted_is_shown_with_its_plan_role_time_and_who_gave_it() -> None:
    async with a_room() as (server, room):
        await room.send(root(room, approving(APPROVED)))
        said = shown(server.roots[0].blocks)
        assert "✋ *Waits for approval*" in said
        assert "*May this be done?* Kelly fraction 0.25 → 0.1 (VaR breach)" in said
        assert "2 people with the role `risk-manager` must approve by <!date^" in said
        assert "*in 27m 00s*, or it is not done · approved by responder" in said
        assert "[Approve] [Deny] [Acknowledge] […Snooze 30m|Snooze 1h|Snooze 4h]\n[Take over] [Stop this run] " in said


def test_a_step_that_a_person_is_asked_to_do_holds_everything_up() -> None:
    room = Slack(token=secret(TOKEN), channel="#risk", app_token=secret("xapp-1"))
    said = read(room, root(room, told(*beginning(), f.ManualAsked(run=1, step="cut", instruction="Call the desk"))))
    assert "✋ *Waits for a person*: cut" in said
    assert "⏭️ *Next* nothing before somebody answers" in said
    assert "[Done: cut] [Acknowledge] [Take over]" in said
    assert "✋ cut · waits for a person" in said


async def test_a_snooze_says_until_when() -> None:
    async with a_room() as (server, room):
        about = unfixed()
        snoozed = told(opened(), fired(), f.Snoozed(until=NOW + 30 * MINUTE, note="deploying"), actor="asha")
        about = about.model_copy(update={"snoozed": snoozed.snoozed})
        await room.send(root(room, about))
        said = shown(server.roots[0].blocks)
        assert "👤 *asha has snoozed it* until <!date^" in said
        assert ", *in 30m 00s*: deploying" in said


async def test_a_storm_counts_and_names_its_incidents() -> None:
    async with a_room() as (server, room):
        grew = [f.StormGrew(incident=f"i{n}", title="Stale feed", target=f"feed/{n}") for n in range(12)]
        storm = told(
            opened(runbook=None, title="Many incidents at once", target="storm:p"), *grew, f.StormShrank(incident="i0")
        )
        await room.send(root(room, storm))
        said = shown(server.roots[0].blocks)
        assert "🌩️ *12 incidents, 11 open*: feed/0, feed/1," in said
        assert "feed/9 …" in said
        await room.send(root(room, told(opened(), fired(), f.StormJoined(storm="s1"))))
        assert "people are paged for all of them through `s1`" in shown(server.roots[1].blocks)


async def test_two_things_to_come_are_named() -> None:
    async with a_room() as (server, room):
        dues = tuple(Due(kind="level", round=n, due=NOW + n * MINUTE, what=f"L{n} is told") for n in (3, 1, 2))
        await room.send(root(room, unfixed().model_copy(update={"agenda": dues})))
        lines = [line for line in shown(server.roots[0].blocks).splitlines() if "is told" in line]
        assert [line.rpartition(": ")[2] for line in lines] == ["L1 is told", "L2 is told"]


# --- buttons ----------------------------------------------------------------------------------------------------------


def buttons(message: Message) -> list[dict[str, Any]]:
    assert isinstance(message.body, list)
    rows: list[Any] = [block for block in message.body if isinstance(block, dict) and block["type"] == "actions"]
    return [one for row in rows for one in row["elements"]]


def test_every_choice_is_on_the_root_once_and_by_its_token() -> None:
    room = Slack(token=secret(TOKEN), channel="#risk", app_token=secret("xapp-1"))
    for about in (unfixed(), unknown(), approving(), fixed()):
        made = buttons(root(room, about))
        tokens = [one["value"] for b in made for one in b.get("options", [b])]
        assert sorted(tokens) == sorted(choice.token for choice in choices(about, POLICY))
        asked = {one["value"] for one in made if "confirm" in one}
        assert asked == {choice.token for choice in choices(about, POLICY) if choice.confirm}, "each has its own words"


def test_who_cannot_hear_shows_commands_instead() -> None:
    deaf = Slack(token=secret(TOKEN), channel="#risk")
    message = root(deaf, unfixed())
    assert buttons(message) == []
    assert "`responder ack i1` · `responder takeover i1`" in read(deaf, message)
    assert "`responder approve i1` · `responder deny i1`" in read(deaf, root(deaf, approving()))
    assert "`responder settle i1 --applied`" in read(deaf, root(deaf, unknown()))
    assert "responder ack" not in read(deaf, root(deaf, fixed()))
    hearing = Slack(token=secret(TOKEN), channel="#risk", signing_secret=secret("s"))
    assert "responder ack" not in read(hearing, root(hearing, unfixed()))


def test_what_is_asked_in_the_thread_is_answered_there() -> None:
    room = Slack(token=secret(TOKEN), channel="#risk", app_token=secret("xapp-1"))

    def verbs(message: Message) -> list[str]:
        return [one["action_id"].split(":")[1] for one in buttons(message)]

    by_hand = f.ManualAsked(run=1, step="cut", instruction="Call the desk")
    ended = f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN, why="no answer")
    assert verbs(reply(room, approving(), ASKED)) == ["approve", "deny"]
    assert verbs(reply(room, told(*beginning(), by_hand), by_hand)) == ["done"]
    assert verbs(reply(room, unknown(), ended)) == ["settle", "settle"]
    assert verbs(reply(room, unfixed(), NOTED)) == []
    assert verbs(reply(room, fixed(), CLOSED)) == []


# --- the thread -------------------------------------------------------------------------------------------------------


async def test_a_line_has_an_icon_and_the_time_of_its_message() -> None:
    async with a_room() as (server, room):
        kept = await room.send(root(room, unfixed()))
        await room.send(reply(room, unfixed(), NOTED, previous=kept))
        assert shown(server.messages[1].blocks) == "💬 desk: hedging by hand"
        assert not server.messages[1].broadcast


async def test_lines_that_waited_are_one_message_each_with_its_time() -> None:
    async with a_room() as (server, room):
        kept = await room.send(root(room, unfixed()))
        await room.send(reply(room, unfixed(), NOTED, f.TakenOver(), LEVEL, previous=kept))
        (line,) = [m for m in server.messages if m.thread_ts]
        time = f"<!date^{NOW // SECOND}^{{time_secs}}|14:03:00 UTC>"
        assert shown(line.blocks).splitlines() == [
            f"<!subteam^S012DESK> <!here> 💬 {time} desk: hedging by hand",
            f"👤 {time} desk takes over. Automation stops here",
            f"📟 {time} Level L1 is told, paging first: not fixed after 2m",
        ]
        assert line.text.startswith("<!subteam^S012DESK> <!here> desk: hedging by hand\ndesk takes over")


async def test_what_everybody_must_see_is_sent_to_the_channel_and_catches_whom_the_policy_names() -> None:
    async with a_room() as (server, room):
        kept = await room.send(root(room, unfixed()))
        await room.send(reply(room, unfixed(), LEVEL, previous=kept))
        assert server.messages[1].broadcast
        assert server.caught == ["S012DESK", "here"]
        plain = reply(room, unfixed(), LEVEL, previous=kept, body=None)
        await room.send(plain)
        assert server.caught == ["S012DESK", "here"] * 2, "also where a template is broken"


async def test_a_line_that_could_not_be_sent_for_a_while_says_when_it_was() -> None:
    async with a_room() as (_, room):
        about, late = unfixed(), f.Event(id="e9", incident="i1", seq=9, at=T0, actor="desk", fact=NOTED)
        seen = values(about, lines=[{"kind": "noted", "sentence": "so", "at": late.at}], kind="noted", sentence="so")
        (block,) = json.loads(json.dumps(room.compose("thread", seen, TEMPLATES.render)))
        assert shown([block]) == f"💬 <!date^{T0 // SECOND}^{{time_secs}}|14:00:00 UTC> so"


# --- values from outside ----------------------------------------------------------------------------------------------


def told_of(room: Slack, text: str, previous: str = "") -> list[Message]:
    """The root message and lines about an incident of which everything from outside says `text`."""
    about, asked = hostile(text), ASKED.model_copy(update={"preview": text, "why": text})
    lines = (f.ProblemFound(problem=text), f.Noted(text=text), asked)
    return [root(room, about), *(reply(room, about, news, previous=previous, mentions=()) for news in lines)]


@given(st.text())
@settings(max_examples=40)
def test_whatever_a_label_holds_it_is_a_message_and_catches_nobody(text: str) -> None:
    room = Slack(token=secret(TOKEN), channel="#risk", signing_secret=secret("s"))
    for message in told_of(room, text):
        blocks: Any = message.body
        assert refusal({"text": message.text or "…", "blocks": blocks}) is None
        assert set(mentioned("", blocks)) <= POLICYS


async def test_slack_takes_every_value_that_would_be_something_else_elsewhere() -> None:
    async with a_room() as (server, room):
        for name, text in HOSTILE.items():
            server.messages.clear()
            server.calls.clear()
            kept = await room.send(told_of(room, text)[0])
            for line in told_of(room, text, kept)[1:]:
                await room.send(line)
            assert server.calls.count("chat.postMessage") == 4, f"{name}: sent again as plain text"
            assert set(server.caught) <= POLICYS, name
            headers = [block for m in server.messages for block in m.blocks if block["type"] == "header"]
            assert len(headers) == 1, name


async def test_plain_text_catches_nobody_either() -> None:
    async with a_room() as (server, room):
        kept = await room.send(root(room, unfixed(), body=None, text="<!channel> @here <@U012AB3CD> @channel"))
        await room.send(root(room, unfixed(), kept, body=None, text="@everyone"))
        assert server.caught == []


async def test_the_largest_incident_is_within_the_limits() -> None:
    async with a_room() as (server, room):
        many = (fired(f"f{n}", labels={"alertname": "A", "symbol": "&<>" * 2_000, "n": str(n)}) for n in range(300))
        huge = told(opened(title="t" * 5_000, impact="&" * 5_000, target="x" * 5_000), *many)
        await room.send(root(room, huge))
        assert server.calls == ["chat.postMessage"], "no second try as plain text"
        assert any(block["type"] == "actions" for block in server.roots[0].blocks)
