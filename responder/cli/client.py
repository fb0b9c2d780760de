"""The running server, for the commands that ask it: where it is, as whom we ask, what its refusals mean to a person.

Every change goes through the server under somebody's own credential (design 5.11); nothing here opens the store. The
configuration is read for the server's address only, so that a mistake elsewhere in it does not keep anybody from
acknowledging.
"""

from __future__ import annotations

import inspect
import ipaddress
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote, urlsplit

import typer

from responder.cli.options import Config, Json, config_file
from responder.errors import ResponderError

if TYPE_CHECKING:
    import httpx

PATIENCE: Final = 10.0
"""Seconds for an answer; the server answers within milliseconds, or its store is in trouble."""
LISTENS: Final = "127.0.0.1:9099"
"""Where a server is that says nothing else (`config.Config.listen`)."""
TOKEN_FILE: Final = "operator.token"
"""In the state directory of a server where nobody is configured (`app`)."""

Incident = Annotated[str, typer.Argument(metavar="ID", help="The incident's id; its beginning is enough.")]

_a_token = re.compile(r"[!-~]+").fullmatch
_an_id = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch


class Failed(ResponderError):
    """What keeps a command from being done, and its exit status: 2 when it was asked wrongly, else 1."""

    def __init__(self, message: str, exit_status: int = 2) -> None:
        super().__init__(message)
        self.exit_status = exit_status


@dataclass(frozen=True, slots=True)
class Token:
    """A credential, and where it came from, which is all that a message may say of it."""

    value: str
    named: str


