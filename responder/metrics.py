"""Every series of `/metrics`, declared once; what moves them are the events of commits and the edge's own calls.

Combinations of closed label sets exist from the start at 0, so that `increase()` sees the first step. There is no
series that nothing feeds. Counts are those of this process: with replicas sum over them. Not here: names of alerts,
targets or people as labels, which would be without bound.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from responder import facts as f
from responder.alert import Notification
from responder.policies import SEVERITIES
from responder.recorded import Answer, Cause, Outcome, Result
from responder.records import Lane
from responder.timing import SECOND

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
CODES: Final = ("200", "401", "403", "405", "413", "503")
"""Every status that the webhook answers."""
BURIED: Final = ("body", "alert", "size", "internal", "truncated")
"""Why something became a dead letter: the whole body, one alert, its size, a mistake of ours, alerts left out."""
DENYING: Final = ("mode", "env", "runs", "ineffective", "lock", "relapse", "success", "calendar",
                  "alerts", "only_if", "budget", "changes")  # fmt: skip
WAITING: Final = ("pause", "cooldown", "lock", "storm", "calendar", "yields_to")
LEVELS: Final = ("1", "2", "3", "4")
_OTHER: Final = "other"
_ATTEMPTS: Final = 10_000
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The closed sets that only the wiring knows: actions by name, destinations with their notifier's kind."""

    version: str
    actions: Iterable[str]
    destinations: Mapping[str, str]


