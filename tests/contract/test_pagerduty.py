"""PagerDuty's events: one open incident for each of ours, what a page says, changes, and whatever goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from responder import facts as f
from responder.config import read_config
from responder.contracts import Bucket, Catalogue, Secret
from responder.engine.emergency import AGAIN, Emergency
from responder.engine.pace import Pace
from responder.environment import Environment
from responder.errors import BadConfig, Permanent, Temporary
from responder.incident import Incident
from responder.notifiers import NOTIFIERS
from responder.notifiers.pagerduty import PagerDuty, details
from responder.story import state_values
from responder.timing import HOUR, MINUTE, SECOND
from tests.builders import T0, opened, started, told
from tests.contract.pager_parts import OLDER, PAGE, notifier, page, paging, saying
from tests.contract.told_messages import TEMPLATES, secret, unfixed, unknown
from tests.fakes.pagerduty import KEY, SENDER, TOKEN
from tests.fakes.server import HangsUp

# --- one open incident ------------------------------------------------------------------------------------------------


async def test_a_page_is_one_event_and_ends_nothing() -> None:
    async with paging(rest=False) as (server, pager):
        await pager.send(page(pager, key=OLDER))
        await pager.send(page(pager))
        assert [one.open for one in server.pages] == [True, True]
        await pager.send(saying(pager, "resolve", key=OLDER))
        assert [(one.key, one.open) for one in server.pages] == [(OLDER, False), (PAGE, True)]
        assert [one["event_action"] for one in server.events] == ["trigger", "trigger", "resolve"]


async def test_a_page_whose_answer_was_lost_is_sent_again_as_one() -> None:
    async with paging() as (server, pager):
        await pager.send(page(pager))
        await pager.send(page(pager, attempt=2))
        assert [(one.open, len(one.triggers)) for one in server.pages] == [(True, 2)]


async def test_an_acknowledgement_is_passed_on_and_wakes_nobody() -> None:
    async with paging(rest=False) as (server, pager):
        await pager.send(page(pager))
        await pager.send(saying(pager, "acknowledge"))
        assert (server.page(PAGE).status, len(server.page(PAGE).triggers)) == ("acknowledged", 1)
        assert not pager.passes_over("acknowledge", sent=False)


async def test_what_is_no_event_is_not_sent() -> None:
    async with paging(rest=False) as (server, pager):
        for kind in ("root", "thread", "note", "move"):
            assert await pager.send(saying(pager, kind)) == ""
        assert (server.events, server.calls) == ([], [])
        passed = {template: pager.passes_over(template, sent=False) for template in ("note", "move", "change", "page")}
        assert passed == {"note": True, "move": True, "change": False, "page": False}
    able = notifier("https://x.example")
    assert not any(able.passes_over(template, sent=False) for template in ("note", "move"))


async def test_at_its_pace_no_event_is_ever_one_too_many() -> None:
    async with paging(rest=False) as (server, pager):
        now, pace = 0, Pace()
        server.limits(lambda: now / SECOND)
        other = notifier(server.url, rest=False)
        for number in range(180):
            name, kind = ("desk", "page") if number % 2 else ("other", "resolve")
            bucket = (other if number % 2 else pager).bucket(name, unfixed(), kind, sent=False)
            now += pace.wait(bucket, now)
            pace.take(bucket, now)
            await pager.send(saying(pager, kind, key=f"responder/main/i{number}/desk/l0.0"))
        await other.stop()
        assert len(server.events) == 180
        assert now < 110 * SECOND


async def test_what_shares_a_limit_shares_the_pace() -> None:
    def gone() -> str:
        raise BadConfig("no such variable")

    first, same = notifier("https://x.example"), notifier("https://x.example")
    other = notifier("https://x.example", routing_key=secret(KEY[::-1]))
    lost = notifier("https://x.example", routing_key=Secret("env GONE", gone))
    about = unfixed()

    def counted(pager: PagerDuty, kind: str, incident: Incident = about) -> Bucket:
        return pager.bucket(f"name {id(pager)}", incident, kind, sent=False)

    assert counted(first, "page") == counted(same, "change", told(opened(id="i2")))
    assert counted(first, "note") == counted(other, "move"), "REST counts by token"
    buckets = {counted(one, kind) for one in (first, other, lost) for kind in ("resolve", "note")}
    assert len(buckets) == 4
    assert KEY not in str(buckets)


async def test_what_is_too_much_for_pagerduty_is_put_off() -> None:
    async with paging(rest=False) as (server, pager):
        server.limits(lambda: 0.0)
        for _ in range(120):
            await pager.send(saying(pager, "resolve"))
        with pytest.raises(Temporary, match="429"):
            await pager.send(page(pager))


async def test_an_event_that_is_too_large_is_refused_for_good() -> None:
    async with paging(rest=False) as (server, pager):
        with pytest.raises(Permanent, match="413"):
            await pager.send(page(pager, body={"summary": "x", "details": {"all": "x" * 600_000}}))
        assert server.pages == []


async def test_the_emergency_page_wakes_once_an_outage_and_is_resolved() -> None:
    now = T0
    async with paging(rest=False) as (server, pager):
        emergency = Emergency("main", {"desk": pager}, lambda: now)
        server.fail(503)
        await emergency.store_down("disk full")
        assert (server.pages, emergency.pending) == ([], True)
        now += AGAIN
        for _ in range(3):
            await emergency.store_down("disk full")
        assert [(one.key, len(one.triggers)) for one in server.pages] == [("responder/main/store-down", 1)]
        payload = server.pages[0].triggers[0]["payload"]
        assert "cannot record anything, so it acts on no alert: disk full" in payload["summary"]
        assert payload["severity"] == "critical"
        await emergency.store_back()
        assert ([one.open for one in server.pages], emergency.pending) == ([False], False)


# --- what it says -----------------------------------------------------------------------------------------------------


def shown(about: Incident, now: int = T0) -> dict[str, Any]:
    values = {**state_values(about, now), "sentence": "people are needed"}
    return details(TEMPLATES.render("pagerduty/details.txt.j2", values))


def test_a_page_says_what_is_to_be_approved_by_whom_and_until_when() -> None:
    asked = f.ApprovalAsked(
        run=1, step="cut", plan="d1", preview="0.25 → 0.1", role="risk-manager", people=2, until=T0 + 15 * MINUTE
    )
    found = shown(told(opened(), started(), asked))
    assert found["approval wanted"].startswith("0.25 → 0.1; role risk-manager, by ")
    assert found["approval wanted"].endswith("0 of 2 have approved: responder approve i1 or responder deny i1")
    assert "approval wanted" not in shown(unfixed())


def test_the_page_of_a_storm_says_how_many_there_are() -> None:
    joined = [f.StormGrew(incident=f"j{n}", title=f"T{n}", target=f"t{n}") for n in range(12)]
    found = shown(told(opened(), *joined, f.StormShrank(incident="j0")))
    assert found["storm"].startswith("12 incidents, 11 open: ")
    assert found["storm"].endswith(" …")
    assert "fired" not in found


def test_a_page_says_until_when_it_was_snoozed_and_by_whom() -> None:
    about = told(opened(), f.Snoozed(until=T0 + HOUR, note="at dinner"), actor="asha")
    assert shown(about)["who has it"] == "asha has snoozed it until 15:00:00 UTC: at dinner"


def test_a_page_says_how_to_settle_what_nobody_knows() -> None:
    assert shown(unknown())["settle"].startswith("nobody knows whether this was done: Kelly fraction 0.25 → 0.1")
    assert shown(unknown())["settle"].endswith("responder settle i1 --applied or --not-applied")


# --- changes ----------------------------------------------------------------------------------------------------------


async def test_a_change_is_recorded_with_what_it_was_before_and_is() -> None:
    async with paging() as (server, pager):
        about = unfixed()
        run = about.runs[0]
        plan = run.attempts[0].plan.model_copy(update={"before": 0.25, "target": {"kelly_fraction": 0.1}})
        attempts = (run.attempts[0].model_copy(update={"plan": plan}),)
        about = about.model_copy(update={"runs": (run.model_copy(update={"attempts": attempts}),)})
        said = "Kelly fraction 0.25 → 0.1, accepted in 1s"
        await pager.send(saying(pager, "change", said, incident=about))
        [record] = server.changes
        assert record["payload"] == {
            "summary": said,
            "source": "risk-api/kelly_fraction",
            "timestamp": "2026-11-20T14:03:00Z",
            "custom_details": {
                "incident": "i1",
                "why": "VaR above 90 % of its limit",
                "runbook": "var-breach",
                "step": "cut",
                "before": 0.25,
                "after": '{"kelly_fraction": 0.1}',
            },
        }
        assert record["links"][0] == {"href": "https://grafana.example/d/edge-risk?a=1&b=2", "text": "dashboard"}
        assert (server.events, server.pages) == ([], [])


async def test_a_record_is_cut_and_does_without_what_is_not_known() -> None:
    async with paging() as (server, pager):
        await pager.send(saying(pager, "change", "x" * 3_000, event=None))
        [record] = server.changes
        assert len(record["payload"]["summary"]) == 1_024
        assert not record["payload"].keys() & {"timestamp"}


async def test_the_key_of_a_ruleset_records_no_change_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    async with paging(routing_key=secret("R" + KEY[1:])) as (server, pager):
        await pager.start()
        await pager.send(saying(pager, "change"))
        await pager.send(saying(pager, "change"))
        assert server.changes == []
    assert caplog.text.count("key of a ruleset") == 1
    assert KEY[1:] not in caplog.text


@pytest.mark.parametrize(("kind", "path"), [("change", "/v2/change/enqueue"), ("note", "/incidents")])
async def test_records_that_are_too_many_hold_up_no_page(kind: str, path: str) -> None:
    async with paging() as (server, pager):
        server.fail(429, path=path, Retry_After="60")
        with pytest.raises(Temporary, match="429") as raised:
            await pager.send(saying(pager, kind))
        assert raised.value.retry_after is None, "the destination as a whole would wait"


# --- what an answer means ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["page", "resolve", "acknowledge", "change"])
@pytest.mark.parametrize(
    ("status", "headers", "expected", "wait"),
    [
        (400, {}, Permanent, None),
        (429, {}, Temporary, None),
        (429, {"Retry_After": "7"}, Temporary, 7),
        (500, {}, Temporary, None),
        (503, {}, Temporary, None),
    ],
)
async def test_an_answer_of_events_says_whether_to_send_again(
    kind: str, status: int, headers: dict[str, Any], expected: type[Exception], wait: float | None
) -> None:
    async with paging() as (server, pager):
        server.fail(status, **headers)
        with pytest.raises(expected, match=str(status)) as raised:
            await pager.send(page(pager) if kind == "page" else saying(pager, kind))
        assert getattr(raised.value, "retry_after", None) == (None if kind == "change" else wait)
        assert len(server.events) == (0 if kind == "change" else 1), "the outbox alone tries again"
        assert server.changes == []


async def test_a_lost_answer_is_tried_again() -> None:
    async with HangsUp() as silent:
        pager = notifier(silent.url)
        for kind in ("page", "resolve", "acknowledge", "change", "note"):
            with pytest.raises(Temporary):
                await pager.send(page(pager) if kind == "page" else saying(pager, kind))
        with pytest.raises(Temporary, match="the connection was lost"):
            await pager.asked(PAGE)
        await pager.stop()
        assert silent.connections == 6


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"from_email": SENDER},
        {"api_token": secret(TOKEN), "from_email": "bot"},
        {"api_token": secret(TOKEN), "from_email": "bot@example.com\r\nX-Evil: 1"},
        {"api_url": "http://api.pagerduty.com"},
        {"api_url": "https://user:hunter2@api.pagerduty.com"},
        {"api_url": "https://api.pagerduty.com/incidents"},
        {"api_url": "https://api.pagerduty.com?token=hunter2"},
        {"webhook_secret": [secret("a"), secret("b"), secret("c")]},
        {"webhook_secret": []},
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        PagerDuty(routing_key=secret(KEY), **settings)
    assert "hunter2" not in str(raised.value.errors(include_input=False))


def test_it_is_read_from_the_configuration() -> None:
    text = """
notifiers:
  desk:
    kind: pagerduty
    routing_key: {env: ROUTING_KEY}
    base_url: https://events.eu.pagerduty.com
    api_token: {env: API_TOKEN}
    from_email: bot@example.com
    api_url: https://api.eu.pagerduty.com
    webhook_secret: [{env: NEW}, {env: OLD}]
  other: {kind: pagerduty, routing_key: {env: ROUTING_KEY}, webhook_secret: {env: NEW}}
"""
    known = {"ROUTING_KEY": KEY, "API_TOKEN": TOKEN, "NEW": "n", "OLD": "o"}
    config = read_config("responder.yaml", text, Catalogue({}, NOTIFIERS, {}), Environment(known, Path()))
    desk, other = config.notifiers["desk"], config.notifiers["other"]
    assert isinstance(desk, PagerDuty)
    assert isinstance(other, PagerDuty)
    assert [one.reveal() for one in desk.webhook_secret] == ["n", "o"]
    assert [one.reveal() for one in other.webhook_secret] == ["n"]
    assert (desk.answers, other.answers, other.webhook_secret == ()) == (True, False, False)
