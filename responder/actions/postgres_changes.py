"""What is changed in PostgreSQL: statements that are ended, and a standby that is promoted.

Both fix at `prepare` what they will touch, so that people approve exactly that, and both look again at `act`: a session
that has gone on to something else is left alone, a server that is primary already is not promoted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, JsonValue, model_validator

from responder import postgres_statements as sql
from responder.contracts import Action, Context, Output, Parameter, Probe
from responder.errors import HeldBack, Permanent, ResponderError, Temporary, Unknown
from responder.http_calls import HttpAnswer, HttpCall
from responder.last_look import Clear
from responder.postgres_connections import PostgresConnection, PostgresSession, SqlCall
from responder.recorded import Effect, Plan, ProbeAnswer
from responder.timing import SECOND, format_duration
from responder.written import Duration

ALWAYS_SPARED: Final = ("responder", "responder/*", "pg_dump*", "pg_restore*", "pg_basebackup*", "pg_receivewal*")
"""Applications that no step ever ends: ours, and those whose work is lost as a whole."""
GONE_WITHIN: Final = 2000
"""Milliseconds that a terminated session has to be gone; its transaction may take longer to be rolled back."""

_SHARE: Final = 0.8
"""Share of the step's timeout within which a promotion by Patroni is awaited; what is known then is told."""

Application = Annotated[str, Field(min_length=2, max_length=63, pattern=r"^[^*]+\*?$")]
Role = Annotated[str, Field(min_length=1, max_length=63)]


