"""Everything between a market that breaks and a person who is told, on real servers with times of seconds.

Prometheus scrapes the demo platform and tells one or two Alertmanagers, those post to a responder process, which acts
on the platform and tells Slack and PagerDuty (fakes of their wire). Started once a module; `begin` makes the next test
independent of the one before.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from responder.demo.alert_rules import rule_file, shipped_alerting, shortened
from responder.demo.monitoring import EDGE_RISK, HOLDS_FOR, TIMING
from responder.demo.prometheus import ScrapeJob, Timing, alertmanager_config, prometheus_config
from tests.servers import Alertmanager, Prometheus
from tests.system.outside import Outside
from tests.system.patience import eventually
from tests.system.serving import Responder

_rounds = itertools.count(1)


class QuickPrometheus(Prometheus):
    """Tells Alertmanager again every second, so that its death looks like the end of all alerts after four."""

    def _command(self) -> list[str]:
        return [*super()._command(), "--rules.alert.resend-delay=1s"]


@dataclass(frozen=True, slots=True)
class Layout:
    """`peers`: how many Alertmanagers, `clustered` or not knowing each other."""

    peers: int = 1
    clustered: bool = False
    timing: Timing = TIMING


class Arena:
    """A context manager. `prometheus` may be killed and started by a test, and so may `responder`."""

    alertmanagers: list[Alertmanager]
    prometheus: Prometheus

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.outside = stack.enter_context(Outside())
            self.responder = Responder(self.outside)
            stack.callback(self.responder.__exit__)
            self.alertmanagers = list(self._alertmanagers(stack))
            self.prometheus = QuickPrometheus(self._scraping(), {"rules.yml": self._rules()})
            stack.enter_context(self.prometheus)
            self.responder.configure(self.prometheus.url, [peer.url for peer in self.alertmanagers])
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _alertmanagers(self, stack: ExitStack) -> Iterator[Alertmanager]:
        # The first waits for nobody; others would wait 15 s for it before they tell the same.
        flags = ["--cluster.peer-timeout=1s"] if self._layout.clustered else []
        known: list[str] = []
        for _ in range(self._layout.peers):
            cluster = self._layout.clustered
            peer = Alertmanager(self.routing(), cluster=cluster, peers=known if cluster else (), flags=flags)
            yield stack.enter_context(peer)
            known.append(peer.cluster_address)

    def routing(self, **changed: Any) -> str:
        """The shipped alertmanager.yml for this arena; `changed` are keys of its route."""
        shipped = (shipped_alerting() / "alertmanager.yml").read_text()
        token = self.responder.installation.webhook_token_file
        config = yaml.safe_load(alertmanager_config(shipped, self._layout.timing, self.responder.webhook, token))
        config["route"].update(changed)
        return str(yaml.safe_dump(config))

    def _scraping(self) -> str:
        job = ScrapeJob("edge-risk", self.outside.address, EDGE_RISK.labels)
        return prometheus_config(
            self._layout.timing, [job], [peer.address for peer in self.alertmanagers], [Path("rules.yml")]
        )

    def _rules(self) -> str:
        """The shipped rules with a label of their own: to Alertmanager the alerts of every test are new ones."""
        text = (shipped_alerting() / "rules" / "edge-risk.yml").read_text()
        rules = shortened(text, EDGE_RISK.alerts, HOLDS_FOR)
        own = {"round": str(next(_rounds))}
        labelled = [replace(rule, labels={**rule.labels, **own}) for rule in rules]
        return rule_file(labelled, self._layout.timing.evaluation_interval)

    # --- between tests ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A quiet day: everything runs, nothing fires, nobody was told anything, the responder knows nothing."""
        ended_well = self._ended_well()
        self.outside.calm()
        if not ended_well:
            self._renew()
        eventually("Prometheus watches a quiet market", self._watched, lambda seen: seen == (True, True))
        eventually("the Alertmanagers hold no alert", self._held, lambda held: not any(held))
        self.responder.wipe()

    def _ended_well(self) -> bool:
        """Whether the last test left nothing that an Alertmanager still wants to tell: then all may go on running."""
        try:
            incidents = self.responder.incidents()
            over = bool(incidents) and all(incident["status"] == "closed" for incident in incidents)
            return over and not any(self._held()) and bool(self.prometheus.query("vector(1)"))
        except (httpx.TransportError, httpx.HTTPStatusError):
            return False

    def _renew(self) -> None:
        """Alerts that no Alertmanager has told before, however the last test ended. Takes Prometheus 5 s."""
        self.prometheus.stop()
        self.prometheus.configure(self._scraping(), {"rules.yml": self._rules()})
        self.prometheus.start()
        for peer in self.alertmanagers:
            peer.configure(self.routing())
            peer.reload()

    def _watched(self) -> tuple[bool, bool]:
        quiet = bool(self.prometheus.query("max(var_pct) < 1.5"))
        found = self.prometheus.get("/api/v1/alertmanagers")["data"]["activeAlertmanagers"]
        return quiet, len(found) == len(self.alertmanagers)

    def _held(self) -> list[list[str]]:
        return [[alert["labels"]["alertname"] for alert in peer.alerts()] for peer in self.alertmanagers]

    def firing(self) -> int:
        """How many alerts Prometheus has firing; 0 while it is down."""
        try:
            return len(self.prometheus.query('ALERTS{alertstate="firing"}'))
        except httpx.TransportError:
            return 0
