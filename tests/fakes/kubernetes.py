"""A Kubernetes API server: what it stores, how it patches, what its controllers then do, and how it fails.

`Cluster` is the server without a network; `ApiServer` serves it on a loopback port. Closed world: what is not foreseen
is `unexpected`, and fails the test. It keeps what contracts.md F says of the real one: generations, versions, dry runs,
two kinds of patch, preconditions, budgets.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.fakes.kubernetes_objects import (
    NAMESPACE,
    digest,
    field_of,
    is_owned,
    merged,
    owner_of,
    pod,
    ready,
    strategic,
    without_empty_values,
)
from tests.fakes.kubernetes_objects import unversioned as plain
from tests.fakes.kubernetes_requests import Answer, Asked, Fault, Refused
from tests.fakes.server import FakeServer

TOKEN = "s3cret-service-account-token"
_PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/(?P<version>[^/]+))/namespaces/(?P<namespace>[^/]+)/(?P<plural>[^/]+)"
    r"(?:/(?P<name>[^/]+)(?:/(?P<sub>[^/]+))?)?"
)
_PATCHES: dict[str, Callable[[Any, Any], Any]] = {
    "application/merge-patch+json": merged,
    "application/strategic-merge-patch+json": strategic,
}
_KNOWN = {
    ("apps/v1", plural, sub)
    for plural in ("deployments", "statefulsets", "daemonsets", "replicasets", "controllerrevisions")
    for sub in ("", "scale")
} | {
    ("v1", "pods", ""),
    ("v1", "pods", "log"),
    ("v1", "pods", "eviction"),
    ("policy/v1", "poddisruptionbudgets", ""),
    ("v1", "events", ""),
    ("v1", "configmaps", ""),
    ("autoscaling/v2", "horizontalpodautoscalers", ""),
}
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_VERBS = {"PATCH": "patch", "POST": "create", "DELETE": "delete"}


@dataclass
class Cluster:
    """`rights`: what our user may do, as `(verb, "deployments/scale")`; None for everything. `runs`: whether the
    controllers act at once. `bad`: images whose pods never become ready. `logs`: by pod, what it wrote."""

    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    reviews: list[dict[str, str]] = field(default_factory=list)
    """What it was asked whether we may."""
    faults: list[Fault] = field(default_factory=list)
    rights: set[tuple[str, str]] | None = None
    token: str = TOKEN
    namespace: str = NAMESPACE
    bad: set[str] = field(default_factory=set)
    logs: dict[str, str] = field(default_factory=dict)
    runs: bool = True
    slow: int = 0
    """How often a workload is read before the pods of a new template have come up."""
    _left: dict[tuple[str, str], int] = field(default_factory=dict)
    version: int = 1000
    time: str = "2026-11-20T12:00:00Z"
    """When objects are made from now on."""
    interferes: Callable[[], None] | None = None
    """What somebody else does right before the next change is applied."""

    # --- what tests say ----------------------------------------------------------------------------------------------

    def add(self, plural: str, *trees: dict[str, Any]) -> None:
        """Create objects, and let the controllers see them."""
        for tree in trees:
            self._stamp(tree)
            self.objects[plural, tree["metadata"]["name"]] = tree
        if self.runs:
            self.control()

    def get(self, plural: str, name: str) -> dict[str, Any]:
        """An object as it is stored."""
        return self.objects[plural, name]

    def of(self, plural: str) -> list[dict[str, Any]]:
        """All objects of a kind."""
        return [tree for (kind, _), tree in self.objects.items() if kind == plural]

    def edit(self, plural: str, name: str, patch: Any) -> None:
        """Somebody else changes an object."""
        self._store(plural, strategic(self.objects[plural, name], patch))

    @property
    def rolling(self) -> bool:
        """Whether a new template has not come up yet."""
        return bool(self._left)

    @property
    def changes(self) -> list[Asked]:
        """What was asked to be changed, trials left out."""
        return [one for one in self.asked if one.changes]

    @property
    def state(self) -> str:
        """All that is stored, for comparing; without versions."""
        return json.dumps([plain(tree) for _, tree in sorted(self.objects.items(), key=lambda one: one[0])])

    # --- requests -----------------------------------------------------------------------------------------------------

    def handle(self, method: str, path: str, query: dict[str, str], headers: dict[str, str], raw: bytes) -> Answer:
        """The answer to one request."""
        if (method, path) == ("POST", _REVIEWS):
            return self._review(query, headers, json.loads(raw))
        found = _PATH.fullmatch(path)
        if found is None or not self._known(found):
            self.unexpected.append(f"{method} {path}")
            return Answer(404, "404 page not found")
        name, sub = found["name"] or "", found["sub"] or ""
        verb = _VERBS.get(method, "get" if name else "list")
        resource = f"{found['plural']}/{sub}" if sub else found["plural"]
        asked = Asked(verb, resource, name, query, json.loads(raw) if raw else None, headers)
        self.asked.append(asked)
        fault = next((one for one in self.faults if one.fits(asked)), None)
        if fault is not None:
            self.faults.remove(fault)
        answer = self._answer(asked, found["plural"], sub, fault)
        asked.status = answer.status
        return answer

    def _review(self, query: dict[str, str], headers: dict[str, str], body: Any) -> Answer:
        """Whether the user may do what it asks about; a name that is no user's right is refused."""
        assert not query, "nothing is written down of a question"
        if headers.get("authorization") != f"Bearer {self.token}":
            return Answer(401, Refused(401, "Unauthorized", "Unauthorized").status)
        asked = body["spec"]["resourceAttributes"]
        self.reviews.append(asked)
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        right = (asked["verb"], resource)
        allowed = asked["namespace"] == self.namespace and (self.rights is None or right in self.rights)
        return Answer(201, {**body, "status": {"allowed": allowed}})

    def _known(self, found: re.Match[str]) -> bool:
        version = f"{found['group']}/{found['version']}" if found["group"] else "v1"
        return (version, found["plural"], found["sub"] or "") in _KNOWN and found["namespace"] == self.namespace

    def _answer(self, asked: Asked, plural: str, sub: str, fault: Fault | None) -> Answer:
        try:
            if fault is not None and not fault.after:
                return self._failed(fault, None)
            self._allowed(asked)
            answer = self._done(asked, plural, sub)
        except Refused as refused:
            return Answer(refused.code, refused.status, refused.headers)
        return answer if fault is None else self._failed(fault, answer)

    @staticmethod
    def _failed(fault: Fault, answer: Answer | None) -> Answer:
        if fault.status:
            raise Refused(fault.status, fault.reason, fault.message, **fault.headers)
        if fault.garbage:
            return Answer(200, "<html>a proxy says hello</html>")
        return Answer(200, answer.body if answer else {}, fault=fault)

    def _allowed(self, asked: Asked) -> None:
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            raise Refused(401, "Unauthorized", "Unauthorized")
        if self.rights is not None and (asked.verb, asked.resource) not in self.rights:
            who = 'User "system:serviceaccount:ops:responder" cannot'
            raise Refused(403, "Forbidden", f'forbidden: {who} {asked.verb} resource "{asked.resource}"')

    def _done(self, asked: Asked, plural: str, sub: str) -> Answer:
        if asked.verb == "list":
            return Answer(200, {"kind": "List", "items": self._listed(plural, asked.query)})
        if (plural, asked.name) not in self.objects:
            raise Refused(404, "NotFound", f'{plural} "{asked.name}" not found')
        if sub == "log":
            return Answer(200, self._log(asked))
        if sub == "eviction":
            return self._evict(asked)
        if asked.verb == "delete":
            return self._delete(plural, asked)
        if asked.verb == "patch":
            return self._patch(plural, sub, asked)
        if sub == "scale":
            return Answer(200, self._scale(plural, asked.name))
        self._goes_on(plural, asked.name)
        return Answer(200, self.objects[plural, asked.name])

    def _goes_on(self, plural: str, name: str) -> None:
        """What rolls has come a bit further each time that somebody looks."""
        left = self._left.pop((plural, name), 0)
        if left > 1:
            self._left[plural, name] = left - 1
        elif left:
            self.control()

    def _listed(self, plural: str, query: dict[str, str]) -> list[dict[str, Any]]:
        assert query.get("limit"), "a list without a limit"
        found = self.of(plural)
        for pair in filter(None, query.get("labelSelector", "").split(",")):
            key, _, value = pair.partition("=")
            found = [tree for tree in found if tree["metadata"].get("labels", {}).get(key) == value]
        for pair in filter(None, query.get("fieldSelector", "").split(",")):
            found = [tree for tree in found if field_of(tree, pair.partition("=")[0]) == pair.partition("=")[2]]
        return found[: int(query["limit"])]

    def _log(self, asked: Asked) -> str:
        assert {"tailLines", "limitBytes"} <= asked.query.keys(), "a log without a limit"
        lines = self.logs.get(asked.name, "").splitlines(keepends=True)[-int(asked.query["tailLines"]) :]
        return "".join(lines)[: int(asked.query["limitBytes"])]

    # --- changes ------------------------------------------------------------------------------------------------------

    def _patch(self, plural: str, sub: str, asked: Asked) -> Answer:
        apply = _PATCHES.get(asked.headers.get("content-type", ""))
        if apply is None:
            raise Refused(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
        if self.interferes is not None and asked.changes:
            act, self.interferes = self.interferes, None
            act()
        before = self._scale(plural, asked.name) if sub == "scale" else self.objects[plural, asked.name]
        after = apply(before, asked.body)
        if after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]:
            raise Refused(
                409, "Conflict", "the object has been modified; please apply your changes to the latest version"
            )
        after = without_empty_values(after)
        self._valid(before, after)
        if sub == "scale":
            replicas = {"spec": {"replicas": after["spec"]["replicas"]}}
            after = strategic(self.objects[plural, asked.name], replicas)
        stored = self._store(plural, after, keep=asked.changes)
        return Answer(200, self._scale(plural, asked.name) if sub == "scale" else stored)

    @staticmethod
    def _valid(before: dict[str, Any], after: dict[str, Any]) -> None:
        if before.get("immutable") and after.get("data") != before.get("data"):
            raise Refused(422, "Invalid", "data: Forbidden: field is immutable when `immutable` is set")
        if after.get("spec", {}).get("replicas", 0) < 0:
            raise Refused(422, "Invalid", "spec.replicas: must be greater than or equal to 0")

    def _store(self, plural: str, tree: dict[str, Any], *, keep: bool = True) -> dict[str, Any]:
        name = tree["metadata"]["name"]
        before, tree = self.objects[plural, name], copy.deepcopy(tree)
        if tree == before:
            return tree
        self.version += 1
        tree["metadata"]["resourceVersion"] = str(self.version)
        if tree.get("spec") != before.get("spec") and "generation" in tree["metadata"]:
            tree["metadata"]["generation"] += 1
        if keep:
            self.objects[plural, name] = tree
            if self.slow and tree.get("spec", {}).get("template") != before.get("spec", {}).get("template"):
                self._left[plural, name] = self.slow
            if self.runs:
                self.control()
        return tree

    def _scale(self, plural: str, name: str) -> dict[str, Any]:
        tree = self.objects[plural, name]
        meta = {key: tree["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
        return {"kind": "Scale", "metadata": meta, "spec": {"replicas": tree["spec"]["replicas"]}}

    def _delete(self, plural: str, asked: Asked) -> Answer:
        self._same(plural, asked, (asked.body or {}).get("preconditions", {}))
        found = self.objects[plural, asked.name]
        if asked.changes:
            del self.objects[plural, asked.name]
            if self.runs:
                self.control()
        return Answer(200, found)

    def _evict(self, asked: Asked) -> Answer:
        assert asked.body["apiVersion"] == "policy/v1"
        self._same("pods", asked, asked.body.get("deleteOptions", {}).get("preconditions", {}))
        app = self.objects["pods", asked.name]["metadata"]["labels"]["app"]
        budgets = self.of("poddisruptionbudgets")
        budgets = [one for one in budgets if one["spec"]["selector"]["matchLabels"]["app"] == app]
        if len(budgets) > 1:
            # The real server gives this Status as the result of a creation that went well.
            said = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            return Answer(201, {"kind": "Status", "status": "Failure", "code": 500, "message": said})
        for one in budgets:
            well, least = [p for p in self._of_app(app) if ready(p)], one["spec"]["minAvailable"]
            if len(well) <= least:
                said = "Cannot evict pod as it would violate the pod's disruption budget."
                name = one["metadata"]["name"]
                cause = f"The disruption budget {name} needs {least} healthy pods and has {len(well)} currently"
                raise Refused(429, "TooManyRequests", said, cause=cause, **{"retry-after": "10"})
        if asked.changes:
            self._delete("pods", Asked("delete", "pods", asked.name, {}, {}, {}))
        return Answer(201, {"kind": "Status", "status": "Success", "code": 201})

    def _of_app(self, app: str) -> list[dict[str, Any]]:
        return [one for one in self.of("pods") if one["metadata"]["labels"]["app"] == app]

    def _same(self, plural: str, asked: Asked, preconditions: dict[str, str]) -> None:
        uid = self.objects[plural, asked.name]["metadata"]["uid"]
        if preconditions.get("uid", uid) != uid:
            said = f"Precondition failed: UID in precondition: {preconditions['uid']}, UID in object meta: {uid}"
            raise Refused(409, "Conflict", said)

    # --- controllers --------------------------------------------------------------------------------------------------

    def control(self) -> None:
        """Let every controller do its work to its end."""
        for plural in ("deployments", "statefulsets", "daemonsets"):
            for tree in self.of(plural):
                self._roll(plural, tree)

    def _stamp(self, tree: dict[str, Any]) -> None:
        self.version += 1
        tree["metadata"].setdefault("uid", f"uid-{self.version}-{tree['metadata']['name']}")
        tree["metadata"]["resourceVersion"] = str(self.version)
        tree["metadata"].setdefault("creationTimestamp", self.time)

    def _roll(self, plural: str, tree: dict[str, Any]) -> None:
        if tree["spec"].get("paused"):
            tree["status"]["observedGeneration"] = tree["metadata"]["generation"]
            return
        stuck = [p for p in self.of("pods") if is_owned(p, tree) and not ready(p)]
        if plural == "statefulsets" and stuck and not self._is_of(stuck[0], tree):
            # The real one replaces no pod before all of them are ready.
            want = tree["spec"]["replicas"]
            tree["status"] |= {"observedGeneration": tree["metadata"]["generation"], "updatedReplicas": 0}
            tree["status"]["readyReplicas"] = want - len(stuck)
            self._controller_revision(tree)
            return
        owner = self._release(tree) if plural == "deployments" else tree
        if plural != "deployments":
            self._controller_revision(tree)
        want = tree["spec"].get("replicas", 2)
        image = tree["spec"]["template"]["spec"]["containers"][0]["image"]
        well = image.rpartition("/")[2] not in self.bad
        rolling = (plural, tree["metadata"]["name"]) in self._left
        if not rolling:
            self._pods(tree, owner, want, well)
        up = want if well or rolling else 0
        new = 0 if rolling else want
        numbers: dict[str, Any] = {
            "replicas": want, "updatedReplicas": new, "readyReplicas": up, "availableReplicas": up,
            "updateRevision": "now", "currentRevision": "before" if rolling else "now",
        }  # fmt: skip
        if plural == "daemonsets":
            numbers = {"desiredNumberScheduled": want, "updatedNumberScheduled": new, "numberAvailable": up,
                       "numberReady": up}  # fmt: skip
        tree["status"] = {"observedGeneration": tree["metadata"]["generation"], **numbers}

    @staticmethod
    def _is_of(pod: dict[str, Any], tree: dict[str, Any]) -> bool:
        return digest(tree["spec"]["template"]) in pod["metadata"]["name"]

    def _release(self, tree: dict[str, Any]) -> dict[str, Any]:
        """The ReplicaSet of the present template; a new one, or an old one again, has the highest revision."""
        mark, name = digest(tree["spec"]["template"]), tree["metadata"]["name"]
        key = ("replicasets", f"{name}-{mark}")
        notes = "deployment.kubernetes.io/revision"
        mine = [one for one in self.of("replicasets") if owner_of(one) == tree["metadata"]["uid"]]
        highest = max((int(one["metadata"]["annotations"][notes]) for one in mine), default=0)
        if key not in self.objects:
            template = copy.deepcopy(tree["spec"]["template"])
            template["metadata"].setdefault("labels", {})["pod-template-hash"] = mark
            owner = {"kind": "Deployment", "name": name, "uid": tree["metadata"]["uid"], "controller": True}
            meta = {"name": key[1], "namespace": NAMESPACE, "ownerReferences": [owner], "annotations": {notes: "0"}}
            meta["labels"] = {"app": name}
            found = {"kind": "ReplicaSet", "metadata": meta, "spec": {"template": template}}
            self._stamp(found)
            self.objects[key] = found
        replica_set = self.objects[key]
        if int(replica_set["metadata"]["annotations"][notes]) < max(highest, 1):
            replica_set["metadata"]["annotations"][notes] = str(highest + 1)
        tree["metadata"]["annotations"][notes] = replica_set["metadata"]["annotations"][notes]
        return replica_set

    def _controller_revision(self, tree: dict[str, Any]) -> None:
        mark, name = digest(tree["spec"]["template"]), tree["metadata"]["name"]
        key = ("controllerrevisions", f"{name}-{tree['kind'].lower()}-{mark}")
        mine = [one for one in self.of("controllerrevisions") if owner_of(one) == tree["metadata"]["uid"]]
        highest = max((one["revision"] for one in mine), default=0)
        if key not in self.objects:
            owner = {"kind": tree["kind"], "name": name, "uid": tree["metadata"]["uid"], "controller": True}
            meta = {"name": key[1], "namespace": NAMESPACE, "ownerReferences": [owner], "labels": {"app": name}}
            data = {"spec": {"template": {**copy.deepcopy(tree["spec"]["template"]), "$patch": "replace"}}}
            found = {"kind": "ControllerRevision", "metadata": meta, "revision": 0, "data": data}
            self._stamp(found)
            self.objects[key] = found
        if self.objects[key]["revision"] < max(highest, 1):
            self.objects[key]["revision"] = highest + 1

    def _pods(self, tree: dict[str, Any], owner: dict[str, Any], want: int, well: bool) -> None:
        app, mark = tree["metadata"]["name"], digest(tree["spec"]["template"])
        keep = {f"{app}-{mark}-{number}" for number in range(want)}
        for one in self.of("pods"):
            if one["metadata"]["labels"].get("app") == app and one["metadata"]["name"] not in keep:
                del self.objects["pods", one["metadata"]["name"]]
        for name in sorted(keep):
            if ("pods", name) not in self.objects:
                made = pod(name, app, owner, tree["spec"]["template"]["spec"]["containers"][0]["image"], well=well)
                self._stamp(made)
                self.objects["pods", name] = made


class ApiServer:
    """The cluster on a loopback port."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._server = FakeServer([Route("/{path:path}", self._serve, methods=["GET", "PATCH", "POST", "DELETE"])])

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._server.url

    async def _serve(self, request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        query = dict(request.query_params)
        answer = self.cluster.handle(request.method, request.url.path, query, headers, await request.body())
        if answer.fault is not None:
            return await self._broken(answer, answer.fault)
        return Response(answer.content, answer.status, answer.headers, "application/json")

    @staticmethod
    async def _broken(answer: Answer, fault: Fault) -> Response:
        if fault.slow:
            await asyncio.Event().wait()
        content = answer.content

        async def half() -> AsyncIterator[bytes]:
            yield content[: len(content) // 2]
            raise ConnectionError("the answer is cut off here")

        return StreamingResponse(half(), answer.status, {"content-length": str(len(content))})

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.__aexit__(kind, error, trace)
        if error is None:
            assert not self.cluster.unexpected, f"nobody expected these calls: {self.cluster.unexpected}"
