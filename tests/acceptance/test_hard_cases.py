"""Cases in which automation would do harm without being seen: each was found by a review and once went wrong."""

from __future__ import annotations

import pytest

from responder.errors import Rejected
from responder.recorded import Result, StepStatus
from responder.timing import HOUR, MINUTE, SECOND
from tests.acceptance.stage import RISK, START, alert, halting, own, playing, risky, shown, unverified
from tests.builders import a_runbook, an_alert, call_step, cut_step

LOCK = "lock:risk-api/kelly_fraction"
IN_FORCE = "in_force:risk-api/kelly_fraction"
RESTORE = {"approval": "risk-manager", "remind": "4h"}
ASKS = {"action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}}


# --- people are woken by what they could not know ---------------------------------------------------------------------


def test_what_becomes_unknown_after_an_acknowledgement_wakes_people_again() -> None:
    with playing(own(a_runbook(steps=[call_step()]), grace="0s")) as stage:
        risky(stage, helps=False)
        stage.pauses()
        stage.fires(RISK)
        stage.at("2:00")
        stage.person("ack")
        stage.world.lost = "applied"
        stage.resumes()
        stage.at("6:00")
        assert stage.last_run.result is Result.UNKNOWN
        assert stage.pages == [("0:00", "first"), ("2:05", "first")], "the waiting run looks every five seconds"
        assert stage.incident.acknowledged is not None


def test_a_second_urgent_reason_is_a_second_page() -> None:
    only_if = {"check": "risk", "expect": "value > 1", "if_missing": "act_and_page"}
    with playing(own(a_runbook(brake=True, steps=[call_step(timeout="5m")], only_if=only_if))) as stage:
        stage.world.dark = True
        stage.world.slow = 60
        stage.world.lost = "applied"
        stage.fires(RISK)
        stage.at("2:00")
        assert stage.pages == [("0:00", "first"), ("1:00", "first")]
        assert "may or may not have happened" in stage.page_texts[1]
        keys = [s.message.key for s in stage.sent if s.message.kind == "page"]
        assert len(set(keys)) == 2, "a pager would append to an open key without waking anybody"


def test_a_promise_wakes_a_destination_whose_page_is_open() -> None:
    rules = own(a_runbook(steps=[call_step()], unless_fixed={"5m": {"page": "first"}}), grace="0s")
    with playing(rules) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        stage.at("6:00")
        keys = [str(s.message.key).rpartition("/")[2] for s in stage.sent if s.message.kind == "page"]
        assert keys == ["l0.0", "u1", "m0.0"]


def test_what_fails_to_be_put_back_after_the_end_wakes_people() -> None:
    with playing(own(a_runbook(steps=[cut_step(restore=RESTORE)]))) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("0:30")
        stage.resolves(RISK)
        stage.at("2:00")
        assert (stage.incident.closed, stage.pages) == (True, [])
        stage.world.lost = "applied"
        stage.world.slow = 1.0
        stage.person("restore", "desk")
        stage.world.blind = True
        stage.at("3:00")
        assert stage.last_run.result is Result.UNKNOWN
        assert stage.pages == [("2:31", "first")]


def test_fixed_again_and_again_somebody_who_had_it_once_does_not_keep_it() -> None:
    with playing(own(a_runbook(), grace="0s")) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("0:10")
        stage.person("ack")
        stage.at("3:00")
        assert stage.incident.result is Result.FIXED
        stage.at("10:00")
        stage.world.numbers["risk"] = lambda: 2.0
        stage.at("11:00")
        assert stage.incident.acknowledged is None
        assert len(stage.pages) == 2, stage.pages


@pytest.mark.parametrize("dark", [True, False], ids=["no evidence", "bad evidence"])
def test_fixed_and_resolved_without_a_good_check_somebody_is_told(dark: bool) -> None:
    with playing(own(a_runbook())) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        stage.world.dark = dark
        stage.world.numbers["risk"] = lambda: 1.2
        stage.resolves(RISK)
        stage.at("2:00:00")
        assert not stage.incident.closed
        unseen = [("1:00", "first")] if dark else []
        assert stage.pages == [*unseen, ("15:00", "first")]
        assert ("gives no evidence" if dark else "its check does not hold") in stage.page_texts[0]


def test_called_fixed_while_the_alert_goes_on_is_told_once() -> None:
    with playing(own(a_runbook())) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("4:00:00")
        assert [who for _, who in stage.pages] == ["first"]
        assert "fixed 15m ago, but the alert still fires" in stage.page_texts[0]


def test_one_that_joins_when_nobody_can_see_is_answered_again() -> None:
    with playing(own(a_runbook())) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("2:00")
        stage.world.dark = True
        stage.at("3:00")
        stage.fires(an_alert(alertname="TooMuchRisk", symbol="ETH-USD"))
        stage.at("10:00")
        assert [run.result for run in stage.incident.runs] == [Result.FIXED, Result.UNVERIFIED]
        assert "first" in [who for _, who in stage.pages]


# --- what counts as evidence ------------------------------------------------------------------------------------------


def test_a_sample_from_before_the_change_is_no_evidence_of_it() -> None:
    check = {**ASKS, "with": {**ASKS["with"], "freshness": "risk"}, "max_age": "60s"}  # type: ignore[dict-item]
    with playing(own(a_runbook(checks={"risk": check}))) as stage:
        stage.world.numbers["risk"] = lambda: 0.5
        stage.world.sample_age = 50 * SECOND
        stage.fires(RISK)
        stage.at("0:49")
        assert stage.last_run.result is None
        stage.at("0:56")
        assert stage.last_run.result is Result.FIXED


def test_while_nobody_looked_it_has_not_held() -> None:
    verify = {"check": "risk", "expect": "value < 1", "within": "2m", "hold": "30s"}
    with playing(own(a_runbook(verify=verify))) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("0:06")
        stage.restart(HOUR)
        stage.after("20s")
        assert stage.last_run.result is None
        stage.after("15s")
        assert stage.last_run.result is Result.FIXED


def test_a_check_that_answers_slowly_is_not_asked_for_ever() -> None:
    only_if = {"check": "risk", "expect": "value > 1", "if_missing": "act_and_page"}
    rules = own(a_runbook(checks={"risk": {**ASKS, "max_age": "5s", "timeout": "20s"}}, only_if=only_if))
    with playing(rules) as stage:
        risky(stage)
        stage.world.thinks = 6
        stage.fires(RISK)
        stage.at("0:30")
        assert stage.world.kelly == 0.1
        assert len(stage.told("gathered")) <= 3


def test_one_probe_without_an_answer_does_not_make_it_unknown() -> None:
    with playing(own(a_runbook())) as stage:
        risky(stage, helps=False)
        stage.world.lost = "applied"
        stage.world.slow = 1.0
        stage.fires(RISK)
        stage.world.blind = True
        stage.at("0:02")
        stage.world.blind = False
        stage.at("0:05")
        assert stage.last_run.step("cut").status is StepStatus.DONE
        assert len(stage.did) == 1


def test_what_a_person_says_has_happened_can_be_put_back() -> None:
    with playing(own(a_runbook(steps=[cut_step(restore=RESTORE)]))) as stage:
        risky(stage, helps=False)
        stage.world.lost = "applied"
        stage.world.slow = 1.0
        stage.fires(RISK)
        stage.world.blind = True
        stage.at("5:00")
        assert stage.last_run.result is Result.UNKNOWN
        stage.world.blind, stage.world.lost, stage.world.slow = False, "", 0.0
        stage.person("settle", note="seen", applied=True)
        assert stage.scope(IN_FORCE) is not None
        stage.person("restore", "desk")
        stage.at("6:00")
        assert stage.world.kelly == 0.25
        assert stage.scope(IN_FORCE) is None


def test_it_is_settled_by_the_runbook_that_did_it_whatever_ran_since() -> None:
    first, halt = halting("3m")
    with playing(own({**first, "steps": [cut_step(restore=RESTORE)]}, halt)) as stage:
        risky(stage, helps=False)
        stage.world.lost = "applied"
        stage.world.slow = 1.0
        stage.fires(RISK)
        stage.world.blind = True
        stage.at("2:30")
        stage.world.blind, stage.world.lost, stage.world.slow = False, "", 0.0
        stage.at("5:00")
        assert [run.runbook for run in stage.incident.runs] == ["cut", "halt"]
        stage.person("settle", note="seen", applied=True)
        body = stage.scope(IN_FORCE)
        assert body is not None
        assert body["step"] == "cut"


# --- locks and budgets ------------------------------------------------------------------------------------------------


def test_putting_back_what_a_brake_did_passes_no_lock() -> None:
    cut = a_runbook(brake=True, steps=[cut_step(restore=RESTORE)])
    with playing(own(cut, unverified("Other"))) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("0:30")
        first = stage.incidents()[0].id
        stage.world.lost = "applied"
        stage.fires(alert("Other"))
        stage.at("1:00")
        stage.world.lost = ""
        stage.person("restore", "desk", incident=first)
        stage.at("2:00")
        assert stage.world.kelly == 0.1
        run = stage.incidents()[0].run
        assert run is not None
        assert (run.result, "is locked" in run.why) == (Result.CANCELLED, True)


def test_what_a_brake_left_unknown_is_locked() -> None:
    slow = unverified("Slow", steps=[cut_step(), {"id": "hand", "manual": "look"}])
    with playing(own(slow, unverified("Brake", brake=True), unverified("Third"))) as stage:
        stage.fires(alert("Slow"))
        stage.at("0:10")
        stage.world.lost = "applied"
        stage.fires(alert("Brake"))
        stage.at("0:20")
        stage.world.lost = ""
        first, brake = stage.incidents()
        stage.person("done", incident=first.id)
        stage.at("0:30")
        stage.fires(alert("Third"))
        stage.at("0:40")
        assert "/api/third" not in stage.world.done
        lock = stage.scope(LOCK)
        assert lock is not None
        assert (lock["incident"], lock["unknown"]) == (brake.id, True)


def test_nobody_unlocks_what_is_being_done() -> None:
    steps = {name: [call_step(name, f"/api/{name}", timeout="5m")] for name in ("first", "other")}
    with playing(own(unverified("First", steps=steps["first"]), unverified("Other", steps=steps["other"]))) as stage:
        stage.world.slow = 60
        stage.fires(alert("First"))
        stage.at("0:05")
        stage.fires(alert("Other"))
        stage.at("0:10")
        with pytest.raises(Rejected, match="is being done right now"):
            stage.person("unlock", note="it is only in the way", incident=stage.incidents()[1].id)
        stage.at("0:20")
        assert [i.run is not None and i.run.open_attempt is not None for i in stage.incidents()] == [True, False]


def test_a_replay_unlocks_nothing() -> None:
    with playing(own(unverified("First"))) as stage:
        stage.world.lost = "applied"
        stage.fires(alert("First"))
        stage.at("0:10")
        stage.fires(alert("First"), namespace="replay")
        stage.at("0:20")
        with pytest.raises(Rejected, match="a replay holds no locks"):
            stage.person("unlock", note="x")
        lock = stage.scope(LOCK)
        assert lock is not None
        assert lock["unknown"]


def test_a_retry_takes_nothing_off_the_budget_twice() -> None:
    with playing(own(a_runbook(steps=[cut_step(retry={"attempts": 3})], brake=True))) as stage:
        risky(stage)
        stage.world.kelly = 0.3
        stage.world.refused = [429]
        stage.fires(RISK)
        stage.at("1:00")
        assert (stage.world.kelly, stage.last_run.result) == (0.1, Result.FIXED)
        drawn = stage.scope("parameter:risk-api/kelly_fraction")
        assert drawn is not None
        assert [draw["amount"] for draw in drawn["draws"]] == [pytest.approx(0.2)]


def test_a_service_in_trouble_is_given_time() -> None:
    with playing(own(a_runbook(steps=[call_step(service="keyed-api")]))) as stage:
        risky(stage, helps=False)
        stage.world.lost = "not applied"
        stage.fires(RISK)
        stage.at("0:20")
        assert stage.told("attempt_intended") == ["0:00", "0:00", "0:02", "0:06", "0:14"]
        assert stage.last_run.step("call").status is StepStatus.UNKNOWN


# --- the machine's next step ------------------------------------------------------------------------------------------


def test_announced_late_the_halt_comes_late() -> None:
    with playing(own(*halting("5m", countdown="1m"))) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        stage.at("3:30")
        stage.restart(2 * MINUTE)
        assert stage.told("machine_announced") == ["5:30"]
        stage.at("6:29")
        assert "/api/stop-trading" not in stage.world.done
        stage.at("6:31")
        assert ("6:30", "/api/stop-trading") in stage.did


def test_a_halt_that_could_not_begin_in_time_is_for_people() -> None:
    with playing(own(*halting("3m"))) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        stage.at("2:30")
        stage.pauses()
        stage.at("3:59")
        assert stage.told("run_ended") == ["2:00"], "the first run only"
        stage.at("4:10")
        assert (stage.last_run.runbook, stage.last_run.result) == ("halt", Result.FAILED)
        assert "people decide now" in stage.last_run.why
        stage.resumes()
        stage.at("1:00:00")
        assert "/api/stop-trading" not in stage.world.done


def test_one_good_sample_at_the_very_time_does_not_spend_the_promise() -> None:
    first, halt = halting("3m")
    first["verify"] = {"check": "risk", "expect": "value < 1", "within": "4m", "hold": "2m"}
    with playing(own(first, halt)) as stage:
        stage.world.numbers["risk"] = lambda: 0.5 if 178 * SECOND < stage.clock() - START < 183 * SECOND else 2.0
        stage.fires(RISK)
        stage.at("3:30")
        assert stage.told("machine_fired") == []
        stage.at("5:00")
        assert stage.incident.runs[0].result is Result.INEFFECTIVE
        ended = stage.incident.runs[0].ended_at
        assert ended is not None
        assert stage.told("machine_fired") == [shown(ended - START)] == ["4:00"]
        assert "/api/stop-trading" in stage.world.done


def test_a_machine_that_takes_over_forgets_no_unknown_change() -> None:
    first, halt = halting("3m")
    with playing(own({**first, "steps": [cut_step()]}, halt)) as stage:
        risky(stage, helps=False)
        stage.pauses()
        stage.fires(RISK)
        stage.at("2:45")
        stage.world.lost, stage.world.slow = "applied", 1.0
        stage.resumes()
        stage.at("2:50")
        stage.world.blind = True
        stage.at("3:30")
        assert [run.runbook for run in stage.incident.runs] == ["cut", "halt"]
        assert stage.incident.runs[0].result is Result.UNKNOWN
        assert "cut" in [attempt.step for attempt in stage.incident.unsettled]
        lock = stage.scope(LOCK)
        assert lock is not None
        assert lock["unknown"]


def test_after_the_machines_run_the_incidents_own_check_is_read() -> None:
    first, halt = halting("3m")
    query = {"service": "metrics", "query": 'risk{s="{{ symbol }}"}'}
    first |= {"target": "risk-api/{{ symbol }}", "inputs": {"symbol": {"label": "symbol", "pattern": "[A-Z-]+"}},
              "checks": {"risk": {**ASKS, "with": query}}}  # fmt: skip
    with playing(own(first, halt)) as stage:
        risk = [2.0]
        stage.world.numbers['risk{s="BTC-USD"}'] = lambda: risk[0]
        one = an_alert(alertname="TooMuchRisk")
        stage.fires(one)
        stage.at("5:00")
        assert stage.last_run.runbook == "halt"
        risk[0] = 0.5
        stage.resolves(one)
        stage.at("6:00")
        assert stage.incident.closed
