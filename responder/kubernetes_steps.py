"""What the Kubernetes actions share, which must not import each other: the fields, and how a cluster is asked.

A change goes the same way everywhere. `prepare` reads the object, says what will be different and lets the server try
it (`dryRun`), so that a missing right, a quota or an admission rule is found before anything is promised. `act` reads
again, compares what matters with the plan, and binds its patch to the version that it has just read.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, Field, JsonValue, WithJsonSchema

from responder.contracts import Action, Context, Output, Probe
from responder.errors import Permanent, ResponderError, Temporary, Unknown
from responder.kubernetes_calls import KubernetesAnswer, KubernetesCall, PatchType, Resource, Tree
from responder.recorded import Effect, Plan, ProbeAnswer
from responder.workloads import items, text

Rule = tuple[str, str, tuple[str, ...]]
"""A rule of a Role: API group ("" is core), resource with its subresource, verbs."""

_NAME: Final = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
Name = Annotated[str, Field(pattern=f"^{_NAME}$")]
Namespace = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]

_KINDS: Final = ("deployment", "statefulset", "daemonset")


def _one_of(*kinds: str) -> tuple[AfterValidator, WithJsonSchema]:
    """`KIND/NAME`, whose mistake says what to write; the pattern is for editors."""
    pattern = f"^({'|'.join(kinds)})/{_NAME}$"

    def fits(value: str) -> str:
        if not re.match(pattern, value):
            raise ValueError(f"a workload is its kind and its name: {', '.join(f'{kind}/NAME' for kind in kinds)}")
        return value

    return AfterValidator(fits), WithJsonSchema({"type": "string", "pattern": pattern})


WorkloadName = Annotated[str, *_one_of(*_KINDS)]
ScalableName = Annotated[str, *_one_of(*_KINDS[:2])]
WHERE: Final[Mapping[str, str]] = {"service": "literal", "namespace": "literal"}
"""Positions of what no alert may choose."""
WORKLOADS: Final = ("deployments", "statefulsets", "daemonsets")


def workload_rules(*verbs: str, resources: tuple[str, ...] = WORKLOADS) -> tuple[Rule, ...]:
    """The same verbs on every kind of workload."""
    return tuple(("apps", resource, verbs) for resource in resources)


class KubernetesStep(Action):
    """A step in one namespace of one cluster."""

    kinds: ClassVar[tuple[str, ...]] = ("kubernetes",)
    positions: ClassVar[Mapping[str, str]] = WHERE
    rules: ClassVar[tuple[Rule, ...]] = ()
    """What the user of the service must be allowed, and no more."""

    service: str
    namespace: Namespace

    @classmethod
    def rules_for(cls, with_: Mapping[str, Any]) -> tuple[Rule, ...]:
        """What of `rules` a use with these parameters, as they are written, needs: of a workload's kind alone, and
        without a workload nothing of any."""
        kind = str(with_.get("workload") or "").partition("/")[0]
        if "{{" in kind:
            return cls.rules
        wanted = (f"{kind}s", "replicasets" if kind == "deployment" else "controllerrevisions" if kind else "")
        return tuple(rule for rule in cls.rules if rule[0] != "apps" or rule[1].partition("/")[0] in wanted)

    async def _send(self, context: Context, call: KubernetesCall) -> KubernetesAnswer:
        """The answer, whatever its status. Raises Temporary, Permanent, Unknown."""
        answer: KubernetesAnswer = await context.service(self.service).send(call, context.timeout, context.clear)
        return answer

    async def _asked(self, context: Context, call: KubernetesCall) -> Tree:
        """The object of a success. Raises Temporary, Permanent, Unknown."""
        return (await self._send(context, call)).checked(context.now()).object

    async def _get(self, context: Context, resource: Resource, name: str) -> Tree:
        """One object. Raises Temporary where the answer is another thing, as a proxy's may be: what is missing in it
        would be taken for removed."""
        found = await self._asked(context, KubernetesCall("get", resource, self.namespace, name))
        if text(found, "metadata", "name") != name:
            raise Temporary(f"{name}: the API server's answer is not that object; look at what stands before it")
        return found

    async def _list(self, context: Context, resource: Resource, **params: str) -> list[Tree]:
        """The first of them, as many as `limit` says (500)."""
        call = KubernetesCall("list", resource, self.namespace, params={"limit": "500", **params})
        return items(await self._asked(context, call), "items")


class KubernetesReader(KubernetesStep):
    """A step that only reads."""

    reads_only: ClassVar[bool] = True


class KubernetesChange(KubernetesStep):
    """A step that changes one object by a patch."""

    def effect(self, keyed: bool) -> Effect:
        """See Action.effect."""
        return Effect.SET

    def _planned(self, context: Context, preview: str, before: JsonValue, target: JsonValue) -> Plan:
        """A plan of this step."""
        return Plan(
            params=self.model_dump(mode="json", by_alias=True),
            preview=preview,
            effect=self.effect(keyed=False),
            prepared_at=context.now(),
            before=before,
            target=target,
        )

    async def _tried(self, context: Context, call: KubernetesCall) -> None:
        """Let the server check a change without doing it. Raises what the change itself would meet."""
        self._passed(context, await self._trial(context, call))

    async def _trial(self, context: Context, call: KubernetesCall) -> KubernetesAnswer:
        """What the server says of a change without doing it, whatever its status."""
        return await self._send(context, replace(call, dry_run=True))

    def _passed(self, context: Context, answer: KubernetesAnswer) -> None:
        """Raises what a trial says that the change would meet.

        An admission webhook that knows no dry run makes the server refuse the trial; that says nothing about the
        change, which is then made untried.
        """
        if answer.status != 400 or "dry run" not in answer.message.lower().replace("-", " ").replace(
            "dryrun", "dry run"
        ):
            answer.checked(context.now())

    async def _in_force(self, context: Context, shown: Tree | None, resource: Resource, name: str) -> Tree:
        """The object as it is after an accepted patch: as the answer shows it, else read again. Raises Unknown."""
        if shown is not None:
            return shown
        try:
            return await self._get(context, resource, name)
        except ResponderError as error:
            raise Unknown(f"the patch of {name} was accepted, but not read back: {error}") from None


class KubernetesSetting(KubernetesChange):
    """A change from one state of an object to another, both of them fixed in the plan, so that it can be put back.

    Members say how the object is read, what of it is the state, and which patch leads to a state. `like` is a state of
    the plan: it tells which object and which of its parts are meant.
    """

    @property
    @abstractmethod
    def _named(self) -> str:
        """What is changed, for people."""

    @abstractmethod
    async def _fetch(self, context: Context, like: JsonValue) -> Tree:
        """The object as it is now."""

    @abstractmethod
    def _seen(self, tree: Tree, like: JsonValue) -> JsonValue:
        """Its state, of the same form as `like`."""

    @abstractmethod
    async def _change(self, context: Context, tree: Tree, to: JsonValue) -> KubernetesCall:
        """The patch that leads to the state `to`, bound to the version of `tree`, which was just read."""

    async def act(self, plan: Plan, context: Context) -> Output:
        """Compare, patch once, see what is in force."""
        found = await self._fetch(context, plan.target)
        if compared(self._seen(found, plan.target), plan, self._named):
            return Output(plan.target, f"{self._named} was so already", context.now())
        call = await self._change(context, found, plan.target)
        shown = (await self._send(context, call)).checked(context.now()).tree
        if self._seen(shown or await self._read_back(context, plan), plan.target) != plan.target:
            raise Unknown(f"{self._named}: the change was accepted, but something else is in force")
        return Output(plan.target, f"done: {plan.preview}", context.now())

    async def probe(self, plan: Plan, context: Context) -> Probe:
        """Read: the target is in force, the state before is, or neither."""
        return probed(self._seen(await self._fetch(context, plan.target), plan.target), plan, self._named)

    async def undo(self, plan: Plan, context: Context) -> Plan:
        """The plan that puts the state before back, as long as the present one is what `plan` made."""
        if plan.before == plan.target or plan.nothing_to_do:
            raise Permanent(f"{self._named}: there is nothing to put back")
        if self._seen(await self._fetch(context, plan.target), plan.target) != plan.target:
            raise Permanent(f"{self._named} was changed by somebody since: settle it by hand")
        return self._planned(context, f"put {self._named} back as it was", plan.target, plan.before)

    async def _read_back(self, context: Context, plan: Plan) -> Tree:
        try:
            return await self._fetch(context, plan.target)
        except ResponderError as error:
            raise Unknown(f"{self._named}: the change was accepted, but not read back: {error}") from None


def patch(
    resource: Resource, namespace: str, name: str, body: JsonValue, kind: PatchType = PatchType.STRATEGIC
) -> KubernetesCall:
    """A call that patches an object."""
    return KubernetesCall("patch", resource, namespace, name, body=body, patch=kind)


def bound(tree: Tree, body: Mapping[str, Any]) -> dict[str, Any]:
    """A patch that the server refuses (409) when the object is another version than `tree`, which was just read."""
    metadata = {**body.get("metadata", {}), "resourceVersion": text(tree, "metadata", "resourceVersion")}
    return {**body, "metadata": metadata}


def compared(present: JsonValue, plan: Plan, named: str) -> bool:
    """Whether the plan is in force already. Raises Permanent where somebody made it neither what it was nor that."""
    if present == plan.target:
        return True
    if present != plan.before:
        raise Permanent(f"{named} was changed by somebody since; nothing was changed: look at it, then start again")
    return False


def probed(present: JsonValue, plan: Plan, named: str) -> Probe:
    """Target, state before, or neither."""
    if present == plan.target:
        return Probe(ProbeAnswer.APPLIED, f"{named} is as intended")
    if present == plan.before:
        return Probe(ProbeAnswer.NOT_APPLIED, f"{named} is as before")
    return Probe(ProbeAnswer.UNCLEAR, f"{named} is neither as before nor as intended")
