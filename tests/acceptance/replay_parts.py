"""The replay as the command line calls it, with the answer as a program reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from responder.cli import run
from responder.sources import shipped_rules

EXAMPLE = str(shipped_rules() / "edge-risk" / "_responder.example.yaml")


def replayed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    status = run(["replay", "--config", EXAMPLE, "--json", *words])
    return status, json.loads(capsys.readouterr().out)


def payload(path: Path, *alerts: dict[str, Any]) -> str:
    path.write_text(json.dumps({"version": "4", "alerts": list(alerts)}))
    return str(path)


def kinds(told: Any) -> list[str]:
    return [event["kind"] for event in told["incidents"][0]["events"]]


def flat(text: str) -> str:
    """Without the frame and the line breaks of the terminal."""
    return " ".join(text.replace("│", " ").split())
