"""What the web is made of, and how the configuration becomes that.

The web holds one `Parts`; a reload puts new values into it, so that the next request sees all of them. Nothing here
serves a request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from responder import alert, config
from responder.alertmanagers import SETTLED, Alertmanagers
from responder.connections import HttpConnection, OpenTransport
from responder.contracts import Clock, Notifier, Render
from responder.desk import Desk
from responder.metrics import Metrics
from responder.notifiers.pagerduty import PagerDuty
from responder.notifiers.slack import Slack
from responder.planning import Prepares
from responder.presses import Presses
from responder.security import Authenticator, Grant, Person, SlackSignatures, WebhookCredential, WebhookSignature
from responder.services import Basic, Endpoint

ANSWER_BYTES = 64 * 1024 * 1024
"""Of one answer of Alertmanager's API: a list of everything that fires."""

SIGNATURE_HEADERS = ("x-grafana-alerting-signature", "x-grafana-alert-signature")
"""Where Grafana puts a signature when its contact point names no header: as its form says, and as early code did."""


@dataclass(slots=True)
class Parts:
    """Everything that requests need. The fields from `limits` to `slack` are replaced by a reload.

    `emergency` is told why nothing can be stored. `reload` answers what changed; raises ResponderError.
    `unready` answers, without waiting, why this process should get no traffic (loops that ended); empty when it should.
    """

    desk: Desk
    metrics: Metrics
    limits: config.Limits
    authenticator: Authenticator
    alertmanagers: Alertmanagers
    render: Render
    slack: SlackSignatures
    presses: Presses
    emergency: Callable[[str], None]
    reload: Callable[[], Awaitable[str]]
    unready: Callable[[], Sequence[str]]
    pagerduty: Mapping[str, PagerDuty] = field(default_factory=dict)
    """Who may tell what was done in PagerDuty; replaced by a reload too."""
    heard: Callable[[alert.Notification], alert.Notification] = lambda notification: notification
    """Takes the heartbeats out of a notification: they open no incident."""
    health: Callable[[], Mapping[str, Any]] = dict
    """What the program finds about itself, for the status."""
    performs: Callable[[], Prepares] | None = None
    """Who makes the steps of a run by hand ready, as of today; None: no run is started here."""

    @property
    def alert_limits(self) -> alert.Limits:
        """What one notification may hold."""
        given = self.limits
        return alert.Limits(given.alerts, given.labels, given.label_bytes, given.text)


def authenticator(auth: config.Auth, local: Grant | None, now: Clock) -> Authenticator:
    """Who is let in. `local` is the operator where nobody is configured; then everybody may read."""
    people = [Grant(Person(name, frozenset(p.roles)), p.token) for name, p in auth.people.items()]
    webhook = [_webhook_credential(c) for c in auth.webhook]
    return Authenticator([*people, *([local] if local else [])], webhook, now, open_reading=not auth.people)


def _webhook_credential(given: config.Credential) -> WebhookCredential | WebhookSignature:
    if given.basic is not None:
        return WebhookCredential(given.basic.password, given.basic.username)
    if given.hmac is not None:
        return _signature(given.hmac)
    assert given.bearer is not None  # a Credential has one of the three
    return WebhookCredential(given.bearer)


def _signature(given: config.Hmac) -> WebhookSignature:
    headers = SIGNATURE_HEADERS if given.header is None else (given.header.lower(),)
    timestamp = None if given.timestamp_header is None else given.timestamp_header.lower()
    return WebhookSignature(given.secret, headers, timestamp)


def slack_signatures(notifiers: Iterable[Notifier]) -> SlackSignatures:
    """Who signs what is pressed: every Slack app that posts it here."""
    slacks = [n for n in notifiers if isinstance(n, Slack)]
    return SlackSignatures([n.signing_secret for n in slacks if n.signing_secret is not None])


def slack_people(auth: config.Auth) -> Mapping[str, Person]:
    """Slack user id -> who that is here."""
    return {p.slack: Person(name, frozenset(p.roles)) for name, p in auth.people.items() if p.slack is not None}


def pagerduty_notifiers(notifiers: Mapping[str, Notifier]) -> dict[str, PagerDuty]:
    """Those that page through PagerDuty, by name."""
    return {name: notifier for name, notifier in notifiers.items() if isinstance(notifier, PagerDuty)}


def alertmanagers(
    given: Sequence[config.AlertmanagerApi], opener: OpenTransport, now: Clock, settled: int = SETTLED
) -> Alertmanagers:
    """Whoever is asked what fires; `settled` as in Alertmanagers."""
    return Alertmanagers([HttpConnection(api.url, _endpoint(api), opener) for api in given], now, settled)


def _endpoint(api: config.AlertmanagerApi) -> Endpoint:
    basic = None if api.basic is None else Basic(username=api.basic.username, password=api.basic.password)
    return Endpoint(
        kind="alertmanager",
        url=api.url,
        bearer=api.bearer,
        basic=basic,
        connections=4,
        max_response_bytes=ANSWER_BYTES,
    )
