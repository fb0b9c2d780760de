"""Connections to the configured services, shared by the actions, which must not import each other.

One client with many connections collapses under load (design 7), so a service gets a set of transports of one
connection each, opened when needed and used last in, first out. `httpx.AsyncClient` itself was rejected: it keeps
cookies, knows redirects and proxies, and adds its own work to every request. Nothing here tries a request twice: only
`decide` may.

What became of a request without an answer is decided here, by its method, and not by the action: only here is it known
whether anything was sent (`NOTHING_SENT`).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets as secrets_of
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache

import httpx

from responder import command_processes, kubernetes_connections, postgres_connections, redis_connections
from responder.certificates import tls_context
from responder.circuit_breakers import Breaker
from responder.command_processes import CommandConnection
from responder.contracts import Clock, Service
from responder.errors import BadConfig, HeldBack, Permanent, Temporary, Unknown
from responder.http_calls import HttpAnswer, HttpCall, checked_path
from responder.kubernetes_connections import KubernetesConnection, OpenCluster
from responder.last_look import Clear, always_clear
from responder.permits import ALL_IN_USE, AllInUse, permit
from responder.postgres_connections import OpenSql, PostgresConnection
from responder.redaction import hide_known
from responder.redis_connections import OpenWire, RedisConnection
from responder.sentinel_connections import SentinelConnection
from responder.services import (
    CommandService,
    Endpoint,
    HttpService,
    KubernetesService,
    PostgresService,
    RedisSentinelService,
    RedisService,
    Signing,
)
from responder.timing import MILLISECOND, SECOND
from responder.wall_clock import wall_clock

USER_AGENT = "responder"
_KEEP_ALIVE = 3.0  # seconds; servers keep theirs longer (uvicorn: 5), else a change is sent into a closing connection

_WRITES = "http11.send_request_headers.started"
"""What httpcore says once it is connected and writes next."""

Nonce = Callable[[], str]
"""Answers a text that nobody has used before."""


def _nonce() -> str:
    return secrets_of.token_hex(16)


OpenTransport = Callable[[Endpoint], httpx.AsyncBaseTransport]
"""Opens a transport of one connection to a service."""


def _well_known() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


@lru_cache(maxsize=1)
def _trust_nobody() -> ssl.SSLContext:
    """For http:// services, whose transport wants a context all the same: one that accepts no certificate."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _verification(service: Endpoint) -> ssl.SSLContext:
    if not service.url.startswith("https:"):
        return _trust_nobody()
    return tls_context(service.ca_file, service.client_certificate, _well_known)


def open_transport(service: Endpoint) -> httpx.AsyncBaseTransport:
    """A real connection, opened at its first request. Raises BadConfig where a file of certificates cannot be read."""
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_KEEP_ALIVE)
    return httpx.AsyncHTTPTransport(verify=_verification(service), trust_env=False, limits=limits, retries=0)


NOTHING_SENT: Mapping[type[Exception], str] = {
    httpx.ConnectTimeout: "no connection in time; check that it runs and its address",
    httpx.ConnectError: "no connection; check that it runs, its address and its certificate",
    httpx.PoolTimeout: "all connections are in use; raise the service's `connections`",
    httpx.InvalidURL: "the address cannot be used; check the path and the service's url",
    httpx.UnsupportedProtocol: "the address cannot be used; check the service's url",
    httpx.LocalProtocolError: "the request cannot be written; check its headers and credentials",
}
"""The failures after which it is certain that the server got nothing. After any other it may have got the request."""
_NEVER = (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError)


def _failure(error: Exception, call: HttpCall, place: str) -> Temporary | Permanent | Unknown:
    """What a request without an answer means.

    Only a failure to connect is quoted: the text of others may hold what was sent, and so a secret.
    """
    cure = next((text for kind, text in NOTHING_SENT.items() if isinstance(error, kind)), None)
    if cure is not None:
        quoted = f" ({str(error)[:120]})" if isinstance(error, httpx.ConnectError) and str(error) else ""
        said = f"{place}: nothing was sent{quoted}: {cure}"
        return Permanent(said) if isinstance(error, _NEVER) else Temporary(said)
    lost = "no answer in time" if isinstance(error, httpx.TimeoutException) else "the connection was lost"
    if call.changes:
        return Unknown(f"{place}: {lost} ({type(error).__name__}); the change may have happened")
    return Temporary(f"{place}: {lost} ({type(error).__name__}); check the service")


