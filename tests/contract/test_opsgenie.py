"""Opsgenie: every message that the product can send, to a provider that refuses what the real one refuses."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue, ValidationError

from responder.config import read_config
from responder.contracts import Bucket, Catalogue, Message, PagerState, Secret
from responder.engine.emergency import Emergency
from responder.environment import Environment
from responder.errors import Permanent, Temporary, Unknown
from responder.incident import Incident
from responder.notifiers import NOTIFIERS
from responder.notifiers.opsgenie import MAX_ALIAS, MAX_DETAILS, Opsgenie, Party, alias, details, state
from responder.timing import SECOND
from tests.builders import T0, opened, told
from tests.contract.told_messages import HOSTILE, STATES, hostile, message, renamed, secret, unfixed, without_template
from tests.fakes.opsgenie import JSM, KEY, OPSGENIE, Alert, FakeOpsgenie
from tests.fakes.server import HangsUp
from tests.hostile_values import HOSTILE as VALUES

OLDER, PAGE, LATER = (f"responder/main/i1/desk/{occasion}" for occasion in ("m0.0", "l0.0", "l0.1"))
REPLACED = "replaced by a later page of the same incident"


def opsgenie(server: FakeOpsgenie, **more: Any) -> Opsgenie:
    return Opsgenie(**{"key": secret(KEY), "base_url": server.base_url, **more})


def page(notifier: Opsgenie, about: Incident | None = None, **changes: Any) -> Message:
    return replace(message(notifier, "page", about or unfixed()), **changes)


def saying(notifier: Opsgenie, kind: str, text: str = "asha has it: looking", **changes: Any) -> Message:
    """A word about the alert of the page: its end, an acknowledgement, a note."""
    lane = "thread" if kind == "note" else "page"
    resolves = kind == "resolve"
    return page(notifier, kind=kind, lane=lane, text=text, body=None, resolves=resolves, **changes)


async def taken(*kinds: str, about: Incident | None = None, **settings: Any) -> Alert:
    """The one alert after a page and these words."""
    async with FakeOpsgenie() as server:
        notifier = opsgenie(server, **settings)
        await notifier.send(page(notifier, about))
        for kind in kinds:
            await notifier.send(saying(notifier, kind))
        await notifier.stop()
        [found] = server.alerts
        return found


# --- what people see --------------------------------------------------------------------------------------------------


async def test_a_page_is_an_alert_that_says_what_happened_and_where() -> None:
    found = await taken()
    [body] = found.created
    assert body["message"].startswith("[critical] VaR above 90 % of its limit: risk-api/kelly_fraction. Kelly fraction")
    assert (body["priority"], body["entity"], body["source"]) == ("P1", "risk-api/kelly_fraction", "responder")
    lines = dict(line.split(": ", 1) for line in body["description"].splitlines() if ": " in line)
    assert lines["Done"] == "var-breach: Kelly fraction 0.25 → 0.1 (VaR breach) (done: kelly_fraction is 0.1)"
    assert lines["Helped"] == "ineffective: 1.94 < 1.7 did not hold within 2m"
    assert lines["To take it"] == "responder ack i1"
    assert body["details"] == {
        "incident": "i1",
        "severity": "critical",
        "runbook": "var-breach",
        "platform": "edge-risk",
        "env": "prod",
        "dashboard": "https://grafana.example/d/edge-risk?a=1&b=2",
    }
    assert not body.keys() & {"responders", "tags"}


@pytest.mark.parametrize("base", [OPSGENIE, JSM])
async def test_it_is_one_alert_until_it_is_closed_and_another_one_afterwards(base: str) -> None:
    async with FakeOpsgenie(base) as server:
        notifier = opsgenie(server)
        kept = await notifier.send(page(notifier))
        await notifier.send(page(notifier, attempt=2))
        await notifier.send(saying(notifier, "resolve", "it is over"))
        await notifier.send(page(notifier))
        await notifier.stop()
        first, second = server.alerts
        assert json.loads(kept) == {"request": "r1"}
        assert (first.open, len(first.created), first.closed) == (
            False, 2, {"note": "it is over", "user": "desk", "source": "responder"}
        )  # fmt: skip
        assert (second.open, second.alias) == (True, first.alias)


async def test_acknowledgements_and_notes_arrive_with_whose_they_are() -> None:
    found = await taken("acknowledge", "note")
    word = {"note": "asha has it: looking", "user": "desk", "source": "responder"}
    assert (found.open, found.acknowledged, found.notes) == (True, word, [word])


@pytest.mark.parametrize(
    ("severity", "priority"),
    [("critical", "P1"), ("high", "P2"), ("warning", "P3"), ("info", "P5"), (None, "P1"), ("sev-2", "P1")],
)
async def test_a_severity_has_its_priority_and_an_unknown_one_the_highest(severity: str | None, priority: str) -> None:
    found = await taken(about=told(opened(severity=severity)))
    assert found.created[0]["priority"] == priority


async def test_alerts_go_to_whom_they_are_routed_to() -> None:
    parties = [{"type": "team", "name": "risk"}, {"type": "user", "username": "asha@example.com"}]
    found = await taken(responders=parties, tags=["trading", "automation"])
    assert (found.created[0]["responders"], found.created[0]["tags"]) == (parties, ["trading", "automation"])


async def test_a_page_closes_nothing() -> None:
    async with FakeOpsgenie() as server:
        notifier = opsgenie(server)
        await notifier.send(page(notifier, key=OLDER))
        kept = await notifier.send(page(notifier))
        assert json.loads(kept) == {"request": "r2"}
        assert [one.open for one in server.alerts] == [True, True]
        await notifier.send(page(notifier, kind="resolve", key=OLDER))
        await notifier.stop()
        assert [(one.alias, one.open) for one in server.alerts] == [(alias(OLDER), False), (alias(PAGE), True)]


@pytest.mark.parametrize("kind", ["root", "thread", "change"])
async def test_what_is_no_word_about_an_alert_is_not_sent(kind: str) -> None:
    async with FakeOpsgenie() as server:
        notifier = opsgenie(server)
        assert await notifier.send(page(notifier, kind=kind)) == ""
        await notifier.stop()
        assert server.calls == []
    passed = {"change": True, "move": True, "acknowledge": False, "note": False, "page": False, "resolve": False}
    assert {template: notifier.passes_over(template, sent=False) for template in passed} == passed


async def test_a_broken_template_costs_only_the_form_and_the_emergency_page_has_none() -> None:
    async with FakeOpsgenie() as server:
        notifier = opsgenie(server)
        await notifier.send(without_template(page(notifier), "plain text"))
        emergency = Emergency("main", {"ops": notifier}, lambda: T0)
        await emergency.store_down("disk full")
        await emergency.store_back()
        await notifier.stop()
        first, second = (one.created[0] for one in server.alerts)
        assert (first["message"], first["description"]) == ("plain text", "plain text")
        assert (second["priority"], second["description"].endswith("disk full")) == ("P1", True)
        assert [one.open for one in server.alerts] == [True, False]


# --- names and values -------------------------------------------------------------------------------------------------


async def test_any_text_is_within_the_limits_and_begins_no_tag() -> None:
    texts = {**HOSTILE, **VALUES, "astral only": "😀" * 20_000, "tags": "<b>" * 9_000, "long name": "n" * 300}
    async with FakeOpsgenie() as server:
        notifier = opsgenie(server)
        for number, (name, text) in enumerate(texts.items()):
            key = f"responder/{number}/{text}"
            given = renamed(page(notifier, hostile(text), key=key), text)
            for form in (given, without_template(given, text or "-")):
                await notifier.send(form)
            for kind in ("acknowledge", "note", "resolve"):
                await notifier.send(saying(notifier, kind, f"said: {text}", key=key))
            found = server.alerts[-1]
            assert (len(found.created), found.open, len(found.notes)) == (2, False, 1), name
            assert "<img" not in json.dumps(found.created) + json.dumps(found.notes)
            assert "<b>" not in json.dumps(found.created) + json.dumps(found.notes)
        await notifier.stop()


@pytest.mark.parametrize("value", [v for v in VALUES.values() if len(v) < 400])
def test_no_value_begins_a_line_of_the_description(value: str) -> None:
    notifier = Opsgenie(key=secret(KEY))

    def lines(text: str) -> int:
        body: Any = page(notifier, told(opened(title=text, target=text, impact=text))).body
        assert "\n" not in body["message"]
        return len(body["description"].splitlines())

    assert lines(value) == lines("BTC-USD")


def test_comparisons_stay_readable() -> None:
    found = details(told(opened(labels={"why": "1.94 < 1.7 <b>x</b>"})))
    assert found["why"] == "1.94 < 1.7 ‹b>x‹/b>"


def test_no_label_takes_the_place_of_what_is_ours_and_all_details_fit() -> None:
    many = {f"label_{n}": "W" * 2_000 for n in range(50)}
    found = details(told(opened(labels={"incident": "forged", "runb\u200book": "forged", **many})))
    assert (found["incident"], found["runbook"]) == ("i1", "cut")
    assert 5_000 < sum(len(f"{name}{value}") for name, value in found.items()) <= MAX_DETAILS


def test_an_alias_is_a_part_of_a_path_and_every_key_has_its_own() -> None:
    keys = [
        PAGE,
        PAGE.replace("/", "-"),
        PAGE.replace("/", "_"),
        "k" * 400 + "a",
        "k" * 400 + "b",
        "a/b",
        "a//b",
        "a b",
    ]
    found = [alias(key) for key in keys]
    assert len(set(found)) == len(keys)
    assert all(len(one) <= MAX_ALIAS and not set(one) & set("/%? #") for one in found)
    assert found[0].startswith("responder-main-i1-desk-l0.0-")
    assert found[1] == keys[1]


# --- what the pager says ----------------------------------------------------------------------------------------------


async def test_it_can_be_asked_how_its_alert_stands() -> None:
    async with FakeOpsgenie() as server:
        notifier = opsgenie(server)
        seen = [await notifier.asked(PAGE)]
        await notifier.send(page(notifier))
        seen.append(await notifier.asked(PAGE))
        for kind in ("acknowledge", "resolve"):
            await notifier.send(saying(notifier, kind))
            seen.append(await notifier.asked(PAGE))
        await notifier.stop()
        assert seen == [
            None,
            PagerState("triggered"),
            PagerState("acknowledged", "desk"),
            PagerState("resolved", "desk"),
        ]


async def test_a_key_that_may_not_read_and_jira_service_management_have_no_answer() -> None:
    async with FakeOpsgenie(JSM) as server:
        notifier = opsgenie(server)
        assert (notifier.answers, await notifier.asked(PAGE), server.calls) == (False, None, [])
    async with FakeOpsgenie() as server:
        notifier = opsgenie(server)
        assert notifier.answers
        server.fail(403, "no rights")
        assert await notifier.asked(PAGE) is None
        server.fail(503)
        with pytest.raises(Temporary, match="503"):
            await notifier.asked(PAGE)
        await notifier.stop()


@pytest.mark.parametrize(
    "body", ["text", None, [], {}, {"data": []}, {"data": {"status": "snoozed?"}}, {"data": {"status": None}}]
)
def test_an_answer_that_does_not_say_it_says_nothing(body: Any) -> None:
    assert state(body) is None


def test_who_acknowledged_is_the_owner_where_there_is_no_report() -> None:
    known: JsonValue = {"status": "open", "acknowledged": True, "owner": "asha@example.com", "report": None}
    assert state({"data": known}) == PagerState("acknowledged", "asha@example.com")


# --- what an answer means ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "expected", "said"),
    [
        (400, {}, Permanent, "400: not now; check the notifier's settings"),
        (401, {}, Permanent, "env THE_SECRET holds the key of an API integration that is on"),
        (402, {}, Permanent, "plan"),
        (403, {}, Permanent, "the right to create"),
        (404, {}, Permanent, "check base_url"),
        (422, {}, Permanent, "responders and tags"),
        (301, {"Location": "https://elsewhere.example/"}, Permanent, "redirects are not followed"),
        (429, {"Retry_After": "7", "X_RateLimit_Period_In_Sec": "60"}, Temporary, "429"),
        (429, {"X_RateLimit_Period_In_Sec": "60"}, Temporary, "429"),
        (429, {"X_RateLimit_Period_In_Sec": "soon"}, Temporary, "429"),
        (408, {}, Temporary, "408"),
        (500, {}, Temporary, "500"),
        (503, {"Retry_After": "7"}, Temporary, "503"),
    ],
)
async def test_an_answer_says_whether_to_try_again(
    status: int, headers: dict[str, Any], expected: type[Exception], said: str
) -> None:
    async with FakeOpsgenie() as server:
        server.fail(status, **headers)
        notifier = opsgenie(server)
        with pytest.raises(expected, match=said) as raised:
            await notifier.send(page(notifier))
        await notifier.stop()
        assert server.calls == ["alerts"], "the outbox alone tries again"
        wait = {"7": 7, "60": 60}.get(headers.get("Retry_After") or headers.get("X_RateLimit_Period_In_Sec", ""))
        assert getattr(raised.value, "retry_after", None) == wait


async def test_a_refusal_names_the_fields_that_are_wrong() -> None:
    async with FakeOpsgenie() as server:
        notifier = opsgenie(server)
        with pytest.raises(Permanent, match=r"422: Request body .* errors\. \(note: Note can not be empty\.\)"):
            await notifier.send(saying(notifier, "note", ""))
        await notifier.stop()


@pytest.mark.parametrize("kind", ["resolve", "acknowledge", "note"])
async def test_nothing_is_to_be_done_about_an_alert_that_is_gone(kind: str) -> None:
    async with FakeOpsgenie() as server:
        notifier = opsgenie(server)
        await notifier.send(saying(notifier, kind))
        server.fail(404, "Alert not found")
        await notifier.send(saying(notifier, kind))
        await notifier.stop()
        assert (len(server.calls), server.alerts) == (2, [])


async def test_a_lost_answer_is_asked_for_again_where_the_alias_makes_it_one() -> None:
    async with HangsUp() as silent:
        notifier = Opsgenie(key=secret(KEY), base_url=silent.url)
        for kind in ("page", "resolve", "acknowledge"):
            with pytest.raises(Temporary, match="counts once"):
                await notifier.send(page(notifier) if kind == "page" else saying(notifier, kind))
        with pytest.raises(Unknown, match="the connection was lost"):
            await notifier.send(saying(notifier, "note"))
        with pytest.raises(Temporary, match="the connection was lost"):
            await notifier.asked(PAGE)
        await notifier.stop()
        assert silent.connections == 5
    nobody = Opsgenie(key=secret(KEY), base_url="http://127.0.0.1:9")
    with pytest.raises(Temporary, match="nothing was sent"):
        await nobody.send(page(nobody))


# --- the key and other settings ---------------------------------------------------------------------------------------


async def test_no_failure_shows_the_key(caplog: pytest.LogCaptureFixture) -> None:
    wrong = "f" * 36
    with caplog.at_level(logging.DEBUG):
        async with FakeOpsgenie() as server:
            notifier = opsgenie(server, key=secret(wrong))
            with pytest.raises(Permanent, match="401: Could not authenticate") as first:
                await notifier.send(page(notifier))
            server.fail(403, f"GenieKey {wrong} may not do this; {wrong} has no rights")
            with pytest.raises(Permanent, match="has no rights") as second:
                await notifier.send(page(notifier))
            await notifier.stop()
    assert wrong not in str(first.value) + str(second.value) + repr(notifier) + caplog.text


async def test_an_empty_key_is_named_by_its_place_and_a_rotated_one_taken_at_once() -> None:
    keys = iter(["  \n", f"{KEY}\n"])
    async with FakeOpsgenie() as server:
        notifier = opsgenie(server, key=Secret("env K", lambda: next(keys)))
        with pytest.raises(Permanent, match="env K is empty"):
            await notifier.send(page(notifier))
        await notifier.send(page(notifier))
        await notifier.stop()
        assert len(server.alerts) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://api.opsgenie.com",
        "http://127.0.0.1.evil.example/",
        "https://user:hunter2@api.opsgenie.com",
        "https://api.opsgenie.com?key=hunter2",
        "https://api.opsgenie.com/v2/alerts",
        "https://api.opsgenie.com/v2/",
        "https://",
    ],
)
def test_addresses_that_are_no_api(url: str) -> None:
    with pytest.raises(ValidationError, match="base_url") as raised:
        Opsgenie(key=secret(KEY), base_url=url)
    assert "hunter2" not in str(raised.value.errors(include_input=False))


@pytest.mark.parametrize(
    ("party", "said"),
    [
        ({"type": "team"}, "a team is named by `name`"),
        ({"type": "user", "name": "asha"}, "a user is named by `username`"),
        ({"type": "schedule", "name": "n", "username": "u"}, "a schedule is named by `name`"),
        ({"type": "teams", "name": "n"}, "type"),
    ],
)
def test_a_party_is_named_as_its_type_wants_it(party: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Party.model_validate(party)


def test_it_is_read_from_the_configuration() -> None:
    text = """
notifiers:
  risk-oncall:
    kind: opsgenie
    key: {env: OPSGENIE_KEY}
    base_url: https://api.eu.opsgenie.com
    responders:
      - {type: team, name: Risk}
      - {type: user, username: asha@example.com}
    tags: [trading, automation]
"""
    environment = Environment({"OPSGENIE_KEY": KEY}, Path())
    config = read_config("responder.yaml", text, Catalogue({}, NOTIFIERS, {}), environment)
    found = config.notifiers["risk-oncall"]
    assert isinstance(found, Opsgenie)
    assert (found.pages, found.chats, found.replays) == (True, False, False)
    counted = Bucket("opsgenie", found.key.digest(), SECOND // 2, 10)
    elsewhere = unfixed().model_copy(update={"channel": "#quant"})
    assert found.bucket("a", elsewhere, "page", sent=False) == counted, "an account is counted as one"
    assert [party.name or party.username for party in found.responders] == ["Risk", "asha@example.com"]


@pytest.mark.parametrize("state_of", STATES)
async def test_every_state_can_be_paged(state_of: str) -> None:
    found = await taken("acknowledge", "note", "resolve", about=STATES[state_of]())
    assert (found.open, len(found.notes), len(found.created)) == (False, 1, 1)
