"""What watches the demo platform and raises its alerts: the real Prometheus and Alertmanager, else the evaluator.

Both use the shipped alert rules and the shipped route; which of the two it is, is said, never hidden. Nothing is
downloaded here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import yaml

from responder.contracts import Clock
from responder.demo.alert_rules import AlertRule, shipped_alerting, shortened
from responder.demo.evaluator import Evaluator, EvaluatorSettings, Times
from responder.demo.hosting import bound, hosted
from responder.demo.instant_query import create_query_api
from responder.demo.notification import Route
from responder.demo.prometheus import (
    Launch,
    ScrapeJob,
    Timing,
    alertmanager_config,
    alertmanager_launch,
    find_binary,
    free_port,
    prometheus_config,
    prometheus_launch,
    start,
    write_rules,
)
from responder.errors import Permanent
from responder.timing import MILLISECOND, SECOND

TIMING = Timing(scrape_interval=500 * MILLISECOND, evaluation_interval=500 * MILLISECOND, group_wait=200 * MILLISECOND)
HOLDS_FOR = SECOND
"""The longest `for` of an alert; as shipped they hold for up to a minute."""
AT_WORK_SECONDS = 20.0
POLL_SECONDS = 0.1
GET_THE_REAL_ONES = "apt install prometheus prometheus-alertmanager, or `make servers` in a checkout"


@dataclass(frozen=True, slots=True)
class Subject:
    """What of a platform is watched: `alerts` of its shipped rules, the scrape's `job`, and a query that has an answer
    once it was scraped."""

    platform: str
    job: str
    alerts: tuple[str, ...]
    probe: str

    @property
    def labels(self) -> dict[str, str]:
        """What the scrape adds to everything."""
        return {"platform": self.platform, "env": "prod"}


EDGE_RISK = Subject(
    platform="edge-risk",
    job="edge-risk",
    alerts=("VaRBreach", "ExcessiveModelSwitching", "RedisLatencyHigh", "CircuitBreakerOpened"),
    probe="count(var_pct)",
)


@dataclass(frozen=True, slots=True)
class Watched:
    """Who is watched, whom to tell. Addresses are `host:port`; `token_file` holds the webhook's credential."""

    platform: str
    responder: str
    token_file: Path = field(repr=False)
    subject: Subject = EDGE_RISK

    @property
    def webhook(self) -> str:
        """Where notifications go."""
        return f"http://{self.responder}/webhook/alertmanager"


@dataclass(frozen=True, slots=True)
class Monitoring:
    """What is going to watch, before it is started. `binaries`: the real Prometheus and Alertmanager, None without."""

    folder: Path
    binaries: tuple[Path, Path] | None
    metrics_port: int
    alertmanager_port: int

    @property
    def metrics_url(self) -> str:
        """The address of the query API."""
        return f"http://127.0.0.1:{self.metrics_port}"

    @property
    def alertmanager_url(self) -> str | None:
        """The address of Alertmanager's API; the evaluator has none."""
        return f"http://127.0.0.1:{self.alertmanager_port}" if self.binaries else None


def planned(folder: Path, *, built_in: bool) -> Monitoring:
    """The real servers when both binaries are found and `built_in` is not wanted, else the evaluator."""
    found = None if built_in else (find_binary("prometheus"), find_binary("alertmanager"))
    both = (found[0], found[1]) if found and found[0] is not None and found[1] is not None else None
    return Monitoring(folder, both, free_port(), free_port())


@contextlib.asynccontextmanager
async def watching(plan: Monitoring, watched: Watched, clock: Clock) -> AsyncIterator[None]:
    """Starts what is planned, for as long as the block lasts. Raises Permanent with the last words of a server."""
    rules = _rules(watched.subject)
    if plan.binaries is None:
        async with _evaluator(plan, watched, rules, clock):
            await _at_work(plan, watched.subject)
            yield
        return
    async with contextlib.AsyncExitStack() as stack:
        starting = [asyncio.create_task(start(launch)) for launch in _launches(plan, plan.binaries, watched, rules)]
        try:
            started = await asyncio.gather(*starting, return_exceptions=True)
        except asyncio.CancelledError:
            # `start` stops its server when it is cancelled; one that is up already is ours to stop.
            for task in starting:
                task.cancel()
            started = await asyncio.gather(*starting, return_exceptions=True)
            await asyncio.gather(*(one.stop() for one in started if not isinstance(one, BaseException)))
            raise
        for one in started:
            if not isinstance(one, BaseException):
                stack.push_async_callback(one.stop)
        for one in started:
            if isinstance(one, Permanent):
                raise Permanent(f"{one}\nmend it, or do without it: responder demo --built-in")
            if isinstance(one, BaseException):
                raise one
        await _at_work(plan, watched.subject)
        yield


