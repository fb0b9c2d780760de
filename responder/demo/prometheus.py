"""Runs the real Prometheus and Alertmanager for the demo and the system tests, with times of seconds.

Binaries are those on PATH, else those that a checkout has unpacked below `.servers/`, through the launchers there.
Everything lives in a folder that the caller gives and throws away, on loopback ports that were free a moment ago. It
installs nothing, downloads nothing, and stops what it started by process id.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx
import yaml

from responder.demo.alert_rules import AlertRule, rule_file
from responder.errors import BadConfig, Permanent
from responder.timing import SECOND, format_duration

NAMES = {
    "prometheus": ("prometheus",),
    "alertmanager": ("alertmanager", "prometheus-alertmanager"),
    "redis": ("redis-server",),
    "sentinel": ("redis-sentinel",),
}
"""Each server and the names its binary goes by; Debian's comes second."""

START_SECONDS = 30.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.05

UNPACKED = Path(__file__).resolve().parent.parent.parent / ".servers" / "bin"
"""Launchers of the servers that the checkout's provisioning unpacked; they know their libraries and templates, and
become the server, so that its process id is the one that was started."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals in microseconds, under the names of the two configuration files; the defaults are the demo's.

    `resend_delay` decides how soon a dead Prometheus looks like the end of an alert: after four of them.
    """

    scrape_interval: int = SECOND
    evaluation_interval: int = SECOND
    resend_delay: int = SECOND
    group_wait: int = 0
    group_interval: int = 2 * SECOND
    repeat_interval: int = 3600 * SECOND


@dataclass(frozen=True, slots=True)
class ScrapeJob:
    """One thing to scrape: `target` is host:port, `labels` are added to all that it says."""

    name: str
    target: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything needed to run a server, again and again: after a stop the same launch continues with its data."""

    name: str
    command: tuple[str, ...]
    config: Path
    url: str


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers at `url`; `config` is the file that `reload` makes it read again."""

    name: str
    url: str
    config: Path
    process: asyncio.subprocess.Process

    async def reload(self) -> None:
        """Makes the server read its configuration again. Raises Permanent when it refuses it."""
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{self.url}/-/reload", timeout=10.0)
        if answer.status_code != 200:
            raise Permanent(f"{self.name} refuses {self.config.name}: {answer.text.strip()}")

    async def stop(self) -> None:
        """Ends the server, gently first; does nothing when it has ended already."""
        if self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


def find_binary(name: str) -> Path | None:
    """The binary of a server of `NAMES`: on PATH, else the checkout's launcher; None without either."""
    found = [shutil.which(known, path=path) for path in (None, str(UNPACKED)) for known in NAMES[name]]
    return next((Path(path) for path in found if path is not None), None)


def prometheus_config(
    timing: Timing, jobs: Sequence[ScrapeJob], alertmanagers: Sequence[str], rule_files: Sequence[Path]
) -> str:
    """prometheus.yml that scrapes `jobs` and sends alerts to `alertmanagers` (each host:port)."""
    document = {
        "global": {
            "scrape_interval": format_duration(timing.scrape_interval),
            "scrape_timeout": format_duration(min(timing.scrape_interval, SECOND)),
            "evaluation_interval": format_duration(timing.evaluation_interval),
        },
        "rule_files": [str(path) for path in rule_files],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]},
        "scrape_configs": [
            {"job_name": job.name, "static_configs": [{"targets": [job.target], "labels": dict(job.labels)}]}
            for job in jobs
        ],
    }
    return yaml.safe_dump(document, sort_keys=False)


