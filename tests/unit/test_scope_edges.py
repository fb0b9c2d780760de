"""Scopes and the fuses at their edges: root causes, harm, what lies beneath, moments of equality.

Each test notices a small change that no other unit test does (`python -m tests.mutation scoping scopes fuses cases`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from responder import facts as f
from responder.automation import Automation, AutomationStorm
from responder.cases import ask, only_lowers
from responder.fuses import changes, relapse, success
from responder.recorded import Answer, Cause, Effect, Outcome, Recorded, Result, StepStatus
from responder.scopes import (
    KEPT,
    OPENINGS,
    Draw,
    Draws,
    InForce,
    Lock,
    Openings,
    Opens,
    Results,
    RunCount,
    RunEnd,
    ScopeText,
    asked_of,
    legible,
    opens_name,
    pause_of,
    paused_what,
    recent,
    scheduled_name,
    storm_name,
    told_apart,
    unreadable,
)
from responder.scoping import DRAWS_KEPT, KEPT_BENEATH, ScopeChange, openings_after, opens_after, scopes_after
from responder.timing import DAY, HOUR, MINUTE, format_time
from tests.builders import T0, a_plan, a_runbook, cut_step, ended, fired, intended, opened, rules_of, started, told
from tests.unit.case_parts import case

TARGET = "risk-api/kelly_fraction"
RUNS = f"runs:cut|{TARGET}"
NOTHING: ScopeText = dict[str, str]().get
BEGUN: tuple[f.Fact, ...] = (opened(), fired(), started())
RESTORE = {"approval": "desk", "remind": "4h"}


def after(*facts: f.Fact, step: Mapping[str, Any] | None = None, **known: Recorded) -> list[ScopeChange]:
    """What the last of the facts changes, in a runbook whose step may be put back."""
    runbook = rules_of(a_runbook(steps=[cut_step(**(step or {"restore": RESTORE}))])).runbooks["cut"]
    event = f.Event(id="e", incident="i1", seq=len(facts), at=T0, actor="responder", fact=facts[-1])
    names = {"in_force": f"in_force:{TARGET}", "lock": f"lock:{TARGET}", "runs": RUNS, "budget": f"parameter:{TARGET}"}
    bodies = {names[kind]: body.model_dump_json() for kind, body in known.items()}
    return scopes_after(told(*facts), event, runbook, bodies.get)


def named(found: list[ScopeChange], kind: str) -> ScopeChange:
    """The change of that kind of scope."""
    return next(change for change in found if change.name.startswith(kind))


# --- the incidents of a root cause ------------------------------------------------------------------------------------


def test_a_root_cause_is_open_from_its_opening_to_its_end() -> None:
    before = Opens(incidents=("i9",)).model_dump_json()
    incident = told(opened(), fired())
    assert opens_after(incident, ["cut"], NOTHING) == [ScopeChange("open:cut", Opens(incidents=("i1",)))]
    assert opens_after(incident, ["cut"], {"open:cut": before}.get)[0].body == Opens(incidents=("i9", "i1"))
    again = Opens(incidents=("i1", "i9")).model_dump_json()
    assert opens_after(incident, ["cut"], {"open:cut": again}.get)[0].body == Opens(incidents=("i9", "i1"))
    closed = told(opened(), fired(), f.Closed(why="over"))
    assert opens_after(closed, ["cut"], {"open:cut": again}.get)[0].body == Opens(incidents=("i9",))
    alone = Opens(incidents=("i1",)).model_dump_json()
    assert opens_after(closed, ["cut"], {"open:cut": alone}.get) == [ScopeChange("open:cut", None)]


def test_nobody_yields_to_what_is_no_root_cause_or_not_live() -> None:
    assert opens_after(told(opened(), fired()), ["halt"], NOTHING) == []
    assert opens_after(told(opened(namespace="replay"), fired()), ["cut"], NOTHING) == []
    assert opens_name("cut") == "open:cut"


# --- what stays in force ----------------------------------------------------------------------------------------------


def below(depth: int) -> InForce:
    """So many changes, one beneath the other."""
    body: InForce | None = None
    for number in range(depth):
        parts: dict[str, Any] = {"incident": f"i{number}", "attempt": f"a{number}", "step": "cut", "target": TARGET}
        body = InForce(**parts, preview="", before=0.25, value=0.1, since=T0, beneath=body)
    assert body is not None
    return body


def test_what_lies_too_deep_is_left_to_people() -> None:
    done = f.StepEnded(run=1, step="cut", status=StepStatus.DONE)
    facts = (*BEGUN, intended(), ended(Outcome.OK), done)
    for depth, kept in ((KEPT_BENEATH - 1, KEPT_BENEATH), (KEPT_BENEATH, KEPT_BENEATH)):
        body = named(after(*facts, in_force=below(depth)), "in_force").body
        assert isinstance(body, InForce)
        assert body.depth == kept
    assert [below(n).depth for n in (1, 2, 3)] == [1, 2, 3]
    assert KEPT_BENEATH == 20


def test_people_are_reminded_of_it_for_the_first_time_after_so_long() -> None:
    done = f.StepEnded(run=1, step="cut", status=StepStatus.DONE)
    change = named(after(*BEGUN, intended(), ended(Outcome.OK), done), "in_force")
    assert change.remind is not None
    assert (change.remind.kind, change.remind.round, change.remind.due) == ("remind", 0, T0 + 4 * HOUR)


@pytest.mark.parametrize("result", [Result.HARMFUL, Result.FAILED, Result.FIXED])
def test_only_harm_that_a_person_must_undo_stays_in_force(result: Result) -> None:
    undo = {"undo": {"approval": "desk"}}
    over = f.RunEnded(run=1, result=result, why="")
    facts = (*BEGUN, intended(), ended(Outcome.OK), f.StepEnded(run=1, step="cut", status=StepStatus.DONE), over)
    names = [change.name for change in after(*facts, step=undo)]
    assert (f"in_force:{TARGET}" in names) is (result is Result.HARMFUL)
    assert f"in_force:{TARGET}" not in [change.name for change in after(*facts, step={"undo": {}})]
    read = (*BEGUN, intended(plan=a_plan(Effect.READ)), ended(Outcome.OK), facts[-2], over)
    assert f"in_force:{TARGET}" not in [change.name for change in after(*read, step=undo)]


def test_what_is_put_back_is_in_force_no_longer_and_what_lay_beneath_is() -> None:
    lower = below(1).model_copy(update={"remind": HOUR})
    body = below(2).model_copy(update={"beneath": lower})
    run = started(number=1, cause=Cause.RESTORE, restores=body.attempt)
    over = f.RunEnded(run=1, result=Result.FIXED, why="")
    change = named(after(opened(), fired(), run, over, in_force=body), "in_force")
    assert change.body == lower
    assert change.remind is not None
    assert (change.remind.round, change.remind.due) == (0, T0 + HOUR)
    for result in (Result.INEFFECTIVE, Result.UNVERIFIED):
        remains = f.RunEnded(run=1, result=result, why="the harm remains, or nobody can say")
        assert named(after(opened(), fired(), run, DONE, remains, in_force=body), "in_force").body == lower
        assert after(opened(), fired(), run, remains, in_force=body) == [], "its step was not done"
    other = started(number=1, cause=Cause.RESTORE, restores="another")
    assert after(opened(), fired(), other, over, in_force=body) == []
    assert after(opened(), fired(), run, over) == []


# --- what a run proves ------------------------------------------------------------------------------------------------

PROVES = {
    Result.FIXED: True,
    Result.INEFFECTIVE: False,
    Result.HARMFUL: False,
    Result.FAILED: False,
    Result.UNKNOWN: False,
}


@pytest.mark.parametrize("result", Result)
def test_what_each_result_says_about_the_runbook(result: Result) -> None:
    facts = (*BEGUN, intended(), ended(Outcome.OK), f.RunEnded(run=1, result=result, why=""))
    body = named(after(*facts), "results").body
    assert isinstance(body, Results)
    assert [end.good for end in body.ends] == ([PROVES[result]] if result in PROVES else [])


def test_an_intent_is_one_change_and_the_beginning_of_a_trial() -> None:
    found = after(*BEGUN, intended(services=("risk-api",)))
    assert named(found, "results").body == Results(began=T0)
    for key in ("changes:global", "changes:runbook:cut", "changes:service:risk-api"):
        body = named(found, key).body
        assert isinstance(body, Draws)
        assert [draw.amount for draw in body.draws] == [1.0]


def test_of_very_many_draws_the_oldest_are_forgotten() -> None:
    many = Draws(draws=tuple(Draw(at=T0, amount=1, incident=f"x{n}") for n in range(DRAWS_KEPT)))
    name = f"parameter:{TARGET}"
    body = named(after(*BEGUN, intended(plan=a_plan(draws={name: 0.5})), budget=many), name).body
    assert isinstance(body, Draws)
    assert (len(body.draws), body.draws[0].incident, body.draws[-1].incident) == (2_000, "x1", "i1")


# --- counters and names -----------------------------------------------------------------------------------------------


def test_counters_forget_after_a_week() -> None:
    assert KEPT == 7 * DAY
    assert recent((T0 - KEPT, T0 - KEPT + 1), T0) == (T0 - KEPT + 1,)


def test_rows_are_found_by_names_that_never_change() -> None:
    assert (storm_name("calm"), scheduled_name("cut")) == ("storm:calm", "schedule:cut")
    asked = asked_of("cut", TARGET, ["risk-api"])
    assert {f"lock:{TARGET}", RUNS, "results:cut", "openings:live", "pause:global"} <= asked


def test_of_a_runbook_the_latest_twenty_ends_are_remembered() -> None:
    earlier = Results(ends=tuple(RunEnd(at=T0 + n, good=True) for n in range(25)))
    facts = (*BEGUN, intended(), ended(Outcome.OK), f.RunEnded(run=1, result=Result.FIXED, why=""))
    event = f.Event(id="e", incident="i1", seq=6, at=T0, actor="responder", fact=facts[-1])
    rows = {"results:cut": earlier.model_dump_json()}
    (found,) = [c for c in scopes_after(told(*facts), event, None, rows.get) if c.name == "results:cut"]
    assert isinstance(found.body, Results)
    assert len(found.body.ends) == 20
    assert found.body.ends[:-1] == earlier.ends[6:]


def test_a_relapse_comes_after_what_helped_and_before_the_span_is_over() -> None:
    count = RunCount(fixed=(T0,))
    found = [at for at in (-1, 0, 1, 2, MINUTE - 1, MINUTE) if count.relapsed(T0 + at, MINUTE)]
    assert found == [1, 2, MINUTE - 1]


def test_what_a_pause_is_about() -> None:
    names = ("pause:global", "pause:runbook:cut", "pause:service:a:b")
    assert [paused_what(name) for name in names] == ["automation", "runbook cut", "service a:b"]


def test_a_runbook_only_lowers_when_every_step_of_a_machine_does() -> None:
    manual = {"id": "look", "manual": "Look at the desk"}
    for steps, expected in (
        ([cut_step(brake=True), manual], True),
        ([cut_step(brake=True), cut_step(id="more", brake=False)], False),
        ([manual], False),
    ):
        assert only_lowers(rules_of(a_runbook(steps=steps)).runbooks["cut"]) is expected
    assert ask("calendar", "why").answer is Answer.ASK


# --- the fuses --------------------------------------------------------------------------------------------------------


def test_a_limit_that_is_not_set_hides_no_other() -> None:
    given = case(
        {"changes:service:risk-api": Draws(draws=tuple(Draw(at=T0, amount=1, incident="x") for _ in range(10)))}
    )
    without = replace(given, automation=given.automation.model_copy(update={"changes_per_runbook": None}))
    assert changes(without).answer is Answer.DENY
    reads = replace(given, plan=a_plan(Effect.READ))
    assert changes(reads).reason == "changes nothing"
    back = replace(given, run=given.run.model_copy(update={"cause": Cause.RESTORE}))
    assert changes(back).reason == "takes back a change"
    assert changes(case()).reason.startswith("0 of all runbooks of 30 per 1h; 0 by cut")


def test_what_is_exactly_as_old_as_the_memory_counts_no_more() -> None:
    given = case().automation
    assert given.relapse is not None
    assert given.success is not None
    old, new = T0 - given.relapse.memory, T0 - MINUTE
    body = RunCount(started=(old, new), fixed=(old - 1, new - 1))
    assert relapse(case({RUNS: body})).answer is Answer.DENY
    assert relapse(case({RUNS: RunCount(started=(old,), fixed=(old - 1, T0 - 1))})).answer is Answer.ALLOW
    ends = [RunEnd(at=T0 - given.success.memory, good=False), *(RunEnd(at=T0 - n, good=False) for n in (3, 2, 1))]
    assert success(case({"results:cut": Results(ends=tuple(ends))})).answer is Answer.ALLOW


def test_a_trial_comes_exactly_at_the_end_of_the_rest() -> None:
    given = case().automation.success
    assert given is not None
    ends = tuple(RunEnd(at=T0 - given.rest - n, good=False) for n in (3, 2, 1, 0))
    assert success(case({"results:cut": Results(ends=ends)})).reason.endswith("this run is tried")
    tried = Results(ends=ends, began=T0 - given.rest)
    assert success(case({"results:cut": tried})).answer is Answer.ALLOW
    waits = success(case({"results:cut": Results(ends=tuple(RunEnd(at=T0 - n, good=False) for n in (3, 2, 1, 0)))}))
    assert waits.reason.endswith("Z")
    assert "Z:" not in waits.reason
    assert len(waits.reason.rpartition("until ")[2]) == len("2026-11-20T15:00:00Z")
    proved = (*ends, RunEnd(at=T0, good=True), RunEnd(at=T0, good=False))
    assert success(case({"results:cut": Results(ends=proved)})).reason == "1 of 2 runs of cut helped"


# --- what a run leaves, seen from its end -----------------------------------------------------------------------------

OURS = Lock(incident="i1", run=1, since=T0)
OTHER_RUN = 7
DONE = f.StepEnded(run=1, step="cut", status=StepStatus.DONE)


def test_a_run_that_nobody_remembers_any_more_changes_nothing() -> None:
    """Of an incident's runs only the latest are kept in its state."""
    for late in (
        f.StepEnded(run=OTHER_RUN, step="cut", status=StepStatus.UNKNOWN),
        f.RunEnded(run=OTHER_RUN, result=Result.FIXED, why=""),
        f.Settled(attempt="i1.7.cut.1", applied=True, reason="seen"),
    ):
        assert after(*BEGUN, intended(), late, lock=OURS) == []


