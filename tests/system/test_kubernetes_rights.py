"""The Role that `responder rbac` prints, given to a service account of the cluster of RESPONDER_TEST_KUBECONFIG.

With it each action works; without any one verb of it, the cluster refuses, and the refusal names the rule that is
missing. So the Role has what is needed, and nothing more. The kubeconfig's user must be allowed to make Roles.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from responder.actions import ACTIONS
from responder.cli import run
from responder.errors import Permanent
from responder.kubernetes_calls import ACCESS_REVIEWS, AUTOSCALERS, BUDGETS, KubernetesCall, Resource
from responder.recorded import Outcome
from responder.services import KubernetesService
from responder.wall_clock import wall_clock
from responder.workloads import part, text
from tests.contract.kubernetes_parts import Desk
from tests.fakes.kubernetes_objects import autoscaler, budget
from tests.system.kubernetes_place import IMAGES, NAME, REAL, Place, placed

pytestmark = REAL

_RBAC: Final = ("rbac.authorization.k8s.io", "v1")
ROLES, BINDINGS = Resource(*_RBAC, "roles"), Resource(*_RBAC, "rolebindings")
ACCOUNTS = Resource("", "v1", "serviceaccounts")
DEPLOYMENT, SET = f"deployment/{NAME}", f"statefulset/{NAME}"

UNUSED: Final = {"raise_minimum": "deployments/scale"}
"""What a use needs only where there is no autoscaler, and here there is one."""
USES: Final[list[tuple[str, dict[str, Any]]]] = [
    ("kubernetes.rollout_restart", {"workload": DEPLOYMENT}),
    ("kubernetes.rollout_restart", {"workload": f"daemonset/{NAME}"}),
    ("kubernetes.rollout_status", {"workload": DEPLOYMENT}),
    ("kubernetes.rollout_undo", {"workload": DEPLOYMENT}),
    ("kubernetes.rollout_undo", {"workload": SET}),
    ("kubernetes.scale", {"workload": SET, "replicas": 2, "min": 1, "max": 2}),
    (
        "kubernetes.scale",
        {"workload": DEPLOYMENT, "replicas": 2, "min": 1, "max": 3, "autoscaler": "raise_minimum"},
    ),
    ("kubernetes.delete_pod", {"pod": f"{NAME}-0"}),
    ("kubernetes.evict", {"pod": f"{NAME}-0", "min_ready": 0}),
    ("kubernetes.evict", {"pod": f"{NAME}-0", "min_ready": 0, "budget": "optional"}),
    ("kubernetes.set_env", {"workload": DEPLOYMENT, "set": {"LOG": "debug"}}),
    ("kubernetes.configmap_patch", {"configmap": NAME, "set": {"max": "10"}}),
    ("kubernetes.pods", {"workload": DEPLOYMENT}),
    ("kubernetes.pods", {"selector": f"app={NAME}"}),
    ("kubernetes.events", {"workload": DEPLOYMENT}),
    ("kubernetes.logs", {"workload": DEPLOYMENT}),
    ("kubernetes.logs", {"pod": f"{NAME}-0"}),
    ("kubernetes.workload", {"workload": SET}),
]


def test_every_action_is_played() -> None:
    assert {action for action, _ in USES} == {name for name in ACTIONS if name.startswith("kubernetes.")}


@dataclass
class Installed:
    """A responder that runs as the service account, with a runbook that does one thing."""

    path: Path
    desk: Desk
    admin: Place
    capsys: pytest.CaptureFixture[str]

    def said(self, *words: str) -> str:
        """What a command prints."""
        self.capsys.readouterr()
        run([*words, "--config", str(self.path)])
        return self.capsys.readouterr().out

    async def role(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The Role and the RoleBinding that `responder rbac` prints."""
        subject = f"system:serviceaccount:{self.admin.namespace}:{NAME}"
        printed = await asyncio.to_thread(self.said, "rbac", "--kubernetes", "--subject", subject)
        role, binding = yaml.safe_load_all(printed)
        return role, binding

    async def looked(self) -> list[dict[str, Any]]:
        """What `responder doctor` says of the cluster."""
        told = json.loads(await asyncio.to_thread(self.said, "doctor", "--only", "cluster", "--json"))
        return [one for one in told if one["what"] == "service cluster"]

    async def give(self, role: dict[str, Any], binding: dict[str, Any]) -> None:
        """Apply both, and wait until the cluster goes by them."""
        for resource, tree in ((BINDINGS, binding), (ROLES, role)):
            name, space = tree["metadata"]["name"], self.admin.namespace
            await self.admin.connection.send(KubernetesCall("delete", resource, space, name), 10)
            await self.admin.asked(KubernetesCall("create", resource, space, body=tree))

    async def may(self, rule: dict[str, Any], verb: str) -> bool:
        """What the cluster says of the account's right to it."""
        plural, _, subresource = rule["resources"][0].partition("/")
        asked = {
            "namespace": self.admin.namespace, "verb": verb, "group": rule["apiGroups"][0], "resource": plural,
            "subresource": subresource, "name": rule.get("resourceNames", [""])[0],
        }  # fmt: skip
        body: Any = {"kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": asked}}
        service = self.desk.performer.connect("cluster")
        call = KubernetesCall("create", ACCESS_REVIEWS, self.admin.namespace, body=body, reads=True)
        answer = (await service.send(call, 10)).checked(wall_clock())
        return part(answer.object, "status", "allowed") is True

    async def played(self, action: str, with_: dict[str, Any]) -> str:
        """Done and put back. "" when all of it went well, else what was said."""
        try:
            plan = await self.desk.prepare(action, **with_)
            ended = [await self.desk.act(action, plan)]
            if plan.undoable:
                ended.append(await self.desk.act(action, await self.desk.undo(action, plan)))
        except Permanent as error:
            return str(error)
        return "".join(one.detail for one in ended if one.outcome is not Outcome.OK)


