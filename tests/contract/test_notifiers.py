"""Every notifier against a provider that refuses what the real one refuses; and the rules that hold for all of them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pydantic import ValidationError

from responder import facts as f
from responder import story
from responder.contracts import Message, Notifier, Secret
from responder.errors import Permanent, Temporary
from responder.incident import Incident
from responder.journal import fold
from responder.notifiers import NOTIFIERS, message_templates
from responder.notifiers.console import Console
from responder.notifiers.pagerduty import PagerDuty, dedup_key, details
from responder.recorded import Mode
from responder.timing import SECOND
from tests.fakes.pagerduty import KEY, FakePagerDuty
from tests.fakes.server import HangsUp
from tests.fakes.slack import TOKEN

T0 = 1_795_183_351 * SECOND
TEMPLATES = message_templates(None)
LABELS = {"alertname": "VaRBreach", "symbol": "BTC-USD", "platform": "edge-risk"}


def incident(severity: str | None = "critical", channel: str | None = None, alerts: int = 1, **labels: str) -> Incident:
    opened = f.Opened(
        id="i1",
        runbook="var-breach",
        rules_hash="h",
        policy="p",
        target="risk-api/kelly_fraction",
        title="VaR above 90 % of its limit",
        severity=severity,
        mode=Mode.AUTO,
        labels=LABELS,
        inputs={},
        links={"dashboard": "https://grafana.example/d/edge-risk?a=1&b=2"},
        channel=channel,
    )
    fired = (
        f.AlertFired(
            fingerprint=f"f{n}",
            labels={**LABELS, "n": str(n), **labels},
            annotations={"summary": "VaR is 1.92 %"},
            severity=severity,
            starts_at=T0,
            joined=n > 0,
        )
        for n in range(alerts)
    )
    facts: list[f.Fact] = [opened, *fired]
    return fold([event(n + 1, fact) for n, fact in enumerate(facts)])


def event(seq: int, fact: f.Fact) -> f.Event:
    return f.Event(id=f"e{seq}", incident="i1", seq=seq, at=T0, actor="responder", fact=fact)


def message(notifier: Notifier, kind: str, about: Incident, said: str = "", previous: str = "") -> Message:
    """What delivery hands over: composed from today's templates."""
    values = {**story.state_values(about, T0), "sentence": said, "at": T0, "kind": "waiting", "destination": "there"}
    return Message(
        id=f"i1:{kind}",
        lane="page" if kind in ("page", "resolve") else kind,
        kind=kind,
        key="responder/main/i1/there",
        text=said or TEMPLATES.render(f"text/{kind}.txt.j2", values),
        body=notifier.compose(kind, values, TEMPLATES.render),
        incident=about,
        event=None,
        previous=previous,
        resolves=kind == "resolve",
    )


def plain(given: Message, text: str) -> Message:
    """The message when its template is broken."""
    return Message(**{**{n: getattr(given, n) for n in given.__slots__}, "text": text, "body": None})


def secret(value: str) -> Secret:
    return Secret("env THE_SECRET", lambda: value)


def pagerduty(server: FakePagerDuty, key: str = KEY) -> PagerDuty:
    return PagerDuty(routing_key=secret(key), base_url=server.url)


# --- all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NOTIFIERS)
def test_the_table_names_each_by_its_kind_and_says_what_it_is_for(kind: str) -> None:
    notifier = NOTIFIERS[kind]
    assert notifier.model_fields["kind"].default == kind
    assert notifier.pages or notifier.chats
    assert notifier.__doc__
    assert any(name.startswith(f"{notifier.family}/") for name in TEMPLATES.names())


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("slack", {"token": secret(TOKEN), "channel": "#a"}), ("pagerduty", {"routing_key": secret(KEY)})],
)
def test_credentials_travel_in_clear_only_on_this_machine(kind: str, settings: dict[str, Any]) -> None:
    def at(address: str) -> Notifier:
        return NOTIFIERS[kind].model_validate({**settings, "base_url": address})

    for address in ("http://slack.example/api/", "http://127.0.0.1.evil.example/", "http://localhost.evil.example"):
        with pytest.raises(ValidationError, match="base_url"):
            at(address)
    assert at("http://localhost:80/").kind == kind


# --- PagerDuty ------------------------------------------------------------------------------------


async def test_pagerduty_triggers_and_resolves_under_one_key() -> None:
    async with FakePagerDuty() as server:
        notifier = pagerduty(server)
        await notifier.send(message(notifier, "page", incident()))
        await notifier.send(message(notifier, "page", incident()))
        [page] = server.pages
        assert page.open
        await notifier.send(message(notifier, "resolve", incident()))
        await notifier.stop()
        assert (page.open, page.key, len(page.triggers)) == (False, "responder/main/i1/there", 2)
        trigger = page.triggers[0]
        payload = trigger["payload"]
        assert payload["summary"].startswith("[critical] VaR above 90 % of its limit: risk-api/kelly_fraction")
        assert (payload["component"], payload["group"], payload["class"]) == (
            "risk-api/kelly_fraction",
            "edge-risk",
            "VaRBreach",
        )
        assert "VaRBreach (n 0, symbol BTC-USD)" in payload["custom_details"]["fired"]
        assert payload["custom_details"]["acknowledge"] == "responder ack i1"
        assert trigger["links"] == [{"href": "https://grafana.example/d/edge-risk?a=1&b=2", "text": "dashboard"}]


