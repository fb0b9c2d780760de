"""Changing what pods of Kubernetes are told: variables of their environment, and ConfigMaps."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import ConfigDict, Field, JsonValue, model_validator

from responder.contracts import Context
from responder.errors import Permanent
from responder.kubernetes_calls import CONFIG_MAPS, KubernetesCall, PatchType, Tree
from responder.kubernetes_steps import WHERE, KubernetesSetting, Name, Rule, WorkloadName, bound, patch, workload_rules
from responder.recorded import Plan
from responder.releases import setting_notes
from responder.workloads import (
    Workload,
    digest,
    git_warning,
    items,
    mapping,
    part,
    refuse_paused,
    template_of,
    text,
    waiting_warning,
    workload_of,
)

_SECRET: Final = re.compile(r"PASS|SECRET|TOKEN|CREDENTIAL|PRIVATE|API_?KEY", re.IGNORECASE)
_SHOWN: Final = 40
"""Characters of a value in a preview."""

Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}$")]
Key = Annotated[str, Field(pattern=r"^[-._A-Za-z0-9]{1,253}$")]
Value = Annotated[str, Field(max_length=4096)]
Count = Field(max_length=20)


class _Entries(KubernetesSetting):
    """What both share: names that get a value, and names that are removed."""

    model_config = ConfigDict(populate_by_name=True)

    async def prepare(self, context: Context) -> Plan:
        """Read what is there, fix what is to be there, let the server try."""
        found = await self._fetch(context, None)
        target = self._target(found)
        before = self._seen(found, target)
        told = ", ".join(_difference(before, target)) or "no difference"
        plan = self._planned(context, f"{self._named}: {told}{self._warning(found)}", before, target)
        if before == target:
            return plan.model_copy(update={"nothing_to_do": f"{self._named} is so already"})
        await self._tried(context, await self._change(context, found, target))
        return plan.model_copy(update={"undoable": not _hides(before)})

    @abstractmethod
    def _target(self, found: Tree) -> JsonValue:
        """What is to be there, by its name; None: gone."""

    def _warning(self, found: Tree) -> str:
        return f"{waiting_warning(found)}{git_warning(found)}"


class SetEnv(_Entries):
    """Set or remove variables of a container's environment, which rolls its workload out anew.

    - `service`: a service of kind `kubernetes`.
    - `namespace`: one of those that the service allows.
    - `workload`: what is meant: `deployment/NAME`, `statefulset/NAME` or `daemonset/NAME`.
    - `container`: the name of its container; it may be left out where there is only one.
    - `set`: the values to be there, by the names of their variables.
    - `remove`: names of the variables that are to be gone.

    Effect class `set`; other variables stay as they are, and each keeps its place, because one can be told by those
    before it (`$(HOST):80`); new ones go last. The undo puts the former ones back, also those that came from
    a Secret or ConfigMap by reference. Previews tell no value that was there. What is named like a secret (`PASSWORD`,
    `TOKEN`, `API_KEY` …) cannot be set: its value would stand in the journal. It can be removed, but not put back,
    because its value is not kept. A paused workload is refused. The workload gets an annotation (`responder/settings`)
    that tells `kubernetes.rollout_undo` that this was no release.

    Needs of its Role: `get` and `patch` on `deployments`, `statefulsets`, `daemonsets` (apps), those that are changed.

    ```yaml
    - id: clean
      title: Remove the forced errors
      action: kubernetes.set_env
      with:
        service: cluster
        namespace: trading-system-prod
        workload: deployment/trading-system
        remove: [FORCE_ERROR_RATE]
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {**WHERE, "container": "literal", "remove": "literal"}
    rules: ClassVar[tuple[Rule, ...]] = workload_rules("get", "patch")

    workload: WorkloadName
    container: Name | None = None
    set_: Annotated[dict[Variable, Value], Count] = Field(default_factory=dict, alias="set")
    remove: Annotated[tuple[Variable, ...], Count] = ()

    @model_validator(mode="after")
    def _sensible(self) -> SetEnv:
        _refuse_nothing(self.set_, self.remove)
        secret = sorted(name for name in self.set_ if _SECRET.search(name))
        if secret:
            raise ValueError(f"{', '.join(secret)} looks like a secret, which belongs in a Secret and not in a runbook")
        return self

    def preview(self) -> str:
        """See Action.preview."""
        return f"environment of {self.workload} in {self.namespace}: {_told(self.set_, self.remove)}"

    @property
    def _named(self) -> str:
        return f"environment of {self.workload}"

    @property
    def _which(self) -> Workload:
        return workload_of(self.workload)

    async def _fetch(self, context: Context, like: JsonValue) -> Tree:
        found = await self._get(context, self._which.resource, self._which.name)
        refuse_paused(found, self.workload)
        return found

    def _target(self, found: Tree) -> JsonValue:
        # A server leaves an empty value out (EnvVar.Value, omitempty).
        entries: dict[str, JsonValue] = {
            name: {"name": name, **({"value": value} if value else {})} for name, value in self.set_.items()
        }
        container = self._container(found)
        order: list[JsonValue] = [*self._there(found, container)]
        return {"container": container, "order": order, "entries": {**entries, **dict.fromkeys(self.remove)}}

    def _container(self, found: Tree) -> str:
        names = [text(one, "name") for one in items(template_of(found), "spec", "containers")]
        if self.container in names:
            return str(self.container)
        if self.container is None and len(names) == 1:
            return names[0]
        said = f"{self.workload} has the containers {', '.join(names)}"
        raise Permanent(f"{said}; nothing was changed: name one of them in `container`")

    def _seen(self, tree: Tree, like: JsonValue) -> JsonValue:
        there = self._there(tree, text(like, "container"))
        entries: dict[str, JsonValue] = {name: _kept(there.get(name)) for name in mapping(like, "entries")}
        # The order is no part of the state: it says where a variable that was taken away belongs.
        return {**mapping(like), "entries": entries}

    def _there(self, tree: Tree, container: str) -> dict[str, dict[str, Any]]:
        containers = items(template_of(tree), "spec", "containers")
        return {text(e, "name"): dict(e) for c in containers if text(c, "name") == container for e in items(c, "env")}

    async def undo(self, plan: Plan, context: Context) -> Plan:
        """See KubernetesSetting.undo. Raises Permanent where a credential was taken away, which is not kept."""
        if _hides(plan.before):
            raise Permanent(f"{self._named}: a credential that was there is not kept; put it back by hand")
        return await super().undo(plan, context)

    async def _change(self, context: Context, tree: Tree, to: JsonValue) -> KubernetesCall:
        before, entries = self._there(tree, text(to, "container")), mapping(to, "entries")
        order = _arranged(list(before), entries, part(to, "order") or [])
        changed = [_entry(name, entries[name]) for name in order if name in entries]
        changed += [_entry(name, entry) for name, entry in entries.items() if entry is None]
        container = {"name": text(to, "container"), "env": changed}
        if order:
            container["$setElementOrder/env"] = [{"name": name} for name in order]
        notes = setting_notes(tree, text(to, "container"), before, entries)
        spec = {"template": {"spec": {"containers": [container]}}}
        body = bound(tree, {"metadata": {"annotations": notes}, "spec": spec})
        return patch(self._which.resource, self.namespace, self._which.name, body)


def _kept(entry: dict[str, Any] | None) -> dict[str, Any] | None:
    """What of a variable the journal keeps: of a credential that stands in clear text only a mark."""
    if entry is None or _refers(entry) or not _SECRET.search(text(entry, "name")):
        return entry
    return {"name": text(entry, "name"), "mark": digest(entry)}


def _hides(state: JsonValue) -> bool:
    return any("mark" in mapping(entry) for entry in mapping(state, "entries").values())


def _arranged(present: list[str], entries: Mapping[str, Any], before: list[str]) -> list[str]:
    """The variables in the order that is to be in force: a variable can be told by those before it, `$(HOST):80`.

    Without this order the server puts new variables first, and changed ones as the patch tells them. `before` is how
    they stood when the plan was made: what was taken away since goes back to its place, what is new goes last.
    """
    order = [name for name in present if entries.get(name, name) is not None]
    lacking = [name for name, entry in entries.items() if entry is not None and name not in order]
    for name in sorted(lacking, key=lambda name: before.index(name) if name in before else len(before)):
        earlier = before[: before.index(name)] if name in before else order
        order.insert(max((order.index(one) + 1 for one in earlier if one in order), default=0), name)
    return order


def _entry(name: str, entry: Any) -> dict[str, Any]:
    """What of a strategic merge patch makes the variable as it is to be: what it had else is taken away."""
    if entry is None:
        return {"name": name, "$patch": "delete"}
    return {"value": None, "valueFrom": None, **entry}


class ConfigMapPatch(_Entries):
    """Set or remove keys of a ConfigMap.

    - `service`: a service of kind `kubernetes`.
    - `namespace`: one of those that the service allows.
    - `configmap`: the name of the ConfigMap.
    - `set`: the texts to be there, by their keys.
    - `remove`: the keys that are to be gone.

    Effect class `set`; other keys stay as they are. The undo puts the former texts back. An immutable ConfigMap is
    refused. Pods that read it as environment see the change when they are restarted (`kubernetes.rollout_restart`), as
    files after a minute or so.

    Needs of its Role: `get` and `patch` on `configmaps`, best with its `resourceNames`.

    ```yaml
    - id: fewer_positions
      title: Allow fewer positions
      action: kubernetes.configmap_patch
      with:
        service: cluster
        namespace: trading-system-prod
        configmap: trading-config
        set: {MAX_OPEN_POSITIONS: '10'}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {**WHERE, "configmap": "literal", "remove": "literal"}
    rules: ClassVar[tuple[Rule, ...]] = (("", "configmaps", ("get", "patch")),)

    configmap: Name
    set_: Annotated[dict[Key, Value], Count] = Field(default_factory=dict, alias="set")
    remove: Annotated[tuple[Key, ...], Count] = ()

    @model_validator(mode="after")
    def _sensible(self) -> ConfigMapPatch:
        _refuse_nothing(self.set_, self.remove)
        return self

    def preview(self) -> str:
        """See Action.preview."""
        return f"ConfigMap {self.configmap} in {self.namespace}: {_told(self.set_, self.remove)}"

    @property
    def _named(self) -> str:
        return f"ConfigMap {self.configmap}"

    async def _fetch(self, context: Context, like: JsonValue) -> Tree:
        found = await self._get(context, CONFIG_MAPS, self.configmap)
        if part(found, "immutable") is True:
            cure = "make a new ConfigMap, name it in the workload, and release that"
            raise Permanent(f"{self._named} is immutable; nothing was changed: {cure}")
        return found

    def _target(self, found: Tree) -> JsonValue:
        return {"entries": {**self.set_, **dict.fromkeys(self.remove)}}

    def _warning(self, found: Tree) -> str:
        return f" - pods that read it as environment need a restart{git_warning(found)}"

    def _seen(self, tree: Tree, like: JsonValue) -> JsonValue:
        data = mapping(tree, "data")
        return {"entries": {key: data.get(key) for key in mapping(like, "entries")}}

    async def _change(self, context: Context, tree: Tree, to: JsonValue) -> KubernetesCall:
        body = bound(tree, {"data": dict(mapping(to, "entries"))})
        return patch(CONFIG_MAPS, self.namespace, self.configmap, body, PatchType.MERGE)


