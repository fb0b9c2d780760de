"""Notifications become episodes and incidents: once each, in whatever order they come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.alert import Limits, parse_notification
from responder.desk import Shelf
from responder.ingest import NEWS_KEPT, Announce, Bury, Doubtful, Ingest, News, Received, incident_id
from responder.records import NotificationRow
from responder.timing import MINUTE, format_time
from tests.builders import T0, Ledger, a_runbook, an_alert, cut_step, rules_of

SYMBOL = {"symbol": {"label": "symbol", "type": "currency_pair"}}
BOOK = Shelf(rules_of(a_runbook(inputs=SYMBOL, steps=[cut_step()])), "test")


def alert(
    symbol: str = "BTC-USD", *, firing: bool = True, start: int = T0, end: int | None = None, **labels: str
) -> Any:
    return {
        "status": "firing" if firing else "resolved",
        "labels": an_alert(**{"alertname": "TooMuchRisk", "symbol": symbol, **labels}),
        "startsAt": format_time(start),
        "endsAt": None if end is None else format_time(end),
    }


def sent(ledger: Ledger, *alerts: Any, namespace: str = "live", **known: Any) -> Received:
    body = json.dumps({"version": "4", "alerts": alerts}).encode()
    name = f"n{len(ledger.writes)}"
    row = NotificationRow(name, namespace, 0, "test", "r", "g", len(alerts), 0, body)
    answer: Received = ledger.do(Ingest(name, parse_notification(body, Limits()), row, BOOK, None, **known))
    return answer


def counts(got: Received) -> tuple[int, int, int, int]:
    return got.opened, got.fired, got.resolved, got.repeated


def test_each_alert_counts_once() -> None:
    ledger = Ledger()
    assert counts(sent(ledger, alert(), alert("ETH-USD"))) == (1, 2, 0, 0)
    assert counts(sent(ledger, alert(), alert("ETH-USD"))) == (0, 0, 0, 2)
    assert counts(sent(ledger, alert(firing=False, end=T0 + MINUTE))) == (0, 0, 1, 0)
    assert counts(sent(ledger, alert(firing=False, end=T0 + MINUTE))) == (0, 0, 0, 1)
    assert [e.firing for e in ledger.incident().episodes.values()] == [False, True]


def test_absence_is_no_resolve() -> None:
    ledger = Ledger()
    sent(ledger, alert(), alert("ETH-USD"))
    sent(ledger, alert())
    assert len(ledger.incident().firing) == 2


def test_resolving_what_never_fired_opens_nothing() -> None:
    ledger = Ledger()
    assert counts(sent(ledger, alert(firing=False))) == (0, 0, 0, 1)
    assert ledger.kinds == []


def test_every_notification_is_kept_as_it_came() -> None:
    ledger = Ledger()
    sent(ledger, alert())
    (row,) = ledger.writes[0].notifications
    assert (row.received_at, json.loads(row.body)["version"]) == (T0, "4")


def test_a_firing_that_is_older_than_its_end_is_in_doubt() -> None:
    ledger = Ledger()
    sent(ledger, alert())
    sent(ledger, alert(firing=False, end=T0 + MINUTE))
    with pytest.raises(Doubtful) as doubt:
        sent(ledger, alert())
    (fingerprint,) = doubt.value.fingerprints
    asked = frozenset({fingerprint})
    assert counts(sent(ledger, alert(), asked=asked, gone=asked)) == (0, 0, 0, 1)
    assert sent(ledger, alert(), asked=asked).fired == 1, "what nobody can tell is firing"


def test_a_new_start_after_the_end_is_no_doubt() -> None:
    ledger = Ledger()
    sent(ledger, alert())
    sent(ledger, alert(firing=False, end=T0 + MINUTE))
    assert sent(ledger, alert(start=T0 + 2 * MINUTE)).fired == 1


def test_namespaces_do_not_touch_each_other() -> None:
    ledger = Ledger()
    sent(ledger, alert())
    assert counts(sent(ledger, alert(), namespace="replay")) == (1, 1, 0, 0)
    sent(ledger, alert(firing=False, end=T0 + MINUTE), namespace="replay")
    live = [row.fold for row in ledger.state.incidents.values() if row is not None and row.fold.live]
    assert len(live[0].firing) == 1


def test_severity_only_rises() -> None:
    ledger = Ledger()
    sent(ledger, alert(severity="warning"))
    sent(ledger, alert("ETH-USD", severity="info"))
    assert ledger.incident().severity == "warning"
    sent(ledger, alert("SOL-USD", severity="critical"))
    assert ledger.incident().severity == "critical"
    assert ledger.kinds.count("severity_rose") == 1


def test_an_unknown_severity_counts_as_the_highest() -> None:
    ledger = Ledger()
    sent(ledger, alert(severity="high"))
    sent(ledger, alert("ETH-USD", severity="apocalypse"))
    assert ledger.incident().severity == "apocalypse"


def test_a_strange_value_for_evidence_is_told_and_the_run_starts() -> None:
    ledger = Ledger()
    sent(ledger, alert("not a pair"))
    assert "run_started" in ledger.kinds
    assert ledger.incident().urgent == "label symbol='not a pair' is not a currency_pair"


def test_what_cannot_be_understood_is_kept_beside_the_rest() -> None:
    ledger = Ledger()
    assert sent(ledger, {"labels": 3}, alert()).fired == 1
    (letter,) = ledger.writes[0].dead_letters
    assert json.loads(letter.body) == {"labels": 3}


def test_our_own_news_are_one_incident_and_bounded() -> None:
    ledger = Ledger()
    news = News("responder:rules", "The rules could not be loaded", "x")
    for number in range(NEWS_KEPT + 5):
        ledger.do(Announce(f"a{number}", news, f"problem {number % (NEWS_KEPT + 2)}", BOOK))
    assert len(ledger.incident().problems) == NEWS_KEPT
    ledger.do(Bury("b", "test", "not JSON", b"{", BOOK))
    assert len([row for row in ledger.state.incidents.values() if row is not None]) == 2


def test_an_incidents_name_is_the_same_when_it_is_done_again() -> None:
    assert incident_id("op", "live", "cut", "t") == incident_id("op", "live", "cut", "t")
    assert incident_id("op", "live", "cut", "t") != incident_id("op", "live", "cut", "u")
    assert incident_id("op", "live", None, "t").isalnum()


@given(st.lists(st.tuples(st.sampled_from(["AAA-USD", "BBB-USD", "CCC-USD"]), st.booleans()), max_size=20))
def test_the_last_word_about_each_alert_counts(words: list[tuple[str, bool]]) -> None:
    ledger, last = Ledger(), {}
    for number, (symbol, firing) in enumerate(words):
        at = T0 + number * MINUTE
        sent(ledger, alert(symbol, firing=firing, start=at, end=None if firing else at))
        last[symbol] = firing
    rows = [row for row in ledger.state.episodes.values() if row is not None]
    assert sum(row.firing for row in rows) == sum(last.values())
    still = [e for row in ledger.state.incidents.values() if row is not None for e in row.fold.firing]
    assert len(still) == sum(last.values())
