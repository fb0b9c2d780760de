"""Credentials and roles: what opens a door, and that rotation needs no restart."""

import base64
import hashlib
import hmac
from collections.abc import Callable

import pytest

from responder.commands import VERBS
from responder.contracts import Secret
from responder.errors import BadConfig
from responder.security import (
    AGAIN,
    EVERY_ROLE,
    FRESH,
    NEEDED,
    OPERATOR,
    RESPONDER,
    Authenticator,
    Entry,
    Grant,
    Person,
    WebhookCredential,
    WebhookSignature,
)
from responder.timing import SECOND

ANNA = Person("anna", frozenset({RESPONDER}))
OTTO = Person("otto", frozenset({OPERATOR, "risk-manager"}))


class Vault:
    """Secrets that change, and the time."""

    def __init__(self, **values: str) -> None:
        self.values = values
        self.read = 0
        self.time = 0

    def secret(self, name: str) -> Secret:
        return Secret(f"env {name}", self._fetch(name))

    def _fetch(self, name: str) -> Callable[[], str]:
        def fetch() -> str:
            self.read += 1
            if name not in self.values:
                raise BadConfig(f"env {name}: not set")
            return self.values[name]

        return fetch

    def now(self) -> int:
        return self.time


def people(vault: Vault) -> Authenticator:
    grants = [Grant(ANNA, (vault.secret("A1"), vault.secret("A2"))), Grant(OTTO, (vault.secret("O"),))]
    return Authenticator(grants, [], vault.now, open_reading=False)


def webhook(vault: Vault, *credentials: WebhookCredential) -> Authenticator:
    return Authenticator([], credentials, vault.now, open_reading=True)


def entry(known: Authenticator, authorization: str | None) -> Entry:
    headers = {} if authorization is None else {"authorization": authorization}
    return known.webhook_entry(headers.get)


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Bearer one", ANNA),
        ("bearer   one", ANNA),
        ("Bearer two", ANNA),
        ("Bearer three", OTTO),
        (None, Entry.MISSING),
        ("Bearer four", Entry.WRONG),
        ("Bearer ", Entry.WRONG),
        ("Bearer on", Entry.WRONG),
        ("Bearer onee", Entry.WRONG),
        ("one", Entry.WRONG),
        ("Digest one", Entry.WRONG),
        (basic("anna", "one"), Entry.WRONG),
    ],
)
def test_a_token_tells_who_asks(given: str | None, expected: Person | Entry) -> None:
    vault = Vault(A1="one", A2="two", O="three")
    assert people(vault).person(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Bearer old", Entry.OPEN),
        ("Bearer new", Entry.OPEN),
        (basic("alertmanager", "pässword:1"), Entry.OPEN),
        (basic("somebody", "pässword:1"), Entry.WRONG),
        (basic("alertmanager", "password"), Entry.WRONG),
        ("Bearer alertmanager:pässword:1", Entry.WRONG),
        ("Basic ???", Entry.WRONG),
        (basic("", "old"), Entry.WRONG),
        (None, Entry.MISSING),
    ],
)
def test_the_webhook_takes_bearer_and_basic_several_at_a_time(given: str | None, expected: Entry) -> None:
    vault = Vault(OLD="old", NEW="new", PW="pässword:1")
    credentials = [
        WebhookCredential(vault.secret("OLD")),
        WebhookCredential(vault.secret("NEW")),
        WebhookCredential(vault.secret("PW"), "alertmanager"),
    ]
    assert entry(webhook(vault, *credentials), given) is expected


def test_without_configured_credentials_the_webhook_is_open() -> None:
    assert entry(webhook(Vault()), None) is Entry.OPEN
    assert entry(webhook(Vault()), "Bearer anything") is Entry.OPEN


def test_a_webhook_credential_opens_nothing_else() -> None:
    vault = Vault(W="hook", O="three")
    both = Authenticator(
        [Grant(OTTO, (vault.secret("O"),))], [WebhookCredential(vault.secret("W"))], vault.now, open_reading=False
    )
    assert both.person("Bearer hook") is Entry.WRONG
    assert entry(both, "Bearer three") is Entry.WRONG


def test_a_rotated_secret_works_at_once_and_the_old_one_ends_soon() -> None:
    vault = Vault(A1="old", A2="unused", O="three")
    known = people(vault)
    assert known.person("Bearer old") == ANNA
    vault.values["A1"], vault.time = "new", AGAIN
    assert known.person("Bearer new") == ANNA
    vault.values["A1"], vault.time = "newest", vault.time + FRESH
    assert known.person("Bearer new") is Entry.WRONG


def test_guessing_does_not_read_the_secrets_again_and_again() -> None:
    vault = Vault(A1="one", A2="two", O="three")
    known = people(vault)
    for _ in range(100):
        known.person("Bearer guess")
    assert vault.read == 3


def test_a_secret_that_cannot_be_read_or_is_empty_opens_nothing() -> None:
    vault = Vault(A2="", O="three")
    known = people(vault)
    assert known.person("Bearer ") is Entry.WRONG
    assert known.person("Bearer three") == OTTO


def test_every_verb_has_its_roles_but_those_whose_step_names_one() -> None:
    assert set(VERBS) - set(NEEDED) == {"restore", "approve", "deny"}


def test_roles() -> None:
    assert ANNA.may(NEEDED["ack"])
    assert not ANNA.may(NEEDED["settle"])
    assert OTTO.may(NEEDED["settle"])
    assert OTTO.may({"risk-manager"})
    assert not ANNA.may({"risk-manager"})
    assert Person("local", frozenset({EVERY_ROLE})).may({"risk-manager"})
    assert not Person("nobody", frozenset()).may(NEEDED["ack"])


