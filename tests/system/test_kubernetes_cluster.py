"""One suite on both: the API server of tests/fakes, and the cluster that RESPONDER_TEST_KUBECONFIG names.

On the real one (`make test-kubernetes`) it makes a Deployment and a ConfigMap in the namespace RESPONDER_TEST_NAMESPACE
(`responder-test`), which must exist, and deletes them at its end.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import JsonValue

from responder.errors import Permanent, ResponderError
from responder.kubernetes_calls import CONFIG_MAPS, DEPLOYMENTS, KubernetesCall, Resource, Tree
from responder.kubernetes_connections import KubernetesConnection, LibraryWire
from responder.kubernetes_steps import patch
from responder.services import KubernetesService
from responder.wall_clock import wall_clock
from responder.workloads import items, part, template_of, text
from tests.contract.kubernetes_parts import Desk, real_service, service
from tests.fakes.kubernetes import ApiServer, Cluster
from tests.fakes.kubernetes_objects import NAMESPACE, config_map, workload

APP = "deployment/responder-test"
IMAGES = os.environ.get("RESPONDER_TEST_IMAGES", "registry.k8s.io/pause:3.9,registry.k8s.io/pause:3.10").split(",")


@dataclass
class Place:
    """A desk before a cluster, and what a test needs to look at."""

    desk: Desk
    connection: KubernetesConnection
    namespace: str

    async def object(self, resource: Resource = DEPLOYMENTS, name: str = "responder-test") -> Tree:
        """As it is now."""
        answer = await self.connection.send(KubernetesCall("get", resource, self.namespace, name), 10)
        return answer.checked(wall_clock()).object

    async def image(self) -> str:
        """Of the first container."""
        return text(items(template_of(await self.object()), "spec", "containers")[0], "image")

    async def rolled_out(self) -> None:
        """Wait for the end of the rollout."""
        for _ in range(120):
            if (await self.desk.done("kubernetes.rollout_status", workload=APP))["done"]:
                return
            await asyncio.sleep(1)
        raise AssertionError("the rollout did not end")

    async def release(self, image: str) -> None:
        """Somebody releases another image."""
        body: JsonValue = {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}}
        call = patch(DEPLOYMENTS, self.namespace, "responder-test", body)
        (await self.connection.send(call, 10)).checked(wall_clock())
        await self.rolled_out()


def _objects(namespace: str) -> list[tuple[Resource, dict[str, Any]]]:
    deployment = workload("Deployment", "responder-test", replicas=1, env={"LOG": "info"})
    template = deployment["spec"]["template"]
    template["spec"]["containers"][0]["image"] = IMAGES[0]
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "responder-test", "namespace": namespace},
        "spec": {**deployment["spec"], "progressDeadlineSeconds": 120},
    }
    settings = config_map("responder-test", {"max": "20"})
    settings = {**settings, "apiVersion": "v1", "metadata": {"name": "responder-test", "namespace": namespace}}
    return [(DEPLOYMENTS, deployment), (CONFIG_MAPS, settings)]


REAL = pytest.mark.skipif(real_service() is None, reason="RESPONDER_TEST_KUBECONFIG names no cluster")
both = pytest.mark.parametrize("kind", ["fake", pytest.param("real", marks=REAL)])


@asynccontextmanager
async def placed(kind: str) -> AsyncIterator[Place]:
    """Before either."""
    if kind == "fake":
        cluster = Cluster()
        for resource, tree in _objects(NAMESPACE):
            tree["metadata"] |= {"generation": 1, "annotations": {}, "labels": {}}
            cluster.add(resource.plural, {**tree, "status": {}})
        async with ApiServer(cluster) as server:
            yield _placed(service(server.url), NAMESPACE)
        return
    real = real_service()
    assert real is not None
    async with asyncio.timeout(600):
        found = _placed(*real)
        await _deleted(found)
        for resource, tree in _objects(found.namespace):
            made = KubernetesCall("create", resource, found.namespace, body=tree)
            (await found.connection.send(made, 10)).checked(wall_clock())
        await found.rolled_out()
        try:
            yield found
        finally:
            await _deleted(found)


def _placed(settings: KubernetesService, namespace: str) -> Place:
    return Place(Desk(settings, namespace), KubernetesConnection("cluster", settings, LibraryWire), namespace)


async def _deleted(found: Place) -> None:
    for resource, _ in _objects(found.namespace):
        with suppress(ResponderError):
            gone = KubernetesCall("delete", resource, found.namespace, "responder-test")
            (await found.connection.send(gone, 10)).checked(wall_clock())


@both
async def test_a_restart_is_done_once_and_its_rollout_ends(kind: str) -> None:
    async with placed(kind) as place:
        plan = await place.desk.prepare("kubernetes.rollout_restart", workload=APP)
        generation = part(await place.object(), "metadata", "generation")
        await place.desk.act("kubernetes.rollout_restart", plan)
        await place.desk.act("kubernetes.rollout_restart", plan)
        assert part(await place.object(), "metadata", "generation") == generation + 1
        await place.rolled_out()


@both
async def test_a_release_is_undone_once(kind: str) -> None:
    async with placed(kind) as place:
        await place.release(IMAGES[1])
        await place.desk.done("kubernetes.rollout_restart", workload=APP)
        await place.rolled_out()
        await place.desk.done("kubernetes.rollout_undo", workload=APP)
        assert await place.image() == IMAGES[0]
        await place.rolled_out()
        with pytest.raises(Permanent, match="was undone once"):
            await place.desk.prepare("kubernetes.rollout_undo", workload=APP)


@both
async def test_scaling_and_settings_are_put_back(kind: str) -> None:
    async with placed(kind) as place:
        changes: list[tuple[str, dict[str, Any]]] = [
            ("kubernetes.scale", {"workload": APP, "replicas": 2, "min": 1, "max": 2}),
            ("kubernetes.set_env", {"workload": APP, "set": {"LOG": "debug"}}),
            ("kubernetes.configmap_patch", {"configmap": "responder-test", "set": {"max": "10"}}),
        ]
        for action, with_ in changes:
            plan = await place.desk.prepare(action, **with_)
            assert (await place.desk.act(action, plan)).outcome.value == "ok"
            back = await place.desk.undo(action, plan)
            assert (await place.desk.act(action, back)).outcome.value == "ok"
        assert part(await place.object(), "spec", "replicas") == 1
        assert part(await place.object(CONFIG_MAPS), "data", "max") == "20"


@both
@pytest.mark.parametrize(
    ("action", "said"), [("kubernetes.delete_pod", {}), ("kubernetes.evict", {"budget": "optional", "min_ready": 0})]
)
async def test_a_pod_is_tried_and_then_taken_away(kind: str, action: str, said: dict[str, Any]) -> None:
    async with placed(kind) as place:
        (pod,) = (await place.desk.done("kubernetes.pods", workload=APP))["pods"]
        plan = await place.desk.prepare(action, pod=pod["name"], **said)
        assert (await place.desk.probe(action, plan)).answer.value == "not_applied"
        assert (await place.desk.act(action, plan)).outcome.value == "ok"
        assert (await place.desk.probe(action, plan)).answer.value == "applied"


@both
async def test_what_is_read(kind: str) -> None:
    async with placed(kind) as place:
        found = await place.desk.done("kubernetes.workload", workload=APP)
        assert (found["desired"], found["paused"], found["git"]) == (1, False, "")
        assert (await place.desk.done("kubernetes.events"))["total"] >= 0
        assert (await place.desk.done("kubernetes.logs", workload=APP))["count"] >= 0
