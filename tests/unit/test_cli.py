"""The command line without a server: which commands there are, what is imported for them, how answers look."""

import inspect
import json
import subprocess
import sys
from typing import Any

import pytest

from responder.cli import COMMANDS, run
from responder.cli.incident import to_do
from responder.cli.incident import told as incident_told
from responder.cli.output import ago, clock, count, counted_down, now_of, paper, plain
from responder.cli.status import told as status_told
from responder.timing import DAY, MINUTE, SECOND, parse_time

NOW = parse_time("2026-11-20T17:04:47Z")
HEAVY = {"httpx", "pydantic", "rich", "sqlalchemy", "starlette", "uvicorn", "yaml"}


def alert(**changes: Any) -> dict[str, Any]:
    labels = {"alertname": "VaRBreach", "severity": "critical", "symbol": "BTC-USD"}
    return {"firing": True, "labels": labels, **changes}


def attempt(**changes: Any) -> dict[str, Any]:
    return {"id": "a1", "preview": "kelly_fraction 0.25 → 0.1", "detail": "", "outcome": "ok", **changes}


def step(*attempts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"id": "cut_kelly", "status": "done", "why": "", "attempts": list(attempts), **changes}


def a_run(*steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "number": 1,
        "runbook": "var-breach",
        "target": "risk-api/kelly_fraction",
        "cause": "unless_fixed",
        "phase": "acting",
        "result": None,
        "why": "",
        "ended_at": None,
        "steps": list(steps),
        "checks": [],
        "evidence": None,
        **changes,
    }


def event(kind: str = "opened", text: str = "It began", actor: str = "responder", **fact: Any) -> dict[str, Any]:
    return {"at": "2026-11-20T17:02:42Z", "kind": kind, "text": text, "actor": actor, "fact": {"run": 1, **fact}}


def incident(**changes: Any) -> dict[str, Any]:
    """As `GET /api/v1/incidents/{id}` answers; the contract test holds it to the real one."""
    return {
        "id": "3f2a9c1d77aa",
        "runbook": "var-breach",
        "target": "risk-api/kelly_fraction",
        "status": "acting",
        "result": None,
        "namespace": "live",
        "title": "VaR above 90 % of its limit",
        "severity": "critical",
        "mode": "auto",
        "opened_at": "2026-11-20T17:02:42Z",
        "closed_at": None,
        "firing": 1,
        "acknowledged_by": None,
        "taken_over_by": None,
        "snoozed_by": None,
        "impact": "No new positions above 2.5 %",
        "waits_for": "step cut_kelly, until 2026-11-20T17:05:00Z",
        "urgent": None,
        "problems": [],
        "closed_why": "",
        "links": {},
        "acknowledged": None,
        "taken_over": None,
        "snoozed": None,
        "approval": None,
        "storm": None,
        "unsettled": [],
        "alerts": [alert()],
        "runs": [],
        "agenda": [],
        "events": [event()],
        **changes,
    }


def printed(capsys: pytest.CaptureFixture[str], view: dict[str, Any]) -> str:
    out = paper()
    for part in incident_told(view, NOW):
        out.print(part)
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


# --- the table of commands --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: responder {name} ")
    assert "AssertionError" not in out
    assert "Stands for a command" not in out


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"serve", "demo"}))
def test_every_command_that_prints_a_result_has_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run([name, "--help"])
    assert "--json" in capsys.readouterr().out


