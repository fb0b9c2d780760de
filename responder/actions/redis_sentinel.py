"""The action `redis.sentinel`: what the Sentinels say about their master, as evidence and as a check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import JsonValue

from responder.contracts import Context, Output
from responder.errors import Temporary
from responder.recorded import Plan
from responder.redis_connections import RedisCall
from responder.redis_replies import list_of, text_of
from responder.redis_steps import RedisStep
from responder.sentinel_connections import SentinelConnection
from responder.sentinel_views import Views


class RedisSentinel(RedisStep):
    """Read what the Sentinels say about their master, and whether it is one.

    - `service`: a service of kind `redis_sentinel`.

    Effect class `read`. `expect` sees `value.master` (the address that a majority names), `value.agree` (how many name
    it), `value.total` (how many Sentinels there are), `value.down` (how many call the master down), `value.quorum` (a
    failover could be authorized), `value.in_progress`, `value.epoch` (it rises with every failover), `value.role` (what
    the master says that it is, `none` where it does not answer), `value.replicas` (how many follow it, by its own
    word), `value.silent` (Sentinels that do not answer, and why) and `value.sound`: all Sentinels agree, none calls the
    master down, a failover could be authorized and none is in progress, the master says that it is one, and somebody
    follows it. Without a majority that agrees the answer is missing.

    Needs of its user on the Sentinels: `+sentinel|master +sentinel|ckquorum`; on the servers `+role`.

    ```yaml
    checks:
      sentinels: {action: redis.sentinel, with: {service: trading-redis}, max_age: 30s}
    ```
    """

    reads_only: ClassVar[bool] = True
    kinds: ClassVar[tuple[str, ...]] = ("redis_sentinel",)
    commands: ClassVar[tuple[str, ...]] = ("role",)
    sentinel_commands: ClassVar[tuple[str, ...]] = ("sentinel|master", "sentinel|ckquorum")
    positions: ClassVar[Mapping[str, str]] = {"service": "literal"}

    def preview(self) -> str:
        """See Action.preview."""
        return f"what the Sentinels of {self.service} say"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary when no majority names one master."""
        sentinels: SentinelConnection = context.service(self.service)
        views = await sentinels.views(context.timeout / 3)
        if not views.address:
            cure = "start the Sentinels that are down, and name all under `sentinels`"
            raise Temporary(f"{self.service}: {views.missing()}: {cure}")
        role, replicas = await _role(sentinels, views.address, context.timeout / 3)
        quorum = await _quorum(sentinels, views, context.timeout / 3)
        agree = sum(view.address == views.address for view in views.heard)
        sound = quorum and agree == views.total and not views.down and not views.in_progress
        value: dict[str, JsonValue] = {
            "master": views.address,
            "agree": agree,
            "total": views.total,
            "down": views.down,
            "quorum": quorum,
            "in_progress": bool(views.in_progress),
            "epoch": views.epoch,
            "role": role,
            "sound": sound and role == "master" and replicas > 0,
            "replicas": replicas,
            "silent": {name: why[:200] for name, why in views.silent.items()},
        }
        said = f"{agree} of {views.total} Sentinels name {views.address}, {views.down} call it down"
        return Output(value, f"{said}, it says {role}", context.now())


async def _role(sentinels: SentinelConnection, address: str, timeout: float) -> tuple[str, int]:
    """What the server there says that it is, and how many follow it; `none` where it does not answer.

    Raises Permanent where it does not know us.
    """
    try:
        reply = list_of(await sentinels.ask(address, RedisCall(("ROLE",)), timeout))
    except Temporary:
        return "none", 0
    followers = list_of(reply[2]) if len(reply) > 2 and text_of(reply[0]) == "master" else []
    return (text_of(reply[0]) if reply else "none"), len(followers)


async def _quorum(sentinels: SentinelConnection, views: Views, timeout: float) -> bool:
    call = RedisCall(("SENTINEL", "CKQUORUM", sentinels.service.master))
    try:
        await sentinels.ask_sentinel(views.heard[0].sentinel, call, timeout)
    except Temporary as error:
        if "NOQUORUM" in str(error):
            return False
        raise
    return True
