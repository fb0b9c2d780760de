"""What is next, from a state and the time alone: the order of the rules, and starting runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from responder import facts as f
from responder.decide import decide, people
from responder.recorded import Cause, Effect, Mode, Observation, Outcome, Plan, ProbeAnswer, Result, StepStatus
from responder.timing import MINUTE, SECOND
from responder.view import Finish, Gather, Tell, WaitUntil
from tests.builders import T0, a_runbook, a_view, ended, fired, intended, opened, rules_of, started, told

RULES = rules_of(a_runbook())
PROMISES = rules_of(
    a_runbook(unless_fixed={"5m": {"run": "halt", "page": "boss", "countdown": "1m"}}),
    a_runbook(runbook="halt", match=(), target="trading", brake=True),
)
L1 = f.LevelReached(round=0, index=0, name="L1", page=("first",), why="")
INEFFECTIVE = f.RunEnded(run=1, result=Result.INEFFECTIVE, why="no")


def test_an_alert_with_a_runbook_starts_a_run() -> None:
    found = decide(a_view(told(opened(), fired()), RULES, T0))
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.RunStarted)
    assert (found.fact.cause, found.fact.mode, found.fact.steps) == (Cause.ALERT, Mode.AUTO, ("cut",))


def test_the_ceiling_and_the_namespace_take_the_smaller_mode() -> None:
    lower = replace(a_view(told(opened(), fired()), RULES, T0), ceiling=Mode.OBSERVE)
    replayed = a_view(told(opened(namespace="replay"), fired()), RULES, T0)
    for view in (lower, replayed):
        found = decide(view)
        assert isinstance(found, Tell)
        assert isinstance(found.fact, f.RunStarted)
        assert found.fact.mode is Mode.OBSERVE


def test_a_problem_of_its_alert_starts_nothing() -> None:
    incident = told(opened(runbook=None), fired(), f.ProblemFound(problem="two runbooks", urgent=False))
    assert decide(a_view(incident, RULES, T0)) == WaitUntil()


def test_rules_that_cannot_be_read_end_the_run_and_do_nothing() -> None:
    found = decide(a_view(told(opened(rules_hash="gone"), fired(), started(rules_hash="gone")), RULES, T0))
    assert isinstance(found, Finish)
    assert isinstance(found.fact, f.RunEnded)
    assert (found.fact.result, "cannot be read" in found.fact.why) == (Result.FAILED, True)


def test_before_a_change_it_asks_what_it_must_know() -> None:
    found = decide(a_view(told(opened(), fired(), started()), RULES, T0))
    assert found == Gather(runbook="cut", rules_hash="h1", run=1, step="cut", alerts=True)


def test_people_come_first() -> None:
    incident = told(opened(), fired(), started())
    found = decide(a_view(incident, RULES, T0 + 2 * MINUTE))
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.LevelReached)
    assert (found.fact.name, found.fact.why, found.fact.late) == ("L1", "not fixed 2m after it began", 0)


@pytest.mark.parametrize(("seconds", "late"), [(5, 0), (6, 6)])
def test_a_level_says_how_late_it_is(seconds: int, late: int) -> None:
    found = decide(a_view(told(opened(), fired(), started()), RULES, T0 + 2 * MINUTE + seconds * SECOND))
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.LevelReached)
    assert found.fact.late == late * SECOND


@pytest.mark.parametrize(
    ("effect", "asks"),
    [(Effect.SET, True), (Effect.PROBED, True), (Effect.UNSAFE, False), (Effect.KEYED, False), (Effect.READ, False)],
)
def test_what_is_unknown_is_probed_only_where_that_can_tell(effect: Effect, asks: bool) -> None:
    attempt = intended(plan=told_plan(effect))
    incident = told(opened(), fired(), started(), attempt, ended(Outcome.UNKNOWN))
    found = decide(a_view(incident, RULES, T0))
    assert (isinstance(found, Gather) and found.probe == "i1.1.cut.1") is asks
    unsafe = isinstance(found, Tell) and isinstance(found.fact, f.StepEnded)
    assert unsafe is (effect is Effect.UNSAFE)


def told_plan(effect: Effect) -> Plan:
    return Plan(params={}, preview="p", effect=effect, prepared_at=T0)


def test_what_a_replaced_owner_left_open_is_unknown() -> None:
    incident = told(opened(), fired(), started(), intended(epoch=1))
    here = a_view(incident, RULES, T0)
    assert decide(here) == WaitUntil(T0 + MINUTE + 2 * SECOND, "deadline")
    found = decide(replace(here, epoch=2))
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.AttemptEnded)
    assert found.fact.outcome is Outcome.UNKNOWN


def test_it_is_sent_again_only_so_often() -> None:
    facts: list[f.Fact] = []
    for number in range(1, 6):
        facts += [intended(number, told_plan(Effect.KEYED)), ended(Outcome.UNKNOWN, number)]
    found = decide(a_view(told(opened(), fired(), started(), *facts), RULES, T0))
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.StepEnded)
    assert found.fact.why.startswith("given up after 5 attempts")


def test_a_machine_is_armed_only_when_a_run_tried() -> None:
    idle = told(opened(), fired(), started(), f.RunEnded(run=1, result=Result.CANCELLED, why="refused"), L1)
    acted = told(opened(), fired(), started(), intended(), ended(Outcome.PERMANENT), INEFFECTIVE, L1)
    for incident, expected in ((idle, False), (acted, True)):
        found = decide(a_view(incident, PROMISES, T0 + 4 * MINUTE))
        announced = isinstance(found, Tell) and isinstance(found.fact, f.MachineAnnounced)
        assert announced is expected


def test_a_machine_looks_before_it_acts() -> None:
    announced = f.MachineAnnounced(round=0, index=0, runbook="halt", at=T0 + 5 * MINUTE)
    incident = told(opened(), fired(), started(), intended(), ended(Outcome.PERMANENT), INEFFECTIVE, L1, announced)
    found = decide(a_view(incident, PROMISES, T0 + 5 * MINUTE))
    assert found == Gather(runbook="cut", rules_hash="h1", checks=("risk",), machine="0:0")


def test_a_probe_that_stays_unclear_leaves_it_to_people() -> None:
    probed = f.Probed(attempt="i1.1.cut.1", answer=ProbeAnswer.UNCLEAR, detail="no idea")
    facts = (opened(), fired(), started(), intended(), ended(Outcome.UNKNOWN))
    assert decide(a_view(told(*facts, probed), RULES, T0)) == WaitUntil(T0 + 2 * SECOND, "probe")
    found = decide(a_view(told(*facts, *[probed] * 5), RULES, T0))
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.StepEnded)
    assert found.fact.status.value == "unknown"


# --- what is urgent ---------------------------------------------------------------------------------------------------

LATER = 5 * MINUTE
BAD = f.ProblemFound(problem="bad")
ACTED = (fired(), started(), intended(), ended(Outcome.UNKNOWN),
         f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN, why="nobody knows"))  # fmt: skip


def urgent(*facts: f.Fact | int, at: int = LATER) -> f.Fact | None:
    found = people(a_view(told(opened(), *facts), RULES, T0 + at))
    return found.fact if isinstance(found, Tell) else None


def test_what_is_urgent_is_the_first_level_at_once() -> None:
    assert urgent(BAD, at=0) == f.LevelReached(round=0, index=0, name="L1", page=("first",), why="bad")


def test_after_the_first_level_it_is_a_page_of_its_own_and_told_once() -> None:
    told_now = f.UrgentTold(number=1, page=("first",), why="bad")
    assert urgent(fired(), L1, 2 * MINUTE, BAD) == told_now
    assert urgent(fired(), L1, 2 * MINUTE, BAD, told_now) is None
    assert urgent(fired(), 2 * MINUTE, BAD, L1) is None, "the level has said it"


def test_it_wakes_those_who_were_told_last() -> None:
    second = f.LevelReached(round=0, index=1, name="L2", page=("second",), why="")
    assert urgent(L1, second, BAD) == f.UrgentTold(number=1, page=("second",), why="bad")


@pytest.mark.parametrize(
    ("before", "at", "page"),
    [
        ([L1, 0], 59 * SECOND, ()),
        ([L1, 0], 60 * SECOND, ("first",)),
        ([L1, f.Acknowledged(), *ACTED[:2]], LATER, ()),
        ([L1, f.TakenOver()], LATER, ()),
        ([L1, f.Acknowledged(), *ACTED], LATER, ("first",)),
        ([L1, *ACTED, f.TakenOver()], LATER, ("first",)),
        ([L1, f.Acknowledged(), *ACTED, f.Settled(attempt="i1.1.cut.1", applied=True, reason="")], LATER, ()),
    ],
    ids=["a page a moment ago", "a page a minute ago", "acknowledged", "taken over", "acknowledged, but unknown",
         "taken over, but unknown", "settled"],
)  # fmt: skip
def test_nobody_is_woken_who_has_heard_of_it(before: list[f.Fact | int], at: int, page: tuple[str, ...]) -> None:
    found = urgent(*before, BAD, at=at)
    assert isinstance(found, f.UrgentTold)
    assert found.page == page


def test_a_replay_has_nothing_urgent() -> None:
    assert people(a_view(told(opened(namespace="replay"), BAD), RULES, T0)) is None


# --- rules that cannot be read ----------------------------------------------------------------------------------------


def test_without_its_rules_people_are_told_by_todays_policy() -> None:
    today = replace(a_view(told(opened(rules_hash="gone"), fired(), BAD), RULES, T0), rules_of=lambda digest: None)
    found = decide(today)
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.LevelReached)
    assert found.fact.page == ("first",)


def test_without_its_rules_what_is_unknown_stays_unknown() -> None:
    gone = (opened(rules_hash="gone"), fired(), started(rules_hash="gone"), intended())
    assert decide(a_view(told(*gone), RULES, T0)) == WaitUntil(T0 + MINUTE + 2 * SECOND, "deadline")
    found = decide(a_view(told(*gone, ended(Outcome.UNKNOWN)), RULES, T0))
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.StepEnded)
    assert found.fact.status is StepStatus.UNKNOWN
    over = decide(a_view(told(*gone, ended(Outcome.UNKNOWN), found.fact, L1), RULES, T0))
    assert isinstance(over, Finish)
    assert isinstance(over.fact, f.RunEnded)
    assert over.fact.result is Result.UNKNOWN


# --- promises that come late ------------------------------------------------------------------------------------------

TRIED = (opened(), fired(), started(), intended(), ended(Outcome.PERMANENT), INEFFECTIVE, L1)
SEEN = Observation(check="risk", value=0.5, observed_at=T0 + 5 * MINUTE, asked_at=T0 + 5 * MINUTE)


def test_announced_late_it_comes_late() -> None:
    found = decide(a_view(told(*TRIED), PROMISES, T0 + 7 * MINUTE))
    assert found == Tell(f.MachineAnnounced(round=0, index=0, runbook="halt", at=T0 + 8 * MINUTE))
    announced = told(*TRIED, 7 * MINUTE, found.fact)
    assert getattr(decide(a_view(announced, PROMISES, T0 + 8 * MINUTE - 1)), "machine", None) is None
    due = decide(a_view(announced, PROMISES, T0 + 8 * MINUTE))
    assert due == Gather(runbook="cut", rules_hash="h1", checks=("risk",), machine="0:0")


def test_what_looks_good_while_a_run_is_verified_waits_for_its_end() -> None:
    done = f.StepEnded(run=1, step="cut", status=StepStatus.DONE)
    announced = f.MachineAnnounced(round=0, index=0, runbook="halt", at=T0 + 5 * MINUTE)
    good = f.MachineGathered(round=0, index=0, observation=SEEN, holds=True)
    verified = (opened(), fired(), started(), intended(), ended(Outcome.OK), done, L1, announced, 4 * MINUTE,
                f.Verifying(run=1), MINUTE, good)  # fmt: skip
    waiting = decide(a_view(told(*verified), PROMISES, T0 + 5 * MINUTE))
    assert waiting == Gather(runbook="cut", rules_hash="h1", run=1, checks=("risk",)), "only the run's own poll"
    ended_badly = told(*verified, INEFFECTIVE, f.UrgentTold(number=1, page=(), why="ineffective: no"))
    again = decide(a_view(ended_badly, PROMISES, T0 + 5 * MINUTE))
    assert again == Gather(runbook="cut", rules_hash="h1", checks=("risk",), machine="0:0")


def test_a_machine_whose_runbook_is_gone_is_for_people_once() -> None:
    fired_now = f.MachineFired(round=0, index=0, page=("boss",), runbook="halt")
    found = decide(a_view(told(*TRIED, fired_now), RULES, T0))
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.MachineFired)
    assert "runbook halt cannot be read" in (found.fact.held or "")
    assert found.fact.page == ("first",)
    assert not isinstance(decide(a_view(told(*TRIED, fired_now, found.fact), RULES, T0)), Tell)
