"""The command line against the whole web application over loopback, with a real store; and `lint` on real files."""

import asyncio
import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from responder import facts as f
from responder.app import CATALOGUE, state_folder
from responder.cli import run
from responder.cli.client import Said, find_server
from responder.cli.lint import rule_sets
from responder.config import load_config
from responder.recorded import Outcome
from responder.sources import shipped_rules
from tests.contract.cli_parts import served

RULES = shipped_rules()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration here, nobody's token, 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("RESPONDER_URL", "RESPONDER_TOKEN", "RESPONDER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_json_is_the_answer_of_the_api(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path, capsys) as desk:
        incident = await desk.opened()
        for words, path in (
            (["incidents", "--status", "open", "--limit", "5"], "/incidents?status=open&limit=5"),
            (["incident", incident[:4]], f"/incidents/{incident}"),
            (["status"], "/status"),
        ):
            ran = await desk.run(*words, "--json")
            assert ran.status == 0
            assert ran.json == (await desk.office.call("GET", path, "otto")).json()


async def test_incidents_are_listed_newest_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path, capsys) as desk:
        assert (await desk.run("incidents", "--status", "open")).out == "no open incidents\n"
        first = await desk.opened()
        desk.office.time += 1_000_000
        second = await desk.opened("CacheDown")
        await desk.run("ack", second, by="anna")
        ran = await desk.run("incidents")
        assert ran.out.index(second[:8]) < ran.out.index(first[:8])
        assert "anna has acknowledged" in ran.out
        assert max(map(len, ran.out.splitlines())) <= 80
        assert second[:8] in (await desk.run("incidents", "--target", "cache", "--limit", "1")).out
        assert "more with --limit" in (await desk.run("incidents", "--limit", "1")).out


async def test_an_incident_is_told_with_what_is_to_be_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path, capsys) as desk:
        incident = await desk.opened()
        await desk.office.run_on(Outcome.OK)
        ran = await desk.run("incident", incident[:5], by="anna")
        assert ran.status == 0
        assert "1 firing: VaRBreach symbol=BTC-USD" in ran.out
        assert "done cut_kelly: 0.25 to 0.1" in ran.words
        assert f"responder takeover {incident[:8]}" in ran.out
        assert "VaRBreach (symbol BTC-USD) fires" in ran.out
        assert max(map(len, ran.out.splitlines())) <= 80


async def test_the_status_tells_locks_changes_and_the_pause(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path, capsys) as desk:
        assert "NO OPEN INCIDENTS" in (await desk.run("status")).out
        incident = await desk.opened()
        await desk.office.run_on(Outcome.UNKNOWN)
        await desk.run("pause", "--reason", "exchange maintenance")
        ran = await desk.run("status")
        assert ran.status == 0
        assert "AUTOMATION IS PAUSED by otto" in ran.out
        assert f"unknown outcome of run 1: responder incident {incident[:8]}" in ran.words
        desk.office.unready.append("the timers have stopped")
        ran = await desk.run("status")
        assert (ran.status, "CANNOT WORK: the timers have stopped" in ran.out) == (1, True)


async def test_labels_reach_no_terminal_as_control_sequences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, capsys) as desk:
        incident = await desk.opened(symbol="\x1b]0;owned\x07\x9b31m[blink]")
        for words in (["incident", incident], ["incidents"], ["status"], ["incident", incident, "--json"]):
            assert not set((await desk.run(*words)).out) & {"\x1b", "\x07", "\x9b"}


# --- changing ---------------------------------------------------------------------------------------------------------


async def test_ack_and_takeover_are_recorded_as_the_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path, capsys) as desk:
        incident = await desk.opened()
        ran = await desk.run("ack", incident[:6], "--note", "on it", by="anna")
        assert (ran.status, ran.err) == (0, "")
        assert ran.out.startswith("acknowledged. Cut (risk-api/kelly_fraction) is ")
        taken = await desk.run("takeover", incident, "--json", by="anna")
        assert taken.json["incident"]["taken_over_by"] == "anna"
        facts = await desk.facts(incident)
        assert ("anna", f.Acknowledged(note="on it")) in facts
        assert ("anna", f.TakenOver()) in facts


