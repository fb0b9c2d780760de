"""Going back to the former release of a workload of Kubernetes."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, JsonValue

from responder.contracts import Context
from responder.errors import Permanent
from responder.kubernetes_calls import CONTROLLER_REVISIONS, REPLICA_SETS, KubernetesCall, Tree
from responder.kubernetes_steps import KubernetesSetting, Rule, WorkloadName, patch, workload_rules
from responder.recorded import Plan
from responder.releases import (
    Release,
    chosen,
    differences,
    present_release,
    release_mark,
    releases_of,
    settings_of,
    undo_patch,
    undone_template,
)
from responder.workloads import (
    Workload,
    git_warning,
    part,
    refuse_paused,
    refuse_unseen,
    selector_of,
    template_of,
    waiting_warning,
    workload_of,
)


class RolloutUndo(KubernetesSetting):
    """Go back to the former release of a workload, as `kubectl rollout undo` does, once per release.

    - `service`: a service of kind `kubernetes`.
    - `namespace`: one of those that the service allows.
    - `workload`: what is meant: `deployment/NAME`, `statefulset/NAME` or `daemonset/NAME`.
    - `to_revision`: the revision to go back to. Without it the newest one before the present with another release.
      Restarts and what `kubernetes.set_env` of ours changed make revisions too, but no releases.

    Effect class `set`: revision and pod template are fixed before acting, so doing it again never leads further back. A
    release in between is left alone. Annotations stay as they are, and so do the variables that `kubernetes.set_env` of
    ours has changed: a cure is not undone with the release. The preview names what will differ (images, variables),
    without values. While the controller has not seen the last change the outcome is temporary. Without `to_revision` it
    is refused when the workload has been undone since its last release: going back further is for people. The undo of
    this step rolls forward again.

    A StatefulSet replaces no pod as long as one is not ready: those of a release that cannot run stay, and must be
    deleted after the undo (`kubernetes.delete_pod`), the one with the highest number first. The preview says so.

    What keeps the workload as it stands in git (Argo CD, Flux) is named in the preview: it may take this back.

    Needs of its Role: `get` and `patch` on `deployments`, `statefulsets`, `daemonsets`, and `list` on `replicasets` or
    `controllerrevisions` (all apps).

    ```yaml
    - id: undo
      title: Undo the release
      action: kubernetes.rollout_undo
      with: {service: cluster, namespace: trading-system-prod, workload: deployment/trading-app}
    ```
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        *workload_rules("get", "patch"),
        *workload_rules("list", resources=("replicasets", "controllerrevisions")),
    )

    workload: WorkloadName
    to_revision: Annotated[int, Field(ge=1)] | None = None

    def preview(self) -> str:
        """See Action.preview."""
        back = "its former release" if self.to_revision is None else f"revision {self.to_revision}"
        return f"take {self.workload} in {self.namespace} back to {back}"

    async def prepare(self, context: Context) -> Plan:
        """Choose the release and let the server try.

        Raises Permanent where there is none to go back to; Temporary before the controller keeps the present one.
        """
        found = await self._fetch(context, None)
        refuse_paused(found, self.workload)
        refuse_unseen(found, self.workload)
        releases = await self._releases(context, found)
        present, goal = present_release(found, releases), chosen(found, releases, self.workload, self.to_revision)
        before: JsonValue = {"release": present.mark}
        target: JsonValue = {"release": goal.mark}
        preview = f"{self.workload} in {self.namespace} from revision {present.shown} back to {goal.shown}"
        told = f"{preview}; different: {_differences(found, goal)}{waiting_warning(found)}{git_warning(found)}"
        plan = self._planned(context, told, before, target)
        if before == target:
            return plan.model_copy(update={"nothing_to_do": f"{self.workload} is at that release: {present.shown}"})
        await self._tried(context, self._patch(found, goal))
        return plan.model_copy(update={"undoable": True})

    @property
    def _named(self) -> str:
        return self.workload

    @property
    def _which(self) -> Workload:
        return workload_of(self.workload)

    async def _fetch(self, context: Context, like: JsonValue) -> Tree:
        return await self._get(context, self._which.resource, self._which.name)

    def _seen(self, tree: Tree, like: JsonValue) -> JsonValue:
        return {"release": release_mark(template_of(tree), settings_of(tree))}

    async def _change(self, context: Context, tree: Tree, to: JsonValue) -> KubernetesCall:
        refuse_paused(tree, self.workload)
        wanted = part(to, "release")
        goal = next((one for one in await self._releases(context, tree) if one.mark == wanted), None)
        if goal is None:
            cure = "release it anew, and check its revisionHistoryLimit"
            raise Permanent(f"{self.workload}: the cluster keeps that release no more; nothing was changed: {cure}")
        return self._patch(tree, goal)

    def _patch(self, tree: Tree, goal: Release) -> KubernetesCall:
        return patch(self._which.resource, self.namespace, self._which.name, undo_patch(tree, goal))

    async def _releases(self, context: Context, tree: Tree) -> list[Release]:
        kept = REPLICA_SETS if self._which.kind == "deployment" else CONTROLLER_REVISIONS
        listed = await self._list(context, kept, labelSelector=selector_of(tree))
        return releases_of(tree, self._which.kind, listed)


def _differences(tree: Tree, goal: Release) -> str:
    """What the undo changes, and what of the former release does not come back."""
    after = undone_template(tree, goal)
    told = differences(template_of(tree), after) or "nothing"
    kept = differences(goal.template, after)
    return f"{told}; not taken back, because we have set it: {kept}" if kept else told
