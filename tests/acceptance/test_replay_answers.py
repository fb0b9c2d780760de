"""`responder replay --answers`: what a file says is what the real engine decides on, at the virtual time it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from responder.cli import run
from responder.sources import shipped_rules
from tests.acceptance.stage import ALERT, SETTINGS
from tests.builders import a_policy, a_runbook, call_step, cut_step

PARAMETER = "risk-api/kelly_fraction"
PROBE = {"path": "/api/status", "expect": 'body.trading == "halted"'}


class Replayer:
    """Replays one alert before runbooks of a test's own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def rules(self, *runbooks: dict[str, Any]) -> None:
        """What is configured."""
        policies = {"policies": {"ladder": a_policy()}, "default": "ladder"}
        (self.folder / "responder.yaml").write_text(f"rules: [./rules]\n{SETTINGS}")
        rules = self.folder / "rules"
        rules.mkdir(exist_ok=True)
        (rules / "policies.yaml").write_text(json.dumps(policies))
        for number, runbook in enumerate(runbooks):
            (rules / f"{number}.yaml").write_text(json.dumps(runbook))

    def settings(self, before: str, after: str) -> None:
        """The same configuration with one text replaced."""
        file = self.folder / "responder.yaml"
        file.write_text(file.read_text().replace(before, after))

    def words(self, answers: dict[str, Any], *more: str) -> list[str]:
        """The command line."""
        (self.folder / "answers.yaml").write_text(yaml.safe_dump(answers))
        alert = ["--alert", "TooMuchRisk", "severity=critical"]
        return ["replay", "--config", "responder.yaml", "--answers", "answers.yaml", *more, *alert]

    def json(self, answers: dict[str, Any], *more: str) -> Any:
        """What came of it."""
        run(self.words(answers, "--json", *more))
        return json.loads(self._capsys.readouterr().out)

    def ran(self, *words: str) -> Any:
        """What came of another command line."""
        run([*words, "--config", "responder.yaml", "--json"])
        return json.loads(self._capsys.readouterr().out)

    def text(self, answers: dict[str, Any], *more: str) -> str:
        """The story, in one line."""
        run(self.words(answers, *more))
        return " ".join(self._capsys.readouterr().out.split())


