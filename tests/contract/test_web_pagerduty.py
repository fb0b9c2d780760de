"""POST /webhook/pagerduty over the real application: who may tell, what is done once, and what is nobody's business."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from responder import facts as f
from responder.contracts import Secret
from responder.errors import BadConfig
from responder.incident import Incident
from responder.notifiers.pagerduty import PagerDuty
from responder.web import Parts, create_web, pagerduty_notifiers
from responder.web import pagerduty as module
from tests.contract.web_parts import Office, alert, notification, secret
from tests.fakes.pagerduty import INTEGRATION, KEY, SECRET, SENDER, TOKEN, FakePagerDuty, Page, person, post, signed
from tests.fakes.pagerduty import webhook as told
from tests.fakes.server import HangsUp

PATH = "/webhook/pagerduty"
ASHA = "Asha Rao (PagerDuty)"


class PagedOffice(Office):
    """The application with pagers. `incident` is open, and paged as `page` in PagerDuty."""

    pagers: dict[str, PagerDuty]
    incident: str
    page: Page

    def parts(self) -> Parts:
        parts = super().parts()
        parts.pagerduty = pagerduty_notifiers(dict(self.pagers))
        return parts

    async def fold(self) -> Incident:
        """The incident as it is now."""
        row = await self.store.incident(self.incident)
        assert row is not None
        return row.fold

    async def words(self) -> list[tuple[str, f.Fact]]:
        """What people have said about the incident, with who it was."""
        kinds = ("acknowledged", "unacknowledged", "noted")
        return [(e.actor, e.fact) for e in await self.store.events(self.incident) if e.fact.kind in kinds]

    async def say(self, body: bytes, *secrets: str) -> int:
        """Deliver a webhook that is taken; answers how many incidents heard it."""
        answer = await post(self.client, body, *secrets)
        assert answer.status_code == 202, answer.text
        return int(answer.json()["heard"])


def pager(url: str = "https://pagerduty.invalid", **more: Any) -> PagerDuty:
    known = {"routing_key": secret(KEY), "base_url": url, "webhook_secret": secret(SECRET)}
    return PagerDuty(**{**known, **more})


@asynccontextmanager
async def paged(path: Path, **pagers: PagerDuty) -> AsyncIterator[PagedOffice]:
    """The application with an incident that `desk` was paged about."""
    office = PagedOffice({}, [])
    office.pagers = pagers or {"desk": pager()}
    await asyncio.to_thread(office.open, path)
    transport = httpx.ASGITransport(create_web(office.parts()))
    office.client = httpx.AsyncClient(transport=transport, base_url="http://responder")
    try:
        async with office.client:
            await office.post(notification(alert()))
            office.incident = office.turns[-1].incident.id
            office.page = Page(f"responder/test/{office.incident}/desk/l0.0", id="Q1ABC")
            yield office
    finally:
        for one in office.pagers.values():
            await one.stop()
        await office.store.close()


# --- what people do there ---------------------------------------------------------------------------------------------


async def test_who_acknowledges_in_pagerduty_has_it_here(tmp_path: Path) -> None:
    async with paged(tmp_path) as office:
        assert await office.say(told("incident.acknowledged", office.page, person(), "E1")) == 1
        assert await office.words() == [(ASHA, f.Acknowledged(via="desk", word="E1"))]
        owner = (await office.fold()).acknowledged
        assert owner is not None
        assert owner.actor == ASHA
        assert office.turns[-1].incident.acknowledged is not None, "whoever executes hears of it"


async def test_what_is_delivered_again_counts_once(tmp_path: Path) -> None:
    async with paged(tmp_path) as office:
        acknowledged = told("incident.acknowledged", office.page, person(), "E1")
        for body in (acknowledged, acknowledged, told("incident.unacknowledged", office.page, None, "E2")):
            await office.say(body)
        await office.say(acknowledged)
        assert await office.words() == [
            (ASHA, f.Acknowledged(via="desk", word="E1")),
            ("PagerDuty", f.Unacknowledged(via="desk", word="E2")),
        ]
        assert (await office.fold()).acknowledged is None, "an old word does not come true again"


async def test_a_resolve_there_is_an_acknowledgement_here(tmp_path: Path) -> None:
    async with paged(tmp_path) as office:
        body = told("incident.resolved", office.page, person(), "E1")
        await office.say(body)
        await office.say(body)
        assert await office.words() == [
            (
                ASHA,
                f.Noted(text="resolved in PagerDuty; it goes on here until the alert is over", via="desk", word="E1"),
            ),
            (ASHA, f.Acknowledged(via="desk", word="E1.1")),
        ]
        assert not (await office.fold()).closed


@pytest.mark.parametrize("kind", ["incident.acknowledged", "incident.resolved", "incident.triggered"])
@pytest.mark.parametrize("agent", [INTEGRATION, None, {"type": "service_reference", "summary": "Trading"}])
async def test_what_no_person_did_is_no_answer(tmp_path: Path, kind: str, agent: dict[str, str] | None) -> None:
    async with paged(tmp_path) as office:
        await office.say(told(kind, office.page, agent))
        assert await office.words() == []


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        ("reassigned", {"assignees": [person("Bo Lind"), person("Cy")]}, "reassigned to Bo Lind, Cy"),
        ("escalated", {"assignees": [person(f"P{n}") for n in range(7)]}, "escalated to P0, P1, P2, P3, P4 …"),
        ("delegated", {"escalation_policy": {"summary": "Risk"}}, "moved to the escalation policy Risk"),
    ],
)
async def test_where_it_went_there_is_told_here(tmp_path: Path, kind: str, data: dict[str, Any], text: str) -> None:
    async with paged(tmp_path) as office:
        await office.say(told(f"incident.{kind}", office.page, person(), "E1", **data))
        assert await office.words() == [(ASHA, f.Noted(text=text, via="desk", word="E1"))]


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        ("annotated", {"content": "the feed\nis stale"}, "the feed is stale"),
        ("annotated", {"content": "we fixed it (responder i1:x)"}, "we fixed it (responder i1:x)"),
        (
            "responder.added",
            {"user": person("Bo Lind"), "message": "please look"},
            "asks for help of Bo Lind: please look",
        ),
        ("responder.added", {"user": None, "escalation_policy": {"summary": "Risk"}}, "asks for help of Risk"),
        ("status_update_published", {"message": "we look at it"}, "tells stakeholders: we look at it"),
    ],
)
async def test_what_is_written_there_is_told_here(tmp_path: Path, kind: str, data: dict[str, Any], text: str) -> None:
    """These say only PagerDuty's own id, which an earlier event has told."""
    async with paged(tmp_path) as office:
        await office.say(told("incident.triggered", office.page, INTEGRATION))
        assert await office.say(told(f"incident.{kind}", office.page, person(), "E1", **data)) == 1
        assert await office.words() == [(ASHA, f.Noted(text=text, via="desk", word="E1"))]


