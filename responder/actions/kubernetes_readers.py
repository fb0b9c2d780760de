"""What can be read of a namespace of Kubernetes: workloads, pods, events, logs. Evidence and checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field, JsonValue, model_validator

from responder.contracts import Context, Output
from responder.errors import Permanent, ResponderError, Temporary
from responder.kubernetes_calls import (
    AUTOSCALERS,
    CONTROLLER_REVISIONS,
    EVENTS,
    PODS,
    REPLICA_SETS,
    KubernetesAnswer,
    KubernetesCall,
    Tree,
    refusal,
)
from responder.kubernetes_steps import WHERE, KubernetesReader, Name, Rule, WorkloadName, workload_rules
from responder.recorded import Plan
from responder.redaction import hide
from responder.releases import present_release, released_at, releases_of
from responder.timing import MINUTE, SECOND
from responder.workloads import (
    autoscaler_of,
    counts,
    git_owner,
    images,
    part,
    paused,
    pod_of,
    ready,
    selector_of,
    template_of,
    text,
    whole,
    workload_of,
)
from responder.written import Duration

MAX_PODS: Final = 50
"""Pods that are listed one by one."""
_ENDED: Final = {"Failed", "Succeeded"}
"""Phases of a pod that has ended and will not come back: evicted ones stay listed for a long time."""
MAX_MESSAGE: Final = 200
"""Characters of an event's message."""

Selector = Annotated[str, Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._/=!,]{0,255}$")]


class _OfPods(KubernetesReader):
    """What reads the pods of a workload."""

    async def _pods(self, context: Context, workload: str | None, selector: str | None) -> list[Tree]:
        """Raises Permanent where there is no such workload."""
        if workload is not None:
            named = workload_of(workload)
            selector = selector_of(await self._get(context, named.resource, named.name))
        return await self._list(context, PODS, **({"labelSelector": selector} if selector else {}))


class Pods(_OfPods):
    """Read the pods of a workload, or of a label selector: which are ready, which restart, and why.

    - `service`: a service of kind `kubernetes`.
    - `namespace`: one of those that the service allows.
    - `workload`: whose pods: `deployment/NAME`, `statefulset/NAME` or `daemonset/NAME`.
    - `selector`: instead of a workload, labels such as `app=trading`.

    Effect class `read`. `expect` sees `value.total`, `value.ready`, `value.ended` (evicted and completed pods, which
    are not in the total), `value.restarts` (all together), `value.why` (how often each reason, such as `OOMKilled`) and
    `value.pods`, at most 50, those with trouble first: `{name, phase, ready, restarts, why, node, since}`.

    Needs of its Role: `list` on `pods`, with `workload` also `get` on `deployments`, `statefulsets`,
    `daemonsets` (apps).

    ```yaml
    evidence:
      - title: Pods
        action: kubernetes.pods
        with: {service: cluster, namespace: trading-system-prod, workload: deployment/trading-system}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {**WHERE, "selector": "literal"}
    rules: ClassVar[tuple[Rule, ...]] = (("", "pods", ("list",)), *workload_rules("get"))

    workload: WorkloadName | None = None
    selector: Selector | None = None

    @model_validator(mode="after")
    def _one(self) -> Pods:
        if (self.workload is None) == (self.selector is None):
            raise ValueError("say whose pods: either `workload` or `selector`")
        return self

    def preview(self) -> str:
        """See Action.preview."""
        return f"pods of {self.workload or self.selector} in {self.namespace}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary, Permanent."""
        asked = context.now()
        found = await self._pods(context, self.workload, self.selector)
        told = sorted((pod_of(pod) for pod in found), key=lambda pod: (bool(pod["ready"]), -whole(pod, "restarts")))
        fine = sum(1 for pod in told if pod["ready"])
        over = sum(1 for pod in told if pod["phase"] in _ENDED)
        reasons = Counter(str(pod["why"]) for pod in told if pod["why"])
        value: JsonValue = {
            "total": len(told) - over,
            "ready": fine,
            "ended": over,
            "restarts": sum(whole(pod, "restarts") for pod in told),
            "why": dict(reasons.most_common()),
            "pods": [*told[:MAX_PODS]],
        }
        return Output(value, f"{fine} of {len(told) - over} pods are ready", asked)


