"""Which release a Kubernetes workload can go back to, and the patch that takes it there. Pure.

There is no verb for it: a Deployment keeps its former pod templates in ReplicaSets, the other kinds in
ControllerRevisions, whose `data` is itself the patch (kubectl's rollback.go). The target is a revision by its number,
fixed once: "the one before" would, done twice, lead forward again. And a restart makes a revision as well, which is no
release: who restarts and then undoes wants the release undone, not the restart, so its annotations do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue

from responder.errors import Permanent
from responder.kubernetes_calls import Tree
from responder.workloads import (
    ATTEMPT,
    RESTARTED_AT,
    REVISION,
    annotations_of,
    digest,
    images,
    mapping,
    owned,
    template_of,
    text,
    whole,
)

UNDONE_TO: Final = "responder/undone-to"
"""Our annotation of a workload: the mark of the template that we went back to. As long as it is the present one, the
release has been undone once."""
CHANGE_CAUSE: Final = "kubernetes.io/change-cause"
_HASH: Final = "pod-template-hash"


@dataclass(frozen=True, slots=True)
class Release:
    """A former state of a workload: its revision, its pod template, and who keeps it."""

    revision: int
    template: Mapping[str, Any]
    cause: str = ""

    @property
    def mark(self) -> str:
        """Equal for equal releases."""
        return release_mark(self.template)

    @property
    def shown(self) -> str:
        """For people: `6 (trading:1.4.2)`."""
        return f"{self.revision} ({', '.join(images(self.template))})"


def release_mark(template: Tree) -> str:
    """Equal for templates that differ by restarts only."""
    metadata = mapping(template, "metadata")
    notes = {k: v for k, v in mapping(metadata, "annotations").items() if k not in {RESTARTED_AT, ATTEMPT}}
    labels = {k: v for k, v in mapping(metadata, "labels").items() if k != _HASH}
    return digest({"spec": template.get("spec"), "annotations": notes, "labels": labels})


def releases_of(workload: Tree, kind: str, kept: Iterable[Tree]) -> list[Release]:
    """The releases that the cluster keeps of a workload, newest first. `kept`: ReplicaSets or ControllerRevisions."""
    uid = text(workload, "metadata", "uid")
    mine = (one for one in kept if owned(one, uid))
    read = _replica_set if kind == "deployment" else _controller_revision
    return sorted((read(one) for one in mine), key=lambda release: -release.revision)


def _replica_set(one: Tree) -> Release:
    template = dict(template_of(one))
    metadata = dict(mapping(template, "metadata"))
    labels = {key: value for key, value in mapping(metadata, "labels").items() if key != _HASH}
    told = text(annotations_of(one), REVISION)
    revision = int(told) if told.isdecimal() else 0
    template["metadata"] = {**metadata, "labels": labels}
    return Release(revision, template, text(annotations_of(one), CHANGE_CAUSE))


def _controller_revision(one: Tree) -> Release:
    template = mapping(one, "data", "spec", "template")
    plain = {key: value for key, value in template.items() if key != "$patch"}
    return Release(whole(one, "revision"), plain, text(annotations_of(one), CHANGE_CAUSE))


def present_release(workload: Tree, releases: Iterable[Release]) -> Release:
    """The one that is in force: by its template, else by the number that its annotation says."""
    template = template_of(workload)
    found = next((release for release in releases if release.mark == release_mark(template)), None)
    told = text(annotations_of(workload), REVISION)
    return found or Release(int(told) if told.isdecimal() else 0, template)


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
    return annotations_of(workload).get(UNDONE_TO) == release_mark(template_of(workload))


def undo_patch(workload: Tree, release: Release) -> JsonValue:
    """The strategic merge patch that puts the release in force, bound to the version of `workload`, just read.

    All annotations stay as they are, but for what tells the cause of the present release. kubectl replaces them by
    those of the ReplicaSet, and with them what other tools have noted. It also sends a JSON patch, whose failed `test`
    is a 422, as is a template that is not valid; a patch bound like this one is a 409, which says what is meant.
    """
    notes = {UNDONE_TO: release.mark}
    if release.cause:
        notes[CHANGE_CAUSE] = release.cause
    template: JsonValue = {**release.template, "$patch": "replace"}
    metadata: JsonValue = {"resourceVersion": text(workload, "metadata", "resourceVersion"), "annotations": {**notes}}
    return {"metadata": metadata, "spec": {"template": template}}