class Metrics:
    """See the module. Give `saw` to the store's `on_commit`."""

    def __init__(self, registry: CollectorRegistry, words: Vocabulary) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # process-wide: a creation time beside every counter doubles the page for nothing
        self._registry = registry
        self._kinds = dict(words.destinations)
        self._actions = frozenset(words.actions)
        self._running: OrderedDict[str, str] = OrderedDict()
        self._declare_edge(words.version)
        self._declare_runs()
        self._declare_people()
        self._declare_store()
        self._declare_health()
        self._declare_reconciliation()
        self._feeds = self._table()

    # --- declaring ----------------------------------------------------------------------------------------------------

    def _counter(self, name: str, text: str, **labels: Iterable[str]) -> Counter:
        counter = Counter(name, text, list(labels), registry=self._registry)
        for values in product(*labels.values()) if labels else ():
            counter.labels(*values)
        return counter

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self._registry)

    def _declare_edge(self, version: str) -> None:
        build = Gauge("responder_build_info", "1, with the version as a label.", ["version"], registry=self._registry)
        build.labels(version).set(1)
        self._answers = self._counter(
            "responder_webhook_requests_total", "Answers of the Alertmanager webhook by status code.", code=CODES
        )
        self.webhook_seconds = Histogram(
            "responder_webhook_duration_seconds",
            "Time from a whole notification in memory to its durable acknowledgement.",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._notifications = self._counter("responder_notifications_received_total", "Notifications understood.")
        alerts = self._counter(
            "responder_alerts_received_total", "Alerts in them, repeated ones too.",
            status=("firing", "resolved", "unreadable"),
        )  # fmt: skip
        self._alerts = {status: alerts.labels(status) for status in ("firing", "resolved", "unreadable")}
        self._buried = self._counter("responder_dead_letters_total", "What could not be understood.", reason=BURIED)
        self._refused = self._counter(
            "responder_credentials_refused_total", "Requests without a sufficient credential.",
            door=("webhook", "api", "slack"), reason=("missing", "wrong", "role"),
        )  # fmt: skip
        self._slack = self._gauge(
            "responder_slack_connected",
            "0 while a Socket Mode connection is broken: buttons in Slack do nothing. Else 1.",
        )
        self._slack.set(1)
        self._reload_ok = self._gauge(
            "responder_config_last_reload_successful", "Whether the last load of configuration and rules succeeded."
        )
        self._reload_at = self._gauge(
            "responder_config_last_reload_success_timestamp_seconds", "When configuration and rules were last loaded."
        )

    def _declare_runs(self) -> None:
        self._opened = self._counter(
            "responder_incidents_opened_total", "Incidents opened.", severity=(*SEVERITIES, _OTHER)
        )
        self._closed = self._counter("responder_incidents_closed_total", "Incidents closed.")
        self._open = self._gauge("responder_incidents_open", "Open incidents.")
        self._started = self._counter("responder_runs_started_total", "Runs started.", cause=list(Cause))
        self._ended = self._counter("responder_runs_ended_total", "Runs ended.", result=list(Result))
        actions = sorted((*self._actions, _OTHER))
        self._intended = self._counter("responder_attempts_started_total", "Attempts intended.", action=actions)
        self._outcomes = self._counter(
            "responder_attempts_ended_total", "Attempts ended; the action is `other` after a restart.",
            action=actions, outcome=list(Outcome),
        )  # fmt: skip
        self._gates = self._counter("responder_gate_refusals_total", "Changes denied by a gate.", gate=DENYING)
        self._waits = self._counter("responder_gate_waits_total", "Changes put off by a gate.", gate=WAITING)

    def _declare_people(self) -> None:
        kinds = sorted({*self._kinds.values(), _OTHER})
        self._levels = self._counter(
            "responder_levels_reached_total", "Escalation levels reached.", level=(*LEVELS, _OTHER)
        )
        self._paged = self._counter("responder_pages_total", "Pages put into the outbox.", notifier=kinds)
        self._accepted = self._counter("responder_pages_accepted_total", "Pages that a service took.", notifier=kinds)
        self._dead = self._counter(
            "responder_messages_dead_total", "Messages refused for good.", notifier=kinds, lane=list(Lane)
        )

    def _declare_store(self) -> None:
        self._store_up = self._gauge("responder_store_up", "Whether the store answered this scrape.")
        self._timers_late = self._gauge(
            "responder_timers_lateness_seconds", "How long the earliest timer has been due; 0 when none is."
        )
        self._messages_late = self._gauge(
            "responder_messages_lateness_seconds", "How long the earliest message has waited past its time; 0: none."
        )

    def _declare_health(self) -> None:
        self._audit = self._gauge("responder_audit_clean", "1 when the last self-audit found nothing; else 0.")
        self._beats = Gauge(
            "responder_heartbeat_last_seen_seconds",
            "Seconds since an expected heartbeat came last; NaN: never.",
            ["name"],
            registry=self._registry,
        )
        self._pings = self._counter(
            "responder_heartbeat_pings_total", "Calls of outside switches.", result=("taken", "failed", "withheld")
        )

    def _declare_reconciliation(self) -> None:
        found = self._counter(
            "responder_reconciled_alerts_total",
            "Alerts that nobody told us of: they fired in Alertmanager, or had ended there.",
            found=("fired", "ended"),
        )
        self._reconciled = {what: found.labels(what) for what in ("fired", "ended")}
        self._unsure = self._gauge(
            "responder_alertmanagers_unsure",
            "Alertmanagers that do not answer or have just started: from them no end is concluded.",
        )

    def watch(self, oldest_wait: Callable[[], float]) -> None:
        """Add what is asked at each scrape: seconds that the oldest operation waits for the store."""
        gauge = self._gauge("responder_store_oldest_wait_seconds", "How long the oldest operation waits for the store.")
        gauge.set_function(oldest_wait)

    # --- feeding: the edge --------------------------------------------------------------------------------------------

    def answered(self, code: int) -> None:
        """The webhook answered."""
        self._answers.labels(str(code)).inc()

    def received(self, notification: Notification) -> None:
        """A notification was understood and stored."""
        firing = sum(1 for alert in notification.alerts if alert.firing)
        self._notifications.inc()
        self._alerts["firing"].inc(firing)
        self._alerts["resolved"].inc(len(notification.alerts) - firing)
        if notification.bad:
            self._alerts["unreadable"].inc(len(notification.bad))
            self._buried.labels("alert").inc(len(notification.bad))

    def buried(self, reason: str) -> None:
        """A dead letter was stored; `reason` is one of BURIED."""
        self._buried.labels(reason).inc()

    def refused(self, door: str, reason: str) -> None:
        """A credential was not enough: `door` webhook, api or slack, `reason` missing, wrong or role."""
        self._refused.labels(door, reason).inc()

    def slack_connected(self, connected: bool) -> None:
        """Whether every Socket Mode connection that is configured stands."""
        self._slack.set(connected)

    def reloaded(self, successful: bool, now: int) -> None:
        """Configuration and rules were read, at the start too. `now` in µs."""
        self._reload_ok.set(successful)
        if successful:
            self._reload_at.set(now / SECOND)

    def open_incidents(self, count: int) -> None:
        """How many are open now, from the store: at the start, and whenever it is counted again."""
        self._open.set(count)

    def store_seen(self, *, up: bool, timers_late: float, messages_late: float) -> None:
        """What the store said at a scrape; lateness in seconds, NaN when it did not answer."""
        self._store_up.set(up)
        self._timers_late.set(timers_late)
        self._messages_late.set(messages_late)

    def audited(self, *, clean: bool) -> None:
        """A self-audit is done."""
        self._audit.set(clean)

    def heartbeats_seen(self, ages: Mapping[str, float]) -> None:
        """Name -> seconds since it was last seen, NaN for never."""
        self._beats.clear()
        for name, age in ages.items():
            self._beats.labels(name).set(age)

    def reconciled(self, *, fired: int, ended: int) -> None:
        """So many alerts were found to fire, or to have ended, without having been told."""
        self._reconciled["fired"].inc(fired)
        self._reconciled["ended"].inc(ended)

    def alertmanagers_unsure(self, count: int) -> None:
        """From what so many Alertmanagers do not list nothing can be concluded now."""
        self._unsure.set(count)

    def pinged(self, result: str) -> None:
        """An outside switch was called: `taken`, `failed` or `withheld`."""
        self._pings.labels(result).inc()

    def name_destinations(self, destinations: Mapping[str, str]) -> None:
        """After a reload: destination -> its notifier's kind."""
        self._kinds = dict(destinations)

    # --- feeding: events ----------------------------------------------------------------------------------------------

    def saw(self, events: Iterable[f.Event]) -> None:
        """Count what a commit recorded."""
        for event in events:
            feed = self._feeds.get(type(event.fact))
            if feed is not None:
                feed(event.fact)

    def _table(self) -> dict[type[Any], Callable[[Any], None]]:
        return {
            f.Opened: self._saw_opened,
            f.Closed: self._saw_closed,
            f.RunStarted: lambda fact: self._started.labels(fact.cause).inc(),
            f.RunEnded: lambda fact: self._ended.labels(fact.result).inc(),
            f.AttemptIntended: self._saw_intended,
            f.AttemptEnded: self._saw_ended,
            f.Refused: self._saw_refused,
            f.Waiting: self._saw_waiting,
            f.LevelReached: self._saw_level,
            f.Paged: lambda fact: self._paged.labels(self._kind(fact.destination)).inc(),
            f.PageAccepted: lambda fact: self._accepted.labels(self._kind(fact.destination)).inc(),
            f.MessageDead: lambda fact: self._dead.labels(self._kind(fact.destination), fact.lane).inc(),
        }

    def _kind(self, destination: str) -> str:
        return self._kinds.get(destination, _OTHER)

    def _saw_opened(self, fact: f.Opened) -> None:
        self._opened.labels(fact.severity if fact.severity in SEVERITIES else _OTHER).inc()
        self._open.inc()

    def _saw_closed(self, fact: f.Closed) -> None:
        self._closed.inc()
        self._open.dec()

    def _saw_intended(self, fact: f.AttemptIntended) -> None:
        action = fact.action if fact.action in self._actions else _OTHER
        self._intended.labels(action).inc()
        self._running[fact.attempt] = action
        if len(self._running) > _ATTEMPTS:
            self._running.popitem(last=False)

    def _saw_ended(self, fact: f.AttemptEnded) -> None:
        """An attempt's end names no action; that of its intent is remembered, unless a restart came between."""
        self._outcomes.labels(self._running.pop(fact.attempt, _OTHER), fact.outcome).inc()

    def _saw_refused(self, fact: f.Refused) -> None:
        for verdict in fact.verdicts:
            if verdict.answer is Answer.DENY:
                self._gates.labels(verdict.gate).inc()

    def _saw_waiting(self, fact: f.Waiting) -> None:
        for verdict in fact.verdicts:
            if verdict.answer is Answer.WAIT:
                self._waits.labels(verdict.gate).inc()

    def _saw_level(self, fact: f.LevelReached) -> None:
        level = str(fact.index + 1)
        self._levels.labels(level if level in LEVELS else _OTHER).inc()

    # --- showing ------------------------------------------------------------------------------------------------------

    def text(self) -> bytes:
        """The page, in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)
