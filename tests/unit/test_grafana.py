"""Grafana's payload as the second dialect of the webhook, and that it changes nothing of the first."""

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
LABELS = {"alertname": "VaRBreach", "severity": "critical"}
DASHBOARD = "https://grafana/d/risk"


def recorded(name: str) -> Notification:
    return parse_notification((PAYLOADS / f"{name}.json").read_bytes(), Limits())


def an_alert(**changes: Any) -> dict[str, Any]:
    alert = {"status": "firing", "labels": LABELS, "annotations": {}, "startsAt": "2026-11-20T17:02:42Z"}
    links = {"silenceURL": "", "dashboardURL": "", "panelURL": "", "values": None, "valueString": ""}
    return {**alert, "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", **links, **changes}


def a_body(*alerts: object, **changes: Any) -> bytes:
    payload = {"version": "1", "orgId": 1, "state": "alerting", "title": "", "message": "", "alerts": alerts}
    return json.dumps({**payload, **changes}).encode()


def parsed(*alerts: object, **changes: Any) -> Notification:
    return parse_notification(a_body(*alerts, **changes), Limits())


def only(**changes: Any) -> Alert:
    notification = parsed(an_alert(**changes))
    assert not notification.bad
    return notification.alerts[0]


def refusal(payload: dict[str, Any]) -> BadPayload:
    with pytest.raises(BadPayload) as caught:
        parse_notification(json.dumps(payload).encode(), Limits())
    return caught.value


# --- what is read -----------------------------------------------------------------------------------------------------


def test_a_mixed_group_of_version_12() -> None:
    notification = recorded("grafana-12")
    assert (notification.dialect, notification.receiver) == (Dialect.GRAFANA, "responder")
    firing, resolved = notification.alerts
    assert [(a.labels["symbol"], a.firing) for a in (firing, resolved)] == [("BTC-USD", True), ("ETH-USD", False)]
    assert (firing.ends_at, resolved.ends_at) == (None, parse_time("2026-11-20T17:02:10Z"))
    assert firing.annotations["summary"] == "VaR of BTC-USD is 1.92 % (> 1.8 %)"
    assert firing.annotations["runbook_url"] == "https://wiki.risk.example/var"
    assert firing.annotations["values"] == "B=1.92, C=1"
    assert firing.annotations["value_string"].startswith("[ var='B' labels={symbol=BTC-USD} value=1.92 ]")
    assert firing.annotations["panel_url"].endswith("&viewPanel=4")
    assert firing.annotations["image_url"] == "https://images.risk.example/var-btc.png"
    assert "image_url" not in resolved.annotations
    assert (notification.truncated_alerts, notification.reason, notification.bad) == (0, None, ())


def test_what_grafana_says_of_its_sources_are_ordinary_alerts() -> None:
    no_data, error = recorded("grafana-9-no-data").alerts
    assert (no_data.name, error.name) == ("DatasourceNoData", "DatasourceError")
    assert {a.labels["rulename"] for a in (no_data, error)} == {"VaRBreach"}
    assert "connection refused" in error.annotations["Error"]
    assert "values" not in no_data.annotations
    assert set(no_data.annotations) == {"summary", "silence_url"}


def test_a_truncated_notification_says_so_and_its_state_says_nothing() -> None:
    assert recorded("grafana-12-truncated").truncated_alerts == 3
    assert parsed(an_alert(), state="ok", status="resolved").alerts[0].firing


def test_own_annotations_win_unless_they_are_empty() -> None:
    own = {"dashboard_url": "https://own", "panel_url": "", "values": "as I say"}
    read = only(annotations=own, dashboardURL=DASHBOARD, panelURL=f"{DASHBOARD}?viewPanel=1", values={"A": 1})
    assert read.annotations == {**own, "panel_url": f"{DASHBOARD}?viewPanel=1"}


@pytest.mark.parametrize("annotations", [None, [], "text"])
def test_links_need_no_annotations(annotations: object) -> None:
    assert only(annotations=annotations, dashboardURL=DASHBOARD).annotations == {"dashboard_url": DASHBOARD}


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({"B": 44.25, "C": 1}, "B=44.25, C=1"), ({"A": 1e6}, "A=1000000"), ({"A": -2.5e-7}, "A=-2.5e-07"),
        ({"A": None}, "A=null"), ({"A": "NaN"}, "A=NaN"), ({"A": 1e300}, "A=1e+300"), ({"A": [1.5]}, "A=[1.5]"),
        (None, None), ({}, None), ([1], None), ("1", None),
    ],
)  # fmt: skip
def test_values_as_people_read_them(values: object, shown: str | None) -> None:
    assert only(values=values).annotations.get("values") == shown


@pytest.mark.parametrize("wrong", [None, 7, [], {"a": "b"}, ""])
def test_a_link_that_is_no_text_is_left_out(wrong: object) -> None:
    assert only(dashboardURL=wrong, panelURL=wrong, silenceURL=wrong, imageURL=wrong).annotations == {}


def test_what_cannot_be_stored_is_repaired_in_what_is_added() -> None:
    read = only(dashboardURL="https://x\x00\ud800", values={"\ud800": "\x00"}, valueString="y" * 70_000)
    assert read.annotations["dashboard_url"] == "https://x\ufffd\ufffd"
    assert read.annotations["values"] == "\ufffd=\ufffd"
    assert len(read.annotations["value_string"]) == 65_536


def test_a_picture_in_the_body_is_not_kept() -> None:
    assert only(embeddedImage="iVBORw0KGgo=" * 1000).annotations == {}


