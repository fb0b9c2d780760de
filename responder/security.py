"""Who may speak to the responder: credentials of the webhook, of people and of programs, and the role each verb needs.

Credentials are compared as digests, all of them every time, so that neither the time nor the order tells how much of a
guess was right. They are read afresh while running: a rotated one works at once, a withdrawn one ends within seconds
(design 5.11). Nothing here speaks HTTP, and no message ever shows what was presented.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Generic, TypeVar

from responder.contracts import Clock, Secret
from responder.errors import BadConfig
from responder.timing import MINUTE, SECOND

Owner = TypeVar("Owner")

log = logging.getLogger("responder.security")

RESPONDER: Final = "responder"
"""The role of whoever is on call: sees to incidents."""
OPERATOR: Final = "operator"
"""The role of whoever runs the responder: settles, unlocks, pauses, reloads, starts runbooks by hand."""
EVERY_ROLE: Final = "*"
"""Held by the local operator of an installation where nobody is configured, and by nobody else unless configured so."""

NEEDED: Final[Mapping[str, frozenset[str]]] = {
    "ack": frozenset({RESPONDER, OPERATOR}),
    "takeover": frozenset({RESPONDER, OPERATOR}),
    "snooze": frozenset({RESPONDER, OPERATOR}),
    "escalate": frozenset({RESPONDER, OPERATOR}),
    "hold": frozenset({RESPONDER, OPERATOR}),
    "cancel": frozenset({RESPONDER, OPERATOR}),
    "note": frozenset({RESPONDER, OPERATOR}),
    "done": frozenset({RESPONDER, OPERATOR}),
    "override": frozenset({OPERATOR}),
    "settle": frozenset({OPERATOR}),
    "unlock": frozenset({OPERATOR}),
    "pause": frozenset({OPERATOR}),
    "resume": frozenset({OPERATOR}),
    "reload": frozenset({OPERATOR}),
    "notifications": frozenset({RESPONDER, OPERATOR}),
    "replay": frozenset({OPERATOR}),
    "plan": frozenset({RESPONDER, OPERATOR}),
    "run": frozenset({OPERATOR}),
}
"""Verb -> the roles of which one is enough. `restore`, `approve` and `deny` are not here: their step names the role."""

FRESH: Final = 5 * SECOND
"""How long a credential is used before it is read again: a withdrawn one ends within this time."""
SIGNED_WITHIN: Final = 5 * MINUTE
"""How far the time of a signature may be from ours, before and after."""
AGAIN: Final = 1 * SECOND
"""After an unknown credential they are read at once, but not more often than this: guessing must not cost reads."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is known: a person or a program, by the name that the journal will say."""

    name: str
    roles: frozenset[str]

    def may(self, needed: Iterable[str]) -> bool:
        """Whether one of the roles is theirs."""
        return EVERY_ROLE in self.roles or not self.roles.isdisjoint(needed)


@dataclass(frozen=True, slots=True)
class Grant:
    """What the configuration gives to one person or program. Several tokens are valid at a time, for rotation."""

    person: Person
    tokens: Sequence[Secret]


@dataclass(frozen=True, slots=True)
class WebhookCredential:
    """One that Alertmanager may present: with a user name it is basic authentication, else a bearer token."""

    secret: Secret
    username: str | None = None


@dataclass(frozen=True, slots=True)
class WebhookSignature:
    """A key with which Grafana may sign: hex of HMAC-SHA256 over the body (contracts.md A7).

    `headers`, in lower case: where the signature may stand. With `timestamp_header` the seconds in that header and a
    colon come before the body, and an old one is refused.
    """

    secret: Secret
    headers: tuple[str, ...]
    timestamp_header: str | None = None


Header = Callable[[str], str | None]
"""The value of a request's header, by its name in lower case."""


class Entry(StrEnum):
    """What became of a credential."""

    OPEN = "open"
    """It was right, or none is needed."""
    MISSING = "missing"
    WRONG = "wrong"
    SIGNED = "signed"
    """Only the body can tell: it comes with a signature."""