def _refuse_nothing(values: Mapping[str, str], removed: tuple[str, ...]) -> None:
    if not values and not removed:
        raise ValueError("say what is different: `set` or `remove`")
    both = sorted(set(values) & set(removed))
    if both:
        raise ValueError(f"{', '.join(both)} stands in `set` and in `remove`: write it in one of them")


def _told(values: Mapping[str, str], removed: tuple[str, ...]) -> str:
    return ", ".join([*(f"{name}={_short(value)}" for name, value in values.items()), *(f"-{n}" for n in removed)])


def _difference(before: JsonValue, target: JsonValue) -> list[str]:
    old, new = mapping(before, "entries"), mapping(target, "entries")
    return [
        f"{name} {_present(old.get(name))} → {_shown(value)}" for name, value in new.items() if old.get(name) != value
    ]


def _present(entry: Any) -> str:
    """Never the value that is there: whoever wrote it did not write it for us, and it may be a credential."""
    return "(none)" if entry is None else "(by reference)" if _refers(entry) else "(hidden)"


def _refers(entry: Any) -> bool:
    return isinstance(entry, Mapping) and "valueFrom" in entry


def _shown(entry: Any) -> str:
    if entry is None:
        return "(none)"
    if isinstance(entry, Mapping):
        return "(by reference)" if _refers(entry) else _short(str(entry.get("value", "")))
    return _short(str(entry))


def _short(value: str) -> str:
    line = " ".join(value.split())
    return repr(line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…")
