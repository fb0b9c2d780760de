"""What the campaigns found, each reduced to its smallest timeline."""

from __future__ import annotations

import pytest

from responder import facts as f
from responder.decide import decide
from responder.engine import delivery
from responder.recorded import Observation, Result
from responder.timing import HOUR, MINUTE, SECOND
from responder.view import Gather
from tests.acceptance.stage import RISK, START, alert, own, playing, unverified
from tests.builders import T0, a_plan, a_runbook, a_view, call_step, fired, opened, rules_of, started, told
from tests.campaigns.virtual import Played, Wire, gateway, loaded

NO_RUN = a_runbook(steps=[], mode="observe", verify=None)


def test_a_snooze_that_ends_while_no_process_runs_puts_no_level_off() -> None:
    """C11: ten minutes were left of the fifteen when the snooze ended at 35:00, so the level was due at 45:00."""
    with playing(own(NO_RUN)) as stage:
        stage.fires(RISK)
        stage.at("5:00")
        stage.person("snooze", lasts=30 * MINUTE)
        stage.at("34:00")
        stage.restart(down=HOUR)
        stage.after("1s")
        assert stage.pages == [("2:00", "first"), ("1:34:00", "second")]


def test_an_acknowledgement_that_runs_out_while_no_process_runs_puts_no_level_off() -> None:
    """C11: the same for an acknowledgement, which ran out at 35:00."""
    with playing(own(NO_RUN)) as stage:
        stage.fires(RISK)
        stage.at("5:00")
        stage.person("ack")
        stage.at("34:00")
        stage.restart(down=HOUR)
        stage.after("1s")
        assert sorted(stage.pages[1:]) == [("1:34:00", "first"), ("1:34:00", "second")]


def test_pages_of_one_incident_within_a_minute_are_one_page() -> None:
    """C11: the acknowledgement runs out at 31:30, and the first level, which it had put off, is told at 32:00."""
    with playing(own(NO_RUN)) as stage:
        stage.fires(RISK)
        stage.at("1:30")
        stage.person("ack")
        stage.at("32:10")
        assert [to for _, to in stage.pages].count("first") == 1


def outage(*levels: dict[str, object], minutes: int) -> Played:
    """The pager `first` refuses everything for so long; the others take everything."""
    down = Wire(down_from=START, down_until=START + minutes * MINUTE)
    policy = {"acknowledgement": 0, "levels": list(levels)}
    by_severity = {"high": "calm", "critical": "ladder"}
    calm = {"levels": [{"name": "L1", "after": 0, "page": "second"}]}
    return Played(*loaded({"ladder": policy, "calm": calm}, by_severity), {"first": down})


def pages(played: Played, destination: str) -> list[float]:
    """When pages arrived there, in seconds."""
    return [(a.at - START) / SECOND for a in played.arrivals if (a.kind, a.destination) == ("page", destination)]


def test_the_second_route_waits_for_no_turn_of_the_first() -> None:
    """C10: forty pages at once, and each took six tries before it was handed over, at a hundred tries a minute."""
    played = outage({"name": "L1", "after": 0, "page": "first", "fallback": "other"}, minutes=60)
    played.fires(*(gateway(f"g{n}", "critical") for n in range(40)))
    played.advance(5 * MINUTE)
    arrived = pages(played, "other")
    played.close()
    assert len(arrived) == 40
    assert max(arrived) < 60 + 2 + 40 * 0.5, "a minute, and the second route's own pace"


def test_pages_reach_the_second_route_within_their_minute_though_it_has_a_pace() -> None:
    """C10: all that had waited by a try of the pager went over together, the last of them at the end of their minute,
    and then waited for their turns there: two a second."""
    played = outage({"name": "L1", "after": 0, "page": "first", "fallback": "other"}, minutes=60)
    for wave in range(12):
        played.fires(*(gateway(f"g{wave}-{n}", "critical") for n in range(15)))
        played.advance(10 * SECOND)
    played.advance(2 * MINUTE)
    took = [a.at - a.created_at for a in played.arrivals if (a.kind, a.destination) == ("page", "other")]
    played.close()
    assert len(took) == 12 * 15
    assert 45 * SECOND <= max(took) < MINUTE


