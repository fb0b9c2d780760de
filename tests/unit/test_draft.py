"""A transaction in the making: what it reads, what it gives up, and that it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from responder import facts as f
from responder.desk import Shelf
from responder.draft import Draft, Worker, scopes_of
from responder.errors import Rejected
from responder.incident import Due
from responder.recorded import Mode
from responder.records import IncidentRow, Lane, ScopeRow, State, Writes, open_key
from responder.scopes import InForce, Lock, asked_of
from responder.scoping import ScopeChange
from responder.timing import HOUR, MINUTE, SECOND
from tests.builders import T0, a_plan, a_runbook, call_step, fired, intended, opened, rules_of, started, told

BOOK = Shelf(rules_of(a_runbook()), "test")
ONE = Worker("one")
TARGET = "risk-api/kelly_fraction"
KEY = open_key("live", "cut", "risk-api/kelly_fraction")
SCOPES = asked_of("cut", "risk-api/kelly_fraction")


def a_state(*facts: f.Fact | int, owner: str | None = None, lease: int = 0, now: int = T0) -> State:
    """An incident that these facts led to."""
    row = IncidentRow("i1", KEY, told(opened(), fired(), *facts), owner, 1, lease)
    scopes: dict[str, ScopeRow | None] = dict.fromkeys(SCOPES)
    return State(now, incidents={"i1": row}, open_keys={KEY: "i1"}, scopes=scopes)


def test_events_are_numbered_on_and_named_by_their_operation() -> None:
    draft = Draft("op", a_state(), BOOK)
    draft.record("i1", f.Acknowledged(note="x"), "alice")
    draft.record("i1", f.TakenOver(), "alice")
    assert [(e.id, e.seq, e.actor) for e in draft.writes().events] == [("op:0", 3, "alice"), ("op:1", 4, "alice")]


def test_nothing_that_did_not_change_is_written() -> None:
    draft = Draft("op", a_state(), BOOK)
    assert draft.incident("i1").id == "i1"
    assert draft.writes() == Writes()


def test_closing_gives_the_key_free_for_the_next_incident() -> None:
    draft = Draft("op", a_state(), BOOK)
    draft.record("i1", f.Closed(why="over"))
    assert draft.open_incident(KEY) is None
    (row,) = draft.writes().incidents
    assert row.closed


def test_an_incident_that_was_opened_in_this_transaction_is_found() -> None:
    draft = Draft("op", State(T0, open_keys={KEY: None}), BOOK)
    draft.open(opened())
    found = draft.open_incident(KEY)
    assert found is not None
    assert found.id == "i1"


def test_an_unknown_incident_is_refused() -> None:
    with pytest.raises(Rejected, match="there is no incident i9"):
        Draft("op", State(T0, incidents={"i9": None}), BOOK).incident("i9")


def test_a_page_and_the_fact_that_it_was_sent_are_one_transaction() -> None:
    draft = Draft("op", a_state(), BOOK)
    draft.record("i1", f.LevelReached(round=0, index=0, name="L1", page=("first", "second"), why="bad"))
    writes = draft.writes()
    assert [e.fact.kind for e in writes.events] == ["level_reached", "paged", "paged"]
    pages = [m for m in writes.messages if m.lane is Lane.PAGE]
    assert [m.destination for m in pages] == ["first", "second"]
    assert draft.incident("i1").paged == tuple((m.destination, m.order_key) for m in pages)


@pytest.mark.parametrize(
    ("owner", "lease", "worker", "claims"),
    [
        (None, 0, Worker("one"), True),
        ("one", T0 + MINUTE, Worker("one"), True),
        ("two", T0 + MINUTE, Worker("one"), False),
        ("two", T0 - 1, Worker("one"), True),
        ("two", T0 + MINUTE, Worker("one", alone=True), True),
        (None, 0, None, False),
    ],
)
def test_who_may_do_the_work(owner: str | None, lease: int, worker: Worker | None, claims: bool) -> None:
    turn = Draft("op", a_state(owner=owner, lease=lease), BOOK, worker).advance("i1")
    assert (turn.next is not None) is claims
    assert turn.epoch == (2 if claims and owner != "one" else 1)


def test_the_lease_is_never_shortened() -> None:
    draft = Draft("op", a_state(owner="one", lease=T0 + HOUR), BOOK, Worker("one"))
    draft.advance("i1")
    assert draft.row("i1").lease_until == T0 + HOUR


def test_a_dead_owners_open_attempt_is_told_before_anything_else() -> None:
    state = a_state(started(), intended(), owner="two", lease=T0)
    draft = Draft("op", replace_now(state, T0 + SECOND), BOOK, Worker("one"))
    draft.advance("i1")
    assert [e.fact.kind for e in draft.writes().events][:2] == ["owner_changed", "attempt_ended"]


def replace_now(state: State, now: int) -> State:
    return replace(state, now=now)


def test_a_reminder_lives_and_ends_with_its_scope() -> None:
    body = InForce(incident="i1", attempt="a", step="s", target="t", preview="", before=1, value=0, since=T0)
    draft = Draft("op", a_state(), BOOK)
    draft.set_scope(ScopeChange("in_force:t", body, Due(kind="remind", round=0, due=T0 + HOUR)))
    draft.set_scope(ScopeChange("in_force:t", None))
    assert [(t.subject, t.gone) for t in draft.writes().timers] == [
        ("scope:in_force:t", False), ("scope:in_force:t", True),
    ]  # fmt: skip
    assert draft.scope("in_force:t") == ""


def prepared(now: int = T0, worker: Worker = ONE, book: Shelf = BOOK, **run: object) -> list[str]:
    """What a turn records whose next thing is to act."""
    plan = f.Gathered(run=1, plan=a_plan(prepared_at=now), step="cut")
    draft = Draft("op", a_state(started(**run), now - T0, plan, now=now), book, worker)
    draft.advance("i1")
    return [e.fact.kind for e in draft.writes().events]


def test_what_people_are_to_be_told_does_not_wait_for_the_outcome_of_an_attempt() -> None:
    assert prepared() == ["attempt_intended"]
    passed = f"lock:{TARGET}", Lock(incident="i9", run=1, since=T0, unknown=True).model_dump_json()
    book = Shelf(rules_of(a_runbook(brake=True)), "test")
    state = a_state(started(brake=True), f.Gathered(run=1, plan=a_plan(), step="cut"))
    state.scopes[passed[0]] = ScopeRow(*passed, T0)
    draft = Draft("op", state, book, ONE)
    draft.advance("i1")
    kinds = [e.fact.kind for e in draft.writes().events]
    assert kinds == ["attempt_intended", "level_reached", "paged"], "the brake has passed a limit"


def test_a_process_that_stops_intends_nothing() -> None:
    assert prepared(worker=replace(ONE, stopping=True)) == []


def test_set_to_observe_today_a_runbook_starts_no_run_that_acts() -> None:
    observing = rules_of(a_runbook(mode="observe"))
    book = Shelf(replace(observing, hash="h2"), "test", {}, {"h1": BOOK.current})
    draft = Draft("op", a_state(), book, ONE)
    draft.advance("i1")
    (began,) = [e.fact for e in draft.writes().events if isinstance(e.fact, f.RunStarted)]
    assert began.mode is Mode.OBSERVE


def test_bookkeeping_is_no_event() -> None:
    draft = Draft("op", a_state(), BOOK)
    draft.bookkeep("i1", watched_at=T0)
    writes = draft.writes()
    assert (len(writes.incidents), writes.events, writes.messages) == (1, (), ())


def test_what_a_run_asks_for_is_named_beforehand_with_the_services_of_its_steps() -> None:
    runbook = rules_of(a_runbook(steps=[call_step()])).runbooks["cut"]
    named = scopes_of(BOOK, runbook, TARGET)
    assert {"pause:service:risk-api", "changes:service:risk-api", *SCOPES} == named