async def test_a_manual_step_is_done_by_the_command_that_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, capsys) as desk:
        incident = await desk.opened("CacheDown")
        told = (await desk.run("incident", incident)).out
        assert "do by hand: Look at it. Then:" in told
        (shown,) = [line.split()[1:] for line in told.splitlines() if line.startswith("  responder done ")]
        assert "step other is not waiting" in (await desk.run("done", incident, "other")).err
        assert (await desk.run(*shown, "--note", "looked", by="anna")).status == 0
        assert ("anna", f.ManualDone(run=1, step="look", note="looked")) in await desk.facts(incident)
        again = await desk.run("done", incident)
        assert (again.status, "waits for no manual step" in again.err) == (2, True)


async def test_an_unknown_change_is_settled_by_the_command_that_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, capsys) as desk:
        incident = await desk.opened()
        await desk.office.run_on(Outcome.UNKNOWN)
        assert (
            f"responder settle {incident[:8]} --applied (or --not-applied)"
            in (await desk.run("incident", incident)).out
        )
        refused = await desk.run("settle", incident, "--applied", "--reason", "seen", by="anna")
        assert refused.status == 2
        assert "needs the role operator" in refused.err
        other = await desk.run("settle", incident, "--applied", "--reason", "seen", "--attempt", "other")
        assert "has no attempt other; what nobody knows is" in other.err
        assert (await desk.run("settle", incident[:8], "--not-applied", "--reason", "the API shows 0.25")).status == 0
        settled = [(actor, fact) for actor, fact in await desk.facts(incident) if isinstance(fact, f.Settled)]
        assert [(a, s.applied, s.reason) for a, s in settled] == [("otto", False, "the API shows 0.25")]


async def test_a_lock_is_released_with_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path, capsys) as desk:
        incident = await desk.opened()
        await desk.office.run_on(Outcome.UNKNOWN)
        assert (await desk.run("unlock", incident, "--reason", "put right")).status == 0
        assert (await desk.run("status", "--json")).json["locks"] == []


async def test_a_change_is_put_back_by_its_role(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path, capsys) as desk:
        incident = await desk.opened()
        await desk.office.run_on(Outcome.OK)
        refused = await desk.run("restore", incident, by="anna")
        assert (refused.status, "risk-manager" in refused.err) == (2, True)
        assert (await desk.run("restore", incident, by="rita")).status == 0
        assert [a for a, fact in await desk.facts(incident) if isinstance(fact, f.RunStarted)][-1] == "rita"


async def test_pause_and_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path, capsys) as desk:
        assert "responder resume" in (await desk.run("pause", "--reason", "maintenance")).out
        assert (await desk.run("resume", "--json")).json["pause"]["paused"] is False
        assert "automation acts" in (await desk.run("status")).out


# --- three mistakes, and a server that is not there -------------------------------------------------------------------


async def test_a_wrong_id_says_where_the_right_ones_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path, capsys) as desk:
        for words in (["incident", "zzz"], ["ack", "zzz"]):
            ran = await desk.run(*words)
            assert (ran.status, ran.out) == (2, "")
            assert "`responder incidents` lists them" in ran.err


@pytest.mark.parametrize(
    ("by", "said"), [(None, "must know who asks"), ("mallory", "does not know the token in --token")]
)
async def test_a_wrong_token_says_where_to_put_the_right_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], by: str | None, said: str
) -> None:
    async with served(tmp_path, capsys) as desk:
        ran = await desk.run("incidents", by=by)
        assert (ran.status, ran.out) == (2, "")
        assert said in ran.err
        assert "RESPONDER_TOKEN_FILE" in ran.err
        assert "mallory" not in ran.err


@pytest.mark.parametrize("words", [["incidents", "--status", "odd"], ["incidents", "--target", "\x01\x00"]])
async def test_what_the_server_refuses_is_said_in_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    async with served(tmp_path, capsys) as desk:
        ran = await desk.run(*words)
        assert (ran.status, ran.out) == (2, "")
        assert ran.err.startswith("responder: ")


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    Path("responder.yaml").write_text(f"listen: 127.0.0.1:{port}\n")
    assert run(["status"]) == 1
    said = capsys.readouterr().err
    assert f"the responder is not running at http://127.0.0.1:{port} (start it with `responder serve`" in said


