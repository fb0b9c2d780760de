"""The settings of one process, from responder.yaml: every key with its default, every mistake at its place.

Secrets are named, never written: `{env: NAME}` or `{file: PATH}`. In a field for a secret that becomes a `Secret`,
which is read again whenever it is used (design 5.11); any other text is read once, at loading. Not here: what rules
mean (`loader`), opening anything (`app`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from responder import alert
from responder.automation import Automation
from responder.contracts import Catalogue, Notifier, Parameter, Secret, Service, Strict, WriteSpec
from responder.documents import Document, decode, parse_document
from responder.environment import Environment
from responder.errors import BadConfig, BadSyntax
from responder.heartbeat_settings import HeartbeatSettings, heartbeat_problems
from responder.mistakes import annotation_at, closest, keys_of, problem_of
from responder.patterns import compile_pattern
from responder.problems import Path as At
from responder.problems import Problem
from responder.recorded import Mode
from responder.render import Position, TemplateError, parse_template, parse_tree
from responder.timing import MINUTE, SECOND
from responder.written import Duration, Name

DEFAULT_FILE: Final = "responder.yaml"
BUILT_IN_TYPES: Final[Mapping[str, str]] = {
    "currency_pair": "[A-Z0-9]{2,10}-[A-Z0-9]{2,10}",
    "kubernetes_name": "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
    "whole_number": "[0-9]{1,12}",
}
"""Named types of inputs that always exist; `types:` may say them differently."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens. Port 0: any that is free."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """True when only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_address = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]*)):([0-9]{1,5})").fullmatch


def _an_address(text: str) -> str:
    found = _address(text)
    if found is None or int(found[3]) > 65535:
        hint = "write 127.0.0.1:9099, or :9099 for every address"
        raise PydanticCustomError("address", "an address is a host and a port", {"hint": hint})
    return text


class Basic(Strict):
    """A name and a password."""

    username: str
    """The name."""
    password: Secret
    """The password."""


def _a_header(text: str) -> str:
    if _header(text) is None:
        hint = "write a name like X-Grafana-Alerting-Signature"
        raise PydanticCustomError("header", "no name of an HTTP header", {"hint": hint})
    return text


_header = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}").fullmatch
HeaderName = Annotated[str, AfterValidator(_a_header)]


class Hmac(Strict):
    """A key with which Grafana signs the body, and the headers as its contact point names them (contracts.md A7)."""

    secret: Secret
    """The key, as the contact point has it."""
    header: HeaderName | None = None
    """Where the signature stands; by default where Grafana puts it."""
    timestamp_header: HeaderName | None = None
    """Where the time stands that was signed too; without, a signed body is good for ever."""


class Credential(Strict):
    """What a caller may present: a bearer token, a name with a password, or a signature."""

    bearer: Secret | None = None
    """A token, sent as `Authorization: Bearer`."""
    basic: Basic | None = None
    """A name and a password."""
    hmac: Hmac | None = None
    """A signature of the body, as Grafana makes it."""

    @model_validator(mode="after")
    def _one(self) -> Credential:
        if [self.bearer, self.basic, self.hmac].count(None) != 2:
            raise ValueError("a credential has either 'bearer' or 'basic' or 'hmac'")
        return self


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, Secret) else value


Secrets = Annotated[tuple[Secret, ...], BeforeValidator(_several), Field(min_length=1, max_length=2)]
"""One secret, or two while it is being rotated: both are accepted."""


class Person(Strict):
    """Somebody, or some program, that may ask for changes, with the roles that approvals and restores name."""

    token: Secrets
    """What identifies them; two are valid while one is being rotated."""
    roles: tuple[Name, ...] = ()
    """What they may do: `operator`, and what `restore` and approvals of runbooks name."""
    slack: Annotated[str, Field(pattern=r"^[UW][A-Z0-9]{2,20}$")] | None = None
    """Their Slack user id, such as `U024BE7LH`: what that user presses in Slack is done as this person."""


class Auth(Strict):
    """Who may talk to the server. `webhook`: credentials of Alertmanager or Grafana, several while one is rotated."""

    webhook: tuple[Credential, ...] = ()
    """What Alertmanager or Grafana presents; several while one is being rotated."""
    people: dict[Name, Person] = Field(default_factory=dict)
    """Who may acknowledge, take over, settle, restore and so on, by name."""


class AlertmanagerApi(Strict):
    """An Alertmanager whose API answers what is firing."""

    url: str
    """Its address, such as `http://alertmanager:9093`."""
    bearer: Secret | None = None
    """A token, sent as `Authorization: Bearer`."""
    basic: Basic | None = None
    """A name and a password."""

    @model_validator(mode="after")
    def _http(self) -> AlertmanagerApi:
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise ValueError("the url of an Alertmanager begins with http:// or https://")
        return self


class Limits(Strict):
    """Bounds of what is taken in and done at once; each says what happens at it (design 5.10)."""

    body_bytes: Annotated[int, Field(ge=65_536, le=256 * 1024 * 1024)] = 16 * 1024 * 1024
    """A larger notification is answered 413, and the groups are fetched from the API."""
    alerts: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """Of one notification; with more it is a dead letter, which pages."""
    labels: Annotated[int, Field(ge=8, le=4_096)] = 256
    """Of one alert; one with more is set aside as bad, the rest of the group goes on."""
    label_bytes: Annotated[int, Field(ge=1_024, le=1_048_576)] = 32_768
    """Names and values of one alert's labels together; as above."""
    text: Annotated[int, Field(ge=256, le=1_048_576)] = 65_536
    """Characters of one annotation; a longer one is cut."""
    waiting: Duration = 2 * SECOND
    """Age of the oldest waiting operation from which notifications are answered 503; Alertmanager sends them again."""
    concurrency: Annotated[int, Field(ge=1, le=4_096)] = 256
    """Attempts of steps in flight; further ones wait for their turn."""
    message_bytes: Annotated[int, Field(ge=1_024, le=1_048_576)] = 65_536
    """Of one rendered message; a longer one falls back to plain text."""
    stop: Duration = 20 * SECOND
    """How long a stop waits for attempts in flight before they are left to recovery."""

    @property
    def notification(self) -> alert.Limits:
        """What `alert` takes of them."""
        return alert.Limits(
            max_alerts=self.alerts, max_labels=self.labels, max_label_bytes=self.label_bytes, max_text=self.text
        )