class PostgresTerminateQueries(Action):
    """End statements that run for too long, of users that are allowed, within narrow limits.

    - `service`: a service of kind `postgres`.
    - `users`: whose statements may be ended; all others are left alone. Never superusers.
    - `spared`: applications (application_name) that are never touched, such as `order-entry`; a `*` at the end stands
      for anything. Backups, our own sessions and sessions without a name are always spared.
    - `older_than`: from which age on, at least 1s.
    - `at_most`: how many at a time, at most 20, the oldest first. Default 5.
    - `state`: `active` (default), or `idle in transaction`: then the age is how long it has been idle.
    - `how`: `cancel` (default) ends the statement, `terminate` the session; an idle one can only be terminated.

    Effect class `probed`. Which statements is fixed when the step is prepared; nobody else is touched afterwards. With
    an approval they are those that people saw: one that has ended meanwhile is left out, one that came up since is not
    touched, and people are asked again only when none of them is left. Each
    is ended by a statement of its own that names the process, its start, the statement's start and its text: a process
    id that was used again, or a session that has gone on to its next statement, is left alone. Walsenders, autovacuum,
    VACUUM, ANALYZE, indexes being built and other DDL are never ended. The probe asks whether they are gone.

    `expect` sees `value.ended`, `value.ending` (told to end, still rolling back), `value.left` (gone on by themselves),
    `value.refused`, and `value.held`: how many were left alone because automation was paused after the first of them.
    It cannot be undone: a transaction that is ended is rolled back.

    Needs of its role: `GRANT pg_monitor, pg_signal_backend`. The second alone sees nothing, and would end nothing.

    ```yaml
    - id: end_reports
      action: postgres.terminate_queries
      with:
        service: db
        users: [reporting]
        spared: [order-entry, 'oms*']
        older_than: 30s
      timeout: 20s
    ```
    """

    kinds: ClassVar[tuple[str, ...]] = ("postgres",)
    grants: ClassVar[tuple[str, ...]] = ("GRANT pg_monitor TO {role}", "GRANT pg_signal_backend TO {role}")
    positions: ClassVar[Mapping[str, str]] = {
        "service": "literal", "users": "literal", "spared": "literal", "older_than": "literal", "at_most": "literal",
        "state": "literal", "how": "literal",
    }  # fmt: skip

    service: str
    users: Annotated[tuple[Role, ...], Field(min_length=1, max_length=20)]
    spared: Annotated[tuple[Application, ...], Field(min_length=1, max_length=50)]
    older_than: Annotated[Duration, Field(ge=SECOND)]
    at_most: Annotated[int, Field(ge=1, le=20)] = 5
    state: Literal["active", "idle in transaction"] = "active"
    how: Literal["cancel", "terminate"] = "cancel"

    @model_validator(mode="after")
    def _fits(self) -> PostgresTerminateQueries:
        if self.state != "active" and self.how == "cancel":
            raise ValueError("an idle transaction has no statement to cancel: write `how: terminate`")
        return self

    def effect(self, keyed: bool) -> Effect:
        """See Action.effect."""
        return Effect.PROBED

    def preview(self) -> str:
        """See Action.preview."""
        age = format_duration(self.older_than)
        return f"{self.how} up to {self.at_most} statements over {age} of {', '.join(self.users)} on {self.service}"

    async def prepare(self, context: Context) -> Plan:
        """Fix whom to end. Raises Permanent where its role would not see them, or may not end them."""
        async with context.service(self.service).session(context.timeout) as session:
            await self._allowed(session)
            found = await session.ask(SqlCall("statements to end", sql.ENDABLE, self._bounds()))
        params: dict[str, JsonValue] = self.model_dump(mode="json")
        plan = Plan(params=params, preview=self.preview(), effect=Effect.PROBED, prepared_at=context.now())
        if not found:
            said = f"no statement of {', '.join(self.users)} on {self.service} is older and may be ended"
            return plan.model_copy(update={"nothing_to_do": f"{said} ({format_duration(self.older_than)})"})
        target = [{k: row[k] for k in ("pid", "backend_start", "query_start", "hash")} for row in found]
        shown = [sql.named_session(row) for row in found]
        more = f", of {found[0]['total']}" if found[0]["total"] > len(found) else ""
        preview = f"{self.how} {len(found)} statements{more} on {self.service}: {'; '.join(shown)}"
        # The ages in `before` grow while people think: a yes is bound to the statements, each for itself.
        parts = tuple("/".join(str(value) for value in one.values()) for one in target)
        return plan.model_copy(update={"preview": preview, "before": [*shown], "target": target, "parts": parts})

    async def act(self, plan: Plan, context: Context) -> Output:
        """End each. Raises Temporary where none was ended; Unknown where some were and the rest is not known."""
        told = {"ended": 0, "ending": 0, "left": 0, "refused": 0, "held": 0}
        why, targets = "", _targets(plan)
        async with context.service(self.service).session(context.timeout, context.key) as session:
            for one in targets:
                try:
                    told[await self._end(session, one, context.clear)] += 1
                except HeldBack as error:
                    if not (told["ended"] or told["ending"]):
                        raise
                    told["held"], why = len(targets) - sum(told.values()), error.why
                    break
                except Permanent as error:
                    told["refused"] += 1
                    why = str(error)
                except Temporary as error:
                    if told["ended"] or told["ending"]:
                        raise Unknown(f"{error}; {_sum(told)}: the rest is not known") from None
                    raise
        if told["refused"] and not told["ended"] and not told["ending"]:
            raise Permanent(why)
        value: dict[str, JsonValue] = {**told}
        return Output(value, f"{self.service}: {_sum(told)}{f' ({why})' if why else ''}", context.now())

    async def probe(self, plan: Plan, context: Context) -> Probe:
        """Are they gone? While one is there it is sent again: the rest of the list is left alone by its own guard."""
        targets = _targets(plan)
        async with context.service(self.service).session(context.timeout) as session:
            await self._allowed(session)
            there = 0
            for one in targets:
                (row,) = await session.ask(SqlCall("are they gone", sql.STILL_THERE, {**one, "state": self.state}))
                there += row["number"]
        if there:
            return Probe(ProbeAnswer.NOT_APPLIED, f"{there} of {len(targets)} statements still run")
        return Probe(ProbeAnswer.APPLIED, f"all {len(targets)} statements are gone")

    async def _allowed(self, session: PostgresSession) -> None:
        """Whether our role sees and may end them. Otherwise nothing would be found, and that would count as success."""
        (rights,) = await session.ask(SqlCall("what our role may do", sql.RIGHTS))
        for right, grant in (("sees", "pg_monitor"), ("signals", "pg_signal_backend")):
            if not rights[right]:
                lacking = "does not see the statements of others" if right == "sees" else "may not end them"
                raise Permanent(f"{self.service}: its role {lacking}: GRANT {grant} TO {rights['role']}")
        known = {row["name"]: row["super"] for row in await session.ask(SqlCall("users", sql.ROLES, self._users()))}
        for user in self.users:
            if known.get(user, True):
                what = "is a superuser, whose sessions are never ended" if user in known else "does not exist there"
                raise Permanent(f"{self.service}: user {user!r} {what}; correct `users`")

    async def _end(self, session: PostgresSession, one: Mapping[str, Any], clear: Clear) -> str:
        """What became of one: ended, ending or left. Raises Temporary, Permanent, Unknown."""
        statement = sql.CANCEL if self.how == "cancel" else sql.TERMINATE
        params = {**self._bounds(), **one, "wait": GONE_WITHIN}
        rows = await session.ask(SqlCall(f"{self.how} {one['pid']}", statement, params, changes=True), clear)
        if not rows:
            return "left"
        return "ended" if rows[0]["gone"] else "ending" if self.how == "terminate" else "left"

    def _users(self) -> dict[str, Any]:
        return {"users": list(self.users)}

    def _bounds(self) -> dict[str, Any]:
        spared = [sql.like(name) for name in (*ALWAYS_SPARED, *self.spared)]
        return {
            **self._users(),
            "spared": spared,
            "state": self.state,
            "older": self.older_than / SECOND,
            "count": self.at_most,
        }


