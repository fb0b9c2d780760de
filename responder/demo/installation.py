"""The demo's own responder.yaml, rules and tokens, in a folder that is thrown away.

It begins with the example that ships beside the runbooks, so that what the demo shows is what a reader of that example
gets: only addresses, credentials and notifiers are replaced. Every pager and channel becomes the console.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from responder.demo.imagined import ON_CALL, QUANT, RISK_MANAGER
from responder.demo.scaled_rules import copy_scaled
from responder.sources import shipped_rules

CATALOGUE = "edge-risk"
MAILS = "nse-mail"
"""Of the example of nse-equities."""
PERSON = "risk-desk"
"""Of the example: the one who may also put the Kelly fraction back. The demo asks the responder in this name."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is. `listen` is `host:port`, the others are URLs; no Alertmanager: None."""

    listen: str
    platform: str
    metrics: str
    cache: str
    alertmanager: str | None


@dataclass(frozen=True, slots=True)
class Tokens:
    """The credentials of one demo, made for it: the platform's, the webhook's, of the one who looks on, of the
    responder's user of Redis and the demo's own, and of the imagined people."""

    platform: str = field(repr=False)
    webhook: str = field(repr=False)
    person: str = field(repr=False)
    cache: str = field(repr=False)
    cache_owner: str = field(repr=False)
    on_call: str = field(repr=False)
    risk_manager: str = field(repr=False)
    quant: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Installation:
    """The files of one demo below `folder`."""

    folder: Path
    tokens: Tokens
    catalogue: str = CATALOGUE

    @property
    def config(self) -> Path:
        """Its responder.yaml."""
        return self.folder / "responder.yaml"

    @property
    def rules(self) -> Path:
        """Its copy of the rules."""
        return self.folder / "rules" / self.catalogue

    @property
    def webhook_token_file(self) -> Path:
        """What Alertmanager presents."""
        return self._token_file("webhook")

    @property
    def person_token_file(self) -> Path:
        """What a person presents."""
        return self._token_file("person")

    def _token_file(self, whose: str) -> Path:
        return self.folder / f"{whose}.token"


def installed(folder: Path, catalogue: str = CATALOGUE, only: Collection[str] | None = None) -> Installation:
    """Writes the tokens and the scaled rules below `folder`, which exists; `only`: these runbooks of the catalogue."""
    tokens = Tokens(*(secrets.token_urlsafe(24) for _ in fields(Tokens)))
    for whose in ("platform", "webhook", "person", "cache", "on_call", "risk_manager", "quant"):
        path = folder / f"{whose}.token"
        path.touch(mode=0o600)
        path.write_text(f"{getattr(tokens, whose)}\n")
    made = Installation(folder, tokens, catalogue)
    copy_scaled(shipped_rules() / catalogue, made.rules, only)
    return made


def write_config(installation: Installation, addresses: Addresses) -> None:
    """Writes responder.yaml: the shipped example with the demo's addresses, credentials and consoles."""
    example = _example(installation)
    urls = {"risk-api": addresses.platform, "metrics": addresses.metrics, "cache": addresses.cache}
    services = {name: {**given, "url": urls[name]} for name, given in example["services"].items()}
    services["risk-api"]["bearer"] = {"file": "platform.token"}
    services["cache"]["password"] = {"file": "cache.token"}
    roles = example["auth"]["people"][PERSON]["roles"]
    people = {
        PERSON: {"token": {"file": "person.token"}, "roles": [*roles, "responder"]},
        ON_CALL: {"token": {"file": "on_call.token"}, "roles": ["operator"]},
        RISK_MANAGER: {"token": {"file": "risk_manager.token"}, "roles": ["operator", "risk-manager"]},
        QUANT: {"token": {"file": "quant.token"}, "roles": ["operator", "quant"]},
    }
    document = _document(example, installation, addresses.listen, addresses.alertmanager)
    _write(installation, {**document, "services": services, "parameters": example["parameters"]}, people)


def write_failover_config(
    installation: Installation, listen: str, metrics: str, alertmanager: str | None, sentinels: Sequence[str]
) -> None:
    """Writes responder.yaml for the story of the Redis master: the shipped example of nse-equities with its Sentinels
    (each `host:port`), and without the services that only other runbooks name."""
    example = _example(installation)
    given = example["services"]
    services = {
        "trading-redis": {
            **given["trading-redis"],
            "sentinels": list(sentinels),
            "password": {"file": "cache.token"},
            "sentinel_password": {"file": "cache.token"},
            # The Sentinels have only just begun, which they cannot tell from a failover that has just been.
            "apart": "1s",
            "timeout": "2s",
        },
        "metrics": {**given["metrics"], "url": metrics},
    }
    _leave_out_mails(installation.rules / "policies.yaml")
    people = {ON_CALL: {"token": {"file": "person.token"}, "roles": ["responder"]}}
    _write(installation, {**_document(example, installation, listen, alertmanager), "services": services}, people)


def _leave_out_mails(policies: Path) -> None:
    """Every chat is the same screen here, and what Slack and the mail both say would stand there twice."""
    document = yaml.safe_load(policies.read_text(encoding="utf-8"))
    for policy in document["policies"].values():
        policy["chat"] = [name for name in policy["chat"] if name != MAILS]
    policies.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def _example(installation: Installation) -> dict[str, Any]:
    path = shipped_rules() / installation.catalogue / "_responder.example.yaml"
    example: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return example


def _document(
    example: dict[str, Any], installation: Installation, listen: str, alertmanager: str | None
) -> dict[str, Any]:
    """What is the same in every story."""
    return {
        "name": "demo",
        "listen": listen,
        "store": f"sqlite:///{installation.folder / 'responder.db'}",
        "rules": [f"./rules/{installation.catalogue}"],
        "alertmanagers": [] if alertmanager is None else [{"url": alertmanager}],
        "notifiers": {name: {"kind": "console"} for name in example["notifiers"]},
    }


def _write(installation: Installation, document: dict[str, Any], people: dict[str, Any]) -> None:
    auth = {"webhook": [{"bearer": {"file": "webhook.token"}}], "people": people}
    text = yaml.safe_dump({**document, "auth": auth}, sort_keys=False)
    installation.config.write_text(text, encoding="utf-8")
