"""What runbooks say beside steps and limits: whom they yield to, their hours, what is finished, undone, scheduled."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from responder.errors import BadRules
from responder.loader import broken_runbooks, load_rules
from responder.recorded import Cause, Result
from responder.timing import HOUR
from tests.acceptance.language_parts import HARM, OTHER, RISKS, UNDO, armed, around, before_open, harming, sequence
from tests.acceptance.stage import CATALOGUE, RISK, alert, halting, own, playing, risky, unverified
from tests.builders import a_runbook, call_step

# --- yields_to --------------------------------------------------------------------------------------------------------


def cause_and_symptom() -> Any:
    cause = unverified("Cause", target="database")
    symptom = unverified("Symptom", target="orders", yields_to="cause")
    return own(cause, symptom)


def test_a_symptom_waits_while_its_cause_is_open() -> None:
    with playing(cause_and_symptom()) as stage:
        stage.fires(alert("Cause"))
        stage.after("1s")
        stage.fires(alert("Symptom"))
        stage.at("5:00")
        assert [path for _, path in stage.did] == ["/api/cause"]
        waiting = stage.events(stage.incidents()[1])
        reasons = [v.reason for e in waiting for v in getattr(e.fact, "verdicts", ()) if v.gate == "yields_to"]
        assert reasons == [f"yields to cause: incident {stage.incidents()[0].id} is open"]


def test_when_the_cause_is_gone_and_the_symptom_is_not_it_runs() -> None:
    with playing(cause_and_symptom()) as stage:
        stage.fires(alert("Cause"))
        stage.fires(alert("Symptom"))
        stage.at("5:00")
        stage.resolves(alert("Cause"))
        stage.after("1m")
        assert [path for _, path in stage.did] == ["/api/cause", "/api/symptom"]
        assert stage.scope("open:cause") is None


def test_people_are_paged_about_a_symptom_that_waits() -> None:
    with playing(cause_and_symptom()) as stage:
        stage.fires(alert("Cause"))
        stage.fires(alert("Symptom"))
        stage.at("2:00")
        assert ("2:00", "first") in stage.pages


# --- calendar ---------------------------------------------------------------------------------------------------------


def hours(stage_calendar: dict[str, Any], **hours: Any) -> Any:
    return own(a_runbook(steps=[call_step()], calendar=hours), calendars={"session": stage_calendar})


def test_inside_its_hours_it_acts_and_says_until_when() -> None:
    with playing(hours(around(-1, 2), within="session")) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        assert len(stage.did) == 1
        verdict = next(v for v in stage.last_run.verdicts if v.gate == "calendar")
        assert "session is open until" in verdict.reason


def test_outside_its_hours_it_refuses_and_pages() -> None:
    with playing(hours(around(2, 4), within="session")) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        assert stage.did == []
        assert stage.pages == [("0:00", "first")]
        assert "session is closed until" in str(stage.incident.urgent)


def test_it_may_wait_for_its_hours() -> None:
    with playing(hours(around(2, 4), within="session", otherwise="wait")) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:30:00")
        assert stage.did == []
        stage.at("2:01:00")
        assert len(stage.did) == 1


def test_a_freeze_holds_it_back_and_a_brake_passes() -> None:
    with playing(hours(around(-1, 2), outside="session")) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        assert stage.did == []
    rules = own(
        a_runbook(steps=[call_step()], calendar={"outside": "session"}, brake=True),
        calendars={"session": around(-1, 2)},
    )
    with playing(rules) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        assert len(stage.did) == 1
        assert "brake passes: session is open" in str(stage.incident.urgent)


# --- finish_once_started ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("finishes", "did"), [(True, ["/api/stop", "/api/start"]), (False, ["/api/stop"])])
def test_a_sequence_is_finished_though_the_alert_resolved(finishes: bool, did: list[str]) -> None:
    with playing(own(sequence(finish_once_started=finishes))) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        stage.at("0:10")
        stage.resolves(RISK)
        stage.at("2:00")
        assert [path for _, path in stage.did] == did


def test_what_has_not_begun_is_not_begun_for_a_resolved_alert() -> None:
    with playing(own(sequence(finish_once_started=True))) as stage:
        risky(stage, helps=False)
        stage.pauses()
        stage.fires(RISK)
        stage.at("0:10")
        stage.resolves(RISK)
        stage.resumes()
        stage.at("2:00")
        assert stage.did == []


def test_a_take_over_ends_it_all_the_same() -> None:
    with playing(own(sequence(finish_once_started=True))) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        stage.at("0:10")
        stage.person("takeover")
        stage.at("2:00")
        assert [path for _, path in stage.did] == ["/api/stop"]


@pytest.mark.parametrize(("finishes", "at"), [(True, "/api/start"), (False, "/api/stop-trading")])
def test_a_machine_lets_a_sequence_be_finished(finishes: bool, at: str) -> None:
    first, halt = halting("20s")
    first = {**sequence(finish_once_started=finishes), "unless_fixed": first["unless_fixed"]}
    with playing(own(first, halt)) as stage:
        risky(stage, helps=False)
        stage.world.numbers["h"] = lambda: 0.0
        stage.fires(RISK)
        stage.at("1:00")
        assert stage.did[1][1] == at
        assert "/api/stop-trading" in [path for _, path in stage.did]


# --- harmful and undo -------------------------------------------------------------------------------------------------


def test_harm_is_undone_at_once_and_people_are_told() -> None:
    with playing(own(a_runbook(steps=[call_step(undo=UNDO)], verify=HARM))) as stage:
        harming(stage)
        stage.fires(RISK)
        stage.at("0:30")
        assert stage.world.done == ["/api/orders", "/api/resume"]
        runs = stage.incident.runs
        assert [(r.cause, r.result) for r in runs] == [(Cause.ALERT, Result.HARMFUL), (Cause.UNDO, Result.FIXED)]
        assert stage.incident.result is Result.HARMFUL
        assert stage.pages == [("0:00", "first")]
        assert str(stage.incident.urgent).startswith("harmful: ")
        assert any("made things worse" in line for line in stage.thread)
        stage.at("5:00")
        assert stage.world.done == ["/api/orders", "/api/resume"]


def test_the_latest_change_is_undone_first() -> None:
    second = {**UNDO, "with": {**UNDO["with"], "path": "/api/resume-second"}}  # type: ignore[dict-item]
    steps = [call_step("first", "/api/first", undo=UNDO), call_step("second", "/api/orders", undo=second)]
    with playing(own(a_runbook(steps=steps, verify=HARM))) as stage:
        stage.world.numbers["risk"] = lambda: 3.0 if stage.world.changes else 2.0
        stage.fires(RISK)
        stage.at("0:30")
        assert stage.world.done == ["/api/first", "/api/orders", "/api/resume-second", "/api/resume"]


def test_what_needs_an_approval_is_put_back_by_a_person() -> None:
    approved = {**UNDO, "approval": "risk-manager"}
    with playing(own(a_runbook(steps=[call_step(undo=approved)], verify=HARM))) as stage:
        harming(stage)
        stage.fires(RISK)
        stage.at("1:00")
        assert stage.world.done == ["/api/orders"]
        assert stage.scope("in_force:risk-api/kelly_fraction") is not None
        stage.person("restore", "carol")
        stage.at("2:00")
        assert stage.world.done == ["/api/orders", "/api/resume"]
        assert stage.scope("in_force:risk-api/kelly_fraction") is None


def test_a_lost_undo_is_unknown_and_not_tried_twice() -> None:
    with playing(own(a_runbook(steps=[call_step(undo=UNDO)], verify=HARM))) as stage:

        def lose() -> float:
            stage.world.lost = "applied"
            return 3.0

        stage.world.numbers["risk"] = lambda: lose() if stage.world.done == ["/api/orders"] else 2.0
        stage.fires(RISK)
        stage.at("5:00")
        assert stage.world.done == ["/api/orders", "/api/resume"]
        assert stage.last_run.result is Result.UNKNOWN
        assert stage.scope("lock:risk-api/kelly_fraction") is not None


def test_without_the_value_before_nothing_is_called_harm() -> None:
    with playing(own(a_runbook(steps=[call_step(undo=UNDO)], verify=HARM))) as stage:
        stage.world.numbers["risk"] = lambda: 3.0 if stage.world.changes else None
        stage.fires(RISK)
        stage.at("3:00")
        assert stage.world.done == ["/api/orders"]
        assert stage.last_run.result is Result.INEFFECTIVE


def test_a_take_over_leaves_the_harm_to_the_person() -> None:
    with playing(own(a_runbook(steps=[call_step(undo=UNDO)], verify={**HARM, "settle": "10s"}))) as stage:
        harming(stage)
        stage.fires(RISK)
        stage.at("0:05")
        stage.person("takeover")
        stage.at("1:00")
        assert stage.world.done == ["/api/orders"]


# --- started by others ------------------------------------------------------------------------------------------------


def test_what_is_started_gets_the_inputs_of_its_starter() -> None:
    symbol = {"symbol": {"label": "symbol", "one_of": ["BTC-USD", "ETH-USD"]}}
    stop = a_runbook(runbook="stop", match=None, target="symbol:{{ symbol }}", checks=None, verify=None,
                     inputs={"symbol": {"one_of": ["BTC-USD", "ETH-USD"]}},
                     steps=[call_step("stop", "/api/stop/{{ symbol }}")])  # fmt: skip
    first = a_runbook(steps=[call_step()], target="limits:{{ symbol }}", inputs=symbol,
                      unless_fixed={"1m": {"run": "stop"}})  # fmt: skip
    with playing(own(first, stop)) as stage:
        risky(stage, helps=False)
        stage.fires({**RISK, "symbol": "ETH-USD"})
        stage.at("1:30")
        assert stage.world.done == ["/api/orders", "/api/stop/ETH-USD"]
        assert stage.last_run.target == "symbol:ETH-USD"


def test_a_value_that_is_none_of_those_named_runs_nothing() -> None:
    symbol = {"symbol": {"label": "symbol", "one_of": ["BTC-USD"]}}
    with playing(own(a_runbook(steps=[call_step()], target="limits:{{ symbol }}", inputs=symbol))) as stage:
        stage.fires({**RISK, "symbol": "DOGE-USD"})
        stage.at("1:00")
        assert stage.did == []
        assert stage.incident.problems == ("label symbol='DOGE-USD' is not one of BTC-USD",)


# --- checks within steps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("other", "did"), [(5.0, 1), (1.0, 0), (None, 0)])
def test_a_check_that_only_a_step_names_is_read_for_it(other: float | None, did: int) -> None:
    with playing(own(a_runbook(steps=[call_step(when="checks.other > 3")], checks={**RISKS, **OTHER}))) as stage:
        risky(stage)
        stage.world.numbers["other"] = lambda: other
        stage.fires(RISK)
        stage.at("1:00")
        assert len(stage.did) == did


def test_the_answer_of_a_check_may_stand_in_a_request() -> None:
    step = call_step(more={"json": {"was": "{{ checks.other }}"}})
    with playing(own(a_runbook(steps=[step], checks={**RISKS, **OTHER}))) as stage:
        risky(stage)
        stage.world.numbers["other"] = lambda: 5.0
        stage.fires(RISK)
        stage.at("1:00")
        assert [body for _, _, body in stage.world.changes] == [{"was": 5.0}]


# --- schedules --------------------------------------------------------------------------------------------------------


def test_a_schedule_reads_tells_and_wakes_nobody_when_all_is_well() -> None:
    with playing(before_open(expect="value < 3")) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        stage.advance(armed(stage))
        stage.after("10m")
        assert stage.incident.closed
        assert stage.incident.result is Result.OBSERVED
        assert [r.cause for r in stage.incident.runs] == [Cause.SCHEDULE]
        assert stage.pages == []
        stage.after("1h")
        assert len(stage.incidents()) == 2


def test_a_check_that_fails_pages_and_stays_open_until_it_is_seen() -> None:
    with playing(before_open(expect="value < 1")) as stage:
        stage.world.numbers["risk"] = lambda: 2.0
        stage.advance(armed(stage))
        stage.after("1m")
        assert stage.last_run.result is Result.FAILED
        assert [who for _, who in stage.pages] == ["first"]
        stage.person("ack", "alice")
        assert stage.incident.closed


def test_what_came_due_while_nobody_ran_runs_once_and_says_that_it_is_late() -> None:
    with playing(before_open()) as stage:
        due = armed(stage)
        stage.restart(down=due + 3 * HOUR)
        stage.after("1m")
        (incident,) = stage.incidents()
        said = [e.fact for e in stage.events(incident) if e.fact.kind == "schedule_due"]
        assert [fact.late > 2 * HOUR for fact in said] == [True]


def test_a_schedule_that_the_rules_lost_starts_nothing() -> None:
    with playing(before_open()) as stage:
        due = armed(stage)
        stage.reload(own(a_runbook())[0])
        stage.advance(due)
        stage.after("2h")
        assert stage.incidents() == []


# --- broken files -----------------------------------------------------------------------------------------------------


def broken(text: str, config: Any) -> Any:
    with pytest.raises(BadRules) as refused:
        load_rules({"policies.yaml": json.dumps({"default": "x", "policies": {"x": {}}}), "cut.yaml": text}, CATALOGUE,
                   config)  # fmt: skip
    return broken_runbooks(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "runbook: cut\nmatch: TooMuchRisk\nsteps: [",
        "runbook: cut\nmatch: TooMuchRisk\ntitle: T\ntarget: t\nstpes: []\n",
        "runbook: other\nmatch: [TooMuchRisk, 'env=\"prod\"']\ntitle: T\ntarget: t\nmode: autp\n",
    ],
)
def test_the_alerts_of_a_broken_runbook_page_though_the_last_good_one_answers(text: str) -> None:
    rules, config = own(a_runbook(steps=[call_step()]))
    with playing((rules, config)) as stage:
        risky(stage)
        desk = stage._alive.desk
        desk.shelf = replace(desk.shelf, broken=broken(text, config))
        stage.fires(RISK)
        stage.at("1:00")
        assert len(stage.did) == 1
        assert stage.pages == [("0:00", "first")]
        assert "could not be loaded, the last good cut answers: cut.yaml:" in stage.incident.problems[0]


def test_the_alerts_of_a_new_broken_runbook_page_whatever_their_severity() -> None:
    rules, config = own(a_runbook(steps=[call_step()]))
    with playing((rules, config)) as stage:
        desk = stage._alive.desk
        desk.shelf = replace(desk.shelf, broken=broken("runbook: new\nmatch: Feed\n", config))
        stage.fires(alert("Feed") | {"severity": "info"})
        assert stage.pages == [("0:00", "first")]
        assert "runbook new could not be loaded, none answers" in " ".join(stage.incident.problems)
