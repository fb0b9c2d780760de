"""A person with a role lets one run act outside its hours: once, with a reason, for this incident alone."""

from __future__ import annotations

from typing import Any

import pytest

from responder.choices import choices
from responder.errors import Rejected
from responder.policies import Policy
from responder.recorded import Cause
from responder.timing import HOUR, MINUTE
from tests.acceptance.language_parts import around
from tests.acceptance.stage import RISK, Stage, own, playing, risky
from tests.builders import a_runbook, an_alert, call_step

SHUT = around(3, 5)
OTHER = an_alert(alertname="Other", symbol="")


def shut(otherwise: str = "deny", **parts: Any) -> Any:
    """Rules whose calendar does not let them act during the story's first hours."""
    hours = {"within": "session", "otherwise": otherwise}
    first = a_runbook(steps=[call_step()], calendar=hours, **parts)
    other = a_runbook(
        runbook="other", match="Other", target="other", steps=[call_step("o", "/api/other")], calendar=hours
    )
    return playing(own(first, other, calendars={"session": SHUT}))


def refused(stage: Stage) -> None:
    risky(stage)
    stage.fires(RISK)
    stage.at("1:00")
    assert stage.did == []


def lets(stage: Stage, actor: str = "olga", **said: Any) -> None:
    stage.person("override", actor, "the desk has agreed", **said)


def test_without_it_the_calendar_refuses_and_with_it_the_run_is_made_once() -> None:
    with shut() as stage:
        refused(stage)
        lets(stage)
        stage.at("3:00")
        assert [path for _, path in stage.did] == ["/api/orders"]
        assert stage.last_run.cause is Cause.ALERT
        verdict = next(v for v in stage.last_run.verdicts if v.gate == "calendar")
        assert "session is closed until" in verdict.reason
        assert "olga lets this run act all the same: the desk has agreed" in verdict.reason
        assert any("olga lets one run of" in line for line in stage.thread)
        assert stage.incident.override is not None
        assert stage.incident.override.run == stage.last_run.number


def test_it_is_for_this_incident_alone() -> None:
    with shut() as stage:
        refused(stage)
        lets(stage)
        stage.fires(OTHER)
        stage.at("5:00")
        assert [path for _, path in stage.did] == ["/api/orders"]


def test_it_is_for_one_run_alone() -> None:
    with shut() as stage:
        refused(stage)
        lets(stage, lasts=2 * HOUR)
        stage.at("3:00")
        stage.world.numbers["risk"] = lambda: 2.0
        stage.at("30:00")
        assert [r.cause for r in stage.incident.runs][-1] is Cause.RELAPSE
        assert [path for _, path in stage.did] == ["/api/orders"]


@pytest.mark.parametrize(("resumed", "done"), [("1:30", ["/api/orders"]), ("2:30", [])])
def test_after_its_end_it_lets_nothing_pass(resumed: str, done: list[str]) -> None:
    with shut() as stage:
        risky(stage)
        stage.pauses()
        stage.fires(RISK)
        stage.at("1:00")
        lets(stage, lasts=MINUTE)
        stage.at(resumed)
        stage.resumes()
        stage.at("5:00")
        assert [path for _, path in stage.did] == done


def test_a_run_that_waits_for_its_hours_goes_on_at_once() -> None:
    with shut("wait") as stage:
        refused(stage)
        lets(stage)
        stage.at("2:00")
        assert [path for _, path in stage.did] == ["/api/orders"]


def test_no_other_gate_is_lifted() -> None:
    with shut() as stage:
        refused(stage)
        stage.pauses("olga")
        lets(stage)
        stage.at("3:00")
        assert stage.did == []


@pytest.mark.parametrize(
    ("parts", "why"),
    [({"otherwise": "ask"}, "asks people"), ({}, "has taken it over")],
)
def test_when_it_is_refused(parts: dict[str, Any], why: str) -> None:
    with shut(**parts) as stage:
        refused(stage)
        if not parts:
            stage.person("takeover", "bob")
        with pytest.raises(Rejected, match=why):
            lets(stage)


def test_it_needs_a_reason_and_hours_that_are_shut() -> None:
    with shut() as stage:
        refused(stage)
        with pytest.raises(Rejected, match="say a --reason"):
            stage.person("override", "olga", " ")
        with pytest.raises(Rejected, match="say between 1m and 12h"):
            lets(stage, lasts=24 * HOUR)
        stage.at("4:00:00")
        with pytest.raises(Rejected, match="lets it act now"):
            lets(stage)


# --- the entry in Slack -----------------------------------------------------------------------------------------------


def offered(stage: Stage) -> bool:
    """Whether Slack's menu has the entry now."""
    return any(choice.verb == "override" for choice in choices(stage.incident, Policy()))


@pytest.mark.parametrize("otherwise", ["deny", "wait"])
def test_it_is_offered_while_its_hours_hold_it_back_and_not_once_it_was_let_through(otherwise: str) -> None:
    with shut(otherwise) as stage:
        refused(stage)
        assert offered(stage)
        lets(stage)
        assert not offered(stage)
        stage.at("3:00")
        assert [path for _, path in stage.did] == ["/api/orders"]
        assert not offered(stage)


@pytest.mark.parametrize("otherwise", ["deny", "wait"])
def test_it_is_offered_anew_when_its_time_was_over_before_it_could_act(otherwise: str) -> None:
    with shut(otherwise) as stage:
        risky(stage)
        stage.pauses()
        stage.fires(RISK)
        stage.at("1:00")
        assert not offered(stage), "the pause holds it back"
        lets(stage, lasts=MINUTE)
        stage.at("2:30")
        stage.resumes()
        stage.at("3:00")
        assert stage.did == []
        assert offered(stage)


def test_it_is_not_offered_where_its_hours_ask_people() -> None:
    with shut("ask") as stage:
        refused(stage)
        assert not offered(stage)
