"""What must be asked before a step is judged: what is not known, and what was learned too long ago."""

from __future__ import annotations

from typing import Any

import pytest

from responder import facts as f
from responder.freshness import needed, outdated, unread
from responder.guards import GATHERED_MAX_AGE
from responder.incident import Incident
from responder.recorded import AlertsSeen, Cause, Observation
from responder.timing import SECOND
from responder.view import Gather, View
from tests.builders import T0, a_plan, a_runbook, a_view, call_step, fired, opened, rules_of, started, told

ONLY = {"check": "risk", "expect": "value > 1"}
CHECKS = {"risk": {"action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}, "max_age": "20s"}}
RULES = rules_of(a_runbook(only_if=ONLY, checks=CHECKS, steps=[call_step("cut")]))


def seen(age: int = 0, came: int = 0, error: str | None = None) -> Observation:
    """An answer that came in `came` µs after T0 with a sample that was `age` µs old."""
    at = T0 + came
    return Observation(check="risk", value=2.0, observed_at=at - age, asked_at=at, error=error)


def gathered(sample: Observation, asked_at: int = 0, **more: Any) -> f.Gathered:
    """Everything that a step wants, in one answer; the Alertmanagers were asked `asked_at` µs after T0."""
    alerts = AlertsSeen(observed_at=T0 + asked_at, asked=1)
    return f.Gathered(run=1, observations=(sample,), **{"plan": a_plan(), "step": "cut", "alerts": alerts, **more})


def view(incident: Incident, at: int) -> View:
    return a_view(incident, RULES, T0 + at)


def asked(incident: Incident, at: int) -> Gather | None:
    runbook = RULES.runbooks["cut"]
    return needed(view(incident, at), incident.runs[0], runbook, runbook.steps[0])


def begun(*facts: f.Fact | int, cause: Cause = Cause.ALERT) -> Incident:
    return told(opened(), fired(), started(cause=cause), *facts)


def test_at_first_everything_is_asked() -> None:
    assert asked(begun(), 0) == Gather(runbook="cut", rules_hash="h1", run=1, step="cut", checks=("risk",), alerts=True)
    by_hand = asked(begun(cause=Cause.PERSON), 0)
    assert by_hand is not None
    assert not by_hand.alerts


def test_what_is_recent_is_not_asked_again() -> None:
    assert asked(begun(gathered(seen())), 20 * SECOND) is None


def test_the_alertmanagers_alone_are_asked_again_when_only_their_word_is_old() -> None:
    slow = begun(15 * SECOND, gathered(seen(came=15 * SECOND)))
    assert asked(slow, GATHERED_MAX_AGE) is None
    again = asked(slow, GATHERED_MAX_AGE + 1)
    assert again is not None
    assert (again.step, again.checks, again.alerts) == (None, (), True)
    runbook, run = RULES.runbooks["cut"], slow.runs[0]
    assert not outdated(view(slow, GATHERED_MAX_AGE), run, runbook)
    assert outdated(view(slow, GATHERED_MAX_AGE + 1), run, runbook)
    assert not outdated(view(slow, GATHERED_MAX_AGE + 1), run.model_copy(update={"alerts": None}), runbook)
    assert not outdated(view(slow, GATHERED_MAX_AGE + 1), run.model_copy(update={"cause": Cause.PERSON}), runbook)


@pytest.mark.parametrize(
    ("sample", "at", "again"),
    [
        (seen(), 20 * SECOND, False),
        (seen(), 20 * SECOND + 1, True),
        (seen(age=15 * SECOND), 5 * SECOND, False),
        (seen(age=15 * SECOND), 5 * SECOND + 1, True),
        (seen(age=20 * SECOND + 1), 5 * SECOND, False),
        (seen(error="no data"), 25 * SECOND, False),
        (seen(error="no data"), GATHERED_MAX_AGE, False),
        (seen(error="no data"), GATHERED_MAX_AGE + 1, True),
    ],
)
def test_a_check_is_read_again_when_its_sample_became_too_old_since_it_came_in(
    sample: Observation, at: int, again: bool
) -> None:
    """One that came in too old is not asked for ever: its gate says why."""
    incident = begun(gathered(sample))
    found = unread(view(incident, at), incident.runs[0], RULES.runbooks["cut"], ("risk",))
    assert found == (("risk",) if again else ())


def test_an_answer_from_before_the_clock_was_set_back_is_asked_for_again() -> None:
    incident = begun(10 * SECOND, gathered(seen(came=10 * SECOND), asked_at=10 * SECOND))
    again = asked(incident, 0)
    assert again is not None
    assert (again.step, again.checks, again.alerts) == ("cut", ("risk",), True)
