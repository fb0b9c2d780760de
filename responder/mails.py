"""A message as a mail: headers, threading and form, as bytes that are the same whenever it is sent (contracts.md E).

Pure. What stands in a mail comes from labels, so nothing of it may become a header, an address, another part, or a line
that a server would read as a command. Sending is `notifiers.email`, wording is templates/email.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, parseaddr
from typing import Annotated

from pydantic import AfterValidator, JsonValue
from pydantic_core import PydanticCustomError

from responder.contracts import Message
from responder.positions import clean
from responder.timing import SECOND

MAX_SUBJECT = 180
"""Characters; a phone shows forty of them, and a longer line helps nobody."""
_spec = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?=.{1,253}\Z)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*").fullmatch


def _a_mailbox(text: str) -> str:
    if not text.isprintable() or _spec(parseaddr(text)[1]) is None:
        hint = "write risk@example.com or Risk Desk <risk@example.com>; a domain outside ASCII in its xn-- form"
        raise PydanticCustomError("mailbox", "no address of a mailbox", {"hint": hint})
    return text


Mailbox = Annotated[str, AfterValidator(_a_mailbox)]


def address(text: str) -> Address:
    """Name and address of a mailbox that was checked."""
    name, spec = parseaddr(text)
    return Address(display_name=name, addr_spec=spec)


class _Form(EmailPolicy):
    """Everything in ASCII and short lines, so that no server needs 8BITMIME or SMTPUTF8."""

    def fold_binary(self, name: str, value: str) -> bytes:
        """The subject by the older class: up to Python 3.12 the newer one loses spaces where it encodes."""
        if name.lower() != "subject":
            return super().fold_binary(name, value)
        charset = "us-ascii" if value.isascii() else "utf-8"
        folded = Header(str(value), charset, maxlinelen=76, header_name=name).encode(linesep=self.linesep)
        return f"{name}: {folded}{self.linesep}".encode("ascii")


_FORM = _Form(cte_type="7bit", linesep="\r\n")


def sent_as(message: Message) -> str:
    """The Message-ID that the root was sent with; empty when another kind of notifier had this name then."""
    previous = json.loads(message.previous) if message.previous else {}
    return str(previous.get("message_id", "")) if isinstance(previous, dict) else ""


def threaded(message: Message, sender: str, recipients: tuple[str, ...]) -> dict[str, str]:
    """Message-ID, and for all but the root the mail that it belongs to.

    Made of incident, key and recipients alone: a mail that is sent again because an answer was lost has the same id,
    which mail stores show once; two notifiers that tell one person of the same incident send two mails.
    """
    domain = address(sender).domain
    root = sent_as(message) or _message_id(domain, message.incident.id, "root", sender, *recipients)
    if message.kind == "root":
        return {"Message-ID": root}
    own = _message_id(domain, message.incident.id, f"{message.key} {message.id}", sender, *recipients)
    return {"Message-ID": own, "In-Reply-To": root, "References": root}


def _message_id(domain: str, *parts: str) -> str:
    """Short enough for one line, else the standard library would encode it, and nothing would belong together."""
    digest = hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()
    return f"<{digest[:24]}@{_short(domain)}>"


def _short(domain: str) -> str:
    return domain[-36:].lstrip(".-")


def written_mail(message: Message, thread: Mapping[str, str], envelope: Mapping[str, tuple[Address, ...]]) -> bytes:
    """The mail as it is sent: text, and HTML unless its template is broken; the same bytes whenever it is sent."""
    body = message.body if isinstance(message.body, dict) else {}
    mail = EmailMessage(policy=_FORM)
    for header, addresses in envelope.items():
        mail[header] = addresses
    for header, value in {**thread, **_headers(message, body, envelope["From"][0].domain)}.items():
        mail[header] = value
    mail.set_content(_text(str(body.get("text") or message.text)), cte="quoted-printable")
    if body.get("html"):
        mail.add_alternative(str(body["html"]), subtype="html", cte="quoted-printable")
        # `=_` never occurs in quoted-printable, so no label can end a part.
        mail.set_boundary(f"=_{thread['Message-ID'][1:25]}")
    return mail.as_bytes()


def _headers(message: Message, body: Mapping[str, JsonValue], domain: str) -> dict[str, str]:
    at = body.get("at")
    moment = at if isinstance(at, int) else message.incident.opened_at if message.event is None else message.event.at
    known = {
        "Subject": subject(str(body.get("subject") or message.text)),
        "Date": format_datetime(datetime.fromtimestamp(moment // SECOND, UTC)),
        "List-Id": f"<responder.{_short(domain)}>",
        # Nobody's absence notice should answer: RFC 3834, its predecessor, and Exchange's own word.
        "Auto-Submitted": "auto-generated",
        "Precedence": "bulk",
        "X-Auto-Response-Suppress": "All",
        "X-Responder-Incident": _token(message.incident.id),
        "X-Responder-Message": message.kind,
    }
    return known | ({"Importance": "high", "X-Priority": "1"} if message.kind == "page" else {})


def subject(text: str) -> str:
    """One line that is only what it says: no line break, nothing invisible, and no label that reads as an encoding."""
    line = one_line(text).replace("=?", "= ?")
    return (line if len(line) <= MAX_SUBJECT else f"{line[: MAX_SUBJECT - 1]}…") or "(no subject)"


def one_line(text: str) -> str:
    """Without line breaks and what cannot be seen."""
    return " ".join(clean(text).split())


def _text(text: str) -> str:
    return clean(text).strip() + "\n"


def _token(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)[:60]
