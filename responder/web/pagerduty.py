"""POST /webhook/pagerduty: what people do in PagerDuty is done here too, once however often it is told.

After a 4xx PagerDuty drops the event, and after three it tells nothing for a day; after a 5xx it tells this one again,
and holds back those that follow it (contracts.md C3). So whatever is signed is answered 202, and only when nothing can
be recorded, or a secret cannot be read, 503. What the words mean is `pagerduty_words`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from responder.commands import Command
from responder.errors import Rejected, ResponderError, StoreUnavailable
from responder.incident import Incident
from responder.notifiers.pagerduty import PagerDuty
from responder.pagerduty_words import Page, Said, Word, page_of, word
from responder.security import pagerduty_signed, unreadable
from responder.web.access import Refusal, as_json
from responder.web.api import is_id
from responder.web.bodies import Disconnected, TooLarge, read_body
from responder.web.door import host
from responder.web.parts import Parts

log = logging.getLogger("responder.web")

LARGEST: Final = 512 * 1024
"""Bytes of a body; PagerDuty sends none above half of that."""
ANSWERED: Final = 4.0
"""Seconds for all of it: PagerDuty takes an answer after five for none."""
LOOKED_UP: Final = 2.0
"""Seconds of them for asking PagerDuty whose incident it is."""
REMEMBERED: Final = 10_000
"""Incidents of PagerDuty's of which is remembered whose they are."""
NOT_CONFIGURED: Final = "no notifier of the kind pagerduty has a `webhook_secret`; add the one of your subscription"


class PagerDutyDoor:
    """The handler. It remembers whose incident one of PagerDuty's is, since not every event says it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._pages: dict[str, tuple[Page, ...]] = {}

    async def event(self, request: Request) -> Response:
        """See the module. Raises Refusal and StoreUnavailable."""
        pagers = self._parts.pagerduty
        if not any(pager.webhook_secret for pager in pagers.values()):
            raise Refusal(404, NOT_CONFIGURED)
        body = await _body(request)
        signers = self._signers(request, body)
        try:
            async with asyncio.timeout(ANSWERED):
                heard = await self._heard(body, signers)
        except TimeoutError:
            raise StoreUnavailable("it was not recorded in time; it is to be sent again") from None
        except StoreUnavailable:
            raise
        except Exception:
            delivery = request.headers.get("x-webhook-id", "without an id")
            log.exception("the webhook %s of PagerDuty could not be taken in; it is left out", delivery[:80])
            heard = 0
        return as_json({"heard": heard}, 202)

    def _signers(self, request: Request, body: bytes) -> list[str]:
        """The notifiers whose secret signed it. Raises Refusal."""
        given = request.headers.get("x-pagerduty-signature")
        pagers = self._parts.pagerduty
        signers = [name for name, pager in pagers.items() if pagerduty_signed(pager.webhook_secret, given, body)]
        if not signers and given is not None and unreadable(k for p in pagers.values() for k in p.webhook_secret):
            # Not 401: after three of those PagerDuty tells nothing for a day, and this may well be signed right.
            raise Refusal(503, "a configured `webhook_secret` is empty or cannot be read; the log says which")
        if not signers:
            self._parts.metrics.refused("webhook", "missing" if given is None else "wrong")
            log.warning("a request for /webhook/pagerduty from %s came without a right signature", host(request.scope))
            raise Refusal(401, "wrong signature; `webhook_secret` must be what PagerDuty showed for its subscription")
        return signers

    async def _heard(self, body: bytes, signers: Sequence[str]) -> int:
        """How many of our incidents heard something."""
        told = word(body)
        if told is None:
            return 0
        heard = 0
        for page in await self._whose(told, signers):
            incident = await self._open(page.incident)
            if incident is not None:
                await self._say(told, incident, page.destination or signers[0])
                heard += bool(told.said)
        return heard

    # --- whose it is --------------------------------------------------------------------------------------------------

    async def _whose(self, told: Word, signers: Sequence[str]) -> tuple[Page, ...]:
        """Whose pages are in PagerDuty's incident: its key says it, or was said before, or PagerDuty is asked."""
        ours = self._ours([told.key])
        known = tuple(dict.fromkeys([*ours, *self._pages.get(told.place, ())]))
        if not known and told.said and not told.key:
            known = self._ours(await self._looked_up(told, signers))
        if known and told.place:
            if len(self._pages) >= REMEMBERED:
                self._pages.pop(next(iter(self._pages)))
            self._pages[told.place] = known
        return known

    def _ours(self, keys: Iterable[str]) -> tuple[Page, ...]:
        found = (page_of(key, self._parts.desk.shelf.instance) for key in keys)
        return tuple(dict.fromkeys(page for page in found if page is not None))

    async def _looked_up(self, told: Word, signers: Sequence[str]) -> tuple[str, ...]:
        """The keys of its alerts. What cannot be asked is asked again before a further level is told."""
        pagers = self._parts.pagerduty
        able = [pagers[name] for name in dict.fromkeys([*signers, *pagers]) if pagers[name].answers]
        try:
            async with asyncio.timeout(LOOKED_UP):
                return await _first_known(able, told.place)
        except TimeoutError:
            why = "PagerDuty did not say it in time"
        except ResponderError as error:
            why = str(error)
        log.warning("%s of PagerDuty's incident %s is left out, since nobody knows whose it is: %s", *_named(told), why)
        return ()

    # --- what it says -------------------------------------------------------------------------------------------------

    async def _open(self, ident: str) -> Incident | None:
        """The incident, unless it is over, a replay, or none of ours."""
        try:
            row = await self._parts.desk.store.incident(ident) if is_id(ident) else None
        except Rejected:
            return None
        live = row is not None and row.fold.id == ident and row.fold.live and not row.fold.closed
        return row.fold if row is not None and live else None

    async def _say(self, told: Word, incident: Incident, via: str) -> None:
        for number, said in enumerate(told.said):
            # Each has an id of its own: what is known by one would silence the other.
            name = f"{told.id}.{number}" if number else told.id
            try:
                await self._command(told, said, incident.id, via, name)
            except Rejected as refused:
                log.info("%s of PagerDuty's incident %s changes nothing: %s", *_named(told), refused)

    async def _command(self, told: Word, said: Said, incident: str, via: str, name: str) -> None:
        desk = self._parts.desk
        own = desk.new_id()
        turn = await desk.submit(
            lambda shelf: Command(
                own,
                incident,
                said.verb,
                told.actor,
                shelf,
                desk.worker,
                note=said.note,
                via=via,
                word=name,
            )
        )
        desk.take([turn])


async def _body(request: Request) -> bytes:
    """Raw: every byte of it was signed. Raises Refusal."""
    try:
        return await read_body(request.scope, request.receive, LARGEST)
    except TooLarge:
        raise Refusal(413, f"a body of more than {LARGEST} bytes; PagerDuty sends none") from None
    except Disconnected:
        raise Refusal(400, "the body did not arrive") from None


async def _first_known(pagers: Sequence[PagerDuty], place: str) -> tuple[str, ...]:
    """What the first account that has the incident says; an account that has it not, or refuses, is passed by."""
    if not pagers:
        raise Rejected("its `incident_key` is empty, and no notifier has an `api_token` to look it up with")
    failure: ResponderError | None = None
    for pager in pagers:
        try:
            keys = await pager.keys_of(place)
        except ResponderError as error:
            failure = error
            continue
        if keys:
            return keys
    if failure is not None:
        raise failure
    return ()


def _named(told: Word) -> tuple[str, str]:
    return told.kind, json.dumps(told.place)
