"""docs/slack.md is true: the manifests can be pasted, and every button is explained, with the role that is asked."""

import re
from typing import Any

import pytest
import yaml

from responder.commands import VERBS
from responder.security import NEEDED
from tests.documentation import blocks
from tests.provision import CHECKOUT

PAGE = (CHECKOUT / "docs" / "slack.md").read_text(encoding="utf-8")
YAML = [yaml.safe_load(block.text) for block in blocks(PAGE) if block.language == "yaml"]


@pytest.mark.parametrize(("number", "socket_mode"), [(0, True), (1, False)])
def test_a_manifest_has_what_the_app_needs(number: int, socket_mode: bool) -> None:
    manifest: dict[str, Any] = YAML[number]
    scopes = manifest["oauth_config"]["scopes"]["bot"]
    assert scopes[:2] == ["chat:write", "files:write"]
    assert scopes[2:] == ["channels:history", "groups:history", "channels:read", "groups:read"]
    assert manifest["settings"]["socket_mode_enabled"] is socket_mode
    assert manifest["settings"]["interactivity"]["is_enabled"] is True
    address = manifest["settings"]["interactivity"].get("request_url", "")
    assert address.endswith("/webhook/slack") is not socket_mode


def test_every_button_has_its_role() -> None:
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+`) \| ([^|]+) \|", PAGE, re.MULTILINE)
    told = {verb: role for verbs, role in rows for verb in re.findall(r"`(\w+)`", verbs)}
    # What is said on the command line alone has no button.
    assert set(told) == {*VERBS, "pause"} - {"note", "unlock", "restore"}
    for verb, role in told.items():
        needed = NEEDED.get(verb)
        assert role == ("the role that the step names" if needed is None else " or ".join(sorted(needed, reverse=True)))
