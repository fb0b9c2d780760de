"""What the engine asks of the world: actions, notifiers, services, and the values that pass between them.

The consumer owns these contracts; `actions/` and `notifiers/` are their members, one line each in a table. Nothing
here does any I/O: connections are made by `services` and reach an action through its `Context`.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, JsonValue
from pydantic_core import CoreSchema, core_schema

from responder.errors import BadConfig, HeldBack, Permanent
from responder.facts import Event
from responder.incident import Incident
from responder.recorded import Effect, Plan, ProbeAnswer

Clock = Callable[[], int]
"""Answers the present time in microseconds since the epoch, UTC."""

Render = Callable[[str, Mapping[str, object]], str]
"""Template name and values -> text, as `MessageTemplates.render`; raises TemplateError."""


SecureUrl = Annotated[str, Field(pattern=r"^(https://|http://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?(/|$))")]
"""An address that credentials may be sent to: https, or plain http on this machine alone."""


class Strict(BaseModel):
    """Something that people write: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Secret:
    """A secret that is fetched when it is needed and never shown.

    `fetch` reads the environment variable or the file afresh, so a rotated secret is used without a restart (design
    5.11). `named` says where it comes from ("env RISK_TOKEN"), which is all that a message may tell.
    """

    __slots__ = ("_fetch", "named")

    def __init__(self, named: str, fetch: Callable[[], str]) -> None:
        self.named = named
        self._fetch = fetch

    def reveal(self) -> str:
        """The secret itself. Raises BadConfig when it cannot be read; the message names the place, not the value."""
        return self._fetch()

    def digest(self) -> str:
        """What stands for the secret where two of them are told apart; its place when it cannot be read."""
        try:
            return hashlib.sha256(self.reveal().strip().encode()).hexdigest()[:16]
        except BadConfig:
            return self.named

    def __repr__(self) -> str:
        return f"Secret({self.named})"

    __str__ = __repr__

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A field of type Secret takes only a Secret: the configuration reader makes it from {env:} or {file:}."""
        return core_schema.is_instance_schema(
            cls,
            metadata={"pydantic_js_functions": [_secret_schema]},
            serialization=core_schema.plain_serializer_function_ser_schema(lambda s: f"({s.named})"),
        )


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, Secret) else value


Secrets = Annotated[tuple[Secret, ...], BeforeValidator(_several), Field(min_length=1, max_length=2)]
"""One secret, or two while it is being rotated: both are accepted."""


def _secret_schema(schema: Any, handler: Any) -> dict[str, Any]:
    env = {"type": "string", "description": "The environment variable that holds it."}
    file = {
        "type": "string",
        "description": "The file that holds it, relative to this one; read again when it changed.",
    }
    return {
        "type": "object",
        "properties": {"env": env, "file": file},
        "oneOf": [{"required": ["env"]}, {"required": ["file"]}],
        "additionalProperties": False,
    }


class Service(Strict):
    """A named, configured endpoint (design 2). Members add their own fields and a literal `kind`."""

    kind: str
    """What it is; the other keys follow from it."""
    env: str | None = None
    """Whose it is: a runbook of another env cannot use it."""

    def never_takes(self, with_: Mapping[str, Any]) -> tuple[str, str, str] | None:
        """Which of a step's parameters, as they are written, this service would always refuse, why, and the cure."""
        return None


class ReadSpec(Strict):
    """How a parameter is read: a GET, and where its number is in the JSON answer (dotted)."""

    path: str
    """Below the service's address, beginning with `/`."""
    value: str
    """Where the number stands in the JSON of the answer, such as `limits.kelly_fraction`."""


class WriteSpec(Strict):
    """How a parameter is set: the request's method, path and JSON body, with `{{ value }}` and `{{ reason }}`."""

    method: str = "POST"
    """The method of the request."""
    path: str
    """Below the service's address, beginning with `/`; may hold `{{ value }}`."""
    body: dict[str, JsonValue] = Field(default_factory=dict)
    """The JSON body; `{{ value }}` that stands alone stays a number."""


class Parameter(Strict):
    """A number that runbooks may lower (responder.yaml `parameters`).

    `floor` is the lowest value that automation may set; `total_per_day` is how much all runs together may take off
    within 24 hours, in the parameter's own unit. Both hold for brakes too (design 4).
    """

    service: str
    """The service of kind `http` that has it."""
    read: ReadSpec
    """How it is read."""
    write: WriteSpec
    """How it is set."""
    restore: WriteSpec | None = None
    """How it is raised back, when that is another request than `write`."""
    floor: float
    """The lowest value that automation may set."""
    total_per_day: float
    """How much all runs together may take off within 24 hours, in its own unit."""
    tolerance: float = 1e-9
    """Two values that differ by no more count as the same."""


