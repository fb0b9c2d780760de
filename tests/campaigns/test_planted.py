"""Faults that are planted into the engine are found by the judges of the simulation; without them nothing is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from responder import acting, guards
from responder.alertmanagers import Alertmanagers
from responder.config import read_config
from responder.engine.runs import Runs
from responder.environment import Environment
from responder.fuses import success
from responder.loader import load_rules
from responder.simulate import sleep
from responder.sources import shipped_rules
from responder.timing import SECOND
from tests.acceptance.stage import CATALOGUE, SETTINGS
from tests.campaigns.happenings import Happening, Lot
from tests.campaigns.services import HIGH, Platform
from tests.campaigns.simulation import Played, judged
from tests.campaigns.watchers import Watchers, Wire
from tests.campaigns.worlds import World


def _book(step: dict[str, Any], target: str) -> dict[str, Any]:
    return {
        "runbook": "r0",
        "title": "Runbook 0",
        "match": "A0",
        "target": target,
        "mode": "auto",
        "checks": {"risk": {"action": "prometheus.query", "with": {"service": "metrics", "query": "risk0"}}},
        "steps": [{"id": "s0", "timeout": "10s", **step}],
        "verify": {"check": "risk", "expect": "value < 1", "settle": 0, "within": "5s", "hold": 0},
    }


CALL = {"action": "http.request", "with": {"service": "risk-api", "method": "POST", "path": "/api/desk/r0s0"}}
CUT = {"action": "parameter.reduce", "with": {"parameter": "risk-api/kelly_fraction", "to": 0.1, "reason": "risk"}}


def _played(happenings: list[Happening], book: dict[str, Any], **automation: Any) -> Played:
    levels = [{"name": "L1", "after": 0, "page": "first"}]
    policies = {"policies": {"ladder": {"grace": "1m", "levels": levels}}, "default": "ladder"}
    settings = f"mode: auto\n{SETTINGS}\nautomation: {json.dumps(automation)}\n"
    environment = Environment({}, shipped_rules(), check_secrets=False)
    config = read_config("responder.yaml", settings, CATALOGUE, environment)
    files = {"r0.yaml": json.dumps(book), "policies.yaml": json.dumps(policies)}
    rules = load_rules(files, CATALOGUE, config).rules
    # The seed is one of those whose alerts go on firing at the end.
    return judged(World(rules, config, Lot(4, tuple(happenings), 0.25, 0, {"desk": HIGH}, (0,))))


def _fires(at: int, instance: str = "a") -> Happening:
    given = {"name": "A0", "severity": "critical", "instance": instance, "truncated": 0}
    return Happening(at * SECOND, 0, "fires", given)


# --- the share of runs that help --------------------------------------------------------------------------------------


def _useless() -> Played:
    waves = [_fires(15 * number, instance) for number, instance in enumerate("abcd")]
    return _played(waves, _book(CALL, "desk"), success={"share": 0.5, "runs": 2, "rest": "1m"})


def test_without_the_breaker_a_run_too_many_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _useless()
    assert whole.violations == ()
    assert any(v.gate == "success" for c in whole.found.cases for r in c.incident.runs for v in r.verdicts[-1:])
    monkeypatch.setattr(acting, "LOCAL", tuple(gate for gate in guards.LOCAL if gate is not success))
    monkeypatch.setattr(acting, "INFORMED", tuple(gate for gate in guards.INFORMED if gate is not success))
    assert any(line.startswith("success: ") for line in _useless().violations)


# --- what an Alertmanager says that has just started ------------------------------------------------------------------


def _restarted() -> Played:
    both = [Happening(57 * SECOND, 0, "restart", {"which": which, "seconds": 38}) for which in (0, 1)]
    return _played([_fires(0), *both, Happening(150 * SECOND, 0, "light", {})], _book(CALL, "desk"))


def test_who_believes_an_empty_list_after_a_restart_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _restarted().violations == ()

    def believing(self: Watchers) -> Alertmanagers:
        return Alertmanagers([Wire(one, self._clock) for one in self.all], self._clock, 0)

    monkeypatch.setattr(Watchers, "asked", believing)
    assert any("ended without a word of its end" in line for line in _restarted().violations)


# --- what Alertmanager says is silenced -------------------------------------------------------------------------------


def _silenced(*instances: str) -> Played:
    """Alerts that are told in one moment, in which the first of them has been asked about already."""
    silence = Happening(0, 0, "silence", {"name": "A0", "seconds": 90})
    return _played([silence, *(_fires(10, one) for one in instances)], _book(CALL, "desk"))


def test_who_acts_for_what_is_silenced_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _silenced("a").violations == ()
    monkeypatch.setattr(acting, "INFORMED", tuple(gate for gate in guards.INFORMED if gate is not guards.alerts))
    assert any("has it silenced" in line for line in _silenced("a").violations)


def test_what_comes_in_the_very_moment_of_the_question_has_not_been_asked_about() -> None:
    played = _silenced("a", "b")
    (run,) = [run for case in played.found.cases for run in case.incident.runs][:1]
    assert "1 of 2 fire in Alertmanager" in {v.reason for v in run.verdicts}
    assert played.violations == ()


# --- what leaves after a pause ----------------------------------------------------------------------------------------


def _paused(monkeypatch: pytest.MonkeyPatch) -> Played:
    """The status page takes three seconds to answer, and the pause comes while it is read before the write."""

    async def slow(self: Platform) -> None:
        await sleep(3.0)

    monkeypatch.setattr(Platform, "_slow", slow)
    pause = Happening(4 * SECOND, 0, "pause", {"scope": "pause:global"})
    calm = Happening(60 * SECOND, 0, "light", {})
    return _played([_fires(0), pause, calm], _book(CUT, "risk-api/kelly_fraction"))


async def _never(self: Runs, *_: Any) -> None:
    return None


def test_what_leaves_long_after_a_pause_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _paused(monkeypatch)
    assert whole.violations == ()
    (run,) = [run for case in whole.found.cases for run in case.incident.runs][:1]
    assert "nothing was sent: automation is paused" in run.attempts[0].detail
    monkeypatch.setattr(Runs, "_held", _never)
    assert any("left more than a second after a pause" in line for line in _paused(monkeypatch).violations)
