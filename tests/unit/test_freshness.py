"""What must be asked before a step is judged: what is not known, and what was learned too long ago."""

from __future__ import annotations

from typing import Any

import pytest

from responder import facts as f
from responder.freshness import named, needed, outdated, outlived, unread
from responder.guards import GATHERED_MAX_AGE
from responder.incident import Incident
from responder.recorded import AlertsSeen, Cause, Observation
from responder.timing import SECOND
from responder.view import Gather, View
from tests.builders import T0, a_plan, a_runbook, a_view, call_step, fired, intended, opened, rules_of, started, told

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


# --- what a step names ------------------------------------------------------------------------------------------------

BOTH = {**CHECKS, "load": {**CHECKS["risk"], "max_age": "30s"}, "harm": CHECKS["risk"]}
VERIFY = {"check": "harm", "expect": "value < 1", "within": "1m", "harmful": "value > 2"}
WHEN = call_step("cut", when="checks.load > 0")


def names(incident: Incident, at: int = 0, step: dict[str, Any] = WHEN) -> Gather | None:
    rules = rules_of(a_runbook(only_if=ONLY, checks=BOTH, steps=[step], verify=VERIFY))
    runbook = rules.runbooks["cut"]
    return named(a_view(incident, rules, T0 + at), incident.runs[0], runbook, runbook.steps[0])


def load(**changes: Any) -> Observation:
    return seen().model_copy(update={"check": "load", **changes})


def test_what_a_step_names_is_asked_first_and_alone() -> None:
    assert names(begun()) == Gather(runbook="cut", rules_hash="h1", run=1, checks=("load",))
    assert names(begun(), step=call_step("cut")) is None
    before = begun(f.Gathered(run=1, observations=(load(),)))
    assert names(before) is None
    assert names(before, GATHERED_MAX_AGE + 1) == Gather(runbook="cut", rules_hash="h1", run=1, checks=("load",))


def test_a_person_is_asked_after_harm_can_be_measured() -> None:
    step = {"id": "cut", "manual": "The load is {{ checks.load }}"}
    assert names(begun(), step=step) == Gather(runbook="cut", rules_hash="h1", run=1, checks=("load", "harm"))


def test_once_the_change_is_prepared_everything_is_read_together() -> None:
    old = load(observed_at=T0 - 15 * SECOND)
    incident = begun(f.Gathered(run=1, observations=(old,)), 10 * SECOND, gathered(seen()))
    assert names(incident, 15 * SECOND) is None
    together = Gather(runbook="cut", rules_hash="h1", run=1, checks=("load", "risk", "harm"), alerts=True)
    assert names(incident, 15 * SECOND + 1) == together
    by_person = begun(f.Gathered(run=1, observations=(old,)), gathered(seen()), cause=Cause.PERSON)
    found = names(by_person, 15 * SECOND + 1)
    assert found is not None
    assert (found.checks, found.alerts) == (("load", "risk", "harm"), False)
    other = begun(f.Gathered(run=1, observations=(old,)), gathered(seen(), step="other"))
    assert names(other, 15 * SECOND + 1) == Gather(runbook="cut", rules_hash="h1", run=1, checks=("load",))


# --- what is asked in vain --------------------------------------------------------------------------------------------


def test_after_ten_rounds_it_is_asked_no_more() -> None:
    runbook = rules_of(a_runbook(only_if=ONLY, checks=BOTH, steps=[WHEN], verify=VERIFY)).runbooks["cut"]
    run = begun(*[gathered(seen())] * 9).runs[0]
    checks = Gather(runbook="cut", rules_hash="h1", run=1, checks=("load", "risk"))
    assert outlived(run, runbook, checks) is None
    run = begun(*[gathered(seen())] * 10).runs[0]
    why = "was too old again when everything else was known, 10 times: give it more time or ask less"
    assert outlived(run, runbook, checks) == f"check load (max_age 30s), check risk (max_age 20s) {why}"
    assert outlived(run, runbook, Gather(runbook="cut", rules_hash="h1", run=1)) == f"what was learned {why}"


WAITS = f.Waiting(run=1, step="cut", verdicts=(), until=T0 + 60 * SECOND)


@pytest.mark.parametrize(
    ("facts", "rounds"),
    [
        ((gathered(seen()), gathered(seen())), 2),
        ((gathered(seen()), WAITS), 0),
        ((WAITS, gathered(seen(), step=None, plan=None), gathered(seen(), step=None, plan=None)), 0),
        ((WAITS, gathered(seen()), gathered(seen())), 1),
        ((gathered(seen()), intended()), 0),
        ((gathered(seen()), f.StepSkipped(run=1, step="cut", why="")), 0),
        ((f.Verifying(run=1), gathered(seen(), step=None, plan=None)), 0),
    ],
)
def test_rounds_are_counted_as_long_as_nothing_else_happens_and_not_while_it_waits(
    facts: tuple[f.Fact, ...], rounds: int
) -> None:
    assert begun(*facts).runs[0].rounds == rounds
