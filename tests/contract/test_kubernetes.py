"""Restarts and rollouts before an API server at the wire, with all that can happen to a request on its way."""

from __future__ import annotations

import pytest

from responder.actions import ACTIONS
from responder.errors import Permanent, Temporary
from responder.kubernetes_steps import KubernetesStep
from responder.recorded import Outcome, ProbeAnswer
from responder.rights import all_rules
from responder.workloads import ATTEMPT, RESTARTED_AT
from tests.contract.action_world import MEMBERS, World, act, prepare
from tests.contract.kubernetes_parts import APP, Desk, service, standing
from tests.fakes.kubernetes import TOKEN, Cluster
from tests.fakes.kubernetes_objects import workload
from tests.fakes.kubernetes_requests import Fault
from tests.fakes.server import HangsUp
from tests.provision import CHECKOUT
from tests.servers import free_port

RESTART, STATUS = "kubernetes.rollout_restart", "kubernetes.rollout_status"


@pytest.fixture
def cluster() -> Cluster:
    found = Cluster()
    found.add("deployments", workload("Deployment", "trading-app"), workload("Deployment", "other", replicas=1))
    found.add("statefulsets", workload("StatefulSet", "postgres"))
    found.add("daemonsets", workload("DaemonSet", "agent"))
    return found


def pods(cluster: Cluster, app: str = "trading-app") -> set[str]:
    return {tree["metadata"]["name"] for tree in cluster.of("pods") if tree["metadata"]["labels"]["app"] == app}


# --- restarting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [APP, "statefulset/postgres", "daemonset/agent"])
async def test_a_restart_replaces_every_pod_by_one_patch(cluster: Cluster, named: str) -> None:
    app = named.partition("/")[2]
    before = pods(cluster, app)
    async with standing(cluster) as desk:
        plan = await desk.prepare(RESTART, workload=named)
        assert (cluster.changes, pods(cluster, app)) == ([], before)
        ended = await desk.act(RESTART, plan)
    assert ended.outcome is Outcome.OK, ended.detail
    assert isinstance(ended.output, dict)
    assert ended.output["generation"] == 2
    (change,) = cluster.changes
    assert change.headers["content-type"] == "application/strategic-merge-patch+json"
    assert change.query == {"fieldManager": "responder"}
    notes = change.body["spec"]["template"]["metadata"]["annotations"]
    assert set(notes) == {RESTARTED_AT, ATTEMPT}
    assert not pods(cluster, app) & before


