"""What many tests begin with: an alert, a runbook as it is written, a policy. Each takes what matters to the test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ALERT: Mapping[str, str] = {
    "alertname": "VaRBreach",
    "platform": "edge-risk",
    "env": "prod",
    "severity": "critical",
    "symbol": "BTC-USD",
}


def an_alert(**labels: str) -> dict[str, str]:
    """The labels of a breach, with others beside or instead; an empty one is left out."""
    return {name: value for name, value in {**ALERT, **labels}.items() if value}


def a_runbook(**parts: Any) -> dict[str, Any]:
    """A runbook as YAML would hold it: it cuts a parameter, verifies, and pages. A part that is None is left out.

    Written with `_` where YAML has `with`: nothing here needs that word at the top.
    """
    whole = {
        "runbook": "cut",
        "title": "Too much risk",
        "match": "TooMuchRisk",
        "target": "risk-api/kelly_fraction",
        "mode": "auto",
        "checks": {"risk": {"action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}}},
        "steps": [cut_step()],
        "verify": {"check": "risk", "expect": "value < 1", "within": "2m"},
        "escalation": "ladder",
        **parts,
    }
    return {name: value for name, value in whole.items() if value is not None}


def cut_step(**parts: Any) -> dict[str, Any]:
    """The step that cuts the Kelly fraction."""
    with_ = {"parameter": "risk-api/kelly_fraction", "to": 0.1, "reason": "too much risk"}
    return {"id": "cut", "action": "parameter.reduce", "with": with_, **parts}


def call_step(step: str = "call", path: str = "/api/orders", **parts: Any) -> dict[str, Any]:
    """A step that posts to the risk API, without key or probe: unsafe."""
    service = parts.pop("service", "risk-api")
    more = parts.pop("more", {})
    return {
        "id": step,
        "action": "http.request",
        "with": {"service": service, "method": "POST", "path": path, **more},
        **parts,
    }


def a_policy(**parts: Any) -> dict[str, Any]:
    """Told at once in a chat, the first level after two minutes, the second after fifteen."""
    levels = [
        {"name": "L1", "after": 0, "page": "first"},
        {"name": "L2", "after": "15m", "page": "second"},
    ]
    return {"chat": ["room"], "grace": "2m", "acknowledgement": "30m", "levels": levels, **parts}
