"""C9: what goes wrong between us and a service, by the protocol that is spoken.

Times are scaled: a step's timeout of 10 s is 0.45 s here, and what is slow is as slow in proportion.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Final

from tests.fakes.proxy import Fault, How, Point

TIMEOUT: Final = 0.45
"""Seconds that a step has."""
BRIEF: Final = TIMEOUT / 12
LONG: Final = TIMEOUT * 3

ANY: Final = (
    Fault("refused", Point.CONNECTION, How.REFUSE),
    Fault("reset when it connects", Point.CONNECTION, How.RESET),
    Fault("closed when it connects", Point.CONNECTION, How.CLOSE),
    Fault("half open", Point.CONNECTION, How.HANG),
    Fault("garbage when it connects", Point.CONNECTION, How.SAY, b"\x15\x03\x01\x00\x02\x02\x28" * 3),
    Fault("reset before the request", Point.BEFORE, How.RESET),
    Fault("closed before the request", Point.BEFORE, How.CLOSE),
    Fault("the request is swallowed", Point.BEFORE, How.HANG),
    Fault("a little late", Point.BEFORE, How.DELAY, seconds=BRIEF),
    Fault("too late", Point.BEFORE, How.DELAY, seconds=LONG),
    Fault("reset after the request", Point.AFTER, How.RESET),
    Fault("closed after the request", Point.AFTER, How.CLOSE),
    Fault("the answer is swallowed", Point.AFTER, How.HANG),
    Fault("the answer is a little late", Point.AFTER, How.DELAY, seconds=BRIEF),
    Fault("the answer is too late", Point.AFTER, How.DELAY, seconds=LONG),
    Fault("closed after a byte", Point.AFTER, How.CUT, share=0.001),
    Fault("closed in the headers", Point.AFTER, How.CUT, share=0.2),
    Fault("closed in the answer", Point.AFTER, How.CUT, share=0.8),
    Fault("closed before the last byte", Point.AFTER, How.CUT, share=1.0),
    Fault("stalls in the headers", Point.AFTER, How.STALL, share=0.2),
    Fault("stalls before the last byte", Point.AFTER, How.STALL, share=1.0),
    Fault("drips", Point.AFTER, How.DRIP, seconds=TIMEOUT / 20),
    Fault("garbage for an answer", Point.AFTER, How.SAY, bytes(range(256))),
    Fault("zeros for an answer", Point.AFTER, How.SAY, bytes(64)),
    Fault("text for an answer", Point.AFTER, How.SAY, b"<html>no\r\n\r\nserver</html>\r\n"),
)

TLS: Final = (
    Fault("the certificate of a stranger", Point.CONNECTION, How.STRANGER),
    Fault("no TLS there", Point.CONNECTION, How.SAY, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    Fault("closed in the handshake", Point.CONNECTION, How.CLOSE),
    Fault("hangs in the handshake", Point.CONNECTION, How.HANG),
    Fault("reset in the handshake", Point.CONNECTION, How.RESET),
)


def _http(status: int, body: str, *headers: str, length: int | None = None) -> bytes:
    size = len(body.encode()) if length is None else length
    lines = (f"HTTP/1.1 {status} Said", "Content-Type: application/json", f"Content-Length: {size}", *headers)
    return "\r\n".join((*lines, "Connection: close", "", body)).encode()


def _statuses() -> Iterable[Fault]:
    said = json.dumps({"error": "no", "message": "no"})
    for wait in ("0", "3600", "999999999999", "-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "1e9"):
        yield Fault(f"429, Retry-After: {wait}", Point.BEFORE, How.SAY, _http(429, said, f"Retry-After: {wait}"))
    yield Fault("429", Point.BEFORE, How.SAY, _http(429, said))
    for status in (301, 400, 401, 404, 408, 409, 425, 500, 501, 502, 503, 504):
        yield Fault(f"{status}, not done", Point.BEFORE, How.SAY, _http(status, said))
    yield Fault("503 with Retry-After", Point.BEFORE, How.SAY, _http(503, said, "Retry-After: 30"))
    for status in (408, 500, 502, 503, 504):
        yield Fault(f"{status}, but done", Point.AFTER, How.SAY, _http(status, said))


def _bodies() -> Iterable[Fault]:
    """A success with a body that is none."""
    for name, body in {
        "truncated JSON": '{"kelly_fraction": 0.',
        "null": "null",
        "a list": "[]",
        "a list of numbers": "[1, 2]",
        "a text": '"ok"',
        "an empty object": "{}",
        "other types": '{"kelly_fraction": "NaN", "data": 7, "status": [], "metadata": "x", "items": 3, "spec": null}',
        "not a number": '{"kelly_fraction": NaN}',
        "deep": "[" * 100_000,
        "nothing": "",
    }.items():
        yield Fault(f"200 with {name}", Point.AFTER, How.SAY, _http(200, body), lies=True)
    yield Fault("shorter than it says", Point.AFTER, How.SAY, _http(200, "{}", length=5000))
    yield Fault("a length that is none", Point.AFTER, How.SAY, b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}")
    yield Fault("endless", Point.AFTER, How.ENDLESS, b'HTTP/1.1 200 OK\r\n\r\n["', b"x" * 65536)
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield Fault("endless in chunks", Point.AFTER, How.ENDLESS, head, chunk)
    yield Fault(
        "endless headers", Point.AFTER, How.ENDLESS, b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"y" * 1000 + b"\r\n"
    )


HTTP: Final = (*ANY, *_statuses(), *_bodies())


def _redis() -> Iterable[Fault]:
    for said in (
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script",
        "READONLY You can't write against a read only replica.",
        "NOPERM this user has no permissions to run it",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MASTERDOWN Link with MASTER is down",
        "ERR max number of clients reached",
        "NOAUTH Authentication required.",
    ):
        yield Fault(said.partition(" ")[0] + said[-3:], Point.BEFORE, How.SAY, f"-{said}\r\n".encode())
    yield Fault("an empty error", Point.BEFORE, How.SAY, b"-\r\n")
    for name, answer in {
        "a number that is none": b":abc\r\n",
        "a length that is none": b"$abc\r\n",
        "a huge length": b"$99999999999999\r\nabc",
        "a huge list": b"*99999999999999\r\n:1\r\n",
        "a list in lists": b"*1\r\n" * 5000,
        "an error within": b"*2\r\n-ERR inner\r\n:1\r\n",
        "nothing": b"$-1\r\n",
        "a list": b"*2\r\n:1\r\n:2\r\n",
    }.items():
        yield Fault(f"{name} for an answer", Point.AFTER, How.SAY, answer)
    yield Fault("endless text", Point.AFTER, How.ENDLESS, b"$536870912\r\n", b"x" * 65536)
    yield Fault("endless list", Point.AFTER, How.ENDLESS, b"*1000000000\r\n", b":1\r\n" * 2000)
    yield Fault("endless line", Point.AFTER, How.ENDLESS, b"+", b"y" * 65536)


REDIS: Final = (*ANY, *_redis())


def _message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("!i", len(content) + 4) + content


def _sql_error(severity: str, code: str, said: str) -> bytes:
    fields = {"S": severity, "V": severity, "C": code, "M": said}
    content = b"".join(f"{name}{value}\0".encode() for name, value in fields.items()) + b"\0"
    ready = b"" if severity == "FATAL" else _message(b"Z", b"I")
    return _message(b"E", content) + ready


def _sql() -> Iterable[Fault]:
    ended = _sql_error("FATAL", "57P01", "terminating connection due to administrator command")
    for code, said in {
        "57P03": "the database system is starting up",
        "53300": "sorry, too many clients already",
        "57P02": "terminating connection because of crash of another server process",
    }.items():
        yield Fault(said, Point.BEFORE, How.SAY, _sql_error("FATAL", code, said))
    for code in ("40001", "55P03", "57014", "42501", "53200", "XX000"):
        yield Fault(f"error {code}", Point.BEFORE, How.SAY, _sql_error("ERROR", code, "no"))
    yield Fault("ended before it was done", Point.BEFORE, How.SAY, ended)
    yield Fault("ended after it was done", Point.AFTER, How.SAY, ended)
    for name, answer in {
        "a huge message": b"D\x7f\xff\xff\xff\x00\x01",
        "a negative length": b"D\xff\xff\xff\xf0",
        "an error without fields": _message(b"E", b"\0"),
        "an unknown message": _message(b"?", b"abc"),
        "rows without columns": _message(b"D", b"\0\1\0\0\0\1x"),
    }.items():
        yield Fault(name, Point.AFTER, How.SAY, answer)
    notice = _message(b"N", b"SNOTICE\0VNOTICE\0C00000\0M" + b"z" * 1000 + b"\0\0")
    yield Fault("endless notices", Point.AFTER, How.ENDLESS, b"", notice * 60)
    yield Fault("endless row", Point.AFTER, How.ENDLESS, b"D\x3f\xff\xff\xff\x00\x01\x3f\xff\xff\xf0", b"x" * 65536)


SQL: Final = (*ANY, *_sql())

FAULTS: Mapping[str, tuple[Fault, ...]] = {"http": HTTP, "https": TLS, "redis": REDIS, "postgres": SQL}
"""By protocol; `https` has those of the handshake only, what comes after it is the same."""
