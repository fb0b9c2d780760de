"""Faults that are planted into the engine are found by the judges of the simulation; without them nothing is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from responder import acting, escalation, guards
from responder import facts as f
from responder.alertmanagers import Alertmanagers
from responder.config import read_config
from responder.engine.runs import Runs
from responder.environment import Environment
from responder.fuses import success
from responder.guards import lock
from responder.incident import Incident
from responder.loader import load_rules
from responder.recorded import Result
from responder.runbook import Runbook
from responder.simulate import sleep
from responder.sources import shipped_rules
from responder.timing import SECOND
from tests.acceptance.stage import CATALOGUE, SETTINGS
from tests.campaigns.happenings import Happening, Lot
from tests.campaigns.safety import judge_safety
from tests.campaigns.services import HIGH, LOW, Platform
from tests.campaigns.simulation import Played, judged
from tests.campaigns.watchers import Watchers, Wire
from tests.campaigns.worlds import World


def _book(step: dict[str, Any], target: str, number: int = 0, **more: Any) -> dict[str, Any]:
    query = {"service": "metrics", "query": f"risk{number}"}
    return {
        "runbook": f"r{number}",
        "title": f"Runbook {number}",
        "match": f"A{number}",
        "target": target,
        "mode": "auto",
        "checks": {"risk": {"action": "prometheus.query", "with": query}},
        "steps": [{"id": "s0", "timeout": "10s", **step}],
        "verify": {"check": "risk", "expect": "value < 1", "settle": 0, "within": "5s", "hold": 0},
        **more,
    }


CALL = {"action": "http.request", "with": {"service": "risk-api", "method": "POST", "path": "/api/desk/r0s0"}}
CUT = {"action": "parameter.reduce", "with": {"parameter": "risk-api/kelly_fraction", "to": 0.1, "reason": "risk"}}


def _played(happenings: list[Happening], *books: dict[str, Any], **automation: Any) -> Played:
    levels = [{"name": "L1", "after": 0, "page": "first"}]
    policies = {"policies": {"ladder": {"grace": "1m", "levels": levels}}, "default": "ladder"}
    settings = f"mode: auto\n{SETTINGS}\nautomation: {json.dumps(automation)}\n"
    environment = Environment({}, shipped_rules(), check_secrets=False)
    config = read_config("responder.yaml", settings, CATALOGUE, environment)
    files = {f"{book['runbook']}.yaml": json.dumps(book) for book in books}
    rules = load_rules({**files, "policies.yaml": json.dumps(policies)}, CATALOGUE, config).rules
    # The seed is one of those whose alerts go on firing at the end.
    return judged(World(rules, config, Lot(4, tuple(happenings), 0.25, 0, {"desk": HIGH}, (0,))))


def _fires(at: int, instance: str = "a", name: str = "A0", severity: str = "critical") -> Happening:
    given = {"name": name, "severity": severity, "instance": instance, "truncated": 0}
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


# --- one at a time ----------------------------------------------------------------------------------------------------


def _rivals(turns: int) -> Played:
    """A more severe run on the same target so many turns of the loop later, in the same microsecond."""
    second = replace(_fires(0, name="A1"), turns=turns)
    return _played([_fires(0, severity="high"), second], _book(CALL, "desk"), _book(CALL, "desk", 1))


def test_without_the_lock_two_at_once_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _rivals(0).violations == ()
    monkeypatch.setattr(acting, "LOCAL", tuple(gate for gate in guards.LOCAL if gate is not lock))
    monkeypatch.setattr(acting, "INFORMED", tuple(gate for gate in guards.INFORMED if gate is not lock))
    assert any(line.startswith("two at once: ") for line in _rivals(0).violations)


def test_in_one_microsecond_the_order_of_writing_decides() -> None:
    """One ends, superseded, and the other begins: in this order it is right, in the other one two go on."""
    seen = (whole := _rivals(20)).seen
    first, second = seen.changes
    assert (first.at, first.run.ended_at, whole.violations) == (second.at, second.at, ())
    assert first.case.row.id > second.case.row.id, "their names would order them wrongly"
    end = next(event for event in first.case.events if isinstance(event.fact, f.RunEnded))
    turned = {**seen.order, end.id: seen.order[second.event.id], second.event.id: seen.order[end.id]}
    assert any(
        line.startswith("two at once: ")
        for line in judge_safety(replace(seen, found=replace(seen.found, order=turned)))
    )


# --- what was promised ------------------------------------------------------------------------------------------------

HALT = {"runbook": "halt", "title": "Halt", "target": "trading", "mode": "auto", "steps": [{"id": "s0", **CALL}]}


def _promised(*values: tuple[int, float]) -> Played:
    """Trading is halted after 30 s unless it is fixed; verification takes up to 40 s, and the check says this."""
    said = [Happening(at * SECOND, 0, "value", {"check": "risk0", "to": to}) for at, to in values]
    verify = {"check": "risk", "expect": "value < 1", "settle": 0, "within": "40s", "hold": "20s"}
    book = _book(CALL, "desk", verify=verify, unless_fixed={"30s": {"run": "halt"}})
    return _played([_fires(0), *said, Happening(300 * SECOND, 0, "light", {})], book, HALT)


def test_a_promise_that_was_good_when_due_waits_for_the_verdict() -> None:
    fixed = _promised((12, LOW))
    (case,) = fixed.found.cases
    assert (fixed.violations, case.facts(f.MachineFired)) == ((), [])
    assert [x.holds for x in case.facts(f.MachineGathered)] == [True]
    assert case.incident.result is Result.FIXED


def test_a_promise_that_is_lost_in_a_verdict_that_is_bad_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    good_when_due = (12, LOW), (32, HIGH)
    assert _promised(*good_when_due).violations == ()
    promises = escalation.promises

    def lost(incident: Incident, runbook: Runbook | None) -> Iterator[escalation.DuePromise]:
        return iter(()) if incident.result is Result.INEFFECTIVE else promises(incident, runbook)

    monkeypatch.setattr(escalation, "promises", lost)
    assert any("nothing came of 30 s" in line for line in _promised(*good_when_due).violations)


def test_a_promise_that_never_looks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not fixed when it is due, and fixed long after it."""
    monkeypatch.setattr(escalation, "promises", lambda incident, runbook: iter(()))
    assert any("nothing came of 30 s" in line for line in _promised((33, LOW)).violations)


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
