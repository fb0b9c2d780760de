"""What a running server received, recorded, read again and driven into a replay: the commands over loopback."""

from __future__ import annotations

import asyncio
import io
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from responder.cli import driving
from responder.cli.client import Failed, Server, Token
from responder.cli.driving import Drive, Pace
from responder.cli.recorded import from_paths, from_server, moment_of
from responder.recordings import Recording
from responder.timing import HOUR, MINUTE, SECOND
from responder.wall_clock import wall_clock
from tests.contract.cli_parts import Desk, served
from tests.contract.web_parts import START, alert, notification


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration here, nobody's token."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("RESPONDER_URL", "RESPONDER_TOKEN", "RESPONDER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def text(folder: str, name: str) -> str:
    return Path(folder, name).read_text()


def write(folder: str, name: str, content: str) -> None:
    Path(folder, name).write_text(content)


def modes(folder: str) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in Path(folder).iterdir()}


def becomes_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def secretive() -> Any:
    """A notification that holds what it should not."""
    told = alert(password="hunter2", symbol="BTC")
    told["annotations"]["runbook_url"] = "https://anna:hunter2@wiki/var"
    return notification(told)


# --- record -----------------------------------------------------------------------------------------------------------


async def test_each_notification_becomes_a_file_without_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, capsys) as desk:
        await desk.office.post(notification(alert("CacheDown")))
        desk.office.time += MINUTE + 500_000
        await desk.office.post(secretive())
        ran = await desk.run("record", "--to", "kept", by="anna")
        assert (ran.status, ran.err) == (0, "")
        first, second = names(Path("kept"))
        assert (first[:24], second[:24]) == ("20270115T080000.000000Z-", "20270115T080100.500000Z-")
        assert "hunter2" not in ran.out + text("kept", second)
        assert ran.out.startswith("2 notifications written to kept\n2 values redacted:\n")
        assert f"  {second}: alerts[0].labels.password: its name says that it is secret" in ran.out
        assert modes("kept") == {0o600}
        kept = json.loads(text("kept", first))
        assert kept["notification"] == notification(alert("CacheDown"))
        assert kept["recorded"]["receiver"] == "team.risk"
        (identity,) = json.loads(text("kept", second))["notification"]["alerts"]
        assert identity["fingerprint"] == secretive()["alerts"][0]["fingerprint"]


async def test_recording_again_writes_what_is_new_and_keeps_what_was_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, capsys) as desk:
        await desk.opened("CacheDown")
        await desk.run("record", "--to", "kept")
        (first,) = names(Path("kept"))
        desk.office.time += MINUTE
        await desk.opened()
        ran = await desk.run("record", "--to", "kept")
        assert (ran.status, ran.out) == (0, "1 notification written to kept\n1 notification there already\n")
        write("kept", first, "edited")
        ran = await desk.run("record", "--to", "kept", "--json")
        assert (ran.status, ran.json["kept"], ran.json["written"], ran.json["there_already"]) == (1, [first], [], 1)
        assert text("kept", first) == "edited"
        assert "was kept: move it away" in (await desk.run("record", "--to", "kept")).out


async def test_a_time_or_an_incident_chooses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path, capsys) as desk:
        incident = await desk.opened("CacheDown")
        for _ in range(3):
            desk.office.time += MINUTE
            await desk.opened()
        times = ["--since", "2027-01-15T08:01:00Z", "--until", "2027-01-15T08:03:00Z"]
        assert (await desk.run("record", "--to", "timed", *times, "--json")).status == 0
        assert [name[:15] for name in names(Path("timed"))] == ["20270115T080100", "20270115T080200"]
        assert (await desk.run("record", "--to", "one", "--incident", incident[:5])).status == 0
        assert [name[:15] for name in names(Path("one"))] == ["20270115T080000"]
        none = await desk.run("record", "--to", "none", "--since", "2027-01-16T00:00:00Z")
        assert (none.status, none.out) == (0, "no notifications written to none\n")


async def test_many_pages_are_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("responder.cli.recorded.PAGE", 2)
    async with served(tmp_path, capsys) as desk:
        for _ in range(5):
            await desk.opened()
        assert (await desk.run("record", "--to", "kept")).out.startswith("5 notifications written")
        assert len(names(Path("kept"))) == 5


