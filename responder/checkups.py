"""What can be found out about a configured service without changing anything: is it there, does it let us do what the
loaded runbooks do, and does its clock agree with ours.

Every request here only asks. What a service does not tell before a change is sent (whether an HTTP API takes our POST)
is said to be unknown, never tried. One that does not answer in time, or is broken, keeps no other from being looked at.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

from responder import postgres_statements as sql
from responder.command_processes import CommandConnection, checked, checked_folder
from responder.connections import AnyConnection, HttpConnection
from responder.contracts import Clock, Parameter
from responder.errors import Permanent, ResponderError
from responder.failover_patience import judged, tried
from responder.http_calls import SAFE_METHODS, HttpAnswer, HttpCall
from responder.kubernetes_calls import ACCESS_REVIEWS, KubernetesAnswer, KubernetesCall
from responder.kubernetes_connections import KubernetesConnection
from responder.postgres_connections import PostgresConnection, PostgresSession, SqlCall
from responder.redis_connections import RedisCall, RedisConnection
from responder.redis_replies import Reply, list_of, text_of
from responder.rights import NEVER_SENT, SAMPLES, RoleRule, Use, grants_of, roles_of, sent_to_servers, sentinel_rights
from responder.sentinel_connections import SentinelConnection
from responder.timing import SECOND, humanize
from responder.workloads import part

PATIENCE: Final = 10.0
"""Seconds for all that is asked of one service."""
EACH: Final = 5.0
"""Seconds for one request."""
SKEW: Final = 5 * SECOND
"""Clocks that differ by more are wrong: signatures are refused and samples look older or younger than they are."""

_PRIVILEGES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"GRANT EXECUTE ON FUNCTION (.+) TO \{role\}"), sql.MAY_EXECUTE),
    (re.compile(r"GRANT (\w+) TO \{role\}"), sql.HAS_ROLE),
)
"""How it is asked whether a grant was given."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer. `good` None: neither, only worth knowing."""

    what: str
    good: bool | None
    says: str


@dataclass(frozen=True, slots=True)
class Needs:
    """What the loaded runbooks do with services: `uses` of actions, and the `parameters` that they lower."""

    uses: tuple[Use, ...]
    parameters: Mapping[str, Parameter]


async def looked_over(name: str, connection: AnyConnection, needs: Needs, now: Clock) -> list[Finding]:
    """What is found about one service, within PATIENCE. Raises nothing."""
    what = f"service {name}"
    found: list[Finding] = []

    def wrong(says: str) -> list[Finding]:
        return [*found, Finding(what, good=False, says=says)]

    try:
        async with asyncio.timeout(PATIENCE):
            async for good, says in _look(name, connection, needs, now):
                found.append(Finding(what, good, says))
    except ResponderError as error:
        return wrong(str(error))
    except TimeoutError:
        return wrong(f"no answer within {PATIENCE:g} s; check that it runs, and the network between")
    except Exception as error:  # noqa: BLE001  one broken service must not keep the others from being looked at
        return wrong(f"{type(error).__name__}: a mistake of the responder; report it")
    return found


Says = AsyncIterator[tuple[bool | None, str]]


def _look(name: str, connection: AnyConnection, needs: Needs, now: Clock) -> Says:
    mine = tuple(use for use in needs.uses if name in use.services)
    if isinstance(connection, KubernetesConnection):
        return _kubernetes(connection, mine, now)
    if isinstance(connection, PostgresConnection):
        return _postgres(connection, mine, now)
    if isinstance(connection, RedisConnection):
        return _redis(connection, mine, now)
    if isinstance(connection, SentinelConnection):
        return _sentinels(connection, mine, now)
    if isinstance(connection, CommandConnection):
        return _command(connection, mine)
    return _HTTP.get(connection.service.kind, _http)(connection, Needs(mine, needs.parameters), now)


def _unused(mine: Sequence[Use]) -> Iterator[tuple[None, str]]:
    if not mine:
        yield None, "no loaded runbook uses it"


# --- clocks -----------------------------------------------------------------------------------------------------------


