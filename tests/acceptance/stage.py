"""Where a timeline is played: the whole engine in virtual time before a world, told in offsets such as "4:30".

Closed world: at the end no loop fails, no template is broken, and nothing was logged as an error that the test does
not name.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from responder.actions import ACTIONS
from responder.alertmanagers import Alertmanagers
from responder.automation import Automation
from responder.commands import pending_approval
from responder.config import Config, load_config, read_config
from responder.contracts import Catalogue, Clock, Message, PagerState
from responder.environment import Environment
from responder.errors import Temporary
from responder.incident import Incident, Run
from responder.loader import load_rules
from responder.messages import MessageTemplates
from responder.notifiers import NOTIFIERS, message_templates
from responder.perform import Performer
from responder.rules import Rules
from responder.services import SERVICES
from responder.simulate import Scene, Simulation, sleep
from responder.sources import Folders, read_sources, shipped_rules
from responder.timing import MINUTE, SECOND, parse_duration
from tests.acceptance.world import World
from tests.builders import ALERT, a_policy, a_runbook, an_alert, call_step
from tests.fakes.alertmanager import FakeAlertmanager

START = 1_795_183_200 * SECOND
CATALOGUE = Catalogue(ACTIONS, NOTIFIERS, SERVICES)
SETTINGS = """
services:
  risk-api: {kind: http, url: 'http://risk:8080'}
  keyed-api: {kind: http, url: 'http://keyed:8080', idempotency_keys: true}
  metrics: {kind: prometheus, url: 'http://prometheus:9090'}
parameters:
  risk-api/kelly_fraction:
    service: risk-api
    read: {path: /api/status, value: kelly_fraction}
    write: {path: /api/risk/emergency-reduce, body: {kelly_fraction: '{{ value }}', reason: '{{ reason }}'}}
    floor: 0.05
    total_per_day: 0.3
notifiers:
  room: {kind: slack, token: {env: T}, channel: '#room'}
  first: {kind: pagerduty, routing_key: {env: T}}
  second: {kind: pagerduty, routing_key: {env: T}}
  boss: {kind: pagerduty, routing_key: {env: T}}
auth:
  people:
    desk: {token: {env: T}, roles: [operator, risk-manager]}
