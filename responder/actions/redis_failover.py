"""The action `redis.failover`: one Sentinel is told, once, to put a replica in the place of a master that is down.

A Sentinel that is told to fail over asks nobody: it does so without a quorum, of a healthy master too, whose writes are
then lost in silence (contracts.md G: 216 of 430 acknowledged ones). So everything that a Sentinel's own failover would
have looked at is looked at here, when the plan is made and again right before it is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field, JsonValue

from responder.contracts import Context, Output, Probe
from responder.errors import Permanent, ResponderError, Temporary, Unknown
from responder.recorded import Effect, Plan, ProbeAnswer
from responder.redis_connections import HungUp, NoAnswer, RedisCall
from responder.redis_replies import list_of, parsed_info, text_of, whole
from responder.redis_steps import RedisStep
from responder.sentinel_connections import SentinelConnection
from responder.sentinel_views import (
    Behind,
    MasterView,
    Obstacle,
    ReplicaView,
    Views,
    behind,
    expected_choice,
    nobody_fit,
    obstacle,
    replica_views,
    yielded,
)
from responder.timing import SECOND, format_duration
from responder.written import Duration

KEY_SECONDS: Final = 60
"""For how long the key of the trial write stays."""
POLL: Final = 0.5
"""Seconds between two looks at the progress."""
_SHARE: Final = 0.9
"""Share of the step's timeout within which the end is awaited: what is known then is told, instead of cut off."""


@dataclass(frozen=True, slots=True)
class _Before:
    """The state before, as the plan holds it; `via` is the Sentinel that is told."""

    address: str
    epoch: int
    via: str


@dataclass(frozen=True, slots=True)
class _Choice:
    """The replica that `via` would promote now, and how far it is behind."""

    replica: ReplicaView
    behind: Behind