@dataclass(frozen=True, slots=True)
class Output:
    """What an attempt gave: `value` is what `expect` and later steps see, `detail` one line for people."""

    value: JsonValue
    detail: str
    observed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """What a probe found."""

    answer: ProbeAnswer
    detail: str


async def _nothing_holds() -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Context:
    """What an action gets for one call: its connections, its parameters, the time, its key and its time limit in
    seconds.

    `service(name)` answers a connection (see `services`); the loader has checked that the name exists, has the right
    kind and the incident's env.
    """

    service: Callable[[str], Any]
    parameter: Callable[[str], Parameter]
    now: Clock
    timeout: float
    sleep: Callable[[float], Awaitable[None]]
    """Waits so many seconds, in the clock of `now`."""
    key: str = ""
    held: Callable[[], Awaitable[str | None]] = _nothing_holds
    """Answers why nothing may be sent any more."""

    async def clear(self) -> None:
        """The last look, which every action hands to its connection with a change: what waits may come long after its
        intent. Raises HeldBack when automation was paused since."""
        why = await self.held()
        if why is not None:
            raise HeldBack(why)


class Action(Strict):
    """What a step can do: the fields are the step's `with`, the docstring is its reference page.

    Raise `Temporary` (may be tried again), `Permanent` (must not), `Unknown` (may have happened); every other
    exception is classified by `perform`. A timeout of a change is unknown, of a read temporary; do not catch it.
    """

    reads_only: ClassVar[bool] = False
    """True for readers: they have `act` only, and may be checks and evidence."""
    may_read: ClassVar[bool] = False
    """True where its fields decide whether it only reads, which `effect` then tells; without them it changes."""
    lowers_risk: ClassVar[bool] = False
    """True for what only ever lowers risk, so that taking it back raises it and needs a person (design 5.6)."""
    kinds: ClassVar[tuple[str, ...]] = ()
    """The kinds of service that it can use, for the loader's check."""
    grants: ClassVar[tuple[str, ...]] = ()
    """The rights that its user needs on the service, as the server's own statements; `{role}` stands for the user."""
    positions: ClassVar[Mapping[str, str]] = {}
    """Field path (`probe.path`) -> the position of its templates: one of `render.Position`, or `literal` where none may
    stand (who is asked and what is done is never a label's choice); it holds for everything below. Others are json."""

    def services(self, parameters: Mapping[str, Parameter]) -> tuple[str, ...]:
        """The services it uses, for the loader's checks of existence and env."""
        name = getattr(self, "service", None)
        return (name,) if isinstance(name, str) else ()

    @classmethod
    def asks_a_person(cls, with_: Mapping[str, Any]) -> str:
        """Why a use with these parameters, as they are written, is never automation's own decision, whatever the mode:
        the loader refuses it without `approval:`. "" when it may be."""
        return ""

    def effect(self, keyed: bool) -> Effect:
        """What repeating it means. `keyed`: its service honours idempotency keys."""
        return Effect.READ

    async def prepare(self, context: Context) -> Plan:
        """Read the state before, fix absolute targets, preview. Changes nothing."""
        params = self.model_dump(mode="json", by_alias=True)
        return Plan(params=params, preview=self.preview(), effect=Effect.READ, prepared_at=context.now())

    def preview(self) -> str:
        """One line that says what `act` will do, without asking the world."""
        return f"{type(self).__name__} {self.model_dump(mode='json', exclude_defaults=True)}"

    @abstractmethod
    async def act(self, plan: Plan, context: Context) -> Output:
        """Do it, as the plan says, once."""

    async def probe(self, plan: Plan, context: Context) -> Probe:
        """Find out whether an earlier `act` of this plan happened. Changes nothing."""
        return Probe(ProbeAnswer.UNCLEAR, "this action has no probe")

    @property
    def blind(self) -> bool:
        """True where `probe` looks at nothing, so nobody can tell afterwards whether the change is in force."""
        return type(self).probe is Action.probe

    async def undo(self, plan: Plan, context: Context) -> Plan:
        """Prepare the way back: a plan whose `act` restores the state before. Raises Permanent when that is not
        possible,
        or when the present state is not the one that `plan` made (a person's later change is never overwritten)."""
        raise Permanent("this action cannot be undone")

    def pretend(self, now: int) -> tuple[Plan, Output]:
        """What a simulation answers for `prepare` and `act` without asking the world."""
        params = self.model_dump(mode="json", by_alias=True)
        plan = Plan(params=params, preview=self.preview(), effect=self.effect(keyed=False), prepared_at=now)
        return plan, Output(None, f"pretended: {self.preview()}", now)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an incident's story: the sentence about an event of this kind, with its time and its seq."""

    kind: str
    sentence: str
    at: int
    seq: int