# --- signatures -------------------------------------------------------------------------------------------------------

BODY = b'{"version":"1"}'
NOW = 1_800_000_000 * SECOND


def hex_of(secret: str, *parts: bytes) -> str:
    return hmac.new(secret.encode(), b"".join(parts), hashlib.sha256).hexdigest()


def signing(vault: Vault, *keys: WebhookSignature) -> Authenticator:
    vault.time = NOW
    return Authenticator([], keys, vault.now, open_reading=True)


def test_a_signature_is_hmac_sha256_of_the_body_in_hex() -> None:
    """The example is RFC 4231's second."""
    known = signing(Vault(), WebhookSignature(Secret("env K", lambda: "Jefe"), ("x-signature",)))
    right = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    data = b"what do ya want for nothing?"
    assert known.signature_fault({"x-signature": right}.get, data) is None
    assert known.signature_fault({"x-signature": f" {right.upper()} "}.get, data) is None
    for wrong in ("", right[:-1], right[:-1] + "4", f"sha256={right}", "\xe9"):
        assert "not of this body" in str(known.signature_fault({"x-signature": wrong}.get, data))
    assert "not of this body" in str(known.signature_fault({"x-signature": right}.get, data + b" "))
    assert "no header x-signature" in str(known.signature_fault({"x-other": right}.get, data))


def test_one_of_several_keys_is_enough() -> None:
    vault = Vault(OLD="old", NEW="new")
    known = signing(vault, *(WebhookSignature(vault.secret(n), ("x-signature",)) for n in ("OLD", "NEW")))
    for secret in ("old", "new"):
        assert known.signature_fault({"x-signature": hex_of(secret, BODY)}.get, BODY) is None
    vault.values["OLD"] = "newest"
    assert known.signature_fault({"x-signature": hex_of("old", BODY)}.get, BODY) is not None
    assert known.signature_fault({"x-signature": hex_of("newest", BODY)}.get, BODY) is None


@pytest.mark.parametrize(
    ("seconds", "fault"),
    [
        ("1800000000", None),
        ("1799999700", None),
        ("1800000300", None),
        ("1799999699", "set the clocks"),
        ("1800000301", "set the clocks"),
        ("", "no Unix time"),
        ("1.8e9", "no Unix time"),
        ("-1800000000", "no Unix time"),
        ("1" * 13, "no Unix time"),
        ("١٨٠٠٠٠٠٠٠٠", "no Unix time"),
    ],
)
def test_a_signed_time_is_within_five_minutes(seconds: str, fault: str | None) -> None:
    vault = Vault(K="key")
    known = signing(vault, WebhookSignature(vault.secret("K"), ("x-signature",), "x-time"))
    headers = {"x-signature": hex_of("key", seconds.encode(), b":", BODY), "x-time": seconds}
    said = known.signature_fault(headers.get, BODY)
    assert (said is None) if fault is None else (fault in str(said))


def test_the_time_belongs_to_what_is_signed() -> None:
    vault = Vault(K="key")
    known = signing(vault, WebhookSignature(vault.secret("K"), ("x-signature",), "x-time"))
    moved = {"x-signature": hex_of("key", b"1700000000:", BODY), "x-time": "1800000000"}
    bare = {"x-signature": hex_of("key", BODY), "x-time": "1800000000"}
    assert "not of this body" in str(known.signature_fault(moved.get, BODY))
    assert "not of this body" in str(known.signature_fault(bare.get, BODY))
    assert "x-time" in str(known.signature_fault({"x-signature": hex_of("key", BODY)}.get, BODY))


def test_of_several_keys_the_nearest_says_what_is_wrong() -> None:
    vault = Vault(OTHER="other", K="key")
    stamped = WebhookSignature(vault.secret("K"), ("x-signature",), "x-time")
    known = signing(vault, WebhookSignature(vault.secret("OTHER"), ("x-other",)), stamped)
    headers = {"x-signature": hex_of("key", b"1700000000:", BODY), "x-time": "1700000000"}
    assert "set the clocks" in str(known.signature_fault(headers.get, BODY))


@pytest.mark.parametrize("kept", [{}, {"K": ""}])
def test_a_key_that_cannot_be_read_or_is_empty_signs_nothing(kept: dict[str, str]) -> None:
    vault = Vault(**kept)
    known = signing(vault, WebhookSignature(vault.secret("K"), ("x-signature",)))
    assert known.signature_fault({"x-signature": hex_of("", BODY)}.get, BODY) is not None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, Entry.MISSING),
        ({"authorization": "Bearer wrong"}, Entry.WRONG),
        ({"authorization": "Bearer hook"}, Entry.OPEN),
        ({"x-signature": ""}, Entry.SIGNED),
        ({"x-second": "ab"}, Entry.SIGNED),
        ({"authorization": "Bearer wrong", "x-signature": "ab"}, Entry.SIGNED),
        ({"authorization": "Bearer hook", "x-signature": "wrong"}, Entry.OPEN),
        ({"x-other": "ab"}, Entry.MISSING),
    ],
)
def test_only_a_signature_waits_for_the_body(headers: dict[str, str], expected: Entry) -> None:
    vault = Vault(W="hook", K="key")
    key = WebhookSignature(vault.secret("K"), ("x-signature", "x-second"))
    known = Authenticator([], [WebhookCredential(vault.secret("W")), key], vault.now, open_reading=True)
    assert known.webhook_entry(headers.get) is expected
