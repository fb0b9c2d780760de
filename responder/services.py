"""The kinds of service that can be configured.

An alert can never choose a host: a step names a service, and only the configuration says where that is. How one
is spoken to is `connections`, `redis_connections` and `kubernetes_connections`; this module loads no network library,
so reading a configuration stays quick.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, model_validator

from responder.circuit_breakers import CircuitBreaker
from responder.contracts import Secret, SecureUrl, Service, Strict
from responder.timing import SECOND, format_duration
from responder.written import Duration


def _split(text: str, like: str) -> tuple[SplitResult, int | None]:
    """An address and its port. No message about addresses shows the value: people put passwords into them."""
    try:
        url = urlsplit(text)
        return url, url.port
    except ValueError:
        raise ValueError(f"this is no address: write it like {like}") from None


def _base_url(text: str) -> str:
    url, port = _split(text, "https://risk.example:8080")
    if url.scheme not in {"http", "https"} or not url.hostname or port == 0:
        raise ValueError("an address begins with http:// or https:// and a host")
    if "@" in url.netloc:
        raise ValueError("an address holds no user or password: use `basic` with {env: NAME} or {file: PATH}")
    if "?" in text or "#" in text or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("an address ends with the host or a base path: parameters belong to the step")
    return text.rstrip("/")


HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]


class Basic(Strict):
    """A user's name and password, sent as HTTP basic authentication."""

    username: str
    """The user's name."""
    password: Secret
    """The password."""


class SecretHeader(Strict):
    """A header whose value is a secret, such as X-Api-Key."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    """The name of the header."""
    value: Secret
    """What is sent in it."""


class Signing(Strict):
    """Every request is signed: HMAC-SHA256, with the time and a number that is used once.

    Signed is `signs`, its parts joined by a line feed. `path` is what the request line holds: base path, path and
    query, percent-encoded; `body` the body's bytes, none when there is no body; `body_sha256` their digest in hex.
    """

    secret: Secret
    """The key, read afresh for every request."""
    signs: Annotated[
        tuple[Literal["method", "path", "timestamp", "nonce", "body", "body_sha256"], ...], Field(min_length=1)
    ] = ("timestamp", "nonce", "method", "path", "body")
    """What is signed, in this order."""
    timestamp: Literal["seconds", "milliseconds"] = "seconds"
    """The unit of the time, counted since 1970, UTC."""
    encoding: Literal["hex", "base64"] = "hex"
    """How the signature is written."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9=_-]{0,16}$")] = ""
    """What stands before it, such as `sha256=`."""
    signature_header: HeaderName = "X-Signature"
    """The header with the signature."""
    timestamp_header: HeaderName = "X-Timestamp"
    """The header with the time."""
    nonce_header: HeaderName = "X-Nonce"
    """The header with the number that is used once."""


class ClientCertificate(Strict):
    """Who we are, for a service that asks for a certificate (mTLS). Read again for new connections when it changed."""

    cert_file: str
    """PEM file of our certificate, with those between it and its authority."""
    key_file: str
    """PEM file of its key, without a password. For PostgreSQL nobody but us may read it (0600, or 0640 of root)."""


class Endpoint(Service):
    """What every service spoken to over HTTP is configured with.

    There is no switch that turns the verification of certificates off: name the authority in `ca_file`.
    """

    url: Annotated[str, AfterValidator(_base_url)]
    """Scheme and host, with a base path where there is one."""
    bearer: Secret | None = None
    """A token, sent as `Authorization: Bearer`."""
    basic: Basic | None = None
    """A user's name and password."""
    header: SecretHeader | None = None
    """A header of its own with a key."""
    signing: Signing | None = None
    """Signs every request, beside a credential or alone."""
    client_certificate: ClientCertificate | None = None
    """Our certificate, where the service asks for one."""
    circuit_breaker: CircuitBreaker | None = None
    """Stops sending changes for a while after failures in a row; without it every change is sent."""
    ca_file: str | None = None
    """PEM file of the authorities that sign its certificate, instead of the well-known ones."""
    connections: Annotated[int, Field(ge=1, le=1024)] = 256
    """Requests in flight at most; connections are opened when needed, so a fast service sees few."""
    timeout: Duration = 30 * SECOND
    """No request waits longer for an answer, whatever the step's timeout."""
    max_response_bytes: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024
    """Of a longer answer only the beginning is read."""

    @model_validator(mode="after")
    def _one_credential(self) -> Endpoint:
        if sum(given is not None for given in (self.bearer, self.basic, self.header)) > 1:
            raise ValueError("a service has one of 'bearer', 'basic' and 'header'")
        if self.client_certificate is not None and not self.url.startswith("https:"):
            raise ValueError("a `client_certificate` needs TLS: write the address with https://")
        return self


