"""Which release a Kubernetes workload can go back to, and the patch that takes it there. Pure.

There is no verb for it: a Deployment keeps its former pod templates in ReplicaSets, the other kinds in
ControllerRevisions, whose `data` is itself the patch (kubectl's rollback.go). The target is a revision by its number,
fixed once: "the one before" would, done twice, lead forward again.

**What is another release.** Every change of a pod template makes a revision, and not every one of them is a release.
Two templates are the same release when they differ by nothing but

- the annotations of a restart, kubectl's and ours;
- variables of which both have a value that `kubernetes.set_env` of ours has put there or taken away. It notes each on
  the workload (`responder/settings`), as marks and not as values; a third value, which somebody else gave, counts.

Who restarts or cures a workload and then undoes wants the release undone, not the restart and not the cure. So such
revisions are passed over, and the variables stay as they are now, whatever the former release had.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue

from responder.errors import BadSyntax, Permanent
from responder.kubernetes_calls import Tree
from responder.timing import parse_time
from responder.workloads import (
    ATTEMPT,
    RESTARTED_AT,
    REVISION,
    annotations_of,
    digest,
    images,
    items,
    mapping,
    owned,
    template_of,
    text,
    whole,
)

UNDONE_TO: Final = "responder/undone-to"
"""Our annotation of a workload: the mark of the template that we went back to. As long as it is the present one, the
release has been undone once."""
SETTINGS: Final = "responder/settings"
"""Our annotation of a workload: the marks of what a variable was before and after `kubernetes.set_env`, by
`CONTAINER/VARIABLE`, as JSON."""
CHANGE_CAUSE: Final = "kubernetes.io/change-cause"
_HASH: Final = "pod-template-hash"
_STATES: Final = 10
"""Marks that are kept of a variable, the latest ones."""

Settings = Mapping[str, frozenset[str]]
"""The marks of the states that our `kubernetes.set_env` has made or replaced, by `CONTAINER/VARIABLE`."""


@dataclass(frozen=True, slots=True)
class Release:
    """A former state of a workload: its revision, its pod template, and who keeps it.

    `mark`: equal for equal releases. `made`: when the cluster began to keep it, µs; None where that is not told.
    """

    revision: int
    template: Mapping[str, Any]
    mark: str
    cause: str = ""
    made: int | None = None

    @property
    def shown(self) -> str:
        """For people: `6 (trading:1.4.2)`."""
        return f"{self.revision} ({', '.join(images(self.template))})"


# --- what is another release ------------------------------------------------------------------------------------------


def release_mark(template: Tree, settings: Settings) -> str:
    """Equal for templates that differ by restarts and by `settings` only."""
    metadata = mapping(template, "metadata")
    notes = {k: v for k, v in mapping(metadata, "annotations").items() if k not in {RESTARTED_AT, ATTEMPT}}
    labels = {k: v for k, v in mapping(metadata, "labels").items() if k != _HASH}
    told = {"spec": template.get("spec"), "annotations": notes, "labels": labels}
    if settings:
        own = own_variables(template, settings)
        left = [_without(one, own.get(text(one, "name"), {})) for one in items(template, "spec", "containers")]
        told["spec"] = {**mapping(template, "spec"), "containers": left}
        told["own"] = {container: sorted(names) for container, names in own.items()}
    return digest(told)


def own_variables(template: Tree, settings: Settings) -> dict[str, dict[str, Tree | None]]:
    """The variables that are as our settings made or found them, by container and name, in the order of the template;
    None: it is not there."""
    found: dict[str, dict[str, Tree | None]] = {}
    for one in items(template, "spec", "containers"):
        container, there = text(one, "name"), {text(entry, "name"): entry for entry in items(one, "env")}
        pairs = {key.rpartition("/"): marks for key, marks in settings.items()}
        order = {name: place for place, name in enumerate(there)}
        for (owner, _, name), marks in sorted(pairs.items(), key=lambda one: order.get(one[0][2], len(order))):
            if owner == container and digest(there.get(name)) in marks:
                found.setdefault(container, {})[name] = there.get(name)
    return found


def _without(container: Tree, names: Iterable[str]) -> dict[str, Any]:
    left = [entry for entry in items(container, "env") if text(entry, "name") not in set(names)]
    return {**{k: v for k, v in container.items() if k != "env"}, **({"env": left} if left else {})}


def settings_of(workload: Tree) -> Settings:
    """What our `kubernetes.set_env` noted; nothing where that cannot be read."""
    try:
        told = json.loads(text(annotations_of(workload), SETTINGS) or "{}")
    except ValueError:
        return {}
    pairs = told.items() if isinstance(told, dict) else ()
    return {key: frozenset(map(str, marks)) for key, marks in pairs if isinstance(marks, list)}


def setting_notes(workload: Tree, container: str, before: Tree, after: Tree) -> dict[str, str]:
    """The annotations of a workload whose variables become `after`: entries by their names, None: not there.

    What was undone once stays so: its mark is told anew, because marks depend on the settings.
    """
    told = {key: sorted(marks) for key, marks in settings_of(workload).items()}
    for name in (name for name in after if before.get(name) != after[name]):
        key, states = f"{container}/{name}", [digest(before.get(name)), digest(after[name])]
        older = [mark for mark in told.get(key, []) if mark not in states]
        told[key] = [*older, *states][-_STATES:]
    notes = {SETTINGS: json.dumps(told, sort_keys=True, separators=(",", ":"))}
    if undone(workload):
        settings = {key: frozenset(marks) for key, marks in told.items()}
        notes[UNDONE_TO] = release_mark(template_of(workload), settings)
    return notes


def differences(old: Tree, new: Tree) -> str:
    """What differs between two pod templates, by its names and without any value; "" for nothing.

    `image of app, environment of app (FORCE_ERROR_RATE, LOG), volumes`.
    """
    told: list[str] = []
    for kind in _CONTAINERS:
        olds, news = ({text(one, "name"): one for one in items(tree, "spec", kind)} for tree in (old, new))
        for name in sorted(olds.keys() | news.keys()):
            told += _of_container(name, olds.get(name), news.get(name))
    told += [key for key in _unlike(mapping(old, "spec"), mapping(new, "spec")) if key not in _CONTAINERS]
    dropped = {RESTARTED_AT, ATTEMPT, _HASH}
    for key in ("labels", "annotations"):
        if set(_unlike(mapping(old, "metadata", key), mapping(new, "metadata", key))) - dropped:
            told.append(key)
    return ", ".join(told)


_CONTAINERS: Final = ("initContainers", "containers")


def _of_container(name: str, old: Tree | None, new: Tree | None) -> list[str]:
    if old is None or new is None:
        return [f"container {name}"]
    told = [f"{key} of {name}" for key in _unlike(old, new) if key != "env"]
    entries = ({text(entry, "name"): entry for entry in items(tree, "env")} for tree in (old, new))
    variables = _unlike(*entries)
    return [*told, f"environment of {name} ({', '.join(variables)})"] if variables else told


def _unlike(old: Tree, new: Tree) -> list[str]:
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


# --- what the cluster keeps -------------------------------------------------------------------------------------------


def releases_of(workload: Tree, kind: str, kept: Iterable[Tree]) -> list[Release]:
    """The releases that the cluster keeps of a workload, newest first. `kept`: ReplicaSets or ControllerRevisions."""
    uid = text(workload, "metadata", "uid")
    mine = (one for one in kept if owned(one, uid))
    read, settings = _replica_set if kind == "deployment" else _controller_revision, settings_of(workload)
    return sorted((read(one, settings) for one in mine), key=lambda release: -release.revision)


def _replica_set(one: Tree, settings: Settings) -> Release:
    template = dict(template_of(one))
    metadata = dict(mapping(template, "metadata"))
    labels = {key: value for key, value in mapping(metadata, "labels").items() if key != _HASH}
    told = text(annotations_of(one), REVISION)
    revision = int(told) if told.isdecimal() else 0
    template["metadata"] = {**metadata, "labels": labels}
    return _release(one, revision, template, settings)


def _controller_revision(one: Tree, settings: Settings) -> Release:
    template = mapping(one, "data", "spec", "template")
    plain = {key: value for key, value in template.items() if key != "$patch"}
    return _release(one, whole(one, "revision"), plain, settings)


def _release(one: Tree, revision: int, template: Mapping[str, Any], settings: Settings) -> Release:
    try:
        made = parse_time(text(one, "metadata", "creationTimestamp"))
    except BadSyntax:
        made = None
    mark = release_mark(template, settings)
    return Release(revision, template, mark, text(annotations_of(one), CHANGE_CAUSE), made)


def present_release(workload: Tree, releases: Iterable[Release]) -> Release:
    """The one that is in force: by its template, else by the number that its annotation says."""
    template = template_of(workload)
    mark = release_mark(template, settings_of(workload))
    found = next((release for release in releases if release.mark == mark), None)
    told = text(annotations_of(workload), REVISION)
    return found or Release(int(told) if told.isdecimal() else 0, template, mark)


def released_at(workload: Tree, releases: Iterable[Release]) -> int | None:
    """When the present release first came, µs; scaling, restarts and our settings are none. None: nobody knows.

    A release that was gone and is back counts from its first coming, as the cluster keeps no later time.
    """
    mark = release_mark(template_of(workload), settings_of(workload))
    return min((one.made for one in releases if one.mark == mark and one.made is not None), default=None)


def chosen(workload: Tree, releases: list[Release], named: str, to: int | None = None) -> Release:
    """The release to go back to: revision `to`, else the newest before the present one with another template.

    Raises Permanent where there is none, or the present release is one that we went back to.
    """
    present = present_release(workload, releases)
    if to is not None:
        found = next((release for release in releases if release.revision == to), None)
        if found is None:
            kept = ", ".join(str(release.revision) for release in releases) or "none"
            raise Permanent(f"{named} has no revision {to}; nothing was changed: the cluster keeps {kept}")
        return found
    if undone(workload):
        cure = "release a mended version, or undo to a revision of your choice (`to_revision`)"
        raise Permanent(f"{named} was undone once since its last release; nothing was changed: {cure}")
    others = [r for r in releases if r.mark != present.mark and (not present.revision or r.revision < present.revision)]
    if not others:
        cure = "release the former version, and check its revisionHistoryLimit"
        raise Permanent(f"{named} has no former release; nothing was changed: {cure}")
    return others[0]


def undone(workload: Tree) -> bool:
    """Whether the present template is one that we went back to."""
    return annotations_of(workload).get(UNDONE_TO) == release_mark(template_of(workload), settings_of(workload))


def undone_template(workload: Tree, release: Release) -> Mapping[str, Any]:
    """The template of the release, with the variables of our settings as they are at present."""
    settings = settings_of(workload)
    now, then = own_variables(template_of(workload), settings), own_variables(release.template, settings)
    spec = mapping(release.template, "spec")
    containers = []
    for one in items(spec, "containers"):
        name = text(one, "name")
        kept = {key: entry for key, entry in now.get(name, {}).items() if key in then.get(name, {})}
        containers.append(_with(one, kept) if kept else one)
    return {**release.template, "spec": {**spec, "containers": containers}}


def _with(container: Tree, entries: Mapping[str, Tree | None]) -> dict[str, Any]:
    """In their places, since a variable may be told by those before it."""
    there = {**{text(entry, "name"): entry for entry in items(container, "env")}, **entries}
    left = [entry for entry in there.values() if entry is not None]
    return {**{k: v for k, v in container.items() if k != "env"}, **({"env": left} if left else {})}


def undo_patch(workload: Tree, release: Release) -> JsonValue:
    """The strategic merge patch that puts the release in force, bound to the version of `workload`, just read.

    All annotations stay as they are, but for what tells the cause of the present release. kubectl replaces them by
    those of the ReplicaSet, and with them what other tools have noted. It also sends a JSON patch, whose failed `test`
    is a 422, as is a template that is not valid; a patch bound like this one is a 409, which says what is meant.
    """
    notes = {UNDONE_TO: release.mark}
    if release.cause:
        notes[CHANGE_CAUSE] = release.cause
    template: JsonValue = {**undone_template(workload, release), "$patch": "replace"}
    metadata: JsonValue = {"resourceVersion": text(workload, "metadata", "resourceVersion"), "annotations": {**notes}}
    return {"metadata": metadata, "spec": {"template": template}}
