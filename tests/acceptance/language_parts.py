"""Runbooks and moments with which the words of the language are played."""

from __future__ import annotations

from typing import Any

from responder.cron import next_after
from responder.schedules import ArmSchedules
from responder.timing import HOUR
from tests.acceptance.stage import START, Stage, own
from tests.builders import a_runbook, call_step

UNDO = {"action": "http.request", "with": {"service": "risk-api", "method": "POST", "path": "/api/resume"}}
HARM = {"check": "risk", "expect": "value < 1", "within": "2m", "harmful": "value > before + 0.2"}
OTHER = {"other": {"action": "prometheus.query", "with": {"service": "metrics", "query": "other"}}}
RISKS = {"risk": {"action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}}}


def around(before: int, after: int) -> dict[str, Any]:
    """Open from so many hours before the beginning of the story until so many after it, UTC."""
    hour = START // HOUR % 24
    return {"from": f"{(hour + before) % 24:02}:00", "to": f"{(hour + after) % 24:02}:00", "timezone": "UTC"}


def sequence(**parts: Any) -> Any:
    steps = [call_step("stop", "/api/stop"), {"id": "pause", "action": "wait", "with": {"for": "30s"}, "timeout": "1m"},
             call_step("start", "/api/start")]  # fmt: skip
    return a_runbook(steps=steps, **parts)


def harming(stage: Stage) -> None:
    """The change makes it worse; resuming brings the old state back."""
    stage.world.numbers["risk"] = lambda: 3.0 if stage.world.done[-1:] == ["/api/orders"] else 2.0


def before_open(**step: Any) -> Any:
    reading = {"id": "feeds", "action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}, **step}
    return own(a_runbook(runbook="before-open", match=None, target="before-open", checks=None, verify=None,
                         schedule={"cron": "0 * * * *"}, steps=[reading]))  # fmt: skip


def armed(stage: Stage) -> int:
    """Arm the schedules as the start of the server does; answers when the first one comes due, in µs from now."""
    stage._submit(lambda desk: lambda shelf: ArmSchedules(desk.new_id(), shelf))
    (runbook,) = stage.scene.rules.runbooks.values()
    assert runbook.schedule is not None
    due = next_after(runbook.schedule, stage.clock())
    assert due is not None
    return due - stage.clock()
