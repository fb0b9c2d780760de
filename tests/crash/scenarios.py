"""The runbooks of the crash campaigns: one that uses every effect class, and one that does not help, so that people are
paged, chat is told, and a machine timer halts trading.
"""

from __future__ import annotations

from typing import Any, Final

from responder.contracts import Parameter, ReadSpec, WriteSpec
from responder.policies import Policy
from responder.rules import Rules
from responder.runbook import Runbook
from responder.services import Endpoint, HttpService, PrometheusService

KELLY: Final = "risk-api/kelly_fraction"
UNSAFE_STEP: Final = "tell_desk"
EVERY_EFFECT: Final = "EveryEffect"
TOO_WEAK: Final = "TooWeak"

_VAR: Final = {
    "action": "prometheus.query",
    "with": {"service": "metrics", "query": "max(var_pct)", "freshness": "var_pct"},
    "max_age": "30s",
}
_CUT: Final = {
    "id": "cut",
    "action": "parameter.reduce",
    "with": {"parameter": KELLY, "to": 0.1, "reason": "VaR breach"},
    "restore": {"approval": "risk-manager", "remind": "4h"},
}
_HALTED: Final = {"path": "/api/status", "expect": 'body.trading == "halted"'}


def _call(step: str, service: str, method: str, path: str, **more: Any) -> dict[str, Any]:
    return {
        "id": step,
        "action": "http.request",
        "with": {"service": service, "method": method, "path": path, **more},
    }


_EVERY_EFFECT: Final = Runbook.model_validate({
    "runbook": "every-effect",
    "title": "VaR above its limit",
    "match": EVERY_EFFECT,
    "target": KELLY,
    "mode": "auto",
    "limits": {"cooldown": "10m", "runs": "3 per 6h"},
    "checks": {"var": _VAR},
    "only_if": {"check": "var", "expect": "value > 1.8"},
    "steps": [
        _call("look", "risk-api", "GET", "/api/status"),
        _CUT,
        _call("limit", "risk-api", "PUT", "/api/limit", json={"limit": 50}),
        _call("order", "broker", "POST", "/api/orders", json={"side": "flatten"}),
        _call(UNSAFE_STEP, "risk-api", "POST", "/api/desk", json={"text": "cut"}),
        _call("stop", "risk-api", "POST", "/api/stop-trading", probe=_HALTED),
    ],
    "evidence": [{"action": "prometheus.query", "with": {"service": "metrics", "query": "max(var_pct)"}}],
    "verify": {"check": "var", "expect": "value < 1.7", "settle": "5s", "within": "1m", "hold": "5s"},
    "unless_fixed": {"4m": {"page": "pm"}, "6m": {"run": "halt-trading", "page": "cro", "countdown": "1m"}},
    "escalation": "pages-only",
})  # fmt: skip

_TOO_WEAK: Final = Runbook.model_validate({
    "runbook": "too-weak",
    "title": "VaR above its limit",
    "match": TOO_WEAK,
    "target": KELLY,
    "mode": "auto",
    "brake": True,
    "checks": {"var": _VAR},
    "steps": [_CUT],
    "verify": {"check": "var", "expect": "value < 1.7", "settle": "5s", "within": "10s", "hold": "5s"},
    "unless_fixed": {"1m": {"page": "pm"}, "2m": {"run": "halt-trading", "page": "cro", "countdown": "30s"}},
    "escalation": "ladder",
})  # fmt: skip

_HALT: Final = Runbook.model_validate({
    "runbook": "halt-trading",
    "title": "Halt trading",
    "target": "trading",
    "mode": "auto",
    "brake": True,
    "checks": {"halted": {"action": "http.request", "with": {"service": "risk-api", "path": "/api/status"}}},
    "steps": [_call("halt", "risk-api", "POST", "/api/stop-trading", probe=_HALTED)],
    "verify": {"check": "halted", "expect": 'value.body.trading == "halted"', "within": "10s"},
})  # fmt: skip

_PAGES_ONLY: Final = Policy.model_validate({
    "grace": "90s",
    "levels": [
        {"name": "L1", "after": "0s", "page": "oncall"},
        {"name": "L2", "after": "100s", "page": "quant"},
    ],
})  # fmt: skip

# Chat doubles the kill points, so only one of the two scenarios has it.
_LADDER: Final = _PAGES_ONLY.model_copy(update={"chat": ("room",)})

CHATS: Final = ("room",)
PAGERS: Final = ("oncall", "quant", "pm", "cro")
RULES: Final = Rules(
    "rules-of-the-crash-tests",
    {r.runbook: r for r in (_EVERY_EFFECT, _TOO_WEAK, _HALT)},
    {"ladder": _LADDER, "pages-only": _PAGES_ONLY},
    {},
    "ladder",
)
PARAMETERS: Final = {
    KELLY: Parameter(
        service="risk-api",
        read=ReadSpec(path="/api/status", value="kelly_fraction"),
        write=WriteSpec(path="/api/risk/emergency-reduce", body={"kelly_fraction": "{{ value }}"}),
        floor=0.05,
        total_per_day=0.3,
    )
}
TOTALS: Final = {f"parameter:{name}": p.total_per_day for name, p in PARAMETERS.items()}
SERVICES: Final[dict[str, Endpoint]] = {
    "risk-api": HttpService(url="http://risk-api"),
    "broker": HttpService(url="http://broker", idempotency_keys=True),
    "metrics": PrometheusService(url="http://prometheus"),
}