@dataclass(frozen=True, slots=True)
class Message:
    """One message, rendered: what a notifier is asked to send.

    `kind` is root, thread, page, resolve or one of RECORDS. `text` is the plain text, always there; `body`
    is what the notifier's `compose` made, None when a template is broken. `key` is the deduplication key. `previous` is
    what the destination answered for the root message of this incident (JSON), if any; for a root and a page, what it
    answered for this very message before.
    """

    id: str
    lane: str
    kind: str
    key: str
    text: str
    body: JsonValue
    incident: Incident
    event: Event | None
    previous: str
    resolves: bool = False
    attempt: int = 1
    lines: tuple[Line, ...] = ()
    """Of a thread: the story lines in this one message, several when many waited."""
    mentions: tuple[str, ...] = ()
    """Whom a chat must catch: ids of Slack users (`U…`) and user groups (`S…`), `here` or `channel`."""
    broadcast: bool = False
    """A reply that the whole channel must see."""
    doubtful: bool = False
    """An earlier try may have arrived (its answer was lost, or the process died): to be looked for before it is
    sent."""
    level: str = ""
    """Of a page and a move: where the pager's incident is to be (`escalation_policy` of the level)."""


@dataclass(frozen=True, slots=True)
class PagerState:
    """What a pager says about its own incident: `triggered`, `acknowledged` or `resolved`, and by whom."""

    status: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A limit, and all that counts against it shares one: `burst` messages at once, then one every `pace` microseconds
    (0: as many as there are). Never a secret: a token stands here as its digest."""

    limit: str
    of: str
    pace: int
    burst: int


RECORDS = frozenset({"acknowledge", "change", "move", "note"})
"""Templates that only some notifiers take: word of an acknowledgement, executed changes, lines for the
pager's incident, and its move to another escalation policy."""


class Notifier(Strict):
    """A configured destination: the fields are its settings in responder.yaml, the docstring its reference page."""

    kind: str
    """What it is; the other keys follow from it."""
    pages: ClassVar[bool] = False
    """True when it can wake a person."""
    chats: ClassVar[bool] = False
    """True when it tells the story: root message and thread."""
    family: ClassVar[str] = ""
    """The folder below templates/ that its messages come from."""
    replays: ClassVar[bool] = False
    """True when it reaches nobody outside, so that replays may be told there (design 5.2)."""
    pace: ClassVar[int] = 0
    """Microseconds between two messages to one channel, 0 for no limit; a root message is updated every three at most.
    """
    burst: ClassVar[int] = 3
    """How many may follow each other at once in a channel that has been quiet."""
    merges: ClassVar[bool] = False
    """True when several lines of a thread that wait may leave as one message (`Message.lines`)."""
    takes: ClassVar[frozenset[str]] = frozenset()
    """Which of RECORDS it sends; the others are passed over."""

    @property
    def answers(self) -> bool:
        """True when `asked` can find something out."""
        return False

    def compose(self, kind: str, values: Mapping[str, object], render: Render) -> JsonValue:
        """The destination's own form of a message of this kind, from its templates; pure. `values` are those of
        `story.state_values`, with `sentence`, `at` and `kind` of the event. Raises TemplateError: then `text` alone
        is sent."""
        return None

    def passes_over(self, template: str, sent: bool) -> bool:
        """True for a message that is not for this notifier: nothing is sent and no turn of the pace is taken.
        `template`: `root`, `page`, `resolve`, one of RECORDS or `story/<kind>`; `sent`: the root message has been sent
        before."""
        return template in RECORDS and template not in self.takes

    def bucket(self, name: str, incident: Incident, template: str, *, sent: bool) -> Bucket:
        """The limit that counts a message of this template; `name` is what this destination is called, `sent`: the
        root message has been sent before. Where the limit belongs to a credential, notifiers that share it share it.
        """
        return Bucket(name, incident.channel or "", self.pace, self.burst)

    async def asked(self, key: str) -> PagerState | None:
        """What the pager says about its incident of this deduplication key; None where it cannot be asked. The caller
        bounds the time. Raises Temporary, Permanent, Unknown."""
        return None

    async def doctor(self) -> Sequence[str]:
        """What is found about it without sending anything, a phrase each. Raises Temporary, Permanent, Unknown."""
        if not self.answers:
            return ("nothing to look at before a message is sent",)
        await self.asked("responder/doctor")
        return ("it answers, and knows us",)

    @abstractmethod
    async def send(self, message: Message) -> str:
        """Deliver; answer what must be remembered (JSON text, may be empty). Raises Temporary, Permanent, Unknown."""

    async def start(self) -> None:
        """Open what is kept open."""

    async def stop(self) -> None:
        """Close it."""


class Destination(Protocol):
    """What delivery needs of a notifier."""

    async def send(self, message: Message) -> str:
        """See Notifier.send."""
        ...


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The three tables of what can be named in YAML: actions, notifiers, kinds of services."""

    actions: Mapping[str, type[Action]]
    notifiers: Mapping[str, type[Notifier]]
    services: Mapping[str, type[Service]]
