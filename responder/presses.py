"""What people press in Slack, done as the person that they are here; both ways in end here (contracts.md D2).

A press is one transaction: the choice is looked for, the role asked and the command carried out in the same state, so a
second press of a button, or a second delivery of the first, finds nothing on offer. Whoever delivers it is answered
after the commit, or after `patience` while the store is slow; then it goes on, and a person presses again should the
process die meanwhile. The presser alone reads what became of it, at Slack's own address and nowhere else.

A button that needs more than a press opens a window; what was written into that comes back as a press with a `form`,
and is judged anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from responder import slack_windows, slack_words
from responder.choices import Choice, find_choice
from responder.commands import Command, SetPause, pending_approval, shut_hours
from responder.contracts import Secret
from responder.desk import Desk
from responder.draft import Book, Draft, Turn, Worker
from responder.errors import BadConfig, Permanent, Rejected, StoreUnavailable, Temporary, Unknown
from responder.incident import Incident
from responder.metrics import Metrics
from responder.records import Change, Keys, State, Writes
from responder.scopes import PAUSE
from responder.security import NEEDED, OPERATOR, Person
from responder.slack_api import Refused, SlackApi
from responder.slack_words import Press, pressed, sent

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from responder.notifiers.slack import Slack

LOG = logging.getLogger("responder.slack")
_Done = TypeVar("_Done")

PATIENCE: Final = 2.0
"""Seconds after which Slack is answered in any case; after three it shows the presser an error (contracts.md D2)."""
ANSWER_WITHIN: Final = 5.0
"""Seconds for telling the presser."""
WINDOW_WITHIN: Final = 3.0
"""Seconds in which Slack opens a window; after them it would not (contracts.md D2)."""
ANSWERS_AT: Final = ("https", "hooks.slack.com")


@dataclass(frozen=True, slots=True)
class Heard:
    """What the presser is told ("" for nothing), and what is to be done next. `role`: theirs was not enough.

    `done`: what a form asks for was done. `window` is to be opened, and says everything. `lost`: nothing can be stored.
    """

    said: str
    turn: Turn | None = None
    role: bool = False
    done: bool = False
    window: Mapping[str, Any] | None = None
    lost: StoreUnavailable | None = None


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
        if choice.verb == "override" and self.press.form is None:
            held = slack_windows.Held(incident, *shut_hours(draft, incident))
            return Change(Writes(), Heard("", window=slack_windows.override_window(held, self.press)))
        return self._pause(state, incident) if choice.verb == "pause" else self._command(state, incident, choice)

    def _command(self, state: State, incident: Incident, choice: Choice) -> Change[Heard]:
        said, who, form = choice.said, self.person.name, self.press.form
        if form is not None:
            said = {**said, "note": form.reason, "lasts": slack_windows.lasting(form)}
        command = Command(self.id, incident.id, choice.verb, who, self.book, self.by, **said)
        change = command.apply(state)
        told = slack_words.done(choice, incident, change.answer.incident)
        return Change(change.writes, Heard(told, change.answer, done=True))

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
    """See the module. A reload replaces `people` and `slacks`.

    `people`: Slack user id -> who that is here. `slacks`: the notifiers, whose tokens open windows; where the API of
    such a one is on this machine, so may answers be.
    """

    desk: Desk
    metrics: Metrics
    people: Mapping[str, Person] = field(default_factory=dict)
    slacks: Sequence[Slack] = ()
    patience: float = PATIENCE
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def take(self, payload: Mapping[str, Any], app: Secret) -> Mapping[str, Any] | None:
        """Do what was pressed; returns when Slack may be answered, and what (None: nothing but that it arrived).

        `app` is the secret by which it came: a signing secret, or an app-level token. Raises StoreUnavailable: nothing
        was done.
        """
        press = pressed(payload) or sent(payload, slack_windows.NAME)
        if press is None:
            LOG.info("Slack sent %.40r, in which nothing of the responder was pressed", payload.get("type"))
            return None
        wrong = {} if press.form is None else slack_windows.wrong(press.form)
        if wrong:
            return slack_windows.kept_open(wrong)
        doing = self._begin(self._do(press, app))
        try:
            await asyncio.wait({doing}, timeout=self.patience)
        finally:
            if not doing.done():
                doing.add_done_callback(partial(self._told_late, press))
        return self._answered(press, doing.result()) if doing.done() else None

    def _answered(self, press: Press, heard: Heard) -> Mapping[str, Any] | None:
        """In time: a form that was not taken stays open and says why, all else is told below the message."""
        if press.form is not None and not heard.done:
            return slack_windows.kept_open({slack_windows.REASON: heard.said})
        self._answer(press, heard.said)
        if heard.lost is not None:
            raise heard.lost
        return None

    def _told_late(self, press: Press, done: asyncio.Task[Heard]) -> None:
        if not done.cancelled():
            self._answer(press, done.result().said)

    async def stop(self, seconds: float) -> None:
        """Let what is under way end, and be told, for so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        for task in self._tasks:
            task.cancel()

    def _begin(self, work: Coroutine[Any, Any, _Done]) -> asyncio.Task[_Done]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- doing --------------------------------------------------------------------------------------------------------

    async def _do(self, press: Press, app: Secret) -> Heard:
        try:
            heard = await self._heard(press)
            return heard if heard.window is None else Heard(await self._opened(press, heard.window, app))
        except Rejected as error:
            return Heard(slack_words.refused(error.reason))
        except StoreUnavailable as error:
            LOG.error("what was pressed at incident %s was not done: %s", press.incident, error)
            return Heard(slack_words.not_stored(), lost=error)
        except Exception:
            LOG.exception("what was pressed at incident %s could not be done", press.incident)
            return Heard(slack_words.failed())

    async def _heard(self, press: Press) -> Heard:
        person = self.people.get(press.user)
        if person is None:
            self.metrics.refused("slack", "role")
            LOG.warning("Slack user %s pressed %s and is nobody of `auth.people`", press.user or "?", press.verb)
            return Heard(slack_words.unknown(press.user))
        desk = self.desk
        name = desk.new_id()
        heard = await desk.submit(lambda shelf: Pressed(name, press, person, shelf, desk.worker))
        if heard.role:
            self.metrics.refused("slack", "role")
        if heard.turn is not None:
            desk.take([heard.turn])
        return heard

    # --- windows ------------------------------------------------------------------------------------------------------

    async def _opened(self, press: Press, window: Mapping[str, Any], app: Secret) -> str:
        """Open it; answers what the presser is told, "" where they see it themselves.

        Of several workspaces of one app only the one where it was pressed opens it; the others refuse, and nothing has
        opened. Where nobody knows whether one has, no other is tried: two windows would be two forms.
        """
        why = "no notifier of the app that was pressed is configured any more"
        for slack in self._slacks_of(app, press.channel):
            api = SlackApi(slack.token, slack.base_url, WINDOW_WITHIN)
            try:
                await api.write("views.open", {"trigger_id": press.trigger, "view": window}, slack.channel)
            except Unknown as error:
                LOG.warning("whether a window has opened at incident %s is not known: %s", press.incident, error)
                return slack_words.perhaps_window(press.incident)
            except (Permanent, Temporary, BadConfig) as error:
                why = str(error)
                code = error.code if isinstance(error, Refused) else ""
                if code == "exchanged_trigger_id":
                    return slack_words.perhaps_window(press.incident)
                if code == "expired_trigger_id":
                    return slack_words.late_window(press.incident)
            else:
                return ""
            finally:
                await api.close()
        LOG.error("no window could be opened at incident %s: %s", press.incident, why)
        return slack_words.no_window(why, press.incident)

    def _slacks_of(self, app: Secret, channel: str) -> Iterator[Slack]:
        """The notifiers of the app by whose secret it came, each of its tokens once, those of this channel first."""
        door, known = app.digest(), set[tuple[str, str]]()
        for slack in sorted(self.slacks, key=lambda one: one.channel != channel):
            doors = [one.digest() for one in (slack.signing_secret, slack.app_token) if one is not None]
            account = slack.base_url, slack.token.digest()
            if door in doors and account not in known:
                known.add(account)
                yield slack

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
        bases = (urlsplit(slack.base_url) for slack in self.slacks)
        here = {(base.scheme, base.netloc) for base in bases if base.scheme == "http"}
        return place == ANSWERS_AT or place in here


def _session(url: str) -> ClientSession:
    """With the proxies of the environment, as calls to Slack's API have them; what is on this machine needs none."""
    from aiohttp import ClientSession, ClientTimeout

    return ClientSession(timeout=ClientTimeout(total=ANSWER_WITHIN), trust_env=url.startswith("https:"))
