"""Slack: what is sent, and sent again, to a Slack that refuses what the real one refuses."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from responder import facts as f
from responder.contracts import Bucket
from responder.engine.pace import Pace
from responder.errors import Permanent, Temporary, Unknown
from responder.incident import Incident
from responder.notifiers.slack import PATIENCE, Slack
from responder.recorded import EvidenceItem
from responder.slack_api import SlackApi
from responder.timing import SECOND
from tests.builders import T0
from tests.contract.slack_parts import (
    NOTED,
    a_room,
    fixed,
    reply,
    root,
    secret,
    shown,
    slack,
    unfixed,
)
from tests.fakes.server import HangsUp
from tests.fakes.slack import TOKEN, FakeSlack

GATHERED = f.EvidenceGathered(run=1, items=(EvidenceItem(title="book", value={"bids": ["x" * 40] * 40}),))


# --- one root, and a thread -------------------------------------------------------------------------------------------


async def test_one_root_is_updated_and_replies_stand_below_it() -> None:
    async with a_room() as (server, room):
        kept = await room.send(root(room, unfixed()))
        assert json.loads(kept) == {"channel": "C0RISK", "ts": server.roots[0].ts}
        await room.send(reply(room, unfixed(), NOTED, previous=kept))
        again = await room.send(root(room, unfixed(severity="high"), kept))
        (found,) = server.roots
        assert again == kept
        assert found.updates == 1
        assert server.thread(found.ts) == ["desk: hedging by hand"]
        assert found.metadata["event_payload"] == {"key": "i1:root:room", "incident": "i1"}
        assert "HIGH" in shown(found.blocks)


async def test_an_incident_is_told_in_its_own_channel() -> None:
    async with a_room() as (server, room):
        await room.send(root(room, unfixed(channel="#quant")))
        assert server.roots[0].channel == "C0QUANT"


@pytest.mark.parametrize("gone", ["message_not_found", "edit_window_closed", "cant_update_message"])
async def test_a_new_root_is_posted_when_the_old_one_cannot_be_changed(gone: str) -> None:
    async with a_room() as (server, room):
        kept = await room.send(root(room, unfixed()))
        server.fail(gone)
        again = await room.send(root(room, unfixed(), kept))
        assert again != kept
        assert len(server.roots) == 2


@pytest.mark.parametrize(
    ("error", "status", "headers", "expected", "said"),
    [
        ("ratelimited", 429, {"Retry_After": "30"}, Temporary, "wait"),
        ("service_unavailable", 200, {}, Temporary, "wait"),
        ("anything", 503, {}, Temporary, "503"),
        ("internal_error", 200, {}, Unknown, "internal_error"),
        ("channel_not_found", 200, {}, Permanent, "invite the app"),
        ("missing_scope", 200, {}, Permanent, "scope chat:write"),
        ("invalid_auth", 200, {}, Permanent, "renew the token"),
        ("brand_new_error", 200, {}, Permanent, "brand_new_error"),
    ],
)
async def test_refusals_say_whether_to_try_again(
    error: str, status: int, headers: dict[str, Any], expected: type[Exception], said: str
) -> None:
    async with a_room() as (server, room):
        server.fail(error, status, **headers)
        with pytest.raises(expected, match=said) as raised:
            await room.send(root(room, unfixed()))
        assert server.calls == ["chat.postMessage"], "the library must not try again by itself"
        assert getattr(raised.value, "retry_after", None) == (30 if status == 429 else None)
        assert TOKEN not in str(raised.value)


async def test_plain_text_is_sent_when_the_blocks_are_refused() -> None:
    async with a_room() as (server, room):
        server.fail("invalid_blocks")
        await room.send(root(room, unfixed()))
        assert server.roots[0].blocks == []
        assert server.roots[0].text.startswith("VaR above 90 % of its limit: risk-api/kelly_fraction")


async def test_who_cannot_be_reached_is_tried_again_and_who_is_silent_is_unknown() -> None:
    async with FakeSlack(risk="C0RISK") as server:
        nobody = slack(server, base_url="http://127.0.0.1:9/api/")
        with pytest.raises(Temporary, match="cannot be reached"):
            await nobody.send(root(nobody, unfixed()))
        hurried = slack(server, timeout=0.000_001)
        with pytest.raises(Unknown, match="did not answer"):
            await hurried.send(root(hurried, unfixed()))
        await nobody.stop()
        await hurried.stop()


async def test_a_broken_connection_is_the_outboxs_to_try_again_not_the_librarys() -> None:
    async with HangsUp() as server:
        chat = Slack(token=secret(TOKEN), channel="#risk", base_url=f"{server.url}/api/")
        with pytest.raises(Unknown, match="broke"):
            await chat.send(reply(chat, unfixed(), NOTED))
        await chat.stop()
        assert server.connections == 1


async def test_more_than_a_message_a_second_is_put_off_by_slack_and_told_as_such() -> None:
    async with a_room() as (server, room):
        seconds = [1_000.0]
        server.limits(lambda: seconds[0])
        kept = await room.send(root(room, unfixed()))
        for _ in range(2):
            await room.send(reply(room, unfixed(), NOTED, previous=kept))
        with pytest.raises(Temporary) as raised:
            await room.send(reply(room, unfixed(), NOTED, previous=kept))
        assert raised.value.retry_after == 2
        seconds[0] += 2
        await room.send(reply(room, unfixed(), NOTED, previous=kept))
        assert len(server.messages) == 4


async def test_at_their_pace_two_notifiers_of_one_app_are_never_put_off_in_the_same_channel() -> None:
    async with a_room() as (server, room):
        now, pace = 1_000 * SECOND, Pace()
        server.limits(lambda: now / SECOND)
        other = slack(server, channel="C0RISK")
        kept = await room.send(root(room, unfixed()))
        pace.take(room.bucket("room", unfixed(), "root", sent=False), now)
        for number in range(120):
            name, chat = ("room", room) if number % 2 else ("other", other)
            for kind, sent in (("page", False), ("root", True), ("story/noted", False)):
                bucket = chat.bucket(name, unfixed(), kind, sent=sent)
                now += pace.wait(bucket, now)
                pace.take(bucket, now)
                if kind == "root":
                    await chat.send(root(chat, unfixed(), kept))
                else:
                    await chat.send(reply(chat, unfixed(), NOTED, previous=kept))
        await other.stop()
        assert len(server.messages) == 241
        assert server.roots[0].updates == 120
        assert (now / SECOND - 1_000) < 245, "changes take no turns of posts"


async def test_an_app_is_counted_by_its_token_and_a_page_by_the_channel_it_goes_to() -> None:
    first, same = (Slack(token=secret(TOKEN), channel="#risk") for _ in "12")
    stranger = Slack(token=secret(TOKEN[::-1]), channel="#risk")
    elsewhere = unfixed(channel="#quant")

    def counted(chat: Slack, kind: str, incident: Incident, *, sent: bool = False) -> Bucket:
        return chat.bucket(f"name {id(chat)}", incident, kind, sent=sent)

    assert counted(first, "root", unfixed()) == counted(same, "story/noted", unfixed())
    assert counted(first, "page", elsewhere) == counted(same, "root", unfixed()), "it goes to its own channel"
    assert counted(first, "root", elsewhere) != counted(first, "root", unfixed())
    assert counted(first, "root", elsewhere, sent=True) == counted(same, "root", unfixed(), sent=True)
    assert counted(first, "root", unfixed()) != counted(stranger, "root", unfixed())
    assert TOKEN not in str(counted(first, "root", unfixed()))


# --- nobody knows whether it was sent ---------------------------------------------------------------------------------


async def test_a_reply_whose_answer_was_lost_is_found_and_not_posted_again() -> None:
    async with a_room() as (server, room):
        kept = await room.send(root(room, unfixed()))
        line = reply(room, unfixed(), NOTED, previous=kept)
        server.fail("internal_error", method="chat.postMessage", done=True)
        with pytest.raises(Unknown):
            await room.send(line)
        found = await room.send(replace(line, doubtful=True, attempt=2))
        assert json.loads(found) == {"channel": "C0RISK", "ts": server.messages[1].ts}
        assert len(server.messages) == 2
        other = replace(line, id="e7:noted:room", doubtful=True)
        await room.send(other)
        assert len(server.messages) == 3, "what is not there is posted"


async def test_a_root_whose_answer_was_lost_is_found_and_brought_up_to_date() -> None:
    async with FakeSlack(risk="C0RISK") as server:
        first = slack(server, channel="C0RISK")
        server.fail("internal_error", method="chat.postMessage", done=True)
        with pytest.raises(Unknown):
            await first.send(root(first, unfixed()))
        await first.stop()
        after = slack(server, channel="C0RISK")
        for number in range(250):
            await after.send(root(after, unfixed(), id=f"other-{number}"))
        kept = await after.send(root(after, fixed(), doubtful=True))
        await after.stop()
        assert json.loads(kept)["ts"] == server.roots[0].ts
        assert server.roots[0].updates == 1
        assert len(server.roots) == 251


async def test_a_known_root_is_only_changed() -> None:
    async with a_room() as (server, room):
        kept = await room.send(root(room, unfixed()))
        await room.send(root(room, unfixed(), kept, doubtful=True))
        assert server.calls == ["chat.postMessage", "chat.update"]


async def test_a_root_waits_a_minute_for_slack_to_tell_whether_it_is_there() -> None:
    async with a_room() as (server, room):
        server.fail("ratelimited", 429, method="conversations.history", Retry_After="7")
        with pytest.raises(Temporary, match="in the channel already") as raised:
            await room.send(root(room, unfixed(), doubtful=True))
        assert raised.value.retry_after == 7
        assert server.messages == []
        server.fail("ratelimited", 429, method="conversations.history", Retry_After="7")
        await room.send(root(room, unfixed(), doubtful=True, attempt=PATIENCE + 1))
        assert len(server.roots) == 1


@pytest.mark.parametrize("kind", ["root", "reply"])
async def test_who_may_not_look_posts_a_second_time_and_says_what_is_missing(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeSlack(risk="C0RISK") as server:
        room = slack(server, channel="C0RISK")
        kept = await room.send(root(room, unfixed()))
        server.scopes -= {"channels:history"}
        doubtful = root(room, unfixed()) if kind == "root" else reply(room, unfixed(), NOTED, previous=kept)
        with caplog.at_level(logging.WARNING):
            await room.send(replace(doubtful, doubtful=True))
        await room.stop()
        assert len(server.messages) == 2
        assert "give the app the scope channels:history and groups:history" in caplog.text


async def test_a_reply_is_not_held_up_by_looking_for_it() -> None:
    async with a_room() as (server, room):
        kept = await room.send(root(room, unfixed()))
        server.fail("ratelimited", 429, method="conversations.replies", Retry_After="60")
        await room.send(reply(room, unfixed(), NOTED, previous=kept, doubtful=True))
        assert len(server.messages) == 2


async def test_only_what_carries_our_own_mark_is_ours() -> None:
    async with a_room() as (server, room):
        kept = await room.send(root(room, unfixed()))
        line = reply(room, unfixed(), NOTED, previous=kept)
        await room.send(line)
        server.messages[1].metadata["event_type"] = "somebody_elses"
        await room.send(replace(line, doubtful=True))
        assert len(server.messages) == 3


async def test_what_is_older_than_the_incident_is_not_looked_through() -> None:
    async with a_room() as (server, room):
        before = T0 / SECOND - 3_600
        server.limits(lambda: before)
        await room.send(root(room, unfixed()))
        server.calls.clear()
        await room.send(root(room, unfixed(), doubtful=True))
        assert server.calls == ["conversations.history", "chat.postMessage"]


# --- files ------------------------------------------------------------------------------------------------------------


async def test_long_evidence_is_a_file_in_the_thread() -> None:
    async with a_room() as (server, room):
        kept = await room.send(root(room, unfixed()))
        await room.send(reply(room, unfixed(), GATHERED, previous=kept))
        _, line, file = server.messages
        assert "the whole is in the file below, and in `responder incident i1 --json`" in shown(line.blocks)
        assert len(line.text) < 300
        assert (file.channel, file.thread_ts) == ("C0RISK", json.loads(kept)["ts"])
        assert file.title == "VaR above 90 % of its limit: the whole text"
        assert file.file is not None
        assert file.file.count("x" * 40) == 40
        assert server.calls[-3:] == ["files.getUploadURLExternal", "upload", "files.completeUploadExternal"]


async def test_short_evidence_is_no_file() -> None:
    async with a_room() as (server, room):
        kept = await room.send(root(room, unfixed()))
        short = f.EvidenceGathered(run=1, items=(EvidenceItem(title="position", value={"usd": 5}),))
        await room.send(reply(room, unfixed(), short, previous=kept))
        assert shown(server.messages[-1].blocks) == '🔎 Evidence: position: {"usd": 5}'
        assert len(server.messages) == 2


async def test_a_sentence_that_was_cut_is_a_file_and_so_are_many_lines() -> None:
    async with a_room() as (server, room):
        kept = await room.send(root(room, unfixed()))
        long = f.ProblemFound(problem="p" * 2_000)
        await room.send(reply(room, unfixed(), long, previous=kept))
        assert server.messages[-1].file is not None
        assert "p" * 2_000 in server.messages[-1].file
        notes = [f.Noted(text=f"{n} " + "n" * 400) for n in range(30)]
        await room.send(reply(room, unfixed(), *notes, previous=kept))
        assert server.messages[-1].file is not None
        assert len(server.messages[-1].file.splitlines()) == 30
        assert len(server.messages) == 5


async def test_without_the_scope_the_line_is_cut_and_says_where_the_whole_is(caplog: pytest.LogCaptureFixture) -> None:
    async with a_room() as (server, room):
        server.scopes -= {"files:write"}
        kept = await room.send(root(room, unfixed()))
        with caplog.at_level(logging.WARNING):
            await room.send(reply(room, unfixed(), GATHERED, previous=kept))
            await room.send(reply(room, unfixed(), GATHERED, previous=kept))
        assert len(server.messages) == 3
        assert "shortened; see `responder incident i1 --json`" in shown(server.messages[-1].blocks)
        assert server.calls.count("files.getUploadURLExternal") == 1, "Slack is asked once"
        assert "give the app the scope files:write" in caplog.text


@pytest.mark.parametrize("method", ["files.getUploadURLExternal", "upload", "files.completeUploadExternal"])
async def test_a_file_that_does_not_arrive_costs_nothing_but_itself(method: str) -> None:
    async with a_room() as (server, room):
        kept = await room.send(root(room, unfixed()))
        server.fail("internal_error", 500, method=method)
        answer = await room.send(reply(room, unfixed(), GATHERED, previous=kept))
        assert json.loads(answer)["ts"] == server.messages[1].ts
        assert len(server.messages) == 2


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/upload/F1", "https://files.slack.com/upload/F1", "https://evil.example/a", ""]
)
async def test_a_file_goes_nowhere_else(address: str, caplog: pytest.LogCaptureFixture) -> None:
    async with a_room() as (server, room):
        kept = await room.send(root(room, unfixed()))
        server.upload_at = address or "//"
        with caplog.at_level(logging.WARNING):
            await room.send(reply(room, unfixed(), GATHERED, previous=kept))
        assert "not one of Slack's" in caplog.text
        assert len(server.messages) == 2


@pytest.mark.parametrize(
    ("address", "slacks"),
    [
        ("https://files.slack.com/upload/v1/abc", True),
        ("https://slack.com/upload", True),
        ("http://files.slack.com/upload", False),
        ("https://slack.com.evil.example/a", False),
        ("https://evilslack.com/a", False),
        ("https://files.slack.com@evil.example/a", False),
    ],
)
def test_an_address_for_files_is_https_at_slack(address: str, slacks: bool) -> None:
    assert SlackApi(secret(TOKEN), "https://slack.com/api/", 1)._is_slacks(address) is slacks


# --- names of channels ------------------------------------------------------------------------------------------------


async def lost_root(server: FakeSlack, room: Slack) -> None:
    """A root whose answer is lost, and the try after it by a process that knows nothing."""
    server.fail("internal_error", method="chat.postMessage", done=True)
    with pytest.raises(Unknown):
        await room.send(root(room, unfixed()))
    await room.send(root(room, unfixed(), doubtful=True, attempt=2))


async def test_a_root_whose_answer_was_lost_is_found_in_a_channel_that_is_known_by_name() -> None:
    async with a_room() as (server, room):
        server.listed_at_once = 1
        server.channels = {"#a": "C0A", "#b": "C0B", "#RISK-old": "C0OLD", **server.channels}
        await lost_root(server, room)
        assert len(server.roots) == 1
        assert server.roots[0].updates == 1
        await room.send(root(room, unfixed(id="other"), doubtful=True))
        assert server.calls.count("conversations.list") == 4, "a name is looked up once"


@pytest.mark.parametrize(("scope", "private"), [("groups:read", False), ("channels:read", True)])
async def test_one_scope_is_enough_for_channels_of_its_kind(scope: str, private: bool) -> None:
    async with a_room() as (server, room):
        server.scopes -= {scope}
        server.private = frozenset({"C0RISK"}) if private else frozenset()
        await lost_root(server, room)
        assert len(server.roots) == 1


@pytest.mark.parametrize("missing", ["scopes", "channel"])
async def test_a_name_that_cannot_be_looked_up_is_said_and_the_message_goes_out(
    missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_room() as (server, room):
        server.scopes -= {"channels:read", "groups:read"} if missing == "scopes" else set()
        server.private = frozenset({"C0RISK"}) if missing == "channel" else frozenset()
        server.scopes -= {"groups:read"} if missing == "channel" else set()
        with caplog.at_level(logging.WARNING):
            await lost_root(server, room)
        assert len(server.roots) == 2
        assert "may stand twice" in caplog.text
        assert "channels:read and groups:read" in caplog.text
        assert "write the channel's id" in caplog.text


async def test_a_root_waits_while_the_channels_cannot_be_listed() -> None:
    async with a_room() as (server, room):
        server.fail("ratelimited", 429, method="conversations.list", Retry_After="30")
        with pytest.raises(Temporary) as raised:
            await room.send(root(room, unfixed(), doubtful=True))
        assert raised.value.retry_after == 30
