"""What people say of the latest of several runs, and of a countdown that is still to end."""

from __future__ import annotations

from typing import Any

import pytest

from responder import facts as f
from responder.commands import Command, shut_hours
from responder.desk import Shelf
from responder.draft import Draft
from responder.errors import Rejected
from responder.journal import apply
from responder.recorded import Cause, Outcome, Result, Trigger
from responder.records import IncidentRow, ScopeRow
from responder.scopes import InForce
from responder.timing import HOUR, MINUTE
from responder.verification import closing
from responder.view import Finish
from tests.builders import (
    T0,
    Ledger,
    a_runbook,
    a_view,
    as_of_before,
    call_step,
    ended,
    fired,
    intended,
    opened,
    rules_of,
    started,
    told,
)

HALT = a_runbook(runbook="halt", match=(), steps=[call_step("halt")])
PROMISES = {"5m": {"run": "halt", "page": "boss", "countdown": "1m"}, "2h": {"page": "boss"}}
BOTH = (a_runbook(unless_fixed=PROMISES), HALT)


def said(
    verb: str,
    *facts: f.Fact | int,
    at: int = 0,
    scopes: dict[str, str] | None = None,
    policy: dict[str, Any] | None = None,
    runbook: str | None = "cut",
    **more: Any,
) -> f.Fact | str | None:
    """What a person's word is recorded as so long after T0, or why it is refused."""
    ledger = Ledger()
    ledger.state.incidents["i1"] = IncidentRow("i1", "key", told(opened(runbook=runbook), fired(), *facts), None, 1, T0)
    for name, body in (scopes or {}).items():
        ledger.state.scopes[name] = ScopeRow(name, body, T0)
    ledger.after(at)
    book = Shelf(rules_of(*BOTH, **(policy or {})), "test")
    try:
        ledger.do(Command("c", "i1", verb, "amy", book, None, **more))
    except Rejected as error:
        return str(error)
    return next((e.fact for e in ledger.writes[-1].events if e.actor == "amy"), None)


# --- a countdown ------------------------------------------------------------------------------------------------------

COUNTING = (
    started(),
    intended(),
    ended(Outcome.OK),
    f.RunEnded(run=1, result=Result.INEFFECTIVE, why=""),
    4 * MINUTE,
    f.MachineAnnounced(round=0, index=0, runbook="halt", at=T0 + 5 * MINUTE),
)
"""To what a machine does five minutes after the beginning; what follows two hours after it is no countdown."""


@pytest.mark.parametrize(("at", "ends"), [(4 * MINUTE, 5 * MINUTE), (5 * MINUTE, 5 * MINUTE), (6 * MINUTE, 6 * MINUTE)])
def test_a_countdown_is_held_from_its_end_or_from_now_when_that_is_over(at: int, ends: int) -> None:
    held = said("hold", *COUNTING, at=at, lasts=2 * MINUTE)
    assert held == f.CountdownHeld(round=0, index=0, until=T0 + ends + 2 * MINUTE, note="")


def test_the_countdown_of_what_is_closed_is_not_held() -> None:
    assert said("hold", *COUNTING, f.Closed(why="over")) == "incident i1 is closed: over"


# --- the latest run ---------------------------------------------------------------------------------------------------

AGAIN = (
    started(),
    f.RunEnded(run=1, result=Result.FAILED, why="no"),
    started(number=2, cause=Cause.RELAPSE),
)
ASKED = f.ApprovalAsked(run=2, step="cut", plan="p1", preview="the plan", role="desk", until=T0 + HOUR)


def test_an_answer_is_to_the_question_of_the_latest_run() -> None:
    assert said("approve", *AGAIN, ASKED, plan="p1") == f.Approved(run=2, step="cut", plan="p1")
    assert said("deny", *AGAIN, ASKED) == f.Denied(run=2, step="cut", plan="p1")


def test_what_is_put_back_after_several_runs_has_the_next_number() -> None:
    target = "risk-api/kelly_fraction"
    changed = InForce(incident="i1", attempt="i1.1.cut.1", step="cut", target=target, preview="kelly 0.25 → 0.1",
                      before=0.25, value=0.1, since=T0)  # fmt: skip
    first = (started(), intended(), ended(Outcome.OK), f.RunEnded(run=1, result=Result.INEFFECTIVE, why=""))
    second = (started(number=2, cause=Cause.RELAPSE), f.RunEnded(run=2, result=Result.FAILED, why=""))
    found = said("restore", *first, *second, scopes={f"in_force:{target}": changed.model_dump_json()})
    assert isinstance(found, f.RunStarted)
    assert (found.number, found.cause, found.restores) == (3, Cause.RESTORE, "i1.1.cut.1")


# --- whose ladder it is -----------------------------------------------------------------------------------------------


def test_the_next_level_of_a_ladder_that_the_pager_climbs_is_asked_for_there() -> None:
    theirs = {"owner": "pagerduty", "levels": [{"name": "L1", "after": 0, "page": "first"}]}
    assert said("escalate", policy=theirs) == "policy ladder is climbed by PagerDuty: escalate it there"
    assert said("escalate", note="help") == f.EscalationAsked(note="help")


# --- outside its hours ------------------------------------------------------------------------------------------------


def test_what_is_closed_has_no_hours_that_could_be_overridden() -> None:
    over = f.Closed(why="over")
    assert said("override", over) == "incident i1 is closed: over", "whether or not a reason is given"
    ledger = Ledger()
    draft = Draft("d", ledger.state, Shelf(rules_of(*BOTH), "test"))
    with pytest.raises(Rejected, match="is closed: over"):
        shut_hours(draft, told(opened(), fired(), over))


@pytest.mark.parametrize("runbook", [None, "never", "cut"])
def test_without_a_calendar_there_is_nothing_to_override(runbook: str | None) -> None:
    found = said("override", note="agreed", runbook=runbook)
    assert found == "its runbook has no calendar, so there is nothing to override"


# --- who has seen how a run ended -------------------------------------------------------------------------------------


def test_a_word_of_before_facts_were_numbered_closes_nothing() -> None:
    """Nobody can say of it whether the run had ended; the next word does close it."""
    begun = (opened(trigger=Trigger.PERSON), started(), f.RunEnded(run=1, result=Result.FAILED, why="no"))
    state = told(*begun, f.Acknowledged())
    rules = rules_of(a_runbook(), levels=[])
    assert closing(a_view(state, rules, T0)) == Finish(f.Closed(why="seen by responder"))
    old = as_of_before(state)
    assert closing(a_view(old, rules, T0)) is None
    next_word = f.Event(id="e5", incident="i1", seq=5, at=T0, actor="al", fact=f.Acknowledged())
    assert closing(a_view(apply(old, next_word), rules, T0)) == Finish(f.Closed(why="seen by al"))
