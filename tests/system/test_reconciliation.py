"""Real Alertmanagers that do not tell everything: what the responder finds by asking them, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import httpx
import pytest
import yaml

from responder.alert import fingerprint
from tests.servers import Alertmanager
from tests.system.outside import Outside
from tests.system.patience import eventually, throughout
from tests.system.serving import Responder, told

SETTLED = 8
"""Seconds after its start from which an Alertmanager is believed about what it does not list."""
_numbers = count(1)


@dataclass(frozen=True)
class Desk:
    """Two Alertmanagers that tell of a group once, never of an end; and a responder that asks them every second."""

    responder: Responder
    peers: tuple[Alertmanager, Alertmanager]

    def fires(self, labels: dict[str, str], *peers: Alertmanager) -> None:
        """Both hear that it fires, or those that are named."""
        self._post(labels, timedelta(minutes=9), peers or self.peers)

    def ends(self, labels: dict[str, str], *peers: Alertmanager) -> None:
        """The same of its end."""
        self._post(labels, timedelta(seconds=-1), peers or self.peers)

    def _post(self, labels: dict[str, str], until: timedelta, peers: tuple[Alertmanager, ...]) -> None:
        ends_at = (datetime.now(UTC) + until).isoformat()
        starts_at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        for peer in peers:
            peer.post_alerts([{"labels": labels, "startsAt": starts_at, "endsAt": ends_at}])

    def told(self, labels: dict[str, str]) -> None:
        """The webhook is told of an alert, whatever Alertmanager does."""
        alert = {"status": "firing", "labels": labels, "annotations": {}, "fingerprint": fingerprint(labels)}
        body = {"version": "4", "receiver": "responder", "groupKey": "late", "alerts": [alert]}
        token = self.responder.installation.tokens.webhook
        bearer = {"Authorization": f"Bearer {token}"}
        httpx.post(self.responder.webhook, json=body, headers=bearer).raise_for_status()

    def firing(self) -> list[str]:
        """The alerts that fire here, by their symbol."""
        alerts = [alert for incident in self.responder.incidents() for alert in incident["alerts"]]
        return sorted(str(alert["labels"].get("symbol")) for alert in alerts if alert["firing"])

    def story(self) -> str:
        """Everything that was told."""
        return "\n".join(told(incident) for incident in self.responder.incidents())


def _routing(responder: Responder) -> str:
    credentials = {"authorization": {"credentials_file": str(responder.installation.webhook_token_file)}}
    hook = {"url": responder.webhook, "send_resolved": False, "http_config": credentials}
    times = {"group_wait": "100ms", "group_interval": "10m", "repeat_interval": "1h"}
    route = {"receiver": "responder", "group_by": ["alertname"], **times}
    return str(yaml.safe_dump({"route": route, "receivers": [{"name": "responder", "webhook_configs": [hook]}]}))


@pytest.fixture
def desk() -> Iterator[Desk]:
    with Outside() as outside:
        responder = Responder(outside)
        try:
            routing = _routing(responder)
            with Alertmanager(routing) as one, Alertmanager(routing) as other:
                responder.configure(outside.url, [one.url, other.url])
                config = json.loads(responder.installation.config.read_text())
                config["reconcile"] = {"every": "1s", "settle": "2s", "settled": f"{SETTLED}s"}
                responder.installation.config.write_text(json.dumps(config))
                responder.start()
                yield Desk(responder, (one, other))
        finally:
            responder.__exit__()


def labelled(symbol: str, name: str | None = None) -> dict[str, str]:
    return {"alertname": name or f"Strange{next(_numbers)}", "severity": "warning", "symbol": symbol}


def test_what_was_not_told_is_found_and_a_restart_means_nothing(desk: Desk) -> None:
    btc = labelled("BTC-USD")
    eth = {**btc, "symbol": "ETH-USD"}
    desk.fires(btc)
    eventually("the first one is told", desk.firing, lambda seen: seen == ["BTC-USD"])

    desk.fires(eth)  # its group has been told, and is told again in ten minutes
    eventually("the second one is found", desk.firing, lambda seen: seen == ["BTC-USD", "ETH-USD"])
    assert "nobody told us, Alertmanager was asked" in desk.story()

    eventually(
        "both know everything", lambda: desk.responder.metric("responder_alertmanagers_unsure"), lambda n: n == 0
    )
    one, other = desk.peers
    desk.ends(btc)
    desk.ends(eth, one)
    eventually("the end that nobody told is found", desk.firing, lambda seen: seen == ["ETH-USD"])
    assert "and nobody told us; what the check says decides" in desk.story()

    for peer in desk.peers:
        peer.kill()
        peer.start()
    assert [peer.alerts() for peer in desk.peers] == [[], []]
    throughout("nothing ends by their empty lists", desk.firing, lambda seen: seen == ["ETH-USD"], SETTLED - 3)
    desk.fires(eth, other)
    throughout("nor afterwards", desk.firing, lambda seen: seen == ["ETH-USD"], 5)


def test_what_somebody_has_silenced_is_not_acted_on(desk: Desk) -> None:
    breach: dict[str, Any] = {"alertname": "VaRBreach", "severity": "critical", "platform": "edge-risk", "env": "prod",
                              "symbol": "BTC-USD"}  # fmt: skip
    until = (datetime.now(UTC) + timedelta(minutes=9)).isoformat()
    silence = {"matchers": [{"name": "alertname", "value": "VaRBreach", "isRegex": False}], "createdBy": "anna",
               "comment": "planned work", "startsAt": datetime.now(UTC).isoformat(), "endsAt": until}  # fmt: skip
    for peer in desk.peers:
        httpx.post(f"{peer.url}/api/v2/silences", json=silence).raise_for_status()
    desk.fires(breach)
    desk.told(breach)
    incident = eventually("it is refused", desk.responder.incident, lambda seen: bool(seen["runs"]) and
                          seen["runs"][-1]["result"] == "cancelled")  # fmt: skip
    assert "1 of 1 alerts are silenced: silence" in told(incident)
    assert "by anna: planned work" in told(incident)
    eventually("and the silence is told", desk.story, lambda seen: "1 alert is silenced in Alertmanager" in seen)
