"""The action `redis.publish`: a message on a channel, such as one that has services read their settings again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from responder.contracts import Context, Output, Probe
from responder.recorded import Effect, Plan, ProbeAnswer
from responder.redis_connections import RedisCall, RedisConnection
from responder.redis_replies import whole
from responder.redis_steps import RedisStep
from responder.sentinel_connections import SentinelConnection


class RedisPublish(RedisStep):
    """Send a message to whoever listens on a channel.

    - `service`: a service of kind `redis` or `redis_sentinel` (then to the master).
    - `channel`: where; no placeholder.
    - `message`: the text; placeholders are taken as they are.
    - `repeatable`: true when hearing it twice does the same as hearing it once, as for "read your settings again".

    Effect class: `set` with `repeatable: true`: after a lost answer it is sent again. Else `unsafe`: nobody can find
    out who has heard it, so a lost answer is for people.

    `expect` sees how many subscribers of that server got it as `value`; demand one with `expect: value >= 1`, or a
    message that nobody hears counts as sent. That they did what it says is for `verify` to find out. There is no undo.

    Needs of its user: `+publish`, and the channel (`resetchannels &param.reload`).

    ```yaml
    - id: reload
      title: Have the services read their parameters again
      action: redis.publish
      with:
        service: cache
        channel: param.reload
        message: '{"component": "risk_harmoniser", "config_path": "conf/risk_params.yml"}'
        repeatable: true
      expect: value >= 1
      timeout: 5s
    ```
    """

    commands: ClassVar[tuple[str, ...]] = ("publish",)
    channels: ClassVar[tuple[str, ...]] = ("channel",)
    positions: ClassVar[Mapping[str, str]] = {
        "service": "literal", "channel": "literal", "message": "text", "repeatable": "literal",
    }  # fmt: skip

    channel: Annotated[str, Field(min_length=1, max_length=200)]
    message: Annotated[str, Field(max_length=4000)]
    repeatable: bool = False

    def effect(self, keyed: bool) -> Effect:
        """See Action.effect."""
        return Effect.SET if self.repeatable else Effect.UNSAFE

    def preview(self) -> str:
        """See Action.preview."""
        return f"PUBLISH {self.channel} {self.message[:100]!r} on {self.service}"

    async def prepare(self, context: Context) -> Plan:
        """Fix the effect class."""
        plan = await super().prepare(context)
        return plan.model_copy(update={"effect": self.effect(keyed=False)})

    async def act(self, plan: Plan, context: Context) -> Output:
        """Send it once. Raises Temporary, Permanent, Unknown."""
        connection: RedisConnection | SentinelConnection = context.service(self.service)
        call = RedisCall(("PUBLISH", self.channel, self.message), changes=True)
        heard = whole(await connection.send(call, context.timeout, context.clear))
        return Output(heard, f"{heard} subscribers of {self.channel} got it", context.now())

    @property
    def blind(self) -> bool:
        """See Action.blind."""
        return True

    async def probe(self, plan: Plan, context: Context) -> Probe:
        """Who has heard it cannot be found out; what is repeatable is sent again."""
        if self.repeatable:
            return Probe(ProbeAnswer.NOT_APPLIED, "who has heard it is not known; hearing it twice does the same")
        return Probe(ProbeAnswer.UNCLEAR, "nobody can find out who has heard it: ask the services that listen")
