"""Undoing a release before an API server at the wire: which release it is, and what is none."""

from __future__ import annotations

import pytest

from responder.errors import Permanent, Temporary
from responder.recorded import Outcome, ProbeAnswer
from responder.releases import UNDONE_TO
from tests.contract.kubernetes_parts import APP, KINDS, container, image, releases, standing, trading_app
from tests.fakes.kubernetes import Cluster
from tests.fakes.kubernetes_objects import workload

UNDO, SCALE, RESTART = "kubernetes.rollout_undo", "kubernetes.scale", "kubernetes.rollout_restart"
ENV = "kubernetes.set_env"


@pytest.fixture
def cluster() -> Cluster:
    return trading_app()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_undo_goes_back_to_the_release_before(cluster: Cluster, kind: str) -> None:
    releases(cluster, "trading:1.1", kind)
    releases(cluster, "trading:1.2", kind)
    async with standing(cluster) as desk:
        plan = await desk.prepare(UNDO, workload=f"{kind}/trading-app")
        said = f"{kind}/trading-app in trading from revision 3 (trading:1.2) back to 2 (trading:1.1)"
        assert plan.preview == f"{said}; different: image of app"
        assert (await desk.probe(UNDO, plan)).answer is ProbeAnswer.NOT_APPLIED
        assert (await desk.act(UNDO, plan)).outcome is Outcome.OK
        assert image(cluster, kind) == "trading:1.1"
        assert (await desk.probe(UNDO, plan)).answer is ProbeAnswer.APPLIED
        assert (await desk.act(UNDO, plan)).outcome is Outcome.OK
        assert (image(cluster, kind), len(cluster.changes)) == ("trading:1.1", 1)


async def test_a_release_is_undone_once(cluster: Cluster) -> None:
    releases(cluster, "trading:1.1")
    releases(cluster, "trading:1.2")
    async with standing(cluster) as desk:
        await desk.done(UNDO, workload=APP)
        with pytest.raises(Permanent, match="was undone once since its last release; nothing was changed"):
            await desk.prepare(UNDO, workload=APP)
        await desk.done(RESTART, workload=APP)
        with pytest.raises(Permanent, match="was undone once"):
            await desk.prepare(UNDO, workload=APP)
        releases(cluster, "trading:1.3")
        plan = await desk.prepare(UNDO, workload=APP)
    assert "back to 5 (trading:1.1)" in plan.preview, plan.preview


async def test_an_undo_after_a_restart_undoes_the_release_and_not_the_restart(cluster: Cluster) -> None:
    releases(cluster, "trading:1.1")
    async with standing(cluster) as desk:
        await desk.done(RESTART, workload=APP)
        await desk.done(UNDO, workload=APP)
    assert image(cluster) == "trading:1.0"


FORCED = "FORCE_ERROR_RATE"


def forced(cluster: Cluster, value: str) -> None:
    """Somebody else gives the variable another value."""
    new = {"name": "app", "env": [{"name": FORCED, "value": value}]}
    cluster.edit("deployments", "trading-app", {"spec": {"template": {"spec": {"containers": [new]}}}})


def variables(cluster: Cluster, kind: str = "deployment") -> dict[str, str]:
    return {one["name"]: one["value"] for one in container(cluster, kind).get("env", [])}


async def test_an_undo_after_our_cure_undoes_the_release_and_not_the_cure(cluster: Cluster) -> None:
    releases(cluster, "trading:1.1")
    async with standing(cluster) as desk:
        await desk.done(ENV, workload=APP, remove=[FORCED])
        plan = await desk.prepare(UNDO, workload=APP)
        told = "different: image of app; not taken back, because we have set it: environment of app (FORCE_ERROR_RATE)"
        assert plan.preview == f"{APP} in trading from revision 3 (trading:1.1) back to 1 (trading:1.0); {told}"
        assert (await desk.act(UNDO, plan)).outcome is Outcome.OK
        assert (image(cluster), variables(cluster)) == ("trading:1.0", {"LOG": "info"})
        assert (await desk.probe(UNDO, plan)).answer is ProbeAnswer.APPLIED
        with pytest.raises(Permanent, match="was undone once"):
            await desk.prepare(UNDO, workload=APP)
        await desk.done(ENV, workload=APP, set={"LOG": "debug"})
        with pytest.raises(Permanent, match="was undone once"):
            await desk.prepare(UNDO, workload=APP)
    assert (image(cluster), variables(cluster)) == ("trading:1.0", {"LOG": "debug"})


@pytest.mark.parametrize("kind", ["statefulset", "daemonset"])
async def test_our_cure_is_no_release_of_other_kinds_either(cluster: Cluster, kind: str) -> None:
    releases(cluster, "trading:1.1", kind)
    async with standing(cluster) as desk:
        await desk.done(ENV, workload=f"{kind}/trading-app", set={"LOG": "debug"})
        await desk.done(UNDO, workload=f"{kind}/trading-app")
    assert (image(cluster, kind), variables(cluster, kind)) == ("trading:1.0", {"LOG": "debug"})


