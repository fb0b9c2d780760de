"""Stands in for Prometheus and Alertmanager where their binaries are missing: scrapes, evaluates, groups, posts.

So that the demo runs anywhere, and says that it runs on this. It imitates what the responder can see of the two: the
payload, the times at which a group is told, retries on 5xx and transport errors only. One target, one route, one
receiver; nothing is kept over a restart, and a webhook that hangs holds up the next scrape. Time is handed in: one
`tick(now)` does what is due and names the next instant, so tests turn the clock themselves.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote_plus

import httpx
from prometheus_client.parser import text_string_to_metric_families

from responder.alert import fingerprint
from responder.demo.alert_rules import AlertRule, expanded
from responder.demo.notification import Route, SentAlert, Told, payload, told_by, worth_telling
from responder.demo.promql import Moment, Sample, Scrape, parse
from responder.timing import MILLISECOND, SECOND, backoff

FLUSH_DEADLINE = 10 * SECOND
"""Alertmanager gives a flush at least this long, however short the group_interval (contracts.md A3)."""

REMEMBERED = 2000
"""Scrapes that queries can look back at: more than any demo makes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Times:
    """Intervals in microseconds, by the names that Prometheus and Alertmanager give them."""

    scrape_interval: int = SECOND
    group_wait: int = 0
    group_interval: int = 2 * SECOND
    repeat_interval: int = 3600 * SECOND


@dataclass(frozen=True, slots=True)
class EvaluatorSettings:
    """What is scraped, with which labels, and whom to tell. URLs are absolute; `token` is the webhook's."""

    metrics_url: str
    webhook_url: str
    rules: tuple[AlertRule, ...]
    route: Route
    target_labels: Mapping[str, str]
    token: str | None = field(default=None, repr=False)
    times: Times = Times()


