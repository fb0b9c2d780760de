"""The least that the users of services must be allowed for a set of runbooks, by the class data of the actions used.

`responder rbac` prints it as what an administrator applies, `responder doctor` asks the services for it. What a runbook
does in any mode counts: raising `mode` must need no new rights. Pure: what the services say is `checkups`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import JsonValue

from responder.contracts import Action, Parameter
from responder.kubernetes_steps import WORKLOADS, KubernetesStep
from responder.redis_steps import RedisStep
from responder.runbook import Input, Runbook
from responder.services import RedisSentinelService, RedisService

MAX_NAMES: Final = 64
"""Of a text with more possible values the names are left open: a list that long is nobody's to read."""

_placeholder = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_special = re.compile(r"([\\\[\]?*])")
_unwritable = re.compile(r"[^!-~]")
_NAMED_BY: Final[Mapping[str, str]] = {**dict.fromkeys(WORKLOADS, "workload"), "configmaps": "configmap", "pods": "pod"}
"""Resource -> the field that names its object."""
_BY_NAME: Final = frozenset({"get", "patch", "delete"})
"""Verbs whose requests name one object; a `list` or `create` has no name that a Role could compare."""
_VERBS: Final = ("get", "list", "patch", "create", "delete")


@dataclass(frozen=True, slots=True)
class Use:
    """One use of an action: its parameters as they are written, and the services that it names."""

    runbook: Runbook
    action: type[Action]
    with_: Mapping[str, JsonValue]
    services: tuple[str, ...]


def uses_of(
    runbooks: Iterable[Runbook], actions: Mapping[str, type[Action]], parameters: Mapping[str, Parameter]
) -> tuple[Use, ...]:
    """Every use of an action in runbooks that were loaded: checks, evidence, steps and their ways back."""
    return tuple(
        Use(runbook, actions[name], with_, _services(actions[name], with_, parameters))
        for runbook in runbooks
        for name, with_ in _written(runbook)
    )


def _written(runbook: Runbook) -> Iterator[tuple[str, Mapping[str, JsonValue]]]:
    for reading in (*runbook.checks.values(), *runbook.evidence):
        yield reading.action, reading.with_
    for step in runbook.steps:
        if step.action is not None:
            yield step.action, step.with_
        if step.undo is not None and step.undo.action is not None:
            yield step.undo.action, step.undo.with_


def _services(action: type[Action], with_: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> tuple[str, ...]:
    # Which services it names is never a template's to say, so the fields that wait for one are left as they are.
    return action.model_construct(None, **with_).services(parameters)


def values_of(text: str, inputs: Mapping[str, Input]) -> tuple[str, ...] | None:
    """All that a text with placeholders can become; None where an input is not limited to named values."""
    parts = _placeholder.split(text)
    choices: list[tuple[str, ...]] = []
    for index, part in enumerate(parts):
        given = inputs.get(part.strip())
        choices.append((part,) if index % 2 == 0 else () if given is None else given.one_of)
    found = ["".join(chosen) for chosen in product(*choices)] if all(choices) else []
    return tuple(dict.fromkeys(found)) if 0 < len(found) <= MAX_NAMES else None


# --- Kubernetes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RoleRule:
    """A rule of a Role for one resource. Without `names` it holds for all objects of the namespace."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The rule as one line of YAML."""
        # Quoted, since `on` and `1e3` are names, too.
        names = f", resourceNames: {json.dumps(self.names)}" if self.names else ""
        verbs = f"verbs: [{', '.join(self.verbs)}]"
        return f'{{apiGroups: ["{self.group}"], resources: [{self.resource}]{names}, {verbs}}}'


def roles_of(uses: Iterable[Use], service: str) -> dict[str, tuple[RoleRule, ...]]:
    """Namespace -> the rules that the user of the service `service` needs in it."""
    spaces: dict[str, dict[tuple[str, str, str], set[str] | None]] = {}
    for use in uses:
        if service in use.services and issubclass(use.action, KubernetesStep):
            _take(spaces.setdefault(str(use.with_["namespace"]), {}), use, use.action)
    return {namespace: _merged(needed) for namespace, needed in sorted(spaces.items())}


def _take(needed: dict[tuple[str, str, str], set[str] | None], use: Use, action: type[KubernetesStep]) -> None:
    """What one use needs, added: (group, resource, verb) -> the names of its objects, None for all of them."""
    for group, resource, verbs in action.rules_for(use.with_):
        names = _names(use, resource.partition("/")[0])
        for verb in verbs:
            key = (group, resource, verb)
            known = needed.get(key, set())
            if names is None or verb not in _BY_NAME or known is None:
                needed[key] = None
            elif names:
                needed[key] = known | set(names)


def _names(use: Use, resource: str) -> tuple[str, ...] | None:
    """The names of the objects that a use can mean; None where only the alert knows."""
    written = use.with_.get(_NAMED_BY.get(resource, ""))
    known = values_of(written, use.runbook.inputs) if isinstance(written, str) else None
    if known is None:
        return None
    pairs = [one.rpartition("/") for one in known]
    return tuple(name for kind, _, name in pairs if not kind or f"{kind}s" == resource)


def _merged(needed: Mapping[tuple[str, str, str], set[str] | None]) -> tuple[RoleRule, ...]:
    together: dict[tuple[str, str, tuple[str, ...]], set[str]] = {}
    for (group, resource, verb), names in needed.items():
        together.setdefault((group, resource, tuple(sorted(names or ()))), set()).add(verb)
    return tuple(
        RoleRule(group, resource, tuple(sorted(verbs, key=_VERBS.index)), names)
        for (group, resource, names), verbs in sorted(together.items())
    )


def all_rules(actions: Iterable[type[Action]]) -> tuple[RoleRule, ...]:
    """The rules of a Role for everything that these actions can do."""
    needed: dict[tuple[str, str, str], set[str] | None] = {}
    for action in actions:
        for group, resource, verbs in action.rules if issubclass(action, KubernetesStep) else ():
            needed.update(dict.fromkeys(((group, resource, verb) for verb in verbs), None))
    return _merged(needed)


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def grants_of(uses: Iterable[Use], service: str) -> tuple[str, ...]:
    """The statements that give the role of the service `service` its rights; `{role}` stands for the role."""
    return tuple(dict.fromkeys(grant for use in uses if service in use.services for grant in use.action.grants))


# --- Redis ------------------------------------------------------------------------------------------------------------


SAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "client|list": ("CLIENT", "LIST", "TYPE", "master"),
    "exists": ("EXISTS", "{}"),
    "getrange": ("GETRANGE", "{}", "0", "0"),
    "hgetall": ("HGETALL", "{}"),
    "hlen": ("HLEN", "{}"),
    "hmget": ("HMGET", "{}", "responder"),
    "info": ("INFO", "server"),
    "latency|history": ("LATENCY", "HISTORY", "command"),
    "publish": ("PUBLISH", "{}", "responder"),
    "role": ("ROLE",),
    "sentinel|ckquorum": ("SENTINEL", "CKQUORUM", "{}"),
    "sentinel|failover": ("SENTINEL", "FAILOVER", "{}"),
    "sentinel|get-master-addr-by-name": ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "{}"),
    "sentinel|master": ("SENTINEL", "MASTER", "{}"),
    "sentinel|replicas": ("SENTINEL", "REPLICAS", "{}"),
    "set": ("SET", "{}", "1"),
    "slowlog|get": ("SLOWLOG", "GET", "1"),
    "ts.range": ("TS.RANGE", "{}", "-", "+", "COUNT", "1"),
    "xrevrange": ("XREVRANGE", "{}", "+", "-", "COUNT", "1"),
}
"""A small example of each command that the actions send; {} is the key, the channel or the master."""
NEVER_SENT: Final = frozenset({"hgetall", "publish", "sentinel|failover", "set"})
"""What changes something, or answers without a bound: the server may be asked about it, and is never sent it."""