def _targets(plan: Plan) -> list[dict[str, Any]]:
    """Raises Permanent for a plan that this action cannot have made."""
    if not isinstance(plan.target, list) or not all(isinstance(one, dict) for one in plan.target):
        raise Permanent("the plan names no statements; nothing was ended: start the run again")
    return [dict(one) for one in plan.target if isinstance(one, dict)]


def _sum(told: Mapping[str, int]) -> str:
    words = {
        "ended": "ended",
        "ending": "told to end",
        "left": "gone on by themselves",
        "refused": "refused",
        "held": "held back",
    }
    return ", ".join(f"{count} {words[name]}" for name, count in told.items() if count) or "none ended"


# --- promotion --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """What a candidate said."""

    name: str
    recovery: bool
    timeline: int
    received: int
    behind: int
    receiver: str | None

    @classmethod
    def of(cls, name: str, row: sql.Row) -> Standing:
        """Of a row of `STANDING`."""
        behind = max(0, row["received"] - (row["replayed"] or 0)) if row["recovery"] else 0
        return cls(name, row["recovery"], row["timeline"], row["received"], behind, row["receiver"])


class PostgresPromote(Action):
    """Make the most advanced standby the primary. A person decides it, always.

    - `candidates`: services of kind `postgres`, the standbys that may become primary. Which has received most is found
      out when the step is prepared, and named to whoever approves.
    - `fencing`: what keeps the old primary from taking writes. PostgreSQL fences nothing: after a promotion both take
      them, and what the old one took is lost. Say how that is made sure; it is shown to whoever approves.

    The loader refuses this step without `approval:`. It is refused as well while a candidate still hears from its
    primary, which then is alive: stop that first. A candidate that cannot be asked, or that refuses our role, is left
    out and named in the preview; it may have received more.

    Where a service names `patroni`, that decides: its API is asked for a failover, or for a switchover while it has a
    leader, and pg_promote is never called behind its back. Give the step a `timeout` of 60s then: of a leader that died
    Patroni goes on telling that it runs until its key has run out (`ttl`, 30 s).

    Effect class `probed`: a server that is no longer in recovery, on a higher timeline, was promoted; of one that still
    is, nobody can tell whether a promotion that was sent will come, and people are asked. It cannot be undone: the old
    primary comes back as a standby only (pg_rewind). `expect` sees `value.promoted` and `value.timeline`.

    Needs of its role on every candidate, granted on the primary beforehand: `GRANT pg_monitor` and
    `GRANT EXECUTE ON FUNCTION pg_promote`.

    ```yaml
    - id: promote
      action: postgres.promote
      with:
        candidates: [db-replica-1, db-replica-2]
        fencing: the StatefulSet of the old primary is scaled to 0
      timeout: 60s
      approval: {role: operator, within: 10m}
    ```
    """

    kinds: ClassVar[tuple[str, ...]] = ("postgres",)
    grants: ClassVar[tuple[str, ...]] = (
        "GRANT pg_monitor TO {role}",
        "GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO {role}",
    )
    positions: ClassVar[Mapping[str, str]] = {"candidates": "literal", "fencing": "literal"}

    candidates: Annotated[tuple[str, ...], Field(min_length=1, max_length=8)]
    fencing: Annotated[str, Field(min_length=10, max_length=500)]

    @classmethod
    def asks_a_person(cls, with_: Mapping[str, Any]) -> str:
        """See Action.asks_a_person."""
        return "no promotion is taken back, and nothing here keeps the old primary from coming back"

    def services(self, parameters: Mapping[str, Parameter]) -> tuple[str, ...]:
        """See Action.services."""
        return self.candidates

    def effect(self, keyed: bool) -> Effect:
        """See Action.effect."""
        return Effect.PROBED

    def preview(self) -> str:
        """See Action.preview."""
        return f"promote the most advanced of {', '.join(self.candidates)}; fencing: {self.fencing}"

    async def prepare(self, context: Context) -> Plan:
        """Choose the standby among those that let us see; the others are told. Raises Permanent while the primary is
        alive, Temporary when no candidate answers."""
        found: list[Standing] = []
        silent: list[str] = []
        passing = False
        for name in self.candidates:
            try:
                found.append(await _standing(name, context, context.timeout / len(self.candidates)))
            except (Temporary, Permanent) as error:
                silent.append(str(error))
                passing = passing or isinstance(error, Temporary)
        params: dict[str, JsonValue] = self.model_dump(mode="json")
        plan = Plan(params=params, preview=self.preview(), effect=Effect.PROBED, prepared_at=context.now())
        primary = next((one for one in found if not one.recovery), None)
        if primary is not None:
            said = f"{primary.name} is the primary already, on timeline {primary.timeline}"
            return plan.model_copy(update={"nothing_to_do": said})
        if not found:
            said = f"no candidate can be asked: {'; '.join(silent)}"
            raise Temporary(said) if passing else Permanent(said)
        chosen = max(found, key=lambda one: one.received)
        self._fenced(found, context)
        unasked = f"; not asked, and perhaps ahead: {'; '.join(silent)}" if silent else ""
        way = "by Patroni" if _patroni(chosen.name, context) is not None else "by pg_promote"
        said = f"promote {chosen.name} {way}, which has received most ({chosen.behind} bytes still to be replayed)"
        return plan.model_copy(update={
            "preview": f"{said}; fencing: {self.fencing}{unasked}",
            "before": {"timeline": chosen.timeline, "received": chosen.received},
            "target": chosen.name,
            # Not `received`, which grows while a standby still replays.
            "parts": (f"{chosen.name} on timeline {chosen.timeline}",),
        })  # fmt: skip

    async def act(self, plan: Plan, context: Context) -> Output:
        """Promote it. Raises Temporary, Permanent, Unknown."""
        name, began = _chosen(plan), context.now()
        standing = await _standing(name, context, context.timeout / 4)
        if standing.recovery:
            self._fenced([standing], context)
            patroni = _patroni(name, context)
            if patroni is not None:
                standing = await _led_by_patroni(name, patroni, context, began)
            else:
                await _by_server(name, context)
                standing = await _confirmed(name, context)
        value: dict[str, JsonValue] = {"promoted": name, "timeline": standing.timeline}
        return Output(value, f"{name} is the primary, on timeline {standing.timeline}", context.now())

    async def probe(self, plan: Plan, context: Context) -> Probe:
        """Is it primary, and on a higher timeline than before? A standby may be on its way: what was sent may still
        come, so it never counts as not applied."""
        standing = await _standing(_chosen(plan), context, context.timeout)
        before = plan.before.get("timeline") if isinstance(plan.before, dict) else None
        if standing.recovery:
            said = f"{standing.name} is still a standby; what was sent may still come: look at pg_is_in_recovery()"
            return Probe(ProbeAnswer.UNCLEAR, said)
        if isinstance(before, int) and standing.timeline > before:
            return Probe(ProbeAnswer.APPLIED, f"{standing.name} is the primary, on timeline {standing.timeline}")
        return Probe(ProbeAnswer.UNCLEAR, f"{standing.name} is a primary on timeline {standing.timeline}, as before")

    def _fenced(self, found: list[Standing], context: Context) -> None:
        """A standby that hears from its primary proves that it lives. Patroni stops the old leader itself.

        Raises Permanent.
        """
        for one in found:
            if one.receiver == "streaming" and _patroni(one.name, context) is None:
                cure = "stop it first, or both take writes"
                raise Permanent(
                    f"{one.name} still hears from its primary, which is alive: {cure}; nothing was promoted"
                )


