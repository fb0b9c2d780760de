"""What is on offer in each state, and that an old button does nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder import facts as f
from responder.choices import LONGEST, choices, find_choice, token_incident
from responder.commands import VERBS
from responder.incident import Incident
from responder.policies import Policy
from responder.recorded import Outcome, StepStatus
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
