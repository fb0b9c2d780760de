"""The steps of the shipped data-feed-down as real processes: what its scripts end with, and one that never ends.

Which step follows on which outcome is played in tests/acceptance; here the outcomes are those of real processes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from responder.actions import ACTIONS
from responder.connections import Connections, open_transport
from responder.perform import Ended, Performer
from responder.recorded import Outcome
from responder.runbook import Runbook, Step
from responder.services import CommandService
from responder.wall_clock import wall_clock
from tests.acceptance.catalogues import loaded
from tests.system.patience import eventually

SCRIPTS = {
    "switch_data_feed.sh": 'echo "$2" > feed',
    "verify_data_feed.sh": 'test "$(cat feed)" = backup && ! test -e backup_down',
    "halt_trading.sh": 'echo "$2" >> halted',
    "check_circuit_breakers.sh": "! test -e halted",
    "check_data_feed_health.sh": "echo primary: no prices; exit 1",
    "check_dependencies.sh": "echo ok",
}
"""Harmless stand-ins; what they do is a file beside them."""


@dataclass
class Platform:
    """The scripts of the platform, and the runbook that runs them."""

    folder: Path

    def replaced(self, name: str, body: str) -> None:
        """Another body for a script."""
        path = self.folder / name
        path.write_text(f'#!/bin/sh\ncd "$(dirname "$0")"\n{body}\n')
        path.chmod(0o755)

    def read(self, name: str) -> str:
        """What a script has left."""
        path = self.folder / name
        return path.read_text().strip() if path.exists() else ""

    async def done(self, step_id: str) -> Ended:
        """One step of the shipped runbook, with its own timeout."""
        performer, step = self._doing(step_id)
        plan = await performer.prepare(self._runbook, step, {})
        return await performer.act("command.run", plan, f"inc1.run1.{step_id}.1", step.timeout)

    def _doing(self, step_id: str) -> tuple[Performer, Step]:
        connections = Connections({"scripts": CommandService(folder=str(self.folder))}, open_transport)
        return Performer(ACTIONS, connections.connect, {}, wall_clock, _no_wait), self._runbook.step(step_id)

    @property
    def _runbook(self) -> Runbook:
        return loaded("multi-market")[0].runbooks["data-feed-down"]


def running(pid: str) -> bool:
    """Whether that process does anything; what was killed and is not collected yet does not."""
    assert pid
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def _no_wait(_seconds: float) -> None:
    raise AssertionError("nothing here waits")


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    folder = tmp_path / "scripts"
    folder.mkdir(mode=0o755)
    made = Platform(folder)
    for name, body in SCRIPTS.items():
        made.replaced(name, body)
    return made


async def test_the_backup_feed_is_switched_to_and_verified(platform: Platform) -> None:
    switched = await platform.done("switch")
    assert (switched.outcome, platform.read("feed")) == (Outcome.OK, "backup"), switched.detail
    verified = await platform.done("verify_feed")
    assert verified.output == {"exit": 0, "output": ""}
    assert platform.read("halted") == ""


async def test_both_feeds_down_ends_with_1_and_the_halt_is_seen(platform: Platform) -> None:
    platform.replaced("verify_data_feed.sh", "exit 1")
    verified = await platform.done("verify_feed")
    assert (verified.outcome, verified.output) == (Outcome.OK, {"exit": 1, "output": ""}), verified.detail
    before = await platform.done("halted")
    assert before.output == {"exit": 0, "output": ""}
    halted = await platform.done("halt")
    assert (halted.outcome, platform.read("halted")) == (Outcome.OK, "data_feed_down"), halted.detail
    assert (await platform.done("halted")).output == {"exit": 1, "output": ""}


@pytest.mark.parametrize("exit_", [3, 64])
async def test_a_switch_that_fails_after_it_began_is_in_doubt_and_says_its_exit(platform: Platform, exit_: int) -> None:
    platform.replaced("switch_data_feed.sh", f"echo no credentials >&2; exit {exit_}")
    ended = await platform.done("switch")
    assert ended.outcome is not Outcome.OK
    assert str(exit_) in ended.detail
    assert "no credentials" in ended.detail


async def test_a_verification_that_ends_with_another_number_is_no_answer(platform: Platform) -> None:
    platform.replaced("verify_data_feed.sh", "exit 9")
    ended = await platform.done("verify_feed")
    assert ended.outcome is not Outcome.OK
    assert ended.output is None


async def test_a_switch_that_hangs_is_unknown_after_its_five_seconds_and_its_children_are_gone(
    platform: Platform,
) -> None:
    platform.replaced("switch_data_feed.sh", "(sleep 60; echo late > feed) & echo $! > child; sleep 60")
    began = time.monotonic()
    ended = await platform.done("switch")
    took = time.monotonic() - began
    assert ended.outcome is Outcome.UNKNOWN, ended.detail
    assert took < 6.5, took
    # The kernel ends what was killed in its own time: only the shell itself is waited for.
    child = platform.read("child")
    eventually("the child is gone", lambda: running(child), lambda runs: not runs, within=5.0)
    assert platform.read("feed") == ""


async def test_a_script_that_is_not_there_changes_nothing_and_is_named(platform: Platform) -> None:
    (platform.folder / "halt_trading.sh").unlink()
    ended = await platform.done("halt")
    assert ended.outcome is Outcome.PERMANENT
    assert "halt_trading.sh" in ended.detail
