"""Who is woken when: levels, acknowledgements, restarts, severities."""

from __future__ import annotations

import pytest

from responder.errors import Rejected
from tests.acceptance.stage import RISK, Stage, own, playing, risky
from tests.builders import a_runbook, an_alert, call_step

QUIET = a_runbook(verify={"check": "risk", "expect": "value < 1", "within": "1m"})
"""Ends ineffective after a minute, so that the first level is told then."""
LADDER = [
    {"name": "L1", "after": 0, "page": "first"},
    {"name": "L2", "after": "15m", "page": "second"},
    {"name": "L3", "after": "30m", "page": "boss"},
]


def unanswered(stage: Stage) -> None:
    """An incident that nothing fixes."""
    risky(stage, helps=False)
    stage.fires(RISK)


def test_acknowledged_a_second_before_the_second_level_is_not_woken() -> None:
    with playing(own(QUIET)) as stage:
        unanswered(stage)
        stage.at("14:59")
        stage.person("ack", "alice", "looking")
        stage.at("20:00")
        assert stage.pages == [("1:00", "first")]


def test_without_an_acknowledgement_the_second_level_is_woken_once_at_fifteen_minutes() -> None:
    with playing(own(QUIET)) as stage:
        unanswered(stage)
        stage.at("14:59")
        assert stage.pages == [("1:00", "first")]
        stage.at("14:59")
        stage.at("2:00:00")
        assert stage.pages == [("1:00", "first"), ("15:00", "second")]


def test_a_restart_a_second_before_changes_nothing() -> None:
    with playing(own(QUIET)) as stage:
        unanswered(stage)
        stage.at("14:59")
        stage.restart()
        stage.at("15:01")
        stage.restart()
        stage.at("16:00")
        assert stage.pages == [("1:00", "first"), ("15:00", "second")]


def test_after_an_hour_down_every_overdue_level_comes_once_and_says_how_late() -> None:
    with playing(own(QUIET, levels=LADDER)) as stage:
        unanswered(stage)
        stage.at("2:00")
        stage.restart(down=3600 * 1_000_000)
        levels = [e.fact for e in stage.events(stage.incident) if e.fact.kind == "level_reached"]
        assert [(level.name, level.late // 60_000_000) for level in levels] == [("L1", 0), ("L2", 47), ("L3", 32)]
        stage.at("2:00:00")
        assert [to for _, to in stage.pages] == ["first", "second", "boss"]


def test_an_acknowledgement_that_leads_to_nothing_wakes_the_same_level_again() -> None:
    with playing(own(QUIET)) as stage:
        unanswered(stage)
        stage.at("5:00")
        stage.person("ack", "alice")
        stage.at("34:59")
        assert stage.pages == [("1:00", "first")]
        stage.at("35:01")
        assert stage.pages[1:] == [("35:00", "first")]
        keys = [s.message.key for s in stage.sent if s.message.kind == "page"]
        assert len(set(keys)) == 2, "a pager wakes nobody for a key that is open already"


def test_after_an_expired_acknowledgement_the_climb_goes_on() -> None:
    with playing(own(QUIET)) as stage:
        unanswered(stage)
        stage.at("5:00")
        stage.person("ack", "alice")
        stage.at("44:59")
        assert [to for _, to in stage.pages] == ["first", "first"]
        stage.at("45:01")
        assert stage.pages[2:] == [("45:00", "second")]


def test_a_second_acknowledgement_holds_anew() -> None:
    with playing(own(QUIET)) as stage:
        unanswered(stage)
        stage.at("5:00")
        stage.person("ack", "alice")
        stage.at("20:00")
        stage.person("ack", "bob")
        stage.at("49:59")
        assert stage.pages == [("1:00", "first")]
        stage.at("50:01")
        assert stage.pages[1:] == [("50:00", "first")]


def test_acknowledging_twice_is_saying_it_once() -> None:
    with playing(own(QUIET)) as stage:
        unanswered(stage)
        stage.person("ack", "alice")
        stage.person("ack", "alice")
        assert stage.incident.acknowledgements == 1


def test_a_rise_in_severity_wakes_people_again_after_an_acknowledgement() -> None:
    with playing(own(QUIET)) as stage:
        risky(stage, helps=False)
        stage.fires(an_alert(alertname="TooMuchRisk", severity="warning", symbol="ETH-USD"))
        stage.at("2:00")
        stage.person("ack", "alice")
        stage.at("10:00")
        stage.fires(an_alert(alertname="TooMuchRisk", severity="critical", symbol="BTC-USD"))
        stage.at("12:01")
        assert stage.incident.severity == "critical"
        assert [to for _, to in stage.pages] == ["first", "first"]
        stage.at("25:01")
        assert stage.pages[-1] == ("25:00", "second")


def test_a_lower_severity_that_joins_changes_nothing() -> None:
    with playing(own(QUIET)) as stage:
        risky(stage, helps=False)
        stage.fires(an_alert(alertname="TooMuchRisk", severity="critical", symbol="ETH-USD"))
        stage.at("2:00")
        stage.person("ack", "alice")
        stage.fires(an_alert(alertname="TooMuchRisk", severity="warning", symbol="BTC-USD"))
        stage.at("20:00")
        assert stage.pages == [("1:00", "first")]


def test_taking_over_leaves_the_alert_to_a_person() -> None:
    with playing(own(a_runbook(steps=[call_step("one"), call_step("two")]))) as stage:
        risky(stage, helps=False)
        stage.world.slow = 5.0
        stage.fires(RISK)
        stage.at("0:02")
        stage.person("takeover", "alice")
        stage.at("1:00:00")
        assert stage.did == [("0:05", "/api/orders")], "the step in flight ends, the next one never begins"
        assert stage.pages == []


def test_what_is_closed_cannot_be_acknowledged() -> None:
    with playing(own(QUIET)) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        stage.resolves(RISK)
        assert stage.incident.closed
        with pytest.raises(Rejected, match="is closed"):
            stage.person("ack")


def test_a_page_is_resolved_when_the_incident_closes() -> None:
    with playing(own(QUIET)) as stage:
        unanswered(stage)
        stage.at("3:00")
        risky(stage)
        stage.resolves(RISK)
        stage.at("4:00")
        assert stage.incident.closed
        ends = [(s.destination, s.message.key) for s in stage.sent if s.message.kind == "resolve"]
        begins = [(s.destination, s.message.key) for s in stage.sent if s.message.kind == "page"]
        assert ends == begins


def test_newcomers_do_not_put_the_next_level_off() -> None:
    many = {**QUIET, "inputs": {"symbol": {"label": "symbol", "type": "currency_pair"}}}
    with playing(own(many)) as stage:
        risky(stage, helps=False)
        for number in range(4):
            stage.fires(an_alert(alertname="TooMuchRisk", symbol=f"A{number}-USD"))
            stage.after("4m")
        assert stage.pages == [("1:00", "first"), ("15:00", "second")]
        assert len(stage.incident.runs) == 4


def test_what_comes_back_after_a_fix_climbs_from_the_beginning() -> None:
    with playing(own(QUIET)) as stage:
        unanswered(stage)
        stage.at("20:00")
        stage.world.numbers["risk"] = lambda: 0.5
        stage.fires(an_alert(alertname="TooMuchRisk", symbol="ETH-USD"))
        stage.at("30:00")
        assert [to for _, to in stage.pages] == ["first", "second"]
