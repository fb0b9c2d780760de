"""POST /webhook/slack: who may press what, what a press does, and what the presser is told."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from responder import facts as f
from responder.errors import StoreUnavailable
from responder.recorded import Outcome
from responder.records import Change, Keys, State, Writes
from responder.timing import MINUTE, SECOND
from tests.contract.slack_presses import (
    SIGNING,
    account,
    asking,
    form,
    incident,
    offered,
    payload,
    post,
    press,
    signature,
)
from tests.contract.web_parts import Office, alert, notification, serving
from tests.fakes.socket_mode import FakeSlackApp

NOTHING = "Nothing was done."


@asynccontextmanager
async def desk(path: Path, name: str = "VaRBreach", **more: Any) -> AsyncIterator[tuple[Office, FakeSlackApp]]:
    """An office with one open incident, and Slack."""
    async with FakeSlackApp() as slack:
        made = {"signing": (SIGNING,), "presses": {"slacks": (account(slack),)}, **more}
        async with serving(path, **made) as office:
            await office.post(notification(alert(name)))
            yield office, slack


async def journal(office: Office) -> list[tuple[str, f.Fact]]:
    """Who did what, of the latest incident."""
    return [(e.actor, e.fact) for e in await office.store.events((await incident(office)).id)]


async def said_by(office: Office, who: str) -> list[f.Fact]:
    return [fact for actor, fact in await journal(office) if actor == who]


# --- what a press does ------------------------------------------------------------------------------------------------


async def test_an_acknowledgement_is_that_persons_and_needs_no_answer(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        assert await press(office, slack, (await offered(office))["ack"].token) == ""
        assert await said_by(office, "anna") == [f.Acknowledged()]
        assert (await incident(office)).acknowledged is not None
        assert await said_by(office, "otto") == [], "a name in the payload is nobody's"


async def test_a_takeover_is_handed_to_whoever_executes(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        turns = len(office.turns)
        await press(office, slack, (await offered(office))["takeover"].token)
        assert await said_by(office, "anna") == [f.TakenOver()]
        assert len(office.turns) == turns + 1


async def test_an_entry_of_a_menu_is_pressed_like_a_button(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        chosen = {
            "type": "overflow",
            "action_id": "m",
            "selected_option": {"value": (await offered(office))["cancel"].token},
        }
        await press(office, slack, "", actions=[chosen])
        assert await said_by(office, "anna") == [f.RunStopped(run=1)]


async def test_a_manual_step_is_done(tmp_path: Path) -> None:
    async with desk(tmp_path, "CacheDown") as (office, slack):
        token = (await offered(office))["done"].token
        assert await press(office, slack, token) == ""
        assert await said_by(office, "anna") == [f.ManualDone(run=1, step="look")]
        assert "the step waits for nobody any more" in await press(office, slack, token, "otto")


async def test_what_nobody_knew_is_settled_by_an_operator(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        await office.run_on(Outcome.UNKNOWN)
        token = (await offered(office))["settle"].token
        said = await press(office, slack, token, "anna")
        assert "needs the role operator, which anna has not" in said
        assert said.endswith(NOTHING)
        assert "Done: you have settled " in await press(office, slack, token, "otto")
        assert [fact.kind for fact in await said_by(office, "otto")] == ["settled"]
        assert office.count("responder_credentials_refused_total", door="slack", reason="role") == 1


async def test_all_automation_is_paused_by_an_operator_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        token = (await offered(office))["pause"].token
        assert "needs the role operator" in await press(office, slack, token, "anna")
        assert (await office.call("GET", "/status", "anna")).json()["pause"] is None
        assert "Done: all automation is paused" in await press(office, slack, token, "otto")
        pause = (await office.call("GET", "/status", "anna")).json()["pause"]
        assert pause["actor"] == "otto"
        assert pause["reason"].startswith("in Slack, because of incident ")
        office.time += MINUTE
        assert "you paused all automation at" in await press(office, slack, token, "otto")
        assert (await office.call("GET", "/status", "anna")).json()["pause"]["at"] == pause["at"]


# --- approvals --------------------------------------------------------------------------------------------------------


async def test_an_approval_needs_the_role_that_its_step_names(tmp_path: Path) -> None:
    async with desk(tmp_path, "Asks", rules=asking()) as (office, slack):
        await office.run_on(Outcome.OK)
        token = (await offered(office))["approve"].token
        for stranger in ("anna", "otto"):
            assert "“Approve” needs the role risk-manager" in await press(office, slack, token, stranger)
        assert (await offered(office))["approve"].token == token, "nothing has changed"
        assert await press(office, slack, token, "rita") == "Done: you have approved 0.25 to 0.1."
        assert [fact.step for fact in await said_by(office, "rita") if isinstance(fact, f.Approved)] == ["cut"]
        assert "you approved it at" in await press(office, slack, token, "rita")
        assert "rita approved it at" in await press(office, slack, token, "ruth")


async def test_a_no_ends_it(tmp_path: Path) -> None:
    async with desk(tmp_path, "Asks", rules=asking()) as (office, slack):
        await office.run_on(Outcome.OK)
        now = await offered(office)
        assert "you have denied 0.25 to 0.1" in await press(office, slack, now["deny"].token, "rita")
        said = await press(office, slack, now["approve"].token, "ruth")
        assert "rita denied it at" in said
        assert not [fact for fact in await said_by(office, "ruth") if isinstance(fact, f.Approved)]


async def test_two_different_people_approve_what_they_both_saw(tmp_path: Path) -> None:
    async with desk(tmp_path, "Asks", rules=asking(2)) as (office, slack):
        await office.run_on(Outcome.OK)
        first = (await offered(office))["approve"].token
        assert "1 of 2 people have approved" in await press(office, slack, first, "rita")
        assert "1 of 2 people have approved, and it waits for more" in await press(office, slack, first, "ruth")
        second = (await offered(office))["approve"].token
        assert second != first
        assert "2 different people must" in await press(office, slack, second, "rita")
        assert await press(office, slack, second, "ruth") == "Done: you have approved 0.25 to 0.1."
        people = [actor for actor, fact in await journal(office) if isinstance(fact, f.Approved)]
        assert people == ["rita", "ruth"]


async def test_two_people_who_press_at_once_count_once(tmp_path: Path) -> None:
    async with desk(tmp_path, "Asks", rules=asking()) as (office, slack):
        await office.run_on(Outcome.OK)
        token = (await offered(office))["approve"].token
        bodies = [form(payload(token, who, slack.answer_to)) for who in ("rita", "ruth", "rita")]
        assert {a.status_code for a in await asyncio.gather(*(post(office, body) for body in bodies))} == {200}
        await office.presses.stop(5.0)
        assert len([fact for _, fact in await journal(office) if isinstance(fact, f.Approved)]) == 1
        told = sorted(answer["text"][:12] for answer in slack.answers)
        assert told == ["Done: you ha", "This button ", "This button "]


# --- old buttons, and what is none ------------------------------------------------------------------------------------


async def test_an_old_button_does_nothing_and_says_what_has_become_of_it(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        token = (await offered(office))["ack"].token
        await office.call("POST", f"/incidents/{(await incident(office)).id}/ack", "otto")
        office.time += MINUTE
        said = await press(office, slack, token)
        assert said == f"This button is old: otto acknowledged it at <!date^1800000000^{{time}}|08:00 UTC>. {NOTHING}"
        await press(office, slack, (await offered(office))["takeover"].token, "otto")
        assert "otto took it over at <!date^1800000060^" in await press(office, slack, token)
        assert await said_by(office, "anna") == []


async def test_a_double_click_counts_once_and_is_told_mildly(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        body = form(payload((await offered(office))["ack"].token, "anna", slack.answer_to))
        await asyncio.gather(*(post(office, body) for _ in range(3)))
        await office.presses.stop(5.0)
        assert await said_by(office, "anna") == [f.Acknowledged()]
        assert [a["text"].split(" at ")[0] for a in slack.answers] == 2 * ["This button is old: you acknowledged it"]


async def test_a_closed_incident_offers_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path, "Nobody") as (office, slack):
        token = (await offered(office))["ack"].token
        await office.post(notification(alert("Nobody", firing=False, ends=office.time)))
        assert (await incident(office)).closed
        assert "This button is old: the incident was closed at" in await press(office, slack, token)


@pytest.mark.parametrize("change", ["hex", "verb", "incident"])
async def test_a_token_that_was_tampered_with_opens_nothing(tmp_path: Path, change: str) -> None:
    async with desk(tmp_path) as (office, slack):
        name, verb, digest = (await offered(office))["ack"].token.split("|")
        forged = {
            "hex": f"{name}|{verb}|{digest[:-1]}{'0' if digest[-1] != '0' else '1'}",
            "verb": f"{name}|pause|{digest}",
            "incident": f"{name}x|{verb}|{digest}",
        }[change]
        assert NOTHING in await press(office, slack, forged, "otto")
        assert await said_by(office, "otto") == []


async def test_somebody_who_is_not_configured_is_told_how_to_be(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        said = await press(office, slack, (await offered(office))["ack"].token, "U0STRANGER")
        assert "`slack: U0STRANGER` below your name in responder.yaml" in said
        assert NOTHING in said
        odd = await press(office, slack, (await offered(office))["ack"].token, "<!channel>")
        assert "`slack: U…`" in odd
        assert (await incident(office)).acknowledged is None
        assert office.count("responder_credentials_refused_total", door="slack", reason="role") == 2


@pytest.mark.parametrize(
    "other",
    [
        {"type": "view_submission", "view": {"id": "V1"}},
        {"type": "block_actions", "actions": []},
        {
            "type": "block_actions",
            "user": None,
            "actions": [{"action_id": "link", "type": "button", "url": "https://x"}],
        },
        {"type": "block_actions", "actions": [{"value": "another|app's button"}, None, 7]},
        {"type": "block_actions", "actions": {"value": "x"}},
        {"type": {"no": "text"}},
        {},
    ],
)
async def test_what_is_nothing_of_ours_is_accepted_and_ignored(tmp_path: Path, other: dict[str, Any]) -> None:
    async with desk(tmp_path) as (office, slack):
        answer = await post(office, form(other))
        assert (answer.status_code, answer.content) == (200, b"")
        await office.presses.stop(5.0)
        assert slack.answers == []


# --- the door ---------------------------------------------------------------------------------------------------------


async def test_what_slack_did_not_sign_now_is_refused_and_counted(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, _):
        body, now = form(payload((await offered(office))["ack"].token)), office.time // SECOND
        good = signature(body, now)
        wrong: list[tuple[dict[str, str], str]] = [
            ({}, "no header X-Slack-Signature"),
            ({**good, "x-slack-signature": good["x-slack-signature"].replace("v0", "v1")}, "not of this body"),
            ({**good, "x-slack-signature": ""}, "not of this body"),
            ({**good, "x-slack-signature": "v0=ü"}, "not of this body"),
            (signature(body, now, "another-secret"), "not of this body"),
            (signature(body + b"&a=b", now), "not of this body"),
            ({**good, "x-slack-request-timestamp": str(now + 1)}, "not of this body"),
            ({**good, "x-slack-request-timestamp": "soon"}, "no Unix time"),
            (signature(body, now - 301), "more than 5 minutes"),
            (signature(body, now + 301), "more than 5 minutes"),
        ]
        for headers, why in wrong:
            sent = [(name.encode(), value.encode()) for name, value in headers.items()]
            answer = await office.client.post("/webhook/slack", content=body, headers=sent)
            assert (answer.status_code, why in answer.text) == (401, True), (headers, answer.text)
        assert (await incident(office)).acknowledged is None
        assert office.count("responder_credentials_refused_total", door="slack", reason="missing") == 1
        assert office.count("responder_credentials_refused_total", door="slack", reason="wrong") == len(wrong) - 1


async def test_a_replay_within_its_time_finds_nothing_and_after_it_no_entry(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        body = form(payload((await offered(office))["ack"].token, "anna", slack.answer_to))
        headers = signature(body, office.time // SECOND)
        for passed, status in ((0, 200), (5 * MINUTE, 200), (SECOND, 401)):
            office.time += passed
            assert (await office.client.post("/webhook/slack", content=body, headers=headers)).status_code == status
        assert await said_by(office, "anna") == [f.Acknowledged()]


async def test_any_of_several_apps_may_have_signed(tmp_path: Path) -> None:
    async with desk(tmp_path, signing=("first", SIGNING)) as (office, slack):
        await press(office, slack, (await offered(office))["ack"].token)
        assert await said_by(office, "anna") == [f.Acknowledged()]


async def test_other_methods_sizes_and_a_door_that_is_not_configured(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, _):
        got = await office.client.get("/webhook/slack")
        assert (got.status_code, got.headers["allow"]) == (405, "POST")
        assert (await post(office, b"payload=" + b"x" * 262_144)).status_code == 413
        assert (await post(office, b"ssl_check=1&token=t")).status_code == 200
    (tmp_path / "closed").mkdir()
    async with desk(tmp_path / "closed", signing=()) as (office, _):
        closed = await post(office, b"payload={}")
        assert (closed.status_code, "signing_secret" in closed.text) == (404, True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"payload=",
        b"payload=[]",
        b"payload={",
        b"payload=%ff",
        b"\xff",
        b"{}",
        b"a=1&" * 30,
        b"payload=" + b"[" * 200_000,
    ],
)
async def test_a_signed_body_that_slack_would_not_send_is_400(tmp_path: Path, body: bytes) -> None:
    async with desk(tmp_path) as (office, _):
        answer = await post(office, body)
        assert answer.status_code == 400
        assert answer.json()["error"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


async def test_no_payload_however_odd_is_an_error_or_does_anything(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        token = (await offered(office))["ack"].token
        usual = payload(token, "U0STRANGER", slack.answer_to)
        loop, seen = asyncio.get_running_loop(), len(await journal(office))

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.sampled_from(sorted(usual)), JSON, st.binary(max_size=40))
        def tried(field: str, value: Any, raw: bytes) -> None:
            odd = form({**usual, field: value})
            for body in (odd, raw):
                answer = asyncio.run_coroutine_threadsafe(post(office, body), loop).result(30)
                assert answer.status_code == 200 if body is odd else answer.status_code in (200, 400)

        await asyncio.to_thread(tried)
        assert len(await journal(office)) == seen


# --- what the presser is told, and where ------------------------------------------------------------------------------


async def test_an_answer_is_for_the_presser_alone_and_goes_where_the_button_stands(tmp_path: Path) -> None:
    async with desk(tmp_path) as (office, slack):
        reply = {"ts": "1800000002.000200", "thread_ts": "1800000000.000100"}
        token = (await offered(office))["pause"].token
        await press(office, slack, token, "anna", message=reply)
        await press(office, slack, token, "anna", message={"ts": "1800000000.000100", "thread_ts": "1800000000.000100"})
        first, second = slack.answers
        assert (first["response_type"], first["replace_original"]) == ("ephemeral", False)
        assert first["thread_ts"] == "1800000000.000100"
        assert "thread_ts" not in second


@pytest.mark.parametrize(
    "elsewhere",
    [
        "http://hooks.slack.com/actions/1",
        "https://hooks.slack.com.example.com/actions/1",
        "https://hooks.slack.com@127.0.0.1/actions/1",
        "https://hooks.slack.com:8443/actions/1",
        "http://127.0.0.1:1/actions/1",
        "ftp://hooks.slack.com/1",
        "https://[",
        "file:///etc/passwd",
    ],
)
async def test_an_address_that_is_not_slacks_is_never_posted_to(
    tmp_path: Path, elsewhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk(tmp_path) as (office, slack):
        body = form(payload((await offered(office))["ack"].token, "U0STRANGER", elsewhere))
        assert (await post(office, body)).status_code == 200
        await office.presses.stop(5.0)
        assert "the address for an answer is none of Slack's" in caplog.text
        assert slack.answers == []


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_an_answer_that_slack_does_not_take_costs_nothing_else(
    tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk(tmp_path) as (office, slack):
        slack.answer_status = status  # a redirect is not followed: the fake refuses what is elsewhere
        await press(office, slack, (await offered(office))["ack"].token, "U0STRANGER")
        assert f"Slack takes no answer ({status})" in caplog.text
        assert slack.answer_to not in caplog.text


# --- while the store is slow or gone ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stuck:
    """An operation that holds the store's writer until it is let go."""

    id: str
    began: threading.Event
    free: threading.Event

    def reads(self) -> Keys:
        return Keys()

    def apply(self, state: State) -> Change[None]:
        self.began.set()
        assert self.free.wait(30)
        return Change(Writes(), None)


