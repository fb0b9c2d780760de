"""Taking away one pod of Kubernetes, so that its controller makes a new one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

from pydantic import Field, JsonValue

from responder.contracts import Context, Output, Probe
from responder.errors import Permanent
from responder.kubernetes_calls import PODS, KubernetesCall, Tree
from responder.kubernetes_steps import KubernetesChange, Name, Rule
from responder.recorded import Plan, ProbeAnswer
from responder.workloads import controlled, part, pod_of, text

_GONE = "gone"


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
        return await self._attempted(context, plan)

    async def act(self, plan: Plan, context: Context) -> Output:
        """Ask for it once. A pod that is gone, or another one of its name, is a success."""
        answer = await self._send(context, self._call(str(plan.before)))
        if answer.status not in {404, 409}:
            answer.checked(context.now())
            return Output(_GONE, f"pod {self.pod} was taken away", context.now())
        if (await self._state(context, plan)) == _GONE:
            return Output(_GONE, f"pod {self.pod} was gone already", context.now())
        answer.checked(context.now())
        raise Permanent(f"pod {self.pod}: refused; nothing was changed")

    async def probe(self, plan: Plan, context: Context) -> Probe:
        """Look whether it is still there."""
        if (await self._state(context, plan)) == _GONE:
            return Probe(ProbeAnswer.APPLIED, f"pod {self.pod} is gone, or ending")
        return Probe(ProbeAnswer.NOT_APPLIED, f"pod {self.pod} is still there")

    async def _state(self, context: Context, plan: Plan) -> str:
        answer = await self._send(context, KubernetesCall("get", PODS, self.namespace, self.pod))
        if answer.status == 404:
            return _GONE
        found: Tree = answer.checked(context.now()).object
        uid = text(found, "metadata", "uid")
        return _GONE if uid != plan.before or part(found, "metadata", "deletionTimestamp") else uid

    async def _attempted(self, context: Context, plan: Plan) -> Plan:
        """The plan, after the server has tried it."""
        await self._tried(context, self._call(str(plan.before)))
        return plan

    @abstractmethod
    def _call(self, uid: str) -> KubernetesCall:
        """The request for the pod of this uid."""


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
    """Evict one pod: delete it as far as its PodDisruptionBudget allows.

    - `service`: a service of kind `kubernetes`.
    - `namespace`: one of those that the service allows.
    - `pod`: the name of the pod.

    Effect class `set`: the pod is meant by its uid, so a successor of the same name is never evicted. While a budget
    forbids it the outcome is temporary, and it is tried again as the step's `retry` says. A pod without a controller is
    refused. It cannot be undone.

    Needs of its Role: `get` on `pods`, `create` on `pods/eviction`.

    ```yaml
    - id: restart_pod
      title: Restart the pod
      action: kubernetes.evict
      with: {service: cluster, namespace: trading-system-prod, pod: trading-system-0}
      retry: {attempts: 5, first: 10s, cap: 1m}
    ```
    """

    rules: ClassVar[tuple[Rule, ...]] = (("", "pods", ("get",)), ("", "pods/eviction", ("create",)))

    def preview(self) -> str:
        """See Action.preview."""
        return f"evict pod {self.pod} in {self.namespace}"

    async def _attempted(self, context: Context, plan: Plan) -> Plan:
        """A budget that forbids it now may allow it when it is done, so that is only told."""
        trial = self._call(str(plan.before))
        tried = KubernetesCall(trial.verb, trial.resource, trial.namespace, trial.name, body=trial.body, dry_run=True)
        answer = await self._send(context, tried)
        if answer.status == 429:
            return plan.model_copy(update={"preview": f"{plan.preview} - a budget forbids it now"})
        return await super()._attempted(context, plan)

    def _call(self, uid: str) -> KubernetesCall:
        body: JsonValue = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": self.pod, "namespace": self.namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        return KubernetesCall("create", PODS.part("eviction"), self.namespace, self.pod, body=body)
