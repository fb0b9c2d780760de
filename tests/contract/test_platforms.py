"""What the shipped catalogues say about the platforms: their example configurations, and the table of their alerts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from responder.sources import shipped_rules

PLATFORMS = ("edge-risk", "nse-equities", "multi-market", "trading-service")


def example(platform: str) -> Path:
    return shipped_rules() / platform / "_responder.example.yaml"


@pytest.mark.parametrize("platform", PLATFORMS)
def test_no_server_has_two_names(platform: str) -> None:
    """Two names for one server are two addresses to mend, and one of them is forgotten."""
    services = yaml.safe_load(example(platform).read_text())["services"].values()
    hosts = Counter(urlsplit(service["url"]).hostname for service in services if "url" in service)
    assert [host for host, count in hosts.items() if count > 1] == []
