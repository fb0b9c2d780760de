"""Post-mortem, hand-over, preview and dead letters: the command line against the whole web over a real store."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from responder.cli import run
from responder.cli.saved import story_of
from responder.facts import Event, LevelReached
from responder.journal import fold
from responder.recorded import Outcome
from responder.records import Change, Keys, Lane, MessageRow, ScopeRow, Sending, Writes
from responder.samples import journal
from responder.scopes import PAUSE
from responder.timing import HOUR, SECOND
from responder.web.shapes import details, told
from tests.contract.cli_parts import served
from tests.contract.store_operations import Does
from tests.contract.web_parts import START, alert, notification, serving


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration here, nobody's token, 100 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("RESPONDER_URL", "RESPONDER_TOKEN", "RESPONDER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


def offline(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """A command line that needs no server."""
    capsys.readouterr()
    status = run(list(words))
    seen = capsys.readouterr()
    return status, seen.out, seen.err


def dead_message(incident: str) -> Does[None]:
    row = MessageRow("m1", incident, 0, Lane.THREAD, "slack", "story/closed", "k", START, START, state=Sending.DEAD)
    refused = Writes(messages=(row,))
    return Does("dead", lambda state: Change(refused, None), Keys())


# --- post-mortem ------------------------------------------------------------------------------------------------------


async def test_a_post_mortem_is_drafted_from_the_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path, capsys) as desk:
        incident = await desk.opened()
        await desk.office.run_on(Outcome.OK)
        await desk.run("ack", incident, "--note", "on it", by="anna")
        drafted = await desk.run("incident", incident, "--postmortem")
        assert drafted.status == 0, drafted.err
        assert drafted.out.startswith("# Post-mortem: Cut\n")
        assert "| anna | anna has acknowledged: on it" in drafted.out
        assert "0.25 → 0.1" in drafted.out
        assert "In force since" in drafted.out
        values = (await desk.run("incident", incident, "--postmortem", "--json")).json
        assert [a["outcome"] for a in values["actions"]] == ["ok"]
        assert [c["value"] for c in values["in_force"]] == [0.1]


async def test_a_post_mortem_may_have_a_template_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "mine" / "report"
    own.mkdir(parents=True)
    (own / "postmortem.txt.j2").write_text("ours: {{ title }}\n")
    async with served(tmp_path, capsys) as desk:
        incident = await desk.opened()
        assert (await desk.run("incident", incident, "--postmortem", "--templates", "mine")).out == "ours: Cut\n"
        (own / "postmortem.txt.j2").write_text("\n{{ titel }}\n")
        broken = await desk.run("incident", incident, "--postmortem", "--templates", "mine")
        assert (broken.status, broken.out) == (1, "")
        assert "'titel' is undefined (line 2" in broken.err
        assert (await desk.run("incident", incident, "--templates", "mine")).status == 2


# --- hand-over --------------------------------------------------------------------------------------------------------


async def test_the_hand_over_tells_what_is_open_unknown_and_dead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, capsys) as desk:
        assert "NO OPEN INCIDENTS" in (await desk.run("handover")).out
        await desk.opened("CacheDown")
        incident = await desk.opened()
        await desk.office.run_on(Outcome.UNKNOWN)
        await desk.office.store.submit(dead_message(incident))
        await desk.run("pause", "--reason", "maintenance")
        told = await desk.run("handover")
        assert told.status == 0, told.err
        assert "2 OPEN INCIDENTS" in told.out
        assert "AUTOMATION IS PAUSED by otto" in told.words
        assert "waits: a person to do step look" in told.words
        assert f"responder settle {incident[:8]} --attempt" in told.words
        assert "risk-api/kelly_fraction" in told.out
        assert "1 dead message" in told.out
        found = (await desk.run("handover", "--json")).json
        assert found == (await desk.office.call("GET", "/handover?since=12h", "otto")).json()
        assert [lock["unknown"] for lock in found["locks"]] == [True]


async def test_the_hand_over_names_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path, capsys) as desk:
        await desk.opened()
        broken = tuple(ScopeRow(name, "{", desk.office.time) for name in (PAUSE, "lock:redis:mymaster"))
        await desk.office.store.submit(Does("broken", lambda state: Change(Writes(scopes=broken), None)))
        told = (await desk.run("handover")).words
        assert "AUTOMATION IS PAUSED by responder" in told
        assert "its row in the store cannot be read; `resume` mends it" in told
        assert "CANNOT BE READ: the store's row lock:redis:mymaster" in told
        assert (await desk.run("handover", "--json")).json["unreadable"] == ["lock:redis:mymaster", PAUSE]


async def test_the_hand_over_tells_a_change_in_force_and_its_reminder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, capsys) as desk:
        await desk.opened()
        await desk.office.run_on(Outcome.OK)
        desk.office.time += 3 * HOUR
        told = (await desk.run("handover")).words
        assert "0.1, was 0.25, 3h 00m" in told
        assert "responder restore" in told


@pytest.mark.parametrize("since", ["yesterday", "8d", "2031-01-01T00:00:00Z", "1970-01-01T00:00:00Z"])
async def test_a_shift_that_cannot_be_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], since: str) -> None:
    async with served(tmp_path, capsys) as desk:
        ran = await desk.run("handover", "--since", since)
        assert (ran.status, ran.out) == (2, "")
        assert "since" in ran.err


# --- preview ----------------------------------------------------------------------------------------------------------


async def test_a_journal_folds_to_the_incident_that_the_server_has(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        await office.post(notification(alert()))
        await office.run_on(Outcome.OK)
        incident = office.turns[0].incident.id
        answer = (await office.call("GET", f"/incidents/{incident[:4]}/journal", "rita")).json()
        row = await office.store.incident(incident)
        assert row is not None
        events = [Event.model_validate(event) for event in answer["events"]]
        assert fold(events).runs == row.fold.runs
        assert len(answer["agenda"]) == len(row.fold.agenda)
        assert (await office.call("GET", f"/incidents/{incident}/journal")).status_code == 401


async def test_a_template_is_rendered_over_an_incident_and_its_saved_answer_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, capsys) as desk:
        incident = await desk.opened()
        await desk.office.run_on(Outcome.OK)
        live = await desk.run("preview", "slack/root.mrkdwn.j2", "--incident", incident)
        assert live.status == 0, live.err
        assert "# " in live.out
        answered = (await desk.run("incident", incident, "--json")).out
        await asyncio.to_thread(Path("saved.json").write_text, answered)
        saved = await desk.run("preview", "slack/root.mrkdwn.j2", "--incident", "saved.json")
        assert saved.out == live.out
        answer = (await desk.run("preview", "root", "--incident", incident, "--json")).json
        assert (answer["incident"], "text/root.txt.j2" in [m["template"] for m in answer["messages"]]) == (
            incident,
            True,
        )


def test_a_saved_answer_is_read_back_as_it_was_recorded() -> None:
    late = LevelReached(round=0, index=0, name="L1", page=("desk",), why="late", late=90 * SECOND)
    recorded = journal("unfixed")
    recorded.append(recorded[-1].model_copy(update={"seq": recorded[-1].seq + 1, "fact": late}))
    incident = fold(recorded)
    answer = {**details(incident, START), "events": [told(e, incident, lambda name, values: "") for e in recorded]}
    read = story_of(json.loads(json.dumps(answer)), "a file")
    assert [event.fact for event in read.events] == [event.fact for event in recorded]
    assert read.incident.runs == incident.runs


@pytest.mark.parametrize("sample", ["fixed", "unfixed", "unknown"])
@pytest.mark.parametrize("kind", ["root", "page"])
def test_every_sample_can_be_looked_at(sample: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = offline(capsys, "preview", kind, "--sample", sample)
    assert (status, err) == (0, "")
    assert "--- email/" in out
    assert "VaR above 90 % of its limit" in out


def test_slack_is_shown_as_block_kit_builder_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = offline(capsys, "preview", "root", "--sample", "unfixed", "--as", "slack")
    found: Any = json.loads(out)
    assert (status, found["blocks"][0]["type"]) == (0, "header")


def test_a_page_is_shown_as_it_was_when_somebody_was_paged(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = offline(capsys, "preview", "email/page.txt.j2", "--sample", "unfixed")
    assert "Level L2 is told" in out
    assert "taken over" not in out


def test_a_mistake_in_a_template_says_file_line_cause_and_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "mine" / "slack"
    own.mkdir(parents=True)
    (own / "root.mrkdwn.j2").write_text("# {{ title }}\n\n{{ titel }}\n")
    for more in ([], ["--as", "slack"]):
        words = ["preview", "slack/root.mrkdwn.j2", "--sample", "fixed", "--templates", "mine", *more]
        status, out, err = offline(capsys, *words)
        assert (status, out) == (1, "")
        assert "mine/slack/root.mrkdwn.j2:3: 'titel' is undefined" in err
        assert "    {{ titel }}" in err
        assert "did you mean title?" in err
    (own / "root.mrkdwn.j2").write_text("{% if title %}")
    status, _, err = offline(capsys, "preview", "slack/root.mrkdwn.j2", "--sample", "fixed", "--templates", "mine")
    assert (status, "mine/slack/root.mrkdwn.j2:1:" in err) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["slack/rot.mrkdwn.j2", "--sample", "fixed"], "did you mean slack/root.mrkdwn.j2?"),
        (["root", "--sample", "broken"], "there are fixed, unfixed or unknown"),
        (["root"], "--incident ID, --incident FILE or --sample NAME"),
        (["root", "--sample", "fixed", "--incident", "x"], "--incident ID, --incident FILE or --sample NAME"),
        (["root", "--sample", "fixed", "--as", "fax"], "no notifier is of kind 'fax'"),
        (["root", "--sample", "fixed", "--templates", "nowhere"], "there is no folder nowhere"),
        (["story/relapsed.txt.j2", "--sample", "fixed"], "sample fixed has no event relapsed"),
        (["root", "--incident", "bad.json"], "responder incident ID --json > FILE"),
        (["root", "--incident", "no.json"], "it is not JSON"),
    ],
)
def test_what_is_asked_wrongly_is_told_with_the_cure(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.json").write_text('{"events": []}')
    Path("no.json").write_text("no")
    status, out, err = offline(capsys, "preview", *words)
    assert (status, out) == (2, "")
    assert said in err


# --- dead letters -----------------------------------------------------------------------------------------------------


async def test_dead_letters_are_listed_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path, capsys) as desk:
        assert "NO DEAD LETTERS" in (await desk.run("dead-letters")).out
        letter = (await desk.office.post(b'{"not": \x1b[2J"an alert"}')).json()["dead_letter"]
        incident = await desk.opened()
        await desk.office.store.submit(dead_message(incident))
        listed = await desk.run("dead-letters")
        assert "1 DEAD LETTER" in listed.out
        assert letter in listed.out
        assert "slack" in listed.out
        assert (await desk.run("dead-letters", "--json")).json["messages"][0]["incident"] == incident
        shown = await desk.run("dead-letters", "show", letter)
        assert shown.status == 0, shown.err
        assert '{"not": \ufffd[2J"an alert"}' in shown.out
        assert (await desk.run("dead-letters", "show", letter, "--json")).json["body"] == '{"not": \x1b[2J"an alert"}'


async def test_a_body_needs_a_role_and_a_list_does_not(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        letter = (await office.post(b"\xff\xfe")).json()["dead_letter"]
        assert (await office.call("GET", "/dead-letters", "rita")).status_code == 200
        for by, status in ((None, 401), ("nobody", 403), ("rita", 403), ("anna", 200)):
            assert (await office.call("GET", f"/dead-letters/{letter}", by)).status_code == status
        answer = (await office.call("GET", f"/dead-letters/{letter}", "anna")).json()
        assert (answer["encoding"], answer["body"]) == ("base64", "//4=")
        assert (await office.call("GET", "/dead-letters?state=odd", "anna")).status_code == 400
        assert (await office.call("GET", "/dead-letters/nothere", "anna")).status_code == 404


async def test_a_dead_message_of_a_closed_incident_matters_no_more(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        await office.store.submit(dead_message("gone"))
        assert (await office.call("GET", "/dead-letters", "anna")).json()["messages"] == []
        found = (await office.call("GET", "/dead-letters?state=all", "anna")).json()["messages"]
        assert [message["id"] for message in found] == ["m1"]


async def test_half_a_command_is_told_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["show"], ["print", "x"]):
        status, _, err = offline(capsys, "dead-letters", *words)
        assert (status, "responder dead-letters show ID" in err) == (2, True)


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["incident", "zzz", "--postmortem"], ["preview", "root", "--incident", "zzz"]], ids=["draft", "preview"]
)
async def test_an_unknown_incident_says_where_the_right_ones_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    async with served(tmp_path, capsys) as desk:
        ran = await desk.run(*words)
        assert (ran.status, ran.out) == (2, "")
        assert "`responder incidents` lists them" in ran.err


@pytest.mark.parametrize(
    "words",
    [["incident", "x", "--postmortem"], ["handover"], ["dead-letters"], ["preview", "root", "--incident", "x"]],
    ids=lambda words: words[0],
)
def test_a_server_that_is_not_there(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    status, out, err = offline(capsys, *words, "--url", f"http://127.0.0.1:{port}")
    assert (status, out) == (1, "")
    assert "start it with `responder serve`" in err
