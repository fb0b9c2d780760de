"""`responder run` on a running server: what is shown, begun and refused, and a server that dies meanwhile."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.arena import Arena, Layout
from tests.system.outside import HALT
from tests.system.patience import eventually
from tests.system.serving import told


@pytest.fixture(scope="module")
def servers() -> Iterator[Arena]:
    with Arena(Layout()) as started:
        yield started


@pytest.fixture
def arena(servers: Arena) -> Arena:
    servers.begin()
    return servers


def printed(done: subprocess.CompletedProcess[str]) -> str:
    """What a person read, in one line."""
    return " ".join((done.stdout + done.stderr).split())


def test_a_plan_alone_a_no_and_a_gate_begin_nothing(arena: Arena) -> None:
    run = arena.responder.command
    shown = run("run", "halt-trading", "--dry-run")
    assert shown.returncode == 0, printed(shown)
    for said in ("Stop trading", "POST", "/api/stop-trading", "It would go ahead. Nothing was changed."):
        assert said in printed(shown)

    nobody = run("run", "halt-trading", "--reason", "flash crash")  # standard input is at its end, which is no yes
    assert nobody.returncode == 1, printed(nobody)

    assert run("pause", "--reason", "a release").returncode == 0  # else the runbook for it would cut VaR
    arena.outside.breach()
    eventually("VaR has risen", lambda: arena.prometheus.query("max(var_pct) > 2"), bool)
    refused = run("run", "hot-reload", "--input", "component=risk_harmoniser", "--reason", "new limits", "--yes")
    assert refused.returncode == 1, printed(refused)
    assert "check var_now says there is nothing to do" in printed(refused)
    assert "Nothing was begun" in printed(refused)

    assert arena.outside.changes == []
    assert {one["runbook"] for one in arena.responder.incidents()} <= {"var-breach"}


def test_trading_is_halted_once_in_a_pause_though_the_server_dies_meanwhile(arena: Arena) -> None:
    """A brake that is confirmed passes the pause. Who began it, and why, stands in the thread."""
    paused = arena.responder.command("pause", "--reason", "a release")
    assert paused.returncode == 0, printed(paused)
    begun = arena.responder.command("run", "halt-trading", "--reason", "flash crash", "--yes")
    assert begun.returncode == 0, printed(begun)
    eventually("trading is stopped", lambda: arena.outside.changes, lambda seen: seen == [HALT])
    arena.responder.kill()
    arena.responder.start()

    incident = eventually("the run ends", arena.responder.incident, _ended)
    assert incident["runs"][0]["result"] == "fixed", told(incident)
    assert arena.outside.changes == [HALT]
    assert arena.outside.status["trading"] == "halted"
    (root,) = [r for r in arena.outside.slack.roots if r.metadata["event_payload"]["incident"] == incident["id"]]
    lines = eventually("Slack hears of the end", lambda: arena.outside.slack.thread(root.ts), _tells_the_end)
    assert any("flash crash" in line for line in lines)


def _ended(incident: dict[str, Any]) -> bool:
    return bool(incident["runs"] and incident["runs"][0]["result"])


def _tells_the_end(lines: list[str]) -> bool:
    return any("Closed" in line for line in lines)
