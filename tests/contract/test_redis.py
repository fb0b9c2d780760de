"""The Redis readers against a real server, as the user with no more rights than their pages ask for; and against what
a real server rarely does: an answer that never comes, a certificate of somebody else."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from responder.actions import ACTIONS
from responder.connections import Connections, open_transport
from responder.contracts import Secret
from responder.errors import Permanent, Temporary, Unknown
from responder.perform import Ended, Performer
from responder.recorded import Outcome
from responder.redis_connections import HungUp, LibraryWire, NoAnswer, RedisCall, RedisConnection
from responder.runbook import Step
from responder.services import RedisService
from responder.timing import SECOND
from responder.wall_clock import wall_clock
from tests.contract.redis_parts import PASSWORD, RUNBOOK, user
from tests.servers import Certificates, Redis, free_port

RIGHTS = "+exists +getrange +hlen +hgetall +hmget +xrevrange +info +slowlog|get +latency|history +client|list"
"""Those that the pages of the actions name, and no more."""


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    rights = f"on >{PASSWORD} resetkeys ~* -@all {RIGHTS}"
    settings = {"user": f"responder {rights}", "slowlog-log-slower-than": "1000", "latency-monitor-threshold": "1"}
    with Redis(settings=settings) as started:
        yield started


@pytest.fixture(autouse=True)
def data(server: Redis) -> Iterator[redis.Redis]:
    with server.client() as client:
        client.flushall()
        client.slowlog_reset()
        client.execute_command("LATENCY", "RESET")
        yield client


async def read(service: RedisService, action: str, **with_: Any) -> Ended:
    """The whole way of a reading step, as the responder goes it."""
    performer = Performer(ACTIONS, Connections({"cache": service}, open_transport).connect, {}, wall_clock, _no_wait)
    step = Step.model_validate({"id": "it", "action": action, "with": {"service": "cache", **with_}})
    plan = await performer.prepare(RUNBOOK, step, {})
    return await performer.act(action, plan, "key", 5 * SECOND)


async def _no_wait(_seconds: float) -> None:
    raise AssertionError("no reader waits")


async def value(server: Redis, action: str, **with_: Any) -> Any:
    ended = await read(user(server), action, **with_)
    assert ended.outcome is Outcome.OK, ended.detail
    return ended.output


def allow(data: redis.Redis, name: str, password: str) -> None:
    """A user with this password alone, who may ask INFO."""
    data.acl_setuser(name, enabled=True, reset=True, passwords=[f"+{password}"], keys=["*"], commands=["+info"])


def busy(data: redis.Redis) -> None:
    """A command of some milliseconds, which the server itself notes as slow."""
    data.eval("for i = 1, 2000000 do end return 1", 1, "ts:var_pct")


# --- what is read -----------------------------------------------------------------------------------------------------


async def test_a_key_is_a_number_where_it_is_one(server: Redis, data: redis.Redis) -> None:
    data.mset({"var_pct:BTC-USD": "2.13", "count": "-17", "id": "007", "long": "x" * 2000, "nan": "nan"})
    assert await value(server, "redis.get", key="var_pct:BTC-USD") == 2.13
    assert await value(server, "redis.get", key="count") == -17
    assert (await value(server, "redis.get", key="id"), await value(server, "redis.get", key="nan")) == ("007", "nan")
    assert len(await value(server, "redis.get", key="long")) == 500


@pytest.mark.parametrize(
    ("action", "with_"),
    [
        ("redis.get", {"key": "gone"}),
        ("redis.hgetall", {"key": "gone"}),
        ("redis.xrevrange", {"stream": "gone"}),
    ],
)
async def test_what_is_not_there_is_missing_and_never_zero(server: Redis, action: str, with_: dict[str, str]) -> None:
    ended = await read(user(server), action, **with_)
    assert (ended.outcome, ended.output) == (Outcome.TEMPORARY, None)
    assert "gone" in ended.detail


async def test_a_hash_is_read_whole_or_by_its_fields(server: Redis, data: redis.Redis) -> None:
    data.hset("volatility_estimates", mapping={"BTC-USD": "4.8", "ETH-USD": "4.4", "model": "garch"})
    whole = {"BTC-USD": 4.8, "ETH-USD": 4.4, "model": "garch"}
    assert await value(server, "redis.hgetall", key="volatility_estimates") == whole
    some = await value(server, "redis.hgetall", key="volatility_estimates", fields=["BTC-USD", "none"])
    assert some == {"BTC-USD": 4.8}


async def test_a_large_hash_is_not_read(server: Redis, data: redis.Redis) -> None:
    data.hset("large", mapping={f"f{number}": number for number in range(501)})
    ended = await read(user(server), "redis.hgetall", key="large")
    assert ended.outcome is Outcome.PERMANENT
    assert "has 501 fields: name those that are wanted" in ended.detail
    assert await value(server, "redis.hgetall", key="large", fields=["f7"]) == {"f7": 7}


async def test_the_newest_entries_of_a_stream_and_how_often_each_pattern_occurs(
    server: Redis, data: redis.Redis
) -> None:
    for number in range(30):
        pair = ("lstm", "tcn") if number % 2 else ("tcn", "lstm")
        data.xadd("model.switch.log", {"symbol": "BTC-USD", "from": pair[0], "to": pair[1], "ms": number})
    entries = await value(server, "redis.xrevrange", stream="model.switch.log")
    assert (len(entries), entries[0]["ms"], entries[-1]["ms"]) == (20, 29, 10)
    counted = await value(server, "redis.xrevrange", stream="model.switch.log", count=5, by=["from", "to"])
    assert counted == {"lstm, tcn": 3, "tcn, lstm": 2}


async def test_a_section_of_info_has_numbers(server: Redis) -> None:
    clients = await value(server, "redis.info", section="clients")
    assert clients["connected_clients"] >= 1
    only = await value(server, "redis.info", section="memory", only=["used_memory", "unheard_of"])
    assert list(only) == ["used_memory"]


async def test_slow_commands_are_told_with_their_key_and_nothing_else(server: Redis, data: redis.Redis) -> None:
    busy(data)
    slow = await value(server, "redis.slowlog")
    assert slow["by_command"] == {"EVAL": 1}
    assert slow["slowest_us"] == slow["entries"][0]["us"] >= 1000
    latency = await value(server, "redis.latency", event="command")
    assert latency["worst_ms"] >= 1
    assert latency["spikes"][0]["ms"] == latency["latest_ms"]


async def test_a_quiet_server_has_empty_logs_and_that_is_an_answer(server: Redis) -> None:
    assert await value(server, "redis.slowlog") == {"slowest_us": 0, "by_command": {}, "entries": []}
    assert await value(server, "redis.latency", event="fork") == {"worst_ms": 0, "latest_ms": 0, "spikes": []}


async def test_clients_are_counted_by_their_hosts(server: Redis) -> None:
    clients = await value(server, "redis.client_list", top=1)
    assert clients["by_host"] == {"127.0.0.1": clients["clients"]}
    assert clients["clients"] >= 2
    assert len(clients["largest"]) == 1


async def test_the_cause_is_named_from_the_servers_own_numbers(server: Redis, data: redis.Redis) -> None:
    assert (await value(server, "redis.diagnose"))["cause"] == "network"
    many = await value(server, "redis.diagnose", clients=1)
    assert many["cause"] == "clients"
    assert many["why"].endswith("clients are connected, 1 are many")
    busy(data)
    slow = await value(server, "redis.diagnose", slow_us=1000)
    assert slow["cause"] == "commands"
    assert "EVAL" in slow["why"]
    used = int(data.info("memory")["used_memory"])
    data.config_set("maxmemory", used + used // 100)
    try:
        assert (await value(server, "redis.diagnose", slow_us=1000))["cause"] == "memory"
    finally:
        data.config_set("maxmemory", 0)


# --- what is refused --------------------------------------------------------------------------------------------------


async def test_a_user_without_the_right_is_told_which_command(server: Redis, data: redis.Redis) -> None:
    allow(data, "poor", PASSWORD)
    ended = await read(user(server, username="poor"), "redis.slowlog")
    assert ended.outcome is Outcome.PERMANENT
    assert "may not do this" in ended.detail
    assert "ACL SETUSER" in ended.detail


async def test_a_wrong_password_is_told_and_not_shown(server: Redis) -> None:
    ended = await read(user(server, password="wrong-password-xyz"), "redis.info")
    assert ended.outcome is Outcome.PERMANENT
    assert "check the service's `username` and `password`" in ended.detail
    assert "wrong-password-xyz" not in ended.detail


async def test_a_password_that_was_changed_is_used_at_once(server: Redis, data: redis.Redis) -> None:
    known = ["old-password-1"]
    secret = Secret("env REDIS_PASSWORD", lambda: known[0])
    service = RedisService(url=server.url, username="rotated", password=secret)
    allow(data, "rotated", known[0])
    assert (await read(service, "redis.info")).outcome is Outcome.OK
    allow(data, "rotated", "new-password-2")
    assert (await read(service, "redis.info")).outcome is Outcome.PERMANENT
    known[0] = "new-password-2"
    assert (await read(service, "redis.info")).outcome is Outcome.OK


async def test_an_echoed_password_is_hidden(server: Redis, data: redis.Redis) -> None:
    data.set("echo", f"the password is {PASSWORD}")
    assert await value(server, "redis.get", key="echo") == "the password is (hidden)"


async def test_a_key_of_another_type_is_refused(server: Redis, data: redis.Redis) -> None:
    data.lpush("list", "a")
    ended = await read(user(server), "redis.hgetall", key="list")
    assert ended.outcome is Outcome.PERMANENT
    assert "refused" in ended.detail


async def test_the_database_of_the_address_is_read(server: Redis, data: redis.Redis) -> None:
    with redis.Redis(host="127.0.0.1", port=server.port, db=3) as third:
        third.set("only-here", "1")
    elsewhere = RedisService(url=f"redis://127.0.0.1:{server.port}/3")
    assert (await read(elsewhere, "redis.get", key="only-here")).output == 1
    assert (await read(RedisService(url=server.url), "redis.get", key="only-here")).outcome is Outcome.TEMPORARY


# --- what does not answer ---------------------------------------------------------------------------------------------


async def test_no_server_is_temporary_and_nothing_was_sent() -> None:
    ended = await read(RedisService(url=f"redis://127.0.0.1:{free_port()}"), "redis.info")
    assert ended.outcome is Outcome.TEMPORARY
    assert "nothing was sent" in ended.detail


class Mute:
    """Takes every connection and every command, and answers nothing."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while heard := await reader.read(4096):
                self.heard.append(heard)
        finally:
            writer.close()


