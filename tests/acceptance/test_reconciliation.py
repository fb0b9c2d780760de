"""What the Alertmanagers say: before a change, and every minute beside what was told.

Nothing is ever concluded from the empty list of one that has just started, or from one that does not answer.
"""

from __future__ import annotations

import json
from typing import Any

from responder.recorded import Result
from tests.acceptance.stage import RISK, Stage, own, playing, risky
from tests.builders import a_runbook, an_alert, call_step

OTHER = an_alert(alertname="TooMuchRisk", symbol="ETH-USD")


def calling(**parts: Any) -> Any:
    return own(a_runbook(steps=[call_step()], **parts))


def fires(stage: Stage, *alerts: dict[str, str]) -> None:
    """Every Alertmanager has them, and we are told."""
    for peer in stage.peers:
        peer.fires(*alerts)
    stage.fires(*alerts)


def ends(stage: Stage, *alerts: dict[str, str]) -> None:
    """No Alertmanager has them any more, and nobody tells us."""
    for peer in stage.peers:
        peer.ends(*alerts)


# --- before a change --------------------------------------------------------------------------------------------------


def test_what_still_fires_is_answered() -> None:
    with playing(calling(), peers=2) as stage:
        risky(stage)
        fires(stage, RISK)
        assert stage.did == [("0:00", "/api/orders")]
        reasons = [v.reason for v in stage.last_run.verdicts if v.gate == "alerts"]
        assert reasons == ["1 of 1 fire in Alertmanager"]


def test_a_silenced_alert_is_left_alone_and_that_is_told() -> None:
    with playing(calling(), peers=1) as stage:
        risky(stage)
        stage.peers[0].fires(RISK)
        stage.peers[0].silences(RISK, by="anna", comment="planned work")
        stage.fires(RISK)
        stage.at("1:30")
        assert (stage.did, stage.last_run.result) == ([], Result.CANCELLED)
        assert stage.pages == [], "whoever silenced it knows of it"
        assert any("1 of 1 alerts are silenced: silence s1 by anna: planned work" in line for line in stage.thread)
        stage.at("2:01")
        assert stage.pages == [("2:00", "first")], "and the ladder goes on"


def test_when_the_silence_ends_and_it_still_fires_it_is_answered() -> None:
    with playing(calling(), peers=1) as stage:
        risky(stage)
        stage.peers[0].fires(RISK)
        stage.peers[0].silences(RISK)
        stage.fires(RISK)
        stage.at("1:30")
        stage.peers[0].ends_silence(RISK)
        stage.at("2:05")
        assert stage.told("alerts_silenced") == ["1:00"]
        assert stage.told("alerts_unsilenced") == ["2:00"]
        assert stage.did == [("2:00", "/api/orders")]


def test_a_brake_that_a_silence_holds_back_wakes_people() -> None:
    with playing(calling(brake=True), peers=1) as stage:
        risky(stage)
        stage.peers[0].fires(RISK)
        stage.peers[0].silences(RISK)
        stage.fires(RISK)
        assert stage.did == []
        assert stage.pages == [("0:00", "first")]


def test_one_that_still_fires_is_enough() -> None:
    with playing(calling(), peers=1) as stage:
        risky(stage)
        stage.peers[0].fires(RISK, OTHER)
        stage.peers[0].silences(OTHER)
        stage.fires(RISK, OTHER)
        assert stage.did == [("0:00", "/api/orders")]


def test_what_is_over_by_then_is_left() -> None:
    with playing(calling(brake=False), peers=2) as stage:
        risky(stage)
        stage.fires(RISK)
        assert stage.did == []
        assert any("Alertmanager does not list 1 of 1 alerts any more" in line for line in stage.thread)


def test_an_alertmanager_that_is_down_stops_nothing_and_people_hear_of_it() -> None:
    with playing(calling(), peers=1) as stage:
        risky(stage)
        stage.peers[0].down = True
        stage.fires(RISK)
        assert stage.did == [("0:00", "/api/orders")]
        assert stage.pages == [("0:00", "first")]
        assert "nobody can say whether 1 of 1 alerts still fire" in str(stage.incident.urgent)


