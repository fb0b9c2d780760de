"""The engine's transactions over a store's memory: who may write, and what counts once."""

from __future__ import annotations

import pytest

from responder import facts as f
from responder.desk import Shelf
from responder.draft import Draft, Intended, Turn, UnknownRules, Worker
from responder.errors import Rejected
from responder.incident import Due
from responder.operations import Ended, Learned, Postpone, Readings, Remind, Report, Tick, Touch
from responder.recorded import EvidenceItem, Observation, Outcome
from responder.records import Change, Keys, ScopeRow, State
from responder.scopes import InForce
from responder.timing import MINUTE, SECOND
from responder.view import Gather
from tests.builders import Ledger, a_plan, a_runbook, cut_step, fired, opened, rules_of

BOOK = Shelf(rules_of(a_runbook(steps=[cut_step(retry={"attempts": 2, "first": "5s"})])), "test")
ONE, TWO = Worker("one"), Worker("two")


class Opens:
    """An incident begins."""

    id = "open"

    def __init__(self, by: Worker | None) -> None:
        self.by = by

    def reads(self) -> Keys:
        return Keys()

    def apply(self, state: State) -> Change[Turn]:
        draft = Draft(self.id, state, BOOK, self.by)
        draft.open(opened())
        draft.record("i1", fired())
        turn = draft.advance("i1")
        return Change(draft.writes(), turn)


def begun(by: Worker | None = ONE) -> tuple[Ledger, Turn]:
    ledger = Ledger()
    return ledger, ledger.do(Opens(by))


def reported(ledger: Ledger, turn: Turn, by: Worker = ONE, **learned: object) -> Turn:
    assert isinstance(turn.next, Gather)
    known = Learned(**learned) if learned else Learned(plan=a_plan(prepared_at=ledger.state.now))  # type: ignore[arg-type]
    done: Turn = ledger.do(Report(f"r{len(ledger.writes)}", "i1", turn.next, known, turn.epoch, BOOK, by))
    return done


def outcome(ledger: Ledger, doing: Intended, ended: Outcome = Outcome.OK, by: Worker = ONE) -> Turn:
    name = f"e{len(ledger.writes)}"
    done: Turn = ledger.do(Ended(name, "i1", doing.attempt, ended, "said", None, doing.epoch, BOOK, by))
    return done


def intent(ledger: Ledger, turn: Turn) -> Intended:
    found = reported(ledger, turn).next
    assert isinstance(found, Intended)
    return found


def test_the_intent_is_written_before_anybody_may_act() -> None:
    ledger, turn = begun()
    doing = intent(ledger, turn)
    assert "attempt_intended" in [e.fact.kind for e in ledger.writes[-1].events]
    assert doing.deadline == ledger.state.now + doing.timeout
    row = ledger.state.incidents["i1"]
    assert row is not None
    assert (row.owner, row.lease_until >= doing.deadline + 2 * SECOND) == ("one", True)


def test_a_transaction_without_a_worker_claims_nothing() -> None:
    ledger, turn = begun(None)
    assert turn.next is None
    assert ledger.incident().agenda[-1].kind == "work"
    assert isinstance(ledger.do(Tick("t", "i1", BOOK, ONE)).next, Gather)


def test_while_the_lease_holds_nobody_else_gets_the_work() -> None:
    ledger, _ = begun()
    assert ledger.do(Tick("t1", "i1", BOOK, TWO)).next is None
    ledger.after(16 * SECOND)
    taken = ledger.do(Tick("t2", "i1", BOOK, TWO))
    assert isinstance(taken.next, Gather)
    assert taken.epoch == 2


def test_a_replaced_owner_changes_nothing() -> None:
    ledger, turn = begun()
    doing = intent(ledger, turn)
    ledger.after(MINUTE)
    taken = ledger.do(Tick("t", "i1", BOOK, TWO))
    assert "owner_changed" in ledger.kinds
    assert isinstance(taken.next, Gather)
    assert taken.next.probe == doing.attempt
    before = ledger.kinds
    with pytest.raises(Rejected, match="taken over by two"):
        outcome(ledger, doing)
    assert ledger.kinds == before


def test_an_outcome_counts_once() -> None:
    ledger, turn = begun()
    doing = intent(ledger, turn)
    outcome(ledger, doing)
    outcome(ledger, doing, Outcome.PERMANENT)
    assert ledger.kinds.count("attempt_ended") == 1
    assert ledger.incident().runs[0].attempts[0].outcome is Outcome.OK


def test_a_retry_waits_longer_when_the_service_says_so() -> None:
    ledger, turn = begun()
    doing = intent(ledger, turn)
    later = Ended("e", "i1", doing.attempt, Outcome.TEMPORARY, "429", None, doing.epoch, BOOK, ONE, 30 * SECOND)
    ledger.do(later)
    assert ledger.incident().runs[0].steps[0].retry_at == ledger.state.now + 30 * SECOND


def test_a_preparation_may_be_tried_again() -> None:
    ledger, turn = begun()
    reported(ledger, turn, failed="down", retry=True)
    step = ledger.incident().runs[0].steps[0]
    assert (step.status.value, step.tries, step.retry_at) == ("pending", 1, ledger.state.now + 5 * SECOND)
    ledger.after(5 * SECOND)
    again = ledger.do(Tick("t", "i1", BOOK, ONE))
    reported(ledger, again, failed="down", retry=True)
    assert ledger.incident().runs[0].result is not None


@pytest.mark.parametrize(("asked", "waits"), [(30 * SECOND, 30), (2 * SECOND, 5), (None, 5)])
def test_a_preparation_waits_as_long_as_the_service_asks(asked: int | None, waits: int) -> None:
    ledger, turn = begun()
    reported(ledger, turn, failed="429", retry=True, retry_after=asked)
    assert ledger.incident().runs[0].steps[0].retry_at == ledger.state.now + waits * SECOND