def _chosen(plan: Plan) -> str:
    """Raises Permanent for a plan that this action cannot have made."""
    if not isinstance(plan.target, str):
        raise Permanent("the plan names no standby; nothing was promoted: start the run again")
    return plan.target


def _patroni(name: str, context: Context) -> Any:
    connection: PostgresConnection = context.service(name)
    return connection.patroni


async def _standing(name: str, context: Context, timeout: float) -> Standing:
    """Raises Temporary; Permanent where its role cannot see whether the primary is alive."""
    async with context.service(name).session(timeout, context.key) as session:
        (rights,) = await session.ask(SqlCall("what our role may see", sql.RIGHTS))
        if not rights["sees"]:
            raise Permanent(f"{name}: its role does not see the replication: GRANT pg_monitor TO {rights['role']}")
        (row,) = await session.ask(SqlCall("standing", sql.STANDING))
    return Standing.of(name, row)


async def _by_server(name: str, context: Context) -> None:
    """Raises Temporary, Permanent, Unknown."""
    seconds = max(1, int(context.timeout * 0.6))
    try:
        async with context.service(name).session(context.timeout, context.key, long=True) as session:
            call = SqlCall("pg_promote", sql.PROMOTE, {"wait": seconds}, changes=True)
            (row,) = await session.ask(call, context.clear)
    except Permanent:
        # A primary refuses it as well (55000): somebody may have promoted it since we looked.
        if (await _standing(name, context, context.timeout / 8)).recovery:
            raise
        return
    if not row["promoted"]:
        raise Unknown(f"{name} was told to become primary, and is not after {seconds} s; it may still come")


