"""Slack: one root message an incident, kept up to date, and its story as replies (contracts.md D, reliability.md 1.2).

The library's own retries are off: it would post again exactly when nobody knows whether the first post arrived.
Retrying, pacing and order are `engine.delivery`'s. It has no buttons and mentions nobody.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, JsonValue, PrivateAttr

from responder.contracts import Message, Notifier, Render, Secret, SecureUrl
from responder.errors import Permanent, Temporary, Unknown
from responder.timing import SECOND

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from slack_sdk.errors import SlackApiError
    from slack_sdk.web.async_client import AsyncWebClient

MAX_BLOCKS = 50
MAX_SECTION = 3_000
MAX_HEADER = 150
MAX_TEXT = 4_000
"""Characters of `text`, the fallback for notifications; Slack cuts longer ones (contracts.md D1)."""
MAX_TOTAL = 12_000
"""Characters of all blocks: Slack refuses messages near 13,000 with `msg_blocks_too_long`, undocumented."""

_TRY_AGAIN = frozenset({"ratelimited", "rate_limited", "service_unavailable", "accesslimited", "team_added_to_org"})
_UNCLEAR = frozenset({"internal_error", "fatal_error", "request_timeout"})
_GONE = frozenset({"message_not_found", "edit_window_closed", "cant_update_message"})
_FORM = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long"})
_CURES: Mapping[str, str] = {
    "channel_not_found": "create the channel or correct its name, and invite the app to it",
    "not_in_channel": "invite the app to the channel",
    "is_archived": "unarchive the channel or name another",
    "invalid_auth": "renew the token",
    "token_revoked": "renew the token",
    "token_expired": "renew the token",
    "account_inactive": "renew the token",
    "not_authed": "provide a token",
    "missing_scope": "give the app the scope chat:write",
}


class Slack(Notifier):
    """Tells the story in Slack. The app's bot token needs the scope `chat:write`, and the app must be in the channel.

    An incident whose runbook names a `channel` is told there.
    """

    kind: Literal["slack"] = "slack"
    token: Secret
    """The app's bot token (`xoxb-…`)."""
    channel: str = Field(min_length=1)
    """Where stories are told, such as `#trading-alerts`."""
    base_url: SecureUrl = "https://slack.com/api/"
    """The address of Slack's API."""
    timeout: float = Field(default=10, gt=0, le=30)
    """Seconds for one call."""

    chats: ClassVar[bool] = True
    family: ClassVar[str] = "slack"
    pace: ClassVar[int] = SECOND
    _session: ClientSession | None = PrivateAttr(default=None)

    async def start(self) -> None:
        """Open the one session that all calls share: a new one for every message costs a TLS handshake."""
        from aiohttp import ClientSession, ClientTimeout

        if self._session is None:
            self._session = ClientSession(timeout=ClientTimeout(total=self.timeout))

    async def stop(self) -> None:
        """Close it."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def compose(self, kind: str, values: Mapping[str, object], render: Render) -> JsonValue:
        """The blocks of the message, from templates/slack."""
        if kind not in ("root", "thread"):
            return None
        return list(blocks(render(f"slack/{kind}.mrkdwn.j2", values)))

    async def send(self, message: Message) -> str:
        """Post or update; answers `{"channel": id, "ts": …}`. An update needs the channel's id, not its name."""
        await self.start()
        previous: dict[str, str] = json.loads(message.previous) if message.previous else {}
        try:
            return await self._sent(message, message.body, previous)
        except _Refused as refused:
            if refused.code in _FORM and message.body is not None:
                return await self._sent(message, None, previous)
            raise

    async def _sent(self, message: Message, body: JsonValue, previous: Mapping[str, str]) -> str:
        said = {"text": fallback_text(message.text), "blocks": body or [], "metadata": _metadata(message)}
        if message.kind != "root":
            reply = {"thread_ts": previous["ts"]} if previous else {}
            return await self._call("chat.postMessage", {"channel": self._channel(message, previous), **said, **reply})
        if previous:
            try:
                return await self._call("chat.update", {**previous, **said})
            except _Refused as refused:
                if refused.code not in _GONE:
                    raise
        return await self._call("chat.postMessage", {"channel": self._channel(message, {}), **said})

    def _channel(self, message: Message, previous: Mapping[str, str]) -> str:
        return previous.get("channel") or message.incident.channel or self.channel

    async def _call(self, method: str, body: Mapping[str, JsonValue]) -> str:
        import aiohttp
        from slack_sdk.errors import SlackApiError

        try:
            answer = await self._client().api_call(method, json={"unfurl_links": False, "unfurl_media": False, **body})
        except SlackApiError as error:
            raise _classified(error, method, str(body["channel"])) from None
        except aiohttp.ClientConnectorError as error:
            why = f"Slack cannot be reached ({type(error).__name__}); see the network and any proxy"
            raise Temporary(why) from None
        except TimeoutError:
            raise Unknown(f"Slack did not answer {method} within {self.timeout:g} s") from None
        except aiohttp.ClientError as error:
            raise Unknown(f"the connection broke during {method} ({type(error).__name__})") from None
        return json.dumps({"channel": answer["channel"], "ts": answer["ts"]})

    def _client(self) -> AsyncWebClient:
        from slack_sdk.web.async_client import AsyncWebClient

        client = AsyncWebClient(
            token=self.token.reveal(), base_url=self.base_url, session=self._session, retry_handlers=[]
        )
        if self.base_url.startswith("http://"):
            client.proxy = None  # the library ignores NO_PROXY, and only a loopback address may be without TLS
        return client


