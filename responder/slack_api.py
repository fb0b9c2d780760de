"""Slack's Web API, one call at a time, and what every answer means for a further attempt (contracts.md D).

The library's own retries are off: it would post again exactly when nobody knows whether the first post arrived.
Credentials go to the configured address alone, and the content of a file only to Slack.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from responder.contracts import Secret
from responder.errors import Permanent, Temporary, Unknown

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from slack_sdk.errors import SlackApiError
    from slack_sdk.web.async_client import AsyncWebClient

_TRY_AGAIN = frozenset({"ratelimited", "rate_limited", "service_unavailable", "accesslimited", "team_added_to_org"})
_UNCLEAR = frozenset({"internal_error", "fatal_error", "request_timeout"})
_CURES: Mapping[str, str] = {
    "channel_not_found": "create the channel or correct its name, and invite the app to it",
    "not_in_channel": "invite the app to the channel",
    "is_archived": "unarchive the channel or name another",
    "invalid_auth": "renew the token",
    "token_revoked": "renew the token",
    "token_expired": "renew the token",
    "account_inactive": "renew the token",
    "not_authed": "provide a token",
}
_SCOPES: Mapping[str, str] = {
    "chat": "chat:write",
    "files": "files:write",
    "conversations": "channels:history and groups:history",
}


_IS_ID = re.compile(r"[CDG][A-Z0-9]{5,20}").fullmatch
"""What Slack reads as a channel's id; names are in lower case."""
CHANNELS: Final = 999
"""Channels that are listed at once, the most that Slack allows."""
LISTS: Final = 20
"""Pages of channels that are looked through for a name."""


def is_id(channel: str) -> bool:
    """Whether a channel is named by its id, which all methods take; a name only serves to post."""
    return _IS_ID(channel) is not None


class Refused(Permanent):
    """Slack said no; `code` is its own word for the reason."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class SlackApi:
    """Calls with one session: a new one for every message costs a TLS handshake."""

    def __init__(self, token: Secret, base_url: str, timeout: float) -> None:
        self._token = token
        self._base_url = base_url
        self._timeout = timeout
        self._session: ClientSession | None = None

    def _open(self) -> ClientSession:
        from aiohttp import ClientSession, ClientTimeout

        if self._session is None:
            self._session = ClientSession(timeout=ClientTimeout(total=self._timeout))
        return self._session

    async def close(self) -> None:
        """Close the session; a further call opens another."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def write(self, method: str, body: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """A call with a JSON body. `where` is what a refusal names. Raises Refused, Temporary, Unknown."""
        return await self._called(method, where, json=dict(body))

    async def read(self, method: str, query: Mapping[str, Any], where: str, verb: str = "GET") -> Mapping[str, Any]:
        """A call with a query, for methods that take no JSON. Raises as `write`."""
        return await self._called(method, where, http_verb=verb, params=dict(query))

    async def _called(self, method: str, where: str, **request: Any) -> Mapping[str, Any]:
        from slack_sdk.errors import SlackApiError

        async with self._connected(method):
            try:
                answer = await self._client().api_call(method, **request)
            except SlackApiError as error:
                raise classified(error, method, where) from None
        data = answer.data
        return data if isinstance(data, dict) else {}

    async def id_of(self, name: str) -> str:
        """The id of a channel that is known by its name: what reads messages takes ids alone (contracts.md D1).

        Raises Permanent, with the cure, where no channel that may be listed is called so; else as `read`.
        """
        refused: Refused | None = None
        for types in ("public_channel,private_channel", "public_channel", "private_channel"):
            try:
                found = await self._listed(name.removeprefix("#"), types)
            except Refused as error:
                if error.code != "missing_scope":
                    raise
                refused = error
                continue
            if found is not None:
                return found
            if refused is None:
                break
        why = "the app may list no channel of this name" if refused is not None else "no channel is called so"
        cure = "write the channel's id, or give the app the scopes channels:read and groups:read and invite it there"
        raise Permanent(f"{name} cannot be looked up, {why}: {cure}")

    async def _listed(self, name: str, types: str) -> str | None:
        query: dict[str, Any] = {"types": types, "exclude_archived": "true", "limit": CHANNELS}
        for _ in range(LISTS):
            answer = await self.read("conversations.list", query, f"#{name}")
            for one in answer.get("channels", ()):
                if one.get("name") == name:
                    return str(one["id"])
            cursor = (answer.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return None
            query = {**query, "cursor": cursor}
        return None

    async def upload(self, url: str, content: bytes) -> None:
        """The content of a file, to the address that Slack gave for it. Raises Permanent, Temporary, Unknown."""
        if not self._is_slacks(url):
            raise Permanent("the address for a file is not one of Slack's; the file was not sent")
        async with self._connected("upload"), self._open().post(url, data=content, allow_redirects=False) as answer:
            if answer.status == 429 or answer.status >= 500:
                raise Temporary(f"Slack answers an upload with {answer.status}")
            if answer.status != 200:
                raise Permanent(f"Slack refuses an upload with {answer.status}")

    def _is_slacks(self, url: str) -> bool:
        """https at slack.com, or this machine when the API itself is here."""
        to, api = urlsplit(url), urlsplit(self._base_url)
        if api.scheme == "http":
            return (to.scheme, to.netloc) == (api.scheme, api.netloc)
        host = to.hostname or ""
        return to.scheme == "https" and (host == "slack.com" or host.endswith(".slack.com"))

    @asynccontextmanager
    async def _connected(self, method: str) -> AsyncIterator[None]:
        """What a connection that fails means: nothing was sent, or nobody knows."""
        import aiohttp

        try:
            yield
        except aiohttp.ClientConnectorError as error:
            why = f"Slack cannot be reached ({type(error).__name__}); see the network and any proxy"
            raise Temporary(why) from None
        except TimeoutError:
            raise Unknown(f"Slack did not answer {method} within {self._timeout:g} s") from None
        except aiohttp.ClientError as error:
            raise Unknown(f"the connection broke during {method} ({type(error).__name__})") from None

    def _client(self) -> AsyncWebClient:
        from slack_sdk.web.async_client import AsyncWebClient

        client = AsyncWebClient(
            token=self._token.reveal(), base_url=self._base_url, session=self._open(), retry_handlers=[]
        )
        if self._base_url.startswith("http://"):
            client.proxy = None  # the library ignores NO_PROXY, and only a loopback address may be without TLS
        return client


def classified(error: SlackApiError, method: str, where: str) -> Exception:
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
    return Refused(f"Slack refuses {method} in {where}: {code}; {_cure(method, code)}", code)


def _cure(method: str, code: str) -> str:
    if code == "missing_scope" and method == "conversations.list":
        return "give the app the scopes channels:read and groups:read"
    if code == "missing_scope":
        return f"give the app the scope {_SCOPES.get(method.partition('.')[0], 'that this method needs')}"
    return _CURES.get(code, "see this error at docs.slack.dev")


def _retry_after(text: str) -> float | None:
    return float(text) if text.isdecimal() else None
