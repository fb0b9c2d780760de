"""Restarting a workload of Kubernetes, and how far its rollout is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, JsonValue

from responder.contracts import Context, Output, Probe
from responder.errors import Permanent, Unknown
from responder.kubernetes_calls import KubernetesCall, Tree
from responder.kubernetes_steps import (
    WHERE,
    KubernetesChange,
    KubernetesReader,
    Rule,
    WorkloadName,
    patch,
    workload_rules,
)
from responder.recorded import Effect, Plan, ProbeAnswer
from responder.workloads import (
    RESTARTED_AT,
    Workload,
    counts,
    desired,
    digest,
    git_warning,
    has_mark,
    images,
    refuse_paused,
    restart_mark,
    restart_patch,
    rollout,
    template_of,
    text,
    waiting_warning,
    whole,
    workload_of,
)


class RolloutRestart(KubernetesChange):
    """Restart all pods of a workload, a few at a time, as `kubectl rollout restart` does.

    - `service`: a service of kind `kubernetes`.
    - `namespace`: one of those that the service allows.
    - `workload`: what is meant: `deployment/NAME`, `statefulset/NAME` or `daemonset/NAME`.

    Effect class `probed`. The pod template gets an annotation that belongs to this plan (`responder/attempt`): the same
    plan sent again changes nothing, and the probe finds it. A paused workload is refused. So is one whose template
    somebody changed since the plan was made: it is being released, which restarts it anyway.

    A StatefulSet replaces no pod as long as one is not ready, so a pod that cannot become ready is not restarted:
    `kubernetes.delete_pod` is for that. The preview says so.

    Its success says that the restart was accepted. Whether the new pods are well is `kubernetes.rollout_status`, which
    takes `value.generation`. It cannot be undone.

    Needs of its Role: `get` and `patch` on `deployments`, `statefulsets`, `daemonsets` (apps), those that are
    restarted.

    ```yaml
    - id: restart
      title: Restart the trading system
      action: kubernetes.rollout_restart
      with: {service: cluster, namespace: trading-system-prod, workload: deployment/trading-system}
    ```
    """

    rules: ClassVar[tuple[Rule, ...]] = workload_rules("get", "patch")

    workload: WorkloadName

    def effect(self, keyed: bool) -> Effect:
        """See Action.effect."""
        return Effect.PROBED

    def preview(self) -> str:
        """See Action.preview."""
        return f"restart {self.workload} in {self.namespace}"

    async def prepare(self, context: Context) -> Plan:
        """Read it, fix the annotation, let the server try. Raises Permanent for a paused one."""
        found = await self._get(context, self._named.resource, self._named.name)
        refuse_paused(found, self.workload)
        mark = restart_mark(found, context.now())
        await self._tried(context, self._call(mark))
        size = f"{desired(found)} pods of {', '.join(images(template_of(found)))}"
        release = digest(template_of(found))
        before: JsonValue = {
            "template": release,
            "generation": whole(found, "metadata", "generation"),
        }
        told = f"{self.preview()} ({size}){waiting_warning(found)}{git_warning(found)}"
        plan = self._planned(context, told, before, mark)
        # The annotation holds the time of the plan; a yes is for this workload and its release.
        return plan.model_copy(update={"parts": (f"{text(found, 'metadata', 'uid')} {release}",)})

    async def act(self, plan: Plan, context: Context) -> Output:
        """Patch it once. Raises Permanent when its template is not the one that was planned for."""
        mark = _mark(plan)
        found = await self._get(context, self._named.resource, self._named.name)
        if has_mark(found, mark):
            return self._told(found, mark, "had been restarted by this plan", context.now())
        refuse_paused(found, self.workload)
        if digest(template_of(found)) != _before(plan):
            cure = "somebody releases or restarts it; look at that, then start again"
            raise Permanent(f"{self.workload}: its pod template changed since; nothing was changed: {cure}")
        shown = (await self._send(context, self._call(mark))).checked(context.now()).tree
        now = await self._in_force(context, shown, self._named.resource, self._named.name)
        if not has_mark(now, mark):
            raise Unknown(f"{self.workload}: the restart was accepted, but its annotation is not there")
        return self._told(now, mark, "restarts", context.now())

    async def probe(self, plan: Plan, context: Context) -> Probe:
        """Look for the annotation of this plan."""
        found = await self._get(context, self._named.resource, self._named.name)
        if has_mark(found, _mark(plan)):
            return Probe(ProbeAnswer.APPLIED, f"{self.workload} has the annotation of this restart")
        if digest(template_of(found)) == _before(plan):
            return Probe(ProbeAnswer.NOT_APPLIED, f"{self.workload} has the pod template of before")
        return Probe(ProbeAnswer.UNCLEAR, f"somebody changed the pod template of {self.workload} since")

    def _told(self, found: Tree, mark: Mapping[str, JsonValue], said: str, now: int) -> Output:
        value = {"generation": whole(found, "metadata", "generation"), "restarted_at": mark[RESTARTED_AT]}
        return Output(value, f"{self.workload} {said}, generation {value['generation']}", now)

    def _call(self, mark: Mapping[str, JsonValue]) -> KubernetesCall:
        return patch(self._named.resource, self.namespace, self._named.name, restart_patch(mark))

    @property
    def _named(self) -> Workload:
        return workload_of(self.workload)


def _mark(plan: Plan) -> dict[str, Any]:
    if not isinstance(plan.target, dict):
        raise Permanent("the plan has no annotation; nothing was changed: start the run again")
    return plan.target


def _before(plan: Plan) -> JsonValue:
    return plan.before.get("template") if isinstance(plan.before, dict) else None


class RolloutStatus(KubernetesReader):
    """Read how far the rollout of a workload is, by the rules of `kubectl rollout status`, without waiting.

    - `service`: a service of kind `kubernetes`.
    - `namespace`: one of those that the service allows.
    - `workload`: what is meant: `deployment/NAME`, `statefulset/NAME` or `daemonset/NAME`.
    - `generation`: the one that a change of ours made (`steps.restart.output.generation`, which is not there after an
      attempt whose answer was lost). Without it the present one, which is ours or a later one.

    Effect class `read`. `expect` sees `value.done`, `value.failed` (no progress before its deadline: it will not end by
    itself), `value.why`, `value.desired`, `value.ready`, `value.available`, `value.updated`, `value.generation`.

    Needs of its Role: `get` on `deployments`, `statefulsets`, `daemonsets` (apps), those that are read.

    ```yaml
    checks:
      rollout:
        action: kubernetes.rollout_status
        with: {service: cluster, namespace: trading-system-prod, workload: deployment/trading-system}
    ```
    """

    rules: ClassVar[tuple[Rule, ...]] = workload_rules("get")
    positions: ClassVar[Mapping[str, str]] = WHERE

    workload: WorkloadName
    generation: Annotated[int, Field(ge=1)] | None = None

    def preview(self) -> str:
        """See Action.preview."""
        return f"rollout of {self.workload} in {self.namespace}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary, Permanent."""
        named = workload_of(self.workload)
        asked = context.now()
        found = await self._get(context, named.resource, named.name)
        state = rollout(found, named.kind, self.generation)
        value: JsonValue = {
            "done": state.done,
            "failed": state.failed,
            "why": state.why,
            "generation": whole(found, "metadata", "generation"),
            **counts(found),
        }
        return Output(value, f"{self.workload}: {state.why}", asked)
