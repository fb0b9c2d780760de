"""Who is told when, at its edges: whose ladder it is, hours, repetition, what arms a machine, and the timer rows.

Each test notices small changes of `escalation` that no other unit test does (`python -m tests.mutation escalation`).
"""

from __future__ import annotations

from typing import Any

import pytest

from responder import facts as f
from responder.calendars import Calendar
from responder.escalation import (
    acknowledgement_ends,
    agenda,
    armed,
    climbs,
    last_reached,
    levels,
    owned,
    promises,
    reminder,
    repetition,
)
from responder.incident import Due, Incident, MachineTimer
from responder.policies import Policy
from responder.recorded import Cause, Mode, Outcome, Result, StepStatus, Trigger
from responder.timing import HOUR, MINUTE, format_time
from tests.builders import T0, a_policy, a_runbook, ended, fired, intended, opened, rules_of, started, told

THREE: list[dict[str, Any]] = [
    {"name": "L1", "after": 0, "page": ["first", "other"]},
    {"name": "L2", "after": "15m", "page": "second"},
    {"name": "L3", "after": "30m"},
]
"""The third is told in the chat alone."""


def policy(**parts: Any) -> Policy:
    """A ladder of three levels."""
    return Policy.model_validate(a_policy(**{"levels": THREE, **parts}))


def incident(*facts: f.Fact | int, **changes: Any) -> Incident:
    """An alert fires; then these facts, and other state where a test says so."""
    return told(opened(), fired(), *facts).model_copy(update=changes)


def reached(*indexes: int, every: int = 0) -> list[f.Fact | int]:
    """These levels are told, one after the other."""
    told_levels: list[f.Fact | int] = []
    for index in indexes:
        told_levels += [every, f.LevelReached(round=0, index=index, name=f"L{index + 1}", page=("x",), why="")]
    return told_levels


def due(state: Incident, by: Policy | None = None, hours: dict[str, Calendar] | None = None) -> list[tuple[int, int]]:
    """Of the levels still to come: which, and how long after T0."""
    return [(entry.index, entry.due - T0) for entry in levels(state, by or policy(), hours or {})]


# --- whose ladder it is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", [Trigger.SCHEDULE, Trigger.PERSON])
def test_what_nobody_was_called_by_calls_nobody_until_something_goes_wrong(trigger: Trigger) -> None:
    assert not climbs(incident(trigger=trigger), policy())
    assert climbs(incident(trigger=trigger, urgent="bad"), policy())
    assert climbs(incident(), policy())


def test_a_storm_and_what_the_chat_alone_is_told_climb_nothing() -> None:
    assert not climbs(incident(storm="i9"), policy())
    assert not climbs(incident(), policy(chat_only=["critical"]))
    assert climbs(incident(), policy(chat_only=["info"]))


def test_the_pager_climbs_once_it_has_accepted_a_page_of_the_first_level() -> None:
    theirs = policy(owner="pagerduty")
    assert not owned(incident(), theirs)
    assert owned(incident(reached=("first",)), theirs)
    assert owned(incident(reached=("first", "other")), theirs)
    assert not owned(incident(reached=("second",)), theirs), "a page of another level"
    assert not owned(incident(reached=("first",)), policy()), "this ladder is ours"
    assert not owned(incident(reached=("first",)), Policy())
    assert [index for index, _ in due(incident(), theirs)] == [0, 1, 2]
    assert [index for index, _ in due(incident(reached=("other",)), theirs)] == [0]


# --- when -------------------------------------------------------------------------------------------------------------


def test_the_level_that_a_person_asks_for_is_the_next_one_and_comes_at_once() -> None:
    asked = incident(MINUTE, f.EscalationAsked())
    assert due(asked) == [(0, MINUTE), (1, 15 * MINUTE), (2, 30 * MINUTE)]
    after = incident(*reached(0), MINUTE, f.EscalationAsked())
    assert due(after) == [(1, MINUTE), (2, 30 * MINUTE)]
    assert [entry.level.name for entry in levels(after, policy(), {})] == ["L2", "L3"]
    held = incident(f.Acknowledged(), MINUTE, f.EscalationAsked())
    assert due(held) == [(0, MINUTE)], "whoever has the incident"
    assert due(incident(*reached(0, 1, 2), f.EscalationAsked())) == []
    assert due(incident(f.EscalationAsked(), f.Closed(why=""))) == []


