"""A cluster on the stage, and what the shipped runbooks measure and change there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from responder.incident import Incident
from tests.acceptance.catalogues import loaded
from tests.acceptance.stage import Stage
from tests.fakes.kubernetes import Cluster
from tests.fakes.kubernetes_objects import workload

NSE, MULTI, SERVICE = "nse-equities", "multi-market", "trading-service"
RESTARTED = "patch deployments trading-system"


def alert(name: str, platform: str = NSE, severity: str = "warning", **labels: str) -> dict[str, str]:
    return {"alertname": name, "platform": platform, "env": "prod", "severity": severity, **labels}


DOWN = alert("TradingSystemDown", severity="critical")
ERRORS = alert("HighErrorRate", severity="high")


def running(stage: Stage, namespace: str, name: str, released: str = "13:50", **spec: Any) -> Cluster:
    """A cluster with one workload that has been released twice, the second time at `released` (it is 14:00)."""
    cluster = stage.world.cluster
    cluster.namespace, cluster.time = namespace, "2026-11-20T06:00:00Z"
    cluster.add("deployments", workload("Deployment", name, replicas=2, **spec))
    cluster.time = f"2026-11-20T{released}:00Z"
    release(cluster, name, "trading:1.1")
    return cluster


def release(cluster: Cluster, name: str, image: str) -> None:
    new = {"name": "app", "image": f"registry.example/{image}"}
    cluster.edit("deployments", name, {"spec": {"template": {"spec": {"containers": [new]}}}})


def image(cluster: Cluster, name: str) -> str:
    spec = cluster.get("deployments", name)["spec"]["template"]["spec"]
    return str(spec["containers"][0]["image"]).rpartition("/")[2]


def measured(
    stage: Stage, runbook: str, platform: str, good: float, bad: float | None, until: Callable[[], bool]
) -> None:
    """Every check of the runbook is bad until then."""
    for check in loaded(platform)[0].runbooks[runbook].checks.values():
        if check.action == "prometheus.query":
            stage.world.numbers[str(check.with_["query"])] = lambda: good if until() else bad


def of(stage: Stage, runbook: str) -> Incident:
    (found,) = [incident for incident in stage.incidents() if incident.runbook == runbook]
    return found
