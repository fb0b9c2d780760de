"""Scaling, taking pods away and changing settings before an API server at the wire."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from responder.errors import Permanent, Temporary
from responder.recorded import Outcome, ProbeAnswer
from responder.workloads import selects
from tests.contract.kubernetes_parts import APP, ENV, MAP, SCALE, a_pod, container, standing, trading_app
from tests.fakes.kubernetes import Cluster
from tests.fakes.kubernetes_objects import autoscaler, budget, config_map
from tests.fakes.kubernetes_requests import Fault


@pytest.fixture
def cluster() -> Cluster:
    return trading_app()


# --- scaling ----------------------------------------------------------------------------------------------------------

BOUNDS: dict[str, Any] = {"workload": APP, "min": 2, "max": 10}


def replicas(cluster: Cluster) -> Any:
    return cluster.get("deployments", "trading-app")["spec"]["replicas"]


async def test_scaling_is_to_a_number_and_back(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare(SCALE, replicas=6, **BOUNDS)
        assert plan.preview == "deployment/trading-app in trading: 3 → 6"
        assert (await desk.act(SCALE, plan)).outcome is Outcome.OK
        assert (await desk.act(SCALE, plan)).outcome is Outcome.OK
        assert (replicas(cluster), len(cluster.changes)) == (6, 1)
        assert cluster.changes[0].resource == "deployments/scale"
        back = await desk.undo(SCALE, plan)
        await desk.act(SCALE, back)
        assert replicas(cluster) == 3


@pytest.mark.parametrize(("only", "number", "changes"), [("up", 2, 0), ("down", 5, 0), ("either", 2, 1), ("up", 3, 0)])
async def test_scaling_goes_only_the_way_that_is_said(cluster: Cluster, only: str, number: int, changes: int) -> None:
    async with standing(cluster) as desk:
        await desk.done(SCALE, replicas=number, only=only, **BOUNDS)
    assert len(cluster.changes) == changes


async def test_a_number_outside_its_bounds_is_refused(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        with pytest.raises(Permanent, match="`replicas` 11 is not within `min` 2 and `max` 10"):
            await desk.prepare(SCALE, replicas=11, **BOUNDS)
    assert cluster.asked == []


@pytest.mark.parametrize(("by", "wanted"), [(4, 7), (7, 10), (20, 10)])
async def test_pods_are_added_within_the_bounds_and_a_plan_that_is_done_again_adds_none(
    cluster: Cluster, by: int, wanted: int
) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare(SCALE, by=by, **BOUNDS)
        assert [(await desk.act(SCALE, plan)).outcome for _ in range(2)] == [Outcome.OK] * 2
        assert (replicas(cluster), len(cluster.changes)) == (wanted, 1)
        await desk.act(SCALE, await desk.undo(SCALE, plan))
        assert replicas(cluster) == 3


@pytest.mark.parametrize(
    ("with_", "said"),
    [
        ({}, "either `replicas`, the number itself, or `by`"),
        ({"by": 1, "replicas": 4}, "either `replicas`, the number itself, or `by`"),
        ({"by": 1, "only": "down"}, "`by` says how many more"),
        ({"by": 1, "min": 11}, "`min` 11 is above `max` 10"),
    ],
)
async def test_a_number_and_how_many_more_are_not_mixed(cluster: Cluster, with_: dict[str, Any], said: str) -> None:
    async with standing(cluster) as desk:
        with pytest.raises(Permanent, match=said):
            await desk.prepare(SCALE, **{**BOUNDS, **with_})
    assert cluster.asked == []


async def test_an_autoscaler_keeps_its_number_unless_its_minimum_is_raised(cluster: Cluster) -> None:
    cluster.add("horizontalpodautoscalers", autoscaler("trading-app", 2, 8))
    async with standing(cluster) as desk:
        with pytest.raises(Permanent, match=r"the autoscaler trading-app \(2–8\) sets its number .*raise_minimum"):
            await desk.prepare(SCALE, replicas=6, **BOUNDS)
        warned = await desk.prepare(SCALE, replicas=6, autoscaler="ignore", **BOUNDS)
        assert "may take this back" in warned.preview
        plan = await desk.prepare(SCALE, replicas=10, autoscaler="raise_minimum", **BOUNDS)
        assert plan.preview == "deployment/trading-app in trading: 2 → 8"
        await desk.act(SCALE, plan)
        spec = cluster.get("horizontalpodautoscalers", "trading-app")["spec"]
        assert (spec["minReplicas"], spec["maxReplicas"], replicas(cluster)) == (8, 8, 3)
        await desk.act(SCALE, await desk.undo(SCALE, plan))
    assert cluster.get("horizontalpodautoscalers", "trading-app")["spec"]["minReplicas"] == 2


async def test_an_autoscaler_that_an_operator_made_is_told(cluster: Cluster) -> None:
    scaler = autoscaler("trading-app", 2, 10)
    scaler["metadata"]["ownerReferences"] = [
        {"kind": "ScaledObject", "name": "trading", "uid": "1", "controller": True}
    ]
    cluster.add("horizontalpodautoscalers", scaler)
    with_ = {"workload": APP, "replicas": 5, "min": 2, "max": 10, "autoscaler": "raise_minimum"}
    async with standing(cluster) as desk:
        plan = await desk.prepare(SCALE, **with_)
    assert plan.preview.endswith("2 → 5 - ScaledObject/trading made it and may take this back: change it there too")


async def test_a_number_that_somebody_changed_since_is_left_alone(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare(SCALE, replicas=6, **BOUNDS)
        cluster.edit("deployments", "trading-app", {"spec": {"replicas": 4}})
        assert (await desk.act(SCALE, plan)).outcome is Outcome.PERMANENT
        assert (await desk.probe(SCALE, plan)).answer is ProbeAnswer.UNCLEAR
    assert (replicas(cluster), cluster.changes) == (4, [])


async def test_a_change_at_the_same_moment_is_refused_by_the_server(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare(SCALE, replicas=6, **BOUNDS)
        cluster.interferes = lambda: cluster.edit("deployments", "trading-app", {"spec": {"replicas": 4}})
        assert (await desk.act(SCALE, plan)).outcome is Outcome.TEMPORARY
        assert (await desk.act(SCALE, plan)).outcome is Outcome.PERMANENT
    assert replicas(cluster) == 4


async def test_an_undo_never_overwrites_a_later_change(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare(SCALE, replicas=6, **BOUNDS)
        await desk.act(SCALE, plan)
        cluster.edit("deployments", "trading-app", {"spec": {"replicas": 9}})
        with pytest.raises(Permanent, match="settle it by hand"):
            await desk.undo(SCALE, plan)


# --- pods -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["kubernetes.delete_pod", "kubernetes.evict"])
async def test_a_pod_is_taken_away_and_its_successor_is_not(cluster: Cluster, action: str) -> None:
    cluster.add("poddisruptionbudgets", budget("trading-app", 1))
    before = dict(a_pod(cluster))
    async with standing(cluster) as desk:
        plan = await desk.prepare(action, pod=before["name"])
        assert a_pod(cluster)["uid"] == before["uid"], "a trial takes nothing away"
        assert (await desk.act(action, plan)).outcome is Outcome.OK
        successor, asked = a_pod(cluster)["uid"], len(cluster.changes)
        assert (await desk.act(action, plan)).outcome is Outcome.OK
        assert len(cluster.changes) - asked == (1 if action == "kubernetes.delete_pod" else 0)
        assert (await desk.probe(action, plan)).answer is ProbeAnswer.APPLIED
    assert a_pod(cluster)["uid"] == successor != before["uid"]


async def test_a_pod_that_stands_alone_is_not_deleted(cluster: Cluster) -> None:
    a_pod(cluster)["ownerReferences"] = []
    async with standing(cluster) as desk:
        with pytest.raises(Permanent, match="stands alone; nothing was changed: no controller makes it anew"):
            await desk.prepare("kubernetes.delete_pod", pod=a_pod(cluster)["name"])


async def test_a_budget_lets_an_eviction_wait(cluster: Cluster) -> None:
    cluster.add("poddisruptionbudgets", budget("trading-app", 100))
    async with standing(cluster) as desk:
        plan = await desk.prepare("kubernetes.evict", pod=a_pod(cluster)["name"])
        assert plan.preview.endswith("The disruption budget trading-app needs 100 healthy pods and has 2 currently)")
        waits = await desk.act("kubernetes.evict", plan)
        assert (waits.outcome, waits.retry_after_us) == (Outcome.TEMPORARY, 10_000_000)
        cluster.get("poddisruptionbudgets", "trading-app")["spec"]["minAvailable"] = 1
        assert (await desk.act("kubernetes.evict", plan)).outcome is Outcome.OK


async def test_a_server_that_is_too_busy_is_no_budget(cluster: Cluster) -> None:
    cluster.add("poddisruptionbudgets", budget("trading-app", 0))
    cluster.faults.append(Fault("create", 429, "slow down", "TooManyRequests", {"retry-after": "7"}, trials=True))
    async with standing(cluster) as desk:
        with pytest.raises(Temporary, match=r"answered 429 \(slow down\); nothing was changed"):
            await desk.prepare("kubernetes.evict", pod=a_pod(cluster)["name"])


async def test_a_pod_of_two_budgets_is_not_said_to_be_evicted(cluster: Cluster) -> None:
    cluster.add("poddisruptionbudgets", budget("trading-app", 0))
    second = budget("trading-app", 0)
    second["metadata"]["name"] = "second"
    name = a_pod(cluster)["name"]
    async with standing(cluster) as desk:
        plan = await desk.prepare("kubernetes.evict", pod=name)
        cluster.runs = False
        cluster.add("poddisruptionbudgets", second)
        ended = await desk.act("kubernetes.evict", plan)
        assert (ended.outcome, "more than one PodDisruptionBudget" in ended.detail) == (Outcome.UNKNOWN, True)
        assert (await desk.probe("kubernetes.evict", plan)).answer is ProbeAnswer.NOT_APPLIED
        with pytest.raises(
            Permanent, match=r"more than one PodDisruptionBudget covers it; nothing was changed: .*leave"
        ):
            await desk.prepare("kubernetes.evict", pod=name)


def falls_ill(pod: dict[str, Any]) -> None:
    pod["status"]["conditions"][0]["status"] = "False"


async def test_a_pod_without_a_budget_is_evicted_only_where_the_author_says_so(cluster: Cluster) -> None:
    cluster.add("poddisruptionbudgets", budget("another-app", 1))
    name = a_pod(cluster)["name"]
    async with standing(cluster) as desk:
        with pytest.raises(Permanent, match=r"no PodDisruptionBudget covers it; nothing was changed: .*optional"):
            await desk.prepare("kubernetes.evict", pod=name)
        cluster.add("poddisruptionbudgets", budget("trading-app", 1))
        plan = await desk.prepare("kubernetes.evict", pod=name)
        del cluster.objects["poddisruptionbudgets", "trading-app"]
        gone = await desk.act("kubernetes.evict", plan)
        assert (gone.outcome, cluster.changes) == (Outcome.PERMANENT, [])
        await desk.done("kubernetes.evict", pod=name, budget="optional")
    assert len(cluster.changes) == 1


async def test_an_eviction_waits_until_enough_others_of_its_controller_are_ready(cluster: Cluster) -> None:
    cluster.add("poddisruptionbudgets", budget("trading-app", 0))
    name = a_pod(cluster)["name"]
    others = [one for one in cluster.of("pods") if one["metadata"]["name"] != name]
    stranger = copy.deepcopy(others[0])
    stranger["metadata"] |= {"name": "stranger", "ownerReferences": []}
    cluster.objects["pods", "stranger"] = stranger
    async with standing(cluster) as desk:
        plan = await desk.prepare("kubernetes.evict", pod=name)
        for one in others:
            falls_ill(one)
        others[-1]["status"]["conditions"][0]["status"] = "True"
        others[-1]["metadata"]["deletionTimestamp"] = "2026-11-20T12:00:00Z"
        waits = await desk.act("kubernetes.evict", plan)
        assert (waits.outcome, cluster.changes) == (Outcome.TEMPORARY, [])
        assert "0 other pods of" in waits.detail
        assert "nothing was changed" in waits.detail
        told = await desk.prepare("kubernetes.evict", pod=name)
        assert "are ready, and 1 must be (`min_ready`)" in told.preview
        del others[-1]["metadata"]["deletionTimestamp"]
        assert (await desk.act("kubernetes.evict", plan)).outcome is Outcome.OK
    assert len(cluster.changes) == 1


@pytest.mark.parametrize(
    ("selector", "taken"),
    [
        ({"matchLabels": {"app": "a"}}, True),
        ({"matchLabels": {"app": "b"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Gt", "values": ["1"]}]}, False),
        ({}, True),
        (None, False),
    ],
)
def test_a_label_selector_takes_what_kubernetes_takes(selector: Any, taken: bool) -> None:
    assert selects(selector, {"app": "a"}) is taken


# --- settings ---------------------------------------------------------------------------------------------------------


async def test_a_variable_is_removed_and_put_back_and_the_others_stay(cluster: Cluster) -> None:
    before = list(container(cluster)["env"])
    async with standing(cluster) as desk:
        plan = await desk.prepare(ENV, workload=APP, remove=["FORCE_ERROR_RATE"])
        assert plan.preview == "environment of deployment/trading-app: FORCE_ERROR_RATE (hidden) → (none)"
        await desk.act(ENV, plan)
        assert container(cluster)["env"] == [{"name": "LOG", "value": "info"}]
        await desk.act(ENV, await desk.undo(ENV, plan))
    assert container(cluster)["env"] == before


async def test_the_order_of_the_variables_stays_and_comes_back(cluster: Cluster) -> None:
    told = [("HOST", "db"), ("URL", "$(HOST):80"), ("LAST", "$(URL)")]
    entries = [{"name": name, "value": value} for name, value in told]
    container(cluster)["env"] = list(entries)
    async with standing(cluster) as desk:
        plan = await desk.prepare(ENV, workload=APP, remove=["URL"], set={"NEW": "$(LAST)", "LAST": "b", "HOST": "c"})
        assert (await desk.act(ENV, plan)).outcome is Outcome.OK
        assert [one["name"] for one in container(cluster)["env"]] == ["HOST", "LAST", "NEW"]
        await desk.act(ENV, await desk.undo(ENV, plan))
    assert container(cluster)["env"] == entries


async def test_a_variable_can_be_made_empty(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare(ENV, workload=APP, set={"LOG": "", "NEW": ""})
        ended = await desk.act(ENV, plan)
        assert ended.outcome is Outcome.OK, ended.detail
        assert (await desk.probe(ENV, plan)).answer is ProbeAnswer.APPLIED
        await desk.act(ENV, await desk.undo(ENV, plan))
    assert container(cluster)["env"][0] == {"name": "LOG", "value": "info"}


async def test_a_variable_by_reference_is_replaced_and_put_back(cluster: Cluster) -> None:
    reference = {"name": "LOG", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "log"}}}
    container(cluster)["env"][0] = reference
    async with standing(cluster) as desk:
        plan = await desk.prepare(ENV, workload=APP, set={"LOG": "debug"})
        await desk.act(ENV, plan)
        assert container(cluster)["env"][0] == {"name": "LOG", "value": "debug"}
        await desk.act(ENV, await desk.undo(ENV, plan))
    assert container(cluster)["env"][0] == reference


async def test_an_answer_that_is_another_thing_is_not_taken_for_a_workload_without_the_variable(
    cluster: Cluster,
) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare(ENV, workload=APP, remove=["FORCE_ERROR_RATE"])
        cluster.objects["deployments", "trading-app"] = {"metadata": {}, "spec": None, "items": 3}
        ended = await desk.act(ENV, plan)
    assert ended.outcome is Outcome.TEMPORARY
    assert "the API server's answer is not that object; look at what stands before it" in ended.detail


async def test_a_preview_tells_no_value_that_was_there(cluster: Cluster) -> None:
    cluster.add("configmaps", config_map("trading-config", {"broker": "hunter2"}))
    container(cluster)["env"][0] = {"name": "BROKER_DSN", "value": "redis://:hunter2@cache"}
    async with standing(cluster) as desk:
        removed = await desk.prepare(ENV, workload=APP, remove=["BROKER_DSN"])
        assert removed.preview.endswith("BROKER_DSN (hidden) → (none)")
        done = await desk.act(ENV, removed)
        changed = await desk.prepare(MAP, configmap="trading-config", set={"broker": "none"})
        assert "broker (hidden) → 'none'" in changed.preview
        back = await desk.undo(ENV, removed)
        assert "hunter2" not in f"{removed.preview} {done.detail} {changed.preview} {back.preview}"


async def test_a_credential_in_clear_text_is_removed_and_not_kept(cluster: Cluster) -> None:
    container(cluster)["env"][0] = {"name": "BROKER_TOKEN", "value": "hunter2"}
    async with standing(cluster) as desk:
        plan = await desk.prepare(ENV, workload=APP, remove=["BROKER_TOKEN"])
        done = await desk.act(ENV, plan)
        assert (done.outcome, "hunter2" in f"{plan} {done}", plan.undoable) == (Outcome.OK, False, False)
        assert (await desk.probe(ENV, plan)).answer is ProbeAnswer.APPLIED
        with pytest.raises(Permanent, match="is not kept; put it back by hand"):
            await desk.undo(ENV, plan)
    assert [one["name"] for one in container(cluster)["env"]] == ["FORCE_ERROR_RATE"]


async def test_a_secret_does_not_come_from_a_runbook(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        with pytest.raises(Permanent, match="BROKER_API_KEY looks like a secret"):
            await desk.prepare(ENV, workload=APP, set={"BROKER_API_KEY": "x"})


async def test_which_container_is_meant_must_be_said(cluster: Cluster) -> None:
    sidecar = {"name": "proxy", "image": "proxy:1"}
    cluster.edit("deployments", "trading-app", {"spec": {"template": {"spec": {"containers": [sidecar]}}}})
    async with standing(cluster) as desk:
        with pytest.raises(Permanent, match=r"has the containers proxy, app; .*name one of them in `container`"):
            await desk.prepare(ENV, workload=APP, set={"LOG": "debug"})
        await desk.done(ENV, workload=APP, set={"LOG": "debug"}, container="app")
    proxy, app = cluster.get("deployments", "trading-app")["spec"]["template"]["spec"]["containers"]
    assert (app["env"][0]["value"], "env" in proxy) == ("debug", False)


async def test_a_key_of_a_config_map_is_set_and_put_back(cluster: Cluster) -> None:
    cluster.add("configmaps", config_map("trading-config", {"max": "20", "mode": "live"}))
    async with standing(cluster) as desk:
        plan = await desk.prepare(MAP, configmap="trading-config", set={"max": "10"}, remove=["mode"])
        await desk.act(MAP, plan)
        assert cluster.get("configmaps", "trading-config")["data"] == {"max": "10"}
        await desk.act(MAP, await desk.undo(MAP, plan))
    assert cluster.get("configmaps", "trading-config")["data"] == {"max": "20", "mode": "live"}
    assert "pods that read it as environment need a restart" in plan.preview


async def test_an_immutable_config_map_is_refused_with_the_cure(cluster: Cluster) -> None:
    cluster.add("configmaps", config_map("trading-config", {"max": "20"}, immutable=True))
    async with standing(cluster) as desk:
        with pytest.raises(Permanent, match="is immutable; nothing was changed: make a new ConfigMap"):
            await desk.prepare(MAP, configmap="trading-config", set={"max": "10"})
