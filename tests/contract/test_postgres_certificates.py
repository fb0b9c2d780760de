"""PostgreSQL over TLS with certificates of both sides, against a real server that asks for ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from responder.contracts import Secret
from responder.errors import BadConfig, Permanent, ResponderError, Temporary
from responder.postgres_connections import LibraryWire, PostgresConnection, SqlCall
from responder.services import PostgresService
from tests.servers import Certificates, Postgres

PASSWORD = "s3cret-sql-password"
HBA = """
host    all postgres  127.0.0.1/32 trust
hostssl all responder 127.0.0.1/32 cert
hostssl all desk      127.0.0.1/32 scram-sha-256 clientcert=verify-full
hostssl all asked     127.0.0.1/32 scram-sha-256
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.made(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(made: Certificates) -> Iterator[Postgres]:
    with Postgres() as started:
        data = started.folder / "data"
        (data / "pg_hba.conf").write_text(HBA)
        for kind, path in (("ca", made.ca), ("cert", made.cert), ("key", made.key)):
            (data / f"{kind}.pem").write_bytes(path.read_bytes())
            (data / f"{kind}.pem").chmod(0o600)
            os.chown(data / f"{kind}.pem", data.stat().st_uid, data.stat().st_gid)
            started.execute(f"ALTER SYSTEM SET ssl_{kind}_file = '{kind}.pem'")
        started.execute("ALTER SYSTEM SET ssl = on")
        for role in ("responder", "desk", "asked"):
            started.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        started.restart()
        yield started


def service(server: Postgres, made: Certificates, **fields: Any) -> PostgresService:
    given = {
        "url": f"postgresql://{server.address}/postgres",
        "username": "responder",
        "ca_file": str(made.ca),
        "client_certificate": {"cert_file": str(made.cert), "key_file": str(made.key)},
    }
    return PostgresService.model_validate({**given, **fields})


async def known_as(configured: PostgresService) -> str:
    """Whom the server takes us for, and over TLS whose certificate it has seen."""
    seen = "SELECT current_user || ' ' || coalesce(client_dn, '') AS who FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    async with PostgresConnection("db", configured, LibraryWire).session(5.0) as session:
        (row,) = await session.ask(SqlCall("who we are", seen))
    return str(row["who"])


async def refused(configured: PostgresService) -> ResponderError:
    with pytest.raises(ResponderError) as caught:
        await known_as(configured)
    return caught.value


async def test_a_server_that_asks_for_a_certificate_gets_ours(server: Postgres, made: Certificates) -> None:
    who = await known_as(service(server, made))
    assert who.startswith("responder /O=trustme"), "and the certificate was seen"
    without = await refused(service(server, made, client_certificate=None))
    assert isinstance(without, Permanent)
    assert "requires a valid client certificate" in str(without)
    assert "`client_certificate`" in str(without)


async def test_a_certificate_of_another_name_is_none_of_the_role(server: Postgres, made: Certificates) -> None:
    secret = Secret("env DB_PASSWORD", lambda: PASSWORD)
    other = await refused(service(server, made, username="desk", password=secret))
    assert isinstance(other, Permanent), "a password alone, with a certificate of another name"
    assert "check the service's `username`" in str(other)


async def test_one_that_nobody_configured_is_never_shown(
    server: Postgres, made: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """libpq would take it from the environment, or from the home of its user."""
    monkeypatch.setenv("PGSSLCERT", str(made.cert))
    monkeypatch.setenv("PGSSLKEY", str(made.key))
    with psycopg.connect(f"postgresql://responder@{server.address}/postgres?sslmode=require"):
        pass  # such as this one would
    secret = Secret("env DB_PASSWORD", lambda: PASSWORD)
    bare = service(server, made, username="asked", password=secret, client_certificate=None)
    assert await known_as(bare) == "asked "
    assert isinstance(await refused(service(server, made, client_certificate=None)), Permanent)


async def test_a_certificate_that_was_rotated_is_the_one_shown(
    server: Postgres, made: Certificates, tmp_path: Path
) -> None:
    ours = {"cert_file": str(tmp_path / "cert.pem"), "key_file": str(tmp_path / "key.pem")}
    configured = service(server, made, client_certificate=ours)
    Certificates.made(tmp_path)
    assert isinstance(await refused(configured), Temporary), "of an authority that it does not know"
    (tmp_path / "cert.pem").write_bytes(made.cert.read_bytes())
    (tmp_path / "key.pem").write_bytes(made.key.read_bytes())
    assert (await known_as(configured)).startswith("responder ")


async def test_files_that_cannot_be_used_are_told_before_anything_is_sent(
    server: Postgres, made: Certificates, tmp_path: Path
) -> None:
    other = Certificates.made(tmp_path)
    mixed = {"cert_file": str(made.cert), "key_file": str(other.key)}
    wrong = await refused(service(server, made, client_certificate=mixed))
    assert isinstance(wrong, BadConfig)
    assert "cannot be used" in str(wrong)
    gone = await refused(service(server, made, ca_file="/nowhere.pem"))
    assert "ca_file '/nowhere.pem' cannot be read (No such file or directory)" in str(gone)


def test_a_certificate_needs_tls() -> None:
    pair = {"cert_file": "a", "key_file": "b"}
    given = {"url": "postgresql://db/trading", "username": "responder", "tls": "off", "client_certificate": pair}
    with pytest.raises(ValueError, match="a `client_certificate` needs TLS: remove `tls: off`"):
        PostgresService.model_validate(given)
