"""What holds a change back: limits, budget, evidence, pause, modes. Refusing is never silent."""

from __future__ import annotations

from typing import Any

from responder.recorded import Mode, Result
from responder.timing import SECOND
from tests.acceptance.stage import RISK, Stage, own, playing, risky
from tests.builders import a_runbook, call_step, cut_step


def again(stage: Stage) -> None:
    """The alert ends with a good check, and fires anew a minute later."""
    stage.world.numbers["risk"] = lambda: 0.5
    stage.resolves(RISK)
    stage.after("1m")
    assert stage.incidents()[-1].closed
    risky(stage, helps=False)
    stage.fires(RISK)


def limited(**parts: Any) -> Any:
    return own(a_runbook(steps=[call_step()], **parts))


def test_a_cooldown_lets_the_next_run_wait() -> None:
    with playing(limited(limits={"cooldown": "10m"})) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        again(stage)
        stage.at("9:59")
        assert len(stage.did) == 1
        assert stage.told("waiting") == ["2:00"]
        stage.at("10:02")
        assert len(stage.did) == 2


def test_a_brake_passes_it_and_people_hear_of_it() -> None:
    with playing(limited(limits={"cooldown": "10m"}, brake=True)) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        again(stage)
        assert len(stage.did) == 2
        assert stage.pages == [("2:00", "first")]
        assert "brake passes: cooldown" in str(stage.incidents()[-1].urgent)


def test_so_many_runs_in_a_window_and_no_more() -> None:
    with playing(limited(limits={"runs": "2 per 6h"})) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        again(stage)
        stage.at("4:00")
        again(stage)
        assert len(stage.did) == 2
        assert stage.incidents()[-1].result is Result.CANCELLED
        assert "2 runs already, limit 2 per 6h" in str(stage.incidents()[-1].urgent)
        assert stage.pages[-1] == ("5:00", "first")


def test_a_runbook_that_did_not_help_is_not_tried_for_ever() -> None:
    with playing(limited(limits={"ineffective": "1 per 24h"})) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        stage.at("3:00")
        assert stage.last_run.result is Result.INEFFECTIVE
        again(stage)
        assert len(stage.did) == 1
        assert "did not help" in str(stage.incidents()[-1].urgent)


def test_the_total_of_a_day_holds_for_brakes_too() -> None:
    with playing(own(a_runbook(brake=True, steps=[cut_step()]))) as stage:
        risky(stage)
        stage.world.kelly = 0.35
        stage.fires(RISK)
        stage.at("1:00")
        stage.world.kelly = 0.35
        again(stage)
        assert stage.did == [("0:00", "/api/risk/emergency-reduce")]
        assert "0.25 taken off in 24h, 0.25 more would pass the total of 0.3" in str(stage.incidents()[-1].urgent)
        assert stage.pages == [("2:00", "first")]
        draws = stage.scope("parameter:risk-api/kelly_fraction")
        assert draws is not None
        assert len(draws["draws"]) == 1


def test_a_day_later_there_is_room_again() -> None:
    with playing(own(a_runbook(brake=True, steps=[cut_step()]))) as stage:
        risky(stage)
        stage.world.kelly = 0.35
        stage.fires(RISK)
        stage.at("1:00")
        stage.world.kelly = 0.35
        stage.world.numbers["risk"] = lambda: 0.5
        stage.resolves(RISK)
        stage.after("1d")
        risky(stage, helps=False)
        stage.fires(RISK)
        assert stage.world.kelly == 0.1


def test_evidence_against_it_ends_the_run_and_wakes_nobody() -> None:
    with playing(limited(only_if={"check": "risk", "expect": "value > 1.5"})) as stage:
        stage.world.numbers["risk"] = lambda: 1.2
        stage.fires(RISK)
        stage.at("1:00")
        assert (stage.last_run.result, stage.did, stage.pages) == (Result.CANCELLED, [], [])


def test_no_evidence_is_for_people() -> None:
    with playing(limited(only_if={"check": "risk", "expect": "value > 1.5"})) as stage:
        stage.world.dark = True
        stage.fires(RISK)
        assert stage.did == []
        assert stage.pages == [("0:00", "first")]


def test_paused_it_waits_pages_all_the_same_and_goes_on_when_resumed() -> None:
    with playing(limited(brake=True)) as stage:
        risky(stage)
        stage.pauses("alice", "exchange maintenance")
        stage.fires(RISK)
        stage.at("5:00")
        assert stage.did == []
        assert stage.pages == [("2:00", "first")]
        assert stage.incident.status == "waiting"
        stage.resumes("alice")
        stage.at("5:10")
        assert [path for _, path in stage.did] == ["/api/orders"]


def test_observing_shows_what_it_would_do() -> None:
    with playing(limited(mode="observe")) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        stage.at("3:00")
        assert stage.last_run.result is Result.OBSERVED
        assert stage.did == []
        assert stage.told("previewed") == ["0:00"]
        assert any("would do: POST /api/orders" in line for line in stage.thread)


def test_the_ceiling_of_the_installation_wins() -> None:
    with playing(own(a_runbook(steps=[call_step()], brake=True), mode="observe")) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        stage.at("1:00")
        assert (stage.last_run.mode, stage.did) == (Mode.OBSERVE, [])


def test_already_low_enough_is_fine_and_still_verified() -> None:
    with playing(own(a_runbook())) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        stage.world.kelly = 0.08
        stage.fires(RISK)
        assert stage.world.kelly == 0.08
        assert "already" in stage.last_run.steps[0].why
        stage.at("2:05")
        assert stage.last_run.result is Result.INEFFECTIVE
        assert stage.pages == [("2:00", "first")]


def slow(stage: Stage, thinks: float, reads: float, sample_age: int) -> None:
    """Each query takes `thinks` seconds, a check is two of them; the preparation of the change takes `reads`."""
    risky(stage, helps=False)
    stage.world.numbers["load"] = lambda: 1.0
    stage.world.thinks, stage.world.reads, stage.world.sample_age = thinks, reads, sample_age
    stage.fires(RISK)


def two_checks(max_age: str) -> Any:
    """One check stands in `when`, the other in `only_if`."""
    given = {"action": "prometheus.query", "max_age": max_age, "timeout": "1m"}
    checks = {
        name: {**given, "with": {"service": "metrics", "query": name, "freshness": name}} for name in ("risk", "load")
    }
    only_if, step = {"check": "risk", "expect": "value > 1"}, cut_step(when="checks.load > 0", timeout="1m")
    return own(a_runbook(checks=checks, only_if=only_if, steps=[step], verify=None))


def test_slow_checks_that_would_outlive_each_other_in_turns_are_read_together() -> None:
    with playing(two_checks("10s")) as stage:
        slow(stage, 3.0, 0.0, 5 * SECOND)
        stage.at("5:00")
        assert [at for at, _ in stage.did] == ["0:18"]


def test_what_is_never_fresh_all_at_once_ends_and_says_so() -> None:
    """Each answer is fresh when it comes in; by the time that the change is prepared as well, the first is too old."""
    with playing(two_checks("40s")) as stage:
        slow(stage, 16.0, 20.0, 10 * SECOND)
        stage.at("10:00")
        assert (stage.did, stage.last_run.result) == ([], Result.FAILED)
        told = "step cut: check load (max_age 40s), check risk (max_age 40s) was too old again when everything else"
        assert told in stage.last_run.why
        assert told in str(stage.incident.urgent)
        assert ("2:00", "first") in stage.pages