def test_of_two_tries_that_both_happened_the_latest_is_in_force() -> None:
    tries = (intended(1, a_plan(before=0.25)), ended(Outcome.OK, 1), intended(2, a_plan(before=0.2)))
    body = named(after(*BEGUN, *tries, ended(Outcome.OK, 2), DONE), "in_force").body
    assert isinstance(body, InForce)
    assert (body.attempt, body.before) == ("i1.1.cut.2", 0.2)


def test_harm_by_two_steps_lies_one_upon_the_other() -> None:
    undo = {"approval": "desk"}
    book = a_runbook(steps=[cut_step(undo=undo), cut_step(id="more", undo=undo)])
    both = [
        x
        for step in ("cut", "more")
        for number in (1, 2)
        for x in (
            intended(number, step=step, attempt=f"i1.1.{step}.{number}"),
            ended(Outcome.OK, number, attempt=f"i1.1.{step}.{number}"),
        )
    ]
    over = f.RunEnded(run=1, result=Result.HARMFUL, why="")
    incident = told(opened(), fired(), started(steps=("cut", "more")), *both, over)
    event = f.Event(id="e", incident="i1", seq=9, at=T0, actor="responder", fact=over)
    found = named(scopes_after(incident, event, rules_of(book).runbooks["cut"], NOTHING), "in_force").body
    assert isinstance(found, InForce)
    assert found.beneath is not None
    assert [found.attempt, found.beneath.attempt, found.depth] == ["i1.1.more.2", "i1.1.cut.2", 2]


