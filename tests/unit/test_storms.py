"""The ladder of a storm whose incidents rise, and what the store holds of storms."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from responder.alert import Limits, parse_notification
from responder.desk import Shelf
from responder.incident import Incident
from responder.ingest import Ingest
from responder.policies import Policy
from responder.records import NotificationRow, ScopeRow
from responder.rules import Rules
from responder.scopes import Storming
from responder.timing import format_time
from tests.builders import T0, Ledger, a_policy, a_runbook, an_alert, rules_of

LIMIT = {"incidents": 2, "within": "5m"}
QUIET = Policy.model_validate({"chat": ["room"]})
"""Wakes nobody."""


def rules(name: str, **others: Policy) -> Rules:
    """One runbook that names its ladder, the default wakes nobody; `severe` is for what is critical, where it is."""
    by_severity = {"critical": "severe"} if "severe" in others else {}
    symbol = {"symbol": {"label": "symbol", "pattern": "[A-Z]+"}}
    book = a_runbook(inputs=symbol, target="risk-api/{{ symbol }}", steps=[], mode="observe", verify=None)
    known = rules_of(book)
    ladder = Policy.model_validate(a_policy(storm=LIMIT, by_severity=by_severity))
    return replace(known, hash=name, policies={"ladder": ladder, "quiet": QUIET, **others}, default_policy="quiet")


OLD = rules("old")
NEW = rules("new", severe=Policy.model_validate(a_policy()))


def fires(ledger: Ledger, shelf: Shelf, symbol: str, severity: str = "warning", env: str = "prod") -> None:
    labels = an_alert(alertname="TooMuchRisk", symbol=symbol, severity=severity, env=env)
    alert: Any = {"status": "firing", "labels": labels, "startsAt": format_time(T0)}
    body = json.dumps({"version": "4", "alerts": [alert]}).encode()
    name = f"n{len(ledger.writes)}"
    row = NotificationRow(name, "live", 0, "test", "r", "g", 1, 0, body)
    ledger.do(Ingest(name, parse_notification(body, Limits()), row, shelf, None))


def storm_of(ledger: Ledger) -> Incident:
    rows = [row.fold for row in ledger.state.incidents.values() if row is not None]
    (found,) = (incident for incident in rows if incident.members)
    return found


def test_a_storm_rises_on_the_ladder_of_what_rose_and_not_on_the_default_one() -> None:
    for current, policy in ((OLD, "ladder"), (NEW, "severe")):
        ledger, shelf = Ledger(), Shelf(current, "test")
        for symbol in "AB":
            fires(ledger, shelf, symbol)
        assert (storm_of(ledger).policy, storm_of(ledger).severity) == ("ladder", "warning")
        fires(ledger, shelf, "B", "critical")
        assert (storm_of(ledger).policy, storm_of(ledger).severity) == (policy, "critical")


def test_a_storm_keeps_its_ladder_when_its_own_rules_do_not_know_the_one_of_what_rose() -> None:
    ledger, shelf = Ledger(), Shelf(OLD, "test")
    for symbol in "AB":
        fires(ledger, shelf, symbol)
    newer = Shelf(NEW, "test", older={"old": OLD})
    fires(ledger, newer, "C")
    fires(ledger, newer, "C", "critical")
    rose = ledger.incident(next(i for i, row in ledger.state.incidents.items() if row and "C" in row.fold.target))
    assert rose.policy == "severe"
    assert (storm_of(ledger).policy, storm_of(ledger).severity) == ("ladder", "critical")


@pytest.mark.parametrize("env", ["prod", ""])
@pytest.mark.parametrize("body", ['{"openings": [], "storm": null}', "no body", "[1]"])
def test_what_the_version_before_wrote_and_what_nobody_can_read_stops_no_alert(body: str, env: str) -> None:
    ledger, shelf = Ledger(), Shelf(OLD, "test")
    ledger.state.scopes["storm:ladder"] = ScopeRow("storm:ladder", body, T0)
    for symbol in "AB":
        fires(ledger, shelf, symbol, env=env)
    assert storm_of(ledger).members == 1


def test_a_storm_of_before_takes_in_what_says_no_env_and_nothing_of_an_env() -> None:
    ledger, shelf = Ledger(), Shelf(OLD, "test")
    for symbol in "AB":
        fires(ledger, shelf, symbol, env="")
    text = ledger.state.scopes["storm:ladder"]
    assert text is not None
    before = Storming.model_validate_json(text.body).model_dump(exclude={"envs"})
    ledger.state.scopes["storm:ladder"] = ScopeRow("storm:ladder", json.dumps(before), T0)
    fires(ledger, shelf, "C")
    assert storm_of(ledger).members == 1
    fires(ledger, shelf, "D", env="")
    assert storm_of(ledger).members == 2
