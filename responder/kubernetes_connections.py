"""Connections to the configured Kubernetes clusters: one request, one answer, and what a missing answer means.

Why the official library is used for its configuration only, and aiohttp beneath it directly: `kubernetes.aio` loads
kubeconfigs, service accounts and exec plugins well, but its REST layer takes proxies from the environment, follows
redirects with the credential, reads answers without a limit, and lets aiohttp send a DELETE again over a connection
that the server had closed. Each of these is a parameter or a small connector of aiohttp, none of them is a parameter of
the layer above it (docs/adr/0023).

A connection lasts for one request. Patches are rare, and a connection that nobody else used before leaves no doubt
whether anything was sent. Nothing is tried twice here: only `decide` may.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from responder.errors import BadConfig, Permanent, ResponderError, Temporary, Unknown
from responder.kubernetes_calls import KubernetesAnswer, KubernetesCall, PatchType
from responder.last_look import Clear, always_clear
from responder.permits import ALL_IN_USE, permit
from responder.redaction import hide_known
from responder.services import KubernetesService
from responder.timing import SECOND

_FRESH = 60.0  # seconds; then a kubeconfig is read again, and with it what its exec plugin or token file gives
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came. `secret`: the credential that was sent, which must not be told."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False
    secret: str = ""


class Wire(Protocol):
    """The way to one cluster; it raises the errors of aiohttp, and BadConfig."""

    async def ask(self, call: KubernetesCall, patience: float, clear: Clear) -> Reply:
        """Send one request and read its answer. `patience` in seconds; `clear` is asked before its first byte."""
        ...


OpenCluster = Callable[[KubernetesService], Wire]
"""Makes the way to a cluster; nothing is opened yet."""


def load_library() -> None:
    """Load the library now: it takes most of a second, which no loop that is running has."""
    import kubernetes.aio.client
    import kubernetes.aio.config  # noqa: F401


class KubernetesConnection:
    """What an action speaks through to one cluster."""

    keyed = False
    """No API server honours idempotency keys."""

    def __init__(self, name: str, service: KubernetesService, opener: OpenCluster) -> None:
        self.name = name
        self.service = service
        self._wire = opener(service)
        self._permits = asyncio.Semaphore(service.connections)

    async def send(self, call: KubernetesCall, timeout: float, clear: Clear = always_clear) -> KubernetesAnswer:
        """Send `call` once and read its answer, whatever its status. `timeout` in seconds; `clear` is asked right
        before a change.

        Raises Permanent for a namespace that the service does not allow, before anything is sent; Temporary where
        nothing was sent or only asked; Unknown where a change may have happened; BadConfig.
        """
        place = f"{self.name}: {call.told}"
        if call.namespace not in self.service.namespaces:
            allowed = ", ".join(self.service.namespaces)
            raise Permanent(
                f"{place}: nothing was sent: the service allows the namespaces {allowed} only; "
                "add it to its `namespaces`, or correct the step"
            )
        async with permit(self._permits, timeout / 3, Temporary(f"{place}: nothing was sent: {ALL_IN_USE}")):
            try:
                looks = clear if call.changes else always_clear
                reply = await self._wire.ask(call, min(timeout, self.service.timeout / SECOND), looks)
            except ResponderError:
                raise
            except Exception as error:  # noqa: BLE001  (what is not the network's is raised again)
                raise _failure(error, call, place) from None
        return _answer(reply, call, place)

    async def close(self) -> None:
        """Nothing is kept open."""


def _answer(reply: Reply, call: KubernetesCall, place: str) -> KubernetesAnswer:
    text = hide_known(reply.body.decode("utf-8", "replace"), (reply.secret,))
    headers = {name.lower(): value for name, value in reply.headers.items()}
    return KubernetesAnswer(place, call, reply.status, headers, text, reply.cut).believed


def _failure(error: Exception, call: KubernetesCall, place: str) -> ResponderError:
    """What a request without an answer means. Raises again what is not the network's."""
    import aiohttp

    if isinstance(error, aiohttp.InvalidURL):
        return Permanent(f"{place}: nothing was sent: the address cannot be used; check the service's url")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        quoted = f" ({str(error)[:120]})" if isinstance(error, aiohttp.ClientConnectorError) else ""
        cure = "check that the API server runs, its address and its certificate"
        return Temporary(f"{place}: nothing was sent, no connection{quoted}: {cure}")
    if not isinstance(error, aiohttp.ClientError | TimeoutError | OSError):
        raise error
    lost = "no answer in time" if isinstance(error, TimeoutError) else "the connection was lost"
    if call.changes:
        return Unknown(f"{place}: {lost} ({type(error).__name__}); the change may have happened")
    return Temporary(f"{place}: {lost} ({type(error).__name__}); check the API server")


# --- the real way -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A configuration of the library, with the context for TLS that follows from it."""

    configuration: Any
    trust: ssl.SSLContext
    at: float