async def test_the_preview_names_what_is_restarted_and_the_server_has_tried_it(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare(RESTART, workload=APP)
    assert plan.preview == "restart deployment/trading-app in trading (3 pods of trading:1.0)"
    assert [(one.verb, one.query.get("dryRun")) for one in cluster.asked] == [("get", None), ("patch", "All")]


async def test_the_same_plan_restarts_once_however_often_it_is_sent(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare(RESTART, workload=APP)
        await desk.act(RESTART, plan)
        once = cluster.state
        again = await desk.act(RESTART, plan)
    assert (again.outcome, len(cluster.changes)) == (Outcome.OK, 1)
    assert "had been restarted by this plan" in again.detail
    assert cluster.state == once


async def test_a_paused_workload_is_refused_with_the_cure(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare(RESTART, workload=APP)
        cluster.edit("deployments", "trading-app", {"spec": {"paused": True}})
        with pytest.raises(Permanent, match=r"is paused; nothing was changed: .*kubectl rollout resume"):
            await desk.prepare(RESTART, workload=APP)
        assert (await desk.act(RESTART, plan)).outcome is Outcome.PERMANENT
    assert cluster.changes == []


async def test_a_release_in_between_is_left_alone(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare(RESTART, workload=APP)
        new = {"name": "app", "image": "registry.example/trading:2.0"}
        cluster.edit("deployments", "trading-app", {"spec": {"template": {"spec": {"containers": [new]}}}})
        ended = await desk.act(RESTART, plan)
        assert (ended.outcome, cluster.changes) == (Outcome.PERMANENT, [])
        assert "its pod template changed since" in ended.detail
        assert (await desk.probe(RESTART, plan)).answer is ProbeAnswer.UNCLEAR


async def test_scaling_in_between_is_no_reason_not_to_restart(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare(RESTART, workload=APP)
        cluster.edit("deployments", "trading-app", {"spec": {"replicas": 5}})
        assert (await desk.act(RESTART, plan)).outcome is Outcome.OK


async def test_a_workload_that_git_keeps_is_told(cluster: Cluster) -> None:
    tracking = {"argocd.argoproj.io/tracking-id": "trading:apps/Deployment:trading/trading-app"}
    cluster.edit("deployments", "trading-app", {"metadata": {"annotations": tracking}})
    async with standing(cluster) as desk:
        plan = await desk.prepare(RESTART, workload=APP)
    assert plan.preview.endswith("Argo CD (trading) keeps it as in git and may take this back: change it there too")


# --- what can happen to a request -------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500, "message": "etcdserver: request timed out"},
        {"status": 503, "message": "etcdserver: leader changed", "reason": "ServiceUnavailable"},
        {"status": 504, "message": "request did not complete within the allotted timeout", "reason": "Timeout"},
        {"status": 502, "message": "bad gateway"},
        {"cut": True},
        {"slow": True},
    ],
    ids=lambda fault: str(next(iter(fault.items()))),
)
async def test_what_may_have_happened_is_unknown_and_the_probe_tells(
    cluster: Cluster, fault: dict[str, object], after: bool
) -> None:
    async with standing(cluster, timeout="1s" if fault.get("slow") else "10s") as desk:
        plan = await desk.prepare(RESTART, workload=APP)
        cluster.faults.append(Fault("patch", after=after, **fault))  # type: ignore[arg-type]
        ended = await desk.act(RESTART, plan)
        assert ended.outcome is Outcome.UNKNOWN, ended.detail
        assert "may have happened" in ended.detail
        probe = await desk.probe(RESTART, plan)
        assert probe.answer is (ProbeAnswer.APPLIED if after else ProbeAnswer.NOT_APPLIED)
    assert len(cluster.changes) == 1


@pytest.mark.parametrize(
    ("fault", "outcome", "said"),
    [
        (Fault("patch", 400, "bad", "BadRequest"), Outcome.PERMANENT, "check the step's `with`"),
        (Fault("patch", 404, "gone", "NotFound"), Outcome.PERMANENT, "check namespace and name"),
        (Fault("patch", 409, "modified", "Conflict"), Outcome.TEMPORARY, "read again before the next attempt"),
        (Fault("patch", 410, "expired", "Expired"), Outcome.TEMPORARY, "nothing was changed"),
        (Fault("patch", 422, "invalid", "Invalid"), Outcome.PERMANENT, "would not be valid"),
        (Fault("patch", 307, "moved", "Moved"), Outcome.PERMANENT, "redirects are not followed"),
        (Fault("patch", 403, "exceeded quota: pods", "Forbidden"), Outcome.PERMANENT, "a quota or an admission rule"),
        (
            Fault("patch", 403, 'admission webhook "images" denied it: you cannot use latest', "Forbidden"),
            Outcome.PERMANENT,
            "a quota or an admission rule",
        ),
    ],
    ids=lambda one: str(one.status) if isinstance(one, Fault) else "",
)
async def test_what_was_refused_has_not_happened(cluster: Cluster, fault: Fault, outcome: Outcome, said: str) -> None:
    before = cluster.state
    async with standing(cluster) as desk:
        plan = await desk.prepare(RESTART, workload=APP)
        cluster.faults.append(fault)
        ended = await desk.act(RESTART, plan)
    assert (ended.outcome, said in ended.detail) == (outcome, True), ended.detail
    assert cluster.state == before


async def test_the_right_that_is_missing_is_told_whole_however_long_the_server_s_words_are(cluster: Cluster) -> None:
    user = f'User "system:serviceaccount:trading-system-prod:{"responder-" * 6}"'
    words = (
        f'deployments.apps "trading-app" is forbidden: {user} cannot patch resource "deployments" in API group "apps"'
    )
    async with standing(cluster) as desk:
        plan = await desk.prepare(RESTART, workload=APP)
        cluster.faults.append(Fault("patch", 403, f'{words} in the namespace "trading-system-prod"', "Forbidden"))
        ended = await desk.act(RESTART, plan)
    assert user in ended.detail
    assert ended.detail.endswith(
        'add to its Role {apiGroups: ["apps"], resources: ["deployments"], verbs: ["patch"]} in namespace trading'
    )


async def test_too_many_requests_wait_as_long_as_the_server_asks(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare(RESTART, workload=APP)
        cluster.faults.append(Fault("patch", 429, "slow down", "TooManyRequests", {"retry-after": "7"}))
        ended = await desk.act(RESTART, plan)
    assert (ended.outcome, ended.retry_after_us) == (Outcome.TEMPORARY, 7_000_000)
    assert len(cluster.changes) == 1


async def test_a_success_that_cannot_be_read_is_read_back(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        plan = await desk.prepare(RESTART, workload=APP)
        cluster.faults.append(Fault("patch", garbage=True, after=True))
        assert (await desk.act(RESTART, plan)).outcome is Outcome.OK
        other = await desk.prepare(RESTART, workload="deployment/other")
        cluster.faults.append(Fault("patch", garbage=True))
        ended = await desk.act(RESTART, other)
    assert ended.outcome is Outcome.UNKNOWN
    assert "was accepted, but its annotation is not there" in ended.detail


async def test_what_is_no_api_server_is_told(cluster: Cluster) -> None:
    cluster.faults.append(Fault("get", garbage=True))
    async with standing(cluster) as desk:
        with pytest.raises(Permanent, match="check that the service's address is a Kubernetes API server"):
            await desk.prepare(RESTART, workload=APP)


async def test_no_server_is_temporary_and_nothing_was_sent() -> None:
    desk = Desk(service(f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(Temporary, match="nothing was sent, no connection"):
        await desk.prepare(RESTART, workload=APP)


async def test_a_connection_that_is_closed_is_asked_once() -> None:
    async with HangsUp() as server:
        desk = Desk(service(server.url))
        with pytest.raises(Temporary, match="the connection was lost"):
            await desk.prepare(RESTART, workload=APP)
        assert server.connections == 1


# --- rights -----------------------------------------------------------------------------------------------------------


async def test_a_missing_right_is_named_as_the_rule_that_a_role_needs(cluster: Cluster) -> None:
    cluster.rights = {("get", "deployments")}
    async with standing(cluster) as desk:
        with pytest.raises(Permanent) as refused:
            await desk.prepare(RESTART, workload=APP)
    rule = '{apiGroups: ["apps"], resources: ["deployments"], verbs: ["patch"]} in namespace trading'
    assert f"add to its Role {rule}" in str(refused.value)
    assert cluster.changes == []


async def test_a_token_that_is_not_known_is_told_and_not_shown(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        cluster.token = "another"
        with pytest.raises(Permanent, match="it does not know us; check the service's token") as refused:
            await desk.prepare(RESTART, workload=APP)
    assert TOKEN not in str(refused.value)


async def test_an_echoed_token_is_hidden(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        cluster.faults.append(Fault("get", 400, f"what is {TOKEN}?"))
        with pytest.raises(Permanent, match=r"what is \(hidden\)\?"):
            await desk.prepare(RESTART, workload=APP)


async def test_another_namespace_is_refused_before_anything_is_sent(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        desk.namespace = "kube-system"
        with pytest.raises(Permanent, match="the service allows the namespaces trading only"):
            await desk.prepare(RESTART, workload=APP)
    assert cluster.asked == []


async def test_a_webhook_that_knows_no_dry_run_keeps_nobody_from_acting(cluster: Cluster) -> None:
    said = 'admission webhook "audit" does not support dry run'
    cluster.faults.append(Fault("patch", 400, said, "BadRequest", trials=True))
    async with standing(cluster) as desk:
        assert await desk.done(RESTART, workload=APP)


async def test_the_trial_finds_what_would_be_refused(cluster: Cluster) -> None:
    cluster.faults.append(Fault("patch", 403, "admission says no", "Forbidden", trials=True))
    async with standing(cluster) as desk:
        with pytest.raises(Permanent, match="a quota or an admission rule of the cluster refuses it"):
            await desk.prepare(RESTART, workload=APP)


async def test_an_answer_that_is_too_large_is_not_read(cluster: Cluster) -> None:
    cluster.edit("deployments", "trading-app", {"metadata": {"annotations": {"long": "x" * 5000}}})
    async with standing(cluster, max_response_bytes=2048) as desk:
        with pytest.raises(Permanent, match="raise the service's max_response_bytes"):
            await desk.prepare(RESTART, workload=APP)


# --- how far it is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [APP, "statefulset/postgres", "daemonset/agent"])
async def test_a_rollout_that_has_ended_is_done(cluster: Cluster, named: str) -> None:
    async with standing(cluster) as desk:
        status = await desk.done(STATUS, workload=named)
    assert (status["done"], status["failed"], status["desired"]) == (True, False, 2 if "agent" in named else 3)


async def test_an_old_rollout_does_not_count_for_ours(cluster: Cluster) -> None:
    cluster.runs = False
    async with standing(cluster) as desk:
        restarted = await desk.done(RESTART, workload=APP)
        status = await desk.done(STATUS, workload=APP, generation=restarted["generation"])
        assert (status["done"], status["why"]) == (False, "the controller has seen generation 1 of 2")
        cluster.control()
        assert (await desk.done(STATUS, workload=APP, generation=restarted["generation"]))["done"]


async def test_a_rollout_that_makes_no_progress_has_failed(cluster: Cluster) -> None:
    stuck = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    cluster.get("deployments", "trading-app")["status"]["conditions"] = [stuck]
    async with standing(cluster) as desk:
        status = await desk.done(STATUS, workload=APP)
    assert (status["done"], status["failed"]) == (False, True)
    assert "no progress before its deadline: timed out" in status["why"]


# --- what it may do ---------------------------------------------------------------------------------------------------


CLUSTER_ACTIONS = sorted(name for name in ACTIONS if name.startswith("kubernetes."))


def test_the_guide_has_the_role_for_all_actions() -> None:
    page = (CHECKOUT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    rules = "".join(f"  - {rule.line}\n" for rule in all_rules(ACTIONS.values()))
    assert f"rules:\n{rules}```" in page


@pytest.mark.parametrize("name", CLUSTER_ACTIONS)
async def test_an_action_needs_no_more_and_no_less_than_the_rules_that_it_names(name: str) -> None:
    world = World()
    for member in (one for one in MEMBERS.values() if one.action == name):
        await act(world, member, await prepare(world, member))
    used = {(one.verb, one.resource) for one in world.cluster.asked}
    kind = ACTIONS[name]
    assert issubclass(kind, KubernetesStep)
    named = {(verb, resource) for _, resource, verbs in kind.rules for verb in verbs}
    assert used
    assert used <= named
    assert {resource.partition("/")[0] for _, resource in named} <= OTHERS | {r.partition("/")[0] for _, r in used}


OTHERS = {"statefulsets", "daemonsets", "controllerrevisions", "deployments", "pods"}
"""What a member here does not use: it names a Deployment, or a pod."""
