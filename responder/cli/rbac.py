"""`responder rbac`: the least rights that the loaded runbooks need, as what an administrator applies.

Nothing is asked and nothing is changed: it is read off the runbooks and the actions that they use. Whether the services
grant it is what `responder doctor` finds out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from responder.cli.options import Config, Json, config_file

if TYPE_CHECKING:
    from responder.contracts import Service
    from responder.rights import AclRights, RoleRule, Use

USER: Final = "responder"
"""What a user is called where the configuration names none."""
SUBJECT: Final = "system:serviceaccount:responder:responder"

Kubernetes = Annotated[bool, typer.Option("--kubernetes", help="Only the Roles and RoleBindings.")]
Postgres = Annotated[bool, typer.Option("--postgres", help="Only the grants of PostgreSQL.")]
Redis = Annotated[bool, typer.Option("--redis", help="Only the users of Redis and of Sentinels.")]
Subject = Annotated[
    str,
    typer.Option(
        metavar="USER", help="Who gets the Roles: system:serviceaccount:NAMESPACE:NAME, or the name of a user."
    ),
]


@dataclass(frozen=True, slots=True)
class Role:
    """A Role of the service's cluster, in one namespace."""

    service: str
    namespace: str
    rules: tuple[RoleRule, ...]


@dataclass(frozen=True, slots=True)
class Grants:
    """The statements of one PostgreSQL service, to be run in its database."""

    service: str
    url: str
    role: str
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AclUser:
    """A user of Redis. `of`: `servers` or `sentinels`; `named`: the configuration names the user; `optional`: what for
    -> the command that allows it as well."""

    service: str
    of: str
    named: bool
    line: str
    optional: Mapping[str, str]


_DRY: Final = {"acl|dryrun": "so that `responder doctor` can prove each right without using it (Redis 7)"}
_FOR_DOCTOR: Final[Mapping[str, Mapping[str, str]]] = {
    "servers": {"time": "so that `responder doctor` can compare the clocks", **_DRY},
    "sentinels": {"sentinel|replicas": "so that `responder doctor` can look at the replicas", **_DRY},
}
"""What no runbook needs, and why it is worth having."""

Found = Role | Grants | AclUser


def command(
    kubernetes: Kubernetes = False,
    postgres: Postgres = False,
    redis: Redis = False,
    subject: Subject = SUBJECT,
    config: Config = None,
    json: Json = False,
) -> None:
    """Print the least rights that the loaded runbooks need: Roles, GRANTs, ACL users, to be copied and applied.

    \b
    responder rbac --kubernetes | kubectl apply -f -
    responder rbac --postgres

    Runbooks count in whatever mode they are, so that raising it needs no new rights.
    """
    from responder.cli.output import print_json

    asked = {"kubernetes": kubernetes, "postgres": postgres, "redis": redis}
    wanted = [kind for kind, named in asked.items() if named] or list(asked)
    services, uses = _loaded(config)
    found = {kind: list(_FINDERS[kind](services, uses)) for kind in wanted}
    if json:
        print_json({kind: [asdict(one) for one in each] for kind, each in found.items()})
        return
    written = [_WRITERS[kind](one, subject) for kind, each in found.items() for one in each]
    print("\n\n".join(written) or "# the loaded runbooks use no cluster, no PostgreSQL and no Redis of these")


def _loaded(config: Any) -> tuple[Mapping[str, Service], tuple[Use, ...]]:
    """Raises BadConfig and BadRules."""
    from responder.app import CATALOGUE
    from responder.config import load_config
    from responder.loader import load_rules
    from responder.rights import uses_of
    from responder.sources import Folders, read_sources, shipped_rules

    settings = load_config(config_file(config), CATALOGUE, os.environ)
    sources = read_sources(settings.rules, Folders(shipped_rules(), settings.folder))
    rules = load_rules(sources, CATALOGUE, settings).rules
    return settings.services, uses_of(rules.runbooks.values(), CATALOGUE.actions, settings.parameters)


