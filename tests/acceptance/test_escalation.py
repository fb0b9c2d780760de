"""Who is woken when: the ladder, answers, snoozes, repeats, hours and storms as timelines (design 5.7)."""

from __future__ import annotations

import pytest

from responder import facts as f
from responder.contracts import PagerState
from responder.errors import Rejected
from responder.recorded import Result
from responder.timing import HOUR, MINUTE
from tests.acceptance.escalation_parts import NO_RUN, STORM, approving
from tests.acceptance.stage import RISK, Stage, alert, breach, halting, own, playing, risky, shipped
from tests.builders import ALERT, a_runbook, call_step


def silent(stage: Stage) -> None:
    """An alert that nobody and nothing answers."""
    stage.fires(RISK)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_silence_wakes_the_second_level_once() -> None:
    with playing(own(NO_RUN)) as stage:
        silent(stage)
        stage.at("14:59")
        assert stage.pages == [("2:00", "first")]
        stage.at("40:00")
        assert stage.pages == [("2:00", "first"), ("15:00", "second")]


def test_who_acknowledges_a_second_before_the_level_wakes_nobody_else() -> None:
    with playing(own(NO_RUN)) as stage:
        silent(stage)
        stage.at("14:59")
        stage.person("ack")
        stage.at("30:00")
        assert stage.pages == [("2:00", "first")]


def test_a_restart_a_second_before_the_level_changes_nothing() -> None:
    with playing(own(NO_RUN)) as stage:
        silent(stage)
        stage.at("14:59")
        stage.restart()
        stage.at("15:01")
        assert stage.pages == [("2:00", "first"), ("15:00", "second")]


