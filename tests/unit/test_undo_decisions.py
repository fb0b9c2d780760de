"""What follows when a change was taken back and nobody could read it back (docs/adr/0025)."""

from __future__ import annotations

import pytest

from responder import facts as f
from responder.acting import acting
from responder.recorded import Cause, Outcome, ProbeAnswer, Result, StepStatus
from responder.view import Finish, Next, Tell
from tests.builders import T0, a_runbook, a_view, cut_step, ended, fired, intended, opened, rules_of, started, told

RULES = rules_of(a_runbook(steps=[cut_step(undo={})]), levels=[])


def taken_back(*answers: ProbeAnswer, cause: Cause = Cause.UNDO, status: StepStatus = StepStatus.DONE) -> Next | None:
    """What follows when the only step of such a run has ended so, its probe having given these answers."""
    facts: list[f.Fact] = [opened(), fired(), started(cause=cause, restores="i0.1.cut.1"), intended()]
    facts += [ended(Outcome.OK), *(f.Probed(attempt="i1.1.cut.1", answer=a, detail="looked") for a in answers)]
    facts.append(f.StepEnded(run=1, step="cut", status=status, why="cut"))
    return acting(a_view(told(*facts), RULES, T0))


@pytest.mark.parametrize("answer", [ProbeAnswer.APPLIED, ProbeAnswer.UNCLEAR])
def test_the_check_looks_at_what_was_undone_whether_or_not_it_could_be_read_back(answer: ProbeAnswer) -> None:
    assert taken_back(answer) == Tell(f.Verifying(run=1))


@pytest.mark.parametrize(
    ("answer", "status", "result"),
    [
        (ProbeAnswer.APPLIED, StepStatus.DONE, Result.FIXED),
        (ProbeAnswer.UNCLEAR, StepStatus.UNKNOWN, Result.UNVERIFIED),
        (ProbeAnswer.UNCLEAR, StepStatus.DONE, Result.UNVERIFIED),  # as an older replica calls it
    ],
)
def test_what_a_person_put_back_ends_as_it_was_read_back(
    answer: ProbeAnswer, status: StepStatus, result: Result
) -> None:
    seen = taken_back(answer, cause=Cause.RESTORE, status=status)
    assert seen == Finish(f.RunEnded(run=1, result=result, why="cut"))


def test_the_last_answer_counts() -> None:
    seen = taken_back(ProbeAnswer.UNCLEAR, ProbeAnswer.APPLIED, cause=Cause.RESTORE)
    assert seen == Finish(f.RunEnded(run=1, result=Result.FIXED, why="cut"))


def test_of_several_tries_the_last_one_counts() -> None:
    lost = (ended(Outcome.UNKNOWN), f.Probed(attempt="i1.1.cut.1", answer=ProbeAnswer.NOT_APPLIED, detail="looked"))
    again = (intended(2), ended(Outcome.OK, 2))
    unclear = (ProbeAnswer.UNCLEAR, StepStatus.UNKNOWN, Result.UNVERIFIED)
    older = (ProbeAnswer.UNCLEAR, StepStatus.DONE, Result.UNVERIFIED)
    for answer, status, result in (unclear, older, (ProbeAnswer.APPLIED, StepStatus.DONE, Result.FIXED)):
        seen = f.Probed(attempt="i1.1.cut.2", answer=answer, detail="looked")
        over = f.StepEnded(run=1, step="cut", status=status, why="cut")
        begun = (opened(), fired(), started(cause=Cause.RESTORE, restores="i0.1.cut.1"), intended())
        found = acting(a_view(told(*begun, *lost, *again, seen, over), RULES, T0))
        assert found == Finish(f.RunEnded(run=1, result=result, why="cut"))


def test_what_was_sent_again_with_its_key_and_read_back_was_put_back() -> None:
    """Whether the lost try or the accepted one did it does not matter."""
    tries = (intended(), ended(Outcome.UNKNOWN), intended(2), ended(Outcome.OK, 2))
    seen = f.Probed(attempt="i1.1.cut.2", answer=ProbeAnswer.APPLIED, detail="looked")
    over = f.StepEnded(run=1, step="cut", status=StepStatus.DONE, why="cut")
    begun = (opened(), fired(), started(cause=Cause.RESTORE, restores="i0.1.cut.1"))
    found = acting(a_view(told(*begun, *tries, seen, over), RULES, T0))
    assert found == Finish(f.RunEnded(run=1, result=Result.FIXED, why="cut"))


def test_one_try_that_was_lost_is_enough_for_a_doubt() -> None:
    """That the service has accepted another one says nothing about it."""
    tries = (intended(), ended(Outcome.UNKNOWN), intended(2), ended(Outcome.OK, 2))
    asked = (f.Probed(attempt=f"i1.1.cut.{number}", answer=ProbeAnswer.UNCLEAR, detail="looked") for number in (1, 2))
    over = f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN, why="cut")
    begun = (opened(), fired(), started(cause=Cause.RESTORE, restores="i0.1.cut.1"))
    found = acting(a_view(told(*begun, *tries, *asked, over), RULES, T0))
    assert found == Finish(f.RunEnded(run=1, result=Result.UNKNOWN, why="cut"))
