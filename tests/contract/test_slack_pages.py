"""Pages that a chat gets: because their pager did not take them, or because a level names the chat."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from responder.notifiers.email import Email
from responder.notifiers.slack import Slack
from responder.tales import Sent
from tests.acceptance.stage import RISK, own, playing, risky
from tests.builders import a_runbook, call_step
from tests.contract.slack_parts import a_room, secret, shown
from tests.fakes.slack import TOKEN

ROOM = Slack(token=secret(TOKEN), channel="#risk", signing_secret=secret("s"))


def paged(notifiers: Mapping[str, Any], level: Mapping[str, Any], down: str = "") -> list[Sent]:
    """The pages of a run that does not help, `down` taking nothing."""
    rules, config = own(a_runbook(steps=[call_step()]), levels=[{"name": "L1", "after": 0, **level}])
    composing = config.model_copy(update={"notifiers": {**config.notifiers, **notifiers}})
    with playing((rules, composing)) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        if down:
            stage.refuses(down, 30)
        stage.at("10:00")
        return [one for one in stage.sent if one.message.kind == "page"]


async def test_a_page_that_its_pager_did_not_take_says_so_and_pings_whoever_is_there() -> None:
    level = {"page": "first", "fallback": ["room"]}
    told = await asyncio.to_thread(paged, {"room": ROOM}, level, "first")
    message = next(one.message for one in told if one.destination == "room")
    async with a_room() as (server, room):
        await room.send(message)
        (posted,) = server.messages
        assert server.caught == ["here"]
        assert posted.text.startswith("<!here> first did not take this page, so it comes here: [")
        assert "somebody must take this now*. first did not take this page" in shown(posted.blocks)
        assert "[Acknowledge]" in shown(posted.blocks)


async def test_a_page_to_a_chat_catches_the_people_of_its_level() -> None:
    level = {"page": "room", "mention": ["S012DESK"]}
    told = await asyncio.to_thread(paged, {"room": ROOM}, level)
    async with a_room() as (server, room):
        await room.send(told[0].message)
        assert server.caught == ["S012DESK"]
        assert "did not take" not in shown(server.messages[0].blocks)


async def test_a_page_that_comes_by_mail_instead_says_so_in_its_subject() -> None:
    mail = Email.model_validate({"host": "127.0.0.1", "from": "r@example.com", "to": ["a@example.com"]})
    level = {"page": "first", "fallback": ["room"]}
    told = await asyncio.to_thread(paged, {"room": mail}, level, "first")
    body: Any = next(one.message.body for one in told if one.destination == "room")
    assert body["subject"].startswith("PAGE that first did not take: [")
    assert "first did not take it, so it comes by mail" in body["text"]
    assert "first did not take this page" in body["html"]


async def test_a_page_goes_to_the_channel_of_whom_it_names_not_to_the_incidents() -> None:
    told = await asyncio.to_thread(paged, {"room": ROOM}, {"page": "room"})
    message = told[0].message
    elsewhere = replace(message, incident=message.incident.model_copy(update={"channel": "#quant"}))
    async with a_room() as (server, room):
        await room.send(elsewhere)
        assert server.messages[0].channel == "C0RISK"
