"""`responder replay`: the story of an alert under each assumption, its JSON, its exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from responder.cli import run
from responder.sources import shipped_rules
from tests.builders import ALERT, a_runbook, call_step

EXAMPLE = str(shipped_rules() / "edge-risk" / "_responder.example.yaml")
LABELS = [f"{name}={value}" for name, value in ALERT.items() if name != "alertname"]


def replayed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    status = run(["replay", "--config", EXAMPLE, "--json", *words])
    return status, json.loads(capsys.readouterr().out)


def breach(capsys: pytest.CaptureFixture[str], assume: str) -> tuple[int, Any]:
    return replayed(capsys, "--assume", assume, "--alert", "VaRBreach", *LABELS)


def payload(path: Path, *alerts: dict[str, Any]) -> str:
    path.write_text(json.dumps({"version": "4", "alerts": list(alerts)}))
    return str(path)


def kinds(told: Any) -> list[str]:
    return [event["kind"] for event in told["incidents"][0]["events"]]


def test_fixed_it_ends_well_and_pages_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    status, told = breach(capsys, "fixed")
    (incident,) = told["incidents"]
    assert (status, told["good"], incident["result"], incident["status"]) == (0, True, "fixed", "closed")
    assert incident["pages"] == []
    (begun,) = (e for e in incident["events"] if e["kind"] == "attempt_intended")
    assert begun["parameters"] == {"parameter": "risk-api/kelly_fraction", "to": 0.1, "reason": "VaR breach"}
    assert [v["gate"] for v in begun["verdicts"]] == [
        "pause", "cooldown", "runs", "ineffective", "lock", "only_if", "budget",
    ]  # fmt: skip


def test_the_alert_says_which_runbook_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    _, told = breach(capsys, "fixed")
    (alert,) = told["alerts"]
    assert (alert["runbook"], alert["target"]) == ("var-breach", "risk-api/kelly_fraction")
    assert 'alertname="VaRBreach"' in alert["matchers"]
    assert alert["inputs"] == {"symbol": "BTC-USD"}


def test_unfixed_it_goes_all_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    status, told = breach(capsys, "unfixed")
    pages = [(round(p["offset"]), p["destination"]) for p in told["incidents"][0]["pages"]]
    assert status == 1
    assert pages[:3] == [(120, "trading-oncall"), (120, "pm"), (300, "cro")]
    assert (3600, "cto") in pages
    assert [e["text"] for e in told["incidents"][0]["events"] if e["kind"] == "run_started"][1].startswith(
        "Runbook halt-trading"
    )


@pytest.mark.parametrize(
    ("assume", "result", "halts"),
    [("missing", "unverified", False), ("failed", "failed", True), ("unknown", "unknown", True)],
)
def test_what_goes_wrong_ends_badly(capsys: pytest.CaptureFixture[str], assume: str, result: str, halts: bool) -> None:
    status, told = breach(capsys, assume)
    assert (status, told["incidents"][0]["result"]) == (1, result)
    assert (kinds(told).count("run_started") == 2) is halts


def test_for_people_it_is_a_story_of_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", "--config", EXAMPLE, "--assume", "unfixed", "--alert", "VaRBreach", *LABELS]) == 1
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("Simulated, nothing is touched")
    assert '"unfixed"' in " ".join(text.split())
    for said in ("  runbook  var-breach, because", "    +4:00  halt-trading runs by itself", "gate only_if allows",
                 "  +1:00:00  cto:", "The end: ineffective"):  # fmt: skip
        assert said in text


def test_an_alert_without_a_runbook_is_bad(capsys: pytest.CaptureFixture[str]) -> None:
    status, told = replayed(capsys, "--alert", "Nothing", "severity=info")
    assert (status, told["alerts"][0]["runbook"]) == (1, None)
    assert told["incidents"][0]["pages"] != []


def test_payload_files_are_taken_in_when_they_happened(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fires = {"status": "firing", "labels": dict(ALERT), "startsAt": "2026-11-20T17:00:00Z"}
    over = {**fires, "status": "resolved", "endsAt": "2026-11-20T17:00:10Z"}
    late = payload(tmp_path / "1.json", over)
    status, told = replayed(capsys, late, payload(tmp_path / "2.json", fires))
    resolved = next(e for e in told["incidents"][0]["events"] if e["kind"] == "alert_resolved")
    assert (round(resolved["offset"]), status) == (10, 0)


def test_a_file_that_nobody_understands_is_told_as_it_would_be(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "bad.json").write_text("{}")
    status, told = replayed(capsys, str(tmp_path / "bad.json"))
    assert (status, told["incidents"][0]["target"]) == (1, "responder:unreadable")


def test_nothing_that_fires_shows_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    over = {"status": "resolved", "labels": dict(ALERT), "endsAt": "2026-11-20T17:00:10Z"}
    status, told = replayed(capsys, payload(tmp_path / "1.json", over))
    assert (status, told["incidents"]) == (1, [])


def test_rules_of_ones_own_are_tried_before_they_are_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "services": {"api": {"kind": "http", "url": "http://api"}, "metrics": {"kind": "prometheus", "url": "http://p"}}
    }
    (tmp_path / "responder.yaml").write_text(json.dumps(settings))
    bad = call_step(path="/api/{{ symbol }}", service="api", expect='value.body.state == "ok"')
    inputs = {"symbol": {"label": "symbol", "pattern": ".*"}}
    book = a_runbook(inputs=inputs, target="api/{{ symbol }}", steps=[bad], escalation=None)
    (tmp_path / "own.yaml").write_text(json.dumps(book))
    monkeypatch.chdir(tmp_path)
    words = ["replay", "--json", "--rules", "own.yaml", "--alert", "TooMuchRisk", "severity=critical"]
    assert run([*words, "symbol=BTC"]) == 0
    assert json.loads(capsys.readouterr().out)["incidents"][0]["result"] == "fixed"
    assert run([*words, "symbol=.."]) == 1
    told = json.loads(capsys.readouterr().out)
    failed = next(e for e in told["incidents"][0]["events"] if e["kind"] == "step_failed")
    assert "climbs" in failed["text"]


def test_steps_of_people_are_shown_and_assumed_done(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "services": {
            "risk-api": {"kind": "http", "url": "http://a"},
            "metrics": {"kind": "prometheus", "url": "http://p"},
        }
    }
    (tmp_path / "responder.yaml").write_text(json.dumps(settings))
    book = a_runbook(steps=[{"id": "look", "manual": "Look at the book"}, call_step()], escalation=None)
    (tmp_path / "own.yaml").write_text(json.dumps(book))
    monkeypatch.chdir(tmp_path)
    words = ["replay", "--json", "--rules", "own.yaml", "--alert", "TooMuchRisk", "severity=critical"]
    assert run(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert ("manual_asked" in kinds(told), "manual_done" in kinds(told)) == (True, True)
    assert [p for p in told["incidents"][0]["pages"] if p["offset"] > 1] == []
    assert run([*words, "--assume", "unfixed"]) == 1
    assert "manual_done" not in kinds(json.loads(capsys.readouterr().out))


def test_a_short_horizon_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    status, told = replayed(capsys, "--for", "10s", "--alert", "VaRBreach", *LABELS)
    assert (status, told["quiet"], told["incidents"][0]["status"]) == (1, False, "verifying")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["missing.json"],
        ["--alert", "X", "nolabel"],
        ["--assume", "luck", "--alert", "X"],
        ["--for", "soon", "--alert", "X"],
    ],
)
def test_wrong_use_is_said_with_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", *words]) == 2
    assert "Error" in capsys.readouterr().err
