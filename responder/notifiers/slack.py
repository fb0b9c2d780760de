"""Slack: one root message an incident, kept up to date, and its story as replies (contracts.md D, reliability.md 1.2).

Slack has no idempotency key, so every message carries its own in its metadata: when nobody knows whether an earlier
try arrived, it is looked for there. Retrying, pacing and order are `engine.delivery`'s, form and limits `block_kit`'s,
and what is pressed comes in elsewhere.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, cast

from pydantic import Field, JsonValue, PrivateAttr

from responder import story
from responder.block_kit import blocks, fallback_text, small_print
from responder.contracts import Bucket, Message, Notifier, Render, Secret, SecureUrl
from responder.errors import Permanent, Temporary, Unknown
from responder.facts import EvidenceGathered
from responder.incident import Incident
from responder.recorded import EvidenceItem
from responder.slack_api import Refused, SlackApi, is_id
from responder.timing import MINUTE, SECOND, format_time

LOG = logging.getLogger("responder.notifiers")

EVENT_TYPE: Final = "responder_message"
"""The metadata of every message: `event_payload.key` is its own."""
PATIENCE: Final = 6
"""Tries of a root message, about a minute, that wait for Slack to tell whether it is there already."""
PAGES: Final = 5
"""Pages of a channel or thread that are looked through for it."""
PAGE: Final = 200
SKEW: Final = 5 * MINUTE
"""How far Slack's clock may be behind ours when a message is looked for."""
MAX_FILE: Final = 1_000_000

CHANGE: Final = 3 * SECOND // 2
"""Between two changes of messages by an app (`chat.update`), after CHANGES at once: together 50 within any minute, as
tier 3 allows; one too many, and Slack asks for a wait that holds up posts as well."""
CHANGES: Final = 10

_TO_PEOPLE: Final = frozenset({"page", "resolve"})
_GONE: Final = frozenset({"message_not_found", "edit_window_closed", "cant_update_message"})
_FORM: Final = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long"})

ANSWERS: Final[Mapping[str, frozenset[str]]] = {
    "approval_asked": frozenset({"approve", "deny"}),
    "manual_asked": frozenset({"done"}),
    "step_ended": frozenset({"settle"}),
}
"""Kind of a line -> the verbs whose buttons stand below it too; the root has them all."""

Place = Mapping[str, str]
"""`{"channel": id, "ts": …}`: where a message stands."""


