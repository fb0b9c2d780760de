"""*Override hours …*: the window that the entry opens, and what becomes of what is written into it (docs/adr/0026)."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from responder import facts as f
from responder.choices import choices
from responder.contracts import Secret
from responder.errors import BadConfig, StoreUnavailable
from responder.records import Change, Keys, State, Writes
from responder.timing import HOUR, MINUTE
from tests.contract.slack_parts import shown
from tests.contract.slack_presses import SIGNING, account, form, incident, offered, payload, post, press, shut
from tests.contract.web_parts import SLACK, START, Office, alert, notification, secret, serving
from tests.fakes.socket_mode import BOT, FakeSlackApp

REASON = "the desk has agreed & <!here>"
SHUT = "session is closed until 16:00 UTC"


@asynccontextmanager
async def desk(path: Path, otherwise: str = "deny", **presses: Any) -> AsyncIterator[tuple[Office, FakeSlackApp]]:
    """An office with an incident that its hours hold back, and Slack."""
    async with FakeSlackApp() as slack:
        made = {"signing": (SIGNING,), "presses": {"slacks": (account(slack),), **presses}, "rules": shut(otherwise)}
        async with serving(path, **made) as office:
            await office.post(notification(alert("VaRBreach")))
            yield office, slack


async def token(office: Office) -> str:
    """The entry's."""
    return (await offered(office))["override"].token


async def ask(office: Office, slack: FakeSlackApp, by: str = "otto", **changes: Any) -> str:
    """Press the entry; answers what its presser is told, "" when a window has opened."""
    return await press(office, slack, await token(office), by, **{"trigger_id": slack.trigger(), **changes})


async def send(office: Office, slack: FakeSlackApp, by: str = "otto", **values: str) -> dict[str, str]:
    """Send the newest window as somebody; answers what stands below its fields, nothing when it has closed."""
    answer = await post(office, form(slack.filled(SLACK[by], **values)))
    assert answer.status_code == 200
    await office.presses.stop(5.0)
    return slack.said(answer.json() if answer.content else None)


async def let(office: Office) -> list[tuple[str, str, int]]:
    """Who has let it act, why, and for how long."""
    events = await office.store.events((await incident(office)).id)
    said = [(e, e.fact) for e in events if isinstance(e.fact, f.CalendarOverridden)]
    return [(e.actor, fact.note, fact.until - e.at) for e, fact in said]


# --- the window -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("otherwise", ["deny", "wait"])
async def test_it_says_what_would_be_let_through_and_does_nothing_before_it_is_sent(
    tmp_path: Path, otherwise: str
) -> None:
    async with desk(tmp_path, otherwise) as (office, slack):
        assert await ask(office, slack) == ""
        assert await let(office) == []
        (view,) = slack.views
        said = [line for line in shown(view["blocks"]).splitlines() if line]
        name = (await incident(office)).id
        begins = "a run begins" if otherwise == "deny" else "the run that waits goes on"
        assert said == [
            "*Cut*",
            f"`risk-api/kelly_fraction` · `{name}`",
            f"🗓️ *Its hours hold it back*: {SHUT}",
            f"▶️ *If you let it*, {begins} at once, and does what `cut` says:",
            "• cut kelly · `parameter.reduce`",
            "Once, and for this incident alone. Pause, mode, locks, limits, budgets and approvals are asked as always.",
        ]
        assert {key: view[key]["text"] for key in ("title", "submit", "close")} == {
            "title": "Override hours",
            "submit": "Let it act",
            "close": "Not now",
        }


async def test_what_is_sent_is_done_as_the_person_and_told(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        await ask(office, slack)
        assert await send(office, slack, reason=f" {REASON}\n") == {}
        assert await let(office) == [("otto", REASON, HOUR)]
        told = re.sub(r"<.*?>", "AT", slack.answers[-1]["text"])
        assert told == "Done: one run of cut may act outside its hours, if it begins by AT. Every other limit holds."
        assert len((await incident(office)).runs) == 2, "a run begins at once"
        assert "override" not in await offered(office)


async def test_a_run_that_waits_goes_on_and_the_entry_is_gone(tmp_path: Path) -> None:
    async with desk(tmp_path, "wait") as (office, slack):
        await ask(office, slack)
        assert await send(office, slack, reason=REASON, lasts="90m") == {}
        assert await let(office) == [("otto", REASON, 90 * MINUTE)]
        assert len((await incident(office)).runs) == 1
        assert "override" not in await offered(office)


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"reason": " \n "}, {"reason"}),
        ({"reason": "x", "lasts": "13h"}, {"lasts"}),
        ({"reason": "x", "lasts": "59s"}, {"lasts"}),
        ({"reason": "", "lasts": "soon"}, {"reason", "lasts"}),
        ({"reason": "x", "lasts": ""}, {"lasts"}),
    ],
)
async def test_what_is_missing_or_wrong_is_said_below_its_field(
    tmp_path: Path, values: dict[str, str], fields: set[str]
) -> None:
    async with desk(tmp_path) as (office, slack):
        await ask(office, slack)
        said = await send(office, slack, **values)
        assert said.keys() == fields
        assert said.get("lasts", "Say 1m to 12h, such as 1h.") == "Say 1m to 12h, such as 1h."
        assert await let(office) == []
        assert await send(office, slack, reason="x") == {}, "it is still open"