@pytest.mark.parametrize(
    ("words", "by", "status", "said"),
    [
        (["--since", "yesterday"], "otto", 2, "neither a duration such as 1h30m nor a time"),
        (["--until", "x"], "otto", 2, "--until"),
        (["--follow", "--until", "1h"], "otto", 2, "leave --until out"),
        (["--incident", "nothere"], "otto", 2, "there is no such incident"),
        ([], "rita", 2, "may not read notifications: it needs the role operator or responder"),
        ([], None, 2, "must know who asks"),
        (["--to", "responder.db"], "otto", 2, "cannot be made"),
    ],
)
async def test_wrong_use_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], by: str | None, status: int, said: str
) -> None:
    async with served(tmp_path, capsys) as desk:
        ran = await desk.run("record", *words, by=by)
        assert (ran.status, said in " ".join(ran.err.replace("│", " ").split())) == (status, True), ran.err


async def test_what_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path, capsys) as desk:
        await desk.opened()
        await desk.run("record", "--to", "kept")
        (name,) = names(Path("kept"))
        becomes_a_folder(Path("kept", name))
        ran = await desk.run("record", "--to", "kept")
        assert (ran.status, f"kept/{name}: cannot be written" in ran.err) == (1, True)


async def test_what_comes_is_followed_until_interrupted_even_while_the_server_is_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path, capsys) as desk:
        loop = asyncio.get_running_loop()

        def comes(name: str) -> Callable[[], Any]:
            def post() -> None:
                desk.office.time += MINUTE
                asyncio.run_coroutine_threadsafe(desk.office.post(notification(alert(name))), loop).result(30)

            return post

        def away() -> None:
            monkeypatch.setattr(Server, "get", _unreachable)

        def interrupt() -> None:
            raise KeyboardInterrupt

        get = Server.get
        back = lambda: monkeypatch.setattr(Server, "get", get)  # noqa: E731
        happens = iter([comes("B"), lambda: None, comes("C"), away, lambda: None, back, interrupt])
        monkeypatch.setattr("responder.cli.record.time.sleep", lambda seconds: next(happens)())
        await desk.opened("A")
        ran = await desk.run("record", "--to", "kept", "--follow")
        assert ran.status == 0
        assert ran.out.splitlines()[-1] == "3 notifications written to kept"
        assert ran.err.count("nobody is there; asking again") == 1


def _unreachable(self: Server, path: str, **query: str | None) -> Any:
    raise Failed("nobody is there", 1)


# --- what replay reads ------------------------------------------------------------------------------------------------


async def test_recordings_are_read_from_the_folder_that_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, capsys) as desk:
        for name in ("A", "B"):
            await desk.opened(name)
            desk.office.time += MINUTE
        await desk.run("record", "--to", "kept")
        found = from_paths(["kept"])
        assert [r.at for r in found] == [START, START + MINUTE]
        assert [json.loads(r.body)["alerts"][0]["labels"]["alertname"] for r in found] == ["A", "B"]
        assert [r.name for r in found] == [f"kept/{name}" for name in names(Path("kept"))]


def test_files_folders_and_standard_input_are_read_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("2.json", "1.jsonl", ".hidden.json", "notes.txt"):
        (folder / name).write_text(json.dumps({"n": name}))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'[{"n": "a"}, {"n": "b"}]')))
    found = from_paths(["-", str(folder / "notes.txt"), str(folder)])
    assert [json.loads(r.body)["n"] for r in found] == ["a", "b", "notes.txt", "1.jsonl", "2.json"]
    assert [r.name for r in found[:2]] == ["standard input[1]", "standard input[2]"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("missing.json", "missing.json: cannot be read (No such file or directory); check its path"),
        ("severity=critical", "labels need --alert NAME before them"),
        ("empty", "empty: no *.json or *.jsonl in it; `responder record --to empty`"),
        ("bad.json", "bad.json:1:2: not JSON"),
    ],
)
def test_what_cannot_be_read_names_the_file_and_the_cure(tmp_path: Path, word: str, said: str) -> None:
    Path("empty").mkdir()
    Path("bad.json").write_text("{")
    with pytest.raises(typer.BadParameter) as raised:
        from_paths([word])
    assert said in str(raised.value)


async def test_what_a_server_stored_is_read_as_it_came(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path, capsys) as desk:
        await desk.office.post(secretive())
        incident = desk.office.turns[-1].incident.id
        desk.office.time += MINUTE
        await desk.opened("CacheDown")
        monkeypatch.setenv("RESPONDER_URL", desk.url)
        monkeypatch.setenv("RESPONDER_TOKEN", "anna-token")

        async def found(since: str | None, incident: str | None) -> list[Recording]:
            return await asyncio.to_thread(from_server, None, since=since, incident=incident)

        first, second = await found(None, None)
        assert (first.at, json.loads(first.body)) == (START, secretive())
        assert await found(None, incident) == [first]
        assert await found("2027-01-15T08:00:30Z", None) == [second]


