"""A request to the fake API server, its answer, and what can go wrong between them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


class Refused(Exception):
    """An answer that is no success: a Status."""

    def __init__(self, code: int, reason: str, message: str, *, cause: str = "", **headers: str) -> None:
        super().__init__(message)
        self.code, self.headers = code, headers
        details = {"causes": [{"reason": "DisruptionBudget", "message": cause}]} if cause else {}
        self.status = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
        self.status |= {"details": details} if details else {}


@dataclass
class Asked:
    """One request as the server saw it. `status` 0: it was not answered."""

    verb: str
    resource: str
    name: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]
    status: int = 0

    @property
    def changes(self) -> bool:
        """Whether it asked for a change, and not for a trial. Where a delete has a body, the query does not count."""
        if self.verb == "delete" and self.body is not None:
            return bool(self.body.get("dryRun") != ["All"])
        return self.verb in {"patch", "create", "delete"} and self.query.get("dryRun") != "All"


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the next request that fits: with its status, or with its answer.

    `after`: the change is applied first. `cut`: the connection is closed in the middle of the answer; `slow`: no answer
    ever; `garbage`: a success that is no JSON.
    """

    verb: str
    status: int = 0
    message: str = "it is broken"
    reason: str = "InternalError"
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False
    cut: bool = False
    slow: bool = False
    garbage: bool = False
    trials: bool = False
    """Whether it also meets dry runs."""

    def fits(self, asked: Asked) -> bool:
        """Whether it meets this request."""
        return asked.verb == self.verb and (asked.changes or asked.verb in {"get", "list"} or self.trials)


@dataclass
class Answer:
    """What is sent back; `fault` where it does not arrive whole."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    fault: Fault | None = None

    @property
    def content(self) -> bytes:
        """The body as it is sent."""
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()
