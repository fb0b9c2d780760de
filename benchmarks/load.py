"""The load, in a process of its own: reads one `Job` as JSON from the command line, prints what happened as JSON.

Every request is made before the first is sent, and the client is a bare asyncio protocol, so that what is measured is
the server. Times are the monotonic clock's, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import cast

import uvloop

from benchmarks.payloads import batches, notification, request

NS = 1_000_000_000


@dataclass(frozen=True)
class Stream:
    """Notifications to one server. `rate` (a second) paces one client; 0: `clients` send as fast as they are answered.

    `repeated`: always the items of the first one. `again`: until a 2xx, over new connections, as Alertmanager does.
    """

    port: int
    alertname: str
    prefix: str
    count: int
    alerts: int = 1
    clients: int = 1
    rate: float = 0
    repeated: bool = False
    again: bool = False
    path: str = "/webhook/alertmanager"


@dataclass
class Told:
    """What became of a stream: seconds to each answer, and when each item was sent and acknowledged (ns)."""

    latencies: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    seconds: float = 0
    sent: dict[str, int] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server went away"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if found and len(body) >= _length(head) and self._answer is not None:
            self._buffer = b""
            self._answer.set_result(int(head[9:12]))

    async def post(self, raw: bytes) -> int:
        """The status. Raises ConnectionError."""
        if self._transport is None:
            raise ConnectionError("not connected")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    return 0 if at < 0 else int(lower[at + 15 :].partition(b"\r\n")[0])


async def connected(port: int) -> Connection:
    """A connection. Raises ConnectionError."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


Prepared = tuple[list[str], bytes]


def prepared(stream: Stream) -> list[Prepared]:
    """The requests with their items."""
    groups = list(batches(stream.prefix, stream.alerts, 1 if stream.repeated else stream.count))
    made = [(items, request(stream.path, notification(stream.alertname, items))) for items in groups]
    return made * stream.count if stream.repeated else made


class Sender:
    """Sends one stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._requests = prepared(stream)
        self.told = Told()

    async def run(self, start: float) -> Told:
        """Begin at `start` (the loop's time)."""
        await asyncio.sleep(start - asyncio.get_running_loop().time())
        began = time.monotonic_ns()
        if self._stream.rate:
            await self._paced(start)
        else:
            waiting = iter(self._requests)
            await asyncio.gather(*(self._flat_out(waiting) for _ in range(self._stream.clients)))
        self.told.seconds = (time.monotonic_ns() - began) / NS
        return self.told

    async def _paced(self, start: float) -> None:
        loop = asyncio.get_running_loop()
        connection = await connected(self._stream.port)
        for number, (items, raw) in enumerate(self._requests):
            await asyncio.sleep(start + number / self._stream.rate - loop.time())
            await self._post(connection, items, raw)
        connection.close()

    async def _flat_out(self, waiting: Iterator[Prepared]) -> None:
        connection = await (self._connected_again() if self._stream.again else connected(self._stream.port))
        for items, raw in waiting:
            while not await self._delivered(connection, items, raw):
                connection.close()
                connection = await self._connected_again()
        connection.close()

    async def _delivered(self, connection: Connection, items: Sequence[str], raw: bytes) -> bool:
        """False: it must be sent again, over a new connection."""
        try:
            status = await self._post(connection, items, raw)
        except OSError:
            if not self._stream.again:
                raise
            return False
        return status < 300 or not self._stream.again

    async def _connected_again(self) -> Connection:
        while True:
            await asyncio.sleep(0.02)
            try:
                return await connected(self._stream.port)
            except OSError:
                continue

    async def _post(self, connection: Connection, items: Sequence[str], raw: bytes) -> int:
        began = time.monotonic_ns()
        for item in items:
            self.told.sent.setdefault(item, began)
        status = await connection.post(raw)
        ended = time.monotonic_ns()
        self.told.latencies.append((ended - began) / NS)
        self.told.statuses[str(status)] = self.told.statuses.get(str(status), 0) + 1
        if status < 300:
            self.told.acknowledged.update(dict.fromkeys(items, ended))
        return status


async def _run(streams: Sequence[Stream]) -> list[Told]:
    senders = [Sender(stream) for stream in streams]
    start = asyncio.get_running_loop().time() + 0.1
    shift = 1 / (max(s.rate for s in streams) * len(streams)) if any(s.rate for s in streams) else 0
    return list(await asyncio.gather(*(s.run(start + n * shift) for n, s in enumerate(senders))))


def main() -> None:
    """The streams are sent at the same time, paced ones in turn: whatever disturbs the machine disturbs all of them."""
    streams = [Stream(**given) for given in json.loads(sys.argv[1])]
    told = uvloop.run(_run(streams))
    json.dump([asdict(one) for one in told], sys.stdout)


if __name__ == "__main__":
    main()