class Workload(KubernetesReader):
    """Read a workload: image, release, pods in numbers, and who keeps it.

    - `service`: a service of kind `kubernetes`.
    - `namespace`: one of those that the service allows.
    - `workload`: what is meant: `deployment/NAME`, `statefulset/NAME` or `daemonset/NAME`.

    Effect class `read`. `expect` sees `value.images`, `value.desired`, `value.ready`, `value.available`,
    `value.updated`, `value.generation`, `value.paused`, `value.git` (the GitOps tool that keeps it, or ""),
    `value.autoscaler` (`{name, min, max}` or null), `value.revision` and `value.released_minutes_ago`: when its present
    release first came. Scaling, restarts and what `kubernetes.set_env` of ours changed are no releases; one that was
    gone and is back counts from its first coming.

    Needs of its Role: `get` on `deployments`, `statefulsets`, `daemonsets`, `list` on `replicasets` or
    `controllerrevisions` (apps), `list` on `horizontalpodautoscalers` (autoscaling).

    ```yaml
    evidence:
      - title: Release
        action: kubernetes.workload
        with: {service: cluster, namespace: trading-system-prod, workload: deployment/trading-system}
    ```
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        *workload_rules("get"),
        *workload_rules("list", resources=("replicasets", "controllerrevisions")),
        ("autoscaling", "horizontalpodautoscalers", ("list",)),
    )

    workload: WorkloadName

    def preview(self) -> str:
        """See Action.preview."""
        return f"{self.workload} in {self.namespace}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary, Permanent."""
        asked, named = context.now(), workload_of(self.workload)
        found = await self._get(context, named.resource, named.name)
        scaler = autoscaler_of(await self._list(context, AUTOSCALERS), named)
        value: dict[str, JsonValue] = {
            "images": [*images(template_of(found))],
            "generation": whole(found, "metadata", "generation"),
            "paused": paused(found),
            "git": git_owner(found),
            "autoscaler": None if scaler is None else _limits(scaler),
            **counts(found),
        }
        keeps = REPLICA_SETS if named.kind == "deployment" else CONTROLLER_REVISIONS
        kept = await self._list(context, keeps, labelSelector=selector_of(found))
        value |= _release(found, named.kind, kept, asked)
        shown = ", ".join(images(template_of(found)))
        return Output(value, f"{self.workload}: {shown}, {value['ready']} of {value['desired']} ready", asked)


def _limits(scaler: Tree) -> dict[str, JsonValue]:
    spec = ("minReplicas", "maxReplicas")
    return {"name": text(scaler, "metadata", "name"), **{s[:3]: part(scaler, "spec", s) for s in spec}}


def _release(workload: Tree, kind: str, kept: list[Tree], now: int) -> dict[str, JsonValue]:
    """The present release, and since when it is there."""
    releases = releases_of(workload, kind, kept)
    since = released_at(workload, releases)
    minutes = None if since is None else max(now - since, 0) // MINUTE
    return {"revision": present_release(workload, releases).revision, "released_minutes_ago": minutes}


class Events(KubernetesReader):
    """Read the warnings of a namespace, newest first.

    - `service`: a service of kind `kubernetes`.
    - `namespace`: one of those that the service allows.
    - `workload`: only those about it and about what it made (`trading-system-…`).
    - `count`: how many are told, at most 100. Default 20.

    Effect class `read`. `expect` sees `value.total`, `value.by_reason` (how often each, most first) and `value.events`:
    `{at, about, reason, message, count}`. No warning is an answer: `total` is 0. A cluster keeps events for an hour;
    of more than 500 warnings only the first that it gives are read.

    Needs of its Role: `list` on `events`.

    ```yaml
    evidence:
      - title: Warnings
        action: kubernetes.events
        with: {service: cluster, namespace: trading-system-prod, workload: deployment/trading-system}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {**WHERE, "count": "literal"}
    rules: ClassVar[tuple[Rule, ...]] = (("", "events", ("list",)),)

    workload: WorkloadName | None = None
    count: Annotated[int, Field(ge=1, le=100)] = 20

    def preview(self) -> str:
        """See Action.preview."""
        return f"warnings about {self.workload or 'anything'} in {self.namespace}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary, Permanent."""
        asked = context.now()
        found = await self._list(context, EVENTS, fieldSelector="type=Warning")
        mine = sorted((event for event in found if self._wanted(event)), key=_at, reverse=True)
        reasons: Counter[str] = Counter()
        for event in mine:
            reasons[text(event, "reason")] += _times(event)
        value: JsonValue = {
            "total": len(mine),
            "by_reason": dict(reasons.most_common()),
            "events": [_event(one) for one in mine[: self.count]],
        }
        return Output(value, f"{len(mine)} warnings", asked)

    def _wanted(self, event: Tree) -> bool:
        name = text(event, "involvedObject", "name")
        wanted = "" if self.workload is None else workload_of(self.workload).name
        return not wanted or name == wanted or name.startswith(f"{wanted}-")


def _at(event: Tree) -> str:
    """When it was seen last. Who writes by events.k8s.io, as the scheduler does, tells that in a series."""
    return (
        text(event, "series", "lastObservedTime")
        or text(event, "lastTimestamp")
        or text(event, "eventTime")
        or text(event, "metadata", "creationTimestamp")
    )