@dataclass
class LibraryWire:
    """The library's configuration and aiohttp, without anything that either would do on its own."""

    service: KubernetesService
    _loaded: _Loaded | None = None
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(self, call: KubernetesCall, patience: float, clear: Clear) -> Reply:
        """See Wire."""
        import aiohttp

        loaded = await self._configured()
        credential = await self._credential(loaded.configuration)
        address = loaded.configuration.host.rstrip("/") + call.resource.path(call.namespace, call.name)
        # The third for connecting leaves the rest for the answer; running out of it there has sent nothing.
        limits = aiohttp.ClientTimeout(total=patience, connect=patience / 3)
        connector = _once(loaded.trust, clear)
        async with (
            aiohttp.ClientSession(
                connector=connector, trust_env=False, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
            session.request(
                call.method,
                f"{address}?{urlencode(self._query(call))}" if self._query(call) else address,
                data=None if call.sent is None else json.dumps(call.sent).encode(),
                headers=_headers(call, credential),
                timeout=limits,
                allow_redirects=False,
                proxy=loaded.configuration.proxy,
                server_hostname=loaded.configuration.tls_server_name,
            ) as response,
        ):
            body, cut = await _read(response.content, self.service.max_response_bytes)
            return Reply(response.status, response.headers, body, cut, credential.partition(" ")[2])

    def _query(self, call: KubernetesCall) -> dict[str, str]:
        """Who changed a field is written down by the server, under the service's own name."""
        managed = (
            {"fieldManager": self.service.field_manager} if call.verb in {"patch", "create"} and not call.reads else {}
        )
        return {**call.query, **managed}

    async def _credential(self, configuration: Any) -> str:
        """The header, read afresh: a plain token from its secret, a service account's from its file."""
        if self.service.token is not None:
            return f"Bearer {self.service.token.reveal().strip()}"
        return str(await configuration.get_api_key_with_prefix("BearerToken", alias="authorization") or "").strip()

    async def _configured(self) -> _Loaded:
        async with self._loading:
            now = asyncio.get_running_loop().time()
            lasts = self.service.kubeconfig is None
            if self._loaded is None or not (lasts or now - self._loaded.at < _FRESH):
                self._loaded = await self._load(now)
            return self._loaded

    async def _load(self, now: float) -> _Loaded:
        """Raises BadConfig."""
        from kubernetes.aio import config as library
        from kubernetes.aio.client import Configuration
        from kubernetes.aio.client.rest import RESTClientObject

        service, configuration = self.service, type.__call__(Configuration)
        # Without annotations, as mypy sees it.
        load_incluster_config: Any = library.load_incluster_config
        load_kube_config: Any = library.load_kube_config
        try:
            if service.in_cluster:
                load_incluster_config(configuration)
            elif service.kubeconfig is not None:
                await load_kube_config(service.kubeconfig, service.context, configuration, persist_config=False)
            else:
                configuration.host, configuration.ssl_ca_cert = service.url, service.ca_file
            self._check(configuration)
            return _Loaded(configuration, RESTClientObject(configuration).ssl_context, now)
        except library.ConfigException as error:
            raise BadConfig(f"{self._named}: {str(error)[:200]}; correct it") from None
        except BadConfig:
            raise
        except Exception as error:  # noqa: BLE001
            # What a parser says may quote the file, and so a secret.
            raise BadConfig(f"{self._named} cannot be used ({type(error).__name__}); check it with kubectl") from None

    def _check(self, configuration: Any) -> None:
        url = urlsplit(str(configuration.host))
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in _LOCAL):
            raise BadConfig(f"{self._named}: the server's address must begin with https://, credentials are sent there")
        if not configuration.verify_ssl:
            cure = "remove insecure-skip-tls-verify and name the authority"
            raise BadConfig(f"{self._named}: the server's certificate would not be verified: {cure}")

    @property
    def _named(self) -> str:
        if self.service.in_cluster:
            return "the service account of this pod (in_cluster)"
        if self.service.kubeconfig is not None:
            return f"kubeconfig {self.service.kubeconfig}"
        return "the service's url, token and ca_file"


def _once(trust: ssl.SSLContext, clear: Clear) -> Any:
    """A connector that connects once, and asks `clear` once it is connected. aiohttp sends a GET or DELETE a second
    time when the server closes without an answer, has no setting against it, and takes a new connection for it."""
    import aiohttp

    class Once(aiohttp.TCPConnector):
        asked = False

        async def connect(self, *given: Any, **named: Any) -> Any:
            if self.asked:
                raise aiohttp.ServerDisconnectedError
            self.asked = True
            connection = await super().connect(*given, **named)
            try:
                await clear()
            except BaseException:
                connection.close()
                raise
            return connection

    return Once(ssl=trust, limit=0, force_close=True)


def _headers(call: KubernetesCall, credential: str) -> dict[str, str]:
    # Unpacking what a server packed could make megabytes of a few bytes, so nothing packed is asked for.
    headers = {"User-Agent": "responder", "Accept": "application/json, */*;q=0.5", "Accept-Encoding": "identity"}
    if credential:
        headers["Authorization"] = credential
    if call.body is not None:
        headers["Content-Type"] = (call.patch or PatchType.MERGE).value if call.verb == "patch" else "application/json"
    return headers


async def _read(content: Any, limit: int) -> tuple[bytes, bool]:
    """The body up to the limit, and whether it was longer."""
    kept = bytearray()
    async for chunk in content.iter_chunked(64 * 1024):
        kept += chunk[: limit + 1 - len(kept)]
        if len(kept) > limit:
            return bytes(kept[:limit]), True
    return bytes(kept), False