@pytest.mark.parametrize(
    ("second", "kept"),
    [([], True), ([ended(Outcome.UNKNOWN, 2)], True), ([ended(Outcome.PERMANENT, 2)], False)],
    ids=["no outcome", "unknown", "known"],
)
def test_one_try_that_nobody_knows_about_keeps_the_target_locked(second: list[f.Fact], kept: bool) -> None:
    tries = (intended(1), ended(Outcome.OK, 1), intended(2), *second)
    unknown = [f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN)] if kept and second else []
    over = f.RunEnded(run=1, result=Result.FAILED, why="")
    left = named(after(*BEGUN, *tries, *unknown, over, lock=OURS), "lock").body
    assert left == (OURS.model_copy(update={"unknown": True}) if kept else None)


def test_a_person_who_says_that_it_was_put_back_ends_what_is_in_force() -> None:
    """The restore's own outcome was lost; its step must not be taken for a change that needs to be put back."""
    body = below(2)
    run = started(cause=Cause.RESTORE, restores=body.attempt)
    lost = (intended(), ended(Outcome.UNKNOWN), f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN))
    over = f.RunEnded(run=1, result=Result.UNKNOWN, why="")
    for applied in (True, False):
        said = f.Settled(attempt="i1.1.cut.1", applied=applied, reason="seen")
        found = after(opened(), fired(), run, *lost, over, said, in_force=body)
        assert [change.body for change in found if change.name.startswith("in_force")] == [body.beneath] * applied