class Slack(Notifier):
    """Tells the story in Slack: one message an incident, kept up to date, with buttons, and the story as its thread.

    The app's bot token needs the scope `chat:write`, and the app must be in the channel. With `files:write` long
    evidence goes into the thread as a file; with `channels:history` (private channels: `groups:history`) a message
    whose answer was lost is found instead of posted twice; where the channel is known by its name only, that takes
    `channels:read` (`groups:read`) too. An incident whose runbook names a `channel` is told there.
    """

    kind: Literal["slack"] = "slack"
    token: Secret
    """The app's bot token (`xoxb-…`)."""
    channel: str = Field(min_length=1)
    """Where stories are told, such as `#trading-alerts`, or better the channel's id, such as `C024BE91L`."""
    signing_secret: Secret | None = None
    """The app's signing secret: messages have buttons, and Slack posts what is pressed to `/webhook/slack`."""
    app_token: Secret | None = None
    """The app-level token (`xapp-…`) for Socket Mode: messages have buttons, and what is pressed is fetched from Slack,
    so nothing must be reachable from outside."""
    base_url: SecureUrl = "https://slack.com/api/"
    """The address of Slack's API."""
    timeout: float = Field(default=10, gt=0, le=30)
    """Seconds for one call."""

    chats: ClassVar[bool] = True
    family: ClassVar[str] = "slack"
    pace: ClassVar[int] = SECOND
    merges: ClassVar[bool] = True
    _api: SlackApi | None = PrivateAttr(default=None)
    _ids: dict[str, str] = PrivateAttr(default_factory=dict)
    """Name of a channel -> its id, as answers told it; reading takes the id alone."""
    _files: bool = PrivateAttr(default=True)
    """False once Slack has said that the app may not send files."""

    @property
    def hears(self) -> bool:
        """What is pressed reaches the responder, so that buttons are worth showing."""
        return self.signing_secret is not None or self.app_token is not None

    async def start(self) -> None:
        """Nothing is opened before it is needed; one session is kept then."""
        self._calls()

    async def stop(self) -> None:
        """Close it."""
        api, self._api = self._api, None
        if api is not None:
            await api.close()

    def _calls(self) -> SlackApi:
        if self._api is None:
            self._api = SlackApi(self.token, self.base_url, self.timeout)
        return self._api

    def bucket(self, name: str, incident: Incident, template: str, *, sent: bool) -> Bucket:
        """Slack counts what an app posts by channel, however that is called, and what it changes over all channels;
        which notifier of the app it is from means nothing to it."""
        app = self.token.digest()
        if template == "root" and sent:
            return Bucket("slack changes", app, CHANGE, CHANGES)
        channel = self.channel if template in _TO_PEOPLE else incident.channel or self.channel
        return Bucket("slack posts", f"{app} {self._ids.get(channel, channel)}", self.pace, self.burst)

    # --- what it says -------------------------------------------------------------------------------------------------

    def compose(self, kind: str, values: Mapping[str, object], render: Render) -> JsonValue:
        """The blocks of the message, from templates/slack."""
        if kind not in ("root", "thread", "page"):
            return None
        markup = render(f"slack/{kind}.mrkdwn.j2", {**values, "hears": self.hears})
        mentions = _caught(kind, cast("Sequence[str]", values.get("mentions", ())))
        return list(blocks(markup, self._offers(kind, values), mentions))

    def _offers(self, kind: str, values: Mapping[str, object]) -> list[Mapping[str, str]]:
        offers = cast("Sequence[Mapping[str, str]]", values.get("choices", ()))
        if not self.hears:
            return []
        if kind in ("root", "page"):
            return list(offers)
        lines = cast("Sequence[Mapping[str, object]]", values.get("lines", ()))
        verbs = {verb for line in lines for verb in ANSWERS.get(str(line["kind"]), ())}
        return [offer for offer in offers if offer["verb"] in verbs]

    # --- sending ------------------------------------------------------------------------------------------------------

    async def send(self, message: Message) -> str:
        """Post or update; answers `{"channel": id, "ts": …}`. An update needs the channel's id, not its name."""
        previous: Place = json.loads(message.previous) if message.previous else {}
        found = await self._sent_already(message, previous)
        if message.kind == "root":
            place = await self._root(message, found or previous)
        else:
            place = found or await self._reply(message, previous)
        return json.dumps(place)

    async def _root(self, message: Message, previous: Place) -> Place:
        if previous:
            try:
                return await self._said("chat.update", message, previous)
            except Refused as refused:
                if refused.code not in _GONE:
                    raise
        return await self._said("chat.postMessage", message, {"channel": self._channel(message, {})})

    async def _reply(self, message: Message, previous: Place) -> Place:
        reply: dict[str, Any] = {"thread_ts": previous["ts"]} if previous else {}
        if previous and message.broadcast:
            reply["reply_broadcast"] = True
        whole = _whole(message)
        place = await self._said(
            "chat.postMessage", message, {"channel": self._channel(message, previous), **reply}, whole
        )
        if whole and previous:
            await self._attach(message, previous, whole)
        return place

    async def _said(self, method: str, message: Message, to: Mapping[str, Any], whole: str = "") -> Place:
        """One message; as plain text where Slack refuses its form."""
        body = message.body
        if whole and isinstance(body, list):
            body = [*body, small_print(_where_the_whole_is(message, attached=self._files))]
        caught = _caught(message.kind, message.mentions)
        said = {"text": fallback_text(message.text, caught), "parse": "none", "metadata": _metadata(message)}
        quiet = {"unfurl_links": False, "unfurl_media": False}
        where = str(to["channel"])
        try:
            answer = await self._calls().write(method, {**quiet, **to, **said, "blocks": body or []}, where)
        except Refused as refused:
            if refused.code not in _FORM or body is None:
                raise
            LOG.error("Slack refuses the form of %s (%s); it goes out as plain text", message.id, refused.code)
            answer = await self._calls().write(method, {**quiet, **to, **said, "blocks": []}, where)
        self._ids[where] = answer["channel"]
        return {"channel": answer["channel"], "ts": answer["ts"]}

    def _channel(self, message: Message, previous: Place) -> str:
        """Where a message goes. A page goes to this notifier's own channel: who pages it means the people there."""
        if message.kind in _TO_PEOPLE:
            return previous.get("channel") or self.channel
        return previous.get("channel") or message.incident.channel or self.channel

    # --- looking for what was sent ------------------------------------------------------------------------------------

    async def _sent_already(self, message: Message, previous: Place) -> Place:
        """Where an earlier try of this message stands, or nothing. A root that is known needs no looking for: to change
        it twice is to change it once."""
        root = message.kind == "root"
        if not message.doubtful or (root and previous):
            return {}
        try:
            async for one in self._ours(message, previous):
                if _key(one) == message.id:
                    return {"channel": await self._id(message, previous), "ts": one["ts"]}
        except (Temporary, Unknown) as error:
            if root and message.attempt <= PATIENCE:
                after = error.retry_after if isinstance(error, Temporary) else None
                raise Temporary(
                    f"it may be in the channel already, and looking for it failed: {error}", after
                ) from None
            LOG.warning("message %s may stand twice, because looking for it failed: %s", message.id, error)
        except Permanent as error:
            # Waiting would change nothing.
            LOG.warning("message %s may stand twice, because the app may not look for it: %s", message.id, error)
        return {}

    async def _ours(self, message: Message, previous: Place) -> AsyncIterator[Mapping[str, Any]]:
        """The messages among which it would be, page by page."""
        began = message.event.at if message.event is not None and previous else message.incident.opened_at
        oldest = f"{max(0, began - SKEW) / SECOND:.6f}"
        query = {
            "channel": await self._id(message, previous),
            "oldest": oldest,
            "limit": PAGE,
            "include_all_metadata": True,
        }
        method = "conversations.history"
        if previous:
            method, query = "conversations.replies", {**query, "ts": previous["ts"]}
        for _ in range(PAGES):
            answer = await self._calls().read(method, query, str(query["channel"]))
            for one in answer.get("messages", ()):
                yield one
            cursor = (answer.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return
            query = {**query, "cursor": cursor}

    async def _id(self, message: Message, previous: Place) -> str:
        """The channel's id, looked up once where only its name is known."""
        channel = self._channel(message, previous)
        if channel not in self._ids:
            self._ids[channel] = channel if is_id(channel) else await self._calls().id_of(channel)
        return self._ids[channel]

    # --- files --------------------------------------------------------------------------------------------------------

    async def _attach(self, message: Message, thread: Place, whole: str) -> None:
        """What the line could not hold, as a file below it. A file that does not arrive costs nothing but itself."""
        if not self._files:
            return
        try:
            await self._share(message, thread, whole.encode(errors="replace")[:MAX_FILE])
        except (Permanent, Temporary, Unknown) as error:
            if isinstance(error, Refused) and error.code == "missing_scope":
                self._files = False
            LOG.warning("the file below message %s could not be sent: %s", message.id, error)

    async def _share(self, message: Message, thread: Place, content: bytes) -> None:
        api, channel, name = self._calls(), thread["channel"], f"{message.incident.id}-{message.incident.seq}.txt"
        asked = {"filename": name, "length": len(content)}
        given = await api.read("files.getUploadURLExternal", asked, channel, verb="POST")
        await api.upload(str(given.get("upload_url", "")), content)
        title = f"{message.incident.title}: the whole text"
        shared = {"files": [{"id": given.get("file_id"), "title": title}], "thread_ts": thread["ts"]}
        await api.write("files.completeUploadExternal", {**shared, "channel_id": channel}, channel)


def _caught(kind: str, mentions: Sequence[str]) -> Sequence[str]:
    """Whom a message catches: a page that names nobody is for whoever is there, since a silent line wakes nobody."""
    return mentions or (("here",) if kind == "page" else ())


def _metadata(message: Message) -> dict[str, JsonValue]:
    """By this our message is recognised when nobody knows whether it was posted; Slack has no idempotency key."""
    return {"event_type": EVENT_TYPE, "event_payload": {"key": message.id, "incident": message.incident.id}}


def _key(found: Mapping[str, Any]) -> object:
    """The key of a message that is ours."""
    metadata = found.get("metadata") or {}
    return (metadata.get("event_payload") or {}).get("key") if metadata.get("event_type") == EVENT_TYPE else None


# --- what a line does not hold ----------------------------------------------------------------------------------------


def _whole(message: Message) -> str:
    """The text of the file that belongs to a reply, or nothing: long evidence, a sentence that was cut, many lines."""
    parts = [*_evidence(message), *_cut_fact(message)]
    if sum(len(line.sentence) for line in message.lines) > 8_000:
        parts.append("\n".join(f"{format_time(line.at)} {line.sentence}" for line in message.lines))
    return "\n\n".join(parts)


def _evidence(message: Message) -> list[str]:
    if not any(line.kind == "evidence_gathered" for line in message.lines):
        return []
    fact = None if message.event is None else message.event.fact
    known: tuple[EvidenceItem, ...] = next((r.evidence for r in message.incident.runs[::-1] if r.evidence), ())
    items = fact.items if isinstance(fact, EvidenceGathered) else known
    return [f"{item.title}\n{_reading(item)}" for item in items] if story.folded(items) else []


def _reading(item: EvidenceItem) -> str:
    if item.error:
        return f"not to be had: {item.error}"
    return item.value if isinstance(item.value, str) else json.dumps(item.value, ensure_ascii=False, indent=2)


def _cut_fact(message: Message) -> list[str]:
    """The fact behind the latest line, when the line had to be cut."""
    if message.event is None or not message.lines or len(message.lines[-1].sentence) < story.LONGEST:
        return []
    if isinstance(message.event.fact, EvidenceGathered):
        return []
    return [message.event.fact.model_dump_json(indent=2)]


def _where_the_whole_is(message: Message, *, attached: bool) -> str:
    command = f"`responder incident {message.incident.id} --json`"
    return f"shortened; the whole is in the file below, and in {command}" if attached else f"shortened; see {command}"
