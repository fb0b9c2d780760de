"""What the objects of a Kubernetes cluster say: rollouts, pods, owners. Raw JSON in, small values out; pure.

The rules of a rollout are kubectl's (rollout_status.go). Asking and changing is `actions.kubernetes_*`; which release
a workload can go back to is `releases`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue

from responder.errors import Permanent, Temporary
from responder.kubernetes_calls import DAEMON_SETS, DEPLOYMENTS, STATEFUL_SETS, Resource, Tree
from responder.timing import SECOND, format_time

RESTARTED_AT: Final = "kubectl.kubernetes.io/restartedAt"
"""The annotation of a pod template that kubectl sets to restart."""
ATTEMPT: Final = "responder/attempt"
"""Our annotation of a pod template: which plan of ours made it so. The same plan writes the same, so twice is once."""
REVISION: Final = "deployment.kubernetes.io/revision"

RESOURCES: Final[Mapping[str, Resource]] = {
    "deployment": DEPLOYMENTS,
    "statefulset": STATEFUL_SETS,
    "daemonset": DAEMON_SETS,
}
"""The kinds of workload by the word before the `/` in `workload`."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload as a step names it: `deployment/trading-app`."""

    kind: str
    name: str

    @property
    def resource(self) -> Resource:
        """Where it lives."""
        return RESOURCES[self.kind]

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


def workload_of(text: str) -> Workload:
    """The workload that `text` names. The field's pattern has checked it."""
    kind, _, name = text.partition("/")
    return Workload(kind, name)


# --- reading JSON -----------------------------------------------------------------------------------------------------


def part(tree: Any, *path: str) -> Any:
    """What stands at a path; None where there is nothing."""
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def mapping(tree: Any, *path: str) -> Mapping[str, Any]:
    """The object at a path; an empty one for anything else."""
    found = part(tree, *path)
    return found if isinstance(found, Mapping) else {}


