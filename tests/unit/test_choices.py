"""What is on offer in each state, and that an old button does nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder import facts as f
from responder.choices import LONGEST, choices, find_choice, token_incident
from responder.commands import VERBS
from responder.incident import Incident
from responder.policies import Policy
from responder.recorded import Answer, Outcome, Result, StepStatus, Trigger, Verdict
from responder.timing import MINUTE
from tests.builders import T0, a_policy, ended, fired, intended, opened, started, told
from tests.unit.fact_parts import ANY

POLICY = Policy.model_validate(a_policy())
ASKED = f.ApprovalAsked(
    run=1, step="cut", plan="p1", preview="Kelly 0.25 → 0.1", role="desk", people=2, until=T0 + MINUTE
)
UNKNOWN = (started(), intended(), ended(Outcome.UNKNOWN), f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN))


def state(*facts: f.Fact | int) -> Incident:
    return told(opened(), fired(), *facts)


def verbs(*facts: f.Fact | int) -> list[str]:
    return [choice.verb for choice in choices(state(*facts), POLICY)]


@pytest.mark.parametrize(
    ("facts", "first", "absent"),
    [
        ((), ["ack", "takeover", "escalate", "snooze"], ["approve", "done", "settle", "cancel", "hold"]),
        ((f.Acknowledged(),), ["takeover", "escalate", "snooze"], ["ack"]),
        ((f.Snoozed(until=T0),), ["ack", "takeover", "escalate", "pause"], ["snooze"]),
        ((f.TakenOver(),), ["escalate", "pause"], ["ack", "takeover", "snooze", "hold"]),
        ((started(),), ["ack", "takeover", "cancel"], []),
        ((started(), f.RunStopped(run=1)), ["ack"], ["cancel"]),
        ((started(), f.ManualAsked(run=1, step="cut", instruction="x")), ["done", "ack"], []),
        ((started(), ASKED), ["approve", "deny", "ack"], []),
        (UNKNOWN, ["settle", "settle", "ack"], []),
        ((f.MachineAnnounced(round=0, index=0, runbook="halt", at=T0),), ["ack", "takeover", "hold"], []),
        ((f.MachineAnnounced(round=0, index=0, runbook="halt", at=T0), f.TakenOver()), ["escalate"], ["hold"]),
        ((f.LevelReached(round=0, index=0, name="L1", page=(), why=""),
          f.LevelReached(round=0, index=1, name="L2", page=(), why="")), ["ack", "takeover", "snooze"], ["escalate"]),
        ((f.StormJoined(storm="s"),), ["ack", "takeover"], ["escalate", "snooze"]),
        ((f.Closed(why="over"),), [], ["ack", "pause"]),
    ],
)  # fmt: skip
def test_the_most_important_comes_first(facts: tuple[f.Fact, ...], first: list[str], absent: list[str]) -> None:
    found = verbs(*facts)
    assert found[: len(first)] == first
    assert set(found).isdisjoint(absent)


def test_a_replay_offers_nothing() -> None:
    assert choices(told(opened(namespace="replay/x"), fired()), POLICY) == ()


def test_each_choice_is_found_again_and_names_its_incident() -> None:
    incident = state(started(), ASKED)
    for choice in choices(incident, POLICY):
        assert find_choice(incident, POLICY, choice.token) == choice
        assert token_incident(choice.token) == incident.id


def test_an_approval_is_bound_to_the_plan_and_to_who_has_approved() -> None:
    before = state(started(), ASKED)
    [approve] = [c for c in choices(before, POLICY) if c.verb == "approve"]
    assert approve.said == {"step": "cut", "plan": "p1"}
    assert "Kelly 0.25 → 0.1" in approve.confirm
    other = state(started(), ASKED, ASKED.model_copy(update={"plan": "p2"}))
    half = state(started(), ASKED, f.Approved(run=1, step="cut", plan="p1"))
    for after in (other, half, state(started(), ASKED, f.Denied(run=1, step="cut", plan="p1"), f.Closed(why=""))):
        assert find_choice(after, POLICY, approve.token) is None


def test_a_page_after_the_word_that_is_there_can_be_acknowledged_and_no_earlier_press_does_it() -> None:
    page = f.Paged(destination="first", key="k", why="a person asked for it")
    first = choices(state(page), POLICY)[0]
    for word in (f.Acknowledged(), f.TakenOver()):
        assert "ack" not in verbs(page, word)
        further = state(page, word, page)
        offered = next(choice for choice in choices(further, POLICY) if choice.verb == "ack")
        assert find_choice(further, POLICY, first.token) is None, "pressed before, told by Slack once more"
        assert find_choice(state(page, word, page, f.Acknowledged()), POLICY, offered.token) is None
        third = state(page, word, page, f.Acknowledged(), page)
        assert find_choice(third, POLICY, offered.token) is None


# --- outside its hours (docs/adr/0026) --------------------------------------------------------------------------------

SHUT = Verdict(gate="calendar", answer=Answer.DENY, reason="session is closed")
LATER = Verdict(gate="calendar", answer=Answer.WAIT, reason="session is closed", until=T0 + MINUTE)
REFUSED = (
    started(),
    f.Refused(run=1, step="cut", verdicts=(SHUT,), urgent=False),
    f.RunEnded(run=1, result=Result.CANCELLED, why="refused"),
)
WAITS = (started(), f.Waiting(run=1, step="cut", verdicts=(LATER,), until=T0 + MINUTE))
LET = f.CalendarOverridden(runbook="cut", until=T0 + MINUTE, hours="session is closed", note="agreed")
HARM = (started(), f.RunEnded(run=1, result=Result.HARMFUL, why=""), f.Relapsed(why="worse"))
AGAIN = (started(number=2), *(x.model_copy(update={"run": 2}) for x in REFUSED[1:]))


@pytest.mark.parametrize("held", [REFUSED, WAITS])
def test_what_its_hours_hold_back_may_be_let_through(held: tuple[f.Fact, ...]) -> None:
    assert "override" in verbs(*held)
    (entry,) = [c for c in choices(state(*held), POLICY) if c.verb == "override"]
    assert (entry.label, entry.confirm, entry.said) == ("Override hours…", "", {})
    for more in (f.TakenOver(), LET, f.Closed(why="over")):
        assert "override" not in verbs(*held, more)
    assert "override" not in verbs()
    assert "override" not in [c.verb for c in choices(told(opened(namespace="replay/x"), fired(), *held), POLICY)]


def with_verdict(fact: f.Fact, **changes: Any) -> f.Fact:
    """The same with another verdict."""
    assert isinstance(fact, f.Refused | f.Waiting)
    return fact.model_copy(update={"verdicts": (fact.verdicts[-1].model_copy(update=changes),)})


def test_what_something_else_holds_back_too_is_not_offered_to_be_let_through() -> None:
    assert "override" not in verbs(WAITS[0], with_verdict(WAITS[1], gate="pause"))
    assert "override" not in verbs(REFUSED[0], with_verdict(REFUSED[1], gate="budget"), REFUSED[2])
    assert "override" not in verbs(REFUSED[0], with_verdict(REFUSED[1], answer=Answer.ASK), REFUSED[2])
    assert "override" not in verbs(*WAITS, f.RunStopped(run=1))


def test_what_would_not_begin_again_is_not_offered_to_be_let_through() -> None:
    schedule = told(opened(trigger=Trigger.SCHEDULE), *REFUSED)
    other = told(opened(runbook="another"), fired(), *REFUSED)
    over = state(*REFUSED, f.AlertResolved(fingerprint="a", ends_at=T0))
    begun = state(started(), intended(), ended(Outcome.OK), *REFUSED[1:])
    harmed, blocked = state(*HARM, *AGAIN), state(*REFUSED, f.ProblemFound(problem="x", blocks=True))
    for incident in (schedule, other, over, begun, harmed, blocked):
        assert "override" not in [c.verb for c in choices(incident, POLICY)]


def test_an_entry_is_bound_to_its_run_to_what_the_hours_say_and_to_what_was_let_through_before() -> None:
    (entry,) = [c for c in choices(state(*WAITS), POLICY) if c.verb == "override"]
    later = with_verdict(WAITS[1], reason="freeze is open")
    for after in (state(WAITS[0], later), state(*WAITS, LET, WAITS[1])):
        assert "override" in [c.verb for c in choices(after, POLICY)]
        assert find_choice(after, POLICY, entry.token) is None


def test_a_settled_question_and_a_told_level_make_their_buttons_old() -> None:
    unknown = state(*UNKNOWN)
    settle = choices(unknown, POLICY)[0]
    settled = state(*UNKNOWN, f.Settled(attempt="i1.1.cut.1", applied=True, reason="x"))
    assert find_choice(settled, POLICY, settle.token) is None
    [escalate] = [c for c in choices(state(), POLICY) if c.verb == "escalate"]
    later = state(f.LevelReached(round=0, index=0, name="L1", page=(), why=""))
    assert find_choice(later, POLICY, escalate.token) is None, "it would wake other people than the button said"


@pytest.mark.parametrize("token", ["", "|", "i1", "i1|ack", "|ack|0", "i1|ack|0|x", "i" * 80 + "|ack|0"])
def test_what_is_no_token(token: str) -> None:
    assert token_incident(token) is None or find_choice(state(), POLICY, token) is None


@given(st.lists(st.sampled_from(ANY), max_size=12))
def test_any_state_offers_known_verbs_within_the_limits_each_once(facts: list[f.Fact]) -> None:
    offered = choices(told(opened(), *facts), POLICY)
    assert {c.verb for c in offered} <= {*VERBS, "pause"}
    assert len({c.token for c in offered}) == len(offered)
    for choice in offered:
        assert len(choice.token) <= 75
        assert 0 < len(choice.label) <= LONGEST
        assert len(choice.confirm) <= 300
