"""The web: one table of routes; each handler is in the module that the table names.

`create_web(parts)` makes the ASGI application. It wires nothing else: what it needs is in `Parts`.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from responder.web.access import guarded, not_served
from responder.web.api import Api
from responder.web.notifications import Notifications
from responder.web.ops import Ops
from responder.web.pagerduty import PagerDutyDoor
from responder.web.parts import (
    Parts,
    alertmanagers,
    authenticator,
    pagerduty_notifiers,
    slack_people,
    slack_signatures,
)
from responder.web.replays import Replays
from responder.web.reports import Reports
from responder.web.runs import ManualRuns
from responder.web.slack import SlackDoor
from responder.web.verbs import Verbs
from responder.web.webhook import AlertmanagerWebhook


def create_web(parts: Parts) -> Starlette:
    """The application. The webhook stands first and in no middleware: every alert passes there."""
    stored, replays = Notifications(parts), Replays(parts)
    reports, by_hand = Reports(parts), ManualRuns(parts)
    webhook, api, verbs, ops = AlertmanagerWebhook(parts), Api(parts), Verbs(parts), Ops(parts)
    slack, pagerduty = SlackDoor(parts), PagerDutyDoor(parts)
    routes = [
        Route("/webhook/alertmanager", webhook),
        Route("/webhook/alertmanager/", webhook),
        Route("/webhook/slack", guarded(slack.interaction), methods=["POST"]),
        Route("/webhook/pagerduty", guarded(pagerduty.event), methods=["POST"]),
        Route("/api/v1/incidents", guarded(api.incidents), methods=["GET"]),
        Route("/api/v1/incidents/{id}", guarded(api.incident), methods=["GET"]),
        Route("/api/v1/incidents/{id}/journal", guarded(reports.journal), methods=["GET"]),
        Route("/api/v1/handover", guarded(reports.handover), methods=["GET"]),
        Route("/api/v1/dead-letters", guarded(reports.dead_letters), methods=["GET"]),
        Route("/api/v1/dead-letters/{id}", guarded(reports.dead_letter), methods=["GET"]),
        Route("/api/v1/incidents/{id}/{verb}", guarded(verbs.verb), methods=["POST"]),
        Route("/api/v1/notifications", guarded(stored.notifications), methods=["GET"]),
        Route("/api/v1/replays/{name}/notifications", guarded(replays.notification), methods=["POST"]),
        Route("/api/v1/runbooks/{name}/plan", guarded(by_hand.plan), methods=["POST"]),
        Route("/api/v1/runbooks/{name}/run", guarded(by_hand.run), methods=["POST"]),
        Route("/api/v1/pause", guarded(verbs.pause), methods=["POST"]),
        Route("/api/v1/resume", guarded(verbs.resume), methods=["POST"]),
        Route("/api/v1/status", guarded(api.status), methods=["GET"]),
        Route("/-/healthy", guarded(ops.healthy), methods=["GET"]),
        Route("/-/ready", guarded(ops.ready), methods=["GET"]),
        Route("/-/reload", guarded(ops.reload), methods=["POST", "PUT"]),
        Route("/metrics", guarded(ops.metrics), methods=["GET"]),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: not_served})
    app.router.redirect_slashes = False  # a redirected POST loses its body and counts as delivered (contracts.md A2)
    return app


__all__ = [
    "Parts",
    "alertmanagers",
    "authenticator",
    "create_web",
    "pagerduty_notifiers",
    "slack_people",
    "slack_signatures",
]
