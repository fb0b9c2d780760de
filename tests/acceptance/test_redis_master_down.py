"""The shipped runbook redis-master-down as timelines: the Sentinels first, then one of them is told, then people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from responder.cli import run
from responder.recorded import Result
from responder.sources import shipped_rules
from tests.acceptance.stage import Stage, playing, shipped
from tests.builders import an_alert
from tests.contract.sentinel_world import MASTER, NEAR, SENTINELS

DOWN = an_alert(
    alertname="RedisMasterDown", severity="critical", platform="nse-equities", job="redis-master", symbol=""
)
TOLD = "SENTINEL FAILOVER trading"


def dies(stage: Stage, **watched: Any) -> None:
    """It died fifteen seconds before the alert."""
    for name, value in {"down_for": 15_000, **watched}.items():
        setattr(stage.world.watched, name, value)


def elected(stage: Stage) -> None:
    """The Sentinels have promoted a replica by themselves."""
    stage.world.watched.new, stage.world.watched.epoch = NEAR, 4


def test_what_the_sentinels_have_not_done_is_done_after_their_turn() -> None:
    with playing(shipped("nse-equities")) as stage:
        dies(stage)
        stage.fires(DOWN)
        stage.at("0:05")
        assert stage.did == []
        stage.at("0:29")
        assert stage.did == [("0:10", TOLD)]
        assert stage.world.watched.told == [SENTINELS[0]]
        assert [key for _, key, _ in stage.world.watched.written] == ["responder:failover", "responder:write-test"]
        stage.at("2:00")
        assert (stage.incident.result, stage.pages) == (Result.FIXED, [])
        assert any(f"{NEAR} is the master in the place of {MASTER}" in line for line in stage.thread)


def test_what_the_sentinels_do_by_themselves_is_looked_at_and_written_to() -> None:
    with playing(shipped("nse-equities")) as stage:
        dies(stage)
        stage.fires(DOWN)
        stage.at("0:05")
        elected(stage)
        stage.at("2:00")
        assert (stage.did, stage.world.watched.told) == ([], [])
        assert stage.world.watched.written == [(NEAR, "responder:write-test", "1")]
        assert (stage.incident.result, stage.pages) == (Result.FIXED, [])


def test_the_sentinels_get_their_whole_turn() -> None:
    with playing(shipped("nse-equities")) as stage:
        dies(stage, down_for=7_000)
        stage.fires(DOWN)
        stage.at("0:12")
        assert stage.did == []
        dies(stage, down_for=20_000)
        stage.at("2:00")
        assert [what for _, what in stage.did] == [TOLD]
        assert stage.incident.result is Result.FIXED


def test_sentinels_that_notice_long_after_the_alert_are_waited_for() -> None:
    """down-after-milliseconds is 60 s here; the alert fired at once."""
    with playing(shipped("nse-equities")) as stage:
        dies(stage, down=frozenset(), down_for=0)
        stage.fires(DOWN)
        stage.at("1:00")
        assert stage.did == []
        dies(stage, down=frozenset(SENTINELS), down_for=1_000)
        stage.at("1:09")
        assert stage.did == []
        dies(stage, down_for=11_000, link_down_for=11)
        stage.at("3:00")
        assert [what for _, what in stage.did] == [TOLD]
        assert stage.incident.result is Result.FIXED
        assert stage.world.watched.told == [SENTINELS[0]]


def test_sentinels_that_elect_meanwhile_leave_nothing_to_do() -> None:
    with playing(shipped("nse-equities")) as stage:
        dies(stage, down=frozenset(), down_for=0)
        stage.fires(DOWN)
        stage.at("0:40")
        dies(stage, progress=frozenset({SENTINELS[1]}))
        elected(stage)
        stage.at("0:52")
        assert any(f"no Sentinel calls {NEAR} down, and it says that it is the master" in line for line in stage.thread)
        assert stage.world.watched.written == [(NEAR, "responder:write-test", "1")]
        stage.world.watched.progress = frozenset()
        stage.at("3:00")
        assert (stage.did, stage.world.watched.told) == ([], [])
        assert stage.incident.result is Result.FIXED


def test_a_lost_scrape_is_no_failover() -> None:
    with playing(shipped("nse-equities")) as stage:
        dies(stage, alive=True, down=frozenset(), down_for=0)
        stage.fires(DOWN)
        stage.at("2:00")
        assert (stage.did, stage.world.watched.told) == ([], [])
        assert stage.world.watched.written == [(MASTER, "responder:write-test", "1")]
        assert (stage.incident.result, stage.pages) == (Result.FIXED, [])


def test_a_master_that_only_the_responder_misses_is_left_alone() -> None:
    with playing(shipped("nse-equities")) as stage:
        dies(stage, down=frozenset(), down_for=0)
        stage.fires(DOWN)
        stage.at("3:00")
        assert (stage.did, stage.world.watched.told) == ([], [])
        assert stage.incident.result is not Result.FIXED
        assert any(f"no Sentinel calls {MASTER} down yet" in line for line in stage.thread)
        (when, who), *_ = stage.pages
        assert (when <= "0:30", who) == (True, "nse-oncall")


def refused(said: str, **watched: Any) -> Callable[[], None]:
    def played() -> None:
        with playing(shipped("nse-equities")) as stage:
            dies(stage, **watched)
            stage.fires(DOWN)
            stage.at("3:00")
            assert stage.did == []
            assert stage.incident.result is not Result.FIXED
            assert any(said in line for line in stage.thread), stage.thread
            (when, who), *_ = stage.pages
            assert (when <= "0:30", who) == (True, "nse-oncall")

    return played


test_without_a_quorum_people_act = refused("NOQUORUM", quorum=False)
test_without_a_replica_people_act = refused("its replica-priority is 0", priority=0)
test_a_replica_that_was_cut_off_first_is_for_people = refused("cut off 45s before the master", link_down_for=60)
test_soon_after_another_one_people_act = refused("two are 6m 00s apart", quiet_for=60_000)


def test_a_lost_answer_is_found_out_and_it_is_done_once() -> None:
    with playing(shipped("nse-equities")) as stage:
        dies(stage, stale=frozenset(SENTINELS[1:]))
        stage.fires(DOWN)
        stage.at("0:15")
        stage.restart()
        stage.at("0:25")
        stage.world.watched.stale = frozenset()
        stage.at("3:00")
        assert [what for _, what in stage.did] == [TOLD]
        assert stage.incident.result is Result.FIXED
        assert any("it happened" in line for line in stage.thread)


def test_two_sentinels_of_three_are_not_enough_for_fixed() -> None:
    with playing(shipped("nse-equities")) as stage:
        dies(stage, silent={SENTINELS[2]})
        stage.fires(DOWN)
        stage.at("2:00")
        assert [what for _, what in stage.did] == [TOLD]
        assert stage.incident.result is Result.INEFFECTIVE
        assert stage.pages != []


def test_a_staging_alert_touches_nothing() -> None:
    with playing(shipped("nse-equities")) as stage:
        dies(stage)
        stage.fires({**DOWN, "env": "staging"})
        stage.at("2:00")
        assert stage.did == []


def test_a_replay_of_what_helps_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    example = str(shipped_rules() / "nse-equities" / "_responder.example.yaml")
    words = ["platform=nse-equities", "env=prod", "severity=critical"]
    assert run(["replay", "--config", example, "--alert", "RedisMasterDown", *words]) == 0
    assert "redis-master-down: fixed" in " ".join(capsys.readouterr().out.split())
