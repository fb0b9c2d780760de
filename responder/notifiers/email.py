"""E-mail over SMTP: one conversation an incident, each mail readable alone (contracts.md E).

A mail cannot be updated, so the root is sent once and every later mail shows the present state below its news.
aiosmtplib speaks the protocol; it tries nothing again. Retrying, pacing and order are `engine.delivery`'s. Whoever
needs to be woken has a pager: a mail is read when somebody reads mail.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, JsonValue, PrivateAttr, model_validator

from responder.contracts import Message, Notifier, Render, Secret
from responder.errors import BadConfig, Permanent, Temporary, Unknown
from responder.mails import Mailbox, address, one_line, sent_as, threaded, written_mail
from responder.timing import SECOND

if TYPE_CHECKING:
    from email.headerregistry import Address

    from aiosmtplib import SMTP, SMTPRecipientRefused

CONNECTIONS = 4
"""Mails under way at once: many servers allow one client not many more."""
FAREWELL = 2.0
"""Seconds for the answer to QUIT; the mail is taken already."""
PATIENCE = 8
"""Tries for a recipient who is put off while others have the mail; with delivery's waits about two minutes."""
REMEMBERED = 1_000
"""Mails of which it is remembered who has them already."""

LOG = logging.getLogger("responder.notifiers.email")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

IMPORTANT = frozenset({
    "severity_rose", "problem_found", "refused", "manual_asked", "run_ended", "relapsed", "level_reached",
    "urgent_told", "machine_announced", "machine_fired", "acknowledged", "acknowledgement_expired", "taken_over",
    "settled", "restore_reminded", "message_dead", "closed",
})  # fmt: skip
"""Events after which a person may decide differently. The others stand in the state that the next mail shows."""


class Security(StrEnum):
    """How the connection is protected; certificates are always verified."""

    STARTTLS = "starttls"  # begins in clear and must be upgraded before anything is said
    TLS = "tls"  # from the first byte
    NONE = "none"


class Events(StrEnum):
    """Which events of an incident become a mail."""

    IMPORTANT = "important"
    ALL = "all"


_PORTS: Mapping[Security, int] = {Security.STARTTLS: 587, Security.TLS: 465, Security.NONE: 25}