def test_a_repeated_ladder_begins_without_the_grace() -> None:
    assert due(incident()) == [(0, 2 * MINUTE), (1, 15 * MINUTE), (2, 30 * MINUTE)]
    assert due(incident(f.LadderRepeated(number=1))) == [(0, 0), (1, 15 * MINUTE), (2, 30 * MINUTE)]


def during(hours: Calendar | None, name: str = "desk") -> int:
    """When the first level is told that has these hours."""
    timed = policy(levels=[{"name": "L1", "after": 0, "page": "first", "during": name}])
    ((_, at),) = due(incident(), timed, {} if hours is None else {"desk": hours})
    return at


def test_a_level_waits_for_its_hours_and_what_is_not_known_silences_nobody() -> None:
    begin, end, late = (format_time(T0 + minutes * MINUTE)[11:16] for minutes in (60, 180, 240))
    later = Calendar.model_validate({"from": begin, "to": end, "timezone": "UTC"})
    now = Calendar.model_validate({"from": format_time(T0)[11:16], "to": late, "timezone": "UTC"})
    never = Calendar.model_validate({"dates": "2099-01-01", "timezone": "UTC"})
    assert during(later) == 60 * MINUTE
    assert during(now) == 2 * MINUTE
    assert during(never) == 2 * MINUTE, "hours that do not come"
    assert during(None) == 2 * MINUTE, "a calendar that is not there"


# --- repetition, reminders, acknowledgements --------------------------------------------------------------------------

REPEATS = policy(repeat={"times": 2, "every": "10m"})


def repeated(*facts: f.Fact | int, by: Policy = REPEATS, **changes: Any) -> int | None:
    """How long after T0 the ladder begins again."""
    at = repetition(incident(*facts, **changes), by)
    return None if at is None else at - T0


def test_the_ladder_begins_again_so_long_after_the_last_that_was_told() -> None:
    every = reached(0, 1, 2, every=MINUTE)
    assert repeated(*every) == 13 * MINUTE
    assert repeated(*reached(2, 1, 0, every=MINUTE)) == 13 * MINUTE, "the latest, whichever it was"
    assert repeated(*every, MINUTE, f.UrgentTold(number=1, page=("first",), why="")) == 14 * MINUTE, "a later page"
    assert repeated(*every, last_paged=None) == 13 * MINUTE
    stood = (MINUTE, f.Acknowledged(), 5 * MINUTE, f.AcknowledgementExpired(count=1, page=()))
    assert repeated(*every, *stood, last_paged=None) == 18 * MINUTE, "while somebody had it nobody waited"


def test_what_begins_no_ladder_again() -> None:
    every = reached(0, 1, 2)
    assert repeated(*every, repeats=1) is not None
    assert repeated(*every, repeats=2) is None, "twice was all"
    assert repeated(*every, by=policy()) is None
    assert repeated(*reached(0, 1)) is None, "a level is still to come"
    assert repeated(*every, f.Acknowledged()) is None
    assert repeated(*every, f.Closed(why="")) is None
    assert repeated(by=Policy.model_validate(a_policy(levels=[], repeat={"times": 2, "every": "10m"}))) is None
    theirs = policy(owner="pagerduty", repeat={"times": 2, "every": "10m"})
    assert repeated(*every, by=theirs) is not None
    assert repeated(*every, by=theirs, reached=("first",)) is None