@asynccontextmanager
async def installed(
    action: str, with_: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Installed]:
    """A service account that may nothing yet, before the workload that the use is about."""
    about = str(with_.get("workload", SET if "pod" in with_ else DEPLOYMENT))
    async with placed("real", about) as place:
        if action == "kubernetes.rollout_undo":
            await place.release(IMAGES[1], about)
            await place.rolled_out(about)
        if with_.get("autoscaler"):
            await place.add(AUTOSCALERS, autoscaler(NAME, 1, 3))
        if action == "kubernetes.evict" and "budget" not in with_:
            await place.add(BUDGETS, budget(NAME, 0))
        file = tmp_path / "kubeconfig"
        file.write_text(yaml.safe_dump(await _as_account(place)), encoding="utf-8")
        service = KubernetesService.model_validate({"kubeconfig": str(file), "namespaces": [place.namespace]})
        path = _configured(tmp_path, file, place.namespace, action, with_)
        try:
            yield Installed(path, Desk(service, place.namespace), place, capsys)
        finally:
            for resource, name in ((ACCOUNTS, NAME), (ROLES, "responder"), (BINDINGS, "responder")):
                await place.connection.send(KubernetesCall("delete", resource, place.namespace, name), 10)


def _kubeconfig() -> Any:
    return yaml.safe_load(Path(os.environ["RESPONDER_TEST_KUBECONFIG"]).read_text(encoding="utf-8"))


async def _as_account(place: Place) -> dict[str, Any]:
    """The kubeconfig of the tests, with a service account's token in the place of its user."""
    space = place.namespace
    await place.connection.send(KubernetesCall("delete", ACCOUNTS, space, NAME), 10)
    await place.asked(
        KubernetesCall("create", ACCOUNTS, space, body={"kind": "ServiceAccount", "metadata": {"name": NAME}})
    )
    asked: Any = {"kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    made = await place.asked(KubernetesCall("create", ACCOUNTS.part("token"), space, NAME, body=asked))
    whole = _kubeconfig()
    (context,) = [one for one in whole["contexts"] if one["name"] == whole["current-context"]]
    context["context"]["user"] = "account"
    return {**whole, "users": [{"name": "account", "user": {"token": text(made, "status", "token")}}]}


def _configured(folder: Path, kubeconfig: Path, namespace: str, action: str, with_: dict[str, Any]) -> Path:
    """A responder.yaml with a runbook of this one use."""
    whole = {"service": "cluster", "namespace": namespace, **with_}
    reads = ACTIONS[action].reads_only
    uses = {
        "evidence": [{"title": "It", "action": action, "with": whole}] if reads else [],
        "steps": [] if reads else [{"id": "it", "title": "It", "action": action, "with": whole}],
    }
    (folder / "mine").mkdir()
    book = {"runbook": "it", "title": "It", "match": "Slow", "target": "kubernetes:it", **uses}
    (folder / "mine" / "it.yaml").write_text(yaml.safe_dump(book, sort_keys=False), encoding="utf-8")
    path = folder / "responder.yaml"
    services = {"cluster": {"kind": "kubernetes", "kubeconfig": str(kubeconfig), "namespaces": [namespace]}}
    path.write_text(yaml.safe_dump({"rules": ["./mine"], "services": services}), encoding="utf-8")
    return path


def _without(role: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any], str]]:
    """The Role without each one of its verbs; the rule, and the verb."""
    for number, rule in enumerate(role["rules"]):
        for verb in rule["verbs"]:
            left = [one for one in rule["verbs"] if one != verb]
            rules = [
                *role["rules"][:number],
                *([{**rule, "verbs": left}] if left else []),
                *role["rules"][number + 1 :],
            ]
            yield {**role, "rules": rules}, rule, verb


@pytest.mark.parametrize(
    "use", [pytest.param(use, id=f"{use[0]} {' '.join(f'{k}={v}' for k, v in use[1].items())}") for use in USES]
)
async def test_the_printed_role_is_enough_and_none_of_it_is_too_much(
    use: tuple[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    async with installed(*use, tmp_path, capsys) as there:
        await _judged(there, *use)


async def _judged(there: Installed, action: str, with_: dict[str, Any]) -> None:
    role, binding = await there.role()
    for less, rule, verb in _without(role):
        if rule["resources"] == [UNUSED.get(with_.get("autoscaler", ""))]:
            continue
        await there.give(less, binding)

        async def goes_by_it(rule: dict[str, Any] = rule, verb: str = verb, less: dict[str, Any] = less) -> bool:
            others = [(one, each) for one in less["rules"] for each in one["verbs"]]
            return not await there.may(rule, verb) and all([await there.may(*one) for one in others])

        await there.admin.until(goes_by_it, "the cluster goes by the Role")
        said = await there.played(action, with_)
        missing = f'{{apiGroups: ["{rule["apiGroups"][0]}"], resources: ["{rule["resources"][0]}"], verbs: ["{verb}"]}}'
        assert f"our user may not do this; add to its Role {missing}" in said
        (bad,) = [one["says"] for one in await there.looked() if one["good"] is False]
        assert "its user may not do this in" in bad
        assert f"resources: [{rule['resources'][0]}]" in bad
        assert f"verbs: [{verb}]" in bad
    await there.give(role, binding)

    async def goes_by_all() -> bool:
        return all([await there.may(rule, verb) for rule in role["rules"] for verb in rule["verbs"]])

    await there.admin.until(goes_by_all, "the cluster goes by the whole Role")
    assert await there.played(action, with_) == ""
    assert all(one["good"] is not False for one in await there.looked())
