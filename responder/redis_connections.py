"""Connections to the configured Redis servers: one command, one answer, and what a missing answer means.

The library's client would send a command up to eleven times (contracts.md G), so its connection is used without it:
whether anything was sent is then known for certain, and nothing is tried twice. A connection lasts for one command. Who
reads evidence a few times an hour needs no pool, and a password that was rotated is the one that is used.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import urlsplit

from responder.certificates import tls_context
from responder.errors import Permanent, ResponderError, Temporary, Unknown
from responder.last_look import Clear, always_clear
from responder.permits import ALL_IN_USE, permit
from responder.redaction import hide_known
from responder.redis_replies import Reply
from responder.services import RedisService
from responder.timing import SECOND

_LOADING = ("LOADING", "BUSY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "max number of clients")
"""What an error begins with that passes by itself."""
_CURES = {
    "INPROG": "a failover is in progress already, so this one did nothing; wait for its end",
    "NOGOODSLAVE": "no replica can be promoted; look at their links to the master, and at `replica-priority`",
    "NOQUORUM": "too few Sentinels reach each other; start those that are down",
    "READONLY": "it is a replica; wait for the end of a failover, or look which server the service's address leads to",
    "NOREPLICAS": "too few replicas follow it (`min-replicas-to-write`); start them, and look at their links to it",
    "MISCONF": "it cannot save its data, and so takes no writes; look at its log and at the room on its disk",
    "OOM": "its memory is full (`maxmemory`); free some, or raise the limit",
}
"""What a Sentinel or a server answers when it does nothing for now, by the code of the error, with the cure."""
_KINDS = (
    "read a string by redis.get, a hash by redis.hgetall, a stream by redis.xrevrange, a time series by "
    "redis.timeseries_range"
)
_TLS = re.compile(r"\[SSL: (\w+)\]")
_NO_REPLY = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError)
"""What redis-py raises, beside its own errors, over bytes that are no reply of Redis: a length that is no number, lists
thousands deep."""


class NoAnswer(Temporary):
    """Nothing was changed, and the server said nothing at all: it is down, hangs, or cannot be reached from here. What
    answers that it cannot do it now is no such one: it is alive."""


class HungUp(Temporary):
    """Nothing was changed: whoever speaks TLS there ended the connection, in the handshake or after it. That is no
    silence: it is a server that does not want us, or a proxy before one that may be down. Only others can tell which.
    """


class Wire(Protocol):
    """One connection; it raises the errors of redis-py."""

    @property
    def shook_hands(self) -> bool:
        """Whether somebody took part in the handshake of TLS, to its end or until they hung up."""
        ...

    async def connect(self) -> None:
        """Open it, as the service's user, in its database."""
        ...

    async def ask(self, words: tuple[str, ...]) -> Any:
        """Send one command and read its answer."""
        ...

    async def close(self) -> None:
        """Close it at once."""
        ...


OpenWire = Callable[[RedisService, float], Wire]
"""Makes a connection to a service that is not opened yet, with its patience in seconds."""


@dataclass(frozen=True, slots=True)
class RedisCall:
    """One command, such as `("GET", "var_pct:BTC-USD")`. `changes`: the server may be different afterwards."""

    words: tuple[str, ...]
    changes: bool = False


def load_library() -> None:
    """Load redis-py now: it takes a sixth of a second, which no loop that is running has."""
    import redis.asyncio  # noqa: F401


class RedisConnection:
    """What an action speaks through to one server."""

    keyed = False
    """No server honours idempotency keys."""

    def __init__(self, name: str, service: RedisService, opener: OpenWire) -> None:
        self.name = name
        self.service = service
        self._open = opener
        self._permits = asyncio.Semaphore(service.connections)

    async def send(self, call: RedisCall, timeout: float, clear: Clear = always_clear) -> Reply:
        """Send `call` once and read its answer. `timeout` in seconds; `clear` is asked right before a change. Raises
        NoAnswer, HungUp and other Temporary, Permanent, Unknown."""
        place = f"{self.name}: {' '.join(call.words)[:120]}"
        patience = min(timeout, self.service.timeout / SECOND)
        secret = self.service.password.reveal() if self.service.password is not None else ""
        async with permit(self._permits, timeout / 3, Temporary(f"{place}: nothing was sent: {ALL_IN_USE}")):
            wire = self._open(self.service, patience)
            try:
                await _connected(wire, place)
                if call.changes:
                    await clear()
                return _decoded(await _asked(wire, call, place), secret)
            finally:
                await wire.close()

    async def close(self) -> None:
        """Nothing is kept open."""


async def _connected(wire: Wire, place: str) -> None:
    from redis.exceptions import RedisError

    try:
        await wire.connect()
    except (RedisError, *_NO_REPLY) as error:
        raise _refused(
            error, f"{place}: nothing was sent", "no connection", changes=False, alive=wire.shook_hands
        ) from None


async def _asked(wire: Wire, call: RedisCall, place: str) -> Any:
    from redis.exceptions import RedisError

    try:
        return await wire.ask(call.words)
    except (RedisError, *_NO_REPLY) as error:
        raise _refused(error, place, "no answer", changes=call.changes, alive=wire.shook_hands) from None


