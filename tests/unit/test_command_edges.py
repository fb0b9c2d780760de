"""What people may say, at its edges: four eyes, the bounds of what is put off, what may be put back and by which run.

Each test notices small changes of `commands` that no other unit test does (`python -m tests.mutation commands`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from responder import facts as f
from responder.calendars import Calendar
from responder.commands import Command, SetPause, pending_approval, restorable
from responder.desk import Shelf
from responder.draft import Draft
from responder.errors import Rejected
from responder.incident import MachineTimer
from responder.recorded import Cause, Mode, Outcome, Recorded, Result, StepStatus, Trigger
from responder.records import Change, Keys, ScopeRow, State
from responder.scopes import InForce, Lock, Pause
from responder.timing import HOUR, MINUTE, SECOND
from tests.builders import (
    T0,
    Ledger,
    a_runbook,
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
from tests.unit.command_parts import Happens, says

TARGET = "risk-api/kelly_fraction"


def after(*facts: f.Fact, scopes: Mapping[str, Recorded | str] | None = None, **changes: Any) -> Ledger:
    """An incident after these facts; rows of the store and other state where a test says so."""
    ledger = Ledger()
    ledger.do(Happens(facts))
    row = ledger.state.incidents["i1"]
    assert row is not None
    ledger.state.incidents["i1"] = replace(row, fold=row.fold.model_copy(update=changes))
    for name, body in (scopes or {}).items():
        text = body if isinstance(body, str) else body.model_dump_json()
        ledger.state.scopes[name] = ScopeRow(name, text, T0)
    return ledger


class More(Happens):
    """Facts of an incident that is there."""

    def apply(self, state: State) -> Change[None]:
        draft = Draft(f"more-{state.now}", state, BOOK)
        for fact in self.facts:
            draft.record("i1", fact)
        return Change(draft.writes(), None)


def said(ledger: Ledger, verb: str, actor: str = "alice", **more: Any) -> f.Fact | None:
    """What the word of a person is recorded as; None when it changes nothing."""
    says(ledger, verb, actor, **more)
    return next((e.fact for e in ledger.writes[-1].events if e.actor == actor), None)


def refused(ledger: Ledger, verb: str, actor: str = "alice", **more: Any) -> str:
    """What the person is told instead."""
    with pytest.raises(Rejected) as told_them:
        says(ledger, verb, actor, **more)
    return str(told_them.value)


def test_a_word_reads_its_incident_and_no_other() -> None:
    book = Shelf(rules_of(a_runbook()), "test")
    assert Command("c", "i1", "ack", "al", book, None).reads() == Keys(incidents=frozenset({"i1"}))
    assert SetPause("p", paused=True, actor="al", reason="", book=book).reads() == Keys(
        scopes=frozenset({"pause:global"})
    )


# --- four eyes --------------------------------------------------------------------------------------------------------


def asked(cause: Cause = Cause.ALERT, people: int = 1) -> tuple[f.Fact, ...]:
    question = f.ApprovalAsked(
        run=1, step="cut", plan="p1", preview="the plan", role="desk", people=people, until=T0 + HOUR
    )
    return (started(cause=cause), question)


def test_a_yes_names_the_plan_that_was_seen() -> None:
    assert refused(after(*asked()), "approve") == "say which plan you approve: p1, which is the plan"
    assert refused(after(*asked()), "approve", plan="old") == "what would be done has changed since: it is now the plan"
    fact = said(after(*asked()), "approve", plan="p1", note="seen")
    assert fact == f.Approved(run=1, step="cut", plan="p1", note="seen")
    assert said(after(*asked()), "approve", plan="p1", step="cut") is not None


def test_who_started_a_run_does_not_approve_it() -> None:
    own = after(*asked(Cause.PERSON))
    assert refused(own, "approve", "responder", plan="p1") == (
        "responder started this run, so somebody else with the role desk must approve it"
    )
    assert said(own, "approve", "bob", plan="p1") is not None
    assert said(after(*asked(Cause.ALERT)), "approve", "responder", plan="p1") is not None, "nobody started it"
    assert said(after(*asked(Cause.PERSON)), "deny", "responder") is not None, "anybody may say no"


def test_two_people_are_two_people() -> None:
    both = after(*asked(people=2))
    assert said(both, "approve", "amy", plan="p1") is not None
    assert refused(both, "approve", "amy", plan="p1") == "amy has approved already; 2 different people must"
    assert said(both, "approve", "bob", plan="p1") is not None


def test_a_yes_that_is_sent_twice_counts_once() -> None:
    once = after(*asked())
    assert said(once, "approve", "amy", plan="p1") is not None
    assert refused(once, "approve", "amy", plan="p1") == "incident i1 waits for no approval"
    assert once.kinds.count("approved") == 1


def test_after_its_time_or_an_answer_nothing_is_asked_any_more() -> None:
    late = after(*asked())
    late.after(HOUR)
    assert refused(late, "approve", plan="p1") == "incident i1 waits for no approval"
    denied = after(*asked(), f.Denied(run=1, step="cut", plan="p1"))
    assert refused(denied, "approve", plan="p1") == "incident i1 waits for no approval"
    gone = after(*asked(), f.RunEnded(run=1, result=Result.CANCELLED, why=""))
    assert refused(gone, "deny") == "incident i1 waits for no approval"


def test_a_no_says_to_what() -> None:
    fact = said(after(*asked()), "deny", note="market opens")
    assert fact == f.Denied(run=1, step="cut", plan="p1", note="market opens")


def test_what_people_are_asked_now() -> None:
    assert pending_approval(told(opened(), fired())) is None
    assert pending_approval(told(opened(), fired(), started())) is None
    incident = told(opened(), fired(), *asked())
    found = pending_approval(incident)
    assert found is not None
    assert found.plan == "p1"
    assert pending_approval(told(opened(), fired(), *asked(), intended())) is None, "it is being done"


# --- how long something may be put off --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lasts", "until"),
    [(None, HOUR), (MINUTE, MINUTE), (24 * HOUR, 24 * HOUR), (MINUTE - 1, None), (24 * HOUR + 1, None)],
)
def test_a_snooze_lasts_an_hour_or_as_long_as_a_person_says_up_to_a_day(lasts: int | None, until: int | None) -> None:
    if until is None:
        assert refused(after(), "snooze", lasts=lasts) == "say between 1m and 1d, such as 1h"
    else:
        assert said(after(), "snooze", lasts=lasts, note="known") == f.Snoozed(until=T0 + until, note="known")


MACHINE = a_runbook(unless_fixed={"1h": {"run": "halt"}})


def counting(holds: int = 0, announced: int = T0) -> Ledger:
    """A countdown to a promise runs."""
    timer = MachineTimer(announced=announced, holds=holds)
    return after(f.MachineAnnounced(round=0, index=0, runbook="halt", at=T0 + HOUR), machine={"0:0": timer})


def test_a_countdown_is_held_three_times_and_never_for_ever() -> None:
    for holds in (0, 2):
        fact = said(counting(holds), "hold", note="wait")
        assert isinstance(fact, f.CountdownHeld)
        assert (fact.round, fact.index, fact.note) == (0, 0, "wait")
        assert fact.until > T0
    assert refused(counting(3), "hold") == "it was held 3 times already: take over to stop it"
    for lasts, good in ((15 * MINUTE, True), (15 * MINUTE + 1, False), (MINUTE, True), (MINUTE - 1, False)):
        if good:
            fact = said(counting(), "hold", lasts=lasts)
            assert isinstance(fact, f.CountdownHeld)
            assert fact.until == T0 + lasts, "from now on, where the promise is none of the runbook's any more"
        else:
            assert refused(counting(), "hold", lasts=lasts).startswith("say between 1m and 15m")


# --- outside its hours (docs/adr/0026) --------------------------------------------------------------------------------


def overriding(ledger: Ledger, hours: dict[str, str] | None = None, lasts: int | None = None) -> f.Fact | str:
    """What is recorded when a person lets it act outside its hours, or why that makes no sense."""
    calendars = {
        "never": Calendar.model_validate({"dates": "2099-01-01", "timezone": "UTC"}),
        "always": Calendar.model_validate({"from": "00:00", "to": "24:00", "timezone": "UTC"}),
    }
    book = Shelf(replace(rules_of(a_runbook(calendar=hours)), calendars=calendars), "test")
    try:
        ledger.do(Command("o", "i1", "override", "amy", book, None, note="agreed", lasts=lasts))
    except Rejected as error:
        return str(error)
    return next(e.fact for e in ledger.writes[-1].events if e.actor == "amy")


SHUT = {"within": "never", "otherwise": "deny"}


def test_a_person_lets_a_run_act_outside_its_hours_for_an_hour_or_as_long_as_they_say_up_to_twelve() -> None:
    for facts in ((), (started(),)):
        found = overriding(after(*facts), SHUT)
        assert isinstance(found, f.CalendarOverridden)
        assert (found.runbook, found.until, found.note) == ("cut", T0 + HOUR, "agreed")
        assert found.hours == "never is closed, without a change in the next 370d"
    long = overriding(after(), SHUT, lasts=12 * HOUR)
    assert isinstance(long, f.CalendarOverridden)
    assert long.until == T0 + 12 * HOUR
    assert overriding(after(), SHUT, lasts=12 * HOUR + 1) == "say between 1m and 12h, such as 1h"


def test_an_override_that_would_do_nothing_says_so() -> None:
    assert overriding(after()) == "its runbook has no calendar, so there is nothing to override"
    assert overriding(after(), {**SHUT, "otherwise": "ask"}) == "its calendar asks people: approve what it asks for"
    assert overriding(after(), {"within": "always"}) == "the calendar of cut lets it act now"
    assert overriding(after(namespace="replay"), SHUT) == "a replay asks no calendar for real"
    by_hand = "it was begun by hand or by a schedule, and nothing starts it again"
    assert overriding(after(trigger=Trigger.PERSON), SHUT) == by_hand
    assert isinstance(overriding(after(started(), trigger=Trigger.PERSON), SHUT), f.CalendarOverridden)
    assert overriding(after(f.TakenOver()), SHUT) == "responder has taken it over, so nothing is run; act by hand"


# --- the next level ---------------------------------------------------------------------------------------------------


def test_the_next_level_is_asked_for_once() -> None:
    assert said(after(), "escalate", note="need help") == f.EscalationAsked(note="need help")
    assert said(after(hurried=T0), "escalate") is None


def test_where_the_next_level_is_not_ours_to_tell_it_says_whose() -> None:
    assert refused(after(storm="i7"), "escalate") == ("it is one of many that are paged together: escalate incident i7")
    levels = {"0:0": T0, "0:1": T0}
    assert refused(after(levels_reached=levels), "escalate") == "every level has been told already"
    assert refused(after(f.Closed(why="over")), "escalate") == "incident i1 is closed: over"


# --- who has it -------------------------------------------------------------------------------------------------------

PAGED = f.Paged(destination="first", key="k", why="a person asked for it")


def says_of(ledger: Ledger, verb: str) -> list[str]:
    """What is recorded when alice says it, of what she can say."""
    said(ledger, verb)
    kinds = [e.fact.kind for e in ledger.writes[-1].events if e.actor == "alice"]
    return [kind for kind in kinds if kind in ("acknowledged", "taken_over")]


def goes_on(ledger: Ledger, *facts: f.Fact) -> None:
    """More happens to the incident."""
    ledger.do(More(facts))


@pytest.mark.parametrize(("verb", "kind"), [("ack", "acknowledged"), ("takeover", "taken_over")])
def test_who_says_it_again_after_a_further_page_answers_that_one_too(verb: str, kind: str) -> None:
    ledger = after(PAGED)
    assert says_of(ledger, verb) == [kind]
    assert says_of(ledger, verb) == [], "said twice, it counts once"
    goes_on(ledger, PAGED)
    assert says_of(ledger, verb) == [kind]
    assert says_of(ledger, verb) == []


def test_a_word_of_another_kind_after_the_page_answers_it_too() -> None:
    ledger = after(PAGED)
    assert says_of(ledger, "takeover") == ["taken_over"]
    goes_on(ledger, PAGED)
    assert says_of(ledger, "ack") == ["acknowledged"]
    assert says_of(ledger, "takeover") == []
    assert says_of(ledger, "ack") == []


@pytest.mark.parametrize(("verb", "kind"), [("ack", "acknowledged"), ("takeover", "taken_over")])
@pytest.mark.parametrize("paged", [(), (PAGED,)])
def test_a_further_word_is_taken_after_one_of_before_places_were_kept(
    verb: str, kind: str, paged: tuple[f.Fact, ...]
) -> None:
    ledger = after(*paged)
    assert says_of(ledger, verb) == [kind]
    row = ledger.state.incidents["i1"]
    assert row is not None
    ledger.state.incidents["i1"] = replace(row, fold=as_of_before(row.fold))
    assert says_of(ledger, verb) == [kind], "nobody can tell whether a page has followed it"
    assert says_of(ledger, verb) == []


# --- runs and steps ---------------------------------------------------------------------------------------------------


def test_a_run_is_stopped_once() -> None:
    ledger = after(started())
    assert said(ledger, "cancel", note="wrong") == f.RunStopped(run=1, note="wrong")
    going_on = after(started(), intended(), f.RunStopped(run=1))
    assert said(going_on, "cancel") is None


def test_a_manual_step_is_done_by_its_name_or_without_it() -> None:
    waiting = (started(), f.ManualAsked(run=1, step="cut", instruction="Look"))
    done = f.ManualDone(run=1, step="cut", note="looked")
    assert said(after(*waiting), "done", note="looked") == done
    assert said(after(*waiting), "done", note="looked", step="cut") == done
    assert refused(after(*waiting), "done", step="other") == "step other is not waiting; cut is"
    assert refused(after(started()), "done") == "incident i1 waits for no manual step"


def lost(number: int) -> tuple[f.Fact, ...]:
    return (intended(number), ended(Outcome.UNKNOWN, number), f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN))


def test_of_several_unknown_changes_one_is_named() -> None:
    one = after(started(), *lost(1))
    settled = f.Settled(attempt="i1.1.cut.1", applied=True, reason="seen")
    assert said(one, "settle", note="seen", applied=True) == settled
    two = (started(), *lost(1), *lost(2))
    assert refused(after(*two), "settle", note="seen", applied=True) == (
        "say which with --attempt: i1.1.cut.1, i1.1.cut.2"
    )
    assert said(after(*two), "settle", note="seen", applied=True, attempt="i1.1.cut.1") == settled
    no = said(after(*two), "settle", note="seen", applied=False, attempt="i1.1.cut.2")
    assert no == f.Settled(attempt="i1.1.cut.2", applied=False, reason="seen")


# --- locks ------------------------------------------------------------------------------------------------------------


def test_the_lock_of_what_ran_last_is_freed_else_that_of_the_incident() -> None:
    held = Lock(incident="i1", run=1, since=T0, unknown=True)
    elsewhere = after(started(target="trading"), scopes={"lock:trading": held, f"lock:{TARGET}": held})
    assert said(elsewhere, "unlock", note="seen") == f.Unlocked(target="trading", reason="seen")
    never = after(scopes={f"lock:{TARGET}": held})
    assert said(never, "unlock", note="seen") == f.Unlocked(target=TARGET, reason="seen")


def test_a_lock_that_cannot_be_read_can_still_be_freed() -> None:
    """Nothing else would free it: every gate refuses for it."""
    broken = after(scopes={f"lock:{TARGET}": "no JSON"})
    assert said(broken, "unlock", note="seen") == f.Unlocked(target=TARGET, reason="seen")
    freed = after(scopes={f"lock:{TARGET}": ""})
    assert refused(freed, "unlock", note="seen") == f"{TARGET} is not locked"


# --- putting back -----------------------------------------------------------------------------------------------------


def in_force(incident: str = "i1", attempt: str = "i1.1.cut.1") -> InForce:
    return InForce(incident=incident, attempt=attempt, step="cut", target=TARGET, preview="kelly 0.25 → 0.1",
                   before=0.25, value=0.1, since=T0)  # fmt: skip


CHANGED = (started(inputs={"symbol": "X"}), intended(), ended(Outcome.OK))
OVER = f.RunEnded(run=1, result=Result.FIXED, why="")
ROW = f"in_force:{TARGET}"


def test_what_is_in_force_is_put_back_by_the_runbook_that_made_it() -> None:
    fact = said(after(*CHANGED, OVER, scopes={ROW: in_force()}), "restore")
    assert isinstance(fact, f.RunStarted)
    assert (fact.number, fact.runbook, fact.rules_hash, fact.target) == (2, "cut", "h1", TARGET)
    assert (fact.cause, fact.mode, fact.inputs) == (Cause.RESTORE, Mode.AUTO, {"symbol": "X"})
    assert (fact.steps, fact.restores) == (("cut",), "i1.1.cut.1")


def test_what_cannot_be_put_back_now_says_why() -> None:
    assert refused(after(*CHANGED, scopes={ROW: in_force()}), "restore") == (
        "run 1 is still acting; restore after it has ended"
    )
    old = after(*CHANGED, OVER, scopes={ROW: in_force(attempt="i1.0.cut.1")})
    assert refused(old, "restore") == (
        "attempt i1.0.cut.1 is too old to be put back automatically; put back kelly 0.25 → 0.1 by hand"
    )
    other = after(*CHANGED, OVER, scopes={ROW: in_force(incident="i2")})
    assert refused(other, "restore") == "incident i1 has no change in force that could be put back"


def test_the_change_of_the_latest_run_is_put_back_first() -> None:
    halt = started(number=2, runbook="halt", target="trading")
    incident = told(opened(), fired(), *CHANGED, OVER, halt)
    rows = {ROW: in_force().model_dump_json(), "in_force:trading": in_force(attempt="x").model_dump_json()}
    found = restorable(incident, rows.get)
    assert found is not None
    assert found.attempt == "x"
    del rows["in_force:trading"]
    found = restorable(incident, rows.get)
    assert found is not None
    assert found.attempt == "i1.1.cut.1"
    assert restorable(incident, {ROW: "no JSON"}.get) is None


# --- what pagers say --------------------------------------------------------------------------------------------------


def test_a_pager_takes_back_only_what_was_said_at_it() -> None:
    def acknowledged() -> Ledger:
        ledger = after()
        says(ledger, "ack", "Bob", via="first", word="w1")
        return ledger

    fact = said(acknowledged(), "unack", "Bob", note="ran out", via="first", word="w2")
    assert fact == f.Unacknowledged(why="ran out", via="first", word="w2")
    assert said(acknowledged(), "unack", "Eve", via="second", word="w2") is None
    assert said(after(), "unack", "Bob", via="first", word="w2") is None, "nobody has acknowledged it"
    closed = acknowledged()
    row = closed.state.incidents["i1"]
    assert row is not None
    closed.state.incidents["i1"] = replace(row, fold=row.fold.model_copy(update={"closed_at": T0}))
    assert said(closed, "unack", "Bob", via="first", word="w2") is None


def test_a_note_keeps_where_it_was_said() -> None:
    fact = said(after(), "note", "Bob", note=" look ", via="first", word="w1")
    assert fact == f.Noted(text=" look ", via="first", word="w1")
    assert said(after(), "note", "amy", note="look") == f.Noted(text="look")


def test_an_acknowledgement_keeps_where_it_was_said() -> None:
    fact = said(after(), "ack", "Bob", note="mine", via="first", word="w1")
    assert fact == f.Acknowledged(note="mine", via="first", word="w1")


# --- the pause --------------------------------------------------------------------------------------------------------

BOOK = Shelf(rules_of(a_runbook(steps=[call_step("cut")])), "test")


def pausing(ledger: Ledger, actor: str = "al", until: int | None = None, *, paused: bool = True, **more: Any) -> Pause:
    answer = ledger.do(SetPause(f"p{len(ledger.writes)}", paused, actor, "why", BOOK, until=until, **more))
    assert isinstance(answer, Pause)
    return answer


def test_a_pause_says_who_when_why_and_until_when() -> None:
    ledger = Ledger()
    found = pausing(ledger, until=T0 + HOUR)
    assert found == Pause(paused=True, actor="al", at=T0, reason="why", until=T0 + HOUR)
    row = ledger.state.scopes["pause:global"]
    assert row is not None
    assert Pause.model_validate_json(row.body) == found


def test_another_end_or_one_that_is_over_is_a_new_pause() -> None:
    ledger = Ledger()
    pausing(ledger, until=T0 + HOUR)
    assert pausing(ledger, "bob", until=T0 + HOUR).actor == "al", "it is paused so already"
    assert pausing(ledger, "bob", until=T0 + 2 * HOUR).actor == "bob"
    assert pausing(ledger, "eve").actor == "eve"
    ending = Ledger()
    pausing(ending, until=T0 + MINUTE)
    ending.after(MINUTE + SECOND)
    assert pausing(ending, "bob", until=T0 + MINUTE).actor == "bob", "the first one is over"


def test_resuming_ends_a_pause_also_one_that_cannot_be_read() -> None:
    ledger = Ledger()
    ledger.state.scopes["pause:runbook:cut"] = ScopeRow("pause:runbook:cut", "no JSON", T0)
    found = pausing(ledger, "bob", paused=False, scope="pause:runbook:cut")
    assert (found.paused, found.actor) == (False, "bob")
    row = ledger.state.scopes["pause:runbook:cut"]
    assert row is not None
    assert Pause.model_validate_json(row.body) == found


def test_what_is_said_in_between_is_written_with_the_command() -> None:
    """The transaction of a word decides what is next at once: nobody waits for a timer."""
    ledger = after(started(), f.ManualAsked(run=1, step="cut", instruction="Look"))
    says(ledger, "done")
    assert "manual_done" in [event.fact.kind for event in ledger.writes[-1].events]
    draft = Draft("d", ledger.state, BOOK)
    assert draft.incident("i1").runs[0].step("cut").status is StepStatus.DONE
