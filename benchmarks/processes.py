"""Child processes: started, looked at in /proc, and gone again whatever happens."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.load import Stream, Told

TICKS = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Child:
    """A process that serves a port."""

    def __init__(self, command: Sequence[str], port: int, log: Path) -> None:
        self.port = port
        self._log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=out, stderr=out)

    def ready(self, patience: float = 60) -> None:
        """Wait until something is answered: the port alone may be open before the program is."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), patience) as connection:
                connection.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
                if connection.recv(1):
                    return
            time.sleep(0.002)
        raise RuntimeError(f"the process did not start:\n{self._log.read_text()[-2000:]}")

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def memory(self) -> float:
        """Resident megabytes (2^20)."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that takes too long."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
                return
            self.kill()


@contextmanager
def child(command: Sequence[str], port: int, log: Path) -> Iterator[Child]:
    """A process, ready to be asked; gone at the end."""
    process = Child(command, port, log)
    try:
        process.ready()
        yield process
    finally:
        process.stop()


@contextmanager
def floor(folder: Path, forward: int | None = None) -> Iterator[Child]:
    """The bare application."""
    port = free_port()
    database = folder / f"floor-{port}.db"
    command = ["-m", "benchmarks.floor", "--port", str(port), "--database", str(database)]
    with child([*command, *(["--forward", str(forward)] if forward else [])], port, folder / "floor.log") as process:
        yield process


class Service:
    """The fake service, from outside."""

    def __init__(self, port: int) -> None:
        self.port = port

    def delay(self, seconds: float) -> None:
        """Answer after so long, and forget what came before."""
        self._ask("POST", "/delay", str(seconds))

    def arrivals(self) -> list[tuple[str, str, int]]:
        """Item, key and time (monotonic ns) of every change that came."""
        return [(item, key, at) for item, key, at in self._ask("GET", "/arrivals", None)]

    def _ask(self, method: str, path: str, body: str | None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer


@contextmanager
def service(folder: Path) -> Iterator[Service]:
    """The fake service, running."""
    port = free_port()
    with child(["-m", "benchmarks.service", str(port)], port, folder / "service.log"):
        yield Service(port)


def send(*streams: Stream) -> list[Told]:
    """Run the load to its end."""
    return told(sending(*streams))


def sending(*streams: Stream) -> subprocess.Popen[bytes]:
    """Start the load; `told` waits for it."""
    job = json.dumps([asdict(stream) for stream in streams])
    return subprocess.Popen([sys.executable, "-m", "benchmarks.load", job], cwd=ROOT, stdout=subprocess.PIPE)


def told(load: subprocess.Popen[bytes]) -> list[Told]:
    """What a load that was started says at its end; it is gone afterwards."""
    try:
        out, _ = load.communicate(timeout=300)
    finally:
        load.kill()
    return [Told(**one) for one in json.loads(out)]


def bare_httpx(port: int, count: int, clients: int) -> dict[str, float]:
    """Seconds, and CPU seconds, of so many POSTs."""
    command = [sys.executable, "-m", "benchmarks.calls", str(port), str(count), str(clients)]
    found: dict[str, float] = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    return found