class Reconciling(Strict):
    """How what was told is compared with what the APIs of `alertmanagers` list."""

    every: Annotated[Duration, Field(ge=SECOND)] = MINUTE
    """How often they are asked. What in two looks in succession none of them lists any more counts as ended."""
    settle: Annotated[Duration, Field(ge=SECOND)] = 2 * MINUTE
    """How long an alert fires there without having been told before it is taken in all the same."""
    settled: Annotated[Duration, Field(ge=SECOND)] = 5 * MINUTE
    """An Alertmanager that started later does not know every alert again, so what it does not list means nothing."""


class Config(Strict):
    """Everything that responder.yaml can say.

    `file` and `folder` say where it was read from; its relative paths start at `folder`. `types` has the built-in ones.
    """

    name: str = "responder"
    """How this instance calls itself in messages."""
    listen: Annotated[str, AfterValidator(_an_address)] = "127.0.0.1:9099"
    """Where to listen. Another address than loopback needs credentials below `auth: webhook:`."""
    external_url: str | None = None
    """The address under which people reach this server, for links in messages."""
    store: str = Field(repr=False)
    """`sqlite:///PATH` or `postgresql://…`; by default SQLite in the state directory."""
    rules: tuple[str, ...] = ()
    """Shipped catalogues by name, own files and folders by path; the shipped policies.yaml always comes first."""
    templates: str | None = None
    """A folder whose message templates replace the shipped ones, file by file."""
    mode: Mode = Mode.AUTO
    """The ceiling: no runbook goes further than this, whatever it says."""
    alertmanagers: tuple[AlertmanagerApi, ...] = ()
    """Every one that posts here: asked what fires before a change, and when a notification was cut or is missing."""
    reconcile: Reconciling = Reconciling()
    """How what was told is compared with what they list."""
    services: dict[str, Service] = Field(default_factory=dict)
    """What steps may talk to, by the names that they use: an alert never chooses a host."""
    parameters: dict[str, Parameter] = Field(default_factory=dict)
    """Numbers that runbooks may lower, by name."""
    types: dict[str, str] = Field(default_factory=dict)
    """Named types of inputs: name → the regular expression (RE2) that the whole value matches."""
    notifiers: dict[str, Notifier] = Field(default_factory=dict)
    """Who is told, by the names that policies and `unless_fixed` use."""
    auth: Auth = Auth()
    """Who may talk to the server."""
    limits: Limits = Limits()
    """Bounds of what is taken in and done at once."""
    automation: Automation = Automation()
    """Bounds of all runs together: changes an hour, storms, relapses, runbooks that do not help; the pause file."""
    heartbeats: HeartbeatSettings = HeartbeatSettings()
    """What must come in although nothing is wrong, and who hears that this responder is well."""
    file: Path | None = Field(default=None, exclude=True)
    folder: Path = Field(default=Path(), exclude=True)

    @property
    def address(self) -> Address:
        """`listen`, taken apart; no host means every address."""
        found = _address(self.listen)
        return Address(found[1] or found[2] or "::", int(found[3])) if found else Address("127.0.0.1", 9099)

    @property
    def roles(self) -> frozenset[str]:
        """Every role that somebody has."""
        return frozenset(role for person in self.auth.people.values() for role in person.roles)

    @property
    def peers(self) -> frozenset[str]:
        """The addresses of those below `alertmanagers`."""
        return frozenset(peer.url for peer in self.alertmanagers)


