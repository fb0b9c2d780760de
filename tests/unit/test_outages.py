"""A destination that is down is tried by one message at a time; one that asked to be left alone, by none."""

from __future__ import annotations

from responder.engine.outages import FAILED_FROM, LONGEST, PATIENCE, Outages
from responder.records import Lane, MessageRow
from responder.timing import HOUR, MINUTE, SECOND
from tests.builders import T0


def a_page(name: str, template: str = "page") -> MessageRow:
    return MessageRow(
        id=name, incident="i1", event_seq=1, destination="pager", lane=Lane.PAGE, template=template, order_key=name,
        rank=1, created_at=T0, next_at=T0,
    )  # fmt: skip


def down(failures: int = FAILED_FROM) -> Outages:
    outages = Outages()
    for _ in range(failures):
        until = max(T0, outages.held_until("pager"))
        outages.failed(a_page("m1"), until)
    return outages


def test_a_few_failures_hold_nothing_back() -> None:
    outages = down(FAILED_FROM - 1)
    outages.begins(a_page("m1"))
    assert outages.held(T0) == set()
    assert not outages.is_held("pager", T0)
    assert outages.next_try(T0) is None


def test_one_that_is_down_is_left_alone_longer_and_longer() -> None:
    waits = []
    outages, now = down(), T0
    for _ in range(8):
        until = outages.held_until("pager")
        waits.append((until - now) // SECOND)
        assert (outages.next_try(now), outages.next_try(until)) == (until, None)
        assert (outages.is_held("pager", until - 1), outages.is_held("pager", until)) == (True, False)
        assert outages.held(until) == set()
        now = until
        outages.failed(a_page("m1"), now)
    assert waits == [1, 2, 4, 8, 15, 15, 15, 15]
    assert LONGEST == 15 * SECOND


def test_what_began_before_it_was_known_counts_once() -> None:
    outages = down()
    before = outages.held_until("pager")
    for _ in range(30):
        outages.failed(a_page("m1"), T0)
    assert outages.held_until("pager") == before


def test_one_message_at_a_time_tries() -> None:
    outages = down()
    outages.begins(a_page("m1"))
    assert outages.is_held("pager", T0 + HOUR)
    assert outages.held(T0 + HOUR) == {"pager"}, "who waits is looked for among them all"
    assert not outages.is_held("chat", T0 + HOUR)
    outages.ended(a_page("m2"))
    assert outages.is_held("pager", T0 + HOUR)
    outages.ended(a_page("m1"))
    assert not outages.is_held("pager", T0 + HOUR)


def test_one_that_worked_is_there_for_all() -> None:
    outages = down()
    outages.worked(a_page("m1"))
    assert outages.held(T0) == set()
    outages.begins(a_page("m1"))
    assert not outages.is_held("pager", T0)
    outages.failed(a_page("m1"), T0)
    assert outages.held(T0) == set()


def test_what_a_destination_asked_for_outlasts_a_message_that_it_took() -> None:
    outages = down()
    outages.asked_to_wait("pager", T0 + HOUR)
    outages.asked_to_wait("pager", T0 + SECOND)
    outages.worked(a_page("m1"))
    assert outages.held(T0) == {"pager"}
    assert outages.held_until("pager") == T0 + HOUR
    assert outages.held(T0 + HOUR) == set()


def test_a_note_that_cannot_be_written_says_nothing_of_pages() -> None:
    outages = Outages()
    for _ in range(10):
        outages.failed(a_page("n1", "note"), T0)
    assert outages.held(T0) == set()
    outages = down()
    outages.begins(a_page("n1", "note"))
    assert not outages.is_held("pager", T0 + HOUR)
    outages.worked(a_page("n1", "note"))
    assert outages.down("pager")


def test_a_page_waits_for_a_minute_and_less_where_it_is_known_that_nothing_comes_of_it() -> None:
    page = a_page("m1")
    assert Outages().patience_ends(page) == T0 + MINUTE
    assert down(FAILED_FROM - 1).patience_ends(page) == T0 + MINUTE
    assert down().patience_ends(page) == T0 + PATIENCE == T0 + 45 * SECOND
    asked = Outages()
    asked.asked_to_wait("pager", T0 + MINUTE - 1)
    assert asked.patience_ends(page) == T0 + MINUTE
    asked.asked_to_wait("pager", T0 + MINUTE)
    assert asked.patience_ends(page) == T0, "it will have waited for its minute by then, whatever happens"
