"""The demo's own responder.yaml, rules and tokens, in a folder that is thrown away.

It begins with the example that ships beside the runbooks, so that what the demo shows is what a reader of that example
gets: only addresses, credentials and notifiers are replaced. Every pager and channel becomes the console.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from responder.demo.imagined import ON_CALL, QUANT, RISK_MANAGER
from responder.demo.scaled_rules import copy_scaled
from responder.sources import shipped_rules

CATALOGUE = "edge-risk"
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

    @property
    def config(self) -> Path:
        """Its responder.yaml."""
        return self.folder / "responder.yaml"

    @property
    def rules(self) -> Path:
        """Its copy of the rules."""
        return self.folder / "rules" / CATALOGUE

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


def installed(folder: Path) -> Installation:
    """Writes the tokens and the scaled rules below `folder`, which exists."""
    tokens = Tokens(*(secrets.token_urlsafe(24) for _ in fields(Tokens)))
    for whose in ("platform", "webhook", "person", "cache", "on_call", "risk_manager", "quant"):
        path = folder / f"{whose}.token"
        path.touch(mode=0o600)
        path.write_text(f"{getattr(tokens, whose)}\n")
    made = Installation(folder, tokens)
    copy_scaled(shipped_rules() / CATALOGUE, made.rules)
    return made


def write_config(installation: Installation, addresses: Addresses) -> None:
    """Writes responder.yaml: the shipped example with the demo's addresses, credentials and consoles."""
    example = yaml.safe_load((shipped_rules() / CATALOGUE / "_responder.example.yaml").read_text(encoding="utf-8"))
    installation.config.write_text(
        yaml.safe_dump(_configured(example, installation, addresses), sort_keys=False), encoding="utf-8"
    )


def _configured(example: dict[str, Any], installation: Installation, addresses: Addresses) -> dict[str, Any]:
    urls = {"risk-api": addresses.platform, "metrics": addresses.metrics, "cache": addresses.cache}
    services = {name: {**given, "url": urls[name]} for name, given in example["services"].items()}
    services["risk-api"]["bearer"] = {"file": "platform.token"}
    services["cache"]["password"] = {"file": "cache.token"}
    peers = [] if addresses.alertmanager is None else [{"url": addresses.alertmanager}]
    roles = example["auth"]["people"][PERSON]["roles"]
    return {
        "name": "demo",
        "listen": addresses.listen,
        "store": f"sqlite:///{installation.folder / 'responder.db'}",
        "rules": [f"./rules/{CATALOGUE}"],
        "alertmanagers": peers,
        "services": services,
        "parameters": example["parameters"],
        "notifiers": {name: {"kind": "console"} for name in example["notifiers"]},
        "auth": {
            "webhook": [{"bearer": {"file": "webhook.token"}}],
            "people": {
                PERSON: {"token": {"file": "person.token"}, "roles": [*roles, "responder"]},
                ON_CALL: {"token": {"file": "on_call.token"}, "roles": ["operator"]},
                RISK_MANAGER: {"token": {"file": "risk_manager.token"}, "roles": ["operator", "risk-manager"]},
                QUANT: {"token": {"file": "quant.token"}, "roles": ["operator", "quant"]},
            },
        },
    }
