"""The action `redis.write_test`: whether a Redis server takes writes, found out by a write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

from pydantic import Field

from responder.contracts import Context, Output, Probe
from responder.recorded import Effect, Plan, ProbeAnswer
from responder.redis_connections import RedisCall, RedisConnection
from responder.redis_steps import RedisStep
from responder.sentinel_connections import SentinelConnection

KEY_SECONDS: Final = 60
"""For how long the key stays."""


class RedisWriteTest(RedisStep):
    """Write a key of the responder's own, to find out whether the server takes writes.

    - `service`: a service of kind `redis` or `redis_sentinel` (then the master).
    - `key`: the key, which expires after a minute. Default `responder:write-test`.

    Effect class `set`: the same key with the same value, so after a lost answer it is written again. A replica, a
    server that is full or cannot save, or one that has too few replicas (`min-replicas-to-write`) refuses for now: with
    a `retry` it is asked again, else the step has failed, with what the server says and what to do. There is nothing to
    undo.

    Needs of its user: `+set`, and the key.

    ```yaml
    - id: takes_writes
      title: Write to the new master
      action: redis.write_test
      with: {service: trading-redis}
      timeout: 5s
      retry: {attempts: 3, first: 2s}
    ```
    """

    commands: ClassVar[tuple[str, ...]] = ("set",)
    keys: ClassVar[tuple[str, ...]] = ("key",)
    positions: ClassVar[Mapping[str, str]] = {"service": "literal", "key": "literal"}

    key: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")] = "responder:write-test"

    def effect(self, keyed: bool) -> Effect:
        """See Action.effect."""
        return Effect.SET

    def preview(self) -> str:
        """See Action.preview."""
        return f"write {self.key} on {self.service}"

    async def prepare(self, context: Context) -> Plan:
        """Fix the effect class."""
        plan = await super().prepare(context)
        return plan.model_copy(update={"effect": Effect.SET})

    async def act(self, plan: Plan, context: Context) -> Output:
        """Write it. Raises Temporary, Permanent, Unknown."""
        connection: RedisConnection | SentinelConnection = context.service(self.service)
        call = RedisCall(("SET", self.key, "1", "EX", str(KEY_SECONDS)), changes=True)
        await connection.send(call, context.timeout, context.clear)
        return Output(value=True, detail=f"{self.service} takes writes", observed_at=context.now())

    @property
    def blind(self) -> bool:
        """See Action.blind."""
        return True

    async def probe(self, plan: Plan, context: Context) -> Probe:
        """Writing it again does the same."""
        return Probe(ProbeAnswer.NOT_APPLIED, "writing the same again does the same")