def test_answers_to_what_is_over_are_nobodys() -> None:
    ledger, turn = begun()
    doing = intent(ledger, turn)
    before = ledger.kinds
    reported(ledger, turn)
    assert ledger.kinds == before, "the intent has been made: another plan is not wanted"
    assert doing.attempt == ledger.incident().runs[0].attempts[0].id


def test_a_poll_that_changes_nothing_is_no_event() -> None:
    ledger, turn = begun()
    turn = outcome(ledger, intent(ledger, turn))
    for _ in range(4):
        seen = Observation(check="risk", value=2.0, observed_at=ledger.state.now, asked_at=ledger.state.now)
        reported(ledger, turn, observations=(seen,))
        ledger.after(5 * SECOND)
        turn = ledger.do(Tick(f"t{len(ledger.writes)}", "i1", BOOK, ONE))
    assert ledger.kinds.count("gathered") == 2  # the plan, and the first poll


def test_evidence_that_comes_twice_is_told_once() -> None:
    ledger, _ = begun()
    for number in range(2):
        ledger.do(Readings(f"x{number}", "i1", 1, (EvidenceItem(title="edge", value=1),), BOOK))
    assert ledger.kinds.count("evidence_gathered") == 1


def test_a_reminder_of_what_was_put_back_ends() -> None:
    ledger, _ = begun()
    ledger.do(Remind("m", "in_force:risk-api/kelly_fraction", BOOK))
    (row,) = ledger.writes[-1].timers
    assert (row.gone, "restore_reminded" in ledger.kinds) == (True, False)


def in_force(ledger: Ledger, remind: int | None) -> str:
    """A change in force whose attempt is not among those that are remembered."""
    name = "in_force:risk-api/kelly_fraction"
    body = InForce(incident="i1", attempt="long ago", step="cut", target="risk-api/kelly_fraction", preview="cut",
                   before=0.25, value=0.1, since=ledger.state.now, remind=remind)  # fmt: skip
    ledger.state.scopes[name] = ScopeRow(name, body.model_dump_json(), ledger.state.now)
    return name


@pytest.mark.parametrize("remind", [MINUTE, None])
def test_a_reminder_comes_again_whatever_the_incident_remembers(remind: int | None) -> None:
    ledger, _ = begun()
    name = in_force(ledger, remind)
    ledger.do(Remind("m", name, BOOK))
    assert ledger.kinds.count("restore_reminded") == 1
    (row,) = [t for t in ledger.writes[-1].timers if t.subject == f"scope:{name}"]
    assert (row.gone, row.due.due) == ((True, 0) if remind is None else (False, ledger.state.now + MINUTE))


def test_what_could_not_be_looked_at_is_looked_at_later() -> None:
    ledger = Ledger()
    dues = (Due(kind="watch", round=0, due=1, work=True), Due(kind="level", round=1, due=2))
    ledger.do(Postpone("p", "i1", dues, 77))
    rows = ledger.writes[-1].timers
    assert [(r.subject, r.due.kind, r.due.round, r.due.due, r.due.work, r.gone) for r in rows] == [
        ("i1", "watch", 0, 77, True, False),
        ("i1", "level", 1, 77, False, False),
    ]


def test_a_touch_writes_something_that_means_nothing() -> None:
    ledger = Ledger()
    ledger.do(Touch("t"))
    (writes,) = ledger.writes
    assert [(row.name, row.body) for row in writes.scopes] == [("store:touched", "")]
    assert (writes.events, writes.incidents, writes.timers) == ((), (), ())


@pytest.mark.parametrize(("pause", "anew"), [(20, False), (120, True)])
def test_a_long_pause_between_two_polls_restarts_holding(pause: int, anew: bool) -> None:
    ledger, turn = begun()
    turn = outcome(ledger, intent(ledger, turn))
    for wait in (0, pause):
        ledger.after(wait * SECOND)
        now = ledger.state.now
        turn = ledger.do(Tick(f"t{len(ledger.writes)}", "i1", BOOK, ONE)) if wait else turn
        seen = Observation(check="risk", value=2.0, observed_at=now, asked_at=now)
        reported(ledger, turn, observations=(seen,))
    polls = [e.fact for w in ledger.writes for e in w.events if isinstance(e.fact, f.Gathered) and e.fact.observations]
    assert [poll.anew for poll in polls] == ([False, True] if anew else [False])


def test_rules_that_are_not_in_memory_are_asked_for() -> None:
    ledger, _ = begun()
    other = Shelf(rules_of(a_runbook()), "test").replaced(rules_of(a_runbook()), {})
    away = Shelf(other.current.__class__("h2", {}, BOOK.current.policies, {}, "ladder"), "test")
    with pytest.raises(UnknownRules) as missing:
        ledger.do(Tick("t", "i1", away, ONE))
    assert missing.value.rules_hash == "h1"


def test_an_incident_that_is_gone_is_refused_with_a_cure() -> None:
    with pytest.raises(Rejected, match="responder incidents"):
        Ledger().do(Tick("t", "none", BOOK, ONE))


def test_what_follows_is_recorded_with_its_fact() -> None:
    ledger, _ = begun()
    (first,) = ledger.writes
    assert [e.fact.kind for e in first.events] == ["opened", "alert_fired", "run_started"]
    assert [e.seq for e in first.events] == [1, 2, 3]
    assert all(e.id.startswith("open:") for e in first.events)
    assert {m.destination for m in (*first.messages, *first.renewed)} == {"room"}