def apart(theirs: int, resolution: int, before: int, after: int) -> int:
    """How far a clock that said `theirs`, cut to `resolution`, is from ours, which went from `before` to `after`
    meanwhile: above 0 it is ahead. All in µs."""
    if theirs > after:
        return theirs - after
    return min(0, theirs + resolution - before)


def _clock(theirs: int | None, resolution: int, before: int, after: int) -> tuple[bool | None, str]:
    """What a service's clock says of ours. None: it does not tell its time."""
    if theirs is None:
        return None, "it does not tell its time, so nothing is known of its clock"
    skew = apart(theirs, resolution, before, after)
    if abs(skew) <= SKEW:
        return True, f"its clock agrees with ours within {humanize(SKEW)}"
    ahead = "ahead of" if skew > 0 else "behind"
    return False, f"its clock is {humanize(abs(skew))} {ahead} ours: set both by NTP"


def _date(headers: Mapping[str, str]) -> int | None:
    try:
        return int(parsedate_to_datetime(headers.get("date", "")).timestamp()) * SECOND
    except ValueError:
        return None


# --- HTTP -------------------------------------------------------------------------------------------------------------


async def _answer(connection: HttpConnection, call: HttpCall, now: Clock) -> tuple[HttpAnswer, tuple[bool | None, str]]:
    """The answer, whatever its status, and what it says of the clocks."""
    before = now()
    answer = await connection.send(call, EACH)
    return answer, _clock(_date(answer.headers), SECOND, before, now())


async def _prometheus(connection: HttpConnection, needs: Needs, now: Clock) -> Says:
    call = HttpCall("POST", "/api/v1/query", form={"query": "vector(1)"}, reads=True)
    answer, clock = await _answer(connection, call, now)
    body = answer.checked(now()).body
    if part(body, "status") != "success":
        raise Permanent(f"{answer.place}: no answer of a Prometheus; check the service's url")
    yield True, "it answers queries"
    yield clock
    for one in _unused(needs.uses):
        yield one


async def _alertmanager(connection: HttpConnection, needs: Needs, now: Clock) -> Says:
    answer, clock = await _answer(connection, HttpCall("GET", "/api/v2/status"), now)
    version = part(answer.checked(now()).body, "versionInfo", "version")
    if not isinstance(version, str):
        raise Permanent(f"{answer.place}: no answer of an Alertmanager; check the service's url")
    yield True, f"it is Alertmanager {version}"
    yield clock
    if needs.uses:
        call = HttpCall("GET", "/api/v2/silences", params={"filter": 'alertname="responder-doctor"'})
        (await connection.send(call, EACH)).checked(now())
        yield True, "its silences can be read"
        yield None, "whether it takes a silence of ours is known only when one is made"
    for one in _unused(needs.uses):
        yield one


async def _http(connection: HttpConnection, needs: Needs, now: Clock) -> Says:
    reads, unknown = _requests(connection.name, needs)
    if not reads:
        answer, clock = await _answer(connection, HttpCall("GET", "/"), now)
        if answer.status in {401, 403}:
            yield None, f"it answers / with {answer.status}: whether it knows our credential there is not known"
        else:
            yield True, f"it answers (/ with {answer.status})"
        yield clock
    for index, call in enumerate(reads):
        try:
            answer, clock = await _answer(connection, call, now)
            answer.checked(now())
        except ResponderError as error:
            yield False, str(error)
            continue
        yield True, f"GET {call.path}: answers {answer.status}"
        if index == 0:
            yield clock
    if unknown:
        yield None, f"known only when it is sent: {', '.join(unknown)}"
    for one in _unused(needs.uses):
        yield one


