"""A destination that is down is tried by one message at a time; one that asked to be left alone, by none."""

from __future__ import annotations

from responder.engine.outages import FAILED_FROM, LONGEST, Outages
from responder.timing import HOUR, SECOND
from tests.builders import T0


def down(failures: int = FAILED_FROM) -> Outages:
    outages = Outages()
    for _ in range(failures):
        until = outages.held(T0).get("pager", T0)
        outages.failed("pager", until)
    return outages


def test_a_few_failures_hold_nothing_back() -> None:
    outages = down(FAILED_FROM - 1)
    outages.begins("pager", "m1")
    assert outages.held(T0) == {}
    assert not outages.tries_another("pager")


def test_one_that_is_down_is_left_alone_longer_and_longer() -> None:
    waits = []
    outages, now = down(), T0
    for _ in range(8):
        until = outages.held(now)["pager"]
        waits.append((until - now) // SECOND)
        assert outages.held(until) == {}
        now = until
        outages.failed("pager", now)
    assert waits == [1, 2, 4, 8, 15, 15, 15, 15]
    assert LONGEST == 15 * SECOND


def test_what_began_before_it_was_known_counts_once() -> None:
    outages = down()
    before = outages.held(T0)
    for _ in range(30):
        outages.failed("pager", T0)
    assert outages.held(T0) == before


def test_one_message_at_a_time_tries() -> None:
    outages = down()
    outages.begins("pager", "m1")
    assert outages.tries_another("pager")
    assert not outages.tries_another("chat")
    outages.ended("pager", "m2")
    assert outages.tries_another("pager")
    outages.ended("pager", "m1")
    assert not outages.tries_another("pager")


def test_one_that_worked_is_there_for_all() -> None:
    outages = down()
    outages.worked("pager")
    assert outages.held(T0) == {}
    outages.begins("pager", "m1")
    assert not outages.tries_another("pager")
    outages.failed("pager", T0)
    assert outages.held(T0) == {}


def test_what_a_destination_asked_for_outlasts_a_message_that_it_took() -> None:
    outages = down()
    outages.asked_to_wait("pager", T0 + HOUR)
    outages.asked_to_wait("pager", T0 + SECOND)
    outages.worked("pager")
    assert outages.held(T0) == {"pager": T0 + HOUR}
    assert outages.held(T0 + HOUR) == {}
