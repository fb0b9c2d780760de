"""/-/healthy, /-/ready, /-/reload and /metrics, as Prometheus names and means them.

Open to whoever reaches the port, but for the reload: they tell nothing about incidents, and answer while the store is
gone.
"""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from responder.errors import ResponderError, StoreUnavailable
from responder.metrics import CONTENT_TYPE
from responder.security import NEEDED
from responder.timing import SECOND
from responder.web.access import allowed, known
from responder.web.parts import Parts


class Ops:
    """The handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def healthy(self, request: Request) -> Response:
        """The process is alive: restart it when this does not answer."""
        return PlainTextResponse("responder is healthy\n")

    async def ready(self, request: Request) -> Response:
        """200 when notifications can be taken in and worked on, else 503 with every reason."""
        reasons = list(self._parts.unready())
        try:
            await self._parts.desk.store.ping()
        except StoreUnavailable as error:
            reasons.append(str(error))
        if reasons:
            return PlainTextResponse("".join(f"{reason}\n" for reason in reasons), 503)
        return PlainTextResponse("responder is ready\n")

    async def reload(self, request: Request) -> Response:
        """Read configuration and rules again. 400 with every problem when they are bad: then nothing has changed."""
        person = known(self._parts, request)
        allowed(self._parts, person, "reload", NEEDED["reload"])
        try:
            return PlainTextResponse(f"{await self._parts.reload()}\n")
        except StoreUnavailable:
            raise
        except ResponderError as error:
            return PlainTextResponse(f"{error}\nnothing was changed: the rules from before go on\n", 400)

    async def metrics(self, request: Request) -> Response:
        """Every series, with the store asked how late its work is."""
        await self._ask_store()
        return Response(self._parts.metrics.text(), media_type=CONTENT_TYPE)

    async def _ask_store(self) -> None:
        desk, metrics = self._parts.desk, self._parts.metrics
        try:
            now = desk.now()
            timer = await desk.store.next_timer_due(now, desk.worker.id)
            message = await desk.store.next_message_due()
        except StoreUnavailable:
            metrics.store_seen(up=False, timers_late=math.nan, messages_late=math.nan)
            return
        metrics.store_seen(up=True, timers_late=_late(timer, now), messages_late=_late(message, now))


def _late(due: int | None, now: int) -> float:
    """Seconds."""
    return 0.0 if due is None else max(0, now - due) / SECOND
