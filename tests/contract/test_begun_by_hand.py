"""What is told of a run that a person began: who and why, where an alert's message has its severity and its owner."""

from __future__ import annotations

from typing import Any

import pytest

from responder import facts as f
from responder import story
from responder.incident import Incident
from responder.recorded import Cause, Result, Trigger
from responder.timing import HOUR
from tests.builders import T0, opened, started, told
from tests.contract.slack_parts import LEVEL, PAGED, TEMPLATES, a_room, root, shown, values
from tests.fakes.slack_limits import mentioned
from tests.hostile_values import HOSTILE

WHY = "wider limits for the evening"
FAILED = f.RunEnded(run=1, result=Result.FAILED, why="no answer")


def begun(*further: f.Fact, why: str = WHY) -> Incident:
    """Anna started the runbook by hand; what follows is hers too."""
    opening = opened(trigger=Trigger.PERSON, severity=None, title="Hot reload")
    return told(opening, started(cause=Cause.PERSON, reason=why), *further, actor="anna")


async def slack(about: Incident) -> list[str]:
    async with a_room() as (server, room):
        await room.send(root(room, about))
        return shown(server.roots[0].blocks).splitlines()


async def test_slack_says_who_began_it_and_why() -> None:
    said = await slack(begun())
    assert said[1].startswith("*BY HAND* · open for")
    assert f"👤 *anna* began it: {WHY}" in said
    assert not any("NO SEVERITY" in line or "Nobody has it" in line for line in said)


def test_whom_it_concerns_without_following_it_reads_it_too() -> None:
    reminder = f.StillOpen(number=1, lasted=HOUR)
    event = f.Event(id="e1", incident="i1", seq=9, at=T0 + HOUR, actor="responder", fact=reminder)
    assert "Still open after 1h 00m · by hand, " in story.sentence(event, begun(), TEMPLATES.render)
    assert story.plain_state(begun(), T0).startswith("[by hand] Hot reload: ")


async def test_slack_names_her_also_where_she_gave_no_reason() -> None:
    assert "👤 *anna* began it" in await slack(begun(why=""))


async def test_when_it_goes_wrong_it_is_said_that_nobody_has_it() -> None:
    said = await slack(begun(FAILED, LEVEL, PAGED))
    assert f"👤 *anna* began it: {WHY}" in said
    assert "👤 *Nobody has it yet* · paged: first" in said


async def test_what_a_schedule_begins_says_so_where_an_alert_has_its_severity() -> None:
    said = await slack(told(opened(trigger=Trigger.SCHEDULE, severity=None), started(cause=Cause.SCHEDULE)))
    assert said[1].startswith("*BY SCHEDULE* · open for")
    assert not any("began it" in line for line in said)


async def test_an_alert_without_a_severity_says_so_still() -> None:
    said = await slack(told(opened(severity=None), started()))
    assert said[1].startswith("*NO SEVERITY* · open for")
    assert not any("began it" in line for line in said)


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_reason_wakes_anybody(name: str) -> None:
    async with a_room() as (server, room):
        await room.send(root(room, begun(why=HOSTILE[name][:500])))
        assert list(mentioned("", server.roots[0].blocks)) == []


@pytest.mark.parametrize("template", ["console/root.txt.j2", "text/root.txt.j2", "email/state.txt.j2"])
def test_the_other_words_say_it_too(template: str) -> None:
    known: dict[str, Any] = values(begun())
    said = TEMPLATES.render(template, known)
    assert "no severity" not in said.lower()
    assert "by hand" in said.lower()
    if template.startswith("email"):
        assert f"anna began it: {WHY}" in said
        assert "Nobody has it" not in said