async def test_it_needs_the_role_of_the_command_to_open_it_and_to_send_it(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        assert "“Override hours…” needs the role operator, which anna has not" in await ask(office, slack, "anna")
        assert "does not know who you are" in await ask(office, slack, "U0STRANGER")
        assert slack.asked == []
        await ask(office, slack)
        said = await send(office, slack, "anna", reason="x")
        assert "needs the role operator, which anna has not. Nothing was done." in said["reason"]
        assert await let(office) == []
        assert office.count("responder_credentials_refused_total", door="slack", reason="role") == 3


# --- old ones ---------------------------------------------------------------------------------------------------------


async def test_of_two_windows_one_counts(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        await ask(office, slack)
        await ask(office, slack)
        assert await send(office, slack, reason="first") == {}
        office.time += MINUTE
        said = await send(office, slack, reason="second")
        assert said == {
            "reason": "This button is old: you let a run act outside its hours at 08:00 UTC. Nothing was done."
        }
        assert [note for _, note, _ in await let(office)] == ["first"]


async def test_a_window_of_what_has_changed_since_does_nothing_and_says_so(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        await ask(office, slack)
        await office.call("POST", f"/incidents/{(await incident(office)).id}/takeover", "anna")
        said = await send(office, slack, reason="x")
        assert said["reason"].startswith("This button is old: anna took it over at 08:00 UTC")
        assert await let(office) == []


@pytest.mark.parametrize("sent", [False, True])
async def test_hours_that_have_come_since_need_no_override(tmp_path: Path, sent: bool) -> None:
    async with desk(tmp_path) as (office, slack):
        if sent:
            await ask(office, slack)
        office.time = START + 8 * HOUR
        said = (await send(office, slack, reason="x"))["reason"] if sent else await ask(office, slack)
        assert said == "Nothing was done. the calendar of cut lets it act now."
        assert len(slack.views) == sent
        assert await let(office) == []


# --- whose window -----------------------------------------------------------------------------------------------------


async def test_the_app_that_was_pressed_opens_it_and_of_its_workspaces_the_one_where_it_was(tmp_path: Path) -> None:
    async with FakeSlackApp() as slack:
        slack.bots |= {"xoxb-another-app", "xoxb-elsewhere"}
        another = account(slack, "xoxb-another-app", signing_secret=secret("another app's"))
        elsewhere = account(slack, "xoxb-elsewhere", channel="C9")
        slacks = (another, elsewhere, elsewhere, account(slack, channel="C9"))
        made = {"signing": (SIGNING,), "presses": {"slacks": slacks}, "rules": shut()}
        async with serving(tmp_path, **made) as office:
            await office.post(notification(alert("VaRBreach")))
            assert await ask(office, slack) == ""
            assert slack.asked == ["xoxb-elsewhere", BOT], "a clear no has opened nothing"
            office.presses.slacks = (another, elsewhere, account(slack))
            assert await ask(office, slack) == ""
            assert slack.asked[2:] == [BOT], "the one that tells this channel comes first"


async def test_where_nobody_knows_whether_it_has_opened_no_other_is_tried(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        slack.bots.add("xoxb-elsewhere")
        office.presses.slacks = (account(slack), account(slack, "xoxb-elsewhere"))
        slack.refuse_view("cut")
        said = await ask(office, slack)
        name = (await incident(office)).id
        assert said == (
            "Slack has not said whether a window has opened. If no window has opened, press again, or use"
            f" `responder override {name} --reason …`."
        )
        assert slack.asked == [BOT]
        assert await send(office, slack, reason="x") == {}, "it had opened"
        assert len(await let(office)) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("expired_trigger_id", "That took too long for a window to open. Nothing was done. Press again, or use"),
        ("exchanged_trigger_id", "Slack has not said whether a window has opened. If no window has opened, press"),
        ("internal_error", "Slack has not said whether a window has opened. If no window has opened, press"),
        ("token_revoked", "No window could be opened: Slack refuses views.open in C1: token_revoked; renew the token."),
        ("ratelimited", "No window could be opened: Slack asks to wait before views.open. Nothing was done. Press"),
    ],
)
async def test_a_window_that_does_not_open_is_told(tmp_path: Path, error: str, said: str) -> None:
    async with desk(tmp_path) as (office, slack):
        slack.refuse_view(error)
        assert (await ask(office, slack)).startswith(said)
        assert await ask(office, slack) == ""


async def test_a_token_that_cannot_be_read_is_told_and_no_error_of_the_server(tmp_path: Path) -> None:
    def unreadable() -> str:
        raise BadConfig("SLACK_TOKEN is not set")

    async with desk(tmp_path) as (office, slack):
        office.presses.slacks = (account(slack, token=Secret("env SLACK_TOKEN", unreadable)),)
        said = await ask(office, slack)
        assert said.startswith("No window could be opened: SLACK_TOKEN is not set. Nothing was done. Press again, or")
        office.presses.slacks = (account(slack, app_token=None, signing_secret=secret("another app's")),)
        assert "no notifier of the app that was pressed is configured any more" in await ask(office, slack)
        assert slack.asked == []


# --- trouble of ours --------------------------------------------------------------------------------------------------


class Stuck:
    """Holds the store until it is let go."""

    def __init__(self) -> None:
        self.id = "stuck"
        self.began, self.free = threading.Event(), threading.Event()

    def reads(self) -> Keys:
        return Keys()

    def apply(self, state: State) -> Change[None]:
        self.began.set()
        assert self.free.wait(30)
        return Change(Writes(), None)


async def test_slack_is_answered_in_time_and_the_window_opens_when_it_does(tmp_path: Path) -> None:
    async with desk(tmp_path, patience=0.05) as (office, slack):
        slack.held = asyncio.Event()
        opening = payload(await token(office), "otto", slack.answer_to, trigger_id=slack.trigger())
        async with asyncio.timeout(20):
            answer = await post(office, form(opening))
            assert (answer.status_code, answer.content, slack.views) == (200, b"", [])
        slack.held.set()
        await office.presses.stop(5.0)
        assert len(slack.views) == 1
        assert slack.answers == []


async def test_a_form_that_takes_long_closes_and_what_became_of_it_is_told(tmp_path: Path) -> None:
    async with desk(tmp_path, patience=0.05) as (office, slack):
        answer_to = slack.answer_to
        opening = payload(await token(office), "otto", answer_to, trigger_id=slack.trigger())
        assert (await post(office, form(opening))).status_code == 200
        await office.presses.stop(5.0)
        holds = Stuck()
        stuck = asyncio.create_task(office.store.submit(holds))
        assert await asyncio.to_thread(holds.began.wait, 30)
        for reason in ("first", "second"):
            answer = await post(office, form(slack.filled(SLACK["otto"], reason=reason)))
            assert (answer.status_code, answer.content) == (200, b"")
        holds.free.set()
        await stuck
        await office.presses.stop(5.0)
        assert [note for _, note, _ in await let(office)] == ["first"]
        assert sorted(told["text"][:12] for told in slack.answers) == ["Done: one ru", "This button "]


async def test_while_nothing_can_be_stored_the_form_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(tmp_path) as (office, slack):
        await ask(office, slack)

        async def gone(operation: object) -> None:
            raise StoreUnavailable("disk full")

        with monkeypatch.context() as broken:
            broken.setattr(office.store, "submit", gone)
            said = await send(office, slack, reason="x")
        assert said["reason"].startswith("Nothing was done. The responder can record nothing now")
        assert await send(office, slack, reason="x") == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"callback_id": "another"},
        {"private_metadata": ""},
        {"private_metadata": "[" * 20_000},
        {"private_metadata": '{"token": "i1|override"}'},
    ],
)
async def test_a_window_of_others_is_none_of_ours(tmp_path: Path, changes: dict[str, str]) -> None:
    async with desk(tmp_path) as (office, slack):
        await ask(office, slack)
        filled = slack.filled(SLACK["otto"], reason="x")
        answer = await post(office, form({**filled, "view": {**filled["view"], **changes}}))
        assert (answer.status_code, answer.content) == (200, b"")
        assert await let(office) == []


async def test_a_form_without_what_its_window_asks_for_is_not_taken(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        await ask(office, slack)
        filled = slack.filled(SLACK["otto"], reason="x")
        for state in (None, {}, {"values": {"reason": {"reason": {"value": None}}}}):
            answer = await post(office, form({**filled, "view": {**filled["view"], "state": state}}))
            assert slack.said(answer.json()).keys() == {"reason", "lasts"}
        assert await let(office) == []


async def test_what_people_may_press_is_bound_to_what_they_were_shown(tmp_path: Path) -> None:
    async with desk(tmp_path, "wait") as (office, _):
        before = await incident(office)
        policy = await office.desk.policy_of(before)
        (entry,) = [one for one in choices(before, policy) if one.verb == "override"]
        run = before.runs[-1]
        (*others, last) = run.verdicts
        other = last.model_copy(update={"reason": "session is closed until tomorrow"})
        changed = run.model_copy(update={"verdicts": (*others, other)})
        after = before.model_copy(update={"runs": (changed,)})
        (anew,) = [one for one in choices(after, policy) if one.verb == "override"]
        assert anew.token != entry.token
