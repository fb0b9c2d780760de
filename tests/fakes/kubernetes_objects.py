"""The objects of the fake cluster as an API server gives them, and the patches that it understands."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

NAMESPACE = "trading"


def template(app: str, image: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """A pod template with one container."""
    variables = [{"name": name, "value": value} for name, value in (env or {}).items()]
    container: dict[str, Any] = {"name": "app", "image": f"registry.example/{image}"}
    if variables:
        container["env"] = variables
    return {"metadata": {"labels": {"app": app}}, "spec": {"containers": [container]}}


def workload(kind: str, name: str, image: str = "trading:1.0", replicas: int = 3, **spec: Any) -> dict[str, Any]:
    """A Deployment, StatefulSet or DaemonSet, before any controller has seen it."""
    env = spec.pop("env", None)
    body = {"selector": {"matchLabels": {"app": name}}, "template": template(name, image, env), **spec}
    if kind != "DaemonSet":
        body["replicas"] = replicas
    meta = {"name": name, "namespace": NAMESPACE, "generation": 1, "labels": {}, "annotations": {}}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": body, "status": {}}


def autoscaler(name: str, low: int, high: int) -> dict[str, Any]:
    """One that sets the number of pods of the Deployment of the same name."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    spec = {"scaleTargetRef": target, "minReplicas": low, "maxReplicas": high}
    return {"kind": "HorizontalPodAutoscaler", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def config_map(name: str, data: dict[str, str], *, immutable: bool = False) -> dict[str, Any]:
    """A ConfigMap."""
    found: dict[str, Any] = {"kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}, "data": data}
    return {**found, "immutable": True} if immutable else found


def budget(app: str, available: int) -> dict[str, Any]:
    """A PodDisruptionBudget that keeps so many pods of the app."""
    spec = {"minAvailable": available, "selector": {"matchLabels": {"app": app}}}
    return {"kind": "PodDisruptionBudget", "metadata": {"name": app, "namespace": NAMESPACE}, "spec": spec}


def event(name: str, about: str, reason: str, message: str, kind: str = "Pod", at: str = "") -> dict[str, Any]:
    """A warning about an object."""
    return {
        "kind": "Event",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "count": 3,
        "lastTimestamp": at or "2026-11-20T12:00:00Z",
        "involvedObject": {"kind": kind, "name": about},
    }


def pod(name: str, app: str, owner: dict[str, Any], image: str, *, well: bool = True) -> dict[str, Any]:
    """A pod of a workload."""
    reference = {"kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
    owners = [{**reference, "controller": True}]
    meta = {"name": name, "namespace": NAMESPACE, "labels": {"app": app}, "ownerReferences": owners}
    state = {"running": {}} if well else {"waiting": {"reason": "CrashLoopBackOff"}}
    one = {"name": "app", "restartCount": 0 if well else 7, "image": image, "state": state, "ready": well}
    status = {
        "phase": "Running",
        "startTime": "2026-11-20T11:00:00Z",
        "conditions": [{"type": "Ready", "status": "True" if well else "False"}],
        "containerStatuses": [one],
    }
    spec = {"nodeName": "node-1", "containers": [{"name": "app", "image": image}]}
    return {"kind": "Pod", "metadata": meta, "spec": spec, "status": status}


# --- patches ----------------------------------------------------------------------------------------------------------


def merged(tree: Any, patch: Any) -> Any:
    """A merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    found = dict(tree) if isinstance(tree, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def strategic(tree: Any, patch: Any) -> Any:
    """A strategic merge patch: lists of objects are merged by `name`; `$patch` replaces or deletes, `$setElementOrder`
    orders. As strategicpatch/patch.go does it."""
    if isinstance(patch, dict):
        return _strategic_object(tree, patch)
    if isinstance(patch, list) and patch and all(isinstance(one, dict) and "name" in one for one in patch):
        return _strategic_list(tree if isinstance(tree, list) else [], patch)
    return patch


def _strategic_object(tree: Any, patch: dict[str, Any]) -> dict[str, Any]:
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    found = dict(tree) if isinstance(tree, dict) else {}
    orders = {key.partition("/")[2]: value for key, value in patch.items() if key.startswith(_ORDER)}
    for key, value in patch.items():
        if key.startswith(_ORDER):
            continue
        if value is None:
            found.pop(key, None)
        elif key in orders:
            found[key] = _strategic_list(found.get(key) or [], value, [one["name"] for one in orders[key]])
        else:
            found[key] = strategic(found.get(key), value)
    return found


def without_empty_values(tree: dict[str, Any]) -> dict[str, Any]:
    """An object without the empty values of its variables, which the real server leaves out."""
    found = copy.deepcopy(tree)
    for container in field_of(found, "spec.template.spec").get("containers", []):
        for entry in container.get("env", []):
            if entry.get("value") == "":
                del entry["value"]
    return found


_ORDER = "$setElementOrder/"


def _strategic_list(tree: list[Any], patch: list[dict[str, Any]], order: list[str] | None = None) -> list[Any]:
    found = {one["name"]: one for one in tree}
    for one in patch:
        if one.get("$patch") == "delete":
            found.pop(one["name"], None)
        elif "$patch" in one:
            raise AssertionError("the real server would replace the whole list")
        else:
            found[one["name"]] = strategic(found.get(one["name"], {}), one)
    patched = [one["name"] for one in patch if "$patch" not in one]
    if order is not None:
        assert [name for name in order if name in patched] == patched, "the real server refuses another order"
    return [found[name] for name in _ordered([one["name"] for one in tree], list(found), order or patched)]


def _ordered(before: list[str], names: list[str], order: list[str]) -> list[str]:
    """As mergeSortedSlice does it: what is patched keeps the order of the patch; what is only there goes before it as
    far as both were there and stood so. So what is new comes first."""
    right, told = [name for name in order if name in names], []
    for name in [name for name in names if name not in right]:
        while right and not (right[0] in before and before.index(name) < before.index(right[0])):
            told.append(right.pop(0))
        told.append(name)
    return [*told, *right]


def digest(tree: Any) -> str:
    """What tells two templates apart."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:8]


def owner_of(tree: dict[str, Any]) -> str:
    """The uid of the controller that an object belongs to."""
    return str(tree["metadata"]["ownerReferences"][0]["uid"])


def is_owned(tree: dict[str, Any], owner: dict[str, Any]) -> bool:
    """Whether an object belongs to another one."""
    return any(one["uid"] == owner["metadata"]["uid"] for one in tree["metadata"]["ownerReferences"])


def ready(one: dict[str, Any]) -> bool:
    """Whether a pod is ready."""
    return bool(one["status"]["conditions"][0]["status"] == "True")


def field_of(tree: Any, path: str) -> Any:
    """The value at a path such as `metadata.name`."""
    for part in path.split("."):
        tree = tree.get(part, {})
    return tree


def unversioned(tree: dict[str, Any]) -> dict[str, Any]:
    """An object without its version."""
    kept = {key: value for key, value in tree["metadata"].items() if key != "resourceVersion"}
    return {**tree, "metadata": kept}
