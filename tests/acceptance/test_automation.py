"""What bounds all runs together, as stories: pauses, storms, changes an hour, relapses, runbooks that do not help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from responder.engine.halting import halted_by
from responder.recorded import Result
from tests.acceptance.stage import RISK, Stage, bounded, each_symbol, own, playing, risky
from tests.builders import a_runbook, call_step, cut_step


def symbols(stage: Stage, *names: str) -> None:
    for name in names:
        stage.fires({**RISK, "symbol": name})


# --- pauses -----------------------------------------------------------------------------------------------------------


def test_the_pause_file_stops_it_between_two_steps_and_its_end_lets_it_go_on() -> None:
    steps = [call_step("one", "/api/one"), call_step("two", "/api/two")]
    with playing(own(a_runbook(steps=steps, brake=True))) as stage:
        risky(stage, helps=False)
        stage.world.slow = 2
        stage.fires(RISK)
        stage.at("0:01")
        desk = stage._alive.desk
        desk.shelf = replace(desk.shelf, halted="automation is paused by the file /run/pause: drill")
        stage.at("0:30")
        assert [path for _, path in stage.did] == ["/api/one"], "a brake waits as well"
        assert any("paused by the file /run/pause: drill" in line for line in stage.thread)
        desk.shelf = replace(desk.shelf, halted=None)
        stage.at("0:40")
        assert [path for _, path in stage.did] == ["/api/one", "/api/two"]


def test_a_pause_file_says_why_and_what_cannot_be_read_pauses(tmp_path: Path) -> None:
    file = tmp_path / "pause"
    assert halted_by(file) is None
    file.write_text("exchange maintenance\nuntil noon\n")
    assert halted_by(file) == f"automation is paused by the file {file}: exchange maintenance"
    file.write_bytes(b"")
    assert halted_by(file) == f"automation is paused by the file {file}"
    assert "cannot be read" in str(halted_by(tmp_path)), "a directory of that name pauses"


def test_a_paused_service_leaves_others_alone() -> None:
    with playing(own(a_runbook(), each_symbol(runbook="orders", match="OrdersStuck"))) as stage:
        risky(stage)
        stage.pauses(scope="pause:runbook:orders")
        stage.fires(RISK)
        stage.fires({**RISK, "alertname": "OrdersStuck", "symbol": "BTC"})
        stage.at("0:10")
        assert [path for _, path in stage.did] == ["/api/risk/emergency-reduce"]
        stage.resumes(scope="pause:runbook:orders")
        stage.at("0:20")
        assert [path for _, path in stage.did] == ["/api/risk/emergency-reduce", "/api/orders/BTC"]
        stage.pauses(scope="pause:service:risk-api")
        stage.fires({**RISK, "alertname": "OrdersStuck", "symbol": "ETH"})
        stage.at("1:00")
        assert [path for _, path in stage.did] == ["/api/risk/emergency-reduce", "/api/orders/BTC"]


# --- storms and changes -----------------------------------------------------------------------------------------------


def test_in_a_storm_automation_waits_until_it_is_calm_and_a_brake_does_not() -> None:
    storm = {"storm": {"incidents": 3, "within": "5m", "calm": "5m"}}
    brake = a_runbook(runbook="brake", match="Brake", brake=True)
    with playing(bounded(each_symbol(verify=None), brake, automation=storm)) as stage:
        risky(stage)
        symbols(stage, "A", "B")
        stage.at("0:10")
        assert len(stage.did) == 2
        symbols(stage, "C", "D")
        stage.fires({**RISK, "alertname": "Brake"})
        stage.at("9:50")
        assert [path for _, path in stage.did][2:] == ["/api/risk/emergency-reduce"], "only the brake acts in a storm"
        assert any("people look for the cause" in line for line in stage.thread)
        stage.at("11:00")
        assert {path for _, path in stage.did[3:]} == {"/api/orders/C", "/api/orders/D"}


def test_no_sequence_of_incidents_changes_more_than_an_hour_allows() -> None:
    rate = {"changes_per_service": "4 per 1h", "storm": None}
    with playing(bounded(each_symbol(verify=None), automation=rate, grace="0s")) as stage:
        risky(stage)
        symbols(stage, *"ABCDEFGH")
        stage.at("0:30")
        assert len(stage.did) == 4
        refused = [i for i in stage.incidents() if "4 changes to risk-api, limit 4 per 1h" in (i.urgent or "")]
        assert len(refused) == 4, "refusing is never silent"
        stage.at("1:01:00")
        symbols(stage, "X")
        stage.at("1:01:10")
        assert len(stage.did) == 5


# --- what does not help -----------------------------------------------------------------------------------------------


def test_what_comes_back_twice_after_it_was_fixed_is_left_to_people() -> None:
    relapse = {"relapse": {"within": "30m", "count": 2}}
    with playing(bounded(a_runbook(steps=[call_step()]), automation=relapse, grace="0s")) as stage:
        for minute, changes in ((0, 1), (10, 2), (20, 2)):
            stage.at(f"{minute}:00")
            risky(stage)
            stage.fires(RISK)
            stage.at(f"{minute + 4}:00")
            stage.resolves(RISK)
            stage.at(f"{minute + 6}:00")
            assert len(stage.did) == changes
        assert any("relapse 2 within 30m of being fixed" in line for line in stage.thread)


def test_a_runbook_that_does_not_help_any_more_is_left_out_and_tried_again_after_an_hour() -> None:
    with playing(bounded(each_symbol(), automation={"storm": None, "changes_per_service": None})) as stage:
        risky(stage, helps=False)
        for number, name in enumerate("ABCD"):
            stage.at(f"{number * 10}:00")
            symbols(stage, name)
        stage.at("45:00")
        assert len(stage.did) == 4
        assert {i.result for i in stage.incidents()} == {Result.INEFFECTIVE}
        symbols(stage, "E")
        stage.at("46:00")
        assert len(stage.did) == 4
        assert any("0 of 4 runs of cut helped" in line for line in stage.thread)
        stage.at("2:00:00")
        symbols(stage, "F", "G")
        stage.at("2:01:00")
        assert len(stage.did) == 5, "one is tried, the other waits for its result"


# --- hours ------------------------------------------------------------------------------------------------------------


def test_outside_its_hours_people_are_asked_for_exactly_this() -> None:
    never = {"never": {"timezone": "UTC", "dates": ["2020-01-01"]}}
    book = a_runbook(steps=[cut_step()], calendar={"within": "never", "otherwise": "ask"})
    with playing(own(book, calendars=never)) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("0:30")
        assert stage.did == []
        assert stage.told("approval_asked") == ["0:00"]
        (asked,) = [line for line in stage.thread if "approv" in line]
        assert "never" in asked, "it says why people are asked"
        stage.approves("desk")
        stage.at("0:40")
        assert len(stage.did) == 1


@pytest.mark.parametrize("paused", [True, False])
def test_a_pause_holds_back_a_change_that_still_reads(paused: bool) -> None:
    """The parameter is read again before it is written, which may take long."""
    step = cut_step(retry={"attempts": 2, "first": "1s"})
    with playing(own(a_runbook(steps=[step]))) as stage:
        risky(stage)
        stage.world.reads = 3.0
        stage.fires(RISK)
        stage.at("0:04")
        assert stage.last_run.open_attempt is not None
        if paused:
            stage.pauses()
        stage.at("0:30")
        assert len(stage.world.done) == (0 if paused else 1)
        assert any("nothing was sent: automation is paused by alice" in line for line in stage.thread) is paused
        stage.resumes()
        stage.at("1:30")
        assert len(stage.world.done) == 1


def test_a_pause_does_not_hold_back_what_a_person_puts_back() -> None:
    with playing(own(a_runbook(steps=[cut_step(restore={"approval": "risk-manager"})]))) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("3:00")
        stage.world.reads = 3.0
        stage.person("restore", "rita")
        stage.at("3:04")
        stage.pauses()
        stage.at("4:00")
        assert stage.world.kelly == 0.25
