"""Notifications of Alertmanager 0.25 to 0.34, and everything that is none."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.alert import Alert, Dialect, Limits, Notification, fingerprint, parse_notification
from responder.errors import BadPayload
from responder.timing import parse_time

PAYLOADS = Path(__file__).parent / "payloads"
LABELS = {"alertname": "VaRBreach", "severity": "Critical"}


def recorded(name: str) -> Notification:
    return parse_notification((PAYLOADS / f"{name}.json").read_bytes(), Limits())


def an_alert(**changes: Any) -> dict[str, Any]:
    alert = {"status": "firing", "labels": LABELS, "annotations": {}, "startsAt": "2026-11-20T17:02:42Z"}
    return {**alert, "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", **changes}


def a_body(*alerts: object, **changes: Any) -> bytes:
    return json.dumps({"version": "4", "alerts": alerts, **changes}).encode()


def parsed(*alerts: object, **changes: Any) -> Notification:
    return parse_notification(a_body(*alerts, **changes), Limits())


def only(**changes: Any) -> Alert:
    notification = parsed(an_alert(**changes))
    assert not notification.bad
    return notification.alerts[0]


def fault(**changes: Any) -> str:
    notification = parsed(an_alert(), an_alert(**changes))
    assert len(notification.alerts) == 1  # the rest of the batch goes on
    assert notification.bad[0].index == 1
    return notification.bad[0].message


def refusal(body: bytes, limits: Limits | None = None) -> BadPayload:
    with pytest.raises(BadPayload) as caught:
        parse_notification(body, limits or Limits())
    return caught.value


def test_version_0_25_with_a_mixed_group() -> None:
    notification = recorded("alertmanager-0.25")
    assert notification.receiver == "team.dotted-name"
    assert notification.group_key == '{}/{platform="edge-risk"}:{alertname="VaRBreach"}'
    assert [(alert.labels["symbol"], alert.firing) for alert in notification.alerts] == [
        ("BTC-USD", True),
        ("ETH-USD", False),
    ]
    firing, resolved = notification.alerts
    assert (firing.starts_at, firing.ends_at) == (parse_time("2026-11-20T17:02:42.347382Z"), None)
    assert resolved.ends_at == parse_time("2026-11-20T17:02:12.3Z")
    assert (firing.name, firing.severity) == ("VaRBreach", "critical")
    assert "&g0.tab=1" in firing.generator_url
    assert (notification.reason, notification.route_labels, notification.bad) == (None, {}, ())


def test_version_0_27_with_utf8_labels_offsets_and_nanoseconds() -> None:
    alert = recorded("alertmanager-0.27").alerts[0]
    assert alert.labels["k8s.cluster/name"] == "zürich-1"
    assert (alert.starts_at, alert.firing) == (parse_time("2026-11-20T17:02:42.347382Z"), False)
    assert alert.ends_at == parse_time("2026-11-20T17:09:12Z")


def test_version_0_32_truncated_with_its_reason() -> None:
    notification = recorded("alertmanager-0.32")
    assert (notification.truncated_alerts, notification.reason) == (2, "new alerts added")
    assert notification.external_url == "http://alertmanager-1:9093/am"


def test_version_0_34_with_route_labels() -> None:
    notification = recorded("alertmanager-0.34")
    assert (notification.receiver, notification.route_labels) == ("edge+risk", {"team": "risk"})


@pytest.mark.parametrize("name", ["0.25", "0.27", "0.32", "0.34"])
def test_a_missing_fingerprint_is_computed_to_what_was_sent(name: str) -> None:
    body = (PAYLOADS / f"alertmanager-{name}.json").read_text(encoding="utf-8")
    without = body.replace('"fingerprint"', '"forgotten"')
    again = parse_notification(without.encode(), Limits())
    assert [alert.fingerprint for alert in again.alerts] == [
        alert.fingerprint for alert in recorded(f"alertmanager-{name}").alerts
    ]


def test_fingerprint_is_the_one_of_prometheus() -> None:
    # Both from the tests of Prometheus' own label sets.
    assert int(fingerprint({}), 16) == 14695981039346656037
    assert int(fingerprint({"name": "garland, briggs", "fear": "love is not enough"}), 16) == 5799056148416392346


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.just("v")), st.randoms())
def test_fingerprint_does_not_depend_on_order(labels: dict[str, str], random: Any) -> None:
    items = list(labels.items())
    random.shuffle(items)
    assert fingerprint(dict(items)) == fingerprint(labels)


@pytest.mark.parametrize("given_one", [None, "", "50C00B04983BB531", "50c00b04983bb53", 7, "zzzzzzzzzzzzzzzz"])
def test_a_fingerprint_that_is_none_is_computed(given_one: object) -> None:
    assert only(fingerprint=given_one).fingerprint == fingerprint(LABELS)


def test_a_given_fingerprint_is_kept() -> None:
    assert only(fingerprint="50c00b04983bb531").fingerprint == "50c00b04983bb531"


@pytest.mark.parametrize(
    "zero",
    [
        "0001-01-01T00:00:00Z", "0001-01-01T00:00:00-02:00", "0001-01-01T00:00:00.000000000+14:00",
        "0000-12-31T22:00:00-02:00", None,
    ],
)  # fmt: skip
def test_the_zero_time_is_none_in_every_offset(zero: str | None) -> None:
    assert only(endsAt=zero).ends_at is None


@pytest.mark.parametrize(
    "when", ["10000-01-01T00:00:00Z", "soon", "", 17, "9999-12-31T23:59:59-02:00", "2026-11-20\x00"]
)
def test_a_time_that_is_none_makes_the_alert_bad(when: object) -> None:
    assert fault(startsAt=when).startswith("`startsAt`")


@pytest.mark.parametrize("status", [None, "firing"])
def test_a_missing_status_is_firing(status: str | None) -> None:
    assert only(status=status).firing


@pytest.mark.parametrize("status", ["suppressed", "", 1, {}, []])
def test_an_unknown_status_makes_the_alert_bad(status: object) -> None:
    assert fault(status=status).startswith("`status` must be")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "`labels` must be"), ({}, "`labels` must be"), ([], "`labels` must be"),
        ({"a": 1}, "label 'a' must be a text"),
        ({"a": None}, "not null"), ({"a": "x\x00"}, "holds a NUL"), ({"a\ud800": "x"}, "half a surrogate pair"),
        ({f"l{i}": "" for i in range(257)}, "257 labels are more than the limit of 256"),
        ({"a": "é" * 20_000}, "labels of more than 32768 bytes"),
    ],
)  # fmt: skip
def test_labels_are_never_repaired(labels: object, message: str) -> None:
    assert message in fault(labels=labels)


@pytest.mark.parametrize("alert", [None, 7, "alert", [], True])
def test_an_alert_that_is_no_object_is_bad(alert: object) -> None:
    notification = parsed(alert, an_alert())
    assert len(notification.alerts) == 1
    assert "must be an object" in notification.bad[0].message


def test_a_bad_alert_keeps_its_exact_json() -> None:
    bad = '{ "labels" : {"a":1.50, "a":1E2}, "big":123456789012345678901234567890 }'
    good = json.dumps(an_alert())
    body = f'\n {{"alerts": 7, "x": {{"alerts": []}}, "alerts" : [ {good} ,\n{bad} ,{good}, null ], "version":"4" }}\n'
    notification = parse_notification(body.encode(), Limits())
    assert [(entry.index, entry.json) for entry in notification.bad] == [(1, bad), (3, "null")]
    assert len(notification.alerts) == 1


def test_text_for_people_is_repaired() -> None:
    alert = only(annotations={"a": "x\x00\ud800", "b": 1.5, "c": None, "d": "y" * 70_000}, generatorURL=3)
    assert alert.annotations["a"] == "x\ufffd\ufffd"
    assert (alert.annotations["b"], alert.annotations["c"], alert.generator_url) == ("1.5", "null", "")
    assert len(alert.annotations["d"]) == 65_536
    assert alert.annotations["d"].endswith("y…")


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert only(labels={"a": "🙂"}).labels == {"a": "🙂"}


def test_only_version_and_alerts_are_demanded() -> None:
    notification = parsed(receiver=5, groupKey=None, externalURL=[], groupLabels="x", notification_reason=1, future={})
    assert notification == Notification("", "", "", (), 0, None, {}, {}, ())


@pytest.mark.parametrize(
    ("sent", "count"), [(0, 0), (3, 3), ("3", 1), (-1, 1), (None, 1), (True, 1), (10**40, 2**31 - 1)]
)
def test_an_unclear_truncation_counts_as_one(sent: object, count: int) -> None:
    assert parsed(truncatedAlerts=sent).truncated_alerts == count


def test_every_escaped_character_of_a_receiver_comes_back() -> None:
    name = r"a\.+*?()|[]{}^$-/b"
    escaped = "".join("\\" + char if char in r"\.+*?()|[]{}^$" else char for char in name)
    assert parsed(receiver=escaped).receiver == name


def test_of_two_equal_alerts_the_firing_one_stays() -> None:
    resolved = an_alert(status="resolved", startsAt="2026-11-20T18:00:00Z", endsAt="2026-11-20T18:01:00Z")
    for pair in ([an_alert(), resolved], [resolved, an_alert()]):
        assert [alert.firing for alert in parsed(*pair).alerts] == [True]


def test_of_two_equal_alerts_of_one_status_the_later_stays() -> None:
    late = an_alert(startsAt="2026-11-20T18:00:00Z")
    for pair in ([an_alert(), late], [late, an_alert()]):
        assert [alert.starts_at for alert in parsed(*pair).alerts] == [parse_time("2026-11-20T18:00:00Z")]


def test_different_alerts_under_one_fingerprint_are_all_kept() -> None:
    mark = "50c00b04983bb531"
    alerts = parsed(an_alert(fingerprint=mark), an_alert(fingerprint=mark, labels={"a": "b"})).alerts
    assert [alert.fingerprint for alert in alerts] == [fingerprint(LABELS), fingerprint({"a": "b"})]


@pytest.mark.parametrize(
    ("body", "at", "message"),
    [
        (b"", "line 1 column 1", "not JSON"),
        (b'{"version":"4",\n"alerts":[}', "line 2 column 11", "not JSON"),
        (b"[]", "body", "found a list"),
        (b'"text"', "body", "found a text"),
        (b"{}", "version", "remove it"),
        (b'{"version":"3","alerts":[]}', "version", "this is '3'"),
        (b'{"version":[1],"alerts":[]}', "version", "this is a list"),
        (b'{"version":"4"}', "alerts", "missing"),
        (b'{"version":"4","alerts":null}', "alerts", "found null"),
        (b'{"version":"4","alerts":{}}', "alerts", "expected a list"),
        (b'{"version":"4","alerts":[NaN]}', "body", "NaN"),
        (b'{"version":"4","alerts":[-Infinity]}', "body", "-Infinity"),
        (b'{"version":"4","alerts":[' + b"9" * 5000 + b"]}", "body", "thousands of digits"),
        (b"[" * 100_000, "body", "nested too deeply"),
        (b'{"a":' * 100_000, "body", "nested too deeply"),
        (b'{"version":"4","alerts":["\xff"]}', "byte 27", "not UTF-8"),
        (b'{"version":"4","alerts":["\xed\xa0\x80"]}', "byte 27", "not UTF-8"),
        ('{"version":"4","alerts":[]}'.encode("utf-16"), "byte 1", "not UTF-8"),
        (b'{"version":"4","alerts":["\x00"]}', "line 1 column 27", "not JSON"),
    ],
)
def test_a_body_that_cannot_be_understood(body: bytes, at: str, message: str) -> None:
    error = refusal(body)
    assert error.at == at
    assert message in error.message


def test_the_dialect_is_alertmanagers() -> None:
    assert parsed(an_alert()).dialect is Dialect.ALERTMANAGER


def test_too_many_alerts_are_refused_with_the_limit() -> None:
    error = refusal(a_body(*[an_alert()] * 3), Limits(max_alerts=2))
    assert str(error) == "alerts: 3 alerts are above the limit of 2; raise it or group by more labels"


def test_a_byte_order_mark_and_a_last_newline_are_fine() -> None:
    assert len(parse_notification(b"\xef\xbb\xbf" + a_body(an_alert()) + b"\n", Limits()).alerts) == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["firing", "4", "\ud800\x00"]),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["labels", "status", "startsAt"]), inner)
    ),
    max_leaves=20,
)
ALERTS = st.fixed_dictionaries(
    {"labels": st.dictionaries(st.text(), JSON)}, optional={name: JSON for name in an_alert() if name != "labels"}
)
FIELDS = ["receiver", "groupKey", "groupLabels", "routeLabels", "truncatedAlerts", "notification_reason", "orgId"]
BODIES = st.fixed_dictionaries(
    {"version": st.just("4") | JSON, "alerts": st.lists(JSON | ALERTS) | JSON}, optional=dict.fromkeys(FIELDS, JSON)
)


@given(st.binary() | st.text().map(str.encode) | (JSON | BODIES).map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_notification_or_a_bad_payload(body: bytes) -> None:
    try:
        notification = parse_notification(body, Limits())
    except BadPayload:
        return
    # Whatever comes out can be stored: UTF-8 has no form for half a surrogate pair, PostgreSQL none for NUL.
    for text in all_texts(notification):
        assert b"\x00" not in text.encode()
    marks = [alert.fingerprint for alert in notification.alerts]
    assert len(set(marks)) == len(marks)
    total = len(json.loads(body)["alerts"])
    assert len(notification.alerts) + len(notification.bad) <= total
    for bad in notification.bad:
        assert json.dumps(json.loads(bad.json)) == json.dumps(json.loads(body)["alerts"][bad.index])


def all_texts(notification: Notification) -> list[str]:
    maps = [notification.group_labels, notification.route_labels]
    texts = [notification.receiver, notification.group_key, notification.external_url, notification.reason or ""]
    for alert in notification.alerts:
        maps += [alert.labels, alert.annotations]
        texts += [alert.generator_url, alert.fingerprint]
    texts += [text for bad in notification.bad for text in (bad.message, bad.json)]
    return texts + [text for pairs in maps for pair in pairs.items() for text in pair]
