"""Connections to the Sentinels of a service and to the servers that they tell of.

Each Sentinel is asked for itself, over a connection of its own: the library's `Sentinel` would send a failover to all
of them, and takes the first answer for the answer of all (contracts.md G).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from responder.errors import ResponderError, Temporary
from responder.last_look import Clear, always_clear
from responder.redis_connections import OpenWire, RedisCall, RedisConnection
from responder.redis_replies import Reply, list_of, text_of
from responder.sentinel_views import MasterView, ReplicaView, Views, joined, master_view, replica_views
from responder.services import RedisSentinelService


class SentinelConnection:
    """What an action speaks through to Sentinels, and to the master that they agree on."""

    keyed = False
    """No server honours idempotency keys."""

    def __init__(self, name: str, service: RedisSentinelService, opener: OpenWire) -> None:
        self.name = name
        self.service = service
        self._open = opener
        self._opened: dict[str, RedisConnection] = {}

    async def send(self, call: RedisCall, timeout: float, clear: Clear = always_clear) -> Reply:
        """Send `call` once to the master that a majority of the Sentinels names. `timeout` in seconds; `clear` as for
        every connection.

        Raises Temporary, Permanent, Unknown.
        """
        return await self.ask(await self.master(timeout / 3), call, timeout * 2 / 3, clear)

    async def ask(self, server: str, call: RedisCall, timeout: float, clear: Clear = always_clear) -> Reply:
        """Send `call` once to the Redis server at `server`. Raises Temporary, Permanent, Unknown."""
        return await self._server(server).send(call, timeout, clear)

    async def ask_sentinel(self, sentinel: str, call: RedisCall, timeout: float, clear: Clear = always_clear) -> Reply:
        """Send `call` once to this Sentinel alone. Raises Temporary, Permanent, Unknown."""
        return await self._sentinel(sentinel).send(call, timeout, clear)

    async def master(self, timeout: float) -> str:
        """The master's address by a majority of the configured Sentinels. Raises Temporary without one."""
        call = RedisCall(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service.master))
        given = await self._each(call, timeout)
        named = [_address(reply) for reply in given if not isinstance(reply, ResponderError)]
        best = max(dict.fromkeys(named), key=named.count, default="")
        needed = len(self.service.sentinels) // 2 + 1
        if best and named.count(best) >= needed:
            return best
        said = ", ".join(str(one) if isinstance(one, ResponderError) else _address(one) or "unknown" for one in given)
        cure = "start the Sentinels that are down, and check `master`"
        raise Temporary(f"{self.name}: {needed} Sentinels must name one master ({said}): {cure}")

    async def views(self, timeout: float) -> Views:
        """What each Sentinel says about the master. Raises nothing: who does not answer is silent."""
        names = self.service.sentinels
        given = await self._each(RedisCall(("SENTINEL", "MASTER", self.service.master)), timeout)
        heard: list[MasterView] = []
        silent: dict[str, str] = {}
        for name, reply in zip(names, given, strict=True):
            if isinstance(reply, ResponderError):
                silent[name] = str(reply)
            else:
                heard.append(master_view(name, reply))
        return Views(tuple(heard), silent)

    async def replicas(self, timeout: float) -> dict[str, tuple[ReplicaView, ...]]:
        """The replicas that each Sentinel tells of. Raises nothing: who does not answer is left out."""
        given = await self._each(RedisCall(("SENTINEL", "REPLICAS", self.service.master)), timeout)
        each = zip(self.service.sentinels, given, strict=True)
        return {name: replica_views(reply) for name, reply in each if not isinstance(reply, ResponderError)}

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _each(self, call: RedisCall, timeout: float) -> Sequence[Reply | ResponderError]:
        return await asyncio.gather(*(self._tried(name, call, timeout) for name in self.service.sentinels))

    async def _tried(self, sentinel: str, call: RedisCall, timeout: float) -> Reply | ResponderError:
        try:
            async with asyncio.timeout(timeout):
                return await self.ask_sentinel(sentinel, call, timeout)
        except ResponderError as error:
            return error
        except TimeoutError:
            return Temporary("no answer in time")

    def _sentinel(self, address: str) -> RedisConnection:
        name = f"{self.name} (Sentinel {address})"
        if name not in self._opened:
            self._opened[name] = RedisConnection(name, self.service.sentinel(address), self._open)
        return self._opened[name]

    def _server(self, address: str) -> RedisConnection:
        name = f"{self.name} ({address})"
        if name not in self._opened:
            self._opened[name] = RedisConnection(name, self.service.server(address), self._open)
        return self._opened[name]


def _address(reply: Reply | ResponderError) -> str:
    """`HOST:PORT` of an answer, "" where the Sentinel does not know the master."""
    pair = [] if isinstance(reply, ResponderError) else list_of(reply)
    return joined(text_of(pair[0]), text_of(pair[1])) if len(pair) == 2 else ""
