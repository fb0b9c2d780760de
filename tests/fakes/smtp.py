"""A mail server on a loopback port that takes only what RFC 5321 and RFC 5322 allow, and keeps what it took.

Closed world: a command out of order, a line without CR LF or too long, eight-bit octets that nobody announced, a header
that stands twice, or a part with a defect is refused, and noted in `unexpected`.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType
from typing import Self

USER, PASSWORD = "responder", "correct horse battery staple"
MAX_LINE = 998
MAX_SIZE = 200_000
ONCE = ("from", "to", "cc", "subject", "date", "message-id", "in-reply-to", "references", "mime-version", "list-id")


@dataclass(frozen=True)
class Mail:
    """What the server took responsibility for."""

    sender: str
    recipients: tuple[str, ...]
    raw: bytes
    message: EmailMessage
    encrypted: bool
    user: str


@dataclass
class _Session:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    encrypted: bool = False
    greeted: bool = False
    user: str = ""
    sender: str | None = None
    eight_bit: bool = False
    recipients: list[str] = field(default_factory=list)
    open: bool = True

    def reset(self) -> None:
        self.sender, self.eight_bit, self.recipients = None, False, []


class FakeSmtp:
    """`fail` makes a command go wrong, `refuses` an address; `hang_up_after_data` loses the answer to a mail."""

    def __init__(self, context: ssl.SSLContext | None = None, *, implicit: bool = False, auth: bool = False) -> None:
        self.mails: list[Mail] = []
        self.unexpected: list[str] = []
        self.commands: list[str] = []
        self.refuses: dict[str, str] = {}
        self.hang_up_after_data = False
        self.silent_on = ""
        self._context, self._implicit, self._auth = context, implicit, auth
        self._troubles: dict[str, deque[str]] = {}
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()
        self.port = 0

    def fail(self, command: str, answer: str) -> None:
        """The next such command is answered so; `connect` is the greeting, `.` the end of a mail."""
        self._troubles.setdefault(command, deque()).append(answer)

    async def __aenter__(self) -> Self:
        context = self._context if self._implicit else None
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context, limit=MAX_SIZE * 2)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await self._server.wait_closed()
        if error is None:
            assert not self.unexpected, f"no mail server would take this: {self.unexpected}"

    # --- one connection -----------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        session = _Session(reader, writer, encrypted=self._implicit)
        try:
            await self._talk(session)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            self._sessions.discard(task)
            session.writer.transport.abort()

    async def _talk(self, session: _Session) -> None:
        await self._say(session, self._trouble("connect") or "220 fake ESMTP")
        while session.open:
            line = await self._line(session)
            command = line.partition(b" ")[0].decode("ascii", "replace").upper()
            self.commands.append(command)
            if self.silent_on == command:
                await session.reader.read()
                return
            do = _COMMANDS.get(command)
            if do is None:
                self.unexpected.append(f"command {line!r}")
                await self._say(session, "500 unknown")
            elif trouble := self._trouble(command):
                await self._say(session, trouble)
            else:
                await do(self, session, line[len(command) :].strip())

    async def _line(self, session: _Session) -> bytes:
        line = await session.reader.readuntil(b"\r\n")
        if b"\n" in line[:-2] or b"\r" in line[:-2] or len(line) > MAX_LINE + 2:
            self.unexpected.append(f"line {line[:80]!r}")
        return line[:-2]

    async def _say(self, session: _Session, answer: str) -> None:
        session.writer.write(answer.encode() + b"\r\n")
        await session.writer.drain()
        session.open = session.open and not answer.startswith(("221", "421"))

    def _trouble(self, command: str) -> str:
        waiting = self._troubles.get(command)
        return waiting.popleft() if waiting else ""

    # --- commands -----------------------------------------------------------------------------------------------------

    async def _ehlo(self, session: _Session, rest: bytes) -> None:
        session.greeted = bool(rest) and b" " not in rest
        offers = ["fake", f"SIZE {MAX_SIZE}", "8BITMIME"]
        if self._context is not None and not session.encrypted:
            offers.append("STARTTLS")
        if self._auth and (session.encrypted or self._context is None):
            offers.append("AUTH PLAIN")
        await self._say(session, "\r\n".join(f"250{'-' if o != offers[-1] else ' '}{o}" for o in offers))

    async def _starttls(self, session: _Session, rest: bytes) -> None:
        if self._context is None or session.encrypted:
            await self._say(session, "502 not here")
            return
        await self._say(session, "220 go ahead")
        await session.writer.start_tls(self._context)
        session.encrypted, session.greeted = True, False

    async def _authenticate(self, session: _Session, rest: bytes) -> None:
        how, _, given = rest.partition(b" ")
        _, user, password = base64.b64decode(given).decode().split("\0")
        if how == b"PLAIN" and (user, password) == (USER, PASSWORD):
            session.user = user
            await self._say(session, "235 welcome")
        else:
            await self._say(session, f"535 {given.decode()} is wrong")

    async def _mail(self, session: _Session, rest: bytes) -> None:
        address, _, options = rest.partition(b" ")
        named = dict(o.partition("=")[::2] for o in options.decode("ascii", "replace").upper().split())
        if not session.greeted or session.sender is not None or (self._auth and not session.user):
            await self._say(session, "503 bad sequence, or authenticate first")
        elif not rest.isascii() or not address.startswith(b"FROM:<") or not address.endswith(b">"):
            self.unexpected.append(f"sender {rest!r}")
            await self._say(session, "501 no address")
        elif int(named.get("SIZE", "0")) > MAX_SIZE:
            await self._say(session, "552 too large")
        else:
            session.sender, session.eight_bit = address[6:-1].decode(), named.get("BODY") == "8BITMIME"
            await self._say(session, "250 ok")

    async def _rcpt(self, session: _Session, rest: bytes) -> None:
        if session.sender is None or not rest.isascii() or not rest.startswith(b"TO:<") or not rest.endswith(b">"):
            self.unexpected.append(f"recipient {rest!r}")
            await self._say(session, "501 no address")
            return
        address = rest[4:-1].decode()
        if address in self.refuses:
            await self._say(session, self.refuses[address])
            return
        session.recipients.append(address)
        await self._say(session, "250 ok")

    async def _data(self, session: _Session, rest: bytes) -> None:
        if not session.recipients:
            await self._say(session, "503 no recipients")
            return
        await self._say(session, "354 go on")
        lines = []
        while (line := await self._line(session)) != b".":
            lines.append(line[1:] if line.startswith(b".") else line)
        raw = b"\r\n".join([*lines, b""])
        if self.hang_up_after_data:
            session.open = False
            return
        trouble = self._trouble(".")
        wrong = trouble or self._wrong(session, raw)
        if not wrong:
            self._take(session, raw)
        session.reset()
        await self._say(session, wrong or "250 taken")

    def _wrong(self, session: _Session, raw: bytes) -> str:
        found = list(_problems(raw, eight_bit=session.eight_bit))
        self.unexpected.extend(found)
        return f"554 {found[0]}" if found else ""

    def _take(self, session: _Session, raw: bytes) -> None:
        assert session.sender is not None
        parsed = message_from_bytes(raw, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        mail = Mail(session.sender, tuple(session.recipients), raw, parsed, session.encrypted, session.user)
        self.mails.append(mail)

    async def _rset(self, session: _Session, rest: bytes) -> None:
        session.reset()
        await self._say(session, "250 ok")

    async def _quit(self, session: _Session, rest: bytes) -> None:
        await self._say(session, "221 bye")


_COMMANDS: dict[str, Callable[[FakeSmtp, _Session, bytes], Awaitable[None]]] = {
    "EHLO": FakeSmtp._ehlo, "STARTTLS": FakeSmtp._starttls, "AUTH": FakeSmtp._authenticate, "MAIL": FakeSmtp._mail,
    "RCPT": FakeSmtp._rcpt, "DATA": FakeSmtp._data, "RSET": FakeSmtp._rset, "QUIT": FakeSmtp._quit,
}  # fmt: skip


def _problems(raw: bytes, *, eight_bit: bool) -> list[str]:
    """What is wrong with the form of a mail."""
    found = []
    if not eight_bit and not raw.isascii():
        found.append("eight-bit octets without BODY=8BITMIME")
    if len(raw) > MAX_SIZE:
        found.append("too large")
    if not raw.partition(b"\r\n\r\n")[0].isascii() or b"\0" in raw:
        found.append("a header outside ASCII, or a NUL")
    parsed = message_from_bytes(raw, policy=policy.default)
    names = [name.lower() for name in parsed]
    found += [f"{name} stands {names.count(name)} times" for name in ONCE if names.count(name) > 1]
    found += [f"no {name}" for name in ("from", "date", "message-id", "subject") if name not in names]
    for part in parsed.walk():
        found += [f"defect {defect!r} of a part" for defect in part.defects]
        found += [f"defect {d!r} of {name}" for name, value in part.items() for d in getattr(value, "defects", ())]
    return found
