"""Credentials and roles: what opens a door, and that rotation needs no restart."""

import base64
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
)

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
    assert webhook(vault, *credentials).webhook_entry(given) is expected


def test_without_configured_credentials_the_webhook_is_open() -> None:
    assert webhook(Vault()).webhook_entry(None) is Entry.OPEN
    assert webhook(Vault()).webhook_entry("Bearer anything") is Entry.OPEN


def test_a_webhook_credential_opens_nothing_else() -> None:
    vault = Vault(W="hook", O="three")
    both = Authenticator(
        [Grant(OTTO, (vault.secret("O"),))], [WebhookCredential(vault.secret("W"))], vault.now, open_reading=False
    )
    assert both.person("Bearer hook") is Entry.WRONG
    assert both.webhook_entry("Bearer three") is Entry.WRONG


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


def test_every_verb_but_restore_has_its_roles() -> None:
    """Restore is judged by the role that its step names."""
    assert set(VERBS) - set(NEEDED) == {"restore"}


def test_roles() -> None:
    assert ANNA.may(NEEDED["ack"])
    assert not ANNA.may(NEEDED["settle"])
    assert OTTO.may(NEEDED["settle"])
    assert OTTO.may({"risk-manager"})
    assert not ANNA.may({"risk-manager"})
    assert Person("local", frozenset({EVERY_ROLE})).may({"risk-manager"})
    assert not Person("nobody", frozenset()).may(NEEDED["ack"])
