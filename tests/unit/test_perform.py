"""Any ending of an attempt becomes an outcome; nothing is said that a person should not read."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from responder.contracts import Action, Context, Output, Probe
from responder.errors import BadConfig, Permanent, Temporary, Unknown
from responder.messages import TemplateError
from responder.perform import DETAIL_CHARACTERS, Ended, Performer, bounded, classify, one_line, rendered
from responder.recorded import Effect, Outcome, Plan, ProbeAnswer
from responder.runbook import Check, Evidence, Runbook, Step
from responder.timing import SECOND

NOW = 1_700_000_000 * SECOND
RUNBOOK = Runbook(runbook="a-runbook", title="t", target="t")


def _invalid() -> ValidationError:
    try:
        Echo.model_validate({"text": ["hunter2hunter2"]})
    except ValidationError as error:
        return error
    raise AssertionError


# ----------------------------------------------------------------------------------------------------------- classify


@pytest.mark.parametrize(
    ("error", "question", "change"),
    [
        (Temporary("busy"), Outcome.TEMPORARY, Outcome.TEMPORARY),
        (Permanent("no"), Outcome.PERMANENT, Outcome.PERMANENT),
        (Unknown("lost"), Outcome.PERMANENT, Outcome.UNKNOWN),
        (BadConfig("no secret"), Outcome.PERMANENT, Outcome.PERMANENT),
        (TemplateError("undefined", "declare it"), Outcome.PERMANENT, Outcome.PERMANENT),
        (TimeoutError(), Outcome.TEMPORARY, Outcome.UNKNOWN),
        (ConnectionResetError("x"), Outcome.TEMPORARY, Outcome.UNKNOWN),
        (KeyError("hunter2hunter2"), Outcome.TEMPORARY, Outcome.UNKNOWN),
        (ExceptionGroup("several", [ValueError("hunter2hunter2")]), Outcome.TEMPORARY, Outcome.UNKNOWN),
    ],
)
def test_the_table_of_exceptions(error: Exception, question: Outcome, change: Outcome) -> None:
    assert classify(error, reads=True).outcome is question
    ended = classify(error, reads=False)
    assert ended.outcome is change
    assert "hunter2" not in ended.detail


def test_a_validation_error_of_a_change_is_not_taken_for_nothing_done() -> None:
    assert classify(_invalid(), reads=False).outcome is Outcome.UNKNOWN
    asked = classify(_invalid(), reads=True)
    assert asked.outcome is Outcome.PERMANENT
    assert "text" in asked.detail
    assert "hunter2" not in asked.detail


def test_the_wait_that_a_server_asked_for_is_kept() -> None:
    assert classify(Temporary("busy", 2.5), reads=False).retry_after_us == 2_500_000
    assert classify(Temporary("busy"), reads=False).retry_after_us is None


def test_the_unexpected_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        classify(KeyError("hunter2hunter2"), reads=True)
    assert "unexpected KeyError" in caplog.text
    assert "hunter2" not in caplog.text


@given(st.text(max_size=2000))
def test_a_detail_is_one_bounded_line(text: str) -> None:
    line = one_line(text)
    assert len(line) <= DETAIL_CHARACTERS
    assert line.isprintable() or not any(c in line for c in "\n\r\x00\u2028\ud800")
    line.encode()


def test_a_detail_shows_no_credentials() -> None:
    line = one_line("Authorization: Bearer abcdefghijklmnopqrst at http://user:hunter2hunter2@host/x")
    assert line == "Authorization: (hidden) at http://(hidden)@host/x"


# ------------------------------------------------------------------------------------------------------------ bounded

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=30,
)


@given(json_values)
def test_what_fits_is_kept_as_it_is(value: JsonValue) -> None:
    clean = json.loads(json.dumps(value).encode("utf-8", "replace"))
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert bounded(clean, 10_000) == clean


@given(json_values, st.integers(0, 60))
def test_what_does_not_fit_is_cut_near_the_limit_and_can_be_stored(value: JsonValue, limit: int) -> None:
    kept = json.dumps(bounded(value, limit), ensure_ascii=False)
    kept.encode()
    longest_number = max((len(str(n)) for n in _numbers(value)), default=0)
    assert len(kept) <= 8 * limit + longest_number + 64


def _numbers(value: JsonValue) -> list[int | float]:
    if isinstance(value, list | dict):
        items = value.values() if isinstance(value, dict) else value
        return [number for item in items for number in _numbers(item)]
    return [value] if isinstance(value, int | float) else []


def test_what_comes_first_is_kept_and_the_rest_is_absent() -> None:
    cut = {"status": 200, "body": "x" * 29 + "… (cut off)"}
    assert bounded({"status": 200, "body": "x" * 100, "more": 1}, 50) == cut


# ---------------------------------------------------------------------------------------------------------- rendering


class Inner(Action):
    """What stands below a field."""

    path: str
    expect: str

    async def act(self, plan: Plan, context: Context) -> Output:
        raise AssertionError


class Echo(Action):
    """Answers what it was given, or raises what it is told to."""

    positions: ClassVar[Mapping[str, str]] = {
        "text": "text", "service": "literal", "inner.path": "path", "inner.expect": "literal",
    }  # fmt: skip
    text: str = ""
    number: float = 0
    service: str = ""
    inner: Inner | None = None

    async def act(self, plan: Plan, context: Context) -> Output:
        return Output(
            {"text": self.text, "number": self.number, "key": context.key}, f"echo\n{self.text}", NOW - SECOND
        )


Work = Callable[[Context], Awaitable[Output]]


class Change(Action):
    """Does what the test says, and may have changed something."""

    work: ClassVar[Work]

    def effect(self, keyed: bool) -> Effect:
        return Effect.UNSAFE

    async def prepare(self, context: Context) -> Plan:
        await type(self).work(context)
        return Plan(params={}, preview="change", effect=Effect.UNSAFE, prepared_at=context.now())

    async def act(self, plan: Plan, context: Context) -> Output:
        return await type(self).work(context)

    async def probe(self, plan: Plan, context: Context) -> Probe:
        await type(self).work(context)
        return Probe(ProbeAnswer.APPLIED, "it\nwas")

    async def undo(self, plan: Plan, context: Context) -> Plan:
        await type(self).work(context)
        return plan


def test_each_string_is_rendered_as_its_position_demands() -> None:
    with_: dict[str, JsonValue] = {
        "text": "a {{ symbol }}", "number": "{{ level }}", "inner": {"path": "/x/{{ symbol }}", "expect": "a > 1"},
    }  # fmt: skip
    assert rendered(Echo, with_, {"symbol": "b/c", "level": 1.5}) == {
        "text": "a b/c", "number": 1.5, "inner": {"path": "/x/b%2Fc", "expect": "a > 1"},
    }  # fmt: skip


@pytest.mark.parametrize("with_", [{"service": "{{ symbol }}"}, {"inner": {"path": "/", "expect": "{{ symbol }} > 1"}}])
def test_an_alert_chooses_no_service_and_writes_no_condition(with_: dict[str, JsonValue]) -> None:
    with pytest.raises(Permanent, match="an alert must not choose it"):
        rendered(Echo, with_, {"symbol": "x"})


# ---------------------------------------------------------------------------------------------------------- performer


async def _no_wait(_seconds: float) -> None:
    """Virtual time."""


def performer(work: Work | None = None) -> Performer:
    if work is not None:
        Change.work = staticmethod(work)
    return Performer({"echo": Echo, "change": Change}, _no_service, {}, lambda: NOW, _no_wait)


def _no_service(name: str) -> object:
    raise Permanent(f"no service {name}")


def raising(error: Exception) -> Work:
    async def work(_context: Context) -> Output:
        raise error

    return work


async def for_ever(_context: Context) -> Output:
    await asyncio.Event().wait()
    raise AssertionError


PLAN = Plan(params={}, preview="change", effect=Effect.UNSAFE, prepared_at=NOW)


def step(action: str, **with_: JsonValue) -> Step:
    return Step.model_validate({"id": "it", "action": action, "with": with_})


async def test_an_attempt_gives_its_output_and_its_time() -> None:
    plan = await performer().prepare(
        RUNBOOK, step("echo", text="{{ symbol }}", number="{{ n }}"), {"symbol": "s", "n": 2}
    )
    assert plan.params == {"text": "s", "number": 2.0, "service": "", "inner": None}
    ended = await performer().act("echo", plan, "key-1", SECOND)
    output: dict[str, JsonValue] = {"text": "s", "number": 2.0, "key": "key-1"}
    assert ended == Ended(Outcome.OK, "echo s", output, observed_at=NOW - SECOND)


async def test_a_preview_begins_with_the_title_of_its_step() -> None:
    echo = step("echo", text="s")
    bare = (await performer().prepare(RUNBOOK, echo, {})).preview
    named = echo.model_copy(update={"title": "Cut the Kelly fraction\nto its emergency level"})
    plan = await performer().prepare(RUNBOOK, named, {})
    assert plan.preview == f"Cut the Kelly fraction to its emergency level: {bare}"
    long = echo.model_copy(update={"title": "x" * 200})
    assert (await performer().prepare(RUNBOOK, long, {})).preview == f"{'x' * 79}…: {bare}"


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (step("echo", number="{{ symbol }}"), r"a-runbook.it: echo: number: .*correct the step's `with`"),
        (step("echo", text="{{ nowhere }}"), r"nowhere is not defined"),
        (step("echo", unheard_of=1), "unheard_of"),
        (step("gone"), r"there is no action 'gone' \(any more\): there are change, echo"),
    ],
)
async def test_parameters_that_do_not_fit_are_refused_before_anything_is_done(action: Step, said: str) -> None:
    with pytest.raises(Permanent, match=said) as caught:
        await performer().prepare(RUNBOOK, action, {"symbol": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Temporary("x", 3), Temporary),
        (TimeoutError(), Temporary),
        (KeyError("x"), Temporary),
        (Unknown("x"), Permanent),
    ],
)
async def test_preparing_and_undoing_raise_one_of_two(error: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        await performer(raising(error)).prepare(RUNBOOK, step("change"), {})
    with pytest.raises(kind):
        await performer(raising(error)).undo("change", PLAN, SECOND)


async def test_a_change_out_of_time_is_unknown_and_a_probe_out_of_time_unclear() -> None:
    assert (await performer(for_ever).act("change", PLAN, "k", 1)).outcome is Outcome.UNKNOWN
    assert (await performer(for_ever).probe("change", PLAN, 1)).answer is ProbeAnswer.UNCLEAR
    with pytest.raises(Temporary, match="raise the step's `timeout`"):
        await performer(for_ever).undo("change", PLAN, 1)


async def test_cancelling_an_attempt_gives_no_outcome() -> None:
    task = asyncio.create_task(performer(for_ever).act("change", PLAN, "k", 60 * SECOND))
    await asyncio.sleep(0)  # noqa: TID251  (gives way; no time passes)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_plan_of_an_action_that_is_gone_was_never_sent() -> None:
    assert (await performer().act("gone", PLAN, "k", SECOND)).outcome is Outcome.PERMANENT
    stale = PLAN.model_copy(update={"params": {"was_a_field_once": 1}})
    assert (await performer().act("change", stale, "k", SECOND)).outcome is Outcome.PERMANENT


async def test_nothing_to_do_is_ok_without_acting() -> None:
    done = PLAN.model_copy(update={"nothing_to_do": "already so", "before": 3})
    assert await performer(for_ever).act("change", done, "k", SECOND) == Ended(
        Outcome.OK, "already so", 3, observed_at=NOW
    )


async def test_a_probe_answers_on_one_line() -> None:
    async def fine(_context: Context) -> Output:
        return Output(None, "")

    assert await performer(fine).probe("change", PLAN, SECOND) == Probe(ProbeAnswer.APPLIED, "it was")


async def test_a_check_has_a_value_with_the_time_of_its_sample() -> None:
    check = Check.model_validate({"action": "echo", "with": {"text": "{{ symbol }}"}})
    seen = await performer().observe("var", check, {"symbol": "s"})
    assert (seen.value, seen.observed_at, seen.asked_at, seen.error) == (
        {"text": "s", "number": 0.0, "key": ""}, NOW - SECOND, NOW, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ({"action": "change"}, "a check or evidence only reads"),
        ({"action": "gone"}, "there is no action 'gone'"),
        ({"action": "echo", "with": {"text": "{{ nowhere }}"}}, "nowhere is not defined"),
    ],
)
async def test_a_check_that_cannot_be_read_is_missing_and_says_why(check: dict[str, JsonValue], said: str) -> None:
    seen = await performer(for_ever).observe("var", Check.model_validate(check), {})
    assert seen.missing
    assert said in (seen.error or "")


async def test_evidence_is_read_for_each_value_and_one_that_fails_spoils_nothing() -> None:
    item = Evidence.model_validate({"action": "echo", "with": {"text": "{{ symbol }}"}, "title": "Of {{ symbol }}"})
    found = await performer().evidence(item, [{"symbol": "a"}, {}, {"symbol": "b"}])
    assert [(i.title, i.error is None) for i in found] == [("Of a", True), ("Of {{ symbol }}", False), ("Of b", True)]


async def test_evidence_is_read_a_few_at_a_time() -> None:
    running, most = 0, 0

    class Slow(Action):
        """Counts how many run at once."""

        async def act(self, plan: Plan, context: Context) -> Output:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)  # noqa: TID251  (gives way; no time passes)
            running -= 1
            return Output(math.pi, "")

    doing = Performer({"slow": Slow}, _no_service, {}, lambda: NOW, _no_wait, readings=3)
    found = await doing.evidence(Evidence(action="slow"), [{} for _ in range(20)])
    assert (len(found), most) == (20, 3)
