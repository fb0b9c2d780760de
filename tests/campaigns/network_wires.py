"""C9: Redis servers, Sentinels and standbys that speak their protocol on a loopback port, and know what tests of the
contract know, no more: what is asked to take over, and how often, no real one would tell so cheaply."""

from __future__ import annotations

import asyncio
import re
import struct
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

from redis.exceptions import ResponseError

from responder import postgres_statements as sql
from responder.postgres_connections import SqlCall
from tests.contract.action_world import WorldWire
from tests.contract.sql_world import WorldSql

_TYPES: dict[type, int] = {bool: 16, int: 20, str: 25, float: 701, type(None): 25}
"""PostgreSQL's numbers of types."""
_STATEMENTS = {
    re.sub(r"%\(\w+\)s", "$1", said): said for said in (sql.RIGHTS, sql.STANDING, sql.PROMOTE)
}  # each has one parameter at most


class Wired(ABC):
    """A server on a port of its own. It does what it was asked whole, even when the asker has gone."""

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answers(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass  # the client has gone: what it has not sent whole was not asked
        finally:
            writer.close()

    @abstractmethod
    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read and answer until the client goes (asyncio.IncompleteReadError)."""


class RedisServer(Wired):
    """Serves one server or Sentinel of a world."""

    def __init__(self, wire: WorldWire) -> None:
        super().__init__()
        self._wire = wire

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            words = tuple([await _bulk(reader) for _ in range(await _number(reader, b"*"))])
            try:
                said = _resp(await self._wire.ask(words))
            except ResponseError as error:
                said = f"-{error}\r\n".encode()
            except AssertionError:  # closed world: it is kept in `unexpected`
                said = b"-ERR unknown command\r\n"
            writer.write(said)
            await writer.drain()


async def _number(reader: asyncio.StreamReader, kind: bytes) -> int:
    return int((await reader.readuntil(b"\r\n")).removeprefix(kind))


async def _bulk(reader: asyncio.StreamReader) -> str:
    size = await _number(reader, b"$")
    return (await reader.readexactly(size + 2))[:size].decode()


def _resp(value: Any) -> bytes:
    if isinstance(value, list):
        return b"*%d\r\n%b" % (len(value), b"".join(_resp(one) for one in value))
    return b":%d\r\n" % value if isinstance(value, int) else b"$%d\r\n%b\r\n" % (len(value), value)


class PostgresServer(Wired):
    """Serves the standby of a world: the statements of a promotion."""

    def __init__(self, wire: WorldSql) -> None:
        super().__init__()
        self._wire = wire

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(struct.unpack("!i", await reader.readexactly(4))[0] - 4)
        settings = (b"client_encoding\0UTF8\0", b"server_version\x0015.0\0", b"standard_conforming_strings\0on\0")
        known = b"".join(_message(b"S", one) for one in settings)
        writer.write(_message(b"R", bytes(4)) + known + _message(b"K", bytes(8)) + _READY)
        said, begun = "", b""
        while True:
            kind, size = struct.unpack("!ci", await reader.readexactly(5))
            content = await reader.readexactly(size - 4)
            if kind == b"P":
                said, begun = content.split(b"\0")[1].decode(), _message(b"1", b"") + _message(b"2", b"")
            elif kind == b"Q":
                said, begun = content[:-1].decode(), b""
            if kind in {b"Q", b"S"}:
                writer.write(begun + await self._asked(said) + _READY)
                await writer.drain()
            if kind == b"X":
                return

    async def _asked(self, said: str) -> bytes:
        statement = _STATEMENTS.get(said, said)
        changes = statement == sql.PROMOTE
        try:
            (row,) = await self._wire.ask(SqlCall("pg_promote" if changes else "look", statement, changes=changes))
        except AssertionError:  # closed world: it is kept in `unexpected`
            return _message(b"E", b"SERROR\0VERROR\0C42601\0Munknown statement\0\0")
        columns = b"".join(
            name.encode() + struct.pack("!xihihih", 0, 0, _TYPES[type(value)], -1, -1, 0) for name, value in row.items()
        )
        values = b"".join(_field(value) for value in row.values())
        count = struct.pack("!h", len(row))
        return _message(b"T", count + columns) + _message(b"D", count + values) + _message(b"C", b"SELECT 1\0")


def _message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("!i", len(content) + 4) + content


_READY = _message(b"Z", b"I")


def _field(value: Any) -> bytes:
    if value is None:
        return struct.pack("!i", -1)
    told = ("t" if value else "f") if isinstance(value, bool) else str(value)
    return struct.pack("!i", len(told.encode())) + told.encode()