def test_the_list_of_commands_is_complete_and_short(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert max(map(len, out.splitlines())) <= 80


def test_help_imports_nothing_that_it_does_not_need() -> None:
    script = "import sys; from responder.cli import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()
    assert {name for name in loaded if name.startswith("responder.")} == {
        "responder.cli",
        "responder.cli.options",
        "responder.errors",
    }


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("responder 0.")


# --- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["incidnts"], "Did you mean 'incidents'"),
        (["incidents", "--jsn"], "--json"),
        (["--config", "nowhere.yaml", "lint"], "nowhere.yaml"),
        (["ack"], "ID"),
        (["ack", "no/id"], "`responder incidents` lists them"),
        (["settle", "3f2a", "--reason", "x"], "--applied"),
        (["settle", "3f2a", "--applied"], "--reason"),
        (["unlock", "3f2a"], "--reason"),
        (["pause"], "--reason"),
        (["status", "--url", "ftp://x"], "http://"),
        (["status", "--url", "http://x", "--token", "two words"], "--token holds no token"),
    ],
)
def test_wrong_use_says_what_to_do(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    seen = capsys.readouterr()
    assert said in seen.err
    assert seen.out == ""
    assert "Traceback" not in seen.err
    assert "two words" not in seen.err


# --- how answers look -------------------------------------------------------------------------------------------------


def test_an_incident_tells_first_what_is_next_and_when(capsys: pytest.CaptureFixture[str]) -> None:
    agenda = [
        {"kind": "poll", "round": 0, "at": "2026-11-20T17:04:50Z", "what": ""},
        {"kind": "unless_fixed", "round": 1, "at": "2026-11-20T17:07:42Z", "what": "unless fixed, halt-trading runs"},
        {"kind": "level", "round": 101, "at": "2026-11-20T17:17:42Z", "what": "L2 is told, paging quant"},
    ]
    out = printed(capsys, incident(agenda=agenda))
    assert "17:02:42 UTC, 2m 05s ago" in out
    assert "step cut_kelly, until 17:05:00 (in 13s)" in out
    assert "17:07:42 (in 2m 55s): unless fixed, halt-trading runs" in out
    assert "17:17:42 (in 12m 55s): L2 is told, paging quant" in out
    assert "17:04:50" not in out
    assert "nobody yet" in out
    assert max(map(len, out.splitlines())) <= 80


def test_an_unknown_change_comes_with_the_command_that_settles_it() -> None:
    ran = a_run(step(attempt(outcome="unknown"), status="unknown"))
    assert list(to_do(incident(runs=[ran], unsettled=["a1"], taken_over_by="anna"))) == [
        "look whether it happened: kelly_fraction 0.25 → 0.1. Then:",
        "  responder settle 3f2a9c1d --applied (or --not-applied) --reason '…'",
    ]


def test_an_approval_is_asked_with_its_plan_and_who_may_give_it() -> None:
    wanted = {
        "step": "cut", "plan": "p1", "preview": "kelly_fraction 0.25 → 0.1", "role": "risk-manager", "people": 2,
        "until": "2026-11-20T17:15:00Z", "approved": [{"actor": "anna"}], "denied": None,
    }  # fmt: skip
    assert list(to_do(incident(approval=wanted, taken_over_by="anna"))) == [
        "the role risk-manager must approve by 17:15 UTC (1 of 2 have): kelly_fraction 0.25 → 0.1",
        "  responder approve 3f2a9c1d --plan p1    (or responder deny 3f2a9c1d)",
    ]


def test_several_unknown_changes_are_named() -> None:
    ran = a_run(step(attempt(id="a1"), attempt(id="a2"), status="unknown"))
    told = "\n".join(to_do(incident(runs=[ran], unsettled=["a1", "a2"])))
    assert "--attempt a1" in told
    assert "--attempt a2" in told


def test_a_manual_step_comes_with_its_instruction_until_it_is_done() -> None:
    asked = event("manual_asked", step="look", instruction="Look at the cache")
    waiting = incident(runs=[a_run(step(id="look", status="asked"))], events=[asked], acknowledged_by="anna")
    assert list(to_do(waiting)) == ["do by hand: Look at the cache. Then:", "  responder done 3f2a9c1d look"]
    assert list(to_do({**waiting, "runs": [a_run(step(id="look"))]})) == []


def test_a_closed_incident_asks_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    closed = incident(status="closed", result="fixed", closed_at="2026-11-20T17:04:42Z", closed_why="VaR is down")
    out = printed(capsys, closed)
    assert "closed, fixed" in out
    assert "5s ago: VaR is down" in out
    assert "TO DO" not in out


def test_what_was_just_closed_does_not_close_in_the_future(capsys: pytest.CaptureFixture[str]) -> None:
    closed = incident(status="closed", closed_at="2026-11-20T17:04:47.558Z", closed_why="somebody has seen it")
    out = printed(capsys, closed)
    assert "17:04:47 UTC, just now: somebody has seen it" in out
    assert ", in " not in out


def test_an_incident_of_a_schedule_has_no_alerts(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, incident(alerts=[], firing=0, events=[event("schedule_due", "Its schedule came due")]))
    assert "none: started by its schedule" in out
    assert "firing" not in out
    nothing = printed(capsys, incident(alerts=[], firing=0))
    assert ["alerts", "none"] in [line.split() for line in nothing.splitlines()]


def test_what_it_waits_for_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    agenda = [{"kind": "level", "round": 1, "at": "2026-11-20T17:17:42Z", "what": "L2 is told"}]
    out = printed(capsys, incident(waits_for="2026-11-20T17:17:42Z: L2 is told", agenda=agenda))
    assert out.count("L2 is told") == 1
    paused = incident(waits_for="automation is paused by asha")
    assert "waits     automation is paused by asha" in printed(capsys, paused)


def test_a_replay_asks_nobody_for_anything(capsys: pytest.CaptureFixture[str]) -> None:
    assert "responder ack" in printed(capsys, incident())
    assert "TO DO" not in printed(capsys, incident(namespace="replay/friday"))


@pytest.mark.parametrize("cause", ["undo", "restore"])
def test_a_run_that_takes_back_is_not_called_fixed(cause: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, incident(runs=[a_run(cause=cause, result="fixed", phase="ended")]))
    assert f"({cause}): put back" in " ".join(out.split())
    assert "fixed" not in out
    assert f"({cause}): failed" in " ".join(
        printed(capsys, incident(runs=[a_run(cause=cause, result="failed")])).split()
    )


def test_an_outcome_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    done = step(attempt(preview="Stop it: PUT /halt on oms", detail="PUT /halt on oms: 200"))
    events = [
        event("attempt_ended", "Stop it: PUT /halt on oms, accepted in 8ms: 200"),
        event("gathered", "Read: halted = true"),
        event("step_ended", "Stop it: PUT /halt on oms, accepted in 8ms"),
    ]
    out = " ".join(printed(capsys, incident(runs=[a_run(done)], events=events)).split())
    assert "cut_kelly: Stop it: PUT /halt on oms: 200" in out
    assert out.count("PUT /halt on oms") == 2
    assert out.count("accepted in 8ms") == 1


def test_the_timeline_names_people_and_tells_each_thing_once(capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        event(),
        event("attempt_ended", "Cut"),
        event("step_ended", "Cut"),
        event("acknowledged", "anna has acknowledged", "anna"),
    ]
    lines = printed(capsys, incident(events=events)).partition("TIMELINE")[2].splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["17:02:42", "+0s", "It", "began"],
        ["17:02:42", "+0s", "Cut"],
        ["17:02:42", "+0s", "anna", "anna", "has", "acknowledged"],
    ]


