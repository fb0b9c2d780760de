"""The Kubernetes actions on their whole way, as the responder goes it, before an API server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from responder.actions import ACTIONS
from responder.connections import Connections, open_transport
from responder.contracts import Probe, Secret
from responder.perform import Ended, Performer
from responder.recorded import Outcome, Plan
from responder.runbook import Runbook, Step
from responder.services import KubernetesService
from responder.timing import SECOND
from responder.wall_clock import wall_clock
from tests.fakes.kubernetes import TOKEN, ApiServer, Cluster
from tests.fakes.kubernetes_objects import NAMESPACE, workload

RUNBOOK = Runbook(runbook="trading-system-down", title="Trading is down", target="kubernetes:trading")
APP = "deployment/trading-app"
KINDS = {"deployment": "deployments", "statefulset": "statefulsets", "daemonset": "daemonsets"}
KEY = "inc1.run1.restart.1"
SCALE, RESTART = "kubernetes.scale", "kubernetes.rollout_restart"
ENV, MAP = "kubernetes.set_env", "kubernetes.configmap_patch"


async def _no_wait(_seconds: float) -> None:
    raise AssertionError("no Kubernetes action waits")


class Desk:
    """The performer before one cluster."""

    def __init__(self, service: KubernetesService, namespace: str = NAMESPACE) -> None:
        connections = Connections({"cluster": service}, open_transport)
        self.namespace = namespace
        self.performer = Performer(ACTIONS, connections.connect, {}, wall_clock, _no_wait)

    async def prepare(self, action: str, **with_: Any) -> Plan:
        """As a step. Raises Temporary, Permanent."""
        whole = {"service": "cluster", "namespace": self.namespace, **with_}
        step = Step.model_validate({"id": "it", "action": action, "with": whole, "timeout": "10s"})
        return await self.performer.prepare(RUNBOOK, step, {})

    async def act(self, action: str, plan: Plan, timeout: float = 10) -> Ended:
        """One attempt."""
        return await self.performer.act(action, plan, KEY, round(timeout * SECOND))

    async def probe(self, action: str, plan: Plan) -> Probe:
        """What became of it."""
        return await self.performer.probe(action, plan, 10 * SECOND)

    async def undo(self, action: str, plan: Plan) -> Plan:
        """The way back. Raises Temporary, Permanent."""
        return await self.performer.undo(action, plan, 10 * SECOND)

    async def done(self, action: str, **with_: Any) -> Any:
        """Prepared and done, with its output."""
        ended = await self.act(action, await self.prepare(action, **with_))
        assert ended.outcome is Outcome.OK, ended.detail
        return ended.output


def service(url: str, token: str = TOKEN, **fields: Any) -> KubernetesService:
    """A service by its address and token."""
    secret = Secret("env CLUSTER_TOKEN", lambda: token)
    return KubernetesService.model_validate({"url": url, "token": secret, "namespaces": [NAMESPACE], **fields})


@asynccontextmanager
async def standing(cluster: Cluster, **fields: Any) -> AsyncIterator[Desk]:
    """A desk before a served cluster."""
    async with ApiServer(cluster) as server:
        yield Desk(service(server.url, **fields))


def real_service() -> tuple[KubernetesService, str] | None:
    """The cluster that RESPONDER_TEST_KUBECONFIG names, and its namespace for tests; None without one."""
    file = os.environ.get("RESPONDER_TEST_KUBECONFIG")
    if not file:
        return None
    namespace = os.environ.get("RESPONDER_TEST_NAMESPACE", "responder-test")
    return KubernetesService.model_validate({"kubeconfig": file, "namespaces": [namespace]}), namespace


def trading_app() -> Cluster:
    """One workload of each kind, all called trading-app."""
    found = Cluster()
    found.add("deployments", workload("Deployment", "trading-app", env={"LOG": "info", "FORCE_ERROR_RATE": "0.2"}))
    found.add("statefulsets", workload("StatefulSet", "trading-app"))
    found.add("daemonsets", workload("DaemonSet", "trading-app"))
    return found


def releases(cluster: Cluster, image: str, kind: str = "deployment", name: str = "trading-app") -> None:
    """Somebody releases another image."""
    new = {"name": "app", "image": f"registry.example/{image}"}
    cluster.edit(KINDS[kind], name, {"spec": {"template": {"spec": {"containers": [new]}}}})


def container(cluster: Cluster, kind: str = "deployment") -> Any:
    """Of the workload of that kind."""
    return cluster.get(KINDS[kind], "trading-app")["spec"]["template"]["spec"]["containers"][0]


def image(cluster: Cluster, kind: str = "deployment") -> str:
    """The container's image, without the registry."""
    return str(container(cluster, kind)["image"]).rpartition("/")[2]


def a_pod(cluster: Cluster) -> Any:
    return min(cluster.of("pods"), key=lambda tree: str(tree["metadata"]["name"]))["metadata"]