async def test_a_server_that_is_no_responder(capsys: pytest.CaptureFixture[str]) -> None:
    async def other(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"<html>"})

    server = uvicorn.Server(uvicorn.Config(other, log_config=None, lifespan="off", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        status = await asyncio.to_thread(run, ["status", "--url", url])
        server.should_exit = True
        await serving
    assert status == 2
    assert "is no responder (status 200): check --url" in capsys.readouterr().err


# --- which server, and who asks ---------------------------------------------------------------------------------------


def configuration(name: str, text: str) -> None:
    Path(name).write_text(text)


async def test_on_the_same_machine_the_local_operator_needs_no_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, capsys, nobody=True) as desk:
        port = desk.url.rpartition(":")[2]
        configuration("own.yaml", f"listen: :{port}\nstore: sqlite:///{tmp_path}/responder.db\nservices: 7\n")
        refused = await desk.anyhow("pause", "--reason", "x", "--config", "own.yaml")
        assert (refused.status, "must know who asks" in refused.err) == (2, True)
        (tmp_path / "operator.token").write_text("local-token\n")
        assert (await desk.anyhow("pause", "--reason", "x", "--config", "own.yaml")).status == 0
        paused = await desk.anyhow("--config", "own.yaml", "status", "--json")
        assert paused.json["pause"]["actor"] == "local"


def asked(environ: dict[str, str], url: str | None = None, config: str | None = None) -> tuple[str, str | None]:
    server = find_server(Said(None if config is None else Path(config), url, None), environ)
    return server.url, None if server.token is None else server.token.value


def test_the_local_token_stays_on_this_machine(tmp_path: Path) -> None:
    home = {"XDG_STATE_HOME": str(tmp_path)}
    (tmp_path / "responder").mkdir()
    (tmp_path / "responder" / "operator.token").write_text("local-token\n")
    assert asked(home) == ("http://127.0.0.1:9099", "local-token")
    assert asked(home, "http://localhost:1/") == ("http://localhost:1", "local-token")
    assert asked(home, "https://responder.example.com") == ("https://responder.example.com", None)
    assert asked({**home, "RESPONDER_URL": "http://10.0.0.1:9099"}) == ("http://10.0.0.1:9099", None)
    Path("responder.yaml").write_text("listen: 10.0.0.1:9099")
    assert asked(home) == ("http://10.0.0.1:9099", "local-token")


@pytest.mark.parametrize("store", ["", "store: sqlite:///own/r.db", "store: {env: STORE}", "store: {env: DATABASE}"])
def test_the_token_is_looked_for_where_the_server_makes_it(store: str, tmp_path: Path) -> None:
    database = "postgresql://db/responder"
    environ = {"XDG_STATE_HOME": str(tmp_path / "state"), "STORE": f"sqlite:///{tmp_path}/s/r.db", "DATABASE": database}
    Path("responder.yaml").write_text(store)
    folder = state_folder(load_config(Path("responder.yaml"), CATALOGUE, environ))
    folder.mkdir(parents=True, exist_ok=True)
    assert asked(environ)[1] is None
    (folder / "operator.token").write_text("made-by-the-server")
    assert asked(environ)[1] == "made-by-the-server"


def test_a_named_server_elsewhere_needs_no_configuration() -> None:
    Path("responder.yaml").write_text("listen: [")
    assert asked({}, "https://responder.example.com/base/")[0] == "https://responder.example.com/base"
    assert asked({"RESPONDER_TOKEN": "t"}, "http://127.0.0.1:1") == ("http://127.0.0.1:1", "t")


def test_whose_token_counts(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text(" from-file \n")
    environ = {"RESPONDER_TOKEN_FILE": str(tmp_path / "mine"), "RESPONDER_URL": "http://h:1"}
    assert asked(environ) == ("http://h:1", "from-file")
    assert asked({**environ, "RESPONDER_TOKEN": "from-environment"}) == ("http://h:1", "from-environment")


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        (":80", "http://127.0.0.1:80"),
        ("'[::]:80'", "http://[::1]:80"),
        ("{env: WHERE}", "http://localhost:7"),
        ("~", "http://127.0.0.1:9099"),
    ],
)
def test_the_address_is_what_the_configuration_says(listen: str, url: str) -> None:
    Path("responder.yaml").write_text(f"listen: {listen}\nstore: postgresql://db\nnonsense: true\n")
    assert asked({"WHERE": "localhost:7"})[0] == url