async def test_our_cure_alone_leaves_no_former_release(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        before = await desk.prepare(ENV, workload=APP, remove=[FORCED])
        await desk.act(ENV, before)
        with pytest.raises(Permanent, match="has no former release; nothing was changed"):
            await desk.prepare(UNDO, workload=APP)
        await desk.act(ENV, await desk.undo(ENV, before))
        with pytest.raises(Permanent, match="has no former release; nothing was changed"):
            await desk.prepare(UNDO, workload=APP)
    assert (variables(cluster), len(cluster.changes)) == ({"LOG": "info", FORCED: "0.2"}, 2)


async def test_a_value_that_somebody_else_gave_is_a_release(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        await desk.done(ENV, workload=APP, remove=[FORCED])
        forced(cluster, "0.9")
        plan = await desk.prepare(UNDO, workload=APP)
        assert plan.preview.endswith("; different: environment of app (FORCE_ERROR_RATE)"), plan.preview
        await desk.act(UNDO, plan)
    assert variables(cluster) == {"LOG": "info"}


async def test_an_undo_waits_until_the_controller_has_seen_the_last_change(cluster: Cluster) -> None:
    releases(cluster, "trading:1.1")
    cluster.runs = False
    releases(cluster, "trading:1.2")
    async with standing(cluster) as desk:
        with pytest.raises(Temporary, match=r"has not seen the last change yet .*nothing was changed"):
            await desk.prepare(UNDO, workload=APP)
        cluster.runs = True
        cluster.control()
        await desk.done(UNDO, workload=APP)
    assert image(cluster) == "trading:1.1"


async def test_an_undo_keeps_what_other_tools_have_noted(cluster: Cluster) -> None:
    releases(cluster, "trading:1.1")
    cluster.edit("deployments", "trading-app", {"metadata": {"annotations": {"team": "core"}}})
    async with standing(cluster) as desk:
        await desk.done(UNDO, workload=APP)
    notes = cluster.get("deployments", "trading-app")["metadata"]["annotations"]
    assert notes["team"] == "core"
    assert UNDONE_TO in notes
    assert set(cluster.changes[0].body["metadata"]) == {"resourceVersion", "annotations"}


async def test_a_status_that_moves_in_the_meantime_is_read_again(cluster: Cluster) -> None:
    releases(cluster, "trading:1.1")
    async with standing(cluster) as desk:
        plan = await desk.prepare(UNDO, workload=APP)
        cluster.interferes = lambda: cluster.edit("deployments", "trading-app", {"status": {"readyReplicas": 1}})
        first = await desk.act(UNDO, plan)
        assert (first.outcome, image(cluster)) == (Outcome.TEMPORARY, "trading:1.1")
        assert (await desk.act(UNDO, plan)).outcome is Outcome.OK
    assert image(cluster) == "trading:1.0"


async def test_a_release_in_between_is_not_undone(cluster: Cluster) -> None:
    releases(cluster, "trading:1.1")
    async with standing(cluster) as desk:
        plan = await desk.prepare(UNDO, workload=APP)
        releases(cluster, "trading:2.0")
        ended = await desk.act(UNDO, plan)
    assert (ended.outcome, image(cluster), cluster.changes) == (Outcome.PERMANENT, "trading:2.0", [])
    assert "was changed by somebody since" in ended.detail


async def test_a_stateful_set_keeps_the_pods_of_a_release_that_cannot_run() -> None:
    cluster, named = Cluster(bad={"trading:bad"}), "statefulset/trading-app"
    cluster.add("statefulsets", workload("StatefulSet", "trading-app", replicas=1))
    releases(cluster, "trading:bad", "statefulset")
    async with standing(cluster) as desk:
        plan = await desk.prepare(UNDO, workload=named)
        assert "1 pods are not ready, and it replaces none before they are: delete those that cannot be" in plan.preview
        await desk.act(UNDO, plan)
        waits = await desk.done("kubernetes.rollout_status", workload=named)
        assert (waits["done"], "it replaces no pod before they are" in waits["why"]) == (False, True)
        (pod,) = (await desk.done("kubernetes.pods", workload=named))["pods"]
        assert "replaces none" in (await desk.prepare("kubernetes.rollout_restart", workload=named)).preview
        await desk.done("kubernetes.delete_pod", pod=pod["name"])
        assert (await desk.done("kubernetes.rollout_status", workload=named))["done"]


async def test_an_undo_can_be_undone(cluster: Cluster) -> None:
    releases(cluster, "trading:1.1")
    async with standing(cluster) as desk:
        plan = await desk.prepare(UNDO, workload=APP)
        await desk.act(UNDO, plan)
        back = await desk.undo(UNDO, plan)
        assert (await desk.act(UNDO, back)).outcome is Outcome.OK
    assert image(cluster) == "trading:1.1"


async def test_a_revision_of_ones_choice(cluster: Cluster) -> None:
    for number in (1, 2, 3):
        releases(cluster, f"trading:1.{number}")
    async with standing(cluster) as desk:
        with pytest.raises(Permanent, match=r"has no revision 9; nothing was changed: the cluster keeps 4, 3, 2, 1"):
            await desk.prepare(UNDO, workload=APP, to_revision=9)
        await desk.done(UNDO, workload=APP, to_revision=2)
    assert image(cluster) == "trading:1.1"


async def test_without_a_former_release_there_is_nothing_to_undo(cluster: Cluster) -> None:
    async with standing(cluster) as desk:
        with pytest.raises(Permanent, match=r"has no former release; nothing was changed: .*revisionHistoryLimit"):
            await desk.prepare(UNDO, workload=APP)
        releases(cluster, "trading:1.1")
        plan = await desk.prepare(UNDO, workload=APP)
        for name in [tree["metadata"]["name"] for tree in cluster.of("replicasets")]:
            del cluster.objects["replicasets", name]
        ended = await desk.act(UNDO, plan)
    assert (ended.outcome, "keeps that release no more" in ended.detail) == (Outcome.PERMANENT, True)


async def test_who_keeps_it_in_git_is_told(cluster: Cluster) -> None:
    releases(cluster, "trading:1.1")
    labels = {"kustomize.toolkit.fluxcd.io/name": "trading"}
    cluster.edit("deployments", "trading-app", {"metadata": {"labels": labels}})
    async with standing(cluster) as desk:
        assert "Flux (trading) keeps it as in git" in (await desk.prepare(UNDO, workload=APP)).preview