def items(tree: Any, *path: str) -> list[Tree]:
    """The objects of the list at a path."""
    found = part(tree, *path)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def whole(tree: Any, *path: str) -> int:
    """The whole number at a path; a count that is left out is 0."""
    found = part(tree, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def text(tree: Any, *path: str) -> str:
    """The text at a path; empty for anything else."""
    found = part(tree, *path)
    return found if isinstance(found, str) else ""


def annotations_of(tree: Tree) -> Mapping[str, Any]:
    """The annotations of an object."""
    return mapping(tree, "metadata", "annotations")


def template_of(workload: Tree) -> Mapping[str, Any]:
    """Its pod template."""
    return mapping(workload, "spec", "template")


def digest(tree: Any) -> str:
    """A short mark of a JSON value: equal for equal values, in whatever order their keys stand."""
    canonical = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def desired(workload: Tree) -> int:
    """How many pods it wants. Left out, a server means 1; a DaemonSet counts nodes."""
    if part(workload, "status", "desiredNumberScheduled") is not None:
        return whole(workload, "status", "desiredNumberScheduled")
    found = part(workload, "spec", "replicas")
    return found if isinstance(found, int) else 1


def images(template: Tree) -> list[str]:
    """The images of its containers, without registry and path: `trading:1.4.2`."""
    return [text(one, "image").rpartition("/")[2] for one in items(template, "spec", "containers")]


def paused(workload: Tree) -> bool:
    """Whether somebody has paused its rollout, so that no change of its template takes effect."""
    return part(workload, "spec", "paused") is True


def refuse_paused(workload: Tree, named: str) -> None:
    """Raises Permanent for a paused workload."""
    if paused(workload):
        cure = f"somebody works on it; `kubectl rollout resume {named}` lets changes take effect"
        raise Permanent(f"{named} is paused; nothing was changed: {cure}")


def refuse_unseen(workload: Tree, named: str) -> None:
    """Raises Temporary while its controller has not seen the last change, and so keeps no revision of it yet."""
    observed, present = whole(workload, "status", "observedGeneration"), whole(workload, "metadata", "generation")
    if observed < present:
        said = f"the controller has not seen the last change yet (generation {observed} of {present})"
        raise Temporary(f"{named}: {said}; nothing was changed: try again in a few seconds")


_OWNERS: Final = (
    ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD"),
    ("labels", "argocd.argoproj.io/instance", "Argo CD"),
    ("labels", "kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("labels", "helm.toolkit.fluxcd.io/name", "Flux"),
)


def git_owner(tree: Tree) -> str:
    """The GitOps tool that keeps the object as it stands in git, with the name of its application; "" for none."""
    for place, key, tool in _OWNERS:
        value = text(tree, "metadata", place, key)
        if value:
            return f"{tool} ({value.partition(':')[0][:63]})"
    return ""


def git_warning(tree: Tree) -> str:
    """What a person must know who changes the object; begins with a space, "" when nobody keeps it."""
    owner = git_owner(tree)
    return f" - {owner} keeps it as in git and may take this back: change it there too" if owner else ""


def waiting_warning(tree: Tree) -> str:
    """What a person must know who gives a StatefulSet another template; begins with a space, "" when nothing waits.

    It replaces no pod as long as one is not ready, and so never one of a release that cannot run, whatever its template
    says since (processReplica in stateful_set_control.go, kubernetes/kubernetes#67250).
    """
    lacking = desired(tree) - whole(tree, "status", "readyReplicas")
    if text(tree, "kind") != "StatefulSet" or lacking <= 0:
        return ""
    return f" - {lacking} pods are not ready, and it replaces none before they are: delete those that cannot be"


# --- restarting -------------------------------------------------------------------------------------------------------


def restart_mark(workload: Tree, now: int) -> dict[str, JsonValue]:
    """The annotations of the pod template that restart it. They belong to one plan, made at `now` (µs)."""
    uid = text(workload, "metadata", "uid")
    return {RESTARTED_AT: format_time(now - now % SECOND), ATTEMPT: f"{now}-{uid[:8]}"}


def template_annotations(workload: Tree) -> Mapping[str, Any]:
    """The annotations of its pod template."""
    return annotations_of(template_of(workload))


def has_mark(workload: Tree, mark: Mapping[str, Any]) -> bool:
    """Whether the plan with this mark has been applied."""
    return template_annotations(workload).get(ATTEMPT) == mark.get(ATTEMPT)


def restart_patch(mark: Mapping[str, JsonValue]) -> JsonValue:
    """A strategic merge patch."""
    return {"spec": {"template": {"metadata": {"annotations": dict(mark)}}}}


# --- rollouts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far a rollout is. `failed`: it will not end by itself."""

    done: bool
    failed: bool
    why: str


def _done(why: str) -> Rollout:
    return Rollout(done=True, failed=False, why=why)


def _goes_on(why: str) -> Rollout:
    return Rollout(done=False, failed=False, why=why)


def _stuck(why: str) -> Rollout:
    return Rollout(done=False, failed=True, why=why)


def rollout(workload: Tree, kind: str, generation: int | None = None) -> Rollout:
    """How far the rollout is. `generation`: the one that a change of ours made; an older one that is done does not
    count, because it says nothing about ours."""
    wanted = max(generation or 0, whole(workload, "metadata", "generation"))
    observed = whole(workload, "status", "observedGeneration")
    if observed < wanted:
        return _goes_on(f"the controller has seen generation {observed} of {wanted}")
    if text(workload, "spec", "updateStrategy", "type") == "OnDelete":
        return _stuck("its update strategy is OnDelete: pods change only when somebody deletes them")
    return _ROLLOUTS[kind](workload)


def _deployment(workload: Tree) -> Rollout:
    stuck = [c for c in items(workload, "status", "conditions") if text(c, "reason") == "ProgressDeadlineExceeded"]
    if stuck:
        return _stuck(f"no progress before its deadline: {text(stuck[0], 'message')[:160]}")
    want, status = desired(workload), mapping(workload, "status")
    updated, total, ready = (whole(status, name) for name in ("updatedReplicas", "replicas", "availableReplicas"))
    if updated < want:
        return _goes_on(f"{updated} of {want} pods are of the new release")
    if total > updated:
        return _goes_on(f"{total - updated} old pods are still there")
    if ready < updated:
        return _goes_on(f"{ready} of {updated} new pods are available")
    return _done(f"{ready} of {want} pods are available")


def _stateful_set(workload: Tree) -> Rollout:
    want, status = desired(workload), mapping(workload, "status")
    ready, updated = whole(status, "readyReplicas"), whole(status, "updatedReplicas")
    if ready < want:
        waits = "; it replaces no pod before they are: delete those that cannot be" if updated < want else ""
        return _goes_on(f"{ready} of {want} pods are ready{waits}")
    partition = whole(workload, "spec", "updateStrategy", "rollingUpdate", "partition")
    if partition:
        done = updated >= want - partition
        said = f"{updated} of {want - partition} pods above the partition are updated"
        return _done(said) if done else _goes_on(said)
    if text(status, "updateRevision") != text(status, "currentRevision"):
        return _goes_on(f"{updated} of {want} pods are of the new release")
    return _done(f"{ready} of {want} pods are ready")


def _daemon_set(workload: Tree) -> Rollout:
    want, status = desired(workload), mapping(workload, "status")
    updated, ready = whole(status, "updatedNumberScheduled"), whole(status, "numberAvailable")
    if updated < want:
        return _goes_on(f"{updated} of {want} pods are of the new release")
    if ready < want:
        return _goes_on(f"{ready} of {want} pods are available")
    return _done(f"{ready} of {want} pods are available")


_ROLLOUTS: Final = {"deployment": _deployment, "statefulset": _stateful_set, "daemonset": _daemon_set}


def counts(workload: Tree) -> dict[str, JsonValue]:
    """Its pods in numbers, under the same names for every kind."""
    status = mapping(workload, "status")
    first = {
        "ready": ("readyReplicas", "numberReady"),
        "available": ("availableReplicas", "numberAvailable"),
        "updated": ("updatedReplicas", "updatedNumberScheduled"),
    }
    found: dict[str, JsonValue] = {name: sum(whole(status, one) for one in names) for name, names in first.items()}
    return {"desired": desired(workload), **found}


# --- pods -------------------------------------------------------------------------------------------------------------


def selector_of(workload: Tree) -> str:
    """The label selector of its pods, as a list takes it. Raises Permanent where there is none."""
    selector = mapping(workload, "spec", "selector")
    told = [f"{key}={value}" for key, value in mapping(selector, "matchLabels").items()]
    told += [_expression(one) for one in items(selector, "matchExpressions")]
    if not told:
        raise Permanent("the workload selects no pods by labels; name them with `selector`")
    return ",".join(told)


def _expression(one: Tree) -> str:
    key, operator = text(one, "key"), text(one, "operator")
    values = ",".join(str(value) for value in one.get("values") or [])
    forms = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
    return forms.get(operator, f"!{key}")


def selects(selector: Any, labels: Mapping[str, Any]) -> bool:
    """Whether a label selector takes an object with these labels; an empty one takes all, none takes nothing."""
    if not isinstance(selector, Mapping):
        return False
    same = all(labels.get(key) == value for key, value in mapping(selector, "matchLabels").items())
    return same and all(_meets(one, labels) for one in items(selector, "matchExpressions"))


def _meets(one: Tree, labels: Mapping[str, Any]) -> bool:
    key, operator, values = text(one, "key"), text(one, "operator"), one.get("values") or []
    forms = {
        "In": key in labels and labels.get(key) in values,
        "NotIn": labels.get(key) not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }
    return forms.get(operator, False)


def siblings(pod: Tree) -> tuple[str, str]:
    """How a list finds the pods of the same controller: a label selector, and the uid of the controller.

    A StatefulSet also labels what is different in each of its pods; that is left out.
    """
    labels = {key: value for key, value in mapping(pod, "metadata", "labels").items() if key not in _OF_ONE}
    owners = [one for one in items(pod, "metadata", "ownerReferences") if one.get("controller") is True]
    return ",".join(f"{key}={value}" for key, value in labels.items()), text(owners[0], "uid") if owners else ""


_OF_ONE: Final = {
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "controller-revision-hash",
    "pod-template-generation",
}


def pod_of(pod: Tree) -> dict[str, JsonValue]:
    """What a person must know of a pod: phase, readiness, restarts, and why it last died."""
    containers, first = items(pod, "status", "containerStatuses"), items(pod, "status", "initContainerStatuses")
    unfinished = [one for one in first if text(one, "state", "terminated", "reason") != "Completed"]
    return {
        "name": text(pod, "metadata", "name"),
        "phase": "Terminating" if part(pod, "metadata", "deletionTimestamp") else text(pod, "status", "phase"),
        "ready": ready(pod),
        "restarts": sum(whole(one, "restartCount") for one in containers),
        "why": _why(pod, [*unfinished, *containers]),
        "node": text(pod, "spec", "nodeName"),
        "since": text(pod, "status", "startTime"),
    }


def ready(pod: Tree) -> bool:
    """Whether it takes traffic."""
    conditions = items(pod, "status", "conditions")
    return any(text(one, "type") == "Ready" and text(one, "status") == "True" for one in conditions)


def _why(pod: Tree, containers: Iterable[Tree]) -> str:
    """`CrashLoopBackOff`, `OOMKilled`, `Unschedulable` …; "" where nothing is wrong."""
    for one in containers:
        for place in (("state", "waiting"), ("state", "terminated"), ("lastState", "terminated")):
            reason = text(one, *place, "reason")
            if reason and reason not in {"Completed", "ContainerCreating", "PodInitializing"}:
                return reason
    conditions = items(pod, "status", "conditions")
    said = (text(one, "reason") for one in conditions if text(one, "status") == "False")
    return text(pod, "status", "reason") or next((reason for reason in said if reason == "Unschedulable"), "")


def controlled(pod: Tree) -> str:
    """Who makes it anew when it is gone: `ReplicaSet/web-5f7`; "" for nobody."""
    owners = [one for one in items(pod, "metadata", "ownerReferences") if one.get("controller") is True]
    return f"{text(owners[0], 'kind')}/{text(owners[0], 'name')}" if owners else ""


def owned(tree: Tree, uid: str) -> bool:
    """Whether the object of this uid controls it."""
    owners = items(tree, "metadata", "ownerReferences")
    return any(text(one, "uid") == uid and one.get("controller") is True for one in owners)


def autoscaler_of(autoscalers: Iterable[Tree], workload: Workload) -> Tree | None:
    """The autoscaler that sets its number of pods, None where people do."""
    for one in autoscalers:
        kind, name = text(one, "spec", "scaleTargetRef", "kind"), text(one, "spec", "scaleTargetRef", "name")
        if (kind.lower(), name) == (workload.kind, workload.name):
            return one
    return None
