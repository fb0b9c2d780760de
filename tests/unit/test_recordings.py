"""Recorded notifications: every form of a file, what is said about the wrong ones, and the way there and back."""

import json
from typing import Any

import pytest

from responder.alert import Limits, fingerprint, parse_notification
from responder.errors import BadPayload
from responder.recordings import Origin, Recording, read_recordings, with_fingerprints, write_recording
from responder.timing import parse_time

AT = "2026-11-20T17:02:42.5Z"
BARE: dict[str, Any] = {"version": "4", "alerts": [{"status": "firing", "labels": {"alertname": "Down"}}]}
GRAFANA: dict[str, Any] = {"version": "1", "orgId": 1, "alerts": []}
KEPT = {"recorded": {"at": AT, "id": "n1", "source": "am", "receiver": "team"}, "notification": BARE}


def text(value: Any) -> str:
    return json.dumps(value, indent=2)


def read(content: str | bytes) -> list[tuple[str, int | None, Any]]:
    return [(r.name, r.at, json.loads(r.body)) for r in read_recordings("file", content)]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (text(KEPT), [("file", parse_time(AT), BARE)]),
        (text(BARE), [("file", None, BARE)]),
        (text(GRAFANA), [("file", None, GRAFANA)]),
        ("\ufeff" + text(BARE), [("file", None, BARE)]),
        (text([KEPT, BARE]), [("file[1]", parse_time(AT), BARE), ("file[2]", None, BARE)]),
        (text([KEPT]), [("file", parse_time(AT), BARE)]),
        (
            f"{json.dumps(KEPT)}\n\n{json.dumps(GRAFANA)}\r\n",
            [("file:1", parse_time(AT), BARE), ("file:3", None, GRAFANA)],
        ),
        (f"{json.dumps([BARE])}\n{json.dumps(BARE)}", [("file:1[1]", None, BARE), ("file:2", None, BARE)]),
        ("[]", []),
    ],
)
def test_every_form_is_read(content: str, found: list[Any]) -> None:
    assert read(content) == found
    assert read(content.encode()) == found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "file: empty; write a payload"),
        (b"\xff{}", "file: byte 1: not UTF-8; save it as UTF-8"),
        ("{", "file:1:2: not JSON"),
        ('{"a": NaN}', "not JSON: NaN is no JSON number"),
        ("version: 4\nalerts: []\n", "file:1:1: not JSON"),
        (f"{json.dumps(BARE)}\n{{nonsense", "file:2:2: not JSON"),
        ("7", "file: no notification; write a payload"),
        ("[[1]]", "file: no notification"),
        (text([BARE, 7]), "file[2]: no notification"),
        (text({"recorded": {"at": AT}}), "file: `notification` is missing"),
        (text({"recorded": {}, "notification": BARE}), "file: `recorded.at` is missing"),
        (text({"recorded": 1, "notification": BARE}), "file: `recorded.at` is missing"),
        (text({"recorded": {"at": "yesterday"}, "notification": BARE}), "file: recorded.at: not a time"),
        ("[" * 200_000, "nested too deeply"),
        ("1" * 5_000, "thousands of digits"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_the_cure(content: str | bytes, said: str) -> None:
    with pytest.raises(BadPayload) as raised:
        read_recordings("file", content)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 400


def test_what_is_no_payload_is_for_the_parser_of_payloads_to_say() -> None:
    assert read_recordings("file", "{}") == [Recording("file", None, b"{}")]


def test_what_is_written_is_read_again() -> None:
    odd = {**BARE, "annotations": {"summary": "5 € \ud83d half a pair"}}
    written = write_recording(Origin(parse_time(AT), "n1", "alertmanager ::1", "team.risk"), odd)
    assert written.endswith(b"}\n")
    assert read_recordings("file", written) == [Recording("file", parse_time(AT), json.dumps(odd).encode())]
    assert json.loads(written)["recorded"] == {
        "at": "2026-11-20T17:02:42.500Z", "id": "n1", "source": "alertmanager ::1", "receiver": "team.risk",
    }  # fmt: skip


def test_an_alert_without_a_fingerprint_gets_the_one_that_it_would_have() -> None:
    named = with_fingerprints(BARE)
    (alert,) = parse_notification(json.dumps(named).encode(), Limits()).alerts
    assert named["alerts"][0]["fingerprint"] == fingerprint({"alertname": "Down"}) == alert.fingerprint
    assert "fingerprint" not in BARE["alerts"][0]


@pytest.mark.parametrize(
    "alert",
    [
        7,
        {},
        {"labels": {"a": 1}},
        {"labels": {"a": "\ud800"}},
        {"labels": {"a": "b"}, "fingerprint": "0123456789abcdef"},
    ],
)
def test_what_has_no_identity_or_names_it_stays_as_it_is(alert: Any) -> None:
    assert with_fingerprints({**BARE, "alerts": [alert]}) == {**BARE, "alerts": [alert]}


def test_the_fingerprint_is_the_one_of_the_dialect() -> None:
    """Grafana's covers the rule, which is no label: one that is computed from the labels alone is another alert's."""
    rule: dict[str, Any] = {"status": "firing", "labels": {"alertname": "Down"}, "ruleUID": "abc"}
    sent = {**GRAFANA, "alerts": [rule]}
    (alert,) = parse_notification(json.dumps(sent).encode(), Limits()).alerts
    assert with_fingerprints(sent)["alerts"][0]["fingerprint"] == alert.fingerprint != fingerprint(rule["labels"])


def test_a_payload_without_a_list_of_alerts_stays_as_it_is() -> None:
    assert with_fingerprints({"alerts": None}) == {"alerts": None}