class Email(Notifier):
    """Tells the story by e-mail, one conversation an incident. A level may name it, but a mail wakes nobody."""

    kind: Literal["email"] = "email"
    host: str = Field(pattern=r"^[A-Za-z0-9.:-]{1,253}$")
    """The mail server, by name or address."""
    port: int | None = Field(default=None, ge=1, le=65_535)
    """By default 587 with `starttls`, 465 with `tls`, 25 with `none`."""
    tls: Security | None = None
    """How the connection is protected; by default `starttls`, and `none` when the server is on this machine."""
    ca_file: str | None = None
    """PEM file of the authorities that sign its certificate, instead of the well-known ones."""
    username: str | None = None
    """Who we are to the server; with `password`."""
    password: Secret | None = None
    """The password."""
    sender: Mailbox = Field(alias="from")
    """Whom mails come from, such as `Responder <responder@example.com>`."""
    to: tuple[Mailbox, ...] = Field(min_length=1, max_length=50)
    """Who gets them."""
    cc: tuple[Mailbox, ...] = Field(default=(), max_length=50)
    """Who gets a copy."""
    events: Events = Events.IMPORTANT
    """Which events become a mail: those after which a person may decide differently, or `all`."""
    timeout: float = Field(default=30, gt=0, le=120)
    """Seconds until the server has taken the recipients, and once more for its answer to the mail."""

    chats: ClassVar[bool] = True
    family: ClassVar[str] = "email"
    pace: ClassVar[int] = 6 * SECOND
    _permits: asyncio.Semaphore = PrivateAttr(default_factory=lambda: asyncio.Semaphore(CONNECTIONS))
    _reached: dict[str, frozenset[str]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _credentials(self) -> Email:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together: write both or neither")
        if self.password is not None and self.security is Security.NONE and self.host not in _LOOPBACK:
            raise ValueError("a password never travels in clear: write `tls: starttls` or `tls: tls`")
        return self

    @property
    def security(self) -> Security:
        """How the connection is protected."""
        return self.tls or (Security.NONE if self.host in _LOOPBACK else Security.STARTTLS)

    def compose(self, kind: str, values: Mapping[str, object], render: Render) -> JsonValue:
        """Subject, text, HTML and time of the mail, from templates/email."""
        return {
            "subject": render("email/subject.txt.j2", {**values, "message": kind}),
            "text": render(f"email/{kind}.txt.j2", values),
            "html": render(f"email/{kind}.html.j2", values),
            "at": int(str(values["at"])),
        }

    def passes_over(self, template: str, sent: bool) -> bool:
        """True for a root that was sent, for small news, and for what is only for pagers."""
        if template == "root":
            return sent
        small = template.startswith("story/") and self._is_small(template.removeprefix("story/"))
        return small or super().passes_over(template, sent)

    def _is_small(self, kind: str) -> bool:
        """An event that needs no mail of its own."""
        return self.events is Events.IMPORTANT and kind not in IMPORTANT

    async def send(self, message: Message) -> str:
        """Send one mail; answers `{"message_id": …}`. Nothing is sent for a root that changes, and for small news."""
        if self._is_known(message):
            return message.previous if message.kind == "root" else ""
        thread = threaded(message, self.sender, (*self.to, *self.cc))
        written = written_mail(message, thread, self._envelope())
        async with self._permits:
            await self._sent(message, written)
        return json.dumps({"message_id": thread["Message-ID"]})

    async def doctor(self) -> Sequence[str]:
        """The way up to a mail: connected, upgraded, logged in, and the server answers."""
        from aiosmtplib import SMTPException

        session = await self._session()
        try:
            async with asyncio.timeout(self.timeout):
                await session.connect()
                await session.noop()
                await session.quit()
        except (SMTPException, OSError) as error:
            raise _not_begun(error, self.host, self.timeout) from None
        finally:
            session.close()
        secured = "in clear" if self.security is Security.NONE else f"by {self.security.value}"
        login = "without a login" if self.username is None else f"as {self.username}"
        return (f"{self.host} takes connections {secured}, {login}",)

    def _is_known(self, message: Message) -> bool:
        """True for what needs no mail: a root that was sent, and an event that the next mail shows anyway."""
        if message.kind == "root":
            return bool(sent_as(message))
        return message.kind == "thread" and message.event is not None and self._is_small(message.event.fact.kind)

    def _envelope(self) -> dict[str, tuple[Address, ...]]:
        named = {"From": (self.sender,), "To": self.to, "Cc": self.cc}
        return {header: tuple(address(one) for one in given) for header, given in named.items() if given}

    async def _sent(self, message: Message, written: bytes) -> None:
        """Hand it to the server for everybody who does not have it yet."""
        from aiosmtplib import SMTPException

        before = self._reached.get(message.id, frozenset())
        everybody = dict.fromkeys(address(one).addr_spec for one in (*self.to, *self.cc))
        wanted = [one for one in everybody if one not in before]
        session = await self._session()
        try:
            refused = await self._begun(session, wanted, len(written))
            if len(refused) < len(wanted):
                await self._ended(session, written)
            elif not before:
                raise _nobody_taken(self.host, refused)
            with suppress(SMTPException, OSError):  # it is taken, whatever the farewell brings
                await session.quit(timeout=min(FAREWELL, self.timeout))
        finally:
            session.close()
        self._remember(message, before | (frozenset(wanted) - refused.keys()), refused)

    async def _session(self) -> SMTP:
        from aiosmtplib import SMTP

        encrypted = self.security is not Security.NONE
        password = None if self.password is None else self.password.reveal()
        return SMTP(
            hostname=self.host,
            port=self.port or _PORTS[self.security],
            username=self.username,
            password=password,
            # Our domain as the sender says it: asking the resolver for our own name may take half a minute.
            local_hostname=address(self.sender).domain,
            timeout=self.timeout,
            use_tls=self.security is Security.TLS,
            start_tls=self.security is Security.STARTTLS,
            tls_context=await asyncio.to_thread(_trust, self.ca_file) if encrypted else None,
        )

    async def _begun(self, session: SMTP, wanted: list[str], size: int) -> dict[str, SMTPRecipientRefused]:
        """Connect and name sender and recipients; answers who was refused. Nothing can have been sent until then."""
        from aiosmtplib import SMTPException

        try:
            async with asyncio.timeout(self.timeout):
                await session.connect()
                options = [f"SIZE={size}"] if session.supports_extension("size") else []
                await session.mail(address(self.sender).addr_spec, options=options)
                return await _recipients(session, wanted)
        except (SMTPException, OSError) as error:  # TimeoutError is an OSError
            raise _not_begun(error, self.host, self.timeout) from None

    async def _ended(self, session: SMTP, written: bytes) -> None:
        """Give the mail. An answer that is lost from here on says nothing: the server may have taken it."""
        from aiosmtplib import SMTPException, SMTPResponseException

        try:
            await session.data(written, timeout=self.timeout)
        except SMTPResponseException as error:
            unclear = Unknown(f"{self.host} answers the mail with {error.code}; it may have been sent")
            raise _by_code(error, f"{self.host} refuses the mail") or unclear from None
        except (SMTPException, OSError) as error:
            lost = "no answer in time" if isinstance(error, TimeoutError) else "the connection was lost"
            raise Unknown(f"{self.host}: {lost} ({type(error).__name__}); the mail may have been sent") from None

    def _remember(self, message: Message, reached: frozenset[str], refused: Mapping[str, SMTPRecipientRefused]) -> None:
        """Some have it. Whoever was put off is tried again alone; a refusal of one does not take it from the others."""
        self._reached.pop(message.id, None)
        put_off = sorted(one for one, error in refused.items() if error.code < 500)
        if put_off and (message.kind == "page" or message.attempt < PATIENCE):
            if len(self._reached) >= REMEMBERED:
                self._reached.pop(next(iter(self._reached)))
            self._reached[message.id] = reached
            raise Temporary(f"{self.host} has put off {', '.join(put_off)}; {len(reached)} have the mail")
        for one, error in refused.items():
            LOG.error(
                "%s goes without a mail: %s refuses it with %s", one, self.host, _answer(error.code, error.message)
            )


# --- talking to the server --------------------------------------------------------------------------------------------


def _trust(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise BadConfig(f"ca_file {ca_file!r} cannot be read ({error.strerror or type(error).__name__})") from None


async def _recipients(session: SMTP, wanted: list[str]) -> dict[str, SMTPRecipientRefused]:
    """Name the recipients; answers those whom the server refuses."""
    from aiosmtplib import SMTPRecipientRefused

    refused: dict[str, SMTPRecipientRefused] = {}
    for one in wanted:
        try:
            await session.rcpt(one)
        except SMTPRecipientRefused as error:
            refused[one] = error
    return refused


def _nobody_taken(host: str, refused: Mapping[str, SMTPRecipientRefused]) -> Temporary | Permanent:
    """One who was put off is worth another try; the others have said no for good."""
    mildest = min(refused.values(), key=lambda error: error.code)
    return _by_code(mildest, f"{host} refuses every recipient") or Temporary(f"{host} takes no recipient")


def _not_begun(error: Exception, host: str, patience: float) -> Temporary | Permanent:
    """What a failure before the mail itself means: nothing was sent, so only the cure is in question."""
    from aiosmtplib import SMTPAuthenticationError, SMTPException, SMTPResponseException

    if isinstance(error, SMTPAuthenticationError):
        # The text is left out: some servers repeat what they were told.
        said = f"{host} refuses username and password ({error.code}); renew them"
        return Temporary(said) if error.code < 500 else Permanent(said)
    if isinstance(error, SMTPResponseException):
        return _by_code(error, f"{host} refuses to take a mail") or Temporary(f"{host} answers {error.code}")
    if isinstance(error, TimeoutError):
        return Temporary(f"{host} was not ready for a mail within {patience:g} s; see the network and the port")
    if isinstance(error, OSError):
        cure = "see the server, the port, `tls` and the certificate"
        return Temporary(f"{host} cannot be reached ({type(error.__cause__ or error).__name__}); {cure}")
    assert isinstance(error, SMTPException)
    return Permanent(f"{host}: {_said(error.message)}; see `tls` and `username`")


def _by_code(error: Any, said: str) -> Temporary | Permanent | None:
    """4xx may go later, 5xx never; None for what is no refusal at all."""
    full = f"{said}: {_answer(error.code, error.message)}"
    if 400 <= error.code < 500:
        return Temporary(full)
    return Permanent(full) if 500 <= error.code < 600 else None


def _answer(code: int, text: str) -> str:
    return f"{code} {_said(text)}".strip()


def _said(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= 160 else f"{line[:159]}…"