@pytest.mark.parametrize(("changes", "meant"), [(False, Temporary), (True, Unknown)])
async def test_a_server_that_never_answers_is_asked_once(changes: bool, meant: type[Exception]) -> None:
    mute = Mute()
    async with await asyncio.start_server(mute, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        service = RedisConnection("cache", RedisService(url=f"redis://127.0.0.1:{port}"), LibraryWire)
        with pytest.raises(meant, match="no answer"):
            await service.send(RedisCall(("PUBLISH", "param.reload", "x"), changes=changes), 0.3)
    assert b"".join(mute.heard).count(b"PUBLISH") == 1


@pytest.mark.parametrize("said", [b":abc\r\n", b"$abc\r\n", b"*1\r\n" * 5000], ids=["number", "length", "nested"])
@pytest.mark.parametrize(("changes", "meant"), [(False, Temporary), (True, Unknown)])
async def test_an_answer_that_is_none_of_redis_is_a_lost_answer(
    said: bytes, changes: bool, meant: type[Exception]
) -> None:
    async def babbles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(said)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(babbles, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        service = RedisConnection("cache", RedisService(url=f"redis://127.0.0.1:{port}"), LibraryWire)
        with pytest.raises(meant, match="no answer"):
            await service.send(RedisCall(("PUBLISH", "param.reload", "x"), changes=changes), 0.5)


async def test_a_connection_that_ends_takes_along_what_it_has_not_delivered() -> None:
    """A probe that says "it did not happen" would be wrong if the kernel went on trying to deliver it."""
    ended: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def heard(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(4096):
                pass
            ended.set_exception(AssertionError("it ended politely"))
        except ConnectionResetError as error:
            ended.set_result(error)

    async with await asyncio.start_server(heard, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        service = RedisConnection("cache", RedisService(url=f"redis://127.0.0.1:{port}"), LibraryWire)
        with pytest.raises(Unknown):
            await service.send(RedisCall(("PUBLISH", "param.reload", "x"), changes=True), 0.3)
        await asyncio.wait_for(ended, 5)


async def test_more_commands_than_connections_wait_and_then_say_so() -> None:
    async with await asyncio.start_server(Mute(), "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        narrow = RedisService(url=f"redis://127.0.0.1:{port}", connections=1)
        service = RedisConnection("cache", narrow, LibraryWire)
        first = asyncio.create_task(service.send(RedisCall(("PING",)), 1.0))
        await asyncio.sleep(0)  # noqa: TID251  (gives way; no time passes)
        with pytest.raises(Temporary, match="all connections are in use"):
            await service.send(RedisCall(("PING",)), 0.1)
        with pytest.raises(Temporary, match="no answer"):
            await first


# --- TLS --------------------------------------------------------------------------------------------------------------


async def test_over_tls_only_a_known_authority_is_believed(tmp_path: Path) -> None:
    authority, port = trustme.CA(), free_port()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    files = {f"tls-{what}-file": str(tmp_path / f"{what}.pem") for what in ("cert", "key")}
    settings = {"tls-port": str(port), "tls-auth-clients": "no", "tls-ca-cert-file": str(tmp_path / "ca.pem"), **files}
    with Redis(settings=settings):
        url = f"rediss://localhost:{port}"
        good = RedisService(url=url, ca_file=str(tmp_path / "ca.pem"))
        assert (await read(good, "redis.info", section="clients")).outcome is Outcome.OK
        bad = await read(RedisService(url=url, ca_file=str(tmp_path / "other.pem")), "redis.info")
        assert bad.outcome is Outcome.TEMPORARY
        assert "nothing was sent" in bad.detail


async def test_a_redis_that_asks_for_a_certificate_gets_ours(tmp_path: Path) -> None:
    """Redis asks for one over TLS unless it is told otherwise; a certificate that was rotated is the one shown."""
    made = Certificates.made(tmp_path)
    with Redis(tls=made) as server:
        url, ours = f"rediss://127.0.0.1:{server.port}", {"cert_file": str(made.cert), "key_file": str(made.key)}
        service = RedisService.model_validate({"url": url, "ca_file": str(made.ca), "client_certificate": ours})
        assert (await read(service, "redis.info", section="clients")).outcome is Outcome.OK
        without = await read(service.model_copy(update={"client_certificate": None}), "redis.info")
        assert (without.outcome, "`client_certificate`" in without.detail) == (Outcome.TEMPORARY, True), without.detail
        kept = made.cert.read_bytes(), made.key.read_bytes()
        (tmp_path / "other").mkdir()
        other = Certificates.made(tmp_path / "other")
        made.cert.write_bytes(other.cert.read_bytes())
        made.key.write_bytes(other.key.read_bytes())
        strange = await read(service, "redis.info")
        assert (strange.outcome, "`client_certificate`" in strange.detail) == (Outcome.TEMPORARY, True), strange.detail
        made.cert.write_bytes(kept[0])
        made.key.write_bytes(kept[1])
        assert (await read(service, "redis.info", section="clients")).outcome is Outcome.OK
        made.key.unlink()
        gone = await read(service, "redis.info")
        assert "client_certificate" in gone.detail
        assert "No such file" in gone.detail


async def test_a_server_that_refuses_our_certificate_is_not_said_to_be_silent(tmp_path: Path) -> None:
    """Whoever takes it for dead would replace it. Its refusal comes after the handshake of TLS 1.3, and is lost where
    the reset of the connection overtakes it."""
    made = Certificates.made(tmp_path)
    with Redis(tls=made) as server:
        service = RedisService(url=f"rediss://127.0.0.1:{server.port}", ca_file=str(made.ca))
        for _ in range(8):
            await _refused_by_a_living_server(service)


@pytest.mark.parametrize("password", [None, Secret("env REDIS_PASSWORD", lambda: PASSWORD)])
async def test_a_server_that_hangs_up_after_the_handshake_is_alive(tmp_path: Path, password: Secret | None) -> None:
    """Its alert about our certificate is lost for certain here: before the login, and before the command."""
    made = Certificates.made(tmp_path)

    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.transport.abort()

    async with await asyncio.start_server(hangs_up, "127.0.0.1", 0, ssl=_shown_by(made)) as listening:
        url = f"rediss://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        service = RedisService(url=url, ca_file=str(made.ca), password=password)
        assert isinstance(await _refused_by_a_living_server(service), HungUp)


@pytest.mark.parametrize("password", [None, Secret("env REDIS_PASSWORD", lambda: PASSWORD)])
async def test_what_ends_tls_before_a_server_that_is_dead_is_no_silence(
    tmp_path: Path, password: Secret | None
) -> None:
    """A proxy shakes hands by itself, finds nobody behind it, and ends the connection in order."""
    made = Certificates.made(tmp_path)
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))

        async def forwards(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*dead.getsockname())
            writer.close()

        async with await asyncio.start_server(forwards, "127.0.0.1", 0, ssl=_shown_by(made)) as listening:
            url = f"rediss://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            service = RedisService(url=url, ca_file=str(made.ca), password=password)
            for _ in range(5):
                with pytest.raises(HungUp, match="what stands before it"):
                    await RedisConnection("cache", service, LibraryWire).send(RedisCall(("PING",)), 5.0)


@pytest.mark.parametrize("how", ["reset", "end"])
async def test_a_server_that_hangs_up_in_the_handshake_is_alive(how: str) -> None:
    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    async with await asyncio.start_server(hangs_up, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        assert isinstance(await _refused_by_a_living_server(RedisService(url=f"rediss://127.0.0.1:{port}")), HungUp)
        plain = RedisService(url=f"redis://127.0.0.1:{port}", password=Secret("env REDIS_PASSWORD", lambda: PASSWORD))
        with pytest.raises(NoAnswer):
            await RedisConnection("cache", plain, LibraryWire).send(RedisCall(("PING",)), 5.0)


async def test_where_nobody_listens_nobody_speaks_tls() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        service = RedisService(url=f"rediss://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(NoAnswer):
            await RedisConnection("cache", service, LibraryWire).send(RedisCall(("PING",)), 5.0)


async def test_a_server_that_says_nothing_after_the_handshake_hangs(tmp_path: Path) -> None:
    made = Certificates.made(tmp_path)
    async with await asyncio.start_server(Mute(), "127.0.0.1", 0, ssl=_shown_by(made)) as listening:
        url = f"rediss://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        service = RedisService(url=url, ca_file=str(made.ca))
        with pytest.raises(NoAnswer):
            await RedisConnection("cache", service, LibraryWire).send(RedisCall(("PING",)), 0.3)


def _shown_by(made: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.cert, made.key)
    return context


async def _refused_by_a_living_server(service: RedisService) -> Temporary:
    with pytest.raises(Temporary, match="`client_certificate`") as caught:
        await RedisConnection("cache", service, LibraryWire).send(RedisCall(("PING",)), 5.0)
    assert not isinstance(caught.value, NoAnswer)
    return caught.value


def test_an_unknown_name_is_refused() -> None:
    connections = Connections({"cache": RedisService(url="redis://redis")}, open_transport)
    with pytest.raises(Permanent, match=r"\(there are: cache\)"):
        connections.connect("cash")
