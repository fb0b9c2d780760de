"""Notifications as Alertmanager 0.28 sends them, about 750 bytes an alert, and the HTTP requests that carry them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

STARTED = "2026-01-05T08:30:00.123456789Z"


def alert(name: str, item: str) -> dict[str, object]:
    """A firing alert whose labels, and so whose fingerprint, are its own by `item`."""
    return {
        "status": "firing",
        "labels": {
            "alertname": name,
            "env": "prod",
            "instance": f"{item}.trading.internal:9100",
            "item": item,
            "job": "trading-node",
            "platform": "bench",
            "prometheus": "monitoring/main",
            "service": item,
            "severity": "warning",
        },
        "annotations": {
            "description": f"The order gateway {item} has answered more slowly than its objective for five minutes.",
            "runbook_url": "https://runbooks.example.com/trading/order-gateway-latency",
            "summary": f"Order gateway {item} is slow",
        },
        "startsAt": STARTED,
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.com:9090/graph?g0.expr=histogram_quantile%280.99%2C+sum+by+%28le%29&g0.tab=1",
    }


def notification(name: str, items: Sequence[str]) -> bytes:
    """The body that tells of these items."""
    body = {
        "receiver": "responder",
        "status": "firing",
        "alerts": [alert(name, item) for item in items],
        "groupLabels": {"alertname": name},
        "commonLabels": {"alertname": name, "env": "prod", "platform": "bench", "severity": "warning"},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.com:9093",
        "version": "4",
        "groupKey": f'{{}}/{{platform="bench"}}:{{alertname="{name}"}}',
        "truncatedAlerts": 0,
    }
    return json.dumps(body, separators=(",", ":")).encode()


def request(path: str, body: bytes) -> bytes:
    """A POST on a connection that is kept alive."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}User-Agent: Alertmanager/0.28.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def batches(prefix: str, alerts: int, count: int) -> Iterator[list[str]]:
    """The items of `count` notifications of `alerts` alerts each, all distinct."""
    for number in range(count):
        yield [f"{prefix}-{number}-{place}" for place in range(alerts)]