# --- what is needed ---------------------------------------------------------------------------------------------------


def _roles(services: Mapping[str, Service], uses: tuple[Use, ...]) -> Iterator[Role]:
    from responder.rights import roles_of

    for name in services:
        for namespace, rules in roles_of(uses, name).items():
            yield Role(name, namespace, rules)


def _grants(services: Mapping[str, Service], uses: tuple[Use, ...]) -> Iterator[Grants]:
    from responder.postgres_statements import identifier
    from responder.rights import grants_of
    from responder.services import PostgresService

    for name, service in services.items():
        given = grants_of(uses, name)
        if given and isinstance(service, PostgresService):
            statements = tuple(f"{grant.format(role=identifier(service.username))};" for grant in given)
            yield Grants(name, service.url, service.username, statements)


def _users(services: Mapping[str, Service], uses: tuple[Use, ...]) -> Iterator[AclUser]:
    from responder.rights import sentinel_rights, server_rights
    from responder.services import RedisSentinelService, RedisService

    for name, service in services.items():
        if isinstance(service, RedisService | RedisSentinelService):
            yield from _user(name, "servers", service.username, server_rights(uses, name, service))
        if isinstance(service, RedisSentinelService):
            yield from _user(name, "sentinels", service.sentinel_username, sentinel_rights(uses, name))


def _user(service: str, of: str, username: str | None, rights: AclRights) -> Iterator[AclUser]:
    """`default` is whoever names no user: it must not lose what others need of it."""
    named = username not in (None, "default")
    if rights:
        name = username if named and username else USER
        asked = {why: right for right, why in _FOR_DOCTOR[of].items() if right not in rights.commands}
        optional = {why: f"ACL SETUSER {name} +{right}" for why, right in asked.items()}
        yield AclUser(service, of, named, rights.line(name), optional)


_FINDERS: Final[Mapping[str, Any]] = {"kubernetes": _roles, "postgres": _grants, "redis": _users}


# --- how it is written ------------------------------------------------------------------------------------------------


def _role(role: Role, subject: str) -> str:
    """Both objects as YAML."""
    words = subject.split(":")
    if subject.startswith("system:serviceaccount:") and len(words) == 4:
        who = f"{{kind: ServiceAccount, name: {words[3]}, namespace: {words[2]}}}"
    else:
        who = f"{{kind: User, name: {_yaml(subject)}, apiGroup: rbac.authorization.k8s.io}}"
    return "\n".join([
        f"# service {role.service}, namespace {role.namespace}",
        "---",
        "apiVersion: rbac.authorization.k8s.io/v1",
        "kind: Role",
        f"metadata: {{name: {USER}, namespace: {_yaml(role.namespace)}}}",
        "rules:",
        *(f"  - {rule.line}" for rule in role.rules),
        "---",
        "apiVersion: rbac.authorization.k8s.io/v1",
        "kind: RoleBinding",
        f"metadata: {{name: {USER}, namespace: {_yaml(role.namespace)}}}",
        f"roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {USER}}}",
        f"subjects: [{who}]",
    ])  # fmt: skip


def _yaml(text: str) -> str:
    """Quoted, whatever it contains: JSON is YAML."""
    import json

    return json.dumps(text)


def _sql(grants: Grants, _subject: str) -> str:
    return "\n".join([
        f"-- service {grants.service}: in the database of {grants.url}, on its primary",
        *grants.statements,
    ])  # fmt: skip


def _acl(user: AclUser, _subject: str) -> str:
    key = "sentinel_username" if user.of == "sentinels" else "username"
    where = "every Sentinel" if user.of == "sentinels" else "every server"
    lacking = "" if user.named else f"\n# it names no user: add `{key}: {USER}` with its password to the service"
    optional = "".join(f"\n# optional, {why}:\n# {line}" for why, line in user.optional.items())
    return f"# service {user.service}: on {where}{lacking}\n{user.line}{optional}"


_WRITERS: Final[Mapping[str, Any]] = {"kubernetes": _role, "postgres": _sql, "redis": _acl}