def _requests(name: str, needs: Needs) -> tuple[list[HttpCall], list[str]]:
    """What can be read now, and what is known only when it is sent: changes, and paths that an alert completes."""
    paths: dict[str, Mapping[str, Any]] = {}
    unknown: dict[str, None] = {}
    lowered = {str(use.with_.get("parameter")) for use in needs.uses}
    for parameter in (p for n, p in needs.parameters.items() if p.service == name and n in lowered):
        paths[parameter.read.path] = {}
        writes = [parameter.write] + ([parameter.restore] if parameter.restore is not None else [])
        unknown |= dict.fromkeys(f"{write.method} {write.path}" for write in writes)
    for use in needs.uses:
        probe = use.with_.get("probe")
        method, path = str(use.with_.get("method", "GET")), use.with_.get("path")
        asked = [(method, path, use.with_.get("params"))] if isinstance(path, str) else []
        asked += [("GET", str(probe["path"]), None)] if isinstance(probe, Mapping) else []
        for verb, where, params in asked:
            # With headers or statuses of its own it is no plain question any more.
            plain = "{{" not in f"{where}{params}" and not use.with_.get("headers")
            if verb in SAFE_METHODS and plain and not use.with_.get("expect_status"):
                paths[str(where)] = params if isinstance(params, Mapping) else {}
            else:
                unknown[f"{verb} {where}"] = None
    return [HttpCall("GET", path, params=params) for path, params in paths.items()], list(unknown)


_HTTP: Final[Mapping[str, Callable[[HttpConnection, Needs, Clock], Says]]] = {
    "prometheus": _prometheus,
    "alertmanager": _alertmanager,
}


# --- Kubernetes -------------------------------------------------------------------------------------------------------


async def _kubernetes(connection: KubernetesConnection, mine: Sequence[Use], now: Clock) -> Says:
    spaces = roles_of(mine, connection.name)
    before = now()
    probe = RoleRule("", "pods", ("list",))
    first, _ = await _reviewed(connection, connection.service.namespaces[0], probe, "list", "", now)
    yield True, "it answers, and knows us"
    yield _clock(_date(first.headers), SECOND, before, now())
    for namespace, rules in spaces.items():
        try:
            asked = await asyncio.gather(*(_denied(connection, namespace, rule, now) for rule in rules))
        except ResponderError as error:
            yield False, str(error)
            continue
        denied = [rule for rule in asked if rule is not None]
        for rule in denied:
            yield False, f"its user may not do this in {namespace}; add to its Role (responder rbac): {rule.line}"
        if not denied:
            yield True, f"its user may do all that the runbooks do in {namespace}"
    for one in _unused(mine):
        yield one


async def _denied(connection: KubernetesConnection, namespace: str, rule: RoleRule, now: Clock) -> RoleRule | None:
    """What of a rule the user lacks. Raises Temporary, Permanent."""
    pairs = [(verb, name) for verb in rule.verbs for name in rule.names or ("",)]
    asked = await asyncio.gather(*(_reviewed(connection, namespace, rule, verb, name, now) for verb, name in pairs))
    lacking = [pair for pair, (_, allowed) in zip(pairs, asked, strict=True) if not allowed]
    verbs = tuple(dict.fromkeys(verb for verb, _ in lacking))
    names = tuple(dict.fromkeys(name for _, name in lacking if name))
    return RoleRule(rule.group, rule.resource, verbs, names) if lacking else None


async def _reviewed(
    connection: KubernetesConnection, namespace: str, rule: RoleRule, verb: str, name: str, now: Clock
) -> tuple[KubernetesAnswer, bool]:
    """Whether the cluster would allow it: a SelfSubjectAccessReview, which stores nothing."""
    plural, _, subresource = rule.resource.partition("/")
    wanted = {"namespace": namespace, "verb": verb, "group": rule.group, "resource": plural}
    more = {"subresource": subresource, "name": name}
    attributes = {**wanted, **{key: value for key, value in more.items() if value}}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    call = KubernetesCall(
        "create", ACCESS_REVIEWS, namespace, body={**body, "spec": {"resourceAttributes": {**attributes}}}, reads=True
    )
    answer = (await connection.send(call, EACH)).checked(now())
    return answer, part(answer.object, "status", "allowed") is True


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


