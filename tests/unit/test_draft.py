"""A transaction in the making: what it reads, what it gives up, and that it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from responder import facts as f
from responder.desk import Shelf
from responder.draft import Draft, Worker
from responder.errors import Rejected
from responder.incident import Due
from responder.records import IncidentRow, Lane, ScopeRow, State, Writes, open_key
from responder.scopes import InForce
from responder.scoping import ScopeChange
from responder.timing import HOUR, MINUTE, SECOND
from tests.builders import T0, a_runbook, fired, intended, opened, rules_of, started, told

BOOK = Shelf(rules_of(a_runbook()), "test")
KEY = open_key("live", "cut", "risk-api/kelly_fraction")
SCOPES = ("pause:global", "runs:cut|risk-api/kelly_fraction", "lock:risk-api/kelly_fraction")


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


def test_bookkeeping_is_no_event() -> None:
    draft = Draft("op", a_state(), BOOK)
    draft.bookkeep("i1", watched_at=T0)
    writes = draft.writes()
    assert (len(writes.incidents), writes.events, writes.messages) == (1, (), ())
