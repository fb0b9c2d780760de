"""What is read of a cluster, before an API server at the wire."""

from __future__ import annotations

import copy

import pytest

from responder.recorded import Outcome
from responder.timing import parse_time
from responder.wall_clock import wall_clock
from tests.contract.kubernetes_parts import APP, ENV, KINDS, RESTART, Desk, a_pod, releases, standing, trading_app
from tests.fakes.kubernetes import Cluster
from tests.fakes.kubernetes_objects import autoscaler, event
from tests.fakes.kubernetes_requests import Fault


@pytest.fixture
def cluster() -> Cluster:
    return trading_app()


async def bad_release(cluster: Cluster, desk: Desk) -> None:
    cluster.bad.add("trading:1.1")
    releases(cluster, "trading:1.1")


async def test_pods_in_trouble_come_first(cluster: Cluster) -> None:
    del cluster.objects["statefulsets", "trading-app"], cluster.objects["daemonsets", "trading-app"]
    async with standing(cluster) as desk:
        await bad_release(cluster, desk)
        found = await desk.done("kubernetes.pods", workload=APP)
        assert (found["total"], found["ready"], found["restarts"]) == (3, 0, 21)
        assert found["why"] == {"CrashLoopBackOff": 3}
        assert (await desk.done("kubernetes.pods", selector="app=nobody"))["total"] == 0


async def test_pods_that_have_ended_are_no_part_of_the_total(cluster: Cluster) -> None:
    del cluster.objects["statefulsets", "trading-app"], cluster.objects["daemonsets", "trading-app"]
    cluster.control()
    for number, (phase, reason) in enumerate((("Failed", "Evicted"), ("Succeeded", ""))):
        ended = copy.deepcopy(cluster.of("pods")[0])
        ended["metadata"]["name"] = f"trading-app-ended-{number}"
        ended["status"] = {"phase": phase, "reason": reason, "conditions": []}
        cluster.objects["pods", ended["metadata"]["name"]] = ended
    async with standing(cluster) as desk:
        found = await desk.done("kubernetes.pods", workload=APP)
    assert (found["total"], found["ready"], found["ended"], found["why"]) == (3, 3, 2, {"Evicted": 1})


async def test_warnings_about_a_workload_and_what_it_made(cluster: Cluster) -> None:
    cluster.add(
        "events",
        event("e1", "trading-app-7f-x", "BackOff", "restarting", at="2026-11-20T12:00:00Z"),
        event("e2", "trading-app", "FailedCreate", "quota", "Deployment", at="2026-11-20T12:05:00Z"),
        event("e3", "trading-apple", "BackOff", "another"),
    )
    async with standing(cluster) as desk:
        found = await desk.done("kubernetes.events", workload=APP, count=1)
    assert (found["total"], found["by_reason"]) == (2, {"BackOff": 3, "FailedCreate": 3})
    assert [one["about"] for one in found["events"]] == ["deployment/trading-app"]


async def test_a_warning_in_a_series_is_as_new_as_its_last_time(cluster: Cluster) -> None:
    repeated = event("e1", "trading-app-7f-x", "FailedScheduling", "no node")
    repeated |= {"lastTimestamp": None, "count": None, "eventTime": "2026-11-20T11:00:00.000000Z"}
    repeated["series"] = {"count": 40, "lastObservedTime": "2026-11-20T13:00:00.000000Z"}
    cluster.add("events", event("e2", "trading-app-7f-y", "BackOff", "restarting"), repeated)
    async with standing(cluster) as desk:
        found = await desk.done("kubernetes.events", workload=APP)
    assert [(one["reason"], one["count"]) for one in found["events"]] == [("FailedScheduling", 40), ("BackOff", 3)]
    assert found["events"][0]["at"] == "2026-11-20T13:00:00.000000Z"


async def test_a_pod_that_waits_for_its_init_container_says_why(cluster: Cluster) -> None:
    pod = a_pod(cluster)["name"]
    status = cluster.get("pods", pod)["status"]
    loops = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    done = {"state": {"terminated": {"reason": "Completed"}}, "lastState": {"terminated": {"reason": "Error"}}}
    status["containerStatuses"][0]["state"] = {"waiting": {"reason": "PodInitializing"}}
    for first, why in (([done, loops], "CrashLoopBackOff"), ([done], "")):
        status["initContainerStatuses"] = first
        async with standing(cluster) as desk:
            told = {one["name"]: one["why"] for one in (await desk.done("kubernetes.pods", workload=APP))["pods"]}
        assert told[pod] == why


