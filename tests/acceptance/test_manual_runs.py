"""Runs that a person starts: the plan that is shown, what a confirmation passes and what it never does, and the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from responder.errors import Rejected, StoreUnavailable
from responder.manual_runs import Doing, StartByHand, input_problems
from responder.recorded import Answer, Cause, Result, StepStatus
from responder.scopes import pause_name
from tests.acceptance.desk import Desk, by_hand, reasons
from tests.acceptance.stage import RISK, alert, halting, own, playing, risky, unverified
from tests.builders import a_runbook, call_step, cut_step

HALT: dict[str, Any] = a_runbook(
    runbook="halt", title="Halt all trading", match=None, target="trading", brake=True, verify=None, checks=None,
    steps=[call_step("halt", "/api/stop-trading", more={"probe": {"path": "/api/status",
                                                                  "expect": 'body.trading == "halted"'}})],
)  # fmt: skip


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_a_plan_shows_what_would_be_done_and_changes_nothing() -> None:
    with playing(own(a_runbook(steps=[cut_step(), call_step()]))) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        plan = Desk(stage).plans("cut")
        assert plan.refused == ()
        (cut, call) = plan.steps
        assert (cut.doing, cut.plan and cut.plan.before, cut.plan and cut.plan.target) == (Doing.CHANGE, 0.25, 0.1)
        assert call.text == "POST /api/orders on risk-api"
        assert plan.checks["risk"].value == 2.0
        assert {one.verdict.gate for one in plan.judged} >= {"pause", "lock", "cooldown", "budget", "changes"}
        stage.after("10m")
        assert (stage.incidents(), stage.did, stage.sent) == ([], [], [])


def test_a_plan_names_every_gate_that_is_in_the_way() -> None:
    with playing(own(a_runbook(limits={"runs": "1 per 6h", "cooldown": "10m"}))) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.after("1m")
        stage.pauses("alice", "maintenance")
        plan = Desk(stage).plans("cut")
        assert [verdict.gate for verdict in plan.refused] == ["pause", "cooldown", "runs"]
        assert "1 runs already, limit 1 per 6h" in reasons(plan)


def test_what_is_already_so_and_what_nobody_can_know_yet_are_told() -> None:
    later = call_step("later", "/api/{{ steps.halt.output }}")
    maybe = call_step("maybe", when='steps.halt.status == "done"')
    book = {**HALT, "steps": [*HALT["steps"], later, maybe, {"id": "look", "manual": "Look at the book"}]}
    with playing(own(book)) as stage:
        stage.world.trading = "halted"
        steps = Desk(stage).plans("halt").steps
        assert [one.doing for one in steps] == [Doing.NOTHING, Doing.LATER, Doing.LATER, Doing.MANUAL]
        assert "already so" in steps[0].text


def test_a_first_step_that_cannot_be_made_ready_refuses() -> None:
    with playing(own(a_runbook())) as stage:
        stage.world.blind = True
        plan = Desk(stage).plans("cut")
        assert [verdict.gate for verdict in plan.refused] == ["prepare"]
        assert "connection refused" in reasons(plan)


def test_where_nothing_may_be_changed_nothing_is_started() -> None:
    with playing(own(a_runbook(), mode="observe")) as stage:
        plan = Desk(stage).plans("cut")
        assert "mode observe: nothing would be changed; `mode:` of responder.yaml must say" in reasons(plan)
        assert Desk(stage).starts("cut").turn is None
        assert stage.incidents() == []


def test_inputs_come_from_the_person_by_the_types_of_the_runbook() -> None:
    books = own(
        a_runbook(
            inputs={"symbol": {"label": "symbol", "type": "currency_pair"}, "side": {"label": "s", "one_of": ["a"]}},
            target="desk/{{ symbol }}",
            verify=None,
            checks=None,
            steps=[call_step(path="/api/{{ symbol }}")],
            evidence=[
                {
                    "each": "side",
                    "action": "prometheus.query",
                    "with": {"service": "metrics", "query": 'x{s="{{ side }}"}'},
                }
            ],
        )
    )
    rules = books[0]
    cut = rules.runbooks["cut"]
    assert input_problems(rules, cut, {}) == ("say symbol (currency_pair); the target needs it",)
    assert input_problems(rules, cut, {"symbol": "x"}) == ("input symbol='x' is not a currency_pair",)
    assert "there is no input 'sym'; there are: symbol (currency_pair), side (a)" in input_problems(
        rules, cut, {"symbol": "BTC-USD", "sym": "x"}
    )
    with playing(books) as stage:
        Desk(stage).starts("cut", symbol="BTC-USD", side="a")
        assert stage.world.done == ["/api/BTC-USD"]
        assert by_hand(stage).target == "desk/BTC-USD"
        evidence = stage.last_run.evidence
        assert evidence is not None
        assert [item.value for item in evidence] == [1.0]


# --- beginning and end ------------------------------------------------------------------------------------------------


def test_a_confirmed_run_tells_who_and_why_wakes_nobody_and_closes() -> None:
    with playing(own(a_runbook())) as stage:
        risky(stage)
        Desk(stage).starts("cut", "VaR creeps up")
        assert stage.world.kelly == 0.1
        stage.after("5m")
        incident = by_hand(stage)
        assert (incident.closed, stage.last_run.cause, stage.last_run.actor) == (True, Cause.PERSON, "otto")
        assert stage.last_run.result is Result.FIXED
        assert any("because a person wants it (asked by otto: VaR creeps up)" in line for line in stage.thread)
        assert stage.pages == []


def test_what_does_not_help_pages_as_always() -> None:
    with playing(own(a_runbook())) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        Desk(stage).starts("cut")
        stage.at("5:00")
        assert stage.last_run.result is Result.INEFFECTIVE
        assert [who for _, who in stage.pages] == ["first"]
        assert not by_hand(stage).closed
        stage.person("ack", "otto")
        stage.after("1s")
        assert by_hand(stage).closed


def test_what_nobody_knows_pages_at_once_and_keeps_the_lock() -> None:
    with playing(own(unverified("A"))) as stage:
        stage.world.lost = "applied"
        Desk(stage).starts("a")
        stage.after("1m")
        assert stage.last_run.result is Result.UNKNOWN
        assert [who for _, who in stage.pages] == ["first"]
        assert stage.scope("lock:risk-api/kelly_fraction") is not None
        assert "may or may not have changed it" in reasons(Desk(stage).plans("a"))


def test_a_promise_of_the_runbook_follows_a_run_by_hand_too() -> None:
    first, halt = halting("5m")
    with playing(own(first, halt)) as stage:
        stage.world.numbers |= {"risk": lambda: 2.0, "h": lambda: 1.0}
        Desk(stage).starts("cut")
        stage.at("6:00")
        assert stage.world.done == ["/api/orders", "/api/stop-trading"]
        assert "boss" in [who for _, who in stage.pages]


def test_alerts_neither_stop_it_nor_join_it() -> None:
    steps = [call_step("one", "/one"), {"id": "pause", "action": "wait", "with": {"for": "30s"}, "timeout": "40s"},
             call_step("two", "/two")]  # fmt: skip
    with playing(own(a_runbook(steps=steps))) as stage:
        risky(stage)
        Desk(stage).starts("cut")
        stage.fires(RISK)
        stage.after("10s")
        stage.resolves(RISK)
        stage.after("1m")
        assert stage.world.done == ["/one", "/two"]
        assert len(stage.incidents()) == 2


def test_a_second_one_waits_for_no_first_one_and_is_refused() -> None:
    book = {**HALT, "steps": [{"id": "look", "manual": "Look"}, *HALT["steps"]]}
    with playing(own(book)) as stage:
        first = Desk(stage).starts("halt")
        plan = Desk(stage, "anna").plans("halt")
        assert "run 1, which otto started, is waiting: responder incident" in reasons(plan)
        assert first.turn is not None
        assert Desk(stage, "anna").starts("halt").turn is None


def test_a_later_one_joins_what_is_still_open_and_stands_for_itself() -> None:
    with playing(own(a_runbook(steps=[call_step()]))) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        Desk(stage).starts("cut")
        stage.at("5:00")
        assert len(stage.pages) == 1
        Desk(stage, "anna").starts("cut")
        stage.at("10:00")
        assert [run.actor for run in by_hand(stage).runs] == ["otto", "anna"]
        assert [who for _, who in stage.pages] == ["first", "first"]


# --- what a confirmation is bound to ----------------------------------------------------------------------------------


def test_a_plan_that_has_changed_is_not_run() -> None:
    with playing(own(a_runbook())) as stage:
        risky(stage)
        shown = Desk(stage).plans("cut")
        stage.world.kelly = 0.2
        started = Desk(stage).starts("cut", digest=shown.digest)
        assert (started.turn, stage.did, stage.incidents()) == (None, [], [])
        assert started.plan.digest != shown.digest
        assert Desk(stage).starts("cut", digest=started.plan.digest).turn is not None
        assert stage.world.kelly == 0.1


def test_numbers_that_only_grow_older_change_no_plan() -> None:
    with playing(own(a_runbook(limits={"cooldown": "1m"}))) as stage:
        risky(stage)
        Desk(stage).starts("cut")
        stage.after("10m")
        stage.world.kelly = 0.2
        shown = Desk(stage).plans("cut")
        stage.after("3m")
        assert Desk(stage).plans("cut").digest == shown.digest


def test_a_gate_that_closes_after_the_plan_is_refused_in_the_transaction() -> None:
    with playing(own(a_runbook())) as stage:
        risky(stage)
        desk = Desk(stage)
        shown = desk.plans("cut")
        stage.pauses("alice")
        with pytest.raises(Rejected, match="automation is paused by alice"):
            stage._submit(lambda d: lambda shelf: StartByHand(d.new_id(), shown, shelf, d.worker))
        assert stage.incidents() == []


def test_rules_that_were_reloaded_make_a_plan_void() -> None:
    with playing(own(a_runbook())) as stage:
        shown = Desk(stage).plans("cut")
        stage.reload(own(a_runbook(title="Another"))[0])
        with pytest.raises(Rejected, match="the rules were reloaded"):
            stage._submit(lambda d: lambda shelf: StartByHand(d.new_id(), shown, shelf, d.worker))


# --- brakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["pause:global", pause_name("runbook", "halt"), pause_name("service", "risk-api")])
def test_a_brake_by_a_person_passes_the_pause_that_holds_every_other_back(scope: str) -> None:
    with playing(own(HALT, unverified("A"))) as stage:
        stage.pauses("alice", "false alarms", scope)
        plan = Desk(stage).plans("halt")
        assert [verdict.gate for verdict in plan.warnings] == ["pause"]
        Desk(stage).starts("halt", "flash crash")
        assert stage.world.trading == "halted"
        assert any("who has seen: brake passes: " in line and "by alice: false alarms" in line for line in stage.thread)
        if scope != pause_name("runbook", "halt"):
            assert "paused by alice" in reasons(Desk(stage).plans("a"))


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize(("book", "passes"), [(HALT, True), ({**HALT, "brake": False}, False)])
def test_the_last_look_agrees_with_the_gate_whether_or_not_the_store_answers(
    monkeypatch: pytest.MonkeyPatch, book: dict[str, Any], passes: bool, answers: bool
) -> None:
    """The pause file is known without a store, and that a person confirmed the brake as well."""
    with playing(own(book)) as stage:
        stage.world.waits = 3.0
        Desk(stage).starts("halt", "flash crash")
        desk = stage._alive.desk
        desk.shelf = replace(desk.shelf, halted="automation is paused by the file /run/pause")
        with monkeypatch.context() as patched:
            if not answers:
                patched.setattr(stage.store, "scopes", _no_store)
            stage.after("10s")
        (attempt,) = stage.last_run.attempts
        assert (stage.world.trading == "halted", attempt.held_back) == (passes, not passes), attempt.detail


async def _no_store(_prefix: str) -> Any:
    raise StoreUnavailable("away")


def test_what_a_person_started_and_a_pause_held_back_for_a_minute_is_for_people() -> None:
    with playing(own({**HALT, "brake": False})) as stage:
        stage.world.waits = 3.0
        Desk(stage).starts("halt", "flash crash")
        stage.pauses("alice")
        stage.after("3m")
        assert (stage.world.trading, stage.last_run.result) == ("running", Result.FAILED)
        assert "held back for 1m" in stage.last_run.why


def test_a_pause_that_was_confirmed_wakes_nobody_when_it_helps() -> None:
    with playing(own(a_runbook(brake=True))) as stage:
        risky(stage)
        stage.pauses("alice")
        Desk(stage).starts("cut")
        stage.after("5m")
        assert (stage.last_run.result, by_hand(stage).closed, stage.pages) == (Result.FIXED, True, [])


def test_what_was_confirmed_pages_nobody_and_the_end_does() -> None:
    with playing(own({**HALT, "limits": {"cooldown": "1h"}})) as stage:
        Desk(stage).starts("halt")
        stage.after("1m")
        pages = len(stage.pages)
        stage.person("ack", "otto")
        stage.after("1m")
        stage.world.trading = "running"
        Desk(stage).starts("halt")
        confirmed = [run.confirmed for incident in stage.incidents() for run in incident.runs]
        assert confirmed == [(), ("cooldown",)]
        assert not any("brake passes: cooldown" in text for text in stage.page_texts[pages:])


def test_a_brake_that_no_person_started_is_held_by_the_pause() -> None:
    with playing(own({**HALT, "match": "Crash"})) as stage:
        stage.pauses("alice")
        stage.fires(alert("Crash"))
        stage.after("5m")
        assert stage.did == []


def test_one_step_that_is_no_brake_makes_the_whole_wait() -> None:
    book = {**HALT, "steps": [*HALT["steps"], call_step("resume", "/api/router/resume", brake=False)]}
    with playing(own(book)) as stage:
        stage.pauses("alice")
        plan = Desk(stage).plans("halt")
        assert not plan.brake
        assert [verdict.gate for verdict in plan.refused] == ["pause"]


def test_a_brake_by_a_person_passes_the_lock_of_an_unknown() -> None:
    with playing(own(unverified("A", target="trading"), {**HALT, "limits": {"cooldown": "1h"}})) as stage:
        stage.world.lost = "not applied"
        stage.fires(alert("A"))
        stage.after("1m")
        assert stage.last_run.result is Result.UNKNOWN
        stage.world.lost = ""
        plan = Desk(stage).plans("halt")
        assert "may or may not have changed it" in plan.warnings[0].reason
        Desk(stage).starts("halt")
        assert stage.world.trading == "halted"


def test_no_confirmation_passes_a_ceiling_of_observe() -> None:
    with playing(own(HALT, mode="observe")) as stage:
        assert [verdict.gate for verdict in Desk(stage).plans("halt").refused] == ["mode"]


# --- approvals --------------------------------------------------------------------------------------------------------


def test_whoever_started_it_cannot_approve_it() -> None:
    with playing(own(a_runbook(steps=[cut_step(approval="risk-manager")]))) as stage:
        risky(stage)
        plan = Desk(stage).plans("cut")
        assert plan.approvals["cut"].role == "risk-manager"
        Desk(stage).starts("cut")
        assert stage.last_run.steps[0].status is StepStatus.APPROVAL
        with pytest.raises(Rejected, match="otto started this run, so somebody else with the role risk-manager"):
            stage.approves("otto")
        assert stage.did == []
        stage.approves("anna")
        stage.after("1s")
        assert stage.world.kelly == 0.1


def test_mode_approve_asks_for_a_run_by_hand_too() -> None:
    with playing(own({**HALT, "mode": "approve"})) as stage:
        assert list(Desk(stage).plans("halt").approvals) == ["halt"]
        Desk(stage).starts("halt")
        assert stage.did == []
        stage.person("deny", "otto")
        stage.after("1s")
        assert stage.last_run.result is Result.CANCELLED


# --- people meanwhile -------------------------------------------------------------------------------------------------


def test_a_run_that_is_held_back_for_a_minute_is_for_people() -> None:
    book = unverified("A", steps=[{"id": "look", "manual": "Look"}, call_step()])
    with playing(own(book)) as stage:
        Desk(stage).starts("a")
        stage.after("10m")
        assert stage.last_run.active, "a person may take their time"
        assert stage.pages == []
        stage.pauses("alice")
        stage.person("done", "otto")
        stage.after("10m")
        assert stage.last_run.active, "what a person has begun waits"
    reads_first = [{"id": "drain", "action": "wait", "with": {"for": "30s"}, "timeout": "40s"}, call_step()]
    with playing(own(unverified("A", steps=reads_first))) as stage:
        Desk(stage).starts("a")
        stage.pauses("alice")
        stage.at("1:10")
        assert (stage.last_run.result, stage.last_run.why) == (
            Result.FAILED,
            "held back for 1m5s: people decide now",
        )
        stage.resumes("alice")
        stage.after("1m")
        assert (stage.did, [who for _, who in stage.pages]) == ([], ["first"])


def test_the_run_of_whoever_took_over_goes_on_and_a_later_take_over_stops_it() -> None:
    steps = [{"id": "look", "manual": "Look"}, call_step("a", "/api/a")]
    with playing(own(unverified("A", steps=steps))) as stage:
        Desk(stage).starts("a")
        stage.person("takeover", "anna")
        stage.after("1s")
        assert (stage.last_run.active, stage.did) == (False, [])
        Desk(stage, "anna").starts("a")
        stage.person("done", "anna")
        stage.after("1s")
        assert stage.world.done == ["/api/a"]


def test_a_reading_runbook_by_hand_closes_by_itself() -> None:
    look = {"id": "look", "action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}}
    with playing(own(unverified("A", steps=[look], checks=None))) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        plan = Desk(stage).plans("a")
        assert [one.doing for one in plan.steps] == [Doing.READ]
        Desk(stage).starts("a")
        assert (stage.last_run.result, by_hand(stage).closed, stage.pages) == (Result.OBSERVED, True, [])


def test_verdicts_are_allow_where_a_run_goes_ahead() -> None:
    with playing(own(a_runbook())) as stage:
        risky(stage)
        assert {one.verdict.answer for one in Desk(stage).plans("cut").judged} == {Answer.ALLOW}
