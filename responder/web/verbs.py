"""POST /api/v1/…: what people say, each with a credential of their own and a role (design 5.11).

The rules of a verb are in `commands`; here are only who may use it, what its body may hold, and the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from responder.commands import VERBS, Command, SetPause, pending_approval, restorable
from responder.contracts import Strict
from responder.desk import Desk
from responder.draft import Book, Draft
from responder.incident import Incident
from responder.records import Change, Keys, State, Writes
from responder.scopes import PAUSE, pause_name
from responder.security import NEEDED, OPERATOR, Person
from responder.timing import SECOND
from responder.web.access import Refusal, allowed, as_json, known
from responder.web.api import find
from responder.web.asked import asked_body
from responder.web.parts import Parts
from responder.web.shapes import shown, summary


class Said(Strict):
    """The body of a verb: all may be left out. `reason` and `note` are one thing, of which the reason wins."""

    note: str = ""
    reason: str = ""
    step: str | None = None
    attempt: str | None = None
    applied: bool | None = None
    plan: str | None = None
    lasts: Annotated[float, Field(ge=0, le=86_400)] | None = None
    """Seconds."""
    runbook: str | None = None
    """What `pause` and `resume` are about, instead of all automation."""
    service: str | None = None
    """As `runbook`."""


@dataclass(frozen=True, slots=True)
class ApprovalOf:
    """Reads which role may put back the change that an incident has in force; None when that is not to be found."""

    id: str
    incident: str
    book: Book

    def reads(self) -> Keys:
        """The incident."""
        return Keys(incidents=frozenset({self.incident}))

    def apply(self, state: State) -> Change[str | None]:
        """By the rules that the run began with, not by today's (design 4)."""
        draft = Draft(self.id, state, self.book)
        incident = draft.incident(self.incident)
        return Change(Writes(), self._role(draft, incident))

    def _role(self, draft: Draft, incident: Incident) -> str | None:
        change = restorable(incident, draft.scope)
        origin = incident.attempt(change.attempt) if change is not None else None
        runbook = draft.runbook_of(incident, origin[0]) if origin is not None else None
        steps = runbook.steps if runbook is not None else ()
        return next((s.put_back_by for s in steps if change is not None and s.id == change.step), None)


async def needed_role(desk: Desk, incident: Incident, verb: str) -> str:
    """The role that a verb needs which its step names. Where none does, the verb fails anyway, or an operator sees to
    it."""
    if verb in ("approve", "deny"):
        asked = pending_approval(incident)
        return OPERATOR if asked is None else asked.role
    name = desk.new_id()
    return await desk.submit(lambda shelf: ApprovalOf(name, incident.id, shelf)) or OPERATOR


class Verbs:
    """The changing handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def verb(self, request: Request) -> Response:
        """`/api/v1/incidents/{id}/{verb}` for the verbs of `commands`."""
        verb = request.path_params["verb"]
        if verb not in VERBS:
            raise Refusal(404, f"there is no such verb; there are {', '.join(sorted(VERBS))}")
        person = known(self._parts, request)
        if verb in NEEDED:  # before anything is read: who may not do it learns nothing about incidents
            allowed(self._parts, person, verb, NEEDED[verb])
        said = await asked_body(request, Said, "note")
        incident = await find(self._parts, request.path_params["id"])
        if verb not in NEEDED:
            allowed(self._parts, person, verb, {await needed_role(self._parts.desk, incident, verb)})
        return as_json({"incident": summary(await self._command(verb, incident.id, person, said))})

    async def _command(self, verb: str, incident_id: str, person: Person, said: Said) -> Incident:
        desk = self._parts.desk
        name = desk.new_id()
        turn = await desk.submit(
            lambda shelf: Command(
                name,
                incident_id,
                verb,
                person.name,
                shelf,
                desk.worker,
                note=said.reason or said.note,
                step=said.step,
                attempt=said.attempt,
                applied=said.applied,
                plan=said.plan,
                lasts=None if said.lasts is None else round(said.lasts * SECOND),
            )
        )
        desk.take([turn])
        return turn.incident

    async def pause(self, request: Request) -> Response:
        """Switch automation off, all or of one runbook or service, with a reason for everybody who wonders."""
        return await self._switch(request, "pause")

    async def resume(self, request: Request) -> Response:
        """Switch automation on again."""
        return await self._switch(request, "resume")

    async def _switch(self, request: Request, verb: str) -> Response:
        person = known(self._parts, request)
        allowed(self._parts, person, verb, NEEDED[verb])
        said = await asked_body(request, Said, "note")
        reason = said.reason or said.note
        if verb == "pause" and not reason.strip():
            raise Refusal(400, 'say a reason, as in {"reason": "exchange maintenance"}: others will wonder')
        desk = self._parts.desk
        scope = _scope(said, _pausable(desk))
        name, until = desk.new_id(), None
        if verb == "pause" and said.lasts:
            until = desk.now() + round(said.lasts * SECOND)
        body = await desk.submit(
            lambda shelf: SetPause(name, verb == "pause", person.name, reason, shelf, scope, until)
        )
        return as_json({"pause": shown(body)})


def _pausable(desk: Desk) -> dict[str, frozenset[str]]:
    """What can be paused apart from everything, by the field of the body that names it."""
    return {"runbook": frozenset(desk.shelf.current.runbooks), "service": frozenset(desk.shelf.envs)}


def _scope(said: Said, known: dict[str, frozenset[str]]) -> str:
    """Raises Refusal for what does not exist: a pause of nothing would be taken for one."""
    named = {what: name for what in known if (name := getattr(said, what)) is not None}
    if len(named) > 1:
        raise Refusal(400, "name a runbook or a service, not both")
    for what, name in named.items():
        if name not in known[what]:
            raise Refusal(404, f"there is no {what} {name!r}; there are {', '.join(sorted(known[what])) or 'none'}")
        return pause_name(what, name)
    return PAUSE