def test_one_that_has_just_started_stops_no_brake() -> None:
    with playing(calling(brake=True), peers=2) as stage:
        risky(stage)
        stage.peers[0].restarts()
        stage.fires(RISK)
        assert stage.did == [("0:00", "/api/orders")]
        assert stage.pages == []


def test_between_two_changes_they_are_asked_again() -> None:
    steps = [call_step("one", "/api/one"), {"id": "pause", "action": "wait", "with": {"for": "40s"}, "timeout": "1m"},
             call_step("two", "/api/two")]  # fmt: skip
    with playing(own(a_runbook(steps=steps)), peers=1) as stage:
        risky(stage, helps=False)
        fires(stage, RISK)
        stage.at("0:20")
        ends(stage, RISK)
        stage.at("0:50")
        assert [path for _, path in stage.did] == ["/api/one"]
        assert stage.told("verifying") == ["0:40"], "what was changed is verified all the same"


def test_a_sequence_that_must_be_finished_is_finished_though_it_is_silenced() -> None:
    steps = [call_step("one", "/api/one"), {"id": "pause", "action": "wait", "with": {"for": "40s"}, "timeout": "1m"},
             call_step("two", "/api/two")]  # fmt: skip
    with playing(own(a_runbook(steps=steps, finish_once_started=True)), peers=1) as stage:
        risky(stage, helps=False)
        fires(stage, RISK)
        stage.at("0:20")
        stage.peers[0].silences(RISK)
        stage.at("0:50")
        assert [path for _, path in stage.did] == ["/api/one", "/api/two"]


# --- every minute -----------------------------------------------------------------------------------------------------


def test_an_end_that_was_never_told_is_found() -> None:
    with playing(calling(), peers=2) as stage:
        risky(stage)
        fires(stage, RISK)
        stage.at("2:30")
        ends(stage, RISK)
        stage.at("3:30")
        assert stage.told("alert_resolved") == [], "one look is not enough"
        stage.at("4:30")
        assert stage.told("alert_resolved") == ["4:00"]
        assert any("No Alertmanager lists TooMuchRisk any more, and nobody told us" in line for line in stage.thread)
        assert stage.incident.closed


def test_as_long_as_one_lists_it_it_has_not_ended() -> None:
    with playing(calling(), peers=2) as stage:
        risky(stage)
        fires(stage, RISK)
        stage.peers[0].ends(RISK)
        stage.at("10:00")
        assert stage.told("alert_resolved") == []


def test_two_looks_count_only_in_succession() -> None:
    with playing(calling(), peers=1) as stage:
        risky(stage)
        fires(stage, RISK)
        stage.at("0:30")
        ends(stage, RISK)
        stage.at("1:30")
        stage.peers[0].down = True
        stage.at("2:30")
        stage.peers[0].down = False
        stage.at("3:30")
        assert stage.told("alert_resolved") == []
        stage.at("4:30")
        assert stage.told("alert_resolved") == ["4:00"]


def test_from_the_empty_list_of_one_that_was_restarted_nothing_is_concluded() -> None:
    with playing(calling(), peers=1) as stage:
        risky(stage)
        fires(stage, RISK)
        stage.at("1:30")
        stage.peers[0].restarts()
        stage.at("6:00")
        assert stage.told("alert_resolved") == []
        stage.peers[0].fires(RISK)
        stage.at("20:00")
        assert (stage.told("alert_resolved"), len(stage.incidents())) == ([], 1)


def test_what_fires_and_was_never_told_is_taken_in() -> None:
    with playing(calling(), peers=2) as stage:
        risky(stage)
        fires(stage, RISK)
        stage.at("0:30")
        stage.peers[1].fires(OTHER)
        stage.at("2:30")
        assert len(stage.told("alert_fired")) == 1, "a notification may still be on its way"
        stage.at("3:30")
        assert stage.told("alert_fired") == ["0:00", "3:00"]
        (found,) = [e.fact for e in stage.events(stage.incident) if getattr(e.fact, "found", False)]
        assert getattr(found, "labels", None) == OTHER


