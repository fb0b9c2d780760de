"""The notifier for PagerDuty at the fake's wire, and what it is asked to send."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from responder import facts as f
from responder.contracts import Message
from responder.incident import Incident
from responder.notifiers.pagerduty import PagerDuty
from responder.recorded import StepStatus
from tests.contract.told_messages import message, secret, unfixed
from tests.fakes.pagerduty import KEY, SENDER, TOKEN, FakePagerDuty

OLDER, PAGE, LATER = (f"responder/main/i1/desk/{occasion}" for occasion in ("m0.0", "l0.0", "l0.1"))
DONE = f.StepEnded(run=1, step="cut", status=StepStatus.DONE)


def notifier(url: str, *, rest: bool = True, **more: Any) -> PagerDuty:
    api = {"api_token": secret(TOKEN), "from_email": SENDER, "api_url": url} if rest else {}
    return PagerDuty(**{"routing_key": secret(KEY), "base_url": url, **api, **more})


@asynccontextmanager
async def paging(**more: Any) -> AsyncIterator[tuple[FakePagerDuty, PagerDuty]]:
    """PagerDuty, and the notifier that speaks to it."""
    async with FakePagerDuty() as server:
        pager = notifier(server.url, **more)
        try:
            yield server, pager
        finally:
            await pager.stop()


def page(pager: PagerDuty, about: Incident | None = None, **changes: Any) -> Message:
    return replace(message(pager, "page", about or unfixed()), **changes)


def saying(pager: PagerDuty, kind: str, text: str = "asha has it: looking", **changes: Any) -> Message:
    """Something else about the page: its end, an acknowledgement, a note, a change."""
    told_of = message(pager, "page", unfixed(), fact=DONE) if kind == "change" else page(pager)
    lane = "thread" if kind in ("note", "change", "move") else "page"
    return replace(told_of, **{"kind": kind, "lane": lane, "text": text, "body": None, **changes})
