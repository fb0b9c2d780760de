"""The responder as people run it: a process of `python -m responder serve`, its configuration, its API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from responder.demo.installation import Addresses, installed, write_config
from tests.fakes import pagerduty, slack
from tests.provision import CHECKOUT
from tests.servers import Server, free_port
from tests.system.outside import CHANNEL, TOKEN, Outside

PAGERS = ("trading-oncall", "quant", "devops", "pm", "risk", "cto", "cro", "edge-risk-second", "quant-emergency")


class Responder(Server):
    """On the shipped rules with times of seconds; Slack and PagerDuty are the fakes' wires."""

    program = "python"

    def __init__(self, outside: Outside) -> None:
        # Not the base's: it looks for a program that is installed, and this one is the checkout's own.
        self.binary = Path(sys.executable)
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="responder-served-"))
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._outside = outside
        self.installation = installed(self.folder)
        self._client = httpx.Client(
            base_url=f"http://{self.address}",
            headers={"Authorization": f"Bearer {self.installation.tokens.person}"},
            trust_env=False,
            timeout=5.0,
        )

    def __exit__(self, *exception: object) -> None:
        self._client.close()
        super().__exit__(*exception)

    @property
    def webhook(self) -> str:
        """Where Alertmanager posts to."""
        return f"http://{self.address}/webhook/alertmanager"

    def configure(self, metrics: str, alertmanagers: list[str]) -> None:
        """Writes its configuration; the arguments are base addresses."""
        # Nothing here reads Redis, which no scenario of the arena makes slow.
        addresses = Addresses(self.address, self._outside.url, metrics, f"redis://127.0.0.1:{free_port()}", None)
        write_config(self.installation, addresses)
        (self.folder / "platform.token").write_text(TOKEN)
        (self.folder / "slack.token").write_text(slack.TOKEN)
        (self.folder / "pagerduty.key").write_text(pagerduty.KEY)
        config = yaml.safe_load(self.installation.config.read_text())
        config["alertmanagers"] = [{"url": url} for url in alertmanagers]
        config["notifiers"] = self._notifiers()
        self.installation.config.write_text(json.dumps(config))  # is YAML too, without aliases

    def _notifiers(self) -> dict[str, Mapping[str, Any]]:
        chat = {
            "kind": "slack",
            "token": {"file": "slack.token"},
            "channel": f"#{CHANNEL}",
            "base_url": self._outside.slack.base_url,
        }
        pager = {
            "kind": "pagerduty",
            "routing_key": {"file": "pagerduty.key"},
            "base_url": self._outside.pagerduty.url,
        }
        return {CHANNEL: chat, **dict.fromkeys(PAGERS, pager)}

    def wipe(self) -> None:
        """Begin anew with an empty store, running."""
        self.kill()
        for path in self.folder.glob("responder.db*"):
            path.unlink()
        self.start()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs `responder WORDS` as a person does who may do everything."""
        line = [str(self.binary), "-m", "responder", "--config", str(self.installation.config), *words]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "RESPONDER_TOKEN": self.installation.tokens.person}
        return subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment, check=False)

    def incidents(self) -> list[dict[str, Any]]:
        """All incidents with their journals, newest first."""
        listed = self._get("/api/v1/incidents")["incidents"]
        return [self._get(f"/api/v1/incidents/{one['id']}") for one in listed]

    def incident(self) -> dict[str, Any]:
        """The only one; fails when there are others. An empty one while there is none."""
        found = self.incidents()
        assert len(found) < 2, f"several incidents: {[(one['target'], one['status']) for one in found]}"
        return found[0] if found else {"status": "none", "result": None, "runs": [], "events": [], "problems": []}

    def metric(self, name: str) -> float:
        """The sum over all label sets of a counter."""
        lines = self._client.get("/metrics").raise_for_status().text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def _get(self, path: str) -> dict[str, Any]:
        return dict(self._client.get(path).raise_for_status().json())

    def _command(self) -> list[str]:
        return [str(self.binary), "-m", "responder", "serve", "--config", str(self.installation.config)]

    def _is_ready(self) -> bool:
        return self._client.get("/-/ready").status_code == httpx.codes.OK

    def _identity(self) -> dict[str, Any]:
        return {"env": {**os.environ, "PYTHONPATH": str(CHECKOUT)}}


def told(incident: dict[str, Any]) -> str:
    """What a failing test should show of an incident: its state and its story."""
    story = "\n".join(f"  {event['at'][11:23]} {event['text']}" for event in incident["events"])
    return f"{incident['status']}, {incident['result']}, runs {[r['result'] for r in incident['runs']]}\n{story}"
