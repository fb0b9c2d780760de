"""Taking away one pod of Kubernetes, so that its controller makes a new one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue

from responder.contracts import Context, Output, Probe
from responder.errors import Permanent, Temporary
from responder.kubernetes_calls import BUDGETS, PODS, KubernetesCall, Tree
from responder.kubernetes_steps import WHERE, KubernetesChange, Name, Rule
from responder.recorded import Plan, ProbeAnswer
from responder.workloads import controlled, mapping, owned, part, pod_of, ready, selects, siblings, text

_GONE = "gone"
_TWO_BUDGETS = "more than one PodDisruptionBudget"
"""What the server says of it (eviction.go)."""


class PodChange(KubernetesChange):
    """What deleting and evicting share: the pod is meant by its uid, so its successor is never touched."""

    pod: Name

    async def prepare(self, context: Context) -> Plan:
        """Read it. Raises Permanent for a pod that nothing would make anew."""
        found = await self._get(context, PODS, self.pod)
        owner = controlled(found)
        if not owner:
            cure = "no controller makes it anew; act on what it is part of"
            raise Permanent(f"pod {self.pod} stands alone; nothing was changed: {cure}")
        state = pod_of(found)
        why = f", {state['why']}" if state["why"] else ""
        told = f"{self.preview()} (of {owner}, {state['restarts']} restarts{why})"
        plan = self._planned(context, told, text(found, "metadata", "uid"), _GONE)
        if part(found, "metadata", "deletionTimestamp"):
            return plan.model_copy(update={"nothing_to_do": f"pod {self.pod} is ending already"})
        return await self._attempted(context, plan, found)

    async def act(self, plan: Plan, context: Context) -> Output:
        """Ask for it once. A pod that is gone, or another one of its name, is a success."""
        answer = await self._send(context, self._call(str(plan.before)))
        if answer.status not in {404, 409}:
            answer.checked(context.now())
            return Output(_GONE, f"pod {self.pod} was taken away", context.now())
        if _is_gone(await self._pod(context), plan):
            return Output(_GONE, f"pod {self.pod} was gone already", context.now())
        answer.checked(context.now())
        raise Permanent(f"pod {self.pod}: refused; nothing was changed")

    async def probe(self, plan: Plan, context: Context) -> Probe:
        """Look whether it is still there."""
        if _is_gone(await self._pod(context), plan):
            return Probe(ProbeAnswer.APPLIED, f"pod {self.pod} is gone, or ending")
        return Probe(ProbeAnswer.NOT_APPLIED, f"pod {self.pod} is still there")

    async def _pod(self, context: Context) -> Tree | None:
        """The pod of this name; None where there is none."""
        answer = await self._send(context, KubernetesCall("get", PODS, self.namespace, self.pod))
        return None if answer.status == 404 else answer.checked(context.now()).object

    async def _attempted(self, context: Context, plan: Plan, found: Tree) -> Plan:
        """The plan, after the server has tried it on the pod that was found."""
        await self._tried(context, self._call(str(plan.before)))
        return plan

    @abstractmethod
    def _call(self, uid: str) -> KubernetesCall:
        """The request for the pod of this uid."""


def _is_gone(pod: Tree | None, plan: Plan) -> bool:
    """Whether the pod of the plan is gone or ending; another one of its name is not it."""
    return (
        pod is None or text(pod, "metadata", "uid") != plan.before or bool(part(pod, "metadata", "deletionTimestamp"))
    )


class DeletePod(PodChange):
    """Delete one pod, so that its controller makes a new one. Budgets do not hold it: see `kubernetes.evict`.

    - `service`: a service of kind `kubernetes`.
    - `namespace`: one of those that the service allows.
    - `pod`: the name of the pod.
    - `grace_seconds`: how long it has to end; without it as long as the pod itself says.

    Effect class `set`: the pod is meant by its uid, so a successor of the same name is never deleted, and a pod that is
    gone is a success. A pod without a controller is refused. It cannot be undone.

    Needs of its Role: `get` and `delete` on `pods`.

    ```yaml
    - id: restart_pod
      title: Restart the pod
      action: kubernetes.delete_pod
      with: {service: cluster, namespace: trading-system-prod, pod: trading-system-0}
    ```
    """

    rules: ClassVar[tuple[Rule, ...]] = (("", "pods", ("get", "delete")),)

    grace_seconds: Annotated[int, Field(ge=1, le=3600)] | None = None

    def preview(self) -> str:
        """See Action.preview."""
        return f"delete pod {self.pod} in {self.namespace}"

    def _call(self, uid: str) -> KubernetesCall:
        body: dict[str, JsonValue] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        if self.grace_seconds is not None:
            body["gracePeriodSeconds"] = self.grace_seconds
        return KubernetesCall("delete", PODS, self.namespace, self.pod, body=body)


class Evict(PodChange):
    """Evict one pod: delete it as far as its PodDisruptionBudget allows and enough others are ready.

    - `service`: a service of kind `kubernetes`.
    - `namespace`: one of those that the service allows.
    - `pod`: the name of the pod.
    - `min_ready`: how many other pods of its controller must be ready right before it goes. Default 1.
    - `budget`: `required` (default) refuses a pod that no PodDisruptionBudget covers, since then the cluster itself
      would let all of them go at once; `optional` leaves it to `min_ready`.

    Effect class `set`: the pod is meant by its uid, so a successor of the same name is never evicted. While a budget
    forbids it, or too few others are ready, the outcome is temporary, and it is tried again as the step's `retry` says.
    A pod without a controller is refused. It cannot be undone.

    Needs of its Role: `get` and `list` on `pods`, `create` on `pods/eviction`, `list` on `poddisruptionbudgets`
    (policy).

    ```yaml
    - id: restart_pod
      title: Restart the pod
      action: kubernetes.evict
      with: {service: cluster, namespace: trading-system-prod, pod: trading-system-0}
      retry: {attempts: 5, first: 10s, cap: 1m}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {**WHERE, "min_ready": "literal", "budget": "literal"}
    rules: ClassVar[tuple[Rule, ...]] = (
        ("", "pods", ("get", "list")),
        ("", "pods/eviction", ("create",)),
        ("policy", "poddisruptionbudgets", ("list",)),
    )

    min_ready: Annotated[int, Field(ge=0, le=1000)] = 1
    budget: Literal["required", "optional"] = "required"

    @classmethod
    def rules_for(cls, with_: Mapping[str, Any]) -> tuple[Rule, ...]:
        """See KubernetesStep.rules_for. A budget that may be missing is not looked for."""
        rules = super().rules_for(with_)
        return tuple(rule for rule in rules if rule[0] != "policy") if with_.get("budget") == "optional" else rules

    def preview(self) -> str:
        """See Action.preview."""
        return f"evict pod {self.pod} in {self.namespace}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Ask for it once, when enough others are ready right before. Raises Temporary while they are not.

        For a successor nothing is asked at all: the server counts the eviction against the budget before it compares
        the uid, and tries for ten seconds to evict one that has not started (eviction.go).
        """
        found = await self._pod(context)
        if found is None or _is_gone(found, plan):
            return Output(_GONE, f"pod {self.pod} was gone already", context.now())
        why = await self._too_few(context, found)
        if why:
            raise Temporary(f"pod {self.pod}: {why}; nothing was changed: it is tried again as `retry` says")
        return await super().act(plan, context)

    async def _attempted(self, context: Context, plan: Plan, found: Tree) -> Plan:
        """What forbids it now may allow it when it is done, so that is only told."""
        why = await self._too_few(context, found)
        answer = await self._trial(context, self._call(str(plan.before)))
        if answer.status == 500 and _TWO_BUDGETS in answer.message:
            cure = "the cluster evicts no such pod: leave one budget for it"
            raise Permanent(f"pod {self.pod}: more than one PodDisruptionBudget covers it; nothing was changed: {cure}")
        if answer.forbidden_by_budget:
            why = f"a budget forbids it now ({answer.message})"
        else:
            self._passed(context, answer)
        return plan.model_copy(update={"preview": f"{plan.preview} - {why}"}) if why else plan

    async def _too_few(self, context: Context, found: Tree) -> str:
        """Why it must wait for others; "" when it need not. Raises Permanent where no budget covers it."""
        labels = mapping(found, "metadata", "labels")
        if self.budget == "required" and not any(
            selects(part(one, "spec", "selector"), labels) for one in await self._list(context, BUDGETS)
        ):
            cure = "make one for its workload, or say `budget: optional`"
            raise Permanent(f"pod {self.pod}: no PodDisruptionBudget covers it; nothing was changed: {cure}")
        selector, owner = siblings(found)
        others = await self._list(context, PODS, **({"labelSelector": selector} if selector else {}))
        well = [one for one in others if self._counts(one, owner)]
        if len(well) >= self.min_ready:
            return ""
        return f"{len(well)} other pods of {controlled(found)} are ready, and {self.min_ready} must be (`min_ready`)"

    def _counts(self, one: Tree, owner: str) -> bool:
        ending = part(one, "metadata", "deletionTimestamp")
        return owned(one, owner) and text(one, "metadata", "name") != self.pod and ready(one) and not ending

    def _call(self, uid: str) -> KubernetesCall:
        body: JsonValue = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": self.pod, "namespace": self.namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        return KubernetesCall("create", PODS.part("eviction"), self.namespace, self.pod, body=body)
