"""Sequences that a reviewer found: each once led to a change too many, to silence, or to a lost alert."""

from __future__ import annotations

import json
from typing import Any

import pytest

from responder.automation import UNBOUNDED
from responder.errors import BadRules
from responder.loader import load_rules
from responder.recorded import Cause, Result
from responder.scopes import InForce
from responder.timing import SECOND
from tests.acceptance.language_parts import HARM, OTHER, RISKS, UNDO, around, harming, sequence
from tests.acceptance.stage import CATALOGUE, RISK, Stage, alert, halting, own, playing, risky, unverified
from tests.builders import a_runbook, call_step, cut_step

APPROVED = {**UNDO, "approval": "risk-manager"}
KELLY = "in_force:risk-api/kelly_fraction"


def undone(undo: Any, **parts: Any) -> Any:
    return own(a_runbook(steps=[call_step(undo=undo)], verify=HARM, **parts))


# --- checks in steps --------------------------------------------------------------------------------------------------


def test_text_that_only_looks_like_a_check_asks_for_none() -> None:
    bad = a_runbook(steps=[call_step(path="/api/checks.json", more={"json": {"about": "checks.other"}})])
    with playing(own(bad, unverified("Other", target="other"))) as stage:
        risky(stage)
        stage.tells((RISK, True), (alert("Other"), True))
        stage.at("1:00")
        assert sorted(stage.world.done) == ["/api/checks.json", "/api/other"]


def test_a_check_that_a_late_step_names_is_read_again() -> None:
    waits = [{"id": f"w{n}", "action": "wait", "with": {"for": "20s"}, "timeout": "1m"} for n in range(5)]
    steps = [call_step("one", "/api/one", when="checks.other > 3"), *waits,
             call_step("two", "/api/two", when="checks.other > 3")]  # fmt: skip
    with playing(own(a_runbook(steps=steps, checks={**RISKS, **OTHER}))) as stage:
        risky(stage, helps=False)
        stage.world.numbers["other"] = lambda: 5.0 if stage.offset < 5 * SECOND else 1.0
        stage.fires(RISK)
        stage.at("4:00")
        assert stage.world.done == ["/api/one"]


def test_an_old_sample_of_a_check_counts_for_no_step() -> None:
    other = {"action": "prometheus.query", "with": {"service": "metrics", "query": "other", "freshness": "other"}}
    steps = [call_step(when="checks.other > 3")]
    with playing(own(a_runbook(steps=steps, checks={**RISKS, "other": {**other, "max_age": "30s"}}))) as stage:
        risky(stage)
        stage.world.numbers["other"] = lambda: 5.0
        stage.world.sample_age = 60 * SECOND
        stage.fires(RISK)
        stage.at("1:00")
        assert stage.did == []


def two_on_one_target(**second: Any) -> Any:
    """The second queues on the lock of the first, which verifies for three minutes."""
    checks = {**RISKS, **OTHER}
    slow = {"check": "risk", "expect": "value < 1", "within": "3m", "settle": "2m"}
    first = [call_step("first", "/api/first", when="checks.other > 3")]
    one = a_runbook(runbook="first", match="A", steps=first, checks=checks, verify=slow)
    step = call_step("second", "/api/second", when="checks.other > 3", **second.pop("step", {}))
    return own(one, a_runbook(**{"runbook": "second", "match": "B", "steps": [step], "checks": checks, **second}))


def queue(stage: Stage) -> None:
    stage.world.numbers["other"] = lambda: 5.0
    stage.tells((alert("A"), True), (alert("B"), True))
    stage.at("6:00")


def test_what_waited_for_a_lock_judges_no_old_evidence_and_no_old_plan() -> None:
    rules = two_on_one_target(only_if={"check": "risk", "expect": "value > 1"}, verify=None)
    with playing(rules) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        queue(stage)
        assert "/api/second" in stage.world.done
        second = next(i for i in stage.incidents() if i.runbook == "second")
        (attempt,) = second.runs[0].attempts
        assert attempt.intended_at - attempt.plan.prepared_at <= 30 * SECOND


def test_harm_is_measured_from_right_before_the_own_change() -> None:
    with playing(two_on_one_target(step={"undo": UNDO}, verify=HARM)) as stage:
        stage.world.numbers["risk"] = lambda: 5.0 if stage.world.done else 2.0
        queue(stage)
        assert stage.world.done == ["/api/first", "/api/second"]