def test_stakeholders_are_reminded_as_often_as_the_policy_says() -> None:
    hourly = policy(remind="1h")
    assert reminder(incident(), hourly) == T0 + HOUR
    assert reminder(incident(reminders=2), hourly) == T0 + 3 * HOUR
    for changes in ({"closed_at": T0}, {"namespace": "replay"}, {"storm": "i9"}):
        assert reminder(incident(**changes), hourly) is None
    assert reminder(incident(), policy()) is None


def test_the_highest_level_of_this_round_was_told_last() -> None:
    def name(*keys: str) -> str | None:
        found = last_reached(incident(levels_reached=dict.fromkeys(keys, T0), ladder_round=1), policy())
        return None if found is None else found.name

    assert name() is None
    assert name("0:2") is None, "of another round"
    assert name("1:0") == "L1"
    assert name("1:0", "1:2", "1:1") == "L3"
    assert name("1:3") is name("1:0", "1:3") is None, "the policy has fewer by now"


@pytest.mark.parametrize(
    ("changes", "only", "ends"),
    [
        ({}, [], True),
        ({"storm": "i9"}, [], False),
        ({"storm": "i9", "urgent": "bad"}, [], False),
        ({}, ["critical"], False),
        ({"urgent": "bad"}, ["critical"], True),
        ({"urgent": "bad"}, [], True),
    ],
)
def test_an_acknowledgement_runs_out_where_somebody_is_paged(
    changes: dict[str, Any], only: list[str], ends: bool
) -> None:
    found = acknowledgement_ends(incident(f.Acknowledged(), **changes), policy(chat_only=only))
    assert found == (T0 + 30 * MINUTE if ends else None)


# --- promises ---------------------------------------------------------------------------------------------------------


def promised(countdown: str | int, *facts: f.Fact | int, **changes: Any) -> tuple[int, int | None]:
    """When it comes and when it is announced, after T0."""
    entry = {"10m": {"run": "halt", "countdown": countdown}}
    runbook = rules_of(a_runbook(unless_fixed=entry)).runbooks["cut"]
    acted = (started(), intended(), ended(Outcome.OK))
    (found,) = promises(incident(*acted, *facts, **changes), runbook)
    return found.due - T0, None if found.announce is None else found.announce - T0


def test_a_promise_is_announced_so_long_before() -> None:
    assert promised("1m") == (10 * MINUTE, 9 * MINUTE)
    assert promised(0) == (10 * MINUTE, None)
    assert promised("1us") == (10 * MINUTE, 10 * MINUTE - 1)


def test_a_countdown_that_was_put_off_comes_then_and_no_sooner() -> None:
    announced = (9 * MINUTE, f.MachineAnnounced(round=0, index=0, runbook="halt", at=T0 + 10 * MINUTE))
    assert promised("1m", *announced) == (10 * MINUTE, None)
    held = f.CountdownHeld(round=0, index=0, until=T0 + 25 * MINUTE)
    assert promised("1m", *announced, held) == (25 * MINUTE, None)
    timer = MachineTimer(announced=T0 + 9 * MINUTE, held_until=T0 + MINUTE)
    assert promised("1m", machine={"0:0": timer}) == (10 * MINUTE, None), "what it was put off to is past"


@pytest.mark.parametrize("status", list(StepStatus))
def test_a_machine_arms_when_a_step_was_tried(status: StepStatus) -> None:
    run = incident(started(steps=("cut", "more"))).runs[0]
    steps = (run.steps[0].model_copy(update={"status": status}), run.steps[1])
    tried = status in (StepStatus.DONE, StepStatus.RUNNING, StepStatus.FAILED, StepStatus.UNKNOWN)
    assert armed(incident(runs=(run.model_copy(update={"steps": steps}),))) is tried


def test_one_run_that_acted_is_enough_to_arm_a_machine() -> None:
    acted = (started(), intended(), ended(Outcome.OK), f.RunEnded(run=1, result=Result.INEFFECTIVE, why=""))
    again = started(number=2, cause=Cause.RELAPSE)
    assert armed(incident(*acted, again))
    observed = (started(mode=Mode.OBSERVE), f.RunEnded(run=1, result=Result.OBSERVED, why=""))
    second = (started(number=2, cause=Cause.RELAPSE), intended(run=2), ended(Outcome.OK))
    assert armed(incident(*observed, *second))