@dataclass(frozen=True, slots=True)
class Condition:
    """A series that meets a rule's threshold: pending since `since`, firing once it has `fired` (µs)."""

    alert: SentAlert
    since: int
    fired: int | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One flush on its way: the body is fixed when it begins, retries send the same bytes until the deadline."""

    body: bytes
    alerts: tuple[SentAlert, ...]
    deadline: int
    attempt: int
    due: int


@dataclass(slots=True)
class Group:
    """The alerts that are told together, by fingerprint, and how far the telling has come."""

    alerts: dict[str, SentAlert]
    next_flush: int
    told: Told | None = None
    delivery: Delivery | None = None


class Evaluator:
    """Scrapes, evaluates and posts, one `tick` at a time."""

    def __init__(self, settings: EvaluatorSettings, client: httpx.AsyncClient) -> None:
        self._settings = settings
        self._client = client
        self._expressions = [(rule, parse(rule.expr)) for rule in settings.rules]
        self._conditions: dict[str, Condition] = {}
        self._groups: dict[tuple[str, ...], Group] = {}
        self._next_scrape = 0
        self.scrapes: deque[Scrape] = deque(maxlen=REMEMBERED)

    async def run(self, clock: Callable[[], int]) -> None:
        """Ticks for ever; `clock` is microseconds since the epoch. Ends by cancellation."""
        while True:
            due = await self.tick(clock())
            await asyncio.sleep(max(0, due - clock()) / SECOND)

    async def tick(self, now: int) -> int:
        """Does what is due at `now` (µs since the epoch) and gives the instant of what is due next."""
        if now >= self._next_scrape:
            self._next_scrape = now + self._settings.times.scrape_interval
            scrape = await self._scrape(now)
            self.scrapes.append(scrape)
            self._evaluate(now)
        for key, group in list(self._groups.items()):
            await self._flush(group, now)
            if not group.alerts and group.delivery is None:
                del self._groups[key]
        return min([self._next_scrape, *(_due(group) for group in self._groups.values())])

    async def _scrape(self, now: int) -> Scrape:
        labels = dict(self._settings.target_labels)
        try:
            answer = await self._client.get(self._settings.metrics_url, timeout=1.0)
            answer.raise_for_status()
            samples = tuple(
                Sample(sample.name, {**sample.labels, **labels}, sample.value)
                for family in text_string_to_metric_families(answer.text)
                for sample in family.samples
            )
        except (httpx.HTTPError, ValueError) as error:
            log.warning("scrape of %s failed: %s", self._settings.metrics_url, error)
            return Scrape(now, (Sample("up", labels, 0.0),))
        return Scrape(now, (*samples, Sample("up", labels, 1.0)))

    def _evaluate(self, now: int) -> None:
        met: dict[str, Condition] = {}
        for rule, expression in self._expressions:
            found = expression(Moment(self.scrapes, now))
            for sample in found if isinstance(found, tuple) else ():
                alert = self._alert(rule, sample, now)
                met[alert.fingerprint] = self._continued(alert, rule, now)
        ended = [known for identity, known in self._conditions.items() if identity not in met]
        self._conditions = met
        for known in met.values():
            if known.fired is not None:
                self._receive(replace(known.alert, started=known.fired), now)
        for known in ended:
            if known.fired is not None:
                self._receive(replace(known.alert, started=known.fired, ended=now), now)

    def _alert(self, rule: AlertRule, sample: Sample, now: int) -> SentAlert:
        filled = expanded(rule, sample.labels, sample.value)
        return SentAlert(
            labels={**sample.labels, **filled.labels, "alertname": rule.name},
            annotations=filled.annotations,
            started=now,
            ended=None,
            generator_url=f"{self._settings.route.external_url}/graph?g0.expr={quote_plus(rule.expr)}&g0.tab=1",
        )

    def _continued(self, alert: SentAlert, rule: AlertRule, now: int) -> Condition:
        known = self._conditions.get(fingerprint(alert.labels))
        since = now if known is None else known.since
        fired = None if known is None else known.fired
        if fired is None and now - since >= rule.holds_for:
            fired = now
        return Condition(alert, since, fired)

    def _receive(self, alert: SentAlert, now: int) -> None:
        key = tuple(alert.labels.get(name, "") for name in self._settings.route.group_by)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group({}, next_flush=now + self._settings.times.group_wait)
        group.alerts[alert.fingerprint] = alert

    async def _flush(self, group: Group, now: int) -> None:
        if group.delivery is None and now >= group.next_flush:
            self._begin(group, now)
        if group.delivery is not None and now >= group.delivery.due:
            await self._deliver(group, group.delivery, now)

    def _begin(self, group: Group, now: int) -> None:
        times = self._settings.times
        alerts = tuple(group.alerts.values())
        group.next_flush = now + times.group_interval
        if not worth_telling(group.told, alerts, now, times.repeat_interval):
            _forget_ended(group, alerts)
            return
        deadline = now + max(times.group_interval, FLUSH_DEADLINE)
        group.delivery = Delivery(payload(self._settings.route, alerts), alerts, deadline, attempt=1, due=now)

    async def _deliver(self, group: Group, delivery: Delivery, now: int) -> None:
        status = await self._post(delivery.body, max(SECOND, delivery.deadline - now))
        if status is not None and status < 500:
            group.delivery = None
            if 200 <= status < 300:
                group.told = told_by(delivery.alerts, now)
                _forget_ended(group, delivery.alerts)
            else:
                log.warning("the webhook refused a notification with %d: it is sent again at group_interval", status)
            return
        # Without Alertmanager's jitter: there is one sender here, and the same run should give the same times.
        due = now + backoff(delivery.attempt, 500 * MILLISECOND, 1.5, 60 * SECOND, jitter=0.0)
        group.delivery = replace(delivery, attempt=delivery.attempt + 1, due=due)
        if due >= delivery.deadline:
            group.delivery, group.next_flush = None, max(group.next_flush, delivery.deadline)

    async def _post(self, body: bytes, within: int) -> int | None:
        """The status of one attempt, None without an answer; `within` microseconds."""
        headers = {"Content-Type": "application/json", "User-Agent": "responder-demo-evaluator"}
        if self._settings.token is not None:
            headers["Authorization"] = f"Bearer {self._settings.token}"
        try:
            answer = await self._client.post(
                self._settings.webhook_url,
                content=body,
                headers=headers,
                timeout=within / SECOND,
                follow_redirects=False,
            )
        except httpx.TransportError as error:
            log.warning("a notification was not delivered and is sent again: %s", error)
            return None
        return answer.status_code


def _due(group: Group) -> int:
    return group.next_flush if group.delivery is None else group.delivery.due


def _forget_ended(group: Group, told: tuple[SentAlert, ...]) -> None:
    """Drops what was told as ended, unless it has fired again since."""
    for alert in told:
        if alert.ended is not None and group.alerts.get(alert.fingerprint) == alert:
            del group.alerts[alert.fingerprint]
