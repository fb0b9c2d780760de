"""A request to a Kubernetes API server as a value, its answer, and what the answer's status says about the world.

Answers stay raw JSON. The library's typed models drop fields that a newer server has, and refuse an answer after the
write that it tells about was applied (contracts.md F), so nothing typed is ever read and nothing is ever sent back
whole: a change is a patch. Pure; sending is `kubernetes_connections`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from pydantic import JsonValue

from responder.errors import Permanent, ResponderError, Temporary, Unknown
from responder.http_calls import retry_after

Tree = Mapping[str, Any]
"""A JSON object as the server gave it."""

_METHODS: Final = {"get": "GET", "list": "GET", "patch": "PATCH", "create": "POST", "delete": "DELETE"}
_NO_RIGHT: Final = re.compile(r'\bUser ".*" cannot ')
"""How RBAC refuses (responsewriters/errors.go)."""
_USER: Final = re.compile(r'\bUser "[^"]*"')
_SAID: Final = 200
"""Characters of what the server says that are told."""


class PatchType(StrEnum):
    """How a patch is read by the server, as the content type of the request."""

    STRATEGIC = "application/strategic-merge-patch+json"
    """Lists of objects are merged by their key, such as the name of a container."""
    MERGE = "application/merge-patch+json"
    """Objects are merged, null removes, lists are replaced (RFC 7386)."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object and where it lives; `subresource` such as `scale`, `log`, `eviction`."""

    group: str
    version: str
    plural: str
    subresource: str = ""
    namespaced: bool = True

    @property
    def rbac(self) -> str:
        """As a Role names it: `deployments/scale`."""
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural

    def path(self, namespace: str, name: str = "") -> str:
        """Below the server's address. The caller has checked that both are names, without any special character."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        space = ["namespaces", namespace] if self.namespaced else []
        parts = [root, *space, self.plural, name, self.subresource]
        return "/".join(part for part in parts if part)

    def part(self, subresource: str) -> Resource:
        """A subresource of it."""
        return Resource(self.group, self.version, self.plural, subresource)


DEPLOYMENTS: Final = Resource("apps", "v1", "deployments")
STATEFUL_SETS: Final = Resource("apps", "v1", "statefulsets")
DAEMON_SETS: Final = Resource("apps", "v1", "daemonsets")
REPLICA_SETS: Final = Resource("apps", "v1", "replicasets")
CONTROLLER_REVISIONS: Final = Resource("apps", "v1", "controllerrevisions")
AUTOSCALERS: Final = Resource("autoscaling", "v2", "horizontalpodautoscalers")
BUDGETS: Final = Resource("policy", "v1", "poddisruptionbudgets")
PODS: Final = Resource("", "v1", "pods")
EVENTS: Final = Resource("", "v1", "events")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps")
ACCESS_REVIEWS: Final = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", namespaced=False)
"""A question in the form of a creation: may we do this? Nothing is stored."""


@dataclass(frozen=True, slots=True)
class KubernetesCall:
    """One request. `verb` is the one of RBAC: get, list, patch, create or delete.

    `dry_run`: the server checks and answers as if, and changes nothing.
    """

    verb: str
    resource: Resource
    namespace: str
    name: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    body: JsonValue = None
    patch: PatchType | None = None
    dry_run: bool = False
    reads: bool = False
    """True where a creation only asks, as an access review does; get and list always do."""

    @property
    def method(self) -> str:
        """The method of the HTTP request."""
        return _METHODS[self.verb]

    @property
    def changes(self) -> bool:
        """Whether the world may be different afterwards."""
        return self.method != "GET" and not self.dry_run and not self.reads

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the request."""
        return {**self.params, **({"dryRun": "All"} if self.dry_run else {})}

    @property
    def sent(self) -> JsonValue:
        """The body of the request. A server that finds a body with a delete does not look at the query at all, so there
        a dry run must stand in the body; in the query alone it would be a deletion."""
        if self.dry_run and self.verb == "delete" and isinstance(self.body, dict):
            return {**self.body, "dryRun": ["All"]}
        return self.body

    @property
    def told(self) -> str:
        """For messages: `patch deployments/trading-app in trading`."""
        named = f"{self.resource.rbac} {self.name}" if self.name else self.resource.rbac
        return f"{self.verb} {named} in {self.namespace}{' (dry run)' if self.dry_run else ''}"

    @property
    def right(self) -> str:
        """The rule that a Role needs for it."""
        rule = f'apiGroups: ["{self.resource.group}"], resources: ["{self.resource.rbac}"], verbs: ["{self.verb}"]'
        return f"{{{rule}}} in namespace {self.namespace}"


