"""The whole web application for a test: a real store, real rules, and an Alertmanager that says what it is told."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from responder import config
from responder.alert import fingerprint
from responder.contracts import Secret
from responder.desk import Desk, Shelf
from responder.draft import Intended, Turn, Worker
from responder.metrics import Metrics, Vocabulary
from responder.operations import Ended, Learned, Report
from responder.policies import Policy
from responder.presses import Presses
from responder.recorded import Effect, Mode, Outcome, Plan
from responder.rules import Rules
from responder.runbook import Runbook
from responder.security import Grant, Person, SlackSignatures
from responder.store import Store, open_store
from responder.timing import DAY, SECOND, format_time
from responder.view import Gather
from responder.web import Parts, alertmanagers, authenticator, create_web, slack_people

START = 1_800_000_000 * SECOND
HOOK = "/webhook/alertmanager"
TOKENS = {"anna": ("responder",), "otto": ("operator",), "rita": ("risk-manager",), "ruth": ("risk-manager",)}
"""Everybody's token is their name with -token behind it."""
SLACK = {name: f"U0{name.upper()}" for name in TOKENS}
"""Everybody's Slack user."""

RUNBOOKS = (
    {
        "runbook": "cut",
        "title": "Cut",
        "match": "VaRBreach",
        "target": "risk-api/kelly_fraction",
        "mode": "auto",
        "steps": [
            {
                "id": "cut_kelly",
                "action": "parameter.reduce",
                "with": {"parameter": "risk-api/kelly_fraction", "to": 0.1},
                "restore": {"approval": "risk-manager"},
            }
        ],
    },
    {
        "runbook": "by-hand",
        "title": "By hand",
        "match": "CacheDown",
        "target": "cache",
        "mode": "auto",
        "steps": [{"id": "look", "manual": "Look at it"}],
    },
    {
        "runbook": "broken",
        "title": "Not even a loader's mistake",
        "match": "Broken",
        "target": "{{ symbol }}",
        "inputs": {"symbol": {"label": "symbol", "pattern": "("}},
    },
)


def secret(value: str) -> Secret:
    return Secret("env TEST", lambda: value)


def rules() -> Rules:
    books = {r.runbook: r for r in map(Runbook.model_validate, RUNBOOKS)}
    return Rules("rules-1", books, {"default": Policy(chat=("console",))}, {}, "default", ceiling=Mode.AUTO)


def alert(name: str = "VaRBreach", *, firing: bool = True, starts: int = START, ends: int = 0, **labels: str) -> Any:
    """One alert as Alertmanager writes it."""
    named = {"alertname": name, "severity": "critical", **labels}
    return {
        "status": "firing" if firing else "resolved",
        "labels": named,
        "annotations": {"summary": f"{name} is up"},
        "startsAt": format_time(starts),
        "endsAt": format_time(ends) if ends else "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": fingerprint(named),
    }


def notification(*alerts: Any, **changes: Any) -> Any:
    """A payload of version 4."""
    return {
        "version": "4",
        "receiver": "team\\.risk",
        "status": "firing",
        "groupKey": '{}:{alertname="VaRBreach"}',
        "groupLabels": {"alertname": "VaRBreach"},
        "externalURL": "http://alertmanager:9093",
        "truncatedAlerts": 0,
        "alerts": list(alerts),
        **changes,
    }


@dataclass
class FakeAlertmanager:
    """Answers the two lists and the status, as told; `broken` answers 500 to everything."""

    alerts: list[Any] = field(default_factory=list)
    groups: list[Any] = field(default_factory=list)
    started: int = START - DAY
    broken: bool = False
    asked: list[str] = field(default_factory=list)

    def transport(self) -> httpx.AsyncBaseTransport:
        paths = {"/api/v2/status": self._status, "/api/v2/alerts": self._alerts, "/api/v2/alerts/groups": self._groups}
        return httpx.ASGITransport(Starlette(routes=[Route(path, answer) for path, answer in paths.items()]))

    async def _status(self, request: Request) -> Response:
        return self._answer(request, {"uptime": format_time(self.started)})

    async def _alerts(self, request: Request) -> Response:
        return self._answer(request, self.alerts)

    async def _groups(self, request: Request) -> Response:
        return self._answer(request, self.groups)

    def _answer(self, request: Request, content: Any) -> Response:
        self.asked.append(str(request.url))
        return JSONResponse({"error": "broken"} if self.broken else content, 500 if self.broken else 200)


