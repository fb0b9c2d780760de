"""When a service gets no more changes, and how it gets them again."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from responder.circuit_breakers import Breaker, CircuitBreaker
from responder.timing import SECOND

HELD = 30 * SECOND


def a_breaker(failures: int = 3) -> Breaker:
    """It opens after so many failures in a row, for half a minute."""
    return Breaker(CircuitBreaker.model_validate({"failures": failures, "open_for": "30s"}))


def opened(failures: int = 3, at: int = 0) -> Breaker:
    """One that has just opened."""
    breaker = a_breaker(failures)
    for _ in range(failures):
        breaker.ended(answered=False, now=at)
    return breaker


def test_failures_in_a_row_hold_back_what_follows_for_a_while() -> None:
    breaker = a_breaker()
    for count in range(3):
        assert breaker.waits(10) == 0, count
        breaker.ended(answered=False, now=10)
    assert breaker.waits(10) == HELD
    assert breaker.waits(10 + SECOND) == HELD - SECOND
    assert breaker.waits(9 + HELD) == 1
    assert breaker.waits(10 + HELD) == 0


def test_an_answer_in_between_counts_them_anew() -> None:
    breaker = a_breaker()
    for answered in (False, False, True, False, False):
        breaker.ended(answered=answered, now=0)
    assert breaker.waits(0) == 0
    breaker.ended(answered=False, now=0)
    assert breaker.waits(0) == HELD


def test_after_that_one_is_sent_and_the_others_wait_for_its_end() -> None:
    breaker = opened()
    assert breaker.waits(HELD) == 0
    assert breaker.waits(HELD) == HELD, "one is under way"
    breaker.ended(answered=True, now=HELD)
    assert breaker.waits(HELD) == breaker.waits(HELD) == 0


def test_one_that_fails_again_holds_the_others_back_at_once() -> None:
    breaker = opened()
    assert breaker.waits(HELD) == 0
    breaker.ended(answered=False, now=HELD + SECOND)
    assert breaker.waits(HELD + SECOND) == HELD
    assert breaker.waits(2 * HELD + SECOND) == 0
    assert breaker.waits(2 * HELD + SECOND) == HELD


def test_one_that_was_not_sent_after_all_says_nothing() -> None:
    breaker = opened()
    assert breaker.waits(HELD) == 0
    breaker.dropped()
    assert breaker.waits(HELD) == 0, "the next one is tried instead"
    breaker.ended(answered=False, now=HELD)
    assert breaker.waits(HELD) == HELD


def test_an_answer_of_before_ends_it() -> None:
    """Two were under way when it opened; the second was answered."""
    breaker = opened()
    breaker.ended(answered=True, now=SECOND)
    assert breaker.waits(SECOND) == 0
    breaker.ended(answered=False, now=SECOND)
    assert breaker.waits(SECOND) == 0, "it counts from the beginning"


def test_one_failure_is_enough_where_that_is_said() -> None:
    assert opened(1).waits(0) == HELD


@pytest.mark.parametrize("failures", [0, 1001])
def test_how_many_are_within_bounds(failures: int) -> None:
    with pytest.raises(ValidationError):
        CircuitBreaker.model_validate({"failures": failures})
    assert (CircuitBreaker().failures, CircuitBreaker().open_for) == (5, HELD)