"""


class Stage(Simulation):
    """A simulation with a world, and words for timelines."""

    world: World

    def __init__(
        self,
        rules: Rules,
        config: Config,
        says: Callable[[str, str], PagerState | None] | None = None,
        peers: int = 0,
    ) -> None:
        self.peers: list[FakeAlertmanager] = []
        scene = Scene(
            rules=rules,
            parameters=config.parameters,
            notifiers=config.notifiers,
            render=templates().render,
            performs=self._performer(config),
            start=START,
            fallback="console",
            automation=config.automation,
            envs={name: service.env for name, service in config.services.items()},
            pagers_say=says,
            alertmanagers=self._asking(peers) if peers else None,
        )
        super().__init__(scene)

    def _asking(self, count: int) -> Callable[[Clock], Alertmanagers]:
        def made(clock: Clock) -> Alertmanagers:
            if not self.peers:
                self.peers = [FakeAlertmanager(clock, f"http://am-{n + 1}") for n in range(count)]
            return Alertmanagers([peer.connection() for peer in self.peers], clock)

        return made

    def _performer(self, config: Config) -> Callable[[Clock], Performer]:
        def made(clock: Clock) -> Performer:
            self.world = World(clock)
            return Performer(ACTIONS, self.world.connect, config.parameters, clock, sleep)

        return made

    # --- time ---------------------------------------------------------------------------------------------------------

    def at(self, offset: str) -> None:
        """Go on to an offset such as `4:30` or `1:02:30`; it must not lie in the past."""
        hours_minutes_seconds = ([0, 0, 0] + [int(part) for part in offset.split(":")])[-3:]
        hours, minutes, seconds = hours_minutes_seconds
        to = ((hours * 60 + minutes) * 60 + seconds) * SECOND
        # What is due at the very instant happens within it: a few microseconds of turns may have passed already.
        assert to >= self.offset - SECOND, f"{offset} is over: it is {self.offset / SECOND:.0f} s"
        self.advance_to(to + SECOND // 100)

    def after(self, duration: str) -> None:
        """Let a duration such as `30s` pass."""
        self.advance(parse_duration(duration))

    def approves(self, actor: str) -> None:
        """Somebody says yes to what is asked now."""
        asked = pending_approval(self.incident)
        self.person("approve", actor, plan=None if asked is None else asked.plan)

    def refuses(self, destination: str, for_minutes: int) -> None:
        """The destination cannot be reached for so long."""
        until = self.clock() + for_minutes * MINUTE
        keeps = self._keeping

        def keeping(name: str) -> Callable[[Message], None]:
            keep = keeps(name)

            def kept(message: Message) -> None:
                if name == destination and self.clock() < until:
                    raise Temporary(f"{name} cannot be reached")
                keep(message)

            return kept

        self._keeping = keeping  # type: ignore[method-assign]
        self.restart()

    # --- what happened ------------------------------------------------------------------------------------------------

    def tells(self, *alerts: tuple[Mapping[str, str], bool]) -> None:
        """One notification with alerts that fire or do not, in this order."""
        self._post([self._alerts.entry(a, {}, self.clock(), firing=firing) for a, firing in alerts], "live")

    def winds_down(self) -> None:
        """The process is asked to stop and has ten seconds for what is under way."""
        self._run(self._alive.runs.stop(10))

    def spoils(self) -> None:
        """A fixed incident's row becomes one that this version cannot read."""
        self._rewrite('"result":"fixed"', '"result":"unheard-of"')

    def heals(self) -> None:
        """The row can be read again."""
        self._rewrite('"result":"unheard-of"', '"result":"fixed"')

    def _rewrite(self, before: str, after: str) -> None:
        store: Any = self.store
        store._groups._cache.clear()
        store._database._memory.execute("UPDATE incidents SET fold = replace(fold, ?, ?)", (before, after))

    @property
    def incident(self) -> Incident:
        """The only one."""
        (found,) = self.incidents()
        return found

    @property
    def last_run(self) -> Run:
        """The latest run of the only incident."""
        run = self.incident.run
        assert run is not None
        return run

    @property
    def pages(self) -> list[tuple[str, str]]:
        """Everybody who was woken, with the time: `("2:00", "first")`."""
        return [(shown(s.at - START), s.destination) for s in self.sent if s.message.kind == "page"]

    @property
    def page_texts(self) -> list[str]:
        """What the pages said."""
        return [s.message.text for s in self.sent if s.message.kind == "page"]

    def told(self, kind: str) -> list[str]:
        """When events of a kind happened, over all incidents."""
        found = [event for i in self.incidents() for event in self.events(i) if event.fact.kind == kind]
        return [shown(event.at - START) for event in sorted(found, key=lambda event: event.at)]

    @property
    def thread(self) -> list[str]:
        """The lines of the chat."""
        return [s.message.text for s in self.sent if s.message.kind == "thread"]

    @property
    def did(self) -> list[tuple[str, str]]:
        """The changes in the world, with their times."""
        return [(shown(at - START), path) for at, path, _ in self.world.changes]

    def scope(self, name: str) -> Mapping[str, Any] | None:
        """The body of a shared scope, or None."""
        found = [row for row in self._run(self.store.scopes(name)) if row.name == name and row.body]
        body: Mapping[str, Any] | None = json.loads(found[0].body) if found else None
        return body


def shown(offset: int) -> str:
    """`2:00` for µs."""
    seconds = offset // SECOND
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


@cache
def templates() -> MessageTemplates:
    """The shipped ones."""
    return message_templates(None)


@cache
def shipped(platform: str = "edge-risk") -> tuple[Rules, Config]:
    """A platform's rules with their example configuration."""
    path = shipped_rules() / platform / "_responder.example.yaml"
    config = load_config(path, CATALOGUE, {"HOME": "/var/ops"}, check_secrets=False)
    return load_rules(
        read_sources(config.rules, Folders(shipped_rules(), config.folder)), CATALOGUE, config
    ).rules, config


def own(
    *runbooks: Mapping[str, Any], mode: str = "auto", calendars: Mapping[str, Any] | None = None, **policy: Any
) -> tuple[Rules, Config]:
    """Rules of a test's own: runbooks as they are written, one ladder, and calendars by their names."""
    environment = Environment({"HOME": "/var/ops"}, shipped_rules(), check_secrets=False)
    config = read_config("responder.yaml", f"mode: {mode}\n{SETTINGS}", CATALOGUE, environment)
    policies = {"policies": {"ladder": a_policy(**policy)}, "default": "ladder", "by_severity": {"info": "ladder"}}
    sources = {"policies.yaml": json.dumps(policies)}
    sources["calendars.yaml"] = json.dumps({"calendars": calendars or {}})
    sources |= {f"{number}.yaml": json.dumps(runbook) for number, runbook in enumerate(runbooks)}
    return load_rules(sources, CATALOGUE, config).rules, config