# --- rows that cannot be read -----------------------------------------------------------------------------------------


def test_a_pause_that_cannot_be_read_pauses_and_says_the_cure() -> None:
    found = pause_of("{")
    assert found is not None
    assert (found.holds(T0), found.actor, found.until) == (True, "responder", None)
    assert "`resume` mends it" in found.reason
    assert found.at == 0, "nobody knows since when"
    assert pause_of(None) is None
    assert pause_of("") is None


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (f"lock:{TARGET}", "no JSON", True),
        (f"lock:{TARGET}", '{"incident": "i1"}', True),
        (f"lock:{TARGET}", OURS.model_dump_json(), False),
        (f"lock:{TARGET}", "", False),
        ("pause:runbook:cut", "[]", True),
        ("in_force:x", OURS.model_dump_json(), True),
        ("of a later version:x", "no JSON", False),
    ],
)
def test_which_rows_people_are_told_about(name: str, text: str, expected: bool) -> None:
    assert unreadable(name, text) is expected


def test_a_counter_that_cannot_be_read_loses_nobody_s_word() -> None:
    assert legible(Lock, "no JSON") is None
    assert legible(Lock, None) is None
    assert legible(Lock, OURS.model_dump_json()) == OURS


# --- the fuses, once more ---------------------------------------------------------------------------------------------