def alertmanager_config(shipped: str, timing: Timing, webhook_url: str, credentials_file: Path | None) -> str:
    """The shipped alertmanager.yml (its text) with our times, our webhook, and the pager left out.

    Grouping and every setting of the webhook stay those that we ship, so that the demo is evidence for them. Without
    a credentials file the webhook is called without credentials. Raises BadConfig without a receiver `responder`.
    """
    document = yaml.safe_load(shipped)
    receiver = next((known for known in document["receivers"] if known["name"] == "responder"), None)
    if receiver is None:
        raise BadConfig("the shipped alertmanager.yml has no receiver called responder: add it")
    webhook = receiver["webhook_configs"][0]
    webhook["url"] = webhook_url
    if credentials_file is None:
        del webhook["http_config"]["authorization"]
    else:
        webhook["http_config"]["authorization"]["credentials_file"] = str(credentials_file)
    route = {
        "receiver": "responder",
        "group_by": document["route"]["group_by"],
        "group_wait": format_duration(timing.group_wait),
        "group_interval": format_duration(timing.group_interval),
        "repeat_interval": format_duration(timing.repeat_interval),
    }
    return yaml.safe_dump({"route": route, "receivers": [receiver]}, sort_keys=False)


def alertmanager_launch(binary: Path, folder: Path, config: str, port: int) -> Launch:
    """How to run Alertmanager with `config` on loopback `port`; writes its files into `folder` (created)."""
    path = _written(folder / "alertmanager.yml", config)
    options = (
        f"--config.file={path}",
        f"--storage.path={path.parent / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.external-url=http://127.0.0.1:{port}",
        "--cluster.listen-address=",
    )
    return Launch("alertmanager", (str(binary), *options), path, f"http://127.0.0.1:{port}")


def prometheus_launch(binary: Path, folder: Path, config: str, timing: Timing, port: int) -> Launch:
    """How to run Prometheus with `config` on loopback `port`; writes its files into `folder` (created)."""
    path = _written(folder / "prometheus.yml", config)
    options = (
        f"--config.file={path}",
        f"--storage.tsdb.path={path.parent / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.external-url=http://127.0.0.1:{port}",
        f"--rules.alert.resend-delay={format_duration(timing.resend_delay)}",
        "--web.enable-lifecycle",
    )
    return Launch("prometheus", (str(binary), *options), path, f"http://127.0.0.1:{port}")


def write_rules(folder: Path, rules: Sequence[AlertRule], timing: Timing) -> Path:
    """Writes `rules` below `folder` (created) and gives the file's path, for `prometheus_config`."""
    return _written(folder / "rules.yml", rule_file(rules, timing.evaluation_interval))


def free_port() -> int:
    """A loopback port that nobody listened on just now; these servers cannot choose and tell one themselves."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


async def start(launch: Launch) -> Server:
    """Runs `launch` and waits until it is ready. Raises Permanent with the end of its log when it does not come up."""
    with _log(launch.config) as output:
        process = await asyncio.create_subprocess_exec(
            *launch.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=launch.config.parent,
        )
    server = Server(launch.name, launch.url, launch.config, process)
    try:
        await _ready(server)
    except BaseException:
        await server.stop()
        raise
    return server


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path.resolve()  # the server's working directory is not ours


def _log(config: Path) -> BinaryIO:
    return config.with_suffix(".log").open("ab")


def _last_words(config: Path) -> str:
    return " | ".join(config.with_suffix(".log").read_text(errors="replace").strip().splitlines()[-3:])


async def _ready(server: Server) -> None:
    """Returns once the server says that it is ready; raises Permanent with the end of its log if it never does."""
    give_up = asyncio.get_running_loop().time() + START_SECONDS
    async with httpx.AsyncClient(trust_env=False) as client:
        while asyncio.get_running_loop().time() < give_up and server.process.returncode is None:
            if await _answers(client, f"{server.url}/-/ready"):
                return
            await asyncio.sleep(POLL_SECONDS)
    code = server.process.returncode
    end = (
        f"did not become ready within {START_SECONDS:g} s" if code is None else f"ended with code {code} while starting"
    )
    raise Permanent(f"{server.name} {end}; it said: {_last_words(server.config)}")


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url, timeout=1.0)).status_code == 200
    except httpx.TransportError:
        return False
