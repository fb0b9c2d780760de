"""Scheduled runbooks: what they read and tell, by whose rules, and when nobody hears of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from responder.errors import BadRules
from responder.recorded import Result
from responder.schedules import ArmSchedules, StartScheduled
from responder.timing import SECOND
from tests.acceptance.language_parts import armed, around, before_open
from tests.acceptance.stage import alert, halting, own, playing
from tests.builders import a_runbook, call_step

LOOK = {"id": "look", "manual": "look at the feeds"}
FEEDS = {"id": "feeds", "action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}}


def scheduled(*steps: Any, **parts: Any) -> Any:
    whole = {"runbook": "before-open", "target": "before-open", "match": None, "checks": None, "verify": None}
    return a_runbook(**{**whole, "schedule": {"cron": "0 * * * *"}, "steps": list(steps), **parts})


def test_a_check_that_fails_and_goes_on_is_told() -> None:
    with playing(before_open(expect="value < 1", on_failure="continue")) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        stage.advance(armed(stage))
        stage.after("1m")
        assert stage.last_run.result is Result.FAILED
        assert [who for _, who in stage.pages] == ["first"]


def test_a_schedule_reads_also_where_nothing_may_be_changed() -> None:
    with playing(own(scheduled({**FEEDS, "expect": "value < 1"}, mode=None), mode="observe")) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        stage.advance(armed(stage))
        stage.after("1m")
        assert stage.last_run.result is Result.FAILED


def test_a_scheduled_run_that_waits_is_told_when_the_next_comes_due() -> None:
    with playing(own(scheduled(LOOK))) as stage:
        stage.advance(armed(stage))
        stage.after("2h")
        assert len(stage.incidents()) == 1
        assert len([1 for _, who in stage.pages if who == "first"]) == 1
        assert "came due again" in str(stage.incident.urgent)


def test_an_early_acknowledgement_does_not_hide_how_it_ended() -> None:
    with playing(own(scheduled(LOOK, {**FEEDS, "expect": "value < 1"}))) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        stage.advance(armed(stage))
        stage.person("ack", "alice")
        stage.after("1m")
        stage.person("done", "bob")
        stage.after("1m")
        assert not stage.incident.closed
        assert [who for _, who in stage.pages] == ["first"]


def test_each_failure_of_a_schedule_wakes_people() -> None:
    with playing(own(scheduled({**FEEDS, "expect": "value < 1"}))) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        stage.advance(armed(stage))
        stage.after("10m")
        assert len([who for _, who in stage.pages if who == "first"]) == 1
        stage.after("1h")
        assert len(stage.incidents()) == 1
        assert len([who for _, who in stage.pages if who == "first"]) == 2


def test_a_schedule_runs_by_the_rules_of_its_time() -> None:
    with playing(own(scheduled({**FEEDS, "expect": "value < 1"}))) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        stage.advance(armed(stage))
        stage.after("10m")
        stage.reload(own(scheduled({**FEEDS, "expect": "value < 3"}))[0])
        stage.after("1h")
        assert stage.last_run.result is Result.OBSERVED
        assert stage.incident.closed


def test_a_schedule_passes_over_the_times_at_which_its_calendar_is_closed() -> None:
    shut = own(scheduled(FEEDS, calendar="session"), calendars={"session": around(3, 5)})
    with playing(shut) as stage:
        stage.world.numbers["risk"] = lambda: 0.5
        stage.advance(armed(stage))
        stage.after("10m")
        assert (stage.incidents(), stage.pages) == ([], [])
        stage.after("3h")
        assert stage.incidents()


def test_a_schedule_starts_no_change_by_another_runbook() -> None:
    _, halt = halting("1m")
    with pytest.raises(BadRules, match="a schedule only reads, so it starts no other runbook"):
        own(scheduled(FEEDS, unless_fixed={"1m": {"run": "halt"}}), halt)


def test_a_replica_with_older_rules_takes_no_schedule_away() -> None:
    with playing(own(scheduled(FEEDS))) as stage:
        stage.world.numbers["risk"] = lambda: 0.5
        stage.advance(armed(stage) - SECOND)
        old = own(a_runbook())[0]
        stage._submit(
            lambda desk: (
                lambda shelf: StartScheduled(desk.new_id(), "before-open", replace(shelf, current=old), desk.worker)
            )
        )
        stage.after("10m")
        assert len(stage.incidents()) == 1


def test_a_schedule_that_is_gone_is_forgotten_at_the_next_load() -> None:
    with playing(own(scheduled(FEEDS))) as stage:
        armed(stage)
        stage.reload(own(a_runbook())[0])
        known = frozenset({"before-open"})
        stage._submit(lambda desk: lambda shelf: ArmSchedules(desk.new_id(), shelf, known))
        assert stage.scope("schedule:before-open") is None


def test_alerts_and_schedules_are_incidents_apart() -> None:
    answers = own(scheduled(call_step(), match="Feed", schedule=None))
    with playing(answers) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        stage.fires(alert("Feed"))
        stage.after("1m")
        stage.reload(own(scheduled(FEEDS))[0])
        stage._submit(lambda desk: lambda shelf: ArmSchedules(desk.new_id(), shelf))
        stage.after("3h")
        assert stage.world.done == ["/api/orders"]
        assert len(stage.incidents()) == 4
    with playing(own(scheduled(LOOK))) as stage:
        stage.advance(armed(stage))
        stage.reload(answers[0])
        stage.fires(alert("Feed"))
        stage.after("1m")
        assert stage.world.done == ["/api/orders"]