@pytest.mark.parametrize("text", ["listen: {env: NOWHERE}", "listen: [", "- a list", "listen: 1\nlisten: 2"])
def test_no_address_is_guessed_where_the_configuration_is_unclear(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("responder.yaml").write_text(text)
    assert run(["status"]) == 2
    assert "name the server with --url" in capsys.readouterr().err


# --- lint -------------------------------------------------------------------------------------------------------------


def test_the_shipped_rules_are_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", str(RULES)]) == 0
    assert capsys.readouterr().out.startswith("no problems in ")
    assert run(["lint", "--json", "--config", str(RULES / "edge-risk" / "_responder.example.yaml"), "edge-risk"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["problems"], "var-breach" in told["runbooks"]) == (True, [], True)


def test_problems_are_drawn_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(RULES / "edge-risk", "mine")
    broken = Path("mine/var-breach.yaml")
    broken.write_text(broken.read_text().replace("parameter.reduce", "parameter.redce").replace("verify:", "verfy:"))
    assert run(["lint", "mine"]) == 1
    out = capsys.readouterr().out
    assert "mine/var-breach.yaml:" in out
    assert "^^^^" in out
    assert "did you mean 'parameter.reduce'?" in out
    assert out.endswith("2 problems in 1 file\n")
    assert run(["lint", "--json", "mine/halt-trading.yaml"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [p["file"] for p in told["problems"]] == ["mine/var-breach.yaml"] * 2
    assert told["problems"][0].keys() == {"file", "line", "column", "path", "message", "hint", "code"}


def test_a_warning_is_told_and_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("by-hand.yaml").write_text(
        "runbook: by-hand\ntitle: Look\nmatch: [Odd, 'env=\"prod\"']\ntarget: x\nenv: prod\nmode: auto\n"
        "steps: [{id: call, action: http.request, with: {service: api, method: POST, path: /x}}]\n"
    )
    Path("responder.yaml").write_text(
        "rules: [./by-hand.yaml]\nservices: {api: {kind: http, env: prod, url: http://a}}\n"
    )
    status = run(["lint"])
    out = capsys.readouterr().out
    assert "nothing tells whether these steps helped" in out
    assert "warning" in out
    assert (status, "by-hand.yaml:7:1: steps: warning:" in out) == (0, True), out
    assert "[no-verification]" in out
    assert run(["lint", "--warnings-as-errors", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], "unsafe-step" in {warning["code"] for warning in told["warnings"]}) == (True, True)


def test_a_bad_configuration_is_a_finding_too(capsys: pytest.CaptureFixture[str]) -> None:
    Path("responder.yaml").write_text("listn: 3\n")
    assert run(["lint"]) == 1
    out = capsys.readouterr().out
    assert "did you mean 'listen'?" in out
    assert "responder.yaml cannot be used" in out
    assert run(["lint", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problems"][0]["file"] == "responder.yaml"


def test_serve_says_what_is_wrong_with_its_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    Path("responder.yaml").write_text("listn: 3\n")
    assert run(["serve"]) == 1
    assert "responder: responder.yaml:1:1: listn: unknown key" in capsys.readouterr().err


def test_folders_of_catalogues_are_checked_one_by_one(tmp_path: Path) -> None:
    for folder in ("rules/a", "rules/b/tests", "rules/c"):
        Path(folder).mkdir(parents=True)
    for file in (
        "rules/a/_responder.example.yaml",
        "rules/a/x.yaml",
        "rules/b/_responder.example.yaml",
        "rules/p.yaml",
    ):
        Path(file).write_text("")
    sets = [(s.config and s.config.as_posix(), s.entries) for s in rule_sets([Path("rules")], None)]
    assert sets == [
        ("rules/a/_responder.example.yaml", ("./rules/a",)),
        ("rules/b/_responder.example.yaml", ("./rules/b",)),
        (None, ("./rules/c", "./rules/p.yaml")),
    ]
    assert rule_sets([Path("rules/a/x.yaml")], None)[0].entries == ("./rules/a",)
    named = rule_sets([Path("rules")], Path("mine.yaml"))
    assert [(s.config, s.entries) for s in named] == [(Path("mine.yaml"), ("./rules",))]