def _refused(error: Exception, place: str, lacking: str, *, changes: bool, alive: bool) -> ResponderError:
    """What an error says about the world. `changes`: whether the command was done is left open where no answer came.
    `alive`: somebody took part in the handshake of TLS a moment before."""
    from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, ResponseError
    from redis.exceptions import ConnectionError as Closed

    said = " ".join(str(error).split())[:200]
    # The library takes the code off the text of those that it has a class for.
    code = getattr(error, "status_code", None) or said.partition(" ")[0]
    if isinstance(error, AuthenticationError) or said.startswith(("WRONGPASS", "NOAUTH")):
        return Permanent(f"{place}: it does not know us; check the service's `username` and `password`")
    if isinstance(error, NoPermissionError) or said.startswith("NOPERM"):
        return Permanent(f"{place}: its user may not do this ({said}); allow the command with ACL SETUSER")
    if isinstance(error, BusyLoadingError) or said.startswith(_LOADING) or code in _LOADING:
        return Temporary(f"{place}: not now ({said})")
    if code in _CURES:
        return Temporary(f"{place}: refused ({said}); {_CURES[code]}")
    if said.startswith("No such master"):
        return Permanent(f"{place}: the Sentinels do not know it; check the service's `master`")
    # A module says it behind its own code: `ERR WRONGTYPE …`.
    if "WRONGTYPE" in {code, said.partition(" ")[0]}:
        return Permanent(f"{place}: refused: the key is of another kind (WRONGTYPE): {_KINDS}")
    if isinstance(error, ResponseError):
        return Permanent(f"{place}: refused ({said}); check the key and the command")
    lost = f"{place}: {lacking} ({type(error).__name__})"
    if changes:
        return Unknown(f"{lost}; the change may have happened")
    return _unanswered(lost, said, hung_up=alive and isinstance(error, Closed))


def _unanswered(lost: str, said: str, *, hung_up: bool) -> Temporary:
    """What it means that no answer came to what changes nothing; `said` is what the library said."""
    if "SSL" in said:
        # It is alive: whoever took it for dead would replace it.
        why = _TLS.search(said)
        return Temporary(f"{lost}: TLS failed ({why[1] if why else said}): check `ca_file` and `client_certificate`")
    if hung_up:
        # TLS 1.3 judges our certificate after the handshake, and the reset may overtake the alert that says so.
        return HungUp(f"{lost}: it hung up in TLS: check `client_certificate`, its log, and what stands before it")
    return NoAnswer(f"{lost}; check that it runs, and its address")


def _decoded(reply: Any, secret: str) -> Reply:
    """Texts of bytes; a server that echoes the password must not bring it into journal or messages (design 5.11)."""
    if isinstance(reply, bytes):
        text = reply.decode("utf-8", "replace")
        return hide_known(text, (secret,))
    if isinstance(reply, list):
        return [_decoded(one, secret) for one in reply]
    return reply if isinstance(reply, str | int | float) or reply is None else str(reply)


def _forget_at_the_end(connection: Any) -> None:
    """What is not delivered when the connection ends is never delivered: not by the kernel, minutes later.

    A probe that says "nothing happened" would be wrong otherwise. It holds too when this process is killed.
    """
    socket_ = connection._writer.get_extra_info("socket")  # redis-py gives no other way to it
    socket_.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class LibraryWire:
    """A connection of redis-py, without retries, without anything that it would send on its own."""

    def __init__(self, service: RedisService, patience: float) -> None:
        self._service = service
        self._patience = patience
        self.shook_hands = False

    async def connect(self) -> None:
        """See Wire."""
        from redis.exceptions import RedisError

        try:
            await self._connection.connect()
        except RedisError as error:
            # asyncio says so of whoever hangs up in the handshake, and of nothing else on the way there.
            in_it = self._service.url.startswith("rediss:") and isinstance(error.__context__, ConnectionResetError)
            self.shook_hands = self.shook_hands or in_it
            raise
        _forget_at_the_end(self._connection)

    async def ask(self, words: tuple[str, ...]) -> Any:
        """See Wire."""
        await self._connection.send_command(*words)
        return await self._connection.read_response()

    async def close(self) -> None:
        """See Wire."""
        await self._connection.disconnect(nowait=True)

    @cached_property
    def _connection(self) -> Any:
        from redis.asyncio import Connection, SSLConnection
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        service, url = self._service, urlsplit(self._service.url)
        settings: dict[str, Any] = {
            "host": url.hostname,
            "port": url.port or 6379,
            "db": int(url.path.strip("/") or 0),
            "username": service.username,
            "password": service.password.reveal() if service.password is not None else None,
            # Connecting may take a third, so that the rest is left for the answer.
            "socket_connect_timeout": self._patience / 3,
            "socket_timeout": self._patience,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,
        }
        if url.scheme == "rediss":
            encrypted = SSLConnection(**settings, redis_connect_func=self._greet)
            # Its own context would believe the well-known authorities beside `ca_file`.
            encrypted.ssl_context.context = tls_context(service.ca_file, service.client_certificate)
            return encrypted
        return Connection(**settings)

    async def _greet(self, connection: Any) -> None:
        """What the library would do by itself once it is connected: login, choice of the database."""
        self.shook_hands = True
        await connection.on_connect()