async def test_the_log_of_the_pod_in_most_trouble_is_read_bounded_and_without_credentials(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        await bad_release(cluster, desk)
        pod = a_pod(cluster)["name"]
        cluster.logs[pod] = "ok\nERROR Authorization: Bearer abcdefghijklmnop123456\nERROR no broker\n"
        found = await desk.done("kubernetes.logs", workload=APP, contains="ERROR", lines=10)
    assert (found["pod"], found["count"]) == (pod, 2)
    assert "abcdefghijklmnop123456" not in str(found)
    assert cluster.asked[-1].query == {"tailLines": "10", "limitBytes": "16384"}


@pytest.mark.parametrize(
    ("said", "outcome", "cure"),
    [
        ("is waiting to start: trying and failing to pull image", Outcome.TEMPORARY, "look at its events"),
        ('previous terminated container "app" in pod "x" not found', Outcome.PERMANENT, "leave `previous` away"),
        ("a container name must be specified for pod x, choose one of: [a b]", Outcome.PERMANENT, "in `container`"),
        ("tailLines: Invalid value", Outcome.PERMANENT, "check the step's `with`"),
    ],
)
async def test_where_there_is_no_log_the_cure_is_told(cluster: Cluster, said: str, outcome: Outcome, cure: str) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare("kubernetes.logs", pod=a_pod(cluster)["name"])
        cluster.faults.append(Fault("get", 400, said, "BadRequest"))
        ended = await desk.act("kubernetes.logs", plan)
    assert (ended.outcome, cure in ended.detail, said in ended.detail) == (outcome, True, True), ended.detail


async def test_a_workload_tells_its_release_and_since_when_it_is_there(cluster: Cluster) -> None:
    cluster.time = "2026-11-20T13:00:00Z"
    releases(cluster, "trading:1.1")
    cluster.add("horizontalpodautoscalers", autoscaler("trading-app", 2, 10))
    async with standing(cluster) as desk:
        await desk.done(RESTART, workload=APP)
        found = await desk.done("kubernetes.workload", workload=APP)
    minutes = (wall_clock() - parse_time(cluster.time)) // 60_000_000
    assert (found["images"], found["revision"]) == (["trading:1.1"], 3)
    assert found["autoscaler"] == {"name": "trading-app", "min": 2, "max": 10}
    assert abs(found["released_minutes_ago"] - minutes) <= 1


@pytest.mark.parametrize("kind", KINDS)
async def test_neither_scaling_nor_a_restart_nor_our_setting_is_a_release(cluster: Cluster, kind: str) -> None:
    named = f"{kind}/trading-app"
    cluster.time = "2026-11-20T13:00:00Z"
    releases(cluster, "trading:1.1", kind)
    cluster.time = "2026-11-20T20:00:00Z"
    cluster.edit(KINDS[kind], "trading-app", {"spec": {"replicas": 5}})
    async with standing(cluster) as desk:
        await desk.done(RESTART, workload=named)
        await desk.done(ENV, workload=named, set={"LOG": "debug"})
        found = await desk.done("kubernetes.workload", workload=named)
    minutes = (wall_clock() - parse_time("2026-11-20T13:00:00Z")) // 60_000_000
    assert abs(found["released_minutes_ago"] - minutes) <= 1


async def test_a_reading_that_is_refused_names_the_right(cluster: Cluster) -> None:
    cluster.rights = {("get", "deployments")}
    async with standing(cluster) as desk:
        plan = await desk.prepare("kubernetes.pods", workload=APP)
        ended = await desk.act("kubernetes.pods", plan)
    assert ended.outcome is Outcome.PERMANENT
    assert 'resources: ["pods"], verbs: ["list"]' in ended.detail


async def test_a_reading_is_asked_again_after_a_server_error(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare("kubernetes.events")
        cluster.faults.append(Fault("list", 503, "starting", "ServiceUnavailable", {"retry-after": "3"}))
        ended = await desk.act("kubernetes.events", plan)
    assert (ended.outcome, ended.retry_after_us) == (Outcome.TEMPORARY, 3_000_000)
