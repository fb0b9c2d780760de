"""A small run of each campaign: `make reliability` makes them large."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from responder.automation import Automation
from responder.recorded import Cause
from responder.runbook import Approval, Hours, Limits, OnlyIf
from responder.timing import MINUTE, SECOND
from tests.acceptance.stage import START
from tests.campaigns import __main__ as campaigns
from tests.campaigns import escalation, outage, simulation, timers
from tests.campaigns.edge import Paused
from tests.campaigns.intents import Seen
from tests.campaigns.model import Told
from tests.campaigns.safety import judge_safety
from tests.campaigns.services import Write
from tests.campaigns.watchers import Look
from tests.provision import CHECKOUT

SEEDS = int(os.environ.get("RESPONDER_SEEDS", "60"))
"""Worlds of C4 and of C21; a hundred take about five seconds on a machine that does nothing else."""
FIRST = 1
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


@pytest.mark.parametrize("campaign", simulation.NAMES)
def test_nothing_leads_past_the_limits(campaign: str) -> None:
    tally = simulation.batch(campaign, range(FIRST, FIRST + SEEDS))
    assert tally.failures == []
    assert tally.counts["worlds"] == SEEDS
    assert tally.counts["changes sent"] > SEEDS // 4


def test_a_seed_tells_the_same_story_in_every_process() -> None:
    """Byte for byte, whatever the order of sets is there."""
    here = [simulation.play(campaign, 7).digest for campaign in simulation.NAMES]
    assert here == [simulation.play(campaign, 7).digest for campaign in simulation.NAMES]
    command = [sys.executable, "-m", "tests.campaigns", "c21", "--only", "7"]
    hashing = {**os.environ, "PYTHONHASHSEED": "12"}
    told = subprocess.run(command, cwd=CHECKOUT, env=hashing, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == here[1]


def test_what_was_played_is_not_played_again(tmp_path: Path) -> None:
    """A cut last line, and what other sources gave, do not count."""
    progress, tally = tmp_path / "progress", simulation.Tally(Counter(worlds=50), ["wrong"])
    assert campaigns.resumed(progress, "c4") == {}
    campaigns.remember(progress, "c4", range(1, 51), tally)
    progress.write_text(progress.read_text() + progress.read_text().replace(campaigns.sources(), "other") + '{"sour')
    assert campaigns.resumed(progress, "c4") == {(1, 51): tally}
    assert campaigns.resumed(progress, "c21") == {}
    played = next(campaigns.simulated("c4", 1, 50, small=False, progress=progress))
    assert (played.figures, played.failures) == ({"worlds": 50}, ["wrong"])


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


def _books(seen: Seen, **changes: Any) -> Seen:
    """The same as seen by who believes that the runbooks say something else."""
    books = {name: book.model_copy(update=changes) for name, book in seen.rules.runbooks.items()}
    return replace(seen, rules=replace(seen.rules, runbooks=books))


def _asking(seen: Seen) -> Seen:
    books = {}
    for name, book in seen.rules.runbooks.items():
        steps = tuple(step.model_copy(update={"approval": Approval(people=2)}) for step in book.steps)
        books[name] = book.model_copy(update={"steps": steps})
    return replace(seen, rules=replace(seen.rules, runbooks=books))


STRICTER: dict[str, Callable[[Seen], Seen]] = {
    "budget": lambda seen: replace(seen, total=0.01),
    "floor": lambda seen: replace(seen, floor=0.3),
    "pause": lambda seen: replace(seen, paused=(Paused(START - MINUTE, "pause:global", paused=True, place=0),)),
    "cooldown": lambda seen: _books(seen, limits=Limits.model_validate({"cooldown": "1d"})),
    "runs": lambda seen: _books(seen, limits=Limits.model_validate({"runs": "1 per 1d"})),
    "approval": _asking,
    "only_if": lambda seen: _books(seen, only_if=OnlyIf(check="nobody asked", expect="value > 1")),
    "calendar": lambda seen: _books(seen, calendar=Hours(outside=("first", "second", "late"))),
    "yields_to": lambda seen: _books(seen, yields_to=("r0", "r1", "r2")),
    "alerts": lambda seen: replace(seen, watched=((Look(0, frozenset(), frozenset(), sure=True),),)),
    "storm": lambda seen: replace(
        seen,
        automation=Automation.model_validate({"storm": {"incidents": 2, "within": "1h", "calm": "1h"}}),
    ),
    "ineffective": lambda seen: _books(seen, limits=Limits.model_validate({"ineffective": "1 per 1d"})),
    "relapse": lambda seen: replace(
        seen,
        automation=Automation.model_validate({"relapse": {"within": "1h", "count": 1, "memory": "1h"}}),
    ),
    "brake held back": lambda seen: _books(seen, brake=True),
}


@pytest.fixture(scope="module")
def played() -> list[simulation.Played]:
    """Worlds in which nothing is wrong; in at least one of them a runbook that is no brake has acted twice."""
    worlds: list[simulation.Played] = []
    for seed in range(70, 270):
        worlds.append(simulation.play("c4", seed))
        again = [c for c in worlds[-1].seen.changes if c.first and c.run.cause is Cause.RELAPSE and not c.brake]
        if again and len(worlds) >= 25:
            break
    return worlds


@pytest.mark.parametrize("what", STRICTER)
def test_who_is_stricter_finds_something_wrong(what: str, played: list[simulation.Played]) -> None:
    assert [line for one in played for line in judge_safety(one.seen)] == []
    assert any(line.startswith(what) for one in played for line in judge_safety(STRICTER[what](one.seen)))


def test_a_pause_of_the_same_microsecond_counts_when_it_was_written_first(played: list[simulation.Played]) -> None:
    seen = next(one.seen for one in played if one.seen.changes)
    change = next(c for c in seen.changes if c.run.cause is Cause.ALERT)
    before = Paused(change.at, "pause:global", paused=True, place=change.place)
    after = replace(before, place=change.place + 1)
    found = [judge_safety(replace(seen, paused=(one,))) for one in (before, after)]
    assert [any(line.startswith(f"pause: {change} 0 s") for line in lines) for lines in found] == [True, False]


def test_databases_do_not_tell_what_came_first_in_a_microsecond(played: list[simulation.Played]) -> None:
    found = played[0].found
    opened, fired = found.cases[0].events[:2]
    assert opened.at == fired.at
    assert [found.before(opened, fired), found.before(fired, opened)] == [True, False]
    assert not replace(found, order={}).before(opened, fired)
    assert replace(found, order={}).before(opened, fired.model_copy(update={"at": fired.at + 1}))


def test_what_was_sent_without_an_intent_is_found(played: list[simulation.Played]) -> None:
    secret = Write(START + SECOND, "nobody", 0.25, 0.1)
    found = judge_safety(replace(played[0].seen, writes=(secret,)))
    assert any(line.startswith("budget: nobody") for line in found)