class RedisFailover(RedisStep):
    """Have one Sentinel promote a replica, where the Sentinels have not done it by themselves.

    - `service`: a service of kind `redis_sentinel`.
    - `planned`: true for a master that works. The step then needs an `approval`: what the old master still accepts
      until it is told, up to ten seconds, is lost without an error. Stop the writers first.
    - `max_lag`: how long the replica may have been cut off before the master went down (of a master that works: since
      it last heard of it). Default 15s: an idle master speaks every 10.
    - `max_lag_bytes`: how many bytes of the replication stream it may lack. Default 1048576.
    - `after`: for how long a majority of the Sentinels must have called the master down. Default 10s, so that their own
      failover, which loses no less and asks more, has had its turn.
    - `key`: the key of the trial write on the new master. Default `responder:failover`; it expires after a minute.

    Nothing is sent unless: a majority of all Sentinels call the master down (or `planned`) and name the same address;
    CKQUORUM is fine; no failover is in progress, and the last one is twice the Sentinels' `failover-timeout` ago (the
    service's `apart`); the replica that the Sentinel would choose is linked, answers us, and lags no more than that.
    Most of these pass, such as that no Sentinel calls it down yet: give the step a `retry` that lasts longer than the
    Sentinels' `down-after-milliseconds` and `after` together. `responder doctor` compares them.

    Where no Sentinel calls the master down and it says itself that it is one, there is nothing to do: it was never
    down, or the Sentinels have replaced it by themselves.

    Effect class `probed`. It is sent through one Sentinel, the first of the service's that answers, so that a second
    one sent at the same time is refused. Success: a majority of the Sentinels name a new address, ROLE there says
    master, a write succeeds there, and the old master says that it is a replica. Where it does not answer us, or hangs
    up in TLS as a proxy does before a master that is dead, a majority of the Sentinels must see that it is one, or not
    reach it either (SENTINEL REPLICAS: `s_down`, or no answer for 5 s): a network that is cut between us and it alone
    proves nothing. What is told at the end, and of an unknown end
    too, names the stages that were seen and when: begun, a replica named as master, by most Sentinels, ended. Give
    the step a `timeout` of 30s: of a master that works the Sentinels need ten seconds to tell it. After a lost answer
    the address and the epoch tell whether it happened. There is no undo: the way back is another failover, with the
    same losses.

    What Sentinels do not tell, and so nobody looks at: failovers that were tried and failed; how much a master that is
    down had not sent yet. When a Sentinel has restarted lately, the last failover counts as that recent.

    Needs of its user on the Sentinels: `+info +sentinel|master +sentinel|replicas +sentinel|ckquorum
    +sentinel|failover`; on the servers: `+info +role +set`, and the key.

    ```yaml
    - id: failover
      title: Promote a replica of Redis
      action: redis.failover
      with: {service: trading-redis, max_lag: 15s}
      timeout: 45s
      retry: {attempts: 20, first: 5s, factor: 1}
    ```
    """

    kinds: ClassVar[tuple[str, ...]] = ("redis_sentinel",)
    commands: ClassVar[tuple[str, ...]] = ("info", "role", "set")
    sentinel_commands: ClassVar[tuple[str, ...]] = (
        "info", "sentinel|master", "sentinel|replicas", "sentinel|ckquorum", "sentinel|failover",
    )  # fmt: skip
    keys: ClassVar[tuple[str, ...]] = ("key",)
    positions: ClassVar[Mapping[str, str]] = {
        "service": "literal", "planned": "literal", "max_lag": "literal", "max_lag_bytes": "literal",
        "after": "literal", "key": "literal",
    }  # fmt: skip

    planned: bool = False
    max_lag: Duration = 15 * SECOND
    max_lag_bytes: Annotated[int, Field(ge=0)] = 1024 * 1024
    after: Duration = 10 * SECOND
    key: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")] = "responder:failover"

    def effect(self, keyed: bool) -> Effect:
        """See Action.effect."""
        return Effect.PROBED

    @classmethod
    def asks_a_person(cls, with_: Mapping[str, Any]) -> str:
        """See Action.asks_a_person."""
        works = with_.get("planned", False) is not False
        return "a failover of a master that works loses writes that it has acknowledged" if works else ""

    def preview(self) -> str:
        """See Action.preview."""
        return f"{'planned ' if self.planned else ''}failover of {self.service}"

    async def prepare(self, context: Context) -> Plan:
        """Look at everything that speaks against it. Raises Temporary and Permanent; the plan says what it costs."""
        sentinels: SentinelConnection = context.service(self.service)
        params: dict[str, JsonValue] = self.model_dump(mode="json", by_alias=True)
        views = await sentinels.views(context.timeout / 6)
        works = await self._works(sentinels, views, context.timeout / 6)
        if works:
            return Plan(
                params=params,
                preview=self.preview(),
                effect=Effect.PROBED,
                prepared_at=context.now(),
                nothing_to_do=works,
            )
        before, choice = await self._allowed(sentinels, context, context.timeout * 2 / 3)
        told = f"{before.address} → {choice.replica.address} (expected), {choice.behind.said()}"
        if self.planned:
            told += "; what the old master accepts until it is told is lost as well"
        return Plan(
            params=params,
            preview=f"{self.preview()}: {told}",
            effect=Effect.PROBED,
            prepared_at=context.now(),
            before={"address": before.address, "epoch": before.epoch, "via": before.via},
        )

    async def act(self, plan: Plan, context: Context) -> Output:
        """Look again, tell one Sentinel once, and follow. Raises Temporary and Permanent when nothing was sent, Unknown
        when it was and its end was not seen."""
        sentinels: SentinelConnection = context.service(self.service)
        before, began = _before(plan), context.now()
        done = await self._in_time(self._done_since(sentinels, before, context.timeout / 6), context.timeout / 3)
        if done is not None:
            address, said = done
            return Output({"address": address}, f"nothing to do: {said}", context.now())
        await self._in_time(self._allowed(sentinels, context, context.timeout / 6, before), context.timeout / 3)
        told = RedisCall(("SENTINEL", "FAILOVER", sentinels.service.master), changes=True)
        await sentinels.ask_sentinel(before.via, told, context.timeout / 3, context.clear)
        address, stages = await self._followed(sentinels, before, context, began)
        took = _tenths(context.now() - began)
        said = f"{address} is the master in the place of {before.address}, written to after {took}{_told(stages)}"
        return Output({"address": address, "before": before.address}, said, context.now())

    async def probe(self, plan: Plan, context: Context) -> Probe:
        """Look twice, a second apart: a Sentinel that was stopped may still have it to read when it answers again."""
        sentinels: SentinelConnection = context.service(self.service)
        before, patience = _before(plan), context.timeout / 6
        views = await sentinels.views(patience)
        if _unchanged(views, before):
            await context.sleep(1.0)
            views = await sentinels.views(patience)
        if views.address and views.address != before.address:
            lacking = await self._lacking(sentinels, before, views, patience)
            if lacking:
                return Probe(ProbeAnswer.UNCLEAR, f"the Sentinels name {views.address}, but {lacking}")
            return Probe(ProbeAnswer.APPLIED, f"{views.address} is the master in the place of {before.address}")
        if _unchanged(views, before):
            said = f"{before.address} is still the master (epoch {before.epoch}), and no failover is in progress"
            return Probe(ProbeAnswer.NOT_APPLIED, said)
        return Probe(ProbeAnswer.UNCLEAR, _unclear(views, before))

    # --- before it is sent --------------------------------------------------------------------------------------------

    async def _works(self, sentinels: SentinelConnection, views: Views, timeout: float) -> str:
        """What shows that there is nothing to fail over, "" where that is not seen. Raises Permanent."""
        if self.planned or not views.address or views.down:
            return ""
        try:
            role = await _role(sentinels, views.address, timeout)
        except Temporary:
            return ""
        return f"no Sentinel calls {views.address} down, and it says that it is the master" if role == "master" else ""

    async def _allowed(
        self, sentinels: SentinelConnection, context: Context, timeout: float, since: _Before | None = None
    ) -> tuple[_Before, _Choice]:
        """The state before and what it would cost. `since`: the state that the plan was made from, which must still
        hold. Raises Temporary, Permanent: nothing was sent."""
        views = await sentinels.views(timeout / 5)
        found = obstacle(views, planned=self.planned, patience=self.after, apart=sentinels.service.apart)
        if found is not None:
            raise self._refused(found)
        via = views.by(since.via if since is not None else views.heard[0].sentinel)
        if via is None:
            raise Temporary(f"{self.service}: the Sentinel of the plan does not answer ({views.missing()})")
        before = _Before(views.address, views.epoch, via.sentinel)
        if via.address != views.address:
            raise Temporary(
                f"{self.service}: {via.sentinel} names another master than the majority; wait until it knows"
            )
        if since not in (None, before):
            raise Permanent(f"{self.service}: a failover came in between; nothing was sent: start the run again")
        name = sentinels.service.master
        state = await sentinels.ask_sentinel(via.sentinel, RedisCall(("INFO", "sentinel")), timeout / 5)
        if parsed_info(text_of(state)).get("sentinel_tilt"):
            said = f"{via.sentinel} stands still (TILT), because it was stopped or its clock jumped"
            raise Temporary(f"{self.service}: nothing was sent: {said}; it goes on after 30 s", 30.0)
        await sentinels.ask_sentinel(via.sentinel, RedisCall(("SENTINEL", "CKQUORUM", name)), timeout / 5)
        known = await sentinels.ask_sentinel(via.sentinel, RedisCall(("SENTINEL", "REPLICAS", name)), timeout / 5)
        return before, await self._chosen(sentinels, via, replica_views(known), timeout / 5)

    async def _chosen(
        self, sentinels: SentinelConnection, master: MasterView, replicas: tuple[ReplicaView, ...], timeout: float
    ) -> _Choice:
        """The replica that would be promoted, as it answers itself. Raises Temporary, Permanent."""
        chosen = expected_choice(replicas, master)
        if chosen is None:
            cure = "look at the links to the master and `replica-priority`"
            raise Temporary(f"{self.service}: no replica can be promoted ({nobody_fit(replicas, master)}): {cure}")
        asked = RedisCall(("INFO", "replication"))
        info = parsed_info(text_of(await sentinels.ask(chosen.address, asked, timeout)))
        if info.get("role") != "slave":
            raise Temporary(
                f"{self.service}: {chosen.address} says that it is {info.get('role')}, not a replica: look at it"
            )
        offset = await self._offset(sentinels, master.address, timeout)
        if offset is None and self.planned:
            cure = "leave `planned` out, it is for a master that works"
            raise Permanent(f"{self.service}: the master {master.address} does not answer; nothing was sent: {cure}")
        cost = behind(info, master, offset, replicas)
        if cost.bytes > self.max_lag_bytes or cost.lag > self.max_lag:
            allowed = f"{self.max_lag_bytes} bytes and {format_duration(self.max_lag)} are allowed"
            cure = "decide by hand what may be lost (docs/redis.md)"
            raise Permanent(f"{self.service}: {chosen.address} is {cost.said()}; {allowed}; nothing was sent: {cure}")
        return _Choice(chosen, cost)

    async def _offset(self, sentinels: SentinelConnection, address: str, timeout: float) -> int | None:
        """The master's offset, None where it does not tell. Raises Permanent; Temporary where one that works must."""
        try:
            return await _master_offset(sentinels, address, timeout)
        except NoAnswer:
            return None
        except Temporary:
            if self.planned:
                raise
            return None

    def _refused(self, found: Obstacle) -> Temporary:
        wait = found.wait / SECOND if found.wait else None
        return Temporary(f"{self.service}: nothing was sent: {found.why}", wait)

    async def _in_time(self, looking: Any, seconds: float) -> Any:
        """Before anything is sent, running out of time changes nothing. Raises Temporary."""
        try:
            async with asyncio.timeout(seconds):
                return await looking
        except TimeoutError:
            said = "nothing was sent: Sentinels and servers did not answer in time"
            raise Temporary(f"{self.service}: {said}; raise the step's `timeout`, or look why they are slow") from None

    async def _done_since(
        self, sentinels: SentinelConnection, before: _Before, timeout: float
    ) -> tuple[str, str] | None:
        """The master's address and why nothing is left to do, when that has come true since the plan."""
        views = await sentinels.views(timeout)
        if not views.address:
            return None
        if views.address == before.address:
            works = await self._works(sentinels, views, timeout)
            return (views.address, works) if works else None
        if await self._lacking(sentinels, before, views, timeout):
            return None
        return views.address, f"{views.address} has become the master since"

    # --- after it was sent --------------------------------------------------------------------------------------------

    async def _followed(
        self, sentinels: SentinelConnection, before: _Before, context: Context, began: int
    ) -> tuple[str, Mapping[str, int]]:
        """The new master's address once everything holds that makes it a success, and when (µs after `began`) each
        stage before it was first seen. Raises Unknown, which tells them too."""
        lacking = "nobody has answered since"
        stages: dict[str, int] = {}
        for _ in range(max(1, int(context.timeout * _SHARE / POLL))):
            await context.sleep(POLL)
            left = context.timeout * _SHARE - (context.now() - began) / SECOND
            if left <= 0:
                break
            patience = min(2.0, left)
            views = await sentinels.views(patience)
            for stage in _stages(views, before):
                stages.setdefault(stage, context.now() - began)
            lacking = await self._lacking(sentinels, before, views, patience)
            if not lacking:
                return views.address, stages
        said = f"{self.service}: {before.via} has accepted the failover{_told(stages)}, but {lacking}"
        raise Unknown(f"{said}; the change may have happened: look at SENTINEL MASTER and ROLE")

    async def _lacking(self, sentinels: SentinelConnection, before: _Before, views: Views, timeout: float) -> str:
        """What is missing of success, "" when nothing is. Writes the trial key on the new master. Raises nothing."""
        new = views.address
        if not new or new == before.address:
            return f"no majority names another master ({', '.join(f'{v.sentinel}: {v.address}' for v in views.heard)})"
        try:
            role = await _role(sentinels, new, timeout)
            if role != "master":
                return f"{new} says that it is {role}"
            written = ("SET", self.key, new, "EX", str(KEY_SECONDS))
            await sentinels.ask(new, RedisCall(written, changes=True), timeout)
        except ResponderError as error:
            return f"{new} cannot be checked ({error})"
        try:
            old = await _role(sentinels, before.address, timeout)
        except (NoAnswer, HungUp):
            # Whoever ends TLS before a master that is dead hangs up; a living one may too. The Sentinels tell which.
            return await _not_yielded(sentinels, before.address, views, timeout)
        except ResponderError as error:
            return f"the old master {before.address} cannot be checked ({error})"
        return "" if old == "slave" else f"the old master {before.address} still says that it is {old}"