def test_what_a_schedule_began_or_another_run_superseded_arms_nothing() -> None:
    acted = (started(), intended(), ended(Outcome.OK))
    assert armed(incident(*acted, trigger=Trigger.PERSON))
    assert not armed(incident(*acted, trigger=Trigger.SCHEDULE))
    assert not armed(incident(*acted, f.RunEnded(run=1, result=Result.UNVERIFIED, why="", superseded="i9")))


# --- the timer rows ---------------------------------------------------------------------------------------------------


def rows(state: Incident, by: Policy, runbook: dict[str, Any] | None = None) -> list[Due]:
    """All of them."""
    found = None if runbook is None else rules_of(runbook).runbooks["cut"]
    return list(agenda(state, by, found, {}))


def test_what_people_have_said_has_its_rows() -> None:
    said = incident(f.Acknowledged(), MINUTE, f.Acknowledged())
    (row,) = rows(said, policy())
    assert (row.kind, row.round, row.due - T0) == ("acknowledgement", 2, 31 * MINUTE)
    assert row.what == "the acknowledgement runs out, and the same people are paged again"
    snoozed = incident(f.Snoozed(until=T0 + HOUR))
    assert rows(snoozed, policy()) == [
        Due(kind="snooze", round=1, due=T0 + HOUR, what="the snooze ends, and the climb goes on")
    ]
    assert rows(incident(f.Snoozed(until=T0 + HOUR), closed_at=T0), policy()) == []


def test_what_nobody_has_said_has_its_rows() -> None:
    found = rows(incident(*reached(0, 1, 2), repeats=1), REPEATS)
    assert found == [
        Due(kind="repeat", round=2, due=T0 + 10 * MINUTE, what="the ladder begins again, because nobody has answered")
    ]
    hourly = rows(incident(*reached(0, 1, 2), reminders=2), policy(remind="1h"))
    assert hourly == [Due(kind="still_open", round=3, due=T0 + 3 * HOUR)]


def test_a_level_says_whom_it_pages() -> None:
    found = [(row.round, row.what) for row in rows(incident(ladder_round=2), policy())]
    assert found == [
        (200, "L1 is told, paging first, other"), (201, "L2 is told, paging second"), (202, "L3 is told"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "acted", "what", "work"),
    [
        ({"run": "halt"}, True, "unless fixed, halt runs", True),
        ({"run": "halt"}, False, "", True),
        ({"run": "halt", "page": "boss"}, True, "unless fixed, halt runs and boss is paged", True),
        ({"run": "halt", "page": "boss"}, False, "unless fixed, boss is paged", True),
        ({"page": "boss"}, True, "unless fixed, boss is paged", False),
    ],
)
def test_a_promise_says_what_comes_unless_it_is_fixed(
    entry: dict[str, Any], acted: bool, what: str, work: bool
) -> None:
    tried: tuple[f.Fact, ...] = (started(), intended(), ended(Outcome.OK)) if acted else ()
    written = a_runbook(unless_fixed={"10m": entry})
    found = [row for row in rows(incident(*tried, clock_round=1), Policy(), written) if row.kind == "unless_fixed"]
    assert found == [Due(kind="unless_fixed", round=100, due=T0 + 10 * MINUTE, work=work, what=what)]


def test_one_that_waits_for_a_run_holds_up_no_other() -> None:
    entries = {"5m": {"run": "halt", "countdown": "1m"}, "10m": {"page": "boss"}}
    acted = (started(), intended(), ended(Outcome.OK), f.Verifying(run=1))
    waits = incident(*acted, machine={"0:0": MachineTimer(gathered=True)}, watch_holds=True)
    found = [(row.kind, row.round) for row in rows(waits, Policy(), a_runbook(unless_fixed=entries))]
    assert found == [("unless_fixed", 1)]