# --- identity ---------------------------------------------------------------------------------------------------------


def test_a_fingerprint_is_kept_as_it_was_sent() -> None:
    """It covers labels that are not in the body, so it is another than one computed of those that are."""
    for alert in recorded("grafana-12").alerts:
        assert alert.fingerprint != fingerprint(alert.labels)
    assert only(fingerprint="50c00b04983bb531").fingerprint == "50c00b04983bb531"


@pytest.mark.parametrize("name", ["grafana-12", "grafana-9-no-data"])
def test_a_missing_fingerprint_is_computed_to_what_was_sent(name: str) -> None:
    """By `ruleUID`, or before that existed by the rule's page."""
    body = (PAYLOADS / f"{name}.json").read_text(encoding="utf-8").replace('"fingerprint"', '"forgotten"')
    again = parse_notification(body.encode(), Limits())
    assert [a.fingerprint for a in again.alerts] == [a.fingerprint for a in recorded(name).alerts]


def test_a_computed_fingerprint_is_never_alertmanagers_nor_another_rules() -> None:
    marks = {
        fingerprint(LABELS),
        only().fingerprint,
        only(ruleUID="a").fingerprint,
        only(ruleUID="b").fingerprint,
        only(generatorURL="https://grafana/alerting/c/edit").fingerprint,
    }
    assert len(marks) == 5
    assert only(ruleUID="a").fingerprint == only(ruleUID="a", generatorURL="x", startsAt=None).fingerprint


@pytest.mark.parametrize("uid", [None, "", 7, "\ud800", "a b", "x" * 41])
def test_a_rule_uid_that_is_none_is_as_if_not_told(uid: object) -> None:
    assert only(ruleUID=uid).fingerprint == only().fingerprint


# --- what is Grafana's ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["0.25", "0.27", "0.32", "0.34"])
def test_an_alertmanager_payload_with_foreign_keys_is_still_alertmanagers(name: str) -> None:
    payload = json.loads((PAYLOADS / f"alertmanager-{name}.json").read_bytes())
    plain = parse_notification(json.dumps(payload).encode(), Limits())
    for alert in payload["alerts"]:
        alert |= {"dashboardURL": DASHBOARD, "values": {"A": 1}, "ruleUID": "a", "silenceURL": "https://x", "orgId": 1}
    payload |= {"orgId": 1, "state": "ok", "title": "x", "message": "y", "appVersion": "12", "ruleId": 3}
    assert parse_notification(json.dumps(payload).encode(), Limits()) == plain
    assert plain.dialect is Dialect.ALERTMANAGER


@pytest.mark.parametrize("field", ["orgId", "state", "title"])
def test_one_field_of_its_own_is_enough(field: str) -> None:
    payload = {"version": "1", "alerts": [an_alert()], field: None}
    assert parse_notification(json.dumps(payload).encode(), Limits()).dialect is Dialect.GRAFANA


@pytest.mark.parametrize(
    ("payload", "at", "message"),
    [
        ({"version": "1", "alerts": []}, "version", "with its orgId"),
        ({"version": "2", "orgId": 1, "alerts": []}, "version", "this is '2'"),
        ({"orgId": 1, "state": "alerting", "alerts": []}, "version", "custom payload"),
        ({"text": "rendered by a template"}, "version", "custom payload"),
        ({"version": "1", "orgId": 1}, "alerts", "custom payload"),
        ({"version": "1", "orgId": 1, "alerts": "none"}, "alerts", "expected a list"),
        ({"ruleId": 4, "ruleName": "VaR", "state": "alerting", "evalMatches": [], "orgId": 1}, "version", "legacy"),
    ],
)
def test_what_is_neither_dialect_is_refused(payload: dict[str, Any], at: str, message: str) -> None:
    error = refusal(payload)
    assert error.at == at
    assert message in error.message


def test_a_number_that_json_does_not_have_is_refused() -> None:
    """Grafana sends null instead of NaN; only a template of somebody's own could write it."""
    with pytest.raises(BadPayload, match="NaN is no JSON number"):
        parsed(an_alert(values={"A": float("nan")}))


def test_a_bad_alert_keeps_its_exact_json_and_the_others_go_on() -> None:
    notification = parsed(an_alert(), an_alert(status="alerting"), {"labels": {}}, an_alert(labels={"a": "b"}))
    assert [bad.index for bad in notification.bad] == [1, 2]
    assert json.loads(notification.bad[1].json) == {"labels": {}}
    assert len(notification.alerts) == 2


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(["\ud800\x00"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
ALERTS = st.fixed_dictionaries(
    {"labels": st.just(LABELS) | st.dictionaries(st.text(), st.text())},
    optional={name: JSON for name in [*an_alert(), "ruleUID", "imageURL"] if name != "labels"},
)


@given(st.lists(ALERTS | JSON), st.dictionaries(st.sampled_from(["receiver", "groupKey", "truncatedAlerts"]), JSON))
def test_any_alerts_are_read_or_set_aside_and_can_be_stored(alerts: list[Any], changes: dict[str, Any]) -> None:
    try:
        notification = parsed(*alerts, **changes)
    except BadPayload:
        return  # a number that JSON does not have
    for alert in notification.alerts:
        for pair in [*alert.labels.items(), *alert.annotations.items()]:
            assert b"\x00" not in "".join(pair).encode()
    marks = [alert.fingerprint for alert in notification.alerts]
    assert len(set(marks)) == len(marks)
    assert len(notification.alerts) + len(notification.bad) <= len(alerts)
