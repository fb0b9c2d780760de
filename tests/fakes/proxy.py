"""A TCP proxy on a loopback port, before a real server or a fake of the wire: it does what networks do.

It knows no protocol. An exchange begins with the first bytes of the client after the server's last ones; one
of them, or one connection, meets the fault of the case, and all later ones where it lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

BLOCK = 64 * 1024
_GOODBYE = b"X\x00\x00\x00\x04"
"""With it a client of PostgreSQL ends a connection; nobody answers it."""


class Point(StrEnum):
    """When a fault strikes."""

    CONNECTION = "a connection is made"
    BEFORE = "a request has come and was not passed on"
    AFTER = "the server has done it and answered"


class How(StrEnum):
    """What a fault does."""

    REFUSE = "refuse"
    """Nobody listens. Of connections only."""
    RESET = "reset"
    """RST."""
    CLOSE = "close"
    """FIN, nothing further is sent."""
    HANG = "hang"
    """Nothing is sent and nothing closed."""
    SAY = "say"
    """`data` is sent instead of an answer, then the connection is closed."""
    CUT = "cut"
    """The beginning of the answer is sent (`share` of it), then the connection is closed."""
    STALL = "stall"
    """The same, but it is not closed."""
    DRIP = "drip"
    """The answer comes byte by byte, one each `seconds`."""
    ENDLESS = "endless"
    """`data`, then `more` for ever."""
    DELAY = "delay"
    """It is passed on after `seconds`."""
    STRANGER = "stranger"
    """TLS with a certificate of somebody else. Of connections only."""


@dataclass(frozen=True)
class Fault:
    """One way in which a network, a server or something in between fails."""

    name: str
    point: Point
    how: How
    data: bytes = b""
    more: bytes = b""
    seconds: float = 0.0
    share: float = 0.0
    lies: bool = False
    """It looks like a success of the server."""


@dataclass
class Line:
    """What all proxies of one case share. `at`: the connection or exchange, from 1, that meets `fault`; 0 for none."""

    fault: Fault | None = None
    at: int = 0
    lasts: bool = False
    pace: float = 1.0
    """By how much what is slow is slower, for the sake of a busy machine."""
    connections: int = 0
    exchanges: int = 0
    struck: int = 0
    told: list[str] = field(default_factory=list)
    sent: int = 0
    """Bytes of endless answers that somebody took."""
    proxies: list[FaultProxy] = field(default_factory=list)

    def meets(self, number: int) -> bool:
        """Whether the connection or exchange of this number meets the fault."""
        return self.at > 0 and (number >= self.at if self.lasts else number == self.at)

    def connected(self) -> Fault | None:
        """Another connection; its fault."""
        self.connections += 1
        self.told.append(f"connection {self.connections}")
        if self.fault is None or self.fault.point is not Point.CONNECTION:
            return None
        if self.fault.how is How.REFUSE:
            if self.meets(self.connections + 1):
                self.refuse()
            return None
        return self._struck(self.fault) if self.meets(self.connections) else None

    def asked(self, said: bytes) -> Fault | None:
        """Another exchange; its fault."""
        self.exchanges += 1
        self.told.append(f"exchange {self.exchanges}: {said[:60]!r}")
        if self.fault is None or self.fault.point is Point.CONNECTION or not self.meets(self.exchanges):
            return None
        return self._struck(self.fault)

    def refuse(self) -> None:
        """Nobody listens any more."""
        assert self.fault is not None
        self._struck(self.fault)
        for proxy in self.proxies:
            proxy.deafen()

    def _struck(self, fault: Fault) -> Fault:
        self.struck += 1
        self.told.append(f"  {fault.name}")
        return fault

    async def heal(self) -> None:
        """From now on everything is passed on."""
        self.at = 0
        for proxy in self.proxies:
            await proxy.listen()


class FaultProxy:
    """`port` is where it listens, `server` the port that it stands before.

    `trust`: it speaks TLS with the client; `stranger`: what it shows for `How.STRANGER`. `replaced`: bytes of the
    server's answers that are others to the client, of the same length (addresses that lead past it).
    """

    def __init__(
        self, line: Line, server: int, trust: ssl.SSLContext | None = None, stranger: ssl.SSLContext | None = None
    ) -> None:
        self._line = line
        self._server_port = server
        self._trust = trust
        self._stranger = stranger
        self.replaced: Mapping[bytes, bytes] = {}
        self._listening: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = _bound(0)
        self.port: int = self._held.getsockname()[1]
        line.proxies.append(self)

    async def __aenter__(self) -> Self:
        line = self._line
        if line.fault is not None and line.fault.how is How.REFUSE and line.meets(1):
            line.refuse()
        else:
            await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.deafen()
        self._held.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def listen(self) -> None:
        """Begin to listen, unless it does."""
        if self._listening is None:
            self._held.close()
            self._listening = await asyncio.start_server(self._accept, sock=_bound(self.port))

    def deafen(self) -> None:
        """Stop listening: whoever connects is refused. The port stays ours."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
            self._held = _bound(self.port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, EOFError):
                await self._carry(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self._line.connected()
        if self._trust is not None and not (fault and fault.how is not How.STRANGER):
            await writer.start_tls(self._stranger if fault and self._stranger else self._trust)
        if fault is not None and fault.how is not How.STRANGER:
            await _done(fault, reader, writer, self._line)
            return
        theirs, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        carried = _Carried(self._line, reader, writer, theirs, to_server, self._replace)
        try:
            await carried.run()
        finally:
            to_server.transport.abort()

    def _replace(self, data: bytes) -> bytes:
        for one, other in self.replaced.items():
            data = data.replace(one, other)
        return data


@dataclass
class _Carried:
    """One connection, carried both ways until either side ends it: what was not passed on by then is dropped."""

    line: Line
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    theirs: asyncio.StreamReader
    to_server: asyncio.StreamWriter
    replace: Callable[[bytes], bytes]
    fault: Fault | None = None
    answered: bool = True

    async def run(self) -> None:
        ways = [asyncio.create_task(self._requests()), asyncio.create_task(self._answers())]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(self) -> None:
        while data := await self.reader.read(BLOCK):
            if self.answered and data != _GOODBYE:
                self.answered, self.fault = False, self.line.asked(data)
            fault = self.fault
            if fault is not None and fault.point is Point.BEFORE:
                if fault.how is not How.DELAY:
                    await _done(fault, self.reader, self.writer, self.line)
                    return
                if await _gone_within(fault.seconds * self.line.pace, self.reader, into := bytearray(data)):
                    return
                data, self.fault = bytes(into), None
            self.to_server.write(data)
            await self.to_server.drain()

    async def _answers(self) -> None:
        while data := await self.theirs.read(BLOCK):
            self.answered = True
            fault = self.fault
            if fault is not None and fault.point is Point.AFTER:
                if fault.how is not How.DELAY:
                    await _done(fault, self.reader, self.writer, self.line, data)
                    return
                await asyncio.sleep(fault.seconds * self.line.pace)
            self.writer.write(self.replace(data))
            await self.writer.drain()


async def _gone_within(seconds: float, reader: asyncio.StreamReader, into: bytearray) -> bool:
    """Wait. True where the client has gone in the meantime; what else it says is added to `into`."""
    try:
        async with asyncio.timeout(seconds):
            while data := await reader.read(BLOCK):
                into += data
    except TimeoutError:
        return False
    return True


async def _done(
    fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: Line, answer: bytes = b""
) -> None:
    """Have the fault strike; `answer` is what the server has said. Returns when the connection is to be closed."""
    if fault.how is How.RESET:
        _reset(writer)
    elif fault.how is How.HANG:
        await _until_gone(reader)
    elif fault.how is How.SAY:
        await _say(writer, fault.data)
    elif fault.how is How.CUT:
        await _say(writer, _part(answer, fault.share))
    elif fault.how is How.STALL:
        writer.write(_part(answer, fault.share))
        await _until_gone(reader)
    elif fault.how is How.DRIP:
        for byte in answer:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(fault.seconds * line.pace)
        writer.close()
    elif fault.how is How.ENDLESS:
        writer.write(fault.data)
        while True:
            writer.write(fault.more)
            await writer.drain()
            line.sent += len(fault.more)
            await asyncio.sleep(0.002)
    else:
        await _say(writer, b"")


def _part(answer: bytes, share: float) -> bytes:
    """Never the whole."""
    return answer[: min(len(answer) - 1, round(len(answer) * share))]


async def _say(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send it and close, orderly: what the client has still to read is not lost by a reset."""
    writer.write(data)
    await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    else:
        writer.close()
    with contextlib.suppress(OSError):
        await asyncio.sleep(0.02)


async def _until_gone(reader: asyncio.StreamReader) -> None:
    while await reader.read(BLOCK):
        pass


def _reset(writer: asyncio.StreamWriter) -> None:
    its_socket = writer.get_extra_info("socket")
    its_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def unheard() -> socket.socket:
    """A port where nobody listens, and nobody else will while it is open: who connects is refused."""
    return _bound(0)


def _bound(port: int) -> socket.socket:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found.bind(("127.0.0.1", port))
    return found
