"""What a person's word about a run's hours lets begin: the run that they held back goes on, any other begins anew."""

from __future__ import annotations

import pytest

from responder import facts as f
from responder.decide import decide
from responder.recorded import Answer, Cause, Outcome, Result, Verdict
from responder.timing import HOUR, MINUTE
from responder.view import Tell
from tests.builders import T0, a_runbook, a_view, ended, fired, intended, opened, rules_of, started, told

OPENED: tuple[f.Fact, ...] = (opened(), fired())
SHUT = Verdict(gate="calendar", answer=Answer.DENY, reason="it is closed")
SAID = f.CalendarOverridden(runbook="cut", until=T0 + 12 * HOUR, hours="it is closed", note="agreed")
"""By a person, until long after."""


def refused(verdict: Verdict = SHUT, run: int = 1) -> tuple[f.Fact, ...]:
    """The gate's word, and with it the end of the run."""
    said = f.Refused(run=run, step="cut", verdicts=(verdict,), urgent=False)
    return said, f.RunEnded(run=run, result=Result.CANCELLED, why="refused: it is closed")


def begins(*facts: f.Fact | int, **changes: object) -> Cause | None:
    """The cause of the run that begins; None when none does."""
    rules = rules_of(a_runbook(), levels=[])
    incident = told(*OPENED, *facts).model_copy(update=changes)
    found = decide(a_view(incident, rules, T0 + MINUTE))
    return found.fact.cause if isinstance(found, Tell) and isinstance(found.fact, f.RunStarted) else None


def test_what_its_hours_held_back_goes_on_and_is_no_relapse() -> None:
    assert begins(started(), *refused()) is None, "nobody has said anything"
    assert begins(started(), *refused(), SAID) is Cause.ALERT, "in the same microsecond, too"
    assert begins(started(), *refused(), 1, SAID) is Cause.ALERT


def test_the_word_about_the_last_run_counts_and_not_one_of_before() -> None:
    """The state says that something is to begin; which cause it has follows from the run that was before."""
    again = started(number=2, cause=Cause.RELAPSE)
    relapsed = f.Relapsed(why="it fired again")
    assert begins(started(), *refused(), 1, SAID, again, *refused(run=2), 1, SAID) is Cause.ALERT
    assert begins(started(), SAID, 1, *refused(), relapsed) is Cause.RELAPSE, "said before the run was over"
    assert begins(started(), *refused(), relapsed) is Cause.RELAPSE, "nobody has let it act"
    fixed = f.RunEnded(run=2, result=Result.FIXED, why="")
    assert begins(started(), *refused(), 1, again, fixed, 1, SAID, relapsed) is Cause.RELAPSE, "the last was not held"
    used = told(*OPENED, started(), *refused(), 1, SAID).override
    assert used is not None
    spent = used.model_copy(update={"run": 1})
    assert begins(started(), *refused(), 1, SAID, override=spent) is Cause.RELAPSE, "a run has acted by it already"


@pytest.mark.parametrize(
    "verdict",
    [SHUT.model_copy(update={"gate": "budget"}), SHUT.model_copy(update={"answer": Answer.WAIT, "until": T0})],
    ids=["another gate", "it waited"],
)
def test_what_something_else_held_back_is_a_relapse(verdict: Verdict) -> None:
    assert begins(started(), *refused(verdict), SAID, f.Relapsed(why="it fired again")) is Cause.RELAPSE


def test_what_has_acted_is_a_relapse() -> None:
    acted = (started(), intended(), ended(Outcome.PERMANENT), *refused())
    assert begins(*acted, SAID, f.Relapsed(why="it fired again")) is Cause.RELAPSE