@pytest.mark.parametrize(
    "content", ["asha has it (responder i1:7)", "it is over (responder i1:12)\n", "", "  ", None, 7, {"a": 1}]
)
async def test_our_own_notes_and_empty_ones_are_no_news(tmp_path: Path, content: Any) -> None:
    async with paged(tmp_path) as office:
        await office.say(told("incident.triggered", office.page, INTEGRATION))
        await office.say(told("incident.annotated", office.page, person(), content=content))
        assert await office.words() == []


async def test_what_is_written_there_is_cut_and_harmless(tmp_path: Path) -> None:
    async with paged(tmp_path) as office:
        await office.say(told("incident.triggered", office.page, INTEGRATION))
        content = "a\x00b\ud800c\u202e\r\n" + "x" * 9_000
        await office.say(told("incident.annotated", office.page, person("E\x00v\nil" * 100), content=content))
        [(actor, fact)] = await office.words()
        assert isinstance(fact, f.Noted)
        assert fact.text.startswith("abc x")
        assert len(fact.text) == 1_000
        assert len(actor) <= 100
        assert "\n" not in actor


# --- whose it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "responder/other/{}/desk/l0.0", "responder/test/nothere/desk/l0.0", "responder/test/store-down",
        "responder/test/{}", "responder/test//desk/l0.0", "responder/test/%00/desk/l0.0", "responder/test/i\x00/desk/l",
        "a" * 64, "", "responder/test/id/desk/l0.0",
    ],
)  # fmt: skip
async def test_what_is_not_ours_is_left_alone(tmp_path: Path, key: str) -> None:
    async with paged(tmp_path) as office:
        other = Page(key.format(office.incident), id="QOTHER")
        assert await office.say(told("incident.acknowledged", other, person())) == 0
        assert await office.words() == []


