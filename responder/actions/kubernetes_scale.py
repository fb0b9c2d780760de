"""Setting the number of pods of a workload of Kubernetes, with respect for its autoscaler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from responder.contracts import Context
from responder.errors import Permanent
from responder.kubernetes_calls import AUTOSCALERS, KubernetesCall, PatchType, Tree
from responder.kubernetes_steps import WHERE, KubernetesSetting, Rule, ScalableName, bound, patch, workload_rules
from responder.recorded import Plan
from responder.workloads import Workload, autoscaler_of, git_warning, part, text, whole, workload_of

_SCALABLE = ("deployments", "statefulsets")


class Scale(KubernetesSetting):
    """Set the number of pods of a workload to an absolute number.

    - `service`: a service of kind `kubernetes`.
    - `namespace`: one of those that the service allows.
    - `workload`: what is meant: `deployment/NAME` or `statefulset/NAME`.
    - `replicas`: the number to be in force.
    - `by`: instead of it, how many pods more, from the number that is in force when the step is prepared: the sum, at
      most `max`, is fixed then, so that a step that is tried again never adds twice.
    - `min`: the smallest number that may be in force.
    - `max`: the largest number that may be in force.
    - `only`: `up` (default) never lowers the number, `down` never raises it, `either` sets it. What is there already is
      a success.
    - `autoscaler`: what to do when a HorizontalPodAutoscaler sets the number: `refuse` (default), since it would take
      the change back; `raise_minimum`, which sets its `minReplicas` instead, at most to its `maxReplicas`, so that it
      goes on scaling above that; `ignore`.

    Effect class `set`: number and object are fixed before acting; a change by somebody since is left alone. The undo
    puts the former number back.

    Needs of its Role: `get` and `patch` on `deployments/scale` and `statefulsets/scale` (apps), `get` on `deployments`
    and `statefulsets`, `list` on `horizontalpodautoscalers` (autoscaling); `raise_minimum` also `get` and `patch` on
    those.

    ```yaml
    - id: scale_out
      title: Scale out
      action: kubernetes.scale
      with:
        service: cluster
        namespace: trading-system-prod
        workload: deployment/trading-system
        by: 4
        min: 2
        max: 10
        autoscaler: raise_minimum
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {
        **WHERE, "min": "literal", "max": "literal", "only": "literal", "autoscaler": "literal",
    }  # fmt: skip
    rules: ClassVar[tuple[Rule, ...]] = (
        *workload_rules("get", resources=_SCALABLE),
        *workload_rules("get", "patch", resources=tuple(f"{one}/scale" for one in _SCALABLE)),
        ("autoscaling", "horizontalpodautoscalers", ("get", "list", "patch")),
    )

    workload: ScalableName
    replicas: Annotated[int | None, Field(ge=0, le=1000)] = None
    by: Annotated[int | None, Field(ge=1, le=1000)] = None
    min: Annotated[int, Field(ge=0, le=1000)]
    max: Annotated[int, Field(ge=1, le=1000)]
    only: Literal["up", "down", "either"] = "up"
    autoscaler: Literal["refuse", "raise_minimum", "ignore"] = "refuse"

    @model_validator(mode="after")
    def _within(self) -> Scale:
        if (self.replicas is None) is (self.by is None):
            raise ValueError("write either `replicas`, the number itself, or `by`, how many more")
        if self.by is not None and self.only != "up":
            raise ValueError("`by` says how many more, so `only` is `up`: leave it out, or write `replicas`")
        if self.min > self.max:
            raise ValueError(f"`min` {self.min} is above `max` {self.max}: no number is allowed")
        if self.replicas is not None and not self.min <= self.replicas <= self.max:
            raise ValueError(f"`replicas` {self.replicas} is not within `min` {self.min} and `max` {self.max}")
        return self

    @classmethod
    def rules_for(cls, with_: Mapping[str, Any]) -> tuple[Rule, ...]:
        """See KubernetesStep.rules_for. An autoscaler is changed by `raise_minimum` alone."""
        rules = super().rules_for(with_)
        if with_.get("autoscaler") == "raise_minimum":
            return rules
        return tuple((group, name, ("list",) if group == "autoscaling" else verbs) for group, name, verbs in rules)

    def preview(self) -> str:
        """See Action.preview."""
        to = f"to {self.replicas}" if self.by is None else f"by {self.by}, at most to {self.max}"
        return f"scale {self.workload} in {self.namespace} {to}"

    async def prepare(self, context: Context) -> Plan:
        """Find out who sets the number, fix the target, let the server try. Raises Permanent for an autoscaler that is
        not to be changed."""
        which = self._which
        found = await self._get(context, which.resource, which.name)
        scaler = autoscaler_of(await self._list(context, AUTOSCALERS), which)
        if scaler is not None and self.autoscaler == "refuse":
            raise Permanent(
                f"{self.workload}: {_told(scaler)} sets its number and would take this back; nothing was changed: "
                "set `autoscaler: raise_minimum`"
            )
        if scaler is not None and self.autoscaler == "raise_minimum":
            name, most = text(scaler, "metadata", "name"), whole(scaler, "spec", "maxReplicas")
            # An autoscaler may not have reached its own minimum yet.
            present = max(whole(found, "spec", "replicas"), whole(scaler, "spec", "minReplicas"))
            target: dict[str, JsonValue] = {"autoscaler": name, "minimum": min(self._wanted(present), most)}
        else:
            target = {"replicas": self._wanted(whole(found, "spec", "replicas"))}
        seen = await self._fetch(context, target)
        before = self._seen(seen, target)
        warning = f" - {_told(scaler)} may take this back" if scaler is not None and "replicas" in target else ""
        shown = f"{self.workload} in {self.namespace}: {_number(before)} → {_number(target)}{warning}"
        keeps = git_warning(seen if part(target, "autoscaler") else found)
        plan = self._planned(context, f"{shown}{keeps}", before, target)
        if self._good(_number(before), _number(target)):
            return plan.model_copy(update={"nothing_to_do": f"{self.workload} has {_number(before)} already"})
        await self._tried(context, await self._change(context, seen, target))
        return plan.model_copy(update={"undoable": True})

    def _wanted(self, present: int) -> int:
        """The number to be in force, where so many are now. Not below `min`, where a workload is smaller than that."""
        if self.replicas is not None:
            return self.replicas
        return min(max(present + (self.by or 0), self.min), self.max)

    def _good(self, present: int, target: int) -> bool:
        """Whether there is nothing to do."""
        return (
            present == target or (self.only == "up" and present > target) or (self.only == "down" and present < target)
        )

    @property
    def _named(self) -> str:
        return f"the number of pods of {self.workload}"

    @property
    def _which(self) -> Workload:
        return workload_of(self.workload)

    async def _fetch(self, context: Context, like: JsonValue) -> Tree:
        if part(like, "autoscaler"):
            return await self._get(context, AUTOSCALERS, text(like, "autoscaler"))
        return await self._get(context, self._which.resource.part("scale"), self._which.name)

    def _seen(self, tree: Tree, like: JsonValue) -> JsonValue:
        if part(like, "autoscaler"):
            # A server leaves out nothing here, but an object written without it counts as 1.
            least = part(tree, "spec", "minReplicas")
            return {"autoscaler": text(like, "autoscaler"), "minimum": least if isinstance(least, int) else 1}
        return {"replicas": whole(tree, "spec", "replicas")}

    async def _change(self, context: Context, tree: Tree, to: JsonValue) -> KubernetesCall:
        name = text(to, "autoscaler")
        field = {"minReplicas": _number(to)} if name else {"replicas": _number(to)}
        resource = AUTOSCALERS if name else self._which.resource.part("scale")
        body: dict[str, Any] = bound(tree, {"spec": field})
        return patch(resource, self.namespace, name or self._which.name, body, PatchType.MERGE)


def _number(state: JsonValue) -> int:
    return whole(state, "minimum") if part(state, "autoscaler") else whole(state, "replicas")


def _told(scaler: Tree) -> str:
    low, high = part(scaler, "spec", "minReplicas"), part(scaler, "spec", "maxReplicas")
    return f"the autoscaler {text(scaler, 'metadata', 'name')} ({low}–{high})"
