"""Socket Mode against a WebSocket server: presses, acknowledgements, connections that end, and tokens that change."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from responder import facts as f
from responder.app import CATALOGUE, build
from responder.config import load_config
from responder.contracts import Secret
from responder.engine.socket_mode import Patience, SocketMode
from responder.errors import BadConfig, StoreUnavailable
from responder.notifiers.slack import Slack
from tests.contract.slack_presses import incident, offered, payload, shut
from tests.contract.web_parts import SLACK, Office, alert, notification, secret, serving
from tests.fakes.socket_mode import APP_TOKEN, FakeSlackApp

SHORT = Patience(first=0.01, longest=0.05, one_try=5.0, steady=0.0)


def notifier(slack: FakeSlackApp, token: str | None = APP_TOKEN) -> Slack:
    return Slack(
        token=secret("xoxb-bot"),
        channel="C1",
        app_token=None if token is None else secret(token),
        base_url=slack.base_url,
    )


class Heard:
    """Takes what is pressed: `trouble` is raised for the next, `held` keeps it until it is set."""

    def __init__(self) -> None:
        self.payloads: list[Mapping[str, Any]] = []
        self.apps: list[str] = []
        self.answer: Mapping[str, Any] | None = None
        self.trouble: list[Exception] = []
        self.held: asyncio.Event | None = None
        self.states: list[bool] = []
        self.changed = asyncio.Event()

    async def take(self, payload: Mapping[str, Any], app: Secret) -> Mapping[str, Any] | None:
        self.payloads.append(payload)
        self.apps.append(app.reveal())
        if self.held is not None:
            await self.held.wait()
        if self.trouble:
            raise self.trouble.pop(0)
        return self.answer

    def connected(self, connected: bool) -> None:
        self.states.append(connected)
        self.changed.set()

    async def until(self, connected: bool) -> None:
        async with asyncio.timeout(20):
            while not self.states or self.states[-1] is not connected:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def listening(
    *tokens: str, patience: Patience = SHORT, take: Callable[[Heard], Any] = lambda heard: heard.take
) -> AsyncIterator[tuple[SocketMode, FakeSlackApp, Heard]]:
    """A connection that stands."""
    heard = Heard()
    async with FakeSlackApp(*tokens) as slack:
        mode = SocketMode(take(heard), heard.connected, patience)
        mode.use([notifier(slack)])
        try:
            await slack.until(lambda: len(slack.links) == 1)
            yield mode, slack, heard
        finally:
            await mode.stop()
        await slack.until(lambda: not slack.links)


async def test_a_press_is_taken_and_acknowledged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with listening() as (_, slack, heard):
        name = await slack.press({"type": "block_actions", "actions": []})
        await slack.until(lambda: slack.acknowledged == [name])
        assert heard.payloads == [{"type": "block_actions", "actions": []}]
        assert slack.opened == [APP_TOKEN]
        assert heard.states == [True]
    assert [r.getMessage() for r in caplog.records if r.name.startswith(("slack", "responder.slack"))] == []


async def test_it_is_acknowledged_only_when_it_was_taken() -> None:
    async with listening() as (_, slack, heard):
        heard.held = asyncio.Event()
        first = await slack.press({"n": 1})
        other = await slack.press({"n": 2}, "slash_commands")
        await slack.until(lambda: slack.acknowledged == [other])
        heard.held.set()
        await slack.until(lambda: slack.acknowledged == [other, first])
        assert heard.payloads == [{"n": 1}], "of other kinds nothing is taken"


async def test_what_is_to_be_said_goes_with_the_acknowledgement_and_the_app_is_known() -> None:
    async with listening() as (_, slack, heard):
        heard.answer = {"response_action": "errors", "errors": {"reason": "Say why."}}
        name = await slack.press({"type": "view_submission"})
        await slack.until(lambda: slack.acknowledged == [name])
        assert slack.payloads == {name: heard.answer}
        heard.answer = None
        closed = await slack.press({"type": "view_submission"})
        await slack.until(lambda: closed in slack.acknowledged)
        assert slack.payloads[closed] is None
        assert heard.apps == [APP_TOKEN, APP_TOKEN]


async def test_what_could_not_be_stored_is_not_acknowledged_and_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    async with listening() as (_, slack, heard):
        heard.trouble = [StoreUnavailable("disk full")]
        name = await slack.press({"n": 1})
        sound = await slack.press({"n": 2})
        await slack.until(lambda: sound in slack.acknowledged)
        assert slack.acknowledged == [sound]
        await slack.recycle()
        await slack.until(lambda: name in slack.acknowledged)
        assert [p["n"] for p in heard.payloads] == [1, 2, 1]
        heard.trouble = [ZeroDivisionError("a mistake of ours")]
        odd = await slack.press({"n": 3})
        await slack.until(lambda: odd in slack.acknowledged)
        assert "what came from Slack could not be taken in" in caplog.text


async def test_a_connection_is_replaced_before_it_is_closed_and_nothing_is_lost() -> None:
    async with listening() as (_, slack, heard):
        first, heard.held = slack.links[0], asyncio.Event()
        name = await slack.press({"n": 1})
        await slack.recycle("warning")
        await slack.until(lambda: slack.links[-1] is not first)
        assert slack.links[0] is first, "the old one stands until the new one does, and what came on it is answered"
        heard.held.set()
        await slack.until(lambda: name in slack.acknowledged and slack.links[0] is not first)
        assert slack.ended == 1
        assert heard.states == [True]


async def test_a_connection_that_is_to_be_replaced_and_cannot_be_still_brings_what_is_pressed() -> None:
    async with listening() as (_, slack, heard):
        first = slack.links[0]
        slack.refuse("internal_error", 1_000)
        await slack.recycle("warning")
        await heard.until(connected=False)
        name = await slack.press({"n": 1})
        await slack.until(lambda: slack.acknowledged == [name])
        slack.refuse("", 0)
        await heard.until(connected=True)
        await slack.until(lambda: first not in slack.links)


async def test_a_network_that_breaks_is_told_once_and_the_connection_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with listening() as (_, slack, heard):
        for error in ("internal_error", "not_allowed_token_type", "fatal_error"):
            slack.refuse(error)
        slack.cut()
        await heard.until(connected=False)
        await heard.until(connected=True)
        await slack.until(lambda: len(slack.links) == 1)
        assert len(slack.opened) == 5, "the first, three refusals, and the one that stands"
        name = await slack.press({"n": 1})
        await slack.until(lambda: slack.acknowledged == [name])
        assert heard.states == [True, False, True]
    told = [r.getMessage() for r in caplog.records if r.name == "responder.slack"]
    assert [(t.startswith("no Socket Mode connection"), "is back" in t) for t in told] == [(True, False), (False, True)]
    assert "ticket" not in caplog.text


async def test_a_refusal_names_its_cure(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    async with FakeSlackApp() as slack:
        mode = SocketMode(heard.take, heard.connected, SHORT)
        slack.refuse("missing_scope")
        mode.use([notifier(slack)])
        await heard.until(connected=False)
        await heard.until(connected=True)
        await mode.stop()
    assert "missing_scope; give the app-level token the scope connections:write" in caplog.text
    assert APP_TOKEN not in caplog.text


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", "{}", '{"ok": true}', '{"ok": true, "url": null}', '{"ok": true, "url": "wss://"}']
)
async def test_an_answer_that_is_not_slacks_is_a_broken_connection_and_no_more(body: str) -> None:
    heard = Heard()
    async with FakeSlackApp() as slack:
        slack.mislead(body)
        mode = SocketMode(heard.take, heard.connected, Patience(first=0.01, one_try=0.3, steady=0.0))
        mode.use([notifier(slack)])
        await heard.until(connected=False)
        await heard.until(connected=True)
        await mode.stop()


async def test_a_server_that_is_not_there_is_tried_with_growing_patience(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    async with FakeSlackApp() as slack:
        base = slack.base_url
    gone = Slack(token=secret("xoxb-bot"), channel="C1", app_token=secret(APP_TOKEN), base_url=base)
    mode = SocketMode(heard.take, heard.connected, SHORT)
    mode.use([gone])
    await heard.until(connected=False)
    await mode.stop()
    assert "Slack does not answer; see the network and any proxy" in caplog.text


async def test_what_is_no_envelope_is_passed_over() -> None:
    async with listening() as (_, slack, heard):
        for odd in ("", "null", "[]", "{", '{"type": "hello"}', '{"type": 7, "envelope_id": 7, "payload": null}'):
            await slack.say(odd)
        name = await slack.press({"n": 1})
        await slack.until(lambda: name in slack.acknowledged)
        assert heard.payloads == [{"n": 1}]


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_notifiers_of_one_app_share_a_connection() -> None:
    async with listening(APP_TOKEN, "xapp-other") as (mode, slack, _):
        mode.use([notifier(slack), notifier(slack), notifier(slack, None), notifier(slack, "xapp-other")])
        await slack.until(lambda: len(slack.links) >= 2)
        name = await slack.press({"n": 1})
        await slack.until(lambda: slack.acknowledged == [name])
        assert slack.opened == [APP_TOKEN, "xapp-other"]


async def test_after_a_change_of_the_token_the_new_connection_comes_first() -> None:
    async with listening(APP_TOKEN, "xapp-next") as (mode, slack, _):
        first = slack.links[0]
        mode.use([notifier(slack, "xapp-next")])
        await slack.until(lambda: len(slack.links) == 2)
        assert slack.links[0] is first
        await slack.until(lambda: first not in slack.links)
        assert slack.opened == [APP_TOKEN, "xapp-next"]
        mode.use([])
        await slack.until(lambda: not slack.links)


async def test_a_token_that_is_wrong_replaces_the_old_one_all_the_same() -> None:
    async with listening() as (mode, slack, heard):
        mode.use([notifier(slack, "xapp-wrong")])
        await slack.until(lambda: not slack.links)
        await heard.until(connected=False)
        mode.use([notifier(slack)])
        await slack.until(lambda: len(slack.links) == 1)
        await heard.until(connected=True)


async def test_a_token_that_cannot_be_read_changes_nothing() -> None:
    def unreadable() -> str:
        raise BadConfig("SLACK_APP_TOKEN is not set")

    async with listening() as (mode, slack, _):
        broken = notifier(slack).model_copy(update={"app_token": Secret("env SLACK_APP_TOKEN", unreadable)})
        with pytest.raises(BadConfig, match="is not set"):
            mode.use([broken])
        name = await slack.press({"n": 1})
        await slack.until(lambda: slack.acknowledged == [name])


# --- what is pressed --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def desk(path: Path, **made: Any) -> AsyncIterator[tuple[Office, FakeSlackApp]]:
    async with FakeSlackApp() as slack, serving(path, presses={"slacks": (notifier(slack),)}, **made) as office:
        await office.post(notification(alert()))
        mode = SocketMode(office.presses.take, lambda connected: None, SHORT)
        mode.use([notifier(slack)])
        await slack.until(lambda: len(slack.links) == 1)
        try:
            yield office, slack
        finally:
            await mode.stop()


async def test_a_press_is_committed_before_slack_hears_of_it_and_counts_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        pressed = payload((await offered(office))["ack"].token, "anna", slack.answer_to)
        name = await slack.press(pressed)
        await slack.until(lambda: slack.acknowledged == [name])
        assert (await incident(office)).acknowledged is not None
        await slack.again(name, pressed)
        await slack.until(lambda: slack.acknowledged == [name, name])
        await slack.until(lambda: len(slack.answers) == 1)
        assert "you acknowledged it at" in slack.answers[0]["text"]
        events = await office.store.events((await incident(office)).id)
        assert [e.actor for e in events if isinstance(e.fact, f.Acknowledged)] == ["anna"]


async def test_a_window_is_opened_and_what_is_written_into_it_is_taken(tmp_path: Path) -> None:
    async with desk(tmp_path, rules=shut()) as (office, slack):
        entry = (await offered(office))["override"].token
        pressed = await slack.press(payload(entry, "otto", slack.answer_to, trigger_id=slack.trigger()))
        await slack.until(lambda: pressed in slack.acknowledged)
        assert len(slack.views) == 1
        empty = await slack.press(slack.filled(SLACK["otto"]))
        await slack.until(lambda: empty in slack.acknowledged)
        assert slack.said(slack.payloads[empty]) == {"reason": "Say why: it stands in the journal."}
        sent = await slack.press(slack.filled(SLACK["otto"], reason="agreed", lasts="2h"))
        await slack.until(lambda: sent in slack.acknowledged)
        assert slack.payloads[sent] is None
        events = await office.store.events((await incident(office)).id)
        assert [e.actor for e in events if isinstance(e.fact, f.CalendarOverridden)] == ["otto"]


async def test_the_program_connects_and_a_reload_follows_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeSlackApp(APP_TOKEN, "xapp-next") as slack:
        environ = {"BOT": "xoxb-bot", "APP": APP_TOKEN}
        path = tmp_path / "responder.yaml"
        head = f"listen: 127.0.0.1:0\nstore: sqlite:///{tmp_path}/responder.db\n"
        told = f"kind: slack, token: {{env: BOT}}, channel: C1, base_url: '{slack.base_url}'"
        path.write_text(f"{head}notifiers:\n  chat: {{{told}, app_token: {{env: APP}}}}\n")
        app = await build(load_config(path, CATALOGUE, environ), environ)
        await app.start()
        try:
            await slack.until(lambda: len(slack.links) == 1)
            (before,) = app.presses.slacks
            environ["APP"] = "xapp-next"
            await app.reload()
            (after,) = app.presses.slacks
            assert (after.channel, after is before) == ("C1", False), "windows are opened by today's notifiers"
            await slack.until(lambda: slack.opened == [APP_TOKEN, "xapp-next"] and len(slack.links) == 1)
            path.write_text(f"{head}notifiers:\n  chat: {{{told}}}\n")
            await app.reload()
            await slack.until(lambda: not slack.links)
            assert "responder_slack_connected 1.0" in app.metrics.text().decode()
        finally:
            await app.stop()