@pytest.mark.parametrize(
    ("severity", "told"),
    [
        ("critical", "critical"),
        ("high", "error"),
        ("warning", "warning"),
        ("info", "info"),
        (None, "critical"),
        ("P1", "critical"),
    ],
)
async def test_pagerduty_gets_a_severity_that_it_knows(severity: str | None, told: str) -> None:
    async with FakePagerDuty() as server:
        notifier = pagerduty(server)
        await notifier.send(message(notifier, "page", incident(severity)))
        await notifier.stop()
        assert server.pages[0].triggers[0]["payload"]["severity"] == told


@pytest.mark.parametrize(("status", "after"), [(429, "7"), (429, None), (500, None), (503, None)])
async def test_pagerduty_that_is_busy_is_tried_again_by_the_outbox_alone(status: int, after: str | None) -> None:
    async with FakePagerDuty() as server:
        notifier = pagerduty(server)
        headers: dict[str, Any] = {"Retry_After": after} if after else {}
        server.fail(status, **headers)
        with pytest.raises(Temporary, match=str(status)) as raised:
            await notifier.send(message(notifier, "page", incident()))
        await notifier.stop()
        assert raised.value.retry_after == (7 if after else None)
        assert len(server.events) == 1


async def test_pagerdutys_refusal_is_final_and_tells_no_key(caplog: pytest.LogCaptureFixture) -> None:
    wrong = "f" * 32
    with caplog.at_level(logging.DEBUG):
        async with FakePagerDuty() as server:
            notifier = pagerduty(server, wrong)
            with pytest.raises(Permanent, match=r"'routing_key' .* is invalid") as raised:
                await notifier.send(message(notifier, "page", incident()))
            await notifier.stop()
    assert wrong not in str(raised.value) + repr(notifier) + caplog.text


async def test_pagerduty_without_an_answer_is_tried_again() -> None:
    notifier = PagerDuty(routing_key=secret(KEY), base_url="http://127.0.0.1:9")
    with pytest.raises(Temporary, match="cannot be reached"):
        await notifier.send(message(notifier, "page", incident()))
    await notifier.stop()
    async with HangsUp() as server:
        notifier = PagerDuty(routing_key=secret(KEY), base_url=server.url)
        with pytest.raises(Temporary, match="cannot be reached"):
            await notifier.send(message(notifier, "page", incident()))
        await notifier.stop()
        assert server.connections == 1


async def test_pagerduty_takes_a_rotated_key_without_a_restart() -> None:
    keys = iter(["f" * 32, KEY])
    async with FakePagerDuty() as server:
        notifier = PagerDuty(routing_key=Secret("env K", lambda: next(keys)), base_url=server.url)
        with pytest.raises(Permanent):
            await notifier.send(message(notifier, "page", incident()))
        await notifier.send(message(notifier, "page", incident()))
        await notifier.stop()
        assert len(server.pages) == 1


async def test_a_key_of_the_wrong_length_is_named_by_its_place() -> None:
    notifier = PagerDuty(routing_key=secret("short"))
    with pytest.raises(Permanent, match="env THE_SECRET has 5 characters instead of 32"):
        await notifier.send(message(notifier, "page", incident()))


async def test_pagerduty_pages_with_plain_text_and_the_longest_names() -> None:
    async with FakePagerDuty() as server:
        notifier = pagerduty(server)
        given = plain(message(notifier, "page", incident()), "x" * 5_000)
        await notifier.send(given)
        await notifier.stop()
        assert len(server.pages[0].triggers[0]["payload"]["summary"]) == 1_024


def test_a_long_deduplication_key_is_shortened_and_stays_its_own() -> None:
    long, other = "k" * 400 + "a", "k" * 400 + "b"
    assert dedup_key("short") == "short"
    assert len(dedup_key(long)) <= 255
    assert dedup_key(long) != dedup_key(other)


def test_details_are_the_named_lines_of_their_template() -> None:
    assert details("target: a: b\n  and more\n\nopened: now\n") == {"target": "a: b and more", "opened": "now"}


# --- console --------------------------------------------------------------------------------------


async def test_the_console_prints_a_line_an_event_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    kept = await console.send(message(console, "root", incident()))
    await console.send(message(console, "root", incident(), previous=kept))
    await console.send(message(console, "thread", incident(), "Kelly fraction 0.25 → 0.1, accepted in 34ms"))
    await console.send(message(console, "page", incident(), "Level L1 is told"))
    await console.send(plain(message(console, "resolve", incident(), "over"), "plain text"))
    assert capsys.readouterr().out.splitlines() == [
        "14:02:31 ── VaR above 90 % of its limit: risk-api/kelly_fraction, critical ── open [i1]",
        "14:02:31    Kelly fraction 0.25 → 0.1, accepted in 34ms [i1]",
        (
            "14:02:31 PAGE → there: VaR above 90 % of its limit: risk-api/kelly_fraction. Level L1 is told. "
            "To take it: responder ack i1"
        ),
        "plain text",
    ]