class Server:
    """One responder, asked as one person. Methods raise Failed."""

    def __init__(self, url: str, token: Token | None) -> None:
        self.url = url
        self.token = token

    def get(self, path: str, **query: str | None) -> tuple[dict[str, Any], str | None]:
        """The answer and the time on the server's clock (the Date header) when it has one."""
        return self._ask("GET", path, {name: value for name, value in query.items() if value is not None}, None)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a change."""
        said = {name: value for name, value in body.items() if value is not None}
        return self.post_as_it_is(path, json.dumps(said).encode())

    def post_as_it_is(self, path: str, content: bytes) -> dict[str, Any]:
        """The answer to JSON that somebody else wrote."""
        return self._ask("POST", path, {}, content)[0]

    def _ask(
        self, method: str, path: str, query: Mapping[str, str], content: bytes | None
    ) -> tuple[dict[str, Any], str | None]:
        import httpx

        headers = {} if self.token is None else {"authorization": f"Bearer {self.token.value}"}
        headers |= {} if content is None else {"content-type": "application/json"}
        url = f"{self.url}/api/v1{path}"
        try:
            with httpx.Client(timeout=PATIENCE, trust_env=not _here(self.url)) as client:
                answer = client.request(method, url, params=query, content=content, headers=headers)
        except httpx.TimeoutException:
            again = "" if method == "GET" else ": it may have been done; look, or send it again, which is safe"
            raise Failed(f"the responder at {self.url} did not answer within {PATIENCE:.0f} s{again}", 1) from None
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from None
        return self._content(answer), answer.headers.get("date")

    def _content(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not isinstance(content, dict) or (not answer.is_success and "error" not in content):
            said = f"what answers at {self.url} is no responder (status {answer.status_code}): check --url"
            raise Failed(said)
        if answer.is_success:
            return content
        raise self._refused(answer.status_code, str(content["error"]))

    def _refused(self, status: int, said: str) -> Failed:
        if status == 401:
            return Failed(f"the responder at {self.url} must know who asks: {_HOW_TO_SAY_WHO}")
        if status == 403 and self.token is not None and said.startswith("wrong credential"):
            return Failed(
                f"the responder at {self.url} does not know the token in {self.token.named}: {_HOW_TO_SAY_WHO}"
            )
        if status >= 500:
            return Failed(f"the responder at {self.url} cannot do this now: {said}", 1)
        return Failed(said.replace("GET /api/v1/incidents", "`responder incidents`"))


_HOW_TO_SAY_WHO: Final = (
    "put your token (its `auth.people`) into RESPONDER_TOKEN, or its file's name into RESPONDER_TOKEN_FILE; "
    "where nobody is configured, run this as the user who runs the server"
)


def _unreachable(url: str, error: Exception) -> Failed:
    import httpx

    if isinstance(error, httpx.ConnectError):
        said = f"the responder is not running at {url} (start it with `responder serve`, or name it with --url)"
        return Failed(said, 1)
    return Failed(f"the responder at {url} did not answer ({type(error).__name__}): check --url and its log", 1)


def incident_path(incident: str) -> str:
    """The path of an incident below /api/v1. Raises Failed for what cannot be an id."""
    if not _an_id(incident):
        raise Failed(f"{incident!r} is no id of an incident: `responder incidents` lists them")
    return f"/incidents/{quote(incident, safe='')}"


# --- which server, and who asks ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """What the command line says about the server."""

    config: Path | None
    url: str | None
    token: str | None


@dataclass(frozen=True, slots=True)
class Written:
    """What a configuration says about the server: its address, and the folder that it keeps its own files in."""

    listen: str
    state: Path


def find_server(said: Said, environ: Mapping[str, str]) -> Server:
    """The server that is meant and the credential for it. Raises Failed.

    The local operator's token goes to the server of this machine's configuration, and to a named one only on loopback.
    """
    named, token = said.url or environ.get("RESPONDER_URL"), _given_token(said.token, environ)
    if named and (token is not None or not _here(_url(named))):
        return Server(_url(named), token)
    written = _written(config_file(said.config), environ)
    url = _url(named) if named else f"http://{_connectable(written.listen)}"
    return Server(url, token or _local_token(written.state))


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise Failed(f"{text!r} is no address of a responder: write it as http://127.0.0.1:9099")
    return text.rstrip("/")


def _here(url: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_ALSO_LOOPBACK: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104


def _connectable(listen: str) -> str:
    """The address under which this machine reaches what listens there: every address is also loopback."""
    host, _, port = listen.rpartition(":")
    return f"{_ALSO_LOOPBACK.get(host, host)}:{port}"


def _written(file: Path | None, environ: Mapping[str, str]) -> Written:
    """Of a configuration `listen` and `store`; nothing else of it is looked at."""
    from responder.environment import Environment

    settings = {} if file is None else _settings(file)
    around = Environment(environ, Path.cwd() if file is None else file.resolve().parent)
    listen, complaint = around.resolve(settings.get("listen") or LISTENS, str)
    if complaint is not None:
        raise Failed(f"{file}: listen: {complaint[0]}: {complaint[1]}, or name the server with --url")
    store, _ = around.resolve(settings.get("store") or around.default_store(), str)
    path = str(store or "")
    beside = path.startswith("sqlite:///")
    return Written(str(listen), Path(path.removeprefix("sqlite:///")).parent if beside else around.folder)


def _settings(file: Path) -> dict[str, Any]:
    from responder.documents import decode, parse_document

    try:
        text, problems = decode(str(file), file.read_bytes())
    except OSError as error:
        raise Failed(f"{file}: cannot be read ({error.strerror}): name the server with --url") from None
    document = parse_document(str(file), text, lambda path: False)
    found = [*problems, *document.problems]
    if found or not isinstance(document.value, dict | None):
        where = found[0] if found else f"{file}: not `key: value` pairs"
        raise Failed(f"{where}\nthe address of the server cannot be read from it: name the server with --url")
    return dict(document.value or {})


def _given_token(given: str | None, environ: Mapping[str, str]) -> Token | None:
    if given:
        return _checked(Token(given, "--token"))
    if value := environ.get("RESPONDER_TOKEN"):
        return _checked(Token(value, "RESPONDER_TOKEN"))
    if name := environ.get("RESPONDER_TOKEN_FILE"):
        return _checked(Token(_text_of(Path(name)), f"{name} (RESPONDER_TOKEN_FILE)"))
    return None


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise Failed(f"the token in {path} cannot be read ({why}): check its path and permissions") from None


def _checked(token: Token) -> Token:
    value = token.value.strip()
    if not _a_token(value):
        raise Failed(f"{token.named} holds no token (one word of plain characters): write yours there")
    return Token(value, token.named)


def _local_token(state: Path) -> Token | None:
    """The local operator's, where this user may read it. One is made only where nobody is configured."""
    path = state / TOKEN_FILE
    return _checked(Token(_text_of(path), str(path))) if os.access(path, os.R_OK) else None


# --- the options of every command that asks ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command gets: the server, and whether its answer is to be JSON."""

    server: Server
    json: bool


Answer = Callable[..., int]

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="The server; else RESPONDER_URL, else `listen` of the configuration."),
]
Credential = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="Who asks; others may see it here, so better RESPONDER_TOKEN or RESPONDER_TOKEN_FILE.",
    ),
]


def _shared(*, json: Json = False, config: Config = None, url: Url = None, token: Credential = None) -> Asked:
    return Asked(find_server(Said(config, url, token), os.environ), json)


def asks(command: Answer) -> Callable[..., None]:
    """The command with --json, --config, --url and --token, which become its first argument.

    The command answers the exit status. Typer reads options from the signature; declared once here, they are the same
    everywhere.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    shared = inspect.signature(_shared, eval_str=True).parameters

    def asking(**given: Any) -> None:
        asked = _shared(**{name: given.pop(name) for name in shared})
        raise typer.Exit(command(asked, **given))

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *shared.values())]
    asking.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    asking.__annotations__ = {p.name: p.annotation for p in parameters}
    asking.__name__, asking.__doc__ = command.__name__, command.__doc__
    return asking