def test_severe_pages_that_come_and_come_hide_no_other_from_the_second_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are always more of them waiting than one pass looks at (100, here 20)."""
    monkeypatch.setattr(delivery, "LOOKED_AT", 20)
    played = outage({"name": "L1", "after": 0, "page": "first", "fallback": "other"}, minutes=60)
    played.fires(gateway("calm", "warning"))
    for wave in range(8):
        played.fires(*(gateway(f"g{wave}-{n}", "critical") for n in range(10)))
        played.advance(10 * SECOND)
    took = [a.at - a.created_at for a in played.arrivals if (a.severity, a.destination) == ("warning", "other")]
    played.close()
    assert len(took) == 1
    assert took[0] < MINUTE


def test_messages_that_always_fail_hold_up_no_other() -> None:
    """A strict reader: each is due again before the next try of the destination, and so was what tried it for ever."""
    played = outage({"name": "L1", "after": 0, "page": "first"}, minutes=0)
    played.wires["first"].refuses = "desk/bad"
    played.fires(*(gateway(f"bad{n}", "critical") for n in range(10)))
    played.advance(10 * MINUTE)
    began = (played.clock() - START) / SECOND
    played.fires(gateway("good", "critical"))
    played.advance(5 * MINUTE)
    arrived = pages(played, "first")
    played.close()
    assert len(arrived) == 1
    assert arrived[0] - began < 20


def test_a_slow_destination_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """C10: more pages than one pass looks at (500, here 20) wait for their turn at `first`; `second` is free."""
    monkeypatch.setattr(delivery, "LOOKED_AT", 20)
    played = outage({"name": "L1", "after": 0, "page": "first"}, minutes=0)
    played.fires(*(gateway(f"g{n}", "critical") for n in range(60)))
    played.fires(gateway("other", "high"))
    played.advance(MINUTE)
    arrived = pages(played, "second")
    played.close()
    assert len(arrived) == 1
    assert arrived[0] < 1


def test_what_somebody_has_is_not_paged_after_an_outage() -> None:
    """C10: it was acknowledged while the pager was down; nobody is to be woken for it when the pager is back."""
    played = outage({"name": "L1", "after": 0, "page": "first"}, minutes=60)
    played.fires(gateway("a", "critical"))
    played.advance(10 * MINUTE)
    played.person("ack")
    played.advance(HOUR)
    arrived = pages(played, "first")
    played.close()
    assert arrived == []


KEYED = a_runbook(steps=[call_step(service="keyed-api", retry={"attempts": 3, "first": "3s"})], verify=None)


def test_what_may_have_happened_is_tried_again_with_the_same_key() -> None:
    """C21: done, answer lost, sent again with its key, refused for now, and then sent with a new key: done twice."""
    with playing(own(KEYED)) as stage:
        stage.world.lost = "applied"
        stage.fires(RISK)
        stage.at("0:01")
        stage.world.lost, stage.world.refused = "", [429]
        stage.at("1:00")
        assert stage.did == [("0:00", "/api/orders")]


def test_what_may_have_happened_has_not_failed_because_the_next_attempt_was_refused() -> None:
    """C21: done, answer lost, sent again and refused: the run says that it failed, and the target is free."""
    with playing(own(KEYED)) as stage:
        stage.world.lost = "applied"
        stage.fires(RISK)
        stage.at("0:01")
        stage.world.lost, stage.world.refused = "", [400]
        stage.at("1:00")
        assert stage.did == [("0:00", "/api/orders")]
        assert stage.last_run.result is Result.UNKNOWN
        assert stage.scope("lock:risk-api/kelly_fraction") is not None


def test_nothing_begins_beside_a_brake_that_has_passed_a_lock() -> None:
    """C21: the brake goes on when the run ends whose lock it has passed, and then a third run finds the target free."""
    with playing(own(unverified("First"), unverified("Second", brake=True), unverified("Third"))) as stage:
        stage.world.slow = 8.0
        stage.fires(alert("First"))
        stage.at("0:05")
        stage.fires(alert("Second"))
        stage.at("0:09")
        stage.fires(alert("Third"))
        stage.at("0:10")
        runs = {i.runbook: i.active_run for i in stage.incidents()}
        assert [name for name, run in runs.items() if run is not None and run.open_attempt is not None] == ["second"]


def test_an_answer_from_the_future_is_asked_for_again() -> None:
    """C13: the clock was set back by five minutes between two processes; asked anew, the check would have answered."""
    book = a_runbook(only_if={"check": "risk", "expect": "value > 0"})
    seen = f.Gathered(
        run=1, plan=a_plan(), step="cut", observations=(Observation(check="risk", asked_at=T0, value=2.0),)
    )
    for back in (5 * MINUTE, 1):
        view = a_view(told(opened(), fired(), started(), seen), rules_of(book, levels=[]), T0 - back)
        assert isinstance(decide(view), Gather)


# --- what is known when a change is made ------------------------------------------------------------------------------

CAUTIOUS = a_runbook(mode="approve", steps=[call_step()], only_if={"check": "risk", "expect": "value > 1"})


def test_what_was_silenced_while_people_were_asked_is_not_done_though_the_plan_is_recent() -> None:
    """C4: the check took eight seconds, so the plan was 28 s old at the approval, and the word of Alertmanager 36 s."""
    with playing(own(CAUTIOUS), peers=1) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        stage.world.thinks = 8.0
        stage.peers[0].fires(RISK)
        stage.fires(RISK)
        stage.at("0:20")
        stage.peers[0].silences(RISK)
        stage.at("0:36")
        stage.approves("carol")
        stage.after("10s")
        assert stage.world.done == []
        assert "1 of 1 alerts are silenced" in stage.last_run.why


def test_a_check_whose_sample_has_become_too_old_while_people_were_asked_is_read_again() -> None:
    """Its answer had come in 25 s before the approval, and was refused as too old instead of being asked for again."""
    checks = {"risk": {"action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}, "max_age": "20s"}}
    with playing(own({**CAUTIOUS, "checks": checks})) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        stage.fires(RISK)
        stage.at("0:25")
        stage.approves("carol")
        stage.after("1s")
        assert [when for when, _ in stage.did] == ["0:25"]