async def _at_work(plan: Monitoring, subject: Subject) -> None:
    """Returns once the platform has been scraped and Prometheus has found its Alertmanager: that it answers is not
    enough, both come seconds after it. Raises Permanent when they do not come."""
    give_up = asyncio.get_running_loop().time() + AT_WORK_SECONDS
    async with httpx.AsyncClient(base_url=plan.metrics_url, trust_env=False, timeout=2.0) as client:
        while not await _scraped(client, subject.probe) or (plan.binaries is not None and not await _delivers(client)):
            if asyncio.get_running_loop().time() > give_up:
                raise Permanent(f"{plan.metrics_url} has not scraped the platform in {AT_WORK_SECONDS:g} s: try again")
            await asyncio.sleep(POLL_SECONDS)


async def _scraped(client: httpx.AsyncClient, probe: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        answer = await client.get("/api/v1/query", params={"query": probe})
        return bool(answer.json()["data"]["result"])
    return False


async def _delivers(client: httpx.AsyncClient) -> bool:
    answer = await client.get("/api/v1/alertmanagers")
    return bool(answer.json()["data"]["activeAlertmanagers"])


def _rules(subject: Subject) -> tuple[AlertRule, ...]:
    text = (shipped_alerting() / "rules" / f"{subject.platform}.yml").read_text(encoding="utf-8")
    return shortened(text, subject.alerts, HOLDS_FOR)


def _launches(
    plan: Monitoring, binaries: tuple[Path, Path], watched: Watched, rules: tuple[AlertRule, ...]
) -> tuple[Launch, Launch]:
    shipped = (shipped_alerting() / "alertmanager.yml").read_text(encoding="utf-8")
    job = ScrapeJob(watched.subject.job, watched.platform, watched.subject.labels)
    rule_file = write_rules(plan.folder / "prometheus", rules, TIMING)
    configured = prometheus_config(TIMING, [job], [f"127.0.0.1:{plan.alertmanager_port}"], [rule_file])
    routed = alertmanager_config(shipped, TIMING, watched.webhook, watched.token_file)
    return (
        prometheus_launch(binaries[0], plan.folder / "prometheus", configured, TIMING, plan.metrics_port),
        alertmanager_launch(binaries[1], plan.folder / "alertmanager", routed, plan.alertmanager_port),
    )


@contextlib.asynccontextmanager
async def _evaluator(
    plan: Monitoring, watched: Watched, rules: tuple[AlertRule, ...], clock: Clock
) -> AsyncIterator[None]:
    shipped = yaml.safe_load((shipped_alerting() / "alertmanager.yml").read_text(encoding="utf-8"))
    settings = EvaluatorSettings(
        metrics_url=f"http://{watched.platform}/metrics",
        webhook_url=watched.webhook,
        rules=rules,
        route=Route("responder", tuple(shipped["route"]["group_by"]), plan.metrics_url),
        target_labels={**watched.subject.labels, "job": watched.subject.job, "instance": watched.platform},
        token=watched.token_file.read_text().strip(),
        times=Times(scrape_interval=TIMING.scrape_interval, group_wait=TIMING.group_wait),
    )
    async with httpx.AsyncClient(trust_env=False) as client:
        evaluator = Evaluator(settings, client)
        async with hosted(create_query_api(lambda: tuple(evaluator.scrapes), clock), bound(plan.metrics_port)):
            ticking = asyncio.create_task(evaluator.run(clock), name="the built-in evaluator")
            try:
                yield
            finally:
                ticking.cancel()
                await asyncio.gather(ticking, return_exceptions=True)
