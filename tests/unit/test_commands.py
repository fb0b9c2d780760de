"""What people may say when, and what they are told when it makes no sense."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from responder import facts as f
from responder.commands import VERBS, SetPause
from responder.draft import Draft
from responder.errors import Rejected
from responder.recorded import Outcome, ProbeAnswer, Result, StepStatus
from responder.records import Change, Keys, State
from responder.timing import HOUR, SECOND
from tests.builders import T0, Ledger, ended, fired, intended, opened, started
from tests.unit.command_parts import BOOK, Happens, says

UNKNOWN: tuple[f.Fact, ...] = (
    started(),
    intended(),
    ended(Outcome.UNKNOWN),
    f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN, why="lost"),
    f.RunEnded(run=1, result=Result.UNKNOWN, why="lost"),
)


ANNOUNCED = f.MachineAnnounced(round=0, index=0, runbook="halt", at=T0 + HOUR)
ASKED = f.ApprovalAsked(run=1, step="cut", plan="p1", preview="the plan", role="desk", until=T0 + HOUR)


def after(*facts: f.Fact) -> Ledger:
    ledger = Ledger()
    ledger.do(Happens(facts))
    return ledger


@pytest.mark.parametrize(
    ("facts", "verb", "said", "reason"),
    [
        ((), "hug", {}, "there is no verb hug; there are ack, approve"),
        ((f.Closed(why="over"),), "ack", {}, "is closed: over"),
        ((f.Closed(why="over"),), "takeover", {}, "is closed"),
        ((), "done", {}, "waits for no manual step"),
        ((started(), f.ManualAsked(run=1, step="cut", instruction="x")), "done", {"step": "other"}, "cut is"),
        (UNKNOWN, "settle", {"note": "seen"}, "--applied or --not-applied"),
        (UNKNOWN, "settle", {"applied": True}, "a --reason"),
        (
            UNKNOWN,
            "settle",
            {"applied": True, "note": "seen", "attempt": "x"},
            "incident i1 has no attempt x; what nobody knows is i1.1.cut.1",
        ),
        ((), "settle", {"applied": True, "note": "seen"}, "no unknown change to settle"),
        ((), "unlock", {"note": "x"}, "is not locked"),
        ((started(), intended()), "unlock", {}, "--reason"),
        ((started(), intended()), "unlock", {"note": "x"}, "is being done right now"),
        ((), "restore", {}, "no change in force"),
        ((f.Closed(why="over"),), "snooze", {}, "is closed"),
        ((f.TakenOver(),), "snooze", {}, "has taken it over"),
        ((), "snooze", {"lasts": SECOND}, "say between 1m and 1d"),
        ((), "snooze", {"lasts": 25 * HOUR}, "say between 1m and 1d"),
        ((), "hold", {}, "no countdown"),
        ((ANNOUNCED,), "hold", {"lasts": HOUR}, "say between 1m and 15m"),
        ((), "cancel", {}, "no run under way"),
        ((), "approve", {}, "waits for no approval"),
        ((), "deny", {}, "waits for no approval"),
        ((started(), ASKED), "approve", {"step": "other"}, "other waits for no approval; cut does"),
        ((started(), ASKED), "approve", {"plan": "old"}, "has changed since: it is now the plan"),
        ((started(), ASKED), "deny", {"plan": "old"}, "has changed since"),
        ((), "note", {"note": " "}, "say the note"),
        ((), "override", {"note": " "}, "say a --reason"),
        ((), "override", {"note": "x"}, "has no calendar"),
        ((f.TakenOver(),), "override", {"note": "x"}, "has taken it over"),
        ((f.Closed(why="over"),), "override", {"note": "x"}, "is closed"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(
    facts: tuple[f.Fact, ...], verb: str, said: dict[str, Any], reason: str
) -> None:
    ledger = after(*facts)
    before = ledger.kinds
    with pytest.raises(Rejected, match=reason):
        says(ledger, verb, **said)
    assert ledger.kinds == before


@pytest.mark.parametrize(("verb", "kind"), [("ack", "acknowledged"), ("takeover", "taken_over")])
def test_the_same_person_saying_it_twice_says_it_once(verb: str, kind: str) -> None:
    ledger = after()
    says(ledger, verb)
    says(ledger, verb)
    assert ledger.kinds.count(kind) == 1
    says(ledger, verb, "bob")
    assert ledger.kinds.count(kind) == 2


def test_who_said_it_is_kept() -> None:
    ledger = after()
    says(ledger, "ack", "alice", "on it")
    held = ledger.incident().acknowledged
    assert held is not None
    assert (held.actor, held.note) == ("alice", "on it")


def test_settling_names_the_only_one_and_frees_its_lock() -> None:
    ledger = after(*UNKNOWN)
    lock = ledger.state.scopes["lock:risk-api/kelly_fraction"]
    assert lock is not None
    assert '"unknown":true' in lock.body
    says(ledger, "settle", note="seen in the log", applied=False)
    lock = ledger.state.scopes["lock:risk-api/kelly_fraction"]
    assert lock is not None
    assert lock.body == ""
    with pytest.raises(Rejected, match="no unknown change"):
        says(ledger, "settle", note="again", applied=True)


TWICE: tuple[f.Fact, ...] = (
    *UNKNOWN[:3],
    f.Probed(attempt="i1.1.cut.1", answer=ProbeAnswer.NOT_APPLIED, detail="still 0.25"),
    intended(2),
    ended(Outcome.UNKNOWN, 2),
)
"""The first attempt was not done, as the probe says; of the second nobody knows it yet."""


def test_only_what_nobody_knows_is_settled_and_the_target_stays_locked_until_then() -> None:
    ledger = after(*TWICE, *UNKNOWN[3:])
    first: dict[str, Any] = {"note": "seen", "applied": False, "attempt": "i1.1.cut.1"}
    with pytest.raises(Rejected, match=r"known: it did not happen: still 0.25; what nobody knows is i1.1.cut.2"):
        says(ledger, "settle", **first)
    assert ledger.incident().runs[0].step("cut").status is StepStatus.UNKNOWN
    says(ledger, "settle", note="seen", applied=True)
    assert ledger.incident().runs[0].step("cut").status is StepStatus.DONE
    lock = ledger.state.scopes["lock:risk-api/kelly_fraction"]
    assert lock is not None
    assert lock.body == ""
    with pytest.raises(Rejected, match=r"i1.1.cut.2 it is known: a person said that it happened: seen$"):
        says(ledger, "settle", note="seen", applied=False, attempt="i1.1.cut.2")


def test_a_target_is_locked_until_everything_that_nobody_knows_is_settled() -> None:
    other = f.Probed(attempt="i1.1.cut.1", answer=ProbeAnswer.UNCLEAR)
    ledger = after(*(other if isinstance(fact, f.Probed) else fact for fact in TWICE), *UNKNOWN[3:])
    with pytest.raises(Rejected, match=r"say which with --attempt: i1.1.cut.1, i1.1.cut.2"):
        says(ledger, "settle", note="seen", applied=False)
    says(ledger, "settle", note="the first one is in the log", applied=True, attempt="i1.1.cut.1")
    lock = ledger.state.scopes["lock:risk-api/kelly_fraction"]
    assert lock is not None
    assert '"unknown":true' in lock.body
    assert ledger.incident().runs[0].step("cut").status is StepStatus.UNKNOWN
    says(ledger, "settle", note="the second is not", applied=False)
    assert lock is not ledger.state.scopes["lock:risk-api/kelly_fraction"]
    assert ledger.incident().unsettled == ()
    assert ledger.incident().runs[0].step("cut").status is StepStatus.DONE, "one of the two was done"


def test_what_is_still_being_looked_at_is_not_settled() -> None:
    with pytest.raises(Rejected, match=r"attempt i1.1.cut.2 is still being looked at"):
        says(after(*TWICE), "settle", note="seen", applied=False, attempt="i1.1.cut.2")


@pytest.mark.parametrize(
    ("end", "known"),
    [
        ((), "it is being done right now"),
        ((ended(Outcome.PERMANENT),), "it ended permanent: said so"),
        ((ended(Outcome.UNKNOWN), f.Probed(attempt="i1.1.cut.1", answer=ProbeAnswer.APPLIED, detail="0.1")),
         "it happened: 0.1"),
    ],
)  # fmt: skip
def test_what_is_known_of_an_attempt_is_said(end: tuple[f.Fact, ...], known: str) -> None:
    with pytest.raises(Rejected, match=f"of attempt i1.1.cut.1 it is known: {known}$"):
        says(after(*UNKNOWN[:2], *end), "settle", note="seen", applied=False, attempt="i1.1.cut.1")


def test_an_unlock_frees_the_target_and_leaves_the_question() -> None:
    ledger = after(*UNKNOWN)
    says(ledger, "unlock", note="looked")
    lock = ledger.state.scopes["lock:risk-api/kelly_fraction"]
    assert lock is not None
    assert lock.body == ""
    assert len(ledger.incident().unsettled) == 1


def test_what_another_incident_is_doing_is_not_unlocked_through_this_one() -> None:
    ledger = after(started(), f.Waiting(run=1, step="cut", verdicts=(), until=T0))
    ledger.do(Holds())
    with pytest.raises(Rejected, match="step cut is being done right now"):
        says(ledger, "unlock", note="in the way")
    ledger.do(Holds(over=True))
    says(ledger, "unlock", note="in the way")
    assert ledger.kinds.count("unlocked") == 1


class Holds:
    """Another incident takes the lock of the same target; its step is being done until it is over."""

    def __init__(self, over: bool = False) -> None:
        self.id = f"holds{over}"
        self.over = over

    def reads(self) -> Keys:
        return Keys()

    def apply(self, state: State) -> Change[None]:
        draft = Draft(self.id, state, BOOK)
        if self.over:
            draft.record("i2", f.AttemptEnded(attempt="i2.1.cut.1", outcome=Outcome.OK))
        else:
            draft.open(opened(id="i2", runbook="other"))
            for fact in (fired("b"), started(runbook="other"), intended(attempt="i2.1.cut.1")):
                draft.record("i2", fact)
        return Change(draft.writes(), None)


def test_a_replay_holds_no_locks() -> None:
    ledger = after(*UNKNOWN)
    row = ledger.state.incidents["i1"]
    assert row is not None
    replayed = row.fold.model_copy(update={"namespace": "replay"})
    ledger.state.incidents["i1"] = replace(row, fold=replayed)
    with pytest.raises(Rejected, match="a replay holds no locks"):
        says(ledger, "unlock", note="looked")


def test_what_is_settled_belongs_to_its_own_runbook_whatever_ran_since() -> None:
    halt = started(number=2, runbook="halt", target="trading", steps=("halt",))
    ledger = after(*UNKNOWN, halt, f.RunEnded(run=2, result=Result.CONTAINED, why=""))
    says(ledger, "settle", note="seen", applied=True)
    assert ledger.incident().unsettled == ()
    body = ledger.state.scopes["in_force:risk-api/kelly_fraction"]
    assert body is not None
    assert '"attempt":"i1.1.cut.1"' in body.body


def test_pausing_twice_keeps_who_said_it_first() -> None:
    ledger = Ledger()
    first = ledger.do(SetPause("p1", paused=True, actor="alice", reason="tests", book=BOOK))
    again = ledger.do(SetPause("p2", paused=True, actor="bob", reason="me too", book=BOOK))
    assert (first, again.actor) == (again, "alice")
    assert not ledger.do(SetPause("p3", paused=False, actor="bob", reason="", book=BOOK)).paused


def test_resuming_what_was_never_paused_is_fine() -> None:
    assert not Ledger().do(SetPause("p", paused=False, actor="bob", reason="", book=BOOK)).paused


def test_a_word_from_outside_counts_once_however_often_it_is_delivered() -> None:
    ledger = after()
    for _ in range(3):
        says(ledger, "note", "Bob (pager)", "reassigned", via="pager", word="w1")
    says(ledger, "note", "Bob (pager)", "reassigned", via="pager", word="w2")
    assert ledger.kinds.count("noted") == 2
    says(ledger, "ack", "Bob (pager)", via="pager", word="w3")
    says(ledger, "unack", "Bob (pager)", via="pager", word="w4")
    says(ledger, "ack", "Bob (pager)", via="pager", word="w3")
    assert ledger.incident().acknowledged is None, "an old word that is told again does not come back"


def test_a_pager_says_only_what_pagers_may() -> None:
    with pytest.raises(Rejected, match="there is no verb settle"):
        says(after(*UNKNOWN), "settle", applied=True, note="x", via="pager")


def test_a_pager_is_not_told_what_it_said_itself() -> None:
    paged = [f.Paged(destination=to, key=f"k/{to}", why="") for to in ("first", "second")]
    ledger = after(*paged)
    says(ledger, "ack", "Bob (first)", via="first", word="w")
    told = [
        (m.destination, m.template)
        for writes in ledger.writes
        for m in writes.messages
        if m.template in ("acknowledge", "note")
    ]
    assert sorted(told) == [("second", "acknowledge"), ("second", "note")]


def test_every_verb_is_tried_here() -> None:
    assert set(VERBS) == {
        "ack", "takeover", "done", "settle", "unlock", "restore", "snooze", "escalate", "hold", "cancel", "approve",
        "deny", "note", "override",
    }  # fmt: skip