def test_harm_is_measured_from_before_a_persons_step() -> None:
    steps = [{"id": "by_hand", "manual": "raise it"}, call_step()]
    with playing(own(a_runbook(steps=steps, verify=HARM))) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        stage.fires(RISK)
        stage.at("0:30")
        stage.world.numbers["risk"] = lambda: 5.0
        stage.person("done", "bob")
        stage.at("5:00")
        assert stage.last_run.result is Result.HARMFUL


# --- undo -------------------------------------------------------------------------------------------------------------


def test_what_a_brake_did_is_never_undone_by_itself() -> None:
    step = cut_step(restore={"approval": "risk-manager"}, undo={})
    with playing(own(a_runbook(brake=True, steps=[step], verify=HARM))) as stage:
        stage.world.numbers["risk"] = lambda: 3.0 if stage.world.kelly < 0.2 else 2.0
        stage.fires(RISK)
        stage.at("5:00")
        assert stage.world.kelly == 0.1
        stage.person("restore", "carol")
        assert stage.world.kelly == 0.25


def test_an_undo_keeps_to_the_total_of_a_parameter() -> None:
    lower = {"parameter": "risk-api/kelly_fraction", "to": 0.05, "reason": "x"}
    with playing(undone({"action": "parameter.reduce", "approval": "risk-manager", "with": lower})) as stage:
        stage.world.kelly = 0.9
        harming(stage)
        stage.fires(RISK)
        stage.at("1:00")
        stage.person("restore", "carol")
        stage.at("2:00")
        assert stage.world.kelly == 0.9


