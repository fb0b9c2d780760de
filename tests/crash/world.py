"""The world that killed processes act on: a platform, its Prometheus, Alertmanager, chat and pagers, and who did what.

It lives in the parent, so it survives every kill. It answers at the wire (method, path, headers, body), never refuses a
repetition by itself, and writes down everything that arrives. It reads no clock: whoever asks says what time it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from responder.timing import SECOND
from tests.invariants import Accepted, Call, Ledger, Sent

STARTS_AT: Final = "2026-11-20T17:02:42Z"
NEVER: Final = "0001-01-01T00:00:00Z"
VAR_LIMIT: Final = 1.8

Answer = tuple[int, Any]
Handler = Callable[[Mapping[str, str], Any], tuple[Answer, bool]]


@dataclass
class World:
    """`alertname` fires while VaR is above its limit: until Kelly is down and trading is halted."""

    alertname: str
    kelly: float = 0.25
    limit: float = 100.0
    trading: str = "running"
    orders: list[str] = field(default_factory=list)
    desk: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    messages: list[Sent] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    @property
    def var(self) -> float:
        """What Prometheus says."""
        return 0.9 if self.kelly <= 0.1 and self.trading == "halted" else 2.1

    @property
    def firing(self) -> bool:
        """What Alertmanager says."""
        return self.var > VAR_LIMIT

    def ledger(self, totals: Mapping[str, float]) -> Ledger:
        """Everything that arrived."""
        return Ledger(
            tuple(self.calls), tuple(self.messages), tuple(self.accepted), tuple(self.unexpected), dict(totals)
        )

    # --- Alertmanager -------------------------------------------------------------------------------------------------

    def unacknowledged(self) -> str | None:
        """The status that Alertmanager sends again until it is taken; None when nothing is new."""
        status = "firing" if self.firing else "resolved"
        taken = {a.status for a in self.accepted}
        if status == "resolved" and "firing" not in taken:
            return "firing"  # a person was quicker: it is told of both, in order
        return None if status in taken else status

    def notification(self, status: str) -> bytes:
        """The body of one POST."""
        alert = {
            "status": status,
            "labels": {"alertname": self.alertname, "severity": "critical", "symbol": "BTC-USD"},
            "annotations": {"summary": "VaR is above its limit"},
            "startsAt": STARTS_AT,
            "endsAt": NEVER if status == "firing" else "2027-11-20T17:09:42Z",
            "generatorURL": "http://prometheus/graph",
            "fingerprint": "",
        }
        group = {"version": "4", "receiver": "responder", "status": status, "groupKey": "{}:{}", "truncatedAlerts": 0}
        return json.dumps({**group, "externalURL": "http://alertmanager", "alerts": [alert]}).encode()

    # --- services -----------------------------------------------------------------------------------------------------

    def call(self, asked: Mapping[str, Any]) -> Answer:
        """One request: `service`, `method`, `path`, `key`, `body` (text), `at` (µs)."""
        body = asked["body"]
        if asked["service"] == "prometheus":
            return 200, self._sample(body, asked["at"])
        handler = self._routes().get((asked["method"], asked["path"]))
        if handler is None:
            self.unexpected.append(f"{asked['method']} {asked['service']}{asked['path']}")
            return 404, {"error": "no such path"}
        answer, applied = handler(asked, json.loads(body) if body else None)
        place = f"{asked['service']}{asked['path']}"
        self.calls.append(Call(asked["method"], place, asked["key"], body, asked["at"], applied))
        return answer

    def _routes(self) -> dict[tuple[str, str], Handler]:
        return {
            ("GET", "/api/status"): lambda _a, _b: ((200, self._status()), False),
            ("POST", "/api/risk/emergency-reduce"): self._reduce,
            ("PUT", "/api/limit"): self._limit,
            ("POST", "/api/orders"): self._order,
            ("POST", "/api/desk"): self._tell_desk,
            ("POST", "/api/stop-trading"): self._stop,
        }

    def _status(self) -> dict[str, Any]:
        return {"kelly_fraction": self.kelly, "trading": self.trading, "limit": self.limit}

    def _reduce(self, _asked: Mapping[str, str], body: Any) -> tuple[Answer, bool]:
        changed = self.kelly != body["kelly_fraction"]
        self.kelly = body["kelly_fraction"]
        return (200, self._status()), changed

    def _limit(self, _asked: Mapping[str, str], body: Any) -> tuple[Answer, bool]:
        changed = self.limit != body["limit"]
        self.limit = body["limit"]
        return (200, self._status()), changed

    def _order(self, asked: Mapping[str, str], _body: Any) -> tuple[Answer, bool]:
        """Honours its key."""
        fresh = asked["key"] not in self.orders
        self.orders.extend([asked["key"]] if fresh else [])
        return (200, {"orders": len(self.orders)}), fresh

    def _tell_desk(self, asked: Mapping[str, str], _body: Any) -> tuple[Answer, bool]:
        """Does it every time that it is asked."""
        self.desk.append(asked["key"])
        return (200, {"told": len(self.desk)}), True

    def _stop(self, _asked: Mapping[str, str], _body: Any) -> tuple[Answer, bool]:
        """Does it every time that it is asked; halting a halted market is counted as doing it again."""
        self.trading = "halted"
        return (200, self._status()), True

    def _sample(self, body: str, at: int) -> dict[str, Any]:
        value = at / SECOND if "timestamp" in body else self.var
        found = {"metric": {}, "value": [at / SECOND, f"{value:.6f}"]}
        return {"status": "success", "data": {"resultType": "vector", "result": [found]}}

    # --- messages -----------------------------------------------------------------------------------------------------

    def message(self, sent: Mapping[str, Any]) -> str:
        """One message; answers what its destination would."""
        self.messages.append(Sent(sent["destination"], sent["kind"], sent["key"], sent["id"], sent["at"]))
        return json.dumps({"ts": str(len(self.messages))}) if sent["kind"] == "root" else ""