def test_alerts_of_other_receivers_are_not_ours() -> None:
    with playing(calling(), peers=1) as stage:
        risky(stage)
        fires(stage, RISK)
        stage.peers[0].receiver = "other-team"
        stage.peers[0].fires(OTHER)
        stage.at("9:00")
        assert len(stage.told("alert_fired")) == 1


def test_what_a_silenced_or_muted_alert_does_is_not_missed() -> None:
    with playing(calling(), peers=1) as stage:
        risky(stage)
        fires(stage, RISK)
        stage.peers[0].fires(OTHER, mutedBy=["nights"])
        third = an_alert(alertname="TooMuchRisk", symbol="SOL-USD")
        stage.peers[0].fires(third)
        stage.peers[0].silences(third)
        stage.at("9:30")
        assert len(stage.told("alert_fired")) == 1
        stage.peers[0].fires(OTHER)
        stage.peers[0].ends_silence(third)
        stage.at("12:30")
        assert stage.told("alert_fired") == ["0:00", "10:00", "12:00"]


def test_before_028_what_a_route_may_mute_is_not_taken_in() -> None:
    with playing(calling(), peers=1) as stage:
        risky(stage)
        fires(stage, RISK)
        stage.peers[0].config = "route: {receiver: responder, mute_time_intervals: [nights]}"
        stage.peers[0].fires(OTHER)
        stage.at("9:00")
        assert len(stage.told("alert_fired")) == 1


def test_the_rest_of_a_list_that_was_cut_is_found() -> None:
    with playing(calling(), peers=1) as stage:
        risky(stage)
        stage.peers[0].fires(RISK, OTHER)
        cut = {"status": "firing", "labels": RISK, "annotations": {}, "startsAt": "2026-11-20T17:02:42Z"}
        head = {"version": "4", "receiver": "responder", "groupKey": "g", "truncatedAlerts": 1}
        stage.post(json.dumps({**head, "alerts": [cut]}).encode())
        stage.at("3:30")
        assert stage.told("alert_fired") == ["0:00", "3:00"]


def test_a_silence_and_its_end_are_told_once_whatever_is_restarted() -> None:
    with playing(calling(), peers=1) as stage:
        risky(stage, helps=False)
        fires(stage, RISK, OTHER)
        stage.at("0:30")
        for alert in (RISK, OTHER):
            stage.peers[0].silences(alert)
        stage.at("3:30")
        assert stage.told("alerts_silenced") == ["1:00"], "both in one line"
        assert any("2 alerts are silenced in Alertmanager (silence s" in line for line in stage.thread)
        stage.restart()
        stage.at("5:30")
        assert stage.told("alerts_silenced") == ["1:00"]
        for alert in (RISK, OTHER):
            stage.peers[0].ends_silence(alert)
        stage.restart()
        assert len(stage.told("alerts_unsilenced")) == 1
        stage.at("9:00")
        assert len(stage.told("alerts_unsilenced")) == 1


def test_what_is_not_from_alertmanager_is_never_ended_by_it() -> None:
    with playing(calling(), peers=1) as stage:
        risky(stage)
        stage.peers[0].fires(OTHER)
        alert = {"status": "firing", "labels": RISK, "annotations": {}, "startsAt": "2026-11-20T17:02:42Z",
                 "endsAt": "0001-01-01T00:00:00Z", "fingerprint": "0123456789abcdef", "values": {}}  # fmt: skip
        head = {"version": "1", "orgId": 1, "receiver": "responder", "groupKey": "g", "state": "alerting", "title": "t",
                "message": "m", "truncatedAlerts": 0, "status": "firing"}  # fmt: skip
        stage.post(json.dumps({**head, "alerts": [alert]}).encode())
        assert stage.did == [("0:00", "/api/orders")]
        stage.at("9:00")
        assert stage.told("alert_resolved") == []