async def test_the_beginning_of_an_id_is_nobodys(tmp_path: Path) -> None:
    async with paged(tmp_path) as office:
        office.page.key = f"responder/test/{office.incident[:-1]}/desk/l0.0"
        assert await office.say(told("incident.acknowledged", office.page, person())) == 0
        assert await office.words() == []


async def test_what_is_over_hears_nothing_more(tmp_path: Path) -> None:
    async with paged(tmp_path) as office:
        await office.post(notification(alert("CacheDown")))
        office.incident = office.turns[-1].incident.id
        await office.call("POST", f"/incidents/{office.incident}/done", "anna", {"step": "look"})
        await office.post(notification(alert("CacheDown", firing=False)))
        assert (await office.fold()).closed
        page = Page(f"responder/test/{office.incident}/desk/l0.0", id="Q2")
        assert await office.say(told("incident.acknowledged", page, person())) == 0
        assert await office.say(told("incident.reassigned", page, person())) == 0
        assert await office.words() == []


async def test_a_key_that_was_cut_is_said_by_who_signed_it(tmp_path: Path) -> None:
    async with paged(tmp_path) as office:
        office.page.key = f"responder/test/{office.incident}/de#0123"
        await office.say(told("incident.acknowledged", office.page, person(), "E1"))
        assert await office.words() == [(ASHA, f.Acknowledged(via="desk", word="E1"))]


async def test_an_incident_without_a_key_is_looked_up(tmp_path: Path) -> None:
    async with FakePagerDuty() as server:
        one = pager(server.url, api_token=secret(TOKEN), from_email=SENDER, api_url=server.url)
        async with paged(tmp_path, other=pager(webhook_secret=secret("another")), desk=one) as office:
            server.pages.append(office.page)
            body = told("incident.acknowledged", office.page, person(), "E1", incident_key=None)
            assert await office.say(body) == 1
            assert await office.words() == [(ASHA, f.Acknowledged(via="desk", word="E1"))]
            await office.say(told("incident.annotated", office.page, person(), content="on it"))
            assert len(await office.words()) == 2
            assert server.calls == ["GET /incidents/Q1ABC/alerts"], "it is known from now on"