def test_after_an_hour_without_a_process_overdue_levels_are_told_once_and_marked_late() -> None:
    with playing(own(NO_RUN)) as stage:
        silent(stage)
        stage.at("1:00")
        stage.restart(down=HOUR)
        stage.after("5m")
        assert sorted(stage.pages) == [("1:01:00", "first"), ("1:01:00", "second")]
        facts = [event.fact for event in stage.events(stage.incident)]
        lates = [fact.late // MINUTE for fact in facts if isinstance(fact, f.LevelReached)]
        assert lates == [59, 46], "lowest first, each with how late it is"


def test_a_warning_that_becomes_critical_after_an_acknowledgement_pages() -> None:
    quiet = own(NO_RUN, chat_only=["warning"])
    with playing(quiet) as stage:
        stage.fires({**RISK, "severity": "warning"})
        stage.at("20:00")
        assert stage.pages == [], "a warning climbs no ladder here"
        stage.person("ack")
        stage.at("30:00")
        stage.fires({**RISK, "severity": "critical", "instance": "b"})
        stage.at("33:00")
        assert stage.pages == [("32:00", "first")]


@pytest.mark.parametrize("chat_only", [["warning", "critical"], ["critical"]])
def test_what_goes_wrong_pages_whatever_the_severity(chat_only: list[str]) -> None:
    rules = own(a_runbook(steps=[call_step()], verify=None), chat_only=chat_only)
    with playing(rules) as stage:
        stage.world.lost = "applied"
        stage.fires(RISK)
        stage.at("0:10")
        assert [to for _, to in stage.pages] == ["first"], "nobody knows what was changed: that is for people"


def test_a_reflex_acknowledgement_stops_no_promise_and_a_take_over_does() -> None:
    for verb, halted in (("ack", "halted"), ("takeover", "running")):
        with playing(shipped()) as stage:
            breach(stage, helps=False)
            stage.fires(ALERT)
            stage.at("0:40" if verb == "ack" else "4:00")
            stage.person(verb)
            stage.at("6:00")
            assert stage.world.trading == halted


def test_an_acknowledgement_in_the_instant_of_the_level_is_either_before_or_after_it() -> None:
    """Both orders are whole: a level that was told before it, or none."""
    with playing(own(NO_RUN)) as stage:
        silent(stage)
        stage.at("15:00")
        stage.person("ack")
        stage.at("29:00")
        assert stage.pages == [("2:00", "first"), ("15:00", "second")]
        assert stage.incident.acknowledged is not None


def test_slack_being_down_delays_no_page() -> None:
    with playing(own(NO_RUN, chat=["room"])) as stage:
        stage.refuses("room", for_minutes=60)
        silent(stage)
        stage.at("16:00")
        assert stage.pages == [("2:00", "first"), ("15:00", "second")]
        assert stage.thread == []
        stage.at("1:10:00")
        assert next(s.message.kind for s in stage.sent if s.destination == "room") == "root"


# --- snooze, escalate, repeat -----------------------------------------------------------------------------------------


def test_a_snooze_keeps_the_time_that_was_left() -> None:
    with playing(own(NO_RUN)) as stage:
        silent(stage)
        stage.at("5:00")
        stage.person("snooze", lasts=30 * MINUTE)
        assert stage.incident.status == "snoozed"
        stage.at("44:59")
        assert stage.pages == [("2:00", "first")]
        stage.at("45:01")
        assert stage.pages[-1] == ("45:00", "second"), "ten minutes were left of the fifteen"
        assert stage.told("snooze_ended") == ["35:00"]


def test_an_acknowledgement_during_a_snooze_counts_the_standing_still_once() -> None:
    with playing(own(NO_RUN, acknowledgement="10m")) as stage:
        silent(stage)
        stage.at("5:00")
        stage.person("snooze", lasts=30 * MINUTE)
        stage.at("15:00")
        stage.person("ack")
        stage.at("25:01")
        assert stage.pages == [("2:00", "first"), ("25:00", "first")], "the acknowledgement ran out"
        stage.at("35:01")
        assert stage.pages[-1] == ("35:00", "second"), "twenty minutes stood still"


def test_escalate_now_tells_the_next_level_whoever_has_it() -> None:
    with playing(own(NO_RUN)) as stage:
        silent(stage)
        stage.at("3:00")
        stage.person("ack", "alice")
        stage.at("4:00")
        stage.person("escalate", "alice", "I need help")
        stage.after("1s")
        assert stage.pages == [("2:00", "first"), ("4:00", "second")]
        assert stage.incident.acknowledged is not None
        with pytest.raises(Rejected, match="every level"):
            stage.person("escalate")


def test_who_acknowledges_again_after_a_further_page_has_answered_that_one_too() -> None:
    def acknowledged() -> list[str]:
        return [s.destination for s in stage.sent if s.message.kind == "acknowledge"]

    with playing(own(NO_RUN)) as stage:
        silent(stage)
        stage.at("3:00")
        stage.person("ack", "alice")
        stage.at("4:00")
        stage.person("escalate", "alice", "I need help")
        stage.at("5:00")
        assert acknowledged() == ["first"], "who is woken now is not told that somebody has it"
        stage.person("ack", "alice", "the two of us have it")
        stage.person("ack", "alice", "sent twice")
        stage.at("6:00")
        assert acknowledged() == ["first", "first", "second"]
        assert stage.told("acknowledged") == ["3:00", "5:00"]
        stage.at("34:59")
        assert len(stage.pages) == 2
        stage.at("35:01")
        assert stage.pages[2:] == [("35:00", "second")], "half an hour after the word that counts"


def test_a_further_page_that_was_not_taken_yet_wakes_nobody_once_the_same_person_has_it_again() -> None:
    levels = [
        {"name": "L1", "after": 0, "page": "first"},
        {"name": "L2", "after": "15m", "page": "second", "fallback": "boss"},
    ]
    with playing(own(NO_RUN, levels=levels)) as stage:
        stage.refuses("second", for_minutes=30)
        silent(stage)
        stage.at("3:00")
        stage.person("takeover", "alice")
        stage.at("4:00")
        stage.person("escalate", "alice", "I need help")
        stage.at("4:10")
        stage.person("takeover", "alice")
        stage.at("40:00")
        assert stage.pages == [("2:00", "first")]


def test_a_ladder_that_nobody_answers_begins_again_as_often_as_it_says() -> None:
    with playing(own(NO_RUN, repeat={"every": "30m", "times": 1})) as stage:
        silent(stage)
        stage.at("3:00:00")
        assert stage.pages == [("2:00", "first"), ("15:00", "second"), ("45:00", "first"), ("1:00:00", "second")]
        assert stage.told("ladder_repeated") == ["45:00"]


def test_a_level_waits_for_its_hours() -> None:
    # The stage begins on a Friday at 14:00 UTC; ten minutes later the desk goes home until Monday at nine.
    desk = {"desk": {"days": "mon-fri", "from": "09:00", "to": "14:10", "timezone": "UTC"}}
    levels = [
        {"name": "L1", "after": 0, "page": "first"},
        {"name": "L2", "after": "15m", "page": "second", "during": "desk"},
    ]
    with playing(own(NO_RUN, calendars=desk, levels=levels)) as stage:
        silent(stage)
        stage.at("16:00")
        assert stage.pages == [("2:00", "first")]
        due = next(d for d in stage.incident.agenda if d.kind == "level")
        stage.advance(due.due - stage.clock() + MINUTE)
        assert [to for _, to in stage.pages] == ["first", "second"]
        assert due.due - stage.scene.start == 67 * HOUR


def test_pagerduty_climbs_alone_where_it_owns_the_ladder() -> None:
    with playing(own(NO_RUN, owner="pagerduty")) as stage:
        silent(stage)
        stage.at("3:00")
        stage.person("ack")
        stage.at("3:00:00")
        assert stage.pages == [("2:00", "first")], "no second level, and no acknowledgement that runs out here"
        with pytest.raises(Rejected, match="climbed by PagerDuty"):
            stage.person("escalate")


@pytest.mark.parametrize(
    ("status", "woken"),
    [
        ("acknowledged", ["first"]),
        ("resolved", ["first"]),
        ("triggered", ["first", "second"]),
        ("", ["first", "second"]),
    ],
)
def test_pagers_are_asked_before_further_people_are_woken(status: str, woken: list[str]) -> None:
    asked: list[tuple[str, str]] = []

    def says(name: str, key: str) -> PagerState | None:
        asked.append((name, key))
        return PagerState(status, "Bob") if status else None

    with playing(own(NO_RUN), says=says) as stage:
        silent(stage)
        stage.at("16:00")
        assert [to for _, to in stage.pages] == woken
        assert asked == [("first", f"responder/responder/{stage.incident.id}/first/l0.0")]
        if status == "acknowledged":
            assert stage.incident.acknowledged is not None
            assert stage.incident.acknowledged.actor == "Bob (first)"


def test_stakeholders_hear_every_half_hour_and_once_after_an_outage() -> None:
    with playing(own(NO_RUN, remind="30m")) as stage:
        silent(stage)
        stage.at("1:01:00")
        assert stage.told("still_open") == ["30:00", "1:00:00"]
        stage.restart(down=2 * HOUR)
        stage.after("1m")
        assert len(stage.told("still_open")) == 3
        stage.resolves(RISK)
        stage.after("2h")
        assert len(stage.told("still_open")) == 3


# --- words about the run ----------------------------------------------------------------------------------------------


def test_a_held_countdown_comes_later_and_still_comes() -> None:
    first, halt = halting("5m", countdown="1m")
    with playing(own(first, halt)) as stage:
        risky(stage, helps=False)
        stage.world.numbers["h"] = lambda: 1.0
        stage.fires(RISK)
        stage.at("3:00")
        with pytest.raises(Rejected, match="no countdown"):
            stage.person("hold")
        stage.at("4:30")
        stage.person("hold", lasts=5 * MINUTE)
        stage.at("9:59")
        assert stage.world.trading == "running"
        stage.at("10:01")
        assert stage.world.trading == "halted"


def test_a_stopped_run_changes_nothing_more_and_is_verified() -> None:
    steps = [call_step("one", "/api/one"), {"id": "look", "manual": "Look"}, call_step("two", "/api/two")]
    with playing(own(a_runbook(steps=steps))) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("0:01")
        stage.person("cancel", "alice", "wrong host")
        stage.after("1m")
        assert stage.world.done == ["/api/one"]
        assert stage.last_run.result is Result.FIXED, "what was done is looked at all the same"
        with pytest.raises(Rejected, match="no run"):
            stage.person("cancel")


# --- approvals --------------------------------------------------------------------------------------------------------

ASKS = a_runbook(steps=[call_step(approval={"role": "risk-manager", "within": "10m"})])


def test_nothing_is_done_before_a_person_says_yes() -> None:
    with playing(own(ASKS)) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        assert stage.world.done == []
        assert stage.incident.status == "waiting"
        asked = stage.last_run.approval
        assert asked is not None
        assert (asked.role, "POST /api/orders" in asked.preview) == ("risk-manager", True)
        stage.person("approve", "rita", step="call", plan=asked.plan)
        stage.after("10s")
        assert stage.world.done == ["/api/orders"]
        assert [v.reason for v in stage.last_run.verdicts if v.gate == "approval"] == ["approved by rita"]


def test_who_says_no_ends_the_run() -> None:
    with playing(own(ASKS)) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        stage.person("deny", "rita", "not now")
        stage.after("20m")
        assert stage.world.done == []
        assert stage.last_run.result is Result.CANCELLED
        assert "denied by rita: not now" in stage.last_run.why
        with pytest.raises(Rejected, match="waits for no approval"):
            stage.approves("otto")


def test_without_an_answer_people_are_paged_and_nothing_is_done() -> None:
    with playing(own(ASKS, grace="1h")) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("10:01")
        assert stage.world.done == []
        assert stage.pages == [("10:00", "first")]
        assert "nobody with the role risk-manager approved within 10m" in stage.last_run.why


def test_two_different_people_must_approve() -> None:
    with playing(own(approving(people=2))) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("0:30")
        stage.approves("rita")
        with pytest.raises(Rejected, match="2 different people"):
            stage.approves("rita")
        assert stage.world.done == []
        stage.approves("otto")
        stage.after("5s")
        assert stage.world.done == ["/api/orders"]


def test_an_approval_holds_for_exactly_what_was_asked() -> None:
    cut = {"action": "parameter.reduce", "with": {"parameter": "risk-api/kelly_fraction", "to": 0.1, "reason": "x"}}
    with playing(own(a_runbook(steps=[{"id": "cut", **cut, "approval": "risk-manager"}]))) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("0:30")
        asked = stage.last_run.approval
        assert asked is not None
        stage.world.kelly = 0.2
        stage.at("1:30")
        stage.person("approve", "rita", plan=asked.plan)
        stage.after("5s")
        assert stage.world.done == [], "the fraction is another one by now, so it is asked again"
        again = stage.last_run.approval
        assert again is not None
        assert again.plan != asked.plan
        with pytest.raises(Rejected, match="has changed since"):
            stage.person("approve", "rita", plan=asked.plan)
        stage.person("approve", "rita", plan=again.plan)
        stage.after("5s")
        assert stage.world.kelly == 0.1


def test_in_mode_approve_every_change_is_asked_and_readings_are_not() -> None:
    with playing(own(a_runbook(mode="approve"))) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("0:30")
        assert stage.told("approval_asked") == ["0:00"]
        stage.approves("alice")
        stage.after("5s")
        assert stage.world.kelly == 0.1


def test_an_alert_that_ends_takes_the_question_away() -> None:
    with playing(own(ASKS)) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        stage.resolves(RISK)
        assert stage.last_run.result is Result.CANCELLED
        with pytest.raises(Rejected, match="waits for no approval"):
            stage.person("approve")


# --- storms -----------------------------------------------------------------------------------------------------------


def test_many_at_once_are_one_page() -> None:
    names = [f"Alert{n}" for n in range(40)]
    with playing(own(NO_RUN, storm=STORM)) as stage:
        for name in names:
            stage.fires(alert(name))
        stage.at("20:00")
        storm = next(i for i in stage.incidents() if i.target.startswith("storm:"))
        assert (storm.members, storm.members_open) == (36, 36)
        firsts = [to for _, to in stage.pages if to == "first"]
        assert len(firsts) == 4 + 1, "those before the storm, and the storm"
        assert [to for _, to in stage.pages].count("second") == 4 + 1
        for name in names:
            stage.resolves(alert(name))
        assert all(i.closed for i in stage.incidents())


def test_a_storm_is_over_for_newcomers_when_calm_returns() -> None:
    with playing(own(NO_RUN, storm=STORM)) as stage:
        for n in range(6):
            stage.fires(alert(f"Alert{n}"))
        stage.at("1:00:00")
        before = len(stage.pages)
        stage.fires(alert("Lonely"))
        stage.after("3m")
        assert len(stage.pages) == before + 1, "one that comes alone has a page of its own, though the storm is open"


def test_who_has_the_storm_keeps_all_of_them_quiet_and_an_unknown_still_wakes() -> None:
    with playing(own(a_runbook(match="Alert0", steps=[call_step()], verify=None), storm=STORM)) as stage:
        for n in range(1, 7):
            stage.fires(alert(f"Alert{n}"))
        storm = next(i for i in stage.incidents() if i.target.startswith("storm:"))
        stage.at("3:00")
        stage.person("ack", incident=storm.id)
        before = len(stage.pages)
        stage.world.lost = "applied"
        stage.fires(alert("Alert0"))
        stage.after("30s")
        assert len(stage.pages) == before + 1, "nobody knows what one of them changed"
