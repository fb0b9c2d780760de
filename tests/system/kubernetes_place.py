"""A place for the Kubernetes actions: the API server of tests/fakes, or what RESPONDER_TEST_KUBECONFIG names.

What a test makes there is called `responder-test`, in a namespace that must exist, and is deleted at its end.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest
from pydantic import JsonValue

from responder.kubernetes_calls import (
    AUTOSCALERS,
    BUDGETS,
    CONFIG_MAPS,
    DAEMON_SETS,
    DEPLOYMENTS,
    PODS,
    STATEFUL_SETS,
    KubernetesCall,
    Resource,
    Tree,
)
from responder.kubernetes_connections import KubernetesConnection, LibraryWire
from responder.kubernetes_steps import patch
from responder.services import KubernetesService
from responder.wall_clock import wall_clock
from responder.workloads import items, template_of, text, workload_of
from tests.contract.kubernetes_parts import Desk, real_service, service
from tests.fakes.kubernetes import ApiServer, Cluster
from tests.fakes.kubernetes_objects import NAMESPACE, config_map, workload

NAME: Final = "responder-test"
SECOND: Final = "responder-test-second"
APP: Final = f"deployment/{NAME}"
KINDS: Final = {"deployment": "Deployment", "statefulset": "StatefulSet", "daemonset": "DaemonSet"}
IMAGES: Final = os.environ.get(
    "RESPONDER_TEST_IMAGES", "registry.k8s.io/pause:3.9,registry.k8s.io/pause:3.10"
).split(",")  # fmt: skip
BROKEN: Final = "registry.invalid/broken:1"
"""No cluster can run it."""
_LOOKS: Final = 500
"""How often a test looks for what a controller does, with 0.3 s between."""
_MADE: Final = (DEPLOYMENTS, STATEFUL_SETS, DAEMON_SETS, CONFIG_MAPS, AUTOSCALERS, BUDGETS)

REAL = pytest.mark.skipif(real_service() is None, reason="RESPONDER_TEST_KUBECONFIG names no cluster")
both = pytest.mark.parametrize("kind", ["fake", pytest.param("real", marks=REAL)])
each_workload = pytest.mark.parametrize("app", [f"{kind}/{NAME}" for kind in KINDS])


@dataclass
class Place:
    """A desk before a cluster, and what a test needs to look at it and to be somebody else there. `fake`: the cluster
    where it is ours; its controllers act at once."""

    desk: Desk
    connection: KubernetesConnection
    namespace: str
    fake: Cluster | None = None

    async def asked(self, call: KubernetesCall) -> Tree:
        """The object of a success. Raises Temporary, Permanent, Unknown."""
        return (await self.connection.send(call, 10)).checked(wall_clock()).object

    async def object(self, resource: Resource = DEPLOYMENTS, name: str = NAME) -> Tree:
        """As it is now."""
        return await self.asked(KubernetesCall("get", resource, self.namespace, name))

    async def add(self, resource: Resource, tree: dict[str, Any]) -> None:
        """Somebody makes an object."""
        tree = {**tree, "metadata": {**tree["metadata"], "namespace": self.namespace}}
        if self.fake is not None:
            self.fake.add(resource.plural, tree)
        else:
            await self.asked(KubernetesCall("create", resource, self.namespace, body=tree))

    async def edit(self, resource: Resource, body: dict[str, JsonValue], name: str = NAME) -> None:
        """Somebody else changes an object."""
        await self.asked(patch(resource, self.namespace, name, body))

    async def release(self, image: str, app: str = APP) -> None:
        """Somebody releases another image."""
        body: dict[str, JsonValue] = {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}}
        await self.edit(workload_of(app).resource, body)

    async def image(self, app: str = APP) -> str:
        """Of the first container."""
        return text(items(template_of(await self.object(workload_of(app).resource)), "spec", "containers")[0], "image")

    async def rolled_out(self, app: str = APP) -> None:
        """Wait for the end of the rollout."""

        async def done() -> bool:
            return bool((await self.desk.done("kubernetes.rollout_status", workload=app))["done"])

        await self.until(done, f"the rollout of {app} ends")

    async def until(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until the controllers have come so far. At once in our own cluster."""
        for _ in range(1 if self.fake is not None else _LOOKS):
            if await holds():
                return
            await asyncio.sleep(0.3)
        raise AssertionError(f"never came true: {what}")

    async def pods(self, app: str = APP) -> list[str]:
        """The names of the pods that are neither ended nor ending."""
        found = (await self.desk.done("kubernetes.pods", workload=app))["pods"]
        return sorted(pod["name"] for pod in found if pod["phase"] in {"Running", "Pending"})


def objects(kind: str = "deployment", replicas: int = 1) -> list[tuple[Resource, dict[str, Any]]]:
    """A workload of the kind and a ConfigMap."""
    made = workload(KINDS[kind], NAME, replicas=replicas, env={"LOG": "info", "MODE": "live"})
    template = made["spec"]["template"]
    template["spec"] |= {"terminationGracePeriodSeconds": 1}
    template["spec"]["containers"][0]["image"] = IMAGES[0]
    if kind == "deployment":
        made["spec"]["progressDeadlineSeconds"] = 20
    return [(workload_of(f"{kind}/{NAME}").resource, made), (CONFIG_MAPS, config_map(NAME, {"max": "20"}))]


@asynccontextmanager
async def placed(kind: str, app: str = APP, replicas: int = 1) -> AsyncIterator[Place]:
    """Before either, with this workload and a ConfigMap."""
    made = objects(workload_of(app).kind, replicas)
    if kind == "fake":
        async with ApiServer(cluster := Cluster()) as server:
            place = _placed(service(server.url), NAMESPACE, cluster)
            for resource, tree in made:
                await place.add(resource, tree)
            yield place
        return
    real = real_service()
    assert real is not None
    async with asyncio.timeout(600):
        place = _placed(*real)
        await _deleted(place)
        try:
            for resource, tree in made:
                await place.add(resource, tree)
            await place.rolled_out(app)
            yield place
        finally:
            await _deleted(place)


def _placed(settings: KubernetesService, namespace: str, cluster: Cluster | None = None) -> Place:
    connection = KubernetesConnection("cluster", settings, LibraryWire)
    return Place(Desk(settings, namespace), connection, namespace, cluster)


async def _deleted(place: Place) -> None:
    """Everything that tests make, and the pods of it."""
    for resource, name in (*((one, NAME) for one in _MADE), (BUDGETS, SECOND)):
        options: JsonValue = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        gone = await place.connection.send(KubernetesCall("delete", resource, place.namespace, name, body=options), 10)
        if gone.status != 404:
            gone.checked(wall_clock())

    async def no_pods() -> bool:
        left = KubernetesCall("list", PODS, place.namespace, params={"labelSelector": f"app={NAME}", "limit": "1"})
        return not items(await place.asked(left), "items")

    await place.until(no_pods, "the pods of the test are gone")
