"""What a running server was told and did, recorded and replayed: the same decisions, from the same notifications."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.arena import Arena, Layout
from tests.system.patience import eventually
from tests.system.serving import told

DECISIONS = ("run_started", "attempt_intended", "step_ended", "verifying", "run_ended", "closed")


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    with Arena(Layout()) as started:
        started.begin()
        yield started


def decided(incident: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What was decided, without numbers that were read: each with its step, parameters, gates and result."""
    return [_decision(event) for event in incident["events"] if event["kind"] in DECISIONS]


def _decision(event: dict[str, Any]) -> tuple[Any, ...]:
    """The API shows facts as they were recorded, a replay shows the same by the words of its story."""
    fact = event.get("fact", event)
    verdicts = [(v["gate"], v["answer"]) for v in fact.get("verdicts", ())]
    parameters = fact["plan"]["params"] if "plan" in fact else fact.get("parameters")
    step = fact.get("step") if event["kind"] == "attempt_intended" else None
    return event["kind"], step, parameters, verdicts


def test_a_recorded_incident_is_decided_the_same_in_a_replay(arena: Arena, tmp_path: Path) -> None:
    arena.outside.breach()
    served = eventually("the incident closes", arena.responder.incident, lambda seen: seen["status"] == "closed")
    assert served["result"] == "fixed", told(served)

    recorded = arena.responder.command("record", "--to", str(tmp_path / "recordings"))
    assert recorded.returncode == 0, recorded.stderr
    replayed = arena.responder.command("replay", str(tmp_path / "recordings"), "--json")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    (again,) = json.loads(replayed.stdout)["incidents"]

    assert (again["runbook"], again["target"], again["result"]) == (
        served["runbook"],
        served["target"],
        served["result"],
    )
    assert decided(again) == decided(served)

    from_server = arena.responder.command("replay", "--incident", served["id"], "--json")
    assert decided(json.loads(from_server.stdout)["incidents"][0]) == decided(served)
