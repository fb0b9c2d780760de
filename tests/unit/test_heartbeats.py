"""Heartbeats that must come in: what is taken for one, when it is missing, and what responder.yaml may say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from responder.alert import Alert, Notification, fingerprint
from responder.config import Config, read_config
from responder.contracts import Catalogue
from responder.environment import Environment
from responder.errors import BadConfig
from responder.heartbeat_settings import Expected
from responder.heartbeats import Beat, Hearing, beats, missing_from, why_missing
from responder.matchers import parse_matchers
from responder.timing import MINUTE, SECOND

NOW = 1_800_000_000 * SECOND
WITHIN = 5 * MINUTE
LABELS = {"alertname": "Watchdog", "prometheus": "a"}


def expected(match: str = 'alertname="Watchdog",prometheus="a"', name: str = "prometheus-a") -> Expected:
    return Expected(name, parse_matchers(match), WITHIN)


def alert(*, firing: bool = True, **labels: str) -> Alert:
    told = {**LABELS, **labels}
    return Alert(fingerprint(told), told, {}, firing, NOW, None, "")


def notification(*alerts: Alert) -> Notification:
    return Notification("r", "g", "", alerts, 0, None, {}, {}, ())


def taken(hearing: Hearing, now: int, *alerts: Alert) -> list[Mapping[str, str]]:
    return [a.labels for a in hearing.take(notification(*alerts), now).alerts]


# --- hearing ----------------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_noted_and_everything_else_goes_on() -> None:
    hearing = Hearing([expected()], NOW)
    other = alert(alertname="VaRBreach")
    assert taken(hearing, NOW + SECOND, alert(), other) == [other.labels]
    assert hearing.heard("prometheus-a") == Beat(seen=NOW + SECOND)


def test_a_watchdog_that_nobody_expects_is_an_alert_like_others() -> None:
    hearing = Hearing([expected()], NOW)
    assert taken(hearing, NOW, alert(prometheus="b")) == [alert(prometheus="b").labels]
    assert hearing.heard("prometheus-a") == Beat()


def test_a_notification_without_any_is_handed_on_as_it_is() -> None:
    told = notification(alert(alertname="VaRBreach"))
    assert Hearing([expected()], NOW).take(told, NOW) is told
    assert Hearing([], NOW).take(told, NOW) is told


def test_one_that_is_resolved_is_noted_and_stays_to_end_an_incident_from_before() -> None:
    hearing = Hearing([expected()], NOW)
    assert taken(hearing, NOW, alert(firing=False)) == [LABELS]
    assert hearing.heard("prometheus-a").resolved


def test_one_alert_may_be_several_heartbeats() -> None:
    hearing = Hearing([expected(), expected('alertname="Watchdog"', "any")], NOW)
    assert taken(hearing, NOW, alert()) == []
    assert hearing.heard("any") == hearing.heard("prometheus-a") == Beat(seen=NOW)


def test_the_end_of_one_server_s_heartbeat_says_nothing_while_another_s_comes() -> None:
    hearing = Hearing([expected('alertname="Watchdog"')], NOW)
    taken(hearing, NOW, alert(), alert(prometheus="b"))
    taken(hearing, NOW + MINUTE, alert(firing=False))
    assert not hearing.heard("prometheus-a").resolved
    taken(hearing, NOW + 2 * MINUTE, alert(firing=False, prometheus="b"))
    assert hearing.heard("prometheus-a").resolved


def test_of_a_notification_with_both_the_one_that_fires_counts() -> None:
    hearing = Hearing([expected('alertname="Watchdog"')], NOW)
    taken(hearing, NOW, alert(firing=False), alert(prometheus="b"))
    assert not hearing.heard("prometheus-a").resolved


def test_the_pass_is_woken_for_an_end_at_once_and_else_every_few_seconds() -> None:
    hearing, woken = Hearing([expected()], NOW), []
    hearing.wake = lambda: woken.append(1)
    for at in (0, 1, 2, 6):
        taken(hearing, NOW + at * SECOND, alert())
    assert len(woken) == 2
    taken(hearing, NOW + 7 * SECOND, alert(firing=False))
    assert len(woken) == 3


def test_a_reload_keeps_what_is_known_of_those_that_stay() -> None:
    hearing = Hearing([expected()], NOW)
    taken(hearing, NOW, alert())
    hearing.expect([expected(), expected('alertname="Deadman"', "b")], NOW + MINUTE)
    assert hearing.heard("prometheus-a") == Beat(seen=NOW)
    assert (hearing.since("prometheus-a"), hearing.since("b")) == (NOW, NOW + MINUTE)


# --- when it is missing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beat", "since", "due"),
    [
        (Beat(), NOW, NOW + WITHIN),
        (Beat(seen=NOW + MINUTE), NOW, NOW + MINUTE + WITHIN),
        (Beat(seen=NOW - MINUTE), NOW, NOW + WITHIN),
        (Beat(seen=NOW, ended=NOW + MINUTE), NOW, NOW + MINUTE),
        (Beat(seen=NOW + MINUTE, ended=NOW), NOW, NOW + MINUTE + WITHIN),
        (Beat(ended=NOW - MINUTE), NOW, NOW - MINUTE),
    ],
    ids=["never seen", "seen", "seen before the start", "resolved", "back after an end", "resolved before the start"],
)
def test_it_is_missing_from(beat: Beat, since: int, due: int) -> None:
    assert missing_from(expected(), beat, since) == due


@pytest.mark.parametrize(
    ("beat", "says"),
    [
        (Beat(), "has not come within 7m. "),
        (Beat(seen=NOW + 90 * SECOND), "is missing for 5m30s, last seen 2027-01-15T08:01:30Z. "),
        (Beat(seen=NOW, ended=NOW + MINUTE), "is told as resolved, which an alert that always fires never is. "),
    ],
)
def test_people_are_told_what_is_missing_and_where_to_look(beat: Beat, says: str) -> None:
    said = why_missing(expected(), beat, NOW, NOW + 7 * MINUTE)
    assert said.startswith(f"Watchdog of prometheus-a {says}")
    assert all(cause in said for cause in ("Prometheus is up", "Alertmanager", "network", "silence", "inhibition"))


def test_what_two_replicas_heard_is_joined() -> None:
    assert Beat(seen=1, ended=5, missing=4, incident="i").after(Beat(seen=3)) == Beat(
        seen=3, ended=5, missing=4, incident="i"
    )
    assert Beat().after(Beat()) == Beat()


def test_rows_are_read_by_name_without_those_that_were_forgotten() -> None:
    assert beats([("heartbeat:a", '{"seen": 5, "later": 1}'), ("heartbeat:b", "")]) == {"a": Beat(seen=5)}


# --- responder.yaml ---------------------------------------------------------------------------------------------------


def configured(text: str, **environ: str) -> Config:
    environment = Environment({"HOME": "/nowhere", **environ}, Path("/nowhere"))
    return read_config("responder.yaml", text, Catalogue({}, {}, {}), environment)


def test_both_ways_are_configured() -> None:
    config = configured(
        "heartbeats:\n"
        "  expect:\n"
        "    - {name: prometheus-a, match: ['alertname=\"Watchdog\"', 'env=~\"prod|test\"'], within: 10m, policy: p}\n"
        "  send:\n"
        "    - {name: outside, url: {env: SWITCH}, method: POST}\n",
        SWITCH="https://hc.example/ping/secret",
    )
    (one,) = config.heartbeats.expected
    assert (one.name, one.alertname, one.within, one.policy) == ("prometheus-a", "Watchdog", 10 * MINUTE, "p")
    assert [str(m) for m in one.matchers] == ['alertname="Watchdog"', 'env=~"prod|test"']
    (switch,) = config.heartbeats.send
    assert (switch.url, switch.every, switch.method) == ("https://hc.example/ping/secret", MINUTE, "POST")
    assert "secret" not in repr(config), "such an address is a secret itself"


EXPECT = "heartbeats: {{expect: [{{name: a, match: [{}], within: 5m}}]}}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (EXPECT.format("'severity=~\".*\"'"), "1:40: heartbeats.expect[0].match: no matcher says which alert it is"),
        (EXPECT.format("'alertname=~\"W.*\"'"), "1:40: heartbeats.expect[0].match: no matcher says which alert it is"),
        (EXPECT.format("'alertname=\"W'"), "1:52: heartbeats.expect[0].match[0]: a quoted text without its end"),
        ("heartbeats: {expect: [{name: a, match: []}]}", "1:40: heartbeats.expect[0].match: "),
        (
            "heartbeats: {expect: [{name: a, match: ['alertname=\"W\"'], within: 5s}]}",
            "1:67: heartbeats.expect[0].within",
        ),
        ("heartbeats: {send: [{name: a, url: 'http://hc.example/x'}]}", "1:36: heartbeats.send[0].url"),
        ("heartbeats: {send: [{name: a, url: 'https://h/x', every: 1s}]}", "1:58: heartbeats.send[0].every"),
        (
            "heartbeats: {send: [{name: a, url: 'https://h/x'}, {name: a, url: 'https://h/y'}]}",
            "1:59: heartbeats.send[1].name: a stands here twice",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_at_its_place(text: str, told: str) -> None:
    with pytest.raises(BadConfig) as refused:
        configured(text)
    assert str(refused.value).startswith(f"responder.yaml:{told}")
    assert "hc.example" not in str(refused.value)


def test_nothing_is_expected_by_default() -> None:
    settings: Any = configured("").heartbeats
    assert (settings.expected, settings.send) == ((), ())