def test_readings_that_failed_for_one_reason_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    items = [
        {"title": "Edge", "value": 3.5, "error": None},
        {"title": "Share", "value": None, "error": "refused"},
        {"title": "Age", "value": None, "error": "refused"},
    ]
    out = printed(capsys, incident(runs=[a_run(evidence=items)]))
    assert "Edge: 3.5" in out
    assert "2 readings not to be had (Share, Age): refused" in out


def test_what_others_wrote_controls_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, incident(title="a\x1b[2Jb\r\nc [red]d[/red] \x9b31m :bomb:", links={"x\x07": "http://y"}))
    assert "a�[2Jb  c [red]d[/red] �31m :bomb:" in out
    assert out.isprintable() or set(out) & {chr(n) for n in range(32)} == {"\n"}


def test_without_a_terminal_there_is_no_colour(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" not in printed(capsys, incident(urgent="it is urgent"))


def test_the_status_says_first_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    status = {
        "version": "0.1.0",
        "rules": {"hash": "0123456789", "runbooks": 2},
        "unready": ["the timers loop fails"],
        "pause": {"actor": "otto", "at": "2026-11-20T17:04:00Z", "reason": "maintenance"},
        "incidents": [incident()],
        "locks": [
            {"target": "t", "incident": "3f2a9c1d77aa", "run": 1, "since": "2026-11-20T17:03:00Z", "unknown": True}
        ],
        "in_force": [{"preview": "0.25 → 0.1", "since": "2026-11-20T17:03:00Z", "incident": "3f2a9c1d77aa"}],
    }
    out = paper()
    for part in status_told(status, "http://127.0.0.1:9099", NOW):
        out.print(part)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "CANNOT WORK: the timers loop fails"
    assert lines[2].startswith("AUTOMATION IS PAUSED by otto 47s ago: maintenance")
    assert "waits: step cut_kelly, until" in "\n".join(lines)
    assert "unknown outcome of run 1" in "\n".join(lines)
    assert lines[-1] == "  responder restore 3f2a9c1d"
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"run": None, "finishing": False}, "olga lets cut act outside its hours until 17:04:00: agreed"),
        ({"run": 2, "finishing": False}, "olga lets cut act outside its hours until 17:04:00, used by run 2: agreed"),
        (
            {"run": 2, "finishing": True},
            "olga let cut act outside its hours until 17:04:00: run 2 is finishing: agreed",
        ),
    ],
)
def test_the_status_says_who_lets_a_run_act_outside_its_hours(
    state: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    status = {
        "version": "0.1.0", "rules": {"hash": "0123456789", "runbooks": 2}, "unready": [], "pause": None,
        "incidents": [], "locks": [], "in_force": [],
        "overrides": [{"actor": "olga", "runbook": "cut", "until": "2026-11-20T17:04:00Z", "note": "agreed",
                       "incident": "3f2a9c1d77aa", **state}],
    }  # fmt: skip
    out = paper()
    for part in status_told(status, "http://127.0.0.1:9099", NOW):
        out.print(part)
    assert f"{said} (incident 3f2a9c1d)" in capsys.readouterr().out


def test_the_status_says_what_is_in_force_what_comes_next_and_how_many_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    beneath = {"value": 0.25, "before": 0.4, "since": "2026-11-20T13:04:47Z", "incident": "aaaabbbbcccc", "preview": ""}
    kelly = {"target": "kelly", "value": 0.1, "before": 0.25, "since": "2026-11-20T14:04:47Z", "preview": ""}
    timers = [
        {"at": f"2026-11-20T17:05:{n}7Z", "incident": "3f2a9c1d77aa", "kind": "level", "what": f"L{n} is paged"}
        for n in range(1, 6)
    ]
    status = {
        "version": "0.1.0",
        "rules": {"hash": "0123456789", "runbooks": 2},
        "unready": [],
        "pause": None,
        "open": 1_501,
        "incidents": [incident()],
        "locks": [],
        "in_force": [{**kelly, "incident": "3f2a9c1d77aa", "beneath": beneath}],
        "timers": timers,
    }
    out = paper()
    for part in status_told(status, "http://127.0.0.1:9099", NOW):
        out.print(part)
    said = capsys.readouterr().out
    assert "kelly 0.1, was 0.25, 3h 00m; to put it back:" in said
    assert "kelly 0.25, was 0.4, 4h 00m; beneath the change above" in said
    assert "responder restore aaaabbbb" in said
    assert "and 1,500 more: responder incidents --status open" in said
    assert [f"L{n} is paged" in said for n in range(1, 6)] == [True, True, True, False, False]
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(
    ("at", "said"),
    [(NOW, "17:04:47"), (NOW + 1, "17:04:47"), (NOW - DAY, "2026-11-19 17:04:47"), (NOW + DAY, "2026-11-21 17:04:47")],
)
def test_the_clock_says_the_day_when_it_is_another(at: int, said: str) -> None:
    assert clock(at, NOW) == said


def test_spans() -> None:
    assert ago(NOW - 125 * SECOND, NOW) == "2m 05s ago"
    assert ago(NOW + 5 * MINUTE, NOW) == "in 5m 00s"
    assert counted_down("until 2026-11-20T17:05:47.5Z, then", NOW) == "until 17:05:47 (in 1m 00s), then"
    assert [count(n, "problem") for n in (0, 1, 2)] == ["no problems", "1 problem", "2 problems"]


def test_the_present_is_the_servers() -> None:
    assert now_of("Fri, 20 Nov 2026 17:04:47 GMT") == NOW
    assert now_of(None) > NOW - 50 * 365 * DAY


def test_plain_keeps_one_line() -> None:
    assert plain("a\tb\nc\u2028d\x00é→") == "a b c d�é→"


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    from responder.cli.output import print_json

    print_json({"a": "→\x9b"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"a": "→\x9b"}


def test_functions_of_commands_say_what_they_do() -> None:
    from responder.cli import verbs

    for name in ("ack", "takeover", "done", "settle", "unlock", "restore", "pause", "resume"):
        assert len(inspect.getdoc(getattr(verbs, name)) or "") > 40


def test_colour_ends_with_the_word_that_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from responder.cli.output import word

    Console(force_terminal=True, color_system="standard", no_color=False).print(word("acting").append(" now"))
    assert capsys.readouterr().out == "\x1b[33macting\x1b[0m now\n"
