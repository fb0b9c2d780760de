"""Connections, down to a transport in memory: bounded, one request each, secrets hidden, only the socket kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from responder.connections import Connections, HttpConnection, open_transport
from responder.contracts import Secret, Service
from responder.errors import BadConfig, Permanent, ResponderError, Temporary, Unknown
from responder.http_calls import HttpCall
from responder.services import Basic, Endpoint, HttpService, PrometheusService, SecretHeader

PASSWORD = 'pa"ss/word-1'
GET, POST = HttpCall("GET", "/x"), HttpCall("POST", "/x", json={"a": 1}, key="k1")
Handler = Callable[[httpx.Request], httpx.Response]


def secret(value: str = PASSWORD) -> Secret:
    return Secret("env PASSWORD", lambda: value)


def connection(handler: Handler, **fields: object) -> HttpConnection:
    service = HttpService.model_validate({"url": "http://risk/base", **fields})
    return HttpConnection("risk", service, lambda _service: httpx.MockTransport(handler))


def echo(request: httpx.Request) -> httpx.Response:
    sent = {"url": str(request.url), "method": request.method, "headers": dict(request.headers)}
    return httpx.Response(
        200, json={**sent, "content": request.content.decode()}, headers={"X-Sent": str(request.headers)}
    )


async def echoed(service: HttpConnection, call: HttpCall) -> dict[str, object]:
    body = (await service.send(call, 1.0)).body
    assert isinstance(body, dict)
    return dict(body)


async def test_a_call_is_sent_as_it_is_meant() -> None:
    call = HttpCall("PUT", "/a/b", params={"q": "x y&z"}, json={"n": 0.1}, headers={"X-One": "1"}, key="k1")
    sent = await echoed(connection(echo), call)
    assert (sent["method"], sent["url"]) == ("PUT", "http://risk/base/a/b?q=x+y%26z")
    assert json.loads(str(sent["content"])) == {"n": 0.1}
    headers = sent["headers"]
    assert isinstance(headers, dict)
    assert {
        "host": "risk",
        "x-one": "1",
        "idempotency-key": "k1",
        "accept-encoding": "identity",
    }.items() <= headers.items()
    assert headers["user-agent"] == "responder"


async def test_a_question_carries_no_key() -> None:
    sent = await echoed(connection(echo), HttpCall("GET", "/x", key="k1"))
    assert "idempotency-key" not in str(sent["headers"])


async def test_the_key_goes_under_the_name_that_the_service_declares() -> None:
    sent = await echoed(connection(echo, idempotency_header="X-Request-Id"), POST)
    assert "'x-request-id': 'k1'" in str(sent["headers"])


@pytest.mark.parametrize(
    ("fields", "header"),
    [
        ({"bearer": secret()}, f"Bearer {PASSWORD}"),
        ({"basic": Basic(username="u", password=secret())}, "Basic dTpwYSJzcy93b3JkLTE="),
        ({"header": SecretHeader(name="X-Api-Key", value=secret())}, PASSWORD),
    ],
)
async def test_credentials_are_sent_and_hidden_in_what_comes_back(fields: dict[str, object], header: str) -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.extend(request.headers.values())
        return echo(request)

    answer = await connection(handler, **fields).send(GET, 1.0)
    assert header in seen
    shown = f"{answer!r} {answer.body!r}"
    assert PASSWORD not in shown
    assert json.dumps(PASSWORD)[1:-1] not in shown
    assert "dTpwYSJzcy93b3JkLTE" not in shown
    assert "(hidden)" in shown


async def test_a_secret_is_read_afresh_for_every_request() -> None:
    values = iter(["first-secret", "second-secret"])
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(200)

    rotating = connection(handler, bearer=Secret("file token", lambda: next(values)))
    await rotating.send(GET, 1.0)
    await rotating.send(GET, 1.0)
    assert seen == ["Bearer first-secret", "Bearer second-secret"]


def keeping(sent: list[httpx.Request]) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    return handler


def raising(error: Exception) -> Handler:
    def handler(_request: httpx.Request) -> httpx.Response:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "question", "change"),
    [
        (httpx.ConnectError("x"), Temporary, Temporary),
        (httpx.ConnectTimeout("x"), Temporary, Temporary),
        (httpx.PoolTimeout("x"), Temporary, Temporary),
        (httpx.ReadTimeout("x"), Temporary, Unknown),
        (httpx.WriteTimeout("x"), Temporary, Unknown),
        (httpx.ReadError("x"), Temporary, Unknown),
        (httpx.WriteError("x"), Temporary, Unknown),
        (httpx.CloseError("x"), Temporary, Unknown),
        (httpx.RemoteProtocolError("x"), Temporary, Unknown),
        (httpx.LocalProtocolError("x"), Permanent, Permanent),
        (httpx.UnsupportedProtocol("x"), Permanent, Permanent),
    ],
)
async def test_what_a_request_without_an_answer_means(
    error: Exception, question: type[ResponderError], change: type[ResponderError]
) -> None:
    for call, kind in ((GET, question), (POST, change)):
        with pytest.raises(kind) as caught:
            await connection(raising(error)).send(call, 1.0)
        assert type(caught.value) is kind
        assert ("nothing was sent" in str(caught.value)) is (question is change)


async def test_no_text_of_an_exception_but_that_of_connecting_is_shown() -> None:
    with pytest.raises(Permanent) as caught:
        await connection(raising(httpx.LocalProtocolError(f"Illegal header value b'{PASSWORD}'"))).send(GET, 1.0)
    assert PASSWORD not in str(caught.value)
    with pytest.raises(Temporary, match="Name or service not known"):
        await connection(raising(httpx.ConnectError("Name or service not known"))).send(GET, 1.0)


@pytest.mark.parametrize(
    "call",
    [
        HttpCall("POST", "/x", json={"a": float("nan")}),
        HttpCall("POST", "/x", headers={"X": "ä€"}),
        HttpCall("GET", "/x?a=1", params={"b": 2}),
        HttpCall("GET", "/../x"),
        HttpCall("GET", "http://evil/"),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_anything_is(call: HttpCall) -> None:
    sent: list[httpx.Request] = []
    with pytest.raises(Permanent):
        await connection(keeping(sent)).send(call, 1.0)
    assert sent == []


async def test_a_long_answer_is_cut_and_no_more_of_it_is_read() -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 600

    answer = await connection(lambda _r: httpx.Response(200, content=endless()), max_response_bytes=1024).send(GET, 1.0)
    assert (answer.cut, len(answer.text), read) == (True, 1024, 2)


async def test_redirects_and_cookies_are_not_followed() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(302, headers={"Location": "http://evil/", "Set-Cookie": "a=b"})

    service = connection(handler)
    assert [(await service.send(GET, 1.0)).status for _ in range(2)] == [302, 302]
    assert [r.url.host for r in seen] == ["risk", "risk"]
    assert all("cookie" not in r.headers for r in seen)


class Held(httpx.AsyncBaseTransport):
    """Answers when it is let go."""

    def __init__(self, go: asyncio.Event) -> None:
        self.go = go
        self.closed = False

    async def handle_async_request(self, _request: httpx.Request) -> httpx.Response:
        await self.go.wait()
        return httpx.Response(200)

    async def aclose(self) -> None:
        self.closed = True


async def test_connections_are_opened_when_needed_up_to_the_limit_and_used_again() -> None:
    go, opened = asyncio.Event(), list[Held]()

    def opener(_service: Endpoint) -> Held:
        opened.append(Held(go))
        return opened[-1]

    service = HttpConnection("risk", HttpService(url="http://risk", connections=3), opener)
    tasks = [asyncio.create_task(service.send(GET, 60.0)) for _ in range(5)]
    for _ in range(10):
        await asyncio.sleep(0)  # noqa: TID251  (gives way; no time passes)
    assert len(opened) == 3
    go.set()
    assert [a.status for a in await asyncio.gather(*tasks)] == [200] * 5
    await service.send(GET, 1.0)
    assert len(opened) == 3
    await service.close()
    assert [transport.closed for transport in opened] == [True] * 3


async def test_waiting_for_a_connection_in_vain_has_sent_nothing() -> None:
    go = asyncio.Event()
    service = HttpConnection("risk", HttpService(url="http://risk", connections=1), lambda _s: Held(go))
    first = asyncio.create_task(service.send(GET, 60.0))
    await asyncio.sleep(0)  # noqa: TID251  (gives way; no time passes)
    with pytest.raises(Temporary, match=r"nothing was sent.*raise the service's `connections`"):
        await service.send(POST, 0.000001)
    go.set()
    await first


async def test_a_connection_that_was_broken_off_is_not_used_again() -> None:
    go, opened = asyncio.Event(), list[Held]()

    def opener(_service: Endpoint) -> Held:
        opened.append(Held(go))
        return opened[-1]

    service = HttpConnection("risk", HttpService(url="http://risk", connections=1), opener)
    task = asyncio.create_task(service.send(GET, 60.0))
    await asyncio.sleep(0)  # noqa: TID251  (gives way; no time passes)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await service.send(GET, 1.0)
    assert [transport.closed for transport in opened] == [True, False]


async def test_a_service_is_connected_to_once_and_by_name() -> None:
    services: dict[str, Service] = {"metrics": PrometheusService(url="http://p"), "sql": Service(kind="postgres")}
    connections = Connections(services, lambda _service: httpx.MockTransport(echo))
    assert connections.connect("metrics") is connections.connect("metrics")
    assert not connections.connect("metrics").keyed
    for name in ("sql", "nowhere"):
        with pytest.raises(Permanent, match=r"add it under `services` \(there are: metrics\)"):
            connections.connect(name)
    await connections.close()


def test_an_authority_that_cannot_be_read_is_named() -> None:
    with pytest.raises(BadConfig, match=r"ca_file '/nowhere\.pem' cannot be read"):
        open_transport(PrometheusService(url="https://p", ca_file="/nowhere.pem"))
