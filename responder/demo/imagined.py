"""People who are not there: they answer what the responder asks, some seconds later, by its API, under names that say
what they are. What they say is what a good person would say; the story needs somebody, and nobody is really asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from responder.demo.observer import TIMEOUT, Seen
from responder.errors import Permanent

ON_CALL: Final = "imagined-on-call"
RISK_MANAGER: Final = "imagined-risk-manager"
QUANT: Final = "imagined-quant"
THINKS: Final = 2.5
"""Seconds between a question and its answer."""

NOTES: Final[Mapping[str, str]] = {
    "reset": "VaR is down, the cut holds",
    "restart": "restarted, with a shorter range of the time series",
    "restart_blind": "restarted",
}
"""What is said about a step."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to one question: `key` tells the question from every other."""

    key: str
    who: str
    incident: str
    verb: str
    step: str
    body: Mapping[str, str]


def answers(seen: Seen) -> Iterator[Answer]:
    """What the people would say to everything that is asked now."""
    for incident in seen.incidents:
        approval = incident.get("approval")
        if approval is not None:
            step, plan = approval["step"], approval["plan"]
            body = {"note": NOTES.get(step, ""), "plan": plan}
            yield Answer(f"{incident['id']}/{plan}", RISK_MANAGER, incident["id"], "approve", step, body)
        for run in incident.get("runs", ()):
            for step in run["steps"]:
                if step["status"] == "asked":
                    body = {"note": NOTES.get(step["id"], "")}
                    key = f"{incident['id']}/{run['number']}/{step['id']}"
                    yield Answer(key, ON_CALL, incident["id"], "done", step["id"], body)


@dataclass
class Imagined:
    """The people at their own clients, each with their own credential, and what they have been asked."""

    clients: Mapping[str, httpx.AsyncClient]
    say: Callable[[str], None]
    _asked: dict[str, float] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)

    async def answer(self, seen: Seen, now: float) -> list[Answer]:
        """Gives the answers whose time has come; `now` in seconds of a clock that only rises. Raises Permanent."""
        given = []
        for one in answers(seen):
            if one.key not in self._said and now - self._asked.setdefault(one.key, now) >= THINKS:
                self._said.add(one.key)
                await self._post(one)
                given.append(one)
        return given

    async def _post(self, one: Answer) -> None:
        self.say(f"{one.who}: {one.verb} {one.step}" + (f" ({one.body['note']})" if one.body["note"] else ""))
        path = f"/api/v1/incidents/{one.incident}/{one.verb}"
        reply = await self.clients[one.who].post(path, json=dict(one.body), timeout=TIMEOUT)
        if reply.status_code != 200:
            raise Permanent(f"{one.who} could not {one.verb} {one.step} ({reply.status_code}): {reply.text[:200]}")


@dataclass(frozen=True, slots=True)
class Wished:
    """What became of a run that somebody asked for: whether it would go ahead, why not, and the answer to trying."""

    var_pct: float
    goes_ahead: bool
    refused: tuple[str, ...]
    status: int | None = None
    """Of the attempt to begin it; None when that was not tried."""


async def wishes_reload(client: httpx.AsyncClient, var_pct: float, *, tries: bool) -> Wished:
    """Somebody asks for a hot reload of the risk parameters; `tries`: and wants it begun. Raises Permanent."""
    path, inputs = "/api/v1/runbooks/hot-reload", {"component": "risk_harmoniser"}
    body: dict[str, Any] = {"inputs": inputs, "reason": "wider limits for the evening"}
    reply = await client.post(f"{path}/plan", json=body, timeout=TIMEOUT)
    if reply.status_code != 200:
        raise Permanent(f"the plan of hot-reload is refused ({reply.status_code}): {reply.text[:200]}")
    plan = reply.json()
    refused = tuple(v["reason"] for v in plan["verdicts"] if v["answer"] in ("deny", "wait"))
    if not tries:
        return Wished(var_pct, plan["goes_ahead"], refused)
    begun = await client.post(f"{path}/run", json={**body, "plan": plan["plan"]}, timeout=TIMEOUT)
    return Wished(var_pct, plan["goes_ahead"], refused, begun.status_code)
