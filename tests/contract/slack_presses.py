"""What Slack posts when somebody presses a button, and an incident's buttons as they stand now."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import httpx

from responder.calendars import Calendar
from responder.choices import Choice, choices
from responder.contracts import Secret
from responder.incident import Incident
from responder.notifiers.slack import Slack
from responder.policies import Policy
from responder.recorded import Mode
from responder.rules import Rules
from responder.runbook import Runbook
from responder.timing import SECOND
from tests.contract.web_parts import RUNBOOKS, SLACK, Office, rules, secret
from tests.fakes.socket_mode import BOT, FakeSlackApp

SIGNING = "the-signing-secret-of-the-fake"
ASKS = {
    "runbook": "asks",
    "title": "Asks first",
    "match": "Asks",
    "target": "risk-api/max_leverage",
    "mode": "auto",
}
SESSION = Calendar.model_validate({"from": "16:00", "to": "20:00", "timezone": "UTC"})
CUT = {"id": "cut", "action": "parameter.reduce", "with": {"parameter": "risk-api/kelly_fraction", "to": 0.1}}


def asking(people: int = 1) -> Rules:
    """The usual runbooks, and one that asks so many people first."""
    asks = {**ASKS, "steps": [{**CUT, "approval": {"role": "risk-manager", "people": people}}]}
    books = {r.runbook: r for r in map(Runbook.model_validate, (*RUNBOOKS, asks))}
    return Rules("rules-1", books, {"default": Policy(chat=("console",))}, {}, "default", ceiling=Mode.AUTO)


def shut(otherwise: str = "deny") -> Rules:
    """The usual rules, of which one may act in the afternoon only; it is morning."""
    hours = {**RUNBOOKS[0], "calendar": {"within": "session", "otherwise": otherwise}}
    cut = Runbook.model_validate(hours)
    known = rules()
    return replace(known, runbooks={**known.runbooks, "cut": cut}, calendars={"session": SESSION})


async def incident(office: Office) -> Incident:
    """The latest one, as it stands now."""
    return (await office.store.incidents(None, None, 1))[0].fold


async def offered(office: Office) -> dict[str, Choice]:
    """Its buttons, by verb; of two with one verb the first."""
    found = await incident(office)
    return {c.verb: c for c in reversed(choices(found, await office.desk.policy_of(found)))}


def payload(token: str, by: str = "anna", answer_to: str = "", **changes: Any) -> dict[str, Any]:
    """A press as Slack tells it; `by` is one of the office, or a Slack user's id."""
    return {
        "type": "block_actions",
        "user": {"id": SLACK.get(by, by), "username": "otto", "name": "otto", "team_id": "T0"},
        "api_app_id": "A0",
        "token": "a-deprecated-verification-token",
        "container": {"type": "message", "message_ts": "1800000000.000100", "channel_id": "C1", "is_ephemeral": False},
        "trigger_id": "1.2.3",
        "team": {"id": "T0", "domain": "desk"},
        "channel": {"id": "C1", "name": "trading"},
        "message": {"type": "message", "ts": "1800000000.000100", "text": "VaR", "blocks": []},
        "response_url": answer_to,
        "actions": [
            {
                "action_id": "responder:ack:0",
                "block_id": "b1",
                "type": "button",
                "text": {"type": "plain_text", "text": "Acknowledge"},
                "value": token,
                "action_ts": "1800000001.5",
            }
        ],
        **changes,
    }


def form(content: dict[str, Any]) -> bytes:
    """The body."""
    return urlencode({"payload": json.dumps(content)}).encode()


def signature(body: bytes, seconds: int | str, secret: str = SIGNING) -> dict[str, str]:
    """The headers with which Slack signs it."""
    signed = hmac.new(secret.encode(), f"v0:{seconds}:".encode() + body, hashlib.sha256).hexdigest()
    return {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": str(seconds),
        "x-slack-signature": f"v0={signed}",
    }


def account(slack: FakeSlackApp, token: str | Secret = BOT, **settings: Any) -> Slack:
    """A notifier of the app that signs with SIGNING."""
    bot = secret(token) if isinstance(token, str) else token
    known = {"token": bot, "channel": "C1", "signing_secret": secret(SIGNING), "base_url": slack.base_url}
    return Slack(**{**known, **settings})


async def post(office: Office, body: bytes) -> httpx.Response:
    """To the endpoint, signed now."""
    return await office.client.post("/webhook/slack", content=body, headers=signature(body, office.time // SECOND))


async def press(office: Office, slack: FakeSlackApp, token: str, by: str = "anna", **changes: Any) -> str:
    """Press a button as somebody; answers what they are told, "" for nothing."""
    before = len(slack.answers)
    answer = await post(office, form(payload(token, by, slack.answer_to, **changes)))
    assert (answer.status_code, answer.content) == (200, b"")
    await office.presses.stop(5.0)
    return "".join(told["text"] for told in slack.answers[before:])
