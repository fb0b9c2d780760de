"""The action `http.request`: any call of a configured HTTP API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, field_validator, model_validator
from pydantic_core import PydanticCustomError

from responder.contracts import Action, Context, Output, Probe, Strict
from responder.errors import Permanent, Temporary
from responder.expressions import Answer, ExpressionError, evaluate, explain, parse_expression
from responder.http_calls import SAFE_METHODS, HttpAnswer, HttpCall, checked_path
from responder.mistakes import unquoted
from responder.recorded import Effect, Plan, ProbeAnswer

_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_OWNED = frozenset({
    "authorization", "connection", "content-length", "cookie", "host", "idempotency-key", "te", "transfer-encoding",
    "upgrade",
})  # fmt: skip
_SEES = frozenset({"status", "body"})

Path = Annotated[str, AfterValidator(checked_path)]
Scalar = str | int | float | bool


class HttpProbe(Strict):
    """A GET on the same service that tells whether the change happened: it did when `expect` holds.

    `expect` sees `status` and `body` (the JSON of the answer, else its text): `body.trading == "halted"`.
    """

    path: Path
    """What is asked, below the service's address."""
    params: dict[str, Scalar] = Field(default_factory=dict)
    """The query, by name."""
    expect: str
    """A condition over `status` and `body`: the change happened when it holds."""

    @field_validator("expect")
    @classmethod
    def _readable(cls, value: str) -> str:
        try:
            roots = parse_expression(value).names
        except ExpressionError as error:
            raise ValueError(str(error)) from None
        unknown = sorted(roots - _SEES)
        if unknown:
            problem = f"a probe's expect sees `status` and `body`, not {', '.join(unknown)}"
            context = {"problem": problem, "hint": next(filter(None, (unquoted(n, value) for n in unknown)), "")}
            raise PydanticCustomError("expect", "{problem}", context)
        return value