class _Refused(Permanent):
    """Slack said no; `code` is its own word for the reason."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def _classified(error: SlackApiError, method: str, channel: str) -> Exception:
    """What Slack's answer means for a further attempt."""
    answer: Any = error.response
    status = int(getattr(answer, "status_code", 0) or getattr(answer, "status", 0))
    data = getattr(answer, "data", None)
    code = str(data.get("error", "")) if isinstance(data, dict) else ""
    if status == 429 or code in _TRY_AGAIN:
        return Temporary(f"Slack asks to wait before {method}", _retry_after(answer.headers.get("Retry-After", "")))
    if status >= 500:
        return Temporary(f"Slack answers {method} with {status}")
    if code in _UNCLEAR or not code:
        return Unknown(f"Slack answers {method} with {code or 'something that is not JSON'}")
    cure = _CURES.get(code, "see this error at docs.slack.dev")
    return _Refused(f"Slack refuses {method} in {channel}: {code}; {cure}", code)


def _retry_after(text: str) -> float | None:
    return float(text) if text.isdecimal() else None


def _metadata(message: Message) -> dict[str, JsonValue]:
    """By this our message is recognised when nobody knows whether it was posted; Slack has no idempotency key."""
    return {"event_type": "responder_message", "event_payload": {"key": message.id, "incident": message.incident.id}}


def fallback_text(text: str) -> str:
    """Plain text as Slack takes it: what would mention a channel or make a link is escaped, and it is never empty."""
    return _cut(html.escape(text, quote=False), MAX_TEXT) or "…"


def blocks(markup: str) -> Iterator[dict[str, JsonValue]]:
    """Block Kit blocks of a rendered template, within Slack's limits.

    A paragraph is a section; `# ` begins a header, `-# ` small print, and `---` alone is a line across.
    """
    total, count = 0, 0
    for block in _all_blocks(markup):
        total, count = total + len(json.dumps(block, ensure_ascii=False)), count + 1
        if total > MAX_TOTAL or count == MAX_BLOCKS:
            yield _context("_shortened; the whole story is in `responder incident`_")
            return
        yield block


def _all_blocks(markup: str) -> Iterator[dict[str, JsonValue]]:
    for paragraph in _paragraphs(markup):
        if paragraph == "---":
            yield {"type": "divider"}
        elif paragraph.startswith("# "):
            # A header is plain text, in which nothing has a meaning and nothing is escaped.
            title = html.unescape(" ".join(paragraph[2:].split()))
            yield {"type": "header", "text": {"type": "plain_text", "text": _cut(title, MAX_HEADER), "emoji": True}}
        elif paragraph.startswith("-# "):
            yield _context(_cut(paragraph[3:], MAX_SECTION))
        else:
            for part in _parts(paragraph):
                yield {"type": "section", "text": {"type": "mrkdwn", "text": part}}


def _paragraphs(markup: str) -> Iterator[str]:
    lines: list[str] = []
    for line in [*markup.splitlines(), ""]:
        if line.strip():
            lines.append(line.rstrip())
        elif lines:
            yield "\n".join(lines)
            lines = []


def _context(text: str) -> dict[str, JsonValue]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text}]}


def _parts(paragraph: str) -> Iterator[str]:
    """A paragraph in pieces that a section holds, divided between lines."""
    part = ""
    for line in paragraph.split("\n"):
        fitting = _cut(line, MAX_SECTION)
        if part and len(part) + 1 + len(fitting) > MAX_SECTION:
            yield part
            part = fitting
        else:
            part = f"{part}\n{fitting}" if part else fitting
    yield part


def _cut(text: str, longest: int) -> str:
    """At most so many characters, never ending within an escaped character or a link."""
    if len(text) <= longest:
        return text
    kept = text[: longest - 1]
    for begins, ends in (("&", ";"), ("<", ">")):
        at = kept.rfind(begins)
        if at > kept.rfind(ends):
            kept = kept[:at]
    return f"{kept}…"
