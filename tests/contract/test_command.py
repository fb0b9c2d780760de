"""Executables of a folder, really run: arguments as they are, a clean environment, limits, and who may have written."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from responder import command_processes
from responder.actions import ACTIONS
from responder.connections import Connections, open_transport
from responder.perform import Ended, Performer
from responder.recorded import Outcome, ProbeAnswer
from responder.runbook import Runbook, Step
from responder.services import CommandService
from responder.timing import SECOND
from responder.wall_clock import wall_clock

RUNBOOK = Runbook(runbook="feed", title="Feed", target="feed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Harmless stand-ins of the platform's scripts."""
    scripts = tmp_path / "scripts"
    scripts.mkdir(mode=0o755)
    return scripts


def script(folder: Path, name: str, body: str, mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(mode)
    return path


class Scripts:
    def __init__(self, folder: Path, **fields: Any) -> None:
        service = CommandService(folder=str(folder), **fields)
        self.performer = Performer(
            ACTIONS, Connections({"scripts": service}, open_transport).connect, {}, wall_clock, _no_wait
        )

    async def run(self, command: str, timeout_us: int = 10 * SECOND, **with_: Any) -> Ended:
        step = Step.model_validate(
            {"id": "it", "action": "command.run", "with": {"service": "scripts", "command": command, **with_}}
        )
        plan = await self.performer.prepare(RUNBOOK, step, {})
        return await self.performer.act("command.run", plan, "inc1.run1.it.1", timeout_us)


async def _no_wait(_seconds: float) -> None:
    raise AssertionError("nothing here waits")


# --- what runs --------------------------------------------------------------------------------------------------------


async def test_arguments_reach_the_program_as_they_are(folder: Path) -> None:
    script(folder, "show.sh", 'for a in "$@"; do printf \'<%s>\' "$a"; done')
    hostile = ["$(touch owned)", "; touch owned", "a b", "*", "`id`", "a'b\"c"]
    ended = await Scripts(folder).run("show.sh", args=["--flag"], values=hostile)
    assert ended.output == {"exit": 0, "output": "<--flag>" + "".join(f"<{v}>" for v in hostile)}
    assert os.listdir(folder) == ["show.sh"]


async def test_a_value_is_never_an_option(folder: Path) -> None:
    for bad in ("--confirm", "-x", "", "two\nlines"):
        with pytest.raises(ValueError, match=r"begin with `-`|printed, on one line"):
            ACTIONS["command.run"].model_validate({"service": "s", "command": "a.sh", "values": [bad]})


@pytest.mark.parametrize("name", ["../up.sh", "/bin/sh", "a b", "-x", ".hidden", ""])
def test_a_name_is_one_of_the_folder(name: str) -> None:
    with pytest.raises(ValueError, match="String should match pattern"):
        ACTIONS["command.run"].model_validate({"service": "s", "command": name})


async def test_the_environment_is_clean(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISK_API_TOKEN", "s3cret")
    monkeypatch.setenv("REGION", "mumbai")
    script(folder, "env.sh", "env | grep -v '^_=\\|^PWD=\\|^SHLVL=\\|^OLDPWD=' | sort")
    ended = await Scripts(folder, passes=["REGION"], environment={"DESK": "nse"}).run("env.sh")
    assert isinstance(ended.output, dict)
    names = [line.partition("=")[0] for line in str(ended.output["output"]).splitlines()]
    assert names == ["DESK", "HOME", "LANG", "PATH", "REGION", "RESPONDER_KEY"]
    assert "RESPONDER_KEY=inc1.run1.it.1" in str(ended.output["output"])


async def test_printed_json_can_be_expected_and_long_output_is_cut(folder: Path) -> None:
    script(folder, "json.sh", 'echo \'{"feed": "backup", "lag_ms": 12}\'')
    ended = await Scripts(folder).run("json.sh")
    assert ended.output == {"exit": 0, "output": {"feed": "backup", "lag_ms": 12}}
    script(folder, "long.sh", "i=0; while [ $i -lt 5000 ]; do echo 'much is said here'; i=$((i+1)); done")
    long = await Scripts(folder, max_output_bytes=300).run("long.sh")
    assert isinstance(long.output, dict)
    assert len(str(long.output["output"])) <= 300


@pytest.mark.parametrize(
    ("code", "with_", "outcome"),
    [
        (0, {}, Outcome.OK),
        (3, {"ok": [0, 3]}, Outcome.OK),
        (75, {}, Outcome.TEMPORARY),
        (64, {}, Outcome.PERMANENT),
        (1, {}, Outcome.UNKNOWN),
        (1, {"permanent": [1]}, Outcome.PERMANENT),
        (1, {"reads": True}, Outcome.TEMPORARY),
        (77, {"reads": True}, Outcome.PERMANENT),
    ],
)
async def test_what_an_exit_code_means(folder: Path, code: int, with_: dict[str, Any], outcome: Outcome) -> None:
    script(folder, "end.sh", f"echo 'broker says no' >&2; exit {code}")
    ended = await Scripts(folder).run("end.sh", **with_)
    assert (ended.outcome, f"end.sh ended with {code} (broker says no)" in ended.detail) == (outcome, True)


async def test_a_program_that_was_killed_leaves_it_open(folder: Path) -> None:
    script(folder, "killed.sh", "kill -9 $$")
    ended = await Scripts(folder).run("killed.sh")
    assert ended.outcome is Outcome.UNKNOWN
    assert "signal 9; the change may have happened" in ended.detail


# --- time -------------------------------------------------------------------------------------------------------------


async def test_at_its_time_the_whole_group_is_killed_and_the_outcome_is_unknown(folder: Path) -> None:
    script(folder, "slow.sh", 'sleep 300 & echo $! > "$0.child"; echo $$ > "$0.pid"; wait')
    ended = await Scripts(folder).run("slow.sh", timeout_us=SECOND)
    assert ended.outcome is Outcome.UNKNOWN
    assert "it may have happened" in ended.detail
    for name in ("slow.sh.child", "slow.sh.pid"):
        assert not await alive(int((folder / name).read_text()))


@pytest.mark.parametrize(("reads", "outcome"), [(True, Outcome.OK), (False, Outcome.UNKNOWN)])
async def test_what_a_program_leaves_behind_is_killed_and_told_and_no_success_of_a_change(
    folder: Path, reads: bool, outcome: Outcome
) -> None:
    script(folder, "leaves.sh", 'sleep 300 & echo $! > "$0.child"; echo done')
    began = time.monotonic()
    ended = await Scripts(folder).run("leaves.sh", reads=reads)
    assert ended.outcome is outcome
    assert "what it had left running was killed" in ended.detail
    assert ("have it wait for what it starts" in ended.detail) is not reads
    assert time.monotonic() - began < 9
    assert not await alive(int((folder / "leaves.sh.child").read_text()))


async def test_what_has_its_output_elsewhere_goes_on(folder: Path) -> None:
    script(folder, "starts.sh", 'sleep 300 >/dev/null 2>&1 & echo $! > "$0.child"; echo started')
    ended = await Scripts(folder).run("starts.sh")
    pid = int((folder / "starts.sh.child").read_text())
    try:
        assert (ended.outcome, ended.output) == (Outcome.OK, {"exit": 0, "output": "started"})
        assert state(pid) not in {"", "Z"}
    finally:
        os.kill(pid, signal.SIGKILL)


async def test_an_output_that_a_runaway_holds_is_not_waited_for(folder: Path) -> None:
    """It left its group, so it cannot be killed with it."""
    script(folder, "away.sh", 'setsid sleep 300 & echo $! > "$0.child"; sleep 0.3; echo done')
    began = time.monotonic()
    ended = await Scripts(folder).run("away.sh")
    try:
        assert (ended.outcome, time.monotonic() - began < 5) == (Outcome.UNKNOWN, True)
    finally:
        os.kill(int((folder / "away.sh.child").read_text()), signal.SIGKILL)


async def test_a_program_that_does_not_die_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does that the kernel holds."""
    monkeypatch.setattr(command_processes, "_kill", lambda _group: None)
    monkeypatch.setattr(command_processes, "KILLED", 0.2)
    script(folder, "held.sh", 'echo $$ > "$0.pid"; exec sleep 300')
    began = time.monotonic()
    ended = await Scripts(folder).run("held.sh", timeout_us=SECOND)
    assert (ended.outcome, time.monotonic() - began < 5) == (Outcome.UNKNOWN, True)
    pid = int((folder / "held.sh.pid").read_text())
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    while state(pid):
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.1)  # noqa: TID251
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.1)  # noqa: TID251  (the loop hears of it)


async def alive(pid: int) -> bool:
    """Whether a process still runs; whoever was killed may be seen for a moment."""
    for _ in range(50):
        if state(pid) in {"", "Z"}:
            return False
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.1)  # noqa: TID251
    return True


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


# --- probes -----------------------------------------------------------------------------------------------------------


async def test_a_probe_tells_by_its_exit_code(folder: Path) -> None:
    script(folder, "switch.sh", 'echo "$2" > "$0.feed"; exit 1')
    script(folder, "verify.sh", "grep -q backup switch.sh.feed 2>/dev/null || exit 1")
    scripts = Scripts(folder)
    given = {"service": "scripts", "command": "switch.sh", "args": ["--feed", "backup"]}
    step = Step.model_validate(
        {"id": "it", "action": "command.run", "with": {**given, "probe": {"command": "verify.sh"}}}
    )
    plan = await scripts.performer.prepare(RUNBOOK, step, {})
    assert (await scripts.performer.probe("command.run", plan, 5 * SECOND)).answer is ProbeAnswer.NOT_APPLIED
    assert (await scripts.performer.act("command.run", plan, "k", 5 * SECOND)).outcome is Outcome.UNKNOWN
    assert (await scripts.performer.probe("command.run", plan, 5 * SECOND)).answer is ProbeAnswer.APPLIED
    assert (await scripts.performer.prepare(RUNBOOK, step, {})).nothing_to_do == "already so: verify.sh ended with 0"
    script(folder, "verify.sh", "exit 2")
    assert (await scripts.performer.probe("command.run", plan, 5 * SECOND)).answer is ProbeAnswer.UNCLEAR


# --- who may have written it ------------------------------------------------------------------------------------------


async def refused(folder: Path, command: str = "it.sh") -> str:
    ended = await Scripts(folder).run(command)
    assert ended.outcome is Outcome.PERMANENT
    return ended.detail


async def test_what_others_can_write_is_refused(folder: Path) -> None:
    path = script(folder, "it.sh", "true", 0o757)
    assert f"chmod go-w {path}" in await refused(folder)
    path.chmod(0o775)
    assert "can be written by others" in await refused(folder)
    path.chmod(0o755)
    os.chmod(folder, 0o777)
    assert f"chmod go-w {folder}" in await refused(folder)
    os.chmod(folder, 0o755)
    assert (await Scripts(folder).run("it.sh")).outcome is Outcome.OK


async def test_a_link_that_leads_out_is_refused_and_one_within_is_not(folder: Path) -> None:
    script(folder, "it.sh", "true")
    script(folder.parent, "outside.sh", "true")
    (folder / "out.sh").symlink_to(folder.parent / "outside.sh")
    (folder / "in.sh").symlink_to("it.sh")
    assert "leads out of the folder" in await refused(folder, "out.sh")
    assert (await Scripts(folder).run("in.sh")).outcome is Outcome.OK


async def test_what_is_not_there_or_cannot_be_run_is_told(folder: Path) -> None:
    assert "No such file" in await refused(folder, "gone.sh")
    plain = script(folder, "plain.sh", "true", stat.S_IRUSR | stat.S_IWUSR)
    assert f"{plain} is no file that can be run" in await refused(folder, "plain.sh")
    bad = folder / "bad.sh"
    bad.write_text("#!/no/such/interpreter\n")
    bad.chmod(0o755)
    assert "check the file and the program in its first line" in await refused(folder, "bad.sh")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_a_file_of_another_user_is_refused(folder: Path) -> None:
    os.chown(script(folder, "it.sh", "true"), 65534, 65534)
    assert "belongs to another user" in await refused(folder)
