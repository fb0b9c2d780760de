"""A person who starts a run lets it act outside its hours: with a reason, once, and nothing else is lifted."""

from __future__ import annotations

from typing import Any

import pytest

from responder import facts as f
from responder.errors import Rejected
from responder.manual_runs import StartByHand
from responder.timing import HOUR
from tests.acceptance.desk import Desk, by_hand, reasons
from tests.acceptance.stage import START, own, playing, risky
from tests.builders import a_runbook, call_step


def kept(otherwise: str = "deny", calendar: str = "shut", **parts: Any) -> Any:
    """A runbook that is kept to the hours of a calendar; `shut` opens three hours after the story's beginning."""
    hour = START // HOUR % 24
    calendars = {
        name: {"from": f"{(hour + before) % 24:02}:00", "to": f"{(hour + 5) % 24:02}:00", "timezone": "UTC"}
        for name, before in (("shut", 3), ("open", -1))
    }
    hours = {"within": calendar, "otherwise": otherwise}
    return playing(own(a_runbook(steps=[call_step()], calendar=hours, **parts), calendars=calendars))


@pytest.mark.parametrize("otherwise", ["deny", "wait"])
def test_a_person_lets_one_run_by_hand_act_outside_its_hours_and_stands_by_it(otherwise: str) -> None:
    with kept(otherwise) as stage:
        risky(stage)
        assert [verdict.gate for verdict in Desk(stage).plans("cut").refused] == ["calendar"]
        assert Desk(stage).starts("cut").turn is None
        desk = Desk(stage, "olga", "agreed with the desk")
        plan = desk.plans("cut")
        assert plan.refused == ()
        (said,) = [one.verdict for one in plan.judged if one.verdict.gate == "calendar"]
        assert said.override
        assert "shut is closed until" in said.reason
        assert "olga lets this run act all the same: agreed with the desk" in said.reason
        desk.starts("cut")
        assert stage.world.done == ["/api/orders"]
        events = {event.fact.kind: event for event in stage.events(by_hand(stage))}
        overridden, begun = events["calendar_overridden"], events["run_started"]
        assert isinstance(overridden.fact, f.CalendarOverridden)
        assert (overridden.actor, overridden.at, overridden.fact.note) == ("olga", begun.at, "agreed with the desk")
        assert (overridden.seq, "shut is closed until" in overridden.fact.hours) == (begun.seq - 1, True)
        assert any("olga lets one run of cut act outside its hours" in line for line in stage.thread)
        override = by_hand(stage).override
        assert override is not None
        assert override.run == 1
        assert any(v.override for v in stage.last_run.verdicts), "the intent says by whose word it passed"


def test_it_lets_the_next_run_by_hand_pass_no_hours() -> None:
    with kept() as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        Desk(stage, "olga", "agreed").starts("cut")
        stage.at("5:00")
        assert not by_hand(stage).closed
        assert "shut is closed until" in reasons(Desk(stage).plans("cut"))
        Desk(stage, "olga", "agreed once more").starts("cut")
        assert stage.world.done == ["/api/orders", "/api/orders"]


def test_it_lifts_no_other_gate() -> None:
    with kept() as stage:
        stage.pauses("alice")
        assert [verdict.gate for verdict in Desk(stage, "olga", "agreed").plans("cut").refused] == ["pause"]


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"otherwise": "ask"}, "its calendar asks people: approve what it asks for"),
        ({"calendar": "open"}, "the calendar of cut lets it act now"),
    ],
)
def test_hours_that_need_no_override_are_not_overridden(parts: dict[str, str], why: str) -> None:
    with kept(**parts) as stage:
        risky(stage)
        plan = Desk(stage, "olga", "agreed").plans("cut")
        assert [(verdict.gate, verdict.reason) for verdict in plan.refused] == [("override", why)]
        assert Desk(stage, "olga", "agreed").starts("cut").turn is None
        assert Desk(stage).starts("cut").turn is not None
    with playing(own(a_runbook(steps=[call_step()]))) as stage:
        assert "has no calendar" in reasons(Desk(stage, "olga", "agreed").plans("cut"))


def test_hours_that_open_before_it_begins_are_not_overridden() -> None:
    with kept() as stage:
        shown = Desk(stage, "olga", "agreed").plans("cut")
        stage.at("4:00:00")
        with pytest.raises(Rejected, match="the calendar of cut lets it act now"):
            stage._submit(lambda d: lambda shelf: StartByHand(d.new_id(), shown, shelf, d.worker))
        assert stage.incidents() == []