@contextmanager
def playing(
    rules: tuple[Rules, Config],
    errors: int = 0,
    says: Callable[[str, str], PagerState | None] | None = None,
    peers: int = 0,
) -> Iterator[Stage]:
    """A stage for one timeline, judged as a closed world at its end. `errors`: how many are logged. `says`: what pagers
    answer about their own incidents. `peers`: how many Alertmanagers can be asked what fires."""
    log = _Errors()
    logging.getLogger("responder").addHandler(log)
    stage = Stage(*rules, says, peers)
    try:
        yield stage
        assert stage.failing == []
        assert stage.plain == []
        assert [peer.unexpected for peer in stage.peers] == [[] for _ in stage.peers]
        assert len(log.said) == errors, log.said
    finally:
        logging.getLogger("responder").removeHandler(log)
        stage.close()


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(f"{record.getMessage()} {record.exc_info[1]!r}" if record.exc_info else record.getMessage())


RISK = an_alert(alertname="TooMuchRisk", symbol="")
"""What `a_runbook` answers."""


EDGE_RISK = '{platform="edge-risk", env="prod"}'
"""How the queries of edge-risk select."""
VAR = f"max(var_pct{EDGE_RISK})"
VAR_WHILE_HALTED = f"{VAR} and on() (min(trading_halted{EDGE_RISK}) == 1)"


def breach(stage: Stage, *, helps: bool = True, var: float = 2.1) -> None:
    """VaR stands at `var` for every symbol, and falls when the Kelly fraction is cut, if that helps."""

    def now() -> float:
        return 0.8 if helps and stage.world.kelly <= 0.1 else var

    def while_halted() -> float | None:
        return now() if stage.world.trading == "halted" else None

    stage.world.numbers[VAR] = now
    stage.world.numbers[VAR_WHILE_HALTED] = while_halted


def risky(stage: Stage, *, helps: bool = True) -> None:
    """The same for the check of `a_runbook`."""
    stage.world.numbers["risk"] = lambda: 0.5 if helps and stage.world.changes else 2.0


HALTED = {"h": {"action": "prometheus.query", "with": {"service": "metrics", "query": "h"}}}


def alert(name: str) -> dict[str, str]:
    return an_alert(alertname=name, symbol="")


def unverified(name: str, **parts: Any) -> dict[str, Any]:
    """A runbook that calls the risk API, on the target of all."""
    lower = name.lower()
    whole = {"steps": [call_step(lower, f"/api/{lower}")], "verify": None, **parts}
    return a_runbook(runbook=lower, title=name, match=name, **whole)


def halting(after: str, **promise: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What promises a halt, and the halt."""
    halt = a_runbook(runbook="halt", title="Halt", match=None, target="trading", brake=True, checks=HALTED,
                     steps=[call_step("halt", "/api/stop-trading")],
                     verify={"check": "h", "expect": "value == 1", "within": "1m"})  # fmt: skip
    first = a_runbook(steps=[call_step()], unless_fixed={after: {"run": "halt", "page": "boss", **promise}})
    return first, halt


__all__ = [
    "ALERT",
    "RISK",
    "START",
    "Stage",
    "alert",
    "breach",
    "halting",
    "own",
    "playing",
    "risky",
    "shipped",
    "shown",
    "unverified",
]


BY_SYMBOL = {"symbol": {"label": "symbol", "pattern": "[A-Z]+"}}


def bounded(*runbooks: dict[str, Any], automation: dict[str, Any], **policy: Any) -> tuple[Rules, Config]:
    rules, config = own(*runbooks, **policy)
    return rules, config.model_copy(update={"automation": Automation.model_validate(automation)})


def each_symbol(**parts: Any) -> dict[str, Any]:
    """A runbook with an incident for each symbol."""
    steps = [call_step(path="/api/orders/{{ symbol }}")]
    return a_runbook(**{"inputs": BY_SYMBOL, "target": "risk-api/{{ symbol }}", "steps": steps, **parts})
