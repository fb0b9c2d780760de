"""The webhook: every message that the product can send, to a receiver that checks what the documentation promises."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from responder.contracts import Secret
from responder.engine.emergency import Emergency
from responder.errors import Permanent, Temporary, Unknown
from responder.notifiers.webhook import MAX_ALERTS, Webhook, document, message_key
from tests.builders import T0, fired, opened, told
from tests.contract.told_messages import (
    HOSTILE,
    KINDS,
    STATES,
    fixed,
    hostile,
    message,
    renamed,
    secret,
    unfixed,
    without_template,
    working,
)
from tests.fakes.receiver import FakeReceiver
from tests.fakes.server import HangsUp
from tests.hostile_values import HOSTILE as VALUES
from tests.provision import CHECKOUT

TOKEN, KEY = "a-token-of-the-receiver", "a key that signs"


def webhook(server: FakeReceiver, **more: Any) -> Webhook:
    return Webhook(**{"url": server.address, **more})


async def taken(*given: tuple[str, str]) -> list[dict[str, Any]]:
    """The documents that a receiver got, for these kinds about these states."""
    async with FakeReceiver() as server:
        notifier = webhook(server)
        for kind, state in given:
            await notifier.send(message(notifier, kind, STATES[state]()))
        await notifier.stop()
        assert len(server.documents) == len(given)
        return list(server.documents.values())


@pytest.mark.parametrize("state", STATES)
async def test_every_message_is_a_document_as_documented(state: str) -> None:
    about = STATES[state]()
    for kind, found in zip(KINDS, await taken(*((kind, state) for kind in KINDS)), strict=True):
        assert found["type"] == {"root": "state", "thread": "event"}.get(kind, kind)
        assert (found["incident"]["id"], found["incident"]["status"]) == (about.id, about.status)
        assert found["incident"]["result"] == (None if about.result is None else about.result.value)
        assert (found["event"] is None) == (kind == "root")
        assert found["text"]


async def test_a_document_says_what_was_done_and_whether_it_helped() -> None:
    [whole] = await taken(("thread", "fixed"))
    found = whole["incident"]
    assert found["runs"][0]["steps"] == [
        {
            "id": "cut",
            "status": "done",
            "text": "Kelly fraction 0.25 → 0.1 (VaR breach)",
            "why": "kelly_fraction is 0.1",
            "took": 1.0,
            "attempts": 1,
            "waits": "",
        }
    ]
    assert (found["runs"][0]["result"], found["runs"][0]["why"]) == ("fixed", "1.42 < 1.7 held for 30s")
    assert (found["opened_at"], found["closed_at"]) == ("2026-11-20T14:00:00Z", "2026-11-20T14:02:01Z")
    assert found["alerts"][0]["summary"] == "VaR is 1.92 %, limit 2 %"


async def test_the_example_of_the_documentation_is_what_is_sent() -> None:
    text = (CHECKOUT / "docs" / "notifiers.md").read_text(encoding="utf-8")
    section = text.partition("## Webhook")[2].partition("\n## ")[0]
    [example] = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    [sent] = await taken(("page", "unfixed"))
    assert json.loads(example) == sent


async def test_any_text_arrives_as_text() -> None:
    async with FakeReceiver(key=KEY) as server:
        notifier = webhook(server, hmac=secret(KEY))
        for number, (name, text) in enumerate({**HOSTILE, **VALUES}.items()):
            for kind in KINDS:
                given = renamed(message(notifier, kind, hostile(text)), text)
                await notifier.send(replace(given, id=f"{number}:{kind}"))
                links = list(server.documents.values())[-1]["incident"]["links"]
                assert links in ([], [{"title": text, "url": text}]), name
        await notifier.stop()
        assert len(server.documents) == len(KINDS) * len({**HOSTILE, **VALUES})


async def test_a_large_incident_is_bounded() -> None:
    alerts = (fired(f"f{n}", labels={"alertname": "A", "n": str(n)}, joined=n > 0) for n in range(400))
    notifier = Webhook(url="https://example.com")
    found = document(message(notifier, "root", told(opened(), *alerts)))
    incident: Any = found["incident"]
    assert (len(incident["alerts"]), incident["alerts_total"], incident["firing"]) == (MAX_ALERTS, 400, 400)


# --- keys and signatures ----------------------------------------------------------------------------------------------


async def test_a_message_that_is_sent_again_is_the_same_document_under_the_same_key() -> None:
    async with FakeReceiver() as server:
        notifier = webhook(server)
        for kind in KINDS:
            first = message(notifier, kind, unfixed())
            await notifier.send(first)
            await notifier.send(replace(first, attempt=2))
        await notifier.stop()
        assert (server.calls, len(server.documents)) == (8, 4)


def test_a_state_that_changed_has_another_key_and_a_page_keeps_its_own() -> None:
    notifier = Webhook(url="https://example.com")
    assert message_key(message(notifier, "root", working())) != message_key(message(notifier, "root", fixed()))
    page, resolve = message(notifier, "page", unfixed()), message(notifier, "resolve", fixed())
    assert message_key(page) != message_key(resolve)
    assert document(page)["key"] == document(resolve)["key"] == "responder/main/i1/desk/l0.0"


async def test_the_body_is_signed_with_its_time() -> None:
    keys = iter([KEY, KEY, "another key"])
    async with FakeReceiver(key=KEY, bearer=TOKEN) as server:
        notifier = webhook(server, bearer=secret(TOKEN), hmac=Secret("env K", lambda: next(keys)))
        await notifier.send(message(notifier, "page", unfixed()))
        await notifier.send(message(notifier, "root", hostile(HOSTILE["long line of words"])))
        with pytest.raises(Permanent, match="401"):
            await notifier.send(message(notifier, "resolve", fixed()))
        await notifier.stop()
        assert len(server.documents) == 2


async def test_a_broken_template_costs_only_the_sentence() -> None:
    async with FakeReceiver() as server:
        notifier = webhook(server)
        await notifier.send(without_template(message(notifier, "page", unfixed()), "plain text"))
        await notifier.stop()
        [found] = server.documents.values()
        assert (found["text"], found["event"]["sentence"]) == ("plain text", "plain text")


async def test_the_emergency_page_is_a_document_too() -> None:
    async with FakeReceiver() as server:
        notifier = webhook(server)
        emergency = Emergency("main", {"hook": notifier}, lambda: T0)
        await emergency.store_down("disk full")
        await notifier.stop()
        [found] = server.documents.values()
        assert (found["type"], found["event"], found["incident"]["severity"]) == ("page", None, "critical")
        assert found["text"].endswith("disk full")


# --- what an answer means ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "expected", "said"),
    [
        (400, {}, Permanent, "400"),
        (401, {}, Permanent, "credentials"),
        (404, {}, Permanent, "POST /hooks/incidents: answered 404"),
        (409, {}, Unknown, "still be under way"),
        (429, {"Retry_After": "7"}, Temporary, "429"),
        (500, {}, Unknown, "500"),
        (503, {}, Unknown, "503"),
        (301, {"Location": "https://elsewhere.example/"}, Permanent, "redirects are not followed"),
    ],
)
async def test_an_answer_says_whether_to_try_again(
    status: int, headers: dict[str, str], expected: type[Exception], said: str
) -> None:
    async with FakeReceiver() as server:
        server.fail(status, **headers)
        notifier = webhook(server)
        with pytest.raises(expected, match=said) as raised:
            await notifier.send(message(notifier, "page", unfixed()))
        await notifier.stop()
        assert server.calls == 1
        assert getattr(raised.value, "retry_after", None) == (7 if status == 429 else None)


async def test_an_answer_without_end_is_cut_and_no_answer_is_unknown() -> None:
    async with FakeReceiver() as server:
        server.fail(202, "x" * 1_000_000)
        notifier = webhook(server)
        await notifier.send(message(notifier, "page", unfixed()))
        await notifier.stop()
    async with HangsUp() as silent:
        notifier = Webhook(url=f"{silent.url}/hooks")
        with pytest.raises(Unknown, match="connection was lost"):
            await notifier.send(message(notifier, "page", unfixed()))
        await notifier.stop()
        assert silent.connections == 1
    nobody = Webhook(url="http://127.0.0.1:9/hooks")
    with pytest.raises(Temporary, match="nothing was sent"):
        await nobody.send(message(nobody, "page", unfixed()))


async def test_no_failure_shows_a_secret() -> None:
    async with FakeReceiver(bearer="another token") as server:
        notifier = Webhook(url=f"{server.address}?sig=in-the-query", bearer=secret(TOKEN), hmac=secret(KEY))
        server.fail(401, f"{TOKEN} is wrong")
        with pytest.raises(Permanent) as raised:
            await notifier.send(message(notifier, "page", unfixed()))
        await notifier.stop()
    assert not any(one in str(raised.value) for one in (TOKEN, KEY, "in-the-query"))
    assert not any(one in repr(notifier) for one in (TOKEN, KEY))


@pytest.mark.parametrize(
    "url",
    [
        "http://receiver.example/hooks",
        "https://user:hunter2@receiver.example/hooks",
        "https://receiver.example/hooks#part",
        "https://receiver.example/a/../b",
        "https://receiver.example/a b",
        "ftp://receiver.example/",
        "https://",
    ],
)
def test_addresses_that_cannot_be_posted_to(url: str) -> None:
    with pytest.raises(ValidationError, match="url") as raised:
        Webhook(url=url)
    assert "hunter2" not in str(raised.value.errors(include_input=False))


def test_it_may_be_named_on_a_level_and_in_a_chat() -> None:
    assert (Webhook.pages, Webhook.chats, Webhook.replays) == (True, True, False)
