"""What counts as a secret in what others wrote, what stays, and that nothing else is changed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.alert import Limits, parse_notification
from responder.redaction import KEPT, REDACTED, hide, hide_known, names_secret, redact

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\nabc\n-----END EC PRIVATE KEY-----"

# Written in two parts where it has the form of a real one, so that no scanner takes this file for a leak.
FORMS = [
    ("https://anna:hunter2@grafana/d/1", "https://(redacted)@grafana/d/1"),
    ("postgres://u:p@ss@db:5432/x and more", "postgres://(redacted)@db:5432/x and more"),
    ("amqp://token@broker", "amqp://(redacted)@broker"),
    ("GET /x?symbol=BTC&access_token=abc&page=2", "GET /x?symbol=BTC&access_token=(redacted)&page=2"),
    ("http://p/graph?key=abc#top", "http://p/graph?key=(redacted)#top"),
    ("https://s3/x?X-Amz-Signature=af01&X-Amz-Date=1", "https://s3/x?X-Amz-Signature=(redacted)&X-Amz-Date=1"),
    ("Authorization: Bearer abcdefghijklmnop.qrst", "Authorization: (redacted)"),
    ("with basic YW5uYTpodW50ZXIy01== sent", "with (redacted) sent"),
    (f"the token {JWT} expired", "the token (redacted) expired"),
    (f"mounted {KEY}, restart", "mounted (redacted), restart"),
    ("cut off: -----BEGIN PRIVATE KEY-----\nMIIE", "cut off: (redacted)"),
    ("push as gh" + "p_0123456789abcdefghijABCDEFGHIJ012345", "push as (redacted)"),
    ("xox" + "b-123456789012-abcdefGHIJKL", "(redacted)"),
    ("id AKIA" + "IOSFODNN7EXAMPLE.", "id (redacted)."),
    ("https://hooks.slack.com/services/T0001/B0002/abcdef", "https://hooks.slack.com/services/(redacted)"),
    ("run with password=hunter2, then", "run with password=(redacted), then"),
    ("DB_PASSWORD='hunter2' make", "DB_PASSWORD='(redacted)' make"),
    ('{"user": "anna", "apiKey": "a b\\"c"}', '{"user": "anna", "apiKey": "(redacted)"}'),
    ('{}:{alertname="Down", client_secret="x1"}', '{}:{alertname="Down", client_secret="(redacted)"}'),
]


@pytest.mark.parametrize(("text", "after"), FORMS, ids=[after[:30] for _, after in FORMS])
def test_what_looks_like_a_secret_is_hidden_in_place(text: str, after: str) -> None:
    assert hide(text)[0] == after
    assert len(hide(text)[1]) == 1


@pytest.mark.parametrize("text", [after for _, after in FORMS])
def test_hiding_twice_is_hiding_once(text: str) -> None:
    assert hide(text) == (text, ())


@pytest.mark.parametrize(
    "text",
    [
        "VaR is 93 % of its limit",
        "https://grafana/d/abc?var-symbol=BTC-USD&from=1",
        "mail anna@desk.example about http://host/a@b",
        "risk-limits-of-the-whole-desk-were-passed",
        "token=BTC",
        "the bearer of bad news",
        "secret_name=tls-cert",
        "sum(rate(x{job=~\"api|web\"}[5m])) > 0.5",
        "0f3c9a7e5b1d2c4f",
        "git 9fceb02d0ae598e95dc970b74767f19372d61af8",
    ],
)  # fmt: skip
def test_what_people_need_stays(text: str) -> None:
    assert hide(text) == (text, ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("password", "x"), ("dbPassword", "x"), ("client-secret", "x"), ("APIKey", "x"), ("secretKey", "x"),
        ("AWS_ACCESS_KEY", "x"), ("authorization", "x"), ("session_token", "0123456789abcdef"),
    ],
)  # fmt: skip
def test_names_that_say_secret(name: str, value: str) -> None:
    assert names_secret(name, value)


@pytest.mark.parametrize("name", ["alertname", "key", "symbol", "secret_name", "passwordFile", "token_age", "author"])
def test_names_that_hold_none(name: str) -> None:
    assert not names_secret(name, "0123456789abcdef")


def test_a_coin_is_no_token() -> None:
    assert not names_secret("token", "USDC-PERPETUAL-FUTURE")
    assert names_secret("token", "s3cr3t-0123456789")


def payload() -> dict[str, Any]:
    labels = {"alertname": "Down", "password": "hunter2", "symbol": "BTC-USD"}
    alert = {
        "status": "firing",
        "labels": labels,
        "annotations": {"runbook_url": "https://u:hunter2@wiki/x", "summary": "it is down"},
        "startsAt": "2026-11-20T17:00:00Z",
        "fingerprint": "0123456789abcdef",
    }
    return {"version": "4", "truncatedAlerts": 0, "commonLabels": dict(labels), "alerts": [alert]}


def test_a_notification_keeps_identity_and_shape() -> None:
    after = redact(payload())
    text = json.dumps(after.notification)
    assert "hunter2" not in text
    assert after.found == (
        "commonLabels.password: its name says that it is secret",
        "alerts[0].labels.password: its name says that it is secret",
        "alerts[0].annotations.runbook_url: a user and password in a URL",
    )
    (alert,) = parse_notification(text.encode(), Limits()).alerts
    assert alert.fingerprint == "0123456789abcdef"
    assert alert.labels == {"alertname": "Down", "password": REDACTED, "symbol": "BTC-USD"}
    assert alert.annotations["runbook_url"] == "https://(redacted)@wiki/x"


def test_a_clean_notification_is_unchanged() -> None:
    clean: dict[str, Any] = {
        "version": "4",
        "alerts": [{"labels": {"alertname": "Down"}, "values": {"A": 0.5}, "n": [None, True]}],
    }
    assert redact(clean).notification == clean
    assert redact(clean).found == ()


def test_a_fingerprint_is_never_looked_at() -> None:
    assert {"fingerprint"} == KEPT
    assert redact({"fingerprint": JWT}).notification == {"fingerprint": JWT}


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300))
def test_nothing_else_of_a_text_is_lost(text: str) -> None:
    after, kinds = hide(text)
    assert (after == text) is (kinds == ())
    assert hide(after)[0].count(REDACTED) >= after.count(REDACTED)


@pytest.mark.parametrize(
    "unit",
    [
        "://",
        "a-",
        "eyJ",
        "eyJ-",
        "password",
        "x=",
        '"',
        "-----BEGIN PRIVATE KEY-----",
        "bearer ",
        "sk-",
        '"a": "',
        "?key",
    ],
)
def test_hostile_texts_do_not_take_long(unit: str) -> None:
    # A pattern that walks a text twice for each of its characters would not come back from a megabyte.
    assert isinstance(hide(unit * (1_000_000 // len(unit)))[0], str)


def test_a_secret_of_ours_is_hidden_in_each_form_in_which_it_may_come_back() -> None:
    text = 'sent s3cret/"1", as JSON s3cret/\\"1\\", in a URL s3cret%2F%221%22; the number 1234567'
    hidden = "sent (hidden), as JSON (hidden), in a URL (hidden); the number 1234567"
    assert hide_known(text, ('s3cret/"1"', "1234567", "")) == hidden