def test_good_ends_before_the_rest_is_over_forgive_nothing() -> None:
    """They belong to runs that began before it was left out, or were started by a person."""
    given = case().automation.success
    assert given is not None
    bad = tuple(RunEnd(at=T0 - 3 * HOUR + n * 10 * MINUTE, good=False) for n in range(4))
    soon = RunEnd(at=bad[-1].at + given.rest - 1, good=True)
    assert success(case({"results:cut": Results(ends=(*bad, soon))})).reason.startswith("1 of 5 runs of cut helped")
    due = RunEnd(at=bad[-1].at + given.rest, good=True)
    assert success(case({"results:cut": Results(ends=(*bad, due))})).reason == "1 of 1 runs of cut helped"


def test_the_moment_since_when_a_run_is_tried_is_told_to_the_second() -> None:
    given = case().automation.success
    assert given is not None
    ends = tuple(RunEnd(at=T0 - given.rest - n, good=False) for n in (3, 2, 1, 0))
    tried = success(case({"results:cut": Results(ends=ends, began=T0)}))
    assert tried.reason.endswith(f"one run is being tried since {format_time(T0)[:-1].partition('.')[0]}Z")


@pytest.mark.parametrize("key", ["changes", "changes_per_service", "changes_per_runbook"])
def test_a_limit_of_changes_looks_back_no_longer_than_changes_are_remembered(key: str) -> None:
    """A window of two days would count half of it, and let twice as much pass."""
    with pytest.raises(ValidationError) as refused:
        Automation.model_validate({key: "30 per 25h"})
    (error,) = refused.value.errors()
    assert (error["loc"], error["msg"]) == ((key,), "changes are remembered for a day")
    assert error["ctx"]["hint"] == "write a window of at most 24h, as in 30 per 1h"
    day = getattr(Automation.model_validate({key: "30 per 24h"}), key)
    assert (day.count, day.window) == (30, DAY)
    assert getattr(Automation.model_validate({key: None}), key) is None


# --- envs -------------------------------------------------------------------------------------------------------------


def test_eight_envs_are_told_apart_and_a_ninth_is_counted_with_what_is_of_none() -> None:
    eight = {f"e{number}": Opens() for number in range(8)}
    seven = {name: body for name, body in eight.items() if name != "e7"}
    assert told_apart("new", eight, lambda _: True) == ("", eight)
    assert told_apart("new", seven, lambda _: True) == ("new", seven)
    assert told_apart("e7", eight, lambda _: True) == ("e7", eight), "who has a place keeps it"
    assert told_apart("new", eight, lambda body: body is not eight["e0"])[0] == "new", "one of them counts no longer"


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (Openings(latest=(T0 - HOUR, T0 - 1)), True),
        (Openings(latest=(T0 - MINUTE + 1,)), True),
        (Openings(latest=(T0 - MINUTE,)), False),
        (Openings(until=T0 + 1), True),
        (Openings(until=T0), False),
        (Openings(), False),
    ],
)
def test_an_env_is_told_apart_as_long_as_it_counts(body: Openings, kept: bool) -> None:
    """One of its incidents began lately, or its storm goes on."""
    rule = AutomationStorm.model_validate({"incidents": 3, "within": "1m", "calm": "1m"})
    known = {OPENINGS: Openings(envs={"staging": body}).model_dump_json()}
    (change,) = openings_after(told(opened(labels={"env": "prod"})), rule, known.get)
    assert isinstance(change.body, Openings)
    assert ("staging" in change.body.envs) is kept
    assert change.body.envs["prod"].latest == (T0,)
