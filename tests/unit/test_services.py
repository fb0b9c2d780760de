"""Configured services: an address holds no secret and leads to one host, and there is one credential."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from responder.contracts import Secret
from responder.services import (
    SERVICES,
    Basic,
    HttpService,
    KubernetesService,
    PrometheusService,
    RedisSentinelService,
    RedisService,
    SecretHeader,
)


def secret() -> Secret:
    return Secret("env TOKEN", lambda: "t0p-s3cret")


def test_the_table_is_by_kind() -> None:
    assert {kind: model.model_fields["kind"].default for kind, model in SERVICES.items()} == {k: k for k in SERVICES}


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://risk:8080", "http://risk:8080"),
        ("https://risk.example/base/", "https://risk.example/base"),
        ("http://[::1]:9090", "http://[::1]:9090"),
    ],
)
def test_an_address_is_a_host_and_perhaps_a_base_path(url: str, kept: str) -> None:
    assert PrometheusService(url=url).url == kept


@pytest.mark.parametrize(
    ("url", "cure"),
    [
        ("risk:8080", "begins with http"),
        ("ftp://risk", "begins with http"),
        ("http://", "begins with http"),
        ("http://risk:99999", "like https://"),
        ("http://user:hunter2hunter2@risk", "use `basic`"),
        ("http://risk/?token=hunter2hunter2", "parameters belong to the step"),
        ("http://risk/#a", "parameters belong to the step"),
        ("http://ri sk", "parameters belong to the step"),
    ],
)
def test_any_other_address_is_refused_with_the_cure(url: str, cure: str) -> None:
    with pytest.raises(ValidationError) as caught:
        HttpService(url=url)
    message = caught.value.errors(include_input=False)[0]["msg"]
    assert cure in message
    assert "hunter2" not in message


def test_a_service_has_one_credential() -> None:
    with pytest.raises(ValidationError, match="one of 'bearer', 'basic' and 'header'"):
        HttpService(url="http://risk", bearer=secret(), basic=Basic(username="u", password=secret()))
    assert HttpService(url="http://risk", header=SecretHeader(name="X-Api-Key", value=secret())).header is not None


def test_a_secret_is_not_shown() -> None:
    shown = (
        repr(HttpService(url="http://risk", bearer=secret()))
        + HttpService(url="http://r", bearer=secret()).model_dump_json()
    )
    assert "t0p-s3cret" not in shown
    assert "env TOKEN" in shown


def test_verification_of_certificates_cannot_be_turned_off() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        HttpService.model_validate({"url": "https://risk", "verify": False})


# --- Redis ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["redis://cache", "rediss://cache:6380/2", "redis://[::1]:6379"])
def test_a_redis_address_is_a_host_and_perhaps_a_database(url: str) -> None:
    assert RedisService(url=f"{url}/").url == url


@pytest.mark.parametrize(
    ("url", "cure"),
    [
        ("http://cache", "begins with redis://"),
        ("redis://", "begins with redis://"),
        ("redis://cache:0", "begins with redis://"),
        ("redis://cache:99999", "like redis://"),
        ("redis://:hunter2hunter2@cache", "use `username` and `password`"),
        ("redis://cache/hunter2", "the number of a database"),
        ("redis://cache/0?ssl_cert_reqs=none", "the number of a database"),
    ],
)
def test_any_other_redis_address_is_refused_with_the_cure(url: str, cure: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RedisService(url=url)
    message = caught.value.errors(include_input=False)[0]["msg"]
    assert cure in message
    assert "hunter2" not in message


def test_a_redis_credential_is_whole_and_an_authority_needs_tls() -> None:
    with pytest.raises(ValidationError, match="`username` needs its `password`"):
        RedisService(url="redis://cache", username="responder")
    with pytest.raises(ValidationError, match="write the address with rediss://"):
        RedisService(url="redis://cache", ca_file="ca.pem")
    whole = RedisService(url="rediss://cache", username="responder", password=secret(), ca_file="ca.pem")
    assert "t0p-s3cret" not in f"{whole!r}{whole.model_dump_json()}"


# --- Sentinels --------------------------------------------------------------------------------------------------------


def sentinels(*addresses: str, **fields: object) -> RedisSentinelService:
    return RedisSentinelService.model_validate({"sentinels": addresses, "master": "mymaster", **fields})


def test_sentinels_and_servers_have_each_their_credential_and_tls() -> None:
    service = sentinels(
        "s-1.example", "[::1]:26380", username="app", password=secret(), sentinel_password=secret(), tls=True,
        ca_file="ca.pem", database=3, timeout="2s",
    )  # fmt: skip
    assert service.sentinels == ("s-1.example:26379", "[::1]:26380")
    sentinel, server = service.sentinel("[::1]:26380"), service.server("10.0.0.1:6379")
    assert (sentinel.url, server.url) == ("rediss://[::1]:26380", "rediss://10.0.0.1:6379/3")
    assert (sentinel.username, server.username, server.ca_file) == (None, "app", "ca.pem")
    assert (sentinel.timeout, server.timeout) == (2_000_000, 2_000_000)


@pytest.mark.parametrize(
    ("address", "cure"),
    [
        ("", "its host and port"),
        ("redis://s-1:26379", "its host and port"),
        ("s-1:26379/0", "its host and port"),
        ("s-1:0", "its host and port"),
        ("s-1:port", "like sentinel-1.example:26379"),
        (":hunter2hunter2@s-1:26379", "use `sentinel_username`"),
    ],
)
def test_any_other_address_of_a_sentinel_is_refused_with_the_cure(address: str, cure: str) -> None:
    with pytest.raises(ValidationError) as caught:
        sentinels(address)
    message = caught.value.errors(include_input=False)[0]["msg"]
    assert cure in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("addresses", "fields", "cure"),
    [
        (("s-1", "s-1:26379"), {}, "its voice would count twice"),
        (("s-1",), {"username": "app"}, "`username` needs its `password`"),
        (("s-1",), {"sentinel_username": "app"}, "`sentinel_username` needs its `sentinel_password`"),
        (("s-1",), {"ca_file": "ca.pem"}, "write `tls: true`"),
    ],
)
def test_what_does_not_fit_of_sentinels_is_told(
    addresses: tuple[str, ...], fields: dict[str, object], cure: str
) -> None:
    with pytest.raises(ValidationError, match=cure):
        sentinels(*addresses, **fields)


@pytest.mark.parametrize(
    ("fields", "cure"),
    [
        ({}, "exactly one of"),
        ({"in_cluster": True, "kubeconfig": "config"}, "exactly one of"),
        ({"in_cluster": True, "token": secret()}, "belong to `url`"),
        ({"url": "https://cluster"}, "`url` needs its `token`"),
        ({"in_cluster": True, "context": "prod"}, "belongs to `kubeconfig`"),
        ({"in_cluster": True, "namespaces": []}, "nothing may be touched"),
        ({"url": "http://cluster", "token": secret()}, "should match pattern"),
        ({"in_cluster": True, "namespaces": ["Trading"]}, "should match pattern"),
    ],
)
def test_a_cluster_has_one_way_in_and_names_its_namespaces(fields: dict[str, Any], cure: str) -> None:
    with pytest.raises(ValidationError, match=cure):
        KubernetesService.model_validate({"namespaces": ["trading"], **fields})


def test_a_cluster_without_namespaces_is_refused() -> None:
    with pytest.raises(ValidationError, match="namespaces"):
        KubernetesService.model_validate({"in_cluster": True})
    whole = KubernetesService(url="https://cluster", token=secret(), namespaces=("trading",))
    assert "t0p-s3cret" not in f"{whole!r}{whole.model_dump_json()}"
