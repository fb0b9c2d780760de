"""`responder replay` with a running server: what it received is simulated, or driven into a replay of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from responder.cli import driving
from responder.sources import shipped_rules
from tests.contract.cli_parts import Desk, served

EXAMPLE = str(shipped_rules() / "edge-risk" / "_responder.example.yaml")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("RESPONDER_TOKEN", "otto-token")
    monkeypatch.setattr(driving, "QUIET", 0.0)


async def test_a_running_server_answers_apart_from_real_alerts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, capsys) as desk:
        words = ["replay", "--to", desk.url, "--as", "try", "--alert", "VaRBreach", "severity=critical", "symbol=X-Y"]
        ran = await desk.anyhow(*words)
        told = (await desk.anyhow(*words, "--json")).json
        listed = (await desk.run("incidents", "--json")).json
    assert f"Replay try on {desk.url}:" in ran.words
    assert (told["simulated"], told["replay"]) == (False, "try")
    assert [one["namespace"] for one in told["incidents"]] == ["replay/try"]
    assert listed["incidents"] == []


async def test_what_an_incident_received_is_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path, capsys) as desk:
        monkeypatch.setenv("RESPONDER_URL", desk.url)
        incident = await desk.opened()
        ran = await simulated(desk, "--incident", incident)
        lately = await simulated(desk, "--since", "1h")
        nothing = await desk.anyhow("replay", "--config", EXAMPLE, "--since", "2099-01-01T00:00:00Z")
    assert [one["alertname"] for one in ran["alerts"]] == ["VaRBreach"]
    assert lately["alerts"] == ran["alerts"]
    assert nothing.status == 2
    assert "the server has received nothing of the kind" in nothing.err.replace("│", " ")


async def simulated(desk: Desk, *words: str) -> dict[str, list[dict[str, str]]]:
    ran = await desk.anyhow("replay", "--config", EXAMPLE, "--json", *words)
    answer: dict[str, list[dict[str, str]]] = json.loads(ran.out)
    return answer