async def _by_patroni(patroni: Any, context: Context) -> None:
    """A failover where Patroni has no leader, a switchover where it has one. Raises Temporary, Permanent, Unknown."""
    cluster: HttpAnswer = (await patroni.send(HttpCall("GET", "/cluster"), context.timeout / 4)).checked(context.now())
    body = cluster.body if isinstance(cluster.body, dict) else {}
    members = body.get("members")
    listed = [m for m in members if isinstance(m, dict)] if isinstance(members, list) else []
    leader = next((m for m in listed if m.get("role") in {"leader", "master"} and m.get("state") == "running"), None)
    candidate = patroni.service.member
    if not any(m.get("name") == candidate for m in listed):
        known = json.dumps([m.get("name") for m in listed])
        raise Permanent(f"Patroni knows no member {candidate!r}, only {known}: correct `patroni.member` of the service")
    asked = {"candidate": candidate}
    path = "/failover"
    if leader is not None:
        path, asked = "/switchover", {"leader": str(leader.get("name")), **asked}
    call = HttpCall("POST", path, json={**asked}, key=context.key)
    (await patroni.send(call, context.timeout * 0.6, context.clear)).checked(context.now())


def _not_yet(name: str) -> str:
    return f"{name} was told to become primary, and is still a standby; it may still come"


async def _led_by_patroni(name: str, patroni: Any, context: Context, began: int) -> Standing:
    """Ask Patroni once, and look until the server is primary. It says that it is done as soon as the candidate holds
    the leader's key, before `pre_promote` and the promotion itself; and of a leader that died it says nothing but 503
    until that key has run out (seen on 4.1). Raises Temporary, Permanent; Unknown when it has not come in time."""
    doubt = _not_yet(name)
    try:
        await _by_patroni(patroni, context)
    except Unknown as error:
        doubt = str(error)
    for _ in range(max(1, int(context.timeout))):
        with suppress(Temporary, Permanent):  # a server that is being promoted may refuse connections for a moment
            standing = await _standing(name, context, context.timeout / 8)
            if not standing.recovery:
                return standing
        if context.now() - began > _SHARE * context.timeout * SECOND:
            break
        await context.sleep(1.0)
    raise Unknown(doubt)


async def _confirmed(name: str, context: Context) -> Standing:
    """Raises Unknown when it cannot be read back, or is not there yet: it may still come."""
    try:
        standing = await _standing(name, context, context.timeout / 4)
    except ResponderError as error:
        raise Unknown(f"{name} was promoted, but that was not read back: {error}") from None
    if standing.recovery:
        raise Unknown(_not_yet(name))
    return standing