def signature(signing: Signing, key: str, request: httpx.Request, now: int, nonce: str) -> dict[str, str]:
    """The headers that sign a request; see Signing. `now` in µs."""
    unit = SECOND if signing.timestamp == "seconds" else MILLISECOND
    timestamp = str(now // unit)
    parts: Mapping[str, bytes] = {
        "method": request.method.encode(),
        "path": request.url.raw_path,
        "timestamp": timestamp.encode(),
        "nonce": nonce.encode(),
        "body": request.content,
        "body_sha256": hashlib.sha256(request.content).hexdigest().encode(),
    }
    digest = hmac.new(key.encode(), b"\n".join(parts[part] for part in signing.signs), hashlib.sha256).digest()
    written = digest.hex() if signing.encoding == "hex" else base64.b64encode(digest).decode()
    return {
        signing.signature_header: signing.prefix + written,
        signing.timestamp_header: timestamp,
        signing.nonce_header: nonce,
    }


def _before_writing(clear: Clear) -> Callable[[str, Mapping[str, object]], Awaitable[None]]:
    """What the transport tells of its progress (httpcore's `trace`), taken for the moment before the first byte."""

    async def told(event: str, _info: Mapping[str, object]) -> None:
        if event == _WRITES:
            await clear()

    return told


class HttpConnection:
    """What an action speaks through to one service."""

    def __init__(
        self, name: str, service: Endpoint, opener: OpenTransport, now: Clock = wall_clock, nonce: Nonce = _nonce
    ) -> None:
        self.name = name
        self.service = service
        self._open = opener
        self._now = now
        self._nonce = nonce
        self._breaker = None if service.circuit_breaker is None else Breaker(service.circuit_breaker)
        self._idle: list[httpx.AsyncBaseTransport] = []
        self._permits = asyncio.Semaphore(service.connections)
        self._closed = False

    @property
    def keyed(self) -> bool:
        """Whether the service promises to do a change once however often it is sent with one key."""
        return isinstance(self.service, HttpService) and self.service.idempotency_keys

    async def send(self, call: HttpCall, timeout: float, clear: Clear = always_clear) -> HttpAnswer:
        """Send `call` once and read the answer, bounded. `timeout` in seconds; `clear` is asked right before a change.

        Waiting for a free connection and connecting take at most a third of the timeout each, so that running out of
        time there, where nothing was sent, is never mistaken for a lost answer. Raises Temporary, Permanent, Unknown.
        """
        place = f"{self.name}: {call.method} {call.path.partition('?')[0][:200]}"
        if self._breaker is None or not call.changes:
            return await self._sent(call, place, timeout, clear)
        waits = self._breaker.waits(self._now())
        if waits:
            said = "the circuit breaker is open after failures in a row; look at the service"
            raise Temporary(f"{place}: nothing was sent: {said}", waits / SECOND)
        return await self._watched(self._breaker, call, place, timeout, clear)

    async def _watched(self, breaker: Breaker, call: HttpCall, place: str, timeout: float, clear: Clear) -> HttpAnswer:
        """The same, its end told to the breaker. What is wrong with the request itself, that our own connections are
        all in use, and that it was held back says nothing of the service."""
        try:
            answer = await self._sent(call, place, timeout, clear)
        except (Permanent, BadConfig, AllInUse, HeldBack):
            breaker.dropped()
            raise
        except BaseException:  # no answer, or none in the step's time: whoever cancels has waited for it
            breaker.ended(answered=False, now=self._now())
            raise
        breaker.ended(answered=answer.status < 500 or answer.status == 501, now=self._now())
        return answer

    async def _sent(self, call: HttpCall, place: str, timeout: float, clear: Clear) -> HttpAnswer:
        request, secrets = self._request(call, place, min(timeout, self.service.timeout / SECOND))
        try:
            async with self._transport(place, timeout / 3) as transport:
                if call.changes:
                    await clear()
                    # A connection may have to be opened first, for seconds: it is asked again behind that.
                    request.extensions["trace"] = _before_writing(clear)
                response = await transport.handle_async_request(request)
                try:
                    raw, cut = await self._read(response)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _failure(error, call, place) from None
        headers = {name.lower(): hide_known(value, secrets) for name, value in response.headers.items()}
        text = hide_known(raw.decode("utf-8", "replace"), secrets)
        return HttpAnswer(place, response.status_code, headers, text, call.changes, self.keyed, cut)

    async def close(self) -> None:
        """Close what is idle; a connection in use is closed when its request ends."""
        self._closed = True
        while self._idle:
            await self._idle.pop().aclose()

    def _request(self, call: HttpCall, place: str, timeout: float) -> tuple[httpx.Request, tuple[str, ...]]:
        """The request, and the secrets in it. Raises Permanent or BadConfig: nothing was sent."""
        if call.params and "?" in call.path:
            raise Permanent(f"{place}: parameters stand both in the path and under `params`; write them in one place")
        headers, secrets = self._credentials()
        patience = {"connect": timeout / 3, "pool": timeout / 3, "read": timeout, "write": timeout}
        try:
            request = httpx.Request(
                call.method,
                self.service.url + _allowed_path(call.path, place),
                params=dict(call.params) or None,
                headers={**self._standing_headers(call), **call.headers, **headers},
                json=call.json,
                data=None if call.form is None else dict(call.form),
                extensions={"timeout": patience},
            )
        except (ValueError, TypeError, httpx.InvalidURL) as error:
            said = f"the request cannot be written ({type(error).__name__}); check path, headers, body and credentials"
            raise Permanent(f"{place}: nothing was sent: {said}") from None
        if self.service.signing is not None:
            key = self.service.signing.secret.reveal()
            request.headers.update(signature(self.service.signing, key, request, self._now(), self._nonce()))
            secrets = (*secrets, key)
        return request, secrets

    def _standing_headers(self, call: HttpCall) -> dict[str, str]:
        # Unpacking what a server packed could make megabytes of a few bytes, so nothing packed is asked for.
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json, */*;q=0.5", "Accept-Encoding": "identity"}
        if call.changes and call.key:
            named = self.service.idempotency_header if isinstance(self.service, HttpService) else "Idempotency-Key"
            headers[named] = call.key
        return headers

    def _credentials(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """Read afresh for every request, so that a rotated secret is used at once. Raises BadConfig."""
        service = self.service
        if service.bearer is not None:
            token = service.bearer.reveal()
            return {"Authorization": f"Bearer {token}"}, (token,)
        if service.basic is not None:
            password = service.basic.password.reveal()
            pair = base64.b64encode(f"{service.basic.username}:{password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}, (password, pair)
        if service.header is not None:
            value = service.header.value.reveal()
            return {service.header.name: value}, (value,)
        return {}, ()

    @asynccontextmanager
    async def _transport(self, place: str, patience: float) -> AsyncIterator[httpx.AsyncBaseTransport]:
        async with permit(self._permits, patience, AllInUse(f"{place}: nothing was sent: {ALL_IN_USE}")):
            transport = self._idle.pop() if self._idle else self._open(self.service)
            try:
                yield transport
            except BaseException:
                await transport.aclose()  # half of an answer may still be on its way
                raise
            await self._put_back(transport)

    async def _put_back(self, transport: httpx.AsyncBaseTransport) -> None:
        if self._closed:
            await transport.aclose()
        else:
            self._idle.append(transport)

    async def _read(self, response: httpx.Response) -> tuple[bytes, bool]:
        """The body up to the service's limit, and whether it was longer."""
        kept, limit = bytearray(), self.service.max_response_bytes
        assert isinstance(response.stream, httpx.AsyncByteStream)
        async for chunk in response.stream:
            kept += chunk[: limit + 1 - len(kept)]
            if len(kept) > limit:
                return bytes(kept[:limit]), True
        return bytes(kept), False


def _allowed_path(path: str, place: str) -> str:
    try:
        return checked_path(path)
    except ValueError as error:
        raise Permanent(f"{place}: nothing was sent: {error}") from None


AnyConnection = (
    HttpConnection
    | RedisConnection
    | SentinelConnection
    | KubernetesConnection
    | PostgresConnection
    | CommandConnection
)


@dataclass(frozen=True, slots=True)
class Openers:
    """What opens the connections that are not HTTP: the libraries, or what stands in for them in a test."""

    redis: OpenWire = redis_connections.LibraryWire
    kubernetes: OpenCluster = kubernetes_connections.LibraryWire
    postgres: OpenSql = postgres_connections.LibraryWire
    command: command_processes.Launch = command_processes.launch


_LIBRARIES = (
    ((RedisService, RedisSentinelService), redis_connections),
    (KubernetesService, kubernetes_connections),
    (PostgresService, postgres_connections),
)
"""What is loaded only when a service needs it."""
_SPOKEN_TO = (Endpoint, RedisService, RedisSentinelService, KubernetesService, PostgresService, CommandService)


class Connections:
    """The connections to all configured services, each made when it is first asked for.

    Making this loads the libraries that the services need, which takes up to a second: in a thread, where a loop runs.
    """

    def __init__(self, services: Mapping[str, Service], opener: OpenTransport, openers: Openers = Openers()) -> None:
        self._services = services
        self._open = opener
        self._openers = openers
        self._connections: dict[str, AnyConnection] = {}
        for kinds, library in _LIBRARIES:
            if any(isinstance(service, kinds) for service in services.values()):
                library.load_library()

    def connect(self, name: str) -> AnyConnection:
        """The connection to a service. Raises Permanent for a name that the configuration does not have."""
        if name not in self._connections:
            self._connections[name] = self._made(name)
        return self._connections[name]

    def _made(self, name: str) -> AnyConnection:
        service = self._services.get(name)
        if isinstance(service, Endpoint):
            return HttpConnection(name, service, self._open)
        if isinstance(service, RedisService):
            return RedisConnection(name, service, self._openers.redis)
        if isinstance(service, RedisSentinelService):
            return SentinelConnection(name, service, self._openers.redis)
        if isinstance(service, KubernetesService):
            return KubernetesConnection(name, service, self._openers.kubernetes)
        if isinstance(service, PostgresService):
            api = service.patroni
            patroni = None if api is None else HttpConnection(f"{name} (Patroni)", api, self._open)
            return PostgresConnection(name, service, self._openers.postgres, patroni)
        if isinstance(service, CommandService):
            return CommandConnection(name, service, self._openers.command)
        usable = (n for n, s in self._services.items() if isinstance(s, _SPOKEN_TO))
        known = ", ".join(sorted(usable)) or "none"
        raise Permanent(f"there is no service {name!r}: add it under `services` (there are: {known})")

    async def close(self) -> None:
        """Close every connection; requests under way end first."""
        for connection in self._connections.values():
            await connection.close()