class HttpService(Endpoint):
    """An HTTP API. With `idempotency_keys: true` it promises to do a change once however often one key is sent."""

    kind: Literal["http"] = "http"
    idempotency_keys: bool = False
    """It does a change once however often the same key is sent, so a POST may be sent again."""
    idempotency_header: HeaderName = "Idempotency-Key"
    """The header that the key is sent in."""


class PrometheusService(Endpoint):
    """A Prometheus server, or anything with its query API (Thanos, Mimir, VictoriaMetrics)."""

    kind: Literal["prometheus"] = "prometheus"


class AlertmanagerService(Endpoint):
    """An Alertmanager in which silences are made. Whom is asked what fires stands below `alertmanagers:`."""

    kind: Literal["alertmanager"] = "alertmanager"


def _redis_url(text: str) -> str:
    url, port = _split(text, "redis://redis.example:6379")
    if url.scheme not in {"redis", "rediss"} or not url.hostname or port == 0:
        raise ValueError("an address begins with redis:// (rediss:// for TLS) and a host")
    if "@" in url.netloc:
        raise ValueError("an address holds no user or password: use `username` and `password` with {env: NAME}")
    database = url.path.strip("/")
    if not (database == "" or re.fullmatch("[0-9]{1,4}", database)) or "?" in text or "#" in text:
        raise ValueError("an address ends with the port or the number of a database, such as /0")
    return text.rstrip("/")


class RedisService(Service):
    """A Redis server, or anything that speaks its protocol (Valkey, KeyDB). One host: no cluster. Where Sentinels watch
    over it, see `redis_sentinel`.

    Give it a user of its own (ACL SETUSER) that may only do what runbooks ask: their pages name the commands.
    """

    kind: Literal["redis"] = "redis"
    url: Annotated[str, AfterValidator(_redis_url)]
    """`redis://HOST:PORT/DATABASE`, `rediss://` for TLS; port 6379 and database 0 may be left out."""
    username: str | None = None
    """The user of its access control list; without one the password is that of `default`."""
    password: Secret | None = None
    """The user's password."""
    ca_file: str | None = None
    """PEM file of the authorities that sign its certificate, instead of the well-known ones."""
    client_certificate: ClientCertificate | None = None
    """Our certificate. Redis asks for one over TLS unless it has `tls-auth-clients no`."""
    connections: Annotated[int, Field(ge=1, le=64)] = 8
    """Commands in flight at most; each has a connection of its own."""
    timeout: Duration = 5 * SECOND
    """No command waits longer for its answer, whatever the step's timeout."""

    @model_validator(mode="after")
    def _whole_credential(self) -> RedisService:
        if self.username is not None and self.password is None:
            raise ValueError("`username` needs its `password`: {env: NAME} or {file: PATH}")
        if self.ca_file is not None and not self.url.startswith("rediss:"):
            raise ValueError("`ca_file` needs TLS: write the address with rediss://")
        if self.client_certificate is not None and not self.url.startswith("rediss:"):
            raise ValueError("a `client_certificate` needs TLS: write the address with rediss://")
        return self


def _host_port(text: str) -> str:
    """`HOST:PORT`, IPv6 in brackets."""
    url, port = _split(f"//{text}", "sentinel-1.example:26379")
    if "@" in text:
        raise ValueError("an address holds no user or password: use `sentinel_username` and `sentinel_password`")
    if not url.hostname or port == 0 or url.netloc != text or not text.isprintable() or " " in text:
        raise ValueError("a Sentinel's address is its host and port, such as sentinel-1.example:26379")
    return text if port else f"{text.rstrip(':')}:26379"