@dataclass(frozen=True)
class KubernetesAnswer:
    """What the server answered; the credential is hidden in it. `cut`: the body passed the limit and is not whole."""

    place: str
    call: KubernetesCall
    status: int
    headers: Mapping[str, str]
    text: str
    cut: bool = False

    @cached_property
    def tree(self) -> Tree | None:
        """The JSON object of the answer; None where it is none."""
        try:
            value = json.loads(self.text)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    @property
    def reason(self) -> str:
        """What a Status says in one word, such as `NotFound`."""
        return str((self.tree or {}).get("reason") or "")

    @property
    def message(self) -> str:
        """What a Status says in words, bounded; else the beginning of the answer. Which budget forbids an eviction, and
        what it needs, stands only in the causes. Of a missing right only the user is told: the rest says the cure."""
        line = self._said
        if self.lacks_right and (user := _USER.search(line)):
            return user[0]
        if self.forbidden_by_budget:
            line = " ".join([line, *(str(one.get("message", "")) for one in self._causes)])
        return line if len(line) <= _SAID else f"{line[: _SAID - 1]}…"

    @property
    def _said(self) -> str:
        return " ".join(str((self.tree or {}).get("message") or self.text).split())

    @property
    def _causes(self) -> list[Tree]:
        details = (self.tree or {}).get("details")
        causes = details.get("causes") if isinstance(details, dict) else None
        return [one for one in causes if isinstance(one, dict)] if isinstance(causes, list) else []

    @property
    def forbidden_by_budget(self) -> bool:
        """Whether a PodDisruptionBudget forbids it now. A server that is too busy answers 429, too, without a cause."""
        return self.status == 429 and any(one.get("reason") == "DisruptionBudget" for one in self._causes)

    @property
    def lacks_right(self) -> bool:
        """Whether it is refused because our user may not do it, and not by a quota or an admission rule, whose words
        are somebody else's."""
        return self.status == 403 and (not self._said or _NO_RIGHT.search(self._said) is not None)

    @property
    def believed(self) -> KubernetesAnswer:
        """This answer with the status that it means.

        A server can answer a change with 201 and a Status that tells a failure: so it does with the eviction of a pod
        that two budgets cover (eviction.go returns the Status as its result, create.go sends that as a success).
        """
        tree = self.tree if 200 <= self.status < 300 and self.call.method != "GET" else None
        if tree is None or tree.get("kind") != "Status" or tree.get("status") != "Failure":
            return self
        code = tree.get("code")
        return replace(self, status=code if isinstance(code, int) and code >= 300 else 500)

    def checked(self, now: int) -> KubernetesAnswer:
        """This answer when it is a success. Raises Temporary, Permanent or Unknown by its status; `now` in µs."""
        if not 200 <= self.status < 300:
            raise refusal(self, now)
        if self.cut and not self.call.changes:
            raise Permanent(f"{self.place}: the answer is too large; raise the service's max_response_bytes")
        return self

    @property
    def object(self) -> Tree:
        """The JSON object of a success.

        Raises Unknown after a change, which was accepted by whoever answered; Permanent otherwise.
        """
        if self.tree is not None:
            return self.tree
        said = f"{self.place}: answered {self.status}, but no JSON object"
        if self.call.changes:
            raise Unknown(f"{said}; the change may have happened")
        raise Permanent(f"{said}; check that the service's address is a Kubernetes API server")


def refusal(answer: KubernetesAnswer, now: int) -> ResponderError:
    """What a status that is no success means.

    Before anything is written the server answers 3xx, 4xx and 429: nothing was changed. A 5xx does not say so: 500 is
    also etcd's "request timed out", 503 "leader changed" and 504 the server's own limit, each of which may come after
    the write was applied, and a load balancer's 502 says nothing at all. So after a change every 5xx is Unknown; the
    probe, which costs one reading, then tells.
    """
    call, status = answer.call, answer.status
    said = f"{answer.place}: answered {status} ({answer.message})"
    if status >= 500:
        if call.changes:
            return Unknown(f"{said}; the change may have happened")
        return Temporary(said, retry_after(answer.headers, now))
    if status == 429:
        return Temporary(f"{said}; nothing was changed", retry_after(answer.headers, now))
    if status in {408, 425}:
        return Unknown(f"{said}; the change may have happened") if call.changes else Temporary(said)
    if status in _PASSES:
        return Temporary(f"{said}; nothing was changed: {_PASSES[status]}")
    return Permanent(f"{said}; nothing was changed: {_cure(answer)}")


_PASSES: Final[Mapping[int, str]] = {
    # An action binds its patch to the version that it has just read, and reads again before the next attempt: what
    # must not have changed is compared there, and is Permanent there.
    409: "somebody changed the object at the same moment; it is read again before the next attempt",
    410: "the list that was being read is too old; it is read again from its beginning",
}
_CURES: Final[Mapping[int, str]] = {
    400: "the server does not understand it; check the step's `with`",
    401: "it does not know us; check the service's token, certificate or kubeconfig",
    404: "there is no such object; check namespace and name",
    405: "the server does not offer this; check its version",
    415: "the server does not take this kind of patch; check its version",
    422: "the object would not be valid; check the step's `with`",
}


def _cure(answer: KubernetesAnswer) -> str:
    if 300 <= answer.status < 400:
        return "redirects are not followed: configure the address that it leads to"
    if answer.status != 403:
        return _CURES.get(answer.status, "check the step and the service")
    if answer.lacks_right:
        return f"our user may not do this; add to its Role {answer.call.right}"
    return "our user may do this, but a quota or an admission rule of the cluster refuses it"
