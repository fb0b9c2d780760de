"""`responder explain` as it is used: a command line in, text or JSON and an exit status out."""

import json
from pathlib import Path
from typing import Any

import pytest

from responder.cli import run
from responder.sources import shipped_rules

EXAMPLE = str(shipped_rules() / "edge-risk" / "_responder.example.yaml")
LABELS = ("severity=critical", "platform=edge-risk", "env=prod", "symbol=BTC-USD")


def labels(*words: str) -> dict[str, str]:
    return {"alertname": "VaRBreach", **dict(word.split("=") for word in words)}


def payload(*alerts: dict[str, Any]) -> str:
    return json.dumps({"version": "4", "alerts": list(alerts)})


def explain(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = run(["--config", EXAMPLE, "explain", *words])
    return status, capsys.readouterr().out


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[dict[str, Any]]]:
    status, out = explain(capsys, *words, "--json")
    found = json.loads(out)
    assert found.keys() == {"alerts"}
    return status, found["alerts"]


def test_an_alert_that_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    status, out = explain(capsys, "--alert", "VaRBreach", *LABELS)
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    words = " ".join(out.split())
    assert "VaRBreach (symbol BTC-USD): var-breach answers, and goes on as far as can be known here" in words
    assert "input symbol = BTC-USD (label symbol, currency_pair; for evidence)" in words
    assert "target risk-api/kelly_fraction" in words
    assert "pause unknown asked when it runs" in words
    assert "1. Cut the Kelly fraction to its emergency level: parameter.reduce" in words
    assert "unless fixed after 5m: halt-trading runs and cro is paged, announced 1m before" in words
    assert "L2 quant pages quant after 15m" in words
    assert "halt-trading - answers no alert: var-breach may start it" in words


def test_why_nothing_ran(capsys: pytest.CaptureFixture[str]) -> None:
    status, out = explain(capsys, "--alert", "VaRBreach", *LABELS[:2], "env=staging")
    words = " ".join(out.split())
    assert status == 1
    assert "VaRBreach: nothing runs, because no runbook matches this alert" in words
    assert 'var-breach - env="staging" does not match env="prod"' in words
    assert "told policy staging: console at once" in words


def test_a_probe_is_printed_as_it_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "halt.yaml").write_text(
        "runbook: halt\ntitle: Halt\nmatch: Odd\ntarget: api\nsteps:\n"
        "  - id: halt\n    action: http.request\n"
        "    with: {service: api, method: POST, path: /halt, expect_status: [200, 202], "
        "probe: {path: /state, expect: 'body == \"halted\"'}}\n"
    )
    config = tmp_path / "responder.yaml"
    config.write_text("rules: [./halt.yaml]\nservices: {api: {kind: http, url: 'http://127.0.0.1:1'}}\n")
    run(["explain", "--config", str(config), "--alert", "Odd"])
    words = " ".join(capsys.readouterr().out.split())
    assert 'expect_status=[200, 202] probe={path: /state, expect: body == "halted"}' in words


def test_the_shape_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    status, (alert,) = told(capsys, "--alert", "VaRBreach", *LABELS)
    assert status == 0
    assert (alert["alertname"], alert["runbook"], alert["target"]) == (
        "VaRBreach",
        "var-breach",
        "risk-api/kelly_fraction",
    )
    assert len(alert["fingerprint"]) == 16
    assert {tuple(verdict) for verdict in alert["verdicts"]} == {("gate", "answer", "reason")}
    assert {v["answer"] for v in alert["verdicts"]} == {"allow", "unknown"}
    assert alert["unless_fixed"][1] == {"after": 300.0, "page": ["cro"], "run": "halt-trading", "countdown": 60.0}
    assert alert["policy"]["levels"][0] == {"name": "L1 on-call", "after": 120.0, "page": ["trading-oncall"]}
    considered = [c["runbook"] for c in alert["considered"]]
    assert considered[0] == "var-breach"
    assert {"halt-trading", "restart-sequence"} <= set(considered)


