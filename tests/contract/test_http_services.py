"""What an HTTP service may ask of us beside a token: a signature, a certificate; and when it is left alone."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trustme

from responder.connections import HttpConnection, open_transport
from responder.contracts import Secret
from responder.errors import BadConfig, Permanent, Temporary, Unknown
from responder.http_calls import HttpCall
from responder.services import ClientCertificate, HttpService, Signing
from responder.timing import SECOND

KEY = "s3cret-signing-key"
NOW = 1_700_000_000 * SECOND
GET, PATCH = HttpCall("GET", "/api/v1/orders"), HttpCall("PATCH", "/api/v1/strategies/7", json={"enabled": False})


def signing(**fields: object) -> Signing:
    return Signing.model_validate({"secret": Secret("env API_KEY", lambda: KEY), **fields})


# --- signatures -------------------------------------------------------------------------------------------------------


class Api:
    """The platform's own check: the signature, five minutes, and every number once."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.seen: set[str] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        stamp, nonce = request.headers["X-Timestamp"], request.headers["X-Nonce"]
        line = f"{stamp}\n{nonce}\n{request.method}\n{request.url.raw_path.decode()}\n".encode()
        good = hmac.new(KEY.encode(), line + request.content, hashlib.sha256).hexdigest()
        fresh = abs(self.now // SECOND - int(stamp)) <= 300 and nonce not in self.seen
        self.seen.add(nonce)
        right = hmac.compare_digest(good, request.headers["X-Signature"])
        return httpx.Response(200 if right and fresh else 401, json={"echo": KEY})


def to(api: Api, now: int = NOW, **fields: object) -> HttpConnection:
    service = HttpService.model_validate({"url": "http://nse/base", "signing": signing(), **fields})
    return HttpConnection("nse", service, lambda _service: httpx.MockTransport(api), lambda: now)


async def test_every_request_is_signed_with_a_number_of_its_own() -> None:
    api = Api(NOW)
    connection = to(api)
    for call in (GET, PATCH, PATCH, HttpCall("GET", "/api/v1/orders", params={"q": "a b&ü"})):
        answer = await connection.send(call, 1.0)
        assert (answer.status, KEY in answer.text) == (200, False)
    assert len(api.seen) == 4


async def test_a_clock_that_is_wrong_is_refused_by_the_platform() -> None:
    assert (await to(Api(NOW), NOW + 301 * SECOND).send(PATCH, 1.0)).status == 401


async def test_what_is_signed_and_how_it_is_written_can_be_said() -> None:
    sent: list[httpx.Request] = []

    def kept(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    given = signing(
        signs=["body_sha256", "timestamp"], timestamp="milliseconds", encoding="base64", prefix="v1=",
        signature_header="X-Sig",
    )  # fmt: skip
    service = HttpService(url="http://nse", signing=given)
    connection = HttpConnection("nse", service, lambda _s: httpx.MockTransport(kept), lambda: NOW, lambda: "once")
    await connection.send(PATCH, 1.0)
    headers = sent[0].headers
    assert headers["X-Sig"] == "v1=" + _by_hand(sent[0].content)
    assert (headers["X-Timestamp"], headers["X-Nonce"]) == ("1700000000000", "once")


def _by_hand(body: bytes) -> str:
    line = hashlib.sha256(body).hexdigest().encode() + b"\n1700000000000"
    return base64.b64encode(hmac.digest(KEY.encode(), line, "sha256")).decode()


# --- client certificates ----------------------------------------------------------------------------------------------


class Authority:
    """An authority with its files, and a server that asks for a certificate of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.ca.cert_pem.write_to_path(folder / "ca.pem")
        self.issue(self.ca, "client")

    def issue(self, ca: trustme.CA, name: str) -> ClientCertificate:
        made = ca.issue_cert(f"{name}@responder.example")
        made.private_key_pem.write_to_path(self.folder / f"{name}.key")
        made.cert_chain_pems[0].write_to_path(self.folder / f"{name}.pem")
        return ClientCertificate(cert_file=str(self.folder / f"{name}.pem"), key_file=str(self.folder / f"{name}.key"))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.ca.issue_cert("localhost").configure_cert(context)
        self.ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "localhost", 0, ssl=context) as server:
            yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def asked(url: str, authority: Authority, given: ClientCertificate | None) -> int:
    service = HttpService(url=url, ca_file=str(authority.folder / "ca.pem"), client_certificate=given)
    connection = HttpConnection("mtls", service, open_transport)
    try:
        return (await connection.send(GET, 5.0)).status
    finally:
        await connection.close()


async def test_a_service_that_asks_for_a_certificate_gets_ours(authority: Authority) -> None:
    given = authority.issue(authority.ca, "client")
    async with authority.serving() as url:
        assert await asked(url, authority, given) == 200
        with pytest.raises(Temporary):
            await asked(url, authority, None)
        other = authority.issue(trustme.CA(), "client")
        with pytest.raises(Temporary):
            await asked(url, authority, other)
        assert await asked(url, authority, authority.issue(authority.ca, "client")) == 200


async def test_a_key_of_another_certificate_is_told(authority: Authority) -> None:
    authority.issue(authority.ca, "other")
    mixed = ClientCertificate(
        cert_file=str(authority.folder / "client.pem"), key_file=str(authority.folder / "other.key")
    )
    with pytest.raises(BadConfig, match=r"client_certificate .* cannot be used"):
        open_transport(HttpService(url="https://localhost", client_certificate=mixed))
    gone = mixed.model_copy(update={"key_file": "/nowhere.key"})
    with pytest.raises(BadConfig, match="No such file"):
        open_transport(HttpService(url="https://localhost", client_certificate=gone))


def test_a_certificate_needs_tls() -> None:
    with pytest.raises(ValueError, match="write the address with https://"):
        HttpService(url="http://risk", client_certificate=ClientCertificate(cert_file="a", key_file="b"))


# --- circuit breakers -------------------------------------------------------------------------------------------------


class Failing:
    """A service that answers what it is told to: a status, or an exception."""

    def __init__(self) -> None:
        self.now = NOW
        self.says: int | Exception = 200
        self.sent: list[str] = []
        breaker = {"failures": 3, "open_for": "30s"}
        service = HttpService.model_validate({"url": "http://risk", "circuit_breaker": breaker})
        self.connection = HttpConnection(
            "risk", service, lambda _s: httpx.MockTransport(self._answer), lambda: self.now
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request.method)
        if isinstance(self.says, Exception):
            raise self.says
        return httpx.Response(self.says)

    async def change(self) -> int:
        return (await self.connection.send(PATCH, 1.0)).status

    async def fails(self, times: int) -> None:
        for _ in range(times):
            with pytest.raises((Temporary, Unknown)):
                await self.change()


async def test_it_opens_after_failures_in_a_row_and_nothing_is_sent_then() -> None:
    risk = Failing()
    risk.says = httpx.ConnectError("refused")
    await risk.fails(2)
    risk.says = 503
    assert await risk.change() == 503
    with pytest.raises(Temporary, match="nothing was sent: the circuit breaker is open") as caught:
        await risk.change()
    assert (len(risk.sent), caught.value.retry_after) == (3, 30.0)


async def test_an_answer_in_between_begins_the_count_anew() -> None:
    risk = Failing()
    for says in (500, 500, 404, 500, 500, 200, 500, 500, 501):
        risk.says = says
        assert await risk.change() == says


async def test_reads_go_through_and_do_not_count() -> None:
    risk = Failing()
    risk.says = 503
    for _ in range(5):
        assert (await risk.connection.send(GET, 1.0)).status == 503
    for _ in range(3):
        await risk.change()
    with pytest.raises(Temporary, match="circuit breaker"):
        await risk.change()
    risk.says = 200
    assert (await risk.connection.send(GET, 1.0)).status == 200
    with pytest.raises(Temporary, match="circuit breaker"):
        await risk.change()


@pytest.mark.parametrize(("says", "after"), [(200, 200), (500, None)])
async def test_after_its_time_one_change_is_tried_and_decides(says: int, after: int | None) -> None:
    risk = Failing()
    risk.says = httpx.ReadTimeout("lost")
    await risk.fails(3)
    risk.now += 30 * SECOND
    risk.says = says
    assert await risk.change() == says
    if after is not None:
        assert [await risk.change() for _ in range(3)] == [after] * 3
    else:
        with pytest.raises(Temporary, match="circuit breaker"):
            await risk.change()


async def test_while_one_is_tried_no_other_is_sent() -> None:
    risk, go = Failing(), asyncio.Event()
    risk.says = 500
    for _ in range(3):
        await risk.change()
    risk.now += 30 * SECOND

    async def waits(_request: httpx.Request) -> httpx.Response:
        await go.wait()
        return httpx.Response(200)

    risk.connection._idle.clear()
    risk.connection._open = lambda _service: httpx.MockTransport(waits)
    first = asyncio.create_task(risk.change())
    await asyncio.sleep(0)  # noqa: TID251  (gives way; no time passes)
    with pytest.raises(Temporary, match="circuit breaker"):
        await risk.change()
    go.set()
    assert await first == 200
    assert await risk.change() == 200


async def test_a_request_that_cannot_be_written_says_nothing_of_the_service() -> None:
    risk = Failing()
    for _ in range(5):
        with pytest.raises(Permanent):
            await risk.connection.send(HttpCall("POST", "/x", json={"a": float("nan")}), 1.0)
    assert await risk.change() == 200


async def test_what_waits_in_vain_for_a_connection_of_ours_says_nothing_about_the_service() -> None:
    """Eight reads that hang take all connections; the service may well take changes."""
    risk, go = Failing(), asyncio.Event()

    async def waits(_request: httpx.Request) -> httpx.Response:
        await go.wait()
        return httpx.Response(200)

    opened = risk.connection._open
    risk.connection._open = lambda _service: httpx.MockTransport(waits)
    reads = [asyncio.create_task(risk.connection.send(GET, 60.0)) for _ in range(risk.connection.service.connections)]
    await asyncio.sleep(0)  # noqa: TID251  (gives way; no time passes)
    for _ in range(3):
        with pytest.raises(Temporary, match=r"nothing was sent: all connections are in use; raise the service's"):
            await risk.connection.send(PATCH, 0.01)
    go.set()
    assert [(await read).status for read in reads] == [200] * len(reads)
    risk.connection._idle.clear()
    risk.connection._open = opened
    assert await risk.change() == 200
