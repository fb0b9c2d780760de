"""`responder replay`: the story of an alert under each assumption, its JSON, its exit status."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from responder.cli import run
from responder.sources import shipped_rules
from tests.acceptance.replay_parts import EXAMPLE, flat, kinds, payload, replayed
from tests.builders import ALERT, a_runbook, call_step

# The ladder of a night is not the ladder of office hours: a story says when it begins.
OFFICE, NIGHT = ["--at", "2026-11-27T15:00:00Z"], ["--at", "2026-11-28T23:00:00Z"]
LABELS = [f"{name}={value}" for name, value in ALERT.items() if name != "alertname"]


def breach(capsys: pytest.CaptureFixture[str], assume: str, at: Sequence[str] = OFFICE) -> tuple[int, Any]:
    return replayed(capsys, *at, "--assume", assume, "--alert", "VaRBreach", *LABELS)


def test_fixed_it_ends_well_and_pages_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    status, told = breach(capsys, "fixed")
    (incident,) = told["incidents"]
    assert (status, told["good"], incident["result"], incident["status"]) == (0, True, "fixed", "closed")
    assert incident["pages"] == []
    (begun,) = (e for e in incident["events"] if e["kind"] == "attempt_intended")
    assert begun["parameters"] == {"parameter": "risk-api/kelly_fraction", "to": 0.1, "reason": "VaR breach"}
    assert begun["text"].startswith("Begins: ")
    assert begun["text"].endswith("risk-api/kelly_fraction 0.25 → 0.1")
    assert {"pause", "cooldown", "lock", "only_if", "budget"} <= {v["gate"] for v in begun["verdicts"]}
    assert told["parameters"] == {"risk-api/kelly_fraction": {"value": 0.25, "assumed": True}}


def test_the_alert_says_which_runbook_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    _, told = breach(capsys, "fixed")
    (alert,) = told["alerts"]
    assert (alert["runbook"], alert["target"]) == ("var-breach", "risk-api/kelly_fraction")
    assert 'alertname="VaRBreach"' in alert["matchers"]
    assert alert["inputs"] == {"symbol": "BTC-USD"}


@pytest.mark.parametrize(("at", "last"), [(OFFICE, 3600), (NIGHT, 2700)], ids=["office", "night"])
def test_unfixed_it_goes_all_the_way(capsys: pytest.CaptureFixture[str], at: Sequence[str], last: int) -> None:
    status, told = breach(capsys, "unfixed", at)
    pages = [(round(p["offset"]), p["destination"]) for p in told["incidents"][0]["pages"]]
    assert status == 1
    assert pages[:3] == [(120, "trading-oncall"), (120, "pm"), (300, "cro")]
    assert (last, "cto") in pages
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
    words = ["replay", "--config", EXAMPLE, *OFFICE, "--assume", "unfixed", "--alert", "VaRBreach", *LABELS]
    assert run(words) == 1
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("Simulated, nothing is touched")
    assert '"unfixed"' in " ".join(text.split())
    for said in (
        "  runbook  var-breach, because", "    +4:00  halt-trading runs by itself", "gates allow: pause",
        " +1:00:00  cto, cro:", "The end: ineffective", "Not good: var-breach ended ineffective.",
    ):  # fmt: skip
        assert said in text


def test_an_alert_without_a_runbook_is_bad(capsys: pytest.CaptureFixture[str]) -> None:
    status, told = replayed(capsys, "--alert", "Nothing", "severity=critical")
    assert (status, told["alerts"][0]["runbook"]) == (1, None)
    assert told["incidents"][0]["pages"] != []


def test_news_without_a_runbook_is_bad_and_wakes_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    status, told = replayed(capsys, "--alert", "Nothing", "severity=info")
    assert (status, told["incidents"][0]["pages"]) == (1, [])
    assert any("no runbook matches" in event["text"] for event in told["incidents"][0]["events"])


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


def test_parameters_are_rendered_and_judged_for_real(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "rules": ["./own.yaml"],
        "services": {
            "api": {"kind": "http", "url": "http://api"},
            "metrics": {"kind": "prometheus", "url": "http://p"},
        },
    }
    (tmp_path / "responder.yaml").write_text(json.dumps(settings))
    bad = call_step(path="/api/{{ symbol }}", service="api", expect='value.body.state == "ok"')
    inputs = {"symbol": {"label": "symbol", "pattern": ".*"}}
    book = a_runbook(inputs=inputs, target="api/{{ symbol }}", steps=[bad], escalation=None)
    (tmp_path / "own.yaml").write_text(json.dumps(book))
    monkeypatch.chdir(tmp_path)
    words = ["replay", "--json", "--alert", "TooMuchRisk", "severity=critical"]
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
        "rules": ["./own.yaml"],
        "services": {
            "risk-api": {"kind": "http", "url": "http://a"},
            "metrics": {"kind": "prometheus", "url": "http://p"},
        },
    }
    (tmp_path / "responder.yaml").write_text(json.dumps(settings))
    book = a_runbook(steps=[{"id": "look", "manual": "Look at the book"}, call_step()], escalation=None)
    (tmp_path / "own.yaml").write_text(json.dumps(book))
    monkeypatch.chdir(tmp_path)
    words = ["replay", "--json", "--alert", "TooMuchRisk", "severity=critical"]
    assert run(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert ("manual_asked" in kinds(told), "manual_done" in kinds(told)) == (True, True)
    assert [p for p in told["incidents"][0]["pages"] if p["offset"] > 1] == []
    for assume in ("unfixed", "missing", "failed", "unknown"):
        assert run([*words, "--assume", assume]) == 1
        assert {"manual_done", "attempt_intended"} <= set(kinds(json.loads(capsys.readouterr().out))), assume
    (tmp_path / "answers.yaml").write_text("people: [{at: 1m, ack: alice}]")
    assert run([*words, "--assume", "unfixed", "--answers", "answers.yaml"]) == 1
    assert "manual_done" not in kinds(json.loads(capsys.readouterr().out))
    run([*words[:1], *words[2:], "--answers", "answers.yaml", "--assume", "unfixed"])
    assert "checks never satisfy verify; people do what the file says" in flat(capsys.readouterr().out)


def test_a_short_horizon_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    status, told = replayed(capsys, "--for", "10s", "--alert", "VaRBreach", *LABELS)
    assert (status, told["quiet"], told["incidents"][0]["status"]) == (1, False, "verifying")


def test_a_directory_is_one_story_and_standard_input_is_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fires = {"status": "firing", "labels": dict(ALERT), "startsAt": "2026-11-20T17:00:00Z"}
    over = {**fires, "status": "resolved", "endsAt": "2026-11-20T17:00:10Z"}
    payload(tmp_path / "b.json", fires)
    payload(tmp_path / "a.json", over)
    status, told = replayed(capsys, str(tmp_path))
    assert (status, kinds(told).count("alert_resolved"), told["start"]) == (0, 1, "2026-11-20T17:00:00Z")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((tmp_path / "b.json").read_bytes())))
    assert replayed(capsys, "-")[1]["alerts"][0]["runbook"] == "var-breach"


def test_an_alert_may_have_annotations(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--annotation", "summary=VaR is high", "--alert", "VaRBreach", *LABELS]
    _, told = replayed(capsys, *words)
    assert told["good"] is True
    assert run(["replay", "--config", EXAMPLE, "--annotation", "summary", "--alert", "VaRBreach"]) == 2
    assert "'summary' is no annotation: write annotation=value" in flat(capsys.readouterr().err)


# --- other rules ------------------------------------------------------------------------------------------------------


def changed_rules(folder: Path, before: str, after: str) -> str:
    """The shipped catalogue with one text replaced."""
    for file in (shipped_rules() / "edge-risk").glob("*.yaml"):
        (folder / file.name).write_text(file.read_text().replace(before, after))
    return str(folder)


def test_what_other_rules_decide_differently_is_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other = changed_rules(tmp_path, "to: 0.1,", "to: 0.15,")
    words = ["replay", "--config", EXAMPLE, "--rules", other, "--alert", "VaRBreach", *LABELS]
    assert run(words) == 1
    said = flat(capsys.readouterr().out)
    assert "var-breach.cut_kelly: to 0.1 " in said
    assert "var-breach.cut_kelly: to 0.15" in said
    assert run([*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["same"] is False


def test_the_same_rules_decide_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other = changed_rules(tmp_path, "# Without", "# Even without")
    assert run(["replay", "--config", EXAMPLE, "--rules", other, "--alert", "VaRBreach", *LABELS]) == 0
    assert "1 the same" in capsys.readouterr().out


def test_answers_decide_between_two_thresholds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    other = changed_rules(tmp_path / "rules", "value > 1.8", "value > 2.2")
    (tmp_path / "answers.yaml").write_text("checks: {var: [2.0, 1.5]}")
    words = ["--rules", other, "--answers", str(tmp_path / "answers.yaml"), "--alert", "VaRBreach", *LABELS]
    assert run(["replay", "--config", EXAMPLE, *words]) == 1
    assert "only_if" in capsys.readouterr().out


def test_other_rules_that_cannot_be_loaded_are_told_with_their_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = changed_rules(tmp_path, "verify:", "verfy:")
    assert run(["replay", "--config", EXAMPLE, "--rules", other, "--alert", "VaRBreach", *LABELS]) == 2
    said = capsys.readouterr().err
    assert "did you mean 'verify'?" in said
    assert "^^^^^" in said


def test_a_folder_that_does_not_exist_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", "--config", EXAMPLE, "--rules", "./no-such-rules", "--alert", "VaRBreach", *LABELS]) == 2
    assert "no-such-rules" in capsys.readouterr().err


def test_configured_rules_that_are_broken_are_wrong_use(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("runbook: cut\ntitel: T\n")
    (tmp_path / "responder.yaml").write_text("rules: [./own.yaml]\n")
    assert run(["replay", "--config", str(tmp_path / "responder.yaml"), "--alert", "X"]) == 2
    assert "did you mean 'title'?" in capsys.readouterr().err
    (tmp_path / "responder.yaml").write_text("ruls: [./own.yaml]\n")
    assert run(["replay", "--config", str(tmp_path / "responder.yaml"), "--alert", "X"]) == 2
    assert "did you mean 'rules'?" in capsys.readouterr().err


# --- how it is told ---------------------------------------------------------------------------------------------------


def test_told_at_its_own_pace_it_is_the_same_story(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["replay", "--config", EXAMPLE, "--assume", "unfixed", "--alert", "VaRBreach", *LABELS]
    assert run(words) == 1
    at_once = capsys.readouterr().out.splitlines()
    assert run([*words, "--speed", "1000000000"]) == 1
    paced = capsys.readouterr().out.splitlines()
    begins = [line for line in at_once if line.startswith(" ")]
    assert [line for line in begins if line not in paced and "UTC" not in line] == []


def test_hostile_labels_stay_text(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = ["--alert", "X\x1b[2J", "severity=critical", "a=\u202egnp\nfake line", f"long={'x' * 10_000}"]
    run(["replay", "--config", EXAMPLE, *hostile])
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert not any(line.startswith("fake") for line in said.splitlines())
    assert max(map(len, said.splitlines())) <= 80
    assert len(said) < 20_000


def test_an_alert_that_is_told_often_is_shown_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fires = {"status": "firing", "labels": dict(ALERT), "startsAt": "2026-11-20T17:00:00Z"}
    over = {**fires, "status": "resolved", "endsAt": "2026-11-20T17:00:10Z"}
    files = [payload(tmp_path / f"{n}.json", one) for n, one in enumerate((fires, fires, over))]
    run(["replay", "--config", EXAMPLE, *files])
    assert capsys.readouterr().out.count("  runbook  var-breach") == 1


def test_two_incidents_are_told_in_the_order_of_time(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    first = {"status": "firing", "labels": dict(ALERT), "startsAt": "2026-11-20T17:00:00Z"}
    labels = {"alertname": "Else", "severity": "critical"}
    second = {"status": "firing", "labels": labels, "startsAt": "2026-11-20T17:00:20Z"}
    files = [payload(tmp_path / "1.json", first), payload(tmp_path / "2.json", second)]
    run(["replay", "--config", EXAMPLE, "--speed", "1e9", *files])
    story = capsys.readouterr().out.split("Pages")[0]
    times = [line.split()[0] for line in story.splitlines() if line.lstrip().startswith("+")]
    assert times == sorted(times, key=lambda t: [int(part) for part in ("0:" + t[1:]).split(":")[-3:]])
    assert story.count("Incident ") > 2


def test_the_page_is_one_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    status = run(["replay", "--config", EXAMPLE, "--html", str(page), "--alert", "VaRBreach", *LABELS])
    told = capsys.readouterr()
    assert (status, f"The story is in {page}." in told.err) == (0, True)
    assert "var-breach" in page.read_text(encoding="utf-8")
    assert run(["replay", "--config", EXAMPLE, "--html", str(tmp_path / "no" / "p"), "--alert", "VaRBreach"]) == 2


# --- wrong use --------------------------------------------------------------------------------------------------------

WRONG = {
    "": "name what is to be replayed",
    "missing.json": "missing.json: cannot be read",
    "--alert X nolabel": "'nolabel' is no label: write label=value",
    "--alert X --assume luck": "'luck' is none of fixed, unfixed, missing, failed, unknown",
    "--alert X --for soon": "not a duration",
    "--alert X --incident 4kd02": "an alert that is made up belongs to no incident: leave one of them out",
    "--alert X --since 2h": "an alert that is made up was never received",
    "--alert X --schedule y": "a schedule needs no alert: leave one of them out",
    "--schedule y --since 2h": "a schedule needs no alert: leave one of them out",
    "--schedule y x.json": "a schedule is rehearsed alone: leave the files and labels out",
    "--to http://h --schedule y": "a running responder has its own schedules",
    "--to http://h --at 2026-11-20T17:00:00Z --alert X": "a running responder has its own clock",
    "--at 2026-11-20T17:00:00Z --incident 4kd02": "what a server received has its own time: leave --at out",
    "--at noon --alert X": "'noon'",
    "--at 9999-12-31T23:59:59Z --alert X": "too far away: name a time from 1970 to 2999",
    "--annotation a=b x.json": "annotations belong to an alert that is made: add --alert NAME",
    "--as me --alert X": "only a replay on a running responder has a name: add --to URL",
    "--to http://h --answers a.yaml --alert X": "a running responder asks its own services",
    "--to http://h --assume fixed --alert X": "a running responder asks its own services",
    "--to http://h --rules edge-risk --alert X": "a running responder has its own rules",
    "--to http://h --for 2h --alert X": "a running responder has its own clock",
    "--to http://h --html p.html --alert X": "the page tells a simulation",
    "--rules edge-risk --speed 2 --alert X": "a comparison is told at once: leave --speed out",
    "--rules edge-risk --html p.html --alert X": "the page tells what one set of rules does",
    "--html p.html --speed 2 --alert X": "a page is written at once",
    "--speed 0 --alert X": "a speed is larger than 0: 60 tells an hour in a minute",
    "--speed 2 --json --alert X": "--json tells it at once: leave --speed out",
    "--incident 4kd02 x.json": "files are not read together with --incident or --since",
    "--answers missing.yaml --alert X": "missing.yaml: cannot be read",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_use_is_said_with_its_cure_and_status_2(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", *words.split()]) == 2
    assert WRONG[words] in flat(capsys.readouterr().err)


def test_a_runbook_that_asks_for_approval_is_told_to_its_end(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"rules": ["./own.yaml"], "services": {n: {"kind": "http", "url": f"http://{n}"} for n in ("risk-api",)}}
    (tmp_path / "responder.yaml").write_text(json.dumps(settings))
    step = call_step(approval="operator")
    (tmp_path / "own.yaml").write_text(json.dumps(a_runbook(steps=[step], checks={}, verify=None, escalation=None)))
    monkeypatch.chdir(tmp_path)
    assert run(["replay", "--json", "--alert", "TooMuchRisk", "severity=critical"]) == 1
    assert "approval_asked" in kinds(json.loads(capsys.readouterr().out))
