"""A small run of each campaign: `make reliability` makes them large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from responder.timing import MINUTE, SECOND
from tests.campaigns import escalation, outage, timers
from tests.campaigns.model import Told

SHORT: dict[str, Any] = {"incidents": 6, "lasts": 35 * MINUTE, "opening": 2 * MINUTE}


@pytest.mark.parametrize(("storm", "chat"), [(0, True), (3, True), (0, False)])
def test_after_an_outage_everybody_is_told_once(storm: int, chat: bool) -> None:
    judged = outage.Outage(outage.Setting(**SHORT, storm=storm, chat=chat)).run()
    assert judged.failures == []
    assert judged.figures["told"] > 0


def test_levels_come_when_the_model_says() -> None:
    tally = escalation.play(seed=1, size=20)
    assert tally.failures == []
    assert (tally.incidents, tally.skipped, tally.doubled) == (20, 0, 0)
    assert tally.expected > tally.incidents


def test_timers_survive_a_kill_and_are_drained(tmp_path: Path) -> None:
    figures, wrong = timers.run(timers.Setting(timers=5_000, incidents=40, calm=0), tmp_path)
    assert wrong == []
    assert figures["timers"] == 5_000


# --- the judges themselves --------------------------------------------------------------------------------------------


def test_what_is_missing_and_what_is_too_much_is_found() -> None:
    first, second = Told(0, "first", ""), Told(60 * SECOND, "second", "")
    late = Told(2 * SECOND, "first", "")
    assert escalation.matched([first, second], [second]) == ([first], [], [0])
    assert escalation.matched([first], [first, first]) == ([], [first], [0])
    assert escalation.matched([first], [late]) == ([first], [late], [])


def test_a_flood_is_found() -> None:
    assert outage.overflows([0, 0, 0, SECOND, 2 * SECOND], SECOND, 3) == 0
    assert outage.overflows([0, 0, 0, 0], SECOND, 3) == 1
    assert outage.densest([0, 1, 2, MINUTE], MINUTE) == 3
