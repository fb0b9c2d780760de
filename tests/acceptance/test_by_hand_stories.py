"""The shipped edge-risk runbooks that people start: the restart in its order, and the reload that VaR forbids."""

from __future__ import annotations

import pytest

from responder.errors import Rejected
from responder.recorded import Result
from tests.acceptance.desk import Desk, by_hand, reasons
from tests.acceptance.stage import ALERT, EDGE_RISK, VAR, Stage, breach, playing, shipped

VAR_WHILE_TRADING = f"{VAR} and on() (max(trading_halted{EDGE_RISK}) == 0)"
ORDER = ["stop_services", "restart_stores", "start_harmoniser", "start_strategist", "start_web"]


def calm(stage: Stage, var: float = 1.0) -> None:
    """VaR stands at `var`, and is known only while trading runs where that is asked."""
    breach(stage, var=var)
    stage.world.numbers[VAR_WHILE_TRADING] = lambda: var if stage.world.trading == "running" else None
    stage.world.numbers[f"sum(abs(position_size_usd{EDGE_RISK}))"] = lambda: 1e6


def waits_for(stage: Stage) -> list[str]:
    """The steps that a person is asked to do now."""
    run = by_hand(stage).active_run
    return [] if run is None else [step.id for step in run.steps if step.status.value == "asked"]


def does(stage: Stage, *steps: str) -> None:
    """Somebody does these, each when it is asked for."""
    for step in steps:
        assert waits_for(stage) == [step]
        stage.person("done", "otto", incident=by_hand(stage).id)
        stage.after("10s")


# --- the restart sequence ---------------------------------------------------------------------------------------------


def test_the_platform_is_restarted_in_its_order_and_somebody_else_starts_trading() -> None:
    with playing(shipped()) as stage:
        calm(stage)
        plan = Desk(stage).plans("restart-sequence")
        assert plan.refused == ()
        assert {name: approval.role for name, approval in plan.approvals.items()} == {"start_trading": "risk-manager"}
        Desk(stage).starts("restart-sequence", "memory leak")
        assert stage.world.trading == "halted"
        assert waits_for(stage) == [], "orders in flight have ten seconds"
        stage.after("10s")
        does(stage, *ORDER)
        with pytest.raises(Rejected, match="otto started this run"):
            stage.approves("otto")
        assert stage.world.trading == "halted"
        stage.approves("risk-desk")
        stage.after("2m")
        assert stage.world.done == ["/api/stop-trading", "/api/start-trading"]
        assert (stage.last_run.result, by_hand(stage).closed, stage.pages) == (Result.FIXED, True, [])


def test_the_sequence_is_finished_though_an_alert_comes_and_goes() -> None:
    with playing(shipped()) as stage:
        calm(stage)
        Desk(stage).starts("restart-sequence")
        stage.after("10s")
        does(stage, *ORDER[:2])
        calm(stage, var=2.1)
        stage.fires(ALERT)
        stage.after("30s")
        assert stage.world.kelly == 0.1, "the brake has a target of its own and waits for nobody"
        calm(stage)
        stage.resolves(ALERT)
        stage.after("30s")
        does(stage, *ORDER[2:])
        stage.person("approve", "risk-desk", incident=by_hand(stage).id, plan=_asked(stage))
        stage.after("2m")
        assert stage.world.done[-1] == "/api/start-trading"
        assert by_hand(stage).result is Result.FIXED


def _asked(stage: Stage) -> str | None:
    run = by_hand(stage).active_run
    return None if run is None or run.approval is None else run.approval.plan


def test_a_restart_whose_last_step_nobody_approves_wakes_people() -> None:
    with playing(shipped()) as stage:
        calm(stage)
        Desk(stage).starts("restart-sequence")
        stage.after("10s")
        does(stage, *ORDER)
        stage.after("31m")
        assert stage.world.trading == "halted"
        assert any("nobody with the role risk-manager approved within 30m" in line for line in stage.thread)
        assert stage.pages[0][1] == "trading-oncall"


# --- the hot reload ---------------------------------------------------------------------------------------------------


def test_no_reload_is_begun_while_var_is_above_its_bound() -> None:
    with playing(shipped()) as stage:
        calm(stage, var=1.6)
        plan = Desk(stage).plans("hot-reload", component="risk_harmoniser")
        assert "value 1.6 <= 1.5 is false" in reasons(plan)
        assert Desk(stage).starts("hot-reload", component="risk_harmoniser").turn is None
        stage.world.dark = True
        assert "acts only on evidence" in reasons(Desk(stage).plans("hot-reload", component="risk_harmoniser"))
        assert stage.incidents() == []


def test_var_that_rises_while_the_file_is_validated_ends_it() -> None:
    with playing(shipped()) as stage:
        calm(stage)
        Desk(stage).starts("hot-reload", component="risk_harmoniser")
        calm(stage, var=1.6)
        stage.after("5m")
        does(stage, "validate")
        assert waits_for(stage) == []
        assert stage.last_run.result is Result.CANCELLED


def test_a_reload_that_nobody_hears_has_failed_and_nobody_is_asked_to_watch_it() -> None:
    with playing(shipped()) as stage:
        calm(stage)
        stage.world.listening = 0
        Desk(stage).starts("hot-reload", component="risk_harmoniser")
        does(stage, "validate")
        assert [told for _, _, told in stage.world.changes] == [
            {"component": "risk_harmoniser", "config_path": "conf/risk_params.yml"}
        ]
        assert (waits_for(stage), stage.last_run.result) == ([], Result.FAILED)


def test_a_reload_that_harms_wakes_people_within_a_minute() -> None:
    with playing(shipped()) as stage:
        calm(stage)
        Desk(stage).starts("hot-reload", component="model_router")
        does(stage, "validate")
        calm(stage, var=1.4)
        does(stage, "watch")
        stage.after("30s")
        assert stage.last_run.result is Result.HARMFUL
        assert [who for _, who in stage.pages] == ["trading-oncall"]


def test_a_reload_that_goes_well_wakes_nobody() -> None:
    with playing(shipped()) as stage:
        calm(stage)
        Desk(stage).starts("hot-reload", component="model_router")
        assert by_hand(stage).target == "risk-api/config/model_router"
        does(stage, "validate")
        assert [told for _, _, told in stage.world.changes] == [
            {"component": "model_router", "config_path": "conf/model_router_rules.yml"}
        ]
        does(stage, "watch")
        stage.after("3m")
        assert (stage.last_run.result, by_hand(stage).closed, stage.pages) == (Result.FIXED, True, [])