@pytest.mark.parametrize("trouble", ["down", "silent", "forbidden", "no token"])
async def test_what_cannot_be_looked_up_is_left_out_and_said(
    tmp_path: Path, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakePagerDuty() as server, HangsUp() as silent:
        url = silent.url if trouble == "silent" else server.url
        more = {} if trouble == "no token" else {"api_token": secret(TOKEN), "api_url": url}
        async with paged(tmp_path, desk=pager(server.url, **more)) as office:
            if trouble in ("down", "forbidden"):
                server.fail(503 if trouble == "down" else 403)
            assert await office.say(told("incident.acknowledged", office.page, person(), incident_key=None)) == 0
            assert await office.words() == []
            assert 'incident.acknowledged of PagerDuty\'s incident "Q1ABC" is left out' in caplog.text


async def test_what_nobody_needs_to_know_is_not_looked_up(tmp_path: Path) -> None:
    async with FakePagerDuty() as server:
        one = pager(server.url, api_token=secret(TOKEN), from_email=SENDER, api_url=server.url)
        async with paged(tmp_path, desk=one) as office:
            await office.say(told("incident.priority_updated", office.page, person(), incident_key=None))
            await office.say(told("incident.acknowledged", office.page, person(), incident_key="of-another-tool"))
            assert server.calls == []


# --- who may tell -----------------------------------------------------------------------------------------------------


async def test_any_of_the_secrets_and_any_of_the_signatures_will_do(tmp_path: Path) -> None:
    pagers = {"desk": pager(webhook_secret=[secret("new"), secret("old")]), "other": pager(webhook_secret=secret("x"))}
    async with paged(tmp_path, **pagers, quiet=PagerDuty(routing_key=secret(KEY))) as office:
        body = told("incident.acknowledged", office.page, person())
        for secrets in (("new",), ("old",), ("x",), ("wrong", "old"), ("wrong", "worse", "new")):
            await office.say(body, *secrets)
        spaced = signed(body, "wrong", "old")["x-pagerduty-signature"].replace(",", " ,  v2=abc, ")
        answer = await office.client.post(PATH, content=body, headers={"x-pagerduty-signature": spaced})
        assert answer.status_code == 202


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (None, "missing"), ("", "wrong"), ("v1=", "wrong"), ("v1", "wrong"), ("v2={}", "wrong"), ("{}", "wrong"),
        ("v1=ü", "wrong"), ("v1={}0", "wrong"), (",".join(["v1=" + "0" * 64] * 12) + ",v1={}", "wrong"),
    ],
)  # fmt: skip
async def test_a_wrong_signature_is_refused_and_counted(tmp_path: Path, signature: str | None, reason: str) -> None:
    async with paged(tmp_path) as office:
        body = told("incident.acknowledged", office.page, person())
        right = signed(body)["x-pagerduty-signature"].removeprefix("v1=")
        headers = {} if signature is None else {b"x-pagerduty-signature": signature.format(right).encode("latin-1")}
        answer = await office.client.post(PATH, content=body, headers=headers)
        assert (answer.status_code, SECRET in answer.text) == (401, False)
        assert "webhook_secret" in answer.json()["error"]
        assert office.count("responder_credentials_refused_total", door="webhook", reason=reason) == 1
        assert await office.words() == []


async def test_another_body_under_the_same_signature_is_refused(tmp_path: Path) -> None:
    async with paged(tmp_path) as office:
        body = told("incident.acknowledged", office.page, person())
        answer = await office.client.post(PATH, content=body.replace(b"Asha", b"Evil"), headers=signed(body))
        assert answer.status_code == 401


async def test_a_secret_that_is_empty_or_cannot_be_read_opens_nothing(tmp_path: Path) -> None:
    async with paged(tmp_path, desk=pager(webhook_secret=Secret("env EMPTY", lambda: " \n"))) as office:
        body = told("incident.acknowledged", office.page, person())
        for key in ("", " ", " \n"):
            assert (await post(office.client, body, key)).status_code == 503, "PagerDuty is to send it again"
        assert (await office.client.post(PATH, content=body)).status_code == 401, "it signs whatever it sends"
        assert await office.words() == []


async def test_what_the_secret_may_have_signed_that_cannot_be_read_is_to_be_sent_again(tmp_path: Path) -> None:
    def gone() -> str:
        raise BadConfig("/run/secrets/pagerduty cannot be read")

    both = (secret(SECRET), Secret("file /run/secrets/pagerduty", gone))
    async with paged(tmp_path, desk=pager(webhook_secret=both)) as office:
        body = told("incident.acknowledged", office.page, person(), "E1")
        answer = await post(office.client, body, "the-other")
        assert (answer.status_code, "/run/secrets" in answer.text) == (503, False)
        assert await office.say(body) == 1, "the one that can be read is enough"


