"""Socket Mode: what people press in Slack is fetched over a connection that the responder opens (contracts.md D3).

Nothing must be reachable from outside. The library speaks the protocol; when to connect, how patiently and what is told
of it is decided here: by itself it would try a used ticket again and again, each time with a stack trace. A connection
that Slack recycles is replaced before it is closed, so nothing that is pressed meanwhile is lost. What is not
acknowledged Slack delivers again, and then nothing is on offer any more (`presses`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.web.async_client import AsyncWebClient

from responder.contracts import Secret
from responder.errors import BadConfig, StoreUnavailable
from responder.notifiers.slack import Slack

if TYPE_CHECKING:
    from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
    from slack_sdk.socket_mode.request import SocketModeRequest

LOG = logging.getLogger("responder.slack")

Answer = Mapping[str, Any] | None
Take = Callable[[Mapping[str, Any], Secret], Awaitable[Answer]]
"""Does what a payload says that came to the app of this token, and returns when Slack may be told that it arrived, with
what is to be told beside that. Raises StoreUnavailable."""

LOOK: Final = 1.0
"""Seconds between two looks whether a connection still stands; the library tells of orderly ends alone."""
CLOSE_WITHIN: Final = 3.0
"""Seconds for what is under way on a connection, and for its close."""
_CURES: Final[Mapping[str, str]] = {
    "not_allowed_token_type": "`app_token` must be an app-level token, which begins with xapp-",
    "invalid_auth": "renew `app_token`",
    "missing_scope": "give the app-level token the scope connections:write",
}


class _Quiet(logging.Logger):
    """The library's own words: a stack trace for every failed try, and at some levels what was pressed."""

    def __init__(self) -> None:
        super().__init__("responder.slack.library", logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class SlackApp:
    """What a connection is opened with: the app-level token, and the address of Slack's API."""

    token: Secret
    base_url: str


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: between tries at first and at most, for one try, and from when on a connection counts as steady."""

    first: float = 1.0
    longest: float = 60.0
    one_try: float = 15.0
    steady: float = 30.0


USUAL: Final = Patience()


class SocketMode:
    """One connection for each app. `connected` is told whether all of them stand, whenever that changes."""

    def __init__(self, take: Take, connected: Callable[[bool], None], patience: Patience = USUAL) -> None:
        self._take = take
        self._connected = connected
        self._patience = patience
        self._lines: dict[tuple[str, str], _Line] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    def use(self, notifiers: Iterable[Slack]) -> None:
        """Keep connections for the apps of these, and for no others: those of others end once the new ones stand.

        Several notifiers of one app share its connection, since each press comes on one of them only. Raises BadConfig
        for a token that cannot be read; then nothing has changed.
        """
        apps = [SlackApp(n.app_token, n.base_url) for n in notifiers if n.app_token is not None]
        wanted = {(app.base_url, app.token.reveal().strip()): app for app in apps}
        fresh = [self._open(key, app) for key, app in wanted.items() if key not in self._lines]
        gone = [self._lines.pop(key) for key in list(self._lines) if key not in wanted]
        if gone:
            task = asyncio.create_task(_replace(gone, fresh, self._patience.one_try))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        self._changed()

    def _open(self, key: tuple[str, str], app: SlackApp) -> _Line:
        line = self._lines[key] = _Line(app, self._take, self._changed, self._patience)
        return line

    def _changed(self) -> None:
        # A connection that is being made for the first time is not broken.
        self._connected(not any(line.broken for line in self._lines.values()))

    async def stop(self) -> None:
        """Close every connection."""
        await asyncio.gather(*self._retiring, *(line.stop() for line in self._lines.values()), return_exceptions=True)
        self._lines.clear()


async def _replace(gone: Collection[_Line], fresh: Collection[_Line], within: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            await asyncio.gather(*(line.tried.wait() for line in fresh))
    for line in gone:
        await line.stop()


class _Line:
    """The connections of one app, one after the other, for as long as it is configured."""

    def __init__(self, app: SlackApp, take: Take, changed: Callable[[], None], patience: Patience) -> None:
        self.broken = False
        self.tried = asyncio.Event()
        """Set after the first try, whether it succeeded or not, and when there will be none."""
        self._app = app
        self._take = take
        self._changed = changed
        self._patience = patience
        self._standing: list[_Connection] = []
        """The newest last; two only while one replaces the other."""
        self._task = asyncio.create_task(self._keep(), name="socket mode")

    async def stop(self) -> None:
        self._task.cancel()
        self.tried.set()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        waits = _waits(self._patience)
        try:
            while True:
                try:
                    fresh = await _Connection.open(self._app, self._take, self._patience.one_try)
                except _Failed as failed:
                    # One that Slack wants replaced still brings what is pressed, for a while.
                    self._tell(str(failed))
                    await asyncio.sleep(next(waits))
                    continue
                self._standing.append(fresh)
                self._tell("")
                await self._close_all_but(fresh)
                if await fresh.over() >= self._patience.steady:
                    waits = _waits(self._patience)
                else:
                    # Slack ends each at once, when there are too many: not as fast as it can.
                    await asyncio.sleep(next(waits))
        finally:
            await self._close_all_but(None)

    async def _close_all_but(self, kept: _Connection | None) -> None:
        for connection in [one for one in self._standing if one is not kept]:
            await connection.close()
            self._standing.remove(connection)

    def _tell(self, trouble: str) -> None:
        """Once when it breaks, and once when it is back."""
        self.tried.set()
        if trouble and not self.broken:
            LOG.error("no Socket Mode connection to Slack, so buttons do nothing: %s; it is tried again", trouble)
        elif self.broken and not trouble:
            LOG.info("the Socket Mode connection to Slack is back")
        if self.broken is not bool(trouble):
            self.broken = bool(trouble)
            self._changed()


def _waits(patience: Patience) -> Iterator[float]:
    wait = patience.first
    while True:
        yield wait
        wait = min(2 * wait, patience.longest)


class _Failed(Exception):
    """No connection came about; the message says why and the cure."""


# --- one connection ---------------------------------------------------------------------------------------------------


class _Client(SocketModeClient):
    """The library's client for one WebSocket; where it would reconnect by itself, it says that this one is over."""

    def __init__(self, app_token: str, web_client: AsyncWebClient) -> None:
        self.over = asyncio.Event()
        super().__init__(app_token, _Quiet(), web_client, auto_reconnect_enabled=False)

    async def connect_to_new_endpoint(self, force: bool = False) -> None:
        self.over.set()


class _Connection:
    """One WebSocket, from its ticket to its end."""

    def __init__(self, client: _Client, take: Take, token: Secret) -> None:
        self._client = client
        self._take = take
        self._token = token
        self._since = asyncio.get_running_loop().time()
        self._under_way: set[asyncio.Task[None]] = set()
        client.socket_mode_request_listeners.append(self._begin)
        client.on_close_listeners.append(self._closed)
        client.on_error_listeners.append(self._closed)

    @classmethod
    async def open(cls, app: SlackApp, take: Take, within: float) -> _Connection:
        """Raises _Failed."""
        try:
            client = _client(app)
        except BadConfig as error:
            raise _Failed(str(error)) from None
        connection = cls(client, take, app.token)
        try:
            await connection._connect(within)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _connect(self, within: float) -> None:
        client, doing = self._client, "Slack does not answer; see the network and any proxy"
        try:
            async with asyncio.timeout(within):
                answer = await client.web_client.apps_connections_open(app_token=client.app_token)
                client.wss_uri = _ticket(client, str(answer["url"]))
                doing = "the WebSocket cannot be opened; see whether the network and any proxy let wss:// pass"
                await client.connect()  # type: ignore[no-untyped-call]
        except SlackApiError as error:
            raise _Failed(_refusal(error)) from None
        except _Failed:
            raise
        except Exception as error:  # noqa: BLE001  whatever the library makes of an answer that is not Slack's
            raise _Failed(f"{doing} ({type(error).__name__})") from None

    async def over(self) -> float:
        """Until Slack wants another one or it is broken; answers how long it stood, in seconds."""
        while not self._client.over.is_set() and await self._client.is_connected():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._client.over.wait()
        return asyncio.get_running_loop().time() - self._since

    async def close(self) -> None:
        """After what came on it has been answered on it."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=CLOSE_WITHIN)
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(CLOSE_WITHIN):
                await self._client.close()  # type: ignore[no-untyped-call]

    async def _closed(self, message: object) -> None:
        self._client.over.set()

    async def _begin(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        task = asyncio.create_task(self._taken(request))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _taken(self, request: SocketModeRequest) -> None:
        """Acknowledged only then: what was not stored Slack tells the presser, and may deliver again."""
        answer: Answer = None
        try:
            if request.type == "interactive":
                answer = await self._take(request.payload, self._token)
        except StoreUnavailable:
            return
        except Exception:
            LOG.exception("what came from Slack could not be taken in")
        more = {} if answer is None else {"payload": answer}
        try:
            await self._client.send_socket_mode_response({"envelope_id": request.envelope_id, **more})
        except (aiohttp.ClientError, OSError) as error:
            LOG.info("a press was done and could not be acknowledged (%s); Slack delivers it again", error)


def _client(app: SlackApp) -> _Client:
    token = app.token.reveal().strip()
    web = AsyncWebClient(base_url=app.base_url, retry_handlers=[], logger=_Quiet())
    client = _Client(token, web)
    if app.base_url.startswith("http://"):
        web.proxy = client.proxy = None  # the library ignores NO_PROXY, and only a loopback address is without TLS
    return client


def _ticket(client: _Client, url: str) -> str:
    """The address of one connection, which is itself the permission to open it. Raises _Failed."""
    if not url.startswith("wss://") and not client.web_client.base_url.startswith("http://"):
        raise _Failed("Slack names an address that is not wss://; see any proxy before it")
    return url


def _refusal(error: SlackApiError) -> str:
    answer: Any = error.response
    data = getattr(answer, "data", None)
    code = str(data.get("error", "")) if isinstance(data, dict) else ""
    cure = _CURES.get(code, "see this error at docs.slack.dev")
    return f"Slack refuses apps.connections.open: {code or 'no JSON'}; {cure}"