@pytest.fixture
def replayer(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Replayer:
    monkeypatch.chdir(tmp_path)
    made = Replayer(tmp_path, capsys)
    made.rules(a_runbook())
    return made


def events(told: Any, *kinds: str) -> list[tuple[int, str]]:
    """Seconds and text of the events of these kinds."""
    return [(round(e["offset"]), e["text"]) for e in told["incidents"][0]["events"] if e["kind"] in kinds]


def result(told: Any) -> str:
    answer: str = told["incidents"][0]["result"]
    return answer


# --- checks -----------------------------------------------------------------------------------------------------------


def test_checks_answer_in_order_and_the_last_one_stays(replayer: Replayer) -> None:
    told = replayer.json({"checks": {"risk": [2.1, {"missing": "no data"}, {"value": 1.5, "times": 2}, 0.5]}})
    seen = [(at, text.split(";")[0]) for at, text in events(told, "gathered") if "risk " in text]
    assert seen == [
        (0, "Read: risk = 2.1"), (5, "Read: risk gave no value (no data)"), (10, "Read: risk = 1.5"),
        (20, "Read: risk = 0.5"),
    ]  # fmt: skip
    assert (result(told), told["good"]) == ("fixed", True)


def test_checks_answer_by_the_time(replayer: Replayer) -> None:
    told = replayer.json({"checks": {"risk": [2.1, {"after": "90s", "value": 0.5}]}})
    (ended,) = events(told, "run_ended")
    assert (ended[0], result(told)) == (90, "fixed")


def test_what_comes_much_later_is_waited_for(replayer: Replayer) -> None:
    risk = {"checks": {"risk": [0.5, {"after": "40m", "value": 2.1}]}}
    told = replayer.json(risk, "--assume", "unfixed")
    assert [at // 60 for at, _ in events(told, "relapsed")] == [40]


def test_an_old_sample_is_no_evidence(replayer: Replayer) -> None:
    told = replayer.json({"checks": {"risk": {"value": 0.5, "age": "5m"}}})
    assert result(told) == "unverified"


def test_a_check_that_is_too_slow_is_missing_as_it_would_be(replayer: Replayer) -> None:
    told = replayer.json({"checks": {"risk": [{"value": 0.5, "delay": "11s"}, {"value": 0.5, "delay": "2s"}]}})
    late, good = [event for event in events(told, "gathered") if "risk " in event[1]][:2]
    assert (late[0], "no end within the timeout" in late[1]) == (10, True)
    assert good[1].startswith("Read: risk = 0.5")
    assert result(told) == "fixed"


def test_a_name_of_one_runbook_comes_before_the_name_alone(replayer: Replayer) -> None:
    told = replayer.json({"checks": {"risk": 2.1, "cut.risk": 0.5}})
    assert result(told) == "fixed"
    assert [(one["name"], one["answer"]) for one in told["unasked"]] == [("risk", 1)]


# --- steps ------------------------------------------------------------------------------------------------------------


def test_a_temporary_failure_is_tried_again(replayer: Replayer) -> None:
    replayer.rules(a_runbook(steps=[cut_step(retry={"attempts": 3, "first": "4s"})]))
    told = replayer.json({"steps": {"cut": [{"temporary": "connection refused"}, {"ok": True, "delay": "3s"}]}})
    assert [at for at, _ in events(told, "attempt_intended")] == [0, 4]
    assert events(told, "step_ended")[0][0] == 7
    assert result(told) == "fixed"


def test_a_refusal_ends_the_run(replayer: Replayer) -> None:
    told = replayer.json({"steps": {"cut": {"refused": "422 bad value"}}})
    assert "422 bad value" in events(told, "attempt_ended")[0][1]
    assert (result(told), told["good"]) == ("failed", False)


def test_a_change_that_did_not_happen_does_not_help(replayer: Replayer) -> None:
    replayer.rules(a_runbook(steps=[cut_step(on_failure="continue")]))
    assert result(replayer.json({"steps": {"cut": {"refused": 422}}})) == "ineffective"


def test_the_output_that_the_file_gives_is_judged(replayer: Replayer) -> None:
    replayer.rules(a_runbook(steps=[call_step(expect="value.status == 201")]))
    assert result(replayer.json({"steps": {"call": "ok"}})) == "fixed"
    told = replayer.json({"steps": {"call": {"ok": {"status": 200}}}})
    assert (result(told), "status == 201" in events(told, "step_ended", "run_ended")[-1][1]) == ("failed", True)


@pytest.mark.parametrize(
    ("lost", "result_is", "sent", "value"),
    [
        ("applied", "fixed", 1, "0.1, as intended"),
        ("not_applied", "fixed", 2, "still 0.25"),
        ("unclear", "unknown", 1, ""),
    ],
)
def test_a_lost_change_of_a_parameter_is_looked_up(
    replayer: Replayer, lost: str, result_is: str, sent: int, value: str
) -> None:
    told = replayer.json({"parameters": {PARAMETER: 0.25}, "steps": {"cut": [{"lost": lost}, "ok"]}, "checks": {
        "risk": 2.1 if lost == "unclear" else 0.5}})  # fmt: skip
    assert len(events(told, "attempt_intended")) == sent
    assert value in " ".join(text for _, text in events(told, "probed"))
    assert result(told) == result_is


def test_a_lost_change_with_a_key_is_sent_again(replayer: Replayer) -> None:
    replayer.rules(a_runbook(steps=[call_step(service="keyed-api")]))
    told = replayer.json({"steps": {"call": [{"lost": "applied"}, "ok"]}})
    assert (len(events(told, "attempt_intended")), result(told)) == (2, "fixed")


@pytest.mark.parametrize(
    ("lost", "sent", "result_is"), [("applied", 1, "fixed"), ("not_applied", 2, "fixed"), ("unclear", 1, "unknown")]
)
def test_a_lost_change_with_a_probe_is_probed(replayer: Replayer, lost: str, sent: int, result_is: str) -> None:
    replayer.rules(a_runbook(steps=[call_step(more={"probe": PROBE})]))
    told = replayer.json({"steps": {"call": [{"lost": lost}, "ok"]}})
    assert (len(events(told, "attempt_intended")), result(told)) == (sent, result_is)
    assert events(told, "probed") != []


def test_a_lost_change_that_may_be_repeated_is_sent_again(replayer: Replayer) -> None:
    replayer.rules(a_runbook(steps=[call_step(more={"method": "PUT"})]))
    told = replayer.json({"steps": {"call": [{"lost": "not_applied"}, "ok"]}})
    assert (len(events(told, "attempt_intended")), result(told)) == (2, "fixed")


def test_a_lost_change_that_nothing_tells_about_stays_unknown(replayer: Replayer) -> None:
    replayer.rules(a_runbook(steps=[call_step()]))
    told = replayer.json({"steps": {"call": [{"lost": "applied"}, "ok"]}, "checks": {"risk": 2.1}})
    assert (len(events(told, "attempt_intended")), result(told)) == (1, "unknown")
    assert told["faults"] == ["cut left a change behind of which nobody knows whether it happened"]


def test_an_answer_after_the_timeout_is_a_lost_one(replayer: Replayer) -> None:
    told = replayer.json({"parameters": {PARAMETER: 0.25}, "steps": {"cut": {"ok": True, "delay": "11s"}}})
    (ended,) = events(told, "attempt_ended")
    assert (ended[0], "no end within the timeout" in ended[1]) == (10, True)
    assert "0.1, as intended" in events(told, "probed")[0][1]
    assert result(told) == "fixed"


def test_no_request_waits_longer_than_its_service_allows(replayer: Replayer) -> None:
    replayer.settings("risk-api: {kind: http,", "risk-api: {kind: http, timeout: 4s,")
    told = replayer.json({"steps": {"cut": {"ok": True, "delay": "5s"}}})
    assert [at for at, _ in events(told, "attempt_ended")] == [4]


def test_two_incidents_of_one_runbook_are_told_apart(replayer: Replayer, tmp_path: Path) -> None:
    inputs = {"symbol": {"label": "symbol", "type": "currency_pair"}}
    replayer.rules(a_runbook(inputs=inputs, target="book/{{ symbol }}", steps=[call_step()]))
    labels = {"alertname": "TooMuchRisk", "severity": "critical"}
    alerts = [{"status": "firing", "labels": {**labels, "symbol": s}} for s in ("BTC-USD", "ETH-USD")]
    (tmp_path / "two.json").write_text(json.dumps({"version": "4", "alerts": alerts}))
    (tmp_path / "answers.yaml").write_text("steps: {call: [{temporary: 429}, ok]}")
    told = replayer.ran("replay", "--answers", "answers.yaml", "two.json")
    assert [incident["result"] for incident in told["incidents"]] == ["failed", "failed"]
    told = replayer.ran("replay", "two.json")
    assert [incident["result"] for incident in told["incidents"]] == ["fixed", "fixed"]


def test_a_reading_is_asked_until_it_is_as_expected(replayer: Replayer) -> None:
    with_ = {"service": "risk-api", "path": "/api/ready"}
    ready = {"id": "ready", "action": "http.request", "with": with_, "expect": "value.ready == true"}
    replayer.rules(a_runbook(steps=[cut_step(), {**ready, "retry": {"attempts": 4, "first": "5s", "factor": 1}}]))
    told = replayer.json({"steps": {"ready": [{"ok": {"ready": False}, "times": 2}, "ok"]}})
    waited = [(at, text) for at, text in events(told, "attempt_ended") if "not yet" in text]
    assert [at for at, _ in waited] == [0, 5]
    assert "not yet, value.ready false" in waited[0][1]
    assert "tried 1 of 4, again at" in waited[0][1]
    assert result(told) == "fixed"
    told = replayer.json({"steps": {"ready": {"ok": {"ready": False}}}})
    assert result(told) == "failed"


# --- parameters -------------------------------------------------------------------------------------------------------


def test_a_change_starts_from_the_value_of_the_file(replayer: Replayer) -> None:
    told = replayer.json({"parameters": {PARAMETER: 0.2}})
    assert told["parameters"] == {PARAMETER: {"value": 0.2, "assumed": False}}
    assert events(told, "attempt_intended")[0][1].endswith("0.2 → 0.1")


def test_a_value_that_is_low_enough_is_left_alone(replayer: Replayer) -> None:
    told = replayer.json({"parameters": {PARAMETER: 0.08}, "checks": {"risk": 0.5}})
    assert events(told, "attempt_intended") == []
    assert "already 0.08" in events(told, "step_ended")[0][1]


def test_the_budget_of_the_day_refuses_a_cut_that_takes_too_much(replayer: Replayer) -> None:
    told = replayer.json({"parameters": {PARAMETER: 0.5}})
    (refused,) = events(told, "refused")
    assert "0.4" in refused[1]
    assert "0.3" in refused[1]
    assert events(told, "attempt_intended") == []


def test_a_person_puts_a_value_back(replayer: Replayer) -> None:
    replayer.rules(a_runbook(steps=[cut_step(restore={"approval": "risk-manager"})]))
    told = replayer.json({"parameters": {PARAMETER: 0.25}, "people": [{"at": "10m", "restore": "desk"}]})
    assert [text for _, text in events(told, "attempt_intended")] == [
        f"Begins: {PARAMETER} 0.25 → 0.1", f"Begins: {PARAMETER} 0.1 → 0.25",
    ]  # fmt: skip
    assert told["refused"] == []


def test_a_restore_that_is_refused_leaves_the_value(replayer: Replayer) -> None:
    replayer.rules(a_runbook(steps=[cut_step(restore={"approval": "risk-manager"})]))
    people = [{"at": "10m", "restore": "desk"}, {"at": "20m", "restore": "desk"}]
    told = replayer.json({"steps": {"cut": ["ok", {"refused": "403"}, "ok"]}, "people": people})
    tries = [text for _, text in events(told, "attempt_intended")]
    assert tries[1] == tries[2]


# --- people and services ----------------------------------------------------------------------------------------------


def test_people_say_what_the_file_says_and_when(replayer: Replayer) -> None:
    replayer.rules(a_runbook(steps=[{"id": "look", "manual": "Look at the book"}, call_step()]))
    told = replayer.json({"people": [{"at": "3m", "ack": "alice"}, {"at": "5m", "done": "carol"}]})
    assert events(told, "acknowledged")[0][0] == 180
    assert events(told, "manual_done")[0][0] == 300
    assert [e["actor"] for e in told["incidents"][0]["events"] if e["kind"] == "manual_done"] == ["carol"]


def test_a_pause_holds_everything_back(replayer: Replayer) -> None:
    people = [{"at": "0s", "pause": "alice", "note": "maintenance"}, {"at": "2m", "resume": "alice"}]
    told = replayer.json({"people": people})
    (begun,) = events(told, "attempt_intended")
    assert 120 <= begun[0] <= 126


def test_what_people_say_in_vain_is_told(replayer: Replayer) -> None:
    said = replayer.text({"people": [{"at": "3m", "done": "carol"}]})
    assert "carol's done at +3:00 (answers.yaml:2) was refused: incident" in said
    assert "waits for no manual step" in said


def test_a_service_that_is_down_answers_nothing(replayer: Replayer) -> None:
    told = replayer.json({"services": {"risk-api": {"down": "connection refused", "until": "1m"}}})
    assert "risk-api: connection refused" in events(told, "step_failed")[0][1]
    told = replayer.json({"services": {"metrics": {"down": "connection refused"}}})
    assert "metrics: connection refused" in " ".join(text for _, text in events(told, "gathered"))
    assert result(told) == "unverified"


# --- the story --------------------------------------------------------------------------------------------------------


def test_the_story_says_who_answered(replayer: Replayer) -> None:
    said = replayer.text({"checks": {"risk": [{"after": "0s", "value": 0.5}]}, "parameters": {PARAMETER: 0.25}})
    assert "answers.yaml says what services answer; where it says nothing, assumed" in said
    assert f"{PARAMETER} begins at 0.25 (by answers.yaml)." in said
    assert "accepted in 0s (assumed)" in said
    assert "as expected (answers.yaml:3)" in said


def test_each_attempt_has_its_own_place(replayer: Replayer) -> None:
    replayer.rules(a_runbook(steps=[call_step(service="keyed-api")]))
    told = replayer.json({"steps": {"call": [{"lost": "applied"}, "ok"]}})
    ends = [e for e in told["incidents"][0]["events"] if e["kind"] in ("attempt_ended", "step_ended")]
    assert [e["answered_by"] for e in ends] == [["answers.yaml:3"], ["answers.yaml:4"], ["answers.yaml:4"]]


def test_what_nobody_asked_for_is_told(replayer: Replayer) -> None:
    said = replayer.text({"steps": {"cut": ["ok", {"refused": "403"}, "ok"]}})
    assert "Never asked for: cut, answers 2, 3 (answers.yaml:4, answers.yaml:5)." in said


def test_a_mistake_in_the_file_is_wrong_use(replayer: Replayer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(replayer.words({"checks": {"rsk": 2}})) == 2
    assert "did you mean 'risk'?" in capsys.readouterr().err


# --- how it ends ------------------------------------------------------------------------------------------------------

UNDO = {"action": "http.request", "with": {"service": "risk-api", "method": "POST", "path": "/api/resume"}}
HARM = {"check": "risk", "expect": "value < 1", "within": "2m", "harmful": "value > before + 0.2"}
HARMED = {"checks": {"risk": [2.0, 3.0, 2.0]}}


def harmful(replayer: Replayer, **undo: Any) -> None:
    """Rules whose change may do harm; then it is undone."""
    checks = a_runbook()["checks"]
    only_if = {"check": "risk", "expect": "value > 1.5"}
    step = call_step(undo={**UNDO, **undo})
    replayer.rules(a_runbook(steps=[step], checks=checks, only_if=only_if, verify=HARM))


def test_harm_and_its_undo_are_told_apart(replayer: Replayer) -> None:
    harmful(replayer)
    said = replayer.text(HARMED)
    assert re.search(r"The end: harmful \([^)]*3[^)]*\); its change was put back; still open\.", said)
    assert replayer.json(HARMED)["incidents"][0]["result"] == "harmful"


def test_an_undo_that_failed_is_told_with_its_reason(replayer: Replayer) -> None:
    harmful(replayer)
    said = replayer.text({**HARMED, "steps": {"call": ["ok", {"refused": "422 not now"}]}})
    assert re.search(
        r"The end: harmful \([^)]*\); its change was NOT put back: [^;]*422 not now[^;]*; still open", said
    )
    said = replayer.text({**HARMED, "steps": {"call": ["ok", {"lost": "unclear"}]}})
    assert "; nobody knows whether its change was put back: " in said


def test_a_change_that_was_put_back_does_not_hide_why_it_was_fixed(replayer: Replayer) -> None:
    replayer.rules(a_runbook(steps=[cut_step(restore={"approval": "risk-manager"})]))
    answers = {"checks": {"risk": 0.5}, "people": [{"at": "20m", "restore": "bob"}]}
    said = replayer.text(answers)
    assert re.search(r"The end: fixed \([^)]*held[^)]*\); its change was put back; closed", said)


def test_the_page_never_says_that_an_undo_fixed_it(replayer: Replayer) -> None:
    harmful(replayer)
    replayer.text(HARMED, "--html", "page.html")
    page = " ".join((replayer.folder / "page.html").read_text().split())
    assert "undo of cut" in page
    assert '<b class="tag">Put back</b> The change is put back' in page
    assert '<span class="name">put back</span>' in page
    assert 'class="name">fixed<' not in page
    assert "its change was put back; still open" in page
    assert '<b class="tag">Check</b> Next:' not in page
    assert '<b class="tag">Plan</b> Next: POST /api/resume on risk-api' in page


def test_an_undo_is_no_fix_in_a_comparison(replayer: Replayer) -> None:
    harmful(replayer)
    other = replayer.folder / "other"
    other.mkdir()
    (other / "policies.yaml").write_text((replayer.folder / "rules" / "policies.yaml").read_text())
    book = json.loads((replayer.folder / "rules" / "0.yaml").read_text())
    (other / "0.yaml").write_text(json.dumps({**book, "steps": [call_step()]}))
    said = replayer.text(HARMED, "--rules", "other")
    assert "undoes what did harm: cut" in said
    assert "cut ends: put back" in said


def test_what_a_person_took_over_is_neither_good_nor_bad(replayer: Replayer) -> None:
    replayer.rules(a_runbook(steps=[{"id": "look", "manual": "Look at the book"}, cut_step()]))
    answers = {"people": [{"at": "1m", "takeover": "asha"}]}
    assert "The end: stopped: taken over by asha; still acknowledged." in replayer.text(answers, "--html", "page.html")
    page = " ".join((replayer.folder / "page.html").read_text().split())
    assert '<span class="badge note">' in page
    assert "<b>stopped</b>: taken over by asha; still acknowledged" in page
    assert '<b class="tag">Stopped</b>' in page
    assert '<span class="name">stopped</span>' in page
    assert replayer.json(answers)["incidents"][0]["result"] == "cancelled"


def test_the_example_of_the_guide_is_right(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    guide = shipped_rules().parent / "docs" / "replay.md"
    (example,) = re.findall(r"```yaml\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "answers.yaml").write_text(example)
    example_config = str(shipped_rules() / "edge-risk" / "_responder.example.yaml")
    labels = [f"{name}={value}" for name, value in ALERT.items() if name != "alertname"]
    words = ["--answers", str(tmp_path / "answers.yaml"), "--json", "--alert", "VaRBreach", *labels]
    assert run(["replay", "--config", example_config, *words]) in (0, 1)
    told = json.loads(capsys.readouterr().out)
    assert told["incidents"][0]["runbook"] == "var-breach"
