"""The kinds of HTTP service that can be configured.

An alert can never choose a host: a step names a service, and only the configuration says where that is. How one
is spoken to is `connections`; this module loads no network library, so reading a configuration stays quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from responder.contracts import Secret, Service, Strict
from responder.timing import SECOND
from responder.written import Duration


def _base_url(text: str) -> str:
    """The message never shows the value: people put passwords into addresses."""
    try:
        url = urlsplit(text)
        port = url.port  # read for its check
    except ValueError:
        raise ValueError("this is no address: write it like https://risk.example:8080") from None
    if url.scheme not in {"http", "https"} or not url.hostname or port == 0:
        raise ValueError("an address begins with http:// or https:// and a host")
    if "@" in url.netloc:
        raise ValueError("an address holds no user or password: use `basic` with {env: NAME} or {file: PATH}")
    if "?" in text or "#" in text or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("an address ends with the host or a base path: parameters belong to the step")
    return text.rstrip("/")


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
        return self


class HttpService(Endpoint):
    """An HTTP API. With `idempotency_keys: true` it promises to do a change once however often one key is sent."""

    kind: Literal["http"] = "http"
    idempotency_keys: bool = False
    """It does a change once however often the same key is sent, so a POST may be sent again."""
    idempotency_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] = "Idempotency-Key"
    """The header that the key is sent in."""


class PrometheusService(Endpoint):
    """A Prometheus server, or anything with its query API (Thanos, Mimir, VictoriaMetrics)."""

    kind: Literal["prometheus"] = "prometheus"


SERVICES: Mapping[str, type[Service]] = {"http": HttpService, "prometheus": PrometheusService}
"""The kinds of service by the word in `kind`."""