async def _postgres(connection: PostgresConnection, mine: Sequence[Use], now: Clock) -> Says:
    async with connection.session(EACH) as session:
        before = now()
        (row,) = await session.ask(SqlCall("who we are", sql.CHECKUP))
        after = now()
        yield True, f"it is a {'standby' if row['recovery'] else 'primary'}, and knows us as {row['role']}"
        yield _clock(row["now"], 0, before, after)
        grants = grants_of(mine, connection.name)
        lacking = [grant for grant in grants if not await _granted(session, grant)]
        for grant in lacking:
            yield False, f"its role lacks a right: {grant.format(role=sql.identifier(row['role']))} (responder rbac)"
        if grants and not lacking:
            yield True, "its role has every right that the runbooks need"
    if connection.patroni is not None:
        (await connection.patroni.send(HttpCall("GET", "/cluster"), EACH)).checked(now())
        yield True, "its Patroni answers GET /cluster, for which it asks nobody who they are"
        yield None, "whether its Patroni takes our POST is not proven: that is known only when a promotion is sent"
    for one in _unused(mine):
        yield one


async def _granted(session: PostgresSession, grant: str) -> bool:
    """Raises Permanent where the server does not know the right at all."""
    found = ((pattern.fullmatch(grant), statement) for pattern, statement in _PRIVILEGES)
    right, statement = next((match[1], statement) for match, statement in found if match is not None)
    (row,) = await session.ask(SqlCall(f"whether we have {right}", statement, {"right": right}))
    return row["has"] is True


# --- Redis ------------------------------------------------------------------------------------------------------------

Ask = Callable[[RedisCall], Any]

_NO_TIME: Final = "its clock was not compared: allow +time"
_DRY_RUN: Final = "allow +acl|dryrun (Redis 7), and the server is asked instead"


async def _redis(connection: RedisConnection, mine: Sequence[Use], now: Clock) -> Says:
    async def ask(call: RedisCall) -> Reply:
        return await connection.send(call, EACH)

    async for one in _server(ask, connection.service.username, sent_to_servers(mine, connection.name), now):
        yield one
    for one in _unused(mine):
        yield one


async def _server(ask: Ask, username: str | None, sends: Sequence[tuple[str, str]], now: Clock) -> Says:
    before = now()
    try:
        told = list_of(await ask(RedisCall(("TIME",))))
    except Permanent as error:
        if "does not know us" in str(error) or "nothing was sent" in str(error):
            raise
        told = []  # the user may do other things, but not this
    time = int(text_of(told[0])) * SECOND + int(text_of(told[1])) if len(told) == 2 else None
    yield True, "it answers, and knows us"
    yield _clock(time, 0, before, now()) if time is not None else (None, _NO_TIME)
    async for one in _allowed(ask, username, sends):
        yield one


async def _allowed(ask: Ask, username: str | None, sends: Sequence[tuple[str, str]]) -> Says:
    """Whether the user may send all this: by ACL DRYRUN where we may use it, else by reading what only reads."""
    user = username or "default"
    dry = await _dry(ask, user)
    unknown: list[str] = []
    wrong = False
    for command, pattern in sends:
        words = tuple(word.replace("{}", _example(pattern)) for word in SAMPLES[command])
        about = f"{command} {pattern}".strip() if "{}" in SAMPLES[command] else command
        if not dry and command in NEVER_SENT:
            unknown.append(about)
            continue
        try:
            reply = await ask(RedisCall(("ACL", "DRYRUN", user, *words) if dry else words))
            says = text_of(reply) if dry and text_of(reply) != "OK" else ""
        except Permanent as error:
            says = str(error)
        if says:
            wrong = True
            yield False, f"{says}: allow +{command} with its key or channel (responder rbac)"
    if sends and not wrong and len(unknown) < len(sends):
        yield True, f"its user may do {'all' if not unknown else 'the rest of all'} that the runbooks do"
    if unknown:
        listed = ", ".join(dict.fromkeys(unknown))
        yield None, f"not proven, since only doing it would show it: {listed}; {_DRY_RUN}"


async def _dry(ask: Ask, user: str) -> bool:
    try:
        await ask(RedisCall(("ACL", "DRYRUN", user, "PING")))
    except Permanent:
        return False
    return True