_SHOWN: Final = frozenset(
    {"name", "listen", "rules", "templates", "mode", "parameters", "types", "limits", "automation"}
)


def shown(path: At) -> bool:
    """Whether what stands at `path` may be repeated: nowhere that somebody might have put a secret."""
    return bool(path) and path[0] in _SHOWN


def load_config(
    path: Path | None, catalogue: Catalogue, environ: Mapping[str, str], *, check_secrets: bool = True
) -> Config:
    """The configuration in the file `path`; the defaults alone for None.

    `environ` is kept, and read again by secrets; see Environment for `check_secrets`. Raises BadConfig, all at once.
    """
    if path is None:
        return read_config("(defaults)", "", catalogue, Environment(environ, Path.cwd(), check_secrets=check_secrets))
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadConfig(f"{path}: the configuration cannot be read ({error.strerror}): check --config") from None
    text, problems = decode(str(path), raw)
    _refuse(problems)
    folder = path.resolve().parent
    config = read_config(str(path), text, catalogue, Environment(environ, folder, check_secrets=check_secrets))
    return config.model_copy(update={"file": path})


def read_config(name: str, text: str, catalogue: Catalogue, environment: Environment) -> Config:
    """The configuration that `text` says; `name` is what messages call it. Raises BadConfig with every problem."""
    document = parse_document(name, text, shown)
    _refuse(document.problems)
    if not isinstance(document.value, dict | None):
        hint = "see the shipped responder.yaml"
        _refuse([document.at_value((), "a configuration is written as `key: value` pairs", hint)])
    reader = _Reader(document, catalogue, environment)
    config = reader.read(document.value if isinstance(document.value, dict) else {})
    _refuse(reader.problems)
    if config is None:
        raise BadConfig(f"{name}: the configuration cannot be used")
    return config


def _refuse(problems: Iterable[Problem]) -> None:
    told = sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column))
    if told:
        raise BadConfig("\n".join(str(problem) for problem in told))


