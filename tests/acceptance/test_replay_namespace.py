"""A replay beside what is live: the same timeline is played with it and without, and nobody could tell which was which.

Whatever people say about the replay, and however bad its alerts are: no change, no message, no lock or counter, and no
other word in a live journal (design 5.2).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest

from responder.config import Config
from responder.incident import Incident
from responder.recorded import LIVE, Mode
from responder.rules import Rules
from responder.timing import SECOND, format_time
from tests.acceptance.stage import RISK, Stage, halting, own, playing, risky, shown
from tests.builders import a_runbook, an_alert, call_step, cut_step

REPLAY = "replay/storm"
Script = Callable[[Stage], None]


def replay(stage: Stage, *alerts: Mapping[str, Any]) -> None:
    """One notification of the replay; what an alert does not say is filled in."""
    fires = {"status": "firing", "startsAt": format_time(stage.scene.start)}
    content = {"version": "4", "groupKey": "g", "alerts": [{**fires, **alert} for alert in alerts]}
    stage.post(json.dumps(content).encode(), REPLAY)


def replayed(stage: Stage) -> list[Incident]:
    return [incident for incident in stage.incidents() if incident.namespace == REPLAY]


def live_story(stage: Stage) -> Any:
    """All that anybody outside could see, with ids and microseconds taken out."""
    live = [incident for incident in stage.incidents() if incident.namespace == LIVE]
    names = {incident.id: f"incident {number}" for number, incident in enumerate(live)}

    def plain(text: str) -> str:
        for known, name in names.items():
            text = text.replace(known, name)
        return text

    scopes = [row for row in stage._run(stage.store.scopes()) if row.body and not row.name.startswith("delivery")]
    return {
        "changes": [(shown(at - stage.scene.start), path, body) for at, path, body in stage.world.changes],
        "sent": [(shown(s.at - stage.scene.start), s.destination, s.message.kind) for s in stage.sent],
        "scopes": [(row.name, len(row.body)) for row in scopes],
        "journals": [
            [(shown(e.at - stage.scene.start), e.actor, e.fact.kind, plain(getattr(e.fact, "why", "") or ""))
             for e in stage.events(incident)]
            for incident in live
        ],
    }  # fmt: skip


OFFSETS = ("0:00", "0:30", "1:00", "4:30", "6:00", "20:00", "40:00", "1:10:00")


def played(rules: tuple[Rules, Config], live: Mapping[str, Script], beside: Mapping[str, Script]) -> Any:
    """A timeline, `beside` after what is live at each offset. Answers the live story."""
    with playing(rules) as stage:
        risky(stage, helps=False)
        for offset in OFFSETS:
            stage.at(offset)
            for script in (live, beside):
                if offset in script:
                    script[offset](stage)
        for incident in replayed(stage):
            assert all(run.mode is Mode.OBSERVE and not run.acted for run in incident.runs)
            assert incident.paged == ()
            assert stage._run(stage.store.messages_of(incident.id)) == []
        assert bool(replayed(stage)) == bool(beside)
        return live_story(stage)


def promising(**more: Any) -> tuple[Rules, Config]:
    """A runbook that draws on a budget, locks, promises a halt, and must be put back; people on two levels."""
    _, halt = halting("5m")
    first = a_runbook(
        steps=[cut_step(restore={"approval": "risk-manager", "remind": "10m"}), call_step()],
        limits={"cooldown": "10m", "runs": "3 per 6h", "ineffective": "2 per 24h"},
        unless_fixed={"5m": {"run": "halt", "page": "boss", "countdown": "1m"}},
        **more,
    )
    return own(first, halt, acknowledgement="15m")


def people(verb: str) -> Script:
    """Somebody says this about every open incident of the replay."""

    def say(stage: Stage) -> None:
        for incident in replayed(stage):
            if not incident.closed:
                stage.person(verb, incident=incident.id)

    return say


LIVE_STORY: dict[str, Script] = {
    "0:30": lambda stage: stage.fires(RISK),
    "20:00": lambda stage: stage.person("ack", incident=stage.incidents()[0].id),
    "40:00": lambda stage: stage.resolves(RISK),
}
BESIDE: dict[str, dict[str, Script]] = {
    "the same alert, before and after": {
        "1:00": lambda stage: replay(stage, {"labels": RISK}),
        "4:30": lambda stage: replay(stage, {"labels": RISK, "status": "resolved"}),
        "6:00": lambda stage: replay(stage, {"labels": RISK}),
    },
    "first of all": {"0:30": lambda stage: replay(stage, {"labels": RISK})},
    "acknowledged, and the acknowledgement runs out": {
        "1:00": lambda stage: replay(stage, {"labels": RISK}),
        "4:30": people("ack"),
    },
    "taken over": {"1:00": lambda stage: replay(stage, {"labels": RISK}), "4:30": people("takeover")},
    "joined, and risen": {
        "1:00": lambda stage: replay(stage, {"labels": {**RISK, "severity": "info"}}),
        "4:30": lambda stage: replay(stage, {"labels": {**RISK, "severity": "critical", "symbol": "x"}}),
    },
    "nobody's alert": {"1:00": lambda stage: replay(stage, {"labels": an_alert(alertname="Nobody")})},
    "two at once": {"1:00": lambda stage: replay(stage, {"labels": RISK}, {"labels": {**RISK, "symbol": "x"}})},
}  # fmt: skip


@cache
def alone(brake: bool) -> Any:
    """The live story without a replay: played once, for all that is played beside it."""
    story = played(promising(brake=brake), LIVE_STORY, {})
    assert len(story["sent"]) > 5
    assert len(story["scopes"]) >= 2
    return story


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
@pytest.mark.parametrize("brake", [False, True])
def test_nobody_outside_can_tell_that_there_was_a_replay(beside: dict[str, Script], brake: bool) -> None:
    assert played(promising(brake=brake), LIVE_STORY, beside) == alone(brake)


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
def test_a_replay_alone_leaves_nothing(beside: dict[str, Script]) -> None:
    assert played(promising(), {}, beside) == {"changes": [], "sent": [], "scopes": [], "journals": []}


def test_an_unreadable_input_of_a_replay_is_nobodys_problem() -> None:
    pair = {"symbol": {"label": "symbol", "pattern": "[A-Z]+"}}
    rules = own(a_runbook(inputs=pair, target="desk/{{ symbol }}", steps=[call_step()]))
    beside: dict[str, Script] = {"1:00": lambda stage: replay(stage, {"labels": {**RISK, "symbol": "?"}})}
    assert played(rules, {}, beside) == {"changes": [], "sent": [], "scopes": [], "journals": []}


def test_a_bad_alert_of_a_replay_wakes_nobody() -> None:
    with playing(own(a_runbook())) as stage:
        replay(stage, {"labels": RISK}, {"labels": {}})
        stage.at("1:00:00")
        assert stage.sent == []
        assert {incident.namespace for incident in stage.incidents()} == {REPLAY}


def test_a_replay_says_nothing_about_acknowledgements_that_run_out() -> None:
    with playing(promising()) as stage:
        replay(stage, {"labels": RISK})
        stage.after("1s")
        people("ack")(stage)
        stage.at("1:00:00")
        assert stage.told("acknowledgement_expired") == []


def test_nothing_yields_to_the_root_cause_of_a_replay() -> None:
    root = a_runbook(runbook="root", title="Root", match="Root", target="root", steps=[call_step()], verify=None)
    rules = own(root, a_runbook(yields_to=["root"]))
    live: dict[str, Script] = {"1:00": lambda stage: stage.fires(RISK)}
    beside: dict[str, Script] = {
        "0:30": lambda stage: replay(stage, {"labels": an_alert(alertname="Root", symbol="")}),
    }
    without = played(rules, live, {})
    assert without["changes"] != []
    assert played(rules, live, beside) == without


def test_a_replay_goes_on_while_automation_is_paused() -> None:
    """It changes nothing, so there is nothing to be paused; and it must not wait for ever."""
    with playing(own(a_runbook())) as stage:
        stage.pauses()
        replay(stage, {"labels": RISK})
        stage.at("1:00")
        (incident,) = replayed(stage)
        assert [run.result for run in incident.runs] == ["observed"]
        assert stage.clock() - stage.scene.start >= 60 * SECOND