def _example(pattern: str) -> str:
    """A text that the pattern fits."""
    return re.sub(r"\\(.)|\*|\?", lambda found: found[1] or ("responder" if found[0] == "*" else "_"), pattern)


async def _sentinels(connection: SentinelConnection, mine: Sequence[Use], now: Clock) -> Says:
    name = connection.service.master
    rights = sentinel_rights(mine, connection.name)
    sends = [(command, name if "sentinel" in command else "") for command in rights.commands]
    each = (_sentinel(connection, sentinel, sends) for sentinel in connection.service.sentinels)
    for found in await asyncio.gather(*each):
        for one in found:
            yield one
    for patience in await _patience(connection, mine):
        yield patience
    address = await connection.master(EACH)
    sent = sent_to_servers(mine, connection.name)
    for one in await _behind_sentinels(connection, f"master {address}", address, sent, now):
        yield one
    told = await connection.replicas(EACH)
    replicas = sorted({replica.address for views in told.values() for replica in views} - {address})
    if not replicas:
        yield None, "no Sentinel tells of a replica, so none was looked at: start one, or allow +sentinel|replicas"
    # A replica inherits no users: one that is missing there would show only in the outage.
    for found in await asyncio.gather(
        *(_behind_sentinels(connection, f"replica {one}", one, sent, now) for one in replicas)
    ):
        for one in found:
            yield one
    for unused in _unused(mine):
        yield unused


async def _behind_sentinels(
    connection: SentinelConnection, what: str, address: str, sends: Sequence[tuple[str, str]], now: Clock
) -> list[tuple[bool | None, str]]:
    """What is found about one server; one that is away or does not know us is a finding."""

    async def ask(call: RedisCall) -> Reply:
        return await connection.ask(address, call, EACH)

    try:
        looked = _server(ask, connection.service.username, sends, now)
        return [(good, f"{what}: {says}") async for good, says in looked]
    except ResponderError as error:
        cure = "each server has users of its own, so set ours there as well (responder rbac)"
        return [(False, f"{what}: {error}; {cure}" if isinstance(error, Permanent) else f"{what}: {error}")]


async def _sentinel(
    connection: SentinelConnection, sentinel: str, sends: Sequence[tuple[str, str]]
) -> list[tuple[bool | None, str]]:
    """What is found about one Sentinel; one that is away is a finding, and the others are looked at all the same."""

    async def ask(call: RedisCall) -> Reply:
        return await connection.ask_sentinel(sentinel, call, EACH)

    found: list[tuple[bool | None, str]] = []
    try:
        await ask(RedisCall(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", connection.service.master)))
        found.append((True, "it answers, and knows us"))
        found += [one async for one in _allowed(ask, connection.service.sentinel_username, sends)]
    except ResponderError as error:
        found.append((False, str(error)))
    return [(good, says if good is False else f"Sentinel {sentinel}: {says}") for good, says in found]


async def _patience(connection: SentinelConnection, mine: Sequence[Use]) -> list[tuple[bool | None, str]]:
    """Whether the steps that fail over are tried for longer than the Sentinels need to call a dead master down."""
    steps = tried(mine, connection.name)
    notice = (await connection.views(EACH)).down_after if steps else 0
    return list(judged(steps, notice)) if notice else []


# --- commands ---------------------------------------------------------------------------------------------------------


async def _command(connection: CommandConnection, mine: Sequence[Use]) -> Says:
    folder = connection.service.folder
    checked_folder(folder)
    yield True, f"{folder} is there, and nobody but root and us may write it"
    wrong = False
    for command in dict.fromkeys(name for use in mine for name in _executables(use)):
        try:
            checked(folder, command)
        except Permanent as error:
            wrong = True
            yield False, str(error)
    if mine and not wrong:
        yield True, "every executable that the runbooks use can be run"
    for one in _unused(mine):
        yield one


def _executables(use: Use) -> Iterator[str]:
    probe = use.with_.get("probe")
    for where in (use.with_, probe if isinstance(probe, Mapping) else {}):
        if isinstance(where.get("command"), str):
            yield str(where["command"])