class Authenticator:
    """See the module. `open_reading`: nobody is configured, so who can reach the port may read."""

    def __init__(
        self,
        people: Sequence[Grant],
        webhook: Sequence[WebhookCredential | WebhookSignature],
        now: Clock,
        *,
        open_reading: bool,
    ) -> None:
        self.open_reading = open_reading
        self.webhook_open = not webhook
        self._now = now
        self._signatures = [c for c in webhook if isinstance(c, WebhookSignature)]
        presented = [c for c in webhook if isinstance(c, WebhookCredential)]
        self._webhook: _Keyring[None] = _Keyring([(c.secret, c.username, None) for c in presented], now)
        self._people: _Keyring[Person] = _Keyring([(t, None, g.person) for g in people for t in g.tokens], now)

    def webhook_entry(self, header: Header) -> Entry:
        """Whether a notification may come in, by what its headers present; one right credential is enough."""
        authorization = header("authorization")
        if self.webhook_open or (authorization is not None and self._webhook.find(authorization)):
            return Entry.OPEN
        if any(header(name) is not None for name in self.signature_headers):
            return Entry.SIGNED
        return Entry.MISSING if authorization is None else Entry.WRONG

    @property
    def signature_headers(self) -> tuple[str, ...]:
        """Where a signature of a notification may stand; none where no key is configured."""
        return tuple(dict.fromkeys(name for key in self._signatures for name in key.headers))

    def signature_fault(self, header: Header, body: bytes) -> str | None:
        """Why no configured key signed this body, or None when one did. The message is shown to the sender."""
        faults = [_fault(key, header, body, self._now()) for key in self._signatures]  # all: the time must not tell
        if None in faults:
            return None
        # Of several keys the one that got further tells more: a clock that is wrong rather than another's secret.
        return max((fault for fault in faults if fault is not None), default=_Fault(0, "no key is configured")).said

    def person(self, authorization: str | None) -> Person | Entry:
        """Who presents this `Authorization: Bearer …`; MISSING without one, WRONG when nobody has it."""
        if authorization is None:
            return Entry.MISSING
        found = self._people.find(authorization)
        return found[0] if found else Entry.WRONG


class _Keyring(Generic[Owner]):
    """Digests of credentials with their owners, read from where they are kept when they are no longer fresh."""

    def __init__(self, kept: Sequence[tuple[Secret, str | None, Owner]], now: Clock) -> None:
        self._kept = kept
        self._now = now
        self._digests: list[tuple[bytes, Owner]] = []
        self._read_at: int | None = None

    def find(self, authorization: str) -> tuple[Owner] | None:
        """The owner, in a tuple since it may be None; None when nobody has this credential."""
        presented = _presented(authorization)
        if presented is None:
            return None
        self._refresh(FRESH)
        found = self._compare(presented)
        if found is None and self._refresh(AGAIN):
            found = self._compare(presented)
        return found

    def _compare(self, presented: bytes) -> tuple[Owner] | None:
        found = None
        for digest, owner in self._digests:  # never ends early: the time must not tell which one it was
            if hmac.compare_digest(digest, presented):
                found = (owner,)
        return found

    def _refresh(self, age: int) -> bool:
        now = self._now()
        if self._read_at is not None and 0 <= now - self._read_at < age:
            return False
        self._read_at = now
        self._digests = [(d, owner) for secret, user, owner in self._kept if (d := _digest_of(secret, user))]
        return True


def _digest_of(secret: Secret, username: str | None) -> bytes | None:
    """None where it cannot be read just now: then it opens nothing, and the others still do."""
    try:
        value = secret.reveal().strip()
    except BadConfig as error:
        log.error("a credential cannot be read: %s", error)
        return None
    if not value:
        log.error("the credential in %s is empty and opens nothing; write one there", secret.named)
        return None
    return _bearer(value.encode()) if username is None else _basic(f"{username}:{value}".encode())


@dataclass(frozen=True, slots=True, order=True)
class _Fault:
    """How far a signature got, and what was wrong then."""

    reached: int
    said: str


def _fault(key: WebhookSignature, header: Header, body: bytes, now: int) -> _Fault | None:
    given = next((value for name in key.headers if (value := header(name)) is not None), None)
    if given is None:
        return _Fault(0, f"no header {' or '.join(key.headers)}")
    seconds = ""
    if key.timestamp_header is not None:
        seconds = header(key.timestamp_header) or ""
        if not _is_seconds(seconds):
            why = "no Unix time in seconds: name this header in the contact point, or take timestamp_header away here"
            return _Fault(1, f"header {key.timestamp_header} holds {why}")
    if not _signed(key, given, f"{seconds}:".encode() + body if seconds else body):
        return _Fault(
            2, _MISMATCH if seconds else f"{_MISMATCH}; a timestamp header is configured on both sides or none"
        )
    if seconds and abs(now - int(seconds) * SECOND) > SIGNED_WITHIN:
        return _Fault(3, "the signature is right and more than 5 minutes from now: set the clocks; nothing is replayed")
    return None


_MISMATCH: Final = "the signature is not of this body: the secret must be equal here and there, the body unchanged"
_is_seconds = re.compile(r"[0-9]{1,12}").fullmatch


def _signed(key: WebhookSignature, given: str, signed: bytes) -> bool:
    try:
        secret = key.secret.reveal()
    except BadConfig as error:
        log.error("a credential cannot be read: %s", error)
        return False
    if not secret:
        log.error("the key in %s is empty and opens nothing; write one there", key.secret.named)
        return False
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), given.strip().lower().encode("utf-8", "replace"))