async def _not_yielded(sentinels: SentinelConnection, old: str, views: Views, timeout: float) -> str:
    """What is missing for an old master that does not answer us: perhaps it answers others. Raises nothing."""
    count = yielded(old, views, await sentinels.replicas(timeout))
    if count >= views.needed:
        return ""
    seen = f"only {count} of {views.total} Sentinels see that it is gone or a replica ({views.needed} must)"
    return f"we get no answer from the old master {old}, and {seen}: clients may still write to it"


def _stages(views: Views, before: _Before) -> Iterator[str]:
    """How far a failover has come, by what the Sentinels say. A replica is named once it was promoted; whoever has
    promoted it fails over until the other replicas follow it, or `failover-timeout` is over."""
    if views.in_progress:
        yield "begun"
    named = [view.address for view in views.heard if view.address and view.address != before.address]
    if named:
        yield f"{named[0]} named as master"
    if views.address and views.address != before.address:
        yield "by most Sentinels"
        if not views.in_progress:
            yield "ended"


def _told(stages: Mapping[str, int]) -> str:
    """For people, in the order in which they were seen."""
    told = ", ".join(f"{stage} {_tenths(after)}" for stage, after in stages.items())
    return f" ({told})" if told else ""


def _tenths(span: int) -> str:
    return f"{span / SECOND:.1f}s"