@pytest.mark.parametrize(
    ("said", "sent"),
    [("{{ steps.call.status }}", "done"), ("{{ steps.first.output }}", 2.0), ("{{ checks.other }}", 5.0)],
)
def test_an_undo_speaks_of_the_run_that_did_the_harm(said: str, sent: Any) -> None:
    undo = {"action": "http.request", "with": {**UNDO["with"], "json": {"was": said}}}  # type: ignore[dict-item]
    first = {"id": "first", "action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}}
    steps = [first, call_step(undo=undo)]
    with playing(own(a_runbook(steps=steps, verify=HARM, checks={**RISKS, **OTHER}))) as stage:
        harming(stage)
        stage.world.numbers["other"] = lambda: 5.0
        stage.fires(RISK)
        stage.at("0:30")
        assert [body for _, path, body in stage.world.changes if path == "/api/resume"] == [{"was": sent}]


def test_an_undo_that_had_to_wait_is_left_to_people() -> None:
    rules = own(a_runbook(steps=[call_step(undo=UNDO)], verify={**HARM, "settle": "10s"}))
    with playing(rules) as stage:
        harming(stage)
        stage.fires(RISK)
        stage.at("0:05")
        stage.pauses()
        stage.at("1:00")
        stage.world.numbers["risk"] = lambda: 0.5
        stage.resolves(RISK)
        stage.at("6:00:00")
        stage.resumes()
        stage.at("6:01:00")
        assert stage.world.done == ["/api/orders"]
        assert stage.last_run.result is Result.FAILED
        assert "people decide" in stage.last_run.why


def test_an_undo_that_the_ceiling_forbids_is_told_and_not_done_when_it_rises() -> None:
    parts = {"steps": [call_step(undo=UNDO)], "verify": {**HARM, "settle": "10s"}}
    rules, low = own(a_runbook(**parts)), own(a_runbook(**parts), mode="observe")
    with playing(rules) as stage:
        harming(stage)
        stage.fires(RISK)
        stage.at("0:05")
        stage.reload(low[0])
        stage.at("5:00:00")
        assert any("did harm and is not undone: mode observe" in problem for problem in stage.incident.problems)
        stage.reload(rules[0])
        stage.at("5:02:00")
        assert stage.world.done == ["/api/orders"]
        stage.at("6:00:00")
        assert len([problem for problem in stage.incident.problems if "more than 5m ago" in problem]) == 1


def test_settling_hours_later_starts_no_undo() -> None:
    with playing(undone(UNDO)) as stage:
        harming(stage)
        stage.world.lost = "applied"
        stage.fires(RISK)
        stage.at("0:05")
        stage.world.lost = ""
        stage.at("3:00:00")
        stage.person("settle", "carol", "seen", applied=True)
        stage.at("3:01:00")
        assert "/api/resume" not in stage.world.done


def test_a_settled_step_is_no_open_question_any_more() -> None:
    with playing(own(a_runbook(steps=[call_step()]))) as stage:
        risky(stage, helps=False)
        stage.world.lost = "applied"
        stage.fires(RISK)
        stage.at("0:30")
        stage.person("settle", "carol", "seen", applied=True)
        stage.world.numbers["risk"] = lambda: 0.5
        stage.at("1:00")
        assert stage.last_run.result is Result.FIXED
        assert "still to be settled" not in stage.last_run.why


def test_what_did_harm_is_not_done_again_for_a_newcomer() -> None:
    with playing(undone(UNDO)) as stage:
        harming(stage)
        stage.fires(RISK)
        for number in range(4):
            stage.after("1m")
            stage.fires({**RISK, "symbol": f"S{number}"})
        stage.after("1m")
        assert stage.world.done == ["/api/orders", "/api/resume"]


def test_a_lost_restore_that_is_settled_is_not_done_twice() -> None:
    with playing(undone(APPROVED)) as stage:
        harming(stage)
        stage.fires(RISK)
        stage.at("1:00")
        stage.world.lost = "applied"
        stage.person("restore", "carol")
        stage.at("2:00")
        stage.world.lost = ""
        stage.person("settle", "carol", "seen", applied=True)
        assert stage.scope(KELLY) is None


def test_a_restore_that_finds_it_done_ends_it() -> None:
    probe = {"probe": {"path": "/api/status", "expect": "status == 200"}}
    with playing(undone({**APPROVED, "with": {**UNDO["with"], **probe}})) as stage:  # type: ignore[dict-item]
        harming(stage)
        stage.fires(RISK)
        stage.at("1:00")
        assert stage.scope(KELLY) is not None
        stage.person("restore", "carol")
        stage.at("2:00")
        assert stage.scope(KELLY) is None


def test_what_went_well_is_not_to_be_put_back() -> None:
    with playing(undone(APPROVED)) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("3:00")
        assert stage.last_run.result is Result.FIXED
        assert stage.scope(KELLY) is None


def test_changes_in_force_do_not_pile_up_without_end() -> None:
    step = call_step(restore={"approval": "risk-manager"})
    rules, config = own(a_runbook(steps=[step], verify=None))
    with playing((rules, config.model_copy(update={"automation": UNBOUNDED}))) as stage:
        for _ in range(25):
            stage.fires(RISK)
            stage.after("1m")
            stage.resolves(RISK)
            stage.after("1m")
        body = InForce.model_validate(stage.scope(KELLY))
        assert body.depth == 20
        assert body.incident == stage.incidents()[-1].id


def test_a_machine_does_not_drop_an_undo() -> None:
    first, halt = halting("1m")
    parts = {"steps": [call_step(undo=UNDO)], "verify": {**HARM, "settle": "50s"}}
    with playing(own({**a_runbook(**parts), "unless_fixed": first["unless_fixed"]}, halt)) as stage:
        harming(stage)
        stage.world.numbers["h"] = lambda: 0.0
        stage.fires(RISK)
        stage.at("0:49")
        stage.pauses()
        stage.at("1:20")
        stage.resumes()
        stage.at("3:00")
        assert stage.world.done == ["/api/orders", "/api/resume", "/api/stop-trading"]


# --- started by others, and waiting -----------------------------------------------------------------------------------


def test_what_is_started_has_types_of_its_own() -> None:
    symbol = {"symbol": {"label": "symbol", "pattern": "[A-Z-]+"}}
    stop = a_runbook(runbook="stop", match=None, target="symbol:{{ symbol }}", checks=None, verify=None,
                     inputs={"symbol": {"one_of": ["BTC-USD"]}},
                     steps=[call_step("stop", "/api/stop/{{ symbol }}")])  # fmt: skip
    first = a_runbook(steps=[call_step()], target="limits:{{ symbol }}", inputs=symbol,
                      unless_fixed={"1m": {"run": "stop"}})  # fmt: skip
    with playing(own(first, stop)) as stage:
        risky(stage, helps=False)
        stage.fires({**RISK, "symbol": "EVIL-USD"})
        stage.at("2:30")
        assert stage.world.done == ["/api/orders"]
        held = [e.fact.held for e in stage.events(stage.incident) if e.fact.kind == "machine_fired"]
        assert "input symbol='EVIL-USD' is not one of BTC-USD" in str(held)


def test_what_a_machine_starts_does_not_wait_for_the_incident_that_called_for_it() -> None:
    first, halt = halting("20s")
    with playing(own(first, {**halt, "yields_to": "cut"})) as stage:
        risky(stage, helps=False)
        stage.world.numbers["h"] = lambda: 0.0
        stage.fires(RISK)
        stage.at("5:00")
        assert "/api/stop-trading" in stage.world.done


def test_a_sequence_under_way_yields_to_nobody() -> None:
    cause = unverified("Cause", target="database")
    with playing(own(cause, sequence(finish_once_started=True, yields_to="cause"))) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        stage.at("0:10")
        stage.fires(alert("Cause"))
        stage.at("1:00")
        assert "/api/start" in stage.world.done


def test_a_sequence_begun_by_hand_is_finished_after_hours() -> None:
    steps = [{"id": "stop", "manual": "stop it"}, {"id": "look", "manual": "look"}, call_step("start", "/api/start")]
    parts = {"steps": steps, "finish_once_started": True, "calendar": {"within": "session"}}
    with playing(own(a_runbook(**parts), calendars={"session": around(-1, 1)})) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        stage.at("1:00")
        stage.person("done", "bob")
        stage.at("1:10:00")
        stage.person("done", "bob")
        stage.at("1:12:00")
        assert stage.world.done == ["/api/start"]


LOOK = {"id": "look", "manual": "look at the feeds"}


# --- loading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text"), [("calendars", "calendars: {session: ["), ("policies", "policies: {l: [")])
def test_what_an_unreadable_file_held_is_not_called_unknown(name: str, text: str) -> None:
    _, config = own(a_runbook())
    texts = {"policies.yaml": json.dumps({"default": "ladder", "policies": {"ladder": {}}})}
    texts |= {"calendars.yaml": json.dumps({"calendars": {"session": around(-1, 1)}})}
    texts |= {"cut.yaml": json.dumps(a_runbook(calendar="session")), f"{name}.yaml": text}
    with pytest.raises(BadRules) as refused:
        load_rules(texts, CATALOGUE, config)
    assert "unknown" not in str(refused.value)


def test_a_kept_set_may_say_what_is_refused_by_now() -> None:
    _, config = own(a_runbook())
    texts = {"policies.yaml": json.dumps({"default": "ladder", "policies": {"ladder": {}}})}
    texts["cut.yaml"] = json.dumps(a_runbook(target="metrics", escalation=None))
    with pytest.raises(BadRules, match="which this runbook heals"):
        load_rules(texts, CATALOGUE, config)
    assert set(load_rules(texts, CATALOGUE, config, kept=True).rules.runbooks) == {"cut"}


@pytest.mark.parametrize("wrong", [{"match": {"alertname": "A"}}, {"evidence": {"title": {"a": 1}}}, {"match": 5}])
def test_pairs_where_defaults_hold_a_list_are_a_mistake_like_others(wrong: Any) -> None:
    _, config = own(a_runbook())
    texts = {"policies.yaml": json.dumps({"default": "ladder", "policies": {"ladder": {}}})}
    evidence = {"action": "prometheus.query", "with": {"service": "metrics", "query": "x"}}
    texts["f/_defaults.yaml"] = json.dumps({"match": ['env="prod"'], "evidence": [evidence]})
    texts["f/cut.yaml"] = json.dumps({**a_runbook(), **wrong})
    with pytest.raises(BadRules, match="is needed here"):
        load_rules(texts, CATALOGUE, config)


def test_an_instruction_names_what_it_is_about() -> None:
    step = {"id": "look", "manual": "Look at {{ symbol }}: {{ checks.other }} errors"}
    symbol = {"symbol": {"label": "symbol", "pattern": ".+"}}
    rules = own(a_runbook(steps=[step], target="orders:{{ symbol }}", inputs=symbol, checks={**RISKS, **OTHER}))
    with playing(rules) as stage:
        stage.world.numbers["other"] = lambda: 5.0
        stage.fires({**RISK, "symbol": "BTC-USD"})
        (asked,) = [e.fact for e in stage.events(stage.incident) if e.fact.kind == "manual_asked"]
        assert asked.instruction == "Look at BTC-USD: 5.0 errors"


def test_nothing_to_change_is_not_unverified() -> None:
    with playing(own(a_runbook(steps=[LOOK], verify=None))) as stage:
        stage.fires(RISK)
        stage.person("done", "bob")
        assert stage.last_run.result is Result.OBSERVED
        assert stage.pages == []
        assert [r.cause for r in stage.incident.runs] == [Cause.ALERT]
