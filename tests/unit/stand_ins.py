"""A small catalogue for tests of what is read from YAML: two kinds of services, four actions, two notifiers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from responder.config import Config, read_config
from responder.contracts import Action, Catalogue, Context, Message, Notifier, Output, Parameter, Secret, Service
from responder.environment import Environment
from responder.recorded import Effect, Plan


class Api(Service):
    kind: Literal["api"] = "api"
    url: str
    token: Secret | None = None


class Metrics(Service):
    kind: Literal["metrics"] = "metrics"
    url: str


class Query(Action):
    reads_only: ClassVar[bool] = True
    kinds: ClassVar[tuple[str, ...]] = ("metrics",)
    positions: ClassVar[Mapping[str, str]] = {"service": "literal", "query": "promql", "freshness": "promql"}
    service: str
    query: str
    freshness: str | None = None

    async def act(self, plan: Plan, context: Context) -> Output:
        return Output(1.0, "1")


class Call(Action):
    kinds: ClassVar[tuple[str, ...]] = ("api",)
    positions: ClassVar[Mapping[str, str]] = {"service": "literal", "method": "literal", "path": "path"}
    service: str
    method: Literal["GET", "POST"] = "GET"
    path: str
    json_: JsonValue = Field(default=None, alias="json")
    tries: int = 1

    def effect(self, keyed: bool) -> Effect:
        return Effect.READ if self.method == "GET" else Effect.UNSAFE

    async def act(self, plan: Plan, context: Context) -> Output:
        return Output(None, "called")


class Promote(Action):
    kinds: ClassVar[tuple[str, ...]] = ("api",)
    positions: ClassVar[Mapping[str, str]] = {"service": "literal"}
    service: str

    def effect(self, keyed: bool) -> Effect:
        return Effect.PROBED

    @classmethod
    def asks_a_person(cls, with_: Mapping[str, Any]) -> str:
        return "a promotion cannot be taken back"

    async def act(self, plan: Plan, context: Context) -> Output:
        return Output(None, "promoted")


class Reduce(Action):
    lowers_risk: ClassVar[bool] = True
    positions: ClassVar[Mapping[str, str]] = {"parameter": "literal", "to": "literal", "reason": "text"}
    parameter: str
    to: float
    reason: str

    def services(self, parameters: Mapping[str, Parameter]) -> tuple[str, ...]:
        return (parameters[self.parameter].service,) if self.parameter in parameters else ()

    def effect(self, keyed: bool) -> Effect:
        return Effect.SET

    async def act(self, plan: Plan, context: Context) -> Output:
        return Output(None, "reduced")

    async def undo(self, plan: Plan, context: Context) -> Plan:
        return plan


class Console(Notifier):
    kind: Literal["console"] = "console"
    pages: ClassVar[bool] = True

    async def send(self, message: Message) -> str:
        return ""


class Pager(Notifier):
    kind: Literal["pager"] = "pager"
    pages: ClassVar[bool] = True
    key: Secret

    async def send(self, message: Message) -> str:
        return ""


class Chat(Notifier):
    kind: Literal["chat"] = "chat"

    async def send(self, message: Message) -> str:
        return ""


CATALOGUE = Catalogue(
    actions={"metrics.query": Query, "api.call": Call, "api.promote": Promote, "parameter.reduce": Reduce},
    notifiers={"console": Console, "pager": Pager, "chat": Chat},
    services={"api": Api, "metrics": Metrics},
)

SETTINGS = """
services:
  risk: {kind: api, env: prod, url: 'http://risk:8080'}
  risk-staging: {kind: api, env: staging, url: 'http://risk.staging:8080'}
  metrics: {kind: metrics, url: 'http://metrics:9090'}
parameters:
  risk/kelly:
    service: risk
    read: {path: /k, value: k}
    write: {path: /k, body: {k: '{{ value }}'}}
    floor: 0.05
    total_per_day: 1
notifiers:
  oncall: {kind: pager, key: {env: KEY}}
  room: {kind: chat}
auth:
  people:
    alice: {token: {env: TOKEN}, roles: [risk-manager]}
"""


def configured(text: str = SETTINGS, environ: Mapping[str, str] | None = None, folder: Path = Path("/")) -> Config:
    """A configuration over the small catalogue."""
    return read_config("responder.yaml", text, CATALOGUE, Environment(environ or {"KEY": "k", "TOKEN": "t"}, folder))
