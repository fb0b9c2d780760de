"""The action `command.run`: an executable of one configured folder, with its arguments and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, JsonValue, field_validator, model_validator

from responder.command_processes import CommandCall, Ran
from responder.contracts import Action, Context, Output, Probe, Strict
from responder.errors import Permanent, Temporary, Unknown
from responder.recorded import Effect, Plan, ProbeAnswer

_SHOWN = 160  # characters of what a program said


def _value(text: str) -> str:
    """A value must not turn into an option: it is the label's text, not the runbook's."""
    if text.startswith("-"):
        raise ValueError("a value does not begin with `-`: an option is written out in `args`")
    if not text or not text.isprintable():
        raise ValueError("a value is text that can be printed, on one line, and not empty")
    return text


Executable = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Literal = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00]+$")]
Value = Annotated[str, Field(max_length=256), AfterValidator(_value)]
ExitCode = Annotated[int, Field(ge=0, le=255)]
ExitCodes = Annotated[tuple[ExitCode, ...], Field(max_length=32)]


class CommandProbe(Strict):
    """An executable of the same folder that only reads, and tells by its exit code whether the change happened."""

    command: Executable
    """Its file name."""
    args: Annotated[tuple[Literal, ...], Field(max_length=32)] = ()
    """Its arguments, written out."""
    values: Annotated[tuple[Value, ...], Field(max_length=32)] = ()
    """What follows them; placeholders may stand here."""
    applied: ExitCodes = (0,)
    """Exit codes that say that it happened."""
    not_applied: ExitCodes = (1,)
    """Exit codes that say that it did not. Any other tells nothing."""


class CommandRun(Action):
    """Run an executable of a configured folder.

    - `service`: a service of kind `command`, which names the folder.
    - `command`: the file's name in it.
    - `args`: the arguments, written out, such as `[--feed, backup]`.
    - `values`: further arguments after them, in which placeholders may stand. None begins with `-`.
    - `reads`: it only reads, and so may be a check or evidence. Default false.
    - `repeatable`: running it again does the same as once. Default false.
    - `ok`: exit codes that count as done. Default 0.
    - `temporary`: exit codes that say "nothing was done, try later". Default 75.
    - `permanent`: exit codes that say "refused, nothing was done". Default 64, 77 and 78.
    - `probe`: `{command, args, values, applied, not_applied}`, which tells whether a change happened.

    There is no shell: an argument reaches the program as it is. It runs in a session of its own, in its folder, without
    input, with an environment that holds what the service names, and with RESPONDER_KEY, the key of the attempt. When
    its time is up its whole group is killed, and the outcome is unknown; so it is after any other exit code. What it
    leaves running when it ends is killed a second later where it still holds the program's output, and the outcome of a
    change is then unknown: have the program wait for what it starts. A service that it starts for good has its output
    elsewhere (`>log 2>&1 &`), and goes on.

    Effect class: `read` with `reads: true`, `probed` with a `probe`, `set` with `repeatable: true`, else `unsafe`. With
    a probe the state is read first; when it has happened already, nothing is done.

    A file or folder that others may write is refused, and so is a link that leads out of the folder.

    Needs of its folder: that only root or the responder's user may write it, and that the responder may execute the
    file. It runs as the responder's own user; what it does with more than that user's rights is its own affair (sudo).

    `expect` sees `value.exit` and `value.output`: the JSON that it printed, else its text.

    ```yaml
    - id: switch_feed
      action: command.run
      with:
        service: scripts
        command: switch_data_feed.sh
        args: [--feed, backup]
        probe: {command: verify_data_feed.sh}
      timeout: 20s
    ```
    """

    kinds: ClassVar[tuple[str, ...]] = ("command",)
    may_read: ClassVar[bool] = True
    positions: ClassVar[Mapping[str, str]] = {
        "service": "literal", "command": "literal", "args": "literal", "reads": "literal", "repeatable": "literal",
        "ok": "literal", "temporary": "literal", "permanent": "literal", "probe.command": "literal",
        "probe.args": "literal", "probe.applied": "literal", "probe.not_applied": "literal",
    }  # fmt: skip

    service: str
    command: Executable
    args: Annotated[tuple[Literal, ...], Field(max_length=32)] = ()
    values: Annotated[tuple[Value, ...], Field(max_length=32)] = ()
    reads: bool = False
    repeatable: bool = False
    ok: ExitCodes = (0,)
    temporary: ExitCodes = (75,)
    permanent: ExitCodes = (64, 77, 78)
    probe_: CommandProbe | None = Field(default=None, alias="probe")

    @field_validator("ok")
    @classmethod
    def _some(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value:
            raise ValueError("no exit code would count as done: write at least one, such as [0]")
        return value

    @model_validator(mode="after")
    def _fits(self) -> CommandRun:
        if self.reads and (self.probe_ is not None or self.repeatable):
            raise ValueError("what only reads has neither `probe` nor `repeatable`: leave them out")
        codes = [*self.ok, *self.temporary, *self.permanent]
        if len(set(codes)) != len(codes):
            raise ValueError("an exit code stands in two of `ok`, `temporary` and `permanent`: it can mean one thing")
        return self

    def effect(self, keyed: bool) -> Effect:
        """See Action.effect."""
        if self.reads:
            return Effect.READ
        if self.probe_ is not None:
            return Effect.PROBED
        return Effect.SET if self.repeatable else Effect.UNSAFE

    def preview(self) -> str:
        """See Action.preview."""
        return f"{' '.join((self.command, *self.args, *self.values))} of {self.service}"

    async def prepare(self, context: Context) -> Plan:
        """With a probe, find out whether there is anything to do."""
        params: dict[str, JsonValue] = self.model_dump(mode="json", by_alias=True)
        effect = self.effect(keyed=False)
        plan = Plan(params=params, preview=self.preview(), effect=effect, prepared_at=context.now())
        if self.probe_ is None:
            return plan
        # What the probe says may hold numbers that move; a yes is for the change.
        plan = plan.model_copy(update={"parts": (self.preview(),)})
        try:
            found = await self._probed(self.probe_, context, context.timeout / 2)
        except (Temporary, Permanent, TimeoutError):
            # A halt must not depend on a script that only looks; recovery will run it again, or a person.
            return plan
        if found.answer is ProbeAnswer.APPLIED:
            return plan.model_copy(update={"nothing_to_do": f"already so: {found.detail}"})
        return plan.model_copy(update={"before": found.detail})

    async def act(self, plan: Plan, context: Context) -> Output:
        """Run it once. Raises Temporary, Permanent, Unknown by its exit code."""
        asked = context.now()
        call = CommandCall(self.command, (*self.args, *self.values), context.key, self.reads)
        ran: Ran = await context.service(self.service).run(call, context.timeout, context.clear)
        said = f"{self.command} ended with {_exit(ran.exit)}{_excerpt(ran)}"
        if ran.left:
            said = f"{said}; what it had left running was killed"
            if not self.reads:
                cure = "have it wait for what it starts, or start that with its output elsewhere"
                raise Unknown(f"{said}, so the change may have happened or not: {cure}")
        if ran.exit in self.ok:
            return Output({"exit": ran.exit, "output": _printed(ran)}, said, asked)
        if ran.exit in self.temporary:
            raise Temporary(f"{said}; nothing was done")
        if ran.exit in self.permanent:
            raise Permanent(f"{said}; nothing was done")
        if self.reads:
            raise Temporary(f"{said}: add the code to `ok` if it is an answer")
        raise Unknown(f"{said}; the change may have happened")

    @property
    def blind(self) -> bool:
        """See Action.blind."""
        return self.probe_ is None

    async def probe(self, plan: Plan, context: Context) -> Probe:
        """Run the declared probe. What is repeatable counts as not applied: running it again does the same."""
        if self.probe_ is not None:
            return await self._probed(self.probe_, context, context.timeout)
        if self.repeatable or self.reads:
            return Probe(ProbeAnswer.NOT_APPLIED, "no probe is declared; running it again does the same")
        return Probe(ProbeAnswer.UNCLEAR, "no probe is declared: add `probe` to the step, so that it can be found out")

    async def _probed(self, probe: CommandProbe, context: Context, timeout: float) -> Probe:
        call = CommandCall(probe.command, (*probe.args, *probe.values), reads=True)
        ran: Ran = await context.service(self.service).run(call, timeout)
        answers = [(probe.applied, ProbeAnswer.APPLIED), (probe.not_applied, ProbeAnswer.NOT_APPLIED)]
        answer = next((answer for codes, answer in answers if ran.exit in codes), ProbeAnswer.UNCLEAR)
        return Probe(answer, f"{probe.command} ended with {_exit(ran.exit)}{_excerpt(ran)}")


def _exit(code: int) -> str:
    return f"signal {-code}" if code < 0 else str(code)


def _printed(ran: Ran) -> JsonValue:
    """JSON where it is one and whole, else the text."""
    if not ran.cut and ran.output[:1] in {"{", "["}:
        try:
            value: Any = json.loads(ran.output)
        except (ValueError, RecursionError):
            return ran.output
        return value if isinstance(value, dict | list) else ran.output
    return ran.output.strip()


def _excerpt(ran: Ran) -> str:
    line = " ".join((ran.errors.strip() or ran.output.strip()).split())
    return f" ({line if len(line) <= _SHOWN else line[: _SHOWN - 1] + '…'})" if line else ""
