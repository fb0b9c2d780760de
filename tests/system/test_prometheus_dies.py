"""Prometheus dies: Alertmanager then says "resolved" of everything, and nobody may believe it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from responder.demo.monitoring import TIMING
from responder.timing import SECOND
from tests.system.arena import Arena, Layout
from tests.system.outside import REDUCE
from tests.system.patience import eventually, throughout
from tests.system.serving import told

# Alertmanager tells the end late, so that an incident stays open for a while after it was fixed.
SLOW = replace(TIMING, group_interval=6 * SECOND)


@pytest.fixture(scope="module")
def servers() -> Iterator[Arena]:
    with Arena(Layout(timing=SLOW)) as started:
        yield started


@pytest.fixture
def arena(servers: Arena) -> Arena:
    servers.begin()
    return servers


def _thread(arena: Arena) -> str:
    return "\n".join(message.text for message in arena.outside.slack.messages)


def said_to_have_ended(incident: dict[str, Any]) -> bool:
    """Alertmanager has said of every alert that it ended."""
    return bool(incident["events"]) and not any(alert["firing"] for alert in incident["alerts"])


def test_after_the_run_an_end_without_evidence_closes_nothing(arena: Arena) -> None:
    arena.outside.breach()
    eventually("it is fixed", arena.responder.incident, lambda seen: seen["result"] == "fixed")
    arena.prometheus.kill()
    assert arena.responder.incident()["status"] != "closed"

    eventually("Alertmanager says that it ended", arena.responder.incident, said_to_have_ended)
    eventually("people are told", lambda: _thread(arena), lambda text: "People are needed" in text)
    eventually("somebody is paged", lambda: list(arena.outside.pagerduty.pages), bool)
    kept_open_and_unchanged(arena, seconds=5)


def test_during_the_run_nobody_claims_that_it_is_fixed_and_people_are_told(arena: Arena) -> None:
    arena.outside.withhold()
    arena.outside.breach()
    eventually("the cut is on its way", lambda: arena.outside.changes, lambda seen: seen == [REDUCE])
    arena.prometheus.kill()
    arena.outside.answer()

    incident = eventually("Alertmanager says that it ended", arena.responder.incident, said_to_have_ended)
    pages = eventually("people are paged", lambda: list(arena.outside.pagerduty.pages), bool)
    assert all(page.triggers for page in pages)
    incident = eventually("the run ends", arena.responder.incident, lambda seen: seen["runs"][0]["result"] is not None)
    assert incident["runs"][0]["result"] == "unverified", told(incident)
    assert "fixed" not in [run["result"] for run in incident["runs"]], told(incident)
    kept_open_and_unchanged(arena, seconds=8)  # well past the time at which trading would be halted


def kept_open_and_unchanged(arena: Arena, seconds: float) -> None:
    """For so long nothing is closed, and nothing but the one cut changes the platform."""

    def seen() -> tuple[bool, list[str]]:
        return arena.responder.incident()["status"] != "closed", arena.outside.changes

    throughout("open, and changed by nothing but the cut", seen, lambda now: now == (True, [REDUCE]), seconds)
