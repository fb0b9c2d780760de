"""What comes due is looked at once, not without end: found by the crash campaigns."""

from __future__ import annotations

from typing import Any

from responder import facts as f
from responder.desk import Shelf
from responder.draft import Draft, Turn, Worker
from responder.recorded import Effect, Outcome, Result
from responder.records import IncidentRow, State, TimerRow, Writes, open_key
from responder.rules import Rules
from responder.scopes import asked_of
from responder.timing import MINUTE, SECOND
from responder.view import Gather
from tests.builders import T0, a_plan, a_runbook, fired, intended, opened, rules_of, started, told

SCOPES = asked_of("cut", "risk-api/kelly_fraction")
ONE = Worker("one", alone=True)


def advanced(rules: Rules, now: int, *facts: f.Fact) -> tuple[Turn, Writes]:
    """A turn of the incident's owner at `now`."""
    fold = told(opened(), fired(), *facts)
    row = IncidentRow("i1", open_key("live", "cut", "risk-api/kelly_fraction"), fold, "one", 1, now)
    draft = Draft("op", State(now, incidents={"i1": row}, scopes=dict.fromkeys(SCOPES)), Shelf(rules, "test"), ONE)
    return draft.advance("i1"), draft.writes()


def due(writes: Writes, now: int) -> list[TimerRow]:
    return [t for t in writes.timers if not t.gone and t.due.due <= now]


def verified(**more: Any) -> Rules:
    checks = {"var": {"action": "prometheus.query", "with": {}, "max_age": "30s"}}
    verify = {"check": "var", "expect": "value < 1.7", "within": "10s"}
    return rules_of(a_runbook(checks=checks, verify=verify, **more), a_runbook(runbook="halt", match=[]), levels=[])


def test_a_machine_timer_waits_for_its_own_reading() -> None:
    """Its row stayed due while the check was read: the loop looked at it again and again, as fast as it could."""
    rules, now = verified(unless_fixed={"2m": {"run": "halt"}, "150s": {"page": "pm"}}), T0 + 3 * MINUTE
    ran = (started(), intended(), f.AttemptEnded(attempt="i1.1.cut.1", outcome=Outcome.OK))
    turn, writes = advanced(rules, now, *ran, f.RunEnded(run=1, result=Result.INEFFECTIVE, why="no"))
    assert isinstance(turn.next, Gather)
    assert turn.next.machine is not None
    assert due(writes, now) == []


def test_an_attempt_that_nobody_reports_is_lost_at_last() -> None:
    """An answer to the commit of an intent that was lost left it open for ever, its row due all the time."""
    attempt = intended(plan=a_plan(effect=Effect.UNSAFE))
    for passed, kinds in ((2 * SECOND, []), (15 * SECOND, ["attempt_ended", "step_ended"])):
        now = attempt.deadline + passed
        _, writes = advanced(rules_of(a_runbook(), levels=[]), now, started(), attempt)
        assert [e.fact.kind for e in writes.events][:2] == kinds
        assert due(writes, now) == []
