"""What the shipped catalogues say about the platforms: their example configurations, and the table of their alerts."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from responder.app import CATALOGUE
from responder.config import load_config
from responder.loader import load_rules
from responder.rules import Rules
from responder.sources import Folders, read_sources, shipped_rules
from tests.provision import CHECKOUT

PLATFORMS = ("edge-risk", "nse-equities", "multi-market", "trading-service")


def example(platform: str) -> Path:
    return shipped_rules() / platform / "_responder.example.yaml"


@pytest.mark.parametrize("platform", PLATFORMS)
def test_no_server_has_two_names(platform: str) -> None:
    """Two names for one server are two addresses to mend, and one of them is forgotten."""
    services = yaml.safe_load(example(platform).read_text())["services"].values()
    hosts = Counter(urlsplit(service["url"]).hostname for service in services if "url" in service)
    assert [host for host, count in hosts.items() if count > 1] == []


# --- docs/platforms.md ------------------------------------------------------------------------------------------------

PAGE = CHECKOUT / "docs" / "platforms.md"
_link = re.compile(r"\]\(\.\./rules/([a-z-]+)/([a-z-]+)\.yaml\)")
NONE_YET = "none yet"


@cache
def section(platform: str) -> str:
    return next(text for text in PAGE.read_text().split("\n## ") if text.startswith(f"{platform}\n"))


def rows(platform: str) -> dict[str, str]:
    """The alerts of the platform's table, and what stands under `runbook`."""
    cells = [line.strip("|").split("|") for line in section(platform).splitlines() if line.startswith("|")]
    return {alert.strip(): runbook.strip() for alert, runbook, *_ in cells[2:]}


@cache
def shipped(platform: str) -> Rules:
    config = load_config(example(platform), CATALOGUE, {"HOME": "/var/ops"}, check_secrets=False)
    sources = read_sources(config.rules, Folders(shipped_rules(), config.folder))
    return load_rules(sources, CATALOGUE, config).rules


def test_every_platform_has_its_table() -> None:
    assert re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE) == list(PLATFORMS)
    assert sorted(path.parent.name for path in shipped_rules().glob("*/_defaults.yaml")) == sorted(PLATFORMS)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_shipped_runbook_is_in_the_table_and_every_named_one_exists(platform: str) -> None:
    named = _link.findall(section(platform))
    assert {where for where, _ in named} == {platform}
    assert {name for _, name in named} == set(shipped(platform).runbooks)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_alert_has_the_runbook_that_the_table_gives_it_or_none(platform: str) -> None:
    for alert, cell in rows(platform).items():
        labels = {"alertname": alert, "platform": platform, "env": "prod"}
        answering = [runbook.runbook for runbook in shipped(platform).matching(labels)]
        named = [name for _, name in _link.findall(cell)]
        assert answering == named[:1], alert
        assert (cell == NONE_YET) is (not named), alert


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_alert_that_we_ship_is_in_the_table(platform: str) -> None:
    text = (CHECKOUT / "alertmanager" / "rules" / f"{platform}.yml").read_text()
    raised = [rule["alert"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"] if "alert" in rule]
    assert set(raised) <= set(rows(platform))
