"""Changes and their outcomes: retries, lost answers, locks, what is put back."""

from __future__ import annotations

import pytest

from responder.errors import Rejected
from responder.recorded import Outcome, Result, StepStatus
from tests.acceptance.stage import RISK, Stage, own, playing, risky
from tests.builders import a_runbook, an_alert, call_step, cut_step

PROBE = {"probe": {"path": "/api/status", "expect": 'body.trading == "halted"'}}
HALT = call_step("halt", "/api/stop-trading", more=PROBE)
OTHER = an_alert(alertname="Other", symbol="")


def attempts(stage: Stage) -> list[Outcome | None]:
    return [a.outcome for a in stage.last_run.attempts]


# --- retries ----------------------------------------------------------------------------------------------------------


def test_what_is_refused_for_now_is_tried_again_with_backoff_and_then_fails() -> None:
    retry = {"attempts": 3, "first": "10s", "factor": 2}
    with playing(own(a_runbook(steps=[call_step(retry=retry)]))) as stage:
        risky(stage)
        stage.world.refused = [429, 429, 429]
        stage.fires(RISK)
        stage.at("0:29")
        assert len(attempts(stage)) == 2
        stage.at("0:31")
        assert attempts(stage) == [Outcome.TEMPORARY] * 3
        assert [(a.intended_at - stage.scene.start) // 1_000_000 for a in stage.last_run.attempts] == [0, 10, 30]
        assert stage.last_run.result is Result.FAILED
        assert stage.pages == [("0:30", "first")]


def test_a_second_try_that_works_is_a_success() -> None:
    with playing(own(a_runbook(steps=[call_step(retry={"attempts": 2, "first": "5s"})]))) as stage:
        risky(stage)
        stage.world.refused = [429]
        stage.fires(RISK)
        stage.at("0:06")
        assert attempts(stage) == [Outcome.TEMPORARY, Outcome.OK]
        assert stage.incident.result is Result.FIXED


def test_a_failed_step_ends_the_run() -> None:
    with playing(own(a_runbook(steps=[call_step("one"), call_step("two")]))) as stage:
        risky(stage)
        stage.world.refused = [400]
        stage.fires(RISK)
        assert (stage.last_run.result, stage.did) == (Result.FAILED, [])
        assert stage.pages == [("0:00", "first")]


def test_unless_it_says_continue() -> None:
    with playing(own(a_runbook(steps=[call_step("one", on_failure="continue"), call_step("two")]))) as stage:
        risky(stage)
        stage.world.refused = [400]
        stage.fires(RISK)
        assert [s.status for s in stage.last_run.steps] == [StepStatus.FAILED, StepStatus.DONE]
        assert stage.did == [("0:00", "/api/orders")]


def test_a_step_whose_condition_is_not_true_is_skipped() -> None:
    steps = [call_step("one"), call_step("two", when='steps.one.status == "failed"'), call_step("three", "/api/last")]
    with playing(own(a_runbook(steps=steps))) as stage:
        risky(stage)
        stage.fires(RISK)
        assert stage.last_run.step("two").status is StepStatus.SKIPPED
        assert [path for _, path in stage.did] == ["/api/orders", "/api/last"]


def test_an_answer_that_is_not_as_expected_fails_the_step() -> None:
    with playing(own(a_runbook(steps=[call_step(expect="value.body.ok == false")]))) as stage:
        risky(stage)
        stage.fires(RISK)
        assert stage.last_run.result is Result.FAILED
        assert "value.body.ok true" in stage.last_run.why


def test_a_manual_step_waits_for_a_person() -> None:
    steps = [{"id": "look", "manual": "Is the feed alive?"}, call_step()]
    with playing(own(a_runbook(steps=steps))) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("10:00")
        assert stage.did == []
        assert stage.incident.status == "waiting"
        stage.person("done", "alice", "it is")
        assert stage.did == [("10:00", "/api/orders")]


# --- lost answers -----------------------------------------------------------------------------------------------------


def test_a_lost_answer_to_a_change_that_happened_is_a_success() -> None:
    with playing(own(a_runbook())) as stage:
        risky(stage)
        stage.world.lost = "applied"
        stage.fires(RISK)
        assert stage.did == [("0:00", "/api/risk/emergency-reduce")]
        assert stage.last_run.step("cut").status is StepStatus.DONE
        stage.at("1:00")
        assert stage.pages == []


def test_a_change_that_did_not_happen_is_sent_again() -> None:
    with playing(own(a_runbook(steps=[HALT]))) as stage:
        risky(stage)
        stage.world.lost = "not applied"
        stage.world.slow = 1.0
        stage.fires(RISK)
        stage.at("0:01")
        stage.world.lost = ""
        stage.at("0:03")
        assert attempts(stage) == [Outcome.UNKNOWN, Outcome.OK]
        assert stage.did == [("0:02", "/api/stop-trading")]
        keys = {a.key for a in stage.last_run.attempts}
        assert len(keys) == 1, "sending again is the same change"


def test_what_nobody_can_tell_stays_unknown_pages_and_keeps_its_lock() -> None:
    with playing(own(a_runbook(steps=[call_step()]))) as stage:
        risky(stage, helps=False)
        stage.world.lost = "applied"
        stage.fires(RISK)
        assert stage.pages == [("0:00", "first")]
        stage.at("3:00")
        assert stage.last_run.result is Result.UNKNOWN
        lock = stage.scope("lock:risk-api/kelly_fraction")
        assert lock is not None
        assert lock["unknown"]
        assert len(stage.did) == 1, "it is not sent a second time"
        stage.person("settle", "alice", "seen in the exchange's log", applied=True)
        assert stage.scope("lock:risk-api/kelly_fraction") is None
        assert stage.incident.unsettled == ()


def test_a_probe_that_cannot_tell_leaves_it_unknown() -> None:
    with playing(own(a_runbook(steps=[HALT]))) as stage:
        risky(stage, helps=False)
        stage.world.lost = "applied"
        stage.world.slow = 1.0
        stage.fires(RISK)
        stage.world.blind = True
        stage.at("0:30")
        assert stage.last_run.step("halt").status is StepStatus.RUNNING, "it is asked again before people are"
        assert stage.pages == []
        stage.at("0:32")
        assert stage.last_run.step("halt").status is StepStatus.UNKNOWN
        assert stage.told("probed") == ["0:01", "0:03", "0:07", "0:15", "0:31"]
        assert stage.pages == [("0:31", "first")]
        assert len(stage.did) == 1


def test_an_unknown_that_verification_proves_right_is_fixed_and_still_to_be_settled() -> None:
    with playing(own(a_runbook(steps=[call_step()]))) as stage:
        risky(stage)
        stage.world.lost = "applied"
        stage.fires(RISK)
        stage.at("0:10")
        assert stage.last_run.result is Result.FIXED
        assert len(stage.incident.unsettled) == 1
        lock = stage.scope("lock:risk-api/kelly_fraction")
        assert lock is not None
        assert lock["unknown"]


def test_a_change_without_an_end_times_out_as_unknown_and_is_found_out() -> None:
    with playing(own(a_runbook(steps=[cut_step(timeout="5s")]))) as stage:
        risky(stage)
        stage.world.slow = 60.0
        stage.fires(RISK)
        stage.at("0:06")
        assert attempts(stage)[0] is Outcome.UNKNOWN
        assert stage.last_run.attempts[0].probe is not None


def test_a_service_that_honours_keys_gets_the_same_key_again() -> None:
    with playing(own(a_runbook(steps=[call_step(service="keyed-api")]))) as stage:
        risky(stage)
        stage.world.lost = "applied"
        stage.world.slow = 1.0
        stage.fires(RISK)
        stage.at("0:01")
        stage.world.lost = ""
        stage.at("0:03")
        assert len(stage.world.keys) == 1
        assert attempts(stage) == [Outcome.UNKNOWN, Outcome.OK]


def test_a_process_that_dies_in_flight_finds_out_what_it_did() -> None:
    with playing(own(a_runbook())) as stage:
        risky(stage)
        stage.world.slow = 3.0
        stage.fires(RISK)
        stage.at("0:01")
        stage.stop()
        stage.world.kelly = 0.1
        stage.boot()
        stage.at("0:10")
        assert stage.last_run.step("cut").status is StepStatus.DONE
        assert stage.world.changes == [], "nothing was sent a second time"


def test_a_process_that_dies_before_sending_sends_after_the_restart() -> None:
    with playing(own(a_runbook())) as stage:
        risky(stage)
        stage.world.slow = 3.0
        stage.fires(RISK)
        stage.at("0:01")
        stage.restart()
        stage.at("0:10")
        assert stage.did == [("0:04", "/api/risk/emergency-reduce")]


# --- locks ------------------------------------------------------------------------------------------------------------


def two(**second: object) -> tuple[dict[str, object], dict[str, object]]:
    """Two runbooks on one target."""
    first = a_runbook(steps=[call_step()])
    return first, {**a_runbook(runbook="second", match="Other", steps=[call_step(path="/api/second")]), **second}


def test_a_run_waits_for_the_lock_of_another_and_goes_on_when_it_is_free() -> None:
    with playing(own(*two())) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        stage.fires(OTHER)
        stage.at("1:00")
        assert [path for _, path in stage.did] == ["/api/orders"]
        assert len(stage.incidents()) == 2
        stage.at("2:06")
        assert [path for _, path in stage.did] == ["/api/orders", "/api/second"]


def test_an_unknown_holds_back_others_until_it_is_settled() -> None:
    with playing(own(*two())) as stage:
        risky(stage, helps=False)
        stage.world.lost = "applied"
        stage.fires(RISK)
        stage.at("3:00")
        stage.world.lost = ""
        stage.fires(OTHER)
        stage.at("4:00")
        assert [path for _, path in stage.did] == ["/api/orders"]
        assert stage.incidents()[-1].result is Result.CANCELLED
        assert "locked" in str(stage.incidents()[-1].urgent)


def test_but_not_a_brake() -> None:
    with playing(own(*two(brake=True))) as stage:
        risky(stage, helps=False)
        stage.world.lost = "applied"
        stage.fires(RISK)
        stage.at("3:00")
        stage.world.lost = ""
        stage.fires(OTHER)
        assert [path for _, path in stage.did] == ["/api/orders", "/api/second"]
        stage.at("6:00")
        lock = stage.scope("lock:risk-api/kelly_fraction")
        assert lock is not None
        assert lock["unknown"], "the first one's question is still open"


def test_a_person_unlocks_with_a_reason() -> None:
    with playing(own(*two())) as stage:
        risky(stage, helps=False)
        stage.world.lost = "applied"
        stage.fires(RISK)
        stage.at("3:00")
        with pytest.raises(Rejected, match="--reason"):
            stage.person("unlock")
        stage.person("unlock", "alice", "looked: nothing was sent")
        assert stage.scope("lock:risk-api/kelly_fraction") is None


# --- putting back -----------------------------------------------------------------------------------------------------

RESTORED = a_runbook(steps=[cut_step(restore={"approval": "risk-manager", "remind": "4h"})])


def test_a_person_puts_a_value_back() -> None:
    with playing(own(RESTORED)) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        stage.resolves(RISK)
        assert stage.incident.closed
        stage.at("30:00")
        stage.person("restore", "desk")
        stage.at("31:00")
        assert stage.world.kelly == 0.25
        assert stage.scope("in_force:risk-api/kelly_fraction") is None
        stage.at("9:00:00")
        assert stage.told("restore_reminded") == []


def test_but_not_over_what_somebody_else_has_set() -> None:
    with playing(own(RESTORED)) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        stage.resolves(RISK)
        stage.world.kelly = 0.15
        stage.person("restore", "desk")
        stage.at("2:00")
        assert stage.world.kelly == 0.15
        assert stage.last_run.result is Result.FAILED
        assert stage.scope("in_force:risk-api/kelly_fraction") is not None


def test_people_are_reminded_until_it_is_put_back() -> None:
    with playing(own(RESTORED)) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        stage.resolves(RISK)
        stage.at("3:59:00")
        assert stage.told("restore_reminded") == []
        stage.restart()
        stage.at("8:00:01")
        assert stage.told("restore_reminded") == ["4:00:00", "8:00:00"]
        assert sum("Still in force" in line for line in stage.thread) == 2
