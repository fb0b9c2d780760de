"""The process as an operator moves it: a reload by signal, a stop in order, a port that somebody else has."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.provision import CHECKOUT
from tests.servers import free_port
from tests.system.patience import eventually

RUNBOOK = "runbook: look\ntitle: Look\nmatch: Strange\ntarget: desk\nsteps:\n  - {id: look, manual: Look}\n"


class Served:
    """`responder serve` in a folder, with what it has said so far."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.rules = folder / "rules"
        self.rules.mkdir()
        self.write(RUNBOOK)
        self.config = folder / "responder.yaml"
        self.config.write_text(
            f"listen: 127.0.0.1:{self.port}\nstore: sqlite:///{folder}/responder.db\nrules: [./rules]\n"
        )
        self._log = folder / "log"
        self.process = self.start()

    def write(self, runbook: str) -> None:
        (self.rules / "look.yaml").write_text(runbook)

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "responder", "serve", "--config", str(self.config)]
        with self._log.open("ab") as log:
            environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def said(self) -> str:
        return self._log.read_text()

    def says(self, text: str) -> None:
        eventually(f"the log says {text!r}", self.said, lambda said: text in said)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait(10)


def test_a_signal_reloads_and_a_broken_file_changes_nothing(served: Served) -> None:
    served.says("1 runbooks")
    served.write(RUNBOOK.replace("match:", "macth:"))
    served.process.send_signal(signal.SIGHUP)
    served.says("did you mean 'match'?")
    served.says("the rules from before go on")
    served.write(RUNBOOK.replace("target: desk", "target: table"))
    served.process.send_signal(signal.SIGHUP)
    served.says("changed: look")


def test_a_stop_is_in_order_and_ends_with_success(served: Served) -> None:
    served.says("listening on")
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0
    assert "stopped" in served.said()


def test_a_port_that_is_in_use_is_said_before_anything_is_opened(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = tmp_path / "responder.yaml"
        config.write_text(f"listen: 127.0.0.1:{port}\nstore: sqlite:///{tmp_path}/responder.db\n")
        command = [sys.executable, "-m", "responder", "serve", "--config", str(config)]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert ended.returncode == 1
    assert f"127.0.0.1:{port} cannot be used" in ended.stderr
    assert "choose another port" in ended.stderr
    assert not (tmp_path / "responder.db").exists()