def _presented(authorization: str) -> bytes | None:
    """The digest of what a header presents, or None for a header that is neither Bearer nor Basic."""
    scheme, _, given = authorization.partition(" ")
    given = given.strip()
    if scheme.lower() == "bearer" and given:
        return _bearer(given.encode("latin-1", "replace"))
    if scheme.lower() == "basic":
        try:
            return _basic(base64.b64decode(given, validate=True))
        except (binascii.Error, ValueError):
            return None
    return None


def _bearer(token: bytes) -> bytes:
    return hashlib.sha256(b"bearer\0" + token).digest()


def _basic(pair: bytes) -> bytes:
    return hashlib.sha256(b"basic\0" + pair).digest()


def local_operator(path: Path) -> Grant:
    """The operator of an installation where nobody is configured: whoever can read `path`, which is made when missing.

    The file is readable by its owner only. Raises BadConfig when it can neither be made nor used.
    """
    try:
        _make(path)
        mode = path.stat().st_mode & 0o077
    except OSError as error:
        said = f"{path}: cannot be made ({error.strerror}); configure `auth.people`, or mend the folder"
        raise BadConfig(said) from None
    if mode:
        raise BadConfig(f"{path}: others may read it; run chmod 600 on it, or remove it and start again")
    return Grant(Person("local", frozenset({EVERY_ROLE})), (Secret(f"file {path}", _reader(path)),))


def _make(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")


def _reader(path: Path) -> Callable[[], str]:
    def read() -> str:
        try:
            return path.read_text().strip()
        except (OSError, ValueError):
            raise BadConfig(f"{path}: cannot be read; restart to have it made again") from None

    return read


# --- Slack ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SlackSignatures:
    """The signing secrets of the Slack apps, of which any may have signed (contracts.md D2).

    Written out here and not taken from the library, which raises on what is no signature at all.
    """

    secrets: Sequence[Secret]

    def signer(self, timestamp: str | None, given: str | None, body: bytes, now: int) -> Secret | str:
        """The secret by which an app has signed this body within five minutes of `now` (µs), or why none has."""
        if timestamp is None or given is None:
            return "no header X-Slack-Signature with X-Slack-Request-Timestamp: only Slack posts here"
        if not _is_seconds(timestamp):
            return "X-Slack-Request-Timestamp holds no Unix time in seconds"
        signed = f"v0:{timestamp}:".encode() + body
        right = [one for one in self.secrets if _signed_by_slack(one, given, signed)]  # all: the time must not tell
        if not right:
            return "the signature is not of this body: `signing_secret` must be that of the Slack app"
        if abs(now - int(timestamp) * SECOND) > SIGNED_WITHIN:
            return "the signature is right and more than 5 minutes from now: set the clock; nothing is replayed"
        return right[0]


def _signed_by_slack(secret: Secret, given: str, signed: bytes) -> bool:
    try:
        key = secret.reveal().strip()
    except BadConfig as error:
        log.error("a credential cannot be read: %s", error)
        return False
    if not key:
        log.error("the signing secret in %s is empty and opens nothing; write one there", secret.named)
        return False
    expected = f"v0={hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()}"
    return hmac.compare_digest(expected.encode(), given.strip().encode("utf-8", "replace"))


# --- PagerDuty --------------------------------------------------------------------------------------------------------


def pagerduty_signed(keys: Sequence[Secret], given: str | None, body: bytes) -> bool:
    """Whether one of the keys made one of the signatures in `X-PagerDuty-Signature`: `v1=…[,v1=…]` (contracts.md C3).

    All are compared with all: the time must not tell. Several stand there while PagerDuty rotates its secret.
    """
    presented = [part.strip() for part in (given or "").split(",")[:MOST_SIGNATURES]]
    signatures = [part[3:].encode("utf-8", "replace") for part in presented if part.startswith("v1=")]
    made = [hmac.new(key, body, hashlib.sha256).hexdigest().encode() for key in _revealed(keys)]
    return any([hmac.compare_digest(one, other) for one in made for other in signatures])  # noqa: C419  no early end


MOST_SIGNATURES: Final = 10
"""Signatures of one request that are looked at."""


def unreadable(keys: Iterable[Secret]) -> list[str]:
    """Where those keys are kept that cannot be read just now or are empty: what they signed may be right."""
    return [key.named for key in keys if not _revealed([key])]


def _revealed(keys: Sequence[Secret]) -> list[bytes]:
    """The keys that can be read just now; one that cannot, or is empty, opens nothing."""
    found = []
    for key in keys:
        try:
            value = key.reveal().strip()
        except BadConfig as error:
            log.error("a credential cannot be read: %s", error)
            continue
        if value:
            found.append(value.encode())
        else:
            log.error("the key in %s is empty and opens nothing; write one there", key.named)
    return found