def _times(event: Tree) -> int:
    """How often it was seen."""
    return max(whole(event, "series", "count"), whole(event, "count"), 1)


def _event(event: Tree) -> dict[str, JsonValue]:
    about = f"{text(event, 'involvedObject', 'kind').lower()}/{text(event, 'involvedObject', 'name')}"
    message = hide(" ".join(text(event, "message").split()), "(hidden)")[0][:MAX_MESSAGE]
    return {
        "at": _at(event),
        "about": about,
        "reason": text(event, "reason"),
        "message": message,
        "count": _times(event),
    }


class Logs(_OfPods):
    """Read the last lines that a pod wrote.

    - `service`: a service of kind `kubernetes`.
    - `namespace`: one of those that the service allows.
    - `pod`: the name of the pod.
    - `workload`: instead of a pod, that of this workload which is in most trouble (not ready, most restarts).
    - `container`: which of its containers; needed where there are several.
    - `lines`: how many lines are read, at most 500. Default 50.
    - `bytes`: how many bytes are read, at most 65536. Default 16384.
    - `since`: only what was written in this time, such as `10m`.
    - `previous`: what the container wrote before it last died.
    - `contains`: only lines with this text in them.

    Effect class `read`. `expect` sees `value.pod`, `value.count` (lines that are told) and `value.lines`, oldest first.
    Credentials are hidden as far as they can be recognised; give the user this right only where logs hold none.

    Needs of its Role: `get` on `pods/log`; with `workload` also `list` on `pods` and `get` on the workload (apps).

    ```yaml
    evidence:
      - title: Errors
        action: kubernetes.logs
        with:
          service: cluster
          namespace: trading-system-prod
          workload: deployment/trading-system
          lines: 200
          contains: ERROR
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {
        **WHERE, "container": "literal", "lines": "literal", "bytes": "literal", "since": "literal",
        "previous": "literal", "contains": "literal",
    }  # fmt: skip
    rules: ClassVar[tuple[Rule, ...]] = (("", "pods/log", ("get",)), ("", "pods", ("list",)), *workload_rules("get"))

    pod: Name | None = None
    workload: WorkloadName | None = None
    container: Name | None = None
    lines: Annotated[int, Field(ge=1, le=500)] = 50
    bytes: Annotated[int, Field(ge=256, le=65536)] = 16384
    since: Duration | None = None
    previous: bool = False
    contains: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Logs:
        if (self.pod is None) == (self.workload is None):
            raise ValueError("say whose log: either `pod` or `workload`")
        return self

    @classmethod
    def rules_for(cls, with_: Mapping[str, Any]) -> tuple[Rule, ...]:
        """See KubernetesStep.rules_for. A pod that is named is not looked for."""
        rules = super().rules_for(with_)
        return rules if with_.get("workload") else tuple(rule for rule in rules if rule[1] != "pods")

    def preview(self) -> str:
        """See Action.preview."""
        return f"last {self.lines} lines of {self.pod or self.workload} in {self.namespace}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary where there is no pod; Permanent."""
        asked = context.now()
        pod = self.pod or await self._worst(context)
        params = {"tailLines": str(self.lines), "limitBytes": str(self.bytes)}
        if self.container is not None:
            params["container"] = self.container
        if self.since is not None:
            params["sinceSeconds"] = str(max(self.since // SECOND, 1))
        if self.previous:
            params["previous"] = "true"
        call = KubernetesCall("get", PODS.part("log"), self.namespace, pod, params)
        answer = await self._send(context, call)
        if answer.status == 400:
            raise _no_log(answer, pod)
        answer.checked(context.now())
        wrote = hide(answer.text, "(hidden)")[0].splitlines()
        kept = [line for line in wrote if self.contains is None or self.contains in line]
        value: JsonValue = {"pod": pod, "count": len(kept), "lines": [*kept]}
        return Output(value, f"{len(kept)} lines of {pod}", asked)

    async def _worst(self, context: Context) -> str:
        found = await self._pods(context, self.workload, None)
        if not found:
            raise Temporary(f"{self.workload} has no pods now, so no log: look at its events")
        worst = min(found, key=lambda pod: (ready(pod), -whole(pod_of(pod), "restarts"), text(pod, "metadata", "name")))
        return text(worst, "metadata", "name")


def _no_log(answer: KubernetesAnswer, pod: str) -> ResponderError:
    """There is no such log, which the cluster answers with 400 (kubelet_pods.go, pod/strategy.go)."""
    if "waiting to start" in answer.message:
        return Temporary(f"{pod} has written nothing yet ({answer.message}): look at its events")
    if "previous terminated container" in answer.message:
        return Permanent(f"{pod} has not died since it was made ({answer.message}): leave `previous` away")
    if "container" in answer.message:
        return Permanent(f"{pod} ({answer.message}): name its container in `container`")
    return refusal(answer, 0)