async def test_slack_is_answered_in_time_and_the_press_goes_on(tmp_path: Path) -> None:
    async with FakeSlackApp() as slack:
        made = {"signing": (SIGNING,), "presses": {"slacks": (account(slack),), "patience": 0.05}}
        async with serving(tmp_path, **made) as office:
            await office.post(notification(alert()))
            token, free = (await offered(office))["ack"].token, threading.Event()
            holds = Stuck("stuck", threading.Event(), free)
            stuck = asyncio.create_task(office.store.submit(holds))
            assert await asyncio.to_thread(holds.began.wait, 30)
            answer = await post(office, form(payload(token)))
            assert (answer.status_code, answer.content) == (200, b"")
            assert not stuck.done()
            free.set()
            await stuck
            await office.presses.stop(5.0)
            assert await said_by(office, "anna") == [f.Acknowledged()]


async def test_a_mistake_of_ours_is_told_and_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk(tmp_path) as (office, slack):
        token = (await offered(office))["ack"].token

        async def broken(operation: object) -> None:
            raise ZeroDivisionError("a mistake")

        monkeypatch.setattr(office.store, "submit", broken)
        said = await press(office, slack, token)
        assert "what became of it is not known; look at the incident" in said
        assert "ZeroDivisionError" in caplog.text


async def test_while_nothing_can_be_stored_slack_and_the_presser_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(tmp_path) as (office, slack):
        token = (await offered(office))["ack"].token

        async def gone(operation: object) -> None:
            raise StoreUnavailable("disk full")

        with monkeypatch.context() as broken:
            broken.setattr(office.store, "submit", gone)
            answer = await post(office, form(payload(token, "anna", slack.answer_to)))
            assert answer.status_code == 503, "Slack shows the presser that it went wrong"
            await office.presses.stop(5.0)
        assert [re.sub(r"<.*?>", "", a["text"]) for a in slack.answers] == [
            f"{NOTHING} The responder can record nothing now; press it again in a minute."
        ]
        assert await press(office, slack, token) == ""
        assert await said_by(office, "anna") == [f.Acknowledged()]
