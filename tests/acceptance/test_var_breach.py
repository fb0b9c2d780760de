"""The shipped edge-risk rules as stories: what the platform's people were promised, minute by minute."""

from __future__ import annotations

from responder.recorded import Result
from tests.acceptance.stage import ALERT, VAR, VAR_WHILE_HALTED, breach, playing, shipped
from tests.builders import an_alert


def test_a_breach_that_the_cut_ends_wakes_nobody() -> None:
    with playing(shipped()) as stage:
        breach(stage)
        stage.fires(ALERT)
        assert stage.did == [("0:00", "/api/risk/emergency-reduce")]
        assert stage.world.kelly == 0.1
        stage.at("1:05")
        assert stage.incident.result is Result.FIXED
        stage.at("2:00")
        stage.resolves(ALERT)
        assert stage.incident.closed
        stage.at("20:00")
        assert stage.pages == []
        assert stage.told("run_started") == ["0:00"]


def test_twenty_symbols_are_one_incident_one_cut_and_one_thread() -> None:
    alerts = [an_alert(symbol=f"A{number:02}-USD") for number in range(20)]
    with playing(shipped()) as stage:
        breach(stage)
        stage.fires(*alerts)
        stage.at("1:05")
        assert len(stage.incident.episodes) == 20
        assert stage.did == [("0:00", "/api/risk/emergency-reduce")]
        assert len({s.message.incident.id for s in stage.sent}) == 1
        assert [s.destination for s in stage.sent if s.message.kind == "root"][:1] == ["trading-alerts"]
        stage.resolves(*alerts)
        assert stage.incident.closed


def test_a_breach_that_goes_on_halts_trading_after_five_minutes() -> None:
    with playing(shipped()) as stage:
        breach(stage, helps=False)
        stage.fires(ALERT)
        stage.at("1:59")
        assert stage.pages == []
        stage.at("2:01")
        assert sorted(stage.pages) == [("2:00", "pm"), ("2:00", "trading-oncall")]
        assert stage.told("machine_announced") == []
        stage.at("4:01")
        assert stage.told("machine_announced") == ["4:00"]
        assert stage.world.trading == "running"
        stage.at("4:59")
        assert stage.world.trading == "running"
        stage.at("5:01")
        assert stage.did[-1] == ("5:00", "/api/stop-trading")
        assert stage.pages[-1] == ("5:00", "cro")
        assert stage.incident.target == "risk-api/kelly_fraction"


def test_an_acknowledgement_does_not_stop_what_was_promised() -> None:
    with playing(shipped()) as stage:
        breach(stage, helps=False)
        stage.fires(ALERT)
        stage.at("0:40")
        stage.person("ack", "alice")
        stage.at("5:01")
        assert stage.world.trading == "halted"
        assert stage.pages == [("2:00", "pm"), ("5:00", "cro")]


def test_a_take_over_stops_it() -> None:
    with playing(shipped()) as stage:
        breach(stage, helps=False)
        stage.fires(ALERT)
        stage.at("4:00")
        stage.person("takeover", "alice", "I am on it")
        stage.at("30:00")
        assert stage.world.trading == "running"
        assert stage.pages == [("2:00", "trading-oncall"), ("2:00", "pm")]


def test_a_take_over_during_the_countdown_stops_it() -> None:
    with playing(shipped()) as stage:
        breach(stage, helps=False)
        stage.fires(ALERT)
        stage.at("4:59")
        stage.person("takeover", "alice")
        stage.at("10:00")
        assert stage.world.trading == "running"


def test_without_evidence_people_are_needed_and_no_machine_goes_on() -> None:
    with playing(shipped()) as stage:
        breach(stage)
        stage.fires(ALERT)
        stage.at("0:10")
        stage.world.dark = True
        stage.at("2:05")
        assert stage.last_run.result is Result.UNVERIFIED
        assert sorted(stage.pages) == [("2:00", "pm"), ("2:00", "trading-oncall")]
        stage.at("5:01")
        assert stage.world.trading == "running"
        assert stage.pages[-1] == ("5:00", "cro")
        assert stage.incident.machine["0:1"].held is not None


def test_old_samples_are_no_evidence() -> None:
    with playing(shipped()) as stage:
        breach(stage)
        stage.fires(ALERT)
        stage.world.sample_age = 120_000_000
        stage.at("5:01")
        assert stage.last_run.result is Result.UNVERIFIED
        assert stage.world.trading == "running"


def test_a_brake_acts_without_evidence_and_says_so() -> None:
    with playing(shipped()) as stage:
        breach(stage)
        stage.world.dark = True
        stage.fires(ALERT)
        assert stage.world.kelly == 0.1
        assert stage.pages == [("0:00", "trading-oncall")]
        assert "acts and pages" in str(stage.incident.urgent)


def test_halting_helps_and_the_cause_stays_with_people() -> None:
    with playing(shipped()) as stage:
        breach(stage, helps=False)
        stage.fires(ALERT)
        stage.at("5:01")
        stage.world.numbers[VAR] = lambda: 1.75
        stage.world.numbers[VAR_WHILE_HALTED] = lambda: 1.75
        stage.at("6:00")
        assert stage.last_run.result is Result.CONTAINED
        assert not stage.incident.closed
        stage.at("15:01")
        assert ("15:00", "quant") in stage.pages


def test_a_lost_answer_to_the_halt_is_settled_by_its_probe() -> None:
    with playing(shipped()) as stage:
        breach(stage, helps=False)
        stage.fires(ALERT)
        stage.at("4:00")
        stage.world.lost = "applied"
        stage.at("5:01")
        assert stage.did[-1] == ("5:00", "/api/stop-trading")
        assert stage.last_run.step("halt").status.value == "done"


def test_a_strange_symbol_pages_and_the_cut_is_made_all_the_same() -> None:
    with playing(shipped()) as stage:
        breach(stage)
        stage.fires(an_alert(symbol='"} or vector(1)'))
        assert stage.world.kelly == 0.1
        assert stage.pages == [("0:00", "trading-oncall")]
        assert all("vector(1)" not in query for query in stage.world.asked)


def test_an_alert_of_staging_changes_nothing_of_prod() -> None:
    with playing(shipped()) as stage:
        breach(stage, helps=False)
        stage.fires({**ALERT, "env": "staging"})
        stage.at("10:00")
        assert stage.did == []
        assert (stage.incident.runbook, stage.incident.runs) == (None, ())
        assert stage.incident.target == "alert:VaRBreach:edge-risk:staging"


def test_a_cut_whose_outcome_nobody_knows_stops_no_promised_halt() -> None:
    with playing(shipped()) as stage:
        breach(stage, helps=False)
        stage.world.lost, stage.world.slow = "applied", 2
        stage.fires(ALERT)
        stage.at("0:01")
        stage.world.blind = True
        stage.at("1:00")
        assert len(stage.incident.unsettled) == 1, "it may have been cut: people are told, and nothing is sent again"
        assert stage.pages[0][1] == "trading-oncall"
        stage.world.lost, stage.world.blind, stage.world.slow = "", False, 0
        stage.at("5:01")
        assert stage.did == [("0:02", "/api/risk/emergency-reduce"), ("5:00", "/api/stop-trading")]
        assert stage.world.trading == "halted"
        assert len(stage.incident.unsettled) == 1, "only a person settles it"