async def test_without_a_secret_nobody_is_heard(tmp_path: Path) -> None:
    async with paged(tmp_path, desk=PagerDuty(routing_key=secret(KEY))) as office:
        answer = await post(office.client, told("incident.acknowledged", office.page, person()), "")
        assert (answer.status_code, "webhook_secret" in answer.json()["error"]) == (404, True)


async def test_only_a_post_of_bounded_size_is_taken(tmp_path: Path) -> None:
    async with paged(tmp_path) as office:
        assert (await office.client.get(PATH)).status_code == 405
        assert (await post(office.client, b" " * (512 * 1024))).status_code == 202
        assert (await post(office.client, b" " * (512 * 1024 + 1))).status_code == 413


# --- whatever is signed is taken --------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_KINDS = st.sampled_from([
    "acknowledged", "unacknowledged", "resolved", "reassigned", "escalated", "delegated", "annotated",
    "responder.added", "status_update_published", "triggered", "made.up",
])  # fmt: skip
_FIELDS = ("id", "type", "incident", "incident_key", "assignees", "escalation_policy", "content", "message", "user")
_EVENT = st.fixed_dictionaries(
    {"event_type": _KINDS.map("incident.".__add__)},
    optional={
        "id": _JSON,
        "agent": _JSON
        | st.just(person())
        | st.fixed_dictionaries({"type": st.just("user_reference"), "summary": _JSON}),
        "data": _JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(_FIELDS, _JSON)),
    },
)


async def test_any_json_under_a_right_signature_is_taken(tmp_path: Path) -> None:
    async with paged(tmp_path) as office:
        loop = asyncio.get_running_loop()

        @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(_JSON | st.fixed_dictionaries({"event": _EVENT | _JSON}), st.booleans())
        def any_json(content: Any, ours: bool) -> None:
            if ours and isinstance(content, dict) and isinstance(content.get("event"), dict):
                content["event"]["data"] = {
                    **(content["event"].get("data") if isinstance(content["event"].get("data"), dict) else {}),
                    "type": "incident",
                    "incident_key": office.page.key,
                }
            body = json.dumps(content).encode()
            answer = asyncio.run_coroutine_threadsafe(post(office.client, body), loop).result(30)
            assert answer.status_code == 202, (content, answer.text)

        await asyncio.to_thread(any_json)


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"{", b"nul", b"[" * 100_000, b'{"event":' * 50_000, b"1e999", b"NaN"]
)
async def test_garbage_under_a_right_signature_is_taken(
    tmp_path: Path, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with paged(tmp_path) as office:
        assert await office.say(body) == 0
    assert "could not be taken in" not in caplog.text


async def test_a_mistake_of_ours_stops_no_webhooks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with paged(tmp_path) as office:
        office.desk.on_turn = lambda turn: 1 / 0  # type: ignore[assignment]
        with caplog.at_level(logging.ERROR):
            assert await office.say(told("incident.acknowledged", office.page, person())) == 0
        assert "could not be taken in; it is left out" in caplog.text


async def test_when_nothing_can_be_recorded_it_is_to_be_told_again(tmp_path: Path) -> None:
    async with paged(tmp_path) as office:
        await office.store.close()
        answer = await post(office.client, told("incident.acknowledged", office.page, person()))
        assert (answer.status_code, bool(answer.json()["error"])) == (503, True)


async def test_what_was_recorded_too_late_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process holds the database's write lock until PagerDuty would not wait any longer."""
    async with paged(tmp_path) as office:
        body = told("incident.acknowledged", office.page, person(), "E1")
        held = sqlite3.connect(tmp_path / "responder.db", isolation_level=None)
        held.execute("BEGIN IMMEDIATE")
        with monkeypatch.context() as impatient:
            impatient.setattr(module, "ANSWERED", 0.1)
            answer = await post(office.client, body)
        assert (answer.status_code, "to be sent again" in answer.json()["error"]) == (503, True)
        held.execute("ROLLBACK")
        held.close()
        assert await office.say(body) == 1
        assert await office.words() == [(ASHA, f.Acknowledged(via="desk", word="E1"))]
