"""`responder replay --at` and `--schedule`: when a story begins, and what the clock starts; what people do by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from responder.cli import run
from tests.acceptance.replay_parts import EXAMPLE, flat, kinds, payload, replayed
from tests.builders import ALERT, a_runbook, call_step

# --- when it begins ---------------------------------------------------------------------------------------------------


def own_rules(folder: Path, *books: dict[str, Any], calendars: dict[str, Any] | None = None) -> list[str]:
    """A configuration with these runbooks; the command line that replays them."""
    service = {"kind": "http", "url": "http://a"}
    metrics = {"kind": "prometheus", "url": "http://p"}
    settings = {"rules": ["./rules"], "services": {"risk-api": service, "metrics": metrics}}
    (folder / "responder.yaml").write_text(json.dumps(settings))
    (folder / "rules").mkdir(exist_ok=True)
    for book in books:
        (folder / "rules" / f"{book['runbook']}.yaml").write_text(json.dumps(book))
    if calendars is not None:
        (folder / "rules" / "calendars.yaml").write_text(json.dumps({"calendars": calendars}))
    return ["replay", "--json", "--config", str(folder / "responder.yaml")]


DAYS = {"day": {"timezone": "UTC", "days": "mon-fri", "from": "08:00", "to": "18:00"}}


@pytest.mark.parametrize(("at", "acts"), [("2026-11-20T12:00:00Z", True), ("2026-11-20T23:00:00+01:00", False)])
def test_hours_can_be_tried_at_any_hour(
    at: str, acts: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    book = a_runbook(steps=[call_step()], escalation=None, calendar={"within": ["day"]})
    words = own_rules(tmp_path, book, calendars=DAYS)
    run([*words, "--at", at, "--alert", "TooMuchRisk", "severity=critical"])
    told = json.loads(capsys.readouterr().out)
    assert ("attempt_intended" in kinds(told)) is acts
    assert told["start"] == ("2026-11-20T12:00:00Z" if acts else "2026-11-20T22:00:00Z")


def test_a_body_without_times_comes_in_at_the_time_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    timeless = payload(tmp_path / "1.json", {"status": "firing", "labels": dict(ALERT)})
    _, told = replayed(capsys, "--at", "2026-11-20T03:00:00Z", timeless)
    assert told["start"] == "2026-11-20T03:00:00Z"
    timed = payload(
        tmp_path / "2.json", {"status": "firing", "labels": dict(ALERT), "startsAt": "2026-11-20T02:59:00Z"}
    )
    _, told = replayed(capsys, "--at", "2026-11-20T03:00:00Z", timeless, timed)
    assert told["start"] == "2026-11-20T02:59:00Z"
    assert run(["replay", "--config", EXAMPLE, "--at", "2026-11-20T03:00:00Z", timed]) == 2
    assert "every notification says itself when it happened: leave --at out" in flat(capsys.readouterr().err)


# --- schedules --------------------------------------------------------------------------------------------------------


def by_clock(**parts: Any) -> dict[str, Any]:
    reading = {"id": "feeds", "action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}}
    schedule = {"cron": "45 8 * * mon-fri", "timezone": "Asia/Kolkata"}
    wanted = {"schedule": schedule, "steps": [{**reading, "expect": "value < 3"}], **parts}
    return a_runbook(runbook="before-open", match=None, target="before-open", checks=None, verify=None,
                     escalation=None, **wanted)  # fmt: skip


def test_a_schedule_comes_due(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other = by_clock() | {"runbook": "other", "target": "other"}
    words = own_rules(tmp_path, by_clock(), other)
    words += ["--schedule", "before-open", "--at", "2026-11-21T00:00:00Z"]
    assert run(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["start"], told["schedule"]["due"]) == ("2026-11-23T03:14:59Z", "2026-11-23T03:15:00Z")
    (incident,) = told["incidents"]
    begun = next(e for e in incident["events"] if e["kind"] == "run_started")
    assert (incident["runbook"], incident["result"], round(begun["offset"])) == ("before-open", "observed", 1)
    (tmp_path / "answers.yaml").write_text("steps: {feeds: {ok: 5}}")
    page = str(tmp_path / "page.html")
    words = [word for word in words if word != "--json"]
    assert run([*words, "--answers", str(tmp_path / "answers.yaml"), "--html", page]) == 1
    said = flat(capsys.readouterr().out)
    assert "The schedule of before-open comes due at 2026-11-23 03:15:00 UTC (+0:01): at 08:45" in said
    assert "The end: failed" in said
    assert "Replay of the schedule of before-open" in Path(page).read_text()


def test_a_schedule_due_at_the_very_time_is_the_next_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = own_rules(tmp_path, by_clock())
    assert run([*words, "--schedule", "before-open", "--at", "2026-11-23T08:45:00+05:30"]) == 0
    assert json.loads(capsys.readouterr().out)["schedule"]["due"] == "2026-11-23T03:15:00Z"


def test_a_schedule_that_passes_over_a_closed_day_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = own_rules(tmp_path, by_clock(calendar={"within": ["day"]}), calendars=DAYS)
    assert run([*words, "--schedule", "before-open", "--at", "2026-11-21T00:00:00Z"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["incidents"], "outside its hours (`calendar`)" in told["faults"][0]) == ([], True)


def test_two_sets_of_rules_rehearse_a_schedule(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = own_rules(tmp_path, by_clock())
    (tmp_path / "later").mkdir()
    later = by_clock(schedule={"cron": "50 8 * * *", "timezone": "Asia/Kolkata"})
    (tmp_path / "later" / "before-open.yaml").write_text(json.dumps(later))
    words += ["--schedule", "before-open", "--at", "2026-11-23T00:00:00Z", "--rules"]
    assert run([*words, str(tmp_path / "rules")]) == 0
    capsys.readouterr()
    assert run([*words, str(tmp_path / "later")]) == 1
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    begins = next(d for d in group["differences"] if d["kind"] == "run")
    assert [round(begins[side]["offset"]) for side in ("configured", "other")] == [1, 301]
    assert run([*words, str(tmp_path / "rules"), "--config", later_config(tmp_path)]) == 1
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    begins = next(d for d in group["differences"] if d["kind"] == "run")
    assert [round(begins[side]["offset"]) for side in ("configured", "other")] == [301, 1]


def later_config(folder: Path) -> str:
    """The same configuration with the later rules."""
    config = folder / "later.yaml"
    config.write_text((folder / "responder.yaml").read_text().replace("./rules", "./later"))
    return str(config)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("before-opn", "no runbook is called 'before-opn': did you mean 'before-open'?"),
        ("cut", "runbook cut has no schedule: rehearse it with an alert, --alert NAME label=value…"),
    ],
)
def test_what_has_no_schedule_is_said_with_the_cure(
    name: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = own_rules(tmp_path, by_clock(), a_runbook(steps=[call_step()], escalation=None))
    assert run([*words, "--schedule", name]) == 2
    assert said in flat(capsys.readouterr().err)


# --- people -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("people", ["", "people: [{at: 30s, done: carol}]"])
def test_what_people_do_helps_where_nothing_else_is_to_be_done(
    people: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "answers.yaml").write_text(people)
    words = own_rules(tmp_path, a_runbook(steps=[{"id": "look", "manual": "Look at the book"}], escalation=None))
    words += ["--answers", str(tmp_path / "answers.yaml")] if people else []
    words += ["--alert", "TooMuchRisk", "severity=critical"]
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out)["incidents"][0]["result"] == "fixed"
    assert run([*words, "--assume", "unfixed"]) == 1
    assert json.loads(capsys.readouterr().out)["incidents"][0]["result"] == "ineffective"


def test_what_people_do_first_leaves_the_change_its_reason(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    steps = [{"id": "look", "manual": "Look at the book"}, call_step()]
    book = a_runbook(steps=steps, only_if={"check": "risk", "expect": "value > 2"}, escalation=None)
    assert run([*own_rules(tmp_path, book), "--alert", "TooMuchRisk", "severity=critical"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert ("attempt_intended" in kinds(told), told["incidents"][0]["result"]) == (True, "fixed")