def test_a_duration_counts_from_now() -> None:
    before = wall_clock()
    found = moment_of("1h")
    assert found is not None
    assert before - HOUR <= found <= wall_clock() - HOUR
    assert moment_of("2027-01-15T08:00:00+01:00") == START - HOUR
    assert moment_of("9999y") == 0
    assert moment_of(None) is None


# --- driving ----------------------------------------------------------------------------------------------------------


class Watch:
    """Time that passes only by waiting. `meanwhile` is what happens then."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.seconds = 0.0
        self.waits: list[float] = []
        self.meanwhile = meanwhile

    def pace(self) -> Pace:
        return Pace(lambda: self.seconds, self.wait)

    def wait(self, seconds: float) -> None:
        self.seconds += seconds
        self.waits.append(seconds)
        self.meanwhile()


def recorded(name: str, at: int | None, **parts: Any) -> Recording:
    return Recording(name, at, json.dumps(notification(alert(name, **parts))).encode())


async def driven(
    desk: Desk, recordings: list[Recording], speed: float | None, watch: Watch | None = None, by: str = "otto"
) -> list[dict[str, Any]]:
    drive = Drive(Server(desk.url, Token(f"{by}-token", "test")), "storm", (watch or Watch()).pace())
    return await asyncio.to_thread(drive.play, recordings, speed)


async def test_recordings_are_driven_in_their_order_and_what_follows_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, capsys) as desk:
        await desk.opened()
        watch = Watch(lambda: setattr(desk.office, "time", desk.office.time + 1))
        told = await driven(desk, [recorded("CacheDown", 7 * SECOND), recorded("VaRBreach", 3 * SECOND)], None, watch)
        assert [i["target"] for i in told] == ["cache", "risk-api/kelly_fraction"]
        assert {i["namespace"] for i in told} == {"replay/storm"}
        assert told[0]["events"][0]["kind"] == "opened"
        assert told[0]["runs"][0]["mode"] == "observe"
        assert watch.waits[:2] == [0.0, 0.0]
        assert driving.QUIET <= watch.seconds < driving.QUIET + 1


async def test_the_distance_of_recordings_is_waited_for_at_the_speed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, capsys) as desk:
        watch = Watch()
        times = [0, 60 * SECOND, 50 * SECOND, None, 90 * SECOND]
        await driven(desk, [recorded("CacheDown", at) for at in times], 10, watch)
        assert watch.waits[:5] == [0.0, 6.0, 0.0, 0.0, 0.0]


async def test_it_is_looked_until_nothing_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "LONGEST", 8.0)
    async with served(tmp_path, capsys) as desk:
        loop, notes = asyncio.get_running_loop(), iter(range(1_000))

        def talk() -> None:
            """Somebody says something every second, for a while, and then for ever."""
            if watch.seconds % 1 == 0 and watch.seconds <= until and desk.office.turns:
                found = desk.office.turns[-1].incident.id
                said = desk.office.call("POST", f"/incidents/{found}/ack", f"{who[next(notes) % 2]}", {"note": "x"})
                asyncio.run_coroutine_threadsafe(said, loop).result(30)

        who, until, watch = ("anna", "otto"), 5.0, Watch(talk)
        told = await driven(desk, [recorded("CacheDown", None)], None, watch)
        assert 5 + driving.QUIET <= watch.seconds < 5 + driving.QUIET + 1
        assert [e["kind"] for e in told[0]["events"]].count("acknowledged") >= 5
        until, watch = float("inf"), Watch(talk)
        await driven(desk, [recorded("Other", None)], None, watch)
        assert driving.LONGEST <= watch.seconds < driving.LONGEST + 1


async def test_what_has_closed_is_told_at_once_and_only_the_first_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, capsys) as desk:
        both = [recorded("Nobody", None), recorded("Nobody", None, firing=False, ends=START)]
        watch = Watch()
        (told,) = await driven(desk, both, None, watch)
        assert (told["status"], watch.seconds) == ("closed", 0.0)
        (again,) = await driven(desk, both, None)
        assert again["id"] != told["id"]


async def test_a_notification_that_is_refused_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path, capsys) as desk:
        with pytest.raises(Failed, match=r"bad\.json: not understood, and so a dead letter if it were live"):
            await driven(desk, [Recording("bad.json", None, b"{}")], None)
        with pytest.raises(Failed, match="VaRBreach: anna may not replay notifications: it needs the role operator"):
            await driven(desk, [recorded("VaRBreach", None)], None, by="anna")
