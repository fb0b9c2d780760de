"""The shipped runbooks that act on a cluster, as timelines: what automation does, what it asks, whom it wakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from responder.recorded import Result
from tests.acceptance.catalogues import loaded
from tests.acceptance.cluster_parts import (
    DOWN,
    ERRORS,
    MULTI,
    NSE,
    RESTARTED,
    SERVICE,
    alert,
    image,
    measured,
    release,
    running,
)
from tests.acceptance.machines import COMPOSE_READS
from tests.acceptance.runbook_parts import acted
from tests.acceptance.stage import Stage, playing
from tests.fakes.kubernetes_objects import autoscaler, budget
from tests.fakes.kubernetes_requests import Fault


def never() -> bool:
    """What does not help."""
    return False


SLOW, CPU = alert("ApiLatencyHigh"), alert("CpuHigh")
UNHEALTHY = alert("DeploymentUnhealthy", MULTI, "high")
GONE = alert("ApplicationDown", SERVICE, "critical")


# --- the trading system is down ---------------------------------------------------------------------------------------


def test_a_trading_system_that_is_down_is_restarted_and_a_person_is_woken_at_once() -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system")
        measured(stage, "trading-system-down", NSE, 1.0, 0.0, lambda: bool(cluster.changes))
        stage.fires(DOWN)
        stage.at("2:00")
        assert acted(stage) == [RESTARTED]
        assert stage.incident.result is Result.FIXED
        assert stage.pages == [("0:01", "nse-oncall")]
        assert any("(2 pods of trading:1.1)" in line for line in stage.thread)
        assert any("Last lines of the pod in most trouble" in line for line in stage.thread)


def test_a_slow_restart_is_awaited_and_not_done_again() -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system")
        cluster.slow = 5
        measured(stage, "trading-system-down", NSE, 1.0, 0.0, lambda: bool(cluster.changes) and not cluster.rolling)
        stage.fires(DOWN)
        stage.at("0:20")
        (run,) = stage.incident.runs
        assert [step.status.value for step in run.steps] == ["done", "running"]
        assert run.steps[1].why == "not yet, tried 3 of 9: value.done false"
        stage.at("3:00")
        assert (acted(stage), stage.incident.result) == ([RESTARTED], Result.FIXED)
        assert [len(run.attempts_of(step.id)) for run in stage.incident.runs for step in run.steps] == [1, 5]
        assert len({line for line in stage.thread if "not yet" in line}) == 1, "the checklist shows how it goes on"


def test_new_pods_that_come_too_late_fail_the_run_and_it_says_what_was_seen_last() -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system")
        cluster.slow = 100
        measured(stage, "trading-system-down", NSE, 1.0, 0.0, never)
        stage.fires(DOWN)
        stage.at("3:00")
        assert (acted(stage), stage.incident.result) == ([RESTARTED], Result.FAILED)
        run = stage.incident.runs[0]
        assert run.why.startswith("step new_pods: expected value.done within 9 tries, but value.done false; last seen")
        assert "0 of 2" in run.why


def test_new_pods_that_do_not_come_fail_the_run_after_one_restart() -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system")
        measured(stage, "trading-system-down", NSE, 1.0, 0.0, never)
        cluster.bad.add("trading:1.1")
        stage.fires(DOWN)
        stage.at("6:00")
        assert acted(stage) == [RESTARTED]
        assert stage.incident.result is Result.FAILED
        assert ("5:00", "nse-backup") in stage.pages


def test_a_trading_system_that_answers_again_is_not_restarted() -> None:
    with playing(loaded(NSE)) as stage:
        running(stage, "trading-system-prod", "trading-system")
        measured(stage, "trading-system-down", NSE, 1.0, 0.0, lambda: True)
        stage.fires(DOWN)
        stage.at("1:00")
        assert stage.did == []


def test_a_lost_answer_restarts_once() -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system")
        measured(stage, "trading-system-down", NSE, 1.0, 0.0, lambda: bool(cluster.changes))
        cluster.faults.append(Fault("patch", cut=True, after=True))
        stage.fires(DOWN)
        stage.at("3:00")
        assert (acted(stage), stage.incident.result) == ([RESTARTED], Result.FIXED)


def test_a_missing_right_is_told_with_the_rule_and_people_are_woken() -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system")
        measured(stage, "trading-system-down", NSE, 1.0, 0.0, never)
        cluster.rights = {("get", "deployments")}
        stage.fires(DOWN)
        stage.at("1:00")
        assert (stage.did, stage.incident.result) == ([], Result.FAILED)
        assert any('verbs: ["patch"]' in line for line in stage.thread)
        assert stage.pages != []


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_forced_error_rate_is_removed() -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(
            stage, "trading-system-prod", "trading-system", env={"FORCE_ERROR_RATE": "0.3", "LOG": "info"}
        )
        measured(stage, "high-error-rate", NSE, 0.5, 30.0, lambda: bool(cluster.changes))
        stage.fires(ERRORS)
        stage.at("3:00")
        env = cluster.get("deployments", "trading-system")["spec"]["template"]["spec"]["containers"][0]["env"]
        assert env == [{"name": "LOG", "value": "info"}]
        assert (acted(stage), stage.incident.result) == ([RESTARTED], Result.FIXED)


def test_a_bad_release_is_undone_when_somebody_says_yes() -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system")
        measured(stage, "high-error-rate", NSE, 0.5, 30.0, lambda: image(cluster, "trading-system") == "trading:1.0")
        stage.fires(ERRORS)
        stage.at("5:00")
        run = stage.incident.active_run
        assert run is not None
        assert run.approval is not None
        assert (run.runbook, run.approval.role, stage.did) == ("undo-release", "operator", [])
        stage.approves("lead")
        stage.at("9:00")
        assert image(cluster, "trading-system") == "trading:1.0"
        assert stage.incident.result is Result.FIXED


def test_a_release_is_undone_without_bringing_the_forced_errors_back() -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system", env={"FORCE_ERROR_RATE": "0.3"})
        measured(stage, "high-error-rate", NSE, 0.5, 30.0, lambda: image(cluster, "trading-system") == "trading:1.0")
        stage.fires(ERRORS)
        stage.at("5:00")
        assert acted(stage) == [RESTARTED]
        stage.approves("lead")
        stage.at("9:00")
        spec = cluster.get("deployments", "trading-system")["spec"]["template"]["spec"]
        assert (image(cluster, "trading-system"), "env" in spec["containers"][0]) == ("trading:1.0", False)
        assert stage.incident.result is Result.FIXED


# --- load -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "runbook", "bad", "good"),
    [(SLOW, "api-latency-high", 800.0, 200.0), (CPU, "cpu-high", 95.0, 50.0)],
    ids=["latency", "CPU"],
)
def test_load_is_met_by_the_minimum_of_the_autoscaler_and_put_back_by_a_person(
    labels: dict[str, str], runbook: str, bad: float, good: float
) -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system")
        cluster.add("horizontalpodautoscalers", autoscaler("trading-system", 2, 10))
        measured(stage, runbook, NSE, good, bad, lambda: bool(cluster.changes))
        stage.fires(labels)
        stage.at("4:00")
        spec = cluster.get("horizontalpodautoscalers", "trading-system")["spec"]
        assert (spec["minReplicas"], stage.incident.result) == (6, Result.FIXED)
        stage.resolves(labels)
        stage.at("10:00")
        stage.person("restore", "lead", note="the load is over")
        stage.after("10s")
        assert cluster.get("horizontalpodautoscalers", "trading-system")["spec"]["minReplicas"] == 2


@pytest.mark.parametrize(("pods", "raised"), [(7, 10), (9, 10), (10, 10)])
@pytest.mark.parametrize("lost", [False, True])
def test_more_pods_are_added_to_however_many_there_are_and_never_twice(pods: int, raised: int, lost: bool) -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system")
        cluster.edit("deployments", "trading-system", {"spec": {"replicas": pods}})
        cluster.add("horizontalpodautoscalers", autoscaler("trading-system", 2, 12))
        measured(stage, "api-latency-high", NSE, 200.0, 800.0, lambda: bool(cluster.changes))
        if lost:
            cluster.faults.append(Fault("patch", cut=True, after=True))
        stage.fires(SLOW)
        stage.at("4:00")
        assert cluster.get("horizontalpodautoscalers", "trading-system")["spec"]["minReplicas"] == raised
        assert (len(stage.did), stage.incident.result) == (1, Result.FIXED)


def test_what_is_at_its_limit_is_not_made_smaller() -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system")
        cluster.add("horizontalpodautoscalers", autoscaler("trading-system", 11, 12))
        measured(stage, "api-latency-high", NSE, 200.0, 800.0, never)
        stage.fires(SLOW)
        stage.at("8:00")
        assert (stage.did, stage.incident.result) == ([], Result.INEFFECTIVE)


def test_a_pod_that_has_grown_waits_for_its_budget_and_is_then_evicted() -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system")
        pod = min(tree["metadata"]["name"] for tree in cluster.of("pods"))
        cluster.add("poddisruptionbudgets", budget("trading-system", 2))
        before = cluster.get("pods", pod)["metadata"]["uid"]

        def evicted() -> bool:
            return bool(cluster.get("pods", pod)["metadata"]["uid"] != before)

        measured(stage, "memory-high", NSE, 1.2, 1.95, evicted)
        largest(stage, lambda: pod)
        stage.fires(alert("MemoryHigh", pod=pod))
        stage.at("0:05")
        assert (acted(stage), evicted()) == ([f"create pods/eviction {pod}"], False)
        cluster.get("poddisruptionbudgets", "trading-system")["spec"]["minAvailable"] = 1
        stage.at("5:00")
        assert (len(stage.did), evicted(), stage.incident.result) == (2, True, Result.FIXED)


def largest(stage: Stage, pod: Callable[[], str]) -> None:
    """Prometheus says that this pod is the largest."""
    step = next(step for step in loaded(NSE)[0].runbooks["memory-high"].steps if step.id == "largest")
    stage.world.labels[str(step.with_["query"])] = lambda: {"pod": pod()}


def test_pods_that_grow_together_are_one_incident_and_one_of_them_goes() -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system")
        cluster.add("poddisruptionbudgets", budget("trading-system", 0))
        pods = sorted(tree["metadata"]["name"] for tree in cluster.of("pods"))
        measured(stage, "memory-high", NSE, 1.2, 1.95, never)
        largest(stage, lambda: pods[1])
        for pod in pods:
            stage.fires(alert("MemoryHigh", pod=pod))
        stage.at("10:00")
        assert acted(stage) == [f"create pods/eviction {pods[1]}"]
        assert stage.incident.result is Result.INEFFECTIVE


def test_the_only_pod_that_is_ready_stays_and_so_does_one_without_a_budget() -> None:
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system")
        pods = sorted(tree["metadata"]["name"] for tree in cluster.of("pods"))
        measured(stage, "memory-high", NSE, 1.2, 1.95, never)
        largest(stage, lambda: pods[0])
        stage.fires(alert("MemoryHigh", pod=pods[0]))
        stage.at("1:00")
        assert (stage.did, stage.incident.result) == ([], Result.FAILED)
        assert any("no PodDisruptionBudget covers it" in line for line in stage.thread)
    with playing(loaded(NSE)) as stage:
        cluster = running(stage, "trading-system-prod", "trading-system")
        cluster.add("poddisruptionbudgets", budget("trading-system", 0))
        cluster.get("pods", pods[1])["status"]["conditions"][0]["status"] = "False"
        measured(stage, "memory-high", NSE, 1.2, 1.95, never)
        largest(stage, lambda: pods[0])
        stage.fires(alert("MemoryHigh", pod=pods[0]))
        stage.at("10:00")
        assert (stage.did, stage.incident.result) == ([], Result.FAILED)


# --- a release that is unhealthy --------------------------------------------------------------------------------------


def test_an_unhealthy_release_is_undone_and_that_wakes_the_engineer_on_call_alone() -> None:
    with playing(loaded(MULTI)) as stage:
        cluster = running(stage, "multi-market", "trading-app")
        measured(stage, "deployment-unhealthy", MULTI, 0.1, 7.0, lambda: image(cluster, "trading-app") == "trading:1.0")
        stage.fires(UNHEALTHY)
        stage.at("6:00")
        assert (acted(stage), image(cluster, "trading-app")) == (["patch deployments trading-app"], "trading:1.0")
        assert [run.result for run in stage.incident.runs] == [None]
        stage.at("45:00")
        assert stage.incident.result is Result.FIXED
        # The alert still fires here, which is told after a while.
        assert {who for _, who in stage.pages} == {"multi-market-oncall"}


def test_errors_that_come_back_within_half_an_hour_of_the_undoing_page_again_and_undo_nothing() -> None:
    with playing(loaded(MULTI)) as stage:
        cluster = running(stage, "multi-market", "trading-app")
        again: list[bool] = []
        measured(
            stage, "deployment-unhealthy", MULTI, 0.1, 7.0,
            lambda: not again and image(cluster, "trading-app") == "trading:1.0",
        )  # fmt: skip
        stage.fires(UNHEALTHY)
        stage.at("9:00")
        stage.resolves(UNHEALTHY)
        stage.at("20:00")
        assert stage.pages == [("2:00", "multi-market-oncall")]
        again.append(True)
        stage.fires(UNHEALTHY)
        stage.at("24:00")
        assert len(stage.did) == 1
        assert stage.pages[1:] == [("22:00", "multi-market-oncall")]


def test_a_release_is_undone_once_and_then_people_decide() -> None:
    with playing(loaded(MULTI)) as stage:
        cluster = running(stage, "multi-market", "trading-app")
        release(cluster, "trading-app", "trading:1.2")
        measured(stage, "deployment-unhealthy", MULTI, 0.1, 7.0, never)
        stage.fires(UNHEALTHY)
        stage.at("3:00:00")
        assert (len(stage.did), image(cluster, "trading-app")) == (1, "trading:1.1")
        assert stage.incident.result is Result.INEFFECTIVE
        assert "multi-market-oncall" in {who for _, who in stage.pages}


@pytest.mark.parametrize("change", ["a scaling", "a restart"])
def test_what_is_no_release_is_not_undone_and_people_look(change: str) -> None:
    with playing(loaded(MULTI)) as stage:
        cluster = running(stage, "multi-market", "trading-app", released="13:00")
        cluster.time = "2026-11-20T13:55:00Z"
        notes = {"kubectl.kubernetes.io/restartedAt": cluster.time}
        scaling, restart = {"replicas": 4}, {"template": {"metadata": {"annotations": notes}}}
        cluster.edit("deployments", "trading-app", {"spec": scaling if change == "a scaling" else restart})
        measured(stage, "deployment-unhealthy", MULTI, 0.1, 7.0, never)
        stage.fires(UNHEALTHY)
        stage.at("15:00")
        assert (stage.did, image(cluster, "trading-app")) == ([], "trading:1.1")
        assert "multi-market-oncall" in {who for _, who in stage.pages}
        assert any("undo skipped: when checks.release.released_minutes_ago < 45" in line for line in stage.thread)


# --- docker-compose ---------------------------------------------------------------------------------------------------


RESTART = "docker-compose restart trademaster-trading-service"
ROLLBACK = "blue-green-deploy.sh --environment production --rollback"


def gone(stage: Stage, cure: str, restart: int = 0, rollback: int = 0, down: float | None = 0.0) -> None:
    """The service is down until `cure` has been done; `restart`, `rollback`: what these end with; `down`: what
    Prometheus says of it until then."""
    reads = dict.fromkeys(COMPOSE_READS, 0)
    stage.world.scripts.exits = {**reads, RESTART: restart, "blue-green-deploy.sh": rollback}

    def cured() -> bool:
        return cure in [what for _, what, _ in stage.world.changes]

    measured(stage, "application-down", SERVICE, 1.0, down, cured)
    stage.world.answers = {
        "/actuator/health": {"status": "UP" if cure == RESTART else "DOWN"},
        "/actuator/metrics/jvm.memory.used": {"measurements": [{"value": 1}]},
    }
    stage.fires(GONE)


def test_a_service_under_docker_compose_is_restarted_once() -> None:
    with playing(loaded(SERVICE)) as stage:
        gone(stage, cure=RESTART)
        stage.at("8:00")
        assert acted(stage) == [RESTART]
        assert stage.incident.result is Result.FIXED
        assert not any("Please do by hand" in line for line in stage.thread)


@pytest.mark.parametrize("restart", [0, 1, 77])
def test_it_is_rolled_back_once_where_the_restart_does_not_help(restart: int) -> None:
    with playing(loaded(SERVICE)) as stage:
        gone(stage, cure=ROLLBACK, restart=restart)
        stage.at("10:00")
        assert (acted(stage)[-1], acted(stage).count(ROLLBACK)) == (ROLLBACK, 1)
        assert stage.incident.result is Result.FIXED


def test_a_rollback_of_which_nobody_knows_is_not_done_again() -> None:
    with playing(loaded(SERVICE)) as stage:
        gone(stage, cure="never", rollback=3)
        stage.at("1:00:00")
        assert acted(stage).count(ROLLBACK) == 1
        assert stage.incident.result is not Result.FIXED
        assert {"trademaster-oncall", "trademaster-lead"} <= {who for _, who in stage.pages}


@pytest.mark.parametrize("page", [{"status": "DOWN"}, {"error": "unauthorized"}, None])
def test_it_is_not_rolled_back_where_the_restart_helped_and_its_health_page_says_otherwise(page: Any) -> None:
    with playing(loaded(SERVICE)) as stage:
        gone(stage, cure=RESTART)
        stage.world.answers["/actuator/health"] = page
        stage.world.blind = page is None
        stage.at("8:00")
        assert acted(stage) == [RESTART]
        assert stage.incident.result is Result.FIXED


def test_it_is_not_rolled_back_where_prometheus_cannot_tell_any_more() -> None:
    with playing(loaded(SERVICE)) as stage:
        gone(stage, cure="never")
        query = str(loaded(SERVICE)[0].runbooks["application-down"].checks["up"].with_["query"])
        stage.world.numbers[query] = lambda: None if acted(stage) else 0.0
        stage.at("10:00")
        assert acted(stage) == [RESTART]
        assert stage.incident.result is not Result.FIXED
        assert "trademaster-oncall" in {who for _, who in stage.pages}


@pytest.mark.parametrize("number", [1.0, None])
def test_nothing_is_restarted_where_prometheus_does_not_see_it_down(number: float | None) -> None:
    with playing(loaded(SERVICE)) as stage:
        gone(stage, cure="never", down=number)
        stage.at("30:00")
        assert acted(stage) == []
        assert "trademaster-oncall" in {who for _, who in stage.pages}
