"""What people press in Slack, done as the person that they are here; both ways in end here (contracts.md D2).

A press is one transaction: the choice is looked for, the role asked and the command carried out in the same state, so a
second press of a button, or a second delivery of the first, finds nothing on offer. Whoever delivers it is answered
after the commit, or after `patience` while the store is slow; then it goes on, and a person presses again should the
process die meanwhile. The presser alone reads what became of it, at Slack's own address and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from responder import slack_words
from responder.choices import Choice, find_choice
from responder.commands import Command, SetPause, pending_approval
from responder.desk import Desk
from responder.draft import Book, Draft, Turn, Worker
from responder.errors import Rejected, StoreUnavailable
from responder.incident import Incident
from responder.metrics import Metrics
from responder.records import Change, Keys, State, Writes
from responder.scopes import PAUSE
from responder.security import NEEDED, OPERATOR, Person
from responder.slack_words import Press, pressed

if TYPE_CHECKING:
    from aiohttp import ClientSession

LOG = logging.getLogger("responder.slack")

PATIENCE: Final = 2.0
"""Seconds after which Slack is answered in any case; after three it shows the presser an error (contracts.md D2)."""
ANSWER_WITHIN: Final = 5.0
"""Seconds for telling the presser."""
ANSWERS_AT: Final = ("https", "hooks.slack.com")


@dataclass(frozen=True, slots=True)
class Heard:
    """What the presser is told ("" for nothing), and what is to be done next. `role`: theirs was not enough."""

    said: str
    turn: Turn | None = None
    role: bool = False


@dataclass(frozen=True, slots=True)
class Pressed:
    """A press as an operation: nothing but what is on offer in the very state that it changes."""

    id: str
    press: Press
    person: Person
    book: Book
    by: Worker

    def reads(self) -> Keys:
        """The incident, and the pause where that is what was pressed."""
        scopes = frozenset({PAUSE}) if self.press.verb == "pause" else frozenset[str]()
        return Keys(incidents=frozenset({self.press.incident}), scopes=scopes)

    def apply(self, state: State) -> Change[Heard]:
        """See the class. Raises Rejected."""
        draft = Draft(self.id, state, self.book, self.by)
        incident = draft.incident(self.press.incident)
        choice = find_choice(incident, draft.policy_of(incident), self.press.token)
        if choice is None:
            return Change(Writes(), Heard(slack_words.old(incident, self.press.verb, self.person.name)))
        roles = _needed(incident, choice)
        if not self.person.may(roles):
            return Change(Writes(), Heard(slack_words.not_allowed(self.person.name, choice.label, roles), role=True))
        return self._pause(state, incident) if choice.verb == "pause" else self._command(state, incident, choice)

    def _command(self, state: State, incident: Incident, choice: Choice) -> Change[Heard]:
        said, who = choice.said, self.person.name
        command = Command(self.id, incident.id, choice.verb, who, self.book, self.by, **said)
        change = command.apply(state)
        told = slack_words.done(choice, incident, change.answer.incident)
        return Change(change.writes, Heard(told, change.answer))

    def _pause(self, state: State, incident: Incident) -> Change[Heard]:
        reason = f"in Slack, because of incident {incident.id}: {incident.title}"
        change = SetPause(self.id, paused=True, actor=self.person.name, reason=reason, book=self.book).apply(state)
        return Change(change.writes, Heard(slack_words.paused(change.answer, self.person.name, state.now)))


def _needed(incident: Incident, choice: Choice) -> frozenset[str]:
    """The roles of which one is enough: those of the verb, or the one that the step names."""
    asked = pending_approval(incident)
    return NEEDED.get(choice.verb) or frozenset({OPERATOR if asked is None else asked.role})


@dataclass(slots=True)
class Presses:
    """See the module. A reload replaces `people` and `bases`.

    `people`: Slack user id -> who that is here. `bases`: addresses of Slack's API as notifiers have them; where such a
    one is on this machine, so may answers be.
    """

    desk: Desk
    metrics: Metrics
    people: Mapping[str, Person] = field(default_factory=dict)
    bases: Collection[str] = ()
    patience: float = PATIENCE
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def take(self, payload: Mapping[str, Any]) -> None:
        """Do what was pressed; returns when Slack may be answered. Raises StoreUnavailable: nothing was done."""
        press = pressed(payload)
        if press is None:
            LOG.info("Slack sent %.40r, in which nothing of the responder was pressed", payload.get("type"))
            return
        doing = self._begin(self._do(press))
        await asyncio.wait({doing}, timeout=self.patience)
        if doing.done():
            doing.result()

    async def stop(self, seconds: float) -> None:
        """Let what is under way end, for so long at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it was logged where it was raised, and is raised to whoever still waits

    # --- doing --------------------------------------------------------------------------------------------------------

    async def _do(self, press: Press) -> None:
        try:
            said = await self._heard(press)
        except Rejected as error:
            said = slack_words.refused(error.reason)
        except StoreUnavailable as error:
            LOG.error("what was pressed at incident %s was not done: %s", press.incident, error)
            self._answer(press, slack_words.not_stored())
            raise
        except Exception:
            LOG.exception("what was pressed at incident %s could not be done", press.incident)
            said = slack_words.failed()
        self._answer(press, said)

    async def _heard(self, press: Press) -> str:
        person = self.people.get(press.user)
        if person is None:
            self.metrics.refused("slack", "role")
            LOG.warning("Slack user %s pressed %s and is nobody of `auth.people`", press.user or "?", press.verb)
            return slack_words.unknown(press.user)
        desk = self.desk
        name = desk.new_id()
        heard = await desk.submit(lambda shelf: Pressed(name, press, person, shelf, desk.worker))
        if heard.role:
            self.metrics.refused("slack", "role")
        if heard.turn is not None:
            desk.take([heard.turn])
        return heard.said

    # --- telling ------------------------------------------------------------------------------------------------------

    def _answer(self, press: Press, said: str) -> None:
        if said and press.answer_to:
            _ = self._begin(self._told(press, said))

    async def _told(self, press: Press, said: str) -> None:
        """One try: what was done stands in the journal, and whoever is not told presses again."""
        import aiohttp

        if not self._is_slacks(press.answer_to):
            LOG.error("the address for an answer is none of Slack's; the presser was not told: %s", said)
            return
        body = {"response_type": "ephemeral", "replace_original": False, "text": said}
        if press.thread:
            body["thread_ts"] = press.thread
        try:
            async with (
                _session(press.answer_to) as session,
                session.post(press.answer_to, json=body, allow_redirects=False) as answer,
            ):
                if answer.status != 200:
                    LOG.warning("Slack takes no answer (%d); the presser was not told: %s", answer.status, said)
        except (aiohttp.ClientError, TimeoutError) as error:
            LOG.warning("Slack takes no answer (%s); the presser was not told: %s", type(error).__name__, said)

    def _is_slacks(self, url: str) -> bool:
        """An address in a payload is only as good as whoever wrote the payload."""
        try:
            to = urlsplit(url)
            place = (to.scheme, to.netloc)
        except ValueError:
            return False
        here = {(base.scheme, base.netloc) for base in map(urlsplit, self.bases) if base.scheme == "http"}
        return place == ANSWERS_AT or place in here


def _session(url: str) -> ClientSession:
    """With the proxies of the environment, as calls to Slack's API have them; what is on this machine needs none."""
    from aiohttp import ClientSession, ClientTimeout

    return ClientSession(timeout=ClientTimeout(total=ANSWER_WITHIN), trust_env=url.startswith("https:"))