class HttpRequest(Action):
    """Send one request to a configured HTTP API.

    - `service`: a service of kind `http`. Host, credentials and certificates are its own.
    - `method`: GET (default), HEAD, POST, PUT, PATCH or DELETE.
    - `path`: below the service's address, beginning with `/`. Placeholders are percent-encoded.
    - `params`: the query, by name. `json`: the body; a placeholder that stands alone keeps its type.
    - `headers`: further headers; credentials and those of the connection belong to the service.
    - `expect_status`: the statuses that count as success (default: every 2xx), such as `[200, 404]` for a DELETE.
    - `probe`: `{path, params, expect}`, a GET that tells whether a change happened: `expect` sees `status` and `body`.

    Effect class: GET and HEAD `read`; PUT and DELETE `set` (sending one again does the same); POST and PATCH `keyed`
    when the service declares `idempotency_keys: true`, else `probed` with a `probe`, else `unsafe`. Every change
    carries an Idempotency-Key, the same when it is sent again.

    With a `probe` the state is read first; when `expect` holds already, nothing is done, and that is a success.

    Outcome: a question is asked again later after 408, 425, 429 and 5xx (Retry-After is honoured, up to an hour). For a
    change 425 and 429 mean "not now", other 4xx and 501 "refused, nothing happened"; 408, any other 5xx and a lost
    answer mean that it may have happened: the outcome is unknown until the probe, or a person, tells. Redirects are
    never followed.

    `expect` of a check or step sees `value.status` and `value.body`. In a simulation the body is null.

    Needs of its credential: this request and that of its `probe`, and no other.

    ```yaml
    - id: halt
      action: http.request
      with:
        service: risk-api
        method: POST
        path: /api/stop-trading
        probe: {path: /api/status, expect: 'body.trading == "halted"'}
    ```
    """

    model_config = ConfigDict(populate_by_name=True)
    kinds: ClassVar[tuple[str, ...]] = ("http",)
    positions: ClassVar[Mapping[str, str]] = {
        "service": "literal", "method": "literal", "path": "path", "headers": "header", "expect_status": "literal",
        "probe.path": "path", "probe.expect": "literal",
    }  # fmt: skip

    service: str
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: Path
    params: dict[str, Scalar] = Field(default_factory=dict)
    json_: JsonValue = Field(default=None, alias="json")
    headers: dict[str, str] = Field(default_factory=dict)
    expect_status: tuple[Annotated[int, Field(ge=200, le=599)], ...] = ()
    probe_: HttpProbe | None = Field(default=None, alias="probe")

    @field_validator("headers")
    @classmethod
    def _own_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _HEADER_NAME.fullmatch(name) or not text.isascii() or not text.isprintable():
                raise ValueError(f"header {name!r}: a name of letters, digits and `-`, and a value of printable ASCII")
            if name.lower() in _OWNED:
                raise ValueError(f"header {name} belongs to the service: configure it there")
        return value

    @model_validator(mode="after")
    def _fits(self) -> HttpRequest:
        if self.method in SAFE_METHODS and (self.json_ is not None or self.probe_ is not None):
            raise ValueError(f"{self.method} only reads, so it has neither `json` nor `probe`: set `method: POST`")
        if self.params and "?" in self.path:
            raise ValueError("parameters stand both in `path` and in `params`: write them in one place")
        return self

    def effect(self, keyed: bool) -> Effect:
        """See Action.effect."""
        if self.method in SAFE_METHODS:
            return Effect.READ
        if self.method in {"PUT", "DELETE"}:
            return Effect.SET
        if keyed:
            return Effect.KEYED
        return Effect.UNSAFE if self.probe_ is None else Effect.PROBED

    def preview(self) -> str:
        """See Action.preview."""
        return f"{self.method} {self.path} on {self.service}"

    async def prepare(self, context: Context) -> Plan:
        """Fix the effect class; with a probe, find out whether there is anything to do."""
        effect = self.effect(context.service(self.service).keyed)
        params: dict[str, JsonValue] = self.model_dump(mode="json", by_alias=True)
        plan = Plan(params=params, preview=self.preview(), effect=effect, prepared_at=context.now())
        if self.probe_ is None:
            return plan
        # What the probe sees may move; a yes is for the change.
        plan = plan.model_copy(update={"parts": (self.preview(),)})
        try:
            found, seen = await self._probed(self.probe_, context, context.timeout / 2)
        except (Temporary, Permanent):
            # Halting must not depend on a status page that is down; recovery will then ask it again, or a person.
            return plan
        if found.holds:
            return plan.model_copy(update={"before": seen, "nothing_to_do": f"already so: {seen}"})
        return plan.model_copy(update={"before": seen})

    async def act(self, plan: Plan, context: Context) -> Output:
        """Send it once. Raises what `HttpAnswer.checked` and `HttpConnection.send` raise."""
        asked = context.now()
        call = HttpCall(self.method, self.path, self.params, self.json_, headers=self.headers, key=context.key)
        answer: HttpAnswer = await context.service(self.service).send(call, context.timeout, context.clear)
        answer.checked(context.now(), self.expect_status)
        return Output({"status": answer.status, "body": answer.body}, f"{self.preview()}: {answer.status}", asked)

    @property
    def blind(self) -> bool:
        """See Action.blind."""
        return self.probe_ is None

    async def probe(self, plan: Plan, context: Context) -> Probe:
        """Ask the declared probe. PUT and DELETE without one count as not applied: sending them again does the same."""
        if self.probe_ is not None:
            return await self._asked(self.probe_, context)
        if self.effect(keyed=False) in {Effect.SET, Effect.READ}:
            return Probe(ProbeAnswer.NOT_APPLIED, f"no probe is declared; sending {self.method} again does the same")
        return Probe(ProbeAnswer.UNCLEAR, "no probe is declared: add `probe` to the step, so that it can be found out")

    async def _asked(self, probe: HttpProbe, context: Context) -> Probe:
        found, seen = await self._probed(probe, context, context.timeout)
        if found.unknown:
            return Probe(ProbeAnswer.UNCLEAR, f"the probe does not tell: {'; '.join(found.missing)}")
        return Probe(ProbeAnswer.APPLIED if found.holds else ProbeAnswer.NOT_APPLIED, f"the probe says {seen}")

    async def _probed(self, probe: HttpProbe, context: Context, timeout: float) -> tuple[Answer, str]:
        """Whether the probe's expectation holds, and the expectation with the values seen."""
        call = HttpCall("GET", probe.path, probe.params)
        answer: HttpAnswer = (await context.service(self.service).send(call, timeout)).checked(context.now())
        expression, values = parse_expression(probe.expect), {"status": answer.status, "body": answer.body}
        return evaluate(expression, values), explain(expression, values)
