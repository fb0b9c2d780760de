"""What is next, at its edges: moments of equality, what is told late, promises, starting again and undoing harm.

Each test notices a small change of `decide` that no other unit test does (`python -m tests.mutation decide`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from responder import facts as f
from responder.calendars import Calendar
from responder.decide import decide, people
from responder.incident import Incident
from responder.recorded import Cause, Effect, Observation, Outcome, Result, StepStatus, Trigger
from responder.rules import Rules
from responder.timing import HOUR, MINUTE, SECOND, format_time
from responder.view import Finish, Gather, Next, View, WaitUntil
from tests.builders import (
    T0,
    a_plan,
    a_runbook,
    a_view,
    cut_step,
    ended,
    fired,
    intended,
    rules_of,
    started,
)
from tests.unit.deciding_parts import fact, over, view

L1 = f.LevelReached(round=0, index=0, name="L1", page=("first",), why="")
L2 = f.LevelReached(round=0, index=1, name="L2", page=("second",), why="")
RESOLVED = f.AlertResolved(fingerprint="a", ends_at=None)


# --- levels -----------------------------------------------------------------------------------------------------------


def test_a_level_that_waits_for_its_hours_holds_up_no_higher_one() -> None:
    first, last = (format_time(T0 + minutes * MINUTE)[11:16] for minutes in (120, 180))
    hours = Calendar.model_validate({"from": first, "to": last, "timezone": "UTC"})
    levels = [
        {"name": "L1", "after": 0, "page": "first", "during": "later"},
        {"name": "L2", "after": "15m", "page": "second"},
    ]
    rules = replace(rules_of(a_runbook(), levels=levels), calendars={"later": hours})
    found = fact(people(view(fired(), at=15 * MINUTE, rules=rules)))
    assert isinstance(found, f.LevelReached)
    assert found.name == "L2"


PAGED = (("first", "k1"), ("other", "k2"))


def second(**changes: Any) -> View:
    """The second level is due, and both pages stand open; `first` can be asked."""
    made = view(fired(), L1, at=15 * MINUTE, **{"paged": PAGED, **changes})
    return replace(made, askable=frozenset({"first"}))


def test_the_pagers_are_asked_before_the_second_level() -> None:
    assert people(second()) == Gather(runbook="cut", rules_hash="h1", level=(0, 1), pages=(("first", "k1"),))
    assert people(second(runbook=None)) == Gather(runbook="", rules_hash="h1", level=(0, 1), pages=(("first", "k1"),))


@pytest.mark.parametrize(
    "changes",
    [{"pagers_asked": ("0:1",)}, {"answered": ("k1",)}, {"paged": ()}, {"hurried": T0}],
    ids=["asked", "answered", "no page", "a person wants it now"],
)
def test_nobody_is_asked_who_can_say_nothing_new(changes: dict[str, Any]) -> None:
    assert isinstance(fact(people(second(**changes))), f.LevelReached)


def test_the_first_level_asks_nobody() -> None:
    made = replace(view(fired(), at=2 * MINUTE, paged=PAGED), askable=frozenset({"first"}))
    found = fact(people(made))
    assert isinstance(found, f.LevelReached)
    assert found.index == 0


@pytest.mark.parametrize(
    ("facts", "at", "why"),
    [
        ((fired(), f.EscalationAsked()), 0, "a person asked for it"),
        ((fired(), L1, f.ProblemFound(problem="bad"), f.UrgentTold(number=1, page=(), why="bad")), 15 * MINUTE, "bad"),
        ((fired(), 2 * MINUTE, f.EscalationAsked()), 2 * MINUTE, "a person asked for it"),
    ],
)
def test_why_a_level_is_told(facts: tuple[f.Fact | int, ...], at: int, why: str) -> None:
    found = fact(people(view(*facts, at=at)))
    assert isinstance(found, f.LevelReached)
    assert found.why == why


def test_why_the_first_level_is_told_at_once() -> None:
    soon = rules_of(a_runbook(), grace=0)
    for facts, at, why in (
        ((fired(),), 0, "it has just begun"),
        ((fired(),), SECOND - 1, "it has just begun"),
        ((fired(),), SECOND, "not fixed 1s after it began"),
        (tuple(f.ProblemFound(problem=p, urgent=False) for p in "abc"), 0, "a"),
    ):
        found = fact(people(view(*facts, at=at, rules=soon)))
        assert isinstance(found, f.LevelReached)
        assert found.why == why


# --- what is urgent, and who has heard of it --------------------------------------------------------------------------


def page(*facts: f.Fact | int, at: int, **changes: Any) -> tuple[str, ...] | None:
    """Whom the urgent word pages; None when it is not told."""
    found = fact(people(view(*facts, at=at, **changes)))
    return found.page if isinstance(found, f.UrgentTold) else None


BAD = f.ProblemFound(problem="bad")


def test_a_page_of_this_very_moment_is_one_page_and_one_from_the_future_is_none() -> None:
    for paged, whom in ((0, ()), (1, ()), (MINUTE - 1, ()), (MINUTE, ("first",)), (-1, ("first",))):
        assert page(fired(), L1, BAD, at=5 * MINUTE, last_paged=T0 + 5 * MINUTE - paged) == whom


def test_one_of_a_storm_pages_for_harm_alone() -> None:
    joined = (fired(), L1, f.StormJoined(storm="s"), BAD)
    assert page(*joined, at=5 * MINUTE) == ()
    assert page(*joined, at=5 * MINUTE, result=Result.HARMFUL) == ("first",)
    assert page(*joined, at=5 * MINUTE, result=Result.FAILED) == ()
    assert page(fired(), L1, f.Acknowledged(), BAD, at=5 * MINUTE, result=Result.FAILED) == ()


# --- acknowledgements, snoozes, repetitions, reminders ----------------------------------------------------------------


def test_an_acknowledgement_runs_out_to_the_very_moment() -> None:
    held = (fired(), L1, f.Acknowledged())
    assert people(view(*held, at=30 * MINUTE - 1)) is None
    expired = f.AcknowledgementExpired(count=1, page=("first",), ended=T0 + 30 * MINUTE)
    assert fact(people(view(*held, at=30 * MINUTE))) == expired
    again = fact(people(view(fired(), L1, L2, f.Acknowledged(), at=30 * MINUTE)))
    assert again == expired.model_copy(update={"page": ("second",)}), "those who were told last"


def test_before_the_first_level_an_acknowledgement_that_runs_out_pages_nobody() -> None:
    found = fact(people(view(fired(), f.Acknowledged(), at=30 * MINUTE)))
    assert found == f.AcknowledgementExpired(count=1, page=(), ended=T0 + 30 * MINUTE)
    told_in_chat = rules_of(a_runbook(), chat_only=["critical"])
    urgent = (fired(), f.Acknowledged(), BAD, f.UrgentTold(number=1, page=(), why="bad"))
    asked = fact(people(view(*urgent, at=30 * MINUTE, rules=told_in_chat)))
    assert asked == f.AcknowledgementExpired(count=1, page=("first",), ended=T0 + 30 * MINUTE)


def test_a_snooze_ends_to_the_very_moment() -> None:
    snoozed = (fired(), L1, f.Snoozed(until=T0 + HOUR))
    assert people(view(*snoozed, at=HOUR - 1)) is None
    assert fact(people(view(*snoozed, at=HOUR))) == f.SnoozeEnded()
    assert people(view(*snoozed, f.Closed(why="over"), at=2 * HOUR)) is None


def test_the_ladder_is_repeated_to_the_very_moment() -> None:
    often = rules_of(a_runbook(), repeat={"every": "1h", "times": 3})
    assert people(view(fired(), L1, L2, at=HOUR - 1, rules=often)) is None
    assert fact(people(view(fired(), L1, L2, at=HOUR, rules=often))) == f.LadderRepeated(number=1)
    twice = fact(people(view(fired(), L1, L2, at=HOUR, rules=often, repeats=1)))
    assert twice == f.LadderRepeated(number=2)


def test_what_was_missed_of_the_reminders_is_told_once() -> None:
    reminded = rules_of(a_runbook(), remind="1h", grace="24h", levels=[])
    done = (fired(), started(), over(Result.OBSERVED))
    before = decide(view(*done, at=HOUR - 1, rules=reminded))
    assert not isinstance(fact(before), f.StillOpen)
    for at, number in ((HOUR, 1), (HOUR + 1, 1), (3 * HOUR, 3)):
        assert fact(decide(view(*done, at=at, rules=reminded))) == f.StillOpen(number=number, lasted=at)


# --- promises ---------------------------------------------------------------------------------------------------------

HALT = a_runbook(runbook="halt", match=(), target="trading", brake=True)
MACHINE = rules_of(a_runbook(unless_fixed={"5m": {"run": "halt", "page": "boss"}}), HALT, levels=[])
PAGE = rules_of(a_runbook(unless_fixed={"5m": {"page": "boss"}}), HALT, levels=[])
BLIND = rules_of(a_runbook(unless_fixed={"5m": {"run": "halt", "page": "boss"}}, verify=None), HALT, levels=[])
TRIED = (fired(), started(), intended(), ended(Outcome.PERMANENT), over(Result.INEFFECTIVE),
         f.UrgentTold(number=1, page=(), why="no"))  # fmt: skip
FIRED = f.MachineFired(round=0, index=0, page=("boss",))


@pytest.mark.parametrize(("after", "late"), [(0, 0), (5 * SECOND, 0), (5 * SECOND + 1, 5 * SECOND + 1)])
def test_a_promise_says_how_late_it_is(after: int, late: int) -> None:
    found = fact(decide(view(*TRIED, at=5 * MINUTE + after, rules=PAGE)))
    assert found == FIRED.model_copy(update={"late": late})


def test_a_promise_that_cannot_be_kept_says_why() -> None:
    idle = (fired(), started(), over(Result.CANCELLED))
    for facts, rules, held in (
        (idle, MACHINE, "no run acted, so halt is for people to decide"),
        (TRIED, BLIND, "there is no check, so halt is for people to decide"),
    ):
        assert fact(decide(view(*facts, at=5 * MINUTE, rules=rules))) == FIRED.model_copy(update={"held": held})


def looked(value: float | None, *, holds: bool = False, age: int = 0) -> f.Fact | None:
    """What the promise becomes after its check was read."""
    asked = T0 + 5 * MINUTE - age
    seen = Observation(check="risk", value=value, observed_at=asked, asked_at=asked, error=None if value else "no data")
    gathered = f.MachineGathered(round=0, index=0, observation=seen, holds=holds)
    return fact(decide(view(*TRIED, gathered, at=5 * MINUTE, rules=MACHINE)))


@pytest.mark.parametrize(
    ("promise", "holds", "page"),
    [
        ({"run": "halt", "page": "boss"}, False, ("boss",)),
        ({"run": "halt"}, False, ("first",)),
        ({"run": "halt"}, True, ()),
    ],
    ids=["the promise's own people", "else the ladder's", "fixed all the same"],
)
def test_after_a_superseded_run_no_promise_starts_and_people_decide(
    promise: dict[str, str], holds: bool, page: tuple[str, ...]
) -> None:
    """Its runbook would go over the change of the incident that came first (docs/adr/0022)."""
    cut_short = f.RunEnded(run=1, result=Result.UNVERIFIED, why="superseded", superseded="i9")
    now = T0 + 5 * MINUTE
    seen = Observation(check="risk", value=0.5 if holds else 2.0, observed_at=now, asked_at=now)
    facts = (fired(), L1, started(), intended(), ended(Outcome.OK), cut_short, f.UrgentTold(number=1, page=(), why="x"),
             5 * MINUTE, f.MachineGathered(round=0, index=0, observation=seen, holds=holds))  # fmt: skip
    rules = rules_of(a_runbook(unless_fixed={"5m": promise}), HALT)
    found = fact(decide(view(*facts, at=5 * MINUTE, rules=rules)))
    assert isinstance(found, f.MachineFired)
    assert (found.runbook, found.good, found.page) == (None, holds, page)
    held = "fixed: value 0.5 < 1" if holds else "incident i9 superseded the run, so halt is for people to decide"
    assert found.held == held


def test_a_promise_is_judged_on_evidence_alone() -> None:
    assert looked(2.0) == FIRED.model_copy(update={"runbook": "halt"})
    assert looked(2.0, age=10 * SECOND) == FIRED.model_copy(update={"runbook": "halt"})
    good = looked(0.5, holds=True)
    assert isinstance(good, f.MachineFired)
    assert (good.held, good.good, good.page, good.runbook) == ("fixed: value 0.5 < 1", True, (), None)
    for found in (looked(None), looked(2.0, age=4 * MINUTE)):
        assert isinstance(found, f.MachineFired)
        assert (found.held or "").startswith("check risk: ")
        assert (found.held or "").endswith("; without evidence halt is for people to decide")
        assert (found.page, found.runbook, found.good) == (("boss",), None, False)


# --- starting ---------------------------------------------------------------------------------------------------------


def begins(made: View) -> f.RunStarted | None:
    """The run that starts."""
    found = fact(decide(made))
    return found if isinstance(found, f.RunStarted) else None


def test_a_scheduled_run_starts_once() -> None:
    made = begins(view(trigger=Trigger.SCHEDULE))
    assert made is not None
    assert made.cause is Cause.SCHEDULE
    assert begins(view(trigger=Trigger.SCHEDULE, result=Result.FIXED)) is None
    assert begins(view(trigger=Trigger.PERSON)) is None
    assert begins(view()) is None, "nothing calls for it"


def relapsed(*facts: f.Fact | int, **changes: Any) -> f.RunStarted | None:
    """What starts when the first run was fixed and did not stay so."""
    fixed = (fired(), started(inputs={"a": "1"}), over(Result.FIXED))
    return begins(view(*fixed, f.Relapsed(why="again"), *facts, **changes))


def test_a_relapse_starts_the_next_run() -> None:
    made = relapsed(inputs={"a": "1", "b": "2"})
    assert made is not None
    assert (made.number, made.cause, made.target) == (2, Cause.RELAPSE, "risk-api/kelly_fraction")
    assert made.inputs == {"a": "1", "b": "2"}, "its own runbook gets every input"
    third = relapsed(started(number=2, cause=Cause.RELAPSE), over(Result.FIXED, 2), f.Relapsed(why="again"))
    assert third is not None
    assert third.number == 3
    again = started(number=2, cause=Cause.RESTORE, restores="i1.1.cut.1")
    assert relapsed(again) is None, "something is put back at this moment"
    assert relapsed(again, over(Result.FIXED, 2)) is not None
    assert begins(view(fired(), started(), over(Result.FAILED))) is None


def test_what_did_harm_is_not_done_again() -> None:
    one, two = started(), started(number=2, cause=Cause.RELAPSE)
    for results in ((Result.HARMFUL, Result.FIXED), (Result.FIXED, Result.HARMFUL)):
        facts = (fired(), one, over(results[0]), two, over(results[1], 2), f.Relapsed(why="again"))
        assert begins(view(*facts, result=None)) is None
    assert relapsed(result=Result.FIXED) is None


def machine(*facts: f.Fact | int, rules: Rules = MACHINE, **changes: Any) -> Next:
    """A promise has come due and names its runbook."""
    return decide(view(fired(), *facts, FIRED.model_copy(update={"runbook": "halt"}), rules=rules, **changes))


def test_a_machine_starts_its_runbook_with_its_own_target_and_inputs() -> None:
    halt = a_runbook(
        runbook="halt",
        match=(),
        target="trading/{{ venue }}",
        brake=True,
        inputs={"venue": {"one_of": ["xnys", "xlon"]}},
    )
    rules = rules_of(a_runbook(unless_fixed={"5m": {"run": "halt"}}), halt, levels=[])
    made = fact(machine(started(), over(Result.CANCELLED), rules=rules, inputs={"venue": "xnys", "other": "1"}))
    assert isinstance(made, f.RunStarted)
    assert (made.cause, made.machine, made.number) == (Cause.UNLESS_FIXED, "0:0", 2)
    assert (made.target, made.inputs) == ("trading/xnys", {"venue": "xnys"})
    bad = fact(machine(started(), over(Result.CANCELLED), rules=rules, inputs={"venue": "x y"}))
    assert isinstance(bad, f.MachineFired)
    assert (bad.held or "").startswith("runbook halt cannot run: ")
    assert "venue" in (bad.held or "")
    assert "\n" not in (bad.held or "")


def test_without_any_rules_a_machine_is_for_people() -> None:
    made = view(fired(), FIRED.model_copy(update={"runbook": "halt"}))
    found = fact(decide(replace(made, rules_of=lambda digest: None)))
    assert isinstance(found, f.MachineFired)
    assert "cannot be read" in (found.held or "")


@pytest.mark.parametrize("changes", [{"closed_at": T0}, {"taken_over": {"actor": "al", "at": T0}}])
def test_a_machine_starts_nothing_in_what_is_over(changes: dict[str, Any]) -> None:
    state = {**view(fired()).incident.model_dump(), **changes}
    incident = Incident.model_validate({**state, "machine": {"0:0": {"fired": True, "starts": "halt"}}})
    assert begins(a_view(incident, MACHINE, T0)) is None


def test_a_machine_takes_over_from_the_run_that_did_not_help() -> None:
    ends = f.RunEnded(run=1, result=Result.INEFFECTIVE, why="not fixed in time: halt takes over")
    assert machine(started()) == Finish(ends)
    assert machine(started(), intended()) == WaitUntil(T0 + MINUTE + 2 * SECOND, "deadline"), "the step in flight ends"
    lost = (started(), intended(plan=a_plan(Effect.UNSAFE)), ended(Outcome.UNKNOWN))
    first = fact(machine(*lost))
    assert isinstance(first, f.StepEnded)
    assert first.status is StepStatus.UNKNOWN
    then = fact(machine(*lost, first, f.UrgentTold(number=1, page=(), why="")))
    assert isinstance(then, f.RunEnded)
    assert then.result is Result.UNKNOWN
    assert then.why.startswith("step cut: ")
    assert then.why.endswith("; not fixed in time: halt takes over")


SEQUENCE = rules_of(
    a_runbook(
        unless_fixed={"5m": {"run": "halt"}}, finish_once_started=True, steps=[cut_step(), cut_step(id="again")]
    ),
    HALT,
    levels=[],
)  # fmt: skip
HALF = (started(steps=("cut", "again")), intended(), ended(Outcome.OK),
        f.StepEnded(run=1, step="cut", status=StepStatus.DONE))  # fmt: skip


def superseded(*facts: f.Fact | int, rules: Rules = SEQUENCE) -> bool:
    """The promise ends the run that is under way."""
    found = fact(machine(*facts, rules=rules))
    return isinstance(found, f.RunEnded) and found.result is Result.INEFFECTIVE


def test_a_sequence_under_way_is_finished_first() -> None:
    asked = f.ApprovalAsked(run=1, step="again", plan="p", preview="", role="operator", until=T0 + HOUR)
    assert not superseded(*HALF)
    assert superseded(started(steps=("cut", "again"))), "not begun"
    assert superseded(*HALF, f.Waiting(run=1, step="again", verdicts=(), until=T0 + HOUR))
    assert superseded(*HALF, f.ManualAsked(run=1, step="again", instruction=""))
    assert superseded(*HALF, asked)
    assert superseded(*HALF, f.Verifying(run=1))
    assert superseded(*HALF, rules=MACHINE), "it need not be finished"
    gone = (started(rules_hash="gone", steps=("cut", "again")), *HALF[1:])
    assert superseded(*gone)
    undo = started(cause=Cause.UNDO, restores="i1.0.cut.1")
    assert not superseded(undo, rules=MACHINE), "the undoing of harm is soon over"
    assert superseded(started(cause=Cause.SCHEDULE), rules=MACHINE)


# --- the order --------------------------------------------------------------------------------------------------------


def test_at_the_end_of_a_run_it_is_watched_and_closed() -> None:
    quiet = rules_of(a_runbook(), levels=[])
    fixed = (fired(), started(), over(Result.FIXED))
    watch = Gather(runbook="cut", rules_hash="h1", checks=("risk",), watch=True)
    assert decide(view(*fixed, at=30 * SECOND, rules=quiet)) == watch
    assert decide(view(*fixed, at=29 * SECOND, rules=quiet)) == WaitUntil(T0 + 30 * SECOND, "watch")
    seen = Observation(check="risk", value=0.5, observed_at=T0, asked_at=T0)
    closed = (*fixed, RESOLVED, f.Watched(observation=seen, holds=True))
    assert fact(decide(view(*closed, rules=quiet))) == f.Closed(why="all alerts resolved, and value < 1 holds")