class _Reader:
    """One configuration while it is read; collects problems instead of stopping at the first."""

    def __init__(self, document: Document, catalogue: Catalogue, environment: Environment) -> None:
        self.document = document
        self.catalogue = catalogue
        self.environment = environment
        self.problems: list[Problem] = []
        self.unresolved: set[At] = set()

    def tell(self, path: At, message: str, hint: str) -> None:
        self.problems.append(self.document.at_value(path, message, hint))

    def read(self, written: dict[str, Any]) -> Config | None:
        settings = dict(written)
        for place in {"file", "folder"} & settings.keys():
            self.problems.append(self.document.at_key((place,), "unknown key", closest(place, keys_of(Config))))
            del settings[place]
        services = self.members(settings.pop("services", None), ("services",), self.catalogue.services)
        notifiers = self.members(settings.pop("notifiers", None), ("notifiers",), self.catalogue.notifiers)
        settings = {key: value for key, value in self.resolved(settings, Config, ()).items() if value is not None}
        settings.setdefault("store", self.environment.default_store())
        config: Config | None = self.validated(Config, settings, ())
        if config is None:
            return None
        self.consistent(config)
        types = {**BUILT_IN_TYPES, **config.types}
        folder, notifiers = self.environment.folder, {**self.always(notifiers), **notifiers}
        added = {"services": services, "notifiers": notifiers, "types": types, "folder": folder}
        return config.model_copy(update=added)

    def always(self, notifiers: Mapping[str, Notifier]) -> dict[str, Notifier]:
        """The notifier that exists whatever is configured: the shipped policy for alerts without a runbook names it."""
        member = self.catalogue.notifiers.get("console")
        return {} if member is None or "console" in notifiers else {"console": member(kind="console")}

    # ------------------------------------------------------------------------------------------ services and notifiers

    def members(self, written: Any, path: At, table: Mapping[str, type[Any]]) -> dict[str, Any]:
        """Services or notifiers, each read as what its `kind` says."""
        if written is not None and not isinstance(written, dict):
            self.tell(path, "`key: value` pairs are needed here", "write `name: {kind: …}`")
        made = {}
        for name, given in written.items() if isinstance(written, dict) else ():
            member = self.kind(given, (*path, name), table)
            value = None
            if member is not None:
                value = self.validated(member, self.resolved(given, member, (*path, name)), (*path, name))
            if value is not None:
                made[name] = value
        return made

    def kind(self, given: Any, path: At, table: Mapping[str, type[Any]]) -> type[Any] | None:
        if not isinstance(given, dict) or "kind" not in given:
            hint = f"add `kind:` with one of {', '.join(sorted(table))}"
            self.problems.append(self.document.at_key(path, "the key 'kind' is missing", hint))
            return None
        found = table.get(str(given["kind"]))
        if found is None:
            what = "service" if path[0] == "services" else "notifier"
            self.tell((*path, "kind"), f"unknown kind of {what}", closest(str(given["kind"]), table))
        return found

    # ------------------------------------------------------------------------------------------------------ references

    def resolved(self, value: Any, annotation: Any, path: At) -> Any:
        """`value` with every {env:} and {file:} replaced that stands where a text or secret is wanted."""
        found, complaint = self.environment.resolve(value, annotation)
        if complaint is not None:
            self.tell(path, *complaint)
            self.unresolved.add(path)
            return None
        if found is not value:
            return found
        if isinstance(value, str) and _has_password(value):
            self.tell(
                path, "an address with a password in it", "write the whole address as {env: NAME} or {file: PATH}"
            )
        if isinstance(value, dict):
            return {key: self.resolved(v, annotation_at(annotation, (key,)), (*path, key)) for key, v in value.items()}
        if isinstance(value, list):
            return [self.resolved(v, annotation_at(annotation, (i,)), (*path, i)) for i, v in enumerate(value)]
        return value

    def validated(self, model: type[Any], value: Any, path: At) -> Any:
        try:
            return model.model_validate(value, by_alias=True, by_name=False)
        except ValidationError as error:
            for found in error.errors(include_url=False):
                if not self.is_told((*path, *found["loc"])):
                    self.problems.append(problem_of(found, self.document, path, model))
            return None

    def is_told(self, path: At) -> bool:
        """Whether this only follows from a reference that could not be resolved."""
        return any(path == other[: len(path)] or other == path[: len(other)] for other in self.unresolved)

    # ----------------------------------------------------------------------------------------------------- consistency

    def consistent(self, config: Config) -> None:
        if not config.address.loopback and not config.auth.webhook:
            message = f"{config.address} can be reached from other machines, and nobody needs a credential"
            hint = "add `auth: {webhook: [{bearer: {env: NAME}}]}`, or listen on 127.0.0.1"
            self.tell(("listen",), message, hint)
        self.one_person_each(config.auth.people)
        for path, (line, column), message, hint in heartbeat_problems(config.heartbeats):
            self.problems.append(self.document.at_text(path, (line, column), message, hint))
        for name, pattern in config.types.items():
            self.problems.extend(_pattern_problems(self.document, ("types", name), pattern))
        declared = self.document.get(("services",))
        services = declared if isinstance(declared, dict) else {}
        for name, parameter in config.parameters.items():
            if parameter.service not in services:
                hint = closest(parameter.service, services)
                self.tell(("parameters", name, "service"), f"unknown service {parameter.service!r}", hint)
            for key in ("write", "restore"):
                self.problems.extend(self.request(("parameters", name, key), getattr(parameter, key)))

    def one_person_each(self, people: Mapping[str, Person]) -> None:
        """Of two people with one Slack user nobody could tell who pressed."""
        first: dict[str, str] = {}
        for name, person in people.items():
            if person.slack is not None and first.setdefault(person.slack, name) != name:
                message = f"{first[person.slack]} has this Slack user already"
                hint = "give each person their own; `Copy member ID` in a Slack profile tells it"
                self.tell(("auth", "people", name, "slack"), message, hint)

    def request(self, path: At, given: WriteSpec | None) -> Iterator[Problem]:
        """The templates of a parameter's request: found out here, not in the middle of an incident."""
        if given is None:
            return
        try:
            templates = [parse_template(given.path, Position.PATH), *parse_tree(given.body, Position.JSON)]
        except TemplateError as error:
            yield self.document.at_value(path, error.message, error.hint)
            return
        unknown = {name for template in templates for name in template.names} - {"value", "reason"}
        for name in sorted(unknown):
            yield self.document.at_value(
                path, f"there is no {name!r} here", "a request may use {{ value }} and {{ reason }}"
            )


def _pattern_problems(document: Document, path: At, pattern: str) -> Iterator[Problem]:
    try:
        compile_pattern(pattern)
    except BadSyntax as error:
        yield document.at_text(path, (1, error.column), error.message, error.hint)


def _has_password(text: str) -> bool:
    try:
        return "://" in text and urlsplit(text).password is not None
    except ValueError:
        return False
