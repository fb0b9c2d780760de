"""Runs by hand over HTTP and from the command line: who may, what is told, what a confirmation binds to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from responder import facts as f
from responder.actions import ACTIONS
from responder.draft import Turn
from responder.perform import Performer
from responder.recorded import Cause, Trigger
from responder.security import NEEDED
from responder.simulate import sleep
from tests.acceptance.stage import own
from tests.acceptance.world import World
from tests.builders import a_runbook, call_step, cut_step
from tests.contract.cli_parts import Desk, Ran, served
from tests.contract.web_parts import START, Office, serving

PROBE = {"probe": {"path": "/api/status", "expect": 'body.trading == "halted"'}}
HALT: dict[str, Any] = a_runbook(
    runbook="halt", title="Halt all trading", match=None, target="trading", brake=True, verify=None, checks=None,
    steps=[call_step("halt", "/api/stop-trading", more=PROBE)], unless_fixed={"5m": {"page": "boss"}},
)  # fmt: skip
CUT = a_runbook(
    steps=[cut_step(approval={"role": "risk-manager", "people": 2}), {"id": "look", "manual": "Look"}],
    inputs={"symbol": {"label": "symbol", "type": "currency_pair"}}, target="desk/{{ symbol }}",
)  # fmt: skip
NEVER = {"never": {"from": "03:00", "to": "03:01", "timezone": "UTC"}}
KEPT = {**HALT, "runbook": "kept", "target": "kept", "brake": False, "calendar": {"within": "never"}}
BTC = {"inputs": {"symbol": "BTC-USD"}}


def world() -> tuple[World, dict[str, Any]]:
    """A platform, and the settings of a server before it."""
    rules, configured = own(HALT, CUT, KEPT, calendars=NEVER)
    made = World(lambda: START)
    made.numbers["risk"] = lambda: 2.0
    performer = Performer(ACTIONS, made.connect, configured.parameters, lambda: START, sleep)
    return made, {"rules": rules, "performs": lambda: performer}


@asynccontextmanager
async def office(path: Path) -> AsyncIterator[tuple[World, Office]]:
    made, settings = world()
    async with serving(path, **settings) as open_office:
        yield made, open_office


# --- the API ----------------------------------------------------------------------------------------------------------


async def test_a_plan_tells_steps_gates_and_a_digest_and_changes_nothing(tmp_path: Path) -> None:
    async with office(tmp_path) as (platform, api):
        plan = (await api.call("POST", "/runbooks/cut/plan", "anna", BTC)).json()
        assert (plan["goes_ahead"], plan["runbook"], plan["target"], plan["brake"]) == (
            True,
            "cut",
            "desk/BTC-USD",
            False,
        )
        cut, look = plan["steps"]
        assert (cut["doing"], cut["before"], cut["after"], cut["effect"]) == ("change", 0.25, 0.1, "set")
        assert cut["params"]["to"] == 0.1
        assert cut["approval"] == {"role": "risk-manager", "people": 2, "within": 600.0}
        assert (look["doing"], look["text"], look["params"]) == ("manual", "Look", None)
        assert [(one["check"], one["value"]) for one in plan["checks"]] == [("risk", 2.0)]
        assert plan["checks"][0]["observed_at"] == "2027-01-15T08:00:00Z"
        gates = {one["gate"]: one for one in plan["verdicts"]}
        assert gates["lock"]["answer"] == "allow"
        assert gates["lock"]["reason"] == "desk/BTC-USD is free"
        assert plan["verify"] == "risk: value < 1"
        halt = (await api.call("POST", "/runbooks/halt/plan", "anna")).json()
        assert halt["brake"]
        assert halt["unless_fixed"] == [{"after": 300.0, "page": ["boss"], "run": None}]
        assert (await api.store.incidents(), platform.done) == ([], [])


async def test_the_confirmed_plan_begins_as_an_incident_of_its_own(tmp_path: Path) -> None:
    async with office(tmp_path) as (_, api):
        plan = (await api.call("POST", "/runbooks/halt/plan", "otto")).json()
        asked = {"plan": plan["plan"], "reason": " flash crash "}
        answer = await api.call("POST", "/runbooks/halt/run", "otto", asked)
        assert answer.status_code == 200
        assert answer.json()["run"] == 1
        events = await api.store.events(answer.json()["incident"]["id"])
        opened, started = events[0].fact, events[1].fact
        assert isinstance(opened, f.Opened)
        assert isinstance(started, f.RunStarted)
        assert (opened.trigger, events[0].actor) == (Trigger.PERSON, "otto")
        assert (started.cause, started.reason, events[1].actor) == (Cause.PERSON, "flash crash", "otto")
        assert api.turns[-1].next is not None


async def test_a_plan_that_has_changed_is_refused_and_shown_anew(tmp_path: Path) -> None:
    async with office(tmp_path) as (platform, api):
        plan = (await api.call("POST", "/runbooks/cut/plan", "otto", BTC)).json()
        platform.kelly = 0.2
        answer = await api.call("POST", "/runbooks/cut/run", "otto", {**BTC, "plan": plan["plan"]})
        assert answer.status_code == 409
        assert "the plan has changed since you saw it" in answer.json()["error"]
        anew = answer.json()["plan"]
        assert (anew["steps"][0]["before"], anew["goes_ahead"]) == (0.2, True)
        assert await api.store.incidents() == []
        assert (await api.call("POST", "/runbooks/cut/run", "otto", {**BTC, "plan": anew["plan"]})).status_code == 200


async def test_a_refused_gate_begins_nothing_and_a_brake_passes_the_pause(tmp_path: Path) -> None:
    async with office(tmp_path) as (_, api):
        await api.call("POST", "/pause", "otto", {"reason": "maintenance"})
        for name, body, status in (("cut", BTC, 409), ("halt", {}, 200)):
            plan = (await api.call("POST", f"/runbooks/{name}/plan", "otto", body)).json()
            answer = await api.call("POST", f"/runbooks/{name}/run", "otto", {**body, "plan": plan["plan"]})
            assert (answer.status_code, plan["goes_ahead"]) == (status, status == 200)
        assert (
            "paused by otto: maintenance"
            in (await api.call("POST", "/runbooks/cut/run", "otto", {**BTC, "plan": "x"})).json()["error"]
        )


async def test_an_override_of_the_hours_stands_in_the_plan_and_in_the_journal(tmp_path: Path) -> None:
    async with office(tmp_path) as (platform, api):
        refused = (await api.call("POST", "/runbooks/kept/plan", "otto")).json()
        assert (refused["goes_ahead"], refused["override"]) == (False, None)
        said = {"override": " agreed with the desk "}
        stale = await api.call("POST", "/runbooks/kept/run", "otto", {**said, "plan": refused["plan"]})
        assert (stale.status_code, platform.done) == (409, [])
        plan = (await api.call("POST", "/runbooks/kept/plan", "otto", said)).json()
        assert (plan["goes_ahead"], plan["override"]) == (True, "agreed with the desk")
        begun = await api.call("POST", "/runbooks/kept/run", "otto", {**said, "plan": plan["plan"]})
        events = (await api.store.events(begun.json()["incident"]["id"]))[:3]
        assert [event.fact.kind for event in events] == ["opened", "calendar_overridden", "run_started"]
        assert {event.actor for event in events} == {"otto"}
        status = (await api.call("GET", "/status", "otto")).json()
        assert [(one["actor"], one["note"]) for one in status["overrides"]] == [("otto", "agreed with the desk")]


@pytest.mark.parametrize(
    ("path", "by", "body", "status", "said"),
    [
        (
            "kept/plan",
            "anna",
            {"override": "x"},
            403,
            "may not let a run act outside its hours: it needs the role operator",
        ),
        ("kept/plan", "otto", {"override": " "}, 400, "say in `override` why"),
        ("halt/plan", None, {}, 401, "no credential"),
        ("halt/plan", "rita", {}, 403, "may not plan runbooks by hand: it needs the role operator or responder"),
        ("halt/run", "anna", {}, 403, "may not run runbooks by hand: it needs the role operator"),
        ("halt/run", "otto", {}, 400, "say which plan you confirm"),
        ("hald/plan", "otto", {}, 404, "there is no runbook 'hald'; did you mean 'halt'?"),
        ("cut/plan", "otto", {}, 400, "say symbol (currency_pair); the target needs it"),
        ("cut/plan", "otto", {"inputs": {"symbol": "x"}}, 400, "input symbol='x' is not a currency_pair"),
        ("cut/plan", "otto", {"inputs": {"symbol": "BTC-USD", "s": "x"}}, 400, "there is no input 's'"),
        ("cut/plan", "otto", {"inputs": {"symbol": 1}}, 400, "inputs are texts"),
        ("halt/plan", "otto", {"odd": 1}, 400, "the body is a JSON object of inputs, reason, override, plan"),
        ("halt/plan", "otto", {"reason": "x\0"}, 400, "a NUL in it"),
        ("halt/plan", "otto", {"reason": "x" * 4_001}, 400, "more than 4000 characters"),
        ("halt/plan", "otto", {"reason": "x" * 70_000}, 413, "shorten the reason"),
    ],
)
async def test_who_may_not_or_asks_wrongly_reads_why(
    tmp_path: Path, path: str, by: str | None, body: Any, status: int, said: str
) -> None:
    async with office(tmp_path) as (platform, api):
        answer = await api.call("POST", f"/runbooks/{path}", by, body)
        assert (answer.status_code, platform.asked) == (status, [])
        assert said in answer.json()["error"]


async def test_a_server_that_cannot_ask_the_world_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        answer = await api.call("POST", "/runbooks/cut/plan", "otto")
        assert (answer.status_code, answer.json()["error"]) == (503, "this server starts no runs by hand")


def test_starting_needs_more_than_planning() -> None:
    assert NEEDED["run"] < NEEDED["plan"]


# --- the command line -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def terminal(path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[tuple[World, Desk]]:
    made, settings = world()
    async with served(path, capsys, **settings) as desk:
        yield made, desk


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration here, nobody's token, 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("RESPONDER_URL", "RESPONDER_TOKEN", "RESPONDER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


def answering(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """A person at the terminal; answers what they were asked."""
    asked: list[str] = []
    given = iter(answers)

    def confirm(question: str, default: bool) -> bool:
        asked.append(question)
        return next(given) == "y"

    monkeypatch.setattr("typer.confirm", confirm)
    return asked


def begun(ran: Ran) -> bool:
    return "Begun as run 1 of incident" in ran.words


async def test_a_dry_run_shows_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with terminal(tmp_path, capsys) as (_, desk):
        ran = await desk.run("run", "cut", "--input", "symbol=BTC-USD", "--dry-run")
        assert ran.status == 0
        assert "Too much risk (cut)" in ran.out
        assert "target desk/BTC-USD" in ran.words
        assert "risk-api/kelly_fraction 0.25 → 0.1" in ran.words
        assert "2 people with the role risk-manager must approve it within 10m" in ran.words
        assert "allow lock desk/BTC-USD is free" in ran.words
        assert ran.words.endswith("It would go ahead. Nothing was changed.")
        assert max(map(len, ran.out.splitlines())) <= 80
        assert (await desk.run("run", "cut", "-i", "symbol=BTC-USD", "--dry-run", "--json")).json["goes_ahead"]
        await desk.run("pause", "--reason", "maintenance")
        held = await desk.run("run", "cut", "-i", "symbol=BTC-USD", "--dry-run")
        assert held.status == 1
        assert "wait pause automation is paused by otto: maintenance" in held.words
        assert (await desk.office.store.incidents()) == []


async def test_it_asks_and_begins_only_after_a_yes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with terminal(tmp_path, capsys) as (_, desk):
        asked = answering(monkeypatch, "n", "y")
        said_no = await desk.run("run", "halt")
        assert (said_no.status, begun(said_no)) == (1, False)
        said_yes = await desk.run("run", "halt", "--reason", "flash crash")
        assert (said_yes.status, begun(said_yes)) == (0, True)
        assert asked == ["It can only lower risk. Run it?"] * 2
        ((_, _), (actor, started)) = (await desk.facts((await desk.office.store.incidents())[0].id))[:2]
        assert isinstance(started, f.RunStarted)
        assert (actor, started.reason) == ("otto", "flash crash")


async def test_what_raises_risk_and_what_is_passed_are_in_the_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with terminal(tmp_path, capsys) as (_, desk):
        asked = answering(monkeypatch, "n", "n")
        await desk.run("run", "cut", "-i", "symbol=BTC-USD")
        await desk.run("pause", "--reason", "maintenance")
        ran = await desk.run("run", "halt")
        assert "warns pause brake passes: automation is paused by otto: maintenance" in ran.words
        assert asked == [
            "It is no brake: it may raise risk. Run it?",
            "You pass pause. It can only lower risk. Run it?",
        ]


async def test_whoever_acts_outside_the_hours_says_why_and_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with terminal(tmp_path, capsys) as (_, desk):
        asked = answering(monkeypatch, "y")
        refused = await desk.run("run", "kept")
        assert (refused.status, begun(refused)) == (1, False)
        assert "deny calendar never is closed until" in refused.words
        ran = await desk.run("run", "kept", "--override", "agreed with the desk")
        assert (ran.status, begun(ran)) == (0, True)
        assert "override agreed with the desk" in ran.words
        assert "otto lets this run act all the same: agreed with the desk" in ran.words
        assert asked == ["It acts outside its hours, by your word. It is no brake: it may raise risk. Run it?"]
        blank = await desk.run("run", "kept", "--override", "", "--dry-run")
        assert blank.status == 2
        assert "say in `override` why" in " ".join(blank.err.split())


async def test_a_plan_that_changes_is_shown_anew_and_asked_about_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with terminal(tmp_path, capsys) as (platform, desk):

        def confirm(question: str, default: bool) -> bool:
            platform.kelly -= 0.01
            return platform.kelly < 0.235

        monkeypatch.setattr("typer.confirm", confirm)
        with_yes = await desk.run("run", "cut", "-i", "symbol=BTC-USD")
        assert with_yes.status == 1
        assert begun(with_yes) is False

        def once(question: str, default: bool) -> bool:
            platform.kelly = 0.2
            return True

        monkeypatch.setattr("typer.confirm", once)
        ran = await desk.run("run", "cut", "-i", "symbol=BTC-USD")
        assert "Nothing was begun: the plan has changed. It is now:" in ran.words
        assert (ran.status, begun(ran)) == (0, True)


async def test_a_refused_plan_is_not_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with terminal(tmp_path, capsys) as (_, desk):
        await desk.run("pause", "--reason", "maintenance")
        told = await desk.run("run", "cut", "-i", "symbol=BTC-USD", "--yes")
        as_json = await desk.run("run", "cut", "-i", "symbol=BTC-USD", "--yes", "--json")
        assert [(ran.status, begun(ran)) for ran in (told, as_json)] == [(1, False)] * 2
        assert as_json.json["goes_ahead"] is False
        assert await desk.office.store.incidents() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["halt", "--json"], "add --dry-run, or --yes"),
        (["hald"], "did you mean 'halt'?"),
        (["cut"], "say symbol (currency_pair)"),
        (["cut", "-i", "symbol"], "write NAME=value"),
    ],
)
async def test_wrong_use_says_what_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    async with terminal(tmp_path, capsys) as (_, desk):
        ran = await desk.run("run", *words)
        assert ran.status == 2
        assert said in " ".join(ran.err.split())


async def test_waiting_tells_events_until_the_run_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with terminal(tmp_path, capsys) as (_, desk):
        monkeypatch.setattr("responder.cli.run._POLL", 0.01)
        stops = asyncio.Queue[asyncio.Task[Any]]()

        def stopped(turn: Turn) -> None:
            """Somebody stops it as soon as it has begun."""
            desk.office.desk.on_turn = lambda turn: None
            path = f"/incidents/{turn.incident.id}/cancel"
            stops.put_nowait(asyncio.create_task(desk.office.call("POST", path, "anna", {})))

        desk.office.desk.on_turn = stopped
        ran = await desk.run("run", "halt", "--yes", "--wait")
        assert (await stops.get_nowait()).status_code == 200
        assert ran.status == 1
        assert "Runbook halt acts on trading because a person wants it (asked by otto): halt" in ran.words
        assert "cancelled after 0s: stopped by anna" in ran.words