class Office:
    """The application with what a test wants to see of it. `time` is the present (µs)."""

    def __init__(self, settings: Mapping[str, Any], managers: list[FakeAlertmanager]) -> None:
        self.time = START
        self.turns: list[Turn] = []
        self.emergencies: list[str] = []
        self.unready: list[str] = []
        self.reload_error: Exception | None = None
        self.registry = CollectorRegistry()
        self._settings = settings
        self._managers = managers
        self.store: Store
        self.desk: Desk
        self.presses: Presses
        self.client: httpx.AsyncClient

    def open(self, path: Path) -> None:
        """Blocks."""
        self.store = open_store(f"sqlite:///{path / 'responder.db'}", lambda: self.time)
        numbers = itertools.count(1)

        given: Rules = self._settings.get("rules") or rules()

        async def read_rules(rules_hash: str) -> Rules | None:
            return given if rules_hash == "rules-1" else None

        shelf = Shelf(given, "test")
        self.desk = Desk(self.store, shelf, Worker("me", alone=True), lambda: f"id-{next(numbers)}", read_rules)
        self.desk.on_turn = self.turns.append

    def parts(self) -> Parts:
        """What the application is made of."""
        metrics = Metrics(self.registry, Vocabulary("test", ("parameter.reduce",), {"console": "console"}))
        self.store.on_commit(lambda committed: metrics.saw(committed.events))
        given = self._settings.get("webhook", ())
        hook = tuple(config.Credential(bearer=secret(c)) if isinstance(c, str) else c for c in given)
        people = {} if self._settings.get("nobody") else TOKENS
        known = {
            n: config.Person(token=(secret(f"{n}-token"),), roles=roles, slack=SLACK[n]) for n, roles in people.items()
        }
        local = Grant(Person("local", frozenset({"*"})), (secret("local-token"),)) if not people else None
        apis = [config.AlertmanagerApi(url=f"http://am-{i}") for i in range(len(self._managers))]
        auth = config.Auth(webhook=hook, people=known)
        self.presses = Presses(self.desk, metrics, slack_people(auth), **self._settings.get("presses", {}))
        transports = {f"http://am-{i}": m.transport() for i, m in enumerate(self._managers)}
        return Parts(
            desk=self.desk,
            metrics=metrics,
            limits=config.Limits(**self._settings.get("limits", {})),
            authenticator=authenticator(auth, local, self.desk.now),
            alertmanagers=alertmanagers(apis, lambda endpoint: transports[endpoint.url], self.desk.now),
            render=lambda template, values: template,
            slack=SlackSignatures([secret(s) for s in self._settings.get("signing", ())]),
            presses=self.presses,
            emergency=self.emergencies.append,
            reload=self._reload,
            unready=lambda: self.unready,
            performs=self._settings.get("performs"),
        )

    async def _reload(self) -> str:
        if self.reload_error is not None:
            raise self.reload_error
        return "2 runbooks, nothing changed"

    async def post(self, content: Any, **headers: str) -> httpx.Response:
        """A notification; text and bytes go as they are."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return await self.client.post(HOOK, content=body, headers=headers)

    async def call(self, method: str, path: str, by: str | None = None, body: Any = None) -> httpx.Response:
        """An API call as somebody."""
        headers = {} if by is None else {"authorization": f"Bearer {by}-token"}
        return await self.client.request(method, f"/api/v1{path}", headers=headers, json=body)

    def count(self, name: str, **labels: str) -> float:
        """A series' value."""
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, f"no series {name} {labels}"
        return value

    async def run_on(self, outcome: Outcome) -> None:
        """Do what the latest turn of a cut wants: prepare, intend, end."""
        turn = self.turns[-1]
        while isinstance(turn.next, Gather | Intended):
            turn = await self._done(turn, turn.next, outcome)
        self.turns.append(turn)

    async def _done(self, turn: Turn, doing: Gather | Intended, outcome: Outcome) -> Turn:
        name, by, incident = self.desk.new_id(), self.desk.worker, turn.incident.id
        if isinstance(doing, Intended):
            return await self.desk.submit(
                lambda shelf: Ended(name, incident, doing.attempt, outcome, "", None, turn.epoch, shelf, by)
            )
        # What stays unknown has no probe here: one that cannot tell is asked again for half a minute.
        effect = Effect.UNSAFE if outcome is Outcome.UNKNOWN else Effect.SET
        plan = Plan(params={}, preview="0.25 to 0.1", effect=effect, prepared_at=self.time, before=0.25, target=0.1)
        return await self.desk.submit(
            lambda shelf: Report(name, incident, doing, Learned(plan=plan), turn.epoch, shelf, by)
        )


@asynccontextmanager
async def serving(path: Path, *managers: FakeAlertmanager, **settings: Any) -> AsyncIterator[Office]:
    """The application over a store in `path`. `settings`: webhook (tokens, credentials), nobody, limits, rules,
    performs (who makes steps ready), signing (Slack's secrets), presses (what `Presses` is made with)."""
    office = Office(settings, list(managers))
    await asyncio.to_thread(office.open, path)
    transport = httpx.ASGITransport(create_web(office.parts()))
    office.client = httpx.AsyncClient(transport=transport, base_url="http://responder")
    try:
        async with office.client:
            yield office
            await office.presses.stop(5.0)
    finally:
        await office.store.close()