def test_files_with_several_alerts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    firing = {"status": "firing", "labels": labels(*LABELS)}
    over = {"status": "resolved", "labels": {"alertname": "Other"}}
    file = tmp_path / "payload.json"
    file.write_text(payload(firing, over))
    status, alerts = told(capsys, str(file))
    assert (status, [(a["alertname"], a["status"]) for a in alerts]) == (
        0,
        [("VaRBreach", "firing"), ("Other", "resolved")],
    )
    status, out = explain(capsys, str(file))
    assert "Other: it is resolved, so it starts nothing" in out


def test_what_cannot_be_understood_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "odd.jsonl"
    file.write_text(payload({"status": "burning", "labels": {"alertname": "Odd"}}) + '\n{"version": "3"}\n')
    status, alerts = told(capsys, str(file))
    assert (status, [a["status"] for a in alerts]) == (1, ["unreadable", "unreadable"])
    assert "`status` must be" in alerts[0]["problems"][0]
    status, out = explain(capsys, str(file))
    assert (status, out.count("This cannot be understood, so it is kept and people are paged")) == (1, 2)


def test_the_time_decides_about_calendars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "calendars.yaml").write_text("calendars: {office: {days: mon-fri, timezone: UTC}}\n")
    (tmp_path / "look.yaml").write_text(
        "runbook: look\ntitle: Look\nmatch: Odd\ntarget: api\nmode: auto\ncalendar: office\nsteps:\n"
        "  - {id: ask, action: http.request, with: {service: api, path: /status}}\n"
    )
    config = tmp_path / "responder.yaml"
    config.write_text(
        "rules: [./calendars.yaml, ./look.yaml]\nservices: {api: {kind: http, url: 'http://127.0.0.1:1'}}\n"
    )
    asked = ["explain", "--config", str(config), "--alert", "Odd", "--at"]
    assert run([*asked, "2026-11-20T12:00:00Z"]) == 0
    assert run([*asked, "2026-11-21T12:00:00Z"]) == 1
    assert "look answers, but changes nothing: office is closed until" in " ".join(capsys.readouterr().out.split())


def test_runbooks_are_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules").mkdir()
    for number in range(20):
        text = f"runbook: r{number:02}\ntitle: T\nmatch: Alert{number}\ntarget: t{number}\n"
        (tmp_path / "rules" / f"r{number}.yaml").write_text(text)
    config = tmp_path / "responder.yaml"
    config.write_text("rules: [./rules]\n")
    assert run(["explain", "--config", str(config), "--alert", "Odd"]) == 1
    assert "  Considered, the nearest first:\n    20 runbooks answer other alerts\n" in capsys.readouterr().out
    assert run(["explain", "--config", str(config), "--alert", "Alert"]) == 1
    assert "    and 8 more; --json names them all" in capsys.readouterr().out, "names like this one are near misses"
    assert run(["explain", "--config", str(config), "--alert", "Odd", "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["alerts"][0]["considered"]) == 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name files with notifications, or an alert"),
        (("--alert", "Odd", "nothing"), "'nothing' is no label: write label=value"),
        (("--alert", "Odd", "--at", "noon"), "write RFC 3339"),
        (("none.json",), "cannot be read"),
    ],
)
def test_wrong_use(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--config", EXAMPLE, "explain", *words]) == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_control_characters_never_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _, out = explain(capsys, "--alert", "VaR\x1b[2JBreach", "env=pr\x07od\nGates:", "__=\x9b")
    assert all(character.isprintable() or character == "\n" for character in out)
    assert "\nGates:" not in out


def test_broken_rules_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text("runbook: a\n")
    config = tmp_path / "responder.yaml"
    config.write_text("rules: [./a.yaml]\n")
    assert run(["explain", "--config", str(config), "--alert", "Odd"]) == 1
    assert "the key 'title' is missing" in capsys.readouterr().err