def _before(plan: Plan) -> _Before:
    """Raises Permanent for a plan that this action cannot have made."""
    found = plan.before if isinstance(plan.before, dict) else {}
    if not found.get("address") or not found.get("via"):
        raise Permanent("the plan does not say who was the master; nothing was sent: start the run again")
    return _Before(str(found["address"]), whole(found.get("epoch")), str(found["via"]))


def _unchanged(views: Views, before: _Before) -> bool:
    """Whether it has certainly not happened, nor is happening: the Sentinel that would be doing it says so too."""
    via = views.by(before.via)
    same = (views.address, views.epoch) == (before.address, before.epoch)
    return (
        same
        and not views.in_progress
        and via is not None
        and (via.address, via.epoch) == (before.address, before.epoch)
    )


def _unclear(views: Views, before: _Before) -> str:
    if views.in_progress:
        return f"a failover is in progress ({', '.join(views.in_progress)})"
    if views.by(before.via) is None:
        return f"the Sentinel {before.via}, which was told, does not answer ({views.silent.get(before.via, 'unknown')})"
    if not views.address:
        return views.missing()
    return f"the master is {views.address} again, but its epoch rose from {before.epoch} to {views.epoch}"


async def _role(sentinels: SentinelConnection, address: str, timeout: float) -> str:
    reply = list_of(await sentinels.ask(address, RedisCall(("ROLE",)), timeout))
    return text_of(reply[0]) if reply else "unknown"


async def _master_offset(sentinels: SentinelConnection, address: str, timeout: float) -> int | None:
    """How far the master's stream goes, None where it says that it is no master. Raises Temporary, Permanent."""
    reply = list_of(await sentinels.ask(address, RedisCall(("ROLE",)), timeout))
    return whole(reply[1]) if len(reply) > 1 and text_of(reply[0]) == "master" else None