class RedisSentinelService(Service):
    """A Redis master with replicas that Sentinels watch over. What reads asks them for the master, and reads there.

    Name every Sentinel there is: what a majority of them says counts, and a majority of those that are named here is
    no majority when others exist.

    Give it a user of its own (ACL SETUSER) on the Sentinels and another on the servers; docs/redis.md has both.
    """

    kind: Literal["redis_sentinel"] = "redis_sentinel"
    sentinels: Annotated[tuple[Annotated[str, AfterValidator(_host_port)], ...], Field(min_length=1, max_length=15)]
    """All Sentinels, each `HOST:PORT`; port 26379 may be left out. A failover goes through the first that answers."""
    master: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
    """The master's name, as in `sentinel monitor NAME …`."""
    database: Annotated[int, Field(ge=0, le=9999)] = 0
    """The number of the database on the servers."""
    username: str | None = None
    """The user of the Redis servers' access control lists; without one the password is that of `default`."""
    password: Secret | None = None
    """That user's password."""
    sentinel_username: str | None = None
    """The user of the Sentinels' access control lists."""
    sentinel_password: Secret | None = None
    """That user's password; without one the Sentinels are asked without a password."""
    tls: bool = False
    """Sentinels and servers speak TLS. Their certificates must name the addresses that the Sentinels tell."""
    ca_file: str | None = None
    """PEM file of the authorities that sign their certificates, instead of the well-known ones."""
    client_certificate: ClientCertificate | None = None
    """Our certificate, shown to Sentinels and servers. They ask for one unless they have `tls-auth-clients no`."""
    connections: Annotated[int, Field(ge=1, le=64)] = 8
    """Commands in flight at most to one Sentinel or server; each has a connection of its own."""
    timeout: Duration = 5 * SECOND
    """No command waits longer for its answer, whatever the step's timeout."""
    apart: Duration | None = None
    """The least time between two failovers; without it twice the `failover-timeout` that the Sentinels tell."""

    @model_validator(mode="after")
    def _whole(self) -> RedisSentinelService:
        if len(set(self.sentinels)) < len(self.sentinels):
            raise ValueError("a Sentinel is named twice: its voice would count twice")
        if self.username is not None and self.password is None:
            raise ValueError("`username` needs its `password`: {env: NAME} or {file: PATH}")
        if self.sentinel_username is not None and self.sentinel_password is None:
            raise ValueError("`sentinel_username` needs its `sentinel_password`: {env: NAME} or {file: PATH}")
        if self.ca_file is not None and not self.tls:
            raise ValueError("`ca_file` needs TLS: write `tls: true`")
        if self.client_certificate is not None and not self.tls:
            raise ValueError("a `client_certificate` needs TLS: write `tls: true`")
        return self

    def sentinel(self, address: str) -> RedisService:
        """One of the Sentinels, as a server of its own."""
        return self._at(address, "", self.sentinel_username, self.sentinel_password)

    def server(self, address: str) -> RedisService:
        """A Redis server that the Sentinels tell of, as `HOST:PORT`."""
        return self._at(address, f"/{self.database}" if self.database else "", self.username, self.password)

    def _at(self, address: str, path: str, username: str | None, password: Secret | None) -> RedisService:
        return RedisService(
            url=f"{'rediss' if self.tls else 'redis'}://{address}{path}",
            username=username,
            password=password,
            ca_file=self.ca_file,
            client_certificate=self.client_certificate,
            connections=self.connections,
            timeout=format_duration(self.timeout),
        )


class KubernetesService(Service):
    """A Kubernetes cluster, or the part of one that `namespaces` names: nothing outside of them is asked or changed.

    Who we are comes from one of three: `in_cluster: true` (the service account of the pod that this runs in), a
    `kubeconfig` file with its `context`, or `url` with `token` and `ca_file`. Give that user a Role in each namespace
    with the rules that the pages of the actions name, and no ClusterRole.

    A kubeconfig is read again every minute, so that a rotated credential and what an exec plugin gives is used. One
    that turns the verification of certificates off is refused. Proxies are taken from the kubeconfig (`proxy-url`),
    never from the environment.
    """

    kind: Literal["kubernetes"] = "kubernetes"
    in_cluster: bool = False
    """Use the service account of this pod."""
    kubeconfig: str | None = None
    """Path of a kubeconfig file."""
    context: str | None = None
    """The context of the kubeconfig; without it the file's current one, which somebody may switch."""
    url: SecureUrl | None = None
    """Address of the API server."""
    token: Secret | None = None
    """Token of a service account, sent as `Authorization: Bearer`."""
    ca_file: str | None = None
    """PEM file of the authority that signs the server's certificate."""
    namespaces: tuple[Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")], ...]
    """The only namespaces that may be asked or changed."""
    timeout: Duration = 10 * SECOND
    """No request waits longer for an answer, whatever the step's timeout."""
    field_manager: Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]{1,128}$")] = "responder"
    """The name under which the cluster notes what was changed (`managedFields`)."""
    connections: Annotated[int, Field(ge=1, le=256)] = 16
    """Requests in flight at most; each has a connection of its own."""
    max_response_bytes: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = 4 * 1024 * 1024
    """Of a longer answer only the beginning is read."""

    def never_takes(self, with_: Mapping[str, Any]) -> tuple[str, str, str] | None:
        """See Service.never_takes."""
        named = with_.get("namespace")
        if not isinstance(named, str) or named in self.namespaces:
            return None
        message = f"the service allows the namespaces {', '.join(self.namespaces)} only"
        return "namespace", message, "add it to the service's `namespaces`, or correct the step"

    @model_validator(mode="after")
    def _one_way_in(self) -> KubernetesService:
        if sum((self.in_cluster, self.kubeconfig is not None, self.url is not None)) != 1:
            raise ValueError("a cluster has exactly one of `in_cluster: true`, `kubeconfig` and `url`")
        if self.url is None and (self.token is not None or self.ca_file is not None):
            raise ValueError("`token` and `ca_file` belong to `url`; otherwise the kubeconfig or the pod has them")
        if self.url is not None and self.token is None:
            raise ValueError("`url` needs its `token`: {env: NAME} or {file: PATH}")
        if self.context is not None and self.kubeconfig is None:
            raise ValueError("`context` belongs to `kubeconfig`")
        if not self.namespaces:
            raise ValueError("`namespaces` is empty, so nothing may be touched: name those that runbooks act in")
        return self