@dataclass(frozen=True, slots=True)
class AclRights:
    """What a user of Redis or of Sentinel must be allowed; keys and channels are patterns."""

    commands: tuple[str, ...]
    keys: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.commands)

    def line(self, user: str) -> str:
        """The command that makes a user with these rights and no others. PASSWORD is to be replaced."""
        patterns = [f"~{key}" for key in self.keys] + [f"&{channel}" for channel in self.channels]
        commands = [f"+{command}" for command in self.commands]
        return " ".join(["ACL SETUSER", user, "reset on >PASSWORD", *patterns, "-@all", *commands])


def server_rights(uses: Iterable[Use], name: str, service: RedisService | RedisSentinelService) -> AclRights:
    """What the user on the Redis servers of the service `name` needs."""
    mine = [(use, use.action) for use in uses if name in use.services and issubclass(use.action, RedisStep)]
    commands = dict.fromkeys(command for _, action in mine for command in action.commands)
    if commands and _database(service):
        commands["select"] = None
    keys = {p for use, action in mine for field in action.keys for p in _patterns(use, field)}
    channels = {p for use, action in mine for field in action.channels for p in _patterns(use, field)}
    return AclRights(tuple(sorted(commands)), tuple(sorted(keys)), tuple(sorted(channels)))


def sentinel_rights(uses: Iterable[Use], name: str) -> AclRights:
    """What the user on the Sentinels of the service `name` needs."""
    mine = [use.action for use in uses if name in use.services and issubclass(use.action, RedisStep)]
    return AclRights(tuple(sorted({command for action in mine for command in action.sentinel_commands})))


def sent_to_servers(uses: Iterable[Use], name: str) -> tuple[tuple[str, str], ...]:
    """What the uses of the service `name` send to its servers: each command with each pattern of a key or channel that
    its action has, "" for none."""
    found: dict[tuple[str, str], None] = {}
    for use in uses:
        if name in use.services and issubclass(use.action, RedisStep):
            fields = (*use.action.keys, *use.action.channels)
            patterns = [pattern for field in fields for pattern in _patterns(use, field)]
            found |= dict.fromkeys(product(use.action.commands, patterns or [""]))
    return tuple(found)


def _database(service: RedisService | RedisSentinelService) -> int:
    if isinstance(service, RedisSentinelService):
        return service.database
    return int(urlsplit(service.url).path.strip("/") or 0)


def _patterns(use: Use, field: str) -> Iterator[str]:
    """The patterns of what the field can hold."""
    text = str(use.with_.get(field, use.action.model_fields[field].default))
    known = values_of(text, use.runbook.inputs)
    if known is not None:
        yield from map(_literally, known)
        return
    parts = _placeholder.split(text)
    yield "".join(_literally(part) if index % 2 == 0 else "*" for index, part in enumerate(parts))


def _literally(text: str) -> str:
    """A pattern that this text matches. A pattern cannot hold a space, nor a line of it what is not printable: `?`."""
    return _unwritable.sub("?", _special.sub(r"\\\1", text))