class PatroniApi(Endpoint):
    """Patroni's REST API on this server, through which alone it is promoted; see `postgres.promote`."""

    kind: Literal["patroni"] = "patroni"
    member: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
    """What Patroni calls this server."""


def _postgres_url(text: str) -> str:
    url, port = _split(text, "postgresql://db.example:5432/trading")
    if url.scheme != "postgresql" or not url.hostname or port == 0 or "," in url.netloc:
        raise ValueError("an address begins with postgresql:// and one host: which server answers is never left open")
    if "@" in url.netloc:
        raise ValueError("an address holds no user or password: use `username` and `password` with {env: NAME}")
    if not re.fullmatch(r"/[A-Za-z0-9_.-]{1,63}", url.path) or "?" in text or "#" in text:
        raise ValueError("an address ends with the name of one database, such as /trading, without parameters")
    return text


class PostgresService(Service):
    """One PostgreSQL server, spoken to directly: behind a pooler such as PgBouncer a pid is not the session's own.

    Give it a role of its own that may only do what runbooks ask: the pages of the actions name the grants.
    """

    kind: Literal["postgres"] = "postgres"
    url: Annotated[str, AfterValidator(_postgres_url)]
    """`postgresql://HOST:PORT/DATABASE`; port 5432 may be left out."""
    username: str
    """The role to log in as."""
    password: Secret | None = None
    """Its password."""
    tls: Literal["verify-full", "off"] = "verify-full"
    """`off` sends everything readable: only on a network of one's own, and without a password that matters."""
    ca_file: str | None = None
    """PEM file of the authorities that sign its certificate, instead of the well-known ones."""
    client_certificate: ClientCertificate | None = None
    """Our certificate, where pg_hba.conf asks for one (`cert`, or `clientcert=verify-full`)."""
    session: Literal["any", "primary", "standby"] = "any"
    """What the server must be (libpq's `target_session_attrs`); another one is not spoken to."""
    patroni: PatroniApi | None = None
    """Where Patroni decides who is the primary: its REST API. It is never gone round."""
    connections: Annotated[int, Field(ge=1, le=16)] = 2
    """Connections at most; each lasts for one use."""
    timeout: Duration = 10 * SECOND
    """No reading statement runs longer, whatever the step's timeout."""
    lock_timeout: Duration = 2 * SECOND
    """No statement waits longer for a lock."""

    @model_validator(mode="after")
    def _certificates_need_tls(self) -> PostgresService:
        if self.ca_file is not None and self.tls == "off":
            raise ValueError("`ca_file` needs TLS: remove `tls: off`")
        if self.client_certificate is not None and self.tls == "off":
            raise ValueError("a `client_certificate` needs TLS: remove `tls: off`")
        return self


def _absolute(text: str) -> str:
    if not text.startswith("/") or ".." in text.split("/"):
        raise ValueError("a folder is named from the root, such as /opt/trading/scripts")
    return text


EnvironmentName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]


class CommandService(Service):
    """A folder of executables, all of whose files runbooks may run; only root or the responder's user may write it."""

    kind: Literal["command"] = "command"
    folder: Annotated[str, AfterValidator(_absolute)]
    """Where they are. Links that lead out of it are not followed."""
    passes: tuple[EnvironmentName, ...] = ()
    """Variables of the responder's own environment that they get; of the rest they see nothing."""
    environment: dict[EnvironmentName, str] = Field(default_factory=dict)
    """Further variables."""
    connections: Annotated[int, Field(ge=1, le=64)] = 4
    """How many run at a time."""
    timeout: Duration = 300 * SECOND
    """None runs longer, whatever the step's timeout."""
    max_output_bytes: Annotated[int, Field(ge=256, le=4 * 1024 * 1024)] = 64 * 1024
    """Of a longer output the beginning is kept."""


SERVICES: Mapping[str, type[Service]] = {
    "alertmanager": AlertmanagerService,
    "command": CommandService,
    "http": HttpService,
    "kubernetes": KubernetesService,
    "postgres": PostgresService,
    "prometheus": PrometheusService,
    "redis": RedisService,
    "redis_sentinel": RedisSentinelService,
}
"""The kinds of service by the word in `kind`."""
